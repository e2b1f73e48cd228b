"""The command line `corral`: everything a service can do, for people and for shell scripts."""

from corral.cli.commands import app


def main() -> None:
    """Run the command line with the arguments of the process, and exit."""
    app(prog_name="corral")
