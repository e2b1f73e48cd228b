"""Records the histories of all scenarios anew: `python -m tests.workflows.record`.

Histories are kept to prove that workflows which began under older code go on under newer code. Add one for each new path;
record an old one anew only when no workflow of its kind can be running anywhere any more.
"""

import asyncio
import re
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from temporalio.client import Client, WorkflowHandle

from tests.servers import running_temporal
from tests.workflows.evacuations import EVACUATIONS
from tests.workflows.growth import GROWTHS
from tests.workflows.providers import PROVIDERS
from tests.workflows.reservation_scenarios import POOL, RESERVATION_SCENARIOS, a_fast_book
from tests.workflows.rollouts import ROLLOUTS
from tests.workflows.scenarios import HASTY_SCENARIOS, SCENARIOS
from tests.workflows.singletons import SINGLETONS
from tests.workflows.stage import Stage, connected, hasty_server, open_stage

HISTORIES = Path(__file__).parent / "histories"

ON_A_STAGE: Mapping[str, Callable[[Stage], Awaitable[tuple[object, WorkflowHandle[Any, Any]]]]] = {
    **SCENARIOS,
    **EVACUATIONS,
    **ROLLOUTS,
    **GROWTHS,
}
BY_THEMSELVES: Mapping[str, Callable[[Client], Awaitable[WorkflowHandle[Any, Any]]]] = {**SINGLETONS, **PROVIDERS}
EVERY = (*ON_A_STAGE, *HASTY_SCENARIOS, *RESERVATION_SCENARIOS, *BY_THEMSELVES)
"""The names of all scenarios."""


async def record(names: list[str]) -> None:
    """Record the scenarios of these names, or those that have no history yet."""
    wanted = names or [name for name in EVERY if not (HISTORIES / f"{name}.json").exists()]
    async with running_temporal() as address, open_stage(await connected(address)) as stage:
        for name in (name for name in wanted if name not in HASTY_SCENARIOS):
            await _keep(name, await _played(name, stage))
    async with hasty_server() as client, open_stage(client) as stage:
        for name in (name for name in wanted if name in HASTY_SCENARIOS):
            await _keep(name, (await HASTY_SCENARIOS[name](stage))[1])


async def _keep(name: str, handle: WorkflowHandle[Any, Any]) -> None:
    history = await handle.fetch_history()
    (HISTORIES / f"{name}.json").write_text(_without_traces_of_the_machine(history.to_json()) + "\n")


async def _played(name: str, stage: Stage) -> WorkflowHandle[Any, Any]:
    if name in ON_A_STAGE:
        return (await ON_A_STAGE[name](stage))[1]
    if name in BY_THEMSELVES:
        return await BY_THEMSELVES[name](stage.client)
    return await _reservation(name, stage.client)


async def _reservation(name: str, client: Client) -> WorkflowHandle[Any, Any]:
    book = a_fast_book()
    async with open_stage(client, *book.activities, name=POOL):
        return await RESERVATION_SCENARIOS[name](client, book)


def _without_traces_of_the_machine(history: str) -> str:
    """Stack traces and identities name files and hosts, and mean nothing to a replay."""
    history = re.sub(r'"stackTrace": "(?:[^"\\]|\\.)*"', '"stackTrace": ""', history)
    return re.sub(r'"identity": "[^"]*"', '"identity": "recorder"', history)


if __name__ == "__main__":
    asyncio.run(record(sys.argv[1:]))
