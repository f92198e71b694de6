"""Every notebook as a lecture, opened in a browser: no slide holds more than it can show, no formula fails."""

from __future__ import annotations

import os
import re
import runpy

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from course_utils.teaching import lectures

from ..conftest import NOTEBOOKS

SIZES = [(1280, 720), (1920, 1080)]
SMALLEST = 12.5  # pixels of a letter's font on a screen of 1280 × 720; about 19 on one of 1920 × 1080

# Everything that is drawn on a slide, in the slide's own pixels: what leaves the slide, and the smallest letters.
_WALK = """() => {
  const seen = {slides: 0, over: [], empty: [], small: 1000, pictures: 0};
  for (const slide of Reveal.getSlides()) {
    const place = Reveal.getIndices(slide);
    Reveal.slide(place.h, place.v);
    const scale = Reveal.getScale(), box = slide.getBoundingClientRect();
    const name = `${place.h}.${place.v} ${slide.textContent.replace(/\\s+/g, " ").trim().slice(0, 70)}`;
    let things = 0;
    for (const thing of slide.querySelectorAll("p, li, h1, h2, h3, td, pre, code, span, img, svg")) {
      const drawn = thing.getBoundingClientRect();
      if (drawn.width < 1 || drawn.height < 1) continue;
      if (!thing.classList.contains("where")) things += 1;
      const [left, top, right, bottom] = [drawn.left - box.left, drawn.top - box.top, drawn.right - box.left,
                                          drawn.bottom - box.top].map(x => x / scale);
      if (left < -1 || top < -1 || right > 1281 || bottom > 721)
        seen.over.push(`${name}: ${thing.tagName} from ${left.toFixed()},${top.toFixed()} to `
                       + `${right.toFixed()},${bottom.toFixed()}`);
      if (thing.tagName === "PRE") seen.small = Math.min(seen.small, parseFloat(getComputedStyle(thing).fontSize));
      if (thing.tagName === "IMG") seen.pictures += thing.complete && thing.naturalWidth > 0 ? 1 : 0;
    }
    if (slide.scrollHeight > slide.clientHeight + 1 || slide.scrollWidth > slide.clientWidth + 1)
      seen.over.push(`${name}: would scroll`);
    if (things === 0) seen.empty.push(name);
    seen.slides += 1;
  }
  seen.over = [...new Set(seen.over)];
  seen.formulas = document.querySelectorAll(".slides .MathJax_SVG").length;
  seen.failed = [...document.querySelectorAll(".slides .MathJax_SVG")]
    .filter(formula => formula.querySelector('rect[fill="rgb(255, 255, 136)"]') || !formula.querySelector("svg"))
    .map(formula => formula.textContent);
  seen.raw = [...document.querySelectorAll(".slides p, .slides li, .slides td")]
    .filter(text => !text.querySelector("code") && /\\$/.test(text.textContent))
    .map(text => text.textContent);
  return seen;
}"""


@pytest.fixture(scope="module")
def convert(context, tmp_path_factory):
    """A function that makes lectures of notebooks, all in one folder; a skip, or a failure, where pip finds nothing."""
    folder = tmp_path_factory.mktemp("slides")
    try:
        lectures.fetch_libraries(folder / "lib")
    except RuntimeError as error:
        if os.environ.get("COURSE_BROWSER") == "required":
            pytest.fail(f"COURSE_BROWSER=required, but {error}", pytrace=False)
        pytest.skip(str(error))

    def write(*notebooks):
        lectures.write_slides(folder, notebooks)
        return folder

    return write


@pytest.fixture(scope="module")
def decks(convert, tmp_path_factory):
    """Each notebook's lecture; slide types and tags are set first, as they should be in the files."""
    copies = tmp_path_factory.mktemp("notebooks")
    for path in NOTEBOOKS:
        nbformat.write(lectures.assign(nbformat.read(path, as_version=4)), copies / path.name)
    return convert(*sorted(copies.glob("*.ipynb")))


def walk(context, file, *sizes):
    """Open a lecture, go through all its slides at each of these sizes, and yield what was seen."""
    page = context.new_page()
    problems = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda asked: None if asked.url.startswith(("file:", "data:")) else problems.append(asked.url))
    try:
        page.set_viewport_size({"width": sizes[0][0], "height": sizes[0][1]})
        page.goto(file.as_uri())
        page.wait_for_function("() => window.Reveal?.isReady?.()")
        for width, height in sizes:
            page.set_viewport_size({"width": width, "height": height})
            page.evaluate("() => Reveal.layout()")
            yield page.evaluate(_WALK) | {"scale": page.evaluate("() => Reveal.getScale()")}
    finally:
        page.close()
    assert not problems, f"an error in the page, or something fetched from outside: {problems}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_slide_overflows(context, decks, path):
    for size, seen in zip(SIZES, walk(context, decks / f"{path.stem}.slides.html", *SIZES), strict=True):
        assert seen["over"] == [], size
        assert seen["empty"] == []
        assert seen["failed"] == [] and seen["raw"] == [], "mathematics that was not rendered"
        assert seen["small"] >= SMALLEST, f"code of {seen['small']} pixels cannot be read from the back"
        assert seen["scale"] == pytest.approx(size[0] / 1280, abs=0.01)
        assert seen["slides"] > 20 and seen["formulas"] > 10
        assert seen["pictures"] == stored_pictures(path)


def stored_pictures(path):
    notebook = nbformat.read(path, as_version=4)
    return sum(
        "image/png" in output.get("data", {})
        for cell, role in zip(notebook.cells, lectures.roles(notebook), strict=True)
        for output in cell.get("outputs", []) if role.slide_type != "skip"
    )  # fmt: skip


def slide(source):
    return new_markdown_cell(source, metadata={"slideshow": {"slide_type": "slide"}})


def test_an_overflowing_slide_is_found(context, convert, tmp_path):
    """The test above can fail: a word that is too wide, and a formula that is none."""
    cells = [
        slide("# Title\n\nWhy?"), slide("## One\n\n" + "wide" * 60), slide(r"## Two" + "\n\n" + r"$\nocommand{x}$"),
        new_code_cell("1", outputs=[new_output("stream", text="x" * 400)]),
    ]  # fmt: skip
    nbformat.write(new_notebook(cells=cells), tmp_path / "bad.ipynb")
    folder = convert(tmp_path / "bad.ipynb")
    (seen,) = walk(context, folder / "bad.slides.html", (1280, 720))
    assert any("1.0 One" in text for text in seen["over"])
    assert len(seen["failed"]) == 1


LINES = [f"value_{i} = {i}" for i in range(70)]


def test_what_is_too_full_for_a_slide_goes_on_in_the_next(context, convert, tmp_path):
    """Nothing is lost, nothing twice, in order; a formula stays with the words before it; pictures come alone."""
    words = [f"Paragraph {i} " + "of many words " * 40 + "ends." for i in range(4)]
    lead = "This leads to"
    image = new_output("display_data", data={"image/png": PIXEL}, metadata={"image/png": {"alt": "one pixel"}})
    code = new_code_cell("\n".join(LINES), metadata={"slideshow": {"slide_type": "subslide"}},
                         outputs=[image, new_output("stream", text="printed\n")])  # fmt: skip
    text = "\n\n".join([*words, lead, "$$x = 1$$", "## Next", "- " + "\n- ".join(f"item {i}" for i in range(40))])
    hidden = (
        "<details>\n<summary>More</summary>\n\nhidden\n\n</details>\n\n**Running time:** long\n\n## References\n\n- old"
    )
    nbformat.write(new_notebook(cells=[slide("## First\n\n" + text), code, slide("## Last\n\n" + hidden)]),
                   tmp_path / "full.ipynb")  # fmt: skip
    page = context.new_page()
    try:
        page.goto((convert(tmp_path / "full.ipynb") / "full.slides.html").as_uri())
        page.wait_for_function("() => window.Reveal?.isReady?.()")
        slides = page.evaluate(
            """() => Reveal.getSlides().map(
                slide => [slide.textContent, ...["svg", "img"].map(name => slide.querySelectorAll(name).length)])"""
        )
    finally:
        page.close()
    whole = "\n".join(text for text, _, _ in slides)
    found = re.findall(r"Paragraph \d|value_\d+|item \d+|printed", whole)
    assert found == [*(f"Paragraph {i}" for i in range(4)), *(f"item {i}" for i in range(40)),
                     *(line.split()[0] for line in LINES), "printed"]  # fmt: skip
    assert len(slides) >= 7
    assert [formulas for text, formulas, _ in slides if lead in text] == [1]
    assert [images for *_, images in slides].count(1) == 1 and slides[-2][2] == 1 and "value" not in slides[-2][0]
    assert not re.search("hidden|Running time|References|old", whole)


PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII="


def test_the_decks_from_the_network_load_the_same_reveal(convert):
    """The configuration names the version that the copy beside the decks has."""

    class Anything(dict):
        __getattr__ = dict.__getitem__
        __setattr__ = dict.__setitem__

        def __missing__(self, name):
            return self.setdefault(name, Anything())

    config = Anything()
    runpy.run_path(str(lectures.CONFIG), {"get_config": lambda: config})
    (version,) = re.findall(r"/reveal.js@([\d.]+)$", config.SlidesExporter.reveal_url_prefix)
    folder = convert(NOTEBOOKS[0])
    assert (
        f"reveal.js {version}" in (folder / "lib" / "reveal" / "dist" / "reveal.js").read_text(encoding="utf-8")[:200]
    )
