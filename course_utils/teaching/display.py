"""What a notebook shows: a figure once, with alternative text that its own data wrote."""

from __future__ import annotations

import base64
import io
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from course_utils.teaching._numbers import number_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import Collection
    from matplotlib.container import BarContainer
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

PNG = b"\x89PNG"
MOST_LINES = 8  # described one by one; of more, only the number is told


def show(figure: Figure | bytes, sentence: str) -> None:
    """Display a figure, or a picture that is PNG bytes already, once and with alternative text; close the figure.

    The alternative text is `figure.alt`, or `describe(figure)` where a figure has none, and then the sentence: what
    to see in it, at least 12 characters. Outside a notebook nothing is displayed.
    Raises TypeError for anything else than a figure or a PNG and ValueError for a sentence too short to say anything.
    """
    is_png = isinstance(figure, bytes) and figure.startswith(PNG)
    if not (is_png or hasattr(figure, "savefig")):
        raise TypeError(f"show() takes a matplotlib Figure or the bytes of a PNG, not {type(figure).__name__}.")
    if not isinstance(sentence, str) or len(sentence.strip()) < 12:
        raise ValueError(
            f"The sentence {sentence!r} says too little. Write what there is to see (12 characters or more), for "
            "readers who cannot see the figure."
        )
    if get_ipython():
        drawn = "" if is_png else getattr(figure, "alt", None) or describe(figure)
        alt = f"{drawn} {sentence.strip()}".strip()
        # Handed over ready-made: no dependence on the backend, and the text version is the description.
        png = base64.b64encode(figure if is_png else to_png(figure)).decode("ascii")
        display({"image/png": png, "text/plain": alt}, metadata={"image/png": {"alt": alt}})
    # A reader's own pyplot figure would be shown a second time at the end of the cell.
    if "matplotlib.pyplot" in sys.modules and not is_png:
        sys.modules["matplotlib.pyplot"].close(figure)


def describe(figure: Figure) -> str:
    """What any matplotlib figure draws, in words: titles, labels, and where each line begins, ends and turns."""
    drawn = [axes for axes in figure.axes if axes.has_data()]
    words = "; ".join(filter(None, map(_axes_in_words, drawn)))
    heading = figure.get_suptitle()
    count = f"{len(drawn)} panels: " if len(drawn) > 1 else ""
    text = " ".join(f"{heading}{': ' if heading else ''}{count}{words}".replace("$", "").split())
    return text and text.rstrip(".") + "."


def _three(number: float) -> str:
    return number_text(number, 3)


def _axes_in_words(axes: Axes) -> str:
    x, y = axes.get_xlabel(), axes.get_ylabel()
    what = f"{y} over {x}" if x and y else x or y
    parts = [part for part in (axes.get_title(), what) if part]
    lines = [line for line in axes.lines if len(line.get_xdata()) > 1 and line.get_transform() == axes.transData]
    if len(lines) <= MOST_LINES:
        parts += map(_line_in_words, lines)
    else:
        parts.append(f"{len(lines)} lines")
    parts += map(_bars_in_words, [bars for bars in axes.containers if hasattr(bars, "patches")])
    parts += [_points_in_words(points) for points in axes.collections if len(points.get_offsets()) > 1]
    if axes.images:
        parts.append("a picture")
    return ", ".join(parts)


def _line_in_words(line: Line2D) -> str:
    xs, ys = (np.ma.filled(np.ma.asarray(v, dtype=float), np.nan) for v in line.get_data(orig=False))
    name = "" if line.get_label().startswith("_") else f"{line.get_label()}: "
    if not np.isfinite(ys).any():
        return f"{name}no finite value"
    words = f"{name}{_three(ys[0])} at {_three(xs[0])} to {_three(ys[-1])} at {_three(xs[-1])}"
    for extreme, i in (("lowest", np.nanargmin(ys)), ("highest", np.nanargmax(ys))):
        if 0 < i < len(ys) - 1:
            words += f", {extreme} {_three(ys[i])} at {_three(xs[i])}"
    return words


def _bars_in_words(bars: BarContainer) -> str:
    axes = bars.patches[0].axes
    sideways = bars.orientation == "horizontal"
    axis = axes.yaxis if sideways else axes.xaxis
    lengths = [bar.get_width() if sideways else bar.get_height() for bar in bars.patches]
    names = [label.get_text() for label in axis.get_ticklabels()]
    if len(names) == len(lengths) <= 20 and all(names):
        return ", ".join(f"{name} {_three(length)}" for name, length in zip(names, lengths, strict=True))
    return f"{len(lengths)} bars from {_three(min(lengths))} to {_three(max(lengths))}"


def _points_in_words(points: Collection) -> str:
    places = np.asarray(points.get_offsets(), dtype=float)
    name = points.get_label()
    ranges = " and ".join(f"{_three(v.min())} to {_three(v.max())}" for v in places.T)
    return f"{'' if name.startswith('_') else name + ': '}{len(places)} points, {ranges}"


def to_png(figure: Figure) -> bytes:
    """Return a figure as an opaque PNG of at most 256 colours, about a third of the usual size."""
    from PIL import Image

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", facecolor="white", transparent=False)
    picture = Image.open(buffer).convert("RGB")
    picture = picture.quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    # The quantiser misses white and black by a little.
    picture.putpalette([255 if v >= 252 else 0 if v <= 3 else v for v in picture.getpalette()])
    out = io.BytesIO()
    picture.save(out, format="png", optimize=True)
    return out.getvalue()


def display(bundle: dict[str, str], *, metadata: dict | None = None) -> None:
    """Hand a bundle of mime types to the notebook that runs this; there must be one."""
    from IPython.display import display as ipython_display

    ipython_display(bundle, raw=True, metadata=metadata)


def get_ipython() -> Any:
    """The IPython or kernel that this runs in, or None; IPython is not imported to find out."""
    ipython = sys.modules.get("IPython")  # a kernel has always imported it
    return ipython and ipython.get_ipython()
