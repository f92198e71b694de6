"""The notebooks' first cell, and moving the course to another repository."""

from __future__ import annotations

import json
import os
import random
import re
import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from course_utils.teaching import session, set_repository

from .conftest import NOTEBOOKS, ROOT


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
    """What of the course can name the repository, without what a reader's work has put between it, and a notebook of
    this test."""
    ignore = shutil.ignore_patterns("__pycache__", ".*", "*.png", "*.svg")
    for name in ("course_utils", "images"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignore)
    (tmp_path / "notebooks").mkdir()
    for path in (*NOTEBOOKS, ROOT / "notebooks" / "glossary.ipynb", ROOT / "README.md", ROOT / "pyproject.toml"):
        shutil.copy(path, tmp_path / path.relative_to(ROOT))
    address = f"https://colab.research.google.com/github/{session.REPOSITORY}/blob/main/notebooks/99_x.ipynb"
    site = session.REPOSITORY.replace("/", ".github.io/")
    badge, setup = f"[![Open in Colab](badge.svg)]({address})\nΩ https://{site}/06_the_vae.html", session.SETUP_CELL
    sources = {"markdown": badge, "code": setup, "raw": f"github.com/{session.REPOSITORY}-other stays"}
    cells = [
        {"cell_type": kind, "metadata": {}, "source": source.splitlines(keepends=True)}
        for kind, source in sources.items()
    ]
    text = json.dumps({"cells": cells}, indent=1, ensure_ascii=False)
    (tmp_path / "notebooks" / "99_x.ipynb").write_bytes(text.encode() + b"\r\n")
    return tmp_path


def contents(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def moved(root: Path) -> dict:
    return runpy.run_path(str(root / "course_utils" / "teaching" / "session.py"), run_name="moved")


def test_set_repository_moves_everything_together_and_back_restores_every_byte(copy):
    before = contents(copy)
    set_repository.set_repository("Ada-L/my.vae--course", root=copy)
    after = contents(copy)
    whole, name = re.escape(session.REPOSITORY), re.escape(session.REPOSITORY.partition("/")[2])
    pages = whole.replace("/", r"\.github\.io/")
    old = rf"github(?:\.com)?/{whole}(?![\w-])|/content/{name}(?![\w-])|{pages}(?![\w-])"
    left = {name for name, content in after.items() if re.search(old, content.decode())}
    assert not left, f"still named in {sorted(left)}: course_utils.teaching.set_repository should change it"
    notebooks = {f"notebooks/{path.name}" for path in (copy / "notebooks").iterdir()}
    changed = {name for name, content in after.items() if content != before[name]}
    assert changed == {"README.md", "course_utils/teaching/session.py", *notebooks} and before.keys() == after.keys()
    for name in notebooks:
        address = f"https://colab.research.google.com/github/Ada-L/my.vae--course/blob/main/{name}"
        assert f"({address})" in after[name].decode(), name
    assert moved(copy)["REPOSITORY"] == "Ada-L/my.vae--course"
    raw = after["notebooks/99_x.ipynb"]
    assert raw.endswith(b"\r\n") and "Ω https://Ada-L.github.io/my.vae--course/06_the_vae.html".encode() in raw
    _, setup, other = json.loads(raw)["cells"]
    assert "".join(setup["source"]) == moved(copy)["SETUP_CELL"]
    assert "/content/my.vae--course" in moved(copy)["SETUP_CELL"]
    assert other["source"] == [f"github.com/{session.REPOSITORY}-other stays"]
    assert set_repository.set_repository("Ada-L/my.vae--course", root=copy) == [] and contents(copy) == after
    set_repository.set_repository("you/fork", root=copy)
    set_repository.set_repository(session.REPOSITORY, root=copy)
    assert contents(copy) == before


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
