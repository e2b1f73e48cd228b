"""Rounds in the record: what arrives, what is decided about it, and what two planners do to each other."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime

import pytest
from sqlalchemy import event

from activities.deciding import Decider
from activities.ports import Phase
from activities.store.postgres import PostgresStore
from corral.api import QueueTree, Reason, SlaTier, State
from corral.policy import Limits, Policy
from domain.decision import Plan, Start
from domain.pool.fleet import NodeShare, Placement, Replica, Room
from domain.snapshot import Snapshot
from tests.activities.store.pool import Pool, a_spec, a_view
from tests.builders import UNPROMISED, a_queue, a_quota
from tests.patience import PATIENCE_SECONDS

LONG_SECONDS = 30.0
"""After which a round that waits for the loop, which stands still, is decided all the same."""


async def test_a_workload_that_fits_is_held_in_the_transaction_that_writes_it(pool: Pool) -> None:
    await pool.gets(a_view())
    standing = (await pool.arrive(a_spec("train")))["train"]
    assert (standing.state, standing.epoch, standing.provider, standing.sku) == (State.RESERVED, 1, "aws", "h100")
    assert await pool.phases("train") == {"n1": "claimed"}
    assert await pool.used() == 8_000
    written = await pool.sql(
        "SELECT count(DISTINCT xmin::text) FROM (SELECT xmin FROM attempts UNION ALL SELECT xmin FROM holds"
        " UNION ALL SELECT xmin FROM allocations UNION ALL SELECT xmin FROM workloads) AS rows"
    )
    assert written[0]["count"] == 1
    assert await pool.findings() == {}


async def test_those_who_arrive_together_are_decided_about_together(pool: Pool) -> None:
    await pool.gets(a_view(gpus=8))
    standings = await pool.arrive(*(a_spec(f"w{number}", gpus=4) for number in range(3)))
    assert sorted(standing.state for standing in standings.values()) == [State.RESERVED, State.RESERVED, State.WAITING]
    rounds = await pool.sql("SELECT considered, started FROM rounds")
    assert [tuple(row.values()) for row in rounds] == [(3, 2)]


async def test_the_same_spec_again_is_the_same_workload(pool: Pool) -> None:
    await pool.gets(a_view())
    first = (await pool.arrive(a_spec("train")))["train"]
    before = await pool.dump()
    assert (await pool.arrive(a_spec("train")))["train"] == first
    assert await pool.dump() == before


async def test_another_spec_under_a_taken_id_is_refused_and_nothing_is_written(pool: Pool) -> None:
    await pool.gets(a_view())
    await pool.arrive(a_spec("train", gpus=8))
    before = await pool.dump()
    standing = (await pool.arrive(a_spec("train", gpus=4)))["train"]
    assert (standing.state, standing.reason, standing.version) == (State.REFUSED, Reason.ID_CONFLICT, 0)
    assert standing.message.startswith("id: 'train' belongs to a workload with another spec")
    assert await pool.dump() == before


async def test_an_id_is_taken_for_ever(pool: Pool) -> None:
    await pool.gets(a_view())
    await pool.arrive(a_spec("train"))
    await pool.runs("train")
    await pool.ends("train")
    assert (await pool.arrive(a_spec("train")))["train"].state is State.SUCCEEDED
    assert (await pool.arrive(a_spec("train", gpus=1)))["train"].reason is Reason.ID_CONFLICT


async def test_a_refused_workload_has_no_capacity(pool: Pool) -> None:
    await pool.gets(a_view())
    standings = await pool.arrive(a_spec("nowhere", queue="nobodys"), a_spec("huge", gpus=9))
    assert {id: standing.reason for id, standing in standings.items()} == {
        "nowhere": Reason.UNKNOWN_QUEUE,
        "huge": Reason.NO_MATCHING_CAPACITY,
    }
    assert await pool.states("nowhere", "huge") == [State.REFUSED] * 2
    assert await pool.sql("SELECT * FROM attempts") == []
    assert await pool.intervals("huge") == [("waiting", 0, 0)]
    assert await pool.findings() == {}


async def test_accelerators_that_nobody_has_quota_for_stop_no_round(pool: Pool) -> None:
    await pool.gets(a_view("n1"), a_view("n2", sku="a100"))
    standings = await pool.arrive(a_spec("first"), a_spec("second"))
    assert sorted(standing.state for standing in standings.values()) == [State.RESERVED, State.WAITING]


async def test_an_edit_is_considered_even_when_nobody_waits(pool: Pool) -> None:
    await pool.gets(a_view())
    await pool.arrive(a_spec("runs"))
    await pool.plan()
    assert not await pool.store.has_work()
    await pool.another_store().apply_queues(QueueTree(queues=(a_queue("research", 4),)))
    assert await pool.store.has_work()
    await pool.plan()
    assert not await pool.store.has_work()


async def test_two_rounds_without_events_change_nothing(pool: Pool) -> None:
    await pool.gets(a_view())
    await pool.arrive(a_spec("first"), a_spec("second"), a_spec("third"))
    await pool.runs("first")
    await pool.plan()
    before = await pool.dump()
    pool.clock.move(30)
    assert await pool.plan() == {}
    assert await pool.another_store().has_work()
    assert await pool.plan() == {}
    assert await pool.dump() == before


async def test_another_planner_finds_nothing_to_add(pool: Pool) -> None:
    await pool.gets(a_view())
    await pool.arrive(a_spec("first"), a_spec("second"))
    before = await pool.dump()
    other = pool.another_store()
    assert await other.round([], Decider().decide, "planner") == ({}, [])
    assert await pool.dump() == before


async def test_a_new_reason_is_told_and_a_known_one_is_not_written_again(pool: Pool) -> None:
    await pool.gets(a_view("n1"))
    await pool.arrive(a_spec("first"))
    await pool.arrive(a_spec("second"))
    waiting = await pool.standing("second")
    assert (waiting.state, waiting.reason) == (State.WAITING, Reason.NOT_ENOUGH_FREE_ACCELERATORS)
    await pool.orders("cordon", "n1")
    told = await pool.plan()
    assert told["second"].reason is Reason.NO_READY_CAPACITY
    kinds = await pool.sql("SELECT kind FROM events WHERE workload_id = 'second' ORDER BY id")
    assert [row["kind"] for row in kinds] == ["submitted", "explained", "explained"]
    undelivered = [notice.standing for notice in await pool.store.undelivered(0)]
    assert undelivered == [told["second"]]


async def test_only_arrivals_are_decided_about_while_nothing_changes(pool: Pool) -> None:
    decided = _Recorder()
    await pool.gets(a_view())
    await pool.arrive(a_spec("runs"))
    await pool.arrive(a_spec("waits"))
    await pool.store.round([], decided, "planner")
    await pool.store.round([a_spec("arrives")], decided, "admission")
    await pool.orders("cordon", "n1")
    await pool.store.round([a_spec("later")], decided, "admission")
    await pool.store.round([], decided, "planner")
    assert decided.turns == [{"waits"}, {"arrives"}, {"waits", "arrives", "later"}, {"waits", "arrives", "later"}]


async def test_a_round_that_fails_writes_nothing_and_is_forgotten(pool: Pool) -> None:
    def fails(snapshot: Snapshot, now: datetime) -> tuple[Plan, Mapping[str, float]]:
        raise ZeroDivisionError

    await pool.gets(a_view())
    before = await pool.dump()
    with pytest.raises(ZeroDivisionError):
        await pool.store.round([a_spec("train", gpus=8)], fails, "admission")
    assert await pool.dump() == before
    await pool.arrive(a_spec("train", gpus=2))
    assert await pool.used() == 2_000


class _Recorder:
    """Decides as usual, and remembers whose turn it was."""

    def __init__(self) -> None:
        self.turns: list[set[str]] = []

    def __call__(self, snapshot: Snapshot, now: datetime) -> tuple[Plan, Mapping[str, float]]:
        self.turns.append({workload.id for workload in snapshot.waiting})
        return Decider().decide(snapshot, now)


# The world changes under a round


class _Meddler:
    """Decides as usual, after another session has changed the world that the round has read."""

    def __init__(self, pool: Pool, *statements: str) -> None:
        self.pool = pool
        self.statements = list(statements)
        self.rounds = 0

    def __call__(self, snapshot: Snapshot, now: datetime) -> tuple[Plan, Mapping[str, float]]:
        self.rounds += 1
        plan = Decider().decide(snapshot, now)
        if self.statements:
            _in_another_thread(self.pool.elsewhere(self.statements.pop()))
        return plan


def _in_another_thread(work: object) -> None:
    """A planner decides without giving others a turn, so that whoever meddles must have a loop of their own."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, work).result()  # type: ignore[arg-type]


async def test_a_node_that_is_cordoned_under_a_round_gets_nothing(pool: Pool) -> None:
    await pool.gets(a_view())
    meddler = _Meddler(pool, "UPDATE nodes SET cordon = 'cordoned'")
    standings, _ = await pool.store.round([a_spec("train")], meddler, "admission")
    assert meddler.rounds == 2
    assert standings["train"].reason is Reason.NO_READY_CAPACITY
    assert await pool.used() == 0


class _Rival(_Meddler):
    """Does something with a store of its own, in the midst of the first round."""

    def __init__(self, pool: Pool, deed: Callable[[PostgresStore], Awaitable[object]]) -> None:
        super().__init__(pool)
        self.deed = deed

    def __call__(self, snapshot: Snapshot, now: datetime) -> tuple[Plan, Mapping[str, float]]:
        self.rounds += 1
        plan = Decider().decide(snapshot, now)
        if self.rounds == 1:
            _in_another_thread(self._do())
        return plan

    async def _do(self) -> None:
        rival = PostgresStore.connect(self.pool.url, self.pool.clock, "main")
        await self.deed(rival)
        await rival.aclose()


async def test_capacity_that_is_taken_under_a_round_is_not_taken_twice(pool: Pool) -> None:
    await pool.gets(a_view())
    rival = _Rival(pool, lambda store: store.round([a_spec("rival")], Decider().decide, "admission"))
    standings, _ = await pool.store.round([a_spec("train")], rival, "admission")
    assert rival.rounds == 2
    assert standings["train"].state is State.WAITING
    assert await pool.state("rival") is State.RESERVED
    assert await pool.used() == 8_000


async def test_quota_that_is_changed_under_a_round_is_heeded(pool: Pool) -> None:
    await pool.gets(a_view())
    nothing = QueueTree(queues=(a_queue("research", 0),))
    rival = _Rival(pool, lambda store: store.apply_queues(nothing))
    standings, _ = await pool.store.round([a_spec("train")], rival, "admission")
    assert rival.rounds == 2
    assert not standings["train"].provider


async def test_planners_of_two_processes_never_oversubscribe(pool: Pool) -> None:
    await pool.gets(*(a_view(f"n{number}") for number in range(4)), queues=[a_queue("research", 28, cap=28)])
    stores = [pool.store, pool.another_store()]
    specs = [[a_spec(f"{who}{number}", gpus=1 + number % 3) for number in range(24)] for who in ("a", "b")]

    async def plans(store: PostgresStore, mine: list[object]) -> None:
        for start in range(0, len(mine), 3):
            await store.round(mine[start : start + 3], Decider().decide, "admission")  # type: ignore[arg-type]
            await store.round([], Decider().decide, "planner")

    await asyncio.gather(*(plans(store, list(mine)) for store, mine in zip(stores, specs, strict=True)))
    assert await pool.findings() == {}
    used = sum([await pool.used(f"n{number}") for number in range(4)])
    assert used == 28_000


async def test_planners_of_two_processes_write_one_id_once(pool: Pool) -> None:
    await pool.gets(a_view())
    other = pool.another_store()
    answers = await asyncio.gather(
        pool.store.round([a_spec("train", gpus=2)], Decider().decide, "admission"),
        other.round([a_spec("train", gpus=3)], Decider().decide, "admission"),
    )
    assert sorted(standings["train"].state for standings, _ in answers) == [State.REFUSED, State.RESERVED]
    assert await pool.used() in {2_000, 3_000}
    assert await pool.findings() == {}


async def test_waiting_work_is_woken_by_what_other_processes_change(pool: Pool) -> None:
    await pool.gets(a_view())
    other = pool.another_store()
    async with pool.store.wake_ups() as woken:
        assert not woken.is_set()
        await other.write_nodes("aws", [a_view("n2")], complete=False)
        await asyncio.wait_for(woken.wait(), PATIENCE_SECONDS)


async def test_a_round_that_a_limit_cut_short_wakes_the_planner_for_the_next(pool: Pool) -> None:
    pool.policy = Policy(limits=Limits(starts_per_round=1), rank=UNPROMISED.rank)
    pool.store = pool.another_store()
    await pool.gets(a_view())
    async with pool.store.wake_ups() as woken:
        await pool.arrive(*(a_spec(f"w{number}", gpus=4) for number in range(3)))
        async with asyncio.timeout(PATIENCE_SECONDS):
            await woken.wait()
        assert sorted(await pool.states("w0", "w1", "w2")) == [State.RESERVED, State.WAITING, State.WAITING]
        woken.clear()
        await pool.plan()
        assert sorted(await pool.states("w0", "w1", "w2")) == [State.RESERVED, State.RESERVED, State.WAITING]
        assert not woken.is_set(), "nothing is left to start"


# Gangs over several SKUs


def on_both(snapshot: Snapshot) -> Plan:
    """Two replicas with four devices each, one on an H100 node and one on an A100 node."""
    shares = tuple(
        NodeShare(node, Room((1_000,) * 4 + (0,) * 4, 0, 0), (Replica("main", index, (0, 1, 2, 3)),), sku)
        for index, (node, sku) in enumerate([("aws/n1", "h100"), ("aws/n2", "a100")])
    )
    return Plan((Start("mixed", Placement("aws", "eu", "h100", shares)),))


async def test_a_gang_over_several_skus_is_counted_by_sku(pool: Pool) -> None:
    queues = [a_queue("all"), a_queue("research", 8, parent="all", quotas=[a_quota(2, sku="a100")])]
    await pool.gets(a_view("n1"), a_view("n2", sku="a100"), queues=queues)
    await pool.decided(on_both, a_spec("mixed", gpus=4, count=2))
    orders = await pool.binds("mixed")
    assert orders["mixed"] is not None
    assert {place.node for place in orders["mixed"].places} == {"n1", "n2"}
    await pool.runs("mixed")
    research = {queue.name: queue for queue in await pool.store.queues()}["research"]
    assert {use.sku: (use.used, use.borrowed) for use in research.usage} == {"h100": (4, 0), "a100": (4, 2)}
    (active,) = (await pool.snapshot()).active
    assert active.placement.by_sku == {"h100": 4_000, "a100": 4_000}
    status = await pool.store.status("mixed")
    assert status is not None
    assert status.where is not None
    assert status.where.by_sku == {"h100": 4, "a100": 4}
    rows = await pool.sql("SELECT allocated_by_sku FROM ledger WHERE workload_id = 'mixed' AND kind = 'running'")
    assert rows[0]["allocated_by_sku"] == {"h100": 4_000, "a100": 4_000}
    assert (await pool.standing("mixed")).place == "4 h100 + 4 a100 in eu/eu-1 (aws)"
    assert await pool.findings() == {}


async def test_a_cap_on_the_second_sku_of_a_gang_is_audited(pool: Pool) -> None:
    await pool.gets(
        a_view("n1"), a_view("n2", sku="a100"), queues=[a_queue("research", 8, quotas=[a_quota(2, sku="a100", cap=2)])]
    )
    await pool.decided(on_both, a_spec("mixed", gpus=4, count=2))
    assert await pool.findings() == {"no queue and no cohort exceeds its cap": ["research: 4000 of 2000 a100"]}


# What a round takes


async def statements(pool: Pool, work: Awaitable[object]) -> int:
    """How many statements are sent to the database in the meantime."""
    sent: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        sent.append(statement)

    event.listen(pool.engine.sync_engine, "before_cursor_execute", note)
    try:
        await work
    finally:
        event.remove(pool.engine.sync_engine, "before_cursor_execute", note)
    return len(sent)


async def test_a_plan_takes_no_more_statements_when_there_is_more_in_it(pool: Pool) -> None:
    await pool.gets(*(a_view(f"n{number}") for number in range(4)))
    one = await statements(pool, pool.arrive(a_spec("one", gpus=1), a_spec("waits", gpus=8, count=4)))
    many = await statements(
        pool,
        pool.arrive(
            *(a_spec(f"starts-{number}", gpus=1) for number in range(12)),
            *(a_spec(f"waits-{number}", gpus=8, count=4) for number in range(12)),
        ),
    )
    assert many <= one + 6, "the second round also reads what the first one wrote"


async def test_a_round_in_which_nothing_changed_reads_and_writes_next_to_nothing(pool: Pool) -> None:
    await pool.gets(a_view())
    await pool.arrive(a_spec("runs"), *(a_spec(f"waits-{number}") for number in range(12)))
    await pool.plan()
    assert await statements(pool, pool.plan()) <= 8


async def test_room_on_many_nodes_is_handed_on_in_a_few_statements(pool: Pool) -> None:
    await pool.gets(*(a_view(f"n{number}") for number in range(6)))
    victims = [f"victim-{number}" for number in range(12)]
    await pool.arrive(*(a_spec(id, gpus=4, tier=SlaTier.BASIC) for id in victims))
    await pool.runs(*victims)
    await pool.arrive(a_spec("urgent", gpus=8, count=6, tier=SlaTier.PREMIUM))
    assert set((await pool.phases("urgent")).values()) == {"promised"}
    gone = [await pool.observation(id, Phase.CANCELLED) for id in victims]
    assert await statements(pool, pool.seen(*gone)) <= 30
    assert await pool.state("urgent") is State.RESERVED
    assert set((await pool.phases("urgent")).values()) == {"claimed"}
    assert await pool.findings() == {}


async def test_a_round_keeps_how_good_it_is_and_what_took_how_long(pool: Pool) -> None:
    await pool.gets(a_view(gpus=8))
    await pool.arrive(a_spec("small", gpus=3), a_spec("large", gpus=8))

    (newest,) = await pool.store.rounds(10)

    assert (newest.started, newest.started_accelerators, newest.bound, newest.gap) == (1, 8, 8, 0)
    assert (newest.method, newest.improved, newest.moved, newest.fallback) == ("greedy", 0, 0, None)
    assert (newest.worst_region_before, newest.worst_region_after) == (1.375, 1.375)
    assert set(newest.milliseconds) == {"read", "refuse", "turns", "improve", "bound", "defragment", "resize", "explain"}


async def test_the_newest_round_comes_first_and_rounds_of_older_versions_have_no_figures(pool: Pool) -> None:
    await pool.gets(a_view(gpus=8))
    await pool.arrive(a_spec("first", gpus=3))
    await pool.sql("UPDATE rounds SET quality = NULL")
    await pool.arrive(a_spec("second", gpus=3))

    newest, oldest = await pool.store.rounds(10)

    assert newest.id > oldest.id
    assert (newest.gap, oldest.gap, oldest.bound) == (0, None, None)
    assert [each.id for each in await pool.store.rounds(1)] == [newest.id]


async def test_the_process_goes_on_while_a_round_is_decided(pool: Pool) -> None:
    await pool.gets(a_view())
    is_on, seen = threading.Event(), list[bool]()

    def once_the_loop_is_on(snapshot: Snapshot, now: datetime) -> tuple[Plan, dict[str, float]]:
        seen.append(is_on.wait(LONG_SECONDS))
        return Decider().decide(snapshot, now)[0], {}

    async def go_on() -> None:
        assert await pool.store.standing("train") is None, "the round has not committed"
        is_on.set()

    await asyncio.gather(pool.store.round([a_spec("train")], once_the_loop_is_on, "admission"), go_on())
    assert seen == [True], "the loop had stood still"
    assert (await pool.standing("train")).state is State.RESERVED


async def test_a_round_that_nobody_waits_for_any_more_writes_nothing(pool: Pool) -> None:
    await pool.gets(a_view())
    begun, may_end = threading.Event(), threading.Event()

    def slowly(snapshot: Snapshot, now: datetime) -> tuple[Plan, dict[str, float]]:
        begun.set()
        may_end.wait(LONG_SECONDS)
        return Decider().decide(snapshot, now)[0], {}

    abandoned = asyncio.create_task(pool.store.round([a_spec("train")], slowly, "admission"))
    await asyncio.to_thread(begun.wait, LONG_SECONDS)
    abandoned.cancel()
    with pytest.raises(asyncio.CancelledError):
        await abandoned
    may_end.set()
    assert (await pool.arrive(a_spec("other")))["other"].state is State.RESERVED
    assert await pool.store.standing("train") is None
    assert await pool.findings() == {}


async def test_what_is_to_be_written_waits_for_one_round_however_many_are_wanted(pool: Pool) -> None:
    await pool.gets(a_view())
    await pool.arrive(a_spec("train"))
    key = await pool.key("train")
    begun, may_end, done = threading.Event(), threading.Event(), list[str]()

    def slowly(snapshot: Snapshot, now: datetime) -> tuple[Plan, dict[str, float]]:
        begun.set()
        may_end.wait(LONG_SECONDS)
        return Decider().decide(snapshot, now)[0], {}

    async def noted(name: str, work: Awaitable[object]) -> None:
        await work
        done.append(name)

    async with asyncio.TaskGroup() as group:
        group.create_task(noted("a round", pool.store.round([], slowly, "planner")))
        await asyncio.to_thread(begun.wait, LONG_SECONDS)
        group.create_task(noted("another round", pool.arrive(a_spec("other"))))
        group.create_task(noted("a binding", pool.store.begin_bindings([key])))
        await asyncio.sleep(0)  # both are in line
        may_end.set()
    assert done == ["a round", "a binding", "another round"]
