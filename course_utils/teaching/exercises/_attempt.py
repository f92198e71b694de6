"""Running a learner's code at arm's length: on copies, in a clean room, its errors shown as its own."""

import contextlib
import copy
import random
import sysconfig
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from course_utils._files import ROOT

from ._text import inputs_text

_NOT_THE_LEARNERS = (
    *(sysconfig.get_paths()[key] for key in ("stdlib", "platstdlib", "purelib", "platlib")),
    str(Path(torch.__file__).parent),
    str(Path(np.__file__).parent),
    str(ROOT / "course_utils"),
    "<frozen",
    "<__array_function__",
)


class NotYet(Exception):
    """The verdict "not yet": `diagnosis` names the slip, `message` tells the learner about it."""

    def __init__(self, diagnosis: str, message: str):
        super().__init__(message)
        self.diagnosis, self.message = diagnosis, message


class Raised(Exception):
    """The learner's code raised `error` while the check was `doing` something."""

    def __init__(self, error: Exception, doing: str):
        super().__init__(doing)
        self.error, self.doing = error, doing

    @property
    def message(self) -> str:
        """Type and words of the error, and the lines of the learner's own code that led to it."""
        words = "".join(traceback.format_exception_only(self.error)).strip()
        words = words if len(words) <= 600 else words[:600] + " …"
        frames = [f for f in traceback.extract_tb(self.error.__traceback__) if _is_learners(f.filename)]
        if len(frames) > 5:  # recursion
            frames = [*frames[:2], *frames[-3:]]
        lines = [
            f"line {f.lineno} of {f.name}:  {f.line}" if f.line else f"line {f.lineno} of {f.name}" for f in frames
        ]
        return "\n".join([f"This happened {self.doing}:", *(f"    {line}" for line in [*words.splitlines(), *lines])])


def _is_learners(filename: str) -> bool:
    return not filename.startswith(_NOT_THE_LEARNERS)


@dataclass
class Attempt:
    """An answer under examination: call it like the answer itself.

    answer: the function or class that the learner gave; parameters: the names of its arguments, for messages.
    dtype, device: what floating-point tensors and modules among the arguments are turned into.
    changed: the names of arguments that the answer modified in place, collected over all calls.
    """

    answer: Callable[..., Any]
    parameters: tuple[str, ...]
    dtype: torch.dtype = torch.float32
    device: torch.device | str = "cpu"
    changed: list[str] = field(default_factory=list)

    def __call__(self, *args: Any) -> Any:
        """Call the answer on copies of `args`.  Raises NotYet when it returns None, Raised when it fails."""
        given = [self.prepare(argument) for argument in args]
        before = copy.deepcopy(given)
        result = self.run(self.answer, *given, doing=f"with {inputs_text(self.parameters, args)}")
        for name, was, now in zip(self.parameters, before, given, strict=False):
            if not _same(was, now) and name not in self.changed:
                self.changed.append(name)
        if result is None:
            raise NotYet("returns nothing", "Your code ran, but nothing came back. Is a `return` missing at the end?")
        return result

    def run(self, function: Callable[..., Any], *args: Any, doing: str) -> Any:
        """Call anything that holds the learner's code, such as a module they built, `doing` something."""
        try:
            return function(*args)
        except (NotYet, Raised):  # of a check within a check, which has said what and where
            raise
        except Exception as error:
            raise Raised(error, doing) from error

    def prepare(self, argument: Any) -> Any:
        """A copy of a tensor or module in this attempt's dtype and on its device; anything else as it is."""
        if isinstance(argument, Tensor):
            dtype = self.dtype if argument.is_floating_point() else argument.dtype
            return argument.detach().clone().to(device=self.device, dtype=dtype)
        if isinstance(argument, nn.Module):
            return copy.deepcopy(argument).to(device=self.device, dtype=self.dtype)
        return argument

    def like(self, answer: Callable[..., Any]) -> "Attempt":
        """The same examination of another answer, such as the solution or a known wrong one."""
        return Attempt(answer, self.parameters, self.dtype, self.device)


def _same(was: Any, now: Any) -> bool:
    if isinstance(was, Tensor):
        return was.shape == now.shape and torch.equal(was, now)
    if isinstance(was, nn.Module):
        old, new = was.state_dict(), now.state_dict()
        return old.keys() == new.keys() and all(_same(old[key], new[key]) for key in old)
    return True


_eigvals = torch.linalg.eigvals


def _eigvals_of_numbers(a: Tensor, *args: Any, **options: Any) -> Tensor:
    """torch.linalg.eigvals. It ends the process for NaN with some builds of LAPACK; eig raises, and so does this."""
    if not torch.as_tensor(a).isfinite().all():
        raise ValueError("torch.linalg.eigvals: the matrix holds numbers that are not finite, infinity or NaN.")
    return _eigvals(a, *args, **options)


@contextlib.contextmanager
def clean_room() -> Iterator[None]:
    """Fixed seeds, gradients on, float32 on the CPU; afterwards everything is as the caller had it.

    Inside, torch.linalg.eigvals raises where it could end the process.
    """
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()  # seeding would outlive this block
    numpy_state = np.random.get_state()  # noqa: NPY002 - the learner's code may use the global one
    python_state, dtype, grad = random.getstate(), torch.get_default_dtype(), torch.is_grad_enabled()
    elsewhere = torch.get_default_device().type != "cpu"  # to say it costs time at every operation
    device = torch.device("cpu") if elsewhere else contextlib.nullcontext()
    with torch.random.fork_rng(gpus), torch.inference_mode(False), torch.enable_grad(), device:
        eigvals, torch.linalg.eigvals = torch.linalg.eigvals, _eigvals_of_numbers
        try:
            torch.default_generator.manual_seed(0)
            random.seed(0)
            np.random.seed(0)  # noqa: NPY002
            torch.set_default_dtype(torch.float32)
            yield
        finally:
            torch.linalg.eigvals = eigvals
            torch.set_default_dtype(dtype)
            random.setstate(python_state)
            np.random.set_state(numpy_state)  # noqa: NPY002
    torch.set_grad_enabled(grad)
