"""The explorer of a two-dimensional code plane, and the still picture that stands before it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from torch import Tensor

from course_utils.teaching._arrays import Array, check_codes
from course_utils.teaching.plotting import INK, Decode, decode_codes, draw_code_map, extent_of
from course_utils.teaching.widgets._panel import Slider, Widget, letter, number_text, panel, positions
from course_utils.teaching.widgets._plane import PlaneStage

LETTER = 22  # points from a place to its letter, when something else is as near


class CodePlane(PlaneStage):
    """The picture of the explorer: the code map with a cross-hair, and the decoding of the code under it.

    decode: (n, 2) codes -> (n, 1, H, W) pixels in [0, 1]. codes: (N, 2). labels: (N,) whole numbers from 0 to 9.
    """

    def __init__(self, decode: Decode, codes: Array, labels: Array) -> None:
        self.points, self.classes = check_codes(codes, labels)
        self.extent = left, right, bottom, top = extent_of(self.points)
        self.sliders = {"z₁": Slider(left, right, (left + right) / 2), "z₂": Slider(bottom, top, (bottom + top) / 2)}
        self._decode, self._device = decode, codes.device if isinstance(codes, Tensor) else None
        super().__init__(self.points, self.classes, self.extent, ("$z_1$", "$z_2$"))

    def decode(self, places: Sequence[tuple[float, float]]) -> np.ndarray:
        """Return the decodings of exactly these n codes, (n, H, W) pixels in [0, 1]."""
        codes = torch.tensor(places, dtype=torch.float32, device=self._device)
        return decode_codes(self._decode, codes)[:, 0].numpy()

    def render(self, z1: float, z2: float) -> bytes:
        """Return the picture for the code (z1, z2); errors in `decode` are passed on."""
        return self.move(z1, z2, self.decode([(z1, z2)])[0], f"decoding of ({number_text(z1)}, {number_text(z2)})")

    def describe(self, z1: float, z2: float) -> str:
        """Name the class of the nearest code on the map."""
        distances = np.hypot(self.points[:, 0] - z1, self.points[:, 1] - z2)
        i = int(distances.argmin())
        where = f"z = ({number_text(z1)}, {number_text(z2)})"
        return f"{where}. The nearest code is that of a {self.classes[i]}, {distances[i]:.2f} away."


def explore_codes(decode: Decode, codes: Array, labels: Array) -> Widget:
    """Return a widget with two sliders, z₁ and z₂, that shows where the code lies and what it decodes to.

    Arguments as for `CodePlane`. A first picture that fails raises; a later failure of `decode` is told below.
    """
    return panel(CodePlane(decode, codes, labels))


def still_code_plane(
    decode: Decode, codes: Array, labels: Array, points: Sequence[tuple[float, float]] | Tensor
) -> Figure:
    """Show several positions of the explorer in one still figure: lettered on the code map, decoded beside it.

    Arguments as for `CodePlane`. points: 1 to 9 codes (z₁, z₂), inside the picture. Raises ValueError for others.
    """
    plane = CodePlane(decode, codes, labels)
    chosen = dict(zip("ABCDEFGHI", positions(torch.as_tensor(points).tolist(), 9, plane.sliders), strict=False))
    columns = min(len(chosen), 2 if len(chosen) <= 4 else 3)
    fig = Figure(figsize=(8.4, 4.3), layout="constrained")
    map_part, image_part = fig.subfigures(1, 2, width_ratios=(1.25, 1))
    ax = map_part.add_subplot()
    draw_code_map(ax, plane.points, plane.classes, plane.extent)
    taken = [text.xyann for text in ax.texts if isinstance(text, Annotation)] + [*chosen.values()]
    for i, ((name, (z1, z2)), image) in enumerate(zip(chosen.items(), plane.decode([*chosen.values()]), strict=True)):
        ax.plot(z1, z2, "s", color="black", markersize=6, markeredgecolor="white", clip_on=False, zorder=7)
        side, place = _free_side(ax, (z1, z2), [other for other in taken if other != (z1, z2)])
        letter(ax, name, (z1, z2), side)
        taken.append(place)
        cell = image_part.add_subplot(math.ceil(len(chosen) / columns), columns, i + 1)
        cell.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        cell.set(xticks=[], yticks=[])
        cell.set_title(f"{name}\n({number_text(z1, 1)}, {number_text(z2, 1)})", fontsize=11, color=INK)
    where = ", ".join(f"{name} ({z1:.1f}, {z2:.1f})" for name, (z1, z2) in chosen.items())
    fig.alt = f"A map of {len(plane.points)} codes with lettered places, {where}, and the image each is decoded to."
    return fig


def _free_side(
    ax: Axes, point: tuple[float, float], others: Sequence[Sequence[float]]
) -> tuple[tuple[float, float], list[float]]:
    """Where a letter hides nothing: on its point or on that side of it which is farthest from the others.

    Returns the side, in points, and the place, in the axes' units.
    """
    width, height = ax.bbox.size / ax.figure.dpi * 72  # the layout engine may still change it a little: near enough
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    scale = np.array([width / (right - left), height / (top - bottom)])
    away = (np.reshape(others, (-1, 2)) - point) * scale
    angles = np.arange(8) * np.pi / 4
    sides = np.vstack([np.zeros(2), LETTER * np.stack([np.cos(angles), np.sin(angles)], axis=1)])
    places = np.array(point) + sides / scale
    inside = (places >= (left, bottom)).all(1) & (places <= (right, top)).all(1)
    inside[0] = True
    free = np.array([np.hypot(*(away - side).T).min(initial=np.inf) for side in sides])
    best = 0 if free[0] > LETTER else int(np.where(inside, free, -1.0).argmax())
    return (float(sides[best][0]), float(sides[best][1])), places[best].tolist()
