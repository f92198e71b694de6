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
Change = tuple[str, str, str]  # name, words, the source that takes the place of a piece of the solution

_ELEMENTWISE = ("exp", "log", "square", "sqrt", "abs", "sigmoid", "softmax", "softplus", "log1p", "tanh")
_REDUCTIONS = ("sum", "mean", "amax", "amin", "std", "var", "median", "logsumexp")
_OTHERS = {"exp": ("square",), "square": ("abs",), "abs": ("square",), "sqrt": ("square",), "log1p": ("log",)}
_MODULES = ("torch", "math", "F", "np", "functional", "nn")

# Name, words, and what stands in place of l + r: in the order in which they are tried.
_SIGN, _LEFT_OUT = ("sign of a term", "one term has the other sign"), ("a term missing", "one term is left out")
_LESS = "a factor missing", "one factor is left out"
_SCALED = [
    (f"one term times {n}", f"one term has an additional factor {n}", form)
    for n in ("0.5", "2")
    for form in (f"{{l}} {{o}} {n} * {{r}}", f"{n} * {{l}} {{o}} {{r}}")
]
_OPERATORS: dict[type[ast.operator], list[Change]] = {
    ast.Add: [
        (*_SIGN, "{l} - {r}"), (*_LEFT_OUT, "{l}"), (*_LEFT_OUT, "{r}"),
        ("multiplied in place of added", "one sum is a product", "{l} * {r}"), *_SCALED,
    ],
    ast.Sub: [
        (*_SIGN, "{l} + {r}"), (*_LEFT_OUT, "{l}"), (*_LEFT_OUT, "-{r}"),
        ("difference turned round", "one difference is taken the other way round", "{r} - {l}"), *_SCALED,
    ],
    ast.Mult: [
        (*_LESS, "{l}"), (*_LESS, "{r}"),
        ("added in place of multiplied", "one product is a sum", "{l} + {r}"),
        ("divided", "one product is a quotient", "{l} / {r}"),
        *[("a factor squared", "one factor is squared", form) for form in ("{l}**2 * {r}", "{l} * {r}**2")],
    ],
    ast.Div: [
        (*_LESS, "{l}"), (*_LESS, "1 / {r}"),
        ("multiplied", "one quotient is a product", "{l} * {r}"),
        ("quotient turned round", "one quotient is turned round", "{r} / {l}"),
        ("the denominator alone", "only the denominator of one quotient is left", "{r}"),
        *[("a factor squared", "one factor is squared", form) for form in ("{l}**2 / {r}", "{l} / {r}**2")],
        ("a factor's root", "the root of one factor is taken", "{l} / {r}**0.5"),
    ],
    ast.Pow: [("a power missing", "one power is left out", "{l}")],
    ast.MatMult: [("a matrix missing", "one matrix of a product is left out", side) for side in ("{l}", "{r}")],
}  # fmt: skip
_FORMS = {
    "{} itself": "{}", "the root of {}": "{} ** 0.5", "the square of {}": "{} ** 2", "exp of {}": "{}.exp()",
    "exp of 2·{}": "(2 * {}).exp()", "exp of ½·{}": "(0.5 * {}).exp()", "2 to the power of {}": "2 ** {}",
    "2 to the power of ½·{}": "2 ** (0.5 * {})", "softplus of {}": "(1 + {}.exp()).log()", "|{}|": "{}.abs()",
    "half of {}": "0.5 * {}", "half of exp of {}": "0.5 * {}.exp()", "exp of −{}": "(-{}).exp()",
    "exp of ¼·{}": "(0.25 * {}).exp()", "log of {}": "{}.log()", "log of 1 + {}": "(1 + {}).log()",
}  # fmt: skip
_INSIDE = {"exp({})": "{}.exp()", "log|{}|": "{}.abs().log()", "{}²": "{} ** 2", "½·{}": "(0.5 * {})",
           "2·{}": "(2 * {})", "−{}": "(-{})", "1/{}": "(1 / {})"}  # fmt: skip


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
    names = [argument.arg for argument in tree.body[0].args.args]
    nodes = list(ast.walk(tree))
    single = [
        (name, words, {i: source})
        for i, node in enumerate(nodes)
        if isinstance(node, ast.expr)
        for name, words, source in _changes(node, names)
    ]
    everywhere: dict[str, tuple[str, str, dict[int, str]]] = {}  # the same slip wherever it can be made
    for name, words, change in single:
        if words.startswith("one "):
            known = everywhere.setdefault(name, (name, f"every {words[4:].partition(':')[0]}", {}))
            known[2].update({i: new for i, new in change.items() if i not in known[2]})
    found, sources = [], {ast.unparse(tree)}
    for name, words, change in [*single, *(entry for entry in everywhere.values() if len(entry[2]) > 1)]:
        source = ast.unparse(_Exchange({id(nodes[i]): new for i, new in change.items()}).visit(tree))
        if source not in sources:
            sources.add(source)
            namespace = dict(solution.__globals__)
            exec(compile(source, "<slip>", "exec"), namespace)
            found.append((name, words, namespace[solution.__name__]))
    return tuple(found)


class _Exchange(ast.NodeTransformer):
    """A copy of a tree in which other sources stand for some nodes; the tree stays as it is."""

    def __init__(self, sources: dict[int, str]) -> None:
        self.sources = sources

    def visit(self, node: ast.AST) -> ast.AST:
        if id(node) in self.sources:
            return ast.parse(self.sources[id(node)], mode="eval").body
        return self.generic_visit(copy.copy(node))

    def generic_visit(self, node: ast.AST) -> ast.AST:
        for name, value in ast.iter_fields(node):
            if isinstance(value, list):
                setattr(node, name, [self.visit(item) if isinstance(item, ast.AST) else item for item in value])
            elif isinstance(value, ast.AST):
                setattr(node, name, self.visit(value))
        return node


def _changes(node: ast.expr, names: list[str]) -> Iterator[Change]:
    if isinstance(node, ast.BinOp):
        left, right = (f"({ast.unparse(side)})" for side in (node.left, node.right))
        if isinstance(node.op, ast.Pow) and right == "(2)":
            base = left[1:-1]
            where = f": {base} stands where {base}² belongs" if base in names else ""
            yield "a power missing", f"one square is left out{where}", base
        for name, words, form in _OPERATORS.get(type(node.op), ()):
            gone = {"{l}": node.right, "{r}": node.left, "-{r}": node.left, "1 / {r}": node.left}.get(form)
            number = f" ({ast.unparse(gone)})" if isinstance(gone, ast.Constant) else ""
            yield name, words + number, form.format(l=left, r=right, o="+" if isinstance(node.op, ast.Add) else "-")
        yield from _of_sums(node, names)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield "sign of a term", "one minus sign is left out", ast.unparse(node.operand)
    elif isinstance(node, ast.Call):
        yield from _of_calls(node)
    elif isinstance(node, ast.Subscript) and ast.unparse(node).endswith(".shape[1]"):
        yield "another size", "one size is that of another axis", f"{ast.unparse(node.value)}[0]"
    elif isinstance(node, ast.Name) and node.id in names and isinstance(node.ctx, ast.Load):
        others = {other: other for other in names if other != node.id}
        for said, form in ({s.format(node.id): f.format(node.id) for s, f in _INSIDE.items()} | others).items():
            name = f"{said} for {node.id} in one place" if said in others else f"{said} in one place"
            yield name, f"{said} stands in one place where {node.id} belongs", form
    name, function, subject = _unary(node) or ("", None, None)
    if name not in ("", "sum", "mean") and isinstance(subject, ast.BinOp) and isinstance(subject.op, ast.Add | ast.Sub):
        one, other = function(ast.unparse(subject.left)), function(ast.unparse(subject.right))
        for sign, so in (("+", "and the two are added"), ("-", "and the second is subtracted")):
            yield f"the {name} of each term", f"one {name} is taken of each of two terms, {so}", f"{one} {sign} {other}"
    if name and (inner := _unary(subject)):  # the sum of the squares, the square of the sum
        words = f"one {name} and one {inner[0]} are taken in the other order"
        yield f"{name} and {inner[0]} in the other order", words, inner[1](function(ast.unparse(inner[2])))


def _unary(node: ast.AST) -> tuple[str, Callable[[str], str], ast.expr] | None:
    """Of x.f(…), torch.f(x) or x**2: the name, a maker of its source for another x, and x."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
        return "power", lambda source: f"(({source}) ** {ast.unparse(node.right)})", node.left
    if isinstance(node, ast.Call) and (_name(node) in _ELEMENTWISE + _REDUCTIONS) and (subject := _subject(node)):
        return _name(node), lambda source: ast.unparse(_called(node, subject=source)), subject
    return None


def _name(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def _of_module(node: ast.Call) -> bool:
    """torch.exp(x), and not x.exp()."""
    function = node.func
    while isinstance(function, ast.Attribute):
        function = function.value
    return not isinstance(node.func, ast.Attribute) or (isinstance(function, ast.Name) and function.id in _MODULES)


def _subject(node: ast.Call) -> ast.expr | None:
    return (node.args[0] if node.args else None) if _of_module(node) else node.func.value


def _called(node: ast.Call, subject: str = "", name: str = "", **keywords: int | None) -> ast.Call:
    """The call with another subject, another name, other keywords; None takes one away."""
    new = copy.deepcopy(node)
    if subject and _of_module(node):
        new.args[0] = ast.parse(subject, mode="eval").body
    elif subject:
        new.func.value = ast.parse(subject, mode="eval").body
    if name and isinstance(new.func, ast.Attribute):
        new.func.attr = name
    new.keywords = [k for k in new.keywords if k.arg not in keywords]
    new.keywords += [ast.keyword(k, ast.Constant(v)) for k, v in keywords.items() if v is not None]
    return new


def _of_calls(node: ast.Call) -> Iterator[Change]:
    name, subject = _name(node), _subject(node)
    if subject is None:
        return
    inside = ast.unparse(subject)
    if name in (*_ELEMENTWISE, "sum", "mean", "diag"):
        yield f"{name} missing", f"one {name} is left out", inside
    if name in _ELEMENTWISE:
        arguments = {n.id for n in ast.walk(subject) if isinstance(n, ast.Name) and n.id not in _MODULES}
        for argument, (said, form) in itertools.product(arguments if len(arguments) == 1 else (), _FORMS.items()):
            said = said.format(argument)
            if said != f"{name} of {inside}":
                words = f"{said} stands where another function of it belongs"
                yield f"{said} for a function of it", words, form.format(argument)
    others = _REDUCTIONS if name in _REDUCTIONS else _OTHERS.get(name, ())
    for other in others if isinstance(node.func, ast.Attribute) else ():
        if other != name:
            source = ast.unparse(_called(node, name=other)) + (".values" if other == "median" and node.keywords else "")
            yield f"{other} for {name}", f"{other} stands where {name} belongs", source
    if name == "len":
        yield "a size less 1", "one size is smaller by 1", f"({ast.unparse(node)} - 1)"
        yield "another size", "one size is that of another axis", f"{inside}.shape[1]"
    if name == "cdist":
        for p, words in (("1", "the sum of all differences' sizes"), ("torch.inf", "the largest difference")):
            said = f"{words} stands where a Euclidean distance belongs"
            yield f"{words} for a distance", said, f"{ast.unparse(node)[:-1]}, p={p})"
    for keyword in node.keywords:
        if keyword.arg == "dim":
            for axis in (0, 1, 2):
                other = ast.unparse(_called(node, dim=axis))
                yield f"{name} over another axis", f"one {name} runs over axis {axis}", other
            yield f"{name} over everything", f"one {name} runs over all axes", ast.unparse(_called(node, dim=None))


def _of_sums(node: ast.BinOp, names: list[str]) -> Iterator[Change]:
    """A sum of up to five terms, perhaps with a factor or a divisor: other terms or signs, it reaches only some."""
    sums = {"{}": node} if isinstance(node.op, ast.Add | ast.Sub) else {}
    if isinstance(node.op, ast.Mult | ast.Div):
        left, right, o = ast.unparse(node.left), ast.unparse(node.right), "*" if isinstance(node.op, ast.Mult) else "/"
        sums = {f"({{}}) {o} ({right})": node.left} | ({f"({left}) * ({{}})": node.right} if o == "*" else {})
    for form, whole in sums.items():
        terms = _terms(whole)
        if not 2 <= len(terms) <= 5:
            continue
        choices = [c for c in itertools.product((True, False), repeat=len(terms)) if any(c) and not all(c)]
        for chosen in choices:
            count = len(terms) - sum(chosen)
            some, many = "one term" if count == 1 else f"{count} terms", count > 1
            if form != "{}":
                reached = [(s, form.format(t) if keep else t) for (s, t), keep in zip(terms, chosen, strict=True)]
                yield "a factor on some terms", f"a factor does not reach {some} of a sum", _sum(reached)
            elif len(terms) > 2:
                kept = [term for term, keep in zip(terms, chosen, strict=True) if keep]
                yield "terms missing", f"{some} of a sum {'are' if many else 'is'} left out", _sum(kept)
                turned = [(s if keep else -s, t) for (s, t), keep in zip(terms, chosen, strict=True)]
                yield "signs of terms", f"{some} of a sum {'have' if many else 'has'} the other sign", _sum(turned)
        for (k, (sign, term)), name in itertools.product(enumerate(terms), names if len(terms) > 2 else ()):
            for words, besides in (("divided by exp of", "/ {}.exp()"), ("multiplied by", "* {}")):
                changed = [*terms[:k], (sign, f"({term}) {besides.format(name)}"), *terms[k + 1 :]]
                yield f"a term {words} {name}", f"one term is {words} {name} besides", form.format(_sum(changed))
    if isinstance(node.op, ast.Add) and isinstance(node.right, ast.BinOp) and isinstance(node.right.op, ast.Mult):
        left, *factors = (f"({ast.unparse(n)})" for n in (node.left, node.right.left, node.right.right))
        for one, other in itertools.permutations(factors):
            yield "a factor reaches too far", "one factor reaches both terms of a sum", f"({left} + {one}) * {other}"
            yield "a factor at another term", "one factor stands at another term of a sum", f"{left} * {other} + {one}"


def _terms(node: ast.AST) -> list[tuple[int, str]]:
    """a - b + c as [(1, "(a)"), (-1, "(b)"), (1, "(c)")]."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub):
        sign = 1 if isinstance(node.op, ast.Add) else -1
        return [*_terms(node.left), *((sign * s, term) for s, term in _terms(node.right))]
    return [(1, f"({ast.unparse(node)})")]


def _sum(terms: list[tuple[int, str]]) -> str:
    return " ".join(f"{'+' if sign > 0 else '-'} ({term})" for sign, term in terms)
