"""Words for situations of endpoints: one runs, demand is told, a round orders another size, its provider has it."""

from datetime import timedelta

from activities.ports import Phase, StopOrder
from corral.api import Autoscale
from tests.activities.store.pool import Pool, a_spec, a_view

RULES = Autoscale(target=10, minimum=0, most=6, step_down=6)


async def runs_as_endpoint(pool: Pool, rules: Autoscale | None = RULES) -> None:
    """An endpoint `w` of one accelerator a replica that runs with one replica."""
    await pool.gets(a_view())
    await pool.arrive(a_spec("w", gpus=1, minimum=0, autoscale=rules))
    await pool.runs("w")


async def tells(pool: Pool, demand: float, *, after: float = 0) -> str:
    """Tell the endpoint its demand so many seconds later; answers what was said to that."""
    pool.clock.time += timedelta(seconds=after)
    done = await pool.adjusts("demand", "w", str(pool.clock.time), demand=demand, at=pool.clock.time)
    return str(done.message)


async def replicas(pool: Pool) -> int:
    """What it has, in whole accelerators."""
    return await pool.used() // 1000


async def becomes(pool: Pool, replicas: int, after: float = 20) -> None:
    """Demand asks for so many replicas, and a round orders them."""
    await tells(pool, 10 * replicas, after=after)
    await pool.plan()


async def order(pool: Pool) -> StopOrder:
    """What its provider is to know."""
    found = await pool.store.stop_order(await pool.key("w"))
    assert found is not None
    return found


async def is_resized(pool: Pool, notice: int | None = None) -> None:
    """Its provider is seen to have carried out a notice for another size: the last one, if none is named."""
    notice = notice or (await order(pool)).notice
    await pool.seen(await pool.observation("w", Phase.RUNNING, resized=notice))
