"""The client: everything a service does with Corral, over Temporal handles."""

from corral.client.changes import Changes
from corral.client.connection import Submission
from corral.client.errors import Conflict, CorralError, Forbidden, Invalid, NotFound, PolicyRefused, Unreachable
from corral.client.operations import Operations
from corral.client.pool import Pool
from corral.client.reservations import Reservations
from corral.client.schedules import Schedules
from corral.client.workloads import Workloads

__all__ = [
    "Conflict",
    "Corral",
    "CorralError",
    "Forbidden",
    "Invalid",
    "NotFound",
    "PolicyRefused",
    "Submission",
    "Unreachable",
]


class Corral(Workloads, Changes, Pool, Reservations, Operations, Schedules):
    """A connection to one pool, subject by subject.

    What goes wrong is a `CorralError`, whose message says what was wrong and what to do. Every method raises `Unreachable` when
    there is no answer within 30 seconds (`wait`: when Temporal does not answer), and `Forbidden` where the pool wants to know
    who asks and they may not do this. A model of `corral.api` that makes no sense raises pydantic's `ValidationError` at once.
    """
