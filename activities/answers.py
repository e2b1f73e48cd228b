"""What activities tell workflows: small frozen values, never a spec or a snapshot."""

from dataclasses import dataclass

from corral.api import Outcome, Reason, State


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a workload stands in the record, as far as its workflow must know.

    `version` rises with every change: of two standings the higher version is so, whatever the order of their arrival.
    `runtime_left` is in seconds of the wall, and none where the runtime is not limited.
    """

    workload: str
    version: int
    state: State
    epoch: int
    provider: str | None = None
    region: str | None = None
    sku: str | None = None
    place: str = ""
    reason: Reason | None = None
    message: str = ""
    outcome: Outcome | None = None
    exit_code: int | None = None
    runtime_left: float | None = None


@dataclass(frozen=True, slots=True)
class Notice:
    """A standing that a workload's workflow has not been told yet; `id` is its place in the outbox."""

    id: int
    standing: Standing


@dataclass(frozen=True, slots=True)
class AttemptKey:
    """One attempt to run a workload."""

    workload: str
    epoch: int


@dataclass(frozen=True, slots=True)
class Adjustment:
    """A change asked for by somebody; `key` is the same when it is asked again."""

    workload: str
    key: str
    reason: str = ""
    priority: int | None = None
    group: str | None = None
    count: int | None = None
    minimum: int | None = None
