"""The exercises of notebook 03: right answers pass, wrong ones are told apart."""

import torch
from torch.distributions import Normal

from course_utils import models
from course_utils.exercises import find, grade

# Right answers, written differently --------------------------------------------------------------------


def scores_by_autograd(f_values, z, mu, log_var):
    by_mu, by_log_var = [], []
    for value, sample in zip(f_values, z, strict=True):
        parameters = mu.clone().requires_grad_(), log_var.clone().requires_grad_()
        log_q = Normal(parameters[0], parameters[1].mul(0.5).exp()).log_prob(sample).sum()
        one, other = torch.autograd.grad(log_q, parameters)
        by_mu.append(value * one)
        by_log_var.append(value * other)
    return [torch.stack(by_mu), torch.stack(by_log_var)]


def scores_by_einsum(f_values, z, mu, log_var):
    precision = (-log_var).exp()
    difference = z - mu
    return (
        torch.einsum("k,kl->kl", f_values, difference * precision),
        torch.einsum("k,kl->kl", f_values, (difference.square() * precision - 1) / 2),
    )


def leave_one_out_by_loops(f_values, scores):
    k = len(f_values)
    total = torch.zeros_like(scores[0])
    for i in range(k):
        others = torch.cat([f_values[:i], f_values[i + 1 :]])
        total = total + (f_values[i] - others.mean()) * scores[i]
    return total / k


def leave_one_out_by_covariance(f_values, scores):
    return (f_values - f_values.mean()) @ scores / (len(f_values) - 1)


def pathwise_by_autograd(df, mu, log_var, eps):
    mu, log_var = (t.expand_as(eps).clone().requires_grad_() for t in (mu, log_var))
    z = mu + torch.exp(log_var / 2) * eps
    return torch.autograd.grad(z, (mu, log_var), grad_outputs=df(z.detach()))


def surrogate_with_no_grad(f_values, log_q, baseline):
    with torch.no_grad():
        weight = f_values - baseline
    return weight @ log_q / len(log_q)


def surrogate_with_value_of_f(f_values, log_q, baseline):
    weight = f_values.detach() - baseline.detach()
    return (weight * (log_q - log_q.detach())).mean() + f_values.detach().mean()


RIGHT = {
    "3.1": [scores_by_autograd, scores_by_einsum],
    "3.2": [leave_one_out_by_loops, leave_one_out_by_covariance],
    "3.3": [
        lambda mu, log_var, eps: models.reparameterize(mu, log_var, eps=eps),
        lambda mu, log_var, eps: mu + torch.sqrt(torch.exp(log_var)) * eps,
        lambda mu, log_var, eps: torch.addcmul(mu, torch.exp(log_var / 2), eps),
        lambda mu, log_var, eps: eps.double() * log_var.double().exp() ** 0.5 + mu,
    ],
    "3.4": [pathwise_by_autograd, lambda *args: list(find("3.4").solution(*args))],
    "3.5": [surrogate_with_no_grad, surrogate_with_value_of_f],
}


# Wrong answers, each with its own diagnosis ------------------------------------------------------------


def writes_into_eps(mu, log_var, eps):
    return eps.mul_((0.5 * log_var).exp()).add_(mu)


# Written as a learner would, not as the misconceptions are.
WRONG = [
    ("3.1", "not a pair", lambda f, z, mu, log_var: f[:, None] * (z - mu) / log_var.exp()),
    ("3.1", "a numpy array", lambda f, z, mu, log_var: tuple(t.numpy() for t in scores_by_einsum(f, z, mu, log_var))),
    ("3.1", "returns nothing", lambda f, z, mu, log_var: scores_by_einsum(f, z, mu, log_var) and None),
    ("3.2", "mean of all", lambda f, s: torch.cov(torch.cat([f[:, None], s], 1).T, correction=0)[0, 1:]),
    ("3.2", "one estimate per sample", lambda f, s: (f - (f.sum() - f) / (len(f) - 1)).unsqueeze(1) * s),
    ("3.2", "constant factor", lambda f, s: 3 * find("3.2").solution(f, s)),
    ("3.2", "no gradient", lambda f, s: find("3.2").solution(f, s.detach())),
    ("3.3", "exp(log_var) taken for sigma", lambda mu, log_var, eps: mu + torch.exp(log_var) * eps),
    ("3.3", "no gradient", lambda mu, log_var, eps: Normal(mu, 1.0).loc + (0.5 * log_var).exp().detach() * eps),
    ("3.3", "no gradient", lambda mu, log_var, eps: find("3.3").solution(mu.detach(), log_var, eps)),
    ("3.3", "own noise", lambda mu, log_var, eps: Normal(mu, (0.5 * log_var).exp()).rsample()),
    ("3.3", "own noise", lambda mu, log_var, eps: mu + log_var.exp() * torch.randn_like(mu)),
    ("3.3", "log_var limited", lambda mu, log_var, eps: find("3.3").solution(mu, log_var.clamp(-3, 3), eps)),
    ("3.3", "log_var limited", lambda mu, log_var, eps: find("3.3").solution(mu, log_var.clamp(max=6.0), eps)),
    ("3.3", "log_var limited", lambda mu, log_var, eps: mu + (0.5 * log_var).exp().clamp(min=0.1) * eps),
    ("3.3", "changes its input", writes_into_eps),
    ("3.4", "not a pair", lambda df, mu, v, e: df(mu + (0.5 * v).exp() * e)),
    ("3.4", "averaged over the samples", lambda *a: [t.mean(0) for t in find("3.4").solution(*a)]),
    ("3.5", "not one number", lambda f, log_q, b: (f - b).detach() * log_q),
    ("3.5", "a Python number", lambda f, log_q, b: ((f - b).detach() * log_q).mean().item()),
    ("3.5", "no gradient", lambda f, log_q, b: ((f - b) * log_q).mean().detach()),
    ("3.5", "returns nothing", lambda f, log_q, b: (f - b).sum() and None),
]


def test_messages_show_the_function_as_a_formula():
    message = grade("3.4", lambda df, mu, v, e: (df(e), df(e))).message
    assert "df = z ↦ 3 z² − 1" in message and "0x" not in message


def test_the_mean_of_all_is_a_bias_of_one_in_k():
    """What the message of "mean of all" says, checked: the factor is (K − 1)/K."""
    f, s = torch.tensor([1.0, 4.0, 10.0, 2.0]), torch.randn(4, 3)
    wrong = {m.name: m.wrong for m in find("3.2").judge.misconceptions}["mean of all"]
    assert torch.allclose(wrong(f, s), find("3.2").solution(f, s) * 3 / 4)
