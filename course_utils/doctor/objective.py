"""Is the loss an ELBO? Which likelihood is in it, how much does the KL weigh, and does that depend on the batch?"""

import torch

from course_utils.doctor.loss_probe import CannotTrain, LossProbe, NoLoss
from course_utils.doctor.loss_weights import Measured, Posterior, fit, measure
from course_utils.doctor.patient import ModelRaised, Patient, last_line
from course_utils.doctor.probe import exact, gradients
from course_utils.doctor.report import Notes

NO_KL = "The loss contains no KL, so nothing says where codes live or how wide they are."
MINUS = "The KL enters with a minus: the loss pays for codes far from the prior, without limit."
OTHER_KL = "Fine if that is meant (another prior, a flow, free bits, an estimate over the batch)."


def check_objective(patient: Patient, notes: Notes) -> tuple[str | None, str | None]:
    """All about the loss; sets the target, and returns the reconstruction term's form and what the KL takes s for."""
    try:
        probe = LossProbe(patient)
        patient.target = None
        raised = _natural(patient, probe, notes)
        if notes.has("not-finite") or patient.beyond:
            if patient.beyond:
                notes.skipped(f"the parts of the loss: {patient.beyond}.")
            return None, None
        probe.find_sites()
        if probe.recon is None and _decoder_is_idle(patient, probe):
            notes.error("recon-sign", "The loss does not depend on the reconstruction.", "derivative: 0")
            return None, None
        measured = measure(probe, patient)
        patient.standard_prior = measured.near.state in ("Gaussian", "nothing", "unknown")
    except (NoLoss, CannotTrain, ModelRaised) as error:
        if isinstance(error, NoLoss):
            notes.skipped(f"the loss: {error}")
        elif isinstance(error, CannotTrain):
            notes.error("no-gradient", "The loss cannot train the model: it has no gradient.", str(error))
        elif "loss and gradient are finite" in notes.healthy:  # on the model's own output it did run
            notes.skipped(f"the parts of the loss: it raises on the doctor's numbers ({last_line(error)}).")
        elif not notes.has("raises"):
            notes.error("raises", "The loss raises an error.", str(error))
        return None, None
    if raised and measured.form != "BCE on probabilities":
        notes.error("raises", "The loss raises an error on the model's own output.", raised)
    if measured.form is not None and probe.as_returned:
        patient.target = exact(patient.x.flatten(1)) if measured.target is None else measured.target
    if measured.form is None:
        notes.skipped("the reconstruction term: its derivative is that of no likelihood that the doctor knows.")
    elif measured.form != "none":
        _check_saturation(probe, measured, notes)
        _check_target(patient, measured, notes)
    near = measured.near
    if near.state == "unknown" and _left_over(patient, probe) <= 1e-5:
        notes.error("no-kl", NO_KL, "gradient of the loss without its reconstruction term: 0")
    elif near.state == "unknown":
        notes.skipped("the KL: no μ was found that it could be compared with.")
    elif near.state in ("nothing", "linear"):
        _check_absence(patient, probe, measured, notes)
    elif measured.form is None:
        _check_terms(measured, 1.0, "unknown", notes, has_spread=patient.spread is not None)
    else:
        _check_weights(patient, measured, _per_example(probe, measured, patient, notes), notes)
    if measured.form == "none" or (probe.own and patient.forward is not None) or not probe.as_returned:
        return None, near.kind  # the output looked at need not be the one that the loss is made of
    return measured.form, near.kind if near.is_kl else None


def _natural(patient: Patient, probe: LossProbe, notes: Notes) -> str:
    """The loss on the model's own output, and its gradient: they must exist and be finite."""
    try:
        loss, _ = probe.natural()
    except ModelRaised as error:
        if "between 0 and 1" in str(error):
            return str(error)  # a cross-entropy of what is no probability: the range has more to say
        raise
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


def _decoder_is_idle(patient: Patient, probe: LossProbe) -> bool:
    """Whether the loss gives no gradient to any weight that the reconstruction alone depends on."""
    if patient.first.recon is None or patient.mu is None:
        return False
    masks = patient.only(patient.first.recon, patient.mu)
    grads = gradients(probe.natural()[0], patient.parameters)
    return any(m.any() for m in masks) and not any((g[m] != 0).any() for g, m in zip(grads, masks, strict=True))


def _per_example(probe: LossProbe, one: Measured, patient: Patient, notes: Notes) -> float:
    """By how much to multiply a weight to have it per example: B for a mean over the batch, 1 for a sum."""
    size = len(patient.x)
    if one.form in (None, "none") or not one.near.is_kl:
        notes.skipped("the loss against the batch size: it needs a reconstruction term and a KL of known forms.")
        return size
    try:
        two = measure(LossProbe(patient, copies=2, sites=probe), patient)
    except (ModelRaised, NoLoss) as error:
        notes.skipped(f"the loss against the batch size: a batch of {2 * size} could not be run ({last_line(error)}).")
        return size
    if one.near.pull is None or two.near.pull is None or not two.a:
        notes.skipped("the loss against the batch size: the two batches could not be compared.")
        return size
    change_a, change_b = two.a / one.a, fit(one.near.pull, two.near.pull)[0]
    sizes = f"in a batch of {2 * size}, {{:.3g}} times that in a batch of {size}"
    if change_b and abs(change_a / change_b - 1) > 0.02:
        text = "The two terms of the loss treat the batch differently, so the KL's weight depends on the batch size."
        measured = f"weight of the KL against the reconstruction: {sizes.format(change_b / change_a)}"
        notes.error("loss-depends-on-batch", text, measured)
    elif abs(change_a - 1) < 0.02 and not probe.per_example:
        text = "The loss is a sum over the batch. Its minimum is right, but loss and gradient grow with the batch."
        measured = f"weight of one example: {sizes.format(change_a)}; with a mean over the batch it is 0.5 times"
        advice = "Take the mean over the batch, so that learning rate and gradient clipping do not depend on its size."
        notes.remark("loss-depends-on-batch", text, measured, advice)
    else:
        notes.well("the loss per example does not depend on the batch size")
    return size if abs(change_a - 0.5) < 0.1 else 1.0


def _check_weights(patient: Patient, m: Measured, size: float, notes: Notes) -> None:
    a = m.a * size
    if not _check_terms(m, size, f"{a:.4g}", notes, has_spread=patient.spread is not None):
        return
    b = m.near.mu * size
    weights = f"weight of the reconstruction {a:.4g}, of the KL {b:.4g}"
    if a < 0 and b < 0:
        text = "Both terms are negative: this is the ELBO, and minimising it makes it worse."
        return notes.error("loss-sign", text, weights)
    if a < 0:
        text = "The reconstruction term has the wrong sign: the loss falls as the output moves away from x."
        return notes.error("recon-sign", text, weights)
    if m.form == "none":
        return notes.error("recon-sign", "The loss does not depend on the reconstruction.", "derivative: 0")
    if any(f.code == "loss-depends-on-batch" and f.severity == "error" for f in notes.findings):
        return notes.skipped("the weight of the KL: it depends on the batch size, see above.")
    if m.low is not None and abs(m.low / m.near.mu - 1) > 0.1:
        text = "At small rates the KL is not charged as such (free bits, or a target for the rate)."
        return notes.remark("kl-form", text, f"where the KL is large: {weights}")
    _check_beta(patient, m.form, a, b, weights, notes)


def _check_terms(m: Measured, size: float, a: str, notes: Notes, *, has_spread: bool) -> bool:
    """Do the KL's three terms belong together?  Returns whether its weight can be judged."""
    near, far = m.near, m.far
    weights = (
        f"weight of the reconstruction {a}, of ½μ² {near.mu * size:.4g}, of ½σ² {near.var * size:.4g}, "
        f"of −½ log σ² {near.log * size:.4g}"
    )
    if near.state == "other":
        if far is not None and far.is_kl and far.mu > 0:
            text = "At small rates the KL is not charged as such (free bits, or a target for the rate)."
            notes.remark("kl-form", text, f"at large means the weight is {far.mu * size:.4g}")
            return False
        if notes.has("no-sampling") and not has_spread:  # which this explains
            notes.findings = [finding for finding in notes.findings if finding.code != "no-sampling"]
            notes.skipped("no Gaussian code: deterministic codes, held by another term (an MMD?), are not examined.")
            return False
        if notes.has("one-head"):
            notes.skipped("the form of the KL: μ and the spread are one tensor.")
            return False
        text = f"It depends on μ and the spread, but not as KL(N(μ, σ²) ‖ N(0, I)) does. {OTHER_KL}"
        notes.warning("kl-form", text, f"weight of the reconstruction {a}")
        return False
    if near.state == "learned":
        notes.well("the KL is that to a Gaussian that differs from number to number (a learned one?)")
    if near.is_kl and near.mu < 0 and m.a >= 0:
        if far is not None and far.mu > 0:
            text = f"Below a target, a larger KL is rewarded (a capacity). Its weight there is {far.mu * size:.4g}."
            notes.remark("kl-form", text, weights)
        else:
            notes.error("kl-sign", MINUS, weights)
        return False
    if near.is_kl:
        return True
    _name_the_terms(near, weights, notes)
    return False


def _name_the_terms(near: Posterior, weights: str, notes: Notes) -> None:
    """μ², σ² and log σ² have other weights than each other."""
    sign = 1.0 if near.mu >= 0 else -1.0
    if sign * near.log < 0 or sign * near.var < 0:
        which, drift = ("log σ²", "nothing keeps σ from 0") if sign * near.log < 0 else ("σ²", "σ grows without limit")
        return notes.error("kl-form", f"{which} enters the KL with the wrong sign: {drift}.", weights)
    if near.var and abs(near.var - near.mu) < 0.02 * abs(near.mu) and near.log:
        variance = near.log / near.mu
        text = (
            f"This is the KL to N(0, {variance:.3g}), not to N(0, 1). Samples must be drawn from that, too; "
            "if it is not meant, a factor ½ is missing."
        )
        return notes.warning("kl-form", text, weights)
    text = "The terms of the KL do not belong together: their weights differ."
    notes.error("kl-form", text, weights)


def _check_beta(patient: Patient, form: str, a: float, b: float, weights: str, notes: Notes) -> None:
    pixels = patient.x[0].numel()
    gaussian = form in ("squared error", "absolute error")
    beta = b / (2 * a) if gaussian else b / a
    words, off = f"effective β = {beta:.4g}", max(beta, 1 / beta)
    if gaussian:
        contrast, sigma = exact(patient.x).std().clamp_min(1e-12).item(), beta**0.5
        words = f"implied decoder σ = {sigma:.3g} at β = 1 (or β = {beta:.4g} at σ = 1)"
        weights = f"the data's standard deviation is {contrast:.2g}; {weights}"
        ratio = sigma / contrast
        off = ratio if ratio >= 5 else 2.0 if ratio < 0.01 else 1.0
    averaged = any(abs(a * pixels / factor - 1) < 0.01 for factor in (1.0, 0.5)) and pixels > 10
    if averaged and beta > 10:
        text = f"The reconstruction is averaged over {pixels} pixels, the KL is not, and weighs far too much."
        return notes.error("recon-averaged", text, f"{words}; {weights}")
    latents = patient.mu.shape[1]
    if gaussian and latents > 2 and abs(b * latents - 1) < 0.01 and any(abs(a - whole) < 0.01 for whole in (0.5, 1.0)):
        text = f"The KL is averaged over {latents} latent dimensions, and the reconstruction is not over pixels."
        return notes.warning("kl-scale", text, f"{words}; {weights}")
    if off > 10:
        strong = "too much: codes will carry next to nothing" if beta > 1 else "too little: nearly an autoencoder"
        text = f"The KL weighs far {strong}, if its weight stays what it is at this step."
        return notes.error("kl-scale", text, f"{words}; {weights}")
    if off > (5 if gaussian else 1.1):
        text = "At this step the KL's weight is not that of the ELBO. Fine if that is meant (a β-VAE, a warm-up)."
        return notes.warning("kl-scale", text, f"{words}; {weights}")
    notes.well(f"the KL has the weight of an ELBO ({words}; {form})")


def _check_saturation(probe: LossProbe, m: Measured, notes: Notes) -> None:
    """The loss where probabilities are exactly 0 or 1, as a sigmoid in float32 gives them from logit 17 on."""
    if m.form != "BCE on probabilities":
        return
    wrong = (probe.x < 0.5).to(probe.x).requires_grad_()
    try:
        loss = probe(recon=wrong)
        finite = bool(loss.isfinite()) and bool(gradients(loss, [wrong])[0].isfinite().all())
    except ModelRaised as error:
        return notes.skipped(f"saturated probabilities: the loss raises ({last_line(error)}).")
    if finite:
        return notes.well("the cross-entropy stays finite at probabilities of 0 and 1")
    text = "At probabilities of exactly 0 or 1 the loss (or its gradient) is infinite or NaN."
    notes.warning("saturation", text, f"loss {loss.item():.4g}")


def _check_target(patient: Patient, m: Measured, notes: Notes) -> None:
    """What the loss compares the output with, where that is not x itself: another example, or all of them?"""
    x = exact(patient.x.flatten(1))
    target, near = x if m.target is None else m.target, 0.01 * x.std()
    if m.target is not None and (x - x.mean(0)).square().mean().sqrt() > 10 * near and target.shape == x.shape:
        apart = torch.cdist(target, x) / x.shape[1] ** 0.5
        nearest, which = apart.min(1)
        what = ""
        if (target - x.mean(0)).square().mean().sqrt() < near:
            what = "the mean of the whole batch (a broadcast over its rows?)"
        elif nearest.max() < near and (which != torch.arange(len(x))).float().mean() > 0.9:  # a row may meet itself
            what = "another example than the one that was encoded"
        if what:
            return notes.error("recon-target", f"The loss compares the output with {what}.",
                f"targets, computed from the loss's derivatives ({m.form}): they are those to {near / x.std():.0%} of "
                f"the data's spread, and {apart.diagonal().mean() / x.std():.0%} from the example itself")  # fmt: skip
    low, high = target.min().item(), target.max().item()
    what = "the data" if m.target is None else "targets, computed from the loss's derivatives, not x itself"
    if m.form.startswith(("BCE", "continuous")) and (low < -1e-3 or high > 1 + 1e-3):
        text = "The loss compares the output with numbers outside of [0, 1], where a Bernoulli likelihood has no floor."
        return notes.error("data-range", text, f"{what} ({m.form}): in [{low:.3g}, {high:.3g}]")
    if m.target is not None:
        notes.well(f"the targets of the loss lie in [{low:.3g}, {high:.3g}]; they are not x itself")


def _check_absence(patient: Patient, probe: LossProbe, m: Measured, notes: Notes) -> None:
    """No KL in μ and the spread: is there nothing but the reconstruction in the loss, or a term that was not seen?"""
    if m.near.state == "linear":
        text = f"{NO_KL} μ and the spread enter linearly only, which is no KL."
        return notes.error("no-kl", text, "derivative of the loss with respect to μ: the same whatever μ is")
    if m.far is not None and m.far.is_kl and m.far.mu > 0:
        text = "At small rates the KL is free (free bits, or a target for the rate)."
        return notes.remark("kl-form", text, f"at large means its weight is {m.far.mu:.4g}")
    if _weighs_nothing(probe):
        text = "At this step the KL weighs 0. Fine at the start of a warm-up; examine again with the final weight."
        return notes.warning("no-kl", text, "μ and the spread enter the loss, with derivative 0")
    if _left_over(patient, probe) > 1e-4:
        return notes.skipped("the KL: the loss has a further term, but not one of the μ and spread that were found.")
    notes.error("no-kl", NO_KL, "derivative of the loss with respect to μ: 0, expected proportional to μ")


def _weighs_nothing(probe: LossProbe) -> bool:
    """Whether μ and the spread enter with a weight of exactly 0: 0·∞ is NaN."""
    if not {"mu", "spread"} <= probe.likes.keys():
        return False
    full = [torch.full_like(probe.likes[name], float("inf")) for name in ("mu", "spread")]
    recon = torch.full_like(probe.likes["recon"], 0.5).requires_grad_()
    pairs = ((full[0], probe.likes["spread"]), (probe.likes["mu"], full[1]))
    return not any(probe(recon=recon, mu=mu, spread=spread).isfinite() for mu, spread in pairs)


def _left_over(patient: Patient, probe: LossProbe) -> float:
    """The share of the loss's gradient that does not come through the reconstruction."""
    loss, tape = probe.natural()
    recon = tape.at(probe.recon)
    (pull,) = gradients(loss, [recon])
    whole, part = (
        torch.cat([exact(g).flatten() for g in gradients(values, patient.parameters, weights)])
        for values, weights in ((loss, None), (recon, pull))
    )
    return ((whole - part).norm() / part.norm().clamp_min(1e-30)).item()
