"""Bounds on log p(x) over a data set: the ELBO, and the importance-weighted bound."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from course_utils._checks import check_batch, check_positive_int
from course_utils._random import seeded
from course_utils.losses.terms import ELBO, LOG_2PI
from course_utils.models.cvae import CVAE
from course_utils.models.vae import VAE


@torch.no_grad()
def evaluate(
    model: nn.Module,
    x: Tensor,
    cond: Tensor | None = None,
    *,
    beta: float = 1.0,
    seed: int = 0,
    batch_size: int = 1000,
) -> ELBO:
    """The loss and its terms for each example of ``x``, (N,) each, in nats, with one sample z per example.

    Shapes: ``x`` (N, …) as the model takes it; for a CVAE also ``cond`` (N, C). The same formula as in training: the
    test ELBO is ``-evaluate(model, x).loss.mean()``. The same seed draws the same noise.
    """
    kwargs = {} if beta == 1.0 else {"beta": beta}
    with seeded(seed, device_of(model)):
        parts = [model.loss(*batch, **kwargs) for batch in batches_of(model, x, cond, batch_size)]
    return ELBO(*(torch.cat(terms) for terms in zip(*parts, strict=True)))


@torch.no_grad()
def log_likelihood(
    model: VAE | CVAE,
    x: Tensor,
    cond: Tensor | None = None,
    *,
    samples: int,
    seed: int = 0,
    batch_size: int = 2000,
) -> Tensor:
    """Importance-weighted estimate of log p(x) per example, in nats: in expectation a bound, tighter with samples.

    log 1/K Σ_k p(x|z_k) p(z_k) / q(z_k|x) with z_k from q(z|x) and K = ``samples``; with K = 1 its mean is the ELBO.
    For a CVAE every term is given the condition, the prior too: p(z_k|c).
    It is a log-density only where the likelihood is one. ``batch_size`` bounds how many (example, sample) pairs are
    decoded at a time, and so the memory.

    Shapes: ``x`` (N, …), ``cond`` (N, C) for a CVAE → (N,). Raises ``ValueError`` for ``samples`` below 1 and
    ``TypeError`` for a model without a likelihood. Source: Burda, Grosse & Salakhutdinov 2016, the bound L_k.
    """
    samples = check_positive_int("samples", samples)
    if not isinstance(model, VAE | CVAE):
        raise TypeError(f"log_likelihood needs a VAE or a CVAE, got {type(model).__name__}")
    chunk = min(samples, batch_size)
    counts = [min(chunk, samples - done) for done in range(0, samples, chunk)]
    results = []
    with seeded(seed, device_of(model)):
        for batch in batches_of(model, x, cond, max(1, batch_size // chunk)):
            mu, log_var = model.encode(*batch)
            prior = _prior(model, batch, mu)
            weights = [_log_weights(model, batch, (mu, log_var), prior, count) for count in counts]
            results.append(torch.cat(weights).logsumexp(0) - math.log(samples))
    return torch.cat(results)


def _log_weights(
    model: VAE | CVAE, batch: tuple[Tensor, ...], posterior: tuple[Tensor, ...], prior: tuple[Tensor, ...], count: int
) -> Tensor:
    """log p(x|z) + log p(z) − log q(z|x) for ``count`` fresh z per example: (count, B), in float64."""
    repeated = [tensor.repeat(count, *[1] * (tensor.dim() - 1)) for tensor in (*batch, *posterior, *prior)]
    x, *cond, mu, log_var, mu_p, log_var_p = repeated
    eps = torch.randn_like(mu)
    z = model.reparameterize(mu, log_var, eps=eps)
    log_px = -model.likelihood.nll(model.decode(z, *cond), x).double()
    from_prior = (z.double() - mu_p.double()).square() / log_var_p.double().exp()
    log_pz = -0.5 * (from_prior + LOG_2PI + log_var_p.double()).flatten(1).sum(1)
    log_qz = -0.5 * (eps.double().square() + LOG_2PI + log_var.double()).flatten(1).sum(1)
    return (log_px + log_pz - log_qz).view(count, -1)


def _prior(model: VAE | CVAE, batch: tuple[Tensor, ...], mu: Tensor) -> tuple[Tensor, Tensor]:
    """``mu`` and ``log_var`` of the model's prior for each example, in the shape of the posterior's ``mu``."""
    return model.prior(batch[1]) if isinstance(model, CVAE) else (torch.zeros_like(mu), torch.zeros_like(mu))


def batches_of(model: nn.Module, x: Tensor, cond: Tensor | None, batch_size: int) -> Iterator[tuple[Tensor, ...]]:
    """The data in order, as the arguments of the model's methods, on the model's device."""
    check_batch("x", x)
    check_positive_int("batch_size", batch_size)
    if len(x) == 0:
        raise ValueError("x must hold at least one example, got none")
    if isinstance(model, CVAE) != (cond is not None):
        need = "needs cond as well" if cond is None else "takes no cond"
        raise ValueError(f"a {type(model).__name__} {need}")
    if cond is not None and len(cond) != len(x):
        raise ValueError(f"x and cond must have one length, got {len(x)} and {len(cond)}")
    device = device_of(model)
    tensors = (x,) if cond is None else (x, cond)
    for parts in zip(*(tensor.split(batch_size) for tensor in tensors), strict=True):
        yield tuple(part.to(device) for part in parts)


def device_of(model: nn.Module) -> torch.device:
    return next(model.parameters()).device
