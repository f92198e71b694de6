"""What the doctor hands back: findings, what was healthy, what could not be checked; to print or to show."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partialmethod
from html import escape

from course_utils.doctor.codes import CODES

_NAN = re.compile(r"\bnan\b")
SEVERITIES = ("error", "warning", "remark")
MARKS = {"error": "✘", "warning": "!", "remark": "·"}


@dataclass(frozen=True)
class Finding:
    """One thing that was found, in plain words, with the measurement behind it and what to do.

    ``code`` is stable, a key of ``CODES``. ``severity`` is "error" (the model is not the VAE that it is meant to be),
    "warning" (probably not what was meant) or "remark" (good to know). ``section`` names where it is explained.
    """

    code: str
    severity: str
    text: str
    measurement: str
    advice: str
    section: str

    def __str__(self) -> str:
        lines = [f"{MARKS[self.severity]} {self.severity} [{self.code}] {self.text}"]
        lines += [f"    measured: {self.measurement}"] if self.measurement else []
        return "\n".join([*lines, f"    change:   {self.advice}", f"    read:     {self.section}"])


@dataclass(frozen=True)
class Diagnosis:
    """The outcome of an examination: ``findings`` with the errors first, ``healthy`` and ``unchecked`` in words."""

    findings: tuple[Finding, ...]
    healthy: tuple[str, ...] = ()
    unchecked: tuple[str, ...] = ()
    checks: int = 0  # how many there are for such a model,
    made: int = 0  # and how many came to a result

    @property
    def enough(self) -> bool:
        """Whether so many checks could be made that silence means something: two thirds of them."""
        return self.made > 0 and 3 * self.made >= 2 * self.checks

    @property
    def ok(self) -> bool:
        """Whether nothing of severity "error" was found."""
        return not self.errors

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings of severity "error"."""
        return tuple(finding for finding in self.findings if finding.severity == "error")

    @property
    def codes(self) -> tuple[str, ...]:
        """The codes of all findings, errors first."""
        return tuple(finding.code for finding in self.findings)

    def find(self, code: str) -> Finding | None:
        """The finding with that code, or None. Raises ``KeyError`` for a code that does not exist."""
        if code not in CODES:
            raise KeyError(f"there is no code {code!r}; the codes are {', '.join(CODES)}")
        return next((finding for finding in self.findings if finding.code == code), None)

    def summary(self) -> str:
        """One line: how many findings of which severity, of how many checks."""
        counts = {name: sum(f.severity == name for f in self.findings) for name in SEVERITIES}
        parts = [f"{n} {name}{'s' if n != 1 else ''}" for name, n in counts.items() if n]
        made = f"{self.checks} checks, {'all' if self.made == self.checks else self.made} could be made"
        if not self.checks:
            return f"Diagnosis: {', '.join(parts) or 'nothing was checked'}"
        wrong = any(finding.severity != "remark" for finding in self.findings)
        return "; ".join([f"Diagnosis: {', '.join([*parts, made])}", *([] if wrong else ["nothing wrong among them"])])

    def __str__(self) -> str:
        blocks = [self.summary(), *map(str, self.findings)]
        for title, mark, texts in (("Found healthy", "✔", self.healthy), ("Could not be checked", "?", self.unchecked)):
            blocks += ["\n".join([f"{title}:", *(f"  {mark} {text}" for text in texts)])] if texts else []
        return "\n\n".join(blocks)

    def _repr_html_(self) -> str:
        def row(tag: str, *texts: str) -> str:
            start = f'<{tag} style="text-align: left; white-space: pre-wrap">'
            return f"<tr>{''.join(f'{start}{escape(text)}</{tag}>' for text in texts)}</tr>"

        heads = row("th", "finding", "what it means", "measured", "what to change")
        named = {f: f"{MARKS[f.severity]} {f.severity}\n{f.code}" for f in self.findings}
        rows = [row("td", n, f.text, f.measurement, f"{f.advice}\n({f.section})") for f, n in named.items()]
        table = f"<table><thead>{heads}</thead><tbody>{''.join(rows)}</tbody></table>" if rows else ""
        lists = "".join(
            f"<details><summary>{title} ({len(texts)})</summary><ul>"
            f"{''.join(f'<li>{escape(text)}</li>' for text in texts)}</ul></details>"
            for title, texts in (("Found healthy", self.healthy), ("Could not be checked", self.unchecked))
            if texts
        )
        return f"<div><strong>{escape(self.summary())}</strong>{table}{lists}</div>"


class Notes:
    """Collects findings while the checks run."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self.healthy: list[str] = []
        self.unchecked: list[str] = []
        self.checks = self.made = 0

    @contextmanager
    def check(self) -> Iterator[None]:
        """One check: it counts as made if it found something, healthy or not."""
        before = len(self.findings) + len(self.healthy)
        self.checks += 1
        yield
        self.made += len(self.findings) + len(self.healthy) > before

    def found(self, severity: str, code: str, text: str, measurement: str = "", advice: str | None = None) -> None:
        """Note a finding; the advice is the code's own unless given. A measurement that is NaN is none."""
        if code not in ("not-finite", "raises", "saturation") and _NAN.search(measurement):
            return self.skipped(f"{CODES[code].title}? The measurement gave NaN ({measurement}).")
        entry = CODES[code]
        self.findings.append(Finding(code, severity, text, measurement, advice or entry.advice, entry.section))

    error = partialmethod(found, "error")
    warning = partialmethod(found, "warning")
    remark = partialmethod(found, "remark")

    def well(self, text: str) -> None:
        """Note what was checked and is as it should be: NaN passes every comparison, and is nothing of the kind."""
        if _NAN.search(text):
            return self.skipped(f"a measurement gave NaN: {text}.")
        self.healthy.append(text)

    def skipped(self, text: str) -> None:
        """Note what could not be checked, and why."""
        if text not in self.unchecked:
            self.unchecked.append(text)

    def has(self, *codes: str) -> bool:
        """Whether one of these was found already."""
        return any(finding.code in codes for finding in self.findings)

    def diagnosis(self) -> Diagnosis:
        """All notes, the most severe findings first."""
        ordered = sorted(self.findings, key=lambda f: SEVERITIES.index(f.severity))
        return Diagnosis(tuple(ordered), tuple(self.healthy), tuple(self.unchecked), self.checks, self.made)
