"""What a service asks for: a workload, its replicas, and where and on what they may run."""

import hashlib
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Self

from pydantic import AfterValidator, AwareDatetime, Field, StrictInt, StringConstraints, model_validator

from corral.api.demand import Autoscale
from corral.api.model import MAXIMUM_REPLICAS, WHOLE, Identifier, Model, Seconds, ShortName, ShortText

MAXIMUM_ACCELERATORS_PER_REPLICA = 1_024


def _in_thousandths(accelerators: int | float) -> int | float:
    milli = accelerators * WHOLE
    if abs(milli - round(milli)) > 1e-6:
        raise ValueError("a share of an accelerator is a whole number of thousandths, such as 0.25")
    if accelerators > 1 and milli % WHOLE:
        raise ValueError("more than one accelerator is a whole number of them")
    return accelerators


Accelerators = Annotated[
    StrictInt | Annotated[float, Field(strict=True, allow_inf_nan=False)],
    Field(ge=0, le=MAXIMUM_ACCELERATORS_PER_REPLICA),
    AfterValidator(_in_thousandths),
]
"""Accelerators of one replica: a share of one device below 1 (in thousandths), else a whole number."""

Worth = Annotated[float, Field(ge=-1_000, le=1_000, allow_inf_nan=False)]
"""Dollars per accelerator and hour that a workload would pay for a wish of its own."""


class SlaTier(StrEnum):
    """What is promised: the share of its entitled time that a workload really computes."""

    PREMIUM = "premium"
    STANDARD = "standard"
    BASIC = "basic"


class CapacityType(StrEnum):
    """How capacity is bought."""

    RESERVED = "reserved"
    ON_DEMAND = "on-demand"
    SPOT = "spot"


class Spread(Model):
    """At most `maximum` replicas of a group in one domain of a level of the node path, or on one `node`.

    With `worth` it is a wish and no condition: the work is as well off so as if each accelerator of the replicas that are
    beyond the maximum in their domain cost so many dollars an hour less.
    """

    level: Identifier
    maximum: Annotated[StrictInt, Field(ge=1, le=MAXIMUM_REPLICAS)]
    worth: Annotated[Worth, Field(gt=0)] | None = None


class Topology(Model):
    """Levels of the node path, such as `rack` or, last of all, `node`: the gang must / should fit in one domain of that level.

    With slices, each `slice_size` consecutive replicas must fit in one domain of `slice_level`; `spread` keeps replicas of a
    group apart.
    """

    required: Identifier | None = None
    preferred: Identifier | None = None
    slice_level: Identifier | None = None
    slice_size: Annotated[StrictInt, Field(ge=1, le=MAXIMUM_REPLICAS)] | None = None
    spread: Spread | None = None

    @model_validator(mode="after")
    def _slices_are_whole(self) -> Self:
        if (self.slice_level is None) != (self.slice_size is None):
            raise ValueError("slice_level and slice_size go together: so many consecutive replicas in one domain of that level")
        return self


class Affinity(Model):
    """Replicas are as well off on nodes with one of these domains at each named level or label as if they cost `worth` less.

    In dollars per accelerator and hour; below zero, such nodes are disliked.
    """

    nodes: Annotated[Mapping[ShortName, tuple[ShortName, ...]], Field(min_length=1, max_length=16)]
    worth: Worth

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.worth:
            raise ValueError("worth 0 says nothing; expected dollars per accelerator and hour, below zero for nodes to avoid")
        return self


class ReplicaGroup(Model):
    """`count` identical replicas; at least `minimum` of them start together or none does.

    `skus` narrows what the targets accept for this group alone, `topology` replaces the workload's, `nodes` asks for nodes
    with one of the given domains at each named level or label, `affinities` say which of these it likes, and how much. Groups
    with the same `colocate` share the domain of their topology. Replicas of a group that is not `preemptible` are never taken
    from a workload that is.
    """

    name: Identifier = "main"
    count: Annotated[StrictInt, Field(ge=1, le=MAXIMUM_REPLICAS)] = 1
    minimum: Annotated[StrictInt, Field(ge=0, le=MAXIMUM_REPLICAS)] | None = None
    accelerators: Accelerators = 1
    cpu_milli: Annotated[StrictInt, Field(ge=0, le=10**7)] = 0
    memory_mib: Annotated[StrictInt, Field(ge=0, le=10**9)] = 0
    skus: Annotated[tuple[Identifier, ...], Field(max_length=32)] = ()
    topology: Topology | None = None
    colocate: Identifier | None = None
    nodes: Annotated[Mapping[ShortName, tuple[ShortName, ...]], Field(max_length=16)] = {}
    affinities: Annotated[tuple[Affinity, ...], Field(max_length=16)] = ()
    tolerations: Annotated[tuple[Identifier, ...], Field(max_length=32)] = ()
    preemptible: bool = True

    @property
    def fewest(self) -> int:
        """The fewest replicas with which the group may run."""
        return self.count if self.minimum is None else self.minimum

    @property
    def milli(self) -> int:
        """Thousandths of an accelerator that one replica needs."""
        return round(self.accelerators * WHOLE)

    @model_validator(mode="after")
    def _minimum_within_count(self) -> Self:
        if self.minimum is not None and self.minimum > self.count:
            raise ValueError(f"minimum {self.minimum} exceeds count {self.count}")
        return self


class Target(Model):
    """One acceptable answer to "where and on what"; an empty list accepts anything.

    `count` replaces the count (and the minimum) of the first replica group, so that 16 of one SKU can stand beside 32 of
    another. `after_seconds` makes the target acceptable only when the workload has waited that long: a relaxation schedule.
    """

    skus: tuple[Identifier, ...] = ()
    regions: tuple[Identifier, ...] = ()
    providers: tuple[Identifier, ...] = ()
    capacity_types: tuple[CapacityType, ...] = ()
    count: Annotated[StrictInt, Field(ge=1, le=MAXIMUM_REPLICAS)] | None = None
    after_seconds: Seconds = 0


class Selection(StrEnum):
    """Which of several targets that fit is taken."""

    ORDERED = "ordered"
    """The first of them."""
    PRICED = "priced"
    """The one that costs least, soft goals included."""


class Checkpoint(Model):
    """How the workload saves its work: the notice signal, and the seconds it needs before it is stopped."""

    signal: Annotated[str, StringConstraints(pattern=r"^SIG[A-Z0-9]{1,9}$")] = "SIGTERM"
    grace_seconds: Annotated[StrictInt, Field(ge=0, le=86_400)] = 30


class _Named(Model):
    """Whatever has an id of its own, which comes first."""

    id: Identifier


class WorkloadTerms(Model):
    """What is asked for, by whichever workload: those that ask for the same share one.

    Times are seconds; `accelerators` are devices (below one: a share of one device). With `tasks`, the single group is an
    array of that many identical, independent tasks, of which as many run at once as fit (`minimum` then counts tasks).
    """

    queue: Identifier
    tenant: Identifier | None = None
    tier: SlaTier = SlaTier.STANDARD
    priority: Annotated[StrictInt, Field(ge=-1_000, le=1_000)] = 0
    groups: Annotated[tuple[ReplicaGroup, ...], Field(min_length=1, max_length=16)] = (ReplicaGroup(),)
    tasks: Annotated[StrictInt, Field(ge=1, le=MAXIMUM_REPLICAS)] | None = None
    autoscale: Autoscale | None = None
    """An endpoint: its size follows the demand that it is told of."""
    targets: Annotated[tuple[Target, ...], Field(max_length=32)] = ()
    selection: Selection = Selection.ORDERED
    topology: Topology = Topology()
    tolerations: Annotated[tuple[Identifier, ...], Field(max_length=32)] = ()
    command: Annotated[tuple[ShortText, ...], Field(max_length=64)] = ()
    environment: Annotated[Mapping[ShortName, ShortText], Field(max_length=64)] = {}
    parameters: Annotated[Mapping[ShortName, ShortText], Field(max_length=32)] = {}
    checkpoint: Checkpoint = Checkpoint()
    preemptible: bool = True
    preemption_delay_seconds: Seconds = 0
    """It has waited that long before anything is stopped for it."""
    minimum_replicas: Annotated[StrictInt, Field(ge=1, le=MAXIMUM_REPLICAS)] | None = None
    """The fewest replicas of all groups together that start, beside each group's own minimum."""
    user: Identifier | None = None
    """Who submitted it, for limits per user inside a queue."""
    expected_seconds: Seconds | None = None
    """How long it is likely to run; used for plans and costs, and never to stop it."""
    maximum_runtime_seconds: Annotated[Seconds, Field(ge=1)] | None = None
    """After so long, over all of its attempts, it is stopped, and has failed."""
    datasets: Annotated[tuple[Identifier, ...], Field(max_length=32)] = ()
    """What it reads, by the names in the pool's catalogue of data: being near to it saves egress and time."""
    earliest_start: AwareDatetime | None = None
    retries: Annotated[StrictInt, Field(ge=0, le=100)] = 0
    """Further attempts after the workload itself failed; lost and preempted attempts are always repeated."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [group.name for group in self.groups]
        if len(set(names)) < len(names):
            raise ValueError("each replica group needs a name of its own")
        if self.tasks is not None and (len(self.groups) > 1 or self.groups[0].count > 1):
            raise ValueError("an array (tasks) has one replica group with count 1")
        most = sum(group.count for group in self.groups) * (self.tasks or 1)
        if self.minimum_replicas is not None and self.minimum_replicas > most:
            raise ValueError(f"minimum_replicas {self.minimum_replicas} exceeds the {most} replicas of all groups together")
        if self.tasks is not None and any(target.count is not None for target in self.targets):
            raise ValueError("an array (tasks) takes no count in its targets")
        if self.autoscale is not None:
            self._may_follow_demand(self.autoscale)
        if len(set(self.datasets)) < len(self.datasets):
            raise ValueError("datasets: one is named twice; expected each once, as each is fetched once")
        return self

    def _may_follow_demand(self, rules: Autoscale) -> None:
        first = self.groups[0]
        if self.tasks is not None or any(target.count is not None for target in self.targets):
            raise ValueError("autoscale: what follows demand is no array (tasks), and takes no count in its targets")
        if first.minimum != rules.minimum or first.count > rules.most:
            raise ValueError(
                f"autoscale: the first group has minimum {first.minimum} and count {first.count}; expected minimum "
                f"{rules.minimum} (that of autoscale), and a count to begin with of at most {rules.most}"
            )


class WorkloadSpec(WorkloadTerms, _Named):
    """What a service asks for. The `id` is the service's own key: submitting it twice is submitting it once."""

    @property
    def digest(self) -> str:
        """SHA-256 of the spec in canonical JSON, in hexadecimal: two specs are the same when their digests are.

        What is left at its default is left out, so that a field that a later version adds changes no digest.
        """
        return hashlib.sha256(self.model_dump_json(exclude_defaults=True).encode()).hexdigest()

    @property
    def summary(self) -> str:
        """One line by which an operator recognises the workload."""
        replicas = sum(group.count for group in self.groups) * (self.tasks or 1)
        milli = sum(group.count * group.milli for group in self.groups) * (self.tasks or 1)
        return f"{self.id}: {milli / WHOLE:g} accelerators in {replicas} replicas, {self.tier}, queue {self.queue}"
