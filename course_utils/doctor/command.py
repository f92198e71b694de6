"""The command: examines a model class from a file, on the digits or MNIST; its exit status is the verdict."""

import argparse
import ast
import importlib.util
import inspect
import io
import sys
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_utils.data.load import load_images
from course_utils.doctor.examination import examine
from course_utils.doctor.outputs import get, read, role_of
from course_utils.doctor.patient import forward_of, short_traceback
from course_utils.doctor.report import Diagnosis

EXAMPLES = 64
LOSSES = ("loss", "loss_function", "loss_fn", "vae_loss", "elbo_loss", "criterion")


class CannotExamine(Exception):
    """There is nothing to examine; the text says why."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status: 0 no error found, 1 errors found, 2 could not examine, or could not say.

    Whatever is raised, here or in the file, gives 2, so that 1 never means anything but a finding.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a legacy code page has no ✘
    options = _parser().parse_args(arguments)
    argv = sys.argv
    sys.argv = [options.target.rpartition(":")[0]]  # the file may parse a command line: it has none
    try:
        diagnosis = _examined(options)
        print(f"\n{diagnosis}", flush=True)
    except Exception as error:
        kind = "" if isinstance(error, CannotExamine) else f"{type(error).__name__}: "
        print(f"Cannot examine: {kind}{error}", file=sys.stderr)
        return 2
    finally:
        sys.argv = argv
    return 0 if diagnosis.ok else 1


def _examined(options: argparse.Namespace) -> Diagnosis:
    file, name = _target(options.target)
    module = _load(file)
    model = _construct(module, name, options.arguments)
    data = load_images(options.dataset)
    torch.manual_seed(0)
    split = data.train.subset(EXAMPLES, seed=0)
    x, cond = _inputs(model, split[:], split.labels, data.num_classes)
    return examine(model, x, cond=cond, loss=_loss(module, model, options.loss, x))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m course_utils.doctor",
        description="Examine a model that is meant to be a VAE. The FILE is executed, as by import: examine only code "
        "that you would run. Nothing is trained.",
        epilog=f"The training loss is taken from the model's method loss(x), else from a function of the file with one "
        f"of the names {', '.join(LOSSES)}: either loss(output, x), or with arguments that are named after what they "
        "take, as in loss(recon_x, x, mu, logvar). Exit status: 0 no error found, 1 errors found, 2 could not examine.",
    )
    add = parser.add_argument
    add("target", metavar="FILE.py:CLASS", help="the file, and the class in it (or a function that builds the model)")
    add("arguments", nargs="*", metavar="NAME=VALUE", help="arguments of the constructor, as in latent_dim=20")
    add("--dataset", default="digits", choices=("digits", "mnist", "auto"), help="images (default: the offline digits)")
    add("--loss", metavar="FUNCTION", help="the function of the file that is the training loss")
    return parser


def _target(text: str) -> tuple[Path, str]:
    file, colon, name = text.rpartition(":")
    if not colon or not name.isidentifier() or not file:
        raise CannotExamine(f"expected FILE.py:CLASS, as in my_model.py:VAE, got {text!r}")
    path = Path(file)
    if not path.is_file():
        raise CannotExamine(f"there is no file {file}")
    return path, name


def _load(path: Path) -> ModuleType:
    """Execute the file as a module, with its folder importable, as running it would.

    The module's name is nobody else's: under its own, a file called copy.py would take the library's place.
    """
    name = f"examined_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise CannotExamine(f"{path} is no Python file (its name must end in .py)")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    sys.path.insert(0, str(path.resolve().parent))
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise CannotExamine(f"executing {path} raised\n{short_traceback(error)}") from error
    return module


def _construct(module: ModuleType, name: str, pairs: Sequence[str]) -> nn.Module:
    found = vars(module).get(name)
    if found is None:
        classes = [key for key, kind in vars(module).items() if isinstance(kind, type) and issubclass(kind, nn.Module)]
        raise CannotExamine(f"{_file(module)} has no {name}; its models: {', '.join(classes) or 'none'}")
    if not callable(found):
        raise CannotExamine(f"{name} is {type(found).__name__}, expected a class (or a function that builds the model)")
    arguments = dict(_argument(pair) for pair in pairs)
    call = f"{name}({', '.join(f'{key}={value!r}' for key, value in arguments.items())})"
    torch.manual_seed(0)
    try:
        model = found(**arguments)
    except (Exception, SystemExit) as error:
        hint = "Give its arguments as in latent_dim=20."
        raise CannotExamine(f"{call} raised\n{short_traceback(error)}\n{hint}") from error
    if not isinstance(model, nn.Module):
        raise CannotExamine(f"{call} is {type(model).__name__}, expected a torch.nn.Module")
    print(f"Model: {call}, untrained, with {sum(p.numel() for p in model.parameters()):,} parameters.")
    return model


def _file(module: ModuleType) -> str:
    return Path(module.__file__ or "").name


def _argument(pair: str) -> tuple[str, object]:
    key, equals, value = pair.partition("=")
    if not equals or not key.isidentifier():
        raise CannotExamine(f"expected NAME=VALUE, as in latent_dim=20, got {pair!r}")
    try:
        return key, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return key, value


def _inputs(model: nn.Module, images: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor | None]:
    """The first combination of image shape and condition that the model takes; says which it is."""
    shapes = {"images (B, 1, 28, 28)": images, "vectors (B, 784)": images.flatten(1)}
    conditions = {
        "no condition": None,
        "one-hot labels as the condition": F.one_hot(labels, classes).float(),
        "integer labels as the condition": labels,
    }
    for (condition, cond), (shape, x) in product(conditions.items(), shapes.items()):
        try:
            with torch.no_grad():
                forward_of(model)(*([x] if cond is None else [x, cond]))
        except (Exception, SystemExit):
            continue
        print(f"Assumed: it takes {shape} in [0, 1], {condition}.")
        return x, cond
    print("Assumed: it takes images (B, 1, 28, 28) in [0, 1], no condition; it ran with no other input either.")
    return images, None


def _loss(module: ModuleType, model: nn.Module, name: str | None, x: Tensor) -> Callable | None:
    """The loss to examine, in the form loss(output, x); None for the model's own or for none."""
    if name is None and callable(getattr(model, "loss", None)):
        print("Assumed: its training loss is its method loss.")
        return None
    names = [name] if name else [key for key in LOSSES if inspect.isfunction(vars(module).get(key))]
    if not names:
        print(f"Assumed: no training loss (none of {', '.join(LOSSES)} in the file), so the objective is not checked.")
        return None
    function = getattr(module, names[0], None)
    if not callable(function):
        raise CannotExamine(f"{_file(module)} has no function {names[0]}")
    needed = [p.name for p in inspect.signature(function).parameters.values() if p.default is p.empty and p.kind < 2]
    print(f"Assumed: its training loss is {names[0]}({', '.join(needed)}).")
    if len(needed) == 2:
        return function
    return lambda output, batch: function(*_chosen(output, batch, needed))


def _chosen(output: object, x: Tensor, names: list[str]) -> list[Tensor]:
    """The parts of an output that a loss's arguments are named after."""
    reading = read(output, x, noisy=[], varies=set())
    places = {"recon": reading.recon, "mu": reading.mu, "z": reading.z}
    values = []
    for name in names:
        role = role_of(name)
        if role in ("", "other") or name in ("x", "y", "data", "target"):
            values.append(x)
        elif (path := places.get(role, reading.spread)) is not None:
            values.append(get(output, path))
        else:
            found = "which was not found in the model's output; give it as loss(output, x)"
            raise ValueError(f"the loss wants {name}, {found}")
    return values
