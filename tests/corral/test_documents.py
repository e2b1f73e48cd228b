"""Whatever is wrong with a file is told with its line and column, and then nothing is submitted."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic_core import ErrorDetails

from corral.api import Model, ReplicaGroup, Target, WorkloadSpec
from corral.cli.problems import in_words
from corral.client import Invalid
from tests.corral.fakes import FakeCorral, run

IDENTIFIER = "1 to 100 lower-case letters, digits, dots, dashes and underscores, beginning with a letter or a digit"
LIST = "is not a list; write [one, two], or one line beginning with `- ` for each entry"
FIELDS = "is not a mapping; expected fields, each written `name: value`"
TIME = "is not a time; write it like 2026-01-31T08:00:00Z"

FIELD_CASES = [
    ("tier: gold", "3:7: tier: \"gold\" is not known; expected 'premium', 'standard' or 'basic'"),
    ("tear: basic", "3:1: tear: no such field; did you mean `tier`?"),
    ("priority: high", '3:11: priority: "high" is not a whole number'),
    ('priority: "8"', '3:11: priority: "8" is not a whole number; write it without quotes'),
    ("priority: 1.5", "3:11: priority: 1.5 is not a whole number"),
    ("priority:", "3:1: priority: an empty value is not a whole number"),
    ("start: now", "3:1: start: no such field; did you mean `earliest_start`?"),
    (
        "maximum_runtime_seconds: 2h",
        '3:26: maximum_runtime_seconds: "2h" is not a whole number; it is in seconds: write 7200',
    ),
    ("maximum_runtime_seconds: 2y", '3:26: maximum_runtime_seconds: "2y" is not a whole number'),
    ("groups: [{memory_mib: 64Gi}]", '3:23: groups[0].memory_mib: "64Gi" is not a whole number; it is in MiB: write 65536'),
    ("runtime: 60", "3:1: runtime: no such field; did you mean `maximum_runtime_seconds`?"),
    (
        "checkpoint: {seconds: 60}",
        "3:14: checkpoint.seconds: no such field; did you mean `grace_seconds`?",
    ),
    (
        "autoscale: {most: 2, target: 1, window: 60}",
        "3:33: autoscale.window: no such field; did you mean `up_window_seconds` or `down_window_",
    ),
    ("groups: [{memory: 64}]", "3:11: groups[0].memory: no such field; did you mean `memory_mib`?"),
    ("priority: 1001", "3:11: priority: 1001 is too large; expected at most 1000"),
    ("tasks: -4", "3:8: tasks: -4 is too small; expected at least 1"),
    ("tenant: Team One", f'3:9: tenant: "Team One" is not acceptable; expected {IDENTIFIER}'),
    ("tenant: 7", "3:9: tenant: 7 is not text; write it in quotes"),
    ("tenant: [a]", "3:9: tenant: a list is not text; expected text"),
    ("groups: []", "3:9: groups: has 0 entries; expected at least 1"),
    ("groups: {count: 1}", f"3:9: groups: a mapping {LIST}"),
    ("groups: [5]", f"3:10: groups[0]: 5 {FIELDS}"),
    ("groups:\n  - count: 2\n  - count: 0", "5:12: groups[1].count: 0 is too small; expected at least 1"),
    ("groups:\n  - count: 2\n    minimum: 3", "4:5: groups[0]: minimum 3 exceeds count 2"),
    ("groups:\n  - acelerators: 2", "4:5: groups[0].acelerators: no such field; did you mean `accelerators`?"),
    ("groups: [{accelerators: many}]", '3:25: groups[0].accelerators: "many" is not a number'),
    ("groups: [{accelerators: .nan}]", "3:25: groups[0].accelerators: NaN is not a finite number"),
    ("groups: [{accelerators: -.inf}]", "3:25: groups[0].accelerators: -Infinity is not a finite number"),
    ("groups: [{accelerators: -1}]", "3:25: groups[0].accelerators: -1 is too small; expected at least 0"),
    ("groups: [{accelerators: 1e9}]", "3:25: groups[0].accelerators: 1000000000.0 is too large; expected at most 1024"),
    (
        "groups: [{accelerators: 2.5}]",
        "3:25: groups[0].accelerators: 2.5 is not acceptable: more than one accelerator is a whole number of them",
    ),
    ("tasks: 2\ngroups: [{count: 2}]", "1:1: an array (tasks) has one replica group with count 1"),
    ("targets: [{zone: x}]", "3:12: targets[0].zone: no such field; the fields are skus, regions, providers, "),
    ("autoscale: {target: 0, most: 2}", "3:21: autoscale.target: 0 is too small; expected more than 0"),
    (
        "autoscale: {target: 1, most: 2, objective: 1}",
        "3:44: autoscale.objective: 1 is too large; expected less than 1",
    ),
    ("topology: rack", f'3:11: topology: "rack" {FIELDS}'),
    ("topology: {within: rack}", "3:12: topology.within: no such field; the fields are required, preferred"),
    ("environment: {A: 3}", "3:18: environment.A: 3 is not text; write it in quotes"),
    ("environment: x", f'3:14: environment: "x" {FIELDS}'),
    ("command: run it", f'3:10: command: "run it" {LIST}'),
    ('command: ["\\ud800"]', '3:11: command[0]: "\\ud800" is not text; it contains half of a surrogate pair'),
    (
        "checkpoint: {signal: KILL}",
        '3:22: checkpoint.signal: "KILL" is not acceptable; expected the name of a signal, such as SIGTERM',
    ),
    ("preemptible: perhaps", '3:14: preemptible: "perhaps" is neither true nor false'),
    ("earliest_start: noon", f'3:17: earliest_start: "noon" {TIME}'),
    ("earliest_start: 2026-01-31T08:00:00", '3:17: earliest_start: "2026-01-31T08:00:00" has no time zone; add Z for UTC'),
    ("tier: basic\ntier: premium", "4:1: tier: given twice; first on line 3"),
    ("a: &a [1]\nb: *a", "3:4: anchors and aliases (& and *) are not allowed; write the value out"),
    ("b: *a", "3:4: not valid YAML: found undefined alias 'a'"),
    ("tier: !!python/name:os.system x", '3:7: tier: the tag "!!python/name:os.system" is not allowed; write a plain value'),
    ("priority: " + "9" * 5000, f'3:11: priority: "{"9" * 60}"... (5000 characters) has too many digits; expected at most 40'),
    ("priority: " + "9" * 30, f"3:11: priority: {'9' * 30} is too large; expected at most 1000"),
    ("priority: !!int many", '3:11: priority: "many" is not a number'),
    ("? [a]\n: 1", "3:3: a list or a mapping cannot be a key; expected text"),
    ("tolerations: [" + "x, " * 33 + "]", "3:14: tolerations: has 33 entries; expected at most 32"),
    ("tier: [basic", "4:1: not valid YAML: while parsing a flow sequence, expected ',' or ']', but got '<stream end>'"),
    ("\ttier: basic", "3:1: not valid YAML: "),
    ("tier: " + "[" * 40, "3:38: nested deeper than 32 levels"),
]


@pytest.mark.parametrize(("text", "complaint"), FIELD_CASES)
def test_a_wrong_field_is_told_with_its_place(tmp_path: Path, text: str, complaint: str) -> None:
    file = tmp_path / "jobs.yaml"
    file.write_text(f"id: train\nqueue: team\n{text}\n")
    corral = FakeCorral()
    result = run(corral, "submit", str(file))
    first, *others = result.stderr.splitlines()
    assert first.startswith(f"{file}:{complaint}"), first
    assert (result.exit_code, others, result.stdout) == (2, ["nothing was submitted"], "")
    assert not corral.asked


FILE_CASES = [
    (b"", ": empty; expected a YAML document with `id` and `queue`"),
    (b"# nothing\n---\n---\n", ": empty; expected a YAML document with `id` and `queue`"),
    (b"just text", f':1:1: "just text" {FIELDS}'),
    (b"- id: train", f":1:1: a list {FIELDS}"),
    (b"id: train", ":1:1: queue: required, but not given"),
    (b"id: train\nqueue: caf\xe9", ":2:11: not text in UTF-8; expected a YAML file"),
    (b"\x7fELF\x02\x01\x01\x00", ":1:1: not text: the character U+007F is not allowed"),
    (b"id: a\nqueue: \x00", ":2:8: not text: the character U+0000 is not allowed"),
    (b"\xff\xfei\x00d\x00", ":1:1: not text in UTF-8; expected a YAML file"),
    (b"x" * (1 << 20) + b"x", ": larger than 1 MiB (1048576 bytes); split it into several files"),
    (
        b"queue: q\nid: " + b"X" * 1_000_000,
        f':2:5: id: "{"X" * 60}"... (1000000 characters) is not acceptable; expected {IDENTIFIER}',
    ),
    (b"id: a\nqueue: q\n" + b"k" * 1_000 + b": 1", f":3:1: {'k' * 60}...: no such field; the fields are id, queue, "),
]


@pytest.mark.parametrize(("content", "complaint"), FILE_CASES, ids=[case[1][:40] for case in FILE_CASES])
def test_what_is_no_file_of_workloads_is_told_in_one_short_line(tmp_path: Path, content: bytes, complaint: str) -> None:
    file = tmp_path / "jobs.yaml"
    file.write_bytes(content)
    corral = FakeCorral()
    result = run(corral, "submit", str(file))
    first, *others = result.stderr.splitlines()
    assert first.startswith(f"{file}{complaint}"), first[:300]
    assert len(first) < 600
    assert (result.exit_code, others) == (2, ["nothing was submitted"])
    assert not corral.asked


def test_a_file_that_cannot_be_read_is_told_and_so_are_the_problems_of_others(tmp_path: Path) -> None:
    absent = tmp_path / "absent.yaml"
    result = run(FakeCorral(), "submit", str(absent), str(tmp_path), "-", given=b"id: A\nqueue: q")
    assert result.exit_code == 2
    assert result.stderr.splitlines()[:2] == [
        f"{absent}: cannot be read: No such file or directory",
        f"{tmp_path}: cannot be read: Is a directory",
    ]
    assert result.stderr.splitlines()[2].startswith('<stdin>:1:5: id: "A" is not acceptable')


def test_all_problems_are_told_in_the_order_of_the_file() -> None:
    given = b"tier: gold\nid: Train 1\nextra: 1\ngroups:\n  - count: 0\n"
    result = run(FakeCorral(), "submit", "-", given=given)
    places = [line.split(": ")[0] for line in result.stderr.splitlines()[:-1]]
    assert places == [f"<stdin>:{place}" for place in ("1:1", "1:7", "2:5", "3:1", "5:12")]


def test_a_wrong_second_document_keeps_the_first_from_being_submitted() -> None:
    corral = FakeCorral()
    result = run(corral, "submit", "-", given=b"id: one\nqueue: q\n---\nid: two\nqueue: q\npriority: 5000\n")
    assert result.stderr.splitlines() == [
        "<stdin>:6:11: priority: 5000 is too large; expected at most 1000",
        "nothing was submitted",
    ]
    assert not corral.asked


def test_an_id_is_given_to_one_workload_only() -> None:
    corral = FakeCorral()
    result = run(corral, "submit", "-", given=b"{id: one, queue: q}\n---\n{id: one, queue: other}\n")
    assert result.stderr.startswith("<stdin>:3:1: id: 'one' is the id of the workload at <stdin>:1:1; each needs its own\n")
    assert not corral.asked


def test_very_many_problems_are_not_all_told() -> None:
    given = b"id: a\nqueue: q\nenvironment:\n" + b"".join(b"  K%d: 1\n" % number for number in range(60))
    lines = run(FakeCorral(), "submit", "-", given=given).stderr.splitlines()
    assert len(lines) == 52
    assert lines[-2] == "... and 10 more problems"


def test_aliases_cannot_grow() -> None:
    levels = [b"l0: &l0 [x, x]"] + [b"l%d: &l%d [%s]" % (n, n, b", ".join([b"*l%d" % (n - 1)] * 9)) for n in range(1, 20)]
    result = run(FakeCorral(), "submit", "-", given=b"id: a\nqueue: q\n" + b"\n".join(levels))
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 21


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        (b"queues: []", "<stdin>:1:9: queues: has 0 entries; expected at least 1"),
        (b"queues:\n  - name: a\n    wait: 1", "<stdin>:3:5: queues[0].wait: no such field; did you mean `weight`?"),
        (
            b"queues:\n  - name: a\n    quotas: [{sku: x, nominal: -1}]",
            "<stdin>:3:32: queues[0].quotas[0].nominal: -1 is too small; expected at least 0",
        ),
        (
            b"queues:\n  - name: a\n    quotas: [{sku: x, nominal: 1, valid_until: 9999-12-31T23:59:59-12:00}]",
            '<stdin>:3:48: queues[0].quotas[0].valid_until: "9999-12-31T23:59:59-12:00" is not acceptable:'
            " no calendar goes so far; expected a time in the years 1 to 9999, as UTC has them",
        ),
        (
            b"queues:\n  - name: a\n    quotas: [{sku: x, nominal: 1, floor: 2}]",
            "<stdin>:3:14: queues[0].quotas[0]: floor 2 exceeds nominal 1",
        ),
        (
            b"queues:\n  - name: a\n    budgets: [{unit: dollars, amount: 1, period_seconds: 4000}]",
            "<stdin>:3:58: queues[0].budgets[0].period_seconds: 4000 is not acceptable; expected a multiple of 3600",
        ),
        (
            b"queues: [{name: a}]\n---\nqueues: [{name: b}]",
            "<stdin>:3:1: a second document; write all queues under one `queues`",
        ),
    ],
)
def test_wrong_queues_are_told_in_the_same_way(given: bytes, complaint: str) -> None:
    corral = FakeCorral()
    result = run(corral, "queue", "apply", "-", given=given)
    assert result.stderr.splitlines() == [complaint, "nothing was changed"]
    assert result.exit_code == 2
    assert not corral.asked


def test_every_form_of_text_that_a_field_asks_for_has_words() -> None:
    asked = [
        node["pattern"]
        for model in Model.__subclasses__()
        for node in _nodes(model.model_json_schema())
        if isinstance(node.get("pattern"), str)
    ]
    assert asked
    for pattern in asked:
        detail = ErrorDetails(type="string_pattern_mismatch", loc=(), msg="", input="?", ctx={"pattern": pattern})
        assert "matches" not in in_words([detail], (), Model).message, pattern


def _nodes(schema: object) -> Iterator[dict[str, object]]:
    if isinstance(schema, dict):
        yield schema
    for each in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        yield from _nodes(each)


def test_what_only_the_record_can_check_is_told_with_its_place() -> None:
    corral = FakeCorral(error=Invalid("queues[0].parent: 'all' is no queue"))
    result = run(corral, "queue", "apply", "-", given=b"queues: [{name: a, parent: all}]")
    assert result.stderr.splitlines() == ["<stdin>:1:20: queues[0].parent: 'all' is no queue", "nothing was changed"]
    assert result.exit_code == 2


def test_what_is_said_as_it_would_be_anyway_makes_no_other_spec() -> None:
    short = WorkloadSpec(id="w", queue="research", groups=(ReplicaGroup(accelerators=1),))
    long = short.model_copy(update={"priority": 0, "targets": (), "groups": (ReplicaGroup(accelerators=1, count=1),)})
    assert long.digest == short.digest
    assert short.model_copy(update={"priority": 1}).digest != short.digest


def test_a_spec_has_the_digest_that_the_record_has_of_it() -> None:
    groups, targets = (ReplicaGroup(count=2, accelerators=8),), (Target(skus=("h100",)),)
    spec = WorkloadSpec(id="a", queue="q", tenant="t", groups=groups, targets=targets)
    assert spec.digest == "f595e80d90661549c8c82d386867f178a7207491f3738a345ba56fa9c71e4a8e"
