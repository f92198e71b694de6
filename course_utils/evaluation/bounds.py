"""Bounds on log p(x) over a data set: the ELBO, and the importance-weighted bound."""

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from course_utils._checks import check_choice, check_positive_int
from course_utils._random import seeded
from course_utils.losses.bounds import importance_bound
from course_utils.losses.terms import Terms
from course_utils.models.layers import evaluating


@torch.no_grad()
def evaluate(model: nn.Module, *inputs: Tensor, beta: float = 1.0, seed: int = 0, batch_size: int = 1000) -> Terms:
    """The loss and its terms for each example, (N,) each, in nats, with one sample z per example.

    Shapes: ``inputs`` (N, …) as ``model.loss`` takes them: ``evaluate(vae, x)``, ``evaluate(cvae, x, cond)``. The same
    formula as in training: the test ELBO is ``-evaluate(model, x).loss.mean()``. The same seed draws the same noise.
    It is measured in ``eval()``, which moves nothing, and the model goes back to the mode that it was in.
    Raises ``ValueError`` or ``TypeError`` for inputs that are not those of ``model.loss``.
    """
    loss = method_of(model, "loss", "evaluate")
    with seeded(seed, device_of(model)), evaluating(model):
        parts = [
            check_terms(model, loss(*batch, beta=beta), len(batch[0]))
            for batch in batches_of(model, inputs, batch_size)
        ]
    return Terms(**{name: torch.cat([getattr(part, name) for part in parts]) for name in parts[0].names})


@torch.no_grad()
def log_likelihood(
    model: nn.Module,
    *inputs: Tensor,
    samples: int,
    proposal: str = "posterior",
    seed: int = 0,
    batch_size: int = 2000,
) -> Tensor:
    """Importance-weighted estimate of log p(x) per example, in nats: in expectation a bound, tighter with samples.

    log 1/K Σ_k p(x|z_k) p(z_k) / q(z_k|x) with z_k from q(z|x) and K = ``samples``; with K = 1 its mean is the ELBO.
    An encoder that is too narrow somewhere keeps it far too low there, at any practical K. With ``proposal``
    "defensive" the z_k come from half q, half prior, and that mixture stands in the denominator: hardly worse where q
    is good, and safe where it is not, as long as K samples of the prior can find the posterior at all.
    For a conditional model every term is given the condition, the prior too: p(z_k|c).
    It is a log-density only where the likelihood is one. ``batch_size`` bounds how many (example, sample) pairs are
    decoded at a time, and so the memory. Measured in ``eval()``, as by :func:`evaluate`.

    Shapes: ``inputs`` (N, …) as for :func:`evaluate` → (N,). Raises ``ValueError`` for ``samples`` or ``batch_size``
    below 1 or another ``proposal``, and ``TypeError`` for a model without ``log_weights``, or whose ``log_weights``
    takes no ``proposal``. Source: Burda, Grosse & Salakhutdinov 2016, the bound L_k.
    """
    samples, batch_size = check_positive_int("samples", samples), check_positive_int("batch_size", batch_size)
    log_weights = method_of(model, "log_weights", "log_likelihood")
    if check_choice("proposal", proposal, ("posterior", "defensive")) != "posterior":
        if "proposal" not in inspect.signature(log_weights).parameters:
            raise TypeError(f"{type(model).__name__}.log_weights takes no proposal: only proposal='posterior' is there")
        log_weights = functools.partial(log_weights, proposal=proposal)
    chunk = min(samples, batch_size)
    counts = [min(chunk, samples - done) for done in range(0, samples, chunk)]
    with seeded(seed, device_of(model)), evaluating(model):
        return torch.cat([
            importance_bound(torch.cat([_checked(model, log_weights(*batch, samples=n), n, batch) for n in counts]))
            for batch in batches_of(model, inputs, max(1, batch_size // chunk))
        ])  # fmt: skip


def _checked(model: nn.Module, weights: Tensor, samples: int, batch: tuple[Tensor, ...]) -> Tensor:
    wanted = samples, len(batch[0])
    if weights.shape != wanted:
        came = tuple(weights.shape)
        raise ValueError(f"{type(model).__name__}.log_weights must return (samples, B) = {wanted}, got {came}")
    return weights


def method_of(model: nn.Module, name: str, asker: str) -> Callable[..., Any]:
    """The model's method of that name. Raises ``TypeError`` where it has none."""
    method = getattr(model, name, None)
    if not callable(method):
        raise TypeError(f"{asker} needs a model with a method {name}, which {type(model).__name__} has not")
    return method


def check_terms(model: nn.Module, terms: object, size: int) -> Terms:
    """Raise ``TypeError`` or ``ValueError`` unless ``model.loss`` has returned terms of ``size`` numbers each."""
    if not isinstance(terms, Terms):
        raise TypeError(f"{type(model).__name__}.loss must return losses.Terms(loss=…, …), got {type(terms).__name__}")
    for name, value in terms.items():
        if not isinstance(value, Tensor) or value.shape != (size,):
            came = tuple(value.shape) if isinstance(value, Tensor) else repr(value)
            raise ValueError(
                f"{type(model).__name__}.loss must return one number for each of {size} examples, got {name} {came}; "
                "sum over the dimensions of an example, and leave the mean over the batch to the caller"
            )
    return terms


def batches_of(model: nn.Module, inputs: tuple[Tensor, ...], batch_size: int) -> Iterator[tuple[Tensor, ...]]:
    """The data in order, as the arguments of the model's methods, on the model's device."""
    check_positive_int("batch_size", batch_size)
    check_inputs(model, inputs)
    device = device_of(model)
    for parts in zip(*(tensor.split(batch_size) for tensor in inputs), strict=True):
        yield tuple(part.to(device) for part in parts)


def check_inputs(model: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """Raise unless these are tensors of one length, at least 1, and as many as ``model.loss`` takes beside ``beta``."""
    came = f"{len(inputs)} tensor{'' if len(inputs) == 1 else 's'}"
    for tensor in inputs:
        if not isinstance(tensor, Tensor) or tensor.dim() == 0:
            raise TypeError(f"data must be tensors (N, …), got {type(tensor).__name__}")
    signature = inspect.signature(method_of(model, "loss", "training"))
    try:
        signature.bind(*inputs, beta=1.0)
    except TypeError:
        raise ValueError(
            f"{type(model).__name__}.loss({', '.join(signature.parameters)}) does not take {came} and beta"
        ) from None
    if len({len(tensor) for tensor in inputs}) != 1:
        raise ValueError(f"the inputs must have one length, got {[len(tensor) for tensor in inputs]}")
    if len(inputs[0]) == 0:
        raise ValueError("data must hold at least one example, got none")


def device_of(model: nn.Module) -> torch.device:
    return next(model.parameters()).device
