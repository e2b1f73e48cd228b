"""`corral policy`: what is shown can be applied, what is wrong is told with its place, and nothing is applied in part."""

import json

from corral.client import PolicyRefused
from corral.policy import DocumentKind, Fault, LintFinding, Policy
from tests.corral.fakes import POLICIES, FakeCorral, run

A_POLICY = b"name: ours\nrank:\n  preemption: false\n"


def a_finding(field: str, *, refuses: bool = False, document: DocumentKind = DocumentKind.POLICY) -> LintFinding:
    return LintFinding(
        rule="a-rule",
        fault=Fault.CONTRADICTION if refuses else Fault.DEAD_RULE,
        refuses=refuses,
        document=document,
        field=field,
        message="is wrong",
        advice="mend it",
    )


def test_the_policy_in_force_is_shown_as_a_document_that_can_be_applied() -> None:
    corral = FakeCorral()

    shown = run(corral, "policy", "show").stdout
    applied = run(corral, "policy", "apply", "-", "--by", "ada", given=shown.encode())

    assert shown.startswith(f"# version 7, {POLICIES[0].digest[:12]}, applied 2026-01-31T12:00:00+00:00 by ada (more for ")
    assert applied.exit_code == 0
    assert corral.asked == [("policies", 1), ("apply_policy", POLICIES[0].policy, "ada", "")]


def test_an_older_policy_is_shown_by_its_version() -> None:
    corral = FakeCorral()

    assert "name: default" in run(corral, "policy", "show", "--version", "3").stdout
    assert run(corral, "policy", "show", "--version", "4").exit_code == 3


def test_a_program_is_shown_the_record() -> None:
    record = json.loads(run(FakeCorral(), "policy", "show", "-o", "json").stdout)

    assert (record["version"], record["who"], record["policy"]["name"]) == (7, "ada", "ours")


def test_the_history_is_a_line_for_each_version() -> None:
    lines = run(FakeCorral(), "policy", "history").stdout.splitlines()

    assert [line.split()[0] for line in lines] == ["VERSION", "7", "3"]
    assert "\x1b" not in lines[1]


def test_a_preset_is_applied_by_its_name() -> None:
    corral = FakeCorral()

    result = run(corral, "policy", "apply", "kai-like", "--reason", "a trial", "--by", "ada")

    ((_, policy, who, why),) = corral.asked
    assert isinstance(policy, Policy)
    assert (policy.name, who, why) == ("kai-like", "ada", "a trial")
    assert result.stdout.splitlines()[1].split()[:3] == ["8", "kai-like", "deserved"]


def test_warnings_are_shown_with_their_place_and_do_not_stop_anybody() -> None:
    corral = FakeCorral()
    about_queues = a_finding("queues[0].weight", document=DocumentKind.QUEUES)
    corral.findings = (about_queues, a_finding("rank.preemption"), a_finding("goals.topology"))

    result = run(corral, "policy", "apply", "-", given=A_POLICY)

    assert result.exit_code == 0
    assert result.stderr.splitlines() == [
        "<stdin>:1:1: warning: goals.topology: is wrong; mend it [a-rule]",
        "<stdin>:3:3: warning: rank.preemption: is wrong; mend it [a-rule]",
        "the queues in force: warning: queues[0].weight: is wrong; mend it [a-rule]",
    ]


def test_a_refusal_is_told_with_its_place_and_changes_nothing() -> None:
    corral = FakeCorral(error=PolicyRefused([a_finding("rank.preemption", refuses=True), a_finding("name")]))

    result = run(corral, "policy", "apply", "-", given=A_POLICY)

    assert result.exit_code == 2
    assert result.stderr.splitlines() == [
        "<stdin>:1:1: warning: name: is wrong; mend it [a-rule]",
        "<stdin>:3:3: rank.preemption: is wrong; mend it [a-rule]",
        "nothing was changed",
    ]


def test_a_document_that_cannot_be_read_is_not_sent() -> None:
    corral = FakeCorral()

    result = run(corral, "policy", "apply", "-", given=b"name: UPPER")

    assert result.exit_code == 2
    assert result.stderr.splitlines()[0].startswith("<stdin>:1:7: name: ")
    assert result.stderr.splitlines()[-1] == "nothing was changed"
    assert corral.asked == []


def test_an_empty_document_is_told_what_a_policy_may_have() -> None:
    first, *_ = run(FakeCorral(), "policy", "apply", "-", given=b"").stderr.splitlines()
    assert first.startswith("<stdin>: empty; expected a YAML document with at least one of `format`, `name`, ")


def test_a_missing_tier_is_told_where_the_tiers_stand() -> None:
    tiers = b"rank:\n  preemption: true\n  tiers:\n    basic: {guarantee: 0, minimum_runtime_seconds: 0}\n"
    first, *_ = run(FakeCorral(), "policy", "apply", "-", given=tiers).stderr.splitlines()
    assert first.startswith("<stdin>:4:5: rank.tiers: premium, standard missing; each of the three tiers needs")
