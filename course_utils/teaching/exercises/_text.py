"""Numbers, shapes and inputs as short text for messages."""

import re
import textwrap
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

_MOST_NUMBERS = 12
_KEEP_WHOLE = re.compile(r"of shape \([^()]*\)|\w+\([^()]*\)|[\[(][-\d., \[\]e]*[\])]")  # shapes, calls, numbers


def numbers_text(tensor: Tensor) -> str:
    """The numbers of a small tensor, to four digits, as nested lists."""

    def text(value: Any) -> str:
        if isinstance(value, list):
            return "[" + ", ".join(text(item) for item in value) + "]"
        if isinstance(value, float):
            return "0" if abs(value) < 1e-6 else f"{value:.4g}"
        return str(value)

    return text(tensor.detach().cpu().tolist())


def wrapped(text: str) -> str:
    """Prose broken into lines of 100 characters; indented lines (numbers, code) stay whole."""

    def fill(line: str) -> str:
        whole = _KEEP_WHOLE.sub(lambda found: found[0].replace(" ", "\0"), line)
        return textwrap.fill(whole, 100, break_long_words=False, break_on_hyphens=False).replace("\0", " ")

    return "\n".join(line if line.startswith("    ") else fill(line) for line in text.splitlines())


def tensor_text(tensor: Tensor) -> str:
    """Shape and, when there are few, the numbers."""
    shape = tuple(tensor.shape)
    what = "one number, shape ()" if shape == () else f"shape {shape}"
    return f"{what}: {numbers_text(tensor)}" if tensor.numel() <= _MOST_NUMBERS else what


def inputs_text(names: Sequence[str], values: Sequence[Any], *, separator: str = ", ") -> str:
    """Says which inputs were given: numbers where they are short, shapes otherwise."""
    return separator.join(f"{name} {_input_text(value)}" for name, value in zip(names, values, strict=False))


def _input_text(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"= {numbers_text(value)}" if value.numel() <= _MOST_NUMBERS else f"of shape {tuple(value.shape)}"
    if isinstance(value, nn.Module):
        return f"= a small {type(value).__name__}"
    return f"= {value!r}"
