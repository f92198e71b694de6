"""The relation finder: in what simple way wrong numbers belong to the right ones, checked on every case.

Nothing here knows an exercise. A relation is claimed only where it holds within the exercise's tolerance on all cases,
on more numbers than could agree by accident.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor

from ._mutants import slips
from ._text import inputs_text

RTOL, ATOL = 1e-4, 1e-5  # |came - expected| <= ATOL + RTOL * |expected|: float32, and another order of sums

Outcome = dict[str, Tensor]  # what was seen on one case: named tensors, float64 on the CPU
Values = Sequence[Tensor]  # one tensor for each case

_LOG2PI = math.log(2 * math.pi)
_NUMBERS = {
    "½": 0.5, "2": 2.0, "¼": 0.25, "4": 4.0, "⅓": 1 / 3, "3": 3.0, "π": math.pi, "2π": 2 * math.pi,
    "1/(2π)": 0.5 / math.pi,
    "log 2": math.log(2), "1/log 2": 1 / math.log(2), "log 10": math.log(10), "1/log 10": 1 / math.log(10),
    "log 2/log 10": math.log10(2), "√2": 2**0.5, "1/√2": 0.5**0.5, "10": 10.0, "1/10": 0.1, "100": 100.0, "1/100": 0.01,
    "255": 255.0, "1/255": 1 / 255, "1": 1.0, "log 2π": _LOG2PI, "½ log 2π": 0.5 * _LOG2PI,
}  # fmt: skip
_MULTIPLES = {
    "": 1.0, "½·": 0.5, "2·": 2.0, "log 2π · ": _LOG2PI, "½ log 2π · ": 0.5 * _LOG2PI, "log 2 · ": math.log(2),
    "½ log 2 · ": 0.5 * math.log(2), "log π · ": math.log(math.pi), "½ log π · ": 0.5 * math.log(math.pi),
}  # fmt: skip
_READ_AS = {"log|log_var|": "σ²", "2·log_var": "log σ", "log(log_var)": "σ²", "2·log|log_var|": "σ"}


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
    def numbers(self) -> "_Numbers":
        """What compares lists of tensors on these cases."""
        return _Numbers(self)


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
    parts = list(evidence.expected[0])
    wrong = [p for p in parts if not all(close(a[p], b[p], evidence.tolerance) for a, b in _pairs(evidence))]
    right = [p for p in parts if p not in wrong]
    for asked in [wrong, *([part] for part in wrong if len(wrong) > 1)]:
        for find in (_between_numbers, _exchanged_parts, _other_arguments, _one_slip, _slip_and_exchange):
            if found := find(evidence, asked):
                others = [p for p in wrong if p not in asked]
                words = [f"{' and '.join(right)}: right."] if right else []
                words += [f"{' and '.join(asked)}: {found.words}" if right or others else found.words]
                words += [f"{' and '.join(others)}: not right either."] if others else []
                return replace(found, words=" ".join(words))
    return _behaviour(evidence) or _partly_right(evidence, wrong) or _in_order(evidence, wrong)


def _pairs(evidence: Evidence) -> Iterator[tuple[Outcome, Outcome]]:
    return zip(evidence.seen, evidence.expected, strict=True)


# Between the numbers -----------------------------------------------------------------------------------


def _between_numbers(evidence: Evidence, parts: Sequence[str]) -> Relation | None:
    """The relation that holds in every one of these parts."""
    compare, found = evidence.numbers, None
    for part in parts:
        relation = compare.relation([o[part] for o in evidence.seen], [o[part] for o in evidence.expected])
        if relation is None or (found and relation != found):
            return None
        found = relation
    return found


class _Numbers:
    """Relations between two lists of tensors, one for each case."""

    def __init__(self, evidence: Evidence) -> None:
        self.tolerance = evidence.tolerance
        self.cases, self.parameters = evidence.cases, evidence.parameters
        self.sizes = [_sizes(case, evidence) for case in evidence.cases]
        scalars = [_scalars(case, evidence.parameters) for case in evidence.cases]
        together: dict[tuple[float, ...], list[str]] = {}
        for name in self.sizes[0] | scalars[0]:
            values = [(sizes | numbers).get(name) for sizes, numbers in zip(self.sizes, scalars, strict=True)]
            if None not in values:
                together.setdefault(tuple(values), []).append(name)
        self.constants = {" or ".join(names[:2]): list(values) for values, names in together.items()}

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
        if all(a.shape == b.shape for a, b in zip(came, wanted, strict=True)):
            found = self.scaled(came, wanted) or self._same_shape(came, wanted)
            if found:
                return found
        return self._shapes(came, wanted) or self._an_argument(came, wanted)

    def scaled(self, came: Values, wanted: Values, *, few: bool = False) -> Relation | None:
        """A sign, a factor or an offset; `few`: only those that need no explaining beside another relation."""
        if any(a.shape != b.shape or not a.is_floating_point() for a, b in zip(came, wanted, strict=True)):
            return None
        if self.same(came, [-b for b in wanted]):
            return Relation("sign", "Your numbers are the expected ones with the other sign.")
        a, b = (torch.cat([t.flatten() for t in side]) for side in (came, wanted))
        if not (a.isfinite().all() and b.isfinite().all() and b.abs().max() > 0):
            return None
        factor = float(a @ b / (b @ b))
        if factor and self.same(came, [factor * t for t in wanted], free=1):
            return _times(_named(factor) or (f"{factor:.4g}" if not few else ""))
        pairs = list(zip(came, wanted, strict=True))
        factors = [float((a * b).sum() / (b * b).sum().clamp_min(1e-300)) for a, b in pairs]
        if all(factors) and self.same(came, [f * b for f, b in zip(factors, wanted, strict=True)]):
            for name, values in self._factors():
                for sign, prefix in ((1, ""), (-1, "−")):
                    if _alike_numbers(factors, values, sign) and self.same(
                        came, [sign * v * b for v, b in zip(values, wanted, strict=True)]
                    ):
                        return _times(f"{prefix}{name}")
        if few:
            return None
        offset = float((a - b).mean())
        if self.same(came, [t + offset for t in wanted], free=1) and abs(offset) > 100 * self.tolerance[1]:
            return _plus(_named(offset) or f"{offset:.4g}")
        offsets = [float((a - b).mean()) for a, b in pairs]
        if self.same(came, [b + o for b, o in zip(wanted, offsets, strict=True)]):
            for name, values in self._offsets():
                for sign, prefix in ((1, ""), (-1, "−")):
                    if _alike_numbers(offsets, values, sign, loose=5 * self.tolerance[0]) and self.same(
                        came, [b + sign * v for v, b in zip(values, wanted, strict=True)]
                    ):
                        return _plus(f"{prefix}{name}")
        return self._within(came, wanted, factors, offsets)

    def _within(
        self, came: Values, wanted: Values, factors: Sequence[float], offsets: Sequence[float]
    ) -> Relation | None:
        """A factor or an offset that is the same for all numbers of a case, and of which no name is known."""
        several = [k for k, t in enumerate(came) if t.numel() > 1]
        if len(several) < 2:
            return None
        for name, how, found, candidate in (
            ("times a number", "times", factors, [f * t for f, t in zip(factors, wanted, strict=True)]),
            ("plus a number", "plus", offsets, [t + o for o, t in zip(offsets, wanted, strict=True)]),
        ):
            if self.same(came, candidate, free=len(came)):
                first, other = found[several[0]], found[several[1]]
                words = f"{how} {first:.4g} for this case; {how} {other:.4g} for another"
                sizes = {name: v for name, v in self.constants.items() if v[several[0]] != v[several[1]]}
                where = ", ".join(f"{name} = {v[several[1]]:g}" for name, v in sizes.items())
                return Relation(
                    f"{name} of each case",
                    f"Your numbers are the expected ones {words}{f' ({where})' if where else ''}.",
                )
        return None

    def _factors(self) -> Iterator[tuple[str, list[float]]]:
        """Factors that differ from case to case, made of its sizes and numbers."""
        for name, values in self.constants.items():
            if len(set(values)) < 2 or min(values) <= 0:
                continue
            forms: dict[str, Callable[[float], float]] = {
                name: lambda v: v, f"1/{name}": lambda v: 1 / v, f"{name}²": lambda v: v**2,
                f"1/{name}²": lambda v: v**-2,
                f"√{name}": lambda v: v**0.5, f"1/√{name}": lambda v: v**-0.5, f"½·{name}": lambda v: v / 2,
                f"2/{name}": lambda v: 2 / v, f"2·{name}": lambda v: 2 * v, f"1/(2·{name})": lambda v: 0.5 / v,
                f"log {name}": math.log, f"({name} − 1)": lambda v: v - 1,
                f"({name} − 1)/{name}": lambda v: (v - 1) / v,
                f"({name} + 1)/{name}": lambda v: (v + 1) / v, f"{name}/({name} + 1)": lambda v: v / (v + 1),
                f"{name}/({name} − 1)": lambda v: v / (v - 1) if v != 1 else math.nan,
                f"1/({name} − 1)": lambda v: 1 / (v - 1) if v != 1 else math.nan,
                f"√(({name} − 1)/{name})": lambda v: ((v - 1) / v) ** 0.5 if v > 1 else math.nan,
                f"√({name}/({name} − 1))": lambda v: (v / (v - 1)) ** 0.5 if v > 1 else math.nan,
            }  # fmt: skip
            yield from ((form, [f(v) for v in values]) for form, f in forms.items())
            yield from ((f"{number}/{name}", [number / v for v in values]) for number in (784, 28))
        for (one, a), (other, b) in itertools.permutations(self.constants.items(), 2):
            if one < other:
                yield f"{one}·{other}", [x * y for x, y in zip(a, b, strict=True)]
                if all(x and y for x, y in zip(a, b, strict=True)):
                    yield f"1/({one}·{other})", [1 / (x * y) for x, y in zip(a, b, strict=True)]
            if all(b):
                yield f"{one}/{other}", [x / y for x, y in zip(a, b, strict=True)]

    def _offsets(self) -> Iterator[tuple[str, list[float]]]:
        for name, values in self.constants.items():
            if len(set(values)) > 1:
                for prefix, multiple in _MULTIPLES.items():
                    yield f"{prefix}{name}", [multiple * v for v in values]
                    yield f"{prefix}({name} − 1)", [multiple * (v - 1) for v in values]
                if min(values) > 0:
                    for prefix, multiple in {"log ": 1.0, "½ log ": 0.5, "2 log ": 2.0}.items():
                        yield f"{prefix}{name}", [multiple * math.log(v) for v in values]
        for (one, a), (other, b) in itertools.combinations(self.constants.items(), 2):
            if min(b) > 0:
                yield f"{one}·log {other}", [x * math.log(y) for x, y in zip(a, b, strict=True)]
            if min(a) > 0:
                yield f"{other}·log {one}", [y * math.log(x) for x, y in zip(a, b, strict=True)]
            for prefix, multiple in _MULTIPLES.items():
                yield f"{prefix}{one}·{other}", [multiple * x * y for x, y in zip(a, b, strict=True)]

    def _same_shape(self, came: Values, wanted: Values) -> Relation | None:
        whole = (
            ("reciprocal", "one divided by the expected ones", lambda t: 1 / t),
            ("square", "the squares of the expected ones", lambda t: t**2),
            ("root", "the square roots of the expected ones", lambda t: t.sqrt()),
            ("exp", "exp of the expected ones", lambda t: t.exp()),
            ("exp of minus", "exp of minus the expected ones", lambda t: (-t).exp()),
            ("log", "the logarithms of the expected ones", lambda t: t.log()),
            ("minus log", "minus the logarithms of the expected ones", lambda t: -t.log()),
            ("absolute value", "the expected ones without their signs", lambda t: t.abs()),
            ("one minus", "one minus the expected ones", lambda t: 1 - t),
            ("sigmoid", "the sigmoid of the expected ones", lambda t: t.sigmoid()),
            ("logit", "the logits of the expected ones", lambda t: t.logit()),
            ("negative ones are 0", "the expected ones with 0 in place of the negative", lambda t: t.clamp_min(0)),
            ("inverse", "the inverse matrix of the expected one", _inverse),
            ("rounded", "the expected ones rounded to whole numbers", lambda t: t.round()),
        )
        for name, words, function in whole:
            if self.same(came, [function(t) for t in wanted]) and not self.same(wanted, [function(t) for t in wanted]):
                return Relation(name, f"Your numbers are {words}.")
        for name, words, function in (("", "the expected ones", lambda t: t), *whole):
            if found := self._affine(came, [function(t) for t in wanted], name, words):
                return found
        if any(t.dim() == 0 for t in wanted):
            return None
        if all(len(t) > 1 for t in wanted):
            for first, second, word in ((came, wanted, "previous"), (wanted, came, "next")):
                if self.same([t[1:] for t in first], [t[:-1] for t in second]):
                    return Relation(
                        f"the {word} number", f"Each of your numbers is the one expected in the {word} place."
                    )
        moved = [
            ("transposed", "the expected ones transposed", lambda t: t.mT if t.dim() > 1 else t),
            ("cumulative", "the running sums of the expected ones", lambda t: t.cumsum(0)),
        ]
        for axis, of in ((0, "rows"), (1, "columns")):
            if all(t.dim() > axis for t in wanted) and not all(t.dim() == 1 and axis for t in wanted):
                of = "numbers" if all(t.dim() == 1 for t in wanted) else of
                moved += [
                    (f"{of} reversed", f"the expected {of} in reverse order", lambda t, d=axis: t.flip(d)),
                    (f"{of} shifted", f"the expected {of} shifted by one", lambda t, d=axis: t.roll(1, d)),
                    (f"{of} shifted", f"the expected {of} shifted by one", lambda t, d=axis: t.roll(-1, d)),
                    (f"first of the {of}", f"the first of the expected {of}, each time", partial(_spread, d=axis, i=0)),
                    (f"last of the {of}", f"the last of the expected {of}, each time", partial(_spread, d=axis, i=-1)),
                ]  # fmt: skip
        moved.append(("sorted", "the expected ones in rising order", lambda t: t.sort(0).values))
        for name, words, function in moved:
            candidate = [function(t) for t in wanted]
            if self.same(came, candidate) and not self.same(wanted, candidate):
                return Relation(name, f"Your numbers are {words}.")
        if self.same([t.flatten().sort().values for t in came], [t.flatten().sort().values for t in wanted]):
            return Relation("another order", "Your numbers are the expected ones in another order.")
        return None

    def _affine(self, came: Values, given: Values, name: str, words: str) -> Relation | None:
        """One factor and one offset for all cases."""
        a, b = (torch.cat([t.flatten() for t in side]) for side in (came, given))
        if not (a.isfinite().all() and b.isfinite().all()) or float(b.std(correction=0)) < 1e-6:
            return None
        factor = float(((a - a.mean()) * (b - b.mean())).sum() / ((b - b.mean()) ** 2).sum())
        offset = float((a - factor * b).mean())
        if abs(factor) < 1e-3 or not self.same(came, [factor * t + offset for t in given], free=2):
            return None
        times = f" times {_named(factor) or f'{factor:.4g}'}" if abs(factor - 1) > 1e-4 else ""
        sign, size = ("plus", offset) if offset > 0 else ("minus", -offset)
        plus = f"{',' if times else ''} {sign} {_named(size) or f'{size:.4g}'}" if size > 1e-3 else ""
        return Relation(f"{name}{times}{plus}".strip(), f"Your numbers are {words}{times}{plus}.")

    def _shapes(self, came: Values, wanted: Values) -> Relation | None:
        """One side summed or averaged over an axis gives the other."""
        if all(a.numel() == b.numel() for a, b in zip(came, wanted, strict=True)) and self.same(
            [a.reshape(b.shape) for a, b in zip(came, wanted, strict=True)], wanted
        ):
            return Relation("right numbers, wrong shape", "The numbers are right; only the shape is not.")
        for op, axes, reduced in _reductions(wanted):
            over = self._axis_names(wanted, axes)
            spread = [r.expand_as(a) if _fits(r, a) else r for r, a in zip(reduced, came, strict=True)]
            if all(a.dim() == r.dim() - len(axes) for a, r in zip(came, reduced, strict=True)):
                spread = [r.squeeze(axes) for r in reduced]
            words = f"Your numbers are the expected ones {op} over {over}: that is one step too many."
            if self.same(came, spread):
                return Relation(f"{op} over {over}", words)
            if factor := self.scaled(came, spread, few=True):
                return Relation(f"{op} over {over}, {factor.name}", f"{_summary(op, over)} {_then(factor)}")
        for op, axes, reduced in _reductions(came):
            over = self._axis_names(came, axes)
            spread = [r.squeeze(axes) if r.dim() != b.dim() else r for r, b in zip(reduced, wanted, strict=True)]
            if self.same(spread, wanted):
                words = f"{op.capitalize()} over {over}, your numbers would be the expected ones: that step is missing."
                return Relation(f"not {op} over {over}", words)
            if factor := self.scaled(spread, wanted, few=True):
                words = f"{op.capitalize()} over {over}, your numbers would be the expected ones {_by(factor)}."
                return Relation(f"not {op} over {over}, {factor.name}", words)
        for axis, end in itertools.product(range(max((t.dim() for t in wanted), default=0)), (0, -1)):
            if all(t.dim() > axis for t in wanted) and self.same(came, [t.select(axis, end) for t in wanted]):
                which = "first" if end == 0 else "last"
                over = self._axis_names(wanted, (axis,))
                return Relation(
                    f"{which} along {over}", f"These are the expected numbers of the {which} along {over} only."
                )
        if all(a.dim() == b.dim() + 1 for a, b in zip(came, wanted, strict=True)):
            if all(a.dim() == 2 for a in came) and self.same([a.diagonal() for a in came], wanted):
                return Relation(
                    "all pairs", "On the diagonal of yours stand the expected numbers: all pairs were computed."
                )
            for axis, of in enumerate(("row", "column")[: came[0].dim()]):
                if self.same([a.select(axis, 0) for a in came], wanted):
                    return Relation(
                        f"first {of}", f"The first {of} of yours is what is expected: there is an axis too many."
                    )
        if all(_fits(b, a) for a, b in zip(came, wanted, strict=True)) and self.same(
            came, [b.expand_as(a) for a, b in zip(came, wanted, strict=True)]
        ):
            return Relation("repeated", "These are the expected numbers, repeated along an axis too many.")
        totals = [t.sum() for t in came], [t.sum() for t in wanted]
        if any(a.shape != b.shape for a, b in zip(came, wanted, strict=True)) and all(t.dim() for t in came):
            if self.same(*totals) and any(t.dim() for t in wanted):
                words = "Your numbers add up to the same total as the expected ones: the sum ran over another axis."
                return Relation("another axis", words)
            if any(t.dim() for t in wanted) and (factor := self.scaled(*totals, few=True)):
                words = f"Another axis is left: your numbers add up to the expected total {_by(factor)}."
                return Relation(f"another axis, {factor.name}", words)
        return None

    def _an_argument(self, came: Values, wanted: Values) -> Relation | None:
        """The answer is an argument, or differs from the expected numbers by a simple function of one."""
        for i, name in enumerate(self.parameters):
            given = [case[i] if len(case) > i else None for case in self.cases]
            if not all(isinstance(t, Tensor) and t.is_floating_point() for t in given):
                continue
            for form, function in _FEATURES.items():
                feature = [function(t.double()) for t in given]
                of = _label(form, name)
                if self.same(came, feature):
                    return Relation(f"{of} itself", f"Your numbers are those of {of} itself.")
                if any(a.shape != b.shape for a, b in zip(came, wanted, strict=True)):
                    continue
                for how, fitted in _reduced_to(feature, wanted):
                    if self.same(came, [f * b for f, b in zip(fitted, wanted, strict=True)]):
                        return _times(f"{how}{of}")
                    if self.same(came, [b / f for f, b in zip(fitted, wanted, strict=True)]):
                        return _times(f"1/({how}{of})" if " " in how + of or "(" in of else f"1/{of}")
                    difference = torch.cat([(a - b).flatten() for a, b in zip(came, wanted, strict=True)])
                    flat = torch.cat([f.flatten() for f in fitted])
                    if not (difference.isfinite().all() and flat.isfinite().all() and flat.abs().max() > 0):
                        continue
                    share = float(difference @ flat / (flat @ flat))
                    label = _named(share)
                    if label and self.same(came, [b + share * f for b, f in zip(wanted, fitted, strict=True)], free=1):
                        return _plus(f"{'' if label == '1' else '−' if label == '−1' else f'{label}·'}{how}{of}")
        return None

    def _axis_names(self, tensors: Values, axes: Sequence[int]) -> str:
        return " and ".join(self._axis_name(tensors, axis) for axis in axes)

    def _axis_name(self, tensors: Values, axis: int) -> str:
        sizes = [t.shape[axis] for t in tensors]
        names = [name for name in self.sizes[0] if [s.get(name) for s in self.sizes] == sizes and len(set(sizes)) > 1]
        return names[0] if len(names) == 1 else f"axis {axis}"


_FEATURES: dict[str, Callable[[Tensor], Tensor]] = {
    "a": lambda a: a, "a²": lambda a: a**2, "exp(a)": lambda a: a.exp(), "exp(½ a)": lambda a: (0.5 * a).exp(),
    "log a": lambda a: a.log(), "√a": lambda a: a.sqrt(), "exp(−a)": lambda a: (-a).exp(),
}  # fmt: skip


def _reduced_to(feature: Values, wanted: Values) -> Iterator[tuple[str, Values]]:
    """The feature in the shape of the expected numbers: as it is, or summed over its last axes or its first."""
    if all(f.shape == b.shape for f, b in zip(feature, wanted, strict=True)):
        yield "", feature
    elif all(f.dim() > b.dim() for f, b in zip(feature, wanted, strict=True)):
        axes = tuple(range(wanted[0].dim(), feature[0].dim()))
        summed = [f.sum(axes) for f in feature]
        if all(f.shape == b.shape for f, b in zip(summed, wanted, strict=True)):
            yield "the sum of ", summed
    if all(_fits(f, b) and f.shape != b.shape for f, b in zip(feature, wanted, strict=True)):
        yield "", [f.expand_as(b) for f, b in zip(feature, wanted, strict=True)]


def _reductions(tensors: Values) -> Iterator[tuple[str, tuple[int, ...], Values]]:
    """Every sum, mean, largest and smallest over one or several axes, kept with length 1."""
    dims = {t.dim() for t in tensors}
    if len(dims) != 1 or dims == {0} or max(dims) > 4 or any(t.numel() == 0 for t in tensors):
        return
    (dim,) = dims
    for count in range(1, dim + 1):
        for axes in itertools.combinations(range(dim), count):
            yield "summed", axes, [t.sum(axes, keepdim=True) for t in tensors]
            yield "averaged", axes, [t.mean(axes, keepdim=True) for t in tensors]
            yield "reduced to the largest", axes, [t.amax(axes, keepdim=True) for t in tensors]


def _spread(tensor: Tensor, d: int, i: int) -> Tensor:
    return tensor.narrow(d, i, 1).expand_as(tensor)


def _fits(small: Tensor, large: Tensor) -> bool:
    try:
        return torch.broadcast_shapes(small.shape, large.shape) == large.shape and small.shape != large.shape
    except RuntimeError:
        return False


def _alike_numbers(found: Sequence[float], values: Sequence[float], sign: int, loose: float = 1e-3) -> bool:
    """Cheaply: whether a formula could give what was found in each case."""
    return all(abs(f - sign * v) <= loose * max(1.0, abs(f)) for f, v in zip(found, values, strict=True))


def _named(value: float) -> str:
    """The name of a number, or ""."""
    for name, number in _NUMBERS.items():
        if math.isclose(abs(value), number, rel_tol=1e-4):
            return name if value > 0 else f"−{name}"
    return ""


def _times(name: str) -> Relation | None:
    return Relation(f"times {name}", f"Your numbers are the expected ones times {name}.") if name else None


def _plus(name: str) -> Relation:
    sign, rest = ("minus", name[1:]) if name[0] in "-−" else ("plus", name)
    return Relation(f"{sign} {rest}", f"Your numbers are the expected ones {sign} {rest}.")


def _by(scaled: Relation) -> str:
    return "with the other sign" if scaled.name == "sign" else scaled.name


def _summary(op: str, over: str) -> str:
    return f"Your numbers are the expected ones {op} over {over},"


def _then(scaled: Relation) -> str:
    return f"and then {_by(scaled)}."


def _sizes(case: tuple, evidence: Evidence) -> dict[str, float]:
    """B, L, …: the sizes that the docstring names, and the others by argument and axis."""
    found: dict[str, float] = {}
    for name, value in zip(evidence.parameters, case, strict=False):
        if isinstance(value, Tensor):
            letters = evidence.axes.get(name, ())
            for i, size in enumerate(value.shape):
                named = len(letters) == value.dim() and not letters[i].isdecimal()
                found.setdefault(letters[i] if named else f"{name}.shape[{i}]", float(size))
            if value.dim() > 1 and len(letters) != value.dim():
                found[f"the numbers in each row of {name}"] = float(value[0].numel())
                found[f"the numbers in {name}"] = float(value.numel())
    return found


def _scalars(case: tuple, parameters: tuple[str, ...]) -> dict[str, float]:
    def is_number(value: Any) -> bool:
        return (isinstance(value, int | float) and not isinstance(value, bool)) or (
            isinstance(value, Tensor) and value.dim() == 0 and not value.is_complex()
        )

    return {name: float(value) for name, value in zip(parameters, case, strict=False) if is_number(value)}


# The solution, asked otherwise -------------------------------------------------------------------------


def _exchanged_parts(evidence: Evidence, wrong: Sequence[str]) -> Relation | None:
    if len(wrong) < 2:
        return None
    numbers = evidence.numbers
    for order in itertools.permutations(wrong):
        if order != tuple(wrong) and all(
            numbers.same([o[here] for o in evidence.seen], [o[there] for o in evidence.expected])
            for here, there in zip(wrong, order, strict=True)
        ):
            return Relation(
                "parts exchanged", f"The numbers are right, but {' and '.join(wrong)} stand in each other's place."
            )
    return None


def _other_arguments(evidence: Evidence, wrong: Sequence[str]) -> Relation | None:
    """What the solution gives for other arguments."""
    gives = evidence.trial(evidence.solution)
    tried = ((words, words, gives, [change(case) for case in evidence.cases]) for words, change in _changes(evidence))
    found = _simplest(evidence, wrong, tried)
    if found is None:
        return None
    name, words, extra = found
    short = words.split(" in place of ")[0]
    meaning = f" That is the result for a log_var read as {_READ_AS[short]}." if short in _READ_AS else ""
    return Relation(f"{name}{extra.name}", f"These are the numbers one gets with {words}{extra.words}.{meaning}")


def _one_slip(evidence: Evidence, wrong: Sequence[str]) -> Relation | None:
    """What the solution gives with one slip in it."""
    tried = ((name, words, evidence.trial(slip), evidence.cases) for name, words, slip in slips(evidence.solution))
    found = _simplest(evidence, wrong, tried)
    if found is None:
        return None
    name, words, extra = found
    return Relation(f"{name}{extra.name}", f"These are the numbers one gets when {words}{extra.words}.")


def _slip_and_exchange(evidence: Evidence, wrong: Sequence[str]) -> Relation | None:
    """What the solution gives with two arguments exchanged and one slip in it."""
    exchanges = [(words, change) for words, change in _changes(evidence) if words.endswith("exchanged")]
    for words, change in exchanges:
        cases = [change(case) for case in evidence.cases]
        tried = ((name, words, evidence.trial(slip), cases) for name, words, slip in slips(evidence.solution))
        if (found := _simplest(evidence, wrong, tried)) and not found[2].name:
            told = f"These are the numbers one gets with {words}, and when {found[1]}."
            return Relation(f"{words}; {found[0]}", told)
    return None


def _simplest(
    evidence: Evidence, wrong: Sequence[str], tried: Iterator[tuple[str, str, Callable, Sequence[tuple | None]]]
) -> tuple[str, str, Relation] | None:
    """The first (name, words) whose outcomes are what came; else the one that needs only a sign or factor besides."""
    found = None
    for name, words, gives, cases in tried:
        extra = _explains(evidence, gives, cases, wrong)
        if extra and not extra.name:
            return name, words, extra
        if extra and found is None and " and " not in name:
            found = name, words, extra
    return found


def _explains(
    evidence: Evidence, gives: Callable[[tuple], Outcome | None], cases: Sequence[tuple | None], parts: Sequence[str]
) -> Relation | None:
    """Whether these parts came out as here, exactly (a relation without a name) or up to a sign or a factor."""
    outcomes: list[Outcome] = []
    for case, came in zip(cases, evidence.seen, strict=True):
        outcome = gives(case) if case is not None else None
        if outcome is None or list(outcome) != list(came) or not all(_in_step(came[p], outcome[p]) for p in parts):
            return None
        outcomes.append(outcome)
    numbers = evidence.numbers
    came, given = ([[o[p] for o in side] for p in parts] for side in (evidence.seen, outcomes))
    if all(
        close(a, b, evidence.tolerance) for x, y in zip(came, given, strict=True) for a, b in zip(x, y, strict=True)
    ):
        return Relation("", "") if any(map(numbers.same, came, given)) else None
    if len(parts) == 1 and (scaled := numbers.scaled(came[0], given[0], few=True)):
        return Relation(f", {scaled.name}", f"{' and' if scaled.name == 'sign' else ', then'} {_by(scaled)}")
    return None


def _in_step(came: Tensor, other: Tensor) -> bool:
    """Cheaply: whether these could be the same numbers up to a factor."""
    if came.shape != other.shape:
        return False
    a, b = came.flatten(), other.flatten()
    finite = a.isfinite() & b.isfinite()
    a, b = a[finite], b[finite]
    return a.numel() < 2 or float((a @ b).abs()) >= 0.99 * float(a.norm() * b.norm())


def _inverse(a: Tensor) -> Tensor:
    square = a.dim() > 1 and a.shape[-1] == a.shape[-2]
    return torch.linalg.inv_ex(a).inverse if square else torch.full_like(a, torch.nan)


def _transposed(a: Tensor) -> Tensor:
    return a.mT if a.dim() > 1 else a


_TRANSFORMS: dict[str, Callable[[Any], Any]] = {
    "2·a": lambda a: 2 * a, "½·a": lambda a: a / 2, "−a": lambda a: -a, "exp(a)": lambda a: a.exp(),
    "log(a)": lambda a: a.log(), "log|a|": lambda a: a.abs().log(),
    "2·log|a|": lambda a: 2 * a.abs().log(), "a²": lambda a: a**2,
    "√a": lambda a: a**0.5, "1/a": lambda a: 1 / a,
    "|a|": lambda a: a.abs(), "1 − a": lambda a: 1 - a, "exp(½·a)": lambda a: (a / 2).exp(), "a.mT": _transposed,
    "sigmoid(a)": lambda a: a.sigmoid(), "the diagonal of a": lambda a: a.diagonal().diag(),
    "the inverse of a": _inverse,
}  # fmt: skip
_WHOLE: dict[str, Callable[[Tensor], Tensor]] = {
    "0": torch.zeros_like, "1": torch.ones_like, "a softmaxed": lambda a: a.softmax(-1),
    "the first row of a": lambda a: a[:1].expand_as(a),
    "the mean of a over its rows": lambda a: a.mean(0, keepdim=True).expand_as(a),
    "a without its row means": lambda a: a - a.mean(-1, keepdim=True),
    "a without its column means": lambda a: a - a.mean(0, keepdim=True),
}  # fmt: skip


def _changes(evidence: Evidence) -> Iterator[tuple[str, Callable[[tuple], tuple | None]]]:
    """Other arguments, with words: "2·log_var in place of log_var"."""
    first, names = evidence.cases[0], evidence.parameters
    tensors = [i for i, v in enumerate(first) if isinstance(v, Tensor) and v.is_floating_point()]
    for i, value in enumerate(first[: len(names)]):
        if i in tensors or isinstance(value, float):
            forms = _TRANSFORMS | (_WHOLE if i in tensors else {"1": lambda a: 1.0})
            for form, function in forms.items():
                yield f"{_label(form, names[i])} in place of {names[i]}", _applied(i, function)
        elif isinstance(value, int) and not isinstance(value, bool):
            yield f"{names[i]} + 1 in place of {names[i]}", _applied(i, lambda n: n + 1)
            yield f"{names[i]} − 1 in place of {names[i]}", _applied(i, lambda n: n - 1)
    pairs = [
        (i, j)
        for i, j in itertools.combinations(range(min(len(first), len(names))), 2)
        if all(_alike(case[i], case[j]) for case in evidence.cases if len(case) > j)
    ]
    for i, j in pairs:
        for form, function in _TRANSFORMS.items() if {i, j} <= {*tensors} else ():
            one, other = _applied(i, function), _applied(j, function)
            both = f"{_label(form, names[i])} and {_label(form, names[j])} in place of {names[i]} and {names[j]}"
            yield both, lambda case, f=one, g=other: (half := f(case)) and g(half)
        yield f"{names[i]} and {names[j]} exchanged", _picked({i: j, j: i})
        yield f"{names[i]} in place of {names[j]}", _picked({j: i})
        yield f"{names[j]} in place of {names[i]}", _picked({i: j})
    for (i, j), (k, m) in itertools.combinations(pairs, 2):
        if len({i, j, k, m}) == 4:
            words = f"{names[i]} and {names[j]}, and {names[k]} and {names[m]}, exchanged"
            yield words, _picked({i: j, j: i, k: m, m: k})
    if len(tensors) > 1:
        for words, function in (
            ("the means over the rows in place of all arguments", lambda a: a.mean(0, keepdim=True).expand_as(a)),
            ("the first row in place of all rows", lambda a: a[:1].expand_as(a)),
        ):
            yield (
                words,
                lambda case, f=function: _guarded(
                    lambda: tuple(f(v) if i in tensors and v.dim() else v for i, v in enumerate(case))
                ),
            )


def _label(form: str, name: str) -> str:
    """The form with the argument's name where its `a` stands alone."""
    return "".join(
        name if c == "a" and not (form[k - 1 : k].isalpha() or form[k + 1 : k + 2].isalpha()) else c
        for k, c in enumerate(form)
    )


def _applied(i: int, function: Callable[[Any], Any]) -> Callable[[tuple], tuple | None]:
    def change(case: tuple) -> tuple | None:
        def changed() -> tuple:
            value = case[i] if isinstance(case[i], Tensor | int) else torch.tensor(case[i], dtype=torch.float64)
            new = function(value)
            return (*case[:i], new if isinstance(case[i], Tensor | int) else float(new), *case[i + 1 :])

        return _guarded(changed)

    return change


def _picked(order: dict[int, int]) -> Callable[[tuple], tuple | None]:
    return lambda case: _guarded(lambda: tuple(case[order.get(i, i)] for i in range(len(case))))


def _guarded(make: Callable[[], tuple]) -> tuple | None:
    try:
        return make()
    except (RuntimeError, ValueError, TypeError, IndexError, OverflowError, ZeroDivisionError):
        return None


def _alike(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.shape == b.shape and a.dtype == b.dtype
    return type(a) is type(b) and isinstance(a, int | float)


# The learner's function, asked otherwise ---------------------------------------------------------------


def _behaviour(evidence: Evidence) -> Relation | None:
    """Two calls that differ, an argument that plays no part, examples that touch each other."""
    case = max(evidence.cases, key=lambda c: sum(v.numel() for v in c if isinstance(v, Tensor)))
    asked, solved = evidence.answer, evidence.trial(evidence.solution)
    came = asked(case)
    if came is None:
        return None
    if not agree(came, asked(case), evidence.tolerance):
        return Relation("differs from call to call", "Two calls with the same arguments gave different numbers.")
    for i, name in enumerate(evidence.parameters[: len(case)]):
        value = case[i]
        if not (isinstance(value, float) or (isinstance(value, Tensor) and value.is_floating_point())):
            continue
        other = (*case[:i], value * 0.9 + 0.05, *case[i + 1 :])
        outcome, truth = asked(other), solved(other)
        if (
            outcome
            and truth
            and agree(came, outcome, (1e-9, 1e-9))
            and not agree(solved(case), truth, evidence.tolerance)
        ):
            return Relation(
                f"{name} plays no part", f"Your result does not depend on {name}: it is the same for another {name}."
            )
    return _touching(evidence, case, asked, solved)


def _touching(evidence: Evidence, case: tuple, asked: Callable, solved: Callable) -> Relation | None:
    """Whether the numbers of some examples change when others are taken away, where the right ones do not."""
    rows = next((v.shape[0] for v in case if isinstance(v, Tensor) and v.dim()), 0)
    axes = [evidence.axes.get(name, ()) for name in evidence.parameters[: len(case)]]
    letter = next((a[0] for a in axes if a), None)
    if rows < 2 or letter is None or len(axes) < len(case):
        return None
    for some in (slice(0, 1), slice(1, None)):
        fewer = tuple(v[some] if a and a[0] == letter else v for v, a in zip(case, axes, strict=True))
        came, came_fewer, truth, truth_fewer = (f(c) for f in (asked, solved) for c in (case, fewer))
        if any(o is None or any(t.dim() == 0 for t in o.values()) for o in (came, came_fewer, truth, truth_fewer)):
            return None
        came, truth = ({k: t[some] for k, t in o.items()} for o in (came, truth))
        shapes = [{k: t.shape for k, t in o.items()} for o in (came, came_fewer, truth, truth_fewer)]
        if any(shape != shapes[0] for shape in shapes) or not agree(truth, truth_fewer, evidence.tolerance):
            return None
        if not agree(came, came_fewer, (1e-3, 1e-4)):
            words = "Your result for some examples changes when the others are taken away: the examples touch."
            return Relation("depends on the rest of the batch", words)
    return None


def _partly_right(evidence: Evidence, wrong: Sequence[str]) -> Relation | None:
    """Where the numbers are right, if they are somewhere."""
    right = [agree(a, b, evidence.tolerance) for a, b in _pairs(evidence)]
    if any(right) and not all(right):
        sizes = [_sizes(case, evidence) for case in evidence.cases]
        for name in sizes[0]:
            ones = [s.get(name) == 1 for s in sizes]
            if ones == right:
                return Relation(f"right where {name} = 1", f"Your numbers are right where {name} is 1, and only there.")
        k = right.index(True)
        given = inputs_text(evidence.parameters, evidence.cases[k])
        return Relation(
            "right on another case", f"Your numbers are right for another input ({given}) and wrong for this one."
        )
    parts = [part for part in evidence.expected[0] if part not in wrong]
    if parts:
        return Relation(f"{' and '.join(wrong)} wrong", f"{' and '.join(parts)}: right. {' and '.join(wrong)}: not.")
    if len(wrong) == 1 and all(a[wrong[0]].shape == b[wrong[0]].shape for a, b in _pairs(evidence)):
        for axis, of in ((0, "row"), (-1, "column")):
            for which, end in (("first", 0), ("last", -1)):
                pairs = [(a[wrong[0]], b[wrong[0]]) for a, b in _pairs(evidence)]
                if all(b.dim() > 1 and b.shape[axis] > 1 for _, b in pairs) and all(
                    close(a.select(axis, end), b.select(axis, end), evidence.tolerance) for a, b in pairs
                ):
                    return Relation(f"right in the {which} {of}", f"The {which} {of} is right, the others are not.")
    return None


def _in_order(evidence: Evidence, wrong: Sequence[str]) -> Relation | None:
    """On which side of the expected numbers all numbers lie."""
    came, wanted = ([o[wrong[0]] for o in side] for side in (evidence.seen, evidence.expected))
    if any(a.shape != b.shape or not a.isfinite().all() for a, b in zip(came, wanted, strict=True)):
        return None
    a, b = (torch.cat([t.flatten() for t in side]) for side in (came, wanted))
    room = evidence.tolerance[1] + evidence.tolerance[0] * b.abs()
    if len(a) < 5:
        return None
    if (b >= 0).all() and (a < -room).any():
        return Relation("negative numbers", "Some of your numbers are negative; of the expected ones, none is.")
    for name, side in (("too large", a > b + room), ("too small", a < b - room)):
        if side.all():
            than = "larger" if name == "too large" else "smaller"
            return Relation(name, f"Each of your numbers is {than} than the expected one, by no simple rule.")
    return None
