"""A scenario: what is submitted and done to a pool, when, and how each workload is to end."""

from dataclasses import dataclass
from enum import StrEnum

from corral.api import Catalogue, QueueTree, State, WorkloadSpec
from corral.policy import Policy
from worker.fleet_file import FleetFile

SUCCEEDS = frozenset({State.SUCCEEDED})


class Verb(StrEnum):
    """What somebody does to a workload, to the first node on which it runs, or to the pool."""

    CANCEL = "cancel"
    HOLD = "hold"
    RELEASE = "release"
    REPRIORITIZE = "reprioritize"
    RESIZE = "resize"
    DRAIN = "drain"
    UNCORDON = "uncordon"
    LOSE_NODE = "lose-node"
    RECOVER_NODE = "recover-node"
    FOLLOW_FIX = "follow-fix"
    ASK_WHY = "ask-why"
    APPLY_POLICY = "apply-policy"


@dataclass(frozen=True, slots=True)
class Arrival:
    """A workload handed over `at` seconds of the pool's time after the start; `ends` are the states it may end in."""

    at: float
    kind: str
    spec: WorkloadSpec
    ends: frozenset[State] = SUCCEEDS


@dataclass(frozen=True, slots=True)
class Deed:
    """Something done to a workload while it lives, or to the pool; what else the verb needs is its `amount` or `policy`."""

    at: float
    verb: Verb
    workload: str
    why: str
    amount: int = 0
    policy: Policy | None = None

    @property
    def key(self) -> str:
        """The same for the same deed, so that repeating it is doing it once."""
        return f"{self.verb}/{self.workload}/{self.at:g}"


@dataclass(frozen=True, slots=True)
class Scenario:
    """Everything that a run needs to know beforehand; the same scenario is the same submissions.

    `clock_speed` is how much faster than the wall's the pool's time runs; `notes` is what readers must know of it.
    """

    title: str
    clock_speed: float
    fleet: FleetFile
    queues: QueueTree
    arrivals: tuple[Arrival, ...]
    deeds: tuple[Deed, ...] = ()
    data: Catalogue | None = None
    notes: tuple[str, ...] = ()
