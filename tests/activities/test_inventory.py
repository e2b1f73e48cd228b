"""Inventory: the record is kept true to a provider, and the provider to the record."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.ports import Beat, Event, Phase
from corral.api import Autoscale, Cordon, Outcome, SlaTier, State
from corral.policy import Policy
from tests.activities.fakes import Crew
from tests.activities.store.pool import Pool, a_spec, a_view
from tests.builders import NOON, seconds


@pytest.fixture
async def crew(pool: Pool) -> Crew:
    """`train` runs on the only node."""
    await pool.gets(a_view())
    await pool.arrive(a_spec("train"))
    crew = Crew(pool)
    crew.provider.nodes = [a_view()]
    await crew.placement.bind(await pool.key("train"))
    return crew


async def watches(crew: Crew, *events: Event) -> int:
    """The provider tells these events, after its whole state was compared with the record."""
    crew.provider.events = [Beat(crew.pool.clock.now()), *events]
    count: int = await ActivityEnvironment().run(crew.inventory.watch, "aws", 30.0)
    await crew.delivered()
    return count


async def test_what_a_provider_tells_is_written_down(crew: Crew) -> None:
    ended = crew.provider.sees("train.1", Phase.SUCCEEDED)
    assert await watches(crew, a_view("n2"), ended) == 2
    assert await crew.pool.state("train") is State.SUCCEEDED
    assert [node.id for node in await crew.pool.store.nodes()] == ["aws/n1", "aws/n2"]
    assert [standing.state for standing in crew.workloads.told] == [State.SUCCEEDED]


async def test_work_that_only_saved_its_state_is_known_to_have_when_one_looks(crew: Crew) -> None:
    for minutes in (1, 2):
        saved_at = NOON + seconds(60 * minutes)
        crew.provider.attempts["train.1"] = replace(crew.provider.attempts["train.1"], checkpoint_at=saved_at)
        await watches(crew)
        (active,) = (await crew.pool.snapshot()).active
        assert active.checkpoint_at == saved_at


async def test_an_end_is_forgotten_once_it_is_written_down(crew: Crew) -> None:
    await watches(crew, crew.provider.becomes("train.1", Phase.SUCCEEDED))
    assert crew.provider.calls[-1] == "forget train.1"


async def test_a_node_that_changes_twice_in_a_moment_is_as_it_was_told_last(crew: Crew) -> None:
    await watches(crew, a_view(ready=False), a_view(ready=True))
    assert [node.health for node in await crew.pool.store.nodes()] == ["ready"]


async def test_what_the_record_has_ended_is_stopped_where_it_still_runs(crew: Crew) -> None:
    await crew.pool.ends("train", Phase.LOST)
    await watches(crew)
    assert "release train.1" in crew.provider.calls


async def test_what_the_record_never_had_is_stopped(crew: Crew) -> None:
    crew.provider.becomes("stranger.3", Phase.RUNNING)
    await watches(crew)
    assert "release stranger.3" in crew.provider.calls
    assert "release train.1" not in crew.provider.calls


async def test_what_ran_and_is_gone_is_lost_and_waits_again(crew: Crew) -> None:
    crew.provider.attempts.clear()
    await watches(crew)
    assert await crew.pool.state("train") is State.WAITING
    assert await crew.pool.outcomes("train") == [Outcome.LOST]
    assert [standing.state for standing in crew.workloads.told] == [State.WAITING]


async def test_only_a_complete_report_proves_that_something_is_gone(crew: Crew) -> None:
    crew.provider.attempts.clear()
    crew.provider.nodes = []
    crew.provider.complete = False
    await watches(crew)
    assert await crew.pool.state("train") is State.RUNNING
    assert [node.health for node in await crew.pool.store.nodes()] == ["ready"]


async def test_what_is_on_its_way_to_a_provider_is_not_lost(crew: Crew) -> None:
    crew.provider.nodes = [a_view(), a_view("n2")]
    await crew.pool.gets(*crew.provider.nodes)
    await crew.pool.arrive(a_spec("late"))
    await crew.pool.binds("late")
    await watches(crew)
    assert await crew.pool.state("late") is State.STARTING


async def test_what_never_arrives_at_a_provider_is_given_up_and_can_never_start(crew: Crew) -> None:
    crew.provider.nodes = [a_view(), a_view("n2")]
    await crew.pool.gets(*crew.provider.nodes)
    await crew.pool.arrive(a_spec("late"))
    await crew.pool.binds("late")
    await watches(crew)
    await watches(crew)
    assert "release late.1" in crew.provider.calls
    assert await crew.pool.outcomes("late") == [Outcome.LOST]
    assert await crew.pool.state("late") is State.WAITING


async def test_what_arrives_just_as_it_is_given_up_is_not_gone_before_it_has_stopped(crew: Crew) -> None:
    crew.provider.nodes = [a_view(), a_view("n2")]
    await crew.pool.gets(*crew.provider.nodes)
    await crew.pool.arrive(a_spec("late"))
    await crew.pool.binds("late")
    await watches(crew)

    async def finds_it_launched(attempt_id: str, epoch: int) -> None:
        crew.provider.becomes(attempt_id, Phase.STOPPING)

    crew.provider.release = finds_it_launched  # type: ignore[method-assign]
    await watches(crew)
    assert (await crew.pool.outcomes("late"), await crew.pool.used("n2")) == ([], 8_000)
    crew.provider.becomes("late.1", Phase.CANCELLED)
    await watches(crew)
    assert (await crew.pool.outcomes("late"), await crew.pool.used("n2")) == ([Outcome.LOST], 0)


async def test_a_stop_that_went_by_is_given_again(crew: Crew) -> None:
    await crew.pool.adjusts("cancel", "train")
    await watches(crew)
    assert not [call for call in crew.provider.calls if call.startswith("preempt")]
    crew.pool.clock.move(60)
    await watches(crew)
    assert "preempt train.1 SIGTERM 30" in crew.provider.calls


async def test_replicas_that_do_not_leave_are_stopped_again_until_they_are_gone(crew: Crew) -> None:
    pool, step = crew.pool, Policy().stop_seconds + 31
    await pool.store.write_nodes("aws", [a_view("n2")], complete=False)
    crew.provider.nodes = [a_view(), a_view("n2")]
    await pool.arrive(a_spec("chat", gpus=1, count=3, minimum=1, autoscale=Autoscale(target=10, minimum=1, most=6)))
    await crew.placement.bind(await pool.key("chat"))
    crew.provider.is_stubborn = crew.provider.is_stuck = True
    await pool.adjusts("resize", "chat", count=1)
    await pool.plan()
    for _ in range(2):
        await crew.placement.stop(await pool.key("chat"))
        pool.clock.move(step)
        await pool.store.keep_house()
    assert (await pool.state("chat"), await pool.used("n2")) == (State.RUNNING, 3_000)

    pool.clock.move(step)
    for _ in range(2):
        await watches(crew)
        assert crew.provider.calls[-1] == "resize chat.1 1 at once"
    assert await pool.used("n2") == 3_000
    crew.provider.is_stuck = False
    await watches(crew)
    await watches(crew)
    assert (await pool.state("chat"), await pool.used("n2"), await pool.findings()) == (State.RUNNING, 1_000, {})
    calls = list(crew.provider.calls)
    await watches(crew)
    assert crew.provider.calls == calls, "they are gone"


async def test_a_report_about_work_that_was_only_held_is_not_believed(crew: Crew) -> None:
    await crew.pool.gets(a_view(), a_view("n2"))
    await crew.pool.arrive(a_spec("held"))
    crew.provider.nodes = [a_view(), a_view("n2")]
    crew.provider.attempts["held.1"] = replace(crew.provider.sees("held.1", Phase.SUCCEEDED), sequence=9)
    await watches(crew)
    assert await crew.pool.states("train", "held") == [State.RUNNING, State.RESERVED]


async def test_an_order_to_drain_is_carried_out_at_once(crew: Crew) -> None:
    nodes = await crew.inventory.cordon("aws", Cordon(action="drain", nodes=("n1",), reason="firmware"), "request")
    assert [(node.id, node.health) for node in nodes] == [("aws/n1", "draining")]
    await crew.delivered()
    assert [standing.state for standing in crew.workloads.told] == [State.STOPPING]


async def test_an_order_about_a_node_that_is_not_there_says_which(crew: Crew) -> None:
    with pytest.raises(ApplicationError, match="provider 'aws' has no aws/n7; `corral fleet nodes` lists them") as refused:
        await crew.inventory.cordon("aws", Cordon(action="drain", nodes=("n1", "n7"), reason="firmware"), "request")
    assert (refused.value.type, refused.value.non_retryable) == ("NotFound", True)


async def test_events_are_taken_in_as_many_as_come(crew: Crew) -> None:
    views: Sequence[Event] = [a_view("n2", price=price) for price in range(1_200)]
    assert await watches(crew, *views) == 1_200
    assert [node.price for node in await crew.pool.store.nodes() if node.id == "aws/n2"] == [0.001199]


async def test_a_notice_that_was_taken_back_is_found_at_its_provider(crew: Crew) -> None:
    crew.pool.clock.move(100)
    await crew.pool.arrive(a_spec("urgent", tier=SlaTier.PREMIUM))
    await crew.placement.stop(await crew.pool.key("train"))
    await crew.pool.adjusts("cancel", "urgent")
    await crew.pool.plan()
    before = crew.provider.attempts["train.1"].phase

    await watches(crew)

    assert (before, crew.provider.attempts["train.1"].phase) == (Phase.STOPPING, Phase.RUNNING)
    assert (await crew.pool.store.events("train", 0))[-1].kind == "kept"
