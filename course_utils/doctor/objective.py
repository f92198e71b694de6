"""Is the loss an ELBO? Which likelihood is in it, how much does the KL weigh, and does that depend on the batch?"""

import torch
from torch import Tensor

from course_utils.doctor.loss_probe import CannotTrain, LossProbe, NoLoss, Numbers
from course_utils.doctor.loss_weights import Measured, fit, measure
from course_utils.doctor.patient import ModelRaised, Patient
from course_utils.doctor.probe import gradients, normals, weights_kept
from course_utils.doctor.report import Notes

NO_KL = "The loss contains no KL, so nothing says where codes live or how wide they are."
MINUS = "The KL enters with a minus: the loss pays for codes far from the prior, without limit."


def check_objective(patient: Patient, notes: Notes) -> tuple[str | None, str | None]:
    """All about the loss; returns the form of its reconstruction term and what the KL takes the spread for."""
    try:
        probe = LossProbe(patient)
        raised = _natural(patient, probe, notes)
        if notes.has("not-finite"):
            return None, None
        measured = measure(probe, patient)
    except NoLoss as why:
        notes.skipped(f"the loss: {why}")
        return None, None
    except CannotTrain as why:
        notes.error("no-gradient", "The loss cannot train the model: it has no gradient.", str(why))
        return None, None
    except ModelRaised as error:
        notes.error("raises", "The loss raises an error.", str(error))
        return None, None
    if raised and measured.form != "BCE on probabilities":
        notes.error("raises", "The loss raises an error on the model's own output.", raised)
    if measured.form is None:
        notes.skipped("the reconstruction term: its derivative is that of no likelihood that the doctor knows.")
    elif measured.form == "none":
        notes.error("recon-sign", "The loss does not depend on the reconstruction.", "derivative: 0")
    else:
        _check_saturation(probe, measured, notes)
        _check_target(measured, notes)
    if not probe.sees_posterior:
        _without_posterior(patient, probe, notes)
    elif not measured.has_kl:
        linear = " μ and the spread enter linearly only, which is no KL." if measured.linear else ""
        slope = "the same whatever μ is" if measured.linear else "0"
        words = f"derivative of the loss with respect to μ: {slope}, expected proportional to μ"
        notes.error("no-kl", f"{NO_KL}{linear}", words)
    else:
        _check_weights(patient, measured, _per_example(probe, measured, patient, notes), notes)
    if measured.form == "none" or (probe.own and patient.forward is not None):
        return None, measured.kind  # the output looked at need not be the one that the loss is made of
    return measured.form, measured.kind


def _natural(patient: Patient, probe: LossProbe, notes: Notes) -> str:
    """The loss on the model's own output, and its gradient: they must exist and be finite."""
    try:
        loss = probe.natural()
    except ModelRaised as error:
        return str(error)
    grads = gradients(loss, patient.parameters)
    bad = sum(1 for g in grads if not g.isfinite().all())
    if bad or not loss.isfinite():
        measured = f"loss {loss.item():.4g}; gradients with NaN or infinity: {bad} of {len(grads)} weights"
        notes.error("not-finite", "The loss or its gradient is not finite on these data.", measured)
    elif not any(g.any() for g in grads):
        raise CannotTrain(f"its gradient reaches 0 of {len(grads)} weights")
    else:
        notes.well("loss and gradient are finite")
    return ""


def _per_example(probe: LossProbe, one: Measured, patient: Patient, notes: Notes) -> float:
    """By how much to multiply a weight to have it per example: B for a mean over the batch, 1 for a sum."""
    size = len(patient.x)
    if one.form in (None, "none"):
        notes.skipped("the loss against the batch size: it needs a reconstruction term of a known form.")
        return size
    try:
        two = measure(LossProbe(patient, copies=2), patient)
    except (ModelRaised, NoLoss) as error:
        notes.skipped(f"the loss against the batch size: a batch of {2 * size} could not be run ({_last_line(error)}).")
        return size
    change_a, change_b = two.a / one.a, fit(one.pull, two.pull)[0]
    sizes = f"in a batch of {2 * size}, {{:.3g}} times that in a batch of {size}"
    if change_b and abs(change_a / change_b - 1) > 0.02:
        notes.error(
            "loss-depends-on-batch",
            "The two terms of the loss treat the batch differently, so the KL's weight depends on the batch size.",
            f"weight of the KL against the reconstruction: {sizes.format(change_b / change_a)}",
        )  # fmt: skip
    elif abs(change_a - 1) < 0.02 and not probe.per_example:
        notes.remark(
            "loss-depends-on-batch",
            "The loss is a sum over the batch. Its minimum is right, but loss and gradient grow with the batch.",
            f"weight of one example: {sizes.format(change_a)}; with a mean over the batch it is 0.5 times",
            "Take the mean over the batch, so that learning rate and gradient clipping do not depend on its size.",
        )  # fmt: skip
    else:
        notes.well("the loss per example does not depend on the batch size")
    return size if abs(change_a - 0.5) < 0.1 else 1.0


def _check_weights(patient: Patient, m: Measured, size: float, notes: Notes) -> None:
    a, b_mu, b_spread = m.a * size, m.b_mu * size, m.b_spread * size
    weights = f"weight of the reconstruction {a:.4g}, of the KL {b_mu:.4g} in μ and {b_spread:.4g} in the spread"
    if m.curved or m.linear:
        return notes.warning(
            "kl-form", "The loss depends on μ and the spread, but not as KL(N(μ, σ²) ‖ N(0, I)) does. Fine if that is "
            "meant (another prior, a flow, free bits).", weights,
        )  # fmt: skip
    if m.prior != "N(0, I)":
        notes.well(f"the KL is that to {m.prior}")
    if abs(b_spread - b_mu) > 0.02 * max(abs(b_mu), abs(b_spread)):
        text = "The terms of the KL do not belong together: μ² has one weight, σ² − log σ² another."
        return notes.error("kl-form", text, weights)
    if a < 0 and b_mu < 0:
        text = "Both terms are negative: this is the ELBO, and minimising it makes it worse."
        return notes.error("loss-sign", text, weights)
    if a < 0:
        text = "The reconstruction term has the wrong sign: the loss falls as the output moves away from x."
        notes.error("recon-sign", text, weights)
    if b_mu < 0:
        return notes.error("kl-sign", MINUS, weights)
    if m.form in (None, "none") or a < 0:
        return
    if any(f.code == "loss-depends-on-batch" and f.severity == "error" for f in notes.findings):
        return notes.skipped("the weight of the KL: it depends on the batch size, see above.")
    _check_beta(patient, m.form, a, b_mu, weights, notes)


def _check_beta(patient: Patient, form: str, a: float, b: float, weights: str, notes: Notes) -> None:
    pixels = patient.x[0].numel()
    gaussian = form in ("squared error", "absolute error")
    beta = b / (2 * a) if gaussian else b / a
    words, off = f"effective β = {beta:.4g}", max(beta, 1 / beta)
    if gaussian:
        contrast, sigma = patient.x.double().std().clamp_min(1e-12).item(), beta**0.5
        words = f"implied decoder σ = {sigma:.3g} at β = 1 (or β = {beta:.4g} at σ = 1)"
        weights = f"the data's standard deviation is {contrast:.2g}; {weights}"
        ratio = sigma / contrast
        off = ratio if ratio >= 5 else 2.0 if ratio < 0.01 else 1.0
    averaged = any(abs(a * pixels / factor - 1) < 0.01 for factor in (1.0, 0.5)) and pixels > 10
    if averaged and beta > 10:
        text = f"The reconstruction is averaged over {pixels} pixels, the KL is not, and so weighs far too much."
        return notes.error("recon-averaged", text, f"{words}; {weights}")
    if off > 10:
        strong = "too much: codes will carry next to nothing" if beta > 1 else "too little: nearly an autoencoder"
        return notes.error("kl-scale", f"The KL weighs far {strong}.", f"{words}; {weights}")
    if off > (5 if gaussian else 1.1):
        text = "The KL's weight is not that of the ELBO. Fine if that is meant (a β-VAE)."
        return notes.warning("kl-scale", text, f"{words}; {weights}")
    notes.well(f"the KL has the weight of an ELBO ({words}; {form})")


def _check_saturation(probe: LossProbe, m: Measured, notes: Notes) -> None:
    """The loss where probabilities are exactly 0 or 1, as a sigmoid in float32 gives them from logit 17 on."""
    if m.form != "BCE on probabilities":
        return
    wrong = (probe.x < 0.5).to(probe.x).requires_grad_()
    try:
        loss = probe(Numbers(wrong.reshape(probe.shape(probe.reading.recon))))
        finite = bool(loss.isfinite()) and bool(gradients(loss, [wrong])[0].isfinite().all())
    except ModelRaised as error:
        return notes.skipped(f"saturated probabilities: the loss raises ({_last_line(error)}).")
    if finite:
        return notes.well("the cross-entropy stays finite at probabilities of 0 and 1")
    text = "At probabilities of exactly 0 or 1 the loss (or its gradient) is infinite or NaN."
    notes.warning("saturation", text, f"loss {loss.item():.4g}")


def _check_target(m: Measured, notes: Notes) -> None:
    """What the loss compares the output with, where that is not x itself."""
    if m.target is None:
        return
    low, high = m.target
    if m.form != "squared error" and (low < -1e-3 or high > 1 + 1e-3):
        return notes.error(
            "data-range", "The loss compares the output with targets outside of [0, 1], and has no floor there.",
            f"targets, computed from the loss's derivatives ({m.form}): in [{low:.3g}, {high:.3g}], and not x itself",
        )  # fmt: skip
    notes.well(f"the targets of the loss lie in [{low:.3g}, {high:.3g}]; they are not x itself")


def _without_posterior(patient: Patient, probe: LossProbe, notes: Notes) -> None:
    """No μ in the output: take the reconstruction's part out of the gradient, and look whether a KL is left.

    Near its starting weights many a term pulls as a KL does, so the weights are shaken and the question is repeated.
    """
    if patient.first.recon is None:
        return notes.skipped("the KL: the output holds no μ and no spread.")
    left, wanted, size = _left_over(patient, probe)
    if left.norm() <= 1e-5 * size:
        return notes.error("no-kl", NO_KL, "gradient of the loss without its reconstruction term: 0")
    if wanted is None:
        return notes.skipped("the KL: no code was found that it could be compared with.")
    fits = [fit(wanted, left)]
    for seed in range(2):
        noise = normals(seed)
        with weights_kept(patient.model):
            for p in patient.parameters:
                p.data += p.abs().mean() * noise(p)
            left, wanted, _ = _left_over(patient, probe)
            fits.append(fit(wanted, left))
    weights, rests = (torch.tensor(values) for values in zip(*fits, strict=True))
    measured = f"weights of the KL that fit best, at three sets of weights: {', '.join(f'{w:.3g}' for w in weights)}"
    apart = ((weights - weights[0]).abs().max() / weights.abs().max()).item()
    if rests.max() > 0.05 or apart > 0.05:
        return notes.found(
            "error" if rests.max() > 0.3 or apart > 0.3 else "warning",
            "no-kl", "What the loss adds to the reconstruction is not the KL of the code that is sampled.",
            f"{measured}; share of the gradient that is none of the KL's: up to {rests.max():.0%}",
        )  # fmt: skip
    if weights[0] < 0:
        return notes.error("kl-sign", MINUS, measured)
    batch = f"weight {weights[0]:.4g} in a batch of {len(patient.x)}"
    notes.well(f"the loss contains the KL of the code that is sampled ({batch})")
    notes.skipped("the weight of the KL against the batch size: the output holds no μ and no spread.")


def _left_over(patient: Patient, probe: LossProbe) -> tuple[Tensor, Tensor | None, Tensor]:
    """The loss's gradient without the reconstruction's part; the measured KL's; the size of what was taken out."""
    left, size = 0.0, 0.0
    for noise in (1.0, -1.0):
        loss = probe.natural(noise)
        recon = patient.run(noise=noise).recon  # the same numbers once more
        leaf = recon.detach().requires_grad_()
        (cotangent,) = gradients(probe(Numbers(leaf), noise=noise), [leaf])
        whole, part = _gradient(patient, loss), _gradient(patient, recon, cotangent)
        left, size = left + 0.5 * (whole - part), size + part.norm()
    zero, one = patient.run(noise=0.0), patient.run(noise=1.0)
    if zero.code is None or one.code is None:
        return left, None, size
    sigma = one.code - zero.code
    kl = 0.5 * (zero.code.square() + sigma.square() - 1) - sigma.abs().clamp_min(1e-30).log()
    return left, _gradient(patient, kl.sum()), size


def _gradient(patient: Patient, values: Tensor, weights: Tensor | None = None) -> Tensor:
    """With respect to all parameters, as one vector."""
    return torch.cat([g.detach().double().flatten() for g in gradients(values, patient.parameters, weights)])


def _last_line(error: Exception) -> str:
    return str(error).splitlines()[-1][:120]
