"""How long a widget takes from the press of a key to its new picture, in JupyterLab in headless Chromium.

    python -m tests.browser.benchmark [--presses 20] [NOTEBOOK …]

The clock runs in the page: from the key's event to the frame after the new picture has loaded. The goal is 100 ms.
Machines differ, and a busy one is slow.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path

from ..conftest import NOTEBOOKS
from ..tools import command
from . import chromium
from .cells import widget_cells
from .lab import lab
from .widget import Shown, notebook_of

GOAL = 100.0


def main(arguments: list[str] | None = None) -> int:
    parser = command("browser.benchmark", __doc__)
    parser.add_argument("notebooks", nargs="*", type=Path, default=NOTEBOOKS, metavar="NOTEBOOK")
    parser.add_argument("--presses", type=int, default=20, help="presses for each control (default %(default)s)")
    options = parser.parse_args(arguments)
    if missing := chromium.what_is_missing():
        print(missing, file=sys.stderr)
        return 2

    print(f"{'milliseconds from key press to new picture':<48}{'median':>8}{'slowest':>9}", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "lab").mkdir()
        with (
            lab(folder / "lab", COURSE_DATASET="digits", OMP_NUM_THREADS="1") as running,
            chromium.browser(folder / "profile") as context,
        ):
            for path in options.notebooks:
                small, places = notebook_of(path)
                with running.open(context, small, path.stem) as notebook:
                    notebook.run()
                    for widget, place in zip(widget_cells(path), places, strict=True):
                        measure(Shown(notebook, widget.source, place), widget.name, options.presses)
    return 0


def measure(shown: Shown, name: str, presses: int) -> None:
    """Press each control's keys, forth and back, and print the times."""
    for control, known in zip(shown.controls(), shown.state().controls, strict=True):
        shown.tab_to(control)
        forth, back = ("ArrowRight", "ArrowLeft") if "max" in known else ("ArrowDown", "ArrowUp")
        times = [shown.press(forth if i % 2 == 0 else back) for i in range(presses)]
        median, slowest = statistics.median(times), max(times)
        remark = "" if median <= GOAL else f"  above {GOAL:.0f}"
        print(f"{name + ' · ' + known['description']:<48}{median:8.0f}{slowest:9.0f}{remark}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
