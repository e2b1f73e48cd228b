"""Connecting: what a person is told when it fails."""

import pytest
from temporalio.client import ActivityFailureError, WorkflowQueryFailedError
from temporalio.exceptions import ApplicationError

from corral.client import Corral, Invalid, NotFound, Unreachable
from corral.client.errors import plain_errors, why_no_connection
from corral.wire import Failure

FAILED = "Failed client connect: Server connection error: tonic::transport::Error(Transport, ConnectError({}))"


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (
            'ConnectError("tcp connect error", Os { kind: ConnectionRefused, message: "Connection refused" })',
            "Connection refused",
        ),
        (
            'ConnectError("dns error", Custom { kind: Uncategorized, error: "failed to lookup address: Name not known" })',
            "failed to lookup address: Name not known",
        ),
        (
            "Custom { kind: InvalidData, error: InvalidCertificate(UnknownIssuer) }",
            "its certificate is vouched for by an authority that is not trusted here",
        ),
        (
            'Custom { error: InvalidCertificate(NotValidForNameContext { expected: DnsName("x"), presented: [] }) }',
            "its certificate is for another name",
        ),
        ("Custom { error: InvalidCertificate(Revoked) }", "its certificate is not accepted: Revoked"),
    ],
)
def test_what_is_at_the_bottom_of_it_is_told_without_the_innards_of_a_library(failure: str, told: str) -> None:
    assert why_no_connection(FAILED.format(failure)) == told


def test_a_failure_that_says_nothing_in_words_is_told_as_it_is() -> None:
    assert why_no_connection("it is broken") == "it is broken"


async def test_a_namespace_that_is_not_there_is_told_from_a_workload_that_is_not(temporal: str) -> None:
    corral = await Corral.connect(temporal, namespace="nowhere")
    for ask in (corral.status("train-1"), corral.cancel("train-1"), corral.schedules()):
        with pytest.raises(Invalid, match=r"no namespace 'nowhere'; is CORRAL_TEMPORAL_NAMESPACE \(--namespace\) right\?"):
            await ask


async def test_what_no_worker_could_answer_in_time_may_be_asked_again() -> None:
    away = ApplicationError(
        "the database system is not yet accepting connections\n(Background on this error)", type="DBAPIError"
    )
    with pytest.raises(Unreachable, match=r"within 30 s: the database system is not yet accepting connections$"):
        async with plain_errors():
            raise ActivityFailureError(cause=away)


async def test_what_no_worker_could_make_out_may_be_asked_again() -> None:
    with pytest.raises(Unreachable, match="what the workflow knows: its history is of other code"):
        async with plain_errors():
            raise WorkflowQueryFailedError("its history is of other code")


async def test_what_a_worker_says_no_to_is_an_answer() -> None:
    no = ApplicationError("there is no such queue", type=Failure.NOT_FOUND, non_retryable=True)
    with pytest.raises(NotFound, match="there is no such queue"):
        async with plain_errors():
            raise ActivityFailureError(cause=no)
