"""Stages for workflows: one on a real server, and one whose time can be skipped."""

from collections.abc import AsyncIterator

import pytest
from temporalio.testing import WorkflowEnvironment

from tests.workflows.stage import Stage, connected, hasty_server, open_stage, skipping_environment


@pytest.fixture(scope="session")
async def stage(temporal: str) -> AsyncIterator[Stage]:
    """A stage that the tests of a session share; each has a workload of its own."""
    async with open_stage(await connected(temporal)) as stage:
        yield stage


@pytest.fixture(scope="module")
async def skipping() -> AsyncIterator[WorkflowEnvironment]:
    """A server whose time passes at once while nobody does anything; what is left in the midst of a step stops it for all."""
    async with skipping_environment() as environment:
        yield environment


@pytest.fixture(scope="session")
async def hasty_stage() -> AsyncIterator[Stage]:
    """A stage on a server that wants every history begun anew after a few events."""
    async with hasty_server() as client, open_stage(client) as stage:
        yield stage


@pytest.fixture(scope="module")
async def skipping_stage(skipping: WorkflowEnvironment) -> AsyncIterator[Stage]:
    """A stage on the server whose time can be skipped."""
    async with open_stage(skipping.client) as stage:
        yield stage
