"""What becomes of attempts: binding them, believing what was observed of them, and taking them back."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import chain

from sqlalchemy import all_, bindparam, delete, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from activities.answers import AttemptKey
from activities.ports import LaunchSpec, Observation, Phase
from activities.store import remnants, tables
from activities.store.bulk import among
from activities.store.housekeeping import housekeeping_due
from activities.store.launching import launch_orders
from activities.store.leaving import (
    STAYS,
    cast_suspicion,
    clear_suspicion,
    give_notice,
    give_notice_to_all,
    is_overdue,
    take_further,
    who_grows,
    who_waits,
)
from activities.store.penalties import settle_ended
from activities.store.resizing import go_on_resized, go_on_without, grow_if_free, is_growing, stay_small, take_up
from activities.store.rows import (
    AttemptRow,
    Journal,
    WorkloadRow,
    locked,
    locked_workloads,
    open_attempts,
    place_of,
    waits_for_room,
)
from corral.api import WHOLE, Explanation, Outcome, Reason, State
from domain.pool.lifecycle import AT_A_PROVIDER, BEFORE_BINDING, RESHAPED, SUSPECT, AttemptEnd, Leave, state_after
from domain.quota.accounting import IntervalKind, lost_work

FIRST_BACK_OFF_SECONDS = 10
LONGEST_BACK_OFF_SECONDS = 3_600


async def begin_bindings(connection: AsyncConnection, journal: Journal, keys: Sequence[AttemptKey]) -> list[LaunchSpec | None]:
    """Turn holds in force into launches; asked again, the same ones. None: that epoch has no right to launch any more."""
    workloads = await locked_workloads(connection, [key.workload for key in keys])
    attempts = (await open_attempts(connection, list(workloads))).now
    bound: dict[AttemptKey, AttemptRow] = {}
    for key in dict.fromkeys(keys):
        attempt = attempts.get(key.workload)
        if attempt is not None and attempt.epoch == key.epoch and attempt.stop_at is None:
            workload, attempt = _begun(journal, workloads[key.workload], attempt)
            if workload.state in AT_A_PROVIDER:
                bound[key] = attempt
    await _end_holds(connection, [attempt.id for attempt in bound.values()], journal.now)
    orders = await launch_orders(connection, workloads, list(bound.values()))
    return [orders[bound[key].id] if key in bound else None for key in keys]


def _begun(journal: Journal, workload: WorkloadRow, attempt: AttemptRow) -> tuple[WorkloadRow, AttemptRow]:
    if workload.state is State.RESERVED:
        attempt = journal.attempt(attempt, bound_at=journal.now)
        workload = journal.move(workload, State.STARTING, f"starting on {place_of(attempt)}")
        journal.account(workload, IntervalKind.STARTING, attempt=attempt)
    return workload, attempt


async def settle(
    connection: AsyncConnection, journal: Journal, observations: Sequence[Observation], answered: frozenset[str]
) -> bool:
    """Believe what was observed; answers whether capacity became free.

    `answered` are the attempts whose workflow hears of it from the activity that observed it, and needs no notice that
    they run. An observation of an ended or unknown attempt, of one that was never launched, or of an older epoch, changes
    nothing.
    """
    latest = {observation.attempt_id: observation for observation in sorted(observations, key=lambda seen: seen.sequence)}
    workloads, attempts = await _locked_by_attempt(connection, journal, latest.keys())
    over: list[AttemptRow] = []
    freed: set[str] = set()
    for id, attempt in attempts.items():
        if attempt.bound_at is None:
            continue
        workload, beneficiary, seen = workloads[attempt.workload_id], attempt.beneficiary, latest[id]
        if seen.resized and (nodes := await _resized(connection, journal, workload, attempt, seen)):
            freed |= nodes
            await keep_promises(connection, journal, nodes, [beneficiary] if beneficiary else [])
        resized = journal.attempts.get(id, attempt)
        _believe(journal, journal.workloads.get(workload.id, workload), resized, seen, tell=id not in answered)
        if seen.phase.is_over:
            over.append(resized)
    await give_back(connection, journal, over)
    return bool(over or freed)


async def _resized(
    connection: AsyncConnection, journal: Journal, workload: WorkloadRow, attempt: AttemptRow, seen: Observation
) -> set[str]:
    """Believe that an attempt has another size by now, or that replicas have left that did not for long.

    Answers with the nodes on which room became free by that.
    """
    workload, attempt = journal.workloads.get(workload.id, workload), journal.attempts.get(attempt.id, attempt)
    late = await remnants.see_gone(connection, seen)
    if late:
        journal.note(workload.id, "left", f"replicas that did not leave are gone from {', '.join(sorted(late))}")
        said = await remnants.saying(connection, attempt, journal.now)
        is_so = {"explanation": said and said.model_dump(mode="json")} if workload.state is State.RUNNING else {}
        workload = journal.change(workload, **is_so)
        journal.tell(workload.id)
    nodes = late | await go_on_resized(connection, journal, workload, attempt, seen)
    await clear_suspicion(connection, journal, nodes)
    return nodes


def _believe(journal: Journal, workload: WorkloadRow, attempt: AttemptRow, seen: Observation, *, tell: bool) -> None:
    if seen.started_at and attempt.started_at is None:
        attempt, workload = _started(journal, workload, attempt, seen, tell=tell)
    if seen.checkpoint_at and (attempt.checkpoint_at is None or seen.checkpoint_at > attempt.checkpoint_at):
        attempt = journal.attempt(attempt, checkpoint_at=seen.checkpoint_at)
        workload = journal.change(workload)
    if seen.phase.is_over:
        outcome = _outcome(seen, attempt, workload)
        if workload.state is State.RESIZING:
            attempt = journal.attempt(attempt, **STAYS)
            journal.note(workload.id, "interrupted", "it ended by itself while it changed its size, which is not done")
        end_attempt(journal, workload, attempt, outcome, seen)


def _started(
    journal: Journal, workload: WorkloadRow, attempt: AttemptRow, seen: Observation, *, tell: bool
) -> tuple[AttemptRow, WorkloadRow]:
    attempt = journal.attempt(attempt, started_at=seen.started_at)
    journal.account(workload, IntervalKind.RUNNING, at=seen.started_at, attempt=attempt)
    if workload.state is not State.STARTING:
        return attempt, journal.change(workload)
    workload = journal.move(workload, State.RUNNING, f"running on {place_of(attempt)}")
    if tell:
        journal.tell(workload.id)
    return attempt, workload


def _outcome(seen: Observation, attempt: AttemptRow, workload: WorkloadRow) -> Outcome:
    """Read an outcome from what was observed and what had been ordered."""
    ordered = _ordered(seen, attempt, workload)
    match seen.phase:
        case Phase.SUCCEEDED:
            return Outcome.FINISHED
        case Phase.FAILED if ordered is None:
            return Outcome.FAILED
        case _:
            return ordered or Outcome.LOST


def _ordered(seen: Observation, attempt: AttemptRow, workload: WorkloadRow) -> Outcome | None:
    """As what the attempt was to end; none where nobody told it to, as when it changes its size as it runs."""
    if workload.state is State.RESIZING:
        return None
    if attempt.stop_as:
        return Outcome(attempt.stop_as)
    return Outcome.PREEMPTED if _may_have_heeded(seen, attempt, workload) else None


def _may_have_heeded(seen: Observation, attempt: AttemptRow, workload: WorkloadRow) -> bool:
    """Whether an attempt without an order to stop may have ended by a notice that was taken back too late.

    Its provider may not have heard of that yet, or it had begun to leave when it did: it then ends within its grace.
    """
    if not attempt.notice:
        return False
    grace = timedelta(seconds=workload.parsed().checkpoint.grace_seconds)
    return attempt.kept_at is None or seen.at <= attempt.kept_at + grace


def end_attempt(
    journal: Journal, workload: WorkloadRow, attempt: AttemptRow, outcome: Outcome, seen: Observation | None
) -> None:
    """End an attempt: close it and its ledger interval, and bring its workload into the state that follows.

    One that was to go on in another shape has its next attempt from here on, which waits for the room promised to it.
    """
    at = max(attempt.bound_at or attempt.held_at, seen.at) if seen else journal.now
    follower = journal.open.then.get(workload.id) if outcome in RESHAPED else None
    ended = _closed(journal, attempt, outcome, seen, at)
    if follower is not None:
        journal.attempt(follower, follows=None)
    moved = _after(journal, workload, ended, outcome, follower, at)
    journal.account(moved, _interval_after(moved), at=at, ended=ended, lost_milli_seconds=ended.lost_milli_seconds)
    journal.tell(workload.id)


def _closed(journal: Journal, attempt: AttemptRow, outcome: Outcome, seen: Observation | None, at: datetime) -> AttemptRow:
    """The row of an attempt that has ended."""
    return journal.attempt(
        attempt,
        ended_at=at,
        outcome=outcome,
        exit_code=seen.exit_code if seen else None,
        reason="; ".join(filter(None, (attempt.reason, seen.reason if seen else ""))),
        lost_milli_seconds=_lost(attempt, outcome, at),
    )


def _after(
    journal: Journal, workload: WorkloadRow, ended: AttemptRow, outcome: Outcome, follower: AttemptRow | None, at: datetime
) -> WorkloadRow:
    """What becomes of a workload after an attempt, with the counts that its attempts add up to."""
    spec = workload.parsed()
    failures = workload.failures + (outcome is Outcome.FAILED)
    end = AttemptEnd(outcome, ended.replicas, workload.tasks_done, failures, is_followed=follower is not None)
    state = state_after(spec, end)
    message = _end_message(outcome, ended.exit_code, ended.reason)
    why = waits_for_room(follower) if follower else _why_failed(message, at) if state is State.FAILED else None
    return journal.move(
        workload,
        state,
        message,
        epoch=follower.epoch if follower else workload.epoch,
        outcome=outcome,
        exit_code=ended.exit_code,
        failures=failures,
        preemptions=workload.preemptions + (outcome is Outcome.PREEMPTED and ended.stop_as is None),
        tasks_done=workload.tasks_done + (ended.replicas if outcome is Outcome.FINISHED and spec.tasks else 0),
        runtime_used_seconds=workload.runtime_used_seconds + _seconds_run(ended, at),
        not_before=_not_before(outcome, failures, journal.now),
        explanation=why.model_dump(mode="json") if why else None,
    )


def _lost(attempt: AttemptRow, outcome: Outcome, at: datetime) -> int:
    forced = outcome not in {Outcome.FINISHED, Outcome.FAILED}
    if not forced or attempt.started_at is None:
        return 0
    return lost_work(attempt.started_at, attempt.checkpoint_at, at, attempt.milli)


def _end_message(outcome: Outcome, exit_code: int | None, reason: str | None) -> str:
    details = [f"exit code {exit_code}"] if exit_code is not None else []
    details += [reason] if reason else []
    return f"{outcome}: {', '.join(details)}" if details else str(outcome)


def _why_failed(message: str, at: datetime) -> Explanation:
    return Explanation(reason=Reason.FAILED, message=message, as_of=at)


def _seconds_run(attempt: AttemptRow, at: datetime) -> int:
    return max(0, int((at - attempt.started_at).total_seconds())) if attempt.started_at else 0


def _not_before(outcome: Outcome, failures: int, now: datetime) -> datetime | None:
    if outcome not in {Outcome.FAILED, Outcome.REFUSED_BY_PROVIDER}:
        return None
    return now + timedelta(seconds=min(LONGEST_BACK_OFF_SECONDS, FIRST_BACK_OFF_SECONDS * 2 ** min(failures, 10)))


def _interval_after(row: WorkloadRow) -> IntervalKind | None:
    if row.state.is_terminal:
        return None
    if row.state is State.SUSPENDED:
        return IntervalKind.SUSPENDED
    return IntervalKind.BACKING_OFF if row.not_before else IntervalKind.WAITING


async def refuse_binding(connection: AsyncConnection, journal: Journal, key: AttemptKey, reason: str, *, final: bool) -> None:
    """Take an attempt back that its provider will not run; `final` when no other place would do either."""
    workload, attempt = await locked(connection, journal, key.workload)
    if workload is None or attempt is None or attempt.epoch != key.epoch:
        return
    outcome = Outcome(attempt.stop_as) if attempt.stop_as else Outcome.FAILED if final else Outcome.REFUSED_BY_PROVIDER
    if final and attempt.stop_as is None:
        # Trying again elsewhere would end the same way.
        workload = journal.change(workload, failures=workload.parsed().retries)
    seen = Observation(attempt.id, attempt.epoch, Phase.FAILED, 0, journal.now, reason=reason)
    end_attempt(journal, workload, attempt, outcome, seen)
    await give_back(connection, journal, [attempt])


async def withdraw(connection: AsyncConnection, journal: Journal, workload_id: str, outcome: Outcome, reason: str) -> None:
    """Take a workload out of where it is: at once where nothing runs, else by an order to stop that its workflow carries out.

    Only a cancellation or a suspension takes it out of the line as well. Of several orders to stop the most final counts.
    """
    workload, attempt = await locked(connection, journal, workload_id)
    if workload is None or workload.state.is_terminal:
        return
    message = f"{outcome}: {reason}" if reason else str(outcome)
    if attempt is None:
        if outcome in {Outcome.CANCELLED, Outcome.SUSPENDED}:
            _leave_line(journal, workload, outcome, message)
    elif workload.state in BEFORE_BINDING:
        attempt = journal.attempt(attempt, reason=reason or attempt.reason)
        end_attempt(journal, workload, attempt, outcome, None)
        await give_back(connection, journal, [attempt])
    elif outcome is not Outcome.EXPIRED and _finality(outcome) > _ordered_finality(workload, attempt):
        attempt = await _with_all_that_may_run(connection, journal, workload, attempt)
        give_notice(journal, attempt, outcome)
        journal.move(workload, State.STOPPING, f"has notice to leave: {message}")
        journal.tell(workload.id)
        await keep_promises(connection, journal, await drop_followers(connection, journal, [workload_id]), ())


async def _with_all_that_may_run(
    connection: AsyncConnection, journal: Journal, workload: WorkloadRow, attempt: AttemptRow
) -> AttemptRow:
    """An attempt that was to go on in another size, with all replicas that it may have by now; a new notice is for them all."""
    if workload.state is not State.RESIZING or attempt.leave is Leave.WAITING:
        return attempt
    follower = journal.open.then[workload.id]
    if await is_growing(connection, attempt, follower):
        await take_up(connection, journal, workload, attempt, follower, journal.now)
    return give_notice_to_all(journal, journal.attempts.get(attempt.id, attempt))


async def end_overdue(connection: AsyncConnection, journal: Journal) -> None:
    """End what is overdue now: holds that expired, and work on nodes or in queues that drain."""
    for workload, (outcome, reason) in (await housekeeping_due(connection, journal.now)).items():
        await withdraw(connection, journal, workload, outcome, reason)


async def urge_on(connection: AsyncConnection, journal: Journal, workloads: Sequence[str], stop_seconds: int) -> None:
    """Take what leaves too slowly a step further; nobody waits any longer for what does not leave at all."""
    for workload_id in workloads:
        workload, attempt = await locked(connection, journal, workload_id)
        if workload is None or attempt is None or not is_overdue(workload, attempt, journal.now, stop_seconds):
            continue
        attempt = take_further(journal, workload, attempt)
        if attempt.leave in SUSPECT:
            nodes = await cast_suspicion(connection, workload, attempt)
            for waiting in await who_waits(connection, attempt, nodes):
                await withdraw(
                    connection, journal, waiting, Outcome.EXPIRED, "work that was to make room for it does not leave"
                )
            for growing in await who_grows(connection, attempt, nodes):
                await give_up_growth(connection, journal, growing, "work that was to make room for more does not leave")
        if attempt.leave is Leave.STUCK and workload.state is State.RESIZING:
            await go_on_without(connection, journal, workload, attempt)


async def give_up_growth(connection: AsyncConnection, journal: Journal, workload_id: str, why: str) -> None:
    """Let a workload that waits for room to grow wait no longer."""
    workload, attempt = await locked(connection, journal, workload_id)
    if workload is not None and attempt is not None and attempt.leave is Leave.WAITING:
        stay_small(journal, workload, attempt, why)
        await keep_promises(connection, journal, await drop_followers(connection, journal, [workload_id]), ())


def _ordered_finality(workload: WorkloadRow, attempt: AttemptRow) -> int:
    """Who only changes its size may be told to leave by whomever."""
    return 0 if workload.state is State.RESIZING else _finality(attempt.stop_as)


def _finality(stop_as: str | None) -> int:
    if stop_as is None:
        return 0
    return {Outcome.CANCELLED: 4, Outcome.OUT_OF_TIME: 3, Outcome.SUSPENDED: 2}.get(Outcome(stop_as), 1)


def _leave_line(journal: Journal, workload: WorkloadRow, outcome: Outcome, message: str) -> None:
    state = State.SUSPENDED if outcome is Outcome.SUSPENDED else State.CANCELLED
    if workload.state is state:
        return
    moved = journal.move(workload, state, message, outcome=outcome if state.is_terminal else workload.outcome, explanation=None)
    journal.account(moved, _interval_after(moved))
    journal.tell(workload.id)


async def give_back(connection: AsyncConnection, journal: Journal, attempts: Sequence[AttemptRow]) -> None:
    """Settle what ended attempts were charged, free what they had, and hand it on to those to whom it is promised.

    All in the same transaction.

    An attempt that was to follow one that has ended otherwise is dropped; one that follows now counts among the promised.
    """
    if not attempts:
        return
    ids = [attempt.id for attempt in attempts]
    await _end_holds(connection, ids, journal.now)
    await settle_ended(connection, attempts)
    allocations = tables.allocations.c
    freed = set(
        await connection.scalars(
            update(tables.allocations)
            .where(among(allocations.attempt_id, ids), allocations.phase != "released")
            .values(phase="released")
            .returning(allocations.node_id)
        )
    )
    workloads = [attempt.workload_id for attempt in attempts]
    freed |= await remnants.give_back(connection, ids)
    await clear_suspicion(connection, journal, freed)
    freed |= await drop_followers(connection, journal, workloads)
    following = {journal.open.now[workload].id for workload in workloads if workload in journal.open.now}
    beneficiaries = {attempt.beneficiary for attempt in attempts if attempt.beneficiary}
    await keep_promises(connection, journal, freed, sorted(beneficiaries | following))


async def drop_followers(connection: AsyncConnection, journal: Journal, workloads: Iterable[str]) -> set[str]:
    """Give up the attempts that were to follow, as if they had never been: nobody outside was ever told of them.

    Answers with the nodes on which they had or were promised room.
    """
    ids = [journal.open.then.pop(workload).id for workload in workloads if workload in journal.open.then]
    if not ids:
        return set()
    allocations = tables.allocations.c
    gone = delete(tables.allocations).where(among(allocations.attempt_id, ids)).returning(allocations.node_id)
    freed = set(await connection.scalars(gone))
    await connection.execute(delete(tables.holds).where(among(tables.holds.c.attempt_id, ids)))
    await connection.execute(delete(tables.attempts).where(among(tables.attempts.c.id, ids)))
    return freed


async def keep_promises(
    connection: AsyncConnection, journal: Journal, nodes: Iterable[str], beneficiaries: Iterable[str]
) -> None:
    """Claim what is promised on nodes where room was freed, as far as it is free now.

    A beneficiary may have needed its victims' quota alone: then it has nodes already, and waits only to see them gone.
    """
    columns = tables.allocations.c
    promised = await connection.execute(
        select(columns.node_id, columns.attempt_id)
        .where(among(columns.node_id, nodes), columns.phase == "promised")
        .order_by(columns.attempt_id, columns.node_id)
    )
    by_node: dict[str, list[str]] = {}
    for allocation in promised:
        by_node.setdefault(allocation.node_id, []).append(allocation.attempt_id)
    touched = dict.fromkeys(beneficiaries)
    # On each node one after the other, for a claim leaves less room to the next one; on all nodes at once.
    for turn in range(max(map(len, by_node.values()), default=0)):
        claims = [(its[turn], node) for node, its in by_node.items() if len(its) > turn]
        touched |= dict.fromkeys(sorted(await _claim_if_free(connection, claims)))
    if touched:
        await _reserve_if_whole(connection, journal, list(touched))
    if touched or by_node:
        await _let_grow(connection, journal, {*touched, *chain.from_iterable(by_node.values())})


async def _let_grow(connection: AsyncConnection, journal: Journal, attempt_ids: Iterable[str]) -> None:
    """Have those grow that wait for room as they run, whose victims have all gone; their next size is one of these attempts."""
    columns = tables.attempts.c
    followers = select(columns.id, columns.workload_id).where(among(columns.id, attempt_ids), columns.follows.is_not(None))
    waiting = {row.id: row.workload_id for row in await connection.execute(followers)}
    if not waiting:
        return
    # Locked before it is looked at, as above.
    workloads = await locked_workloads(connection, sorted(waiting.values()))
    journal.learn(await open_attempts(connection, workloads.keys()))
    hindered = await _with_victims(connection, journal, list(waiting))
    for follower in sorted(waiting.keys() - hindered):
        await grow_if_free(connection, journal, workloads[waiting[follower]])


async def _claim_if_free(connection: AsyncConnection, claims: Sequence[tuple[str, str]]) -> list[str]:
    """Turn promises, by attempt and node, into claims where there is room; answers with the attempts that got some."""
    attempts, nodes = zip(*claims, strict=True)
    return list(await connection.scalars(_CLAIM_IF_FREE, {"attempts": list(attempts), "nodes": list(nodes)}))


async def _reserve_if_whole(connection: AsyncConnection, journal: Journal, attempt_ids: Sequence[str]) -> None:
    """Hold for good what attempts were promised that now have all of it, and whose victims have all gone."""
    # Locked before it is looked at: of two transactions that free the last two nodes, the later one sees both free.
    workloads, attempts = await _locked_by_attempt(connection, journal, attempt_ids)
    columns = tables.allocations.c
    promised = await connection.scalars(
        select(columns.attempt_id).where(among(columns.attempt_id, attempt_ids), columns.phase == "promised").distinct()
    )
    waiting = {*promised, *await _with_victims(connection, journal, attempt_ids)}
    whole: list[str] = []
    for id in attempt_ids:
        attempt = attempts.get(id)
        if attempt is None or id in waiting:
            continue
        workload = journal.workloads.get(attempt.workload_id, workloads[attempt.workload_id])
        if workload.state is State.RESERVING:
            journal.move(
                workload, State.RESERVED, f"{place_of(attempt)} held: those who had to leave have left", explanation=None
            )
            journal.tell(workload.id)
            whole.append(id)
    if whole:
        policy = await journal.policies.in_force(connection)
        await connection.execute(
            update(tables.holds)
            .where(among(tables.holds.c.attempt_id, whole))
            .values(expires_at=journal.now + timedelta(seconds=policy.hold_seconds))
        )


async def _with_victims(connection: AsyncConnection, journal: Journal, beneficiaries: Sequence[str]) -> set[str]:
    """The attempts for which somebody has notice to leave and is still there."""
    columns = tables.attempts.c
    there = await connection.execute(
        select(columns.id, columns.beneficiary).where(among(columns.beneficiary, beneficiaries), columns.ended_at.is_(None))
    )
    known = journal.attempts
    return {row.beneficiary for row in there if row.id not in known or _leaves_for(known[row.id], row.beneficiary)}


def _leaves_for(attempt: AttemptRow, beneficiary: str) -> bool:
    return attempt.ended_at is None and attempt.beneficiary == beneficiary


_GIVEN = (
    func.unnest(bindparam("attempts", type_=tables.Names), bindparam("nodes", type_=tables.Names))
    .table_valued("attempt", "node", name="given")
    .render_derived()
)
_CLAIM_IF_FREE = (
    update(tables.allocations)
    .where(
        tables.allocations.c.attempt_id == _GIVEN.c.attempt,
        tables.allocations.c.node_id == _GIVEN.c.node,
        tables.allocations.c.phase == "promised",
        tables.nodes.c.id == tables.allocations.c.node_id,
        all_(func.corral_sum(tables.nodes.c.device_use, tables.allocations.c.uses)) <= WHOLE,
        tables.nodes.c.cpu_use + tables.allocations.c.cpu_milli <= tables.nodes.c.cpu_milli,
        tables.nodes.c.memory_use + tables.allocations.c.memory_mib <= tables.nodes.c.memory_mib,
        or_(
            tables.nodes.c.maximum_replicas.is_(None),
            tables.nodes.c.replica_use + func.jsonb_array_length(tables.allocations.c.replicas)
            <= tables.nodes.c.maximum_replicas,
        ),
    )
    .values(phase="claimed")
    .returning(tables.allocations.c.attempt_id)
)


async def _end_holds(connection: AsyncConnection, attempts: Sequence[str], now: datetime) -> None:
    if not attempts:
        return
    await connection.execute(
        update(tables.holds)
        .where(among(tables.holds.c.attempt_id, attempts), tables.holds.c.ended_at.is_(None))
        .values(ended_at=now)
    )


async def _locked_by_attempt(
    connection: AsyncConnection, journal: Journal, attempt_ids: Iterable[str]
) -> tuple[Mapping[str, WorkloadRow], Mapping[str, AttemptRow]]:
    """Lock the workloads of attempts; answers with those attempts that are open and count now, by attempt id."""
    ids = sorted(attempt_ids)
    found = await connection.scalars(select(tables.attempts.c.workload_id).where(among(tables.attempts.c.id, ids)))
    workloads = await locked_workloads(connection, sorted(set(found)))
    journal.learn(await open_attempts(connection, workloads.keys()))
    return workloads, {attempt.id: attempt for attempt in journal.open.now.values() if attempt.id in ids}
