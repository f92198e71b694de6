"""The way in: `python -m course_utils`, the README's commands and promises, the repository's top level."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import shutil
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
from course_utils.teaching.session import REPOSITORY

from .conftest import NOTEBOOKS, ROOT, Fence, is_saved_by_jupyter, python

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
    command = python("-m", "course_utils", f"--port={port}")
    options = dict(cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT)
    if not terminal:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, **options)
        running = Running(process, lambda: process.stdout.read1(65536))
        close = process.stdout.close
    else:
        import pty

        ours, theirs = pty.openpty()
        # A session of its own with that terminal: Ctrl-C typed there interrupts the command and nothing else.
        adopt = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
        adopt += "os.execv(sys.executable, sys.argv[1:])"
        options |= dict(stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
        process = subprocess.Popen(python("-c", adopt, *command), **options)
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
        # As the kernel would write it: a notebook that is only opened is not marked as changed.
        from ipykernel.ipkernel import IPythonKernel

        assert notebook["content"]["metadata"]["language_info"] == IPythonKernel.language_info
        assert not is_saved_by_jupyter(ROOT / start.FIRST_NOTEBOOK)

        running.process.send_signal(signal.SIGINT)
        assert running.finish() == 0
    assert "Traceback" not in running.output
    assert not list(Path(bare["COURSE_DATA"]).rglob("*ubyte*"))  # nothing half-fetched


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere a browser would be opened")
def test_ctrl_c_in_a_terminal_closes_the_course_without_a_question(bare):
    with opened({**bare, "COURSE_DATASET": "digits"}, terminal=True) as running:
        running.wait_for(ADDRESS)
        running.type(b"\x03")
        assert running.finish() == 0
    assert "Traceback" not in running.output and "[y/n]" not in running.output.lower()


@pytest.mark.parametrize(
    ("hostname", "url", "says"),
    [
        ("localhost", "http://localhost:8890/", "http://localhost:8890/lab/tree/"),
        ("0.0.0.0", "http://3f2a91c0:8890/", "http://127.0.0.1:8890/lab/tree/"),  # as in a container
        ("::", "https://3f2a91c0:8890/base/", "https://127.0.0.1:8890/base/lab/tree/"),
    ],
)
def test_the_address_is_one_that_can_be_opened_and_no_other_servers(hostname, url, says, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))
    about = tmp_path / f"jpserver-{os.getpid()}.json"
    about.write_text(json.dumps({"hostname": hostname, "url": url, "token": "a b"}), encoding="utf-8")
    start._announce(patience=0.5)
    assert f"    {says}{start.FIRST_NOTEBOOK}?token=a+b\n" in capsys.readouterr().out
    os.utime(about, (1, 1))  # left behind by another process of the same number
    start._announce(patience=0.5)
    assert capsys.readouterr().out == ""


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


def test_further_options_come_last_and_a_port_that_was_chosen_is_that_one_or_none(asked):
    plain = options(asked)
    assert "--ServerApp.answer_yes=True" in plain and "--LabApp.news_url=None" in plain
    assert "--ServerApp.port_retries=0" not in plain
    given = options(asked, "--port=9000", "--ip=0.0.0.0")
    assert given[-2:] == ["--port=9000", "--ip=0.0.0.0"] and "--ServerApp.port_retries=0" in given


@pytest.mark.parametrize(
    ("platform", "variables", "shows"),
    [
        ("linux", {}, False),
        ("linux", {"DISPLAY": ":0"}, True),
        ("linux", {"WAYLAND_DISPLAY": "wayland-0"}, True),
        ("linux", {"DISPLAY": ":0", "SSH_CONNECTION": "192.0.2.1 22 192.0.2.2 22"}, False),
        ("darwin", {}, True),
    ],
)
def test_a_browser_is_opened_only_where_there_is_a_screen(asked, monkeypatch, platform, variables, shows):
    monkeypatch.setattr(sys, "platform", platform)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert ("--no-browser" not in start._options()) is shows


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


@pytest.mark.parametrize("command", ["", ".training", ".teaching.lectures", ".teaching.gallery", ".teaching.diagrams"])
def test_help_comes_through_a_legacy_code_page(command):
    environment = {**os.environ, "PYTHONIOENCODING": "ascii:strict", "PYTHONUTF8": "0"}
    command = python("-m", f"course_utils{command}", "--help")
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True)
    assert ran.returncode == 0 and ran.stdout and ran.stderr == b""


# --- installation -------------------------------------------------------------------------------


def test_installing_again_needs_no_network_and_links_this_folder(tmp_path):
    subprocess.run(python("-m", "venv", "--without-pip", str(tmp_path / "venv")), check=True)
    (there,) = (path for path in (tmp_path / "venv").rglob("python*") if path.stem == "python" and path.is_file())
    pip = python("-m", "pip", "--python", str(there), "install", "--no-index", "--disable-pip-version-check", "-q")
    for arguments in (["-e", str(ROOT)], ["-e", str(ROOT)], [str(ROOT), "--target", str(tmp_path / "copied")]):
        ran = subprocess.run([*pip, *arguments], capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr
    show = "import course_utils, os; print(course_utils.__file__, os.environ['OMP_WAIT_POLICY'])"
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "OMP_WAIT_POLICY")}
    ran = subprocess.run([there, "-c", show], cwd=tmp_path, env=environment, capture_output=True, text=True)
    # Threads that wait for each other sleep: PyTorch reads the variable when it is imported.
    assert ran.stdout.strip() == f"{ROOT / 'course_utils' / '__init__.py'} PASSIVE", ran.stderr
    assert (tmp_path / "copied" / "course_utils" / "teaching" / "slides" / "lecture" / "lecture.css").is_file()


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


@pytest.fixture(scope="module")
def tracked() -> list[str]:
    """The course's own files, as git knows them; whatever else lies there is somebody's work."""
    ran = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if ran.returncode or not ran.stdout:
        pytest.skip("no git here that knows the course's files")
    return ran.stdout.splitlines()


def test_the_top_level_stays_as_it_is_described(tracked):
    expected = {"notebooks", "course_utils", "tests", "images", "requirements.txt", "README.md", "pyproject.toml"}
    assert {name for path in tracked if not (name := path.partition("/")[0]).startswith(".")} == expected


def test_what_work_leaves_behind_breaks_no_check_and_no_check_breaks_it(tracked, tmp_path):
    """The course opened, a notebook run and saved, exercises answered, models trained, lectures written."""
    for name in tracked:
        if (ROOT / name).is_file():  # not one that is about to be removed
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tmp_path / name)
    first = tmp_path / start.FIRST_NOTEBOOK
    notebook = json.loads(first.read_text(encoding="utf-8"))
    notebook["metadata"] |= {"language_info": {"name": "python", "version": "3.11.7"}, "widgets": {"x": {"state": {}}}}
    notebook["cells"].append(
        {"cell_type": "code", "id": "mine", "metadata": {}, "source": "broken(", "outputs": [], "execution_count": 99}
    )
    saved = json.dumps(notebook)
    work = {
        start.FIRST_NOTEBOOK: saved,
        "notebooks/.ipynb_checkpoints/01_autoencoder-checkpoint.ipynb": saved,
        "notebooks/01_autoencoder-Copy1.ipynb": saved,
        "notebooks/Untitled.ipynb": json.dumps({"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}),
        "Untitled.ipynb": "{}", "notes.txt": f"github.com/{REPOSITORY}", "answers/1.1.py": "def squared_error(",
        "answers/README.md": f"github.com/{REPOSITORY}", "data/MNIST/raw/.download-x/half": "x", "runs/vae.pt": "x",
        "slides/01_autoencoder.slides.html": f"/content/{REPOSITORY.partition('/')[2]}", "figures/01.png": "x",
        "site/01_autoencoder.html": f"github.com/{REPOSITORY}", "site/01_autoencoder.ipynb": saved,
        "notebooks/data.csv": "1,2", ".vscode/settings.json": "{}",
    }  # fmt: skip
    for name, content in work.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content, encoding="utf-8")
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    subprocess.run(["git", "add", "-f", "--", *(name for name in tracked if (tmp_path / name).exists())], cwd=tmp_path)

    looks = {
        "colab": "badge", "session": "every_byte", "diagrams": "map_names", "glossary": "each_notebook",
        "notebook_files": "", "lectures": "up_to_date or are_found", "start": "top_level or map_is_complete",
    }  # fmt: skip
    wanted = " or ".join(f"(test_{name}.py{which and f' and ({which})'})" for name, which in looks.items())
    command = python("-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", wanted)
    command += [f"tests/test_{name}.py" for name in looks]
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "CI": ""}
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout[-8000:]
    assert "01_autoencoder.ipynb holds your work" in ran.stdout
    assert {name: (tmp_path / name).read_text(encoding="utf-8") for name in work} == work


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
        environment = os.environ | {"COURSE_BROWSER": "no", "COURSE_SITE": "no"}  # nothing to be installed for this
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
    rooms = re.search(r"\| room \| holds \|\n(.*?)\n\n", README, re.DOTALL)[1]
    named = {name for row in rooms.splitlines()[1:] for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert named == {path.parent.name for path in (ROOT / "course_utils").glob("*/__init__.py")}
    for module in re.findall(r"python -m ((?:course_utils|tests)[.\w]*)", README):
        assert importlib.util.find_spec(module), module
    for variable in ("COURSE_DATA", "COURSE_DATASET", "COURSE_SEED"):
        assert f"`{variable}`" in README
