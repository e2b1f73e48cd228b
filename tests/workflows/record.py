"""Records the histories of all scenarios anew: `python -m tests.workflows.record`.

Histories are kept to prove that workflows which began under older code go on under newer code. Add one for each new path;
record an old one anew only when no workflow of its kind can be running anywhere any more.
"""

import asyncio
import re
import sys
from pathlib import Path

from tests.servers import running_temporal
from tests.workflows.scenarios import SCENARIOS
from tests.workflows.stage import connected, open_stage

HISTORIES = Path(__file__).parent / "histories"


async def record(names: list[str]) -> None:
    """Record the scenarios of these names, or those that have no history yet."""
    wanted = names or [name for name in SCENARIOS if not (HISTORIES / f"{name}.json").exists()]
    async with running_temporal() as address, open_stage(await connected(address)) as stage:
        for name in wanted:
            _, handle = await SCENARIOS[name](stage)
            history = await handle.fetch_history()
            (HISTORIES / f"{name}.json").write_text(_without_traces_of_the_machine(history.to_json()) + "\n")


def _without_traces_of_the_machine(history: str) -> str:
    """Stack traces and identities name files and hosts, and mean nothing to a replay."""
    history = re.sub(r'"stackTrace": "(?:[^"\\]|\\.)*"', '"stackTrace": ""', history)
    return re.sub(r'"identity": "[^"]*"', '"identity": "recorder"', history)


if __name__ == "__main__":
    asyncio.run(record(sys.argv[1:]))
