"""Do the tests notice a mistake? Each run changes one place in the arithmetic and expects a test to fail.

    python -m tests.tools.mutate                        # a sample of 60 changes in losses, models and evaluation
    python -m tests.tools.mutate --count 0 losses       # every change that it knows, in one module
    python -m tests.tools.mutate --count 0 exercises/notebook_02 exercises/_compare

A change swaps a sign, a constant, a reduction, an axis or a comparison, or cuts a gradient with `detach`. It is made in
a copy of the package; the course's own files stay as they are. A change that no test notices is printed with its line:
write the test, or add the change to `EQUIVALENT` with the reason why nothing can notice it. The example inputs of the
exercises are spared: others are as good as long as they tell every wrong answer from the right one, and for that there
is a test. It forks a process for each change, so it needs Linux or macOS.
"""

from __future__ import annotations

import argparse
import ast
import functools
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

ROOT = Path(__file__).resolve().parents[2]
TESTS = {"losses": ["test_losses.py"], "models": ["test_models.py"], "evaluation": ["test_evaluation.py"]}
FRAMEWORK = ("_attempt", "_compare", "_framework", "_stub", "_text")
TESTS |= {f"exercises/{module}": ["test_exercises_framework.py"] for module in FRAMEWORK}
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

# Changes that nothing can notice, or need not, as (line, change), with the reason.
EQUIVALENT = {
    **{
        (line, "0 → 1"): "any fixed seed is as good"
        for line in (
            "torch.default_generator.manual_seed(0)",
            "random.seed(0)",
            "np.random.seed(0)  # noqa: NPY002",
            "return self.cases(torch.Generator().manual_seed(0))",
            "torch.manual_seed(0)",
        )
    },
    (
        "REPEATS = 3  # other weights, other images, another state of the random generator",
        "3 → 4",
    ): "one state more can only see more",
    (
        "args = [attempt.prepare(argument) for argument in cases[0]]",
        "0 → 1",
    ): "one case is as good as another",
    (
        "if not connected or any(g is None for g in torch.autograd.grad(result.sum(), wanted, allow_unused=True)):",
        ".sum → .mean",
    ): "only asked whether there is a gradient",
    ("small = logits.abs() < 1e-2", "0.01 → 0.02"): "the series and the formula agree to 1e-13 between the two",
    (
        "series = math.log(2) + square / 12 - 7 * square.square() / 1440",
        "1440 → 1441",
    ): "3e-15 where the series is used",
    ("size, latent = mean_q.shape[0], mean_q.shape[-1]", "− → +"): "the shape has two entries",
    (
        "half_log_det_q, half_log_det_p = (c.diagonal(dim1=-2, dim2=-1).log().sum(-1) for c in (chol_q, chol_p))",
        "− → +",
    ): "of (B, L, L), axis 1 may be -2; of (B, L), axis 1 is the last",
    (
        "nn.Conv2d(1, 16, 5, stride=2, padding=2), nn.ReLU(),",
        "5 → 6",
    ): "the judge is held to its accuracy, not to its kernels",
    (
        "nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU(),",
        "3 → 4",
    ): "the judge is held to its accuracy, not to its kernels",
    (
        "schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, total_iters=steps)",
        "0.05 → 0.1",
    ): "the judge is held to its accuracy, not to its schedule",
    (
        "optimizer = torch.optim.Adam(judge.parameters(), lr=2e-3, fused=True)",
        "0.002 → 0.004",
    ): "the judge is held to its accuracy, not to its learning rate",
    (
        "lambda f, log_q, b: ((f - b).detach() * log_q.exp()).mean(),",
        ".exp → .expm1",
    ): "3.5 is judged by the gradient of the loss, and the two have the same",
    ("for far in (-3.0, 3.0):", "3.0 → 6.0"): "twice as far is far, too",
    ("for value in (-4.0, -1.0, 2.0):", "− → +"): "any values but 0 will do",
    ("return mean + eps @ root.T", "Add → Sub"): "−eps is as good as eps",
    ("z = sizes() * torch.randn(1024, latent_dim).sign()", "Mult → Div"): "a sign divides as it multiplies",
    ("for value in (-4.0, -1.0, 2.0):", "1.0 → 2.0"): "any values but 0 will do",
    ("for value in (-4.0, -1.0, 2.0):", "2.0 → 4.0"): "any values but 0 will do",
    ("for value in (-4.0, -1.0, 2.0):", "4.0 → 8.0"): "any values but 0 will do",
    (
        "return _output_without_gradient(attempt, f, inputs, which)[:, k] > 0",
        "Gt → LtE",
    ): "either sign may be the first",
    ("if mu.shape[1] > 1:", "1 → 2"): "the models on the bench have five latent dimensions",
    (
        'assert change > 1e-5, f"another class, the same picture: largest change {change:.2g}"',
        "1e-05 → 2e-05",
    ): "the change is 0 or large",
    **dict.fromkeys(
        [
            ("a, b = (attempt.prepare(3 * torch.randn(64, width)) for _ in range(2))", "3 → 4"),
            ("x = attempt.prepare(10 * torch.randn(512, width))", "10 → 11"),
            ("x = attempt.prepare(10 * torch.randn(512, width))", "512 → 513"),
            ("start, end = (attempt.prepare(3 * torch.randn(1024, width)) for _ in range(2))", "3 → 4"),
            ("start, end = (attempt.prepare(3 * torch.randn(1024, width)) for _ in range(2))", "Mult → Div"),
            (
                'before, after = (attempt.run(slopes, shift, doing=f"in the {which}") for shift in (-1e-3, 1e-3))',
                "0.001 → 0.002",
            ),
            ("z = torch.randn(1024, latent_dim)", "1024 → 1025"),
            ("for halving in range(1, 21):", "21 → 22"),
            ("if len(a) >= 16:", "16 → 17"),
            (
                'found.append(_break(attempt, f, at, along, 0, "decoder"))',
                "0 → 1",
            ),
            ("assert _sampled_std(model, x, -1.0) > 0", "− → +"),
            ('Specimen("a healthy model with a bad loss", _conditional(scale=20), PASSES, WILD.why),', "20 → 21"),
            ("return model.reparameterize(torch.zeros_like(log_var), log_var).std()", ".zeros_like → .ones_like"),
            ('assert not torch.equal(first[:, 0], first[:, 1]), "two dimensions share their noise"', "1 → 2"),
            ("args = [attempt.prepare(argument) for argument in self.specimens[0].make()]", "0 → 1"),
            ("expected = (0.5 * log_var[0, 0]).exp()", "0 → 1"),
            ("torch.manual_seed(1000 * seed + index)", "Add → Sub"),
            ("torch.manual_seed(1000 * seed + index)", "1000 → 1001"),
            ("change = (asked - otherwise).abs().max()", ".abs → .square"),
            ("z = model.reparameterize(torch.zeros_like(log_var), log_var)", ".zeros_like → .ones_like"),
            ('assert not torch.equal(first[0], first[1]), "two images share their noise"', "1 → 2"),
            ("asked, otherwise = model.decode(z, cond), model.decode(z, cond.roll(1, dims=1))", "1 → 2"),
            (
                "assert _sampled_std(model, x, -4.0) < _sampled_std(model, x, -1.0) < _sampled_std(model, x, 2.0)",
                "− → +",
            ),
            (
                'assert torch.isclose(once, twice, rtol=1e-4), f"{once:.2f} for {len(x)} images, {twice:.2f} for the same ones twice"',  # noqa: E501
                "0.0001 → 0.0002",
            ),
            ("assert model.loss((logits, mu, log_var + 3), x) > model.loss((logits, mu, log_var), x)", "Add → Sub"),
            ("log_var = x.new_full((20_000, 1), value)", "20000 → 20001"),
            ("home = model.loss((logits, torch.zeros_like(mu), log_var), x)", ".zeros_like → .ones_like"),
            ("mu, log_var = (torch.zeros_like(t) for t in model.encode(x))", ".zeros_like → .ones_like"),
            ("return [torch.zeros_like(t) for t in model.encode(x)]", ".zeros_like → .ones_like"),
        ],
        "as many, as far or as large as one likes: any place to look at will do",
    ),
    **dict.fromkeys(
        [
            (
                "gradients = torch.autograd.grad(output.sum(), inputs, retain_graph=True, allow_unused=True)",
                ".sum → .mean",
            ),
            ("assert _reaches(logits.sum(), mu)", ".sum → .mean"),
            ("assert _reaches(logits.sum(), log_var)", ".sum → .mean"),
            ("assert _reaches(logits.sum(), model.encoder[1].weight)", ".sum → .mean"),
            ("assert not _reaches(logits.sum(), mu)", ".sum → .mean"),
            (
                "(gradient,) = torch.autograd.grad(logits.sum(), parameter, retain_graph=True, allow_unused=True)",
                ".sum → .mean",
            ),
        ],
        "only asked whether there is a gradient",
    ),
    (
        "parameter.mul_(attempt.prepare(100 * torch.randn(parameter.shape).sign()))",
        "Mult → Div",
    ): "a sign divides as it multiplies",
    **dict.fromkeys(
        [
            ('assert gradient.abs().max() > 0, f"the gradient at {name} is zero"', "0 → 1"),
            ("return gradient is not None and bool(gradient.abs().max() > 0)", "0 → 1"),
            ('assert gradient.abs().max() > 0, f"the gradient at {name} is zero"', ".abs → .square"),
            ("return gradient is not None and bool(gradient.abs().max() > 0)", ".abs → .square"),
        ],
        "the gradients on the bench are 0 or large",
    ),
    (
        "lambda a, b, t: _arc(a, b, t, (a * b).sum(1, keepdim=True).clamp(-1, 1).arccos()),",
        "1 → 2",
    ): "an angle of 0 gives 0 / 0, and a number above 1 has no angle: NaN both times",
    ("angle = cosine.clamp(-1, 1).arccos()", "1 → 2"): "the clamp is for rounding",
    **{
        (line, f"{name} → {name}.detach()"): "`sample` and what evaluates run without gradients"
        for line, names in {
            "return self.likelihood.mean(self.decode(z))": ["z"],
            "return self.likelihood.mean(self.decode(self.reparameterize(mu, log_var, eps=eps), cond_inputs))": [
                "mu",
                "log_var",
            ],
            "z = model.reparameterize(mu, log_var, eps=eps)": ["mu", "log_var"],
            "log_px = -model.likelihood.nll(model.decode(z, *cond), x).double()": ["z"],
            "prior = _prior(model, batch, mu)": ["mu"],
            "parts.append(gaussian_kl_terms(mu, log_var, prior=_prior(model, batch, mu)))": ["mu", "log_var"],
        }.items()
        for name in names
    },
}


def mutants(module: str, source: str) -> Iterator[tuple[int, str, Callable[[], str]]]:
    """Every single change of ``source``: (line, what was changed, a function that gives the new source)."""
    tree = ast.parse(source)
    spared = set(_spared(tree))
    free = set(_no_such_change(tree)) if module.startswith("exercises/notebook") else set()
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


def survives(folder: Path, module: str, source: str, exercise: str = "") -> bool:
    """Whether the module's tests pass on the changed source, in the copy of the package in ``folder``.

    With an exercise ("2.3"), its own tests are asked first, as most changes are noticed there, then the notebook's.
    """
    (folder / "course_utils" / f"{module}.py").write_text(source, encoding="utf-8")
    tests = TESTS.get(module) or ["test_exercises.py", f"test_exercises_{module[-2:]}.py"]
    tests = [f"tests/{name}" for name in tests]
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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    usual = ["losses", "models", "evaluation"]
    parser.add_argument("modules", nargs="*", default=usual, help="modules of course_utils (default: %(default)s)")
    parser.add_argument("--count", type=int, default=60, help="how many changes, drawn at random; 0: all (default 60)")
    parser.add_argument("--seed", type=int, default=0, help="which changes are drawn (default 0)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many at once (default %(default)s)")
    parser.add_argument("--verbose", action="store_true", help="print what was noticed, too")
    options = parser.parse_args()
    known = [
        *TESTS,
        *(
            f"exercises/{path.stem}"
            for path in sorted((ROOT / "course_utils/teaching/exercises").glob("notebook_*.py"))
        ),
    ]
    if unknown := set(options.modules) - set(known):
        parser.error(f"no tests are known for {', '.join(sorted(unknown))}; there are: {', '.join(known)}")
    if options.count < 0 or options.jobs < 1:
        parser.error(f"--count must be 0 or more and --jobs 1 or more, got {options.count} and {options.jobs}")

    sources = {m: (ROOT / "course_utils" / f"{m}.py").read_text(encoding="utf-8") for m in options.modules}
    places = [
        (module, line, what, make)
        for module, source in sources.items()
        for line, what, make in mutants(module, source)
        if (source.splitlines()[line - 1].strip(), what) not in EQUIVALENT
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
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


if __name__ == "__main__":
    sys.exit(main())
