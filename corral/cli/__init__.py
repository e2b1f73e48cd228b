"""The command line `corral`: everything a service can do, for people and for shell scripts."""

import contextlib
import os
import sys
import traceback
from typing import NoReturn

from corral.loading import loading


def main() -> NoReturn:
    """Run the command line with the arguments of the process, and end the process.

    It ends without tearing the interpreter down: threads of Temporal's runtime may still be calling into it then, which
    would abort the process with a code of its own.
    """
    code = _run()
    for stream in filter(None, (sys.stdout, sys.stderr)):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(code)


def _run() -> int:
    """Run the command, and tell its exit code."""
    with loading():  # here, so that whoever takes one module of this package, as workers do, does not load every command
        import typer

        from corral.cli.commands import app
        from corral.cli.exits import ExitCode
    try:
        app(prog_name="corral")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else ExitCode.OK
    except OSError as error:
        typer.echo(f"input or output failed: {error.strerror}", err=True)
    except Exception:
        traceback.print_exc()
    return ExitCode.UNEXPECTED
