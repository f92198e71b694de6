"""A distance of images in the features of a network, to be added to a distortion."""

from collections.abc import Callable

from torch import Tensor

from course_utils._checks import check_batch, check_same_shape

Features = Callable[[Tensor], Tensor | tuple[Tensor, ...]]


def feature_distance(features: Features, x_hat: Tensor, x: Tensor) -> Tensor:
    """Σ ‖φ(x̂) − φ(x)‖² over the layers that ``features`` gives, summed over their units as a distortion is: (B,).

    Shapes: ``x_hat`` and ``x`` (B, …), in the range that the network was trained on; ``features`` gives a tensor (B, …)
    or a tuple of such. Only ``x_hat`` gets a gradient. Raises ``ValueError`` for shapes that differ, and where
    ``features`` cuts the graph (as a method under ``no_grad`` does), so that nothing would be learned. Source: Johnson,
    Alahi & Fei-Fei 2016, there averaged over units; for VAEs Hou et al. 2017.
    """
    check_batch("x_hat", x_hat)
    check_same_shape("x_hat", x_hat, "x", x)
    came, wanted = features(x_hat), features(x.detach())
    came, wanted = ((value,) if isinstance(value, Tensor) else value for value in (came, wanted))
    if x_hat.requires_grad and not all(layer.requires_grad for layer in came):
        raise ValueError("the features carry no gradient, so nothing could be learned from them: a no_grad inside?")
    return sum((a - b.detach()).square().flatten(1).sum(1) for a, b in zip(came, wanted, strict=True))
