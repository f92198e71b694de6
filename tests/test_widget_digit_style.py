"""The explorer of digit and style: its picture at the ends of every slider, its words, its still stand-in."""

import numpy as np
import pytest
import torch

from course_utils.teaching.widgets.digit_style import REACH, DigitStyle, still_style

from .test_widgets import pixels, place

PLACES = [(d, a, b) for d in (0, 9, 4) for a in (-REACH, REACH, 0.0) for b in (-REACH, REACH, 1.3)]


def write(labels, style):
    """Left third: the label as a shade; the other thirds: the two styles."""
    shades = torch.stack([labels / 10 + 0.05, 0.5 + style[:, 0] / 8, 0.5 + style[:, 1] / 8], 1)
    return shades.repeat_interleave(10, 1).view(-1, 1, 1, 30).expand(-1, 1, 30, 30)


@pytest.fixture(scope="module")
def picture():
    return DigitStyle(write)


def shade_at(picture, image, axes, x, y=0.5):
    return image[place(picture, axes, x, y)]


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


def test_words_say_how_rare_a_style_is(picture):
    """Of a standard normal in two dimensions a share exp(-d²/2) lies further out than d: that of a chi-square."""
    for a, b in ((0.0, 0.0), (1.0, -1.0), (0.5, 2.0)):
        share = torch.special.gammaincc(torch.tensor(1.0), torch.tensor((a * a + b * b) / 2)).item()
        words = picture.describe(7, a, b)
        assert (
            f"{share:.0%} of all styles lie further out" in words and f"{np.hypot(a, b):.2f} from the middle" in words
        )
    assert picture.describe(3, -1.0, 0.5).startswith("A 3 in the style (−1.00, 0.50)")


def test_equal_styles_are_refused():
    with pytest.raises(ValueError, match="differ from one another"):
        still_style(write, [(0.0, 0.0), (0.0, 0.0)])


def test_the_still_picture_has_a_row_for_each_style_and_a_column_for_each_digit():
    styles = [(0.0, 0.0), (-2.0, 1.5)]
    (ax,) = still_style(write, styles).axes
    assert [label.get_text() for label in ax.get_yticklabels()] == ["(0.0, 0.0)", "(−2.0, 1.5)"]
    assert [text.get_text() for text in ax.texts] == list("0123456789")
    array = np.asarray(ax.images[0].get_array())
    for y, style in zip(ax.get_yticks(), styles, strict=True):
        images = write(torch.arange(10), torch.tensor([style]).expand(10, 2))
        for digit, image in enumerate(images[:, 0]):
            assert np.allclose(array[round(y), 2 + 32 * digit : 32 + 32 * digit], image[0])
