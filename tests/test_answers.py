"""What readers wrote goes on: kept as plain source, lent to later notebooks, and never in the way."""

import importlib
import linecache
import math
import os
import subprocess
import sys

import nbformat
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from course_utils.teaching import answers
from course_utils.teaching.exercises import Exercise, check, exercises_of, find, yours
from course_utils.teaching.exercises import _framework as framework
from tests.tools import as_a_reader
from tests.tools.execute import execute


def double(x):
    """x: (B,) -> (B,)"""
    return 2 * x


def plus_double(x):
    """x: (B,) -> (B,)"""
    return x + double(x)


class Shift(nn.Module):
    """Adds a learned number."""

    def __init__(self, start):
        super().__init__()
        self.start = nn.Parameter(torch.tensor(float(start)))

    def shift(self, x):  # (B,) -> (B,)
        return x + self.start


def shifts(build):
    build.require(build.make(1.0).shift(torch.zeros(1)) == 1, "no shift", "It does not shift.")


def exercise(number, solution, **given):
    return Exercise(number, "", 1, solution, ("a", "b", "c"), "Good.", **given)


EXERCISES = (
    exercise("9.1", double, cases=lambda draw: [(draw(2),), (draw(3),)]),
    exercise("9.2", plus_double, cases=lambda draw: [(draw(2),), (draw(3),)]),
    exercise("9.3", Shift, checks=(shifts,)),
)


@pytest.fixture(autouse=True)
def fresh(monkeypatch, tmp_path):
    """Toy exercises, an empty folder, nothing accepted yet."""
    monkeypatch.setenv("COURSE_ANSWERS", str(tmp_path / "answers"))
    monkeypatch.setattr(framework, "exercises_of", lambda notebook: EXERCISES)
    monkeypatch.setattr(framework, "_accepted", {})
    monkeypatch.setattr(framework, "_said", set())
    monkeypatch.setattr(framework, "_number_of", number_of)


def number_of(thing):
    known = {e.number: e.solution for e in EXERCISES} | framework._accepted
    return next((number for number, answer in known.items() if answer is thing), None)


def written(source, **given):
    """What a cell defines, run as a notebook runs it: its lines can be found, its file is none of the disk."""
    name = f"<cell {len(linecache.cache)}>"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    space = {"__name__": "__main__", **given}
    exec(compile(source, name, "exec"), space)
    return list(space.values())[-1]


MINE = "def double(x):\n    return x + x\n"


# check gives back what to go on with -------------------------------------------------------------------


def test_check_returns_the_readers_answer_where_it_is_right_and_the_courses_where_not(capsys):
    mine = written(MINE)
    assert check("9.1", mine) is mine
    assert "From here on the notebook uses your double." in capsys.readouterr().out
    for other in (lambda x: x, 3):
        assert check("9.1", other) is double
        assert "Until yours passes, the notebook uses the course's double." in capsys.readouterr().out
    assert check("9.1", written("def double(x): ...\n")) is mine, "an empty cell, run again after a restart"
    assert "the notebook goes on with your kept double" in capsys.readouterr().out
    assert yours("9.1") is mine, "a failed attempt takes nothing away"


def test_an_answer_is_kept_as_source_and_lent_in_another_session(capsys):
    source = "SCALE = 2\n\n\ndef helper(x):\n    return x * SCALE\n\n\ndef double(x):\n    return helper(x)\n"
    check("9.1", written(source))
    framework._accepted.clear()  # another session
    mine = yours("9.1")
    assert mine is not double and torch.equal(mine(torch.ones(2)), 2 * torch.ones(2))
    text = answers.file_of("9.1").read_text()
    assert "SCALE = 2\n" in text and text.index("def helper") < text.index("def double")
    assert "Exercise 9.1: your double." in capsys.readouterr().out


def test_imports_and_other_answers_are_made_explicit(capsys):
    source = "def double(x):\n    return nn.Identity()(x) + F.relu(x) - relu(-x) + log(m.e) - 1\n"
    given = {"nn": nn, "F": F, "relu": torch.relu, "log": math.log, "m": math}
    one = written(source, **given)
    framework._accepted["9.1"] = check("9.1", one)
    check("9.2", written("def plus_double(x):\n    return x + twice(x)\n", twice=one))
    lines = answers.file_of("9.1").read_text().splitlines()
    wanted = {"import torch.nn as nn", "import torch.nn.functional as F", "from torch import relu"}
    assert wanted | {"from math import log", "import math as m"} <= set(lines)
    assert 'twice = yours("9.1")' in answers.file_of("9.2").read_text()
    framework._accepted.clear()  # another session
    capsys.readouterr()
    assert torch.allclose(yours("9.2")(torch.ones(1)), torch.tensor([3.0]))
    assert capsys.readouterr().out == "Exercise 9.2: your plus_double.\n", "the answer inside is not worth a line"


def test_a_class_is_kept_and_its_interface_alone_is_asked_again(capsys):
    source = "class Shift(nn.Module):\n    def __init__(self, start):\n        super().__init__()\n"
    source += "        self.start = start\n\n    def shift(self, x):\n        return x + self.start\n"
    check("9.3", written(source, nn=nn))
    framework._accepted.clear()  # another session
    assert yours("9.3")(2.0).shift(1.0) == 3.0
    path = answers.file_of("9.3")
    path.write_text(path.read_text().replace("def shift", "def move"))
    framework._accepted.clear()  # another session
    assert yours("9.3") is Shift and "it has no shift" in capsys.readouterr().out


def test_an_answer_of_another_name_is_kept_under_the_exercises_name():
    check("9.1", written("def my_way(x):\n    return x + x\n"))
    framework._accepted.clear()  # another session
    assert yours("9.1").__name__ == "my_way"


def test_the_folder_can_be_imported(monkeypatch):
    check("9.1", written(MINE))
    monkeypatch.syspath_prepend(answers.folder().parent)
    monkeypatch.delitem(sys.modules, "answers", raising=False)
    package = importlib.import_module("answers")
    assert package.double(2) == 4
    with pytest.raises(AttributeError, match="there are double"):
        package.triple  # noqa: B018


# Nothing stops a notebook --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("def double(x):\n    return 3 * x\n", "no longer passes"),
        ("def double(x) return", "SyntaxError"),
        ("raise SystemExit\n", "SystemExit"),
        ("import no_such_module\n", "ModuleNotFoundError"),
        ("x = 1\n", "AttributeError"),
        ("def double(x):\n    return undefined\n", "no longer passes"),
        ('from course_utils.teaching import yours\ndouble = yours("9.1")\nassert double(1) == 3', "AssertionError"),
        (b"\xff\xfe", "UnicodeDecodeError"),
        (None, "no answer of yours is kept"),
    ],
)
def test_whatever_is_wrong_with_a_kept_answer_the_courses_own_is_lent_and_the_reason_said(text, reason, capsys):
    path = answers.file_of("9.1")
    path.parent.mkdir()
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert yours("9.1") is double
    out, err = capsys.readouterr()
    assert out.startswith("Exercise 9.1: the course's double; ") and reason in out and (out.count("\n"), err) == (1, "")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda: lambda x: x + x, "only what is written with def or class"),
        (lambda: written(MINE.replace("+ x", "+ x + data"), data=torch.tensor(0.0)), "uses data"),
    ],
)
def test_what_cannot_be_kept_is_used_all_the_same_and_said_once(answer, reason, capsys):
    mine = answer()
    assert check("9.1", mine) is mine is check("9.1", mine)
    out = capsys.readouterr().out
    assert out.count("Not kept for later notebooks") == 1 and reason in " ".join(out.split())
    assert not answers.file_of("9.1").exists() and yours("9.1") is mine


def test_a_folder_that_cannot_be_written(monkeypatch, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("COURSE_ANSWERS", str(tmp_path / "file" / "answers"))
    mine = written(MINE)
    assert check("9.1", mine) is mine and "cannot be written" in " ".join(capsys.readouterr().out.split())


def test_a_stub_writes_nothing():
    check("9.1", written(EXERCISES[0].stub))
    assert not answers.folder().exists()


def test_without_a_source_an_answer_works_for_the_session(tmp_path):
    code = "from course_utils.teaching import check\n"
    code += "def gaussian_kl(mu, log_var): return 0.5 * (mu**2 + log_var.exp() - 1 - log_var).sum(1)\n"
    code += f"assert check({_number('gaussian_kl')!r}, gaussian_kl) is gaussian_kl"
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"COURSE_ANSWERS": str(tmp_path)}, capture_output=True, text=True
    )
    assert done.returncode == 0 and "Not kept" in done.stdout and not list(tmp_path.iterdir()), done


def _number(name):
    return next(e.number for e in exercises_of(4) if e.name == name)


# A notebook as a reader leaves it ------------------------------------------------------------------------


def a_notebook(*cells):
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [nbformat.v4.new_code_cell(cell) for cell in cells]
    return notebook


def test_each_stub_is_replaced_by_its_solution():
    made = as_a_reader.as_a_reader(a_notebook("import torch", EXERCISES[1].cell, "check", EXERCISES[2].cell))
    assert made.cells[0].source == "import torch" and made.cells[2].source == "check"
    assert 'double = yours("9.1")' in made.cells[1].source and "return x + double(x)" in made.cells[1].source
    assert made.cells[1].source.endswith('plus_double = check("9.2", plus_double)')
    assert "self.start = nn.Parameter" in made.cells[3].source
    with pytest.raises(ValueError, match="does not hold its stub"):
        as_a_reader.as_a_reader(a_notebook('double = check("9.1", double)'))


def test_in_a_real_notebook_answers_are_kept_and_lent_to_the_next(monkeypatch, tmp_path):
    monkeypatch.undo()
    number = _number("gaussian_kl")
    first = as_a_reader.as_a_reader(a_notebook("from course_utils.teaching import check", find(number).cell))
    second = a_notebook(f'from course_utils.teaching import yours\nkl = yours("{number}")\nprint(kl.__module__)')
    folder = tmp_path / "kept"
    for name, notebook in (("first", first), ("second", second)):
        nbformat.write(notebook, tmp_path / f"{name}.ipynb")
        done = execute(tmp_path / f"{name}.ipynb", environment={"COURSE_ANSWERS": str(folder)})
    assert f"answers.exercise_{number.replace('.', '_')}" in done.cells[0].outputs[0].text
    kept = sorted(path.name for path in folder.glob("*.py"))
    assert kept == ["__init__.py", f"exercise_{number.replace('.', '_')}.py"]
