"""Words for situations of endpoints: one runs, demand is told, a round orders another size, its provider has it."""

from datetime import timedelta
from typing import Any

from activities.ports import Phase, StopOrder
from corral.api import Autoscale, State
from corral.policy import Policy, QuotaModel
from domain.pool.leases import LeaseTerms
from tests.activities.store.pool import PROVIDER, Pool, a_spec, a_view
from tests.builders import a_queue

GRACE, STEP = 30, Policy().stop_seconds
"""Seconds: the grace of the endpoint, and how long a step of its leaving may take besides."""

QUEUES = (a_queue("company", 0), a_queue("owners", 4, parent="company"), a_queue("guests", 0, parent="company"))

RULES = Autoscale(target=10, minimum=0, most=6, step_down=6)

CLUSTER, SUSPECT_SECONDS = "eu/eu-1", 30
LEASES = LeaseTerms(
    length=timedelta(seconds=10_000), grace=timedelta(0), skew=timedelta(0), suspect_after=timedelta(seconds=SUSPECT_SECONDS)
)


async def runs_as_endpoint(pool: Pool, rules: Autoscale | None = RULES, **more: Any) -> None:
    """An endpoint `w` of one accelerator a replica that runs with one replica."""
    await pool.gets(a_view())
    await pool.arrive(a_spec("w", gpus=1, minimum=0, autoscale=rules, **more))
    await pool.runs("w")


async def is_to_grow_at_others_expense(pool: Pool) -> None:
    """`w` runs with one replica of one device, and is to have three, all of which its queue owns; `guest` has six of eight."""
    pool.decide_by(QuotaModel.DESERVED)
    await pool.gets(a_view(), queues=QUEUES)
    await pool.arrive(a_spec("w", gpus=1, minimum=0, autoscale=RULES, queue="owners"))
    await pool.runs("w")
    await pool.arrive(a_spec("guest", gpus=6, queue="guests"))
    await pool.runs("guest")
    pool.clock.move(1_000)
    await becomes(pool, 3)
    assert await pool.states("w", "guest") == [State.RESIZING, State.STOPPING]


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


async def runs_with(pool: Pool, size: int, **more: Any) -> None:
    """`w` has come to so many replicas as it ran."""
    await runs_as_endpoint(pool, **more)
    await becomes(pool, size)
    await is_resized(pool)


async def passes(pool: Pool, seconds: float) -> None:
    """So much time passes, and housekeeping looks."""
    pool.clock.move(seconds)
    await pool.store.keep_house()


async def is_forced(pool: Pool) -> None:
    """The grace of the two is over, and they are stopped by force."""
    await shrinks(pool)
    await passes(pool, GRACE + STEP + 1)


async def shrinks(pool: Pool) -> None:
    """`w` runs with three replicas and is to go on with one; its provider knows, and the grace of the two others runs."""
    await runs_with(pool, 3)
    await becomes(pool, 1, after=400)
    await pool.store.noticed(await pool.key("w"), (await order(pool)).notice)


async def falls_silent(pool: Pool) -> None:
    """Its cluster answered once, and does not any more."""
    await pool.store.grant_leases(PROVIDER, LEASES)
    await _asks(pool, CLUSTER)
    pool.clock.move(SUSPECT_SECONDS + 1)
    await _asks(pool)
    assert (await health(pool))[0] == "suspect"


async def answers_again(pool: Pool) -> None:
    """Before it is lost."""
    await _asks(pool, CLUSTER)
    assert (await health(pool))[0] == "ready"


async def _asks(pool: Pool, *answered: str) -> None:
    asked_at = pool.clock.now()
    await pool.store.judge_clusters(PROVIDER, LEASES, asked_at=asked_at, answered=frozenset(answered))


async def is_stuck(pool: Pool) -> None:
    """Not even that has helped in time."""
    await is_forced(pool)
    await passes(pool, STEP + 1)


async def health(pool: Pool, node: str = "n1") -> tuple[str, str]:
    """What a node is, and why."""
    (found,) = [each for each in await pool.store.nodes() if each.id == f"aws/{node}"]
    return found.health, found.reason
