"""What every explorer shares: labelled sliders, a picture of which little moves, and its sentence."""

from __future__ import annotations

import html
import io
import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from course_utils.teaching.plotting import INK

if TYPE_CHECKING:
    import ipywidgets
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

ALARM = "#9c0006"
Widget: TypeAlias = "ipywidgets.VBox"  # which is loaded when one is made


class Slider(NamedTuple):
    """The range of one slider and where it begins; by default about a hundred round steps."""

    low: float
    high: float
    start: float
    step: float | None = None


def panel(picture: Stage) -> Widget:
    """Return a widget: a picture's sliders, the picture itself for their values, and its words.

    Keyboard: focus a slider, then the arrow keys. An error in the first picture is passed on; a later one is told under
    what stands still of the picture.
    """
    import ipywidgets as widgets

    hover = "tooltip" if "tooltip" in widgets.FloatSlider.class_trait_names() else "description_tooltip"  # 8.x, 7.x
    controls = [
        widgets.FloatSlider(
            value=_on_grid(slider), min=slider.low, max=slider.high, step=_step(slider), description=label,
            readout_format=".0f" if _step(slider) % 1 == 0 else ".2f",
            layout=widgets.Layout(width="400px", max_width="98%"),
            **{hover: f"{label}, from {number_text(slider.low)} to {number_text(slider.high)}; keys: arrow, Home, End"},
        )
        for label, slider in picture.sliders.items()
    ]  # fmt: skip
    image = widgets.Image(format="png", layout=widgets.Layout(max_width="100%"))
    message = widgets.HTML()

    def draw() -> None:
        values = [control.value for control in controls]
        image.value, message.value = picture.render(*values), _tell(picture.describe(*values), INK)

    def update(change: object) -> None:
        try:
            draw()
        except Exception as error:  # an exception in a callback would vanish in the log
            where = ", ".join(f"{control.description} = {number_text(control.value)}" for control in controls)
            image.value = picture.still_part()
            message.value = _tell(f"✘ no picture at {where}: {type(error).__name__}: {error}", ALARM)

    draw()
    for control in controls:
        control.observe(update, names="value")
    return widgets.VBox([widgets.HBox(controls, layout=widgets.Layout(flex_flow="row wrap")), image, message])


def number_text(value: float, digits: int = 2) -> str:
    """A number with a real minus sign, and no minus before zero."""
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", "−")


class Stage:
    """A figure of which little moves: all but the animated artists is drawn once and kept as pixels.

    A subclass has `sliders`, label -> Slider, and two methods that take their values in that order: `render` returns
    the picture as an opaque PNG, and `describe` the same in words, which a screen reader says too.
    """

    sliders: Mapping[str, Slider]

    def __init__(self, height: float, width: float = 9.0) -> None:
        # Fixed places instead of a layout engine: the kept pixels must not move.
        self.figure = Figure(figsize=(width, height), dpi=90, layout="none", facecolor="white")
        self._canvas = FigureCanvasAgg(self.figure)
        self._kept = {}

    def png(self, scale: Hashable = None) -> bytes:
        """What the figure shows, as an opaque PNG; what stands still is drawn anew for each `scale` of the axes."""
        if not self._kept:
            self._moving = sorted((a for a in self.figure.findobj() if a.get_animated()), key=lambda a: a.zorder)
        if scale not in self._kept:
            seen = [artist for artist in self._moving if artist.get_visible()]
            for artist in seen:  # matplotlib before 3.11 draws images even when they are animated
                artist.set_visible(False)
            self._canvas.draw()
            self._kept[scale] = self._canvas.copy_from_bbox(self.figure.bbox)
            for artist in seen:
                artist.set_visible(True)
        self._canvas.restore_region(self._kept[scale])
        for artist in self._moving:
            artist.draw(self._canvas.get_renderer())
        return self._png()

    def still_part(self) -> bytes:
        """The figure without anything that moves, to stand where a picture cannot be made."""
        self._canvas.restore_region([*self._kept.values()][-1])
        return self._png()

    def _png(self) -> bytes:
        """The canvas as PNG; made for speed, since it is sent and forgotten."""
        from PIL import Image

        out = io.BytesIO()
        Image.fromarray(np.asarray(self._canvas.buffer_rgba())[..., :3]).save(out, format="png", compress_level=1)
        return out.getvalue()


def blank_image(ax: Axes) -> AxesImage:
    """Take the ticks from the axes and put an image into them that moves and shows nothing yet."""
    ax.set(xticks=[], yticks=[])
    options = {"cmap": "gray", "vmin": 0, "vmax": 1, "interpolation": "nearest", "animated": True}
    return ax.imshow(np.zeros((1, 1)), extent=(0, 1, 0, 1), **options)


class Bars:
    """Signed horizontal bars under one another, with their numbers beside them, or inside of one that is long."""

    def __init__(self, ax: Axes, names: Sequence[str], colours: Sequence[str], *, animated: bool = False) -> None:
        self.ax, rows = ax, range(len(names))
        self.bars = ax.barh(rows, [0.0] * len(names), height=0.6, color=colours, animated=animated)
        look = {"textcoords": "offset points", "va": "center", "fontsize": 11, "animated": animated}
        self.numbers = [ax.annotate("", (0, row), xytext=(4, 0), **look) for row in rows]
        ax.set_yticks(rows, names)
        ax.invert_yaxis()
        ax.axvline(0, color=INK, linewidth=1)
        ax.tick_params(axis="y", length=0)
        ax.spines["left"].set_visible(False)

    def move(self, values: Sequence[float], digits: int = 2) -> None:
        """Give the bars their lengths, cut off where the axis ends, and write the true numbers."""
        left, right = self.ax.get_xlim()
        for bar, number, value in zip(self.bars, self.numbers, values, strict=True):
            end = float(np.clip(value, left, right))
            inside = end > right - 0.25 * (right - left)
            bar.set_width(end)
            number.xy = max(end, 0.0), number.xy[1]
            number.set(text=number_text(float(value), digits), x=-4 if inside else 4)
            number.set(ha="right" if inside else "left", color="white" if inside else INK)


def positions(points: Iterable, most: int, ranges: Mapping[str, Sequence[float]]) -> list[tuple[float, ...]]:
    """The positions of a still figure, checked: 1 to `most` of them, each a value for every range, name -> low, high.

    Raises ValueError for another number of positions or of values, or for one that the explorer cannot reach.
    """
    chosen = [tuple(map(float, np.atleast_1d(point))) for point in points]
    if not 1 <= len(chosen) <= most or any(len(point) != len(ranges) for point in chosen):
        raise ValueError(f"a still figure shows 1 to {most} positions ({', '.join(ranges)}), got {points!r}.")
    for point in chosen:
        for (name, (low, high, *_)), value in zip(ranges.items(), point, strict=True):
            if not low <= value <= high:
                raise ValueError(f"{name} = {value:g} is outside the explorer, {low:g} to {high:g}.")
    return chosen


def letter(ax: Axes, text: str, place: tuple[float, float], offset: tuple[float, float] = (0.0, 0.0)) -> None:
    """Write a letter in a black box at a place, or so many points beside it with a line that leads there."""
    ax.annotate(
        text, place, xytext=offset, textcoords="offset points", ha="center", va="center", fontsize=12,
        fontweight="bold", color="white", annotation_clip=False, zorder=8,
        bbox={"boxstyle": "square,pad=0.2", "fc": "black", "ec": "white", "lw": 1},
        arrowprops={"arrowstyle": "-", "color": "black", "lw": 1.2, "zorder": 7} if any(offset) else None,
    )  # fmt: skip


def _tell(words: str, colour: str) -> str:
    return (
        f'<div role="status" style="color: {colour}; background: white; padding: 0 6px; line-height: 1.5">'
        f"{html.escape(words)}</div>"
    )


def _step(slider: Slider) -> float:
    """A slider's step: its own, or a round number, about a hundredth of its range."""
    rounds = (m * 10.0**e for e in range(-6, 10) for m in (1, 2, 5))
    return slider.step or min(rounds, key=lambda s: abs(math.log(s * 100 / (slider.high - slider.low))))


def _on_grid(slider: Slider) -> float:
    """Where the slider begins: the step nearest to `start`, or its page would move it there once it is shown."""
    steps = round((slider.start - slider.low) / _step(slider))
    return min(round(slider.low + steps * _step(slider), 10), slider.high)
