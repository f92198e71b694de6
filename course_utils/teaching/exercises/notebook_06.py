"""The exercises of notebook 06, the VAE."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ._build import (
    Build,
    as_many_weights,
    fixed_noise,
    goes_through,
    gradients_reach_all,
    has,
    per_example,
    same_numbers,
    samples,
    samples_the_prior,
    shapes,
    trains,
)
from ._exercise import Draw, Exercise
from .notebook_02 import _OUT_OF_RANGE, _codes, _images, _rate, _unbounded, _z


class VAE(nn.Module):
    """784 - hidden - latent_dim and back, ReLU, a Bernoulli for each pixel, prior N(0, I)."""

    def __init__(self, latent_dim, hidden=400):
        super().__init__()
        self.latent_dim = latent_dim
        self.hidden = nn.Sequential(nn.Linear(784, hidden), nn.ReLU())
        self.to_mu, self.to_log_var = nn.Linear(hidden, latent_dim), nn.Linear(hidden, latent_dim)
        self.decoder = nn.Sequential(nn.Linear(latent_dim, hidden), nn.ReLU(), nn.Linear(hidden, 784))

    def encode(self, x):  # (B, 784) -> mu, log_var, (B, L) each
        h = self.hidden(x)
        return self.to_mu(h), self.to_log_var(h)

    def reparameterize(self, mu, log_var):  # -> z (B, L), drawn from q(z|x)
        return mu + (0.5 * log_var).exp() * torch.randn_like(mu)

    def decode(self, z):  # (B, L) -> logits (B, 784)
        return self.decoder(z)

    def terms(self, x):  # -> recon, kl: distortion and rate, (B,) each, nats
        mu, log_var = self.encode(x)
        logits = self.decode(self.reparameterize(mu, log_var))
        recon = F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1)
        return recon, 0.5 * (mu**2 + log_var.exp() - 1 - log_var).sum(1)

    def loss(self, x):  # -> -ELBO of each image (B,), the sum of its terms
        recon, kl = self.terms(x)
        return recon + kl

    def reconstruct(self, x):  # -> pixels (B, 784) decoded from mu, no noise
        return self.decode(self.encode(x)[0]).sigmoid()

    def sample(self, n):  # -> pixels (n, 784) decoded from the prior
        z = torch.randn(n, self.latent_dim, device=next(self.parameters()).device)
        return self.decode(z).sigmoid()


def training_step(model, optimizer, x):
    """Take one step that lowers the batch mean of distortion + rate, and return both means as numbers.

    x:      (B, 784), one batch
    result: two floats, mean distortion and mean rate of the batch, as they were before the step
    """
    recon, kl = model.terms(x)
    loss = (recon + kl).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return recon.mean().item(), kl.mean().item()


def importance_bound(recon, z, mu, log_var):
    """Return the log of the mean of K importance weights p(x|z) p(z) / q(z|x) of each image, in nats.

    recon:       (K, B), -log p(x|z) of each sample
    z:           (K, B, L), the samples, drawn from q(z|x) = N(mu, diag sigma^2); p(z) = N(0, I)
    mu, log_var: (B, L), log_var is log sigma^2
    result:      (B,)
    """
    log_p = -0.5 * z.square().sum(dim=-1)  # log 2 pi stands in both densities, and cancels
    log_q = -0.5 * ((z - mu).square() / log_var.exp() + log_var).sum(dim=-1)
    log_weights = -recon + log_p - log_q  # (K, B)
    return log_weights.logsumexp(dim=0) - math.log(len(recon))


def paired_t(a, b):
    """Return the mean of the differences a - b in units of its standard error.

    a, b:   (S,), two measurements for each of S seeds
    result: one number; the standard error is std / sqrt(S), with S - 1 in the variance
    """
    difference = a - b
    return difference.mean() / (difference.std() / math.sqrt(len(difference)))


def agreement(z, codes, labels, k=10):
    """Return how far the k codes nearest to each z agree: the largest share of them with one and the same label.

    z:      (n, L), the codes that are asked about
    codes:  (N, L), codes of images; labels: (N,), whole numbers from 0 to 9
    result: (n,), from 1/k to 1
    """
    nearest = torch.cdist(z, codes).topk(k, largest=False).indices  # (n, k)
    votes = F.one_hot(labels[nearest], 10).sum(dim=1)  # (n, 10)
    return votes.amax(dim=1) / k


# What a VAE does -----------------------------------------------------------------------------------------


SIGMOID_TWICE = (
    "Pixels went into the cross-entropy *with logits*. It applies a sigmoid of its own, so here are two. Give it what "
    "decode gives."
)


def _recon(x, model):
    with fixed_noise():
        logits = model.decode(model.reparameterize(*model.encode(x)))
    return F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1)


def _recon_of_pixels(x, model):
    return F.binary_cross_entropy_with_logits(_with_noise(x, model), x, reduction="none").sum(1)


def _kl(x, model):
    return _rate(*model.encode(x))


def _reconstruction(x, model):
    return model.decode(model.encode(x)[0]).sigmoid()


def _with_noise(x, model):
    with fixed_noise():
        return model.decode(model.reparameterize(*model.encode(x))).sigmoid()


_NOISE = {
    "noise in reconstruct": (
        _with_noise,
        "This is decoded from a drawn z, so two calls give two pictures. A reconstruction is decoded from μ itself.",
    )
}


# What a step of training does ----------------------------------------------------------------------------


class _Probe(nn.Module):
    """Weights w in place of a model: distortion is the squared distance of an image to w, the rate |w + 1|^2 / 4."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.calls = nn.Parameter(torch.zeros(3)), 0

    def terms(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Distortion and rate of each image, (B,) each."""
        self.calls += 1
        return (x - self.w).square().sum(1), 0.25 * (self.w + 1).square().sum().expand(len(x))

    def loss(self, x: Tensor) -> Tensor:
        """Their sum, (B,); like your VAE's it asks terms."""
        return sum(self.terms(x))


_BATCH = torch.tensor([[0.9, 0.2, 0.4], [0.3, 0.8, 0.1], [0.6, 0.5, 0.7], [0.2, 0.1, 0.9], [0.5, 0.9, 0.3]])


def _step(loss=lambda recon, kl: (recon + kl).mean(), zero=True):
    def training_step(model, optimizer, x):
        if zero:
            optimizer.zero_grad()
        loss(*model.terms(x)).backward()
        optimizer.step()

    return training_step


_STEPS = {  # what the weights after two steps may be in place of the right ones
    "gradients pile up": (_step(zero=False), "The gradients of the first step are still there at the second."),
    "summed over the batch": (_step(lambda r, k: (r + k).sum()), "The gradient is B times that of the batch mean."),
    "the rate is left out": (_step(lambda r, k: r.mean()), "The steps lower the distortion alone."),
    "the rate is subtracted": (_step(lambda r, k: (r - k).mean()), "The steps lower distortion minus rate."),
    "uphill": (_step(lambda r, k: -(r + k).mean()), "The steps raise the loss. What should fall is −ELBO."),
}


def _two_steps(build: Build) -> None:
    def after(step: Any) -> tuple[Tensor, _Probe, Any]:
        model = _Probe()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        first, _ = (step(model, optimizer, _BATCH) for _ in range(2))
        return model.w.detach(), model, first

    w, model, first = after(lambda *args: build.run(build.answer, *args, doing="in training_step"))
    build.require(w.any(), "no step", "The weights are where they were. Which line moves them?")
    for name, (step, words) in _STEPS.items():
        build.require(not torch.allclose(w, after(step)[0]), name, words)
    words = (
        f"After two steps the weights of a small model are {w.tolist()}, and should be {after(_step())[0].tolist()}."
    )
    build.require(torch.allclose(w, after(_step())[0]), "another step", words)
    words = (
        f"model.terms was called {model.calls} times in two steps. Each call draws new noise, "
        "and model.loss is such a call: once a step is enough."
    )
    build.require(model.calls == 2, "terms called again", words)
    kinds = [type(value).__name__ for value in (first if isinstance(first, tuple | list) else [first])]
    words = f"Two floats should come back, mean distortion and mean rate; came {kinds}. A tensor keeps its graph alive."
    build.require(kinds == ["float", "float"], "no two numbers", words)
    means = torch.stack([term.mean() for term in _Probe().terms(_BATCH)])
    words = f"The first step returned {first[0]:.4g} and {first[1]:.4g}; the means before it were {means.tolist()}."
    build.require(torch.allclose(torch.tensor(first), means), "other numbers", words)


def _log_weights(recon, z, mu, log_var):
    return -recon - 0.5 * z.square().sum(-1) + 0.5 * ((z - mu) ** 2 / log_var.exp() + log_var).sum(-1)


def _weighted(draw: Draw) -> list[tuple]:
    sizes = ((2, 1, 3), (3, 5, 1), (5, 4, 2))  # K, B, L
    return [(draw.uniform(K, B, high=3), draw(K, B, L), draw(B, L), draw(B, L)) for K, B, L in sizes] + [
        (draw.uniform(4, 3, high=3) + 1200, draw(4, 3, 5), draw(3, 5), draw(3, 5))
    ]


def _near(z, codes, labels, k):
    return labels[torch.cdist(z, codes).topk(k, largest=False).indices].tolist()


def _share_of_one(labels):
    return F.one_hot(labels, 10).sum(1).amax(1) / labels.shape[1]


EXERCISES = (
    Exercise(
        number="6.1",
        title="The whole VAE",
        minutes=20,
        solution=VAE,
        hints=(
            "Begin with your first VAE. New are the argument hidden, terms with both parts apart, and reconstruct. "
            "Write terms first; loss is one line behind it.",
            "Which methods need noise? Only reparameterize and sample. Which need a sigmoid? Those that give pixels, "
            "reconstruct and sample. And terms calls encode, reparameterize and decode, all through self.",
            "terms: z from self.reparameterize; logits from self.decode; cross-entropy with logits, reduction='none', "
            "summed over axis 1; the KL of notebook 04. sample: torch.randn(n, latent_dim), decoded, then the sigmoid.",
        ),
        passed="Gradients reach every weight; after {steps} steps −ELBO is {loss:.0f} nats.",
        checks=(
            has("encode", "reparameterize", "decode", "terms", "loss", "reconstruct", "sample"),
            shapes("encode", [(7, 784)], (7, 20), (7, 20)),
            shapes("decode", [(7, 5)], (7, 784), args=(5, 64)),
            as_many_weights(VAE, (20,), (5, 64), because="one hidden layer a side, shared by mu and log_var"),
            _unbounded,
            shapes("terms", [(7, 784)], (7,), (7,)),
            same_numbers("reparameterize(mu, log_var)", "reparameterize", _z, _codes),
            same_numbers(
                "recon in terms(x)",
                lambda model, x: model.terms(x)[0],
                _recon,
                _images,
                axes="x: (B, D)",
                mistakes={"sigmoid twice": (_recon_of_pixels, SIGMOID_TWICE)},
            ),
            same_numbers("kl in terms(x)", lambda model, x: model.terms(x)[1], _kl, _images, axes="x: (B, D)"),
            per_example(),
            goes_through("reparameterize", "decode", "terms"),
            same_numbers("reconstruct(x)", "reconstruct", _reconstruction, _images, mistakes=_NOISE),
            samples(),
            samples_the_prior(),
            gradients_reach_all(lambda model, x: model.terms(x)[0]),
            trains(below=200, above=60),
        ),
    ),
    Exercise(
        number="6.2",
        title="One step of its training",
        minutes=6,
        solution=training_step,
        hints=(
            "Your loop of notebook 01 holds this step. New is that two numbers are reported, from one call of terms.",
            "The loss is made of both terms and averaged over the batch; old gradients go; new ones come; a step.",
            "recon, kl = model.terms(x). The mean of their sum; zero_grad, backward, step; both means with .item().",
        ),
        passed="Both terms in the loss, each reported, and one draw of the noise.",
        checks=(_two_steps,),
    ),
    Exercise(
        number="6.3",
        title="A tighter bound",
        minutes=10,
        solution=importance_bound,
        hints=(
            "Work with log weights, (K, B): three log-densities, two added, one subtracted. Where is recon, and with "
            "which sign? Only at the end comes an average over K.",
            "log N(z; μ, σ²) is −½ ((z − μ)²/σ² + log σ² + log 2π) per dimension, summed over dimensions. The constant "
            "cancels between p(z) and q(z|x). The log of a mean of exponentials was exercise 2.1.",
            "log p(z): minus half the sum of z². log q: minus half the sum of (z − mu)²/exp(log_var) + log_var. The "
            "log weight is −recon + log p − log q; then logsumexp over axis 0, minus the log of K.",
        ),
        cases=_weighted,
        gradients=("recon", "z", "mu", "log_var"),
        passed="K = 1 is one draw of the ELBO; more samples come closer to log p(x).",
        mistakes={
            "mean of the logs": (
                lambda *case: _log_weights(*case).mean(0),
                "This is the mean of the log weights: an estimate of the ELBO from K samples, and no tighter. On which "
                "side of the log does the average stand?",
            ),
            "closed-form KL": (
                lambda recon, z, mu, lv: (-recon).logsumexp(0) - math.log(len(recon)) - _rate(mu, lv),
                "The KL in closed form is an average over q. A weight needs the densities at this very z: an average "
                "of them cannot be put inside the log.",
            ),
            "out of range": (lambda *case: _log_weights(*case).exp().mean(0).log(), _OUT_OF_RANGE),
        },
    ),
    Exercise(
        number="6.4",
        title="A difference in units of its error",
        minutes=5,
        solution=paired_t,
        hints=(
            "Each seed has two measurements. Take their difference first: what both share, such as the part of the "
            "data, is gone from it.",
            "The standard error of a mean of S numbers is their standard deviation over the root of S.",
            "d = a - b; then d.mean() / (d.std() / S ** 0.5), with S = len(d).",
        ),
        cases=lambda draw: [(draw(n) + shift, draw(n)) for n, shift in ((3, 1), (5, -1), (8, 0))],
        any_type=True,
        passed="What the two share from seed to seed cancels in the differences.",
        mistakes={
            "not paired": (
                lambda a, b: (a.mean() - b.mean()) / math.sqrt((a.var() + b.var()) / len(a)),
                "This is the test for two independent groups. Here both numbers of a seed belong together: what is "
                "the standard deviation of their differences?",
            ),
            "standard deviation in place of its error": (
                lambda a, b: (a - b).mean() / (a - b).std(),
                "The mean is measured in standard deviations of a single difference. A mean of S of them is steadier.",
            ),
        },
    ),
    Exercise(
        number="6.5",
        title="Do the neighbours agree?",
        minutes=6,
        solution=agreement,
        hints=(
            "Two questions, one after the other: which k codes are nearest to each z, and how often does the most "
            "frequent label occur among theirs?",
            "torch.cdist gives all distances, (n, N), and topk with largest=False the places of the k smallest. Those "
            "places pick labels: (n, k). How do you count each label within a row?",
            "Labels made one-hot and summed over the k neighbours are counts, (n, 10). The largest count of each row, "
            "divided by k.",
        ),
        cases=lambda draw: [
            (draw(n, L, decimals=3), draw(N, L, decimals=3), draw.integers(0, 3, N), k)
            for n, L, N, k in ((2, 2, 6, 3), (5, 3, 20, 5), (4, 1, 30, 7))
        ],
        any_type=True,
        passed="1 where all neighbours show one digit, and less where digits meet.",
        mistakes={
            "the farthest": (
                lambda z, codes, labels, k: _share_of_one(labels[torch.cdist(z, codes).topk(k).indices]),
                "These are the k codes that lie farthest away: topk gives the largest unless told otherwise.",
            ),
            "how many labels": (
                lambda z, codes, labels, k: torch.tensor([len(set(row)) for row in _near(z, codes, labels, k)]),
                "This counts the different labels among the neighbours. Asked for is how many carry the same one.",
            ),
        },
    ),
)
