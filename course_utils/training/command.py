"""Train a model of the course by name, on one machine or several.

    python -m course_utils.training --list
    python -m course_utils.training vae --epochs 10
    torchrun --nproc-per-node=2 -m course_utils.training vae      # two processes share each batch

Weights and training state are written after every epoch to RUNS/NAME.pt (RUNS: --out, default `runs`). The same command
again goes on from there; `--fresh` begins anew. At the end it prints −ELBO on the test data, and with `--samples K` the
importance-weighted NLL with K samples.
"""

import argparse
import contextlib
import io
import math
import os
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn

from course_utils._random import seeded
from course_utils.data.images import ImageData
from course_utils.data.load import load_images
from course_utils.evaluation.bounds import evaluate, log_likelihood
from course_utils.training.fit import fit, model_inputs
from course_utils.training.recipes import SETTINGS, Setting


def train(
    name: str,
    *,
    data: ImageData,
    path: Path,
    device: torch.device | str = "cpu",
    epochs: int | None = None,
    seed: int = 0,
    **options: Any,
) -> nn.Module:
    """Train setting ``name`` with ``fit``, go on from ``path`` where it exists, and return
    the model. ``options`` replace those of the setting. Raises ``ValueError`` for an unknown name."""
    if name not in SETTINGS:
        raise ValueError(f"no setting {name!r}; there are {', '.join(SETTINGS)}")
    setting = SETTINGS[name]
    with seeded(seed, torch.device(device)):
        model = setting.model().to(device)
    options = {**setting.options, **{key: value for key, value in options.items() if value is not None}}
    history = fit(model, data.to(device), epochs=epochs or setting.epochs, seed=seed, checkpoint=path, **options)
    if history.interrupted:
        raise KeyboardInterrupt
    return model.eval()


@torch.no_grad()
def nll(model: nn.Module, x: Tensor, y: Tensor, samples: int) -> tuple[float, float]:
    """Mean of −log p(x) by ``samples`` importance samples over the images ``x``, and its standard error over images."""
    values = -log_likelihood(model, *model_inputs(model, x, y), samples=samples, batch_size=20_000)
    return values.mean().item(), values.std().item() / math.sqrt(len(values))


def report(model: nn.Module, data: ImageData, setting: Setting, *, samples: int, examples: int) -> None:
    """Print −ELBO on the test data and, with ``samples`` above 0, the NLL beside the published one."""
    device = next(model.parameters()).device
    x, y = data.test[:], data.test.labels
    if transform := setting.options.get("transform"):
        with seeded(0, x.device):
            x = transform(x)
    terms = evaluate(model, *model_inputs(model, x.to(device), y.to(device)))
    loss, recon, kl = (term.double().mean().item() for term in terms)
    print(f"test loss {loss:.2f} = {recon:.2f} + {kl:.2f} nats per image, {len(x):,} images of {data.name}")
    if not samples:
        return
    start = time.perf_counter()
    value, error = nll(model, x[:examples].to(device), y[:examples].to(device), samples)
    seconds = time.perf_counter() - start
    print(f"test NLL  {value:.2f} ± {error:.2f} nats: {samples:,} samples for each of {len(x[:examples]):,} images,")
    print(f"          one standard error over images, in {seconds:.0f} s on {device.type}")
    if setting.published:
        print(f"published {setting.published[0]:.2f}: {setting.published[1]}")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m course_utils.training",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", nargs="?", choices=list(SETTINGS), help="one of --list")
    parser.add_argument("--list", action="store_true", help="list the settings")
    parser.add_argument("--epochs", type=int, help="default: the setting's")
    parser.add_argument("--batch-size", type=int, help="of all processes together; default: the setting's, or 128")
    parser.add_argument("--lr", type=float, help="default: the setting's, or 0.001")
    parser.add_argument("--beta", type=float, help="weight of the KL, default 1")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dataset", default="auto", choices=["auto", "mnist", "digits"])
    parser.add_argument("--samples", type=int, help="importance samples for the NLL; 0: none")
    parser.add_argument("--examples", type=int, help="test images for the NLL")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="folder of the checkpoints, default runs")
    parser.add_argument("--fresh", action="store_true", help="begin anew, even where a checkpoint exists")
    options = parser.parse_args(arguments)
    if options.list or not options.name:
        for name, setting in SETTINGS.items():
            print(f"{name:<20} {setting.about}; {setting.epochs:,} epochs")
        return

    setting = SETTINGS[options.name]
    device, first = join_group()
    try:
        with contextlib.nullcontext() if first else contextlib.redirect_stdout(io.StringIO()):
            data = load_images(options.dataset)
        options.out.mkdir(parents=True, exist_ok=True)
        path = options.out / f"{options.name}.pt"
        if options.fresh and first:
            path.unlink(missing_ok=True)
        if distributed.is_initialized():
            distributed.barrier()
        chosen = {key: getattr(options, key) for key in ("epochs", "batch_size", "lr", "beta", "seed")}
        model = train(options.name, data=data, path=path, device=device, **chosen)
    except KeyboardInterrupt:
        raise SystemExit(f"interrupted; the same command goes on after the last whole epoch ({path})") from None
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()
    if first:
        samples = setting.samples if options.samples is None else options.samples
        report(model, data, setting, samples=samples, examples=options.examples or setting.examples)
        print(f"weights in {path}: course_utils.training.checkpoints.load({str(path)!r})")


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
