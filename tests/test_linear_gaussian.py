"""The linear-Gaussian model against independent computations: torch.distributions, quadrature, Monte Carlo."""

import math

import pytest
import torch
from torch.distributions import LowRankMultivariateNormal, MultivariateNormal, kl_divergence

from course_utils.evaluation.linear_gaussian import LinearGaussian
from course_utils.models.vae import VAE
from course_utils.training.fit import fit


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def a_model(size=5, latent=3, sigma=0.4):
    return LinearGaussian(random(size, latent, seed=1), random(size, seed=2), sigma)


def random_q(n, latent, seed=0):
    factor = random(n, latent, latent, seed=seed)
    return random(n, latent, seed=seed + 1), factor @ factor.mT + 0.05 * torch.eye(latent, dtype=torch.float64)


@pytest.mark.parametrize(("size", "latent"), [(1, 1), (2, 1), (5, 3), (3, 5), (60, 7)])
def test_evidence_agrees_with_torch_distributions(size, latent):
    model = a_model(size, latent)
    x = 2 * random(20, size)
    variance = (model.sigma**2).expand(size)
    reference = LowRankMultivariateNormal(model.b, model.W, variance).log_prob(x)
    dense = MultivariateNormal(model.b, model.W @ model.W.T + variance.diag()).log_prob(x)
    torch.testing.assert_close(model.log_evidence(x), reference, rtol=1e-10, atol=1e-9)
    torch.testing.assert_close(model.log_evidence(x), dense, rtol=1e-10, atol=1e-9)


def test_posterior_is_bayes_rule():
    model = a_model()
    x, z = random(7, 5), random(4, 7, 3, seed=5)
    mean, cov = model.posterior(x)
    by_bayes = model.log_joint(x, z) - model.log_evidence(x)
    torch.testing.assert_close(MultivariateNormal(mean, cov).log_prob(z), by_bayes, rtol=1e-10, atol=1e-9)


def test_likelihood_and_joint_agree_with_torch_distributions():
    model = a_model()
    x, z = random(7, 5), random(4, 7, 3, seed=5).requires_grad_()
    by_torch = torch.distributions.Normal(z @ model.W.T + model.b, model.sigma).log_prob(x).sum(-1)
    torch.testing.assert_close(model.log_likelihood(x, z), by_torch, rtol=1e-10, atol=1e-9)
    prior = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(-1)
    joint = model.log_joint(x, z)
    torch.testing.assert_close(joint, by_torch + prior, rtol=1e-10, atol=1e-9)
    torch.testing.assert_close(*(torch.autograd.grad(total.sum(), z)[0] for total in (joint, by_torch + prior)))


@pytest.mark.parametrize("latent", [1, 3])
def test_elbo_plus_gap_is_the_evidence_for_any_q(latent):
    model = a_model(5, latent)
    x = random(200, 5)
    mu, cov = random_q(200, latent)
    log_var = random(200, latent, seed=9)
    for q in ({"cov": cov}, {"cov": cov[0]}, {"log_var": log_var}, {"log_var": log_var[0]}):
        terms = model.elbo(x, mu, **q)
        total = model.gap(x, mu, **q) - terms.loss
        torch.testing.assert_close(total, model.log_evidence(x), rtol=0, atol=1e-8)
        torch.testing.assert_close(terms.loss, terms.recon + terms.kl)
        assert (model.gap(x, mu, **q) >= 0).all()


def test_gap_is_zero_at_the_posterior_and_agrees_with_torch_elsewhere():
    model = a_model()
    x = random(20, 5)
    mean, cov = model.posterior(x)
    assert model.gap(x, mean, cov=cov).abs().max() < 1e-12
    torch.testing.assert_close(-model.elbo(x, mean, cov=cov).loss, model.log_evidence(x), rtol=0, atol=1e-9)
    mu, other = random_q(20, 3)
    reference = kl_divergence(MultivariateNormal(mu, other), MultivariateNormal(mean, cov))
    torch.testing.assert_close(model.gap(x, mu, cov=other), reference, rtol=1e-8, atol=1e-8)


def test_diagonal_and_full_covariance_agree():
    model = a_model()
    x, mu, log_var = random(1, 5), random(1, 3, seed=3), random(1, 3, seed=4)
    diagonal, full = model.elbo(x, mu, log_var=log_var), model.elbo(x, mu, cov=torch.diag_embed(log_var.exp()))
    for a, b in zip(diagonal, full, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_elbo_agrees_with_monte_carlo():
    model = a_model()
    x = random(4, 5)
    mu, cov = random_q(4, 3)
    z = MultivariateNormal(mu, cov).rsample((40_000,))
    terms = model.elbo(x, mu, cov=cov)
    recon = -model.log_likelihood(x, z)
    kl = MultivariateNormal(mu, cov).log_prob(z) + 0.5 * (z.square() + math.log(2 * math.pi)).sum(-1)
    for exact, sampled in ((terms.recon, recon), (terms.kl, kl)):
        error = sampled.std(0) / len(z) ** 0.5
        assert ((sampled.mean(0) - exact).abs() < 5 * error).all()


# --- maximum likelihood


def test_fit_has_the_eigenvalues_of_the_data():
    x = random(500, 6) * torch.tensor([3.0, 0.9, 0.5, 0.4, 0.3, 0.2])  # of W, one column above 1 and one below
    model = LinearGaussian.fit(x, 2)
    eigenvalues = torch.linalg.eigvalsh(torch.cov(x.T, correction=0)).flip(0)
    torch.testing.assert_close(model.sigma**2, eigenvalues[2:].mean())
    torch.testing.assert_close(model.W.T @ model.W, (eigenvalues[:2] - model.sigma**2).diag(), rtol=0, atol=1e-9)
    torch.testing.assert_close(model.b, x.mean(0))


def test_nothing_near_the_fit_is_more_likely():
    x = random(300, 6) * torch.tensor([3.0, 2.0, 1.5, 0.5, 0.4, 0.3])
    model = LinearGaussian.fit(x.view(300, 2, 3), 2)
    best = model.log_evidence(x).mean()
    for seed in range(20):
        step = 0.02 * random(6, 3, seed=seed)
        near = LinearGaussian(model.W + step[:, :2], model.b + step[:, 2], model.sigma * math.exp(step[0, 0]))
        assert near.log_evidence(x).mean() < best

    parameters = [t.detach().clone().requires_grad_() for t in (model.W, model.b, model.sigma)]
    LinearGaussian(*parameters).log_evidence(x).mean().backward()
    assert all(p.grad.abs().max() < 1e-9 for p in parameters)


def test_samples_have_the_moments_of_the_model():
    model = a_model(3, 2)
    x, z = model.sample(200_000, generator=torch.Generator().manual_seed(0))
    assert (x.shape, z.shape, x.dtype) == ((200_000, 3), (200_000, 2), torch.float64)
    covariance = model.W @ model.W.T + model.sigma**2 * torch.eye(3)
    assert (x.mean(0) - model.b).abs().max() < 0.03
    assert (torch.cov(x.T) - covariance).abs().max() < 0.05
    assert ((x - z @ model.W.T - model.b).std() - model.sigma).abs() < 0.005
    again, _ = model.sample(200_000, generator=torch.Generator().manual_seed(0))
    assert torch.equal(x, again)


# --- with the rest of the package


def test_from_vae_is_the_vaes_own_decoder():
    torch.manual_seed(0)
    vae = VAE(input_shape=(1, 2, 3), latent_dim=2, hidden_dims=(), likelihood="gaussian", sigma="learned")
    fit(vae, torch.rand(200, 1, 2, 3), epochs=2, show=False)
    model = LinearGaussian.from_vae(vae)
    x, z = torch.rand(4, 1, 2, 3), torch.randn(4, 2)
    by_vae = -vae.likelihood.nll(vae.decode(z), x)
    torch.testing.assert_close(model.log_likelihood(x, z).float(), by_vae, rtol=1e-4, atol=1e-4)
    mu, log_var = vae.encode(x)
    kl = vae.loss(x).kl
    torch.testing.assert_close(model.elbo(x, mu, log_var=log_var).kl.float(), kl, rtol=1e-4, atol=1e-4)
    model.W.add_(1.0)
    assert not torch.equal(model.W.float(), vae.decoder[0].weight)  # a copy


def test_gradients_reach_the_parameters_of_model_and_q():
    W, b = random(4, 2).requires_grad_(), random(4, seed=1).requires_grad_()
    sigma = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    mu, log_var = random(3, 2, seed=2).requires_grad_(), random(3, 2, seed=3).requires_grad_()
    model, x = LinearGaussian(W, b, sigma), random(3, 4, seed=4)
    inputs = [W, b, sigma, mu, log_var]
    bound = torch.autograd.grad(-model.elbo(x, mu, log_var=log_var).loss.sum(), inputs)
    gap = torch.autograd.grad(model.gap(x, mu, log_var=log_var).sum(), inputs)
    evidence = torch.autograd.grad(model.log_evidence(x).sum(), inputs[:3])
    for i in range(5):  # log p = ELBO + gap holds for the derivatives too, and log p does not depend on q
        whole = evidence[i] if i < 3 else torch.zeros_like(inputs[i])
        torch.testing.assert_close(bound[i] + gap[i], whole, rtol=1e-8, atol=1e-8)


# --- what it refuses


W, B, X, MU, MANY = random(4, 2), random(4), random(2, 5), random(2, 3), random(50, 4)
REFUSED = {
    "must be": [
        *((lambda a=a: LinearGaussian(*a)) for a in ((W.T, B, 1.0), (W, B[:3], 1.0), (W[0], B, 1.0), (W, B, 0.0))),
        *((lambda sigma=sigma: LinearGaussian(W, B, sigma)) for sigma in (torch.ones(2), -1)),
    ],
    "x must have 5 numbers per example": [lambda: a_model().log_evidence(random(2, 4))],
    "batch dimension": [lambda: a_model().log_evidence(random(5))],
    "z must be": [lambda: a_model().log_likelihood(X, random(2, 2))],
    "either log_var": [
        lambda: a_model().elbo(X, MU), lambda: a_model().gap(X, MU, log_var=MU, cov=torch.eye(3)),
    ],
    "mu must be": [lambda: a_model().elbo(X, MU[:1], log_var=MU[:1])],
    "cov must be": [lambda: a_model().elbo(X, MU, cov=torch.eye(2, dtype=torch.float64))],
    "same shape": [lambda: a_model().elbo(X, MU, log_var=MU[:, :2])],
    "positive definite": [lambda: a_model().elbo(X, MU, cov=-torch.eye(3, dtype=torch.float64))],
    "below the 4 data dimensions": [lambda: LinearGaussian.fit(MANY, 4)],
    "at least 1": [lambda: LinearGaussian.fit(MANY, 0)],
    "at least two": [lambda: LinearGaussian.fit(MANY[:1], 2)],
    "no variance is left": [lambda: LinearGaussian.fit(random(50, 2) @ random(2, 4), 2)],
    "mean and covariance": [lambda: LinearGaussian.from_moments(B, torch.eye(3), 1)],
    r"hidden_dims=\(\)": [
        lambda: LinearGaussian.from_vae(VAE(latent_dim=2, likelihood="gaussian")),
        lambda: LinearGaussian.from_vae(VAE(latent_dim=2, hidden_dims=())),
        lambda: LinearGaussian.from_vae(torch.nn.Linear(2, 2)),
    ],
}  # fmt: skip


@pytest.mark.parametrize("words", REFUSED)
def test_what_does_not_fit_is_refused(words):
    for misuse in REFUSED[words]:
        with pytest.raises(ValueError, match=words):
            misuse()


def test_whole_numbers_are_no_weights():
    with pytest.raises(TypeError, match="W must hold floating-point"):
        LinearGaussian(W.long(), B, 1.0)
