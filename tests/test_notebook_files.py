"""What every notebook file keeps to, read without running it. Each rule is tried on notebooks that break it.

A rule is a function that takes the path and the notebook and returns its complaints, one line each.
"""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from course_utils.teaching import session as runtime

from .conftest import NOTEBOOKS, ROOT, python
from .tools.execute import KERNELSPEC, WIDGET_VIEW, clean, execute, unwanted_outputs

MAX_BYTES = 1_000_000
MAX_LINES = 30
MIN_ALT = 12

Rule = Callable[[Path, NotebookNode], list[str]]
RULES: list[Rule] = []


def rule(function: Rule) -> Rule:
    RULES.append(function)
    return function


# --- what rules look at -------------------------------------------------------------------------


def cells(notebook: NotebookNode, kind: str) -> Iterator[tuple[int, NotebookNode]]:
    return ((i, cell) for i, cell in enumerate(notebook.cells) if cell.cell_type == kind)


def outputs(notebook: NotebookNode) -> Iterator[tuple[int, NotebookNode]]:
    return ((i, output) for i, cell in cells(notebook, "code") for output in cell.outputs)


def output_texts(notebook: NotebookNode) -> Iterator[tuple[int, str, str]]:
    """Every piece of text that is stored as an output: cell, its type, text."""
    for i, output in outputs(notebook):
        if output.output_type == "stream":
            yield i, output.name, output.text
        elif output.output_type == "error":
            yield i, "traceback", "\n".join(output.traceback)
        else:
            for kind, content in output.data.items():
                if kind not in ("image/png", "image/jpeg"):
                    yield i, kind, content if isinstance(content, str) else json.dumps(content)


def prose(cell: NotebookNode) -> str:
    """A Markdown cell's text without its code: fenced blocks and `spans` are not for these rules."""
    text = re.sub(r"^ {0,3}(```+|~~~+).*?^ {0,3}\1 *$", "", cell.source, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "code", text, flags=re.DOTALL)


def all_prose(notebook: NotebookNode) -> str:
    return "\n\n".join(prose(cell) for _, cell in cells(notebook, "markdown"))


# --- the file as it was executed ----------------------------------------------------------------


@rule
def is_valid(path: Path, notebook: NotebookNode) -> list[str]:
    if (notebook.nbformat, notebook.nbformat_minor) < (4, 5):
        return ["older than format 4.5: its cells have no ids"]
    ids = [cell.get("id") for cell in notebook.cells]
    if len(set(ids)) < len(ids):
        return [f"the cell id {name!r} occurs twice" for name in ids if ids.count(name) > 1]
    try:
        nbformat.validate(notebook)
    except nbformat.ValidationError as error:
        return [f"not a valid notebook: {error}"]
    return []


@rule
def is_executed_in_order(path: Path, notebook: NotebookNode) -> list[str]:
    code = [(i, cell) for i, cell in cells(notebook, "code") if cell.source.strip()]
    return [
        f"cell {i}: execution count {cell.execution_count}, expected {n}"
        for n, (i, cell) in enumerate(code, start=1)
        if cell.execution_count != n
        or any(output.get("execution_count", n) != n for output in cell.outputs)
    ]  # fmt: skip


@rule
def has_no_error_and_no_stderr(path: Path, notebook: NotebookNode) -> list[str]:
    return unwanted_outputs(notebook)


@rule
def keeps_no_widget(path: Path, notebook: NotebookNode) -> list[str]:
    found = [f"cell {i}: a widget's view is stored" for i, o in outputs(notebook) if WIDGET_VIEW in o.get("data", {})]
    everything = [notebook.metadata, *(cell.metadata for cell in notebook.cells)]
    if any("widgets" in metadata for metadata in everything):
        found.append("widgets' state is stored in the metadata: GitHub may refuse to show the notebook")
    return found


@rule
def names_no_machine(path: Path, notebook: NotebookNode) -> list[str]:
    folders = r"(?<![\w.:/~-])/(?:home|root|work|tmp|Users|private|mnt)/|[A-Za-z]:\\+Users\b"
    parent = str(ROOT.parent)
    if len(parent) > 3:
        folders += "|" + re.escape(parent) + r"(?![\w-])"
    texts = [(i, cell.source) for i, cell in enumerate(notebook.cells)]
    texts += [(i, text) for i, _, text in output_texts(notebook)]
    texts.append(("metadata", json.dumps(notebook.metadata)))
    return [
        f"cell {i}: the path of one machine, {text[max(0, m.start() - 20) : m.end() + 30]!r}"
        for i, text in texts
        if (m := re.search(folders, text))
    ]


@rule
def is_small(path: Path, notebook: NotebookNode) -> list[str]:
    size = len(nbformat.writes(notebook).encode())
    return [f"{size:,} bytes; {MAX_BYTES:,} is the limit"] if size >= MAX_BYTES else []


@rule
def has_the_plain_kernel(path: Path, notebook: NotebookNode) -> list[str]:
    expected = {"kernelspec": KERNELSPEC, "language_info": {"name": "python"}}
    if notebook.metadata == expected:
        return []
    return [f"metadata should be {expected}, as tests.tools.execute leaves it; found {dict(notebook.metadata)}"]


@rule
def is_executed_on_mnist(path: Path, notebook: NotebookNode) -> list[str]:
    lines = [line for _, _, text in output_texts(notebook) for line in text.splitlines()]
    data = [line for line in lines if line.startswith("Data: ")]
    if not data:
        return []  # a notebook without images
    return [f"the outputs are not MNIST's: {line}" for line in data if not line.startswith("Data: MNIST")]


# --- pictures and links -------------------------------------------------------------------------


@rule
def describes_every_picture(path: Path, notebook: NotebookNode) -> list[str]:
    found = []
    for i, output in outputs(notebook):
        for kind in output.get("data", {}):
            if kind.startswith("image/"):
                alt = output.metadata.get(kind, {}).get("alt", "")
                if len(alt.strip()) < MIN_ALT:
                    found.append(f"cell {i}: a figure with the alternative text {alt!r}")
    texts = [(i, prose(cell)) for i, cell in cells(notebook, "markdown")]
    texts += [(i, text) for i, kind, text in output_texts(notebook) if kind in ("text/html", "text/markdown")]
    for i, text in texts:
        alts = re.findall(r"!\[([^\]]*)\]", text)
        for tag in re.findall(r"<img\b[^>]*>", text):
            alt = re.search(r"""\balt=(["'])(.*?)\1""", tag)
            alts.append(alt[2] if alt else "")
        found += [f"cell {i}: a picture with the alternative text {a!r}" for a in alts if len(a.strip()) < MIN_ALT]
    return found


@rule
def links_to_what_exists(path: Path, notebook: NotebookNode) -> list[str]:
    found = []
    for i, cell in cells(notebook, "markdown"):
        text = prose(cell)
        targets = re.findall(r"\]\(\s*<?([^)\s>]+)", text) + re.findall(r"""\b(?:src|href)=["']([^"']+)""", text)
        for target in targets:
            if re.match(r"(?:https?|mailto):|#", target):
                continue
            file = urllib.parse.unquote(target.partition("#")[0])
            if target.startswith(("attachment:", "/", "data:")) or not (path.parent / file).exists():
                found.append(f"cell {i}: {target} does not exist beside the notebook")
    return found


# --- mathematics --------------------------------------------------------------------------------

# Each renders in one of JupyterLab, GitHub and Colab and not in another.
UNSAFE = re.compile(
    r"\\(?:bm|boldsymbol|mathbbm|newcommand|renewcommand|providecommand|def|let|DeclareMathOperator|operatorname"
    r"|label|ref|eqref|require|href|intertext|mathds|dfrac\{\}|text(?:sc|tt))(?![A-Za-z])\*?"
)
MATHS = re.compile(r"\$\$(?P<block>.+?)\$\$|(?<!\$)\$(?!\$)(?P<inline>(?:[^$\n]|\n(?![ \t]*\n))+?)\$(?!\$)", re.DOTALL)


@rule
def writes_maths_that_renders_everywhere(path: Path, notebook: NotebookNode) -> list[str]:
    found = []
    for i, cell in cells(notebook, "markdown"):
        found += [f"cell {i}: {complaint}" for complaint in maths_complaints(prose(cell))]
    for i, kind, text in output_texts(notebook):
        if kind == "text/html" and re.search(r"\$[^$]+\$|\\\(|\\\[|\\begin\{", text):
            found.append(f"cell {i}: mathematics in an HTML output, which Colab does not render")
        if kind == "text/latex":
            found.append(f"cell {i}: a LaTeX output; keep mathematics in Markdown")
    return found


def maths_complaints(text: str) -> Iterator[str]:
    text = "\n".join(re.sub(r"^ {0,3}(> ?)+", "", line) for line in text.split("\n"))  # quoted: > $$…$$
    for command in UNSAFE.findall(text):
        yield f"{command} does not render everywhere"
    if re.search(r"\\\(|\\\)|(?<!\\)\\\[|(?<!\\)\\\]", text):
        yield r"\( \) and \[ \] do not render everywhere: write $…$ and $$…$$"
    if "\\$" in text or re.search(r"(?<![\\$\w}])\$\d[\d.,]*(?=\s(?!.*\$)|$)", text, re.MULTILINE):
        yield "a dollar sign that is no mathematics: write USD"
    if re.search(r"\[!(NOTE|TIP|IMPORTANT|WARNING|CAUTION)\]", text):
        yield "> [!NOTE] is GitHub's alone"

    for block in re.finditer(r"\$\$(.+?)\$\$", text, re.DOTALL):
        before, after = text[: block.start()], text[block.end() :]
        shown = block[1].strip()[:40]
        if not re.search(r"(?:\A|\n[ \t]*\n)[ \t]*\Z", before) or not re.match(
            r"[ \t]*(?:\Z|\n[ \t]*(?:\n|\Z))", after
        ):
            yield f"$${shown}… needs a blank line before and after"
        if re.search(r"\n[ \t]*\n", block[1]):
            yield f"$${shown}… holds a blank line, which ends it"
    rest = re.sub(r"\$\$(.+?)\$\$", "", text, flags=re.DOTALL)
    for paragraph in re.split(r"\n[ \t]*\n", rest):
        if "$$" in paragraph or paragraph.replace("\\$", "").count("$") % 2:
            yield f"a dollar sign without its partner in {paragraph.strip()[:60]!r}"
    outside = MATHS.sub("", text)
    if re.search(r"\\begin\{|\\frac|\\mathbf|\\mathbb|\\lVert", outside):
        yield "mathematics outside of $…$ and $$…$$"

    for line in rest.split("\n"):
        for formula in MATHS.finditer(line):
            inner, shown = formula["inline"] or "", formula[0]
            if inner != inner.strip():
                yield f"{shown} has a space beside a dollar sign"
            if re.search(r"[\w$\\]$", line[: formula.start()]) or re.match(r"[\w$]", line[formula.end() :]):
                yield f"{shown} touches a letter or a digit outside of it"
            if line.lstrip().startswith("|") and "|" in inner:
                yield rf"{shown} has | inside a table: write \mid, \lVert or \vert"
    for formula in MATHS.finditer(text):
        if re.search(r"<[A-Za-z/!]", formula[0]):
            yield f"{formula[0][:40]} has < before a letter, which begins a tag: leave a space or write \\lt"


# --- what a reader finds in every notebook ------------------------------------------------------


@rule
def begins_with_title_objectives_time_and_badge(path: Path, notebook: NotebookNode) -> list[str]:
    code = [i for i, _ in cells(notebook, "code")]
    head = new_notebook(cells=notebook.cells[: code[0] if code else None])
    text = all_prose(head)
    found = []
    if not re.match(r"# \S", text):
        found.append("the first cell does not begin with a title, # …")
    if "?" not in text.partition("\n## ")[0]:
        found.append("the head asks no question")
    after = re.split(r"you will be able to", text, maxsplit=1, flags=re.IGNORECASE)
    objectives = (
        re.match(r"[^\n]*\n+((?:[ \t]*(?:[-*]|\d+\.) .+\n?(?:[ \t]+\S.*\n?)*\n?)+)", after[1])
        if len(after) > 1
        else None
    )
    number = len(re.findall(r"^(?:[-*]|\d+\.) ", objectives[1], re.MULTILINE)) if objectives else 0
    if not 3 <= number <= 5:
        found.append(f'"you will be able to" is followed by {number} objectives; 3 to 5 make a list')
    if not re.search(r"running time\W[^\n]*?\d[^\n]*?\b(s|seconds?|min|minutes?)\b", text, re.IGNORECASE):
        found.append('no "Running time: … min" (or s) in the head')
    if not re.search(r"know first|prerequisite", text, re.IGNORECASE):
        found.append('no "What to know first" in the head')
    address = f"https://colab.research.google.com/github/{runtime.REPOSITORY}/blob/main/notebooks/{path.name}"
    if not re.search(rf"""(?:\]\(|href=["']){re.escape(address)}["')]""", text):
        found.append(f"no Colab badge that leads to {address}")
    return found


@rule
def begins_with_the_set_up_cell(path: Path, notebook: NotebookNode) -> list[str]:
    sources = [cell.source for _, cell in cells(notebook, "code")]
    if sources and sources[0] == runtime.SETUP_CELL and sources.count(runtime.SETUP_CELL) == 1:
        return []
    return ["the first code cell must be course_utils.teaching.session.SETUP_CELL, letter by letter, once"]


@rule
def ends_with_summary_questions_and_references(path: Path, notebook: NotebookNode) -> list[str]:
    sections = re.split(r"^#{1,3} +(.+)$", all_prose(notebook), flags=re.MULTILINE)
    titles, texts = sections[1::2], sections[2::2]

    def section(pattern: str) -> str:
        return "".join(text for title, text in zip(titles, texts, strict=True) if re.search(pattern, title, re.I))

    found = []
    if len(section("summary").split()) < 20:
        found.append("no section with Summary in its title that says something")
    questions = section(r"test yourself|questions|self-test")
    if questions.count("<details>") < 2:
        found.append('no section "Test yourself" with two or more answers folded in <details>')
    if not re.search(r"^(?:[-*]|\d+\.) .*\b(19|20)\d\d\b", section("references"), re.MULTILINE):
        found.append("no section References with a list of works and their years")
    if not titles or "references" not in titles[-1].lower():
        found.append("References is not the last section")
    return found


@rule
def folds_properly(path: Path, notebook: NotebookNode) -> list[str]:
    found = []
    for i, cell in cells(notebook, "markdown"):
        text = prose(cell)
        tags = re.findall(r"<(/?)details\b", text)
        if tags != ["", "/"] * (len(tags) // 2):
            found.append(f"cell {i}: <details> and </details> do not pair up")
        if len(re.findall(r"<details>\s*<summary>.+?</summary>", text)) != tags.count(""):
            found.append(f"cell {i}: <details> without <summary>…</summary>, on one line, at its beginning")
        if re.search(r"</summary>(?![ \t]*\n[ \t]*\n)", text):
            found.append(f"cell {i}: no blank line after </summary>, so Markdown inside is not rendered")
        if re.search(r"(?<!\n)\n?[ \t]*</details>", re.sub(r"\n[ \t]*\n\s*</details>", "", text)):
            found.append(f"cell {i}: no blank line before </details>")
    return found


# --- code ---------------------------------------------------------------------------------------


@rule
def holds_code_that_compiles(path: Path, notebook: NotebookNode) -> list[str]:
    found = []
    for i, cell in cells(notebook, "code"):
        try:
            compile(TransformerManager().transform_cell(cell.source), f"cell {i}", "exec", dont_inherit=True)
        except SyntaxError as error:  # a typographic minus sign or quotation mark among them
            found.append(f"cell {i}, line {error.lineno}: {error.msg}")
    return found


@rule
def holds_cells_that_fit_in_the_head(path: Path, notebook: NotebookNode) -> list[str]:
    lengths = {i: len(cell.source.strip().splitlines()) for i, cell in cells(notebook, "code")}
    return [f"cell {i}: {n} lines of code; {MAX_LINES} is the limit" for i, n in lengths.items() if n > MAX_LINES]


# --- the rules on the notebooks -----------------------------------------------------------------


@pytest.mark.parametrize("check", RULES, ids=lambda check: check.__name__)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook(path, check):
    complaints = check(path, nbformat.read(path, as_version=nbformat.NO_CONVERT))
    assert not complaints, "\n".join([path.name, *complaints])


def test_the_code_is_linted_and_formatted():
    for command in (["check"], ["format", "--check", "--diff"]):
        ran = subprocess.run(
            python("-m", "ruff", *command, "--no-cache", "."),
            cwd=ROOT,
            capture_output=True,
            text=True,
            encoding="utf-8",
        )
        assert ran.returncode == 0, f"{ran.stdout[-10_000:]}{ran.stderr[-2_000:]}"


# --- each rule on a notebook that breaks it -----------------------------------------------------

NAME = "99_example.ipynb"
BADGE = f"https://colab.research.google.com/github/{runtime.REPOSITORY}/blob/main/notebooks/{NAME}"
HEAD = f"""\
# 99 · An example

[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({BADGE})

**Why does it work?**

After this notebook you will be able to

- write $p(z \\mid x)$ and $\\lVert x \\rVert^2$, and
  say it aloud,
- code `a|b` and `$HOME`, and
- stop.

**What to know first:** nothing. **Running time:** about 2 min on two CPU cores.
"""
BODY = """\
## 1 · One idea

The bound, for $k$-means (not really) and $\\beta = 1$:

$$
\\begin{aligned}
\\log p(x) &\\ge \\mathbb{E}_q[\\log p(x \\mid z)] \\\\
&- \\mathrm{KL}(q \\,\\Vert\\, p)
\\end{aligned}
$$

| symbol | meaning |
| --- | --- |
| $q(z \\mid x)$ | encoder |

![The two networks, side by side](picture.png) and [the same again](99_example.ipynb#2).

> Quoted, with $x < y$.

```bash
echo "$HOME | $$ \\( \\bm"
```
"""
TAIL = f"""\
## Summary

{"word " * 25}

## Test yourself

1. Why?

<details><summary>Answer</summary>

Because $1 < 2$.

</details>

2. How?

<details>
<summary>Answer</summary>

$$a = b$$

</details>

## References

- Kingma & Welling 2014, eq. (10).
"""
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def good() -> NotebookNode:
    """A small notebook that keeps to every rule, executed: a text, a number and a figure."""
    data = [new_output("stream", text="Data: MNIST, 3\n")]
    one = [new_output("execute_result", {"text/plain": "1"}, execution_count=2)]
    alt = {"image/png": {"alt": "A dot in the middle"}}
    figure = [new_output("display_data", {"image/png": PNG, "text/plain": "x"}, metadata=alt)]
    notebook = new_notebook(
        cells=[
            new_markdown_cell(HEAD),
            new_code_cell(runtime.SETUP_CELL, execution_count=1, outputs=data),
            new_markdown_cell(BODY),
            new_code_cell("x = 1  # a − sign in a comment\nx", execution_count=2, outputs=one),
            new_code_cell("figure", execution_count=3, outputs=figure),
            new_markdown_cell(TAIL),
        ],
        metadata={"kernelspec": dict(KERNELSPEC), "language_info": {"name": "python"}},
    )
    return nbformat.from_dict(notebook)


def prose_with(extra: str) -> Callable[[NotebookNode], None]:
    def change(notebook: NotebookNode) -> None:
        notebook.cells[2].source += "\n" + extra

    return change


def replaced(old: str, new: str) -> Callable[[NotebookNode], None]:
    def change(notebook: NotebookNode) -> None:
        where = [cell for cell in notebook.cells if old in cell.source]
        assert where, old
        for cell in where:
            cell.source = cell.source.replace(old, new)

    return change


def code_with(source: str) -> Callable[[NotebookNode], None]:
    return lambda notebook: notebook.cells[3].update(source=source)


def output_with(output: dict) -> Callable[[NotebookNode], None]:
    return lambda notebook: notebook.cells[3].outputs.append(nbformat.from_dict(output))


def display(**data: str) -> dict:
    return new_output("display_data", {kind.replace("_", "/"): text for kind, text in data.items()})


def setting(**metadata: object) -> Callable[[NotebookNode], None]:
    return lambda notebook: notebook.metadata.update(metadata)


STDERR = new_output("stream", name="stderr", text="UserWarning")
ERROR = new_output("error", ename="ValueError", evalue="no", traceback=["no"])

BAD: list[tuple[Rule, Callable[[NotebookNode], None]]] = [
    (is_valid, lambda nb: nb.cells[1].pop("outputs")),
    (is_valid, lambda nb: nb.update(nbformat_minor=4)),
    (is_valid, lambda nb: nb.cells[1].update(id=nb.cells[0].id)),
    (is_executed_in_order, lambda nb: nb.cells[3].update(execution_count=None)),
    (is_executed_in_order, lambda nb: nb.cells[4].update(execution_count=7)),
    (is_executed_in_order, lambda nb: nb.cells[3].outputs[0].update(execution_count=9)),
    (has_no_error_and_no_stderr, output_with(STDERR)),
    (has_no_error_and_no_stderr, output_with(ERROR)),
    (keeps_no_widget, output_with(new_output("display_data", {WIDGET_VIEW: {"model_id": "1"}}))),
    (keeps_no_widget, setting(widgets={})),
    (keeps_no_widget, lambda nb: nb.cells[3].metadata.update(widgets={})),
    (names_no_machine, output_with(new_output("stream", text="saved to /home/ada/x.pt"))),
    (names_no_machine, output_with(new_output("stream", text="'/root/x'"))),
    (names_no_machine, output_with(display(text_plain="File(/tmp/x)"))),
    (names_no_machine, output_with(new_output("stream", text="C:\\Users\\ada"))),
    (names_no_machine, output_with(new_output("stream", text=f"in {ROOT.parent}/x"))),
    (names_no_machine, code_with('open("/work/data")')),
    (is_small, output_with(new_output("stream", text="x" * MAX_BYTES))),
    (has_the_plain_kernel, setting(kernelspec={"display_name": "vae", "language": "python", "name": "vae"})),
    (has_the_plain_kernel, setting(language_info={"name": "python", "version": "3.13.1"})),
    (is_executed_on_mnist, output_with(new_output("stream", text="Data: digits, not MNIST"))),
    (describes_every_picture, lambda nb: nb.cells[4].outputs[0].update(metadata={})),
    (describes_every_picture, lambda nb: nb.cells[4].outputs[0].metadata["image/png"].update(alt="x")),
    (describes_every_picture, output_with(new_output("display_data", {"image/svg+xml": "<svg/>"}))),
    (describes_every_picture, replaced("[The two networks, side by side]", "[]")),
    (describes_every_picture, prose_with('<img src="picture.png">')),
    (describes_every_picture, prose_with('<img alt="x" src="picture.png">')),
    (describes_every_picture, output_with(display(text_html="<img src='data:x'>"))),
    (links_to_what_exists, replaced("(picture.png)", "(pictures.png)")),
    (links_to_what_exists, prose_with("[next](100_next.ipynb)")),
    (links_to_what_exists, prose_with('<img src="../images/none.png" alt="none at all, really">')),
    (links_to_what_exists, prose_with("[pasted](attachment:x.png)")),
    *(
        (writes_maths_that_renders_everywhere, prose_with(text))
        for text in [
            r"$\bm{x}$",
            r"$\mathbbm{1}$",
            r"$\newcommand{\x}{1}$",
            r"$\operatorname{KL}$",
            r"$\operatorname*{argmax}$",
            r"$x \label{a}$",
            r"\(x\)",
            r"\[x\]",
            r"It costs \$5.",
            "It costs $5 and more",
            "It costs $5 or $6",
            "$x$5",
            "a$x$",
            "$x $ and $y$",
            "$ x$",
            "one $x and no more",
            "$$x",
            "the equation $$x = y$$ in a line",
            "text\n$$x = y$$\n",
            "\n$$x = y$$\ntext",
            "\n$$\nx\n\n= y\n$$\n",
            "\n| a | b |\n| --- | --- |\n| $p(x|z)$ | b |\n",
            "\n| a | b |\n| --- | --- |\n| $p(x\\|z)$ | b |\n",
            "$a<b$",
            r"\begin{align} x \end{align}",
            "> [!NOTE]\n> x",
        ]
    ),
    (writes_maths_that_renders_everywhere, output_with(display(text_html="<b>$x$</b>"))),
    (writes_maths_that_renders_everywhere, output_with(display(text_latex="$x$"))),
    (begins_with_title_objectives_time_and_badge, replaced("# 99", "99")),
    (begins_with_title_objectives_time_and_badge, replaced("Why does it work?", "It works.")),
    (begins_with_title_objectives_time_and_badge, replaced("you will be able to", "you can")),
    (begins_with_title_objectives_time_and_badge, replaced("- stop.", "")),
    (begins_with_title_objectives_time_and_badge, replaced("about 2 min", "?? min")),
    (begins_with_title_objectives_time_and_badge, replaced("know first", "bring")),
    (begins_with_title_objectives_time_and_badge, replaced(NAME, "98_other.ipynb")),
    (begins_with_title_objectives_time_and_badge, replaced(f"/{runtime.REPOSITORY}/", "/somebody/else/")),
    (begins_with_the_set_up_cell, lambda nb: nb.cells.pop(1)),
    (begins_with_the_set_up_cell, replaced("Run it first", "Run it")),
    (begins_with_the_set_up_cell, code_with(runtime.SETUP_CELL)),
    (ends_with_summary_questions_and_references, replaced("## Summary", "## The end")),
    (ends_with_summary_questions_and_references, replaced("word " * 25, "Well.")),
    (ends_with_summary_questions_and_references, replaced("## Test yourself", "## And")),
    (ends_with_summary_questions_and_references, replaced("Kingma & Welling 2014", "somebody")),
    (ends_with_summary_questions_and_references, replaced("## References", "## References\n\n- 9\n\n## B")),
    (folds_properly, prose_with("<details><summary>x</summary>\n\ny")),
    (folds_properly, prose_with("</details>\n\n<details><summary>x</summary>\n\ny")),
    (folds_properly, prose_with("<details>\n\ny\n\n</details>")),
    (folds_properly, prose_with("<details><summary>x</summary>\ny\n\n</details>")),
    (folds_properly, prose_with("<details><summary>x</summary>\n\ny\n</details>")),
    (holds_code_that_compiles, code_with("x = 2 − 1")),
    (holds_code_that_compiles, code_with("x = “1”")),
    (holds_code_that_compiles, code_with("for x in y")),
    (holds_cells_that_fit_in_the_head, code_with("x = 1\n" * (MAX_LINES + 1))),
]  # fmt: skip


@pytest.fixture
def path(tmp_path):
    (tmp_path / "picture.png").touch()
    (tmp_path / NAME).touch()
    return tmp_path / NAME


@pytest.mark.parametrize("check", RULES, ids=lambda check: check.__name__)
def test_a_good_notebook_keeps_to(path, check):
    assert check(path, good()) == []


@pytest.mark.parametrize(("check", "change"), BAD, ids=[f"{check.__name__}-{n}" for n, (check, _) in enumerate(BAD)])
def test_a_bad_notebook_is_caught_by(path, check, change):
    notebook = good()
    change(notebook)
    assert check(path, notebook)


def test_every_rule_is_tried_on_something_bad():
    assert {check for check, _ in BAD} == set(RULES)


# --- the maintainer's command -------------------------------------------------------------------

NOISY = """\
import sys, time
from IPython.display import display
handle = display("first", display_id=True)
handle.update("last")
print("a", flush=True)
print("b")
"""


def run_execute(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        python("-m", "tests.tools.execute", *arguments),
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        encoding="utf-8",
    )


KEPT = {"tags": ["keep"], "slideshow": {"slide_type": "slide"}}
NOISY_METADATA = {**KEPT, "execution": {"iopub.status.busy": "2026"}}


def test_execute_stores_clean_outputs(path):
    notebook = good()
    notebook.metadata = nbformat.from_dict({"kernelspec": {"name": "other", "display_name": "x"}, "widgets": {}})
    notebook.cells[3:5] = [
        new_code_cell(NOISY, metadata=NOISY_METADATA),
        new_code_cell("import ipywidgets; ipywidgets.IntSlider()"),
        new_code_cell(""),
        new_code_cell("import os\n[os.environ[f'COURSE_{n}'] for n in ('DATASET', 'SEED', 'NOTEBOOK')]"),
    ]  # fmt: skip
    ids = [cell.id for cell in notebook.cells]
    nbformat.write(notebook, path)
    ran = run_execute("--in-place", "--seed", "3", str(path), PYTHONPATH=str(ROOT))
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "stored" in ran.stdout

    stored = nbformat.read(path, as_version=nbformat.NO_CONVERT)
    for check in (
        is_valid,
        is_executed_in_order,
        keeps_no_widget,
        has_the_plain_kernel,
        has_no_error_and_no_stderr,
    ):
        assert check(path, stored) == []
    assert [cell.id for cell in stored.cells] == ids
    assert "seed 3" in stored.cells[1].outputs[0].text
    shown, printed = stored.cells[3].outputs
    assert shown.data == {"text/plain": "'last'"}
    assert printed.text == "a\nb\n"
    assert stored.cells[3].metadata == KEPT
    assert stored.cells[4].outputs == []
    assert stored.cells[6].outputs[0].data["text/plain"] == "['mnist', '3', '99_example']"
    assert not list(path.parent.glob(".*"))

    once = path.read_bytes()
    assert run_execute("--in-place", "--seed", "3", str(path), PYTHONPATH=str(ROOT)).returncode == 0
    assert path.read_bytes() == once  # the same outputs, byte for byte


@pytest.mark.parametrize("source", ["import warnings; warnings.warn('old')", "raise ValueError('no')"])
def test_execute_refuses_errors_and_warnings(path, source):
    nbformat.write(new_notebook(cells=[new_code_cell("1"), new_code_cell(source)]), path)
    before = path.read_bytes()
    ran = run_execute("--in-place", str(path))
    assert ran.returncode == 1
    assert "refused" in ran.stdout and ("UserWarning: old" in ran.stdout or "ValueError: no" in ran.stdout)
    assert path.read_bytes() == before


def test_execute_only_reports_unless_told_to_store_and_gathers_claims(path):
    claim = "from course_utils.teaching.session import claim, start; start(); claim('small', 1, '<', 2)"
    nbformat.write(new_notebook(cells=[new_code_cell(claim)]), path)
    before = path.read_bytes()
    gathered = path.parent / "claims.jsonl"
    ran = run_execute("--seed", "4", "--claims", str(gathered), str(path), PYTHONPATH=str(ROOT))
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert path.read_bytes() == before
    (line,) = gathered.read_text(encoding="utf-8").splitlines()
    entry = json.loads(line)
    assert (entry["notebook"], entry["seed"], entry["value"]) == ("99_example", 4, 1.0)


def test_cleaning_a_clean_notebook_changes_nothing():
    notebook = good()
    assert clean(copy.deepcopy(notebook)) == notebook


def test_a_notebook_runs_in_its_own_folder(path):
    nbformat.write(new_notebook(cells=[new_code_cell("import pathlib; pathlib.Path('picture.png').exists()")]), path)
    assert execute(path).cells[0].outputs[0].data["text/plain"] == "True"
