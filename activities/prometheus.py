"""Prometheus: the demand of an endpoint as the answer to a query, from hosts that the pool's operators allow."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Annotated, Literal, Self

import httpx
from pydantic import BaseModel, Field, ValidationError

from activities.ports import NoDemand
from corral.demand import Demand, DemandSource

MOST_BYTES = 64 * 1024
"""Of an answer: one number takes a few hundred."""
SHOWN = 200
"""Characters of what Prometheus says of a query that it refuses."""

PORTS = {"http": 80, "https": 443}

Sample = tuple[float, str]
"""A time, and a number as text."""


class _Labelled(BaseModel):
    value: Sample


class _Vector(BaseModel):
    resultType: Literal["vector"]  # noqa: N815
    result: list[_Labelled]


class _Scalar(BaseModel):
    resultType: Literal["scalar"]  # noqa: N815
    result: Sample


class _Found(BaseModel):
    """https://prometheus.io/docs/prometheus/latest/querying/api/#instant-queries."""

    status: Literal["success"]
    data: Annotated[_Vector | _Scalar, Field(discriminator="resultType")]


class _Refused(BaseModel):
    error: str


class Prometheus:
    """The `Meter` port over the HTTP API of Prometheus, and of whatever answers like it."""

    def __init__(self, client: httpx.AsyncClient, hosts: Collection[str], within_seconds: float) -> None:
        self._client = client
        self._hosts = hosts
        self._within_seconds = within_seconds

    @classmethod
    @asynccontextmanager
    async def opened(cls, hosts: Collection[str], token: str = "", *, within_seconds: float = 5.0) -> AsyncIterator[Self]:
        """Ask these hosts alone, as `host` or `host:port`, and show them the token.

        Neither proxies nor passwords of this machine's environment are used, and nobody is redirected elsewhere.
        """
        headers = {"Accept-Encoding": "identity"} | ({"Authorization": f"Bearer {token}"} if token else {})
        async with httpx.AsyncClient(
            headers=headers,
            verify=ssl.create_default_context(),
            trust_env=False,
            follow_redirects=False,
            timeout=None,  # noqa: S113 (the whole of asking is limited, not each step of it)
        ) as client:
            yield cls(client, hosts, within_seconds)

    async def ask(self, source: DemandSource) -> Demand:
        """What the query finds now.

        Raises:
            NoDemand: the host is not allowed, does not answer in time, or answers with anything but one number.
        """
        try:
            url = httpx.URL(f"{source.url.rstrip('/')}/api/v1/query")
            self._may_be_asked(url)
            async with asyncio.timeout(self._within_seconds):
                status, answer = await self._get(url, source.query)
        except TimeoutError:
            raise NoDemand(f"{source.url} did not answer within {self._within_seconds:g} seconds") from None
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise NoDemand(f"{source.url} could not be asked: {error or type(error).__name__}") from error
        if status != httpx.codes.OK:
            raise NoDemand(f"{source.url} answered with status {status}{_why_refused(answer)}")
        return _demand(source.url, _number(source.url, answer))

    def _may_be_asked(self, url: httpx.URL) -> None:
        port = PORTS[url.scheme] if url.port is None else url.port
        allowed = {f"{url.host}:{port}"} | ({url.host} if port == PORTS[url.scheme] else set())
        if not allowed & set(self._hosts):
            place = f"{url.host}:{port}"
            raise NoDemand(f"workers of this pool do not ask {place}; an operator allows it by CORRAL_DEMAND_HOSTS={place}")

    async def _get(self, url: httpx.URL, query: str) -> tuple[int, bytes]:
        answer = b""
        async with self._client.stream("GET", url, params={"query": query}) as response:
            async for part in response.aiter_raw():
                answer += part
                if len(answer) > MOST_BYTES:
                    raise NoDemand(f"{url.host} answered with more than {MOST_BYTES} bytes; expected one number")
            return response.status_code, answer


def _why_refused(answer: bytes) -> str:
    try:
        return f": {_Refused.model_validate_json(answer).error[:SHOWN]!r}"
    except ValidationError:
        return ""


def _number(url: str, answer: bytes) -> str:
    try:
        data = _Found.model_validate_json(answer).data
    except ValidationError:
        raise NoDemand(f"{url} answered with something else than the API of Prometheus does to a query for a number") from None
    if isinstance(data, _Scalar):
        return data.result[1]
    if not data.result:
        raise NoDemand("the query finds nothing; where that means no demand, add: or vector(0)")
    if len(data.result) > 1:
        raise NoDemand(f"the query finds {len(data.result)} numbers; expected one (sum() adds them up)")
    return data.result[0].value[1]


def _demand(url: str, number: str) -> Demand:
    try:
        return Demand(value=float(number))
    except ValueError:
        raise NoDemand(f"{url} answered with {number[:SHOWN]!r}; expected a number from 0 to 1e12") from None
