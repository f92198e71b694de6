"""Which cells of a notebook are widgets, and which of the cells before them a widget needs.

A small notebook is cut from the committed one: the set-up, the widget's own cell, letter by letter, and whatever
defines the names that it uses. So the tests drive the course's own cells without running minutes of other lessons.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_notebook

from ..test_notebook_files import read_and_made, tree_of

# What shows or checks something and changes nothing: such a call does not make its cell a part of a model.
SHOWS = {"check", "claim", "display", "hint", "print", "show", "solution"}


@dataclass(frozen=True)
class WidgetCell:
    """One widget of the course: where it stands, and its source."""

    path: Path
    index: int
    source: str

    @property
    def name(self) -> str:
        return f"{self.path.stem}[{self.index}]"


def widget_cells(path: Path) -> list[WidgetCell]:
    """Every cell of the notebook at `path` that calls an explorer, which is a function named explore_…."""
    notebook = nbformat.read(path, as_version=4)
    return [
        WidgetCell(path, i, cell.source)
        for i, cell in enumerate(notebook.cells)
        if cell.cell_type == "code" and any(name.startswith("explore_") for name in called(cell))
    ]


def notebook_for(path: Path) -> tuple[NotebookNode, list[int]]:
    """A notebook of the set-up cell, what the widgets need, and the widgets of the notebook at `path`; no outputs.

    Also the places of the widgets' cells in it, in order.
    """
    notebook = nbformat.read(path, as_version=4)
    widgets = [widget.index for widget in widget_cells(path)]
    setup, *rest = [i for i, cell in enumerate(notebook.cells) if cell.cell_type == "code" and cell.source.strip()]
    kept, wanted = [], set()
    for i in reversed(rest):
        cell = notebook.cells[i]
        if i in widgets or wanted & changed(cell):
            read, made = read_and_made(cell)
            kept.append(i)
            wanted = wanted - made | read
    places = [setup, *reversed(kept)]
    cells = [notebook.cells[i] for i in places]
    for cell in cells:
        cell.outputs, cell.execution_count = [], None
    return new_notebook(cells=cells, metadata=notebook.metadata), [places.index(i) for i in widgets]


def called(cell: NotebookNode | WidgetCell) -> set[str]:
    """The names of all functions that are called anywhere: `f` for f(…), module.f(…) and self.f(…)."""
    return {_last_name(node.func) for node in ast.walk(tree_of(cell)) if isinstance(node, ast.Call)}


def changed(cell: NotebookNode) -> set[str]:
    """The names that a cell has a part in: assigned, filled, trained."""
    names = set(read_and_made(cell)[1])
    outer = [s for s in tree_of(cell).body if not isinstance(s, ast.FunctionDef | ast.ClassDef)]
    for node in (node for statement in outer for node in ast.walk(statement)):
        if isinstance(node, ast.Name | ast.Attribute | ast.Subscript) and isinstance(node.ctx, ast.Store):
            names.add(_first_name(node))
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            call = node.value
            if _last_name(call.func) not in SHOWS:
                names.add(_first_name(call.func))  # model.train(), found.append(1)
                names |= {argument.id for argument in call.args if isinstance(argument, ast.Name)}  # fit(model, …)
    return names


def _last_name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def _first_name(node: ast.expr) -> str:
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return getattr(node, "id", "")
