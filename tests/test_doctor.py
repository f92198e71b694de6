"""The doctor finds what is broken, and leaves alone what is not."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from course_utils.doctor import examine
from tests import doctor_patients as patients


@pytest.fixture(scope="module")
def digits():
    from course_utils.data import load_images

    return load_images("digits").train


@pytest.fixture(scope="module")
def batches(digits):
    x = digits[:32]
    return {"pixels": x, "standardised": (x - x.mean()) / x.std(), "bytes": 255 * x}


@pytest.fixture(scope="module")
def conds(digits):
    labels = digits.labels[:32]
    return {"": None, "label": labels, "one-hot": F.one_hot(labels, 10).float()}


@pytest.mark.parametrize("case", patients.BROKEN, ids=lambda case: case.name)
def test_finds_what_is_broken(case, batches):
    torch.manual_seed(0)
    diagnosis = examine(case.make(), batches[case.data], loss=case.loss)
    found = diagnosis.find(case.code)
    assert found is not None, str(diagnosis)
    assert found.severity == ("error" if case.error else "warning"), str(diagnosis)
    errors = {finding.code for finding in diagnosis.errors}
    assert errors - set(case.also) == ({case.code} if case.error else set()), str(diagnosis)


@pytest.mark.parametrize("case", patients.HEALTHY, ids=lambda case: case.name)
def test_leaves_correct_models_alone(case, batches, conds):
    torch.manual_seed(0)
    diagnosis = examine(case.make(), batches[case.data], cond=conds[case.cond], loss=case.loss)
    assert diagnosis.ok, str(diagnosis)
    assert not [f for f in diagnosis.findings if f.severity == "warning"], str(diagnosis)
    assert not [text for text in diagnosis.unchecked if "failed" in text or "raised" in text], str(diagnosis)
