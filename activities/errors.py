"""Which failures are answers and which are tried again: one table for all activities."""

from collections.abc import Iterator
from contextlib import contextmanager

from temporalio.exceptions import ApplicationError

from activities.ports import ErrorClass, NotAllowed, NotFound, ProviderError
from corral.wire import Failure
from domain.calendar.cron import BadCron
from domain.operations.mandates import BadMandate
from domain.quota.tree import QuotaError

FINAL: dict[type[Exception], Failure] = {
    NotAllowed: Failure.NOT_ALLOWED,
    NotFound: Failure.NOT_FOUND,
    QuotaError: Failure.INVALID,
    BadCron: Failure.INVALID,
    BadMandate: Failure.INVALID,
}
"""Failures that asking again would not change. Everything else is infrastructure, and is tried again."""

REFUSALS: dict[ErrorClass, bool] = {
    ErrorClass.NO_CAPACITY: False,
    ErrorClass.CONFLICT: False,
    ErrorClass.FENCED: False,
    ErrorClass.INVALID_SPEC: True,
}
"""A provider's refusals to launch, and whether every other place would refuse as well. `UNAVAILABLE` refuses nothing."""


@contextmanager
def final_failures() -> Iterator[None]:
    """Turn failures that are answers into ones that Temporal does not try again, with a type that services know."""
    try:
        yield
    except tuple(FINAL) as error:
        kind = next(failure for known, failure in FINAL.items() if isinstance(error, known))
        raise ApplicationError(str(error), type=kind, non_retryable=True) from error


def writable(key: str) -> str:
    """The key of a request, which whoever asks may choose.

    Raises:
        ApplicationError: the record cannot keep it, however often it is tried.
    """
    if "\0" in key:
        raise ApplicationError(f"key: {key!r} - no zero byte is expected in it", type=Failure.INVALID, non_retryable=True)
    return key


def is_refusal(error: ProviderError) -> bool:
    """Whether a provider said no, so that the result of the call is known."""
    return error.kind in REFUSALS
