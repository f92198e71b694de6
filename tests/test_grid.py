"""``evaluation.grid`` against the linear-Gaussian model's exact evidence and posterior, and where it must refuse."""

import math

import pytest
import torch
from torch.distributions import Bernoulli, ContinuousBernoulli, Normal

from course_utils.evaluation.grid import grid_of_codes, log_evidence_on_grid, posterior_on_grid
from course_utils.evaluation.linear_gaussian import LinearGaussian
from course_utils.models.autoencoder import Autoencoder
from course_utils.models.vae import VAE


def linear(latent_dim, sigma=0.5):
    """A linear VAE whose posterior is correlated, and data from it."""
    torch.manual_seed(0)
    vae = VAE(input_shape=(5,), latent_dim=latent_dim, hidden_dims=(), likelihood="gaussian", sigma=sigma).double()
    exact = LinearGaussian.from_vae(vae)
    return vae, exact, exact.sample(40)[0]


@pytest.mark.parametrize("latent_dim", [1, 2])
@pytest.mark.parametrize("batch_size", [2000, 37])
def test_the_evidence_is_the_linear_models_own(latent_dim, batch_size):
    vae, exact, x = linear(latent_dim)
    found = log_evidence_on_grid(vae, x, points=101, batch_size=batch_size)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, exact.log_evidence(x), rtol=0, atol=1e-7)


def test_the_posterior_is_the_linear_models_own():
    vae, exact, x = linear(2)
    found = posterior_on_grid(vae, x, points=101, batch_size=1000)
    mean, cov = exact.posterior(x)
    torch.testing.assert_close(found.log_evidence, exact.log_evidence(x), rtol=0, atol=1e-7)
    on_grid = torch.distributions.MultivariateNormal(mean[:, None], cov).log_prob(found.codes)
    torch.testing.assert_close(found.log_density, on_grid, rtol=0, atol=1e-7)
    p = found.probabilities
    torch.testing.assert_close(p.sum(1), torch.ones(40, dtype=torch.float64))
    torch.testing.assert_close(p @ found.codes, mean, rtol=0, atol=1e-7)
    centred = found.codes - mean[:, None]
    torch.testing.assert_close(torch.einsum("ng,ngi,ngj->nij", p, centred, centred), cov.expand(40, 2, 2))


def test_another_prior_is_all_that_another_prior_needs():
    """log_joint asks for log_prior: with N(0, s² I) the evidence is that of the linear model with W scaled by s."""

    class Narrow(VAE):
        def log_prior(self, z):
            return Normal(0.0, 0.5).log_prob(z.double()).sum(-1)

    torch.manual_seed(0)
    vae = Narrow(input_shape=(5,), latent_dim=2, hidden_dims=(), likelihood="gaussian", sigma=0.5).double()
    like = LinearGaussian.from_vae(vae)
    exact = LinearGaussian(0.5 * like.W, like.b, like.sigma)
    x = exact.sample(20)[0]
    torch.testing.assert_close(log_evidence_on_grid(vae, x, points=101), exact.log_evidence(x), rtol=0, atol=1e-7)


@pytest.mark.parametrize("likelihood", ["bernoulli", "continuous_bernoulli", "gaussian"])
def test_log_joint_of_pairs_is_that_of_single_codes(likelihood):
    """The matrix product of all pairs against torch.distributions, and against codes given one to an example."""
    torch.manual_seed(0)
    vae = VAE(input_shape=(1, 4, 3), latent_dim=2, hidden_dims=(6,), likelihood=likelihood).double()
    x, z = torch.rand(5, 1, 4, 3, dtype=torch.float64), 2 * torch.randn(7, 1, 2, dtype=torch.float64)
    if likelihood == "bernoulli":
        x = x.round()
    pairs = vae.log_joint(x, z)
    assert pairs.shape == (7, 5)
    make = {
        "bernoulli": lambda p: Bernoulli(logits=p),
        "continuous_bernoulli": lambda p: ContinuousBernoulli(logits=p),
        "gaussian": lambda p: Normal(p, vae.likelihood.sigma.double()),
    }[likelihood]
    reference = make(vae.decode(z[:, 0])[:, None]).log_prob(x).flatten(2).sum(2) + Normal(0, 1).log_prob(z).sum(2)
    torch.testing.assert_close(pairs, reference, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(vae.log_joint(x, z.expand(7, 5, 2)), pairs)
    torch.testing.assert_close(vae.log_joint(x, z[3].expand(5, 2)), pairs[3])


def test_a_posterior_that_the_grid_does_not_hold_is_refused():
    vae, exact, x = linear(2)
    with pytest.raises(ValueError, match=r"edge.*reach further than reach=0\.3"):
        log_evidence_on_grid(vae, x, reach=0.3)
    sharp, exact, x = linear(2, sigma=0.01)
    with pytest.raises(ValueError, match=r"on one point of the grid.*more than points=21"):
        log_evidence_on_grid(sharp, x, points=21)
    with pytest.raises(ValueError, match="on one point"):
        posterior_on_grid(sharp, x, points=21)
    # The same model on a grid that is fine enough is exact again.
    torch.testing.assert_close(log_evidence_on_grid(sharp, x, points=1601), exact.log_evidence(x), rtol=0, atol=0.05)


def test_misuse_is_answered_before_anything_is_decoded():
    x = torch.rand(3, 1, 28, 28)
    with pytest.raises(ValueError, match="one or two latent dimensions, got 3"):
        log_evidence_on_grid(VAE(latent_dim=3), x)
    with pytest.raises(TypeError, match="method log_joint, which Autoencoder has not"):
        log_evidence_on_grid(Autoencoder(latent_dim=2), x)
    with pytest.raises(ValueError, match="at least 3 points"):
        grid_of_codes(2, points=2)
    with pytest.raises(ValueError, match="reach must be finite and positive"):
        grid_of_codes(2, reach=0)
    with pytest.raises(ValueError, match=r"z must be \(…, 3, 2\)"):
        VAE(latent_dim=2).log_joint(x, torch.zeros(2, 2))


def test_the_grid_has_the_first_dimension_along_its_rows():
    codes, volume = grid_of_codes(2, points=5, reach=2)
    assert codes.shape == (25, 2) and volume == pytest.approx(1.0)
    assert codes.view(5, 5, 2)[1, 3].tolist() == [-1.0, 1.0]
    codes, volume = grid_of_codes(1, points=9, reach=2)
    assert codes.shape == (9, 1) and volume == pytest.approx(0.5) and math.isclose(codes[0, 0], -2)
