"""Roll-outs in the record: applied on the world of their token, watched, taken back, and steered."""

from itertools import count
from typing import Any

import pytest
from sqlalchemy import select, update

from activities.ports import NotAllowed, NotFound, Phase
from activities.store import tables
from corral import wire
from corral.api import Explanation, OperationChange, OperationKind, QueueTree, QuotaSpec, Reason, State
from corral.policy import Approvals, Policy, PolicyOrder
from corral.rollout import Change, Conditions, RolloutOrder, RolloutState, RolloutStatus, WhatIf
from corral.signing import begun, updated
from corral.wire import Steering
from domain.operations.rollout import what_if
from tests.activities.store.pool import Pool, a_spec, a_view, is_signed
from tests.builders import UNPROMISED, a_queue, a_quota

CALM = UNPROMISED.model_copy(
    update={"name": "calm", "rank": UNPROMISED.rank.model_copy(update={"preemption": False, "requeue_seconds": 1})}
)
NOT_IN_US = Policy.model_validate(
    UNPROMISED.document | {"name": "eu", "constraints": {"platform": {"deny": {"regions": ["us"]}}}}
)
BEN = OperationChange(who="ben", reason="looks good")
ADA = OperationChange(who="ada", reason="mine")

NO_A100 = Policy.model_validate(
    UNPROMISED.document | {"name": "h100", "constraints": {"platform": {"deny": {"skus": ["a100"]}}}}
)
_requests = count(1)


def an_order(change: Policy | QueueTree = NOT_IN_US, id: str = "eu-only", **more: Any) -> RolloutOrder:
    found = Change(policy=change) if isinstance(change, Policy) else Change(queues=change)
    return RolloutOrder(id=id, change=found, reason="the contract ends", who="ada", **{"watch_seconds": 600, **more})


async def asks(pool: Pool, change: Policy | QueueTree = NOT_IN_US) -> WhatIf:
    """What a person asks before they order it."""
    snapshot, now = await pool.store.look()
    found = what_if(an_order(change).change, snapshot, now)
    await pool.store.remember_what_if(an_order(change).change, found)
    return found


async def steers(pool: Pool, id: str, verb: Steering, change: OperationChange, key: str = "") -> RolloutStatus:
    """Asked by a request of its own, unless a key says which."""
    return await pool.another_store().steer_rollout(id, verb, change, key or f"request-{next(_requests)}")


async def advances(pool: Pool, id: str = "eu-only") -> RolloutStatus:
    """A step by a process that knows nothing of those before."""
    return await pool.another_store().advance_rollout(id)


async def as_an_older_corral_writes_it(pool: Pool, id: str, before: Change) -> None:
    """What such a one knows of a roll-out that it has applied."""
    orders = tables.orders
    async with pool.engine.begin() as connection:
        progress = (await connection.execute(select(orders.c.progress).where(orders.c.id == id))).scalar_one()
        kept = {name: value for name, value in progress.items() if name not in {"owns", "place", "pool", "set_since"}}
        older = kept | {"before": before.model_dump(mode="json"), "applied": "0" * 64}
        await connection.execute(update(orders).where(orders.c.id == id).values(progress=older))


async def in_force(pool: Pool) -> list[str]:
    return [record.policy.name for record in await pool.store.policies(10)]


def puts_in_force(policy: Policy) -> PolicyOrder:
    return PolicyOrder(policy=policy)


def told(status: RolloutStatus) -> tuple[RolloutState, str]:
    return status.state, status.trail[-1].reason


async def one_runs(pool: Pool) -> None:
    """A node in each of two regions, and work that runs in one of them."""
    await pool.store.record_policy()
    await pool.gets(a_view(), a_view("n2", region="us"))
    await pool.arrive(a_spec("runs"))
    await pool.runs("runs")


async def test_it_is_applied_on_the_world_of_its_token_and_done_when_it_was_watched(pool: Pool) -> None:
    await one_runs(pool)
    order = an_order(token=(await asks(pool)).token)
    status = await pool.store.begin_rollout(order)
    assert (status.state, status.kind, status.next_in) == (RolloutState.WATCHING, OperationKind.POLICY, 10)
    assert await in_force(pool) == ["eu", "default"]
    (record, _) = await pool.store.policies(10)
    assert (record.who, record.why) == ("ada", "roll-out eu-only: the contract ends")
    pool.clock.move(599)
    assert (await advances(pool)).state is RolloutState.WATCHING
    pool.clock.move(1)
    assert told(await advances(pool)) == (RolloutState.DONE, "no condition was breached")
    assert await in_force(pool) == ["eu", "default"]


async def test_one_that_is_called_off_before_it_begins_never_does(pool: Pool) -> None:
    """A step of it that was on its way comes late."""
    await one_runs(pool)
    order = an_order(token=(await asks(pool)).token)
    status = await pool.store.steer_rollout("eu-only", Steering.ABORT, BEN, "once", order)
    assert (*told(status), status.trail[-1].who) == (RolloutState.ABORTED, "looks good", "ben")
    assert await pool.another_store().begin_rollout(order) == status
    assert await in_force(pool) == ["default"]
    with pytest.raises(NotAllowed, match="belongs to another operation"):
        await pool.store.steer_rollout("eu-only", Steering.ABORT, BEN, "again", an_order(NO_A100))


async def test_a_step_that_is_done_again_changes_nothing(pool: Pool) -> None:
    await one_runs(pool)
    order = an_order(token=(await asks(pool)).token)
    status = await pool.store.begin_rollout(order)
    await advances(pool)
    await steers(pool, "eu-only", Steering.APPROVE, BEN, "request")
    before = await pool.dump()
    assert await pool.another_store().begin_rollout(order) == status
    assert await advances(pool) == status
    assert await steers(pool, "eu-only", Steering.APPROVE, BEN, "request") == status
    assert await pool.dump() == before


async def test_on_another_world_nothing_is_applied_and_what_changed_is_said(pool: Pool) -> None:
    await one_runs(pool)
    token = (await asks(pool)).token
    await pool.orders("cordon", "n1")
    await pool.store.apply_queues(QueueTree(queues=(a_queue("late", 8),)))
    status = await pool.store.begin_rollout(an_order(token=token))
    assert told(status) == (
        RolloutState.STALE,
        "the pool is not any more as the what-if had it: queues were edited: late; "
        "0 accelerators of aws/eu h100 take work and were 8; nothing was changed: ask for a new what-if",
    )
    assert await in_force(pool) == ["default"]
    assert await pool.store.begin_rollout(an_order(token=token)) == status


async def test_work_that_came_since_makes_no_other_world(pool: Pool) -> None:
    await one_runs(pool)
    token = (await asks(pool)).token
    await pool.arrive(a_spec("more", gpus=4))
    assert (await pool.store.begin_rollout(an_order(token=token))).state is RolloutState.WATCHING


async def test_a_token_is_of_one_change_and_lasts_for_a_day(pool: Pool) -> None:
    await one_runs(pool)
    token = (await asks(pool)).token
    with pytest.raises(NotAllowed, match=f"{token} was given for another change"):
        await pool.store.begin_rollout(an_order(CALM, token=token))
    pool.clock.move(86_401)
    await asks(pool, CALM)
    status = await pool.store.begin_rollout(an_order(token=token))
    assert status.state is RolloutState.STALE
    assert "no what-if of the last day has given this token" in status.trail[-1].reason
    (listed, *_) = await pool.store.operations(None, 10)
    assert "no what-if of the last day has given this token" in listed.message, "nobody knows who would be concerned"


async def test_a_token_is_no_good_after_its_day_though_nobody_has_asked_anything_since(pool: Pool) -> None:
    await one_runs(pool)
    token = (await asks(pool)).token
    pool.clock.move(86_401)
    status = await pool.store.begin_rollout(an_order(token=token))
    assert status.state is RolloutState.STALE
    assert "no what-if of the last day has given this token" in status.trail[-1].reason
    assert await in_force(pool) == ["default"]


async def test_a_contradiction_is_refused_with_the_finding(pool: Pool) -> None:
    await one_runs(pool)
    lists = {"allow": {"regions": ["us"]}, "deny": {"regions": ["us"]}}
    status = await pool.store.begin_rollout(an_order(Policy.model_validate({"constraints": {"platform": lists}})))
    assert status.state is RolloutState.REFUSED
    assert "[nobody-can-run]" in status.trail[-1].reason
    assert await in_force(pool) == ["default"]
    nowhere = QueueTree(queues=(a_queue("lost", 8, parent="nobody"),))
    assert (await pool.store.begin_rollout(an_order(nowhere, "lost"))).state is RolloutState.REFUSED


# Watching


async def test_a_condition_that_is_breached_brings_back_the_policy_before_with_the_cause(pool: Pool) -> None:
    await one_runs(pool)
    await pool.store.begin_rollout(an_order(conditions=Conditions(waiting_share=0.4)))
    await pool.arrive(a_spec("waits"))
    assert await pool.states("waits") == [State.WAITING]
    cause = "1 of 2 workloads wait (50%), and at most 40% may"
    status = await advances(pool)
    assert told(status) == (RolloutState.ROLLED_BACK, cause)
    assert status.readings is not None
    assert (status.readings.live, status.readings.waiting) == (2, 1)
    assert await in_force(pool) == ["default", "eu", "default"]
    (record, *_) = await pool.store.policies(10)
    assert (record.who, record.why) == ("roll-out eu-only", f"roll-out eu-only is rolled-back: {cause}")
    await pool.plan()
    assert await pool.states("waits") == [State.RESERVED]
    before = await in_force(pool)
    assert await advances(pool) == status
    assert await in_force(pool) == before


async def test_stops_of_others_since_then_are_counted(pool: Pool) -> None:
    pool.policy = CALM
    pool.store = pool.another_store()
    await pool.store.record_policy()
    await pool.gets(a_view())
    await pool.arrive(a_spec("runs"))
    await pool.runs("runs")
    assert (await pool.arrive(a_spec("urgent", priority=9)))["urgent"].state is State.WAITING
    loose = UNPROMISED.model_copy(update={"approvals": Approvals(stops=None, protection=False)})
    await pool.store.apply_policy(puts_in_force(CALM.model_copy(update={"approvals": loose.approvals})))
    order = an_order(loose, conditions=Conditions(stops_per_hour=0))
    assert (await pool.store.begin_rollout(order)).state is RolloutState.WATCHING
    pool.clock.move(1)
    await pool.plan()
    assert await pool.state("runs") is State.STOPPING
    pool.clock.move(1)
    assert told(await advances(pool)) == (
        RolloutState.ROLLED_BACK,
        "1 workloads had to leave or move for others within an hour, and at most 0 may",
    )


async def test_what_somebody_has_put_in_force_since_stays(pool: Pool) -> None:
    await one_runs(pool)
    await pool.store.begin_rollout(an_order(conditions=Conditions(waiting_share=0.0)))
    await pool.store.apply_policy(puts_in_force(CALM))
    await pool.arrive(a_spec("waits"))
    assert (await advances(pool)).state is RolloutState.OVERTAKEN
    assert (await in_force(pool))[0] == "calm"


async def test_aborted_it_puts_back_what_was_before(pool: Pool) -> None:
    await one_runs(pool)
    await pool.store.begin_rollout(an_order())
    status = await steers(pool, "eu-only", Steering.ABORT, BEN)
    assert (status.state, status.trail[-1].who) == (RolloutState.ABORTED, "ben")
    assert await in_force(pool) == ["default", "eu", "default"]
    assert await steers(pool, "eu-only", Steering.ABORT, ADA) == status, "so it is already"
    with pytest.raises(NotAllowed, match="is aborted already"):
        await steers(pool, "eu-only", Steering.APPROVE, BEN)


async def test_aborting_what_was_overtaken_is_answered_the_same_when_its_answer_was_lost(pool: Pool) -> None:
    await one_runs(pool)
    await pool.store.begin_rollout(an_order())
    await pool.store.apply_policy(puts_in_force(CALM))
    status = await steers(pool, "eu-only", Steering.ABORT, BEN, "request")
    assert told(status) == (RolloutState.OVERTAKEN, "looks good; somebody has changed the same since, which stays")
    assert await steers(pool, "eu-only", Steering.ABORT, BEN, "request") == status


async def test_a_policy_that_queues_contradict_by_now_does_not_come_back(pool: Pool) -> None:
    await one_runs(pool)
    await pool.store.apply_policy(puts_in_force(NO_A100))
    await pool.store.begin_rollout(an_order())
    await pool.store.apply_queues(QueueTree(queues=(a_queue("late", quotas=(QuotaSpec(sku="a100", nominal=8),)),)))
    status = await steers(pool, "eu-only", Steering.ABORT, BEN)
    assert status.state is RolloutState.OVERTAKEN
    assert status.trail[-1].reason.startswith("looks good; it cannot be taken back any more: ")
    assert "[never-with-its-quota]" in status.trail[-1].reason
    assert (await in_force(pool))[0] == "eu"


# One laid over another


async def one_lies_over_another(pool: Pool, **under: Any) -> None:
    """Over "eu", which has been watched for 100 of 600 s, "calm" is watched."""
    await one_runs(pool)
    await pool.store.begin_rollout(an_order(**under))
    pool.clock.move(100)
    assert (await advances(pool)).state is RolloutState.WATCHING
    assert (await pool.store.begin_rollout(an_order(CALM, "calm"))).state is RolloutState.WATCHING


async def test_what_comes_back_when_another_is_aborted_goes_on_being_watched_for_the_rest_of_its_time(pool: Pool) -> None:
    await one_lies_over_another(pool)
    assert (await advances(pool)).state is RolloutState.WATCHING
    (under,) = await pool.store.operations("eu-only", 1)
    assert under.message.startswith("another roll-out lies over it")
    pool.clock.move(550)
    below = await advances(pool)
    assert (below.state, below.next_in) == (RolloutState.WATCHING, 10), "its time stands still, and it is looked at"
    await steers(pool, "calm", Steering.ABORT, BEN)
    assert await in_force(pool) == ["eu", "calm", "eu", "default"]
    assert (await advances(pool)).state is RolloutState.WATCHING
    pool.clock.move(499)
    assert (await advances(pool)).state is RolloutState.WATCHING
    pool.clock.move(1)
    assert told(await advances(pool)) == (RolloutState.DONE, "no condition was breached")


async def test_what_comes_back_is_still_taken_back_when_it_does_harm(pool: Pool) -> None:
    await one_lies_over_another(pool, conditions=Conditions(waiting_share=0.4))
    await advances(pool)
    await steers(pool, "calm", Steering.ABORT, BEN)
    await pool.arrive(a_spec("waits"))
    assert (await advances(pool)).state is RolloutState.ROLLED_BACK
    assert await in_force(pool) == ["default", "eu", "calm", "eu", "default"]


async def test_what_lies_under_one_that_stays_is_overtaken(pool: Pool) -> None:
    await one_lies_over_another(pool)
    await advances(pool)
    pool.clock.move(600)
    assert (await advances(pool, "calm")).state is RolloutState.DONE
    assert (await advances(pool)).state is RolloutState.OVERTAKEN
    assert (await in_force(pool))[0] == "calm"


async def test_one_that_is_aborted_under_another_does_not_come_back_with_that(pool: Pool) -> None:
    await one_lies_over_another(pool)
    status = await steers(pool, "eu-only", Steering.ABORT, BEN)
    assert told(status) == (
        RolloutState.ABORTED,
        "looks good; what is in force stays: all that it had set was set by others since, was so before, "
        "or is of queues that it added",
    )
    assert (await in_force(pool))[0] == "calm"
    assert (await steers(pool, "calm", Steering.ABORT, BEN)).state is RolloutState.ABORTED
    assert await in_force(pool) == ["default", "calm", "eu", "default"]


async def test_harm_that_came_under_another_is_not_held_against_the_one_below(pool: Pool) -> None:
    below = Conditions(refused=0, waiting_share=0.2)
    await one_lies_over_another(pool, conditions=below)
    pool.clock.move(1)
    assert (await pool.arrive(a_spec("never", gpus=1_024)))["never"].state is State.REFUSED
    await pool.arrive(a_spec("starts"), a_spec("waits"))
    assert await pool.states("starts", "waits") == [State.RESERVED, State.WAITING]
    pool.clock.move(1)
    await steers(pool, "calm", Steering.ABORT, BEN)
    status = await advances(pool)
    assert status.state is RolloutState.WATCHING
    assert status.readings is not None
    assert (status.readings.live, status.readings.waiting, status.readings.refused) == (3, 0, 0)
    assert (await pool.arrive(a_spec("never-either", gpus=1_024)))["never-either"].state is State.REFUSED
    pool.clock.move(1)
    assert told(await advances(pool)) == (RolloutState.ROLLED_BACK, "1 workloads were refused, and at most 0 may")


async def test_what_cannot_be_decided_about_since_another_lay_over_it_is_not_held_against_the_one_below(pool: Pool) -> None:
    await one_lies_over_another(pool)
    await pool.arrive(*[a_spec(f"w{number}") for number in range(4)])
    await cannot_be_decided_about(pool, "w2")
    await steers(pool, "calm", Steering.ABORT, BEN)
    assert (await advances(pool)).state is RolloutState.WATCHING
    await cannot_be_decided_about(pool, "w3")
    assert told(await advances(pool)) == (
        RolloutState.ROLLED_BACK,
        "1 more workloads cannot be decided about, and at most 0 may",
    )


async def cannot_be_decided_about(pool: Pool, workload: str) -> None:
    explanation = Explanation(reason=Reason.INTERNAL_ERROR, message="a bug").model_dump(mode="json")
    async with pool.engine.begin() as connection:
        row = tables.workloads.c.id == workload
        await connection.execute(update(tables.workloads).where(row).values(explanation=explanation))


async def test_of_two_about_different_queues_each_answers_for_its_own(pool: Pool) -> None:
    await pool.store.record_policy()
    await pool.gets(a_view(), queues=(a_queue("research", 8), a_queue("training", 8)))
    conditions = Conditions(refused=0)
    await pool.store.begin_rollout(an_order(QueueTree(queues=(a_queue("research", 4),)), "first", conditions=conditions))
    pool.clock.move(1)
    await pool.store.begin_rollout(an_order(QueueTree(queues=(a_queue("training", 4),)), "second", conditions=conditions))
    pool.clock.move(1)
    assert (await pool.arrive(a_spec("too-large", gpus=8)))["too-large"].state is State.REFUSED
    pool.clock.move(1)
    assert (await advances(pool, "second")).state is RolloutState.WATCHING
    assert (await advances(pool, "first")).state is RolloutState.ROLLED_BACK
    assert (await advances(pool, "second")).state is RolloutState.WATCHING


def research(nominal: int, weight: int = 1, a100: int = 64) -> QueueTree:
    return QueueTree(queues=(a_queue("research", quotas=(a_quota(nominal), a_quota(a100, sku="a100")), weight=weight),))


async def of_research(pool: Pool) -> tuple[int, int, int]:
    """Its nominal quota of h100, its weight, and its nominal quota of a100."""
    (queue,) = [each.spec for each in await pool.store.queues() if each.name == "research"]
    h100, a100 = queue.quotas
    return h100.nominal, queue.weight, a100.nominal


async def two_overlap_in_part(pool: Pool) -> None:
    """The lower one sets h100 and the weight, the upper one, which was written on that, h100 and a100."""
    await pool.store.record_policy()
    await pool.gets(a_view(), queues=research(64).queues)
    await pool.store.begin_rollout(an_order(research(32, weight=2), "lower"))
    await pool.store.begin_rollout(an_order(research(16, weight=2, a100=8), "upper"))
    assert await of_research(pool) == (16, 2, 8)


async def test_what_is_aborted_below_takes_back_what_nobody_has_set_over_it_and_never_comes_back(pool: Pool) -> None:
    await two_overlap_in_part(pool)
    assert told(await steers(pool, "lower", Steering.ABORT, BEN)) == (RolloutState.ABORTED, "looks good")
    assert await of_research(pool) == (16, 1, 8)
    assert (await steers(pool, "upper", Steering.ABORT, BEN)).state is RolloutState.ABORTED
    assert await of_research(pool) == (64, 1, 64)


async def test_what_is_aborted_above_leaves_what_lies_below(pool: Pool) -> None:
    await two_overlap_in_part(pool)
    await steers(pool, "upper", Steering.ABORT, BEN)
    assert await of_research(pool) == (32, 2, 64)
    await steers(pool, "lower", Steering.ABORT, BEN)
    assert await of_research(pool) == (64, 1, 64)


async def test_what_would_contradict_what_lies_over_it_is_not_taken_back_and_stays_for_good(pool: Pool) -> None:
    await pool.store.record_policy()
    await pool.gets(a_view(), queues=(a_queue("research", 8),))
    await pool.store.begin_rollout(an_order(QueueTree(queues=(a_queue("research", 16),)), "lower"))
    await pool.store.begin_rollout(an_order(QueueTree(queues=(a_queue("research", 16, floor=12),)), "upper"))
    status = await steers(pool, "lower", Steering.ABORT, BEN)
    assert status.state is RolloutState.OVERTAKEN
    assert "it cannot be taken back any more" in status.trail[-1].reason
    assert "floor 12 exceeds nominal 8" in status.trail[-1].reason
    assert (await steers(pool, "upper", Steering.ABORT, BEN)).state is RolloutState.ABORTED
    (queue,) = await pool.store.queues()
    assert [(quota.nominal, quota.floor) for quota in queue.spec.quotas] == [(16, 0)]


async def test_who_edits_one_field_keeps_that_alone(pool: Pool) -> None:
    await two_overlap_in_part(pool)
    await pool.store.apply_queues(research(20, weight=2, a100=8))
    status = await steers(pool, "upper", Steering.ABORT, BEN)
    assert told(status) == (RolloutState.ABORTED, "looks good; what was set since stays: research quotas h100 nominal")
    assert await of_research(pool) == (20, 2, 64)
    await steers(pool, "lower", Steering.ABORT, BEN)
    assert await of_research(pool) == (20, 1, 64)


async def test_what_is_set_by_hand_as_it_is_already_or_and_back_again_is_as_the_last_one_left_it(pool: Pool) -> None:
    await two_overlap_in_part(pool)
    await pool.store.apply_queues(research(16, weight=2, a100=8))
    await pool.store.apply_queues(research(16, weight=2, a100=9))
    await pool.store.apply_queues(research(16, weight=2, a100=8))
    await steers(pool, "upper", Steering.ABORT, BEN)
    assert await of_research(pool) == (32, 2, 8), "a100 was set by hand"


async def test_what_is_done_above_is_taken_back_by_nobody_below(pool: Pool) -> None:
    await one_runs(pool)
    await two_overlap_in_part(pool)
    pool.clock.move(599)
    await advances(pool, "lower")
    await advances(pool, "upper")
    await pool.store.begin_rollout(an_order(research(16, weight=3, a100=8), "last", watch_seconds=0))
    await steers(pool, "lower", Steering.ABORT, BEN)
    assert await of_research(pool) == (16, 3, 8)
    pool.clock.move(1)
    assert (await advances(pool, "upper")).state is RolloutState.DONE


async def test_a_policy_is_taken_back_field_by_field_too(pool: Pool) -> None:
    await one_runs(pool)
    await pool.store.begin_rollout(an_order(NOT_IN_US))
    calm = NOT_IN_US.model_copy(update={"name": "calm", "rank": CALM.rank})
    await pool.store.begin_rollout(an_order(calm, "calm"))
    await steers(pool, "eu-only", Steering.ABORT, BEN)
    (record, *_) = await pool.store.policies(1)
    assert record.policy == CALM
    await steers(pool, "calm", Steering.ABORT, BEN)
    (record, *_) = await pool.store.policies(1)
    assert record.policy == UNPROMISED


async def test_one_that_an_older_corral_has_applied_is_taken_back_as_well(pool: Pool) -> None:
    await one_runs(pool)
    await pool.store.begin_rollout(an_order())
    await as_an_older_corral_writes_it(pool, "eu-only", Change(policy=UNPROMISED))
    await steers(pool, "eu-only", Steering.ABORT, BEN)
    assert await in_force(pool) == ["default", "eu", "default"]


async def test_what_is_not_to_be_watched_is_done_at_once(pool: Pool) -> None:
    await one_runs(pool)
    assert (await pool.store.begin_rollout(an_order(watch_seconds=0))).state is RolloutState.DONE
    assert await in_force(pool) == ["eu", "default"]


# Queues


async def test_queues_are_rolled_out_and_back_like_policies(pool: Pool) -> None:
    await one_runs(pool)
    edit = QueueTree(queues=(a_queue("research", 4), a_queue("new", 4)))
    before = {queue.name: queue.spec for queue in await pool.store.queues()}
    order = an_order(edit, "less", token=(await asks(pool, edit)).token, conditions=Conditions(refused=0))
    status = await pool.store.begin_rollout(order)
    assert (status.state, status.needs) == (
        RolloutState.AWAITING,
        "1 workloads would lose protection, which has to be approved",
    )
    assert status.kind is OperationKind.QUEUES
    await steers(pool, "less", Steering.APPROVE, BEN)
    pool.clock.move(1)
    now = {queue.name: queue.spec for queue in await pool.store.queues()}
    assert [quota.nominal for quota in now["research"].quotas] == [4]
    assert (await pool.arrive(a_spec("too-large", gpus=8)))["too-large"].state is State.REFUSED
    pool.clock.move(1)
    assert told(await advances(pool, "less")) == (RolloutState.ROLLED_BACK, "1 workloads were refused, and at most 0 may")
    after = {queue.name: queue.spec for queue in await pool.store.queues()}
    assert after["research"] == before["research"]
    assert after["new"] == now["new"], "work may be in it already"


async def test_queues_that_somebody_edited_since_stay(pool: Pool) -> None:
    await one_runs(pool)
    await pool.store.begin_rollout(an_order(QueueTree(queues=(a_queue("research", 128),)), "more"))
    await pool.store.apply_queues(QueueTree(queues=(a_queue("research", 200),)))
    status = await steers(pool, "more", Steering.ABORT, BEN)
    assert told(status) == (RolloutState.OVERTAKEN, "looks good; somebody has changed the same since, which stays")


# Approval


NO_QUOTA = an_order(QueueTree(queues=(a_queue("research", 0),)), "none")


async def awaits(pool: Pool) -> RolloutStatus:
    """A queue edit that takes protection from what runs."""
    await one_runs(pool)
    return await pool.store.begin_rollout(NO_QUOTA)


async def nominal(pool: Pool) -> int:
    (queue,) = [each for each in await pool.store.queues() if each.name == "research"]
    return queue.spec.quotas[0].nominal


async def test_nothing_is_changed_before_somebody_else_has_approved_it(pool: Pool) -> None:
    status = await awaits(pool)
    before = await nominal(pool)
    assert (status.state, status.next_in, before > 0) == (RolloutState.AWAITING, 86_400, True)
    with pytest.raises(NotAllowed, match="approve: ada has ordered it; expected somebody else"):
        await steers(pool, "none", Steering.APPROVE, ADA)
    assert await nominal(pool) == before
    status = await steers(pool, "none", Steering.APPROVE, BEN)
    assert (status.state, status.trail[-1].who, await nominal(pool)) == (RolloutState.WATCHING, "ben", 0)


@pytest.mark.parametrize("verb", [Steering.REJECT, Steering.ABORT])
async def test_rejected_or_aborted_it_changes_nothing(pool: Pool, verb: Steering) -> None:
    await awaits(pool)
    before = await nominal(pool)
    assert (await steers(pool, "none", verb, BEN)).ended_at is not None
    assert await nominal(pool) == before


async def test_who_approves_is_whoever_signed_it_whatever_they_say_of_themselves(pool: Pool) -> None:
    await awaits(pool)
    await is_signed(pool, begun(wire.ROLLOUT, "rollout/none", NO_QUOTA.digest), BEN)
    with pytest.raises(NotAllowed, match="ada has ordered it"):
        await steers(pool, "none", Steering.APPROVE, BEN, "by-ada")
    status = await steers(pool, "none", Steering.APPROVE, ADA, "by-ops")
    assert status.state is RolloutState.WATCHING, "another principal, of the same name"


async def test_who_ordered_it_unsigned_does_not_approve_it_signed_under_another_name(pool: Pool) -> None:
    await awaits(pool)
    command = updated(Steering.APPROVE, "rollout/none", "by-ada", BEN)
    assert command is not None
    await pool.store.ordered("ada", command, "run")
    with pytest.raises(NotAllowed, match="ada has ordered it"):
        await steers(pool, "none", Steering.APPROVE, BEN, "by-ada")


async def test_what_nobody_approves_in_time_has_ended(pool: Pool) -> None:
    await awaits(pool)
    pool.clock.move(86_399)
    assert (await advances(pool, "none")).state is RolloutState.AWAITING
    pool.clock.move(1)
    with pytest.raises(NotAllowed, match="approve: it had to be approved until"):
        await steers(pool, "none", Steering.APPROVE, BEN)
    assert told(await advances(pool, "none")) == (RolloutState.EXPIRED, "nobody has approved it in time")


async def test_what_is_approved_on_another_world_is_not_applied(pool: Pool) -> None:
    await awaits(pool)
    before = await nominal(pool)
    await pool.arrive(a_spec("later"))
    await pool.runs("later")
    status = await steers(pool, "none", Steering.APPROVE, BEN)
    assert status.state is RolloutState.STALE
    assert "it would now do more harm: loses-protection later" in status.trail[-1].reason
    assert await nominal(pool) == before


async def test_an_approval_of_what_is_not_watched_is_answered_the_same_when_it_comes_twice(pool: Pool) -> None:
    await one_runs(pool)
    order = an_order(QueueTree(queues=(a_queue("research", 0),)), "none", watch_seconds=0)
    await pool.store.begin_rollout(order)
    status = await steers(pool, "none", Steering.APPROVE, BEN, "request")
    assert status.state is RolloutState.DONE
    assert await steers(pool, "none", Steering.APPROVE, BEN, "request") == status


async def test_an_approval_that_came_too_late_is_answered_the_same_when_its_answer_was_lost(pool: Pool) -> None:
    await awaits(pool)
    await pool.store.apply_queues(QueueTree(queues=(a_queue("late", 8),)))
    status = await steers(pool, "none", Steering.APPROVE, BEN, "request")
    assert status.state is RolloutState.STALE
    assert await steers(pool, "none", Steering.APPROVE, BEN, "request") == status
    with pytest.raises(NotAllowed, match="is stale already"):
        await steers(pool, "none", Steering.APPROVE, BEN, "another")


async def test_an_approval_that_was_refused_is_refused_again_and_may_be_given_by_another(pool: Pool) -> None:
    await awaits(pool)
    for _ in range(2):
        with pytest.raises(NotAllowed, match="ada has ordered it"):
            await steers(pool, "none", Steering.APPROVE, ADA, "request")
    assert (await steers(pool, "none", Steering.APPROVE, BEN, "request")).state is RolloutState.WATCHING


async def test_who_was_to_be_worse_off_may_have_left_meanwhile(pool: Pool) -> None:
    await awaits(pool)
    await pool.ends("runs", Phase.SUCCEEDED)
    assert (await steers(pool, "none", Steering.APPROVE, BEN)).state is RolloutState.WATCHING


# The trail


async def test_operations_of_all_kinds_are_listed_with_their_trails(pool: Pool) -> None:
    await awaits(pool)
    await pool.store.begin_rollout(an_order())
    await steers(pool, "none", Steering.REJECT, BEN)
    first, second = await pool.store.operations(None, 10)
    assert (first.id, first.kind, first.subject, first.state) == ("eu-only", OperationKind.POLICY, "policy eu", "watching")
    assert first.message.startswith("0 of 1 workloads wait")
    assert (second.id, second.subject, second.who, second.reason) == ("none", "queues research", "ada", "the contract ends")
    assert [(note.state, note.who, note.reason) for note in second.trail] == [
        ("awaiting-approval", "ada", "the contract ends"),
        ("rejected", "ben", "looks good"),
    ]
    assert await pool.store.operations("none", 1) == [second]


async def test_an_id_is_of_one_operation(pool: Pool) -> None:
    await one_runs(pool)
    await pool.store.begin_rollout(an_order())
    with pytest.raises(NotAllowed, match="'eu-only' belongs to another operation"):
        await pool.store.begin_rollout(an_order(watch_seconds=1))
    with pytest.raises(NotFound, match="no policy-roll-out 'other'"):
        await advances(pool, "other")
