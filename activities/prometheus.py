"""Prometheus: the demand of an endpoint as the answer to a query, from hosts that the pool's operators allow."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Annotated, Literal, Self

import httpx
from pydantic import BaseModel, Field, ValidationError

from activities.metering import PORTS, Miss, NoDemand, not_allowed
from corral.api import Demand, DemandSource

MOST_BYTES = 64 * 1024
"""Of an answer: one number takes a few hundred."""
SHOWN = 200
"""Characters of what Prometheus says of a query that it refuses."""

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

    def __init__(self, client: httpx.AsyncClient, tokens: Mapping[str, str], within_seconds: float) -> None:
        self._client = client
        self._tokens = tokens
        self._within_seconds = within_seconds

    @classmethod
    @asynccontextmanager
    async def opened(cls, tokens: Mapping[str, str], *, within_seconds: float = 5.0) -> AsyncIterator[Self]:
        """Ask these hosts alone, as `host` or `host:port`, and show each its token, unless that is empty.

        Neither proxies nor passwords of this machine's environment are used, and nobody is redirected elsewhere.
        """
        async with httpx.AsyncClient(
            headers={"Accept-Encoding": "identity"},
            verify=ssl.create_default_context(),
            trust_env=False,
            follow_redirects=False,
            timeout=None,  # noqa: S113 (the whole of asking is limited, not each step of it)
        ) as client:
            yield cls(client, tokens, within_seconds)

    async def ask(self, source: DemandSource) -> Demand:
        """What the query finds now.

        Raises:
            NoDemand: the host is not allowed, does not answer in time, or answers with anything but one number.
        """
        try:
            url = httpx.URL(f"{source.url.rstrip('/')}/api/v1/query")
            token = self._token_for(url)
            async with asyncio.timeout(self._within_seconds):
                status, answer = await self._get(url, source.query, token)
        except TimeoutError:
            told = f"{source.url} did not answer within {self._within_seconds:g} seconds"
            raise NoDemand(told, Miss.TOO_LATE) from None
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            told = f"{source.url} could not be asked: {error or type(error).__name__}"
            raise NoDemand(told, Miss.UNREACHABLE) from error
        if status != httpx.codes.OK:
            raise NoDemand(f"{source.url} answered with status {status}{_why_refused(answer)}", Miss.REFUSED)
        return _demand(source.url, _number(source.url, answer))

    def _token_for(self, url: httpx.URL) -> str:
        """What the host is shown; one that is named with its port goes before one without."""
        port = PORTS[url.scheme] if url.port is None else url.port
        place = f"{url.host}:{port}"
        for name in (place, url.host) if port == PORTS[url.scheme] else (place,):
            if (token := self._tokens.get(name)) is not None:
                return token
        raise not_allowed(place)

    async def _get(self, url: httpx.URL, query: str, token: str) -> tuple[int, bytes]:
        answer, headers = b"", {"Authorization": f"Bearer {token}"} if token else {}
        async with self._client.stream("GET", url, params={"query": query}, headers=headers) as response:
            async for part in response.aiter_raw():
                answer += part
                if len(answer) > MOST_BYTES:
                    told = f"{url.host} answered with more than {MOST_BYTES} bytes; expected one number"
                    raise NoDemand(told, Miss.NO_NUMBER)
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
        told = f"{url} answered with something else than the API of Prometheus does to a query for a number"
        raise NoDemand(told, Miss.NO_NUMBER) from None
    if isinstance(data, _Scalar):
        return data.result[1]
    if not data.result:
        raise NoDemand("the query finds nothing; where that means no demand, add: or vector(0)", Miss.NO_NUMBER)
    if len(data.result) > 1:
        told = f"the query finds {len(data.result)} numbers; expected one (sum() adds them up)"
        raise NoDemand(told, Miss.NO_NUMBER)
    return data.result[0].value[1]


def _demand(url: str, number: str) -> Demand:
    try:
        return Demand(value=float(number))
    except ValueError:
        told = f"{url} answered with {number[:SHOWN]!r}; expected a number from 0 to 1e12"
        raise NoDemand(told, Miss.NO_NUMBER) from None
