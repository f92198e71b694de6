"""The shape of the package: which rooms there are, who may import whom, and that nothing goes round in a circle."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import course_utils
from course_utils._files import ROOT

PACKAGE = ROOT / "course_utils"
FILES = sorted(PACKAGE.rglob("*.py"))
PRODUCTION = ("models", "losses", "training", "evaluation", "data", "doctor")
AT_THE_TOP = {"__init__.py", "__main__.py", "_checks.py", "_files.py", "_random.py"}


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in FILES}


def imported_by(name: str, source: str, modules=MODULES) -> set[str]:
    """The course's own modules that a source imports, wherever the import stands."""
    package = name if modules[name].name == "__init__.py" else name.rpartition(".")[0]
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *filter(None, [node.module])])
            whole = {f"{base}.{alias.name}" for alias in node.names}
            found |= {full if full in modules else base for full in whole}
    return {module for module in found if module in modules}


def graph(sources: dict[str, str]) -> dict[str, set[str]]:
    """Module -> what it needs; a package's ``__init__`` only gathers names, so it is no stop on the way."""
    needs = {name: imported_by(name, source) for name, source in sources.items()}
    return {name: {other for other in needs[name] if other != name} for name in needs}


def test_nothing_else_stands_at_the_top():
    assert {path.name for path in PACKAGE.glob("*.py")} == AT_THE_TOP
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert rooms == {*PRODUCTION, "teaching"}


@pytest.mark.parametrize("name", MODULES)
def test_production_never_imports_teaching(name):
    if name.split(".")[1:2] and name.split(".")[1] in PRODUCTION:
        wrong = {m for m in imported_by(name, MODULES[name].read_text()) if m.startswith("course_utils.teaching")}
        assert not wrong, f"{name} imports {sorted(wrong)}"


def test_no_import_goes_round_in_a_circle():
    order = TopologicalSorter(graph({name: path.read_text() for name, path in MODULES.items()}))
    order.prepare()  # raises CycleError, and names the circle


def test_the_rooms_themselves_stand_in_an_order():
    rooms: dict[str, set[str]] = {}
    for name, path in MODULES.items():
        if len(name.split(".")) > 1 and path.parent != PACKAGE:
            room = name.split(".")[1]
            others = {m.split(".")[1] for m in imported_by(name, path.read_text()) if "." in m}
            rooms.setdefault(room, set()).update(others & {*PRODUCTION, "teaching"} - {room})
    TopologicalSorter(rooms).prepare()


def test_a_circle_and_a_forbidden_import_are_noticed():
    sources = {name: path.read_text() for name, path in MODULES.items()}
    name = "course_utils.losses.terms"
    late = "def f():\n    from course_utils.teaching.claims import claim\n    from course_utils.models import VAE\n"
    assert "course_utils.teaching.claims" in imported_by(name, late)
    with pytest.raises(ValueError, match="cycle"):
        TopologicalSorter(graph(sources | {name: sources[name] + late})).prepare()


def test_every_module_says_what_it_holds_in_its_first_line():
    said: dict[str, str] = {}
    for name, path in MODULES.items():
        first = (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0].rstrip()
        assert 15 <= len(first) <= 120 and first[-1] in ".:!?…", f"{name}: {first!r}"
        assert first not in said, f"{name} says what {said[first]} says"
        said[first] = name


def test_the_public_names_are_there_and_nothing_is_loaded_before_it_is_used():
    for name in course_utils.__all__:
        assert getattr(course_utils, name).__name__ == name
    assert not hasattr(course_utils, "no_such_name")
    code = "import sys, course_utils; assert not {'torch', 'numpy'} & set(sys.modules); course_utils.VAE; "
    code += "assert not {'matplotlib', 'course_utils.teaching'} & set(sys.modules)"
    ran = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


def test_no_class_of_a_model_is_asked_for_outside_the_models():
    names = {"VAE", "CVAE", "Autoencoder"}
    for name, path in MODULES.items():
        if name.startswith(("course_utils.models", "course_utils.teaching")):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("isinstance", "issubclass"):
                asked = {n.id for n in ast.walk(node.args[1]) if isinstance(n, ast.Name)}
                assert not asked & names, f"{name}, line {node.lineno}"
