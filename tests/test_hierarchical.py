"""Hierarchical VAEs: rates, merge and weights against closed forms, quadrature and torch.distributions."""

import itertools
import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from course_utils import VAE, evaluate, fit, load, log_likelihood, save
from course_utils.data.images import ImageData
from course_utils.data.load import load_images
from course_utils.losses import gaussian_kl
from course_utils.models import HierarchicalVAE, ResidualVAE, precision_weighted
from course_utils.models.hierarchical import INFERENCE

SMALL = dict(input_shape=(6,), hidden_dims=(16,))
MODELS = {name: lambda name=name, **more: HierarchicalVAE(inference=name, width=12, **more) for name in INFERENCE}
MODELS["many levels"] = lambda **more: ResidualVAE(width=12, **more)
each = pytest.mark.parametrize("kind", MODELS)


def made(kind, latent_dims=(3, 2), seed=0, loud=1.0, **more):
    """A model whose weights are far from their start, so that no term is zero or one by accident."""
    torch.manual_seed(seed)
    model = MODELS[kind](latent_dims=latent_dims, **{**SMALL, **more})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += loud * 0.25 * torch.randn_like(parameter)
    return model


def images(n=5):
    return torch.rand(n, 6, generator=torch.Generator().manual_seed(1)).round()


def normal(mu, log_var):
    return Normal(mu.double(), (0.5 * log_var.double()).exp())


@pytest.mark.parametrize("kind", ["bottom-up", "ladder", "residual"])
def test_with_one_level_it_is_the_vae(kind):
    torch.manual_seed(0)
    vae = VAE(latent_dim=3, **SMALL)
    torch.manual_seed(0)
    one = MODELS[kind](latent_dims=(3,), **SMALL)
    assert [p.shape for p in one.parameters()] == [p.shape for p in vae.parameters()]
    for ours, theirs in zip(one.parameters(), vae.parameters(), strict=True):
        assert torch.equal(ours, theirs)  # drawn in the same order
    x = images(20)
    torch.manual_seed(3)
    expected = vae.loss(x, beta=0.5)
    torch.manual_seed(3)
    came = one.loss(x, beta=0.5)
    for name in ("loss", "recon", "kl"):
        assert torch.equal(getattr(came, name), getattr(expected, name))
    assert torch.equal(came.kl_1, came.kl)
    assert torch.equal(one.reconstruct(x), vae.reconstruct(x))
    draw = [m.sample(4, temperature=0.7, generator=torch.Generator().manual_seed(5)) for m in (one, vae)]
    assert torch.equal(*draw)
    bounds = [log_likelihood(m, x, samples=50) for m in (one, vae)]
    torch.testing.assert_close(*bounds, rtol=1e-5, atol=1e-5)
    steps = [fit(m, x, epochs=3, batch_size=5, show=False).train for m in (one, vae)]  # and they train alike
    assert steps[0][-1].loss == steps[1][-1].loss


@each
def test_terms_add_up_and_beta_weighs_every_level(kind):
    model, x = made(kind, (3, 2, 4)), images()
    torch.manual_seed(0)
    terms = model.loss(x, beta=0.3)
    assert terms.names == ("loss", "recon", "kl", "kl_1", "kl_2", "kl_3")
    assert all(term.shape == (5,) for term in terms)
    torch.testing.assert_close(terms.kl, terms.kl_1 + terms.kl_2 + terms.kl_3)
    torch.testing.assert_close(terms.loss, terms.recon + 0.3 * terms.kl)
    terms.loss.sum().backward()
    cold = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not cold


@pytest.mark.parametrize("kind", ["ladder", "residual", "many levels"])
def test_a_level_pays_the_kl_to_its_conditional_prior(kind):
    """By torch.distributions at the codes above; and by Monte Carlo; and it is not the KL to N(0, I)."""
    model, x = made(kind), images(1)
    with torch.no_grad():
        torch.manual_seed(0)
        terms = model.loss(x)
        torch.manual_seed(0)
        below, above = model.infer(x)
        torch.testing.assert_close(terms.kl_1.double(), kl_divergence(normal(*below.q), normal(*below.p)).sum(1))
        q, p = normal(*below.q), normal(*below.p)
        z = q.sample((200_000,))
        sampled = (q.log_prob(z) - p.log_prob(z)).sum(2).mean(0)
        torch.testing.assert_close(terms.kl_1.double(), sampled, rtol=0.02, atol=0.02)
        torch.testing.assert_close(terms.kl_2, gaussian_kl(*above.q))
        assert (terms.kl_1 - gaussian_kl(*below.q)).abs() > 0.05
        mu, log_var = model._prior(1, {2: above.z}, 1)  # the prior that samples are drawn from is the one that is paid
        torch.testing.assert_close((mu, log_var), below.p)


@each
def test_the_rate_is_that_of_the_whole_code(kind):
    """Σ of the levels' terms has the mean of log q(z|x) − log p(z), sampled independently from log_weights."""
    model, x = made(kind, loud=0.6), images(1)
    with torch.no_grad():
        torch.manual_seed(0)
        many = x.expand(60_000, -1)
        terms = model.loss(many)
        log_w = model.log_weights(x, samples=60_000)
    torch.testing.assert_close(-terms.loss.double().mean(), log_w.mean(), atol=0.05, rtol=0)


def test_bottom_up_no_kl_in_closed_form_may_stand_for_the_level_below():
    """Given z_2 ~ q(z_2|z_1), z_1 is no sample of q(z_1|x): the closed form has another mean."""
    model, x = made("bottom-up", seed=2), images(1).expand(60_000, -1)
    with torch.no_grad():
        torch.manual_seed(0)
        below, _ = model.infer(x)
        sampled = (normal(*below.q).log_prob(below.z.double()) - normal(*below.p).log_prob(below.z.double())).sum(1)
        torch.manual_seed(0)
        torch.testing.assert_close(model.loss(x).kl_1.double(), sampled)
        closed = gaussian_kl(*below.q, prior=below.p)
        assert abs(closed.mean() - sampled.mean()) > 5 * (closed.std() + sampled.std()) / math.sqrt(60_000)
        assert sampled.min() < 0 < sampled.mean()


@each
def test_log_weights_average_to_the_evidence(kind):
    """Two levels of one number each: p(x) by quadrature over both."""
    model, x = made(kind, (1, 1), loud=0.8), images(3)
    line = torch.linspace(-9, 9, 361)
    step = (line[1] - line[0]).double()
    with torch.no_grad():
        z_2 = line[:, None]
        log_p2 = normal(*model._top(1)).log_prob(z_2.double())[:, 0]
        mu, log_var = model._prior(1, {2: z_2}, len(z_2))  # (361, 1): of z_1
        z_1 = mu + (0.5 * log_var).exp() * line  # (361, 361), in units of the conditional prior
        log_p1 = Normal(0.0, 1.0).log_prob(line.double()).expand_as(z_1)
        params = model.decode((z_1.reshape(-1, 1), z_2.expand_as(z_1).reshape(-1, 1)))
        log_px = model.likelihood.log_prob_pairs(params, x).view(361, 361, 3)
        exact = (log_px + (log_p2[:, None] + log_p1)[:, :, None]).logsumexp((0, 1)) + 2 * step.log()
    estimate = log_likelihood(model, x, samples=60_000, batch_size=60_000)
    torch.testing.assert_close(estimate, exact, atol=0.02, rtol=0)
    assert (-evaluate(model, x.repeat(2000, 1), batch_size=6000).loss.mean() <= exact.mean() + 0.02).all()


def test_the_merge_is_the_product_of_two_gaussians():
    a, b = ((torch.randn(4, 3), torch.randn(4, 3)) for _ in range(2))
    mu, log_var = precision_weighted(a, b)
    points = torch.linspace(-2, 2, 7).double()[:, None, None]
    product = normal(*a).log_prob(points) + normal(*b).log_prob(points) - normal(mu, log_var).log_prob(points)
    torch.testing.assert_close(product, product[:1].expand_as(product), rtol=1e-4, atol=1e-4)  # constant in z
    assert (log_var < torch.minimum(a[1], b[1])).all()
    torch.testing.assert_close(precision_weighted(b, a), (mu, log_var))
    sure = precision_weighted((torch.full((1, 1), 5.0), torch.full((1, 1), -80.0)), (torch.zeros(1, 1),) * 2)
    torch.testing.assert_close(sure, (torch.full((1, 1), 5.0), torch.full((1, 1), -80.0)))
    for broken in (((a[0], a[1][:2]), b), (a, (b[0][:2], b[1])), (a, (b[0], b[1][:, :1]))):
        with pytest.raises(ValueError, match="same shape"):
            precision_weighted(*broken)


@pytest.mark.parametrize("kind", ["residual", "many levels"])
def test_where_nothing_is_said_the_posterior_is_the_prior(kind):
    """Moves of zero give rate 0 in every level, whatever the prior."""
    model, x = made(kind), images()
    with torch.no_grad():
        for heads in model.heads if kind == "residual" else [net[-1] for net in model.moves]:
            for parameter in heads.parameters():
                parameter.zero_()
        terms = model.loss(x)
    assert terms.kl.abs().max() < 1e-5


@each
def test_samples_follow_the_chain(kind):
    model = made(kind)
    generator = torch.Generator().manual_seed(0)
    below, above = model.sample_codes(50_000, generator=generator)
    assert below.shape == (50_000, 3) and above.shape == (50_000, 2)
    torch.testing.assert_close(above.mean(0), torch.zeros(2), atol=0.02, rtol=0)
    torch.testing.assert_close(above.std(0), torch.ones(2), atol=0.02, rtol=0)
    with torch.no_grad():
        noise = (below - model._prior(1, {2: above}, 50_000)[0]) / (0.5 * model._prior(1, {2: above}, 50_000)[1]).exp()
    torch.testing.assert_close(noise.std(0), torch.ones(3), atol=0.03, rtol=0)
    torch.testing.assert_close(noise.mean(0), torch.zeros(3), atol=0.03, rtol=0)
    assert (below.std(0) - 1).abs().max() > 0.05  # not N(0, I)
    pixels = model.sample(7)
    assert pixels.shape == (7, 6) and pixels.min() >= 0 and pixels.max() <= 1 and not torch.equal(pixels[0], pixels[1])


@each
def test_each_level_has_a_temperature_of_its_own(kind):
    model = made(kind)

    def drawn(temperature):
        return model.sample_codes(20_000, temperature=temperature, generator=torch.Generator().manual_seed(0))

    plain, hot_below = drawn(1.0), drawn([0.5, 1.0])
    assert torch.equal(plain[1], hot_below[1])
    with torch.no_grad():
        mu = model._prior(1, {2: plain[1]}, 20_000)[0]
    torch.testing.assert_close(hot_below[0] - mu, 0.5 * (plain[0] - mu), rtol=1e-3, atol=1e-4)  # the mean is left alone
    cold = drawn((1.0, 0.0))
    assert not cold[1].any() and cold[0].std(0).min() > 0
    assert torch.equal(drawn(0.5)[1], 0.5 * plain[1])
    torch.testing.assert_close(drawn([0.0, 1.0])[0], mu)


@each
def test_a_held_level_stays_and_what_is_below_is_drawn_given_it(kind):
    model = made(kind)
    top = model.sample_codes(1)[1].expand(10_000, -1)
    below, above = model.sample_codes(10_000, held={2: top})
    assert torch.equal(above, top)
    with torch.no_grad():
        mu, log_var = model._prior(1, {2: top[:1]}, 1)
    torch.testing.assert_close(below.mean(0, keepdim=True), mu, atol=0.1, rtol=0.1)
    torch.testing.assert_close(below.std(0, keepdim=True), (0.5 * log_var).exp(), atol=0.05, rtol=0.1)
    assert torch.equal(model.sample_codes(10_000, held={1: below})[0], below)


def test_reconstruction_takes_the_means():
    for kind in MODELS:
        model, x = made(kind), images()
        torch.manual_seed(0)
        first = model.reconstruct(x)
        torch.manual_seed(1)
        assert torch.equal(first, model.reconstruct(x))
        assert torch.equal(first[:2], model.reconstruct(x[:2])) or torch.allclose(first[:2], model.reconstruct(x[:2]))


@each
@pytest.mark.parametrize("norm", [False, True])
def test_it_trains_is_saved_loaded_and_resumed(kind, norm, tmp_path):
    data = load_images("digits")
    few = ImageData(data.train.subset(200), data.test.subset(50), "digits", "200 digits")
    options = dict(batch_size=50, lr=2e-3, show=False, beta=lambda step: min(1.0, step / 8))

    def fresh():
        torch.manual_seed(0)
        return MODELS[kind](latent_dims=(4, 3), hidden_dims=(32,), norm=norm)

    whole = fresh()
    history = fit(whole, few, epochs=4, **options)
    assert history.test[-1].loss < history.test[0].loss and "kl_2" in history.train[0].names
    fit(fresh(), few, epochs=2, checkpoint=tmp_path / "half.pt", **options)
    resumed = fresh()
    fit(resumed, few, epochs=4, checkpoint=tmp_path / "half.pt", **options)
    save(whole, tmp_path / "whole.pt")
    for other in (resumed, load(tmp_path / "whole.pt")):
        assert other.config == whole.config and type(other) is type(whole)
        for ours, theirs in zip(whole.state_dict().values(), other.state_dict().values(), strict=True):
            assert torch.equal(ours, theirs)


@pytest.mark.parametrize("inference", INFERENCE)
def test_a_convolutional_trunk_and_other_likelihoods_fit(inference):
    model = HierarchicalVAE(
        input_shape=(1, 8, 8), latent_dims=(4, 3, 2), trunk="conv", hidden_dims=(4, 8), inference=inference,
        likelihood="gaussian", sigma="learned", norm=True,
    )  # fmt: skip
    x = torch.rand(6, 1, 8, 8)
    assert model.loss(x).loss.shape == (6,) and model.reconstruct(x).shape == x.shape == model.sample(6).shape


def test_double_precision_goes_through():
    for kind in MODELS:
        model = made(kind).double()
        x = images().double()
        assert model.loss(x).loss.dtype == torch.float64 and model.sample(2).dtype == torch.float64


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (dict(latent_dims=4), TypeError, "latent_dims"),
        (dict(latent_dims=()), TypeError, "latent_dims"),
        (dict(latent_dims=(4, 0)), ValueError, r"latent_dims\[1\]"),
        (dict(latent_dims=(4, 2.0)), TypeError, r"latent_dims\[1\]"),
        (dict(latent_dims=(4, 2), inference="top-down"), ValueError, "'bottom-up', 'ladder', 'residual'"),
        (dict(latent_dims=(4, 2), norm=1), TypeError, "norm"),
        (dict(latent_dims=(4, 2), width=0), ValueError, "width"),
        (dict(latent_dims=(4, 2), trunk="conv", input_shape=(6,)), ValueError, "convolutional"),
        (dict(latent_dims=(4, 2), likelihood="laplace"), ValueError, "likelihood"),
    ],
)
def test_constructors_refuse_what_does_not_fit(arguments, error, words):
    with pytest.raises(error, match=words):
        HierarchicalVAE(**arguments)
    if not {"inference", "trunk"} & set(arguments):
        with pytest.raises(error, match=words):
            ResidualVAE(**arguments)


@each
def test_methods_refuse_what_does_not_fit(kind):
    model, x = made(kind), images()
    codes = model.sample_codes(4)
    for call, error, words in (
        (lambda: model.loss(x[:, :5]), ValueError, "must be"),
        (lambda: model.loss(x.double()), TypeError, "float32"),
        (lambda: model.loss(x, beta=-1), ValueError, "beta"),
        (lambda: model.log_weights(x, samples=0), ValueError, "samples"),
        (lambda: log_likelihood(model, x, samples=2, proposal="defensive"), TypeError, "proposal"),
        (lambda: model.decode(codes[0]), ValueError, "one Tensor"),
        (lambda: model.decode(codes[:1]), ValueError, "2 codes.*got 1 codes"),
        (lambda: model.decode(None), ValueError, "2 codes.*got one NoneType"),
        (lambda: model.decode((codes[0], codes[1][:1])), ValueError, r"each level, got \[4, 1\]"),
        (lambda: model.decode(codes[::-1]), ValueError, "must be"),
        (lambda: model.sample(0), ValueError, "n must"),
        (lambda: model.sample(2, temperature=-1.0), ValueError, "temperature"),
        (lambda: model.sample(2, temperature=[1.0]), ValueError, "one for each of 2 levels"),
        (lambda: model.sample(2, temperature="hot"), TypeError, "temperature"),
        (lambda: model.sample_codes(4, held={3: codes[0]}), ValueError, "levels are 1 to 2"),
        (lambda: model.sample_codes(3, held={2: codes[1]}), ValueError, "expected n = 3"),
        (lambda: model.sample_codes(4, held={2: codes[0]}), ValueError, "must be"),
        (lambda: model.inputs(x, x, condition=x), TypeError, "condition"),
    ):
        with pytest.raises(error, match=words):
            call()


@each
def test_normalisation_stands_before_every_activation_and_evaluation_knows_no_batch(kind):
    model = made(kind, norm=True)
    layers = [layer for net in model.modules() if isinstance(net, torch.nn.Sequential) for layer in net]
    befores = [a for a, b in itertools.pairwise(layers) if isinstance(b, torch.nn.ReLU)]
    assert len(befores) >= 4 and all(isinstance(layer, torch.nn.BatchNorm1d) for layer in befores)
    x = images()
    model.eval()
    torch.testing.assert_close(model.reconstruct(x)[:2], model.reconstruct(x[:2]))
    model.train()
    assert not torch.allclose(model.reconstruct(x)[:2], model.reconstruct(x[:2]))


@each
@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_a_batch_that_is_refused_has_moved_nothing(kind, likelihood):
    model = made(kind, norm=True, likelihood=likelihood)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match="x must"):
        model.loss(images() * math.nan)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@each
def test_sampling_in_training_mode_is_sampling_in_eval(kind):
    model = made(kind, norm=True)
    model.loss(images())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    drawn = model.sample(1, generator=torch.Generator().manual_seed(0))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(part.training for part in model.modules())
    assert torch.equal(drawn, model.eval().sample(1, generator=torch.Generator().manual_seed(0)))


def test_what_levels_add_begins_smaller_the_more_there_are():
    torch.manual_seed(0)
    few, many = (ResidualVAE(latent_dims=(8,) * k, **SMALL).adds[0][-1].weight.std() for k in (1, 9))
    torch.testing.assert_close(few / many, torch.tensor(3.0), atol=0.1, rtol=0)
