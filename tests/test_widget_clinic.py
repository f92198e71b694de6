"""The explorer of the sampling slip: its numbers, its picture at the ends of the slider, its words."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from course_utils.teaching.clinic import SmallVAE, second_opinion, train
from course_utils.teaching.widgets.clinic import RANGE, SigmaKnob, explore_sigma_knob, still_sigma_knob


@pytest.fixture(scope="module")
def patient():
    """A small VAE, trained for a moment on stripes, and images."""
    torch.manual_seed(0)
    rows = torch.rand(400, 1, 28, 1).round().expand(-1, -1, -1, 28).contiguous()
    model = SmallVAE(latent_dim=4, hidden=64)
    train(model, lambda: ((part,) for part in rows.split(50)), steps=200)
    return model, rows[:100]


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)))


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


@pytest.mark.parametrize("k", [*RANGE, 0.5, 1.0])
def test_the_picture_at_the_ends_of_the_slider(patient, k):
    knob = SigmaKnob(*patient)
    image = pixels(knob.render(k))
    assert image.shape[2] == 3 and image.std() > 10
    assert not np.array_equal(image, pixels(knob.render(0.7)))
    assert np.array_equal(image, pixels(knob.render(k)))  # nothing of the last picture is left
    assert f"{k:.2f}" in knob.describe(k)


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


def test_the_panel_and_the_still_picture(patient):
    box = explore_sigma_knob(*patient, start=1.0)
    slider = box.children[0].children[0]
    before = box.children[1].value
    slider.value = 0.25
    assert box.children[1].value != before and "0.25" in box.children[2].value
    assert len(still_sigma_knob(*patient).axes) == 4


def test_bad_arguments_are_refused(patient):
    model, x = patient
    with pytest.raises(ValueError, match="from 0 to 1.5"):
        explore_sigma_knob(model, x, start=2.0)
    for ks in ((), (0.5, 1, 1, 1), (-1,)):
        with pytest.raises(ValueError, match="1 to 3 values"):
            still_sigma_knob(model, x, ks=ks)
    with pytest.raises(ValueError, match="at least 6"):
        SigmaKnob(model, x[:3])


def test_the_global_random_state_is_left_alone(patient):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    SigmaKnob(*patient)
    assert torch.equal(before, torch.get_rng_state())
