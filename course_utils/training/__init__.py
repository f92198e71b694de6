"""Training: ``fit`` and its history, checkpoints, and the command that trains a model by name."""

from course_utils.training.checkpoints import load, save
from course_utils.training.fit import fit
from course_utils.training.resume import History

__all__ = ["History", "fit", "load", "save"]
