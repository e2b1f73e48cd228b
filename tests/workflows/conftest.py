"""Stages for workflows: one on a real server, and one whose time can be skipped."""

import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment

from corral import wire
from tests.workflows.stage import Stage, connected, open_stage


@pytest.fixture(scope="session")
async def stage(temporal: str) -> AsyncIterator[Stage]:
    """A stage that the tests of a session share; each has a workload of its own."""
    async with open_stage(await connected(temporal)) as stage:
        yield stage


@pytest.fixture(scope="session")
async def skipping() -> AsyncIterator[WorkflowEnvironment]:
    """A server whose time passes at once while nobody does anything."""
    environment = await WorkflowEnvironment.start_time_skipping(
        test_server_existing_path=_beside_python("temporal-test-server"), data_converter=pydantic_data_converter
    )
    attributes = {key.name: key.indexed_value_type.value for key in wire.SEARCH_ATTRIBUTES}
    async with environment:
        client = environment.client
        # It can add search attributes, but not list them.
        await client.operator_service.add_search_attributes(
            AddSearchAttributesRequest(namespace=client.namespace, search_attributes=attributes)  # type: ignore[arg-type]
        )
        yield environment


@pytest.fixture
async def hasty_stage() -> AsyncIterator[Stage]:
    """A stage on a server that wants every history begun anew after a few events."""
    environment = await WorkflowEnvironment.start_local(
        dev_server_existing_path=_beside_python("temporal"),
        data_converter=pydantic_data_converter,
        search_attributes=wire.SEARCH_ATTRIBUTES,
        dev_server_extra_args=["--dynamic-config-value", "limit.historyCount.suggestContinueAsNew=14"],
    )
    async with environment, open_stage(environment.client) as stage:
        yield stage


def _beside_python(name: str) -> str:
    binary = Path(sys.executable).with_name(name)
    found = str(binary) if binary.exists() else shutil.which(name)
    assert found is not None, f"there is no `{name}` beside Python or on the PATH; install the development dependencies"
    return found


@pytest.fixture(scope="session")
async def skipping_stage(skipping: WorkflowEnvironment) -> AsyncIterator[Stage]:
    """A stage on the server whose time can be skipped."""
    async with open_stage(skipping.client) as stage:
        yield stage
