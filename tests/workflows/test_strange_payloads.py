"""Payloads that are no JSON, or none that can be read, as another language may send them: no task fails for them."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.client import WorkflowFailureError, WorkflowHandle, WorkflowUpdateFailedError
from temporalio.common import RawValue
from temporalio.exceptions import ApplicationError

from corral import wire
from corral.api import Cancel, State
from corral.sealing import ENCODING as SEALED
from tests.patience import PATIENCE_SECONDS
from tests.workflows.scenarios import until_shown
from tests.workflows.stage import Stage, a_record
from tests.workflows.test_adjusting import CHANGES
from tests.workflows.test_beginnings import failed_tasks
from workflows.contracts import Signal

AGAIN_SECONDS = 0.1


def payload(data: bytes, encoding: bytes | None = b"json/plain") -> RawValue:
    return RawValue(Payload(metadata={} if encoding is None else {"encoding": encoding}, data=data))


STRANGE: dict[str, tuple[RawValue, str]] = {
    "bytes": (payload(b"\x00\xff", b"binary/plain"), "binary/plain - JSON is expected"),
    "a message of Go": (payload(b"{}", b"json/protobuf"), "json/protobuf - JSON is expected"),
    "what nobody knows": (payload(b"{}", b"\xff"), "\ufffd - JSON is expected"),
    "no encoding": (payload(b"{}", None), "a payload without an encoding - JSON is expected"),
    "nothing": (payload(b""), "Invalid JSON: EOF while parsing"),
    "half of it": (payload(b'{"id": '), "Invalid JSON: EOF while parsing"),
    "no UTF-8": (payload(b'"\xff"'), "Invalid JSON: invalid unicode"),
    "half a character": (payload(rb'"\ud800"'), "Invalid JSON: unexpected end of hex escape"),
    "too deep": (payload(b"[" * 1_000 + b"]" * 1_000), "Invalid JSON: recursion limit exceeded"),
    "too large a number": (payload(b"9" * 5_000), "Invalid JSON: number out of range"),
    "nothing at all": (payload(b"", b"binary/null"), "None - Input should be an object"),
}


@pytest.mark.parametrize("what", STRANGE)
async def test_what_begins_with_it_ends_and_says_why(stage: Stage, what: str) -> None:
    given, words = STRANGE[what]
    queue = wire.pool_task_queue(stage.name)
    handle = await stage.client.start_workflow(wire.EVACUATION, given, id=f"strange-{uuid4()}", task_queue=queue)
    with pytest.raises(WorkflowFailureError) as failed:
        await handle.result()
    cause = failed.value.cause
    assert isinstance(cause, ApplicationError)
    assert (cause.type, cause.non_retryable) == (wire.Failure.INVALID, True)
    assert cause.message.startswith(f"Evacuation cannot begin with this: order: {words}")
    assert await failed_tasks(handle) == []


@pytest.mark.parametrize("what", STRANGE)
async def test_work_that_begins_with_it_is_left_to_admission_and_can_be_asked(stage: Stage, what: str) -> None:
    record = a_record(State.REFUSED)
    handle = await stage.begins(record, STRANGE[what][0])
    assert (await handle.result()).state is State.REFUSED
    assert (await handle.query(wire.Query.STATUS))["state"] == "refused"
    assert await failed_tasks(handle) == []


@pytest.mark.parametrize("what", STRANGE)
async def test_what_is_told_so_is_dropped_and_what_is_asked_so_is_refused(stage: Stage, what: str) -> None:
    given, _ = STRANGE[what]
    record = a_record(State.WAITING)
    handle = await stage.begins(record)
    await until_shown(stage, record, State.WAITING)
    for name in (*Signal, *wire.Telling):
        for arguments in ([given], [given, given]):
            await handle.signal(name, args=arguments)
    for verb in CHANGES:
        for arguments in ([given], [given, given]):
            await is_refused(handle, verb, arguments)
    for query in (wire.Query.STATUS, wire.Query.NEXT_WAKE_UP):
        assert await handle.query(query) is not None
    assert (await stage.asks(record, wire.Update.CANCEL, Cancel())).message == "done: cancel"
    assert (await handle.result()).state is State.CANCELLED
    assert [call for call in record.calls if call != "look"] == ["admit", "cancel"], "who is woken looks, whatever else is said"
    assert await failed_tasks(handle) == []


async def is_refused(handle: WorkflowHandle[Any, Any], verb: str, arguments: list[Any]) -> None:
    with pytest.raises(WorkflowUpdateFailedError) as refused:
        await handle.execute_update(verb, args=arguments)
    assert isinstance(refused.value.cause, ApplicationError)


async def test_what_is_sealed_waits_for_a_worker_that_has_the_key(stage: Stage) -> None:
    given, queue = payload(b"secret", SEALED), wire.pool_task_queue(stage.name)
    handle = await stage.client.start_workflow(wire.EVACUATION, given, id=f"sealed-{uuid4()}", task_queue=queue)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not (why := await failed_tasks(handle)):  # noqa: ASYNC110  a server tells nobody of failed tasks
            await asyncio.sleep(AGAIN_SECONDS)
    assert why[0] == "Failed decoding arguments"
    await handle.terminate()
