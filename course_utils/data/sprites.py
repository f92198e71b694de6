"""``sprites``: generated images of one figure each, every combination of their known factors once."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import torch
from torch import Tensor

from course_utils._checks import check_positive_int
from course_utils.data.images import Split

SHAPES = ("square", "disc", "cross")
FINER = 4  # points looked at along each side of a pixel


class Sprites(NamedTuple):
    """Images, labelled by shape, and what made them: ``factors`` (N, K), whole numbers, and their ``names``."""

    images: Split
    factors: Tensor
    names: tuple[str, ...]


def sprites(*, shapes: int = 3, scales: int = 3, places: int = 9, size: int = 28) -> Sprites:
    """White figures on black: shape × scale × x × y, each combination once, in a mixed order.

    ``shapes``: how many of square, disc and cross. ``scales``: sizes from a figure of 6/28 of the side to one of
    12/28, the largest alone where there is one. ``places``: positions along either axis, evenly spaced, so that every
    figure stays inside. Edges are smooth: a pixel is the share of it that the figure covers. A factor with one
    value is left out of ``factors``. The same arguments give the same images. There is no test part: the images are
    all that there is, so the factors are independent, exactly.

    Raises ``ValueError`` for numbers below 1, more than three shapes, ``places`` below 2. In the manner of dSprites
    (Matthey et al. 2017), without rotation, whose meaning depends on the shape.
    """
    counts = [check_positive_int(*pair) for pair in (("shapes", shapes), ("scales", scales), ("places", places))]
    if shapes > len(SHAPES) or places < 2:
        raise ValueError(f"sprites have 1 to {len(SHAPES)} shapes and 2 places or more, got {shapes} and {places}")
    size = check_positive_int("size", size)
    ranges = (range(counts[0]), range(counts[1]), range(places), range(places))
    factors = torch.tensor(list(itertools.product(*ranges)))
    factors = factors[torch.randperm(len(factors), generator=torch.Generator().manual_seed(0))]
    radii = torch.linspace(3, 6, scales) if scales > 1 else torch.tensor([6.0])
    centres = torch.linspace(-7, 7, places)
    pixels = torch.stack([
        _draw(SHAPES[shape], float(radii[scale]), float(centres[x]), float(centres[y]), size)
        for shape, scale, x, y in factors.tolist()
    ])  # fmt: skip
    names, varies = ("shape", "scale", "x", "y"), [k for k in range(4) if factors[:, k].max() > 0]
    images = Split(pixels[:, None], factors[:, 0].clone())
    return Sprites(images, factors[:, varies], tuple(names[k] for k in varies))


def _draw(shape: str, radius: float, x: float, y: float, size: int) -> Tensor:
    """One figure as bytes (size, size); lengths in units of 1/28 of the side, from the middle, y upwards."""
    points = ((torch.arange(size * FINER) + 0.5) / (size * FINER) - 0.5) * 28
    across, up = (points[None, :] - x).abs(), (-points[:, None] - y).abs()
    if shape == "square":
        inside = torch.maximum(across, up) <= radius
    elif shape == "disc":
        inside = across**2 + up**2 <= radius**2
    else:
        inside = (torch.maximum(across, up) <= radius) & (torch.minimum(across, up) <= radius / 3)
    share = inside.view(size, FINER, size, FINER).float().mean((1, 3))
    return (255 * share).round().to(torch.uint8)
