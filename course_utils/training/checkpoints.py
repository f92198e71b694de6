"""Models on disk: weights as a state dict, the constructor's arguments beside them, no pickled code."""

import contextlib
import io
import os
import pickle
from pathlib import Path
from typing import Any

import torch
from torch import nn

from course_utils._checks import check_device
from course_utils._files import check_writable, replace_file
from course_utils._random import seeded
from course_utils.models.registry import check_registered, registered

FORMAT = 2  # 1 held the same model and less of its training


def save(model: nn.Module, path: str | os.PathLike[str], *, training: dict[str, Any] | None = None) -> Path:
    """Write a registered model to ``path``, atomically: a file that was there stays whole until the new one is.

    ``training`` is what ``fit`` needs to go on later: tensors and plain values only.
    Raises ``TypeError`` for a model that is not registered, ``FileNotFoundError`` when the folder is missing,
    ``OSError`` when the disk refuses.
    """
    content = _written(model, training)
    check_writable(path)
    replace_file(path, content)
    return Path(path)


def load(
    path: str | os.PathLike[str], *, kind: type[nn.Module] | None = None, device: str | torch.device | None = None
) -> nn.Module:
    """Read a model that :func:`save` wrote, onto ``device`` (default: CPU), in evaluation mode.

    ``kind``, as in ``kind=VAE``, is what the file must hold. Only tensors and plain values are read, never code
    (``weights_only=True``). Raises ``FileNotFoundError``, and ``ValueError`` when the file is no checkpoint of this
    course, is damaged, or holds another kind of model, and for a device that is not there.
    """
    device = check_device(device)
    content = read(path)
    if kind is not None and registered(content["kind"]) is not kind:
        raise ValueError(f"{path} holds a model of kind {content['kind']}, expected {kind.__name__}")
    return _built(content, path).to(device).eval()


def check_can_be_saved(model: nn.Module, path: str | os.PathLike[str]) -> None:
    """Raise at once whatever :func:`save` and :func:`load` would raise after training, by writing and reading once."""
    content = _written(model)
    check_writable(path)
    try:
        _built(read(path, content), path)
    except ValueError as error:
        raise TypeError(f"a {type(model).__name__} cannot be saved so that it can be loaded: {error}") from error


def read(path: str | os.PathLike[str], content: bytes | None = None) -> dict[str, Any]:
    """What the checkpoint ``path`` holds, on the CPU: kind, config, state, perhaps training. Raises as load does."""
    try:
        source = Path(path) if content is None else io.BytesIO(content)
        found = torch.load(source, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise FileNotFoundError(f"no checkpoint at {path}") from None
    except pickle.UnpicklingError:  # PyTorch's own words advise to read it in a way that runs code
        reason = "its content is not tensors and plain values alone"
        raise ValueError(f"{path} is not a readable checkpoint (damaged, or not made by save): {reason}") from None
    except Exception as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ValueError(f"{path} is not a readable checkpoint (damaged, or not made by save): {reason}") from error
    fields = {"kind": str, "config": dict, "state": dict}
    if not isinstance(found, dict) or found.get("format") not in (1, FORMAT):
        raise ValueError(f"{path} was not made by course_utils.save (or by a later version of it)")
    for name, kind in fields.items():
        if not isinstance(found.get(name), kind):
            raise ValueError(f"{path} is damaged: its {name} is {found.get(name)!r}, expected a {kind.__name__}")
    try:
        registered(found["kind"])
    except ValueError as error:
        raise ValueError(f"{path} cannot be used: {error}") from None
    return found


def check_same_model(model: nn.Module, content: dict[str, Any], path: str | os.PathLike[str]) -> None:
    """Raise ``ValueError`` unless the checkpoint holds a model of the same kind, arguments, shapes and given parts."""
    # Built first: an argument that the model did not have yet when the file was written has its default.
    if registered(content["kind"]) is not type(model) or _built(content, path).config != model.config:
        raise ValueError(
            f"{path} holds another model: {content['kind']} {content['config']}; "
            f"expected {type(model).__name__} {model.config}"
        )
    _check_shapes(model, content, path)
    state = model.state_dict()
    if other := [
        name for name in getattr(model, "given", ()) if not torch.equal(state[name].cpu(), content["state"][name])
    ]:
        raise ValueError(
            f"{path} was trained with other weights {other[0]}, which training does not move; "
            "give the model those, name another file, or remove this one to begin anew"
        )


def _written(model: nn.Module, training: dict[str, Any] | None = None) -> bytes:
    content = {"format": FORMAT, "kind": check_registered(model), "config": model.config, "state": model.state_dict()}
    if training is not None:
        content["training"] = training
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def _built(content: dict[str, Any], path: str | os.PathLike[str]) -> nn.Module:
    """The model described in a checkpoint, with its weights; a description that nobody could build costs no memory."""
    kind = registered(content["kind"])
    try:
        with contextlib.suppress(RuntimeError), torch.device("meta"):  # RuntimeError: this one needs real numbers
            _check_shapes(kind(**content["config"]), content, path)
        with seeded(0, torch.device("cpu")):
            model = kind(**content["config"])
        model.load_state_dict(content["state"])
    except Exception as error:
        raise ValueError(f"{path} does not hold a {content['kind']} that can be built: {error}") from error
    return model


def _check_shapes(model: nn.Module, content: dict[str, Any], path: str | os.PathLike[str]) -> None:
    expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    found = {name: tuple(getattr(value, "shape", ())) for name, value in content["state"].items()}
    if expected != found:
        name = next(iter(set(expected.items()) ^ set(found.items())))[0]
        raise ValueError(
            f"the weights in {path} do not fit the {content['kind']} described beside them: "
            f"{name} is {found.get(name)}, expected {expected.get(name)}"
        )
