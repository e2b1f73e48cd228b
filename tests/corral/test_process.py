"""The command line as a process of its own: its exit code, and its output to pipes, files and nowhere."""

import json
import subprocess
import sys
from pathlib import Path

from tests.patience import PATIENCE_SECONDS

CORRAL = (sys.executable, "-c", "from corral.cli import main; main()")


def corral(*arguments: str, stdout: int = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*CORRAL, *arguments], stdout=stdout, stderr=subprocess.PIPE, text=True, check=False, timeout=PATIENCE_SECONDS
    )


def test_output_reaches_a_pipe() -> None:
    result = corral("version", "-o", "json")
    assert (result.returncode, list(json.loads(result.stdout))) == (0, ["version"])


def test_a_connection_that_failed_does_not_disturb_the_exit_code() -> None:
    result = corral("--address", "127.0.0.1:1", "list")
    assert (result.returncode, result.stdout) == (5, "")
    assert "Traceback" not in result.stderr


def test_output_that_cannot_be_written_is_told_in_one_line() -> None:
    with Path("/dev/full").open("w") as full:
        result = corral("version", stdout=full.fileno())
    assert (result.returncode, result.stderr) == (1, "input or output failed: No space left on device\n")


def test_wrong_usage_is_told_by_its_code() -> None:
    assert corral("no-such-command").returncode == 2
