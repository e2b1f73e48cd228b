"""A Corral that answers from memory, and the command line in front of it."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from typer.testing import CliRunner, Result

from corral.api import (
    Acknowledgement,
    CapacityType,
    Catalogue,
    ClusterNote,
    ClusterStatus,
    Cordon,
    DatasetStatus,
    DeliveryState,
    Demand,
    EvacuationForecast,
    EvacuationMove,
    EvacuationOrder,
    EvacuationState,
    Evidence,
    Explanation,
    Fix,
    FixKind,
    FleetStatus,
    LostCluster,
    Moment,
    NodePoolStatus,
    NodeStatus,
    OperationChange,
    OperationKind,
    OperationNote,
    OperationStatus,
    OrderRecord,
    PlaceKind,
    ProvisioningStatus,
    QueuePreemption,
    QueueSpec,
    QueueStatus,
    QueueTree,
    QueueUsage,
    QuotaSpec,
    Reason,
    Resize,
    Retarget,
    RoundStatus,
    SlaTier,
    State,
    StopPolicy,
    WakeUp,
    Where,
    WithinQueue,
    WorkloadEvent,
    WorkloadFilter,
    WorkloadResult,
    WorkloadSpec,
    WorkloadStatus,
)
from corral.cli.commands import app
from corral.cli.session import Session
from corral.client import Corral, CorralError, Submission, Unreachable
from corral.policy import LintFinding, Policy, PolicyAnswer, PolicyRecord
from corral.reservation import Miss, MissKind, ReservationAnswer, ReservationSpec, ReservationState, ReservationStatus
from corral.rollout import Change, Effect, EffectKind, RolloutOrder, Surroundings, WhatIf
from corral.schedule import MandateStatus, Revocation, ScheduleSpec, ScheduleStatus
from corral.wire import Steering

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
LONG_ID = "a-workload-whose-name-is-as-long-as-names-may-be-" + "x" * 50

A_WAITING_WORKLOAD = WorkloadStatus(
    id="waiting",
    queue="team",
    tier=SlaTier.STANDARD,
    priority=5,
    state=State.WAITING,
    epoch=0,
    submitted_at=NOON,
    since=NOON,
    explanation=Explanation(
        reason=Reason.NOT_ENOUGH_FREE_ACCELERATORS,
        message="needs 8 free on one node, the fullest has 5",
        evidence=(Evidence(reason=Reason.SKU_NOT_ACCEPTED, count=12, example="node-1 has a100"),),
        fixes=(
            Fix(kind=FixKind.WAIT, message="wait 5 min", cost=0.25, wait_seconds=300),
            Fix(kind=FixKind.STOP_OTHERS, message="stop 1 running workload", cost=4, victims=("guest",)),
        ),
        position=3,
        round_id=7,
        as_of=NOON,
    ),
)
A_RUNNING_WORKLOAD = WorkloadStatus(
    id=LONG_ID,
    queue="team",
    tier=SlaTier.PREMIUM,
    priority=0,
    state=State.RUNNING,
    epoch=2,
    submitted_at=NOON,
    since=NOON,
    where=Where(
        provider="cloud", region="north", cluster="c1", sku="h100", accelerators=8.0, by_sku={"h100": 8.0}, nodes={"node-1": 1}
    ),
    preemptions=1,
)
AN_ENDED_WORKLOAD = A_RUNNING_WORKLOAD.model_copy(update={"state": State.SUCCEEDED, "exit_code": 0, "ended_at": NOON})
EVENTS = [
    WorkloadEvent(id=1, workload="waiting", at=NOON, kind="submitted", message="by \x1b[31mteam\nteam"),
    WorkloadEvent(id=2, workload="waiting", at=NOON, kind="waiting", message="for capacity"),
]
QUEUES = [
    QueueStatus(name="all", parent=None, stop=StopPolicy.OPEN, spec=QueueSpec(name="all"), waiting=0, running=0, usage=()),
    QueueStatus(
        name="team",
        parent="all",
        stop=StopPolicy.HOLD,
        spec=QueueSpec(
            name="team",
            parent="all",
            stop=StopPolicy.HOLD,
            weight=3,
            sku_order=("h100", "a100"),
            preemption=QueuePreemption(within_queue=WithinQueue.LOWER_PRIORITY),
            quotas=(QuotaSpec(sku="h100", nominal=16, over_quota_weight=2),),
        ),
        waiting=4,
        running=2,
        usage=(QueueUsage(sku="h100", nominal=16, used=24.25, borrowed=8.25),),
        warnings=("h100 is over-committed by 8",),
    ),
]
NODE_POOLS = [
    NodePoolStatus(
        id="cloud/burst",
        region="north",
        sku="h100",
        accelerators=8,
        capacity_type=CapacityType.ON_DEMAND,
        dollars_per_hour=16.0,
        lead_seconds=60,
        minimum=0,
        maximum=4,
        needed=3,
        desired=3,
        nodes=1,
        ready=1,
        coming=2,
        why="for train-7",
    )
]
NODE_ORDERS = [
    ProvisioningStatus(
        id="cloud/burst-1",
        node_pool="cloud/burst",
        nodes=2,
        arrived=0,
        state=DeliveryState.COMING,
        ordered_at=NOON,
        why="for train-7",
    )
]
FLEET = [FleetStatus(provider="cloud", region="north", sku="h100", nodes=2, ready_nodes=1, accelerators=16, used=8.5)]
CLUSTERS = [
    ClusterStatus(
        id="cloud/north/c1",
        provider="cloud",
        region="north",
        cluster="c1",
        state="suspect",
        since=NOON,
        reason="it has not answered for a while",
        heard_at=NOON - timedelta(seconds=31),
        leased_until=NOON + timedelta(seconds=570),
        lost_at=NOON + timedelta(seconds=610),
        nodes=2,
        accelerators=16,
        workloads=3,
        trail=(ClusterNote(at=NOON, state="suspect", reason="it has not answered for a while"),),
    )
]
ROUNDS = [
    RoundStatus(
        id=12,
        at=NOON,
        trigger="arrivals",
        considered=9,
        started=4,
        preempted=1,
        refused=0,
        started_accelerators=30,
        bound=40,
        gap=0.25,
        method="exact",
        improved=2,
        moved=3,
        fallback="out-of-work",
        worst_region_before=2.5,
        worst_region_after=1,
        milliseconds={"read": 1.5, "turns": 4, "improve": 20},
    ),
    RoundStatus(id=11, at=NOON, trigger="tick", considered=1, started=0, preempted=0, refused=1),
]
DATASETS = [
    DatasetStatus(name="corpus", size_gib=2048.5, regions=("north", "south"), readers=3),
    DatasetStatus(name="typo", size_gib=None, regions=(), readers=1, warnings=("is read, and is not in the catalogue",)),
]
POLICIES = [
    PolicyRecord(
        version=7,
        digest=Policy(name="ours").digest,
        policy=Policy(name="ours"),
        applied_at=NOON,
        who="ada",
        why="more for \x1b[31mresearch",
    ),
    PolicyRecord(version=3, digest=Policy().digest, policy=Policy(), applied_at=NOON),
]
NODES = [
    NodeStatus(
        id="node-1",
        provider="cloud",
        region="north",
        cluster="c1",
        sku="h100",
        health="ready",
        accelerators=8,
        used=8.0,
        capacity_type=CapacityType.SPOT,
        price=2.5,
        labels={"disk": "nvme"},
        maximum_replicas=4,
        kept_for=("night",),
    )
]
AN_OPERATION = OperationStatus(
    id="heat",
    kind=OperationKind.EVACUATION,
    subject="region cloud/north",
    state=EvacuationState.MOVING,
    version=3,
    who="ada",
    reason="too hot",
    began_at=NOON,
    due_at=NOON,
    message="2 nodes: 2 workloads are left, 1 of them leaving; 1 were told to",
    trail=(OperationNote(at=NOON, state=EvacuationState.MOVING, who="ada", reason="too \x1b[31mhot"),),
)
SCHEDULES = [
    ScheduleStatus(
        id="nightly",
        subject="evacuate cluster cloud/north/c1",
        cron="0 2 * * 0",
        time_zone="UTC",
        who="ada",
        reason="patches",
        next_at=NOON,
        ordered=3,
        left_out=2,
        missed=1,
    )
]
MANDATES = [
    MandateStatus(
        id="nightly-0123456789ab",
        schedule="nightly",
        subject="evacuate cluster cloud/north/c1",
        principal="ops",
        signed_at=NOON,
        until=NOON,
        revoked_at=NOON,
        revoked_by="ben",
        revoked_because="too much",
    )
]
OUT_OF_TURN = EvacuationOrder(
    id="nightly-now-20260131-120000", kind=PlaceKind.CLUSTER, place="cloud/north/c1", reason="patches", who="ada"
)
A_WHAT_IF = WhatIf(
    token="0123456789abcdef",
    surroundings=Surroundings(
        policy="default (0123456789ab)", queues={"team": "0123456789ab"}, supply={"cloud/north h100": 16}
    ),
    effects=(
        Effect(
            kind=EffectKind.LEAVES,
            workload="guest",
            queue="team",
            tier=SlaTier.BASIC,
            accelerators=8,
            message="makes room for waiting",
        ),
        Effect(kind=EffectKind.OVER_CAP, queue="team", accelerators=4, message="uses 8 h100, and its cap is 4"),
    ),
    needs="2 workloads would lose protection, which has to be approved",
)
FORECAST = EvacuationForecast(
    nodes=2,
    moves=(
        EvacuationMove(workload="guest", queue="team", tier=SlaTier.BASIC, accelerators=8, to="cloud/south 8 h100"),
        EvacuationMove(
            workload="stuck",
            queue="team",
            tier=SlaTier.PREMIUM,
            accelerators=8,
            reason=Reason.NOT_ENOUGH_FREE_ACCELERATORS,
            message="no room",
        ),
    ),
)
MOMENTS = [Moment(at=NOON, state=State.WAITING, message="for \x1b[31mcapacity"), Moment(at=NOON, state=State.RUNNING)]
A_WAKE_UP = WakeUp(at=NOON, why="looks at the record")
ORDERS = [OrderRecord(at=NOON, principal="ada", command="cancel", subject="workload/w", request="r1")]
DONE = Acknowledgement(state=State.WAITING, message="done")
A_RESERVATION = ReservationSpec(
    id="night", start=NOON, seconds=3600, accelerators=16, sku="h100", queues=("team",), recurrence="FREQ=DAILY"
)
RESERVATIONS = [
    ReservationStatus(
        id="night",
        state=ReservationState.OPEN,
        spec=A_RESERVATION,
        opens_at=NOON,
        closes_at=NOON + timedelta(hours=1),
        windows=3,
        kept={"cloud/node-1": 8},
        missing=8,
        cause="work of others is on cloud/node-2",
        lent=4,
        lent_accelerator_seconds=7_200,
        misses=(Miss(opens_at=NOON, at=NOON, missing=8, kind=MissKind.WORK_STAYS, cause="work of others is on cloud/node-2"),),
    )
]
RESERVED = ReservationAnswer(state=ReservationState.PLANNED, closes_at=NOON, message="planned")


class FakeCorral(Corral):
    """Remembers what it was asked; answers what it was told to answer, or raises the error it was given."""

    def __init__(self, *statuses: WorkloadStatus, error: CorralError | None = None) -> None:
        self.asked: list[tuple[object, ...]] = []
        self.submitted: list[WorkloadSpec] = []
        self.refused: dict[str, CorralError] = {}
        self.ends: dict[str, WorkloadResult] = {}
        self.findings: tuple[LintFinding, ...] = ()
        self.foreseen = A_WHAT_IF
        self.out_of_turn: EvacuationOrder | RolloutOrder = OUT_OF_TURN
        self.events_told: Sequence[WorkloadEvent] = EVENTS
        self._statuses = list(statuses or (A_WAITING_WORKLOAD,))
        self._error = error

    async def connected(self) -> Corral:
        """What a session calls to connect."""
        return self

    async def submit(self, spec: WorkloadSpec) -> Submission:
        self._note("submit", spec.id)
        if spec.id in self.refused:
            raise self.refused[spec.id]
        self.submitted.append(spec)
        return Submission(spec.id, created=spec.id != "again")

    async def status(self, workload: str) -> WorkloadStatus:
        self._note("status", workload)
        return self._next_status()

    async def explained(self, workload: str, *, names: bool = False) -> WorkloadStatus:
        self._note("explained", workload, names)
        return self._next_status()

    async def workloads(self, which: WorkloadFilter | None = None) -> list[WorkloadStatus]:
        self._note("workloads", which)
        return [self._next_status(), A_RUNNING_WORKLOAD]

    async def events(self, workload: str, after: int = 0) -> list[WorkloadEvent]:
        self._note("events", workload, after)
        return [event for event in self.events_told if event.id > after]

    async def queues(self) -> list[QueueStatus]:
        self._note("queues")
        return QUEUES

    async def apply_queues(self, tree: QueueTree) -> list[QueueStatus]:
        self._note("apply_queues", tree)
        return QUEUES

    async def datasets(self) -> list[DatasetStatus]:
        self._note("datasets")
        return DATASETS

    async def apply_datasets(self, catalogue: Catalogue) -> list[DatasetStatus]:
        self._note("apply_datasets", catalogue)
        return DATASETS

    async def policies(self, limit: int = 100) -> list[PolicyRecord]:
        self._note("policies", limit)
        return POLICIES[:limit]

    async def apply_policy(self, policy: Policy, *, who: str = "", why: str = "") -> PolicyAnswer:
        self._note("apply_policy", policy, who, why)
        record = PolicyRecord(version=8, digest=policy.digest, policy=policy, applied_at=NOON, who=who, why=why)
        return PolicyAnswer(record=record, findings=self.findings)

    async def node_pools(self) -> list[NodePoolStatus]:
        self._note("node_pools")
        return NODE_POOLS

    async def provisionings(self, limit: int = 20) -> list[ProvisioningStatus]:
        self._note("provisionings", limit)
        return NODE_ORDERS

    async def fleet(self) -> list[FleetStatus]:
        self._note("fleet")
        return FLEET

    async def rounds(self, limit: int = 20) -> list[RoundStatus]:
        self._note("rounds", limit)
        return ROUNDS[:limit]

    async def clusters(self) -> list[ClusterStatus]:
        self._note("clusters")
        return CLUSTERS

    async def declare_lost(self, order: LostCluster) -> list[ClusterStatus]:
        self._note("declare_lost", order)
        return CLUSTERS

    async def nodes(self) -> list[NodeStatus]:
        self._note("nodes")
        return NODES

    async def cancel(self, workload: str, reason: str = "", *, key: str | None = None) -> Acknowledgement:
        return self._changed("cancel", workload, reason)

    async def hold(self, workload: str, reason: str = "", *, key: str | None = None) -> Acknowledgement:
        return self._changed("hold", workload, reason)

    async def release(self, workload: str, *, key: str | None = None) -> Acknowledgement:
        return self._changed("release", workload)

    async def resize(self, workload: str, resize: Resize, *, key: str | None = None) -> Acknowledgement:
        return self._changed("resize", workload, resize)

    async def demand(self, workload: str, demand: Demand, *, key: str | None = None) -> Acknowledgement:
        return self._changed("demand", workload, demand)

    async def checkpointed(self, workload: str, *, key: str | None = None) -> Acknowledgement:
        return self._changed("checkpointed", workload)

    async def retarget(self, workload: str, retarget: Retarget, *, key: str | None = None) -> Acknowledgement:
        return self._changed("retarget", workload, retarget)

    async def extend(self, workload: str, seconds: int, *, key: str | None = None) -> Acknowledgement:
        return self._changed("extend", workload, seconds)

    async def tell_demand(self, workload: str, demand: Demand, *, key: str | None = None) -> None:
        self._note("tell_demand", workload, demand)

    async def tell_checkpointed(self, workload: str, *, key: str | None = None) -> None:
        self._note("tell_checkpointed", workload)

    async def wake(self, workload: str) -> None:
        self._note("wake", workload)

    async def history(self, workload: str) -> list[Moment]:
        self._note("history", workload)
        return MOMENTS

    async def next_wake_up(self, workload: str) -> WakeUp | None:
        self._note("next_wake_up", workload)
        return None if workload == "quiet" else A_WAKE_UP

    async def reprioritize(self, workload: str, priority: int, *, key: str | None = None) -> Acknowledgement:
        return self._changed("reprioritize", workload, priority)

    async def cordon(self, provider: str, order: Cordon, *, key: str | None = None) -> list[NodeStatus]:
        self._note("cordon", provider, order)
        return NODES

    async def reserve(self, spec: ReservationSpec) -> ReservationAnswer:
        self._note("reserve", spec)
        if spec.id in self.refused:
            raise self.refused[spec.id]
        return RESERVED

    async def reservations(self) -> list[ReservationStatus]:
        self._note("reservations")
        return RESERVATIONS

    async def reservation(self, reservation: str) -> ReservationStatus:
        self._note("reservation", reservation)
        return RESERVATIONS[0]

    async def extend_reservation(self, reservation: str, seconds: int, *, key: str | None = None) -> ReservationAnswer:
        self._note("extend_reservation", reservation, seconds)
        return RESERVED

    async def cancel_reservation(self, reservation: str, reason: str = "", *, key: str | None = None) -> ReservationAnswer:
        self._note("cancel_reservation", reservation, reason)
        return RESERVED

    async def foresee_evacuation(self, order: EvacuationOrder) -> EvacuationForecast:
        self._note("foresee_evacuation", order)
        return FORECAST

    async def evacuate(self, order: EvacuationOrder) -> Submission:
        self._note("evacuate", order)
        return Submission(order.id, created=True)

    async def orders(self, subject: str | None = None, limit: int = 100) -> list[OrderRecord]:
        self._note("orders", subject, limit)
        return ORDERS

    async def what_if(self, change: Change) -> WhatIf:
        self._note("what_if", change)
        return self.foreseen

    async def roll_out(self, order: RolloutOrder) -> Submission:
        self._note("roll_out", order)
        return Submission(order.id, created=True)

    async def schedule(self, spec: ScheduleSpec) -> list[ScheduleStatus]:
        self._note("schedule", spec)
        return SCHEDULES

    async def schedules(self) -> list[ScheduleStatus]:
        self._note("schedules")
        return SCHEDULES

    async def unschedule(self, id: str) -> list[ScheduleStatus]:
        self._note("unschedule", id)
        return SCHEDULES

    async def order_now(self, id: str, *, who: str, reason: str = "") -> EvacuationOrder | RolloutOrder:
        self._note("order_now", id, who, reason)
        return self.out_of_turn

    async def mandates(self, limit: int = 100) -> list[MandateStatus]:
        self._note("mandates", limit)
        return MANDATES

    async def revoke(self, order: Revocation) -> list[MandateStatus]:
        self._note("revoke", order)
        return MANDATES

    async def operations(self, limit: int = 20) -> list[OperationStatus]:
        self._note("operations", limit)
        return [AN_OPERATION]

    async def operation(self, id: str) -> OperationStatus:
        self._note("operation", id)
        return AN_OPERATION

    async def steer_operation(
        self, id: str, verb: Steering, change: OperationChange, *, key: str | None = None
    ) -> OperationStatus:
        self._note(verb, id, change)
        return AN_OPERATION

    async def wait(self, workload: str) -> WorkloadResult:
        self._note("wait", workload)
        return self.ends.get(workload, WorkloadResult(id=workload, state=State.SUCCEEDED, exit_code=0))

    def _note(self, *question: object) -> None:
        self.asked.append(question)
        if self._error:
            raise self._error

    def _changed(self, *question: object) -> Acknowledgement:
        self._note(*question)
        return DONE

    def _next_status(self) -> WorkloadStatus:
        """The statuses in turn; when all have been told and the last is not an end, nobody answers any more."""
        if not self._statuses:
            raise Unreachable("nobody answers any more")
        return self._statuses.pop(0)


def run(corral: FakeCorral, *arguments: str, given: bytes = b"", terminal: bool = False) -> Result:
    """Run a command in front of a Corral, with what is given on the standard input."""
    environment = {"FORCE_COLOR": "1" if terminal else None, "COLUMNS": "80", "CORRAL_POOL": None}
    return CliRunner(env=environment).invoke(
        app, arguments, input=given, obj=Session(corral.connected), prog_name="corral", catch_exceptions=False
    )
