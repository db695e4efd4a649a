"""All benchmarks of speed at small size, and what has become slower since the stored figures.

    .venv/bin/python -m benchmarks

Only ratios of two figures of one run are compared: those do not depend on how fast a machine is. A
ratio that is worse than the stored one by more than a fifth is shown, and the exit status is 1.
`--store` takes the present ratios as the stored ones.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from benchmarks import result

STORED = Path(__file__).parent / "ratios.json"
DROP = 0.2
BENCHMARKS = ("labeler", "sharing", "join", "input", "embeddings", "simulator", "pipeline")
LOWER_IS_BETTER = {"ratio_further_student", "ratio_join", "ratio_with_labels"}
"""Ratios of costs; the others are of speeds."""

Ratios = Mapping[str, Mapping[str, float]]


def drops(stored: Ratios, found: Ratios) -> list[str]:
    """What is worse by more than a fifth, in words."""
    told = []
    for benchmark, ratios in found.items():
        for name, value in ratios.items():
            before = stored.get(benchmark, {}).get(name)
            if before is None or not before or not value:
                continue
            kept = before / value if name in LOWER_IS_BETTER else value / before
            if kept < 1 - DROP:
                told.append(f"{benchmark}: {name} was {before:.2f}, is {value:.2f}")
    return told


def measure(into: Path, runs: int) -> dict[str, dict[str, float]]:
    """Runs all benchmarks at small size, each in a process of its own; their ratios."""
    found = {}
    for name in BENCHMARKS:
        file = into / f"{name}.json"
        print(f"\n== {name}", flush=True)
        started = time.monotonic()
        module = f"benchmarks.{name}"
        given = ["--small", "--runs", str(runs), "--into", str(into), "--json", str(file)]
        subprocess.run([sys.executable, "-m", module, *given], check=True)
        print(f"({time.monotonic() - started:.0f} s)")
        found[name] = result.ratios(json.loads(file.read_text()))
    return found


def main() -> int:
    """Measures, compares, tells."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--into", type=Path, default=result.FOLDER)
    parser.add_argument("--runs", type=int, default=5, help="of each way, in turns")
    parser.add_argument("--store", action="store_true", help="keep these ratios for later")
    asked = parser.parse_args()
    found = measure(asked.into, asked.runs)
    if asked.store:
        STORED.write_text(json.dumps(found, indent=1) + "\n")
        return 0
    if not STORED.exists():
        print("\nNothing to compare with: no ratios are stored yet, see --store.")
        return 0
    told = drops(json.loads(STORED.read_text()), found)
    print("\n" + ("\n".join(["Slower than stored:", *told]) if told else "Nothing is slower."))
    return 1 if told else 0


if __name__ == "__main__":
    sys.exit(main())
