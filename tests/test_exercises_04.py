"""The exercises of notebook 04: right answers pass, wrong ones are told apart."""

import math

import torch
from torch.distributions import Independent, Normal, kl_divergence

from course_utils.losses.terms import gaussian_kl
from course_utils.teaching.exercises.notebook_02 import MyVAE
from course_utils.teaching.exercises.notebook_04 import RateVAE


def standard(mu):
    return Independent(Normal(torch.zeros_like(mu), torch.ones_like(mu)), 1)


def posterior(mu, log_var):
    return Independent(Normal(mu, (0.5 * log_var).exp()), 1)


def sampled(mu, log_var, eps):
    z = mu + torch.exp(log_var / 2) * eps
    return (posterior(mu, log_var).log_prob(z) - standard(mu).log_prob(z)).mean(0)


def balance_by_newton(m, lam):
    """The minimum found by Newton's method: the cost is convex in mu and in log sigma^2."""
    mu, v = torch.zeros_like(m), torch.zeros_like(m)
    for _ in range(50):
        mu = mu - (mu + lam * (mu - m)) / (1 + lam)
        v = v - ((1 + lam) * v.exp() - 1) / ((1 + lam) * v.exp())
    return mu, v


class ByLibrary(RateVAE):
    def kl(self, mu, log_var):
        return kl_divergence(posterior(mu, log_var), standard(mu))

    def loss(self, x):
        return sum(self.terms(x))

    def nats(self, x):
        with torch.no_grad():
            return torch.stack([kl.mean() for kl in nats(*self.encode(x)).unbind(1)])

    def traverse(self, x, i, values):
        mu, _ = self.encode(x)
        others = [mu[:, :i].expand(len(values), -1), values[:, None], mu[:, i + 1 :].expand(len(values), -1)]
        return torch.sigmoid(self.decode(torch.cat(others, dim=1)))


RIGHT = {
    "4.1": [
        sampled,
        lambda mu, lv, eps: torch.stack([sampled(mu, lv, e[None]) for e in eps]).sum(0) / len(eps),
        lambda mu, lv, eps: 0.5 * ((mu + (lv / 2).exp() * eps) ** 2 - lv - eps**2).sum(2).mean(0),
    ],
    "4.2": [
        gaussian_kl,
        lambda mu, lv: kl_divergence(posterior(mu, lv), standard(mu)),
        lambda mu, lv: -0.5 * torch.sum(1 + lv - mu.pow(2) - lv.exp(), dim=-1),
    ],
    "4.3": [balance_by_newton, lambda m, lam: [m - m / (1 + lam), (1 / (1 + lam)).log()]],
    "4.4": [
        lambda mu, lv: sum(0.5 * (m**2 + v.exp() - 1 - v) for m, v in zip(mu, lv, strict=True)) / len(mu),
        lambda mu, lv: 0.5 * (mu.square() + lv.expm1() - lv).mean(0),
    ],
    "4.5": [ByLibrary],
}


def nats(mu, log_var):
    """The KL of each example and dimension, (B, L)."""
    return kl_divergence(Normal(mu, (log_var / 2).exp(), validate_args=False), Normal(0.0, 1.0))


def log_ratio(mu, log_var, z):
    """log q(z) - log p(z) by dimension, (K, B, L)."""
    return Normal(mu, (log_var / 2).exp()).log_prob(z) - Normal(0.0, 1.0).log_prob(z)


def samples(mu, log_var, eps):
    return torch.stack([torch.addcmul(mu, log_var.exp().sqrt(), e) for e in eps])


def another_gaussian_throughout(mu, log_var, eps):
    q, p = Normal(mu, log_var.exp()), Normal(0.0, 1.0)
    z = q.loc + q.scale * eps
    return (q.log_prob(z) - p.log_prob(z)).sum(2).mean(0)


def density_of_another_width(mu, log_var, eps):
    z = samples(mu, log_var, eps)
    return (Normal(mu, log_var.exp()).log_prob(z) - Normal(0.0, 1.0).log_prob(z)).sum(2).mean(0)


def prior_at_the_noise(mu, log_var, eps):
    q = Normal(mu, (log_var / 2).exp())
    return (q.log_prob(samples(mu, log_var, eps)) - Normal(0.0, 1.0).log_prob(eps)).sum(2).mean(0)


def changed(**methods):
    return type("Model", (RateVAE,), methods)


terms = RateVAE.terms


def moved(self, x, i, values):
    z = self.encode(x)[0].repeat(len(values), 1)
    z[:, i] += values
    return self.decode(z).sigmoid()


def drawn(self, x, i, values):
    mu, log_var = (t.expand(len(values), -1) for t in self.encode(x))
    z = self.reparameterize(mu, log_var)
    z[:, i] = values
    return torch.sigmoid(self.decode(z))


def weighted(mu, lv, eps, axes=()):
    q, p, z = posterior(mu, lv).base_dist, Normal(0.0, 1.0), samples(mu, lv, eps)
    weight = q.log_prob(z).sum(axes, keepdim=True).exp() if axes else q.log_prob(z).exp()
    return (weight * (q.log_prob(z) - p.log_prob(z))).sum(2).mean(0)


# Written as a learner would.
WRONG = [
    ("4.1", "closed form", lambda mu, lv, eps: gaussian_kl(mu, lv)),
    ("4.1", "sign", lambda mu, lv, eps: -log_ratio(mu, lv, samples(mu, lv, eps)).mean(0).sum(1)),
    ("4.1", "times K", lambda mu, lv, eps: log_ratio(mu, lv, samples(mu, lv, eps)).sum((0, 2))),
    ("4.1", "samples spread by the variance", lambda mu, lv, e: log_ratio(mu, lv, mu + lv.exp() * e).sum(2).mean(0)),
    ("4.1", "2·log_var in place of log_var", another_gaussian_throughout),
    ("4.1", "samples from the prior", lambda mu, lv, eps: log_ratio(mu, lv, eps).sum(2).mean(0)),
    ("4.1", "log q with the variance", density_of_another_width),
    ("4.1", "log p at eps", prior_at_the_noise),
    ("4.1", "weighted by q", weighted),
    ("4.1", "weighted by the whole q", lambda mu, lv, eps: weighted(mu, lv, eps, (2,))),
    ("4.1", "no gradient", lambda mu, lv, eps: sampled(mu, lv, eps).detach()),
    ("4.1", "differs from call to call", lambda mu, lv, eps: sampled(mu, lv, torch.randn_like(eps))),
    ("4.2", "sign", lambda mu, lv: 0.5 * torch.sum(1 + lv - mu.pow(2) - lv.exp(), dim=1)),
    ("4.2", "log(log_var) in place of log_var", lambda mu, lv: nats(mu, lv.log()).sum(1)),
    ("4.2", "2·log_var in place of log_var", lambda mu, lv: nats(mu, 2 * lv).sum(1)),
    ("4.2", "times 1/L", lambda mu, lv: nats(mu, lv).mean(1)),
    ("4.2", "another axis", lambda mu, lv: nats(mu, lv).sum(0)),
    ("4.2", "summed over B, times 1/(B·L)", lambda mu, lv: nats(mu, lv).mean()),
    ("4.2", "times 2", lambda mu, lv: 2 * nats(mu, lv).sum(1)),
    ("4.2", "plus ½·L", lambda mu, lv: 0.5 * (mu**2 + lv.exp() - lv).sum(1)),
    ("4.2", "plus ½·(L − 1)", lambda mu, lv: 0.5 * ((mu**2 + lv.exp() - lv).sum(1) - 1)),
    ("4.2", "not summed over L", nats),
    ("4.2", "right numbers, wrong shape", lambda mu, lv: gaussian_kl(mu, lv)[:, None]),
    ("4.2", "changes its input", lambda mu, lv: 0.5 * (mu.pow_(2) + lv.exp() - 1 - lv).sum(1)),
    ("4.2", "no gradient", lambda mu, lv: gaussian_kl(mu, lv.detach())),
    ("4.2", "a power missing", lambda mu, lv: 0.5 * (mu + lv.exp() - 1 - lv).sum(1)),
    ("4.2", "the other direction", lambda mu, lv: kl_divergence(standard(mu), posterior(mu, lv))),
    ("4.3", "exp", lambda m, lam: (m - m / (1 + lam), 1 / (1 + lam))),
    ("4.3", "times ½", lambda m, lam: (m - m / (1 + lam), -0.5 * torch.log1p(lam))),
    ("4.3", "sign", lambda m, lam: (m - m / (1 + lam), torch.log1p(lam))),
    ("4.3", "m itself", lambda m, lam: (m, -torch.log1p(lam))),
    ("4.3", "no KL", lambda m, lam: (m, (1 / lam).log())),
    ("4.3", "times 1/lam", lambda m, lam: (m / (1 + lam), -torch.log1p(lam))),
    ("4.3", "parts exchanged", lambda m, lam: (-torch.log1p(lam), m - m / (1 + lam))),
    ("4.4", "times 1/log 2", lambda mu, lv: nats(mu, lv).mean(0) / math.log(2)),
    ("4.4", "times N", lambda mu, lv: nats(mu, lv).sum(0)),
    ("4.4", "another axis, times N/L", lambda mu, lv: nats(mu, lv).mean(1)),
    ("4.4", "summed over L", lambda mu, lv: gaussian_kl(mu, lv).mean()),
    ("4.4", "the means over the rows in place of all arguments", lambda mu, lv: nats(mu.mean(0), lv.mean(0))),
    ("4.5", "methods missing", MyVAE),
    ("4.5", "not a module", lambda latent_dim: RateVAE(latent_dim)),
    ("4.5", "kl(mu, log_var): times 1/L", changed(kl=lambda self, mu, lv: nats(mu, lv).mean(1))),
    ("4.5", "one noise for every call", changed(reparameterize=lambda self, mu, lv: mu + (0.5 * lv).exp())),
    ("4.5", "shape of terms", changed(terms=lambda self, x: [term.mean() for term in terms(self, x)])),
    ("4.5", "terms(x): times 1/784", changed(terms=lambda self, x: (terms(self, x)[0] / 784, terms(self, x)[1]))),
    ("4.5", "terms(x): times 1/784", changed(terms=lambda self, x: [term / 784 for term in terms(self, x)])),
    ("4.5", "terms(x): parts exchanged", changed(terms=lambda self, x: terms(self, x)[::-1])),
    ("4.5", "terms(x): sign", changed(terms=lambda self, x: (terms(self, x)[0], -terms(self, x)[1]))),
    ("4.5", "the rate in loss(x): always 0", changed(loss=lambda self, x: terms(self, x)[0])),
    ("4.5", "nats(x): times N", changed(nats=lambda self, x: nats(*self.encode(x)).sum(0))),
    ("4.5", "traverse(x, i, values): values added", changed(traverse=moved)),
    ("4.5", "traverse(x, i, values): z drawn", changed(traverse=drawn)),
]
