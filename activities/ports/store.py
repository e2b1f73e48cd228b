"""The record, subject by subject."""

from typing import Protocol

from activities.ports.attempts import Attempts
from activities.ports.forgetting import Forgetting
from activities.ports.growing import Growing
from activities.ports.operations import Operations
from activities.ports.outbox import Outbox
from activities.ports.reservations import Reservations
from activities.ports.rounds import Rounds
from activities.ports.rules import Rules
from activities.ports.signatures import Signatures
from activities.ports.standings import Standings
from activities.ports.supply import Supply


class NotAllowed(Exception):
    """A workload's state does not allow a change; the message says which state does."""


class NotFound(LookupError):
    """What somebody names is not there; the message says what was looked for, and where it could be seen what there is."""


class Store(
    Rounds, Standings, Attempts, Outbox, Signatures, Supply, Growing, Operations, Reservations, Rules, Forgetting, Protocol
):
    """The record. Every method is one transaction, done whole or not at all, and safe to repeat.

    Methods that change workloads answer with the notices that their workflows are to be given; the same notices stand in
    the outbox until `delivered` is called for them.
    """
