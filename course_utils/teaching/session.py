"""A notebook's first cell: seed, device and one look, and the address of this copy of the course."""

from __future__ import annotations

import operator
import os
import platform
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from course_utils.data.images import ImageData


# Where this copy of the course lives on GitHub. `python -m course_utils.teaching.set_repository you/your-fork`
# rewrites this line together with the notebooks' set-up cells and badges.
REPOSITORY = "OWNER/NAME"

# The first code cell of every notebook; a test compares them with this text. On Colab the import works
# because the lines above it did; anywhere else because requirements.txt installs the package.
SETUP_CELL = f"""\
# Set-up, the same in every notebook. Run it first.
import sys

# On Colab: fetch the course, once. Elsewhere nothing happens here.
if "google.colab" in sys.modules:
    course = "/content/{REPOSITORY.partition("/")[2]}"
    !test -d $course || git clone -q --depth=1 https://github.com/{REPOSITORY} $course
    sys.path.insert(0, course)

from course_utils.teaching import start_session

session = start_session()"""


@dataclass
class Session:
    """What `start_session` decided: the device to compute on and the seed that everything random began with."""

    device: torch.device
    seed: int
    data: ImageData | None = None  # a notebook may keep its data set here


current: Session | None = None


def start_session(*, seed: int | None = None) -> Session:
    """Seed Python, NumPy and PyTorch, choose the device, set the plotting style and print one line about it.

    `seed`: by default the environment variable COURSE_SEED, and 0 where that is not set. The device is the
    GPU where PyTorch sees one, else the CPU, with as many threads as the environment variable COURSE_THREADS
    says; without it with PyTorch's own number, and with one where other programs keep the cores busy: two trainings
    that share their threads are many times slower. Calling it again starts afresh from the same seed.

    Raises ValueError when the seed is not a whole number from 0 to 2**32 - 1, or the threads not one from 1 on.
    """
    from course_utils.teaching.plotting import use_style  # here, so that `claim` does not load matplotlib

    global current
    seed = _chosen_seed(seed)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  (scikit-learn draws from the global generator)
    torch.manual_seed(seed)  # seeds the GPU's generator as well
    torch.backends.cudnn.deterministic = True  # the same seed, the same numbers, on a GPU too
    use_style()

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    current = Session(device=device, seed=seed)
    print(
        f"Python {platform.python_version()} · PyTorch {torch.__version__.partition('+')[0]} · "
        f"{_device_name(device)} · seed {seed}"
    )
    return current


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
    busy = _choose_threads()
    threads = torch.get_num_threads()
    why = ", as the machine is busy (COURSE_THREADS sets another number)" if busy else ""
    return f"CPU, {threads} thread{'s' if threads != 1 else ''}{why}"


def _choose_threads() -> bool:
    """Set the number of threads as `start_session` says; return whether it is one because the machine is busy."""
    cores, threads = os.cpu_count() or 1, torch.get_num_threads()
    if asked := os.environ.get("COURSE_THREADS"):
        if not asked.isdecimal() or int(asked) < 1:
            raise ValueError(f"COURSE_THREADS must be a whole number of at least 1; got {asked!r}.")
        torch.set_num_threads(int(asked))
        return False
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0  # programs that ran, over the last minute
    busy = threads > 1 and load > cores - threads + 0.5
    if busy:
        torch.set_num_threads(1)
    return busy
