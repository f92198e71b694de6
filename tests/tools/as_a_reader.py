"""Make of a notebook the notebook as a reader leaves it: every stub replaced by a solution.

python -m tests.tools.as_a_reader NOTEBOOK TARGET      # write it, to look at it or to run it
"""

from __future__ import annotations

import copy
import re
import sys
from pathlib import Path

import nbformat

from course_utils.teaching.answers import needs
from course_utils.teaching.exercises import _framework, find

CHECK = re.compile(r'^\w+ = check\("(\d+\.\d+)", \w+\)', re.MULTILINE)


def as_a_reader(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """A copy in which each cell that checks an exercise holds its solution, with what that needs, and no stub.

    Raises ValueError where a cell that checks an exercise does not hold the exercise's stub.
    """
    notebook = copy.deepcopy(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code" and (found := CHECK.search(cell.source)):
            exercise = find(found[1])
            if exercise.stub not in cell.source:
                raise ValueError(f"the cell of exercise {exercise.number} does not hold its stub")
            cell.source = cell.source.replace(exercise.stub, answer_text(exercise))
    return notebook


def answer_text(exercise) -> str:
    """The solution's source, after the imports, constants, helpers and other answers that it uses."""
    parts = needs(exercise.name, exercise.solution, _framework._number_of)
    return "\n\n\n".join(filter(None, ["\n".join([*parts.imports, *parts.lines]), *parts.sources]))


def main(source: str, target: str) -> None:
    """Read one notebook and write the other."""
    nbformat.write(as_a_reader(nbformat.read(source, as_version=4)), Path(target))


if __name__ == "__main__":
    main(*sys.argv[1:])
