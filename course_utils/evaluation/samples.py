"""Measurements of generation: where codes lie, what is drawn, and what lies between.

They were written out in notebooks 01 and 06. Here they take codes, images and functions instead of a
model, so that every model of the course is put to the same ones.
"""

import math
from typing import NamedTuple

import torch
from scipy.stats import chi2
from torch import Tensor

from course_utils._checks import check_float, check_positive_int, check_same_shape, check_share
from course_utils.evaluation.judge import Judge


class CodeGaussian(NamedTuple):
    """A Gaussian over codes: ``mean`` (L,) and full ``covariance`` (L, L), in float64."""

    mean: Tensor
    covariance: Tensor

    def sample(self, n: int, *, seed: int = 0) -> Tensor:
        """``n`` codes (n, L) in float32, on the device of the mean; the same seed draws the same noise."""
        generator = torch.Generator().manual_seed(seed)
        eps = torch.randn(check_positive_int("n", n), len(self.mean), generator=generator).to(self.mean)
        return (self.mean + eps @ torch.linalg.cholesky(self.covariance).T).float()

    def squared_distance(self, z: Tensor) -> Tensor:
        """The squared Mahalanobis distance of codes (n, L) from the mean, (n,)."""
        offset = _check_codes("z", z, len(self.mean)).to(self.mean) - self.mean
        factor = torch.linalg.cholesky(self.covariance)
        return torch.linalg.solve_triangular(factor, offset.T, upper=False).square().sum(0)

    def nll(self, z: Tensor) -> Tensor:
        """−log density of codes (n, L), (n,), in nats."""
        constant = len(self.mean) * math.log(2 * math.pi) + torch.logdet(self.covariance)
        return 0.5 * (self.squared_distance(z) + constant)

    def kl_to_prior(self) -> float:
        """KL of this Gaussian from N(0, I), in nats."""
        trace, log_det = self.covariance.trace(), torch.logdet(self.covariance)
        return (0.5 * (trace + self.mean.square().sum() - len(self.mean) - log_det)).item()


def standard_normal(latent_dim: int, *, device: torch.device | str | None = None) -> CodeGaussian:
    """The prior N(0, I) over codes of ``latent_dim`` numbers."""
    latent_dim = check_positive_int("latent_dim", latent_dim)
    options = dict(dtype=torch.float64, device=device)
    return CodeGaussian(torch.zeros(latent_dim, **options), torch.eye(latent_dim, **options))


def fit_gaussian(codes: Tensor) -> CodeGaussian:
    """The Gaussian with the mean and full covariance of codes (N, L); for N > L.

    Raises ``ValueError`` for other shapes. Source: Ghosh et al. 2020, section 4, ex-post density estimation.
    """
    _check_codes("codes", codes)
    if len(codes) <= codes.shape[1]:
        raise ValueError(f"a covariance of {codes.shape[1]} dimensions needs more codes than that, got {len(codes)}")
    codes = codes.double()
    return CodeGaussian(codes.mean(0), torch.cov(codes.T).reshape(codes.shape[1], -1))


# --------------------------------------------------------------------------------------------------- coverage


def lost_share(samples: Tensor, train_codes: Tensor, test_codes: Tensor, *, quantile: float = 0.95) -> float:
    """The share of sampled codes that are farther from every training code than 95 % of the test codes are.

    Shapes: (n, L), (N, L), (M, L). Test codes themselves score 1 − ``quantile``. Raises ``ValueError`` for codes of
    different lengths.
    """
    size = _check_codes("train_codes", train_codes).shape[1]
    for name, codes in {"samples": samples, "test_codes": test_codes}.items():
        _check_codes(name, codes, size)
    quantile = check_share("quantile", quantile)
    usual = _nearest(test_codes, train_codes)[0].quantile(quantile)
    return (_nearest(samples, train_codes)[0] > usual).float().mean().item()


def reached_share(test_codes: Tensor, drawn_from: CodeGaussian, *, share: float = 0.95) -> float:
    """The share of test codes (M, L) inside the ellipsoid that holds 95 % of what ``drawn_from`` draws.

    For N(0, I) it is the ball around 0 with the radius that 95 % of the samples stay in.
    """
    bound = chi2.ppf(check_share("share", share), df=len(drawn_from.mean))
    return (drawn_from.squared_distance(test_codes) < bound).float().mean().item()


# ----------------------------------------------------------------------------------------------------- kinds


def effective_classes(judge: Judge, images: Tensor) -> float:
    """exp(entropy) of the judge's classes among the recognised images: from 1 to 10, and 0 where none is recognised."""
    classes = judge.probabilities(images).argmax(1)[judge.recognised(images)]
    if len(classes) == 0:
        return 0.0
    shares = torch.bincount(classes, minlength=10) / len(classes)
    return torch.special.entr(shares).sum().exp().item()


# ----------------------------------------------------------------------------------------------------- paths


def linear(a: Tensor, b: Tensor, t: float) -> Tensor:
    """The straight line from codes a (t = 0) to codes b (t = 1), (B, L) each."""
    check_same_shape("a", a, "b", b)
    return (1 - t) * a + t * b


def spherical(a: Tensor, b: Tensor, t: float) -> Tensor:
    """Along the arc from codes a (t = 0) to codes b (t = 1), (B, L) each; for equal lengths it stays on the sphere.

    Where a and b are parallel it is the straight line. Source: Shoemake 1985; for latent spaces White 2016.
    """
    check_same_shape("a", a, "b", b)
    cosine = torch.nn.functional.cosine_similarity(a, b, dim=-1).clamp(-1, 1)
    angle = cosine.arccos()[:, None]
    sine = angle.sin()
    safe = torch.where(sine < 1e-4, torch.ones_like(sine), sine)
    arc = ((1 - t) * angle).sin() / safe * a + (t * angle).sin() / safe * b
    return torch.where(sine < 1e-4, linear(a, b, t), arc)


def _nearest(points: Tensor, others: Tensor, *, chunk: int = 2_000) -> tuple[Tensor, Tensor]:
    parts = [torch.cdist(part, others).min(1) for part in points.split(chunk)]
    return torch.cat([part.values for part in parts]), torch.cat([part.indices for part in parts])


def _check_codes(name: str, codes: Tensor, size: int | None = None) -> Tensor:
    check_float(name, codes)
    if codes.dim() != 2 or 0 in codes.shape:
        raise ValueError(f"{name} must be codes (N, L), got shape {tuple(codes.shape)}")
    if size not in (None, codes.shape[1]):
        raise ValueError(f"{name} have {codes.shape[1]} numbers each, expected {size} as the others have")
    if not codes.isfinite().all():
        raise ValueError(f"{name} must be finite, got NaN or infinite numbers")
    return codes
