"""The command line `corral`: everything a service can do, for people and for shell scripts."""


def main() -> None:
    """Run the command line with the arguments of the process, and exit."""
    from corral.cli.commands import app  # others use our documents and problems without the commands

    app(prog_name="corral")
