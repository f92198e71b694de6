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
from course_utils.evaluation.bounds import device_of, method_of

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

    Shapes: ``inputs`` (N, …) as ``model.log_joint`` takes them → (N,), nats, float64. ``points`` and ``reach`` as for
    :func:`grid_of_codes`; at most ``batch_size`` codes and as many examples are held at a time. Raises ``TypeError``
    for a model without ``log_joint(*inputs, z)``, and ``ValueError`` for more than two latent dimensions and where the
    grid does not fit an example's posterior, saying which way.
    """
    codes, volume = grid_of_codes(_latent_dim(model), points=points, reach=reach)
    edge = (codes.abs().amax(1) > reach * (1 - 1e-9)).to(device_of(model))
    parts = []
    for batch in _batches(model, inputs, batch_size):
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
    batches = list(_batches(model, inputs, batch_size))
    joint = torch.empty(len(inputs[0]), len(codes), dtype=torch.float64, device=edge.device)
    for batch, rows in zip(batches, joint.split(batch_size), strict=True):
        for values, columns in zip(_joint(model, batch, codes, batch_size), rows.split(batch_size, 1), strict=True):
            columns.copy_(values.T)
    log_sum = joint.logsumexp(1)
    _check_fits((joint[:, edge].logsumexp(1) - log_sum).exp(), (joint.amax(1) - log_sum).exp(), points, reach)
    evidence = log_sum + math.log(volume)
    return GridPosterior(codes.to(edge.device), joint.sub_(evidence[:, None]), evidence)


def _batches(model: nn.Module, inputs: tuple[Tensor, ...], batch_size: int) -> Iterator[tuple[Tensor, ...]]:
    """The examples in order, on the model's device; a model needs no ``loss`` to stand on a grid."""
    check_positive_int("batch_size", batch_size)
    if len({len(tensor) for tensor in inputs}) != 1 or len(inputs[0]) == 0:
        raise ValueError(f"the inputs must be tensors of one length, at least 1, got {[len(t) for t in inputs]}")
    for parts in zip(*(tensor.split(batch_size) for tensor in inputs), strict=True):
        yield tuple(part.to(device_of(model)) for part in parts)


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


def gap_on_grid(posterior: GridPosterior, mu: Tensor, log_var: Tensor) -> Tensor:
    """KL(N(μ, diag σ²) ‖ p(z|x)) = log p(x) − ELBO of each example: (N, L) twice → (N,), in nats, differentiable.

    A sum over the grid, exact as long as σ is above about half the distance of two points. Raises ``ValueError`` for
    shapes that do not belong to the posterior.
    """
    log_p, axes = _masses(posterior)
    if not mu.shape == log_var.shape == axes.shape[:2]:
        raise ValueError(
            f"mu and log_var must be {tuple(axes.shape[:2])} to go with this posterior, "
            f"got {tuple(mu.shape)} and {tuple(log_var.shape)}"
        )
    return _gap(log_p, axes, mu, log_var)


def closest_gaussian(
    posterior: GridPosterior, mu: Tensor, log_var: Tensor, *, steps: int = 100, window: float = 4.0
) -> tuple[Tensor, Tensor]:
    """The diagonal Gaussian nearest to each posterior in KL(q ‖ p(z|x)): ``mu`` and ``log_var``, (N, L) each.

    Found by Adam, in a ``window`` of the grid of that size, from the best of three starts: the given q, the posterior's
    mean and variance, and its highest point. Never further than the given q. It is what a free encoder, with parameters
    of its own for each example, would reach: a local optimum, so that the true minimum may lie a little lower.
    """
    p, codes = posterior.probabilities, posterior.codes.to(posterior.log_density)
    given = [mu.detach().to(codes), log_var.detach().to(codes)]
    mean = p @ codes
    variance = (p @ codes.square() - mean.square()).clamp(min=1e-6)
    starts = [given, [mean, variance.log()], [codes[p.argmax(1)], given[1]]]
    gaps = torch.stack([gap_on_grid(posterior, *start) for start in starts])
    best, row = gaps.argmin(0), torch.arange(len(p), device=p.device)
    first_mu, first_log_var = (torch.stack(part)[best, row] for part in zip(*starts, strict=True))
    log_p, axes = _crop(*_masses(posterior), first_mu, window)
    move = torch.zeros(2, *first_mu.shape, dtype=codes.dtype, device=codes.device, requires_grad=True)
    optimizer = torch.optim.Adam([move], lr=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, eta_min=1e-3)
    for _ in range(steps):
        gap = _gap(log_p, axes, *_moved(first_mu, first_log_var, move))
        optimizer.zero_grad()
        gap.sum().backward()
        optimizer.step()
        schedule.step()
    found = _moved(first_mu, first_log_var, move.detach())
    better = (gap_on_grid(posterior, *found) < gaps.amin(0))[:, None]
    return torch.where(better, found[0], first_mu), torch.where(better, found[1], first_log_var)


def _moved(mu: Tensor, log_var: Tensor, move: Tensor) -> tuple[Tensor, Tensor]:
    """The mean in steps of its own σ, so that narrow and wide posteriors take equally many."""
    return mu + (0.5 * log_var).exp() * move[0], log_var + move[1]


def _masses(posterior: GridPosterior) -> tuple[Tensor, Tensor]:
    """The log of the mass of each cell, (N, points) or (N, points, points), and the axes, (N, L, points)."""
    count, latent_dim = len(posterior.log_density), posterior.codes.shape[1]
    points = round(len(posterior.codes) ** (1 / latent_dim))
    axis = posterior.codes[:points, -1].to(posterior.log_density)
    log_p = posterior.log_density + math.log(axis[1] - axis[0]) * latent_dim
    return log_p.view(count, *[points] * latent_dim), axis.expand(count, latent_dim, points)


def _crop(log_p: Tensor, axes: Tensor, around: Tensor, window: float) -> tuple[Tensor, Tensor]:
    """The part of each example's grid that lies around a place (N, L)."""
    points, step = axes.shape[-1], (axes[0, 0, 1] - axes[0, 0, 0]).item()
    size = min(points, round(window / step))
    first = ((around - axes[:, :, 0]) / step).round().long() - size // 2
    index = first.clamp(0, points - size)[..., None] + torch.arange(size, device=axes.device)  # (N, L, size)
    axes = axes.gather(-1, index)
    if log_p.dim() == 2:
        return log_p.gather(1, index[:, 0]), axes
    rows = torch.arange(len(log_p), device=log_p.device)[:, None, None]
    return log_p[rows, index[:, 0, :, None], index[:, 1, None, :]], axes


def _gap(log_p: Tensor, axes: Tensor, mu: Tensor, log_var: Tensor) -> Tensor:
    """Σ q (log q − log p) over the cells, for q a product over the dimensions: no array of q at all cells."""
    mu, log_var = mu.to(log_p)[..., None], log_var.to(log_p)[..., None]
    log_q = (-0.5 * (axes - mu).square() / log_var.exp()).log_softmax(-1)  # (N, L, points)
    q = log_q.exp()
    if log_p.dim() == 2:
        expected = (q[:, 0] * log_p).sum(1)
    else:
        expected = (torch.bmm(q[:, :1], log_p)[:, 0] * q[:, 1]).sum(1)
    return (q * log_q).sum((1, 2)) - expected
