"""Approval: what operators order that somebody else has to approve before anything comes of it."""

from collections.abc import Set
from datetime import datetime

from corral.api import EvacuationOrder
from corral.policy import Approvals
from corral.rollout import EffectKind, WhatIf


def why_evacuation(order: EvacuationOrder, approvals: Approvals) -> str:
    """Why an evacuation has to be approved; empty when it has not."""
    return f"emptying a {order.kind} has to be approved" if order.kind in approvals.evacuations else ""


def why_rollout(what_if: WhatIf, approvals: Approvals) -> str:
    """Why a change has to be approved, by what it would do; empty when it has not."""
    counts = what_if.counts
    leave, unprotected = counts.get(EffectKind.LEAVES, 0), counts.get(EffectKind.LOSES_PROTECTION, 0)
    if approvals.stops is not None and leave > approvals.stops:
        return f"{leave} workloads would have to leave, and more than {approvals.stops} have to be approved"
    if approvals.protection and unprotected:
        return f"{unprotected} workloads would lose protection, which has to be approved"
    return ""


def why_not_approved(who: Set[str], ordered_by: Set[str], until: datetime, approvals: Approvals, now: datetime) -> str:
    """Why somebody may not approve what somebody ordered, each by all names that they go by; empty when they may."""
    if now >= until:
        return f"approve: it had to be approved until {until.isoformat(timespec='seconds')}; order it again"
    if approvals.by_another and (same := sorted(who & ordered_by)):
        expected = "expected somebody else to approve it (--by; --principal where commands are signed)"
        return f"approve: {same[0]} has ordered it; {expected}"
    return ""


def why_not(verb: str, what: str, state: str, *, is_over: bool, awaits: bool, may_pause: bool) -> str | None:
    """Why an operation in that state cannot be steered so, in words, or none when it can."""
    if is_over:
        return f"{verb}: {what} is {state} already; only one that is under way can be changed"
    if verb in {"approve", "reject"} and not awaits:
        return f"{verb}: {what} is {state}; only one that awaits approval can be approved or rejected"
    if verb in {"pause", "resume"} and not may_pause:
        return f"{verb}: {what} is {state} and cannot be paused; abort it, and order it again"
    return None
