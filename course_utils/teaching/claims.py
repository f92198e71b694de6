"""Claims: a sentence, a number and a bound, checked where they are made."""

from __future__ import annotations

import json
import math
import operator
import os
from numbers import Real
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    pass
from course_utils.teaching.session import _session

_RELATIONS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


def claim(text: str, value: float, relation: str, bound: float, *, digits: float | None = None) -> None:
    """Print `value relation bound` with a tick, or raise AssertionError with the same numbers.

    text:     the sentence that the number has to carry.
    value:    a number, or a NumPy array or tensor of one element. NaN satisfies no relation.
    relation: "<", "<=", ">" or ">=".
    bound:    the number to compare with.
    digits:   the bound to use instead when the data set in use is the offline digits; the line then says so.

    Where the environment variable COURSE_CLAIMS names a file, one line of JSON is added to it for every
    claim, kept or broken, so that the margins can be compared over seeds and data sets.

    Raises AssertionError (the claim does not hold), TypeError (`value` or a bound is no number), ValueError
    (unknown relation, or a bound that is NaN).
    """
    if relation not in _RELATIONS:
        raise ValueError(f"relation must be one of {', '.join(_RELATIONS)}; got {relation!r}.")
    from course_utils.data.load import current_dataset

    dataset = current_dataset()
    own_bound = digits is not None and dataset == "digits"
    measured = _number("value", value)
    limit = _number("digits" if own_bound else "bound", digits if own_bound else bound)
    if math.isnan(limit):
        raise ValueError("The bound is NaN, and nothing compares with NaN: which computation produced it?")

    holds = _RELATIONS[relation](measured, limit)
    _record(text=text, value=measured, relation=relation, bound=limit, data=dataset, holds=holds)
    number, against = _distinct(measured, limit)
    note = " (bound for the offline digits)" if own_bound else ""
    if not holds:
        raise AssertionError(f"✘ {text}: measured {number}, claimed {relation} {against}{note}")
    print(f"✔ {text}: {number} {relation} {against}{note}")


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
        shown = _shown(value, figures), _shown(bound, figures)
        if shown[0] != shown[1] or value == bound:
            break
    return shown


def _shown(number: float, figures: int) -> str:
    if 1000 <= abs(number) < 1e9:  # 60,000 rather than 6e+04
        text = f"{number:,.{figures - 4}f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    return f"{number:.{figures}g}"


def _record(**entry: object) -> None:
    path = os.environ.get("COURSE_CLAIMS")
    if not path:
        return
    entry = {
        "notebook": os.environ.get("COURSE_NOTEBOOK", ""),
        **entry,
        "seed": None if _session is None else _session.seed,
    }
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(entry, ensure_ascii=False) + "\n")
