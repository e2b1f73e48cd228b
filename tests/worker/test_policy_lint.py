"""`python -m worker policy lint`: what a person and a program are told about files, and the exit codes."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from corral.cli.policies import PRESETS
from worker.__main__ import app

BAD = """\
constraints:
  platform:
    allow: {regions: [eu]}
  tenants:
    acme:
      allow:
        regions: [eu, us]
"""
TREE = """\
queues:
  - name: a
    priority: 3
    quotas:
      - {sku: h100, nominal: 8}
"""


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["policy", "lint", *arguments])


def written(directory: Path, name: str, text: str) -> str:
    file = directory / name
    file.write_text(text)
    return str(file)


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_clean(preset: str) -> None:
    result = run(preset)

    assert (result.exit_code, result.stdout) == (0, "clean\n")


def test_a_finding_is_told_with_file_line_column_field_and_what_to_do(tmp_path: Path) -> None:
    policy, tree = written(tmp_path, "policy.yaml", BAD), written(tmp_path, "tree.yaml", TREE)

    result = run(policy, "--queues", tree)

    assert result.exit_code == 1
    about_list, about_name, about_queue, count = result.stdout.splitlines()
    assert about_list.startswith(f"{policy}:7:9: warning: constraints.tenants.acme.allow.regions: refuses nothing that")
    assert about_name.startswith(f"{policy}:7:23: warning: constraints.tenants.acme.allow.regions[1]: allows us, which")
    assert about_queue.startswith(f"{tree}:3:5: queues[0].priority: priority of queue a has no effect")
    assert about_queue.endswith("leave it out, or choose rank.quota_model: deserved [queue-field-of-another-model]")
    assert count == "3 findings"


def test_a_program_is_told_the_same(tmp_path: Path) -> None:
    policy = written(tmp_path, "policy.yaml", BAD)

    result = run(policy, "--output", "json")

    first, _ = json.loads(result.stdout)
    assert result.exit_code == 1
    assert first | {"message": "", "advice": ""} == {
        "file": policy,
        "line": 7,
        "column": 9,
        "rule": "shadowed-list",
        "fault": "dead-rule",
        "refuses": False,
        "document": "policy",
        "field": "constraints.tenants.acme.allow.regions",
        "message": "",
        "advice": "",
    }


UNREADABLE = [
    ("rank: {quota_modle: ranked}", "1:8: rank.quota_modle: no such field; did you mean `quota_model`?"),
    (
        "rank: {quota_model: lottery}",
        "1:21: rank.quota_model: \"lottery\" is not known; expected 'ranked', 'cohorts' or 'deserved'",
    ),
    ("format: 2", "1:9: format: 2 is not known; expected 1"),
    ("goals:\n  preferences:\n    - {name: x, worth: 1}", "3:7: goals.preferences[0]: prefers nothing; expected at least one"),
    (
        "constraints: {tenants: {acme: {allow: {regions: []}}}}",
        "1:49: constraints.tenants.acme.allow.regions: has 0 entries; expected at least 1",
    ),
    ("constraints: {regions: {eu: {allow: {regions: [us]}}}}", "1:38: constraints.regions.eu.allow.regions: no such field"),
    ("name: a\n---\nname: b", "3:1: a second document; a policy is one document"),
]


@pytest.mark.parametrize(("text", "complaint"), UNREADABLE)
def test_a_bad_document_is_refused_with_its_place(tmp_path: Path, text: str, complaint: str) -> None:
    policy = written(tmp_path, "policy.yaml", text)

    result = run(policy)

    assert result.exit_code == 2
    assert f"{policy}:{complaint}" in result.stderr


def test_a_file_that_is_not_there_cannot_be_read(tmp_path: Path) -> None:
    assert run(str(tmp_path / "none.yaml")).exit_code == 2


def test_queues_that_form_no_tree_cannot_be_read(tmp_path: Path) -> None:
    result = run("default", "--queues", written(tmp_path, "tree.yaml", "queues: [{name: a, parent: b}]"))

    assert result.exit_code == 2
    assert "queues[0].parent: 'b' is not a queue of this tree" in result.stderr
