"""The explorer of a flow of codes: its points on the map, what they decode to, its words."""

import numpy as np
import pytest
import torch

from course_utils.teaching.widgets.flow_path import COLUMNS, FlowPath

from .test_widgets import pixels, place

LABELS = torch.arange(300) % 3
MEANS = torch.tensor([[2.0, 0.0, 1.0, 0.0], [-1.0, 2.0, 1.0, 0.0], [-1.0, -2.0, 1.0, 0.0]])
CODES = MEANS[LABELS] + 0.3 * torch.randn(300, 4, generator=torch.Generator().manual_seed(0))
START = torch.tensor([[0.5, 0.5, 0.0, 1.0], [-0.5, 0.2, 0.0, -1.0], [0.1, -0.6, 2.0, 0.0]])


def path(digit, guidance):
    """Ten straight steps to the class's mean and beyond."""
    end = MEANS[digit % 3] * (1 + guidance / 4) + 0.2 * START
    t = torch.linspace(0, 1, 11).view(-1, 1, 1)
    return (1 - t) * START + t * end


def decode(z):
    """One shade for each code, that of its first number."""
    return (0.5 + z[:, :1] / 8)[:, :, None, None].expand(-1, 1, 4, 4)


@pytest.fixture(scope="module")
def picture():
    return FlowPath(path, decode, CODES, LABELS)


def test_the_map_shows_the_plane_of_the_class_means(picture):
    on_map = picture.on_map(MEANS.double().numpy())
    apart = np.linalg.norm(on_map[0] - on_map[1]), np.linalg.norm(on_map[1] - on_map[2])
    assert apart == pytest.approx((13**0.5, 4), abs=0.02)  # as far as in all four dimensions


@pytest.mark.parametrize("time", [0.0, 0.5, 1.0])
def test_the_points_stand_where_the_path_is_at_that_time(picture, time):
    there, elsewhere = (pixels(picture.render(0, t, 0)) for t in (time, 0.25))
    orange = np.array([0xE6, 0x9F, 0x00])
    for code in path(0, 0.0)[round(10 * time)].double().numpy():
        row, column = place(picture, picture.map_axes, *picture.on_map(code))
        assert (there[row, column] == orange).all() and (elsewhere[row, column] != orange).any()


def test_the_whole_path_is_drawn_at_any_time_so_that_guidance_is_seen_at_once(picture):
    plain, guided = (pixels(picture.render(0, 0.0, w)) for w in (0.0, 3.0))
    assert np.abs(plain - guided).max() > 100
    whole, walked = picture.lines
    picture.render(0, 0.5, 0)
    assert len(whole.get_xdata()) == 3 * 12 and len(walked.get_xdata()) == 3 * 7  # with a gap after each path
    assert np.isnan(whole.get_xdata()[11::12]).all()


def test_each_point_is_decoded_in_its_place(picture):
    framed = picture.images(1, 1.0, 2.0)
    assert framed.shape == (6, 6 * COLUMNS)
    shades = [framed[2, 6 * i + 2] for i in range(3)]
    assert shades == pytest.approx((0.5 + path(1, 2.0)[-1][:, 0] / 8).tolist(), abs=1e-6)
    assert (framed[:, 18:] == 1).all() and framed[0, 0] == 0.5  # nothing where there is no point


def test_the_words_hold_both_distances(picture):
    codes = path(2, 1.0)[5]
    from_class = (codes - CODES[LABELS == 2].mean(0)).norm(dim=1).mean().item()
    from_own = (codes - codes.mean(0)).norm(dim=1).mean().item()
    words = picture.describe(2, 0.5, 1.0)
    assert words.startswith("On the way to a 2 with guidance 1.0, at t = 0.50: the points lie ")
    assert f"{from_class:.2f} from the mean code of that class, {from_own:.2f} from their own mean." in words
    assert "mean code of that class" not in picture.describe(7, 0.5, 1.0)  # no such codes here


def test_a_path_is_asked_for_once():
    asked = []
    picture = FlowPath(lambda y, w: asked.append((y, w)) or path(y, w), decode, CODES, LABELS)
    before = len(asked)
    for time in (0.0, 0.5, 1.0):
        picture.render(1, time, 0.5)
    assert len(asked) == before + 1 and all(isinstance(y, int) for y, _ in asked)


@pytest.mark.parametrize(
    ("path", "codes", "labels"),
    [
        (lambda y, w: path(y, w)[:5], CODES, LABELS),
        (lambda y, w: path(y, w)[..., :2], CODES, LABELS),
        (path, CODES, LABELS[:5]),
        (path, CODES[:, :, None], LABELS),
    ],
)
def test_shapes_that_do_not_go_together_are_refused(path, codes, labels):
    with pytest.raises(ValueError, match=r"path must give \(T \+ 1, P, L\)"):
        FlowPath(path, decode, codes, labels)
