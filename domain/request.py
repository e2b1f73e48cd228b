"""What a workload asks for under one of its targets."""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from corral.api import WHOLE, ReplicaGroup, Selection, Target, Topology, WorkloadSpec
from domain.fleet import Amount
from domain.quota import QuotaTree
from domain.workload import Waiting


@dataclass(frozen=True, slots=True)
class Shape:
    """One group of identical replicas: what each needs, the fewest that must start together, and the most wanted."""

    name: str
    milli: Amount
    cpu_milli: int
    memory_mib: int
    minimum: int
    count: int

    @property
    def devices(self) -> int:
        """Whole devices that one replica takes; 0 for a share of one, or for none."""
        return self.milli // WHOLE


@dataclass(frozen=True, slots=True)
class Gang:
    """What must start together, and the topology that it must or should sit in."""

    shapes: tuple[Shape, ...]
    topology: Topology

    @classmethod
    def of(cls, groups: Iterable[ReplicaGroup], topology: Topology) -> "Gang":
        """The gang of a workload's replica groups."""
        shapes = (
            Shape(group.name, group.milli, group.cpu_milli, group.memory_mib, group.fewest, group.count) for group in groups
        )
        return cls(tuple(shapes), topology)

    @property
    def minimum_milli(self) -> Amount:
        """Thousandths that its fewest replicas need."""
        return sum(shape.minimum * shape.milli for shape in self.shapes)

    @property
    def minimum_replicas(self) -> int:
        """The fewest replicas, over all groups."""
        return sum(shape.minimum for shape in self.shapes)

    @property
    def is_single(self) -> bool:
        """Whether its minimum is one replica of whole devices, which must be free on one node."""
        return self.minimum_replicas == 1 and self.minimum_milli >= WHOLE

    @property
    def largest(self) -> Amount:
        """Thousandths that its largest replica needs."""
        return max(shape.milli for shape in self.shapes)

    def at_minimum(self) -> "Gang":
        """The same without the wish to grow."""
        return replace(self, shapes=tuple(replace(shape, count=shape.minimum) for shape in self.shapes))

    def within(self, quota: Amount) -> "Gang":
        """The same with no more replicas than this many thousandths allow; groups grow in the order they are given in."""
        spare = quota - self.minimum_milli
        shapes = []
        for shape in self.shapes:
            extra = shape.count - shape.minimum
            if shape.milli:
                extra = max(0, min(extra, spare // shape.milli))
            spare -= extra * shape.milli
            shapes.append(replace(shape, count=shape.minimum + extra))
        return replace(self, shapes=tuple(shapes))


@dataclass(frozen=True, slots=True)
class Request:
    """A workload under one target; `index` is the target's place in the spec, or none where the spec names none."""

    spec: WorkloadSpec
    target: Target
    index: int | None
    gang: Gang
    opens_at: datetime

    def at_minimum(self) -> "Request":
        """The same without the wish to grow."""
        return replace(self, gang=self.gang.at_minimum())


ANYWHERE = Target()


def requests(workload: Waiting) -> tuple[Request, ...]:
    """One request for each target of the workload, in their order; a spec without targets takes anything."""
    spec = workload.spec
    indexed: Sequence[tuple[int | None, Target]] = list(enumerate(spec.targets)) or [(None, ANYWHERE)]
    return tuple(
        Request(
            spec=spec,
            target=target,
            index=index,
            gang=Gang.of(workload.groups(target.count), spec.topology),
            opens_at=workload.submitted_at + timedelta(seconds=target.after_seconds),
        )
        for index, target in indexed
    )


def ranked(opened: Sequence[Request]) -> list[Sequence[Request]]:
    """Requests in the order in which they are tried; those of one rank compete by score."""
    if opened and opened[0].spec.selection is Selection.PRICED:
        return [opened]
    return [(request,) for request in opened]


Kind = tuple[Hashable, ...]


def kind(workload: Waiting, now: datetime, tree: QuotaTree) -> Kind:
    """What a decision depends on: workloads of one kind get the same answer in the same world."""
    spec = workload.spec
    opened = tuple((request.target, request.gang, max(request.opens_at, now)) for request in requests(workload))
    earliest = max(spec.earliest_start, now) if spec.earliest_start else now
    return (
        spec.queue,
        spec.tenant,
        tree.looks_at(spec),
        spec.tier,
        spec.priority,
        spec.preemptible,
        spec.selection,
        spec.tolerations,
        earliest,
        opened,
    )
