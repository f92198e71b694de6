"""Adversarial variational Bayes: a posterior without a density, and the network that prices it.

B is the batch size, L the number of latent dimensions. The encoder is given noise and may make any distribution of it;
log q(z|x) cannot be computed. A discriminator learns to tell codes of q(z|x) from codes of the prior: at its optimum
its logit *is* log q(z|x) − log p(z), and its mean over q is the rate.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from course_utils._checks import check_beta, check_positive_int
from course_utils.losses.adversarial import discriminator_nll, with_weights_held
from course_utils.losses.likelihoods import make_likelihood, plain_sigma
from course_utils.losses.terms import LOG_2PI, Terms
from course_utils.models.layers import (
    as_input,
    check_code,
    check_hidden_dims,
    check_input,
    check_no_condition,
    check_shape,
    log_likelihood_of_codes,
    mlp_layers,
    standard_noise,
)
from course_utils.models.registry import register


@register
class AVB(nn.Module):
    """Encoder z = f(x, ε), decoder, and discriminator T(x, z) → logit. Source: Mescheder, Nowozin & Geiger 2017.

    Arguments as for :class:`VAE`; ``noise_dim`` is the length of ε, the code's by default. MLPs only. ``fit`` trains
    all three at once: the term ``discriminator`` moves T alone and the rest never does. ``kl`` is T at one sample: an
    estimate of the rate that is right where T is, and bounds nothing where T lags behind.
    """

    def __init__(
        self,
        *,
        input_shape: Sequence[int] = (1, 28, 28),
        latent_dim: int,
        hidden_dims: Sequence[int] = (400,),
        noise_dim: int | None = None,
        activation: str = "relu",
        likelihood: str = "bernoulli",
        sigma: float | str = 1.0,
    ) -> None:
        super().__init__()
        self.input_shape = check_shape("input_shape", input_shape)
        self.latent_dim = check_positive_int("latent_dim", latent_dim)
        self.noise_dim = check_positive_int("noise_dim", latent_dim if noise_dim is None else noise_dim)
        dims = check_hidden_dims(hidden_dims, "mlp")
        self.likelihood = make_likelihood(likelihood, sigma=sigma)
        self.config = dict(
            input_shape=self.input_shape, latent_dim=self.latent_dim, hidden_dims=dims, noise_dim=self.noise_dim,
            activation=activation, likelihood=likelihood, sigma=plain_sigma(sigma),
        )  # fmt: skip
        size = math.prod(self.input_shape)
        self.encoder = _mlp(size + self.noise_dim, dims, self.latent_dim, activation)
        self.decoder = nn.Sequential(_mlp(self.latent_dim, dims[::-1], size, activation), nn.Unflatten(1, input_shape))
        self.discriminator = _mlp(size + self.latent_dim, dims, 1, activation)

    def inputs(self, x: Tensor, y: Tensor, condition: object = None) -> tuple[Tensor]:
        """What ``loss`` takes, from images (B, C, H, W) and labels: the images. There is no use for a condition."""
        check_no_condition(self, condition)
        return (as_input(x, self.input_shape),)

    def draw(self, x: Tensor, *, eps: Tensor | None = None) -> Tensor:
        """z ~ q(z|x), (B, L), for x (B, *input_shape); ``eps`` (B, noise_dim) is drawn here unless given."""
        flat = check_input(x, self.input_shape, self._weight).flatten(1)
        eps = torch.randn(len(x), self.noise_dim).to(flat) if eps is None else eps
        return self.encoder(torch.cat([flat, eps], 1))

    def decode(self, z: Tensor) -> Tensor:
        """Codes (B, L) → parameters of p(x|z), (B, *input_shape)."""
        return self.decoder(check_code(z, self.latent_dim, self._weight))

    def log_ratio(self, x: Tensor, z: Tensor) -> Tensor:
        """T(x, z), the discriminator's estimate of log q(z|x) − log p(z), (B,), in nats."""
        check_input(x, self.input_shape, self._weight)
        return self.discriminator(torch.cat([x.flatten(1), check_code(z, self.latent_dim, self._weight)], 1)).squeeze(1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Draw z from q(z|x) and decode it: parameters of p(x|z), as x, and z (B, L)."""
        z = self.draw(x)
        return self.decode(z), z

    def loss(self, x: Tensor, *, beta: float = 1.0) -> Terms:
        """``recon`` and ``kl`` (T at one sample) per example, (B,) each, in nats, and T's own cross-entropy.

        ``loss`` has the value of recon + beta · kl. T's weights see only the gradient of ``discriminator``, and
        encoder and decoder only that of the other two: one optimiser serves both sides.
        """
        beta = check_beta(beta)
        x_params, z = self(x)
        recon = self.likelihood.nll(x_params, x)
        kl = with_weights_held(self.discriminator, torch.cat([x.flatten(1), z], 1)).squeeze(1)
        told_apart = discriminator_nll(self.log_ratio(x, z.detach()), self.log_ratio(x, torch.randn_like(z)))
        loss = recon + beta * kl + (told_apart - told_apart.detach())
        return Terms(loss=loss, recon=recon, kl=kl, discriminator=told_apart)

    def log_prior(self, z: Tensor) -> Tensor:
        """log p(z) of codes (…, L) → (…), in nats, float64."""
        return -0.5 * (z.double().square() + LOG_2PI).sum(-1)

    def log_joint(self, x: Tensor, z: Tensor) -> Tensor:
        """log p(x, z) for codes z (…, B, L), or (G, 1, L): G codes that serve all examples → (…, B), nats, float64."""
        return log_likelihood_of_codes(self, check_input(x, self.input_shape, self._weight), z) + self.log_prior(z)

    @torch.no_grad()
    def sample(self, n: int, *, temperature: float = 1.0, generator: torch.Generator | None = None) -> Tensor:
        """``n`` new images (n, *input_shape): z from N(0, I), decoded to expected pixels."""
        shape = check_positive_int("n", n), self.latent_dim
        return self.likelihood.mean(self.decode(standard_noise(shape, self._weight, generator, temperature)))

    @property
    def _weight(self) -> Tensor:
        return next(self.parameters())


def _mlp(features: int, dims: tuple[int, ...], out: int, activation: str) -> nn.Sequential:
    layers, width = mlp_layers(features, dims, activation)
    return nn.Sequential(*layers, nn.Linear(width, out))
