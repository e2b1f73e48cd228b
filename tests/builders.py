"""Builders: the few words that a situation needs, with everything else filled in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from corral.api import (
    WHOLE,
    Affinity,
    BorrowWithinCohort,
    CapacityType,
    Dataset,
    Explanation,
    Fungibility,
    Ordering,
    QueuePreemption,
    QueueSpec,
    QuotaSpec,
    Reclaim,
    ReplicaGroup,
    Selection,
    SlaTier,
    Spread,
    State,
    Target,
    Topology,
    WithinQueue,
    WorkloadSpec,
)
from corral.policy import Cohorts, Policy, QuotaModel, Rank, TierPolicy
from corral.reservation import Purpose, ReservationSpec
from domain.decision import Plan, Refuse, Wait
from domain.pool.bookings import Booking
from domain.pool.fleet import Health, Node, NodeShare, Placement, Replica, Room
from domain.pool.workload import Active, Waiting
from domain.quota.accounting import Interval, IntervalKind
from domain.quota.disruption_budgets import ForcedStop
from domain.snapshot import Snapshot

NOON = datetime(2030, 6, 1, 12, tzinfo=UTC)
LONG_AGO = NOON - timedelta(days=1)


UNPROMISED = Policy(rank=Rank(tiers={tier: TierPolicy(guarantee=0.0, minimum_runtime_seconds=0) for tier in SlaTier}))
"""A policy that promises nothing and protects nobody: ranks and quota alone decide who is stopped."""


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


def a_node(
    id: str,
    *,
    gpus: int = 8,
    used: int = 0,
    free: Sequence[int] | None = None,
    sku: str = "h100",
    provider: str = "aws",
    region: str = "eu-west",
    topology: Sequence[tuple[str, str]] = (),
    cpu_milli: int = 100_000,
    memory_mib: int = 1_000_000,
    price: int = 2_000_000,
    capacity_type: CapacityType = CapacityType.ON_DEMAND,
    health: Health = Health.READY,
    taints: Sequence[str] = (),
    labels: Mapping[str, str] | None = None,
    maximum_replicas: int | None = None,
    interruptions: int | None = None,
    available_until: datetime | None = None,
    node_pool: str | None = None,
) -> Node:
    """A node; its first `used` devices are taken, or `free` gives what is left of each in thousandths."""
    devices = tuple(free) if free is not None else (0,) * used + (WHOLE,) * (gpus - used)
    return Node(
        id=id,
        provider=provider,
        region=region,
        cluster=f"{region}-1",
        sku=sku,
        topology=tuple(topology),
        total=Room((WHOLE,) * len(devices), cpu_milli, memory_mib),
        free=Room(devices, cpu_milli, memory_mib),
        health=health,
        capacity_type=capacity_type,
        price=price,
        taints=tuple(taints),
        labels=tuple(sorted((labels or {}).items())),
        maximum_replicas=maximum_replicas,
        interruptions=interruptions,
        available_until=available_until,
        node_pool=node_pool,
    )


def nodes(number: int, prefix: str = "n", **fields: Any) -> list[Node]:
    return [a_node(f"{prefix}{index}", **fields) for index in range(number)]


def a_quota(nominal: int, *, sku: str = "h100", **limits: Any) -> QuotaSpec:
    return QuotaSpec(sku=sku, nominal=nominal, **limits)


def a_queue(
    name: str,
    nominal: int | None = None,
    *,
    parent: str | None = None,
    quotas: Sequence[QuotaSpec] = (),
    weight: int = 1,
    minimum_runtime_seconds: int = 0,
    sku_order: Sequence[str] = (),
    preemption: QueuePreemption | None = None,
    fungibility: Fungibility | None = None,
    ordering: Ordering = Ordering.BEST_EFFORT_FIFO,
    **limits: Any,
) -> QueueSpec:
    """A queue; `nominal` and further limits make its row for h100."""
    own = () if nominal is None else (a_quota(nominal, **limits),)
    return QueueSpec(
        name=name,
        parent=parent,
        weight=weight,
        minimum_runtime_seconds=minimum_runtime_seconds,
        sku_order=tuple(sku_order),
        preemption=preemption,
        fungibility=fungibility,
        ordering=ordering,
        quotas=(*own, *quotas),
    )


def a_cohort(*queues: QueueSpec, name: str = "cohort", **fields: Any) -> list[QueueSpec]:
    """Queues that lend to each other, and the cohort above them."""
    members = [queue.model_copy(update={"parent": name}) for queue in queues]
    return [a_queue(name, **fields), *members]


def in_cohorts(**fields: Any) -> Policy:
    """The policy of the quota model `cohorts`, under which nothing but Kueue's rules protects what runs."""
    rank = UNPROMISED.rank.model_copy(update={"quota_model": QuotaModel.COHORTS, "cohorts": Cohorts(**fields)})
    return UNPROMISED.model_copy(update={"rank": rank})


def by_model(model: QuotaModel) -> Policy:
    """The policy that divides the pool in this way, promises nothing and protects nobody."""
    return UNPROMISED.model_copy(update={"rank": UNPROMISED.rank.model_copy(update={"quota_model": model})})


def a_preemption(within: str = "never", reclaim: str = "never", borrow: int | None = None) -> QueuePreemption:
    """Whom a queue's work may have stopped; `borrow` is the highest priority of what it may stop to borrow."""
    allowed = BorrowWithinCohort() if borrow is None else BorrowWithinCohort(policy="lower-priority", maximum_priority=borrow)
    return QueuePreemption(
        within_queue=WithinQueue(within), reclaim_within_cohort=Reclaim(reclaim), borrow_within_cohort=allowed
    )


@dataclass(frozen=True)
class AWorkload:
    """A workload that waits, unless `on` puts it somewhere."""

    spec: WorkloadSpec
    submitted_at: datetime = LONG_AGO
    tasks_done: int = 0
    ran_seconds: int = 0

    @property
    def id(self) -> str:
        return self.spec.id

    @property
    def attempt_id(self) -> str:
        return f"{self.id}.1"

    def waiting(self) -> Waiting:
        ran = self.ran_seconds
        return Waiting(self.id, self.spec, self.submitted_at, tasks_done=self.tasks_done, ran_seconds=ran)

    def on(self, *placed: tuple[Node, int], **fields: Any) -> Active:
        """Running, with the first so many devices of each node; give the node as it is without the workload."""
        shares = list[NodeShare]()
        for node, number in placed:
            shares.append(_share(self.spec.groups[0], node, number, sum(len(share.replicas) for share in shares)))
        first = placed[0][0]
        return replace(
            Active(
                id=self.id,
                attempt_id=self.attempt_id,
                epoch=1,
                spec=self.spec,
                state=State.RUNNING,
                placement=Placement(first.provider, first.region, first.sku, tuple(shares)),
                submitted_at=self.submitted_at,
                held_at=LONG_AGO,
                started_at=LONG_AGO,
                ran_seconds=self.ran_seconds,
            ),
            **fields,
        )


def a_runner(id: str, queue: str, gpus: int, *, held_at: datetime = LONG_AGO, **fields: Any) -> Active:
    """Work that runs on a node of its own, with all of its accelerators."""
    return a_workload(id, queue=queue, gpus=gpus, **fields).on((a_node(id, gpus=gpus), gpus), held_at=held_at)


def wide_fleet(workloads: Sequence[AWorkload | Active]) -> list[Node]:
    """The nodes of all runners, and another that is so wide that quota alone binds."""
    own = [a_node(each.id, gpus=each.milli // WHOLE) for each in workloads if isinstance(each, Active)]
    return [a_node("wide", gpus=64), *own]


def _share(group: ReplicaGroup, node: Node, number: int, first: int) -> NodeShare:
    """What replicas numbered from that one on have with so many devices of a node."""
    free = [index for index, milli in enumerate(node.free.devices) if milli == WHOLE][:number]
    per_replica = max(1, group.milli // WHOLE)
    replicas = tuple(
        Replica(group.name, first + index, tuple(free[index * per_replica : (index + 1) * per_replica]))
        for index in range(number // per_replica)
    )
    devices = tuple(WHOLE if index in free else 0 for index in range(len(node.free.devices)))
    return NodeShare(node.id, Room(devices, group.cpu_milli * len(replicas), group.memory_mib * len(replicas)), replicas)


def a_workload(
    id: str = "w",
    *,
    queue: str = "research",
    gpus: float = 1,
    count: int = 1,
    minimum: int | None = None,
    cpu_milli: int = 0,
    memory_mib: int = 0,
    affinities: Sequence[Affinity] = (),
    groups: Sequence[ReplicaGroup] | None = None,
    tier: SlaTier = SlaTier.STANDARD,
    targets: Sequence[Target] = (),
    selection: Selection = Selection.ORDERED,
    required: str | None = None,
    preferred: str | None = None,
    spread: Spread | None = None,
    submitted_at: datetime = LONG_AGO,
    tasks_done: int = 0,
    ran_seconds: int = 0,
    **fields: Any,
) -> AWorkload:
    """A workload of `count` replicas with `gpus` accelerators each."""
    accelerators = int(gpus) if gpus == int(gpus) else gpus
    group = ReplicaGroup(
        count=count,
        minimum=minimum,
        accelerators=accelerators,
        cpu_milli=cpu_milli,
        memory_mib=memory_mib,
        affinities=tuple(affinities),
    )
    spec = WorkloadSpec(
        id=id,
        queue=queue,
        tier=tier,
        groups=tuple(groups) if groups else (group,),
        targets=tuple(targets),
        selection=selection,
        topology=Topology(required=required, preferred=preferred, spread=spread),
        **fields,
    )
    return AWorkload(spec, submitted_at, tasks_done, ran_seconds)


def a_snapshot(
    fleet: Sequence[Node],
    queues: Sequence[QueueSpec],
    *workloads: AWorkload | Active,
    policy: Policy | None = None,
    ledger: Mapping[str, Sequence[Interval]] | None = None,
    stops: Sequence[ForcedStop] = (),
    datasets: Sequence[Dataset] = (),
    bookings: Sequence[Booking] = (),
) -> Snapshot:
    """A snapshot; what runs is taken off the nodes' free room, and has run since it started as far as the ledger knows."""
    active = tuple(workload for workload in workloads if isinstance(workload, Active))
    return Snapshot(
        nodes=tuple(without_room_of(node, active) for node in fleet),
        queues=tuple(queues),
        waiting=tuple(workload.waiting() for workload in workloads if isinstance(workload, AWorkload)),
        active=active,
        policy=policy or Policy(),
        ledger={each.id: (ran(each),) for each in active if each.started_at} | dict(ledger or {}),
        stops=tuple(stops),
        datasets=tuple(datasets),
        bookings=tuple(bookings),
    )


def a_booking(
    id: str = "night",
    accelerators: int = 8,
    *,
    opens_in: float = 3600,
    hours: float = 1,
    flexible: float = 0,
    booked_at: datetime = LONG_AGO,
    **fields: Any,
) -> Booking:
    """A reservation of h100 for the queue `owner` that opens so many seconds after noon; nothing is chosen for it yet."""
    asked: dict[str, Any] = {"accelerators": accelerators, "sku": "h100", "queues": ("owner",)}
    if fields.get("purpose") is Purpose.MAINTENANCE:
        asked = {}
    opens_at, length = NOON + seconds(opens_in), seconds(hours * 3600)
    spec = ReservationSpec(id=id, start=opens_at, seconds=int(hours * 3600), flexible_seconds=int(flexible), **(asked | fields))
    return Booking(spec, opens_at, opens_at + seconds(flexible), opens_at, opens_at + length, booked_at)


def ran(active: Active) -> Interval:
    """What the ledger says of work that runs within its quota since it started."""
    began, milli = active.started_at or active.held_at, active.milli
    return Interval(active.id, active.spec.tier, active.spec.queue, IntervalKind.RUNNING, milli, milli, began, None)


def without_room_of(node: Node, active: Sequence[Active]) -> Node:
    free = node.free
    for workload in active:
        for share in workload.placement.shares:
            if share.node_id == node.id:
                free -= share.room
    return replace(node, free=free)


def follower(active: Active, placement: Placement, now: datetime) -> Active:
    """The attempt that goes on elsewhere, or in another shape, once the one that runs has left."""
    epoch = active.epoch + 1
    return replace(
        active,
        attempt_id=f"{active.id}.{epoch}",
        epoch=epoch,
        state=State.RESERVING,
        placement=placement,
        started_at=None,
        checkpoint_at=None,
        held_at=now,
    )


def started(plan: Plan) -> dict[str, Placement]:
    """Where workloads start on free capacity."""
    return {decision.workload_id: decision.placement for decision in plan.starts}


def nodes_of(placement: Placement) -> dict[str, int]:
    """Replicas on each node."""
    return {share.node_id: len(share.replicas) for share in placement.shares}


def why(plan: Plan, workload_id: str = "w") -> Explanation:
    """Why a workload waits or was refused."""
    return next(
        decision.explanation
        for decision in plan.decisions
        if isinstance(decision, Wait | Refuse) and decision.workload_id == workload_id
    )
