"""What the decoder does with z, with the condition, and which values it can put out."""

import torch
from torch import Tensor

from course_utils.doctor.patient import Patient, reach_of
from course_utils.doctor.probe import exact, normals
from course_utils.doctor.report import Notes

MOST_DIMENSIONS = 128  # each costs one forward pass


def check_code_is_used(patient: Patient, notes: Notes) -> None:
    """Does the output move with z at all, and with every one of its dimensions?"""
    code = _code(patient)
    if patient.beyond:
        return notes.skipped(f"what is said about one Gaussian code: {patient.beyond}.")
    if code is None or patient.first.recon is None:
        return notes.skipped("whether the decoder uses z: no code or no reconstruction was found.")
    base = patient.decoded(code)
    if base is None:
        return notes.skipped("whether the decoder uses z: z was not seen on its way, and there is no decode(z).")
    scale = base.detach().abs().max().clamp_min(1e-12)

    def effect(shift: Tensor) -> float:
        """The change of the output; where there is none, that of larger and larger steps: a unit may be silent."""
        for size in (3, -3, 30, -30, 300, -300):
            moved = patient.decoded(code + size * shift)
            if (change := ((moved - base).abs().max() / scale).item()) > 1e-7:
                return change
        return 0.0

    if effect(normals(0)(code)) == 0:
        if not torch.equal(patient.first.recon, patient.other.recon):
            return notes.skipped("whether the decoder uses z: what was taken for z is not what is decoded.")
        text = "The output does not depend on z at all, not even by rounding: the decoder never sees it."
        measured = "largest change of the output when z moves by up to 300 standard normal draws: 0"
        return notes.error("decoder-ignores-z", text, measured)
    effects = [effect(axis) for axis in torch.eye(code.shape[1]).to(code)[:MOST_DIMENSIONS]]
    top = max(effects)
    dead = [j for j, value in enumerate(effects) if value <= 1e-6 * top]
    if dead:
        text = f"{len(dead)} of {len(effects)} latent dimensions cannot reach the output, whatever their value."
        measured = f"change of the output when z_j moves by up to 300: 0 for j = {_listed(dead)}; else up to {top:.2g}"
        return notes.error("unused-dimensions", text, measured)
    notes.well(f"the output moves with each of {len(effects)} latent dimensions")
    if len(effects) < code.shape[1]:
        notes.skipped(f"the latent dimensions beyond the first {MOST_DIMENSIONS}.")


def check_collapse(patient: Patient, notes: Notes) -> None:
    """After training: is z still worth something, and how many of its dimensions?

    An untrained decoder hardly reacts to z either; but even a collapsed one has learned the mean image. Only if the
    average output explains more than half of that image's contrast is anything said.
    """
    if notes.has("no-sampling", "noise-frozen", "latents-averaged") or patient.mean is None or patient.beyond:
        return notes.skipped("collapse: it needs a model that samples one Gaussian code.")
    if patient.zero.recon is None or patient.zero.recon.numel() != patient.x.numel():
        return notes.skipped("collapse: no reconstruction was found that could be compared with x.")
    recon, x = exact(patient.zero.recon), exact(patient.x.flatten(1))
    share = max(_explained(image.mean(0), x.mean(0)) for image in (recon, recon.sigmoid()))
    if share < 0.5:
        return notes.skipped("collapse: the model is not trained (its average output is not the mean image).")
    others = patient.decoded(patient.mean.detach().roll(1, 0))  # at its own condition
    others = recon.roll(1, 0) if others is None else exact(others)
    are_pixels = _explained(recon.mean(0), x.mean(0)) > 0.5
    pixels, others = (recon, others) if are_pixels else (recon.sigmoid(), others.sigmoid())
    contrast = (x - x.mean(0)).square().sum().clamp_min(1e-12)
    captured = 1 - (pixels - x).square().sum() / contrast
    moved = 0.5 * (pixels - others).square().sum() / contrast  # without a condition, the outputs' own variance
    mean, sigma = exact(patient.mean), exact(patient.sigma).abs().clamp_min(1e-12)
    rates = (0.5 * (mean.square() + sigma.square() - 1) - sigma.log()).mean(0)
    quiet = (rates < 0.01) & (mean.var(0) < 0.01)
    rate = f"rate {rates.sum().item():.3g} nats"
    measured = f"{rate}; from code to code the outputs vary {moved.item():.2%} as the data do"
    still = moved < (0.01 if patient.standard_prior else 0.001)  # the rate is another's, so nothing at all may move
    if not still and not patient.standard_prior:
        return notes.skipped(f"collapse: the prior is another than N(0, I), so the rate is not known ({measured}).")
    if still and (not patient.standard_prior or rates.sum() < 0.1 + 0.01 * len(rates)):
        causes = ", ".join(dict.fromkeys(finding.code for finding in notes.findings if finding.severity == "error"))
        text = "The posterior has collapsed: the output is the same for every code, whichever x it is from."
        advice = f"This is a state; its likely cause was found as well: mend {causes} first." if causes else None
        return notes.warning("collapse", text, measured, advice)
    if captured < 0.05:
        return notes.skipped(f"collapse: the model has learned little more than the mean image so far ({measured}).")
    notes.well(f"no collapse: {measured}; the reconstruction explains {captured.item():.0%} of the data's variance")
    if quiet.any():
        idle = _listed(quiet.nonzero().flatten().tolist())
        text = (
            f"{int(quiet.sum())} of {len(quiet)} latent dimensions carry less than 0.01 nats: training left them idle."
        )
        others_carry = f"the others carry {rates[~quiet].sum().item():.3g} nats"
        notes.remark("unused-dimensions", text, f"dimensions {idle}; {others_carry}")


def _code(patient: Patient) -> Tensor | None:
    """What the decoder is given without noise, or the next best."""
    found = next((t for t in (patient.zero.code, patient.zero.z, patient.mu) if t is not None), None)
    return None if found is None else found.detach()


def check_condition(patient: Patient, notes: Notes) -> None:
    """Give every example another's condition: the code must change, and at a fixed code the output."""
    cond = patient.cond
    if cond is None:
        return
    other = next((o for o in (cond.roll(n, 0) for n in range(1, len(cond))) if not torch.equal(o, cond)), None)
    if other is None:
        return notes.skipped("the condition: all examples have the same one.")
    before, after = patient.zero, patient.run(cond=other, noise=0.0)
    pairs = ((before.mu, after.mu), (before.spread, after.spread), (before.code, after.code))
    moves = [(a - b).abs().max().item() for a, b in pairs if a is not None]
    if not moves:
        notes.skipped("whether the encoder sees the condition: no code was found.")
    elif moved := max(moves):
        notes.well(f"the encoder sees the condition (the code moves by up to {moved:.2g})")
    else:
        text = "The encoder's output does not depend on the condition: z has to carry what the condition says already."
        measured = "largest change of μ and log σ² when every example gets another's condition: 0"
        notes.warning("condition-ignored-encoder", text, measured)
    code = _code(patient)
    first = None if code is None else patient.decoded(code)
    if first is None:
        return notes.skipped("whether the decoder sees the condition: z was not seen, and there is no decode(z, cond).")
    if moved := (patient.decoded(code, other) - first).abs().max().item():
        return notes.well(f"the decoder sees the condition (the output moves by up to {moved:.2g} at the same z)")
    text = "At the same z the output does not depend on the condition: one cannot ask this model for anything."
    measured = "largest change of the output when the condition changes and z does not: 0"
    notes.error("condition-ignored-decoder", text, measured)


def check_range(patient: Patient, notes: Notes, form: str | None) -> None:
    """Can the output be what the likelihood takes it for, and can it reach what the loss compares it with?"""
    reach, target = reach_of(patient), patient.x if patient.target is None else patient.target
    layers = (call.given for call in patient.first.probe.calls if call.is_layer and "norm" not in call.name)
    seen = [t for t in (*next(layers, ()), patient.target) if t is not None and not t.requires_grad]
    if (largest := max((t.abs().max().item() for t in seen if t.is_floating_point()), default=0.0)) > 10:
        text = "The numbers are not of the order of 1 (8-bit pixels?), far from where a fresh network works well."
        notes.warning("data-range", text, f"the largest that the encoder is given, or the loss compares: {largest:.3g}")
    elif not notes.has("data-range"):
        notes.well(f"the data lie in [{patient.x.min().item():.3g}, {patient.x.max().item():.3g}]")
    if reach is None or patient.first.recon.numel() != patient.x.numel():
        return notes.skipped("the range of the output: no output of x's shape was found, or not the layer before it.")
    measured = f"outputs lie in {reach}, whatever the last layer gives"
    logits, narrow = form in ("BCE with logits", "continuous Bernoulli"), reach.low >= 0.45 and reach.high <= 0.75
    if narrow or (logits and reach.unit):
        second = "the decoder applies it twice" if narrow else f"the loss ({form}) applies another"
        text = f"The output has been through a sigmoid, and {second}: pixels can only be between 0.5 and 0.73."
        return notes.error("double-sigmoid", text, measured)
    if logits and (reach.one_sided or max(-reach.low, reach.high) <= 1 + 1e-6):
        text = f"The loss ({form}) wants logits, any real number, and the output is bounded."
        return notes.error("output-range", text, measured)
    if form == "BCE on probabilities" and not reach.unit:
        text = "The loss is a cross-entropy of probabilities, and the output can leave [0, 1]."
        return notes.error("output-range", text, measured)
    low, high = target.min().item(), target.max().item()
    measured += f"; {'the data' if form is None else 'what it is compared with'} in [{low:.3g}, {high:.3g}]"
    room = 0.02 * max(min(high - low, reach.high - reach.low), 1e-6)
    if not logits and (low < reach.low - room or high > reach.high + room):
        if patient.target is None:
            return notes.skipped(f"the output's range, {reach}: what the loss compares the output with is not known.")
        text = "The output cannot reach the data, whatever the decoder learns."
        return notes.found("warning" if form is None else "error", "output-range", text, measured)
    if not logits and form is not None:
        if reach.low < -0.9 and reach.high <= 1 + 1e-6 and low >= 0:
            text = "The output is made for [−1, 1] (tanh), and the data use the upper half of that only."
            return notes.warning("output-range", text, measured)
        if reach.cut > 0.2:
            text = "The output is cut off (a ReLU or a clamp): what lies beyond gets no gradient."
            return notes.warning("output-range", text, f"{measured}; {reach.cut:.0%} of ordinary numbers are cut")
    notes.well(f"the output's range, {reach}, fits {'the likelihood and the data' if form else 'the data'}")


def _explained(guess: Tensor, target: Tensor) -> float:
    """1 − (error of the guess) / (error of the best constant image)."""
    return (1 - (guess - target).square().sum() / (target - target.mean()).square().sum().clamp_min(1e-12)).item()


def _listed(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers[:8])) + (", …" if len(numbers) > 8 else "")
