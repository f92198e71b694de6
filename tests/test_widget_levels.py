"""The explorer of levels: rows from all levels kept to none, told and drawn."""

import pytest
import torch

from course_utils.teaching.widgets.levels import Levels, still_levels

from .test_widgets import pixels, place, redraw


@pytest.fixture(scope="module")
def picture():
    return Levels(redraw, 3)


def test_rows_go_from_all_levels_kept_to_none(picture):
    rows = torch.as_tensor(picture.rows(2, 1.0)).unflatten(0, (4, 8)).unflatten(2, (8, 8))[:, 4, :, 4]  # shades
    torch.testing.assert_close(rows[0], rows[0, :1].expand(8))
    for kept in range(4):
        torch.testing.assert_close(rows[3 - kept], redraw(2, kept, 1.0)[:, 0, 0, 0])


def test_words_name_the_levels_and_say_how_far_pictures_differ(picture):
    words = picture.describe(2, 1.0)
    assert words.startswith("Code 2, temperature 1.0.") and "z_3, z_2, z_1 kept: 0.00" in words
    spread = [float(part.rpartition(" ")[2]) for part in words.rstrip(".").partition("differ: ")[2].split("; ")]
    assert len(spread) == 4 and spread == sorted(spread) and spread[-1] > 0.1
    assert "none kept" in words and "$" not in words


def test_the_picture_shows_what_it_computes(picture):
    shown = pixels(picture.render(9, 0.0))
    row, column = place(picture, picture.axes, 4, 4)
    assert abs(shown[row, column, 0] / 255 - 0.6) < 0.02
    left = min(label.get_window_extent().x0 for label in picture.axes.get_yticklabels())
    assert left > 0 and picture.caption.get_window_extent().y1 < picture.figure.bbox.height


def test_other_pictures_and_levels_are_refused():
    with pytest.raises(ValueError, match="levels"):
        Levels(redraw, 0)
    with pytest.raises(ValueError, match="expected"):
        Levels(lambda *at: redraw(*at)[:5], 3)
    assert "Code 0" in still_levels(redraw, 3, [(0, 1.0)]).alt
