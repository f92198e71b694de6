"""The exercises of notebook 04: right answers pass, wrong ones are told apart."""

import math

import pytest
import torch
from torch.distributions import Independent, MultivariateNormal, Normal, kl_divergence

from course_utils.losses.terms import gaussian_kl, gaussian_kl_full
from course_utils.teaching.exercises import find, grade

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


def gradient_filled_in(mu, log_var):
    d_log_var = torch.zeros_like(log_var)
    for b in range(len(mu)):
        d_log_var[b] = torch.expm1(log_var[b]) / 2
    return mu, d_log_var


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
        lambda mu, lv: (mu, lv.clone().exp_().sub_(1).div_(2)),  # an error, if given whole numbers
        gradient_filled_in,  # would be rounded, if given whole numbers
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


def nats(mu, log_var):
    """The KL of each example and dimension, (B, L)."""
    return kl_divergence(Normal(mu, (log_var / 2).exp(), validate_args=False), Normal(0.0, 1.0))


def each_number(term):
    """An answer to 4.1 that adds `term` over the dimensions, in plain Python."""
    return lambda mu, log_var: torch.tensor(
        [sum(map(term, *row)) for row in zip(mu.tolist(), log_var.tolist(), strict=True)]
    )


def full(mean_q, cov_q, mean_p, cov_p, **changed):
    """4.2 from its five pieces, any of them replaced."""
    precision, offset = torch.linalg.inv(cov_p), mean_q - mean_p
    pieces = {
        "trace": torch.einsum("ij,ji->", precision, cov_q),
        "distance": torch.einsum("i,ij,j->", offset, precision, offset),
        "dimension": len(offset),
        "log_det_p": torch.linalg.eigvalsh(cov_p).log().sum(),
        "log_det_q": torch.linalg.eigvalsh(cov_q).log().sum(),
    } | changed
    terms = pieces["trace"] + pieces["distance"] - pieces["dimension"] + pieces["log_det_p"] - pieces["log_det_q"]
    return terms / 2


def distance_by_log_density(mean, cov, x):
    """(x - mean)' cov^-1 (x - mean)."""
    density = MultivariateNormal(mean, cov)
    return 2 * (density.log_prob(mean) - density.log_prob(x))


def gaussians(mean_q, cov_q, mean_p, cov_p):
    return MultivariateNormal(mean_q, cov_q), MultivariateNormal(mean_p, cov_p)


def log_ratio(mu, log_var, z):
    """log q(z) - log p(z) by dimension, (K, B, L)."""
    return Normal(mu, (log_var / 2).exp()).log_prob(z) - Normal(0.0, 1.0).log_prob(z)


def samples(mu, log_var, eps):
    return torch.stack([torch.addcmul(mu, log_var.exp().sqrt(), e) for e in eps])


def log_q_in_single_numbers(log_q):
    """An answer to 4.3 with `log_q(z, m, v)` in plain Python; 2 pi is left out of both densities."""

    def answer(mu, log_var, eps):
        result = torch.zeros(len(mu))
        for k, b, i in torch.cartesian_prod(*map(torch.arange, eps.shape)).tolist():
            m, v = float(mu[b, i]), float(log_var[b, i])
            z = m + math.sqrt(math.exp(v)) * float(eps[k, b, i])
            result[b] += (log_q(z, m, v) + z**2 / 2) / len(eps)
        return result

    return answer


def another_gaussian_throughout(mu, log_var, eps):
    q, p = Normal(mu, log_var.exp()), Normal(0.0, 1.0)
    z = q.loc + q.scale * eps
    return (q.log_prob(z) - p.log_prob(z)).sum(2).mean(0)


def spread_by_the_variance(mu, log_var, eps):
    z = mu + torch.exp(log_var) * eps
    log_q = -0.5 * (math.log(2 * math.pi) + log_var + eps**2)
    return (log_q + 0.5 * math.log(2 * math.pi) + 0.5 * z**2).sum(2).mean(0)


def derivative(log_var_of, start):
    """An answer to 4.4 with the derivative in u, where log sigma^2 = log_var_of(u) and u = start(log_var)."""

    def answer(mu, log_var):
        u = start(log_var.double())
        right, left = (nats(mu.double(), log_var_of(u + step)) for step in (1e-5, -1e-5))
        return mu, (right - left) / 2e-5

    return answer


# Written as a learner would, not as the misconceptions are.
WRONG = [
    ("4.1", "sign", lambda mu, lv: 0.5 * torch.sum(1 + lv - mu.pow(2) - lv.exp(), dim=1)),
    ("4.1", "2·log|log_var| in place of log_var", lambda mu, lv: nats(mu, 2 * lv.abs().log()).sum(1)),
    ("4.1", "the square of log_var for a function of it", each_number(lambda m, v: (m * m + v * v - 1 - v) / 2)),
    ("4.1", "log(log_var) in place of log_var", lambda mu, lv: nats(mu, lv.log()).sum(1)),
    (
        "4.1",
        "not finite",
        each_number(lambda m, v: (m**2 + math.expm1(v) - (math.log(v) if v > 0 else math.nan)) / 2),
    ),
    ("4.1", "not finite", lambda mu, lv: nats(mu, lv).sum(1) + lv.log().sum(1)),
    ("4.1", "2·log_var in place of log_var", lambda mu, lv: nats(mu, 2 * lv).sum(1)),
    ("4.1", "exp of ½·log_var for a function of it", each_number(lambda m, v: (m**2 + math.exp(v / 2) - 1 - v) / 2)),
    ("4.1", "times 1/L", lambda mu, lv: kl_divergence(posterior(mu, lv), standard(mu)) / mu.shape[1]),
    ("4.1", "another axis", lambda mu, lv: nats(mu, lv).sum(0)),
    ("4.1", "summed over B", lambda mu, lv: -0.5 * torch.sum(1 + lv - mu.pow(2) - lv.exp())),
    (
        "4.1",
        "summed over B, times 1/(B·L)",
        lambda mu, lv: (-0.5 * torch.mean(1 + lv - mu**2 - lv.exp())).item(),
    ),
    ("4.1", "summed over B, times 1/B", lambda mu, lv: kl_divergence(posterior(mu, lv), standard(mu)).mean()),
    ("4.1", "times 2", lambda mu, lv: 2 * kl_divergence(posterior(mu, lv), standard(mu))),
    ("4.1", "a factor on some terms", each_number(lambda m, v: m**2 / 2 + math.expm1(v) - v)),
    ("4.1", "plus ½·L", each_number(lambda m, v: (m**2 + math.exp(v) - v) / 2)),
    ("4.1", "plus the sum of log_var", each_number(lambda m, v: (m**2 + math.expm1(v) + v) / 2)),
    ("4.1", "a power missing", each_number(lambda m, v: (m + math.expm1(v) - v) / 2)),
    ("4.1", "not summed over L", lambda mu, lv: 0.5 * (mu**2 + lv.exp() - 1 - lv)),
    ("4.1", "right numbers, wrong shape", lambda mu, lv: find("4.1").solution(mu, lv)[:, None]),
    ("4.1", "changes its input", changes_mu),
    ("4.1", "no gradient", lambda mu, lv: find("4.1").solution(mu, lv).detach()),
    ("4.1", "no gradient", lambda mu, lv: find("4.1").solution(mu, lv.detach())),
    ("4.1", "no gradient", lambda mu, lv: find("4.1").solution(mu.detach(), lv)),
    ("4.1", "the other direction", lambda mu, lv: kl_divergence(standard(mu), posterior(mu, lv))),
    ("4.1", "times 1/log 2", lambda mu, lv: find("4.1").solution(mu, lv) / math.log(2)),
    ("4.2", "cov_q and cov_p exchanged", lambda *a: kl_divergence(*gaussians(*a)[::-1])),
    ("4.2", "plus ½·L", lambda *a: full(*a, dimension=0)),
    ("4.2", "plus ½·(L − 1)", lambda *a: full(*a, dimension=1)),
    ("4.2", "times 2", lambda *a: 2 * kl_divergence(*gaussians(*a))),
    ("4.2", "sign", lambda *a: -kl_divergence(*gaussians(*a))),
    (
        "4.2",
        "difference turned round",
        lambda *a: full(*a, log_det_p=torch.logdet(a[1]), log_det_q=torch.logdet(a[3])),
    ),
    ("4.2", "a term missing", lambda *a: full(*a, log_det_p=0, log_det_q=0)),
    (
        "4.2",
        "det for logdet",
        lambda *a: full(*a, log_det_p=torch.det(a[3]), log_det_q=torch.det(a[1])),
    ),
    ("4.2", "matmul for solve", lambda *a: full(*a, trace=(a[1] @ a[3]).trace())),
    ("4.2", "arguments of solve exchanged", lambda *a: full(*a, trace=torch.linalg.solve(a[1], a[3]).trace())),
    ("4.2", "cov_q for cov_p in one place", lambda *a: full(*a, distance=distance_by_log_density(*a[:2], a[2]))),
    ("4.2", "matmul for solve", lambda *a: full(*a, distance=(a[0] - a[2]) @ a[3] @ (a[0] - a[2]))),
    ("4.2", "solve missing", lambda *a: full(*a, distance=torch.dist(a[0], a[2]) ** 2)),
    ("4.2", "mean_q in place of mean_p", lambda *a: kl_divergence(*gaussians(a[0], a[1], a[0], a[3]))),
    ("4.2", "right numbers, wrong shape", lambda *a: find("4.2").solution(*a)[None]),
    ("4.2", "no gradient", lambda *a: find("4.2").solution(*a).item()),
    *(
        ("4.2", "no gradient", lambda *a, cut=cut: find("4.2").solution(*a[:cut], a[cut].detach(), *a[cut + 1 :]))
        for cut in range(4)
    ),
    (
        "4.2",
        "the diagonal of cov_q and the diagonal of cov_p in place of cov_q and cov_p",
        lambda a, b, c, d: kl_divergence(
            *(Independent(Normal(m, s.diagonal().sqrt()), 1) for m, s in ((a, b), (c, d)))
        ),
    ),
    ("4.3", "closed form", lambda mu, lv, eps: gaussian_kl(mu, lv)),
    (
        "4.3",
        "summed over B, times 1/B",
        lambda mu, lv, eps: (
            posterior(mu, lv).log_prob(mu + (lv / 2).exp() * eps) - standard(mu).log_prob(mu + (lv / 2).exp() * eps)
        ).mean(),
    ),
    ("4.3", "sign", lambda mu, lv, eps: -log_ratio(mu, lv, samples(mu, lv, eps)).mean(0).sum(1)),
    ("4.3", "times K", lambda mu, lv, eps: log_ratio(mu, lv, samples(mu, lv, eps)).sum((0, 2))),
    ("4.3", "times 1/L", lambda mu, lv, eps: log_ratio(mu, lv, samples(mu, lv, eps)).mean((0, 2))),
    ("4.3", "not summed over K, times K", lambda mu, lv, eps: log_ratio(mu, lv, samples(mu, lv, eps)).sum(2)),
    (
        "4.3",
        "samples spread by the variance",
        lambda mu, lv, eps: log_ratio(mu, lv, mu + lv.exp() * eps).sum(2).mean(0),
    ),
    ("4.3", "2·log_var in place of log_var", another_gaussian_throughout),
    ("4.3", "a factor squared", spread_by_the_variance),
    ("4.3", "plus ½·the sum of log_var", log_q_in_single_numbers(lambda z, m, v: -((z - m) ** 2) / math.exp(v) / 2)),
    (
        "4.3",
        "minus ½·the sum of log_var",
        log_q_in_single_numbers(lambda z, m, v: -((z - m) ** 2) / math.exp(v) / 2 - v),
    ),
    ("4.3", "wrong values", log_q_in_single_numbers(lambda z, m, v: -((z - m) ** 2) / 2 - v / 2)),
    ("4.3", "samples from the prior", lambda mu, lv, eps: log_ratio(mu, lv, eps).sum(2).mean(0)),
    ("4.3", "0 in place of eps", lambda mu, lv, eps: log_ratio(mu, lv, mu).sum(1)),
    ("4.3", "times 2", lambda mu, lv, eps: 2 * log_ratio(mu, lv, samples(mu, lv, eps)).sum(2).mean(0)),
    ("4.3", "no gradient", lambda mu, lv, eps: find("4.3").solution(mu, lv, eps).detach()),
    ("4.3", "no gradient", lambda mu, lv, eps: find("4.3").solution(mu.detach(), lv, eps)),
    ("4.3", "no gradient", lambda mu, lv, eps: find("4.3").solution(mu, lv.detach(), eps)),
    ("4.3", "differs from call to call", lambda mu, lv, eps: find("4.3").solution(mu, lv, torch.randn_like(eps))),
    (
        "4.3",
        "differs from call to call",
        lambda mu, lv, eps: sampled_by_distributions(mu, lv, torch.randn(50, *mu.shape)),
    ),
    ("4.3", "plus 1", lambda mu, lv, eps: find("4.3").solution(mu, lv, eps) + 1),
    ("4.4", "sign", lambda mu, lv: (-mu, -torch.expm1(lv) / 2)),
    ("4.4", "times 2", derivative(lambda log_sigma: 2 * log_sigma, lambda lv: lv / 2)),
    ("4.4", "with respect to the variance", derivative(torch.log, torch.exp)),
    ("4.4", "with respect to sigma", derivative(lambda sigma: 2 * sigma.log(), lambda lv: lv.exp().sqrt())),
    ("4.4", "times ½", lambda mu, lv: (mu / 2, torch.expm1(lv) / 2)),
    ("4.4", "times 2", lambda mu, lv: (mu + mu, torch.expm1(lv) / 2)),
    ("4.4", "times 2", lambda mu, lv: (mu + mu, torch.expm1(lv))),
    ("4.4", "plus ½", lambda mu, lv: (mu, posterior(mu, lv).variance / 2)),
    ("4.4", "plus 1", lambda mu, lv: (mu, lv.exp() / 2 + 0.5)),
    ("4.4", "½·log_var in place of log_var", lambda mu, lv: (mu, torch.expm1(lv / 2) / 2)),
    ("4.4", "parts exchanged", lambda mu, lv: (torch.expm1(lv) / 2, mu)),
    ("4.4", "other parts", lambda mu, lv: mu),
    ("4.4", "other parts", lambda mu, lv: torch.stack(find("4.4").solution(mu, lv))),
    ("4.4", "other parts", lambda mu, lv: (*find("4.4").solution(mu, lv), None)),
    ("4.4", "returns nothing", lambda mu, lv: find("4.4").solution(mu, lv) and None),
    ("4.4", "autograd", gradient_by_autograd),
    ("4.4", "autograd", gradient_by_backward),
    ("4.4", "autograd", lambda mu, lv: torch.enable_grad()(gradient_by_backward)(mu, lv)),
    ("4.4", "autograd", lambda mu, lv: torch.func.grad(lambda m, v: gaussian_kl(m, v).sum(), argnums=(0, 1))(mu, lv)),
    ("4.4", "autograd", lambda mu, lv: torch.autograd.functional.jacobian(lambda *a: gaussian_kl(*a).sum(), (mu, lv))),
    ("4.4", "times 1/B", lambda mu, lv: (mu / mu.shape[0], (lv.exp() - 1) / (2 * mu.shape[0]))),
    ("4.4", "a numpy array", lambda mu, lv: (mu, (lv.exp() / 2 - 0.5).numpy())),
    ("4.4", "summed over B and L", lambda mu, lv: (mu.sum().item(), lv.sum().item())),
    ("4.5", "nats", lambda mu, lv: nats(mu, lv).mean(0)),
    ("4.5", "times 0.4805", lambda mu, lv: nats(mu, lv).mean(0) * math.log(2)),
    ("4.5", "times log 2/log 10", lambda mu, lv: nats(mu, lv).mean(0) / math.log(10)),
    (
        "4.5",
        "too small",
        lambda mu, lv: ((mu**2 + lv.exp() - 1 - torch.log2(lv.exp())) / 2).mean(0),
    ),
    ("4.5", "times N", lambda mu, lv: nats(mu, lv).sum(0) / math.log(2)),
    ("4.5", "another axis, times N", lambda mu, lv: nats(mu, lv).sum(1) / math.log(2)),
    ("4.5", "another axis, times N/L", lambda mu, lv: nats(mu, lv).mean(1) / math.log(2)),
    ("4.5", "summed over L", lambda mu, lv: gaussian_kl(mu, lv).mean() / math.log(2)),
    ("4.5", "summed over L, times 1/L", lambda mu, lv: nats(mu, lv).mean() / math.log(2)),
    (
        "4.5",
        "the means over the rows in place of all arguments",
        lambda mu, lv: nats(mu.mean(0), lv.mean(0)) / math.log(2),
    ),
    ("4.5", "sign", lambda mu, lv: -nats(mu, lv).mean(0) / math.log(2)),
    ("4.5", "times 2", lambda mu, lv: 2 * nats(mu, lv).mean(0) / math.log(2)),
    ("4.5", "2·log_var in place of log_var", lambda mu, lv: nats(mu, 2 * lv).mean(0) / math.log(2)),
    ("4.5", "log_var plays no part", lambda mu, lv: mu.var(0)),
]


# What the judges say ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "came"),
    [
        (lambda mu, lv: mu, "a tensor of shape (1, 2)"),
        (lambda mu, lv: (mu, lv, mu), "a tuple of 3"),
        (lambda mu, lv: [mu], "a list of 1"),
        (lambda mu, lv: {"mu": mu, "log_var": lv}, "a dictionary with 'mu', 'log_var'"),
    ],
)
def test_what_came_in_place_of_a_pair_is_named(answer, came):
    result = grade("4.4", answer)
    assert result.diagnosis == "other parts" and f"what came back is {came}." in " ".join(result.message.split())


@pytest.mark.parametrize(
    ("number", "answer"),
    [
        ("4.3", lambda mu, lv, eps: mu + eps[:, :, :1] @ lv),
        ("4.4", lambda mu, lv: (mu @ lv, lv)),  # a RuntimeError, as autograd's is
    ],
)
def test_an_error_of_the_learners_own_is_shown_as_such(number, answer):
    assert grade(number, answer).status == "raised"
