"""Variational autoencoders in PyTorch: the models of the course, and what trains, measures and examines them.

The names below are loaded when they are first used: ``from course_utils import VAE`` imports the models and no more.
The rooms hold the rest: ``models``, ``losses``, ``training``, ``evaluation``, ``data`` and ``doctor`` are the package,
``teaching`` serves the notebooks.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from course_utils.data import load_images
    from course_utils.doctor import examine
    from course_utils.evaluation import LinearGaussian, evaluate, log_likelihood
    from course_utils.models import CVAE, IWAE, VAE, Autoencoder, register
    from course_utils.training import fit, load, save

# PyTorch's threads wait for each other asleep, not spinning: with more of them than free cores, as when two notebooks
# run, spinning made a training step 10 to 40 times slower. It is read once, when PyTorch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.2.0"

_ROOM_OF = {
    "Autoencoder": "models",
    "VAE": "models",
    "CVAE": "models",
    "IWAE": "models",
    "register": "models",
    "fit": "training",
    "save": "training",
    "load": "training",
    "evaluate": "evaluation",
    "log_likelihood": "evaluation",
    "LinearGaussian": "evaluation",
    "load_images": "data",
    "examine": "doctor",
}

__all__ = [  # noqa: RUF022 - in the order in which one meets them
    "Autoencoder", "VAE", "CVAE", "IWAE", "register", "fit", "save", "load",
    "evaluate", "log_likelihood", "LinearGaussian", "load_images", "examine",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _ROOM_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_ROOM_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
