"""Seeded noise that leaves the global random state as it was."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from course_utils._checks import check_whole


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed the noise drawn inside, on the CPU and on ``device``, and give the global random state back afterwards."""
    seed = check_whole("seed", seed)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
