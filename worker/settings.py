"""Settings from the environment: what each means, and which values are refused."""

import os
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NamedTuple, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    Field,
    FilePath,
    SecretStr,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict
from temporalio.service import TLSConfig

from corral import wire
from corral.api import Identifier
from corral.cli.options import OF_CLIENTS, PREFIX
from corral.cli.problems import nearest
from corral.sealing import keys_of
from corral.tls import checked_authority, checked_key, tls_of
from domain.pool.leases import LeaseTerms
from worker.clock import EPOCH, PoolClock, this_machines_wall

LOOPBACK = "127.0.0.1"
DATABASE = "corral"
"""Name of the embedded database, and of the role that owns it."""
FASTEST_CLOCK = 100_000
"""Times the wall's speed."""

NOT_OURS = OF_CLIENTS | {"CORRAL_CASES"}
"""Variables with our prefix that clients or tests read and a worker passes over."""


class SettingsError(Exception):
    """A setting that cannot be used; the message names the variable, the value and what was expected."""


class LogFormat(StrEnum):
    """How a line of the log is written."""

    TEXT = "text"
    JSON = "json"


class LogLevel(StrEnum):
    """The least important messages that are still written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def _asynchronous(url: str) -> str:
    if not url.startswith("postgresql+asyncpg://"):
        raise ValueError("an address such as postgresql+asyncpg://user:password@host:5432/database is expected")
    return url


def _hosts_in(listed: str) -> list[str]:
    return [host for host in listed.split(",") if host]


def _tokens_of(listed: SecretStr, hosts: Collection[str]) -> dict[str, str]:
    """Each host with its token.

    Raises:
        ValueError: they cannot be read, or are of hosts that nobody asks; no token is repeated.
    """
    tokens: dict[str, str] = {}
    for number, entry in enumerate(listed.get_secret_value().split(","), 1):
        name, _, token = entry.strip().partition("=")
        if not token or not token.isascii() or not token.isprintable() or " " in token:
            raise ValueError(f"host:port=token is expected, separated by commas; entry {number} is none")
        if (host := name.lower()) not in hosts:
            raise ValueError(f"hosts of {variable('demand_hosts')} are expected; entry {number} is of another")
        tokens[host] = token
    return tokens


def embedded_database_url(port: int, database: str = DATABASE) -> str:
    """Where the embedded PostgreSQL answers. It trusts whoever reaches it, and is reached from this machine alone."""
    return f"postgresql+asyncpg://{DATABASE}@{LOOPBACK}:{port}/{database}"


Port = Annotated[int, Field(ge=1, le=65_535)]
Address = Annotated[str, StringConstraints(pattern=r"^[^\s:/]+:[0-9]{1,5}$")]
HostList = Annotated[
    str, StringConstraints(to_lower=True, pattern=r"^$|^[^\s,:/@]+(:[0-9]{1,5})?(,[^\s,:/@]+(:[0-9]{1,5})?)*$")
]
DatabaseUrl = Annotated[str, AfterValidator(_asynchronous)]
TracesEndpoint = Annotated[str, StringConstraints(pattern=r"^https?://[^\s/]+(/\S*)?$")]
PositiveSeconds = Annotated[float, Field(gt=0, le=3_600)]


class Settings(BaseSettings):
    """Everything that a worker may be told; each field is read from `CORRAL_` and its name in capitals."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", validate_default=True)

    pool: Identifier = Field(wire.DEFAULT_POOL, description="the pool of accelerators that this worker schedules")

    temporal_address: Address = Field(f"{LOOPBACK}:7233", description="host:port of the Temporal server")
    temporal_namespace: str = Field("default", min_length=1, description="Temporal namespace of the pool's workflows")
    temporal_api_key: SecretStr | None = Field(None, description="API key for the Temporal server; needs TLS")
    temporal_tls: bool = Field(False, description="talk to the Temporal server over TLS")
    temporal_tls_authority: FilePath | None = Field(
        None, description="PEM file with the certificates that Temporal's is trusted by; this machine's authorities without it"
    )
    temporal_tls_certificate: FilePath | None = Field(None, description="PEM file with the certificate to show (mTLS)")
    temporal_tls_key: FilePath | None = Field(None, description="PEM file with the key of that certificate, without a password")
    temporal_tls_server_name: str | None = Field(
        None, min_length=1, description="the name in Temporal's certificate, where that is not the host of the address"
    )
    payload_keys: SecretStr | None = Field(
        None,
        description="keys, as id:base64,..., by which payloads in Temporal are sealed (the first) and read (all)",
    )

    build_id: Identifier | None = Field(
        None, description="the version of this worker's code; with it the worker is given work once it is promoted"
    )

    principals_file: FilePath | None = Field(
        None, description="YAML file with those who may give commands, their keys and roles; without it everybody may"
    )
    claim_seconds: int = Field(3_600, ge=10, le=86_400, description="how long a signed command counts, in seconds of the wall")

    database_url: DatabaseUrl = Field(
        embedded_database_url(15432),
        repr=False,
        description="PostgreSQL, as postgresql+asyncpg://user:password@host:port/database",
    )

    clock_speed: float = Field(1, gt=0, le=FASTEST_CLOCK, description="how much faster than the wall's the pool's time runs")
    clock_origin: AwareDatetime | None = Field(
        None, description="when pool and wall showed the same time, such as 2026-01-31T12:00:00Z; needed unless the speed is 1"
    )

    fleet_file: FilePath | None = Field(
        None, description="YAML file with the providers and their fleets; a simulated one without it"
    )
    policy: str = Field(
        "default",
        min_length=1,
        description="YAML file, or preset, with the pool's first policy; `corral policy apply` changes it from then on",
    )
    tick_seconds: PositiveSeconds = Field(5, description="longest pause between two rounds, in seconds of the wall")
    reconcile_seconds: PositiveSeconds = Field(
        20, description="how often record, providers and workflows are compared whole, in seconds of the wall"
    )
    retention_days: int = Field(
        90, ge=7, le=36_500, description="how long is kept what has ended and nothing follows from, in days of the wall"
    )
    lease_seconds: float = Field(
        600, ge=1, le=86_400, description="how long a cluster may run work without hearing from us, in seconds of the wall"
    )
    lease_grace_seconds: float = Field(
        30, ge=0, le=3_600, description="what a cluster may take to stop its work when its lease is over, likewise"
    )
    lease_skew_seconds: float = Field(
        10, ge=0, le=3_600, description="how far the clocks of a cluster and PostgreSQL may differ, likewise"
    )
    suspect_seconds: float = Field(
        30, gt=0, le=3_600, description="how long a cluster may not answer before nothing new goes there, likewise"
    )
    growth_seconds: PositiveSeconds = Field(
        5, description="how often the growth of the fleet is planned anew, in seconds of the wall"
    )
    demand_hosts: HostList = Field(
        "",
        description="hosts that are asked for the demand of endpoints, as host:port,...; nobody is without it",
    )
    demand_token: SecretStr | None = Field(
        None, description="bearer token that those of them are shown that have none of their own"
    )
    demand_tokens: SecretStr | None = Field(None, description="bearer tokens of their own, as host:port=token,...")
    demand_seconds: PositiveSeconds = Field(5, description="how long they may take to answer, in seconds of the wall")
    sandbox: bool = Field(False, description="run workflows in Temporal's sandbox: slower, but strict")
    workflow_pollers: int = Field(40, ge=2, le=1_000, description="how many requests for workflow tasks a worker keeps open")
    log_level: LogLevel = Field(LogLevel.INFO, description="debug, info, warning or error")
    log_format: LogFormat = Field(LogFormat.TEXT, description="text for people, or json: one object a line")

    metrics_address: Address | None = Field(
        None, description="host:port at which Prometheus finds metrics of pool and worker; without it there are none"
    )
    temporal_metrics_address: Address | None = Field(
        None, description="host:port at which Prometheus finds the metrics of Temporal's SDK; without it there are none"
    )
    traces_endpoint: TracesEndpoint | None = Field(
        None, description="where traces are sent, such as http://127.0.0.1:4318/v1/traces (OTLP over HTTP); nowhere without it"
    )
    traces_ratio: float = Field(1, ge=0, le=1, description="the part that is kept of traces that begin here")

    state_dir: Path = Field(Path("var"), description="where the embedded servers keep their data, and the logs are")
    temporal_port: Port = Field(7233, description="port of the embedded Temporal server")
    temporal_ui_port: Port = Field(8233, description="port of the embedded Temporal server's web pages")
    postgres_port: Port = Field(15432, description="port of the embedded PostgreSQL")

    @field_validator("clock_origin")
    @classmethod
    def _origin_of_a_fast_clock(cls, origin: datetime | None, info: ValidationInfo) -> datetime | None:
        if origin is None and info.data.get("clock_speed", 1) != 1:
            raise ValueError(f"{variable('clock_speed')} is not 1, so the time at which the clocks agreed is expected")
        return origin

    @field_validator("suspect_seconds")
    @classmethod
    def _suspect_before_it_is_lost(cls, seconds: float, info: ValidationInfo) -> float:
        if seconds >= info.data.get("lease_seconds", seconds + 1):
            raise ValueError(f"less than {variable('lease_seconds')} is expected")
        return seconds

    @field_validator("temporal_tls")
    @classmethod
    def _no_key_in_the_clear(cls, tls: bool, info: ValidationInfo) -> bool:
        if info.data.get("temporal_api_key") is not None and not tls:
            raise ValueError(f"true is expected beside {variable('temporal_api_key')}, which must not travel in the clear")
        return tls

    @field_validator("temporal_tls_authority", "temporal_tls_certificate", "temporal_tls_key", "temporal_tls_server_name")
    @classmethod
    def _nothing_of_tls_without_it(cls, given: Path | str | None, info: ValidationInfo) -> Path | str | None:
        if given is not None and not info.data.get("temporal_tls", True):
            raise ValueError(f"{variable('temporal_tls')}=true is expected beside it")
        return given

    @field_validator("temporal_tls_authority")
    @classmethod
    def _authority(cls, authority: Path | None) -> Path | None:
        return authority and checked_authority(authority)

    @field_validator("temporal_tls_key")
    @classmethod
    def _key_of_certificate(cls, key: Path | None, info: ValidationInfo) -> Path | None:
        certificate = info.data.get("temporal_tls_certificate")
        return checked_key(certificate, key) if certificate or key else None

    @field_validator("payload_keys")
    @classmethod
    def _usable_keys(cls, keys: SecretStr | None) -> SecretStr | None:
        if keys is not None:
            keys_of(keys.get_secret_value())
        return keys

    @field_validator("demand_tokens")
    @classmethod
    def _tokens_of_hosts_that_are_asked(cls, tokens: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if tokens is not None and "demand_hosts" in info.data:
            _tokens_of(tokens, _hosts_in(info.data["demand_hosts"]))
        return tokens

    def tokens_by_host(self) -> dict[str, str]:
        """What each of the hosts is shown that may be asked for demand; empty: nothing."""
        hosts, for_all = _hosts_in(self.demand_hosts), self.demand_token.get_secret_value() if self.demand_token else ""
        return dict.fromkeys(hosts, for_all) | (_tokens_of(self.demand_tokens, hosts) if self.demand_tokens else {})

    def tls(self) -> TLSConfig | bool:
        """How to be sure of the Temporal server, and it of us; false where neither is wanted."""
        if not self.temporal_tls:
            return False
        return tls_of(
            authority=self.temporal_tls_authority,
            certificate=self.temporal_tls_certificate,
            key=self.temporal_tls_key,
            server_name=self.temporal_tls_server_name,
        )

    def clock(self, wall: Callable[[], datetime] = this_machines_wall) -> PoolClock:
        """The pool's clock; equal in all processes with these settings and the same wall."""
        return PoolClock(self.clock_origin or EPOCH, self.clock_speed, wall)

    def lease_terms(self) -> LeaseTerms:
        """How long leases last, by the pool's clock."""
        pool_second = timedelta(seconds=1 / self.clock().wall_seconds(1))
        return LeaseTerms(
            length=self.lease_seconds * pool_second,
            grace=self.lease_grace_seconds * pool_second,
            skew=self.lease_skew_seconds * pool_second,
            suspect_after=self.suspect_seconds * pool_second,
        )

    def embedded(self) -> Self:
        """The same settings, with the embedded servers as the ones to talk to."""
        return self.model_copy(
            update={
                "temporal_address": f"{LOOPBACK}:{self.temporal_port}",
                "temporal_namespace": "default",
                "temporal_api_key": None,
                "temporal_tls": False,
                "temporal_tls_authority": None,
                "temporal_tls_certificate": None,
                "temporal_tls_key": None,
                "temporal_tls_server_name": None,
                "database_url": embedded_database_url(self.postgres_port),
            }
        )

    def environment(self) -> dict[str, str]:
        """These settings as environment variables, so that a child process has the same ones. Holds the secrets."""
        given = ((name, getattr(self, name)) for name in type(self).model_fields)
        return {variable(name): _spelled(value) for name, value in given if value is not None}


class Description(NamedTuple):
    """One setting, in words: its name, its environment variable, its default and what it means."""

    name: str
    variable: str
    default: str
    meaning: str


def describe() -> list[Description]:
    """All settings, in the order in which they are declared."""
    return [
        Description(name, variable(name), _default(field), field.description or "")
        for name, field in Settings.model_fields.items()
    ]


def load_settings() -> Settings:
    """The settings in the environment.

    Raises:
        SettingsError: a variable is unknown, or has a value that cannot be used; all of them are named at once.
    """
    unknown = [_unknown(name) for name in _strangers(os.environ)]
    try:
        settings = Settings()
    except ValidationError as error:
        raise SettingsError("\n".join([*unknown, *map(_refusal, error.errors())])) from None
    if unknown:
        raise SettingsError("\n".join(unknown))
    return settings


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return PREFIX + name.upper()


def _strangers(environment: Mapping[str, str]) -> Iterable[str]:
    known = {variable(name) for name in Settings.model_fields} | NOT_OURS
    return sorted(name for name in environment if name.startswith(PREFIX) and name not in known)


def _unknown(name: str) -> str:
    near = nearest(name.removeprefix(PREFIX), [field.upper() for field in Settings.model_fields])
    meant = f"did you mean {' or '.join(map(variable, near))}? " if near else ""
    return f"{name} is not a setting of Corral; {meant}`python -m worker settings` lists them all"


def _refusal(error: ErrorDetails) -> str:
    name = str(error["loc"][0])
    value = "its value (not shown)" if _is_secret(name) else f"{str(error['input'])!r}"
    expected = error["msg"].removeprefix("Value error, ")
    return f"{variable(name)}: {value} cannot be used: {expected} ({Settings.model_fields[name].description})"


def _is_secret(name: str) -> bool:
    field = Settings.model_fields[name]
    return not field.repr or "Secret" in str(field.annotation)


def _default(field: FieldInfo) -> str:
    return "" if field.default is None else _spelled(field.default)


def _spelled(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case SecretStr():
            return value.get_secret_value()
        case datetime():
            return value.isoformat()
        case float():
            return f"{value:g}"
        case _:
            return str(value)
