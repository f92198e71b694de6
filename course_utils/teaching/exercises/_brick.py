"""The judge of bricks: an answer is compared with the solution on small cases; what differs is put into words."""

import contextlib
import numbers
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ._attempt import Attempt, NotYet, Raised
from ._exercise import Exercise
from ._relations import Evidence, Outcome, agree, close, find_relation
from ._text import inputs_text, numbers_text, tensor_text

UNEXPLAINED = (
    *("wrong values", "wrong shape", "not finite", "nearly right"),
    *("too large", "too small", "negative numbers"),
)


class _Trusted(Attempt):
    """The solution or a slip of it, which need no copies; hundreds are tried."""

    def __call__(self, *args: Any) -> Any:
        return self.answer(*args) if not any(isinstance(a, nn.Module) for a in args) else super().__call__(*args)


def judge_brick(exercise: Exercise, attempt: Attempt) -> None:
    """Raises NotYet or Raised unless the attempt gives the solution's numbers on every case."""
    cases = exercise.all_cases()
    solution = attempt.like(exercise.solution)
    expected = [_outcome(exercise, solution, case)[0] for case in cases]
    seen, complaints, error = [], [], None
    for case, wanted in zip(cases, expected, strict=True):
        try:
            outcome, complaint = _outcome(exercise, attempt, case, wanted)
        except Raised as raised:
            if not seen:
                raise
            error = raised
            break
        seen.append(outcome)
        complaints.append(complaint)
    if not all(agree(a, b, exercise.tolerance) for a, b in zip(seen, expected, strict=False)):
        raise _explained(exercise, attempt, cases, seen, expected, error)
    if error:
        raise error
    if complaint := next(filter(None, complaints), None):
        raise complaint
    if attempt.changed and not exercise.may_change_inputs:
        raise NotYet(
            "changes its input",
            f"The result is right, but afterwards the caller's {' and '.join(attempt.changed)} had "
            "changed: your function wrote into what it was given. How can it work on a copy?",
        )
    gradient_reaches(*exercise.gradients)(attempt, cases)
    if exercise.also:
        exercise.also(attempt, cases)


def _outcome(
    exercise: Exercise, attempt: Attempt, case: tuple, wanted: Outcome | None = None
) -> tuple[Outcome, NotYet | None]:
    """What the attempt gives on a case, as named float64 tensors; with a complaint about its type, if any."""
    if exercise.observe:
        values, complaint = exercise.observe(attempt, *case), None
    else:
        values, complaint = named_tensors(attempt(*case), exercise.parts, wanted)
    if complaint and (exercise.any_type or (complaint.diagnosis == "a Python number" and _is_scalar(wanted))):
        complaint = None
    if complaint and not exercise.gradients and complaint.diagnosis != "not a tensor":
        complaint = NotYet(complaint.diagnosis, f"{complaint.message} The cells below go on with a tensor.")
    return {name: value.detach().cpu().to(torch.float64) for name, value in values.items()}, complaint


def _is_scalar(wanted: Outcome | None) -> bool:
    return wanted is None or all(tensor.shape == () for tensor in wanted.values())


def named_tensors(
    value: Any, parts: Sequence[str] = (), wanted: Mapping[str, Tensor] | None = None
) -> tuple[dict[str, Tensor], NotYet | None]:
    """A returned value as named tensors: one called "", or those of a tuple or dictionary.

    wanted: what the solution gave, whose names and number of parts are asked for.
    Raises NotYet when it cannot be read so; returns a complaint when the type is not a tensor's.
    """
    names = list(wanted) if wanted is not None else None
    if names == [""] or (names is None and not isinstance(value, tuple | Mapping)):
        items = {"": value}
    elif isinstance(value, tuple | list):
        given = names or parts or getattr(value, "_fields", None) or [f"part {i + 1}" for i in range(len(value))]
        items = dict(zip(given, value, strict=False)) if len(given) == len(value) else {}
    else:
        items = dict(value) if isinstance(value, Mapping) else {}
    if names and set(items) != set(names):
        came = f"a {type(value).__name__}"
        if isinstance(value, Tensor):
            came = f"a tensor of shape {tuple(value.shape)}"
        elif isinstance(value, Mapping):
            came = f"a dictionary with {', '.join(map(repr, value)) or 'nothing'}"
        elif isinstance(value, tuple | list):
            came += f" of {len(value)}"
        raise NotYet("other parts", f"Expected {len(names)} things, {', '.join(names)}; what came back is {came}.")
    read = {name: as_tensor(items[name]) for name in names or items}
    return {name: tensor for name, (tensor, _) in read.items()}, next((c for _, c in read.values() if c), None)


def as_tensor(value: Any) -> tuple[Tensor, NotYet | None]:
    """A returned value as a tensor, with a complaint if it was something else; NotYet if it cannot be one."""
    if isinstance(value, Tensor):
        if value.is_complex():
            raise NotYet("complex numbers", "Your function returned complex numbers. Which step made them complex?")
        return value, None
    words = f"Your function returned a {type(value).__name__}; a torch tensor was expected."
    if hasattr(value, "values") and hasattr(value, "indices"):  # what min, max and sort give along an axis
        raise NotYet("values and indices", f"{words} It holds values and indices. Which of the two is asked for?")
    if isinstance(value, numbers.Number | np.generic):
        complaint = NotYet("a Python number", f"{words} Where did it stop being a tensor?")
    elif isinstance(value, np.ndarray):
        complaint = NotYet("a numpy array", f"{words} Can you stay in torch from the first line to the last?")
    elif isinstance(value, list | tuple):
        kinds = ", ".join(type(item).__name__ for item in value[:4]) + (", …" if len(value) > 4 else "")
        complaint = NotYet(
            "a list or tuple", f"{words} It holds {len(value)} things ({kinds}). How do they become one?"
        )
        value = [item.tolist() if isinstance(item, Tensor | np.ndarray) else item for item in value]
    else:
        raise NotYet("not a tensor", words)
    try:
        value = value.tolist() if isinstance(value, np.ndarray) else value
        return torch.tensor(value, dtype=torch.float64), complaint
    except (TypeError, ValueError, RuntimeError):
        raise complaint from None


def gradient_reaches(*names: str) -> Callable[[Attempt, Sequence[tuple]], None]:
    """A check that the result, a tensor or several, carries a gradient back to each of these arguments."""

    def also(attempt: Attempt, cases: Sequence[tuple]) -> None:
        for name in names:
            args = [attempt.prepare(argument) for argument in cases[0]]
            wanted = args[attempt.parameters.index(name)].requires_grad_()
            found = attempt.run(attempt.answer, *args, doing=f"with a {name} that requires a gradient")
            values = list(found.values()) if isinstance(found, Mapping) else found
            values = values if isinstance(values, tuple | list) else [values]
            live = [value.sum() for value in values if isinstance(value, Tensor) and value.requires_grad]
            back = lambda: torch.autograd.grad(sum(live), wanted, allow_unused=True)[0]  # noqa: B023, E731
            if not live or attempt.run(back, doing="on the way back through your result") is None:
                raise NotYet(
                    "no gradient",
                    f"The numbers are right, but no gradient gets back to {name}, so nothing could be trained with "
                    "them. Which step cuts the graph: a detach, a sample(), an item(), numpy, a no_grad?",
                )

    return also


def _explained(
    exercise: Exercise, attempt: Attempt, cases: list, seen: list, expected: list, error: Raised | None
) -> NotYet | Raised:
    """The verdict on wrong numbers: a mistake known by name, else a relation to the right ones, else the facts."""
    cases, expected = cases[: len(seen)], expected[: len(seen)]
    pairs = list(zip(seen, expected, strict=True))
    k = next(k for k, (a, b) in enumerate(pairs) if not agree(a, b, exercise.tolerance))  # the smallest come first
    facts = f"    {inputs_text(attempt.parameters, cases[k], separator=chr(10) + '    ')}\n"
    facts += "\n".join(_expected_and_came(*pairs[k], exercise.tolerance))

    def trial(attempt: Attempt) -> Callable[[tuple], Outcome | None]:
        def outcome(case: tuple) -> Outcome | None:
            with contextlib.suppress(Exception):  # whatever a changed solution or changed arguments lead to
                return _outcome(exercise, attempt, case)[0]

        return outcome

    def trusted(function: Callable[..., Any]) -> Callable[[tuple], Outcome | None]:
        return trial((Attempt if exercise.may_change_inputs else _Trusted)(function, attempt.parameters, torch.float64))

    for name, (function, words) in exercise.mistakes.items():
        gives = trial(attempt.like(function))
        if all(agree(a, gives(case), exercise.tolerance) for a, case in zip(seen, cases, strict=True)):
            return NotYet(name, f"{words}\n{facts}")
    with warnings.catch_warnings():  # a slip of the solution may well lead to one
        warnings.simplefilter("ignore")
        found = find_relation(
            Evidence(
                cases, seen, expected, attempt.parameters, exercise.axes, exercise.tolerance,
                solution=exercise.solution, trial=trusted, answer=trial(attempt),
            )
        )  # fmt: skip
    if found is None and error:
        return error
    name, words = (found.name, found.words) if found else _measured(pairs, k, exercise.tolerance)
    if attempt.changed and not exercise.may_change_inputs:
        words += f" Besides, your function changed the caller's {' and '.join(attempt.changed)}."
        name = name if found else "changes its input"
    return NotYet(name, f"{words}\n{facts}")


def _expected_and_came(seen: Outcome, expected: Outcome, tolerance: tuple[float, float]) -> list[str]:
    lines = []
    for key in (key for key in expected if not close(seen[key], expected[key], tolerance)):
        came, wanted, of = seen[key], expected[key], f" {key}," if key else ""
        if came.shape == wanted.shape and came.numel() > 12:
            error = (came - wanted).abs().nan_to_num(nan=torch.inf) - tolerance[0] * wanted.abs()
            place = tuple(int(i) for i in torch.unravel_index(error.argmax(), came.shape))
            of, came, wanted = f"{of} at {list(place)}:", numbers_text(came[place]), numbers_text(wanted[place])
        else:
            came, wanted = tensor_text(came), tensor_text(wanted)
        lines += [f"    expected:{of} {wanted}", f"    came:    {of} {came}"]
    return lines


def _measured(pairs: list[tuple[Outcome, Outcome]], k: int, tolerance: tuple[float, float]) -> tuple[str, str]:
    """Words for a mistake without a relation: what can be said of case k, and of all numbers together."""
    parts = [key for key in pairs[0][1] if not all(close(a[key], b[key], tolerance) for a, b in pairs)]
    key = next(key for key in parts if not close(pairs[k][0][key], pairs[k][1][key], tolerance))
    right = [f"{part}: right." for part in pairs[0][1] if part not in parts]
    where = " ".join([*right, f"{key}: "]) if key else ""
    came, wanted = (outcome[key] for outcome in pairs[k])
    if came.shape != wanted.shape:
        words = "The shape is another. Which axes should be left at the end, and which should be gone?"
        return "wrong shape", where + words
    if not came.isfinite().all():
        words = "Some numbers are not finite. Which step divides by zero, or takes a root or log of one?"
        return "not finite", where + words
    far = float(((came - wanted).abs() / wanted.abs().clamp_min(tolerance[1])).max())
    if far < 0.01:
        words = f"Off by {far:.1g} of the value, where {tolerance[0]:g} is allowed: a small term, or rounding?"
        return "nearly right", where + words
    a, b = (torch.cat([pair[i][key].flatten() for pair in pairs]) for i in (0, 1))
    room = tolerance[1] + tolerance[0] * b.abs()
    if len(a) == len(b) >= 5 and (b >= 0).all() and (a < -room).any():
        return "negative numbers", f"{where}Some of your numbers are negative; of the expected ones, none is."
    for name, sign, than in (("too large", 1, "larger"), ("too small", -1, "smaller")):
        if len(a) == len(b) >= 5 and (sign * (a - b) > room).all():
            return name, f"{where}Each of your numbers is {than} than the expected one, by no simple rule."
    return "wrong values", f"{where}The shape is right, the numbers are not."
