"""``fit``: the training loop of the course, for every model in it."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_utils._checks import check_beta, check_float, check_positive_int
from course_utils._random import seeded
from course_utils.data import ImageData, Split
from course_utils.evaluation import evaluate
from course_utils.losses import ELBO
from course_utils.models import CVAE
from course_utils.progress import progress

Condition = Callable[[Tensor, Tensor], Tensor]
Data = ImageData | Split | Tensor | tuple[Tensor, Tensor]


@dataclass
class History:
    """What happened in training, one entry per finished epoch; all numbers are means in nats per example.

    ``train`` averages over the steps of the epoch, while the weights move; ``test`` is taken after the epoch, on the
    test part where the data have one (else it is empty).
    """

    epochs: list[int] = field(default_factory=list)
    train: list[ELBO] = field(default_factory=list)
    test: list[ELBO] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    interrupted: bool = False


def fit(
    model: nn.Module,
    data: Data,
    *,
    epochs: int,
    batch_size: int = 128,
    lr: float = 1e-3,
    beta: float = 1.0,
    seed: int = 0,
    condition: Condition | None = None,
    show: bool = True,
) -> History:
    """Train a model of the course with Adam and return its history; the model is trained in place.

    ``data``: an ``ImageData`` (its test part is evaluated after every epoch), a ``Split``, a float tensor (N, …), or
    for a CVAE also a pair (inputs, conditions). Images are reshaped to the model's input shape. ``condition(x, y)``
    makes a CVAE's conditions (B, C) from images and labels; left out, they are one-hot labels. The loss is
    ``model.loss(...)`` with weight ``beta`` on the KL, averaged over the batch.

    The same seed gives the same weights on the same machine: it orders the batches and draws the noise, and leaves
    the global random state alone. Interrupting the kernel ends training early and keeps model and history
    (``history.interrupted``).

    Raises ``FloatingPointError``, naming epoch, step and term, as soon as the loss is not finite, before the weights
    take that step; ``ValueError`` or ``TypeError`` for arguments that do not fit.
    """
    epochs, batch_size = check_positive_int("epochs", epochs), check_positive_int("batch_size", batch_size)
    beta = check_beta(beta)
    if not 0 < lr < math.inf:
        raise ValueError(f"lr must be a positive number, got {lr}")
    device = next(model.parameters()).device
    train, test = (data.train, data.test) if isinstance(data, ImageData) else (data, None)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr, fused=True)
    kwargs = {} if beta == 1.0 else {"beta": beta}
    size = _size(train)
    order = torch.Generator().manual_seed(seed)  # on the CPU, so that the order is the same on every device
    history = History()
    mode = model.training
    model.train()
    steps = math.ceil(size / batch_size)
    with seeded(seed, device), progress(epochs * steps, "training", show=show) as bar:
        try:
            for epoch in range(1, epochs + 1):
                start, sums = time.perf_counter(), torch.zeros(3, dtype=torch.float64)
                for step, inputs in enumerate(_batches(model, train, batch_size, order, condition, device), start=1):
                    terms = model.loss(*inputs, **kwargs)
                    means = torch.stack([term.mean() for term in terms])  # loss, recon, kl
                    values = means.detach().cpu()
                    if not values.isfinite().all():
                        raise FloatingPointError(_not_finite(values, epoch, step, steps, lr))
                    optimizer.zero_grad()
                    means[0].backward()
                    optimizer.step()
                    sums += values.double() * len(inputs[0])
                    bar.update()
                history.epochs.append(epoch)
                history.train.append(ELBO(*(sums / size).tolist()))
                history.seconds.append(time.perf_counter() - start)
                if test is not None:
                    history.test.append(_test_terms(model, test, beta, condition))
                bar.set_postfix_str(_summary(history))
        except KeyboardInterrupt:
            history.interrupted = True
        finally:
            model.train(mode)
        bar.end_line = _end_line(history)
    return history


def one_hot_labels(x: Tensor, y: Tensor) -> Tensor:
    """The usual condition: labels y (B,) in 0…9 as one-hot vectors (B, 10), in the dtype of ``x``.

    Raises ``ValueError`` for a label that is no digit.
    """
    if len(y) and not 0 <= y.min() <= y.max() <= 9:
        raise ValueError(f"labels must lie in 0…9, got values from {int(y.min())} to {int(y.max())}")
    return F.one_hot(y, 10).to(x.dtype)


def _size(train: Split | Tensor | tuple[Tensor, Tensor]) -> int:
    if isinstance(train, tuple):
        if len(train) != 2 or len(train[0]) != len(train[1]):
            raise ValueError(f"data must be a pair (inputs, conditions) of one length, got {[len(t) for t in train]}")
        train = train[0]
    if not isinstance(train, Split):
        check_float("data", train)
    if len(train) == 0:
        raise ValueError("data must hold at least one example, got none")
    return len(train)


def _batches(
    model: nn.Module,
    train: Data,
    batch_size: int,
    order: torch.Generator,
    condition: Condition | None,
    device,
) -> Iterator[tuple[Tensor, ...]]:
    """The arguments of ``model.loss`` for each batch of one epoch, in an order drawn from ``order``."""
    if isinstance(train, Split):
        for x, y in train.batches(batch_size, seed=order):
            yield model_inputs(model, x.to(device), y.to(device), condition)
        return
    tensors = train if isinstance(train, tuple) else (train,)
    for index in torch.randperm(len(tensors[0]), generator=order).split(batch_size):
        yield tuple(tensor[index.to(tensor.device)].to(device) for tensor in tensors)


def model_inputs(model: nn.Module, x: Tensor, y: Tensor, condition: Condition | None = None) -> tuple[Tensor, ...]:
    """What ``model.loss`` and :func:`~course_utils.evaluation.evaluate` take, from images (B, 1, 28, 28) and labels.

    ``(x,)`` in the model's input shape; for a CVAE ``(x, cond)`` with x flattened and cond by ``condition``, one-hot
    labels unless given.
    """
    if isinstance(model, CVAE):
        return x.flatten(1), (condition or one_hot_labels)(x, y)
    if condition is not None:
        raise TypeError(f"condition is for a CVAE; a {type(model).__name__} has no use for one")
    return (x.reshape(-1, *model.input_shape),)


def _test_terms(model: nn.Module, test: Split, beta: float, condition: Condition | None) -> ELBO:
    terms = evaluate(model, *model_inputs(model, test[:], test.labels, condition), beta=beta)
    return ELBO(*(term.double().mean().item() for term in terms))


def _not_finite(values: Tensor, epoch: int, step: int, steps: int, lr: float) -> str:
    names = [f"{name} = {value:.4g}" for name, value in zip(("recon", "kl"), values[1:].tolist(), strict=True)]
    guilty = " and ".join(n for n, v in zip(names, values[1:], strict=True) if not v.isfinite()) or "their sum"
    return (
        f"training stopped in epoch {epoch}, step {step} of {steps}: the loss is not finite ({guilty}). "
        f"The weights are those before this step. Likely causes: a learning rate too high (lr = {lr:g}), "
        "or input that is not finite or not scaled"
    )


def _summary(history: History) -> str:
    parts = [f"train loss {history.train[-1].loss:.2f}"]
    parts += [f"test loss {history.test[-1].loss:.2f}"] if history.test else []
    return " · ".join(parts)


def _end_line(history: History) -> str:
    done = len(history.epochs)
    epochs = f"{done} epoch{'' if done == 1 else 's'} in {sum(history.seconds):.0f} s"
    text = f"{epochs} · {_summary(history)}" if done else "no epoch finished"
    return f"interrupted; kept: {text}" if history.interrupted else text
