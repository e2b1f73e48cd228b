"""What a service is told when Corral says no, or nothing."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta

from temporalio.api.enums.v1 import ResourceExhaustedCause
from temporalio.api.errordetails.v1 import NamespaceNotFoundFailure, ResourceExhaustedFailure
from temporalio.client import (
    ActivityFailureError,
    WorkflowQueryFailedError,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from corral import wire
from corral.policy import LintFinding
from corral.sealing import CannotUnseal, is_sealed

ANSWER_WITHIN = timedelta(seconds=30)
ENDED_WHILE_ASKED = "AcceptedUpdateCompletedWorkflow"
"""Temporal's word for an update that its workflow had begun with when it was ended."""


class CorralError(Exception):
    """Something that a person should read; the message says what was wrong and what to do."""


class NotFound(CorralError):
    """There is no such workload or provider."""


class Conflict(CorralError):
    """The id is taken by another spec, or the workload's state does not allow the change."""


class Invalid(CorralError):
    """What was asked makes no sense; the message names the field, the value and what was expected."""


class Forbidden(CorralError):
    """Who asks may not do this; the message says who that is, which role it takes on which queue, and how to get it."""


class PolicyRefused(Invalid):
    """A policy contradicts itself, or the queues or the work that it would meet; `findings` say where and how."""

    def __init__(self, findings: Sequence[LintFinding]) -> None:
        super().__init__("\n".join(str(finding) for finding in findings if finding.refuses))
        self.findings = tuple(findings)


class Unreachable(CorralError):
    """Temporal, or a worker behind it, did not answer in time; the request may be repeated as it is."""


_FAILURES: dict[str, Callable[[str], CorralError]] = {
    wire.Failure.NOT_FOUND: NotFound,
    wire.Failure.INVALID: Invalid,
    wire.Failure.NOT_ALLOWED: Conflict,
    wire.Failure.FORBIDDEN: Forbidden,
}


def as_said(failure: ApplicationError) -> CorralError:
    """What a worker said no to, as an error for people."""
    return _FAILURES.get(failure.type or "", CorralError)(failure.message)


def as_away(failure: ApplicationError) -> Unreachable:
    """What kept the pool from answering in time."""
    why = next(iter(failure.message.splitlines()), failure.type)
    return Unreachable(f"the pool could not answer within {ANSWER_WITHIN.seconds} s: {why}")


_CERTIFICATES = {
    "UnknownIssuer": "its certificate is vouched for by an authority that is not trusted here",
    "NotValidForName": "its certificate is for another name",
    "NotValidForNameContext": "its certificate is for another name",
    "Expired": "its certificate has expired",
    "ExpiredContext": "its certificate has expired",
}


def why_no_connection(failure: str) -> str:
    """What is at the bottom of a failure to connect, which Temporal's library tells as values of its own."""
    if refused := re.search(r"InvalidCertificate\((\w+)", failure):
        return _CERTIFICATES.get(refused[1], f"its certificate is not accepted: {refused[1]}")
    said = re.findall(r'\b(?:message|error): "([^"]+)"', failure)
    return said[-1] if said else failure


def _missing_namespace(error: RPCError) -> str | None:
    """The namespace that Temporal does not know, where that is why it found nothing."""
    failure = NamespaceNotFoundFailure()
    return failure.namespace if any(detail.Unpack(failure) for detail in error.grpc_status.details) else None


def was_dropped(error: RPCError) -> bool:
    """Whether Temporal took nothing of what was asked, as the workflow was about to end or to go on in a new run.

    An update of which it had taken more before is the same when it is asked again.
    """
    failure = ResourceExhaustedFailure()
    is_busy = any(
        detail.Unpack(failure) and failure.cause == ResourceExhaustedCause.RESOURCE_EXHAUSTED_CAUSE_BUSY_WORKFLOW
        for detail in error.grpc_status.details
    )
    return is_busy or error.status is RPCStatusCode.FAILED_PRECONDITION


def has_ended(error: RPCError | WorkflowUpdateFailedError) -> bool:
    """Whether a workflow had ended before it could answer, or ended while it was about to."""
    if isinstance(error, RPCError):
        return error.status is RPCStatusCode.NOT_FOUND
    return isinstance(error.cause, ApplicationError) and error.cause.type == ENDED_WHILE_ASKED


def in_time() -> asyncio.Timeout:
    """Ends waiting for an update, which Temporal otherwise repeats as long as no worker takes it."""
    return asyncio.timeout(ANSWER_WITHIN.total_seconds())


@asynccontextmanager
async def plain_errors(missing: str = "there is no such workload") -> AsyncIterator[None]:
    """Turn what Temporal raises into errors for people."""
    try:
        yield
    except (WorkflowUpdateFailedError, ActivityFailureError) as failure:
        cause = failure.cause
        if isinstance(failure, WorkflowUpdateFailedError) and has_ended(failure):
            raise NotFound(missing) from failure
        if isinstance(cause, ApplicationError):
            was_tried_again = isinstance(failure, ActivityFailureError) and not cause.non_retryable
            raise (as_away(cause) if was_tried_again else as_said(cause)) from failure
        raise Unreachable(f"no worker answered within {ANSWER_WITHIN.seconds} s; is one running for this pool?") from failure
    except (WorkflowUpdateRPCTimeoutOrCancelledError, TimeoutError) as error:
        raise Unreachable(f"no worker answered within {ANSWER_WITHIN.seconds} s; is one running for this pool?") from error
    except WorkflowQueryFailedError as error:
        raise Unreachable(f"no worker could make out what the workflow knows: {error}") from error
    except CannotUnseal as error:
        raise CorralError(str(error)) from error
    except KeyError as error:
        if not is_sealed(error):
            raise
        raise CorralError("the pool's payloads are sealed; connect with its keys (CORRAL_PAYLOAD_KEYS)") from error
    except RPCError as error:
        if (namespace := _missing_namespace(error)) is not None:
            message = f"this Temporal server has no namespace {namespace!r}; is CORRAL_TEMPORAL_NAMESPACE (--namespace) right?"
            raise Invalid(message) from error
        if error.status is RPCStatusCode.NOT_FOUND:
            raise NotFound(missing) from error
        raise Unreachable(f"Temporal did not answer: {error.message}") from error
