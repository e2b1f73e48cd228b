"""What a service may change of a workload that it has submitted, and the answer."""

from typing import Annotated

from pydantic import Field, StrictBool, StrictInt, StringConstraints

from corral.api.demand import Demand
from corral.api.model import MAXIMUM_REPLICAS, Identifier, Model, Seconds, ShortName, ShortText
from corral.api.status import State
from corral.api.workload import Target


class Resize(Model):
    """Change the count (and, if given, the minimum) of a replica group of a workload that does not run, or of an endpoint.

    One that has a hold gives it back, and waits again.
    """

    count: Annotated[StrictInt, Field(ge=1, le=MAXIMUM_REPLICAS)]
    minimum: Annotated[StrictInt, Field(ge=1, le=MAXIMUM_REPLICAS)] | None = None
    group: Identifier | None = None


class Retarget(Model):
    """Accept these targets from now on, in place of all that were accepted before; none accepts anything.

    What has capacity that one of them accepts keeps it. What runs elsewhere is only taken from there with `move`: it has
    notice, stops, and waits in line by its age until one of the new targets has room.
    """

    targets: Annotated[tuple[Target, ...], Field(max_length=32)]
    move: StrictBool = False


class ExtendRuntime(Model):
    """Let a workload with a maximum runtime run so many seconds longer, over all of its attempts."""

    seconds: Annotated[Seconds, Field(ge=1)]


class Reprioritize(Model):
    """Change the order inside the workload's tier and queue."""

    priority: Annotated[StrictInt, Field(ge=-1_000, le=1_000)]


class Cancel(Model):
    """End the workload, whatever it is doing; the reason is kept in its history."""

    reason: ShortText = ""


class Hold(Model):
    """Take the workload out of the line, stopping it with notice if it runs, until it is released."""

    reason: ShortText = ""


class Release(Model):
    """Put a held workload back in line."""


class Checkpointed(Model):
    """The work of the workload is saved up to now; one that has notice to leave is stopped without waiting for its grace."""


class Told(Model):
    """What is told to a workload without waiting for an answer; with the same key it counts once."""

    key: Annotated[ShortName, StringConstraints(min_length=1)]


class ToldDemand(Told):
    """The demand of an endpoint, told so."""

    demand: Demand


class Acknowledgement(Model):
    """The answer to a change: the state after it, and what was done in words."""

    state: State
    message: str
