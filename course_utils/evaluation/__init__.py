"""Numbers to judge a model by: bounds on log p(x), what the code says, how good the samples are."""

from course_utils.evaluation.bounds import evaluate, log_likelihood
from course_utils.evaluation.grid import (
    GridPosterior,
    closest_gaussian,
    gap_on_grid,
    grid_of_codes,
    log_evidence_on_grid,
    posterior_on_grid,
)
from course_utils.evaluation.image_sets import PrecisionRecall, frechet_distance, precision_recall, sharpness
from course_utils.evaluation.information import (
    factor_entropy,
    factor_information,
    mutual_information_gap,
    rate_parts,
)
from course_utils.evaluation.judge import Judge, JudgeFeatures, train_judge
from course_utils.evaluation.latents import ActiveUnits, active_units, kl_per_dimension
from course_utils.evaluation.linear_gaussian import LinearGaussian, optimal_rates
from course_utils.evaluation.samples import (
    CodeGaussian,
    effective_classes,
    fit_gaussian,
    linear,
    lost_share,
    reached_share,
    spherical,
    standard_normal,
)

__all__ = [
    "ActiveUnits", "CodeGaussian", "GridPosterior", "Judge", "JudgeFeatures", "LinearGaussian", "PrecisionRecall",
    "active_units", "closest_gaussian", "effective_classes", "evaluate", "factor_entropy",
    "factor_information", "fit_gaussian", "frechet_distance", "gap_on_grid", "grid_of_codes", "kl_per_dimension",
    "linear", "log_evidence_on_grid", "log_likelihood", "lost_share", "mutual_information_gap",
    "optimal_rates", "posterior_on_grid", "precision_recall", "rate_parts", "reached_share",
    "sharpness", "spherical", "standard_normal", "train_judge",
]  # fmt: skip
