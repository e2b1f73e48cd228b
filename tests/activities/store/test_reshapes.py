"""Reshapes in the record: work that is moved or resized keeps its place in line, and its capacity in the new shape."""

import asyncio
from collections.abc import Callable, Sequence

import pytest

from activities.ports import Phase
from corral.api import Outcome, Reason, SlaTier, State
from corral.policy import Policy
from domain.decision import Change, Method, Plan, Proof, Reshape, Start, StartAfter, Stop
from domain.pool.fleet import NodeShare, Placement, Replica, Room
from domain.snapshot import Snapshot
from tests.activities.store.pool import Pool, a_spec, a_view
from tests.builders import a_queue

Decision = Callable[[Snapshot], Plan]


def on(node: str, *replicas: Sequence[int], gpus: int = 8) -> Placement:
    """One replica for each list of devices, on one node."""
    used = {device for devices in replicas for device in devices}
    room = Room(tuple(1_000 if device in used else 0 for device in range(gpus)), 0, 0)
    placed = tuple(Replica("main", index, tuple(devices)) for index, devices in enumerate(replicas))
    return Placement("aws", "eu", "h100", (NodeShare(f"aws/{node}", room, placed),))


LEFT, RIGHT = (0, 1, 2, 3), (4, 5, 6, 7)


def shrink(snapshot: Snapshot) -> Plan:
    """`train` keeps the left half of n1, `owner` gets the right one."""
    reshape = Reshape("train.1", Change.SHRINK, on("n1", LEFT), beneficiary="owner")
    return Plan((StartAfter("owner", on("n1", RIGHT), ()),), reshapes=(reshape,))


async def train_runs(pool: Pool, *nodes: str) -> None:
    """`train`, which is content with one replica of two, runs on the whole of n1."""
    await pool.gets(*(a_view(node) for node in nodes or ("n1",)))
    await pool.arrive(a_spec("train", gpus=4, count=2, minimum=1))
    await pool.runs("train")
    pool.clock.move(100)


async def train_shrinks(pool: Pool) -> None:
    """`train` has notice to go on with half of what it has, for `owner`."""
    await train_runs(pool)
    await pool.decided(shrink, a_spec("owner", gpus=4))


async def test_work_shrinks_for_an_owner_and_both_run(pool: Pool) -> None:
    await train_runs(pool)
    told = await pool.decided(shrink, a_spec("owner", gpus=4))
    assert (told["train"].state, told["train"].epoch) == (State.STOPPING, 1)
    assert told["train"].next_place == "4 h100 in eu/eu-1 (aws)"
    assert (told["owner"].state, told["owner"].reason) == (State.RESERVING, Reason.WAITING_FOR_VICTIMS)
    assert await pool.findings() == {}
    told = await pool.ends("train", Phase.CANCELLED, reason="stopped with its work saved")
    assert (told["train"].state, told["train"].epoch, told["owner"].state) == (State.RESERVED, 2, State.RESERVED)
    assert await pool.findings() == {}
    await pool.runs("train", "owner")
    assert await pool.states("train", "owner") == [State.RUNNING, State.RUNNING]
    assert await pool.used() == 8_000
    assert await pool.outcomes("train") == [Outcome.RESIZED]
    assert await pool.findings() == {}


async def test_what_is_shrunk_was_not_preempted_and_keeps_its_age_and_its_losses(pool: Pool) -> None:
    await train_shrinks(pool)
    saved = pool.clock.now()
    pool.clock.move(30)
    await pool.ends("train", Phase.CANCELLED, checkpoint_at=saved)
    await pool.runs("train")
    status = await pool.store.status("train")
    assert status is not None
    assert (status.preemptions, (pool.clock.now() - status.submitted_at).total_seconds()) == (0, 130)
    assert await pool.intervals("train") == [
        ("waiting", 0, 0),
        ("starting", 0, 0),
        ("running", 0, 130),
        ("waiting", 130, 130),
        ("starting", 130, 130),
        ("running", 130, None),
    ]
    rows = await pool.sql("SELECT lost_milli_seconds FROM ledger WHERE lost_milli_seconds > 0")
    assert [row["lost_milli_seconds"] for row in rows] == [8_000 * 30]


async def test_the_history_tells_of_a_reshape_and_names_no_other_workload(pool: Pool) -> None:
    await train_shrinks(pool)
    status = await pool.store.status("train")
    assert status is not None
    assert status.where is not None
    assert status.next_where is not None
    assert (status.where.nodes, status.next_where.nodes) == ({"aws/n1": 2}, {"aws/n1": 1})
    await pool.ends("train", Phase.CANCELLED)
    events = await pool.store.events("train", 0)
    assert [event.kind for event in events[4:]] == ["shrink", "stopping", "reserving", "reserved"]
    assert not any("owner" in event.message for event in events)
    (decision,) = await pool.sql("SELECT outcome, detail FROM decisions WHERE workload_id = 'train' AND outcome = 'Reshape'")
    assert (decision["detail"]["change"], decision["detail"]["beneficiary"]) == ("shrink", "owner")
    (round_,) = await pool.sql("SELECT started, preempted, reshaped, stopped FROM rounds ORDER BY id DESC LIMIT 1")
    assert tuple(round_.values()) == (0, 0, 1, 0)


async def test_a_decision_keeps_how_far_it_may_be_from_the_least_cost(pool: Pool) -> None:
    await train_runs(pool)
    proof = Proof(Method.EXACT, cost=400, bound=300)
    await pool.decided(
        lambda _: Plan((StartAfter("owner", on("n1", LEFT), ("train.1",), proof=proof),)), a_spec("owner", gpus=4)
    )
    (decision,) = await pool.sql("SELECT detail FROM decisions WHERE outcome = 'StartAfter'")
    assert decision["detail"]["proof"] == {"method": "exact", "cost": 400, "bound": 300, "gap": 0.25}


async def test_nobody_takes_what_is_kept_for_work_that_goes_on(pool: Pool) -> None:
    await train_shrinks(pool)
    await pool.arrive(a_spec("third", gpus=1, tier=SlaTier.PREMIUM))
    await pool.ends("train", Phase.CANCELLED)
    await pool.plan()
    assert await pool.states("train", "owner", "third") == [State.RESERVED, State.RESERVED, State.WAITING]


async def test_a_round_sees_what_leaves_and_what_follows_it(pool: Pool) -> None:
    await train_shrinks(pool)
    actives = {active.attempt_id: active for active in (await pool.snapshot()).active}
    leaves, follows = actives["train.1"], actives["train.2"]
    assert (leaves.state, leaves.preempted, leaves.milli) == (State.STOPPING, True, 8_000)
    assert (follows.state, follows.preempted, follows.milli) == (State.RESERVING, False, 4_000)
    assert (follows.id, follows.epoch, follows.started_at) == ("train", 2, None)


async def test_work_moves_to_another_node_which_it_has_from_the_decision_on(pool: Pool) -> None:
    await train_runs(pool, "n1", "n2")
    (place,) = (await pool.phases("train")).keys()
    other = "n2" if place == "n1" else "n1"

    def away(snapshot: Snapshot) -> Plan:
        moved = Reshape("train.1", Change.MIGRATE, on(other, LEFT, RIGHT), beneficiary="owner")
        return Plan((StartAfter("owner", on(place, LEFT, RIGHT), ()),), reshapes=(moved,))

    await pool.decided(away, a_spec("owner", gpus=4, count=2))
    assert await pool.used(other) == 8_000
    assert await pool.findings() == {}
    told = await pool.ends("train", Phase.CANCELLED)
    assert (told["train"].state, told["owner"].state) == (State.RESERVED, State.RESERVED)
    orders = await pool.binds("train", "owner")
    assert {id: {spot.node for spot in order.places} for id, order in orders.items() if order} == {
        "train": {other},
        "owner": {place},
    }
    assert await pool.outcomes("train") == [Outcome.MIGRATED]
    assert await pool.findings() == {}


async def test_work_grows_into_what_is_free(pool: Pool) -> None:
    await pool.gets(a_view("n1", gpus=4))
    await pool.arrive(a_spec("train", gpus=4, count=2, minimum=1))
    await pool.runs("train")
    await pool.store.write_nodes("aws", [a_view("n1", gpus=4), a_view("n2", gpus=4)], complete=True)

    def grow(snapshot: Snapshot) -> Plan:
        halves = [on(node, (0, 1, 2, 3), gpus=4).shares[0] for node in ("n1", "n2")]
        return Plan((), reshapes=(Reshape("train.1", Change.GROW, Placement("aws", "eu", "h100", tuple(halves))),))

    await pool.decided(grow)
    follower = await pool.sql("SELECT node_id, phase FROM allocations WHERE attempt_id = 'train.2' ORDER BY node_id")
    assert [tuple(row.values()) for row in follower] == [("aws/n1", "promised"), ("aws/n2", "claimed")]
    await pool.ends("train", Phase.CANCELLED)
    await pool.runs("train")
    assert (await pool.used("n1"), await pool.used("n2")) == (4_000, 4_000)
    assert await pool.findings() == {}


async def test_work_shrinks_for_work_that_grows(pool: Pool) -> None:
    await pool.gets(a_view())
    both = a_spec("grows", gpus=2, count=2, minimum=1), a_spec("train", gpus=2, count=2, minimum=1)
    starts = Start("grows", on("n1", (0, 1))), Start("train", on("n1", (2, 3), (4, 5)))
    await pool.decided(lambda _: Plan(starts), *both)
    await pool.runs("grows", "train")
    shrinks = Reshape("train.1", Change.SHRINK, on("n1", (2, 3)), beneficiary="grows")
    grows = Reshape("grows.1", Change.GROW, on("n1", (0, 1), (4, 5)))
    await pool.decided(lambda _: Plan((), reshapes=(shrinks, grows)))
    await pool.ends("grows", Phase.CANCELLED)
    assert await pool.state("grows") is State.RESERVING
    assert await pool.findings() == {}
    await pool.ends("train", Phase.CANCELLED)
    assert await pool.states("grows", "train") == [State.RESERVED, State.RESERVED]
    await pool.runs("grows", "train")
    assert await pool.used() == 6_000
    assert await pool.findings() == {}


async def test_what_only_holds_capacity_takes_its_new_shape_at_once(pool: Pool) -> None:
    await pool.gets(a_view())
    await pool.arrive(a_spec("train", gpus=4, count=2, minimum=1))
    told = await pool.decided(shrink, a_spec("owner", gpus=4))
    assert {id: (told[id].state, told[id].epoch) for id in ("train", "owner")} == {
        "train": (State.RESERVED, 2),
        "owner": (State.RESERVED, 1),
    }
    assert await pool.outcomes("train") == [Outcome.RESIZED]
    assert (await pool.binds("train"))["train"] is not None
    assert await pool.findings() == {}


async def test_what_only_holds_capacity_gives_it_to_its_beneficiary_at_once(pool: Pool) -> None:
    await pool.gets(a_view())
    await pool.arrive(a_spec("train", gpus=4, count=2, minimum=1))
    told = await pool.decided(lambda _: Plan((StartAfter("owner", on("n1", LEFT), ("train.1",)),)), a_spec("owner", gpus=4))
    assert (told["train"].state, told["owner"].state) == (State.WAITING, State.RESERVED)
    assert await pool.outcomes("train") == [Outcome.PREEMPTED]
    assert await pool.findings() == {}


async def test_two_that_change_places_wait_for_each_other(pool: Pool) -> None:
    await pool.gets(a_view("n1"), a_view("n2"))
    await pool.arrive(a_spec("one"), a_spec("two"))
    await pool.runs("one", "two")
    places = {id: next(iter(await pool.phases(id))) for id in ("one", "two")}

    def swap(snapshot: Snapshot) -> Plan:
        everything = tuple(range(8))
        return Plan(
            (),
            reshapes=(
                Reshape("one.1", Change.MIGRATE, on(places["two"], everything)),
                Reshape("two.1", Change.MIGRATE, on(places["one"], everything)),
            ),
        )

    await pool.decided(swap)
    await pool.ends("one", Phase.CANCELLED)
    assert await pool.states("one", "two") == [State.RESERVING, State.STOPPING]
    assert await pool.findings() == {}
    told = await pool.ends("two", Phase.CANCELLED)
    assert (told["one"].state, told["two"].state) == (State.RESERVED, State.RESERVED)
    await pool.runs("one", "two")
    assert await pool.findings() == {}


async def test_work_that_finishes_by_itself_needs_no_other_shape(pool: Pool) -> None:
    await train_shrinks(pool)
    told = await pool.ends("train", Phase.SUCCEEDED, exit_code=0)
    assert (told["train"].state, told["train"].epoch, told["owner"].state) == (State.SUCCEEDED, 1, State.RESERVED)
    assert await pool.used() == 4_000
    assert await pool.findings() == {}


@pytest.mark.parametrize("phase", [Phase.FAILED, Phase.LOST])
async def test_work_that_ends_badly_on_its_way_goes_on_all_the_same(pool: Pool, phase: Phase) -> None:
    await train_shrinks(pool)
    await pool.ends("train", phase)
    assert await pool.outcomes("train") == [Outcome.RESIZED]
    assert await pool.states("train", "owner") == [State.RESERVED, State.RESERVED]
    assert await pool.findings() == {}


@pytest.mark.parametrize(("verb", "end"), [("cancel", State.CANCELLED), ("hold", State.SUSPENDED)])
async def test_what_was_kept_for_work_that_will_not_go_on_is_free_at_once(pool: Pool, verb: str, end: State) -> None:
    await train_runs(pool, "n1", "n2")
    (place,) = (await pool.phases("train")).keys()
    other = "n2" if place == "n1" else "n1"
    await pool.decided(lambda _: Plan((), reshapes=(Reshape("train.1", Change.MIGRATE, on(other, LEFT, RIGHT)),)))
    asked = await pool.adjusts(verb, "train")
    assert (asked.standing.state, asked.standing.next_place) == (State.STOPPING, "")
    assert await pool.used(other) == 0
    assert await pool.findings() == {}
    assert (await pool.arrive(a_spec("third")))["third"].state is State.RESERVED
    await pool.ends("train", Phase.CANCELLED)
    assert await pool.state("train") is end
    assert await pool.findings() == {}


async def test_what_was_promised_on_room_that_was_kept_is_claimed_when_nobody_needs_it_any_more(pool: Pool) -> None:
    await train_runs(pool, "n1", "n2")
    (place,) = (await pool.phases("train")).keys()
    other = "n2" if place == "n1" else "n1"
    await pool.decided(lambda _: Plan((), reshapes=(Reshape("train.1", Change.MIGRATE, on(other, LEFT, RIGHT)),)))
    wants_it = Plan((StartAfter("next", on(other, LEFT, RIGHT), ()),))
    await pool.decided(lambda _: wants_it, a_spec("next", gpus=4, count=2))
    assert await pool.state("next") is State.RESERVING
    await pool.adjusts("cancel", "train")
    assert await pool.state("next") is State.RESERVED


async def test_work_held_after_its_move_was_dropped_comes_back_with_the_next_epoch(pool: Pool) -> None:
    await train_shrinks(pool)
    await pool.adjusts("hold", "train")
    await pool.ends("train", Phase.CANCELLED)
    await pool.adjusts("release", "train")
    await pool.plan()
    standing = await pool.standing("train")
    assert (standing.state, standing.epoch) == (State.RESERVED, 2)
    assert await pool.findings() == {}


async def test_what_has_gone_on_can_be_cancelled_before_it_runs(pool: Pool) -> None:
    await train_shrinks(pool)
    await pool.ends("train", Phase.CANCELLED)
    await pool.adjusts("cancel", "train")
    assert await pool.state("train") is State.CANCELLED
    assert await pool.used() == 4_000
    assert await pool.findings() == {}


async def test_what_is_kept_for_work_that_stops_slowly_does_not_expire(pool: Pool) -> None:
    await train_runs(pool)
    await pool.decided(lambda _: Plan((), reshapes=(Reshape("train.1", Change.SHRINK, on("n1", LEFT)),)))
    pool.clock.move(2 * Policy().hold_seconds)
    await pool.store.keep_house()
    standing = await pool.standing("train")
    assert (standing.state, standing.next_place) == (State.STOPPING, "4 h100 in eu/eu-1 (aws)")
    await pool.ends("train", Phase.CANCELLED)
    assert await pool.store.keep_house() == []
    assert await pool.state("train") is State.RESERVED
    pool.clock.move(Policy().hold_seconds + 1)
    await pool.store.keep_house()
    assert await pool.state("train") is State.WAITING
    assert await pool.findings() == {}


async def test_work_whose_next_place_is_drained_meanwhile_waits_again_when_it_has_left(pool: Pool) -> None:
    await train_runs(pool, "n1", "n2")
    (place,) = (await pool.phases("train")).keys()
    other = "n2" if place == "n1" else "n1"
    await pool.decided(lambda _: Plan((), reshapes=(Reshape("train.1", Change.MIGRATE, on(other, LEFT, RIGHT)),)))
    await pool.orders("drain", other)
    assert await pool.store.keep_house() == []
    await pool.ends("train", Phase.CANCELLED)
    await pool.store.keep_house()
    assert await pool.state("train") is State.WAITING
    assert await pool.outcomes("train") == [Outcome.MIGRATED, Outcome.DRAINED]
    assert await pool.findings() == {}


async def test_telling_the_same_end_again_changes_nothing(pool: Pool) -> None:
    await train_shrinks(pool)
    end = await pool.observation("train", Phase.CANCELLED)
    await pool.seen(end)
    before = await pool.dump()
    assert await pool.seen(end) == {}
    assert await pool.dump() == before


async def test_two_processes_may_reshape_settle_and_adjust_at_once(pool: Pool) -> None:
    await pool.gets(*(a_view(f"n{number}", gpus=4) for number in range(8)))
    ids = [f"w{number}" for number in range(6)]
    await pool.arrive(*(a_spec(id, gpus=2, count=2, minimum=1) for id in ids))
    await pool.runs(*ids)
    other = pool.another_store()

    def move_all(snapshot: Snapshot) -> Plan:
        """Everything that runs changes places in a ring: each waits for the next."""
        running = sorted((active for active in snapshot.active if active.state is State.RUNNING), key=lambda each: each.id)
        places = [active.placement for active in running]
        ring = zip(running, [*places[1:], *places[:1]], strict=True)
        return Plan((), reshapes=tuple(Reshape(active.attempt_id, Change.MIGRATE, place) for active, place in ring))

    async def plan() -> None:
        for _ in range(3):
            await pool.decided(move_all)

    async def watch() -> None:
        for id in ids:
            await other.settle([await pool.observation(id, Phase.CANCELLED)])
            await other.keep_house()

    async def meddle() -> None:
        for id in ids[::2]:
            await pool.adjusts("cancel", id)

    await pool.decided(move_all)
    await asyncio.gather(plan(), watch(), meddle())
    assert await pool.sql("SELECT id FROM rounds WHERE reshaped > 0")
    assert await pool.findings() == {}
    for id in ids:
        if await pool.state(id) is State.STOPPING:
            await pool.ends(id, Phase.CANCELLED)
    assert await pool.findings() == {}
    assert not await pool.sql("SELECT id FROM attempts WHERE follows IS NOT NULL")


# Stops


def stop(reason: Reason) -> Decision:
    return lambda _: Plan((), stops=(Stop("train.1", reason),))


async def test_work_that_its_queue_may_not_keep_is_stopped_for_nobody(pool: Pool) -> None:
    await train_runs(pool)
    told = await pool.decided(stop(Reason.QUEUE_STOPPED))
    assert told["train"].state is State.STOPPING
    (active,) = (await pool.snapshot()).active
    assert active.preempted
    await pool.ends("train", Phase.CANCELLED, reason="stopped with its work saved")
    assert await pool.outcomes("train") == [Outcome.STOPPED]
    (attempt,) = await pool.sql("SELECT reason FROM attempts")
    assert attempt["reason"] == "QueueStopped; stopped with its work saved"
    assert "has notice to leave: QueueStopped" in [event.message for event in await pool.store.events("train", 0)]
    assert await pool.state("train") is State.WAITING
    assert await pool.findings() == {}


async def test_work_that_is_stopped_for_work_that_grows_was_preempted(pool: Pool) -> None:
    await train_runs(pool)
    await pool.decided(stop(Reason.PREEMPTED))
    await pool.ends("train", Phase.CANCELLED)
    status = await pool.store.status("train")
    assert status is not None
    assert (status.preemptions, await pool.outcomes("train")) == (1, [Outcome.PREEMPTED])


async def test_room_of_what_is_stopped_may_be_promised(pool: Pool) -> None:
    await train_runs(pool)

    def decide(snapshot: Snapshot) -> Plan:
        return Plan((StartAfter("owner", on("n1", LEFT), ()),), stops=(Stop("train.1", Reason.WAITING_FOR_QUOTA),))

    await pool.decided(decide, a_spec("owner", gpus=4))
    assert await pool.findings() == {}
    told = await pool.ends("train", Phase.CANCELLED)
    assert told["owner"].state is State.RESERVED


async def test_work_that_is_left_running_in_a_round_of_nothing_else_is_left_alone(pool: Pool) -> None:
    await train_runs(pool)
    before = await pool.dump()
    await pool.decided(lambda _: Plan(()))
    assert await pool.dump() == before


# Arrays


async def test_an_array_shrinks_and_counts_only_tasks_that_finished(pool: Pool) -> None:
    await pool.gets(a_view(), queues=[a_queue("research", 8)])
    await pool.arrive(a_spec("sweep", gpus=4, tasks=5))
    await pool.runs("sweep")
    await pool.decided(lambda _: Plan((), reshapes=(Reshape("sweep.1", Change.SHRINK, on("n1", LEFT)),)))
    await pool.ends("sweep", Phase.CANCELLED)
    await pool.runs("sweep")
    await pool.ends("sweep", Phase.SUCCEEDED, exit_code=0)
    status = await pool.store.status("sweep")
    assert status is not None
    assert (status.state, status.tasks_done) == (State.WAITING, 1)


async def test_when_its_node_is_lost_while_it_shrinks_both_go_elsewhere(pool: Pool) -> None:
    """It has left as it was ordered to; nobody can begin in the room that was kept there, and the holds of it end."""
    await train_shrinks(pool)
    await pool.ends("train", Phase.LOST)
    assert (await pool.outcomes("train"), await pool.findings()) == ([Outcome.RESIZED], {})
    await pool.gets(a_view("n2"), a_view("n3"))
    pool.clock.move(pool.policy.hold_seconds)
    await pool.store.keep_house()
    await pool.plan()
    assert await pool.states("train", "owner") == [State.RESERVED, State.RESERVED]
    assert {*await pool.phases("train"), *await pool.phases("owner")} == {"n2", "n3"}
    await pool.runs("train", "owner")
    assert (await pool.states("train", "owner"), await pool.findings()) == ([State.RUNNING, State.RUNNING], {})
