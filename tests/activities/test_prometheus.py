"""The demand that a Prometheus answers with, and what is said when that is none."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import parse_qs, urlsplit

import pytest

from activities.metering import Miss, NoDemand
from activities.prometheus import MOST_BYTES, Prometheus
from corral.api import DemandSource
from tests.activities.prometheus_server import Server, serving
from worker.settings import Settings
from worker.wiring import prometheus

QUERY = 'sum(requests{app="chat & co"}) + 1'
LONG_SECONDS = 60.0


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with serving() as server:
        yield server


async def asked(server: Server, *, token: str = "", path: str = "", within_seconds: float = LONG_SECONDS) -> float:
    """What the server answers where it is allowed to be asked."""
    async with Prometheus.opened({f"127.0.0.1:{server.port}": token}, within_seconds=within_seconds) as meter:
        return (await meter.ask(DemandSource(url=server.url + path, query=QUERY))).value


@asynccontextmanager
async def refused(told: str, cause: Miss | None = None) -> AsyncIterator[None]:
    with pytest.raises(NoDemand, match=told) as miss:
        yield
    assert cause in {None, miss.value.cause}


@pytest.mark.parametrize(("path", "asks"), [("", "/api/v1/query"), ("/prometheus/", "/prometheus/api/v1/query")])
async def test_the_number_that_is_found_is_the_demand(server: Server, path: str, asks: str) -> None:
    server.finds("37.5")
    assert await asked(server, path=path) == 37.5
    line, *headers = server.requests[0].split("\r\n")
    method, address, _ = line.split(" ")
    assert (method, urlsplit(address).path, parse_qs(urlsplit(address).query)) == ("GET", asks, {"query": [QUERY]})
    assert not [header for header in headers if header.lower().startswith("authorization")]


async def test_a_scalar_is_a_number_too(server: Server) -> None:
    server.says({"status": "success", "data": {"resultType": "scalar", "result": [1.0, "0"]}, "warnings": ["slow"]})
    assert await asked(server) == 0


async def test_each_host_is_shown_its_own_token_and_no_other(server: Server) -> None:
    server.finds("1")
    await asked(server, token="abc")
    tokens = {"127.0.0.1": "of-another-port", "elsewhere": "of-another", f"127.0.0.1:{server.port}": "its-own"}
    async with Prometheus.opened(tokens) as meter:
        await meter.ask(DemandSource(url=server.url, query=QUERY))
    shown = [line for request in server.requests for line in request.splitlines() if line.lower().startswith("authorization")]
    assert [line.partition(": ")[2] for line in shown] == ["Bearer abc", "Bearer its-own"]


@pytest.mark.parametrize("number", ["NaN", "+Inf", "-1", "1e13", "many", ""])
async def test_what_is_no_amount_is_no_demand(server: Server, number: str) -> None:
    server.finds(number)
    async with refused("expected a number from 0 to 1e12", Miss.NO_NUMBER):
        await asked(server)


@pytest.mark.parametrize(
    ("numbers", "told"), [((), r"finds nothing.*or vector\(0\)"), (("1", "2"), r"finds 2 numbers.*sum\(\)")]
)
async def test_other_than_one_number_is_no_demand(server: Server, numbers: tuple[str, ...], told: str) -> None:
    server.finds(*numbers)
    async with refused(told, Miss.NO_NUMBER):
        await asked(server)


@pytest.mark.parametrize(
    "answer",
    [
        b"<html>welcome</html>",
        b"",
        b"[]",
        b"\xff\xfe",
        b'{"status": "success"}',
        b'{"status": "error", "error": "of what?"}',
        b'{"status": "success", "data": {"resultType": "matrix", "result": []}}',
        b'{"status": "success", "data": {"resultType": "vector", "result": [{"value": ["now"]}]}}',
    ],
)
async def test_what_is_no_answer_of_prometheus_is_no_demand(server: Server, answer: bytes) -> None:
    server.says(answer)
    async with refused("answered with something else than the API of Prometheus", Miss.NO_NUMBER):
        await asked(server)


async def test_what_prometheus_says_of_a_query_that_it_refuses_is_passed_on(server: Server) -> None:
    server.says({"status": "error", "errorType": "bad_data", "error": "parse error at char 5"}, "400 Bad Request")
    async with refused("answered with status 400: 'parse error at char 5'"):
        await asked(server)


async def test_of_other_errors_the_status_alone_is_passed_on(server: Server) -> None:
    server.says(b"secret", "500 Internal Server Error")
    async with refused("answered with status 500$", Miss.REFUSED):
        await asked(server)


async def test_nobody_is_redirected(server: Server) -> None:
    server.says(b"", "302 Found", f"Location: {server.url}/elsewhere")
    async with refused("answered with status 302$"):
        await asked(server)
    assert len(server.requests) == 1


async def test_who_does_not_answer_is_not_waited_for(server: Server) -> None:
    server.is_silent = True
    async with refused("did not answer within 0.2 seconds", Miss.TOO_LATE):
        await asked(server, within_seconds=0.2)


async def test_an_answer_that_is_too_long_is_not_read_to_its_end(server: Server) -> None:
    server.says(b" " * (MOST_BYTES + 1))
    async with refused(f"more than {MOST_BYTES} bytes", Miss.NO_NUMBER):
        await asked(server)


async def test_what_is_no_http_is_no_demand(server: Server) -> None:
    server.answer = b"SSH-2.0-OpenSSH_9.6\r\n"
    async with refused("could not be asked"):
        await asked(server)


@pytest.mark.parametrize("host", ["xn--a", "a..b", "a" * 300])
async def test_a_host_that_cannot_be_is_no_demand(host: str) -> None:
    async with Prometheus.opened({"prometheus:9090": ""}) as meter, refused("could not be asked|do not ask"):
        await meter.ask(DemandSource(url=f"http://{host}:9090", query=QUERY))


async def test_where_nobody_listens_there_is_no_demand() -> None:
    gone = await asyncio.start_server(Server().serve, "127.0.0.1", 0)
    port = gone.sockets[0].getsockname()[1]
    gone.close()
    await gone.wait_closed()
    async with refused("could not be asked", Miss.UNREACHABLE):
        await asked(Server(port=port))


@pytest.mark.parametrize("hosts", [set(), {"127.0.0.1"}, {"127.0.0.1:1"}, {"localhost"}, {""}])
async def test_a_host_that_is_not_allowed_is_not_asked_and_whoever_reads_it_knows_the_setting(
    server: Server, hosts: set[str]
) -> None:
    async with (
        Prometheus.opened(dict.fromkeys(hosts, "")) as meter,
        refused(f"CORRAL_DEMAND_HOSTS=127.0.0.1:{server.port}", Miss.NOT_ALLOWED),
    ):
        await meter.ask(DemandSource(url=server.url, query=QUERY))
    assert server.requests == []


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("http://prometheus", "prometheus:80"),
        ("https://prometheus/below", "prometheus:443"),
        ("http://prometheus:9090", "prometheus:9090"),
    ],
)
async def test_where_no_host_is_allowed_whoever_reads_it_knows_the_setting(url: str, place: str) -> None:
    async with prometheus(Settings()) as meter, refused(f"CORRAL_DEMAND_HOSTS={place}$", Miss.NOT_ALLOWED):
        await meter.ask(DemandSource(url=url, query=QUERY))


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("http://Prometheus", True),
        ("https://prometheus:443", True),
        ("https://prometheus:80", False),
        ("http://prometheus.elsewhere", False),
        ("http://elsewhere/prometheus", False),
    ],
)
async def test_a_host_without_a_port_is_allowed_at_the_port_of_the_scheme(url: str, allowed: bool) -> None:
    async with Prometheus.opened({"prometheus": ""}, within_seconds=0) as meter:
        told = "did not answer" if allowed else "do not ask"
        async with refused(told):
            await meter.ask(DemandSource(url=url, query=QUERY))
