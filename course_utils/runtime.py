"""What every notebook needs before its first idea: seed, device, one look, and claims that are checked."""

from __future__ import annotations

import json
import math
import operator
import os
import platform
import random
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from course_utils.data import ImageData

# Where this copy of the course lives on GitHub. `python -m course_utils.set_repository you/your-fork`
# rewrites this line together with the notebooks' set-up cells and badges.
REPOSITORY = "OWNER/NAME"

# The first code cell of every notebook; a test compares them with this text. On Colab the import works
# because the lines above it did; anywhere else because requirements.txt installs the package.
SETUP_CELL = f"""\
# Set-up, the same in every notebook. Run it first.
import sys

if "google.colab" in sys.modules:  # on Colab: fetch the course, once. Elsewhere nothing happens here.
    course = "/content/{REPOSITORY.partition("/")[2]}"
    !test -d $course || git clone -q --depth=1 https://github.com/{REPOSITORY} $course
    sys.path.insert(0, course)

from course_utils import runtime

session = runtime.start()"""

_RELATIONS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


@dataclass
class Session:
    """What `start` decided: the device to compute on and the seed that everything random began with."""

    device: torch.device
    seed: int
    data: ImageData | None = None  # a notebook may keep its data set here


_session: Session | None = None


def start(*, seed: int | None = None) -> Session:
    """Seed Python, NumPy and PyTorch, choose the device, set the plotting style and print one line about it.

    `seed`: by default the environment variable COURSE_SEED, and 0 where that is not set. The device is the
    GPU where PyTorch sees one, else the CPU; the number of threads is left as it is. Calling it again
    starts afresh from the same seed.

    Raises ValueError when the seed is not a whole number from 0 to 2**32 - 1.
    """
    from course_utils.plotting import use_style  # here, so that `claim` does not load matplotlib

    global _session
    seed = _chosen_seed(seed)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  (scikit-learn draws from the global generator)
    torch.manual_seed(seed)  # seeds the GPU's generator as well
    torch.backends.cudnn.deterministic = True  # the same seed, the same numbers, on a GPU too
    use_style()

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    _session = Session(device=device, seed=seed)
    print(
        f"Python {platform.python_version()} · PyTorch {torch.__version__.partition('+')[0]} · "
        f"{_device_name(device)} · seed {seed}"
    )
    return _session


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
    from course_utils.data import current_dataset

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


def _chosen_seed(seed: int | None) -> int:
    origin = "seed"
    if seed is None:
        seed, origin = os.environ.get("COURSE_SEED") or 0, "The environment variable COURSE_SEED"
    try:
        number = int(seed) if isinstance(seed, str) else operator.index(seed)
    except (TypeError, ValueError):
        number = -1
    if not 0 <= number < 2**32:
        raise ValueError(f"{origin} must be a whole number from 0 to {2**32 - 1}; got {seed!r}.")
    return number


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return f"GPU {torch.cuda.get_device_name(device)}"
    threads = torch.get_num_threads()
    return f"CPU, {threads} thread{'s' if threads != 1 else ''}"


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
