"""The port to what knows the demand of endpoints, and why it may not tell."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol
from urllib.parse import urlsplit

from corral.api import Demand, DemandSource


@dataclass(frozen=True, slots=True)
class EndpointToAsk:
    """An endpoint, where its demand can be asked for, and why it was asked for in vain the last time; empty: it was not."""

    workload: str
    source: DemandSource
    problem: str = ""


class Miss(StrEnum):
    """Why demand was asked for in vain."""

    NOT_ALLOWED = "not-allowed"
    """Workers of the pool do not ask that host."""
    TOO_LATE = "too-late"
    """It did not answer in time."""
    UNREACHABLE = "unreachable"
    REFUSED = "refused"
    """It answered with an error."""
    NO_NUMBER = "no-number"
    """It answered with anything but one number from 0 to 1e12."""


class NoDemand(Exception):
    """Demand could not be asked for; the message says why, for the people whose endpoint it is."""

    def __init__(self, message: str, cause: Miss) -> None:
        super().__init__(message)
        self.cause = cause


class Meter(Protocol):
    """What knows the demand of endpoints."""

    async def ask(self, source: DemandSource) -> Demand:
        """The demand now, within a bounded time.

        Raises:
            NoDemand: there is no answer, or it is no demand.
        """


PORTS = {"http": 80, "https": 443}


def not_allowed(place: str) -> NoDemand:
    """Why a host is not asked, given with its port."""
    told = f"workers of this pool do not ask {place}; an operator allows it by CORRAL_DEMAND_HOSTS={place}"
    return NoDemand(told, Miss.NOT_ALLOWED)


class NobodyToAsk:
    """The meter of a pool whose operators allow no host to be asked."""

    async def ask(self, source: DemandSource) -> Demand:
        """Say which setting would allow it.

        Raises:
            NoDemand: always.
        """
        url = urlsplit(source.url)
        raise not_allowed(f"{url.hostname}:{url.port or PORTS[url.scheme]}")
