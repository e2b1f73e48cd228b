"""Judging a division alone: what each queue of a case may expect of the fleet."""

from collections.abc import Iterator

from corral.api import WHOLE
from domain.quota_models.deserved.shares import Claim, divide
from tests.conformance.cases import Case, Number, Queue

ROUNDING = 1
"""Thousandths by which a share may differ: sources count in floating point."""


def differences_in_shares(case: Case) -> Iterator[str]:
    """What each queue is given beside what is expected, and what is left beside what should be."""
    total = sum(_milli(node.gpus - node.foreign_gpus) for node in case.nodes)
    division = divide(total, [_claim(queue) for queue in case.queues])
    for queue, expected in case.expect.fair_share.items():
        if abs(division.shares[queue] - _milli(expected)) > ROUNDING:
            yield f"{queue} is given {division.shares[queue] / WHOLE:g}, expected {expected:g}"
    left = case.expect.unallocated
    if left is not None and abs(division.left - _milli(left)) > ROUNDING:
        yield f"{division.left / WHOLE:g} is left, expected {left:g}"


def _claim(queue: Queue) -> Claim:
    (quota,) = queue.quota
    return Claim(
        queue.id,
        demand=_milli(queue.demand or 0),
        deserved=None if quota.nominal is None else _milli(quota.nominal),
        limit=None if quota.limit is None else _milli(quota.limit),
        weight=round(quota.over_quota_weight or 0),
        priority=queue.priority or 0,
    )


def _milli(accelerators: Number) -> int:
    return round(accelerators * WHOLE)
