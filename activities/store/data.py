"""The catalogue of data in the record: which datasets there are, how large, and in which regions."""

from collections.abc import Iterator

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from activities.store import tables
from corral.api import Catalogue, Dataset, DatasetStatus

_COLUMNS = tables.datasets.c


async def apply(connection: AsyncConnection, catalogue: Catalogue) -> None:
    """Make the datasets what the catalogue says; others stay as they are. A trigger counts it as an edit."""
    statement = insert(tables.datasets)
    changing = {"size_gib": statement.excluded.size_gib, "regions": statement.excluded.regions}
    await connection.execute(
        statement.on_conflict_do_update(index_elements=["name"], set_=changing),
        [dataset.model_dump() for dataset in catalogue.datasets],
    )


async def read_datasets(connection: AsyncConnection) -> tuple[Dataset, ...]:
    """All datasets."""
    rows = await connection.execute(select(tables.datasets).order_by(_COLUMNS.name))
    return tuple(Dataset(name=row.name, size_gib=row.size_gib, regions=tuple(row.regions)) for row in rows)


async def statuses(connection: AsyncConnection) -> list[DatasetStatus]:
    """All datasets, and the names that workloads read though no dataset has them."""
    known = {dataset.name: dataset for dataset in await read_datasets(connection)}
    readers = await _readers(connection)
    regions = set(await connection.scalars(select(tables.nodes.c.region).distinct()))
    return [_status(name, known.get(name), readers.get(name, 0), regions) for name in sorted(known.keys() | readers.keys())]


def _status(name: str, dataset: Dataset | None, readers: int, regions: set[str]) -> DatasetStatus:
    if dataset is None:
        warning = "is read, and is not in the catalogue: it counts nothing"
        return DatasetStatus(name=name, size_gib=None, regions=(), readers=readers, warnings=(warning,))
    warnings = tuple(_warnings(dataset, regions))
    return DatasetStatus(name=name, size_gib=dataset.size_gib, regions=dataset.regions, readers=readers, warnings=warnings)


def _warnings(dataset: Dataset, regions: set[str]) -> Iterator[str]:
    if not dataset.regions:
        yield "has no replica anywhere: it counts nothing"
    elif regions and (unknown := [region for region in dataset.regions if region not in regions]):
        known = ", ".join(sorted(regions))
        yield f"has a replica in {', '.join(unknown)}, where the fleet has no node (it has some in {known})"


async def _readers(connection: AsyncConnection) -> dict[str, int]:
    """How many workloads that have not ended read each name."""
    columns = tables.workloads.c
    named = func.jsonb_array_elements_text(func.coalesce(columns.spec["datasets"], func.jsonb_build_array()))
    read = select(named.label("name")).where(columns.ended_at.is_(None)).subquery()
    query = select(read.c.name, func.count().label("readers")).group_by(read.c.name)
    return {row.name: row.readers for row in await connection.execute(query)}
