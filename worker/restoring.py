"""Taking up a record that was restored from a backup, before workers serve its pool again."""

import asyncio
from collections.abc import AsyncIterator, Callable

from temporalio.client import Client

from activities.ports import Observation, Phase, Provider, ProviderError
from activities.store.postgres import PostgresStore
from corral import wire
from corral.client import Corral
from worker.observing.traces import UNTRACED
from worker.settings import Settings
from worker.supervision import CannotStart
from worker.temporal_server import LONGEST_POLL, connect, polling
from worker.wiring import assembled

RELEASED_WITHIN_SECONDS = 60.0
LOOK_SECONDS = 0.2
ASKED_AT_ONCE = 500


async def take_up(settings: Settings, say: Callable[[str], None]) -> bool:
    """Let nothing run that the record knows nothing of, and everybody hear what it says; answers whether all that was done.

    May be repeated. Workflows hear of it when a worker serves.

    Raises:
        CannotStart: workers serve the pool, or may do so.
        NoAnswer: PostgreSQL or Temporal cannot be used.
        Unusable: the record is not of a version that this code can use.
    """
    client = await connect(settings)
    await require_nobody_serves(client, settings.pool)
    async with assembled(settings, client, UNTRACED) as parts:
        told = await parts.store.take_up(settings.lease_terms())
        say(f"{told} workloads will be told how they stood.")
        left = [await release_strangers(parts.store, provider, say) for provider in parts.providers.values()]
        woken = await wake_the_unknown(client, settings.pool, parts.store)
        say(f"{woken} workloads are younger than the backup, and will be admitted anew.")
    return not any(left)


async def require_nobody_serves(client: Client, pool: str) -> None:
    """Refuse to go on beside workers: what they do between two looks at the record would be as if it had never been.

    Raises:
        CannotStart: names those that ask for work, or did so too recently to be known to be gone.
    """
    if serving := await polling(client, pool):
        named = ", ".join(f"{worker} ({ago.total_seconds():.0f} s ago)" for worker, ago in sorted(serving.items()))
        raise CannotStart(
            f"nothing was done: workers have asked for work of the pool {pool}: {named}; stop them all, and run this again "
            f"{LONGEST_POLL.seconds} s after the last has asked: one that lives asks again within that time"
        )


async def release_strangers(store: PostgresStore, provider: Provider, say: Callable[[str], None]) -> int:
    """Stop what runs at a provider without the record knowing it, so that it cannot run twice; answers how many still run."""
    loop, released = asyncio.get_running_loop(), set[str]()
    give_up = loop.time() + RELEASED_WITHIN_SECONDS
    try:
        while (strangers := await _strangers(store, provider)) and loop.time() < give_up:
            for stranger in strangers:
                await provider.release(stranger.attempt_id, stranger.epoch)
                released.add(stranger.attempt_id)
            await asyncio.sleep(LOOK_SECONDS)
    except (ProviderError, OSError) as error:
        say(f"{provider.name} does not answer ({error or type(error).__name__}); run this again when it does")
        return 1
    say(f"{provider.name}: {len(released)} attempts were younger than the backup, and were stopped.")
    if strangers:
        say(f"{provider.name}: still there: {', '.join(stranger.attempt_id for stranger in strangers)}; run this again")
    return len(strangers)


async def _strangers(store: PostgresStore, provider: Provider) -> list[Observation]:
    snapshot = await provider.snapshot()
    rightful = {attempt.id for attempt in await store.open_attempts_at(provider.name)}
    running = [seen for seen in snapshot.attempts if not seen.phase.is_over and seen.phase is not Phase.UNKNOWN]
    return [seen for seen in running if seen.attempt_id not in rightful]


async def wake_the_unknown(client: Client, pool: str, store: PostgresStore) -> int:
    """Have workflows of workloads that the record does not know look there; answers how many these are."""
    corral, woken = Corral(client, pool), 0
    async for batch in _live_workloads(client, pool):
        unknown = sorted(set(batch) - await store.known(batch))
        for workload in unknown:
            await corral.wake(workload)
        woken += len(unknown)
    return woken


async def _live_workloads(client: Client, pool: str) -> AsyncIterator[list[str]]:
    """Those whose workflow runs, some at a time."""
    query = f"WorkflowType = '{wire.LIFECYCLE}' AND TaskQueue = '{wire.pool_task_queue(pool)}' AND ExecutionStatus = 'Running'"
    batch: list[str] = []
    async for found in client.list_workflows(query):
        batch.append(found.id.removeprefix(wire.workload_workflow_id("")))
        if len(batch) == ASKED_AT_ONCE:
            yield batch
            batch = []
    yield batch
