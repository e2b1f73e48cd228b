"""A call that takes its time says that it is still being made, and only then."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from temporalio.testing import ActivityEnvironment

from activities.liveness import staying_alive

SHORT = timedelta(seconds=0.04)


@staying_alive()
async def a_call_that_takes_long(until: asyncio.Event) -> str:
    await until.wait()
    return "done"


@staying_alive()
async def a_slow_call() -> str:
    await asyncio.sleep(0.1)
    return "done"


@staying_alive()
async def a_quick_call() -> str:
    return "done"


@staying_alive()
async def a_call_that_fails_late() -> str:
    await asyncio.sleep(0.03)
    raise ConnectionError("no answer")


@pytest.fixture
def beats() -> list[object]:
    return []


@pytest.fixture
def watched(beats: list[object]) -> ActivityEnvironment:
    environment = ActivityEnvironment()
    environment.info = replace(environment.info, heartbeat_timeout=SHORT)
    environment.on_heartbeat = lambda *details: beats.append(details)
    return environment


async def test_a_slow_call_beats_until_it_is_done(watched: ActivityEnvironment, beats: list[object]) -> None:
    beaten_twice = asyncio.Event()

    def beats_again(*details: object) -> None:
        beats.append(details)
        if len(beats) == 2:
            beaten_twice.set()

    watched.on_heartbeat = beats_again
    assert await watched.run(a_call_that_takes_long, beaten_twice) == "done"
    heard = len(beats)
    await asyncio.sleep(0.05)
    assert len(beats) == heard


async def test_a_quick_call_says_nothing(watched: ActivityEnvironment, beats: list[object]) -> None:
    assert await watched.run(a_quick_call) == "done"
    assert beats == []


async def test_a_call_that_fails_is_heard_of_no_more(watched: ActivityEnvironment, beats: list[object]) -> None:
    with pytest.raises(ConnectionError):
        await watched.run(a_call_that_fails_late)
    heard = len(beats)
    await asyncio.sleep(0.05)
    assert len(beats) == heard


async def test_a_call_of_which_no_heartbeat_is_expected_sends_none(beats: list[object]) -> None:
    environment = ActivityEnvironment()
    environment.on_heartbeat = lambda *details: beats.append(details)
    assert environment.info.heartbeat_timeout is None
    assert await environment.run(a_slow_call) == "done"
    assert beats == []
