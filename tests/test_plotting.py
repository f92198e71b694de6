"""The figures: what is drawn where, what is refused, and that colours and sizes keep their promises."""

import io
import itertools

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from course_utils.teaching import plotting
from course_utils.teaching.display import to_png


@pytest.fixture(autouse=True)
def style():
    with mpl.rc_context():
        plotting.use_style()
        yield


@pytest.fixture
def images():
    return torch.rand(12, 1, 28, 28, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def codes():
    return torch.randn(200, 2, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def labels():
    return torch.arange(200) % 10


def texts(ax):
    return [text.get_text() for text in ax.texts]


def picture(fig):
    return np.asarray(Image.open(io.BytesIO(to_png(fig))).convert("RGB"))


# --- the package and the style


def _oklab(linear):
    lms = (
        linear.clip(0, 1)
        @ np.array([[0.41222, 0.53633, 0.05145], [0.21190, 0.68070, 0.10740], [0.08830, 0.28172, 0.62998]]).T
    )
    to_lab = [[0.21045, 0.79362, -0.00407], [1.97800, -2.42859, 0.45059], [0.02590, 0.78277, -0.80868]]
    return np.cbrt(lms) @ np.array(to_lab).T


# Machado, Oliveira & Fernandes (2009), severity 1.0, for linear RGB.
VISIONS = {
    "usual": np.eye(3),
    "protanopia": [[0.1523, 1.0526, -0.2049], [0.1145, 0.7863, 0.0992], [-0.0039, -0.0481, 1.0520]],
    "deuteranopia": [[0.3673, 0.8606, -0.2280], [0.2801, 0.6725, 0.0474], [-0.0118, 0.0429, 0.9689]],
    "tritanopia": [[1.2555, -0.0767, -0.1788], [-0.0784, 0.9308, 0.1476], [0.0047, 0.6914, 0.3039]],
}


@pytest.mark.parametrize("vision", VISIONS)
def test_class_colours_can_be_told_apart(vision):
    rgb = np.array([to_rgb(c) for c in plotting.CLASS_COLOURS])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    lab = _oklab(linear @ np.array(VISIONS[vision]).T)
    nearest = min(np.linalg.norm(a - b) for a, b in itertools.combinations(lab, 2))
    assert len(plotting.CLASS_COLOURS) == 10
    assert nearest > (0.18 if vision == "usual" else 0.13)


def test_figures_are_opaque_small_without_pyplot_and_readable():
    many = torch.randn(10_000, 2, generator=torch.Generator().manual_seed(1))
    fig = plotting.code_map(many, torch.arange(10_000) % 10)
    assert isinstance(fig, Figure) and not hasattr(fig, "number")
    png = to_png(fig)
    image = Image.open(io.BytesIO(png))
    assert len(png) < 110_000 and "transparency" not in image.info
    assert image.convert("RGBA").getpixel((2, 2)) == (255, 255, 255, 255)
    assert image.width <= plotting.WIDTH * plotting.DPI + 1
    assert mpl.rcParams["font.size"] >= 12 and mpl.rcParams["axes.labelsize"] >= 12
    assert not mpl.rcParams["axes.spines.top"] and not mpl.rcParams["savefig.transparent"]


# --- images


def test_image_grid_puts_every_image_in_its_place_and_titles_above_the_columns():
    shades = torch.linspace(0, 1, 7).view(7, 1, 1, 1).expand(7, 1, 10, 10)
    fig = plotting.image_grid(shades, columns=3, titles=["a", "b", "c"])
    (ax,) = fig.axes
    (image,) = ax.images
    array = np.asarray(image.get_array())
    assert image.get_clim() == (0, 1)
    for i in range(7):
        row, column = divmod(i, 3)
        assert array[row * 12 + 7, column * 12 + 7] == pytest.approx(i / 6)
    assert {text.get_text(): text.get_position()[0] for text in ax.texts} == {"a": 6.5, "b": 18.5, "c": 30.5}
    fig.draw_without_rendering()
    first_row = ax.transData.transform((0, 1.5))[1]
    boxes = [text.get_window_extent() for text in ax.texts]
    assert all(first_row <= box.y0 and box.y1 <= fig.bbox.height for box in boxes)


def test_image_rows_are_labelled_in_order_and_cut_off_outside_of_0_to_1(images):
    blank = images[:5] * 0
    fig = plotting.image_rows({"zeros": blank - 0.3, "ones": blank + 1.3, "half": blank + 0.5})
    (ax,) = fig.axes
    array = np.asarray(ax.images[0].get_array())
    labels = {t.get_text(): round(y) for t, y in zip(ax.get_yticklabels(), ax.get_yticks(), strict=True)}
    assert [array[y, 10] for y in labels.values()] == [0, 1, 0.5]
    assert list(labels) == ["zeros", "ones", "half"]


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda x: plotting.image_grid(x[0, 0]), ValueError, "expected \\(N, 1, H, W\\)"),
        (lambda x: plotting.image_grid(x.flatten(1)), ValueError, "view\\(-1, 1, 28, 28\\)"),
        (lambda x: plotting.image_grid(x[:0]), ValueError, "nothing to show"),
        (lambda x: plotting.image_grid(x.expand(-1, 3, -1, -1)), ValueError, "expected"),
        (lambda x: plotting.image_grid((x * 255).to(torch.uint8)), TypeError, "/ 255"),
        (lambda x: plotting.image_grid(x * 255), ValueError, "divide by 255"),
        (lambda x: plotting.image_grid(x * 20 - 10), ValueError, "logits"),
        (lambda x: plotting.image_grid(x / 0), ValueError, "NaN or infinite"),
        (lambda x: plotting.image_grid(x, columns=0), ValueError, "columns"),
        (lambda x: plotting.image_grid(x, titles=["one"]), ValueError, "1 texts for 10 columns"),
        (lambda x: plotting.image_grid(x, titles="abcdefghij"), TypeError, "list of texts"),
        (lambda x: plotting.image_grid(x, columns=4, row_labels=["one"]), ValueError, "for 3 rows"),
        (lambda x: plotting.image_rows({}), TypeError, "non-empty dict"),
        (lambda x: plotting.image_rows([x, x]), TypeError, "dict"),
        (lambda x: plotting.image_rows({"a": x, "b": x[:3]}), ValueError, "equally many"),
        (lambda x: plotting.image_rows({"a": x, "b": x * 255}), ValueError, "row 'b'"),
    ],
)
def test_image_functions_refuse(images, make, error, words):
    with pytest.raises(error, match=words):
        make(images)


# --- curves


def test_curves_draw_the_data_and_name_the_lines():
    x = [2, 5, 10, 20]
    ys = {"PCA": [40.0, 30.0, 20.0, 10.0], "autoencoder": torch.tensor([35.0, 20.0, 12.0, 9.9])}
    fig = plotting.curves(x, ys, xlabel="size", ylabel="error", logx=True)
    (ax,) = fig.axes
    assert [line.get_label() for line in ax.lines] == ["PCA", "autoencoder"]
    np.testing.assert_allclose(ax.lines[1].get_ydata(), ys["autoencoder"])
    assert sorted(texts(ax)) == ["PCA", "autoencoder"] and ax.get_legend() is None
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "linear")
    assert [t.get_text() for t in ax.get_xticklabels()] == ["2", "5", "10", "20"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("size", "error")


def test_labels_at_line_ends_neither_overlap_nor_change_order():
    x = np.linspace(0, 1, 50)
    ys = {f"line {i}": x * (1 + 0.001 * i) for i in range(5)}
    fig = plotting.curves(x, ys, xlabel="x", ylabel="y")
    fig.draw_without_rendering()
    (ax,) = fig.axes
    boxes = sorted((t.get_window_extent().y0, t.get_window_extent().y1, t.get_text()) for t in ax.texts)
    assert [name for *_, name in boxes] == list(ys)
    assert all(lower[1] <= upper[0] for lower, upper in itertools.pairwise(boxes))
    width, height = fig.bbox.size
    for text in ax.texts:
        box = text.get_window_extent()
        assert box.x1 <= width and box.y0 >= 0 and box.y1 <= height


def test_a_line_that_leaves_the_picture_is_labelled_where_it_leaves():
    x = np.linspace(0, 1, 101)
    fig = plotting.curves(x, {"steep": 10 * x, "flat": x}, xlabel="x", ylabel="y", ylim=(0, 2))
    fig.draw_without_rendering()
    (ax,) = fig.axes
    steep, flat = sorted(ax.texts, key=lambda text: text.get_text(), reverse=True)
    assert steep.xy == pytest.approx((0.2, 2.0)) and flat.xy == pytest.approx((1.0, 1.0))
    assert ax.get_ylim() == (0, 2) and steep.get_window_extent().y1 <= fig.bbox.height


def test_curves_of_curves_are_panels_with_one_legend():
    lines = {"a": [1, 2, 3], "b": [3, 2, 1]}
    fig = plotting.curves([1, 2, 3], {"left": lines, "right": {"a": [5, 5, 5]}}, xlabel="x", ylabel="y")
    left, right = fig.axes
    assert [ax.get_title() for ax in fig.axes] == ["left", "right"]
    assert (left.get_ylabel(), right.get_ylabel()) == ("y", "") and list(right.lines[0].get_ydata()) == [5, 5, 5]
    (legend,) = fig.legends  # outside of both panels
    assert len(legend.get_texts()) == 2 and not left.texts and {left.get_legend(), right.get_legend()} == {None}


def test_panels_are_empty_axes_with_labels():
    _, axes = plotting.panels(1, 2, titles=["one", "two"], xlabel="x", yscale="log", sharey=True)
    assert [ax.get_title() for ax in axes] == ["one", "two"] and {ax.get_yscale() for ax in axes} == {"log"}
    plotting.draw_curves(axes[0], [1, 2], {"a": [1, 2]}, xlabel="x", ylabel="y")
    assert axes[0].get_yscale() == "log" and isinstance(plotting.panels()[1], mpl.axes.Axes)
    with pytest.raises(ValueError, match="1 texts for 2 panels"):
        plotting.panels(1, 2, titles=["one"])


def test_figures_write_their_alternative_text_from_their_data(images, codes, labels):
    assert plotting.image_grid(images[:1]).alt == "1 image in 1 row."
    alt = plotting.image_rows({"clean": images[:4], "noisy": images[4:8]}, titles=list("abcd")).alt
    assert alt == "8 images in 2 rows, rows: clean, noisy, above them: a, b, c, d."
    alt = plotting.code_map(codes, labels, extent=(-4, 4, -3, 3), extra={"samples": codes[:7]}).alt
    assert alt.startswith("200 codes, z1 -4 to 4 and z2 -3 to 3") and "Crosses: 7 samples." in alt
    assert "3 ({:.1f}, {:.1f})".format(*codes[labels == 3].mean(0).tolist()) in alt
    alt = plotting.decoded_plane(position_as_shade, extent=(0, 1, 0, 0.5), size=4).alt
    assert alt == "4 by 2 images, decoded from codes with z1 from 0 to 1 and z2 from 0 to 0.5."


def test_many_lines_get_a_legend_and_one_line_nothing():
    x = np.arange(1, 30)
    fig = plotting.curves(x, {str(i): x * i for i in range(1, 9)}, xlabel="x", ylabel="y", logy=True)
    assert len(fig.axes[0].get_legend().get_texts()) == 8
    fig = plotting.curves(x, {"only": x}, xlabel="x", ylabel="y")
    assert fig.axes[0].get_legend() is None and not fig.axes[0].texts


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"ys": {"a": [1, 2]}}, "line 'a' has 2 numbers, expected 3"),
        ({"ys": {"a": [1, float("nan"), 2]}}, "NaN"),
        ({"ys": {"a": [1, 0, 2]}, "logy": True}, "not positive"),
        ({"x": [0, 1, 2], "logx": True}, "not positive"),
        ({"x": []}, "at least one"),
        ({"x": [[1, 2, 3]]}, "list of numbers"),
    ],
)
def test_curves_refuse(change, words):
    with pytest.raises(ValueError, match=words):
        plotting.curves(**({"x": [1, 2, 3], "ys": {"a": [1, 2, 3]}, "xlabel": "x", "ylabel": "y"} | change))


# --- the code plane


def test_code_map_draws_every_code_in_its_class_colour(codes, labels):
    (ax,) = plotting.code_map(codes, labels).axes
    (points,) = ax.collections
    places, colours = points.get_offsets(), points.get_facecolors()
    drawn = {tuple(np.round(xy, 5)): tuple(c[:3]) for xy, c in zip(places, colours, strict=True)}
    assert len(drawn) == 200
    for code, label in zip(codes.double().numpy(), labels, strict=True):
        assert drawn[tuple(np.round(code, 5))] == pytest.approx(to_rgb(plotting.CLASS_COLOURS[label]))
    assert points.get_rasterized() and ax.get_aspect() == 1


def test_numerals_stand_at_centroids_or_point_to_them(labels):
    corners = torch.stack([labels % 5, labels // 5 % 2], dim=1) * 10.0
    (ax,) = plotting.code_map(corners, labels).axes
    assert texts(ax) == list("0123456789")
    for text in ax.texts:
        digit = int(text.get_text())
        assert text.get_position() == pytest.approx((digit % 5 * 10, digit // 5 * 10), abs=1e-3)


def test_numerals_of_one_place_are_pushed_apart(labels):
    together = torch.zeros(200, 2)
    together[:2] = torch.tensor([[-5.0, -5.0], [5.0, 5.0]])
    fig = plotting.code_map(together, labels)
    fig.draw_without_rendering()
    middles = [t.get_bbox_patch().get_window_extent() for t in fig.axes[0].texts]
    distances = [
        np.hypot(a.x0 + a.width / 2 - b.x0 - b.width / 2, a.y0 + a.height / 2 - b.y0 - b.height / 2)
        for a, b in itertools.combinations(middles, 2)
    ]
    assert min(distances) > 0.8 * 0.3 * fig.dpi


def test_code_map_says_what_it_leaves_out(codes, labels):
    prior = torch.tensor([[0.0, 0.0], [50.0, 0.0]])
    (ax,) = plotting.code_map(codes, labels, extent=(-1, 1, -2, 2), extra={"samples": prior}).axes
    inside = ((codes[:, 0].abs() <= 1) & (codes[:, 1].abs() <= 2)).sum().item()
    note = "\n".join(texts(ax))
    assert f"{200 - inside} of 200 codes lie outside" in note and "1 of 2 samples lie outside" in note
    assert ax.get_xlim() == (-1, 1) and ax.get_ylim() == (-2, 2)
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["samples"]
    (ax,) = plotting.code_map(codes + 100, labels, extent=(-1, 1, -1, 1)).axes
    assert not set("0123456789") & set(texts(ax))


def test_default_extent_holds_all_points_and_overlays(codes, labels):
    (ax,) = plotting.code_map(codes, labels, extra={"far": torch.tensor([[30.0, -8.0]])}).axes
    assert ax.get_xlim()[1] > 30 and ax.get_ylim()[0] < -8
    for scaled in (codes * 1e-3, codes, codes * 700):
        left, right, bottom, top = plotting.extent_of(scaled)
        low, high = scaled.amin(0), scaled.amax(0)
        assert left < low[0] and right > high[0] and bottom < low[1] and top > high[1]
        assert right - left < 1.6 * (high - low).max()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda z, y: plotting.code_map(torch.cat([z, z], dim=1), y), "latent_dim = 2"),
        (lambda z, y: plotting.code_map(z / 0, y), "NaN or infinite"),
        (lambda z, y: plotting.code_map(z, y[:-1]), "one for each code"),
        (lambda z, y: plotting.code_map(z, y + 1), "0 to 9"),
        (lambda z, y: plotting.code_map(z, y.float()), "whole numbers"),
        (lambda z, y: plotting.code_map(z, y, extent=(1, 0, 0, 1)), "from < to"),
        (lambda z, y: plotting.code_map(z, y, extent=(0, 1)), "z2_to"),
        (lambda z, y: plotting.code_map(z, y, extra={"a": z[:, :1]}), "points of 'a'"),
    ],
)
def test_code_map_refuses(codes, labels, make, words):
    with pytest.raises(ValueError, match=words):
        make(codes, labels)


def position_as_shade(z):
    """A decoder for tests: the upper half of the image is z₁, the lower half z₂, each from 0 to 1."""
    images = torch.empty(len(z), 1, 4, 4)
    images[:, :, :2] = z[:, 0].view(-1, 1, 1, 1)
    images[:, :, 2:] = z[:, 1].view(-1, 1, 1, 1)
    return images


def test_decoded_plane_shows_each_code_at_its_own_place():
    fig = plotting.decoded_plane(position_as_shade, extent=(0, 1, 0, 0.5), size=8)
    (ax,) = fig.axes
    (image,) = ax.images
    array = np.asarray(image.get_array())
    left, right, bottom, top = image.get_extent()
    assert (left, right, bottom, top) == (0, 1, 0, 0.5) and array.shape == (4 * 4, 8 * 4)
    for row in range(4):
        for column in range(8):
            x = left + (column + 0.5) / 8 * (right - left)
            y = top - (row + 0.5) / 4 * (top - bottom)
            assert array[row * 4, column * 4] == pytest.approx(x)
            assert array[row * 4 + 3, column * 4] == pytest.approx(y)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("$z_1$", "$z_2$")
    lower_left = picture(fig)[-1 - round(fig.dpi * 0.8), round(fig.dpi * 1.2)]
    assert lower_left.max() < 100  # upright in the PNG, too: dark where both are small


@pytest.mark.parametrize(
    ("decode", "words"),
    [
        (lambda z: position_as_shade(z).flatten(1), "flat pixels"),
        (lambda z: position_as_shade(z)[:1], "expected \\(16, 1, H, W\\)"),
        (lambda z: (position_as_shade(z),), "tuple"),
        (lambda z: position_as_shade(z) * 50, "logits"),
    ],
)
def test_decoded_plane_refuses_other_decoders(decode, words):
    with pytest.raises(ValueError, match=words):
        plotting.decoded_plane(decode, extent=(0, 1, 0, 1), size=4)


def test_decoding_needs_no_gradient():
    plotting.decode_codes(lambda z: position_as_shade(z * torch.ones(1, requires_grad=True)), torch.rand(4, 2)).numpy()
