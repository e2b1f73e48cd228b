"""Telling workflows: everybody at last, nobody twice at once."""

import asyncio
from collections.abc import Sequence

import pytest

from activities.answers import Notice, Standing
from activities.courier import AT_ONCE, Courier
from activities.ports import Phase
from tests.activities.fakes import Crew, FakeWorkloads
from tests.activities.store.pool import PROVIDER, Pool, a_spec, a_view


@pytest.fixture
async def told_of_two(pool: Pool) -> Crew:
    """Two workloads have been observed running, of which nobody has been told."""
    await pool.gets(a_view("n1"), a_view("n2"))
    await pool.arrive(a_spec("one"), a_spec("two"))
    await pool.runs("one", "two")
    return Crew(pool)


async def test_who_has_been_told_is_crossed_off(told_of_two: Crew) -> None:
    crew = told_of_two
    crew.courier.post(await crew.pool.store.undelivered(0))
    await crew.delivered()
    assert {standing.workload for standing in crew.workloads.told} == {"one", "two"}
    assert await crew.pool.store.undelivered(0) == []


async def test_who_could_not_be_told_stays_in_the_outbox_and_is_told_later(told_of_two: Crew) -> None:
    crew = told_of_two
    crew.workloads.deaf.add("one")
    crew.courier.post(await crew.pool.store.undelivered(0))
    await crew.delivered()
    left = await crew.pool.store.undelivered(0)
    assert [notice.standing.workload for notice in left] == ["one"]
    crew.workloads.deaf.clear()
    crew.courier.post(left)
    await crew.delivered()
    assert sorted(standing.workload for standing in crew.workloads.told) == ["one", "two"]
    assert await crew.pool.store.undelivered(0) == []


async def test_what_is_posted_again_while_it_is_on_its_way_is_told_once(told_of_two: Crew) -> None:
    crew = told_of_two
    notices = await crew.pool.store.undelivered(0)
    crew.courier.post(notices)
    crew.courier.post(notices)
    await asyncio.sleep(0)
    crew.courier.post(notices)
    await crew.delivered()
    assert len(crew.workloads.told) == 2


async def test_what_cannot_be_crossed_off_is_told_again(told_of_two: Crew) -> None:
    crew = told_of_two
    courier = Courier(_Forgetful(), crew.workloads)  # type: ignore[arg-type]
    notices = await crew.pool.store.undelivered(0)
    for _ in range(2):
        courier.post(notices)
        assert courier._delivering is not None
        await courier._delivering
    assert len(crew.workloads.told) == 4


async def test_the_next_ones_are_told_while_some_do_not_answer(pool: Pool) -> None:
    workloads = FakeWorkloads(deaf={f"w{number}" for number in range(AT_ONCE)})
    courier = Courier(pool.store, workloads)
    courier.post([Notice(number, _standing(f"w{number}")) for number in range(2 * AT_ONCE)])
    assert courier._delivering is not None
    await courier._delivering
    assert [standing.workload for standing in workloads.told] == [f"w{number}" for number in range(AT_ONCE, 2 * AT_ONCE)]


def _standing(workload: str) -> Standing:
    from corral.api import State

    return Standing(workload, 1, State.WAITING, 0)


class _Forgetful:
    """An outbox that cannot be written to."""

    async def delivered(self, notices: Sequence[Notice]) -> None:
        raise ConnectionError


async def test_observations_of_one_attempt_are_written_down_once(told_of_two: Crew) -> None:
    crew = told_of_two
    seen = await crew.pool.observation("one", Phase.RUNNING, checkpoint_at=crew.pool.clock.now())
    assert await crew.observer.note(seen, PROVIDER) is not None
    before = await crew.pool.dump()
    assert await crew.observer.note(seen, PROVIDER) is None
    older = await crew.pool.observation("one", Phase.STOPPING, sequence=seen.sequence - 1)
    assert await crew.observer.note(older, PROVIDER) is None
    assert await crew.pool.dump() == before


async def test_who_asked_hears_of_their_own_observation(told_of_two: Crew) -> None:
    crew = told_of_two
    endings = [await crew.pool.observation(id, Phase.SUCCEEDED, exit_code=code) for id, code in (("one", 0), ("two", 7))]
    standings = await asyncio.gather(*(crew.observer.note(ending, PROVIDER) for ending in endings))
    assert [(standing.workload, standing.exit_code) for standing in standings if standing] == [("one", 0), ("two", 7)]
    assert await crew.observer.note(endings[0], PROVIDER) is None
