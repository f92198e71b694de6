"""Notebooks as lectures: which cells are slides, decks that need no network, and the largest figures.

    python -m course_utils.teaching.lectures [--check] [NOTEBOOK …]           # set slide types and tags in the files
    python -m course_utils.teaching.lectures --slides FOLDER [NOTEBOOK …]     # decks for a hall without network
    python -m course_utils.teaching.lectures --figures FOLDER [NOTEBOOK …]    # run them; one figure of each, as PNG

What the first sets follows from the structure of a notebook, so nobody sets it by hand, and doing it again changes
nothing. The second is nbconvert with slides/config.py, and beside the decks a copy of what they would otherwise load
from the network: reveal.js, MathJax and RequireJS, taken with pip from the packages that carry them.
"""

from __future__ import annotations

import argparse
import base64
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell

from course_utils._files import ROOT, print_anything, replace_text

FIGURE_DPI = 300  # of an exported figure; 7.5 inches are 2250 pixels
NOTEBOOKS = ROOT / "notebooks"
CONFIG = Path(__file__).resolve().parent / "slides" / "config.py"

# The tags that this module sets; slides/config.py leaves cells with these out of the slides.
TAGS = ("setup", "exercise", "widget", "self-test", "references")

# Package -> a folder in its wheel -> its name beside the decks. Nothing of a package is run or installed.
LIBRARIES = {
    "sphinx-revealjs==3.2.1": {"sphinx_revealjs/_static/revealjs/": "reveal"},  # 5.2.0, as in slides/config.py
    "nbclassic==1.3.3": {
        "nbclassic/static/components/MathJax/": "MathJax",
        "nbclassic/static/components/requirejs/": "requirejs",
    },
}


def lessons() -> list[Path]:
    """The course's lessons, in order; a reader's own copies beside them (01_autoencoder-Copy1.ipynb) are none."""
    return sorted(path for path in NOTEBOOKS.glob("*.ipynb") if re.fullmatch(r"\d\d_\w+", path.stem))


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
        headings = re.findall(r"^##? +(.+)", text, re.MULTILINE) if cell.cell_type == "markdown" else []
        section = headings[-1].lower() if headings else section  # for the cells that follow
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


# --- what is taken from a notebook


def write_slides(folder: Path, paths: Sequence[Path]) -> None:
    """Write the lectures of these notebooks, and what they need from the network, into the folder.

    Raises RuntimeError with the words of pip or nbconvert when one of them fails. Once `folder`/lib is there, no
    network is needed any more.
    """
    fetch_libraries(folder / "lib")
    _run(
        "nbconvert", "--to", "slides", "--log-level=ERROR", "--config", str(CONFIG), "--output-dir", str(folder),
        "--SlidesExporter.reveal_url_prefix=lib/reveal", "--SlidesExporter.mathjax_url=lib/MathJax/MathJax.js",
        "--SlidesExporter.require_js_url=lib/requirejs/require.js", *map(str, paths),
    )  # fmt: skip


def fetch_libraries(folder: Path) -> None:
    """Put what a deck loads into the folder, unless it is there; raises RuntimeError with pip's words."""
    if folder.is_dir():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Unpacked beside its place and moved there when it is whole: half of it would be taken for all of it next time.
    with tempfile.TemporaryDirectory(dir=folder.parent) as place:
        wheels, whole = Path(place, "wheels"), Path(place, "whole")
        _run("pip", "download", "--no-deps", "--only-binary=:all:", "--quiet", "--dest", str(wheels), *LIBRARIES)
        for package, parts in LIBRARIES.items():
            (wheel,) = wheels.glob(f"{package.partition('==')[0].replace('-', '_')}-*.whl")
            with zipfile.ZipFile(wheel) as archive:
                for member in archive.infolist():
                    for prefix, name in parts.items():
                        if member.filename.startswith(prefix) and not member.is_dir():
                            target = whole / name / member.filename.removeprefix(prefix)
                            target.parent.mkdir(parents=True, exist_ok=True)
                            target.write_bytes(archive.read(member))
        whole.rename(folder)


def _run(module: str, *arguments: str) -> None:
    ran = subprocess.run([sys.executable, "-m", module, *arguments], capture_output=True, text=True, encoding="utf-8")
    if ran.returncode:
        raise RuntimeError(f"{module} {arguments[0]} failed:\n{ran.stderr.strip()[-3000:]}")


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
import course_utils.teaching as _teaching

def _keep(figure, sentence, _show=_teaching.show, _sizes=[0.0]):
    if hasattr(figure, "savefig") and figure.bbox.width * figure.bbox.height > _sizes[0]:
        _sizes[0] = figure.bbox.width * figure.bbox.height
        figure.savefig({target!r}, dpi={dpi}, facecolor="white")
    _show(figure, sentence)

show = _teaching.show = _keep
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status: 1 when --check finds a notebook that the command would change."""
    print_anything()
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="python -m course_utils.teaching.lectures", description=__doc__, formatter_class=raw
    )
    parser.add_argument("notebooks", nargs="*", type=Path, metavar="NOTEBOOK", help="default: all of the course")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--check", action="store_true", help="change nothing, name the notebooks that are not up to date")
    what.add_argument("--slides", type=Path, metavar="FOLDER", help="write lectures here that need no network")
    what.add_argument(
        "--figures",
        type=Path,
        metavar="FOLDER",
        help="run each notebook as far as its largest figure, and write that one here, large",
    )
    options = parser.parse_args(arguments)
    if missing := [str(path) for path in options.notebooks if not path.is_file()]:
        parser.error(f"no such notebook: {', '.join(missing)}")
    paths = options.notebooks or lessons()
    if options.slides:
        try:
            write_slides(options.slides, paths)
        except (RuntimeError, OSError) as error:
            print(error, file=sys.stderr)
            return 1
        for path in paths:
            print(options.slides / f"{path.stem}.slides.html")
        return 0
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
                replace_text(path, after)
    return 1 if options.check and changed else 0


if __name__ == "__main__":
    sys.exit(main())
