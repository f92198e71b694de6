"""What the code says: active units, and nats per latent dimension."""

from typing import NamedTuple

import torch
from torch import Tensor

from course_utils.evaluation.bounds import _prior, batches_of
from course_utils.losses.terms import gaussian_kl_terms
from course_utils.models.cvae import CVAE
from course_utils.models.vae import VAE


class ActiveUnits(NamedTuple):
    """How many latent dimensions carry information, and the variance over the data of each posterior mean, (L,)."""

    count: int
    variance: Tensor


@torch.no_grad()
def active_units(
    model: VAE | CVAE,
    x: Tensor,
    cond: Tensor | None = None,
    *,
    threshold: float = 0.01,
    batch_size: int = 1000,
) -> ActiveUnits:
    """The latent dimensions whose posterior mean varies over the data by more than ``threshold``.

    Shapes: ``x`` (N, …), ``cond`` (N, C) for a CVAE. Raises ``ValueError`` for fewer than two examples.
    Source: Burda, Grosse & Salakhutdinov 2016, where they study the latent representation.
    """
    if len(x) < 2:
        raise ValueError(f"a variance over the data needs at least two examples, got {len(x)}")
    mu = torch.cat([model.encode(*batch)[0] for batch in batches_of(model, x, cond, batch_size)])
    variance = mu.flatten(0, -2).var(0)
    return ActiveUnits(int((variance > threshold).sum()), variance)


@torch.no_grad()
def kl_per_dimension(model: VAE | CVAE, x: Tensor, cond: Tensor | None = None, *, batch_size: int = 1000) -> Tensor:
    """The mean KL of each latent dimension over the data, (L,), in nats.

    Together they are the rate; for inputs with a sequence axis, the rate of one time step.
    """
    parts = []
    for batch in batches_of(model, x, cond, batch_size):
        mu, log_var = model.encode(*batch)
        parts.append(gaussian_kl_terms(mu, log_var, prior=_prior(model, batch, mu)))
    return torch.cat(parts).flatten(0, -2).mean(0)
