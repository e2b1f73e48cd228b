"""Connections to the record: used again and again, until their server is gone or takes no writes any more."""

from sqlalchemy import event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

READ_ONLY = "25006"


def connections_to(url: str) -> AsyncEngine:
    """A few connections to the database at a URL of the form `postgresql+asyncpg://user@host:port/name`."""
    # The connection that was used last knows most statements: few connections, and each with room for all of them.
    room_for_statements = {"prepared_statement_cache_size": 500}
    engine = create_async_engine(url, pool_size=8, max_overflow=4, pool_use_lifo=True, connect_args=room_for_statements)
    event.listen(engine.sync_engine, "handle_error", _leave_what_takes_no_writes)
    return engine


def _leave_what_takes_no_writes(context: ExceptionContext) -> None:
    """Connect anew after a refusal to write.

    A connection stays as its server was when it began: read-only after that is over, and with a server that is a replica now.
    """
    if getattr(context.original_exception, "sqlstate", None) == READ_ONLY:
        context.is_disconnect = True
