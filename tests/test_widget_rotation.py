"""The explorer of a rotated code: its walks, its curve and its words."""

import pytest
import torch

from course_utils.teaching.widgets.rotation import WALK, Rotation, rotation

from .test_widgets import pixels, place

CURVE = {float(angle): (0.5 - abs(45 - angle) / 100, -30.0 - angle / 90, -28.0) for angle in range(0, 91, 5)}


def decode(z):
    """Two halves whose shades say where the two numbers are."""
    shades = (0.5 + z / 4)[:, :, None, None].expand(-1, -1, 4, 2)
    return torch.cat([shades[:, :1], shades[:, 1:]], dim=3)


@pytest.fixture(scope="module")
def picture():
    return Rotation(decode, CURVE)


@pytest.mark.parametrize("angle", [0, 30, 45, 90])
def test_walks_go_along_the_axes_of_the_turned_code(picture, angle):
    rows = torch.as_tensor(picture.walks(angle)).unflatten(0, (2, 6)).unflatten(2, (len(WALK), 6))
    z = torch.stack([rows[:, 1, :, 1], rows[:, 1, :, 4]], -1) * 4 - 2  # (2, 7, 2), codes of the model as it is
    turned = z @ rotation(angle).T
    torch.testing.assert_close(turned[0, :, 0], WALK)
    torch.testing.assert_close(turned[1, :, 1], WALK)
    assert turned[0, :, 1].abs().max() < 1e-5 and turned[1, :, 0].abs().max() < 1e-5


def test_the_dot_stands_on_the_curve_and_the_numbers_are_written(picture):
    there, elsewhere = pixels(picture.render(60)), pixels(picture.render(0))
    row, column = place(picture, picture.curve_axes, 60, CURVE[60.0][0])
    assert (there[row, column] != elsewhere[row, column]).any()
    box = picture.caption.get_window_extent()
    rows = slice(int(picture.figure.bbox.height - box.y1), int(picture.figure.bbox.height - box.y0))
    assert (elsewhere[rows, int(box.x0) : int(box.x1)] < 100).any()  # letters, inside the picture
    assert box.x0 > 0 and box.y1 < picture.figure.bbox.height
    words = picture.describe(60)
    assert words == "60°: MIG 0.35, ELBO −30.67, log p(x) −28.00. Since 0° the ELBO has changed by −0.667 nats."


def test_a_curve_has_even_angles_and_three_numbers():
    for bad in ({0.0: (1, 2, 3), 90.0: (1, 2, 3)}, {0.0: (1, 2, 3), 5.0: (1, 2, 3), 90.0: (1, 2, 3)}, {0.0: (1,)}):
        with pytest.raises(ValueError, match="even angles"):
            Rotation(decode, bad)
