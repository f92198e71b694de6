"""The explorer of the bound: its numbers, its picture at the ends of both sliders, its words, its still stand-in."""

import itertools
import math

import numpy as np
import pytest

from course_utils.teaching.widgets.elbo_gap import DEPTH, ElboGap, still_elbo_gap

from .test_widgets import pixels, place

CORNERS_AND_MIDDLE = [*itertools.product((-1.0, 3.0), (0.1, 2.0)), (0.0, 1.0), (0.96, 0.6), (1.3, 0.44)]


@pytest.fixture(scope="module")
def picture():
    return ElboGap()


def colour_at(picture, axes, x, y, mean, width):
    return tuple(pixels(picture.render(mean, width))[place(picture, axes, x, y)])


BLUE, ORANGE = (0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)


@pytest.mark.parametrize(("mean", "width"), CORNERS_AND_MIDDLE)
def test_elbo_and_gap_add_up_to_the_same_constant(picture, mean, width):
    terms = picture.terms(mean, width)
    assert terms.log_evidence == picture.terms(0.0, 1.0).log_evidence
    assert terms.elbo + terms.gap == pytest.approx(terms.log_evidence, abs=1e-9)
    assert terms.elbo == pytest.approx(-(terms.distortion + terms.rate), abs=1e-9)
    assert terms.gap >= 0


def test_the_numbers_are_those_of_the_textbook(picture):
    variance = 1 + 0.75**2
    by_hand = -0.5 * (math.log(2 * math.pi * variance) + 1.5**2 / variance)
    assert picture.terms(0.3, 0.7).log_evidence == pytest.approx(by_hand)
    width = math.sqrt(1 / (1 + 1 / 0.75**2))
    mean = width**2 * 1.5 / 0.75**2
    assert picture.posterior == pytest.approx((mean, width)) == (0.96, 0.6)  # the sliders can be there
    assert picture.terms(mean, width).gap == pytest.approx(0, abs=1e-12)
    z_scores = ((0.3 - mean) / width, 0.7 / width)
    kl = 0.5 * (z_scores[0] ** 2 + z_scores[1] ** 2 - 1) - math.log(z_scores[1])
    assert picture.terms(0.3, 0.7).gap == pytest.approx(kl)


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
    assert f"{abs(terms.gap):.2f}" in picture.scene.words[1].get_text()


@pytest.mark.parametrize(("mean", "width"), CORNERS_AND_MIDDLE)
def test_q_is_drawn_where_the_sliders_say(picture, mean, width):
    picture.render(mean, width)
    z, height = picture.scene.area.get_xy().T
    at_mean = height[np.abs(z - mean).argmin()]
    expected = min(1 / (width * math.sqrt(2 * math.pi)), 2 * picture.top)
    assert at_mean == pytest.approx(expected, rel=0.01)
    inside = colour_at(picture, picture.density_axes, mean, 0.4 * min(expected, picture.top), mean, width)
    assert inside != (255, 255, 255)


@pytest.mark.parametrize("width", [0.0, -1.0, math.inf])
def test_a_width_must_be_positive(picture, width):
    with pytest.raises(ValueError, match="standard deviation and must be positive"):
        picture.terms(0.0, width)


def test_words_hold_the_sum(picture):
    words = picture.describe(0.96, 0.6)
    assert words.startswith("q = N(0.96, 0.60²): ELBO −1.862 + gap 0.000 = −1.862 = log p(x)")


def test_still_shows_each_q_with_its_bar():
    fig = still_elbo_gap([(0.0, 1.0), (1.56, 0.3), (0.96, 0.6)])
    above, below = fig.axes[:3], fig.axes[3:]
    assert [ax.get_title() for ax in above] == ["q = N(0.00, 1.00²)", "q = N(1.56, 0.30²)", "q = N(0.96, 0.60²)"]
    gaps = [[text.get_text() for text in ax.texts if text.get_text().startswith("gap")] for ax in below]
    assert gaps == [["gap\n1.66"], ["gap\n0.82"], ["gap\n0.00"]]
    assert above[1].get_ylim()[1] > 1 / (0.30 * math.sqrt(2 * math.pi))  # the narrow q is not cut off
