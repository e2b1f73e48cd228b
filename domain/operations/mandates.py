"""Mandates: what somebody signs once so that a schedule may order it, each of its times, until it ends or is revoked."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from corral.schedule import ScheduleSpec
from domain.calendar.cron import is_time_of, read, zone_of

EARLY = timedelta(seconds=60)
"""By how much the clock of whoever orders may be ahead."""


class BadMandate(ValueError):
    """What cannot be signed so; the message names the field, the value and what was expected."""


@dataclass(frozen=True, slots=True)
class Mandate:
    """What was signed and when; `longest` is how long a mandate may last by the policy in force, `revoked` why it ended."""

    spec: ScheduleSpec
    signed_at: datetime
    longest: timedelta
    revoked: str = ""


@dataclass(frozen=True, slots=True)
class Occasion:
    """By which mandate something is ordered, and the time of its schedule at which it was due."""

    mandate: str
    due_at: datetime


def require_signable(spec: ScheduleSpec, pool: str, longest: timedelta, now: datetime) -> None:
    """Make sure that a schedule can be signed for a pool.

    Raises:
        BadMandate: it has no end, or one that is too far away or over; or it is for another pool.
        domain.calendar.cron.BadCron: nobody could tell its times.
    """
    read(spec.cron)
    zone_of(spec.time_zone)
    if spec.pool != pool:
        raise BadMandate(f"pool: {spec.pool!r} is not this pool; expected {pool!r}")
    if spec.until is None:
        raise BadMandate("until: what is signed for a schedule ends some time; say until when (in the file, or with --for 30d)")
    if spec.until <= now:
        raise BadMandate(f"until: {_told(spec.until)} is over; expected a time to come")
    if spec.until > now + longest:
        raise BadMandate(
            f"until: {_told(spec.until)} is too far away; the policy in force allows {_told(now + longest)} at the latest "
            "(approvals.mandate_seconds)"
        )


def why_not_due(mandate: Mandate, due_at: datetime, now: datetime, late: timedelta) -> str:
    """Why nothing may be ordered by a mandate as of one time of its schedule, in words; empty when it may.

    What is later than `late` is not ordered any more.
    """
    spec, ends_at = mandate.spec, mandate.signed_at + mandate.longest
    if spec.until is not None:
        ends_at = min(ends_at, spec.until)
    if mandate.revoked:
        return mandate.revoked
    if due_at > ends_at:
        return f"it has ended at {_told(ends_at)}; sign the schedule again"
    if due_at < mandate.signed_at:
        return f"it was signed at {_told(mandate.signed_at)}, after the time that this is for"
    if not is_time_of(spec.cron, spec.time_zone, due_at):
        return f"{_told(due_at)} is no time of its schedule ({spec.cron} {spec.time_zone}); {_by_hand(spec)}"
    if due_at > now + EARLY:
        return f"the time that this is for, {_told(due_at)}, is yet to come"
    if due_at < now - late:
        return f"the time that this is for, {_told(due_at)}, was more than {late.total_seconds():.0f} s ago; {_by_hand(spec)}"
    return ""


def _by_hand(spec: ScheduleSpec) -> str:
    return f"whoever wants it now signs for that: corral schedule trigger {spec.id}"


def _told(time: datetime) -> str:
    return time.isoformat(timespec="seconds")
