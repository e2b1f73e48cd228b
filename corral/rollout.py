"""Roll-outs as services speak of them: a policy or queues tried on the pool as it is, applied, watched, perhaps taken back."""

import hashlib
import json
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Self

from pydantic import AwareDatetime, Field, StrictInt, StringConstraints, model_validator

from corral.api import (
    MAXIMUM_SECONDS,
    Identifier,
    Model,
    OperationKind,
    OperationNote,
    QueueTree,
    ShortName,
    ShortText,
    SlaTier,
)
from corral.policy import LintFinding, Policy, Share

Number = Annotated[StrictInt, Field(ge=0, le=10**6)]
WATCHED_SECONDS = 1_800


class Change(Model):
    """What is to be in force instead: a policy, or queues (those that it does not name stay as they are)."""

    policy: Policy | None = None
    queues: QueueTree | None = None

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if (self.policy is None) == (self.queues is None):
            raise ValueError("expected either a policy or queues, not both")
        return self

    @property
    def kind(self) -> OperationKind:
        """What kind of operation it takes."""
        return OperationKind.QUEUES if self.policy is None else OperationKind.POLICY

    @property
    def subject(self) -> str:
        """What it is about, on one line."""
        if self.policy is not None:
            return f"policy {self.policy.name}"
        names = self.names
        return f"queues {', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}"

    @property
    def names(self) -> tuple[str, ...]:
        """The queues that it gives."""
        return tuple(queue.name for queue in self.queues.queues) if self.queues else ()

    @property
    def digest(self) -> str:
        """SHA-256 of all that is not the default, in canonical JSON, in hexadecimal.

        What a newer Corral knows besides, and nobody has set, makes no other change of it.
        """
        return digest_of(self.model_dump(mode="json", exclude_defaults=True))


def digest_of(value: object) -> str:
    """SHA-256 of plain data in canonical JSON, in hexadecimal."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


class Conditions(Model):
    """What must not come to be while a change is watched; an absent one is not looked at.

    `waiting_share` is of the workloads that have not ended; `refused` counts those that were refused since, `stops_per_hour`
    who had to leave or move for others, and beyond those that were before, `promises_missed` counts those short of their tier's
    promise, and `undecided` those about which deciding fails.
    """

    waiting_share: Share | None = None
    refused: Number | None = None
    stops_per_hour: Number | None = None
    promises_missed: Number | None = None
    undecided: Number | None = 0


class Readings(Model):
    """What the conditions look at, as it is."""

    live: int = 0
    waiting: int = 0
    refused: int = 0
    stops: int = 0
    """In the last hour, as far as that is after the change."""
    promises_missed: int = 0
    undecided: int = 0


class RolloutOrder(Model):
    """Put a change in force, watch it for so many seconds of the pool, and go back when a condition is breached.

    The `token` is that of a what-if: the change is applied only while the pool is as it was then. Without one, what it would
    do is found out when it begins.
    """

    id: Identifier
    change: Change
    token: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")] | None = None
    reason: Annotated[ShortText, StringConstraints(min_length=1)]
    who: Annotated[ShortName, StringConstraints(min_length=1)]
    watch_seconds: Annotated[StrictInt, Field(ge=0, le=MAXIMUM_SECONDS)] = WATCHED_SECONDS
    conditions: Conditions = Conditions()

    @property
    def digest(self) -> str:
        """The same for the same order."""
        return digest_of(self.model_dump(mode="json"))


class EffectKind(StrEnum):
    """What a change does to a workload, or to a queue."""

    REFUSED = "refused"
    LEAVES = "leaves"
    MOVES = "moves"
    LOSES_PROTECTION = "loses-protection"
    OVER_CAP = "over-cap"
    WAITS = "waits"
    STARTS = "starts"
    STAYS = "stays"
    GAINS_PROTECTION = "gains-protection"

    @property
    def hurts(self) -> bool:
        """Whether somebody is worse off than without the change."""
        return self in {
            EffectKind.REFUSED,
            EffectKind.LEAVES,
            EffectKind.MOVES,
            EffectKind.LOSES_PROTECTION,
            EffectKind.OVER_CAP,
        }


class Effect(Model):
    """What a change does to one workload; of a queue that comes to be over its cap, `workload` is empty."""

    kind: EffectKind
    workload: str = ""
    queue: str
    tier: SlaTier | None = None
    accelerators: float
    message: str

    @property
    def name(self) -> str:
        """By which it is known again."""
        return f"{self.kind} {self.workload or self.queue}"


class Surroundings(Model):
    """What a what-if rests on besides work: the policy in force, the queues by name, and the accelerators that take work."""

    policy: str
    queues: Mapping[str, str]
    supply: Mapping[str, int]
    """By provider, region and SKU, as in `sim/us-east h100`."""


class WhatIf(Model):
    """What a change would do to the pool as it is, in the next round; `token` is the permission to apply it while that is so.

    With a finding that refuses it nothing else is worked out. `needs` says why somebody would have to approve it.
    """

    token: str
    surroundings: Surroundings
    findings: tuple[LintFinding, ...] = ()
    effects: tuple[Effect, ...] = ()
    needs: str = ""

    @property
    def hurt(self) -> tuple[str, ...]:
        """Who would be worse off, and how."""
        return tuple(effect.name for effect in self.effects if effect.kind.hurts)

    @property
    def in_words(self) -> str:
        """How many it would do what to."""
        return in_words(self.counts)

    @property
    def counts(self) -> dict[str, int]:
        """How many it would do what to, by kind."""
        kinds = [effect.kind for effect in self.effects]
        return {kind.value: kinds.count(kind) for kind in EffectKind if kind in kinds}


def in_words(counts: Mapping[str, int]) -> str:
    """Effects by kind on one line."""
    return ", ".join(f"{number} {kind}" for kind, number in counts.items()) or "nobody is concerned"


class RolloutState(StrEnum):
    """How far a roll-out is."""

    AWAITING = "awaiting-approval"
    """Somebody has to approve it first; nothing is changed before."""
    WATCHING = "watching"
    """The change is in force."""
    DONE = "done"
    """It has been watched to the end, and stays."""
    ROLLED_BACK = "rolled-back"
    """A condition was breached, and what was before is in force again."""
    OVERTAKEN = "overtaken"
    """Somebody has changed the same while it was watched; that stays."""
    STALE = "stale"
    """The pool was not any more as the what-if had it; nothing was changed."""
    REFUSED = "refused"
    """The change contradicts itself or the pool; nothing was changed."""
    REJECTED = "rejected"
    EXPIRED = "expired"
    """Nobody has approved it in time."""
    ABORTED = "aborted"
    """Somebody ended it; what was before is in force."""

    @property
    def is_over(self) -> bool:
        """Whether nothing more comes of it."""
        return self not in {RolloutState.AWAITING, RolloutState.WATCHING}


class RolloutStatus(Model):
    """How a roll-out stands; a higher version is newer. The last of its `trail` says why it is in its state.

    Until `due_at` it has to be approved, or is watched; `next_in` is in how many seconds (of the wall) something is due.
    """

    id: str
    kind: OperationKind
    subject: str
    state: RolloutState
    version: int
    who: str
    reason: str
    began_at: AwareDatetime
    due_at: AwareDatetime | None = None
    applied_at: AwareDatetime | None = None
    ended_at: AwareDatetime | None = None
    needs: str = ""
    foreseen: Mapping[str, int] = {}
    """How many the what-if said it would do what to."""
    readings: Readings | None = None
    trail: tuple[OperationNote, ...] = ()
    next_in: float | None = None
