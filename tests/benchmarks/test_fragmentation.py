"""The experiment on a fleet of two nodes, and on the published trace where it is at hand."""

import csv
from pathlib import Path

import pytest

from tests.benchmarks.fragmentation import POLICIES, Experiment, run

TRACE = Path(__file__).parents[3] / "shared" / "data" / "alibaba2023"


def written(directory: Path, name: str, *lines: str) -> Path:
    path = directory / name
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def small(tmp_path: Path) -> Experiment:
    """Two nodes with two devices each, and demand for six."""
    return Experiment.read(
        written(tmp_path, "nodes.csv", "sn,cpu_milli,memory_mib,gpu,model", "a,8000,100,2,T4", "b,8000,100,2,P100"),
        written(
            tmp_path,
            "pods.csv",
            "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec",
            "one,1000,1,1,1000,",
            "picky,1000,1,2,1000,T4",
            "half,1000,1,1,500,",
            "none,1000,1,0,0,",
        ),
        written(tmp_path, "order.txt", "half", "none", "half", "picky", "one", "one", "one"),
        written(tmp_path, "ties.txt", "0001-a", "0000-b"),
    )


@pytest.mark.parametrize("policy", POLICIES)
def test_everybody_is_tried_once_and_refusals_are_told_by_class(small: Experiment, policy: str) -> None:
    outcome = run(small, policy)
    assert (outcome.placed, outcome.refused) == (5, 2)
    assert outcome.refused_by_class == {"1 whole": 2}
    assert outcome.idle_accelerators == 0
    assert outcome.allocated_percent == {100: 100.0}


@pytest.mark.skipif(not TRACE.is_dir(), reason=f"the published trace is not at {TRACE}")
@pytest.mark.parametrize(("policy", "name"), [("bestfit", "BestFit"), ("fgd", "FGD")])
def test_policies_of_the_paper_come_to_what_it_says(policy: str, name: str) -> None:
    experiment = Experiment.read(
        TRACE / "openb_node_list_gpu_node.csv",
        TRACE / "openb_pod_list_default.csv",
        TRACE / "order" / "default_s42.pods.txt",
        TRACE / "order" / "default_s42.nodes.txt",
    )
    with (TRACE / "fgd_table.csv").open(newline="") as file:
        expected = {
            int(row["arrived_pct"]): float(row["alloc_pct"])
            for row in csv.DictReader(file)
            if (row["policy"], row["workload_file"], row["seed"]) == (name, "openb_pod_list_default.csv", "42")
        }
    assert run(experiment, policy).allocated_percent == pytest.approx(expected, abs=0.05)
