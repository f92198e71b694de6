"""What codes share with images and with each other, for a batch: mixtures of posteriors, total correlation, MMD.

The aggregated posterior q(z) = 1/N Σ_n q(z|x_n) is a mixture of as many Gaussians as there are images. A batch holds B
of them, so it has to stand for the others: how, is the question of :func:`mixture_log_weights`.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from course_utils._checks import check_batch, check_choice, check_number, check_positive_int, check_same_shape
from course_utils.losses.terms import LOG_2PI

ESTIMATES = ("stratified", "weighted")


class RateParts(NamedTuple):
    """log q(z|x) − log p(z) of drawn codes and its three parts, which add up to it, (M,) each, in nats.

    Means over the draws estimate the rate, the mutual information of image and code, the total correlation
    KL(q(z) ‖ Π q(z_i)) and the sum over dimensions of KL(q(z_i) ‖ p(z_i)).
    """

    rate: Tensor
    mutual_information: Tensor
    total_correlation: Tensor
    dimension_wise: Tensor


def log_densities(z: Tensor, mu: Tensor, log_var: Tensor) -> Tensor:
    """log N(z_i; μ_i, σ_i²) of every code under every posterior, dimension by dimension, in nats.

    Shapes: ``z`` (M, L), ``mu`` and ``log_var`` (N, L) → (M, N, L). Raises ``ValueError`` for other shapes.
    """
    for name, value in {"z": z, "mu": mu, "log_var": log_var}.items():
        check_batch(name, value)
    check_same_shape("mu", mu, "log_var", log_var)
    if z.dim() != 2 or mu.dim() != 2 or z.shape[1] != mu.shape[1]:
        raise ValueError(f"z and mu must be (M, L) and (N, L), got {tuple(z.shape)} and {tuple(mu.shape)}")
    offset = (z[:, None] - mu) * (-0.5 * log_var).exp()
    return -0.5 * (offset.square() + log_var + LOG_2PI)


def mixture_log_weights(batch_size: int, size: int, *, estimate: str = "stratified") -> Tensor:
    """log w such that Σ_n w_mn q(z_m|x_n) over a batch estimates q(z_m) over ``size`` images; z_m comes from x_m.

    "stratified": 1/N for the image that z_m was drawn from, which is certainly in the batch, and (N − 1)/N shared by
    the others, which stand for the rest: unbiased, as a density. It is the mean of the estimator of Chen et al. 2018
    (appendix C.2) over the order of the batch, so its variance is no larger. "weighted": 1/(N·B) for all (their
    appendix C.1), which underestimates q(z) by about log N nats; rows sum to 1/N.

    Shapes: → (B, B), row m for z_m. Raises ``ValueError`` for B < 2, for N < B and for other names.
    """
    batch_size, size = check_positive_int("batch_size", batch_size), check_positive_int("size", size)
    check_choice("estimate", estimate, ESTIMATES)
    if not 2 <= batch_size <= size:
        raise ValueError(f"a batch of 2 to {size} images, the size of the data set, is needed, got {batch_size}")
    if estimate == "weighted":
        return torch.full((batch_size, batch_size), -math.log(size * batch_size))
    others = math.log((size - 1) / (size * (batch_size - 1)))
    return torch.full((batch_size, batch_size), others).fill_diagonal_(-math.log(size))


def batch_rate_parts(z: Tensor, mu: Tensor, log_var: Tensor, size: int, *, estimate: str = "stratified") -> RateParts:
    """The parts of the rate for one batch of ``size`` images, with z_m drawn from the m-th posterior, p(z) = N(0, I).

    The log of an unbiased estimate is too low on average, by more where a batch rarely holds a neighbour: single parts
    may be far off and even negative, while their sum stays log q(z|x) − log p(z).

    Shapes: ``z``, ``mu``, ``log_var`` (B, L) → four tensors (B,), in nats. Source: Chen et al. 2018, eq. (2).
    """
    check_same_shape("z", z, "mu", mu)
    log_q = log_densities(z, mu, log_var)
    log_weights = mixture_log_weights(len(z), size, estimate=estimate).to(z)
    return split_rate(log_q.diagonal().T, log_q, log_weights, z)


def split_rate(log_own: Tensor, log_q: Tensor, log_weights: Tensor, z: Tensor) -> RateParts:
    """The parts of the rate from log densities: own (M, L), of all in the mixture (M, N, L); log weights (M, N)."""
    joint = (log_weights + log_q.sum(2)).logsumexp(1)
    marginals = (log_weights[..., None] + log_q).logsumexp(1)  # (M, L)
    log_p = -0.5 * (z.square() + LOG_2PI)
    own = log_own.sum(1)
    return RateParts(own - log_p.sum(1), own - joint, joint - marginals.sum(1), (marginals - log_p).sum(1))


def mmd(x: Tensor, y: Tensor, *, width: float = 1.0, unbiased: bool = True) -> Tensor:
    """The squared maximum mean discrepancy of two samples under exp(−‖a − b‖² / 2 width²); one number, no unit.

    E k(x, x') + E k(y, y') − 2 E k(x, y). ``unbiased`` leaves out the pairs of a point with itself, k = 1: it can then
    be negative and is 0 on average for equal distributions. With them it is never negative, and too large.

    Shapes: ``x`` (M, L), ``y`` (N, L). Raises ``ValueError`` for other shapes, a width that is not positive and, where
    unbiased, fewer than two points. Source: Gretton et al. 2012, eqs. (3) and (5).
    """
    _check_points("x", x, unbiased)
    _check_points("y", y, unbiased)
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"x and y must have one number of dimensions, got {tuple(x.shape)} and {tuple(y.shape)}")
    within = (_mean_kernel(points, width, unbiased) for points in (x, y))
    return sum(within) - 2 * _kernel(x, y, width).mean()


def mmd_to_prior(z: Tensor, *, width: float = 1.0, unbiased: bool = True) -> Tensor:
    """:func:`mmd` between codes (M, L) and N(0, I) itself, whose kernel means are known: no samples of it are drawn.

    With v = width²: E k(z, ε) = (v / (v + 1))^{L/2} exp(−‖z‖² / 2(v + 1)), E k(ε, ε') = (v / (v + 2))^{L/2}.
    """
    _check_points("z", z, unbiased)
    v, half = check_number("width", width, above=0) ** 2, z.shape[1] / 2
    cross = (v / (v + 1)) ** half * (-0.5 * z.square().sum(1) / (v + 1)).exp()
    return _mean_kernel(z, width, unbiased) + (v / (v + 2)) ** half - 2 * cross.mean()


def _kernel(x: Tensor, y: Tensor, width: float) -> Tensor:
    # By differences: cdist's square root has no gradient where two points coincide.
    squared = (x[:, None] - y).square().sum(2)
    return (-0.5 * squared / check_number("width", width, above=0) ** 2).exp()


def _mean_kernel(x: Tensor, width: float, unbiased: bool) -> Tensor:
    kernel, n = _kernel(x, x, width), len(x)
    return (kernel.sum() - n) / (n * (n - 1)) if unbiased else kernel.mean()


def _check_points(name: str, points: Tensor, unbiased: bool) -> None:
    if check_batch(name, points).dim() != 2 or len(points) < 1 + unbiased:
        raise ValueError(f"{name} must be (N, L) with N of at least {1 + unbiased}, got {tuple(points.shape)}")
