"""Losing a cluster in whatever state its work is."""

from datetime import timedelta

import pytest

from domain.leases import LeaseTerms
from tests.activities.store.pool import PROVIDER, Pool
from tests.activities.store.test_audit import make_busy

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
