"""Every notebook runs from top to bottom: on MNIST and, with no network to reach, on the offline digits.

On the digits its sections are then run again in reverse order: who goes back must still be told the truth. And it runs
as a reader leaves it, with every exercise solved: then the lesson runs on the answers that were accepted and kept.
"""

from __future__ import annotations

import os
import subprocess
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from course_utils.teaching.exercises import exercises_of

from .conftest import NOTEBOOKS, ROOT, WORK, Fence, namespaces_work, python, why_mnist_is_missing
from .tools.again import run as problems
from .tools.as_a_reader import as_a_reader

SECONDS_PER_CELL = 600
SECONDS_PER_NOTEBOOK = 1800
AT_ONCE = 2  # notebooks; each gets its share of the cores. Two with one thread each take less time than one with two

every_notebook = pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)


def test_there_is_a_notebook():
    assert NOTEBOOKS, f"no notebook in {ROOT / 'notebooks'}: nothing was tested"


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    """The folder of one reader who works through the course in order."""
    return tmp_path_factory.mktemp("reader")


@pytest.fixture(scope="module")
def started(request, fence, reader):
    """Every run that was asked for, by test: all are started here, and each test waits for its own."""
    pool, found = ThreadPoolExecutor(AT_ONCE), {}
    tests = [i for i in request.session.items if getattr(i, "originalname", "").startswith("test_runs_")]
    asked = [(test.originalname, test.callspec.params["notebook"]) for test in tests]
    solved = {path: Future() for name, path in asked if name == "test_runs_as_a_reader_leaves_it"}
    if solved:  # first, as they are one long task
        pool.submit(read_in_order, solved, reader, fence)
    for name, path in asked:
        if name == "test_runs_as_a_reader_leaves_it":
            found[name, path] = solved[path]
        elif name == "test_runs_on_the_digits_and_again_without_a_network":
            found[name, path] = pool.submit(run, path, fence.environment(COURSE_DATASET="digits"), fence.command, again)
        elif os.environ.get("COURSE_DATA") or not why_mnist_is_missing():
            found[name, path] = pool.submit(run, path, {**os.environ, "COURSE_DATASET": "mnist"})
    yield found
    pool.shutdown(cancel_futures=True)


def read_in_order(solved: dict[Path, Future], work: Path, fence: Fence) -> None:
    """Solve and run one notebook after the other, as a reader does: each goes on with what the last ones kept."""
    for path, outcome in solved.items():
        try:
            outcome.set_result(solve_and_run(path, work, fence))
        except BaseException as error:
            outcome.set_exception(error)


@every_notebook
def test_runs_on_the_digits_and_again_without_a_network(notebook, fence, started, capsys):
    seconds = started["test_runs_on_the_digits_and_again_without_a_network", notebook].result()
    show(notebook, f"digits, no network ({fence.kind})", seconds, capsys)


@every_notebook
def test_runs_as_a_reader_leaves_it(notebook, started, capsys):
    seconds, kept = started["test_runs_as_a_reader_leaves_it", notebook].result()
    assert kept, f"{notebook.name} kept no answer"
    show(notebook, "the digits, as a reader leaves it", seconds, capsys)


_OWN = """
from answers import CVAE, VAE, train
from course_utils import examine, load_images
import torch

torch.manual_seed(0)
torch.set_num_threads(1)
data = load_images("digits")
x, cond = data.train[:].flatten(1), torch.nn.functional.one_hot(data.train.labels, 10).float()
own, conditional = VAE(latent_dim=10), CVAE(latent_dim=10)


@torch.no_grad()
def losses():
    return own.loss(x).mean().item(), conditional.loss(x, cond).mean().item()


before = losses()
train(own, x, epochs=15)
optimizer = torch.optim.Adam(conditional.parameters(), lr=1e-3)
for _ in range(15):
    for rows in torch.randperm(len(x)).split(64):
        optimizer.zero_grad()
        conditional.loss(x[rows], cond[rows]).mean().backward()
        optimizer.step()
after = losses()
print("loss", *before, *after)
assert all(late < 0.5 * early for early, late in zip(before, after)), (before, after)
report = examine(own, x[:500])
print(report)
assert report.ok, report
for pixels in (own.sample(20).detach(), conditional.sample(cond[:20]).detach()):
    assert pixels.shape == (20, 784) and pixels.min() >= 0 and pixels.max() <= 1 and pixels.std(0).max() > 0.05
"""


def test_a_reader_who_solved_everything_owns_a_vae_and_a_cvae(started, reader):
    """In order, from 01 on: what `answers/` holds then is trained, examined and sampled from, without the notebooks."""
    runs = {path: run for (name, path), run in started.items() if name == "test_runs_as_a_reader_leaves_it"}
    if {*runs} != {*NOTEBOOKS}:
        pytest.skip("only some of the notebooks were run as a reader leaves them")
    kept = [file.stem for path in NOTEBOOKS for file in runs[path].result()[1]]
    exercises = [e.number for path in NOTEBOOKS for e in exercises_of(int(path.stem[:2]))]
    assert kept == [f"exercise_{number.replace('.', '_')}" for number in exercises]
    ran = subprocess.run(
        python("-W", "error", "-c", _OWN),
        cwd=reader,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COURSE_ANSWERS": str(reader / "answers")},
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert ran.returncode == 0, f"{ran.stdout}\n{ran.stderr}"


def solve_and_run(notebook: Path, work: Path, fence: Fence) -> tuple[float, list[Path]]:
    """Run the notebook with its exercises solved; the seconds, and the answers of this notebook that were kept."""
    solved, answers = work / notebook.name, work / "answers"
    nbformat.write(as_a_reader(nbformat.read(notebook, as_version=4)), solved)
    environment = fence.environment(COURSE_DATASET="digits", COURSE_ANSWERS=str(answers))
    seconds = run(solved, environment, fence.command)
    return seconds, sorted(answers.glob(f"exercise_{int(notebook.stem[:2])}_*.py"))


@every_notebook
def test_runs_on_mnist(notebook, mnist, started, capsys):
    show(notebook, "MNIST", started["test_runs_on_mnist", notebook].result(), capsys)


def show(notebook: Path, label: str, seconds: float, capsys) -> None:
    with capsys.disabled():
        print(f"\n  {notebook.stem} on {label}: {seconds:.0f} s, {AT_ONCE} at once, threads: {threads()}")


def threads() -> int:
    return max(1, (os.cpu_count() or 1) // AT_ONCE)


def nbval(notebook: Path) -> list[str]:
    """The command that executes a notebook once, every cell of it."""
    return python(
        "-m", "pytest", "--nbval-lax", "--nbval-current-env", f"--nbval-cell-timeout={SECONDS_PER_CELL}",
        "-p", "no:cacheprovider", "-q", "--override-ini=filterwarnings=default", str(notebook),
    )  # fmt: skip


def again(notebook: Path) -> list[str]:
    """The command that executes a notebook, and then its sections in reverse order."""
    return python("-m", "tests.tools.again", f"--timeout={SECONDS_PER_CELL}", str(notebook))


def run(notebook: Path, environment: dict[str, str], wrap=list, command=nbval) -> float:
    """Execute `notebook` by `command`, see that nothing was written beside it, and return the seconds that it took."""
    environment = {**environment, "COURSE_NOTEBOOK": notebook.stem, "OMP_NUM_THREADS": str(threads())}
    before = files()
    started = time.monotonic()
    ran = subprocess.run(
        wrap(command(notebook)),
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=SECONDS_PER_NOTEBOOK,
    )
    seconds = time.monotonic() - started
    assert ran.returncode == 0, f"{ran.stdout[-20_000:]}\n{ran.stderr[-5_000:]}"
    assert command is not nbval or " passed" in ran.stdout, f"nbval ran no cell:\n{ran.stdout}"
    written = {path for path, state in files().items() if before.get(path) != state}
    assert not written, f"running {notebook.name} wrote into the repository: {sorted(written)}"
    return seconds


def files() -> dict[str, tuple[int, int]]:
    """Size and time of change of every file of the course, without those that .gitignore names."""
    found = {}
    for folder, folders, names in os.walk(ROOT):
        here = Path(folder)
        ignored = {"__pycache__", ".git", ".venv", ".pytest_cache", ".ruff_cache", ".ipynb_checkpoints"}
        folders[:] = [name for name in folders if name not in ignored and (here != ROOT or name not in WORK)]
        for name in names:
            state = (here / name).stat()
            found[(here / name).relative_to(ROOT).as_posix()] = state.st_size, state.st_mtime_ns
    return found


# Nothing below sends a packet, fence or no fence: connecting a UDP socket only looks for a route.
_ATTEMPTS = """
import socket

def refused(address):
    try:
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect((address, 9))
    except OSError as error:
        return "unreachable" in str(error)
    return False

assert refused("192.0.2.1"), "the outside could be reached"
assert refused("10.0.0.1"), "a private network could be reached"
with socket.create_server(("127.0.0.1", 0)) as server:
    socket.create_connection(server.getsockname()).close()
print("closed outwards, open to itself")
"""


@pytest.mark.parametrize("kind", ["namespace", "python"])
def test_the_fence_lets_nothing_out(kind, tmp_path):
    if kind == "namespace" and not namespaces_work():
        pytest.skip("this system does not allow a network namespace; the fence inside Python is used")
    closed = Fence(tmp_path, kind)
    ran = subprocess.run(
        closed.command(python("-c", _ATTEMPTS)), env=closed.environment(), capture_output=True, text=True
    )
    assert ran.stdout.strip() == "closed outwards, open to itself", ran.stderr


def test_the_fence_inside_python_looks_up_no_name(tmp_path):
    closed = Fence(tmp_path, "python")
    lookup = "import socket; socket.getaddrinfo('localhost', 80); socket.getaddrinfo('example.invalid', 80)"
    ran = subprocess.run(python("-c", lookup), env=closed.environment(), capture_output=True, text=True)
    assert "Network is unreachable (fence of the tests)" in ran.stderr


SECTIONS = ["a = 1", "## First", "b = 2", "assert a < 2", "## Second", "a = 2", "b += 1", "## Third", "assert b < 4"]


def notebook_of(path: Path, *sources: str, long: int | None = None) -> Path:
    new = [new_markdown_cell(s) if s.startswith("#") else new_code_cell(s) for s in sources]
    if long is not None:
        new[long].metadata["tags"] = ["long"]
    nbformat.write(new_notebook(cells=new), path)
    return path


@pytest.mark.parametrize("command", [nbval, again])
def test_a_broken_notebook_does_not_pass(tmp_path, command):
    path = notebook_of(tmp_path / "broken.ipynb", "assert 1 + 1 == 3")
    with pytest.raises(AssertionError, match="assert 1 \\+ 1 == 3"):
        run(path, dict(os.environ), command=command)


def test_going_back_to_a_section_finds_a_name_that_means_something_else(tmp_path):
    (found,) = problems(notebook_of(tmp_path / "99.ipynb", *SECTIONS))
    assert "going back to 'First (cell 1)', cell 3" in found and "assert a < 2" in found
    assert not problems(notebook_of(tmp_path / "99.ipynb", *SECTIONS), once=True)
    apart = [source.replace("a = 2", "c = 2") for source in SECTIONS]
    assert not problems(notebook_of(tmp_path / "99.ipynb", *apart))


def test_going_back_leaves_out_what_trains(tmp_path):
    (found,) = problems(notebook_of(tmp_path / "99.ipynb", "## Only", "a = 1", "assert a == 1", "a = 2", long=1))
    assert "going back to 'Only (cell 0)', cell 2" in found
    assert "wrote to stderr" in problems(notebook_of(tmp_path / "99.ipynb", "import warnings", "warnings.warn('x')"))[0]
