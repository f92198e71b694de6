"""The notebooks' first cell, and moving the course to another repository."""

from __future__ import annotations

import json
import os
import random
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from course_utils.teaching import session, set_repository

from .conftest import ROOT


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    for name in ("COURSE_SEED", "COURSE_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(session, "current", None)
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", False)


# --- start --------------------------------------------------------------------------------------


def draws() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))  # noqa: NPY002


def test_start_seeds_everything_and_says_so_in_one_line(capsys):
    started = session.start_session()
    first = draws()
    line = capsys.readouterr().out
    assert started.seed == 0
    assert started.device.type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert line.count("\n") == 1
    assert "PyTorch" in line and line.endswith("seed 0\n")
    session.start_session()
    assert draws() == first
    session.start_session(seed=1)
    assert draws() != first


def test_start_sets_the_style():
    import matplotlib as mpl

    from course_utils.teaching.plotting import STYLE

    with mpl.rc_context():
        mpl.rcdefaults()
        session.start_session()
        wanted = mpl.RcParams(STYLE)
        assert wanted and {key: mpl.rcParams[key] for key in wanted} == dict(wanted)


@pytest.mark.parametrize(
    ("threads", "load", "asked", "taken", "said"),
    [
        (2, 0.4, "", 2, "CPU, 2 threads ·"),
        (2, 0.9, "", 1, "CPU, 1 thread, as the machine is busy (COURSE_THREADS sets another number) ·"),
        (2, 0.9, "2", 2, "CPU, 2 threads ·"),
        (2, 0.0, "1", 1, "CPU, 1 thread ·"),
        (1, 9.0, "", 1, "CPU, 1 thread ·"),
    ],
)
@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU computes here")
def test_threads_are_not_shared_with_another_training(monkeypatch, capsys, threads, load, asked, taken, said):
    now = torch.get_num_threads()
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0))
    monkeypatch.setenv("COURSE_THREADS", asked)
    try:
        torch.set_num_threads(threads)
        session.start_session()
        assert torch.get_num_threads() == taken
        assert said in capsys.readouterr().out
    finally:
        torch.set_num_threads(now)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU computes here")
def test_a_bad_number_of_threads_is_named(monkeypatch):
    for asked in ("0", "-1", "two", "1.5"):
        monkeypatch.setenv("COURSE_THREADS", asked)
        with pytest.raises(ValueError, match=f"COURSE_THREADS must be a whole number of at least 1; got '{asked}'"):
            session.start_session()


def test_the_seed_comes_from_the_environment_unless_it_is_given(monkeypatch):
    monkeypatch.setenv("COURSE_SEED", "7")
    assert session.start_session().seed == 7
    assert session.start_session(seed=3).seed == 3
    monkeypatch.setenv("COURSE_SEED", "")
    assert session.start_session().seed == 0
    for bad in ("seven", "-1", "1.5", str(2**32)):
        monkeypatch.setenv("COURSE_SEED", bad)
        with pytest.raises(ValueError, match=rf"COURSE_SEED must be a whole number .* got '{bad}'"):
            session.start_session()
    for bad in (-1, 1.0, "x"):
        with pytest.raises(ValueError, match="^seed must be a whole number"):
            session.start_session(seed=bad)


# --- the set-up cell ----------------------------------------------------------------------------


def run_on_colab(source: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a cell twice in IPython, in a process that finds the course's dependencies but not the course."""
    pretend = "import sys, types; sys.modules['google.colab'] = types.ModuleType('google.colab')\n"
    after = "\nimport course_utils; print(course_utils.__file__)"
    script = f"""
import sys
from IPython.core.interactiveshell import InteractiveShell
sys.path = [entry for entry in sys.path if entry not in ({str(ROOT)!r}, "")]
shell = InteractiveShell()
for cell in {[pretend, source, source + after]!r}:
    shell.run_cell(cell).raise_error()
"""
    home = {"HOME": str(folder), "IPYTHONDIR": str(folder), "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-c", script]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env={**os.environ, **home})


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
    name = session.REPOSITORY.partition("/")[2]
    cell = session.SETUP_CELL.replace(f"https://github.com/{session.REPOSITORY}", f"file://{origin}")
    cell = cell.replace(f"/content/{name}", str(content / name))
    ran = run_on_colab(cell, tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("· seed 0") == 2  # run twice, cloned once: a second clone would complain
    assert "already exists" not in ran.stdout + ran.stderr
    assert str(content / name / "course_utils" / "__init__.py") in ran.stdout


def test_elsewhere_the_set_up_cell_only_imports_and_starts_and_is_short(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace: dict = {}
    assert "google.colab" not in sys.modules
    lines = session.SETUP_CELL.splitlines()
    python = "\n".join(line.replace("!test", "pass  #") for line in lines)
    exec(compile(python, "set-up", "exec"), namespace)
    assert isinstance(namespace["session"], session.Session)
    assert list(tmp_path.iterdir()) == [] and len(lines) <= 12


# --- moving to another repository ---------------------------------------------------------------


@pytest.fixture
def copy(tmp_path):
    """The files that name the repository, with a notebook of this test among the real ones."""
    files = ["README.md", "course_utils/teaching/session.py"]
    for path in [*map(ROOT.joinpath, files), *(ROOT / "notebooks").glob("*.ipynb")]:
        place = tmp_path / path.relative_to(ROOT)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
    address = f"https://colab.research.google.com/github/{session.REPOSITORY}/blob/main/notebooks/99_x.ipynb"
    badge, setup = f"[![Open in Colab](badge.svg)]({address})\nΩ", session.SETUP_CELL
    sources = {"markdown": badge, "code": setup, "raw": f"github.com/{session.REPOSITORY}-other stays"}
    cells = [
        {"cell_type": kind, "metadata": {}, "source": source.splitlines(keepends=True)}
        for kind, source in sources.items()
    ]
    text = json.dumps({"cells": cells}, indent=1, ensure_ascii=False)
    (tmp_path / "notebooks" / "99_x.ipynb").write_bytes(text.encode() + b"\r\n")
    return tmp_path


def moved(root: Path) -> dict:
    return runpy.run_path(str(root / "course_utils" / "teaching" / "session.py"), run_name="moved")


def test_set_repository_moves_everything_together(copy):
    changed = set_repository.set_repository("Ada-L/my.vae_course", root=copy)
    assert {path.name for path in changed} >= {"README.md", "99_x.ipynb", "session.py"}
    assert moved(copy)["REPOSITORY"] == "Ada-L/my.vae_course"
    raw = (copy / "notebooks" / "99_x.ipynb").read_bytes()
    assert raw.endswith(b"\r\n") and "Ω".encode() in raw
    badge, setup, other = json.loads(raw)["cells"]
    assert "".join(setup["source"]) == moved(copy)["SETUP_CELL"]
    assert "/content/my.vae_course" in moved(copy)["SETUP_CELL"]
    assert "/github/Ada-L/my.vae_course/blob/main/notebooks/99_x.ipynb" in badge["source"][0]
    assert other["source"] == [f"github.com/{session.REPOSITORY}-other stays"]
    for path in [copy / "README.md", *(copy / "notebooks").glob("0*.ipynb")]:
        assert f"github.com/{session.REPOSITORY}" not in path.read_text(encoding="utf-8"), path.name
    assert not [path for path in copy.rglob("*") if path.name.startswith(".")]  # nothing temporary left


def test_set_repository_twice_changes_nothing_and_back_restores_every_byte(copy):
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    set_repository.set_repository("ada/course", root=copy)
    assert set_repository.set_repository("ada/course", root=copy) == []
    set_repository.set_repository(session.REPOSITORY, root=copy)
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
    assert moved(copy)["REPOSITORY"] == session.REPOSITORY
    set_repository.set_repository("ada/course", root=copy)
    assert "ada/course" in (copy / "notebooks" / "99_x.ipynb").read_text(encoding="utf-8")


NO_REPOSITORY = ["", "ada", "ada/", "/course", "a/b/c", "https://github.com/ada/course", "ada/course.git", "ada/.."]
NO_REPOSITORY += ["a b/c", "-ada/course", "ada-/course", "a--b/course", "ada/cou rse", 'ada/"x"', "ada/course\n"]


def test_set_repository_refuses_what_is_no_repository(copy):
    for name in [*NO_REPOSITORY, "x" * 40 + "/course"]:
        with pytest.raises(ValueError, match="written OWNER/NAME"):
            set_repository.set_repository(name, root=copy)
    assert moved(copy)["REPOSITORY"] == session.REPOSITORY


def test_the_command_says_what_is_wrong(capsys):
    assert set_repository.main([]) == 2
    assert set_repository.main(["https://github.com/ada/course"]) == 1
    assert "without https://github.com/" in capsys.readouterr().err
    assert set_repository.main([session.REPOSITORY]) == 0  # changes nothing
    assert "already" in capsys.readouterr().out
