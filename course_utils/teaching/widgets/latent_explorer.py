"""The explorer of a code of many dimensions: a map of two of them, a slider for each of the chosen ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from matplotlib.figure import Figure
from torch import Tensor

from course_utils.teaching._arrays import Array, check_codes
from course_utils.teaching.plotting import Decode, decode_codes, image_rows
from course_utils.teaching.widgets._panel import Slider, number_text, panel
from course_utils.teaching.widgets._plane import PlaneStage

if TYPE_CHECKING:
    import ipywidgets

REACH = 3.0  # sliders and map go from −3 to 3: 99.7 % of a standard normal in each dimension
MOST = 8  # sliders that still fit on a screen
Probabilities = Callable[[Tensor], Tensor]  # images (n, 1, H, W) -> class probabilities (n, 10)


class LatentExplorer(PlaneStage):
    """The picture of the explorer: codes on the plane of two dimensions, with a cross-hair, and the decoded code.

    decode: (n, L) codes -> (n, 1, H, W) pixels in [0, 1]. codes: (N, L), such as posterior means. labels: (N,) whole
    numbers from 0 to 9. dims: indices of the dimensions to move, the first two span the map; by default the (at most)
    six whose codes vary most. Index 0 is called z₁. start: (L,), where all dimensions begin and the others stay; by
    default 0. judge: images -> class probabilities (n, 10), for the words.
    Raises ValueError for shapes or dimensions that do not fit.
    """

    def __init__(
        self,
        decode: Decode,
        codes: Array,
        labels: Array,
        *,
        dims: Sequence[int] | None = None,
        start: Tensor | None = None,
        judge: Probabilities | None = None,
    ) -> None:
        codes = torch.as_tensor(codes).detach()
        if codes.ndim != 2 or codes.shape[1] < 2:
            raise ValueError(f"codes has shape {tuple(codes.shape)}, expected (N, L) with L of 2 or more.")
        self.latent_dim = codes.shape[1]
        self.dims = _check_dims(codes.var(0).argsort(descending=True)[:6] if dims is None else dims, self.latent_dim)
        self.start = _check_start(start, codes)
        self._decode, self._judge = decode, judge
        points, classes = check_codes(codes[:, self.dims[:2]], labels)
        names = tuple(f"${_name(d)}$" for d in self.dims[:2])
        super().__init__(points, classes, (-REACH, REACH, -REACH, REACH), names)

    def code(self, *values: float) -> Tensor:
        """Return the whole code, (1, L): the chosen dimensions at ``values``, the others where they began."""
        if len(values) != len(self.dims):
            raise ValueError(f"{len(self.dims)} values expected, one for each of the dimensions {self.dims}.")
        code = self.start.clone()
        code[self.dims] = torch.tensor(values, dtype=code.dtype, device=code.device)
        return code[None]

    def decode(self, *values: float) -> Tensor:
        """Return the decoding of this code, (1, 1, H, W) pixels in [0, 1]."""
        return decode_codes(self._decode, self.code(*values))

    def render(self, *values: float) -> bytes:
        """Return the picture for these values as an opaque PNG; errors in `decode` are passed on."""
        return self.move(*values[:2], self.decode(*values)[0, 0].numpy(), "the decoded code")

    def render_failure(self, *values: float) -> bytes:
        """Return the picture for a code that could not be decoded: no old image stays behind."""
        return self.move(*values[:2], None, "")

    def describe(self, *values: float) -> str:
        """Return the picture in words: also what a screen reader says."""
        where = ", ".join(f"{_subscript(d)} = {number_text(v)}" for d, v in zip(self.dims, values, strict=True))
        rest = self.latent_dim - len(self.dims)
        text = f"{where}{f'; the other {rest} stay where they began' if rest else ''}."
        if self._judge is None:
            return text
        chance = self._judge(self.decode(*values).to(self.start.device))[0]
        digit = int(chance.argmax())
        return f"{text} The judge takes it for a {digit} ({chance[digit].item():.0%})."


def explore_latents(
    decode: Decode,
    codes: Array,
    labels: Array,
    *,
    dims: Sequence[int] | None = None,
    start: Tensor | None = None,
    judge: Probabilities | None = None,
) -> ipywidgets.VBox:
    """Return a widget with a slider for each chosen dimension, the map of the first two, and the decoded code.

    Arguments as for `LatentExplorer`. A first picture that fails raises; a later failure is told under the picture.
    """
    explorer = LatentExplorer(decode, codes, labels, dims=dims, start=start, judge=judge)
    begin = explorer.start[explorer.dims].clamp(-REACH, REACH).tolist()
    sliders = {
        _subscript(d): Slider(-REACH, REACH, round(value, 2), 0.05)
        for d, value in zip(explorer.dims, begin, strict=True)
    }
    return panel(sliders, render=explorer.render, describe=explorer.describe, failure=explorer.render_failure)


def still_latents(decode: Decode, start: Tensor, dims: Sequence[int], *, steps: int = 9) -> Figure:
    """Show the explorer's sliders in a still figure: each dimension in a row of its own, moved from −3 to 3.

    decode: (n, L) codes -> (n, 1, H, W) pixels in [0, 1]. start: (L,), where the other dimensions stay. dims: 1 to 8
    dimensions. steps: pictures in a row, 2 to 15. Raises ValueError for others.
    """
    if not isinstance(start, Tensor) or start.ndim != 1:
        raise ValueError("start is one code, a tensor (L,); take a row of the posterior means.")
    chosen = _check_dims(dims, len(start), least=1)
    if not isinstance(steps, int) or not 2 <= steps <= 15:
        raise ValueError(f"steps is the number of pictures in a row, 2 to 15, not {steps!r}.")
    values = torch.linspace(-REACH, REACH, steps)
    rows = {}
    for d in chosen:
        codes = start.detach().repeat(steps, 1)
        codes[:, d] = values.to(codes)
        rows[_subscript(d)] = decode_codes(decode, codes)
    return image_rows(rows, titles=[number_text(v, 1) for v in values.tolist()])


def _check_dims(dims: Sequence[int] | Tensor, latent_dim: int, *, least: int = 2) -> list[int]:
    chosen = [int(d) for d in dims]
    if not least <= len(chosen) <= MOST or len(set(chosen)) < len(chosen):
        raise ValueError(f"dims are {least} to {MOST} different dimensions, got {chosen}.")
    if not all(0 <= d < latent_dim for d in chosen):
        raise ValueError(f"dims go from 0 to {latent_dim - 1} here, got {chosen}.")
    return chosen


def _check_start(start: Tensor | None, codes: Tensor) -> Tensor:
    if start is None:
        return torch.zeros_like(codes[0])
    if not isinstance(start, Tensor) or start.shape != codes.shape[1:]:
        shape = tuple(start.shape) if isinstance(start, Tensor) else type(start).__name__
        raise ValueError(f"start is one code of {codes.shape[1]} numbers, got {shape}.")
    return start.detach().clone()


def _name(dim: int) -> str:
    """The name of a dimension on an axis: z₁ is the one with index 0, as in the formulas."""
    return f"z_{{{dim + 1}}}"


def _subscript(dim: int) -> str:
    """The same for plain text."""
    return "z" + str(dim + 1).translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))
