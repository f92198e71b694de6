"""The way in: `python -m course_utils`, the README's commands and promises, the repository's top level."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from course_utils import __main__ as start

from .conftest import NOTEBOOKS, ROOT, Fence, python

README = (ROOT / "README.md").read_text(encoding="utf-8")
ADDRESS = re.compile(r"The course is open at\s+(http://\S+)")


# --- python -m course_utils ---------------------------------------------------------------------


class Running:
    """A started command whose output is collected while it runs."""

    def __init__(self, process: subprocess.Popen, read) -> None:
        self.process, self.output = process, ""
        self._read = read
        self._reader = threading.Thread(target=self._collect, daemon=True)
        self._reader.start()

    def _collect(self) -> None:
        while piece := self._read():
            self.output += piece.decode("utf-8", errors="replace")

    def wait_for(self, pattern: str | re.Pattern, seconds: float = 90) -> re.Match:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if found := re.search(pattern, self.output):
                return found
            if self.process.poll() is not None and not self._reader.is_alive():
                break
            time.sleep(0.1)
        pytest.fail(f"{pattern!r} did not appear in:\n{self.output}")

    def finish(self, seconds: float = 30) -> int:
        status = self.process.wait(seconds)
        self._reader.join(seconds)
        return status


@contextlib.contextmanager
def opened(environment: dict[str, str], *, terminal: bool = False) -> Iterator[Running]:
    """`python -m course_utils` on a free port, with a terminal to type into (`type(keys)`) if asked for."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = python("-m", "course_utils", f"--port={port}", "--ServerApp.port_retries=0")
    if not terminal:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        running = Running(process, lambda: process.stdout.read1(65536))
        close = process.stdout.close
    else:
        import pty

        ours, theirs = pty.openpty()
        # A session of its own with that terminal: Ctrl-C typed there interrupts the command and nothing else.
        adopt = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
        adopt += "os.execv(sys.executable, sys.argv[1:])"
        process = subprocess.Popen(
            python("-c", adopt, *command),
            cwd=ROOT,
            env=environment,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)

        def read() -> bytes:
            try:
                return os.read(ours, 65536)
            except OSError:  # Linux's way of saying that the other end is closed
                return b""

        running = Running(process, read)
        running.type = lambda keys: os.write(ours, keys)
        close = lambda: os.close(ours)  # noqa: E731
    try:
        yield running
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        running._reader.join(10)
        close()


@pytest.fixture
def bare(tmp_path: Path) -> dict[str, str]:
    """The environment of a machine without home settings, screen, data or network."""
    fence = tmp_path / "fence"
    fence.mkdir()
    # The fence inside Python, not a network of its own: this test is to reach the server from outside.
    environment = Fence(fence, "python").environment(
        HOME=str(tmp_path / "home"),
        USERPROFILE=str(tmp_path / "home"),
        COURSE_DATA=str(tmp_path / "data"),
    )
    set_by_a_user = ("DISPLAY", "WAYLAND_DISPLAY", "SSH_CONNECTION", "COURSE_DATASET", "COURSE_SEED")
    foreign = [name for name in environment if name in set_by_a_user or name.startswith(("JUPYTER", "JPY_"))]
    for name in foreign:
        del environment[name]
    return {**environment, "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime")}


def get(address: str) -> dict:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(address, timeout=20) as answer:
        assert answer.status == 200
        return json.load(answer) if "json" in answer.headers["Content-Type"] else {}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere a browser would be opened")
def test_offline_and_without_a_screen_the_course_opens_at_notebook_01(bare):
    with opened(bare) as running:
        address = running.wait_for(ADDRESS)[1]
        # It said what it does about the data, before JupyterLab's own lines.
        assert re.search(r"^Data: digits, .*not MNIST", running.output, re.MULTILINE)
        assert running.output.index("Data: ") < running.output.index("ServerApp")
        # JupyterLab prints the address as well, and opens no browser.
        assert len(re.findall(r"http://\S+/lab/tree/notebooks/01_autoencoder.ipynb\?token=\w+", running.output)) > 1
        assert "No web browser found" not in running.output

        get(address)
        api = address.replace("/lab/tree/", "/api/contents/")
        notebook = get(api)
        assert notebook["path"] == start.FIRST_NOTEBOOK
        assert notebook["content"]["cells"]

        running.process.send_signal(signal.SIGINT)
        assert running.finish() == 0
    assert "Traceback" not in running.output
    assert not list(Path(bare["COURSE_DATA"]).rglob("*ubyte*"))  # nothing half-fetched


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere a browser would be opened")
def test_ctrl_c_in_a_terminal_asks_and_then_closes_the_course(bare):
    with opened({**bare, "COURSE_DATASET": "digits"}, terminal=True) as running:
        running.wait_for(ADDRESS)
        running.type(b"\x03")
        running.wait_for(r"Shut down this Jupyter server")
        running.type(b"y\n")
        assert running.finish() == 0
    assert "Traceback" not in running.output


@pytest.fixture
def asked(monkeypatch):
    """The options that JupyterLab would be started with; nothing is started."""
    from jupyterlab.labapp import LabApp

    seen: list[list[str]] = []
    monkeypatch.setattr(LabApp, "launch_instance", lambda argv: seen.append(argv))
    monkeypatch.setattr(start, "_announce", lambda: None)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setenv("COURSE_DATASET", "digits")
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SSH_CONNECTION", "PYTHONPATH"):
        monkeypatch.setenv(name, "")
    return seen


def options(asked, *arguments: str) -> list[str]:
    assert start.main(list(arguments)) == 0
    return asked[-1]


def test_further_options_go_to_jupyterlab_and_come_last(asked):
    assert options(asked, "--port=9000", "--ip=0.0.0.0")[-2:] == ["--port=9000", "--ip=0.0.0.0"]


def test_a_browser_is_opened_only_where_there_is_a_screen(asked, monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    assert "--no-browser" in start._options()
    monkeypatch.setenv("DISPLAY", ":0")
    assert "--no-browser" not in start._options()
    monkeypatch.setenv("SSH_CONNECTION", "192.0.2.1 22 192.0.2.2 22")
    assert "--no-browser" in start._options()
    monkeypatch.setenv("SSH_CONNECTION", "")
    monkeypatch.setenv("DISPLAY", "")
    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-0")
    assert "--no-browser" not in start._options()
    monkeypatch.setenv("WAYLAND_DISPLAY", "")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert "--no-browser" not in start._options()


def test_root_is_allowed_and_nobody_else_needs_to_be(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0, raising=False)
    assert "--allow-root" in start._options()
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "--allow-root" not in start._options()
    monkeypatch.delattr(os, "geteuid")  # Windows
    assert "--allow-root" not in start._options()


def test_kernels_find_this_copy_of_the_course_and_the_data(asked, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COURSE_DATA", "some/data")
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    options(asked)
    assert os.environ["PYTHONPATH"] == os.pathsep.join([str(ROOT), "/elsewhere"])
    assert os.environ["COURSE_DATA"] == str(tmp_path / "some" / "data")


@pytest.mark.parametrize("module", ["jupyterlab", "torch"])
def test_what_is_not_installed_is_named_with_its_cure(asked, monkeypatch, capsys, module):
    find = start.importlib.util.find_spec
    monkeypatch.setattr(start.importlib.util, "find_spec", lambda name: None if name == module else find(name))
    assert start.main([]) == 1
    said = capsys.readouterr().err
    assert f"{module} is not installed" in said
    assert f"{sys.executable} -m pip install -r requirements.txt" in said
    assert not asked


def test_data_that_cannot_be_had_are_a_reason_not_a_traceback(asked, monkeypatch, capfd):
    monkeypatch.setenv("COURSE_DATASET", "mnits")
    assert start.main([]) == 1
    said = capfd.readouterr().err
    assert "The data could not be loaded" in said and "mnits" in said
    assert "Traceback" not in said
    assert not asked


def test_help_starts_nothing(asked, capsys):
    assert start.main(["--help"]) == 0
    assert "passed on to JupyterLab" in capsys.readouterr().out
    assert not asked


# --- installation -------------------------------------------------------------------------------


def test_the_package_can_be_imported_from_anywhere(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    ran = subprocess.run(
        python("-c", "import course_utils; print(course_utils.__file__)"),
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, f"{ran.stderr}\nIs the course installed? python -m pip install -r requirements.txt"
    assert Path(ran.stdout.strip()) == ROOT / "course_utils" / "__init__.py"


def test_importing_the_package_is_cheap_and_quiet():
    script = (
        "import sys, pkgutil, course_utils\n"
        "assert not {'torch', 'numpy', 'matplotlib'} & set(sys.modules), 'the package alone loads nothing'\n"
    )
    ran = subprocess.run(python("-W", "error", "-c", script), cwd=ROOT, capture_output=True, text=True)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


def test_requirements_are_lower_bounds_that_are_met():
    import importlib.metadata

    from packaging.requirements import Requirement

    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    lines = [line for line in lines if line and not line.startswith("#")]
    assert lines[-1] == "-e ."
    for line in lines[:-1]:
        needed = Requirement(line)
        assert [part.operator for part in needed.specifier] == [">="], f"{line} is more than a lower bound"
        assert needed.specifier.contains(importlib.metadata.version(needed.name), prereleases=True), line


def test_the_top_level_stays_as_it_is_described():
    expected = {
        "notebooks",
        "course_utils",
        "tests",
        "images",
        "requirements.txt",
        "README.md",
        "pyproject.toml",
    }
    ignored = {"data", "runs", "slides", "figures", "__pycache__"}  # what the README says is written there
    found = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}
    assert found - ignored <= expected


# --- the README ---------------------------------------------------------------------------------


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)\n```$", README, re.MULTILINE | re.DOTALL)


def marked(name: str) -> str:
    return re.search(rf"^<!-- command: {name} -->\n```bash\n(.*?)\n```$", README, re.MULTILINE | re.DOTALL)[1]


def test_the_two_commands_are_the_same_up_to_their_last_step():
    environment = "python3 -m venv .venv && .venv/bin/python -m pip install -r requirements.txt && .venv/bin/python "
    assert marked("open") == environment + "-m course_utils"
    assert marked("test") == environment + "-m pytest"
    for command in (marked("open"), marked("test")):
        steps = command.replace("python3", "py").replace(".venv/bin/", ".venv\\Scripts\\").split(" && ")
        assert "; ".join(steps) in blocks("powershell")


@pytest.mark.skipif(sys.platform == "win32", reason="the script is for bash")
def test_ci_runs_the_readme_s_own_command(tmp_path):
    """`.ci/run` on a copy whose README holds another command: that one runs, and its end decides."""
    (tmp_path / ".ci").mkdir()
    script = tmp_path / ".ci" / "run"
    script.write_bytes((ROOT / ".ci" / "run").read_bytes())

    def run(command: str) -> subprocess.CompletedProcess[str]:
        readme = README.replace(marked("test"), command) if command else README.replace("command: test", "")
        (tmp_path / "README.md").write_text(readme, encoding="utf-8")
        environment = os.environ | {"COURSE_BROWSER": "no"}  # no browser has to be installed for this
        return subprocess.run(["bash", str(script)], capture_output=True, text=True, cwd="/", env=environment)

    green = run("pwd && echo '===== 3 passed, 1 skipped in 0.1s ====='")
    assert green.returncode == 0, green.stderr
    assert str(tmp_path.resolve()) in green.stdout
    assert "3 passed, 1 skipped" in green.stdout
    assert run("echo '===== 3 passed in 0.1s ====='; exit 1").returncode != 0
    assert run("false\necho '===== 3 passed in 0.1s ====='").returncode != 0
    assert run("echo '===== 2 skipped in 0.1s ====='").returncode != 0
    assert run("echo '===== no tests ran in 0.1s ====='; exit 5").returncode != 0
    assert run("").returncode != 0
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_the_readme_s_example_runs(tmp_path):
    (example,) = blocks("python")
    assert "epochs=2" in example
    ran = subprocess.run(
        python("-W", "error", "-c", example),
        cwd=tmp_path,
        env={**os.environ, "COURSE_DATASET": "digits"},
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert ran.returncode == 0, ran.stderr
    assert re.search(r"^-ELBO \d+\.\d = \d+\.\d \+ \d+\.\d nats per image$", ran.stdout, re.MULTILINE)


def test_the_readme_s_map_is_complete_and_measured():
    rows = re.findall(r"^\| \[.*?\]\((notebooks/.*?)\) \| .+\? \| ([^|]*) \| [^|]* \|$", README, re.MULTILINE)
    assert [path for path, _ in rows] == [path.relative_to(ROOT).as_posix() for path in NOTEBOOKS]
    for path, minutes in rows:
        assert re.fullmatch(r"\d+(\.\d)? min", minutes), f"{path}: the running time is {minutes!r}"


def test_the_readme_names_what_is_there():
    for path in re.findall(r"\]\((?!https?:|#)([^)#]+)\)", README):
        assert (ROOT / path).exists(), path
    modules = re.search(r"\| module \| holds \|\n(.*?)\n\n", README, re.DOTALL)[1]
    named = {name for row in modules.splitlines()[1:] for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    there = {path.stem for path in (ROOT / "course_utils").iterdir() if not path.name.startswith("_")}
    assert named == there - {"set_repository"}
    for variable in ("COURSE_DATA", "COURSE_DATASET", "COURSE_SEED"):
        assert f"`{variable}`" in README
