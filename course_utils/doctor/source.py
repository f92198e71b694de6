"""Makes a module of somebody's file (a notebook too) without running what the file would do when it is run.

Only what defines something is executed: imports, functions, classes, and assignments that the rest needs. All else,
such as a training, a download or the parsing of a command line, is left out, and said.
"""

import ast
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

from course_utils.doctor.patient import short_traceback

DEFINITIONS = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)

# Calls that prepare what definitions use: the arguments of a command line and their defaults, the path.
SETTINGS = ("add_argument", "set_defaults", "insert", "append", "manual_seed")

ENDS = ("sys.exit", "exit", "quit", "os._exit")


class CannotExamine(Exception):
    """There is nothing to examine; the text says why."""


def load(path: Path) -> tuple[ModuleType, list[str]]:
    """The file as a module, its folder importable, and the lines that were left out.

    The module's name is nobody else's: a file may be called copy.py. In a package (a folder with ``__init__.py``) it
    belongs to that, so that relative imports work.
    """
    try:
        tree = ast.parse(_source(path), filename=str(path))
    except (SyntaxError, ValueError, UnicodeDecodeError) as error:
        raise CannotExamine(f"{path} cannot be read as Python: {error}") from error
    kept, left_out = _definitions(tree, path.name)
    folder, package = path.resolve().parent, []
    while (folder / "__init__.py").is_file():
        package.insert(0, folder.name)
        folder = folder.parent
    relative = any(isinstance(node, ast.ImportFrom) and node.level for node in ast.walk(tree))
    if relative and not package:  # a folder without __init__.py is a package all the same
        package, folder = [folder.name], folder.parent
    name = ".".join([*package, f"examined_{path.stem}"])
    for entry in dict.fromkeys([str(folder), str(path.resolve().parent)]):
        if entry not in sys.path:
            sys.path.insert(0, entry)
    module = ModuleType(name)
    module.__file__, module.__package__ = str(path), ".".join(package)
    sys.modules[name] = module  # dataclasses look their module up
    if package:
        _import_package(package)
    _execute(kept, module, path, left_out)
    return module, left_out


def _source(path: Path) -> str:
    """Python text; the code cells of a notebook, without its commands."""
    if path.suffix == ".ipynb":
        cells = json.loads(path.read_text(encoding="utf-8")).get("cells", [])
        code = ["".join(cell["source"]) for cell in cells if cell.get("cell_type") == "code"]
        lines = [line for cell in code if not cell.startswith("%%") for line in [*cell.splitlines(), ""]]
        return "\n".join("pass" if line.strip()[:1] in ("%", "!") else line for line in lines)
    if path.suffix != ".py":
        raise CannotExamine(f"{path} is no Python file (its name must end in .py or .ipynb)")
    return path.read_text(encoding="utf-8-sig")


def _definitions(tree: ast.Module, file: str) -> tuple[list[ast.stmt], list[str]]:
    """What defines something; and, for the report, what else stands at the top of the file.

    A file that ends the program whenever it is run (or imported) says that it is not to be used like this.
    """
    kept, left_out = [], []
    for node in tree.body:
        call = node.value if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) else None
        if isinstance(node, ast.Raise) or (call and ast.unparse(call.func) in ENDS):
            raise CannotExamine(
                f"{file} ends itself ({_line(node)}); put that under if __name__ == '__main__': to import it."
            )
        setting = isinstance(node, ast.Expr) and getattr(getattr(node.value, "func", None), "attr", "") in SETTINGS
        guarded = isinstance(node, ast.Try | ast.If | ast.With) and all(isinstance(n, DEFINITIONS) for n in node.body)
        if isinstance(node, (*DEFINITIONS, ast.Assign, ast.AnnAssign)) or guarded or setting:
            kept.append(node)
        elif not isinstance(getattr(node, "value", None), ast.Constant) and not isinstance(node, ast.Pass):
            left_out.append(_line(node))
    return kept, left_out


def _line(node: ast.stmt) -> str:
    return f"line {node.lineno}: {ast.unparse(node).splitlines()[0][:60]}"


def _execute(nodes: list[ast.stmt], module: ModuleType, path: Path, left_out: list[str]) -> None:
    """One statement after the other; an assignment that runs away from definitions may fail, a definition may not."""
    for node in nodes:
        simple = isinstance(node, DEFINITIONS)
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None and _is_work(node.value):
            left_out.append(_line(node))
            continue
        try:
            exec(compile(ast.Module([node], []), str(path), "exec"), module.__dict__)  # the user asked for this file
        except (Exception, SystemExit) as error:
            if not simple or isinstance(node, ast.Import | ast.ImportFrom):  # what is missing may not be needed
                left_out.append(f"{_line(node)} ({type(error).__name__})")
                continue
            raise CannotExamine(f"executing {path} raised\n{short_traceback(error)}") from error


def _is_work(value: ast.expr) -> bool:
    """Whether an assignment calls for work: parsing, loading, making a model or an optimiser, training."""
    names = {
        (call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")).lower()
        for call in ast.walk(value) if isinstance(call, ast.Call)
    }  # fmt: skip
    work = ("load", "download", "train", "open", "mnist", "dataset", "cifar", "input", "system", "run", "get_")
    return any(word in name for name in names for word in work)


def _import_package(package: list[str]) -> None:
    """Import the package itself, which relative imports need; where that fails, an empty one stands in."""
    for depth in range(1, len(package) + 1):
        name = ".".join(package[:depth])
        if name in sys.modules and hasattr(sys.modules[name], "__path__"):
            continue
        try:
            importlib.import_module(name)
        except (Exception, SystemExit):
            folder = next(Path(p).joinpath(*package[:depth]) for p in sys.path if Path(p, *package[:depth]).is_dir())
            stand_in = ModuleType(name)
            stand_in.__path__ = [str(folder)]
            sys.modules[name] = stand_in
