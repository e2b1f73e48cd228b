"""Connections to the record: used again and again, until their server is gone or takes no writes any more."""

import socket
from typing import Any

import asyncpg
from sqlalchemy import URL, event, func
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

READ_ONLY = "25006"

CONNECTED_WITHIN_SECONDS = 20.0
SILENT_SECONDS = 20
"""After so long without a sign of life from the other machine a connection is over."""
PROBES = 3

PROBE_SECONDS = SILENT_SECONDS // (PROBES + 1)

HERE = {
    "TCP_KEEPIDLE": PROBE_SECONDS,
    "TCP_KEEPALIVE": PROBE_SECONDS,  # what others than Linux call it
    "TCP_KEEPINTVL": PROBE_SECONDS,
    "TCP_KEEPCNT": PROBES,
    "TCP_USER_TIMEOUT": SILENT_SECONDS * 1000,
}
"""Options by which this system looks whether the server's machine is there, as far as it knows them."""

IDLE = "idle_in_transaction_session_timeout"
"""PostgreSQL's name for how long a session may say nothing in a transaction; the process may be frozen then."""

THERE = {
    "tcp_keepalives_idle": str(PROBE_SECONDS),
    "tcp_keepalives_interval": str(PROBE_SECONDS),
    "tcp_keepalives_count": str(PROBES),
    "tcp_user_timeout": f"{SILENT_SECONDS}s",
    IDLE: f"{SILENT_SECONDS}s",
}
"""What the server does about a session whose machine is gone, or whose process is frozen, lest nobody gets the rows that it has
locked.
"""

MAY_THINK = func.set_config(IDLE, "300s", True)
"""Lets a transaction take longer between its statements; a first round reads, and works out, all who wait."""


class Watched(asyncpg.Connection):  # type: ignore[misc]  # asyncpg has no types
    """A connection that ends when the machine at its other end is gone without a word, or cannot be reached.

    By itself it would wait for an answer for ever, and whoever writes next for it. It is the systems at both ends that tell
    each other that they are there: a statement may take as long as it needs.
    """

    def __init__(self, protocol: Any, transport: Any, *more: Any) -> None:
        super().__init__(protocol, transport, *more)
        end = transport.get_extra_info("socket")
        if end is None or end.family not in {socket.AF_INET, socket.AF_INET6}:
            return
        end.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in HERE.items():
            if (option := getattr(socket, name, None)) is not None:
                end.setsockopt(socket.IPPROTO_TCP, option, value)


async def listen_at(url: URL) -> asyncpg.Connection:
    """A connection of its own, for what the server tells unasked; where there are several, to the one that others go to."""
    _, known = url.get_dialect()().create_connect_args(url)
    return await reached(**known, connection_class=Watched, timeout=CONNECTED_WITHIN_SECONDS)


async def reached(*, timeout: float, **known: Any) -> asyncpg.Connection:
    """A connection as asyncpg makes it; to the first of several servers that will do.

    Each is given its part of the time: asyncpg would spend all of it on the first one, if that is gone without a word.

    Raises:
        ConnectionError: none of several will do; the message says why.
    """
    if not isinstance(known.get("host"), list):
        return await asyncpg.connect(**known, timeout=timeout)
    problems, places = list[str](), [*zip(known.pop("host"), known.pop("port"), strict=True)]
    for host, port in places:
        try:
            return await asyncpg.connect(**known, host=host, port=port, timeout=timeout / len(places))
        except (OSError, asyncpg.CannotConnectNowError, asyncpg.InternalClientError) as error:
            problems.append(f"{host}:{port}: {error or type(error).__name__}")
    raise ConnectionError("; ".join(problems))


def connections_to(url: str) -> AsyncEngine:
    """A few connections to the database at a URL of the form `postgresql+asyncpg://user@host:port/name`."""
    # The connection that was used last knows most statements: few connections, and each with room for all of them.
    room_for_statements = {"prepared_statement_cache_size": 500}
    watched = {"connection_class": Watched, "timeout": CONNECTED_WITHIN_SECONDS, "server_settings": THERE}
    watched["async_creator_fn"] = reached
    engine = create_async_engine(
        url, pool_size=8, max_overflow=4, pool_use_lifo=True, connect_args={**room_for_statements, **watched}
    )
    event.listen(engine.sync_engine, "handle_error", _leave_what_takes_no_writes)
    return engine


def _leave_what_takes_no_writes(context: ExceptionContext) -> None:
    """Connect anew after a refusal to write.

    A connection stays as its server was when it began: read-only after that is over, and with a server that is a replica now.
    """
    if getattr(context.original_exception, "sqlstate", None) == READ_ONLY:
        context.is_disconnect = True
