import socket
import subprocess
import sys

import pytest

from tests.ports import FIRST_PORT, LAST_PORT, free_port, take
from worker.settings import LOOPBACK

TAKES = "import sys; from tests.ports import take; take(int(sys.argv[1]))"


def test_a_port_is_told_to_nobody_else() -> None:
    ours = free_port()
    with pytest.raises(OSError, match="in use"):
        take(ours)
    another = subprocess.run([sys.executable, "-c", TAKES, str(ours)], stderr=subprocess.PIPE, text=True, check=False)
    assert "in use" in another.stderr


def test_a_port_on_which_somebody_listens_is_not_told() -> None:
    with socket.socket() as listening:
        listening.bind((LOOPBACK, 0))
        listening.listen()
        with pytest.raises(OSError, match="in use"):
            take(listening.getsockname()[1])


def test_a_server_can_listen_on_the_port_that_it_is_told() -> None:
    with socket.socket() as server:
        server.bind((LOOPBACK, free_port()))
        server.listen()


def test_no_connection_is_given_such_a_port() -> None:
    with socket.socket() as listening, socket.socket() as connecting:
        listening.bind((LOOPBACK, free_port()))
        listening.listen()
        connecting.connect(listening.getsockname())
        assert not FIRST_PORT <= connecting.getsockname()[1] <= LAST_PORT
