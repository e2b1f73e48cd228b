"""Demand that is asked for: the endpoint follows it as it follows what it is told, and keeps its size while there is none."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest
from temporalio.testing import ActivityEnvironment

from activities.metering import Miss
from activities.ports import Phase
from activities.pulling import ASKED_AT_ONCE, Pulling
from activities.rounds import Rounds
from corral.api import Autoscale, DemandSource, Following, State, WorkloadStatus
from tests.activities.fakes import Crew
from tests.activities.prometheus_server import serving
from tests.activities.store.pool import Pool, a_spec, a_view
from tests.builders import NOON
from tests.patience import PATIENCE_SECONDS
from worker.settings import load_settings
from worker.wiring import prometheus

QUERY = "sum(requests)"
HANGS = "http://hangs:9090"
RULES = Autoscale(
    target=10, minimum=0, most=6, step_down=6, demand_from=DemandSource(url="http://p:9090", query=QUERY, every_seconds=60)
)


@pytest.fixture
async def crew(pool: Pool) -> Crew:
    """An endpoint `w` runs with one replica; nothing knows its demand."""
    await pool.gets(a_view())
    await pool.arrive(a_spec("w", gpus=1, minimum=0, autoscale=RULES))
    await pool.runs("w")
    return Crew(pool)


async def looks(crew: Crew, after: float = 60) -> None:
    """Time passes, and whoever is due is asked for."""
    crew.pool.clock.move(after)
    await crew.pulling.look()
    await crew.pulling.settled()
    await crew.delivered()


async def status(crew: Crew, workload: str = "w") -> WorkloadStatus:
    found = await crew.pool.store.status(workload)
    assert found is not None
    return found


async def following(crew: Crew, workload: str = "w") -> Following:
    found = (await status(crew, workload)).following
    assert found is not None
    return found


async def kinds(crew: Crew) -> list[str]:
    """What happened to it since it runs."""
    kinds = [event.kind for event in await crew.pool.store.events("w", 0)]
    return kinds[kinds.index("running") + 1 :]


async def test_it_follows_the_demand_that_is_found(crew: Crew) -> None:
    crew.meter.demand[QUERY] = 30
    await looks(crew)
    await crew.pool.plan()
    order = await crew.pool.store.stop_order(await crew.pool.key("w"))
    assert order is not None
    assert order.resized is not None
    assert len(order.resized.places) == 3
    assert await following(crew) == Following(wanted=3)
    assert crew.workloads.told == [], "its workflow need not hear of demand as long as its state is the same"


async def test_it_is_asked_for_as_often_as_its_spec_says(crew: Crew) -> None:
    crew.meter.demand[QUERY] = 10
    for _ in range(7):
        await looks(crew, after=20)
    assert crew.meter.asked == [QUERY] * 3


async def test_without_demand_its_size_stays_and_its_status_says_since_when_and_why(crew: Crew) -> None:
    crew.meter.demand[QUERY] = 30
    await looks(crew)
    known = crew.pool.clock.now()
    crew.meter.demand.clear()
    for _ in range(20):
        await looks(crew)
    assert await following(crew) == Following(wanted=3, stale_since=known, problem=f"nothing answers {QUERY}")
    assert await kinds(crew) == ["scaled", "missed"], "said once"


async def test_where_demand_was_never_known_it_is_unknown_since_it_was_submitted(crew: Crew) -> None:
    await looks(crew)
    assert await following(crew) == Following(wanted=1, stale_since=NOON, problem=f"nothing answers {QUERY}")


@pytest.mark.parametrize("is_told", [True, False], ids=["told", "asked for"])
async def test_once_there_is_demand_again_it_goes_on(crew: Crew, is_told: bool) -> None:
    await looks(crew)
    crew.pool.clock.move(60)
    if is_told:
        await crew.pool.adjusts("demand", "w", demand=30, at=crew.pool.clock.now())
    else:
        crew.meter.demand[QUERY] = 30
        await crew.pulling.look()
        await crew.pulling.settled()
    assert await following(crew) == Following(wanted=3)


async def test_its_workflow_hears_of_it_when_it_leaves_the_line_for_want_of_demand_and_comes_back(crew: Crew) -> None:
    crew.meter.demand[QUERY] = 0
    await looks(crew)
    await looks(crew, after=400)
    assert [standing.state for standing in crew.workloads.told] == [State.STOPPING]
    await crew.pool.ends("w", Phase.CANCELLED)
    crew.workloads.told.clear()
    crew.meter.demand[QUERY] = 5
    await looks(crew)
    assert [standing.state for standing in crew.workloads.told] == [State.WAITING]


async def test_who_is_told_is_not_asked_for_and_nobody_is_once_it_has_ended(crew: Crew) -> None:
    await crew.pool.arrive(
        a_spec("told", gpus=1, minimum=1, autoscale=RULES.model_copy(update={"demand_from": None, "minimum": 1}))
    )
    await crew.pool.adjusts("cancel", "w")
    await crew.pool.ends("w")
    await looks(crew)
    assert crew.meter.asked == []


async def test_what_ends_while_it_is_asked_for_keeps_nobody_from_being_asked_for(
    crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    await crew.pool.arrive(a_spec("x", gpus=1, minimum=0, autoscale=RULES))
    listed = await crew.pool.store.endpoints_to_ask()
    await crew.pool.adjusts("cancel", "x")

    async def as_before() -> object:
        return listed

    monkeypatch.setattr(crew.pool.store, "endpoints_to_ask", as_before)
    crew.meter.demand[QUERY] = 30
    await looks(crew)
    assert (await following(crew)).wanted == 3


async def test_a_planner_asks_while_it_decides_and_a_look_that_fails_is_not_the_last(
    crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment, look, looked = ActivityEnvironment(), crew.pulling.look, list[bool]()
    crew.meter.demand[QUERY] = 30

    async def fails_first() -> None:
        looked.append(True)
        if len(looked) == 1:
            raise ConnectionError("PostgreSQL is away")
        await look()
        await crew.pulling.settled()
        environment.worker_shutdown()

    monkeypatch.setattr(crew.pulling, "look", fails_first)
    crew.pool.clock.time += timedelta(seconds=60)
    rounds = Rounds(crew.pool.store, crew.courier, crew.workloads, crew.pool.clock, crew.pulling)
    await environment.run(rounds.keep_deciding, 600.0)
    assert (await following(crew)).wanted == 3


# Hosts that hang


def asking(url: str, query: str) -> Autoscale:
    return RULES.model_copy(update={"demand_from": DemandSource(url=url, query=query, every_seconds=60)})


@pytest.fixture
async def hanging(crew: Crew) -> asyncio.Event:
    """Ten more endpoints, whose server does not answer in time; they are told so once the event is set."""
    gate = crew.meter.hanging[HANGS] = asyncio.Event()
    await crew.pool.arrive(*(a_spec(f"h{n}", gpus=1, minimum=0, autoscale=asking(HANGS, f"h{n}")) for n in range(10)))
    return gate


async def until(look: Callable[[], Awaitable[bool]]) -> None:
    """Until something is so."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            if await look():
                return
            await asyncio.sleep(0.01)


async def hanging_calls(crew: Crew) -> int:
    """How often the server that hangs has been asked."""
    for _ in range(50):
        await asyncio.sleep(0)
    return sum(query != QUERY for query in crew.meter.asked)


async def test_a_host_that_hangs_delays_nobody_else_and_is_asked_by_few_at_once(crew: Crew, hanging: asyncio.Event) -> None:
    crew.meter.demand[QUERY] = 30
    for _ in range(3):
        crew.pool.clock.move(60)
        await asyncio.wait_for(crew.pulling.look(), PATIENCE_SECONDS)
    assert await hanging_calls(crew) == ASKED_AT_ONCE

    async def follows() -> bool:
        return (known := (await status(crew)).following) is not None and known.wanted == 3

    await until(follows)
    hanging.set()
    await crew.pulling.settled()


async def test_a_host_that_hung_is_left_alone_for_longer_and_longer_until_it_answers(
    crew: Crew, hanging: asyncio.Event
) -> None:
    missed: list[Miss] = []
    crew.pulling.on_miss = missed.append
    hanging.set()
    await looks(crew)
    calls = await hanging_calls(crew)
    assert 0 < calls <= ASKED_AT_ONCE, "the others are not asked for once it is known to hang"
    for wait, is_asked in ((4.9, False), (0.2, True), (9.9, False), (0.2, True), (19.0, False)):
        crew.wall_seconds += wait
        await looks(crew, after=60)
        before, calls = calls, await hanging_calls(crew)
        assert (calls > before) is is_asked
    assert set(missed) == {Miss.TOO_LATE, Miss.NO_NUMBER}
    crew.wall_seconds += 2
    crew.meter.hanging.clear()
    crew.meter.demand.update({f"h{n}": 10 for n in range(10)})
    await looks(crew)
    assert await hanging_calls(crew) == calls + 10


async def test_nothing_is_asked_any_more_once_the_planner_has_left(crew: Crew, hanging: asyncio.Event) -> None:
    async def is_asked() -> bool:
        return await hanging_calls(crew) == ASKED_AT_ONCE

    async with crew.pulling.meanwhile():
        await until(is_asked)
    await asyncio.wait_for(crew.pulling.settled(), PATIENCE_SECONDS)
    calls = await hanging_calls(crew)
    hanging.set()
    assert await hanging_calls(crew) == calls


# From settings to size


async def test_the_demand_that_a_server_answers_with_is_followed_where_the_settings_allow_to_ask_it(
    crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving() as allowed, serving() as other:
        allowed.finds("30")
        other.finds("60")
        monkeypatch.setenv("CORRAL_DEMAND_HOSTS", f"127.0.0.1:{allowed.port}")
        monkeypatch.setenv("CORRAL_DEMAND_TOKENS", f"127.0.0.1:{allowed.port}=its-own")
        await crew.pool.arrive(a_spec("allowed", gpus=1, minimum=0, autoscale=asking(allowed.url, QUERY)))
        await crew.pool.arrive(a_spec("other", gpus=1, minimum=0, autoscale=asking(other.url, QUERY)))
        async with prometheus(load_settings()) as meter:
            crew.pool.clock.move(60)
            pulling = Pulling(crew.pool.store, crew.courier, meter, crew.pool.clock)
            await pulling.look()
            await pulling.settled()
    assert await following(crew, "allowed") == Following(wanted=3)
    missed = await following(crew, "other")
    assert missed.wanted == 1
    assert f"CORRAL_DEMAND_HOSTS=127.0.0.1:{other.port}" in missed.problem
    assert len(allowed.requests) == 1
    assert "authorization: bearer its-own" in allowed.requests[0].lower()
    assert other.requests == []
