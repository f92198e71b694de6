"""The variational autoencoder.

B is the batch size, L the number of latent dimensions. ``config`` holds the constructor's arguments, which are stored
beside the weights; ``likelihood`` owns the output activation.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from course_utils._checks import check_positive_int
from course_utils.losses.elbo import elbo
from course_utils.losses.likelihoods import make_likelihood, plain_sigma
from course_utils.losses.terms import LOG_2PI, Terms
from course_utils.models.layers import (
    GaussianHeads,
    as_input,
    check_code,
    check_hidden_dims,
    check_input,
    check_no_condition,
    check_shape,
    decoder_layers,
    encoder_layers,
    gaussian_log_weights,
    log_likelihood_of_codes,
    reparameterize,
    standard_noise,
)
from course_utils.models.registry import register


class VAEOutput(NamedTuple):
    """One forward pass: decoder output, posterior parameters and the sampled code. ``log_var`` is log σ²."""

    x_params: Tensor  # as x: logits or means, whichever the likelihood takes
    mu: Tensor  # (B, L)
    log_var: Tensor  # (B, L)
    z: Tensor  # (B, L)


@register
class VAE(nn.Module):
    """The variational autoencoder of Kingma & Welling (2014): q(z|x) = N(μ, diag σ²), p(z) = N(0, I).

    Arguments as for :class:`Autoencoder`, and ``likelihood``: "bernoulli", "gaussian" (no output activation) or
    "continuous_bernoulli"; ``sigma``, for the Gaussian alone: a positive number, or "learned". ``hidden_dims=()`` is
    the linear VAE. Raises ``ValueError`` or ``TypeError`` for arguments that do not fit.
    """

    def __init__(
        self,
        *,
        input_shape: Sequence[int] = (1, 28, 28),
        latent_dim: int,
        hidden_dims: Sequence[int] | None = None,
        trunk: str = "mlp",
        activation: str = "relu",
        likelihood: str = "bernoulli",
        sigma: float | str = 1.0,
    ) -> None:
        super().__init__()
        self.input_shape = check_shape("input_shape", input_shape)
        self.latent_dim = check_positive_int("latent_dim", latent_dim)
        dims = check_hidden_dims(hidden_dims, trunk)
        self.likelihood = make_likelihood(likelihood, sigma=sigma)
        self.config = dict(
            input_shape=self.input_shape, latent_dim=self.latent_dim, hidden_dims=dims,
            trunk=trunk, activation=activation, likelihood=likelihood, sigma=plain_sigma(sigma),
        )  # fmt: skip
        layers, features = encoder_layers(self.input_shape, dims, trunk, activation)
        self.encoder = nn.Sequential(*layers)
        self.heads = GaussianHeads(features, self.latent_dim)
        self.decoder = nn.Sequential(*decoder_layers(self.input_shape, self.latent_dim, dims, trunk, activation))

    def inputs(self, x: Tensor, y: Tensor, condition: object = None) -> tuple[Tensor]:
        """What ``loss`` takes, from images (B, C, H, W) and labels: the images. There is no use for a condition."""
        check_no_condition(self, condition)
        return (as_input(x, self.input_shape),)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, *input_shape) → ``mu`` and ``log_var`` of q(z|x), each (B, L)."""
        return self.heads(self.encoder(check_input(x, self.input_shape, self.heads.mu.weight)))

    def reparameterize(self, mu: Tensor, log_var: Tensor, *, eps: Tensor | None = None) -> Tensor:
        """z = μ + σ·ε, (B, L): see :func:`reparameterize`."""
        return reparameterize(mu, log_var, eps=eps)

    def decode(self, z: Tensor) -> Tensor:
        """Codes (B, L) → parameters of p(x|z), (B, *input_shape): logits or means, as the likelihood has it."""
        return self.decoder(check_code(z, self.latent_dim, self.heads.mu.weight))

    def forward(self, x: Tensor) -> VAEOutput:
        """Encode, sample z, decode. It samples in ``train()`` and in ``eval()``; :meth:`reconstruct` does not."""
        mu, log_var = self.encode(x)
        z = self.reparameterize(mu, log_var)
        return VAEOutput(self.decode(z), mu, log_var, z)

    def reconstruct(self, x: Tensor) -> Tensor:
        """x̂ (B, *input_shape), decoded from the posterior mean μ without sampling; expected pixels, no noise."""
        mu, _ = self.encode(x)
        return self.likelihood.mean(self.decode(mu))

    @torch.no_grad()
    def sample(self, n: int, *, temperature: float = 1.0, generator: torch.Generator | None = None) -> Tensor:
        """``n`` new images (n, *input_shape): z from the prior N(0, I), decoded to expected pixels.

        ``temperature`` multiplies the prior's standard deviation; 0 decodes its mean.
        """
        shape = check_positive_int("n", n), self.latent_dim
        z = standard_noise(shape, self.heads.mu.weight, generator, temperature)
        return self.likelihood.mean(self.decode(z))

    def loss(self, x: Tensor, *, beta: float = 1.0) -> Terms:
        """The loss and its terms per example, (B,) each, in nats, with one sample z."""
        return elbo(self(x), x, likelihood=self.likelihood, beta=beta)

    def posterior_and_prior(self, x: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """``(mu, log_var)`` of q(z|x) and of the prior, zeros for N(0, I), each (B, L)."""
        mu, log_var = self.encode(x)
        return (mu, log_var), (torch.zeros_like(mu), torch.zeros_like(mu))

    def log_prior(self, z: Tensor) -> Tensor:
        """log p(z) of codes (…, L) → (…), in nats, float64."""
        return -0.5 * (z.double().square() + LOG_2PI).sum(-1)

    def log_joint(self, x: Tensor, z: Tensor) -> Tensor:
        """log p(x, z) for codes z (…, B, L), or (G, 1, L): G codes that serve all examples → (…, B), nats, float64."""
        return log_likelihood_of_codes(
            self, check_input(x, self.input_shape, self.heads.mu.weight), z
        ) + self.log_prior(z)

    def log_weights(self, x: Tensor, *, samples: int) -> Tensor:
        """log p(x, z) − log q(z|x) for ``samples`` z from q(z|x) per example: (samples, B), in nats, float64."""
        return gaussian_log_weights(self, x, samples=samples)
