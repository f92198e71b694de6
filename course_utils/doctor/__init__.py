"""The doctor: examines any model that is meant to be a VAE, by experiments, and says in plain words what is wrong.

    diagnosis = examine(model, x, loss=my_loss)
    print(diagnosis)

From a terminal: ``python -m course_utils.doctor FILE.py:CLASS``. The experiments stand in ``encoder``, ``sampling``,
``objective`` and ``decoder``, all that can be found in ``codes``. Names are loaded when used.
"""

from importlib import import_module
from typing import Any

_HOME_OF = {"CODES": "codes", "Code": "codes", "Diagnosis": "report", "Finding": "report", "examine": "examination"}

__all__ = [*_HOME_OF]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
