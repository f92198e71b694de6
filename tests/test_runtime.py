"""The notebooks' first cell, claims, and moving the course to another repository."""

from __future__ import annotations

import json
import math
import os
import random
import shutil
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch

from course_utils import data
from course_utils.teaching import session as runtime
from course_utils.teaching import set_repository

from .conftest import ROOT


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    for name in ("COURSE_SEED", "COURSE_CLAIMS", "COURSE_NOTEBOOK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(runtime, "_session", None)
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", False)


# --- start --------------------------------------------------------------------------------------


def draws() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))  # noqa: NPY002


def test_start_seeds_everything_and_says_so_in_one_line(capsys):
    session = runtime.start()
    first = draws()
    line = capsys.readouterr().out
    assert session.seed == 0
    assert session.device.type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert line.count("\n") == 1
    assert "PyTorch" in line and line.endswith("seed 0\n")
    runtime.start()
    assert draws() == first
    runtime.start(seed=1)
    assert draws() != first


def test_start_leaves_the_threads_alone_and_sets_the_style():
    import matplotlib as mpl

    from course_utils.teaching.plotting import STYLE

    before = torch.get_num_threads()
    with mpl.rc_context():
        mpl.rcdefaults()
        runtime.start()
        assert STYLE
        for key, value in mpl.RcParams(STYLE).items():
            assert mpl.rcParams[key] == value, key
    assert torch.get_num_threads() == before


def test_the_seed_comes_from_the_environment_unless_it_is_given(monkeypatch):
    monkeypatch.setenv("COURSE_SEED", "7")
    assert runtime.start().seed == 7
    assert runtime.start(seed=3).seed == 3
    monkeypatch.setenv("COURSE_SEED", "")
    assert runtime.start().seed == 0


@pytest.mark.parametrize("seed", ["seven", "-1", "1.5", str(2**32)])
def test_a_bad_seed_in_the_environment_is_named(monkeypatch, seed):
    monkeypatch.setenv("COURSE_SEED", seed)
    with pytest.raises(ValueError, match=rf"COURSE_SEED must be a whole number .* got '{seed}'"):
        runtime.start()


@pytest.mark.parametrize("seed", [-1, 1.0, "x"])
def test_a_bad_seed_as_an_argument_is_named(seed):
    with pytest.raises(ValueError, match="^seed must be a whole number"):
        runtime.start(seed=seed)


# --- claim --------------------------------------------------------------------------------------


@pytest.fixture
def using(monkeypatch):
    return lambda name: monkeypatch.setattr(data, "current_dataset", lambda: name)


@pytest.mark.parametrize(
    ("value", "relation", "bound", "line"),
    [
        (0.12345678, "<", 1, "✔ it holds: 0.1235 < 1"),
        (1, "<=", 1, "✔ it holds: 1 <= 1"),
        (2.4e-8, "<", 1e-5, "✔ it holds: 2.4e-08 < 1e-05"),
        (np.float32(0.5), ">", 0.25, "✔ it holds: 0.5 > 0.25"),
        (np.array([3]), ">=", 3.0, "✔ it holds: 3 >= 3"),
        (torch.tensor(0.5, requires_grad=True), "<", torch.tensor(1.0), "✔ it holds: 0.5 < 1"),
        (torch.tensor([0.5], dtype=torch.bfloat16), "<", 1.0, "✔ it holds: 0.5 < 1"),
        (0.0999999, "<", 0.1, "✔ it holds: 0.0999999 < 0.1"),  # never "0.1 < 0.1"
        (math.inf, ">", 10, "✔ it holds: inf > 10"),
        (60_000, ">=", 50_000, "✔ it holds: 60,000 >= 50,000"),
        (12345.678, "<", 2e10, "✔ it holds: 12,346 < 2e+10"),
        (10_000.2, ">", 10_000, "✔ it holds: 10,000.2 > 10,000"),
        (-1234.5678, "<", 0, "✔ it holds: -1,235 < 0"),
    ],
)
def test_a_claim_that_holds_prints_its_number(capsys, value, relation, bound, line):
    runtime.claim("it holds", value, relation, bound)
    assert capsys.readouterr().out == line + "\n"


@pytest.mark.parametrize(
    ("value", "relation", "bound"), [(1, "<", 1), (2, "<=", 1), (1, ">", 1), (0, ">=", 1), (math.nan, "<", 1)]
)
def test_a_claim_that_does_not_hold_raises_with_the_same_numbers(capsys, value, relation, bound):
    with pytest.raises(AssertionError) as caught:
        runtime.claim("it holds", value, relation, bound)
    assert str(caught.value) == f"✘ it holds: measured {value:g}, claimed {relation} {bound}"
    assert capsys.readouterr().out == ""


def test_the_offline_digits_may_have_a_bound_of_their_own(capsys, using):
    using("digits")
    runtime.claim("small", 3, "<", 2, digits=4)
    assert capsys.readouterr().out == "✔ small: 3 < 4 (bound for the offline digits)\n"
    with pytest.raises(AssertionError, match=r"measured 5, claimed < 4 \(bound for the offline digits\)"):
        runtime.claim("small", 5, "<", 2, digits=4)
    runtime.claim("zero is a bound", -1, "<", -2, digits=0)
    using("mnist")
    with pytest.raises(AssertionError, match="measured 3, claimed < 2$"):
        runtime.claim("small", 3, "<", 2, digits=4)


@pytest.mark.parametrize("relation", ["==", "=<", "", "less", None])
def test_an_unknown_relation_is_refused(relation):
    with pytest.raises(ValueError, match="relation must be one of <, <=, >, >="):
        runtime.claim("?", 1, relation, 2)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (torch.zeros(3), r"value must be one number; got shape \(3,\)"),
        (np.zeros((2, 2)), r"value must be one number; got shape \(2, 2\)"),
        (torch.zeros(0), r"value must be one number; got shape \(0,\)"),
        ("0.5", "value must be a number; got str '0.5'"),
        (None, "value must be a number; got NoneType"),
        (1j, "value must be a number; got complex"),
        ([0.5], "value must be a number; got list"),
    ],
)
def test_what_is_no_number_is_refused(value, said):
    with pytest.raises(TypeError, match=said):
        runtime.claim("?", value, "<", 2)


def test_a_bound_that_is_no_number_is_refused(using):
    with pytest.raises(TypeError, match="bound must be a number"):
        runtime.claim("?", 1, "<", "2")
    with pytest.raises(ValueError, match="bound is NaN"):
        runtime.claim("?", 1, "<", math.nan)
    using("digits")
    with pytest.raises(TypeError, match="digits must be a number"):
        runtime.claim("?", 1, "<", 2, digits="2")


def test_claims_are_gathered_in_a_file(tmp_path, monkeypatch, using):
    file = tmp_path / "claims.jsonl"
    monkeypatch.setenv("COURSE_CLAIMS", str(file))
    monkeypatch.setenv("COURSE_NOTEBOOK", "01_autoencoder")
    using("mnist")
    runtime.start(seed=5)
    runtime.claim("codes of size σ", 1.5, "<", 2)
    with pytest.raises(AssertionError):
        runtime.claim("broken", 3, "<", 2)
    kept, broken = (json.loads(line) for line in file.read_text(encoding="utf-8").splitlines())
    assert kept == {
        "notebook": "01_autoencoder",
        "text": "codes of size σ",
        "value": 1.5,
        "relation": "<",
        "bound": 2.0,
        "data": "mnist",
        "holds": True,
        "seed": 5,
    }
    assert not broken["holds"]


def test_the_current_data_set_is_the_one_loaded_last(monkeypatch, capsys):
    monkeypatch.setattr(data, "last_loaded", None)
    assert data.current_dataset() is None
    data.load_images("digits")
    runtime.claim("small", 3, "<", 2, digits=4)
    assert "(bound for the offline digits)" in capsys.readouterr().out


# --- the set-up cell ----------------------------------------------------------------------------


def run_cell(source: str, folder: Path, *, colab: bool) -> subprocess.CompletedProcess[str]:
    """Run a cell twice in IPython, in a process that finds the course's dependencies but not the course."""
    pretend = "import sys, types; sys.modules['google.colab'] = types.ModuleType('google.colab')\n" if colab else ""
    after = "\nimport course_utils; print(course_utils.__file__)"
    script = f"""
import sys
from IPython.core.interactiveshell import InteractiveShell
sys.path = [entry for entry in sys.path if entry not in ({str(ROOT)!r}, "")]
shell = InteractiveShell()
for cell in {[pretend, source, source + after]!r}:
    shell.run_cell(cell).raise_error()
"""
    return subprocess.run(
        [sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, env=environment(folder)
    )


def environment(home: Path) -> dict[str, str]:
    return {**os.environ, "HOME": str(home), "IPYTHONDIR": str(home), "PYTHONWARNINGS": "ignore"}


@pytest.mark.skipif(not shutil.which("git"), reason="git is not installed")
@pytest.mark.skipif(sys.platform == "win32", reason="Colab is Linux")
def test_on_colab_the_set_up_cell_clones_the_course_once(tmp_path):
    origin, content = tmp_path / "origin", tmp_path / "content"
    content.mkdir()
    package = shutil.copytree(ROOT / "course_utils", origin / "course_utils")
    shutil.rmtree(package / "__pycache__", ignore_errors=True)
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org", "-C", str(origin)]
    for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "-m", "x"]):
        subprocess.run([*git, *command], check=True)

    # The real cell, with a folder and a repository of this test in place of Colab's and GitHub's.
    name = runtime.REPOSITORY.partition("/")[2]
    cell = runtime.SETUP_CELL.replace(f"https://github.com/{runtime.REPOSITORY}", f"file://{origin}")
    cell = cell.replace(f"/content/{name}", str(content / name))
    ran = run_cell(cell, tmp_path, colab=True)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("· seed 0") == 2  # run twice, cloned once: a second clone would complain
    assert "already exists" not in ran.stdout + ran.stderr
    assert str(content / name / "course_utils" / "__init__.py") in ran.stdout


def test_elsewhere_the_set_up_cell_only_imports_and_starts(tmp_path):
    namespace: dict = {}
    assert "google.colab" not in sys.modules
    lines = runtime.SETUP_CELL.splitlines()
    python = "\n".join(line.replace("!test", "pass  #") for line in lines)
    exec(compile(python, "set-up", "exec"), namespace)
    assert isinstance(namespace["session"], runtime.Session)
    assert list(tmp_path.iterdir()) == []


def test_the_set_up_cell_is_short():
    assert len(runtime.SETUP_CELL.splitlines()) <= 12


# --- moving to another repository ---------------------------------------------------------------


@pytest.fixture
def copy(tmp_path):
    """The files that name the repository, with a notebook of this test among the real ones."""
    shutil.copy(ROOT / "README.md", tmp_path)
    (tmp_path / "course_utils").mkdir()
    shutil.copy(ROOT / "course_utils" / "runtime.py", tmp_path / "course_utils")
    (tmp_path / "notebooks").mkdir()
    for notebook in (ROOT / "notebooks").glob("*.ipynb"):
        shutil.copy(notebook, tmp_path / "notebooks")
    address = f"https://colab.research.google.com/github/{runtime.REPOSITORY}/blob/main/notebooks/99_x.ipynb"
    cells = [
        {
            "cell_type": "markdown",
            "metadata": {},
            "source": [f"[![Open in Colab](badge.svg)]({address})\n", "Ω"],
        },
        {"cell_type": "code", "metadata": {}, "source": runtime.SETUP_CELL.splitlines(keepends=True)},
        {"cell_type": "markdown", "metadata": {}, "source": [f"github.com/{runtime.REPOSITORY}-other stays"]},
    ]
    text = json.dumps({"cells": cells}, indent=1, ensure_ascii=False)
    (tmp_path / "notebooks" / "99_x.ipynb").write_bytes(text.encode() + b"\r\n")
    return tmp_path


def load_runtime(root: Path) -> types.SimpleNamespace:
    source = (root / "course_utils" / "runtime.py").read_text(encoding="utf-8")
    module = types.ModuleType("moved_runtime")
    sys.modules[module.__name__] = module
    try:
        exec(compile(source, "runtime.py", "exec"), module.__dict__)
    finally:
        del sys.modules[module.__name__]
    return module


def test_set_repository_moves_everything_together(copy):
    changed = set_repository.set_repository("Ada-L/my.vae_course", root=copy)
    assert {path.name for path in changed} >= {"README.md", "99_x.ipynb", "runtime.py"}
    moved = load_runtime(copy)
    assert moved.REPOSITORY == "Ada-L/my.vae_course"
    raw = (copy / "notebooks" / "99_x.ipynb").read_bytes()
    assert raw.endswith(b"\r\n") and "Ω".encode() in raw
    badge, setup, other = json.loads(raw)["cells"]
    assert "".join(setup["source"]) == moved.SETUP_CELL
    assert "/content/my.vae_course" in moved.SETUP_CELL
    assert "/github/Ada-L/my.vae_course/blob/main/notebooks/99_x.ipynb" in badge["source"][0]
    assert other["source"] == [f"github.com/{runtime.REPOSITORY}-other stays"]
    for path in [copy / "README.md", *(copy / "notebooks").glob("0*.ipynb")]:
        assert f"github.com/{runtime.REPOSITORY}" not in path.read_text(encoding="utf-8"), path.name
    assert not [path for path in copy.rglob("*") if path.name.startswith(".")]  # nothing temporary left


def test_set_repository_twice_changes_nothing_and_back_restores_every_byte(copy):
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    set_repository.set_repository("ada/course", root=copy)
    assert set_repository.set_repository("ada/course", root=copy) == []
    set_repository.set_repository(runtime.REPOSITORY, root=copy)
    assert {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()} == before


def test_set_repository_finishes_after_an_interruption(copy, monkeypatch):
    replace = set_repository.replace_text

    def fails_at_the_notebook(path, text):
        if path.suffix == ".ipynb":
            raise OSError("disk full")
        replace(path, text)

    with monkeypatch.context() as patch, pytest.raises(OSError, match="disk full"):
        patch.setattr(set_repository, "replace_text", fails_at_the_notebook)
        set_repository.set_repository("ada/course", root=copy)
    assert load_runtime(copy).REPOSITORY == runtime.REPOSITORY
    set_repository.set_repository("ada/course", root=copy)
    assert "ada/course" in (copy / "notebooks" / "99_x.ipynb").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "name",
    [
        "",
        "ada",
        "ada/",
        "/course",
        "a/b/c",
        "https://github.com/ada/course",
        "ada/course.git",
        "ada/..",
        "a b/c",
    ]
    + [
        "-ada/course",
        "ada-/course",
        "a--b/course",
        "ada/cou rse",
        'ada/"x"',
        "ada/course\n",
        "x" * 40 + "/course",
    ],
)
def test_set_repository_refuses_what_is_no_repository(copy, name):
    with pytest.raises(ValueError, match="written OWNER/NAME"):
        set_repository.set_repository(name, root=copy)
    assert load_runtime(copy).REPOSITORY == runtime.REPOSITORY


def test_the_command_says_what_is_wrong(capsys):
    assert set_repository.main([]) == 2
    assert set_repository.main(["https://github.com/ada/course"]) == 1
    assert "without https://github.com/" in capsys.readouterr().err
    assert set_repository.main([runtime.REPOSITORY]) == 0  # changes nothing
    assert "already" in capsys.readouterr().out
