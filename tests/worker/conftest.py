"""A pool of a worker test's own: what such a test does to it, such as making it of another version, concerns no other test."""

from collections.abc import AsyncIterator

import pytest

from activities.store.migrations import upgrade
from tests.activities.store.pool import Pool


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    """A pool without anything in it."""
    await upgrade(database_url)
    pool = Pool.at(database_url)
    yield pool
    await pool.engine.dispose()
