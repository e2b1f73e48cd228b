"""Losing a cluster in whatever state its work is."""

import asyncio
from datetime import timedelta

import pytest

from activities.ports import NotAllowed, NotFound
from activities.store.clusters import judge
from activities.store.policies import PolicyReader
from activities.store.rows import Journal
from corral.api import LostCluster, State
from domain.pool.leases import LeaseTerms
from tests.activities.store.pool import POOL, PROVIDER, Pool, a_spec, a_view
from tests.activities.store.test_audit import make_busy
from tests.patience import PATIENCE_SECONDS

TERMS = LeaseTerms(*(timedelta(seconds=each) for each in (100, 10, 5, 30)))


async def asks(pool: Pool, answered: bool, after_seconds: float = 0) -> str:
    pool.clock.move(after_seconds)
    asked_at = pool.clock.now()
    leases = await pool.store.grant_leases(PROVIDER, TERMS)
    heard = frozenset(leases) if answered else frozenset[str]()
    return (await pool.store.judge_clusters(PROVIDER, TERMS, asked_at=asked_at, answered=heard))[0].words


@pytest.mark.parametrize("rounds", [True, False])
async def test_whatever_its_work_was_at_a_cluster_is_suspect_and_lost(pool: Pool, rounds: bool) -> None:
    await make_busy(pool)
    await asks(pool, answered=True)
    pool.clock.move(4_000)  # the leases that `make_busy` asked for are longer
    await asks(pool, answered=True)
    assert await asks(pool, answered=False, after_seconds=31) == "clusters: 1 suspect"
    if rounds:
        await pool.plan()
    assert await pool.findings() == {}
    assert await asks(pool, answered=False, after_seconds=10_000) == "clusters: 1 lost"
    assert await pool.findings() == {}
    open_ones = await pool.sql("SELECT count(*) AS n FROM attempts WHERE ended_at IS NULL")
    assert open_ones[0]["n"] == 0


BURNT = LostCluster(cluster="aws/eu/eu-1", reason="it has burnt down", who="ada")


async def test_work_of_a_cluster_that_a_person_declares_lost_is_started_elsewhere_before_its_lease_is_over(
    pool: Pool,
) -> None:
    await pool.gets(a_view(), a_view("n2", region="us"))
    await pool.arrive(a_spec("w"))
    await pool.runs("w")
    await asks(pool, answered=True)
    assert await asks_of(pool, set(), after_seconds=31) == "clusters: 1 reachable, 1 suspect"
    await pool.store.declare_lost(BURNT)
    assert await pool.states("w") == [State.RUNNING]
    assert await asks_of(pool, set()) == "clusters: 1 reachable, 1 lost"
    await pool.plan()
    (status,) = [await pool.store.status("w")]
    assert status is not None
    assert (status.state, status.epoch) == (State.RESERVED, 2)
    assert await pool.findings() == {}
    (cluster, _) = await pool.store.clusters()
    assert "ada says that nothing runs there any more: it has burnt down" in cluster.trail[-2].reason
    await pool.store.declare_lost(BURNT)
    assert (await pool.store.clusters())[0] == cluster, "it is lost already"
    assert await asks_of(pool, {"eu/eu-1"}) == "clusters: 1 reachable, 1 returned"


async def asks_of(pool: Pool, others: set[str], after_seconds: float = 0) -> str:
    """The cluster in us answers, and those others."""
    pool.clock.move(after_seconds)
    asked_at = pool.clock.now()
    await pool.store.grant_leases(PROVIDER, TERMS)
    answered = frozenset({"us/eu-1", *others})
    return (await pool.store.judge_clusters(PROVIDER, TERMS, asked_at=asked_at, answered=answered))[0].words


async def test_a_declared_cluster_that_answers_before_it_is_lost_goes_on(pool: Pool) -> None:
    await pool.gets(a_view())
    await asks(pool, answered=True)
    assert await asks(pool, answered=False, after_seconds=31) == "clusters: 1 suspect"
    await pool.store.declare_lost(BURNT)
    assert await asks(pool, answered=True) == "clusters: 1 reachable"
    assert (await pool.store.grant_leases(PROVIDER, TERMS))["eu/eu-1"] == pool.clock.now() + TERMS.length
    assert await asks(pool, answered=False, after_seconds=31) == "clusters: 1 suspect", "what was said then is over"


async def test_nobody_can_say_of_a_cluster_that_answers_that_it_is_lost(pool: Pool) -> None:
    await pool.gets(a_view())
    await asks(pool, answered=True)
    with pytest.raises(NotAllowed, match="cluster 'aws/eu/eu-1' answers; to move its work elsewhere, run `corral evacuate"):
        await pool.store.declare_lost(BURNT)
    with pytest.raises(NotFound, match="there is no cluster 'aws/eu/mars'; `corral clusters` lists them"):
        await pool.store.declare_lost(BURNT.model_copy(update={"cluster": "aws/eu/mars"}))


async def test_a_node_that_comes_while_its_cluster_is_being_judged_is_what_the_cluster_becomes(pool: Pool) -> None:
    await pool.gets(a_view())
    await asks(pool, answered=True)
    pool.clock.move(31)
    async with pool.engine.connect() as judging, judging.begin() as judged:
        journal = Journal(pool.clock, PolicyReader(POOL, pool.policy), pool.clock.now())
        await judge(judging, journal, PROVIDER, TERMS, asked_at=pool.clock.now(), answered=frozenset())
        coming = asyncio.create_task(pool.another_store().write_nodes(PROVIDER, [a_view("new")], complete=False))
        await until_it_waits_or_is_done(pool, coming)
        await judged.commit()
    await coming
    assert {node.id: node.health for node in await pool.store.nodes()} == {"aws/n1": "suspect", "aws/new": "suspect"}


async def until_it_waits_or_is_done(pool: Pool, writing: "asyncio.Task[None]") -> None:
    waiting = "SELECT count(*) AS n FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            if writing.done() or (await pool.sql(waiting))[0]["n"]:
                return
            await asyncio.sleep(0.01)
