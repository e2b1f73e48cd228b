"""Notices that are taken back in the record: who leaves for somebody who is gone stays, unless somebody else needs it to go."""

import pytest

from activities.deciding import Decider
from activities.ports import Phase
from corral.api import Outcome, SlaTier, State, WorkloadSpec
from corral.policy import Policy
from domain.decision import Change, Plan, Reshape, StartAfter
from domain.snapshot import Snapshot
from tests.activities.store.pool import Pool, a_spec, a_view
from tests.activities.store.test_reshapes import LEFT, RIGHT, on
from tests.builders import a_queue


def an_important(id: str, *, gpus: int = 8, **fields: object) -> WorkloadSpec:
    return a_spec(id, gpus=gpus, tier=SlaTier.PREMIUM, **fields)


async def a_victim_leaving(pool: Pool) -> None:
    """`victim` runs on the only node and has notice to leave it to `urgent`."""
    await pool.gets(a_view())
    await pool.arrive(a_spec("victim"))
    await pool.runs("victim")
    pool.clock.move(100)
    await pool.arrive(an_important("urgent"))


async def messages(pool: Pool, workload: str) -> list[str]:
    return [f"{event.kind}: {event.message}" for event in await pool.store.events(workload, 0)]


@pytest.mark.parametrize(
    ("verb", "cause"), [("cancel", "was cancelled"), ("hold", "is held"), ("resize", "was resized"), (None, "for too long")]
)
async def test_a_victim_stays_whose_beneficiary_goes_away(pool: Pool, verb: str | None, cause: str) -> None:
    await a_victim_leaving(pool)
    match verb:
        case None:
            pool.clock.move(30 + Policy().hold_seconds + 1)
            await pool.store.keep_house()
            await pool.adjusts("cancel", "urgent")
        case "resize":
            await pool.adjusts("resize", "urgent", count=2)
        case _:
            await pool.adjusts(verb, "urgent")
    assert await pool.store.has_work()
    told = await pool.plan()
    assert (told["victim"].state, told["victim"].notice, told["victim"].epoch) == (State.RUNNING, 1, 1)
    assert (await messages(pool, "victim"))[-1].startswith(
        "running: keeps 8 h100 in eu/eu-1 (aws): its notice is taken back, for"
    )
    assert cause in (await messages(pool, "victim"))[-1]
    assert not any("urgent" in message for message in await messages(pool, "victim"))
    status = await pool.store.status("victim")
    assert status is not None
    assert status.preemptions == 0
    assert (await pool.snapshot()).stops == ()
    assert await pool.findings() == {}
    await pool.ends("victim", Phase.SUCCEEDED, exit_code=0)
    assert await pool.outcomes("victim") == [Outcome.FINISHED]


async def test_the_record_of_the_round_names_who_is_gone(pool: Pool) -> None:
    await a_victim_leaving(pool)
    await pool.adjusts("cancel", "urgent")
    await pool.plan()
    (kept,) = await pool.sql("SELECT detail FROM decisions WHERE workload_id = 'victim' AND outcome = 'Keep'")
    assert kept["detail"] == {"attempt": "victim.1", "beneficiary": "urgent.1"}


async def test_those_who_have_left_already_are_back_in_line_and_the_others_stay(pool: Pool) -> None:
    await pool.gets(a_view("n1"), a_view("n2"))
    await pool.arrive(a_spec("one"), a_spec("two"))
    await pool.runs("one", "two")
    await pool.arrive(an_important("urgent", count=2))
    await pool.ends("one", Phase.CANCELLED)
    assert await pool.states("one", "two", "urgent") == [State.WAITING, State.STOPPING, State.RESERVING]
    await pool.adjusts("cancel", "urgent")
    await pool.plan()
    await pool.plan()
    assert await pool.states("one", "two", "urgent") == [State.RESERVED, State.RUNNING, State.CANCELLED]
    assert await pool.findings() == {}


async def test_a_notice_stands_that_somebody_else_needs(pool: Pool) -> None:
    """`next` was promised the other half of what `victim` leaves."""
    await pool.gets(a_view())
    await pool.arrive(a_spec("victim"))
    await pool.runs("victim")
    both = [StartAfter("urgent", on("n1", LEFT), ("victim.1",)), StartAfter("next", on("n1", RIGHT), ())]
    await pool.decided(lambda _: Plan(tuple(both)), an_important("urgent", gpus=4), an_important("next", gpus=4))
    await pool.adjusts("cancel", "urgent")
    await pool.plan()
    assert await pool.states("victim", "next") == [State.STOPPING, State.RESERVING]
    await pool.ends("victim", Phase.CANCELLED)
    assert await pool.states("victim", "next") == [State.WAITING, State.RESERVED]
    assert await pool.findings() == {}


async def test_a_notice_stands_whose_quota_somebody_else_has_by_now(pool: Pool) -> None:
    await pool.gets(a_view("n1"), a_view("n2"), queues=[a_queue("research", 8, cap=8)])
    await pool.arrive(a_spec("victim"))
    await pool.runs("victim")
    (place,) = (await pool.phases("victim")).keys()
    other = "n2" if place == "n1" else "n1"
    both = [StartAfter("urgent", on(place, LEFT), ("victim.1",)), StartAfter("next", on(other, LEFT, RIGHT), ())]
    await pool.decided(lambda _: Plan(tuple(both)), an_important("urgent", gpus=4), an_important("next", gpus=4, count=2))
    await pool.adjusts("cancel", "urgent")
    await pool.plan()
    assert await pool.state("victim") is State.STOPPING


async def test_who_stays_may_have_to_leave_for_another_by_a_notice_of_its_own(pool: Pool) -> None:
    await a_victim_leaving(pool)
    await pool.adjusts("cancel", "urgent")
    await pool.plan()
    told = await pool.store.round([an_important("another")], Decider().decide, "admission")
    assert told[0]["another"].state is State.RESERVING
    standing = await pool.standing("victim")
    assert (standing.state, standing.notice) == (State.STOPPING, 2)
    await pool.ends("victim", Phase.CANCELLED)
    status = await pool.store.status("victim")
    assert status is not None
    assert (status.state, status.preemptions) == (State.WAITING, 1)
    assert await pool.findings() == {}


async def test_in_one_round_a_victim_is_kept_from_one_and_given_notice_for_another(pool: Pool) -> None:
    await a_victim_leaving(pool)
    await pool.adjusts("cancel", "urgent")
    await pool.store.round([an_important("another")], Decider().decide, "admission")
    standing = await pool.standing("victim")
    assert (standing.state, standing.notice) == (State.STOPPING, 2)
    (row,) = await pool.sql("SELECT beneficiary FROM attempts WHERE id = 'victim.1'")
    assert row["beneficiary"] == "another.1"
    assert await pool.sql("SELECT 1 FROM decisions WHERE outcome = 'Keep'") == []
    assert await pool.findings() == {}


async def shrinking(pool: Pool, *nodes: str) -> None:
    """`train` has notice to go on with half of what it has on n1, for `owner`."""
    await pool.gets(a_view())
    await pool.arrive(a_spec("train", gpus=4, count=2, minimum=1))
    await pool.runs("train")
    reshape = Reshape("train.1", Change.SHRINK, on("n1", LEFT), beneficiary="owner")
    plan = Plan((StartAfter("owner", on("n1", RIGHT), ()),), reshapes=(reshape,))
    await pool.decided(lambda _: plan, an_important("owner", gpus=4))


async def test_what_was_to_shrink_keeps_its_size(pool: Pool) -> None:
    await shrinking(pool)
    await pool.adjusts("cancel", "owner")
    told = await pool.plan()
    assert (told["train"].state, told["train"].next_place) == (State.RUNNING, "")
    assert [row["id"] for row in await pool.sql("SELECT id FROM attempts WHERE ended_at IS NULL")] == ["train.1"]
    assert await pool.used() == 8_000
    assert await pool.findings() == {}


async def test_what_was_to_move_stays_and_the_room_kept_for_it_goes_to_whom_it_was_promised(pool: Pool) -> None:
    await pool.gets(a_view("n1"), a_view("n2"))
    await pool.arrive(a_spec("train", gpus=4))
    await pool.runs("train")
    (place,) = (await pool.phases("train")).keys()
    other = "n2" if place == "n1" else "n1"

    def moves(snapshot: Snapshot) -> Plan:
        reshape = Reshape("train.1", Change.MIGRATE, on(other, LEFT), beneficiary="whole")
        return Plan((StartAfter("whole", on(place, LEFT, RIGHT), ()),), reshapes=(reshape,))

    await pool.decided(moves, an_important("whole", gpus=4, count=2))
    waits = Plan((StartAfter("next", on(other, LEFT, RIGHT), ()),))
    await pool.decided(lambda _: waits, a_spec("next", gpus=4, count=2))
    await pool.adjusts("cancel", "whole")
    told = await pool.plan()
    assert (told["train"].state, told["next"].state) == (State.RUNNING, State.RESERVED)
    assert await pool.findings() == {}


# Too late


@pytest.mark.parametrize("phase", [Phase.CANCELLED, Phase.FAILED])
async def test_a_victim_that_stops_before_its_provider_hears_that_it_stays_is_back_in_line(pool: Pool, phase: Phase) -> None:
    await a_victim_leaving(pool)
    await pool.adjusts("cancel", "urgent")
    await pool.plan()
    await pool.ends("victim", phase, exit_code=143)
    status = await pool.store.status("victim")
    assert status is not None
    assert (status.state, status.preemptions) == (State.WAITING, 1)
    assert await pool.outcomes("victim") == [Outcome.PREEMPTED]
    assert await pool.findings() == {}


async def test_a_victim_that_fails_long_after_it_was_kept_has_failed(pool: Pool) -> None:
    await a_victim_leaving(pool)
    await pool.adjusts("cancel", "urgent")
    await pool.plan()
    assert await pool.store.kept(await pool.key("victim"), 1) == []
    pool.clock.move(31)
    await pool.ends("victim", Phase.FAILED, exit_code=1)
    assert await pool.outcomes("victim") == [Outcome.FAILED]


async def test_that_a_provider_knows_is_written_once_and_only_of_the_last_notice(pool: Pool) -> None:
    await a_victim_leaving(pool)
    await pool.adjusts("cancel", "urgent")
    await pool.plan()
    key = await pool.key("victim")
    await pool.store.kept(key, 1)
    assert (await messages(pool, "victim"))[-1] == "kept: its provider has taken notice 1 back"
    before = await pool.dump()
    await pool.store.kept(key, 1)
    await pool.store.kept(key, 2)
    assert await pool.dump() == before


async def test_work_that_leaves_for_nobody_in_particular_leaves(pool: Pool) -> None:
    await pool.gets(a_view("n1"), a_view("n2"))
    await pool.arrive(a_spec("train"))
    await pool.runs("train")
    (place,) = (await pool.phases("train")).keys()
    await pool.orders("drain", place)
    await pool.store.keep_house()
    assert not await pool.store.has_work()
    await pool.plan()
    assert await pool.state("train") is State.STOPPING
