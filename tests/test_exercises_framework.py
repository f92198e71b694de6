"""The machinery behind `check`, `hint` and `solution`: verdicts, words, and what is left as it was."""

import functools
import itertools
import random
import re

import numpy as np
import pytest
import torch
from torch import nn

from course_utils.teaching import exercises
from course_utils.teaching.exercises import Draw, Exercise, check, find, fixed_noise, grade, hint, solution
from course_utils.teaching.exercises import _build as builds
from course_utils.teaching.exercises import _framework as framework
from course_utils.teaching.exercises._text import inputs_text, numbers_text, tensor_text, wrapped


def squared_error(x, x_hat):
    """Return the squared error of each example.

    x, x_hat: (B, D)
    result:   (B,)
    """
    return ((x - x_hat) ** 2).sum(dim=1)  # over the pixels


def line(x, slope, sigma):
    """Return both.

    x: (N, K)
    """
    mean = slope * x
    return mean, mean / sigma


class Doubler(nn.Module):
    """Doubles its input, and adds a learned bias."""

    def __init__(self, bias):
        super().__init__()
        self.bias = nn.Parameter(torch.tensor(float(bias)))

    def double(self, x):  # (B, L) -> (B, L)
        return self._twice(x) + self.bias

    def loss(self, x):
        """Return the squares, summed.

        x: (B, 784) -> (B,)
        """
        return self.double(x).square().sum(1)

    def _twice(self, x):
        return 2 * x


def two_by_two(draw):
    return [(draw(2, 3), draw(2, 3)), (draw(5, 4), draw(5, 4)), (draw(1, 2), draw(1, 2))]


def made(number, answer, **given):
    return Exercise(
        number=number, title="", minutes=1, solution=answer, hints=("a", "b", "c"), **{"passed": "Good.", **given}
    )


ERROR = made("1.1", squared_error, cases=two_by_two, gradients=("x", "x_hat"))
LINE = made("1.2", line, cases=lambda draw: [(draw(2, 3), 2.0, 0.5), (draw(1, 4), 0.3, 1.7)], parts=("mean", "ratio"))
BUILD = made(
    "1.3",
    Doubler,
    checks=(
        builds.has("double", "loss", args=(1,)),
        builds.shapes("double", [(3, 2)], (3, 2), args=(1,)),
        builds.same_numbers("double(x)", lambda model, x: model.double(x), lambda x: 2 * x + 1,
                            lambda draw: [(draw(2, 3),)], args=(1,), axes="x: (B, L)"),
        builds.per_example(args=(1,)),
        builds.gradients_reach_all(args=(1,)),
        builds.trains(below=800, steps=40, images=200, lr=0.1, args=(1,)),
    ),
    passed="After {steps} steps {loss:.0f}.",
)  # fmt: skip
TOYS = (ERROR, LINE, BUILD)


@pytest.fixture(autouse=True)
def toys(monkeypatch):
    monkeypatch.setattr(framework, "exercises_of", lambda notebook: TOYS)
    monkeypatch.setattr(framework, "_accepted", {})
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


right = squared_error

# Unattempted ------------------------------------------------------------------------------------------


EMPTY = {
    "docstring": '"""Still to do."""', "ellipsis": "...", "pass": "pass", "both": '"""Still to do."""\n    ...',
    "raises": '"""Still to do."""\n    raise NotImplementedError',
    "raises with words": 'raise NotImplementedError("write this")',
}  # fmt: skip


def written(body):
    namespace = {}
    exec(f"def squared_error(x, x_hat):\n    {body}", namespace)
    return namespace["squared_error"]


@pytest.mark.parametrize("body", EMPTY.values(), ids=EMPTY)
@pytest.mark.parametrize(
    "wrap", [lambda f: f, functools.partial, torch.no_grad()], ids=["itself", "partial", "decorated"]
)
def test_empty_bodies_are_unattempted(body, wrap):
    result = grade("1.1", wrap(written(body)))
    assert result.status == "unattempted" and result.diagnosis is None
    assert result.message == 'Exercise 1.1: not attempted yet. hint("1.1") gives a first step.'


def test_a_body_that_does_something_is_attempted():
    result = grade("1.1", written("error = ((x - x_hat) ** 2).sum(1)"))
    assert (result.status, result.diagnosis) == ("not yet", "returns nothing") and "`return`" in result.message
    assert grade("1.1", written("return 0")).status == "not yet"


# The stub --------------------------------------------------------------------------------------------------


def test_a_stub_is_the_solution_without_its_bodies():
    assert ERROR.stub == (
        'def squared_error(x, x_hat):\n    """Return the squared error of each example.\n\n'
        '    x, x_hat: (B, D)\n    result:   (B,)\n    """\n    ...'
    )
    assert BUILD.stub == (
        'class Doubler(nn.Module):\n    """Doubles its input, and adds a learned bias."""\n\n'
        "    def __init__(self, bias): ...\n    def double(self, x): ...  # (B, L) -> (B, L)\n\n"
        '    def loss(self, x):\n        """Return the squares, summed.\n\n        x: (B, 784) -> (B,)\n        """\n'
        "        ..."
    )
    assert ERROR.cell.endswith('    ...\n\n\nsquared_error = check("1.1", squared_error)')
    assert (ERROR.kind, BUILD.kind) == ("brick", "build") and BUILD.parameters == ("bias",)
    for exercise in TOYS:
        namespace = {"nn": nn}
        exec(exercise.stub, namespace)
        assert grade(exercise.number, namespace[exercise.name]).status == "unattempted"


def test_a_stub_with_some_lines_in_it_may_be_given(monkeypatch):
    stub = "def f(x):\n    y = x + 1\n    ..."
    exercise = made("1.9", lambda x: x, stub=stub, judge=lambda exercise, attempt: None)
    monkeypatch.setattr(framework, "exercises_of", lambda notebook: (exercise,))
    namespace = {}
    exec(stub, namespace)
    assert grade("1.9", namespace["f"]).status == "unattempted"


# What was passed to check ------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, torch.zeros(2), 3.0, "squared_error"])
def test_the_function_itself_is_asked_for(value):
    result = grade("1.1", value)
    assert (result.status, result.diagnosis) == ("not yet", "not a function")
    assert 'check("1.1", squared_error)' in result.message
    assert "without parentheses" in result.message


def test_other_arguments_are_named():
    result = grade("1.1", lambda x: x)
    assert result.diagnosis == "other arguments"
    assert "squared_error(x, x_hat)" in result.message and "(x)" in result.message
    result = grade("1.1", lambda x_hat, x: x)
    assert result.diagnosis == "arguments in another order"
    assert grade("1.1", lambda a, b: right(a, b)).status == "passed"
    assert grade("1.1", lambda a, b, power=2: ((a - b) ** power).sum(1)).status == "passed"


def test_the_function_of_another_exercise_is_noticed():
    result = grade("1.2", squared_error)
    assert result.diagnosis == "another exercise's function" and "1.1" in result.message


def test_unknown_numbers_list_the_known_ones(monkeypatch):
    with pytest.raises(ValueError, match=re.escape("1.1, 1.2, 1.3")):
        grade("1.7", right)
    with pytest.raises(ValueError, match="looks like"):
        hint("first")
    with pytest.raises(TypeError, match="comes first"):
        check(right, "1.1")
    with pytest.raises(TypeError, match="as text"):
        solution(1.1)
    monkeypatch.undo()
    with pytest.raises(ValueError, match="notebook 99"):
        check("99.1", right)


# Verdicts ----------------------------------------------------------------------------------------------


def test_check_prints_the_verdict(capsys):
    check("1.1", right)
    assert capsys.readouterr().out.startswith("✔ Exercise 1.1: passed. Good.")
    check("1.1", lambda x, x_hat: ((x - x_hat) ** 2).mean(1))
    out, err = capsys.readouterr()
    assert out.startswith("Exercise 1.1: not yet. Your numbers are the expected ones times 1/D.\n    x = [[")
    assert "expected: shape (2,): [" in out and "came:     shape (2,): [" in out and err == ""


def raises(x, x_hat):
    def inner(t):
        return nn.Linear(7, 2)(t)

    return torch.stack([inner(x), x_hat])


def test_the_learners_exception_is_shown_as_theirs_without_frames_of_torch_or_of_the_framework():
    result = grade("1.1", raises)
    assert (result.status, result.diagnosis) == ("raised", None) and "RuntimeError: mat1 and mat2" in result.message
    first = raises.__code__.co_firstlineno
    assert f"line {first + 4} of raises:  return torch.stack([inner(x), x_hat])" in result.message
    assert f"line {first + 2} of inner:  return nn.Linear(7, 2)(t)" in result.message
    assert result.message.count("line ") == 2 and "course_utils" not in result.message


def test_a_cell_without_a_file_and_endless_recursion():
    message = grade("1.1", written("return squared_error(x, x_hat)")).message
    assert "RecursionError" in message and message.count("line 2 of squared_error") == 5


@pytest.mark.parametrize("names", ["abcde", "abcdef", "abcdefg"])
def test_five_lines_of_the_learners_code_are_shown_the_outermost_two_and_the_innermost_three(names):
    source = "".join(f"def {a}(*args):\n    return {b}(*args)\n" for a, b in itertools.pairwise(names + "?"))
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
    odd = type("Odd", (Exception,), {"__str__": lambda self: 1 / 0})

    def fails(x, x_hat):
        raise odd

    assert grade("1.1", fails).status == "raised"


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_interrupts_pass_through_and_leave_everything_as_it_was(error):
    def interrupted(x, x_hat):
        torch.set_grad_enabled(False)
        raise error

    state = torch.get_rng_state()
    with pytest.raises(error):
        check("1.1", interrupted)
    assert torch.is_grad_enabled() and torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(("rows", "times"), [(5, 2), (1, 1)])
def test_errors_are_raised_where_one_case_alone_is_wrong_or_all_before_were_right(rows, times):
    def breaks(x, x_hat):
        if len(x) == rows:
            raise ValueError("other rows please")
        return times * right(x, x_hat)

    result = grade("1.1", breaks)
    assert result.status == "raised" and "other rows please" in result.message


# Types and shapes --------------------------------------------------------------------------------------

KINDS = {
    "a numpy array": lambda x, x_hat: right(x, x_hat).numpy(),
    "a list or tuple": lambda x, x_hat: right(x, x_hat).tolist(),
    "not a tensor": lambda x, x_hat: {"error": right(x, x_hat)},
    "complex numbers": lambda x, x_hat: right(x, x_hat).to(torch.complex64),
    "right numbers, wrong shape": lambda x, x_hat: right(x, x_hat)[:, None],
    "wrong shape": lambda x, x_hat: right(x, x_hat).sin()[:1].repeat(4),
    "not finite": lambda x, x_hat: right(x, x_hat).sin().log() / 0,
    "nearly right": lambda x, x_hat: right(x, x_hat) + 0.002 * torch.randn(len(x), generator=torch.Generator()),
    "wrong values": lambda x, x_hat: right(x, x_hat) + (5 * x).sin().sum(1),
    "changes its input": lambda x, x_hat: x.sub_(x_hat).pow(2).sum(1),
    "no gradient": lambda x, x_hat: right(x, x_hat.detach()),
}


@pytest.mark.parametrize("diagnosis", KINDS)
def test_each_kind_of_wrong_result_has_its_own_words(diagnosis):
    result = grade("1.1", KINDS[diagnosis])
    assert (result.status, result.diagnosis) == ("not yet", diagnosis)


def test_a_mistake_is_told_even_in_the_wrong_type_and_where_inputs_are_changed():
    assert grade("1.1", lambda x, x_hat: float(((x - x_hat) ** 2).sum())).diagnosis == "summed over B"
    assert grade("1.1", lambda x, x_hat: (right(x, x_hat) / 2).numpy()).diagnosis == "times ½"
    halved = grade("1.1", lambda x, x_hat: x.sub_(x_hat).pow(2).sum(1) / 2)
    assert halved.diagnosis == "times ½" and "changed the caller's x" in " ".join(halved.message.split())
    other = grade("1.1", lambda x, x_hat: x.sub_(x_hat).cos().cumsum(1).prod(1))
    assert other.diagnosis == "changes its input"


def test_where_any_type_will_do_lists_and_arrays_pass(monkeypatch):
    for given in ({"any_type": True}, {}):
        exercise = made("1.1", squared_error, cases=two_by_two, **given)
        monkeypatch.setattr(framework, "exercises_of", lambda notebook, e=exercise: (e,))
        for kind in (torch.Tensor.tolist, torch.Tensor.numpy, tuple):
            result = grade("1.1", lambda x, x_hat, kind=kind: kind(right(x, x_hat)))
            assert (result.status == "passed") == bool(given) and "gradient" not in result.message
        assert grade("1.1", lambda x, x_hat: (2 * right(x, x_hat)).tolist()).diagnosis == "times 2"


@pytest.mark.parametrize("factor", [1, -1])
def test_the_stated_tolerance_is_the_tolerance(factor):
    rtol, atol = exercises.RTOL, exercises.ATOL
    assert grade("1.1", lambda x, y: right(x, y) * (1 + factor * 0.5 * rtol)).status == "passed"
    assert grade("1.1", lambda x, y: right(x, y) + factor * 0.5 * atol).status == "passed"
    assert grade("1.1", lambda x, y: right(x, y) * (1 + factor * 3 * rtol)).status == "not yet"


def test_several_things_are_compared_by_name():
    def other(x, slope, sigma):
        return slope * x, slope * x * sigma

    def told(answer):
        return " ".join(grade("1.2", answer).message.split())

    words = told(other)
    assert "mean: right. ratio: Your numbers are the expected ones times sigma²." in words
    assert "expected: ratio, shape (2, 3)" in words and "expected: mean" not in words
    assert grade("1.2", lambda x, slope, sigma: line(x, slope, sigma)[::-1]).diagnosis == "parts exchanged"
    by_name = grade("1.2", lambda *a: dict(zip(("ratio", "mean"), line(*a)[::-1], strict=True)))
    assert by_name.status == "passed"
    for wrong, came in ((lambda *a: line(*a)[0], "a tensor of shape (2, 3)"), (lambda *a: [], "a list of 0")):
        assert f"Expected 2 things, mean, ratio; what came back is {came}." in told(wrong)


def test_numbers_in_messages_are_short():
    assert (
        numbers_text(torch.tensor([0.9e-6, 1.5e-6, -0.9e-6, 123456.0, 1 / 3])) == "[0, 1.5e-06, 0, 1.235e+05, 0.3333]"
    )
    assert tensor_text(torch.tensor(2.5)) == "one number, shape (): 2.5"
    assert tensor_text(torch.zeros(3, 4)).startswith("shape (3, 4): [[0, 0")
    assert tensor_text(torch.zeros(13)) == "shape (13,)"
    named = inputs_text(("x", "y", "model", "k"), (torch.arange(6), torch.arange(13), nn.Linear(1, 1), 3))
    assert named == "x = [0, 1, 2, 3, 4, 5], y of shape (13,), model = a small Linear, k = 3"


def test_prose_is_wrapped_at_100_characters_and_numbers_are_not():
    assert wrapped("x" * 49 + " " + "y" * 50) == "x" * 49 + " " + "y" * 50
    assert wrapped("x" * 50 + " " + "y" * 50) == "x" * 50 + "\n" + "y" * 50
    assert wrapped("    " + "1 " * 90) == "    " + "1 " * 90


# Relations -------------------------------------------------------------------------------------------------

RELATIONS = {
    "sign": lambda x, y: -right(x, y),
    "times ½": lambda x, y: right(x, y) / 2,
    "times 3.7": lambda x, y: right(x, y) * 3.7,
    "times B": lambda x, y: right(x, y) * len(x),
    "times 1/D": lambda x, y: right(x, y) / x.shape[1],
    "times 784/D": lambda x, y: right(x, y) * 784 / x.shape[1],
    "plus 1": lambda x, y: right(x, y) + 1,
    "minus ½ log 2π": lambda x, y: right(x, y) - 0.5 * np.log(2 * np.pi),
    "plus ½ log 2π · D": lambda x, y: right(x, y) + 0.5 * np.log(2 * np.pi) * x.shape[1],
    "minus log D": lambda x, y: right(x, y) - np.log(x.shape[1]),
    "reciprocal": lambda x, y: 1 / right(x, y),
    "root": lambda x, y: right(x, y).sqrt(),
    "log": lambda x, y: right(x, y).log(),
    "summed over B": lambda x, y: right(x, y).sum(),
    "summed over B, times 1/B": lambda x, y: right(x, y).mean(),
    "not summed over D": lambda x, y: (x - y) ** 2,
    "another axis": lambda x, y: ((x - y) ** 2).sum(0),
    "all pairs": lambda x, y: torch.cdist(x, y) ** 2,
    "another order": lambda x, y: right(x, y).flip(0),
    "2·x in place of x": lambda x, y: right(2 * x, y),
    "0 in place of x_hat": lambda x, y: right(x, 0 * y),
    "x plays no part": lambda x, y: (y.cos() * y.exp()).sum(1),
    "depends on the rest of the batch": lambda x, y: (x - y).abs().sum(1) / (x - y).abs().max().sin(),
    "differs from call to call": lambda x, y: right(x, y) * torch.rand(len(x)),
    "a power missing": lambda x, y: (x - y).sum(1),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("diagnosis", RELATIONS)
def test_the_simplest_relation_is_told(diagnosis, dtype):
    result = grade("1.1", RELATIONS[diagnosis], dtype=dtype)
    assert result.diagnosis == diagnosis, result.message
    assert "expected: shape (2,)" in result.message and "x = [[" in result.message, "the smallest case is shown"


def test_numbers_that_have_nothing_to_do_with_the_right_ones_are_told_no_relation():
    """Nor are those that agree by their size alone."""
    harmless = {"wrong values", "nearly right", "too large", "too small", "negative numbers", "x_hat plays no part"}
    for seed in range(40):
        draw = Draw()
        draw.generator.manual_seed(seed)
        tables = {n: draw.uniform(n, low=0.1, high=9, decimals=4) for n in (1, 2, 4)}
        weights = draw(5)
        for answer in (
            lambda x, y, t=tables: t[len(x)].to(x) + 0 * x.sum(1) + 0 * y.sum(1),
            lambda x, y, w=weights: (x.sin() * w[: x.shape[1]].to(x)).sum(1) + (y**3).sum(1).cos(),
        ):
            diagnosis = grade("1.1", answer).diagnosis
            assert diagnosis in harmless or diagnosis.endswith("plays no part"), diagnosis


def test_sizes_that_no_case_tells_apart_share_their_name(monkeypatch):
    square = made("1.1", squared_error, cases=lambda draw: [(draw(n, n), draw(n, n)) for n in (2, 3, 4)])
    monkeypatch.setattr(framework, "exercises_of", lambda notebook: (square,))
    assert grade("1.1", lambda x, y: right(x, y) / len(x)).diagnosis == "times 1/B or D"


def test_every_slip_in_a_solution_is_told_or_changes_nothing(monkeypatch):
    from course_utils.teaching.exercises._mutants import slips

    monkeypatch.undo()
    found = slips(find("4.2").solution)
    assert len(found) > 50 and len({words for _, words, _ in found}) > 20
    assert any("mu stands where mu² belongs" in words for _, words, _ in found)
    for _, words, slip in found[::7]:
        result = grade("4.2", slip)
        assert result.status in ("passed", "raised", "unattempted") or result.diagnosis not in (
            "wrong values", "too large", "too small", "negative numbers"), words  # fmt: skip


# Builds ----------------------------------------------------------------------------------------------------


class Built(Doubler):
    def _twice(self, x):
        return x + x


def test_a_build_is_graded_by_what_it_does():
    assert re.search(r"✔ Build 1\.3: passed\. After 40 steps \d+\.", grade("1.3", Built).message)


def built(**methods):
    return type("Doubler", (Built,), methods)


def failing(self, x):
    return x.no_such_method()


BROKEN = {
    "double(x): times 3": built(double=lambda self, x: 3 * (2 * x + self.bias)),
    "shape of double": built(double=lambda self, x: x.sum(1)),
    "not one loss for each image": built(loss=lambda self, x: self.double(x).square().mean()),
    "depends on the rest of the batch": built(loss=lambda self, x: (self.double(x) / x.norm()).square().sum(1)),
    "no gradient": built(loss=lambda self, x: self.double(x).detach().square().sum(1) + 0 * self.bias),
    "does not learn": built(loss=lambda self, x: self.double(x).square().sum(1) + 1e4),
    "not finite": built(loss=lambda self, x: self.double(x).square().sum(1) / (self.bias - 1).abs().clamp(max=0)),
    "methods missing": built(loss=None),
    "not a module": type("Doubler", (), {"__init__": lambda self, bias: None, "double": failing, "loss": failing}),
}


@pytest.mark.parametrize("diagnosis", BROKEN)
def test_each_broken_build_is_told_what_was_seen(diagnosis):
    result = grade("1.3", BROKEN[diagnosis])
    assert result.diagnosis == diagnosis, result.message


def test_an_error_within_a_build_is_the_learners_own():
    result = grade("1.3", built(double=failing))
    assert result.status == "raised" and "return x.no_such_method()" in result.message and "in double" in result.message


@pytest.mark.parametrize(("number", "method"), [("2.3", "kl"), ("4.5", "kl"), ("4.5", "nats"), ("4.5", "traverse")])
def test_an_error_where_a_builds_numbers_are_compared_is_shown_with_its_name_and_line(number, method, monkeypatch):
    monkeypatch.undo()
    model = type("Model", (find(number).solution,), {method: lambda self, *given: undefined_name})  # noqa: F821
    result = grade(number, model)
    assert result.status == "raised" and "NameError: name 'undefined_name' is not defined" in result.message
    assert "lambda self, *given: undefined_name" in result.message and f"in {method}(" in result.message


def test_fixed_noise_is_the_same_for_every_row_whichever_way_it_is_drawn():
    mu = torch.zeros(3, 4)
    with fixed_noise():
        ways = [
            torch.randn_like(mu), torch.randn(3, 4), torch.empty(3, 4).normal_(), torch.normal(mu, torch.ones(3, 4)),
            torch.distributions.Normal(mu, 1.0).rsample(), torch.randn(mu.shape),
        ]  # fmt: skip
        wide = torch.distributions.Normal(1.0 + mu, 2.0).rsample()
    for eps in ways:
        assert torch.equal(eps, ways[0]) and torch.equal(eps[0], eps[2]) and eps[0].std() > 0.5
    torch.testing.assert_close(wide, 1 + 2 * ways[0])
    assert not torch.equal(torch.randn(3, 4), ways[0])


# The world outside -------------------------------------------------------------------------------------


def rude(x, x_hat):
    torch.manual_seed(5)
    random.random()
    np.random.rand()  # noqa: NPY002
    torch.set_grad_enabled(False)
    torch.set_default_dtype(torch.float64)
    return right(x, x_hat)


def test_the_world_is_left_as_it_was_and_verdicts_are_the_same_every_time():
    drawn, messages = [], set()
    for answers in ((), (rude, right)):
        torch.manual_seed(1), random.seed(1), np.random.seed(1)  # noqa: NPY002
        messages |= {grade("1.1", answer).message for answer in answers}
        messages |= {grade("1.1", lambda x, y: right(x, y) + torch.randn(len(x))).message for _ in range(2) if answers}
        drawn.append((torch.rand(()).item(), random.random(), np.random.rand()))  # noqa: NPY002
    assert drawn[0] == drawn[1] and len(messages) == 3
    assert torch.is_grad_enabled() and torch.get_default_dtype() == torch.float32


def test_verdicts_do_not_depend_on_the_callers_modes():
    with torch.no_grad():
        assert grade("1.1", right).status == grade("1.3", Doubler).status == "passed"
        assert not torch.is_grad_enabled()
    with torch.inference_mode():
        assert grade("1.3", Doubler).status == "passed" and torch.is_inference_mode_enabled()
    torch.set_default_dtype(torch.float64)
    try:
        assert {grade(exercise.number, exercise.solution).status for exercise in TOYS} == {"passed"}
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def test_nothing_is_written_to_stderr_and_prints_of_the_learner_are_kept(capsys):
    check("1.1", lambda x, x_hat: print("my own line") or right(x, x_hat))
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


def test_solution_prints_source_without_what_the_stub_has_said(capsys):
    for exercise in TOYS:
        solution(exercise.number)
        head, source = capsys.readouterr().out.split("\n\n", 1)
        assert head == f"{exercise.head}, one way to write it:" and '"""' not in source
        namespace = {"torch": torch, "nn": nn}
        exec(source, namespace)
        assert grade(exercise.number, namespace[exercise.name]).status == "passed"
