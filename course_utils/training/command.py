"""Train a model of the course by name, on one machine or several.

    python -m course_utils.training --list
    python -m course_utils.training vae --epochs 10
    torchrun --nproc-per-node=2 -m course_utils.training vae      # two processes share each batch

Weights and training state are written after every epoch to RUNS/NAME.pt (RUNS: --out, default `runs`). The same command
again goes on from there; `--fresh` begins anew. At the end it prints the loss and its terms on the test data; then, of
a model with a likelihood and with `--samples K`, the importance-weighted NLL with K samples; of another one that can
draw images, the Fréchet distance of 2,000 of them, or as many as there are test images.
"""

import argparse
import contextlib
import io
import math
import os
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import distributed, nn

from course_utils._files import print_anything
from course_utils._random import seeded
from course_utils.data import DATASETS, ImageData, load_images
from course_utils.evaluation import evaluate, frechet_distance, log_likelihood, train_judge
from course_utils.training.batches import Batches
from course_utils.training.checkpoints import read, save
from course_utils.training.distributed import processes
from course_utils.training.fit import fit
from course_utils.training.recipes import SETTINGS


class Parser(argparse.ArgumentParser):
    """A parser that answers a wrong argument in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (--help says more)\n")


def number(kind: type, least: float, *, above: bool = False) -> Callable[[str], Any]:
    """A type for argparse: a finite number of this kind, of at least ``least``, or above it."""

    def parse(text: str) -> Any:
        value = kind(text)
        if not math.isfinite(value) or value < least or (above and value == least):
            raise argparse.ArgumentTypeError(f"must be {'above' if above else 'at least'} {least}, got {text}")
        return value

    parse.__name__ = kind.__name__  # "invalid int value: 'two'"
    return parse


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    raw = argparse.RawDescriptionHelpFormatter
    found = Parser(prog="python -m course_utils.training", description=__doc__, formatter_class=raw)
    add, count, positive = found.add_argument, number(int, 1), number(float, 0, above=True)
    add("name", nargs="?", choices=list(SETTINGS), help="one of --list")
    add("--list", action="store_true", help="list the settings")
    add("--epochs", type=count, help="default: the setting's")
    add("--batch-size", type=count, help="of all processes together; default: the setting's, or 128")
    add("--lr", type=positive, help="default: the setting's, or 0.001")
    add("--beta", type=number(float, 0), help="weight of the KL, default 1")
    add("--seed", type=number(int, 0), default=0)
    add("--dataset", default="auto", choices=DATASETS)
    add("--samples", type=number(int, 0), help="importance samples for the NLL; 0: none; default: the setting's")
    add("--examples", type=number(int, 2), help="test images for the NLL; default: the setting's, or all")
    add("--out", type=Path, default=Path("runs"), help="folder of the checkpoints, default runs")
    add("--fresh", action="store_true", help="begin anew, even where a checkpoint exists")
    return found


def main(arguments: list[str] | None = None) -> None:
    """Run the command; whatever is wrong ends it with one line and a status other than 0."""
    print_anything()
    parse = parser()
    options = parse.parse_args(arguments)
    if options.list or not options.name:
        for name, setting in SETTINGS.items():
            print(f"{name:<20} {setting.about}; {setting.epochs:,} epochs")
        return
    setting = SETTINGS[options.name]
    if options.samples is None:
        options.samples = setting.samples
    if options.samples and not setting.has_likelihood:
        parse.error(f"argument --samples: {options.name} has no likelihood to estimate")
    path, went_on, before = options.out / f"{options.name}.pt", False, {}
    try:
        device, first = join_group()
        with contextlib.nullcontext() if first else contextlib.redirect_stdout(io.StringIO()):
            data = load_images(options.dataset)
        options.out.mkdir(parents=True, exist_ok=True)
        if options.fresh and first:
            files = [each for each in (path, rest_of(path)) if each.exists()]
            before = {each: each.rename(f"{each}.before") for each in files}
        if distributed.is_initialized():
            distributed.barrier()
        went_on = path.exists()
        model = train(options, data=data, path=path, device=device)
        if first:
            report(model, data, options)
            print(f"weights in {path}: course_utils.load({str(path)!r})")
    except KeyboardInterrupt:
        then = f"; the same command goes on after the last whole epoch ({path})" if path.exists() else ""
        raise SystemExit(f"interrupted{then}") from None
    except (ValueError, TypeError, FloatingPointError, OSError) as error:
        anew = " --fresh begins anew." if went_on and isinstance(error, ValueError | TypeError) else ""
        raise SystemExit(f"{parse.prog}: {' '.join(str(error).split())}.{anew}") from None
    except RuntimeError as error:
        if "MNIST cannot be loaded" not in str(error):
            raise
        raise SystemExit(str(error)) from None  # the causes and the cures, a line for each
    finally:
        for each, old in before.items():  # a new training that wrote no epoch has not replaced anything
            old.unlink() if path.exists() else old.rename(each)
        if distributed.is_initialized():
            distributed.destroy_process_group()


def train(options: argparse.Namespace, *, data: ImageData, path: Path, device: torch.device | str) -> nn.Module:
    """Train the setting of that name as ``fit`` does, from ``path`` on where it exists; what was asked for comes before
    what the setting says. Raises ``KeyboardInterrupt`` when training was interrupted."""
    setting, chosen, parts = SETTINGS[options.name], ("batch_size", "lr", "beta"), ()
    if setting.on:
        own = dict(name=setting.on, epochs=None, lr=None, beta=None)  # what was asked for is for the model named
        below = argparse.Namespace(**vars(options) | own)
        below = train(below, data=data, path=path.with_name(f"{setting.on}.pt"), device=device)
        parts = below, data.to(device)
    with seeded(options.seed, torch.device(device)):
        model = setting.model(*parts).to(device)
    asked = {name: getattr(options, name) for name in chosen if getattr(options, name) is not None}
    epochs = setting.epochs if options.epochs is None else options.epochs
    how = {**setting.options, **asked, "epochs": epochs, "seed": options.seed, "checkpoint": path}
    stamp = path.stat().st_mtime_ns if path.exists() else 0
    if fit(model, data.to(device), **how).interrupted:
        raise KeyboardInterrupt
    if setting.then:
        if processes()[0] == 0 and path.stat().st_mtime_ns != stamp:
            rest_of(path).unlink(missing_ok=True)  # it belonged to the model before these epochs
        if distributed.is_initialized():
            distributed.barrier()
        how = dict(epochs=epochs, seed=options.seed, checkpoint=rest_of(path))
        if setting.then(model, data.train.to(device)[:], **how).interrupted:
            raise KeyboardInterrupt
        if processes()[0] == 0:
            save(model, path, training=read(path)["training"])  # with the weights that came afterwards
    return model.eval()


def rest_of(path: Path) -> Path:
    """The checkpoint of what is trained after the rest."""
    return path.with_name(f"{path.stem}-rest.pt")


def report(model: nn.Module, data: ImageData, options: argparse.Namespace) -> None:
    """Print the terms of the loss on the test data. With ``samples`` above 0, the NLL with its standard error over
    images; beside it the published one, where the data are those of the publication. Of a model that draws images and
    has no likelihood, their Fréchet distance."""
    setting = SETTINGS[options.name]
    inputs = Batches(model, data.test, binarize=setting.options.get("binarize")).whole()
    means = evaluate(model, *inputs).map(lambda term: f"{term.double().mean().item():.2f}")
    terms = " + ".join(f"{name} {value}" for name, value in list(means.items())[1:])
    unit = "nats per image, " if setting.has_likelihood or not hasattr(model, "sample") else ""
    print(f"test loss {means.loss}: {f'{terms}, ' if terms else ''}{unit}{len(data.test):,} images of {data.name}")
    if not setting.has_likelihood and hasattr(model, "sample"):
        report_samples(model, data)
    if not options.samples:
        return
    start, some = time.perf_counter(), [part[: options.examples or setting.examples] for part in inputs]
    values = -log_likelihood(model, *some, samples=options.samples, batch_size=20_000)
    value, error = values.mean().item(), values.std().item() / math.sqrt(len(values))
    seconds, device = time.perf_counter() - start, some[0].device.type
    print(f"test NLL  {value:.2f} ± {error:.2f} nats: {options.samples:,} samples for each of {len(values):,} images,")
    print(f"          one standard error over images, in {seconds:.0f} s on {device}")
    if setting.published:
        what = "published {:.2f}: {}".format(*setting.published)
        print(what if data.name == "mnist" else f"the published number is for MNIST; {data.name} are other images")


def report_samples(model: nn.Module, data: ImageData, most: int = 2_000) -> None:
    """Print the Fréchet distance of new images, and of as many training images, from as many test images."""
    n, start = min(most, len(data.test), len(data.train)), time.perf_counter()
    labels = () if getattr(getattr(model, "prior", model), "classes", None) is None else (data.test.subset(n).labels,)
    drawn, seconds = model.sample(n, *labels), time.perf_counter() - start
    judge = train_judge(data)
    real, own, made = (judge.features(images) for images in (data.test.subset(n)[:], data.train.subset(n)[:], drawn))
    print(f"Fréchet distance {frechet_distance(made, real):.1f} of {n:,} new images, drawn in {seconds:.0f} s;")
    print(f"                 {frechet_distance(own, real):.1f} of as many training images; in a judge's features")


def join_group() -> tuple[torch.device, bool]:
    """The device of this process, and whether it is the first; under torchrun, the process group is joined."""
    cuda = torch.cuda.is_available()
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        # gloo connects when it is first used: connecting all at once can hang after torchrun's restart of a worker.
        os.environ.setdefault("TORCH_GLOO_LAZY_INIT", "1")
        if cuda:
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        # Nobody waits longer for another process: it has died, and torchrun starts all of them again.
        distributed.init_process_group("nccl" if cuda else "gloo", timeout=timedelta(minutes=5))
    device = torch.device("cuda", torch.cuda.current_device()) if cuda else torch.device("cpu")
    return device, not distributed.is_initialized() or distributed.get_rank() == 0
