"""The exercises of notebook 02: right answers pass, wrong ones are told apart."""

import math

import torch

from course_utils.exercises import find, grade

# Right answers, written differently --------------------------------------------------------------------


def terms_by_distributions(x, mu, log_var, W, b, sigma):
    q, prior = torch.distributions.Normal(mu, (0.5 * log_var).exp()), torch.distributions.Normal(0.0, 1.0)
    rate = torch.distributions.kl_divergence(q, prior).sum(1)
    at_mean = -torch.distributions.Normal(mu @ W.T + b, sigma).log_prob(x).sum(1)
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


def half_detached(x, mu, log_var, W, b, sigma):
    return find("2.2").solution(x, mu.detach(), log_var, W, b, sigma)


# Written as a learner would, not as the misconceptions are.
WRONG = [
    ("2.1", "out of range", lambda w: torch.log(torch.mean(torch.exp(w), dim=0))),
    ("2.1", "out of range", lambda w: torch.log(torch.exp(w).sum(0) / len(w))),
    ("2.1", "sum instead of mean", lambda w: torch.logsumexp(w, dim=0)),
    ("2.1", "one maximum for the batch", lambda w: w.max() + torch.log(torch.exp(w - w.max()).mean(0))),
    ("2.1", "no gradient", lambda w: find("2.1").solution(w.detach())),
    ("2.1", "right numbers, wrong shape", lambda w: find("2.1").solution(w)[None]),
    ("2.1", "returns nothing", lambda w: print(end="")),
    ("2.2", "not a pair", lambda *a: sum(find("2.2").solution(*a))),
    ("2.2", "no gradient", half_detached),
    ("2.3", "not a pair", lambda *a: find("2.3").solution(*a)[0]),
    ("2.3", "variances only", lambda *a: (posterior_by_woodbury(*a)[0], posterior_by_woodbury(*a)[1].diag().diag())),
    ("2.4", "k ignored: one group of all", lambda w, k: torch.logsumexp(w, 0) - math.log(w.shape[0])),
    ("2.4", "one number for the batch", lambda w, k: find("2.4").solution(w, k).mean().item()),
    ("2.4", "one maximum for the batch", bound_with_one_maximum),
    ("2.4", "log S in place of log k", lambda w, k: bound_by_loops(w, k) + math.log(k) - math.log(w.shape[0])),
    ("2.5", "eigenvalues flipped, eigenvectors not", values_flipped),
    ("2.5", "eigenvalues from the wrong end", largest_first),
    ("2.5", "wrong shape", eigen_rows),
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


# The production code agrees ----------------------------------------------------------------------------


def test_the_package_computes_the_same():
    from course_utils.linear_gaussian import LinearGaussian

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
