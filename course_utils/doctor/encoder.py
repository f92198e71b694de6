"""What the encoder says, and whether the reconstruction can teach it."""

import torch
from torch import Tensor

from course_utils.doctor.outputs import SPREADS
from course_utils.doctor.patient import Patient, reach_of
from course_utils.doctor.probe import exact, normals
from course_utils.doctor.report import Notes

SMALLEST_SIGMA = 0.25  # that an encoder must be able to reach
LARGEST_EXP = 88.0  # beyond, exp overflows in float32


def check_heads(patient: Patient, notes: Notes) -> None:
    """Are μ and the spread two things?  Not if one is an affine image of the other and no weight is its own."""
    mu, spread, how = patient.mu, patient.spread, "as returned"
    if spread is None:
        mu, spread, how = patient.mean, patient.sigma, "as measured: z without noise, and what noise adds to it"
        spread = spread.abs().clamp_min(1e-30).log() if spread is not None else None
    if mu is None or spread is None or mu.shape != spread.shape:
        return notes.skipped("whether μ and log σ² have a head each: both were not found, or their shapes differ.")
    own = [patient.only(mu, spread), patient.only(spread, mu)]
    shared = not any(mask.any() for masks in own for mask in masks)
    correlation = _smallest_correlation(mu, spread)
    if shared and correlation > 0.9999:
        difference = (mu - spread).abs().max().item()
        equal = "the very same numbers" if difference < 1e-6 else "one an affine image of the other"
        text = f"μ and the spread come from one head: they are {equal}. Where μ is large, σ must be large too."
        weights = f"weights that only one of them depends on: 0 ({how})"
        correlated = f"smallest |correlation| between μ_j and the spread of z_j over {len(mu)} examples"
        return notes.error("one-head", text, f"{correlated}: {correlation:.6f}; {weights}")
    notes.well("μ and log σ² are two things, each with weights of its own")


def check_averaging(patient: Patient, notes: Notes) -> None:
    """Do the latent dimensions differ from one another?"""
    mean = patient.mean if patient.mean is not None else patient.mu
    if mean is None:
        return notes.skipped("whether the latent dimensions differ: no code was found.")
    widths = [t.shape[1] for t in (mean, patient.mu, patient.spread) if t is not None]
    what = None
    apart = exact(mean - mean[:, :1]).abs().max()
    if mean.shape[1] > 1 and exact(mean).std(0).max() > 0 and apart < 1e-5 * exact(mean).abs().max():
        what = f"all {mean.shape[1]} coordinates of z (without noise) are equal for every example"
    elif mean.shape[1] == 1 and max(widths) > 1:
        what = f"z has 1 number per example where the encoder gives {max(widths)}"
    else:
        for name, values in (("μ", mean), ("the spread", patient.spread)):
            if what is None and values is not None and (rows := _averaged_rows(patient, values)):
                what = f"{name} is the mean (or sum) of {rows} outputs of the encoder, all with the same gradient"
    if what:
        text = "The latent dimensions are averaged into one number, so z holds one direction, whatever its size."
        return notes.error("latents-averaged", text, what)
    notes.well(f"the code has {mean.shape[1]} dimension{'s' if mean.shape[1] > 1 else ''}, none averaged away")


def check_gradient(patient: Patient, notes: Notes) -> None:
    """Does the reconstruction's gradient reach the weights of μ and of the spread?"""
    recon, mu = patient.first.recon, patient.mu
    if recon is None or mu is None:
        return notes.skipped("whether the reconstruction teaches the encoder: no reconstruction or no μ was found.")
    if notes.has("decoder-ignores-z", "no-sampling"):
        return notes.skipped("whether the reconstruction teaches the encoder: that has a more basic cause, see above.")
    if patient.zero.code is not None:
        near = patient.decoded(patient.zero.code.detach() + 0.1 * normals(0)(patient.zero.code))
        if near is not None and torch.equal(near, patient.decoded(patient.zero.code.detach())):
            return notes.skipped("whether the reconstruction teaches the encoder: at these weights z moves nothing.")
    if patient.separate_encoder is not None and patient.mean is not None:
        mu = patient.mean if patient.mean.requires_grad else mu
    reached = patient.influences(recon)
    encoder = patient.influences(mu)
    total = sum(int(mask.sum()) for mask in encoder)
    hit = sum(int((mask & other).sum()) for mask, other in zip(encoder, reached, strict=True))
    if hit == 0:
        reach = f"it reaches 0 of the {total:,} weights behind μ" if total else "μ itself carries none"
        text = "The encoder learns nothing from the reconstruction: z is cut off from it, and only the KL trains it."
        return notes.error("encoder-cut-off", text, f"gradient of the reconstruction: {reach}")
    behind = [p for p, mask in zip(patient.parameters, encoder, strict=True) if mask.any()]
    if behind and all(id(p) in patient.frozen for p in behind):
        text, measured = "The encoder is frozen: none of its weights is trained.", f"all {len(behind)} weights behind μ"
        advice = "Fine if it was trained before; else find requires_grad_(False), or the optimiser it was meant for."
        return notes.warning("encoder-cut-off", text, f"requires_grad is False for {measured}", advice)
    if patient.spread is not None and patient.spread.shape == mu.shape and not notes.has("one-head"):
        for name, values, others in (("μ", mu, patient.spread), ("log σ²", patient.spread, mu)):
            own = patient.only(values, others)
            total = sum(int(mask.sum()) for mask in own)
            hit = sum(int((mask & other).sum()) for mask, other in zip(own, reached, strict=True))
            if total and not hit:
                text = f"The head of {name} learns nothing from the reconstruction; only the KL trains it."
                measured = f"gradient of the reconstruction reaches 0 of the {total:,} weights that are {name}'s own"
                return notes.error("encoder-cut-off", text, measured)
    notes.well("the reconstruction's gradient reaches the encoder")


def check_reach(patient: Patient, notes: Notes, kl_kind: str | None) -> None:
    """What can the heads say at all?  A mean must reach any number, and σ must become small."""
    kind = kl_kind or patient.spread_kind[0] or patient.reading.kind
    mu, spread = (site and reach_of(patient, site) for site in (patient.mu_site, patient.spread_site))
    bounds = []
    if mu is not None and (mu.high - mu.low < 10 or mu.one_sided):
        bounds.append(f"μ lies in {mu} whatever the layer before it gives")
    if spread is not None and kind is not None:
        nearest = spread.low if kind.startswith("log") else max(spread.low, -spread.high, 0.0)  # to σ = 0
        floor = SPREADS[kind].log_sigma(torch.tensor(nearest, dtype=torch.float64)).exp().item()
        if floor > SMALLEST_SIGMA:
            bounds.append(f"σ is never below {floor:.2g} ({SPREADS[kind].name} lies in {spread})")
    if bounds:
        text = "An activation stands on the encoder's heads, so q(z|x) cannot be what it should be."
        return notes.warning("head-activation", text, "; ".join(bounds))
    if mu is None:
        return notes.skipped("the range of μ and log σ²: the layer that they come from was not found.")
    if spread is not None and kind in ("log_var", "log_std") and spread.high > LARGEST_EXP:
        text = "Nothing keeps log σ² from growing until exp overflows; data of the order of 1 do not get there."
        notes.remark("overflow", text, f"{SPREADS[kind].name} lies in {spread} whatever the layer before it gives")
    notes.well("the heads can give any mean" + (" and a small σ" if spread is not None and kind is not None else ""))


def _smallest_correlation(a: Tensor, b: Tensor) -> float:
    """The smallest |correlation| over dimensions between columns of two (B, L) tensors; 0 for constant columns."""
    a, b = (t.detach().double() - t.detach().double().mean(0) for t in (a, b))
    norms = a.norm(dim=0) * b.norm(dim=0)
    correlations = torch.where(norms > 1e-12, (a * b).sum(0) / norms.clamp_min(1e-12), torch.zeros_like(norms))
    return correlations.abs().min().item()


def _averaged_rows(patient: Patient, values: Tensor) -> int:
    """Rows of a weight matrix that all get one and the same gradient: what they produce is summed.  0: none."""
    for gradient in patient.gradients(values):
        if gradient is None or gradient.dim() < 2 or gradient.shape[0] < 2 or not gradient.any():
            continue
        rows = gradient.flatten(1)
        if (rows - rows[:1]).abs().max() < 1e-5 * rows.abs().max():
            return rows.shape[0]
    return 0
