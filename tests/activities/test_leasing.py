"""Clusters that do not answer: suspect, lost, and back; what ran there goes on elsewhere, and never runs twice."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest
from asyncpg import CheckViolationError
from temporalio.testing import ActivityEnvironment

from activities.answers import AttemptKey
from activities.ports import NodeView, Phase
from corral.api import (
    Checkpoint,
    ClusterStatus,
    EvacuationOrder,
    EvacuationState,
    Outcome,
    PlaceKind,
    QueueTree,
    Reason,
    ReplicaGroup,
    SlaTier,
    State,
    Target,
)
from tests.activities.dying import death_after
from tests.activities.fakes import GRACE_SECONDS, LEASE_SECONDS, SKEW_SECONDS, SUSPECT_SECONDS, Crew
from tests.activities.store.pool import PROVIDER, Pool, a_spec, a_view, noon
from tests.builders import a_queue
from tests.patience import PATIENCE_SECONDS

HERE, THERE = "eu/eu-1", "eu/eu-2"


@pytest.fixture
async def crew(pool: Pool) -> Crew:
    """`train` runs on the only node of one cluster; another cluster has as much room."""
    crew = Crew(pool)
    await reports(crew, a_view("here"), a_view("there", cluster="eu-2", price=9_000_000))
    await crew.renews()
    await runs(crew, "train")
    return crew


async def reports(crew: Crew, *views: NodeView) -> None:
    crew.provider.nodes = views
    await crew.pool.gets(*views)


async def runs(crew: Crew, *workloads: str, **terms: object) -> None:
    for workload in workloads:
        await crew.pool.arrive(a_spec(workload, **terms))  # type: ignore[arg-type]
        await starts(crew, workload)


async def starts(crew: Crew, workload: str) -> None:
    await crew.placement.bind(await crew.pool.key(workload))
    assert await crew.pool.state(workload) is State.RUNNING


async def cluster(crew: Crew, name: str = "aws/eu/eu-1") -> ClusterStatus:
    return next(each for each in await crew.pool.store.clusters() if each.id == name)


async def health(crew: Crew) -> dict[str, str]:
    return {node.id.removeprefix("aws/"): node.health for node in await crew.pool.store.nodes()}


async def ends_of(crew: Crew, workload: str) -> Sequence[Outcome]:
    return await crew.pool.outcomes(workload)


async def test_clusters_that_answer_have_leases_that_are_written_down_before_they_are_sent(crew: Crew) -> None:
    assert await crew.renews(20) == "clusters: 2 reachable"
    status = await cluster(crew)
    assert (status.heard_at, status.leased_until) == (noon(20), noon(20 + LEASE_SECONDS))
    assert crew.provider.leases == {HERE: status.leased_until, THERE: status.leased_until}
    assert (status.workloads, status.nodes, status.accelerators) == (1, 1, 8)


async def test_a_cluster_that_has_not_answered_for_a_while_is_suspect_and_its_work_runs_on(crew: Crew) -> None:
    crew.provider.silent.add(HERE)
    assert await crew.renews(SUSPECT_SECONDS) == "clusters: 2 reachable"
    assert await crew.renews(1) == "clusters: 1 reachable, 1 suspect"

    status = await cluster(crew)
    assert (status.state, status.since, status.heard_at) == ("suspect", noon(31), noon(0))
    assert status.reason.startswith("it has not answered since")
    assert status.lost_at == noon(31 + LEASE_SECONDS + GRACE_SECONDS + SKEW_SECONDS), "a lease may have been on its way"
    assert await health(crew) == {"here": "suspect", "there": "ready"}
    assert next(node for node in await crew.pool.store.nodes() if node.id == "aws/here").reason.startswith("its cluster: ")
    assert await crew.pool.state("train") is State.RUNNING
    told = await crew.pool.store.status("train")
    assert told is not None
    assert told.explanation is not None
    assert told.explanation.reason is Reason.CLUSTER_DOES_NOT_ANSWER
    assert "aws/eu/eu-1 does not answer" in told.explanation.message
    assert await crew.pool.findings() == {}


async def test_a_suspect_cluster_that_answers_in_time_is_as_if_nothing_had_been(crew: Crew) -> None:
    crew.provider.silent.add(HERE)
    await crew.renews(31)
    crew.provider.silent.clear()
    assert await crew.renews(60) == "clusters: 2 reachable"

    assert await health(crew) == {"here": "ready", "there": "ready"}
    status = await crew.pool.store.status("train")
    assert status is not None
    assert (status.state, status.epoch, status.explanation) == (State.RUNNING, 1, None)
    assert (await cluster(crew)).losses == 0
    assert [note.state for note in (await cluster(crew)).trail] == ["suspect", "reachable"]
    assert await crew.pool.findings() == {}


async def test_a_cluster_that_flaps_is_given_a_lease_only_while_it_answers(crew: Crew) -> None:
    for _ in range(5):
        crew.provider.silent.add(HERE)
        await crew.renews(31)
        until = (await cluster(crew)).leased_until
        await crew.renews(10)
        assert (await cluster(crew)).leased_until == until
        crew.provider.silent.clear()
        await crew.renews(10)
        await crew.renews(1)
        assert (await cluster(crew)).leased_until == noon(_now(crew) + LEASE_SECONDS)
    assert await ends_of(crew, "train") == []


def _now(crew: Crew) -> float:
    return (crew.pool.clock.now() - noon(0)).total_seconds()


async def test_nothing_new_goes_to_a_suspect_cluster_and_who_waits_for_it_is_told_why(crew: Crew) -> None:
    await runs(crew, "beside", preemptible=False)
    crew.provider.silent.add(THERE)
    await crew.renews(31)
    await crew.pool.ends("beside")
    told = await crew.pool.arrive(a_spec("late"))
    assert (told["late"].state, told["late"].reason) == (State.WAITING, Reason.NOT_ENOUGH_FREE_ACCELERATORS)

    crew.provider.silent.add(HERE)
    await crew.renews(31)
    told = await crew.pool.arrive(a_spec("later"))
    assert told["later"].reason is Reason.NO_READY_CAPACITY
    assert told["later"].message.endswith("its nodes are suspect, `corral fleet nodes` and `corral clusters` say why")

    crew.provider.silent.clear()
    await crew.renews(5)
    assert (await crew.pool.plan())["late"].state is State.RESERVED


async def test_what_was_held_in_a_cluster_that_is_suspect_goes_back_in_line_and_elsewhere(crew: Crew) -> None:
    await crew.pool.arrive(a_spec("held"))
    held = await crew.pool.key("held")
    crew.provider.silent.add(THERE)
    await crew.renews(31)

    assert await ends_of(crew, "held") == [Outcome.EXPIRED]
    assert await crew.pool.store.begin_bindings([held]) == [None], "its workflow was about to bind it"
    assert (await crew.pool.state("held"), await crew.pool.used("there")) == (State.WAITING, 0)
    await crew.pool.ends("train")
    assert (await crew.pool.plan())["held"].place == "8 h100 in eu/eu-1 (aws)"


@pytest.mark.parametrize("early", [1, 0])
async def test_work_of_a_lost_cluster_goes_elsewhere_when_it_must_have_stopped_and_no_earlier(crew: Crew, early: int) -> None:
    crew.provider.silent.add(HERE)
    await crew.renews(31)
    lost_at = (await cluster(crew)).lost_at
    assert lost_at is not None
    await crew.renews((lost_at - crew.pool.clock.now()).total_seconds() - early)
    if early:
        assert (await cluster(crew)).state == "suspect"
        assert await ends_of(crew, "train") == []
        return
    status = await cluster(crew)
    assert (status.state, status.losses, status.unreleased, status.workloads) == ("lost", 1, 1, 0)
    assert await health(crew) == {"here": "lost", "there": "ready"}
    assert await ends_of(crew, "train") == [Outcome.LOST]
    assert (await crew.pool.state("train"), await crew.pool.used("here")) == (State.WAITING, 0)
    assert [standing.state for standing in crew.workloads.told][-1] is State.WAITING

    placed = (await crew.pool.plan())["train"]
    assert (placed.state, placed.epoch, placed.place) == (State.RESERVED, 2, "8 h100 in eu/eu-2 (aws)")
    await starts(crew, "train")
    assert await crew.pool.findings() == {}


async def test_the_record_itself_refuses_to_lose_a_cluster_too_early(crew: Crew) -> None:
    with pytest.raises(CheckViolationError, match="lost_when_nothing_runs_there"):
        await crew.pool.sql("UPDATE clusters SET reach = 'lost', since = fenced_at - interval '1 ms'")


async def test_what_comes_back_with_an_old_epoch_is_released_and_never_believed(crew: Crew) -> None:
    crew.provider.silent.add(HERE)
    await crew.loses()
    await crew.pool.plan()
    await starts(crew, "train")
    crew.provider.silent.clear()
    late = await crew.pool.observation("train", Phase.SUCCEEDED, epoch=1)

    assert await crew.pool.seen(late) == {}
    assert (await crew.pool.state("train"), (await crew.pool.standing("train")).epoch) == (State.RUNNING, 2)
    # It answers, is released there, and only then is it given anything new.
    before = crew.provider.leases[HERE]
    assert await crew.renews(10) == "clusters: 1 reachable, 1 returned"
    assert await health(crew) == {"here": "lost", "there": "ready"}
    assert "release train.1" in crew.provider.calls
    assert crew.provider.leases[HERE] == before
    assert await crew.renews(1) == "clusters: 2 reachable"
    await crew.renews(1)
    assert crew.provider.leases[HERE] > before
    assert await health(crew) == {"here": "ready", "there": "ready"}
    assert (await cluster(crew)).unreleased == 0
    assert crew.provider.attempts["train.2"].phase is Phase.RUNNING
    assert (await crew.pool.arrive(a_spec("next")))["next"].place == "8 h100 in eu/eu-1 (aws)"
    assert [note.state for note in (await cluster(crew)).trail] == ["suspect", "lost", "returned", "reachable"]
    assert await crew.pool.findings() == {}


@pytest.mark.parametrize("call", ["judge_clusters", "release", "note_released"])
async def test_what_came_back_is_released_though_the_worker_dies_at_any_step_of_that(crew: Crew, call: str) -> None:
    crew.provider.silent.add(HERE)
    await crew.loses()
    await crew.pool.plan()
    await starts(crew, "train")
    crew.provider.silent.clear()
    with death_after(crew.provider if call == "release" else crew.pool.store, call):
        await crew.renews(10)
    assert await health(crew) == {"here": "lost", "there": "ready"}

    crew.pool.store = crew.pool.another_store()
    following = crew.another()
    for _ in range(3):
        await following.renews(1)
    assert await health(crew) == {"here": "ready", "there": "ready"}
    assert ("release train.1" in crew.provider.calls, (await cluster(crew)).unreleased) == (True, 0)
    assert [note.state for note in (await cluster(crew)).trail] == ["suspect", "lost", "returned", "reachable"]
    assert crew.provider.attempts["train.2"].phase is Phase.RUNNING
    assert await crew.pool.findings() == {}


async def test_a_returned_cluster_with_something_left_that_cannot_be_released_is_given_nothing(crew: Crew) -> None:
    crew.provider.silent.add(HERE)
    await crew.loses()
    crew.provider.silent.clear()

    async def cannot(attempt_id: str, epoch: int) -> None:
        crew.provider.calls.append(f"tried {attempt_id}")

    crew.provider.release = cannot  # type: ignore[method-assign]
    for _ in range(3):
        assert await crew.renews(5) == "clusters: 1 reachable, 1 returned"
    assert crew.provider.calls.count("tried train.1") == 3
    crew.provider.becomes("train.1", Phase.LOST)
    await crew.renews(5)
    assert await crew.renews(5) == "clusters: 2 reachable"


async def test_a_launch_that_was_on_its_way_to_a_lost_cluster_can_never_start_there(crew: Crew) -> None:
    await crew.pool.arrive(a_spec("late"))
    key = await crew.pool.key("late")
    (order,) = await crew.pool.store.begin_bindings([key])
    assert order is not None
    crew.provider.silent.add(THERE)
    await crew.loses()
    assert await ends_of(crew, "late") == [Outcome.LOST]
    crew.provider.silent.clear()
    await crew.renews(5)
    await crew.renews(5)
    assert "late.1" in crew.provider.fenced
    assert (await cluster(crew, "aws/eu/eu-2")).state == "reachable"


async def test_a_returned_cluster_that_falls_silent_again_is_lost_as_before(crew: Crew) -> None:
    crew.provider.silent.add(HERE)
    await crew.loses()
    crew.provider.silent.clear()
    await crew.renews(5)
    crew.provider.silent.add(HERE)
    assert await crew.renews(5) == "clusters: 1 reachable, 1 lost"
    assert (await cluster(crew)).losses == 1, "it was lost once"


async def test_a_gang_that_lost_one_of_its_clusters_is_lost_whole(pool: Pool) -> None:
    crew = Crew(pool)
    await reports(crew, a_view("here"), a_view("there", cluster="eu-2"), *(a_view(f"n{n}", cluster="eu-3") for n in (1, 2)))
    await crew.pool.orders("cordon", "n1", "n2")
    await crew.renews()
    await runs(crew, "gang", groups=(ReplicaGroup(count=2, accelerators=8),))
    assert await crew.pool.phases("gang") == {"here": "claimed", "there": "claimed"}
    await crew.pool.orders("uncordon", "n1", "n2")
    crew.provider.silent.add(THERE)
    await crew.loses()
    assert (await crew.pool.used("here"), await crew.pool.used("there")) == (0, 0)
    await crew.pool.plan()
    assert await crew.pool.phases("gang") == {"here": "claimed", "n1": "claimed"}
    assert await crew.pool.findings() == {}


async def test_a_gang_that_lost_two_clusters_is_released_in_each_before_that_is_given_anything(pool: Pool) -> None:
    crew = Crew(pool)
    await reports(crew, a_view("here"), a_view("there", cluster="eu-2"))
    await crew.renews()
    await runs(crew, "gang", groups=(ReplicaGroup(count=2, accelerators=8),))
    crew.provider.silent.update({HERE, THERE})
    await crew.loses()

    async def left() -> list[int]:
        return [(await cluster(crew, name)).unreleased for name in ("aws/eu/eu-1", "aws/eu/eu-2")]

    assert await left() == [1, 1]
    crew.provider.silent.remove(THERE)
    assert await crew.renews(1) == "clusters: 1 lost, 1 returned"
    assert await left() == [1, 0]
    assert await crew.renews(1) == "clusters: 1 reachable, 1 lost"
    crew.provider.silent.clear()
    assert await crew.renews(1) == "clusters: 1 reachable, 1 returned"
    assert await left() == [0, 0]
    assert await crew.renews(1) == "clusters: 2 reachable"
    assert await crew.pool.findings() == {}


async def test_what_was_leaving_a_lost_cluster_has_left_as_it_was_ordered(crew: Crew) -> None:
    await runs(crew, "second")
    await crew.pool.adjusts("cancel", "train")
    await crew.pool.adjusts("hold", "second")
    crew.provider.silent |= {HERE, THERE}
    await crew.loses()
    assert await crew.pool.states("train", "second") == [State.CANCELLED, State.SUSPENDED]
    assert await ends_of(crew, "train") == [Outcome.CANCELLED]
    assert await crew.pool.findings() == {}


async def test_whoever_waited_for_victims_in_a_suspect_cluster_waits_for_them_no_longer(pool: Pool) -> None:
    crew = Crew(pool)
    await reports(crew, a_view("here"))
    await crew.renews()
    await runs(crew, "guest", tier=SlaTier.BASIC, checkpoint=Checkpoint(grace_seconds=500))
    pool.clock.move(100)
    await crew.renews()
    assert (await pool.arrive(a_spec("urgent", tier=SlaTier.PREMIUM)))["urgent"].state is State.RESERVING
    crew.provider.silent.add(HERE)
    await crew.renews(31)
    assert (await pool.state("urgent"), await ends_of(crew, "urgent")) == (State.WAITING, [Outcome.EXPIRED])
    await pool.plan()
    assert (await pool.states("guest", "urgent")) == [State.RUNNING, State.WAITING], "its notice is taken back"
    await crew.renews(LEASE_SECONDS + GRACE_SECONDS + SKEW_SECONDS)
    assert await pool.state("guest") is State.WAITING
    assert await pool.findings() == {}


async def test_an_evacuation_of_a_place_that_is_lost_comes_to_its_end(crew: Crew) -> None:
    order = EvacuationOrder(
        id="storm", kind=PlaceKind.CLUSTER, place="aws/eu/eu-1", reason="storm", who="ann", deadline_seconds=10_000
    )
    assert (await crew.pool.store.evacuate(order))[0].left == 1
    crew.provider.silent.add(HERE)
    await crew.loses()
    assert (await crew.pool.store.evacuate(order))[0].state is EvacuationState.DONE
    assert await crew.pool.findings() == {}


async def test_a_provider_of_which_nothing_answers_loses_all_its_clusters(crew: Crew) -> None:
    crew.provider.is_silent = True
    assert await crew.renews(31) == "clusters: 2 suspect"
    assert await crew.renews(LEASE_SECONDS + GRACE_SECONDS + SKEW_SECONDS) == "clusters: 2 lost"
    assert await crew.pool.state("train") is State.WAITING
    crew.provider.is_silent = False
    await crew.renews(1)
    await crew.renews(1)
    assert (await crew.pool.plan())["train"].epoch == 2


async def test_a_worker_that_was_away_for_long_asks_before_it_judges(crew: Crew) -> None:
    assert await crew.renews(10_000) == "clusters: 2 reachable"
    assert await ends_of(crew, "train") == []


async def test_of_two_that_ask_the_one_that_was_frozen_changes_nothing(crew: Crew) -> None:
    """What it was about to send is over by then, and what it heard is too old to be an answer."""
    asked_at = crew.pool.clock.now()
    frozen = await crew.pool.store.grant_leases("aws", crew.leasing._terms)
    crew.provider.silent.add(HERE)
    await crew.loses()

    sent = frozen[HERE]
    assert sent is not None
    assert sent < crew.pool.clock.now()
    judgement, _ = await crew.pool.store.judge_clusters(
        "aws", crew.leasing._terms, asked_at=asked_at, answered=frozenset({HERE, THERE})
    )
    assert (judgement.words, judgement.is_news) == ("clusters: 1 reachable, 1 lost", False)


async def test_the_loss_of_a_cluster_is_counted_with_what_it_cost(crew: Crew) -> None:
    crew.provider.silent.add(HERE)
    await crew.loses()
    figures = await crew.pool.store.figures()
    place = ("aws", "eu", "eu-1")
    assert figures["clusters"] == {(*place, "lost"): 1, ("aws", "eu", "eu-2", "reachable"): 1}
    assert figures["cluster_losses"] == {place: 1, ("aws", "eu", "eu-2"): 0}
    assert figures["unreleased_attempts"][place] == 1
    assert figures["cluster_silence_seconds"][place] == 31 + LEASE_SECONDS + GRACE_SECONDS + SKEW_SECONDS
    assert figures["attempts_ended"] == {("aws", "standard", "lost"): 1}
    lost = 8 * (31 + LEASE_SECONDS + GRACE_SECONDS + SKEW_SECONDS)
    assert figures["lost_accelerator_seconds"] == {("standard", "lost"): lost}
    assert figures["accelerators"][("aws", "eu", "eu-1", "h100", "lost")] == 8
    rows = await crew.pool.sql("SELECT sum(lost_milli_seconds) AS lost FROM ledger WHERE workload_id = 'train'")
    assert rows[0]["lost"] == 1000 * lost


async def test_a_node_that_comes_to_a_suspect_cluster_is_suspect_like_the_others(crew: Crew) -> None:
    crew.provider.silent.add(HERE)
    await crew.renews(31)
    await reports(crew, *crew.provider.nodes, a_view("new"), a_view("moved", cluster="eu-2"))
    assert await health(crew) == {"here": "suspect", "there": "ready", "new": "suspect", "moved": "ready"}
    await reports(crew, *crew.provider.nodes[:3], a_view("moved"))
    assert (await health(crew))["moved"] == "suspect"
    assert await crew.pool.findings() == {}


async def test_work_that_wants_a_lost_cluster_waits_for_it_and_is_not_refused(crew: Crew) -> None:
    await reports(crew, *crew.provider.nodes, a_view("rare", sku="b200", cluster="eu-3"))
    await crew.pool.store.apply_queues(QueueTree(queues=(a_queue("research", 1_000, sku="b200"),)))
    await crew.renews()
    crew.provider.silent.add("eu/eu-3")
    await crew.loses()
    told = (await crew.pool.arrive(a_spec("choosy", targets=(Target(skus=("b200",)),))))["choosy"]
    assert (told.state, told.reason) == (State.WAITING, Reason.NO_READY_CAPACITY)
    assert told.message.endswith("its cluster is lost, `corral clusters` says since when")


async def test_what_a_silent_cluster_runs_is_not_taken_for_gone_when_the_rest_is_seen(crew: Crew) -> None:
    crew.provider.silent.add(HERE)
    crew.provider.attempts.pop("train.1")
    for _ in range(2):
        await crew.inventory._compare(crew.provider)
    assert await crew.pool.state("train") is State.RUNNING


async def test_a_key_of_an_old_epoch_stops_and_keeps_nothing(crew: Crew) -> None:
    crew.provider.silent.add(HERE)
    await crew.loses()
    assert await crew.pool.store.stop_order(AttemptKey("train", 1)) is None


async def test_a_returned_cluster_in_which_nothing_can_be_released_takes_no_lease_from_others(crew: Crew) -> None:
    """Neither where each release takes long, nor where one is not answered for longer than leases last."""
    crew.provider.silent.add(HERE)
    await crew.loses()
    crew.provider.silent.clear()

    async def takes_long(attempt_id: str, epoch: int) -> None:
        crew.pool.clock.move(SUSPECT_SECONDS + 1)

    crew.provider.release = takes_long  # type: ignore[method-assign]
    for _ in range(2):
        assert await crew.renews(1) == "clusters: 1 reachable, 1 returned"

    answered = asyncio.Event()

    async def is_not_answered(attempt_id: str, epoch: int) -> None:
        crew.provider.calls.append(f"asked {attempt_id}")
        await answered.wait()
        crew.provider.becomes(attempt_id, Phase.LOST)

    crew.provider.release = is_not_answered  # type: ignore[method-assign]
    for _ in range(2):
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert await crew.renews(1) == "clusters: 1 reachable, 1 returned"
        assert crew.provider.leases[THERE] == noon(_now(crew) + LEASE_SECONDS)
    assert crew.provider.calls.count("asked train.1") == 1, "it is not asked anew while it has not answered"

    answered.set()
    await crew.renews(1)
    assert await crew.renews(1) == "clusters: 2 reachable"


async def test_what_is_not_released_when_leases_are_kept_no_more_is_left_to_who_keeps_them_next(crew: Crew) -> None:
    crew.provider.silent.add(HERE)
    await crew.loses()
    crew.provider.silent.clear()
    asked, forsaken = asyncio.Event(), asyncio.Event()

    async def is_never_answered(attempt_id: str, epoch: int) -> None:
        asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            forsaken.set()

    releases, crew.provider.release = crew.provider.release, is_never_answered  # type: ignore[method-assign]
    async with asyncio.timeout(PATIENCE_SECONDS):
        await ActivityEnvironment().run(crew.leasing.keep, PROVIDER, 0)
    assert asked.is_set()
    assert forsaken.is_set()

    crew.provider.release = releases  # type: ignore[method-assign]
    for _ in range(2):
        await crew.renews(1)
    assert await crew.renews(1) == "clusters: 2 reachable"


async def test_whoever_keeps_leases_is_known_to_be_alive_between_two_renewals(crew: Crew) -> None:
    beats: asyncio.Queue[object] = asyncio.Queue()
    environment = ActivityEnvironment()
    environment.info = replace(environment.info, heartbeat_timeout=timedelta(seconds=0.2))
    environment.on_heartbeat = lambda *details: beats.put_nowait(details)
    crew.leasing._renew_seconds = 10_000
    keeping = asyncio.create_task(environment.run(crew.leasing.keep, PROVIDER, 20_000))
    async with asyncio.timeout(PATIENCE_SECONDS):
        for _ in range(10):
            await beats.get()
    assert len([call for call in crew.provider.calls if call.startswith("renew")]) == 2, "one of them was before"
    environment.worker_shutdown()
    await keeping
