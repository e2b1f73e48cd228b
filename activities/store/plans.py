"""Writing down a round: newly submitted workloads, and everything that the plan decided, in one transaction."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from activities.answers import Notice
from activities.store import tables
from activities.store.attempts import drop_followers, end_attempt, give_back, keep_promises
from activities.store.bulk import among, insert_new_rows, insert_rows
from activities.store.leaving import give_notice, let_wait, take_notice_back
from activities.store.penalties import write_entries
from activities.store.reservations import LATE_SECONDS, write_bookings, write_look_at
from activities.store.rows import FIRST_VERSION, AttemptRow, Journal, WorkloadRow, interval, place_of, waits_for_room
from activities.store.snapshots import WorldRows
from activities.store.steps import Steps
from corral.api import Explanation, FixKind, FixSearch, Outcome, Reason, State, WorkloadSpec
from domain.decision import Change, Decision, Keep, Plan, Refuse, Reshape, Start, StartAfter, Stop, Wait
from domain.explanation.answers import is_same
from domain.pool.fleet import Node, NodeShare, Placement
from domain.pool.lifecycle import BEFORE_BINDING
from domain.pool.parts import only, replicas_at
from domain.quota.accounting import IntervalKind
from domain.quota.penalties import Entry, charges, settlement

CLAIMED, PROMISED = "claimed", "promised"


@dataclass(frozen=True, slots=True)
class RoundRecord:
    """What is kept of a round beside its decisions; milliseconds by step."""

    pool: str
    trigger: str
    milliseconds: Mapping[str, float]


async def register(
    connection: AsyncConnection, journal: Journal, specs: Sequence[WorkloadSpec], traces: Mapping[str, str]
) -> dict[str, WorkloadRow]:
    """Write workloads that are not there yet, with their traces by id; answers with those that this call wrote, by id.

    A workload that is there already, with whatever spec, is left as it is.
    """
    if not specs:
        return {}
    rows = [_new_row(spec, journal, traces.get(spec.id)) for spec in specs]
    found = await insert_new_rows(connection, tables.workloads, [_values(row) for row in rows], "id")
    inserted = {row.id for row in found}
    written = {row.id: row for row in rows if row.id in inserted}
    for row in written.values():
        journal.note(row.id, "submitted", f"submitted to queue {row.queue} as {row.tier}")
        journal.intervals_opened[row.id] = [interval(row, IntervalKind.WAITING, row.submitted_at)]
    return written


def _new_row(spec: WorkloadSpec, journal: Journal, trace: str | None) -> WorkloadRow:
    return WorkloadRow(
        id=spec.id,
        spec=spec.model_dump(mode="json"),
        digest=spec.digest,
        queue=spec.queue,
        tier=spec.tier,
        priority=spec.priority,
        state=State.WAITING,
        epoch=0,
        version=FIRST_VERSION,
        submitted_at=journal.now,
        since=journal.now,
        trace=trace,
    )


def _values(row: WorkloadRow) -> dict[str, Any]:
    return {column.name: getattr(row, column.name) for column in tables.workloads.columns if column.name != "changed"}


@dataclass
class PlanWriter:
    """Writes one plan into the transaction that read its snapshot."""

    connection: AsyncConnection
    journal: Journal
    world: WorldRows
    record: RoundRecord
    ours: Collection[str]
    """Workloads whose workflow gets its answer from this very activity, and needs no notice."""
    steps: Steps = field(default_factory=Steps)
    held: list[AttemptRow] = field(default_factory=list)
    allocations: list[dict[str, Any]] = field(default_factory=list)
    ended: list[AttemptRow] = field(default_factory=list)
    charged: list[Entry] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.nodes = self.world.nodes
        self.workloads = self.world.workloads
        self.promised: set[str] = set()
        self.graces: dict[str, int] = {}
        self.compared: dict[tuple[int, int], bool] = {}
        self.documents: dict[int, dict[str, Any]] = {}

    async def write(self, plan: Plan) -> list[Notice]:
        """Write holds, preemptions, refusals and explanations with the round's record.

        Raises:
            sqlalchemy.exc.DBAPIError: the world changed since the snapshot, or the plan would oversubscribe a node.
        """
        with self.steps.step("commit: what changed"):
            self._reassess(plan)
            changed = [decision for decision in plan.decisions if not self._is_unchanged_wait(decision)]
        await write_entries(self.connection, [settlement(charge) for charge in self.world.shown])
        if changed or plan.reshapes or plan.stops or plan.keeps:
            await self._write_round(plan, changed)
        if plan.bookings:
            late = timedelta(seconds=LATE_SECONDS / self.journal.clock.wall_seconds(1))
            await write_bookings(self.connection, plan.bookings, self.world.snapshot.bookings, self.journal.now, late)
        if plan.look_at != self.world.look_at:
            await write_look_at(self.connection, self.record.pool, plan.look_at)
        return await self.journal.write(self.connection, self.steps)

    async def _write_round(self, plan: Plan, changed: Sequence[Decision]) -> None:
        round_id = await self._insert_round(plan)
        given_up = await self._keep(plan.keeps)
        with self.steps.step("commit: what changed"):
            self._carry_out(plan, changed, round_id)
        with self.steps.step("commit: holds"):
            await self._insert_holds()
            await write_entries(self.connection, self.charged)
            await self._take_quota()
            await give_back(self.connection, self.journal, self.ended)
            await keep_promises(self.connection, self.journal, given_up, ())
        with self.steps.step("commit: decisions"):
            orders: list[Reshape | Stop | Keep] = [*plan.reshapes, *plan.stops, *self._kept_for_good(plan)]
            records = [self._decision_row(round_id, decision) for decision in changed]
            records += [self._record_of(round_id, order) for order in orders]
            await insert_rows(self.connection, tables.decisions, records)

    async def _keep(self, keeps: Sequence[Keep]) -> set[str]:
        """Let those stay who leave for nobody; answers with the nodes on which they were to go on, which are free of them."""
        if not keeps:
            return set()
        gone = await why_gone(self.connection, {keep.beneficiary for keep in keeps})
        staying = [self.world.attempts[keep.attempt_id] for keep in keeps]
        for keep, attempt in zip(keeps, staying, strict=True):
            row, cause = self.workloads[attempt.workload_id], f"the work that it was to leave for {gone[keep.beneficiary]}"
            for known in self.world.demand.attempts_of(row.id):
                self.journal.know(known)
            take_notice_back(self.journal, row, attempt, cause)
        return await drop_followers(self.connection, self.journal, [attempt.workload_id for attempt in staying])

    def _kept_for_good(self, plan: Plan) -> list[Keep]:
        """Those who stay, without whom the same round gave another notice."""
        return [keep for keep in plan.keeps if self.journal.attempts[keep.attempt_id].stop_at is None]

    def _carry_out(self, plan: Plan, changed: Sequence[Decision], round_id: int) -> None:
        for decision in changed:
            match decision:
                case Start() | StartAfter():
                    self._hold(decision, (*plan.reshapes, *plan.stops))
                case Wait():
                    self._explain(decision.workload_id, decision.explanation, round_id)
                case Refuse():
                    self._refuse(decision.workload_id, decision.explanation, round_id)
        followers = [self._follower(reshape) for reshape in plan.reshapes]
        for reshape, follower in zip(plan.reshapes, followers, strict=True):
            self._reshape(reshape, follower)
        for stop in plan.stops:
            self._stop(stop)

    def _reassess(self, plan: Plan) -> None:
        """Begin another interval of the ledger for whom quota covers now and did not, or the reverse, and after a back-off."""
        over_quota = plan.over_quota
        misjudged = self.world.over_quota ^ over_quota if plan.misjudged is None else plan.misjudged
        others = {id for id in misjudged if id in self.workloads} - self.world.backing_off
        for id in sorted(self.world.backed_off | others):
            row = self.workloads[id]
            backed_off_until = row.not_before if id in self.world.backed_off else None
            changed = self.journal.change(row, over_quota=id in over_quota, not_before=None)
            attempt = self.world.bound(id)
            self.journal.account(changed, _doing(row, attempt), at=backed_off_until, attempt=attempt)

    def _is_unchanged_wait(self, decision: Decision) -> bool:
        if not isinstance(decision, Wait):
            return False
        said, says = self.world.said(decision.workload_id), decision.explanation
        if said is None:
            return False
        # Those who wait alike were told the same and are told the same: two objects that are compared once.
        if (known := self.compared.get((id(said), id(says)))) is None:
            known = self.compared[id(said), id(says)] = _same(said, says)
        return known

    async def _insert_round(self, plan: Plan) -> int:
        inserted = await self.connection.execute(
            insert(tables.rounds).returning(tables.rounds.c.id),
            {
                "pool": self.record.pool,
                "at": self.journal.now,
                "trigger": self.record.trigger,
                "considered": len(plan.decisions) + plan.as_before,
                "started": len(plan.starts),
                "preempted": len(plan.preempts),
                "refused": sum(isinstance(decision, Refuse) for decision in plan.decisions),
                "reshaped": len(plan.reshapes),
                "stopped": len(plan.stops),
                "policy": self.world.snapshot.policy.digest,
                "milliseconds": dict(self.record.milliseconds),
                "quality": asdict(plan.quality) | {"gap": plan.quality.gap} if plan.quality else None,
            },
        )
        return int(inserted.scalar_one())

    def _hold(self, decision: Start | StartAfter, orders: Collection[Reshape | Stop]) -> None:
        row = self.workloads[decision.workload_id]
        attempt = self._new_attempt(row, decision.placement)
        seconds = self.world.snapshot.policy.rank.fairness.charged_seconds
        self.charged += charges(row.id, attempt.epoch, row.queue, attempt.by_sku, seconds)
        victims = decision.victims if isinstance(decision, StartAfter) else ()
        leaving = len(victims) + sum(order.beneficiary == row.id for order in orders)
        if leaving or self._is_promised(attempt):
            state, message = State.RESERVING, _promised(decision, attempt, leaving)
            waiting = Explanation(reason=Reason.WAITING_FOR_VICTIMS, message=message)
            explanation: dict[str, Any] | None = waiting.model_dump(mode="json")
        else:
            why = f" ({decision.in_words})" if isinstance(decision, Start) and decision.terms else ""
            state, message, explanation = State.RESERVED, f"{place_of(attempt)} held{why}", None
        self.journal.move(row, state, message, epoch=attempt.epoch, explanation=explanation)
        self._tell(row.id)
        for victim in victims:
            self._give_notice(victim, "has notice to leave for work of higher rank", Outcome.PREEMPTED, beneficiary=attempt.id)

    def _follower(self, reshape: Reshape) -> AttemptRow:
        """Promise the workload its capacity in the new shape, from now on."""
        leaving = self.world.attempts[reshape.attempt_id]
        return self._new_attempt(self.workloads[leaving.workload_id], reshape.placement, follows=leaving.id)

    def _reshape(self, reshape: Reshape, follower: AttemptRow) -> None:
        outcome = Outcome.MIGRATED if reshape.change is Change.MIGRATE else Outcome.RESIZED
        beneficiary = self._promised_to(reshape.beneficiary)
        reason = f", so that {reshape.trade.in_words}" if reshape.trade else f": {reshape.why}" if reshape.why else ""
        self.journal.note(follower.workload_id, reshape.change, f"goes on with {place_of(follower)}{reason}")
        more = self._added_in_place(reshape)
        if more and not all(map(self._is_free, more)):
            self._let_wait(self.world.attempts[reshape.attempt_id], follower)
            return
        state = State.STOPPING if more is None else State.RESIZING
        message = f"has notice to go on with {place_of(follower)}"
        self._give_notice(reshape.attempt_id, message, outcome, state, beneficiary=beneficiary, reason=reshape.reason)

    def _let_wait(self, attempt: AttemptRow, follower: AttemptRow) -> None:
        """Have work grow as it runs once those have left who are to make room for that."""
        row = self.journal.workloads.get(attempt.workload_id, self.workloads[attempt.workload_id])
        let_wait(self.journal, self.journal.attempts.get(attempt.id, attempt))
        why = waits_for_room(follower).model_dump(mode="json")
        self.journal.move(row, State.RESIZING, f"is to go on with {place_of(follower)} when others have left", explanation=why)
        self.journal.tell(row.id)

    def _added_in_place(self, reshape: Reshape) -> tuple[NodeShare, ...] | None:
        """What work gets besides the replicas with which it goes on as it runs: those of an endpoint do not need each other.

        Empty where it goes on with some of them alone; none where it has to start anew.
        """
        attempt = self.world.attempts[reshape.attempt_id]
        row = self.journal.workloads.get(attempt.workload_id, self.workloads[attempt.workload_id])
        spec = row.parsed()
        if row.state is not State.RUNNING or spec.autoscale is None:
            return None
        active = next(active for active in self.world.snapshot.active if active.attempt_id == reshape.attempt_id)
        has, gets = replicas_at(active.placement.shares), replicas_at(reshape.placement.shares)
        more = only(reshape.placement, spec, ((replica.group, replica.index) for _, replica in gets - has))
        return more.shares if gets < has or has < gets else None

    def _stop(self, stop: Stop) -> None:
        outcome = Outcome.PREEMPTED if stop.reason is Reason.PREEMPTED else Outcome.STOPPED
        message, beneficiary = f"has notice to leave: {stop.why or stop.reason}", self._promised_to(stop.beneficiary)
        self._give_notice(stop.attempt_id, message, outcome, reason=stop.reason, beneficiary=beneficiary)

    def _promised_to(self, workload: str | None) -> str | None:
        """The attempt by which the workload gets its place in this round."""
        return next((held.id for held in self.held if held.workload_id == workload), None)

    def _new_attempt(self, row: WorkloadRow, placement: Placement, follows: str | None = None) -> AttemptRow:
        attempt = AttemptRow(
            id=f"{row.id}.{row.epoch + 1}",
            workload_id=row.id,
            epoch=row.epoch + 1,
            provider=placement.provider,
            region=placement.region,
            cluster=self.nodes[placement.shares[0].node_id].cluster,
            sku=placement.sku,
            by_sku=placement.by_sku,
            cost_by_sku=_hourly_cost(placement, self.nodes),
            target=placement.target,
            milli=placement.milli,
            replicas=placement.replicas,
            held_at=self.journal.now,
            follows=follows,
        )
        self.journal.know(attempt)
        self.held.append(attempt)
        allocations = self._allocations(attempt, placement)
        self.allocations += allocations
        if any(row["phase"] == PROMISED for row in allocations):
            self.promised.add(attempt.id)
        return attempt

    def _is_promised(self, attempt: AttemptRow) -> bool:
        return attempt.id in self.promised

    def _give_notice(
        self, attempt_id: str, message: str, stop_as: Outcome, state: State = State.STOPPING, **order: str | None
    ) -> None:
        """Order an attempt to stop; its workflow does the rest. `order`: for whom (`beneficiary`), or why (`reason`).

        One that only holds capacity ends at once: nothing runs.
        """
        attempt = self.journal.attempts.get(attempt_id, self.world.attempts[attempt_id])
        row = self.journal.workloads.get(attempt.workload_id, self.workloads[attempt.workload_id])
        attempt = give_notice(self.journal, attempt, stop_as, **order)
        if (beneficiary := order.get("beneficiary")) is not None:
            self.graces[beneficiary] = max(self.graces.get(beneficiary, 0), row.spec["checkpoint"]["grace_seconds"])
        if row.state in BEFORE_BINDING:
            end_attempt(self.journal, row, attempt, stop_as, None)
            self.ended.append(attempt)
            return
        preemptions = row.preemptions + (stop_as is Outcome.PREEMPTED)
        self.journal.move(row, state, message, preemptions=preemptions)
        self.journal.tell(row.id)

    def _explain(self, workload: str, explanation: Explanation, round_id: int) -> None:
        row = self.workloads[workload]
        before = self.world.said(workload)
        self.journal.change(row, explanation=self._stamped(explanation, round_id))
        if before is None or before.reason is not explanation.reason:
            self.journal.note(workload, "explained", f"{explanation.reason}: {explanation.message}")
            self._tell(workload)
        elif _has_other_advice(before, explanation):
            self._tell(workload)

    def _refuse(self, workload: str, explanation: Explanation, round_id: int) -> None:
        row = self.workloads[workload]
        message = f"{explanation.reason}: {explanation.message}"
        stamped = self._stamped(explanation, round_id)
        self.journal.account(self.journal.move(row, State.REFUSED, message, explanation=stamped), None)
        self._tell(workload)

    def _stamped(self, explanation: Explanation, round_id: int) -> dict[str, Any]:
        return self._document(explanation) | {"round_id": round_id, "as_of": self.journal.now.isoformat()}

    def _document(self, explanation: Explanation) -> dict[str, Any]:
        """The explanation as JSON; those who wait alike have the same one, which is written out once."""
        if (document := self.documents.get(id(explanation))) is None:
            document = self.documents[id(explanation)] = explanation.model_dump(mode="json", exclude={"round_id", "as_of"})
        return document

    def _tell(self, workload: str) -> None:
        if workload not in self.ours:
            self.journal.tell(workload)

    async def _insert_holds(self) -> None:
        if not self.held:
            return
        holds = [
            {"attempt_id": attempt.id, "epoch": attempt.epoch, "expires_at": self._expires(attempt)} for attempt in self.held
        ]
        await insert_rows(self.connection, tables.attempts, [_attempt_values(attempt) for attempt in self.held])
        await insert_rows(self.connection, tables.holds, holds)
        # Sorted, so that two plans never wait for each other's nodes in a circle.
        await insert_rows(self.connection, tables.allocations, sorted(self.allocations, key=lambda row: str(row["node_id"])))

    def _expires(self, attempt: AttemptRow) -> datetime:
        """When a hold ends: what is promised, is so beyond the grace of those who leave it."""
        seconds = self.world.snapshot.policy.hold_seconds + self.graces.get(attempt.id, 0)
        return self.journal.now + timedelta(seconds=seconds)

    async def _take_quota(self) -> None:
        if self.held:
            parents = {queue.name: queue.parent for queue in self.world.snapshot.queues}
            roots = {_root(self.workloads[attempt.workload_id].queue, parents) for attempt in self.held}
            await self.connection.execute(
                update(tables.queues).where(among(tables.queues.c.name, roots)).values(plans=tables.queues.c.plans + 1)
            )

    def _allocations(self, attempt: AttemptRow, placement: Placement) -> list[dict[str, Any]]:
        return [
            {
                "attempt_id": attempt.id,
                "node_id": share.node_id,
                "sku": share.sku or placement.sku,
                "phase": CLAIMED if self._is_free(share) else PROMISED,
                "epoch": attempt.epoch,
                "uses": list(share.room.devices),
                "cpu_milli": share.room.cpu_milli,
                "memory_mib": share.room.memory_mib,
                "replicas": [[replica.group, replica.index, list(replica.devices)] for replica in share.replicas],
            }
            for share in placement.shares
        ]

    def _is_free(self, share: NodeShare) -> bool:
        left = self.nodes[share.node_id].free - share.room
        has_room = min(left.devices, default=0) >= 0 and left.cpu_milli >= 0 and left.memory_mib >= 0
        return has_room and len(share.replicas) <= self.world.replicas_left.get(share.node_id, len(share.replicas))

    def _decision_row(self, round_id: int, decision: Decision) -> dict[str, Any]:
        explanation = decision.explanation if isinstance(decision, Wait | Refuse) else None
        return {
            "round_id": round_id,
            "workload_id": decision.workload_id,
            "outcome": type(decision).__name__,
            "reason": explanation.reason if explanation else None,
            "detail": self._document(explanation) if explanation else _detail(decision),
        }

    def _record_of(self, round_id: int, order: Reshape | Stop | Keep) -> dict[str, Any]:
        """What is kept of an order to work that runs."""
        detail: dict[str, Any] = {"attempt": order.attempt_id}
        if isinstance(order, Keep):
            detail |= {"beneficiary": order.beneficiary}
        if isinstance(order, Reshape):
            detail |= {"change": order.change, "beneficiary": order.beneficiary, **_place(order.placement)}
            detail |= {"trade": asdict(order.trade)} if order.trade else {}
        return {
            "round_id": round_id,
            "workload_id": self.world.attempts[order.attempt_id].workload_id,
            "outcome": type(order).__name__,
            "reason": None if isinstance(order, Keep) else order.reason,
            "detail": detail,
        }


async def why_gone(connection: AsyncConnection, attempts: Collection[str]) -> dict[str, str]:
    """What became of attempts that have ended, in words, without the name of any."""
    columns = tables.attempts.c
    found = await connection.execute(select(columns.id, columns.outcome).where(among(columns.id, attempts)))
    return dict.fromkeys(attempts, "is gone") | {row.id: _GONE.get(row.outcome, f"is gone ({row.outcome})") for row in found}


_GONE = {
    Outcome.CANCELLED: "was cancelled",
    Outcome.SUSPENDED: "is held",
    Outcome.RESIZED: "was resized",
    Outcome.EXPIRED: "was promised it for too long",
}


def _doing(row: WorkloadRow, attempt: AttemptRow | None) -> IntervalKind:
    """What the ledger says of a live workload that is not suspended."""
    if attempt is None:
        return IntervalKind.WAITING
    return IntervalKind.RUNNING if attempt.started_at else IntervalKind.STARTING


def _hourly_cost(placement: Placement, nodes: Mapping[str, Node]) -> dict[str, int]:
    """Nanodollars an hour by SKU: thousandths of an accelerator times the prices of their nodes."""
    costs = dict.fromkeys(placement.by_sku, 0)
    for share in placement.shares:
        costs[share.sku or placement.sku] += share.room.milli * nodes[share.node_id].price
    return costs


def _root(queue: str, parents: Mapping[str, str | None]) -> str:
    while (parent := parents.get(queue)) is not None:
        queue = parent
    return queue


def _same(said: Explanation, says: Explanation) -> bool:
    return is_same(said, says) and not _has_other_advice(said, says)


def _has_other_advice(said: Explanation, says: Explanation) -> bool:
    """Whether there is advice of another kind; numbers in it may change with every second, and rounds need not seek any."""
    return says.fix_search is not None and _advice(said) != _advice(says)


def _advice(told: Explanation) -> tuple[FixSearch | None, list[FixKind]]:
    return told.fix_search, [fix.kind for fix in told.fixes]


def _attempt_values(attempt: AttemptRow) -> dict[str, Any]:
    return {column.name: getattr(attempt, column.name) for column in tables.attempts.columns}


def _place(placement: Placement) -> dict[str, Any]:
    return {"by_sku": placement.by_sku, "region": placement.region, "target": placement.target}


def _promised(decision: Start | StartAfter, attempt: AttemptRow, leaving: int) -> str:
    said = f"{place_of(attempt)} promised; {leaving} workloads must make room first"
    proof = decision.proof if isinstance(decision, StartAfter) else None
    return f"{said} ({proof.in_words})" if proof else said


def _detail(decision: Decision) -> dict[str, Any]:
    """What is kept of a decision to start."""
    detail: dict[str, Any] = {}
    if isinstance(decision, Start | StartAfter):
        detail = _place(decision.placement)
    if isinstance(decision, Start) and decision.terms:
        detail["goals"] = dict(decision.terms)
    if isinstance(decision, StartAfter):
        detail["victims"] = list(decision.victims)
        if decision.proof is not None:
            detail["proof"] = asdict(decision.proof) | {"gap": decision.proof.gap}
    return detail
