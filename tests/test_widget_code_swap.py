"""The explorer of a grid of codes: what it decodes, where its frame stands, and its words."""

import numpy as np
import pytest
import torch

from course_utils.teaching.widgets.code_swap import CodeSwap

from .test_widgets import pixels, place

INDEX = torch.tensor([[0, 1, 2, 3, 0, 1], [3, 3, 3, 3, 3, 3]])  # two images, a grid of 2 rows and 3 columns


def decode(index):
    """(n, 6) -> (n, 1, 8, 12): a shade for each code, each where its place is."""
    return (index / 4).view(-1, 1, 2, 3).repeat_interleave(4, 2).repeat_interleave(4, 3)


@pytest.fixture(scope="module")
def picture():
    return CodeSwap(decode, INDEX, grid=(2, 3), codes=4)


def test_one_code_is_exchanged_and_the_codes_that_were_given_stay(picture):
    before, after = picture.pair(0, 4, 2)
    assert np.array_equal(before, decode(INDEX[:1])[0, 0].numpy())
    changed = INDEX[:1].clone()
    changed[0, 4] = 2
    assert np.array_equal(after, decode(changed)[0, 0].numpy())
    assert INDEX[0, 4] == 0
    left, top, width, height = picture.box(4, before.shape)
    rows, columns = np.nonzero(before != after)
    assert (rows.min(), rows.max()) == (top + 0.5, top + height - 0.5)
    assert (columns.min(), columns.max()) == (left + 0.5, left + width - 0.5)


def test_the_frame_and_the_difference_are_drawn(picture):
    shown = pixels(picture.render(1, 5, 2))
    ax = picture.images[2].axes
    assert (shown[place(picture, ax, 5.5, 5.5)] != 255).any()  # the changed place, in colour
    assert (shown[place(picture, ax, 1.5, 1.5)] >= 240).all()  # elsewhere no difference
    edge = shown[place(picture, ax, 5.5, 3.5)]
    assert edge[0] > edge[2] + 60  # the frame's orange


def test_the_words_say_where_and_how_much(picture):
    assert picture.describe(1, 5, 2) == (
        "Image 1, row 2, column 2: code 2 in place of 0; 16 of 96 pixels change by more than 0.1, the largest by 0.50."
    )
    assert picture.describe(2, 1, 3) == "Image 2, row 1, column 1: 3 is the code that stands there."


@pytest.mark.parametrize(
    ("index", "grid", "codes"),
    [(INDEX, (2, 2), 4), (INDEX, (6,), 4), (INDEX, (2, 3), 3), (INDEX - 1, (2, 3), 4), (INDEX.float(), (2, 3), 4)],
)
def test_codes_must_fit_the_grid_and_the_book(index, grid, codes):
    with pytest.raises(ValueError, match=r"index must be|codes must lie"):
        CodeSwap(decode, index, grid=grid, codes=codes)
