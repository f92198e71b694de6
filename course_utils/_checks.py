"""Checks shared by the public functions: each says what came, what was expected and the likely cause."""

import math
import operator
from collections.abc import Sequence
from numbers import Real

import torch
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


def check_symmetric(name: str, matrix: object) -> None:
    """Raise a ``ValueError`` unless the matrices (…, L, L) are finite and symmetric up to rounding."""
    check_float(name, matrix)
    if not torch.allclose(matrix, matrix.mT, rtol=1e-4, atol=1e-6):  # NaN is not close to itself
        raise ValueError(f"{name} must be symmetric, and finite; its decomposition would silently read one half only")


def check_whole(name: str, value: object) -> int:
    """Return ``value`` as an int, or raise a ``TypeError`` unless it is a whole number."""
    if isinstance(value, bool):
        raise TypeError(f"{name} must be a whole number, got {value!r}")
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{name} must be a whole number, got {value!r} ({type(value).__name__})") from None


def check_positive_int(name: str, value: object) -> int:
    """Return ``value`` as an int, or raise: ``TypeError`` for other types, ``ValueError`` below 1."""
    if (number := check_whole(name, value)) < 1:
        raise ValueError(f"{name} must be at least 1, got {number}")
    return number


def check_sizes(name: str, value: object, what: str) -> tuple[int, ...]:
    """Return one or more positive whole numbers as a tuple of ints; ``what`` says what they are, with an example.

    Raises ``TypeError`` for what is no such sequence, ``ValueError`` for numbers below 1."""
    if isinstance(value, str) or not isinstance(value, Sequence) or not value:
        raise TypeError(f"{name} must be {what}, got {value!r}")
    return tuple(check_positive_int(f"{name}[{i}]", size) for i, size in enumerate(value))


def check_bool(name: str, value: object) -> bool:
    """Return ``value``, or raise a ``TypeError`` unless it is True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {value!r}")
    return value


def check_number(name: str, value: object, *, above: float = -math.inf, least: float = -math.inf) -> float:
    """Return a finite number, NumPy's among them, as a float; ``TypeError`` for other types, ``ValueError`` outside
    the bounds: ``above`` is excluded, ``least`` is not."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {value!r} ({type(value).__name__})")
    number = float(value)
    if not (above < number < math.inf and number >= least):
        bound = "positive" if above == 0 else f"above {above:g}" if above > -math.inf else f"at least {least:g}"
        raise ValueError(f"{name} must be finite and {bound}, got {number:g}")
    return number


def check_beta(beta: object) -> float:
    """Return β, the weight of the KL, as a float; see :func:`check_number`. β = 1 gives the ELBO."""
    return check_number("beta", beta, least=0)


def check_share(name: str, value: object) -> float:
    """Return a share, strictly between 0 and 1, as a float; 95 is no share."""
    if not check_number(name, value, above=0) < 1:
        raise ValueError(f"{name} must lie between 0 and 1, got {value}; 95 % is 0.95")
    return float(value)


def check_dtype(name: str, value: Tensor, weights: Tensor) -> None:
    """Raise a ``TypeError`` unless a model's input has the floating-point type of its weights."""
    if value.dtype != weights.dtype:
        own, came = (str(tensor.dtype).removeprefix("torch.") for tensor in (weights, value))
        raise TypeError(
            f"{name} must be {own} as the model's weights are, got {came}; "
            f"convert one of them: {name}.to(torch.{own}) or model.to(torch.{came})"
        )


def check_device(device: object) -> torch.device:
    """Return ``device`` (None: the CPU) after using it, or raise a ``ValueError`` that says why it cannot be used."""
    try:
        return torch.empty(0, device="cpu" if device is None else device).device
    except (RuntimeError, AssertionError, TypeError) as error:  # AssertionError: a torch built without CUDA
        reason = str(error).partition("\n")[0]
        raise ValueError(f'device={device!r} cannot be used ({reason}); "cpu" always works') from error


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> str:
    """Return ``value`` when it is one of ``choices``, or raise a ``ValueError`` that lists them."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}; got {value!r}")
    return str(value)
