"""What is particular to the simulated provider: behaviour by parameters, faults, and a world that outlives its workers."""

import asyncio
import sqlite3
import sys
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError

from activities.ports import ErrorClass, NodeView, Observation, Phase, ProviderError
from activities.providers.sim import SimulatedProvider
from activities.providers.sim_fleet import NodeShape, SimulatedCluster, SimulatedFaults, SimulatedFleet, SimulatedRegion
from activities.providers.sim_records import Kind, Records
from tests.activities.providers.worlds import FastClock, HandClock, a_simulation, an_order, ended, first_node, told
from tests.patience import PATIENCE_SECONDS

NOON = HandClock().now()


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


async def look(provider: SimulatedProvider, attempt: str = "attempt-1") -> Observation:
    return (await provider.status([attempt]))[attempt]


def after(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


async def test_without_a_start_delay_the_launch_answers_running(tmp_path: Path, clock: HandClock) -> None:
    observation = await a_simulation(tmp_path, clock).launch(an_order(seconds=60))

    assert (observation.phase, observation.sequence, observation.started_at) == (Phase.RUNNING, 1, NOON)


async def test_a_start_may_take_time(tmp_path: Path, clock: HandClock) -> None:
    provider = a_simulation(tmp_path, clock)
    first = await provider.launch(an_order(seconds=60, start_delay_seconds="20"))
    clock.move(20)
    second = await look(provider)
    clock.move(60)
    third = await look(provider)

    assert [each.phase for each in (first, second, third)] == [Phase.STARTING, Phase.RUNNING, Phase.SUCCEEDED]
    assert [each.sequence for each in (first, second, third)] == [1, 2, 3]
    assert (first.started_at, second.started_at, third.at) == (None, after(20), after(80))


async def test_the_expected_seconds_are_the_runtime_where_no_parameter_says_otherwise(tmp_path: Path, clock: HandClock) -> None:
    order = an_order()
    parameters = {name: value for name, value in order.parameters.items() if name != "runtime_seconds"}
    provider = a_simulation(tmp_path, clock)
    await provider.launch(replace(order, parameters=parameters, expected_seconds=10))
    clock.move(10)

    assert (await look(provider)).phase is Phase.SUCCEEDED


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("runtime_seconds", "soon"),
        ("runtime_seconds", "-1"),
        ("runtime_seconds", "nan"),
        ("exit_code", "1.5"),
        ("start_delay_seconds", "inf"),
        ("checkpoint_every_seconds", "0"),
        ("ignore_notice", "perhaps"),
    ],
)
async def test_a_parameter_that_makes_no_sense_is_named(tmp_path: Path, clock: HandClock, name: str, value: str) -> None:
    with pytest.raises(ProviderError, match=f"parameter {name} is '{value}'; expected") as raised:
        await a_simulation(tmp_path, clock).launch(an_order(**{name: value}))  # type: ignore[arg-type]

    assert raised.value.kind is ErrorClass.INVALID_SPEC


async def test_regular_checkpoints_are_seen(tmp_path: Path, clock: HandClock) -> None:
    provider = a_simulation(tmp_path, clock)
    await provider.launch(an_order(seconds=60, checkpoint_every_seconds="10"))
    assert (await look(provider)).checkpoint_at is None

    clock.move(27)

    assert (await look(provider)).checkpoint_at == after(20)


async def test_on_notice_work_is_saved_and_the_next_attempt_goes_on_from_there(tmp_path: Path, clock: HandClock) -> None:
    provider = a_simulation(tmp_path, clock)
    await provider.launch(an_order("first", seconds=60, checkpoint_seconds="5"))
    clock.move(40)
    await provider.preempt("first", 1, notice=1, signal="SIGTERM", grace_seconds=30)
    assert (await look(provider, "first")).phase is Phase.STOPPING
    clock.move(5)
    stopped = await look(provider, "first")
    await provider.forget(["first"])

    await provider.launch(an_order("second", epoch=2, seconds=60))
    clock.move(20)

    assert (stopped.phase, stopped.at, stopped.checkpoint_at) == (Phase.CANCELLED, after(45), after(40))
    assert (await look(provider, "second")).at == after(65)


async def test_too_short_a_grace_saves_nothing_new(tmp_path: Path, clock: HandClock) -> None:
    provider = a_simulation(tmp_path, clock)
    await provider.launch(an_order(seconds=60, checkpoint_every_seconds="15", checkpoint_seconds="5"))
    clock.move(40)
    await provider.preempt("attempt-1", 1, notice=1, signal="SIGTERM", grace_seconds=4)
    clock.move(10)

    stopped = await look(provider)

    assert (stopped.phase, stopped.at, stopped.checkpoint_at) == (Phase.CANCELLED, after(44), after(30))


async def test_work_that_ignores_its_notice_may_finish_within_its_grace(tmp_path: Path, clock: HandClock) -> None:
    provider = a_simulation(tmp_path, clock)
    await provider.launch(an_order(seconds=60, ignores_notice=True))
    clock.move(50)
    await provider.preempt("attempt-1", 1, notice=1, signal="SIGTERM", grace_seconds=30)
    clock.move(30)

    assert (await look(provider)).phase is Phase.SUCCEEDED


async def test_a_lost_node_takes_its_attempts_along_and_comes_back_empty(tmp_path: Path, clock: HandClock) -> None:
    provider = a_simulation(tmp_path, clock)
    events = provider.watch()
    await provider.launch(an_order("there", workload="a", node=first_node(0)))
    await provider.launch(an_order("elsewhere", workload="b", node=first_node(1)))

    await provider.lose_node(first_node(0))

    assert (await look(provider, "there")).phase is Phase.LOST
    assert (await look(provider, "elsewhere")).phase is Phase.RUNNING
    with pytest.raises(ProviderError, match="is lost"):
        await provider.launch(an_order("again", workload="c", node=first_node(0)))
    await provider.recover_node(first_node(0))
    await provider.launch(an_order("again", workload="c", node=first_node(0)))
    changes = await told(events, lambda event: isinstance(event, NodeView) and event.ready)
    assert [change.ready for change in changes if isinstance(change, NodeView)] == [False, True]


async def test_of_a_cluster_that_is_cut_off_nothing_is_known_and_nothing_can_be_told(tmp_path: Path, clock: HandClock) -> None:
    provider = a_simulation(tmp_path, clock)
    await provider.launch(an_order(seconds=60))
    await provider.cut_cluster("here/a")
    clock.move(60)

    snapshot = await provider.snapshot()
    assert (snapshot.silent, [each.phase for each in snapshot.attempts]) == (frozenset({"here/a"}), [Phase.UNKNOWN])
    assert (await look(provider)).phase is Phase.UNKNOWN
    assert await provider.renew({"here/a": after(600)}) == frozenset()
    for call in (
        provider.launch(an_order("attempt-2", workload="b", devices=(1,))),
        provider.preempt("attempt-1", 1, notice=1, signal="SIGTERM", grace_seconds=1),
        provider.keep("attempt-1", 1, notice=1),
        provider.release("attempt-1", 1),
    ):
        with pytest.raises(ProviderError, match="does not answer") as refused:
            await call
        assert refused.value.kind is ErrorClass.UNAVAILABLE


async def test_what_came_to_pass_in_a_cluster_that_was_cut_off_is_told_when_it_answers(
    tmp_path: Path, clock: HandClock
) -> None:
    provider = a_simulation(tmp_path, clock)
    await provider.launch(an_order(seconds=60))
    events = provider.watch()
    await provider.cut_cluster("here/a")
    clock.move(60)
    await provider.snapshot()
    await provider.join_cluster("here/a")

    (end,) = await told(events, lambda event: isinstance(event, Observation))

    assert end == await look(provider)
    assert isinstance(end, Observation)
    assert (end.phase, end.at) == (Phase.SUCCEEDED, after(60))


async def test_a_lease_is_over_in_the_dark_at_its_time_whoever_looks_and_when(tmp_path: Path, clock: HandClock) -> None:
    provider, idle = a_simulation(tmp_path, clock), a_simulation(tmp_path, clock)
    await provider.renew({"here/a": after(50)})
    await provider.launch(an_order(seconds=1_000))
    for seconds in (10, 20, 30):
        clock.move(10)
        await provider.renew({"here/a": after(seconds + 50)})
    await provider.cut_cluster("here/a")
    clock.move(200)
    await provider.join_cluster("here/a")
    await provider.renew({"here/a": after(400)})
    await provider.launch(an_order("attempt-2", epoch=2))
    clock.move(30)

    for witness in (provider, idle, a_simulation(tmp_path, clock)):
        end = await look(witness)
        assert (end.phase, end.at, end.reason) == (Phase.LOST, after(80), "the lease of its cluster is over")
        assert (await look(witness, "attempt-2")).phase is Phase.RUNNING


async def test_a_world_that_was_recorded_before_there_were_leases_goes_on(tmp_path: Path, clock: HandClock) -> None:
    provider = a_simulation(tmp_path, clock)
    await provider.launch(an_order(seconds=60))
    await provider.aclose()
    with closing(sqlite3.connect(tmp_path / "world.sqlite")) as file, file:
        file.execute("UPDATE change SET body = replace(body, 'lost_because', 'lost_node')")

    assert (await look(a_simulation(tmp_path, clock))).phase is Phase.RUNNING


async def test_an_unknown_cluster_cannot_be_cut_off(tmp_path: Path, clock: HandClock) -> None:
    with pytest.raises(ProviderError, match="there is no cluster nowhere"):
        await a_simulation(tmp_path, clock).cut_cluster("nowhere")


async def test_an_unknown_node_cannot_be_lost(tmp_path: Path, clock: HandClock) -> None:
    with pytest.raises(ProviderError, match="there is no node nowhere"):
        await a_simulation(tmp_path, clock).lose_node("nowhere")


async def test_a_slow_start_is_slow(tmp_path: Path, clock: HandClock) -> None:
    provider = a_simulation(tmp_path, clock, SimulatedFaults(slow_start=1, slow_start_seconds=90))
    assert (await provider.launch(an_order())).phase is Phase.STARTING
    clock.move(90)

    assert (await look(provider)).phase is Phase.RUNNING


async def test_a_failed_start_fails(tmp_path: Path, clock: HandClock) -> None:
    provider = a_simulation(tmp_path, clock, SimulatedFaults(failed_start=1))

    observation = await provider.launch(an_order())

    assert (observation.phase, observation.reason, observation.started_at) == (Phase.FAILED, "failed to start", None)


async def test_a_lost_answer_is_resolved_by_a_look_or_by_asking_again(tmp_path: Path, clock: HandClock) -> None:
    provider = a_simulation(tmp_path, clock, SimulatedFaults(lost_answer=1))

    with pytest.raises(ProviderError) as raised:
        await provider.launch(an_order())

    assert raised.value.kind is ErrorClass.UNAVAILABLE
    assert (await look(provider)).phase is Phase.RUNNING
    assert (await provider.launch(an_order())).phase is Phase.RUNNING


async def test_faults_depend_on_the_seed_and_the_attempt_alone() -> None:
    attempts = [f"attempt-{number}" for number in range(1000)]
    faults, same, other = (SimulatedFaults(seed=seed, failed_start=0.3) for seed in (1, 1, 2))
    struck = [attempt for attempt in attempts if faults.fails_to_start(attempt)]

    assert struck == [attempt for attempt in reversed(attempts) if same.fails_to_start(attempt)][::-1]
    assert struck != [attempt for attempt in attempts if other.fails_to_start(attempt)]
    assert 250 < len(struck) < 350


async def test_nodes_are_lost_at_the_given_rate_and_come_back() -> None:
    faults = SimulatedFaults(seed=3, lost_node=0.1, recovery_seconds=600)

    outages = [outage for window in range(100) for outage in faults.outages(window, nodes=50)]

    node_hours = 100 * 50 * faults.outage_window_seconds / 3600
    assert 0.08 < len(outages) / node_hours < 0.12
    assert {round(back_at - lost_at) for _, lost_at, back_at in outages} == {600}


async def test_the_world_that_time_made_is_the_same_for_one_who_watched_and_one_who_did_not(
    tmp_path: Path, clock: HandClock
) -> None:
    faults = SimulatedFaults(seed=5, lost_node=0.5, recovery_seconds=300, slow_start=0.5, failed_start=0.1)
    watched = a_simulation(tmp_path, clock, faults, nodes=30)
    ready = [node.name for node in (await watched.snapshot()).nodes if node.ready]
    for number, node in enumerate(ready):
        await watched.launch(an_order(f"attempt-{number}", workload=f"w-{number}", node=node, seconds=5000))
    await watched.preempt("attempt-3", 1, notice=1, signal="SIGTERM", grace_seconds=100)
    for _ in range(100):
        clock.move(30)
        await watched.snapshot()

    assert await a_simulation(tmp_path, clock, faults, nodes=30).snapshot() == await watched.snapshot()
    assert {attempt.phase for attempt in (await watched.snapshot()).attempts} >= {Phase.LOST, Phase.RUNNING}


async def test_time_goes_on_while_no_worker_runs(tmp_path: Path, clock: HandClock) -> None:
    first = a_simulation(tmp_path, clock)
    await first.launch(an_order(seconds=60))
    await first.aclose()
    clock.move(3600)

    assert (await look(a_simulation(tmp_path, clock))).at == after(60)


async def test_what_ended_and_was_forgotten_while_another_process_looked_away_is_free_for_that_one_too(
    tmp_path: Path, clock: HandClock
) -> None:
    one, another = a_simulation(tmp_path, clock), a_simulation(tmp_path, clock)
    await one.launch(an_order("first", seconds=1000))
    assert (await look(another, "first")).phase is Phase.RUNNING
    await one.release("first", 1)
    await one.forget(["first"])

    assert (await another.launch(an_order("second", workload="workload-2", seconds=60))).phase is Phase.RUNNING


async def test_a_watch_keeps_up_with_a_hurrying_clock(tmp_path: Path) -> None:
    provider = a_simulation(tmp_path, FastClock(speed=1000))
    events = provider.watch()
    await provider.launch(an_order(seconds=2 * PATIENCE_SECONDS))

    assert await told(events, lambda event: isinstance(event, Observation) and event.phase is Phase.SUCCEEDED)


LAUNCHES = """
import asyncio, os, sys
from pathlib import Path
from tests.activities.providers.worlds import FastClock, a_simulation, an_order
provider = a_simulation(Path(sys.argv[1]), FastClock())
asyncio.run(provider.launch(an_order(seconds=0.2)))
os.kill(os.getpid(), 9)
"""


async def test_what_a_killed_worker_launched_is_seen_by_others(tmp_path: Path) -> None:
    provider = a_simulation(tmp_path, FastClock())
    events = provider.watch()
    worker = await asyncio.create_subprocess_exec(sys.executable, "-c", LAUNCHES, str(tmp_path))
    await worker.wait()

    assert (await ended(provider, "attempt-1")).phase is Phase.SUCCEEDED
    assert await told(events, lambda event: isinstance(event, Observation) and event.phase.is_over)


def test_a_node_knows_its_place() -> None:
    shape = NodeShape(sku="h100", count=9, nodes_per_rack=2, racks_per_block=2)
    spot = NodeShape(sku="h100", name="h100-spot", count=1)
    cluster = SimulatedCluster(name="a", zone="eu-1", nodes=(shape, spot))
    nodes = SimulatedFleet(regions=(SimulatedRegion(name="eu", clusters=(cluster,)),)).node_views()

    above = (("region", "eu"), ("zone", "eu-1"), ("cluster", "a"))
    assert nodes[5].topology == (*above, ("block", "h100-block-001"), ("rack", "h100-rack-002"))
    assert (nodes[9].name, nodes[9].topology) == ("a-h100-spot-0000", above)


def test_names_that_would_collide_are_refused() -> None:
    shape = NodeShape(sku="h100", count=1)
    with pytest.raises(ValidationError, match="need names of their own"):
        SimulatedCluster(name="a", nodes=(shape, shape))
    cluster = SimulatedCluster(name="a", nodes=(shape,))
    with pytest.raises(ValidationError, match="needs a name of its own"):
        SimulatedFleet(regions=(SimulatedRegion(name="eu", clusters=(cluster, cluster)),))


async def test_work_that_was_told_to_stay_while_it_saved_ends_later_by_that_time(tmp_path: Path, clock: HandClock) -> None:
    provider = a_simulation(tmp_path, clock)
    await provider.launch(an_order(seconds=60, checkpoint_seconds="20"))
    clock.move(10)
    await provider.preempt("attempt-1", 1, notice=1, signal="SIGTERM", grace_seconds=30)
    clock.move(15)
    await provider.keep("attempt-1", 1, notice=1)
    clock.move(1)
    stays = await look(provider)
    clock.move(60)
    end = await look(provider)

    assert (stays.phase, stays.at, stays.checkpoint_at) == (Phase.RUNNING, after(25), None)
    assert (end.phase, end.at) == (Phase.SUCCEEDED, after(75))


async def test_work_that_had_stopped_is_not_told_to_stay(tmp_path: Path, clock: HandClock) -> None:
    provider = a_simulation(tmp_path, clock)
    await provider.launch(an_order(seconds=60, checkpoint_seconds="20"))
    await provider.preempt("attempt-1", 1, notice=1, signal="SIGTERM", grace_seconds=30)
    clock.move(20)
    await provider.keep("attempt-1", 1, notice=1)

    assert (await look(provider)).phase is Phase.CANCELLED


async def test_a_world_from_before_notices_had_numbers_is_read(tmp_path: Path, clock: HandClock) -> None:
    await a_simulation(tmp_path, clock).launch(an_order(ignores_notice=True))
    Records(tmp_path / "world.sqlite").append(clock.seconds, Kind.NOTICED, "attempt-1", "30")
    clock.move(30)

    assert (await look(a_simulation(tmp_path, clock))).phase is Phase.CANCELLED


# Work that does not stop


async def test_a_stubborn_attempt_stops_when_it_is_released_and_not_before(tmp_path: Path, clock: HandClock) -> None:
    provider = a_simulation(tmp_path, clock, SimulatedFaults(stubborn=1))
    await provider.launch(an_order(seconds=300, checkpoint_seconds="5"))
    await provider.preempt("attempt-1", 1, notice=1, signal="SIGTERM", grace_seconds=30)
    clock.move(100)
    assert (await look(provider)).phase is Phase.STOPPING

    await provider.release("attempt-1", 1)

    assert (await look(provider)).phase is Phase.CANCELLED


async def test_a_stuck_attempt_goes_on_to_its_own_end_and_its_devices_stay_taken(tmp_path: Path, clock: HandClock) -> None:
    provider = a_simulation(tmp_path, clock, SimulatedFaults(stuck=1))
    await provider.launch(an_order(seconds=300))
    await provider.preempt("attempt-1", 1, notice=1, signal="SIGTERM", grace_seconds=30)
    clock.move(100)
    await provider.release("attempt-1", 1)
    assert (await look(provider)).phase is Phase.STOPPING
    with pytest.raises(ProviderError, match="is taken"):
        await provider.launch(an_order("attempt-2", workload="workload-2"))

    clock.move(200)

    assert (await look(provider)).phase is Phase.SUCCEEDED


async def test_with_a_node_only_those_replicas_go_that_do_not_leave_it(tmp_path: Path, clock: HandClock) -> None:
    provider = a_simulation(tmp_path, clock, SimulatedFaults(stuck=1))
    order = an_order(seconds=3_000)
    (place,) = order.places[:1]
    both = (place, replace(place, node=first_node(1), replica=replace(place.replica, index=1)))
    await provider.launch(replace(order, places=both))
    for at_once in (False, True):
        await provider.resize(replace(order, places=both[:1]), notice=1, at_once=at_once)
    clock.move(100)
    assert (await look(provider)).resized == 0

    await provider.lose_node(first_node(1))

    seen = await look(provider)
    assert (seen.phase, seen.resized) == (Phase.RUNNING, 1)
    await provider.lose_node(first_node(0))
    assert (await look(provider)).phase is Phase.LOST


async def test_nothing_is_done_about_an_attempt_that_the_provider_is_silent_about(tmp_path: Path, clock: HandClock) -> None:
    provider = a_simulation(tmp_path, clock, SimulatedFaults(silent=1))
    await provider.launch(an_order(seconds=300))
    for call in (
        provider.preempt("attempt-1", 1, notice=1, signal="SIGTERM", grace_seconds=0),
        provider.keep("attempt-1", 1, notice=1),
        provider.release("attempt-1", 1),
    ):
        with pytest.raises(ProviderError, match="no answer about attempt attempt-1") as raised:
            await call
        assert raised.value.kind is ErrorClass.UNAVAILABLE

    assert (await look(provider)).phase is Phase.RUNNING
