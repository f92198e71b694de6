"""Claims: a sentence, a number and a bound, checked where they are made."""

from __future__ import annotations

import json
import math
import operator
import os
from numbers import Real

import numpy as np
import torch

from course_utils.teaching import session
from course_utils.teaching._numbers import number_text

_RELATIONS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "≈": operator.le}


def claim(text: str, a: object, relation: str, b: object, *, within: object = None, digits: object = None) -> None:
    """Print `a relation b` with a tick, or raise AssertionError with the same numbers.

    text:     the sentence that the numbers have to carry.
    a, b:     numbers, or NumPy arrays or tensors of one element. NaN satisfies no relation.
    relation: "<", "<=", ">", ">=" or "≈". With "≈", a and b may be arrays of one shape as well: all must agree.
    within:   with "≈", and only there: how far apart a and b may be, in their own units.
    digits:   what to use in place of `b` (with "≈": of `within`) when the data in use are the offline digits.

    Where the environment variable COURSE_CLAIMS names a file, one line of JSON is added to it for every claim, kept or
    broken, so that margins can be compared over seeds and data sets; for "≈" the distance and what is allowed.

    Raises AssertionError (the claim does not hold), TypeError (a side or a bound is no number, or `within` is missing
    or out of place), ValueError (unknown relation, other shapes, or a bound that is NaN).
    """
    if relation not in _RELATIONS:
        raise ValueError(f"relation must be one of {', '.join(_RELATIONS)}; got {relation!r}.")
    if (within is None) is (relation == "≈"):
        raise TypeError('within= belongs to "≈", which needs it; the other relations take the bound itself.')
    from course_utils.data.load import current_dataset

    dataset = current_dataset()
    own_bound = digits is not None and dataset == "digits"
    if relation == "≈":
        value, name, bound = _distance(a, b), "within", within
    else:
        value, name, bound = _number("a", a), "b", b
    limit = _number("digits", digits) if own_bound else _number(name, bound)
    if math.isnan(limit):
        raise ValueError("The bound is NaN, and nothing compares with NaN: which computation produced it?")

    holds = _RELATIONS[relation](value, limit)
    _record(text=text, value=value, relation=relation, bound=limit, data=dataset, holds=holds)
    left, right, note = _in_words(a, b, value, limit) if relation == "≈" else (*_distinct(value, limit), "")
    note += " (bound for the offline digits)" if own_bound else ""
    if not holds:
        raise AssertionError(f"✘ {text}: measured {left}, claimed {relation} {right}{note}")
    print(f"✔ {text}: {left} {relation} {right}{note}")


def _distance(a: object, b: object) -> float:
    """The largest |a − b|, NaN where one of them is."""
    sides = [_array(name, side) for name, side in (("a", a), ("b", b))]
    if sides[0].size > 1 < sides[1].size and sides[0].shape != sides[1].shape:
        raise ValueError(f'"≈" compares equal shapes, not {sides[0].shape} with {sides[1].shape}.')
    return float(np.abs(sides[0] - sides[1]).max())


def _array(name: str, side: object) -> np.ndarray:
    if isinstance(side, (torch.Tensor, np.ndarray)) and math.prod(side.shape) > 1:
        array = side.detach().double().cpu().numpy() if isinstance(side, torch.Tensor) else side
        return np.asarray(array, dtype=float)
    return np.asarray(_number(name, side))


def _in_words(a: object, b: object, distance: float, limit: float) -> tuple[str, str, str]:
    left, right = (
        number_text(float(side)) if side.size == 1 else f"{side.size} numbers"
        for side in (_array("a", a), _array("b", b))
    )
    return left, right, f", {distance:.2g} apart, at most {limit:.2g}"


def _number(name: str, value: object) -> float:
    if isinstance(value, (torch.Tensor, np.ndarray)):
        shape = tuple(value.shape)
        if math.prod(shape) != 1:
            raise TypeError(f"{name} must be one number; got shape {shape}. Is a mean, a maximum or a sum missing?")
        value = value.item()
    if not isinstance(value, Real):
        raise TypeError(f"{name} must be a number; got {type(value).__name__} {value!r}.")
    return float(value)


def _distinct(value: float, bound: float) -> tuple[str, str]:
    """Both numbers with 4 significant digits, or as many more as it takes to tell them apart."""
    for figures in range(4, 18):
        shown = number_text(value, figures), number_text(bound, figures)
        if shown[0] != shown[1] or value == bound:
            break
    return shown


def _record(**entry: object) -> None:
    if path := os.environ.get("COURSE_CLAIMS"):
        started = session.current
        entry = {"notebook": os.environ.get("COURSE_NOTEBOOK", ""), **entry, "seed": started and started.seed}
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(entry, ensure_ascii=False) + "\n")
