"""What the course costs, in one table from one run on one machine.

    python -m tests.tools.benchmark                     # everything, some 15 minutes on two cores
    python -m tests.tools.benchmark epoch --repeats 5   # one part: epoch, growth, import or notebooks

epoch      one epoch of `fit` for 784-400-20 at batch 128, beside the barest eager loop (fused Adam, data in memory),
           the usual loop (DataLoader, ToTensor, `loss.item()`), other libraries' trainers where they are installed
           (tests/tools/peers.py), and the step's matrix products alone; with the test −ELBO that each reaches
growth     an epoch against the number of images, the batch size and the width
import     the package's modules that every notebook needs, beside PyTorch alone
notebooks  time, time to the first figure and peak memory of each notebook, in a fresh kernel

MNIST where it is there, else the offline digits, repeated to 60,000 images. Machines are noisy: read ratios, not
seconds.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from nbformat import NotebookNode
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import ToTensor

from course_utils.data.images import Split
from course_utils.data.load import load_images
from course_utils.models.vae import VAE
from course_utils.training.fit import fit

from . import command, peers
from .execute import execute

ROOT = Path(__file__).resolve().parents[2]
BATCH, WIDTH, LATENT, PIXELS = 128, 400, 20, 784
EPOCHS = 2  # of each training whose test ELBO is compared


class Images(Dataset):
    """The data set of the usual loop: what torchvision's MNIST does for each image, PIL and ToTensor."""

    def __init__(self, split: Split) -> None:
        self.pixels, self.labels, self.transform = split.pixels[:, 0].cpu(), split.labels.cpu(), ToTensor()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        picture = Image.fromarray(self.pixels[index].numpy())
        return self.transform(picture), int(self.labels[index])


def usual_epoch(model: VAE, loader: DataLoader, optimizer: torch.optim.Optimizer) -> None:
    """One epoch as most tutorials write it."""
    device, total = next(model.parameters()).device, 0.0
    for x, _ in loader:
        loss = model.loss(x.to(device)).loss.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()


def products(width: int, batch: int, device: torch.device) -> Callable[[], None]:
    """The matrix products of one step of 784-width-20: forward, and backward to the weights and to the inputs.

    The first layer needs no gradient for its input. Biases, activations, the loss and Adam are left out.
    """
    layers = [(PIXELS, width), (width, LATENT), (width, LATENT), (LATENT, width), (width, PIXELS)]
    tensors = [
        (
            torch.randn(batch, inputs, device=device),
            torch.randn(inputs, outputs, device=device),
            torch.randn(batch, outputs, device=device),
        )
        for inputs, outputs in layers
    ]

    def step() -> None:
        for number, (x, weight, gradient) in enumerate(tensors):
            x @ weight
            x.T @ gradient
            if number:
                gradient @ weight.T

    return step


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def floor(width: int, batch: int, examples: int, device: torch.device) -> float:
    """Seconds that the matrix products of one epoch take."""
    step, steps = products(width, batch, device), -(-examples // batch)
    few = min(steps, 200)

    def work() -> None:
        for _ in range(few):
            step()

    work()
    return statistics.median(seconds(work) for _ in range(3)) * steps / few


def images(device: torch.device) -> tuple[Split, torch.Tensor]:
    """60,000 training images, and the test images as one tensor."""
    data = load_images(device=device)
    split = data.train
    if len(split) < 60_000:
        index = torch.arange(60_000, device=device) % len(split)
        split = Split(split.pixels[index], split.labels[index])
    return split, data.test[:]


def line(name: str, value: str, remark: str = "") -> None:
    print(f"{name:<44}{value:>12}   {remark}".rstrip(), flush=True)


def fit_epoch(split: Split, *, width: int = WIDTH, batch: int = BATCH, repeats: int = 1) -> float:
    """Seconds of an epoch of fit, the fastest of `repeats`, after a warm-up."""
    model = VAE(latent_dim=LATENT, hidden_dims=(width,)).to(split.pixels.device)
    fit(model, split.subset(2000), epochs=1, batch_size=batch, show=False)
    return min(seconds(lambda: fit(model, split, epochs=1, batch_size=batch, show=False)) for _ in range(repeats))


def usual(split: Split, epochs: int) -> peers.Trained:
    """The usual loop, on the course's own model."""
    model = VAE(latent_dim=LATENT, hidden_dims=(WIDTH,)).to(split.pixels.device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    loader = DataLoader(Images(split), batch_size=BATCH, shuffle=True)
    took = seconds(lambda: [usual_epoch(model, loader, optimizer) for _ in range(epochs)])
    return took / epochs, lambda x: model.loss(x.reshape(-1, 1, 28, 28)).loss


def ours(split: Split, epochs: int) -> peers.Trained:
    model = VAE(latent_dim=LATENT, hidden_dims=(WIDTH,)).to(split.pixels.device)
    took = seconds(lambda: fit(model, split, epochs=epochs, show=False))
    return took / epochs, lambda x: model.loss(x.reshape(-1, 1, 28, 28)).loss


GOALS = {"the barest loop": (None, 1.1), "the usual loop": (2.0, None), "Pyro's SVI": (1.5, None)}
GOALS |= {"pythae's trainer": (1.3, None), "Lightning's": (1.3, None)}


def epoch(split: Split, test: torch.Tensor, repeats: int) -> None:
    """Every contestant trains `EPOCHS` epochs in each repetition, in turn, so that a slow minute meets all of them."""
    flat, found = split[:].flatten(1), {}
    contestants = {"fit": partial(ours, split), "the barest loop": partial(peers.barest, flat)}
    contestants |= {"the usual loop": partial(usual, split)}
    contestants |= {name: partial(train, flat) for name, train in peers.installed().items()}
    ours(split.subset(2000), 1)  # warm up
    for seed in range(repeats):
        for name, train in contestants.items():
            torch.manual_seed(seed)
            took, loss = train(EPOCHS)
            with torch.no_grad():
                found.setdefault(name, []).append((took, loss(test.flatten(1)).mean().item()))
    for name, runs in found.items():
        took, reached = ([run[i] for run in runs] for i in (0, 1))
        ratio = statistics.median(t / f[0] for t, f in zip(took, found["fit"], strict=True))
        least, most = GOALS.get(name, (None, None))
        goal = f"; goal: at least {least}" if least else f"; goal: at least 1 / {most}" if most else ""
        line(
            name,
            f"{statistics.median(took):.2f} s",
            f"{ratio:.2f} × fit, test −ELBO {statistics.mean(reached):.2f}{goal}",
        )
    line("the matrix products alone", f"{floor(WIDTH, BATCH, len(split), split.pixels.device):.2f} s")


def growth(split: Split, repeats: int) -> None:
    device = split.pixels.device
    for examples in (7_500, 15_000, 30_000, 60_000):
        took = fit_epoch(split.subset(examples), repeats=repeats)
        line(f"{examples:,} images", f"{took:.2f} s", f"{1e6 * took / examples:.1f} µs per image")
    part = split.subset(15_000)
    for batch in (32, 128, 512, 2048):
        took, least = fit_epoch(part, batch=batch, repeats=repeats), floor(WIDTH, batch, len(part), device)
        line(f"batch size {batch:,}, 15,000 images", f"{took:.2f} s", f"{took / least:.1f} times its floor")
    for width in (100, 400, 1600):
        took, least = fit_epoch(part, width=width, repeats=repeats), floor(width, BATCH, len(part), device)
        line(f"width {width:,}, 15,000 images", f"{took:.2f} s", f"{took / least:.1f} times its floor")


def imports(repeats: int) -> None:
    package = "import course_utils.models, course_utils.losses, course_utils.training, course_utils.evaluation"
    took: dict[str, list[float]] = {"import torch": [], package: []}
    for _ in range(repeats + 2):
        for code, values in took.items():
            values.append(seconds(lambda code=code: subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)))
    torch_alone, ours = (min(values) for values in took.values())
    line("import torch", f"{torch_alone:.2f} s", "with the interpreter's start; the fastest")
    line(
        "import models, losses, training, evaluation",
        f"{ours:.2f} s",
        f"{ours / torch_alone:.2f} times; goal: at most 1.1",
    )


def run_notebook(path: Path) -> dict[str, float]:
    """Run a notebook in a fresh kernel; seconds in all and to the first figure, and the kernel's peak memory in MB."""
    started, first = time.perf_counter(), [float("nan")]

    def look(cell: NotebookNode, cell_index: int, execute_reply: dict) -> None:
        drawn = any("image/png" in output.get("data", {}) for output in cell.get("outputs", []))
        if drawn and first[0] != first[0]:
            first[0] = time.perf_counter() - started

    execute(path, on_cell_executed=look)
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / (1024 if sys.platform != "darwin" else 1024**2)
    return {"seconds": time.perf_counter() - started, "first": first[0], "memory": memory}


def notebooks() -> None:
    total = 0.0
    for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb")):
        done = subprocess.run(
            [sys.executable, "-m", "tests.tools.benchmark", "--one", str(path)],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise SystemExit(f"{path.name} did not run to its end:\n{done.stderr[-2000:]}")
        found = json.loads(done.stdout.splitlines()[-1])
        total += found["seconds"]
        remark = f"first figure after {found['first']:.0f} s, at most {found['memory']:,.0f} MB"
        line(path.stem, f"{found['seconds']:.0f} s", remark)
    line("all notebooks", f"{total / 60:.1f} min", "goal: at most 10")


def main() -> None:
    parser = command("tools.benchmark", __doc__)
    parts = ("epoch", "growth", "import", "notebooks")
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(parts) + " (default: all)")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each kind, taken in turns (default: 3)")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(run_notebook(options.one)))
        return
    unknown = set(options.parts) - set(parts)
    if unknown or options.repeats < 1:
        parser.error(f"parts are {', '.join(parts)}, repeats at least 1; got {sorted(unknown)}, {options.repeats}")

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    split, test = images(device)
    print(
        f"784-400-20, batch 128, 60,000 images where nothing else is said; "
        f"{device.type}, {torch.get_num_threads()} threads"
    )
    chosen = options.parts or parts
    if "epoch" in chosen:
        epoch(split, test, options.repeats)
    if "growth" in chosen:
        growth(split, options.repeats)
    if "import" in chosen:
        imports(options.repeats)
    if "notebooks" in chosen:
        notebooks()


if __name__ == "__main__":
    main()
