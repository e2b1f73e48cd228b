"""What ended long ago leaves the record; what something follows from stays, and so do figures."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest

from activities.store import forgetting
from activities.store.figures import Figures
from activities.store.forgetting import RULES
from corral.api import Cordon, PlaceKind
from corral.reservation import ReservationSpec
from corral.rollout import RolloutState
from corral.schedule import RecurringEvacuation, ScheduleSpec
from corral.signing import Command, due, mandated
from domain.operations.mandates import Occasion
from tests.activities.store.pool import POOL, PROVIDER, Pool, a_spec, a_view, noon

DAY = timedelta(days=1)
RETENTION = 7 * DAY
DAYS_LATER = 8 * 86_400

AGED = {"outbox": "written", "operations": "written", "signed_orders": "at", "mandates": "until"}
"""The columns that say by the clock of the wall how old a row is, which no test can set."""


async def count(pool: Pool, table: str) -> int:
    (row,) = await pool.sql(f"SELECT count(*) AS rows FROM {table}")
    return int(row["rows"])


async def grows_old(pool: Pool) -> None:
    """Eight days go by."""
    pool.clock.move(DAYS_LATER)
    for table, column in AGED.items():
        await pool.sql(f"UPDATE {table} SET {column} = {column} - interval '8 days'")


async def forgets(pool: Pool) -> int:
    """All that is to be forgotten, is; answers with how many rows that were."""
    gone = 0
    while some := await pool.store.forget_old(RETENTION):
        gone += some
    return gone


def a_command(subject: str, request: str = "once") -> Command:
    return Command("submit", subject, request, "digest")


def a_window(id: str, opens_in: float) -> ReservationSpec:
    return ReservationSpec(id=id, queues=("research",), accelerators=8, sku="h100", start=noon(opens_in), seconds=100)


async def a_past(pool: Pool) -> None:
    """Work has come and gone, and one waits; all has been told but one thing."""
    await pool.gets(a_view())
    await pool.arrive(a_spec("done"), a_spec("waits"))
    await pool.runs("done")
    await pool.adjusts("reprioritize", "waits", priority=7)
    await pool.store.cordon(PROVIDER, Cordon(action="cordon", nodes=("n1",), reason="a look at it"), "key")
    await pool.ends("done")
    await pool.store.delivered(await pool.store.undelivered(-1.0))


async def test_what_was_decided_told_and_done_is_forgotten_when_it_is_old(pool: Pool) -> None:
    await a_past(pool)
    before = {table: await count(pool, table) for table in ("rounds", "decisions", "outbox", "operations")}
    assert all(before.values())
    assert await forgets(pool) == 0
    assert {table: await count(pool, table) for table in before} == before
    await grows_old(pool)
    assert await forgets(pool) == before["rounds"] + before["outbox"] + before["operations"]
    assert {table: await count(pool, table) for table in before} == dict.fromkeys(before, 0)
    assert await pool.findings() == {}


async def test_what_was_not_told_is_told_however_late(pool: Pool) -> None:
    await a_past(pool)
    (last,) = await pool.sql("SELECT max(id) AS id FROM outbox")
    await pool.sql("UPDATE outbox SET delivered = NULL WHERE id = $1", last["id"])
    await grows_old(pool)
    await forgets(pool)
    assert [notice.id for notice in await pool.store.undelivered(0.0)] == [last["id"]]


async def test_figures_that_add_up_stay_what_they_were_for_old_and_new_workers(pool: Pool) -> None:
    await a_past(pool)
    await pool.store.reserve(a_window("missed", 10))
    pool.clock.move(20)
    await pool.plan()
    pool.clock.move(200)
    await pool.store.advance_reservation("missed")
    before = _that_add_up(await pool.store.figures())
    assert before["reservation_misses"]
    assert before["rounds"]
    await grows_old(pool)
    assert await forgets(pool) > 0
    assert await count(pool, "reservations") == await count(pool, "misses") == 0
    assert _that_add_up(await pool.store.figures()) == before
    assert _that_add_up(await pool.another_store().figures()) == before
    await pool.arrive(a_spec("later"))
    later = _that_add_up(await pool.store.figures())
    assert later != before
    assert _that_add_up(await pool.another_store().figures()) == later


def _that_add_up(figures: Figures) -> Mapping[str, object]:
    return {name: figures[name] for rule in RULES for name in rule.figures}


async def test_a_reservation_that_is_not_over_stays(pool: Pool) -> None:
    await pool.gets(a_view())
    await pool.store.reserve(a_window("to-come", 10 * DAYS_LATER))
    await grows_old(pool)
    await forgets(pool)
    assert await count(pool, "reservations") == 1


async def test_operations_are_forgotten_unless_one_beside_them_is_still_under_way(pool: Pool) -> None:
    await pool.gets(a_view())
    for id, began, ended in (("before", 0, 10), ("under-way", 20, None), ("beside", 30, 40)):
        state = RolloutState.WATCHING if ended is None else RolloutState.DONE
        await pool.sql(
            "INSERT INTO orders (id, kind, subject, terms, state, began_at, ended_at, progress, trail)"
            " VALUES ($1, 'policy-roll-out', 'policy', '{}', $2, $3, $4, '{}', '[]')",
            *(id, state, noon(began), None if ended is None else noon(ended)),
        )
    await grows_old(pool)
    await forgets(pool)
    assert [row["id"] for row in await pool.sql("SELECT id FROM orders ORDER BY id")] == ["beside", "under-way"]


async def test_two_workers_that_forget_at_once_add_up_once(pool: Pool) -> None:
    await a_past(pool)
    before = _that_add_up(await pool.another_store().figures())
    await grows_old(pool)
    others = [pool.another_store() for _ in range(4)]
    await asyncio.gather(*(other.forget_old(RETENTION) for other in others))
    assert await count(pool, "rounds") == 0
    assert _that_add_up(await pool.another_store().figures()) == before


async def test_orders_that_were_signed_stay_as_long_as_what_they_are_about(pool: Pool) -> None:
    await a_past(pool)
    for subject in ("workload/done", "workload/waits", "workload/never-was", "pool"):
        await pool.store.ordered("ada", a_command(subject), "run")
    await grows_old(pool)
    await forgets(pool)
    assert [order.subject for order in await pool.store.orders(None, 10)] == ["workload/waits"]
    assert (await pool.store.whereabouts("workload/waits"))[1] == "ada"


async def test_orders_about_work_that_ended_of_late_stay(pool: Pool) -> None:
    await a_past(pool)
    await pool.store.ordered("ada", a_command("workload/waits"), "run")
    await grows_old(pool)
    await pool.adjusts("cancel", "waits", "cancelled")
    await forgets(pool)
    assert [order.subject for order in await pool.store.orders(None, 10)] == ["workload/waits"]


async def test_a_mandate_stays_until_it_has_ended_also_when_it_was_revoked_and_orders_by_it_as_long(pool: Pool) -> None:
    now = datetime.now(UTC)
    place = RecurringEvacuation(kind=PlaceKind.CLUSTER, place="sim/eu/eu-1")
    ends = {"over": now + DAY / 2, "in-force": now + 30 * DAY}
    for id, until in ends.items():
        spec = ScheduleSpec(id=id, evacuate=place, cron="0 * * * *", until=until, pool=POOL, reason="patches", who="ada")
        await pool.store.ordered("ada", mandated(spec), "run")
        await pool.store.mandate(spec, now)
        await pool.store.ordered("ada", due(spec, now), "run", Occasion(spec.mandate, now))
    await pool.sql("UPDATE mandates SET revoked_at = now(), revoked_because = 'left'")
    await grows_old(pool)
    await forgets(pool)
    assert [mandate.schedule for mandate in await pool.store.mandates(10)] == ["in-force"]
    orders = await pool.store.orders(None, 10)
    assert [order.subject.partition("-2")[0] for order in orders] == ["evacuation/in-force", "schedule/in-force"]


@pytest.mark.parametrize("at_once", [1, 2, 3])
async def test_what_stays_is_passed_by_a_stretch_at_a_time(pool: Pool, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    await a_past(pool)
    for subject in ("workload/waits", "workload/waits", "pool", "workload/waits", "workload/done", "pool"):
        await pool.store.ordered("ada", a_command(subject, str(await count(pool, "signed_orders"))), "run")
    await grows_old(pool)
    monkeypatch.setattr(forgetting, "AT_ONCE", at_once)
    for _ in range(100):
        await pool.store.forget_old(RETENTION)
    assert {order.subject for order in await pool.store.orders(None, 10)} == {"workload/waits"}
    assert await count(pool, "outbox") == await count(pool, "rounds") == await count(pool, "operations") == 0
