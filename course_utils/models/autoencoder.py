"""The autoencoder: an encoder, a code, a decoder."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from course_utils._checks import check_choice, check_positive_int
from course_utils.losses.likelihoods import Bernoulli, SquaredError
from course_utils.losses.terms import Terms
from course_utils.models.layers import (
    as_input,
    check_code,
    check_hidden_dims,
    check_input,
    check_no_beta,
    check_no_condition,
    check_shape,
    decoder_layers,
    encoder_layers,
)
from course_utils.models.registry import register


class AutoencoderOutput(NamedTuple):
    """One forward pass of an autoencoder: decoder output, and the code."""

    x_params: Tensor  # as x
    z: Tensor  # (B, L)


@register
class Autoencoder(nn.Module):
    """Encoder, code, decoder; trained on the reconstruction alone.

    ``input_shape`` is that of one example without the batch, ``latent_dim`` the length of its code. With
    ``trunk="mlp"``, ``hidden_dims`` are the widths of the encoder's hidden layers, mirrored in the decoder (``()`` is
    the linear autoencoder); with ``trunk="conv"`` they are the channels of its stages, each of which halves height and
    width. ``likelihood`` is "squared_error" (the output is the reconstruction) or "bernoulli" (it is logits).
    Raises ``ValueError`` or ``TypeError`` for arguments that do not fit.
    """

    def __init__(
        self,
        *,
        input_shape: Sequence[int] = (1, 28, 28),
        latent_dim: int,
        hidden_dims: Sequence[int] | None = None,
        trunk: str = "mlp",
        activation: str = "relu",
        likelihood: str = "squared_error",
    ) -> None:
        super().__init__()
        self.input_shape = check_shape("input_shape", input_shape)
        self.latent_dim = check_positive_int("latent_dim", latent_dim)
        dims = check_hidden_dims(hidden_dims, trunk)
        check_choice("likelihood", likelihood, ("squared_error", "bernoulli"))
        self.config = dict(
            input_shape=self.input_shape, latent_dim=self.latent_dim, hidden_dims=dims,
            trunk=trunk, activation=activation, likelihood=likelihood,
        )  # fmt: skip
        layers, features = encoder_layers(self.input_shape, dims, trunk, activation)
        self.encoder = nn.Sequential(*layers, nn.Linear(features, self.latent_dim))
        self.decoder = nn.Sequential(*decoder_layers(self.input_shape, self.latent_dim, dims, trunk, activation))
        self.likelihood = SquaredError() if likelihood == "squared_error" else Bernoulli()

    def inputs(self, x: Tensor, y: Tensor, condition: object = None) -> tuple[Tensor]:
        """What ``loss`` takes, from images (B, C, H, W) and labels: the images. There is no use for a condition."""
        check_no_condition(self, condition)
        return (as_input(x, self.input_shape),)

    def encode(self, x: Tensor) -> Tensor:
        """Images (B, *input_shape) → codes (B, L)."""
        return self.encoder(check_input(x, self.input_shape, self.encoder[-1].weight))

    def decode(self, z: Tensor) -> Tensor:
        """Codes (B, L) → decoder output (B, *input_shape)."""
        return self.decoder(check_code(z, self.latent_dim, self.encoder[-1].weight))

    def forward(self, x: Tensor) -> AutoencoderOutput:
        """Encode and decode ``x`` (B, *input_shape)."""
        z = self.encode(x)
        return AutoencoderOutput(self.decode(z), z)

    def reconstruct(self, x: Tensor) -> Tensor:
        """The reconstruction x̂ (B, *input_shape), as pixels."""
        return self.likelihood.mean(self(x).x_params)

    def loss(self, x: Tensor, *, beta: float = 1.0) -> Terms:
        """The reconstruction loss per example, in the form of the VAE's: ``kl`` is 0, as there is none to weigh."""
        check_no_beta(self, beta)
        recon = self.likelihood.nll(self(x).x_params, x)
        return Terms(loss=recon, recon=recon, kl=torch.zeros_like(recon))
