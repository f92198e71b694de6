"""A widget in a notebook that has run: its controls moved with the keyboard, its picture read from the page.

`Shown` is what the page shows. `reference` is what Python says it should show: the widget's own cell is run
a second time in the same kernel, the fresh widget is given the values, and its picture is taken.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import nbformat
import numpy as np
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell

from .cells import notebook_for
from .lab import Notebook, decode

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Locator

# After the set-up. Models are trained briefly, on a small part of the data; claims are about the whole of it, and
# still figures, whose places are chosen for well-trained models, are not what is tested here.
BRIEFLY = """\
import dataclasses as _dataclasses, functools as _functools, importlib as _importlib, pkgutil as _pkgutil, sys as _sys
from matplotlib.figure import Figure as _Figure
import course_utils as _course

for _module in _pkgutil.walk_packages(_course.__path__, "course_utils."):
    if not _module.name.endswith("__main__") and ".slides" not in _module.name:
        _importlib.import_module(_module.name)

def _replace(function, other):
    for module in [m for name, m in _sys.modules.items() if name.partition(".")[0] == "course_utils"]:
        for name in [name for name, value in vars(module).items() if value is function]:
            setattr(module, name, other)

def _few_images(*arguments, _load=_course.load_images, **options):
    images = _load(*arguments, **options)
    return _dataclasses.replace(images, train=images.train.subset(512), test=images.test.subset(200))

def _at_most(split, n, *, _subset=_course.data.Split.subset, **options):
    return _subset(split, min(n, len(split)), **options)

def _at_most_steps(train, **most):
    @_functools.wraps(train)
    def briefly(*arguments, **options):
        return train(*arguments, **(options | {name: min(n, options.get(name, n)) for name, n in most.items()}))
    _replace(train, briefly)

_replace(_course.load_images, _few_images)
_course.data.Split.subset = _at_most
def _brief_fit(model, data, *, epochs, _fit=_course.fit, **options):
    first = data[0] if isinstance(data, tuple) else getattr(data, "train", data)
    return _fit(model, data, epochs=epochs if len(first) <= 200 else min(epochs, 8), **options)

_replace(_course.fit, _brief_fit)
_at_most_steps(_course.evaluation.train_judge, steps=60)
_at_most_steps(_course.teaching.clinic.train, steps=60)
for _name in ("claim", "show"):
    _replace(getattr(_course.teaching, _name), lambda *arguments, **options: None)
for _name in [name for name in _course.teaching.widgets.__all__ if name.startswith("still_")]:
    _replace(getattr(_course.teaching.widgets, _name), lambda *arguments, **options: _Figure())
"""

# In the kernel.
PROBE = """\
import ast, base64, html, json, re
import ipywidgets

def _walk(widget):
    yield widget
    for child in getattr(widget, "children", ()):
        yield from _walk(child)

def _controls(widget):
    shows = (ipywidgets.Image, ipywidgets.HTML, ipywidgets.HTMLMath, ipywidgets.Label, ipywidgets.Output)
    return [part for part in _walk(widget) if part.has_trait("value") and not isinstance(part, shows)]

def _chosen(control):
    return "index" if control.has_trait("index") else "value"

def _state(widget):
    return {
        "values": [getattr(control, _chosen(control)) for control in _controls(widget)],
        "controls": [
            {name: getattr(control, name) for name in ("description", "min", "max", "step", "readout_format")
             if control.has_trait(name)} | {"kind": type(control).__name__} for control in _controls(widget)
        ],
        "pictures": [base64.b64encode(part.value).decode() for part in _walk(widget)
                     if isinstance(part, ipywidgets.Image)],
        "words": [html.unescape(re.sub(r"<[^>]*>", "", part.value)).strip() for part in _walk(widget)
                  if isinstance(part, ipywidgets.HTML)],
    }

def _fresh(source, values=None):
    shown, cell = [], ast.parse(source)
    if isinstance(cell.body[-1], ast.Expr):
        last = ast.Expr(ast.Call(ast.Name("display", ast.Load()), [cell.body[-1].value], []))
        cell.body[-1] = ast.fix_missing_locations(last)
    exec(compile(cell, "widget", "exec"), globals() | {"display": lambda *things: shown.extend(things)})
    (widget,) = [thing for thing in shown if isinstance(thing, ipywidgets.Widget)]
    for control, value in zip(_controls(widget), values or [], strict=bool(values)):
        setattr(control, _chosen(control), value)
    return widget

def _displayed(model_id):
    known = getattr(ipywidgets.widgets.widget, "_instances", None)  # ipywidgets 8
    return (ipywidgets.Widget.widgets if known is None else known)[model_id]
"""

_MODEL_ID = """(place) => {
  const outputs = jupyterapp.shell.currentWidget.content.widgets[place].model.outputs;
  for (let i = 0; i < outputs.length; i++) {
    const view = outputs.get(i).data["application/vnd.jupyter.widget-view+json"];
    if (view) return view.model_id;
  }
}"""
_WATCH = """(root) => {
  window.pressed = 0;
  window.delays = [];
  document.addEventListener("keydown", () => { pressed = performance.now(); }, true);
  for (const image of root.querySelectorAll("img.widget-image"))
    image.addEventListener("load", () => requestAnimationFrame(() => delays.push(performance.now() - pressed)));
}"""
_PIXELS = """(image) => {
  const canvas = document.createElement("canvas");
  canvas.width = image.naturalWidth;
  canvas.height = image.naturalHeight;
  canvas.getContext("2d").drawImage(image, 0, 0);
  return canvas.toDataURL("image/png").split(",")[1];
}"""
# What a keyboard can reach inside a widget, in ipywidgets 8 and 7. The readout of a slider says the same again.
REACHABLE = '[role="slider"], .ui-slider-handle, select, input:not([type="hidden"]), textarea, button'


class State(NamedTuple):
    """Values of all controls, the picture or pictures that belong to them, and the sentence beneath."""

    values: list[Any]
    controls: list[dict[str, Any]]
    pictures: list[np.ndarray]
    words: list[str]


def notebook_of(path: Path) -> tuple[NotebookNode, list[int]]:
    """The small notebook that holds the widgets of the notebook at `path`, made to be quick, and their places."""
    notebook, places = notebook_for(path)
    notebook.cells.insert(1, new_code_cell(BRIEFLY))
    nbformat.validate(notebook)
    return notebook, [place + 1 for place in places]


class Shown:
    """The widget below one cell of the notebook in front."""

    def __init__(self, notebook: Notebook, source: str, place: int) -> None:
        self.notebook, self.source, self.page = notebook, source, notebook.page
        assert not notebook.complaints(), notebook.complaints()
        cell = self.page.locator(".jp-Notebook .jp-Cell").nth(place)
        self.root = cell.locator(".jp-OutputArea-output:has(> .jupyter-widgets), .jupyter-widgets-view").last
        self.root.locator("img.widget-image, .jupyter-widgets-error-widget").first.wait_for()
        assert not notebook.complaints(), notebook.complaints()
        notebook.execute(PROBE)
        self.model_id = self.page.evaluate(_MODEL_ID, place)
        self.root.evaluate(_WATCH)
        self.settle(0)

    def state(self) -> State:
        """What the kernel holds for the widget in the page."""
        return _state(self.notebook.execute(f"print(json.dumps(_state(_displayed({self.model_id!r}))))"))

    def reference(self, values: list[Any] | None = None) -> State:
        """What a fresh widget from the same cell holds, by default where it begins."""
        return _state(self.notebook.execute(f"print(json.dumps(_state(_fresh({self.source!r}, {values!r}))))"))

    def pictures(self) -> list[np.ndarray]:
        """What the page's images show, as pixels."""
        return [decode(image.evaluate(_PIXELS)) for image in self.root.locator("img.widget-image").all()]

    def words(self) -> list[str]:
        """The sentence that says what the picture shows."""
        return [text.strip() for text in self.root.locator(".widget-html-content").all_inner_texts()]

    def controls(self) -> list[Locator]:
        """The controls in the page, in the order in which they stand."""
        return [control for control in self.root.locator(REACHABLE).all() if control.is_visible()]

    def tab_to(self, control: Locator) -> int:
        """Press Tab until the control has the focus; return how often it took."""
        for presses in range(80):
            if control.evaluate("control => control === document.activeElement"):
                return presses
            self.page.keyboard.press("Tab")
        raise AssertionError("80 presses of Tab did not reach the control")

    def press(self, key: str) -> float:
        """Press a key; wait for the new picture; return the milliseconds that it took."""
        before = self.page.evaluate("() => delays.length")
        self.page.keyboard.press(key)
        self.settle(before + 1)
        return self.page.evaluate(f"() => delays[{before}]")

    def settle(self, pictures: int) -> None:
        """Wait until this many new pictures were shown and the kernel has nothing left to do."""
        self.page.wait_for_function("n => delays.length >= n", arg=pictures, polling=10, timeout=15_000)
        self.notebook.execute("")  # answered after all that came before
        self.page.wait_for_function(
            'root => [...root.querySelectorAll("img.widget-image")].every(image => image.complete)',
            arg=self.root.element_handle(),
        )


def _state(text: str) -> State:
    found = json.loads(text.strip().splitlines()[-1])
    return State(found["values"], found["controls"], [decode(png) for png in found["pictures"]], found["words"])
