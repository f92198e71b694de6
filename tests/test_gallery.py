"""The README's opening picture: its parts on models that are hardly trained, and the committed file.

The file is not compared with a fresh one: training rounds differently on other machines.
"""

import numpy as np
import pytest
import torch
from PIL import Image

from course_utils import load_images
from course_utils.teaching import gallery
from course_utils.teaching.display import to_png


@pytest.fixture(scope="module")
def data():
    return load_images("digits", device="cpu")


@pytest.fixture(scope="module")
def models(data):
    return gallery.train_models(data, epochs=1, show=False)


def test_four_sheets_of_one_height_side_by_side(models, data):
    sheets = gallery.sheets(models, data)
    assert len(sheets) == len(gallery.TITLES) == 4
    assert len({sheet.shape[0] for sheet in sheets}) == 1
    assert all(sheet.ndim == 3 and sheet.min() >= 0 and sheet.max() <= 1 for sheet in sheets)
    columns = [(sheet.shape[1] + gallery.GAP) // (28 * gallery.ZOOM + gallery.GAP) for sheet in sheets[1:]]
    assert columns == [7, 10, 7]
    figure = gallery.compose(sheets)
    for axes, sheet in zip(figure.axes, sheets, strict=True):
        box = axes.get_window_extent()
        assert (round(box.width), round(box.height)) == (sheet.shape[1], sheet.shape[0])  # pixel by pixel
    figure.draw_without_rendering()
    titles = [text.get_window_extent() for text in figure.texts]
    width, height = figure.bbox.size
    assert all(t.x0 > 0 and t.x1 < width and t.y1 < height for t in titles)
    assert not any(a.overlaps(b) for i, a in enumerate(titles) for b in titles[i + 1 :])


def test_the_same_seed_gives_the_same_picture_and_leaves_the_random_state_alone(models, data):
    torch.manual_seed(5)
    expected = torch.rand(())
    torch.manual_seed(5)
    again = gallery.train_models(data, epochs=1, show=False)
    one, two = (gallery.sheets(m, data) for m in (models, again))
    assert torch.rand(()) == expected
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
    other = gallery.sheets(models, data, seed=1)
    assert np.array_equal(one[0], other[0]) and not np.array_equal(one[1], other[1])  # the plane is not drawn by chance


def test_what_was_seen_stays_and_the_rest_is_made(models, data):
    rows = 7
    sheet = gallery.sheets(models, data)[3]
    step = 28 * gallery.ZOOM + gallery.GAP
    tiles = sheet
    images = [
        [tiles[i * step : i * step + 56 : 2, j * step : j * step + 56 : 2] for j in range(7)] for i in range(rows)
    ]
    for shown, *made, truth in images:
        assert np.allclose(shown[:14], gallery.UNSEEN) and np.allclose(shown[14:, 14:], gallery.UNSEEN)
        assert all(np.array_equal(picture[14:, :14], truth[14:, :14]) for picture in (shown, *made))
        assert not any(np.array_equal(picture, truth) for picture in made)
        assert not np.array_equal(made[0], made[1])  # several answers
    x = torch.arange(784.0).reshape(1, 1, 28, 28)
    assert gallery.seen_quarter(x).shape == (1, 196)
    assert gallery.seen_quarter(x)[0, 0] == 14 * 28 and gallery.seen_quarter(x)[0, -1] == 27 * 28 + 13


def test_a_hand_is_one_draw_of_noise_for_all_ten_classes(models):
    generator = torch.Generator().manual_seed(0)
    images = gallery._hands(models["hand"], 3, generator).detach()
    assert images.shape == (30, 784)
    noise = torch.randn(3, models["hand"].latent_dim, generator=torch.Generator().manual_seed(0))
    seven = torch.eye(10)[7:8]
    mu, log_var = models["hand"].prior(seven)
    z = mu + (0.5 * log_var).exp() * noise[1]
    assert torch.allclose(images[17], torch.sigmoid(models["hand"].decode(z, seven))[0], atol=1e-6)


def test_the_committed_picture_is_wide_opaque_white_and_small(models, data):
    path = gallery.IMAGES / "gallery.png"
    assert path.stat().st_size < 400_000
    with Image.open(path) as file:
        image = file.convert("RGBA")
    assert image.getchannel("A").getextrema() == (255, 255)
    assert all(image.getpixel(corner) == (255,) * 4 for corner in [(0, 0), (0, image.height - 1)])
    assert image.width > 3 * image.height
    # made by this code: of the size that it makes, whatever the weights
    png = to_png(gallery.compose(gallery.sheets(models, data)))
    assert (int.from_bytes(png[16:20]), int.from_bytes(png[20:24])) == image.size
    assert len(gallery.ALT) > 100


def test_without_mnist_it_says_so_in_a_line_and_writes_nothing(monkeypatch, tmp_path):
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    monkeypatch.setattr("course_utils.data.mnist.MIRRORS", [])
    with pytest.raises(SystemExit) as stop:
        gallery.main([])
    assert stop.value.code.startswith("MNIST cannot be loaded") and "MNIST alone" in stop.value.code
    assert "\n" not in stop.value.code and "digits" not in stop.value.code
