"""The explorer of the bound: its numbers, its picture at the ends of both sliders, its words, its still stand-in."""

import io
import itertools
import math

import numpy as np
import pytest
from PIL import Image

from course_utils.teaching.display import to_png
from course_utils.teaching.widgets.elbo_gap import DEPTH, MEANS, WIDTHS, ElboGap, explore_elbo_gap, still_elbo_gap

CORNERS_AND_MIDDLE = [*itertools.product(MEANS, WIDTHS), (0.0, 1.0), (0.96, 0.6), (1.3, 0.44)]


@pytest.fixture(scope="module")
def picture():
    return ElboGap()


def pixels(png):
    image = Image.open(io.BytesIO(png))
    assert image.mode == "RGB"  # opaque
    return np.asarray(image).astype(int)


def colour_at(picture, axes, x, y, mean, width):
    shown = pixels(picture.render(mean, width))
    column, from_bottom = axes.transData.transform((x, y))
    return tuple(shown[round(picture.figure.bbox.height - from_bottom), round(column)])


BLUE, ORANGE = (0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)


@pytest.mark.parametrize(("mean", "width"), CORNERS_AND_MIDDLE)
def test_elbo_and_gap_add_up_to_the_same_constant(picture, mean, width):
    terms = picture.terms(mean, width)
    assert terms.log_evidence == picture.terms(0.0, 1.0).log_evidence
    assert terms.elbo + terms.gap == pytest.approx(terms.log_evidence, abs=1e-9)
    assert terms.elbo == pytest.approx(-(terms.distortion + terms.rate), abs=1e-9)
    assert terms.gap >= 0


def test_the_numbers_are_those_of_the_textbook():
    picture = ElboGap(x=2.0, weight=1.5, sigma=0.5)
    variance = 1.5**2 + 0.5**2
    by_hand = -0.5 * (math.log(2 * math.pi * variance) + 4.0 / variance)
    assert picture.terms(0.3, 0.7).log_evidence == pytest.approx(by_hand)
    width = math.sqrt(1 / (1 + 1.5**2 / 0.5**2))
    mean = width**2 * 1.5 * 2.0 / 0.5**2
    assert picture.posterior == pytest.approx((mean, width))
    assert picture.terms(mean, width).gap == pytest.approx(0, abs=1e-12)
    z_scores = ((0.3 - mean) / width, 0.7 / width)
    kl = 0.5 * (z_scores[0] ** 2 + z_scores[1] ** 2 - 1) - math.log(z_scores[1])
    assert picture.terms(0.3, 0.7).gap == pytest.approx(kl)


def test_the_posterior_is_on_the_sliders(picture):
    assert picture.posterior == pytest.approx((0.96, 0.6))
    assert picture.terms(0.96, 0.6).gap < 1e-12


@pytest.mark.parametrize(("mean", "width"), CORNERS_AND_MIDDLE)
def test_the_bar_changes_colour_at_the_elbo(picture, mean, width):
    terms = picture.terms(mean, width)
    bottom = terms.log_evidence - DEPTH
    assert terms.elbo > bottom  # every position of the sliders fits into the picture
    blue = (bottom + terms.elbo) / 2
    assert colour_at(picture, picture.bar_axes, 0.27, blue, mean, width) == BLUE
    if terms.gap > 0.2:
        orange = terms.elbo + terms.gap / 2
        assert colour_at(picture, picture.bar_axes, 0.27, orange, mean, width) == ORANGE
    assert f"{abs(terms.gap):.2f}" in picture.words[1].get_text()


@pytest.mark.parametrize(("mean", "width"), CORNERS_AND_MIDDLE)
def test_q_is_drawn_where_the_sliders_say(picture, mean, width):
    picture.render(mean, width)
    z, height = picture.q_area.get_xy().T
    at_mean = height[np.abs(z - mean).argmin()]
    expected = min(1 / (width * math.sqrt(2 * math.pi)), 2 * picture.top)
    assert at_mean == pytest.approx(expected, rel=0.01)
    inside = colour_at(picture, picture.density_axes, mean, 0.4 * min(expected, picture.top), mean, width)
    assert inside != (255, 255, 255)


def test_a_picture_does_not_depend_on_the_ones_before(picture):
    first = picture.render(1.0, 1.0)
    picture.render(-1.0, 0.1)
    assert picture.render(1.0, 1.0) == first


@pytest.mark.parametrize("width", [0.0, -1.0, math.inf])
def test_a_width_must_be_positive(picture, width):
    with pytest.raises(ValueError, match="standard deviation and must be positive"):
        picture.terms(0.0, width)


def test_sliders_move_the_picture_and_the_words():
    widget = explore_elbo_gap()
    sliders, image, message = widget.children
    mean, width = sliders.children
    assert (mean.min, mean.max, width.min, width.max) == (*MEANS, *WIDTHS)
    assert (mean.description, width.description) == ("mean of q", "width of q")
    reference = ElboGap()
    for a, b in CORNERS_AND_MIDDLE:
        mean.value, width.value = a, b
        assert image.value == reference.render(mean.value, width.value)
        assert f"N({a:.2f}, {b:.2f}²)".replace("-", "−") in message.value
        assert "= −1.862 = log p(x)" in message.value
    mean.value, width.value = 0.96, 0.6
    assert "ELBO −1.862 + gap 0.000 = −1.862" in message.value


def test_still_shows_each_q_with_its_bar():
    fig = still_elbo_gap()
    above, below = fig.axes[:3], fig.axes[3:]
    assert [ax.get_title() for ax in above] == ["q = N(0.00, 1.00²)", "q = N(1.56, 0.30²)", "q = N(0.96, 0.60²)"]
    gaps = [[text.get_text() for text in ax.texts if text.get_text().startswith("gap")] for ax in below]
    assert gaps == [["gap\n1.66"], ["gap\n0.82"], ["gap\n0.00"]]
    assert to_png(fig)[:4] == b"\x89PNG"


@pytest.mark.parametrize("points", [[], [(0.0,)], [(0.0, 1.0)] * 5])
def test_still_refuses_other_points(points):
    with pytest.raises(ValueError, match="1 to 4 pairs"):
        still_elbo_gap(points)


def test_still_refuses_points_outside():
    with pytest.raises(ValueError, match="outside the explorer"):
        still_elbo_gap([(9.0, 1.0)])
