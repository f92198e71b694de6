"""What a notebook shows: figures with alternative text, and tables whose numbers can be had back."""

import io
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from course_utils.teaching import plotting, show, table
from course_utils.teaching.display import describe, to_png

X = np.linspace(0, 4, 41)


def line_figure() -> Figure:
    fig = plotting.curves(X, {"bowl": (X - 1) ** 2, "line": 2 * X}, xlabel="$x$", ylabel="cost")
    fig.axes[0].set_title("Two")
    return fig


# --- show


@pytest.mark.parametrize("sentence", ["", "a figure", "           \n   ", None])
def test_show_asks_for_a_sentence(sentence):
    with pytest.raises(ValueError, match="12 characters"):
        show(line_figure(), sentence)


@pytest.mark.parametrize("other", [torch.zeros(3), b"no picture", None])
def test_show_takes_figures_and_pngs_only(other):
    with pytest.raises(TypeError, match=r"Figure or the bytes of a PNG, not (Tensor|bytes|NoneType)"):
        show(other, "Twelve images of noise.")


def test_show_outside_a_notebook_closes_quietly(capsys):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    fig = plt.figure()
    assert show(fig, "An empty figure.") is None
    assert fig.number not in plt.get_fignums()
    assert capsys.readouterr() == ("", "")


CELLS = [
    "from course_utils.teaching import plotting, show, start_session, table; import torch; x = torch.rand(3, 1, 8, 8)",
    "show(plotting.image_grid(x), 'Only noise is there.')",
    "import matplotlib.pyplot as plt; plt.plot([1, 2]); show(plt.gcf(), 'A line that rises.')",
    "from course_utils.teaching.display import to_png; show(to_png(plotting.image_grid(x)), 'Only noise again.')",
    "found = table({'AE': {'error': 34.5}})",
    "table({'AE': {'error': 34.5}})",
    "found",
]


@pytest.fixture(scope="module")
def shown():
    """What a real kernel stores for CELLS."""
    script = f"""
import json, nbformat, nbclient
nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in {CELLS!r}])
nbclient.NotebookClient(nb, timeout=60, kernel_name="python3").execute()
print(json.dumps([[dict(o) for o in c.outputs] for c in nb.cells]))
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def test_a_cell_shows_one_picture_with_the_words_of_its_data_and_the_sentence(shown):
    alts = [[output["metadata"]["image/png"]["alt"] for output in outputs] for outputs in shown[1:4]]
    assert shown[0] == []
    assert alts == [
        ["3 images in 1 row. Only noise is there."],
        ["1 at 0 to 2 at 1. A line that rises."],
        ["Only noise again."],
    ]
    assert shown[1][0]["data"]["text/plain"] == alts[0][0]


def test_a_table_is_shown_once_wherever_it_stands(shown):
    for outputs in shown[4:]:
        assert [output["output_type"] for output in outputs] == ["display_data"]
        assert outputs[0]["data"]["text/plain"] == "    error\nAE   34.5"
        assert '<th scope="row" style="text-align: left">AE</th>' in outputs[0]["data"]["text/html"]


def test_names_on_an_axis_and_lines_without_numbers_are_described():
    figure = Figure()
    figure.subplots().plot(["low", "high"], [1.0, 2.0], label="cost")
    assert "cost: 1 at 0 to 2 at 1" in describe(figure)
    figure.axes[0].plot([0, 1], [np.nan, np.nan], label="lost")
    assert "lost: no finite value" in describe(figure)


def test_pngs_are_opaque():
    image = Image.open(io.BytesIO(to_png(line_figure())))
    assert "transparency" not in image.info
    assert image.convert("RGBA").getpixel((2, 2)) == (255, 255, 255, 255)


# --- describe


def test_lines_are_described_by_their_ends_and_turning_points():
    assert describe(line_figure()) == "Two, cost over x, bowl: 1 at 0 to 9 at 4, lowest 0 at 1, line: 0 at 0 to 8 at 4."


def test_panels_bars_points_and_pictures_are_described():
    fig, ax = plotting.panels(xlabel="nats")
    ax.barh(["AE", "VAE"], [0.25, 1500])
    assert describe(fig) == "nats, AE 0.25, VAE 1,500."
    fig, (left, right) = plotting.panels(1, 2, titles=["left", "right"])
    left.scatter([1, 2, 3], [0, 5, 1], label="codes")
    right.imshow(np.eye(3))
    left.axhline(2)  # a line across is no data
    assert describe(fig) == "2 panels: left, codes: 3 points, 1 to 3 and 0 to 5; right, a picture."
    fig, ax = plotting.panels()
    ax.plot(X, np.outer(X, range(20)))
    assert describe(fig) == "20 lines."
    assert describe(Figure()) == ""


# --- table

ROWS = {"AE": {"error": 34.1234, "share": 0.456}, "VAE + <b>": {"error": 61234.5, "share": torch.tensor(0.5)}}


def test_a_table_gives_its_numbers_back_and_aligns_its_text():
    found = table(ROWS, digits={"share": ".1%"}, index="model", caption="On the test set")
    assert found["AE", "error"] == 34.1234 and found["VAE + <b>", "share"] == 0.5
    assert repr(found).splitlines() == [
        "On the test set",
        "model       error  share",
        "AE          34.12  45.6%",
        "VAE + <b>  61,234  50.0%",
    ]
    for place in (("AE", "loss"), ("error", "AE")):
        with pytest.raises(KeyError, match="rows: .*'AE'.* columns: .*'error'"):
            found[place]


def test_a_table_in_html_has_scoped_headers_aligned_numbers_and_escaped_names():
    html = table(ROWS, caption="a < b")._repr_html_()
    assert html.count('<th scope="col"') == 3 and html.count('<th scope="row"') == 2
    assert html.count('<td style="text-align: right">') == 4
    assert "VAE + &lt;b&gt;" in html and "<b>" not in html and "<caption>a &lt; b</caption>" in html


@pytest.mark.parametrize(
    ("rows", "options", "text"),
    [
        ([["a", 1, 2.5], ["b", "none", True]], {"columns": ["n", "m"]}, "      n     m\na     1   2.5\nb  none  True"),
        ({"a": 1e-5, 2: np.float32(0.25)}, {"columns": ["x"]}, "       x\na  1e-05\n2   0.25"),
        ({"a": (1, 2)}, {"columns": ["p", "q"], "digits": ".2f"}, "      p     q\na  1.00  2.00"),
        ({"a": {"p": 1 / 3}, "b": {"q": 2 / 3}}, {"digits": {"p": 2, "q": lambda v: f"~{v:.0f}"}}, None),
    ],
)
def test_rows_may_come_in_several_forms(rows, options, text):
    assert repr(table(rows, **options)) == (text or "      p   q\na  0.33\nb        ~1")


@pytest.mark.parametrize(
    ("rows", "columns", "words"),
    [
        ({}, None, "one or more rows"),
        ([["a", 1], ["a", 2]], ["x"], "a name of its own"),
        ({"a": [1, 2]}, ["x"], "Row 'a' has 2 values"),
        ({"a": 1}, None, r"Row 'a' has 1 values for the columns None"),
    ],
)
def test_a_table_refuses(rows, columns, words):
    with pytest.raises(ValueError, match=words):
        table(rows, columns=columns)
