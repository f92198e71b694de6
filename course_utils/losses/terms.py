"""The terms of the objective: negative log-likelihoods and KL divergences, as functions.

Everything is per example, shape ``(B,)``, in nats: summed over the dimensions of one example and never averaged over
them. Take ``.mean()`` over the batch for the number to minimise. No factor is hidden and no constant is dropped, with
one exception that says so (:func:`squared_error`).
"""

import math
from collections.abc import Callable, ItemsView, Iterator
from typing import Any

import torch
from torch import Tensor

from course_utils._checks import check_batch, check_float, check_same_shape, check_symmetric, check_unit_interval

LOG_2PI = math.log(2 * math.pi)


class Terms:
    """What a model's ``loss`` returns: ``loss``, to be minimised, and the terms it is made of, by whatever names.

    Each is a tensor (B,), in nats per example: ``Terms(loss=recon + kl, recon=recon, kl=kl)``. They are read by name,
    ``terms.kl``, or in order: ``loss, recon, kl = terms``. Raises ``ValueError`` for a name that a method here has.
    """

    def __init__(self, *, loss: Any, **others: Any) -> None:
        if taken := sorted(name for name in others if hasattr(Terms, name)):
            raise ValueError(f"a term must have a name that Terms itself does not use, got {', '.join(taken)}")
        self.__dict__.update(loss=loss, **others)

    @property
    def names(self) -> tuple[str, ...]:
        """The terms' names, ``loss`` first."""
        return tuple(self.__dict__)

    def items(self) -> ItemsView[str, Any]:
        """Pairs of name and value, in order."""
        return self.__dict__.items()

    def map(self, f: Callable[[Any], Any]) -> "Terms":
        """The same terms with ``f`` of each value, as in ``terms.map(torch.mean)``."""
        return Terms(**{name: f(value) for name, value in self.items()})

    def __iter__(self) -> Iterator[Any]:
        return iter(self.__dict__.values())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Terms) and self.__dict__ == other.__dict__

    def __repr__(self) -> str:
        return f"Terms({', '.join(f'{name}={value!r}' for name, value in self.items())})"

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"no term {name!r}; there are {', '.join(self.__dict__)}")


def squared_error(x_hat: Tensor, x: Tensor) -> Tensor:
    """Squared error of each example, summed over its dimensions.

    Up to a constant this is a Gaussian negative log-likelihood with σ² = ½; by itself it is no density.

    Shapes: ``x_hat`` and ``x`` (B, …) → (B,). Raises ``ValueError`` when the shapes differ.
    """
    _check_pair("x_hat", x_hat, x)
    return (x - x_hat).square().flatten(1).sum(1)


def bernoulli_nll(logits: Tensor, x: Tensor) -> Tensor:
    """Binary cross-entropy between pixels and Bernoulli logits, summed over the pixels of each example.

    For x in {0, 1} it is −log p(x|z). For grey pixels it is the cross-entropy that VAE code usually reports, but no
    normalised density: see :func:`continuous_bernoulli_nll`. Computed from logits, so it stays exact when they are
    large.

    Shapes: ``logits`` and ``x`` (B, …), ``x`` in [0, 1] → (B,) nats. Raises ``ValueError`` for other ranges or shapes.
    Source: Kingma & Welling 2014, Appendix C.1, with the sign reversed.
    """
    _check_pair("logits", logits, x)
    check_unit_interval("x", x)
    # max(l, 0) − l·x + log(1 + e^−|l|), as F.binary_cross_entropy_with_logits computes it, with max(l, 0) = ½|l| + ½l,
    # and −log σ(|l|) for the logarithm: with log1p, loss and gradient together take twice as long on a CPU.
    size = logits.abs()
    return (0.5 * size - size.sigmoid().log() + (0.5 - x) * logits).flatten(1).sum(1)


def continuous_bernoulli_nll(logits: Tensor, x: Tensor) -> Tensor:
    """−log p(x|z) under the continuous Bernoulli, the density on [0, 1] that binary cross-entropy lacks.

    Shapes: ``logits`` and ``x`` (B, …), ``x`` in [0, 1] → (B,) nats; it can be negative, as densities exceed 1.
    Raises ``ValueError`` for other ranges or shapes. Source: Loaiza-Ganem & Cunningham 2019.
    """
    return bernoulli_nll(logits, x) - log_normaliser(logits).flatten(1).sum(1)


def log_normaliser(logits: Tensor) -> Tensor:
    """log C of the continuous Bernoulli: log(η / tanh(η / 2)) at logit η, which tends to log 2 at η = 0."""
    small = logits.abs() < 1e-2
    away = torch.where(small, torch.ones_like(logits), logits).abs()  # keeps 0/0 out of the gradient too
    exact = away.log() - (away / 2).tanh().log()
    square = logits.square()
    series = math.log(2) + square / 12 - 7 * square.square() / 1440  # harmless: 1440 → 1441 (below 1e-10 in use)
    return torch.where(small, series, exact)


def gaussian_nll(mean: Tensor, x: Tensor, *, sigma: float | Tensor = 1.0) -> Tensor:
    """−log N(x; mean, σ² I), all constants included: D/2·log 2π + D·log σ + ‖x − mean‖² / 2σ².

    Shapes: ``mean`` and ``x`` (B, …); ``sigma`` a positive number, a tensor with one element, or one value per
    dimension, of shape ``x.shape[1:]`` → (B,) nats. Raises ``ValueError`` for other shapes or when σ ≤ 0.
    """
    _check_pair("mean", mean, x)
    sigma = torch.as_tensor(sigma, dtype=mean.dtype, device=mean.device)
    if sigma.numel() != 1 and sigma.shape != x.shape[1:]:
        raise ValueError(
            f"sigma must be one number or have the shape of one example, {tuple(x.shape[1:])}, got {tuple(sigma.shape)}"
        )
    if not (sigma > 0).all():
        raise ValueError(f"sigma must be positive, got a smallest value of {sigma.min().item():.4g}")
    sigma = sigma.reshape(()) if sigma.numel() == 1 else sigma
    per_dimension = 0.5 * LOG_2PI + sigma.log() + 0.5 * ((x - mean) / sigma).square()
    return per_dimension.flatten(1).sum(1)


def gaussian_kl(mu: Tensor, log_var: Tensor, *, prior: tuple[Tensor, Tensor] | None = None) -> Tensor:
    """KL(N(μ, diag σ²) ‖ N(0, I)) of each example: ½ Σ (μ² + σ² − 1 − log σ²), in nats, never negative.

    With ``prior``, a pair ``(mu_p, log_var_p)``, the second Gaussian is N(μ_p, diag σ_p²) instead:
    ½ Σ ((μ − μ_p)²/σ_p² + σ²/σ_p² − 1 − log σ²/σ_p²).

    Shapes: all (B, L), or (B, …, L), summed over all but the first → (B,); ``log_var`` is log σ². Raises
    ``ValueError`` when shapes differ. Source: Kingma & Welling 2014, Appendix B; between two Gaussians, the diagonal
    case of :func:`gaussian_kl_full`.
    """
    return gaussian_kl_terms(mu, log_var, prior=prior).flatten(1).sum(1)


def gaussian_kl_terms(mu: Tensor, log_var: Tensor, *, prior: tuple[Tensor, Tensor] | None = None) -> Tensor:
    """The share of each latent dimension in :func:`gaussian_kl`, in nats: arguments as there → (B, …, L)."""
    check_batch("mu", mu)
    check_batch("log_var", log_var)
    check_same_shape("mu", mu, "log_var", log_var)
    if prior is not None:
        mu_p, log_var_p = prior
        check_same_shape("mu", mu, "the prior's mu", mu_p)
        check_same_shape("mu", mu, "the prior's log_var", log_var_p)
        log_var = log_var - log_var_p  # of q in units of p: what follows is then the KL to N(0, I)
        mu = (mu - mu_p) * (-0.5 * log_var_p).exp()
    # expm1 keeps σ² − 1 exact near σ = 1, where the KL is a small difference of larger numbers.
    return 0.5 * (mu.square() + log_var.expm1() - log_var)


def gaussian_kl_full(mean_q: Tensor, cov_q: Tensor, mean_p: Tensor, cov_p: Tensor) -> Tensor:
    """KL(N(m_q, S_q) ‖ N(m_p, S_p)) between Gaussians with full covariances, in nats.

    ½ [tr(S_p⁻¹ S_q) + (m_p − m_q)ᵀ S_p⁻¹ (m_p − m_q) − L + log det S_p − log det S_q], by Cholesky factors.

    Shapes: ``mean_q`` (B, L) and ``cov_q`` (B, L, L); ``mean_p`` and ``cov_p`` the same, or (L,) and (L, L) for one p
    that serves all examples → (B,). Raises ``ValueError`` for other shapes, and for a matrix that is not symmetric
    positive definite.
    """
    check_batch("mean_q", mean_q)
    check_float("mean_p", mean_p)
    size, latent = mean_q.shape[0], mean_q.shape[-1]
    if mean_q.dim() != 2 or cov_q.shape != (size, latent, latent):
        raise ValueError(
            f"mean_q and cov_q must be (B, L) and (B, L, L), got {tuple(mean_q.shape)} and {tuple(cov_q.shape)}"
        )
    if (mean_p.shape, cov_p.shape) not in (((latent,), (latent, latent)), (mean_q.shape, cov_q.shape)):
        raise ValueError(
            f"mean_p and cov_p must be ({latent},) and ({latent}, {latent}), or batched like q, "
            f"got {tuple(mean_p.shape)} and {tuple(cov_p.shape)}"
        )
    chol_q, chol_p = _cholesky("cov_q", cov_q), _cholesky("cov_p", cov_p)
    chol_p = chol_p.expand_as(chol_q)
    whitened = torch.linalg.solve_triangular(chol_p, chol_q, upper=False)  # tr(S_p⁻¹ S_q) = ‖C_p⁻¹ C_q‖²
    trace = whitened.square().sum((-2, -1))
    offset = torch.linalg.solve_triangular(chol_p, (mean_p - mean_q).unsqueeze(-1), upper=False)
    mahalanobis = offset.square().sum((-2, -1))
    half_log_det_q, half_log_det_p = (c.diagonal(dim1=-2, dim2=-1).log().sum(-1) for c in (chol_q, chol_p))
    return 0.5 * (trace + mahalanobis - latent) + half_log_det_p - half_log_det_q


def _cholesky(name: str, covariance: Tensor) -> Tensor:
    check_symmetric(name, covariance)
    factor, info = torch.linalg.cholesky_ex(covariance)
    if info.any() or not factor.isfinite().all():
        raise ValueError(f"{name} must be positive definite; is it a covariance, not a factor or a log-variance?")
    return factor


def _check_pair(name: str, params: Tensor, x: Tensor) -> None:
    check_batch(name, params)
    check_batch("x", x)
    check_same_shape(name, params, "x", x)
