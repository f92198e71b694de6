"""The tool that changes the arithmetic and asks whether a test notices."""

import textwrap

import pytest

from tests.tools import mutate


def changes(source, module="losses/terms"):
    source = textwrap.dedent(source)
    return [(what, make().strip()) for _, what, make in mutate.mutants(module, source)]


def test_one_place_is_changed_at_a_time():
    found = changes(
        """
        def f(mu, x):
            return g(mu) + 2 * x.sum()
        """
    )
    assert {what: made.splitlines()[1].strip() for what, made in found} == {
        "Add → Sub": "return g(mu) - 2 * x.sum()",
        "Mult → Div": "return g(mu) + 2 / x.sum()",
        "2 → 3": "return g(mu) + 3 * x.sum()",
        ".sum → .mean": "return g(mu) + 2 * x.mean()",
        "mu → mu.detach()": "return g(mu.detach()) + 2 * x.sum()",
    }


@pytest.mark.parametrize(
    "spared",
    [
        "import torch",
        "def f(x: T[1] = 2): ...",
        "raise ValueError(1 - x)",
        "check_shape(x, 3 - 1)",
        "def cases(rng):\n    return 2 * rng",
        "cases = lambda rng: [(3, -1)]",
        "E = Exercise(minutes=2 + 3)",
    ],
)
def test_what_is_no_arithmetic_is_spared(spared):
    assert changes(spared) == []


def test_in_exercises_a_detach_counts_in_solutions_only():
    source = "def solution(mu): return f(mu)\ndef _wrong(mu): return f(mu)\nE = [lambda mu: f(mu)]"
    assert [what for what, _ in changes(source, "teaching/exercises/notebook_04")] == ["mu → mu.detach()"]
    assert len(changes(source)) == 3


def test_the_exercise_of_a_line_is_found_by_its_ruler():
    source = "LOG = 1\n# 2.1 ----\na = 1\n# 2.2 ----\nb = 1\n# Shared ----\nc = 1"
    assert [mutate.exercise_of(source, line) for line in (1, 3, 5, 7)] == ["", "2.1", "2.2", ""]


def test_an_exception_stands_beside_the_code_and_excuses_one_change():
    source = "a = 1  # harmless: 1 → 2 (any is as good)\n# harmless: 3 → 4 (x); .sum → .mean (y)\nb = f(3).sum() + 1\n"
    asked = [(1, "1 → 2"), (1, "1 → 3"), (3, "3 → 4"), (3, ".sum → .mean"), (3, "1 → 2"), (3, "Add → Sub")]
    assert [mutate.excused(source, *change) for change in asked] == [True, False, True, True, False, False]


def test_every_exception_names_a_change_that_exists_and_a_reason():
    for module in mutate.known_modules():
        source = (mutate.ROOT / "course_utils" / f"{module}.py").read_text(encoding="utf-8")
        claimed = [part for text in mutate.HARMLESS.findall(source) for part in text.split(";")]
        used = {what for line, what, _ in mutate.mutants(module, source) if mutate.excused(source, line, what)}
        for part in claimed:
            what, _, reason = part.strip().partition(" (")
            assert what in used and len(reason) > 5, f"{module}: {part}"


def test_a_change_is_noticed_and_none_is_not(tmp_path):
    source = (mutate.ROOT / "course_utils" / "losses" / "scales.py").read_text(encoding="utf-8")
    folder = mutate._copy("losses/scales", tmp_path / "copy")
    assert mutate.survives(folder, "losses/scales", source)
    (change,) = [make for _, what, make in mutate.mutants("losses/scales", source) if what == ".mean → .sum"][:1]
    assert not mutate.survives(folder, "losses/scales", change())
