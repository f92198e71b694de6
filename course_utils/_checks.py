"""Checks shared by the public functions: each says what came, what was expected and the likely cause."""

import math
import operator

from torch import Tensor


def check_float(name: str, value: object) -> Tensor:
    """Raise a ``TypeError`` unless ``value`` is a floating-point tensor; return it."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(value).__name__}")
    if not value.is_floating_point():
        raise TypeError(
            f"{name} must hold floating-point numbers, got {value.dtype}; "
            "for 8-bit images divide by 255 first: x.float() / 255"
        )
    return value


def check_batch(name: str, value: object) -> Tensor:
    """Raise unless ``value`` is a floating-point tensor of shape (B, …) with at least one event dimension."""
    value = check_float(name, value)
    if value.dim() < 2:
        raise ValueError(
            f"{name} must have a batch dimension and at least one more, as in (B, 784), got {tuple(value.shape)}; "
            "for a single example use value.unsqueeze(0)"
        )
    return value


def check_same_shape(name: str, value: Tensor, other_name: str, other: Tensor) -> None:
    """Raise a ``ValueError`` unless both tensors have one shape: nothing is broadcast silently."""
    if value.shape != other.shape:
        raise ValueError(
            f"{name} and {other_name} must have the same shape, got {tuple(value.shape)} and {tuple(other.shape)}; "
            "reshape one of them, since broadcasting would compare every row with every other"
        )


def check_unit_interval(name: str, x: Tensor) -> None:
    """Raise a ``ValueError`` unless all values lie in [0, 1] (NaN does not)."""
    if x.numel() == 0:
        return
    low, high = (bound.item() for bound in x.aminmax())
    if not (low >= 0.0 and high <= 1.0):
        raise ValueError(
            f"{name} must lie in [0, 1], got values from {low:.4g} to {high:.4g}; "
            "scale 8-bit images with x / 255, and do not standardise them for this likelihood"
        )


def check_positive_int(name: str, value: object) -> int:
    """Return ``value`` as an int, or raise: ``TypeError`` for other types, ``ValueError`` below 1."""
    if isinstance(value, bool):
        raise TypeError(f"{name} must be a whole number, got {value!r}")
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{name} must be a whole number, got {value!r} ({type(value).__name__})") from None
    if number < 1:
        raise ValueError(f"{name} must be at least 1, got {number}")
    return number


def check_beta(beta: float) -> float:
    """Return β as a float, or raise a ``ValueError`` when it is negative or not finite."""
    beta = float(beta)
    if not math.isfinite(beta) or beta < 0.0:
        raise ValueError(f"beta must be a finite number of at least 0, got {beta}; beta = 1 gives the ELBO")
    return beta


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> str:
    """Return ``value`` when it is one of ``choices``, or raise a ``ValueError`` that lists them."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}; got {value!r}")
    return str(value)
