"""Exercises: `check` an answer, ask for a `hint`, read a `solution`; `reference` lends one unseen.

Adding an exercise is data and functions in `notebook_XX.py`: an `Exercise` holds the stub, three hints, the
solution and a judge; most judges are a `Compare`, which needs cases and the wrong functions to recognise.
"""

from ._attempt import Attempt, NotYet
from ._compare import ATOL, RTOL, Compare, Misconception
from ._framework import Exercise, Result, check, exercises_of, find, grade, hint, reference, solution

__all__ = [
    "ATOL",
    "RTOL",
    "Attempt",
    "Compare",
    "Exercise",
    "Misconception",
    "NotYet",
    "Result",
    "check",
    "exercises_of",
    "find",
    "grade",
    "hint",
    "reference",
    "solution",
]
