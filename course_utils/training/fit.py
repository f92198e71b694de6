"""``fit``: the training loop of the course, for every model that has a loss."""

import inspect
import math
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from course_utils._checks import check_choice, check_number, check_positive_int, check_share, check_whole
from course_utils._random import seeded
from course_utils.data.images import ImageData
from course_utils.evaluation.bounds import check_terms, evaluate
from course_utils.losses.terms import Terms
from course_utils.models.cvae import Condition
from course_utils.training import distributed
from course_utils.training.batches import Batches, Examples, Transform
from course_utils.training.checkpoints import check_can_be_saved
from course_utils.training.progress import progress
from course_utils.training.resume import History, Training

Optimizer = torch.optim.Optimizer
_FUSED = (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD)  # in one pass over all weights, on every device


def fit(
    model: nn.Module,
    data: ImageData | Examples,
    *,
    epochs: int,
    batch_size: int = 128,
    lr: float | Callable[[int], float] | None = None,
    beta: float | Callable[[int], float] = 1.0,
    optimizer: str | Callable[[Iterable[nn.Parameter]], Optimizer] = "adam",
    clip: float | None = None,
    ema: float | None = None,
    seed: int = 0,
    condition: Condition | None = None,
    transform: Transform | None = None,
    binarize: str | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    show: bool = True,
) -> History:
    """Train a model and return its history; the model is trained in place.

    The loss is the batch mean of ``model.loss(*inputs, beta=beta).loss``; ``beta`` may be a function of the step, which
    counts from 1 over all epochs, and ``lr`` one of the epoch, which counts from 1. ``optimizer`` is a name as in
    ``torch.optim``, or a function from parameters to an optimiser; without ``lr``, a function's learning rates stay
    as it sets them, and a name gets 0.001. ``clip`` is the largest norm of all gradients together. With ``ema``, a
    number below 1 such as 0.999, an average of the weights is kept, average ← ema·average + (1 − ema)·weights after
    every step, from the first step's weights on: the test data are evaluated with it, and the model ends with it.

    ``data``: an ``ImageData`` (its test part is evaluated after every epoch, in ``eval()``, with the last step's β), a
    ``Split``, a float tensor (N, …), or a tuple of tensors, the arguments of ``model.loss``. Images go through
    ``model.inputs``, to which ``condition(x, y)`` is handed on. Before that, ``binarize`` draws pixels of 0 and
    1 from the grey ones, "dynamic" anew for each batch, "static" once for all trainings (test images always so), and
    ``transform(x)`` is applied to each batch of images.

    The same seed gives the same weights on the same machine: it orders the batches and draws the noise, and leaves
    the global random state alone. Interrupting the kernel ends training early and keeps model and history
    (``history.interrupted``). With ``checkpoint``, a file, model and training state are written to it after every
    epoch, and training goes on from it where it exists, to the very weights of an uninterrupted run.

    Where a ``torch.distributed`` process group exists, as under ``torchrun``, every process calls ``fit`` with the same
    arguments: each batch of ``batch_size`` is shared out among them, and all end with the same weights and history.

    Raises ``FloatingPointError``, naming epoch, step and term, as soon as the loss is not finite, before the weights
    take that step. All else is refused before training: ``ValueError`` or ``TypeError`` for arguments that do not fit,
    a model that could not be saved or a checkpoint of another training, ``OSError`` for a file that cannot be written.
    """
    epochs, batch_size = check_positive_int("epochs", epochs), check_positive_int("batch_size", batch_size)
    seed = check_whole("seed", seed)
    if not isinstance(model, nn.Module) or not any(p.requires_grad for p in model.parameters()):
        raise TypeError(f"model must be a torch.nn.Module with parameters to train, got {type(model).__name__}")
    clip = None if clip is None else check_number("clip", clip, above=0)
    optimizer = _optimizer(optimizer, model)
    beta_at = _schedule("beta", beta, least=0)
    lr_at = _schedule("lr", optimizer.param_groups[0]["lr"] if lr is None else lr, above=0)
    whole = isinstance(data, ImageData)
    options = dict(condition=condition, transform=transform, binarize=binarize)
    train = Batches(model, data.train if whole else data, **options)
    test = Batches(model, data.test, **options) if whole else None
    test_inputs = test.whole() if test else None
    averaged = None if ema is None else AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(check_share("ema", ema)))
    order = torch.Generator().manual_seed(seed)  # on the CPU, so that the order is the same on every device
    history, steps = History(), math.ceil(len(train) / batch_size)
    rank, world = distributed.processes()
    mode = model.training
    train.check_share((len(train) % batch_size or batch_size) // world)

    with seeded(seed * world + rank, train.device):
        rates = {"lr": lr_at, "beta": lambda epoch: beta_at(epoch * steps)}
        state = Training(model, averaged, optimizer, order, history, train.device, {}, rates)
        if checkpoint is not None:
            check_can_be_saved(model, checkpoint)
            state.settings |= _settings(batch_size, seed, optimizer, clip, ema, binarize, train, test)
            if Path(checkpoint).exists():
                state.restore(checkpoint)
        objective = distributed.objective(model)
        with progress(epochs * steps, "training", show=show and rank == 0, done=len(history.epochs) * steps) as bar:
            try:
                for epoch in range(len(history.epochs) + 1, epochs + 1):
                    model.train()
                    rate = lr_at(epoch)
                    for group in optimizer.param_groups if lr is not None else ():
                        group["lr"] = rate
                    start, sums = time.perf_counter(), None
                    for step, (count, inputs) in enumerate(train.epoch(batch_size, order), start=1):
                        inputs = distributed.share(inputs)
                        terms = objective(*inputs, beta=beta_at((epoch - 1) * steps + step))
                        if sums is None:
                            sums = _first_sums(model, terms, len(inputs[0]))
                        means = distributed.total(torch.stack([term.detach().sum() for term in terms])) / count
                        values = dict(zip(terms.names, means.tolist(), strict=True))
                        if values.keys() != sums.keys():
                            raise ValueError(f"the terms were {', '.join(sums)}; in step {step} {', '.join(values)}")
                        if not all(map(math.isfinite, values.values())):
                            raise FloatingPointError(_not_finite(values, epoch, step, steps, rate))
                        optimizer.zero_grad()
                        (terms.loss.sum() * (world / count)).backward()  # as gradients are averaged over processes
                        if clip is not None:
                            nn.utils.clip_grad_norm_(model.parameters(), clip)
                        optimizer.step()
                        if averaged is not None:
                            averaged.update_parameters(model)
                        sums = {name: so_far + values[name] * count for name, so_far in sums.items()}
                        bar.update()
                    distributed.share_buffers(state.result)
                    history.epochs.append(epoch)
                    history.train.append(Terms(**{name: value / len(train) for name, value in sums.items()}))
                    history.seconds.append(time.perf_counter() - start)
                    if test_inputs is not None:
                        found = evaluate(state.result, *test_inputs, beta=rates["beta"](epoch))
                        history.test.append(found.map(lambda term: term.double().mean().item()))
                    bar.set_postfix_str(_summary(history))
                    if checkpoint is not None:
                        state.save(checkpoint)
            except KeyboardInterrupt:
                history.interrupted = True
            finally:
                model.train(mode)
            if averaged is not None:
                model.load_state_dict(averaged.module.state_dict())
            bar.end_line = _end_line(history)
    return history


def _schedule(name: str, value: float | Callable[[int], float], **bounds: float) -> Callable[[int], float]:
    """``value`` as a function of the count, checked: a number at once, a function at its first count and at each."""
    if not callable(value):
        constant = check_number(name, value, **bounds)
        return lambda count: constant
    check_number(f"{name}(1)", value(1), **bounds)
    return lambda count: check_number(f"{name}({count})", value(count), **bounds)


def _optimizer(optimizer: str | Callable[[Iterable[nn.Parameter]], Optimizer], model: nn.Module) -> Optimizer:
    if isinstance(optimizer, str):
        kinds = {name.lower(): kind for name, kind in vars(torch.optim).items() if inspect.isclass(kind)}
        kinds = {name: kind for name, kind in kinds.items() if name not in ("optimizer", "lbfgs", "muon", "sparseadam")}
        kind = kinds[check_choice("optimizer", optimizer.lower(), tuple(kinds))]
        return kind(model.parameters(), lr=1e-3, **({"fused": True} if kind in _FUSED else {}))
    made = optimizer(model.parameters()) if callable(optimizer) else optimizer
    if not callable(optimizer) or not isinstance(made, Optimizer):
        raise TypeError(
            "optimizer must be a name or a function from parameters to a torch.optim.Optimizer, as in "
            f"optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1), got {type(made).__name__}"
        )
    return made


def _settings(
    batch_size: int, seed: int, optimizer: Optimizer, clip: float | None, ema: float | None, binarize: str | None,
    train: Batches, test: Batches | None,
) -> dict[str, object]:  # fmt: skip
    """What makes this training another one than one that differs in it; rates are compared epoch by epoch."""
    groups = [dict(sorted(group.items())) for group in optimizer.param_groups]
    del groups[0]["lr"]  # is among the rates
    told = "; ".join(", ".join(f"{k}={v}" for k, v in group.items() if k != "params") for group in groups)
    return {
        "batch_size": batch_size, "seed": seed, "optimizer": f"{type(optimizer).__name__}({told})", "clip": clip,
        "ema": ema, "binarize": binarize, "examples": len(train), "data (checksum)": train.fingerprint(),
        "test examples": len(test) if test else 0, "test data (checksum)": test.fingerprint() if test else 0,
    }  # fmt: skip


def _first_sums(model: nn.Module, terms: Terms, size: int) -> dict[str, float]:
    """0 for each term of the first loss, checked."""
    if not check_terms(model, terms, size).loss.requires_grad:
        raise ValueError(f"{type(model).__name__}.loss has no gradient: no .item(), .detach() or NumPy may be in it")
    return dict.fromkeys(terms.names, 0.0)


def _not_finite(values: dict[str, float], epoch: int, step: int, steps: int, lr: float) -> str:
    others = [name for name in values if name != "loss"]
    guilty = " and ".join(f"{name} = {values[name]:.4g}" for name in others if not math.isfinite(values[name]))
    return (
        f"training stopped in epoch {epoch}, step {step} of {steps}: the loss is not finite ({guilty or 'their sum'}). "
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
