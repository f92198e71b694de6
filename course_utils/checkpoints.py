"""Models on disk: weights as a state dict, the constructor's arguments beside them, no pickled code."""

import os
import tempfile
from pathlib import Path

import torch
from torch import nn

from course_utils import models

KINDS: dict[str, type[nn.Module]] = {
    "Autoencoder": models.Autoencoder,
    "VAE": models.VAE,
    "CVAE": models.CVAE,
}
FORMAT = 1


def save(model: nn.Module, path: str | os.PathLike[str]) -> Path:
    """Write a model of this course to ``path``, atomically: a file that was there stays whole until the new one is.

    Raises ``TypeError`` for other models, ``FileNotFoundError`` when the folder is missing, ``OSError`` when the disk
    refuses.
    """
    kind = type(model).__name__
    if KINDS.get(kind) is not type(model):
        raise TypeError(f"model must be one of {', '.join(KINDS)}, got {type(model).__name__}")
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"cannot save to {path}: the folder {path.parent} does not exist")
    content = {"format": FORMAT, "kind": kind, "config": model.config, "state": model.state_dict()}
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise
    return path


def load(
    path: str | os.PathLike[str],
    *,
    kind: type[nn.Module] | None = None,
    device: str | torch.device | None = None,
) -> nn.Module:
    """Read a model that :func:`save` wrote, onto ``device`` (default: CPU), in evaluation mode.

    ``kind``, as in ``kind=VAE``, is what the file must hold. Only tensors and plain values are read, never code
    (``weights_only=True``). Raises ``FileNotFoundError``, and ``ValueError`` when the file is no checkpoint of this
    course, is damaged, or holds another kind of model.
    """
    path = Path(path)
    try:
        content = torch.load(path, map_location=device or "cpu", weights_only=True)
    except FileNotFoundError:
        raise FileNotFoundError(f"no checkpoint at {path}") from None
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(f"{path} is not a readable checkpoint (damaged, or not made by save): {reason}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT or content.get("kind") not in KINDS:
        raise ValueError(f"{path} was not made by course_utils.checkpoints.save (or by a later version of it)")
    found = content["kind"]
    if kind is not None and KINDS[found] is not kind:
        raise ValueError(f"{path} holds a model of kind {found}, expected {kind.__name__}")
    model = KINDS[found](**content["config"])
    try:
        model.load_state_dict(content["state"])
    except RuntimeError as error:
        raise ValueError(f"the weights in {path} do not fit the {found} described beside them: {error}") from error
    return model.to(device or "cpu").eval()
