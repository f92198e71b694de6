"""A progress bar that leaves clean outputs: tqdm, shown in one place and replaced by one line when it ends."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import tqdm


class _Display:
    """A file for tqdm to write to: each new state of the bar replaces the last one in the notebook's output."""

    def __init__(self) -> None:
        from IPython.display import display

        self._handle = display({"text/plain": ""}, raw=True, display_id=True)

    def write(self, text: str) -> None:
        line = text.rpartition("\r")[2].strip("\n")
        if line.strip():
            self._handle.update({"text/plain": line}, raw=True)

    def flush(self) -> None:
        """Nothing is held back."""


@contextmanager
def progress(total: int, description: str, *, show: bool = True, done: int = 0) -> Iterator[tqdm]:
    """A tqdm bar over ``total`` steps; call ``bar.update()``, and ``bar.end_line = "…"`` for what stays when it ends.

    In a notebook the bar is one output that is replaced in place; in a terminal it is tqdm's own, on stderr;
    ``show=False`` shows nothing. ``done`` steps are behind it when it starts.
    """
    notebook = show and _in_notebook()
    file = _Display() if notebook else sys.stderr
    look = {"ncols": 88, "ascii": False, "leave": False, "mininterval": 0.25}
    bar = tqdm(total=total, initial=done, desc=description, file=file, disable=not show, **look)
    bar.end_line = ""
    try:
        yield bar
    finally:
        bar.close()
        if bar.end_line and show:
            file.write(bar.end_line if notebook else bar.end_line + "\n")


def _in_notebook() -> bool:
    """Whether this runs in a Jupyter kernel; IPython is not imported to find out."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return any(kind.__name__ == "ZMQInteractiveShell" for kind in type(shell).__mro__)  # Colab's is a subclass
