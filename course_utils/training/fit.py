"""``fit``: the training loop of the course, for every model in it."""

import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from course_utils._checks import check_beta, check_float, check_positive_int
from course_utils._random import seeded
from course_utils.data.images import ImageData, Split
from course_utils.evaluation.bounds import evaluate
from course_utils.losses.terms import ELBO
from course_utils.models.cvae import CVAE
from course_utils.training.checkpoints import resume, save
from course_utils.training.progress import progress

Condition = Callable[[Tensor, Tensor], Tensor]

Transform = Callable[[Tensor], Tensor]

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
    lr: float | Callable[[int], float] = 1e-3,
    beta: float = 1.0,
    seed: int = 0,
    condition: Condition | None = None,
    transform: Transform | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    show: bool = True,
) -> History:
    """Train a model of the course with Adam and return its history; the model is trained in place.

    ``data``: an ``ImageData`` (its test part is evaluated after every epoch), a ``Split``, a float tensor (N, …), or
    for a CVAE also a pair (inputs, conditions). Images are reshaped to the model's input shape. ``condition(x, y)``
    makes a CVAE's conditions (B, C) from images and labels; left out, they are one-hot labels. ``transform(x)`` is
    applied to each batch of images first, as ``torch.bernoulli`` to binarise them anew each time. The loss is
    ``model.loss(...)`` with weight ``beta`` on the KL, averaged over the batch. ``lr`` may be a function of the epoch,
    which counts from 1.

    The same seed gives the same weights on the same machine: it orders the batches and draws the noise, and leaves
    the global random state alone. Interrupting the kernel ends training early and keeps model and history
    (``history.interrupted``). With ``checkpoint``, a file, model and training state are written to it after every
    epoch, and training goes on from it where it exists, to the very weights of an uninterrupted run.

    Where a ``torch.distributed`` process group exists, as under ``torchrun``, every process calls ``fit`` with the same
    arguments: each batch of ``batch_size`` is shared out among them, and all end with the same weights and history.

    Raises ``FloatingPointError``, naming epoch, step and term, as soon as the loss is not finite, before the weights
    take that step; ``ValueError`` or ``TypeError`` for arguments that do not fit, or a checkpoint of other ones.
    """
    epochs, batch_size = check_positive_int("epochs", epochs), check_positive_int("batch_size", batch_size)
    beta = check_beta(beta)
    rate = _rate(lr, epoch=1)
    device = next(model.parameters()).device
    train, test = (data.train, data.test) if isinstance(data, ImageData) else (data, None)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate, fused=True)
    size = _size(train)
    order = torch.Generator().manual_seed(seed)  # on the CPU, so that the order is the same on every device
    history = History()
    steps = math.ceil(size / batch_size)
    rank, world = _processes()
    objective: nn.Module = _Objective(model, beta)
    mode = model.training
    with seeded(seed * world + rank, device):
        settings = {"batch_size": batch_size, "beta": beta, "seed": seed, "examples": size}
        state = _State(model, optimizer, order, history, device, settings)
        if checkpoint is not None and Path(checkpoint).exists():
            state.restore(resume(model, checkpoint), checkpoint)
        if world > 1:
            objective = DistributedDataParallel(objective)  # it gives every process the weights of the first
        with progress(epochs * steps, "training", show=show and rank == 0, done=len(history.epochs) * steps) as bar:
            try:
                model.train()
                for epoch in range(len(history.epochs) + 1, epochs + 1):
                    for group in optimizer.param_groups:
                        group["lr"] = rate = _rate(lr, epoch)
                    start, sums = time.perf_counter(), torch.zeros(3, dtype=torch.float64)
                    batches = _batches(model, train, batch_size, order, condition, transform, device)
                    for step, (count, inputs) in enumerate(batches, start=1):
                        share = [part[rank::world] for part in inputs] if world > 1 else inputs
                        terms = objective(*share)
                        means = torch.stack([term.sum() for term in terms]) / count  # loss, recon, kl
                        values = _over_processes(means.detach(), world).cpu()
                        if not values.isfinite().all():
                            raise FloatingPointError(_not_finite(values, epoch, step, steps, rate))
                        optimizer.zero_grad()
                        (means[0] * world).backward()  # as gradients are averaged over the processes
                        optimizer.step()
                        sums += values.double() * count
                        bar.update()
                    history.epochs.append(epoch)
                    history.train.append(ELBO(*(sums / size).tolist()))
                    history.seconds.append(time.perf_counter() - start)
                    if test is not None:
                        history.test.append(_test_terms(model, test, beta, condition, transform))
                    bar.set_postfix_str(_summary(history))
                    if checkpoint is not None:
                        noise = state.noise_of_all(world)
                        if rank == 0:
                            save(model, checkpoint, training=state.as_dict(noise))
            except KeyboardInterrupt:
                history.interrupted = True
            finally:
                model.train(mode)
            bar.end_line = _end_line(history)
    return history


class _Objective(nn.Module):
    """``model.loss`` as a module's ``forward``, which is what DistributedDataParallel wraps."""

    def __init__(self, model: nn.Module, beta: float) -> None:
        super().__init__()
        self.model = model
        self.kwargs = {} if beta == 1.0 else {"beta": beta}  # an autoencoder has no beta

    def forward(self, *inputs: Tensor) -> ELBO:
        return self.model.loss(*inputs, **self.kwargs)


def _processes() -> tuple[int, int]:
    """This process's rank and how many there are: (0, 1) without a process group."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def _over_processes(values: Tensor, world: int) -> Tensor:
    if world > 1:
        distributed.all_reduce(values)
    return values


@dataclass
class _State:
    """Everything but the weights that training goes on from: optimiser, order, noise and history."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    order: torch.Generator
    history: History
    device: torch.device
    settings: dict[str, Any]

    def noise(self) -> list[Tensor]:
        cuda = [torch.cuda.get_rng_state(self.device)] if self.device.type == "cuda" else []
        return [torch.get_rng_state(), *cuda]

    def noise_of_all(self, world: int) -> list[list[Tensor]]:
        """The state of the noise in every process: all must call this."""
        states: list[Any] = [self.noise()]
        if world > 1:
            states = [None] * world
            distributed.all_gather_object(states, self.noise())
        return states

    def as_dict(self, noise: list[list[Tensor]]) -> dict[str, Any]:
        done = asdict(self.history)  # a NamedTuple stays one, and is not read back with weights_only=True
        done |= {name: [list(terms) for terms in done[name]] for name in ("train", "test")}
        return {
            "settings": self.settings, "optimizer": self.optimizer.state_dict(), "order": self.order.get_state(),
            "history": done, "noise": noise,
        }  # fmt: skip

    def restore(self, saved: dict[str, Any], path: object) -> None:
        if saved["settings"] != self.settings:
            raise ValueError(f"{path} belongs to a training with {saved['settings']}, this one has {self.settings}")
        self.optimizer.load_state_dict(saved["optimizer"])
        self.order.set_state(saved["order"])
        rank, world = _processes()
        if len(saved["noise"]) == world:  # otherwise the noise begins anew
            cpu, *cuda = saved["noise"][rank]
            torch.set_rng_state(cpu)
            if cuda and self.device.type == "cuda":
                torch.cuda.set_rng_state(cuda[0], self.device)
        done = saved["history"]
        self.history.epochs[:], self.history.seconds[:] = done["epochs"], done["seconds"]
        self.history.train[:] = [ELBO(*terms) for terms in done["train"]]
        self.history.test[:] = [ELBO(*terms) for terms in done["test"]]


def _rate(lr: float | Callable[[int], float], epoch: int) -> float:
    rate = lr(epoch) if callable(lr) else lr
    if not 0 < rate < math.inf:
        raise ValueError(f"lr must be a positive number, got {rate}")
    return rate


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
    transform: Transform | None,
    device: torch.device,
) -> Iterator[tuple[int, tuple[Tensor, ...]]]:
    """The size of each batch of one epoch and the arguments of ``model.loss``, in an order drawn from ``order``."""
    if isinstance(train, Split):
        for x, y in train.batches(batch_size, seed=order):
            x = transform(x) if transform else x
            yield len(x), model_inputs(model, x.to(device), y.to(device), condition)
        return
    first, *rest = train if isinstance(train, tuple) else (train,)
    for index in torch.randperm(len(first), generator=order).split(batch_size):
        x = first[index.to(first.device)]
        others = (tensor[index.to(tensor.device)].to(device) for tensor in rest)
        yield len(x), ((transform(x) if transform else x).to(device), *others)


def model_inputs(model: nn.Module, x: Tensor, y: Tensor, condition: Condition | None = None) -> tuple[Tensor, ...]:
    """What ``model.loss`` and ``evaluate`` take, from images (B, 1, 28, 28) and labels.

    ``(x,)`` in the model's input shape; for a CVAE ``(x, cond)`` with x flattened and cond by ``condition``, one-hot
    labels unless given.
    """
    if isinstance(model, CVAE):
        return x.flatten(1), (condition or one_hot_labels)(x, y)
    if condition is not None:
        raise TypeError(f"condition is for a CVAE; a {type(model).__name__} has no use for one")
    return (x.reshape(-1, *model.input_shape),)


def _test_terms(
    model: nn.Module, test: Split, beta: float, condition: Condition | None, transform: Transform | None
) -> ELBO:
    x = test[:]
    if transform:
        with seeded(0, x.device):  # the same test images after every epoch
            x = transform(x)
    terms = evaluate(model, *model_inputs(model, x, test.labels, condition), beta=beta)
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
