"""The doctor: examines any model that is meant to be a VAE, by experiments, and says in plain words what is wrong.

    diagnosis = examine(model, x, loss=my_loss)
    print(diagnosis)

From a terminal: ``python -m course_utils.doctor FILE.py:CLASS``. The experiments stand in ``encoder``, ``sampling``,
``objective``, ``decoder`` and ``overflow``, all that can be found in ``codes``.
"""

from course_utils.doctor.codes import CODES, Code
from course_utils.doctor.examination import examine
from course_utils.doctor.report import Diagnosis, Finding

__all__ = ["CODES", "Code", "Diagnosis", "Finding", "examine"]
