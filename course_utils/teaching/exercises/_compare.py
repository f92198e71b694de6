"""The usual judge: an answer is compared with the solution on small cases, then with known wrong ones."""

import numbers
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ._attempt import Attempt, NotYet, Raised
from ._text import inputs_text, numbers_text, tensor_text

if TYPE_CHECKING:
    from ._framework import Exercise

RTOL, ATOL = (
    1e-4,
    1e-5,
)  # |came - expected| <= ATOL + RTOL * |expected|: float32 with room for another order of sums

Case = tuple[Any, ...]
Outcome = dict[str, Tensor]  # what was seen on one case: named tensors, float64 on the CPU


@dataclass(frozen=True)
class Misconception:
    """A mistake that people make: what it is called, the function that makes it, and what to say about it."""

    name: str
    wrong: Callable[..., Any]
    message: str


@dataclass(frozen=True)
class Compare:
    """A judge that compares with the solution on every case.

    cases: generator -> list of argument tuples, smallest first, floating-point tensors in float64 (they are
        cast to the attempt's dtype later). Together they must tell every misconception from the solution.
    misconceptions: wrong functions; the first that gives what the learner gave, on all cases, speaks.
    observe: (attempt, *case) -> named tensors to compare, where the returned value itself is not what counts.
    explain: (seen, expected) -> text, instead of the usual "expected ..., came ...".
    also: (attempt, cases) -> None, one more check once all numbers are right; raises NotYet.
    may_change_inputs: True where working in place on the arguments is part of the task.
    """

    cases: Callable[[torch.Generator], Sequence[Case]]
    misconceptions: tuple[Misconception, ...]
    observe: Callable[..., Mapping[str, Tensor]] | None = None
    explain: Callable[[Outcome, Outcome], str] | None = None
    also: Callable[[Attempt, Sequence[Case]], None] | None = None
    may_change_inputs: bool = False

    def all_cases(self) -> Sequence[Case]:
        """The same cases every time."""
        return self.cases(torch.Generator().manual_seed(0))

    def outcomes(self, attempt: Attempt) -> Iterator[tuple[Outcome | Raised, NotYet | None]]:
        """What the attempt gives, case by case up to its first error; with a complaint about its type."""
        for case in self.all_cases():
            try:
                if self.observe:
                    values, complaint = self.observe(attempt, *case), None
                else:
                    value, complaint = as_tensor(attempt(*case))
                    values = {"": value}
            except Raised as error:
                yield error, None
                return
            yield {name: _comparable(value) for name, value in values.items()}, complaint

    def __call__(self, exercise: "Exercise", attempt: Attempt) -> None:
        """Raises NotYet or Raised unless the attempt is right."""
        expected = [outcome for outcome, _ in self.outcomes(attempt.like(exercise.solution))]
        seen, complaints = zip(*self.outcomes(attempt), strict=True)
        complaint = next(filter(None, complaints), None)
        if isinstance(seen[0], Raised):
            raise seen[0]
        if not all(map(_agree, seen, expected)):
            self._explain_mistake(attempt, seen, expected, complaint)
        scalar = all(tensor.shape == () for outcome in expected for tensor in outcome.values())
        if complaint and not (scalar and complaint.diagnosis == "a Python number"):
            raise complaint
        if attempt.changed and not self.may_change_inputs:
            raise NotYet(
                "changes its input",
                f"The result is right, but afterwards the caller's {' and '.join(attempt.changed)} had "
                "changed: your function wrote into what it was given. How can it work on a copy?",
            )
        if self.also:
            self.also(attempt, self.all_cases())

    def _gives(self, misconception: Misconception, attempt: Attempt, seen: Sequence[Outcome | Raised]) -> bool:
        wrong = self.outcomes(attempt.like(misconception.wrong))
        return all(_agree(a, b) for a, (b, _) in zip(seen, wrong, strict=False))

    def _explain_mistake(self, attempt: Attempt, seen: Sequence, expected: list, complaint: NotYet | None) -> None:
        k = [_agree(a, b) for a, b in zip(seen, expected, strict=False)].index(False)  # the telling case
        if isinstance(seen[k], Raised):  # right so far
            raise seen[k]
        facts = (self.explain or _expected_and_came)(seen[k], expected[k])
        given = inputs_text(attempt.parameters, self.all_cases()[k], separator="\n    ")
        facts = f"\n    {given}\n{facts}"
        for misconception in self.misconceptions:
            if self._gives(misconception, attempt, seen):
                raise NotYet(misconception.name, f"{facts}\n{misconception.message}")
        for outcome in seen:
            if isinstance(outcome, Raised):
                raise outcome
        scalar = all(tensor.shape == () for outcome in expected for tensor in outcome.values())
        if complaint and not (scalar and complaint.diagnosis == "a Python number"):
            raise complaint  # where one number is asked for, a Python number is judged by its value
        diagnosis, remark = _unknown_mistake(seen, expected, k)
        if attempt.changed and not self.may_change_inputs:
            remark += f" Besides, your function changed the caller's {' and '.join(attempt.changed)}."
        raise NotYet(diagnosis, f"{facts}\n{remark}")


def as_tensor(value: Any) -> tuple[Tensor, NotYet | None]:
    """A returned value as a tensor, with a complaint if it was something else; NotYet if it cannot be one."""
    if isinstance(value, Tensor):
        if value.is_complex():
            raise NotYet("complex numbers", "Your function returned complex numbers. Which step made them complex?")
        return value, None
    words = f"Your function returned a {type(value).__name__}; a torch tensor was expected."
    if isinstance(value, numbers.Number | np.generic) and not isinstance(value, complex):
        words += " Where did it stop being a tensor, and does it hold one number for each example?"
        return torch.tensor(float(value), dtype=torch.float64), NotYet("a Python number", words)
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
        words += " Can you stay in torch from the first line to the last? Gradients do not pass through numpy."
        return torch.tensor(value.tolist(), dtype=torch.float64), NotYet("a numpy array", words)
    if isinstance(value, list | tuple):
        kinds = ", ".join(type(item).__name__ for item in value[:4]) + (", …" if len(value) > 4 else "")
        words += f" It holds {len(value)} things ({kinds}). Which of them is asked for, or how do they become one?"
        shapes = {item.shape for item in value if isinstance(item, Tensor)}
        if value and len(shapes) == 1 and all(isinstance(item, Tensor) for item in value):
            return torch.stack(list(value)), NotYet("a list or tuple", words)
        raise NotYet("a list or tuple", words)
    raise NotYet("not a tensor", words)


def gradient_reaches(*names: str) -> Callable[[Attempt, Sequence[Case]], None]:
    """A `also` for Compare: the result must carry a gradient back to each of these arguments, asked one by one."""

    def also(attempt: Attempt, cases: Sequence[Case]) -> None:
        for name in names:
            args = [attempt.prepare(argument) for argument in cases[0]]
            wanted = args[attempt.parameters.index(name)].requires_grad_()
            result = attempt.run(attempt.answer, *args, doing=f"with a {name} that requires a gradient")
            require_gradient(result, [wanted], name)

    return also


def require_gradient(result: Any, wanted: Sequence[Tensor], name: str) -> None:
    """Raises NotYet unless `result` has a gradient with respect to every tensor in `wanted`."""
    connected = isinstance(result, Tensor) and result.requires_grad
    if not connected or any(g is None for g in torch.autograd.grad(result.sum(), wanted, allow_unused=True)):
        raise NotYet(
            "no gradient",
            f"The numbers are right, but no gradient gets back to {name}, so nothing could be trained with "
            "them. Which step cuts the graph: a detach, an item(), a trip through numpy, a no_grad?",
        )


def _comparable(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().to(torch.float64)


def _agree(a: Outcome | Raised, b: Outcome | Raised) -> bool:
    if isinstance(a, Raised) or isinstance(b, Raised):
        return isinstance(a, Raised) and isinstance(b, Raised)
    return a.keys() == b.keys() and all(close(a[key], b[key]) for key in b)


def close(came: Tensor, expected: Tensor) -> bool:
    """Same shape and, within RTOL and ATOL, the same numbers."""
    return came.shape == expected.shape and torch.allclose(came, expected, rtol=RTOL, atol=ATOL, equal_nan=True)


def _expected_and_came(seen: Outcome, expected: Outcome) -> str:
    key = next(key for key in expected if not close(seen[key], expected[key]))
    came, wanted = seen[key], expected[key]
    of = f" {key}," if key else ""
    lines = [f"    expected:{of} {tensor_text(wanted)}", f"    came:    {of} {tensor_text(came)}"]
    if came.shape == wanted.shape and came.numel() > 12:
        worst = int(((came - wanted).abs().nan_to_num(nan=torch.inf) - RTOL * wanted.abs()).argmax())
        place = [int(i) for i in torch.unravel_index(torch.tensor(worst), came.shape)]
        lines = [
            f"    expected:{of} at {place}: {numbers_text(wanted.flatten()[worst])}",
            f"    came:    {of} at {place}: {numbers_text(came.flatten()[worst])}",
        ]
    return "\n".join(lines)


def _unknown_mistake(seen: Sequence[Outcome], expected: Sequence[Outcome], k: int) -> tuple[str, str]:
    """Words for a mistake that no misconception makes, from what can be measured on the outcomes."""
    key = next(key for key in expected[k] if not close(seen[k][key], expected[k][key]))
    pairs = [(a[key], b[key]) for a, b in zip(seen, expected, strict=True)]
    came, wanted = pairs[k]
    if came.shape != wanted.shape:
        if all(a.numel() == b.numel() and close(a.reshape(b.shape), b) for a, b in pairs):
            return (
                "right numbers, wrong shape",
                "The numbers are right; only the shape is not. Which axis is one too many?",
            )
        return (
            "wrong shape",
            "Look at the shape first. Which axes should be left at the end, and which should be gone?",
        )
    if not came.isfinite().all():
        return (
            "not finite",
            "Some numbers are not finite. Which step divides by zero, or takes the root or log of one?",
        )
    if all(a.shape == b.shape for a, b in pairs):
        all_came, all_wanted = (torch.cat([t.flatten() for t in side]) for side in zip(*pairs, strict=True))
        factor = float((all_came @ all_wanted) / (all_wanted @ all_wanted))
        if factor and close(all_came, factor * all_wanted):
            return (
                "constant factor",
                f"Every number is {factor:.4g} times the expected one. Where does that factor come from?",
            )
    far = float(((came - wanted).abs() / wanted.abs().clamp_min(ATOL)).max())
    if far < 0.01:
        return (
            "nearly right",
            f"Very close: off by {far:.1g} of the value, where {RTOL:g} is allowed. What was rounded?",
        )
    return (
        "wrong values",
        "The shape is right, the numbers are not. Can you work this small case out on paper, line by line?",
    )
