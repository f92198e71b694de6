"""The exercises of notebook 05: right answers pass, wrong ones are told apart."""

import inspect
import math

import numpy as np
import torch
import torch.nn.functional as F
from torch.distributions import Independent, Normal

from course_utils.exercises import find
from course_utils.losses import bernoulli_nll, gaussian_nll
from course_utils.scales import implied_gaussian, optimal_sigma

# Right answers, written differently --------------------------------------------------------------------


def nll_by_distribution(mean, x, sigma):
    return -Independent(Normal(mean.flatten(1), sigma), 1).log_prob(x.flatten(1))


def nll_by_loops(mean, x, sigma):
    result = torch.zeros(len(x), dtype=x.dtype)
    for i, (a, b) in enumerate(zip(mean.flatten(1), x.flatten(1), strict=True)):
        for m, v in zip(a, b, strict=True):
            result[i] = result[i] + 0.5 * math.log(2 * math.pi * sigma**2) + (v - m) ** 2 / (2 * sigma**2)
    return result


def nll_by_the_package(mean, x, sigma):
    return gaussian_nll(mean, x, sigma=sigma)


def beta_by_the_package(dims, latent_dim, pixel_mean, half, kl_weight, kl_mean):
    reductions = dict(reduction="mean" if pixel_mean else "sum", kl_reduction="mean" if kl_mean else "sum")
    return implied_gaussian(dims, half=half, kl_weight=kl_weight, latent_dim=latent_dim, **reductions).beta


def beta_in_one_line(dims, latent_dim, pixel_mean, half, kl_weight, kl_mean):
    return kl_weight * dims**pixel_mean / latent_dim**kl_mean / (1 if half else 2)


def beta_as_a_tensor(*arguments):
    return torch.tensor(beta_in_one_line(*arguments))


beta_as_a_tensor.__signature__ = inspect.signature(beta_in_one_line)


def sigma_by_loss(mean, x):
    return F.mse_loss(mean, x) ** 0.5


def sigma_by_norm(mean, x):
    return torch.linalg.vector_norm(x - mean) / x.numel() ** 0.5


def floor_by_loss(x):
    return F.binary_cross_entropy(x, x, reduction="none").flatten(1).sum(1)


def floor_by_entr(x):
    return (torch.special.entr(x) + torch.special.entr(1 - x)).reshape(len(x), -1).sum(-1)


def floor_by_masks(x):
    p = x.flatten(1)
    grey = (p > 0) & (p < 1)
    safe = torch.where(grey, p, torch.full_like(p, 0.5))
    return torch.where(grey, -safe * safe.log() - (1 - safe) * (1 - safe).log(), torch.zeros_like(p)).sum(1)


def bce_by_parts(logits, x):
    """Right in every value, and in the gradient everywhere but at 0, where clamp and abs have kinks."""
    return (logits.clamp(min=0) - logits * x + torch.log1p(torch.exp(-logits.abs()))).flatten(1).sum(1)


def bce_by_softplus(logits, x):
    return (x * F.softplus(-logits) + (1 - x) * F.softplus(logits)).flatten(1).sum(1)


def bce_by_log_sigmoid(logits, x):
    return -(x * F.logsigmoid(logits) + (1 - x) * F.logsigmoid(-logits)).flatten(1).sum(1)


def bce_by_logaddexp(logits, x):
    return (torch.logaddexp(logits, torch.zeros_like(logits)) - logits * x).flatten(1).sum(1)


def average_by_distribution(z, mu, log_var, x):
    q = Independent(Normal(mu, (0.5 * log_var).exp()), 1)
    log_q = q.log_prob(z[:, None])
    return (log_q - log_q.logsumexp(1, keepdim=True)).exp() @ x


def average_by_loops(z, mu, log_var, x):
    rows = []
    for code in z:
        log_q = torch.stack(
            [-0.5 * (((code - m) / (0.5 * v).exp()) ** 2 + v).sum() for m, v in zip(mu, log_var, strict=True)]
        )
        weights = (log_q - log_q.max()).exp()
        rows.append((weights[:, None] * x).sum(0) / weights.sum())
    return torch.stack(rows)


RIGHT = {
    "5.1": [nll_by_distribution, nll_by_loops, nll_by_the_package],
    "5.2": [sigma_by_loss, sigma_by_norm, optimal_sigma],
    "5.3": [beta_by_the_package, beta_in_one_line, beta_as_a_tensor],
    "5.4": [floor_by_loss, floor_by_entr, floor_by_masks],
    "5.5": [bce_by_softplus, bce_by_parts, bce_by_log_sigmoid, bce_by_logaddexp, bernoulli_nll],
    "5.6": [average_by_distribution, average_by_loops],
}


# Wrong answers ----------------------------------------------------------------------------------------


def naive_bce(logits, x):
    p = torch.sigmoid(logits)
    return -(x * torch.log(p) + (1 - x) * torch.log(1 - p)).flatten(1).sum(1)


def clamped_logits(logits, x):
    value = (F.softplus(logits) - logits * x).flatten(1).sum(1)
    gradient_free = logits.clamp(-30, 30)
    return value.detach() + 0 * gradient_free.flatten(1).sum(1)


# Written as a learner would, not as the misconceptions are.
WRONG = [
    ("5.1", "only the squared error", lambda m, x, s: 0.5 * ((x - m) / s).square().flatten(1).sum(1)),
    ("5.1", "mean over pixels", lambda m, x, s: -Normal(m, s).log_prob(x).flatten(1).mean(1)),
    ("5.1", "sign", lambda m, x, s: Normal(m, s).log_prob(x).flatten(1).sum(1)),
    ("5.1", "wrong shape", lambda m, x, s: -Normal(m, s).log_prob(x)),
    ("5.1", "no gradient", lambda m, x, s: nll_by_distribution(m, x, s).detach()),
    (
        "5.1",
        "2π forgotten",
        lambda m, x, s: F.gaussian_nll_loss(m, x, torch.full_like(x, s**2), reduction="none").flatten(1).sum(1),
    ),
    (
        "5.1",
        "784 pixels",
        lambda m, x, s: 392 * math.log(2 * math.pi * s**2) + 0.5 * ((x - m) / s).pow(2).flatten(1).sum(1),
    ),
    (
        "5.1",
        "D/2 log σ",
        lambda m, x, s: 0.5 * (((x - m) / s) ** 2 + math.log(2 * math.pi) + math.log(s)).flatten(1).sum(1),
    ),
    ("5.3", "constant factor", lambda d, n, p, h, w, k: 4 * beta_in_one_line(d, n, p, h, w, k)),
    ("5.3", "pixel mean ignored", lambda d, n, p, h, w, k: w / (n if k else 1) / (1 if h else 2)),
    ("5.2", "no gradient", lambda m, x: F.mse_loss(m, x).sqrt().item()),
    ("5.2", "no gradient", lambda m, x: F.mse_loss(m, x).sqrt().detach()),
    ("5.2", "a numpy array", lambda m, x: np.array(F.mse_loss(m, x).sqrt().tolist())),
    ("5.2", "absolute error", F.l1_loss),
    ("5.2", "never below a bound", lambda m, x: F.mse_loss(m, x).sqrt().clamp_min(0.1)),
    ("5.4", "mean over pixels", lambda x: F.binary_cross_entropy(x, x, reduction="none").flatten(1).mean(1)),
    ("5.4", "wrong shape", lambda x: F.binary_cross_entropy(x, x, reduction="none")),
    ("5.4", "changes its input", lambda x: floor_by_entr(x.clamp_(1e-9, 1 - 1e-7))),
    ("5.5", "from probabilities", naive_bce),
    (
        "5.5",
        "mean of everything",
        F.binary_cross_entropy_with_logits,
    ),
    ("5.5", "gradient wrong at saturation", clamped_logits),
    (
        "5.5",
        "clamped probabilities",
        lambda logits, x: naive_bce(torch.logit(logits.sigmoid().clamp(1e-7, 1 - 1e-7)), x),
    ),
    ("5.5", "no gradient", lambda logits, x: bce_by_softplus(logits.detach(), x)),
    ("5.6", "wrong shape", lambda z, m, v, x: ((0.5 * v).exp() * z.mean() + m).softmax(0).T @ x),
    (
        "5.6",
        "log σ² read as log σ",
        lambda z, m, v, x: Independent(Normal(m, v.exp()), 1).log_prob(z[:, None]).softmax(1) @ x,
    ),
    (
        "5.6",
        "not normalised",
        lambda z, m, v, x: (-0.5 * ((z[:, None] - m) ** 2 / v.exp() + v)).sum(-1).exp() @ x,
    ),
]


def test_the_solutions_agree_with_the_package():
    torch.manual_seed(0)
    mean, x = torch.rand(4, 1, 5, 5), torch.rand(4, 1, 5, 5)
    torch.testing.assert_close(find("5.1").solution(mean, x, 0.3), gaussian_nll(mean, x, sigma=0.3))
    torch.testing.assert_close(find("5.2").solution(mean, x), optimal_sigma(mean, x))
    logits = 50 * torch.randn(4, 1, 5, 5)
    torch.testing.assert_close(find("5.5").solution(logits, x), bernoulli_nll(logits, x))
