"""How close a set of images comes to the data: Fréchet distance, precision and recall in features, and sharpness.

Features (n, F) are those of one network for both sets, as :meth:`Judge.features` gives them. Distance, precision and
recall depend on the network and on the number of images: compare only numbers of one network and one count.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from course_utils._checks import check_batch, check_float, check_positive_int


class PrecisionRecall(NamedTuple):
    """Shares between 0 and 1: of the images that look real, and of the real ones that the images reach."""

    precision: float
    recall: float


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """‖m − m'‖² + tr(C + C' − 2 (C C')^{1/2}) of two sets of features (n, F), m and C their means and covariances.

    0 for equal sets; for two samples of one distribution it is above 0, and falls like 1/n. Raises ``ValueError`` for
    sets of different size. Source: Heusel et al. 2017, eq. (6), there with the features of Inception (FID).
    """
    a, b = _check_features(("a", a), ("b", b))
    root = _root(torch.cov(a.T).reshape(a.shape[1], -1))
    # C C' has the eigenvalues of C^{1/2} C' C^{1/2}, which is symmetric, as C is: no root of another matrix is needed.
    product = root @ torch.cov(b.T).reshape(b.shape[1], -1) @ root
    trace = a.var(0).sum() + b.var(0).sum() - 2 * _eigenvalues(product).sqrt().sum()
    return max((trace + (a.mean(0) - b.mean(0)).square().sum()).item(), 0.0)


def precision_recall(real: Tensor, fake: Tensor, *, k: int = 3) -> PrecisionRecall:
    """The share of ``fake`` features (n, F) that lie among the ``real`` ones (n, F), and of real ones among the fake.

    "Among" means: no farther from some point of the set than that point is from its ``k``-th nearest neighbour in the
    set, itself not counted. Raises ``ValueError`` for sets of different size or of at most ``k`` images. Source:
    Kynkäänniemi et al. 2019, eqs. (1) and (2).
    """
    real, fake = _check_features(("real", real), ("fake", fake))
    if check_positive_int("k", k) >= len(real):
        raise ValueError(f"the neighbour number k={k} needs more images than that, got {len(real)}")
    of_real, of_fake = _radii(real, k), _radii(fake, k)
    looks_real = torch.zeros(len(fake), dtype=torch.bool, device=fake.device)
    reached = torch.zeros(len(real), dtype=torch.bool, device=real.device)
    for rows, distances in _distances(real, fake):
        looks_real |= (distances <= of_real[rows, None]).any(0)
        reached[rows] = (distances <= of_fake).any(1)
    return PrecisionRecall(looks_real.double().mean().item(), reached.double().mean().item())


def sharpness(x: Tensor) -> Tensor:
    """√(Σ (x_i − x_j)² / Σ x_i²) of each image, i and j neighbouring pixels, black around them: (B,), 0 to 2.

    The same for a brighter image. Blur lowers it, noise raises it: fair coins score √2, or 1.44 at 28 × 28, where the
    border counts too; single pixels and a chessboard 2. So what counts is how near to the data's it comes, on either
    side. A black image scores 0.

    Shapes: pixels in [0, 1] as (B, …, H, W), or flat and square (B, H·H); those outside are clipped, as a viewer
    would. Raises ``ValueError`` for other shapes.
    """
    check_batch("x", x)
    if x.dim() == 2:
        side = math.isqrt(x.shape[1])
        if side**2 != x.shape[1]:
            raise ValueError(f"flat images must be square, as in (B, 784), got {tuple(x.shape)}; give (B, 1, H, W)")
        x = x.reshape(-1, 1, side, side)
    x = F.pad(x.clamp(0, 1), (1, 1, 1, 1))
    steps = sum(x.diff(dim=dim).square().flatten(1).sum(1) for dim in (-1, -2))
    return (steps / x.square().flatten(1).sum(1).clamp_min(torch.finfo(x.dtype).tiny)).sqrt()


def _check_features(*named: tuple[str, Tensor]) -> Iterator[Tensor]:
    """Both sets in float64. Raises ``ValueError`` or ``TypeError`` unless they can be compared."""
    for name, value in named:
        if check_float(name, value).dim() != 2 or value.shape[1] == 0 or len(value) < 2:
            raise ValueError(f"{name} must be features (n, F) of at least two images, got {tuple(value.shape)}")
        if not value.isfinite().all():
            raise ValueError(f"{name} must be finite, got NaN or infinite numbers")
    (name, value), (other_name, other) = named
    if value.shape[1] != other.shape[1]:
        raise ValueError(
            f"{name} and {other_name} must be features of one network, "
            f"got {value.shape[1]} and {other.shape[1]} numbers an image"
        )
    if len(value) != len(other):
        raise ValueError(
            f"{name} and {other_name} must hold equally many images, got {len(value)} and {len(other)}: "
            "the number of images moves the result, so numbers of different counts cannot be compared"
        )
    return (value.double() for _, value in named)


def _eigenvalues(matrix: Tensor) -> Tensor:
    return torch.linalg.eigvalsh((matrix + matrix.T) / 2).clamp_min(0)  # rounding may put zeros below 0


def _root(matrix: Tensor) -> Tensor:
    """The symmetric square root of a covariance."""
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * values.clamp_min(0).sqrt()) @ vectors.T


def _distances(points: Tensor, others: Tensor, *, chunk: int = 1000) -> Iterator[tuple[slice, Tensor]]:
    """Rows of the matrix of distances, (chunk, n) at a time, and which rows they are."""
    for start in range(0, len(points), chunk):
        yield slice(start, start + chunk), torch.cdist(points[start : start + chunk], others)


def _radii(points: Tensor, k: int) -> Tensor:
    """The distance of each point to its k-th nearest neighbour among the others, (n,)."""
    radii = []
    for rows, distances in _distances(points, points):
        own = torch.arange(len(points), device=points.device)[rows]
        distances[torch.arange(len(own)), own] = torch.inf
        radii.append(distances.kthvalue(k, dim=1).values)
    return torch.cat(radii)
