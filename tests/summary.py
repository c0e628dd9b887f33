"""One line for each environment's tests and, last, one line that counts them all.

    python tests/summary.py build/reports core airflow prefect dagster

The law of this file: green means that every environment ran its tests and every test passed. A report that is missing
or empty counts as a failure, and a skipped test keeps the run from being green, so nothing is ever left out unseen.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.etree import ElementTree as ET


def outcomes(report: Path) -> Iterator[str]:
    """`passed`, `failed` or `skipped` for each test of a JUnit report, as pytest writes it."""
    for case in ET.parse(report).iter("testcase"):
        found = {child.tag for child in case}
        yield "failed" if found & {"failure", "error"} else "skipped" if "skipped" in found else "passed"


def count(report: Path) -> tuple[Counter[str], str]:
    """How the tests of a report ended, and what is wrong with the report itself."""
    try:
        counted = Counter(outcomes(report))
    except FileNotFoundError:
        return Counter(failed=1), "no report: its tests did not run"
    except ET.ParseError:
        return Counter(failed=1), "report cut short: its tests did not end"
    if not counted:
        return Counter(failed=1), "ran no test"
    return counted, ""


def line(counted: Counter[str]) -> str:
    """`N passed, N failed`, and `, N skipped` where there are any."""
    skipped = f", {counted['skipped']} skipped" if counted["skipped"] else ""
    return f"{counted['passed']} passed, {counted['failed']} failed{skipped}"


def main(arguments: Sequence[str]) -> int:
    """Print the lines; 1 unless everything passed."""
    folder, *environments = arguments
    total: Counter[str] = Counter()
    width = max(map(len, environments), default=0)
    for environment in environments:
        counted, trouble = count(Path(folder) / f"{environment}.xml")
        total += counted
        print(f"{environment:<{width}}  {trouble or line(counted)}")
    print(line(total))
    return 0 if total["passed"] and not total["failed"] and not total["skipped"] else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
