"""The exercises of notebook 03: right answers pass, wrong ones are told apart."""

import math

import pytest
import torch
from torch.distributions import AffineTransform, Normal

from course_utils import models
from course_utils.teaching.exercises import find, grade

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


def scores_in_one_go(f_values, z, mu, spread, sigma_of=lambda v: (v / 2).exp(), of=lambda log_q: log_q):
    """With `spread` some other measure of the width, and `of` some other function of log q, a wrong answer."""
    parameters = [t.expand_as(z).clone().requires_grad_() for t in (mu, spread)]
    log_q = Normal(parameters[0], sigma_of(parameters[1])).log_prob(z)
    return [f_values.unsqueeze(1) * g for g in torch.autograd.grad(of(log_q).sum(), parameters)]


def scores_by_einsum(f_values, z, mu, log_var):
    return scores_for_variance(f_values, z, mu, log_var.exp())


def scores_for_variance(f_values, z, mu, variance):
    difference = z - mu
    return (
        torch.einsum("k,kl,l->kl", f_values, difference, variance.reciprocal()),
        torch.einsum("k,kl->kl", f_values, (difference.square() / variance - 1) / 2),
    )


def leave_one_out_by_loops(f_values, scores, weight=lambda own, others: own - others.mean()):
    k = len(f_values)
    total = torch.zeros_like(scores[0])
    for i in range(k):
        others = torch.cat([f_values[:i], f_values[i + 1 :]])
        total = total + weight(f_values[i], others) * scores[i]
    return total / k


def leave_one_out_by_covariance(f_values, scores):
    return (f_values - f_values.mean()) @ scores / (len(f_values) - 1)


def pathwise_by_autograd(df, mu, spread, eps, sigma_of=lambda v: torch.exp(v / 2)):
    """With `spread` some other measure of the width, a wrong answer."""
    mu, spread = (t.expand_as(eps).clone().requires_grad_() for t in (mu, spread))
    z = mu + sigma_of(spread) * eps
    return torch.autograd.grad(z, (mu, spread), grad_outputs=df(z.detach()))


def surrogate_with_no_grad(f_values, log_q, baseline):
    with torch.no_grad():
        weight = f_values - baseline
    return weight @ log_q / len(log_q)


def surrogate_with_value_of_f(f_values, log_q, baseline):
    weight = f_values.detach() - baseline.detach()
    return (weight * (log_q - log_q.detach())).mean() + f_values.detach().mean()


RIGHT = {
    "3.1": [scores_by_autograd, scores_in_one_go, scores_by_einsum],
    "3.2": [leave_one_out_by_loops, leave_one_out_by_covariance],
    "3.3": [
        lambda mu, log_var, eps: models.reparameterize(mu, log_var, eps=eps),
        lambda mu, log_var, eps: mu + torch.sqrt(torch.exp(log_var)) * eps,
        lambda mu, log_var, eps: torch.addcmul(mu, torch.exp(log_var / 2), eps),
        lambda mu, log_var, eps: eps.double() * log_var.double().exp() ** 0.5 + mu,
        lambda mu, log_var, eps: mu + torch.exp(log_var.clamp(-8, 8) / 2) * eps,  # as far as is looked
        lambda mu, log_var, eps: mu + (torch.exp(log_var / 2) + 1.7e-5) * eps,  # below a thousandth of σ
    ],
    "3.4": [pathwise_by_autograd, lambda *args: list(find("3.4").solution(*args))],
    "3.5": [surrogate_with_no_grad, surrogate_with_value_of_f],
}


# Wrong answers, each with its own diagnosis ------------------------------------------------------------


def divides_by_sigma(f_values, z, mu, log_var):
    noise = (z - mu) / log_var.exp().sqrt()
    return torch.einsum("k,kl->kl", f_values, noise), scores_by_autograd(f_values, z, mu, log_var)[1]


def differentiates_in_z(f_values, z, mu, log_var):
    z = z.clone().requires_grad_()
    (by_z,) = torch.autograd.grad(Normal(mu, (log_var / 2).exp()).log_prob(z).sum(), z)
    return f_values.view(-1, 1) * by_z, scores_by_autograd(f_values, z.detach(), mu, log_var)[1]


def forgets_the_normaliser(f_values, z, mu, log_var):
    mu, log_var = (t.expand_as(z).clone().requires_grad_() for t in (mu, log_var))
    exponent = -((z - mu) ** 2) * torch.exp(-log_var) / 2
    return [f_values.view(-1, 1) * g for g in torch.autograd.grad(exponent.sum(), (mu, log_var))]


def averages_the_scores(f_values, z, mu, log_var):
    mu, log_var = mu.clone().requires_grad_(), log_var.clone().requires_grad_()
    log_q = Normal(mu, (log_var / 2).exp()).log_prob(z).sum(1)
    return torch.autograd.grad(f_values @ log_q / len(z), (mu, log_var))


def moved_and_stretched(mu, sigma, eps):
    return AffineTransform(mu, sigma)(eps)


def clamps_at_one(mu, log_var, eps):
    return torch.addcmul(mu, log_var.exp().sqrt().clamp(math.exp(-0.5), math.exp(0.5)), eps)


def stretches_everything(mu, log_var, eps):
    sigma = log_var.exp().sqrt()
    return mu * sigma + eps * sigma


def gives_every_row_the_first_noise(mu, log_var, eps):
    return torch.stack([Normal(m, 1.0).mean + torch.exp(v / 2) * eps[0] for m, v in zip(mu, log_var, strict=True)])


def gives_every_dimension_the_first_noise(mu, log_var, eps):
    return torch.stack([mu[:, i] + torch.exp(log_var[:, i] / 2) * eps[:, 0] for i in range(mu.shape[1])], dim=1)


def writes_into_eps(mu, log_var, eps):
    return eps.mul_((0.5 * log_var).exp()).add_(mu)


def forgets_the_noise(df, mu, log_var, eps):
    sigma = log_var.exp().sqrt()
    slope = df(torch.addcmul(mu, sigma, eps))
    return slope, slope * sigma / 2


def gives_the_slope_twice(df, mu, log_var, eps):
    return [df(mu + log_var.exp().sqrt() * eps)] * 2


def takes_one_slope(df, mu, log_var, eps):
    return df(mu), torch.einsum("l,l,kl->kl", df(mu), log_var.exp().sqrt(), eps) / 2


def backward_through_all_samples(df, mu, log_var, eps, share=1.0):
    mu, log_var = mu.clone().requires_grad_(), log_var.clone().requires_grad_()
    z = mu + torch.exp(log_var / 2) * eps
    z.backward(df(z.detach()) * share)
    return mu.grad, log_var.grad


def sums_over_the_batch(f_values, log_q, baseline):
    return sum((f.item() - b.item()) * q for f, b, q in zip(f_values, baseline, log_q, strict=True))


def loss_of_its_own(f_values, log_q, baseline):
    return surrogate_with_no_grad(f_values, log_q, baseline).detach().requires_grad_()


# Written as a learner would, not as the misconceptions are.
WRONG = [
    ("3.1", "divided by sigma", divides_by_sigma),
    ("3.1", "sign of the mean's score", differentiates_in_z),
    ("3.1", "derivative in sigma", lambda f, z, m, v: scores_in_one_go(f, z, m, (v / 2).exp(), lambda sigma: sigma)),
    ("3.1", "derivative in log sigma", lambda f, z, mu, v: scores_in_one_go(f, z, mu, v / 2, torch.exp)),
    ("3.1", "derivative in the variance", lambda f, z, mu, v: scores_in_one_go(f, z, mu, v.exp(), torch.sqrt)),
    ("3.1", "normaliser forgotten", forgets_the_normaliser),
    ("3.1", "log_var taken for sigma", lambda f, z, mu, v: scores_by_autograd(f, z, mu, v.square().log())),
    ("3.1", "log_var taken for the variance", scores_for_variance),
    ("3.1", "exp(log_var) taken for sigma", lambda f, z, mu, v: scores_by_autograd(f, z, mu, 2 * v)),
    ("3.1", "the scores alone", lambda f, z, mu, v: scores_by_autograd(torch.ones_like(f), z, mu, v)),
    ("3.1", "averaged over the samples", averages_the_scores),
    ("3.1", "in the other order", lambda f, z, mu, v: scores_by_autograd(f, z, mu, v)[::-1]),
    (
        "3.1",
        "exp(log_var) taken for sigma, and its derivative",
        lambda f, z, mu, v: scores_in_one_go(f, z, mu, v, torch.exp),
    ),
    ("3.1", "q instead of log q", lambda f, z, mu, v: scores_in_one_go(f, z, mu, v, of=lambda each: each.sum(1).exp())),
    ("3.1", "q of each dimension instead of log q", lambda f, z, mu, v: scores_in_one_go(f, z, mu, v, of=torch.exp)),
    ("3.1", "not a pair", lambda f, z, mu, log_var: f[:, None] * (z - mu) / log_var.exp()),
    ("3.1", "a numpy array", lambda f, z, mu, log_var: tuple(t.numpy() for t in scores_by_einsum(f, z, mu, log_var))),
    ("3.1", "returns nothing", lambda f, z, mu, log_var: scores_by_einsum(f, z, mu, log_var) and None),
    ("3.2", "mean of all", lambda f, s: torch.cov(torch.cat([f[:, None], s], 1).T, correction=0)[0, 1:]),
    ("3.2", "no baseline", lambda f, s: torch.einsum("k,kl->l", f, s) / len(f)),
    ("3.2", "divided by K", lambda f, s: leave_one_out_by_loops(f, s, lambda own, others: own - others.sum() / len(f))),
    ("3.2", "sum of the others", lambda f, s: leave_one_out_by_loops(f, s, lambda own, others: own - others.sum())),
    ("3.2", "summed over the samples", lambda f, s: leave_one_out_by_covariance(f, s) * len(f)),
    ("3.2", "averaged over K − 1", lambda f, s: leave_one_out_by_covariance(f, s) * len(f) / (len(f) - 1)),
    ("3.2", "baseline added", lambda f, s: leave_one_out_by_loops(f, s, lambda own, others: own + others.mean())),
    ("3.2", "subtracted after the product", lambda f, s: f @ s / len(f) - f.mean()),  # the others' means average to it
    ("3.2", "sign", lambda f, s: (f.mean() - f) @ s / (len(f) - 1)),
    ("3.2", "one estimate per sample", lambda f, s: (f - (f.sum() - f) / (len(f) - 1)).unsqueeze(1) * s),
    ("3.2", "constant factor", lambda f, s: 3 * find("3.2").solution(f, s)),
    ("3.2", "no gradient", lambda f, s: find("3.2").solution(f, s.detach())),
    ("3.3", "exp(log_var) taken for sigma", lambda mu, log_var, eps: mu + torch.exp(log_var) * eps),
    ("3.3", "log_var taken for sigma", moved_and_stretched),
    ("3.3", "half of log_var, not exponentiated", lambda mu, v, eps: moved_and_stretched(mu, v / 2, eps)),
    ("3.3", "root of log_var", lambda mu, v, eps: moved_and_stretched(mu, v**0.5, eps)),
    ("3.3", "half in the wrong place", lambda mu, v, eps: moved_and_stretched(mu, math.e**v / 2, eps)),
    ("3.3", "exp(2 log_var)", lambda mu, v, eps: moved_and_stretched(mu, v.exp() ** 2, eps)),
    ("3.3", "noise not stretched", lambda mu, v, eps: moved_and_stretched(mu, 1.0, eps)),
    ("3.3", "noise forgotten", lambda mu, v, eps: mu + Normal(mu, v.exp().sqrt()).stddev),
    ("3.3", "noise alone", lambda mu, v, eps: moved_and_stretched(0.0, v.exp().sqrt(), eps)),
    ("3.3", "the mean alone", lambda mu, v, eps: Normal(mu, v.exp().sqrt()).mean),
    ("3.3", "everything stretched", stretches_everything),
    ("3.3", "clamped to ±1", clamps_at_one),
    ("3.3", "one noise for the batch", gives_every_row_the_first_noise),
    ("3.3", "one noise for all dimensions", gives_every_dimension_the_first_noise),
    ("3.3", "divided", lambda mu, v, eps: moved_and_stretched(mu, torch.rsqrt(v.exp()), eps)),
    ("3.3", "no gradient", lambda mu, log_var, eps: Normal(mu, 1.0).loc + (0.5 * log_var).exp().detach() * eps),
    ("3.3", "no gradient", lambda mu, log_var, eps: find("3.3").solution(mu.detach(), log_var, eps)),
    ("3.3", "own noise", lambda mu, log_var, eps: Normal(mu, (0.5 * log_var).exp()).rsample()),
    ("3.3", "own noise", lambda mu, log_var, eps: mu + log_var.exp() * torch.randn_like(mu)),
    ("3.3", "own noise", lambda mu, log_var, eps: mu + log_var.sqrt() * torch.randn_like(mu)),
    ("3.3", "not finite", lambda mu, log_var, eps: mu + log_var.log() * eps),
    ("3.3", "log_var limited", lambda mu, log_var, eps: find("3.3").solution(mu, log_var.clamp(-3, 3), eps)),
    ("3.3", "log_var limited", lambda mu, log_var, eps: find("3.3").solution(mu, log_var.clamp(max=7.99), eps)),
    ("3.3", "log_var limited", lambda mu, log_var, eps: find("3.3").solution(mu, log_var.clamp(min=-7.99), eps)),
    ("3.3", "log_var limited", lambda mu, log_var, eps: mu + (0.5 * log_var).exp().clamp(min=0.1) * eps),
    ("3.3", "log_var limited", lambda mu, log_var, eps: mu + ((0.5 * log_var).exp() + 2e-5) * eps),
    ("3.3", "changes its input", writes_into_eps),
    ("3.3", "a numpy array", lambda mu, log_var, eps: moved_and_stretched(mu, log_var.exp().sqrt(), eps).numpy()),
    ("3.4", "derivative in sigma", lambda df, mu, v, e: pathwise_by_autograd(df, mu, (v / 2).exp(), e, lambda s: s)),
    ("3.4", "derivative in log sigma", lambda df, mu, v, e: pathwise_by_autograd(df, mu, v / 2, e, torch.exp)),
    ("3.4", "derivative in the variance", lambda df, mu, v, e: pathwise_by_autograd(df, mu, v.exp(), e, torch.sqrt)),
    ("3.4", "slope at the mean", lambda df, mu, v, e: pathwise_by_autograd(lambda z: df(0 * z + mu), mu, v, e)),
    ("3.4", "one slope, at the mean", takes_one_slope),
    ("3.4", "slope at the noise", lambda df, mu, v, e: pathwise_by_autograd(lambda z: df(e), mu, v, e)),
    ("3.4", "exp(log_var) taken for sigma", lambda df, mu, v, e: pathwise_by_autograd(df, mu, 2 * v, e)),
    (
        "3.4",
        "exp(log_var) taken for sigma, and its derivative",
        lambda df, mu, v, e: pathwise_by_autograd(df, mu, v, e, torch.exp),
    ),
    ("3.4", "noise forgotten", forgets_the_noise),
    ("3.4", "the slope twice", gives_the_slope_twice),
    ("3.4", "summed over the samples", backward_through_all_samples),
    ("3.4", "averaged over the samples", lambda df, m, v, e: backward_through_all_samples(df, m, v, e, 1 / len(e))),
    ("3.4", "in the other order", lambda *a: pathwise_by_autograd(*a)[::-1]),
    ("3.4", "not a pair", lambda df, mu, v, e: df(mu + (0.5 * v).exp() * e)),
    ("3.5", "weight not detached", lambda f, log_q, b: torch.dot(f - b, log_q) / len(f)),
    ("3.5", "baseline not detached", lambda f, log_q, b: torch.dot(torch.tensor(f.tolist()).to(b) - b, log_q) / len(f)),
    ("3.5", "f not detached", lambda f, log_q, b: torch.dot(f - torch.tensor(b.tolist()).to(f), log_q) / len(f)),
    ("3.5", "no baseline", lambda f, log_q, b: surrogate_with_no_grad(f, log_q, torch.zeros_like(b))),
    ("3.5", "sign", lambda f, log_q, b: surrogate_with_no_grad(b, log_q, f)),
    ("3.5", "baseline added", lambda f, log_q, b: surrogate_with_no_grad(f, log_q, -b)),
    ("3.5", "summed over the batch", sums_over_the_batch),
    ("3.5", "baseline taken off log_q", lambda f, log_q, b: torch.dot(f.detach(), log_q - b) / len(f)),
    ("3.5", "log_q detached", lambda f, log_q, b: torch.dot(f - b, torch.tensor(log_q.tolist()).to(f)) / len(f)),
    ("3.5", "probability instead of its logarithm", lambda f, log_q, b: surrogate_with_no_grad(f, log_q.exp(), b)),
    (
        "3.5",
        "averaged before the product",
        lambda f, log_q, b: (f.mean().item() - b.mean().item()) * log_q.sum() / len(f),
    ),
    ("3.5", "the pathwise loss", lambda f, log_q, b: f.sum() / len(f)),
    ("3.5", "the mean of the weights", lambda f, log_q, b: f.sum() / len(f) - b.sum() / len(b)),
    ("3.5", "not one number", lambda f, log_q, b: (f - b).detach() * log_q),
    ("3.5", "not one number", lambda f, log_q, b: surrogate_with_no_grad(f, log_q, b).unsqueeze(0)),
    ("3.5", "a Python number", lambda f, log_q, b: ((f - b).detach() * log_q).mean().item()),
    ("3.5", "no gradient", lambda f, log_q, b: ((f - b) * log_q).mean().detach()),
    ("3.5", "no gradient", loss_of_its_own),
    ("3.5", "returns nothing", lambda f, log_q, b: (f - b).sum() and None),
]


# What the messages say ---------------------------------------------------------------------------------


def test_messages_show_the_function_as_a_formula():
    message = grade("3.4", lambda df, mu, v, e: (df(e), df(e))).message
    assert "df = z ↦ 3 z² − 1" in message and "0x" not in message


def test_the_mean_of_all_is_a_bias_of_one_in_k():
    """What the message of "mean of all" says, checked: the factor is (K − 1)/K."""
    f, s = torch.tensor([1.0, 4.0, 10.0, 2.0]), torch.randn(4, 3)
    wrong = {m.name: m.wrong for m in find("3.2").judge.misconceptions}["mean of all"]
    assert torch.allclose(wrong(f, s), find("3.2").solution(f, s) * 3 / 4)


def test_a_pair_is_shown_by_name_and_as_it_came():
    """The numbers of the first case, by hand: σ² = e^0.6 = 1.822, differences 1, −½ and 1½, f = 2, 3 and −1."""
    message = grade("3.1", lambda f, z, mu, v: (scores_by_einsum(f, z, mu, v)[0], 0 * z)).message
    assert "expected: for log_var, shape (3, 1): [[-0.4512], [-1.294], [-0.1174]]" in message
    message = grade("3.1", lambda f, z, mu, v: (0 * z, scores_by_einsum(f, z, mu, v)[1])).message
    assert "expected: for mu, shape (3, 1): [[1.098], [-0.8232], [-0.8232]]" in message
    assert "a Tensor came back" in grade("3.1", lambda f, z, mu, v: z).message
    triple = grade("3.4", lambda df, mu, v, e: (e, e, e))
    assert triple.diagnosis == "not a pair" and "a tuple of 3 came back" in triple.message


def test_the_derivatives_are_what_their_formulas_say():
    came = {}

    def remember(df, mu, log_var, eps):
        z = torch.tensor([[1.0, 2.0]])
        torch.testing.assert_close(df(z[0]), df(z)[0])  # at one point, such as μ, as well
        came[repr(df)] = df(z)
        return pathwise_by_autograd(df, mu, log_var, eps)

    assert grade("3.4", remember).status == "passed"
    expected = {
        "z ↦ 3 z² − 1": [[2.0, 11.0]],
        "z ↦ cos 2z + ½ (sum of z over L)": [[math.cos(2) + 1.5, math.cos(4) + 1.5]],
    }
    assert came.keys() == expected.keys()
    for formula, values in expected.items():
        torch.testing.assert_close(came[formula], torch.tensor(values))


@pytest.mark.parametrize(
    ("limits", "words"),
    [((-3, 8), "where it is -8: with μ = 0 and ε = 1, expected 0.01832, came 0.2231"),
     ((-8, 3), "where it is 8: with μ = 0 and ε = 1, expected 54.6, came 4.482")],
)  # fmt: skip
def test_a_limit_is_shown_where_it_shows(limits, words):
    message = grade("3.3", lambda mu, v, eps: mu + torch.exp(v.clamp(*limits) / 2) * eps).message
    assert words in " ".join(message.split())


def test_a_loss_is_shown_with_all_that_its_gradient_is_made_of():
    """The first case, by hand: f − b = 1, 4 and −1, so (1·1 + 4·2 + 1·1)/3; the sum is three times as much."""
    message = grade("3.5", lambda f, log_q, b: (f - b).detach() @ log_q).message
    shown = """
    f_values = [2, 5, 3]
    log_q = [-1, -2, -0.5]
    baseline = [1, 1, 4]
    gradient of f_values = [[0.5], [-1], [2]]
    gradient of log_q = [[1], [2], [-1]]
    gradient of baseline = [[0.25], [-0.5], [1]]
    expected: gradient of the loss = [3.333]
    came:     gradient of the loss = [10]
"""
    assert shown in message


def test_a_loss_for_each_sample_is_shown_with_its_shape():
    assert "yours has shape (3,)" in grade("3.5", lambda f, log_q, b: (f - b).detach() * log_q).message
