"""The exercises of notebook 06: right answers pass, wrong ones are told apart."""

import math
import statistics

import pytest
import torch
import torch.nn.functional as F
from scipy.stats import norm
from torch.distributions import Bernoulli, Independent, Normal, kl_divergence

from course_utils.evaluation.latents import active_units
from course_utils.evaluation.samples import spherical
from course_utils.losses.terms import bernoulli_nll, gaussian_kl
from course_utils.models.vae import VAE
from course_utils.teaching.exercises import find, grade

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


def nats(logits, x):
    """The cross-entropy of each pixel, (B, D)."""
    return (x * F.softplus(-logits) + (1 - x) * F.softplus(logits)).flatten(1)


def rates(mu, log_var):
    """The KL of each latent dimension, (B, L)."""
    return kl_divergence(Normal(mu, (0.5 * log_var).exp()), Normal(torch.zeros_like(mu), torch.ones_like(mu)))


def rates_log_var_as_sigma(mu, log_var):
    q = Normal(mu, log_var, validate_args=False)  # a "σ" below zero, and only its square counts
    return kl_divergence(q, Normal(torch.zeros_like(mu), torch.ones_like(mu)))


def bce_of_probabilities(logits, x):
    return F.binary_cross_entropy(logits.sigmoid(), x, reduction="none").flatten(1).sum(1)


def squared_error(logits, x):
    return torch.stack([F.mse_loss(p, image, reduction="sum") for p, image in zip(logits.sigmoid(), x, strict=True)])


def log_p(z):
    """The prior's log-density in each dimension, (B, L)."""
    return Normal(0.0, 1.0).log_prob(z)


def log_q(z, mu, log_var):
    """The posterior's log-density in each dimension, (B, L)."""
    return Normal(mu, (0.5 * log_var).exp()).log_prob(z)


def two_pi_in_the_prior_only(log_px, z, mu, log_var):
    sigma = torch.exp(log_var / 2)
    return log_px + log_p(z).sum(1) + (sigma.log() + ((z - mu) / sigma) ** 2 / 2).sum(1)


def two_pi_in_q_only(log_px, z, mu, log_var):
    return log_px - torch.einsum("bl,bl->b", z, z) / 2 - log_q(z, mu, log_var).sum(1)


def double_log_var(log_px, z, mu, log_var):
    return log_px - 0.5 * (z**2).sum(1) + (0.5 * (z - mu) ** 2 / log_var.exp() + log_var).sum(1)


def no_log_sigma(log_px, z, mu, log_var):
    eps = (z - mu) / log_var.exp().sqrt()
    return log_px + log_p(z).sum(1) - log_p(eps).sum(1)


def distance_over_sigma(log_px, z, mu, log_var):
    sigma = log_var.exp().sqrt()
    log_qz = -((z - mu) ** 2) / (2 * sigma) - sigma.log() - math.log(math.sqrt(2 * math.pi))
    return log_px + log_p(z).sum(1) - log_qz.sum(1)


def variances_by_hand(mu):
    centred = mu - sum(mu) / len(mu)
    return torch.einsum("nl,nl->l", centred, centred) / (len(mu) - 1)


def mean_square(mu, threshold):
    return torch.stack([column @ column / len(column) for column in mu.T]) > threshold


def smallest_to_largest(mu, threshold):
    ordered = mu.sort(dim=0).values
    return ordered[-1] - ordered[0] > threshold


def one_variance_for_all(mu, threshold):
    return torch.tensor(statistics.variance(mu.flatten().tolist()) > threshold)


def evenly(n, end):
    """n places from -end to end; the first of them where n is 1."""
    return torch.tensor([-end + 2 * end * i / max(n - 1, 1) for i in range(n)])


def ends_between_one_part_more(n):
    return torch.tensor([statistics.NormalDist().inv_cdf(i / (n + 1)) for i in range(1, n + 1)])


def shares_of_shares(n):
    return torch.tensor([statistics.NormalDist().cdf((i + 0.5) / n) for i in range(n)])


def by_pairs(mix):
    """A function of one pair of codes, made to work on a batch."""
    return lambda a, b, t: torch.stack([mix(u, v, t) for u, v in zip(a, b, strict=True)])


def cosine(u, v):
    return u @ v / (u @ u * (v @ v)).sqrt()


def angle(u, v):
    u, v = F.normalize(u, dim=0), F.normalize(v, dim=0)
    return 2 * torch.atan2((u - v).norm(), (u + v).norm())


def arc(u, v, t, omega):
    return torch.sin(omega - t * omega) / torch.sin(omega) * u + torch.sin(t * omega) / torch.sin(omega) * v


def stretched(u, v, t):
    return F.normalize(torch.lerp(u, v, t), dim=0) * torch.lerp(u.norm(), v.norm(), t)


def sines_alone(u, v, t):
    return torch.sin(angle(u, v) * (1 - t)) * u + torch.sin(angle(u, v) * t) * v


def halfway(u, v, t):
    return (u + v) / (2 * torch.cos(angle(u, v) / 2))


WRONG = [
    ("6.1", "no KL", lambda o, x, m, v: nats(o, x).sum(1)),
    ("6.1", "no distortion", lambda o, x, m, v: rates(m, v).sum(1)),
    ("6.1", "KL subtracted", lambda o, x, m, v: bernoulli_nll(o, x) + 0.5 * (1 + v - m**2 - v.exp()).sum(1)),
    ("6.1", "sign", lambda o, x, m, v: -nats(o, x).sum(1) - rates(m, v).sum(1)),
    ("6.1", "mean over pixels", lambda o, x, m, v: nats(o, x).mean(1) + gaussian_kl(m, v)),
    ("6.1", "KL averaged over dimensions", lambda o, x, m, v: nats(o, x).sum(1) + rates(m, v).mean(1)),
    ("6.1", "means of both", lambda o, x, m, v: nats(o, x).mean(1) + rates(m, v).mean(1)),
    ("6.1", "one number for the batch", lambda o, x, m, v: (nats(o, x).sum() + rates(m, v).sum()) / len(x)),
    ("6.1", "one number for the batch", lambda o, x, m, v: elbo_by_softplus(o, x, m, v).mean().item()),
    ("6.1", "batch shared", lambda o, x, m, v: nats(o, x).sum(1) + rates(m, v).sum()),
    ("6.1", "sigmoid twice", lambda o, x, m, v: nats(1 / (1 + torch.exp(-o)), x).sum(1) + rates(m, v).sum(1)),
    ("6.1", "from probabilities", lambda o, x, m, v: bce_of_probabilities(o, x) + gaussian_kl(m, v)),
    ("6.1", "log_var read as sigma", lambda o, x, m, v: nats(o, x).sum(1) + rates_log_var_as_sigma(m, v).sum(1)),
    ("6.1", "log_var read as log sigma", lambda o, x, m, v: nats(o, x).sum(1) + rates(m, v + v).sum(1)),
    ("6.1", "summed over the batch", lambda o, x, m, v: (F.softplus(o) - x * o).sum() + rates(m, v).sum()),
    ("6.1", "averaged over everything", lambda o, x, m, v: (F.softplus(o) - x * o).mean() + rates(m, v).mean()),
    ("6.1", "KL not halved", lambda o, x, m, v: nats(o, x).sum(1) + (m * m + torch.exp(v) - v - 1).sum(1)),
    ("6.1", "squared error", lambda o, x, m, v: squared_error(o, x) + rates(m, v).sum(1)),
    ("6.1", "no gradient", lambda o, x, m, v: bernoulli_nll(o.detach(), x) + gaussian_kl(m, v)),
    ("6.1", "no gradient", lambda o, x, m, v: bernoulli_nll(o, x) + gaussian_kl(m.detach(), v)),
    ("6.1", "no gradient", lambda o, x, m, v: bernoulli_nll(o, x) + gaussian_kl(m, v.detach())),
    ("6.1", "wrong shape", lambda o, x, m, v: nats(o, x).sum() + gaussian_kl(m, v)[:, None]),
    ("6.2", "the closed-form KL", lambda lp, z, m, v: lp - gaussian_kl(m, v)),
    ("6.2", "q forgotten", lambda lp, z, m, v: lp + log_p(z).sum(1)),
    ("6.2", "prior forgotten", lambda lp, z, m, v: lp - log_q(z, m, v).sum(1)),
    ("6.2", "the other way round", lambda lp, z, m, v: lp - (weight_by_distributions(lp, z, m, v) - lp)),
    ("6.2", "both added", lambda lp, z, m, v: lp + log_p(z).sum(1) + log_q(z, m, v).sum(1)),
    ("6.2", "2π in the prior only", two_pi_in_the_prior_only),
    ("6.2", "2π in q only", two_pi_in_q_only),
    ("6.2", "log σ² counted twice", double_log_var),
    ("6.2", "log σ forgotten", no_log_sigma),
    ("6.2", "divided by σ", distance_over_sigma),
    ("6.2", "prior at mu", lambda lp, z, m, v: lp + log_p(m).sum(1) - log_q(z, m, v).sum(1)),
    ("6.2", "the weight itself", lambda lp, z, m, v: lp.exp() * (log_p(z).exp() / log_q(z, m, v).exp()).prod(1)),
    ("6.2", "mean over dimensions", lambda lp, z, m, v: lp + log_p(z).mean(1) - log_q(z, m, v).mean(1)),
    ("6.2", "one for the batch", lambda lp, z, m, v: sum(weight_by_loops(lp, z, m, v)) / len(z)),
    ("6.3", "the standard deviation", lambda mu, t: mu.std(dim=0, correction=0) > t),
    ("6.3", "over the dimensions", lambda mu, t: mu.var(dim=-1) > t),
    ("6.3", "mean square", mean_square),
    ("6.3", "any large mean", lambda mu, t: mu.abs().amax(0) > t),
    ("6.3", "inactive ones", lambda mu, t: variances_by_hand(mu) < t),
    ("6.3", "their number", lambda mu, t: torch.count_nonzero(mu.var(0) > t)),
    ("6.3", "their number", lambda mu, t: len([v for v in variances_by_hand(mu) if v > t])),
    ("6.3", "the variances", lambda mu, t: variances_by_hand(mu)),
    ("6.3", "range", smallest_to_largest),
    ("6.3", "all dimensions together", one_variance_for_all),
    ("6.3", "all dimensions together", lambda mu, t: bool(mu.flatten().var() > t)),
    ("6.4", "evenly from −1 to 1", lambda n: evenly(n, 1)),
    ("6.4", "evenly from −3 to 3", lambda n: evenly(n, 3)),
    ("6.4", "the shares themselves", lambda n: torch.tensor([(2 * i + 1) / (2 * n) for i in range(n)])),
    ("6.4", "from 0 to 1", lambda n: torch.special.ndtri(torch.linspace(0, 1, n))),
    ("6.4", "the parts' left ends", lambda n: torch.tensor(norm.ppf([i / n for i in range(n)]))),
    ("6.4", "the parts' right ends", lambda n: torch.tensor(norm.ppf([(i + 1) / n for i in range(n)]))),
    ("6.4", "ends between n + 1 parts", ends_between_one_part_more),
    ("6.4", "the distribution function", shares_of_shares),
    ("6.4", "root of 2 forgotten", lambda n: torch.erfinv(torch.linspace(1 / n - 1, 1 - 1 / n, n))),
    ("6.4", "descending", lambda n: torch.tensor(norm.isf([(i + 0.5) / n for i in range(n)]))),
    ("6.5", "straight line", torch.lerp),
    ("6.5", "the other end first", lambda a, b, t: spherical(b, a, t)),
    ("6.5", "ends of length 1", lambda a, b, t: spherical(F.normalize(a), F.normalize(b), t)),
    ("6.5", "the straight line, stretched", by_pairs(stretched)),
    ("6.5", "angle from the raw product", by_pairs(lambda u, v, t: arc(u, v, t, torch.acos(u @ v)))),
    ("6.5", "angle from the clamped product", by_pairs(lambda u, v, t: arc(u, v, t, torch.acos((u @ v).clip(-1, 1))))),
    ("6.5", "not divided by the sine", by_pairs(sines_alone)),
    ("6.5", "cosines as weights", lambda a, b, t: math.sin((1 - t) * math.pi / 2) * a + math.sin(t * math.pi / 2) * b),
    ("6.5", "one angle for the batch", lambda a, b, t: arc(a, b, t, angle(a.flatten(), b.flatten()))),
    ("6.5", "the cosine for the angle", by_pairs(lambda u, v, t: arc(u, v, t, cosine(u, v)))),
    ("6.5", "halfway, whatever t", by_pairs(halfway)),
]  # fmt: skip


@pytest.mark.parametrize("cut", ["logits", "mu", "log_var"])
def test_the_input_that_gets_no_gradient_is_named(cut):
    def answer(logits, x, mu, log_var):
        given = dict(logits=logits, x=x, mu=mu, log_var=log_var)
        return elbo_by_softplus(**given | {cut: given[cut].detach()})

    result = grade("6.1", answer)
    assert result.diagnosis == "no gradient" and f"no gradient gets back to {cut}," in result.message


def test_a_variance_equal_to_the_threshold_does_not_exceed_it():
    mu = torch.tensor([[0.0, 0.0], [2.0, 2.1]])  # variances 2 and 2.205
    assert find("6.3").solution(mu, 2.0).tolist() == [False, True]


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
