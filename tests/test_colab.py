"""Colab, as far as it can be had here: one notebook file in an empty folder, google.colab loaded, the course cloned.

The repository on GitHub is a local one, put in its place by git's own configuration, so the set-up cell runs as it is
but for the folder /content. It is tried with the versions of this environment and with Colab's: IPython 7.34, ipykernel
6.17 and ipywidgets 7.7.1, a few megabytes, with everything else from here.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from course_utils.teaching import session

from .conftest import NOTEBOOKS, ROOT, python
from .tools.execute import unwanted_outputs

NAME = session.REPOSITORY.partition("/")[2]
COLAB = ["ipython==7.34.0", "ipykernel==6.17.1", "ipywidgets==7.7.1"]
COLAB_NEEDS = ["widgetsnbextension==3.6.1", "jupyterlab-widgets==1.1.11"]
COLAB_NEEDS += ["backcall", "decorator", "ipython-genutils", "pickleshare"]

# What Colab's kernel does before the first cell, and what pip's link to this folder would do, undone.
STARTUP = f"""
import sys, types
sys.path = [entry for entry in sys.path if entry != {str(ROOT)!r}]
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in getattr(finder, "__module__", "")]
sys.modules["google"] = types.ModuleType("google")
sys.modules["google.colab"] = types.ModuleType("google.colab")
"""
WHERE = "import course_utils, sys\nprint('from', course_utils.__file__, 'google.colab' in sys.modules)"

needs_git = pytest.mark.skipif(not shutil.which("git"), reason="git is not installed")
linux = pytest.mark.skipif(sys.platform == "win32", reason="Colab is Linux")


def git(*arguments: str, folder: Path) -> None:
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *identity, "-C", str(folder), *arguments], check=True)


@pytest.fixture(scope="module")
def origin(tmp_path_factory) -> Path:
    """A repository that holds the package as it is here."""
    folder = tmp_path_factory.mktemp("origin")
    ignore = shutil.ignore_patterns("__pycache__", ".*")
    shutil.copytree(ROOT / "course_utils", folder / "course_utils", ignore=ignore)
    git("init", "--quiet", folder=folder)
    git("add", ".", folder=folder)
    git("commit", "--quiet", "-m", "x", folder=folder)
    return folder


@pytest.fixture(scope="module")
def colab_python(tmp_path_factory) -> Path:
    """A Python with Colab's versions of what talks to the notebook, and the rest of this environment behind it."""
    folder = tmp_path_factory.mktemp("colab")
    subprocess.run(python("-m", "venv", "--without-pip", str(folder)), check=True)
    bare = folder / "bin" / "python"
    pip = ["-m", "pip", "--python", str(bare), "--disable-pip-version-check", "--quiet", "--retries=1", "--timeout=20"]
    try:
        ran = subprocess.run(
            python(*pip, "install", "--no-deps", *COLAB, *COLAB_NEEDS), capture_output=True, text=True, timeout=240
        )
    except subprocess.TimeoutExpired:
        pytest.skip("Colab's versions of IPython, ipykernel and ipywidgets could not be installed within 4 minutes")
    if ran.returncode:
        pytest.skip(f"Colab's versions cannot be installed here: {ran.stderr.strip().splitlines()[-1]}")
    (link,) = (folder / "lib").glob("python*/site-packages")
    # Behind its own packages; .pth files in there, such as the link to this course, are not followed.
    (link / "zz_rest.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return bare


class Colab:
    """Runs the cells of one notebook file as Colab would, in a kernel of the given Python."""

    def __init__(self, folder: Path, origin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.content, self.origin = folder / "content", origin
        self._startup = folder / "ipython" / "profile_default" / "startup"
        self._kernels = folder / "jupyter" / "kernels" / "colab"
        for made in (self.content, self._startup, self._kernels):
            made.mkdir(parents=True)
        (self._startup / "00_colab.py").write_text(STARTUP, encoding="utf-8")
        monkeypatch.setenv("JUPYTER_PATH", str(folder / "jupyter"))
        self.environment = {
            "HOME": str(folder),
            "IPYTHONDIR": str(folder / "ipython"),
            "COURSE_DATASET": "digits",
            "PYTHONPATH": "",
            "PYDEVD_DISABLE_FILE_VALIDATION": "1",
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": f"url.file://{origin}.insteadOf",
            "GIT_CONFIG_VALUE_0": f"https://github.com/{session.REPOSITORY}",
        }

    def run(self, path: Path, cells: list[str], interpreter: Path) -> nbformat.NotebookNode:
        """Run `cells` of the notebook at `path`, the only file in its folder."""
        kernel = {
            "argv": [str(interpreter), "-m", "ipykernel_launcher", "-f", "{connection_file}"],
            "language": "python",
        }
        (self._kernels / "kernel.json").write_text(json.dumps({**kernel, "display_name": "Colab"}), encoding="utf-8")
        shutil.copy(path, self.content)
        sources = [source.replace(f"/content/{NAME}", str(self.content / NAME)) for source in cells]
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
        client = NotebookClient(
            notebook, timeout=180, kernel_name="colab", resources={"metadata": {"path": str(self.content)}}
        )
        client.execute(env={**os.environ, **self.environment})
        return notebook


@pytest.fixture
def colab(tmp_path, origin, monkeypatch) -> Colab:
    return Colab(tmp_path, origin, monkeypatch)


def first_cells(path: Path) -> list[str]:
    """The code cells of a notebook up to the one that loads the data."""
    sources = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    last = next((i for i, source in enumerate(sources) if re.search(r"\bload_images\(", source)), 1)
    return sources[: last + 1]


def text_of(notebook: nbformat.NotebookNode) -> str:
    return "".join(o.get("text", "") for cell in notebook.cells for o in cell.outputs if o.output_type == "stream")


@needs_git
@linux
@pytest.mark.parametrize("versions", ["these versions", "Colab's versions"])
def test_a_single_notebook_file_fetches_the_course_once_and_starts(colab, versions, request):
    interpreter = Path(sys.executable)
    if versions == "Colab's versions":
        interpreter = request.getfixturevalue("colab_python")
    setup, *rest = first_cells(NOTEBOOKS[0])
    assert setup == session.SETUP_CELL
    tell = "import IPython, ipykernel, ipywidgets\n"
    tell += "print('versions', IPython.__version__, ipykernel.__version__, ipywidgets.__version__)"
    ran = colab.run(NOTEBOOKS[0], [setup, setup, *rest, WHERE, tell], interpreter)

    assert unwanted_outputs(ran) == []
    text = text_of(ran)
    clone = colab.content / NAME
    assert f"from {clone / 'course_utils' / '__init__.py'} True" in text
    assert text.count("· seed 0") == 2  # run twice, and cloned once: a second clone would write to stderr
    assert "Data: " in text
    assert {path.name for path in colab.content.iterdir()} == {NOTEBOOKS[0].name, NAME}
    if versions == "Colab's versions":
        assert "versions 7.34.0 6.17.1 7.7.1" in text


@needs_git
@linux
def test_the_first_cells_of_every_notebook_run_from_the_clone(colab):
    cells = [cell for path in NOTEBOOKS for cell in first_cells(path)]
    assert cells.count(session.SETUP_CELL) == len(NOTEBOOKS)
    ran = colab.run(NOTEBOOKS[0], [*cells, WHERE], Path(sys.executable))
    assert unwanted_outputs(ran) == []
    assert f"from {colab.content / NAME / 'course_utils' / '__init__.py'} True" in text_of(ran)


@needs_git
@linux
def test_the_data_folder_is_inside_the_clone_unless_one_is_named(colab, monkeypatch):
    show = "from course_utils.data import default_root\nprint('data', default_root())"
    named = "import os\nos.environ['COURSE_DATA'] = '/elsewhere'\n" + show
    monkeypatch.delenv("COURSE_DATA", raising=False)
    ran = colab.run(NOTEBOOKS[0], [session.SETUP_CELL, show, named], Path(sys.executable))
    text = text_of(ran)
    assert f"data {colab.content / NAME / 'data'}\n" in text and "data /elsewhere\n" in text


@needs_git
@linux
def test_a_repository_that_cannot_be_fetched_is_named(colab):
    colab.environment["GIT_CONFIG_KEY_0"] = f"url.file://{colab.content}/nothing.insteadOf"
    with pytest.raises(Exception, match="course_utils") as caught:
        colab.run(NOTEBOOKS[0], [session.SETUP_CELL], Path(sys.executable))
    assert "ModuleNotFoundError" in str(caught.value)
    assert not (colab.content / NAME).exists()  # so that the cell can be run again


@linux
def test_the_widgets_sliders_work_with_colabs_versions(colab_python, tmp_path):
    files = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "tests").glob("test_widget*.py"))
    assert files
    ran = subprocess.run(
        [str(colab_python), "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "slider", *files],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COURSE_DATASET": "digits", "IPYTHONDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert ran.returncode == 0, ran.stdout[-5000:] + ran.stderr[-2000:]
    passed = re.search(r"\b(\d+) passed", ran.stdout)
    assert passed and int(passed[1]) >= len(files), "each widget's tests move its sliders, by that name"


def test_every_notebook_has_a_badge_in_the_map_of_the_readme():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for path in NOTEBOOKS:
        address = f"https://colab.research.google.com/github/{session.REPOSITORY}/blob/main/notebooks/{path.name}"
        row = next(
            (line for line in readme.splitlines() if line.startswith("|") and f"notebooks/{path.name})" in line), ""
        )
        assert f"]({address})" in row, f"README.md: no Open in Colab badge in the row of {path.name}"
