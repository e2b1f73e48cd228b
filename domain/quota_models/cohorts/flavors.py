"""Flavors: which SKU each replica group gets, by the order and the preferences of its queue (Kueue, `flavorassigner`)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from corral.api import Reclaim, WithinQueue
from domain.pool.fleet import Amount
from domain.pool.workload import Waiting
from domain.quota_models.cohorts.borrowing import Needs, by_row, reach
from domain.quota_models.cohorts.contest import with_needs
from domain.quota_models.cohorts.grades import Grade, Mode, ends_search, is_preferred
from domain.quota_models.cohorts.preempting import foresee
from domain.quota_models.cohorts.setting import Setting
from domain.worlds.request import Request, Shape
from domain.worlds.world import World

WORST = Grade(Mode.NO_FIT, 0)


@dataclass(frozen=True, slots=True)
class Assignment:
    """The SKU of each group, what that needs of each SKU, and the worst grade that a group got for it.

    Groups that need no accelerators are left out: they go wherever the others do.
    """

    skus: Mapping[str, str]
    needs: Needs
    grades: Mapping[str, Grade]

    @property
    def fits(self) -> bool:
        """Whether there is quota for every group now."""
        return all(grade.mode is Mode.FIT for grade in self.grades.values())

    @property
    def short(self) -> frozenset[str]:
        """SKUs of which others must give back."""
        return frozenset(sku for sku, grade in self.grades.items() if grade.mode is not Mode.FIT)

    @property
    def level(self) -> int:
        """How far from home the quota comes, at the furthest."""
        return max((grade.level for grade in self.grades.values()), default=0)


def assign(
    workload: Waiting, request: Request, accepted: Mapping[str, Sequence[str]], world: World, setting: Setting
) -> Assignment | None:
    """Find a SKU for one group after the other, each with what those before it take; none where a group finds no SKU.

    `accepted` has the SKUs that each group accepts, in the order in which the queue tries them.
    """
    skus: dict[str, str] = {}
    needs: dict[str, Amount] = {}
    grades: dict[str, Grade] = {}
    for shapes in _bundles(request):
        need = sum(shape.count * shape.milli for shape in shapes)
        if not any(shape.milli for shape in shapes):
            continue
        choices = [sku for sku in accepted[shapes[0].name] if all(sku in accepted[shape.name] for shape in shapes)]
        found = _search(workload, need, choices, needs, world, setting)
        if found is None:
            return None
        sku, grade = found
        skus |= {shape.name: sku for shape in shapes}
        needs[sku] = needs.get(sku, 0) + need
        grades[sku] = _worse(grade, grades.get(sku, grade))
    return Assignment(skus, needs, grades)


def _worse(grade: Grade, other: Grade) -> Grade:
    return Grade(min(grade.mode, other.mode), max(grade.level, other.level))


def _bundles(request: Request) -> Iterable[Sequence[Shape]]:
    """Groups that must share a domain must share a SKU; all others choose on their own."""
    together = {group.name: group.colocate or f"/{group.name}" for group in request.spec.groups}
    bundles: dict[str, list[Shape]] = {}
    for shape in (shape for shape in request.gang.shapes if shape.count):
        bundles.setdefault(together[shape.name], []).append(shape)
    return bundles.values()


def _search(
    workload: Waiting, need: Amount, choices: Iterable[str], taken: Needs, world: World, setting: Setting
) -> tuple[str, Grade] | None:
    """The first SKU that ends the search, or else the best of all."""
    fungibility = setting.fungibility(workload.spec.queue)
    best: tuple[str, Grade] | None = None
    for sku in choices:
        grade = grade_of(workload, sku, need, taken, world, setting)
        if ends_search(grade, fungibility):
            return sku, grade
        if is_preferred(grade, best[1] if best else WORST, fungibility):
            best = sku, grade
    return best


def grade_of(workload: Waiting, sku: str, need: Amount, taken: Needs, world: World, setting: Setting) -> Grade:
    """How the queue could have this much of the SKU beside what the groups before take (Kueue, `fitsResourceQuota`)."""
    spec, usage, tree = workload.spec, world.usage, world.usage.tree
    needs = {**taken, sku: need + taken.get(sku, 0)}
    if needs[sku] > tree.ceiling_of(spec, sku):
        return WORST
    rows = {row: more for row, more in by_row(needs, spec.queue, tree).items() if row in tree.rows(spec.queue, sku)}
    reached = reach(usage, spec.queue, rows, setting.hierarchy)
    if need <= with_needs(usage, workload, taken).allowed(spec, sku):
        return Grade(Mode.FIT, reached.level)
    if tree.nominal(spec.queue, sku) >= needs[sku] or reached.is_inside or _may_preempt_to_borrow(spec.queue, setting):
        mode, reached = foresee(workload, {sku: needs[sku]}, rows, world, setting)
        return Grade(mode, reached.level)
    return Grade(Mode.NO_FIT, reached.level)


def _may_preempt_to_borrow(queue: str, setting: Setting) -> bool:
    """Whether the queue may have work stopped for more than it owns: lower work of others, or what fair shares decide."""
    policy = setting.preemption(queue)
    may_stop_any = (policy.reclaim_within_cohort, policy.within_queue) != (Reclaim.NEVER, WithinQueue.NEVER)
    by_share = setting.facts.policy.rank.cohorts.fair_sharing and may_stop_any
    return by_share or policy.borrow_within_cohort.policy != "never"
