"""Invertible maps of codes, with the logarithm of their Jacobian's determinant. B is the batch size, L the code's."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

HIDDEN = 64  # width of the one hidden layer in a coupling
MOST_STRETCH = 3.0  # of |log scale| in one coupling: a factor of 20 is more than a layer needs, and cannot overflow
_SHIFT = math.log(math.e - 1)


def invertible_u(u: Tensor, w: Tensor) -> Tensor:
    """û, of the shape (…, L) of ``u`` and ``w``: ``u`` moved along ``w`` until wᵀû > −1, so that the map is one to one.

    û = u + (m(wᵀu) − wᵀu) w / ‖w‖², with m(a) = log(1 + eᵃ) − 1 as in Rezende & Mohamed 2015, appendix A.1, but
    shifted so that m(0) = 0: u = 0 is then the identity. Below a = −10 the rounding of m would reach −1: it is cut off.
    """
    wu = (w * u).sum(-1, keepdim=True)
    a = wu.clamp(min=-10.0) + _SHIFT
    m = F.softplus(a) - F.softplus(torch.full_like(a, _SHIFT))
    return u + (m - wu) * w / w.square().sum(-1, keepdim=True)


def planar(z: Tensor, u: Tensor, w: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """f(z) = z + û tanh(wᵀz + b) and log|det ∂f/∂z| = log(1 + ûᵀw (1 − tanh²)): (B, L) and (B,).

    Shapes: ``z``, ``u``, ``w`` (B, L), ``b`` (B, 1). û is :func:`invertible_u` of u. Source: Rezende & Mohamed 2015,
    section 4.1.
    """
    u = invertible_u(u, w)
    h = ((w * z).sum(-1, keepdim=True) + b).tanh()
    return z + u * h, torch.log1p(((u * w).sum(-1, keepdim=True) * (1 - h.square())).squeeze(-1))


class Coupling(nn.Module):
    """One half of a code stretches and shifts the other: z_b' = z_b · exp(s(z_a, c)) + t(z_a, c), z_a' = z_a.

    ``last`` says which half moves; ``features`` is the length of the context c, 0 for none. Starts as the identity.
    The scale is bounded smoothly. Raises ``ValueError`` for codes of one number, which have no halves.
    Source: Dinh, Sohl-Dickstein & Bengio 2017, section 3.2.
    """

    def __init__(self, latent_dim: int, *, features: int = 0, last: bool = True) -> None:
        super().__init__()
        if latent_dim < 2:
            raise ValueError(f"a coupling needs two halves of a code, so latent_dim of at least 2, got {latent_dim}")
        self.kept = latent_dim // 2 if last else latent_dim - latent_dim // 2
        self.last = last
        moved = latent_dim - self.kept
        self.net = nn.Sequential(
            nn.Linear(self.kept + features, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 2 * moved)
        )  # fmt: skip
        nn.init.zeros_(self.net[-1].weight)
        nn.init.zeros_(self.net[-1].bias)

    def forward(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """z (B, L) and c (B, features) → z' (B, L) and log|det ∂z'/∂z| (B,)."""
        kept, moved = self._halves(z)
        log_scale, shift = self._from(kept, context)
        return self._joined(kept, moved * log_scale.exp() + shift), log_scale.sum(1)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """z' (B, L) and c → z (B, L) and log|det ∂z/∂z'| (B,), the negative of the other direction's."""
        kept, moved = self._halves(z)
        log_scale, shift = self._from(kept, context)
        return self._joined(kept, (moved - shift) * (-log_scale).exp()), -log_scale.sum(1)

    def _from(self, kept: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        log_scale, shift = self.net(kept if context is None else torch.cat([kept, context], 1)).chunk(2, 1)
        return MOST_STRETCH * (log_scale / MOST_STRETCH).tanh(), shift

    def _halves(self, z: Tensor) -> tuple[Tensor, Tensor]:
        parts = (z[:, : self.kept], z[:, self.kept :]) if self.last else (z[:, -self.kept :], z[:, : -self.kept])
        return parts

    def _joined(self, kept: Tensor, moved: Tensor) -> Tensor:
        return torch.cat([kept, moved] if self.last else [moved, kept], 1)


def couplings(latent_dim: int, layers: int, *, features: int = 0) -> nn.ModuleList:
    """``layers`` couplings that move the last half and the first half in turn."""
    return nn.ModuleList(Coupling(latent_dim, features=features, last=i % 2 == 0) for i in range(layers))
