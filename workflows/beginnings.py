"""How workflows begin: anybody may start them, with anything; with what makes no sense they end at once, and say why."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any, TypeVar, get_type_hints

from temporalio import workflow
from temporalio.exceptions import ApplicationError

with workflow.unsafe.imports_passed_through():
    from pydantic import TypeAdapter, ValidationError
    from pydantic_core import to_json

    from activities.admission import in_words
    from corral import wire
    from workflows.payloads import Unreadable

Kind = TypeVar("Kind", bound=type)


class CannotGoOn(Exception):
    """What a run was left by another one cannot be read by this code: the task is tried again, by newer code as well."""


def begun_by_anybody(kind: Kind) -> Kind:
    """Let a workflow read its arguments itself.

    Temporal would fail the first task for each that it cannot read, again and again until somebody terminates the workflow.
    """
    methods: Any = kind
    reader = _Reader(methods.run)
    methods.run = _taking_anything(methods.run, reader)
    if hasattr(methods.__init__, "__temporal_workflow_init"):
        methods.__init__ = _taking_anything(methods.__init__, reader)
    return kind


def _taking_anything(method: Callable[..., Any], reader: "_Reader") -> Callable[..., Any]:
    """The method with a signature that any arguments fit, by which Temporal hands them over as `TakingAnything` reads them."""

    @wraps(method)
    def taking(self: object, *given: Any) -> Any:
        return method(self, *reader.read(given))

    @wraps(method)
    async def taking_in_time(self: object, *given: Any) -> Any:
        return await method(self, *reader.read(given))

    taken = taking_in_time if inspect.iscoroutinefunction(method) else taking
    del taken.__dict__["__wrapped__"]
    return taken


class _Reader:
    """What a kind of workflow begins with: its arguments in order, each with what can be read as it."""

    def __init__(self, run: Callable[..., Any]) -> None:
        hints = get_type_hints(run)
        self._parameters = list(inspect.signature(run).parameters.values())[1:]
        self._adapters: Mapping[str, TypeAdapter[Any] | None] = {
            name: None if hints[name] is Any else TypeAdapter(hints[name]) for name in (each.name for each in self._parameters)
        }

    def read(self, given: Sequence[Any]) -> list[Any]:
        """The arguments as the workflow takes them.

        Raises:
            ApplicationError: they make no sense.
            CannotGoOn: the same, and no stranger has given them.
        """
        needed = sum(each.default is inspect.Parameter.empty for each in self._parameters)
        if not needed <= len(given) <= len(self._parameters):
            names = ", ".join(self._adapters) or "none"
            raise _senseless(f"{len(given)} arguments - it takes {names}")
        named = zip(self._adapters.items(), given, strict=False)
        return [_as_read(name, adapter, value) for (name, adapter), value in named]


def _as_read(name: str, adapter: TypeAdapter[Any] | None, value: Any) -> Any:
    if isinstance(value, Unreadable):
        if adapter is None:
            return value.why  # whoever takes anything refuses it in words
        raise _senseless(f"{name}: {value.why}")
    if adapter is None:
        return value
    try:
        return adapter.validate_json(to_json(value))
    except ValidationError as error:
        raise _senseless(in_words(error, name)) from None


def _senseless(problem: str) -> Exception:
    info = workflow.info()
    words = f"{info.workflow_type} cannot begin with this: {problem}"
    if info.continued_run_id is not None or info.parent is not None:
        return CannotGoOn(words)
    return ApplicationError(words, type=wire.Failure.INVALID, non_retryable=True)
