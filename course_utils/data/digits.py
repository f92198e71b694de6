"""The offline digits: scikit-learn's 1,797 real handwritten digits, redrawn at 28×28."""

from __future__ import annotations

import torch

from course_utils.data.images import ImageData, Split


def load_digits_28(why: str) -> ImageData:
    """scikit-learn's 8×8 digits at 28×28: bicubic to 20×20, a soft threshold for the edges, a margin of 4.

    The split is fixed and stratified by class, not by writer: some writers occur in both parts.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    ink = torch.from_numpy(bunch.images)[:, None] / 16  # (1797, 1, 8, 8) float64 in [0, 1]
    ink = torch.nn.functional.interpolate(ink, size=(20, 20), mode="bicubic", align_corners=False)
    low, high = torch.sigmoid(torch.tensor([-5.0, 5.0], dtype=ink.dtype))
    ink = ((torch.sigmoid(10 * (ink - 0.5)) - low) / (high - low)).clamp(0, 1)  # bicubic overshoots a little
    pixels = torch.nn.functional.pad(ink * 255, (4, 4, 4, 4)).round().to(torch.uint8)  # (1797, 1, 28, 28)
    labels = torch.from_numpy(bunch.target).to(torch.int64)
    train, test = train_test_split(range(len(labels)), test_size=360, stratify=labels.numpy(), random_state=0)
    count = f"{len(train):,} training and {len(test):,} test images"
    source = f"digits, {count} from scikit-learn at 28×28, not MNIST, {why}."
    return ImageData(Split(pixels[train], labels[train]), Split(pixels[test], labels[test]), "digits", source)
