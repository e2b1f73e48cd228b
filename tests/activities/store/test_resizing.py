"""Endpoints while they change their size: what they are called, what that counts as, and replicas that do not leave."""

import pytest

from activities.ports import Phase
from corral.api import EvacuationOrder, Outcome, PlaceKind, Reason, SlaTier, State
from corral.policy import DisruptionBudget, Limits, QuotaModel
from domain.pool.lifecycle import Leave
from tests.activities.store.endpoints import (
    GRACE,
    RULES,
    STEP,
    answers_again,
    becomes,
    falls_silent,
    health,
    is_forced,
    is_resized,
    order,
    passes,
    replicas,
    runs_as_endpoint,
    runs_with,
    shrinks,
    tells,
)
from tests.activities.store.pool import Pool, a_spec, a_view

EVACUATION = EvacuationOrder(id="empty-n1", kind=PlaceKind.NODE, place="aws/n1", reason="too hot", who="ada", at_once=1)


async def test_it_is_called_resizing_and_says_what_it_goes_on_with(pool: Pool) -> None:
    await runs_as_endpoint(pool)
    await becomes(pool, 3)
    status = await pool.store.status("w")
    assert status is not None
    assert status.next_where is not None
    assert (status.state, status.next_where.accelerators) == (State.RESIZING, 3)
    await is_resized(pool)
    assert [event.kind for event in await pool.store.events("w", 0)][-3:] == ["grow", "resizing", "running"]
    assert await pool.findings() == {}


async def test_while_it_changes_its_size_it_uses_up_no_budget_and_a_planner_that_remembers_knows(pool: Pool) -> None:
    pool.policy = pool.policy.model_copy(update={"limits": Limits(disruption_budgets=(DisruptionBudget(stops=1),))})
    pool.store = pool.another_store()
    await runs_as_endpoint(pool)
    await becomes(pool, 1)
    await pool.arrive(a_spec("other", gpus=7, tier=SlaTier.BASIC))
    await pool.runs("other")
    await becomes(pool, 2, after=60)
    assert await pool.state("w") is State.RUNNING, "there is no room"
    await pool.ends("other")
    await pool.plan()
    assert await pool.state("w") is State.RESIZING
    assert (await pool.snapshot()).stops == ()
    await pool.arrive(a_spec("next", gpus=6, tier=SlaTier.BASIC))
    await pool.runs("next")
    pool.clock.move(1_000)
    told = await pool.arrive(a_spec("urgent", gpus=6, tier=SlaTier.PREMIUM))
    assert (told["urgent"].state, await pool.state("next")) == (State.RESERVING, State.STOPPING)


async def test_who_evacuates_tells_it_to_leave_though_it_changes_its_size(pool: Pool) -> None:
    await shrinks(pool)
    status, _ = await pool.store.evacuate(EVACUATION)
    assert (status.told, status.leaving) == (1, 1)
    told = await order(pool)
    assert (await pool.state("w"), told.leave, told.resized) == (State.STOPPING, Leave.ORDERED, None)
    assert await pool.findings() == {}
    await pool.ends("w", Phase.CANCELLED)
    assert await pool.outcomes("w") == [Outcome.DRAINED]


async def test_on_a_node_that_is_drained_it_leaves_as_a_whole(pool: Pool) -> None:
    await shrinks(pool)
    await pool.orders("drain", "n1")
    await pool.store.keep_house()
    assert await pool.state("w") is State.STOPPING
    assert await pool.findings() == {}


async def test_replicas_that_do_not_leave_are_forced_and_the_others_serve(pool: Pool) -> None:
    await is_forced(pool)
    told, standing = await order(pool), await pool.standing("w")
    assert (standing.state, standing.leave, standing.reason) == (State.RESIZING, Leave.FORCED, Reason.DOES_NOT_STOP)
    assert standing.message.endswith("they are stopped by force, and the others run on")
    assert told.resized is not None
    assert len(told.resized.places) == 1
    assert await replicas(pool) == 3, "until they are gone"
    await is_resized(pool)
    standing = await pool.standing("w")
    assert (standing.state, standing.leave, standing.reason, await replicas(pool)) == (State.RUNNING, None, None, 1)
    assert await pool.findings() == {}


async def test_where_its_cluster_does_not_answer_for_a_while_it_has_its_new_size_after_that(pool: Pool) -> None:
    await shrinks(pool)
    ordered = await order(pool)
    await falls_silent(pool)
    assert await order(pool) == ordered
    await answers_again(pool)
    await is_resized(pool)
    assert (await pool.state("w"), await replicas(pool)) == (State.RUNNING, 1)
    assert await pool.findings() == {}


async def test_where_its_cluster_does_not_answer_it_can_be_told_to_leave_as_a_whole(pool: Pool) -> None:
    await shrinks(pool)
    await falls_silent(pool)
    assert (await pool.adjusts("expire", "w")).standing.state is State.STOPPING
    assert await pool.findings() == {}


async def test_only_nodes_are_suspect_on_which_somebody_does_not_leave(pool: Pool) -> None:
    views = (a_view("n1", gpus=1), a_view("n2", gpus=1), a_view("n3", gpus=1))
    await pool.gets(*views)
    await pool.arrive(a_spec("w", gpus=1, minimum=0, autoscale=RULES))
    await pool.runs("w")
    await becomes(pool, 3)
    await is_resized(pool)
    (stays,) = (await pool.sql("SELECT node_id FROM allocations WHERE replicas -> 0 -> 1 = '0'"))[0]
    await becomes(pool, 1, after=400)
    await pool.store.noticed(await pool.key("w"), (await order(pool)).notice)
    await passes(pool, GRACE + STEP + 1)
    await passes(pool, STEP + 1)
    suspect = {f"aws/{node}" for node in ("n1", "n2", "n3") if (await health(pool, node))[0] == "suspect"}
    assert suspect == {"aws/n1", "aws/n2", "aws/n3"} - {stays}
    assert await pool.findings() == {}


async def test_who_was_to_have_their_room_does_not_wait_for_what_is_stuck(pool: Pool) -> None:
    await runs_with(pool, 6)
    pool.clock.move(1_000)
    await pool.arrive(a_spec("urgent", gpus=6, tier=SlaTier.PREMIUM))
    assert await pool.states("w", "urgent") == [State.RESIZING, State.RESERVING]
    await pool.store.noticed(await pool.key("w"), (await order(pool)).notice)
    await passes(pool, GRACE + STEP + 1)
    await passes(pool, STEP + 1)
    assert await pool.states("w", "urgent") == [State.RUNNING, State.WAITING]
    assert await pool.findings() == {}


async def test_replicas_that_come_may_take_their_time(pool: Pool) -> None:
    await runs_as_endpoint(pool)
    await becomes(pool, 3)
    await pool.store.noticed(await pool.key("w"), (await order(pool)).notice)
    await passes(pool, 10_000)
    assert (await pool.standing("w")).leave is Leave.NOTICED
    assert await pool.store.keep_house() == []


async def test_that_it_has_saved_its_work_stops_nothing_that_is_to_serve_on(pool: Pool) -> None:
    await shrinks(pool)
    done = await pool.adjusts("checkpointed", "w")
    assert (done.message, done.standing.leave) == ("its work is saved up to now", Leave.NOTICED)


async def test_a_size_that_is_chosen_while_it_changes_is_taken_up_after_it(pool: Pool) -> None:
    await runs_as_endpoint(pool)
    await becomes(pool, 3)
    assert (await pool.adjusts("resize", "w", count=2)).standing.state is State.RESIZING
    await is_resized(pool)
    assert await replicas(pool) == 3
    await pool.plan()
    await is_resized(pool)
    assert (await pool.state("w"), await replicas(pool)) == (State.RUNNING, 2)


async def test_what_cannot_change_its_size_as_it_runs_starts_anew_in_the_room_that_is_kept_for_it(pool: Pool) -> None:
    await runs_as_endpoint(pool)
    await becomes(pool, 3)
    key, told = await pool.key("w"), await order(pool)
    await pool.store.start_anew(key, told.notice, "it does not do that")
    standing = await pool.standing("w")
    assert (standing.state, standing.notice, standing.leave) == (State.STOPPING, told.notice + 1, Leave.ORDERED)
    before = await pool.dump()
    await pool.store.start_anew(key, told.notice, "told again")
    assert await pool.dump() == before
    await is_resized(pool, told.notice)
    assert await pool.state("w") is State.STOPPING, "that is of a notice before"
    assert [stop.for_itself for stop in (await pool.snapshot()).stops] == [True], "which is a disruption"
    await pool.ends("w", Phase.CANCELLED)
    assert (await pool.state("w"), await replicas(pool), await pool.findings()) == (State.RESERVED, 3, {})


async def test_where_others_have_the_room_by_now_it_is_not_told_to_take_it(pool: Pool) -> None:
    await runs_as_endpoint(pool)
    await becomes(pool, 3)
    await pool.sql("UPDATE nodes SET device_use = array_fill(1000, ARRAY[8])")
    told = await order(pool)
    assert (told.resized, told.why_anew) == (None, "others have the room by now")


async def test_it_grows_on_other_nodes_as_it_runs(pool: Pool) -> None:
    await pool.gets(*(a_view(node, gpus=1) for node in ("n1", "n2", "n3")))
    await pool.arrive(a_spec("w", gpus=1, minimum=0, autoscale=RULES))
    await pool.runs("w")
    await becomes(pool, 3)
    told = await order(pool)
    assert told.resized is not None
    assert (told.why_anew, len(told.resized.places)) == ("", 3)


@pytest.mark.parametrize("change", [5, 2])
@pytest.mark.parametrize(
    ("phase", "outcome", "state"),
    [
        (Phase.FAILED, Outcome.FAILED, State.WAITING),
        (Phase.SUCCEEDED, Outcome.FINISHED, State.SUCCEEDED),
        (Phase.LOST, Outcome.LOST, State.WAITING),
        (Phase.CANCELLED, Outcome.LOST, State.WAITING),
    ],
)
async def test_what_ends_while_it_changes_its_size_has_ended_as_it_did(
    pool: Pool, change: int, phase: Phase, outcome: Outcome, state: State
) -> None:
    await runs_with(pool, 4, retries=3)
    await becomes(pool, change, after=400)
    pool.clock.move(100)
    await pool.ends("w", phase)
    assert (await pool.outcomes("w"), await pool.state("w"), await replicas(pool)) == ([outcome], state, 0)
    (row,) = await pool.sql("SELECT failures, preemptions, epoch FROM workloads WHERE id = 'w'")
    assert tuple(row.values()) == (outcome is Outcome.FAILED, 0, 1)
    (ended,) = await pool.sql("SELECT stop_at, stop_as, leave, lost_milli_seconds FROM attempts WHERE id = 'w.1'")
    assert (ended["stop_at"], ended["stop_as"], ended["leave"]) == (None, None, None)
    assert ended["lost_milli_seconds"] == (4_000 * 520 if outcome is Outcome.LOST else 0), "nothing was ever saved"
    assert [event.kind for event in await pool.store.events("w", 0)][-2:] == ["interrupted", state]
    assert (await pool.snapshot()).stops == (), "nobody stopped it"
    assert await pool.findings() == {}


async def test_what_failed_while_it_changed_its_size_backs_off_and_comes_back_in_that_size(pool: Pool) -> None:
    await runs_with(pool, 4, retries=3)
    await becomes(pool, 2, after=400)
    await pool.ends("w", Phase.FAILED)
    assert (await pool.intervals("w"))[-1][0] == "backing-off"
    pool.clock.move(100)
    await pool.plan()
    assert (await pool.state("w"), await replicas(pool), (await pool.key("w")).epoch) == (State.RESERVED, 2, 2)


async def test_who_was_to_have_its_room_has_it_when_it_fails_instead(pool: Pool) -> None:
    await runs_with(pool, 6)
    await pool.arrive(a_spec("urgent", gpus=6, tier=SlaTier.PREMIUM))
    assert await pool.states("w", "urgent") == [State.RESIZING, State.RESERVING]
    await pool.ends("w", Phase.FAILED)
    assert await pool.states("w", "urgent") == [State.FAILED, State.RESERVED]
    assert await pool.findings() == {}


async def test_who_was_to_have_its_room_has_it_when_it_is_smaller(pool: Pool) -> None:
    await runs_with(pool, 6)
    await pool.arrive(a_spec("urgent", gpus=6, tier=SlaTier.PREMIUM))
    await is_resized(pool)
    assert await pool.states("w", "urgent") == [State.RUNNING, State.RESERVED]
    assert await pool.findings() == {}


async def test_what_had_its_new_size_before_it_ended_is_told_in_that_order(pool: Pool) -> None:
    await runs_with(pool, 4, retries=3)
    await becomes(pool, 2, after=400)
    await pool.ends("w", Phase.FAILED, resized=(await order(pool)).notice)
    assert [event.kind for event in await pool.store.events("w", 0)][-2:] == ["running", "waiting"]
    (ended,) = await pool.sql("SELECT replicas, outcome FROM attempts WHERE id = 'w.1'")
    assert tuple(ended.values()) == (2, "failed")
    assert (await replicas(pool), await pool.findings()) == (0, {})


async def test_what_is_lost_soon_after_a_change_of_its_size_was_not_preempted(pool: Pool) -> None:
    await runs_with(pool, 4)
    pool.clock.move(1)
    await pool.ends("w", Phase.LOST)
    assert await pool.outcomes("w") == [Outcome.LOST]


async def test_demand_may_end_it_while_it_changes_its_size(pool: Pool) -> None:
    await shrinks(pool)
    await tells(pool, 0, after=20)
    assert await pool.state("w") is State.RESIZING
    await tells(pool, 0, after=400)
    assert await pool.state("w") is State.STOPPING
    await pool.ends("w", Phase.CANCELLED)
    assert (await pool.state("w"), await pool.findings()) == (State.SUSPENDED, {})


async def test_under_deserved_quota_it_grows_into_what_is_idle_as_it_runs(pool: Pool) -> None:
    pool.decide_by(QuotaModel.DESERVED)
    await runs_as_endpoint(pool)
    await becomes(pool, 3)
    assert await pool.state("w") is State.RESIZING
    await is_resized(pool)
    assert (await pool.state("w"), await replicas(pool), (await pool.key("w")).epoch) == (State.RUNNING, 3, 1)
    assert await pool.findings() == {}
