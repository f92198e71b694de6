"""Exact evidence and posterior of a model with one or two latent dimensions, by summing over a grid of codes.

p(x) = ∫ p(x, z) dz becomes the sum of p(x, z) over the points of a square grid, times the area of a cell. For smooth
posteriors that are wider than about half a cell such a sum is exact to far below a hundredth of a nat; where the grid
is too small or too coarse for an example, it is refused. It asks a model for ``log_joint`` and for nothing else, so
that another prior or another encoder changes nothing.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from course_utils._checks import check_number, check_positive_int
from course_utils.evaluation.bounds import batches_of, device_of, method_of

EDGE = 1e-3  # the largest share of a posterior's mass that may lie on the outermost points
PEAK = 0.9  # and on one point: above that the posterior is narrower than half a cell


class GridPosterior(NamedTuple):
    """p(z|x) on a grid: the G = points^L ``codes`` (G, L), and ``log_density`` (N, G), log p(z|x) at each, in nats.

    With L = 2, ``log_density.view(N, points, points)`` has the first latent dimension along its rows.
    """

    codes: Tensor
    log_density: Tensor
    log_evidence: Tensor  # (N,): log p(x), so that log p(x, z) = log_density + log_evidence

    @property
    def probabilities(self) -> Tensor:
        """The posterior's mass in the cell of each code, (N, G): each row sums to 1."""
        return self.log_density.softmax(1)


def grid_of_codes(latent_dim: int, *, points: int = 241, reach: float = 6.0) -> tuple[Tensor, float]:
    """``points`` values on [−reach, reach] in each of one or two dimensions: codes (points^L, L), and a cell's volume.

    Raises ``ValueError`` for more than two dimensions, where a grid has too many points to be summed over.
    """
    points, reach = check_positive_int("points", points), check_number("reach", reach, above=0)
    if latent_dim not in (1, 2):
        raise ValueError(f"a grid needs a model with one or two latent dimensions, got {latent_dim}")
    if points < 3:
        raise ValueError(f"a grid needs at least 3 points in each dimension, got {points}")
    axis = torch.linspace(-reach, reach, points, dtype=torch.float64)
    return torch.cartesian_prod(*[axis] * latent_dim).view(-1, latent_dim), (axis[1] - axis[0]).item() ** latent_dim


@torch.no_grad()
def log_evidence_on_grid(
    model: nn.Module, *inputs: Tensor, points: int = 241, reach: float = 6.0, batch_size: int = 2000
) -> Tensor:
    """log p(x) of each example for a model with one or two latent dimensions: exact, up to the grid's spacing.

    Shapes: ``inputs`` (N, …) as ``model.loss`` takes them → (N,), in nats, float64. ``points`` and ``reach`` as for
    :func:`grid_of_codes`; at most ``batch_size`` codes and as many examples are held at a time. Raises ``TypeError``
    for a model without ``log_joint(*inputs, z)``, and ``ValueError`` for more than two latent dimensions and where the
    grid does not fit an example's posterior, saying which way.
    """
    codes, volume = grid_of_codes(_latent_dim(model), points=points, reach=reach)
    edge = (codes.abs().amax(1) > reach * (1 - 1e-9)).to(device_of(model))
    parts = []
    for batch in batches_of(model, inputs, batch_size):
        log_sum = peak = border = torch.full((len(batch[0]),), -math.inf, dtype=torch.float64, device=edge.device)
        for joint, on_edge in zip(_joint(model, batch, codes, batch_size), edge.split(batch_size), strict=True):
            log_sum = torch.logaddexp(log_sum, joint.logsumexp(0))
            peak = torch.maximum(peak, joint.amax(0))
            border = torch.logaddexp(border, joint[on_edge].logsumexp(0)) if on_edge.any() else border
        _check_fits((border - log_sum).exp(), (peak - log_sum).exp(), points, reach)
        parts.append(log_sum + math.log(volume))
    return torch.cat(parts)


@torch.no_grad()
def posterior_on_grid(
    model: nn.Module, *inputs: Tensor, points: int = 241, reach: float = 6.0, batch_size: int = 2000
) -> GridPosterior:
    """p(z|x) at every point of the grid, for each example; arguments, errors as for :func:`log_evidence_on_grid`.

    The result holds N · points^L numbers of 8 bytes: 0.5 MB for an example with two latent dimensions.
    """
    codes, volume = grid_of_codes(_latent_dim(model), points=points, reach=reach)
    edge = (codes.abs().amax(1) > reach * (1 - 1e-9)).to(device_of(model))
    joint = torch.cat([
        torch.cat(list(_joint(model, batch, codes, batch_size))).T for batch in batches_of(model, inputs, batch_size)
    ])  # fmt: skip
    log_sum = joint.logsumexp(1)
    border = joint[:, edge].logsumexp(1)
    _check_fits((border - log_sum).exp(), (joint.amax(1) - log_sum).exp(), points, reach)
    evidence = log_sum + math.log(volume)
    return GridPosterior(codes.to(edge.device), joint - evidence[:, None], evidence)


def _joint(model: nn.Module, batch: tuple[Tensor, ...], codes: Tensor, batch_size: int) -> Iterator[Tensor]:
    """log p(x, z) of some codes at a time for all examples of the batch: (codes, B), float64."""
    log_joint = method_of(model, "log_joint", "the grid")
    for some in codes.split(batch_size):
        yield log_joint(*batch, some[:, None].to(batch[0])).double()


def _latent_dim(model: nn.Module) -> int:
    method_of(model, "log_joint", "the grid")
    return check_positive_int("model.latent_dim", getattr(model, "latent_dim", None))


def _check_fits(border: Tensor, peak: Tensor, points: int, reach: float) -> None:
    for share, limit, where, cure in (
        (border, EDGE, "on the grid's edge", f"let it reach further than reach={reach:g}"),
        (peak, PEAK, "on one point of the grid", f"give it more than points={points}"),
    ):
        if not share.max() <= limit:
            worst = int(share.argmax())
            raise ValueError(
                f"the posterior of example {worst} of its batch has {share[worst]:.2g} of its mass {where}, "
                f"more than {limit:g}: the sum would not be exact; {cure}"
            )
