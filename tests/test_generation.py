"""Measurements of generation, held against what they say they measure."""

import math

import pytest
import torch
from torch.distributions import MultivariateNormal, kl_divergence

from course_utils.evaluation.judge import Judge
from course_utils.evaluation.samples import (
    effective_classes,
    fit_gaussian,
    linear,
    lost_share,
    reached_share,
    spherical,
    standard_normal,
)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def codes():
    mixing = torch.tensor([[1.0, 0.0, 0.0], [0.8, 0.5, 0.0], [0.0, -0.4, 2.0]])
    return draw(5000, 3) @ mixing.T + torch.tensor([1.0, -2.0, 0.5])


def reference(gaussian):
    return MultivariateNormal(gaussian.mean, gaussian.covariance)


# The Gaussian of codes ---------------------------------------------------------------------------------


def test_fitted_gaussian_has_the_codes_moments_and_the_density_of_torch(codes):
    gaussian = fit_gaussian(codes)
    assert gaussian.mean.dtype == torch.float64
    torch.testing.assert_close(gaussian.mean, codes.double().mean(0))
    torch.testing.assert_close(gaussian.covariance, torch.cov(codes.double().T))
    torch.testing.assert_close(gaussian.nll(codes[:9]), -reference(gaussian).log_prob(codes[:9].double()))
    prior = reference(standard_normal(3))
    assert gaussian.kl_to_prior() == pytest.approx(kl_divergence(reference(gaussian), prior).item())
    assert standard_normal(3).kl_to_prior() == pytest.approx(0, abs=1e-12)


def test_its_samples_have_its_moments_and_follow_the_seed(codes):
    gaussian = fit_gaussian(codes)
    z = gaussian.sample(200_000, seed=3)
    assert z.dtype == torch.float32 and z.shape == (200_000, 3)
    torch.testing.assert_close(z.double().mean(0), gaussian.mean, atol=0.03, rtol=0)
    torch.testing.assert_close(torch.cov(z.double().T), gaussian.covariance, atol=0.1, rtol=0.02)
    assert torch.equal(gaussian.sample(5, seed=1), gaussian.sample(5, seed=1))
    assert not torch.equal(gaussian.sample(5, seed=1), gaussian.sample(5, seed=2))


def test_one_dimension(codes):
    assert fit_gaussian(codes[:, :1]).covariance.shape == (1, 1)


def test_gaussian_needs_more_codes_than_dimensions():
    with pytest.raises(ValueError, match="more codes"):
        fit_gaussian(draw(3, 3))
    with pytest.raises(ValueError, match="codes"):
        fit_gaussian(draw(9))


# Coverage ----------------------------------------------------------------------------------------------


def test_lost_share_of_test_codes_is_five_per_cent_and_of_far_points_all():
    train, test = draw(2000, 4), draw(4000, 4, seed=1)
    assert lost_share(test, train, test) == pytest.approx(0.05, abs=0.001)
    assert lost_share(draw(4000, 4, seed=2), train, test) == pytest.approx(0.05, abs=0.015)
    assert lost_share(draw(500, 4) + 20, train, test) == 1.0
    assert lost_share(train[:300], train, test) == 0.0


def test_lost_share_is_the_measure_of_notebook_01():
    samples, train, test = draw(300, 5), 2 * draw(900, 5, seed=1), 2 * draw(400, 5, seed=2)

    def nearest(z):
        return torch.cdist(z, train).amin(1)

    expected = (nearest(samples) > nearest(test).quantile(0.95)).float().mean().item()
    assert lost_share(samples, train, test) == pytest.approx(expected)


def test_reached_share_by_counting(codes):
    assert reached_share(draw(20_000, 6), standard_normal(6)) == pytest.approx(0.95, abs=0.01)
    assert reached_share(codes, fit_gaussian(codes)) == pytest.approx(0.95, abs=0.01)
    assert reached_share(10 * draw(2000, 6), standard_normal(6)) < 0.02
    radius = draw(200_000, 2).norm(dim=1).quantile(0.95)  # as notebook 01 takes it
    test = 1.7 * draw(2000, 2, seed=5)
    expected = (test.norm(dim=1) < radius).float().mean().item()
    assert reached_share(test, standard_normal(2)) == pytest.approx(expected, abs=0.01)


def test_coverage_refuses_codes_of_other_lengths():
    with pytest.raises(ValueError, match="test_codes have 3 numbers"):
        lost_share(draw(5, 4), draw(5, 4), draw(5, 3))


# Kinds -------------------------------------------------------------------------------------------------


class Oracle(Judge):
    """Takes the class from the first pixel, and is sure of it where the second pixel is lit."""

    def probabilities(self, x, *, batch_size=1000):
        sure = x.flatten(1)[:, 1] > 0.5
        chance = torch.full((len(x), 10), 0.1)
        chance[sure] = torch.eye(10)[(x.flatten(1)[sure, 0] * 10).round().long()]
        return chance


def images_of(classes, sure):
    images = torch.zeros(len(classes), 1, 28, 28)
    images[:, 0, 0, 0], images[:, 0, 0, 1] = torch.tensor(classes) / 10, torch.tensor(sure).float()
    return images


def test_effective_classes_count_the_recognised_kinds():
    judge = Oracle()
    assert effective_classes(judge, images_of(list(range(10)), [1] * 10)) == pytest.approx(10, rel=1e-5)
    assert effective_classes(judge, images_of([3] * 7, [1] * 7)) == pytest.approx(1)
    assert effective_classes(judge, images_of([3, 4, 5, 6], [1, 1, 0, 0])) == pytest.approx(2)
    expected = math.exp(-0.25 * math.log(0.25) - 0.75 * math.log(0.75))
    assert effective_classes(judge, images_of([1, 2, 2, 2], [1] * 4)) == pytest.approx(expected)
    assert effective_classes(judge, images_of([1, 2], [0, 0])) == 0


# Paths -------------------------------------------------------------------------------------------------


def test_both_paths_begin_and_end_where_they_should():
    a, b = draw(50, 8), draw(50, 8, seed=1)
    for path in (linear, spherical):
        torch.testing.assert_close(path(a, b, 0.0), a, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(path(a, b, 1.0), b, atol=1e-5, rtol=1e-4)
    unit_a, unit_b = (c.double() / c.double().norm(dim=1, keepdim=True) for c in (a, b))
    for t in (0.2, 0.5, 0.9):
        on_arc = spherical(unit_a, unit_b, t)
        torch.testing.assert_close(on_arc.norm(dim=1), torch.ones(50).double())
        whole, part = ((unit_a * c).sum(1).clamp(-1, 1).arccos() for c in (unit_b, on_arc))
        torch.testing.assert_close(part, t * whole, atol=1e-6, rtol=1e-6)


def test_arc_between_parallel_codes_is_the_line():
    a = draw(4, 6)
    for b in (a, 2 * a):
        torch.testing.assert_close(spherical(a, b, 0.3), linear(a, b, 0.3), atol=1e-5, rtol=1e-5)
    assert spherical(a, -a, 0.5).isfinite().all()
