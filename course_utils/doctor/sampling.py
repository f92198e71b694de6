"""How z is drawn: is there noise at all, new at every call, for every number, of the size that the encoder says?"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from course_utils.doctor.outputs import SPREADS
from course_utils.doctor.patient import NORMS, Patient
from course_utils.doctor.probe import weights_kept
from course_utils.doctor.report import Notes

SIGMA = {"log_var": "exp(½s)", "log_std": "exp(s)", "std": "s", "var": "√s"}  # σ, for the encoder's second output s


def check_noise(patient: Patient, notes: Notes) -> None:
    """Two calls must differ; the rows of a batch of equal examples too; the noise must have mean 0 and std 1."""
    if not patient.samples:
        return _nothing_moves(patient, notes)
    notes.well("two calls give two samples")
    size = len(patient.x)
    cond = None if patient.cond is None else patient.cond[:1].expand_as(patient.cond)
    runs = [patient.run(x=patient.x[:1].expand_as(patient.x), cond=cond, seed=seed) for seed in range(8)]
    calm = patient.run(x=patient.x[:1].expand_as(patient.x), cond=cond, noise=0.0)
    pairs = [(run.code if calm.code is not None else run.z if run.z is not None else run.recon) for run in runs]
    if pairs[0] is None:
        return notes.skipped("the noise of a batch: neither z nor a reconstruction was found.")
    rows = torch.stack([values.detach() for values in pairs])  # (8, B, L)
    scale = (rows - rows.mean(0)).abs().max()
    if rows.shape[1] == size and (rows - rows[:, :1]).abs().max() < 1e-5 * scale:
        return notes.found(
            "noise-shared", "error",
            "All examples of a batch get the same noise, so a larger batch averages none of it away.",
            f"{size} copies of one example: largest difference between their samples "
            f"{(rows - rows[:, :1]).abs().max().item():.2g}; between two calls {scale.item():.2g}",
        )  # fmt: skip
    if patient.sigma is None or calm.code is None:
        return notes.skipped("the distribution of the noise: the draws were not seen.")
    sigma = patient.sigma[:1].detach()
    if not (sigma.abs() > 1e-12).all():
        return notes.skipped("the distribution of the noise: σ is 0 in some dimensions.")
    eps = (rows - calm.code.detach()) / sigma  # (8, B, L)
    if eps.shape[2] > 1 and (eps - eps[..., :1]).abs().max() < 1e-3 * eps.abs().max():
        return notes.found(
            "noise-shared", "error",
            "All latent dimensions of an example get the same noise: z is moved along one diagonal only.",
            f"largest difference between the noise of two dimensions: {(eps - eps[..., :1]).abs().max().item():.2g}",
        )  # fmt: skip
    notes.well("every example and every dimension gets noise of its own")
    count = eps.numel()
    mean, std = eps.mean().item(), eps.std().item()
    if abs(mean) > max(0.1, 6 / count**0.5) or abs(std - 1) > max(0.1, 5 / count**0.5):
        return notes.found(
            "noise-not-normal", "error",
            "The noise is not standard normal, so z is not a sample of N(μ, σ²), which the KL speaks about.",
            f"mean {mean:.3f} and standard deviation {std:.3f} of {count:,} draws, expected 0 and 1",
        )  # fmt: skip
    notes.well(f"the noise has mean 0 and standard deviation 1 ({mean:.2f} and {std:.2f} of {count:,} draws)")


def _nothing_moves(patient: Patient, notes: Notes) -> None:
    """No two calls differ: is there a frozen noise inside, or none?"""
    moved = None
    if patient.spread is not None and patient.mu_is_reported and patient.first.recon is not None:
        with _shaken(patient):
            moved = (patient.run().recon - patient.first.recon).abs().max().item()
    if (patient.first.probe.draws and patient.first.code is not None) or moved:
        seen = f", although {patient.first.probe.draws} draws were made" if patient.first.probe.draws else ""
        felt = f"; other values of log σ² move the output by up to {moved:.2g}" if moved else ""
        return notes.found(
            "noise-frozen", "error",
            "The noise is the same at every call. Noise that never changes can be learned by heart: this is an "
            "autoencoder with an offset.",
            f"difference between two calls with different seeds: 0{seen}{felt}",
        )  # fmt: skip
    felt = "; other values of log σ² do not move the output either" if moved == 0 else ""
    notes.found(
        "no-sampling", "error",
        "Nothing is sampled: the decoder gets μ (or another fixed code), so this is an autoencoder.",
        f"difference between two calls in train(): 0{felt}",
    )  # fmt: skip


def measure_spread(patient: Patient) -> tuple[str | None, str]:
    """Which function of the encoder's second output s is σ?  The one that fits, and the measurement in words.

    The weights that are log σ²'s own are shaken first, so that s is not near 0, where many functions agree.
    """
    if patient.sigma is None or patient.spread is None:
        return None, "the spread of z or the encoder's second output was not found"
    with _shaken(patient):
        zero, one = patient.run(noise=0.0), patient.run(noise=1.0)
        separate = patient.encoder_output()
        s, sigma = zero.spread if separate is None else separate[1], one.code - zero.code
    if s is None or s.shape != sigma.shape:
        return None, "z and the encoder's second output have different shapes"
    s, sigma = s.detach().double(), sigma.detach().double().abs()
    usable = sigma > 1e-30
    if not usable.any() or s.std() < 1e-3:
        return None, "the encoder's second output hardly varies"
    log_sigma, s = sigma[usable].log(), s[usable]
    guesses = {"log_var": s / 2, "log_std": s, "std": s.abs().log(), "var": s.abs().log() / 2}
    errors = {name: (log_sigma - guess).abs().median().item() for name, guess in guesses.items()}
    best = min(errors, key=errors.__getitem__)
    if errors[best] > 0.02:
        return None, f"σ is none of {', '.join(SIGMA.values())} (the closest is off by {errors[best]:.0%})"
    words = f"σ of z, measured by moving the noise, is {SIGMA[best]} to {max(errors[best], 1e-6):.1g}"
    return best, f"{words}; exp(½s) would be off by {errors['log_var']:.2g} in log σ" if best != "log_var" else words


def check_spread(patient: Patient, notes: Notes, kl_kind: str | None) -> None:
    """Do the sampler, the KL and the name of the encoder's second output mean the same σ?"""
    if notes.has("no-sampling", "noise-frozen", "one-head", "latents-averaged"):
        return notes.skipped("the size of the noise: the sampling (or the encoder) is broken already, see above.")
    kind, words = patient.spread_kind
    stated = kl_kind or patient.reading.kind
    by = f"the KL takes s for {_meaning(stated)}" if kl_kind else f"its name says that s is {_meaning(stated)}"
    if kind is None:
        if stated and "none of" in words:
            return notes.found(
                "sigma-mismatch", "warning", "σ of the sample is no usual function of s.", f"{words}; {by}"
            )
        return notes.skipped(f"the size of the noise: {words}.")
    if stated == kind or (stated is None and kind != "log_std"):
        return notes.well(f"the noise has the size that the encoder says ({words})")
    if kind == "log_std" and stated in (None, "log_var"):
        severity = "error" if stated else "warning"
        text = "The noise is multiplied by exp(log_var), which is σ² and not σ: the KL charges for other codes."
        if stated is None:
            by, text = "no name and no KL says otherwise", "σ is exp(s): right if s is log σ, wrong if s is log σ²."
        return notes.found("sigma-exp-log-var", severity, text, f"{words}; {by}")
    notes.found(
        "sigma-mismatch",
        "error",
        "The sampler and the KL disagree about the encoder's second output s.",
        f"{words}; {by}",
    )


def check_modes(patient: Patient, notes: Notes) -> None:
    """What changes between train() and eval(), and what stays random in eval()?"""
    runs = {
        (training, noise, seed): patient.run(training=training, noise=noise, seed=seed, as_is=True).recon
        for training, noise, seed in [
            (False, None, 0),
            (False, None, 1),
            (False, 0.0, 0),
            (False, 0.0, 1),
            (True, 0.0, 0),
        ]
    }
    if any(recon is None for recon in runs.values()):
        return notes.skipped("train() against eval(): no reconstruction was found.")
    still = [_apart(runs[False, 0.0, 0], runs[False, 0.0, 1]), _apart(runs[False, None, 0], runs[False, None, 1])]
    names = sorted(
        {type(m).__name__ for m in patient.model.modules() if isinstance(m, NORMS) or "Dropout" in type(m).__name__}
    )
    if still[0] and patient.draws:
        notes.found(
            "train-eval-difference", "warning",
            "In eval() the output stays random even without the latent noise: something like dropout is never off.",
            f"relative difference between two calls in eval() with the latent noise at 0: {still[0]:.2g}",
        )  # fmt: skip
    elif change := _apart(runs[True, 0.0, 0], runs[False, 0.0, 0]):
        notes.found(
            "train-eval-difference", "remark",
            f"Beyond the latent noise, train() and eval() give other outputs ({', '.join(names) or 'cause unknown'}).",
            f"relative difference with the latent noise at 0: {change:.2g}",
        )  # fmt: skip
    else:
        notes.well("train() and eval() differ in nothing but the latent noise, if at all")
    if still[1] and not still[0]:
        notes.found(
            "samples-at-evaluation", "remark",
            "In eval() z is still sampled. Right for an ELBO; for reconstructions the mean is usually meant.",
            f"relative difference between two calls in eval(): {still[1]:.2g}",
        )  # fmt: skip
    elif not still[1]:
        notes.well("in eval() the output is the same at every call")


def _apart(a: Tensor, b: Tensor) -> float:
    """Largest difference relative to the spread of a; 0 when below rounding."""
    a, b = a.detach(), b.detach()
    relative = ((a - b).abs().max() / (a - a.mean()).abs().max().clamp_min(1e-12)).item()
    return relative if relative > 1e-4 else 0.0


def _meaning(kind: str | None) -> str:
    return dict(zip(SPREADS, ("log σ²", "log σ", "σ²", "σ"), strict=True)).get(kind or "", "unknown")


@contextmanager
def _shaken(patient: Patient) -> Iterator[None]:
    """While active, the weights that only the spread depends on have random values added; then they go back."""
    generator = torch.Generator().manual_seed(0)
    with weights_kept(patient.model):
        masks = patient.only(patient.spread, patient.mu)
        for parameter, mask in zip(patient.parameters, masks, strict=True):
            if mask.any():
                scale = 1.0 if parameter.dim() < 2 else parameter[0].numel() ** -0.5
                noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64).to(parameter)
                parameter.data += torch.where(mask, scale * noise, 0.0)
        yield
