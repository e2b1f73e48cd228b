"""What a workload asks for under one of its targets."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import NamedTuple
from weakref import WeakKeyDictionary, WeakValueDictionary, ref

from corral.api import WHOLE, Model, ReplicaGroup, Selection, Target, Topology, WorkloadTerms
from domain.pool.claimant import OfTerms
from domain.pool.fleet import NODE_LEVEL, Amount, Node
from domain.pool.workload import Waiting, open_from
from domain.quota.tree import QuotaTree

Labels = tuple[tuple[str, tuple[str, ...]], ...]
"""Levels or labels, each with the values of which a node has one."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What a group asks of its nodes beside room; empty ones ask for nothing.

    `nodes` names levels or labels with the values of which a node must have one, in order. `tolerations` are those of the
    workload and the group together, or none where all groups of the gang tolerate the same. `topology` replaces the gang's.
    `affinities` are wishes and exclude no node: what nodes with such domains or labels are worth, in millionths of a dollar.
    """

    skus: tuple[str, ...] = ()
    nodes: Labels = ()
    tolerations: tuple[str, ...] | None = None
    topology: Topology | None = None
    colocate: str | None = None
    affinities: tuple[tuple[Labels, int], ...] = ()

    @property
    def is_choosy(self) -> bool:
        """Whether some nodes that the gang may use are not for this group."""
        return bool(self.skus or self.nodes or self.tolerations is not None)

    def accept(self, node: Node) -> bool:
        """Whether the group may use the node."""
        return not self.is_choosy or (
            (not self.skus or node.sku in self.skus)
            and (self.tolerations is None or set(node.taints) <= set(self.tolerations))
            and self._selected(node, self.nodes)
        )

    def worth(self, node: Node) -> int:
        """What the group would pay for the node, in millionths of a dollar per accelerator and hour; below zero to avoid it."""
        return sum(worth for nodes, worth in self.affinities if self._selected(node, nodes))

    def _selected(self, node: Node, nodes: Labels) -> bool:
        return all(self._selects(node, name, values) for name, values in nodes)

    @staticmethod
    def _selects(node: Node, name: str, values: tuple[str, ...]) -> bool:
        named = (node.id,) if name == NODE_LEVEL else ()
        return any(value in values for key, value in (*node.topology, *node.labels) if key == name) or bool(
            set(named) & set(values)
        )


NO_TERMS = Terms()
DOLLAR = 1_000_000


@dataclass(frozen=True, slots=True)
class Shape:
    """One group of identical replicas: what each needs, the fewest that must start together, and the most wanted."""

    name: str
    milli: Amount
    cpu_milli: int
    memory_mib: int
    minimum: int
    count: int
    terms: Terms = NO_TERMS

    @property
    def devices(self) -> int:
        """Whole devices that one replica takes; 0 for a share of one, or for none."""
        return self.milli // WHOLE

    def sku_on(self, sku: str) -> str:
        """This SKU where the group takes it, or else the first that it names."""
        named = self.terms.skus
        return sku if not named or sku in named else named[0]


@dataclass(frozen=True, slots=True)
class Unit:
    """Groups that are placed together, in one domain where a topology is asked for."""

    shapes: tuple[Shape, ...]
    topology: Topology


def told_in_replicas(shapes: Iterable[Shape]) -> bool:
    """Whether room for these groups is told in replicas: thousandths do not tell it where one of them takes no accelerators."""
    return any(shape.count and not shape.milli for shape in shapes)


NO_TOPOLOGY = Topology()


@dataclass(frozen=True, slots=True)
class Gang:
    """What must start together, the topology that it must or should sit in, and the fewest replicas over all groups."""

    shapes: tuple[Shape, ...]
    topology: Topology
    fewest: int = 0
    _hash: int | None = field(default=None, init=False, compare=False, repr=False)

    def __hash__(self) -> int:
        if self._hash is None:
            object.__setattr__(self, "_hash", hash((self.shapes, self.topology, self.fewest)))
        return self._hash or 0

    @classmethod
    def of(cls, groups: Sequence[ReplicaGroup], topology: Topology, tolerations: Sequence[str] = (), fewest: int = 0) -> "Gang":
        """The gang of a workload's replica groups; `tolerations` are the workload's own, `fewest` is what it asks for.

        The last tasks of an array may be fewer than that.
        """
        differ = any(group.tolerations for group in groups)
        shapes = (
            Shape(
                group.name,
                group.milli,
                group.cpu_milli,
                group.memory_mib,
                group.fewest,
                group.count,
                terms_of(group, tuple(sorted({*tolerations, *group.tolerations})) if differ else None),
            )
            for group in groups
        )
        return cls(tuple(shapes), demanded(topology), min(fewest, sum(group.count for group in groups)))

    @property
    def minimum_milli(self) -> Amount:
        """Thousandths that its fewest replicas need at the very least."""
        gang = self.at_minimum() if self.fewest else self
        return sum((shape.count if self.fewest else shape.minimum) * shape.milli for shape in gang.shapes)

    @property
    def growing(self) -> tuple[Shape, ...]:
        """The groups in the order in which they grow: as given, or by size where the number of replicas counts."""
        return tuple(sorted(self.shapes, key=lambda shape: shape.milli)) if self.fewest else self.shapes

    @property
    def minimum_replicas(self) -> int:
        """The fewest replicas, over all groups."""
        return max(self.fewest, sum(shape.minimum for shape in self.shapes))

    @property
    def is_elastic(self) -> bool:
        """Whether more replicas are welcome than a group must have."""
        return any(shape.minimum < shape.count for shape in self.shapes)

    @property
    def is_single(self) -> bool:
        """Whether its minimum is one replica of whole devices, which must be free on one node."""
        return self.minimum_replicas == 1 and self.minimum_milli >= WHOLE

    @property
    def largest(self) -> Amount:
        """Thousandths that its largest replica needs."""
        return max(shape.milli for shape in self.shapes)

    @property
    def names_skus(self) -> bool:
        """Whether a group names SKUs of its own, so that the gang may sit on several."""
        return any(shape.terms.skus for shape in self.shapes)

    def units(self, *, each_alone: bool) -> tuple[Unit, ...]:
        """What is placed together, in the order in which the groups are given.

        A group with a topology of its own stands alone, or with the groups that it is colocated with: they share the
        topology of the largest. All others sit together in the gang's topology; where that asks for nothing and
        `each_alone`, each of them stands alone too.
        """
        stand_alone = each_alone and self.topology == NO_TOPOLOGY
        apart = {shape.terms.colocate for shape in self.shapes if stand_alone or shape.terms.topology is not None} - {None}
        members: dict[tuple[str, str], list[Shape]] = {}
        for shape in self.shapes:
            if shape.terms.colocate in apart:
                company = "colocated", shape.terms.colocate or ""
            else:
                company = ("gang", "") if shape.terms.topology is None and not stand_alone else ("alone", shape.name)
            members.setdefault(company, []).append(shape)
        return tuple(Unit(tuple(shapes), self._topology_of(shapes)) for shapes in members.values())

    def on(self, sku: str, first: str) -> "Gang":
        """The groups that get this SKU where groups that name none get `first`."""
        return replace(self, shapes=tuple(shape for shape in self.shapes if shape.sku_on(first) == sku))

    def part_with(self, group: str) -> "Gang":
        """The groups that are placed together with the named one; where none is named, all."""
        units = self.units(each_alone=False)
        unit = next((unit for unit in units if any(shape.name == group for shape in unit.shapes)), units[0])
        return Gang(unit.shapes, unit.topology) if group or len(units) == 1 else self

    def _topology_of(self, shapes: Sequence[Shape]) -> Topology:
        asked = [(shape.count, shape.terms.topology) for shape in shapes if shape.terms.topology is not None]
        return max(asked, key=lambda each: each[0])[1] if asked else self.topology

    def at_minimum(self) -> "Gang":
        """The same without the wish to grow beyond its fewest replicas."""
        if not self.is_elastic:
            return self
        more = self.fewest - sum(shape.minimum for shape in self.shapes)
        counts: dict[str, int] = {}
        for shape in self.growing:
            extra = max(0, min(more, shape.count - shape.minimum))
            more -= extra
            counts[shape.name] = shape.minimum + extra
        return self.sized(counts)

    def sized(self, counts: Mapping[str, int]) -> "Gang":
        """The same with these counts, by group."""
        return replace(self, shapes=tuple(replace(shape, count=counts[shape.name]) for shape in self.shapes))

    def within(self, quota: Mapping[str, Amount], sku: str) -> "Gang":
        """The same with no more replicas than these thousandths (by SKU) allow, on this SKU and those that groups name."""
        if not self.is_elastic:
            return self
        spare = {name: quota[name] - milli for name, milli in self.minimum_by_sku(sku).items()}
        counts: dict[str, int] = {}
        for shape in self.growing:
            extra, name = shape.count - shape.minimum, shape.sku_on(sku)
            if shape.milli:
                extra = max(0, min(extra, spare[name] // shape.milli))
            spare[name] -= extra * shape.milli
            counts[shape.name] = shape.minimum + extra
        return self.sized(counts)

    def minimum_by_sku(self, sku: str) -> dict[str, Amount]:
        """Thousandths of each SKU that the groups' own minimum needs, on this SKU and those that groups name."""
        amounts: dict[str, Amount] = {}
        for shape in self.shapes:
            name = shape.sku_on(sku)
            amounts[name] = amounts.get(name, 0) + shape.minimum * shape.milli
        return amounts

    def least_by_sku(self, sku: str) -> dict[str, Amount]:
        """Thousandths of each SKU without which the gang cannot start."""
        amounts = self.minimum_by_sku(sku)
        return amounts if len(amounts) > 1 else dict.fromkeys(amounts, self.minimum_milli)

    def pinned(self, skus: Mapping[str, str]) -> "Gang":
        """The same with one SKU for each group (by its name)."""
        return replace(
            self, shapes=tuple(replace(shape, terms=replace(shape.terms, skus=(skus[shape.name],))) for shape in self.shapes)
        )


def terms_of(group: ReplicaGroup, tolerations: tuple[str, ...] | None) -> Terms:
    """What a group asks of its nodes."""
    if not (group.skus or group.nodes or group.topology or group.colocate or group.affinities or tolerations is not None):
        return NO_TERMS
    topology = None if group.topology is None else demanded(group.topology)
    affinities = tuple((_labels(each.nodes), round(each.worth * DOLLAR)) for each in group.affinities)
    return Terms(group.skus, _labels(group.nodes), tolerations, topology, group.colocate, affinities)


def _labels(nodes: Mapping[str, Sequence[str]]) -> Labels:
    return tuple(sorted((name, tuple(sorted(values))) for name, values in nodes.items()))


def demanded(topology: Topology) -> Topology:
    """The topology without a spread that is only a wish; one and the same object where nothing is left of it."""
    spread = topology.spread
    left = topology if spread is None or spread.worth is None else topology.model_copy(update={"spread": None})
    return left if asks_for_something(left) else NO_TOPOLOGY


def asks_for_something(topology: Topology) -> bool:
    """Whether anything is asked of the place of a group, required or preferred."""
    return topology is not NO_TOPOLOGY and topology != NO_TOPOLOGY


def insisted(topology: Topology) -> Topology:
    """The topology with a spread that is only a wish as a condition."""
    spread = topology.spread
    if spread is None or spread.worth is None:
        return topology
    return topology.model_copy(update={"spread": spread.model_copy(update={"worth": None})})


@dataclass(frozen=True, slots=True)
class Request:
    """A workload under one target; `index` is the target's place in the spec, or none where the spec names none."""

    id: str
    """Of the workload."""
    spec: WorkloadTerms
    target: Target
    index: int | None
    gang: Gang
    opens_at: datetime

    def at_minimum(self) -> "Request":
        """The same without the wish to grow."""
        return replace(self, gang=self.gang.at_minimum())

    @property
    def would_spread(self) -> bool:
        """Whether it would like a spread that it does not demand."""
        own = (group.topology for group in self.spec.groups if group.topology is not None)
        return any(topology.spread is not None and topology.spread.worth is not None for topology in (self.spec.topology, *own))

    def insisting(self) -> "Request":
        """The same where wishes for a spread are conditions."""
        own = {group.name: insisted(group.topology) for group in self.spec.groups if group.topology is not None}
        shapes = tuple(
            replace(shape, terms=replace(shape.terms, topology=own[shape.name])) if shape.name in own else shape
            for shape in self.gang.shapes
        )
        return replace(self, gang=replace(self.gang, shapes=shapes, topology=insisted(self.spec.topology)))


ANYWHERE = Target()


class Wish(NamedTuple):
    """What a workload asks for under one of its targets, whenever it came."""

    target: Target
    place: int | None
    gang: Gang
    least: Amount
    """Thousandths without which it cannot start."""
    names_skus: bool
    """Whether some of its groups name SKUs of their own."""

    def least_on(self, sku: str) -> list[tuple[str, Amount]]:
        """The least by SKU, where all groups that take this SKU get it; without what is nothing."""
        if not self.names_skus:
            return [(sku, self.least)] if self.least else []
        return [(name, milli) for name, milli in self.gang.least_by_sku(sku).items() if milli]


class _Asked:
    """What terms ask for, but for how many of an array's tasks: equal to every other that is the same."""

    __slots__ = ("__weakref__", "_hash", "_key")

    def __init__(self, terms: WorkloadTerms) -> None:
        self._key = (
            tuple([_values(group) for group in terms.groups]),
            None if terms.tasks is None else terms.groups[0].fewest,
            tuple([_values(target) for target in terms.targets]),
            _values(terms.topology),
            terms.tolerations,
            terms.minimum_replicas,
        )
        self._hash = hash(self._key)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Asked) and self._key == other._key


def _values(model: Model) -> tuple[Hashable, ...]:
    """The fields of a model as something to look up by."""
    return tuple([value if value.__class__ in PLAIN else _hashable(value) for value in model.__dict__.values()])


PLAIN = frozenset({int, str, float, bool, type(None)})
"""What most fields hold, and what can be looked up by as it is."""


def _hashable(value: object) -> Hashable:
    if isinstance(value, tuple):
        return tuple([_values(each) for each in value]) if value and isinstance(value[0], Model) else value
    if isinstance(value, Model):
        return _values(value)
    return tuple(sorted(value.items())) if isinstance(value, Mapping) else value


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Form:
    """What workloads ask for that are alike in all but who they are and when they came: one object for all of them."""

    wishes: tuple[Wish, ...]
    delays: tuple[int, ...]
    """After how many seconds each of them may be granted; empty where all may at once."""


known_asked: WeakKeyDictionary[_Asked, ref[_Asked]] = WeakKeyDictionary()
"""What anybody asks for, each once."""


def _the_same(terms: WorkloadTerms) -> _Asked:
    """What terms ask for: one object for all that ask for the same, so that it is kept once."""
    asked = _Asked(terms)
    return known_asked.setdefault(asked, ref(asked))() or asked


_asked = OfTerms(_the_same)
_forms: WeakValueDictionary[tuple[_Asked, int | None], Form] = WeakValueDictionary()
"""By what is asked for and the tasks that are left of an array, for as long as anybody asks for it."""


def _form_of(workload: Waiting) -> Form:
    spec = workload.spec
    what = _asked(spec), None if spec.tasks is None else spec.tasks - workload.tasks_done
    if (known := _forms.get(what)) is None:
        known = _forms[what] = _new_form(workload)
    return known


def _new_form(workload: Waiting) -> Form:
    spec = workload.spec
    indexed: Sequence[tuple[int | None, Target]] = list(enumerate(spec.targets)) or [(None, ANYWHERE)]
    gangs = [
        Gang.of(workload.groups(target.count), spec.topology, spec.tolerations, spec.minimum_replicas or 0)
        for _, target in indexed
    ]
    wishes = tuple(
        Wish(target, index, gang, gang.minimum_milli, gang.names_skus)
        for (index, target), gang in zip(indexed, gangs, strict=True)
    )
    delays = tuple(target.after_seconds for _, target in indexed)
    return Form(wishes, delays if any(delays) else ())


def form(workload: Waiting) -> Form:
    """What the workload asks for; the same object for all that ask for the same."""
    known = workload.form
    if not isinstance(known, Form):
        known = _form_of(workload)
        object.__setattr__(workload, "form", known)
    return known


def requests(workload: Waiting) -> tuple[Request, ...]:
    """One request for each target of the workload, in their order; a spec without targets takes anything."""
    asked, came = form(workload), workload.submitted_at
    return tuple(
        Request(
            id=workload.id,
            spec=workload.spec,
            target=wish.target,
            index=wish.place,
            gang=wish.gang,
            opens_at=open_from(came, wish.target.after_seconds),
        )
        for wish in asked.wishes
    )


def ranked(opened: Sequence[Request]) -> list[Sequence[Request]]:
    """Requests in the order in which they are tried; those of one rank compete by score."""
    if opened and opened[0].spec.selection is Selection.PRICED:
        return [opened]
    return [(request,) for request in opened]


class Kind:
    """What a decision depends on: workloads of one kind get the same answer in the same world.

    A kind is equal to itself alone, so that it is looked up at once; `Kinds` sees to it that there is one of each.
    """

    __slots__ = ()


class Kinds:
    """The kinds of workloads, by their ids, and by what makes a kind."""

    def __init__(self) -> None:
        self._by_values: dict[Hashable, Kind] = {}
        self._by_workload: dict[str, Kind] = {}
        self._passing: set[str] = set()
        """Workloads that may be of another kind later on."""
        self._taken_back: set[str] = set()
        """Workloads of which it was told, and which are to be asked for anew."""

    def __len__(self) -> int:
        return len(self._by_values)

    def known(self, workload_id: str) -> Kind | None:
        """The kind of a workload, if it has been told."""
        return self._by_workload.get(workload_id)

    def tell(self, workload_id: str, values: Hashable, *, depends_on_the_hour: bool = False) -> Kind:
        """The kind of a workload for which these values count, for now where they depend on the hour."""
        if (kind := self._by_values.get(values)) is None:
            kind = self._by_values[values] = Kind()
        if depends_on_the_hour:
            self._passing.add(workload_id)
        self._by_workload[workload_id] = kind
        return kind

    def forget(self, workload_ids: Iterable[str]) -> None:
        """Let it be asked anew of these, and of all that depend on the hour."""
        those, self._passing = self._passing.union(workload_ids), set()
        self._taken_back |= {workload_id for workload_id in those if self._by_workload.pop(workload_id, None) is not None}

    def taken_back(self) -> set[str]:
        """Of whom it was known and forgotten since somebody asked that."""
        those, self._taken_back = self._taken_back, set()
        return those


class Alike(NamedTuple):
    """What makes workloads alike: whatever a decision looks at in them, and what of that depends on the hour."""

    lasting: tuple[Hashable, ...]
    earliest: datetime | None
    opened: tuple[datetime, ...] | None

    @property
    def depends_on_the_hour(self) -> bool:
        """Whether it may be another one later on."""
        return not (self.earliest is None and self.opened is None)


def alike(workload: Waiting, now: datetime, tree: QuotaTree) -> Alike:
    """What a decision looks at in a workload."""
    spec, asked = workload.spec, form(workload)
    came = workload.submitted_at
    opened = tuple([max(open_from(came, delay), now) for delay in asked.delays])
    lasting = (
        spec.queue,
        spec.tenant,
        tree.looks_at(spec),
        spec.tier,
        spec.priority,
        spec.preemptible,
        spec.selection,
        asked,
    )
    return Alike(
        lasting,
        spec.earliest_start if spec.earliest_start and spec.earliest_start > now else None,
        opened if asked.delays else None,
    )
