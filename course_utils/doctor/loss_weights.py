"""Fits closed forms to a loss's derivatives: which likelihood, which KL, and the weight of each."""

from dataclasses import dataclass

import torch
from torch import Tensor

from course_utils.doctor.loss_probe import LossProbe, NoLoss, Numbers
from course_utils.doctor.patient import Patient
from course_utils.doctor.probe import gradients
from course_utils.doctor.spreads import SPREADS, slopes
from course_utils.losses.likelihoods import ContinuousBernoulli

TOLERANCE = 0.01  # share of a derivative that may stay unexplained by a closed form


@dataclass
class Measured:
    """What the derivatives of a loss say: a·recon + b·KL, with the KL's b read off μ and off the spread."""

    form: str | None  # of the reconstruction term
    a: float  # its weight, of the sum over pixels
    target: tuple[float, float] | None  # the range of what the output is compared with, where that is not x
    b_mu: float
    b_spread: float
    kind: str | None  # what the KL takes the spread for
    linear: bool  # whether the rest depends on μ or the spread, but only linearly
    curved: bool  # whether it depends on them in a way that is no KL to a Gaussian
    prior: str  # "N(0, I)", or in words
    pull: Tensor | None  # d loss / d (μ, spread) of the first copy of the batch

    @property
    def has_kl(self) -> bool:
        """Whether anything in the loss depends on μ or on the spread, more than linearly."""
        return self.curved or abs(self.b_mu) > 0 or abs(self.b_spread) > 0


def measure(probe: LossProbe, patient: Patient) -> Measured:
    """Differentiate the loss at random numbers and fit the closed forms."""
    generator = torch.Generator().manual_seed(1)

    def uniform(shape: torch.Size, low: float, high: float) -> Tensor:
        """The same numbers for each copy of the batch."""
        drawn = torch.rand(shape[0] // probe.copies, *shape[1:], generator=generator, dtype=torch.float64)
        return torch.cat([low + (high - low) * drawn] * probe.copies).to(probe.x)

    reading = probe.reading
    if reading.recon is None:
        raise NoLoss("no reconstruction was found in the output.")
    recons = [uniform(probe.shape(reading.recon), 0.05, 0.95) for _ in range(2)]
    if not probe.sees_posterior:
        points = [recon.clone().requires_grad_() for recon in recons]
        grads = [gradients(probe(Numbers(point)), [point])[0] for point in points]
        return Measured(*fit_likelihood(recons, grads, probe.x), 0.0, 0.0, None, False, False, "", None)
    assumed = patient.spread_kind[0] or reading.kind or "log_var"
    positive = assumed in ("std", "var")
    s = uniform(probe.shape(reading.spread), -2.0, 1.0)
    s = s.exp() if positive else s
    mus = [uniform(probe.shape(reading.mu), -2.0, 2.0) for _ in range(3)]
    results = [_derivatives(probe, recons[0], mu, s, assumed) for mu in mus]
    other = _derivatives(probe, recons[1], mus[0], s, assumed)[0]
    form, a, target = fit_likelihood(recons, [results[0][0], other], probe.x)
    g_mu, g_s = torch.stack([r[1] for r in results]).double(), results[0][2].double()
    b_mu, rest = fit(torch.stack(mus).double(), g_mu)
    kind, b_spread = _fit_spread(s.double(), g_s, positive)
    linear_mu = _alike(g_mu, g_mu.mean(0))  # the same derivative whatever μ is
    linear_s = kind is None and _alike(g_s, g_s.mean())
    curved = (not linear_mu and rest > TOLERANCE) or (kind is None and not linear_s)
    linear = bool((linear_mu and g_mu.any()) or (linear_s and g_s.any()))
    size = len(patient.x)
    pull = torch.cat([g_mu[0, :size].flatten(), g_s[:size].flatten()])
    b_mu, prior = 0.0 if linear_mu else b_mu, "N(0, I)"
    if curved and (b := _other_prior(torch.stack(mus).double(), g_mu, s.double(), g_s, assumed)) is not None:
        b_mu, b_spread, kind, linear, curved, prior = b, b, assumed, False, False, "another Gaussian (a learned one?)"
    return Measured(form, a, target, b_mu, b_spread, kind, linear, curved, prior, pull)


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


def _derivatives(probe: LossProbe, recon: Tensor, mu: Tensor, s: Tensor, kind: str) -> list[Tensor]:
    """Of the loss with respect to reconstruction, μ and spread, averaged over ε = 1 and ε = −1.

    A KL that is estimated from z is a square in ε, and two points with the moments of a standard normal give the
    expectation of a square exactly.
    """
    total = [0.0] * 3
    for noise in (1.0, -1.0):
        points = [t.clone().requires_grad_() for t in (recon, mu, s)]
        sigma = SPREADS[kind].log_sigma(points[2]).exp()
        loss = probe(Numbers(*points, sigma if sigma.shape == mu.shape else None), noise=noise)
        total = [t + 0.5 * g for t, g in zip(total, gradients(loss, points), strict=True)]
    return total


def _alike(values: Tensor, reference: Tensor) -> bool:
    return bool((values - reference).abs().max() <= 1e-3 * values.abs().max())


def fit_likelihood(
    recons: list[Tensor], grads: list[Tensor], x: Tensor
) -> tuple[str | None, float, tuple[float, float] | None]:
    """Which likelihood has these derivatives at two reconstructions, with which weight, and with x as its target?

    Each derivative is a·w(r)·(φ(r) − target). If x is not the target, two reconstructions tell a without it, and then
    what it is. For the squared error the weight is that of (r − x)²; a Gaussian's is 1/2σ². Returns "none" for a loss
    that does not depend on r, None for derivatives that fit nothing; the target's range where the target is not x.
    """
    r, other = (t.flatten(1).double() for t in recons)
    g, g_other = (t.flatten(1).double() for t in grads)
    x = x.flatten(1).double()
    if not g.any():
        return "none", 0.0, None
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
    if rest > TOLERANCE or a == 0:
        return None, 0.0, None
    phi, w = forms[best]
    target = phi(r) - g / w(r) / a
    return best, a, (target.min().item(), target.max().item())


def _fit_spread(s: Tensor, g: Tensor, positive: bool) -> tuple[str | None, float]:
    """What does the KL take s for, and with which weight?"""
    kinds = [kind for kind in SPREADS if positive or kind.startswith("log")]
    fits = {kind: fit(variance - log_variance, 2 * g) for kind in kinds for variance, log_variance in [slopes(kind, s)]}
    best = min(fits, key=lambda name: fits[name][1])
    return (best, fits[best][0]) if fits[best][1] < TOLERANCE else (None, 0.0)


def fit(form: Tensor, g: Tensor) -> tuple[float, float]:
    """The weight with which ``form`` explains ``g`` best, and the share of it left unexplained, from 0 to 1."""
    if g.abs().max() == 0:
        return 0.0, 1.0
    weight = (form * g).sum() / form.square().sum()
    return weight.item(), ((g - weight * form).norm() / g.norm()).item()
