"""Training: ``fit`` and its history, checkpoints, and the command that trains a model by name."""

import sys

try:
    from course_utils.training.checkpoints import load, save
    from course_utils.training.fit import fit
    from course_utils.training.priors import fit_prior
    from course_utils.training.resume import History
except KeyboardInterrupt:
    if sys.argv[:1] == ["-m"]:  # Ctrl-C while the command below this package still loads PyTorch
        sys.exit("interrupted")
    raise

__all__ = ["History", "fit", "fit_prior", "load", "save"]
