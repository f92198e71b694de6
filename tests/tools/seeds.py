"""Do the notebooks' claims hold for other seeds? Run them with several, and print each claim's worst margin.

    python -m tests.tools.seeds                                                # seeds 0 to 9, both data sets: hours
    python -m tests.tools.seeds --seeds 3 --dataset digits notebooks/02_the_elbo.ipynb
    python -m tests.tools.seeds --seeds 0                                # only the table, of the runs that are there

Every run is kept in a file (`--results`); the command goes on where it was stopped, and runs a notebook again when its
code has changed. A claim that fails does not end the run: the cells behind it are run too. The margin is the distance
of the worst value from its bound, in standard deviations of that distance over the seeds; a broken claim has a negative
one, and there is none where the seeds change nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
from tqdm.auto import tqdm

from . import command
from .execute import ROOT, execute, unwanted_outputs

FAILED_CLAIM = re.compile(r"AssertionError: ✘")


class Margin(NamedTuple):
    """A claim over its seeds; `in_spreads` is the margin over the values' standard deviation, NaN where that is 0."""

    notebook: str
    data: str
    text: str
    relation: str
    bound: float
    runs: int
    broken: int
    worst: float
    in_spreads: float


def code_of(path: Path) -> str:
    """A short digest of a notebook's code, which changes when the code does."""
    cells = nbformat.read(path, as_version=4).cells
    code = "\0".join(cell.source for cell in cells if cell.cell_type == "code")
    return hashlib.sha256(code.encode()).hexdigest()[:12]


def run(path: Path, dataset: str, seed: int) -> dict[str, Any]:
    """Run a notebook once, in a process of its own, and return what it claimed and what else went wrong."""
    code = code_of(path)  # now: the file may be changed while it runs
    with tempfile.TemporaryDirectory() as folder:
        claims = Path(folder) / "claims.jsonl"
        settings = {"COURSE_DATASET": dataset, "COURSE_SEED": str(seed), "COURSE_CLAIMS": str(claims)}
        command = [sys.executable, "-m", "tests.tools.seeds", "--run", str(path)]
        done = subprocess.run(command, cwd=ROOT, env=os.environ | settings, capture_output=True, text=True, check=False)
        lines = claims.read_text(encoding="utf-8").splitlines() if claims.exists() else []
    problems = done.stdout.splitlines() if done.returncode == 0 else [f"the run ended early: {done.stderr[-500:]}"]
    return {
        "notebook": path.stem,
        "code": code,
        "data": dataset,
        "seed": seed,
        "claims": [json.loads(line) for line in lines],
        "problems": problems,
    }


def run_here(path: Path) -> None:
    """Run the notebook in this process and print, a line each, the problems that are no failed claim."""
    for problem in unwanted_outputs(execute(path, go_on=True)):
        if not FAILED_CLAIM.search(problem):
            print(" ".join(problem.split()))


def margins(runs: Sequence[dict[str, Any]]) -> list[Margin]:
    """Every claim of the runs where it was nearest to its bound; the same text in one notebook and data set is one."""
    claims: dict[tuple, list[dict[str, Any]]] = defaultdict(list)
    for entry in runs:
        for claim in entry["claims"]:
            claims[entry["notebook"], entry["data"], claim["text"], claim["relation"]].append(claim)
    found = []
    for (notebook, data, text, relation), made in claims.items():
        sign = 1 if relation.startswith(">") else -1  # of "≈" the value is the distance, and the bound what is allowed
        gaps = [_gap(sign * claim["value"], sign * claim["bound"]) for claim in made]
        worst = min(range(len(gaps)), key=gaps.__getitem__)
        broken = sum(gap < 0 or (gap == 0 and relation in "<>") for gap in gaps)
        finite = [gap for gap in gaps if math.isfinite(gap)]
        spread = statistics.stdev(finite) if len(finite) > 1 else 0.0
        in_spreads = gaps[worst] / spread if spread else math.nan
        value, bound = made[worst]["value"], made[worst]["bound"]
        found.append(Margin(notebook, data, text, relation, bound, len(gaps), broken, value, in_spreads))
    return found


def _gap(value: float, bound: float) -> float:
    """How far the value is above the bound; -inf for NaN, 0 where both are infinite alike."""
    if math.isnan(value):
        return -math.inf
    return 0.0 if value == bound else value - bound


def _shown(in_spreads: float) -> str:
    if math.isnan(in_spreads):
        return "-"
    return f"{in_spreads:.1f}" if in_spreads < 100 else "> 100"


def report(runs: Sequence[dict[str, Any]]) -> int:
    """Print the table and what went wrong; return the number of claims that were broken in some run."""
    rows = margins(runs)
    for notebook in sorted({row.notebook for row in rows}):
        print(f"\n{notebook}\n{'data':<8}{'runs':>5}{'broken':>8}{'worst':>12}  {'bound':<14}{'margin/sd':>9}  claim")
        for row in rows:
            if row.notebook == notebook:
                bound = f"{row.relation} {row.bound:.4g}"
                print(
                    f"{row.data:<8}{row.runs:>5}{row.broken:>8}{row.worst:>12.4g}  {bound:<14}"
                    f"{_shown(row.in_spreads):>9}  {row.text}"
                )
    broken = [row for row in rows if row.broken]
    print(f"\n{len(runs)} runs, {len(rows)} claims, {len(broken)} broken in some run")
    for row in broken:
        print(f"✘ {row.notebook}, {row.data}: {row.text}: {row.worst:.4g}, claimed {row.relation} {row.bound:.4g}")
    for entry in runs:
        for problem in entry["problems"]:
            print(f"! {entry['notebook']}, {entry['data']}, seed {entry['seed']}: {problem}")
    return len(broken)


def main(arguments: list[str] | None = None) -> int:
    parser = command("tools.seeds", __doc__)
    parser.add_argument("notebooks", nargs="*", type=Path, metavar="NOTEBOOK")
    parser.add_argument("--seeds", type=int, default=10, help="how many, from 0 on (default: %(default)s)")
    parser.add_argument("--dataset", choices=["mnist", "digits"], help="default: both")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count(), help="at once, a thread each (default: %(default)s)"
    )
    parser.add_argument("--results", type=Path, default=ROOT / "runs" / "seeds.jsonl", help="default: runs/seeds.jsonl")
    parser.add_argument("--run", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.run:
        run_here(options.run)
        return 0

    notebooks = [path.resolve() for path in options.notebooks] or sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
    current = {path.stem: code_of(path) for path in notebooks}
    datasets = [options.dataset] if options.dataset else ["digits", "mnist"]
    kept = []
    if options.results.exists():
        kept = [json.loads(line) for line in options.results.read_text(encoding="utf-8").splitlines()]
    kept = [entry for entry in kept if current.get(entry["notebook"]) == entry["code"] and entry["data"] in datasets]
    done = {(entry["notebook"], entry["data"], entry["seed"]) for entry in kept}
    wanted = [(path, data, seed) for seed in range(options.seeds) for data in datasets for path in notebooks]
    wanted = [job for job in wanted if (job[0].stem, *job[1:]) not in done]

    os.environ["OMP_NUM_THREADS"] = "1"
    options.results.parent.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(max(1, options.jobs)) as pool, tqdm(total=len(wanted), unit="run") as bar:
        for entry in pool.map(lambda job: run(*job), wanted):
            with options.results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry, ensure_ascii=False) + "\n")
            kept.append(entry)
            bar.update()
    return 1 if report(kept) else 0


if __name__ == "__main__":
    sys.exit(main())
