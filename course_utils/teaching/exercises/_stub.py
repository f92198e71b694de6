"""Reading a stub: the name and arguments it asks for, and whether an answer is still as empty as the stub."""

import ast
import dis
import functools
import inspect
from types import CodeType
from typing import Any

_EMPTY_BODIES = (
    "...",
    "raise NotImplementedError",
    "raise NotImplementedError()",
    "raise NotImplementedError('')",
)
_BOOKKEEPING = {"RESUME", "NOP", "CACHE", "EXTENDED_ARG"}


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
        given = {name: _code_of(member) for name, member in vars(answer).items()}
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
