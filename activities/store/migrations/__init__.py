"""The history of the tables, and the step that brings a database to its newest version."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine

LOCK = 7_267_735
"""The advisory lock under which one process at a time migrates."""


def configuration(connection: Connection) -> Config:
    """Alembic's settings for a connection."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["connection"] = connection
    return config


async def upgrade(url: str) -> None:
    """Bring the database at a SQLAlchemy URL to the newest version; does nothing when it is there already."""
    engine = create_async_engine(url)
    try:
        async with engine.begin() as connection:
            await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
            await connection.run_sync(lambda sync: command.upgrade(configuration(sync), "head"))
    finally:
        await engine.dispose()
