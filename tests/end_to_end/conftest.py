"""The pool that most tests of this folder share; each uses workloads, and where it changes them nodes, of its own."""

from collections.abc import AsyncIterator
from itertools import count

import pytest

from tests.end_to_end.pools import QUEUES, LivePool, running_pool
from tests.servers import PostgresServer

_lives = count(1)
"""What was left under way in one life goes on in none that follows, on the same Temporal, with a record of its own."""


@pytest.fixture(scope="package")
async def pool(postgres: PostgresServer, temporal: str) -> AsyncIterator[LivePool]:
    """A pool at work, which nobody may break."""
    async with running_pool(postgres, temporal, f"shared-{next(_lives)}") as pool:
        await pool.start_worker()
        pool.remember_launches()
        await pool.corral.apply_queues(QUEUES)
        yield pool
