"""The table of margins: the worst value of each claim, and what is broken, counted from runs made up here."""

import math
import statistics

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from .tools.seeds import margins, report, run

BOUND = {"text": "error", "relation": "<", "bound": 1.0}


def runs(*values, **claim):
    claims = [[BOUND | claim | {"value": value}] for value in values]
    return [
        {"notebook": "01", "data": "digits", "seed": seed, "claims": one, "problems": []}
        for seed, one in enumerate(claims)
    ]


def test_the_worst_value_and_its_margin_in_standard_deviations():
    (row,) = margins(runs(0.2, 0.4, 0.6))
    assert (row.worst, row.runs, row.broken) == (0.6, 3, 0)
    assert row.in_spreads == pytest.approx(0.4 / 0.2)
    (row,) = margins(runs(0.2, 0.4, 0.6, relation=">", bound=0.0))
    assert (row.worst, row.broken) == (0.2, 0) and row.in_spreads == pytest.approx(0.2 / 0.2)


def test_a_bound_that_is_measured_as_well_moves_with_its_value():
    first, second = runs(0.2, 0.6)
    second["claims"][0]["bound"] = 1.2
    (row,) = margins([first, second])
    assert (row.worst, row.bound, row.broken, row.runs) == (0.6, 1.2, 0, 2)
    assert row.in_spreads == pytest.approx(0.6 / statistics.stdev([0.8, 0.6]))


BROKEN = [(1.0, "<", 1), (1.0, "<=", 0), (1.1, "<=", 1), (math.nan, "<", 1), (1.0, "≈", 0), (1.1, "≈", 1)]


@pytest.mark.parametrize("value, relation, broken", BROKEN)
def test_what_is_broken(value, relation, broken, capsys):
    found = runs(0.5, value, relation=relation)
    assert margins(found)[0].broken == broken
    assert report(found) == broken
    assert ("✘ 01, digits: error" in capsys.readouterr().out) == bool(broken)


def test_infinite_values_are_compared_as_they_are():
    (row,) = margins(runs(math.inf, math.inf, relation=">=", bound=math.inf))
    assert row.broken == 0
    (row,) = margins(runs(0.5, math.inf))
    assert row.broken == 1 and row.worst == math.inf


def test_seeds_that_change_nothing_have_no_margin():
    assert math.isnan(margins(runs(0.5, 0.5))[0].in_spreads)


def test_a_failed_claim_does_not_end_the_run_and_another_error_is_told(tmp_path):
    claim = "from course_utils.teaching import claim\nclaim('one', 2, '<', 1)"
    cells = [claim, "claim('two', 0, '<', 1)", "1 / 0"]
    path = tmp_path / "99_small.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell(text) for text in cells]), path)
    found = run(path, "digits", 3)
    assert [(c["text"], c["value"]) for c in found["claims"]] == [("one", 2.0), ("two", 0.0)]
    assert found["problems"] == ["cell 2 raised ZeroDivisionError: division by zero"]
    assert found["seed"] == 3 and found["data"] == "digits"
