"""What figures are made of, checked: images, vectors, points of the plane and their classes, rectangles."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

Extent = tuple[float, float, float, float]  # (z₁ from, z₁ to, z₂ from, z₂ to), as imshow wants it
Array = Tensor | np.ndarray | Sequence


def _numpy(values: Array) -> np.ndarray:
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


def as_images(images: Array, what: str) -> Tensor:
    """Check images and return them as float32 (N, 1, H, W) on the CPU, cut to [0, 1]."""
    if not isinstance(images, Tensor):
        images = torch.as_tensor(np.asarray(images))
    images = images.detach().cpu()
    if images.ndim == 3:
        images = images[:, None]
    if images.ndim != 4 or images.shape[1] != 1:
        raise ValueError(
            f"The {what} have shape {tuple(images.shape)}, expected (N, 1, H, W) or (N, H, W). "
            "A single image needs x[None]; flat pixels need x.view(-1, 1, 28, 28)."
        )
    if 0 in images.shape:
        raise ValueError(f"The {what} have shape {tuple(images.shape)}: there is nothing to show.")
    if not images.is_floating_point():
        raise TypeError(f"The {what} are {images.dtype}, expected floats in [0, 1]. Stored bytes need x / 255.")
    images = images.float()
    if not torch.isfinite(images).all():
        raise ValueError(f"NaN or infinite pixels among the {what}: did training diverge?")
    low, high = images.min().item(), images.max().item()
    if low < -1 or high > 2:
        raise ValueError(
            f"The {what} go from {low:.3g} to {high:.3g}, expected pixels in [0, 1]. Are they logits "
            "(apply the sigmoid, or use the likelihood's mean) or bytes (divide by 255)? If not, clamp them "
            "to [0, 1] first."
        )
    return images.clamp(0, 1)


def as_vector(values: Array, what: str, *, length: int | None = None, positive: bool = False) -> np.ndarray:
    array = _numpy(values)
    if array.ndim != 1 or array.dtype.kind not in "fiub":
        raise ValueError(f"{what}: expected a list of numbers, got shape {array.shape} of {array.dtype}.")
    if len(array) == 0 or (length is not None and len(array) != length):
        raise ValueError(f"{what} has {len(array)} numbers, expected {length or 'at least one'}.")
    if positive and (array <= 0).any():
        raise ValueError(f"{what} has numbers that are not positive, which a logarithmic axis cannot show: {array}.")
    return _finite(array, what)


def as_plane_points(points: Array, what: str) -> np.ndarray:
    array = _numpy(points)
    if array.ndim != 2 or array.shape[1] != 2 or len(array) == 0:
        raise ValueError(
            f"The {what} have shape {array.shape}, expected (N, 2). The code plane needs latent_dim = 2; "
            "of more dimensions, choose two: z[:, :2]."
        )
    return _finite(array, what)


def _finite(array: np.ndarray, what: str) -> np.ndarray:
    array = array.astype(float)
    if not np.isfinite(array).all():
        raise ValueError(f"NaN or infinite numbers among the {what}: did training diverge?")
    return array


def check_codes(codes: Array, labels: Array) -> tuple[np.ndarray, np.ndarray]:
    """Check two-dimensional codes and their classes and return both as arrays, (N, 2) and (N,)."""
    points, classes = as_plane_points(codes, "codes"), _numpy(labels)
    if classes.shape != (len(points),):
        raise ValueError(f"labels have shape {classes.shape}, expected ({len(points)},), one for each code.")
    if classes.dtype.kind not in "iu" or classes.min() < 0 or classes.max() > 9:
        raise ValueError("labels must be whole numbers from 0 to 9.")
    return points, classes


def check_extent(extent: Extent) -> Extent:
    """Check (z₁ from, z₁ to, z₂ from, z₂ to) and return it as floats."""
    values = tuple(float(v) for v in extent)
    if len(values) != 4 or not np.isfinite(values).all() or values[0] >= values[1] or values[2] >= values[3]:
        raise ValueError(f"extent is (z1_from, z1_to, z2_from, z2_to), finite and each from < to, not {extent!r}.")
    return values


def check_count(texts: Sequence[str] | None, expected: int, what: str, of: str) -> None:
    if isinstance(texts, str):
        raise TypeError(f"{what} is a list of texts, one for each of the {of}, not the single text {texts!r}.")
    if texts is not None and len(texts) != expected:
        raise ValueError(f"{what} has {len(texts)} texts for {expected} {of}.")
