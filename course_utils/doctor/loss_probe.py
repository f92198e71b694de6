"""Runs a training loss on numbers of the doctor's own, and differentiates it with respect to them.

A loss a·(reconstruction term) + b·KL is opened up by its derivatives: those with respect to the reconstruction have a
shape that names the likelihood and a size that gives a, those with respect to μ and log σ² do the same for b. Nothing
is read from source, so it does not matter how the loss was written.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from course_utils.doctor.outputs import Path, get, leaves, put, read
from course_utils.doctor.patient import Patient
from course_utils.doctor.probe import Probe, instead, seed_everything


class NoLoss(Exception):
    """The loss cannot be opened up; the text says why."""


class CannotTrain(Exception):
    """What the loss returns is tied to no weight; the text says what it is."""


@dataclass
class Numbers:
    """What is put in the output's places: each (B, …), ``mu`` and ``spread`` None where the output has none."""

    recon: Tensor
    mu: Tensor | None = None
    spread: Tensor | None = None
    sigma: Tensor | None = None  # of z, that goes with the spread


class LossProbe:
    """A patient's loss as a function of :class:`Numbers`. Raises :class:`NoLoss` where there is none to be had."""

    def __init__(self, patient: Patient, *, copies: int = 1) -> None:
        self.patient, self.copies = patient, copies
        self.x = torch.cat([patient.x] * copies)
        self.cond = None if patient.cond is None else torch.cat([patient.cond] * copies)
        self.per_example = False
        self.own = patient.loss is None
        if self.own and not callable(getattr(patient.model, "loss", None)):
            raise NoLoss("no loss was given (loss=lambda output, x: …), and the model has no method loss(x).")
        self.template = patient.run(x=self.x, cond=self.cond).output
        self.reading = patient.reading
        self._called: set[str] = set()
        self.inside = ""  # which method of the model gives the loss its numbers
        if self.own:
            self._find_entrance()

    @property
    def sees_posterior(self) -> bool:
        """Whether μ and the spread can be put in."""
        return self.reading.mu is not None and self.reading.spread is not None

    def shape(self, path: Path) -> torch.Size:
        """The shape of a part of the output."""
        return get(self.template, path).shape

    def natural(self, noise: float | None = None) -> Tensor:
        """The loss of the patient as it is, summed to a scalar. Raises :class:`CannotTrain` where it has no graph."""
        run = self.patient.run(x=self.x, cond=self.cond, noise=noise)
        seed_everything(0)
        with Probe(noise):
            result = self._result(run.output)
        if not any(leaf.value.requires_grad for leaf in leaves(result)):
            detached = ", not tied to any weight" if isinstance(result, Tensor) else ""
            raise CannotTrain(f"it returned {type(result).__name__}{detached}")
        return self._scalar(result)

    def __call__(self, numbers: Numbers, *, noise: float = 0.0) -> Tensor:
        """The loss with these numbers in the places of the model's own, a scalar.

        ``noise`` is ε, in z = μ + σ·ε and in every draw that the loss makes itself.
        """
        reading, values = self.reading, {}
        if reading.recon is not None:
            values[reading.recon] = numbers.recon
        if reading.mu is not None and numbers.mu is not None:
            values[reading.mu] = numbers.mu
        if reading.spread is not None and numbers.spread is not None:
            values[reading.spread] = numbers.spread
        if reading.z is not None and numbers.mu is not None and numbers.sigma is not None:
            values[reading.z] = numbers.mu + numbers.sigma * noise
        values = {path: value.reshape(self.shape(path)) for path, value in values.items()}
        with self._entrance(values) if self.own else nullcontext(), Probe(noise):
            return self._scalar(self._result(None if self.own else put(self.template, values)))

    def _result(self, output: object) -> object:
        """What the loss returns: the model's own for x, or the given one for an output and x."""
        if self.own:
            return self.patient.call(self.patient.model.loss, *self._arguments())
        return self.patient.call(self.patient.loss, output, self.x)

    def _arguments(self) -> list[Tensor]:
        return [self.x] if self.cond is None else [self.x, self.cond]

    def _find_entrance(self) -> None:
        """Where model.loss(x) gets its numbers: from forward, or from encode and decode."""
        if self.patient.forward is None:
            self.inside = "forward"
            with self._entrance({}):
                self.patient.call(self.patient.model.loss, *self._arguments())
            if self._called:
                return
        model = self.patient.model
        if not (callable(getattr(model, "encode", None)) and callable(getattr(model, "decode", None))):
            raise NoLoss("model.loss(x) goes neither through forward nor through encode and decode; give loss=…")
        encoded = self.patient.call(model.encode, *self._arguments())
        if len(list(leaves(encoded))) < 2 or self.patient.first.recon is None:
            raise NoLoss("model.encode(x) does not return μ and a spread; give loss=…")
        inner = read(encoded, self.x, noisy=[], varies=set())
        recon = get(self.patient.first.output, self.patient.reading.recon).detach()
        self.template = {"encoded": encoded, "recon": torch.cat([recon] * (len(self.x) // len(recon)))}
        self.reading = inner._replace(
            recon=("recon",),
            mu=None if inner.mu is None else ("encoded", *inner.mu),
            spread=None if inner.spread is None else ("encoded", *inner.spread),
            z=None,
        )
        self.inside = "encode and decode"
        with self._entrance({}):
            self.patient.call(model.loss, *self._arguments())
        if len(self._called) < 2:
            raise NoLoss("model.loss(x) does not go through encode and decode, so it cannot be opened; give loss=…")

    @contextmanager
    def _entrance(self, values: Mapping[Path, Tensor]) -> Iterator[None]:
        """While active, the model's own methods return the template with these values in it."""
        output = put(self.template, values)

        def give(name: str) -> Callable:
            def stand_in(*_: object, **__: object) -> object:
                self._called.add(name)
                return methods[name]

            return stand_in

        methods = {"forward": output}
        if self.inside != "forward":
            methods = {"encode": output["encoded"], "decode": output["recon"]}  # type: ignore[index]
        with instead(self.patient.model, {name: give(name) for name in methods}):
            yield

    def _scalar(self, result: object) -> Tensor:
        value = _total(result)
        if value is None:
            raise NoLoss(f"the loss returned {type(result).__name__}, in which no total was found.")
        self.per_example = value.dim() > 0 and value.numel() > 1
        return value.sum()


def _total(result: object) -> Tensor | None:
    """The number to minimise: the tensor itself, ``.loss``, ["loss"], or the first of several."""
    for name in ("loss", "total_loss", "total"):
        value = result.get(name) if isinstance(result, Mapping) else getattr(result, name, None)
        if isinstance(value, Tensor):
            return value
    found = [leaf.value for leaf in leaves(result)]
    return next((value for value in found if value.requires_grad), found[0] if found else None)
