"""Run notebooks from top to bottom, then their sections again in reverse order: going back must still tell the truth.

    python -m tests.tools.again NOTEBOOK...          # with COURSE_DATASET=digits: minutes
    python -m tests.tools.again --once NOTEBOOK...   # only from top to bottom

A section begins at a heading of the second level. Its cells are run again in their order, in the same kernel, after
everything else has run; cells tagged "long" (they train) are left out, as by a reader who goes back to look at one
figure: so a name that means something else by then is found. Errors and texts on stderr are printed, with the cell.
"""

from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from . import command
from .execute import unwanted_outputs

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def sections(notebook: nbformat.NotebookNode) -> dict[str, list[int]]:
    """Heading of the second level -> the places of the code cells under it; what stands above the first is in none."""
    found: dict[str, list[int]] = {}
    heading = None
    for place, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown" and (match := re.match(r"## +(.+)", cell.source)):
            heading = f"{match[1]} (cell {place})"
            found[heading] = []
        elif heading and cell.cell_type == "code" and cell.source.strip():
            found[heading].append(place)
    return found


def run(path: Path, *, once: bool = False, timeout: int = 600) -> list[str]:
    """Run the notebook at `path`, then its sections in reverse order unless `once`; return what went wrong."""
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook, timeout=timeout, kernel_name="python3", resources={"metadata": {"path": str(path.resolve().parent)}}
    )
    problems: list[str] = []

    def run_cells(places: list[int], where: str) -> None:
        for place in places:
            try:
                client.execute_cell(notebook.cells[place], place)
            except CellExecutionError as error:
                problems.append(f"{where}, cell {place}: {_COLOURS.sub('', str(error)).strip()}")
                return

    with client.setup_kernel(env={**os.environ, "COURSE_NOTEBOOK": path.stem}):
        run_cells([i for i, cell in enumerate(notebook.cells) if cell.cell_type == "code"], "top to bottom")
        problems += [] if problems else unwanted_outputs(notebook)
        if not (once or problems):
            for heading, places in reversed(sections(notebook).items()):
                short = [i for i in places if "long" not in notebook.cells[i].metadata.get("tags", [])]
                run_cells(short, f"going back to {heading!r}")
    return problems


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status: 0 when nothing went wrong."""
    parser = command("tools.again", __doc__)
    parser.add_argument("notebooks", nargs="+", type=Path, metavar="NOTEBOOK")
    parser.add_argument("--once", action="store_true", help="only from top to bottom")
    parser.add_argument("--timeout", type=int, default=600, help="seconds for each cell (default: %(default)s)")
    options = parser.parse_args(arguments)
    failed = 0
    for path in options.notebooks:
        started = time.monotonic()
        problems = run(path, once=options.once, timeout=options.timeout)
        failed += bool(problems)
        print(f"{path}: {time.monotonic() - started:.0f} s", *problems, sep="\n  ", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
