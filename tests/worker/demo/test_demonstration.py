"""A small demonstration from beginning to end, on servers of its own."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from activities.providers.local import LocalNode
from activities.providers.sim_fleet import NodeShape, SimulatedCluster, SimulatedRegion
from corral.api import QueueSpec, QueueTree, QuotaSpec, ReplicaGroup, SlaTier, State, Target, WorkloadSpec
from tests.ports import free_port
from worker.demo.report import Report
from worker.demo.run import demo_settings, demonstrate
from worker.demo.scenario import Arrival, Deed, Scenario, Verb
from worker.fleet_file import FleetFile, LocalEntry, SimulatedEntry
from worker.settings import Settings
from worker.supervision import CannotStart, Supervisor

SHAPE = NodeShape(sku="h100", count=2, accelerators=8)
FLEET = FleetFile(
    providers=(
        SimulatedEntry(
            name="sim",
            kind="simulated",
            regions=(SimulatedRegion(name="eu", clusters=(SimulatedCluster(name="eu1", nodes=(SHAPE,)),)),),
        ),
        LocalEntry(name="local", kind="local", node=LocalNode(sku="process", accelerators=2)),
    )
)
QUEUES = QueueTree(
    queues=(
        QueueSpec(name="company"),
        QueueSpec(name="owner", parent="company", quotas=(QuotaSpec(sku="h100", nominal=16),)),
        QueueSpec(name="guest", parent="company", quotas=(QuotaSpec(sku="h100", nominal=0),)),
        QueueSpec(name="tools", quotas=(QuotaSpec(sku="process", nominal=2),)),
    )
)


def simulated(id: str, at: float, queue: str, seconds: int, ends: State = State.SUCCEEDED, **fields: object) -> Arrival:
    given = {
        "targets": (Target(skus=("h100",)),),
        "parameters": {"runtime_seconds": str(seconds)},
        "tier": SlaTier.BASIC,
        **fields,
    }
    return Arrival(at, "test", WorkloadSpec.model_validate({"id": id, "queue": queue, **given}), frozenset({ends}))


def process(id: str, script: str, ends: State = State.SUCCEEDED) -> Arrival:
    spec = {"id": id, "queue": "tools", "targets": (Target(skus=("process",)),), "command": ("sh", "-c", script)}
    return Arrival(10, "test", WorkloadSpec.model_validate(spec), frozenset({ends}))


def a_scenario() -> Scenario:
    node = (ReplicaGroup(accelerators=8),)
    return Scenario(
        title="a small one",
        clock_speed=120,
        fleet=FLEET,
        queues=QUEUES,
        arrivals=(
            simulated("borrower-1", 0, "guest", 2_400, groups=node),
            simulated("borrower-2", 0, "guest", 2_400, groups=node),
            *(simulated(f"single-{number}", 100, "owner", 100) for number in range(3)),
            simulated("cancelled", 50, "owner", 9_000, State.CANCELLED, groups=node),
            simulated("no-such-queue", 60, "nobody", 100, State.REFUSED),
            simulated("crashes", 80, "owner", 50, State.FAILED, parameters={"runtime_seconds": "50", "exit_code": "2"}),
            process("works", "echo $CORRAL_DEVICES"),
            process("exits", "exit 3", State.FAILED),
            simulated("owners", 900, "owner", 100, groups=(ReplicaGroup(count=2, accelerators=8),)),
        ),
        deeds=(Deed(150, Verb.CANCEL, "cancelled", "a test"),),
    )


def settings_of(directory: Path) -> Settings:
    ports = {"temporal_port": free_port(), "temporal_ui_port": free_port(), "postgres_port": free_port()}
    return Settings.model_validate({"state_dir": directory, **ports})


async def test_a_run_ends_well_and_leaves_its_report(tmp_path: Path) -> None:
    (tmp_path / "left-by-an-earlier-run").mkdir()
    scenario, shown = a_scenario(), io.StringIO()
    report = await demonstrate(demo_settings(settings_of(tmp_path)), scenario, Console(file=shown, width=160))
    assert report.verdict.problems == ()
    assert report.totals.states == {State.SUCCEEDED: 7, State.FAILED: 2, State.CANCELLED: 1, State.REFUSED: 1}
    assert "owners" in {preemption.beneficiary for preemption in report.preemptions}
    assert {process.workload: process.exit_code for process in report.processes} == {"works": 0, "exits": 3}
    assert Report.model_validate_json((tmp_path / "report.json").read_text()) == report
    verdict = "Nothing is wrong, but" if report.shortfalls else "All is well"  # as fast as the servers of this machine are
    assert verdict in (tmp_path / "report.html").read_text()
    assert verdict in shown.getvalue()
    assert not (tmp_path / "left-by-an-earlier-run").exists()


async def test_a_directory_in_use_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "somebody's").mkdir()
    scenario = a_scenario()
    async with Supervisor(tmp_path):
        with pytest.raises(CannotStart, match="is in use by another Corral"):
            await demonstrate(demo_settings(settings_of(tmp_path)), scenario, Console(file=io.StringIO()))
    assert (tmp_path / "somebody's").exists()
