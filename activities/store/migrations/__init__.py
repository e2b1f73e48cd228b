"""The history of the tables, the step that brings a database to its newest version, and who can use it as it is.

A revision says which is the `oldest_worker` that can use what it, or the code that comes with it, writes; else it is as before.
Revisions are numbers of four digits, so that a later one is greater.
"""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from activities.store import tables

if TYPE_CHECKING:  # else a worker, which changes no tables, would load all that can
    from alembic.config import Config

LOCK = 7_267_735
"""The advisory lock under which one process at a time migrates."""

BASE = "0000"


class Unusable(Exception):
    """The record is of a version that this code cannot use; the message says which, and what to do."""


def configuration(connection: Connection | None = None) -> "Config":
    """Alembic's settings, for a connection if there is one."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["connection"] = connection
    return config


@cache
def newest() -> str:
    """The version of the record that this code is of."""
    return max(script.name.partition("_")[0] for script in (Path(__file__).parent / "versions").glob("[0-9]*.py"))


@cache
def oldest_worker() -> str:
    """The oldest version whose workers can use the record as this code leaves it."""
    from alembic.script import ScriptDirectory

    revisions = ScriptDirectory.from_config(configuration()).walk_revisions()
    return max(str(getattr(each.module, "oldest_worker", BASE)) for each in revisions)


async def upgrade(url: str) -> None:
    """Bring the database at a SQLAlchemy URL to the newest version; does nothing when it is there already.

    Raises:
        Unusable: it is of a newer version than this code.
    """
    from alembic import command

    engine = create_async_engine(url)
    try:
        async with engine.begin() as connection:
            await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
            found = await _version(connection)
            if found is not None and found > newest():
                raise Unusable(f"the record is of version {found} already, and this code of {newest()}: nothing was changed")
            await connection.run_sync(lambda sync: command.upgrade(configuration(sync), "head"))
            written = insert(tables.compatibility).values(what=OLDEST_WORKER, version=oldest_worker())
            await connection.execute(
                written.on_conflict_do_update(index_elements=["what"], set_={"version": written.excluded.version})
            )
    finally:
        await engine.dispose()


OLDEST_WORKER = "oldest-worker"


async def require_usable(connection: AsyncConnection) -> None:
    """Make sure that workers with this code can use the record as it is.

    Raises:
        Unusable: it has to be migrated before, or only newer workers can.
    """
    mine, found = newest(), await _version(connection)
    if found is None or found < mine:
        what = "has no tables of Corral" if found is None else f"is of version {found}"
        raise Unusable(
            f"the database {what}, and this worker needs version {mine}; bring it there with `python -m worker migrate`"
        )
    oldest = await connection.scalar(select(tables.compatibility.c.version).where(tables.compatibility.c.what == OLDEST_WORKER))
    if oldest is not None and oldest > mine:
        raise Unusable(
            f"the record is of version {found}, which takes workers of version {oldest} or newer, and this one is of {mine}; "
            "start one with newer code in its place"
        )


async def _version(connection: AsyncConnection) -> str | None:
    if await connection.scalar(text("SELECT to_regclass('alembic_version')::text")) is None:
        return None
    found = await connection.scalar(text("SELECT version_num FROM alembic_version"))
    return None if found is None else str(found)
