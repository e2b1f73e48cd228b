"""An endpoint changes its size though the worker dies after each step of that: the next one finds what it has done."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import pytest

from activities.ports import ErrorClass, Phase, ProviderError
from corral.api import Autoscale, SlaTier, State
from corral.policy import Policy
from domain.pool.lifecycle import ON_ITS_WAY_OUT
from tests.activities.dying import death_after
from tests.activities.fakes import Crew
from tests.activities.store.endpoints import is_to_grow_at_others_expense
from tests.activities.store.pool import PROVIDER, Pool, a_spec, a_view

RULES = Autoscale(target=10, minimum=1, most=6)
LONG = 30 + Policy().stop_seconds + 1
"""Seconds after which nothing is waited for any more."""


@pytest.fixture
async def crew(pool: Pool) -> Crew:
    """An endpoint `chat` runs with three replicas of one device, and saves nothing."""
    await pool.gets(a_view())
    await pool.arrive(a_spec("chat", gpus=1, count=3, minimum=1, autoscale=RULES))
    crew = Crew(pool)
    await crew.placement.bind(await pool.key("chat"))
    pool.clock.move(1_000)
    return crew


async def works(crew: Crew) -> None:
    """What a worker does: decide, call the provider as the workflow would have it, write down what is seen, and clean up."""
    pool = crew.pool
    for _ in range(5):
        await pool.plan()
        standing, key = await pool.standing("chat"), await pool.key("chat")
        if standing.state is State.RESERVED:
            await crew.placement.bind(key)
        elif standing.state in ON_ITS_WAY_OUT:
            await crew.placement.stop(key)
        elif standing.notice:
            await crew.placement.keep(key)
        for seen in list(crew.provider.attempts.values()):
            leaves = seen.phase is Phase.STOPPING
            await crew.observer.note(crew.provider.becomes(seen.attempt_id, Phase.CANCELLED) if leaves else seen, PROVIDER)
        pool.clock.move(LONG)
        await pool.store.keep_house()


async def is_to_have(crew: Crew, count: int) -> None:
    await crew.pool.adjusts("resize", "chat", f"to {count}", count=count)


async def grows(crew: Crew) -> None:
    await is_to_have(crew, 5)


async def shrinks(crew: Crew) -> None:
    await is_to_have(crew, 2)


async def shrinks_slowly(crew: Crew) -> None:
    crew.provider.is_stubborn = True
    await is_to_have(crew, 2)


async def shrinks_in_vain(crew: Crew) -> None:
    crew.provider.is_stubborn = crew.provider.is_stuck = True
    await is_to_have(crew, 2)


async def is_refused_room(crew: Crew) -> None:
    crew.provider.failures = [ProviderError(ErrorClass.NO_CAPACITY, "a device is taken")]
    await is_to_have(crew, 5)


async def may_stay_as_it_is(crew: Crew) -> None:
    """It was to give room to somebody who is gone since; its provider knows that it was to."""
    crew.provider.is_stubborn = True
    await crew.pool.arrive(a_spec("urgent", gpus=6, tier=SlaTier.PREMIUM))
    await crew.placement.stop(await crew.pool.key("chat"))
    assert await crew.pool.states("chat", "urgent") == [State.RESIZING, State.RESERVING]
    await crew.pool.adjusts("cancel", "urgent")


IN_PLACE = (State.RESIZING, State.RUNNING)
ANEW = (State.RESIZING, State.STOPPING, State.RESERVING, State.RESERVED, State.STARTING, State.RUNNING)


@dataclass(frozen=True)
class Way:
    """How a change of size may go, how many devices are taken at its end, its states, and the calls that are its steps."""

    begins: Callable[[Crew], Awaitable[None]]
    devices: int
    states: Sequence[State]
    steps: Sequence[tuple[str, int]]
    """Each by what is called, and the how many-th time."""


WAYS = (
    Way(grows, 5, IN_PLACE, (("round", 1), ("resize", 1), ("noticed", 1), ("settle", 1))),
    Way(shrinks, 2, IN_PLACE, (("round", 1), ("resize", 1), ("noticed", 1), ("settle", 1))),
    Way(shrinks_slowly, 2, IN_PLACE, (("noticed", 1), ("keep_house", 1), ("resize", 2), ("settle", 2))),
    Way(shrinks_in_vain, 3, IN_PLACE, (("noticed", 1), ("keep_house", 1), ("resize", 2), ("keep_house", 2))),
    Way(is_refused_room, 5, ANEW, (("start_anew", 1), ("preempt", 1), ("noticed", 1), ("settle", 1), ("launch", 1))),
    Way(may_stay_as_it_is, 3, IN_PLACE, (("round", 1), ("keep", 1), ("kept", 1))),
)


@pytest.mark.parametrize(
    ("way", "call", "time"),
    [pytest.param(way, *step, id=f"{way.begins.__name__}-{step[0]}") for way in WAYS for step in way.steps],
)
async def test_the_next_worker_finds_what_was_done(crew: Crew, way: Way, call: str, time: int) -> None:
    pool, known = crew.pool, len(await crew.pool.store.events("chat", 0))
    await way.begins(crew)
    dying = crew.another()
    with death_after(dying.provider if hasattr(dying.provider, call) else pool.store, call, time):
        await works(dying)
    assert await pool.findings() == {}

    pool.store = pool.another_store()
    await works(dying.another())
    standing, epoch = await pool.standing("chat"), 1 if way.states is IN_PLACE else 2
    assert (standing.state, standing.epoch, await pool.used()) == (State.RUNNING, epoch, 1_000 * way.devices)
    told = [event.kind for event in (await pool.store.events("chat", 0))[known:]]
    assert [kind for kind in told if kind in set(State)] == list(way.states), "each once"
    assert [seen.phase for seen in dying.provider.attempts.values() if not seen.phase.is_over] == [Phase.RUNNING]
    assert await pool.findings() == {}


async def test_a_provider_is_told_of_growth_at_others_expense_when_they_have_left(pool: Pool) -> None:
    await is_to_grow_at_others_expense(pool)
    crew = Crew(pool)
    crew.provider.attempts["w.1"] = crew.provider.sees("w.1", Phase.RUNNING)
    await crew.placement.stop(await pool.key("w"))
    assert crew.provider.calls == []
    await pool.ends("guest", Phase.CANCELLED)
    await crew.placement.stop(await pool.key("w"))
    assert crew.provider.calls == ["resize w.1 3"]
    assert (await pool.state("w"), await pool.used(), await pool.findings()) == (State.RUNNING, 3_000, {})
