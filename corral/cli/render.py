"""Output: the same answer as a table for people, or as JSON or YAML for programs."""

import io
import json
import sys
from collections.abc import AsyncIterable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic, TypeVar

import typer
from pydantic_core import to_jsonable_python
from rich.console import Console
from rich.live import Live
from ruamel.yaml import YAML

from corral.cli.pages import Page, plain
from corral.cli.terminal import OnTerminal

UNBROKEN = 1 << 20
"""Columns of YAML: enough to break no line."""

Answer = TypeVar("Answer")


class Form(StrEnum):
    """How an answer is written."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


def _itself(answer: Any) -> Any:
    return answer


@dataclass(frozen=True, slots=True)
class View(Generic[Answer]):
    """What is shown of an answer: to people as a table, to programs as data, which is the answer itself if nothing is said."""

    page: Callable[[Answer], Page]
    data: Callable[[Answer], object] = _itself


def to_text(answer: object, form: Form, *, one_line: bool = False) -> str:
    """Write an answer as JSON or YAML: exactly the fields of its models."""
    data = to_jsonable_python(answer)
    if form is Form.YAML:
        return _to_yaml(data)
    return json.dumps(data, ensure_ascii=False, indent=None if one_line else 2)


def _to_yaml(data: Any) -> str:
    yaml: Any = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.width = UNBROKEN
    yaml.sort_base_mapping_type_on_output = False
    stream = io.StringIO()
    yaml.dump(data, stream)
    return stream.getvalue().removesuffix("\n").removesuffix("\n...")


def show(answer: Answer, form: Form, view: View[Answer]) -> None:
    """Print an answer."""
    if form is Form.TABLE:
        _print_page(view.page(answer))
    else:
        typer.echo(to_text(view.data(answer), form))


async def show_changes(answers: AsyncIterable[Answer], form: Form, view: View[Answer]) -> None:
    """Print answers as they come: in place on a terminal; else below each other, as JSON one line each."""
    if form is Form.TABLE and _console().is_terminal:
        with Live(console=_console(), auto_refresh=False, vertical_overflow="visible") as live:
            async for answer in answers:
                live.update(OnTerminal(view.page(answer)), refresh=True)
        return
    async for answer in answers:
        show_change(answer, form, view)


def show_change(answer: Answer, form: Form, view: View[Answer]) -> None:
    """Print one answer of several: a table, a line of JSON or a YAML document."""
    if form is Form.TABLE:
        _print_page(view.page(answer))
    elif form is Form.JSON:
        typer.echo(to_text(view.data(answer), form, one_line=True))
    else:
        typer.echo(f"---\n{to_text(view.data(answer), form)}")
    sys.stdout.flush()


def _console() -> Console:
    """Standard output. What Corral tells is text, never markup."""
    return Console(markup=False, emoji=False, highlight=False)


def _print_page(page: Page) -> None:
    console = _console()
    if console.is_terminal:
        console.print(OnTerminal(page))
    else:
        typer.echo("\n".join(plain(page)))
