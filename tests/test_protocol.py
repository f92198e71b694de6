"""Models that the package does not know go the whole way: fit, checkpoint, resume, evaluate, load, log-likelihood.

An importance-weighted VAE, a model with a codebook and four terms, and a conditional model that is no CVAE.
"""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim.optimizer import register_optimizer_step_post_hook

from course_utils import VAE, evaluate, fit, load, log_likelihood, register, save
from course_utils.data.images import ImageData
from course_utils.data.load import load_images
from course_utils.evaluation import active_units, kl_per_dimension
from course_utils.losses import Terms, bernoulli_nll, gaussian_kl


@register
class Bound(VAE):
    """The VAE trained on the bound L_k of Burda et al. instead of the ELBO."""

    def __init__(self, *, k=5, **kwargs):
        super().__init__(**kwargs)
        self.config |= dict(k=k)

    def loss(self, x, *, beta=1.0):
        bound = self.log_weights(x, samples=self.config["k"]).logsumexp(0) - math.log(self.config["k"])
        return Terms(loss=-bound.float())


@register
class Codebook(nn.Module):
    """A vector-quantised autoencoder (van den Oord et al. 2017), small: two codes of one book for each image."""

    def __init__(self, entries=16):
        super().__init__()
        self.config = dict(entries=entries)
        self.encoder, self.decoder = nn.Linear(784, 8), nn.Linear(8, 784)
        self.book = nn.Embedding(entries, 4)
        self.register_buffer("used", torch.zeros(entries, dtype=torch.int64))  # a buffer that is no float

    def inputs(self, x, y, condition=None):
        return (x.flatten(1),)

    def loss(self, x, *, beta=1.0):
        z = self.encoder(x).view(-1, 2, 4)
        index = torch.cdist(z, self.book.weight.expand(len(z), -1, -1)).argmin(-1)
        if self.training:
            self.used += torch.bincount(index.flatten(), minlength=len(self.used))
        code = self.book(index)
        recon = bernoulli_nll(self.decoder((z + (code - z).detach()).flatten(1)), x)
        codebook, commitment = ((a.detach() - b).square().sum((1, 2)) for a, b in ((z, code), (code, z)))
        entropy = torch.full_like(recon, math.log(len(self.book.weight)))
        return Terms(
            loss=recon + codebook + beta * commitment,
            recon=recon,
            codebook=codebook,
            commitment=commitment,
            entropy=entropy,
        )


@register
class ByClass(nn.Module):
    """A conditional VAE with labels for conditions, embedded: its second input holds whole numbers."""

    def __init__(self, latent_dim=3):
        super().__init__()
        self.config = dict(latent_dim=latent_dim)
        self.means, self.encoder = nn.Embedding(10, latent_dim), nn.Linear(784, 2 * latent_dim)
        self.decoder = nn.Linear(latent_dim, 784)

    def inputs(self, x, y, condition=None):
        return x.flatten(1), y

    def posterior_and_prior(self, x, y):
        mu_p = self.means(y)
        return tuple(self.encoder(x).chunk(2, 1)), (mu_p, torch.zeros_like(mu_p))

    def loss(self, x, y, *, beta=1.0):
        q, p = self.posterior_and_prior(x, y)
        recon = bernoulli_nll(self.decoder(q[0] + (0.5 * q[1]).exp() * torch.randn_like(q[0])), x)
        kl = gaussian_kl(*q, prior=p)
        return Terms(loss=recon + beta * kl, recon=recon, kl=kl)

    def log_weights(self, x, y, *, samples):
        (mu, log_var), (mu_p, _) = self.posterior_and_prior(x, y)
        q = torch.distributions.Normal(mu, (0.5 * log_var).exp())
        z = q.sample((samples,))
        log_px = -F.binary_cross_entropy_with_logits(self.decoder(z), x.expand(samples, -1, -1), reduction="none").sum(
            2
        )
        return log_px + torch.distributions.Normal(mu_p, 1.0).log_prob(z).sum(2) - q.log_prob(z).sum(2)


MODELS = {
    "Bound": (lambda: Bound(k=5, latent_dim=3, hidden_dims=(16,)), ("loss",)),
    "Codebook": (Codebook, ("loss", "recon", "codebook", "commitment", "entropy")),
    "ByClass": (ByClass, ("loss", "recon", "kl")),
}
OPTIONS = dict(batch_size=50, seed=3, show=False, clip=50.0, ema=0.9, binarize="dynamic", beta=lambda step: step / 100)


@pytest.fixture(scope="module")
def few():
    data = load_images("digits")
    return ImageData(data.train.subset(200), data.test.subset(50), "digits", "200 digits")


def made(name):
    torch.manual_seed(0)
    return MODELS[name][0]()


def weights(model):
    return torch.cat([value.detach().double().flatten() for value in model.state_dict().values()])


@pytest.mark.parametrize("name", MODELS)
def test_a_model_of_ones_own_goes_the_whole_way(name, few, tmp_path):
    names, path = MODELS[name][1], tmp_path / "model.pt"
    whole = made(name)
    before = evaluate(made(name), *whole.inputs(few.test[:], few.test.labels)).loss.mean()
    expected = fit(whole, few, epochs=4, **OPTIONS)
    assert {terms.names for terms in expected.train + expected.test} == {names}
    assert expected.train[-1].loss < expected.train[0].loss

    fit(made(name), few, epochs=2, checkpoint=path, **OPTIONS)
    torch.manual_seed(99)
    resumed = MODELS[name][0]()  # other weights: the checkpoint's count
    history = fit(resumed, few, epochs=4, checkpoint=path, **OPTIONS)
    assert torch.equal(weights(resumed), weights(whole))
    assert history.train == expected.train and history.test == expected.test

    loaded = load(path, kind=type(whole))
    assert torch.equal(weights(loaded), weights(whole)) and loaded.config == whole.config
    inputs = loaded.inputs(few.test[:], few.test.labels)
    terms = evaluate(loaded, *inputs)
    assert terms.names == names and all(term.shape == (50,) for term in terms)
    assert terms.loss.mean() < before


def test_the_importance_weighted_bound_is_the_models_own_loss(few):
    model = made("Bound")
    x = few.test[:]
    losses = torch.stack([evaluate(model, x, seed=seed).loss for seed in range(100)]).mean()
    bounds = torch.stack([log_likelihood(model, x, samples=5, seed=seed) for seed in range(100, 200)]).mean()
    assert losses.item() == pytest.approx(-bounds.item(), abs=0.02)


def test_what_is_measured_needs_the_method_and_not_the_class(few):
    model = made("ByClass")
    inputs = model.inputs(few.test[:], few.test.labels)
    one = torch.stack([log_likelihood(model, *inputs, samples=1, seed=seed) for seed in range(200)]).mean()
    elbo = -torch.stack([evaluate(model, *inputs, seed=seed).loss for seed in range(200)]).mean()
    assert one.item() == pytest.approx(elbo.item(), abs=0.5)
    assert log_likelihood(model, *inputs, samples=50).mean() > elbo
    rate = kl_per_dimension(model, *inputs)
    torch.testing.assert_close(rate.sum(), evaluate(model, *inputs).kl.mean())
    assert active_units(model, *inputs).variance.shape == (3,)
    for measure in (active_units, kl_per_dimension):
        with pytest.raises(TypeError, match=r"posterior_and_prior, which Codebook has not"):
            measure(Codebook(), inputs[0])
    with pytest.raises(TypeError, match=r"log_weights, which Codebook has not"):
        log_likelihood(Codebook(), inputs[0], samples=2)


# What fit offers ---------------------------------------------------------------------------------------


def test_beta_is_asked_for_at_every_step_and_counts_from_one(few):
    asked = []
    model = made("ByClass")
    history = fit(model, few, epochs=2, batch_size=50, beta=lambda step: asked.append(step) or 0.5 * step, show=False)
    assert set(asked) == set(range(1, 9))
    assert history.test[-1].loss == pytest.approx(history.test[-1].recon + 4 * history.test[-1].kl, rel=1e-5)


def test_the_average_of_the_weights_is_the_one_that_the_definition_gives(few):
    """The weights after each step, watched from outside, averaged by hand."""
    model, steps = made("ByClass"), []
    hook = register_optimizer_step_post_hook(
        lambda *_: steps.append([p.detach().double().clone() for p in model.parameters()])
    )
    try:
        history = fit(model, few, epochs=2, batch_size=50, ema=0.8, lr=1e-2, show=False)
    finally:
        hook.remove()
    average = steps[0]
    for now in steps[1:]:
        average = [0.8 * a + 0.2 * w for a, w in zip(average, now, strict=True)]
    assert len(steps) == 8
    for parameter, expected in zip(model.parameters(), average, strict=True):
        torch.testing.assert_close(parameter.double(), expected, rtol=1e-4, atol=1e-6)
    terms = evaluate(model, *model.inputs(few.test[:], few.test.labels))
    assert history.test[-1].loss == pytest.approx(terms.loss.double().mean().item(), rel=1e-6)


def test_clipping_bounds_each_step_and_the_optimiser_is_ones_own(few):
    """With plain gradient descent a step is lr times the clipped gradient, at most lr · clip long."""
    moved = {}
    for clip in (None, 0.5):
        model = made("ByClass")
        start = weights(model)
        sgd = dict(optimizer=lambda parameters: torch.optim.SGD(parameters, lr=1e-3), batch_size=200)
        fit(model, few.train, epochs=1, clip=clip, show=False, **sgd)
        moved[clip] = (weights(model) - start).norm().item()
    assert moved[0.5] == pytest.approx(0.5e-3, rel=1e-3) and moved[None] > 10 * moved[0.5]


def test_an_optimiser_by_name_and_its_rate(few):
    by_name, by_hand = made("ByClass"), made("ByClass")
    fit(by_name, few.train, epochs=1, optimizer="AdamW", lr=3e-3, show=False)
    fit(by_hand, few.train, epochs=1, optimizer=lambda p: torch.optim.AdamW(p, lr=3e-3, fused=True), show=False)
    assert torch.equal(weights(by_name), weights(by_hand))


@pytest.mark.parametrize("binarize", ["dynamic", "static"])
def test_binarised_images_are_drawn_anew_or_once_and_test_images_always_once(binarize, few):
    class Watched(VAE):
        def loss(self, x, *, beta=1.0):
            seen[self.training].append(x.detach().flatten(1))
            return super().loss(x, beta=beta)

    seen = {True: [], False: []}
    torch.manual_seed(0)
    fit(Watched(latent_dim=2, hidden_dims=(4,)), few, epochs=2, batch_size=200, binarize=binarize, show=False)
    for images in (*seen[True], *seen[False]):
        assert ((images == 0) | (images == 1)).all()
    assert torch.equal(*seen[False])
    first, second = ({tuple(row.tolist()) for row in images} for images in seen[True])
    assert (first == second) == (binarize == "static")
    grey = few.test[:].flatten(1)
    assert abs((seen[False][0] - grey).mean()) < 4 * (grey * (1 - grey)).mean().sqrt() / grey.numel() ** 0.5


# What is refused before training ---------------------------------------------------------------------


class Unregistered(Codebook):
    """A model that nobody has registered."""


@register
class Forgetful(Codebook):
    """A registered model whose config does not build it again."""

    def __init__(self, size):
        super().__init__()
        self.extra = nn.Linear(size, size)


@register
class Opaque(Codebook):
    """A registered model whose config holds what is no plain value."""

    def __init__(self, entries=16):
        super().__init__(entries)
        self.config = dict(entries=entries, note=nn.ReLU())


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Unregistered, r"Unregistered cannot be saved.*register\(Unregistered\)"),
        (lambda: Forgetful(3), "Forgetful cannot be saved so that it can be loaded"),
        (Opaque, "Opaque cannot be saved so that it can be loaded"),
    ],
)
def test_what_cannot_be_saved_is_refused_before_training(model, message, few, tmp_path):
    model = model()
    start = weights(model)
    with pytest.raises(TypeError, match=message):
        fit(model, few, epochs=1, checkpoint=tmp_path / "model.pt", show=False)
    assert torch.equal(weights(model), start) and not list(tmp_path.iterdir())
    fit(model, few.train, epochs=1, show=False)  # without a checkpoint nothing stands in the way


def test_a_file_that_cannot_be_written_is_refused_before_training(few, tmp_path):
    model = made("Codebook")
    start = weights(model)
    for path, error in ((tmp_path / "no" / "model.pt", FileNotFoundError), (tmp_path, IsADirectoryError)):
        with pytest.raises(error, match=r"cannot write"):
            fit(model, few, epochs=1, checkpoint=path, show=False)
    assert torch.equal(weights(model), start)


class Summed(Codebook):
    """Its loss is one number for the batch."""

    def loss(self, x, *, beta=1.0):
        return super().loss(x, beta=beta).map(torch.sum)


class Bare(Codebook):
    """Its loss is a tensor."""

    def loss(self, x, *, beta=1.0):
        return super().loss(x, beta=beta).loss


class NoBeta(Codebook):
    """Its loss knows no beta."""

    def loss(self, x):
        return super().loss(x)


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        (Summed, ValueError, r"Summed.loss must return one number for each of \d+ examples, got loss \(\)"),
        (Bare, TypeError, r"Bare.loss must return losses.Terms.*got Tensor"),
        (NoBeta, ValueError, r"NoBeta.loss\(x\) does not take 1 tensor and beta"),
    ],
)
def test_a_loss_that_breaks_the_protocol_is_told_so(model, error, message, few):
    model = model()
    start = copy.deepcopy(model.state_dict())
    for use in (lambda: fit(model, few, epochs=1, show=False), lambda: evaluate(model, few.test[:].flatten(1))):
        with pytest.raises(error, match=message):
            use()
    parameters = dict(model.named_parameters())
    assert all(torch.equal(start[name], value) for name, value in parameters.items())


def test_a_class_defined_again_takes_the_place_of_the_first_and_no_other_class_does(tmp_path):
    again = type("Codebook", (Codebook,), {"__module__": Codebook.__module__, "__qualname__": "Codebook"})
    try:
        assert register(again) is again
        assert isinstance(load(save(again(), tmp_path / "model.pt")), again)
    finally:
        register(Codebook)
    with pytest.raises(ValueError, match=r"VAE is the name of course_utils.models.vae.VAE"):
        register(type("VAE", (Codebook,), {}))
    with pytest.raises(TypeError, match="class of torch.nn.Module"):
        register(Codebook())


def test_terms_are_read_by_name_and_in_order():
    terms = Terms(loss=torch.tensor([3.0]), recon=torch.tensor([2.0]), kl=torch.tensor([1.0]))
    loss, recon, kl = terms
    assert (loss, recon, kl) == (terms.loss, terms.recon, terms.kl) and terms.names == ("loss", "recon", "kl")
    assert terms.map(float) == Terms(loss=3.0, recon=2.0, kl=1.0) == copy.deepcopy(terms.map(float))
    assert terms.map(float) != Terms(loss=3.0, recon=2.0) and dict(terms.map(float).items())["kl"] == 1.0
    with pytest.raises(AttributeError, match="no term 'rate'; there are loss, recon, kl"):
        _ = terms.rate
    with pytest.raises(ValueError, match="items"):
        Terms(loss=1.0, items=2.0)
