"""Going on with a training: everything but the model that the next epoch depends on, as it is kept in a checkpoint."""

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from course_utils.losses.terms import Terms
from course_utils.training.checkpoints import check_same_model, read, save
from course_utils.training.distributed import of_all, processes


@dataclass
class History:
    """What happened in training, one entry per finished epoch; all numbers are means in nats per example.

    ``train`` averages over the steps of the epoch, while the weights move; ``test`` is taken after the epoch, on the
    test part where the data have one (else it is empty). Both hold whichever terms the model's loss has.
    """

    epochs: list[int] = field(default_factory=list)
    train: list[Terms] = field(default_factory=list)
    test: list[Terms] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    interrupted: bool = False


@dataclass
class Training:
    """A training between two epochs. ``settings`` say which training it is; ``rates`` are functions of the epoch."""

    model: nn.Module
    averaged: AveragedModel | None
    optimizer: torch.optim.Optimizer
    order: torch.Generator
    history: History
    device: torch.device
    settings: dict[str, Any]
    rates: dict[str, Callable[[int], float]]

    @property
    def result(self) -> nn.Module:
        """The model that is evaluated and kept: with an average of the weights, that one."""
        return self.model if self.averaged is None else self.averaged.module

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write ``result`` and all else to ``path``, from the first process; all must call this."""
        cuda = [torch.cuda.get_rng_state(self.device)] if self.device.type == "cuda" else []
        noise = of_all([torch.get_rng_state(), *cuda])
        if processes()[0] > 0:
            return
        history = asdict(self.history) | {
            name: [dict(terms.items()) for terms in getattr(self.history, name)] for name in ("train", "test")
        }
        training = {
            "settings": self.settings, "rates": self._rates(self.history.epochs), "history": history, "noise": noise,
            "optimizer": self.optimizer.state_dict(), "order": self.order.get_state(),
        }  # fmt: skip
        if self.averaged is not None:
            training |= {"weights": self.model.state_dict(), "averaged": int(self.averaged.n_averaged)}
        save(self.result, path, training=training)

    def restore(self, path: str | os.PathLike[str]) -> None:
        """Go on from ``path``. Raises ``ValueError``, before the model has changed, where that is another training."""
        content = read(path)
        check_same_model(self.model, content, path)
        saved = content.get("training")
        if not isinstance(saved, dict):
            raise ValueError(f"{path} holds a model without its training state, so training cannot go on from it")
        if content["format"] == 1:
            raise ValueError(f"{path} was written by an earlier version: load reads the model, but to train begin anew")
        try:
            self._check_same_training(saved, path)
            done = saved["history"]
            history = History(done["epochs"], *([Terms(**t) for t in done[name]] for name in ("train", "test")))
            history.seconds = done["seconds"]
            self.optimizer.load_state_dict(saved["optimizer"])
            self.order.set_state(saved["order"])
            rank, world = processes()
            if len(saved["noise"]) == world:  # otherwise the noise begins anew
                cpu, *cuda = saved["noise"][rank]
                torch.set_rng_state(cpu)
                if cuda and self.device.type == "cuda":
                    torch.cuda.set_rng_state(cuda[0], self.device)
            if self.averaged is not None:
                self.averaged.module.load_state_dict(content["state"])
                self.averaged.n_averaged.fill_(saved["averaged"])
            self.model.load_state_dict(content["state"] if self.averaged is None else saved["weights"])
        except (KeyError, TypeError, AttributeError, IndexError, RuntimeError) as error:
            raise ValueError(f"the training state in {path} is damaged: {error!r}") from error
        vars(self.history).update(vars(history))

    def _check_same_training(self, saved: dict[str, Any], path: str | os.PathLike[str]) -> None:
        own = self.settings | self._rates(saved["history"]["epochs"])
        before = saved["settings"] | saved["rates"]
        other = [name for name in own if own[name] != before.get(name, own[name])]  # an older file may lack one
        if other:
            was, now = ({name: settings.get(name) for name in other} for settings in (before, own))
            raise ValueError(
                f"{path} belongs to a training with {was}, this one has {now}; "
                "name another file, or remove this one to begin anew"
            )

    def _rates(self, epochs: list[int]) -> dict[str, Any]:
        """What each rate has been, as one number where it has been constant."""
        values = {name: [rate(epoch) for epoch in epochs] for name, rate in self.rates.items()}
        return {name: was[0] if len(set(was)) == 1 else was for name, was in values.items()}
