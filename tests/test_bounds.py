"""``losses.bounds``, the IWAE and the defensive proposal, against the linear-Gaussian model's exact numbers."""

import copy
import math

import pytest
import torch
from torch.distributions import MultivariateNormal

from course_utils import IWAE, VAE, evaluate, fit, load, load_images, log_likelihood, save
from course_utils.data.images import ImageData
from course_utils.evaluation.grid import log_evidence_on_grid
from course_utils.evaluation.linear_gaussian import LinearGaussian
from course_utils.losses.bounds import doubly_reparameterized, importance_bound, sticking_the_landing
from course_utils.models.cvae import CVAE

SHAPE = dict(input_shape=(5,), latent_dim=2, hidden_dims=(), likelihood="gaussian", sigma=0.5)


def linear(kind=VAE, *, shift=0.3, log_var=0.5, **arguments):
    """A linear model in float64, its encoder ``shift`` and ``log_var`` away from the posterior, and 6 examples."""
    torch.manual_seed(0)
    model = kind(**SHAPE, **arguments).double()
    with torch.no_grad():  # orthogonal columns: the true posterior is diagonal
        model.decoder[0].weight.copy_(torch.linalg.qr(torch.randn(5, 2))[0] * torch.tensor([1.5, 0.7]))
    exact = LinearGaussian.from_vae(model)
    precision = (exact.W.T @ exact.W).diagonal() / 0.25 + 1
    with torch.no_grad():
        model.heads.mu.weight.copy_(exact.W.T / 0.25 / precision[:, None])
        model.heads.mu.bias.copy_(-model.heads.mu.weight @ exact.b + shift)
        model.heads.log_var.weight.zero_()
        model.heads.log_var.bias.copy_(-precision.log() + log_var)
    torch.manual_seed(1)
    return model, exact, exact.sample(6)[0]


def gradients(model, x, repeats):
    """The loss's gradient in mu and log_var of q(z|x), for ``repeats`` draws of the noise: (repeats, B · 2L)."""
    with torch.no_grad():
        q = [p.repeat(repeats, 1) for p in model.encode(x)]
    mu, log_var = (p.requires_grad_() for p in q)
    model.encode = lambda _: (mu, log_var)
    try:
        torch.manual_seed(0)
        model.loss(x.repeat(repeats, 1)).loss.sum().backward()
    finally:
        del model.encode
    return torch.cat([mu.grad, log_var.grad], 1).view(repeats, -1)


def decoder_gradient(model, x):
    torch.manual_seed(0)
    model.zero_grad()
    model.loss(x).loss.sum().backward()
    return torch.cat([p.grad.flatten() for p in model.decoder.parameters()])


def signal_to_noise(g):
    return g.mean(0).abs() / g.std(0)


def test_the_bound_is_the_log_of_the_mean_of_the_weights():
    log_w = torch.randn(7, 4, dtype=torch.float64)
    torch.testing.assert_close(importance_bound(log_w), log_w.exp().mean(0).log())
    torch.testing.assert_close(importance_bound(log_w[:1]), log_w[0])
    assert (importance_bound(log_w - 2000.0) + 2000).allclose(importance_bound(log_w))  # nothing underflows
    for wrong in (log_w[0], log_w[:0], log_w[None]):
        with pytest.raises(ValueError, match=r"log_w must be \(K, B\)"):
            importance_bound(wrong)


def test_with_one_sample_it_is_the_elbo_and_with_more_it_rises_to_the_grids_evidence():
    """The grid's model is no linear one here: nothing but the grid knows log p(x)."""
    torch.manual_seed(0)
    vae = VAE(input_shape=(6,), latent_dim=2, hidden_dims=(8,), likelihood="gaussian", sigma=0.4).double()
    with torch.no_grad():
        vae.decoder[-2].weight.mul_(4)
    x = torch.rand(20, 6, dtype=torch.float64)
    log_p = log_evidence_on_grid(vae, x)
    means, errors = [], []
    for samples in (1, 4, 16, 4000):
        found = torch.stack([log_likelihood(vae, x, samples=samples, seed=seed).mean() for seed in range(40)])
        means.append(found.mean().item())
        errors.append(4 * found.std().item() / 40**0.5)
    elbo = torch.stack([-evaluate(vae, x, seed=seed).loss.mean() for seed in range(400)])
    assert abs(elbo.mean() - means[0]) < errors[0] + 4 * elbo.std() / 20
    assert means[0] + errors[0] < means[1] - errors[1] < means[1] + errors[1] < means[2] - errors[2]
    assert abs(means[3] - log_p.mean()) < errors[3] + 1e-3


@pytest.mark.parametrize("k", [1, 3])
def test_the_iwaes_loss_is_the_bound_of_its_own_log_weights(k):
    model, _, x = linear(IWAE, k=k)
    torch.manual_seed(5)
    terms = model.loss(x)
    torch.manual_seed(5)
    log_w = model.log_weights(x, samples=k)
    assert terms.names == ("loss", "minus_elbo")
    torch.testing.assert_close(terms.loss, -importance_bound(log_w), rtol=0, atol=1e-7)
    torch.testing.assert_close(terms.minus_elbo, -log_w.mean(0), rtol=0, atol=1e-7)
    assert (terms.loss <= terms.minus_elbo + 1e-9).all()


def test_beta_weighs_the_rate_inside_the_weights():
    model, _, x = linear(IWAE, k=4)
    with torch.no_grad():
        torch.manual_seed(5)
        at_zero = model.loss(x, beta=0.0).loss
        torch.manual_seed(5)
        z = model.reparameterize(*(p.expand(4, *p.shape) for p in model.encode(x)))
        log_px = -torch.stack([model.likelihood.nll(model.decode(code), x) for code in z])
    torch.testing.assert_close(at_zero, -importance_bound(log_px))
    with pytest.raises(ValueError, match="beta"):
        model.loss(x, beta=-1.0)


def test_dreg_has_the_plain_gradients_mean_and_less_noise():
    found, decoder, n = {}, {}, 20_000
    for gradient in ("plain", "doubly reparameterized", "sticking the landing"):
        model, _, x = linear(IWAE, k=8, gradient=gradient)
        found[gradient], decoder[gradient] = gradients(model, x, n), decoder_gradient(model, x)
    plain, dreg, stl = found.values()
    error = ((plain.var(0) + dreg.var(0)) / n).sqrt()
    assert ((plain.mean(0) - dreg.mean(0)).abs() < 4.5 * error).all()
    assert (error < 0.05).all() and (dreg.var(0) < 0.6 * plain.var(0)).all()
    # Sticking the landing has another mean with K > 1: the lines above could fail.
    error = ((plain.var(0) + stl.var(0)) / n).sqrt()
    assert ((plain.mean(0) - stl.mean(0)).abs() > 10 * error).any()
    # The decoder's gradient is the same number, draw by draw.
    for other in list(decoder.values())[1:]:
        torch.testing.assert_close(other, decoder["plain"])


def test_with_one_sample_both_surrogates_have_the_elbos_mean_gradient():
    model, _, x = linear(IWAE, k=1)
    plain, n = gradients(model, x, 20_000), 20_000
    for gradient in ("doubly reparameterized", "sticking the landing"):
        other = gradients(linear(IWAE, k=1, gradient=gradient)[0], x, n)
        error = ((plain.var(0) + other.var(0)) / n).sqrt()
        assert ((plain.mean(0) - other.mean(0)).abs() < 4.5 * error).all()


def test_at_the_posterior_the_surrogates_have_no_gradient_and_the_plain_one_is_noise():
    for gradient, still in (("plain", False), ("doubly reparameterized", True), ("sticking the landing", True)):
        model, _, x = linear(IWAE, k=4, gradient=gradient, shift=0.0, log_var=0.0)
        size = gradients(model, x, 3).abs().max()
        assert (size < 1e-5) == still, gradient


def test_more_samples_drown_the_encoders_signal_and_dreg_keeps_it():
    """Rainforth et al. 2018; Tucker et al. 2019: log-log slopes about −½ and +½, of the encoder's signal-to-noise."""
    slopes = {}
    for gradient in ("plain", "doubly reparameterized"):
        low, high = (
            signal_to_noise(gradients(linear(IWAE, k=k, gradient=gradient)[0], linear(IWAE)[2], 1000)).mean()
            for k in (4, 256)
        )
        slopes[gradient] = math.log(high / low) / math.log(256 / 4)
    assert slopes["plain"] < -0.2 and slopes["doubly reparameterized"] > 0.25


def test_the_surrogates_refuse_codes_of_another_shape():
    log_w, z = torch.randn(3, 4), torch.randn(3, 4, 2)
    assert doubly_reparameterized(log_w, z).equal(-importance_bound(log_w))  # without gradients it is only the value
    assert sticking_the_landing(log_w).equal(-importance_bound(log_w))
    with pytest.raises(ValueError, match=r"z must be \(K, B, L\)"):
        doubly_reparameterized(log_w, z[0])


@pytest.mark.parametrize("gradient", ["plain", "doubly reparameterized", "sticking the landing"])
def test_an_iwae_goes_the_whole_way(gradient, tmp_path):
    data = load_images("digits")
    few = ImageData(data.train.subset(300), data.test.subset(50), "digits", "300 digits")
    torch.manual_seed(0)
    model = IWAE(latent_dim=3, hidden_dims=(16,), k=5, gradient=gradient)
    history = fit(model, few, epochs=3, batch_size=50, binarize="dynamic", checkpoint=tmp_path / "a.pt", show=False)
    losses = [terms.loss for terms in history.train]
    assert losses[2] < losses[0] and history.test[-1].loss < history.test[-1].minus_elbo
    again = load(save(model, tmp_path / "b.pt"))
    assert type(again) is IWAE and (again.k, again.gradient) == (5, gradient)
    x = few.test[:].round()
    bound, better = log_likelihood(again, x, samples=5).mean(), log_likelihood(again, x, samples=200).mean()
    assert -evaluate(again, x).minus_elbo.mean() < bound < better
    assert again.sample(2).shape == (2, 1, 28, 28)


def test_an_iwae_refuses_what_it_cannot_be():
    with pytest.raises(ValueError, match="k must be at least 1"):
        IWAE(latent_dim=2, k=0)
    with pytest.raises(ValueError, match="'sticking the landing'; got 'dreg'"):
        IWAE(latent_dim=2, gradient="dreg")


# The defensive proposal --------------------------------------------------------------------------------


def test_a_defensive_proposal_is_right_where_q_is_too_narrow():
    vae, exact, x = linear(shift=1.0, log_var=-4.0)
    log_p = exact.log_evidence(x)
    narrow = log_likelihood(vae, x, samples=4000)
    safe = torch.stack([log_likelihood(vae, x, samples=4000, proposal="defensive", seed=s) for s in range(5)])
    assert (narrow - log_p).mean() < -1.0
    assert (safe.mean(0) - log_p).abs().max() < 0.1  # 20,000 draws, half of them the prior's, hold about 400 in all
    # And where q is right it costs little: half of the samples.
    vae, exact, x = linear(shift=0.0, log_var=0.0)
    assert (log_likelihood(vae, x, samples=2000, proposal="defensive") - exact.log_evidence(x)).abs().max() < 0.15


def test_the_mean_of_the_defensive_weights_is_the_evidence_in_every_batch():
    """Unbiased for any number of samples at a time: so the chunks of log_likelihood may be of any size."""
    vae, exact, x = linear(shift=0.5, log_var=-1.0)
    torch.manual_seed(0)
    with torch.no_grad():
        w = torch.cat([vae.log_weights(x, samples=3, proposal="defensive") for _ in range(1500)]).exp()
    error = w.std(0) / len(w) ** 0.5
    assert ((w.mean(0) - exact.log_evidence(x).exp()).abs() < 4 * error).all()
    assert (error < 0.15 * w.mean(0)).all()


def test_a_conditional_model_defends_itself_with_its_own_prior():
    """The prior p(z|c) = N(Ac + a, s²) given c is N(0, I) for (z − m)/s: the evidence of a linear model."""
    torch.manual_seed(0)
    f64 = dict(dtype=torch.float64)
    model = CVAE(input_dim=5, cond_dim=3, latent_dim=2, hidden_dims=(), likelihood="gaussian", prior="learned").double()
    for parameter in model.prior_net.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    x, cond = torch.randn(4, 5, **f64), torch.randn(4, 3, **f64)
    found = log_likelihood(model, x, cond, samples=20_000, proposal="defensive", batch_size=20_000)
    with torch.no_grad():
        mu, log_var = model.prior(cond)
        W, zeros = model.decoder[0].weight[:, :2], torch.zeros(4, 2, **f64)
        mean = model.decode(zeros, cond) + mu @ W.T
        cov = W @ torch.diag_embed(log_var.exp()) @ W.T + torch.eye(5, **f64)
    torch.testing.assert_close(found, MultivariateNormal(mean, cov).log_prob(x), rtol=0, atol=0.06)


def test_a_proposal_that_is_not_there_is_refused():
    vae, _, x = linear()
    with pytest.raises(ValueError, match="proposal must be one of 'posterior', 'defensive'; got 'prior'"):
        log_likelihood(vae, x, samples=2, proposal="prior")
    with pytest.raises(ValueError, match="proposal must be one of"):
        vae.log_weights(x, samples=2, proposal="prior")
    plain = copy.deepcopy(vae)
    plain.log_weights = lambda x, *, samples: vae.log_weights(x, samples=samples)
    with pytest.raises(TypeError, match="VAE.log_weights takes no proposal"):
        log_likelihood(plain, x, samples=2, proposal="defensive")
