"""The reader's accepted answers, kept as plain source in `answers/`: written by `check`, lent by `yours`."""

import ast
import builtins
import importlib.util
import inspect
import linecache
import os
import symtable
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from course_utils._files import ROOT, replace_text

_INIT = '''\
"""What you wrote and the course accepted: yours to read and to import.  Written by `check`."""

from importlib import import_module


def __getattr__(name):
    if name not in _FILE_OF:
        raise AttributeError(f"no answer called {name!r} is kept; there are {', '.join(_FILE_OF) or 'none'}")
    return getattr(import_module(f"{__name__}.{_FILE_OF[name]}"), name)
'''


class NotKept(Exception):
    """Why an answer is not kept, in words that end a sentence."""


def folder() -> Path:
    """`$COURSE_ANSWERS` where it is set, else `answers/` in the course's own folder."""
    return Path(os.environ.get("COURSE_ANSWERS") or ROOT / "answers").expanduser()


def file_of(number: str) -> Path:
    """answers/exercise_4_2.py"""
    return folder() / f"exercise_{number.replace('.', '_')}.py"


def keep(number: str, name: str, answer: Any, number_of: Callable[[Any], str | None]) -> Path:
    """Write the answer, with all that its source needs, as a module; return its path.

    number_of: (object) -> the exercise of which it is an accepted answer or the course's solution, or None.
    Raises NotKept with the reason when it cannot be done.
    """
    text = module_text(number, name, answer, number_of)
    path = file_of(number)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            replace_text(path, text)
        files = {_name_in(p): p.stem for p in sorted(path.parent.glob("exercise_*.py"), key=_order)}
        index = f"{_INIT}\n\n_FILE_OF = {{\n" + "".join(f'    "{n}": "{f}",\n' for n, f in files.items() if n) + "}\n"
        replace_text(path.parent / "__init__.py", index)
    except OSError as error:
        raise NotKept(f"{path.parent} cannot be written ({error.strerror or error})") from error
    return path


def load(number: str, name: str) -> Any:
    """The kept answer.  Raises FileNotFoundError where there is none, and whatever its source raises."""
    path = file_of(number)
    if not path.is_file():
        raise FileNotFoundError(path)
    linecache.checkcache(str(path))
    spec = importlib.util.spec_from_file_location(f"answers.{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), module.__dict__)
    sys.modules.setdefault(module.__name__, module)  # so that classes can be pickled and their source be found
    return getattr(module, name)


def _order(path: Path) -> tuple[int, ...]:
    return tuple(int(part) for part in path.stem.split("_")[1:] if part.isdecimal())


def _name_in(path: Path) -> str | None:
    """What the file defines for its exercise: its last function or class."""
    try:
        body = ast.parse(path.read_text(encoding="utf-8")).body
    except (SyntaxError, ValueError):
        return None
    return next((n.name for n in reversed(body) if isinstance(n, ast.FunctionDef | ast.ClassDef)), None)


# From an object to source that stands by itself ----------------------------------------------------------


def module_text(number: str, name: str, answer: Any, number_of: Callable[[Any], str | None]) -> str:
    """The module that defines the answer: imports, other answers, constants, helpers, and the answer last."""
    parts = needs(name, answer, number_of)
    if any(line.startswith("from course_utils.teaching import yours") for line in parts.imports):
        parts.imports.remove("from course_utils.teaching import yours")
        parts.imports.append("from course_utils.teaching import yours")
    blocks = [f'"""Exercise {number}: your answer, kept when it was accepted."""']
    blocks += ["\n".join(parts.imports)] if parts.imports else []
    blocks += ["\n".join(parts.lines)] if parts.lines else []
    return "\n\n".join(blocks) + "\n\n\n" + "\n\n\n".join(parts.sources) + "\n"


class Parts:
    """What a piece of source needs to stand by itself."""

    def __init__(self) -> None:
        self.imports: list[str] = []
        self.lines: list[str] = []  # yours("1.1") and constants
        self.sources: list[str] = []  # helpers, the answer last


def needs(name: str, answer: Any, number_of: Callable[[Any], str | None]) -> Parts:
    """Imports, assignments and definitions that make `answer` stand by itself.  Raises NotKept."""
    parts, done = Parts(), set()

    def define(name: str, thing: Any) -> None:
        if name in done:
            return
        done.add(name)
        source, values = source_of(thing)
        if source is None:
            raise NotKept(f"the source of {name} cannot be found")
        definition = ast.parse(source).body[0]
        if not isinstance(definition, ast.FunctionDef | ast.ClassDef):
            raise NotKept(f"{name} was not written with def or class")
        free = [n for n in global_names(source) if n not in done and (n in values or not hasattr(builtins, n))]
        if definition.name != name:
            raise NotKept(f"{name} was defined under the name {definition.name}")
        for free_name in free:
            if free_name not in values:
                continue  # it may never be reached; if it is, the answer says so itself
            bring(name, free_name, values[free_name])
        parts.sources.append(source)

    def bring(owner: str, name: str, value: Any) -> None:
        if (line := _import_line(name, value)) and (isinstance(value, ModuleType) or not number_of(value)):
            if line not in parts.imports:
                parts.imports.append(line)
        elif other := number_of(value):
            if "from course_utils.teaching import yours" not in parts.imports:
                parts.imports.append("from course_utils.teaching import yours")
            parts.lines.append(f'{name} = yours("{other}")')
            done.add(name)
        elif _is_literal(value):
            parts.lines.append(f"{name} = {value!r}")
            done.add(name)
        elif inspect.isfunction(value) or inspect.isclass(value):
            define(name, value)
        else:
            raise NotKept(f"{owner} uses {name}, which exists in this notebook only")

    define(name, answer)
    return parts


def source_of(thing: Any) -> tuple[str | None, dict[str, Any]]:
    """The source of a function or class, wherever it was written, notebooks included, and the globals it sees."""
    members = [thing, *(vars(thing).values() if inspect.isclass(thing) else ())]
    functions = [
        getattr(inspect.unwrap(m), "__func__", inspect.unwrap(m))
        for m in members
        if callable(m) or hasattr(m, "__func__")
    ]
    code = next((f for f in functions if inspect.isfunction(f)), None)
    if code is None:
        return None, {}
    lines = linecache.getlines(code.__code__.co_filename, code.__globals__)
    try:
        tree = ast.parse("".join(lines))
    except SyntaxError:
        return None, code.__globals__
    kind, line = (ast.ClassDef if inspect.isclass(thing) else ast.FunctionDef), code.__code__.co_firstlineno
    for node in ast.walk(tree):
        first = min([node.lineno, *(d.lineno for d in node.decorator_list)]) if isinstance(node, kind) else None
        if first and node.name == thing.__name__ and first <= line <= node.end_lineno:
            return textwrap.dedent("".join(lines[first - 1 : node.end_lineno])).rstrip(), code.__globals__
    return None, code.__globals__


def global_names(source: str) -> list[str]:
    """The names that a definition takes from the module around it, in order of the alphabet."""
    found: set[str] = set()

    def visit(table: symtable.SymbolTable, top: bool) -> None:
        for symbol in table.get_symbols():
            if symbol.is_referenced() and (symbol.is_global() or (top and not symbol.is_assigned())):
                found.add(symbol.get_name())
        for child in table.get_children():
            visit(child, False)

    table = symtable.symtable(source, "<answer>", "exec")
    visit(table, True)
    return sorted(found - {ast.parse(source).body[0].name if hasattr(ast.parse(source).body[0], "name") else ""})


def _import_line(name: str, value: Any) -> str | None:
    if isinstance(value, ModuleType):
        return f"import {name}" if value.__name__ == name else f"import {value.__name__} as {name}"
    home, own = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if not isinstance(home, str) or not isinstance(own, str) or home in ("__main__", "builtins") or "." in own:
        return None
    if home.startswith("answers.") or getattr(sys.modules.get(home), own, None) is not value:
        return None
    return f"from {home} import {own}" if own == name else f"from {home} import {own} as {name}"


def _is_literal(value: Any) -> bool:
    try:
        return type(ast.literal_eval(repr(value))) is type(value) and ast.literal_eval(repr(value)) == value
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return False
