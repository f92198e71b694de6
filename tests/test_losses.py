"""The losses against references that share no code with them: torch.distributions, quadrature, Monte Carlo."""

import math

import pytest
import torch
from torch import distributions as D
from torch.nn.functional import binary_cross_entropy_with_logits as bce_with_logits

from course_utils.losses.elbo import elbo
from course_utils.losses.terms import (
    bernoulli_nll,
    continuous_bernoulli_nll,
    gaussian_kl,
    gaussian_kl_full,
    gaussian_kl_terms,
    gaussian_nll,
    squared_error,
)
from course_utils.models.vae import VAEOutput

SHAPES = [(5, 7), (3, 1, 4, 4)]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def rand_pair(shape, dtype=torch.float64, scale=3.0):
    return scale * torch.randn(shape, dtype=dtype), torch.rand(shape, dtype=dtype)


# ------------------------------------------------------------------------------------- against torch.distributions


@pytest.mark.parametrize("shape", SHAPES)
def test_bernoulli_nll_is_minus_the_log_probability_of_binary_pixels(shape):
    logits, x = rand_pair(shape)
    x = x.round()
    expected = -D.Independent(D.Bernoulli(logits=logits), len(shape) - 1).log_prob(x)
    torch.testing.assert_close(bernoulli_nll(logits, x), expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_bernoulli_nll_of_grey_pixels_is_the_cross_entropy(shape):
    logits, x = rand_pair(shape)
    p = logits.sigmoid()
    expected = -(x * p.log() + (1 - x) * (1 - p).log()).flatten(1).sum(1)
    torch.testing.assert_close(bernoulli_nll(logits, x), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bernoulli_nll_is_pytorchs_and_so_is_its_slope_at_0_as_well(dtype):
    logits = torch.tensor([-1000.0, -30, -3, -1e-3, 0, 1e-3, 3, 30, 1000], dtype=dtype)[:, None].requires_grad_()
    for pixel in (0.0, 0.3, 1.0):
        x = torch.full_like(logits, pixel)
        ours, reference = bernoulli_nll(logits, x), bce_with_logits(logits, x, reduction="none").flatten()
        torch.testing.assert_close(ours, reference)
        torch.testing.assert_close(*(torch.autograd.grad(total.sum(), logits) for total in (ours, reference)))


@pytest.mark.parametrize("shape", SHAPES)
def test_continuous_bernoulli_nll_is_minus_the_log_density(shape):
    logits, x = rand_pair(shape)
    expected = -D.Independent(D.ContinuousBernoulli(logits=logits), len(shape) - 1).log_prob(x)
    torch.testing.assert_close(continuous_bernoulli_nll(logits, x), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("logit", [-60.0, -3.0, -0.09, -0.02, -0.009, 0.0, 0.009, 0.011, 0.5, 4.0, 60.0])
def test_continuous_bernoulli_density_integrates_to_one(logit):
    """Gauss–Legendre quadrature of the density over [0, 1], on panels fine enough for a boundary layer of 1/60."""
    nodes, weights = _gauss_legendre(panels=200)
    logits = torch.full((len(nodes), 1), logit, dtype=torch.float64)
    mass = (weights * (-continuous_bernoulli_nll(logits, nodes[:, None])).exp()).sum()
    assert mass.item() == pytest.approx(1.0, abs=1e-12)  # less than the last term of the series near 0 amounts to


def _gauss_legendre(panels):
    import numpy as np

    nodes, weights = (torch.from_numpy(a) for a in np.polynomial.legendre.leggauss(10))
    left = torch.arange(panels, dtype=torch.float64)[:, None] / panels
    return (left + (nodes + 1) / 2 / panels).flatten(), (weights / 2 / panels).repeat(panels)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("sigma", [0.1, 1.0, math.sqrt(0.5), 7.0])
def test_gaussian_nll_has_all_constants(shape, sigma):
    mean, x = rand_pair(shape)
    expected = -D.Independent(D.Normal(mean, sigma), len(shape) - 1).log_prob(x)
    torch.testing.assert_close(gaussian_nll(mean, x, sigma=sigma), expected)
    one_element = torch.tensor([sigma], dtype=torch.float64)
    torch.testing.assert_close(gaussian_nll(mean, x, sigma=one_element), expected)


@pytest.mark.parametrize("size", [2, 7])
def test_gaussian_nll_takes_one_sigma_per_dimension(size):
    mean, x = rand_pair((5, size))
    sigma = torch.rand(size, dtype=torch.float64) + 0.1
    expected = -D.Independent(D.Normal(mean, sigma), 1).log_prob(x)
    torch.testing.assert_close(gaussian_nll(mean, x, sigma=sigma), expected)


def test_squared_error_is_the_gaussian_nll_with_variance_one_half_less_its_constant():
    mean, x = rand_pair((5, 7))
    constant = 7 / 2 * math.log(math.pi)  # 7/2 log 2π + 7/2 log ½
    torch.testing.assert_close(squared_error(mean, x) + constant, gaussian_nll(mean, x, sigma=math.sqrt(0.5)))


@pytest.mark.parametrize("shape", [(6, 1), (6, 20), (4, 3, 5)])
def test_gaussian_kl_against_torch_distributions(shape):
    mu, log_var = 2 * torch.randn(shape, dtype=torch.float64), torch.randn(shape, dtype=torch.float64)
    q = D.Independent(D.Normal(mu, (0.5 * log_var).exp()), len(shape) - 1)
    p = D.Independent(D.Normal(torch.zeros_like(mu), torch.ones_like(mu)), len(shape) - 1)
    torch.testing.assert_close(gaussian_kl(mu, log_var), D.kl_divergence(q, p))


def test_gaussian_kl_teaches_the_mean_and_the_spread():
    mu, log_var = (torch.randn(4, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    gaussian_kl(mu, log_var).sum().backward()
    torch.testing.assert_close(mu.grad, mu.detach())  # ∂/∂μ = μ and ∂/∂log σ² = ½ (σ² − 1)
    torch.testing.assert_close(log_var.grad, 0.5 * (log_var.exp() - 1).detach())


@pytest.mark.parametrize("seed", range(5))
def test_gaussian_kl_is_never_negative_and_zero_only_at_the_prior(seed):
    torch.manual_seed(seed)
    mu, log_var = 1e-3 * torch.randn(1000, 3), 1e-3 * torch.randn(1000, 3)
    assert (gaussian_kl(mu, log_var) > 0).all()  # float32, where σ² − 1 − log σ² would round below 0
    assert gaussian_kl(torch.zeros(1, 3), torch.zeros(1, 3)).item() == 0.0


def random_covariance(*batch, size):
    root = torch.randn(*batch, size, size, dtype=torch.float64)
    return root @ root.mT + 0.1 * torch.eye(size, dtype=torch.float64)


@pytest.mark.parametrize(("entry", "slip", "symmetric"), [(1, 7e-5, True), (1, 1.5e-4, False), (0, 1.5e-6, False)])
def test_a_covariance_may_be_asymmetric_by_rounding_and_no_more(entry, slip, symmetric):
    covariance = torch.tensor([[[2.0, entry], [entry + slip, 2.0]]], dtype=torch.float64)
    mean, identity = torch.zeros(1, 2, dtype=torch.float64), torch.eye(2, dtype=torch.float64)
    if symmetric:
        assert gaussian_kl_full(mean, covariance, mean[0], identity) > 0
    else:
        with pytest.raises(ValueError, match="cov_q must be symmetric"):
            gaussian_kl_full(mean, covariance, mean[0], identity)


@pytest.mark.parametrize("batched_p", [True, False])
def test_full_kl_against_torch_distributions(batched_p):
    mean_q, cov_q = torch.randn(6, 4, dtype=torch.float64), random_covariance(6, size=4)
    mean_p = torch.randn(*([6] if batched_p else []), 4, dtype=torch.float64)
    cov_p = random_covariance(*([6] if batched_p else []), size=4)
    expected = D.kl_divergence(D.MultivariateNormal(mean_q, cov_q), D.MultivariateNormal(mean_p, cov_p))
    torch.testing.assert_close(gaussian_kl_full(mean_q, cov_q, mean_p, cov_p), expected)


def gaussians(*shape, dtype=torch.float32):
    """(mu, log_var) of q and of p, none of them standard, none of them alike."""
    q = torch.randn(shape, dtype=dtype), torch.randn(shape, dtype=dtype)
    return q, (1 + 2 * torch.randn(shape, dtype=dtype), 0.7 * torch.randn(shape, dtype=dtype) - 0.5)


@pytest.mark.parametrize("shape", [(5, 3), (4, 2, 3)])
def test_gaussian_kl_to_another_prior_against_torch_distributions(shape):
    q, p = gaussians(*shape)
    normals = (D.Independent(D.Normal(mu, (0.5 * log_var).exp()), len(shape) - 1) for mu, log_var in (q, p))
    torch.testing.assert_close(gaussian_kl(*q, prior=p), D.kl_divergence(*normals))
    terms = gaussian_kl_terms(*q, prior=p)
    assert terms.shape == shape and (terms >= 0).all()
    torch.testing.assert_close(terms.flatten(1).sum(1), gaussian_kl(*q, prior=p))


def test_gaussian_kl_to_the_standard_prior_given_as_one_is_the_usual_one():
    (mu, log_var), _ = gaussians(5, 3)
    zeros = torch.zeros_like(mu)
    assert torch.equal(gaussian_kl(mu, log_var, prior=(zeros, zeros)), gaussian_kl(mu, log_var))
    assert gaussian_kl(mu, log_var, prior=(mu, log_var)).abs().max() == 0


def test_the_prior_learns_from_the_kl():
    q, p = gaussians(5, 3)
    p = tuple(part.requires_grad_() for part in p)
    gaussian_kl(*q, prior=p).sum().backward()
    # ∂/∂μ_p = (μ_p − μ)/σ_p²: the prior is pulled to the posterior.
    torch.testing.assert_close(p[0].grad, ((p[0] - q[0]) / p[1].exp()).detach())


# ------------------------------------------------------------------------------------------------- stability


@pytest.mark.parametrize("logit", [-1000.0, -100.0, -20.0, 20.0, 100.0, 1000.0])
@pytest.mark.parametrize("nll", [bernoulli_nll, continuous_bernoulli_nll])
def test_nll_and_gradient_are_right_at_saturation(nll, logit):
    """Wrong by |logit| nats per pixel, with gradient ±1; the continuous Bernoulli loses a further log |logit|."""
    wrong = 0.0 if logit > 0 else 1.0
    logits = torch.full((1, 1), logit, requires_grad=True)
    value = nll(logits, torch.full((1, 1), wrong))
    value.sum().backward()
    extra = math.log(abs(logit)) if nll is continuous_bernoulli_nll else 0.0
    slope = 1 / logit if nll is continuous_bernoulli_nll else 0.0
    assert value.item() == pytest.approx(abs(logit) - extra, rel=1e-5)
    assert logits.grad.item() == pytest.approx(math.copysign(1.0, logit) - slope, rel=1e-5)


def test_continuous_bernoulli_gradient_is_finite_and_smooth_through_zero():
    logits = torch.linspace(-0.05, 0.05, 201, dtype=torch.float64).unsqueeze(1).requires_grad_()
    continuous_bernoulli_nll(logits, torch.full_like(logits, 0.3)).sum().backward()
    expected = -0.3 + 0.5 + logits.detach() / 12  # E[x] − x, with E[x] = ½ + η/12 + O(η³)
    torch.testing.assert_close(logits.grad, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("log_var", [-80.0, 80.0])
def test_gaussian_kl_is_finite_at_extreme_log_var(log_var):
    value = torch.full((2, 3), log_var, requires_grad=True)
    kl = gaussian_kl(torch.zeros(2, 3), value)
    kl.sum().backward()
    assert kl.isfinite().all() and value.grad.isfinite().all()
    exact = 1.5 * (math.exp(log_var) - 1 - log_var)
    assert kl[0].item() == pytest.approx(exact, rel=1e-5)


# ----------------------------------------------------------------------------------------------------- elbo


def make_output(b=8, d=6, latent=3):
    mu, log_var = torch.randn(b, latent), torch.randn(b, latent)
    return VAEOutput(torch.randn(b, d), mu, log_var, mu), torch.rand(b, d)


@pytest.mark.parametrize("name", ["bernoulli", "gaussian", "continuous_bernoulli"])
@pytest.mark.parametrize("beta", [0.0, 1.0, 4.0])
def test_elbo_is_recon_plus_beta_kl(name, beta):
    output, x = make_output()
    nll = {"bernoulli": bernoulli_nll, "gaussian": gaussian_nll, "continuous_bernoulli": continuous_bernoulli_nll}[name]
    terms = elbo(output, x, likelihood=name, beta=beta)
    torch.testing.assert_close(terms.recon, nll(output.x_params, x))
    torch.testing.assert_close(terms.kl, gaussian_kl(output.mu, output.log_var))
    torch.testing.assert_close(terms.loss, terms.recon + beta * terms.kl)
    assert terms.loss.shape == (8,)


def test_elbo_takes_its_kl_to_the_prior_that_it_is_given():
    output, x = make_output()
    prior = torch.randn(8, 3), torch.randn(8, 3)
    terms = elbo(output, x, likelihood="bernoulli", beta=2.0, prior=prior)
    torch.testing.assert_close(terms.kl, gaussian_kl(output.mu, output.log_var, prior=prior))
    torch.testing.assert_close(terms.loss, bernoulli_nll(output.x_params, x) + 2 * terms.kl)


@pytest.mark.parametrize("name", ["bernoulli", "gaussian", "continuous_bernoulli"])
def test_loss_per_example_does_not_depend_on_the_batch(name):
    output, x = make_output()
    whole = elbo(output, x, likelihood=name).loss
    one_by_one = [
        elbo(VAEOutput(*(t[i : i + 1] for t in output)), x[i : i + 1], likelihood=name).loss for i in range(len(x))
    ]
    torch.testing.assert_close(whole, torch.cat(one_by_one))
    twice = elbo(VAEOutput(*(t.repeat(2, 1) for t in output)), x.repeat(2, 1), likelihood=name).loss
    torch.testing.assert_close(twice, whole.repeat(2))
