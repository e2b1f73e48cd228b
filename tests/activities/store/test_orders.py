"""Signed orders in the record: once each, by whom, about what."""

from datetime import UTC, datetime, timedelta

from corral.reservation import ReservationSpec
from corral.signing import Command
from tests.activities.store.pool import Pool, a_spec, a_view, noon
from tests.builders import a_cohort, a_queue

SUBMIT = Command("submit", "workload/w", "digest", "x")
CANCEL = Command("cancel", "workload/w", "r1", "x")
QUEUES = (*a_cohort(a_queue("research", 64), a_queue("product", 64), name="science"),)


async def test_an_order_is_written_down_once_and_tells_in_which_run(pool: Pool) -> None:
    assert not await pool.store.is_ordered("ada", SUBMIT)
    assert await pool.store.ordered("ada", SUBMIT, "run-1") == "run-1"
    assert await pool.store.ordered("ada", SUBMIT, "run-2") == "run-1"
    assert await pool.store.is_ordered("ada", SUBMIT)
    assert await pool.store.is_ordered(None, SUBMIT)
    assert not await pool.store.is_ordered("ben", SUBMIT)
    (record,) = await pool.store.orders(None, 10)
    assert (record.principal, record.command, record.subject, record.request) == ("ada", "submit", "workload/w", "digest")
    assert abs(record.at - datetime.now(UTC)) < timedelta(minutes=5), "by the clock of the wall"


async def test_orders_are_listed_newest_first_and_by_what_they_are_about(pool: Pool) -> None:
    await pool.store.ordered("ada", SUBMIT, "run")
    await pool.store.ordered("ben", CANCEL, "run")
    await pool.store.ordered("ops", Command("cordon", "provider/aws", "r1", "x"), "run")
    assert [record.principal for record in await pool.store.orders(None, 2)] == ["ops", "ben"]
    assert [record.command for record in await pool.store.orders("workload/w", 10)] == ["cancel", "submit"]


async def test_a_workload_is_of_its_queue_and_of_who_submitted_it_first(pool: Pool) -> None:
    await pool.gets(a_view(), queues=QUEUES)
    await pool.arrive(a_spec("w"))
    assert await pool.store.whereabouts("workload/w") == (["research"], None)
    await pool.store.ordered("ada", SUBMIT, "run")
    await pool.store.ordered("ben", Command("submit", "workload/w", "again", "x"), "run")
    assert await pool.store.whereabouts("workload/w") == (["research"], "ada")
    assert await pool.store.whereabouts("workload/nobody") == ([], None)
    assert await pool.store.whereabouts("pool") == ([], None)


async def test_a_reservation_is_of_its_queues(pool: Pool) -> None:
    await pool.gets(a_view(), queues=QUEUES)
    spec = ReservationSpec(id="r", start=noon(3600), seconds=60, accelerators=8, sku="h100", queues=("research", "product"))
    await pool.store.reserve(spec)
    assert await pool.store.whereabouts("reservation/r") == (("research", "product"), None)


async def test_a_queue_stands_in_a_line_up_to_its_root(pool: Pool) -> None:
    await pool.gets(a_view(), queues=QUEUES)
    assert await pool.store.lines(["product", "nobodys", "science"]) == [["product", "science"], ["nobodys"], ["science"]]
