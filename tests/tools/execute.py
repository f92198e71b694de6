"""Run notebooks from top to bottom, as their committed outputs are made.

    python -m tests.tools.execute NOTEBOOK...                             # run, report the time, keep the file
    python -m tests.tools.execute --in-place NOTEBOOK...                  # store the outputs, cleaned, on MNIST
    python -m tests.tools.execute --seed 3 --claims c.jsonl NOTEBOOK...   # gather the numbers behind the claims
    python -m tests.tools.execute --fold NOTEBOOK...                      # run nothing: fold what is tagged for it

Cells that only draw are tagged "draw" and cells that only hold claims "assert": their code is folded. Stored outputs
hold what a reader sees and nothing else: no widgets' state, no time stamps, no metadata of one machine. A notebook that
raises, or writes to stderr (a warning, say), is refused; its file stays as it is.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from course_utils._files import replace_text

from . import command

ROOT = Path(__file__).resolve().parents[2]
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
KEPT_METADATA = ("tags", "jupyter", "slideshow", "cellView")
FOLDED = {"draw": "The figure", "assert": "The claims"}  # tag -> the line that Colab shows in place of the code
KERNELSPEC = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}


def execute(
    path: Path, *, environment: dict[str, str] | None = None, timeout: int = 900, go_on: bool = False, **hooks: Callable
) -> nbformat.NotebookNode:
    """Run the notebook at `path` in a fresh kernel, in its own folder, and return it with its outputs.

    `timeout` is in seconds, for each cell; `hooks` are NotebookClient's, such as on_cell_executed. Raises nbclient's
    CellExecutionError when a cell raises, unless `go_on`, and CellTimeoutError when one does not end.
    """
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=timeout,
        kernel_name="python3",
        allow_errors=go_on,
        resources={"metadata": {"path": str(path.resolve().parent)}},
        store_widget_state=False,
        record_timing=False,
        coalesce_streams=True,
        **hooks,
    )
    client.execute(env={**os.environ, **(environment or {}), "COURSE_NOTEBOOK": path.stem})
    return notebook


def clean(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Remove, in place, whatever is not what a reader sees; number the cells 1 … n; return the notebook."""
    notebook.metadata = nbformat.from_dict({"kernelspec": KERNELSPEC, "language_info": {"name": "python"}})
    count = 0
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict({key: value for key, value in cell.metadata.items() if key in KEPT_METADATA})
        if cell.cell_type != "code":
            continue
        cell.outputs = [output for output in cell.outputs if WIDGET_VIEW not in output.get("data", {})]
        cell.execution_count = None
        if cell.source.strip():
            count += 1
            cell.execution_count = count
        for output in cell.outputs:
            output.pop("transient", None)
            if output.output_type == "execute_result":
                output.execution_count = count
    return fold(notebook)


def fold(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Hide, in place, the code of cells tagged "draw" or "assert" in JupyterLab and in Colab, and of no other."""
    for cell in notebook.cells:
        title = next((FOLDED[tag] for tag in cell.metadata.get("tags", []) if tag in FOLDED), "")
        cell.metadata.pop("cellView", None)
        cell.metadata.pop("jupyter", None)
        if title:
            cell.metadata.update(cellView="form", jupyter=nbformat.from_dict({"source_hidden": True}))
            if not cell.source.startswith("# @title "):
                cell.source = f"# @title {title}\n{cell.source}"
    return notebook


def unwanted_outputs(notebook: nbformat.NotebookNode) -> list[str]:
    """Every error and every text on stderr among the outputs, as lines that name the cell."""
    found = []
    for number, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                found.append(f"cell {number} raised {output.ename}: {output.evalue}")
            elif output.output_type == "stream" and output.name == "stderr":
                found.append(f"cell {number} wrote to stderr: {output.text.strip()}")
    return found


def write(notebook: nbformat.NotebookNode, path: Path) -> None:
    """Replace the file at `path` by `notebook` in one step: a reader never meets half a file."""
    nbformat.validate(notebook)
    replace_text(path, nbformat.writes(notebook).rstrip("\n") + "\n")


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status: 0 when every notebook ran and was fit to be kept."""
    parser = command("tools.execute", __doc__)
    parser.add_argument("notebooks", nargs="+", type=Path, metavar="NOTEBOOK")
    parser.add_argument("--seed", type=int, help="COURSE_SEED for the run (default: as it is, or 0)")
    parser.add_argument(
        "--dataset",
        choices=["auto", "mnist", "digits"],
        help="COURSE_DATASET for the run (default: mnist with --in-place, else as it is, or auto)",
    )
    parser.add_argument("--in-place", action="store_true", help="store the outputs in the notebook")
    parser.add_argument("--fold", action="store_true", help="only fold the cells tagged for it; nothing is run")
    parser.add_argument("--claims", type=Path, metavar="FILE", help="add one line of JSON per claim to FILE")
    parser.add_argument("--timeout", type=int, default=900, help="seconds for each cell (default: %(default)s)")
    options = parser.parse_args(arguments)

    if options.fold:
        for path in options.notebooks:
            write(fold(nbformat.read(path, as_version=4)), path)
        return 0
    environment = {}
    dataset = options.dataset or ("mnist" if options.in_place else None)
    if dataset:
        environment["COURSE_DATASET"] = dataset
    if options.seed is not None:
        environment["COURSE_SEED"] = str(options.seed)
    if options.claims:
        environment["COURSE_CLAIMS"] = str(options.claims.resolve())

    refused = 0
    for path in options.notebooks:
        started = time.monotonic()
        try:
            notebook = execute(path, environment=environment, timeout=options.timeout)
            problems = unwanted_outputs(notebook)
        except (CellExecutionError, TimeoutError) as error:
            problems = [re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip()]  # without terminal colours
        seconds = time.monotonic() - started
        if problems:
            refused += 1
            print(f"{path}: refused after {seconds:.0f} s", *problems, sep="\n  ", flush=True)
        else:
            if options.in_place:
                write(clean(notebook), path)
            print(f"{path}: {seconds:.0f} s{', stored' if options.in_place else ''}", flush=True)
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
