"""A record that was restored from a backup is taken up: everybody hears how they stand by it, as news."""

from datetime import timedelta

from activities.answers import Notice
from corral.api import EvacuationOrder, PlaceKind, State
from domain.pool.leases import LeaseTerms, Reach
from tests.activities.store.pool import PROVIDER, Pool, a_spec, a_view, by_workload
from tests.builders import NOON

TERMS = LeaseTerms(*(timedelta(seconds=each) for each in (100, 10, 5, 30)))
LONG_AFTERWARDS = 900_000
"""A version that a workload's workflow may have heard of after the backup."""


async def undelivered(pool: Pool) -> list[Notice]:
    return await pool.store.undelivered(0)


async def has_work(pool: Pool) -> None:
    """Work that runs, waits, and has ended, of which everybody has heard."""
    await pool.gets(a_view())
    await pool.arrive(a_spec("runs"), a_spec("waits"))
    await pool.runs("runs")
    await pool.arrive(a_spec("over", gpus=1))
    await pool.adjusts("cancel", "over")
    await pool.store.delivered(await undelivered(pool))


async def test_all_live_work_is_told_how_it_stands_under_a_version_that_nobody_has_heard_of(pool: Pool) -> None:
    await has_work(pool)
    assert await pool.store.take_up(TERMS) == 2
    told = by_workload(await undelivered(pool))
    assert {id: standing.state for id, standing in told.items()} == {"runs": State.RUNNING, "waits": State.WAITING}
    assert min(standing.version for standing in told.values()) > LONG_AFTERWARDS
    assert told["runs"].place, "also where it runs"
    assert {id: await pool.standing(id) for id in told} == told
    assert await pool.findings() == {}


async def test_it_may_be_taken_up_again(pool: Pool) -> None:
    await has_work(pool)
    await pool.store.take_up(TERMS)
    first = await pool.standing("runs")
    await pool.store.take_up(TERMS)
    assert (await pool.standing("runs")).version > first.version + LONG_AFTERWARDS
    assert await pool.states("runs", "waits", "over") == [State.RUNNING, State.WAITING, State.CANCELLED]


async def test_work_goes_on_from_there(pool: Pool) -> None:
    await has_work(pool)
    await pool.store.take_up(TERMS)
    await pool.ends("runs")
    await pool.plan()
    assert await pool.states("runs", "waits") == [State.SUCCEEDED, State.RESERVED]


async def test_a_planner_that_has_seen_what_followed_the_backup_believes_the_record(pool: Pool) -> None:
    await has_work(pool)
    await pool.store.look()
    await pool.sql("ALTER TABLE workloads DISABLE TRIGGER USER")
    await pool.sql("UPDATE workloads SET submitted_at = $1, changed = 0 WHERE id = 'waits'", NOON - timedelta(hours=1))
    await pool.sql("ALTER TABLE workloads ENABLE TRIGGER USER")
    await pool.store.take_up(TERMS)
    (waiting,) = (await pool.store.look())[0].waiting
    assert waiting.submitted_at == NOON - timedelta(hours=1)


async def test_what_a_suspect_cluster_ran_is_started_elsewhere_only_after_any_lease_that_it_may_have(pool: Pool) -> None:
    await has_work(pool)
    await pool.store.grant_leases(PROVIDER, TERMS)
    now = pool.clock.now()
    await pool.store.judge_clusters(PROVIDER, TERMS, asked_at=now, answered=frozenset({"eu/eu-1"}))
    pool.clock.move(31)
    await pool.store.judge_clusters(PROVIDER, TERMS, asked_at=pool.clock.now(), answered=frozenset())
    pool.clock.move(1_000)
    await pool.store.take_up(TERMS)
    for seconds, reach in ((114, Reach.SUSPECT), (1, Reach.LOST)):
        pool.clock.move(seconds)
        await pool.store.judge_clusters(PROVIDER, TERMS, asked_at=pool.clock.now(), answered=frozenset())
        assert [row["reach"] for row in await pool.sql("SELECT reach FROM clusters")] == [reach]


async def test_operations_under_way_have_a_version_that_nobody_has_heard_of(pool: Pool) -> None:
    await has_work(pool)
    order = EvacuationOrder(id="storm", kind=PlaceKind.NODE, place="aws/n1", reason="storm", who="ada", at_once=1)
    before, _ = await pool.store.evacuate(order)
    await pool.store.take_up(TERMS)
    (after,) = await pool.store.evacuations(10)
    assert after.version > before.version + LONG_AFTERWARDS
    assert after.state is before.state


async def test_who_is_in_the_record_is_told_from_who_is_not(pool: Pool) -> None:
    await has_work(pool)
    assert await pool.store.known(["over", "runs", "younger"]) == {"over", "runs"}
