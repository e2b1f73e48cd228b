"""What every provider promises (see `activities.ports.Provider`)."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from activities.ports import Beat, ErrorClass, Event, LaunchSpec, Observation, Phase, Provider, ProviderError, ReplicaPlace
from domain.pool.fleet import Replica
from tests.activities.providers.worlds import DEVICES, World, ended, seen, told, until
from tests.end_to_end.pools import processes_under
from tests.patience import PATIENCE_SECONDS


async def refusal(provider: Provider, order: LaunchSpec) -> ErrorClass:
    with pytest.raises(ProviderError) as raised:
        await provider.launch(order)
    return raised.value.kind


def is_end_of(attempt: str) -> "Ends":
    return Ends(attempt)


class Ends:
    def __init__(self, attempt: str) -> None:
        self._attempt = attempt

    def __call__(self, event: Event) -> bool:
        return isinstance(event, Observation) and event.attempt_id == self._attempt and event.phase.is_over


async def test_a_launched_attempt_runs(world: World) -> None:
    await world.provider.launch(world.order())

    observation = await seen(world.provider, "attempt-1", Phase.RUNNING)

    assert observation.epoch == 1
    assert observation.started_at is not None


async def test_launching_twice_is_launching_once(world: World) -> None:
    first = await world.provider.launch(world.order())
    again = await world.provider.launch(world.order())

    assert (again.attempt_id, again.started_at) == (first.attempt_id, first.started_at)
    assert len((await world.provider.snapshot()).attempts) == 1


async def test_launching_an_ended_attempt_again_tells_its_end(world: World) -> None:
    await world.provider.launch(world.order(seconds=0.05))
    end = await ended(world.provider, "attempt-1")

    assert await world.provider.launch(world.order(seconds=0.05)) == end


async def test_the_same_attempt_with_another_order_is_a_conflict(world: World) -> None:
    await world.provider.launch(world.order())

    assert await refusal(world.provider, replace(world.order(), digest="another")) is ErrorClass.CONFLICT


async def test_work_that_ends_well_succeeds(world: World) -> None:
    await world.provider.launch(world.order(seconds=0.1))

    end = await ended(world.provider, "attempt-1")

    assert (end.phase, end.exit_code) == (Phase.SUCCEEDED, 0)
    assert end.started_at is not None
    assert end.started_at < end.at


async def test_work_that_ends_badly_fails_with_its_exit_code(world: World) -> None:
    await world.provider.launch(world.order(seconds=0.1, exit_code=3))

    end = await ended(world.provider, "attempt-1")

    assert (end.phase, end.exit_code) == (Phase.FAILED, 3)
    assert "3" in end.reason


async def test_preempted_work_leaves_within_its_grace(world: World) -> None:
    await world.provider.launch(world.order())
    await seen(world.provider, "attempt-1", Phase.RUNNING)

    await world.provider.preempt("attempt-1", 1, notice=1, signal="SIGTERM", grace_seconds=30)
    end = await ended(world.provider, "attempt-1")

    assert (end.phase, end.exit_code) == (Phase.CANCELLED, None)


async def test_work_that_ignores_its_notice_is_stopped_when_its_grace_is_over(world: World) -> None:
    await world.launch_deaf(world.order(ignores_notice=True))
    running = await seen(world.provider, "attempt-1", Phase.RUNNING)

    await world.provider.preempt("attempt-1", 1, notice=1, signal="SIGTERM", grace_seconds=1)
    stopping = await seen(world.provider, "attempt-1", Phase.STOPPING)
    end = await ended(world.provider, "attempt-1")

    assert running.sequence < stopping.sequence < end.sequence
    assert 0.9 < (end.at - stopping.at).total_seconds() < 2


async def test_a_second_notice_does_not_prolong_the_grace(world: World) -> None:
    await world.launch_deaf(world.order(ignores_notice=True))
    await world.provider.preempt("attempt-1", 1, notice=1, signal="SIGTERM", grace_seconds=1)
    await world.provider.preempt("attempt-1", 1, notice=1, signal="SIGTERM", grace_seconds=300)

    assert (await ended(world.provider, "attempt-1")).phase is Phase.CANCELLED


async def test_work_whose_notice_is_taken_back_runs_on_to_its_own_end(world: World) -> None:
    await world.launch_deaf(world.order(ignores_notice=True, seconds=2))
    await world.provider.preempt("attempt-1", 1, notice=1, signal="SIGTERM", grace_seconds=1)
    stopping = await seen(world.provider, "attempt-1", Phase.STOPPING)

    await world.provider.keep("attempt-1", 1, notice=1)
    stays = await seen(world.provider, "attempt-1", Phase.RUNNING)
    end = await ended(world.provider, "attempt-1")

    assert stopping.sequence < stays.sequence < end.sequence
    assert (end.phase, end.exit_code) == (Phase.SUCCEEDED, 0)


async def test_a_notice_that_arrives_after_it_was_taken_back_changes_nothing(world: World) -> None:
    await world.provider.launch(world.order())
    await world.provider.keep("attempt-1", 1, notice=1)
    await world.provider.preempt("attempt-1", 1, notice=1, signal="SIGTERM", grace_seconds=0)

    assert (await seen(world.provider, "attempt-1", Phase.RUNNING)).phase is Phase.RUNNING


async def test_a_later_notice_counts_though_an_earlier_one_was_taken_back(world: World) -> None:
    await world.launch_deaf(world.order(ignores_notice=True))
    await world.provider.preempt("attempt-1", 1, notice=1, signal="SIGTERM", grace_seconds=300)
    await world.provider.keep("attempt-1", 1, notice=1)
    await seen(world.provider, "attempt-1", Phase.RUNNING)
    await world.provider.preempt("attempt-1", 1, notice=2, signal="SIGTERM", grace_seconds=1)
    await world.provider.keep("attempt-1", 1, notice=1)

    assert (await ended(world.provider, "attempt-1")).phase is Phase.CANCELLED


async def test_keeping_what_is_gone_or_unknown_is_no_error(world: World) -> None:
    await world.provider.launch(world.order(seconds=0.05))
    await ended(world.provider, "attempt-1")

    await world.provider.keep("attempt-1", 1, notice=1)
    await world.provider.keep("never-launched", 1, notice=1)

    assert (await ended(world.provider, "attempt-1")).phase is Phase.SUCCEEDED


async def test_giving_notice_to_what_is_gone_or_unknown_is_no_error(world: World) -> None:
    await world.provider.launch(world.order(seconds=0.05))
    await ended(world.provider, "attempt-1")

    await world.provider.preempt("attempt-1", 1, notice=1, signal="SIGTERM", grace_seconds=1)
    await world.provider.preempt("never-launched", 1, notice=1, signal="SIGTERM", grace_seconds=1)

    assert (await ended(world.provider, "attempt-1")).phase is Phase.SUCCEEDED


def sized(world: World, replicas: int, **details: Any) -> LaunchSpec:
    """An order for so many replicas, of one device each."""
    order = world.order(**details)
    places = tuple(ReplicaPlace(world.node, Replica("main", index, (index,))) for index in range(replicas))
    return replace(order, places=places, signal="SIGTERM", grace_seconds=1)


async def running(world: World, replicas: int, **details: Any) -> Observation:
    """Launch so many replicas, and wait until they run."""
    launch = world.launch_deaf if details.get("ignores_notice") else world.provider.launch
    await launch(sized(world, replicas, **details))
    return await seen(world.provider, "attempt-1", Phase.RUNNING)


def beside_the_second(world: World) -> LaunchSpec:
    """The first replica and a third one: none of them where the second is."""
    first, _, third = sized(world, 3).places
    return replace(sized(world, 3), places=(first, third))


async def is_resized(world: World, notice: int) -> Observation:
    """Wait until an attempt has the replicas of that notice."""
    found: list[Observation] = []

    async def is_so() -> bool:
        found[:] = (await world.provider.status(["attempt-1"])).values()
        return found[0].resized == notice

    await until(is_so)
    return found[0]


async def test_a_running_attempt_gets_more_replicas_beside_those_it_has(world: World) -> None:
    began = await running(world, 1)
    await world.provider.resize(sized(world, 3), notice=1)

    grown = await is_resized(world, 1)
    assert (grown.phase, grown.epoch) == (Phase.RUNNING, began.epoch)
    assert await refusal(world.provider, world.order("attempt-2", workload="another", devices=(2,))) is ErrorClass.NO_CAPACITY


async def test_replicas_that_are_too_many_leave_within_their_grace_and_the_others_run_on(world: World) -> None:
    await running(world, 3, ignores_notice=True)
    await world.provider.resize(sized(world, 1), notice=1)

    assert (await is_resized(world, 1)).phase is Phase.RUNNING
    await world.provider.launch(world.order("attempt-2", workload="another", devices=(2,)))
    await seen(world.provider, "attempt-2", Phase.RUNNING)
    await world.provider.preempt("attempt-1", 1, notice=2, signal="SIGTERM", grace_seconds=1)
    assert (await ended(world.provider, "attempt-1")).phase is Phase.CANCELLED


async def test_what_a_replica_has_is_not_given_before_it_has_left(world: World) -> None:
    await running(world, 2, ignores_notice=True)
    await world.provider.resize(replace(sized(world, 1), grace_seconds=300), notice=1)

    assert await refusal(world.provider, world.order("attempt-2", workload="another", devices=(1,))) is ErrorClass.NO_CAPACITY
    assert (await seen(world.provider, "attempt-1", Phase.RUNNING)).resized == 0


async def test_replicas_that_are_to_leave_are_stopped_at_once_when_that_is_told_by_the_same_notice(world: World) -> None:
    await running(world, 2, ignores_notice=True)
    smaller = replace(sized(world, 1), grace_seconds=300)
    await world.provider.resize(smaller, notice=1)
    await world.provider.resize(smaller, notice=1, at_once=True)
    await world.provider.resize(smaller, notice=1, at_once=True)

    assert (await is_resized(world, 1)).phase is Phase.RUNNING
    await world.provider.launch(world.order("attempt-2", workload="another", devices=(1,)))


async def test_that_they_are_stopped_at_once_may_be_all_that_it_is_told(world: World) -> None:
    await running(world, 2, ignores_notice=True)
    await world.provider.resize(replace(sized(world, 1), grace_seconds=300), notice=1, at_once=True)
    assert (await is_resized(world, 1)).phase is Phase.RUNNING


async def test_a_replica_that_does_not_leave_holds_up_no_later_size_and_keeps_what_it_has(world: World) -> None:
    await running(world, 2, ignores_notice=True)
    await world.provider.resize(replace(sized(world, 1), grace_seconds=300), notice=1)
    await world.provider.resize(beside_the_second(world), notice=2)

    assert (await is_resized(world, 2)).remains == {1}
    for device in (1, 2):
        another = world.order(f"beside-{device}", workload="another", devices=(device,))
        assert await refusal(world.provider, another) is ErrorClass.NO_CAPACITY
    await world.provider.resize(sized(world, 1), notice=3)
    assert (await is_resized(world, 3)).remains == {1}
    await world.provider.launch(world.order("attempt-2", workload="another", devices=(2,)))
    again = world.open_again()
    assert (await again.status(["attempt-1"]))["attempt-1"].remains == {1}
    await again.aclose()


async def test_what_did_not_leave_in_time_is_seen_when_it_has_left(world: World) -> None:
    await running(world, 2, ignores_notice=True)
    await world.provider.resize(sized(world, 1), notice=1)
    await world.provider.resize(beside_the_second(world), notice=2)
    await is_resized(world, 2)

    async def has_left() -> bool:
        return not (await world.provider.status(["attempt-1"]))["attempt-1"].remains

    await until(has_left)
    assert (await is_resized(world, 2)).phase is Phase.RUNNING
    await world.provider.launch(world.order("attempt-2", workload="another", devices=(1,)))


async def test_nobody_is_stopped_at_once_by_a_notice_that_is_taken_back(world: World) -> None:
    await running(world, 2, ignores_notice=True)
    smaller = replace(sized(world, 1), grace_seconds=300)
    await world.provider.resize(smaller, notice=1)
    await world.provider.keep("attempt-1", 1, notice=1)
    await world.provider.resize(smaller, notice=1, at_once=True)
    assert (await seen(world.provider, "attempt-1", Phase.RUNNING)).resized == 0
    another = world.order("attempt-2", workload="another", devices=(1,))
    assert await refusal(world.provider, another) is ErrorClass.NO_CAPACITY


async def test_a_size_that_is_taken_back_is_the_one_before_again(world: World) -> None:
    await running(world, 2)
    await world.provider.resize(sized(world, 1), notice=1)
    await is_resized(world, 1)
    await world.provider.keep("attempt-1", 1, notice=1)
    await world.provider.resize(sized(world, 1), notice=1)

    another = world.order("attempt-2", workload="another", devices=(1,))
    assert await refusal(world.provider, another) is ErrorClass.NO_CAPACITY
    assert (await seen(world.provider, "attempt-1", Phase.RUNNING)).phase is Phase.RUNNING


async def test_growth_that_is_taken_back_leaves_what_it_had_before(world: World) -> None:
    await running(world, 1)
    await world.provider.resize(sized(world, 3), notice=1)
    await is_resized(world, 1)
    await world.provider.keep("attempt-1", 1, notice=1)
    await world.provider.resize(sized(world, 2), notice=2)
    assert (await is_resized(world, 2)).phase is Phase.RUNNING
    await world.provider.launch(world.order("attempt-2", workload="another", devices=(2,)))


async def test_taking_later_notices_back_leaves_the_size_that_was_reached(world: World) -> None:
    await running(world, 2)
    await world.provider.resize(sized(world, 1), notice=1)
    await is_resized(world, 1)
    await world.provider.keep("attempt-1", 1, notice=2)
    await world.provider.launch(world.order("attempt-2", workload="another", devices=(1,)))
    assert (await seen(world.provider, "attempt-1", Phase.RUNNING)).resized == 1


async def test_a_later_notice_to_leave_is_for_all_replicas_whatever_their_size_was_to_be(world: World) -> None:
    await running(world, 1)
    await world.provider.preempt("attempt-1", 1, notice=2, signal="SIGTERM", grace_seconds=5)
    await world.provider.resize(sized(world, 3), notice=1)

    assert (await ended(world.provider, "attempt-1")).phase is Phase.CANCELLED
    await world.provider.launch(world.order("attempt-2", workload="another", devices=(2,)))


async def test_a_size_for_which_there_is_no_room_changes_nothing(world: World) -> None:
    await world.provider.launch(sized(world, 1))
    await world.provider.launch(world.order("attempt-2", workload="another", devices=(2,)))
    await seen(world.provider, "attempt-1", Phase.RUNNING)
    with pytest.raises(ProviderError) as refused:
        await world.provider.resize(sized(world, 3), notice=1)
    assert refused.value.kind is ErrorClass.NO_CAPACITY
    await world.provider.launch(world.order("attempt-3", workload="a-third", devices=(1,)))


async def test_another_size_of_what_is_gone_or_unknown_is_no_error(world: World) -> None:
    await world.provider.launch(sized(world, 1, seconds=0.05))
    await ended(world.provider, "attempt-1")
    await world.provider.resize(sized(world, 2), notice=1)
    await world.provider.resize(replace(sized(world, 2), attempt_id="never-launched"), notice=1)
    assert (await ended(world.provider, "attempt-1")).phase is Phase.SUCCEEDED


async def test_a_new_worker_finds_the_size_that_was_reached(world: World) -> None:
    await running(world, 2)
    await world.provider.resize(sized(world, 1), notice=1)
    await is_resized(world, 1)
    again = world.open_again()
    (found,) = (await again.snapshot()).attempts
    assert (found.phase, found.resized) == (Phase.RUNNING, 1)
    await again.launch(world.order("attempt-2", workload="another", devices=(1,)))
    await again.aclose()


async def test_a_released_attempt_stops_and_never_starts_again(world: World) -> None:
    await world.launch_deaf(world.order(ignores_notice=True))

    await world.provider.release("attempt-1", 1)
    await world.provider.release("attempt-1", 1)

    assert (await ended(world.provider, "attempt-1")).phase is Phase.CANCELLED
    assert await refusal(world.provider, world.order(ignores_notice=True)) is ErrorClass.FENCED


async def test_a_launch_that_arrives_after_its_release_is_fenced(world: World) -> None:
    await world.provider.release("attempt-1", 1)

    assert await refusal(world.provider, world.order()) is ErrorClass.FENCED
    assert await world.provider.status(["attempt-1"]) == {}


async def test_a_later_epoch_fences_the_earlier_ones(world: World) -> None:
    await world.provider.launch(world.order("later", epoch=2, devices=(0,)))

    assert await refusal(world.provider, world.order("earlier", epoch=1, devices=(1,))) is ErrorClass.FENCED


async def test_a_device_is_not_given_twice(world: World) -> None:
    await world.provider.launch(world.order("first", workload="a", devices=(0, 1)))

    assert await refusal(world.provider, world.order("second", workload="b", devices=(1, 2))) is ErrorClass.NO_CAPACITY
    await world.provider.launch(world.order("third", workload="c", devices=(2, 3)))


async def test_a_device_that_was_left_is_given_again(world: World) -> None:
    await world.provider.launch(world.order("first", workload="a", seconds=0.05))
    await ended(world.provider, "first")

    await world.provider.launch(world.order("second", workload="b"))


async def test_a_device_is_shared_up_to_the_whole_of_it(world: World) -> None:
    await world.provider.launch(world.order("first", workload="a", milli=600))
    await world.provider.launch(world.order("second", workload="b", milli=400))

    assert await refusal(world.provider, world.order("third", workload="c", milli=1)) is ErrorClass.NO_CAPACITY


async def test_nodes_and_devices_that_are_not_there_are_refused(world: World) -> None:
    elsewhere = replace(world.order(), places=(replace(world.order().places[0], node="elsewhere"),))

    assert await refusal(world.provider, elsewhere) is ErrorClass.NO_CAPACITY
    assert await refusal(world.provider, world.order(devices=(DEVICES,))) is ErrorClass.NO_CAPACITY


async def test_a_snapshot_is_complete(world: World) -> None:
    await world.provider.launch(world.order("runs", workload="a", devices=(0,)))
    await world.provider.launch(world.order("ends", workload="b", devices=(1,), seconds=0.05))
    await ended(world.provider, "ends")

    snapshot = await world.provider.snapshot()

    assert snapshot.complete
    assert {attempt.attempt_id: attempt.phase.is_over for attempt in snapshot.attempts} == {"runs": False, "ends": True}
    assert any(node.name == world.node and node.accelerators == DEVICES and node.ready for node in snapshot.nodes)


async def test_what_was_never_launched_is_not_known(world: World) -> None:
    assert await world.provider.status(["never-launched"]) == {}


async def test_a_forgotten_attempt_is_not_known_but_still_fenced(world: World) -> None:
    await world.provider.launch(world.order(seconds=0.05))
    await ended(world.provider, "attempt-1")

    await world.provider.forget(["attempt-1", "never-launched"])

    assert await world.provider.status(["attempt-1"]) == {}
    assert (await world.provider.snapshot()).attempts == ()
    assert await refusal(world.provider, world.order(seconds=0.05)) is ErrorClass.FENCED


async def test_what_still_runs_is_not_forgotten(world: World) -> None:
    await world.provider.launch(world.order())

    await world.provider.forget(["attempt-1"])

    assert "attempt-1" in await world.provider.status(["attempt-1"])


async def test_a_new_worker_finds_what_runs_and_what_has_ended(world: World) -> None:
    await world.provider.launch(world.order("runs", workload="a", devices=(0,)))
    await world.provider.launch(world.order("ends", workload="b", devices=(1,), seconds=0.05, exit_code=7))
    end = await ended(world.provider, "ends")
    await seen(world.provider, "runs", Phase.RUNNING)
    await world.provider.aclose()

    world.provider = world.open_again()

    found = await world.provider.status(["runs", "ends"])
    assert (found["runs"].phase, found["ends"]) == (Phase.RUNNING, end)
    assert await refusal(world.provider, world.order("third", workload="c")) is ErrorClass.NO_CAPACITY


async def test_a_watch_tells_each_phase_once(world: World) -> None:
    events = world.provider.watch()
    await world.provider.launch(world.order(seconds=0.3))

    observations = [event for event in await told(events, is_end_of("attempt-1")) if isinstance(event, Observation)]

    phases = [observation.phase for observation in observations]
    assert phases in ([Phase.RUNNING, Phase.SUCCEEDED], [Phase.STARTING, Phase.RUNNING, Phase.SUCCEEDED])
    assert [each.sequence for each in observations] == sorted({each.sequence for each in observations})


async def test_a_watch_does_not_tell_what_was_before(world: World) -> None:
    await world.provider.launch(world.order("before", workload="a", devices=(0,), seconds=0.05))
    await ended(world.provider, "before")
    events = world.provider.watch()
    await world.provider.launch(world.order("after", workload="b", devices=(1,), seconds=0.05))

    told_of = {event.attempt_id for event in await told(events, is_end_of("after")) if isinstance(event, Observation)}

    assert told_of == {"after"}


async def test_a_watch_hears_what_another_worker_does(world: World) -> None:
    other = world.open_again()
    events = world.provider.watch()

    await other.launch(world.order(seconds=0.05))

    assert await told(events, is_end_of("attempt-1"))
    await other.aclose()


async def test_a_quiet_watch_beats(world: World) -> None:
    events = world.provider.watch()
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert isinstance(await anext(events), Beat)
        assert isinstance(await anext(events), Beat)


async def test_a_watch_ends_when_the_provider_is_closed(world: World) -> None:
    events = world.open_again()
    watch = events.watch()
    await anext(watch)

    await events.aclose()

    assert [event async for event in watch if not isinstance(event, Beat)] == []


async def test_what_runs_in_a_cluster_stops_by_itself_when_its_lease_is_over(world: World, tmp_path: Path) -> None:
    """Also what ignores signals, and though nobody calls its provider meanwhile."""
    await world.launch_deaf(world.order(ignores_notice=True))
    await seen(world.provider, "attempt-1", Phase.RUNNING)
    over = await world.leases(0.5)
    await world.provider.aclose()

    async def is_over() -> bool:
        return world.clock.now() > over and not processes_under(tmp_path)

    await until(is_over)
    world.provider = world.open_again()

    end = await ended(world.provider, "attempt-1")
    assert (end.phase, end.reason) == (Phase.LOST, "the lease of its cluster is over")
    assert over <= end.at


async def test_work_runs_on_as_long_as_its_lease_is_renewed(world: World) -> None:
    await world.provider.launch(world.order())
    await seen(world.provider, "attempt-1", Phase.RUNNING)
    first = await world.leases(8)
    await world.leases(300)

    async def is_past() -> bool:
        return world.clock.now() > first + timedelta(seconds=0.5)

    await until(is_past)

    assert (await world.provider.status(["attempt-1"]))["attempt-1"].phase is Phase.RUNNING


async def test_a_lease_given_to_what_has_none_counts_for_what_runs_already(world: World) -> None:
    await world.provider.launch(world.order())
    await seen(world.provider, "attempt-1", Phase.RUNNING)

    over = await world.leases(0.5)

    end = await ended(world.provider, "attempt-1")
    assert (end.phase, end.at >= over) == (Phase.LOST, True)


async def test_what_has_stopped_for_want_of_a_lease_is_not_brought_back_by_one(world: World) -> None:
    await world.provider.launch(world.order())
    await seen(world.provider, "attempt-1", Phase.RUNNING)
    await world.leases(0.3)
    end = await ended(world.provider, "attempt-1")

    await world.leases(300)
    other = world.open_again()

    assert (await other.status(["attempt-1"]))["attempt-1"] == end
    assert await world.provider.launch(world.order()) == end
    await other.aclose()


async def test_nothing_is_launched_without_a_lease_in_force_and_all_is_with_a_new_one(world: World) -> None:
    await world.leases(0.1)
    await asyncio.sleep(0.2)

    assert await refusal(world.provider, world.order()) is ErrorClass.UNAVAILABLE
    assert await world.provider.status(["attempt-1"]) == {}
    await world.leases(300)
    await world.provider.launch(world.order())
    assert (await seen(world.provider, "attempt-1", Phase.RUNNING)).epoch == 1


async def test_a_lease_that_arrives_late_takes_nothing_away_and_gives_nothing(world: World) -> None:
    await world.provider.launch(world.order())
    await seen(world.provider, "attempt-1", Phase.RUNNING)
    now = world.clock.now()
    over = await world.leases(0.6)

    for late in (now - timedelta(seconds=300), now + timedelta(seconds=0.3)):
        assert await world.provider.renew({world.place: late}) == {world.place}
    end = await ended(world.provider, "attempt-1")
    assert await world.provider.renew({world.place: over}) == {world.place}

    assert over <= end.at
    assert await refusal(world.provider, world.order("attempt-2", epoch=2)) is ErrorClass.UNAVAILABLE


async def test_a_cluster_can_be_asked_whether_it_answers_without_a_lease(world: World) -> None:
    assert await world.provider.renew({world.place: None, "no/such-cluster": None}) == {world.place}
    await world.provider.launch(world.order(seconds=0.2))
    assert (await ended(world.provider, "attempt-1")).phase is Phase.SUCCEEDED
    assert (await world.provider.snapshot()).silent == frozenset()
