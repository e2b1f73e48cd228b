"""`python -m tests.chaos --seed 7 --seconds 600`: chaos for as long as one likes; exit 1 when anything is wrong in the end."""

import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer
import uvloop

from tests.chaos.driver import Chaos
from tests.chaos.plan import Plan, planned
from tests.chaos.pool import chaotic_pool

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, help=__doc__)


@app.command()
def main(
    seed: Annotated[int, typer.Option(help="decides the load and the faults")] = 1,
    seconds: Annotated[float, typer.Option(help="how long faults strike")] = 60,
    keep: Annotated[Path | None, typer.Option(help="a new directory for the servers' data and logs, which stay")] = None,
) -> None:
    """Let faults strike a pool at work, and tell what is broken in the end."""
    if keep is not None:
        keep.mkdir(parents=True)
    with tempfile.TemporaryDirectory(prefix="corral-chaos-") as temporary:
        raise typer.Exit(uvloop.run(_run(planned(seed, seconds), keep or Path(temporary))))


async def _run(plan: Plan, directory: Path) -> int:
    async with chaotic_pool(directory) as pool:
        chaos = Chaos(pool, plan)
        await chaos.run()
        broken = [*await pool.live.audit(), *await chaos.findings()]
        runs = await pool.runs_that_went_on()
        broken += [f"{fault} never struck" for fault in sorted(plan.faults) if not chaos.hits[fault]]
    for fault, times in sorted(chaos.hits.items()):
        print(f"{fault}: {times}")
    did = f"{len(chaos.ends)} workloads, {runs} runs that others took over from, {sum(chaos.hits.values())} faults"
    print(f"{did}, {len(broken)} findings")
    for finding in broken:
        print(f"broken: {finding}", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    app()
