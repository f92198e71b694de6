"""Networks of a noisy example, its time and perhaps its class: a small MLP, and a small U-Net for images.

B is the batch size; the output has the shape of the input. Flow matching and DDPM (:mod:`.diffusion`) use them.
"""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_utils._checks import check_choice, check_positive_int

DENOISERS = {"mlp": (256, 256, 256), "unet": (32, 64)}  # and their usual hidden_dims
FREQUENCIES = 32
EMBEDDING = 128
GROUPS = 8  # of the group norms in the U-Net


def time_embedding(t: Tensor, features: int = 2 * FREQUENCIES) -> Tensor:
    """Sines and cosines of times in [0, 1]: (B,) → (B, features), at angles from t to 100·t, evenly spaced in the log.

    Source: the position encoding of Vaswani et al. 2017, section 3.5, with slower waves: the time is no whole number,
    and the output should be smooth in it.
    """
    if check_positive_int("features", features) % 2:
        raise ValueError(f"features must be even, a sine and a cosine for each rate, got {features}")
    rates = torch.logspace(0, 2, features // 2, dtype=t.dtype, device=t.device)
    angles = t[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class Context(nn.Module):
    """What a denoiser is told beside its input: the time, and with ``classes`` a label, or that there is none."""

    def __init__(self, classes: int | None) -> None:
        super().__init__()
        self.time = nn.Sequential(nn.Linear(2 * FREQUENCIES, EMBEDDING), nn.SiLU(), nn.Linear(EMBEDDING, EMBEDDING))
        self.label = None if classes is None else nn.Embedding(classes + 1, EMBEDDING)  # the last one: no label

    def forward(self, t: Tensor, y: Tensor | None) -> Tensor:
        """Times (B,) and labels (B,), the number of classes for none → (B, EMBEDDING)."""
        h = self.time(time_embedding(t))
        return F.silu(h if self.label is None else h + self.label(y))


class MLPDenoiser(nn.Module):
    """Linear layers, each of which sees time and class; those of one width add to what they are given."""

    def __init__(self, shape: tuple[int, ...], hidden_dims: tuple[int, ...], classes: int | None) -> None:
        super().__init__()
        self.context = Context(classes)
        widths = (math.prod(shape), *hidden_dims)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(widths, hidden_dims, strict=False))
        self.told = nn.ModuleList(nn.Linear(EMBEDDING, width) for width in hidden_dims)
        self.out = nn.Linear(widths[-1], widths[0])

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """(B, …), (B,) and labels (B,) → as x."""
        context, h = self.context(t, y), x.flatten(1)
        for layer, told in zip(self.layers, self.told, strict=True):
            new = F.silu(layer(h) + told(context))
            h = h + new if h.shape == new.shape and layer is not self.layers[0] else new
        return self.out(h).view_as(x)


class _Block(nn.Module):
    """Two convolutions, time and class added between them, and a shortcut around both."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, width, 3, padding=1)
        self.told = nn.Linear(EMBEDDING, width)
        self.norm = nn.GroupNorm(GROUPS, width)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.shortcut = nn.Conv2d(channels, width, 1)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        h = self.norm(self.first(x)) + self.told(context)[:, :, None, None]
        return self.shortcut(x) + self.second(F.silu(h))


class UNet(nn.Module):
    """Stages that halve height and width, and back up again, each given what the stage of its size had on the way down.

    ``hidden_dims`` are the channels of the stages, multiples of 8, from the full size on. Source: Ronneberger, Fischer
    & Brox 2015; time in every block as in Ho, Jain & Abbeel 2020, without their attention.
    """

    def __init__(self, shape: tuple[int, ...], hidden_dims: tuple[int, ...], classes: int | None) -> None:
        super().__init__()
        if len(shape) != 3 or min(shape[1:]) < 2 ** (len(hidden_dims) - 1):
            raise ValueError(
                f"a U-Net of {len(hidden_dims)} stages cannot take inputs of shape {shape}: images, larger"
            )
        if any(width % GROUPS for width in hidden_dims):
            raise ValueError(f"a U-Net's hidden_dims must be multiples of {GROUPS}, got {hidden_dims}")
        self.context = Context(classes)
        self.start = nn.Conv2d(shape[0], hidden_dims[0], 3, padding=1)
        pairs = list(pairwise(hidden_dims))
        self.down = nn.ModuleList(_Block(width, width) for width in hidden_dims)
        self.shrink = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairs)
        self.up = nn.ModuleList(_Block(a + b, a) for a, b in pairs)
        self.out = nn.Conv2d(hidden_dims[0], shape[0], 3, padding=1)

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """(B, C, H, W), (B,) and labels (B,) → as x."""
        context, h, kept = self.context(t, y), self.start(x), []
        for block, shrink in zip(self.down, self.shrink, strict=False):
            kept.append(block(h, context))
            h = shrink(kept[-1])
        h = self.down[-1](h, context)
        for block in reversed(self.up):
            skip = kept.pop()
            h = block(torch.cat([F.interpolate(h, size=skip.shape[2:]), skip], dim=1), context)
        return self.out(F.silu(h))


def make_denoiser(
    trunk: str, shape: tuple[int, ...], hidden_dims: tuple[int, ...], classes: int | None
) -> MLPDenoiser | UNet:
    """The network of that name, "mlp" or "unet"."""
    check_choice("trunk", trunk, tuple(DENOISERS))
    return (MLPDenoiser if trunk == "mlp" else UNet)(shape, hidden_dims, classes)
