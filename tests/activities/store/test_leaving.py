"""Work leaves step by step: who hears of it, what happens when it is too slow, and what is suspect then."""

import pytest

from activities.ports import Phase
from corral.api import Outcome, Reason, SlaTier, State, WorkloadSpec
from corral.policy import Policy
from domain.pool.lifecycle import Leave
from tests.activities.store.pool import Pool, a_spec, a_view

GRACE, STEP = 30, Policy().stop_seconds


def an_important(id: str, *, gpus: int = 8, **fields: object) -> WorkloadSpec:
    return a_spec(id, gpus=gpus, tier=SlaTier.PREMIUM, **fields)


async def a_victim_leaving(pool: Pool) -> None:
    """`victim` runs on n1 and has notice to leave it to `urgent`."""
    await pool.gets(a_view("n1"))
    await pool.arrive(a_spec("victim"))
    await pool.runs("victim")
    pool.clock.move(100)
    await pool.arrive(an_important("urgent"))


async def leave(pool: Pool, workload: str = "victim") -> Leave | None:
    return (await pool.standing(workload)).leave


async def passes(pool: Pool, seconds: float) -> None:
    pool.clock.move(seconds)
    await pool.store.keep_house()


async def is_noticed(pool: Pool) -> None:
    await pool.store.noticed(await pool.key("victim"), 1)


async def health(pool: Pool, node: str = "aws/n1") -> tuple[str, str]:
    (found,) = [each for each in await pool.store.nodes() if each.id == node]
    return found.health, found.reason


async def test_the_grace_runs_from_when_the_provider_has_given_notice(pool: Pool) -> None:
    await a_victim_leaving(pool)
    assert await leave(pool) is Leave.ORDERED
    pool.clock.move(STEP)
    await is_noticed(pool)
    await passes(pool, GRACE + STEP)
    assert await leave(pool) is Leave.NOTICED
    await passes(pool, 1)
    assert await leave(pool) is Leave.FORCED
    assert await pool.findings() == {}


async def test_a_notice_is_noted_once_and_only_the_last(pool: Pool) -> None:
    await a_victim_leaving(pool)
    key = await pool.key("victim")
    await pool.store.noticed(key, 1)
    before = await pool.dump()
    await pool.store.noticed(key, 1)
    await pool.store.noticed(key, 2)
    assert await pool.dump() == before


async def test_who_does_not_stop_is_forced_and_says_so(pool: Pool) -> None:
    await a_victim_leaving(pool)
    await is_noticed(pool)
    await passes(pool, GRACE + STEP + 1)
    standing = await pool.standing("victim")
    assert (standing.leave, standing.reason) == (Leave.FORCED, Reason.DOES_NOT_STOP)
    assert standing.message == "it has not stopped in time; it is stopped by force"
    assert (await pool.store.events("victim", 0))[-1].kind == "forced"
    assert await pool.states("victim", "urgent") == [State.STOPPING, State.RESERVING]
    assert await health(pool) == ("ready", "")
    told = await pool.ends("victim", Phase.CANCELLED)
    assert (told["victim"].state, told["urgent"].state) == (State.WAITING, State.RESERVED)
    assert await pool.findings() == {}


async def a_stuck_victim(pool: Pool) -> None:
    await a_victim_leaving(pool)
    await is_noticed(pool)
    await passes(pool, GRACE + STEP + 1)
    await passes(pool, STEP + 1)


async def test_nobody_waits_for_what_does_not_even_stop_by_force_and_its_nodes_are_suspect(pool: Pool) -> None:
    await a_stuck_victim(pool)
    assert await leave(pool) is Leave.STUCK
    assert await pool.states("victim", "urgent") == [State.STOPPING, State.WAITING]
    assert await pool.outcomes("urgent") == [Outcome.EXPIRED]
    kind, why = await health(pool)
    assert kind == "suspect"
    assert why.startswith("attempt victim.1 does not leave: it was stopped by force and is still there")
    assert (await pool.store.events("urgent", 0))[-1].message == "expired: work that was to make room for it does not leave"
    await pool.plan()
    assert await pool.states("victim", "urgent") == [State.STOPPING, State.WAITING]
    assert await pool.used() == 8_000, "what is not observed gone is not free"
    assert await pool.findings() == {}


async def test_who_waited_for_what_is_stuck_starts_elsewhere(pool: Pool) -> None:
    await a_stuck_victim(pool)
    await pool.store.write_nodes("aws", [a_view("n1"), a_view("n2")], complete=True)
    assert (await pool.plan())["urgent"].state is State.RESERVED
    assert await pool.phases("urgent") == {"n2": "claimed"}
    assert (await health(pool))[0] == "suspect", "a provider that reports the node is ready does not know better"


async def test_what_was_stuck_and_is_gone_leaves_nothing_suspect(pool: Pool) -> None:
    await a_stuck_victim(pool)
    await pool.ends("victim", Phase.LOST)
    assert await health(pool) == ("ready", "")
    assert await pool.outcomes("victim") == [Outcome.PREEMPTED]
    await pool.plan()
    assert await pool.states("urgent") == [State.RESERVED]
    assert await pool.findings() == {}


async def test_a_silent_provider_makes_nobody_wait_and_its_victim_stays(pool: Pool) -> None:
    await a_victim_leaving(pool)
    await passes(pool, STEP + 1)
    standing = await pool.standing("victim")
    assert (standing.leave, standing.reason) == (Leave.SILENT, Reason.PROVIDER_DOES_NOT_ANSWER)
    assert await pool.state("urgent") is State.WAITING
    assert (await health(pool))[0] == "suspect"
    await pool.plan()
    assert await pool.states("victim", "urgent") == [State.RUNNING, State.WAITING]
    assert (await pool.standing("victim")).reason is None
    assert (await health(pool))[0] == "suspect", "until it answers"
    await pool.store.kept(await pool.key("victim"), 1)
    assert await health(pool) == ("ready", "")
    assert await pool.findings() == {}


async def test_a_silent_provider_that_answers_has_given_notice(pool: Pool) -> None:
    """What is cancelled has to leave, whether or not somebody waits for it."""
    await pool.gets(a_view())
    await pool.arrive(a_spec("victim"))
    await pool.runs("victim")
    await pool.adjusts("cancel", "victim")
    await passes(pool, STEP + 1)
    assert (await leave(pool), (await health(pool))[0]) == (Leave.SILENT, "suspect")
    await is_noticed(pool)
    assert (await leave(pool), (await health(pool))[0]) == (Leave.NOTICED, "ready")
    assert (await pool.standing("victim")).reason is None


async def test_a_node_is_suspect_until_the_last_that_does_not_leave_has_left(pool: Pool) -> None:
    await pool.gets(a_view())
    await pool.arrive(a_spec("one", gpus=4), a_spec("two", gpus=4))
    await pool.runs("one", "two")
    for id in ("one", "two"):
        await pool.adjusts("cancel", id)
    await passes(pool, STEP + 1)
    await pool.ends("one", Phase.CANCELLED)
    assert (await health(pool))[0] == "suspect"
    await pool.ends("two", Phase.CANCELLED)
    assert (await health(pool))[0] == "ready"


# Checkpoints


async def test_a_victim_that_has_saved_its_work_is_not_waited_for(pool: Pool) -> None:
    await a_victim_leaving(pool)
    await is_noticed(pool)
    done = await pool.adjusts("checkpointed", "victim")
    assert done.message == "its work is saved: it is stopped without waiting for the end of its grace"
    assert (done.standing.state, done.standing.leave) == (State.STOPPING, Leave.SAVED)
    pool.clock.move(5)
    await pool.ends("victim", Phase.CANCELLED)
    rows = await pool.sql("SELECT lost_milli_seconds FROM ledger WHERE workload_id = 'victim' AND lost_milli_seconds > 0")
    assert [row["lost_milli_seconds"] for row in rows] == [8_000 * 5]
    assert await pool.findings() == {}


async def test_saying_it_again_with_another_key_changes_the_time_and_nothing_else(pool: Pool) -> None:
    await a_victim_leaving(pool)
    await is_noticed(pool)
    await pool.adjusts("checkpointed", "victim", "one")
    pool.clock.move(1)
    again = await pool.adjusts("checkpointed", "victim", "two")
    assert (again.message, again.standing.leave) == ("its work is saved up to now", Leave.SAVED)


async def test_who_has_saved_its_work_leaves_though_its_beneficiary_is_gone(pool: Pool) -> None:
    """It may have been stopped by now."""
    await a_victim_leaving(pool)
    await pool.adjusts("checkpointed", "victim")
    await pool.adjusts("cancel", "urgent")
    assert not await pool.store.has_work()
    await pool.plan()
    assert (await pool.state("victim"), await leave(pool)) == (State.STOPPING, Leave.SAVED)
    await passes(pool, STEP + 1)
    assert await leave(pool) is Leave.FORCED


async def test_running_work_that_says_that_it_is_saved_has_less_to_lose(pool: Pool) -> None:
    await pool.gets(a_view())
    await pool.arrive(a_spec("train"))
    await pool.runs("train")
    pool.clock.move(50)
    assert (await pool.adjusts("checkpointed", "train")).standing.state is State.RUNNING
    (active,) = (await pool.snapshot()).active
    assert active.checkpoint_at == pool.clock.now()


@pytest.mark.parametrize("phase", [Phase.SUCCEEDED, Phase.CANCELLED])
async def test_whatever_step_it_is_at_an_attempt_may_be_observed_gone(pool: Pool, phase: Phase) -> None:
    await a_stuck_victim(pool)
    await pool.ends("victim", phase, exit_code=0)
    assert await pool.outcomes("victim") == [Outcome.FINISHED if phase is Phase.SUCCEEDED else Outcome.PREEMPTED]
    assert await pool.findings() == {}
