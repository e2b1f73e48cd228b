"""Whatever strikes a pool at work, in the end every workload has ended as it had to, and nothing is left over."""

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.chaos.driver import Chaos
from tests.chaos.plan import planned
from tests.chaos.pool import chaotic_pool

SEED, SECONDS = 1, 45


@pytest.fixture(scope="module")
async def aftermath() -> AsyncIterator[Chaos]:
    """A pool after all faults of a plan have struck it, and all work has ended."""
    with tempfile.TemporaryDirectory(prefix="corral-chaos-") as temporary:
        async with chaotic_pool(Path(temporary)) as pool:
            chaos = Chaos(pool, planned(SEED, SECONDS))
            await chaos.run()
            yield chaos


async def test_every_fault_of_the_plan_struck(aftermath: Chaos) -> None:
    assert [fault for fault in sorted(aftermath.plan.faults) if not aftermath.hits[fault]] == []


async def test_workflows_went_on_in_other_runs_meanwhile(aftermath: Chaos) -> None:
    assert await aftermath.pool.runs_that_went_on() > 0


async def test_all_of_the_load_was_submitted(aftermath: Chaos) -> None:
    assert aftermath.ends.keys() >= {arrival.spec.id for arrival in aftermath.plan.arrivals}


async def test_the_audit_finds_nothing(aftermath: Chaos) -> None:
    assert await aftermath.pool.live.audit() == []


async def test_the_independent_check_finds_nothing(aftermath: Chaos) -> None:
    assert await aftermath.findings() == []


async def test_the_load_was_as_mixed_as_it_should_be(aftermath: Chaos) -> None:
    """Otherwise what the other tests find says little."""
    outcomes = {row["outcome"] for row in await aftermath.pool.rows("SELECT DISTINCT outcome FROM attempts")}
    assert {"finished", "failed"} <= outcomes
    assert outcomes & {"preempted", "resized", "migrated"}, "nobody had to make room"
    assert outcomes & {"lost", "drained", "suspended", "cancelled"}, "nobody was disturbed"
