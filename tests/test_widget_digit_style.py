"""The explorer of digit and style: its picture at the ends of every slider, its words, its still stand-in."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from course_utils.teaching.widgets import DigitStyle, explore_style, still_style
from course_utils.teaching.widgets.digit_style import REACH

PLACES = [(d, a, b) for d in (0, 9, 4) for a in (-REACH, REACH, 0.0) for b in (-REACH, REACH, 1.3)]


def write(labels, style):
    """Left third: the label as a shade; the other thirds: the two styles."""
    shades = torch.stack([labels / 10 + 0.05, 0.5 + style[:, 0] / 8, 0.5 + style[:, 1] / 8], 1)
    return shades.repeat_interleave(10, 1).view(-1, 1, 1, 30).expand(-1, 1, 30, 30)


@pytest.fixture(scope="module")
def picture():
    return DigitStyle(write)


def pixels(png):
    image = Image.open(io.BytesIO(png))
    assert image.mode == "RGB"  # opaque
    return np.asarray(image).astype(int)


def shade_at(picture, image, axes, x, y=0.5):
    column, from_bottom = axes.transData.transform((x, y))
    return image[round(picture.figure.bbox.height - from_bottom), round(column)]


@pytest.mark.parametrize(("digit", "a", "b"), PLACES)
def test_the_large_image_and_the_row_show_exactly_these_digits_in_this_style(picture, digit, a, b):
    image = pixels(picture.render(digit, a, b))
    assert image.shape == (441, 810, 3)
    for label, axes in ((digit, picture.image_axes), *enumerate(picture.row_axes)):
        for x, shade in ((1 / 6, label / 10 + 0.05), (0.5, 0.5 + a / 8), (5 / 6, 0.5 + b / 8)):
            assert np.abs(shade_at(picture, image, axes, x) - 255 * shade).max() <= 1.5


@pytest.mark.parametrize(("digit", "a", "b"), PLACES)
def test_the_mark_and_the_frame_are_where_the_sliders_say(picture, digit, a, b):
    image = pixels(picture.render(digit, a, b))
    red, green, blue = shade_at(picture, image, picture.map_axes, a, b)
    assert max(red, green, blue) - min(red, green, blue) > 60  # coloured, where everything else is grey

    def framed(axes):
        edge = [shade_at(picture, image, axes, x, 0.5) for x in (0.0, 1.0)]
        return all(np.ptp(colour) > 60 for colour in edge)

    assert [framed(axes) for axes in picture.row_axes] == [i == digit for i in range(10)]


def test_a_picture_does_not_depend_on_the_ones_before(picture):
    first = picture.render(3, 1.0, -1.0)
    picture.render(9, -3.0, 3.0)
    picture.render_failure(1, 0.0, 0.0)
    assert picture.render(3, 1.0, -1.0) == first


def test_sliders_move_the_picture_and_the_words(picture):
    widget = explore_style(write, start=(2, 0.5, -1.0))
    sliders, image, message = widget.children
    digit, one, two = sliders.children
    assert [s.description for s in sliders.children] == ["digit", "style 1", "style 2"]
    assert (digit.min, digit.max, digit.step) == (0, 9, 1) and (one.min, two.max) == (-REACH, REACH)
    assert image.value == picture.render(2, 0.5, -1.0)
    for d, a, b in PLACES:
        digit.value, one.value, two.value = d, a, b
        assert image.value == picture.render(digit.value, one.value, two.value)
        assert f"A {d} in the style" in message.value
    digit.value, one.value, two.value = 7, 0.0, 0.0
    assert "100% of all styles lie further out" in message.value and "(0.00, 0.00)" in message.value


def test_a_later_failure_is_told_and_no_old_image_stays():
    def fails_outside(labels, style):
        if style.abs().max() > 2:
            raise RuntimeError("out of reach")
        return write(labels, style)

    widget = explore_style(fails_outside)
    sliders, image, message = widget.children
    sliders.children[1].value = 2.5
    assert "RuntimeError: out of reach" in message.value and "style 1 = 2.50" in message.value
    assert image.value == DigitStyle(write).render_failure(7, 2.5, 0.0)
    sliders.children[1].value = 1.0
    assert image.value == DigitStyle(write).render(7, 1.0, 0.0)


@pytest.mark.parametrize("start", [(10, 0.0, 0.0), (-1, 0.0, 0.0), (3, 3.5, 0.0), (3, 0.0, -9.0)])
def test_start_must_be_on_the_sliders(start):
    with pytest.raises(ValueError, match="digit from 0 to 9"):
        explore_style(write, start=start)


@pytest.mark.parametrize(
    "bad", [lambda labels, style: torch.rand(10, 784), lambda labels, style: torch.rand(1, 1, 28, 28)]
)
def test_something_that_gives_no_images_is_refused_at_once(bad):
    with pytest.raises(ValueError, match="expected"):
        explore_style(bad)


def test_the_still_picture_has_a_row_for_each_style_and_a_column_for_each_digit(monkeypatch):
    seen = {}
    monkeypatch.setattr(
        "course_utils.teaching.plotting.image_rows", lambda rows, **kwargs: seen.update(rows=rows, **kwargs)
    )
    still_style(write, [(0.0, 0.0), (-2.0, 1.5)])
    assert list(seen["rows"]) == ["(0.0, 0.0)", "(−2.0, 1.5)"] and seen["titles"] == list("0123456789")
    for (a, b), row in zip([(0.0, 0.0), (-2.0, 1.5)], seen["rows"].values(), strict=True):
        torch.testing.assert_close(row, write(torch.arange(10), torch.tensor([[a, b]]).expand(10, 2)))
    monkeypatch.undo()
    assert still_style(write, [(0.0, 1.0)]).axes


@pytest.mark.parametrize("styles", [[], [(0.0, 0.0)] * 9, [(0.0,)], [(4.0, 0.0)], [(0.0, 0.0), (0.0, 0.0)]])
def test_other_styles_are_refused(styles):
    with pytest.raises(ValueError, match="styles must"):
        still_style(write, styles)
