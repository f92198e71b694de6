"""What the code says: the rate split exactly against a data set, and how well single dimensions tell single factors."""

import math

import torch
from torch import Tensor

from course_utils._checks import check_batch, check_float, check_positive_int, check_same_shape
from course_utils._random import seeded
from course_utils.losses.information import RateParts, log_densities, split_rate

_NUMBERS_AT_ONCE = 10_000_000  # densities held in memory


@torch.no_grad()
def rate_parts(mu: Tensor, log_var: Tensor, *, samples: int = 1000, seed: int = 0) -> RateParts:
    """The rate of N posteriors and its three parts, for ``samples`` codes drawn from them, (samples,) each, in nats.

    E KL(q(z|x) ‖ p(z)) = I(x; z) + KL(q(z) ‖ Π q(z_i)) + Σ KL(q(z_i) ‖ p(z_i)), with p(z) = N(0, I) and q(z) the mean
    of all N posteriors: every density is exact, only the expectation is a mean over draws. The images are taken in
    turn from a random order. In every draw the mutual information is at most log N.

    Shapes: ``mu`` and ``log_var`` (N, L), those of the whole data set. Costs samples·N·L densities. Raises
    ``ValueError`` for other shapes. Source: Hoffman & Johnson 2016, section 5; Chen et al. 2018, eq. (2).
    """
    samples = check_positive_int("samples", samples)
    check_batch("mu", mu)
    check_same_shape("mu", mu, "log_var", log_var)
    with seeded(seed, mu.device):
        order = torch.randperm(len(mu), device=mu.device).repeat(math.ceil(samples / len(mu)))[:samples]
        z = mu[order] + (0.5 * log_var[order]).exp() * torch.randn_like(mu[order])
    parts, equal = [], mu.new_full((1, len(mu)), -math.log(len(mu)))
    for chosen, codes in zip(*(t.split(max(1, _NUMBERS_AT_ONCE // mu.numel())) for t in (order, z)), strict=True):
        log_q = log_densities(codes, mu, log_var)
        own = log_q[torch.arange(len(chosen)), chosen]
        parts.append(split_rate(own, log_q, equal, codes))
    return RateParts(*(torch.cat(part) for part in zip(*parts, strict=True)))


@torch.no_grad()
def factor_information(mu: Tensor, log_var: Tensor, factors: Tensor, *, bins: int = 200) -> Tensor:
    """I(z_i; v_k), the nats that each latent dimension tells about each known factor, (L, K).

    q(z_i|v) is the mixture of the posteriors of the images with that value. Each dimension is cut into ``bins`` of
    equal width, whose masses are exact; what bins hide is lost, so this is a lower bound, tight for bins much narrower
    than the posteriors, and at most the factor's entropy.

    Shapes: ``mu``, ``log_var`` (N, L); ``factors`` (N, K), whole numbers. Raises ``ValueError`` or ``TypeError``
    otherwise. Source: Chen et al. 2018, section 4.1, there with samples in place of bins.
    """
    check_batch("mu", mu)
    check_same_shape("mu", mu, "log_var", log_var)
    _check_factors(factors, len(mu))
    bins = check_positive_int("bins", bins)
    mu, sigma = mu.double(), (0.5 * log_var.double()).exp()
    found = mu.new_empty(mu.shape[1], factors.shape[1])
    for i in range(mu.shape[1]):
        low, high = (mu[:, i] - 4 * sigma[:, i]).min(), (mu[:, i] + 4 * sigma[:, i]).max()
        edges = torch.linspace(0, 1, bins + 1, dtype=mu.dtype, device=mu.device) * (high - low) + low
        below = torch.special.ndtr((edges - mu[:, i, None]) / sigma[:, i, None])
        below[:, 0], below[:, -1] = 0, 1  # the outer bins are open
        masses = below.diff(dim=1)  # (N, bins)
        for k in range(factors.shape[1]):
            values = factors[:, k].unique(return_inverse=True)[1]
            joint = mu.new_zeros(int(values.max()) + 1, bins).index_add_(0, values, masses) / len(mu)
            of_value, of_bin, of_both = (torch.special.entr(p).sum() for p in (joint.sum(1), joint.sum(0), joint))
            found[i, k] = of_value + of_bin - of_both
    return found


def factor_entropy(factors: Tensor) -> Tensor:
    """The entropy of each factor over the data, in nats: ``factors`` (N, K) → (K,) in float64."""
    _check_factors(factors, len(factors))
    shares = (column.unique(return_counts=True)[1] / len(factors) for column in factors.T)
    return torch.stack([torch.special.entr(share.double()).sum() for share in shares])


def mutual_information_gap(information: Tensor, entropy: Tensor) -> Tensor:
    """The gap between the two dimensions that tell most of a factor, over its entropy, averaged over the factors.

    1 where each factor stands in one dimension alone and whole; 0 where two dimensions tell the same of each, or
    none tells anything. It says nothing of whether a dimension tells of several factors.

    Shapes: ``information`` (L, K) in nats, L of at least 2, ``entropy`` (K,) above 0 → one number in [0, 1]. Raises
    ``ValueError`` otherwise. Source: Chen et al. 2018, eq. (6).
    """
    check_float("information", information)
    if information.dim() != 2 or len(information) < 2 or entropy.shape != information.shape[1:]:
        shapes = f"{tuple(information.shape)} and {tuple(entropy.shape)}"
        raise ValueError(f"information and entropy must be (L, K), with two dimensions or more, and (K,), got {shapes}")
    if not (entropy > 0).all():
        raise ValueError("a factor with one value only has no entropy to be told: leave it out")
    first, second = information.topk(2, dim=0).values
    return ((first - second) / entropy.to(first)).mean()


def _check_factors(factors: Tensor, size: int) -> None:
    if not isinstance(factors, Tensor) or factors.is_floating_point():
        came = factors.dtype if isinstance(factors, Tensor) else type(factors).__name__
        raise TypeError(f"factors must be a tensor of whole numbers, one for each value, got {came}")
    if factors.dim() != 2 or len(factors) != size or 0 in factors.shape:
        raise ValueError(f"factors must be (N, K) with N = {size}, got {tuple(factors.shape)}")
