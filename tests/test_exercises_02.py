"""Answers to the exercises of notebook 02: right ones, written differently, and the mistakes that people make."""

import math

import torch
from torch import nn
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F

from course_utils.teaching.exercises import find

distortion_and_rate, MyVAE = (find(number).solution for number in ("2.2", "2.3"))


def terms_by_distributions(x, mu, log_var, W, b, sigma):
    rate = kl_divergence(Normal(mu, (0.5 * log_var).exp()), Normal(0.0, 1.0)).sum(1)
    at_mean = -Normal(mu @ W.T + b, sigma).log_prob(x).sum(1)
    return at_mean + torch.einsum("dl,bl->b", W**2, log_var.exp()) / (2 * sigma**2), rate


class ByChunks(nn.Module):
    """The same model with one layer for both heads, named differently, and the loss by torch.distributions."""

    def __init__(self, latent_dim):
        super().__init__()
        self.L = latent_dim
        self.fc1, self.fc2 = nn.Linear(784, 400), nn.Linear(400, 2 * latent_dim)
        self.fc3, self.fc4 = nn.Linear(latent_dim, 400), nn.Linear(400, 784)

    def encode(self, x):
        return self.fc2(torch.relu(self.fc1(x))).chunk(2, dim=1)

    def reparameterize(self, mu, log_var):
        return mu + torch.exp(log_var / 2) * torch.randn(mu.shape, dtype=mu.dtype)

    def decode(self, z):
        return self.fc4(F.relu(self.fc3(z)))

    def kl(self, mu, log_var):
        return kl_divergence(Normal(mu, (0.5 * log_var).exp()), Normal(0.0, 1.0)).sum(1)

    def loss(self, x):
        mu, log_var = self.encode(x)
        z = self.reparameterize(mu, log_var)
        return F.binary_cross_entropy(self.decode(z).sigmoid(), x, reduction="none").sum(-1) + self.kl(mu, log_var)

    @torch.no_grad()
    def sample(self, n):
        return torch.sigmoid(self.decode(torch.randn(n, self.L)))


RIGHT = {
    "2.1": [
        lambda log_w: log_w.logsumexp(0) - math.log(len(log_w)),
        lambda log_w: torch.logsumexp(log_w - math.log(log_w.shape[0]), dim=0),
        lambda log_w: (log_w - (m := log_w.max(0).values)).exp().mean(0).log() + m,
    ],
    "2.2": [terms_by_distributions],
    "2.3": [ByChunks],
    "2.4": [
        lambda log_w, k: (log_w.reshape(-1, k, log_w.shape[1]).logsumexp(1) - math.log(k)).mean(0),
        lambda log_w, k: torch.stack([group.logsumexp(0) for group in log_w.split(k)]).mean(0) - math.log(k),
    ],
}


def vae(**changes):
    """The course's VAE with some of its methods replaced."""
    return type("MyVAE", (MyVAE,), changes)


def vae_with_kl(reduce):
    return vae(kl=lambda self, mu, log_var: reduce(0.5 * (mu**2 + log_var.exp() - 1 - log_var)))


def vae_with_z(draw):
    return vae(reparameterize=lambda self, mu, log_var: draw(mu, (0.5 * log_var).exp()))


def vae_with_loss(reduce=lambda cross_entropy: cross_entropy.sum(1), beta=1, noise=True):
    def loss(self, x):
        mu, log_var = self.encode(x)
        logits = self.decode(self.reparameterize(mu, log_var) if noise else mu)
        distortion = F.binary_cross_entropy_with_logits(logits, x, reduction="none")
        return reduce(distortion) + beta * self.kl(mu, log_var)

    return vae(loss=loss)


def vae_with_distortion(of_pixels):
    def loss(self, x):
        mu, log_var = self.encode(x)
        return of_pixels(self.decode(self.reparameterize(mu, log_var)), x).sum(1) + self.kl(mu, log_var)

    return vae(loss=loss)


def with_layer(name, make):
    """The course's VAE where one attribute holds other layers."""

    class Model(MyVAE):
        def __init__(self, latent_dim):
            super().__init__(latent_dim)
            layers = make(latent_dim)
            setattr(self, name, nn.Sequential(*layers) if isinstance(layers, list) else layers)

    return Model


def vae_with_samples(draw):
    return vae(sample=lambda self, n: draw(self, torch.randn(n, self.latent_dim)))


def terms(change):
    """The right answer to 2.2, changed: of distortion, rate and D."""
    return lambda *case: change(*distortion_and_rate(*case), case[0].shape[1])


def z_at_its_mean(x, mu, log_var, W, b, sigma):
    return -Normal(mu @ W.T + b, sigma).log_prob(x).sum(1), distortion_and_rate(x, mu, log_var, W, b, sigma)[1]


def variances_as_they_are(x, mu, log_var, W, b, sigma):
    at_mean, rate = z_at_its_mean(x, mu, log_var, W, b, sigma)
    return at_mean + log_var.exp().sum(1) / (2 * sigma**2), rate


def without_the_constant(x, mu, log_var, W, b, sigma):
    squares = (x - b - mu @ W.T).square().sum(1) + log_var.exp() @ W.square().sum(0)
    return squares / (2 * sigma**2), distortion_and_rate(x, mu, log_var, W, b, sigma)[1]


def with_constant(times):
    """The distortion with the constant of a pixel taken some other number of times."""

    def terms(x, mu, log_var, W, b, sigma):
        squares, rate = without_the_constant(x, mu, log_var, W, b, sigma)
        return squares + times(mu) * 0.5 * math.log(2 * math.pi * sigma**2), rate

    return terms


def k_groups(log_w, k):
    return (log_w.unflatten(0, (k, -1)).logsumexp(1) - math.log(len(log_w) // k)).mean(0)


def rows_apart(log_w, k):
    return (log_w.reshape(k, len(log_w) // k, -1).logsumexp(0) - math.log(k)).mean(0)


def one_for_the_batch(log_w, k):
    return (log_w.unflatten(0, (-1, k)).logsumexp(1) - math.log(k)).mean()


SUM, LOG_2PI = "the distortion in loss(x), summed over 784 pixels", math.log(2 * math.pi)
WRONG = [
    ("2.1", "out of range", lambda log_w: log_w.exp().mean(0).log()),
    ("2.1", "one maximum for the batch", lambda log_w: (log_w - log_w.max()).exp().mean(0).log() + log_w.max()),
    ("2.1", "mean of the logs", lambda log_w: torch.mean(log_w, 0)),
    ("2.1", "plus log S", lambda log_w: log_w.logsumexp(0)),
    ("2.1", "plus a number of each case", lambda log_w: log_w.logsumexp(0) - len(log_w)),
    (
        "2.1",
        "the transpose of log_w in place of log_w",
        lambda log_w: log_w.logsumexp(1) - math.log(log_w.shape[1]),
    ),
    ("2.1", "the log divided", lambda log_w: ((log_w - (m := log_w.amax(0))).exp().sum(0).log() + m) / len(log_w)),
    ("2.1", "a term missing", lambda log_w: log_w.amax(0)),
    ("2.1", "a term missing", lambda log_w: (log_w - log_w.amax(0)).exp().mean(0).log()),
    ("2.2", "z kept at its mean", z_at_its_mean),
    ("2.2", "variances as they are", variances_as_they_are),
    ("2.2", "minus D/2 · log(2π · sigma²)", without_the_constant),
    ("2.2", "2·log_var in place of log_var", lambda *case: distortion_and_rate(*case[:2], 2 * case[2], *case[3:])),
    ("2.2", "√sigma in place of sigma", lambda *case: distortion_and_rate(*case[:5], case[5] ** 0.5)),
    ("2.2", "0 in place of b", lambda *case: distortion_and_rate(*case[:4], 0 * case[4], case[5])),
    ("2.2", "the constant once", with_constant(lambda mu: 1)),
    ("2.2", "the constant L times", with_constant(lambda mu: mu.shape[1])),
    ("2.2", "minus ½ log 2π · D", terms(lambda d, r, D: (d - 0.5 * D * LOG_2PI, r))),
    ("2.2", "times 1/D", terms(lambda d, r, D: (d / D, r))),
    ("2.2", "sign", terms(lambda d, r, D: (-d, r))),
    ("2.2", "times 2", terms(lambda d, r, D: (d, 2 * r))),
    ("2.2", "parts exchanged", terms(lambda d, r, D: (r, d))),
    ("2.3", "kl(mu, log_var): times 1/L", vae_with_kl(lambda kl: kl.mean(1))),
    ("2.3", "kl(mu, log_var): sign", vae_with_kl(lambda kl: -kl.sum(1))),
    ("2.3", "kl(mu, log_var): summed over B", vae_with_kl(torch.sum)),
    (
        "2.3",
        "reparameterize(mu, log_var): 2·log_var in place of log_var",
        vae_with_z(lambda mu, sigma: mu + sigma**2 * torch.randn_like(mu)),
    ),
    ("2.3", "reparameterize(mu, log_var): mu itself", vae_with_z(lambda mu, sigma: mu)),
    ("2.3", "no gradient through z", vae_with_z(lambda mu, sigma: torch.normal(mu, sigma).detach())),
    (
        "2.3",
        "one noise for every example",
        vae_with_z(lambda mu, sigma: mu + sigma * torch.randn(mu.shape[1], dtype=mu.dtype)),
    ),
    ("2.3", "no activation in encode", with_layer("hidden", lambda n: nn.Linear(784, 400))),
    ("2.3", "no activation in decode", with_layer("decoder", lambda n: [nn.Linear(n, 400), nn.Linear(400, 784)])),
    ("2.3", f"{SUM}: squared error", vae_with_distortion(lambda logits, x: (logits.sigmoid() - x) ** 2)),
    ("2.3", f"{SUM}: squared error of logits", vae_with_distortion(lambda logits, x: (logits - x) ** 2)),
    (
        "2.3",
        "no samples of the prior",
        vae(sample=lambda self, n: self.decode(torch.rand(n, self.to_mu.out_features)).sigmoid()),
    ),
    ("2.3", "another latent_dim", vae(sample=lambda self, n: self.decode(torch.randn(n, 20)).sigmoid())),
    ("2.3", "one head for both", vae(encode=lambda self, x: 2 * (self.to_mu(self.hidden(x)),))),
    (
        "2.3",
        "log_var is bounded",
        vae(encode=lambda self, x: (self.to_mu(h := self.hidden(x)), F.softplus(self.to_log_var(h)))),
    ),
    ("2.3", "a logit is bounded", vae(decode=lambda self, z: self.decoder(z).sigmoid())),
    ("2.3", f"{SUM}: times 1/784", vae_with_loss(lambda cross_entropy: cross_entropy.mean(1))),
    ("2.3", "depends on the rest of the batch", vae_with_loss(torch.sum)),
    ("2.3", "loss without self.kl", vae_with_loss(beta=0)),
    ("2.3", "the rate in loss(x): sign", vae_with_loss(beta=-1)),
    ("2.3", "loss without self.reparameterize", vae_with_loss(noise=False)),
    ("2.3", "samples are no pixels", vae_with_samples(lambda self, z: self.decode(z))),
    ("2.3", "samples are 0 or 1", vae_with_samples(lambda self, z: self.decode(z).sigmoid().bernoulli())),
    ("2.3", "samples are 0 or 1", vae_with_samples(lambda self, z: (self.decode(z) > 0).float())),
    ("2.3", "always the same samples", vae_with_samples(lambda self, z: self.decode(0 * z).sigmoid())),
    ("2.4", "out of range", lambda log_w, k: log_w.unflatten(0, (-1, k)).exp().mean(1).log().mean(0)),
    ("2.4", "k groups", k_groups),
    ("2.4", "mean of the logs", lambda log_w, k: torch.mean(log_w, 0)),
    ("2.4", "every so many rows", rows_apart),
    ("2.4", "one group of all", lambda log_w, k: log_w.logsumexp(0) - math.log(len(log_w))),
    ("2.4", "plus log k", lambda log_w, k: log_w.unflatten(0, (-1, k)).logsumexp(1).mean(0)),
    ("2.4", "summed over B, times 1/B", one_for_the_batch),
]
