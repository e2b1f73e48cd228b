"""Servers that tests share, each of which starts when the first test asks for it; and the order of files."""

import gc
import os
from collections.abc import AsyncIterator, Generator, Iterator, Sequence
from pathlib import Path

import pytest

from corral.loading import loading
from tests.servers import PostgresServer, running_postgres, running_temporal

WAITING = ("end_to_end", "chaos", "benchmarks", "partition", "workflows", "worker", "providers")
"""Folders whose tests wait for servers and processes more than they compute; those with the longest files first."""
COMPUTING_FIRST = ("properties", "store")
"""Of the other folders, those with the longest files."""
BY_THEN = 0.75
"""The part of the run in which the last file is begun that waits: what is left is short, and nobody waits for it."""


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Load all tests."""
    with loading():
        return (yield)


def pytest_collection_finish() -> None:
    """Let nobody look through all tests whenever garbage is collected in one of them."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where several processes share the files, have those that wait begun among those that compute.

    Else all processes would wait at one time, and want the same few processors at another.
    """
    if "PYTEST_XDIST_WORKER" in os.environ:
        turns = dict(_turns(list(dict.fromkeys(item.path for item in items))))
        items.sort(key=lambda item: turns[item.path])


def _turns(files: Sequence[Path]) -> Iterator[tuple[Path, float]]:
    """When each file is begun, as a part of the run."""
    waiting = [file for file in files if _folder(file, WAITING) < len(WAITING)]
    computing = [file for file in files if _folder(file, WAITING) == len(WAITING)]
    for group, folders, until in ((waiting, WAITING, BY_THEN), (computing, COMPUTING_FIRST, 1.0)):
        for number, file in enumerate(sorted(group, key=lambda file: _folder(file, folders))):
            yield file, until * number / len(group)


def _folder(file: Path, folders: Sequence[str]) -> int:
    """Which of the folders a file is in; their number where it is in none."""
    within = file.relative_to(Path(__file__).parent).parts
    return next((number for number, folder in enumerate(folders) if folder in within), len(folders))


@pytest.fixture(scope="session")
async def postgres() -> AsyncIterator[PostgresServer]:
    """A PostgreSQL server; see `PostgresServer.create_database`."""
    async with running_postgres() as server:
        yield server


@pytest.fixture
async def database_url(postgres: PostgresServer) -> AsyncIterator[str]:
    """An empty database of the test's own."""
    url = await postgres.create_database()
    yield url
    await postgres.drop_database(url)


@pytest.fixture(scope="session")
async def temporal() -> AsyncIterator[str]:
    """The address of a Temporal server."""
    async with running_temporal() as address:
        yield address
