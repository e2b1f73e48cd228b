"""The providers that keep the contract."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.activities.providers import worlds

PROVIDERS = {
    "sim": worlds.simulated,
    "local": worlds.local,
}


@pytest.fixture(params=PROVIDERS)
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[worlds.World]:
    async with PROVIDERS[request.param](tmp_path) as opened:
        yield opened
