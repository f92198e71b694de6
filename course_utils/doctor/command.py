"""The command: examines a model class from a file, on the digits or MNIST; its exit status is the verdict."""

import argparse
import inspect
import sys
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_utils._files import print_anything
from course_utils.data.load import load_images
from course_utils.doctor.examination import examine
from course_utils.doctor.outputs import get, leaves, read, role_of
from course_utils.doctor.patient import forward_of, short_traceback
from course_utils.doctor.probe import Probe
from course_utils.doctor.report import Diagnosis
from course_utils.doctor.source import CannotExamine, load

EXAMPLES, TRIED = 64, 8
LOSSES = ("loss", "loss_function", "loss_fn", "vae_loss", "elbo_loss", "criterion", "compute_loss", "elbo")
TARGETS = ("x", "y", "data", "target", "targets", "input", "inputs", "img", "image", "images", "batch", "orig",
           "original")  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status: 0 no error found, 1 errors found, 2 could not examine, or too little.

    Whatever is raised, here or in the file, gives 2, so that 1 never means anything but a finding.
    """
    print_anything()
    options = _parser().parse_args(arguments)
    argv, path = sys.argv, list(sys.path)
    sys.argv = [options.target.rpartition(":")[0]]  # the file may parse a command line: it has none
    try:
        diagnosis = _examined(options)
        print(f"\n{diagnosis}", flush=True)
        if diagnosis.ok and not diagnosis.enough:
            raise CannotExamine(f"too little could be checked for a verdict ({diagnosis.summary()})")
    except (Exception, SystemExit, KeyboardInterrupt) as error:
        kind = "" if isinstance(error, CannotExamine) else f"{type(error).__name__}: "
        print(f"Cannot examine: {kind}{error}", file=sys.stderr)
        return 2
    finally:
        sys.argv, sys.path[:] = argv, path
    return 0 if diagnosis.ok else 1


def _examined(options: argparse.Namespace) -> Diagnosis:
    file, name = _target(options.target)
    module, left_out = load(file)
    if left_out:
        print(f"Left out of {file.name}, as it defines nothing: {'; '.join(left_out[:4])}{' …' * (len(left_out) > 4)}")
    model = _construct(module, name, options.arguments)
    data = load_images(options.dataset)
    torch.manual_seed(0)
    split = data.train.subset(EXAMPLES, seed=0)
    x, cond = _inputs(model, split[:], split.labels, data.num_classes)
    loss = _loss(module, model, options.loss)
    if loss is not None:
        _try(loss, model, x, cond)
    return examine(model, x, cond=cond, loss=loss)


def _try(loss: Callable, model: nn.Module, x: Tensor, cond: Tensor | None) -> None:
    """One call, to tell a loss that is called wrongly from a loss that is wrong."""
    try:
        with torch.no_grad():
            loss(forward_of(model)(*([x[:TRIED]] if cond is None else [x[:TRIED], cond[:TRIED]])), x[:TRIED])
    except (TypeError, KeyError) as error:
        key = error.args[0] if isinstance(error, KeyError) and error.args else "beta"
        raise CannotExamine(
            f"the training loss cannot be called: {type(error).__name__}: {error}. Give what is missing as in --loss "
            f"'loss_function({key}=1)', or write loss(output, x) that calls it, and name that."
        ) from error
    except Exception:
        return  # for the examination to report


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m course_utils.doctor",
        description="Examine a model that is meant to be a VAE. What the FILE defines is executed, as by import: "
        "examine only code that you would run. Nothing is trained.",
        epilog=f"The training loss is taken from the model's method loss(x), else from a function of the file or a "
        f"method with one of the names {', '.join(LOSSES)}: either loss(output, x), or with arguments that are named "
        "after what they take, as in loss(recon_x, x, mu, logvar). Exit status: 0 no error found, 1 errors found, "
        "2 could not examine, or too little to say anything.",
    )
    add = parser.add_argument
    add("target", metavar="FILE.py:CLASS", help="the file (or .ipynb), and the class in it (or a function that builds "
        "the model)")  # fmt: skip
    add("arguments", nargs="*", metavar="NAME=VALUE", help="arguments of the constructor, as in latent_dim=20")
    add("--dataset", default="digits", choices=("digits", "mnist", "auto"), help="images (default: the offline digits)")
    add("--loss", metavar="FUNCTION", help="the function of the file, or the method, that is the training loss; "
        "further arguments as in --loss 'vae_loss(beta=1)'")  # fmt: skip
    return parser


def _target(text: str) -> tuple[Path, str]:
    file, colon, name = text.rpartition(":")
    if not colon or not name.isidentifier() or not file:
        raise CannotExamine(f"expected FILE.py:CLASS, as in my_model.py:VAE, got {text!r}")
    path = Path(file)
    if not path.is_file():
        raise CannotExamine(f"there is no file {file}")
    return path, name


def _construct(module: ModuleType, name: str, pairs: Sequence[str]) -> nn.Module:
    found = vars(module).get(name)
    if found is None:
        classes = [key for key, kind in vars(module).items() if isinstance(kind, type) and issubclass(kind, nn.Module)]
        raise CannotExamine(f"{Path(module.__file__).name} has no {name}; its models: {', '.join(classes) or 'none'}")
    if isinstance(found, nn.Module) and not pairs:
        print(f"Model: {name}, as the file makes it.")
        return found
    if not callable(found):
        raise CannotExamine(f"{name} is {type(found).__name__}, expected a class (or a function that builds the model)")
    arguments = dict(_argument(pair, module) for pair in pairs)
    call = f"{name}({', '.join(f'{key}={value!r}' for key, value in arguments.items())})"
    torch.manual_seed(0)
    try:
        model = found(**arguments)
    except (Exception, SystemExit) as error:
        parameters = inspect.signature(found).parameters.values()
        needed = [p.name for p in parameters if p.default is p.empty and p.kind in (1, 3)]
        missing = [key for key in needed if key not in arguments]
        hint = f"It needs {', '.join(f'{key}=…' for key in missing)}: " if missing else ""
        example = f"{missing[0]}=20" if missing else "latent_dim=20"
        said = f"{call} raised\n{short_traceback(error)}\n{hint}give arguments as in {example}."
        raise CannotExamine(said) from error
    if not isinstance(model, nn.Module):
        raise CannotExamine(f"{call} is {type(model).__name__}, expected a torch.nn.Module")
    print(f"Model: {call}, untrained, with {sum(p.numel() for p in model.parameters()):,} parameters.")
    return model


def _argument(pair: str, module: ModuleType) -> tuple[str, object]:
    """NAME=VALUE, where the value is an expression of literals and names of the file, or else text."""
    key, equals, value = pair.partition("=")
    if not equals or not key.isidentifier():
        raise CannotExamine(f"expected NAME=VALUE, as in latent_dim=20, got {pair!r}")
    try:
        return key, eval(value, vars(module))  # the file itself was executed as well
    except Exception:
        return key, value


def _shapes(images: Tensor) -> dict[str, Tensor]:
    """The usual inputs, made of the images: resized for the larger ones, repeated for three channels."""
    larger = {size: F.interpolate(images, size=(size, size), mode="bilinear") for size in (32, 64)}
    return {
        "images (B, 1, 28, 28)": images,
        "vectors (B, 784)": images.flatten(1),
        "images (B, 3, 32, 32)": larger[32].expand(-1, 3, -1, -1).contiguous(),
        "images (B, 1, 32, 32)": larger[32],
        "images (B, 3, 64, 64)": larger[64].expand(-1, 3, -1, -1).contiguous(),
        "images (B, 1, 64, 64)": larger[64],
        "sequences (B, 28, 28), a row a step": images.squeeze(1),
        "vectors (B, 64)": F.interpolate(images, size=(8, 8), mode="area").flatten(1),
    }


def _inputs(model: nn.Module, images: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor | None]:
    """The first combination of image shape and condition that the model takes and rebuilds; says which it is."""
    conditions = {
        "no condition": None,
        "one-hot labels as the condition": F.one_hot(labels, classes).float(),
        "integer labels as the condition": labels,
    }
    taken, errors = [], []
    for (condition, cond), (shape, whole) in product(conditions.items(), _shapes(images).items()):
        tape, x = Probe(still=False), whole[:TRIED]
        try:
            with torch.no_grad(), tape:
                output = forward_of(model)(*([x] if cond is None else [x, cond[:TRIED]]))
        except (Exception, SystemExit) as error:
            errors.append((len(tape.calls), f"{shape}: {short_traceback(error, lines=1)}"))
            continue
        found = list(leaves(output))
        rows = [leaf.value.dim() == 0 or len(leaf.value) == len(x) for leaf in found]
        if not any(rows):
            errors.append((len(tape.calls), f"{shape}: it gives no row for each example"))
            continue
        rebuilt = any(leaf.value.numel() == x.numel() for leaf in found)
        if rebuilt and all(rows):
            print(f"Assumed: it takes {shape} in [0, 1], {condition}.")
            return whole, cond
        taken.append((rebuilt, f"{shape} in [0, 1], {condition}", whole, cond))
    if not taken:
        tried = ", ".join(_shapes(images))
        raise CannotExamine(
            f"the model takes none of the inputs tried: {tried}; without a condition and with labels as one. What got "
            f"furthest:\n{max(errors, key=lambda e: e[0])[1]}\nCall examine(model, x, …) with a batch as it takes it."
        )
    rebuilt, words, x, cond = max(taken, key=lambda fitting: fitting[0])
    print(f"Assumed: it takes {words}; {'not every' if rebuilt else 'no'} output is as the input is.")
    return x, cond


def _loss(module: ModuleType, model: nn.Module, wanted: str | None) -> Callable | None:
    """The loss to examine, in the form loss(output, x); None for the model's own or for none."""
    name, _, rest = (wanted or "").partition("(")
    given = dict(_argument(pair, module) for pair in rest.rstrip(") ").replace(" ", "").split(",") if pair)
    if not name and callable(getattr(model, "loss", None)) and not isinstance(model.loss, nn.Module):
        print("Assumed: its training loss is its method loss.")
        return None
    names = [name] if name else list(LOSSES)
    of_file = {key: function for key in names if inspect.isfunction(function := vars(module).get(key))}
    of_model = {key: getattr(model, key) for key in names if inspect.ismethod(getattr(model, key, None))}
    found = {**of_file, **of_model}  # its own method knows the model best
    if not found:
        if name:
            raise CannotExamine(f"{Path(module.__file__).name} has no function {name}")
        print(f"Assumed: no training loss (none of {', '.join(LOSSES)}), so the objective is not checked.")
        return None
    name = next(iter(of_model or of_file))
    function = found[name]
    parameters = inspect.signature(function).parameters.values()
    needed = [p.name for p in parameters if p.default is p.empty and p.kind < 2 and p.name not in given]
    print(f"Assumed: its training loss is {name}({', '.join([*needed, *(f'{k}={v!r}' for k, v in given.items())])}).")
    if not needed:  # loss_function(*args, **kwargs) takes what forward returns
        return lambda output, batch: function(*(output if isinstance(output, tuple | list) else [output]), **given)
    if len(needed) == 2 and not all(map(role_of, needed)):
        return lambda output, batch: function(output, batch, **given)
    return _by_names(function, needed, given, name)


def _by_names(function: Callable, needed: list[str], given: dict, name: str) -> Callable:
    """A loss whose arguments are named after what they take. Raises for a name that says nothing."""
    known = ("recon", "mu", "z", "log_var", "log_std", "var", "std")
    roles = {key: "x" if key in TARGETS else role_of(key) for key in needed}
    if list(roles.values()).count("x") > 1 and "y" in roles:
        roles["y"] = "recon"
    strange = [key for key, role in roles.items() if role not in (*known, "x")]
    if strange:
        values = ", ".join(f"{key}=…" for key in strange)
        raise CannotExamine(
            f"{name}({', '.join(needed)}): what is {', '.join(strange)}? Nothing is guessed. A number is given as in "
            f"--loss '{name}({values})'; else write loss(output, x) that calls it, and name that."
        )

    def loss(output: object, x: Tensor) -> object:
        with torch._C.DisableTorchFunction():  # no part of what is examined, and on no tape
            reading = read(output, x, noisy=[], varies=set())
        places = {"recon": reading.recon, "mu": reading.mu, "z": reading.z}
        values = []
        for key, role in roles.items():
            path = places.get(role, reading.spread)
            if role != "x" and path is None:
                raise TypeError(f"the loss wants {key}, which was not found in the model's output")
            values.append(x if role == "x" else get(output, path))
        return function(*values, **given)

    return loss
