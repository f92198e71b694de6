"""The maintainers' command that runs notebooks: what it stores, folds, refuses and reports."""

from __future__ import annotations

import json
import os
import subprocess

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from .conftest import ROOT, python
from .test_notebook_files import good, is_as_execute_leaves_it, is_valid
from .test_notebook_files import path as path  # a fixture
from .tools.execute import execute

NOISY = """\
import sys, time
from IPython.display import display
handle = display("first", display_id=True)
handle.update("last")
print("a", flush=True)
print("b")
"""


def run_execute(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = python("-m", "tests.tools.execute", *arguments)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, encoding="utf-8")


def test_execute_stores_clean_outputs_and_folds(path):
    notebook = good()
    notebook.metadata = nbformat.from_dict({"kernelspec": {"name": "other", "display_name": "x"}, "widgets": {}})
    kept = {"tags": ["keep"], "slideshow": {"slide_type": "slide"}}
    notebook.cells[3:7] = [
        new_code_cell(NOISY, metadata={**kept, "execution": {"iopub.status.busy": "2026"}}),
        new_code_cell("import ipywidgets; ipywidgets.IntSlider()"),
        new_code_cell(""),
        new_code_cell("import os\n[os.environ[f'COURSE_{n}'] for n in ('DATASET', 'SEED', 'NOTEBOOK')]"),
        new_code_cell("1", metadata={"tags": ["draw"]}),
    ]  # fmt: skip
    ids = [cell.id for cell in notebook.cells]
    nbformat.write(notebook, path)
    ran = run_execute("--in-place", "--seed", "3", str(path))
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "stored" in ran.stdout

    stored = nbformat.read(path, as_version=nbformat.NO_CONVERT)
    assert is_valid(path, stored) == is_as_execute_leaves_it(path, stored) == []
    assert [cell.id for cell in stored.cells] == ids
    assert "seed 3" in stored.cells[1].outputs[0].text
    shown, printed = stored.cells[3].outputs
    assert shown.data == {"text/plain": "'last'"}
    assert printed.text == "a\nb\n"
    assert stored.cells[3].metadata == kept
    assert stored.cells[4].outputs == []
    assert stored.cells[6].outputs[0].data["text/plain"] == "['mnist', '3', '99_example']"
    assert stored.cells[7].metadata == {"tags": ["draw"], "cellView": "form", "jupyter": {"source_hidden": True}}
    assert stored.cells[7].source == "# @title The figure\n1"
    assert not list(path.parent.glob(".*"))

    once = path.read_bytes()
    assert run_execute("--in-place", "--seed", "3", str(path)).returncode == 0
    assert path.read_bytes() == once  # the same outputs, byte for byte
    assert run_execute("--fold", str(path)).returncode == 0
    assert path.read_bytes() == once


@pytest.mark.parametrize("source", ["import warnings; warnings.warn('old')", "raise ValueError('no')"])
def test_execute_refuses_errors_and_warnings(path, source):
    nbformat.write(new_notebook(cells=[new_code_cell("1"), new_code_cell(source)]), path)
    before = path.read_bytes()
    ran = run_execute("--in-place", str(path))
    assert ran.returncode == 1
    assert "refused" in ran.stdout and ("UserWarning: old" in ran.stdout or "ValueError: no" in ran.stdout)
    assert path.read_bytes() == before


def test_execute_only_reports_unless_told_to_store_and_gathers_claims(path):
    source = "from course_utils.teaching import claim, start_session; start_session(); claim('small', 1, '<', 2)"
    nbformat.write(new_notebook(cells=[new_code_cell(source)]), path)
    before = path.read_bytes()
    gathered = path.parent / "claims.jsonl"
    ran = run_execute("--seed", "4", "--claims", str(gathered), str(path))
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert path.read_bytes() == before
    (line,) = gathered.read_text(encoding="utf-8").splitlines()
    entry = json.loads(line)
    assert (entry["notebook"], entry["seed"], entry["value"]) == ("99_example", 4, 1.0)


def test_a_notebook_runs_in_its_own_folder(path):
    nbformat.write(new_notebook(cells=[new_code_cell("import pathlib; pathlib.Path('picture.png').exists()")]), path)
    assert execute(path).cells[0].outputs[0].data["text/plain"] == "True"
