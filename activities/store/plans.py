"""Writing down a round: newly submitted workloads, and everything that the plan decided, in one transaction."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from activities.answers import Notice
from activities.store import tables
from activities.store.rows import FIRST_VERSION, AttemptRow, Journal, WorkloadRow, interval, place_of
from activities.store.snapshots import WorldRows
from corral.api import Explanation, Outcome, Reason, State, WorkloadSpec
from domain.accounting import IntervalKind
from domain.decision import Plan, Refuse, Start, StartAfter, Wait
from domain.fleet import Node, NodeShare, Placement


@dataclass(frozen=True, slots=True)
class RoundRecord:
    """What is kept of a round beside its decisions; milliseconds by step."""

    pool: str
    trigger: str
    milliseconds: Mapping[str, float]


async def register(connection: AsyncConnection, journal: Journal, specs: Sequence[WorkloadSpec]) -> dict[str, WorkloadRow]:
    """Write workloads that are not there yet; answers with those that this call wrote, by id.

    A workload that is there already, with whatever spec, is left as it is.
    """
    if not specs:
        return {}
    rows = [_new_row(spec, journal) for spec in specs]
    statement = insert(tables.workloads).on_conflict_do_nothing().returning(tables.workloads.c.id)
    inserted = frozenset((await connection.scalars(statement, [_values(row) for row in rows])).all())
    written = {row.id: row for row in rows if row.id in inserted}
    for row in written.values():
        journal.note(row.id, "submitted", f"submitted to queue {row.queue} as {row.tier}")
        journal.intervals_opened.append(interval(row, IntervalKind.WAITING, row.submitted_at))
    return written


def _new_row(spec: WorkloadSpec, journal: Journal) -> WorkloadRow:
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
    )


def _values(row: WorkloadRow) -> dict[str, Any]:
    return {column.name: getattr(row, column.name) for column in tables.workloads.columns}


@dataclass
class PlanWriter:
    """Writes one plan into the transaction that read its snapshot."""

    connection: AsyncConnection
    journal: Journal
    world: WorldRows
    record: RoundRecord
    ours: Collection[str]
    """Workloads whose workflow gets its answer from this very activity, and needs no notice."""

    async def write(self, plan: Plan) -> list[Notice]:
        """Write holds, preemptions, refusals and explanations with the round's record.

        Raises:
            sqlalchemy.exc.DBAPIError: the world changed since the snapshot, or the plan would oversubscribe a node.
        """
        changed = [decision for decision in plan.decisions if not self._is_unchanged_wait(decision)]
        if not changed:
            return await self.journal.write(self.connection)
        round_id = await self._insert_round(plan)
        nodes = {node.id: node for node in self.world.snapshot.nodes}
        held: list[AttemptRow] = []
        allocations: list[dict[str, Any]] = []
        for decision in changed:
            match decision:
                case Start() | StartAfter():
                    attempt = self._hold(decision)
                    held.append(attempt)
                    allocations.extend(_allocations(attempt, decision.placement, nodes))
                case Wait():
                    self._explain(decision.workload_id, decision.explanation, round_id)
                case Refuse():
                    self._refuse(decision.workload_id, decision.explanation, round_id)
        await self._insert_holds(held, allocations)
        await self._take_quota(held)
        await self.connection.execute(insert(tables.decisions), [_decision_row(round_id, decision) for decision in changed])
        return await self.journal.write(self.connection)

    def _is_unchanged_wait(self, decision: Start | StartAfter | Wait | Refuse) -> bool:
        if not isinstance(decision, Wait):
            return False
        known = self.world.workloads[decision.workload_id].explanation
        said = Explanation.model_validate(known) if known else None
        return said is not None and _same(said, decision.explanation)

    async def _insert_round(self, plan: Plan) -> int:
        inserted = await self.connection.execute(
            insert(tables.rounds).returning(tables.rounds.c.id),
            {
                "pool": self.record.pool,
                "at": self.journal.now,
                "trigger": self.record.trigger,
                "considered": len(plan.decisions),
                "started": len(plan.starts),
                "preempted": len(plan.preempts),
                "refused": sum(isinstance(decision, Refuse) for decision in plan.decisions),
                "policy": self.world.snapshot.policy.digest,
                "milliseconds": dict(self.record.milliseconds),
            },
        )
        return int(inserted.scalar_one())

    def _hold(self, decision: Start | StartAfter) -> AttemptRow:
        row = self.world.workloads[decision.workload_id]
        placement = decision.placement
        clusters = {node.id: node.cluster for node in self.world.snapshot.nodes}
        attempt = AttemptRow(
            id=f"{row.id}.{row.epoch + 1}",
            workload_id=row.id,
            epoch=row.epoch + 1,
            provider=placement.provider,
            region=placement.region,
            cluster=clusters[placement.shares[0].node_id],
            sku=placement.sku,
            by_sku=placement.by_sku,
            target=placement.target,
            milli=placement.milli,
            replicas=placement.replicas,
            held_at=self.journal.now,
        )
        if isinstance(decision, StartAfter):
            state, message = (
                State.RESERVING,
                f"{place_of(attempt)} promised; {len(decision.victims)} workloads must leave first",
            )
            waiting = Explanation(reason=Reason.WAITING_FOR_VICTIMS, message=message)
            explanation: dict[str, Any] | None = waiting.model_dump(mode="json")
        else:
            state, message, explanation = State.RESERVED, f"{place_of(attempt)} held", None
        self.journal.move(row, state, message, epoch=attempt.epoch, explanation=explanation)
        self.journal.opened[row.id] = attempt
        self._tell(row.id)
        if isinstance(decision, StartAfter):
            for victim in decision.victims:
                self._give_notice(victim, attempt.id)
        return attempt

    def _give_notice(self, victim: str, beneficiary: str) -> None:
        attempt = self.world.attempts[victim]
        row = self.world.workloads[attempt.workload_id]
        self.journal.attempt(attempt, stop_at=self.journal.now, stop_as=Outcome.PREEMPTED, beneficiary=beneficiary)
        self.journal.move(row, State.STOPPING, "has notice to leave for work of higher rank", preemptions=row.preemptions + 1)
        self.journal.tell(row.id)

    def _explain(self, workload: str, explanation: Explanation, round_id: int) -> None:
        row = self.world.workloads[workload]
        stamped = explanation.model_copy(update={"round_id": round_id, "as_of": self.journal.now})
        before = Explanation.model_validate(row.explanation) if row.explanation else None
        self.journal.change(row, explanation=stamped.model_dump(mode="json"))
        if before is None or before.reason is not explanation.reason:
            self.journal.note(workload, "explained", f"{explanation.reason}: {explanation.message}")
            self._tell(workload)
        elif _has_other_fixes(before, explanation):
            self._tell(workload)

    def _refuse(self, workload: str, explanation: Explanation, round_id: int) -> None:
        row = self.world.workloads[workload]
        stamped = explanation.model_copy(update={"round_id": round_id, "as_of": self.journal.now})
        message = f"{explanation.reason}: {explanation.message}"
        self.journal.account(self.journal.move(row, State.REFUSED, message, explanation=stamped.model_dump(mode="json")), None)
        self._tell(workload)

    def _tell(self, workload: str) -> None:
        if workload not in self.ours:
            self.journal.tell(workload)

    async def _insert_holds(self, attempts: list[AttemptRow], allocations: list[dict[str, Any]]) -> None:
        if not attempts:
            return
        expires = self.journal.now + timedelta(seconds=self.world.snapshot.policy.hold_seconds)
        await self.connection.execute(insert(tables.attempts), [_attempt_values(attempt) for attempt in attempts])
        await self.connection.execute(
            insert(tables.holds),
            [{"attempt_id": attempt.id, "epoch": attempt.epoch, "expires_at": expires} for attempt in attempts],
        )
        # Sorted, so that two plans never wait for each other's nodes in a circle.
        await self.connection.execute(insert(tables.allocations), sorted(allocations, key=lambda row: str(row["node_id"])))

    async def _take_quota(self, attempts: list[AttemptRow]) -> None:
        if attempts:
            parents = {queue.name: queue.parent for queue in self.world.snapshot.queues}
            roots = {_root(self.world.workloads[attempt.workload_id].queue, parents) for attempt in attempts}
            await self.connection.execute(
                update(tables.queues).where(tables.queues.c.name.in_(sorted(roots))).values(plans=tables.queues.c.plans + 1)
            )


def _root(queue: str, parents: Mapping[str, str | None]) -> str:
    while (parent := parents.get(queue)) is not None:
        queue = parent
    return queue


def _same(said: Explanation, says: Explanation) -> bool:
    is_same = (said.reason, said.message, said.evidence) == (says.reason, says.message, says.evidence)
    return is_same and not _has_other_fixes(said, says)


def _has_other_fixes(said: Explanation, says: Explanation) -> bool:
    """Whether there is advice of another kind; numbers in it may change with every second, and rounds need not seek any."""
    return bool(says.fixes) and [fix.kind for fix in said.fixes] != [fix.kind for fix in says.fixes]


def _attempt_values(attempt: AttemptRow) -> dict[str, Any]:
    return {column.name: getattr(attempt, column.name) for column in tables.attempts.columns}


def _allocations(attempt: AttemptRow, placement: Placement, nodes: Mapping[str, Node]) -> list[dict[str, Any]]:
    return [
        {
            "attempt_id": attempt.id,
            "node_id": share.node_id,
            "sku": share.sku or placement.sku,
            "phase": "claimed" if _is_free(nodes[share.node_id], share) else "promised",
            "epoch": attempt.epoch,
            "uses": list(share.room.devices),
            "cpu_milli": share.room.cpu_milli,
            "memory_mib": share.room.memory_mib,
            "replicas": [[replica.group, replica.index, list(replica.devices)] for replica in share.replicas],
        }
        for share in placement.shares
    ]


def _is_free(node: Node, share: NodeShare) -> bool:
    left = node.free - share.room
    return min(left.devices, default=0) >= 0 and left.cpu_milli >= 0 and left.memory_mib >= 0


def _decision_row(round_id: int, decision: Start | StartAfter | Wait | Refuse) -> dict[str, Any]:
    explanation = decision.explanation if isinstance(decision, Wait | Refuse) else None
    detail: dict[str, Any] = {}
    if isinstance(decision, Start | StartAfter):
        detail = {"by_sku": decision.placement.by_sku, "region": decision.placement.region, "target": decision.placement.target}
    if isinstance(decision, Start) and decision.terms:
        detail["goals"] = dict(decision.terms)
    if isinstance(decision, StartAfter):
        detail["victims"] = list(decision.victims)
    if explanation is not None:
        detail = explanation.model_dump(mode="json", exclude={"round_id", "as_of"})
    return {
        "round_id": round_id,
        "workload_id": decision.workload_id,
        "outcome": type(decision).__name__,
        "reason": explanation.reason if explanation else None,
        "detail": detail,
    }
