"""Priors p(z): the standard normal, mixtures of Gaussians, and a flow.

Each has ``log_prob(z)``, (…, L) → (…) in nats and float64, and ``sample(n)``, (n, L): the one is the density of the
other. ``temperature`` multiplies the standard deviation of every Gaussian that a sampler begins with; ``loss`` lets a
prior be trained on codes by ``fit``. Samples have the dtype and device of the weights.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from course_utils._checks import check_batch, check_choice
from course_utils.losses.terms import LOG_2PI, Terms
from course_utils.models.flows import couplings
from course_utils.models.layers import check_no_beta, reparameterize, standard_noise

Encode = Callable[[Tensor], tuple[Tensor, Tensor]]  # images -> mu and log_var, (K, L) each


class StandardNormal(nn.Module):
    """p(z) = N(0, I)."""

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.register_buffer("zero", torch.zeros(1), persistent=False)  # knows dtype and device, and is not stored

    def log_prob(self, z: Tensor) -> Tensor:
        """log p(z) of codes (…, L): (…)."""
        return -0.5 * (z.double().square() + LOG_2PI).sum(-1)

    def sample(self, n: int, *, temperature: float = 1.0, generator: torch.Generator | None = None) -> Tensor:
        """``n`` codes (n, L)."""
        return standard_noise((n, self.latent_dim), self.zero, generator, temperature)


class _Learned(nn.Module):
    """What learned priors share: they can be trained on codes."""

    def loss(self, z: Tensor, *, beta: float = 1.0) -> Terms:
        """−log p(z) of codes (B, L), (B,), in nats; there is no KL for β to weigh."""
        check_no_beta(self, beta)
        return Terms(loss=-self.log_prob(check_batch("z", z)))


class _Mixture(_Learned):
    """A mixture of diagonal Gaussians, with whatever ``parts`` gives: weights (K,) as logits, mu, log_var (K, L)."""

    def parts(self) -> tuple[Tensor, Tensor, Tensor]:
        raise NotImplementedError

    def log_prob(self, z: Tensor) -> Tensor:
        """log Σ_k w_k N(z; μ_k, diag σ_k²) of codes (…, L): (…). The mixture is over whole codes, not dimensions."""
        logits, mu, log_var = (part.double() for part in self.parts())
        gaussians = Independent(Normal(mu, (0.5 * log_var).exp(), validate_args=False), 1)
        return MixtureSameFamily(Categorical(logits=logits), gaussians, validate_args=False).log_prob(z.double())

    @torch.no_grad()
    def sample(self, n: int, *, temperature: float = 1.0, generator: torch.Generator | None = None) -> Tensor:
        """``n`` codes (n, L): first which Gaussian, then a draw from it."""
        logits, mu, log_var = self.parts()
        probabilities = logits.softmax(0).to(mu.device if generator is None else generator.device)
        which = torch.multinomial(probabilities, n, replacement=True, generator=generator).to(mu.device)
        eps = standard_noise((n, mu.shape[1]), mu, generator, temperature)
        return reparameterize(mu[which], log_var[which], eps=eps)


class MixtureOfGaussians(_Mixture):
    """p(z) = Σ_k w_k N(z; μ_k, diag σ_k²) with learned weights, means and variances, spread at first like N(0, I)."""

    def __init__(self, latent_dim: int, components: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(components))
        self.mu = nn.Parameter(0.5**0.5 * torch.randn(components, latent_dim))
        self.log_var = nn.Parameter(torch.full((components, latent_dim), 0.5).log())

    def parts(self) -> tuple[Tensor, Tensor, Tensor]:
        """Logits of the weights (K,), means and log-variances (K, L)."""
        return self.logits, self.mu, self.log_var


class VampPrior(_Mixture):
    """p(z) = 1/K Σ_k q(z|u_k): the posteriors of K pseudo-inputs u_k, which are learned like weights.

    ``encode`` is the encoder whose posteriors these are: diagonal Gaussians. ``pseudo_inputs`` (K, …) begin as noise;
    training images are a better start. They need not stay in [0, 1]. Source: Tomczak & Welling 2018, eq. (9).
    """

    def __init__(self, components: int, input_shape: tuple[int, ...], encode: Encode) -> None:
        super().__init__()
        self.encode = encode  # a method, not a module: the encoder's weights are the model's own
        self.pseudo_inputs = nn.Parameter(torch.rand(components, *input_shape))

    def parts(self) -> tuple[Tensor, Tensor, Tensor]:
        """Equal weights (K,), and μ and log σ² (K, L) of the pseudo-inputs' posteriors."""
        mu, log_var = self.encode(self.pseudo_inputs)
        return torch.zeros_like(mu[:, 0]), mu, log_var


class CouplingFlowPrior(_Learned):
    """N(0, I) bent by affine couplings; the identity at first. Source: Dinh, Sohl-Dickstein & Bengio 2017."""

    def __init__(self, latent_dim: int, layers: int = 8) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.couplings = couplings(latent_dim, layers)

    def log_prob(self, z: Tensor) -> Tensor:
        """log p(z) of codes (B, L): back to the noise they came from, and by how much space was stretched: (…)."""
        shape, z = z.shape[:-1], z.flatten(0, -2)
        total = torch.zeros_like(z[:, 0])
        for coupling in reversed(self.couplings):
            z, log_det = coupling.inverse(z)
            total = total + log_det
        return (-0.5 * (z.double().square() + LOG_2PI).sum(-1) + total.double()).view(shape)

    @torch.no_grad()
    def sample(self, n: int, *, temperature: float = 1.0, generator: torch.Generator | None = None) -> Tensor:
        """``n`` codes (n, L): noise, sent through the couplings."""
        z = standard_noise((n, self.latent_dim), self.couplings[0].net[0].weight, generator, temperature)
        for coupling in self.couplings:
            z, _ = coupling(z)
        return z


PRIORS = ("standard", "mixture", "vamp", "coupling")


def make_prior(
    name: str, latent_dim: int, *, components: int, layers: int, input_shape: tuple[int, ...], encode: Encode
) -> nn.Module:
    """The prior of that name. Raises ``ValueError`` for another name."""
    makers = {
        "standard": lambda: StandardNormal(latent_dim),
        "mixture": lambda: MixtureOfGaussians(latent_dim, components),
        "vamp": lambda: VampPrior(components, input_shape, encode),
        "coupling": lambda: CouplingFlowPrior(latent_dim, layers),
    }
    return makers[check_choice("prior", name, PRIORS)]()
