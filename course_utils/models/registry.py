"""Models that may be saved and loaded by name.

What `fit`, `evaluate` and the checkpoints ask of a model, a class of one's own included:

    model.inputs(x, y, condition=None) -> tuple of tensors    from images (B, C, H, W) and labels (B,)
    model.loss(*inputs, beta=1.0) -> Terms                    per example, in nats
    model.log_weights(*inputs, samples=K) -> (K, B)           where there is a likelihood: log p(x, z) − log q(z|x);
                                                              with proposal="defensive", half q, half prior, if it can
    model.log_joint(*inputs, z) -> (…, B)                     log p(x, z) for codes z (…, B, L), or (G, 1, L) for all
    model.posterior_and_prior(*inputs)                        where both are Gaussian: two pairs (mu, log_var)
    model.config                                              to be saved: the constructor's arguments, plain values
    model.given                                               where training must go on with them as they are: names
                                                              of weights that it never moves

Only `loss` is always needed; `inputs` for images with labels, the rest for what is named beside it.
"""

from collections.abc import Mapping
from typing import TypeVar

from torch import nn

Model = TypeVar("Model", bound=type[nn.Module])
Part = nn.Module | Mapping[str, object]  # a model in another: itself, or what `describe` says of it

_REGISTERED: dict[str, type[nn.Module]] = {}


def register(model: Model) -> Model:
    """Let a model class be saved, and loaded by its name: ``@register`` above the class, or ``register(MyModel)``.

    ``MyModel(**model.config)`` must build the same model. A class that is defined again takes the place of the first.
    Raises ``TypeError`` for what is no class of models, ``ValueError`` for a name that another class has.
    """
    if not (isinstance(model, type) and issubclass(model, nn.Module)):
        raise TypeError(f"register takes a class of torch.nn.Module, got {model!r}")
    known = _REGISTERED.get(model.__name__, model)
    if (known.__module__, known.__qualname__) != (model.__module__, model.__qualname__):
        raise ValueError(f"{model.__name__} is the name of {known.__module__}.{known.__qualname__}: choose another")
    _REGISTERED[model.__name__] = model
    return model


def registered(name: str) -> type[nn.Module]:
    """The class that was registered under ``name``. Raises ``ValueError``, with the names there are."""
    if name not in _REGISTERED:
        known = ", ".join(_REGISTERED)
        raise ValueError(f"no model {name!r} is registered, only {known}; define it and call register({name}) first")
    return _REGISTERED[name]


def check_registered(model: nn.Module) -> str:
    """The name under which the model's class is registered. Raises ``TypeError``, with the cure."""
    kind = type(model)
    if _REGISTERED.get(kind.__name__) is not kind:
        raise TypeError(
            f"a {kind.__name__} cannot be saved: its class is none of {', '.join(_REGISTERED)}; "
            f"call course_utils.register({kind.__name__}) first"
        )
    if not isinstance(getattr(model, "config", None), dict):
        raise TypeError(
            f"a {kind.__name__} cannot be saved without model.config, a dict of its constructor's arguments"
        )
    return kind.__name__


def describe(model: nn.Module) -> dict[str, object]:
    """A part of another model, for that one's ``config``: its registered name and its own ``config``.

    Raises ``TypeError`` for a part that cannot be saved.
    """
    return {"kind": check_registered(model), "config": model.config}


def part(described: Part) -> nn.Module:
    """The model that ``describe`` spoke of, with new weights; anything else as it is. Raises ``ValueError`` for a name
    that is not registered."""
    if not isinstance(described, Mapping):
        return described
    return registered(described["kind"])(**described["config"])
