"""The exercises of notebook 02, the ELBO."""

import functools
import math

import torch
from torch import nn
from torch.nn import functional as F

from ._build import (
    Build,
    bent,
    goes_through,
    gradients_reach_all,
    has,
    new_noise,
    per_example,
    same_numbers,
    samples,
    samples_the_prior,
    shapes,
    trains,
)
from ._exercise import Draw, Exercise


def log_mean_exp(log_w):
    """Return the log of the mean of exp(log_w) over the samples, within the range of floats.

    log_w:  (S, B), S samples for each of B examples, perhaps all near -2000 or +1000
    result: (B,)
    """
    highest = log_w.amax(dim=0)  # (B,)
    shifted = (log_w - highest).exp()  # the largest is exp(0) = 1
    return highest + shifted.mean(dim=0).log()


def _pools(draw: Draw) -> list[tuple]:
    """Logarithms near 0, near -1200, near 1000; far apart between the examples, and within one."""
    far_apart = torch.tensor([[-2000.3, 1000.2], [-2001.1, 999.4]]).double()
    within = torch.tensor([[-3000.0], [-1.3], [-3001.0]]).double()
    return [(pool,) for pool in (draw(3, 2), 2 * draw(5, 3) - 1200, draw(4, 1) + 1000, far_apart, within)]


_OUT_OF_RANGE = (
    "The formula is right, but exp(-1200) is 0 and exp(1000) infinite in floating point, so the logs do not come back. "
    "What could be subtracted before exp, and added back after log?"
)


def distortion_and_rate(x, mu, log_var, W, b, sigma):
    """Return both terms of the ELBO of q(z|x) = N(mu, diag(exp(log_var))), in nats, exactly.

    The model is p(z) = N(0, I), p(x|z) = N(W z + b, sigma^2 I).
    x:           (B, D)
    mu, log_var: (B, L)
    W: (D, L);  sigma: a number
    b: (D,)
    result:      distortion (B,), -E_q[log p(x|z)], and rate (B,), KL(q || p(z))
    """
    variance = log_var.exp()
    squares = (x - b - mu @ W.T).square().sum(dim=1) + variance @ W.square().sum(dim=0)
    distortion = 0.5 * (x.shape[1] * math.log(2 * math.pi * sigma**2) + squares / sigma**2)
    rate = 0.5 * (mu.square() + variance - 1 - log_var).sum(dim=1)
    return distortion, rate


def _linear_models(draw: Draw) -> list[tuple]:
    sizes = (1, 3, 2, 0.5), (2, 4, 1, 1.7), (3, 2, 5, 0.7)
    return [(draw(B, D), draw(B, L), draw(B, L), draw(D, L), draw(D), sigma) for B, D, L, sigma in sizes]


def _spread(x, mu, log_var, W, b, sigma, spread):
    """Both terms where the spread of z adds `spread` to the squares."""
    distortion, rate = distortion_and_rate(x, mu, log_var, W, b, sigma)
    return distortion + 0.5 * (spread - log_var.exp() @ W.square().sum(0)) / sigma**2, rate


def _constant_counted(count):
    """Both terms where the constant of one pixel counts `count(D, L)` times."""

    def terms(x, mu, log_var, W, b, sigma):
        distortion, rate = distortion_and_rate(x, mu, log_var, W, b, sigma)
        return distortion + 0.5 * (count(*W.shape) - len(W)) * math.log(2 * math.pi * sigma**2), rate

    return terms


def _z_kept_at_its_mean(*case):
    return _spread(*case, spread=0)


class MyVAE(nn.Module):
    """A VAE of flat images: one hidden layer of 400, ReLU, a code of latent_dim numbers."""

    def __init__(self, latent_dim):
        super().__init__()
        self.latent_dim = latent_dim
        self.hidden = nn.Sequential(nn.Linear(784, 400), nn.ReLU())
        self.to_mu, self.to_log_var = nn.Linear(400, latent_dim), nn.Linear(400, latent_dim)
        self.decoder = nn.Sequential(nn.Linear(latent_dim, 400), nn.ReLU(), nn.Linear(400, 784))

    def encode(self, x):  # (B, 784) -> mu, log_var, (B, L) each
        hidden = self.hidden(x)
        return self.to_mu(hidden), self.to_log_var(hidden)

    def reparameterize(self, mu, log_var):  # -> z (B, L), drawn from q(z|x)
        return mu + (0.5 * log_var).exp() * torch.randn_like(mu)

    def decode(self, z):  # (B, L) -> logits (B, 784)
        return self.decoder(z)

    def kl(self, mu, log_var):  # -> the rate of each image (B,), nats
        return 0.5 * (mu**2 + log_var.exp() - 1 - log_var).sum(1)

    def loss(self, x):  # distortion + rate of each image (B,), by the methods above
        mu, log_var = self.encode(x)
        logits = self.decode(self.reparameterize(mu, log_var))
        distortion = F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1)
        return distortion + self.kl(mu, log_var)

    def sample(self, n):  # -> probabilities (n, 784), from codes of the prior
        z = torch.randn(n, self.latent_dim, device=next(self.parameters()).device)
        return self.decode(z).sigmoid()


def _rate(mu, log_var):
    return 0.5 * (mu**2 + log_var.exp() - 1 - log_var).sum(1)


def _z(mu, log_var):
    return mu + (0.5 * log_var).exp() * torch.randn_like(mu)


def _distortion(x, model):
    logits = model.decode(model.reparameterize(*model.encode(x)))
    return F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1)


def _squared_error(x, model, of):
    return (of(model.decode(model.reparameterize(*model.encode(x)))) - x).square().sum(1)


def _without_rate(model, x):
    model.kl = lambda mu, log_var: mu.new_zeros(len(mu))
    try:
        return model.loss(x)
    finally:
        del model.kl


def _rate_alone(model, x):
    return model.loss(x) - _without_rate(model, x)


def _codes(draw: Draw) -> list[tuple]:
    return [(draw(*shape), draw(*shape)) for shape in ((1, 2), (2, 3), (4, 5))]


def _images(draw: Draw) -> list[tuple]:
    return [(draw.uniform(n, 784),) for n in (1, 2, 5)]


def _gradient_passes_z(build: Build) -> None:
    given = [torch.zeros(2, 20, requires_grad=True) for _ in "ab"]
    z = build.run(build.make(20).reparameterize, *given, doing="in reparameterize")
    grads = torch.autograd.grad(z.sum(), given, allow_unused=True) if z.requires_grad else (None, None)
    lost = [name for name, grad in zip(("mu", "log_var"), grads, strict=True) if grad is None or not grad.any()]
    words = f"No gradient gets from z back to {' and '.join(lost)}. The borrowed line lets it pass: notebook 03."
    build.require(not lost, "no gradient through z", words)


def _unbounded(build: Build) -> None:
    """mu, log_var and logits may be any number: no activation stands behind them."""
    model = build.make(20)
    with torch.no_grad():
        mu, log_var = build.run(model.encode, 100 * build.images(64) - 50, doing="in encode of 64 images")
        logits = build.run(model.decode, 30 * torch.randn_like(mu), doing="in decode of 64 codes")
    build.require(not torch.equal(mu, log_var), "one head for both", "encode gives the same numbers twice.")
    for name, numbers in (("mu", mu), ("log_var", log_var), ("a logit", logits)):
        low, high = numbers.min(), numbers.max()
        words = f"Whatever goes in, {name} stays between {low:.3g} and {high:.3g}. It may be any number, so its layer"
        build.require(low < -1 and high > 1, f"{name} is bounded", f"{words} is the last one, without an activation.")


def multi_sample_bound(log_w, k):
    """Estimate L_k of each example from S samples: the average over S / k groups of k samples.

    log_w:  (S, B), log p(x, z) - log q(z); the first k rows are one group, the next k another
    k:      size of a group, a divisor of S
    result: (B,), nats
    """
    groups = log_w.unflatten(0, (-1, k))  # (S / k, k, B)
    bounds = groups.logsumexp(dim=1) - math.log(k)  # (S / k, B)
    return bounds.mean(dim=0)


def _groups(draw: Draw) -> list[tuple]:
    far_apart = torch.tensor([[-2000.3, 1000.2], [-2001.1, 999.4]]).double()
    pools = (draw(6, 2), 2), (30 * draw(12, 3) - 1200, 3), (2 * draw(20, 2), 4), (draw(6, 1), 6), (draw(6, 3), 1)
    return [*pools, (far_apart, 2)]


EXERCISES = (
    Exercise(
        number="2.1",
        title="The log of a mean of exponentials",
        minutes=6,
        solution=log_mean_exp,
        hints=(
            "The formula is short: exponentiate, average over the samples, take the log. What does exp(-1200) become "
            "in a computer, and what does its log become?",
            "For any m, the mean of exp(log_w) is exp(m) times the mean of exp(log_w - m). Which m keeps every "
            "exponential between 0 and 1?",
            "Take the largest log_w of each example as m. (torch.logsumexp does the same for a sum.)",
        ),
        cases=_pools,
        gradients=("log_w",),
        passed="From here on every average of densities is taken in this way.",
        mistakes={
            "out of range": (lambda log_w: log_w.exp().mean(0).log(), _OUT_OF_RANGE),
            "mean of the logs": (
                lambda log_w: log_w.mean(0),
                "This is the mean of the logs. Asked for is the log of the mean: exponentials are averaged.",
            ),
            "one maximum for the batch": (
                lambda log_w: (log_w - log_w.max()).exp().mean(0).log() + log_w.max(),
                "One maximum was taken for the whole batch. An example far below it becomes exp(-3000) = 0. Along "
                "which axis should the maximum run?",
            ),
            "the log divided": (
                lambda log_w: log_w.logsumexp(0) / len(log_w),
                "The log was divided by S. The division belongs inside the log. What does it subtract outside?",
            ),
        },
    ),
    Exercise(
        number="2.2",
        title="Distortion and rate of the linear-Gaussian model",
        minutes=18,
        solution=distortion_and_rate,
        hints=(
            "In -log p(x|z) only the squared distance between x and W z + b depends on z. What is its mean when z has "
            "mean mu and variance exp(log_var)?",
            "The expected squared distance is that of W mu + b, plus the variance of each code times the squared "
            "length of its column of W. The rest of -log p(x|z) is D/2 log(2 pi sigma^2), and a factor.",
            "With v = exp(log_var): the squares are the row sums of (x - b - mu Wᵀ)², plus v times the column sums of "
            "W². Distortion: half of (D log(2 pi sigma²) + squares / sigma²). Rate: the line in the box.",
        ),
        cases=_linear_models,
        parts=("distortion", "rate"),
        gradients=("mu", "log_var", "W", "b"),
        passed="Minus their sum is the ELBO, exactly and without a single sample.",
        mistakes={
            "variances as they are": (
                lambda x, mu, log_var, *model: _spread(x, mu, log_var, *model, spread=log_var.exp().sum(1)),
                "The variances of the codes were added as they are. W stretches a spread of z: pixel i moves by W_ij "
                "for each unit of code j. What is the mean of the square of that?",
            ),
            "z kept at its mean": (
                _z_kept_at_its_mean,
                "The distortion is the one at z = mu. But z is spread around mu, and a spread of z moves W z + b away "
                "from x, on average. What does that add to the expected squared distance?",
            ),
            **{
                name: (
                    _constant_counted(count),
                    "The term ½ log(2π sigma²) counts once for each pixel of an image. How many are there?",
                )
                for name, count in (("the constant once", lambda D, L: 1), ("the constant L times", lambda D, L: L))
            },
        },
    ),
    Exercise(
        number="2.3",
        title="Your first VAE",
        minutes=20,
        solution=MyVAE,
        hints=(
            "Start from your autoencoder. Behind the encoder's hidden layer stand two Linear layers, for mu and for "
            "log_var, without an activation. The decoder ends in a Linear layer: no sigmoid.",
            "The loss of a batch has four steps: encode; draw z; decode; add distortion and rate. For one number per "
            "image the cross-entropy needs reduction='none', and then a sum over the pixels.",
            "sample: codes of shape (n, latent_dim) from torch.randn, decoded, and a sigmoid, as decode gives logits. "
            "The two borrowed lines are the whole of reparameterize and kl.",
        ),
        passed="Gradients reach every weight; after {steps} steps on few images −ELBO is {loss:.0f} nats: healthy.",
        checks=(
            has("encode", "reparameterize", "decode", "kl", "loss", "sample"),
            shapes("encode", [(7, 784)], (7, 20), (7, 20)),
            shapes("encode", [(3, 784)], (3, 5), (3, 5), args=(5,)),
            shapes("decode", [(7, 20)], (7, 784)),
            samples(),
            same_numbers("kl(mu, log_var)", "kl", _rate, _codes, axes="mu, log_var: (B, L)"),
            same_numbers("reparameterize(mu, log_var)", "reparameterize", _z, _codes),
            new_noise,
            _gradient_passes_z,
            _unbounded,
            bent("encode", lambda build: build.images(256)),
            bent("decode", lambda build: 100 * torch.randn(256, 20).to(build.images(1))),
            samples_the_prior(),
            goes_through("reparameterize", "decode", "kl"),
            per_example(),
            same_numbers(
                "the distortion in loss(x), summed over 784 pixels",
                _without_rate,
                _distortion,
                _images,
                mistakes={
                    name: (
                        functools.partial(_squared_error, of=of),
                        "This is the squared error, notebook 01's. The decoder gives logits, and the distortion of "
                        "logits is the binary cross-entropy.",
                    )
                    for name, of in (("squared error", torch.sigmoid), ("squared error of logits", torch.Tensor.clone))
                },
            ),
            same_numbers("the rate in loss(x)", _rate_alone, lambda x, model: model.kl(*model.encode(x)), _images),
            gradients_reach_all(),
            trains(below=200),
        ),
    ),
    Exercise(
        number="2.4",
        title="The multi-sample bound",
        minutes=8,
        solution=multi_sample_bound,
        hints=(
            "There are two averages in L_k: one of k weights, inside the log, and one of many such logs, outside. "
            "Which samples take part in which?",
            "Give the samples an axis more: from (S, B) to (S / k, k, B), one row for each group. Then exercise 2.1 "
            "along one of the axes, and a plain mean along another.",
            "log_w.unflatten(0, (-1, k)) makes the groups. Over axis 1 take logsumexp and subtract log k; over axis 0 "
            "take the mean.",
        ),
        cases=_groups,
        gradients=("log_w",),
        passed="k = 1 is the ELBO; with more samples the bound is tighter, and still a bound.",
        mistakes={
            "out of range": (lambda log_w, k: log_w.exp().unflatten(0, (-1, k)).mean(1).log().mean(0), _OUT_OF_RANGE),
            "k groups": (
                lambda log_w, k: (log_w.unflatten(0, (k, -1)).logsumexp(1) - math.log(len(log_w) // k)).mean(0),
                "There are k groups here; k samples in each were asked for. Which axis of the new shape is k long?",
            ),
            "every so many rows": (
                lambda log_w, k: (log_w.unflatten(0, (k, -1)).logsumexp(0) - math.log(k)).mean(0),
                "Each of your groups has k rows, but they stand S / k rows apart. The first k rows belong together: "
                "which of the two new axes comes first?",
            ),
            "mean of the logs": (
                lambda log_w, k: log_w.mean(0),
                "This is the mean of all logs, so k plays no part. Within a group the weights are averaged, not logs.",
            ),
            "one group of all": (
                lambda log_w, k: log_w.logsumexp(0) - math.log(len(log_w)),
                "All S samples were put into one log. How many logs should there be, if each has k samples?",
            ),
        },
    ),
)
