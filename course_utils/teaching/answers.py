"""The reader's accepted answers, kept as plain source in `answers/`: written by `check`, lent by `yours`."""

import ast
import importlib.util
import inspect
import linecache
import os
import symtable
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field
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
    """What the file defines for its exercise: the first word of its docstring."""
    try:
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    except (SyntaxError, ValueError, OSError):
        return None
    name = docstring.partition(",")[0]
    return name if name.isidentifier() else None


# From an object to source that stands by itself ----------------------------------------------------------


def module_text(number: str, name: str, answer: Any, number_of: Callable[[Any], str | None]) -> str:
    """The module that defines the answer: imports, other answers, constants, helpers, and the answer last."""
    parts = needs(name, answer, number_of)
    head = [f'"""{name}, exercise {number}: your answer, kept when it was accepted."""']
    blocks = [*head, *filter(None, ["\n".join(parts.imports), "\n".join(parts.lines)])]
    return "\n\n".join(blocks) + "\n\n\n" + "\n\n\n".join(parts.sources) + "\n"


@dataclass
class Parts:
    """What a piece of source needs to stand by itself, and the source itself, last."""

    imports: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)  # yours("1.1"), and constants
    sources: list[str] = field(default_factory=list)


def needs(name: str, answer: Any, number_of: Callable[[Any], str | None]) -> Parts:
    """Imports, assignments and definitions that make `answer` stand by itself, under `name`.  Raises NotKept."""
    parts, done = Parts(), set()

    def define(name: str, thing: Any) -> None:
        source, values = source_of(thing)
        if source is None:
            raise NotKept(f"the source of {name} cannot be found: only what is written with def or class is kept")
        done.add(thing.__name__)
        for free in global_names(source):
            if free in values and free not in done:  # what is missing may never be reached
                done.add(free)
                bring(thing.__name__, free, values[free])
        parts.sources.append(source)
        if thing.__name__ != name:
            parts.sources.append(f"{name} = {thing.__name__}")

    def bring(owner: str, name: str, value: Any) -> None:
        if other := number_of(value):
            require("from course_utils.teaching import yours")
            parts.lines.append(f'{name} = yours("{other}")')
        elif line := _import_line(name, value):
            require(line)
        elif _is_literal(value):
            parts.lines.append(f"{name} = {value!r}")
        elif inspect.isfunction(value) or inspect.isclass(value):
            define(name, value)
        else:
            raise NotKept(f"{owner} uses {name}, which exists in this notebook only")

    def require(line: str) -> None:
        if line not in parts.imports:
            parts.imports.append(line)

    define(name, answer)
    parts.imports.sort(key=lambda line: (line.startswith("from course_utils"), line.startswith("from"), line))
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

    visit(symtable.symtable(source, "<answer>", "exec"), True)
    return sorted(found)


def _import_line(name: str, value: Any) -> str | None:
    if isinstance(value, ModuleType):
        return f"import {name}" if value.__name__ == name else f"import {value.__name__} as {name}"
    home, own = getattr(value, "__module__", None), getattr(value, "__name__", None) or ""
    for module in (home, "torch", "torch.nn.functional"):  # built-in functions do not say where they live
        known = isinstance(module, str) and module not in ("__main__", "builtins") and not module.startswith("answers.")
        if known and own and getattr(sys.modules.get(module), own, None) is value:
            return f"from {module} import {own}" if own == name else f"from {module} import {own} as {name}"
    return None


def _is_literal(value: Any) -> bool:
    try:
        return type(ast.literal_eval(repr(value))) is type(value) and ast.literal_eval(repr(value)) == value
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return False
