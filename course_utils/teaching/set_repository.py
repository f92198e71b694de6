"""Point the course at your own copy on GitHub: `python -m course_utils.teaching.set_repository you/your-fork`.

Colab opens a notebook from an address on GitHub and its set-up cell clones the course from there. Both name a
repository: this command writes yours into every notebook, the README and `course_utils/teaching/session.py`.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from course_utils._files import ROOT, print_anything, replace_text

_CONSTANT = re.compile(r'^REPOSITORY = "([^"]*)"$', re.MULTILINE)
# GitHub's own rules: an owner of letters, digits and single hyphens; a name of letters, digits, ".", "_" and "-".
_VALID = re.compile(r"(?![^/]*--)[A-Za-z0-9](?:[A-Za-z0-9-]{0,37}[A-Za-z0-9])?/(?!\.{1,2}$)[A-Za-z0-9._-]{1,100}")


def set_repository(repository: str, *, root: Path = ROOT) -> list[Path]:
    """Write `repository` ("OWNER/NAME") into the files below `root`; return those that changed.

    Doing it again changes nothing. Each file is replaced in one step, and `session.py`, which remembers the
    old name, comes last: after an interruption the same command finishes the work.

    Raises ValueError when `repository` is not "OWNER/NAME", RuntimeError when `session.py` does not hold
    the old one.
    """
    if not _VALID.fullmatch(repository) or repository.endswith(".git"):
        raise ValueError(
            f"A repository is written OWNER/NAME, as in you/your-fork; got {repository!r}. "
            "Give the two names only, without https://github.com/ and without .git."
        )
    home = root / "course_utils" / "teaching" / "session.py"
    found = _CONSTANT.findall(home.read_text(encoding="utf-8"))
    if len(found) != 1:
        raise RuntimeError(f'{home} should hold one line REPOSITORY = "OWNER/NAME"; found {len(found)}.')
    old = found[0]

    changed = []
    for path in [root / "README.md", *sorted((root / "notebooks").glob("*.ipynb")), home]:
        before = path.read_bytes().decode("utf-8")  # bytes: line ends stay as they are
        after = _CONSTANT.sub(f'REPOSITORY = "{repository}"', before) if path == home else before
        if path != home:
            after = _renamed(before, old, repository)
        if after != before:
            replace_text(path, after)
            changed.append(path)
    return changed


def _renamed(text: str, old: str, new: str) -> str:
    """`text` with the addresses of `old` on GitHub, its Pages and Colab, and its folder there, made those of `new`."""
    ends_here = r"(?![\w-]|\.(?!git\b)\w)"  # neither inside a longer name nor before a suffix other than .git
    for before, after in [
        (f"github.com/{old}", f"github.com/{new}"),
        (f"colab.research.google.com/github/{old}", f"colab.research.google.com/github/{new}"),
        (f"/content/{old.partition('/')[2]}", f"/content/{new.partition('/')[2]}"),
        (old.replace("/", ".github.io/"), new.replace("/", ".github.io/")),
    ]:
        text = re.sub(re.escape(before) + ends_here, after, text)
    return text


def main(arguments: list[str]) -> int:
    """Run the command; return its exit status."""
    print_anything()
    if len(arguments) != 1 or arguments[0] in ("-h", "--help"):
        print("usage: python -m course_utils.teaching.set_repository OWNER/NAME")
        return 0 if arguments in (["-h"], ["--help"]) else 2
    try:
        changed = set_repository(arguments[0])
    except (ValueError, RuntimeError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    for path in changed:
        print(f"changed {path.relative_to(ROOT)}")
    if not changed:
        print(f"The course names {arguments[0]} already.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
