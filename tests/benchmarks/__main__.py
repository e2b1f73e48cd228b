"""`python -m tests.benchmarks`: measure everything; JSON lines on the standard output, what goes on on the other."""

import sys
import tempfile
from pathlib import Path

import uvloop

from activities.deciding import Decider
from tests.benchmarks import lifecycles, rounds, scale


async def main() -> None:
    """Measure, and print each figure when it is there."""
    with tempfile.TemporaryDirectory(prefix="corral-bench-") as directory:
        print("measuring lifecycles; this takes some minutes", file=sys.stderr)
        async for figure in lifecycles.measure(Path(directory)):
            print(figure.as_json(), flush=True)
    print("measuring whole rounds; this takes some minutes", file=sys.stderr)
    async for figure in rounds.measure(Decider().decide):
        print(figure.as_json(), flush=True)
    print("measuring fleets as they grow; this takes some minutes", file=sys.stderr)
    for figure in scale.measure():
        print(figure.as_json(), flush=True)


if __name__ == "__main__":
    uvloop.run(main())
