"""The explorer of σ: its numbers, its picture at the ends of the slider, its message, and its still stand-in."""

import numpy as np
import pytest
import torch

from course_utils.losses.terms import gaussian_nll
from course_utils.teaching.widgets.loss_scale import PARTS, RANGE, LossScale, still_loss_scale

from .test_widgets import pixels, place

ENDS_AND_MIDDLE = [RANGE[0], -0.745, 0.0, RANGE[1]]


@pytest.fixture
def scale():
    return LossScale(25.7, 784)


@pytest.mark.parametrize("sigma", [0.04, 0.18, 1.0, 10.0])
def test_parts_are_those_of_the_production_loss(scale, sigma):
    x = torch.zeros(1, 784, dtype=torch.float64)
    x_hat = torch.full((1, 784), (25.7 / 784) ** 0.5, dtype=torch.float64)
    *parts, total = scale.parts(sigma)
    assert sum(parts) == pytest.approx(total) == pytest.approx(gaussian_nll(x_hat, x, sigma=sigma).item())
    assert scale.parts(np.array([sigma, 2.0]))[-1][0] == pytest.approx(total)


def test_best_sigma_is_the_lowest_point(scale):
    totals = [scale.parts(scale.best_sigma * factor)[-1] for factor in (0.98, 1.0, 1.02)]
    assert min(totals) == totals[1] and scale.best_sigma == pytest.approx((25.7 / 784) ** 0.5)


@pytest.mark.parametrize("log10_sigma", ENDS_AND_MIDDLE)
def test_picture_has_cursor_dot_and_bars_where_they_belong(scale, log10_sigma):
    picture = pixels(scale.render(log10_sigma))
    assert picture.shape == (396, 810, 3)
    sigma = 10.0**log10_sigma
    assert scale.cursor.get_xdata()[0] == pytest.approx(sigma)
    values = [float(v) for v in scale.parts(sigma)]
    assert [bar.get_width() for bar in scale.bars.bars] == pytest.approx(np.clip(values, *scale.limits))
    for number, value in zip(scale.bars.numbers, values, strict=True):
        assert float(number.get_text().replace("−", "-")) == pytest.approx(value, abs=0.51)
        box = number.get_window_extent()
        assert scale.bar_axes.bbox.x0 <= box.x0 and box.x1 <= scale.figure.bbox.x1
    row, column = place(scale, scale.curve_axes, sigma, scale.limits[1] * 0.6)
    column = min(max(column, 0), 809)
    assert picture[row, max(column - 2, 0) : column + 3].min() < 80


@pytest.mark.parametrize("sigmas", [[1.0], [0.04, 10.0], [0.1, 0.181, 0.5, 1.0]])
def test_still_shows_every_position(scale, sigmas):
    fig = still_loss_scale(25.7, sigmas=sigmas)
    curves, *cells = fig.axes
    letters = {text.get_text(): text.xy for text in curves.texts}
    assert list(letters) == list("ABCD"[: len(sigmas)]) and len(cells) == len(sigmas)
    for letter, sigma, cell in zip(letters, sigmas, cells, strict=True):
        total = float(np.clip(scale.parts(sigma)[-1], *scale.limits))
        assert letters[letter] == pytest.approx((sigma, total))
        assert cell.get_title(loc="right").startswith(f"{letter}: σ = {sigma:g}".rstrip("0"))
        assert [label.get_text() for label in cell.get_yticklabels()] == list(PARTS)
        assert cell.patches[-1].get_width() == pytest.approx(total)
    fig.draw_without_rendering()


def test_refuses_impossible_errors():
    for squared_error in (0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="positive number"):
            LossScale(squared_error)
    with pytest.raises(ValueError, match="dims"):
        LossScale(1.0, 0)


def test_words_hold_the_numbers(scale):
    words = scale.describe(0.0)
    assert "σ = 1: constant 720, D log σ 0, squared error 13; 733 nats" in words
    assert "Best at σ = 0.181, with −227 nats." in words


def test_best_sigma_may_lie_outside_of_the_picture():
    LossScale(1e-6).render(0.0)
    still_loss_scale(1e6, sigmas=[1.0]).draw_without_rendering()
