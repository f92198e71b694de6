"""Autoregressive Bernoulli models: MADE, one pixel after the other in one pass, alone and as the decoder of a VAE.

log p(x|z) = Σ_d log p(x_d | x_1 … x_{d−1}, z), in the order of the flattened image. A masked network computes all
factors at once: the logit of pixel d sees the pixels before d and no other. Source: Germain et al. 2015.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_utils._checks import check_choice, check_positive_int
from course_utils.losses.likelihoods import Bernoulli
from course_utils.losses.terms import Terms
from course_utils.models.layers import (
    ACTIVATIONS,
    as_input,
    check_code,
    check_hidden_dims,
    check_input,
    check_no_beta,
    check_no_condition,
    check_shape,
    gaussian_log_weights,
    standard_noise,
)
from course_utils.models.registry import register
from course_utils.models.vae import VAE, VAEOutput

Progress = Callable[[Iterable[int]], Iterable[int]]


def toss(logits: Tensor, generator: torch.Generator | None) -> Tensor:
    """Pixels of 0 and 1 with these logits, in their dtype; the noise is drawn where the generator lives."""
    device = logits.device if generator is None else generator.device
    noise = torch.rand(logits.shape, generator=generator, device=device, dtype=logits.dtype).to(logits.device)
    return (noise < logits.sigmoid()).to(logits.dtype)


class MaskedLinear(nn.Linear):
    """A linear layer of which only the weights in ``mask`` (out, in) count."""

    def __init__(self, mask: Tensor) -> None:
        super().__init__(mask.shape[1], mask.shape[0])
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, h: Tensor) -> Tensor:
        """(…, in) → (…, out)."""
        return F.linear(h, self.mask * self.weight, self.bias)


class MaskedNetwork(nn.Module):
    """Pixels (B, D) and a code (B, L), or none, to logits (B, D): that of pixel d sees z and the pixels before d.

    A unit of degree m sees pixels 1 … m; with ``dims=()`` one masked linear layer is all. z reaches every layer.
    """

    def __init__(self, size: int, latent_dim: int, dims: tuple[int, ...], activation: str) -> None:
        super().__init__()
        pixels = torch.arange(1, size + 1)
        degrees = [pixels] + [torch.linspace(1, max(size - 1, 1), width).round() for width in dims]
        masks = [(after[:, None] >= before).float() for before, after in itertools.pairwise(degrees)]
        masks += [(pixels[:, None] > degrees[-1]).float()]  # the logit itself sees only what lies before its pixel
        self.layers = nn.ModuleList(map(MaskedLinear, masks))
        self.from_z = nn.ModuleList(nn.Linear(latent_dim, len(mask), bias=False) for mask in masks if latent_dim)
        self.act = ACTIVATIONS[check_choice("activation", activation, tuple(ACTIVATIONS))]()

    def forward(self, x: Tensor, z: Tensor | None = None) -> Tensor:
        """(B, D) and (B, L) → (B, D)."""
        h = x
        for i, layer in enumerate(self.layers):
            h = layer(self.act(h) if i else h)
            if z is not None:
                h = h + self.from_z[i](z)
        return h

    @torch.no_grad()
    def draw(
        self,
        x: Tensor,
        z: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
        progress: Progress = iter,
    ) -> Tensor:
        """Pixels of 0 and 1, (B, D), drawn one after the other: D passes. Of ``x`` only the shape counts.

        ``progress`` is handed the numbers of the pixels and gives them back, as ``tqdm`` does.
        """
        x = torch.zeros_like(x)
        for d in progress(range(x.shape[1])):
            x[:, d] = toss(self(x, z)[:, d], generator)
        return x


class Autoregressive(nn.Module):
    """What models without a code share: a ``network`` from flat pixels (B, D) to the logit of each given those before.

    The network also draws pixels one by one, as :meth:`MaskedNetwork.draw` does.
    """

    def __init__(self, input_shape: Sequence[int]) -> None:
        super().__init__()
        self.input_shape = check_shape("input_shape", input_shape)
        self.likelihood = Bernoulli()

    @property
    def _weight(self) -> Tensor:
        return next(self.network.parameters())

    def inputs(self, x: Tensor, y: Tensor, condition: object = None) -> tuple[Tensor]:
        """What ``loss`` takes, from images (B, C, H, W) and labels: the images. There is no use for a condition."""
        check_no_condition(self, condition)
        return (as_input(x, self.input_shape),)

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, *input_shape) → the logits of their pixels, each given the pixels before it."""
        check_input(x, self.input_shape, self._weight)
        return self.network(x.flatten(1)).view_as(x)

    def loss(self, x: Tensor, *, beta: float = 1.0) -> Terms:
        """−log p(x) per example, (B,), in nats. There is no KL for ``beta`` to weigh."""
        check_no_beta(self, beta)
        return Terms(loss=self.likelihood.nll(self(x), x))

    def log_weights(self, x: Tensor, *, samples: int) -> Tensor:
        """log p(x), (samples, B), the same in every row: there is no code to draw."""
        return -self.likelihood.nll(self(x), x).double().expand(check_positive_int("samples", samples), -1)

    @torch.no_grad()
    def sample(self, n: int, *, generator: torch.Generator | None = None, progress: Progress = iter) -> Tensor:
        """``n`` new images (n, *input_shape) of 0 and 1, drawn pixel by pixel; ``progress`` goes round that loop, such
        as ``tqdm``."""
        like = self._weight.new_zeros(check_positive_int("n", n), math.prod(self.input_shape))
        return self.network.draw(like, generator=generator, progress=progress).view(n, *self.input_shape)


@register
class MADE(Autoregressive):
    """An autoregressive model without a code; log p(x) is exact for pixels of 0 and 1.

    Arguments as for :class:`Autoencoder`; ``hidden_dims=()`` is one masked linear layer. Raises ``ValueError`` or
    ``TypeError`` for arguments that do not fit. Source: Germain, Gregor, Murray & Larochelle 2015.
    """

    def __init__(
        self,
        *,
        input_shape: Sequence[int] = (1, 28, 28),
        hidden_dims: Sequence[int] | None = None,
        activation: str = "relu",
    ) -> None:
        super().__init__(input_shape)
        dims = check_hidden_dims(hidden_dims, "mlp")
        self.config = dict(input_shape=self.input_shape, hidden_dims=dims, activation=activation)
        self.network = MaskedNetwork(math.prod(self.input_shape), 0, dims, activation)


class AutoregressiveVAE(VAE):
    """What VAEs share whose decoder is given the pixels before: a ``decoder`` from flat pixels (B, D) and codes (B, L)
    to logits (B, D), which also draws pixels one by one, as :meth:`MaskedNetwork.draw` does.
    """

    def decode(self, z: Tensor, x: Tensor) -> Tensor:
        """Codes (B, L) and the images (B, *input_shape) themselves → the logit of each pixel given z and those before.

        Raises ``ValueError`` unless there is one image for each code.
        """
        check_code(z, self.latent_dim, self.heads.mu.weight)
        if len(z) != len(check_input(x, self.input_shape, self.heads.mu.weight)):
            raise ValueError(f"decode takes one image for each code, got {len(x)} images and {len(z)} codes")
        return self.decoder(x.flatten(1), z).view_as(x)

    def forward(self, x: Tensor) -> VAEOutput:
        """Encode, sample z, decode; samples in ``train()`` and in ``eval()``."""
        mu, log_var = self.encode(x)
        z = self.reparameterize(mu, log_var)
        return VAEOutput(self.decode(z, x), mu, log_var, z)

    def log_joint(self, x: Tensor, z: Tensor) -> Tensor:
        """log p(x, z) for codes z (…, B, L), or (G, 1, L): G codes that serve all examples → (…, B), nats, float64."""
        z = z.expand(*z.shape[:-2], len(x), self.latent_dim)
        repeated = x.expand(*z.shape[:-2], *x.shape).flatten(0, z.dim() - 2)
        log_px = -self.likelihood.nll(self.decode(z.flatten(0, -2), repeated), repeated)
        return log_px.double().view(z.shape[:-1]) + self.log_prior(z)

    def log_weights(self, x: Tensor, *, samples: int, proposal: str = "posterior") -> Tensor:
        """log p(x, z) − log r(z|x) for ``samples`` z from r, q(z|x) or defensive: (samples, B), in nats, float64."""
        repeated = x.repeat(samples, *[1] * (x.dim() - 1))
        decode = lambda z: self.decode(z, repeated)  # noqa: E731
        return gaussian_log_weights(self, x, samples=samples, proposal=proposal, decode=decode)

    @torch.no_grad()
    def reconstruct(self, x: Tensor, *, generator: torch.Generator | None = None, progress: Progress = iter) -> Tensor:
        """One image (B, *input_shape) of 0 and 1 drawn from p(x|z) at z = μ: no mean, as pixels follow from pixels."""
        mu, _ = self.encode(x)
        return self.decoder.draw(x.flatten(1), mu, generator=generator, progress=progress).view_as(x)

    @torch.no_grad()
    def sample(
        self,
        n: int,
        *,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
        progress: Progress = iter,
    ) -> Tensor:
        """``n`` new images (n, *input_shape) of 0 and 1: z from the prior N(0, I), then pixel by pixel.

        ``temperature`` multiplies the prior's standard deviation; 0 takes its mean. ``progress`` goes round the loop
        over pixels, such as ``tqdm``.
        """
        shape = check_positive_int("n", n), self.latent_dim
        z = standard_noise(shape, self.heads.mu.weight, generator, temperature)
        like = z.new_zeros(n, math.prod(self.input_shape))
        return self.decoder.draw(like, z, generator=generator, progress=progress).view(n, *self.input_shape)


@register
class MADEVAE(AutoregressiveVAE):
    """A VAE with an autoregressive Bernoulli decoder: p(x|z) is a :class:`MADE` that z reaches at every layer.

    Arguments as for :class:`VAE` with the MLP trunk: ``hidden_dims`` are the encoder's, ``decoder_dims`` those of the
    masked network, by default the same; ``decoder_dims=()`` is one masked linear layer. A decoder that knows the pixels
    before can do without z: the model in which a posterior may collapse. Raises ``ValueError`` or ``TypeError`` for
    arguments that do not fit. Source: the decoder, Germain et al. 2015; such VAEs, Chen et al. 2017.
    """

    def __init__(
        self,
        *,
        input_shape: Sequence[int] = (1, 28, 28),
        latent_dim: int,
        hidden_dims: Sequence[int] | None = None,
        decoder_dims: Sequence[int] | None = None,
        activation: str = "relu",
    ) -> None:
        options = dict(input_shape=input_shape, latent_dim=latent_dim, activation=activation)
        super().__init__(hidden_dims=hidden_dims, **options)
        inner = self.config["hidden_dims"][::-1] if decoder_dims is None else check_hidden_dims(decoder_dims, "mlp")
        self.config = {name: self.config[name] for name in (*options, "hidden_dims")} | dict(decoder_dims=inner)
        self.decoder = MaskedNetwork(math.prod(self.input_shape), self.latent_dim, inner, activation)
