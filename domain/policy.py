"""What operators may tune, as one frozen value."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from corral.api import SlaTier


@dataclass(frozen=True, slots=True)
class TierPolicy:
    """The promise and the protection of one tier: guaranteed GPU fraction (0 to 1), seconds before a preemption."""

    guarantee: float
    minimum_runtime_seconds: int


def _default_tiers() -> Mapping[SlaTier, TierPolicy]:
    return {
        SlaTier.PREMIUM: TierPolicy(guarantee=0.95, minimum_runtime_seconds=0),
        SlaTier.STANDARD: TierPolicy(guarantee=0.70, minimum_runtime_seconds=600),
        SlaTier.BASIC: TierPolicy(guarantee=0.0, minimum_runtime_seconds=300),
    }


@dataclass(frozen=True, slots=True)
class Policy:
    """`hold_seconds`: how long held capacity waits to be bound. Times are seconds of the pool's clock."""

    tiers: Mapping[SlaTier, TierPolicy] = field(default_factory=_default_tiers)
    hold_seconds: int = 3_600
    preemption: bool = True
    maximum_preemptions: int = 5
    """A workload preempted that often is no longer a victim: bounded waiting for everybody."""

    @property
    def document(self) -> Mapping[str, object]:
        """The policy as plain data, as it is written down."""
        return asdict(self)

    @property
    def digest(self) -> str:
        """SHA-256 of the policy in canonical JSON, in hexadecimal."""
        return hashlib.sha256(json.dumps(self.document, sort_keys=True).encode()).hexdigest()
