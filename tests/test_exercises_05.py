"""The exercises of notebook 05: right answers pass, wrong ones are told apart."""

import inspect
import math

import numpy as np
import torch
import torch.nn.functional as F
from torch.distributions import Bernoulli, Independent, Normal

from course_utils.losses.scales import implied_gaussian, optimal_sigma
from course_utils.losses.terms import bernoulli_nll, gaussian_nll
from course_utils.teaching.exercises import find, grade

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


def bce_by_branches(logits, x):
    """Here the gradient at 0 is off by a whole 1: max(l, 0) has slope 0 there, and |l| slope 1."""
    size = torch.where(logits >= 0, logits, -logits)
    return (F.relu(logits) - logits * x + torch.log1p(torch.exp(-size))).flatten(1).sum(1)


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
    "5.5": [bce_by_softplus, bce_by_parts, bce_by_branches, bce_by_log_sigmoid, bce_by_logaddexp, bernoulli_nll],
    "5.6": [average_by_distribution, average_by_loops],
}


# Wrong answers, written as a learner would, not as the misconceptions are ------------------------------


def total(t):
    return torch.einsum("bi->b", t.flatten(1))


def squares(mean, x):
    return F.mse_loss(mean, x, reduction="none")


def constant_of_an_image_at_every_pixel(mean, x, sigma):
    dims = math.prod(x.shape[1:])
    return total(dims / 2 * math.log(2 * math.pi) + math.log(sigma) + squares(mean, x) / (2 * sigma**2))


def dims_from_the_last_axis(mean, x, sigma):
    return x.size(-1) * math.log(sigma * math.sqrt(2 * math.pi)) + total(squares(mean, x)) / (2 * sigma**2)


def sigmas_of_the_images(mean, x):
    return torch.stack([F.mse_loss(one_mean, image).sqrt() for one_mean, image in zip(mean, x, strict=True)])


def without_the_mean(t):
    return t - t.sum() / t.numel()


def pixel_bce(logits, x):
    return F.binary_cross_entropy_with_logits(logits, x, reduction="none")


def cross_entropy(p, x):
    return -(x * torch.log(p) + (1 - x) * torch.log(1 - p)).flatten(1).sum(1)


def logarithms_kept_above_minus_100(logits, x):
    p = torch.sigmoid(logits)
    return total(x * torch.log(p).clamp(min=-100).neg() + (1 - x) * torch.log(1 - p).clamp(min=-100).neg())


def eps_in_the_log(eps):
    def answer(logits, x):
        p = torch.sigmoid(logits)
        return -total(x * torch.log(p + eps)) - total((1 - x) * torch.log(1 - p + eps))

    return answer


def clamped_sigmoid(eps):
    return lambda logits, x: cross_entropy(logits.sigmoid().clamp(eps, 1 - eps), x)


def clamped_logits(logits, x):
    value = (F.softplus(logits) - logits * x).flatten(1).sum(1)
    gradient_free = logits.clamp(-30, 30)
    return value.detach() + 0 * gradient_free.flatten(1).sum(1)


def overflow_behind_a_where(logits, x):
    """Right in every value, but the branch that is not taken sends inf · 0 back."""
    return total(torch.where(logits > 30, logits, torch.log1p(torch.exp(logits))) - logits * x)


def root_of_the_square(logits, x):
    """Right in every value, but at logit 0 the root's slope is infinite."""
    return total(F.relu(logits) - logits * x + torch.log1p(torch.exp(-logits.square().sqrt())))


def gradient_right_only_for_flat_images(logits, x):
    value = bce_by_softplus(logits, x)
    return value if logits.dim() == 2 else value.detach() + 0 * total(logits)


def log_densities(z, mu, log_var):
    """log q(z_m | x_n) with all constants: (M, N)."""
    return Independent(Normal(mu, torch.exp(log_var / 2)), 1).log_prob(z[:, None])


def exponents(z, mu, variance):
    """-(difference)² / 2σ², summed over L by hand."""
    rows = [[-((code - m) ** 2 / (2 * v)).sum() for m, v in zip(mu, variance, strict=True)] for code in z]
    return torch.stack([torch.stack(row) for row in rows])


def densities_divided_by_their_sum(z, mu, log_var, x):
    density = Normal(mu, torch.exp(log_var / 2)).log_prob(z[:, None]).exp().prod(dim=-1)
    return torch.einsum("mn,nd->md", density, x) / density.sum(dim=1)[:, None]


def weighted_by_the_logarithm(z, mu, log_var, x):
    log_q = exponents(z, mu, log_var.exp()) - 0.5 * log_var.sum(1)
    return torch.einsum("mn,nd->md", log_q, x) / log_q.sum(dim=1)[:, None]


def two_faces_of_zero(logits):
    """0 everywhere, and so is its derivative, but for autograd at 0: 1 there."""
    return (torch.where(logits >= 0, logits, -logits) - logits.abs()).flatten(1).sum(1)


WRONG = [
    ("5.1", "only the squared error", lambda m, x, s: 0.5 * ((x - m) / s).square().flatten(1).sum(1)),
    ("5.1", "mean over pixels", lambda m, x, s: -Normal(m, s).log_prob(x).flatten(1).mean(1)),
    ("5.1", "mean over the batch", lambda m, x, s: -Normal(m, s).log_prob(x).sum() / len(x)),
    ("5.1", "sign", lambda m, x, s: Normal(m, s).log_prob(x).flatten(1).sum(1)),
    ("5.1", "wrong shape", lambda m, x, s: -Normal(m, s).log_prob(x)),
    ("5.1", "no gradient", lambda m, x, s: nll_by_distribution(m, x, s).detach()),
    ("5.1", "no gradient", lambda m, x, s: nll_by_distribution(m.detach(), x, s)),
    (
        "5.1",
        "2π forgotten",
        lambda m, x, s: F.gaussian_nll_loss(m, x, torch.full_like(x, s**2), reduction="none").flatten(1).sum(1),
    ),
    ("5.1", "log σ forgotten", lambda m, x, s: -total(Normal(0, 1).log_prob((x - m) / s))),
    ("5.1", "log σ counted once", lambda m, x, s: math.log(s) - total(Normal(0, 1).log_prob((x - m) / s))),
    (
        "5.1",
        "log 2π counted once",
        lambda m, x, s: total(math.log(s) + squares(m, x) / (2 * s**2)) + 0.5 * math.log(2 * math.pi),
    ),
    (
        "5.1",
        "both constants counted once",
        lambda m, x, s: math.log(s * math.sqrt(2 * math.pi)) + total(squares(m, x)) / (2 * s**2),
    ),
    (
        "5.1",
        "784 pixels",
        lambda m, x, s: 392 * math.log(2 * math.pi * s**2) + 0.5 * ((x - m) / s).pow(2).flatten(1).sum(1),
    ),
    ("5.1", "D from the last axis", dims_from_the_last_axis),
    ("5.1", "constant counted D times too often", constant_of_an_image_at_every_pixel),
    ("5.1", "log σ² in place of log σ", lambda m, x, s: total(math.log(s) - Normal(m, s).log_prob(x))),
    (
        "5.1",
        "D/2 log σ",
        lambda m, x, s: 0.5 * (((x - m) / s) ** 2 + math.log(2 * math.pi) + math.log(s)).flatten(1).sum(1),
    ),
    (
        "5.1",
        "log 2π not halved",
        lambda m, x, s: total(math.log(2 * math.pi) + math.log(s) + squares(m, x) / (2 * s**2)),
    ),
    (
        "5.1",
        "error not halved",
        lambda m, x, s: total(math.log(math.sqrt(2 * math.pi) * s) + squares(m, x) / s**2),
    ),
    ("5.1", "divided by σ", lambda m, x, s: total(math.log(math.sqrt(2 * math.pi) * s) + squares(m, x) / (2 * s))),
    ("5.2", "no gradient", lambda m, x: F.mse_loss(m, x).sqrt().item()),
    ("5.2", "no gradient", lambda m, x: F.mse_loss(m, x).sqrt().detach()),
    ("5.2", "no gradient", lambda m, x: F.mse_loss(m.detach(), x).sqrt()),
    ("5.2", "a numpy array", lambda m, x: np.array(F.mse_loss(m, x).sqrt().tolist())),
    ("5.2", "variance in place of σ", F.mse_loss),
    ("5.2", "absolute error", F.l1_loss),
    ("5.2", "sum over pixels", lambda m, x: (F.mse_loss(m, x, reduction="sum") / len(x)).sqrt()),
    ("5.2", "sum over everything", torch.dist),
    ("5.2", "one σ for each image", sigmas_of_the_images),
    ("5.2", "mean of the images' roots", lambda m, x: sum(sigmas_of_the_images(m, x)) / len(x)),
    ("5.2", "one σ for each pixel", lambda m, x: torch.linalg.vector_norm(x - m, dim=0) / math.sqrt(len(x))),
    ("5.2", "spread around the mean difference", lambda m, x: without_the_mean(x - m).pow(2).mean().sqrt()),
    (
        "5.2",
        "spread around the mean difference, by n − 1",
        lambda m, x: (without_the_mean(x - m).pow(2).sum() / (x.numel() - 1)).sqrt(),
    ),
    ("5.2", "spread of the images", lambda m, x: without_the_mean(x).pow(2).mean().sqrt()),
    ("5.2", "never below 0.1", lambda m, x: F.mse_loss(m, x).clamp_min(0.01).sqrt()),
    ("5.2", "never below 0.01", lambda m, x: F.mse_loss(m, x).clamp_min(1e-4).sqrt()),
    ("5.2", "1e-6 under the root", lambda m, x: (squares(m, x) + 1e-6).mean().sqrt()),
    ("5.2", "factor two", lambda m, x: (squares(m, x).sum() / (2 * x.numel())) ** 0.5),
    # d and n: dims and latent_dim; p and k: means over pixels and in the KL; h: half; w: the KL's weight.
    ("5.3", "constant factor", lambda d, n, p, h, w, k: 4 * beta_in_one_line(d, n, p, h, w, k)),
    ("5.3", "a list or tuple", lambda d, n, p, h, w, k: [beta_in_one_line(d, n, p, h, w, k)]),
    ("5.3", "a numpy array", lambda d, n, p, h, w, k: np.array(beta_in_one_line(d, n, p, h, w, k))),
    ("5.3", "ratio without the ½ of the target", lambda d, n, p, h, w, k: w * d**p / n**k * (2 if h else 1)),
    ("5.3", "upside down", lambda d, n, p, h, w, k: (1 if h else 2) * n**k / (w * d**p)),
    ("5.3", "sigma in place of beta", lambda d, n, p, h, w, k: math.sqrt(w * d**p / n**k / (1 if h else 2))),
    ("5.3", "pixel mean ignored", lambda d, n, p, h, w, k: w / (n if k else 1) / (1 if h else 2)),
    ("5.3", "half ignored", lambda d, n, p, h, w, k: w * d**p / n**k / 2),
    ("5.3", "½ taken for granted", lambda d, n, p, h, w, k: w * d**p / n**k),
    ("5.3", "weight ignored", lambda d, n, p, h, w, k: d**p / n**k / (1 if h else 2)),
    ("5.3", "KL mean ignored", lambda d, n, p, h, w, k: w * d**p / (1 if h else 2)),
    ("5.3", "KL mean the wrong way", lambda d, n, p, h, w, k: w * d**p * n**k / (1 if h else 2)),
    ("5.3", "half the wrong way", lambda d, n, p, h, w, k: w * d**p / n**k / (2 if h else 1)),
    ("5.3", "pixel mean the wrong way", lambda d, n, p, h, w, k: w * (1 if p else d) / n**k / (1 if h else 2)),
    ("5.3", "divided by dims", lambda d, n, p, h, w, k: w / d**p / n**k / (1 if h else 2)),
    ("5.4", "wrong shape", lambda x: F.binary_cross_entropy(x, x, reduction="none")),
    ("5.4", "changes its input", lambda x: floor_by_entr(x.clamp_(1e-9, 1 - 1e-7))),
    ("5.4", "not a number at the ends", lambda x: total(x * (1 / x).log() - (1 - x) * torch.log1p(-x))),
    ("5.4", "only the bright half", lambda x: total(torch.special.entr(x))),
    ("5.4", "only the dark half", lambda x: total(torch.special.entr(1 - x))),
    ("5.4", "bits", lambda x: -total((x * x.log2()).nan_to_num(0) + ((1 - x) * (1 - x).log2()).nan_to_num(0))),
    ("5.4", "mean over pixels", lambda x: F.binary_cross_entropy(x, x, reduction="none").flatten(1).mean(1)),
    ("5.4", "mean over the batch", lambda x: F.binary_cross_entropy(x, x, reduction="sum") / x.size(0)),
    ("5.4", "sign", lambda x: -total(Bernoulli(x).entropy())),
    ("5.4", "zero", lambda x: torch.zeros(len(x))),
    ("5.4", "cost of an even guess", lambda x: total(F.binary_cross_entropy(0.5 + 0 * x, x, reduction="none"))),
    ("5.4", "rounded pixels", lambda x: -total(torch.maximum(x, 1 - x).log())),
    ("5.4", "variance of a coin", lambda x: total(Bernoulli(x).variance)),
    ("5.5", "from probabilities", lambda logits, x: cross_entropy(torch.sigmoid(logits), x)),
    ("5.5", "clamped at 100", logarithms_kept_above_minus_100),
    *[("5.5", f"{e} inside the logarithm", eps_in_the_log(float(e))) for e in ("1e-6", "1e-7", "1e-8", "1e-10")],
    *[("5.5", f"probabilities clamped at {e}", clamped_sigmoid(float(e))) for e in ("1e-5", "1e-6", "1e-7")],
    ("5.5", "overflow", lambda logits, x: total(torch.log1p(torch.exp(logits)) - x * logits)),
    ("5.5", "target forgotten", lambda logits, x: total(-F.logsigmoid(-logits))),
    ("5.5", "target inverted", lambda logits, x: total(pixel_bce(logits, 1 - x))),
    ("5.5", "sign of l·x", lambda logits, x: total(pixel_bce(logits, -x))),
    ("5.5", "only the corner", lambda logits, x: total(torch.where(logits > 0, (1 - x) * logits, -x * logits))),
    ("5.5", "mean over pixels", lambda logits, x: pixel_bce(logits, x).flatten(1).mean(1)),
    ("5.5", "mean of everything", F.binary_cross_entropy_with_logits),
    ("5.5", "sign", lambda logits, x: -total(pixel_bce(logits, x))),
    ("5.5", "sigmoid twice", lambda logits, x: total(pixel_bce(logits.sigmoid(), x))),
    ("5.5", "no gradient", lambda logits, x: bce_by_softplus(logits.detach(), x)),
    ("5.5", "wrong gradient", clamped_logits),
    ("5.5", "wrong gradient", overflow_behind_a_where),
    ("5.5", "wrong gradient", root_of_the_square),
    ("5.5", "wrong gradient", lambda logits, x: bce_by_softplus(logits, x) + 1.5 * two_faces_of_zero(logits)),
    ("5.5", "wrong gradient", gradient_right_only_for_flat_images),
    ("5.6", "wrong shape", lambda z, m, v, x: ((0.5 * v).exp() * z.mean() + m).softmax(0).T @ x),
    ("5.6", "log σ² forgotten", lambda z, m, v, x: exponents(z, m, v.exp()).softmax(1) @ x),
    ("5.6", "factor ½ forgotten", lambda z, m, v, x: (2 * log_densities(z, m, v)).softmax(1) @ x),
    (
        "5.6",
        "½ missing before log σ²",
        lambda z, m, v, x: (exponents(z, m, v.exp()) - v.sum(1)).softmax(1) @ x,
    ),
    (
        "5.6",
        "σ in place of σ²",
        lambda z, m, v, x: (exponents(z, m, v.exp().sqrt()) - v.sum(1) / 2).softmax(1) @ x,
    ),
    ("5.6", "log σ² used as σ²", lambda z, m, v, x: (exponents(z, m, v) - v.sum(1) / 2).softmax(1) @ x),
    (
        "5.6",
        "log σ² used as σ² throughout",
        lambda z, m, v, x: Normal(m, v.sqrt(), validate_args=False).log_prob(z[:, None]).sum(-1).softmax(1) @ x,
    ),
    (
        "5.6",
        "log σ² read as log σ",
        lambda z, m, v, x: Independent(Normal(m, v.exp()), 1).log_prob(z[:, None]).softmax(1) @ x,
    ),
    ("5.6", "variances ignored", lambda z, m, v, x: (torch.cdist(z, m) ** 2 / -2).softmax(1) @ x),
    ("5.6", "softmax over the codes", lambda z, m, v, x: log_densities(z, m, v).softmax(0) @ x),
    (
        "5.6",
        "not normalised",
        lambda z, m, v, x: (-0.5 * ((z[:, None] - m) ** 2 / v.exp() + v)).sum(-1).exp() @ x,
    ),
    ("5.6", "not normalised, with 2π", lambda z, m, v, x: log_densities(z, m, v).exp() @ x),
    ("5.6", "normalised after underflow", densities_divided_by_their_sum),
    ("5.6", "likeliest image only", lambda z, m, v, x: torch.stack([x[r.argmax()] for r in log_densities(z, m, v)])),
    ("5.6", "nearest image only", lambda z, m, v, x: x[torch.cdist(z, m).argmin(dim=1)]),
    ("5.6", "plain average", lambda z, m, v, x: torch.ones(len(z), len(x), dtype=x.dtype) @ x / len(x)),
    ("5.6", "weighted by the logarithm", weighted_by_the_logarithm),
    (
        "5.6",
        "weighted by the logarithm, with 2π",
        lambda z, m, v, x: torch.stack([(row / row.sum()) @ x for row in log_densities(z, m, v)]),
    ),
]


def test_the_solutions_agree_with_the_package():
    torch.manual_seed(0)
    mean, x = torch.rand(4, 1, 5, 5), torch.rand(4, 1, 5, 5)
    torch.testing.assert_close(find("5.1").solution(mean, x, 0.3), gaussian_nll(mean, x, sigma=0.3))
    torch.testing.assert_close(find("5.2").solution(mean, x), optimal_sigma(mean, x))
    logits = 50 * torch.randn(4, 1, 5, 5)
    torch.testing.assert_close(find("5.5").solution(logits, x), bernoulli_nll(logits, x))


def words(number, diagnosis):
    """What a learner reads who gives the first wrong answer listed with this diagnosis."""
    answer = next(answer for *key, answer in WRONG if key == [number, diagnosis])
    return " ".join(grade(number, answer).message.split())


def test_messages_quote_numbers_that_are_true():
    nats = -float(Normal(0, 1).log_prob(torch.zeros(())))
    assert f"{nats:.3f} nats for each pixel, about {round(784 * nats, -1):.0f} for" in words("5.1", "2π forgotten")

    wrong, white = torch.tensor([[-1000.0]]), torch.ones(1, 1)
    assert float(F.binary_cross_entropy(wrong.sigmoid(), white)) == 100
    assert "above −100" in words("5.5", "clamped at 100")
    for bound in ("1e-5", "1e-6", "1e-7"):
        cap = float(F.binary_cross_entropy(torch.full((1, 1), float(bound)), white))
        assert f"at {bound} caps the loss at about {cap:.0f} nats" in words("5.5", f"probabilities clamped at {bound}")


def test_gradients_at_the_logits_are_shown_as_sigmoid_minus_x():
    """Worked out by hand: the logits −1, 0.5, 2, 0.3, −2 and 0 on the pixels 0, 0.5, 1, 0.9, 0.2 and 0.4."""
    message = words("5.5", "wrong gradient")
    assert "expected: shape (2, 3): [[0.2689, 0.1225, -0.1192], [-0.3256, -0.0808, 0.1]]" in message
    assert "came: shape (2, 3): [[0, 0, 0], [0, 0, 0]]" in message
    message = " ".join(grade("5.5", root_of_the_square).message.split())
    assert "-0.0808, 0.1]] came: shape (2, 3): [[0.2689, 0.1225, -0.1192], [-0.3256, -0.0808, nan]]" in message
