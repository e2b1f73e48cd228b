"""All rules of lint, and what they find together."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from corral.api import QueueSpec
from corral.policy import Fault, LintFinding, Policy
from domain.lint import constraints, goals, knobs, promises
from domain.lint.documents import Complaint, Documents


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: what kind of fault it looks for, the function that does, and whether documents with it are refused."""

    fault: Fault
    check: Callable[[Documents], Iterator[Complaint]]
    refuses: bool = False

    @property
    def name(self) -> str:
        """The name under which findings and documentation know the rule."""
        return self.check.__name__.replace("_", "-")

    def findings(self, documents: Documents) -> Iterator[LintFinding]:
        """What it has to say."""
        return (self._finding(complaint) for complaint in self.check(documents))

    def _finding(self, complaint: Complaint) -> LintFinding:
        return LintFinding(
            rule=self.name,
            fault=self.fault,
            refuses=self.refuses,
            document=complaint.document,
            field=complaint.field,
            message=complaint.message,
            advice=complaint.advice,
        )


RULES = (
    Rule(Fault.CONTRADICTION, constraints.nobody_can_run, refuses=True),
    Rule(Fault.CONTRADICTION, constraints.never_with_its_quota, refuses=True),
    Rule(Fault.CONTRADICTION, promises.tiers_out_of_order, refuses=True),
    Rule(Fault.CONTRADICTION, promises.nothing_may_stop, refuses=True),
    Rule(Fault.CONTRADICTION, goals.repeated_name, refuses=True),
    Rule(Fault.CONTRADICTION, promises.promise_without_means),
    Rule(Fault.DEAD_RULE, constraints.shadowed_list),
    Rule(Fault.DEAD_RULE, constraints.idle_name),
    Rule(Fault.DEAD_RULE, constraints.unknown_queue),
    Rule(Fault.DEAD_RULE, promises.shadowed_budget),
    Rule(Fault.DEAD_RULE, goals.never_decides),
    Rule(Fault.DEAD_RULE, goals.idle_route),
    Rule(Fault.DEAD_RULE, knobs.unused_class),
    Rule(Fault.WITHOUT_EFFECT, knobs.setting_of_another_model),
    Rule(Fault.WITHOUT_EFFECT, knobs.queue_field_of_another_model, refuses=True),
    Rule(Fault.WITHOUT_EFFECT, knobs.setting_of_a_closed_branch),
    Rule(Fault.WITHOUT_EFFECT, knobs.setting_of_preemption),
    Rule(Fault.WITHOUT_EFFECT, knobs.weight_without_borrowing),
    Rule(Fault.WITHOUT_EFFECT, goals.goal_without_weight),
    Rule(Fault.OSCILLATION, promises.promise_shorter_than_stopping),
    Rule(Fault.OSCILLATION, goals.prefers_the_forbidden),
)


def lint(policy: Policy, queues: Iterable[QueueSpec] = ()) -> tuple[LintFinding, ...]:
    """Everything that is wrong with a policy, and with a tree of queues under it where one is given."""
    documents = Documents(policy, tuple(queues))
    return tuple(finding for rule in RULES for finding in rule.findings(documents))


def refusals(policy: Policy, queues: Iterable[QueueSpec] = ()) -> tuple[LintFinding, ...]:
    """Why the two may not be in force together."""
    return tuple(finding for finding in lint(policy, queues) if finding.refuses)
