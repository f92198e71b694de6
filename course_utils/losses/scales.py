"""Which Gaussian decoder a loss implies: the scale that hides in mean or sum, with or without ½, and a KL weight.

Every "squared error plus weighted KL" is a·‖x − x̂‖² + b·KL with two positive numbers a and b. A loss can be divided by
a positive number without moving its minimum, and that is all the algebra there is:

    divide by 2a:   ‖x − x̂‖² / 2       + (b / 2a)·KL      σ = 1 and β = b / 2a
    divide by b:    ‖x − x̂‖² / (2b/2a) + KL               β = 1 and σ² = b / 2a

So one number, b / 2a, says it all. Read at σ = 1 it is the effective β; read at β = 1 it is the decoder's variance.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from course_utils._checks import check_batch, check_choice, check_number, check_positive_int, check_same_shape

REDUCTIONS = ("sum", "mean")


class ImpliedGaussian(NamedTuple):
    """Two readings of one loss: ``sigma``, the decoder's σ at β = 1, or ``beta``, the weight of the KL at σ = 1."""

    sigma: float
    beta: float


def implied_gaussian(
    dims: int,
    *,
    reduction: str = "sum",
    half: bool = True,
    kl_weight: float = 1.0,
    kl_reduction: str = "sum",
    latent_dim: int | None = None,
) -> ImpliedGaussian:
    """The Gaussian decoder that a squared error with a weighted KL amounts to: β = σ² = b / 2a.

    The loss of one example is a·‖x − x̂‖² + b·KL. ``reduction`` over its ``dims`` pixels (all channels included) gives
    a = 1 or 1/dims, times ½ when ``half``. ``kl_weight`` gives b, divided by ``latent_dim`` when ``kl_reduction``
    says that the KL is averaged over the latent dimensions. The mean over the batch, taken of both terms, changes
    nothing. σ is in the units of the data: for pixels that were multiplied by s it is σ / s of the original ones.

    Raises ``ValueError`` or ``TypeError`` for arguments that do not fit, a weight of 0 among them: without a KL there
    is no σ to imply. Source: Lucas, Tucker, Grosse & Norouzi 2019 and Rybkin, Daniilidis & Levine 2021, on σ² as the
    weight of the KL.
    """
    dims = check_positive_int("dims", dims)
    check_choice("reduction", reduction, REDUCTIONS)
    check_choice("kl_reduction", kl_reduction, REDUCTIONS)
    if not isinstance(half, bool):
        raise TypeError(f"half says whether the squared error carries a factor ½, True or False; got {half!r}")
    kl_weight = check_number("kl_weight", kl_weight, above=0)  # without a KL no σ is implied
    if kl_reduction == "mean" and latent_dim is None:
        raise ValueError('kl_reduction="mean" divides the KL by the number of latent dimensions: give latent_dim')

    a = (0.5 if half else 1.0) / (dims if reduction == "mean" else 1)
    b = kl_weight / (check_positive_int("latent_dim", latent_dim) if kl_reduction == "mean" else 1)
    beta = b / (2 * a)
    return ImpliedGaussian(sigma=math.sqrt(beta), beta=beta)


def optimal_sigma(mean: Tensor, x: Tensor) -> Tensor:
    """The one σ that makes Gaussian pixels likeliest: the root of the mean squared error, over all pixels and images.

    Setting the derivative of D·log σ + ‖x − mean‖² / 2σ², averaged over the batch, to 0 gives σ² = mean squared error;
    there the last term is D/2, whatever the images. Differentiable, so that it can stand inside a loss.

    Shapes: ``mean`` and ``x`` (B, …) → (), in the units of the pixels. Raises ``ValueError`` when the shapes differ.
    Source: Rybkin, Daniilidis & Levine 2021.
    """
    check_batch("mean", mean)
    check_batch("x", x)
    check_same_shape("mean", mean, "x", x)
    return torch.mean((x - mean).square()).sqrt()
