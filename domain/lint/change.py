"""Changing the policy under way: what speaks against another one for a pool that is at work."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime

from corral.api import Reason
from corral.policy import DocumentKind, Fault, LintFinding, Policy
from domain.facts import Facts
from domain.lint.documents import listed
from domain.lint.rules import lint
from domain.placement.feasibility import sift
from domain.pool.nodepools import still_planned
from domain.pool.workload import Waiting
from domain.remembered.attained import counted
from domain.round import refuse
from domain.snapshot import Snapshot
from domain.worlds.request import requests

MOST_NAMES = 5
"""Workloads that a finding names."""


def what_speaks_against(snapshot: Snapshot, policy: Policy, now: datetime) -> tuple[LintFinding, ...]:
    """Everything that is wrong with the policy for the queues, the regions and the waiting work that the snapshot shows."""
    return (
        *lint(policy, snapshot.queues),
        *unknown_region(snapshot, policy),
        *strands_waiting_work(snapshot, policy, now),
    )


def unknown_region(snapshot: Snapshot, policy: Policy) -> Iterator[LintFinding]:
    """A route begins or ends in a region that has neither nodes nor data; while a provider has not told, nothing is said."""
    known = {node.region for node in snapshot.nodes} | {each for dataset in snapshot.datasets for each in dataset.regions}
    if not (snapshot.is_complete and snapshot.nodes):
        return
    for source, routes in policy.goals.transfers.routes.items():
        for destination in routes:
            for region in dict.fromkeys((source, destination)):
                if region not in known:
                    yield LintFinding(
                        rule="unknown-region",
                        fault=Fault.DEAD_RULE,
                        refuses=False,
                        document=DocumentKind.POLICY,
                        field=f"goals.transfers.routes.{source}.{destination}",
                        message=f"region {region} has neither nodes nor data",
                        advice=f"expected one of {listed(tuple(sorted(known)))}; correct it, or leave the route out",
                    )


def strands_waiting_work(snapshot: Snapshot, policy: Policy, now: datetime) -> Iterator[LintFinding]:
    """Work waits that could never run any more: the next round would refuse it for good."""
    then = replace(snapshot, policy=policy, nodes=still_planned(snapshot.nodes, snapshot.node_pools, policy.growth))
    facts_before, facts_after = Facts.of(counted(snapshot, now), now), Facts.of(counted(then, now), now)
    before, _ = refuse(snapshot.waiting, facts_before)
    after, _ = refuse(snapshot.waiting, facts_after)
    known = {refusal.workload_id for refusal in before}
    stranded = [refusal for refusal in after if refusal.workload_id not in known]
    if stranded:
        first = next(workload for workload in snapshot.waiting if workload.id == stranded[0].workload_id)
        names = listed(tuple(refusal.workload_id for refusal in stranded[:MOST_NAMES]))
        others = f" and {len(stranded) - MOST_NAMES} more" if len(stranded) > MOST_NAMES else ""
        yield LintFinding(
            rule="strands-waiting-work",
            fault=Fault.CONTRADICTION,
            refuses=True,
            document=DocumentKind.POLICY,
            field=_where(first, stranded[0].explanation.reason, facts_before, facts_after),
            message=f"{names}{others} wait and could never run: {stranded[0].explanation.message}",
            advice="expected a policy under which waiting work can run; cancel the work first, or leave it a way",
        )


def _where(workload: Waiting, reason: Reason, before: Facts, after: Facts) -> str:
    """The field that leaves the workload nothing: one that the policy in force so far does not have, or has otherwise."""
    if reason is not Reason.NO_MATCHING_CAPACITY:
        return ""
    known, forbidding = _forbidding(workload, before), _forbidding(workload, after)
    return min(forbidding - known or forbidding, default="")


def _forbidding(workload: Waiting, facts: Facts) -> set[str]:
    """Where the articles stand that keep the workload from nodes that it accepts."""
    findings = [finding for request in requests(workload) for finding in sift(request, facts.idle, passing=()).findings]
    return {each.rejection.candidate for each in findings if each.rejection.reason is Reason.FORBIDDEN_BY_POLICY}
