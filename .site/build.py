"""The website of the course, made of the notebooks as they are stored: nothing is executed.

    .venv/bin/python -m pip install -r .site/requirements.txt
    .venv/bin/python .site/build.py [FOLDER]      # site/ unless named; open index.html in it, on the disk or anywhere

`pages.py` turns notebooks into pages, Sphinx with MyST-NB and Furo into HTML. Ends with an error at the first warning.
"""

from __future__ import annotations

import argparse
import html
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path[:0] = [str(HERE), str(ROOT)]


def build(folder: Path) -> int:
    """Write the site into `folder`, in the place of the one that was there; return Sphinx' exit status."""
    import pages
    from sphinx.cmd.build import main as sphinx

    if folder.exists() and any(folder.iterdir()) and not (folder / "searchindex.js").exists():
        raise FileExistsError(f"{folder} holds something else than a site: name another folder, or empty this one")
    with tempfile.TemporaryDirectory() as place:
        source, out = Path(place, "source"), Path(place, "out")
        pages.write(source, out)
        quiet_and_strict = ["-q", "-W", "--keep-going"]
        folders = ["-c", str(HERE), "-d", str(Path(place, "trees")), str(source), str(out)]
        if status := sphinx(quiet_and_strict + folders):
            return status
        write_font(out)
        shutil.rmtree(out / "_sources", ignore_errors=True)  # empty
        shutil.rmtree(folder, ignore_errors=True)
        shutil.move(out, folder)
    return 0


def write_font(out: Path) -> None:
    """The font of the formulas, STIX Two Math (SIL Open Font License), with the letters that the site uses."""
    import logging

    import ziamath
    from fontTools import subset

    logging.getLogger("fontTools").setLevel(logging.WARNING)
    formulas = (m for page in out.glob("*.html") for m in re.findall("<math.*?</math>", page.read_text("utf-8"), re.S))
    letters = {ord(c) for formula in formulas for c in html.unescape(re.sub("<[^>]*>", "", formula))}
    # A browser draws the single letter of <mi> with the italic one, which is another character, and <msqrt> with √.
    drawn = {*range(0x1D434, 0x1D468), 0x210E, *range(0x1D6E2, 0x1D71C), ord("√")}
    options = subset.Options(flavor="woff", layout_features=["*"], hinting=False)  # hinted, θ grows a hat at 96 dpi
    font = subset.load_font(str(Path(ziamath.__file__).parent / "fonts" / "STIXTwoMath-Regular.ttf"), options)
    part = subset.Subsetter(options)
    part.populate(unicodes=letters | drawn | set(range(0x20, 0x7F)))
    part.subset(font)
    subset.save_font(font, str(out / "_static" / "math.woff"), options)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "site")
    options = parser.parse_args()
    status = build(options.folder)
    made = f"{options.folder / 'index.html'}, in {time.process_time():.0f} seconds of one core"
    print(made if not status else "No site: see the warnings above.")
    sys.exit(status)
