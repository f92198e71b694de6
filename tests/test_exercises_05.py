"""The exercises of notebook 05: right answers written differently, and the mistakes that people make."""

import math

import torch
import torch.nn.functional as F
from torch.distributions import Bernoulli, Normal

from course_utils.teaching.exercises.notebook_02 import MyVAE
from course_utils.teaching.exercises.notebook_05 import AnyLossVAE


def nll_by_loops(mean, x, sigma):
    pixel = [[((a - b) / sigma) ** 2 / 2 for a, b in zip(*rows, strict=True)] for rows in zip(mean, x, strict=True)]
    constant = len(x[0]) * (torch.as_tensor(sigma).log() + 0.5 * math.log(2 * math.pi))
    return torch.stack([sum(row) + constant for row in pixel])


def nll_with(log_part, D=None):
    """The loss with another part of log sigma."""

    def nll(mean, x, sigma):
        constant = (D or x.shape[1]) / 2 * math.log(2 * math.pi)
        return constant + log_part(x, sigma) + (x - mean).square().sum(1) / (2 * sigma**2)

    return nll


def bce_by_cases(logits, x):
    return torch.where(logits > 0, logits * (1 - x), -logits * x).sum(1) + F.softplus(-logits.abs()).sum(1)


class Afresh(AnyLossVAE):
    """The same, with everything written out."""

    def loss(self, x):
        mu, log_var = self.encode(x)
        z = self.reparameterize(mu, log_var)
        return self.kl(mu, log_var) * self.kl_weight + self.nll(self.decode(z), x)


class ForgetsTheWeight(AnyLossVAE):
    def loss(self, x):
        mu, log_var = self.encode(x)
        return self.nll(self.decode(self.reparameterize(mu, log_var)), x) + self.kl(mu, log_var)


class KeepsBce(AnyLossVAE):
    def loss(self, x):
        return MyVAE.loss(self, x)


class ExchangesTheArguments(AnyLossVAE):
    def loss(self, x):
        mu, log_var = self.encode(x)
        decoded = self.decode(self.reparameterize(mu, log_var))
        return self.nll(x, decoded) + self.kl_weight * self.kl(mu, log_var)


class WeighsBoth(AnyLossVAE):
    def loss(self, x):
        mu, log_var = self.encode(x)
        decoded = self.decode(self.reparameterize(mu, log_var))
        return self.kl_weight * (self.nll(decoded, x) + self.kl(mu, log_var))


class Averages(AnyLossVAE):
    def loss(self, x):
        mu, log_var = self.encode(x)
        decoded = self.decode(self.reparameterize(mu, log_var))
        return (self.nll(decoded, x) + self.kl_weight * self.kl(mu, log_var)).mean()


class SquashesFirst(AnyLossVAE):
    def loss(self, x):
        mu, log_var = self.encode(x)
        pixels = self.decode(self.reparameterize(mu, log_var)).sigmoid()
        return self.nll(pixels, x) + self.kl_weight * self.kl(mu, log_var)


class HidesTheLikelihood(AnyLossVAE):
    def __init__(self, latent_dim, nll, kl_weight=1.0):
        MyVAE.__init__(self, latent_dim)
        self.parts, self.kl_weight = (nll,), kl_weight

    def loss(self, x):
        mu, log_var = self.encode(x)
        return self.parts[0](self.decode(self.reparameterize(mu, log_var)), x) + self.kl_weight * self.kl(mu, log_var)


RIGHT = {
    "5.1": [
        lambda mean, x, sigma: -Normal(mean, sigma).log_prob(x).sum(1),
        lambda mean, x, sigma: F.gaussian_nll_loss(
            mean, x, torch.ones_like(x) * sigma**2, full=True, reduction="none"
        ).sum(1),
        nll_by_loops,
    ],
    "5.2": [
        lambda mean, x: F.mse_loss(mean, x) ** 0.5,
        lambda mean, x: ((mean - x).square().sum() / x.numel()).sqrt(),
        lambda mean, x: torch.linalg.norm(x - mean) / math.sqrt(x.numel()),
    ],
    "5.3": [
        lambda d, n, pm, h, w, km: (w / n if km else w) * (d if pm else 1) / (1 if h else 2),
        lambda d, n, pm, h, w, km: torch.tensor(w * (d**pm) * (2.0 ** (h - 1)) / n**km),
    ],
    "5.4": [Afresh],
    "5.5": [
        lambda x: F.binary_cross_entropy(x, x, reduction="none").sum(1),
        lambda x: Bernoulli(probs=x, validate_args=False).entropy().sum(1),
        lambda x: (torch.special.entr(x) + torch.special.entr(1 - x)).sum(1),
        lambda x: F.binary_cross_entropy(x.clamp(1e-6, 1 - 1e-6), x, reduction="none").sum(1),
    ],
    "5.6": [
        bce_by_cases,
        lambda logits, x: torch.logaddexp(logits, torch.zeros_like(logits)).sum(1) - (logits * x).sum(1),
    ],
}

WRONG = [
    ("5.1", "√sigma in place of sigma", lambda m, x, s: -Normal(m, s**0.5).log_prob(x).sum(1)),
    ("5.1", "sigma² in place of sigma", lambda m, x, s: -Normal(m, s**2).log_prob(x).sum(1)),
    ("5.1", "sign", lambda m, x, s: Normal(m, s).log_prob(x).sum(1)),
    ("5.1", "times 1/D", lambda m, x, s: -Normal(m, s).log_prob(x).mean(1)),
    ("5.1", "summed over B", lambda m, x, s: -Normal(m, s).log_prob(x).sum()),
    ("5.1", "wrong gradient in sigma", nll_with(lambda x, sigma: x.shape[1] * math.log(sigma))),
    ("5.1", "the notebook's D", nll_with(lambda x, sigma: 784 * torch.as_tensor(sigma).log(), D=784)),
    ("5.2", "the notebook's D", lambda mean, x: (((x - mean) ** 2).sum(1).mean() / 784).sqrt()),
    ("5.2", "a σ for each image", lambda mean, x: (x - mean).pow(2).mean(1).sqrt().mean()),
    ("5.2", "square", lambda mean, x: F.mse_loss(mean, x)),
    ("5.2", "times √D", lambda mean, x: (mean - x).square().sum(1).mean().sqrt()),
    ("5.2", "the mean removed", lambda mean, x: torch.std(x - mean, correction=0)),
    ("5.2", "the mean removed, by N − 1", lambda mean, x: torch.std(mean - x)),
    ("5.2", "no gradient", lambda mean, x: F.mse_loss(mean, x).detach() ** 0.5),
    ("5.3", "the ½ forgotten", lambda d, n, pm, h, w, km: w / n**km * d**pm / 2),
    (
        "5.3",
        "a loss with another ½",
        lambda d, n, pm, h, w, km: (w / n if km else w) * (d if pm else 1) * (2 if h else 1),
    ),
    ("5.3", "the ½ taken as 2", lambda d, n, pm, h, w, km: w / n**km * d**pm * (0.5 if h else 1) / 2),
    ("5.4", "something else in the loss", ForgetsTheWeight),
    ("5.4", "something else in the loss", KeepsBce),
    ("5.4", "loss(x): the arguments of nll exchanged", ExchangesTheArguments),
    ("5.4", "loss(x): the weight on both terms", WeighsBoth),
    ("5.4", "loss(x): summed over B, times 1/B", Averages),
    ("5.4", "loss(x): a sigmoid in front of nll", SquashesFirst),
    ("5.4", "nll is not kept", HidesTheLikelihood),
    ("5.5", "not finite", lambda x: -(x * x.log() + (1 - x) * (1 - x).log()).sum(1)),
    (
        "5.5",
        "right on another case",
        lambda x: F.binary_cross_entropy(x.clamp(1e-3, 0.999), x, reduction="none").sum(1),
    ),
    ("5.5", "a term missing", lambda x: torch.special.entr(x).sum(1)),
    ("5.5", "times 1/log 2", lambda x: Bernoulli(probs=x, validate_args=False).entropy().sum(1) / math.log(2)),
    (
        "5.6",
        "from probabilities",
        lambda logit, x: F.binary_cross_entropy(torch.sigmoid(logit), x, reduction="none").sum(1),
    ),
    ("5.6", "PyTorch's own", lambda a, x: F.binary_cross_entropy_with_logits(a, x, reduction="none").sum(1)),
    ("5.6", "PyTorch's own", lambda a, x: -Bernoulli(logits=a, validate_args=False).log_prob(x).sum(1)),
    ("5.6", "right on another case", lambda logit, x: (torch.log1p(logit.exp()) - logit * x).sum(1)),
    ("5.6", "−x in place of x", lambda logit, x: (F.softplus(logit) + logit * x).sum(1)),
]
