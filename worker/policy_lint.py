"""Policies in files: what is wrong with one before it is applied, and the one that a pool begins with."""

import json

from corral.cli.policies import Placed, placed, read_policy
from corral.cli.problems import InvalidInput
from corral.cli.tenancy import read_tree
from corral.policy import DocumentKind, Policy
from domain.lint.rules import lint, refusals
from domain.quota.tree import check_tree
from worker.settings import Settings


def lint_files(policy_source: str, queue_file: str | None) -> list[Placed]:
    """Every finding, with its file, line and column.

    Raises:
        corral.cli.problems.InvalidInput: a document cannot be read.
        domain.quota.tree.QuotaError: the queues form no tree.
    """
    policy = read_policy(policy_source)
    tree = read_tree(queue_file) if queue_file else None
    if tree is not None:
        check_tree(tree.content)
    findings = lint(policy.content, tree.content.queues if tree else ())
    about_policy = placed([found for found in findings if found.document is DocumentKind.POLICY], policy)
    about_queues = [found for found in findings if found.document is DocumentKind.QUEUES]
    return [*about_policy, *(placed(about_queues, tree) if tree else [])]


def report(found: list[Placed], *, as_json: bool) -> str:
    """The findings for people, a line each, or for programs."""
    if as_json:
        return json.dumps([each.data for each in found], indent=2)
    count = len(found)
    return "\n".join([*map(str, found), "clean" if not count else f"{count} finding{'s' if count > 1 else ''}"])


def first_policy(settings: Settings) -> Policy:
    """The policy that the settings name, for a pool that has none.

    Raises:
        corral.cli.problems.InvalidInput: it cannot be read, or contradicts itself.
    """
    document = read_policy(settings.policy)
    if against := placed(refusals(document.content), document):
        raise InvalidInput([str(each) for each in against])
    return document.content
