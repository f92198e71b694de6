"""The exercises of notebook 07: right answers pass, wrong ones are told apart."""

import pytest
import torch
import torch.nn.functional as F
from torch.distributions import Independent, Normal, kl_divergence

from course_utils.exercises import find, grade
from course_utils.losses import gaussian_kl
from course_utils.models import CVAE

# Right answers, written differently --------------------------------------------------------------------


def label_by_comparison(values, labels, classes):
    hot = labels.unsqueeze(-1) == torch.arange(classes, device=labels.device)
    return torch.cat((values, hot.to(values)), dim=values.dim() - 1)


def label_by_eye(values, labels, classes):
    return torch.concat([values, torch.eye(classes).to(values)[labels]], axis=-1)


def kl_by_distributions(mu, log_var, mu_p, log_var_p):
    q, p = Normal(mu, (0.5 * log_var).exp()), Normal(mu_p, (0.5 * log_var_p).exp())
    return kl_divergence(Independent(q, 1), Independent(p, 1))


def kl_by_the_package(mu, log_var, mu_p, log_var_p):
    return gaussian_kl(mu, log_var, prior=(mu_p, log_var_p))


def kl_with_variances(mu, log_var, mu_p, log_var_p):
    var, var_p = log_var.exp(), log_var_p.exp()
    return ((var + (mu - mu_p) ** 2) / (2 * var_p) - 0.5 + 0.5 * (var_p / var).log()).sum(-1)


def aggregate_by_moments(mu, log_var):
    mean = mu.mean(0)
    second = (mu.T @ mu + torch.diag(log_var.exp().sum(0))) / mu.shape[0]
    return mean, second - torch.outer(mean, mean)


def aggregate_by_loops(mu, log_var):
    mean = sum(mu) / len(mu)
    parts = [torch.diag(v.exp()) + torch.outer(m - mean, m - mean) for m, v in zip(mu, log_var, strict=True)]
    return [mean, torch.stack(parts).mean(0)]


def aggregate_by_cov(mu, log_var):
    covariance = torch.cov(mu.T, correction=0).reshape(mu.shape[1], mu.shape[1])
    return mu.mean(0), covariance + log_var.exp().mean(0).diag()


def style_in_one_line(z, mu_old, log_var_old, mu_new, log_var_new):
    return (z - mu_old) * torch.exp((log_var_new - log_var_old) / 2) + mu_new


def style_by_roots(z, mu_old, log_var_old, mu_new, log_var_new):
    return torch.sqrt(log_var_new.exp() / log_var_old.exp()) * (z - mu_old) + mu_new


def row_b():
    return "B"


def row_b_in_words():
    return "row b"


RIGHT = {
    "7.1": [label_by_comparison, label_by_eye],
    "7.4": [kl_by_distributions, kl_by_the_package, kl_with_variances],
    "7.2": [row_b, row_b_in_words],
    "7.3": [aggregate_by_moments, aggregate_by_loops, aggregate_by_cov],
    "7.5": [style_in_one_line, style_by_roots],
}

# Wrong answers, written as a learner would ----------------------------------------------------------------


def says(answer):
    def from_the_prior():
        return answer

    return from_the_prior


WRONG = [
    ("7.1", "axis 1", lambda v, y, c: torch.cat((v, F.one_hot(y, c).type_as(v)), dim=1)),
    ("7.1", "as many classes as seen", lambda v, y, c: torch.cat((v, F.one_hot(y).type_as(v)), dim=-1)),
    ("7.1", "label as a number", lambda v, y, c: torch.cat((v, y.type_as(v).unsqueeze(-1)), dim=-1)),
    ("7.1", "label first", lambda v, y, c: torch.cat((F.one_hot(y, c).type_as(v), v), dim=-1)),
    ("7.1", "no gradient", lambda v, y, c: torch.cat((v, F.one_hot(y, c).type_as(v)), dim=-1).detach()),
    ("7.1", "a numpy array", lambda v, y, c: torch.cat((v, F.one_hot(y, c).type_as(v)), dim=-1).numpy()),
    ("7.4", "p and q swapped", lambda m, v, n, w: kl_by_distributions(n, w, m, v)),
    ("7.4", "prior ignored", lambda m, v, n, w: gaussian_kl(m, v)),
    ("7.4", "prior's variance ignored", lambda m, v, n, w: gaussian_kl(m - n, v)),
    ("7.4", "log_var read as log σ", lambda m, v, n, w: kl_divergence(Normal(m, v.exp()), Normal(n, w.exp())).sum(1)),
    ("7.4", "per dimension", lambda m, v, n, w: kl_divergence(Normal(m, (v / 2).exp()), Normal(n, (w / 2).exp()))),
    ("7.4", "mean over the batch", lambda m, v, n, w: kl_by_the_package(m, v, n, w).mean()),
    ("7.4", "no gradient", lambda m, v, n, w: kl_by_the_package(m, v, n.detach(), w)),
    ("7.2", "generate taken at its name", says("A")),
    ("7.2", "the clean reconstruction", says("c")),
    ("7.2", "no such row", says("D")),
    ("7.2", "more than one row", says("A and B")),
    ("7.2", "a method, not a row", says("generate")),
    ("7.2", "not a letter", says(2)),
    ("7.3", "only the means", lambda m, v: (m.mean(0), (m - m.mean(0)).T @ (m - m.mean(0)) / len(m))),
    ("7.3", "divided by N − 1", lambda m, v: (m.mean(0), torch.atleast_2d(torch.cov(m.T)) + v.exp().mean(0).diag())),
    ("7.3", "not a pair", lambda m, v: aggregate_by_moments(m, v)[1]),
    ("7.3", "variances as a vector", lambda m, v: (m.mean(0), aggregate_by_moments(m, v)[1].diagonal())),
    ("7.3", "constant factor", lambda m, v: tuple(2 * part for part in aggregate_by_moments(m, v))),
    ("7.5", "shift only", lambda z, m, v, n, w: n + (z - m)),
    ("7.5", "variances in place of σ", lambda z, m, v, n, w: n + w.exp() * (z - m) / v.exp()),
    ("7.5", "z kept", lambda z, m, v, n, w: 1 * z),
    ("7.5", "old and new swapped", lambda z, m, v, n, w: style_by_roots(z, n, w, m, v)),
]


def test_the_solutions_agree_with_the_package():
    torch.manual_seed(0)
    model = CVAE(input_dim=6, cond_dim=4, latent_dim=3, hidden_dims=(8,), prior="learned")
    for parameter in model.prior_net.parameters():
        torch.nn.init.normal_(parameter)
    x, labels = torch.rand(5, 6), torch.tensor([0, 3, 1, 1, 2])
    c = F.one_hot(labels, 4).float()
    torch.testing.assert_close(model.encode(x, c)[0], model.heads(model.encoder(find("7.1").solution(x, labels, 4)))[0])
    q, p = model.encode(x, c), model.prior(c)
    torch.testing.assert_close(find("7.4").solution(*q, *p), model.loss(x, c).kl)
    eps = torch.randn(5, 3)
    new = model.prior(c.roll(1, 0))
    moved = find("7.5").solution(model.reparameterize(*p, eps=eps), *p, *new)
    torch.testing.assert_close(moved, model.reparameterize(*new, eps=eps))


def test_the_aggregated_moments_are_those_of_draws():
    torch.manual_seed(0)
    mu, log_var = torch.randn(7, 2), torch.randn(7, 2)
    which = torch.randint(7, (200_000,))
    z = mu[which] + (0.5 * log_var[which]).exp() * torch.randn(200_000, 2)
    mean, covariance = find("7.3").solution(mu, log_var)
    torch.testing.assert_close(z.mean(0), mean, rtol=0, atol=0.02)
    torch.testing.assert_close(torch.cov(z.T), covariance, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("answer", ["A", "C", "D"])
def test_no_verdict_on_the_rows_gives_the_letter_away(answer):
    assert " B" not in grade("7.2", says(answer)).message.replace("A, B and C", "").replace("A, B or C", "")
