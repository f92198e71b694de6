"""``evaluation`` against what is known exactly: PCA's evidence, closed forms, and the data's own labels."""

import math

import pytest
import torch
from torch.distributions import MultivariateNormal

from course_utils.data.load import load_images
from course_utils.evaluation.bounds import evaluate, log_likelihood
from course_utils.evaluation.judge import train_judge
from course_utils.evaluation.latents import active_units, kl_per_dimension
from course_utils.losses.terms import gaussian_kl
from course_utils.models.cvae import CVAE
from course_utils.models.layers import GaussianHeads
from course_utils.models.vae import VAE
from course_utils.models.vq_vae import VQVAE

SIGMA = 0.5


@pytest.fixture(scope="module")
def digits():
    return load_images("digits")


@pytest.fixture(scope="module")
def judge(digits):
    return train_judge(digits, steps=300, show=False)


@pytest.fixture(scope="module")
def ppca():
    """A linear-Gaussian model whose evidence N(b, WWᵀ + σ²I) and posterior are known, and 50 draws from it.

    The columns of W are orthogonal, so that the true posterior is diagonal and the encoder can be set to it.
    """
    torch.manual_seed(0)
    vae = VAE(input_shape=(5,), latent_dim=2, hidden_dims=(), likelihood="gaussian", sigma=SIGMA).double()
    weight = torch.linalg.qr(torch.randn(5, 2, dtype=torch.float64))[0] * torch.tensor([1.5, 0.7], dtype=torch.float64)
    bias = torch.randn(5, dtype=torch.float64)
    precision = (weight.T @ weight).diagonal() / SIGMA**2 + 1
    with torch.no_grad():
        vae.decoder[0].weight.copy_(weight)
        vae.decoder[0].bias.copy_(bias)
        vae.heads.mu.weight.copy_(weight.T / SIGMA**2 / precision[:, None])
        vae.heads.mu.bias.copy_(-vae.heads.mu.weight @ bias)
        vae.heads.log_var.weight.zero_()
        vae.heads.log_var.bias.copy_(-precision.log())
    evidence = MultivariateNormal(bias, weight @ weight.T + SIGMA**2 * torch.eye(5, dtype=torch.float64))
    x = evidence.sample((50,))
    return vae, x, evidence.log_prob(x)


def worse_encoder(vae):
    import copy

    vae = copy.deepcopy(vae)
    with torch.no_grad():
        vae.heads.mu.bias.add_(0.3)
        vae.heads.log_var.bias.add_(0.5)
    return vae


@pytest.mark.parametrize("samples", [1, 3, 50])
def test_at_the_exact_posterior_one_sample_gives_the_exact_evidence(ppca, samples):
    vae, x, log_p = ppca
    estimate = log_likelihood(vae, x, samples=samples)
    assert estimate.shape == (50,) and estimate.dtype == torch.float64
    # Not to rounding: Gaussian.log_sigma is stored in float32 and then converted.
    torch.testing.assert_close(estimate, log_p, rtol=0, atol=1e-5)


def test_with_another_posterior_the_estimate_is_a_bound_that_tightens(ppca):
    vae, x, log_p = ppca
    vae = worse_encoder(vae)
    means, errors = [], []
    for samples in (1, 10, 1000):
        gaps = torch.stack([log_likelihood(vae, x, samples=samples, seed=s) - log_p for s in range(20)]).mean(1)
        means.append(gaps.mean().item())
        errors.append(gaps.std().item() / 20**0.5)
    assert means[0] < means[1] - 4 * errors[0] and means[1] < means[2]
    assert means[0] < -4 * errors[0] and abs(means[2]) < 4 * errors[2] + 2e-3


def test_with_one_sample_the_mean_is_the_elbo_and_the_gap_is_the_kl_to_the_posterior(ppca):
    exact, x, log_p = ppca
    vae = worse_encoder(exact)
    n = 400
    one = torch.stack([log_likelihood(vae, x, samples=1, seed=s) for s in range(n)])
    elbo = torch.stack([-evaluate(vae, x, seed=s).loss for s in range(n)])
    assert abs(one.mean() - elbo.mean()) < 4 * (one.mean(1).std() + elbo.mean(1).std()) / n**0.5
    p = MultivariateNormal(exact.encode(x)[0], torch.diag_embed(exact.encode(x)[1].exp()))
    q = MultivariateNormal(vae.encode(x)[0], torch.diag_embed(vae.encode(x)[1].exp()))
    gap = torch.distributions.kl_divergence(q, p).mean()
    assert abs(log_p.mean() - elbo.mean() - gap) < 4 * elbo.mean(1).std() / n**0.5


def test_batches_bound_the_memory_and_change_nothing_but_the_noise(ppca):
    vae, x, log_p = ppca
    seen = []
    decode = vae.decode
    vae.decode = lambda z: (seen.append(len(z)), decode(z))[1]
    try:
        estimate = log_likelihood(vae, x, samples=70, batch_size=32)
    finally:
        del vae.decode
    assert max(seen) <= 32 and sum(seen) == 70 * 50
    torch.testing.assert_close(estimate, log_p, rtol=0, atol=1e-5)


@pytest.fixture(scope="module")
def conditional():
    """A linear-Gaussian CVAE whose prior moves with the condition, with exact log p(x|c), and 200 draws from it.

    z ~ N(Ac + a, diag s²) and x ~ N(Wz + Uc + b, σ²I), so x ~ N(W(Ac + a) + Uc + b, W diag(s²) Wᵀ + σ²I); the
    encoder is set to the exact posterior, which is linear in [x, c].
    """

    torch.manual_seed(0)
    f64 = {"dtype": torch.float64}
    model = CVAE(
        input_dim=5, cond_dim=3, latent_dim=2, hidden_dims=(), likelihood="gaussian", sigma=SIGMA, prior="learned"
    ).double()
    model.prior_net = torch.nn.Sequential(GaussianHeads(3, 2)).double()
    w = torch.linalg.qr(torch.randn(5, 2, **f64))[0] * torch.tensor([1.5, 0.7], **f64)
    u, b, a_matrix, a = (torch.randn(*shape, **f64) for shape in ((5, 3), (5,), (2, 3), (2,)))
    s2 = torch.tensor([0.3, 2.0], **f64)
    precision = (w.T @ w).diagonal() / SIGMA**2 + 1 / s2
    onto_x = w.T / SIGMA**2 / precision[:, None]
    prior, heads, decoder = model.prior_net[0], model.heads, model.decoder[0]
    values = {
        prior.mu.weight: a_matrix,
        prior.mu.bias: a,
        prior.log_var.weight: torch.zeros(2, 3),
        prior.log_var.bias: s2.log(),
        decoder.weight: torch.cat([w, u], 1),
        decoder.bias: b,
        heads.mu.weight: torch.cat([onto_x, a_matrix / s2[:, None] / precision[:, None] - onto_x @ u], 1),
        heads.mu.bias: a / s2 / precision - onto_x @ b,
        heads.log_var.weight: torch.zeros(2, 8),
        heads.log_var.bias: -precision.log(),
    }
    with torch.no_grad():
        for parameter, value in values.items():
            parameter.copy_(value)
    c = torch.randn(200, 3, **f64)
    evidence = MultivariateNormal(
        (c @ a_matrix.T + a) @ w.T + c @ u.T + b, w @ torch.diag(s2) @ w.T + SIGMA**2 * torch.eye(5, **f64)
    )
    x = evidence.sample()
    return model, x, c, evidence.log_prob(x)


@pytest.mark.parametrize("samples", [1, 7])
def test_with_a_learned_prior_log_likelihood_is_exact_at_the_exact_posterior(conditional, samples):
    model, x, c, log_p = conditional
    estimate = log_likelihood(model, x, c, samples=samples, batch_size=64)
    torch.testing.assert_close(estimate, log_p, rtol=0, atol=1e-5)
    somebody_elses = log_likelihood(model, x, c.roll(1, 0), samples=samples)
    assert somebody_elses.mean() < log_p.mean() - 1


def test_with_a_learned_prior_the_elbo_is_tight_at_the_exact_posterior(conditional):
    model, x, c, log_p = conditional
    elbos = -torch.stack([evaluate(model, x, c, seed=s).loss for s in range(100)])
    assert abs(elbos.mean() - log_p.mean()) < 4 * elbos.mean(1).std() / 10
    off = worse_encoder(model)
    assert evaluate(off, x, c).loss.mean() > -log_p.mean() + 0.1
    assert log_likelihood(off, x, c, samples=1000).mean() == pytest.approx(log_p.mean().item(), abs=0.05)


def test_with_a_learned_prior_the_rate_is_measured_from_it_in_every_dimension(conditional):
    model, x, c, _ = conditional
    posterior, prior = (
        torch.distributions.Normal(mu, (0.5 * log_var).exp()) for mu, log_var in (model.encode(x, c), model.prior(c))
    )
    expected = torch.distributions.kl_divergence(posterior, prior).mean(0)
    torch.testing.assert_close(kl_per_dimension(model, x, c, batch_size=64), expected)
    torch.testing.assert_close(evaluate(model, x, c).kl.mean(), expected.sum())


def test_samples_of_the_conditional_model_have_its_moments(conditional):
    model, _, c, _ = conditional
    n = 100_000
    mu, log_var = model.prior(c[:1])
    weight = model.decoder[0].weight[:, :2]
    x = model.sample(c[:1].repeat(n, 1))
    mean, covariance = model.decode(mu, c[:1])[0], weight @ torch.diag(log_var[0].exp()) @ weight.T
    assert ((x.mean(0) - mean).abs() < 4 * (covariance.diagonal() / n).sqrt()).all()
    scale = (covariance.diagonal()[:, None] * covariance.diagonal()).sqrt()
    assert ((torch.cov(x.T) - covariance).abs() < 6 * scale / n**0.5).all()


def test_a_sequence_is_evaluated_as_a_whole():
    """(B, T, D): one number per sequence, which is the sum over its steps; log p(x|c) is a bound per sequence."""
    torch.manual_seed(0)
    model = CVAE(input_dim=6, cond_dim=2, latent_dim=2, hidden_dims=(8,), prior="learned")
    x, cond = torch.rand(9, 4, 6), torch.rand(9, 4, 2)
    terms = evaluate(model, x, cond)
    assert all(term.shape == (9,) for term in terms)
    torch.testing.assert_close(terms.kl, evaluate(model, x.flatten(0, 1), cond.flatten(0, 1)).kl.view(9, 4).sum(1))
    estimate = log_likelihood(model, x, cond, samples=300)
    assert estimate.shape == (9,) and estimate.mean() > -terms.loss.mean()


def test_evaluate_is_the_training_loss_and_repeats_itself(digits):
    torch.manual_seed(0)
    vae, x = VAE(latent_dim=3, hidden_dims=(16,)), digits.test[:]
    first, again, other = (evaluate(vae, x, seed=s, batch_size=b) for s, b in ((0, 1000), (0, 1000), (1, 77)))
    assert torch.equal(first.loss, again.loss) and not torch.equal(first.loss, other.loss)
    assert first.loss.shape == (len(x),)
    torch.testing.assert_close(first.kl, gaussian_kl(*vae.encode(x)))
    torch.testing.assert_close(first.kl, other.kl)
    assert not first.loss.requires_grad
    state = torch.get_rng_state()
    evaluate(vae, x[:5])
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("options", [dict(update="ema"), dict(restart=1), dict(quantiser="finite scalar")])
def test_what_is_measured_in_training_mode_stays_as_it_is_and_gets_the_numbers_of_eval(digits, options):
    torch.manual_seed(0)
    model, x = VQVAE(hidden_dims=(16,), **options), digits.test[:60]
    model.loss(x)  # the codes are where the data are
    model.decoder.eval()  # a part that stays in its own mode
    before = {name: value.clone() for name, value in model.state_dict().items()}
    measured = evaluate(model, x).loss, log_likelihood(model, x, samples=2)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training and model.encoder.training and not model.decoder.training
    with pytest.raises(ValueError, match="x must be"):
        evaluate(model, x[:, :, 1:])
    assert model.training
    model.eval()
    assert torch.equal(measured[0], evaluate(model, x).loss)
    assert torch.equal(measured[1], log_likelihood(model, x, samples=2))


def test_evaluate_weighs_the_kl_with_beta(digits):
    vae, x = VAE(latent_dim=3, hidden_dims=(16,)), digits.test[:20]
    plain = evaluate(vae, x)
    torch.testing.assert_close(plain.loss, plain.recon + plain.kl)
    for beta in (0.5, 2.0):
        torch.testing.assert_close(evaluate(vae, x, beta=beta).loss, plain.recon + beta * plain.kl)


def test_two_examples_are_enough_for_a_variance():
    vae, x = VAE(latent_dim=3, hidden_dims=(16,)), torch.rand(2, 1, 28, 28)
    torch.testing.assert_close(active_units(vae, x).variance, vae.encode(x)[0].var(0))


def test_active_units_are_those_whose_mean_moves():
    """A linear encoder whose second unit ignores its input and whose third moves by a variance just below 0.01."""
    torch.manual_seed(0)
    vae = VAE(input_shape=(3,), latent_dim=3, hidden_dims=(), likelihood="gaussian")
    x = torch.randn(5000, 3)
    with torch.no_grad():
        vae.heads.mu.weight.copy_(torch.diag(torch.tensor([1.0, 0.0, 0.09])))
    units = active_units(vae, x)
    assert units.count == 1
    torch.testing.assert_close(units.variance, torch.tensor([1.0, 0.0, 0.0081]) * x.var(0))
    assert active_units(vae, x, threshold=0.005).count == 2


def test_where_q_is_a_learned_prior_nothing_is_active_and_the_mean_is_counted_in_its_units():
    """q and p read the condition alike: the KL is 0, though both means move. Then q moves by 0.2 deviations of p."""
    torch.manual_seed(0)
    model = CVAE(input_dim=2, cond_dim=3, latent_dim=2, hidden_dims=(), likelihood="gaussian", prior="learned")
    model.prior_net = torch.nn.Sequential(GaussianHeads(3, 2))
    p, q = model.prior_net[0], model.heads
    with torch.no_grad():
        for own, prior in ((q.mu, p.mu), (q.log_var, p.log_var)):
            torch.nn.init.normal_(prior.weight)
            own.weight.copy_(torch.cat([torch.zeros(2, 2), prior.weight], 1))
            own.bias.copy_(prior.bias)
        p.log_var.weight.zero_()
        q.log_var.weight.zero_()
        p.log_var.bias.fill_(math.log(25.0))
        q.log_var.bias.fill_(math.log(25.0))
    x, c = torch.randn(4000, 2), torch.randn(4000, 3)
    assert evaluate(model, x, c).kl.abs().max() < 1e-6 and model.encode(x, c)[0].var(0).min() > 0.1
    assert active_units(model, x, c).count == 0
    with torch.no_grad():
        q.mu.weight[0, 0] += 1.0  # a variance of 1, so of 1/25 in units of σ_p = 5
    units = active_units(model, x, c)
    assert units.count == 1 and units.variance[0].item() == pytest.approx(0.04, rel=0.1)


# ------------------------------------------------------------------------------------------------------- judge


def test_the_judge_knows_the_digits_and_not_noise(digits, judge):
    assert judge.probabilities(digits.test[:5]).shape == (5, 10)
    probabilities = judge.probabilities(digits.test[:])
    torch.testing.assert_close(probabilities.sum(1), torch.ones(len(digits.test)))
    assert (probabilities.argmax(1) == digits.test.labels).float().mean() > 0.93
    assert judge.recognised(digits.test[:]).float().mean() > 0.85
    flat = judge.probabilities(digits.test[:].flatten(1))
    torch.testing.assert_close(flat, probabilities)
    assert not any(p.requires_grad for p in judge.parameters())


def test_the_judge_is_the_same_for_the_same_seed_and_prints_its_accuracy(digits, capsys):
    state = torch.get_rng_state()
    first, second, other = (train_judge(digits, steps=5, seed=s) for s in (3, 3, 4))
    weights = [torch.cat([p.flatten() for p in j.parameters()]) for j in (first, second, other)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    assert torch.equal(state, torch.get_rng_state())
    right = sum(other.probabilities(digits.test[:]).argmax(1) == digits.test.labels).item()
    assert 0 < right < 360
    assert f"the judge names {right / 360:.1%} of 360 test digits" in capsys.readouterr().out.splitlines()[-1]


def test_the_judge_clips_what_a_viewer_would_clip(digits, judge):
    x = digits.test[:20]
    loud = torch.where(x > 0.99, 3.0, torch.where(x < 0.01, -2.0, x))
    torch.testing.assert_close(judge.probabilities(loud), judge.probabilities(loud.clamp(0, 1)))
