"""The explorer of collapse in the linear VAE: its numbers against the exact model, its picture, its words."""

import pytest
import torch

from course_utils.evaluation import LinearGaussian
from course_utils.teaching.widgets.linear_collapse import (
    BEST,
    PARTS,
    VALUES,
    LinearCollapse,
    optimum,
    still_linear_collapse,
)

POSITIONS = [(1.0, 0.0), (4.0, 0.0), (0.1, 0.0), (1.0, 6.0), (4.0, 1.5)]


def exact(rates):
    """Distortion, rate, −ELBO and −log p(x), on average over data with these eigenvalues, by the exact model.

    Encoder and decoder are written down from the rates: total variance 1 in each code, and the regression of x on it.
    """
    values, rates = torch.tensor(VALUES, dtype=torch.float64), torch.as_tensor(rates)
    share = 1 - (-2 * rates).exp()  # of the code's variance that comes from x
    x = torch.cat([torch.eye(6), -torch.eye(6)]).double() * (6 * values).sqrt()  # has exactly this covariance
    model = LinearGaussian(torch.diag((values * share).sqrt()), torch.zeros(6).double(), 1.0)
    terms = model.elbo(x, x * (share / values).sqrt(), log_var=(1 - share).log().expand(12, 6))
    return *(t.mean().item() for t in (terms.recon, terms.kl, terms.loss)), -model.log_evidence(x).mean().item()


@pytest.mark.parametrize("point", POSITIONS)
def test_the_costs_are_those_of_the_exact_model(point):
    found = optimum(*point)
    costs = (found.distortion, found.rate, found.minus_elbo, found.minus_log_p)
    assert costs == pytest.approx(exact(found.rates), abs=1e-9)
    assert found.minus_elbo >= found.minus_log_p - 1e-9 and found.minus_log_p >= BEST - 1e-9


def test_the_best_is_the_maximum_likelihood_model_and_the_only_one_without_a_gap():
    values = torch.tensor(VALUES, dtype=torch.float64)
    best = LinearGaussian(torch.diag((values - 1).clamp(min=0).sqrt()), torch.zeros(6).double(), 1.0)
    x = torch.cat([torch.eye(6), -torch.eye(6)]).double() * (6 * values).sqrt()
    assert pytest.approx(-best.log_evidence(x).mean().item()) == BEST
    assert pytest.approx(BEST) == optimum(1.0, 0.0).minus_log_p
    for point in POSITIONS[1:]:
        assert optimum(*point).minus_elbo > BEST + 0.05


@pytest.mark.parametrize("point", POSITIONS)
def test_nothing_near_by_costs_less_of_what_is_minimised(point):
    beta, floor = point
    found = optimum(beta, floor)

    def trained_on(rates):
        distortion, rate, *_ = exact(rates)
        return distortion + beta * max(rate, floor)

    lowest = trained_on(found.rates)
    generator = torch.Generator().manual_seed(0)
    for size in (0.02, 0.2, 1.0):
        for _ in range(40):
            other = (torch.tensor(found.rates) + size * torch.randn(6, generator=generator).double()).clamp(min=0)
            assert trained_on(other) >= lowest - 1e-9


@pytest.mark.parametrize("point", POSITIONS)
def test_the_picture_has_bars_and_level_where_they_belong(point):
    picture, found = LinearCollapse(), optimum(*point)
    picture.render(*point)
    assert picture.scene.level.get_ydata() == pytest.approx([found.level] * 2)
    for bar, value, rate in zip(picture.scene.left, VALUES, found.rates, strict=True):
        assert bar.get_height() == pytest.approx(found.level if rate > 0 else value)
    assert [bar.get_width() for bar in picture.scene.bars.bars] == pytest.approx(exact(found.rates), abs=1e-6)
    for number in picture.scene.bars.numbers:
        box = number.get_window_extent()
        assert picture.bar_axes.bbox.x0 <= box.x0 and box.x1 <= picture.figure.bbox.x1


def test_words_hold_the_numbers():
    words = LinearCollapse().describe
    assert "floor 0.0 nats, which does not bind: 4 of 6 dimensions speak" in words(1.0, 0.0)
    assert "0.00 above the best" in words(1.0, 0.0)
    assert "which acts like β = " in words(4.0, 3.0) and "3 of 6 dimensions speak" in words(2.0, 0.0)


def test_still_shows_every_position():
    fig = still_linear_collapse(POSITIONS[:3])
    assert [ax.get_title() for ax in fig.axes[:3]] == [
        "β = 1.00, floor 0.0",
        "β = 4.00, floor 0.0",
        "β = 0.10, floor 0.0",
    ]
    assert [label.get_text() for label in fig.axes[3].get_yticklabels()] == list(PARTS)
    fig.draw_without_rendering()
