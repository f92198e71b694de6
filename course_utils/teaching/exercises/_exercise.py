"""What an exercise is: data from which its stub, its cell and its judge follow."""

import inspect
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ._attempt import Attempt
from ._relations import ATOL, RTOL
from ._stub import name_of, parameters_of, stub_of

_SHAPES = re.compile(r"^\s*([\w, ]+?):\s*\(([\w, ]*)\)", re.MULTILINE)


def axes_of(text: str) -> dict[str, tuple[str, ...]]:
    """The names of sizes in "mu, log_var: (B, L)": {"mu": ("B", "L"), "log_var": ("B", "L")}."""
    return {
        name.strip(): tuple(filter(None, (size.strip() for size in sizes.split(","))))
        for names, sizes in _SHAPES.findall(text)
        for name in names.split(",")
    }


class Draw:
    """Random tensors in float64 for cases, the same every time: `draw(2, 3)` is rounded to one decimal."""

    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(0)

    def __call__(self, *shape: int, decimals: int = 1) -> Tensor:
        """Normal numbers."""
        return torch.randn(shape, generator=self.generator, dtype=torch.float64).round(decimals=decimals)

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0, decimals: int = 3) -> Tensor:
        """Numbers between `low` and `high`."""
        numbers = torch.rand(shape, generator=self.generator, dtype=torch.float64)
        return (low + (high - low) * numbers).round(decimals=decimals)

    def integers(self, low: int, high: int, *shape: int) -> Tensor:
        """Whole numbers from `low` to `high` - 1, int64."""
        return torch.randint(low, high, shape, generator=self.generator)


@dataclass(frozen=True)
class Exercise:
    """One exercise of a notebook.

    number: "1.2"; title; minutes: a fair estimate; hints: three, each giving more away; passed: one sentence
        for a right answer, which may hold numbers that a check of a build found: "Loss {loss:.0f} nats."
    solution: the function or class of which stub, cell and `solution()` are made. Its docstring tells shapes
        ("mu, log_var: (B, L)": the letters name sizes in messages) and units. Of a class, methods that begin
        with one underscore stay out of the stub.

    A brick (a function) is compared with the solution:
    cases: draw -> list of argument tuples, smallest first; generic numbers, sizes that differ from each other.
    mistakes: name -> (wrong function, words), only where the words say more than a relation would.
    gradients: the names of the arguments that a gradient must reach.
    parts: names for the things in a returned tuple. tolerance: (relative, absolute).
    any_type: True where lists, NumPy arrays and Python numbers are right as well.
    may_change_inputs: True where working in place on the arguments is part of the task.
    observe: (attempt, *case) -> named tensors to compare, where the returned value is not what counts.
    also: (attempt, cases) -> None, one more check once all numbers are right; raises NotYet.

    A build (a class, or a function that trains) is graded by what it does:
    checks: functions of a `Build`, in order; see `_build.py` for ready ones.
    """

    number: str
    title: str
    minutes: int
    solution: Callable[..., Any]
    hints: tuple[str, str, str]
    passed: str
    cases: Callable[[Draw], Sequence[tuple]] | None = None
    mistakes: Mapping[str, tuple[Callable[..., Any], str]] = field(default_factory=dict)
    gradients: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    tolerance: tuple[float, float] = (RTOL, ATOL)
    any_type: bool = False
    may_change_inputs: bool = False
    observe: Callable[..., Mapping[str, Tensor]] | None = None
    also: Callable[[Attempt, Sequence[tuple]], None] | None = None
    checks: Sequence[Callable[[Any], None]] = ()
    stub: str = ""  # derived from the solution; to be given only where that does not do
    judge: Callable[["Exercise", Attempt], str | None] | None = None  # for an exercise of neither kind

    def __post_init__(self) -> None:
        if not self.stub:
            object.__setattr__(self, "stub", stub_of(self.solution))

    @property
    def kind(self) -> str:
        """ "brick" or "build"."""
        return "build" if self.checks else "brick"

    @property
    def head(self) -> str:
        """ "Exercise 4.2" or "Build 2.3"."""
        return f"{'Build' if self.checks else 'Exercise'} {self.number}"

    @property
    def name(self) -> str:
        """The name of the function or class to write."""
        return name_of(self.stub)

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of its arguments, in order; of a class without `__init__` those that it inherits."""
        return parameters_of(self.stub) or tuple(inspect.signature(self.solution).parameters)

    @property
    def cell(self) -> str:
        """The whole cell of the notebook: the stub, and the call that checks it and gives what to go on with."""
        return f'{self.stub}\n\n\n{self.name} = check("{self.number}", {self.name})'

    @cached_property
    def axes(self) -> dict[str, tuple[str, ...]]:
        """The names of the sizes of each argument, from the docstring: {"mu": ("B", "L")}."""
        return axes_of(inspect.getdoc(self.solution) or "")

    def all_cases(self) -> list[tuple]:
        """The same cases every time."""
        return list(self.cases(Draw()))

    def source(self) -> str:
        """The solution's source without what the stub has said already."""
        return textwrap.dedent(inspect.getsource(self.solution)).rstrip()
