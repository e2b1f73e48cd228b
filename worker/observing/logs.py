"""The log of a worker: lines for people or JSON objects, with workload and attempt on each line that concerns one."""

import logging
from collections.abc import MutableMapping
from typing import Any

import structlog
from structlog.types import Processor
from temporalio import activity
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor

from worker.observing.subjects import ATTEMPT, WORKLOAD, subject_of_activity, subject_of_workflow
from worker.settings import LogFormat, LogLevel

_FROM_TEMPORAL = ("temporal_activity", "temporal_workflow")
"""Where Temporal's own lines say by which workflow they are."""


def write_logs(level: LogLevel, form: LogFormat) -> None:
    """Write the log of this process, Temporal's part of it as well, to the standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(formatter(form))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def formatter(form: LogFormat) -> logging.Formatter:
    """Writes one record as one line; a traceback is part of the object in JSON, and follows the line in text."""
    as_json: list[Processor] = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    as_text: list[Processor] = [structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)]
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.stdlib.ExtraAdder(allow=(WORKLOAD, ATTEMPT, *_FROM_TEMPORAL)),
            _name_subject,
        ],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            *(as_json if form is LogFormat.JSON else as_text),
        ],
    )


def _name_subject(_logger: Any, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Name the workload where only Temporal says which it is."""
    for source in _FROM_TEMPORAL:
        said = line.pop(source, None) or {}
        for name, value in subject_of_workflow(said.get("workflow_id")).items():
            line.setdefault(name, value)
    return line


class NameLines(Interceptor):
    """Puts workload and attempt on whatever is logged on behalf of a call of an activity."""

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        """Come before the activity; each call runs in a task, and so in a context, of its own."""
        return _NameLines(next)


class _NameLines(ActivityInboundInterceptor):
    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        info = activity.info()
        structlog.contextvars.bind_contextvars(**subject_of_activity(info.activity_type, input.args, info.workflow_id))
        return await super().execute_activity(input)
