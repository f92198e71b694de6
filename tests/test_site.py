"""The website: every notebook a page, nothing lost on the way, nothing that leads nowhere or comes from elsewhere."""

from __future__ import annotations

import html
import itertools
import re
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urldefrag

import nbformat
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output

from course_utils.teaching.exercises import exercises_of
from course_utils.teaching.session import REPOSITORY

from .conftest import NOTEBOOKS, ROOT
from .test_notebook_files import MATHS, MIN_ALT, cells, outputs, prose

sys.path.insert(0, str(ROOT / ".site"))
import pages

GLOSSARY = ROOT / "notebooks" / "glossary.ipynb"
MOST_BYTES = 1_500_000  # of a page with all that it loads
LOADED = {"img": "src", "script": "src", "link": "href"}
lesson = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


@pytest.fixture(scope="module")
def soups(site) -> dict[str, BeautifulSoup]:
    return {page.name: BeautifulSoup(page.read_text("utf-8"), "html.parser") for page in site.glob("*.html")}


@pytest.fixture
def page(soups, path) -> BeautifulSoup:
    return soups[f"{path.stem}.html"]


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


# --- links, pictures, formulas, weight ------------------------------------------------------------


def complaints(name: str, soups: dict[str, BeautifulSoup], site: Path) -> Iterator[str]:
    """What leads nowhere, and what would be loaded from elsewhere."""
    for tag in soups[name].find_all(["a", "img", "script", "link", "source", "iframe"]):
        address = tag.get("href") or tag.get("src")
        if not address or re.match(r"data:|mailto:", address):
            continue
        if re.match(r"(https?:)?//", address):
            if tag.name != "a":
                yield f"{name} loads {address}"
            continue
        file, fragment = urldefrag(unquote(address))
        target = (file or name).removeprefix("./").partition("?")[0]
        if not (site / target).is_file():
            yield f"{name}: {address} is not there"
        elif fragment and target in soups and not soups[target].find(id=fragment):
            yield f"{name}: {address} has no such place"


def test_nothing_leads_nowhere_or_comes_from_elsewhere(soups, site):
    assert not [line for name in soups for line in complaints(name, soups, site)]
    for style in site.rglob("*.css"):
        assert not re.search(r"url\([\"']?(https?:)?//|@import", style.read_text("utf-8")), style
    broken = {"a.html": BeautifulSoup('<a href="b.html"></a><a href="#x"></a><img src="//c/d.png">', "html.parser")}
    (site / "a.html").touch()
    assert len([*complaints("a.html", broken, site)]) == 3
    (site / "a.html").unlink()


def test_all_notebooks_are_in_the_contents_and_each_leads_to_the_next(soups):
    names = [f"{path.stem}.html" for path in NOTEBOOKS]
    for name in ["index.html", *names]:
        side = [a["href"] for a in soups[name].select(".sidebar-tree a")]
        assert len(side) == len(names) + 2 and all(other in side or other == name for other in names)
    for name, after in itertools.pairwise(names):
        assert soups[name].select_one("a.next-page")["href"] == after
        assert soups[after].select_one("a.prev-page")["href"] == name


@pytest.mark.parametrize("path", [*NOTEBOOKS, GLOSSARY], ids=lambda path: path.stem)
def test_every_formula_is_rendered(page, path):
    wanted = sum(len(MATHS.findall(prose(cell))) for _, cell in cells(read(path), "markdown"))
    article = BeautifulSoup(str(page.article), "html.parser")
    for part in article.select(".tip, pre, code, .hint"):
        part.decompose()
    assert len(article.find_all("math")) == wanted
    assert not page.find("merror") and "$" not in article.get_text()


def test_the_font_of_the_formulas_has_all_that_is_drawn(soups, site):
    ttLib = pytest.importorskip("fontTools.ttLib")
    letters = {c for page in soups.values() for formula in page.find_all("math") for c in formula.get_text()}
    letters |= {"√"} if any(page.find("msqrt") for page in soups.values()) else set()
    drawn = {c for c in letters if not c.isspace() and unicodedata.category(c) not in ("Cf", "Mn")}
    known = ttLib.TTFont(site / "_static" / "math.woff").getBestCmap()
    assert "√" in letters and not {c for c in drawn if ord(c) not in known}


@pytest.mark.parametrize("path", [*NOTEBOOKS, GLOSSARY], ids=lambda path: path.stem)
def test_every_page_has_its_pictures_with_words_its_links_and_little_weight(page, path, site):
    pictures = page.article.find_all("img")
    assert len(pictures) == sum("image/png" in output.get("data", {}) for _, output in outputs(read(path)))
    assert all(len(picture["alt"]) >= MIN_ALT and picture["loading"] == "lazy" for picture in pictures)
    links = [a["href"] for a in page.select(".tools a")]
    colab = f"https://colab.research.google.com/github/{REPOSITORY}/blob/main/notebooks/{path.name}"
    assert links == [colab, path.name] and (site / path.name).read_bytes() == path.read_bytes()
    files = {
        tag[name].partition("?")[0] for kind, name in LOADED.items() for tag in page.find_all(kind) if tag.get(name)
    }
    loaded = [site / f"{path.stem}.html", site / "_static" / "math.woff", *(site / file for file in files)]
    assert sum(file.stat().st_size for file in loaded if file.is_file()) < MOST_BYTES


def test_the_front_page_is_the_readme_s_without_what_only_its_maintainers_need(soups):
    front, start = soups["index.html"], soups["start.html"]
    assert front.select_one('a[href="06_the_vae.html#latent-space"] img[alt]')
    assert soups["06_the_vae.html"].find(id="latent-space")
    assert all(front.article.select_one(f'td a[href="{path.stem}.html"]') for path in NOTEBOOKS)
    text = front.get_text() + start.get_text()
    assert "For lecturers" in text and "For maintainers" not in text and "requirements.txt" in text


def test_the_first_picture_may_be_a_link_to_what_moves(monkeypatch, tmp_path):
    shown = "![Digits](images/gallery.png)"
    for picture in (shown, f"[{shown}](https://OWNER.github.io/NAME/06_the_vae.html#latent-space)"):
        (tmp_path / "README.md").write_text(f"# Title\n\n{picture}\n\n## Start\n", encoding="utf-8")
        monkeypatch.setattr(pages, "ROOT", tmp_path)
        assert (
            '<a href="06_the_vae.html#latent-space"><img src="pictures/gallery.png" alt="Digits">' in pages.readme()[0]
        )


# --- what is folded -------------------------------------------------------------------------------


@lesson
def test_answers_hints_and_appendices_are_covered(page, path):
    notebook = read(path)
    asked = sum(cell.source.count("**Predict") for _, cell in cells(notebook, "markdown"))
    covers = page.select("details.prediction")
    assert len(covers) == asked and not page.select("details[open]")
    for cover in covers:
        question = cover.find_previous(string=re.compile("Predict"))
        assert not question.find_parent("details") or question.find_parent("details") in cover.parents
        assert cover.select(".cell_input") and cover.find_all(["p", "ol", "ul"], recursive=False), (
            "no code or no answer"
        )
        assert not cover.find(["h2", "h3"])
        behind = cover.find_next_sibling()
        assert not behind or "tag_hide-input" not in behind.get("class", []) or not behind.select("pre.claims"), (
            "the claims behind an answer give it away"
        )
    appendices = [cell for _, cell in cells(notebook, "markdown") if re.match(r"## *(A\d|Appendix)", cell.source)]
    assert len(page.select("section > details.appendix")) == len(appendices)

    known = exercises_of(int(path.stem[:2]))
    first = [part for part in page.select("details.help") if not part.find_parent(class_="help")]
    assert len(first) == len(known)
    for exercise, part in zip(known, first, strict=True):
        for hint in exercise.hints:
            assert part.select_one(":scope > .hint").get_text() == hint
            part = part.select_one(":scope > details.help")
        assert exercise.name in part.select_one("pre").get_text()


@lesson
def test_claims_are_quiet_plumbing_is_folded_and_terms_are_explained(page, path):
    notebook = read(path)
    printed = "".join(o.text for _, o in outputs(notebook) if o.output_type == "stream").splitlines()
    quiet = "".join(pre.get_text() for pre in page.select("pre.claims")).splitlines()
    assert quiet == [line for line in printed if line.startswith("✔")]
    plumbing = [c for _, c in cells(notebook, "code") if {"draw", "assert", "widget"} & {*c.metadata.get("tags", [])}]
    assert len(page.select("details.hide")) == len(plumbing)
    assert not page.find(string=re.compile("not attempted yet"))
    links = re.findall(r"\]\(glossary\.ipynb#", "".join(prose(cell) for _, cell in cells(notebook, "markdown")))
    assert len(page.select(".term > a + .tip")) == len(links)


def sources(*made: nbformat.NotebookNode) -> list[str]:
    return [cell.source for cell in pages.with_answers_covered(made)]


def test_what_is_covered_follows_from_the_structure():
    ask, code, text = new_markdown_cell("Why? **Predict.** A or B?"), new_code_cell("f()"), new_markdown_cell("A.")
    task = new_markdown_cell("**Exercise 1.1**", metadata={"tags": ["exercise"]})
    both = new_markdown_cell("B.\n\n**Predict.** C or D?")
    cover, end = pages.folded("prediction", "").source.partition("\n")[0], "</details>\n\n"
    short = [source.partition("\n<summary>")[0] for source in sources(ask, task, code, text, text)]
    assert short == [ask.source, task.source, cover, "f()", "A.", end, "A."], "an exercise stays in sight"
    short = [source.partition("\n<summary>")[0] for source in sources(ask, code, both, code, text)]
    assert short == [ask.source, cover, "f()", "B.\n\n", end, "**Predict.** C or D?", cover, "f()", "A.", end]
    claims = new_code_cell("claim()", metadata={"tags": ["assert"]})
    short = [source.partition("\n<summary>")[0] for source in sources(ask, code, claims, both, claims, code, text)]
    assert short == [ask.source, cover, "f()", "claim()", "B.\n\n", "claim()", end, "**Predict.** C or D?", cover,
                     "f()", "A.", end]  # fmt: skip
    with pytest.raises(ValueError, match="without an answer"):
        sources(ask, code, new_markdown_cell("## 2 · On"))


def test_what_is_printed_keeps_its_order_and_its_words(tmp_path):
    cell = new_code_cell("x", outputs=[new_output("stream", name="stdout", text="a\n✔ b < c\n✔ d\ne <f>\n\n✔ g")])
    pages.as_shown(cell, tmp_path, "01")
    shown = [html.unescape(re.sub("<.?pre[^>]*>", "", (o.get("data") or {"text/html": o.text})["text/html"])) for o in
             cell.outputs]  # fmt: skip
    assert shown == ["a\n", "✔ b < c\n✔ d\n", "e <f>\n\n", "✔ g"]


def test_another_folder_than_a_site_is_left_alone(site, tmp_path):
    import build

    (tmp_path / "mine.txt").touch()
    with pytest.raises(FileExistsError, match="holds something else"):
        build.build(tmp_path)
