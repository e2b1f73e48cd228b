"""Commands of the worker whose servers do not answer: where they were looked for, why not, and which setting says where."""

import asyncio
import os
import sys
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.ext.asyncio import create_async_engine
from temporalio.exceptions import ApplicationError
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput

from activities.store.migrations import upgrade
from corral.cli.exits import ExitCode
from corral.wire import Failure
from tests.ports import free_port
from worker.reaching import TellUnfit
from worker.settings import LOOPBACK, embedded_database_url


async def worker(command: str, **environment: str) -> tuple[int, str]:
    """What the command answers when it cannot be done: exit code and errors."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "worker", command),
        env={**os.environ, "CORRAL_LOG_LEVEL": "error", "CORRAL_BUILD_ID": "one"} | environment,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await process.communicate()
    return process.returncode or 0, errors.decode()


@pytest.mark.parametrize("command", ["audit", "migrate", "serve"])
async def test_a_database_that_does_not_answer_is_named(temporal: str, command: str) -> None:
    port = free_port()
    url = embedded_database_url(port, "corral")
    code, errors = await worker(command, CORRAL_DATABASE_URL=url, CORRAL_TEMPORAL_ADDRESS=temporal)
    assert (code, errors.count("\n")) == (ExitCode.UNREACHABLE, 1), errors
    assert f"the database corral at {LOOPBACK}:{port} cannot be used" in errors
    assert "Connection refused; is PostgreSQL running, and is CORRAL_DATABASE_URL right?" in errors


@pytest.mark.parametrize("command", ["promote", "serve"])
async def test_a_temporal_server_that_does_not_answer_is_named(command: str) -> None:
    address = f"{LOOPBACK}:{free_port()}"
    code, errors = await worker(command, CORRAL_TEMPORAL_ADDRESS=address)
    assert (code, errors.count("\n")) == (ExitCode.UNREACHABLE, 1), errors
    assert f"no Temporal server answers at {address}: Connection refused" in errors


async def test_a_database_that_is_not_there_is_told_from_one_without_tables_and_from_a_sound_one(database_url: str) -> None:
    code, errors = await worker("audit", CORRAL_DATABASE_URL=f"{database_url}-not")
    assert (code, errors.count("\n")) == (ExitCode.UNREACHABLE, 1), errors
    assert "does not exist" in errors
    code, errors = await worker("audit", CORRAL_DATABASE_URL=database_url)
    assert (code, "bring it there with `python -m worker migrate`" in errors) == (2, True), errors
    await upgrade(database_url)
    assert await worker("audit", CORRAL_DATABASE_URL=database_url) == (0, "")


# What activities meet


class Meets(ActivityInboundInterceptor):
    """An activity that asks the database something."""

    def __init__(self, url: str, statement: str) -> None:
        self._url = url
        self._statement = statement

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        engine = create_async_engine(self._url)
        try:
            async with engine.begin() as connection:
                await connection.execute(text(self._statement))
        finally:
            await engine.dispose()


async def met(url: str, statement: str) -> Exception:
    asked = ExecuteActivityInput(fn=lambda: None, args=(), executor=None, headers={})
    with pytest.raises(Exception) as failed:  # noqa: PT011  which one it is, is what is looked at
        await TellUnfit().intercept_activity(Meets(url, statement)).execute_activity(asked)
    return failed.value


UNFIT = {
    "read only": "DO $$ BEGIN SET TRANSACTION READ ONLY; CREATE TABLE a (); END $$",
    "no room": "DO $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full', HINT = 'Check.'; END $$",
    "too many": "DO $$ BEGIN RAISE EXCEPTION 'too many clients' USING ERRCODE = 'too_many_connections'; END $$",
    "ended": "SELECT pg_terminate_backend(pg_backend_pid())",
}


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("read only", "cannot execute CREATE TABLE in a read-only transaction"),
        ("no room", "could not extend file; HINT:  Check."),
        ("too many", "too many clients"),
        ("ended", "terminating connection due to administrator command"),
    ],
)
async def test_a_server_that_cannot_be_used_is_told_in_one_line_and_asked_again(
    database_url: str, what: str, words: str
) -> None:
    error = await met(database_url, UNFIT[what])
    assert isinstance(error, ApplicationError)
    assert (error.type, error.non_retryable, error.__cause__) == (Failure.UNAVAILABLE, False, None)
    assert error.message.startswith("PostgreSQL could not be used: ")
    assert error.message.endswith(words)
    assert "\n" not in error.message


async def test_what_makes_no_sense_to_the_server_stays_as_it_is(database_url: str) -> None:
    assert isinstance(await met(database_url, "SELECT nonsense"), ProgrammingError)
