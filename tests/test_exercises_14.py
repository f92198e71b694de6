"""The exercises of notebook 14: right answers pass, wrong ones are told apart."""

import torch
from torch import nn
from torch.distributions import Bernoulli, Normal, kl_divergence

from course_utils.losses import gaussian_kl
from course_utils.models import precision_weighted
from course_utils.teaching.exercises.notebook_06 import VAE
from course_utils.teaching.exercises.notebook_14 import TwoLevelVAE, merge, sampled_rate

# Draws ------------------------------------------------------------------------------------------------------


def by_einsum(eps_2, eps_1, W, log_var_p, t_2, t_1):
    z_2 = eps_2 * t_2
    return z_2, torch.einsum("lm,bm->bl", W, z_2) + eps_1 * log_var_p.exp().sqrt() * t_1


def with_one(eps_2, eps_1, W, log_var_p, t_2, t_1):
    return by_einsum(eps_2, eps_1, W, log_var_p, t_2, t_2)


def all_cooled(eps_2, eps_1, W, log_var_p, t_2, t_1):
    z_2, z_1 = by_einsum(eps_2, eps_1, W, log_var_p, t_2, 1.0)
    return z_2, t_1 * z_1


def plain_noise(eps_2, eps_1, W, log_var_p, t_2, t_1):
    return t_2 * eps_2, eps_1 * t_1


# Rates ------------------------------------------------------------------------------------------------------


def normal(mu, log_var):
    return Normal(mu, (log_var / 2).exp())


def by_distributions(z, mu, log_var, mu_p, log_var_p):
    return (normal(mu, log_var).log_prob(z) - normal(mu_p, log_var_p).log_prob(z)).sum(-1)


def kl(mu, log_var, mu_p, log_var_p):
    return kl_divergence(normal(mu, log_var), normal(mu_p, log_var_p)).sum(-1)


# Merge ------------------------------------------------------------------------------------------------------


def of_the_package(*four):
    return precision_weighted(four[:2], four[2:])


def by_variances(m, v, n, w):
    a, b = v.exp(), w.exp()
    return (m * b + n * a) / (a + b), (a * b / (a + b)).log()


def added(m, v, n, w):
    return by_variances(m, v, n, w)[0], (v.exp() + w.exp()).log()


def added_and_weighing(m, v, n, w):
    a, b = v.exp(), w.exp()
    return (m * a + n * b) / (a + b), (a + b).log()


def nearer_to_the_vague(m, v, n, w):
    return added_and_weighing(m, v, n, w)[0], by_variances(m, v, n, w)[1]


# The build --------------------------------------------------------------------------------------------------


class ByDistributions(VAE):
    """Written in another way: torch.distributions, one network with two heads each."""

    def __init__(self, latent_dim, top_dim, hidden=400):
        super().__init__(latent_dim, hidden=hidden)
        self.top_dim = top_dim
        self.above, self.below = nn.Linear(latent_dim, 64), nn.Linear(top_dim, 64)
        self.to_q = nn.ModuleList(nn.Linear(64, top_dim) for _ in range(2))
        self.to_p = nn.ModuleList(nn.Linear(64, latent_dim) for _ in range(2))

    def encode_top(self, z_1):
        h = self.above(z_1).tanh()
        return self.to_q[0](h), self.to_q[1](h)

    def prior(self, z_2):
        h = self.below(z_2).tanh()
        return self.to_p[0](h), self.to_p[1](h)

    def levels(self, x):
        q_1 = normal(*self.encode(x))
        z_1 = self.reparameterize(q_1.loc, 2 * q_1.scale.log())
        q_2 = normal(*self.encode_top(z_1))
        z_2 = self.reparameterize(q_2.loc, 2 * q_2.scale.log())
        log_px = Bernoulli(logits=self.decode(z_1), validate_args=False).log_prob(x).sum(-1)
        lower = (q_1.log_prob(z_1) - normal(*self.prior(z_2)).log_prob(z_1)).sum(-1)
        return -log_px, lower, kl_divergence(q_2, Normal(0.0, 1.0)).sum(-1)

    def terms(self, x):
        recon, *rates = self.levels(x)
        return recon, sum(rates)

    def draw(self, z_2):
        mu, log_var = self.prior(z_2)
        return self.decode(mu + (log_var / 2).exp() * torch.randn_like(mu)).sigmoid()

    def sample(self, n):
        return self.draw(torch.randn(n, self.top_dim))


def other(**methods):
    """The course's TwoLevelVAE with these methods exchanged."""
    return type("TwoLevelVAE", (TwoLevelVAE,), methods)


def lower(price):
    """The lower level pays price(z_1, q_1, p_1) instead."""

    def levels(self, x):
        mu, log_var = self.encode(x)
        z_1 = self.reparameterize(mu, log_var)
        mu_2, log_var_2 = self.encode_top(z_1)
        prior = self.prior(self.reparameterize(mu_2, log_var_2))
        recon = nn.functional.binary_cross_entropy_with_logits(self.decode(z_1), x, reduction="none").sum(1)
        return recon, price(z_1, (mu, log_var), prior), gaussian_kl(mu_2, log_var_2)

    return other(levels=levels)


def cut_off(self, x):
    recon, kl_1, kl_2 = self.levels(x)
    return recon, kl_1.clamp(min=0) + kl_2


def with_levels(top_of="draw", prior_at="draw", decoded="draw"):
    def levels(self, x):
        mu, log_var = self.encode(x)
        z_1 = self.reparameterize(mu, log_var)
        mu_2, log_var_2 = self.encode_top({"draw": z_1, "mean": mu, "detached": z_1.detach()}[top_of])
        z_2 = self.reparameterize(mu_2, log_var_2)
        prior = self.prior(z_2 if prior_at == "draw" else mu_2)
        logits = self.decode(z_1 if decoded == "draw" else self.reparameterize(*prior))
        recon = nn.functional.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1)
        return recon, sampled_rate(z_1, mu, log_var, *prior), gaussian_kl(mu_2, log_var_2)

    return other(levels=levels)


def zeros(p):
    return torch.zeros_like(p[0]), torch.zeros_like(p[1])


RIGHT = {
    "14.1": [by_einsum],
    "14.2": [by_distributions],
    "14.3": [ByDistributions],
    "14.4": [of_the_package, by_variances],
    "14.5": [lambda *four: kl(*merge(*four), *four[2:])],
    "14.6": [lambda d, e, m, v: kl(m + d, v + e, m, v), lambda d, e, m, v: gaussian_kl(m + d, v + e, prior=(m, v))],
}
LEVEL = "kl_1 of levels(x): "
WRONG = [
    ("14.1", "one temperature for all", with_one),
    ("14.1", "the mean is cooled", all_cooled),
    ("14.1", "the top is ignored", plain_noise),
    ("14.2", "N(0, I) for the conditional prior", lambda z, m, v, n, w: by_distributions(z, m, v, 0 * n, 0 * w)),
    ("14.2", "cut off at 0", lambda *five: by_distributions(*five).relu()),
    ("14.2", "the closed form", lambda z, *four: kl(*four)),
    ("14.2", "sign", lambda *five: -by_distributions(*five)),
    ("14.3", LEVEL + "N(0, I) for the conditional prior", lower(lambda z, q, p: sampled_rate(z, *q, *zeros(p)))),
    ("14.3", LEVEL + "N(0, I), and in closed form", lower(lambda z, q, p: gaussian_kl(*q))),
    ("14.3", LEVEL + "the closed form", lower(lambda z, q, p: gaussian_kl(*q, prior=p))),
    ("14.3", LEVEL + "sign", lower(lambda z, q, p: -sampled_rate(z, *q, *p))),
    ("14.3", "terms are not the levels", other(terms=lambda s, x: s.levels(x)[:2])),
    ("14.3", "terms are not the levels", other(terms=cut_off)),
    ("14.3", "no gradient through encode_top", other(encode_top=lambda s, z: TwoLevelVAE.encode_top(s, z.detach()))),
    ("14.3", "no gradient through prior", other(prior=lambda s, z: [p.detach() for p in TwoLevelVAE.prior(s, z)])),
    ("14.3", "another gradient", with_levels(top_of="detached")),
    ("14.3", LEVEL + "the prior at the mean of the top", with_levels(prior_at="mean")),
    ("14.3", "kl_2 of levels(x): the top sees the mean", with_levels(top_of="mean")),
    ("14.3", "recon of levels(x): a draw of the prior is decoded", with_levels(decoded="prior")),
    ("14.3", "draw gives no pixels", other(draw=lambda s, z: s.decode(s.reparameterize(*s.prior(z))))),
    ("14.3", "the mean in place of a draw", other(draw=lambda s, z: s.decode(s.prior(z)[0]).sigmoid())),
    (
        "14.3",
        "the top is ignored",
        other(draw=lambda s, z: s.decode(torch.randn(len(z), s.latent_dim)).sigmoid()),
    ),
    (
        "14.3",
        "z_1 from another distribution",
        other(draw=lambda s, z: s.decode(s.reparameterize(s.prior(z)[0], 2 * s.prior(z)[1])).sigmoid()),
    ),
    (
        "14.3",
        "sample does not begin at the top",
        other(sample=lambda s, n: s.decode(torch.randn(n, s.latent_dim)).sigmoid()),
    ),
    ("14.4", "variances added", added),
    ("14.4", "variances added, and weighing", added_and_weighing),
    ("14.4", "weighed by variances", nearer_to_the_vague),
    ("14.4", "a plain average of the means", lambda m, v, n, w: ((m + n) / 2, by_variances(m, v, n, w)[1])),
    ("14.5", "to the features' own Gaussian", lambda *four: kl(*by_variances(*four), *four[:2])),
    ("14.5", "the features' Gaussian for q", kl),
    ("14.5", "the other way round", lambda m, v, n, w: kl(n, w, *by_variances(m, v, n, w))),
    ("14.5", "to N(0, I)", lambda m, v, n, w: kl(*by_variances(m, v, n, w), 0 * n, 0 * w)),
    ("14.5", "times 2", lambda *four: 2 * kl(*by_variances(*four), *four[2:])),
    ("14.6", "the prior's width is missing", lambda d, e, m, v: gaussian_kl(d, e)),
    ("14.6", "moved from N(0, I)", kl),
    ("14.6", "to N(0, I)", lambda d, e, m, v: gaussian_kl(m + d, v + e)),
    ("14.6", "the logs multiplied", lambda d, e, m, v: kl(m + d, v * e, m, v)),
    ("14.6", "the other way round", lambda d, e, m, v: kl(m, v, m + d, v + e)),
    ("14.6", "times 2", lambda d, e, m, v: 2 * kl(m + d, v + e, m, v)),
]


def test_the_merge_of_equal_opinions_is_twice_as_certain():
    mu, log_var = merge(*(torch.full((1, 1), v) for v in (3.0, 0.0, 3.0, 0.0)))
    torch.testing.assert_close(mu, torch.full((1, 1), 3.0))
    torch.testing.assert_close(log_var.exp(), torch.full((1, 1), 0.5))
