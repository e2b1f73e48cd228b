"""Timeouts and retries, by name."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import TypeVar

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError, FailureError, is_cancelled_exception

Answer = TypeVar("Answer")

BRIEFLY = RetryPolicy(
    initial_interval=timedelta(milliseconds=100), maximum_interval=timedelta(milliseconds=400), maximum_attempts=3
)
UNTIL_IT_WORKS = RetryPolicy(initial_interval=timedelta(milliseconds=500), maximum_interval=timedelta(seconds=10))
TWICE_OR_SO = RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=10), maximum_attempts=4)

QUICK = timedelta(seconds=5)
ONE_CALL = timedelta(seconds=20)
A_FEW_CALLS = timedelta(seconds=60)
A_STRETCH = timedelta(minutes=10)
STRETCH_SECONDS = 240.0
HEARTBEAT = timedelta(seconds=8)


async def quick(step: Callable[..., Awaitable[Answer]], args: Sequence[object], summary: str) -> Answer:
    """Run a step in the worker itself; when that keeps failing, as an ordinary activity, which operators can see retrying.

    Both are the same step with the same key, so that whichever comes second finds what the first has done.
    """
    try:
        return await workflow.execute_local_activity_method(
            step, args=args, start_to_close_timeout=QUICK, retry_policy=BRIEFLY, summary=summary
        )
    except FailureError as error:  # what a local activity raised comes as it is, or wrapped like that of an ordinary one
        if is_cancelled_exception(error) or _is_answer(error):
            raise
    return await workflow.execute_activity_method(
        step, args=args, start_to_close_timeout=ONE_CALL, retry_policy=UNTIL_IT_WORKS, summary=summary
    )


def _is_answer(error: FailureError) -> bool:
    cause = error.cause if isinstance(error, ActivityError) else error
    return isinstance(cause, ApplicationError) and cause.non_retryable


def knows_all() -> bool:
    """Whether a workflow has heard itself of all that it was ever asked.

    In a later run it has not. What it would refuse may have been done by that request before, which the record knows.
    """
    return workflow.info().continued_run_id is None


async def answered(step: Callable[..., Awaitable[Answer]], args: Sequence[object], summary: str) -> Answer:
    """Run a step that somebody waits for; its final failure, such as "not in this state", is the answer to whoever asked."""
    try:
        return await workflow.execute_activity_method(
            step,
            args=args,
            start_to_close_timeout=A_STRETCH,
            heartbeat_timeout=HEARTBEAT,
            retry_policy=UNTIL_IT_WORKS,
            summary=summary,
        )
    except ActivityError as error:
        raise error.cause if isinstance(error.cause, ApplicationError) else error from None
