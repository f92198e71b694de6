"""The exercises of notebook 04, the analytic KL."""

import functools
import math

import torch
from torch.nn import functional as F

from ._build import fixed_noise, gradients_reach_all, has, new_noise, per_example, same_numbers, shapes, trains
from ._exercise import Exercise
from .notebook_02 import MyVAE, _images
from .notebook_03 import reparameterize


def kl_from_samples(mu, log_var, eps):
    """Estimate KL(N(mu, diag sigma^2) || N(0, I)) of each example from samples: the mean of log q(z) - log p(z).

    mu, log_var: (B, L), log_var is log sigma^2
    eps:         (K, B, L), noise from N(0, I): K samples for each example
    result:      (B,), in nats
    """
    z = mu + (0.5 * log_var).exp() * eps  # (K, B, L), samples of q
    log_q = -0.5 * (math.log(2 * math.pi) + log_var + eps**2)  # (z - mu) / sigma is eps
    log_p = -0.5 * (math.log(2 * math.pi) + z**2)
    return (log_q - log_p).sum(dim=-1).mean(dim=0)


def gaussian_kl(mu, log_var):
    """Return KL(N(mu, diag sigma^2) || N(0, I)) of each example, in nats.

    mu, log_var: (B, L), log_var is log sigma^2
    result:      (B,)
    """
    per_dimension = 0.5 * (mu**2 + log_var.exp() - 1 - log_var)  # (B, L)
    return per_dimension.sum(dim=1)


def balance(m, lam):
    """Return the mu and log_var of q = N(mu, sigma^2) where KL(q || N(0, 1)) + lam/2 E_q[(z - m)^2] is smallest.

    m, lam: (N,), lam is positive
    result: a pair (mu, log_var), (N,) each
    """
    mu = lam / (1 + lam) * m
    log_var = -torch.log1p(lam)  # sigma^2 is 1 / (1 + lam)
    return mu, log_var


def kl_per_dimension(mu, log_var):
    """Return the mean KL to N(0, 1) of each latent dimension over the examples, in nats.

    mu, log_var: (N, L), log_var is log sigma^2
    result:      (L,)
    """
    nats = 0.5 * (mu**2 + log_var.exp() - 1 - log_var)  # (N, L)
    return nats.mean(dim=0)


class RateVAE(MyVAE):
    """MyVAE with your sampler and your KL. It tells its terms and its dimensions apart."""

    def reparameterize(self, mu, log_var):  # -> z (B, L), by exercise 3.3
        return reparameterize(mu, log_var)

    def kl(self, mu, log_var):  # -> the rate of each image (B,), by exercise 4.2
        return gaussian_kl(mu, log_var)

    def terms(self, x):  # (B, 784) -> distortion (B,) and rate (B,), nats
        mu, log_var = self.encode(x)
        logits = self.decode(self.reparameterize(mu, log_var))
        distortion = F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1)
        return distortion, self.kl(mu, log_var)

    def loss(self, x):  # (B, 784) -> (B,), the sum of the two
        distortion, rate = self.terms(x)
        return distortion + rate

    def nats(self, x):  # (N, 784) -> (L,), the mean rate of each dimension: 4.4
        return kl_per_dimension(*self.encode(x))

    def traverse(self, x, i, values):  # x (1, 784), values (V,) -> pixels (V, 784)
        z = self.encode(x)[0].repeat(len(values), 1)  # at the mean of q(z|x)
        z[:, i] = values
        return self.decode(z).sigmoid()


def _log_ratio(mu, log_var, eps, weigh):
    """The estimate from samples with a weight at each, made of log q by dimension."""
    z = mu + (0.5 * log_var).exp() * eps
    log_q, log_p = (-0.5 * (math.log(2 * math.pi) + square) for square in (log_var + eps**2, z**2))
    return (weigh(log_q) * (log_q - log_p)).sum(-1).mean(0)


def _traverse(x, i, values, model, added=False, drawn=False):
    mu, log_var = (numbers.repeat(len(values), 1) for numbers in model.encode(x))
    z = mu + drawn * (0.5 * log_var).exp() * fixed_noise.eps(mu)
    z[:, i] = values + added * z[:, i]
    return model.decode(z).sigmoid()


def _posteriors(*shapes: tuple[int, ...]):
    return lambda draw: [(draw(*shape), draw(*shape)) for shape in shapes]


def _terms(x, model):
    mu, log_var = model.encode(x)
    logits = model.decode(mu + (0.5 * log_var).exp() * fixed_noise.eps(mu))
    distortion = F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1)
    return {"distortion": distortion, "rate": gaussian_kl(mu, log_var)}


EXERCISES = (
    Exercise(
        number="4.1",
        title="The KL from samples",
        minutes=8,
        solution=kl_from_samples,
        hints=(
            "Three steps: make the samples z out of the noise, evaluate both log-densities at z, and average their "
            "difference. Which axes are summed, and which one is averaged?",
            "log N(z; μ, σ²) is −½ (log 2π + log σ² + ((z − μ)/σ)²) per dimension. Dimensions are independent, so "
            "their log-densities add; samples are averaged.",
            "z = μ + σ·eps with σ = exp(½ log_var). log q has log_var and eps² in its bracket, log p only z². The "
            "constant log 2π cancels. Sum over the last axis, then mean over the first.",
        ),
        cases=lambda draw: [(draw(b, n), draw(b, n), draw(k, b, n)) for k, b, n in ((3, 1, 2), (4, 3, 5), (2, 2, 3))],
        gradients=("mu", "log_var"),
        passed="An unbiased estimate of the KL, for any pair of densities that can be evaluated.",
        mistakes={
            "closed form": (
                lambda mu, lv, eps: gaussian_kl(mu, lv),
                "This is the exact KL, by the line of notebook 02. It is the right number to compare with; here it "
                "should be estimated from the samples alone.",
            ),
            **{
                name: (
                    function,
                    "The density q multiplies the log of the ratio, and then samples of q are averaged: so q counts "
                    "twice. Samples that come from q need no weights.",
                )
                for name, function in (
                    ("weighted by q", lambda *case: _log_ratio(*case, weigh=lambda log_q: log_q.exp())),
                    ("weighted by the whole q", lambda *case: _log_ratio(*case, weigh=lambda q: q.sum(-1, True).exp())),
                )
            },
            "samples from the prior": (
                lambda mu, lv, eps: 0.5 * (eps**2 - lv - (eps - mu) ** 2 / lv.exp()).sum(-1).mean(0),
                "The log-densities were compared at z = eps, samples of p. Under which of the two is the expectation "
                "in KL(q ‖ p)?",
            ),
            "samples spread by the variance": (
                lambda mu, lv, eps: 0.5 * ((mu + lv.exp() * eps) ** 2 - lv - lv.exp() * eps**2).sum(-1).mean(0),
                "Both densities are right, and the samples are not from q: they were spread by σ², not by σ. What is "
                "σ in terms of log σ²?",
            ),
            "log q with the variance": (
                lambda mu, lv, e: 0.5 * ((mu + (0.5 * lv).exp() * e) ** 2 - 2 * lv - e**2 / lv.exp()).sum(-1).mean(0),
                "The samples are right, and so is log p. log q was evaluated with σ² where σ belongs.",
            ),
            "log p at eps": (
                lambda mu, lv, eps: -0.5 * lv.sum(-1),  # the eps² of both cancel
                "log p was evaluated at eps. At which point are both log-densities needed?",
            ),
        },
    ),
    Exercise(
        number="4.2",
        title="The KL of each example",
        minutes=8,
        solution=gaussian_kl,
        hints=(
            "Subtract line 4 from line 3 on paper, for one dimension. Then apply what you found to whole tensors; "
            "it has the shape of mu. Which axis holds the dimensions of one example?",
            "The network gives log σ², and the formula wants σ² and log σ². Which of the two is an exponential away, "
            "and which one is there already? Then add up over the latent dimensions; the examples stay apart.",
            "Per dimension: half of μ² plus σ² minus 1 minus log σ², where σ² is `log_var.exp()` and log σ² is "
            "`log_var` itself. Then `.sum(dim=1)`.",
        ),
        cases=lambda draw: [*_posteriors((2, 3), (5, 2), (1, 4))(draw), (draw(3, 4), draw.uniform(3, 4, low=0.1))],
        gradients=("mu", "log_var"),
        passed="Summed over dimensions, one number per example, never negative.",
        mistakes={
            "the other direction": (
                lambda mu, lv: (0.5 * ((1 + mu**2) / lv.exp() - 1 + lv)).sum(1),
                "This is KL(p ‖ q), the right formula for the other direction. Under which of the two is the "
                "expectation taken?",
            ),
        },
    ),
    Exercise(
        number="4.3",
        title="The balance",
        minutes=10,
        solution=balance,
        hints=(
            "E_q[(z − m)²] depends on μ and on σ²: write z − m as (z − μ) + (μ − m), and square. Then the whole cost "
            "is a formula in μ and v = log σ².",
            "The cost is ½ (μ² + eᵛ − 1 − v) + ½ lam ((μ − m)² + eᵛ). Where it is smallest, its derivative with "
            "respect to μ is 0, and so is the one with respect to v.",
            "μ + lam (μ − m) = 0, and ½ (eᵛ − 1) + ½ lam eᵛ = 0. Solve the first for μ, and the second for v: it asks "
            "for a logarithm.",
        ),
        cases=lambda draw: [(draw(n), draw.uniform(n, low=0.1, high=4)) for n in (3, 5, 1)],
        parts=("mu", "log_var"),
        passed="The mean gives way a little, and the width is finite: that is what the KL is for.",
        mistakes={
            "no KL": (
                lambda m, lam: (m, -lam.log()),
                "The mean sits at m, as if only the other cost counted. What does the KL want the mean to be?",
            ),
        },
    ),
    Exercise(
        number="4.4",
        title="Nats per latent dimension",
        minutes=3,
        solution=kl_per_dimension,
        hints=(
            "You know the KL of one dimension of one example. Here the dimensions stay apart: what happens to the "
            "examples?",
            "Exercise 4.2 had a table (B, L) just before its last step. Which of its two axes is to disappear now, and "
            "is it summed or averaged?",
            "Take the formula per dimension, (N, L), and then the mean over axis 0.",
        ),
        cases=_posteriors((3, 2), (2, 5), (4, 3)),
        passed="The rate, split by dimension: its sum over dimensions is the mean of exercise 4.2.",
    ),
    Exercise(
        number="4.5",
        title="A VAE that tells what it pays for",
        minutes=10,
        solution=RateVAE,
        hints=(
            "Three of the methods are one line each: they call a function that you have. terms has the four steps of "
            "MyVAE's loss, and returns two things where loss returned their sum.",
            "traverse: the code of one image is the mean of its q, (1, L). Make V equal rows of it, overwrite one "
            "column with the V values, and decode. What turns a logit into a pixel?",
            "terms returns distortion, self.kl(mu, log_var), and loss adds what self.terms(x) gives. In traverse, "
            "z = self.encode(x)[0].repeat(len(values), 1), then z[:, i] = values.",
        ),
        passed="The two terms add up, and after {steps} steps −ELBO is {loss:.0f} nats.",
        checks=(
            has("reparameterize", "kl", "terms", "loss", "nats", "traverse"),
            same_numbers(
                "kl(mu, log_var)",
                "kl",
                gaussian_kl,
                _posteriors((2, 3), (5, 2), (1, 4)),
                axes="mu, log_var: (B, L)",
            ),
            new_noise,
            shapes("terms", [(7, 784)], (7,), (7,)),
            same_numbers("terms(x)", "terms", _terms, _images),
            same_numbers(
                "the rate in loss(x)",
                lambda m, x: m.loss(x) - m.terms(x)[0],
                lambda x, model: _terms(x, model)["rate"],
                _images,
            ),
            same_numbers(
                "nats(x)",
                "nats",
                lambda x, model: kl_per_dimension(*model.encode(x)),
                _images,
                axes="x: (N, 784)",
            ),
            same_numbers(
                "traverse(x, i, values)",
                "traverse",
                lambda x, i, values, model: RateVAE.traverse(model, x, i, values),
                lambda draw: [(draw.uniform(1, 784), i, draw(n)) for i, n in ((0, 3), (7, 2), (19, 5))],
                mistakes={
                    "values added": (
                        functools.partial(_traverse, added=True),
                        "The values were added to number i of the code. Number i shall be the values themselves.",
                    ),
                    "z drawn": (
                        functools.partial(_traverse, drawn=True),
                        "The other numbers of the code were drawn from q(z|x). They shall stay at their means.",
                    ),
                },
            ),
            per_example(),
            gradients_reach_all(),
            trains(below=200, above=60),
        ),
    ),
)
