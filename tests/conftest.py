"""What several tests share: the course's notebooks, what a reader's work adds to them, a fence against connections."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# The glossary is no lesson, nor is a reader's copy of one.
NOTEBOOKS = sorted(path for path in (ROOT / "notebooks").glob("*.ipynb") if re.fullmatch(r"\d\d_\w+", path.stem))
# Folders at the top that work fills and git ignores: answers, data, runs, …
WORK = set(re.findall(r"^/([\w.]+)/$", (ROOT / ".gitignore").read_text(encoding="utf-8"), re.MULTILINE))


def is_saved_by_jupyter(path: Path) -> bool:
    """Whether Jupyter has written this notebook, with the version of its Python: it is a reader's work, not the
    course's, whose notebooks are stored by tests.tools.execute."""
    metadata = json.loads(path.read_text(encoding="utf-8")).get("metadata", {})
    return "version" in metadata.get("language_info", {})


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave a notebook in which somebody works alone. In CI there is none, and all is tested."""
    if os.environ.get("CI"):
        return
    saved = {path for path in NOTEBOOKS if is_saved_by_jupyter(path)}
    for item in items:
        if callspec := getattr(item, "callspec", None):
            for path in saved.intersection(v for v in callspec.params.values() if isinstance(v, Path)):
                item.add_marker(pytest.mark.skip(f"{path.name} holds your work; `git stash` puts it aside"))


# Read by every Python that starts with this file's folder on PYTHONPATH, kernels included.
_SITECUSTOMIZE = """\
import errno, ipaddress, sys

def _refuse_the_outside(event, arguments):
    if event == "socket.getaddrinfo":
        host = arguments[0]
    elif event in ("socket.connect", "socket.sendto") and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    else:
        return
    host = host.decode() if isinstance(host, bytes) else host
    if host in (None, "", "localhost", "0.0.0.0", "::"):  # the last two are what a server listens on
        return
    try:
        if ipaddress.ip_address(host).is_loopback:
            return
    except ValueError:  # a name, which would have to be looked up
        pass
    raise OSError(errno.ENETUNREACH, "Network is unreachable (fence of the tests)")

sys.addaudithook(_refuse_the_outside)
"""


@functools.cache
def namespaces_work() -> bool:
    """Whether this machine lets a command run in a network of its own that holds nothing but loopback."""
    if not (shutil.which("unshare") and shutil.which("ip")):
        return False
    return subprocess.run(_in_namespace(["true"]), capture_output=True).returncode == 0


def _in_namespace(command: list[str]) -> list[str]:
    return ["unshare", "-rn", "sh", "-c", 'ip link set lo up && exec "$@"', "sh", *command]


class Fence:
    """Runs commands for which there is no network but this machine's own.

    `kind` is "namespace" (the system keeps everything in, whatever the program) or "python" (every Python
    process refuses to connect); by default the first where the system allows it.
    """

    def __init__(self, folder: Path, kind: str | None = None) -> None:
        self.kind = kind or ("namespace" if namespaces_work() else "python")
        self._folder = folder
        (folder / "sitecustomize.py").write_text(_SITECUSTOMIZE, encoding="utf-8")

    def command(self, command: list[str]) -> list[str]:
        return _in_namespace(command) if self.kind == "namespace" else command

    def environment(self, **changes: str) -> dict[str, str]:
        environment = {**os.environ, **changes}
        if self.kind == "python":
            paths = [str(self._folder), *filter(None, [environment.get("PYTHONPATH")])]
            environment["PYTHONPATH"] = os.pathsep.join(paths)
        return environment


@pytest.fixture(autouse=True, scope="session")
def answers_elsewhere(tmp_path_factory: pytest.TempPathFactory):
    """What `check` keeps while tests run goes to a folder of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COURSE_ANSWERS", str(tmp_path_factory.mktemp("answers")))
        yield


@pytest.fixture(scope="session")
def fence(tmp_path_factory: pytest.TempPathFactory) -> Fence:
    return Fence(tmp_path_factory.mktemp("fence"))


def python(*arguments: str) -> list[str]:
    """A command line for the Python that runs the tests."""
    return [sys.executable, *arguments]


@pytest.fixture(scope="session")
def site(tmp_path_factory) -> Path:
    """The website, built with no network; a skip that says what is missing, a failure where COURSE_SITE demands it."""
    needed = ("sphinx", "myst_nb", "furo", "math_core", "ziamath", "fontTools")
    if missing := [name for name in needed if importlib.util.find_spec(name) is None]:
        reason = f"{', '.join(missing)} not installed: python -m pip install -r .site/requirements.txt"
        if os.environ.get("COURSE_SITE") == "required":
            pytest.fail(f"COURSE_SITE=required, but {reason}", pytrace=False)
        pytest.skip(reason)
    fence, folder = Fence(tmp_path_factory.mktemp("fence")), tmp_path_factory.mktemp("site") / "built"
    command = fence.command(python(str(ROOT / ".site" / "build.py"), str(folder)))
    ran = subprocess.run(command, env=fence.environment(), capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-6000:]
    assert int(re.search(r"in (\d+) seconds", ran.stdout)[1]) < 120
    return folder


@functools.cache
def why_mnist_is_missing() -> str:
    """The reason why MNIST cannot be loaded here, empty when it can; downloads it where that is possible."""
    from course_utils import load_images

    try:
        load_images("mnist")
    except (OSError, RuntimeError, ValueError) as error:
        return str(error)
    return ""


@pytest.fixture(scope="session")
def mnist():
    """MNIST, or a skip that says why it is missing; where COURSE_DATA promises it, missing is a failure."""
    if (missing := why_mnist_is_missing()) and not os.environ.get("COURSE_DATA"):
        pytest.skip(f"MNIST is not here: {missing}")
    from course_utils import load_images

    return load_images("mnist")
