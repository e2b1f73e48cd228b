"""From a case to Corral's own facts and policy: nothing here knows one case from another."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from math import ceil

from corral.api import (
    WHOLE,
    BorrowWithinCohort,
    Fungibility,
    FungibilityPreference,
    Ordering,
    QueuePreemption,
    QueueSpec,
    QuotaSpec,
    Reclaim,
    ReplicaGroup,
    Search,
    SlaTier,
    State,
    StopPolicy,
    Topology,
    WithinQueue,
    WorkloadSpec,
)
from corral.policy import (
    Action,
    Cohorts,
    Deserved,
    FairPreemption,
    Goals,
    Limits,
    Policy,
    QuotaModel,
    Rank,
    TierPolicy,
    TopologyProfile,
)
from domain.pool.fleet import Health, Node, NodeShare, Placement, Replica, Room
from domain.pool.workload import Active, Waiting
from domain.snapshot import Snapshot
from tests.conformance import cases
from tests.conformance.cases import Case

EPOCH = datetime(2030, 6, 1, tzinfo=UTC)
"""The decision instant that the times of a case count from."""

UNLIMITED = 10**6
PLENTY = 10**6
"""Cpu and memory that never bind."""

NODE_LABEL = "node"
MODELS = {"borrow": QuotaModel.COHORTS, "fair-share-limit": QuotaModel.DESERVED, "none": QuotaModel.COHORTS}
ACTIONS = {
    "allocate": Action.ALLOCATE,
    "consolidation": Action.CONSOLIDATE,
    "reclaim": Action.RECLAIM,
    "preempt": Action.PREEMPT,
    "enforce-reduced-limit": Action.ENFORCE,
}
WITHIN_QUEUE = {
    "Never": WithinQueue.NEVER,
    "LowerPriority": WithinQueue.LOWER_PRIORITY,
    "LowerOrNewerEqualPriority": WithinQueue.LOWER_OR_NEWER_EQUAL_PRIORITY,
}
RECLAIM = {"Never": Reclaim.NEVER, "LowerPriority": Reclaim.LOWER_PRIORITY, "Any": Reclaim.ANY}
SEARCH = {"MayStopSearch": Search.STOP, "TryNextFlavor": Search.TRY_NEXT}
ORDERING = {"BestEffortFIFO": Ordering.BEST_EFFORT_FIFO, "StrictFIFO": Ordering.STRICT_FIFO}
PROFILES = {
    "best-fit": TopologyProfile.MIXED,
    "mixed": TopologyProfile.MIXED,
    "balanced": TopologyProfile.BALANCED,
}
"""Kueue v0.19 takes the least free domains for whoever asks for no topology unless its gate TASProfileMixed is switched off."""

HIGHEST_PRIORITY = 1_000


def hyphenated(camel_case: str) -> str:
    """`LessThanInitialShare` as `less-than-initial-share`."""
    return re.sub(r"(?<=.)(?=[A-Z])", "-", camel_case).lower()


@dataclass
class Names:
    """Corral's identifiers for the names of a case, and back."""

    given: dict[str, str] = field(default_factory=dict)
    meant: dict[str, str] = field(default_factory=dict)

    def of(self, name: str) -> str:
        """An identifier that stands for the name alone."""
        if name not in self.given:
            plain = re.sub(r"[^a-z0-9._-]", "-", name.lower()).lstrip("._-")[:90] or "x"
            free = next(each for number in count() if (each := f"{plain}-{number}" if number else plain) not in self.meant)
            self.given[name], self.meant[free] = free, name
        return self.given[name]


@dataclass(frozen=True)
class Translated:
    """A case in Corral's terms; `names` leads back."""

    snapshot: Snapshot
    now: datetime
    names: Names


def translate(case: Case) -> Translated:
    """Say a case in Corral's terms."""
    return _Translator(case).translated()


class _Translator:
    def __init__(self, case: Case) -> None:
        self.case = case
        self.names = Names()
        self.skus = {sku.id: sku for sku in case.fleet.skus}
        self.priorities = _priorities(case)

    def translated(self) -> Translated:
        nodes = self._nodes()
        free = {node.id: node.free for node in nodes}
        by_age = sorted(self.case.running, key=lambda workload: (workload.tie_key or workload.id, workload.id))
        active = [self._active(workload, index, nodes, free) for index, workload in enumerate(by_age)]
        left = tuple(replace(node, free=free[node.id]) for node in nodes)
        waiting = tuple(
            Waiting(self.names.of(workload.id), self._spec(workload), self._instant(workload.created_at))
            for workload in self.case.pending
        )
        queues = tuple(self._queue(queue) for queue in self.case.queues)
        snapshot = Snapshot(left, queues, waiting, tuple(active), policy_of(self.case))
        return Translated(snapshot, self._now(), self.names)

    # Time

    def _now(self) -> datetime:
        workloads = (*self.case.running, *self.case.pending)
        times = [time for workload in workloads for time in (workload.created_at, workload.started_at) if time is not None]
        return self._instant(max([0.0, *times]))

    def _instant(self, seconds: float) -> datetime:
        return EPOCH + timedelta(seconds=seconds)

    # Supply

    def _nodes(self) -> list[Node]:
        return [
            self._node(region.id, cluster.id, node)
            for region in self.case.fleet.regions
            for cluster in region.clusters
            for node in cluster.nodes
            if self._is_of_its_sku(node)
        ]

    def _is_of_its_sku(self, node: cases.Node) -> bool:
        """A node that bears another value of a label of its SKU belongs to none that the case speaks of."""
        return all(node.labels.get(key, value) == value for key, value in self.skus[node.sku].labels.items())

    def _node(self, region: str, cluster: str, node: cases.Node) -> Node:
        sku = self.skus[node.sku]
        room = Room((WHOLE,) * (int(node.gpus - node.foreign_gpus) + self._width()), PLENTY, PLENTY)
        levels = [level for level in self.case.fleet.topology_levels if level in node.topology]
        labels = {NODE_LABEL: node.id, **sku.labels, **node.labels, **node.topology}
        taints = [taint for taint in (*sku.taints, *node.taints) if not _tolerated(taint, sku.tolerations)]
        return Node(
            id=self.names.of(node.id),
            provider="source",
            region=self.names.of(region),
            cluster=self.names.of(cluster),
            sku=self.names.of(node.sku),
            topology=tuple((self.names.of(level), self.names.of(node.topology[level])) for level in levels),
            total=room,
            free=room,
            health=_health(node),
            taints=tuple(sorted(self._taint(taint) for taint in taints if taint.repels)),
            labels=tuple(sorted((self.names.of(key), self.names.of(value)) for key, value in labels.items())),
            maximum_replicas=node.max_pods,
        )

    def _width(self) -> int:
        """What a node that stands for no machine has beyond its quota, so that quota alone binds: room for all work at once."""
        if self.case.fleet.mode == "physical":
            return 0
        groups = (group for workload in (*self.case.running, *self.case.pending) for group in workload.groups)
        return ceil(sum(group.count * group.gpus_per_pod for group in groups))

    def _taint(self, taint: cases.Taint) -> str:
        return self.names.of(f"{taint.key}={taint.value}:{taint.effect}")

    # Queues

    def _queue(self, queue: cases.Queue) -> QueueSpec:
        minimum_runtime, reclaim_runtime = queue.preempt_min_runtime_s, queue.reclaim_min_runtime_s
        return QueueSpec(
            name=self.names.of(queue.id),
            parent=None if queue.parent is None else self.names.of(queue.parent),
            weight=round(100 * (1 if queue.weight is None else queue.weight)),
            stop=StopPolicy.OPEN if queue.open else StopPolicy.HOLD,
            minimum_runtime_seconds=int(minimum_runtime or 0),
            reclaim_minimum_runtime_seconds=None if reclaim_runtime is None else int(reclaim_runtime),
            ordering=ORDERING[queue.ordering],
            sku_order=tuple(self.names.of(sku) for sku in queue.sku_order),
            preemption=None if queue.preemption is None else self._preemption(queue.preemption),
            fungibility=None if queue.fungibility is None else _fungibility(queue.fungibility),
            priority=queue.priority or 0,
            created_at=None if queue.created_at is None else self._instant(queue.created_at),
            quotas=(
                *(self._quota(quota) for quota in queue.quota if not self._is_boundless(queue, quota)),
                *self._opted_in(queue),
            ),
        )

    def _opted_in(self, queue: cases.Queue) -> Iterator[QuotaSpec]:
        """Rows without quota of their own for what the queue may only borrow: Corral wants each SKU of a queue to be named."""
        own = [workload for workload in (*self.case.running, *self.case.pending) if workload.queue == queue.id]
        named = {group.sku for workload in own for group in workload.groups} | {
            place.sku for workload in own for place in workload.placement
        }
        known = {quota.sku for quota in queue.quota}
        for sku in sorted({*queue.sku_order, *(sku for sku in named if sku is not None)} - known):
            yield QuotaSpec(sku=self.names.of(sku), nominal=0)

    def _preemption(self, preempt: cases.Preempt) -> QueuePreemption:
        borrow = preempt.borrow_within_cohort
        most = None if borrow.max_priority is None else self.priorities[borrow.max_priority]
        return QueuePreemption(
            within_queue=WITHIN_QUEUE[preempt.within_queue],
            reclaim_within_cohort=RECLAIM[preempt.reclaim_within_cohort],
            borrow_within_cohort=BorrowWithinCohort(policy=hyphenated(borrow.policy), maximum_priority=most),
        )

    def _is_boundless(self, queue: cases.Queue, quota: cases.Quota) -> bool:
        """A department that deserves whatever there is has no row of its own in Corral."""
        is_group = _model(self.case) is QuotaModel.DESERVED and queue.kind == "cohort"
        return is_group and quota.nominal is None and quota.limit is None

    def _quota(self, quota: cases.Quota) -> QuotaSpec:
        nominal = UNLIMITED if quota.nominal is None else quota.nominal
        if _model(self.case) is QuotaModel.DESERVED and quota.limit is not None:
            nominal = min(nominal, quota.limit)
        return QuotaSpec(
            sku=self.names.of(quota.sku),
            nominal=_whole(nominal),
            cap=None if quota.limit is None else _whole(max(quota.limit, nominal)),
            borrowing_limit=None if quota.borrowing_limit is None else _whole(quota.borrowing_limit),
            lending_limit=None if quota.lending_limit is None else _whole(quota.lending_limit),
            over_quota_weight=None if quota.over_quota_weight is None else _whole(quota.over_quota_weight),
        )

    # Demand

    def _spec(self, workload: cases.Workload) -> WorkloadSpec:
        counted = workload.min_pods is not None
        return WorkloadSpec(
            id=self.names.of(workload.id),
            queue=self.names.of(workload.queue),
            priority=self.priorities[workload.priority],
            groups=tuple(self._group(group, counted=counted) for group in workload.groups if group.count),
            minimum_replicas=workload.min_pods or None,
            preemptible=workload.preemptible,
            preemption_delay_seconds=int(workload.preemption_delay_s or 0),
        )

    def _group(self, group: cases.PodGroup, *, counted: bool) -> ReplicaGroup:
        """`counted` says that the source counts the gang's minimum over all groups."""
        accepted = [group.sku] if group.sku is not None else group.allowed_skus or []
        names = {} if group.node_names is None else {NODE_LABEL: group.node_names}
        taints = {taint for sku in self.case.fleet.skus for taint in sku.taints} | {
            taint for node in self.case.nodes for taint in node.taints
        }
        minimum = group.min_count if group.min_count is not None else 0 if counted else None
        return ReplicaGroup(
            name=self.names.of(group.name),
            count=group.count,
            minimum=minimum,
            accelerators=group.gpus_per_pod,
            skus=tuple(self.names.of(sku) for sku in accepted),
            topology=None if group.topology is None else self._topology(group.topology),
            colocate=None if group.colocate_group is None else self.names.of(group.colocate_group),
            nodes={
                self.names.of(key): tuple(self.names.of(value) for value in values)
                for key, values in {**group.node_selector, **names}.items()
            },
            tolerations=tuple(sorted(self._taint(taint) for taint in taints if _tolerated(taint, group.tolerations))),
            preemptible=group.preemptible,
        )

    def _topology(self, topo: cases.Topo) -> Topology:
        required, preferred = None, topo.preferred_level
        if topo.mode == "required":
            required = topo.level
        elif topo.mode == "preferred":
            preferred = topo.level
        return Topology(
            required=self._name(required),
            preferred=self._name(preferred),
            slice_level=self._name(topo.slice_level),
            slice_size=(topo.slice_size or 1) if topo.slice_level else None,
        )

    def _name(self, name: str | None) -> str | None:
        return None if name is None else self.names.of(name)

    # What runs

    def _active(self, workload: cases.Workload, index: int, nodes: Sequence[Node], free: dict[str, Room]) -> Active:
        spec = self._spec(workload)
        began = self._instant(workload.created_at if workload.started_at is None else workload.started_at)
        placement = self._placement(workload, spec, nodes, free)
        active = Active(
            id=spec.id,
            attempt_id=f"{index:04d}.{spec.id}",
            epoch=1,
            spec=spec,
            state=State.RUNNING,
            placement=placement,
            submitted_at=self._instant(workload.created_at),
            held_at=began,
            started_at=began,
        )
        return active.stopping() if workload.evicting else active

    def _placement(
        self, workload: cases.Workload, spec: WorkloadSpec, nodes: Sequence[Node], free: dict[str, Room]
    ) -> Placement:
        sizes = {group.name: group.milli for group in spec.groups}
        placed: Counter[str] = Counter()
        rooms: dict[str, Room] = {}
        replicas: dict[str, list[Replica]] = {}
        for place in workload.placement:
            group = self.names.of(place.group)
            for _ in range(place.count):
                node = self._node_for(place, sizes[group], nodes, free)
                devices, taken = _devices(free[node.id], sizes[group])
                free[node.id] -= taken
                rooms[node.id] = rooms[node.id] + taken if node.id in rooms else taken
                replicas.setdefault(node.id, []).append(Replica(group, placed[group], devices))
                placed[group] += 1
        by_id = {node.id: node for node in nodes}
        first = by_id[next(iter(rooms))]
        shares = tuple(NodeShare(id, rooms[id], tuple(replicas[id]), by_id[id].sku) for id in sorted(rooms))
        return Placement(first.provider, first.region, self.names.of(workload.placement[0].sku), shares)

    def _node_for(self, place: cases.Place, milli: int, nodes: Sequence[Node], free: Mapping[str, Room]) -> Node:
        """The node that the source names, or else the first of the SKU (and domain) with room."""
        domain = {(self.names.of(level), self.names.of(name)) for level, name in place.domain.items()}
        named = None if place.node is None else self.names.of(place.node)
        return next(
            node
            for node in nodes
            if (node.id == named if named else node.sku == self.names.of(place.sku))
            and domain <= {*node.topology, *node.labels}
            and _fits(free[node.id], milli)
        )


def policy_of(case: Case) -> Policy:
    """The policy that a case is judged by: every protection of Corral's own that the sources do not know is off."""
    said = case.policy
    strategies = said.get("fair_preemption_strategies")
    fair = {} if strategies is None else {"fair_preemption": tuple(FairPreemption(hyphenated(each)) for each in strategies)}
    return Policy(
        limits=Limits(maximum_preemptions=1_000),
        rank=Rank(
            quota_model=_model(case),
            cohorts=Cohorts(
                fair_sharing=bool(said.get("fair_sharing", False)),
                recompute_placement_within_pass=bool(said.get("recompute_placement_within_pass", True)),
                **fair,
            ),
            deserved=Deserved(actions=_actions(said), priority_gap=said.get("preempt_priority_gap", 1)),
            tiers={tier: TierPolicy(guarantee=0, minimum_runtime_seconds=0) for tier in SlaTier},
        ),
        goals=Goals(topology=_profile(case)),
    )


def _profile(case: Case) -> TopologyProfile:
    packed = _model(case) is QuotaModel.DESERVED
    return TopologyProfile.PACKED if packed else PROFILES[case.policy.get("topology_profile", "best-fit")]


def _model(case: Case) -> QuotaModel:
    if "preempt_priority_gap" in case.policy:
        return QuotaModel.DESERVED
    return MODELS[case.policy.get("quota_model", "borrow")]


def _actions(said: Mapping[str, object]) -> tuple[Action, ...]:
    """The phases that a source runs: the only one that a case names, or all that it has."""
    only = said.get("only_action")
    if only is not None:
        return (ACTIONS[str(only)],)
    left_out = {Action.ENFORCE} if said.get("consolidation") else {Action.ENFORCE, Action.CONSOLIDATE}
    return tuple(action for action in Action if action not in left_out)


def _priorities(case: Case) -> dict[int, int]:
    """Priorities as Corral has them: as they are, or by their order alone where one exceeds what Corral takes."""
    thresholds = [
        queue.preemption.borrow_within_cohort.max_priority
        for queue in case.queues
        if queue.preemption is not None and queue.preemption.borrow_within_cohort.max_priority is not None
    ]
    named = sorted({*thresholds, *(workload.priority for workload in (*case.running, *case.pending))})
    if max(map(abs, named), default=0) <= HIGHEST_PRIORITY:
        return {priority: priority for priority in named}
    return {priority: rank for rank, priority in enumerate(named)}


def _fungibility(fungibility: cases.Fungibility) -> Fungibility:
    preference = fungibility.preference
    return Fungibility(
        when_can_borrow=SEARCH[fungibility.when_can_borrow],
        when_can_preempt=SEARCH[fungibility.when_can_preempt],
        preference=None if preference is None else FungibilityPreference(hyphenated(preference)),
    )


def _whole(amount: float) -> int:
    if amount != int(amount):
        raise ValueError(f"{amount} accelerators: a quota is a whole number of them")
    return int(amount)


def _health(node: cases.Node) -> Health:
    if not node.ready:
        return Health.SUSPECT
    return Health.READY if node.schedulable else Health.CORDONED


def _tolerated(taint: cases.Taint, tolerations: Iterable[cases.Toleration]) -> bool:
    return any(toleration.tolerates(taint) for toleration in tolerations)


def _fits(room: Room, milli: int) -> bool:
    return max(room.devices, default=0) >= milli if milli < WHOLE else room.whole_devices * WHOLE >= milli


def _devices(room: Room, milli: int) -> tuple[tuple[int, ...], Room]:
    """The devices that a replica takes of a node's room, and that part of the room."""
    if milli < WHOLE:
        fullest = min((free, index) for index, free in enumerate(room.devices) if free >= milli)[1] if milli else None
        chosen: tuple[int, ...] = () if fullest is None else (fullest,)
    else:
        chosen = tuple([index for index, free in enumerate(room.devices) if free == WHOLE][: milli // WHOLE])
    taken = tuple(min(milli, WHOLE) if index in chosen else 0 for index in range(len(room.devices)))
    return chosen, Room(taken, 0, 0)
