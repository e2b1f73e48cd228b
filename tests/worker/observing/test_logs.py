import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from temporalio import activity
from temporalio.testing import ActivityEnvironment
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput

from activities.answers import AdmissionOrder, AttemptKey
from activities.batching import Batcher
from corral import wire
from worker.observing.logs import NameLines, formatter
from worker.settings import LogFormat

log = logging.getLogger("tests.observing")


class Lines(logging.Handler):
    """Keeps what is logged, as it would be written."""

    def __init__(self, form: LogFormat) -> None:
        super().__init__()
        self.setFormatter(formatter(form))
        self.written: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.written.append(self.format(record))

    def last(self) -> dict[str, Any]:
        line: dict[str, Any] = json.loads(self.written[-1])
        return line


@pytest.fixture
def lines() -> Iterator[Lines]:
    handler = Lines(LogFormat.JSON)
    log.addHandler(handler)
    yield handler
    log.removeHandler(handler)


class Last(ActivityInboundInterceptor):
    """Calls the activity."""

    def __init__(self) -> None:
        pass

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        return await input.fn(*input.args)


async def call(step: Callable[..., Awaitable[Any]], *arguments: object, **info: Any) -> Any:
    """Call an activity in a task of its own, as a worker does."""
    environment = ActivityEnvironment()
    environment.info = activity.Info(**({**vars(environment.info)} | info))
    input = ExecuteActivityInput(fn=step, args=arguments, executor=None, headers={})
    inbound = NameLines().intercept_activity(Last())
    return await asyncio.create_task(environment.run(inbound.execute_activity, input))


async def warn(*_arguments: object) -> None:
    log.warning("all is not well")


@pytest.mark.parametrize(
    ("arguments", "kind", "workflow", "named"),
    [
        ((AttemptKey("train", 3),), "placement.bind", "workload/train", ("train", "train.3")),
        ((AdmissionOrder("train", {}),), "admission.admit", "workload/train", ("train", None)),
        (("train",), wire.Inquiry.STATUS, None, ("train", None)),
        ((240.0,), "rounds.keep_deciding", "rounds/main", (None, None)),
        (("main",), wire.Inquiry.QUEUES, None, (None, None)),
    ],
)
async def test_lines_of_an_activity_name_what_it_is_about(
    lines: Lines, arguments: tuple[object, ...], kind: str, workflow: str | None, named: tuple[str | None, str | None]
) -> None:
    await call(warn, *arguments, activity_type=kind, workflow_id=workflow)
    line = lines.last()
    assert (line.get("workload"), line.get("attempt")) == named
    assert line["event"] == "all is not well"
    assert (line["level"], line["logger"]) == ("warning", "tests.observing")


async def test_what_is_done_for_many_bears_the_name_of_none(lines: Lines) -> None:
    async def handle(items: Any) -> Any:
        log.warning("done together")
        return items

    batcher: Batcher[AttemptKey, AttemptKey] = Batcher(handle)
    await call(batcher.ask, AttemptKey("first", 1), activity_type="placement.bind", workflow_id="workload/first")
    assert "workload" not in lines.last()


def test_a_line_may_name_its_subject_itself(lines: Lines) -> None:
    log.error("a round failed", extra={"workload": "train", "attempt": "train.1"})
    assert lines.last().items() >= {"workload": "train", "attempt": "train.1"}.items()


def test_lines_of_temporal_name_the_workload(lines: Lines) -> None:
    log.warning("Completing activity as failed", extra={"temporal_activity": {"workflow_id": "workload/train"}})
    assert lines.last()["workload"] == "train"
    assert "temporal_activity" not in lines.last()


def test_a_traceback_is_part_of_the_line(lines: Lines) -> None:
    try:
        raise ValueError("no such thing")
    except ValueError:
        log.exception("it failed")
    assert "ValueError: no such thing" in lines.last()["exception"]


def test_for_people_a_line_is_text() -> None:
    handler = Lines(LogFormat.TEXT)
    handler.handle(log.makeRecord("corral", logging.WARNING, "", 0, "left %s", ("east",), None, extra={"workload": "train"}))
    assert "left east" in handler.written[0]
    assert "workload=train" in handler.written[0]
