"""The exercises of notebook 02: right answers pass, wrong ones are told apart."""

import math
from functools import reduce

import pytest
import torch
import torch.nn.functional as F
from torch.distributions import Normal, kl_divergence

from course_utils.teaching.exercises import find, grade

# Right answers, written differently --------------------------------------------------------------------


def terms_by_distributions(x, mu, log_var, W, b, sigma):
    rate = kl_divergence(Normal(mu, (0.5 * log_var).exp()), Normal(0.0, 1.0)).sum(1)
    at_mean = -Normal(mu @ W.T + b, sigma).log_prob(x).sum(1)
    spread = torch.einsum("dl,bl->b", W**2, log_var.exp())
    return at_mean + spread / (2 * sigma**2), rate


def terms_by_loops(x, mu, log_var, W, b, sigma):
    distortion, rate = torch.zeros_like(x[:, 0]), torch.zeros_like(x[:, 0])
    for i in range(len(x)):
        covariance = log_var[i].exp().diag()
        offset = x[i] - b - W @ mu[i]
        squares = offset @ offset + torch.trace(W @ covariance @ W.T)
        distortion[i] = squares / (2 * sigma**2) + len(b) * (math.log(sigma) + 0.5 * math.log(2 * math.pi))
        rate[i] = 0.5 * (torch.trace(covariance) + mu[i] @ mu[i] - len(mu[i]) - torch.logdet(covariance))
    return distortion, rate


def posterior_by_woodbury(x, W, b, sigma):
    """From the joint Gaussian of z and x, conditioned on x."""
    marginal = W @ W.T + sigma**2 * torch.eye(len(W)).to(W)
    gain = torch.linalg.solve(marginal, W).T  # (L, D)
    return (x - b) @ gain.T, torch.eye(W.shape[1]).to(W) - gain @ W


def posterior_by_tipping_and_bishop(x, W, b, sigma):
    M = W.T @ W + sigma**2 * torch.eye(W.shape[1]).to(W)
    return [torch.linalg.solve(M, W.T @ (x - b).T).T, sigma**2 * torch.linalg.inv(M)]


def bound_by_loops(log_w, k):
    total = 0
    for start in range(0, len(log_w), k):
        total = total + torch.logsumexp(log_w[start : start + k], 0) - math.log(k)
    return total / (len(log_w) // k)


def bound_by_reshape(log_w, k):
    return (log_w.reshape(-1, k, log_w.shape[1]).logsumexp(1) - math.log(k)).mean(0)


def fit_descending(covariance, latent_dim):
    values, vectors = torch.linalg.eigh(covariance)
    values, vectors = values.flip(0), vectors.flip(1)
    variance = values[latent_dim:].sum() / (len(values) - latent_dim)
    return vectors[:, :latent_dim] @ (values[:latent_dim] - variance).sqrt().diag(), variance**0.5


def fit_by_svd_and_turned(covariance, latent_dim):
    U, values, _ = torch.linalg.svd(covariance)
    variance = values[latent_dim:].mean()
    turn = torch.linalg.qr(torch.randn(latent_dim, latent_dim).to(covariance))[0]
    return U[:, :latent_dim] * (values[:latent_dim] - variance).sqrt() @ turn, variance.sqrt()


RIGHT = {
    "2.1": [
        lambda log_w: torch.logsumexp(log_w, 0) - math.log(log_w.shape[0]),
        lambda log_w: torch.logsumexp(log_w - math.log(len(log_w)), dim=0),
        lambda log_w: (log_w - log_w.max(dim=0).values).exp().mean(0).log() + log_w.max(dim=0).values,
        lambda log_w: torch.logaddexp(log_w[0], log_w[1:].logsumexp(0)) - math.log(len(log_w)),
    ],
    "2.2": [terms_by_distributions, terms_by_loops],
    "2.3": [posterior_by_woodbury, posterior_by_tipping_and_bishop],
    "2.4": [bound_by_loops, bound_by_reshape],
    "2.5": [fit_descending, fit_by_svd_and_turned],
}


# Wrong answers, each with its own diagnosis ------------------------------------------------------------


def log_sum(log_w):
    """Two at a time, over the rows."""
    return reduce(torch.logaddexp, log_w)


def shared_among(count):
    """Exercise 2.1 with another divisor of the sum."""
    return lambda log_w: log_sum(log_w) - math.log(count(log_w))


def softmax_average(log_w):
    weights = torch.exp(log_w - log_w.max(0).values)
    return torch.einsum("sb,sb->b", weights / weights.sum(0), log_w)


def writes_into_log_w(log_w):
    highest = log_w.max(0).values
    log_w -= highest
    return log_w.exp().mean(0).log() + highest


def expected_squares(x, mu, log_var, W, b):
    spread = torch.stack([torch.trace(W @ torch.diag(row.exp()) @ W.T) for row in log_var])
    return F.mse_loss(F.linear(mu, W, b), x, reduction="none").sum(1) + spread


def with_spread(spread):
    """The distortion with another effect of the spread of z on the squared distance: spread(log_var, W)."""

    def answer(x, mu, log_var, W, b, sigma):
        at_mean = -Normal(F.linear(mu, W, b), sigma).log_prob(x).sum(1)
        return at_mean + spread(log_var, W) / (2 * sigma * sigma), nats(mu, log_var).sum(1)

    return answer


def with_distortion(distortion):
    """Another distortion from the expected squares, D and sigma."""

    def answer(x, mu, log_var, W, b, sigma):
        return distortion(expected_squares(x, mu, log_var, W, b), len(b), sigma), nats(mu, log_var).sum(1)

    return answer


def averages_the_distance(x, mu, log_var, W, b, sigma):
    distance = F.mse_loss(F.linear(mu, W, b), x, reduction="none").mean(1)
    spread = torch.einsum("dl,bl->b", W**2, log_var.exp())
    constant = len(b) * math.log(sigma * math.sqrt(2 * math.pi))
    return constant + (distance + spread) / (2 * sigma * sigma), nats(mu, log_var).sum(1)


def with_rate(rate):
    return lambda *a: (terms_by_loops(*a)[0], rate(a[1], a[2]))


def nats(mu, log_var):
    return kl_divergence(Normal(mu, torch.exp(log_var / 2)), Normal(0.0, 1.0))


def least_squares(x, W, b, sigma):
    inverse = torch.linalg.pinv(W)
    return (x - b) @ inverse.T, sigma * sigma * inverse @ inverse.T


def with_mean(mean):
    """The right covariance and another mean."""
    return lambda x, W, b, sigma: (mean(x, W, b, sigma), posterior_by_woodbury(x, W, b, sigma)[1])


def with_covariance(covariance):
    return lambda x, W, b, sigma: (posterior_by_woodbury(x, W, b, sigma)[0], covariance(W, sigma))


def slope_at_zero(x, W, b, sigma):
    """The gradient of log p(x|z) with respect to z, at z = 0."""
    z = torch.zeros(len(x), W.shape[1]).to(W).requires_grad_()
    return torch.autograd.grad(Normal(F.linear(z, W, b), sigma).log_prob(x).sum(), z)[0]


def bends(W, sigma):
    """How log p(x, z) bends in z: minus its second derivatives."""
    joint = lambda z: 0.5 * (z @ z) + 0.5 * (W @ z / sigma) @ (W @ z / sigma)  # noqa: E731
    return torch.autograd.functional.hessian(joint, torch.zeros(W.shape[1]).to(W))


def over_groups(groups, inside):
    """The mean over groups(log_w, k), a list of tensors of rows, of inside(group, k)."""
    return lambda log_w, k: sum(inside(group, k) for group in groups(log_w, k)) / len(groups(log_w, k))


def swaps_the_averages(log_w, k):
    means = [group.mean(0) for group in log_w.split(k)]
    return log_sum(means) - math.log(len(means))


def fit_with(noise=lambda values, L: sum(values[L:]) / (len(values) - L), length=lambda value, v: math.sqrt(value - v)):
    """The largest eigenvalue first, column by column, with another noise variance or length of a column."""

    def answer(covariance, latent_dim):
        U, values, _ = torch.linalg.svd(covariance)
        v = noise(values, latent_dim)
        columns = [U[:, i] * length(values[i], v) for i in range(latent_dim)]
        return torch.stack(columns, 1), v**0.5

    return answer


def fit_to_the_smallest(covariance, latent_dim):
    U, values, _ = torch.linalg.svd(covariance)
    v = values[:-latent_dim].mean()
    return U[:, -latent_dim:] * (v - values[-latent_dim:]).sqrt(), v.sqrt()


def lengths_by_svd_and_directions_by_eigh(covariance, latent_dim):
    values, (_, vectors) = torch.linalg.svdvals(covariance), torch.linalg.eigh(covariance)
    v = values[latent_dim:].mean()
    return vectors[:, -latent_dim:] @ torch.diag((values[:latent_dim] - v).sqrt()), v.sqrt()


def eigen_rows_as_columns(covariance, latent_dim):
    values, vectors = torch.linalg.eigh(covariance)
    v = values[:-latent_dim].mean()
    return torch.diag((values[-latent_dim:] - v).sqrt()).mm(vectors[-latent_dim:]).T, v.sqrt()


def eigen_rows(covariance, latent_dim):
    values, vectors = torch.linalg.eigh(covariance)
    return vectors[-latent_dim:], values[:-latent_dim].mean().sqrt()


def values_flipped(covariance, latent_dim):
    values, vectors = torch.linalg.eigh(covariance)
    values = torch.flip(values, (0,))
    sigma = values[latent_dim:].mean() ** 0.5
    return vectors[:, :latent_dim] @ (values[:latent_dim] - sigma**2).sqrt().diag(), sigma


def largest_first(covariance, latent_dim):
    values, vectors = torch.linalg.eigh(covariance)
    sigma = values[latent_dim:].mean().sqrt()
    return vectors[:, -latent_dim:] @ (values[:latent_dim] - sigma**2).sqrt().diag(), sigma


def bound_with_one_maximum(log_w, k):
    m = log_w.max()
    return (torch.exp(log_w - m).reshape(-1, k, log_w.shape[1]).mean(1).log() + m).mean(0)


def bound_with_one_maximum_for_each_example(log_w, k):
    m = log_w.max(0).values
    return sum(torch.log(torch.exp(group - m).sum(0) / k) + m for group in log_w.split(k)) * k / len(log_w)


def shifted_by(shift):
    """Exercise 2.1 with something else than the maximum taken out."""
    return lambda log_w: shift(log_w) + torch.log(sum(torch.exp(row - shift(log_w)) for row in log_w) / len(log_w))


def cut(term, name):
    """Exercise 2.2 with no gradient from one term (0 the distortion, 1 the rate) to one argument."""

    def answer(*args):
        place = find("2.2").parameters.index(name)
        terms = list(terms_by_loops(*args))
        terms[term] = terms_by_loops(*args[:place], args[place].detach(), *args[place + 1 :])[term]
        return terms

    return answer


# Written as a learner would, not as the misconceptions are.
WRONG = [
    ("2.1", "out of range", lambda w: torch.log(torch.mean(torch.exp(w), dim=0))),
    ("2.1", "out of range", lambda w: torch.log(torch.exp(w).sum(0) / len(w))),
    ("2.1", "sum, and out of range", lambda w: torch.log(sum(torch.exp(row) for row in w))),
    ("2.1", "not the largest taken out", shifted_by(lambda w: w.min(0).values)),
    ("2.1", "not the largest taken out", shifted_by(lambda w: w.mean(0))),
    ("2.1", "not the largest taken out", shifted_by(lambda w: w.median(0).values)),
    ("2.1", "not the largest taken out", shifted_by(lambda w: w[0])),
    ("2.1", "not the largest taken out", shifted_by(lambda w: w[-1])),
    ("2.1", "sum instead of mean", lambda w: torch.logsumexp(w, dim=0)),
    ("2.1", "one maximum for the batch", lambda w: w.max() + torch.log(torch.exp(w - w.max()).mean(0))),
    ("2.1", "mean of the logs", lambda w: sum(w) / len(w)),
    ("2.1", "sum instead of mean", log_sum),
    ("2.1", "divided outside of the log", lambda w: log_sum(w) / w.shape[0]),
    ("2.1", "S in place of log S", shared_among(lambda w: math.exp(w.shape[0]))),
    ("2.1", "over the batch", lambda w: torch.stack([log_sum(row) - math.log(len(row)) for row in w])),
    ("2.1", "one number for all", lambda w: shared_among(len)(w.flatten())),
    ("2.1", "maximum", lambda w: torch.sort(w, dim=0).values[-1]),
    ("2.1", "maximum not added back", lambda w: shared_among(len)(w - w.max(0).values)),
    ("2.1", "no log at the end", lambda w: sum(row.exp() for row in w) / len(w)),
    ("2.1", "weights that sum to one", softmax_average),
    ("2.1", "changes its input", writes_into_log_w),
    ("2.1", "no gradient", lambda w: find("2.1").solution(w.detach())),
    ("2.1", "right numbers, wrong shape", lambda w: find("2.1").solution(w)[None]),
    ("2.1", "returns nothing", lambda w: print(end="")),
    ("2.2", "not a pair", lambda *a: sum(find("2.2").solution(*a))),
    ("2.2", "z kept at its mean", with_spread(lambda lv, W: 0)),
    ("2.2", "log-variance used as a variance", with_spread(lambda lv, W: torch.einsum("bl,dl->b", lv, W**2))),
    (
        "2.2",
        "standard deviation in place of the variance",
        with_spread(lambda lv, W: torch.einsum("bl,dl->b", (lv / 2).exp(), W**2)),
    ),
    (
        "2.2",
        "columns of W not squared",
        with_spread(lambda lv, W: (lv.exp() @ W.T).sum(1)),
    ),
    ("2.2", "lengths of W ignored", with_spread(lambda lv, W: torch.stack([row.exp().sum() for row in lv]))),
    (
        "2.2",
        "sigma not squared",
        with_distortion(lambda sq, D, s: sq / (2 * s) + D * math.log(s) + D / 2 * math.log(2 * math.pi)),
    ),
    ("2.2", "no constant", with_distortion(lambda sq, D, s: sq / (2 * s * s))),
    (
        "2.2",
        "the constant of one pixel",
        with_distortion(lambda sq, D, s: sq / (2 * s * s) + math.log(s) + math.log(2 * math.pi) / 2),
    ),
    (
        "2.2",
        "the constant without sigma",
        with_distortion(lambda sq, D, s: sq / (2 * s * s) + D * math.log(math.sqrt(2 * math.pi))),
    ),
    (
        "2.2",
        "log sigma for log sigma squared",
        with_distortion(lambda sq, D, s: sq / (2 * s * s) + D * math.log(math.sqrt(2 * math.pi * s))),
    ),
    (
        "2.2",
        "factor one half forgotten in the distortion",
        with_distortion(lambda sq, D, s: sq / (s * s) + D * math.log(s * math.sqrt(2 * math.pi))),
    ),
    (
        "2.2",
        "mean over the pixels",
        with_distortion(lambda sq, D, s: (sq / D) / (2 * s * s) + math.log(s * math.sqrt(2 * math.pi))),
    ),
    (
        "2.2",
        "squares averaged over the pixels",
        with_distortion(lambda sq, D, s: (sq / D) / (2 * s * s) + D * math.log(s * math.sqrt(2 * math.pi))),
    ),
    ("2.2", "distance averaged, spread summed", averages_the_distance),
    ("2.2", "sign of the distortion", lambda *a: (-terms_by_loops(*a)[0], terms_by_loops(*a)[1])),
    ("2.2", "sign of the rate", with_rate(lambda mu, lv: -nats(mu, lv).sum(1))),
    ("2.2", "sign of the rate", with_rate(lambda mu, lv: 0.5 * (1 + lv - mu.pow(2) - lv.exp()).sum(1))),
    ("2.2", "log forgotten in the rate", with_rate(lambda mu, lv: (mu**2 + lv.exp()).sum(1) / 2 - mu.shape[1] / 2)),
    ("2.2", "1 forgotten in the rate", with_rate(lambda mu, lv: (nats(mu, lv) + 1 / 2).sum(1))),
    ("2.2", "factor one half forgotten in the rate", with_rate(lambda mu, lv: 2 * nats(mu, lv).sum(1))),
    ("2.2", "rate averaged over the codes", with_rate(lambda mu, lv: nats(mu, lv).mean(1))),
    (
        "2.2",
        "half of the log-variance in the rate",
        with_rate(lambda mu, lv: 0.5 * (mu**2 + lv.exp() - 1 - torch.log(torch.exp(lv / 2))).sum(1)),
    ),
    ("2.2", "one rate for the batch", with_rate(lambda mu, lv: nats(mu, lv).sum())),
    ("2.2", "in the other order", lambda *a: terms_by_loops(*a)[::-1]),
    ("2.2", "not a pair", lambda *a: torch.stack(terms_by_loops(*a))),
    ("2.2", "not a tensor", lambda *a: [t.numpy() for t in terms_by_loops(*a)]),
    ("2.2", "complex numbers", lambda *a: [t + 0j for t in terms_by_loops(*a)]),
    ("2.3", "not a pair", lambda *a: find("2.3").solution(*a)[0]),
    ("2.3", "variances only", lambda *a: (posterior_by_woodbury(*a)[0], posterior_by_woodbury(*a)[1].diag().diag())),
    ("2.3", "sigma not squared", lambda x, W, b, sigma: posterior_by_woodbury(x, W, b, sigma**0.5)),
    (
        "2.3",
        "sigma squared in one place only",
        with_mean(lambda x, W, b, sigma: posterior_by_woodbury(x, W, b, sigma)[0] * sigma),
    ),
    ("2.3", "prior forgotten", least_squares),
    ("2.3", "b forgotten", lambda x, W, b, sigma: posterior_by_woodbury(x, W, 0, sigma)),
    ("2.3", "b ignored and prior forgotten", lambda x, W, b, sigma: least_squares(x, W, 0, sigma)),
    ("2.3", "precision, not covariance", with_covariance(bends)),
    (
        "2.3",
        "noise left out of the mean",
        with_mean(lambda x, W, b, sigma: posterior_by_woodbury(x, W, b, sigma)[0] * sigma**2),
    ),
    ("2.3", "mean not multiplied by the covariance", with_mean(slope_at_zero)),
    ("2.3", "projection only", with_mean(lambda x, W, b, sigma: torch.einsum("bd,dl->bl", x - b, W))),
    ("2.3", "covariance without the noise", with_covariance(lambda W, s: torch.linalg.inv(bends(W, s)) / (s * s))),
    ("2.3", "in the other order", lambda *a: posterior_by_woodbury(*a)[::-1]),
    ("2.3", "divided where multiplied", lambda x, W, b, sigma: posterior_by_woodbury(x, W, b, 1 / sigma)),
    ("2.4", "k ignored: mean of the logs", lambda w, k: sum(w) / len(w)),
    ("2.4", "sum within the groups", over_groups(torch.split, lambda group, k: log_sum(group))),
    ("2.4", "k groups", over_groups(torch.chunk, lambda group, k: shared_among(len)(group))),
    ("2.4", "k groups, minus log k", over_groups(torch.chunk, lambda group, k: log_sum(group) - math.log(k))),
    (
        "2.4",
        "groups across the rows",
        over_groups(
            lambda w, k: [w[i :: len(w) // k] for i in range(len(w) // k)],
            lambda group, k: log_sum(group) - math.log(k),
        ),
    ),
    (
        "2.4",
        "log of a mean over the groups",
        over_groups(lambda w, k: [w[i::k] for i in range(k)], lambda group, k: log_sum(group) - math.log(len(group))),
    ),
    (
        "2.4",
        "log of a sum over the groups, minus log k",
        over_groups(lambda w, k: [w[i::k] for i in range(k)], lambda group, k: log_sum(group) - math.log(k)),
    ),
    ("2.4", "only the first group", lambda w, k: log_sum(w[i] for i in range(k)) - math.log(k)),
    ("2.4", "out of range", over_groups(torch.split, lambda group, k: torch.log(torch.exp(group).sum(0) / k))),
    (
        "2.4",
        "sum within the groups, and out of range",
        over_groups(torch.split, lambda group, k: torch.log(torch.exp(group).sum(0))),
    ),
    (
        "2.4",
        "not the largest taken out",
        over_groups(torch.split, lambda group, k: shifted_by(lambda w: w.min(0).values)(group)),
    ),
    ("2.4", "not the largest taken out", over_groups(torch.split, lambda g, k: shifted_by(lambda w: w.mean(0))(g))),
    ("2.4", "not the largest taken out", over_groups(torch.split, lambda g, k: shifted_by(lambda w: w[0])(g))),
    ("2.4", "one maximum for all groups", bound_with_one_maximum_for_each_example),
    ("2.4", "best of each group", over_groups(torch.split, lambda group, k: torch.max(group, 0).values)),
    ("2.4", "average of the groups inside the log", swaps_the_averages),
    (
        "2.4",
        "one number for each group",
        lambda w, k: torch.stack([log_sum(group) - math.log(k) for group in w.split(k)]),
    ),
    ("2.4", "no gradient", lambda w, k: bound_by_loops(w.detach(), k)),
    ("2.4", "k ignored: one group of all", lambda w, k: torch.logsumexp(w, 0) - math.log(w.shape[0])),
    ("2.4", "one number for the batch", lambda w, k: find("2.4").solution(w, k).mean().item()),
    ("2.4", "one maximum for the batch", bound_with_one_maximum),
    ("2.4", "log S in place of log k", lambda w, k: bound_by_loops(w, k) + math.log(k) - math.log(w.shape[0])),
    ("2.5", "eigenvalues flipped, eigenvectors not", values_flipped),
    ("2.5", "eigenvalues from the wrong end", largest_first),
    ("2.5", "noise counted twice", fit_with(length=lambda value, v: math.sqrt(value))),
    ("2.5", "noise added", fit_with(length=lambda value, v: math.sqrt(value + v))),
    ("2.5", "root forgotten", fit_with(length=lambda value, v: value - v)),
    ("2.5", "directions only", fit_with(length=lambda value, v: 1)),
    ("2.5", "smallest eigenvalues", fit_to_the_smallest),
    (
        "2.5",
        "noise from the wrong end",
        fit_with(lambda values, L: values[:-L].mean(), lambda value, v: (value - v) ** 0.5),
    ),
    ("2.5", "lengths in the other order", lengths_by_svd_and_directions_by_eigh),
    ("2.5", "rows in place of columns", eigen_rows_as_columns),
    ("2.5", "variance in place of sigma", lambda c, L: (fit_with()(c, L)[0], fit_with()(c, L)[1] ** 2)),
    ("2.5", "sum of the discarded eigenvalues", fit_with(lambda values, L: sum(values[L:]))),
    ("2.5", "discarded variance shared among all", fit_with(lambda values, L: sum(values[L:]) / len(values))),
    (
        "2.5",
        "mean of all eigenvalues",
        fit_with(lambda values, L: sum(values) / len(values), lambda value, v: (value - v) ** 0.5),
    ),
    ("2.5", "smallest eigenvalue as the noise", fit_with(lambda values, L: values[-1])),
    ("2.5", "sigma subtracted, not its square", fit_with(length=lambda value, v: math.sqrt(value - math.sqrt(v)))),
    ("2.5", "wrong shape", eigen_rows),
    ("2.5", "wrong shape", lambda c, L: fit_with()(c, L + 1)),
    ("2.5", "right numbers, wrong shape", lambda c, L: (fit_with()(c, L)[0], fit_with()(c, L)[1][None])),
    ("2.5", "not a tensor", lambda c, L: (fit_with()(c, L)[0], fit_with()(c, L)[1].item())),
    ("2.5", "not a pair", lambda c, n: find("2.5").solution(c, n)[0]),
]


def test_one_sample_is_no_closed_form():
    def sampled(x, mu, log_var, W, b, sigma):
        z = mu + (0.5 * log_var).exp() * torch.randn_like(mu)
        right = find("2.2").solution(x, mu, log_var, W, b, sigma)
        return 0.5 * (
            x.shape[1] * math.log(2 * math.pi * sigma**2) + (x - b - z @ W.T).square().sum(1) / sigma**2
        ), right[1]

    assert grade("2.2", sampled).status == "not yet"


@pytest.mark.parametrize("number", ["2.2", "2.3", "2.5"])
def test_what_came_in_place_of_a_pair_is_said(number):
    right, names = (
        find(number).solution,
        {"2.2": "distortion and rate", "2.3": "mean and covariance", "2.5": "W and sigma"},
    )
    for answer, came in (
        (lambda *a: right(*a)[0], "a Tensor"),
        (lambda *a: (*right(*a), None), "a tuple of 3"),
        (lambda *a: list(right(*a)[:1]), "a list of 1"),
    ):
        message = " ".join(grade(number, answer).message.split())
        assert f"Expected two tensors, {names[number]}; {came} came back." in message


@pytest.mark.parametrize(
    ("number", "answer", "said"),
    [
        ("2.5", lambda *a: (fit_with()(*a)[0], fit_with()(*a)[1].item()), "sigma is of type float; a torch tensor"),
        ("2.5", lambda *a: (fit_with()(*a)[0].tolist(), fit_with()(*a)[1]), "W is of type list; a torch tensor"),
        ("2.2", lambda *a: (terms_by_loops(*a)[0], None), "rate is of type NoneType; a torch tensor"),
    ],
)
def test_which_of_the_two_is_no_tensor_is_said(number, answer, said):
    result = grade(number, answer)
    assert result.diagnosis == "not a tensor" and said in " ".join(result.message.split())


@pytest.mark.parametrize(
    ("term", "name"),
    [*((0, name) for name in ("mu", "log_var", "W", "b")), (1, "mu"), (1, "log_var")],
)
def test_each_term_must_carry_a_gradient_to_all_that_it_depends_on(term, name):
    result = grade("2.2", cut(term, name))
    said = f"no gradient gets back to {name} from the {('distortion', 'rate')[term]}, so"
    assert result.diagnosis == "no gradient" and said in " ".join(result.message.split())


def test_the_shape_that_W_should_have_is_said():
    message = " ".join(grade("2.5", eigen_rows).message.split())
    assert "covariance of shape (3, 3) and latent_dim = 1, W should have shape (3, 1); it has (1, 3)." in message


# The production code agrees ----------------------------------------------------------------------------


def test_the_package_computes_the_same():
    from course_utils.evaluation.linear_gaussian import LinearGaussian

    x, mu, log_var, W, b, sigma = find("2.2").judge.all_cases()[0]
    model = LinearGaussian(W, b, sigma)
    distortion, rate = find("2.2").solution(x, mu, log_var, W, b, sigma)
    terms = model.elbo(x, mu, log_var=log_var)
    torch.testing.assert_close((terms.recon, terms.kl), (distortion, rate))
    for a, b_ in zip(model.posterior(x), find("2.3").solution(x, W, b, sigma), strict=True):
        torch.testing.assert_close(a, b_)
    covariance, latent = find("2.5").judge.all_cases()[1]
    fitted = LinearGaussian.from_moments(torch.zeros(5), covariance, latent)
    W, sigma = find("2.5").solution(covariance, latent)
    torch.testing.assert_close((fitted.W @ fitted.W.T, fitted.sigma), (W @ W.T, sigma))
