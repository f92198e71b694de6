"""Slide types and tags follow from a notebook's structure, and the decks from the same notebooks."""

import base64
import copy
import io
import os
import re
import subprocess
import zipfile
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from course_utils.teaching import lectures
from course_utils.teaching import session as runtime
from course_utils.teaching.lectures import Role, assign, figure_cell, main, roles

from .conftest import NOTEBOOKS, ROOT, python


def png(width, height):
    file = io.BytesIO()
    Image.new("RGB", (width, height)).save(file, format="png")
    return base64.b64encode(file.getvalue()).decode()


def picture(width=8, height=8):
    return new_output("display_data", data={"image/png": png(width, height), "text/plain": "a picture"})


CELLS = [
    (new_markdown_cell("# 99 · Title\n\nWhy?"), Role("slide")),
    (new_markdown_cell("**How to read it.** Slowly."), Role("skip")),
    (new_code_cell(runtime.SETUP_CELL), Role("skip", "setup")),
    (new_code_cell("import torch"), Role("skip", "setup")),
    (new_markdown_cell("## 1 · One idea\n\nText."), Role("slide")),
    (new_markdown_cell("**Predict.** More or less?"), Role("subslide")),
    (new_code_cell("print(1)"), Role("subslide")),
    (new_markdown_cell("**Exercise 99.1** (4 minutes) · *Do it.*"), Role("skip", "exercise")),
    (new_code_cell("def do(x): ...\n\ncheck('99.1', do)"), Role("skip", "exercise")),
    (new_code_cell("x = 1"), Role("subslide")),
    (new_code_cell("display(widgets.explore_codes(x))"), Role("skip", "widget")),
    (new_markdown_cell("## Summary\n\nText."), Role("slide")),
    (new_markdown_cell("## Test yourself\n\nAnswer."), Role("skip", "self-test")),
    (new_markdown_cell("<details>\n<summary>4. Why?</summary>\n\nSo.\n\n</details>"), Role("skip", "self-test")),
    (new_markdown_cell("## What comes next\n\nMore.\n\n## References\n\n- 2014"), Role("slide")),
    (new_markdown_cell("[← 98](98.ipynb) · [Glossary](glossary.ipynb)"), Role("skip", "references")),
    (new_markdown_cell("## References\n\n- 2014"), Role("skip", "references")),
]


@pytest.fixture
def notebook():
    return new_notebook(cells=[copy.deepcopy(cell) for cell, _ in CELLS])


def test_the_role_of_every_cell_follows_from_the_structure(notebook):
    assert roles(notebook) == [role for _, role in CELLS]


def test_assigning_keeps_what_else_stands_there_and_is_idempotent(notebook):
    notebook.cells[6].metadata = nbformat.from_dict({"tags": ["nbval-skip", "exercise"], "jupyter": {}})
    once = assign(copy.deepcopy(notebook))
    assert once.cells[6].metadata == {"tags": ["nbval-skip"], "jupyter": {}, "slideshow": {"slide_type": "subslide"}}
    assert once.cells[7].metadata == {"tags": ["exercise"], "slideshow": {"slide_type": "skip"}}
    assert [cell.source for cell in once.cells] == [cell.source for cell in notebook.cells]
    assert assign(copy.deepcopy(once)) == once
    nbformat.validate(once)


def test_the_command_sets_checks_and_is_silent_when_there_is_nothing_to_do(notebook, tmp_path, capsys):
    path = tmp_path / "99_example.ipynb"
    nbformat.write(notebook, path)
    before = path.read_bytes()
    assert main(["--check", str(path)]) == 1
    assert path.read_bytes() == before
    assert main([str(path)]) == 0
    assert "99_example.ipynb: slides and tags set" in capsys.readouterr().out
    once = path.read_bytes()
    assert once != before
    assert main([str(path)]) == main(["--check", str(path)]) == 0
    assert path.read_bytes() == once and capsys.readouterr().out == ""
    assert [file.name for file in tmp_path.iterdir()] == ["99_example.ipynb"]


@pytest.mark.parametrize("what", ["--check", "--slides=slides", "--figures=figures"])
def test_a_notebook_that_is_not_there_is_named_before_anything_is_done(what, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="2"):
        main([what, "nosuch.ipynb"])
    assert "no such notebook: nosuch.ipynb" in capsys.readouterr().err and not list(tmp_path.iterdir())


DRAW = """\
from matplotlib.figure import Figure
from course_utils.teaching import show
for size in ((2, 1), (4, 3), (1, 1)):
    show(Figure(figsize=size, dpi=50), "a figure with nothing in it")"""


def test_the_command_draws_the_largest_figure_again(tmp_path):
    cells = [new_code_cell("fine = True", outputs=[picture(4, 4)]), new_code_cell(DRAW, outputs=[picture(30, 20)]),
             new_code_cell("raise RuntimeError('run too far')", outputs=[picture(25, 20)])]  # fmt: skip
    path = tmp_path / "99_example.ipynb"
    nbformat.write(new_notebook(cells=cells), path)
    before = path.read_bytes()
    assert figure_cell(nbformat.read(path, as_version=4)) == 1
    assert main(["--figures", str(tmp_path / "figures"), str(path)]) == 0
    with Image.open(tmp_path / "figures" / "99_example.png") as figure:
        assert figure.size == (4 * lectures.FIGURE_DPI, 3 * lectures.FIGURE_DPI)
    assert path.read_bytes() == before
    assert figure_cell(new_notebook(cells=[new_code_cell("1")])) is None


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_notebooks_are_up_to_date(path):
    assert main(["--check", str(path)]) == 0, "run python -m course_utils.teaching.lectures"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_set_up_exercises_and_widgets_of_the_course_are_found(path):
    notebook = nbformat.read(path, as_version=4)
    tagged = {tag: [c for c, r in zip(notebook.cells, roles(notebook), strict=True) if r.tag == tag]
              for tag in lectures.TAGS}  # fmt: skip
    assert tagged["setup"][0].source == runtime.SETUP_CELL
    last = [cell.source.rstrip().rpartition("\n")[2] for cell in notebook.cells]
    checks = [cell for cell, line in zip(notebook.cells, last, strict=True) if re.match(r"(\w+ = )?check\(", line)]
    assert checks and all(cell in tagged["exercise"] for cell in checks)
    assert tagged["widget"] and tagged["self-test"]


def test_without_network_the_reason_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("PIP_RETRIES", "0")
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    with pytest.raises(RuntimeError, match=r"(?s)pip download failed:.*sphinx-revealjs"):
        lectures.fetch_libraries(tmp_path / "lib")
    assert not (tmp_path / "lib").exists()


def test_a_stop_half_way_leaves_nothing_and_the_next_call_does_all(tmp_path, monkeypatch):
    stops = [True]

    def download(*arguments):
        """Wheels with one file for every folder that is wanted; the first time, the last of them is cut short."""
        folder = Path(arguments[arguments.index("--dest") + 1])
        folder.mkdir(parents=True)
        for package, parts in lectures.LIBRARIES.items():
            wheel = folder / f"{package.partition('==')[0].replace('-', '_')}-1-py3-none-any.whl"
            with zipfile.ZipFile(wheel, "w") as archive:
                for prefix in parts:
                    archive.writestr(f"{prefix}x.js", "x")
        if stops:
            stops.clear()
            wheel.write_bytes(wheel.read_bytes()[:20])

    monkeypatch.setattr(lectures, "_run", download)
    with pytest.raises(zipfile.BadZipFile):
        lectures.fetch_libraries(tmp_path / "lib")
    assert not list(tmp_path.iterdir())
    lectures.fetch_libraries(tmp_path / "lib")
    names = {name for parts in lectures.LIBRARIES.values() for name in parts.values()}
    assert {path.parent.name for path in (tmp_path / "lib").rglob("x.js")} == {Path(name).name for name in names}
    monkeypatch.setattr(lectures, "_run", lambda *arguments: pytest.fail(f"ran {arguments}"))
    lectures.fetch_libraries(tmp_path / "lib")  # it is there, and not fetched again


def test_nbconvert_leaves_out_what_the_tags_say(notebook, tmp_path):
    """The README's command, without what only a browser can do."""
    path = tmp_path / "99_example.ipynb"
    nbformat.write(assign(notebook), path)
    command = python(
        "-m", "nbconvert", "--to", "slides", "--config", "course_utils/teaching/slides/config.py", str(path)
    )
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, encoding="utf-8")
    assert ran.returncode == 0 and "WARNING" not in ran.stderr, ran.stderr
    deck = (tmp_path / "99_example.slides.html").read_text(encoding="utf-8")
    body = deck[deck.index("<body") : deck.index("</main>")]
    assert "Title" in body and "One idea" in body and "https://unpkg.com/reveal.js@" in deck
    for gone in ("Slowly", "Set-up, the same", "import torch", "Do it", "explore_codes", "Answer"):
        assert gone not in body, gone
