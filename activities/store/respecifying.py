"""Specs that somebody changes: valid as a whole, or not changed at all."""

from typing import Any

from pydantic import ValidationError

from activities.ports import NotAllowed
from corral.api import WorkloadSpec


def respecified(spec: WorkloadSpec, what: str, **fields: Any) -> WorkloadSpec:
    """The spec with other fields; `what` names in the error what somebody asked for.

    Raises:
        NotAllowed: it makes no sense so.
    """
    try:
        return WorkloadSpec.model_validate(spec.model_dump() | fields)
    except ValidationError as error:
        problems = (problem["msg"].removeprefix("Value error, ") for problem in error.errors(include_url=False))
        raise NotAllowed(f"{what} is not possible: {'; '.join(problems)}") from error
