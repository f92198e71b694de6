"""Schedules for β, to be given to ``fit(beta=…)``: KL annealing, linear or in cycles.

Both are functions of the step, which counts from 1 over all epochs. While β < 1 the loss is no ELBO.
"""

from collections.abc import Callable

from course_utils._checks import check_beta, check_positive_int, check_share


def linear_beta(steps: int, *, start: float = 0.0, end: float = 1.0) -> Callable[[int], float]:
    """β rises (or falls) from ``start`` at step 1 in a line, has reached ``end`` after ``steps`` steps, and stays.

    Raises ``TypeError`` or ``ValueError`` for arguments that do not fit. Source: Bowman et al. 2016, section 3.1, KL
    cost annealing; the linear form: Sønderby et al. 2016, warm-up.
    """
    steps, start, end = check_positive_int("steps", steps), check_beta(start), check_beta(end)
    return lambda step: start + (end - start) * min((step - 1) / steps, 1.0)


def cyclical_beta(
    steps: int, *, cycles: int = 4, ramp: float = 0.5, start: float = 0.0, end: float = 1.0
) -> Callable[[int], float]:
    """β goes through ``cycles`` equal cycles in ``steps`` steps: each a line from ``start`` to ``end``, and a rest.

    ``ramp`` is the share of a cycle that the line takes, 0 < ``ramp`` < 1; after ``steps`` steps β stays at ``end``.
    Raises ``TypeError`` or ``ValueError`` for arguments that do not fit. Source: Fu et al. 2019, eqs. (6) and (7).
    """
    steps, cycles = check_positive_int("steps", steps), check_positive_int("cycles", cycles)
    ramp, start, end = check_share("ramp", ramp), check_beta(start), check_beta(end)

    def beta(step: int) -> float:
        if step > steps:
            return end
        within = (step - 1) * cycles / steps % 1.0  # of the cycle
        return start + (end - start) * min(within / ramp, 1.0)

    return beta
