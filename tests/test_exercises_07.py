"""The exercises of notebook 07: right answers pass, wrong ones are told apart."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch.distributions import AffineTransform, Categorical, Independent, MixtureSameFamily, Normal, kl_divergence

from course_utils.losses.terms import gaussian_kl
from course_utils.models.cvae import CVAE
from course_utils.teaching.exercises import find, grade

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


def spread(mu):
    """The covariance of the means alone, (L, L)."""
    return torch.atleast_2d(torch.cov(mu.T, correction=0))


def aggregate_by_cov(mu, log_var):
    return mu.mean(0), spread(mu) + log_var.exp().mean(0).diag()


def style_in_one_line(z, mu_old, log_var_old, mu_new, log_var_new):
    return (z - mu_old) * torch.exp((log_var_new - log_var_old) / 2) + mu_new


def style_by_roots(z, mu_old, log_var_old, mu_new, log_var_new):
    return torch.sqrt(log_var_new.exp() / log_var_old.exp()) * (z - mu_old) + mu_new


def style_by_transforms(z, mu_old, log_var_old, mu_new, log_var_new):
    return place(mu_new, log_var_new)(place(mu_old, log_var_old).inv(z))


def place(mu, log_var):
    """The map from style to code of one class: its inverse takes the style out of a code."""
    return AffineTransform(mu, log_var.exp().sqrt())


def says(answer):
    def from_the_prior():
        return answer

    return from_the_prior


RIGHT = {
    "7.1": [label_by_comparison, label_by_eye],
    "7.4": [kl_by_distributions, kl_by_the_package, kl_with_variances],
    "7.2": [says(b) for b in ("B", "row b", " Row B. ", "b.", "\nROW  B\n", "B)", "'B'", "B: sample")],
    "7.3": [aggregate_by_moments, aggregate_by_loops, aggregate_by_cov],
    "7.5": [style_in_one_line, style_by_roots, style_by_transforms],
}

# Wrong answers, written as a learner would ----------------------------------------------------------------


def label_row_by_row(values, labels, classes, *, first=0, one=None):
    """Each row with its one-hot label: the labels begin at `first`; `one` stands in for every label."""
    rows = []
    for row, label in zip(values.reshape(-1, values.shape[-1]), labels.flatten().tolist(), strict=True):
        hot = row.new_zeros(classes)
        hot[(label if one is None else one) - first] = 1
        rows.append(torch.hstack((row, hot)))
    return torch.stack(rows).reshape(*labels.shape, -1)


def label_of_the_first_row(values, labels, classes):
    return label_row_by_row(values, labels, classes, one=labels.flatten()[0].item())


def a_row_for_each_example(values, labels, classes):
    hot = labels.unsqueeze(-1) == torch.arange(classes)
    return torch.stack([torch.cat((v.ravel(), h.ravel())) for v, h in zip(values, hot, strict=True)])


def number_by_number(share):
    """The KL added up entry by entry: share(m, s, n, t) is that of N(m, s²) to N(n, t²), the σ as Python numbers."""

    def kl_to_prior(mu, log_var, mu_p, log_var_p):
        entries = zip(*(part.flatten().tolist() for part in (mu, log_var, mu_p, log_var_p)), strict=True)
        shares = [share(m, math.sqrt(math.exp(v)), n, math.sqrt(math.exp(w))) for m, v, n, w in entries]
        return mu.new_tensor(shares).reshape(mu.shape).sum(1)

    return kl_to_prior


SHARES = {
    "distance in the wrong units": lambda m, s, n, t: math.log(t / s) + s**2 / (2 * t**2) + (m - n) ** 2 / 2 - 1 / 2,
    "distance divided by the posterior's variance": lambda m, s, n, t: (
        math.log(t / s) + s**2 / (2 * t**2) + (m - n) ** 2 / (2 * s**2) - 1 / 2
    ),
    "distance divided by σ": lambda m, s, n, t: math.log(t / s) + s**2 / (2 * t**2) + (m - n) ** 2 / (2 * t) - 1 / 2,
    "variance not divided": lambda m, s, n, t: math.log(t / s) + s**2 / 2 + (m - n) ** 2 / (2 * t**2) - 1 / 2,
    "normaliser forgotten": lambda m, s, n, t: -math.log(s) + (s**2 + (m - n) ** 2) / (2 * t**2) - 1 / 2,
    "not halved": lambda m, s, n, t: math.log(t**2 / s**2) + (s**2 + (m - n) ** 2) / t**2 - 1,
    "sign": lambda m, s, n, t: math.log(s / t) - (s**2 + (m - n) ** 2) / (2 * t**2) + 1 / 2,
}


def sums_over_images(mu, log_var):
    offsets = mu - mu.mean(0)
    return mu.mean(0), sum(o.outer(o) + v.exp().diag() for o, v in zip(offsets, log_var, strict=True))


def sums_the_mean_as_well(mu, log_var):
    mean = sum(mu)
    return mean, sum((m - mean).outer(m - mean) + v.exp().diag() for m, v in zip(mu, log_var, strict=True))


def mixture(mu, log_var):
    """The aggregated posterior as torch.distributions has it: with a mean and variances, both (L,)."""
    images = Categorical(logits=mu.new_zeros(len(mu)))
    return MixtureSameFamily(images, Independent(Normal(mu, (0.5 * log_var).exp()), 1))


WRONG = [
    ("7.1", "axis 1", lambda v, y, c: torch.cat((v, F.one_hot(y, c).type_as(v)), dim=1)),
    ("7.1", "as many classes as seen", lambda v, y, c: torch.cat((v, F.one_hot(y).type_as(v)), dim=-1)),
    ("7.1", "label as a number", lambda v, y, c: torch.cat((v, y.type_as(v).unsqueeze(-1)), dim=-1)),
    ("7.1", "label first", lambda v, y, c: torch.cat((F.one_hot(y, c).type_as(v), v), dim=-1)),
    ("7.1", "counted from 1", lambda v, y, c: label_row_by_row(v, y, c, first=1)),
    ("7.1", "no place for 0", lambda v, y, c: torch.cat((v, (y[..., None] == torch.arange(1, c + 1)).to(v)), dim=-1)),
    ("7.1", "only the label", lambda v, y, c: (y.unsqueeze(-1) == torch.arange(c)).to(v)),
    ("7.1", "time flattened", a_row_for_each_example),
    ("7.1", "examples and time flattened", lambda v, y, c: label_row_by_row(v, y, c).reshape(y.numel(), -1)),
    ("7.1", "one label for all", label_of_the_first_row),
    ("7.1", "no gradient", lambda v, y, c: torch.cat((v, F.one_hot(y, c).type_as(v)), dim=-1).detach()),
    ("7.1", "a numpy array", lambda v, y, c: torch.cat((v, F.one_hot(y, c).type_as(v)), dim=-1).numpy()),
    ("7.4", "p and q swapped", lambda m, v, n, w: kl_by_distributions(n, w, m, v)),
    ("7.4", "prior ignored", lambda m, v, n, w: gaussian_kl(m, v)),
    ("7.4", "prior's variance ignored", lambda m, v, n, w: gaussian_kl(m - n, v)),
    ("7.4", "log_var read as log σ", lambda m, v, n, w: kl_divergence(Normal(m, v.exp()), Normal(n, w.exp())).sum(1)),
    ("7.4", "per dimension", lambda m, v, n, w: kl_divergence(Normal(m, (v / 2).exp()), Normal(n, (w / 2).exp()))),
    *(("7.4", mistake, number_by_number(share)) for mistake, share in SHARES.items()),
    ("7.4", "mean over dimensions", lambda m, v, n, w: kl_by_distributions(m, v, n, w) / m.shape[1]),
    ("7.4", "mean over the batch", lambda m, v, n, w: kl_by_the_package(m, v, n, w).mean()),
    ("7.4", "no gradient", lambda m, v, n, w: kl_by_the_package(m, v, n.detach(), w)),
    ("7.2", "generate taken at its name", says("A")),
    ("7.2", "generate taken at its name", says("A (generate)")),
    ("7.2", "the clean reconstruction", says("c")),
    *(("7.2", "no such row", says(other)) for other in ("D", "N", "", "row", "BRA", "AA", "and", "B2", "A, B and D")),
    *(("7.2", "more than one row", says(rows)) for rows in ("A and B", "AC", "a, c", "A & C + B")),
    *(("7.2", "more than one row", says(rows)) for rows in ("A or C", "rows A and C", "A/C", "AB, sample")),
    *(("7.2", "a method, not a row", says(name)) for name in ("generate", "Sample", "forward_full")),
    *(("7.2", "a method, not a row", says(name)) for name in ("generate()", "model.sample", "model.forward_full(x)")),
    ("7.2", "not a letter", says(2)),
    ("7.2", "not a letter", says(["B"])),
    ("7.3", "only the means", lambda m, v: (m.mean(0), (m - m.mean(0)).T @ (m - m.mean(0)) / len(m))),
    ("7.3", "divided by N − 1", lambda m, v: (m.mean(0), torch.atleast_2d(torch.cov(m.T)) + v.exp().mean(0).diag())),
    ("7.3", "only the widths", lambda m, v: (m.mean(0), Normal(m, (v / 2).exp()).variance.mean(0).diag())),
    ("7.3", "log σ² averaged", lambda m, v: (m.mean(0), spread(m) + (v.exp().prod(0) ** (1 / len(v))).diag())),
    ("7.3", "log σ² used as σ²", lambda m, v: (m.mean(0), spread(m) + (sum(v) / len(v)).diag())),
    ("7.3", "σ in place of σ²", lambda m, v: (m.mean(0), spread(m) + v.exp().sqrt().mean(0).diag())),
    ("7.3", "σ averaged, then squared", lambda m, v: (m.mean(0), spread(m) + ((v / 2).exp().mean(0).square()).diag())),
    (
        "7.3",
        "not centred",
        lambda m, v: (m.mean(0), (torch.einsum("ni,nj->nij", m, m) + torch.diag_embed(v.exp())).mean(0)),
    ),
    ("7.3", "diagonal only", lambda m, v: (m.mean(0), mixture(m, v).variance.diag())),
    ("7.3", "summed over images", sums_over_images),
    ("7.3", "mean summed as well", sums_the_mean_as_well),
    ("7.3", "widths summed", lambda m, v: (m.mean(0), spread(m) + sum(v.exp()).diag())),
    ("7.3", "spread of the means summed", lambda m, v: (m.mean(0), aggregate_by_cov(len(m) ** 0.5 * m, v)[1])),
    ("7.3", "not a pair", lambda m, v: aggregate_by_moments(m, v)[1]),
    ("7.3", "not a pair", lambda m, v: (*aggregate_by_moments(m, v), v)),
    ("7.3", "not a pair", lambda m, v: torch.stack([m.mean(0), m.var(0)])),
    ("7.3", "a numpy array", lambda m, v: (m.mean(0).numpy(), aggregate_by_moments(m, v)[1])),
    ("7.3", "a numpy array", lambda m, v: (m.mean(0), aggregate_by_moments(m, v)[1].numpy())),
    ("7.3", "wrong shape", lambda m, v: aggregate_by_moments(m, v)[::-1]),
    ("7.3", "variances as a vector", lambda m, v: (m.mean(0), aggregate_by_moments(m, v)[1].diagonal())),
    ("7.3", "constant factor", lambda m, v: tuple(2 * part for part in aggregate_by_moments(m, v))),
    ("7.5", "shift only", lambda z, m, v, n, w: n + (z - m)),
    ("7.5", "variances in place of σ", lambda z, m, v, n, w: n + w.exp() * (z - m) / v.exp()),
    ("7.5", "z kept", lambda z, m, v, n, w: 1 * z),
    ("7.5", "old and new swapped", lambda z, m, v, n, w: style_by_roots(z, n, w, m, v)),
    ("7.5", "scale only", lambda z, m, v, n, w: place(0, w)(place(0, v).inv(z))),
    ("7.5", "not rescaled on the way in", lambda z, m, v, n, w: place(n, w)(z - m)),
    ("7.5", "not rescaled on the way out", lambda z, m, v, n, w: n + place(m, v).inv(z)),
    ("7.5", "upside down", lambda z, m, v, n, w: place(n, v)(place(m, w).inv(z))),
    ("7.5", "old centre kept", lambda z, m, v, n, w: place(m, w)(place(m, v).inv(z))),
    ("7.5", "z ignored", lambda z, m, v, n, w: place(n, w)(torch.ones_like(z))),
    ("7.5", "z ignored", lambda z, m, v, n, w: place(n, w)(torch.randn_like(z))),
    ("7.5", "z ignored", lambda z, m, v, n, w: Normal(n, (w / 2).exp()).sample()),
    ("7.5", "z ignored", lambda z, m, v, n, w: n),
    ("7.5", "wrong values", lambda z, m, v, n, w: place(n, w)(z - z.mean(0))),
    ("7.5", "wrong values", lambda z, m, v, n, w: place(n, w)(z + torch.randn_like(z))),
    ("7.5", "a numpy array", lambda z, m, v, n, w: style_by_roots(z, m, v, n, w).numpy()),
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


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("A", "Row A is what `generate` returns"),
        ("C", "decoded from the encoder's mean"),
        ("D", "There is no row 'D'."),
        (2, "of type int."),
        (["B"], "of type list."),
    ],
)
def test_the_verdict_on_a_row_says_what_it_is_or_what_came(answer, words):
    assert words in grade("7.2", says(answer)).message


@pytest.mark.parametrize(
    ("number", "other"), [("7.3", aggregate_by_loops), ("7.4", kl_by_distributions), ("7.5", style_by_transforms)]
)
def test_the_solutions_carry_every_gradient(number, other):
    torch.manual_seed(0)
    arguments = [torch.randn(5, 3, requires_grad=True) for _ in find(number).parameters]
    one, two = (torch.cat([part.flatten() for part in f(*arguments)]) for f in (find(number).solution, other))
    weights = torch.randn(len(one))
    for came, expected in zip(*(torch.autograd.grad(v @ weights, arguments) for v in (one, two)), strict=True):
        torch.testing.assert_close(came, expected)


@pytest.mark.parametrize(
    ("answer", "part"),
    [(lambda m, v: (m.sum(0), aggregate_by_cov(m, v)[1]), "mean"), (lambda m, v: (m.mean(0), spread(m)), "covariance")],
)
def test_the_verdict_on_a_pair_names_the_part_that_is_off(answer, part):
    assert f"came:     {part}," in grade("7.3", answer).message


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        (lambda m, v: (*aggregate_by_moments(m, v), v), "a tuple of length 3."),
        (lambda m, v: [aggregate_by_moments(m, v)], "a list of length 1."),
        (lambda m, v: m.mean(0), "of type Tensor."),
    ],
)
def test_the_verdict_on_what_is_no_pair_says_what_came(answer, what):
    assert f"what came is {what}" in " ".join(grade("7.3", answer).message.split())


@pytest.mark.parametrize("cut", range(4))
def test_the_verdict_on_a_cut_gradient_names_the_argument(cut):
    def kl_to_prior(*arguments):
        return kl_by_the_package(*(a.detach() if i == cut else a for i, a in enumerate(arguments)))

    assert f"gets back to {find('7.4').parameters[cut]}," in grade("7.4", kl_to_prior).message
