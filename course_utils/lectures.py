"""Notebooks as lectures: which cells are slides, and how a slide that is too full becomes two.

    python -m course_utils.lectures [--check] [NOTEBOOK …]     # set slide types and tags in the files
    python -m course_utils.lectures --figures FOLDER           # run them; one figure of each, large, as PNG
    jupyter nbconvert --to slides --config course_utils/slides/config.py --output-dir slides NOTEBOOK …

What the first sets follows from the structure of a notebook, so nobody sets it by hand, and doing it again changes
nothing. The last writes the lectures; its configuration names the template, which uses `Lecture`.
"""

from __future__ import annotations

import argparse
import base64
import math
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import nbformat
from nbconvert.preprocessors import Preprocessor
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output

FIGURE_DPI = 300  # of an exported figure; 7.5 inches are 2250 pixels
NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"

# The tags that this module sets; slides/config.py leaves cells with these out of the slides.
TAGS = ("setup", "exercise", "widget", "self-test", "references")


class Role(NamedTuple):
    """What a cell is in a lecture: nbconvert's slide type, and at most one of TAGS."""

    slide_type: str
    tag: str | None = None


def roles(notebook: NotebookNode) -> list[Role]:
    """Return the role of every cell, from the structure of the notebook alone.

    A heading begins a slide, every other cell a sub-slide. Left out: what stands before the first heading but the
    title, set-up and imports, exercises, widgets (which are shown live), the self-test and the references.
    """
    found: list[Role] = []
    setup = next((i for i, cell in enumerate(notebook.cells) if cell.cell_type == "code"), -1)
    section, after_exercise = "", False
    for i, cell in enumerate(notebook.cells):
        text = cell.source.lstrip()
        title = re.match(r"##? +(.+)", text) if cell.cell_type == "markdown" else None
        section = title[1].lower() if title else section
        exercise = (cell.cell_type == "markdown" and text.startswith("**Exercise ")) or (
            cell.cell_type == "code" and after_exercise
        )
        after_exercise = exercise and cell.cell_type == "markdown"
        if exercise:
            role = Role("skip", "exercise")
        elif cell.cell_type == "code" and (i == setup or i == setup + 1):
            role = Role("skip", "setup")
        elif cell.cell_type == "code" and re.search(r"\bexplore_\w+\(", text):
            role = Role("skip", "widget")
        elif re.match(r"test yourself|questions|self-test", section):
            role = Role("skip", "self-test")
        elif section.startswith("references"):
            role = Role("skip", "references")
        elif 0 < i < setup or not text:
            role = Role("skip")
        else:
            role = Role("slide" if title else "subslide")
        found.append(role)
    return found


def assign(notebook: NotebookNode) -> NotebookNode:
    """Write the roles into the cells' metadata, in place, beside whatever else stands there; return the notebook."""
    for cell, role in zip(notebook.cells, roles(notebook), strict=True):
        cell.metadata["slideshow"] = nbformat.from_dict({"slide_type": role.slide_type})
        tags = [tag for tag in cell.metadata.get("tags", []) if tag not in TAGS]
        tags += [role.tag] if role.tag else []
        if tags:
            cell.metadata["tags"] = tags
        else:
            cell.metadata.pop("tags", None)
    return notebook


# --- from cells to slides that are not too full -------------------------------------------------

WIDTH, HEIGHT = 1180, 610  # pixels of a slide of 1280 × 720 that hold text: less its edges and the line at its top
PROSE_HEIGHT = 500  # a slide of prose is better half empty than full
CODE_SIZES = (20, 18, 16, 15, 14, 13)  # as in slides/course/static/lecture.css
ROWS = 26  # of a long listing on one slide
COLUMNS = 115  # where printed lines are broken, with a font of 16 pixels
CHARACTER, LINE = 0.602, 1.3  # of a monospaced font, in units of its size
SKIPPED = re.compile(r"\[!\[|\*\*(What to know first|Running time|How to read it)\b|<details\b|<a\b.*colab", re.I)
ALT_TEXT = re.compile(r'\balt=\s*f?"(?:[^"\\]|\\.)*"(?:\s*f?"(?:[^"\\]|\\.)*")*')


class Lecture(Preprocessor):
    """Splits the cells that are left after the tags into slides that hold one thing each."""

    def preprocess(self, notebook: NotebookNode, resources: dict) -> tuple[NotebookNode, dict]:
        """Return the notebook as slides: prose in parts, code, text outputs and figures each with room enough."""
        slides: list[NotebookNode] = []
        where = ""
        for cell in notebook.cells:
            if cell.metadata.get("slideshow", {}).get("slide_type") == "skip":
                continue
            if cell.cell_type == "markdown":
                for part in prose_slides(cell.source):
                    title = re.match(r"## +(.+)", part)
                    where = title[1] if title else where
                    slides += _slide(new_markdown_cell(part), "" if re.match("##? ", part) else where, **_look(part))
            elif cell.cell_type == "code":
                for part, look in code_slides(cell):
                    slides += _slide(part, where, **look)
        notebook.cells = slides
        return notebook, resources


def prose_slides(source: str) -> list[str]:
    """Split Markdown into the parts that fit a slide; what only a reader at a computer needs is left out."""
    slides: list[str] = []
    height = math.inf
    for block in _units(source):
        if re.match(r"#+ +(references|further reading)", block, re.IGNORECASE):
            break
        need = prose_height(block)
        begins = re.match(r"#{1,2} |\*\*Predict|After this notebook", block)
        if begins or height + need > PROSE_HEIGHT:
            slides.append(block)
            height = need
        else:
            slides[-1] += "\n\n" + block
            height += need
    return slides


def code_slides(cell: NotebookNode) -> Iterator[tuple[NotebookNode, dict[str, str]]]:
    """Split a code cell into slides: its code with its printed output where both fit, and every figure alone."""
    source = ALT_TEXT.sub('alt="…"', cell.source)
    pictures = [output for output in cell.outputs if "image/png" in output.get("data", {})]
    texts = [output for output in cell.outputs if output not in pictures and _text(output).strip()]
    printed = _wrapped("\n".join(_text(output).rstrip("\n") for output in texts))
    size = _code_size(f"{source}\n\n{printed}" if printed else source)
    if size is not None:
        yield _code(source, texts), {"code": str(size)}
    else:
        yield _code(source), {"code": str(_code_size(source) or CODE_SIZES[-1])}
        for part in _printed_parts(texts, printed):
            size = _code_size(_wrapped("\n".join(map(_text, part))))
            yield _code("", part), {"code": str(size or CODE_SIZES[-1]), "input": "none"}
    for picture in pictures:
        yield _code("", [picture]), {"kind": "figure", "input": "none"}


def prose_height(block: str) -> float:
    """Estimate how many pixels a block of Markdown takes on a slide."""
    if block.startswith("$$") or "\n\n$$" in block:
        before, _, formula = block.rpartition("$$\n\n") if not block.endswith("$$") else ("", "", block)
        if before:
            return prose_height(before + "$$") + prose_height(formula)
        words, _, formula = block.partition("$$")
        tall = 66 if re.search(r"frac|sum|int|prod|underbrace", formula) else 42
        rows = formula.count(r"\\") + 1
        return (prose_height(words.strip()) if words.strip() else 0) + rows * tall + 34
    if block.startswith("# "):
        return 260
    if block.startswith("#"):
        first, _, rest = block.partition("\n")
        return 43 * math.ceil(len(first) / 62) + 20 + (prose_height(rest.strip()) if rest.strip() else 0)
    if block.startswith("|"):
        return 42 * (block.count("\n") + 1) + 16
    if block.startswith("```"):
        return 30 * (block.count("\n") + 1) + 20
    lines = re.split(r"\n(?=\s*(?:[-*]|\d+\.) )", block)
    return sum(36 * math.ceil(len(_as_read(line)) / 86) + 6 for line in lines) + 12


def _as_read(text: str) -> str:
    """Roughly the characters that are seen: no commands of mathematics, no marks, no addresses."""
    text = re.sub(r"\]\([^)]*\)", "", text)
    return re.sub(r"\\[A-Za-z]+|[{}$*`^_\[\]]|<[^>]*>", lambda m: "x" if m[0].startswith("\\") else "", text)


def _units(source: str) -> list[str]:
    """The blocks of a Markdown cell; a formula stays with the paragraph before it, a heading with what follows."""
    source = re.sub(r"<details>.*?</details>", "", source, flags=re.DOTALL)
    blocks = re.split(r"\n[ \t]*\n(?![ \t]+\S)", source.strip())
    units: list[str] = []
    for block in (block.strip("\n") for block in blocks):
        if not block.strip() or SKIPPED.match(block.lstrip()):
            continue
        leads_on = bool(units) and re.search(r"(?:^#+ [^\n]*|[^.?!:$|`*_)\n>]|[^$]:)$", units[-1])
        if units and (leads_on or (block.startswith("$$") and not units[-1].endswith("$$"))):
            units[-1] += "\n\n" + block
        else:
            units.append(block)
    return units


def _look(part: str) -> dict[str, str]:
    look = {"kind": "question"} if part.startswith("**Predict") else {}
    return look | ({"prose": "small"} if prose_height_of_slide(part) > HEIGHT - 60 else {})


def prose_height_of_slide(part: str) -> float:
    """Estimate the height of a whole part, unit by unit."""
    return sum(prose_height(unit) for unit in _units(part))


def _slide(cell: NotebookNode, where: str, **look: str) -> list[NotebookNode]:
    """One slide: a line that says where we are, unless a heading does, and the cell."""
    head = isinstance(cell.source, str) and re.match(r"##? ", cell.source) and cell.cell_type == "markdown"
    opening = {"slide_type": "slide" if head else "subslide", "data": look}
    if not where:
        cell.metadata["slideshow"] = nbformat.from_dict(opening)
        return [cell]
    sign = new_markdown_cell(f'<p class="where">{where}</p>')
    sign.metadata["slideshow"] = nbformat.from_dict(opening)
    cell.metadata["slideshow"] = nbformat.from_dict({"slide_type": "-"})
    return [sign, cell]


def _code(source: str, outputs: list[NotebookNode] | None = None) -> NotebookNode:
    return new_code_cell(source, outputs=outputs or [])


def _code_size(text: str) -> int | None:
    """The largest font size with which this text fits a slide, or None."""
    lines = text.split("\n")
    longest = max(map(len, lines))
    fits = (s for s in CODE_SIZES if len(lines) * LINE * s + 30 <= HEIGHT and longest * CHARACTER * s + 30 <= WIDTH)
    return next(fits, None)


def _text(output: NotebookNode) -> str:
    """What an output shows in letters: printed text, a listing (Markdown), or the text of a result."""
    if output.output_type == "stream":
        return output.text
    data = output.get("data", {})
    return re.sub(r"^```\w*\n?", "", data.get("text/markdown", data.get("text/plain", "")), flags=re.MULTILINE)


def _printed_parts(outputs: list[NotebookNode], printed: str) -> list[list[NotebookNode]]:
    """The outputs together where a slide holds them; else each apart, and a long one in pieces, cut at empty lines."""
    if not printed or _code_size(printed) is not None:
        return [outputs] if outputs else []
    parts = []
    for output in outputs:
        lines, fence = _text(output).strip("\n").split("\n"), "text/markdown" in output.get("data", {})
        while lines:
            gaps = [i for i, line in enumerate(lines[:ROWS]) if not line.strip() and i > ROWS // 2]
            cut = len(lines) if len(lines) <= ROWS else gaps[-1] if gaps else ROWS
            text, lines = "\n".join(lines[:cut]).strip("\n"), lines[cut:]
            data = {"text/markdown": f"```python\n{text}\n```", "text/plain": text}
            parts.append([new_output("display_data", data=data) if fence else new_output("stream", text=text)])
    return parts


def _wrapped(text: str) -> str:
    """Printed lines that are too long go on in the next line, as the style sheet makes them."""
    return "\n".join(line[i : i + COLUMNS] for line in text.split("\n") for i in range(0, max(len(line), 1), COLUMNS))


# --- the command --------------------------------------------------------------------------------


def figure_cell(notebook: NotebookNode) -> int | None:
    """The index of the cell whose stored figure has the most pixels; None where no figure is stored."""

    def pixels(cell: NotebookNode) -> int:
        heads = [
            base64.b64decode(output.data["image/png"][:64])
            for output in cell.get("outputs", [])
            if "image/png" in output.get("data", {})
        ]  # width and height stand at byte 16 of a PNG
        return max((int.from_bytes(h[16:20], "big") * int.from_bytes(h[20:24], "big") for h in heads), default=0)

    sizes = [pixels(cell) for cell in notebook.cells]
    return sizes.index(max(sizes)) if any(sizes) else None


def export_figure(path: Path, target: Path, *, timeout: int = 900) -> bool:
    """Run a notebook as far as its largest figure and write that one, drawn again at 300 dots an inch, to `target`.

    Return False when the notebook has no figure. timeout: seconds for each cell. Raises nbclient's
    CellExecutionError when a cell raises.
    """
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    index = figure_cell(notebook)
    if index is None:
        return False
    keep = _KEEP.format(target=str(target.resolve()), dpi=FIGURE_DPI)
    notebook.cells = [*notebook.cells[:index], new_code_cell(keep), notebook.cells[index]]
    folder = {"metadata": {"path": str(path.resolve().parent)}}
    NotebookClient(notebook, timeout=timeout, kernel_name="python3", resources=folder).execute()
    return True


_KEEP = """\
from course_utils import plotting as _plotting

def _keep(fig, alt, _show=_plotting.show, _sizes=[0.0]):
    if fig.bbox.width * fig.bbox.height > _sizes[0]:
        _sizes[0] = fig.bbox.width * fig.bbox.height
        fig.savefig({target!r}, dpi={dpi}, facecolor="white")
    _show(fig, alt)

_plotting.show = _keep
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status: 1 when --check finds a notebook that the command would change."""
    parser = argparse.ArgumentParser(
        prog="python -m course_utils.lectures",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("notebooks", nargs="*", type=Path, metavar="NOTEBOOK", help="default: all of the course")
    parser.add_argument(
        "--check", action="store_true", help="change nothing, name the notebooks that are not up to date"
    )
    parser.add_argument(
        "--figures",
        type=Path,
        metavar="FOLDER",
        help="run each notebook as far as its largest figure, and write that one here, large",
    )
    options = parser.parse_args(arguments)
    paths = options.notebooks or sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))
    if options.figures:
        options.figures.mkdir(parents=True, exist_ok=True)
        for path in paths:
            target = options.figures / f"{path.stem}.png"
            if export_figure(path, target):
                print(target, flush=True)
        return 0
    changed = 0
    for path in paths:
        before = path.read_text(encoding="utf-8")
        after = nbformat.writes(assign(nbformat.reads(before, as_version=4))) + "\n"
        if after != before:
            changed += 1
            print(f"{path.name}: {'not up to date' if options.check else 'slides and tags set'}")
            if not options.check:
                _replace(path, after)
    return 1 if options.check and changed else 0


def _replace(path: Path, text: str) -> None:
    """Replace the file in one step: a reader never meets half of it."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
        os.chmod(temporary, path.stat().st_mode & 0o777)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


if __name__ == "__main__":
    sys.exit(main())
