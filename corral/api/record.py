"""What is recorded of rounds, and of orders that were signed."""

from collections.abc import Mapping
from datetime import datetime

from corral.api.model import Model


class RoundStatus(Model):
    """One round as it was recorded; amounts are accelerators.

    `started_accelerators` began on free capacity, of the `bound` that any plan could have started at most; `gap` is the part of
    the bound that was not reached. `improved` workloads start beyond what turns alone would have given, `moved` ones start
    elsewhere for them, by `method`; a `fallback` says why a better plan was not looked for to the end. A region's balance is
    the demand that is meant for it over its supply, in the worst region, before and after. Rounds of older versions have no
    figures. Milliseconds are by step.
    """

    id: int
    at: datetime
    trigger: str
    considered: int
    started: int
    preempted: int
    refused: int
    started_accelerators: float | None = None
    bound: float | None = None
    gap: float | None = None
    method: str | None = None
    improved: int = 0
    moved: int = 0
    fallback: str | None = None
    worst_region_before: float | None = None
    worst_region_after: float | None = None
    milliseconds: Mapping[str, float] = {}


class OrderRecord(Model):
    """Who ordered what and when, by a signature that was verified; the subject is a workflow's id, or the pool.

    What a schedule ordered was signed by a mandate, and `due_at` is the time of the schedule that it was for.
    """

    at: datetime
    principal: str
    command: str
    subject: str
    request: str
    mandate: str | None = None
    due_at: datetime | None = None
