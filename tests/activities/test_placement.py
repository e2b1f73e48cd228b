"""Placement: calls to a provider that may fail, be repeated, or come too late."""

import pytest

from activities.answers import AttemptKey
from activities.ports import ErrorClass, Phase, ProviderError
from corral.api import Autoscale, Outcome, SlaTier, State
from domain.pool.lifecycle import Leave
from tests.activities.fakes import Crew
from tests.activities.store.pool import PROVIDER, Pool, a_spec, a_view


@pytest.fixture
async def crew(pool: Pool) -> Crew:
    """`train` has a hold on the only node."""
    await pool.gets(a_view())
    await pool.arrive(a_spec("train"))
    return Crew(pool)


async def test_a_hold_is_bound_and_whoever_asked_hears_that_it_runs(crew: Crew) -> None:
    standing = await crew.placement.bind(await crew.pool.key("train"))
    assert standing.state is State.RUNNING
    assert crew.provider.calls == ["launch train.1"]
    assert await crew.pool.store.undelivered(0) == []


async def test_a_start_that_takes_time_is_told_when_it_is_seen(crew: Crew) -> None:
    crew.provider.starts_as = Phase.STARTING
    assert (await crew.placement.bind(await crew.pool.key("train"))).state is State.STARTING
    await crew.observer.note(crew.provider.becomes("train.1", Phase.RUNNING), PROVIDER)
    await crew.delivered()
    assert [standing.state for standing in crew.workloads.told] == [State.RUNNING]


@pytest.mark.parametrize("is_launched_all_the_same", [False, True])
async def test_a_launch_without_an_answer_is_tried_again_with_the_same_attempt(
    crew: Crew, is_launched_all_the_same: bool
) -> None:
    crew.provider.failures.append(ProviderError(ErrorClass.UNAVAILABLE, "no answer"))
    crew.provider.fails_after_launching = is_launched_all_the_same
    key = await crew.pool.key("train")
    with pytest.raises(ProviderError, match="no answer"):
        await crew.placement.bind(key)
    assert await crew.pool.state("train") is State.STARTING
    assert (await crew.placement.bind(key)).state is State.RUNNING
    assert crew.provider.calls == ["launch train.1"] * 2
    assert list(crew.provider.attempts) == ["train.1"]


async def test_a_binding_whose_answer_was_lost_finds_what_it_has_done(crew: Crew) -> None:
    key = await crew.pool.key("train")
    first = await crew.placement.bind(key)
    before = await crew.pool.dump()
    assert await crew.placement.bind(key) == first
    assert await crew.pool.dump() == before


@pytest.mark.parametrize(
    ("kind", "state"),
    [
        (ErrorClass.NO_CAPACITY, State.WAITING),
        (ErrorClass.CONFLICT, State.WAITING),
        (ErrorClass.FENCED, State.WAITING),
        (ErrorClass.INVALID_SPEC, State.FAILED),
    ],
)
async def test_a_refusal_frees_what_was_held(crew: Crew, kind: ErrorClass, state: State) -> None:
    crew.provider.failures.append(ProviderError(kind, "said no"))
    standing = await crew.placement.bind(await crew.pool.key("train"))
    assert standing.state is state
    assert await crew.pool.used() == 0
    assert await crew.pool.findings() == {}
    assert (await crew.pool.store.events("train", 0))[-1].message.endswith("said no")


async def test_who_has_no_right_to_start_any_more_is_not_launched(crew: Crew) -> None:
    key = await crew.pool.key("train")
    await crew.pool.adjusts("cancel", "train")
    assert (await crew.placement.bind(key)).state is State.CANCELLED
    assert crew.provider.calls == []


async def test_running_work_gets_notice_with_its_own_signal_and_grace(crew: Crew) -> None:
    key = await crew.pool.key("train")
    await crew.placement.bind(key)
    await crew.pool.adjusts("cancel", "train")
    assert (await crew.placement.stop(key)).state is State.STOPPING
    assert crew.provider.calls[-1] == "preempt train.1 SIGTERM 30"


async def test_what_has_not_begun_is_released_and_can_never_begin(crew: Crew) -> None:
    key = await crew.pool.key("train")
    order = (await crew.pool.binds("train"))["train"]
    await crew.pool.adjusts("cancel", "train")
    assert (await crew.placement.stop(key)).state is State.CANCELLED
    assert crew.provider.calls == ["release train.1"]
    assert order is not None
    with pytest.raises(ProviderError, match="released"):
        await crew.provider.launch(order)
    assert await crew.pool.used() == 0


async def test_what_a_provider_has_forgotten_while_it_began_is_gone(crew: Crew) -> None:
    crew.provider.starts_as = Phase.STARTING
    key = await crew.pool.key("train")
    await crew.placement.bind(key)
    crew.provider.attempts.clear()
    await crew.pool.adjusts("cancel", "train")
    assert (await crew.placement.stop(key)).state is State.CANCELLED
    assert await crew.pool.outcomes("train") == [Outcome.CANCELLED]


async def test_a_stop_is_harmless_when_it_is_repeated_or_too_late(crew: Crew) -> None:
    key = await crew.pool.key("train")
    await crew.placement.bind(key)
    await crew.pool.adjusts("cancel", "train")
    await crew.placement.stop(key)
    await crew.placement.stop(key)
    crew.provider.becomes("train.1", Phase.CANCELLED)
    assert (await crew.placement.stop(key)).state is State.CANCELLED
    calls = len(crew.provider.calls)
    assert (await crew.placement.stop(key)).state is State.CANCELLED
    assert len(crew.provider.calls) == calls


async def test_a_notice_that_was_taken_back_is_taken_back_at_the_provider_however_often_that_is_asked(crew: Crew) -> None:
    key = await crew.pool.key("train")
    await crew.placement.bind(key)
    crew.pool.clock.move(100)
    await crew.pool.arrive(a_spec("urgent", tier=SlaTier.PREMIUM))
    await crew.placement.stop(key)
    await crew.pool.adjusts("cancel", "urgent")
    await crew.pool.plan()

    assert (await crew.placement.stop(key)).state is State.RUNNING, "whoever is late finds that there is no notice any more"
    assert (await crew.placement.keep(key)).state is State.RUNNING
    before = await crew.pool.dump()
    assert (await crew.placement.keep(key)).state is State.RUNNING
    assert crew.provider.calls == ["launch train.1", "preempt train.1 SIGTERM 30", "keep train.1", "keep train.1"]
    assert crew.provider.attempts["train.1"].phase is Phase.RUNNING
    assert await crew.pool.dump() == before


async def test_a_notice_is_not_taken_back_that_is_in_force(crew: Crew) -> None:
    key = await crew.pool.key("train")
    await crew.placement.bind(key)
    await crew.pool.adjusts("cancel", "train")
    assert (await crew.placement.keep(key)).state is State.STOPPING
    assert "keep train.1" not in crew.provider.calls


async def an_endpoint_grows(crew: Crew) -> AttemptKey:
    """An endpoint `chat` runs with one replica, and a round has ordered a second one."""
    await crew.pool.adjusts("cancel", "train")
    await crew.pool.arrive(a_spec("chat", gpus=1, minimum=1, autoscale=Autoscale(target=10, minimum=1, most=4)))
    key = await crew.pool.key("chat")
    await crew.placement.bind(key)
    crew.pool.clock.move(60)
    await crew.pool.adjusts("demand", "chat", demand=20, at=crew.pool.clock.now())
    await crew.pool.plan()
    return key


async def test_an_endpoint_goes_on_in_another_size_with_the_replicas_that_it_has(crew: Crew) -> None:
    key = await an_endpoint_grows(crew)
    standing = await crew.placement.stop(key)
    assert (standing.state, standing.epoch, standing.notice) == (State.RUNNING, key.epoch, 0)
    before = await crew.pool.dump()
    assert (await crew.placement.stop(key)).state is State.RUNNING
    assert crew.provider.calls[-1] == "resize chat.1 2", "nothing is told that is done"
    assert await crew.pool.dump() == before


async def test_where_its_provider_has_no_room_for_that_it_starts_anew(crew: Crew) -> None:
    key = await an_endpoint_grows(crew)
    crew.provider.failures = [ProviderError(ErrorClass.NO_CAPACITY, "a device is taken")]
    standing = await crew.placement.stop(key)
    assert (standing.state, standing.notice, standing.leave) == (State.STOPPING, 2, Leave.NOTICED)
    assert crew.provider.calls[-2:] == ["resize chat.1 2", "preempt chat.1 SIGTERM 30"]


async def test_replicas_that_do_not_leave_are_stopped_by_force_and_the_others_run_on(crew: Crew) -> None:
    key = await an_endpoint_grows(crew)
    await crew.placement.stop(key)
    crew.provider.is_stubborn = True
    await crew.pool.adjusts("resize", "chat", count=1)
    await crew.pool.plan()
    assert (await crew.placement.stop(key)).leave is Leave.NOTICED
    crew.pool.clock.move(10_000)
    await crew.pool.store.keep_house()
    standing = await crew.placement.stop(key)
    assert crew.provider.calls[-2:] == ["resize chat.1 1", "resize chat.1 1 at once"]
    assert (standing.state, standing.epoch, await crew.pool.used()) == (State.RUNNING, 1, 1_000)


async def test_a_change_of_size_without_an_answer_is_asked_for_again(crew: Crew) -> None:
    key = await an_endpoint_grows(crew)
    crew.provider.failures = [ProviderError(ErrorClass.UNAVAILABLE, "no answer")]
    with pytest.raises(ProviderError):
        await crew.placement.stop(key)
    assert (await crew.placement.stop(key)).state is State.RUNNING


async def test_what_has_saved_its_work_is_released(crew: Crew) -> None:
    key = await crew.pool.key("train")
    await crew.placement.bind(key)
    await crew.pool.adjusts("cancel", "train")
    await crew.placement.stop(key)
    await crew.pool.adjusts("checkpointed", "train")
    assert (await crew.placement.stop(key)).state is State.CANCELLED
    assert crew.provider.calls == ["launch train.1", "preempt train.1 SIGTERM 30", "release train.1"]


async def test_a_provider_that_has_given_notice_is_noted(crew: Crew) -> None:
    key = await crew.pool.key("train")
    await crew.placement.bind(key)
    await crew.pool.adjusts("cancel", "train")
    assert (await crew.placement.stop(key)).leave is Leave.NOTICED


async def test_what_is_in_a_cluster_that_does_not_answer_is_given_notice_and_not_stopped_at_once(crew: Crew) -> None:
    await crew.placement.bind(await crew.pool.key("train"))
    crew.provider.becomes("train.1", Phase.UNKNOWN)
    await crew.pool.adjusts("hold", "train")
    await crew.placement.stop(await crew.pool.key("train"))
    assert [call for call in crew.provider.calls if "train.1" in call][-1].startswith("preempt")
