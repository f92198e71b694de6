"""What the notebooks call (`check`, `yours`, `hint`, `solution`), and what tests call (`grade`, `find`)."""

import importlib
import inspect
import pkgutil
import sys
from dataclasses import dataclass
from typing import Any, Literal

import torch

from course_utils.teaching import answers

from ._attempt import Attempt, NotYet, Raised, clean_room
from ._brick import judge_brick
from ._build import interface_problem, judge_build
from ._exercise import Exercise
from ._stub import is_unattempted, without_docstrings
from ._text import wrapped

_hints_given: dict[str, int] = {}
_accepted: dict[str, Any] = {}  # exercise -> the reader's answer, of this session or kept
_said: set[str] = set()  # what is told once only
_loading: list[str] = []


@dataclass(frozen=True)
class Result:
    """The verdict on an answer; `diagnosis` names the slip when the status is "not yet", else it is None."""

    status: Literal["passed", "not yet", "unattempted", "raised"]
    message: str
    diagnosis: str | None = None


def check(number: str, answer: Any) -> Any:
    """Grade `answer`, print the verdict, and return what to go on with: the answer if it is right, else the course's.

    `answer` is the function or class itself. An accepted one is kept as plain source in `answers/`, from where
    `yours(number)` gives it to later notebooks; while the cell is empty, an answer accepted earlier goes on. Numbers
    of a brick may differ from the solution's by 1e-5 + 1e-4 of their size, and come in another dtype or from another
    device; a build is trained for a few seconds. The random state, the grad mode and the default dtype are left as
    they were.
    """
    exercise = find(number)
    result = grade(number, answer)
    if result.status == "unattempted" and (earlier := _earlier(exercise)):
        print(f"{exercise.head}: nothing is written here yet; the notebook goes on with your kept {exercise.name}.")
        return earlier
    print(result.message)
    if result.status != "passed":
        print(f"Until yours passes, the notebook uses the course's {exercise.name}.")
        return exercise.solution
    _accepted[number] = answer
    print(f"From here on the notebook uses your {exercise.name}.")
    try:
        answers.keep(number, exercise.name, answer, _number_of)
    except answers.NotKept as reason:
        _say_once(f"Not kept for later notebooks: {reason}.")
    else:
        if "google.colab" in sys.modules and not answers.folder().is_relative_to("/content/drive"):
            _say_once("Colab forgets kept answers with this machine; set COURSE_ANSWERS to a folder of your Drive.")
    return answer


def yours(number: str) -> Any:
    """The reader's accepted answer to an exercise, or the course's own; one line says which, and why.

    A kept brick is graded again, of a kept build only the interface is looked at. Whatever is wrong with a kept
    answer, the course's own is returned.
    """
    exercise = find(number)
    if number in _accepted and not _loading:
        answer, reason = _accepted[number], None
    else:
        answer, reason = _kept(exercise)
    if _loading:  # an answer that uses another one: not worth a line
        return exercise.solution if reason else answer
    if reason:
        print(f"{exercise.head}: the course's {exercise.name}; {reason}.")
        return exercise.solution
    _accepted[number] = answer
    print(f"{exercise.head}: your {exercise.name}.")
    return answer


def _earlier(exercise: Exercise) -> Any:
    """The reader's accepted answer, of this session or kept, where there is one that still passes; else None."""
    if exercise.number not in _accepted:
        answer, reason = _kept(exercise)
        if reason:
            return None
        _accepted[exercise.number] = answer
    return _accepted[exercise.number]


def _kept(exercise: Exercise) -> tuple[Any, str | None]:
    """The answer in `answers/`, and why it cannot be used, if so."""
    if exercise.number in _loading:
        return None, "it uses itself"
    _loading.append(exercise.number)
    try:
        answer = answers.load(exercise.number, exercise.name)
        if exercise.kind == "build":
            problem = interface_problem(exercise, answer)
            return answer, f"the kept one does not fit: {problem}" if problem else None
        passed = grade(exercise.number, answer).status == "passed"
        return answer, None if passed else "the kept one no longer passes"
    except FileNotFoundError:
        return None, "no answer of yours is kept"
    except (Exception, SystemExit) as error:
        return None, f"the kept one stopped with {type(error).__name__}: {str(error)[:100]}"
    finally:
        _loading.pop()


def _number_of(thing: Any) -> str | None:
    """The exercise of which this is an accepted answer, or the course's solution."""
    for number, answer in _accepted.items():
        if answer is thing:
            return number
    home = getattr(thing, "__module__", None) or ""
    if isinstance(home, str) and home.startswith(f"{__package__}.notebook_"):
        for exercise in importlib.import_module(home).EXERCISES:
            if exercise.solution is thing:
                return exercise.number
    return None


def _say_once(text: str) -> None:
    if text not in _said:
        _said.add(text)
        print(wrapped(text))


def grade(number: str, answer: Any, *, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Result:
    """The verdict of `check` as a `Result`, on inputs of the given dtype and device; nothing is kept.

    Errors in the learner's code become part of the result; KeyboardInterrupt and SystemExit pass through.
    """
    exercise = find(number)
    head = exercise.head
    try:
        _require_function(exercise, answer)
        if is_unattempted(answer, exercise.stub):
            return Result("unattempted", f'{head}: not attempted yet. hint("{number}") gives a first step.')
        _require_arguments(exercise, answer)
        with clean_room():
            judge = exercise.judge or (judge_build if exercise.checks else judge_brick)
            words = judge(exercise, Attempt(answer, exercise.parameters, dtype, device))
    except NotYet as verdict:
        return Result("not yet", wrapped(f"{head}: not yet. {verdict.message}"), verdict.diagnosis)
    except Raised as error:
        return Result("raised", wrapped(f"{head}: your code stopped with an error of its own. {error.message}"))
    return Result("passed", wrapped(f"✔ {head}: passed. {words or exercise.passed}"))


def hint(number: str) -> None:
    """Print the next of the exercise's three hints; each call helps more."""
    exercise = find(number)
    given = _hints_given.get(number, 0)
    if given < len(exercise.hints):
        _hints_given[number] = given + 1
        print(wrapped(f"{exercise.head}, hint {given + 1} of {len(exercise.hints)}: {exercise.hints[given]}"))
    else:
        print(f'{exercise.head}: those were all the hints. solution("{number}") shows one way to write it.')


def solution(number: str) -> None:
    """Print the source of one solution, without the docstrings that the stub shows already."""
    exercise = find(number)
    print(f"{exercise.head}, one way to write it:\n\n{without_docstrings(exercise.source())}")


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
        words = 'the number of the exercise comes first, as text: check("1.2", my_function)'
        raise TypeError(f"{words}; got {type(number).__name__}")
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
    call = f'check("{exercise.number}", {exercise.name})'
    if not callable(answer):
        words = f"Pass the function itself, without parentheses after its name: {call}. What arrived is of type "
        raise NotYet("not a function", f"{words}{type(answer).__name__}: was the function called already?")
    for other in exercises_of(int(exercise.number.partition(".")[0])):
        if other.number != exercise.number and getattr(answer, "__name__", None) == other.name != exercise.name:
            words = f"{other.name} belongs to exercise {other.number}; this one asks for {exercise.name}."
            raise NotYet("another exercise's function", words)


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
        words = f"It is called as {call}; yours takes them in another order, {signature}."
        raise NotYet("arguments in another order", words)
