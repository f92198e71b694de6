"""The explorer of the KL: the right numbers, the right picture, the same on the still figure."""

import math

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from course_utils.losses.terms import gaussian_kl
from course_utils.teaching.widgets.kl_explorer import (
    BAR_STEPS,
    LOG_VAR_RANGE,
    MU_RANGE,
    KLPicture,
    kl_parts,
    push_field,
    still_kl,
)

from .test_widgets import pixels, place

ENDS_AND_MIDDLE = [(mu, log_var) for mu in (*MU_RANGE, 0.0) for log_var in (*LOG_VAR_RANGE, 0.0)] + [(1.3, -0.7)]


@pytest.fixture(scope="module")
def picture():
    return KLPicture()


def colour_at(picture, png, ax, x, y):
    """The pixel of the picture at a place in axes' own units."""
    return pixels(png)[place(picture, ax, x, y)]


# --- the numbers


@pytest.mark.parametrize(("mu", "log_var"), ENDS_AND_MIDDLE)
def test_parts_add_up_to_the_kl_and_so_do_the_areas(mu, log_var):
    parts = kl_parts(mu, log_var)
    mean, spread, zero = (torch.tensor(v, dtype=torch.float64) for v in (mu, math.exp(log_var / 2), 0.0))
    reference = kl_divergence(Normal(mean, spread), Normal(zero, zero + 1)).item()
    ours = gaussian_kl(mean.view(1, 1), torch.full((1, 1), log_var, dtype=torch.float64)).item()
    mean_part, variance_part, log_variance_part, nats = parts.bars
    assert nats == pytest.approx(reference, abs=1e-12) == pytest.approx(ours, abs=1e-12)
    assert nats == mean_part + variance_part + log_variance_part
    assert parts.above - parts.below == pytest.approx(nats, abs=1e-8)
    assert parts.above >= 0 and 0 <= parts.below <= 1 / math.e
    assert (mean_part, log_variance_part) == (0.5 * mu**2, -0.5 * log_var)


@pytest.mark.parametrize(("mu", "log_var"), [(math.nan, 0), (0, math.inf), (21, 0), (0, -21)])
def test_parts_refuse_what_no_picture_can_hold(mu, log_var):
    with pytest.raises(ValueError, match="-20, 20"):
        kl_parts(mu, log_var)


# --- the picture


@pytest.mark.parametrize(("mu", "log_var"), ENDS_AND_MIDDLE)
def test_everything_that_is_drawn_fits_and_is_true(picture, mu, log_var):
    picture.render(mu, log_var)
    z, q = picture.densities.q.get_data()
    expected = Normal(mu, math.exp(log_var / 2)).log_prob(torch.as_tensor(z)).exp().numpy()
    assert np.allclose(q, expected, atol=1e-6)
    assert q.max() < picture.densities.ax.get_ylim()[1]
    _, y = picture.integrand.curve.get_data()
    low, high = picture.integrand.ax.get_ylim()
    assert low < y.min() and y.max() < high
    left, right = picture.parts.ax.get_xlim()
    widths = [bar.get_width() for bar in picture.parts.bars]
    assert widths == list(kl_parts(mu, log_var).bars)
    assert left < min(*widths, 0) and max(*widths, 0) < right
    parts = kl_parts(mu, log_var)
    shown = [float(text.get_text().replace("−", "-")) for text in picture.parts.numbers]
    assert shown == pytest.approx(parts.bars, abs=0.00501)
    assert picture.integrand.gain.get_text() == f"+{parts.above:.2f}"
    assert picture.integrand.loss.get_text() == f"−{parts.below:.2f}"
    bounds = picture.figure.bbox
    for artist in (*picture.parts.numbers, picture.integrand.gain, picture.integrand.loss):
        box = artist.get_window_extent(picture._canvas.get_renderer())
        assert bounds.x0 <= box.x0 and box.x1 <= bounds.x1, artist.get_text()


def test_areas_are_coloured_above_and_below(picture):
    png = picture.render(1.0, 0.0)
    red, green, blue = colour_at(picture, png, picture.integrand.ax, 1.6, 0.1)  # q > p
    assert red > green > blue
    red, green, _ = colour_at(picture, png, picture.integrand.ax, 0.0, -0.05)  # q < p
    assert green > red
    assert (colour_at(picture, png, picture.integrand.ax, -5.0, 0.3) == 255).all()


def test_words_hold_the_numbers(picture):
    nats = kl_parts(1.0, -2.0).bars[-1]
    assert f"σ = 0.37. KL(q ‖ p) = {nats:.2f} nats = {nats / math.log(2):.2f} bits" in picture.describe(1.0, -2.0)
    most = max(kl_parts(mu, log_var).bars[-1] for mu in MU_RANGE for log_var in LOG_VAR_RANGE)
    assert most <= BAR_STEPS[-1]  # so the axis of the bars need not grow


# --- the still pictures


def test_still_shows_every_point():
    points = [(0.0, 0.0), (1.5, 0.0), (0.0, -3.0), (-3.0, 2.0)]
    fig = still_kl(points)
    fig.draw_without_rendering()
    rows = np.array(fig.axes).reshape(-1, 3)
    assert len(rows) == 4
    for (densities, integrand, bars), (mu, log_var) in zip(rows, points, strict=True):
        parts = kl_parts(mu, log_var)
        assert f"{parts.bars[-1]:.2f} nats" in bars.get_title()
        assert densities.get_title().replace("−", "-") == f"μ = {mu:.1f}, log σ² = {log_var:.1f}"
        assert f"+{parts.above:.2f}" in [text.get_text() for text in integrand.texts]
        assert [bar.get_width() for bar in bars.patches] == list(parts.bars)
        assert bars.get_xlim() == rows[0][2].get_xlim()  # comparable


def test_field_points_downhill_and_shows_the_paths():
    path = torch.tensor([[2.0, -3.0], [1.0, -2.0], [0.5, -1.0]])
    fig = push_field([path, path.numpy()])
    fig.draw_without_rendering()
    (arrows,) = [c for c in fig.axes[0].collections if type(c).__name__ == "Quiver"]
    mu, log_var = arrows.X, arrows.Y
    descent = arrows.U * mu + arrows.V * 0.5 * np.expm1(log_var)  # along the gradient
    assert (descent[np.hypot(mu, log_var) > 0.1] < 0).all()
    assert sum(np.array_equal(line.get_xydata(), path.numpy()) for line in fig.axes[0].lines) == 2


@pytest.mark.parametrize("path", [np.zeros(3), np.zeros((4, 3)), np.zeros((1, 2))])
def test_field_refuses(path):
    with pytest.raises(ValueError, match="a path has shape"):
        push_field([path])
