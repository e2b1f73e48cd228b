"""One measured figure, as a JSON line."""

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Spread:
    """Median, least and greatest of several measurements."""

    median: float
    least: float
    greatest: float
    count: int


@dataclass(frozen=True, slots=True)
class Figure:
    """What was measured, with the reference and the ratio to it where there is one."""

    name: str
    unit: str
    value: Spread
    reference: Spread | None = None
    ratio: Spread | None = None

    def as_json(self) -> str:
        """One line; what is absent is left out."""
        return json.dumps({key: value for key, value in asdict(self).items() if value is not None})


def spread(measured: Sequence[float]) -> Spread:
    """Sum several measurements up, to four significant digits."""
    values = [float(f"{value:.4g}") for value in measured]
    return Spread(float(f"{statistics.median(values):.4g}"), min(values), max(values), len(values))
