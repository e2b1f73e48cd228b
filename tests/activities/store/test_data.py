"""The catalogue of data: kept, told, and read by the rounds that follow."""

from typing import Any

from sqlalchemy import select

from activities.store import tables
from corral.api import Catalogue, Dataset, DatasetStatus
from corral.policy import Policy, PolicyOrder
from tests.activities.store.pool import Pool, a_spec, a_view

DOLLAR = 1_000_000


def a_catalogue(**datasets: tuple[float, tuple[str, ...]]) -> Catalogue:
    return Catalogue(datasets=tuple(Dataset(name=name, size_gib=size, regions=at) for name, (size, at) in datasets.items()))


async def told(pool: Pool) -> dict[str, DatasetStatus]:
    return {status.name: status for status in await pool.store.datasets()}


async def test_a_catalogue_changes_what_it_names_and_leaves_the_rest(pool: Pool) -> None:
    await pool.store.apply_datasets(a_catalogue(one=(10, ("eu",)), two=(20.5, ("eu", "us"))))
    answered = await pool.store.apply_datasets(a_catalogue(two=(30, ("us",)), three=(1, ())))

    assert answered == await pool.store.datasets()
    assert {name: (status.size_gib, status.regions) for name, status in (await told(pool)).items()} == {
        "one": (10, ("eu",)),
        "two": (30, ("us",)),
        "three": (1, ()),
    }


async def test_who_reads_and_what_counts_nothing_is_told(pool: Pool) -> None:
    await pool.gets(a_view("n1"))
    region = (await pool.store.nodes())[0].region
    await pool.store.apply_datasets(a_catalogue(near=(1, (region,)), nowhere=(1, ()), far=(1, (region, "moon"))))
    await pool.arrive(a_spec("one", datasets=("near", "typo")), a_spec("two", datasets=("near",)), a_spec("three"))

    found = await told(pool)

    assert {name: status.readers for name, status in found.items()} == {"near": 2, "nowhere": 0, "far": 0, "typo": 1}
    assert found["near"].warnings == ()
    assert "counts nothing" in found["nowhere"].warnings[0]
    assert f"in moon, where the fleet has no node (it has some in {region})" in found["far"].warnings[0]
    assert found["typo"].size_gib is None
    assert "not in the catalogue" in found["typo"].warnings[0]


async def test_rounds_read_the_newest_catalogue_whoever_wrote_it(pool: Pool) -> None:
    await pool.gets(a_view("cheap", region="east", price=DOLLAR), a_view("dear", region="west", price=2 * DOLLAR))
    await pool.arrive(a_spec("before", datasets=("corpus",)))
    await pool.another_store().apply_datasets(a_catalogue(corpus=(1_000, ("west",))))
    await pool.arrive(a_spec("after", datasets=("corpus",)))

    assert [await region_of(pool, id) for id in ("before", "after")] == ["east", "west"]


async def region_of(pool: Pool, workload: str) -> str | None:
    status = await pool.store.status(workload)
    return status.where.region if status and status.where else None


async def test_a_start_keeps_and_tells_what_its_place_counted(pool: Pool) -> None:
    await pool.gets(a_view("n1", region="east", price=2 * DOLLAR))
    await pool.store.apply_datasets(a_catalogue(corpus=(100, ("west",))))
    weights: dict[str, Any] = {"goals": {"waste": 0, "staging": {"weight": 0}}}
    await pool.store.apply_policy(PolicyOrder(policy=Policy.model_validate(weights)))
    await pool.arrive(a_spec("w", gpus=8, datasets=("corpus",)))

    async with pool.engine.connect() as connection:
        detail = (await connection.execute(select(tables.decisions.c.detail))).scalar_one()
    assert {term: score for term, score in detail["goals"].items() if score} == {"price": 2 * DOLLAR, "egress": 250_000}
    held = next(event for event in await pool.store.events("w", 0) if event.kind == "reserved")
    assert held.message.endswith("held ($2.25 per accelerator-hour: price 2.00, egress 0.25)")
