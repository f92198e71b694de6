"""The explorer: its picture at the ends of every slider, its messages, and its still stand-in."""

import numpy as np
import pytest
import torch

from course_utils.teaching.widgets import still_code_plane
from course_utils.teaching.widgets.code_plane import CodePlane

from .test_widgets import CODES, LABELS, pixels, place

PLANE = CODES[:, :2]  # whose map goes from -4 to 4 and from -2 to 2
CORNERS_AND_MIDDLE = [(-4.0, -2.0), (-4.0, 2.0), (4.0, -2.0), (4.0, 2.0), (0.0, 0.0), (1.3, -0.7)]


def decode(z):
    """The left half of the image says where z₁ is, the right half where z₂ is, as shades from 0.1 to 0.9."""
    shade = torch.stack([0.5 + z[:, 0] / 10, 0.5 + z[:, 1] / 5], dim=1)
    images = torch.zeros(len(z), 1, 28, 28)
    images[..., :14] = shade[:, 0].view(-1, 1, 1, 1)
    images[..., 14:] = shade[:, 1].view(-1, 1, 1, 1)
    return images


@pytest.fixture
def plane():
    return CodePlane(decode, PLANE, LABELS)


@pytest.mark.parametrize(("z1", "z2"), CORNERS_AND_MIDDLE)
def test_picture_shows_the_decoding_of_exactly_this_code(plane, z1, z2):
    picture = pixels(plane.render(z1, z2))
    for x, shade in [(0.25, 0.5 + z1 / 10), (0.75, 0.5 + z2 / 5)]:
        row, column = place(plane, plane.image_axes, x, 0.5)
        assert np.abs(picture[row, column] - 255 * shade).max() <= 1.5


@pytest.mark.parametrize(("z1", "z2"), CORNERS_AND_MIDDLE)
def test_cross_hair_is_at_the_code(plane, z1, z2):
    background = pixels(plane.render(-3.1, 1.4) if (z1, z2) == (0, 0) else plane.render(0.0, 0.0))
    picture = pixels(plane.render(z1, z2))
    assert list(plane.vertical.get_xdata()) == [z1, z1]
    assert list(plane.horizontal.get_ydata()) == [z2, z2]
    free_x = next(x for x in (-3.5, 3.5, 3.0) if abs(x - z1) > 0.4)
    free_y = next(y for y in (-1.75, 1.75, 1.5) if abs(y - z2) > 0.4)
    for x, y in [(z1, free_y), (free_x, z2)]:  # on each line, away from the ring
        row, column = place(plane, plane.map_axes, x, y)
        patch = slice(row - 1, row + 2), slice(column - 1, column + 2)
        assert picture[patch].min() < 80
    row, column = place(plane, plane.map_axes, 0.0, free_y)
    if abs(z1) > 0.4 and (z1, z2) != (0, 0):  # the old line is gone
        assert background[row, column].max() < 120 < picture[row, column].min()


def test_decode_gets_the_slider_values_as_one_code_without_gradient():
    seen = []

    def spy(z):
        seen.append((z.shape, z.dtype, z[0].tolist(), torch.is_grad_enabled()))
        return decode(z)

    CodePlane(spy, PLANE, LABELS).render(1.25, -0.5)
    assert seen == [((1, 2), torch.float32, [1.25, -0.5], False)]


def test_words_name_the_nearest_code(plane):
    assert "nearest code is that of a 7, 0.00 away" in plane.describe(*PLANE[7].tolist())
    assert "z = (−1.00, 0.50)" in plane.describe(-1.0, 0.5)


def test_all_codes_are_reachable(plane):
    z1, z2 = plane.sliders.values()
    assert (PLANE.amin(0) >= torch.tensor([z1.low, z2.low])).all() and z1.low == -4
    assert (PLANE.amax(0) <= torch.tensor([z1.high, z2.high])).all() and z2.high == 2


# --- the still picture


def test_still_shows_every_point_and_its_decoding():
    points = CORNERS_AND_MIDDLE
    fig = still_code_plane(decode, PLANE, LABELS, points)
    code_map, *cells = fig.axes
    letters = {t.get_text(): t.xy for t in code_map.texts if t.get_text() in "ABCDEF"}
    assert letters == {letter: pytest.approx(p) for letter, p in zip("ABCDEF", points, strict=True)}
    dots = [tuple(np.ravel(line.get_xydata())) for line in code_map.lines]
    assert dots == [pytest.approx(point) for point in points]
    assert len(cells) == 6
    for cell, letter, (z1, z2) in zip(cells, "ABCDEF", points, strict=True):
        array = np.asarray(cell.images[0].get_array())
        assert cell.get_title().startswith(letter)
        assert array[14, 3] == pytest.approx(0.5 + z1 / 10) and array[14, 24] == pytest.approx(0.5 + z2 / 5)
    fig.draw_without_rendering()


def test_no_letter_of_the_still_picture_hides_a_numeral():
    centres = torch.cartesian_prod(torch.linspace(-3.2, 3.2, 5), torch.tensor([-1.0, 1.0]))
    codes = centres[LABELS] + torch.tensor([0.5, 0.7]) * torch.randn(
        300, 2, generator=torch.Generator().manual_seed(0)
    ).clamp(-1, 1)
    fig = still_code_plane(decode, codes, LABELS, centres[:9] + 0.1)
    fig.draw_without_rendering()
    ax = fig.axes[0]
    boxes = {text.get_text(): text.get_bbox_patch().get_window_extent() for text in ax.texts if text.get_bbox_patch()}
    letters = {text: box for text, box in boxes.items() if text.isalpha()}
    assert len(letters) == 9 and len(boxes) == 19
    for letter, box in letters.items():
        assert not any(box.overlaps(other) for text, other in boxes.items() if text.isdigit()), letter
        middle = ax.transData.inverted().transform(box.get_points().mean(0))
        assert ax.viewLim.contains(*middle), letter
