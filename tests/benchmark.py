"""How long an epoch takes: `fit` beside the usual loop, in one run on one machine.

    python -m tests.benchmark [--repeats 3]

The model is 784-400-20 at batch 128, on MNIST where it is there and on the offline digits, repeated to 60,000 images,
where it is not. Machines differ and are noisy, so read the ratio, not the seconds.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import ToTensor

from course_utils.data import Split, load_images
from course_utils.models import VAE
from course_utils.training import fit


class Images(Dataset):
    """The data set of the usual loop: what torchvision's MNIST does for each image, PIL and ToTensor."""

    def __init__(self, split: Split) -> None:
        self.pixels, self.labels, self.transform = split.pixels[:, 0].cpu(), split.labels.cpu(), ToTensor()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        picture = Image.fromarray(self.pixels[index].numpy())
        return self.transform(picture), int(self.labels[index])


def usual_epoch(model: VAE, loader: DataLoader, device: torch.device) -> None:
    """One epoch as most tutorials write it."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    total = 0.0
    for x, _ in loader:
        loss = model.loss(x.to(device)).loss.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3, help="epochs of each kind, taken in turns (default 3)")
    repeats = parser.parse_args().repeats

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    split = load_images(device=device).train
    if len(split) < 60_000:
        index = torch.arange(60_000, device=device) % len(split)
        split = Split(split.pixels[index], split.labels[index])
    loader = DataLoader(Images(split), batch_size=128, shuffle=True)
    model = VAE(latent_dim=20, hidden_dims=(400,)).to(device)

    times: dict[str, list[float]] = {"fit": [], "usual": []}
    fit(model, split, epochs=1, show=False)  # warm up
    for _ in range(repeats):
        times["fit"].append(seconds(lambda: fit(model, split, epochs=1, show=False)))
        times["usual"].append(seconds(lambda: usual_epoch(model, loader, device)))

    print(f"one epoch of 60,000 images, 784-400-20, batch 128, {device.type}, {torch.get_num_threads()} threads")
    names = {"fit": "course_utils.training.fit", "usual": "DataLoader + ToTensor + loss.item()"}
    for key, name in names.items():
        runs = sorted(times[key])
        print(f"{name:<38}{statistics.median(runs):7.2f} s   ({runs[0]:.2f} to {runs[-1]:.2f} in {repeats} runs)")
    ratio = statistics.median(times["usual"]) / statistics.median(times["fit"])
    print(f"{'the usual loop takes':<38}{ratio:7.1f} times as long")


if __name__ == "__main__":
    main()
