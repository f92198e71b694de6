"""What a loss's scale implies: the known facts, the algebra against a real loss, and the refusals."""

import itertools
import math

import pytest
import torch

from course_utils.losses.scales import implied_gaussian, optimal_sigma
from course_utils.losses.terms import gaussian_kl, gaussian_nll


@pytest.mark.parametrize(
    ("dims", "options", "beta"),
    [
        (784, dict(), 1),  # the ELBO at σ = 1
        (784, dict(half=False), 0.5),  # a plain summed squared error: σ² = ½
        (784, dict(reduction="mean"), 784),
        (784, dict(reduction="mean", half=False), 392),  # mse_loss with its default, plus a KL
        (784, dict(reduction="mean", half=False, kl_weight=0.1, kl_reduction="mean", latent_dim=5), 7.84),
        (3 * 64 * 64, dict(reduction="mean", half=False, kl_weight=0.00025), 1.536),
        (3 * 64 * 64, dict(reduction="mean", half=False), 6144),  # the same, with the weight forgotten
        (1, dict(reduction="mean"), 1),
        (10, dict(kl_weight=4), 4),
    ],
)
def test_known_scales(dims, options, beta):
    sigma, effective = implied_gaussian(dims, **options)
    assert effective == pytest.approx(beta) and sigma == pytest.approx(math.sqrt(beta))


COMBINATIONS = list(itertools.product(("sum", "mean"), (True, False), (1.0, 0.3, 7), ("sum", "mean")))


@pytest.mark.parametrize(("reduction", "half", "weight", "kl_reduction"), COMBINATIONS)
def test_gradients_point_the_same_way(reduction, half, weight, kl_reduction):
    """The loss as written, β·KL at σ = 1 and KL at the implied σ have gradients that differ by one factor."""
    torch.manual_seed(0)
    x = torch.rand(4, 12, dtype=torch.float64)
    leaves = [torch.randn(4, n, dtype=torch.float64, requires_grad=True) for n in (12, 3, 3)]
    x_hat, mu, log_var = leaves
    row = implied_gaussian(
        12, reduction=reduction, half=half, kl_weight=weight, kl_reduction=kl_reduction, latent_dim=3
    )
    squared, kl = (x - x_hat).square(), gaussian_kl(mu, log_var)
    error = (squared.sum(1) if reduction == "sum" else squared.mean(1)) * (0.5 if half else 1)
    literal = error.mean() + weight * (kl / 3 if kl_reduction == "mean" else kl).mean()
    at_sigma_one = (gaussian_nll(x_hat, x) + row.beta * kl).mean()
    at_beta_one = (gaussian_nll(x_hat, x, sigma=row.sigma) + kl).mean()
    gradients = [torch.cat([g.flatten() for g in torch.autograd.grad(loss, leaves, retain_graph=True)]) for loss in
                 (literal, at_sigma_one, at_beta_one)]  # fmt: skip
    for gradient in gradients[1:]:
        factor = (gradients[0] @ gradient) / (gradient @ gradient)
        assert factor > 0
        torch.testing.assert_close(gradients[0], factor * gradient)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "words"),
    [
        ((0,), {}, ValueError, "dims must be at least 1"),
        ((784.5,), {}, TypeError, "dims must be a whole number"),
        ((784,), dict(reduction="none"), ValueError, "reduction must be one of 'sum', 'mean'"),
        ((784,), dict(kl_reduction="batch"), ValueError, "kl_reduction must be one of"),
        ((784,), dict(half=0.5), TypeError, "half says whether"),
        ((784,), dict(kl_weight=0), ValueError, "kl_weight must be finite and positive, got 0"),
        ((784,), dict(kl_weight=-1.0), ValueError, "kl_weight must be finite and positive, got -1"),
        ((784,), dict(kl_weight=math.inf), ValueError, "kl_weight"),
        ((784,), dict(kl_weight=math.nan), ValueError, "kl_weight"),
        ((784,), dict(kl_weight=True), TypeError, "kl_weight"),
        ((784,), dict(kl_reduction="mean"), ValueError, "give latent_dim"),
        ((784,), dict(kl_reduction="mean", latent_dim=0), ValueError, "latent_dim must be at least 1"),
    ],
)
def test_refuses(arguments, options, error, words):
    with pytest.raises(error, match=words):
        implied_gaussian(*arguments, **options)


def test_optimal_sigma_is_where_the_likelihood_peaks():
    torch.manual_seed(0)
    x = torch.rand(5, 1, 4, 4, dtype=torch.float64)
    mean = torch.rand(5, 1, 4, 4, dtype=torch.float64)
    best = optimal_sigma(mean, x)
    assert best.shape == () and best.item() == pytest.approx(math.sqrt(((x - mean) ** 2).mean()))
    at_best = gaussian_nll(mean, x, sigma=best).mean()
    for factor in (0.5, 0.9, 0.99, 1.01, 1.1, 2):
        assert gaussian_nll(mean, x, sigma=best * factor).mean() > at_best
    sigma = best.clone().requires_grad_()
    (slope,) = torch.autograd.grad(gaussian_nll(mean, x, sigma=sigma).mean(), sigma)
    assert slope.abs() < 1e-9


def test_optimal_sigma_carries_a_gradient_and_refuses_other_shapes():
    mean = torch.zeros(2, 3, requires_grad=True)
    optimal_sigma(mean, torch.ones(2, 3)).backward()
    torch.testing.assert_close(mean.grad, torch.full((2, 3), -1 / 6))
    with pytest.raises(ValueError, match="same shape"):
        optimal_sigma(torch.zeros(2, 3), torch.zeros(2, 1))
