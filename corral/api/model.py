"""What the models of the language are made of: names, units and bounds."""

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, StrictInt, StringConstraints

WHOLE = 1000
"""Thousandths in one whole accelerator: the unit of every amount of accelerators."""

MAXIMUM_REPLICAS = 10_000
MAXIMUM_SECONDS = 366 * 24 * 3600
HOUR_SECONDS = 3_600

Identifier = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,99}$")]
"""1 to 100 lower-case letters, digits, dots, dashes and underscores, beginning with a letter or a digit."""

NO_ZERO_BYTE = r"^[^\x00]*$"
"""Neither a process nor a database takes one."""

ShortText = Annotated[str, StringConstraints(max_length=1_000, pattern=NO_ZERO_BYTE)]
ShortName = Annotated[str, StringConstraints(max_length=200, pattern=NO_ZERO_BYTE)]
Seconds = Annotated[StrictInt, Field(ge=0, le=MAXIMUM_SECONDS)]


def _within_calendars(time: datetime) -> datetime:
    if not datetime.min.replace(tzinfo=UTC) <= time <= datetime.max.replace(tzinfo=UTC):
        raise ValueError("no calendar goes so far; expected a time in the years 1 to 9999, as UTC has them")
    return time


Time = Annotated[AwareDatetime, AfterValidator(_within_calendars)]
"""A moment, with its offset from UTC, that the record can keep."""


class Model(BaseModel):
    """Frozen, and closed: a field that is not known is refused rather than ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)
