"""The wall clock of this process's machine, as all of Corral's code in this process sees it; it can be set."""

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Any, Self

OURS = ("activities", "corral", "domain", "worker", "workflows")


@dataclass
class MachineWall:
    """How many seconds it is ahead of what it should show."""

    ahead: float = 0.0

    @classmethod
    def installed(cls) -> Self:
        """One that is shown from now on, by `time` to everybody and by `datetime` to every module of Corral's."""
        wall, real_time, real_nanoseconds = cls(), time.time, time.time_ns

        class ItsInstances(type):
            def __instancecheck__(cls, instance: object) -> bool:
                return isinstance(instance, datetime)

        class Shown(datetime, metaclass=ItsInstances):
            @classmethod
            def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
                return datetime.fromtimestamp(real_time() + wall.ahead, tz)

        time.time = lambda: real_time() + wall.ahead
        time.time_ns = lambda: real_nanoseconds() + int(wall.ahead * 1e9)
        for names in _of_our_modules():
            names.update({name: Shown for name, value in names.items() if value is datetime})
        return wall


def _of_our_modules() -> list[dict[str, Any]]:
    modules: Mapping[str, Any] = dict(sys.modules)
    return [vars(module) for name, module in modules.items() if name.partition(".")[0] in OURS]
