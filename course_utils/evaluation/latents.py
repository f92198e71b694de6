"""What the code says: active units, and nats per latent dimension."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from course_utils._checks import check_number
from course_utils.evaluation.bounds import batches_of, method_of
from course_utils.losses.terms import gaussian_kl_terms


class ActiveUnits(NamedTuple):
    """How many latent dimensions follow the data, and the variance over the data of each posterior mean, (L,)."""

    count: int
    variance: Tensor


@torch.no_grad()
def active_units(model: nn.Module, *inputs: Tensor, threshold: float = 0.01, batch_size: int = 1000) -> ActiveUnits:
    """The latent dimensions whose posterior mean varies over the data by more than ``threshold``.

    The mean is taken relative to the prior, (μ − μ_p) / σ_p, which is μ for N(0, I): where q equals a learned prior
    everywhere no dimension is active, though μ itself varies with the condition.

    Shapes: ``inputs`` (N, …) as ``model.loss`` takes them. Raises ``ValueError`` for fewer than two examples and where
    a mean is not finite, ``TypeError`` for a model without ``posterior_and_prior``. Source: Burda, Grosse &
    Salakhutdinov 2016, where they study the latent representation.
    """
    threshold = check_number("threshold", threshold, least=0)
    means = []
    for (mu, _), (mu_p, log_var_p) in _posteriors_and_priors(model, inputs, batch_size, "active_units"):
        means.append((mu - mu_p) * (-0.5 * log_var_p).exp())
    mean = torch.cat(means)
    if len(mean) < 2:
        raise ValueError(f"a variance over the data needs at least two examples, got {len(mean)}")
    if not mean.isfinite().all():
        raise ValueError("the posterior means are not all finite: look at the data and at the model's weights")
    variance = mean.flatten(0, -2).var(0)
    return ActiveUnits(int((variance > threshold).sum()), variance)


@torch.no_grad()
def kl_per_dimension(model: nn.Module, *inputs: Tensor, batch_size: int = 1000) -> Tensor:
    """The mean KL of each latent dimension over the data, (L,), in nats; arguments as for :func:`active_units`.

    Together they are the rate; for inputs with a sequence axis, the rate of one time step.
    """
    pairs = _posteriors_and_priors(model, inputs, batch_size, "kl_per_dimension")
    return torch.cat([gaussian_kl_terms(*q, prior=p) for q, p in pairs]).flatten(0, -2).mean(0)


def _posteriors_and_priors(model: nn.Module, inputs: tuple[Tensor, ...], batch_size: int, asker: str) -> list:
    both = method_of(model, "posterior_and_prior", asker)
    return [both(*batch) for batch in batches_of(model, inputs, batch_size)]
