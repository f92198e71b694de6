"""The exercises of notebook 04: right answers pass, wrong ones are told apart."""

import math

import torch
from torch.distributions import Independent, MultivariateNormal, Normal, kl_divergence

from course_utils.exercises import find
from course_utils.losses import gaussian_kl, gaussian_kl_full

# Right answers, written differently --------------------------------------------------------------------


def standard(mu):
    return Independent(Normal(torch.zeros_like(mu), torch.ones_like(mu)), 1)


def posterior(mu, log_var):
    return Independent(Normal(mu, (0.5 * log_var).exp()), 1)


def kl_by_loops(mu, log_var):
    result = torch.zeros(len(mu), dtype=mu.dtype)
    for b in range(mu.shape[0]):
        for i in range(mu.shape[1]):
            result[b] = result[b] + 0.5 * (mu[b, i] ** 2 + torch.exp(log_var[b, i]) - 1 - log_var[b, i])
    return result


def full_by_cholesky(mean_q, cov_q, mean_p, cov_p):
    root_q, root_p = torch.linalg.cholesky(cov_q), torch.linalg.cholesky(cov_p)
    trace = torch.linalg.solve_triangular(root_p, root_q, upper=False).square().sum()
    offset = torch.linalg.solve_triangular(root_p, (mean_p - mean_q)[:, None], upper=False).square().sum()
    return 0.5 * (trace + offset - len(mean_q)) + root_p.diagonal().log().sum() - root_q.diagonal().log().sum()


def full_by_inverse(mean_q, cov_q, mean_p, cov_p):
    inverse, d = cov_p.inverse(), mean_q - mean_p
    ratio = torch.det(cov_p) / torch.det(cov_q)
    return (torch.trace(cov_q @ inverse) + d @ inverse @ d - d.numel() + ratio.log()) / 2


def sampled_by_distributions(mu, log_var, eps):
    z = mu + torch.exp(log_var / 2) * eps
    return (posterior(mu, log_var).log_prob(z) - standard(mu).log_prob(z)).mean(0)


def sampled_by_loops(mu, log_var, eps):
    return torch.stack([sampled_by_distributions(mu, log_var, e[None]) for e in eps]).sum(0) / len(eps)


def gradient_by_autograd(mu, log_var):
    mu, log_var = mu.clone().requires_grad_(), log_var.clone().requires_grad_()
    return torch.autograd.grad(gaussian_kl(mu, log_var).sum(), (mu, log_var))


def gradient_by_backward(mu, log_var):
    mu, log_var = mu.clone().requires_grad_(), log_var.clone().requires_grad_()
    gaussian_kl(mu, log_var).sum().backward()
    return mu.grad, log_var.grad


RIGHT = {
    "4.1": [
        kl_by_loops,
        gaussian_kl,
        lambda mu, lv: kl_divergence(posterior(mu, lv), standard(mu)),
        lambda mu, lv: -0.5 * torch.sum(1 + lv - mu.pow(2) - lv.exp(), dim=-1),
        lambda mu, lv: (0.5 * (mu.double() ** 2 + lv.double().exp() - 1 - lv.double())).sum(1),
    ],
    "4.2": [
        full_by_cholesky,
        full_by_inverse,
        lambda *a: kl_divergence(MultivariateNormal(a[0], a[1]), MultivariateNormal(a[2], a[3])),
        lambda m_q, s_q, m_p, s_p: gaussian_kl_full(m_q[None], s_q[None], m_p, s_p)[0],
    ],
    "4.3": [
        sampled_by_distributions,
        sampled_by_loops,
        lambda mu, lv, eps: 0.5 * ((mu + (lv / 2).exp() * eps) ** 2 - lv - eps**2).sum(2).mean(0),
    ],
    "4.4": [
        lambda mu, lv: [mu.clone(), 0.5 * torch.expm1(lv)],
        lambda mu, lv: (mu * 1.0, (lv.exp() - 1) / 2),
    ],
    "4.5": [
        lambda mu, lv: (0.5 * (mu**2 + lv.exp() - 1 - lv) / math.log(2)).mean(0),
        lambda mu, lv: sum(0.5 * (m**2 + v.exp() - 1 - v) for m, v in zip(mu, lv, strict=True)) / len(mu) / math.log(2),
        lambda mu, lv: 0.5 * math.log2(math.e) * (mu.square() + lv.expm1() - lv).mean(0),
    ],
}


# Wrong answers, each with its own diagnosis ------------------------------------------------------------


def changes_mu(mu, log_var):
    return 0.5 * (mu.pow_(2) + log_var.exp() - 1 - log_var).sum(1)


# Written as a learner would, not as the misconceptions are.
WRONG = [
    ("4.1", "sign flipped", lambda mu, lv: 0.5 * torch.sum(1 + lv - mu.pow(2) - lv.exp(), dim=1)),
    ("4.1", "one sum for the batch", lambda mu, lv: -0.5 * torch.sum(1 + lv - mu.pow(2) - lv.exp())),
    ("4.1", "one mean for the batch", lambda mu, lv: (-0.5 * torch.mean(1 + lv - mu**2 - lv.exp())).item()),
    ("4.1", "wrong shape", lambda mu, lv: 0.5 * (mu**2 + lv.exp() - 1 - lv)),
    ("4.1", "right numbers, wrong shape", lambda mu, lv: find("4.1").solution(mu, lv)[:, None]),
    ("4.1", "changes its input", changes_mu),
    ("4.1", "no gradient", lambda mu, lv: find("4.1").solution(mu, lv).detach()),
    ("4.1", "the other direction", lambda mu, lv: kl_divergence(standard(mu), posterior(mu, lv))),
    ("4.1", "constant factor", lambda mu, lv: find("4.1").solution(mu, lv) / math.log(2)),
    (
        "4.2",
        "the other direction",
        lambda *a: kl_divergence(MultivariateNormal(a[2], a[3]), MultivariateNormal(a[0], a[1])),
    ),
    ("4.2", "right numbers, wrong shape", lambda *a: find("4.2").solution(*a)[None]),
    ("4.2", "no gradient", lambda *a: find("4.2").solution(*a).item()),
    (
        "4.2",
        "diagonals only",
        lambda a, b, c, d: kl_divergence(
            *(Independent(Normal(m, s.diagonal().sqrt()), 1) for m, s in ((a, b), (c, d)))
        ),
    ),
    ("4.3", "closed form", lambda mu, lv, eps: gaussian_kl(mu, lv)),
    (
        "4.3",
        "one number for the batch",
        lambda mu, lv, eps: (
            posterior(mu, lv).log_prob(mu + (lv / 2).exp() * eps) - standard(mu).log_prob(mu + (lv / 2).exp() * eps)
        ).mean(),
    ),
    ("4.3", "no gradient", lambda mu, lv, eps: find("4.3").solution(mu, lv, eps).detach()),
    ("4.3", "eps was not used", lambda mu, lv, eps: find("4.3").solution(mu, lv, torch.randn_like(eps))),
    ("4.3", "eps was not used", lambda mu, lv, eps: sampled_by_distributions(mu, lv, torch.randn(50, *mu.shape))),
    ("4.3", "wrong values", lambda mu, lv, eps: find("4.3").solution(mu, lv, eps) + 1),
    ("4.4", "not a pair", lambda mu, lv: mu),
    ("4.4", "not a pair", lambda mu, lv: torch.stack(find("4.4").solution(mu, lv))),
    ("4.4", "not a pair", lambda mu, lv: (*find("4.4").solution(mu, lv), None)),
    ("4.4", "returns nothing", lambda mu, lv: find("4.4").solution(mu, lv) and None),
    ("4.4", "autograd", gradient_by_autograd),
    ("4.4", "autograd", gradient_by_backward),
    ("4.4", "averaged over the batch", lambda mu, lv: (mu / mu.shape[0], (lv.exp() - 1) / (2 * mu.shape[0]))),
    ("4.4", "a Python number", lambda mu, lv: (mu.sum().item(), lv.sum().item())),
    ("4.5", "nats", lambda mu, lv: kl_divergence(Normal(mu, (lv / 2).exp()), Normal(0.0, 1.0)).mean(0)),
    ("4.5", "one total", lambda mu, lv: gaussian_kl(mu, lv).mean() / math.log(2)),
    ("4.5", "wrong values", lambda mu, lv: mu.var(0)),
]
