"""The examples can be read, and fit together; the page about goals names every term, and every wish."""

from pathlib import Path

import pytest

from corral.api import Affinity, Catalogue, Model, QueueTree, Retarget, Spread, WorkloadSpec
from corral.cli.documents import parse_documents, read_documents
from corral.policy import Policy
from corral.reservation import ReservationSpec
from corral.schedule import ScheduleSpec
from domain.placement.scoring import TERMS
from worker.fleet_file import EXAMPLES, FleetFile, SimulatedEntry, read_fleet

KINDS: dict[str, type[Model]] = {
    "fleet": FleetFile,
    "queues": QueueTree,
    "datasets": Catalogue,
    "reservation": ReservationSpec,
    "schedule": ScheduleSpec,
    "targets": Retarget,
}
FILES = sorted(EXAMPLES.glob("*.yaml"))
PAGE = (Path(__file__).parents[2] / "docs" / "goals.md").read_text()


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_an_example_is_valid_and_says_what_it_shows(file: Path) -> None:
    assert file.read_text().startswith("# ")
    assert read_documents([str(file)], KINDS.get(file.stem, WorkloadSpec))


def test_data_are_where_the_fleet_is_and_are_what_examples_read() -> None:
    providers = [entry for entry in read_fleet(None).providers if isinstance(entry, SimulatedEntry)]
    regions = {region.name for entry in providers for region in entry.regions}
    datasets = read_documents([str(EXAMPLES / "datasets.yaml")], Catalogue)[0].content.datasets
    work = [str(file) for file in FILES if file.stem not in KINDS]
    read = {name for document in read_documents(work, WorkloadSpec) for name in document.content.datasets}

    assert {region for dataset in datasets for region in dataset.regions} <= regions
    assert read
    assert read <= {dataset.name for dataset in datasets}


@pytest.mark.parametrize("word", [*TERMS, *Affinity.model_fields, *Spread.model_fields, "affinities", "datasets"])
def test_the_page_about_goals_names_every_term_and_wish(word: str) -> None:
    assert f"{word}`" in PAGE


def test_the_policy_on_the_page_is_one() -> None:
    block = PAGE.split("```yaml\n")[1].split("```")[0]

    (document,) = parse_documents("docs/goals.md", block.encode(), Policy)

    assert document.content.goals.transfers.routes
