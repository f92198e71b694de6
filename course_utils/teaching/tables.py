"""Tables: rendered with scoped headers and aligned numbers, plain text beside, and every number to be had back."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from numbers import Real
from typing import Any

from course_utils.teaching._numbers import number_text
from course_utils.teaching.display import display, get_ipython

Format = str | int | Callable[[Any], str]  # ".1%", a number of significant digits, or a function


@dataclass(repr=False)
class Table:
    """Rows by name, each a value by column; `found["row", "column"]` is the value, not its text."""

    columns: list[str]
    rows: dict[str, dict[str, Any]]
    texts: list[list[str]]  # the heading and every row, the row's name first
    caption: str
    cell: int | None = None  # the execution count of the cell that `table` showed it in

    def __getitem__(self, place: tuple[str, str]) -> Any:
        row, column = place
        if row not in self.rows or column not in self.rows[row]:
            raise KeyError(f"no {row!r}, {column!r}; rows: {list(self.rows)}; columns: {self.columns}")
        return self.rows[row][column]

    def __repr__(self) -> str:
        widths = [max(map(len, column)) for column in zip(*self.texts, strict=True)]
        lines = ([self.caption] if self.caption else []) + [
            "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in self.texts
        ]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        head, *body = [[escape(text) for text in row] for row in self.texts]
        left, right = ' style="text-align: left"', ' style="text-align: right"'
        caption = f"<caption>{escape(self.caption)}</caption>" if self.caption else ""
        heads = "".join(f'<th scope="col"{right if i else left}>{text}</th>' for i, text in enumerate(head))
        rows = "".join(
            f'<tr><th scope="row"{left}>{name}</th>{"".join(f"<td{right}>{text}</td>" for text in texts)}</tr>\n'
            for name, *texts in body
        )
        return f"<table>{caption}<thead><tr>{heads}</tr></thead>\n<tbody>{rows}</tbody></table>"

    def _ipython_display_(self) -> None:  # at the end of the cell that has shown it already: not again
        cell = get_ipython().execution_count
        if cell != self.cell:
            self.cell = cell
            display({"text/html": self._repr_html_(), "text/plain": repr(self)})


def table(
    rows: Mapping[str, Any] | Sequence[Sequence],
    *,
    columns: Sequence[str] | None = None,
    index: str = "",
    digits: Format | Mapping[str, Format] = 4,
    caption: str = "",
) -> Table:
    """Show a table and return it; `found["row", "column"]` gives each number back.

    rows:    row -> {column: value}; or row -> values, or a list of [row, value, …], with `columns` named beside; a row
             may be a single value where there is one column. Values are numbers, tensors of one element or texts.
    index:   the heading above the rows' names.
    digits:  significant digits, a format (".1%"), or a function of the value: one for all columns or column -> one.
    Raises ValueError when there is no row, a row's values are not as many as the columns, or two rows share a name.
    """
    named = dict(rows) if isinstance(rows, Mapping) else {str(name): values for name, *values in rows}
    if not named or len(named) != len(rows):
        raise ValueError(f"A table takes one or more rows, each with a name of its own; got {len(rows)} rows.")
    full: dict[str, dict[str, Any]] = {}
    for name, values in named.items():
        if not isinstance(values, Mapping):
            values = list(values) if isinstance(values, list | tuple) else [values]
            if columns is None or len(values) != len(columns):
                raise ValueError(f"Row {name!r} has {len(values)} values for the columns {columns}.")
            values = dict(zip(columns, values, strict=True))
        full[str(name)] = {str(column): _plain(value) for column, value in values.items()}
    heads = [str(c) for c in columns] if columns else list(dict.fromkeys(c for row in full.values() for c in row))
    form = {c: digits.get(c, 4) if isinstance(digits, Mapping) else digits for c in heads}
    texts = [[name, *(_text(row.get(c, ""), form[c]) for c in heads)] for name, row in full.items()]
    found = Table(heads, full, [[index, *heads], *texts], caption)
    if get_ipython():
        found._ipython_display_()
    return found


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") and math.prod(getattr(value, "shape", ())) == 1 else value


def _text(value: Any, form: Format) -> str:
    if not isinstance(value, Real) or isinstance(value, bool):
        return str(value)
    if callable(form):
        return form(value)
    return number_text(value, form) if isinstance(form, int) else format(value, form)
