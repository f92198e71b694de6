"""The generative adversarial network: a generator that has no likelihood, and a discriminator that replaces it.

B is the batch size, L the number of latent dimensions. The discriminator's logit is, at its optimum, the log of
p_data(x) / p_generator(x); the generator learns from that ratio alone and is never compared with an image.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from course_utils._checks import check_bool, check_choice, check_number, check_positive_int, check_unit_interval
from course_utils.losses.adversarial import OBJECTIVES, discriminator_nll, generator_loss, with_weights_held
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
    evaluating,
    normalised,
    standard_noise,
)
from course_utils.models.registry import register


@register
class Discriminator(nn.Sequential):
    """Images (B, *input_shape) → logits (B,), above 0 for real ones: an encoder with leaky ReLUs and ``dropout``.

    Arguments as in :class:`GAN`, which has one; another stands in :class:`AdversarialLoss`.
    """

    def __init__(
        self,
        *,
        input_shape: Sequence[int] = (1, 28, 28),
        hidden_dims: Sequence[int] | None = None,
        trunk: str = "mlp",
        dropout: float = 0.3,
    ) -> None:
        shape, dims = check_shape("input_shape", input_shape), check_hidden_dims(hidden_dims, trunk)
        layers, features = encoder_layers(shape, dims, trunk, "relu")
        super().__init__(*_leaky(layers, _check_dropout(dropout)), nn.Linear(features, 1), nn.Flatten(0))
        self.config = dict(input_shape=shape, hidden_dims=dims, trunk=trunk, dropout=float(dropout))


@register
class GAN(nn.Module):
    """Generator z → x̃ and discriminator x → logit, for images in [0, 1]. Source: Goodfellow et al. 2014.

    ``trunk`` "mlp" or "conv" and ``hidden_dims`` shape both, as in :class:`VAE`: the discriminator is built like an
    encoder, with leaky ReLUs and ``dropout``, and the generator like a decoder. With ``batch_norm`` (by default in a
    convolutional pair) the generator's hidden layers are normalised, over a batch that holds nothing but its own
    images; the discriminator never is, and what it says of an image depends on no other. ``objective`` is the
    generator's loss, see :func:`generator_loss`. Raises ``ValueError`` or ``TypeError`` for arguments that do not fit.

    ``fit`` trains both at once, each on its own loss and with its own gradient alone. Usual are a smaller momentum and
    learning rate: ``fit(gan, …, optimizer=lambda p: torch.optim.Adam(p, lr=2e-4, betas=(0.5, 0.999)))`` (Radford et
    al. 2016). Neither loss says how good the images are.
    """

    def __init__(
        self,
        *,
        input_shape: Sequence[int] = (1, 28, 28),
        latent_dim: int = 64,
        hidden_dims: Sequence[int] | None = None,
        trunk: str = "mlp",
        batch_norm: bool | None = None,
        dropout: float = 0.3,
        objective: str = "non_saturating",
    ) -> None:
        super().__init__()
        self.input_shape = check_shape("input_shape", input_shape)
        self.latent_dim = check_positive_int("latent_dim", latent_dim)
        dims = check_hidden_dims(hidden_dims, trunk)
        self.dropout = _check_dropout(dropout)
        self.objective = check_choice("objective", objective, OBJECTIVES)
        batch_norm = check_bool("batch_norm", trunk == "conv" if batch_norm is None else batch_norm)
        self.config = dict(
            input_shape=self.input_shape, latent_dim=self.latent_dim, hidden_dims=dims, trunk=trunk,
            batch_norm=batch_norm, dropout=self.dropout, objective=objective,
        )  # fmt: skip
        layers = decoder_layers(self.input_shape, self.latent_dim, dims, trunk, "relu")
        self.generator = nn.Sequential(*(normalised(layers) if batch_norm else layers), nn.Sigmoid())
        self.discriminator = Discriminator(
            input_shape=self.input_shape, hidden_dims=dims, trunk=trunk, dropout=self.dropout
        )

    def inputs(self, x: Tensor, y: Tensor, condition: object = None) -> tuple[Tensor]:
        """What ``loss`` takes, from images (B, C, H, W) and labels: the images. There is no use for a condition."""
        check_no_condition(self, condition)
        return (as_input(x, self.input_shape),)

    def generate(self, z: Tensor) -> Tensor:
        """Codes (B, L) → images (B, *input_shape) in [0, 1]."""
        return self.generator(check_code(z, self.latent_dim, self._weight))

    def log_ratio(self, x: Tensor) -> Tensor:
        """The logit of images (B, *input_shape): the discriminator's log p_data(x) / p_generator(x), (B,), in nats."""
        return self.discriminator(check_input(x, self.input_shape, self._weight))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """As many new images as x has, (B, *input_shape), and the codes that they were made of, (B, L)."""
        z = standard_noise((len(x), self.latent_dim), self._weight, None)
        return self.generate(z), z

    def loss(self, x: Tensor, *, beta: float = 1.0) -> Terms:
        """The terms ``generator`` and ``discriminator``, each player's own loss, (B,) each, in nats.

        ``loss`` has the value of ``generator`` and the gradients of both: the generator's weights see only the first,
        the discriminator's only the second, which takes the images as they are and does not look back at how they were
        made. Raises ``ValueError`` for a ``beta``, as there is no KL.
        """
        check_no_beta(self, beta)
        check_unit_interval("x", x)
        real = self.log_ratio(x)
        fake, _ = self(x)
        generator = generator_loss(with_weights_held(self.discriminator, fake), self.objective)
        discriminator = discriminator_nll(real, self.log_ratio(fake.detach()))
        loss = generator + (discriminator - discriminator.detach())
        return Terms(loss=loss, generator=generator, discriminator=discriminator)

    @torch.no_grad()
    def sample(self, n: int, *, temperature: float = 1.0, generator: torch.Generator | None = None) -> Tensor:
        """``n`` new images (n, *input_shape) in [0, 1], from z ~ N(0, ``temperature``² I).

        With batch normalisation by the averages of training, whatever the mode: an image depends on its own z alone.
        """
        shape = check_positive_int("n", n), self.latent_dim
        z = standard_noise(shape, self._weight, generator, temperature)
        with evaluating(self):
            return self.generate(z)

    @property
    def _weight(self) -> Tensor:
        return next(self.parameters())


def _check_dropout(dropout: float) -> float:
    found = check_number("dropout", dropout, least=0)
    if found >= 1:
        raise ValueError(f"dropout is the share of units that is left out, below 1; got {dropout}")
    return found


def _leaky(layers: list[nn.Module], dropout: float) -> list[nn.Module]:
    """The layers with leaky ReLUs and dropout in place of the ReLUs: gradients reach the generator everywhere."""
    pairs = [[nn.LeakyReLU(0.2), nn.Dropout(dropout)] if isinstance(layer, nn.ReLU) else [layer] for layer in layers]
    return [layer for pair in pairs for layer in pair]
