import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from ruamel.yaml import YAML

from activities.metering import Miss
from activities.store.figures import Figures
from activities.store.postgres import PostgresStore
from tests.activities.fakes import asking_nobody
from worker.observing import metrics
from worker.observing.meanings import POOL_COUNTERS, POOL_GAUGES, WORKER
from worker.observing.metrics import measured
from worker.observing.runtime import observed_runtime
from worker.settings import LOOPBACK, Settings
from worker.supervision import CannotStart

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "observing.md").read_text()


@pytest.fixture
def taken() -> Iterator[str]:
    """An address that somebody listens on."""
    with socket.socket() as listening:
        listening.bind((LOOPBACK, 0))
        listening.listen()
        yield f"{LOOPBACK}:{listening.getsockname()[1]}"


@pytest.fixture
async def store() -> AsyncIterator[PostgresStore]:
    """A store that nobody asks anything."""
    settings = Settings()
    store = PostgresStore.connect(settings.database_url, settings.clock(), settings.pool)
    yield store
    await store.aclose()


async def test_an_address_that_is_taken_is_told_by_its_setting(taken: str, store: PostgresStore) -> None:
    with (
        pytest.raises(CannotStart, match=f"CORRAL_METRICS_ADDRESS: cannot listen on {taken}"),
        measured(Settings(metrics_address=taken), store, asking_nobody(store)),
    ):
        raise AssertionError("nobody can listen there")


async def test_demand_that_was_asked_for_in_vain_is_counted_by_cause(store: PostgresStore) -> None:
    pulling, registry = asking_nobody(store), CollectorRegistry()
    pulling.on_miss = metrics.miss_counter(registry)
    for cause in (Miss.TOO_LATE, Miss.TOO_LATE, Miss.REFUSED):
        pulling.on_miss(cause)
    counted = {cause: registry.get_sample_value("corral_demand_misses_total", {"cause": cause}) for cause in Miss}
    assert counted == dict.fromkeys(Miss, 0.0) | {Miss.TOO_LATE: 2.0, Miss.REFUSED: 1.0}


async def test_a_reading_that_takes_long_is_not_begun_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "ANSWER_SECONDS", 0.01)
    goes_on = asyncio.Event()
    begun: list[int] = []

    async def read() -> Figures:
        begun.append(len(begun))
        await goes_on.wait()
        return {"rounds": {(): 1.0}}

    reading = metrics.Reading(read)
    for _ in range(2):
        with pytest.raises(TimeoutError):
            await reading.ask()
    goes_on.set()
    monkeypatch.setattr(metrics, "ANSWER_SECONDS", 10)
    assert await reading.ask() == {"rounds": {(): 1.0}}
    assert begun == [0]


def test_so_is_that_of_temporal(taken: str) -> None:
    with pytest.raises(CannotStart, match=f"CORRAL_TEMPORAL_METRICS_ADDRESS: cannot listen on {taken}"):
        observed_runtime(taken)


def test_the_page_says_what_each_metric_means() -> None:
    told = {row[0]: (row[1], row[2]) for row in re.findall(r"^\| `(corral_\w+)` \| (.*) \| (.*) \|$", PAGE, re.MULTILINE)}
    meant = {
        f"corral_{name}{ending}": (", ".join(f"`{label}`" for label in meaning.labels), meaning.words)
        for group, ending in ((POOL_GAUGES, ""), (POOL_COUNTERS, "_total"), (WORKER, ""))
        for name, meaning in group.items()
    }
    assert told == meant


def test_no_panel_of_the_dashboard_hides_another() -> None:
    panels = json.loads((ROOT / "deploy" / "grafana" / "corral.json").read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    squares = [
        (x, y)
        for panel in panels
        for at in [panel["gridPos"]]
        for x in range(at["x"], at["x"] + at["w"])
        for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(set(squares)) == len(squares)


def test_prometheus_and_the_dashboard_name_the_jobs_alike() -> None:
    jobs = YAML(typ="safe").load((ROOT / "deploy" / "prometheus.yaml").read_text())["scrape_configs"]
    dashboard = json.loads((ROOT / "deploy" / "grafana" / "corral.json").read_text())
    defaults = [variable["query"] for variable in dashboard["templating"]["list"] if variable["type"] == "textbox"]
    assert [job["job_name"] for job in jobs] == defaults
