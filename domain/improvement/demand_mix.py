"""The demand that is known for like nodes: what runs there, and what waits and may go there."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from corral.api import WorkloadTerms
from domain.facts import Facts
from domain.placement.feasibility import sift
from domain.pool.fleet import Placement
from domain.pool.workload import Waiting
from domain.quota_models.turns import Turns
from domain.snapshot import Snapshot
from domain.worlds.fragmentation import Mix, Need
from domain.worlds.request import NO_TOPOLOGY, Gang, Shape, form, requests
from domain.worlds.world import Supply, Traits, World


@dataclass(frozen=True, slots=True)
class Known:
    """The mix of needs with devices, as shapes, and how many replicas of each there are.

    `waiting` are the sizes of what waits, each with how many replicas may want room; none where it also matters
    which node it is, so that no number of others would do.
    """

    shapes: tuple[Shape, ...]
    counts: tuple[int, ...]
    waiting: tuple[tuple[Shape, int | None], ...]


@dataclass(slots=True)
class _Tally:
    needs: Counter[Need] = field(default_factory=Counter)
    waiting: dict[Need, int | None] = field(default_factory=dict)

    def add_waiting(self, gang: Gang, workloads: int) -> None:
        for shape, least in zip(gang.shapes, gang.at_minimum().shapes, strict=True):
            need = _need(shape)
            self.needs[need] += workloads * least.count
            before = self.waiting.get(need, 0)
            is_plain = gang.topology == NO_TOPOLOGY and shape.terms.topology is None and not shape.terms.is_choosy
            self.waiting[need] = before + workloads * shape.count if is_plain and before is not None else None

    def known(self) -> Known:
        mix = Mix.of({need: count for need, count in self.needs.items() if need.milli and count})
        waiting = tuple((_shape(need), self.waiting[need]) for need in sorted(self.waiting))
        return Known(tuple(map(_shape, mix.needs)), mix.counts, waiting)


def known_demand(homes: Collection[Traits], turns: Turns, snapshot: Snapshot, facts: Facts) -> dict[Traits, Known]:
    """The demand by class: what runs on its supply or starts there in this round, and what still waits and may go there."""
    tallies = {home: _Tally() for home in homes}
    by_supply: dict[tuple[str, ...], list[_Tally]] = {}
    for home, tally in tallies.items():
        by_supply.setdefault(home.supply, []).append(tally)
    for spec, placement in _placed(turns, snapshot):
        for tally in by_supply.get(Supply(placement.provider, placement.region, placement.sku), ()):
            for need, number in _needs(spec, placement):
                tally.needs[need] += number
    waiting = _alike([*turns.waiting, *snapshot.bystanders])
    for workload, number in waiting:
        for home, gang in _homes(workload, turns.world).items():
            if home in tallies:
                tallies[home].add_waiting(gang, number)
    return {home: tally.known() for home, tally in tallies.items()}


def _placed(turns: Turns, snapshot: Snapshot) -> Iterator[tuple[WorkloadTerms, Placement]]:
    """All work that has a place now and will not leave it, or is given one in this round."""
    yield from ((active.spec, active.placement) for active in snapshot.active if not active.preempted)
    specs = {workload.id: workload.spec for workload in snapshot.waiting} if turns.moved else {}
    yield from ((specs[each.workload_id], each.placement) for each in turns.moved)


def _needs(spec: WorkloadTerms, placement: Placement) -> list[tuple[Need, int]]:
    if len(spec.groups) == 1:
        group = spec.groups[0]
        return [(Need(group.milli, group.cpu_milli, group.memory_mib), placement.replicas)]
    placed = Counter(replica.group for share in placement.shares for replica in share.replicas)
    return [(Need(group.milli, group.cpu_milli, group.memory_mib), placed[group.name]) for group in spec.groups]


def _alike(waiting: list[Waiting]) -> list[tuple[Waiting, int]]:
    """One of each that ask for the same and are bound by the same rules, and how many there are."""
    examples: dict[object, Waiting] = {}
    numbers: Counter[object] = Counter()
    for workload in waiting:
        key = form(workload), workload.spec.queue, workload.spec.tenant
        examples.setdefault(key, workload)
        numbers[key] += 1
    return [(examples[key], number) for key, number in numbers.items()]


def _homes(workload: Waiting, world: World) -> Mapping[Traits, Gang]:
    """The classes that it may use now or later, with what it asks for by the first target that names them."""
    homes: dict[Traits, Gang] = {}
    for request in requests(workload):
        for classes in sift(request, world).classes.values():
            for home in classes:
                homes.setdefault(home, request.gang)
    return homes


def _need(shape: Shape) -> Need:
    return Need(shape.milli, shape.cpu_milli, shape.memory_mib)


def _shape(need: Need) -> Shape:
    return Shape("", need.milli, need.cpu_milli, need.memory_mib, 1, 1)
