"""Pages of the website, made from the course's notebooks and its README: what Sphinx reads.

Every page follows from the structure of its notebook, as the slides do: nothing is set by hand, and a new notebook is
a new page. A prediction's code and answer are covered; an exercise is followed by its hints and a solution, each inside
the one before; appendices and cells that only draw, assert or set up are folded; a link to a term explains it.
"""

from __future__ import annotations

import base64
import html
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import nbformat
from decoders import script
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell, new_output

from course_utils._files import ROOT
from course_utils.teaching.exercises import find
from course_utils.teaching.exercises._stub import without_docstrings
from course_utils.teaching.lectures import NOTEBOOKS, lessons
from course_utils.teaching.session import REPOSITORY

GLOSSARY = NOTEBOOKS / "glossary.ipynb"
README_URL = f"https://github.com/{REPOSITORY}#readme"
HELP = ("A first hint", "A second hint", "A third hint", "One way to write it")

MOVES = """Here it moves in the page: a smaller model, trained on MNIST, whose decoder computes in your browser. Drag in
the square, or reach it with Tab and use the arrow keys."""
# What moves in the page: notebook -> its call -> model, what it is.
EXPLORERS = {
    "explore_latents": {
        "plane": "A VAE with two latent numbers. The square shows what its decoder makes of each place. The buttons "
        "lead to the codes of ten test images.",
        "digits": "A VAE with ten latent numbers. The square holds two of the six that move most over the data, the "
        "sliders the other four. The buttons lead to the codes of ten test images.",
    },
    "explore_style": {
        "style": "A conditional VAE with a learned prior. The buttons choose the digit. Square and sliders change the "
        "style, in standard deviations of that digit's prior. The row shows all ten digits in the same style.",
    },
}


def write(source: Path, out: Path) -> None:
    """Write what Sphinx reads into `source`, and the pictures, notebooks and models that go with it into `out`."""
    source.mkdir(parents=True)
    (out / "pictures").mkdir(parents=True)
    (out / "models").mkdir()
    definitions = dict(terms(nbformat.read(GLOSSARY, as_version=4)))
    for path in (*lessons(), GLOSSARY):
        notebook = page(path, out, definitions)
        nbformat.write(notebook, source / path.name)
        shutil.copy(path, out)
    for name in (name for models in EXPLORERS.values() for name in models):
        (out / "models" / f"{name}.js").write_text(script(name), encoding="utf-8")
    shutil.copytree(ROOT / "images", source / "images", ignore=shutil.ignore_patterns("*.svg"))
    shutil.copy(ROOT / "images" / "gallery.png", out / "pictures")
    front, rest = readme()
    (source / "index.md").write_text(front, encoding="utf-8")
    (source / "start.md").write_text(rest, encoding="utf-8")


def page(path: Path, out: Path, definitions: dict[str, str]) -> NotebookNode:
    """The notebook at `path` as a page."""
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata["language_info"] = {"name": "python", "pygments_lexer": "ipython3"}
    cells = [cell for cell in notebook.cells if "navigation" not in cell.metadata.get("tags", [])]
    tools = f"""<p class="tools"><a href="https://colab.research.google.com/github/{REPOSITORY}/blob/main/notebooks/\
{path.name}">Open in Colab</a> <a href="{path.name}" download>Download the notebook</a></p>"""
    cells[0].source = re.sub(r"^\[!\[.*\]\(https://colab.*\)$", tools, cells[0].source, count=1, flags=re.MULTILINE)
    if setup := [i for i, cell in enumerate(cells) if tagged(cell, "setup")]:
        first, last = setup[0], setup[-1] + 1
        cells[first:last] = [folded("setup", "Set-up and imports"), *cells[first:last], end()]
    if path != GLOSSARY:
        cells = [*with_appendices_folded(with_answers_covered(with_help(cells)))]
    for i, cell in enumerate(cells):
        if cell.cell_type == "code":
            as_shown(cell, out / "pictures", f"{path.stem}-{i}")
        else:
            cell.source = explained(cell.source, definitions)
    notebook.cells = cells
    return notebook


# --- what is folded -------------------------------------------------------------------------------


def folded(kind: str, summary: str) -> NotebookNode:
    """The beginning of what is folded; `end` ends it."""
    return new_markdown_cell(f'<details class="{kind}">\n<summary>{summary}</summary>')


def end(times: int = 1) -> NotebookNode:
    return new_markdown_cell("</details>\n\n" * times)


def tagged(cell: NotebookNode, *tags: str) -> bool:
    return bool({*tags} & {*cell.metadata.get("tags", [])})


def with_answers_covered(cells: Iterator[NotebookNode]) -> Iterator[NotebookNode]:
    """From the code that follows a prediction to the text that answers it, which is the first one behind the code, and
    the claims behind that. Where the text asks the next question, the question comes after the cover."""
    asked = covered = False
    behind: list[NotebookNode] = []  # the end of a cover that only claims can still move
    for cell in cells:
        if behind and tagged(cell, "assert"):
            yield cell
            continue
        yield from behind
        behind = []
        if cell.cell_type == "code":
            if asked and not tagged(cell, "exercise"):
                asked, covered = False, True
                yield folded("prediction", "Guess first. Then show the code and the answer")
            yield cell
        elif covered and not tagged(cell, "exercise", "help"):
            answer, question, asks = cell.source.partition("**Predict")
            covered, asked = False, bool(question)
            if answer.startswith("#"):
                raise ValueError(f"a prediction without an answer before {answer[:40]!r}")
            yield new_markdown_cell(answer)
            behind = [end(), *([new_markdown_cell(question + asks)] if asked else [])]
        else:
            asked = (asked and not cell.source.startswith("#")) or "**Predict" in cell.source
            yield cell
    yield from behind


def with_help(cells: list[NotebookNode]) -> Iterator[NotebookNode]:
    """Behind an exercise its hints and a solution, each inside the one before."""
    for cell in cells:
        yield cell
        number = re.search(r'\bcheck\("([\d.]+)"', cell.source)
        if cell.cell_type == "code" and tagged(cell, "exercise") and number:
            exercise = find(number[1])
            cell.outputs = []  # that nothing has been tried yet
            code = f"```python\n{without_docstrings(exercise.source())}\n```"
            texts = [*(f'<p class="hint">{html.escape(hint)}</p>' for hint in exercise.hints), code]
            for summary, text in zip(HELP, texts, strict=True):
                yield from (tagged_help(folded("help", summary)), tagged_help(new_markdown_cell(text)))
            yield tagged_help(end(len(texts)))


def tagged_help(cell: NotebookNode) -> NotebookNode:
    cell.metadata["tags"] = ["help"]
    return cell


def with_appendices_folded(cells: Iterator[NotebookNode]) -> Iterator[NotebookNode]:
    """What follows the heading of an appendix, up to the next heading."""
    opened = False
    for cell in cells:
        heading = cell.cell_type == "markdown" and re.match(r"## .*\n*", cell.source)
        if heading and opened:
            yield end()
            opened = False
        if heading and re.match(r"## *(A\d|Appendix)", cell.source):
            opened = True
            yield from (new_markdown_cell(heading[0]), folded("appendix", "Show this appendix"))
            cell.source = cell.source[heading.end() :]
        yield cell
    if opened:
        yield end()


# --- what a cell shows ----------------------------------------------------------------------------


def as_shown(cell: NotebookNode, pictures: Path, name: str) -> None:
    """Fold code that is no lesson; put pictures into files, and claims apart from what else is printed."""
    if tagged(cell, "draw", "assert", "widget"):
        cell.metadata["tags"] = ["hide-input"]
        cell.source = re.sub(r"^# @title .*\n", "", cell.source)
    outputs = []
    for k, output in enumerate(cell.outputs):
        data = output.get("data", {})
        if output.output_type == "stream":
            for quiet, text in runs(output.text):
                text = f'<pre class="claims">{html.escape(text)}</pre>' if quiet else text
                outputs.append(shown(text) if quiet else new_output("stream", name=output.name, text=text))
        elif "image/png" in data:
            file = pictures / f"{name}-{k}.png"
            file.write_bytes(content := base64.b64decode(data["image/png"]))
            alt = html.escape(output.metadata["image/png"]["alt"])
            width, height = (int.from_bytes(content[at : at + 4], "big") for at in (16, 20))
            size = f'width="{width}" height="{height}"'
            outputs.append(shown(f'<img src="pictures/{file.name}" alt="{alt}" {size} loading="lazy">'))
        else:
            outputs.append(output)
    if call := re.search(r"\bexplore_\w+(?=\()", cell.source):
        outputs.append(shown(explorers(call[0])))
    cell.outputs = outputs


def shown(markup: str) -> NotebookNode:
    return new_output("display_data", data={"text/html": markup})


def runs(text: str) -> Iterator[tuple[bool, str]]:
    """The lines of a text in runs: claims (those that begin with ✔), and others."""
    for run in re.findall(r"(?:^✔.*\n?)+|(?:^(?!✔).*\n|^(?!✔).+\Z)+", text, re.MULTILINE):
        yield run.startswith("✔"), run


def explorers(call: str) -> str:
    """What moves in the page in the place of a widget, or the word that the widget moves elsewhere."""
    if call not in EXPLORERS:
        return '<p class="elsewhere">These controls move in a running notebook: open it in Colab, or download it.</p>'
    parts = []
    for name, words in EXPLORERS[call].items():
        parts.append(f'<script src="models/{name}.js" defer></script>')
        parts.append(f'<figure class="explorer" data-model="{name}"><figcaption>{words}</figcaption></figure>')
    last = '<script src="_static/explorer.js" defer></script>'
    return f'<div id="latent-space"><p>{MOVES}</p>{"".join(parts)}{last}</div>'


# --- words ----------------------------------------------------------------------------------------


def terms(glossary: NotebookNode) -> Iterator[tuple[str, str]]:
    """The name in the address of every term, and what it means, in one paragraph."""
    for cell in glossary.cells:
        for block in re.split(r"^### ", cell.source, flags=re.MULTILINE)[1:]:
            term, _, meaning = block.strip().split("\n\n", 2)
            plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", meaning)
            yield slug(term.replace(" ", "-")), " ".join(plain.split())


def slug(fragment: str) -> str:
    """The last part of an address as Sphinx makes it of a heading, from how JupyterLab does."""
    return re.sub(r"[^\w-]", "", unquote(fragment).lower())


def explained(text: str, definitions: dict[str, str]) -> str:
    """Markdown whose links to terms carry the terms' meaning, and whose addresses are those of Sphinx."""

    def with_meaning(link: re.Match) -> str:
        if slug(link[2]) not in definitions:
            raise ValueError(f"{link[0]}: the glossary has no such term")
        tip = f'<span class="tip" role="tooltip">{definitions[slug(link[2])]}</span>'
        return f'<span class="term">[{link[1]}](glossary.ipynb#{link[2]}){tip}</span>'

    def as_markdown(summary: re.Match) -> str:  # behind a blank line it is; there a number must not begin a list
        return "<summary>\n\n" + re.sub(r"^(\d+)\.", r"\1\\.", summary[1]) + "\n\n</summary>"

    text = re.sub(r"<summary>(.+)</summary>", as_markdown, text)
    text = re.sub(r"\[([^\]]+)\]\(glossary\.ipynb#([^)]+)\)", with_meaning, text)
    return re.sub(r"\]\(([\w.]*)#([^)]+)\)", lambda found: f"]({found[1]}#{slug(found[2])})", text)


def readme() -> tuple[str, str]:
    """The front page, which is the README up to its first command, and a page with the rest."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    text = text.replace("](notebooks/", "](").partition("\n## For maintainers")[0]
    front, start, rest = text.partition("\n## Start\n")
    rest = re.sub(
        r"\n## As a website\n.*?(?=\n## )", "", f"# Run it, teach with it, use it\n{start}{rest}", flags=re.DOTALL
    )
    front = front.replace("](#", "](start.md#")
    picture = r"^\[?!\[([^\]]*)\]\(images/gallery\.png\)(?:\]\([^)]*\))?$"
    linked = r'<p><a href="06_the_vae.html#latent-space"><img src="pictures/gallery.png" alt="\1"></a></p>'
    front = re.sub(picture, linked, front, count=1, flags=re.MULTILINE)
    front = re.sub(r" \[!\[Open [^|]*\|$", "", front, flags=re.MULTILINE)  # the badges: each page has its own link
    front = re.sub(r"^(\| notebook .*\|) Colab \|\n(.*) --- \|$", r"\1\n\2", front, flags=re.MULTILINE)
    names = "\n".join(path.stem for path in lessons())
    contents = f"```{{toctree}}\n:hidden:\n:caption: The notebooks\n\n{names}\n```\n"
    contents += "```{toctree}\n:hidden:\n:caption: Beside them\n\nglossary\nstart\n```\n"
    return f"{front}\n\n{contents}", rest
