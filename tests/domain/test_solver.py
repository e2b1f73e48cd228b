import subprocess
import sys

from ortools.sat.python import cp_model

from domain import solver
from domain.solver import NoSolution, Programme, Solution, solve

ENOUGH = 1.0


def two_of_three() -> Programme:
    """Three things of which two are needed; the first is dear, and the last is no better than the second."""
    programme = Programme()
    one, two, three = (programme.variable() for _ in range(3))
    programme.require([(one, 1), (two, 1), (three, 1)], least=2)
    programme.objectives = [((one, 5), (two, 1), (three, 1))]
    return programme


def test_the_cheapest_values_are_found_and_proven() -> None:
    found = solve(two_of_three(), ENOUGH, {})
    assert isinstance(found, Solution)
    assert (found.values, found.reached, found.bounds, found.is_proven) == ((0, 1, 1), (2,), (2,), True)


def test_a_later_objective_makes_no_earlier_one_worse() -> None:
    programme = Programme()
    dear, cheap = programme.variable(3), programme.variable(3)
    programme.require([(dear, 1), (cheap, 1)], least=4)
    programme.objectives = [((dear, 2), (cheap, 1)), ((cheap, 1),)]
    found = solve(programme, ENOUGH, {})
    assert isinstance(found, Solution)
    assert found.values == (1, 3)
    assert found.reached == (5, 3)


def test_conditions_that_contradict_each_other_have_no_solution() -> None:
    programme = two_of_three()
    programme.require([(0, 1), (1, 1), (2, 1)], most=1)
    found = solve(programme, ENOUGH, {})
    assert isinstance(found, NoSolution)
    assert found.proven


def test_a_sum_may_name_a_variable_twice_or_none() -> None:
    programme = two_of_three()
    programme.require([(1, 1), (0, 3), (1, 1)], most=1)
    programme.require([], most=7)
    found = solve(programme, ENOUGH, {})
    assert found == NoSolution(proven=True, work=found.work)


def test_models_are_written_as_or_tools_writes_them() -> None:
    programme = two_of_three()
    programme.require([(2, 4), (0, 1), (2, -1)], most=3)
    its = cp_model.CpModel()
    one, two, three = (its.new_int_var(0, 1, "") for _ in range(3))
    its.add_linear_constraint(one + two + three, 2, solver.UNLIMITED)
    its.add_linear_constraint(4 * three + one - three, -solver.UNLIMITED, 3)
    its.minimize(5 * one + two + three)
    its.add_hint(two, 1)
    model = solver._model(programme)
    solver._aim(model, programme.objectives[0], {1: 1})
    assert str(model) == str(its.proto)


def test_a_process_that_solves_does_without_pandas() -> None:
    code = "import sys; from domain import solver; solver.load(); sys.exit('pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
