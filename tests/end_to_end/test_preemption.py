"""Preemption step by step, on real servers: the worker is killed at each step, and all comes to a good end."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from corral.api import Resize, State
from tests.end_to_end.faulty_worker import died_after, dying_after
from tests.end_to_end.leaving import (
    LONG_GRACE,
    a_victim,
    an_urgent,
    ends,
    is_in_order,
    says,
    state_of,
    until_simulated,
    until_state,
)
from tests.end_to_end.pools import QUEUES, LivePool, deaths_are_ordered, eventually, running_pool
from tests.servers import PostgresServer

SLOWLY = 20
"""How much faster than the wall's the time runs: no grace must be over while worker after worker is started."""
PATIENTLY = 30
"""Seconds; what a workflow does must not be done by a reconciler before."""
COMPENSATIONS = ("hold", "notice", "spare", "keep", "kept")
"""Steps up to the notice, and from the beneficiary's end to that of the notice."""
WAY_OUT = ("noticed", "checkpointed", "released", "settle", "bind")
"""Steps from the notice to the start of the beneficiary."""


@pytest.fixture(scope="module")
async def pool(postgres: PostgresServer, temporal: str) -> AsyncIterator[LivePool]:
    """A pool whose worker dies once at each step."""
    with deaths_are_ordered():
        async with running_pool(postgres, temporal, "saga", speed=SLOWLY, reconcile_seconds=PATIENTLY) as pool:
            await pool.start_worker(*dying_after(*COMPENSATIONS, *WAY_OUT))
            pool.remember_launches()
            await pool.corral.apply_queues(QUEUES)
            yield pool


@pytest.mark.parametrize("step", COMPENSATIONS)
async def test_a_victim_runs_on_when_its_beneficiary_is_cancelled_whenever_the_worker_dies(pool: LivePool, step: str) -> None:
    victim, urgent = f"victim-{step}", f"urgent-{step}"
    await pool.corral.submit(a_victim(victim))
    await until_state(pool, victim, State.RUNNING)
    await pool.corral.submit(an_urgent(urgent))
    await until_state(pool, urgent, State.RESERVING)
    if step in {"hold", "notice"}:
        await died_after(pool, step)
    await until_simulated(pool, f"{victim}.1", "stopping")

    await pool.corral.cancel(urgent, key="not-needed")
    await died_after(pool, step)

    await eventually(lambda: says(pool, victim, "kept"), "the provider has taken the notice back")
    await until_simulated(pool, f"{victim}.1", "running")
    assert await state_of(pool, victim) is State.RUNNING
    (attempt,) = await pool.attempts(victim)
    assert (attempt["ended_at"], attempt["stop_at"], attempt["beneficiary"]) == (None, None, None)
    (why,) = await pool.rows("SELECT message FROM events WHERE workload_id = $1 AND message LIKE '%is taken back%'", victim)
    assert why["message"].endswith("for the work that it was to leave for was cancelled")
    await is_in_order(pool)
    await ends(pool, victim, 1)
    await pool.until_closed([urgent])


@pytest.mark.parametrize(
    ("how", "cause"), [("hold", "is held"), ("resize", "was resized")], ids=["a-hold-on-it", "another-size-of-it"]
)
async def test_a_victim_runs_on_when_its_beneficiary_does_not_want_the_room_any_more(
    pool: LivePool, how: str, cause: str
) -> None:
    victim, urgent = f"victim-of-{how}er", f"{how}er"
    await pool.corral.submit(a_victim(victim))
    await until_state(pool, victim, State.RUNNING)
    await pool.corral.submit(an_urgent(urgent))
    await until_simulated(pool, f"{victim}.1", "stopping")
    if how == "hold":
        await pool.corral.hold(urgent)
    else:
        await pool.corral.resize(urgent, Resize(count=2))
    await until_simulated(pool, f"{victim}.1", "running")
    why = "SELECT message FROM events WHERE workload_id = $1 AND message LIKE '%is taken back%'"
    assert (await pool.value(why, victim)).endswith(f"for the work that it was to leave for {cause}")
    assert len(await pool.attempts(victim)) == 1
    await is_in_order(pool)
    await ends(pool, victim, 1)
    await until_state(pool, urgent, State.SUSPENDED, State.REFUSED)


@pytest.mark.parametrize("step", WAY_OUT)
async def test_who_says_that_it_is_saved_leaves_at_once_whenever_the_worker_dies(pool: LivePool, step: str) -> None:
    urgent = f"first-{step}"
    victim = f"saved-{step}" if step != "bind" else "saved-for-it"  # it is bound first, and must survive that
    await pool.corral.submit(a_victim(victim))
    await until_state(pool, victim, State.RUNNING)
    await pool.corral.submit(an_urgent(urgent))
    await until_simulated(pool, f"{victim}.1", "stopping")
    if step == "noticed":
        await died_after(pool, step)

    await pool.corral.checkpointed(victim, key="saved")
    await pool.corral.checkpointed(victim, key="saved")
    await died_after(pool, step)

    await until_state(pool, urgent, State.SUCCEEDED)
    await eventually(lambda: runs_again(pool, victim), f"{victim} runs again")
    first, _ = await pool.attempts(victim)
    assert (first["outcome"], first["reason"], first["notice"]) == ("preempted", "released", 1)
    assert first["ended_at"] - first["stop_at"] < timedelta(seconds=LONG_GRACE)
    assert await pool.value("SELECT count(*) FROM events WHERE workload_id = $1 AND kind = 'checkpointed'", victim) == 1
    assert len(await pool.attempts(urgent)) == 1
    await is_in_order(pool)
    await ends(pool, victim, 2)


async def test_a_victim_that_finishes_during_its_notice_has_succeeded_and_its_beneficiary_runs(pool: LivePool) -> None:
    await pool.corral.submit(a_victim("finisher", runtime_seconds=900))
    await until_state(pool, "finisher", State.RUNNING)
    await pool.corral.submit(an_urgent("after-it"))
    await until_simulated(pool, "finisher.1", "stopping")
    await until_state(pool, "finisher", State.SUCCEEDED)
    await until_state(pool, "after-it", State.SUCCEEDED)
    assert (await pool.corral.status("finisher")).preemptions == 1
    await is_in_order(pool)


async def runs_again(pool: LivePool, workload: str) -> bool:
    attempts = await pool.attempts(workload)
    return len(attempts) == 2 and attempts[1]["started_at"] is not None
