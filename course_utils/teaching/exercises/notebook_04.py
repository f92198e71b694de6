"""The exercises of notebook 04, the analytic KL."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from . import Attempt, Draw, Exercise, NotYet, Raised


def gaussian_kl(mu, log_var):
    """Return KL(N(mu, diag sigma^2) || N(0, I)) of each example, in nats.

    mu, log_var: (B, L), log_var is log sigma^2
    result:      (B,)
    """
    per_dimension = 0.5 * (mu**2 + log_var.exp() - 1 - log_var)  # (B, L)
    return per_dimension.sum(dim=1)


def gaussian_kl_full(mean_q, cov_q, mean_p, cov_p):
    """Return KL(N(mean_q, cov_q) || N(mean_p, cov_p)) in nats: one number.

    mean_q, mean_p: (L,)
    cov_q, cov_p:   (L, L), symmetric and positive definite
    """
    offset = mean_p - mean_q
    trace = torch.linalg.solve(cov_p, cov_q).trace()
    mahalanobis = offset @ torch.linalg.solve(cov_p, offset)
    log_dets = torch.logdet(cov_p) - torch.logdet(cov_q)
    return 0.5 * (trace + mahalanobis - len(offset) + log_dets)


def kl_monte_carlo(mu, log_var, eps):
    """Estimate KL(N(mu, diag sigma^2) || N(0, I)) of each example from samples: the mean of log q(z) - log p(z).

    mu, log_var: (B, L), log_var is log sigma^2
    eps:         (K, B, L), noise from N(0, I): K samples for each example
    result:      (B,), in nats
    """
    z = mu + (0.5 * log_var).exp() * eps  # (K, B, L), samples of q
    log_q = -0.5 * (math.log(2 * math.pi) + log_var + eps**2)  # (z - mu) / sigma is eps
    log_p = -0.5 * (math.log(2 * math.pi) + z**2)
    return (log_q - log_p).sum(dim=-1).mean(dim=0)


def kl_gradient(mu, log_var):
    """Return the derivatives of the KL to N(0, I) with respect to mu and to log_var, by hand: no autograd.

    mu, log_var: (B, L), log_var is log sigma^2
    result:      a pair (d_mu, d_log_var), (B, L) each
    """
    d_mu = mu
    d_log_var = 0.5 * (log_var.exp() - 1)
    return d_mu, d_log_var


def bits_per_dimension(mu, log_var):
    """Return the mean KL to N(0, I) of each latent dimension over the examples, in bits.

    mu, log_var: (N, L), log_var is log sigma^2
    result:      (L,)
    """
    nats = 0.5 * (mu**2 + log_var.exp() - 1 - log_var)  # (N, L)
    return nats.mean(dim=0) / math.log(2)


def _posteriors(*shapes: tuple[int, ...]):
    return lambda draw: [(draw(*shape), draw(*shape)) for shape in shapes]


def _two_gaussians(draw: Draw) -> list[tuple]:
    def covariance(size: int) -> Tensor:
        root = draw(size, size)
        return root @ root.mT + torch.eye(size, dtype=torch.float64)

    return [(draw(n), covariance(n), draw(n), covariance(n)) for n in (2, 3, 5)]


def _by_hand(attempt: Attempt, cases: Sequence[tuple]) -> None:
    """Without gradients, and on whole numbers, a backward pass fails, also where the answer turns gradients on."""
    whole = [tuple(argument.long() for argument in case) for case in cases]
    for case in [*cases, *whole]:
        try:
            with torch.no_grad():
                attempt(*case)
        except Raised as raised:
            if "require grad" in str(raised.error):
                raise NotYet(
                    "autograd",
                    "The numbers are right, and autograd found them; here they are asked for without it. The formula "
                    "is short enough to differentiate on paper: what is left of it after each of the two derivatives?",
                ) from None


EXERCISES = (
    Exercise(
        number="4.1",
        title="The KL of each example",
        minutes=5,
        solution=gaussian_kl,
        hints=(
            "First the formula for one dimension, applied to whole tensors; what you hold then has the shape of mu. "
            "Which axis holds the dimensions of one example?",
            "The network gives log σ², and the formula wants σ² and log σ². Which of the two is an exponential away, "
            "and which one is there already? Then add up over the latent dimensions; the examples stay apart.",
            "Per dimension: half of μ² plus σ² minus 1 minus log σ², where σ² is `log_var.exp()` and log σ² is "
            "`log_var` itself. Then `.sum(dim=1)`.",
        ),
        cases=lambda draw: [*_posteriors((2, 3), (4, 5), (1, 2))(draw), (draw(3, 4), draw.uniform(3, 4, low=0.1))],
        gradients=("mu", "log_var"),
        passed="Summed over dimensions, one number per example, never negative.",
        mistakes={
            "the other direction": (
                lambda mu, lv: (0.5 * ((1 + mu**2) / lv.exp() - 1 + lv)).sum(1),
                "This is KL(p ‖ q), the right formula for the other direction. Under which of the two is the "
                "expectation taken?",
            ),
        },
    ),
    Exercise(
        number="4.2",
        title="The KL between two full Gaussians",
        minutes=8,
        solution=gaussian_kl_full,
        hints=(
            "Four pieces stand in the bracket: a trace, a Mahalanobis distance, the dimension and a difference of "
            "log-determinants. Compute each by itself, for a case that you can check: q = p must give L, 0, L and 0.",
            "Both the trace and the distance are measured with the inverse of p's covariance, for the expectation of "
            "log p is where they come from. `torch.linalg.solve(A, B)` gives A⁻¹ B without forming the inverse.",
            "trace of solve(cov_p, cov_q); offset · solve(cov_p, offset); minus L; plus logdet of cov_p minus logdet "
            "of cov_q. All of it times ½.",
        ),
        cases=_two_gaussians,
        gradients=("mean_q", "cov_q", "mean_p", "cov_p"),
        passed="Trace, distance, dimension and log-determinants, each in its place.",
    ),
    Exercise(
        number="4.3",
        title="The KL from samples",
        minutes=7,
        solution=kl_monte_carlo,
        hints=(
            "Three steps: make the samples z out of the noise, evaluate both log-densities at z, and average their "
            "difference. Which axes are summed, and which one is averaged?",
            "log N(z; μ, σ²) is −½ (log 2π + log σ² + ((z − μ)/σ)²) per dimension. Dimensions are independent, so "
            "their log-densities add; samples are averaged.",
            "z = μ + σ·eps with σ = exp(½ log_var). log q has log_var and eps² in its bracket, log p only z². The "
            "constant log 2π cancels. Sum over the last axis, then mean over the first.",
        ),
        cases=lambda draw: [(draw(b, n), draw(b, n), draw(k, b, n)) for k, b, n in ((3, 1, 2), (4, 3, 5), (2, 2, 3))],
        gradients=("mu", "log_var"),
        passed="An unbiased estimate of the KL, for any pair of densities that can be evaluated.",
        mistakes={
            "closed form": (
                lambda mu, lv, eps: gaussian_kl(mu, lv),
                "This is the exact KL, from exercise 4.1. It is the right number to compare with; here it should be "
                "estimated from the samples alone.",
            ),
            "samples from the prior": (
                lambda mu, lv, eps: 0.5 * (eps**2 - lv - (eps - mu) ** 2 / lv.exp()).sum(-1).mean(0),
                "The log-densities were compared at z = eps, samples of p. Under which of the two is the expectation "
                "in KL(q ‖ p)?",
            ),
            "samples spread by the variance": (
                lambda mu, lv, eps: 0.5 * ((mu + lv.exp() * eps) ** 2 - lv - lv.exp() * eps**2).sum(-1).mean(0),
                "Both densities are right, and the samples are not from q: they were spread by σ², not by σ. What is "
                "σ in terms of log σ²?",
            ),
        },
    ),
    Exercise(
        number="4.4",
        title="The gradient of the KL, by hand",
        minutes=5,
        solution=kl_gradient,
        hints=(
            "Each dimension's KL depends on its own μ and log σ² alone, so it is enough to differentiate the formula "
            "for one dimension. Call log σ² by one letter, v: what is σ² then?",
            "With v = log σ², the KL is ½ (μ² + eᵛ − 1 − v). Differentiate with respect to μ, and with respect to v.",
            "With respect to μ it is μ itself. The derivative of eᵛ is eᵛ, that of v is 1; the ½ stays in front.",
        ),
        cases=_posteriors((1, 2), (3, 4), (2, 5)),
        parts=("d_mu", "d_log_var"),
        also=_by_hand,
        passed="The mean is pulled back like a spring; log σ² is pulled up with at most ½, and down with no limit.",
        mistakes={
            "with respect to the variance": (
                lambda mu, lv: (mu, 0.5 * (1 - (-lv).exp())),
                "The second part is the derivative in σ². The network gives log σ²: which factor does the chain rule "
                "add?",
            ),
            "with respect to sigma": (
                lambda mu, lv: (mu, (0.5 * lv).exp() - (-0.5 * lv).exp()),
                "The second part is the derivative in σ. The network gives log σ². What is the derivative of eᵛ in v?",
            ),
        },
    ),
    Exercise(
        number="4.5",
        title="Bits per latent dimension",
        minutes=5,
        solution=bits_per_dimension,
        hints=(
            "You know the KL of one dimension of one example. Here the dimensions stay apart: what happens to the "
            "examples? And one bit is a factor of two: how many nats is that?",
            "A nat is a factor of e, a bit a factor of 2, so 1 bit = log 2 ≈ 0.69 nats. Is the number in bits the "
            "larger or the smaller one?",
            "Take the formula per dimension, (N, L), the mean over axis 0, and divide by math.log(2).",
        ),
        cases=_posteriors((3, 2), (2, 5), (4, 3)),
        passed="The rate, split by dimension, in bits.",
        mistakes={
            "nats": (
                lambda mu, lv: 0.5 * (mu**2 + lv.exp() - 1 - lv).mean(0),
                "These are the right numbers in nats. A bit is a factor of 2, a nat a factor of e: what is left to do?",
            ),
        },
    ),
)
