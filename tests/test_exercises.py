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
from course_utils.teaching.exercises._compare import Compare, _agree

NOTEBOOKS = sorted(int(path.stem[-2:]) for path in Path(__file__).parent.glob("test_exercises_[0-9][0-9].py"))
ANSWERS = {number: importlib.import_module(f"tests.test_exercises_{number:02}") for number in NOTEBOOKS}
EXERCISES = [exercise for number in NOTEBOOKS for exercise in exercises_of(number)]
RIGHT = [(exercise.number, exercise.solution) for exercise in EXERCISES] + [
    (number, answer) for module in ANSWERS.values() for number, answers in module.RIGHT.items() for answer in answers
]
WRONG = [entry for module in ANSWERS.values() for entry in module.WRONG]
COMPARED = [exercise for exercise in EXERCISES if isinstance(exercise.judge, Compare)]
MISCONCEPTIONS = [(exercise, wrong) for exercise in COMPARED for wrong in exercise.judge.misconceptions]
DTYPES = [torch.float32, torch.float64]
DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")),
]
each_exercise = pytest.mark.parametrize("exercise", EXERCISES, ids=lambda e: e.number)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Thousands of tiny operations: more threads only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_each_notebook_has_four_to_six_exercises_in_order(notebook):
    numbers = [exercise.number for exercise in exercises_of(notebook)]
    assert numbers == [f"{notebook}.{i}" for i in range(1, len(numbers) + 1)] and 4 <= len(numbers) <= 7
    assert set(ANSWERS[notebook].RIGHT) <= set(numbers) >= {number for number, _, _ in ANSWERS[notebook].WRONG}


@each_exercise
def test_exercises_are_complete(exercise):
    namespace = {}
    exec(exercise.stub, namespace)
    stub = namespace[exercise.name]
    assert grade(exercise.number, stub).status == "unattempted"
    assert exercise.name == exercise.solution.__name__
    assert exercise.parameters == tuple(inspect.signature(exercise.solution).parameters)
    assert exercise.title and 1 <= exercise.minutes <= 15
    assert len(exercise.hints) == len(set(exercise.hints)) == 3
    assert max(len(line) for line in exercise.cell.splitlines()) <= 120
    assert exercise.cell.endswith(f'check("{exercise.number}", {exercise.name})')


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("number", "answer"), RIGHT)
def test_right_answers_pass(number, answer, dtype):
    result = grade(number, answer, dtype=dtype)
    assert result.status == "passed", result.message


@pytest.mark.parametrize("device", DEVICES)
@each_exercise
def test_solutions_pass_on_every_device(exercise, device):
    assert grade(exercise.number, exercise.solution, device=device).status == "passed"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("exercise", "wrong"), MISCONCEPTIONS, ids=[f"{e.number}-{m.name}" for e, m in MISCONCEPTIONS])
def test_each_misconception_is_recognised(exercise, wrong, dtype):
    result = grade(exercise.number, wrong.wrong, dtype=dtype)
    assert (result.status, result.diagnosis) == ("not yet", wrong.name), result.message


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("number", "diagnosis", "answer"), WRONG)
def test_plausible_wrong_answers_are_diagnosed(number, diagnosis, answer, dtype):
    result = grade(number, answer, dtype=dtype)
    assert (result.status, result.diagnosis) == ("not yet", diagnosis), result.message


@each_exercise
def test_every_known_mistake_is_made_by_an_answer_of_the_tests_own(exercise):
    """The judge recognises its own wrong functions in any case, with a slip in them too."""
    known = {mistake.name for mistake in getattr(exercise.judge, "misconceptions", ())}
    made = {diagnosis for number, diagnosis, _ in WRONG if number == exercise.number}
    assert known <= made, known - made


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("exercise", COMPARED, ids=lambda e: e.number)
def test_cases_separate_every_misconception_from_the_truth_and_from_the_others(exercise, dtype):
    judge = exercise.judge
    assert len(judge.misconceptions) >= 5
    answers = {"solution": exercise.solution} | {m.name: m.wrong for m in judge.misconceptions}
    assert len(answers) == len(judge.misconceptions) + 1
    outcomes = {
        name: [outcome for outcome, _ in judge.outcomes(Attempt(answer, exercise.parameters, dtype))]
        for name, answer in answers.items()
    }
    for one, other in itertools.combinations(outcomes, 2):
        assert not all(map(_agree, outcomes[one], outcomes[other])), f"{one} = {other}"


@each_exercise
def test_messages_are_distinct_and_keep_the_solution_to_themselves(exercise):
    wrong = [answer for number, _, answer in WRONG if number == exercise.number]
    wrong += [m.wrong for m in getattr(exercise.judge, "misconceptions", ())]
    results = [grade(exercise.number, answer) for answer in wrong]
    advice = {}
    for result in results:
        prose = [line for line in result.message.splitlines() if not line.startswith("    ")]
        advice.setdefault(result.diagnosis, " ".join(prose))
    assert len(advice) >= 5 and len(set(advice.values())) == len(advice)

    secrets = {step for step in _steps(exercise.solution) if len(step) > 16}
    assert len(secrets) >= 2
    for text in [*(result.message for result in results), *exercise.hints[:2], exercise.passed]:
        assert not any(secret in text for secret in secrets), text
        assert max(map(len, text.splitlines())) <= 160 or text in exercise.hints


def _steps(solution) -> set[str]:
    """The pieces of a solution's source that would give it away."""
    code = [line.split("#")[0].strip() for line in inspect.getsource(solution).splitlines()[1:]]
    return {part.strip() for line in code for part in (line, line.removeprefix("return"), line.partition("=")[2])}
