"""`python -m tests.benchmarks.watching`: what it costs to tell Prometheus of a large pool with a long past; JSON lines."""

import asyncio
import time
from collections.abc import AsyncIterator

from activities.store.migrations import upgrade
from tests.activities.store.pool import Pool, a_spec, a_view
from tests.benchmarks.figures import Figure, spread
from tests.servers import running_postgres

NODES, WAITING, ENDED = 12_500, 20_000, 200_000
READINGS = 5

_MORE_WORKLOADS = """
    INSERT INTO workloads SELECT (jsonb_populate_record(one, jsonb_build_object(
        'id', 'w' || number, 'state', CASE WHEN number <= $1 THEN 'succeeded' ELSE 'waiting' END,
        'ended_at', CASE WHEN number <= $1 THEN one.since END))).*
    FROM workloads AS one, generate_series(1, $2) AS number WHERE one.id = 'one'"""
_MORE_ATTEMPTS = """
    INSERT INTO attempts SELECT (jsonb_populate_record(one, jsonb_build_object(
        'id', 'w' || number || '.1', 'workload_id', 'w' || number, 'ended_at', one.bound_at,
        'outcome', CASE WHEN number % 7 = 0 THEN 'preempted' ELSE 'finished' END))).*
    FROM attempts AS one, generate_series(1, $1) AS number WHERE one.id = 'one.1'"""


async def measure() -> AsyncIterator[Figure]:
    """Seconds of the first reading of figures, which counts all that ever was, and of later ones."""
    async with running_postgres() as server:
        url = await server.create_database()
        await upgrade(url)
        pool = Pool.at(url)
        await pool.gets(*[a_view(f"n{number}") for number in range(NODES)])
        await pool.arrive(a_spec("one"))
        await pool.runs("one")
        await pool.sql(_MORE_WORKLOADS, ENDED, ENDED + WAITING)
        await pool.sql(_MORE_ATTEMPTS, ENDED)
        await pool.sql("ANALYZE")
        yield Figure("first reading of the figures", "s", spread([await _seconds(pool)]))
        yield Figure("later readings of the figures", "s", spread([await _seconds(pool) for _ in range(READINGS)]))
        await pool.engine.dispose()


async def _seconds(pool: Pool) -> float:
    began = time.perf_counter()
    figures = await pool.store.figures()
    assert sum(figures["attempts_ended"].values()) == ENDED
    return time.perf_counter() - began


async def main() -> None:
    """Print each figure when it is there."""
    async for figure in measure():
        print(figure.as_json(), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
