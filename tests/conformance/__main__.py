"""Run cases by id or by file: `python -m tests.conformance [ID | FILE STEM]...`; says what differs, and how many pass."""

import sys
import traceback
from collections import Counter

from tests.conformance.cases import FOLDER, all_cases
from tests.conformance.judging import judge


def main(wanted: list[str]) -> int:
    """Run the wanted cases, or all; gives 1 when any differs."""
    passed: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for stem, case in all_cases():
        if wanted and stem not in wanted and case.id not in wanted:
            continue
        total[stem] += 1
        try:
            found = judge(case)
        except Exception:
            found = [traceback.format_exc(limit=-4)]
        passed[stem] += not found
        for difference in found:
            print(f"{case.id}: {difference}")
    for stem in total:
        print(f"{stem}: {passed[stem]} of {total[stem]}")
    if not total:
        print(f"no such case in {FOLDER}", file=sys.stderr)
    return int(passed != total or not total)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
