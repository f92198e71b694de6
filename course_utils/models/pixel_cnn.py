"""Convolutional autoregressive models of images of 0 and 1: PixelCNN, alone and as the decoder of a VAE.

The order is that of reading, row by row. A masked convolution sees nothing behind a pixel in that order; masked layers
one upon another then give the logits of all pixels at once, each of the pixels before it. Source: van den Oord,
Kalchbrenner & Kavukcuoglu 2016.
"""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_utils._checks import check_choice, check_positive_int
from course_utils.models.layers import ACTIVATIONS, check_shape, decoder_layers
from course_utils.models.made import Autoregressive, AutoregressiveVAE, Progress, toss
from course_utils.models.registry import register

REACH = 3  # rows above and columns beside: the first convolution is at most 7 × 7
# Offsets (rows, columns) of the pixels before a pixel within that reach, the nearest first; the one to the left leads.
BEFORE = sorted(
    (o for o in itertools.product(range(-REACH, 1), range(-REACH, REACH + 1)) if o < (0, 0)),
    key=lambda o: (o[0] ** 2 + o[1] ** 2, -o[0], o[1]),
)
FULL = "full"


class MaskedConv2d(nn.Conv2d):
    """A convolution, of one size in and out, that sees only pixels before its own (kind "A"), or that one too ("B").

    A logit must not see its own pixel, so the first layer is of kind A; what later layers see at their own place has
    not seen it either, so they are of kind B. Of kind A, ``nearest`` keeps only so many of the pixels before. Raises
    ``ValueError`` for a kernel size that is not odd, or another kind.
    """

    def __init__(self, inputs: int, outputs: int, kernel_size: int, kind: str, *, nearest: int | None = None) -> None:
        if check_positive_int("kernel_size", kernel_size) % 2 == 0:
            raise ValueError(f"a masked convolution has a pixel in its middle: an odd kernel_size, got {kernel_size}")
        super().__init__(inputs, outputs, kernel_size, padding=kernel_size // 2)
        middle = kernel_size // 2
        mask = torch.zeros(kernel_size, kernel_size)
        mask[:middle] = mask[middle, :middle] = 1
        if check_choice("kind", kind, ("A", "B")) == "B":
            mask[middle, middle] = 1
        elif nearest is not None:
            mask.zero_()
            for row, column in BEFORE[:nearest]:
                if max(-row, abs(column)) > middle:
                    raise ValueError(f"a kernel of {kernel_size} does not hold the nearest {nearest} pixels")
                mask[middle + row, middle + column] = 1
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, h: Tensor) -> Tensor:
        """(B, inputs, H, W) → (B, outputs, H, W)."""
        return F.conv2d(h, self.mask * self.weight, self.bias, padding=self.padding)

    def looks(self) -> tuple[list[list[int]], Tensor]:
        """The offsets (row, column) of the places it sees, and its weights on them, (outputs, places · inputs)."""
        offsets = (self.mask.nonzero() - self.kernel_size[0] // 2).tolist()
        return offsets, self.weight[:, :, self.mask.bool()].mT.flatten(1)


class PixelNetwork(nn.Module):
    """Pixels (B, D) and a code (B, L), or none, to logits (B, D): that of a pixel sees z and pixels before it.

    ``context``: "full", a first convolution of 7 × 7 and then as many of 3 × 3 as there are ``layers``, so that what is
    seen grows with each; or a number, the nearest 0 to 24 pixels before and no others. The decoder of a VAE makes
    ``maps`` images of z, which are joined to the first layer; the first of them is added to the logits, too. With
    stacked square masks some pixels to the upper right stay unseen, the blind spot (van den Oord et al. 2016b).
    """

    def __init__(
        self, shape: tuple[int, ...], latent_dim: int, dims: tuple[int, ...], trunk: str, activation: str, *,
        context: int | str, channels: int, layers: int, maps: int,
    ) -> None:  # fmt: skip
        super().__init__()
        self.shape = _check_binary_shape(shape)
        nearest = check_context(context)
        reach = REACH if nearest is None else max((max(-r, abs(c)) for r, c in BEFORE[:nearest]), default=0)
        inner = 3 if nearest is None else 1
        self.first = MaskedConv2d(1, channels, 2 * reach + 1, "A", nearest=nearest)
        self.inner = nn.ModuleList(MaskedConv2d(channels, channels, inner, "B") for _ in range(layers))
        self.last = nn.Conv2d(channels, 1, 1)
        self.act = ACTIVATIONS[check_choice("activation", activation, tuple(ACTIVATIONS))]()
        if latent_dim:
            trunk_layers = decoder_layers((maps, *shape[1:]), latent_dim, dims, trunk, activation)
            self.from_z = nn.Sequential(*trunk_layers)
            self.join = nn.Conv2d(maps, channels, 1)

    def forward(self, x: Tensor, z: Tensor | None = None) -> Tensor:
        """(B, D) and (B, L) → (B, D)."""
        h, told = self.first(x.unflatten(1, self.shape)), 0.0
        if z is not None:
            maps = self.from_z(z)
            h, told = h + self.join(maps), maps[:, :1]
        for layer in self.inner:
            h = h + layer(self.act(h))
        return (self.last(self.act(h)) + told).flatten(1)

    @torch.no_grad()
    def draw(
        self, x: Tensor, z: Tensor | None = None, *, generator: torch.Generator | None = None,
        progress: Progress = iter,
    ) -> Tensor:  # fmt: skip
        """Pixels of 0 and 1, (B, D), drawn one after the other; as :meth:`MaskedNetwork.draw`.

        Each layer is computed at one place at a time, from what was kept of the layer before: as much work as one pass.
        """
        (_, height, width), n = self.shape, len(x)
        layers = [self.first, *self.inner]
        looks = [layer.looks() for layer in layers]
        # What each layer sees, place by place, with a border of black.
        seen = [x.new_zeros(height + REACH, width + 2 * REACH, n, layer.in_channels) for layer in layers]
        maps = x.new_zeros(n, 1, height, width) if z is None else self.from_z(z)
        told = maps[:, :1].permute(2, 3, 0, 1)
        joined = None if z is None else self.join(maps).permute(2, 3, 0, 1).contiguous()
        last = self.last.weight.flatten(1)
        for d in progress(range(height * width)):
            row, column = divmod(d, width)
            h = 0.0 if joined is None else joined[row, column]
            for k, (layer, (offsets, weight)) in enumerate(zip(layers, looks, strict=True)):
                if k:
                    seen[k][row + REACH, column + REACH] = self.act(h)
                patch = [seen[k][row + REACH + i, column + REACH + j] for i, j in offsets]
                h = h + (F.linear(torch.cat(patch, 1), weight, layer.bias) if patch else layer.bias.expand(n, -1))
            logits = F.linear(self.act(h), last, self.last.bias) + told[row, column]
            seen[0][row + REACH, column + REACH] = toss(logits, generator)
        return seen[0][REACH:, REACH:-REACH, :, 0].permute(2, 0, 1).flatten(1)


@register
class PixelCNN(Autoregressive):
    """An autoregressive model of masked convolutions, without a code; log p(x) is exact for pixels of 0 and 1.

    ``context`` is "full" or a number of pixels, see :class:`PixelNetwork`; ``channels`` is the width of every layer and
    ``layers`` how many come after the first. Images have one channel. Raises ``ValueError`` or ``TypeError`` for
    arguments that do not fit. Source: van den Oord et al. 2016, section 3.
    """

    def __init__(
        self, *, input_shape: Sequence[int] = (1, 28, 28), context: int | str = FULL, channels: int = 16,
        layers: int = 3, activation: str = "relu",
    ) -> None:  # fmt: skip
        super().__init__(input_shape)
        sizes = dict(context=context, **_check_sizes(channels=channels, layers=layers))
        self.config = dict(input_shape=self.input_shape, **sizes, activation=activation)
        self.network = PixelNetwork(self.input_shape, 0, (), "mlp", activation, maps=0, **sizes)


@register
class PixelVAE(AutoregressiveVAE):
    """A VAE whose decoder is a :class:`PixelCNN` that is told z: log p(x|z) = Σ_d log p(x_d | x_<d, z).

    ``context``, how many of the pixels before a pixel its decoder sees, decides what is left for z to say: with 0 none,
    an ordinary VAE, and with "full" perhaps all. ``channels``, ``layers``: see :class:`PixelCNN`; ``maps``: how many
    images z becomes; other arguments as for :class:`VAE`. Raises ``ValueError`` or ``TypeError`` for arguments that do
    not fit. Source: Gulrajani et al. 2017; a decoder that is weak on purpose, Chen et al. 2017.
    """

    def __init__(
        self, *, input_shape: Sequence[int] = (1, 28, 28), latent_dim: int, hidden_dims: Sequence[int] | None = None,
        trunk: str = "mlp", activation: str = "relu", context: int | str = FULL, channels: int = 16, layers: int = 3,
        maps: int = 4,
    ) -> None:  # fmt: skip
        options = dict(input_shape=input_shape, latent_dim=latent_dim, trunk=trunk, activation=activation)
        super().__init__(hidden_dims=hidden_dims, **options)
        sizes = dict(context=context, **_check_sizes(channels=channels, layers=layers, maps=maps))
        dims = self.config["hidden_dims"]
        self.config = {name: self.config[name] for name in (*options, "hidden_dims")} | sizes
        self.decoder = PixelNetwork(self.input_shape, self.latent_dim, dims, trunk, activation, **sizes)


def check_context(context: object) -> int | None:
    """``None`` for "full", else the number of pixels, 0 to 24. Raises ``ValueError`` or ``TypeError`` for others."""
    if context == FULL:
        return None
    if isinstance(context, bool) or not isinstance(context, int):
        raise TypeError(f'context must be "full" or a whole number of pixels, got {context!r}')
    if not 0 <= context <= len(BEFORE):
        raise ValueError(f'context must be "full" or 0 to {len(BEFORE)} pixels, got {context}')
    return context


def _check_sizes(**sizes: int) -> dict[str, int]:
    return {name: check_positive_int(name, size) for name, size in sizes.items()}


def _check_binary_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    if len(check_shape("input_shape", shape)) != 3 or shape[0] != 1:
        raise ValueError(f"a PixelCNN takes images of one channel, (1, height, width), got input_shape={shape}")
    return shape
