"""What a planner remembers between rounds is what a new one reads, whatever happened in between and in whichever order."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime
from random import Random

import asyncpg
import pytest

from activities.deciding import Decider
from activities.ports import NotAllowed, Phase
from activities.store.changes import Kept, Moment
from activities.store.postgres import PostgresStore
from corral.api import SlaTier, State
from domain.decision import Plan
from domain.quota.headroom import CONTROL_WINDOW
from domain.snapshot import Snapshot
from tests.activities.store.pool import Pool, a_spec, a_view
from tests.builders import NOON, a_queue, seconds

SIZES = (1, 2, 4, 8)


async def remembered(pool: Pool, store: PostgresStore | None = None) -> Snapshot:
    """What a store that has read before reads now."""
    return seen_by(*await (store or pool.store).look())


async def read_anew(pool: Pool) -> Snapshot:
    return seen_by(*await pool.another_store().look())


def seen_by(snapshot: Snapshot, now: datetime) -> Snapshot:
    """Without what no rule looks at any more, and without past use, which whoever reads sums up at times of its own."""
    ledger = {
        workload: kept
        for workload, intervals in snapshot.ledger.items()
        if (kept := [each for each in intervals if each.ended_at is None or each.ended_at > now - CONTROL_WINDOW])
    }
    return replace(snapshot, ledger=ledger, past_use={})


def fails(snapshot: Snapshot, now: datetime) -> tuple[Plan, Mapping[str, float]]:
    raise ZeroDivisionError


# Nothing is missed


async def test_what_is_committed_late_is_seen_though_others_wrote_later_and_committed_sooner(pool: Pool) -> None:
    await pool.gets(a_view("n1"), a_view("n2"))
    await remembered(pool)
    async with pool.session() as slow:
        await slow.execute("BEGIN; UPDATE nodes SET price = 7 WHERE name = 'n1'")
        await pool.sql("UPDATE nodes SET price = 8 WHERE name = 'n2'")
        assert [node.price for node in (await remembered(pool)).nodes] == [0, 8]
        assert [node.price for node in (await remembered(pool)).nodes] == [0, 8]
        await slow.execute("COMMIT")
    assert [node.price for node in (await remembered(pool)).nodes] == [7, 8]


async def test_what_is_taken_back_is_not_remembered(pool: Pool) -> None:
    await pool.gets(a_view())
    await remembered(pool)
    with pytest.raises(ZeroDivisionError):
        await pool.store.round([a_spec("train", gpus=8)], fails, "admission")
    assert (await remembered(pool)).waiting == ()
    await pool.store.round([a_spec("train", gpus=2)], lambda snapshot, now: (Plan(()), {}), "admission")
    (waiting,) = (await remembered(pool)).waiting
    assert (waiting.spec.groups[0].accelerators, waiting.is_new) == (2, False)


async def test_a_promise_that_is_given_up_frees_its_node(pool: Pool) -> None:
    await pool.gets(a_view())
    await pool.arrive(a_spec("victim", tier=SlaTier.BASIC))
    await pool.runs("victim")
    await pool.arrive(a_spec("urgent", tier=SlaTier.PREMIUM))
    assert (await pool.phases("urgent")) == {"n1": "promised"}
    assert (await remembered(pool)).nodes == (await read_anew(pool)).nodes
    await pool.adjusts("cancel", "urgent")
    assert (await remembered(pool)).nodes == (await read_anew(pool)).nodes


async def test_what_is_deleted_is_forgotten(pool: Pool) -> None:
    await pool.gets(a_view("n1"), a_view("n2"))
    await remembered(pool)
    await pool.sql("DELETE FROM nodes WHERE name = 'n1'")
    assert [node.id for node in (await remembered(pool)).nodes] == ["aws/n2"]


async def test_a_conflict_leaves_the_memory_true(pool: Pool) -> None:
    await pool.gets(a_view("n1"), a_view("n2"))
    await pool.arrive(a_spec("runs"))
    rounds: list[int] = []

    def meddled(snapshot: Snapshot, now: datetime) -> tuple[Plan, Mapping[str, float]]:
        rounds.append(len(snapshot.nodes))
        if len(rounds) == 1:
            _in_another_thread(lambda: pool.elsewhere("UPDATE nodes SET price = price + 1"))
        return Decider().decide(snapshot, now)

    await pool.store.round([a_spec("arrives")], meddled, "admission")
    assert len(rounds) == 2
    assert await pool.state("arrives") is State.RESERVED
    assert await remembered(pool) == await read_anew(pool)


def _in_another_thread(work: Callable[[], Awaitable[None]]) -> None:
    """A planner decides without giving others a turn, so that whoever meddles must have a loop of their own."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, work()).result()  # type: ignore[arg-type]


async def test_two_planners_at_once_remember_the_same(pool: Pool) -> None:
    await pool.gets(*(a_view(f"n{number}") for number in range(4)), queues=[a_queue("research", 28, cap=28)])
    stores = [pool.store, pool.another_store()]

    async def plans(name: str, store: PostgresStore) -> None:
        for number in range(12):
            await store.round([a_spec(f"{name}{number}", gpus=1 + number % 3)], Decider().decide, "admission")
            await store.round([], Decider().decide, "planner")

    await asyncio.gather(*(plans(name, store) for name, store in zip("ab", stores, strict=True)))
    new = await read_anew(pool)
    assert [await remembered(pool, store) for store in stores] == [new, new]
    assert len(new.active) + len(new.waiting) == 24
    assert await pool.findings() == {}


# Nothing is made twice


async def test_what_did_not_change_is_the_same_object_in_the_next_snapshot(pool: Pool) -> None:
    await pool.gets(a_view("n1"), a_view("n2"), a_view("n3"))
    await pool.arrive(a_spec("runs"), a_spec("stays"), a_spec("waits", gpus=8, count=3))
    await pool.runs("runs", "stays")
    before, _ = await pool.store.look()
    await pool.ends("runs")
    await pool.arrive(a_spec("later", gpus=8, count=3))
    after, _ = await pool.store.look()
    assert before.nodes[0] is not after.nodes[0], "its work has ended"
    assert [now is then for now, then in zip(after.nodes, before.nodes, strict=True)] == [False, True, True]
    assert [active.id for active in after.active] == ["stays"]
    assert after.active[0] is next(active for active in before.active if active.id == "stays")
    assert after.waiting[1] is before.waiting[0]
    assert before.queues is after.queues


async def test_of_what_only_its_explanation_changed_the_fact_is_the_same(pool: Pool) -> None:
    await pool.gets(a_view("n1"))
    await pool.arrive(a_spec("runs"))
    await pool.arrive(a_spec("waits"))
    before, _ = await pool.store.look()
    await pool.orders("cordon", "n1")
    assert "waits" in await pool.plan()
    after, _ = await pool.store.look()
    assert after.waiting[0] is before.waiting[0]


async def test_a_snapshot_stays_as_it_was_handed_out(pool: Pool) -> None:
    await pool.gets(a_view("n1"))
    await pool.arrive(a_spec("runs"))
    before, now = await pool.store.look()
    kept = seen_by(before, now)
    await pool.runs("runs")
    pool.clock.move(60)
    await pool.ends("runs")
    await pool.arrive(a_spec("next"))
    await pool.store.look()
    assert seen_by(before, now) == kept


# When nothing may be relied on


def test_another_server_or_a_removal_is_a_cold_start() -> None:
    first = Moment(NOON, removals=0, oldest=10)
    later = Moment(NOON, removals=0, oldest=20)
    assert later.since(first) == 10
    assert later.since(None) == 0
    assert Moment(NOON + seconds(1), removals=0, oldest=20).since(first) == 0, "it may have lost what was read"
    assert Moment(NOON, removals=1, oldest=20).since(first) == 0
    assert Moment(NOON, removals=-1, oldest=20).since(Moment(NOON, removals=-1, oldest=10)) == 0, "nobody counts yet"


def test_values_are_kept_in_the_order_of_their_keys() -> None:
    kept: Kept[str] = Kept()
    for key in "bca":
        kept.put(key, key.upper())
    first = kept.values()
    assert first == ("A", "B", "C")
    kept.put("b", "B")
    assert kept.values() is first
    kept.drop("b")
    kept.put("d", "D")
    kept.put("b", "again")
    kept.drop("nobody's")
    assert kept.values() == ("A", "again", "C", "D")
    kept.change("a", str.lower)
    kept.change("nobody's", str.lower)
    assert kept.values() == ("a", "again", "C", "D")


# Anything may happen


_ANOTHER_LIKE_THE_ONE_ASIDE = """
    INSERT INTO workloads
    SELECT (jsonb_populate_record(template, jsonb_build_object(
        'id', $1::text, 'state', 'waiting', 'spec', jsonb_set(template.spec, '{id}', to_jsonb($1::text))))).*
    FROM workloads AS template WHERE id = 'aside'"""


@dataclass
class Life:
    """Many things that happen to a pool, at random, through two planners and past them."""

    pool: Pool
    random: Random
    others: list[PostgresStore]
    sessions: list[asyncpg.Connection]
    open: dict[int, str] = field(default_factory=dict)
    number: int = 0

    async def step(self) -> str:
        """One thing happens; answers with what it was."""
        deeds = (
            *(self.arrives, self.plans, self.runs, self.ends, self.ends, self.adjusts, self.orders),
            *(self.is_reported, self.is_taken_back, self.begins_to_write, self.is_done_writing, self.goes_by, self.keeps_house),
        )
        deed = self.random.choice(deeds)
        await deed()
        return deed.__name__

    def store(self) -> PostgresStore:
        return self.random.choice([self.pool.store, *self.others])

    async def one_in(self, *states: State) -> str | None:
        rows = await self.pool.sql("SELECT id FROM workloads WHERE state = ANY($1) AND id LIKE 'w%' ORDER BY id", list(states))
        return self.random.choice(rows)["id"] if rows else None

    def name(self) -> str:
        self.number += 1
        return f"w{self.number:03}"

    async def arrives(self) -> None:
        specs = [
            a_spec(
                self.name(),
                gpus=self.random.choice(SIZES),
                count=self.random.choice((1, 1, 2)),
                tier=self.random.choice(list(SlaTier)),
                retries=3,
            )
            for _ in range(self.random.randint(1, 3))
        ]
        await self.store().round(specs, Decider().decide, "admission")

    async def plans(self) -> None:
        await self.store().round([], Decider().decide, "planner")

    async def runs(self) -> None:
        if workload := await self.one_in(State.RESERVED):
            await self.pool.runs(workload)

    async def ends(self) -> None:
        if workload := await self.one_in(State.RUNNING, State.STOPPING):
            await self.pool.ends(workload, self.random.choice((Phase.SUCCEEDED, Phase.FAILED, Phase.LOST, Phase.CANCELLED)))

    async def adjusts(self) -> None:
        verb = self.random.choice(("cancel", "hold", "release", "reprioritize", "resize"))
        asked = {"reprioritize": {"priority": self.random.randint(0, 9)}, "resize": {"count": 2, "minimum": 1}}.get(verb, {})
        if workload := await self.one_in(*State):
            try:
                await self.pool.adjusts(verb, workload, key=self.name(), **asked)
            except NotAllowed:
                return

    async def orders(self) -> None:
        await self.pool.orders(
            self.random.choice(("cordon", "drain", "uncordon", "uncordon")), self.random.choice(("n1", "n2", "n3"))
        )

    async def is_reported(self) -> None:
        view = a_view(self.random.choice(("n1", "n2", "n3", "n4")), price=self.random.randint(1, 3), maximum_replicas=9)
        await self.pool.store.write_nodes("aws", [view], complete=False)

    async def is_taken_back(self) -> None:
        with pytest.raises(ZeroDivisionError):
            await self.store().round([a_spec(f"w{self.number + 1:03}", gpus=8)], fails, "admission")

    async def begins_to_write(self) -> None:
        """A transaction past the store, which stays open while others read and write."""
        if closed := [index for index in range(len(self.sessions)) if index not in self.open]:
            index = self.random.choice(closed)
            self.open[index] = self.name()
            session = self.sessions[index]
            await session.execute("BEGIN")
            await session.execute("UPDATE nodes SET price = price + 1 WHERE id = $1", f"aws/aside-{index}")
            await session.execute(_ANOTHER_LIKE_THE_ONE_ASIDE, self.open[index])

    async def is_done_writing(self) -> None:
        if self.open:
            index = self.random.choice(sorted(self.open))
            del self.open[index]
            await self.sessions[index].execute(self.random.choice(("COMMIT", "COMMIT", "ROLLBACK")))

    async def goes_by(self) -> None:
        self.pool.clock.move(self.random.choice((1, 40, 400, 4_000)))

    async def keeps_house(self) -> None:
        await self.pool.store.keep_house()


@pytest.mark.parametrize("seed", range(4))
async def test_a_planner_that_remembers_and_a_new_one_see_the_same_whatever_happens(pool: Pool, seed: int) -> None:
    aside = [a_view("aside-0", ready=False), a_view("aside-1", ready=False)]
    await pool.gets(a_view("n1"), a_view("n2"), a_view("n3"), *aside, queues=[a_queue("research", 12, cap=20)])
    await pool.decided(lambda _: Plan(()), a_spec("aside", gpus=4))
    await pool.adjusts("hold", "aside")
    async with AsyncExitStack() as stack:
        sessions = [await stack.enter_async_context(pool.session()) for _ in aside]
        for session in sessions:
            stack.push_async_callback(session.execute, "ROLLBACK")
        rival = pool.another_store()
        life = Life(pool, Random(seed), [rival], sessions)
        story = []
        for _ in range(70):
            story.append(await life.step())
            new = await read_anew(pool)
            assert await remembered(pool) == new, story
            if life.random.random() < 0.3:
                assert await remembered(pool, rival) == new, story
    assert await remembered(pool, rival) == await read_anew(pool)
