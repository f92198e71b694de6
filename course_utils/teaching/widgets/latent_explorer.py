"""The explorer of a code of many dimensions: a map of two of them, a slider for each of the chosen ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from matplotlib.figure import Figure
from torch import Tensor

from course_utils.teaching._arrays import Array, check_codes
from course_utils.teaching.plotting import Decode, decode_codes, image_rows
from course_utils.teaching.widgets._panel import Slider, Widget, number_text, panel
from course_utils.teaching.widgets._plane import PlaneStage

REACH = 3.0  # sliders and map go from −3 to 3: 99.7 % of a standard normal in each dimension
MOST = 8  # sliders that still fit on a screen
Judge = Callable[[Tensor], Tensor]  # images (n, 1, H, W) -> class probabilities (n, 10)


class LatentExplorer(PlaneStage):
    """The picture of the explorer: codes on the plane of two dimensions, with a cross-hair, and the decoded code.

    decode: (n, L) codes -> (n, 1, H, W) pixels in [0, 1]. codes: (N, L), such as posterior means. labels: (N,) whole
    numbers from 0 to 9. dims: indices of the 2 to 8 dimensions to move, the first two span the map; index 0 is called
    z₁. start: (L,), where all dimensions begin and the others stay. judge: images -> class probabilities (n, 10), for
    the words. Raises ValueError for shapes or dimensions that do not fit.
    """

    def __init__(
        self,
        decode: Decode,
        codes: Array,
        labels: Array,
        *,
        dims: Sequence[int],
        start: Tensor,
        judge: Judge | None = None,
    ) -> None:
        codes = torch.as_tensor(codes).detach()
        if codes.ndim != 2 or codes.shape[1] < 2:
            raise ValueError(f"codes has shape {tuple(codes.shape)}, expected (N, L) with L of 2 or more.")
        self.start = _check_start(start, codes.shape[1])
        self.dims = _check_dims(dims, len(self.start))
        self.sliders = {
            _subscript(d): Slider(-REACH, REACH, self.start[d].clamp(-REACH, REACH).item(), 0.05) for d in self.dims
        }
        self._decode, self._judge = decode, judge
        points, classes = check_codes(codes[:, self.dims[:2]], labels)
        super().__init__(points, classes, (-REACH, REACH) * 2, tuple(f"$z_{{{d + 1}}}$" for d in self.dims[:2]))

    def code(self, *values: float) -> Tensor:
        """Return the whole code, (1, L): the chosen dimensions at ``values``, the others where they began."""
        code = self.start.clone()
        code[self.dims] = torch.tensor(values, dtype=code.dtype, device=code.device)
        return code[None]

    def decode(self, *values: float) -> Tensor:
        """Return the decoding of this code, (1, 1, H, W) pixels in [0, 1]."""
        return decode_codes(self._decode, self.code(*values))

    def render(self, *values: float) -> bytes:
        """Return the picture for these values; errors in `decode` are passed on."""
        return self.move(*values[:2], self.decode(*values)[0, 0].numpy(), "the decoded code")

    def describe(self, *values: float) -> str:
        """Name the values, and what the judge sees."""
        where = ", ".join(f"{_subscript(d)} = {number_text(v)}" for d, v in zip(self.dims, values, strict=True))
        rest = len(self.start) - len(self.dims)
        text = f"{where}{f'; the other {rest} stay where they began' if rest else ''}."
        if self._judge is None:
            return text
        chance = self._judge(self.decode(*values).to(self.start.device))[0]
        digit = int(chance.argmax())
        return f"{text} The judge takes it for a {digit} ({chance[digit].item():.0%})."


def explore_latents(
    decode: Decode, codes: Array, labels: Array, *, dims: Sequence[int], start: Tensor, judge: Judge | None = None
) -> Widget:
    """Return a widget with a slider for each chosen dimension, the map of the first two, and the decoded code.

    Arguments as for `LatentExplorer`. A first picture that fails raises; a later failure is told below.
    """
    return panel(LatentExplorer(decode, codes, labels, dims=dims, start=start, judge=judge))


def still_latents(decode: Decode, start: Tensor, dims: Sequence[int]) -> Figure:
    """Show the explorer's sliders in a still figure: each dimension in a row of its own, moved from −3 to 3.

    decode: (n, L) codes -> (n, 1, H, W) pixels in [0, 1]. start: (L,), where the other dimensions stay. dims: 1 to 8
    dimensions. Raises ValueError for others.
    """
    start = _check_start(start)
    values = torch.linspace(-REACH, REACH, 9)
    rows = {}
    for d in _check_dims(dims, len(start), least=1):
        codes = start.repeat(len(values), 1)
        codes[:, d] = values.to(codes)
        rows[_subscript(d)] = decode_codes(decode, codes)
    return image_rows(rows, titles=[number_text(v, 1) for v in values.tolist()])


def _check_dims(dims: Sequence[int], latent_dim: int, *, least: int = 2) -> list[int]:
    chosen = [int(d) for d in dims]
    if not least <= len(chosen) <= MOST or len(set(chosen)) < len(chosen):
        raise ValueError(f"dims are {least} to {MOST} different dimensions, got {chosen}.")
    if not all(0 <= d < latent_dim for d in chosen):
        raise ValueError(f"dims go from 0 to {latent_dim - 1} here, got {chosen}.")
    return chosen


def _check_start(start: Tensor, latent_dim: int | None = None) -> Tensor:
    if not isinstance(start, Tensor) or start.ndim != 1 or latent_dim not in (None, len(start)):
        came = tuple(start.shape) if isinstance(start, Tensor) else type(start).__name__
        raise ValueError(f"start is one code, a tensor ({latent_dim or 'L'},) such as a posterior mean; got {came}.")
    return start.detach().clone()


def _subscript(dim: int) -> str:
    """The name of a dimension: z₁ is the one with index 0, as in the formulas."""
    return "z" + str(dim + 1).translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))
