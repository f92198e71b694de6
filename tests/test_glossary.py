"""The glossary and the notebooks: every term and symbol of one is in the other.

A notebook marks a term by a link to the glossary, which has to lead somewhere; words of the field need no mark.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest

from course_utils.teaching import diagrams

from .conftest import NOTEBOOKS, ROOT
from .test_notebook_files import (
    all_prose,
    core,
    describes_every_picture,
    folds_properly,
    is_as_execute_leaves_it,
    is_small_and_executed_on_mnist,
    is_valid,
    links_to_what_exists,
    names_no_machine,
    writes_maths_that_renders_everywhere,
)

PATH = ROOT / "notebooks" / "glossary.ipynb"
NUMBERS = [number for number, *_ in diagrams.NOTEBOOKS]
CHINESE = re.compile(r"[\u4e00-\u9fff]")

# Words of the field. A notebook that uses one has to find it in the glossary: as a term, or as another name of one.
VOCABULARY = """
    active units?, aggregated? posterior, amorti[sz]\\w+, annealing, AUROC, autoencoders?, baselines?, BCE,
    binari[sz]\\w+, binary cross-entropy, bottleneck, conditional prior, continuous Bernoulli, coverage, CVAE,
    decoder, denoising, disentangl\\w+, distortion, effective β, effective number, ELBO, EM algorithm, encoder,
    equivalent blur, evidence lower bound, ex-post density estimation, free bits, importance weights?, IWAE, Jensen's
    inequality, judge, KL divergence, Kullback–Leibler divergence, latent dimensions?, latent variables?,
    latent-variable models?, learned prior, leave-one-out, likelihood, linear VAE, linear-Gaussian model, logits?,
    logsumexp, maximum likelihood, mean squared error, mode collapse, Monte Carlo, MSE, multi-sample bound, mutual
    information, naive Monte Carlo, nats?, normaliser, normali[sz]ing flows?, offline digits, one-hot, optimal σ, path
    only, pathwise estimators?, PCA, posterior collapse, posteriors?, priors?, principal component analysis,
    probabilistic PCA, quadrature, rate, reconstruction error, reconstructions?, REINFORCE, reparameteri[sz]ation,
    saturation, score function, sharpness, spherical interpolation, standard errors?, surrogate loss, temperature,
    trace, VAEs?, VampPrior, variational autoencoders?, variational inference, warm-up
"""
KNOWN = {  # the usual Chinese terms
    "Variational autoencoder": "变分自编码器", "ELBO": "证据下界", "Reparameterization": "重参数化技巧",
    "Prior": "先验", "Posterior collapse": "后验坍缩", "Posterior": "后验", "Latent variable": "潜变量",
    "KL divergence": "KL 散度", "Conditional VAE": "条件变分自编码器",
    "Principal component analysis": "主成分分析", "Mutual information": "互信息",
}  # fmt: skip


@dataclass(frozen=True)
class Entry:
    term: str
    fields: tuple[str, ...]  # the Chinese term, then what there is of: also, symbol, code, shape; the notebook last
    meaning: str

    def field(self, kind: str) -> str:
        return next((f[len(kind) + 1 :] for f in self.fields if f.startswith(f"{kind} ")), "")

    @property
    def names(self) -> list[str]:
        return [self.term, *re.findall(r"\*([^*]+)\*", self.field("also"))]

    @property
    def notebook(self) -> str:
        return re.fullmatch(r"\[notebook (\d\d)\]\((\d\d)_\w+\.ipynb\)", self.fields[-1])[1]


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=nbformat.NO_CONVERT)


def entries_of(notebook: nbformat.NotebookNode) -> list[Entry]:
    found = []
    for cell in notebook.cells:
        for block in re.split(r"^### ", cell.source, flags=re.MULTILINE)[1:]:
            term, fields, *meaning = (part.strip() for part in block.split("\n\n"))
            found.append(Entry(term, tuple(fields.split(" · ")), "\n".join(meaning)))
    return found


GLOSSARY = read(PATH)
ENTRIES = entries_of(GLOSSARY)
SYMBOLS = next(cell.source for cell in GLOSSARY.cells if cell.source.startswith("## Symbols"))
PROSE = {path.stem[:2]: all_prose(read(path)) for path in NOTEBOOKS}


def normal(text: str) -> str:
    """For comparing names: case, hyphens, Markdown's stars and line ends do not count."""
    return re.sub(r"[\s*_-]+", " ", text.replace("’", "'")).strip().casefold()


def listed(text: str) -> list[str]:
    return [item.strip() for item in re.sub(r"\s+", " ", text).split(",")]


def occurs(name: str, text: str) -> bool:
    """Whether a name, or its plural, stands in a normal text."""
    return re.search(rf"(?<!\w){re.escape(normal(name))}(?:s|es)?(?!\w)", text) is not None


def is_known(name: str, entries: list[Entry]) -> bool:
    wanted = normal(name).removeprefix("the ")
    return any(wanted in (normal(n), normal(n) + "s") or wanted + "s" == normal(n) for e in entries for n in e.names)


# --- what the notebooks use is in the glossary --------------------------------------------------


def missing_terms(text: str, entries: list[Entry]) -> list[str]:
    """The words of the field that a notebook's prose uses and the glossary has not."""
    flat, found = normal(text), set()
    for pattern in listed(VOCABULARY):
        found |= set(re.findall(rf"(?<!\w)(?:{pattern.replace('-', ' ').casefold()})(?!\w)", flat))
    return sorted(name for name in found if not is_known(name, entries))


GREEK = r"\\(?:alpha|beta|gamma|delta|epsilon|varepsilon|zeta|eta|theta|kappa|lambda|mu|nu|xi|pi|rho|sigma|tau"
GREEK += r"|phi|chi|psi|omega|Gamma|Delta|Theta|Lambda|Xi|Pi|Sigma|Phi|Psi|Omega)(?![A-Za-z])"


def missing_symbols(text: str, glossary: str) -> list[str]:
    letters = set(re.findall(GREEK, text)) | set(re.findall(r"\\mathcal\{\w\}", text))
    return sorted(letter for letter in letters if not re.search(re.escape(letter) + r"(?![A-Za-z])", glossary))


@pytest.mark.parametrize("number", PROSE)
def test_every_term_and_greek_letter_of_a_notebook_is_in_the_glossary(number):
    missing = missing_terms(PROSE[number], ENTRIES)
    assert not missing, f"{missing}: add them to the glossary, as terms or as other names (also *…*)"
    # capital Greek letters of matrices stand beside their small ones
    missing = [m for m in missing_symbols(PROSE[number], SYMBOLS) if m not in (r"\Lambda",)]
    assert not missing, f"{missing}: add a row to the glossary's table of symbols"


def test_the_symbols_are_those_of_the_course():
    rows = [[c.strip() for c in line.strip("|").split(" | ")] for line in SYMBOLS.splitlines()[4:]]
    assert all(len(row) == 5 for row in rows), [row for row in rows if len(row) != 5]
    for symbol, meaning, code, shape, notebook in rows:
        assert symbol.startswith("$") and meaning and re.fullmatch(r"\[\d\d\]\(\d\d_\w+\.ipynb\)", notebook)
        assert not code or (code.startswith("`") and (not shape.startswith("(") or shape.endswith("`")))
    wanted = {"x": "(B, 784)", "z": "(B, L)", r"\log \sigma^2": "(B, L)", r"p_\theta(x \mid z)": "as x"}
    shapes = {row[0].strip("$ "): row[3] for row in rows}
    for symbol, shape in wanted.items():
        assert shape in shapes[symbol]


# --- what the glossary says is in the notebooks -------------------------------------------------


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.term)
def test_an_entry_is_complete_and_introduced_where_it_says(entry):
    assert CHINESE.search(entry.fields[0]), f"no Chinese term: {entry.fields[0]}"
    assert re.fullmatch(r"\*\*[^*]+\*\*", entry.fields[0])
    kinds = [field.split(" ")[0] for field in entry.fields[1:-1]]
    assert kinds == [kind for kind in ("also", "symbol", "code", "shape") if kind in kinds], kinds
    sentences = re.findall(r"[.!?](?=\s|$)", re.sub(r"\d\.\d|\$[^$]*\$|`[^`]*`", "", entry.meaning))
    assert 1 <= len(sentences) <= 3 and 30 <= len(entry.meaning) <= 420, entry.meaning
    assert entry.notebook in NUMBERS and entry.fields[-1].count(entry.notebook) == 2
    text = normal(PROSE[entry.notebook])
    assert any(occurs(name, text) for name in entry.names), f"{entry.names} not in {entry.notebook}"


def test_code_names_exist():
    package = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "course_utils").rglob("*.py"))
    for entry in ENTRIES:
        for name in re.findall(r"[A-Za-z_]\w+", entry.field("code")):
            assert re.search(rf"\b{name}\b", package), f"{entry.term}: nothing in the package is called {name}"


def test_terms_have_their_usual_chinese_names_and_stand_in_alphabetical_order_under_their_letters():
    terms = [entry.term for entry in ENTRIES]
    assert terms == sorted(terms, key=lambda term: term.casefold().replace("-", " "))
    assert {KNOWN[entry.term] in entry.fields[0] for entry in ENTRIES if entry.term in KNOWN} == {True}
    names = [normal(name) for entry in ENTRIES for name in entry.names]
    assert len(set(names)) == len(names), [name for name in names if names.count(name) > 1]
    for cell in GLOSSARY.cells[2:]:
        letter, *rest = re.findall(r"^#{2,3} (.+)$", cell.source, re.MULTILINE)
        assert rest and all(term[0].upper() == letter for term in rest)


# --- the file itself ----------------------------------------------------------------------------


def test_the_glossary_keeps_to_the_rules_of_notebook_files():
    assert all(cell.cell_type == "markdown" for cell in GLOSSARY.cells)
    rules = [is_valid, names_no_machine, is_as_execute_leaves_it, describes_every_picture, folds_properly]
    rules += [writes_maths_that_renders_everywhere, links_to_what_exists, is_small_and_executed_on_mnist]
    assert not [complaint for check in rules for complaint in check(PATH, GLOSSARY)]


def anchors(notebook: nbformat.NotebookNode) -> set[str]:
    """The anchors that JupyterLab makes of headings: spaces become hyphens."""
    headings = re.findall(r"^#{1,6} (.+)$", "\n".join(c.source for c in notebook.cells), re.MULTILINE)
    return {heading.replace(" ", "-") for heading in headings}


def test_links_inside_and_into_the_glossary_lead_somewhere():
    there = anchors(GLOSSARY)
    head = GLOSSARY.cells[0].source
    letters = re.findall(r"\]\(#([^)]+)\)", head)
    assert set(letters) == {a for a in there if len(a) == 1} | {"Symbols"}
    for number, text in PROSE.items():
        for target in re.findall(r"glossary\.ipynb#([^)\s]+)\)", text):
            assert target.replace("%27", "'") in there, f"notebook {number}: glossary.ipynb#{target}"


# --- links from notebook to notebook -----------------------------------------------------------------


def navigation(path: Path) -> str:
    """What stands below a notebook's title and again at its end: the links back, to the glossary, and forward."""
    i = NOTEBOOKS.index(path)
    words = [f"{number} {title}" for number, title, *_ in diagrams.NOTEBOOKS]
    back = [f"[← {words[i - 1]}]({NOTEBOOKS[i - 1].name})"] if i else []
    forward = [f"[{words[i + 1]} →]({NOTEBOOKS[i + 1].name})"] if path != NOTEBOOKS[-1] else []
    return " · ".join([*back, "[Glossary](glossary.ipynb)", *forward])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_each_notebook_links_back_and_forward_and_sums_up_its_long_sections(path):
    notebook, links = read(path), navigation(path)
    whole, lesson = ([c.source for c in nb.cells if c.cell_type == "markdown"] for nb in (notebook, core(notebook)))
    there = links == whole[1] and links in (lesson[-1], whole[-1])
    found = [] if there else [f"not below the title, and again before or after the appendix: {links}"]
    found += [f"long, and no <summary>In short: {title}" for title in long_sections(notebook)]
    assert not found


MAX_WORDS = 450  # of a section without a summary: three minutes of reading; tables are looked up, not read through


def long_sections(notebook: nbformat.NotebookNode) -> list[str]:
    """The titles of numbered sections that are long and have no summary folded away in them."""
    text = "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    titles, bodies = (re.split(r"^## (.+)$", text, flags=re.MULTILINE)[i::2] for i in (1, 2))
    return [
        title
        for title, body in zip(titles, bodies, strict=True)
        if title[0].isdigit()
        and len(re.sub(r"^\|.*", "", body, flags=re.MULTILINE).split()) > MAX_WORDS
        and not re.search(r"<details>\s*<summary>In short", body)
    ]


def test_a_long_section_without_a_summary_is_noticed():
    body = "word " * (MAX_WORDS + 1)
    for extra, expected in [("", ["1 · Long"]), ("<details>\n<summary>In short: 1</summary>\n\nx\n\n</details>", [])]:
        cells = [nbformat.v4.new_markdown_cell(f"## 1 · Long\n\n{body}\n\n{extra}\n\n## Summary\n\n{body}")]
        assert long_sections(nbformat.v4.new_notebook(cells=cells)) == expected


# --- the checks on what they should catch -------------------------------------------------------


def test_a_missing_term_is_noticed_and_one_in_the_wrong_notebook():
    without = [entry for entry in ENTRIES if entry.term != "ELBO"]
    text = "The evidence\nlower bound (**ELBO**) of a VAE"
    assert missing_terms(text, ENTRIES) == []
    assert {name.casefold() for name in missing_terms(text, without)} == {"elbo", "evidence lower bound"}
    assert missing_symbols(r"$\mu$ and $\xi$", r"$\mu$") == [r"\xi"]
    assert missing_symbols(r"$\eta$", r"$\theta$") == [r"\eta"]
    assert not occurs("ELBO", normal("only an autoencoder")) and occurs("ELBO", normal("two ELBOs"))
    assert not occurs("rate", normal("a separate matter")) and occurs("latent variable", normal("latent-variable"))
