"""Ports for the servers of tests, each for one process alone."""

import socket
from contextlib import ExitStack
from random import SystemRandom

from worker.settings import LOOPBACK

FIRST_PORT, LAST_PORT = 20_000, 29_999
"""Below what systems give to connections: none of them gets the port of a server that is yet to start, or to start again."""

_random = SystemRandom()


def free_port() -> int:
    """A port on which nobody listens, and which no other process is told by this function until this one ends."""
    while True:
        port = _random.randint(FIRST_PORT, LAST_PORT)
        try:
            take(port)
        except OSError:
            continue
        return port


def take(port: int) -> None:
    """Mark a port as ours by that of datagrams with the same number, which this process keeps open.

    Raises:
        OSError: somebody listens on it, or has marked it.
    """
    with ExitStack() as given_back:
        mark = given_back.enter_context(socket.socket(type=socket.SOCK_DGRAM))
        mark.bind((LOOPBACK, port))
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((LOOPBACK, port))
        given_back.pop_all()
        mark.detach()
