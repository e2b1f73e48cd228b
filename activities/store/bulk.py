"""Many rows in one statement, whose text is the same for any number of them: each text is compiled and prepared once.

Values travel as one JSON document, which the database takes apart by the types of the table, and ids as one array.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import ARRAY, ColumnElement, Row, Table, TextClause, any_, literal, text
from sqlalchemy.ext.asyncio import AsyncConnection

Values = Mapping[str, Any]


async def insert_rows(
    connection: AsyncConnection, table: Table, rows: Sequence[Values], returning: str = ""
) -> Sequence[Row[Any]]:
    """Insert rows, in this order, that all have the same columns; answers with `returning` of each, if that is given."""
    if not rows:
        return []
    statement = _insert(table.name, tuple(rows[0]), f"RETURNING {returning}" if returning else "")
    result = await connection.execute(statement, {"rows": as_document(rows)})
    return result.all() if returning else []


async def insert_new_rows(connection: AsyncConnection, table: Table, rows: Sequence[Values], returning: str) -> list[Row[Any]]:
    """Insert rows unless they are there already; answers with `returning` of those that were not."""
    statement = _insert(table.name, tuple(rows[0]), f"ON CONFLICT DO NOTHING RETURNING {returning}")
    return list((await connection.execute(statement, {"rows": as_document(rows)})).all()) if rows else []


async def update_rows(connection: AsyncConnection, table: Table, columns: Collection[str], rows: Sequence[Values]) -> None:
    """Set these columns of rows that are found by their id, each of which is given once."""
    if rows and columns:
        await connection.execute(_update(table.name, tuple(sorted(columns))), {"rows": as_document(rows)})


def among(column: ColumnElement[Any], values: Iterable[Any]) -> ColumnElement[bool]:
    """Whether a column is one of the values."""
    return column == any_(literal(list(values), ARRAY(column.type)))


def as_document(rows: Sequence[Values]) -> str:
    """Rows as a JSON array of objects."""
    return json.dumps(rows, default=_plain, separators=(",", ":"))


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} {value!r} cannot be written to the record")


@cache
def _insert(table: str, columns: tuple[str, ...], ending: str) -> TextClause:
    names = ", ".join(columns)
    return text(f"INSERT INTO {table} ({names}) SELECT {names} FROM {_given(table)} {ending}")


@cache
def _update(table: str, columns: tuple[str, ...]) -> TextClause:
    values = ", ".join(f"{name} = given.{name}" for name in columns)
    return text(f"UPDATE {table} SET {values} FROM {_given(table)} WHERE {table}.id = given.id")


def _given(table: str) -> str:
    return f"json_populate_recordset(NULL::{table}, CAST(CAST(:rows AS text) AS json)) AS given"
