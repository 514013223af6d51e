"""Run the checks in the long profile and print one table: `python -m tests.faults [name ...]`."""

from __future__ import annotations

import argparse
import time

from tests.faults.checks import CHECKS


def main() -> int:
    """Print a line of the table for each check; return 1 if one of them failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=f"of {', '.join(CHECKS)}: all")
    parser.add_argument("--short", action="store_true", help="the profile that pytest runs")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(CHECKS)
    if unknown:
        parser.error(f"no checks of the names {sorted(unknown)}")
    examples = []
    print("| fault | tried | failed | lost | seconds |\n|---|---|---|---|---|", flush=True)
    for name in arguments.names or CHECKS:
        start = time.monotonic()
        figures = CHECKS[name](not arguments.short)
        seconds = time.monotonic() - start
        row = f"{figures.tried:,} | {figures.failed:,} | {figures.lost:,} | {seconds:.0f}"
        print(f"| {name} | {row} |", flush=True)
        examples += [f"{name}: {example}" for example in figures.examples]
    print(*["", *examples], sep="\n")
    return int(bool(examples))


if __name__ == "__main__":
    raise SystemExit(main())
