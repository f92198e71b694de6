"""The diagrams: drawn the same every time, and the files in images/ are the ones that the code draws.

Whether a file is up to date is told in two ways: by the fingerprint of the drawing commands that every SVG
and PNG carries, which does not depend on matplotlib's version, and by the PNG, compared from afar with a
fresh drawing (strictly when the same matplotlib drew both, loosely otherwise).
"""

import inspect
import io
import json
import re
import xml.etree.ElementTree as ElementTree

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

from course_utils.teaching import diagrams

from .conftest import NOTEBOOKS

NAMES = list(diagrams.DIAGRAMS)
AGAIN = "run: python -m course_utils.teaching.diagrams"


def differs(one, other):
    """Whether two pictures of one diagram are not the same, looked at from afar (a quarter of the size)."""
    if one.size != other.size:
        return True
    small = (one.width // 4, one.height // 4)
    a, b = (np.asarray(i.convert("L").resize(small, Image.Resampling.BOX)) / 255 for i in (one, other))
    if one.info["Software"] == other.info["Software"]:  # the same matplotlib: a missing letter counts
        return (np.abs(a - b) > 0.2).mean() > 2e-4
    return np.abs(a - b).mean() > 0.012  # another one sets its letters a little differently


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """A folder with every diagram, drawn while a notebook has set a style of its own."""
    folder = tmp_path_factory.mktemp("fresh")
    with mpl.rc_context({"font.size": 30, "savefig.facecolor": "black", "svg.fonttype": "none"}):
        diagrams.write(folder)
    return folder


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


def test_committed_files_are_those_that_the_code_draws(name, fresh):
    mark = f"[{diagrams.draw(name).fingerprint()}]".encode()
    for kind in ("svg", "png"):
        assert mark in (diagrams.IMAGES / f"{name}.{kind}").read_bytes(), (
            f"images/{name}.{kind} is out of date: {AGAIN}"
        )
    with Image.open(fresh / f"{name}.png") as new, Image.open(diagrams.IMAGES / f"{name}.png") as kept:
        assert not differs(new, kept), AGAIN


@pytest.mark.parametrize("words", ["$x$", "decoder", r"weights $\theta$"])
def test_the_comparison_notices_a_missing_word(words):
    pictures = []
    for without in (None, words):
        canvas = diagrams.draw("autoencoder")
        for text in list(canvas.axes.texts):
            if text.get_text() == without:
                text.remove()
        buffer = io.BytesIO()
        canvas.figure.savefig(buffer, dpi=100)
        pictures.append(Image.open(buffer))
    assert differs(*pictures) and not differs(pictures[0], pictures[0])


def test_same_commands_same_files_whatever_the_notebook_style(fresh, tmp_path):
    for path in diagrams.write(tmp_path):
        assert path.read_bytes() == (fresh / path.name).read_bytes(), path.name


def test_files_are_opaque_white_dateless_and_small(name):
    svg = (diagrams.IMAGES / f"{name}.svg").read_text(encoding="utf-8")
    root = ElementTree.fromstring(svg)
    assert root.get("viewBox")
    width, height = root.get("viewBox").split()[2:]
    first_path = re.search(r'<path d="([^"]+)" style="fill: #ffffff"', svg)
    assert first_path and width in first_path[1] and height in first_path[1]  # the white ground
    assert "<dc:date>" not in svg and len(svg) < 200_000
    with Image.open(diagrams.IMAGES / f"{name}.png") as file:
        image = file.convert("RGBA")
    assert image.getchannel("A").getextrema() == (255, 255)
    assert image.getpixel((0, 0)) == (255, 255, 255, 255)


def test_nothing_is_cut_off_or_too_small_and_labels_stay_inside_their_boxes(name):
    canvas = diagrams.draw(name)
    canvas.figure.draw_without_rendering()
    width, height = canvas.figure.bbox.size
    boxes = [text.get_window_extent() for text in canvas.axes.texts]
    outlines = [patch.get_window_extent() for patch in canvas.axes.patches if isinstance(patch, mpl.patches.Polygon)]
    for i, (text, box) in enumerate(zip(canvas.axes.texts, boxes, strict=True)):
        assert box.x0 > 5 and box.y0 > 5 and box.x1 < width - 5 and box.y1 < height - 5, text.get_text()
        assert text.get_fontsize() >= 20  # 10 points at half size
        assert not any(box.overlaps(other) for other in boxes[i + 1 :]), text.get_text()
        for outline in outlines:
            if outline.contains((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2):
                inside = outline.x0 < box.x0 and box.x1 < outline.x1 and outline.y0 < box.y0 and box.y1 < outline.y1
                assert inside, text.get_text()


def test_the_autoencoder_names_its_parts():
    colours = {t.get_text(): t.get_color() for t in diagrams.draw("autoencoder").axes.texts}
    assert {"encoder", "decoder", r"$f_\phi$", r"$g_\theta$", "$z$", "$x$", r"$\hat{x}$"} <= set(colours)
    assert colours[r"weights $\phi$"] == colours["encoder"] != colours["decoder"] == colours[r"weights $\theta$"]


def arrows(canvas):
    return [(tuple(c[1]), tuple(c[2])) for c in canvas.commands if c[0] == "arrow"]


def words_of(name):
    return [text.get_text() for text in diagrams.draw(name).axes.texts]


def test_the_two_bars_of_the_elbo_are_equally_long():
    shapes = [np.array(c[1]) for c in diagrams.draw("elbo").commands if c[0] == "shape"]
    bars = {}
    for corners in shapes:
        left, right = corners[:, 0].min(), corners[:, 0].max()
        bars.setdefault(corners[:, 1].mean(), []).append((left, right))
    upper, lower = (sorted(parts) for _, parts in sorted(bars.items(), reverse=True))
    for parts in (upper, lower):
        assert len(parts) == 2 and parts[0][1] == parts[1][0]  # two parts without a space between them
    assert (upper[0][0], upper[1][1]) == (lower[0][0], lower[1][1])


def test_the_vae_has_two_heads_and_both_terms_of_the_loss():
    words = words_of("vae")
    assert {r"$\mu$", r"$\log\,\sigma^2$", r"$z = \mu + \sigma \cdot \varepsilon$", "mu, log_var"} <= set(words)
    assert any(word.startswith("recon $") for word in words) and any(word.startswith("kl $") for word in words)


def test_the_three_operations_are_those_of_the_cvae():
    from course_utils.models.cvae import CVAE
    from course_utils.models.vae import VAEOutput

    calls = [word for word in words_of("cvae") if " → " in word]
    assert [call.partition("(")[0] for call in calls] == ["forward_full", "generate", "sample"]
    for call in calls:
        name, arguments = re.match(r"(\w+)\(([^)]*)\)", call).groups()
        given = [
            p.name
            for p in inspect.signature(getattr(CVAE, name)).parameters.values()
            if p.kind == p.POSITIONAL_OR_KEYWORD and p.name != "self"
        ]
        assert arguments.split(", ") == given
    assert calls[0].endswith("z, mu, log_var") and calls[1].endswith("[inputs, recons, mu, log_var, z]")
    assert set(VAEOutput._fields) >= {"z", "mu", "log_var"}
    assert words_of("cvae").count("encoder") == 2 == words_of("cvae").count("decoder")  # sample has no encoder


def test_the_map_names_every_notebook():
    numbers = [number for number, *_ in diagrams.NOTEBOOKS]
    assert numbers == [f"{n:02d}" for n in range(1, len(numbers) + 1)]
    assert {path.stem[:2] for path in NOTEBOOKS} == {*numbers}
    for path, (number, name, *_) in zip(NOTEBOOKS, diagrams.NOTEBOOKS, strict=True):
        title = json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"]
        assert "".join(title).splitlines()[0].casefold().startswith(f"# {number} · {name}".casefold())
    # 01 to 02, three from 02, one into 06, 07, 08, dashed; one into each notebook of part two
    assert len(arrows(diagrams.draw("course_map"))) == 8 + len(NOTEBOOKS[8:])


def test_the_reparameterization_stops_the_gradient_on_one_side_only():
    canvas = diagrams.draw("reparameterization")
    parts = {r"$\mu$", r"$\log\,\sigma^2$", r"$z \sim q_\phi$", r"$z = \mu + \sigma \cdot \varepsilon$", "no way back"}
    assert parts <= set(words_of("reparameterization"))
    gradients = [c for c in canvas.commands if c[0] == "arrow" and c[3] == diagrams.LOSS]
    left, right = ([c for c in gradients if (c[1][0] < 75) is side] for side in (True, False))
    assert all(end[1] > start[1] for _, start, end, *_ in gradients)  # upwards: back to where the values came from
    assert len(left) == 1 and len(right) == 3  # f to z on both sides; to mu and log_var on the right alone
    assert max(end[1] for _, _, end, *_ in left) < 30 < max(end[1] for _, _, end, *_ in right)


def test_every_diagram_has_an_alternative_text_and_others_are_unknown():
    assert set(diagrams.ALT) == set(diagrams.DIAGRAMS)
    assert all(len(alt) > 60 for alt in diagrams.ALT.values())
    with pytest.raises(ValueError, match="autoencoder"):
        diagrams.draw("gan")
