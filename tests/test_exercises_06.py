"""The exercises of notebook 06: right answers pass, wrong ones are told apart."""

import math

import torch
import torch.nn.functional as F
from scipy.stats import norm
from torch.distributions import Bernoulli, Independent, Normal, kl_divergence

from course_utils.evaluation import active_units
from course_utils.exercises import find
from course_utils.generation import spherical
from course_utils.losses import bernoulli_nll, gaussian_kl
from course_utils.models import VAE

# Right answers, written differently --------------------------------------------------------------------


def elbo_by_the_package(logits, x, mu, log_var):
    return bernoulli_nll(logits, x) + gaussian_kl(mu, log_var)


def elbo_by_softplus(logits, x, mu, log_var):
    pixels = (x * F.softplus(-logits) + (1 - x) * F.softplus(logits)).reshape(len(x), -1)
    return pixels.sum(-1) - 0.5 * (1 + log_var - mu.pow(2) - log_var.exp()).sum(-1)


def elbo_by_distributions(logits, x, mu, log_var):
    nll = -Bernoulli(logits=logits, validate_args=False).log_prob(x).flatten(1).sum(1)
    q, p = Normal(mu, (0.5 * log_var).exp()), Normal(torch.zeros_like(mu), torch.ones_like(mu))
    return nll + kl_divergence(q, p).sum(1)


def weight_by_distributions(log_px, z, mu, log_var):
    prior = Independent(Normal(torch.zeros_like(z), torch.ones_like(z)), 1)
    return log_px + prior.log_prob(z) - Independent(Normal(mu, (0.5 * log_var).exp()), 1).log_prob(z)


def weight_without_constants(log_px, z, mu, log_var):
    eps = (z - mu) * torch.exp(-0.5 * log_var)
    return log_px - 0.5 * (z * z - eps * eps - log_var).sum(-1)


def weight_by_loops(log_px, z, mu, log_var):
    rows = []
    for lp, point, m, v in zip(log_px, z, mu, log_var, strict=True):
        for k in range(len(point)):
            lp = lp - 0.5 * point[k] ** 2 + 0.5 * (point[k] - m[k]) ** 2 / v[k].exp() + 0.5 * v[k]
        rows.append(lp)
    return torch.stack(rows)


def active_by_moments(mu, threshold):
    return (mu**2).mean(0) - mu.mean(0) ** 2 > threshold


def active_by_std(mu, threshold):
    return mu.std(0) > threshold**0.5


def active_as_numbers(mu, threshold):
    return (mu.T.cov(correction=0).diagonal() > threshold).float()


def places_by_ndtri(n):
    return torch.special.ndtri((torch.arange(n) + 0.5) / n)


def places_by_erfinv(n):
    return math.sqrt(2) * torch.erfinv(2 * torch.linspace(0.5 / n, 1 - 0.5 / n, n) - 1)


def places_by_scipy(n):
    return torch.as_tensor(norm.ppf([(i + 0.5) / n for i in range(n)]))


def slerp_by_the_package(a, b, t):
    return spherical(a, b, t)


def slerp_by_loops(a, b, t):
    rows = []
    for u, v in zip(a, b, strict=True):
        omega = torch.acos(torch.dot(u, v) / (torch.linalg.norm(u) * torch.linalg.norm(v)))
        rows.append(torch.sin((1 - t) * omega) / torch.sin(omega) * u + torch.sin(t * omega) / torch.sin(omega) * v)
    return torch.stack(rows)


RIGHT = {
    "6.1": [elbo_by_the_package, elbo_by_softplus, elbo_by_distributions],
    "6.2": [weight_by_distributions, weight_without_constants, weight_by_loops],
    "6.3": [active_by_moments, active_by_std, active_as_numbers],
    "6.4": [places_by_ndtri, places_by_erfinv, places_by_scipy],
    "6.5": [slerp_by_the_package, slerp_by_loops],
}

# Wrong answers, written as a learner would ----------------------------------------------------------------


def raw_bce(logits, x):
    return F.binary_cross_entropy_with_logits(logits, x, reduction="none").flatten(1)


def bce_of_probabilities(logits, x):
    return F.binary_cross_entropy(logits.sigmoid(), x, reduction="none").flatten(1).sum(1)


def double_log_var(log_px, z, mu, log_var):
    return log_px - 0.5 * (z**2).sum(1) + (0.5 * (z - mu) ** 2 / log_var.exp() + log_var).sum(1)


WRONG = [
    ("6.1", "mean over pixels", lambda o, x, m, v: raw_bce(o, x).mean(1) + gaussian_kl(m, v)),
    ("6.1", "from probabilities", lambda o, x, m, v: bce_of_probabilities(o, x) + gaussian_kl(m, v)),
    ("6.1", "KL subtracted", lambda o, x, m, v: bernoulli_nll(o, x) + 0.5 * (1 + v - m**2 - v.exp()).sum(1)),
    ("6.1", "no gradient", lambda o, x, m, v: bernoulli_nll(o, x) + gaussian_kl(m, v.detach())),
    ("6.1", "wrong shape", lambda o, x, m, v: raw_bce(o, x).sum() + gaussian_kl(m, v)[:, None]),
    ("6.2", "the closed-form KL", lambda lp, z, m, v: lp - gaussian_kl(m, v)),
    ("6.2", "log σ² counted twice", double_log_var),
    ("6.2", "the other way round", lambda lp, z, m, v: lp - (weight_by_distributions(lp, z, m, v) - lp)),
    ("6.3", "the standard deviation", lambda mu, t: mu.std(dim=0, correction=0) > t),
    ("6.3", "their number", lambda mu, t: torch.count_nonzero(mu.var(0) > t)),
    ("6.3", "over the dimensions", lambda mu, t: mu.var(dim=-1) > t),
    ("6.4", "from 0 to 1", lambda n: torch.special.ndtri(torch.linspace(0, 1, n))),
    ("6.4", "evenly from −1 to 1", lambda n: -1 + 2 * torch.arange(n) / max(n - 1, 1)),
    ("6.5", "straight line", torch.lerp),
    ("6.5", "the other end first", lambda a, b, t: spherical(b, a, t)),
    ("6.5", "ends of length 1", lambda a, b, t: spherical(F.normalize(a), F.normalize(b), t)),
]  # fmt: skip


def test_the_solutions_agree_with_the_package():
    torch.manual_seed(0)
    vae, x = VAE(input_shape=(1, 4, 4), latent_dim=3, hidden_dims=(8,)), torch.rand(6, 1, 4, 4)
    with torch.no_grad():
        vae.heads.mu.weight[2] = 0.0  # a dimension that says nothing
        mu, log_var = vae.encode(x)
        torch.manual_seed(1)
        expected = vae.loss(x).loss
        torch.manual_seed(1)
        z = vae.reparameterize(mu, log_var)
        logits = vae.decode(z)
        torch.testing.assert_close(find("6.1").solution(logits, x, mu, log_var), expected)
        weights = find("6.2").solution(-bernoulli_nll(logits, x), z, mu, log_var)
        torch.testing.assert_close(weights, weight_by_distributions(-bernoulli_nll(logits, x), z, mu, log_var))
        assert find("6.3").solution(mu, 1e-5).tolist() == (active_units(vae, x).variance > 1e-5).tolist()
    a, b = torch.randn(2, 5, 7)
    torch.testing.assert_close(find("6.5").solution(a, b, 0.3), spherical(a, b, 0.3))
