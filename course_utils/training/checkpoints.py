"""Models on disk: weights as a state dict, the constructor's arguments beside them, no pickled code."""

import os
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from course_utils import models

KINDS: dict[str, type[nn.Module]] = {
    "Autoencoder": models.Autoencoder,
    "VAE": models.VAE,
    "CVAE": models.CVAE,
}
FORMAT = 1


def save(model: nn.Module, path: str | os.PathLike[str], *, training: dict[str, Any] | None = None) -> Path:
    """Write a model of this course to ``path``, atomically: a file that was there stays whole until the new one is.

    ``training`` is what ``fit`` needs to go on later: tensors and plain values only.
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
    if training is not None:
        content["training"] = training
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
    content = _read(path, device or "cpu")
    found = content["kind"]
    if kind is not None and KINDS[found] is not kind:
        raise ValueError(f"{path} holds a model of kind {found}, expected {kind.__name__}")
    model = KINDS[found](**content["config"])
    _fill(model, content, path)
    return model.to(device or "cpu").eval()


def resume(model: nn.Module, path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the weights in ``path`` into ``model``, which must be of the same kind and configuration, and return the
    ``training`` that was saved with them, on the CPU. Raises as :func:`load` does."""
    path = Path(path)
    content = _read(path, "cpu")
    if KINDS[content["kind"]] is not type(model) or content["config"] != model.config:
        raise ValueError(
            f"{path} holds another model: {content['kind']} {content['config']}; "
            f"expected {type(model).__name__} {getattr(model, 'config', '')}"
        )
    if "training" not in content:
        raise ValueError(f"{path} holds a model without its training state, so training cannot go on from it")
    _fill(model, content, path)
    return content["training"]


def _read(path: Path, device: str | torch.device) -> dict[str, Any]:
    try:
        content = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError:
        raise FileNotFoundError(f"no checkpoint at {path}") from None
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(f"{path} is not a readable checkpoint (damaged, or not made by save): {reason}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT or content.get("kind") not in KINDS:
        raise ValueError(f"{path} was not made by course_utils.training.checkpoints.save (or by a later version of it)")
    return content


def _fill(model: nn.Module, content: dict[str, Any], path: Path) -> None:
    try:
        model.load_state_dict(content["state"])
    except RuntimeError as error:
        kind = content["kind"]
        raise ValueError(f"the weights in {path} do not fit the {kind} described beside them: {error}") from error
