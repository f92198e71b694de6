"""What every exercise of the course promises, whichever notebook it stands in.

The learners' answers to try it with stand in `tests/test_exercises_01.py` and its siblings: `RIGHT`, correct answers
written differently, by exercise, and `WRONG`, plausible wrong ones with the diagnosis that each must get.
"""

import importlib
import inspect
import itertools
from pathlib import Path

import pytest
import torch

from course_utils.teaching.exercises import Attempt, exercises_of, grade
from course_utils.teaching.exercises._brick import _outcome
from course_utils.teaching.exercises._relations import agree

NOTEBOOKS = sorted(int(path.stem[-2:]) for path in Path(__file__).parent.glob("test_exercises_[0-9][0-9].py"))
ANSWERS = {number: importlib.import_module(f"tests.test_exercises_{number:02}") for number in NOTEBOOKS}
EXERCISES = [exercise for number in NOTEBOOKS for exercise in exercises_of(number)]
COMPARED = [exercise for exercise in EXERCISES if exercise.cases]
DTYPES = [torch.float32, torch.float64]
DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")),
]
each_exercise = pytest.mark.parametrize("exercise", EXERCISES, ids=lambda e: e.number)
each_compared = pytest.mark.parametrize("exercise", COMPARED, ids=lambda e: e.number)


def in_each_dtype(entries):
    """The entries with every dtype; builds train, in float32 only."""
    builds = {exercise.number for exercise in EXERCISES if exercise.kind == "build"}
    return [(*e, dtype) for e in entries for dtype in DTYPES if dtype == DTYPES[0] or e[0] not in builds]


RIGHT = [
    (number, answer) for module in ANSWERS.values() for number, answers in module.RIGHT.items() for answer in answers
]
WRONG = [entry for module in ANSWERS.values() for entry in module.WRONG]


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Thousands of tiny operations: more threads only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_each_notebook_has_three_to_seven_exercises_in_order(notebook):
    numbers = [exercise.number for exercise in exercises_of(notebook)]
    assert numbers == [f"{notebook}.{i}" for i in range(1, len(numbers) + 1)] and 3 <= len(numbers) <= 7
    assert set(ANSWERS[notebook].RIGHT) <= set(numbers) >= {number for number, _, _ in ANSWERS[notebook].WRONG}


@each_exercise
def test_exercises_are_complete(exercise):
    namespace = dict(vars(inspect.getmodule(exercise.solution)))
    exec(exercise.stub, namespace)
    assert grade(exercise.number, namespace[exercise.name]).status == "unattempted"
    assert exercise.name == exercise.solution.__name__
    assert exercise.parameters == tuple(inspect.signature(exercise.solution).parameters)
    assert exercise.title and 1 <= exercise.minutes <= 30
    assert len(exercise.hints) == len(set(exercise.hints)) == 3
    assert max(len(line) for line in exercise.cell.splitlines()) <= 120
    assert exercise.cell.endswith(f'\n{exercise.name} = check("{exercise.number}", {exercise.name})')


@pytest.mark.parametrize(("number", "answer", "dtype"), in_each_dtype(RIGHT))
def test_right_answers_pass(number, answer, dtype):
    result = grade(number, answer, dtype=dtype)
    assert result.status == "passed", result.message


@pytest.mark.parametrize("device", DEVICES)
@each_exercise
def test_solutions_pass_on_every_device(exercise, device):
    for dtype in DTYPES if exercise.kind == "brick" else DTYPES[:1]:
        result = grade(exercise.number, exercise.solution, device=device, dtype=dtype)
        assert result.status == "passed", result.message


@pytest.mark.parametrize(("number", "diagnosis", "answer", "dtype"), in_each_dtype(WRONG))
def test_plausible_wrong_answers_are_diagnosed(number, diagnosis, answer, dtype):
    result = grade(number, answer, dtype=dtype)
    assert (result.status, result.diagnosis) == ("not yet", diagnosis), result.message


@pytest.mark.parametrize("dtype", DTYPES)
@each_compared
def test_each_mistake_with_words_of_its_own_is_told_from_the_truth_and_from_the_others(exercise, dtype):
    """In one dtype by its own function, in all by answers of the tests' own, which WRONG holds."""
    answers = {"": exercise.solution} | {name: function for name, (function, _) in exercise.mistakes.items()}
    outcomes = {
        name: [_outcome(exercise, Attempt(f, exercise.parameters, dtype), case)[0] for case in exercise.all_cases()]
        for name, f in answers.items()
    }
    for one, other in itertools.combinations(outcomes, 2):
        same = (agree(a, b, exercise.tolerance) for a, b in zip(outcomes[one], outcomes[other], strict=True))
        assert not all(same), f"{one} = {other}"
    for name, function in itertools.islice(answers.items(), 1, None):
        assert grade(exercise.number, function, dtype=dtype).diagnosis == name
    assert {*exercise.mistakes} <= {diagnosis for number, diagnosis, _ in WRONG if number == exercise.number}


@each_compared
def test_cases_can_be_shown_and_their_sizes_cannot_be_confused(exercise):
    """Where two sizes are equal in all cases, or one more than the other, a relation could name the wrong one."""
    cases, sizes = exercise.all_cases(), []
    smallest = [v.numel() for v in cases[0] if isinstance(v, torch.Tensor)]
    assert len(cases) >= 2 and all(n <= 12 for n in smallest if exercise.observe is None)
    for case in cases:
        found = {}
        for name, value in zip(exercise.parameters, case, strict=False):
            if isinstance(value, torch.Tensor) and len(exercise.axes.get(name, ())) == value.dim():
                found |= dict(zip(exercise.axes[name], value.shape, strict=True))
        sizes.append(found)
    letters = [name for name in sizes[0] if not name.isdecimal()]
    for one, other in itertools.combinations(letters, 2):
        apart = {s[one] - s[other] for s in sizes if {one, other} <= set(s)}
        assert len(apart) > 1, f"{one} and {other} differ by {apart} in all cases"


@each_exercise
def test_messages_keep_the_solution_to_themselves(exercise):
    if exercise.kind == "build":
        pytest.skip("what a build's checks say holds numbers only")
    secrets = {step for step in _steps(exercise.solution) if len(step) > 16}
    wrong = [answer for number, _, answer in WRONG if number == exercise.number]
    for text in [*(grade(exercise.number, answer).message for answer in wrong), *exercise.hints[:2], exercise.passed]:
        assert not any(secret in text for secret in secrets), text
        assert max(map(len, text.splitlines())) <= 160 or text in exercise.hints


def _steps(solution) -> set[str]:
    """The pieces of a solution's source that would give it away."""
    source = inspect.getsource(solution).replace(solution.__doc__ or "", "")
    code = [line.split("#")[0].strip() for line in source.splitlines()[1:]]
    return {part.strip() for line in code for part in (line, line.removeprefix("return"), line.partition("=")[2])}
