"""One slip in the solution: every function that differs from it by one term, factor, call, sign, axis or name."""

import ast
import copy
import inspect
import itertools
import textwrap
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

Slip = tuple[str, str, Callable[..., Any]]  # name, "one exp is left out", the function that makes it

_ELEMENTWISE = (
    "exp",
    "log",
    "square",
    "sqrt",
    "abs",
    "sigmoid",
    "softmax",
    "softplus",
    "expm1",
    "log1p",
    "clamp",
    "tanh",
)
_MATRIX = ("inverse", "inv", "pinv", "trace", "diagonal", "diag", "t")
_INSTEAD = {
    "sum": ("mean", "amax"), "mean": ("sum", "amax", "amin", "median"), "amax": ("amin",), "amin": ("amax",),
    "argmax": ("argmin",), "argmin": ("argmax",),
    "std": ("var",), "var": ("std",), "logdet": ("det",), "logsumexp": ("sum", "amax"), "solve": ("matmul",),
    "exp": ("square",), "maximum": ("minimum",), "minimum": ("maximum",), "median": ("mean",), "sqrt": ("square",),
    "abs": ("square",), "square": ("abs",), "cos": ("sin",), "sin": ("cos",),
}  # fmt: skip


@cache
def slips(solution: Callable[..., Any]) -> tuple[Slip, ...]:
    """All of them, without two of the same source; empty where there is no source, or a class."""
    solution = inspect.unwrap(solution)
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(solution)))
    except (OSError, TypeError, SyntaxError):
        return ()
    if not isinstance(tree.body[0], ast.FunctionDef) or not inspect.isfunction(solution):
        return ()
    tree.body[0].decorator_list = []
    single = [
        (name, words, {i: changed})
        for i, node in enumerate(ast.walk(tree))
        for name, words, changed in _changes(node, tree.body[0])
    ]
    everywhere: dict[str, tuple[str, str, dict[int, ast.AST]]] = {}  # the same slip wherever it can be made
    for name, words, change in single:
        if words.startswith("one "):
            known = everywhere.setdefault(name, (name, f"every {words[4:]}", {}))
            known[2].update({i: new for i, new in change.items() if i not in known[2]})
    nodes, places = list(ast.walk(tree)), _places(tree)
    found, sources = [], {ast.unparse(tree)}
    for name, words, change in [*single, *(entry for entry in everywhere.values() if len(entry[2]) > 1)]:
        source = _with_changes(nodes, places, change)
        if source not in sources:
            sources.add(source)
            namespace = dict(solution.__globals__)
            exec(compile(source, "<slip>", "exec"), namespace)
            found.append((name, words, namespace[solution.__name__]))
    return tuple(found)


def _with_changes(nodes: list[ast.AST], places: dict[ast.AST, tuple], change: dict[int, ast.AST]) -> str:
    """The source with some nodes exchanged; the tree is as before afterwards."""
    undo = []
    for i, new in change.items():
        parent, name, k = places[nodes[i]]
        undo.append((parent, name, k, nodes[i]))
        _put(parent, name, k, new)
    source = ast.unparse(nodes[0])
    for place in reversed(undo):
        _put(*place)
    return source


def _put(parent: ast.AST, name: str, k: int | None, node: ast.AST) -> None:
    if k is None:
        setattr(parent, name, node)
    else:
        getattr(parent, name)[k] = node


def _places(tree: ast.AST) -> dict[ast.AST, tuple[ast.AST, str, int | None]]:
    """Where each node stands: in which field of which other node, at which place of a list."""
    found = {}
    for parent in ast.walk(tree):
        for name, value in ast.iter_fields(parent):
            for k, node in enumerate(value) if isinstance(value, list) else [(None, value)]:
                if isinstance(node, ast.AST):
                    found[node] = (parent, name, k)
    return found


def _changes(node: ast.AST, function: ast.FunctionDef) -> Iterator[tuple[str, str, ast.AST]]:
    if isinstance(node, ast.BinOp):
        yield from _of_operators(node)
        yield from _of_sums(node, [argument.arg for argument in function.args.args])
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield "sign of a term", "one minus sign is left out", node.operand
    elif isinstance(node, ast.Call):
        yield from _of_calls(node)
    elif isinstance(node, ast.Attribute) and node.attr in ("T", "mT"):
        yield "transposed factor", "one matrix is not transposed", node.value
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
        names = [argument.arg for argument in function.args.args]
        if node.id in names:
            for said, form in _INSIDE.items():
                words = f"{said.format(node.id)} stands in one place where {node.id} belongs"
                yield f"{said.format(node.id)} in one place", words, _parsed(form.format(node.id))
            for other in names:
                if other != node.id:
                    words = f"{other} stands in one place where {node.id} belongs"
                    yield f"{other} for {node.id} in one place", words, ast.Name(other, ast.Load())


def _of_sums(node: ast.BinOp, names: list[str]) -> Iterator[tuple[str, str, ast.AST]]:
    """A sum of three to five terms, perhaps with a factor before it: other terms, other signs, the factor on some."""
    factor, whole = (node.left, node.right) if isinstance(node.op, ast.Mult) else (None, node)
    terms = _terms(whole)
    if not 3 <= len(terms) <= 5:
        return
    for (k, (sign, term)), name in itertools.product(enumerate(terms), names):
        for words, form in (("divided by", "/ {}"), ("divided by exp of", "/ {}.exp()"), ("multiplied by", "* {}")):
            changed = [*terms[:k], (sign, _parsed(f"({ast.unparse(term)}) {form.format(name)}")), *terms[k + 1 :]]
            whole = ast.BinOp(factor, ast.Mult(), _sum(changed)) if factor else _sum(changed)
            yield f"a term {words} {name}", f"one term is {words} {name} besides", whole
    for chosen in itertools.product((True, False), repeat=len(terms)):
        if all(chosen) or not any(chosen):
            continue
        count = len(terms) - sum(chosen)
        some = "one term" if count == 1 else f"{count} terms"
        if factor is None:
            kept = [term for term, keep in zip(terms, chosen, strict=True) if keep]
            yield "terms missing", f"{some} of a sum {'is' if count == 1 else 'are'} left out", _sum(kept)
            turned = [(sign if keep else -sign, term) for (sign, term), keep in zip(terms, chosen, strict=True)]
            yield "signs of terms", f"{some} of a sum {'has' if count == 1 else 'have'} the other sign", _sum(turned)
        else:
            scaled = [
                (sign, ast.BinOp(factor, ast.Mult(), term) if keep else term)
                for (sign, term), keep in zip(terms, chosen, strict=True)
            ]
            yield "a factor on some terms", f"a factor does not reach {some} of a sum", _sum(scaled)


def _terms(node: ast.AST) -> list[tuple[int, ast.AST]]:
    """a - b + c as [(1, a), (-1, b), (1, c)]."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub):
        sign = 1 if isinstance(node.op, ast.Add) else -1
        return [*_terms(node.left), *((sign * s, term) for s, term in _terms(node.right))]
    return [(1, node)]


def _sum(terms: list[tuple[int, ast.AST]]) -> ast.AST:
    first, *others = [(ast.UnaryOp(ast.USub(), term) if sign < 0 else term, sign, term) for sign, term in terms]
    found = first[0]
    for _, sign, term in others:
        found = ast.BinOp(found, ast.Add() if sign > 0 else ast.Sub(), term)
    return found


def _of_operators(node: ast.BinOp) -> Iterator[tuple[str, str, ast.AST]]:
    left, right, op = node.left, node.right, node.op

    def other(new: ast.operator, a: ast.AST = left, b: ast.AST = right) -> ast.AST:
        return ast.BinOp(a, new, b)

    if isinstance(op, ast.Add | ast.Sub):
        yield (
            "sign of a term",
            "one term has the other sign",
            other(ast.Sub() if isinstance(op, ast.Add) else ast.Add()),
        )
        yield "a term missing", f"one term is left out{_number(right)}", left
        negative = ast.UnaryOp(ast.USub(), right) if isinstance(op, ast.Sub) else right
        yield "a term missing", f"one term is left out{_number(left)}", negative
        if isinstance(op, ast.Add):
            yield "multiplied in place of added", "one sum is a product", other(ast.Mult())
            if isinstance(right, ast.BinOp) and isinstance(right.op, ast.Mult):
                for one, factor in ((right.left, right.right), (right.right, right.left)):
                    wide = ast.BinOp(ast.BinOp(left, ast.Add(), one), ast.Mult(), factor)
                    yield "a factor reaches too far", "one factor reaches both terms of a sum", wide
        if isinstance(op, ast.Sub):
            yield "difference turned round", "one difference is taken the other way round", other(op, right, left)
        for factor in (0.5, 2.0):  # a factor that reaches only one of two terms
            words = f"one term has an additional factor {factor:g}"
            yield (
                f"one term times {factor:g}",
                words,
                other(op, left, ast.BinOp(ast.Constant(factor), ast.Mult(), right)),
            )
            yield (
                f"one term times {factor:g}",
                words,
                other(op, ast.BinOp(ast.Constant(factor), ast.Mult(), left), right),
            )
    elif isinstance(op, ast.Mult | ast.Div):
        yield "a factor missing", f"one factor is left out{_number(right)}", left
        inverse = ast.BinOp(ast.Constant(1), ast.Div(), right) if isinstance(op, ast.Div) else right
        yield "a factor missing", f"one factor is left out{_number(left)}", inverse
        if isinstance(op, ast.Mult):
            yield "added in place of multiplied", "one product is a sum", other(ast.Add())
            yield "divided", "one product is a quotient", other(ast.Div())
        else:
            yield "multiplied", "one quotient is a product", other(ast.Mult())
            yield "quotient turned round", "one quotient is turned round", other(op, right, left)
        for side, build in ((left, lambda new: other(op, new)), (right, lambda new: other(op, left, new))):
            if not isinstance(side, ast.Constant):
                yield "a factor squared", "one factor is squared", build(ast.BinOp(side, ast.Pow(), ast.Constant(2)))
                yield "a factor's root", "the root of one factor is taken", build(_power(side, 0.5))
    elif isinstance(op, ast.Pow):
        yield "a power missing", f"one power is left out{_number(right)}", left
        yield (
            "a power turned round",
            "the sign of one exponent is the other one",
            _power(left, ast.UnaryOp(ast.USub(), right)),
        )
    elif isinstance(op, ast.MatMult):
        yield "matrices in the other order", "two matrices are multiplied in the other order", other(op, right, left)
        for a, b, which in (
            (ast.Attribute(left, "mT", ast.Load()), right, "first"),
            (left, ast.Attribute(right, "mT", ast.Load()), "second"),
        ):
            yield "transposed factor", f"the {which} matrix of a product is transposed", other(op, a, b)
        yield "a matrix missing", "one matrix of a product is left out", left
        yield "a matrix missing", "one matrix of a product is left out", right


def _power(base: ast.AST, exponent: Any) -> ast.AST:
    return ast.BinOp(base, ast.Pow(), exponent if isinstance(exponent, ast.AST) else ast.Constant(exponent))


def _of_calls(node: ast.Call) -> Iterator[tuple[str, str, ast.AST]]:
    """x.exp() and torch.exp(x) alike."""
    function = node.func
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    module = isinstance(function, ast.Attribute) and _is_module(function.value)
    subject = (node.args[0] if node.args else None) if module or isinstance(function, ast.Name) else function.value
    if subject is None:
        return
    if name in (*_ELEMENTWISE, *_MATRIX, "sum", "mean", "detach", "flatten", "cumsum"):
        yield f"{name} missing", f"one {name} is left out", subject
    if name == "solve" and len(node.args) == 2:
        yield "solve missing", "one matrix inverse is left out", node.args[1]
    if name in _ELEMENTWISE[:4]:
        yield (
            f"{name} twice",
            f"one {name} is taken twice",
            ast.Call(function, [node], []) if module else ast.Call(ast.Attribute(node, name, ast.Load()), [], []),
        )
    if name in _ELEMENTWISE:
        inside = {n.id for n in ast.walk(subject) if isinstance(n, ast.Name) and not _is_module(n)}
        for argument in inside if len(inside) == 1 else ():
            for words, form in _FORMS.items():
                said = words.format(argument)
                yield (
                    f"{said} for a function of it",
                    f"{said} stands where another function of it belongs",
                    _parsed(form.format(argument)),
                )
    if name == "exp":
        for factor, of in ((0.5, "half of "), (2.0, "twice "), (-1.0, "minus ")):
            inside = ast.BinOp(ast.Constant(factor), ast.Mult(), subject)
            yield f"exp of {of}it", f"one exp is taken of {of}what it should be taken of", _with(node, inside, module)
    for new in _INSTEAD.get(name, ()):
        changed = copy.deepcopy(node)
        if isinstance(function, ast.Attribute):
            changed.func = ast.Attribute(function.value, new, ast.Load())
            if name in ("logdet", "solve"):
                base = (
                    ast.Attribute(ast.Name("torch", ast.Load()), "linalg", ast.Load())
                    if new == "det"
                    else ast.Name("torch", ast.Load())
                )
                changed.func = ast.Attribute(base, new, ast.Load())
            words = {"det": "one determinant stands without its logarithm", "matmul": "one matrix is not inverted"}
            yield f"{new} for {name}", words.get(new, f"{new} stands where {name} belongs"), changed
    for keyword in node.keywords:
        if keyword.arg in ("dim", "axis") and isinstance(keyword.value, ast.Constant | ast.UnaryOp):
            for axis in (0, 1, 2):
                changed = copy.deepcopy(node)
                next(k for k in changed.keywords if k.arg == keyword.arg).value = ast.Constant(axis)
                yield f"{name} over another axis", f"one {name} runs over axis {axis}", changed
            changed = copy.deepcopy(node)
            changed.keywords = [k for k in changed.keywords if k.arg != keyword.arg]
            yield f"{name} over everything", f"one {name} runs over all axes", changed
        elif isinstance(keyword.value, ast.Constant) and isinstance(keyword.value.value, bool | int):
            changed = copy.deepcopy(node)
            value = keyword.value.value
            new = not value if isinstance(value, bool) else 1 - value
            next(k for k in changed.keywords if k.arg == keyword.arg).value = ast.Constant(new)
            yield f"{keyword.arg}={new}", f"one {name} has {keyword.arg}={new}", changed
    for i in range(len(node.args) - 1):
        changed = copy.deepcopy(node)
        changed.args[i], changed.args[i + 1] = changed.args[i + 1], changed.args[i]
        yield f"arguments of {name} exchanged", f"two arguments of {name} are exchanged", changed


_INSIDE = {
    "exp({})": "{}.exp()", "log|{}|": "{}.abs().log()", "{}²": "{} ** 2", "½·{}": "(0.5 * {})", "2·{}": "(2 * {})",
    "−{}": "(-{})", "1/{}": "(1 / {})", "the inverse of {}": "{}.inverse()", "the mean of {}": "{}.mean()",
}  # fmt: skip
_FORMS = {
    "{} itself": "{}", "the root of {}": "{} ** 0.5", "the square of {}": "{} ** 2", "exp of {}": "{}.exp()",
    "exp of 2·{}": "(2 * {}).exp()", "exp of ½·{}": "(0.5 * {}).exp()", "2 to the power of {}": "2 ** {}",
    "2 to the power of ½·{}": "2 ** (0.5 * {})", "softplus of {}": "(1 + {}.exp()).log()", "|{}|": "{}.abs()",
    "half of {}": "0.5 * {}", "sigmoid of {}": "{}.sigmoid()", "half of exp of {}": "0.5 * {}.exp()",
    "exp of −{}": "(-{}).exp()", "log of {}": "{}.log()", "log of 1 + {}": "(1 + {}).log()", "tanh of {}": "{}.tanh()",
}  # fmt: skip


def _parsed(source: str) -> ast.AST:
    return ast.parse(source, mode="eval").body


def _with(node: ast.Call, inside: ast.AST, module: bool) -> ast.Call:
    if module:
        return ast.Call(node.func, [inside, *node.args[1:]], node.keywords)
    return ast.Call(ast.Attribute(inside, node.func.attr, ast.Load()), node.args, node.keywords)


def _is_module(node: ast.AST) -> bool:
    while isinstance(node, ast.Attribute):
        node = node.value
    return isinstance(node, ast.Name) and node.id in ("torch", "math", "F", "np", "functional", "nn")


def _number(node: ast.AST) -> str:
    """ ", the 0.5", where what is meant is a number that stands there."""
    return f" ({ast.unparse(node)})" if isinstance(node, ast.Constant) else ""
