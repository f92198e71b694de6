"""How z is drawn: is there noise at all, new at every call, for every number, of the size that the encoder says?"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from course_utils.doctor.outputs import SPREADS, role_of
from course_utils.doctor.patient import NORMS, REPEATS, Patient
from course_utils.doctor.probe import exact, normals
from course_utils.doctor.report import Notes


def check_noise(patient: Patient, notes: Notes) -> None:
    """Two calls must differ; the rows of a batch of equal examples too; the noise must have mean 0 and std 1."""
    if not patient.samples:
        return _nothing_moves(patient, notes)
    notes.well("two calls give two samples")
    if patient.beyond:
        return notes.skipped(f"the distribution of the noise: {patient.beyond}.")
    size = len(patient.x)
    alike = {"x": patient.x[:1].expand_as(patient.x)}
    alike["cond"] = None if patient.cond is None else patient.cond[:1].expand_as(patient.cond)
    runs = [patient.run(**alike, seed=seed) for seed in range(8)]
    moving = [run.code if run.code is not None else run.z if run.z is not None else run.recon for run in runs]
    if moving[0] is None:
        return notes.skipped("the noise of a batch: neither z nor a reconstruction was found.")
    rows = exact(torch.stack(moving))  # (8, B, L)
    calm = patient.run(**alike, noise=0.0).code if patient.exact else None
    off = rows - (rows.mean(0) if calm is None else exact(calm))
    scale, apart = off.abs().max(), (off - off[:, :1]).abs().max()
    if rows.shape[1] == size and apart < 1e-5 * scale:
        text = "All examples of a batch get the same noise, so a larger batch averages none of it away."
        measured = f"{size} copies of one example: largest difference between their noise {apart.item():.2g}"
        return notes.error("noise-shared", text, f"{measured}; between two calls {scale.item():.2g}")
    if patient.sigma is None or runs[0].code is None:
        return notes.skipped("the distribution of the noise: the draws were not seen.")
    sigma = exact(patient.run(**alike, noise=1.0).code - calm) if calm is not None else off.std(0)
    if not (sigma.abs() > 1e-12).all():
        return notes.skipped("the distribution of the noise: σ is 0 in some dimensions.")
    eps = off / sigma  # (8, B, L)
    if eps.shape[2] > 1 and (eps - eps[..., :1]).abs().max() < 1e-3 * eps.abs().max():
        text = "All latent dimensions of an example get the same noise: z moves along one diagonal only."
        return notes.error("noise-shared", text, "largest difference between the noise of two dimensions: 0")
    notes.well("every example and every dimension gets noise of its own")
    if calm is None:
        return notes.skipped("mean and size of the noise itself: it can be watched, but not set.")
    count, mean, std = eps.numel(), eps.mean().item(), eps.std().item()
    if abs(mean) > max(0.1, 6 / count**0.5) or abs(std - 1) > max(0.1, 5 / count**0.5):
        text = "The noise is not standard normal, so z is not a sample of N(μ, σ²), which the KL speaks about."
        measured = f"mean {mean:.3f} and standard deviation {std:.3f} of {count:,} draws, expected 0 and 1"
        return notes.error("noise-not-normal", text, measured)
    notes.well(f"the noise has mean 0 and standard deviation 1 ({mean:.2f} and {std:.2f} of {count:,} draws)")


def _nothing_moves(patient: Patient, notes: Notes) -> None:
    """No two calls differ: is there a frozen noise inside, or none?"""
    if patient.beyond or not patient.compared:
        return notes.skipped(f"the noise: {patient.beyond or 'nothing was returned that could move'}.")
    moved = None
    if patient.spread is not None and patient.mu_is_reported and patient.first.recon is not None:
        with _shaken(patient):
            moved = (patient.run().recon - patient.first.recon).abs().max().item()
    draws = len(patient.first.probe.drawn)
    if (draws and patient.first.code is not None) or moved:
        seen = f", although {draws} draws were made" if draws else ""
        felt = f"; other values of log σ² move the output by up to {moved:.2g}" if moved else ""
        text = "The noise is the same at every call, and can be learned by heart: an autoencoder with an offset."
        return notes.error("noise-frozen", text, f"difference between two calls with different seeds: 0{seen}{felt}")
    felt = "; other values of log σ² do not move the output either" if moved == 0 else ""
    text = "Nothing is sampled: the decoder gets μ (or another fixed code), so this is an autoencoder."
    notes.error("no-sampling", text, f"difference between two calls in train(): 0{felt}")


def measure_spread(patient: Patient) -> tuple[str | None, float, str]:
    """Which function of the encoder's second output s is σ, up to which factor?  And the measurement in words.

    The weights that are log σ²'s own are shaken first, so that s is not near 0, where many functions agree.
    """
    if patient.sigma is None or patient.spread is None:
        return None, 1.0, "the spread of z or the encoder's second output was not found"
    with _shaken(patient):
        zero = patient.run(noise=0.0)
        separate = patient.encoder_output()
        s = separate[1] if separate else zero.spread
        s = zero.probe.at(patient.spread_site) if s is None else s
        if patient.exact:
            sigma = patient.run(noise=1.0).code - zero.code
        else:
            sigma = torch.stack([patient.run(seed=seed).code for seed in range(REPEATS)]).std(0)
    if s is None or s.numel() != sigma.numel():
        return None, 1.0, "z and the encoder's second output have different shapes"
    s, sigma = exact(s).flatten(), exact(sigma).abs().flatten()
    usable = sigma > 1e-30
    if not usable.any() or s.std() < 1e-3:
        return None, 1.0, "the encoder's second output hardly varies"
    log_sigma, s = sigma[usable].log(), s[usable]
    tolerance = 0.02 if patient.exact else 0.15  # the standard deviation of 32 numbers is off by an eighth
    off = {kind: log_sigma - spread.log_sigma(s) for kind, spread in SPREADS.items()}
    factors = {kind: t.median() for kind, t in off.items()}
    errors = {kind: (t - factors[kind]).abs().median().item() for kind, t in off.items()}
    plain = {kind: max(errors[kind], abs(factors[kind].item())) for kind in SPREADS}
    best = min(plain, key=plain.__getitem__)
    if plain[best] > tolerance:
        best = min(errors, key=errors.__getitem__)
    if errors[best] > tolerance:
        tried = ", ".join(spread.sigma for spread in SPREADS.values())
        return None, 1.0, f"σ is none of {tried} (the closest is off by {min(plain.values()):.0%})"
    factor = 1.0 if plain[best] <= tolerance else factors[best].exp().item()
    times = "" if factor == 1.0 else f"{factor:.3g} × "
    words = f"σ of z, measured from its noise, is {times}{SPREADS[best].sigma} to {max(errors[best], 1e-6):.1g}"
    wrong = f"; exp(½s) would be off by {plain['log_var']:.2g} in log σ" if best != "log_var" else ""
    return best, factor, words + wrong


def check_spread(patient: Patient, notes: Notes, kl_kind: str | None) -> None:
    """Do the sampler, the KL and the name of the encoder's second output mean the same σ?"""
    if notes.has("no-sampling", "noise-frozen", "one-head", "latents-averaged"):
        return notes.skipped("the size of the noise: the sampling (or the encoder) is broken already, see above.")
    kind, factor, words = patient.spread_kind
    stated = kl_kind or patient.reading.kind
    said = "the KL takes s for" if kl_kind else "its name says that s is"
    by = f"{words}; {said} {SPREADS[stated].name}" if stated else f"{words}; no name and no KL says otherwise"
    if kind is None:
        if stated and "none of" in words:
            return notes.warning("sigma-mismatch", "σ of the sample is no usual function of s.", by)
        return notes.skipped(f"the size of the noise: {words}.")
    if factor != 1.0 and (stated or kind) == kind:
        text = f"The noise has the wrong size: {factor:.3g} times that of the σ that the encoder gives."
        return notes.error("noise-not-normal", text, by, "Multiply σ by torch.randn_like(mu) and by nothing else.")
    if stated == kind or (stated is None and kind != "log_std"):
        return notes.well(f"the noise has the size that the encoder says ({words})")
    names = [name.split(".") for name, p in patient.model.named_parameters() if p.is_floating_point()]
    own = zip(names, patient.only(patient.spread, patient.mu), strict=True)  # the weights that only the spread has
    if stated is None and any(role_of(part) == "log_std" for name, mask in own if mask.any() for part in name):
        return notes.well(f"the noise has the size that the name of a layer says ({words})")
    if stated is None:
        text = "σ is exp(s): right if s is log σ, wrong if s is log σ²."
        return notes.warning("sigma-exp-log-var", text, by)
    if (kind, stated) == ("log_std", "log_var"):
        text = "The noise is multiplied by exp(log_var), which is σ² and not σ: the KL charges for other codes."
        return notes.error("sigma-exp-log-var", text, by)
    notes.error("sigma-mismatch", "The sampler and the KL disagree about the encoder's second output s.", by)


def check_modes(patient: Patient, notes: Notes) -> None:
    """What changes between train() and eval(), and what stays random in eval()?"""
    drawn = patient.run(training=False, as_is=True).probe.drawn  # there may be fewer draws in eval()
    shapes = [patient.first.probe.drawn[i].shape for i in patient.latent]
    calm_draws = {i: torch.zeros_like(t) for i, t in enumerate(drawn) if t.shape in shapes}

    def recon(training: bool, still: bool, seed: int) -> Tensor | None:
        draws = calm_draws if still and not training else None
        return patient.run(training=training, noise=0.0 if still else None, seed=seed, as_is=True, draws=draws).recon

    calm = recon(False, True, 0)
    if calm is None:
        return notes.skipped("train() against eval(): no reconstruction was found.")
    unruly = _apart(calm, recon(False, True, 1))
    samples = _apart(recon(False, False, 0), recon(False, False, 1))
    settable = bool(calm_draws) or not patient.moves
    if unruly and settable and not patient.beyond:
        text = "In eval() the output stays random even without the latent noise: something like dropout is never off."
        measured = f"relative difference between two calls in eval() with the latent noise at 0: {unruly:.2g}"
        notes.warning("train-eval-difference", text, measured)
    elif unruly:
        notes.skipped("train() against eval(): the noise cannot be set to 0.")
    elif (change := _apart(recon(True, True, 0), calm)) and (settable or not patient.latent):
        kinds = {type(m).__name__ for m in patient.model.modules() if isinstance(m, NORMS) or "Dropout" in str(type(m))}
        text = f"Beyond the latent noise, train() and eval() differ ({', '.join(sorted(kinds)) or 'cause unknown'})."
        notes.remark("train-eval-difference", text, f"relative difference with the latent noise at 0: {change:.2g}")
    else:
        notes.well("train() and eval() differ in nothing but the latent noise, if at all")
    if not samples:
        notes.well("in eval() the output is the same at every call")
    elif not unruly or patient.beyond or not settable:
        text = "In eval() z is still sampled. Right for an ELBO; for reconstructions the mean is usually meant."
        notes.remark("samples-at-evaluation", text, f"relative difference between two calls in eval(): {samples:.2g}")


def _apart(a: Tensor, b: Tensor) -> float:
    """Largest difference relative to the spread of a; 0 when below rounding."""
    a, b = a.detach(), b.detach()
    relative = ((a - b).abs().max() / (a - a.mean()).abs().max().clamp_min(1e-12)).item()
    return relative if relative > 1e-4 else 0.0


def check_rows(patient: Patient, notes: Notes) -> None:
    """Does row i of what comes out depend on row i of x alone?  In eval(), where no batch norm looks at the others."""
    if patient.beyond and patient.moves:
        return notes.skipped(f"whether the rows of a batch are kept apart: {patient.beyond}.")
    x = patient.x.clone()
    x[0] = next(row for row in x if not torch.equal(row, x[0]))
    before, after = (patient.run(x=batch, training=False) for batch in (patient.x, x))
    most = (0.0, "")
    for name, part in {"the output": "recon", "μ": "mu", "the spread": "spread", "z": "code"}.items():
        a, b = getattr(before, part), getattr(after, part)
        if a is None or len(a) != len(x):
            continue
        own, *others = (a - b).abs().flatten(1).amax(1).tolist()
        if max(others) > max(1e-3 * own, 1e-5 * a.abs().max().item()):
            measured = f"{name} moves by {own:.2g} there, by up to {max(others):.2g} in other rows"
            most = max(most, (max(others) / (own + 1e-12), f"one row of x is changed: {measured}"))
        elif part == "recon":  # on the way to it codes may stand sorted
            break
    if most[0]:
        text = "In eval() the rows of a batch influence one another (a norm over the batch?)."
        text = text if most[0] < 0.5 else "Rows of the batch are mixed: an example is made of others, too."
        return notes.found("remark" if most[0] < 0.5 else "warning", "rows-mixed", text, most[1])
    if after.recon is not None and len(after.recon) == len(x):
        notes.well("in eval() each row of the batch is made of its own row of x")


@contextmanager
def _shaken(patient: Patient) -> Iterator[None]:
    """While active, the weights that only the spread depends on have random values added; then they go back."""
    noise, values = normals(0), [p.detach().clone() for p in patient.parameters]
    try:
        for parameter, mask in zip(patient.parameters, patient.only(patient.spread, patient.mu), strict=True):
            scale = 1.0 if parameter.dim() < 2 else parameter[:1].numel() ** -0.5
            parameter.data += torch.where(mask, scale * noise(parameter), 0.0)
        yield
    finally:
        for parameter, value in zip(patient.parameters, values, strict=True):
            parameter.data.copy_(value)  # through .data: graphs stay usable
