"""Demand as services speak of it: how an endpoint follows it, where it can be asked for, what it is."""

from datetime import datetime
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, StrictInt, StringConstraints, model_validator

from corral.api.model import MAXIMUM_REPLICAS, Model, Seconds, ShortText, Time


def _plain_address(url: str) -> str:
    expected = "expected the address of a Prometheus such as http://prometheus:9090"
    if not url.isprintable() or any(each in url for each in " \\?#"):
        raise ValueError(f"{expected}, without spaces, parameters or fragment")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"{error}; {expected}") from None
    if parts.scheme not in {"http", "https"} or not host:
        raise ValueError(f"{expected}, by http or https")
    if "@" in parts.netloc:
        raise ValueError(f"{expected}, without user and password: workers have a token for it (CORRAL_DEMAND_TOKEN)")
    return url


class DemandSource(Model):
    """Where demand can be asked for: what the Prometheus at `url` answers `query` with, one number, every so many seconds."""

    url: Annotated[ShortText, AfterValidator(_plain_address)]
    """Up to where `/api/v1/query` follows. Workers ask only the hosts that their settings allow."""
    query: Annotated[ShortText, StringConstraints(min_length=1)]
    every_seconds: Annotated[Seconds, Field(ge=5, le=3_600)] = 60


class Autoscale(Model):
    """How many replicas of the first group are wanted follows demand: one for each `target` of it, `minimum` to `most`.

    Demand is whatever replicas share, such as requests at once or the length of a queue. While it is within `tolerance` of
    what the present replicas are for, nothing changes. They become fewer when fewer would have done for all of
    `down_window_seconds`, at most `step_down` at once; more when more were needed for all of `up_window_seconds`, at most to
    the double or by `step_up` at once, whichever is more. Between two changes are `period_seconds`.
    """

    target: Annotated[float, Field(gt=0, le=10**9, allow_inf_nan=False)]
    demand_from: DemandSource | None = None
    """Where Corral asks for demand; without it, somebody tells it."""
    minimum: Annotated[StrictInt, Field(ge=0, le=MAXIMUM_REPLICAS)] = 1
    """With 0 it has nothing while there is no demand, and is put back in line as soon as there is some."""
    most: Annotated[StrictInt, Field(ge=1, le=MAXIMUM_REPLICAS)]
    tolerance: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.1
    up_window_seconds: Annotated[Seconds, Field(le=3_600)] = 0
    down_window_seconds: Annotated[Seconds, Field(le=3_600)] = 300
    step_up: Annotated[StrictInt, Field(ge=1, le=MAXIMUM_REPLICAS)] = 4
    step_down: Annotated[StrictInt, Field(ge=1, le=MAXIMUM_REPLICAS)] = 1
    period_seconds: Annotated[Seconds, Field(le=3_600)] = 15
    objective: Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)] | None = None
    """The share of requests that is to be served well. The others are its error budget: see `docs/endpoints.md`."""
    burn_rate: Annotated[float, Field(gt=0, le=1_000, allow_inf_nan=False)] = 14.4
    """More replicas are wanted when the budget is used up so many times as fast as the objective allows, in both windows."""
    burn_window_seconds: Annotated[Seconds, Field(ge=60, le=86_400)] = 3_600
    burn_check_seconds: Annotated[Seconds, Field(ge=10, le=3_600)] = 300
    """The short window: it says that the budget is still burning, and how long a step is given to show its effect."""

    @model_validator(mode="after")
    def _minimum_within_most(self) -> Self:
        if self.minimum > self.most:
            raise ValueError(f"minimum {self.minimum} exceeds most {self.most}")
        return self


class Demand(Model):
    """What an endpoint is to serve now, in the unit of its `autoscale.target`: requests at once, or the length of a queue.

    `at` is when that was measured, now where absent; what is not newer than what is known already changes nothing.
    """

    value: Annotated[float, Field(ge=0, le=10**12, allow_inf_nan=False)]
    at: Time | None = None
    requests: Annotated[StrictInt, Field(ge=0, le=10**12)] = 0
    """Requests that have ended since this was told last, and of these the ones that were not served well."""
    bad: Annotated[StrictInt, Field(ge=0, le=10**12)] = 0

    @model_validator(mode="after")
    def _bad_are_some_of_them(self) -> Self:
        if self.bad > self.requests:
            raise ValueError(f"bad {self.bad} exceeds requests {self.requests}")
        return self


class Following(Model):
    """How an endpoint follows demand: the replicas that are wanted, since when demand is known no more, and why not."""

    wanted: int
    stale_since: datetime | None = None
    """While it is set the size stays as it is."""
    problem: str = ""
