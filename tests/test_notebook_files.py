"""What every notebook file keeps to, read without running it. Each rule is tried on notebooks that break it.

A rule is a function that takes the path and the notebook and returns its complaints, one line each.
"""

from __future__ import annotations

import ast
import copy
import json
import re
import subprocess
import symtable
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from course_utils.teaching import session
from course_utils.teaching.exercises import find

from .conftest import NOTEBOOKS, ROOT, is_saved_by_jupyter, python
from .tools.execute import WIDGET_VIEW, clean, unwanted_outputs

MAX_BYTES = 1_000_000
MIN_ALT = 12
MAX_LINES, MAX_COLUMNS = 20, 92  # of a lesson's cell
VISIBLE_LINES, PLUMBING, WORDS, PREDICTIONS, IMPORTS = 350, 0.15, 2500, 12, 5  # of a notebook
LONGER = {"class VAE(nn.Module):"}  # cells that are worth more than MAX_LINES, by their first line

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


def core(notebook: NotebookNode) -> NotebookNode:
    """The notebook without its appendix."""
    appendix = (i for i, cell in cells(notebook, "markdown") if re.match(r"##? *(A\d|Appendix)", cell.source))
    return new_notebook(cells=notebook.cells[: next(appendix, None)])


def lesson(notebook: NotebookNode) -> Iterator[tuple[int, NotebookNode]]:
    """The code cells that a reader is to read: no set-up, no exercise, nothing folded."""
    hidden = {"setup", "exercise", "draw", "assert"}
    return (
        (i, c) for i, c in cells(notebook, "code") if c.source.strip() and not hidden & {*c.metadata.get("tags", [])}
    )


def tree_of(cell: NotebookNode) -> ast.Module:
    return ast.parse(TransformerManager().transform_cell(cell.source))


def calls(tree: ast.AST, name: str) -> list[ast.Call]:
    return [n for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n.func.id == name]


def read_and_made(cell: NotebookNode) -> tuple[set[str], set[str]]:
    """The notebook's names that a cell needs from elsewhere, its functions included, and those that it gives."""
    read: set[str] = set()
    made: set[str] = set()
    for statement in tree_of(cell).body:
        table = symtable.symtable(ast.unparse(statement), "cell", "exec")
        inner, loaded = [table], set()
        for scope in inner:
            loaded |= {
                s.get_name() for s in scope.get_symbols() if s.is_referenced() and (scope is table or s.is_global())
            }
            inner += scope.get_children()
        stored = {s.get_name() for s in table.get_symbols() if s.is_assigned() or s.is_imported()}
        defines = isinstance(statement, ast.For | ast.With | ast.FunctionDef | ast.ClassDef)  # before its body reads
        read |= loaded - made - (stored if defines else set())
        made |= stored
    return read, made


def lines_of(*nodes: ast.AST) -> set[int]:
    return {line for node in nodes for line in range(node.lineno, node.end_lineno + 1)}


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
def is_as_execute_leaves_it(path: Path, notebook: NotebookNode) -> list[str]:
    """Executed in order, the plain kernel, no widget's state, and folded where it is tagged."""
    cleaned = clean(copy.deepcopy(notebook))
    odd = [i for i, (a, b) in enumerate(zip(notebook.cells, cleaned.cells, strict=True)) if a != b]
    found = [f"cell {i}: count, metadata, outputs or folding are not as execute leaves them" for i in odd]
    if notebook.metadata != cleaned.metadata:
        found.append(f"metadata should be {dict(cleaned.metadata)}; found {dict(notebook.metadata)}")
    return found + unwanted_outputs(notebook)


@rule
def names_no_machine(path: Path, notebook: NotebookNode) -> list[str]:
    folders = r"(?<![\w.:/~-])/(?:home|root|work|tmp|Users|private|mnt)/|[A-Za-z]:\\+Users\b"
    if len(parent := str(ROOT.parent)) > 3:
        folders += "|" + re.escape(parent) + r"(?![\w-])"
    texts = [(i, cell.source) for i, cell in enumerate(notebook.cells)]
    texts += [(i, text) for i, _, text in output_texts(notebook)]
    return [
        f"cell {i}: the path of one machine, {text[max(0, m.start() - 20) : m.end() + 30]!r}"
        for i, text in texts
        if (m := re.search(folders, text))
    ]


@rule
def is_small_and_executed_on_mnist(path: Path, notebook: NotebookNode) -> list[str]:
    size = len(nbformat.writes(notebook).encode())
    lines = [line for _, _, text in output_texts(notebook) for line in text.splitlines()]
    other = [line for line in lines if line.startswith("Data: ") and not line.startswith("Data: MNIST")]
    found = [f"the outputs are not MNIST's: {line}" for line in other]
    return found + ([f"{size:,} bytes; {MAX_BYTES:,} is the limit"] if size >= MAX_BYTES else [])


# --- pictures and links -------------------------------------------------------------------------


@rule
def describes_every_picture(path: Path, notebook: NotebookNode) -> list[str]:
    alts = [
        (i, output.metadata.get(kind, {}).get("alt", ""))
        for i, output in outputs(notebook)
        for kind in output.get("data", {})
        if kind.startswith("image/")
    ]
    texts = [(i, prose(cell)) for i, cell in cells(notebook, "markdown")]
    for i, text in texts + [(i, t) for i, kind, t in output_texts(notebook) if kind in ("text/html", "text/markdown")]:
        alts += [(i, alt) for alt in re.findall(r"!\[([^\]]*)\]", text)]
        for tag in re.findall(r"<img\b[^>]*>", text):
            alts.append((i, (re.search(r"""\balt=(["'])(.*?)\1""", tag) or ["", "", ""])[2]))
    return [f"cell {i}: a picture with the alternative text {a!r}" for i, a in alts if len(a.strip()) < MIN_ALT]


@rule
def links_to_what_exists(path: Path, notebook: NotebookNode) -> list[str]:
    found = []
    for i, cell in cells(notebook, "markdown"):
        targets = re.findall(r"""\]\(\s*<?([^)\s>]+)|\b(?:src|href)=["']([^"']+)""", prose(cell))
        for target in map("".join, targets):
            file = urllib.parse.unquote(target.partition("#")[0])
            outside = re.match(r"(?:https?|mailto):|#", target)
            if not outside and (target.startswith(("attachment:", "/", "data:")) or not (path.parent / file).exists()):
                found.append(f"cell {i}: {target} does not exist beside the notebook")
    return found


# --- mathematics --------------------------------------------------------------------------------

MATHS = re.compile(r"\$\$(?P<block>.+?)\$\$|(?<!\$)\$(?!\$)(?P<inline>(?:[^$\n]|\n(?![ \t]*\n))+?)\$(?!\$)", re.DOTALL)
# Each renders in one of JupyterLab, GitHub and Colab and not in another.
UNSAFE = {
    r"\\(?:bm|boldsymbol|mathbbm|newcommand|renewcommand|providecommand|def|let|DeclareMathOperator|operatorname"
    r"|label|ref|eqref|require|href|intertext|mathds|text(?:sc|tt))(?![A-Za-z])\*?": "does not render everywhere",
    r"\\\(|\\\)|(?<!\\)\\\[|(?<!\\)\\\]": "does not render everywhere: write $…$ and $$…$$",
    r"\\\$|(?<![\\$\w}])\$\d[\d.,]*(?=\s(?!.*\$)|$)": "a dollar sign that is no mathematics: write USD",
    r"\[!(?:NOTE|TIP|IMPORTANT|WARNING|CAUTION)\]": "is GitHub's alone",
}


@rule
def writes_maths_that_renders_everywhere(path: Path, notebook: NotebookNode) -> list[str]:
    found = []
    for i, cell in cells(notebook, "markdown"):
        found += [f"cell {i}: {complaint}" for complaint in maths_complaints(prose(cell))]
    for i, kind, text in output_texts(notebook):
        if kind == "text/latex" or (kind == "text/html" and re.search(r"\$[^$]+\$|\\\(|\\\[|\\begin\{", text)):
            found.append(f"cell {i}: mathematics in an output, which Colab does not render: keep it in Markdown")
    return found


def maths_complaints(text: str) -> Iterator[str]:
    text = "\n".join(re.sub(r"^ {0,3}(> ?)+", "", line) for line in text.split("\n"))  # quoted: > $$…$$
    for pattern, complaint in UNSAFE.items():
        yield from (f"{match[0]} {complaint}" for match in re.finditer(pattern, text, re.MULTILINE))

    for block in re.finditer(r"\$\$(.+?)\$\$", text, re.DOTALL):
        alone = re.search(r"(?:\A|\n[ \t]*\n)[ \t]*\Z", text[: block.start()])
        if not alone or not re.match(r"[ \t]*(?:\Z|\n[ \t]*(?:\n|\Z))", text[block.end() :]):
            yield f"$${block[1].strip()[:40]}… needs a blank line before and after"
        if re.search(r"\n[ \t]*\n", block[1]):
            yield f"$${block[1].strip()[:40]}… holds a blank line, which ends it"
    rest = re.sub(r"\$\$(.+?)\$\$", "", text, flags=re.DOTALL)
    for paragraph in re.split(r"\n[ \t]*\n", rest):
        if "$$" in paragraph or paragraph.replace("\\$", "").count("$") % 2:
            yield f"a dollar sign without its partner in {paragraph.strip()[:60]!r}"
    if re.search(r"\\begin\{|\\frac|\\mathbf|\\mathbb|\\lVert", MATHS.sub("", text)):
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


def times(text: str, *kinds: str) -> list[str]:
    amount = r"\W[^\n.·;,]*?\d[\d.,–½¼¾ to-]*(s|seconds?|min|minutes?|hours?)\b"
    return [f"no honest time for {kind} in the head" for kind in kinds if not re.search(kind + amount, text, re.I)]


def head_of(notebook: NotebookNode) -> str:
    first = next((i for i, _ in cells(notebook, "code")), None)
    return all_prose(new_notebook(cells=notebook.cells[:first]))


@rule
def begins_with_title_objectives_time_and_badge(path: Path, notebook: NotebookNode) -> list[str]:
    text = head_of(notebook)
    address = f"https://colab.research.google.com/github/{session.REPOSITORY}/blob/main/notebooks/{path.name}"
    expected = {
        "a title, # …, at the very beginning": re.match(r"# \S", text),
        "a question": "?" in text.partition("\n## ")[0],
        '"What to know first"': re.search(r"know first|prerequisite", text, re.IGNORECASE),
        f"a Colab badge that leads to {address}": re.search(rf"""(?:\]\(|href=["']){re.escape(address)}["')]""", text),
    }
    found = [f"the head has not: {what}" for what, there in expected.items() if not there]
    listed = re.search(
        r"you will be able to[^\n]*\n+((?:[ \t]*(?:[-*]|\d+\.) .+\n?(?:[ \t]+\S.*\n?)*\n?)+)", text, re.I
    )
    number = len(re.findall(r"^(?:[-*]|\d+\.) ", listed[1], re.MULTILINE)) if listed else 0
    if not 3 <= number <= 5:
        found.append(f'"you will be able to" is followed by {number} objectives; 3 to 5 make a list')
    return found + times(text, "running")


@rule
def begins_with_the_set_up_cell(path: Path, notebook: NotebookNode) -> list[str]:
    sources = [cell.source for _, cell in cells(notebook, "code")]
    if sources and sources[0] == session.SETUP_CELL and sources.count(session.SETUP_CELL) == 1:
        return []
    return ["the first code cell must be course_utils.teaching.session.SETUP_CELL, letter by letter, once"]


@rule
def ends_with_summary_questions_and_references(path: Path, notebook: NotebookNode) -> list[str]:
    _, *parts = re.split(r"^#{1,3} +(.+)$", all_prose(core(notebook)), flags=re.MULTILINE)
    sections = list(zip(parts[::2], parts[1::2], strict=True))

    def section(pattern: str) -> str:
        return "".join(text for title, text in sections if re.search(pattern, title, re.I))

    answers = section(r"test yourself|questions|self-test").count("<details>")
    works = re.search(r"^(?:[-*]|\d+\.) .*\b(19|20)\d\d\b", section("references"), re.MULTILINE)
    expected = {
        "a section with Summary in its title that says something": len(section("summary").split()) >= 20,
        'a section "Test yourself" with two or more answers folded in <details>': answers >= 2,
        "References, the last before the appendix, works with their years": works and "References" in sections[-1][0],
    }
    return [f"there is not: {what}" for what, there in expected.items() if not there]


@rule
def folds_properly(path: Path, notebook: NotebookNode) -> list[str]:
    """<details>, <summary>…</summary> on one line, a blank line, Markdown, a blank line, </details>."""
    form = r"<details>\s*<summary>.+?</summary>[ \t]*\n[ \t]*\n(?:(?!</?details|</?summary).)*\n[ \t]*\n\s*</details>"
    return [
        f"cell {i}: <details> does not have the form that renders everywhere"
        for i, cell in cells(notebook, "markdown")
        if re.search(r"</?(?:details|summary)\b", re.sub(form, "", prose(cell), flags=re.DOTALL))
    ]


# --- what makes a lesson ------------------------------------------------------------------------


@rule
def says_three_honest_times(path: Path, notebook: NotebookNode) -> list[str]:
    return times(head_of(notebook), "reading", "exercises", "running")


@rule
def says_the_minutes_of_its_exercises(path: Path, notebook: NotebookNode) -> list[str]:
    """One source: the text says an exercise's minutes as its Exercise does, and the head says their sum."""
    text = all_prose(notebook)
    said = dict(re.findall(r"\*\*Exercise (\d+\.\d+)\*\*, an? \w+ \((\d+) minutes\)", text))
    found = [
        f"exercise {number}: {minutes} minutes in the text, {find(number).minutes} in its Exercise"
        for number, minutes in said.items()
        if int(minutes) != find(number).minutes
    ]
    mentioned = re.findall(r"\*\*Exercise (.+?)\*\*", text)
    found += [f"exercise {number}: how many minutes?" for number in mentioned if number not in said]
    head, total = re.search(r"Exercises:\*\* (\d+)", head_of(notebook)), sum(map(int, said.values()))
    if said and head and int(head[1]) != total:
        found.append(f"the head says {head[1]} minutes of exercises; together they take {total}")
    return found


@rule
def can_be_read_in_an_hour(path: Path, notebook: NotebookNode) -> list[str]:
    text = all_prose(core(notebook))
    words = len(re.sub(r"<details>.*?</details>|\$\$.*?\$\$", " ", text, flags=re.DOTALL).split())
    visible = sum(len([line for line in cell.source.split("\n") if line.strip()]) for _, cell in lesson(core(notebook)))
    counted = {
        "words of core prose": (words, WORDS),
        "predictions": (text.count("**Predict"), PREDICTIONS),
        "visible lines of code": (visible, VISIBLE_LINES),
    }
    return [f"{number} {what}; {limit} is the limit" for what, (number, limit) in counted.items() if number > limit]


@rule
def shows_the_lesson_not_its_plumbing(path: Path, notebook: NotebookNode) -> list[str]:
    """Statements that only call claim, print, show, or draw: what a lesson needs and no reader wants to read."""
    plumbing = re.compile(r"(claim|print|display|show|plt|plotting|ax|axes|fig|figure)\b")
    visible, drawn = 0, 0
    for _, cell in lesson(core(notebook)):
        visible += len([line for line in cell.source.split("\n") if line.strip()])
        statements = [n for n in ast.walk(tree_of(cell)) if isinstance(n, ast.Expr) and isinstance(n.value, ast.Call)]
        drawn += len(lines_of(*(n for n in statements if plumbing.match(ast.unparse(n.value.func)))))
    share = drawn / max(visible, 1)
    return [f"{share:.0%} of the visible lines are plumbing; {PLUMBING:.0%} is the limit"] if share > PLUMBING else []


@rule
def holds_cells_that_fit_in_the_head(path: Path, notebook: NotebookNode) -> list[str]:
    found = []
    for i, cell in lesson(notebook):
        lines = cell.source.strip().split("\n")
        if len(lines) > MAX_LINES and lines[0] not in LONGER:
            found.append(f"cell {i}: {len(lines)} lines of code; {MAX_LINES} is the limit")
        found += [f"cell {i}: {len(line)} columns, {line[:30]!r}…" for line in lines if len(line) > MAX_COLUMNS]
    return found


@rule
def claims_in_one_line_and_goes_on_with_what_the_reader_wrote(path: Path, notebook: NotebookNode) -> list[str]:
    found = []
    for i, cell in cells(notebook, "code"):
        tree = tree_of(cell)
        long = [call for call in calls(tree, "claim") if call.lineno < call.end_lineno]
        found += [f"cell {i}: a claim over several lines: name its value first" for _ in long]
        used = [n.value for n in ast.walk(tree) if isinstance(n, ast.Assign)]
        found += [f"cell {i}: the result of check() is not used" for call in calls(tree, "check") if call not in used]
    return found


@rule
def asks_before_its_code_tells(path: Path, notebook: NotebookNode) -> list[str]:
    """The code that a reader sees between a question and its run holds no claim: its bound would be the answer."""
    asked, found = False, []
    for i, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown":
            asked = "**Predict.**" in cell.source
        elif asked and "cellView" not in cell.metadata and calls(tree_of(cell), "claim"):
            found.append(f"cell {i}: the claim answers the question above; give it a cell of its own, folded")
    return found


@rule
def reads_without_what_is_folded(path: Path, notebook: NotebookNode) -> list[str]:
    visible, folded, found = dict(lesson(notebook)), set(), []
    for i, cell in cells(notebook, "code"):
        read, made = read_and_made(cell)
        if i in visible:
            found += [f"cell {i}: {name} comes from a folded cell" for name in sorted(read & folded)]
        folded = folded | made if "cellView" in cell.metadata else folded - made
    return found


@rule
def means_one_thing_by_one_name(path: Path, notebook: NotebookNode) -> list[str]:
    """A cell that is run again after the whole notebook must find the names that it found the first time."""
    names = {i: read_and_made(cell) for i, cell in cells(notebook, "code")}
    return [
        f"cell {i} reads {name}, which cell {later} gives another meaning: run again, cell {i} tells something else"
        for i, (read, _) in names.items()
        for later, (_, made) in names.items()
        for name in sorted(read & made)
        if later > i
    ]


@rule
def imports_in_a_few_lines(path: Path, notebook: NotebookNode) -> list[str]:
    rooms = [
        node
        for i, cell in list(cells(notebook, "code"))[1:]  # behind the set-up cell
        for node in ast.walk(tree_of(cell))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("course_utils")
    ]
    lines = sum(node.end_lineno - node.lineno + 1 for node in rooms)
    return [f"{lines} lines import from course_utils; {IMPORTS} is the limit"] if lines > IMPORTS else []


@rule
def numbers_its_appendix(path: Path, notebook: NotebookNode) -> list[str]:
    headings = re.findall(r"^##? +(.+)$", all_prose(notebook), re.MULTILINE)
    start = next((i for i, title in enumerate(headings) if re.match(r"A\d|Appendix", title)), len(headings))
    appendix = [title for title in headings[start:] if not title.startswith("Appendix")]
    wrong = [title for n, title in enumerate(appendix, start=1) if not re.match(rf"A{n}\b", title)]
    return [f"in the appendix, after the references, headings are A1, A2, …; found {title!r}" for title in wrong]


# --- the rules on the notebooks -----------------------------------------------------------------

HELD = [(p, r) for p in NOTEBOOKS for r in RULES]


@pytest.mark.parametrize(("path", "check"), HELD, ids=[f"{p.stem}-{r.__name__}" for p, r in HELD])
def test_notebook(path, check):
    complaints = check(path, nbformat.read(path, as_version=nbformat.NO_CONVERT))
    assert not complaints, "\n".join([path.name, *complaints])


def test_the_readme_says_the_same_minutes():
    said = re.findall(r"\b(\d+\.\d) \((\d+)\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert said and [find(number).minutes for number, _ in said] == [int(minutes) for _, minutes in said]


def test_the_code_is_linted_and_formatted():
    notebooks = [path for path in (*NOTEBOOKS, ROOT / "notebooks" / "glossary.ipynb") if not is_saved_by_jupyter(path)]
    for command in (["check"], ["format", "--check", "--diff"]):
        ruff = python("-m", "ruff", *command, "--no-cache", ".ci", "course_utils", "tests", *map(str, notebooks))
        ran = subprocess.run(ruff, cwd=ROOT, capture_output=True, text=True, encoding="utf-8")
        assert ran.returncode == 0, f"{ran.stdout[-10_000:]}{ran.stderr[-2_000:]}"


# --- each rule on a notebook that breaks it -----------------------------------------------------

NAME = "99_example.ipynb"
BADGE = f"https://colab.research.google.com/github/{session.REPOSITORY}/blob/main/notebooks/{NAME}"
HEAD = f"""\
# 99 · An example

[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({BADGE})

**Why does it work?** After this notebook you will be able to

- write $p(z \\mid x)$ and $\\lVert x \\rVert^2$, and
  say it aloud,
- code `a|b` and `$HOME`, and
- stop.

**What to know first:** nothing. **Reading:** 5 min. **Exercises:** 10 min. **Running:** 2 min on two CPU cores.
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
ANSWER = "<details><summary>Answer</summary>\n\nBecause $1 < 2$.\n\n</details>"
TAIL = f"""\
## Summary

{"word " * 25}

## Test yourself

1. Why?

{ANSWER}

2. How?

{ANSWER.replace("><summary>", ">" + chr(10) + "<summary>").replace("Because $1 < 2$.", "$$a = b$$")}

## References

- Kingma & Welling 2014, eq. (10).
"""
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def good() -> NotebookNode:
    """A small notebook that keeps to every rule, executed: a text, a number, a figure, a claim and an exercise."""
    data = [new_output("stream", text="Data: MNIST, 3\n")]
    one = [new_output("execute_result", {"text/plain": "1"}, execution_count=2)]
    alt = {"image/png": {"alt": "A dot in the middle"}}
    figure = [new_output("display_data", {"image/png": PNG, "text/plain": "x"}, metadata=alt)]
    notebook = new_notebook(
        cells=[
            new_markdown_cell(HEAD),
            new_code_cell(session.SETUP_CELL, outputs=data, metadata={"tags": ["setup"]}),
            new_markdown_cell(BODY),
            new_code_cell("x = 1  # a − sign in a comment\nx", outputs=one),
            new_code_cell("figure = draw(x)\nshow(figure, 'A dot.')", outputs=figure, metadata={"tags": ["draw"]}),
            new_code_cell("claim('one', x, '<', 2)", metadata={"tags": ["assert"]}),
            new_code_cell("def f(x):\n    ...\n\n\nf = check('99.1', f)", metadata={"tags": ["exercise"]}),
            new_markdown_cell(TAIL),
            new_markdown_cell("## A1 · A side room"),
        ]
    )
    return clean(nbformat.from_dict(notebook))


Change = Callable[[NotebookNode], None]


def prose_with(extra: str) -> Change:
    return lambda notebook: notebook.cells[2].update(source=f"{notebook.cells[2].source}\n{extra}")


def replaced(old: str, new: str) -> Change:
    def change(notebook: NotebookNode) -> None:
        assert any(old in cell.source for cell in notebook.cells), old
        for cell in notebook.cells:
            cell.source = cell.source.replace(old, new)

    return change


def code_with(source: str) -> Change:
    return lambda notebook: notebook.cells[3].update(source=source)


def output_with(kind: str = "display_data", data: dict | None = None, **fields: str) -> Change:
    output = new_output(kind, data, **fields) if data else new_output(kind, **fields)
    return lambda notebook: notebook.cells[3].outputs.append(nbformat.from_dict(output))


# fmt: off
BAD: dict[Rule, list[Change]] = {
    is_valid: [
        lambda nb: nb.cells[1].pop("outputs"),
        lambda nb: nb.update(nbformat_minor=4),
        lambda nb: nb.cells[1].update(id=nb.cells[0].id),
    ],
    is_as_execute_leaves_it: [
        lambda nb: nb.cells[3].update(execution_count=None),
        lambda nb: nb.cells[4].update(execution_count=7),
        lambda nb: nb.cells[3].outputs[0].update(execution_count=9),
        lambda nb: nb.cells[3].metadata.update(widgets={}),
        lambda nb: nb.cells[3].metadata.update(jupyter={"source_hidden": True}),
        lambda nb: nb.cells[4].metadata.pop("jupyter"),
        lambda nb: nb.cells[5].metadata.pop("cellView"),
        replaced("# @title The claims\n", ""),
        output_with(data={WIDGET_VIEW: {"model_id": "1"}}),
        output_with("stream", name="stderr", text="UserWarning"),
        output_with("error", ename="ValueError", evalue="no", traceback=["no"]),
        lambda nb: nb.metadata.update(widgets={}),
        lambda nb: nb.metadata.kernelspec.update(name="vae"),
        lambda nb: nb.metadata.language_info.update(version="3.13.1"),
    ],
    names_no_machine: [
        *(
            output_with("stream", text=text)
            for text in ("to /home/ada/x.pt", "'/root/x'", "C:\\Users\\ada", f"in {ROOT.parent}/x")
        ),
        output_with(data={"text/plain": "File(/tmp/x)"}),
        code_with('open("/work/data")'),
    ],
    is_small_and_executed_on_mnist: [
        output_with("stream", text=text) for text in ("x" * MAX_BYTES, "Data: digits, not MNIST")
    ],
    describes_every_picture: [
        lambda nb: nb.cells[4].outputs[0].update(metadata={}),
        lambda nb: nb.cells[4].outputs[0].metadata["image/png"].update(alt="x"),
        output_with(data={"image/svg+xml": "<svg/>"}),
        output_with(data={"text/html": "<img src='data:x'>"}),
        replaced("[The two networks, side by side]", "[]"),
        prose_with('<img src="picture.png">'),
        prose_with('<img alt="x" src="picture.png">'),
    ],
    links_to_what_exists: [
        replaced("(picture.png)", "(pictures.png)"),
        prose_with("[next](100_next.ipynb)"),
        prose_with('<img src="../images/none.png" alt="none at all, really">'),
        prose_with("[pasted](attachment:x.png)"),
    ],
    writes_maths_that_renders_everywhere: [
        output_with(data={"text/html": "<b>$x$</b>"}),
        output_with(data={"text/latex": "$x$"}),
        *(
            prose_with(text)
            for text in [
                *(r"$\bm{x}$", r"$\mathbbm{1}$", r"$\newcommand{\x}{1}$", r"$\operatorname{KL}$", r"$x \label{a}$"),
                *(r"$\operatorname*{argmax}$", r"\(x\)", r"\[x\]", r"It costs \$5.", "It costs $5 and more"),
                *("It costs $5 or $6", "$x$5", "a$x$", "$x $ and $y$", "$ x$", "one $x and no more", "$$x"),
                *("the equation $$x = y$$ in a line", "text\n$$x = y$$\n", "\n$$x = y$$\ntext", "\n$$\nx\n\n= y\n$$\n"),
                *(f"\n| a | b |\n| --- | --- |\n| $p(x{bar}z)$ | b |\n" for bar in ("|", "\\|")),
                *("$a<b$", r"\begin{align} x \end{align}", "> [!NOTE]\n> x"),
            ]
        ),
    ],
    begins_with_title_objectives_time_and_badge: [
        replaced(*change)
        for change in [
            *(("# 99", "99"), ("Why does it work?", "It works."), ("you will be able to", "you can"), ("- stop.", "")),
            *((" 2 min on", " ?? min on"), ("know first", "bring"), (NAME, "98_other.ipynb")),
            (f"/{session.REPOSITORY}/", "/somebody/else/"),
        ]
    ],
    begins_with_the_set_up_cell: [
        lambda nb: nb.cells.pop(1),
        replaced("Run it first", "Run it"),
        code_with(session.SETUP_CELL),
    ],
    ends_with_summary_questions_and_references: [
        replaced(*change)
        for change in [
            *(("## Summary", "## The end"), ("word " * 25, "Well."), ("## Test yourself", "## And")),
            *(("Kingma & Welling 2014", "somebody"), ("## References", "## References\n\n- 9\n\n## B")),
        ]
    ],
    folds_properly: [
        prose_with("<details><summary>x</summary>\n\ny"),
        prose_with("</details>\n\n<details><summary>x</summary>\n\ny"),
        prose_with("<details>\n\ny\n\n</details>"),
        prose_with("<details><summary>x</summary>\ny\n\n</details>"),
        prose_with("<details><summary>x</summary>\n\ny\n</details>"),
    ],
    says_three_honest_times: [replaced("Reading:** 5", "Reading:**"), replaced("Exercises:** 10", "Exercises:**")],
    says_the_minutes_of_its_exercises: [
        prose_with(f"**Exercise 1.2**, a build ({find('1.2').minutes + 1} minutes) · *Wrong.*"),
        prose_with(f"**Exercise 1.1**, a brick ({find('1.1').minutes} minutes) · *Right, but not the sum.*"),
        prose_with("**Exercise 1.2**, a build · *How long?*"),
    ],
    can_be_read_in_an_hour: [
        prose_with("word " * WORDS),
        prose_with("**Predict** " * (PREDICTIONS + 1)),
        code_with("x = 1\n" * (VISIBLE_LINES + 1)),
    ],
    shows_the_lesson_not_its_plumbing: [
        code_with(f"x = 1\n{line}") for line in ("print(x)", "claim('', x, '<', 2)", "axes[0].set()", "plt.plot(x)")
    ],
    holds_cells_that_fit_in_the_head: [code_with("x\n" * (MAX_LINES + 1)), code_with("x" * (MAX_COLUMNS + 1))],
    claims_in_one_line_and_goes_on_with_what_the_reader_wrote: [
        code_with("claim(\n    'one', 1, '<', 2)"), replaced("claim('one', x", "claim('one',\n    x"),
        replaced("f = check(", "check("),
    ],
    asks_before_its_code_tells: [
        lambda nb: (prose_with("**Predict.** One or two?")(nb), code_with("x = 1\nclaim('one', x, '<', 2)")(nb)),
    ],
    reads_without_what_is_folded: [lambda nb: nb.cells.insert(6, new_code_cell("y = 1\nfigure = figure + y"))],
    means_one_thing_by_one_name: [
        lambda nb: nb.cells.insert(7, new_code_cell("x = 5")),  # a cell before it claims something of x
        lambda nb: nb.cells.insert(4, new_code_cell("def g():\n    return f(x)")),  # a function reads when it is called
        lambda nb: nb.cells.insert(7, new_code_cell("for draw in x:\n    pass")),
    ],
    imports_in_a_few_lines: [code_with("from course_utils import VAE\n" * (IMPORTS + 1))],
    numbers_its_appendix: [replaced("## A1", "## A2"), lambda nb: nb.cells.append(new_markdown_cell("## More"))],
}
# fmt: on


@pytest.fixture
def path(tmp_path):
    (tmp_path / "picture.png").touch()
    (tmp_path / NAME).touch()
    return tmp_path / NAME


@pytest.mark.parametrize("check", RULES, ids=lambda check: check.__name__)
def test_every_rule_holds_for_a_good_notebook_and_catches_each_bad_one(path, check):
    assert check(path, good()) == []
    assert BAD[check]
    for number, change in enumerate(BAD[check]):
        notebook = good()
        change(notebook)
        assert check(path, notebook), f"the {number}th bad notebook is not caught"
