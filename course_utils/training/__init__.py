"""Training: ``fit`` and its history, checkpoints, and the command that trains a model by name."""

import sys

try:
    from course_utils.training.checkpoints import load, save
    from course_utils.training.fit import fit
    from course_utils.training.priors import fit_code_prior, fit_prior
    from course_utils.training.resume import History
    from course_utils.training.schedules import cyclical_beta, linear_beta
except KeyboardInterrupt:
    if sys.argv[:1] == ["-m"]:  # Ctrl-C while the command below this package still loads PyTorch
        sys.exit("interrupted")
    raise

__all__ = ["History", "cyclical_beta", "fit", "fit_code_prior", "fit_prior", "linear_beta", "load", "save"]
