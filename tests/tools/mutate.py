"""Do the tests notice a mistake? Each run changes one place in the arithmetic and expects a test to fail.

    python -m tests.tools.mutate                          # a sample of 60 changes in losses, models and evaluation
    python -m tests.tools.mutate --count 0 losses/terms   # every change that it knows, in one module
    python -m tests.tools.mutate --count 0 teaching/exercises/notebook_02 teaching/exercises/_relations

A change swaps a sign, a constant, a reduction, an axis or a comparison, or cuts a gradient with `detach`. It is made in
a copy of the package; the course's own files stay as they are. A change that no test notices is printed with its line:
write the test, or say beside the code why nothing notices it (`# harmless: 1 → 2 (any seed will do)`). The example
inputs of the exercises are spared: others are as good as long as they tell every wrong answer from the right one, and
for that there is a test. It forks a process for each change, so it needs Linux or macOS.
"""

from __future__ import annotations

import ast
import functools
import multiprocessing
import os
import random
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

from . import command

ROOT = Path(__file__).resolve().parents[2]
TESTS = {  # module -> the test files that are asked about it, in this order, until one fails
    "losses/terms": "losses", "losses/elbo": "losses", "losses/likelihoods": "losses models", "losses/scales": "scales",
    "models/layers": "models evaluation misuse", "models/autoencoder": "models misuse", "models/vae": "models misuse",
    "models/cvae": "models evaluation misuse", "evaluation/bounds": "evaluation misuse",
    "evaluation/latents": "evaluation", "evaluation/judge": "evaluation misuse",
    "evaluation/samples": "generation misuse", "evaluation/linear_gaussian": "linear_gaussian misuse",
}  # fmt: skip
EXERCISES = "teaching/exercises"
TIMEOUT = 600  # seconds for the tests of one change; one that makes them run longer is noticed
OPERATORS = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult}
COMPARISONS = {ast.Lt: ast.GtE, ast.LtE: ast.Gt, ast.Gt: ast.LtE, ast.GtE: ast.Lt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq}
METHODS = {
    "sum": "mean", "mean": "sum", "exp": "expm1", "expm1": "exp", "log": "log1p", "square": "abs", "abs": "square",
    "amax": "amin", "argmax": "argmin", "sigmoid": "tanh", "logsumexp": "sum", "var": "std", "sqrt": "square",
    "randn_like": "rand_like", "zeros_like": "ones_like",
}  # fmt: skip
GRADIENTS = {"mu", "log_var", "z", "logits", "mean", "sigma", "mu_p", "log_var_p"}
SPECIMENS = {  # in notebook 08: what builds the models that a reader's test must tell apart
    "images", "small", "_wild", "_still_images", "_conditional", "_with_terms", "_with_sampler", "_seeded",
    "_no_grad_sampler",
}  # fmt: skip

HARMLESS = re.compile(r"# harmless: (.+)")


def excused(source: str, line: int, what: str) -> bool:
    """Whether the code itself says that nothing can notice this change, and why: `# harmless: 1 → 2 (the reason)`.

    The comment ends the line, or stands above it; several changes are parted by semicolons.
    """
    lines = source.splitlines()
    above = line - 2
    while above >= 0 and lines[above].lstrip().startswith("# harmless:"):
        above -= 1
    said = [found[1] for text in lines[above + 1 : line] if (found := HARMLESS.search(text))]
    return any(part.strip().startswith(f"{what} (") for text in said for part in text.split(";"))


def mutants(module: str, source: str) -> Iterator[tuple[int, str, Callable[[], str]]]:
    """Every single change of ``source``: (line, what was changed, a function that gives the new source)."""
    tree = ast.parse(source)
    spared = set(_spared(tree))
    free = set(_no_such_change(tree)) if "/notebook_" in module else set()
    for index, node in enumerate(ast.walk(tree)):
        if id(node) in spared or (id(node), type(node)) in free:
            continue
        for which, (what, _) in enumerate(_changes(node)):
            yield node.lineno, what, functools.partial(_changed, source, index, which)


def _changed(source: str, index: int, which: int) -> str:
    tree = ast.parse(source)
    node = list(ast.walk(tree))[index]
    _, change = list(_changes(node))[which]
    change(node)
    return ast.unparse(ast.fix_missing_locations(tree))


def _spared(tree: ast.Module) -> Iterator[int]:
    """What is no arithmetic: imports, messages, annotations, defaults, what is raised, minutes; and example inputs."""
    for node in ast.walk(tree):
        parts: list[ast.AST] = []
        if isinstance(node, ast.Raise | ast.Import | ast.ImportFrom | ast.JoinedStr) or _makes_examples(node):
            parts = [node]
        elif isinstance(node, ast.FunctionDef):
            parts = [node.args, *node.decorator_list, *([node.returns] if node.returns else [])]
        elif isinstance(node, ast.AnnAssign):
            parts = [node.annotation]
        elif isinstance(node, ast.ClassDef):
            parts = [*node.bases, *node.decorator_list]
        elif isinstance(node, ast.keyword):
            parts = [node] if node.arg == "minutes" else []
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "").lstrip("_").startswith("check_"):
            parts = [node]
        for part in parts:
            yield from map(id, ast.walk(part))


def _makes_examples(node: ast.AST) -> bool:
    """Whether this draws the example inputs of an exercise, or builds the models that a reader's test is tried on."""
    if isinstance(node, ast.FunctionDef | ast.Lambda):
        return any(argument.arg == "rng" for argument in [*node.args.args, *node.args.kwonlyargs]) or (
            getattr(node, "name", "") in SPECIMENS
        )
    if isinstance(node, ast.ClassDef):
        return any("Small" in name or name.isupper() or name in SPECIMENS for name in map(ast.unparse, node.bases))
    return isinstance(node, ast.Assign) and getattr(getattr(node.value, "func", None), "id", "") in SPECIMENS


def _no_such_change(tree: ast.Module) -> Iterator[tuple[int, type]]:
    """(node, kind of node) that an exercise module has no use for.

    Only numbers are compared but in the solutions, so a `detach` elsewhere, or in a solution that is a test, is no
    change; and a wrong test of a model is known by its verdicts, so its own numbers (how far is "far"?) are free.
    """
    for top in tree.body:
        private = isinstance(top, ast.FunctionDef) and top.name.startswith("_")
        if private or not isinstance(top, ast.FunctionDef) or top.name.startswith("test_"):
            yield from ((id(node), ast.Call) for node in ast.walk(top))
        if private and ast.unparse(top.args).startswith("model, x"):
            yield from ((id(node), ast.Constant) for node in ast.walk(top))


def _changes(node: ast.AST):
    """(description, function that makes the change in place) for one node."""

    def put(field, value):
        return lambda target: setattr(target, field, value)

    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        new = OPERATORS[type(node.op)]
        yield f"{type(node.op).__name__} → {new.__name__}", put("op", new())
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield "− → +", put("op", ast.UAdd())
    elif isinstance(node, ast.Compare) and type(node.ops[0]) in COMPARISONS:
        new = COMPARISONS[type(node.ops[0])]
        yield f"{type(node.ops[0]).__name__} → {new.__name__}", put("ops", [new(), *node.ops[1:]])
    elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
        new = node.value + 1 if isinstance(node.value, int) else 2 * node.value or 1.0
        yield f"{node.value} → {new}", put("value", new)
    elif isinstance(node, ast.Attribute) and node.attr in METHODS:
        yield f".{node.attr} → .{METHODS[node.attr]}", put("attr", METHODS[node.attr])
    elif isinstance(node, ast.Call) and not getattr(node.func, "attr", "").endswith("_like"):
        for i, argument in enumerate(node.args):
            if isinstance(argument, ast.Name) and argument.id in GRADIENTS:
                yield f"{argument.id} → {argument.id}.detach()", _detach(i)


def _detach(i: int):
    def change(target: ast.Call) -> None:
        target.args[i] = ast.Call(ast.Attribute(target.args[i], "detach", ast.Load()), [], [])

    return change


def tests_of(module: str) -> list[str]:
    """The test files that are asked about a module, as paths."""
    if module in TESTS:
        return [f"tests/test_{name}.py" for name in TESTS[module].split()]
    if "notebook_" in module:
        return ["tests/test_exercises.py", f"tests/test_exercises_{module[-2:]}.py"]
    return ["tests/test_exercises_framework.py"]


def survives(folder: Path, module: str, source: str, exercise: str = "") -> bool:
    """Whether the module's tests pass on the changed source, in the copy of the package in ``folder``.

    With an exercise ("2.3"), its own tests are asked first, as most changes are noticed there, then the notebook's.
    """
    (folder / "course_utils" / f"{module}.py").write_text(source, encoding="utf-8")
    tests = tests_of(module)
    if "notebook_" not in module:
        return _passes(folder, tests)
    return all(_passes(folder, [*tests, "-k", which]) for which in (exercise, f"{int(module[-2:])}.") if which)


def _passes(folder: Path, arguments: Sequence[str]) -> bool:
    """Runs pytest in a process of its own, forked from one in which PyTorch is imported already."""
    process = multiprocessing.get_context("forkserver").Process(target=_pytest, args=(str(folder), list(arguments)))
    process.start()
    process.join(TIMEOUT)
    if process.is_alive():
        process.kill()
        process.join()
    code = process.exitcode
    if code is not None and code > 2:  # 1: a test failed, 2: not even imported, below 0: it crashed or was killed
        raise RuntimeError(f"pytest ended with {code} in {folder}: pytest {' '.join(arguments)}")
    return code == 0


def _pytest(folder: str, arguments: list[str]) -> None:
    import pytest

    sys.dont_write_bytecode = True  # two changes within a second would look alike to Python
    for name in [name for name in sys.modules if name.partition(".")[0] in ("tests", "course_utils")]:
        del sys.modules[name]
    sys.path[:] = [folder, *(path for path in sys.path if path and Path(path).resolve() != ROOT)]
    os.chdir(folder)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
        code = pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-p", "no:nbval", *arguments])
    os._exit(int(code))


def exercise_of(source: str, line: int) -> str:
    """The number of the exercise in whose part of a notebook's module a line stands, by the rulers "# 2.3 ---"."""
    rulers = [text.split()[1] for text in source.splitlines()[:line] if text.startswith("# ") and text.endswith("---")]
    return rulers[-1] if rulers and rulers[-1][0].isdigit() else ""


def known_modules() -> list[str]:
    """Every module that has tests to be asked."""
    return [
        *TESTS,
        *(f"{EXERCISES}/{path.stem}" for path in sorted((ROOT / "course_utils" / EXERCISES).glob("*_*.py"))),
    ]


def main() -> int:
    parser = command("tools.mutate", __doc__)
    parser.add_argument("modules", nargs="*", default=list(TESTS), help="as losses/terms (default: %(default)s)")
    parser.add_argument("--count", type=int, default=60, help="how many changes, drawn at random; 0: all (default 60)")
    parser.add_argument("--seed", type=int, default=0, help="which changes are drawn (default 0)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many at once (default %(default)s)")
    parser.add_argument("--verbose", action="store_true", help="print what was noticed, too")
    options = parser.parse_args()
    known = known_modules()
    if unknown := set(options.modules) - set(known):
        parser.error(f"no tests are known for {', '.join(sorted(unknown))}; there are: {', '.join(known)}")
    if options.count < 0 or options.jobs < 1:
        parser.error(f"--count must be 0 or more and --jobs 1 or more, got {options.count} and {options.jobs}")

    sources = {m: (ROOT / "course_utils" / f"{m}.py").read_text(encoding="utf-8") for m in options.modules}
    places = [
        (module, line, what, make)
        for module, source in sources.items()
        for line, what, make in mutants(module, source)
        if not excused(source, line, what)
    ]
    total = len(places)
    if options.count:
        places = random.Random(options.seed).sample(places, min(options.count, total))
    print(f"{len(places)} of {total} changes in {', '.join(sources)}", flush=True)
    os.environ["OMP_NUM_THREADS"] = "1"
    multiprocessing.get_context("forkserver").set_forkserver_preload(["torch", "pytest", "matplotlib.pyplot"])
    start, survivors = time.perf_counter(), 0
    for module, source in sources.items():
        changes = [place[1:] for place in places if place[0] == module]
        survivors += _survivors(module, source, changes, jobs=options.jobs, verbose=options.verbose)
    minutes = (time.perf_counter() - start) / 60
    print(f"{len(places) - survivors} of {len(places)} noticed, {survivors} not, {minutes:.1f} minutes")
    return 1 if survivors else 0


def _survivors(module: str, source: str, changes: list[tuple], *, jobs: int, verbose: bool) -> int:
    """How many changes of this module no test notices; prints each, or with ``verbose`` all."""
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(jobs) as pool:
        folders: SimpleQueue[Path] = SimpleQueue()
        for job in range(jobs):
            folders.put(_copy(module, Path(name) / str(job)))

        def alive(change: tuple[int, str, Callable[[], str]]) -> bool:
            line, what, make = change
            folder = folders.get()
            try:
                survived = survives(folder, module, make(), exercise_of(source, line))
            finally:
                folders.put(folder)
            if survived or verbose:
                text = source.splitlines()[line - 1].strip()
                print(f"{'SURVIVED' if survived else 'noticed '}  {module}:{line}  {what:<28} {text[:80]}", flush=True)
            return survived

        folder = folders.get()
        if not survives(folder, module, source):
            raise SystemExit(f"the tests of {module} fail without any change: nothing can be said")
        folders.put(folder)
        return sum(pool.map(alive, changes))


def _copy(module: str, folder: Path) -> Path:
    """What the module's tests need, in a folder of its own; of the exercises' tests only those of its notebook."""
    others = [p.name for p in (ROOT / "tests").glob("test_exercises_[0-9][0-9].py") if p.stem[-2:] != module[-2:]]
    others = others if "notebook_" in module else []
    for part in ("course_utils", "tests", "notebooks", "images"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__", *others))
    for name in ("pyproject.toml", ".gitignore"):  # the second is read by tests/conftest.py
        shutil.copy(ROOT / name, folder)
    return folder


if __name__ == "__main__":
    sys.exit(main())
