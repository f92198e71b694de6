"""Families for the posterior q(z|x): a diagonal Gaussian, and what it can be bent into.

Each takes ``mu`` and ``log_var`` (B, L) of a diagonal Gaussian, and the encoder's features (B, F), from which it makes
the rest of its parameters; ``rsample`` gives codes z (B, L) and log q(z|x) (B,), in nats, with gradients through both.
Log-densities are float64, as large numbers are subtracted from each other later. Whatever bends the Gaussian starts as
the identity.
"""

import torch
from torch import Tensor, nn

from course_utils._checks import check_choice, check_same_shape
from course_utils.losses.terms import LOG_2PI
from course_utils.models.flows import couplings, planar
from course_utils.models.layers import reparameterize


class DiagonalGaussian(nn.Module):
    """q(z|x) = N(μ, diag σ²), which needs nothing beside μ and log σ²."""

    def __init__(self, latent_dim: int, features: int, layers: int = 0) -> None:
        super().__init__()
        self.latent_dim = latent_dim

    def rsample(
        self, mu: Tensor, log_var: Tensor, features: Tensor, *, eps: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """z ~ q(z|x), (B, L), and log q(z|x) (B,); ``eps`` (B, L) is standard normal noise, drawn here unless given."""
        eps = torch.randn_like(mu) if eps is None else eps
        check_same_shape("eps", eps, "mu", mu)
        z, log_det = self.bend(mu, log_var, features, eps)
        log_q0 = -0.5 * (eps.double().square() + LOG_2PI + log_var.double()).sum(1)
        return z, log_q0 - log_det.double()

    def steps(self, z: Tensor, features: Tensor) -> list[tuple[Tensor, Tensor]]:
        """z_0 (B, L) → z_k and its layer's log-determinant after each layer of a flow: (B, L) and (B,). Here none."""
        return []

    def bend(self, mu: Tensor, log_var: Tensor, features: Tensor, eps: Tensor) -> tuple[Tensor, Tensor]:
        """ε (B, L) → z (B, L), and log|det| (B,) of all that is done beyond z_0 = μ + σ·ε."""
        z, log_det = reparameterize(mu, log_var, eps=eps), torch.zeros_like(mu[:, 0])
        for step in self.steps(z, features):
            z, log_det = step[0], log_det + step[1]
        return z, log_det


class FullGaussian(DiagonalGaussian):
    """q(z|x) = N(μ, S) with a full covariance: z = μ + σ·(ε + N ε), where N is strictly lower triangular.

    The determinant of I + N is 1, so log q is that of the diagonal Gaussian at the same ε.
    """

    def __init__(self, latent_dim: int, features: int, layers: int = 0) -> None:
        super().__init__(latent_dim, features)
        self.below = _zeros(features, latent_dim * (latent_dim - 1) // 2)
        self.register_buffer("places", torch.tril_indices(latent_dim, latent_dim, -1), persistent=False)

    def bend(self, mu: Tensor, log_var: Tensor, features: Tensor, eps: Tensor) -> tuple[Tensor, Tensor]:
        """ε (B, L) → z (B, L), and log|det| (B,), which is 0."""
        below = torch.zeros(len(mu), self.latent_dim, self.latent_dim).to(mu)
        below[:, self.places[0], self.places[1]] = self.below(features)
        eps = eps + (below @ eps.unsqueeze(-1)).squeeze(-1)
        return reparameterize(mu, log_var, eps=eps), torch.zeros_like(mu[:, 0])


class PlanarFlow(DiagonalGaussian):
    """``layers`` planar maps after the diagonal Gaussian, with parameters of their own for every x.

    Source: Rezende & Mohamed 2015, sections 4.1 and 4.2.
    """

    def __init__(self, latent_dim: int, features: int, layers: int = 4) -> None:
        super().__init__(latent_dim, features)
        self.u = _zeros(features, layers * latent_dim)
        self.w_and_b = _zeros(features, layers * (latent_dim + 1))
        nn.init.normal_(self.w_and_b.bias)  # directions that differ; with u = 0 they do nothing yet

    def steps(self, z: Tensor, features: Tensor) -> list[tuple[Tensor, Tensor]]:
        """z_0 (B, L) → (z_k, its layer's log-determinant) after each layer: (B, L) and (B,)."""
        us = self.u(features).split(self.latent_dim, 1)
        found = []
        for u, wb in zip(us, self.w_and_b(features).split(self.latent_dim + 1, 1), strict=True):
            z, log_det = planar(z, u, wb[:, :-1], wb[:, -1:])
            found.append((z, log_det))
        return found


class CouplingFlow(DiagonalGaussian):
    """``layers`` affine couplings after the diagonal Gaussian, conditioned on the encoder's features.

    Their inverse is as cheap as they are. Source: the maps of Dinh, Sohl-Dickstein & Bengio 2017 in the place of those
    of Rezende & Mohamed 2015; with every coordinate moved by those before it, they would be Kingma et al. 2016's.
    """

    def __init__(self, latent_dim: int, features: int, layers: int = 4) -> None:
        super().__init__(latent_dim, features)
        self.couplings = couplings(latent_dim, layers, features=features)

    def steps(self, z: Tensor, features: Tensor) -> list[tuple[Tensor, Tensor]]:
        """z_0 (B, L) → (z_k, its layer's log-determinant) after each layer: (B, L) and (B,)."""
        found = []
        for coupling in self.couplings:
            z, log_det = coupling(z, features)
            found.append((z, log_det))
        return found


def _zeros(features: int, size: int) -> nn.Linear:
    """A linear layer that gives zeros at first."""
    if size < 1:
        raise ValueError("a full covariance needs a code of at least 2 numbers; in one dimension it is diagonal")
    layer = nn.Linear(features, size)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


POSTERIORS = {
    "diagonal": DiagonalGaussian, "full": FullGaussian, "planar": PlanarFlow, "coupling": CouplingFlow,
}  # fmt: skip


def make_posterior(name: str, latent_dim: int, features: int, layers: int) -> DiagonalGaussian:
    """The family of that name. Raises ``ValueError`` for another name."""
    return POSTERIORS[check_choice("posterior", name, tuple(POSTERIORS))](latent_dim, features, layers)
