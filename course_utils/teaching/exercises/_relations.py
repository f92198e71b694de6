"""The relation finder: in what simple way wrong numbers belong to the right ones, checked on every case.

Nothing here knows an exercise. A relation is claimed only where it holds within the exercise's tolerance on all cases,
on more numbers than could agree by accident.
"""

import itertools
import math
import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ._mutants import slips
from ._text import inputs_text

RTOL, ATOL = 1e-4, 1e-5  # |came - expected| <= ATOL + RTOL * |expected|: float32, and another order of sums

Outcome = dict[str, Tensor]  # what was seen on one case: named tensors, float64 on the CPU
Values = Sequence[Tensor]  # one tensor for each case

_LOG2PI = math.log(2 * math.pi)
_NUMBERS = {  # beside their negatives and reciprocals
    "1": 1.0, "2": 2.0, "3": 3.0, "4": 4.0, "10": 10.0, "100": 100.0, "255": 255.0, "255²": 65025.0, "784": 784.0,
    "√2": 2**0.5, "π": math.pi, "2π": 2 * math.pi, "log 2": math.log(2), "log 10": math.log(10), "log 2π": _LOG2PI,
    "½ log 2π": 0.5 * _LOG2PI,
}  # fmt: skip
_FRACTIONS = {"1/1": "1", "1/2": "½", "1/3": "⅓", "1/4": "¼"}
_TIMES: dict[str, Callable[[float], float]] = {  # factors made of a size or number of the case
    "{}": lambda v: v, "1/{}": lambda v: 1 / v, "{}²": lambda v: v**2, "1/{}²": lambda v: v**-2,
    "√{}": math.sqrt, "1/√{}": lambda v: 1 / math.sqrt(v), "½·{}": lambda v: v / 2, "2/{}": lambda v: 2 / v,
    "2·{}": lambda v: 2 * v, "1/(2·{})": lambda v: 0.5 / v, "log {}": math.log, "1/log {}": lambda v: 1 / math.log(v),
    "({} − 1)": lambda v: v - 1, "1/({} − 1)": lambda v: 1 / (v - 1), "({} − 1)/{}": lambda v: (v - 1) / v,
    "{}/({} − 1)": lambda v: v / (v - 1), "{}/({} + 1)": lambda v: v / (v + 1), "({} + 1)/{}": lambda v: (v + 1) / v,
    "√(({} − 1)/{})": lambda v: math.sqrt((v - 1) / v), "√({}/({} − 1))": lambda v: math.sqrt(v / (v - 1)),
    "784/{}": lambda v: 784 / v,
}  # fmt: skip
_OF_TWO: dict[str, Callable[[float, float], float]] = {
    "{}·{}": operator.mul, "{}/{}": operator.truediv, "{}·log {}": lambda x, y: x * math.log(y)
}  # fmt: skip
_MULTIPLES = {"": 1.0, "½·": 0.5, "2·": 2.0, "log 2π · ": _LOG2PI, "½ log 2π · ": 0.5 * _LOG2PI,
              "log 2 · ": math.log(2), "½ log 2 · ": 0.5 * math.log(2)}  # fmt: skip
_PLUS: dict[str, Callable[[float], float]] = {
    **{f"{times}{form}": lambda v, m=multiple, less=less: m * (v - less)
       for form, less in (("{}", 0), ("({} − 1)", 1)) for times, multiple in _MULTIPLES.items()},
    **{f"{times}log {{}}": lambda v, m=multiple: m * math.log(v)
       for times, multiple in (("", 1.0), ("½ ", 0.5), ("2 ", 2.0))},
    "log ({}/({} − 1))": lambda v: math.log(v / (v - 1)),
}  # fmt: skip
_PLUS_OF_TWO: dict[str, Callable[[float, float], float]] = {
    "{}/2 · log(2π · {}²)": lambda n, s: 0.5 * n * (_LOG2PI + 2 * math.log(s)),
    "{} · log {}": lambda n, s: n * math.log(s),
}
_FORMS = {"times": _TIMES, "plus": _PLUS}


@dataclass(frozen=True)
class Relation:
    """A relation that was found: a short name, and the sentence for the learner."""

    name: str
    words: str


@dataclass(frozen=True)
class Evidence:
    """All that is known about a wrong answer: cases, what came, what was expected, and means to ask for more.

    parameters: the names of the arguments; axes: their sizes' names; tolerance: (relative, absolute);
    trial: function -> a function of a case that gives the outcome, None where it fails;
    answer: the same of the learner's own.
    """

    cases: Sequence[tuple]
    seen: Sequence[Outcome]
    expected: Sequence[Outcome]
    parameters: tuple[str, ...]
    axes: dict[str, tuple[str, ...]]
    tolerance: tuple[float, float]
    solution: Callable[..., Any]
    trial: Callable[..., Callable[[tuple], Outcome | None]]
    answer: Callable[[tuple], Outcome | None]

    @cached_property
    def sizes(self) -> list[dict[str, float]]:
        """Of each case: B, L, … as the docstring names them, other sizes by argument and axis, and numbers."""
        found: list[dict[str, float]] = []
        for case in self.cases:
            found.append({})
            for name, value in zip(self.parameters, case, strict=False):
                if isinstance(value, Tensor) and value.dim():
                    letters = self.axes.get(name, ())
                    for i, size in enumerate(value.shape):
                        named = len(letters) == value.dim() and not letters[i].isdecimal()
                        found[-1].setdefault(letters[i] if named else f"{name}.shape[{i}]", float(size))
                elif isinstance(value, int | float | Tensor) and not isinstance(value, bool):
                    found[-1][name] = float(value)
        return found

    @cached_property
    def constants(self) -> dict[str, list[float]]:
        """The sizes that all cases have; those that no case tells apart share an entry."""
        together: dict[tuple[float, ...], list[str]] = {}
        for name in self.sizes[0]:
            if all(name in sizes for sizes in self.sizes):
                together.setdefault(tuple(sizes[name] for sizes in self.sizes), []).append(name)
        return {" or ".join(names[:2]): list(values) for values, names in together.items()}

    def same(self, came: Values, wanted: Values, free: int = 0) -> bool:
        """Equal on all cases, and on more different numbers than could be equal by accident."""
        if not all(close(a, b, self.tolerance) for a, b in zip(came, wanted, strict=True)):
            return False
        numbers = torch.cat([a.flatten() for a in came])
        numbers = numbers[numbers.isfinite() & (numbers.abs() > 100 * self.tolerance[1])]
        distinct = len({f"{number:.5g}" for number in numbers.tolist()})
        needed = math.ceil(10.3 / -math.log(2 * self.tolerance[0]))
        return distinct >= max(free + needed, 3 if len(came) == 1 else 1)

    def relation(self, came: Values, wanted: Values) -> Relation | None:
        """The first that holds, from the most to the least telling."""
        found = None
        if _each(came, wanted, lambda a, b: a.shape == b.shape):
            found = self.scaled(came, wanted) or self._a_function(came, wanted)
        return found or self._an_axis(came, wanted) or self._an_argument(came, wanted)

    def scaled(self, came: Values, wanted: Values, *, few: bool = False) -> Relation | None:
        """A sign, a factor or an offset; `few`: only those that need no explaining beside another relation."""
        if not _each(came, wanted, lambda a, b: a.shape == b.shape and a.is_floating_point()):
            return None
        flat = [torch.cat([t.flatten() for t in side]) for side in (came, wanted)]
        if not (flat[0].isfinite().all() and flat[1].isfinite().all() and flat[1].abs().max() > 0):
            return None
        unnamed = []
        for how, apply, measure in (
            ("times", operator.mul, lambda a, b: float((a * b).sum() / (b * b).sum().clamp_min(1e-300))),
            ("plus", operator.add, lambda a, b: float((a - b).mean())),
        ):
            value = measure(*flat)
            negligible = value == 0 if how == "times" else abs(value) <= 100 * self.tolerance[1]
            value = -1.0 if math.isclose(value, -1, rel_tol=self.tolerance[0]) else value
            free = 0 if how == "times" and value == -1 else 1
            if not negligible and self.same(came, [apply(t, value) for t in wanted], free):
                name = _named(value) or ("" if few else f"{value:.4g}")
                return _told(how, name) if name else None
            values = [measure(a, b) for a, b in zip(came, wanted, strict=True)]
            if (how == "times" and not all(values)) or not self.same(
                came, [apply(t, v) for t, v in zip(wanted, values, strict=True)]
            ):
                continue
            names, made = self._made_of_sizes[how]
            room = 2e-3 * torch.tensor(values).abs().clamp_min(1)
            for sign, prefix in ((1, ""), (-1, "−")):
                for k in ((sign * made - torch.tensor(values)).abs() <= room).all(1).nonzero().flatten().tolist():
                    if self.same(came, [apply(t, sign * m) for t, m in zip(wanted, made[k], strict=True)], free=1):
                        return _told(how, f"{prefix}{names[k]}")
            unnamed.append((how, values, [apply(t, v) for t, v in zip(wanted, values, strict=True)]))
        several = [k for k, t in enumerate(came) if t.numel() > 1]
        for how, values, candidate in unnamed if not few and len(several) > 1 else ():
            if self.same(came, candidate, free=len(came)):
                first, *rest = several
                other = next((k for k in rest if not math.isclose(values[k], values[first], rel_tol=1e-3)), rest[0])
                where = [f"{name} = {v[other]:g}" for name, v in self.constants.items() if v[first] != v[other]]
                words = f"{how} a number that differs from case to case: {values[first]:.4g} in one of those tried, "
                words += f"{values[other]:.4g} in another" + (f" ({', '.join(where)})" if where else "")
                return Relation(f"{how} a number of each case", f"Your numbers are the expected ones {words}.")
        return None

    @cached_property
    def _made_of_sizes(self) -> dict[str, tuple[list[str], Tensor]]:
        """Factors and offsets that differ from case to case, made of sizes and numbers: names and (names, cases)."""
        found: dict[str, dict[str, list[float]]] = {"times": {}, "plus": {}}
        for how, made in found.items():
            bases, pairs = dict(self.constants), itertools.permutations(self.constants.items(), 2)
            for ((one, a), (other, b)), (form, function) in itertools.product(pairs, _OF_TWO.items()):
                if (one < other or "·{" not in form) and (how == "plus" or "log" not in form):
                    bases[form.format(one, other)] = [_number(function, x, y) for x, y in zip(a, b, strict=True)]
            for (name, values), (form, function) in itertools.product(bases.items(), _FORMS[how].items()):
                plain = form.endswith("{}") and not form.endswith(("/{}", "√{}", "log {}"))
                bracketed = f"({name})" if ("·" in name or "/" in name) and not plain else name
                said = form.format(bracketed, bracketed).replace(f"({bracketed}", f"({name}")
                made[said] = [_number(function, value) if len(set(values)) > 1 else math.nan for value in values]
        pairs = itertools.permutations(self.constants.items(), 2)
        for ((one, a), (other, b)), (form, function) in itertools.product(pairs, _PLUS_OF_TWO.items()):
            found["plus"][form.format(one, other)] = [_number(function, x, y) for x, y in zip(a, b, strict=True)]
        return {
            how: (list(made), torch.tensor(list(made.values())).reshape(len(made), len(self.cases)))
            for how, made in found.items()
        }

    def _a_function(self, came: Values, wanted: Values) -> Relation | None:
        """A function of the expected numbers, perhaps times or plus something; or the same in another order."""
        for name, (words, function) in _FUNCTIONS.items():
            values = [function(t) for t in wanted]
            if self.same(wanted, values):
                continue
            if self.same(came, values):
                return Relation(name, f"Your numbers are {words} the expected ones.")
            if found := self.scaled(came, values, few=True):
                return Relation(f"{name}, {found.name}", f"Your numbers are {words} the expected ones, {_by(found)}.")
        if self.same([t.flatten().sort().values for t in came], [t.flatten().sort().values for t in wanted]):
            return Relation("another order", "Your numbers are the expected ones in another order.")
        return None

    def _an_axis(self, came: Values, wanted: Values) -> Relation | None:
        """One side summed, averaged or cut over an axis gives the other."""
        if _each(came, wanted, lambda a, b: a.numel() == b.numel()) and self.same(
            [a.reshape(b.shape) for a, b in zip(came, wanted, strict=True)], wanted
        ):
            return Relation("right numbers, wrong shape", "The numbers are right; only the shape is not.")
        for op, axes, reduced in _reductions(wanted):
            over = f"{op} {self._axis_names(wanted, axes)}"
            spread = [r.expand_as(a) if _fits(r, a) else r for r, a in zip(reduced, came, strict=True)]
            if {r.dim() - a.dim() for r, a in zip(reduced, came, strict=True)} == {len(axes)}:
                spread = [r.squeeze(axes) for r in reduced]
            if self.same(came, spread):
                return Relation(over, f"Your numbers are the expected ones {over}: that is one step too many.")
            if found := self.scaled(came, spread, few=True):
                words = f"Your numbers are the expected ones {over}, and then {_by(found)}."
                return Relation(f"{over}, {found.name}", words)
        two = _each(came, wanted, lambda a, b: a.dim() == 2 and b.dim() == 1)
        if two and self.same([a.diagonal() for a in came], wanted):
            words = "On the diagonal of yours stand the expected numbers: all pairs were computed."
            return Relation("all pairs", words)
        for op, axes, reduced in _reductions(came):
            over = f"{op} {self._axis_names(came, axes)}"
            spread = [r.squeeze(axes) if r.dim() != b.dim() else r for r, b in zip(reduced, wanted, strict=True)]
            words = f"{over[0].upper()}{over[1:]}, your numbers would be the expected ones"
            if self.same(spread, wanted):
                return Relation(f"not {over}", f"{words}: that step is missing.")
            if found := self.scaled(spread, wanted, few=True):
                return Relation(f"not {over}, {found.name}", f"{words} {_by(found)}.")
        totals = [t.sum() for t in came], [t.sum() for t in wanted]
        if not _each(came, wanted, lambda a, b: a.shape == b.shape) and all(t.dim() for t in (*came, *wanted)):
            if self.same(*totals):
                words = "Your numbers add up to the same total as the expected ones: the sum ran over another axis."
                return Relation("another axis", words)
            if found := self.scaled(*totals, few=True):
                words = f"Another axis is left: your numbers add up to the expected total {_by(found)}."
                return Relation(f"another axis, {found.name}", words)
        return None

    def _an_argument(self, came: Values, wanted: Values) -> Relation | None:
        """The answer is an argument, or differs from the expected numbers by a simple function of one."""
        same_shape = _each(came, wanted, lambda a, b: a.shape == b.shape)
        for i, name in enumerate(self.parameters):
            given = [case[i] if len(case) > i else None for case in self.cases]
            if not all(isinstance(t, Tensor) and t.is_floating_point() for t in given):
                continue
            for form, function in _FEATURES.items():
                feature, of = [function(t.double()) for t in given], _label(form, name)
                if self.same(came, feature):
                    return Relation(f"{of} itself", f"Your numbers are those of {of} itself.")
                for how, fitted in _reduced_to(feature, wanted) if same_shape else ():
                    of = how + of
                    if self.same(came, [f * b for f, b in zip(fitted, wanted, strict=True)]):
                        return _told("times", of)
                    if self.same(came, [b / f for f, b in zip(fitted, wanted, strict=True)]):
                        return _told("times", f"1/({of})" if " " in of or "(" in of else f"1/{of}")
                    found = self.scaled([a - b for a, b in zip(came, wanted, strict=True)], fitted, few=True)
                    if found and found.name.startswith(("sign", "times")):
                        share = {"times 1": "", "sign": "−"}.get(found.name, f"{found.name.removeprefix('times ')}·")
                        return _told("plus", share + of)
        return None

    def _axis_names(self, tensors: Values, axes: Sequence[int]) -> str:
        found = []
        for axis in axes:
            sizes = [t.shape[axis] for t in tensors]
            names = [n for n in self.sizes[0] if [s.get(n) for s in self.sizes] == sizes and len(set(sizes)) > 1]
            found.append(names[0] if len(names) == 1 else f"axis {axis}")
        return " and ".join(found)


def close(came: Tensor, expected: Tensor, tolerance: tuple[float, float]) -> bool:
    """Same shape and, within (relative, absolute), the same numbers."""
    return came.shape == expected.shape and torch.allclose(
        came, expected, rtol=tolerance[0], atol=tolerance[1], equal_nan=True
    )


def agree(a: Outcome | None, b: Outcome | None, tolerance: tuple[float, float]) -> bool:
    """The same names, shapes and numbers."""
    return (a is not None and b is not None) and a.keys() == b.keys() and all(close(a[k], b[k], tolerance) for k in b)


def find_relation(evidence: Evidence) -> Relation | None:
    """The most telling relation between what came and what was expected; None where none was found."""
    pairs = list(zip(evidence.seen, evidence.expected, strict=True))
    parts = list(evidence.expected[0])
    wrong = [p for p in parts if not all(close(a[p], b[p], evidence.tolerance) for a, b in pairs)]
    right = [p for p in parts if p not in wrong]
    for asked in [wrong, *([part] for part in wrong if len(wrong) > 1)]:
        for find in (_between_numbers, _exchanged_parts, _solution_otherwise, _one_number, _whole_numbers):
            if found := find(evidence, asked):
                others = [p for p in wrong if p not in asked]
                words = [f"{' and '.join(right)}: right."] if right else []
                words += [f"{' and '.join(asked)}: {found.words}" if right or others else found.words]
                words += [f"{' and '.join(others)}: not right either."] if others else []
                return replace(found, words=" ".join(words))
    return _behaviour(evidence) or _right_somewhere(evidence)


# Between the numbers -----------------------------------------------------------------------------------


def _between_numbers(evidence: Evidence, parts: Sequence[str]) -> Relation | None:
    """The relation that holds in every one of these parts."""
    sides = [[[o[part] for o in side] for side in (evidence.seen, evidence.expected)] for part in parts]
    found = evidence.relation(*sides[0])
    return found if all(evidence.relation(*side) == found for side in sides[1:]) else None


def _inverse(a: Tensor) -> Tensor:
    square = a.dim() > 1 and a.shape[-1] == a.shape[-2]
    return torch.linalg.inv_ex(a).inverse if square else torch.full_like(a, torch.nan)


def _transposed(a: Tensor) -> Tensor:
    return a.mT if a.dim() > 1 else a


_FUNCTIONS: dict[str, tuple[str, Callable[[Tensor], Tensor]]] = {
    "reciprocal": ("one divided by", lambda t: 1 / t), "square": ("the squares of", lambda t: t**2),
    "root": ("the square roots of", lambda t: t.sqrt()), "exp": ("exp of", lambda t: t.exp()),
    "exp of minus": ("exp of minus", lambda t: (-t).exp()), "log": ("the logarithms of", lambda t: t.log()),
    "exp of half": ("exp of half of", lambda t: (t / 2).exp()),
    "absolute value": ("the sizes, without their signs, of", lambda t: t.abs()),
    "sigmoid": ("the sigmoid of", lambda t: t.sigmoid()), "logit": ("the logits of", lambda t: t.logit()),
    "inverse": ("the inverse matrix of", _inverse), "transposed": ("the transpose of", _transposed),
    "diagonal": ("the diagonal, and zeros besides it, of", lambda t: t.diagonal().diag() if t.dim() == 2 else t),
}  # fmt: skip
_FEATURES: dict[str, Callable[[Tensor], Tensor]] = {
    "a": lambda a: a, "a²": lambda a: a**2, "exp(a)": lambda a: a.exp(), "exp(½ a)": lambda a: (0.5 * a).exp(),
    "log a": lambda a: a.log(),
}  # fmt: skip


def _each(came: Values, wanted: Values, holds: Callable[[Tensor, Tensor], bool]) -> bool:
    return all(holds(a, b) for a, b in zip(came, wanted, strict=True))


def _number(function: Callable[..., float], *values: float) -> float:
    try:
        return function(*values)
    except (ValueError, ZeroDivisionError):
        return math.nan


def _reduced_to(feature: Values, wanted: Values) -> Iterator[tuple[str, Values]]:
    """The feature in the shape of the expected numbers: as it is, or summed over its last axes."""
    if _each(feature, wanted, lambda f, b: f.dim() > b.dim()):
        summed = [f.sum(tuple(range(b.dim(), f.dim()))) for f, b in zip(feature, wanted, strict=True)]
        if _each(summed, wanted, lambda f, b: f.shape == b.shape):
            yield "the sum of ", summed
    elif _each(feature, wanted, lambda f, b: f.shape == b.shape or _fits(f, b)):
        yield "", [f.expand_as(b) for f, b in zip(feature, wanted, strict=True)]


def _reductions(tensors: Values) -> Iterator[tuple[str, tuple[int, ...], Values]]:
    """Every sum, mean and largest over one or several axes, and each end of one, kept with length 1."""
    dims = {t.dim() for t in tensors}
    if len(dims) != 1 or dims == {0} or max(dims) > 4 or any(t.numel() == 0 for t in tensors):
        return
    for count in range(1, max(dims) + 1):
        for axes in itertools.combinations(range(max(dims)), count):
            yield "summed over", axes, [t.sum(axes, keepdim=True) for t in tensors]
            yield "averaged over", axes, [t.mean(axes, keepdim=True) for t in tensors]
            yield "reduced to the largest over", axes, [t.amax(axes, keepdim=True) for t in tensors]
            if count == 1:
                yield "cut to the first of", axes, [t.narrow(axes[0], 0, 1) for t in tensors]
                yield "cut to the last of", axes, [t.narrow(axes[0], -1, 1) for t in tensors]


def _fits(small: Tensor, large: Tensor) -> bool:
    try:
        return torch.broadcast_shapes(small.shape, large.shape) == large.shape and small.shape != large.shape
    except RuntimeError:
        return False


def _named(value: float) -> str:
    """The name of a number, or ""."""
    for name, number in _NUMBERS.items():
        for said, other in ((name, number), (f"1/({name})" if " " in name else f"1/{name}", 1 / number)):
            if math.isclose(abs(value), other, rel_tol=1e-4):
                said = _FRACTIONS.get(said, said).replace("1/(log 2)", "1/log 2").replace("1/(log 10)", "1/log 10")
                return said if value > 0 else f"−{said}"
    return ""


def _told(how: str, name: str) -> Relation:
    if how == "times" and name == "−1":
        return Relation("sign", "Your numbers are the expected ones with the other sign.")
    if how == "plus" and name[0] in "-−":
        how, name = "minus", name[1:]
    why = ", as if averaged over the 784 pixels" if name == "1/784" else ""
    return Relation(f"{how} {name}", f"Your numbers are the expected ones {how} {name}{why}.")


def _by(scaled: Relation) -> str:
    return "with the other sign" if scaled.name == "sign" else scaled.name


def _one_number(evidence: Evidence, parts: Sequence[str]) -> Relation | None:
    """All that came is one number."""
    first, *others = torch.cat([outcome[part].flatten() for outcome in evidence.seen for part in parts]).tolist()
    if len(others) > 1 and all(number == first for number in others):
        return Relation(f"always {first:.4g}", f"All your numbers are {first:.4g}, whatever the input.")
    return None


def _whole_numbers(evidence: Evidence, parts: Sequence[str]) -> Relation | None:
    """What came can be places along an axis, 0, 1, 2, …, where other numbers were expected."""
    came, wanted = (
        torch.cat([o[p].flatten() for o in side for p in parts]) for side in (evidence.seen, evidence.expected)
    )
    whole = [t.isfinite().all() and torch.equal(t, t.round()) for t in (came, wanted)]
    if not whole[0] or whole[1] or came.min() != 0 or came.max() >= max(v for s in evidence.sizes for v in s.values()):
        return None
    words = "Your numbers are whole: places in a row, as argmin or argmax give them. The values there are asked for."
    return Relation("places, not values", words)


# The solution, asked otherwise -------------------------------------------------------------------------


def _exchanged_parts(evidence: Evidence, wrong: Sequence[str]) -> Relation | None:
    for order in itertools.permutations(wrong):
        if order != tuple(wrong) and all(
            evidence.same([o[here] for o in evidence.seen], [o[there] for o in evidence.expected])
            for here, there in zip(wrong, order, strict=True)
        ):
            words = f"The numbers are right, but {' and '.join(wrong)} stand in each other's place."
            return Relation("parts exchanged", words)
    return None


def _solution_otherwise(evidence: Evidence, wrong: Sequence[str]) -> Relation | None:
    """What the solution gives for other arguments, or with one slip in it: exactly, or up to a factor or offset."""
    gives, nearly = evidence.trial(evidence.solution), None
    changed = ((words, f"with {words}", gives, change) for words, change in _changes(evidence))
    slipped = ((name, f"when {words}", evidence.trial(slip), None) for name, words, slip in slips(evidence.solution))
    for name, words, outcome, change in itertools.chain(changed, slipped):
        extra = _explains(evidence, outcome, [change(c) if change else c for c in evidence.cases], wrong)
        if extra and (not extra.name or (nearly is None and " and " not in name)):
            short = name.split(" in place of ")[0]
            meaning = f" That is the result for a log_var read as {_READ_AS[short]}." if short in _READ_AS else ""
            found = Relation(f"{name}{extra.name}", f"These are the numbers one gets {words}{extra.words}.{meaning}")
            if not extra.name:
                return found
            nearly = found
    return nearly


def _explains(
    evidence: Evidence, gives: Callable[[tuple], Outcome | None], cases: Sequence[tuple | None], parts: Sequence[str]
) -> Relation | None:
    """Whether these parts came out as here, exactly (a relation without a name) or up to a sign, factor or offset."""
    outcomes: list[Outcome] = []
    for case, came in zip(cases, evidence.seen, strict=True):
        outcome = gives(case) if case is not None else None
        if outcome is None or list(outcome) != list(came) or not all(_in_step(came[p], outcome[p]) for p in parts):
            return None
        outcomes.append(outcome)
    sides = [[[o[p] for o in side] for side in (evidence.seen, outcomes)] for p in parts]
    if all(_each(came, given, lambda a, b: close(a, b, evidence.tolerance)) for came, given in sides):
        return Relation("", "") if any(evidence.same(*side) for side in sides) else None
    if len(parts) == 1 and (scaled := evidence.scaled(*sides[0], few=True)):
        return Relation(f", {scaled.name}", f"{' and' if scaled.name == 'sign' else ', then'} {_by(scaled)}")
    return None


def _in_step(came: Tensor, other: Tensor) -> bool:
    """Cheaply: whether these could be the same numbers up to a factor or an offset."""
    if came.shape != other.shape:
        return False
    finite = came.isfinite() & other.isfinite()
    a, b = came[finite], other[finite]
    if a.numel() < 2 or float((a @ b).abs()) >= 0.99 * float(a.norm() * b.norm()):
        return True
    return float((a - b).std()) < 0.01 * float((a - b).abs().max())


_READ_AS = {"log|log_var|": "σ²", "2·log_var": "log σ", "log(log_var)": "σ²", "2·log|log_var|": "σ"}
_ROWS: dict[str, Callable[[Tensor], Tensor]] = {
    "the first row of a": lambda a: a[:1].expand_as(a),
    "the mean of a over its rows": lambda a: a.mean(0, keepdim=True).expand_as(a),
}
_TRANSFORMS: dict[str, Callable[[Tensor], Tensor]] = {
    "2·a": lambda a: 2 * a, "½·a": lambda a: a / 2, "−a": lambda a: -a, "exp(a)": lambda a: a.exp(),
    "log(a)": lambda a: a.log(), "log|a|": lambda a: a.abs().log(), "2·log|a|": lambda a: 2 * a.abs().log(),
    "a²": lambda a: a**2, "√a": lambda a: a**0.5, "1/a": lambda a: 1 / a, "|a|": lambda a: a.abs(),
    "1 − a": lambda a: 1 - a, "exp(½·a)": lambda a: (a / 2).exp(), "the transpose of a": _transposed,
    "sigmoid(a)": lambda a: a.sigmoid(), "0": torch.zeros_like, "1": torch.ones_like,
    "a softmaxed": lambda a: a.softmax(-1), "a without its row means": lambda a: a - a.mean(-1, keepdim=True),
    "a without its column means": lambda a: a - a.mean(0, keepdim=True), **_ROWS,
}  # fmt: skip
_OF_KIND: dict[type, dict[str, Callable[[Any], Any]]] = {
    Tensor: _TRANSFORMS,
    float: {form: lambda a, f=f: float(f(torch.tensor(a, dtype=torch.float64))) for form, f in _TRANSFORMS.items()},
    int: {"a + 1": lambda a: a + 1, "a − 1": lambda a: a - 1},
    bool: {"not a": lambda a: not a},
}
Change = Callable[[tuple], tuple | None]


def _changes(evidence: Evidence) -> Iterator[tuple[str, Change]]:
    """Other arguments, with words: "2·log_var in place of log_var"."""
    first, names = evidence.cases[0], evidence.parameters
    kinds = [
        None
        if isinstance(v, Tensor) and not v.is_floating_point()
        else next((t for t in _OF_KIND if type(v) is t), None)
        for v in first[: len(names)]
    ]
    for i, kind in enumerate(kinds):
        for form, function in _OF_KIND.get(kind, {}).items():
            yield f"{_label(form, names[i])} in place of {names[i]}", _applied({i: function})
    for form, function in _ROWS.items() if kinds.count(Tensor) > 1 else ():
        words = f"{'the first rows' if 'first' in form else 'the means over the rows'} in place of all arguments"
        yield words, _applied({i: function for i, kind in enumerate(kinds) if kind is Tensor})
    for i, j in itertools.combinations(range(len(kinds)), 2):
        if not all(_alike(case[i], case[j]) for case in evidence.cases if len(case) > j):
            continue
        for form, function in _OF_KIND.get(kinds[i], {}).items():
            both = f"{_label(form, names[i])} and {_label(form, names[j])} in place of {names[i]} and {names[j]}"
            yield both, _applied({i: function, j: function})
        yield f"{names[i]} and {names[j]} exchanged", _picked({i: j, j: i})
        yield f"{names[i]} in place of {names[j]}", _picked({j: i})
        yield f"{names[j]} in place of {names[i]}", _picked({i: j})


def _label(form: str, name: str) -> str:
    """The form with the argument's name where its `a` stands alone."""
    return "".join(
        name if c == "a" and not (form[k - 1 : k].isalpha() or form[k + 1 : k + 2].isalpha()) else c
        for k, c in enumerate(form)
    )


def _applied(functions: dict[int, Callable[[Any], Any]]) -> Change:
    def change(case: tuple) -> tuple | None:
        try:
            return tuple(functions[i](v) if i in functions else v for i, v in enumerate(case))
        except (RuntimeError, ValueError, TypeError, IndexError, OverflowError, ZeroDivisionError):
            return None

    return change


def _picked(order: dict[int, int]) -> Change:
    return lambda case: tuple(case[order.get(i, i)] for i in range(len(case))) if max(order) < len(case) else None


def _alike(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.shape == b.shape and a.dtype == b.dtype
    return type(a) is type(b) and isinstance(a, int | float)


# The learner's function, asked otherwise ---------------------------------------------------------------


def _behaviour(evidence: Evidence) -> Relation | None:
    """Two calls that differ, an argument that plays no part, examples that touch each other."""
    cases, asked, solved = evidence.cases, evidence.answer, evidence.trial(evidence.solution)
    seen = [asked(case) for case in cases]
    if any(came is None or not all(t.isfinite().all() for t in came.values()) for came in seen):
        return None
    if not all(agree(came, asked(case), evidence.tolerance) for came, case in zip(seen, cases, strict=True)):
        return Relation("differs from call to call", "Two calls with the same arguments gave different numbers.")
    for i, name in enumerate(evidence.parameters[: len(cases[0])]):
        if not (
            isinstance(cases[0][i], float) or (isinstance(cases[0][i], Tensor) and cases[0][i].is_floating_point())
        ):
            continue
        others, uneven = ([(*c[:i], change(c[i]), *c[i + 1 :]) for c in cases] for change in (_moved, _unevenly))
        unmoved = all(
            agree(came, asked(other), (1e-9, 1e-9))
            for changed in (others, uneven)
            for came, other in zip(seen, changed, strict=True)
        )
        if unmoved and not all(
            agree(right, solved(other), evidence.tolerance)
            for right, other in zip(evidence.expected, others, strict=True)
        ):
            words = f"Your result does not depend on {name}: with other numbers there it stays the same."
            return Relation(f"{name} plays no part", words)
    return _touching(evidence, max(cases, key=lambda c: sum(v.numel() for v in c if isinstance(v, Tensor))))


def _moved(value: Any) -> Any:
    return value * 0.9 + 0.05


def _unevenly(value: Any) -> Any:
    """Each number times another share of 1, so that their order changes too."""
    if not isinstance(value, Tensor):
        return value * 0.7
    return value * torch.linspace(0.1, 1, value.numel(), dtype=value.dtype).reshape(value.shape)


def _touching(evidence: Evidence, case: tuple) -> Relation | None:
    """Whether the numbers of some examples change when others are taken away, where the right ones do not."""
    axes = [
        evidence.axes.get(n, ()) if isinstance(v, Tensor) else ()
        for n, v in zip(evidence.parameters, case, strict=False)
    ]
    letter = next((a[0] for a in axes if a), None)
    first = next((v for v, a in zip(case, axes, strict=False) if a and v.dim()), None)
    if first is None or len(first) < 2 or len(axes) < len(case):
        return None
    if any(t.dim() == 0 for o in evidence.expected for t in o.values()):  # a number of all examples together
        return None
    asked, solved = evidence.answer, evidence.trial(evidence.solution)
    for some in (slice(0, 1), slice(1, None)):
        fewer = tuple(v[some] if a and a[0] == letter else v for v, a in zip(case, axes, strict=True))
        came, truth, *less = (f(c) for c in (case, fewer) for f in (asked, solved))
        if any(o is None or any(t.dim() == 0 for t in o.values()) for o in (came, truth, *less)):
            return None
        came, truth = ({k: t[some] for k, t in o.items()} for o in (came, truth))
        alike = all(came[k].shape == less[0][k].shape == truth[k].shape for k in truth)
        if not alike or not agree(truth, less[1], evidence.tolerance):
            return None
        if not agree(came, less[0], (1e-3, 1e-4)):
            words = "Your result for some examples changes when the others are taken away: the examples touch."
            return Relation("depends on the rest of the batch", words)
    return None


def _right_somewhere(evidence: Evidence) -> Relation | None:
    """Where the numbers are right, if they are so in some cases."""
    right = [agree(a, b, evidence.tolerance) for a, b in zip(evidence.seen, evidence.expected, strict=True)]
    if all(right) or not any(right):
        return None
    for name in evidence.sizes[0]:
        if [sizes.get(name) == 1 for sizes in evidence.sizes] == right:
            return Relation(f"right where {name} = 1", f"Your numbers are right where {name} is 1, and only there.")
    given = inputs_text(evidence.parameters, evidence.cases[right.index(True)])
    words = f"Right in {sum(right)} of the {len(right)} inputs that were tried, such as {given}; wrong in the others. "
    words += "In what do they differ?"
    return Relation("right on another case", words)
