"""Runs a training loss on numbers of the doctor's own, and differentiates it with respect to them.

A loss a·(reconstruction term) + b·KL is opened up by its derivatives: those with respect to the reconstruction name
the likelihood and give a, those with respect to μ and log σ² give b. Forward pass and loss run together; wherever
reconstruction, μ and spread are *computed*, the doctor's numbers take their places, so the loss may stand anywhere.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from course_utils.doctor.outputs import leaves, same
from course_utils.doctor.patient import ModelRaised, Patient, flat
from course_utils.doctor.probe import Probe, Site, gradients, seed_everything

TOTALS = ("loss", "total_loss", "total", "vae_loss", "elbo_loss", "objective", "loss_total")


class NoLoss(Exception):
    """The loss cannot be opened up; the text says why."""


class CannotTrain(Exception):
    """What the loss returns is tied to no weight; the text says what it is."""


class LossProbe:
    """A patient's loss as a function of the doctor's numbers. Raises :class:`NoLoss` where there is none to be had."""

    def __init__(self, patient: Patient, *, copies: int = 1, sites: "LossProbe | None" = None) -> None:
        self.patient, self.copies = patient, copies
        self.own = patient.loss is None
        if self.own and not callable(getattr(patient.model, "loss", None)):
            raise NoLoss("no loss was given (loss=lambda output, x: …), and the model has no method loss(x).")
        self.x = torch.cat([patient.x] * copies)
        self.cond = None if patient.cond is None else torch.cat([patient.cond] * copies)
        self.output: object = None
        self.as_returned = True  # whether the loss is made of the reconstruction itself, not of what is before it
        self.per_example = False
        self.alone = sites is not None and sites.alone  # a loss that runs the model itself, and needs no output
        self.total: int | None = None if sites is None else sites.total  # which of several parts is minimised
        self.recon, self.mu, self.spread = (sites.recon, sites.mu, sites.spread) if sites else (None, None, None)
        self.spreads: list[Site] = [] if sites is None else sites.spreads
        self.likes: dict[str, Tensor] = {} if sites is None else sites.likes
        self.hold: dict[Site, Tensor] = {}  # numbers that stay whatever the others are

    def _run(self, noise: float | None, put: Mapping[Site, Tensor] | None = None) -> tuple[list[Tensor], Probe]:
        """Forward pass and loss in one; the parts of what the loss returned, and the tape."""
        patient = self.patient
        patient._prepare(training=True, as_is=False)
        seed_everything(0)
        draws = {k: v for k, v in patient.draws_for(noise).items() if self.copies == 1 or not isinstance(v, Tensor)}
        self.tape = Probe(draws, put=put, raw=patient.uniform)  # kept, in case that the loss raises
        with self.tape as probe:
            if self.own:
                result = patient.call(patient.model.loss, *patient.inputs(self.x, self.cond))
            elif self.alone:
                result = patient.call(patient.loss, patient.first.output, self.x)
            else:
                self.output = patient.call(patient._forward, *patient.inputs(self.x, self.cond))
                result = patient.call(patient.loss, self.output, self.x)
        return self._parts(result), probe

    def _parts(self, result: object) -> list[Tensor]:
        """The numbers that could be the total, the likeliest first; the total alone where it has a name."""
        for name in TOTALS:
            value = result.get(name) if isinstance(result, Mapping) else getattr(result, name, None)
            if isinstance(value, Tensor):
                return [value]
        found = [leaf.value for leaf in leaves(result)]
        if not found:
            raise CannotTrain(f"it returned {type(result).__name__}")
        if not any(value.requires_grad for value in found):
            raise CannotTrain(f"it returned {type(result).__name__}, not tied to any weight")
        return found if self.total is None else [found[self.total]]

    def natural(self, noise: float | None = None) -> tuple[Tensor, Probe]:
        """The loss of the patient as it is, summed to a scalar, and the tape of the run."""
        parts, probe = self._run(noise)
        return self._sum(parts[0] if len(parts) == 1 else next(part for part in parts if part.requires_grad)), probe

    def __call__(self, *, noise: float | None = 0.0, **numbers: Tensor) -> Tensor:
        """The loss, a scalar, with numbers (B, …) as ``recon``, ``mu``, ``spread``; ``noise`` is ε in z = μ + σ·ε."""
        put = self.hold | {getattr(self, name): value for name, value in numbers.items()}
        parts, _ = self._run(noise if self.patient.exact else None, put)
        return self._sum(parts[0])

    def _sum(self, value: Tensor) -> Tensor:
        self.per_example = value.dim() > 0 and value.numel() > 1
        return value.sum()

    def find_sites(self) -> None:
        """Where reconstruction, μ and spread are made in a run of the loss, and which returned part is the total.

        Raises :class:`NoLoss` where several parts are returned and none is the total.
        """
        patient = self.patient
        try:
            parts, probe = self._run(0.0 if patient.exact else None)
        except ModelRaised:  # as a cross-entropy of what is no probability
            parts, probe = [], self.tape
        reference = patient.zero if patient.exact else patient.run()

        def where(values: Tensor | None) -> Site | None:
            if values is None:
                return None
            close = [(site, t) for site, t in probe.results() if t.numel() == values.numel() and same(t, values)]
            return next((s for s, t in close if torch.equal(flat(t), values)), close[0][0] if close else None)

        self.mu = where(patient.mu) if patient.mu_is_reported or patient.exact else None
        self.spread = where(patient.spread)
        self.spreads = [] if self.spread is None else self._elementwise(probe, self.spread)
        self.recon = returned = where(reference.recon)
        if parts:
            living = sum(self._sum(part) for part in parts if part.requires_grad)
            given = [leaf.value for leaf in leaves(self.output) if leaf.value.requires_grad]
            if not (self.own or self.alone) and given and not any(g.any() for g in gradients(living, given)):
                self.alone = True
                return self.find_sites()
            self.recon = self._recon_site(living, probe, self.recon)
        self.as_returned = self.recon == returned
        sites = {"recon": self.recon, "mu": self.mu, "spread": self.spread}
        self.likes = {name: flat(probe.at(site).detach()) for name, site in sites.items() if site is not None}
        if len(parts) > 1:
            self.total = self._total(parts)

    def _elementwise(self, probe: Probe, site: Site) -> list[Site]:
        """The site, and what it was computed from number by number."""
        found, tensor = [site], probe.at(site)
        for k in range(site[0], -1, -1):  # backwards: clamps, exponentials, …
            call = probe.calls[k]
            if any(result is tensor for result in call.results) and len(call.given) == 1 and not call.is_layer:
                tensor = call.given[0]
                if tensor.numel() != call.results[0].numel():
                    break
                found += [s for s, t in probe.results() if t is tensor][:1]
        return found

    def _recon_site(self, loss: Tensor, probe: Probe, returned: Site | None) -> Site | None:
        """The returned reconstruction; where the loss is made of what it was computed from (logits), that."""
        sites = [] if returned is None else self._elementwise(probe, returned)
        sites = [site for site in sites if probe.at(site).requires_grad]
        grads = gradients(loss, [probe.at(site) for site in sites]) if sites else []
        return next((site for site, g in zip(sites, grads, strict=True) if g.any()), None)

    def _total(self, parts: list[Tensor]) -> int:
        """Of several parts: the one with a gradient, or the one that has both terms in it."""
        living = [i for i, part in enumerate(parts) if part.requires_grad]
        if len(living) == 1:
            return living[0]
        leaves_of = {name: like.clone().requires_grad_() for name, like in self.likes.items() if name != "spread"}
        if len(leaves_of) == 2:
            put = {self.recon: leaves_of["recon"], self.mu: leaves_of["mu"]}
            again, _ = self._run(0.0 if self.patient.exact else None, put)
            complete = [i for i in living if all(g.any() for g in gradients(again[i].sum(), [*put.values()]))]
            if len(complete) == 1:
                return complete[0]
        raise NoLoss(f"it returned {len(parts)} numbers; which is minimised? Return that one alone (or name it loss).")

    def random(self, name: str, generator: torch.Generator, low: float, high: float) -> Tensor:
        """Uniform numbers for a part, the same for each copy of the batch."""
        like = self.likes[name]
        drawn = torch.rand(like.shape, generator=generator, dtype=torch.float64)
        return torch.cat([low + (high - low) * drawn] * self.copies).to(like.dtype).to(like.device)
