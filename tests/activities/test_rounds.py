"""The planner's long activity."""

import threading
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from temporalio.testing import ActivityEnvironment

from activities.rounds import Rounds
from corral.api import State
from domain import isolation
from domain.decision import Plan
from domain.round import schedule
from domain.snapshot import Snapshot
from tests.activities.fakes import Crew
from tests.activities.store.pool import Pool, a_spec, a_view

LONG_SECONDS = 30.0
"""After which a round that waits for a heartbeat is decided without one."""


async def test_a_planner_is_known_to_be_alive_while_it_decides_for_long(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    await pool.gets()
    await pool.arrive(a_spec("train"))
    await pool.gets(a_view())
    crew, environment = Crew(pool), ActivityEnvironment()
    has_beaten, heard = threading.Event(), list[bool]()

    def until_a_beat(snapshot: Snapshot, now: datetime, **others: Any) -> Plan:
        has_beaten.clear()
        heard.append(has_beaten.wait(LONG_SECONDS))
        environment.worker_shutdown()
        return schedule(snapshot, now, **others)

    monkeypatch.setattr(isolation, "schedule", until_a_beat)
    environment.info = replace(environment.info, heartbeat_timeout=timedelta(seconds=0.2))
    environment.on_heartbeat = lambda *_: has_beaten.set()
    await environment.run(
        Rounds(pool.store, crew.courier, crew.workloads, pool.clock, crew.pulling).keep_deciding, 2 * LONG_SECONDS
    )
    assert heard == [True]
    assert (await pool.standing("train")).state is State.RESERVED


@pytest.mark.parametrize("fails", [False, True])
async def test_a_planner_forgets_what_ended_long_ago_and_decides_though_that_fails(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, *, fails: bool
) -> None:
    await pool.gets()
    await pool.arrive(a_spec("train"))
    await pool.gets(a_view())
    crew, environment, asked = Crew(pool), ActivityEnvironment(), list[timedelta]()

    async def forget_old(retention: timedelta) -> int:
        asked.append(retention)
        environment.worker_shutdown()
        if fails:
            raise OSError("the disk is full")
        return 0

    monkeypatch.setattr(pool.store, "forget_old", forget_old)
    week = timedelta(days=7)
    rounds = Rounds(pool.store, crew.courier, crew.workloads, pool.clock, crew.pulling, retention=week)
    await environment.run(rounds.keep_deciding, LONG_SECONDS)
    assert asked == [week]
    assert (await pool.standing("train")).state is State.RESERVED
