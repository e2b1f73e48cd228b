"""Programmes and flows of least cost, solved within a limit of deterministic work: the only file that knows OR-Tools."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from ortools.sat.python.cp_model_helper import CpModelProto, CpSolverResponse, LinearConstraintProto

Variable = int
"""The index of a variable, which is a whole number from 0 on."""

Terms = tuple[tuple[Variable, int], ...]
"""A weighted sum of variables."""

UNLIMITED = 2**60
"""Beyond every sum that occurs."""

LOWEST = -(2**63)
"""Of the numbers that OR-Tools counts with."""


@dataclass(frozen=True, slots=True)
class Row:
    """A condition: the sum lies between `least` and `most`."""

    terms: Terms
    least: int
    most: int


@dataclass(slots=True)
class Programme:
    """The most that each variable may be, the conditions, and what to minimise.

    The first objective counts most: a later one never makes an earlier one worse.
    """

    upper: list[int] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    objectives: list[Terms] = field(default_factory=list)

    def variable(self, most: int = 1) -> Variable:
        """A new variable."""
        self.upper.append(most)
        return len(self.upper) - 1

    def require(self, terms: Iterable[tuple[Variable, int]], *, least: int = -UNLIMITED, most: int = UNLIMITED) -> None:
        """A new condition."""
        self.rows.append(Row(tuple(terms), least, most))


@dataclass(frozen=True, slots=True)
class Solution:
    """The best values found, what each objective comes to with them, and the least that it could come to.

    Where the work did not suffice, both end with the first objective that is not proven. `work` is what was spent.
    """

    values: tuple[int, ...]
    reached: tuple[int, ...]
    bounds: tuple[int, ...]
    work: float
    is_proven: bool = True
    """Whether no values are better."""


@dataclass(frozen=True, slots=True)
class NoSolution:
    """No values satisfy all conditions, or (where it is not `proven`) none were found."""

    proven: bool
    work: float


# OR-Tools' models are written as it reads them, and loaded where they are needed: its own way of writing them loads pandas
# besides, for which every process waits for a third of a second, and has 40 MiB more.


def load() -> None:
    """Load OR-Tools, so that no round of this process has to wait for that."""
    from ortools.graph.python import min_cost_flow  # noqa: F401
    from ortools.linear_solver import pywraplp  # noqa: F401
    from ortools.sat.python import cp_model_helper  # noqa: F401


def solve(programme: Programme, work: float, hint: Mapping[Variable, int]) -> Solution | NoSolution:
    """Minimise the objectives one after another, each within what the ones before it allow.

    `work` is in OR-Tools' deterministic seconds: with one worker and a fixed seed the same programme gets the same answer,
    however fast the machine is and whatever else runs on it.
    """
    from ortools.sat.python.cp_model_helper import FEASIBLE, INFEASIBLE, OPTIMAL

    model = _model(programme)
    values, spent = dict(hint), 0.0
    reached: list[int] = []
    bounds: list[int] = []
    for objective in programme.objectives:
        _aim(model, objective, values)
        response = _solved(model, work - spent)
        spent += response.deterministic_time
        if response.status in (OPTIMAL, FEASIBLE):
            values = dict(enumerate(response.solution))
        elif not reached:
            return NoSolution(response.status == INFEASIBLE, spent)
        reached.append(sum(weight * values[index] for index, weight in objective))
        bounds.append(reached[-1] if response.status == OPTIMAL else max(0, round(response.best_objective_bound)))
        if response.status != OPTIMAL:
            break
        _require(Row(objective, LOWEST, reached[-1]), model)
    in_order = tuple(values[index] for index in range(len(programme.upper)))
    return Solution(in_order, tuple(reached), tuple(bounds), spent, response.status == OPTIMAL)


def _model(programme: Programme) -> "CpModelProto":
    from ortools.sat.python.cp_model_helper import CpModelProto

    model = CpModelProto()
    for most in programme.upper:
        model.variables.add().domain.extend((0, most))
    for row in programme.rows:
        _require(row, model)
    return model


def _require(row: Row, model: "CpModelProto") -> None:
    linear: LinearConstraintProto = model.constraints.add().linear
    indexes, weights = _summed(row.terms)
    linear.vars.extend(indexes)
    linear.coeffs.extend(weights)
    linear.domain.extend((row.least, row.most))


def _summed(terms: Terms) -> tuple[list[Variable], list[int]]:
    """The variables of a sum, each of them once, and their weights."""
    weights: dict[Variable, int] = {}
    for index, weight in terms:
        weights[index] = weights.get(index, 0) + weight
    indexes = sorted(index for index, weight in weights.items() if weight)
    return indexes, [weights[index] for index in indexes]


def _aim(model: "CpModelProto", objective: Terms, hint: Mapping[Variable, int]) -> None:
    model.clear_objective()
    indexes, weights = _summed(objective)
    model.objective.scaling_factor = 1
    model.objective.vars.extend(indexes)
    model.objective.coeffs.extend(weights)
    model.clear_solution_hint()
    for index, value in sorted(hint.items()):
        model.solution_hint.vars.append(index)
        model.solution_hint.values.append(value)


def _solved(model: "CpModelProto", work: float) -> "CpSolverResponse":
    from ortools.sat.python.cp_model_helper import SatParameters, SolveWrapper

    parameters = SatParameters()
    parameters.num_workers = 1
    parameters.random_seed = 0
    parameters.max_deterministic_time = max(0.0, work)
    solver = SolveWrapper()
    solver.set_parameters(parameters)
    response: CpSolverResponse = solver.solve(model)  # type: ignore[no-untyped-call]
    return response


# Without whole numbers


def least_possible(programme: Programme) -> int | None:
    """What the first objective comes to at the very least: the linear programme in which variables may be fractions.

    None where even fractions satisfy no condition, or nothing was proven. It takes one method and no time limit, so that
    the same programme gets the same answer.
    """
    from ortools.linear_solver import pywraplp

    solver = pywraplp.Solver.CreateSolver("GLOP")
    variables = [solver.NumVar(0, most, "") for most in programme.upper]
    for row in programme.rows:
        lowest = row.least if row.least > -UNLIMITED else -solver.infinity()
        constraint = solver.Constraint(lowest, row.most if row.most < UNLIMITED else solver.infinity())
        for index, weight in row.terms:
            constraint.SetCoefficient(variables[index], weight)
    objective = solver.Objective()
    for index, weight in programme.objectives[0]:
        objective.SetCoefficient(variables[index], weight)
    objective.SetMinimization()
    if solver.Solve() != pywraplp.Solver.OPTIMAL:
        return None
    least = float(objective.Value())
    return ceil(least - max(0.5, abs(least) * RELATIVE_ERROR))


RELATIVE_ERROR = 1e-7
"""How far from the optimum the floating-point numbers of a linear programme may be."""


# Flows


class Arc(NamedTuple):
    """A way for up to so many units from one vertex to another, at a cost for each."""

    tail: int
    head: int
    most: int
    cost: int


def cheapest_flow(arcs: Sequence[Arc], offered: Mapping[int, int]) -> tuple[int, ...] | None:
    """How many units take each arc when everything is sent at the least cost, or none where it cannot all be sent.

    `offered` is what each vertex has to send; negative where it takes. The method is exact and knows no limits: its work is
    bounded by the number of arcs.
    """
    from ortools.graph.python import min_cost_flow

    flow = min_cost_flow.SimpleMinCostFlow()
    for arc in arcs:
        flow.add_arc_with_capacity_and_unit_cost(*arc)
    for vertex, units in sorted(offered.items()):
        flow.set_node_supply(vertex, units)
    if flow.solve() != flow.OPTIMAL:
        return None
    return tuple(flow.flow(index) for index in range(len(arcs)))
