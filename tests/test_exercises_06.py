"""The exercises of notebook 06: right answers pass, wrong ones are told apart."""

import math
from collections import Counter

import torch
import torch.nn.functional as F
from scipy import stats
from torch import nn
from torch.distributions import Bernoulli, Independent, Normal, kl_divergence

from course_utils.teaching.exercises.notebook_06 import VAE, training_step


class ByDistributions(VAE):
    """Another way to write it: torch.distributions, and one layer for both heads."""

    def __init__(self, latent_dim, hidden=400):
        nn.Module.__init__(self)
        self.latent_dim = latent_dim
        self.up, self.heads = nn.Linear(784, hidden), nn.Linear(hidden, 2 * latent_dim)
        self.down, self.out = nn.Linear(latent_dim, hidden), nn.Linear(hidden, 784)

    def encode(self, x):
        return self.heads(F.relu(self.up(x))).chunk(2, dim=-1)

    def reparameterize(self, mu, log_var):
        return Normal(mu, log_var.div(2).exp()).rsample()

    def decode(self, z):
        return self.out(F.relu(self.down(z)))

    def terms(self, x):
        mu, log_var = self.encode(x)
        p = Bernoulli(logits=self.decode(self.reparameterize(mu, log_var)), validate_args=False)
        q = Normal(mu, log_var.div(2).exp())
        return -p.log_prob(x).sum(-1), kl_divergence(q, Normal(0.0, 1.0)).sum(-1)


def other(**methods):
    """The course's VAE with these methods exchanged."""
    return type("VAE", (VAE,), methods)


def with_terms(recon, kl):
    """Terms made by recon(logits, x) and kl(mu, log_var)."""

    def terms(self, x):
        mu, log_var = self.encode(x)
        return recon(self.decode(self.reparameterize(mu, log_var)), x), kl(mu, log_var)

    return other(terms=terms)


def drawn(self, x):
    return self.decode(self.reparameterize(*self.encode(x))).sigmoid()


def loss_and_terms(model, optimizer, x):
    loss = model.loss(x).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return tuple(term.mean().item() for term in model.terms(x))


def nll(logits, x):
    return F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1)


def rate(mu, lv):
    return 0.5 * (mu**2 + lv.exp() - 1 - lv).sum(1)


def step(reduce=torch.mean, loss=lambda recon, kl: recon + kl, zero=True, move=True, again=False, give=float):
    def training_step(model, optimizer, x):
        terms = model.terms(x)
        if zero:
            optimizer.zero_grad()
        reduce(loss(*terms)).backward()
        if move:
            optimizer.step()
        terms = model.terms(x) if again else terms
        return tuple(give(term.mean().detach()) for term in terms)

    return training_step


def weights(recon, z, mu, lv):
    return -recon - 0.5 * z.square().sum(-1) + 0.5 * ((z - mu) ** 2 / lv.exp() + lv).sum(-1)


def by_distributions(recon, z, mu, lv):
    q = Independent(Normal(mu, (lv / 2).exp()), 1)
    p = Independent(Normal(torch.zeros_like(mu), torch.ones_like(mu)), 1)
    return (p.log_prob(z) - q.log_prob(z) - recon).logsumexp(0) - math.log(len(z))


def wrong_sigma(recon, z, mu, lv):
    log_q = Normal(mu, lv.exp()).log_prob(z).sum(-1)
    log_p = Normal(torch.zeros_like(mu), torch.ones_like(mu)).log_prob(z).sum(-1)
    return (log_p - log_q - recon).logsumexp(0) - math.log(len(z))


def near(z, codes, labels, k):
    return labels[(z[:, None] - codes).square().sum(-1).argsort(1)[:, :k]]


def agreement_by_loops(z, codes, labels, k=10, far=False):
    shares = []
    for point in z:
        order = sorted(range(len(codes)), key=lambda i: float((codes[i] - point).norm()), reverse=far)
        shares.append(Counter(labels[order[:k]].tolist()).most_common(1)[0][1] / k)
    return shares


RIGHT = {
    "6.1": [ByDistributions],
    "6.2": [step(), step(give=lambda mean: mean.item())],
    "6.3": [by_distributions, lambda r, z, m, v: weights(r, z, m, v).logsumexp(0) - torch.tensor(len(r)).log()],
    "6.5": [
        agreement_by_loops,
        lambda z, codes, labels, k=10: (
            (near(z, codes, labels, k) == near(z, codes, labels, k).mode(1, True)[0]).double().mean(1)
        ),
    ],
    "6.4": [
        lambda a, b: stats.ttest_rel(a, b).statistic,
        lambda a, b: math.sqrt(len(a)) * (a - b).mean() / (a - b).std(),
    ],
}
WRONG = [
    ("6.1", "other layers", other(__init__=lambda self, n, hidden=400: VAE.__init__(self, n, 500))),
    ("6.1", "log_var is bounded", other(encode=lambda *a: (VAE.encode(*a)[0], F.relu(VAE.encode(*a)[1])))),
    ("6.1", "one head for both", other(encode=lambda self, x: (self.to_mu(self.hidden(x)),) * 2)),
    ("6.1", "a logit is bounded", other(decode=lambda self, z: self.decoder(z).sigmoid())),
    ("6.1", "shape of terms", with_terms(lambda a, x: nll(a, x).mean(), rate)),
    ("6.1", "shape of terms", with_terms(nll, lambda mu, lv: rate(mu, lv).mean())),
    ("6.1", "recon in terms(x): times 1/784", with_terms(lambda a, x: nll(a, x) / 784, rate)),
    ("6.1", "kl in terms(x): times 0.05", with_terms(nll, lambda mu, lv: rate(mu, lv) / mu.shape[1])),
    ("6.1", "kl in terms(x): sign", with_terms(nll, lambda mu, lv: -rate(mu, lv))),
    ("6.1", "loss without self.terms", other(loss=lambda self, x: sum(VAE.terms(self, x)))),
    ("6.1", "loss is not the sum", other(loss=lambda self, x: -sum(self.terms(x)))),
    ("6.1", "not one loss for each image", other(loss=lambda self, x: sum(self.terms(x)).mean())),
    ("6.1", "recon in terms(x): sigmoid twice", with_terms(lambda a, x: nll(a.sigmoid(), x), rate)),
    ("6.1", "reconstruct(x): noise in reconstruct", other(reconstruct=drawn)),
    ("6.1", "another latent_dim", other(sample=lambda self, n: self.decode(torch.randn(n, 20)).sigmoid())),
    ("6.1", "samples are no pixels", other(sample=lambda self, n: self.decode(torch.randn(n, 20)))),
    (
        "6.1",
        "no samples of the prior",
        other(sample=lambda self, n: self.decode(torch.rand(n, self.latent_dim)).sigmoid()),
    ),
    ("6.2", "gradients pile up", step(zero=False)),
    ("6.2", "summed over the batch", step(reduce=torch.sum)),
    ("6.2", "the rate is left out", step(loss=lambda recon, kl: recon)),
    ("6.2", "the rate is subtracted", step(loss=lambda recon, kl: recon - kl)),
    ("6.2", "no step", step(move=False)),
    ("6.2", "terms called again", step(again=True)),
    ("6.2", "terms called again", loss_and_terms),
    ("6.2", "no two numbers", step(give=lambda mean: mean)),
    ("6.2", "no two numbers", lambda *a: sum(training_step(*a))),
    ("6.2", "other numbers", lambda *a: training_step(*a)[::-1]),
    ("6.3", "mean of the logs", lambda *a: weights(*a).mean(0)),
    ("6.3", "closed-form KL", lambda r, z, m, v: (-r).logsumexp(0) - math.log(len(r)) - rate(m, v)),
    ("6.3", "out of range", lambda *a: weights(*a).exp().mean(0).log()),
    ("6.3", "2·log_var in place of log_var", wrong_sigma),
    ("6.5", "the farthest", lambda z, c, y, k=10: agreement_by_loops(z, c, y, k, far=True)),
    ("6.5", "how many labels", lambda z, c, y, k=10: [len(row.unique()) for row in near(z, c, y, k)]),
    ("6.5", "times k", lambda z, c, y, k=10: [Counter(row.tolist()).most_common(1)[0][1] for row in near(z, c, y, k)]),
    ("6.4", "not paired", lambda a, b: stats.ttest_ind(a, b, equal_var=False).statistic),
    ("6.4", "standard deviation in place of its error", lambda a, b: (a - b).mean() / (a - b).std()),
    ("6.4", "sign", lambda a, b: stats.ttest_rel(b, a).statistic),
]
