"""The terms that models are trained with: likelihoods, KL divergences, and the ELBO made of both."""

from course_utils.losses.bounds import doubly_reparameterized, importance_bound, sticking_the_landing
from course_utils.losses.elbo import elbo
from course_utils.losses.information import (
    RateParts,
    batch_rate_parts,
    log_densities,
    mixture_log_weights,
    mmd,
    mmd_to_prior,
    split_rate,
)
from course_utils.losses.likelihoods import Bernoulli, ContinuousBernoulli, Gaussian, SquaredError, make_likelihood
from course_utils.losses.perceptual import feature_distance
from course_utils.losses.rates import ChargedRate, capacity, free_bits
from course_utils.losses.scales import implied_gaussian, optimal_sigma
from course_utils.losses.terms import (
    Terms,
    bernoulli_nll,
    continuous_bernoulli_nll,
    gaussian_kl,
    gaussian_kl_full,
    gaussian_kl_terms,
    gaussian_nll,
    squared_error,
)

__all__ = [
    "Bernoulli", "ChargedRate", "ContinuousBernoulli", "Gaussian", "RateParts", "SquaredError", "Terms",
    "batch_rate_parts", "bernoulli_nll", "capacity", "continuous_bernoulli_nll", "doubly_reparameterized", "elbo",
    "feature_distance", "free_bits", "gaussian_kl", "gaussian_kl_full", "gaussian_kl_terms", "gaussian_nll",
    "implied_gaussian", "importance_bound", "log_densities", "make_likelihood", "mixture_log_weights", "mmd",
    "mmd_to_prior", "optimal_sigma", "split_rate", "squared_error", "sticking_the_landing",
]  # fmt: skip
