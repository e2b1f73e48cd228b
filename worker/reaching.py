"""Which server cannot be used: where it was looked for, why not, and which settings say where it is."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import URL, make_url
from sqlalchemy.exc import DBAPIError
from temporalio.exceptions import ApplicationError
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor

from corral.wire import Failure
from worker.settings import Settings

UNFIT = ("08", "25006", "53", "57", "58")
"""How PostgreSQL's codes begin where it is not what was asked that is the matter: no connection, a server that only reads, one
that has no room, an operator, the machine.
"""


class NoAnswer(Exception):
    """A server that is needed cannot be used; the message says which, why, and what to do."""


@contextmanager
def reaching_the_record(settings: Settings) -> Iterator[None]:
    """Tell in words that PostgreSQL cannot be used.

    Raises:
        NoAnswer: for what the first use of a connection met.
    """
    try:
        yield
    except (OSError, DBAPIError) as error:
        url = make_url(settings.database_url)
        raise NoAnswer(
            f"the database {url.database} at {_places(url)} cannot be used as {url.username}: {_why(error)}; "
            "is PostgreSQL running, and is CORRAL_DATABASE_URL right?"
        ) from error


class TellUnfit(Interceptor):
    """Lets activities fail in a few words where PostgreSQL could not be used: they are tried again, and people read why."""

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        """Come before the activity."""
        return _TellUnfit(next)


class _TellUnfit(ActivityInboundInterceptor):
    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        try:
            return await super().execute_activity(input)
        except Exception as error:
            if (problem := why_unfit(error)) is None:
                raise
        raise ApplicationError(problem, type=Failure.UNAVAILABLE)


def why_unfit(error: Exception) -> str | None:
    """Why PostgreSQL could not do what it was asked, in one line; none where it could, or something else failed."""
    said = error.orig if isinstance(error, DBAPIError) else error
    is_gone = isinstance(error, DBAPIError) and error.connection_invalidated
    if is_gone or (getattr(said, "sqlstate", None) or "").startswith(UNFIT):
        return f"PostgreSQL could not be used: {_why(error)}"
    return None


def _places(url: URL) -> str:
    """Where the database is looked for; several servers stand in the query."""
    several = url.normalized_query.get("host", ())
    return " or ".join(several) or f"{url.host}:{url.port or 5432}"


def _why(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error) or type(error).__name__
    said = (error.orig or error) if isinstance(error, DBAPIError) else error
    return "; ".join(line.strip() for line in str(said.__cause__ or said).splitlines())
