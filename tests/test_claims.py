"""Claims: what is printed, what is refused, and what is gathered."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from course_utils.data import load
from course_utils.teaching import claim, session


@pytest.fixture
def using(monkeypatch):
    return lambda name: monkeypatch.setattr(load, "current_dataset", lambda: name)


@pytest.mark.parametrize(
    ("value", "relation", "bound", "line"),
    [
        (0.12345678, "<", 1, "✔ it holds: 0.1235 < 1"),
        (1, "<=", 1, "✔ it holds: 1 <= 1"),
        (2.4e-8, "<", 1e-5, "✔ it holds: 2.4e-08 < 1e-05"),
        (np.float32(0.5), ">", 0.25, "✔ it holds: 0.5 > 0.25"),
        (np.array([3]), ">=", 3.0, "✔ it holds: 3 >= 3"),
        (torch.tensor(0.5, requires_grad=True), "<", torch.tensor(1.0), "✔ it holds: 0.5 < 1"),
        (torch.tensor([0.5], dtype=torch.bfloat16), "<", 1.0, "✔ it holds: 0.5 < 1"),
        (0.0999999, "<", 0.1, "✔ it holds: 0.0999999 < 0.1"),  # never "0.1 < 0.1"
        (math.inf, ">", 10, "✔ it holds: inf > 10"),
        (60_000, ">=", 50_000, "✔ it holds: 60,000 >= 50,000"),
        (12345.678, "<", 2e10, "✔ it holds: 12,346 < 2e+10"),
        (10_000.2, ">", 10_000, "✔ it holds: 10,000.2 > 10,000"),
        (-1234.5678, "<", 0, "✔ it holds: -1,235 < 0"),
    ],
)
def test_a_claim_that_holds_prints_its_number(capsys, value, relation, bound, line):
    claim("it holds", value, relation, bound)
    assert capsys.readouterr().out == line + "\n"


@pytest.mark.parametrize(
    ("value", "relation", "bound"), [(1, "<", 1), (2, "<=", 1), (1, ">", 1), (0, ">=", 1), (math.nan, "<", 1)]
)
def test_a_claim_that_does_not_hold_raises_with_the_same_numbers(capsys, value, relation, bound):
    with pytest.raises(AssertionError) as caught:
        claim("it holds", value, relation, bound)
    assert str(caught.value) == f"✘ it holds: measured {value:g}, claimed {relation} {bound}"
    assert capsys.readouterr().out == ""


def test_the_offline_digits_may_have_a_bound_of_their_own(capsys, using):
    using("digits")
    claim("small", 3, "<", 2, digits=4)
    assert capsys.readouterr().out == "✔ small: 3 < 4 (bound for the offline digits)\n"
    with pytest.raises(AssertionError, match=r"measured 5, claimed < 4 \(bound for the offline digits\)"):
        claim("small", 5, "<", 2, digits=4)
    claim("zero is a bound", -1, "<", -2, digits=0)
    using("mnist")
    with pytest.raises(AssertionError, match="measured 3, claimed < 2$"):
        claim("small", 3, "<", 2, digits=4)


NUMBERS, NUMBER = "must be one number; got shape", "must be a number; got"


@pytest.mark.parametrize(
    ("a", "relation", "b", "more", "error", "said"),
    [
        *((1, relation, 2, {}, ValueError, "one of <, <=, >, >=, ≈; got") for relation in ("==", "=<", "", None)),
        (torch.zeros(3), "<", 2, {}, TypeError, rf"a {NUMBERS} \(3,\)"),
        (np.zeros((2, 2)), "<", 2, {}, TypeError, rf"a {NUMBERS} \(2, 2\)"),
        (torch.zeros(0), "≈", 1, {"within": 1}, TypeError, rf"{NUMBERS} \(0,\)"),
        ("0.5", "<", 2, {}, TypeError, f"a {NUMBER} str '0.5'"),
        (None, "<", 2, {}, TypeError, f"a {NUMBER} NoneType"),
        (1j, "<", 2, {}, TypeError, f"a {NUMBER} complex"),
        ([0.5], "<", 2, {}, TypeError, f"a {NUMBER} list"),
        (1, "<", "2", {}, TypeError, f"b {NUMBER}"),
        (1, "<", 2, {"digits": "2"}, TypeError, f"digits {NUMBER}"),
        (1, "<", math.nan, {}, ValueError, "bound is NaN"),
        (1, "≈", 1, {"within": math.nan}, ValueError, "bound is NaN"),
        (1, "≈", 1, {}, TypeError, 'within= belongs to "≈"'),
        (1, "<", 1, {"within": 0.1}, TypeError, 'within= belongs to "≈"'),
        (torch.zeros(2, 2), "≈", torch.zeros(4), {"within": 1}, ValueError, r"shapes, not \(2, 2\) with \(4,\)"),
    ],
)
def test_what_cannot_be_compared_is_refused(using, a, relation, b, more, error, said):
    using("digits")
    with pytest.raises(error, match=said):
        claim("?", a, relation, b, **more)


def test_claims_are_gathered_in_a_file(tmp_path, monkeypatch, using):
    file = tmp_path / "claims.jsonl"
    monkeypatch.setenv("COURSE_CLAIMS", str(file))
    monkeypatch.setenv("COURSE_NOTEBOOK", "01_autoencoder")
    using("mnist")
    monkeypatch.setattr(session, "current", None)
    session.start_session(seed=5)
    claim("codes of size σ", 1.5, "<", 2)
    with pytest.raises(AssertionError):
        claim("broken", 3, "<", 2)
    kept, broken = (json.loads(line) for line in file.read_text(encoding="utf-8").splitlines())
    expected = {"notebook": "01_autoencoder", "text": "codes of size σ", "value": 1.5, "relation": "<", "bound": 2.0}
    assert kept == expected | {"data": "mnist", "holds": True, "seed": 5}
    assert not broken["holds"]


def test_the_current_data_set_is_the_one_loaded_last(monkeypatch, capsys):
    monkeypatch.setattr(load, "last_loaded", None)
    assert load.current_dataset() is None
    load.load_images("digits")
    claim("small", 3, "<", 2, digits=4)
    assert "(bound for the offline digits)" in capsys.readouterr().out


# --- nearly equal -------------------------------------------------------------------------------

FOUR = torch.tensor([[1.0, 2.0], [3.0, 4.0]])


@pytest.mark.parametrize(
    ("a", "b", "within", "line"),
    [
        (84.21234, 84.21239, 1e-3, "✔ alike: 84.21 ≈ 84.21, 5e-05 apart, at most 0.001"),
        (1, torch.tensor(1.0), 0, "✔ alike: 1 ≈ 1, 0 apart, at most 0"),
        (FOUR, FOUR.numpy() + 0.25, 0.25, "✔ alike: 4 numbers ≈ 4 numbers, 0.25 apart, at most 0.25"),
        (FOUR.requires_grad_(), 2.5, 1.5, "✔ alike: 4 numbers ≈ 2.5, 1.5 apart, at most 1.5"),
    ],
)
def test_what_is_nearly_equal_prints_both_and_how_far_they_are_apart(capsys, a, b, within, line):
    claim("alike", a, "≈", b, within=within)
    assert capsys.readouterr().out == line + "\n"


@pytest.mark.parametrize("b", [1.2, 0.8, math.nan, math.inf, torch.tensor([1.0, 1.2]), torch.tensor([1.0, math.nan])])
def test_what_is_too_far_apart_raises(b):
    with pytest.raises(AssertionError, match=r"✘ alike: measured 1, claimed ≈ .+ apart, at most 0\.1$"):
        claim("alike", 1.0, "≈", b, within=0.1)


def test_near_has_its_own_tolerance_on_the_digits_and_gathers_the_distance(tmp_path, monkeypatch, using):
    monkeypatch.setenv("COURSE_CLAIMS", str(tmp_path / "claims.jsonl"))
    using("digits")
    claim("alike", 1.0, "≈", 3.0, within=1, digits=2)
    entry = json.loads((tmp_path / "claims.jsonl").read_text(encoding="utf-8"))
    assert (entry["value"], entry["relation"], entry["bound"], entry["holds"]) == (2.0, "≈", 2.0, True)
