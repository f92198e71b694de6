"""The stored comparison: each contestant gets its share of the budget and is measured; the file is the command's."""

import json
import math
import time

import pytest
import torch

from course_utils import load_images
from course_utils.evaluation import train_judge
from course_utils.models import VAE
from course_utils.teaching import comparison


@pytest.fixture(scope="module")
def data():
    return load_images("digits", device="cpu")


@pytest.fixture(scope="module")
def found(data):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparison, "train_judge", lambda data, show: train_judge(data, steps=200, show=show))
        return comparison.compare(data, seconds=0.05, seeds=1, samples=60, show=False)


def test_every_contestant_is_trained_and_measured(found):
    names = list(found["rows"])
    assert names[0] == "training images" and len(names) == len(set(names)) == 11
    for name, (row,) in found["rows"].items():
        assert set(row) == {*comparison.COLUMNS, "steps", "seconds"}, name
        assert all(map(math.isfinite, row.values())) and row["FD"] >= 0, name
        assert 0 <= min(row["precision"], row["recall"], row["recognised"]) <= 1, name
        assert row["steps"] > 0 or name == "training images"


def test_real_images_are_the_best_contestants(found):
    real, others = found["rows"]["training images"][0], [r for n, (r,) in found["rows"].items() if "VAE" in n]
    assert real["recognised"] > 0.5 and all(real["FD"] < row["FD"] for row in others)


def test_the_budget_becomes_steps_and_a_model_gets_nearly_all_of_it(data):
    model = VAE(latent_dim=5)
    x = data.train[:]
    start = time.process_time()
    cost = comparison.train_for(0.5, model, x)
    assert 0.1 < cost["seconds"] <= time.process_time() - start
    assert not model.training
    more = comparison.train_for(0.0, VAE(latent_dim=5), x)
    assert more["steps"] == 1  # never none


def test_what_is_stored_is_what_the_command_writes(found):
    stored = comparison.stored()
    assert stored["data"] == "mnist" and stored["samples"] == comparison.SAMPLES
    assert set(stored) == set(found) and set(found["rows"]) <= set(stored["rows"])
    for name, rows in stored["rows"].items():
        assert len(rows) == (1 if name not in found["rows"] or name == "training images" else stored["seeds"])
        assert all(set(row) == set(found["rows"]["VAE"][0]) for row in rows)


def test_families_trained_alone_take_their_places_and_others_stay(data, monkeypatch, tmp_path):
    monkeypatch.setattr(comparison, "STORED", tmp_path / "comparison.json")
    monkeypatch.setattr(comparison, "load_images", lambda *a, **k: data)
    monkeypatch.setattr(comparison, "train_judge", lambda data, show: train_judge(data, steps=5, show=False))
    monkeypatch.setattr(comparison, "SAMPLES", 20)
    monkeypatch.setattr(comparison.compare, "__kwdefaults__", comparison.compare.__kwdefaults__ | {"samples": 20})
    old = {"seconds": 0.02, "seeds": 1, "samples": 20, "data": "digits", "rows": {"VAE": [1], "GAN, MLP": [2]}}
    comparison.STORED.write_text(json.dumps(old))
    monkeypatch.setattr(torch, "set_num_threads", lambda n: None)
    comparison.main(["--only", "VAE", "--seconds", "0.02", "--seeds", "1"])
    new = comparison.stored()
    assert list(new["rows"]) == ["VAE", "GAN, MLP"] and new["rows"]["GAN, MLP"] == [2] and "FD" in new["rows"]["VAE"][0]
    comparison.main(["--only", "VAE", "--seconds", "1", "--seeds", "2"])
    longer = comparison.stored()
    assert list(longer["rows"]) == ["VAE", "GAN, MLP", "VAE, 1 s"] and len(longer["rows"]["VAE, 1 s"]) == 2
    assert {k: v for k, v in longer.items() if k != "rows"} == {k: v for k, v in old.items() if k != "rows"}


def test_the_command_writes_the_file(monkeypatch, tmp_path, data, capsys):
    monkeypatch.setattr(comparison, "STORED", tmp_path / "comparison.json")
    monkeypatch.setattr(comparison, "load_images", lambda *a, **k: data)
    came = {}
    monkeypatch.setattr(comparison, "compare", lambda data, **k: came.update(k) or {"rows": {}})
    threads = torch.get_num_threads()
    try:
        comparison.main(["--seconds", "2", "--seeds", "1"])
    finally:
        torch.set_num_threads(threads)
    assert came == {"seconds": 2.0, "seeds": 1, "only": comparison.FAMILIES} and comparison.stored() == {"rows": {}}
    assert str(tmp_path) in capsys.readouterr().out


def test_measuring_takes_as_many_samples_as_there_are_images_to_compare_with(data):
    judge, counted = train_judge(data, steps=5, show=False), []

    def draw(n):
        counted.append(n)
        return data.train[:n]

    row = comparison.measure(draw, judge, judge.features(data.test[:50]))
    assert counted == [50] and tuple(row) == comparison.COLUMNS
