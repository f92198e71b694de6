"""The exercises of notebook 07: right answers pass, wrong ones are told apart."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import Bernoulli, Independent, Normal, kl_divergence

from course_utils.losses.terms import gaussian_kl
from course_utils.teaching.exercises import Attempt, NotYet, find, grade
from course_utils.teaching.exercises._build import judge_build
from course_utils.teaching.exercises.notebook_07 import CVAE, aggregate

# Models ---------------------------------------------------------------------------------------------------


class ByDistributions(nn.Module):
    """Another way to write it: torch.distributions, one layer for both heads, a sum of layers in place of a join."""

    def __init__(self, latent_dim, cond_dim=10, input_dim=784, hidden=400):
        super().__init__()
        self.up, self.up_c = nn.Linear(input_dim, hidden), nn.Linear(cond_dim, hidden, bias=False)
        self.heads = nn.Linear(hidden, 2 * latent_dim)
        self.down, self.down_c = nn.Linear(latent_dim, hidden), nn.Linear(cond_dim, hidden, bias=False)
        self.out = nn.Linear(hidden, input_dim)

    def encode(self, x, c):
        return self.heads(F.relu(self.up(x) + self.up_c(c))).chunk(2, dim=-1)

    def reparameterize(self, mu, log_var):
        return Normal(mu, log_var.div(2).exp()).rsample()

    def decode(self, z, c):
        return self.out(F.relu(self.down(z) + self.down_c(c)))

    def forward_full(self, x, c):
        mu, log_var = self.encode(x, c)
        return self.reparameterize(mu, log_var), mu, log_var

    def generate(self, x, c):
        z, mu, log_var = self.forward_full(x, c)
        return [x, torch.sigmoid(self.decode(z, c)), mu, log_var, z]

    def sample(self, c):
        return torch.sigmoid(self.decode(Normal(0.0, 1.0).sample((len(c), self.down.in_features)), c))

    def terms(self, x, c):
        mu, log_var = self.encode(x, c)
        p = Bernoulli(logits=self.decode(self.reparameterize(mu, log_var), c), validate_args=False)
        q = Normal(mu, log_var.div(2).exp())
        return -p.log_prob(x).sum(-1), kl_divergence(q, Normal(0.0, 1.0)).sum(-1)

    def loss(self, x, c):
        return sum(self.terms(x, c))


def other(**methods):
    """The course's CVAE with these methods exchanged."""
    return type("CVAE", (CVAE,), methods)


def with_terms(recon, kl):
    """Terms made by recon(logits, x) and kl(mu, log_var)."""

    def terms(self, x, c):
        z, mu, log_var = self.forward_full(x, c)
        return recon(self.decode(z, c), x), kl(mu, log_var)

    return other(terms=terms)


def nll(logits, x):
    return F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1)


def wider(self, latent_dim, cond_dim=10, input_dim=784, hidden=400):
    CVAE.__init__(self, latent_dim, cond_dim, input_dim, hidden + 1)


def one_for_all(self, c):
    return self.decode(torch.randn(1, self.latent_dim).expand(len(c), -1), c).sigmoid()


def of_another(self, c):
    return self.decode(torch.randn(len(c), self.latent_dim), c.flip(-1)).sigmoid()


def two_draws(self, x, c):
    mu, log_var = self.encode(x, c)
    return [x, self.decode(self.reparameterize(mu, log_var), c).sigmoid(), mu, log_var, self.forward_full(x, c)[0]]


def from_the_mean(self, x, c):
    z, mu, log_var = self.forward_full(x, c)
    return [x, self.decode(mu, c).sigmoid(), mu, log_var, z]


# Moments, KLs, styles -------------------------------------------------------------------------------------


def spread(mu):
    """The covariance of the centres alone, (L, L)."""
    return torch.atleast_2d(torch.cov(mu.T, correction=0))


def by_loops(mu, log_var):
    mean = sum(mu) / len(mu)
    parts = [torch.diag(v.exp()) + torch.outer(m - mean, m - mean) for m, v in zip(mu, log_var, strict=True)]
    return [mean, torch.stack(parts).mean(0)]


def kl_by_distributions(mu, log_var, mu_p, log_var_p):
    q, p = Normal(mu, (0.5 * log_var).exp()), Normal(mu_p, (0.5 * log_var_p).exp())
    return kl_divergence(Independent(q, 1), Independent(p, 1))


def kl_with_variances(mu, log_var, mu_p, log_var_p):
    var, var_p = log_var.exp(), log_var_p.exp()
    return ((var + (mu - mu_p) ** 2) / (2 * var_p) - 0.5 + 0.5 * (var_p / var).log()).sum(-1)


RIGHT = {
    "7.1": [ByDistributions],
    "7.2": [by_loops, lambda mu, lv: (mu.mean(0), spread(mu) + lv.exp().mean(0).diag())],
    "7.3": [kl_by_distributions, kl_with_variances, lambda m, v, n, w: gaussian_kl(m, v, prior=(n, w))],
    "7.4": [
        lambda z, m, v, n, w: (z - m) * torch.exp((w - v) / 2) + n,
        lambda z, m, v, n, w: torch.sqrt(w.exp() / v.exp()) * (z - m) + n,
    ],
}
WRONG = [
    ("7.1", "decode without the condition", other(decode=lambda self, z, c: CVAE.decode(self, z, 0 * c))),
    ("7.1", "encode without the condition", other(encode=lambda self, x, c: CVAE.encode(self, x, 0 * c))),
    ("7.1", "other layers", other(__init__=wider)),
    ("7.1", "shape of forward_full", other(forward_full=lambda self, x, c: self.encode(x, c))),
    ("7.1", "recons in generate: decoded from the mean", other(reparameterize=lambda self, mu, lv: mu)),
    (
        "7.1",
        "another order",
        other(generate=lambda self, x, c: [CVAE.generate(self, x, c)[i] for i in (0, 1, 3, 2, 4)]),
    ),
    ("7.1", "recons in generate: decoded from the mean", other(generate=from_the_mean)),
    ("7.1", "another draw", other(generate=two_draws)),
    ("7.1", "recon in terms: sigmoid twice", with_terms(lambda a, x: nll(a.sigmoid(), x), gaussian_kl)),
    ("7.1", "not one loss for each image", other(loss=lambda self, x, c: sum(self.terms(x, c)).mean())),
    ("7.1", "another latent_dim", other(sample=lambda self, c: self.decode(torch.randn(len(c), 20), c).sigmoid())),
    ("7.1", "samples are no pixels", other(sample=lambda self, c: self.decode(torch.randn(len(c), 20), c))),
    ("7.1", "all samples alike", other(sample=one_for_all)),
    (
        "7.1",
        "no samples of the prior",
        other(sample=lambda self, c: self.decode(torch.rand(len(c), self.latent_dim), c).sigmoid()),
    ),
    ("7.1", "another condition", other(sample=of_another)),
    ("7.1", "shape of terms", with_terms(lambda a, x: nll(a, x).mean(), gaussian_kl)),
    ("7.1", "recon in terms: times 1/784", with_terms(lambda a, x: nll(a, x) / 784, gaussian_kl)),
    ("7.1", "kl in terms: sign", with_terms(nll, lambda mu, lv: -gaussian_kl(mu, lv))),
    ("7.1", "loss without self.terms", other(loss=lambda self, x, c: sum(CVAE.terms(self, x, c)))),
    ("7.1", "loss is not the sum", other(loss=lambda self, x, c: -sum(self.terms(x, c)))),
    ("7.2", "only the means", lambda m, v: (m.mean(0), spread(m))),
    ("7.2", "divided by N − 1", lambda m, v: (m.mean(0), torch.atleast_2d(torch.cov(m.T)) + v.exp().mean(0).diag())),
    ("7.2", "diagonal only", lambda m, v: (m.mean(0), (spread(m).diag() + v.exp().mean(0)).diag())),
    ("7.2", "other parts", lambda m, v: by_loops(m, v)[1]),
    ("7.3", "not summed over L", lambda m, v, n, w: kl_divergence(Normal(m, (v / 2).exp()), Normal(n, (w / 2).exp()))),
    ("7.3", "log_var and log_var_p exchanged", lambda m, v, n, w: kl_by_distributions(n, w, m, v)),
    ("7.3", "0 and 0 in place of mu_p and log_var_p", lambda m, v, n, w: gaussian_kl(m, v)),
    ("7.3", "the distance in other units", lambda m, v, n, w: gaussian_kl(m - n, v - w)),
    (
        "7.3",
        "the distance divided by σ_p",
        lambda m, v, n, w: kl_by_distributions((m - n) / (w / 4).exp(), v - w, 0 * n, 0 * w),
    ),
    ("7.3", "no gradient", lambda m, v, n, w: gaussian_kl(m, v, prior=(n.detach(), w))),
    ("7.4", "shift only", lambda z, m, v, n, w: n + (z - m)),
    (
        "7.4",
        "−log_var_old and −log_var_new in place of log_var_old and log_var_new",
        lambda z, m, v, n, w: n + (z - m) * (v.exp() / w.exp()).sqrt(),
    ),
    (
        "7.4",
        "2·log_var_old and 2·log_var_new in place of log_var_old and log_var_new",
        lambda z, m, v, n, w: n + w.exp() * (z - m) / v.exp(),
    ),
]


def test_the_aggregated_moments_are_those_of_draws():
    torch.manual_seed(0)
    mu, log_var = torch.randn(7, 2), torch.randn(7, 2)
    which = torch.randint(7, (200_000,))
    z = mu[which] + (0.5 * log_var[which]).exp() * torch.randn(200_000, 2)
    mean, covariance = aggregate(mu, log_var)
    torch.testing.assert_close(z.mean(0), mean, rtol=0, atol=0.02)
    torch.testing.assert_close(torch.cov(z.T), covariance, rtol=0.02, atol=0.02)


def test_what_no_check_foresaw_is_told_and_shows_no_traceback():
    generates_nothing = other(forward_full=lambda self, x, c: [t.tolist() for t in CVAE.forward_full(self, x, c)])
    assert grade("7.1", generates_nothing).status in ("not yet", "raised")
    exercise = replace(find("7.1"), checks=(lambda build: build.found["nothing"],))
    with pytest.raises(NotYet, match="cannot go on with what your code gave: KeyError"):
        judge_build(exercise, Attempt(CVAE, exercise.parameters))


def test_a_step_that_breaks_the_way_back_is_told_as_the_learners_error():
    def kl_to_prior(mu, log_var, mu_p, log_var_p):
        ratio = (log_var - log_var_p).exp()
        spread = ratio - 1 - (log_var - log_var_p)
        ratio -= 1  # exp keeps its result for the way back
        return 0.5 * ((mu - mu_p) ** 2 / log_var_p.exp() + spread).sum(1)

    result = grade("7.3", kl_to_prior)
    assert result.status == "raised" and "inplace operation" in result.message
