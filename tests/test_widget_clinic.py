"""The explorer of the sampling slip: its numbers, its picture at the ends of the slider, its words."""

import numpy as np
import pytest
import torch

from course_utils.teaching.clinic import SmallVAE, second_opinion, train
from course_utils.teaching.widgets.clinic import RANGE, SigmaKnob


@pytest.fixture(scope="module")
def patient():
    """A small VAE, trained for a moment on stripes, and images."""
    torch.manual_seed(0)
    rows = torch.rand(400, 1, 28, 1).round().expand(-1, -1, -1, 28).contiguous()
    model = SmallVAE(latent_dim=4, hidden=64)
    train(model, lambda: ((part,) for part in rows.split(50)), steps=200)
    return model, rows[:100]


def test_reported_and_true_agree_at_one_half_and_only_there(patient):
    knob = SigmaKnob(*patient)
    reported, true = knob.at(0.5)
    assert reported == pytest.approx(true, rel=1e-5)
    assert true == pytest.approx(second_opinion(*patient)[0], rel=0.05)
    assert knob.at(1.0)[1] - knob.at(1.0)[0] > 1 and knob.at(0.1)[0] - knob.at(0.1)[1] > 0.5


def test_the_reported_loss_falls_and_the_true_one_has_its_lowest_point_near_one_half(patient):
    knob = SigmaKnob(*patient)
    assert (np.diff(knob.losses.reported[::6]) < 0).all()
    assert abs(knob.ks[knob.losses.true.argmin()] - 0.5) <= 0.2


def test_the_caption_is_beside_the_curves_and_inside_the_picture(patient):
    knob = SigmaKnob(*patient)
    for k in RANGE:
        knob.render(k)
        caption = knob.caption.get_window_extent()
        assert knob.curve_axes.bbox.x1 < caption.x0 and caption.x1 < knob.caption.figure.bbox.x1


def test_words_say_what_is_hidden(patient):
    knob = SigmaKnob(*patient)
    assert "they agree" in knob.describe(0.5)
    assert "it hides" in knob.describe(1.0) and "too high" in knob.describe(0.1)


def test_too_few_images_are_refused(patient):
    model, x = patient
    with pytest.raises(ValueError, match="at least 6"):
        SigmaKnob(model, x[:3])


def test_the_global_random_state_is_left_alone(patient):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    SigmaKnob(*patient)
    assert torch.equal(before, torch.get_rng_state())
