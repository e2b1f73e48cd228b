"""What makes no sense is refused in words, by whichever door it comes, and leaves no trace in the record."""

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.client import WorkflowExecutionStatus
from temporalio.common import RawValue

from corral import wire
from corral.api import QueueTree, Reason, State, WorkloadResult
from corral.client import Invalid
from tests.end_to_end.loads import a_workload
from tests.end_to_end.pools import LivePool
from tests.patience import PATIENCE_SECONDS

A_MEGABYTE = "x" * 2**20


@pytest.fixture
async def untouched(pool: LivePool) -> AsyncIterator[None]:
    """Whatever happens in the test, no table is longer afterwards."""
    before = await pool.sizes()
    yield
    assert await pool.sizes() == before


async def started_by_anybody(pool: LivePool, workload: str, *arguments: Any) -> WorkloadResult:
    """What a workflow answers that was started without Corral's client, as from another language."""
    handle = await pool.temporal.start_workflow(
        wire.LIFECYCLE,
        args=arguments,
        id=wire.workload_workflow_id(workload),
        task_queue=wire.pool_task_queue(pool.settings.pool),
        result_type=WorkloadResult,
    )
    result: WorkloadResult = await asyncio.wait_for(handle.result(), PATIENCE_SECONDS)
    assert (await handle.describe()).status is WorkflowExecutionStatus.COMPLETED
    return result


def spec_of(workload: str, **more: Any) -> dict[str, Any]:
    return {"id": workload, "queue": "cells"} | more


def nested(times: int) -> RawValue:
    return RawValue(Payload(metadata={"encoding": b"json/plain"}, data=b"[" * times + b"]" * times))


MALFORMED: dict[str, tuple[Any, str]] = {
    "a-list": ([1, 2], r"spec: \[1, 2\] - .*dictionary"),
    "null": (None, r"spec: None - .*dictionary"),
    "a-text": ("run this", r"spec: 'run this' - .*dictionary"),
    "nothing": ({}, r"id: .*required.*queue: .*required"),
    "a-stranger": (spec_of("a-stranger", gpus=8), r"gpus: 8 - .*not permitted"),
    "a-fraction": (spec_of("a-fraction", groups=[{"accelerators": 1.5}]), r"accelerators.*1\.5.*whole number"),
    "too-many": (spec_of("too-many", groups=[{"count": 10_001}]), r"groups\.0\.count: 10001 - .*10000"),
    "negative": (spec_of("negative", groups=[{"accelerators": -1}]), r"accelerators.*-1 - .*greater than or equal to 0"),
    "not-a-number": (spec_of("not-a-number", groups=[{"accelerators": "8"}]), r"accelerators.*'8' - .*valid"),
    "upside-down": (spec_of("upside-down", groups=[{"count": 2, "minimum": 3}]), r"minimum 3 exceeds count 2"),
    "no-groups": (spec_of("no-groups", groups=[]), r"groups: .*at least 1"),
    "no-time-zone": (spec_of("no-time-zone", earliest_start="2030-01-01T00:00:00"), r"earliest_start: .*timezone"),
    "another-id": (spec_of("somebody-else"), r"id: 'somebody-else' differs from the id of its workflow, 'another-id'"),
    "long-name": (spec_of(A_MEGABYTE), r"id: 'x+.* - .*match pattern"),
    "sql": (spec_of("sql", queue="'; DROP TABLE workloads; --"), r"queue: .*DROP TABLE.* - .*match pattern"),
    "strange-key": (spec_of("strange-key", **{A_MEGABYTE: 1}), r"x+.*: 1 - .*not permitted"),
    "zero-in-command": (spec_of("zero-in-command", command=["a\x00b"]), r"command\.0: 'a\\x00b' - "),
    "zero-in-variable": (spec_of("zero-in-variable", environment={"A\x00": "b"}), r"environment.*A\\x00.* - "),
    "zero-in-value": (spec_of("zero-in-value", parameters={"a": "\x00"}), r"parameters\.a: '\\x00' - "),
    "bytes": (
        RawValue(Payload(metadata={"encoding": b"binary/plain"}, data=b"\xff")),
        r"binary/plain - JSON is expected.*dict",
    ),
    "half-of-it": (RawValue(Payload(metadata={"encoding": b"json/plain"}, data=b"{")), r"Invalid JSON: EOF.*dictionary"),
    "too-deep": (nested(198), r"spec: \[+\.\.\. - .*dictionary"),
    "deeper": (nested(199), r"spec: \[+\.\.\. - .*dictionary"),
    "as-deep-as-can-be": (nested(200), r"spec: .* - .*dictionary"),
}


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("workload", MALFORMED)
async def test_a_spec_that_is_none_is_refused(pool: LivePool, workload: str) -> None:
    spec, words = MALFORMED[workload]
    result = await started_by_anybody(pool, workload, spec)
    assert (result.id, result.state) == (workload, State.REFUSED)
    assert len(result.message) < 2_000
    assert re.search(words, result.message), result.message
    status = await pool.corral.status(workload)
    assert (status.state, status.explanation and status.explanation.reason) == (State.REFUSED, Reason.INVALID_SPEC)


@pytest.mark.usefixtures("untouched")
async def test_no_spec_at_all_is_refused(pool: LivePool) -> None:
    assert (await started_by_anybody(pool, "without")).state is State.REFUSED


@pytest.mark.usefixtures("untouched")
async def test_work_whose_workflow_would_never_hear_of_it_is_refused(pool: LivePool) -> None:
    handle = await pool.temporal.start_workflow(
        wire.LIFECYCLE,
        spec_of("misnamed"),
        id="misnamed",
        task_queue=wire.pool_task_queue(pool.settings.pool),
        result_type=WorkloadResult,
    )
    result: WorkloadResult = await asyncio.wait_for(handle.result(), PATIENCE_SECONDS)
    assert (result.state, "start it as 'workload/misnamed'" in result.message) == (State.REFUSED, True)


async def test_a_change_under_a_key_that_cannot_be_written_down_is_refused(pool: LivePool) -> None:
    await pool.corral.submit(a_workload("zero-in-key", queue="closed"))
    with pytest.raises(Invalid, match=r"key: 'checkpointed/a\\x00b' - no zero byte is expected"):
        await pool.corral.checkpointed("zero-in-key", key="a\0b")
    await pool.corral.cancel("zero-in-key")
    assert (await asyncio.wait_for(pool.corral.wait("zero-in-key"), PATIENCE_SECONDS)).state is State.CANCELLED


IMPOSSIBLE: dict[str, tuple[dict[str, Any], Reason, str]] = {
    "no-such-queue": ({"queue": "nowhere"}, Reason.UNKNOWN_QUEUE, "nowhere"),
    "no-such-sku": ({"targets": [{"skus": ["abacus"]}]}, Reason.NO_MATCHING_CAPACITY, "abacus"),
    "too-large-for-a-node": ({"groups": [{"accelerators": 16}]}, Reason.NO_MATCHING_CAPACITY, "16"),
    "beyond-quota": ({"queue": "research", "groups": [{"count": 5, "accelerators": 8}]}, Reason.NO_MATCHING_CAPACITY, "40"),
}


@pytest.mark.parametrize("workload", IMPOSSIBLE)
async def test_what_can_never_run_is_refused_and_that_is_kept(pool: LivePool, workload: str) -> None:
    more, reason, named = IMPOSSIBLE[workload]
    result = await started_by_anybody(pool, workload, spec_of(workload, **more))
    assert result.state is State.REFUSED
    assert named in result.message
    explanation = await pool.corral.explain(workload)
    assert explanation
    assert explanation.reason is reason
    assert await pool.attempts(workload) == []


async def test_one_bad_spec_spoils_nothing_for_those_that_come_with_it(pool: LivePool) -> None:
    bad = [started_by_anybody(pool, f"bad-{n}", spec_of(f"bad-{n}", environment={"A": "\x00"})) for n in range(5)]
    good = [started_by_anybody(pool, f"good-{n}", spec_of(f"good-{n}", targets=[{"skus": ["a100"]}])) for n in range(5)]
    states = [result.state for result in await asyncio.gather(*bad, *good)]
    assert states == [State.REFUSED] * 5 + [State.SUCCEEDED] * 5


async def test_another_language_that_starts_it_again_gets_the_same_end(pool: LivePool) -> None:
    spec = spec_of("from-go", targets=[{"skus": ["a100"]}])
    assert (await started_by_anybody(pool, "from-go", spec)).state is State.SUCCEEDED
    assert (await started_by_anybody(pool, "from-go", spec)).state is State.SUCCEEDED
    other = await started_by_anybody(pool, "from-go", spec | {"priority": 3})
    assert other.state is State.REFUSED
    assert "another spec" in other.message
    assert len(await pool.attempts("from-go")) == 1


CYCLE = [{"name": "a", "parent": "b"}, {"name": "b", "parent": "c"}, {"name": "c", "parent": "a"}]


async def test_queues_in_a_circle_are_refused_whole(pool: LivePool) -> None:
    tree = QueueTree.model_validate({"queues": [{"name": "fine"}, *CYCLE]})
    before = await pool.corral.queues()
    with pytest.raises(Invalid, match=r"\ba\b.*\bb\b|\bb\b.*\ba\b|circle|cycle"):
        await pool.corral.apply_queues(tree)
    assert [queue.name for queue in await pool.corral.queues()] == [queue.name for queue in before]


async def corral(pool: LivePool, *arguments: str) -> tuple[int, str, str]:
    """What the command line answers: exit code, output and errors."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", "from corral.cli import main; main()", *arguments),
        env={**os.environ, "CORRAL_TEMPORAL_ADDRESS": pool.settings.temporal_address, "CORRAL_POOL": pool.settings.pool},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    return process.returncode or 0, output.decode(), errors.decode()


async def test_the_command_line_says_file_line_and_field_of_all_that_is_wrong(
    pool: LivePool, tmp_path: Path, untouched: None
) -> None:
    file = tmp_path / "specs.yaml"
    good = json.dumps(spec_of("good-in-bad-company"))
    file.write_text(f"---\n{good}\n---\nid: BAD NAME\nqueue: cells\ngroups:\n  - count: many\n")
    code, _, errors = await corral(pool, "submit", str(file))
    assert code == 2
    for part in ("specs.yaml", "id", "BAD NAME", "groups", "count", "many"):
        assert part in errors


async def test_the_command_line_refuses_queues_in_a_circle(pool: LivePool, tmp_path: Path) -> None:
    file = tmp_path / "queues.yaml"
    file.write_text(json.dumps({"queues": CYCLE}))
    code, _, errors = await corral(pool, "queue", "apply", str(file))
    assert code == 2, errors
    assert "Traceback" not in errors
