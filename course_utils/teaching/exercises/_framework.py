"""What the notebooks call (`check`, `hint`, `solution`), what tests call (`grade`), what an exercise is."""

import importlib
import inspect
import pkgutil
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch

from ._attempt import Attempt, NotYet, Raised, clean_room
from ._stub import is_unattempted, name_of, parameters_of
from ._text import wrapped

_hints_given: dict[str, int] = {}


@dataclass(frozen=True)
class Result:
    """The verdict on an answer; `diagnosis` names the slip when the status is "not yet", else it is None."""

    status: Literal["passed", "not yet", "unattempted", "raised"]
    message: str
    diagnosis: str | None = None


@dataclass(frozen=True)
class Exercise:
    """One exercise of a notebook.

    number: "1.2"; title; minutes: a fair estimate; stub: the code that the notebook shows;
    hints: three, each giving more away; solution: the function whose source `solution` prints;
    judge: (exercise, attempt) -> None, raises NotYet (a `Compare`, or a function);
    passed: one sentence for a right answer.
    """

    number: str
    title: str
    minutes: int
    stub: str
    hints: tuple[str, str, str]
    solution: Callable[..., Any]
    judge: Callable[["Exercise", Attempt], None]
    passed: str

    @property
    def name(self) -> str:
        """The name of the function or class to write."""
        return name_of(self.stub)

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of its arguments, in order."""
        return parameters_of(self.stub)

    @property
    def cell(self) -> str:
        """The whole stub cell of the notebook: the stub and the call that checks it."""
        return f'{self.stub}\n\n\ncheck("{self.number}", {self.name})'


def check(number: str, answer: Any) -> None:
    """Print whether `answer`, the function itself, solves the exercise; if not, what was expected, what came.

    Numbers may differ from the solution's by 1e-5 + 1e-4 of their size, and come in another dtype or from
    another device. The random state, the grad mode and the default dtype are left as they were.
    """
    print(grade(number, answer).message)


def grade(number: str, answer: Any, *, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Result:
    """The verdict of `check` as a `Result`, on inputs of the given dtype and device.

    Errors in the learner's code become part of the result; KeyboardInterrupt and SystemExit pass through.
    """
    exercise = find(number)
    head = f"Exercise {number}"
    try:
        _require_function(exercise, answer)
        if is_unattempted(answer, exercise.stub):
            return Result("unattempted", f'{head}: not attempted yet. hint("{number}") gives a first step.')
        _require_arguments(exercise, answer)
        with clean_room():
            exercise.judge(exercise, Attempt(answer, exercise.parameters, dtype, device))
    except NotYet as verdict:
        return Result("not yet", wrapped(f"{head}: not yet. {verdict.message}"), verdict.diagnosis)
    except Raised as error:
        return Result("raised", wrapped(f"{head}: your code stopped with an error of its own. {error.message}"))
    return Result("passed", wrapped(f"✔ {head}: passed. {exercise.passed}"))


def hint(number: str) -> None:
    """Print the next of the exercise's three hints; each call helps more."""
    exercise = find(number)
    given = _hints_given.get(number, 0)
    if given < len(exercise.hints):
        _hints_given[number] = given + 1
        print(wrapped(f"Exercise {number}, hint {given + 1} of {len(exercise.hints)}: {exercise.hints[given]}"))
    else:
        print(f'Exercise {number}: those were all the hints. solution("{number}") shows one way to write it.')


def solution(number: str) -> None:
    """Print the source of one solution."""
    exercise = find(number)
    source = textwrap.dedent(inspect.getsource(exercise.solution)).rstrip()
    print(f"Exercise {number}, one way to write it:\n\n{source}")


def reference(number: str) -> Callable[..., Any]:
    """The solution as a function, unseen, so that a notebook goes on whether or not the exercise is solved."""
    return find(number).solution


def exercises_of(notebook: int) -> tuple[Exercise, ...]:
    """All exercises of a notebook, in order.  Raises ValueError when the notebook has none."""
    names = sorted(m.name for m in pkgutil.iter_modules(importlib.import_module(__package__).__path__))
    known = [int(name.removeprefix("notebook_")) for name in names if name.startswith("notebook_")]
    if notebook not in known:
        raise ValueError(f"no exercises for notebook {notebook}; there are some for {', '.join(map(str, known))}")
    return importlib.import_module(f"{__package__}.notebook_{notebook:02d}").EXERCISES


def find(number: str) -> Exercise:
    """The exercise called `number`, such as "1.2".  Raises ValueError that lists those that exist."""
    if not isinstance(number, str):
        raise TypeError(
            f'the number of the exercise comes first, as text: check("1.2", my_function); got {type(number).__name__}'
        )
    notebook = number.partition(".")[0]
    if not notebook.isdecimal():
        raise ValueError(f'no exercise "{number}"; a number looks like "1.2": notebook 1, second exercise')
    exercises = exercises_of(int(notebook))
    for exercise in exercises:
        if exercise.number == number:
            return exercise
    known = ", ".join(exercise.number for exercise in exercises)
    raise ValueError(f'no exercise "{number}"; notebook {notebook} has {known}')


def _require_function(exercise: Exercise, answer: Any) -> None:
    if not callable(answer):
        raise NotYet(
            "not a function",
            "Pass the function itself, without parentheses after its name: "
            f'check("{exercise.number}", {exercise.name}). What arrived is of type {type(answer).__name__}: '
            "was the function called already?",
        )
    for other in exercises_of(int(exercise.number.partition(".")[0])):
        if other.number != exercise.number and getattr(answer, "__name__", None) == other.name:
            raise NotYet(
                "another exercise's function",
                f"{other.name} belongs to exercise {other.number}; this one asks for {exercise.name}.",
            )


def _require_arguments(exercise: Exercise, answer: Any) -> None:
    """The answer must be callable with the stub's arguments, by position; their names are free."""
    try:
        signature = inspect.signature(answer)
    except (TypeError, ValueError):
        return  # some built-in functions do not say
    asked, given = exercise.parameters, tuple(signature.parameters)
    call = f"{exercise.name}({', '.join(asked)})"
    try:
        signature.bind(*asked)
    except TypeError:
        raise NotYet("other arguments", f"It is called as {call}, but yours takes {signature}.") from None
    if given != asked and sorted(given) == sorted(asked):
        raise NotYet(
            "arguments in another order",
            f"It is called as {call}; yours takes them in another order, {signature}.",
        )
