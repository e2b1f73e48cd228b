"""Exit codes: what a shell script may rely on, in one table, and how errors become them."""

from collections.abc import Mapping
from enum import IntEnum
from typing import Any

import typer
from pydantic import ValidationError
from typer.core import TyperGroup

from corral.api import State
from corral.cli.problems import option_in_words
from corral.client import Conflict, CorralError, Forbidden, Invalid, NotFound, Unreachable


class ExitCode(IntEnum):
    """The exit codes. They do not change between versions."""

    OK = 0
    UNEXPECTED = 1
    INVALID = 2
    NOT_FOUND = 3
    CONFLICT = 4
    UNREACHABLE = 5
    ENDED_BADLY = 6
    FORBIDDEN = 7


MEANINGS: Mapping[ExitCode, str] = {
    ExitCode.OK: "done",
    ExitCode.UNEXPECTED: "something unexpected: a bug",
    ExitCode.INVALID: "wrong usage or invalid input; nothing was changed",
    ExitCode.NOT_FOUND: "there is no such workload, queue or provider",
    ExitCode.CONFLICT: "in conflict with what is so, or not allowed in this state",
    ExitCode.UNREACHABLE: "Corral did not answer; the command may be repeated",
    ExitCode.ENDED_BADLY: "the workload failed, or was cancelled or refused (wait, submit --wait)",
    ExitCode.FORBIDDEN: "whoever asks may not do this; nothing was changed",
}

EPILOG = "\b\nExit codes:\n" + "\n".join(f"  {code.value}  {meaning}" for code, meaning in MEANINGS.items())
"""The table as `corral --help` shows it."""

_CODES: Mapping[type[CorralError], ExitCode] = {
    Invalid: ExitCode.INVALID,
    NotFound: ExitCode.NOT_FOUND,
    Conflict: ExitCode.CONFLICT,
    Forbidden: ExitCode.FORBIDDEN,
    Unreachable: ExitCode.UNREACHABLE,
}


def code_of_error(error: CorralError) -> ExitCode:
    """The exit code by which a script recognises an error."""
    return next((code for kind, code in _CODES.items() if isinstance(error, kind)), ExitCode.UNEXPECTED)


def code_of_end(state: State) -> ExitCode:
    """The exit code after waiting for a workload that ended in this state."""
    return ExitCode.OK if state is State.SUCCEEDED else ExitCode.ENDED_BADLY


class Commands(TyperGroup):
    """A group of commands that tells a person about an expected error, without a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; on an expected error, print it to stderr and exit with its code; usage is told by typer."""
        try:
            return super().invoke(ctx)
        except CorralError as error:
            typer.echo(str(error), err=True)
            raise typer.Exit(code_of_error(error)) from error
        except typer.BadParameter as error:
            if isinstance(error.__cause__, ValidationError):
                error.message = option_in_words(error.__cause__)
            raise
