"""The judge: a digit classifier that says whether a picture is recognised, and as what."""

import itertools
import math
import time
from collections.abc import Callable, Iterator
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_utils._checks import check_batch, check_positive_int, check_share
from course_utils._random import seeded
from course_utils.data.images import ImageData
from course_utils.models.registry import register


class Judge(nn.Module):
    """A small convolutional classifier of digits that says whether an image is recognised, and as what."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 16, 5, stride=2, padding=2), nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU(),
            nn.Flatten(), nn.Linear(32 * 7 * 7, 128), nn.ReLU(), nn.Linear(128, 10),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, 1, 28, 28), or flat (B, 784) → class logits (B, 10)."""
        return self.layers(_as_images(x))

    @torch.no_grad()
    def probabilities(self, x: Tensor, *, batch_size: int = 1000) -> Tensor:
        """Class probabilities (B, 10) for images in [0, 1]; pixels outside are clipped, as a viewer would."""
        return self._seen(x, batch_size, len(self.layers)).softmax(1)

    @torch.no_grad()
    def features(self, x: Tensor, *, batch_size: int = 1000) -> Tensor:
        """What the last layer sees of images in [0, 1], (B, 128), clipped as for :meth:`probabilities`; to measure.

        Without gradients: what is trained on a network's features looks good to that network.
        """
        return self._seen(x, batch_size, len(self.layers) - 1)

    def _seen(self, x: Tensor, batch_size: int, depth: int) -> Tensor:
        parts = _as_images(x).split(check_positive_int("batch_size", batch_size))
        found = torch.cat([self.layers[:depth](part.clamp(0, 1)) for part in parts])
        if not found.isfinite().all():
            raise ValueError("the images must be finite, got NaN: the judge would recognise none of them")
        return found

    def recognised(self, x: Tensor, *, confidence: float = 0.9) -> Tensor:
        """Which images (B,) the judge gives one class with more than ``confidence``."""
        return self.probabilities(x).amax(1) > check_share("confidence", confidence)


@register
class JudgeFeatures(Judge):
    """A judge that gives what its last layer sees, (B, 128), with gradients: to train with, never to measure with."""

    config: ClassVar[dict[str, object]] = {}

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, 1, 28, 28), or flat (B, 784) → features (B, 128)."""
        return self.layers[:-1](_as_images(x))


def _as_images(x: Tensor) -> Tensor:
    """Images (B, 1, 28, 28) from these or from flat ones. Raises ``ValueError`` for other sizes."""
    if math.prod(check_batch("x", x).shape[1:]) != 784:
        raise ValueError(f"the judge looks at 28×28 images, got x of shape {tuple(x.shape)}")
    return x.reshape(-1, 1, 28, 28)


def train_judge(data: ImageData, *, steps: int = 900, batch_size: int = 128, seed: int = 0, show: bool = True) -> Judge:
    """Train a :class:`Judge` on the training digits in some seconds, and print its accuracy on the test digits.

    The same seed gives the same judge on the same machine; the global random state is left alone. On the device of
    the data; in evaluation mode.
    """
    check_positive_int("steps", steps)
    if not isinstance(data, ImageData):
        raise TypeError(f"data must be an ImageData, as load_images gives it, got {type(data).__name__}")
    device = data.train.pixels.device
    start = time.perf_counter()
    order = torch.Generator().manual_seed(seed)
    with seeded(seed, device):
        judge = Judge().to(device)
        optimizer = torch.optim.Adam(judge.parameters(), lr=2e-3, fused=True)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, total_iters=steps)
        for x, y in itertools.islice(_endless(lambda: data.train.batches(batch_size, seed=order)), steps):
            loss = F.cross_entropy(judge(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    judge.eval()
    accuracy = (judge.probabilities(data.test[:]).argmax(1) == data.test.labels).double().mean().item()
    if show:
        print(
            f"the judge names {accuracy:.1%} of {len(data.test):,} test digits correctly "
            f"(trained in {time.perf_counter() - start:.0f} s)"
        )
    return judge.requires_grad_(False)


def _endless(epoch: Callable[[], Iterator[tuple[Tensor, Tensor]]]) -> Iterator[tuple[Tensor, Tensor]]:
    while True:
        yield from epoch()
