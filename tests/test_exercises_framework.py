"""The machinery behind `check`, `hint` and `solution`."""

import functools
import itertools
import random
import re

import numpy as np
import pytest
import torch
from torch import nn

from course_utils.teaching import exercises
from course_utils.teaching.exercises import (
    ATOL,
    RTOL,
    Attempt,
    Compare,
    Exercise,
    Misconception,
    NotYet,
    check,
    exercises_of,
    find,
    grade,
    hint,
    reference,
    solution,
)
from course_utils.teaching.exercises import _framework as framework
from course_utils.teaching.exercises._text import inputs_text, numbers_text, tensor_text, wrapped


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Thousands of tiny operations: more threads only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def right(x, x_hat):
    return ((x - x_hat) ** 2).flatten(1).sum(1)


# Unattempted ------------------------------------------------------------------------------------------


def only_docstring(x, x_hat):
    """Still to do."""


def only_ellipsis(x, x_hat): ...


def only_pass(x, x_hat):
    pass


def docstring_and_ellipsis(x, x_hat):
    """Still to do."""
    ...


def not_implemented(x, x_hat):
    """Still to do."""
    raise NotImplementedError


def not_implemented_with_words(x, x_hat):
    raise NotImplementedError("write this")


@torch.no_grad()
def decorated(x, x_hat): ...


EMPTY = [
    only_docstring,
    only_ellipsis,
    only_pass,
    docstring_and_ellipsis,
    not_implemented,
    not_implemented_with_words,
    decorated,
    functools.partial(only_pass),
]


@pytest.mark.parametrize("stub", EMPTY, ids=lambda f: getattr(f, "__name__", "partial"))
def test_empty_bodies_are_unattempted(stub):
    result = grade("1.1", stub)
    assert result.status == "unattempted" and result.diagnosis is None
    assert result.message == 'Exercise 1.1: not attempted yet. hint("1.1") gives a first step.'


def test_a_body_that_returns_none_is_attempted():
    def forgot(x, x_hat):
        error = ((x - x_hat) ** 2).flatten(1).sum(1)  # noqa: F841

    result = grade("1.1", forgot)
    assert (result.status, result.diagnosis) == ("not yet", "returns nothing")
    assert "`return`" in result.message


def test_a_body_that_returns_a_constant_is_attempted():
    def constant(x, x_hat):
        """Documented."""
        return 0

    assert grade("1.1", constant).status == "not yet"


# An exercise whose answer is a class, with a judge of its own ------------------------------------------

CLASS_STUB = '''\
class Doubler(nn.Module):
    """Doubles its input."""

    def __init__(self, bias):
        super().__init__()
        self.bias = bias

    def forward(self, x):
        ...'''


class Doubler(nn.Module):
    def __init__(self, bias):
        super().__init__()
        self.bias = bias

    def forward(self, x):
        return 2 * x + self.bias


def judge_doubler(exercise, attempt):
    module = attempt(1.0)
    x = torch.ones(2)
    if not torch.equal(attempt.run(module, x, doing="in forward(x)"), 2 * x + 1):
        raise NotYet("not doubled", "Is it doubled?")


CLASS_EXERCISE = Exercise("1.9", "A class", 1, CLASS_STUB, ("a", "b", "c"), Doubler, judge_doubler, "It doubles.")


@pytest.fixture
def class_exercise(monkeypatch):
    monkeypatch.setattr(framework, "exercises_of", lambda notebook: (CLASS_EXERCISE,))
    return CLASS_EXERCISE


def test_a_class_may_be_the_answer(class_exercise):
    namespace = {"nn": nn}
    exec(CLASS_STUB, namespace)
    assert class_exercise.parameters == ("bias",)
    assert grade("1.9", namespace["Doubler"]).status == "unattempted"
    assert grade("1.9", Doubler).status == "passed"

    class Tripler(Doubler):
        def forward(self, x):
            return 3 * x + self.bias

    class Failing(Doubler):
        def forward(self, x):
            return x.no_such_method()

    assert grade("1.9", Tripler).diagnosis == "not doubled"
    failing = grade("1.9", Failing)
    assert failing.status == "raised"
    assert "in forward(x)" in failing.message and "return x.no_such_method()" in failing.message


def test_a_stub_that_already_holds_some_lines_is_recognised(monkeypatch):
    stub = "def f(x):\n    y = x + 1\n    ..."
    exercise = Exercise("1.9", "", 1, stub, ("a", "b", "c"), lambda x: x, judge_doubler, "")
    monkeypatch.setattr(framework, "exercises_of", lambda notebook: (exercise,))
    namespace = {}
    exec(stub, namespace)
    assert grade("1.9", namespace["f"]).status == "unattempted"


# What was passed to check ------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, torch.zeros(2), 3.0, "reconstruction_error"])
def test_the_function_itself_is_asked_for(value):
    result = grade("1.1", value)
    assert (result.status, result.diagnosis) == ("not yet", "not a function")
    assert 'check("1.1", reconstruction_error)' in result.message
    assert "without parentheses" in result.message


def test_other_arguments_are_named():
    result = grade("1.1", lambda x: x)
    assert result.diagnosis == "other arguments"
    assert "reconstruction_error(x, x_hat)" in result.message and "(x)" in result.message
    result = grade("1.1", lambda x_hat, x: x)
    assert result.diagnosis == "arguments in another order"
    assert grade("1.1", lambda a, b: right(a, b)).status == "passed"
    assert grade("1.1", lambda a, b, power=2: ((a - b) ** power).flatten(1).sum(1)).status == "passed"


def test_the_function_of_another_exercise_is_noticed():
    result = grade("1.2", find("1.1").solution)
    assert result.diagnosis == "another exercise's function" and "1.1" in result.message


def test_unknown_numbers_list_the_known_ones():
    with pytest.raises(ValueError, match=re.escape("1.1, 1.2, 1.3, 1.4, 1.5, 1.6")):
        grade("1.7", right)
    with pytest.raises(ValueError, match="notebook 99"):
        check("99.1", right)
    with pytest.raises(ValueError, match="looks like"):
        hint("first")
    with pytest.raises(TypeError, match="comes first"):
        check(right, "1.1")
    with pytest.raises(TypeError, match="as text"):
        solution(1.1)


# Verdicts ----------------------------------------------------------------------------------------------


def test_check_prints_the_verdict_and_returns_nothing(capsys):
    assert check("1.1", right) is None
    out, err = capsys.readouterr()
    assert out.startswith("✔ Exercise 1.1: passed.") and err == ""
    check("1.1", lambda x, x_hat: ((x - x_hat) ** 2).mean())
    out, err = capsys.readouterr()
    assert out.startswith("Exercise 1.1: not yet.") and "expected:" in out and "came:" in out and err == ""


def test_expected_and_came_are_shown_on_the_smallest_telling_case():
    message = grade("1.1", lambda x, x_hat: ((x - x_hat) ** 2).flatten(1).mean(1)).message
    assert "x = [[0, 0.5, 1], [0.2, 0.4, 0.9]]" in message
    assert "expected: shape (2,): [0.21, 0.34]" in message
    assert "came:     shape (2,): [0.07, 0.1133]" in message
    message = grade("1.1", lambda x, x_hat: ((x - x_hat) ** 2).sum(-1)).message  # right for (B, D)
    assert "of shape (2, 1, 2, 2)" in message and "shape (2, 1, 2)" in message


def raises(x, x_hat):
    def inner(t):
        return t.no_such_thing

    return torch.stack([inner(x), x_hat])


def test_the_learners_exception_is_shown_as_theirs():
    result = grade("1.1", raises)
    assert (result.status, result.diagnosis) == ("raised", None)
    assert "AttributeError: 'Tensor' object has no attribute 'no_such_thing'" in result.message
    first = raises.__code__.co_firstlineno
    assert f"line {first + 4} of raises:  return torch.stack([inner(x), x_hat])" in result.message
    assert f"line {first + 2} of inner:  return t.no_such_thing" in result.message
    assert "_attempt.py" not in result.message and "course_utils" not in result.message


def test_no_frame_of_torch_or_of_the_framework_is_shown():
    def fails_inside_torch(x, x_hat):
        return nn.Linear(7, 2)(x)

    message = grade("1.1", fails_inside_torch).message
    assert "RuntimeError" in message and "return nn.Linear(7, 2)(x)" in message
    assert message.count("line ") == 1


def test_a_cell_without_a_file_and_endless_recursion():
    namespace = {}
    exec(compile("def f(x, x_hat):\n    return f(x, x_hat)", "<cell>", "exec"), namespace)
    message = grade("1.1", namespace["f"]).message
    assert "RecursionError" in message and message.count("line 2 of f") == 5


@pytest.mark.parametrize("depth", [5, 6, 7])
def test_five_lines_of_the_learners_code_are_shown_the_outermost_two_and_the_innermost_three(depth):
    names = "abcdefg"[:depth]
    source = "".join(
        f"def {name}(*args):\n    return {after}(*args)\n" for name, after in itertools.pairwise(names + "?")
    )
    namespace = {}
    exec(compile(source.replace("?(*args)", "1 / 0"), "<cell>", "exec"), namespace)
    shown = re.findall(r"of (\w)$", grade("1.1", namespace["a"]).message, flags=re.MULTILINE)
    assert shown == list(names[:2] + names[-3:])


@pytest.mark.parametrize(("length", "cut"), [(600, False), (601, True), (5000, True)])
def test_an_endless_error_is_cut_after_600_characters(length, cut):
    def fails(x, x_hat):
        raise ValueError("y" * (length - len("ValueError: ")))

    words = grade("1.1", fails).message.splitlines()
    assert "    ValueError: " + "y" * (600 - len("ValueError: ")) + (" …" if cut else "") in words


def test_an_exception_whose_text_fails_is_still_shown():
    class Odd(Exception):
        def __str__(self):
            raise RuntimeError

    def odd(x, x_hat):
        raise Odd

    assert grade("1.1", odd).status == "raised"


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_interrupts_pass_through_and_leave_everything_as_it_was(error):
    def interrupted(x, x_hat):
        torch.set_grad_enabled(False)
        raise error

    state = torch.get_rng_state()
    with pytest.raises(error):
        check("1.1", interrupted)
    assert torch.is_grad_enabled() and torch.equal(state, torch.get_rng_state())


def test_errors_are_raised_only_where_no_misconception_explains_the_cases_before():
    def breaks_on_the_second(x, W, mean):
        return mean + W @ W.T @ (x - mean)

    assert grade("1.2", breaks_on_the_second).diagnosis == "matrices in the wrong order"

    def right_then_breaks(x, x_hat):
        if x.dim() != 2:
            raise ValueError("flat images only")
        return right(x, x_hat)

    result = grade("1.1", right_then_breaks)
    assert result.status == "raised" and "of shape (2, 1, 2, 2)" in result.message


# Types and shapes --------------------------------------------------------------------------------------

TYPES = {
    "a numpy array": lambda x, x_hat: right(x, x_hat).numpy(),
    "a list or tuple": lambda x, x_hat: right(x, x_hat).tolist(),
    "not a tensor": lambda x, x_hat: {"error": right(x, x_hat)},
    "complex numbers": lambda x, x_hat: right(x, x_hat).to(torch.complex64),
    "a Python number": lambda x, x_hat: float(right(x, x_hat)[0]),
    "right numbers, wrong shape": lambda x, x_hat: right(x, x_hat)[:, None],
    "wrong shape": lambda x, x_hat: right(x, x_hat)[:1].repeat(4),
    "not finite": lambda x, x_hat: right(x, x_hat).log() / 0,
    "constant factor": lambda x, x_hat: 3 * right(x, x_hat),
    "nearly right": lambda x, x_hat: right(x, x_hat) + 0.001,
    "wrong values": lambda x, x_hat: right(x, x_hat).sin() + 1,
    "changes its input": lambda x, x_hat: x.sub_(x_hat).pow(2).flatten(1).sum(1),
    "no gradient": lambda x, x_hat: right(x, x_hat.detach()),
}


@pytest.mark.parametrize("diagnosis", TYPES)
def test_each_kind_of_wrong_result_has_its_own_words(diagnosis):
    result = grade("1.1", TYPES[diagnosis])
    assert (result.status, result.diagnosis) == ("not yet", diagnosis)
    others = {grade("1.1", answer).message for name, answer in TYPES.items() if name != diagnosis}
    assert result.message not in others


def test_a_known_mistake_is_named_even_in_the_wrong_type():
    assert grade("1.1", lambda x, x_hat: float(((x - x_hat) ** 2).sum())).diagnosis == "one sum for the batch"
    halved = grade("1.1", lambda x, x_hat: (right(x, x_hat) / 2).numpy())
    assert halved.diagnosis == "factor one half"


def compared(expected, came, *misconceptions):
    """What the usual judge says when `came` comes back in place of `expected`; both may be functions of x = 1."""
    truth, answer = (
        v if callable(v) else lambda x, v=v: v.to(x) if torch.is_tensor(v) else v for v in (expected, came)
    )
    compare = Compare(lambda rng: [(torch.ones((), dtype=torch.float64),)], misconceptions)
    exercise = Exercise("9.1", "", 1, "def f(x): ...", ("", "", ""), truth, compare, "")
    try:
        compare(exercise, Attempt(answer, ("x",), torch.float64))
    except NotYet as verdict:
        return verdict
    return None


@pytest.mark.parametrize(
    ("expected", "came", "diagnosis"),
    [
        ([0.0, 2.0], [0.9e-5, 2.0], None),
        ([0.0, 2.0], [1.5e-5, 2.0], "wrong values"),
        ([1000.0, 2.0], [1000.09, 2.0], None),
        ([1000.0, 2.0], [1000.15, 2.0], "nearly right"),
        ([1.0, 2.0], [1.005, 2.0], "nearly right"),
        ([1.0, 2.0], [1.015, 2.0], "wrong values"),
        ([1.0, 2.0], [1.05, 2.0], "wrong values"),
        ([100.0, 1.0], [100.5, 1.0], "nearly right"),
        ([0.1, 2.0], [0.1005, 2.0], "nearly right"),
        ([1.0, -2.0], [-1.0, -2.0], "wrong values"),
    ],
)
def test_right_is_within_1e_4_and_nearly_right_within_a_hundredth(expected, came, diagnosis):
    verdict = compared(torch.tensor(expected, dtype=torch.float64), torch.tensor(came, dtype=torch.float64))
    assert (verdict and verdict.diagnosis) == diagnosis


def test_what_is_nearly_right_is_told_by_how_much_it_is_off():
    assert (
        "off by 0.005 of the value, where 0.0001 is allowed"
        in compared(torch.ones(2), torch.tensor([1.005, 1])).message
    )


def test_a_list_of_tensors_is_judged_by_its_numbers_and_other_lists_by_their_kind():
    rows = torch.tensor([[1.0, 2.0], [3.0, 5.0]])
    doubled = Misconception("doubled", lambda x: 2 * rows.to(x), "Doubled?")
    assert compared(rows, lambda x: list(2 * rows), doubled).diagnosis == "doubled"
    assert compared(rows, lambda x: tuple(rows), doubled).diagnosis == "a list or tuple"
    for other in ([], [rows, rows[0]], [rows[0], 2.0]):
        assert compared(rows, other, doubled).diagnosis == "a list or tuple"
    assert "It holds 4 things (int, int, int, float)." in compared(rows, [1, 2, 3, 4.0]).message
    assert "It holds 5 things (int, int, int, float, …)." in compared(rows, [1, 2, 3, 4.0, 5]).message


def test_where_one_number_is_asked_for_a_wrong_python_number_is_judged_by_its_value():
    assert compared(torch.tensor(3.0), 0.0).diagnosis == "wrong values"
    assert compared(torch.tensor(3.0), np.array(0.0)).diagnosis == "a numpy array"
    assert compared(torch.ones(2), 0.0).diagnosis == "a Python number"


def test_up_to_twelve_numbers_are_shown_and_of_more_the_worst():
    whole = compared(torch.ones(12), torch.ones(12).index_fill(0, torch.tensor(4), 7.0)).message
    assert "came:     shape (12,): [1, 1, 1, 1, 7, 1, 1, 1, 1, 1, 1, 1]" in whole
    worst = compared(torch.ones(13), torch.ones(13).index_fill(0, torch.tensor(4), 7.0)).message
    assert "expected: at [4]: 1\n" in worst and "came:     at [4]: 7\n" in worst


@pytest.mark.parametrize(
    ("expected", "came", "worst"),
    [
        ({3: 1.0}, {3: 0.0}, 3),
        ({3: 1.0, 8: 1e4}, {3: 1.5, 8: 1e4 + 1.2}, 3),  # the larger error is the smaller one beside what is allowed
        ({3: 1.0, 8: 100.0}, {3: 1.3, 8: 100.5}, 8),
        ({3: 1.0, 8: 1.0}, {3: 9.0, 8: float("nan")}, 8),
        ({3: -1e4, 8: 1.0}, {3: -1e4 - 1.2, 8: 1.5}, 8),
    ],
)
def test_the_worst_number_is_the_one_furthest_outside_the_tolerance(expected, came, worst):
    wanted = torch.full((5, 5), 5.0, dtype=torch.float64)
    wanted.view(-1)[list(expected)] = torch.tensor(list(expected.values()), dtype=torch.float64)
    seen = wanted.clone()
    seen.view(-1)[list(came)] = torch.tensor(list(came.values()), dtype=torch.float64)
    assert f"came:     at [{worst // 5}, {worst % 5}]: " in compared(wanted, seen).message


def test_numbers_in_messages_are_short():
    assert (
        numbers_text(torch.tensor([0.9e-6, 1.5e-6, -0.9e-6, 123456.0, 1 / 3])) == "[0, 1.5e-06, 0, 1.235e+05, 0.3333]"
    )
    assert tensor_text(torch.tensor(2.5)) == "one number, shape (): 2.5"
    assert tensor_text(torch.zeros(3, 4)).startswith("shape (3, 4): [[0, 0")
    assert tensor_text(torch.zeros(13)) == "shape (13,)"
    named = inputs_text(("x", "y", "model", "k"), (torch.arange(6), torch.arange(7), nn.Linear(1, 1), 3))
    assert named == "x = [0, 1, 2, 3, 4, 5], y of shape (7,), model = a small Linear, k = 3"


def test_prose_is_wrapped_at_100_characters_and_numbers_are_not():
    assert wrapped("x" * 49 + " " + "y" * 50) == "x" * 49 + " " + "y" * 50
    assert wrapped("x" * 50 + " " + "y" * 50) == "x" * 50 + "\n" + "y" * 50
    assert wrapped("    " + "1 " * 90) == "    " + "1 " * 90


def test_a_python_number_is_right_where_one_number_is_asked_for_and_inputs_may_change_where_allowed():
    def cases(rng):
        return [(torch.rand(3, generator=rng, dtype=torch.float64),)]

    compare = Compare(cases, (Misconception("mean", lambda x: x.mean(), "Mean?"),), may_change_inputs=True)
    exercise = Exercise("9.1", "", 1, "def f(x): ...", ("", "", ""), lambda x: x.sum(), compare, "")
    for answer in (
        lambda x: float(x.sum()),
        lambda x: np.float32(x.sum()),
        lambda x: x.mul_(2).sum() / 2,
        lambda x: x.double().sum(),
        lambda x: sum(x.tolist()),
    ):
        compare(exercise, Attempt(answer, ("x",)))
    with pytest.raises(NotYet, match="Mean"):
        compare(exercise, Attempt(lambda x: float(x.mean()), ("x",)))


@pytest.mark.parametrize("factor", [1, -1])
def test_the_stated_tolerance_is_the_tolerance(factor):
    assert grade("1.1", lambda x, y: right(x, y) * (1 + factor * 0.5 * RTOL)).status == "passed"
    assert grade("1.1", lambda x, y: right(x, y) + factor * 0.5 * ATOL).status == "passed"
    assert grade("1.1", lambda x, y: right(x, y) * (1 + factor * 3 * RTOL)).status == "not yet"


# The world outside -------------------------------------------------------------------------------------


def test_the_world_is_left_as_it_was():
    def rude(x, x_hat):
        torch.manual_seed(5)
        random.random()
        np.random.rand()  # noqa: NPY002
        torch.set_grad_enabled(False)
        torch.set_default_dtype(torch.float64)
        return right(x, x_hat)

    def draws():
        return torch.rand(()).item(), random.random(), np.random.rand()  # noqa: NPY002

    torch.manual_seed(1), random.seed(1), np.random.seed(1)  # noqa: NPY002
    undisturbed = draws()
    torch.manual_seed(1), random.seed(1), np.random.seed(1)  # noqa: NPY002
    for number in ("1.1", "1.3", "1.4", "1.5"):
        grade(number, find(number).solution)
    grade("1.1", rude)
    assert draws() == undisturbed
    assert torch.is_grad_enabled() and torch.get_default_dtype() == torch.float32


def test_verdicts_do_not_depend_on_the_callers_modes():
    with torch.no_grad():
        assert grade("1.1", right).status == grade("1.6", find("1.6").solution).status == "passed"
        assert not torch.is_grad_enabled()
    with torch.inference_mode():
        assert grade("1.3", find("1.3").solution).status == "passed"
        assert torch.is_inference_mode_enabled()
    torch.set_default_dtype(torch.float64)
    try:
        for exercise in exercises_of(1):
            assert grade(exercise.number, exercise.solution).status == "passed"
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def test_verdicts_are_the_same_every_time():
    def build(input_dim, hidden_dim, latent_dim):
        return nn.Linear(input_dim, latent_dim), nn.Linear(latent_dim, input_dim)

    assert len({grade("1.3", build).message for _ in range(3)}) == 1


def test_nothing_is_written_to_stderr_and_prints_of_the_learner_are_kept(capsys):
    def talks(x, x_hat):
        print("my own line")
        return right(x, x_hat)

    check("1.1", talks)
    out, err = capsys.readouterr()
    assert "my own line" in out and err == ""


# Hints and solutions -----------------------------------------------------------------------------------


def test_hints_help_more_and_more(capsys, monkeypatch):
    monkeypatch.setattr(framework, "_hints_given", {})
    texts = []
    for _ in range(5):
        assert hint("1.1") is None
        texts.append(capsys.readouterr().out)
    assert [text.split(":")[0] for text in texts[:3]] == [f"Exercise 1.1, hint {k} of 3" for k in (1, 2, 3)]
    assert len(set(texts[:3])) == 3
    assert 'solution("1.1")' in texts[3] and texts[3] == texts[4]
    hint("1.2")
    assert "hint 1 of 3" in capsys.readouterr().out


def test_solution_prints_source_that_runs_and_passes(capsys):
    for exercise in exercises_of(1):
        solution(exercise.number)
        head, source = capsys.readouterr().out.split("\n\n", 1)
        assert head == f"Exercise {exercise.number}, one way to write it:"
        import copy

        namespace = {"torch": torch, "nn": nn, "copy": copy}
        exec(source, namespace)  # needs nothing but what the notebook has imported
        assert grade(exercise.number, namespace[exercise.name]).status == "passed"


def test_the_public_names_exist():
    assert all(hasattr(exercises, name) for name in exercises.__all__)


def test_reference_lends_a_right_answer_without_showing_it(capsys):
    answer = reference("1.1")
    assert capsys.readouterr().out == ""
    assert grade("1.1", answer).status == "passed"
