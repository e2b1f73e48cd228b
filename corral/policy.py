"""The policy: everything that operators may tune, as one typed, versioned and hashed document in four strata."""

import hashlib
import json
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import Field, StrictBool, StrictInt, model_validator

from corral.api import Identifier, Model, Seconds, SlaTier

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class QuotaModel(StrEnum):
    """Which rules divide the pool: see docs/decisions/quota-models.md."""

    RANKED = "ranked"
    COHORTS = "cohorts"
    DESERVED = "deserved"


class FairPreemption(StrEnum):
    """When a queue may take from another by fair share (Kueue's two strategies)."""

    LESS_THAN_OR_EQUAL_TO_FINAL_SHARE = "less-than-or-equal-to-final-share"
    LESS_THAN_INITIAL_SHARE = "less-than-initial-share"


class TopologyProfile(StrEnum):
    """How a domain is chosen among those that fit: the fullest, the fullest or (unconstrained) the emptiest, or evenly."""

    BEST_FIT = "best-fit"
    MIXED = "mixed"
    BALANCED = "balanced"


class TierPolicy(Model):
    """The promise and the protection of one tier: guaranteed GPU fraction (0 to 1), seconds before a preemption."""

    guarantee: Share
    minimum_runtime_seconds: Seconds


class DisruptionBudget(Model):
    """At most `stops` forced stops in any `period_seconds`, of what `queue` and `tier` select; absent ones select all."""

    queue: Identifier | None = None
    tier: SlaTier | None = None
    stops: Annotated[StrictInt, Field(ge=0, le=10**6)]
    period_seconds: Annotated[Seconds, Field(ge=1)] = 3_600


class Limits(Model):
    """Stratum 2: what is never exceeded, beside the quotas of the queue tree."""

    sku_classes: Mapping[Identifier, tuple[Identifier, ...]] = {}
    disruption_budgets: tuple[DisruptionBudget, ...] = ()
    starts_per_round: Annotated[StrictInt, Field(ge=1)] | None = None
    starts_per_queue_and_round: Annotated[StrictInt, Field(ge=1)] | None = None
    maximum_preemptions: Annotated[StrictInt, Field(ge=0, le=1_000)] = 5
    """A workload preempted that often is no longer a victim: bounded waiting for everybody."""


class Cohorts(Model):
    """What the quota model `cohorts` does: Kueue's rules over the queues' own `preemption` and `fungibility`."""

    fair_sharing: StrictBool = False
    fair_preemption: tuple[FairPreemption, ...] = (
        FairPreemption.LESS_THAN_OR_EQUAL_TO_FINAL_SHARE,
        FairPreemption.LESS_THAN_INITIAL_SHARE,
    )


class Deserved(Model):
    """What the quota model `deserved` does: KAI's rules over nominal (deserved), cap and over-quota weight."""

    consolidation: StrictBool = True


class Rank(Model):
    """Stratum 3: whose turn it is, and who may be stopped for whom."""

    quota_model: QuotaModel = QuotaModel.RANKED
    cohorts: Cohorts = Cohorts()
    deserved: Deserved = Deserved()
    tiers: Mapping[SlaTier, TierPolicy] = {
        SlaTier.PREMIUM: TierPolicy(guarantee=0.95, minimum_runtime_seconds=0),
        SlaTier.STANDARD: TierPolicy(guarantee=0.70, minimum_runtime_seconds=600),
        SlaTier.BASIC: TierPolicy(guarantee=0.0, minimum_runtime_seconds=300),
    }
    preemption: StrictBool = True

    @model_validator(mode="after")
    def _every_tier(self) -> Self:
        if missing := [tier for tier in SlaTier if tier not in self.tiers]:
            raise ValueError(
                f"tiers: {', '.join(missing)} missing; each of the three tiers needs a guarantee and a minimum runtime"
            )
        return self


class Goals(Model):
    """Stratum 4: what is preferred, in dollars per accelerator and hour."""

    topology: TopologyProfile = TopologyProfile.BEST_FIT


class Policy(Model):
    """One policy document. `hold_seconds` is how long held capacity waits to be bound, in seconds of the pool's clock."""

    format: Literal[1] = 1
    name: Identifier = "default"
    limits: Limits = Limits()
    rank: Rank = Rank()
    goals: Goals = Goals()
    hold_seconds: Annotated[Seconds, Field(ge=1)] = 3_600

    @property
    def document(self) -> dict[str, object]:
        """The policy as plain data, as it is written down."""
        return self.model_dump(mode="json")

    @property
    def digest(self) -> str:
        """SHA-256 of the policy in canonical JSON, in hexadecimal."""
        return hashlib.sha256(json.dumps(self.document, sort_keys=True).encode()).hexdigest()
