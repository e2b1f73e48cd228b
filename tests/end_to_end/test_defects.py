"""A defect that is mended: what met it meanwhile is done then, and nobody was told anything that was not so."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from activities.store.postgres import PostgresStore
from corral.api import State
from corral.reservation import ReservationSpec, ReservationState
from tests.end_to_end.loads import a_workload, behaving
from tests.end_to_end.pools import LivePool, running_pool, working_here
from tests.servers import PostgresServer

MORE_THAN_LOCAL_TRIES = 4


def has_a_defect(method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """The method as it is once it is mended; until then it looks for something in the wrong place."""
    wrong: dict[int, object] = {}
    calls = iter(range(MORE_THAN_LOCAL_TRIES))

    async def called(*given: Any, **named: Any) -> Any:
        if (call := next(calls, None)) is not None:
            return wrong[call]
        return await method(*given, **named)

    return called


async def test_what_a_defect_looks_up_in_vain_is_done_when_it_is_mended(
    postgres: PostgresServer, temporal: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_pool(postgres, temporal, "defects") as pool, working_here(pool):
        await pool.corral.submit(a_workload("train", parameters=behaving(1e6)))
        await pool.until("train", State.RUNNING)
        for method in ("adjust", "reserve", "standing"):
            monkeypatch.setattr(PostgresStore, method, has_a_defect(getattr(PostgresStore, method)))
        assert (await pool.corral.reserve(a_night(pool))).state is ReservationState.PLANNED
        await pool.corral.hold("train")
        await pool.until("train", State.SUSPENDED)
        await pool.corral.cancel("train")
        assert (await pool.corral.wait("train")).state is State.CANCELLED


def a_night(pool: LivePool) -> ReservationSpec:
    start = pool.settings.clock().now() + timedelta(days=1)
    return ReservationSpec(id="night", start=start, seconds=3_600, sku="l4", accelerators=1, queues=("cells",))
