"""Every widget of the course in JupyterLab: run, moved with the keyboard alone, its new picture the right one."""

from __future__ import annotations

import inspect
import pkgutil
from contextlib import ExitStack
from importlib import import_module

import numpy as np
import pytest

from course_utils.teaching import widgets

from ..conftest import NOTEBOOKS as FILES
from .cells import called, widget_cells
from .widget import Shown, notebook_of

NOTEBOOKS = [path for path in FILES if path.name[:2].isdigit()]
WIDGETS = [widget for path in NOTEBOOKS for widget in widget_cells(path)]

# Which keys move a control, by what it is in the page. The last two go to a slider's ends.
KEYS = {"slider": ["ArrowRight", "End", "Home"], "select": ["ArrowDown"], "number": ["ArrowUp"], "button": ["Space"],
        "checkbox": ["Space"], "radio": ["ArrowDown"]}  # fmt: skip


# --- none escapes


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_notebook_has_a_widget_that_is_driven_here(path):
    assert widget_cells(path), f"{path.name} calls no function explore_…: it has no widget, or one that goes untested"


def test_every_explorer_of_the_course_is_driven_here():
    modules = [import_module(f"{widgets.__name__}.{module.name}") for module in pkgutil.iter_modules(widgets.__path__)]
    explorers = {
        name
        for module in modules
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if name.startswith("explore_")
    }
    driven = {name for widget in WIDGETS for name in called(widget)}
    assert explorers, "no explorer found: nothing was tested"
    assert explorers <= driven, f"in no notebook's cell: {sorted(explorers - driven)}"


# --- in the browser


@pytest.fixture(scope="module")
def opened(context, jupyterlab):
    """A function that opens a notebook's widgets and runs them; one notebook at a time is open."""
    with ExitStack() as page:
        kept = {}

        def of(path):
            if path not in kept:
                page.close()
                kept.clear()
                small, places = notebook_of(path)
                notebook = page.enter_context(jupyterlab.open(context, small, path.stem))
                notebook.run()
                kept[path] = notebook, small, iter(places)
            return kept[path]

        yield of


@pytest.fixture(scope="module", params=WIDGETS, ids=lambda widget: widget.name)
def shown(request, opened):
    """A widget on the page, its notebook run; all tests of one widget share it."""
    notebook, _, places = opened(request.param.path)
    return Shown(notebook, request.param.source, next(places))


def test_begins_with_the_right_picture(shown):
    expected = shown.reference()
    assert shown.state().values == pytest.approx(expected.values, abs=1e-9)
    same(shown.pictures(), expected.pictures)
    assert shown.words() == expected.words


def test_every_control_follows_the_keyboard(shown):
    """Tab reaches each control in turn; its keys change its value, and the picture is that of the new value."""
    controls, known = shown.controls(), shown.state().controls
    assert len(controls) == len(known), f"the page has {len(controls)} controls, Python has {known}"
    for i, control in enumerate(controls):
        shown.tab_to(control)
        largest = 0
        for key in KEYS[kind(control)]:
            old, before = shown.state(), shown.pictures()
            shown.press(key)
            new = shown.state()
            moved = [j for j, (a, b) in enumerate(zip(old.values, new.values, strict=True)) if abs(a - b) > 1e-9]
            assert moved == [i], f"{key} on control {i} changed the values of {moved}"
            if key in ("End", "Home", "ArrowRight") and "step" in known[i]:
                wanted = {"End": known[i]["max"], "Home": known[i]["min"]}.get(key, old.values[i] + known[i]["step"])
                assert new.values[i] == pytest.approx(wanted, abs=1e-9), key
            expected = shown.reference(new.values)
            same(shown.pictures(), expected.pictures)
            largest = max(largest, change(expected.pictures, before))
            assert shown.words() == expected.words
            assert not any("✘" in text for text in shown.words()), shown.words()
        assert largest > 40, f"control {i} hardly changes the picture: no pixel by more than {largest} of 255"
    assert shown.notebook.complaints() == []


def test_every_control_says_what_it_is(shown):
    """A label that can be read to its end, and for a slider the value as a number beside it."""
    for control, known in zip(shown.controls(), shown.state().controls, strict=True):
        box = control.locator("xpath=ancestor::*[contains(@class, 'widget-inline-hbox')][1]")
        label = box.locator(".widget-label")
        assert label.is_visible() and label.inner_text().strip() == known["description"].strip() != ""
        assert label.evaluate("label => label.scrollWidth <= label.clientWidth"), f"cut off: {known['description']}"
        assert label.get_attribute("title") not in (None, "", "null"), "hovering over the label says nothing"
        if kind(control) == "slider":
            readout = box.locator(".widget-readout")
            assert readout.is_visible() and any(figure.isdigit() for figure in readout.inner_text())


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_can_be_read_in_every_theme(shown, theme, request, tmp_path_factory):
    page = shown.page
    page.evaluate("theme => jupyterapp.commands.execute('apputils:change-theme', {theme})", theme)
    page.wait_for_function("theme => document.body.dataset.jpThemeName === theme", arg=theme)
    for text in shown.root.locator(".widget-label, .widget-readout, [role=status]").all():
        if text.is_visible():
            front, back = text.evaluate(COLOURS)
            assert contrast(front, back) >= 4.5, f"{text.inner_text()!r}: {front} on {back} in {theme}"
    for picture in shown.pictures():
        corners = picture[[0, 0, -1, -1], [0, -1, 0, -1]]
        assert corners.min() >= 250, "the picture's edge is not white: a dark theme would show through"
    images = shown.root.locator("img.widget-image")
    for image in images.all():
        wide = image.evaluate("image => [image.getBoundingClientRect().right, window.innerWidth]")
        assert wide[0] <= wide[1], "the picture is wider than the window"


COLOURS = """(element) => {
  const numbers = colour => colour.match(/[\\d.]+/g).map(Number);
  let back = element;
  while (back && (numbers(getComputedStyle(back).backgroundColor)[3] ?? 1) === 0) back = back.parentElement;
  return [numbers(getComputedStyle(element).color).slice(0, 3),
          back ? numbers(getComputedStyle(back).backgroundColor).slice(0, 3) : [255, 255, 255]];
}"""


def contrast(front: list[float], back: list[float]) -> float:
    """The contrast ratio of two colours, 1 to 21 (WCAG 2.2, section 1.4.3)."""

    def luminance(colour: list[float]) -> float:
        shares = np.asarray(colour) / 255
        linear = np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    low, high = sorted([luminance(front), luminance(back)])
    return (high + 0.05) / (low + 0.05)


def kind(control) -> str:
    """What a control is for the keyboard: slider, select, button, or an input's type."""
    if control.get_attribute("role") == "slider" or "ui-slider-handle" in (control.get_attribute("class") or ""):
        return "slider"
    tag = control.evaluate("control => control.tagName.toLowerCase()")
    return (control.get_attribute("type") or "text") if tag == "input" else tag


def same(pictures: list[np.ndarray], expected: list[np.ndarray]) -> None:
    assert len(pictures) == len(expected) > 0
    for picture, other in zip(pictures, expected, strict=True):
        assert picture.shape == other.shape
        assert np.abs(picture - other).max() <= 2, "the page shows another picture than Python draws for these values"


def change(pictures: list[np.ndarray], others: list[np.ndarray]) -> int:
    return max(np.abs(picture - other).max() for picture, other in zip(pictures, others, strict=True))
