"""A witness beside the record: triggers that keep what Corral itself forgets, and the tables of what others have seen."""

import json
import sqlite3
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, closing
from pathlib import Path

import asyncpg
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from corral import wire
from corral.api import State
from tests.chaos.scheduled import Scheduled
from tests.patience import PATIENCE_SECONDS

SCHEMA = """
CREATE SCHEMA witness;
CREATE TABLE witness.submitted (workload text PRIMARY KEY, ends text NOT NULL, may_be_cancelled boolean NOT NULL);
CREATE TABLE witness.closed (workload text PRIMARY KEY, status text NOT NULL);
CREATE TABLE witness.done (attempt text NOT NULL, kind text NOT NULL, at double precision NOT NULL, body jsonb NOT NULL);
CREATE TABLE witness.scheduled (schedule text PRIMARY KEY, to_be_ordered integer NOT NULL, due integer NOT NULL);
CREATE TABLE witness.left_over (attempt text PRIMARY KEY);
CREATE TABLE witness.claims (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, attempt_id text NOT NULL, node_id text NOT NULL, sign integer NOT NULL,
    uses integer[] NOT NULL, cpu_milli bigint NOT NULL, memory_mib bigint NOT NULL,
    wall timestamptz NOT NULL DEFAULT clock_timestamp());

CREATE TABLE witness.entered (attempt_id text NOT NULL, reservation text NOT NULL, spec jsonb NOT NULL);

CREATE FUNCTION witness.see_claim() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' AND OLD.phase = 'claimed' THEN
        INSERT INTO witness.claims (attempt_id, node_id, sign, uses, cpu_milli, memory_mib)
        VALUES (OLD.attempt_id, OLD.node_id, -1, OLD.uses, OLD.cpu_milli, OLD.memory_mib);
    END IF;
    IF TG_OP <> 'DELETE' AND NEW.phase = 'claimed' THEN
        INSERT INTO witness.claims (attempt_id, node_id, sign, uses, cpu_milli, memory_mib)
        VALUES (NEW.attempt_id, NEW.node_id, 1, NEW.uses, NEW.cpu_milli, NEW.memory_mib);
    END IF;
    RETURN NULL;
END $$;

-- By its name it comes after the trigger that locks the node, so that the claims of a node are numbered as they took effect.
CREATE TRIGGER witness_claim AFTER INSERT OR UPDATE OR DELETE ON allocations
FOR EACH ROW EXECUTE FUNCTION witness.see_claim();

-- Who comes to a node that is kept in an open window; looked at when the round is committed, which may have changed windows.
CREATE FUNCTION witness.see_entry() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO witness.entered SELECT NEW.attempt_id, r.id, r.spec
    FROM reservations r JOIN attempts a ON a.id = NEW.attempt_id
    WHERE r.state = 'open' AND NEW.node_id = ANY (r.nodes) AND a.follows IS NULL
      AND a.held_at >= r.opens_at AND a.held_at < r.closes_at;
    RETURN NULL;
END $$;

CREATE CONSTRAINT TRIGGER witness_entry AFTER INSERT ON allocations DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW EXECUTE FUNCTION witness.see_entry();
"""

REMEMBERED = """
CREATE TABLE IF NOT EXISTS witness (subject TEXT, kind TEXT, at REAL, body TEXT);
CREATE TRIGGER IF NOT EXISTS witness_change AFTER INSERT ON change
BEGIN INSERT INTO witness VALUES (new.subject, new.kind, new.at, new.body); END;
"""


@asynccontextmanager
async def connected(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to the record, given the address as SQLAlchemy wants it."""
    connection = await asyncpg.connect(database_url.replace("+asyncpg", ""))
    try:
        yield connection
    finally:
        await connection.close()


async def install(database_url: str, provider: Path) -> None:
    """Begin to watch: the record, and the simulated provider's file."""
    async with connected(database_url) as connection:
        await connection.execute(SCHEMA)
    with closing(sqlite3.connect(provider, timeout=PATIENCE_SECONDS)) as file:
        file.executescript(REMEMBERED)


async def testify(
    connection: asyncpg.Connection,
    temporal: Client,
    provider: Path,
    submitted: Mapping[str, State],
    cancelled: Iterable[str],
    scheduled: Iterable[Scheduled],
) -> None:
    """Write down what was submitted and how it ends if not cancelled, what became of the workflows, what the provider did.

    And how often schedules had to order something.
    """
    may_be_cancelled = set(cancelled)
    await connection.execute("TRUNCATE witness.submitted, witness.closed, witness.done, witness.left_over, witness.scheduled")
    await connection.executemany(
        "INSERT INTO witness.submitted VALUES ($1, $2, $3)",
        [(id, str(ends), id in may_be_cancelled) for id, ends in submitted.items()],
    )
    statuses = [(id, await _status(temporal, id)) for id in submitted]
    await connection.executemany("INSERT INTO witness.closed VALUES ($1, $2)", [row for row in statuses if row[1]])
    orders = [(each.id, each.to_be_ordered, each.due) for each in scheduled]
    await connection.executemany("INSERT INTO witness.scheduled VALUES ($1, $2, $3)", orders)
    done, left = _told_by(provider)
    await connection.executemany("INSERT INTO witness.done VALUES ($1, $2, $3, $4)", done)
    await connection.executemany("INSERT INTO witness.left_over VALUES ($1)", left)


async def _status(temporal: Client, workload: str) -> str | None:
    try:
        described = await temporal.get_workflow_handle(wire.workload_workflow_id(workload)).describe()
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return None
        raise
    return (described.status or WorkflowExecutionStatus.RUNNING).name


def _told_by(provider: Path) -> tuple[list[tuple[str, str, float, str]], list[tuple[str]]]:
    with closing(sqlite3.connect(provider, timeout=PATIENCE_SECONDS)) as file:
        rows = file.execute("SELECT subject, kind, at, body FROM witness").fetchall()
        left = file.execute("SELECT DISTINCT subject FROM change WHERE kind = 'launched'").fetchall()
    told = {"launched", "resized"}
    return [(subject, kind, at, body if kind in told else json.dumps(body)) for subject, kind, at, body in rows], left
