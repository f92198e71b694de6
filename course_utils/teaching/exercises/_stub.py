"""Stubs: made from a solution; the name and arguments that they ask for; whether an answer is still as empty."""

import ast
import dis
import functools
import inspect
import textwrap
from types import CodeType
from typing import Any

_EMPTY_BODIES = (
    "...",
    "raise NotImplementedError",
    "raise NotImplementedError()",
    "raise NotImplementedError('')",
)
_BOOKKEEPING = {"RESUME", "NOP", "CACHE", "EXTENDED_ARG"}


def stub_of(solution: Any) -> str:
    """The solution with its bodies taken out: signatures, docstrings and the comments beside signatures stay."""
    source = textwrap.dedent(inspect.getsource(solution))
    node = _definition(source)
    return "\n".join(_class_stub(node, source) if isinstance(node, ast.ClassDef) else _function_stub(node, source))


def without_docstrings(source: str) -> str:
    """The source without the docstrings of the function or class and of its methods, which the stub has shown."""
    lines, node = source.splitlines(), _definition(source)
    for owner in (node, *(item for item in node.body if isinstance(item, ast.FunctionDef))):
        if ast.get_docstring(owner) and len(owner.body) > 1:
            first = owner.body[0]
            after = first.end_lineno + (not lines[first.end_lineno].strip())  # and the blank line below it
            lines[first.lineno - 1 : after] = [None] * (after - first.lineno + 1)
    return "\n".join(line for line in lines if line is not None)


def _function_stub(node: ast.FunctionDef, source: str) -> list[str]:
    lines, first, indent = source.splitlines(), node.body[0], " " * node.col_offset
    header = lines[node.lineno - 1 : max(first.lineno - 1, node.lineno)]
    code, _, comment = header[-1].partition("  #")
    if first.lineno == node.lineno:  # def f(x): return x
        return [f"{indent}{ast.unparse(node).splitlines()[0]} ..."]
    if ast.get_docstring(node):
        return [*header, *lines[first.lineno - 1 : first.end_lineno], f"{indent}    ..."]
    return [*header[:-1], f"{code} ..." + (f"  #{comment}" if comment else "")]


def _class_stub(node: ast.ClassDef, source: str) -> list[str]:
    lines = source.splitlines()
    opening = node.body[0].end_lineno if ast.get_docstring(node) else node.body[0].lineno - 1
    found = [line for line in lines[node.lineno - 1 : opening] if line.strip()]
    for method in node.body:
        if isinstance(method, ast.FunctionDef) and (method.name == "__init__" or not method.name.startswith("_")):
            stub = _function_stub(method, source)
            gap = [""] if len(found) > 1 and (len(stub) > 1 or not found[-1].lstrip().startswith("def")) else []
            found += [*gap, *stub]
    return found


def _definition(stub: str) -> ast.FunctionDef | ast.ClassDef:
    for node in ast.parse(stub).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            return node
    raise ValueError(f"a stub must define a function or a class; this one defines neither:\n{stub}")


def name_of(stub: str) -> str:
    """The name of the function or class that the stub asks for."""
    return _definition(stub).name


def parameters_of(stub: str) -> tuple[str, ...]:
    """The names of the stub's positional arguments, in order; for a class those of its `__init__`."""
    node = _definition(stub)
    if isinstance(node, ast.FunctionDef):
        return tuple(argument.arg for argument in node.args.args)
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            return tuple(argument.arg for argument in item.args.args[1:])
    return ()


def is_unattempted(answer: Any, stub: str) -> bool:
    """True when `answer` (a function or a class) still compiles to the stub, or to nothing at all.

    The compiled code decides, never the returned value: a function that works something out and forgets to
    return it has been attempted.
    """
    compiled = _code_objects(compile(stub, "<stub>", "exec"))[name_of(stub)]
    if inspect.isclass(answer):
        wanted = {name: code for name, code in _code_objects(compiled).items() if _is_empty(code)}
        own = [c for c in reversed(answer.__mro__) if c is not object and not c.__module__.startswith("torch.")]
        given = {name: _code_of(member) for c in own for name, member in vars(c).items()}
        return bool(wanted) and all(given.get(name) is None or _is_empty(given[name]) for name in wanted)
    code = _code_of(answer)
    return code is not None and (_is_empty(code) or _instructions(code) == _instructions(compiled))


def _code_of(answer: Any) -> CodeType | None:
    while isinstance(answer, functools.partial):
        answer = answer.func
    answer = inspect.unwrap(answer) if callable(answer) else answer
    return getattr(getattr(answer, "__func__", answer), "__code__", None)


def _code_objects(code: CodeType) -> dict[str, CodeType]:
    return {constant.co_name: constant for constant in code.co_consts if isinstance(constant, CodeType)}


def _instructions(code: CodeType, *, any_text: bool = False) -> list[tuple[str, Any]]:
    found = []
    for step in dis.get_instructions(code):
        if step.opname in _BOOKKEEPING:
            continue
        value = step.argval
        if isinstance(value, CodeType):
            value = tuple(_instructions(value))
        elif any_text and step.opname == "LOAD_CONST" and isinstance(value, str):
            value = ""  # the words of a NotImplementedError
        found.append((step.opname, value))
    return found


@functools.cache
def _empty_instructions() -> list[list[tuple[str, Any]]]:
    compiled = (compile(f"def stub():\n    {body}", "<stub>", "exec") for body in _EMPTY_BODIES)
    return [_instructions(_code_objects(module)["stub"]) for module in compiled]


def _is_empty(code: CodeType) -> bool:
    return _instructions(code, any_text=True) in _empty_instructions()
