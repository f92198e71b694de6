"""The explorer of the reparameterization: its numbers, its picture at the ends of the sliders, its stand-in."""

import math

import numpy as np
import pytest
import torch

from course_utils.teaching.widgets.reparameterized import (
    LOG_VAR_RANGE,
    MU_RANGE,
    ReparameterizedSamples,
    exact_gradient,
    slope,
    still_samples,
)

from .test_widgets import pixels, place

PLACES = [(m, v) for m in (*MU_RANGE, 0.0, 0.7) for v in (*LOG_VAR_RANGE, -1.3)]


def wave(z):
    return 0.15 * z**2 + torch.sin(1.5 * z)


def wave_gradient(mu, log_var):
    """In closed form: E = 0.15 (μ² + σ²) + exp(−1.125 σ²) sin(1.5 μ)."""
    variance = math.exp(log_var)
    damping = math.exp(-1.125 * variance)
    by_mu = 0.3 * mu + 1.5 * damping * math.cos(1.5 * mu)
    by_log_var = variance * (0.15 - 1.125 * damping * math.sin(1.5 * mu))
    return by_mu, by_log_var


@pytest.fixture(scope="module")
def picture():
    return ReparameterizedSamples(wave)


# --- the numbers


@pytest.mark.parametrize(("mu", "log_var"), PLACES)
def test_the_exact_gradient_is_that_of_the_closed_form(mu, log_var):
    assert exact_gradient(wave, mu, log_var) == pytest.approx(wave_gradient(mu, log_var), abs=1e-9)


def test_the_exact_gradient_is_right_where_f_jumps():
    def jump(z):
        return z + 3.0 * (z > 1)

    expected = 1 + 3 * math.exp(-0.5) / math.sqrt(2 * math.pi)  # slope, and jump times density
    assert exact_gradient(jump, 0.0, 0.0).mu == pytest.approx(expected, abs=3e-3)
    assert slope(jump, torch.linspace(-3, 3, 50)).unique().tolist() == [1.0]


@pytest.mark.parametrize(("mu", "log_var"), PLACES)
def test_the_estimate_is_what_autograd_gives(picture, mu, log_var):
    parameters = torch.tensor([mu, log_var], dtype=torch.float64, requires_grad=True)
    z = parameters[0] + (0.5 * parameters[1]).exp() * picture.eps
    (expected,) = torch.autograd.grad(wave(z).mean(), parameters)
    assert picture.estimate(mu, log_var) == pytest.approx(tuple(expected.tolist()), abs=1e-12)
    assert torch.allclose(picture.samples(mu, log_var), z)


def test_the_estimate_tends_to_the_exact_gradient():
    many = ReparameterizedSamples(wave)
    many.eps = torch.randn(400_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert many.estimate(0.5, 0.0) == pytest.approx(many.exact(0.5, 0.0), abs=0.01)


def test_a_function_without_slope():
    assert slope(torch.sign, torch.tensor([-1.0, 2.0])).tolist() == [0.0, 0.0]
    assert slope(lambda z: (z > 0).double(), torch.tensor([-1.0, 2.0])).tolist() == [0.0, 0.0]


# --- the picture


@pytest.mark.parametrize(("mu", "log_var"), PLACES)
def test_the_picture_shows_the_samples_and_both_gradients(picture, mu, log_var):
    image = pixels(picture.render(mu, log_var))
    assert image.shape == (432, 810, 3)
    scene = picture.scene
    z = picture.samples(mu, log_var).numpy()
    assert np.allclose(scene.row.get_xdata(), z) and np.allclose(scene.dots.get_xdata(), z)
    assert np.allclose(scene.dots.get_ydata(), wave(torch.as_tensor(z)).numpy())
    left, right = scene.top.get_xlim()
    assert left < z.min() and z.max() < right
    assert [bar.get_height() for bar in picture.bars] == pytest.approx(list(picture.estimate(mu, log_var)))
    marks = [segment[0][1] for segment in picture.marks.get_segments()]
    assert marks == pytest.approx(list(picture.exact(mu, log_var)))
    bottom, top = picture.bars_axes.get_ylim()
    assert all(bottom < value < top for value in (*marks, *picture.estimate(mu, log_var)))


def test_the_noise_stays_while_the_samples_move(picture):
    one, other = (pixels(picture.render(mu, -1.0)) for mu in (-1.0, 1.0))
    rows = picture.scene.rows
    for noise in picture.eps.tolist():
        here = place(picture, rows, noise, 0.0)
        assert one[here].max() < 80 and other[here].max() < 80
    assert (one != other).any()


def test_arrows_point_along_the_curve_as_seen(picture):
    picture.render(0.3, 0.5)
    arrows, dots = picture.scene.arrows, picture.scene.dots
    top = picture.scene.top
    for x, u, v in zip(dots.get_xdata(), arrows.U, arrows.V, strict=True):
        ends = torch.tensor([x - 1e-4, x + 1e-4], dtype=torch.float64)
        (x0, y0), (x1, y1) = (top.transData.transform((e, wave(e))) for e in ends)
        assert math.atan2(v, u) == pytest.approx(math.atan2(y1 - y0, x1 - x0), abs=1e-3)


@pytest.mark.parametrize("f", [lambda z: z.sum(), lambda z: z[:1], lambda z: 3.0])
def test_a_function_of_another_shape_is_refused(f):
    with pytest.raises(ValueError, match="one number for each sample"):
        ReparameterizedSamples(f)


def test_words_hold_the_numbers(picture):
    words = picture.describe(-1.5, -4.0)
    assert "μ = −1.50" in words and "0 of 8 points stand where f rises" in words and "σ = 0.14" in words


# --- the still picture


def test_the_still_picture_shows_each_setting_with_its_numbers(picture):
    settings = [(0.5, -3.0), (0.5, 1.0), (-1.5, -3.0)]
    fig = still_samples(wave, settings)
    fig.draw_without_rendering()
    assert len(fig.axes) == 6
    for axes, (mu, log_var) in zip(fig.axes[:3], settings, strict=True):
        for number in (mu, log_var, picture.estimate(mu, log_var).mu, picture.exact(mu, log_var).mu):
            assert f"{number:.2f}".replace("-", "−") in axes.get_title()
