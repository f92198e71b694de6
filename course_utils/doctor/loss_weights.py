"""Fits closed forms to a loss's derivatives: which likelihood, which KL, and the weight of each."""

from dataclasses import dataclass

import torch
from torch import Tensor

from course_utils.doctor.loss_probe import LossProbe, NoLoss
from course_utils.doctor.outputs import SPREADS, same, slopes
from course_utils.doctor.patient import Patient
from course_utils.doctor.probe import exact, gradients
from course_utils.losses.likelihoods import ContinuousBernoulli

TOLERANCE = 0.01  # share of a derivative that may stay unexplained by a closed form
FAR = 20.0  # times larger means, for which the KL is far beyond any target or free bits


@dataclass
class Posterior:
    """What the derivatives with respect to μ and the spread say, as weights of ½μ², ½σ² and −½ log σ².

    ``state`` is "nothing", "linear", "Gaussian" (the weights say all), "learned" (each number's own prior) or "other".
    """

    state: str
    mu: float = 0.0
    var: float = 0.0
    log: float = 0.0
    kind: str | None = None  # what the KL takes the spread for
    pull: Tensor | None = None  # the derivatives of the first copy of the batch

    @property
    def is_kl(self) -> bool:
        """Whether the three weights agree, or only μ's could be measured."""
        weights = (self.mu, self.var, self.log)
        return self.state in ("Gaussian", "learned") and max(weights) - min(weights) <= 0.02 * max(map(abs, weights))


@dataclass
class Measured:
    """What the derivatives of a loss say: a·recon + b·KL."""

    form: str | None  # of the reconstruction term
    a: float  # its weight, of the sum over pixels
    target: Tensor | None  # what the output is compared with, where that is not x
    near: Posterior  # at means of the order of 1
    far: Posterior | None = None  # where the KL is large
    low: float | None = None  # the weight of ½μ² where the KL is next to nothing


def measure(probe: LossProbe, patient: Patient) -> Measured:
    """Differentiate the loss at random numbers and fit the closed forms."""
    generator = torch.Generator().manual_seed(1)
    if "recon" not in probe.likes:
        raise NoLoss("it is not computed from the reconstruction that was found, so it cannot be opened.")
    recons = [probe.random("recon", generator, 0.05, 0.95) for _ in range(2)]
    if "mu" not in probe.likes:
        grads = [_slopes(probe, [("recon", recon)])[0] for recon in recons]
        return Measured(*fit_likelihood(recons, grads, probe.x), Posterior("unknown"))
    measured = None
    for site in probe.spreads or [probe.spread]:  # the returned one, or what it was computed from
        probe.spread = site
        found = _measure(probe, patient, recons, generator)
        if measured is None or found.near.is_kl:
            measured = found
        if found.near.is_kl:
            break
    if measured.near.state == "other" and measured.form is None and patient.exact:
        code, (_, tape) = patient.run(noise=1.0).code, probe.natural(1.0)
        found = (site for site, t in tape.results() if t.numel() == code.numel() and same(t, code))
        probe.hold = dict.fromkeys(list(found)[:1], code.detach())  # a variance of the decoder's own follows z, hence μ
        held = _measure(probe, patient, recons, generator)
        measured = held if held.near.is_kl else measured
    if measured.near.kind and probe.spread != (probe.spreads or [probe.spread])[0]:
        _, tape = probe.natural()
        made_of, returned = (exact(tape.at(site)) for site in (probe.spread, probe.spreads[0]))
        measured.near.kind = _as_returned(measured.near.kind, made_of, returned)
    return measured


def _as_returned(kind: str, made_of: Tensor, returned: Tensor) -> str | None:
    """What the returned spread is, if what it was made of is of that kind: where both give the same σ."""
    log_sigma = SPREADS[kind].log_sigma(made_of).flatten()
    apart = {k: (s.log_sigma(returned).flatten() - log_sigma).abs().max().item() for k, s in SPREADS.items()}
    best = min(apart, key=apart.__getitem__)
    return best if apart[best] < 1e-3 * log_sigma.abs().max() else None  # at σ = 1 many are alike


def _measure(probe: LossProbe, patient: Patient, recons: list[Tensor], generator: torch.Generator) -> Measured:
    assumed = patient.spread_kind[0] or patient.reading.kind or "log_var"
    parts = [("recon", recons[0]), ("mu", probe.random("mu", generator, -2.0, 2.0))]
    if "spread" in probe.likes:
        s = probe.random("spread", generator, -2.0, 1.0)
        parts.append(("spread", s.exp() if assumed in ("std", "var") else s))
    first = _slopes(probe, parts)
    second = _slopes(probe, [("recon", recons[1]), *parts[1:]])[0]
    likelihood = fit_likelihood(recons, [first[0], second], probe.x)
    mus = [probe.random("mu", generator, -2.0, 2.0) for _ in range(2)]
    near = _posterior(probe, parts, mus, first, assumed)
    far = None
    if near.state in ("nothing", "other") or (near.state == "Gaussian" and min(near.mu, near.var) < 0):
        parts[1] = ("mu", FAR * parts[1][1])
        far = _posterior(probe, parts, [FAR * mu for mu in mus], _slopes(probe, parts), assumed)
    low = None
    if near.state == "Gaussian" and near.is_kl:
        small = [("mu", 0.005 * mus[0])]
        if "spread" in probe.likes:
            small.append(("spread", s.exp().pow(0.005) if assumed in ("std", "var") else 0.005 * s))
        low = fit(exact(small[0][1]), exact(_slopes(probe, [parts[0], *small])[1]))[0]
    return Measured(*likelihood, near, far, low)


def _slopes(probe: LossProbe, parts: list[tuple[str, Tensor]]) -> list[Tensor]:
    """Derivatives of the loss with respect to each part, averaged over ε = 1 and ε = −1.

    A KL that is estimated from z is a square in ε, and these two points give the expectation of a square exactly.
    """
    total = [0.0] * len(parts)
    for noise in (1.0, -1.0):
        points = {name: value.clone().requires_grad_() for name, value in parts}
        loss = probe(noise=noise, **points)
        total = [t + 0.5 * g for t, g in zip(total, gradients(loss, list(points.values())), strict=True)]
    if not all(g.isfinite().all() for g in total):
        raise NoLoss("it gives NaN or infinity on ordinary numbers of the doctor's own, so it cannot be opened.")
    return total


def _posterior(
    probe: LossProbe, parts: list[tuple[str, Tensor]], mus: list[Tensor], first: list[Tensor], assumed: str
) -> Posterior:
    """Fit the weights of the KL's three terms, at three sets of means and one of spreads."""
    others = [_slopes(probe, [parts[0], ("mu", mu), *parts[2:]])[1] for mu in mus]
    mu, g_mu = (exact(torch.stack(tensors)) for tensors in ([parts[1][1], *mus], [first[1], *others]))
    size = len(probe.patient.x)
    pull = g_mu[0, :size].flatten()
    if len(parts) < 3:  # the spread was not found
        weight, rest = fit(mu, g_mu)
        state = "Gaussian" if rest < TOLERANCE else "other"
        state = "nothing" if not g_mu.any() else "linear" if _alike(g_mu, g_mu.mean(0)) else state
        return Posterior(state, weight, weight, weight, None, pull)
    s, g_s = exact(parts[2][1]), exact(first[2])
    pull = torch.cat([pull, g_s[:size].flatten()])
    if not g_mu.any() and not g_s.any():
        return Posterior("nothing")
    linear_mu, linear_s = _alike(g_mu, g_mu.mean(0)), _alike(g_s, g_s.mean())
    if linear_mu and linear_s:
        return Posterior("linear")
    weight, rest = fit(mu, g_mu) if g_mu.any() else (0.0, 0.0)
    kind, var, log, unexplained = _fit_spread(s, g_s, assumed)
    if rest < TOLERANCE and unexplained < TOLERANCE:
        return Posterior("Gaussian", weight, var, log, kind, pull)
    for kind in set(SPREADS) - {assumed} if weight and rest < TOLERANCE else ():
        b, unexplained = fit(_estimate(assumed, kind, s), g_s)
        if unexplained < TOLERANCE and abs(b / weight - 1) < 0.02:
            return Posterior("Gaussian", weight, b, b, kind, pull)
    if (b := _other_prior(mu, g_mu, s, g_s, assumed)) is not None:
        return Posterior("learned", b, b, b, assumed, pull)
    return Posterior("other", weight)


def _fit_spread(s: Tensor, g: Tensor, assumed: str) -> tuple[str, float, float, float]:
    """What does the KL take s for, with which weights of ½σ² and −½ log σ², and what stays unexplained?"""
    positive = assumed in ("std", "var")
    kinds = [assumed, *(kind for kind in SPREADS if (positive or kind.startswith("log")) and kind != assumed)]
    fits = []
    for kind in kinds:
        forms = torch.stack([0.5 * part.flatten() for part in slopes(kind, s)], 1)
        weights = torch.linalg.lstsq(forms, g.flatten()[:, None]).solution
        rest = ((forms @ weights).flatten() - g.flatten()).norm() / g.norm().clamp_min(1e-30)
        fits.append((kind, weights[0].item(), -weights[1].item(), rest.item()))
    good = next((found for found in fits if found[3] < TOLERANCE), None)  # the assumed kind comes first
    return good or min(fits, key=lambda found: found[3])


def _estimate(drawn: str, kind: str, s: Tensor) -> Tensor:
    """d/ds of ½σ² − ½ log τ² − ½σ²/τ², the KL as estimated from z ~ N(μ, σ²) with the density of N(μ, τ²).

    σ is what ``drawn`` makes of s, τ is what ``kind`` does.
    """
    (variance, log_sigma), (_, log_tau) = slopes(drawn, s), slopes(kind, s)
    ratio = (2 * (SPREADS[drawn].log_sigma(s) - SPREADS[kind].log_sigma(s))).exp()
    return 0.5 * (variance - log_tau - ratio * (log_sigma - log_tau))


def _other_prior(mus: Tensor, g_mu: Tensor, s: Tensor, g_s: Tensor, kind: str) -> float | None:
    """The weight b of a KL to N(m, v) with any m and v for each number; None if it is no such KL.

    Then d/dμ = b(μ − m)/v is affine in μ with slope k = b/v, and d/ds = ½(k·dσ²/ds − b·d log σ²/ds) gives b.
    """
    if s.shape != mus.shape[1:]:
        return None
    k = (g_mu[1] - g_mu[0]) / (mus[1] - mus[0])
    expected = g_mu[0] + k * (mus[2] - mus[0])
    if (expected - g_mu[2]).norm() > TOLERANCE * g_mu[2].norm() or not ((k > 0).all() or (k < 0).all()):
        return None
    variance, log_variance = slopes(kind, s)
    b = (k * variance - 2 * g_s) / log_variance
    return b.mean().item() if b.std() < 0.02 * b.mean().abs() else None


def _alike(values: Tensor, reference: Tensor) -> bool:
    return bool((values - reference).abs().max() <= 1e-3 * values.abs().max())


def fit_likelihood(recons: list[Tensor], grads: list[Tensor], x: Tensor) -> tuple[str | None, float, Tensor | None]:
    """Which likelihood has these derivatives at two reconstructions, with which weight, and which target if not x?

    Each derivative is a·w(r)·(φ(r) − target); if x is not the target, two reconstructions tell a without it. For the
    squared error a is the weight of (r − x)², of a Gaussian 1/2σ². "none": no dependence on r. None: no such form.
    """
    r, other, g, g_other, x = (exact(t.flatten(1)) for t in (*recons, *grads, x))
    if not g.any():
        return "none", 0.0, None
    if r.shape != x.shape:  # probabilities of classes
        return None, 0.0, None
    mean = ContinuousBernoulli().mean
    forms = {  # name: (φ, w)
        "squared error": (lambda t: t, lambda t: 2.0),
        "BCE with logits": (torch.sigmoid, lambda t: 1.0),
        "BCE on probabilities": (lambda t: t, lambda t: 1 / (t * (1 - t))),
        "continuous Bernoulli": (mean, lambda t: 1.0),
    }
    fits = {name: fit(w(r) * (phi(r) - x), g) for name, (phi, w) in forms.items()}
    fits["absolute error"] = fit((r - x).sign(), g)
    best = min(fits, key=lambda name: fits[name][1])
    if fits[best][1] < TOLERANCE:
        return best, fits[best][0], None
    blind = {name: fit(phi(r) - phi(other), g / w(r) - g_other / w(other)) for name, (phi, w) in forms.items()}
    best = min(blind, key=lambda name: blind[name][1])
    a, rest = blind[best]
    if not rest <= TOLERANCE or a == 0:
        return None, 0.0, None
    phi, w = forms[best]
    return best, a, phi(r) - g / w(r) / a


def fit(form: Tensor, g: Tensor) -> tuple[float, float]:
    """The weight with which ``form`` explains ``g`` best, and the share of it left unexplained, from 0 to 1."""
    if g.abs().max() == 0:
        return 0.0, 1.0
    weight = (form * g).sum() / form.square().sum()
    return weight.item(), ((g - weight * form).norm() / g.norm()).item()
