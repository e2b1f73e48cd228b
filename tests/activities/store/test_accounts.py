"""What ran and what it cost, summed up by the hour, and the budgets that are read from it."""

from collections.abc import Sequence
from typing import Any

import pytest

from activities.ports import Phase
from activities.store.accounts import FLEET, AccountBook
from corral.api import BudgetSpec, BudgetUnit, QueueSpec, QueueTree, Reason, State
from corral.policy import Fairness, Policy, Rank
from domain.quota.flows import Flows, Spell, flows_of
from tests.activities.store.pool import Pool, a_spec, a_view, noon
from tests.builders import a_queue

HOUR = 3_600
PRICE = 2_000_000
"""Two dollars an hour."""


def with_budgets(*budgets: BudgetSpec) -> list[QueueSpec]:
    research = a_queue("research", 1_000, parent="company").model_copy(update={"budgets": budgets})
    return [a_queue("company"), research]


def a_budget(amount: int, unit: BudgetUnit = BudgetUnit.ACCELERATOR_HOURS, **fields: Any) -> BudgetSpec:
    return BudgetSpec(unit=unit, amount=amount, **fields)


async def spells(pool: Pool) -> list[Spell]:
    """The ledger, as the domain sums it up."""
    rows = await pool.sql("SELECT * FROM ledger ORDER BY id")
    return [
        Spell(row["queue"], sku, milli, row["cost_by_sku"][sku], row["began_at"], row["ended_at"])
        for row in rows
        for sku, milli in row["allocated_by_sku"].items()
    ]


async def read(pool: Pool, book: AccountBook | None = None) -> dict[tuple[str, str], Flows]:
    book = book or AccountBook()
    async with pool.engine.begin() as connection:
        await book.refresh(connection)
    return {key: without_nothing(flows) for key, flows in book.flows().items() if key[0] != FLEET}


def without_nothing(flows: Flows) -> Flows:
    """Hours that have no row in the record, for what happened in them comes to nothing."""
    return Flows(*(tuple(flow for flow in part if flow.change or flow.moment) for part in flows))


def by_hand(found: Sequence[Spell]) -> dict[tuple[str, str], Flows]:
    return {key: without_nothing(flows) for key, flows in flows_of(found).items()}


async def lives(pool: Pool) -> None:
    """Work runs over hours, ends in many ways, and is observed late and out of order."""
    await pool.gets(a_view("n1", price=PRICE), a_view("n2", price=PRICE + 1))
    await pool.arrive(a_spec("long"), a_spec("short", gpus=4), a_spec("held", gpus=1))
    await pool.runs("long", "short")
    pool.clock.move(HOUR + 17.5)
    await pool.ends("short", at=noon(HOUR / 2), started=noon(10))
    await pool.adjusts("cancel", "held")
    pool.clock.move(2 * HOUR)
    await pool.arrive(a_spec("third", gpus=2))
    await pool.binds("third")
    await pool.adjusts("hold", "third")


async def test_the_sums_are_those_of_the_ledger(pool: Pool) -> None:
    await lives(pool)
    assert await read(pool) == by_hand(await spells(pool)) != {}
    assert await pool.findings() == {}


async def test_a_reader_that_reads_only_what_changed_knows_all_the_same(pool: Pool) -> None:
    book = AccountBook()
    await read(pool, book)
    await lives(pool)
    assert await read(pool, book) == await read(pool)
    pool.clock.move(HOUR)
    await pool.ends("long")
    assert await read(pool, book) == await read(pool) == by_hand(await spells(pool))


async def test_a_reader_misses_nothing_that_is_committed_late(pool: Pool) -> None:
    await lives(pool)
    book = AccountBook()
    async with pool.session() as slow, slow.transaction():
        await slow.execute("UPDATE ledger SET ended_at = $1 WHERE workload_id = 'long' AND ended_at IS NULL", noon(4 * HOUR))
        await pool.arrive(a_spec("later", queue="research", gpus=1))
        before = await read(pool, book)
    assert before != await read(pool)
    assert await read(pool, book) == await read(pool)


async def test_a_hard_budget_lets_nothing_start_that_would_exceed_it(pool: Pool) -> None:
    await pool.gets(a_view("n1"), a_view("n2"), queues=with_budgets(a_budget(20)))
    await pool.arrive(a_spec("first", expected_seconds=HOUR))
    await pool.runs("first")
    assert await pool.state("first") is State.RUNNING
    pool.clock.move(HOUR)
    standing = (await pool.arrive(a_spec("second", expected_seconds=2 * HOUR)))["second"]
    assert (standing.state, standing.reason) == (State.WAITING, Reason.BUDGET_EXHAUSTED)
    assert (await pool.arrive(a_spec("third", expected_seconds=HOUR)))["third"].state is State.RESERVED
    await pool.store.apply_queues(QueueTree(queues=tuple(with_budgets(a_budget(40)))))
    await pool.plan()
    assert await pool.state("second") is State.WAITING, "the third has not left its node"
    await pool.ends("first")
    await pool.plan()
    assert await pool.state("second") is State.RESERVED


async def test_a_period_that_begins_lets_work_start_without_any_event(pool: Pool) -> None:
    budget = a_budget(4, period_seconds=24 * HOUR, since=noon(HOUR - 24 * HOUR * 30))
    await pool.gets(a_view(), queues=with_budgets(budget))
    await pool.arrive(a_spec("first"))
    await pool.runs("first")
    pool.clock.move(HOUR - 1)
    await pool.ends("first")
    waits = (await pool.arrive(a_spec("second", expected_seconds=HOUR // 4)))["second"]
    assert (waits.state, waits.reason) == (State.WAITING, Reason.BUDGET_EXHAUSTED)
    pool.clock.move(1)
    assert (await pool.plan())["second"].state is State.RESERVED


async def test_budgets_are_shown_with_what_is_spent(pool: Pool) -> None:
    hours, dollars = a_budget(100), a_budget(50, BudgetUnit.DOLLARS, half_life_seconds=24 * HOUR, hard=False)
    await pool.gets(a_view(price=PRICE), queues=with_budgets(hours, dollars))
    await pool.arrive(a_spec("train", gpus=4))
    await pool.runs("train")
    pool.clock.move(HOUR)
    await pool.ends("train", Phase.SUCCEEDED)
    shown = {queue.name: queue.budgets for queue in await pool.store.queues()}["research"]
    assert [status.budget for status in shown] == [hours, dollars]
    assert shown[0].spent == 4
    assert 7.5 < shown[1].spent <= 8


async def test_the_price_that_counts_is_that_of_the_start(pool: Pool) -> None:
    await pool.gets(a_view(price=PRICE), queues=with_budgets(a_budget(100, BudgetUnit.DOLLARS)))
    await pool.arrive(a_spec("train", gpus=4))
    await pool.runs("train")
    await pool.store.write_nodes("aws", [a_view(price=10 * PRICE)], complete=True)
    pool.clock.move(HOUR)
    await pool.ends("train")
    assert [spell.hourly_cost for spell in await spells(pool)] == [4_000 * PRICE] * 2
    assert {queue.name: queue.budgets for queue in await pool.store.queues()}["research"][0].spent == 8


async def test_past_use_beyond_nominal_is_a_part_of_the_capacity_that_was_there(pool: Pool) -> None:
    tree = [a_queue("company", 8), a_queue("research", 4, parent="company"), a_queue("sales", 4, parent="company")]
    await pool.gets(a_view("n1"), a_view("n2"), queues=tree)
    await pool.arrive(a_spec("beyond", gpus=8), a_spec("within", gpus=4, queue="sales"))
    await pool.runs("beyond", "within")
    pool.clock.move(HOUR)
    await pool.orders("cordon", "n2")
    pool.clock.move(HOUR)
    book = AccountBook()
    async with pool.engine.begin() as connection:
        await book.refresh(connection)
    policy = Policy(rank=Rank(fairness=Fairness(half_life_seconds=10**7)))
    past = book.past_use(tuple(tree), policy, pool.clock.now())
    assert past.keys() == {"research"}
    assert float(past["research"]) == pytest.approx(4 * 2 / (16 + 8), rel=1e-3)
    assert await pool.findings() == {}


async def test_who_borrowed_lately_stands_behind_who_did_not(pool: Pool) -> None:
    pool.policy = Policy(rank=Rank(preemption=False, fairness=Fairness(half_life_seconds=HOUR)))
    pool.store = pool.another_store()
    tree = [a_queue("company", 8), a_queue("research", 0, parent="company"), a_queue("sales", 0, parent="company")]
    await pool.gets(a_view(), queues=tree)
    await pool.arrive(a_spec("greedy"))
    await pool.runs("greedy")
    pool.clock.move(2 * HOUR)
    await pool.arrive(a_spec("research-next"))
    pool.clock.move(1)
    await pool.arrive(a_spec("sales-next", queue="sales"))
    await pool.ends("greedy")
    await pool.plan()
    assert await pool.states("research-next", "sales-next") == [State.WAITING, State.RESERVED]
