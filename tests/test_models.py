"""The models: shapes, samples, gradients, the three operations of the CVAE, checkpoints, and bad input."""

import copy
import math

import pytest
import torch
from torch.nn import functional as F

from course_utils.losses.likelihoods import ContinuousBernoulli
from course_utils.models.autoencoder import Autoencoder
from course_utils.models.cvae import CVAE
from course_utils.models.layers import LOG_VAR_RANGE, reparameterize
from course_utils.models.vae import VAE
from course_utils.training.checkpoints import load, save
from course_utils.training.fit import fit

SMALL = dict(latent_dim=3, hidden_dims=(16,))
MODELS = {
    "mlp": lambda kind, **kw: kind(**{**SMALL, **kw}),
    "linear": lambda kind, **kw: kind(**{**SMALL, "hidden_dims": (), **kw}),
    "deep tanh": lambda kind, **kw: kind(latent_dim=3, hidden_dims=(16, 8), activation="tanh", **kw),
    "conv": lambda kind, **kw: kind(latent_dim=3, hidden_dims=(4, 8), trunk="conv", **kw),
}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def cvae(**kwargs):
    return CVAE(**{**dict(input_dim=12, cond_dim=4, latent_dim=3, hidden_dims=(16,)), **kwargs})


# ------------------------------------------------------------------------------------------- shapes and values


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 17, 30)])
def test_shapes_follow_the_input(name, shape):
    x = torch.rand(5, *shape)
    vae, ae = MODELS[name](VAE, input_shape=shape), MODELS[name](Autoencoder, input_shape=shape)
    output = vae(x)
    assert output.x_params.shape == x.shape
    assert output.mu.shape == output.log_var.shape == output.z.shape == (5, 3)
    assert vae.reconstruct(x).shape == x.shape and vae.sample(2).shape == (2, *shape)
    assert ae(x).x_params.shape == ae.reconstruct(x).shape == x.shape and ae(x).z.shape == (5, 3)
    assert all(term.shape == (5,) for model in (vae, ae) for term in model.loss(x))


def test_the_linear_vae_is_linear():
    vae = VAE(latent_dim=2, hidden_dims=(), likelihood="gaussian", input_shape=(6,))
    a, b, zero = torch.randn(4, 6), torch.randn(4, 6), torch.zeros(4, 6)
    for part in (lambda x: vae.encode(x)[0], lambda x: vae.encode(x)[1]):
        torch.testing.assert_close(part(a + b), part(a) + part(b) - part(zero))
    z, w = torch.randn(4, 2), torch.randn(4, 2)
    torch.testing.assert_close(vae.decode(z + w), vae.decode(z) + vae.decode(w) - vae.decode(0 * z))


SKIPS = {
    "mlp": (dict(hidden_dims=(16, 8, 6)), 4),
    "conv": (dict(hidden_dims=(4, 8), trunk="conv"), 3),
    "linear": (dict(hidden_dims=()), 1),
}


@pytest.mark.parametrize("name", SKIPS)
def test_with_skips_z_reaches_every_layer_of_the_decoder(name):
    options, count = SKIPS[name]
    vae, seen = VAE(latent_dim=3, input_shape=(2, 12, 20), skip=True, **options), []
    layers = [m for m in vae.decoder.modules() if isinstance(m, torch.nn.Linear | torch.nn.ConvTranspose2d)]
    assert len(layers) == count
    for layer in layers:
        layer.register_forward_pre_hook(lambda layer, args: seen.append(args[0]))
    z = torch.randn(5, 3)
    vae.decode(z)
    for h in seen:  # the last three features of what comes in are z, at every place of an image
        torch.testing.assert_close(h[:, -3:].flatten(2).mean(-1) if h.dim() > 2 else h[:, -3:], z)
    for layer in layers:  # and z gets through to the output by any one of them, with the others shut
        z.requires_grad_().grad = None
        with torch.no_grad():
            for other in layers:
                joined = other.weight[-3:] if isinstance(other, torch.nn.ConvTranspose2d) else other.weight[:, -3:]
                joined.fill_(0.1 if other is layer else 0.0)
            for bias in (m.bias for m in layers):
                bias.fill_(1.0)
        vae.decode(z).sum().backward()
        assert (z.grad != 0).all()


def test_without_skips_nothing_has_changed():
    torch.manual_seed(0)
    plain = VAE(**SMALL, skip=False)
    assert type(plain.decoder) is torch.nn.Sequential and [tuple(p.shape) for p in plain.decoder.parameters()] == [
        (16, 3), (16,), (784, 16), (784,),
    ]  # fmt: skip
    for wrong in (1, None, "yes"):
        with pytest.raises(TypeError, match="True or False"):
            VAE(latent_dim=3, skip=wrong)


def test_the_decoder_mirrors_the_encoder():
    """The sizes that every weight has, input to output, from the definition of a mirrored network."""

    def sizes(layers):
        return [tuple(layer.weight.shape) for layer in layers if hasattr(layer, "weight")]

    vae = VAE(input_shape=(12,), latent_dim=3, hidden_dims=(7, 5))
    assert sizes(vae.encoder) == [(7, 12), (5, 7)] and sizes(vae.decoder) == [(5, 3), (7, 5), (12, 7)]
    model = cvae(hidden_dims=(7, 5))  # with 4 more inputs on both sides: the condition
    assert sizes(model.encoder) == [(7, 16), (5, 7)] and sizes(model.decoder) == [(5, 7), (7, 5), (12, 7)]
    conv = VAE(input_shape=(1, 16, 24), latent_dim=3, hidden_dims=(2, 3, 5), trunk="conv")
    assert sizes(conv.encoder) == [(2, 1, 4, 4), (3, 2, 4, 4), (5, 3, 4, 4)]
    assert sizes(conv.decoder) == [(5 * 2 * 3, 3), (5, 3, 4, 4), (3, 2, 4, 4), (2, 1, 4, 4)]
    assert conv.sample(2).shape == (2, 1, 16, 24)


def test_stages_halve_an_image_down_to_one_pixel_and_no_further():
    assert VAE(latent_dim=2, hidden_dims=(2, 2, 2, 2), trunk="conv").sample(3).shape == (3, 1, 28, 28)
    with pytest.raises(ValueError, match="5 stages halve 28×28 to nothing"):
        VAE(latent_dim=2, hidden_dims=(2, 2, 2, 2, 2), trunk="conv")


def test_the_sizes_that_nobody_gives():
    assert VAE(latent_dim=2).config["hidden_dims"] == (400,)
    assert VAE(latent_dim=2, trunk="conv").config["hidden_dims"] == (32, 64)
    prior = cvae(prior="learned").prior_net
    assert sum(p.numel() for p in prior.parameters()) == (4 * 128 + 128) + 2 * (128 * 3 + 3)


def test_an_autoencoders_loss_is_its_likelihoods_and_it_has_no_kl():
    x = torch.rand(4, 6)
    for likelihood in ("squared_error", "bernoulli"):
        ae = Autoencoder(input_shape=(6,), likelihood=likelihood, **SMALL)
        out = ae(x).x_params
        bce = F.binary_cross_entropy_with_logits(out, x, reduction="none").sum(1)
        expected = {"squared_error": (out - x).square().sum(1), "bernoulli": bce}[likelihood]
        loss, recon, kl = ae.loss(x)
        torch.testing.assert_close(loss, expected)
        assert torch.equal(loss, recon) and torch.equal(kl, torch.zeros(4))


def test_sigma_starts_near_one():
    heads = VAE(latent_dim=20).heads
    assert 0.008 < heads.log_var.weight.std() < 0.012 and not heads.log_var.bias.any()


def test_an_mlp_counts_its_parameters_as_the_paper_network_does():
    """784-400-20: the network of the usual MNIST example has 652,824 parameters."""
    assert sum(p.numel() for p in VAE(latent_dim=20).parameters()) == 652_824


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian", "continuous_bernoulli"])
def test_reconstruct_is_the_likelihood_mean_at_mu(likelihood):
    vae, x = MODELS["mlp"](VAE, likelihood=likelihood), torch.rand(4, 1, 28, 28)
    params = vae.decode(vae.encode(x)[0])
    expected = {
        "bernoulli": lambda: params.sigmoid(),
        "gaussian": lambda: params,
        "continuous_bernoulli": lambda: torch.distributions.ContinuousBernoulli(logits=params.double()).mean.float(),
    }[likelihood]()
    torch.testing.assert_close(vae.reconstruct(x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("logit", [-200.0, -8.0, -0.31, -0.29, 0.0, 0.29, 0.31, 8.0, 200.0])
def test_continuous_bernoulli_mean_in_closed_form(logit):
    exact = 0.5 if logit == 0 else -1 / math.expm1(-logit) - 1 / logit
    assert ContinuousBernoulli().mean(torch.tensor(logit)).item() == pytest.approx(exact, abs=2e-6)


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian", "continuous_bernoulli"])
def test_pixels_drawn_from_the_likelihood_average_to_its_mean(likelihood):
    vae = MODELS["mlp"](VAE, likelihood=likelihood, **({"sigma": 0.3} if likelihood == "gaussian" else {}))
    params = torch.tensor([-2.0, -0.1, 0.0, 1.5]).repeat(40_000, 1)
    draws = vae.likelihood.sample(params)
    standard_error = draws.std(0) / len(draws) ** 0.5
    assert ((draws.mean(0) - vae.likelihood.mean(params[0])).abs() < 4 * standard_error).all()
    assert (standard_error < 0.005).all()


@pytest.mark.parametrize("logit", [-100.0, -20.0, -1.0, -1e-7, 0.0, 1e-7, 1.0, 20.0, 100.0])
def test_grey_pixels_have_the_mean_and_the_distribution_of_their_logit(logit):
    """Also where float32 cannot tell the probability from 0 or 1: the mean at −100 is 0.010."""
    n, likelihood = 200_000, ContinuousBernoulli()
    x = likelihood.sample(torch.full((n,), logit))
    assert x.min() >= 0 and x.max() <= 1
    exact = 0.5 + logit / 12 if abs(logit) < 1e-3 else -1 / math.expm1(-logit) - 1 / logit
    assert abs(x.double().mean().item() - exact) < 4 * x.double().std().item() / n**0.5
    below = (x < exact).double().mean().item()  # F(x) = (e^(ηx) − 1) / (e^η − 1), written so that nothing overflows
    part = exact if abs(logit) < 1e-3 else math.expm1(-abs(logit) * (exact if logit < 0 else 1 - exact))
    cdf = part if abs(logit) < 1e-3 else part / math.expm1(-abs(logit))
    cdf = 1 - cdf if logit > 1e-3 else cdf
    assert abs(below - cdf) < 4 * (cdf * (1 - cdf) / n) ** 0.5


# ------------------------------------------------------------------------------------------- sampling


def test_reparameterize_is_mu_plus_sigma_eps():
    mu, log_var, eps = torch.tensor([[1.0, -2.0]]), torch.log(torch.tensor([[4.0, 0.25]])), torch.tensor([[0.5, -1.0]])
    torch.testing.assert_close(reparameterize(mu, log_var, eps=eps), torch.tensor([[2.0, -2.5]]))


def test_samples_have_the_mean_and_the_standard_deviation_asked_for():
    mu, log_var = torch.tensor([1.0, -2.0]), torch.log(torch.tensor([4.0, 0.25]))
    n = 200_000
    z = reparameterize(mu.expand(n, 2), log_var.expand(n, 2))
    sigma = (0.5 * log_var).exp()
    assert ((z.mean(0) - mu).abs() < 4 * sigma / n**0.5).all()
    assert ((z.std(0) - sigma).abs() < 4 * sigma / (2 * n) ** 0.5).all()


def test_noise_is_fresh_for_every_call_example_and_dimension():
    vae, x = MODELS["mlp"](VAE), torch.rand(1, 1, 28, 28).repeat(6, 1, 1, 1)
    for mode in (True, False):
        vae.train(mode)
        eps = [(out.z - out.mu) / (0.5 * out.log_var).exp() for out in (vae(x), vae(x))]
        assert torch.cat(eps).flatten().unique().numel() == 2 * 6 * 3


def test_gradients_reach_the_encoder_through_the_reconstruction_alone():
    vae = MODELS["mlp"](VAE)
    vae.loss(torch.rand(8, 1, 28, 28)).recon.sum().backward()
    for name, parameter in vae.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def comes_back(output, *inputs):
    """Whether a gradient comes back from the output to every input."""
    gradients = torch.autograd.grad(output.square().sum(), inputs, retain_graph=True)
    return all(gradient.abs().max() > 0 for gradient in gradients)


@pytest.mark.parametrize("kind", [Autoencoder, VAE])
def test_gradients_come_back_through_every_output(kind):
    model, x = MODELS["mlp"](kind), torch.rand(4, 1, 28, 28, requires_grad=True)
    for name, part in model(x)._asdict().items():
        assert comes_back(part, x), name
    assert comes_back(model.reconstruct(x), x)
    z = torch.randn(4, 3, requires_grad=True)
    assert comes_back(model.decode(z), z)


def test_gradients_come_back_through_every_output_of_a_cvae():
    model, x, c, z = cvae(), torch.rand(4, 12, requires_grad=True), torch.rand(4, 4), torch.randn(4, 3)
    for part in [*model(x, c), *model.forward_full(x, c), *model.generate(x, c)[1:]]:
        assert comes_back(part, x)
    sampled, mu, log_var = model.forward_full(x, c)
    assert comes_back(sampled, mu, log_var)
    z.requires_grad_()
    c.requires_grad_()
    assert comes_back(model.decode(z, c), z, c)


@pytest.mark.parametrize("model", [VAE(latent_dim=3), cvae()], ids=["VAE", "CVAE"])
def test_gradients_come_back_through_the_noise(model):
    mu, log_var, eps = torch.randn(4, 3, requires_grad=True), torch.randn(4, 3, requires_grad=True), torch.randn(4, 3)
    to_mu, to_log_var = torch.autograd.grad(model.reparameterize(mu, log_var, eps=eps).sum(), (mu, log_var))
    torch.testing.assert_close(to_mu, torch.ones(4, 3))
    torch.testing.assert_close(to_log_var, 0.5 * (0.5 * log_var).exp() * eps)


def test_log_var_is_bounded_where_it_is_made():
    vae = MODELS["mlp"](VAE)
    torch.nn.init.constant_(vae.heads.log_var.bias, 1e4)
    terms = vae.loss(torch.rand(4, 1, 28, 28))
    assert vae.encode(torch.rand(4, 1, 28, 28))[1].max() == LOG_VAR_RANGE[1] == 20
    assert all(term.isfinite().all() for term in terms)
    torch.nn.init.constant_(vae.heads.log_var.bias, -1e4)
    assert vae.encode(torch.rand(4, 1, 28, 28))[1].min() == LOG_VAR_RANGE[0] == -30


def test_a_generator_makes_samples_repeatable_and_leaves_the_global_state_alone():
    vae, state = MODELS["mlp"](VAE), torch.get_rng_state()
    first, second = (vae.sample(3, generator=torch.Generator().manual_seed(5)) for _ in range(2))
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    assert torch.equal(state, torch.get_rng_state())
    assert not torch.equal(first, vae.sample(3))


@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0])
def test_prior_samples_are_decoded_standard_normals_times_the_temperature(temperature):
    """A linear decoder with weight I gives z itself back: its samples have mean 0 and deviation ``temperature``."""
    vae = VAE(input_shape=(3,), latent_dim=3, hidden_dims=(), likelihood="gaussian")
    torch.nn.init.eye_(vae.decoder[0].weight)
    torch.nn.init.zeros_(vae.decoder[0].bias)
    x = vae.sample(100_000, temperature=temperature)
    assert (x.mean(0).abs() <= 4 * temperature / len(x) ** 0.5).all()
    assert ((x.var(0) - temperature**2).abs() <= 4 * temperature**2 * (2 / len(x)) ** 0.5).all()


@pytest.mark.parametrize("sigma", [0.5, "learned"])
def test_sigma_reaches_the_loss_and_the_optimiser(sigma):
    vae, x = MODELS["mlp"](VAE, likelihood="gaussian", sigma=sigma), torch.rand(4, 1, 28, 28)
    out = vae(x)
    start = 1.0 if sigma == "learned" else sigma
    expected = -torch.distributions.Normal(out.x_params, start).log_prob(x).flatten(1).sum(1)
    torch.testing.assert_close(vae.likelihood.nll(out.x_params, x), expected)
    names = [name for name, _ in vae.named_parameters() if "sigma" in name]
    assert names == (["likelihood.log_sigma"] if sigma == "learned" else [])


# ------------------------------------------------------------------------------------------- CVAE


@pytest.mark.parametrize("lead", [(5,), (5, 7), ()])
def test_cvae_works_on_the_last_dimension(lead):
    model, x, c = cvae(), torch.rand(*lead, 12), torch.rand(*lead, 4)
    z, mu, log_var = model.forward_full(x, c)
    assert z.shape == mu.shape == log_var.shape == (*lead, 3)
    inputs, recons, mu, log_var, z = model.generate(x, c)
    assert inputs is x and recons.shape == x.shape
    assert model.sample(c).shape == x.shape
    if lead:
        assert model.loss(x, c).loss.shape == (5,)


def test_a_sequence_is_its_rows_one_by_one():
    """(B, T, D) gives for each of the B·T rows what the flat batch gives; the loss sums over T."""
    model, x, c = cvae(), torch.rand(5, 7, 12), torch.rand(5, 7, 4)
    for whole, flat in zip(model.encode(x, c), model.encode(x.flatten(0, 1), c.flatten(0, 1)), strict=True):
        torch.testing.assert_close(whole.flatten(0, 1), flat)
    kl = model.loss(x, c).kl
    torch.testing.assert_close(kl, model.loss(x.flatten(0, 1), c.flatten(0, 1)).kl.view(5, 7).sum(1))


def test_generate_reconstructs_from_the_sampled_code_it_returns():
    model, x, c = cvae(), torch.rand(5, 12), torch.rand(5, 4)
    _, recons, mu, log_var, z = model.generate(x, c)
    torch.testing.assert_close(recons, model.decode(z, c).sigmoid())
    torch.testing.assert_close(model.encode(x, c), (mu, log_var))
    assert not torch.equal(z, mu)


def test_forward_full_decodes_nothing_and_sample_encodes_nothing(monkeypatch):
    model, x, c = cvae(), torch.rand(5, 12), torch.rand(5, 4)
    monkeypatch.setattr(model, "decode", None)
    model.forward_full(x, c)
    monkeypatch.undo()
    monkeypatch.setattr(model, "encode", None)
    model.sample(c)


def test_the_condition_reaches_encoder_and_decoder():
    model, x, c = cvae(), torch.rand(5, 12), torch.rand(5, 4).requires_grad_()
    (grad,) = torch.autograd.grad(model.encode(x, c)[0].sum(), c)
    assert (grad.abs().sum(1) > 0).all()
    (grad,) = torch.autograd.grad(model.decode(torch.randn(5, 3), c).sum(), c)
    assert (grad.abs().sum(1) > 0).all()


def test_cvae_samples_come_from_the_prior():
    model, c = cvae(), torch.rand(1, 4).repeat(6, 1)
    assert model.sample(c).unique(dim=0).shape[0] == 6  # one condition, six samples
    first, second = (model.sample(c, generator=torch.Generator().manual_seed(1)) for _ in range(2))
    torch.testing.assert_close(first, second)


def with_prior(**kwargs):
    """A CVAE whose learned prior is far from N(0, I) and different for every condition."""
    model = cvae(prior="learned", **kwargs)
    for parameter in model.prior_net.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return model


@pytest.mark.parametrize("lead", [(5,), (5, 7), ()])
def test_the_standard_prior_and_a_new_learned_one_are_standard_normal(lead):
    c = torch.rand(*lead, 4)
    for prior in ("standard", "learned"):
        for part in cvae(prior=prior).prior(c):
            assert part.shape == (*lead, 3) and part.abs().max() == 0


def test_a_learned_prior_changes_nothing_else_and_starts_at_the_same_loss():
    x, c = torch.rand(5, 12), torch.rand(5, 4)
    losses = []
    for prior in ("standard", "learned"):
        torch.manual_seed(1)
        model = cvae(prior=prior)
        torch.manual_seed(2)
        losses.append(model.loss(x, c))
    for standard, learned in zip(*losses, strict=True):
        torch.testing.assert_close(standard, learned)


def test_a_learned_prior_belongs_to_the_loss_by_the_formula_between_two_gaussians():
    model, x, c = with_prior(), torch.rand(5, 12), torch.rand(5, 4)
    (mu, log_var), (mu_p, log_var_p) = model.encode(x, c), model.prior(c)
    q, p = (torch.distributions.Normal(m, (0.5 * v).exp()) for m, v in ((mu, log_var), (mu_p, log_var_p)))
    terms = model.loss(x, c, beta=3.0)
    torch.testing.assert_close(terms.kl, torch.distributions.kl_divergence(q, p).sum(1))
    torch.testing.assert_close(terms.loss, terms.recon + 3 * terms.kl)
    assert (mu_p.std(0) > 0.01).all()  # it does depend on the condition


def test_a_learned_prior_is_trained_by_the_kl_and_by_nothing_else():
    model, x, c = cvae(prior="learned"), torch.rand(5, 12), torch.rand(5, 4)
    model.loss(x, c).kl.sum().backward()
    assert model.prior_net[-1].mu.weight.grad.abs().max() > 0
    assert model.prior_net[-1].log_var.weight.grad.abs().max() > 0
    model.zero_grad()
    model.loss(x, c).recon.sum().backward()
    assert all(p.grad is None for p in model.prior_net.parameters())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        model.loss(x, c).kl.sum().backward()
        optimizer.step()
    assert model.prior_net[0].weight.grad.abs().max() > 0  # from the second step on, the hidden layer too


def test_samples_come_from_the_learned_prior_of_their_own_condition():
    """A decoder that gives z back: its samples must have the means and variances that `prior` says."""
    model = with_prior(input_dim=3, hidden_dims=(), likelihood="gaussian")
    with torch.no_grad():
        model.decoder[0].weight.copy_(torch.eye(3, 7))
        model.decoder[0].bias.zero_()
    n = 40_000
    for c in torch.eye(4)[:2]:
        mu, log_var = (part.detach() for part in model.prior(c))
        x = model.sample(c.repeat(n, 1))
        sigma = (0.5 * log_var).exp()
        assert ((x.mean(0) - mu).abs() < 4 * sigma / n**0.5).all()
        assert ((x.var(0) / sigma**2 - 1).abs() < 4 * (2 / n) ** 0.5).all()
        assert (mu.abs() > 0.1).any() and ((sigma - 1).abs() > 0.1).any()


def test_a_sequence_with_a_learned_prior_is_its_rows_one_by_one():
    model, x, c = with_prior(), torch.rand(5, 7, 12), torch.rand(5, 7, 4)
    for whole, flat in zip(model.prior(c), model.prior(c.flatten(0, 1)), strict=True):
        torch.testing.assert_close(whole.flatten(0, 1), flat)
    kl = model.loss(x, c).kl
    torch.testing.assert_close(kl, model.loss(x.flatten(0, 1), c.flatten(0, 1)).kl.view(5, 7).sum(1))
    generator = [torch.Generator().manual_seed(3) for _ in range(2)]
    whole, flat = model.sample(c, generator=generator[0]), model.sample(c.flatten(0, 1), generator=generator[1])
    torch.testing.assert_close(whole.flatten(0, 1), flat)


def test_the_learned_prior_is_bounded_like_the_encoder():
    model, x, c = cvae(prior="learned"), torch.rand(5, 12), torch.rand(5, 4)
    torch.nn.init.constant_(model.prior_net[-1].log_var.bias, -1e4)
    assert model.prior(c)[1].min() == LOG_VAR_RANGE[0]
    assert all(term.isfinite().all() for term in model.loss(x, c))


# ------------------------------------------------------------------------------------------- checkpoints

SAVED = {
    "VAE": lambda: VAE(latent_dim=3, hidden_dims=(8, 6), likelihood="gaussian", sigma="learned"),
    "conv VAE": lambda: VAE(latent_dim=3, hidden_dims=(4, 8), trunk="conv"),
    "VAE with skips": lambda: VAE(latent_dim=3, hidden_dims=(8, 6), skip=True),
    "Autoencoder": lambda: Autoencoder(latent_dim=3, input_shape=(10,), hidden_dims=()),
    "CVAE": cvae,
    "CVAE with a learned prior": lambda: cvae(prior="learned"),
}


@pytest.mark.parametrize("name", SAVED)
def test_save_and_load_give_the_same_model_back(name, tmp_path):
    model = SAVED[name]()
    state = torch.get_rng_state()
    again = load(save(model, tmp_path / "model.pt"), kind=type(model))
    assert torch.equal(state, torch.get_rng_state())
    assert type(again) is type(model) and again.config == model.config and not again.training
    assert [n for n, _ in again.named_parameters()] == [n for n, _ in model.named_parameters()]
    for key, value in model.state_dict().items():
        torch.testing.assert_close(again.state_dict()[key], value, rtol=0, atol=0)
    assert [p.name for p in tmp_path.iterdir()] == ["model.pt"]


def test_a_checkpoint_from_before_there_was_a_prior_to_choose_still_loads(tmp_path):
    model, c = cvae(), torch.rand(5, 4)
    content = torch.load(save(model, tmp_path / "model.pt"), weights_only=True)
    del content["config"]["prior"]
    assert not any("prior" in key for key in content["state"])
    torch.save(content, tmp_path / "old.pt")
    again = load(tmp_path / "old.pt", kind=CVAE)
    samples = (m.sample(c, generator=torch.Generator().manual_seed(0)) for m in (model, again))
    assert torch.equal(*samples) and again.config == model.config


def test_a_checkpoint_from_before_there_were_skips_loads_and_training_goes_on_from_it(tmp_path):
    x, path = torch.rand(20, 1, 28, 28), tmp_path / "model.pt"
    options = dict(seed=1, batch_size=10, show=False)
    whole = VAE(**SMALL)
    model = copy.deepcopy(whole)
    fit(whole, x, epochs=2, **options)
    fit(model, x, epochs=1, checkpoint=path, **options)
    content = torch.load(path, weights_only=True)
    assert content["config"].pop("skip") is False
    torch.save(content, path)
    assert load(path, kind=VAE).config == model.config
    fit(model, x, epochs=2, checkpoint=path, **options)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), whole.parameters(), strict=True))
    with pytest.raises(ValueError, match="another model"):
        fit(VAE(**SMALL, skip=True), x, epochs=2, checkpoint=path, **options)


def test_a_failed_save_leaves_the_old_file_whole(tmp_path, monkeypatch):
    path = save(SAVED["VAE"](), tmp_path / "model.pt")
    before = path.read_bytes()

    def full(content, file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        save(SAVED["CVAE"](), path)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["model.pt"]


def test_load_refuses_other_files(tmp_path):
    path = save(SAVED["VAE"](), tmp_path / "model.pt")
    with pytest.raises(ValueError, match="kind VAE, expected CVAE"):
        load(path, kind=CVAE)
    with pytest.raises(FileNotFoundError, match=r"missing\.pt"):
        load(tmp_path / "missing.pt")


def test_save_says_what_it_cannot_write(tmp_path):
    with pytest.raises(TypeError, match="Linear"):
        save(torch.nn.Linear(2, 2), tmp_path / "model.pt")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        save(SAVED["VAE"](), tmp_path / "nowhere" / "model.pt")


def test_the_callers_arguments_are_left_alone():
    dims = [16, 8]
    VAE(latent_dim=2, hidden_dims=dims)
    assert dims == [16, 8]
    labels = F.one_hot(torch.arange(4), 4).float()
    before = labels.clone()
    cvae().generate(torch.rand(4, 12), labels)
    assert torch.equal(labels, before)
