"""What a worker at work tells Prometheus, and that the dashboard asks for nothing else."""

import asyncio
import json
import re
import urllib.request
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from corral.api import SlaTier, State
from tests.end_to_end.loads import a_gang, a_workload, behaving
from tests.end_to_end.pools import QUEUES, LivePool, eventually, running_pool
from tests.patience import PATIENCE_SECONDS
from tests.ports import free_port
from tests.servers import PostgresServer
from worker.observing.meanings import POOL_COUNTERS, POOL_GAUGES, WORKER
from worker.observing.metrics import PREFIX
from worker.settings import LOOPBACK

ROOT = Path(__file__).parents[2]
DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "corral.json").read_text())
FOR_EVER = 1e6


@pytest.fixture(scope="module")
async def metered(postgres: PostgresServer, temporal: str) -> AsyncIterator[LivePool]:
    """A worker that serves metrics, and some work that was preempted and some that ended."""
    addresses = {name: f"{LOOPBACK}:{free_port()}" for name in ("metrics_address", "temporal_metrics_address")}
    async with running_pool(postgres, temporal, "metered", addresses) as pool:
        await pool.start_worker()
        await pool.corral.apply_queues(QUEUES)
        everything: dict[str, Any] = {"groups": [{"count": 4, "accelerators": 8}]}
        await pool.corral.submit(a_gang("metered-guest", FOR_EVER, tier=SlaTier.BASIC, checkpoint={"grace_seconds": 5}))
        await pool.until("metered-guest", State.RUNNING)
        await pool.corral.submit(a_gang("metered-prime", FOR_EVER, tier=SlaTier.PREMIUM, topology={}, **everything))
        await pool.until("metered-prime", State.RUNNING)
        await pool.corral.submit(a_workload("metered-brief", parameters=behaving(10)))
        await pool.corral.wait("metered-brief")
        yield pool


async def scraped(address: str | None) -> dict[str, Metric]:
    """What Prometheus reads at an address, by name."""

    def read() -> str:
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=PATIENCE_SECONDS) as answer:
            body: bytes = answer.read()
            return body.decode()

    return {family.name: family for family in text_string_to_metric_families(await asyncio.to_thread(read))}


def amounts(family: Metric, *labels: str) -> dict[tuple[str, ...], float]:
    """The samples of a gauge or counter by some of its labels; those that are zero left out."""
    found: dict[tuple[str, ...], float] = {}
    for sample in family.samples:
        key = tuple(sample.labels[label] for label in labels)
        found[key] = found.get(key, 0) + sample.value
    return {key: value for key, value in found.items() if value}


def names_in(families: Iterable[Metric]) -> set[str]:
    """The names that may be asked for: of the samples, and where there are none yet, of what is announced."""
    found = set()
    for family in families:
        endings = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(family.type, ("",))
        found |= {family.name + ending for ending in endings} | {sample.name for sample in family.samples}
    return found


def queries(dashboard: dict[str, Any]) -> list[str]:
    return [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]


async def test_every_metric_that_is_meant_is_told(metered: LivePool) -> None:
    told = await scraped(metered.settings.metrics_address)
    assert {PREFIX + name for name in (*POOL_GAUGES, *POOL_COUNTERS, *WORKER, "wait_seconds")} <= told.keys()
    assert all(family.documentation for name, family in told.items() if name.startswith(PREFIX))


async def test_metrics_of_the_pool_tell_what_has_happened(metered: LivePool) -> None:
    told = await scraped(metered.settings.metrics_address)
    assert amounts(told["corral_workloads"], "state") == {("running",): 1, ("waiting",): 1}
    assert amounts(told["corral_waiting_workloads"], "tier") == {("basic",): 1}
    assert amounts(told["corral_preemptions"], "tier", "cause") == {("basic", "preempted"): 1}
    assert amounts(told["corral_attempts_ended"], "outcome") == {("preempted",): 1, ("finished",): 1}
    assert amounts(told["corral_used_accelerators"], "sku") == {("h100",): 32}
    counted = [sample.value for sample in told["corral_wait_seconds"].samples if sample.name.endswith("_count")]
    assert sum(counted) == 3
    assert amounts(told["corral_record_up"]) == {(): 1}
    ages = amounts(told["corral_cluster_view_age_seconds"], "provider", "cluster")
    assert ages.keys() == {(metered.simulator, "e1"), (metered.machine, "machine")}


async def test_lost_work_is_what_the_record_says(metered: LivePool) -> None:
    told = amounts((await scraped(metered.settings.metrics_address))["corral_lost_accelerator_seconds"])
    recorded = await metered.value("SELECT sum(lost_milli_seconds)::float / 1000 FROM attempts")
    assert told.get((), 0) == pytest.approx(recorded)


async def test_rounds_are_measured_by_step(metered: LivePool) -> None:
    told = await scraped(metered.settings.metrics_address)
    steps = {sample.labels["step"] for sample in told["corral_round_step_seconds"].samples}
    assert {"register", "decide", "decide: turns"} <= steps
    triggers = {sample.labels["trigger"] for sample in told["corral_round_duration_seconds"].samples}
    assert triggers == {"admission", "planner"}


async def test_the_dashboard_asks_only_for_what_is_told(metered: LivePool) -> None:
    asked = {name for query in queries(DASHBOARD) for name in re.findall(r"\b(?:corral|temporal|process)_\w+(?={)", query)}
    told = await scraped(metered.settings.metrics_address) | await scraped(metered.settings.temporal_metrics_address)
    assert len(asked) > 20
    assert asked - names_in(told.values()) == set()


async def test_the_dashboard_shows_every_metric_of_corral() -> None:
    shown = " ".join(queries(DASHBOARD))
    assert [name for name in (*POOL_GAUGES, *POOL_COUNTERS, *WORKER, "wait_seconds") if PREFIX + name not in shown] == []


async def test_without_the_record_the_worker_still_tells_of_itself(metered: LivePool) -> None:
    async def is_down() -> bool:
        return amounts((await scraped(metered.settings.metrics_address))["corral_record_up"]) == {}

    await metered.rows("ALTER TABLE nodes RENAME TO nodes_away")
    try:
        await eventually(is_down, "the record does not answer")
        assert "corral_round_duration_seconds" in await scraped(metered.settings.metrics_address)
    finally:
        await metered.rows("ALTER TABLE nodes_away RENAME TO nodes")
