"""Roles: who may give which command, and why not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """What a principal is trusted with; each may do what those before it may, where it is granted."""

    SUBMIT = "submit"
    """Submit to a queue, and change what one has submitted oneself."""
    OWN = "own"
    """Whatever is about a queue's workloads and reservations."""
    OPERATE = "operate"
    """Everything, in the whole pool."""


NEEDS: Mapping[str, Role] = {
    "submit": Role.SUBMIT,
    "cancel": Role.SUBMIT,
    "hold": Role.SUBMIT,
    "release": Role.SUBMIT,
    "resize": Role.SUBMIT,
    "retarget": Role.SUBMIT,
    "demand": Role.SUBMIT,
    "checkpointed": Role.SUBMIT,
    "extend": Role.OWN,
    "reprioritize": Role.OWN,
    "reserve": Role.OWN,
    "extend-reservation": Role.OWN,
    "cancel-reservation": Role.OWN,
    "cordon": Role.OPERATE,
    "evacuate": Role.OPERATE,
    "roll-out": Role.OPERATE,
    "steer-operation": Role.OPERATE,
    "mandate": Role.OPERATE,
    "revoke-mandate": Role.OPERATE,
    "apply-queues": Role.OPERATE,
    "apply-datasets": Role.OPERATE,
    "apply-policy": Role.OPERATE,
    "declare-lost": Role.OPERATE,
}
"""The least role that a command needs."""

RANK = tuple(Role)


@dataclass(frozen=True, slots=True)
class Grant:
    """A role on queues, and on all below them; to operate is always on the whole pool."""

    role: Role
    queues: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class About:
    """What a command is about: its name, the lines of its queues from each up to its root, and who submitted the workload.

    Without queues it is about the pool, or about what belongs to no queue.
    """

    what: str
    lines: Sequence[Sequence[str]] = ()
    submitter: str | None = None


def refusal(who: str, grants: Sequence[Grant], command: str, about: About) -> str | None:
    """Why a principal may not give a command, in words, or none when it may."""
    role = NEEDS[command]
    if any(grant.role is Role.OPERATE for grant in grants):
        return None
    of_others = role is Role.SUBMIT and command != "submit" and about.submitter != who
    needed = Role.OWN if of_others else role
    missing = [line[0] for line in about.lines if not any(_covers(grant, needed, line) for grant in grants)]
    if needed is not Role.OPERATE and about.lines and not missing:
        return None
    where = f" on queue {', '.join(missing)}" if missing and needed is not Role.OPERATE else ""
    wanted = needed if needed is Role.OPERATE or about.lines else Role.OPERATE
    whose = f", as {about.submitter or 'somebody else'} submitted it" if of_others else ""
    return (
        f"{command}: {who!r} may not do this to {about.what}: it needs the role '{wanted}'{where}{whose}; "
        "who operates the pool can grant it, in its file of principals"
    )


def _covers(grant: Grant, needed: Role, line: Sequence[str]) -> bool:
    return RANK.index(grant.role) >= RANK.index(needed) and any(queue in grant.queues for queue in line)
