"""The result of a benchmark: a table for people, and JSON for programs."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

FOLDER = Path("runs/bench")


def parser(doc: str | None) -> argparse.ArgumentParser:
    """What all benchmarks take: `--small`, `--json FILE`, `--runs`, `--into`."""
    made = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    made.add_argument("--small", action="store_true", help="on little data, in a minute or two")
    made.add_argument("--runs", type=int, default=5, help="of each way, in turns")
    made.add_argument("--into", type=Path, default=FOLDER, help="folder of all that is written")
    made.add_argument("--json", type=Path, help="file for the result")
    return made


def show(result: dict[str, Any], table: str, file: Path | None) -> None:
    """Prints the table and the ratios, and writes everything where it is wanted."""
    print(table)
    print()
    for name, value in ratios(result).items():
        print(f"{name}: {value:.2f}")
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(result, indent=1) + "\n")


def ratios(result: dict[str, Any]) -> dict[str, float]:
    """The figures of a result that do not depend on the machine's speed."""
    return {name: value for name, value in result.items() if name.startswith("ratio_")}


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
