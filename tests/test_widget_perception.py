"""The explorer of perception against distortion: its point, its images and its words."""

import pytest
import torch

from course_utils.teaching.widgets.perception import Perception, still_perception

from .test_widgets import pixels, place

SHADES = {float(k): 0.1 * k for k in range(10)}  # weight -> shade of all images
PATH = {w: (30.0 + w, 12.0 - w, torch.full((3, 1, 8, 8), shade)) for w, shade in SHADES.items()}
ORIGINALS = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def picture():
    return Perception(PATH, ORIGINALS, axes=("squared error", "FD"))


def test_the_slider_goes_from_weight_to_weight_and_the_dot_along_the_path(picture):
    shown = [pixels(picture.render(k)) for k in range(10)]
    for k, (weight, (x, y, _)) in enumerate(PATH.items()):
        row, column = place(picture, picture.plane, x, y)
        there = [image[row, column].sum() for image in shown]  # the dot is darker than the path's own marks
        assert there[k] < min(there[:k] + there[k + 1 :]), weight
    assert picture.describe(5) == "Weight 5: squared error 35.0, FD 7.0."


@pytest.mark.parametrize(("k", "shade"), [*enumerate(SHADES.values())])
def test_the_images_are_those_of_the_weight(picture, k, shade):
    shown = pixels(picture.render(k))
    box = picture.below.get_window_extent()
    row = round(picture.figure.bbox.height - (box.y0 + box.y1) / 2)
    middle = shown[row, round(box.x0 + box.width / 2)]
    assert abs(middle - 255 * shade).max() < 4


def test_the_still_figure_has_a_row_for_each_place_and_says_its_numbers():
    figure = still_perception(PATH, ORIGINALS, places=(0, 5))
    assert figure.alt == "A: Weight 0: distortion 30.0, perception 12.0. B: Weight 5: distortion 35.0, perception 7.0."
    with pytest.raises(ValueError, match="outside"):
        still_perception(PATH, ORIGINALS, places=(10,))


def test_a_path_has_ten_weights_and_the_images_of_the_originals():
    for path in ({w: PATH[w] for w in [*PATH][:9]}, PATH | {3.0: (1.0, 1.0, torch.rand(2, 1, 8, 8))}):
        with pytest.raises(ValueError, match="ten or more weights"):
            Perception(path, ORIGINALS)
    with pytest.raises(ValueError, match="images must be"):
        Perception(PATH, torch.rand(3, 64))
