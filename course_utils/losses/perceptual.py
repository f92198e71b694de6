"""Objectives with a second opinion on the pictures that a VAE decodes: a network's features, or a discriminator.

Neither is a bound on log p(x): ``evaluate(vae, x)`` still gives the VAE's own terms.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_utils._checks import check_batch, check_number, check_same_shape
from course_utils.losses.adversarial import generator_loss, with_weights_held
from course_utils.losses.elbo import elbo
from course_utils.losses.terms import Terms

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


class FeatureLoss(nn.Module):
    """An objective: a VAE's own loss plus ``weight`` · :func:`feature_distance` of its mean image; for ``fit``.

    For a model with ``likelihood`` whose forward pass is a VAE's, with a Gaussian posterior, the prior N(0, I), and the
    ELBO of that pass as its loss. ``features`` is not trained. The network that will judge the images must be another
    one::

        fit(FeatureLoss(vae, second.layers[:-1], weight=0.1), data, epochs=5)
    """

    def __init__(self, model: nn.Module, features: Features, *, weight: float) -> None:
        super().__init__()
        _check_model(model)
        if not callable(features):
            raise TypeError(f"features must be a network or a function of images, got {type(features).__name__}")
        self.model, self.weight = model, check_number("weight", weight, least=0)
        self._features = (features,)  # in a tuple, so that its weights are none of this objective's

    def inputs(self, x: Tensor, y: Tensor, condition: object = None) -> tuple[Tensor, ...]:
        """What ``loss`` takes: the model's own inputs."""
        return self.model.inputs(x, y, condition)

    def loss(self, x: Tensor, *, beta: float = 1.0) -> Terms:
        """``loss``, recon, kl and ``features``, before its weight, of each example, (B,) each."""
        output = self.model(x)
        own = elbo(output, x, likelihood=self.model.likelihood, beta=beta)
        distance = feature_distance(self._features[0], self.model.likelihood.mean(output.x_params), x)
        return Terms(loss=own.loss + self.weight * distance, recon=own.recon, kl=own.kl, features=distance)


class AdversarialLoss(nn.Module):
    """An objective: a VAE's own loss plus ``weight`` · −log D(decoded), and the discriminator D's; for ``fit``.

    ``discriminator`` gives logits (B,) or (B, 1) for images as the model takes them: real above 0. It is trained along,
    to tell data from mean images decoded from q(z|x) and from the prior, by half each; the decoder is trained to pass
    for data with both. One optimiser serves all: the discriminator's weights see its own cross-entropy alone, and
    the encoder no word of the discriminator, as z is detached. For a model as in :class:`FeatureLoss`, with ``decode``
    and ``prior``. Sources: Larsen et al. 2016, whose distortion is measured in D's features; the decoder's
    term, Goodfellow et al. 2014, section 3.
    """

    def __init__(self, model: nn.Module, discriminator: nn.Module, *, weight: float) -> None:
        super().__init__()
        _check_model(model)
        if not isinstance(discriminator, nn.Module):
            raise TypeError(f"discriminator must be a torch.nn.Module, got {type(discriminator).__name__}")
        self.model, self.discriminator = model, discriminator
        self.weight = check_number("weight", weight, least=0)

    def inputs(self, x: Tensor, y: Tensor, condition: object = None) -> tuple[Tensor, ...]:
        """What ``loss`` takes: the model's own inputs."""
        return self.model.inputs(x, y, condition)

    def loss(self, x: Tensor, *, beta: float = 1.0) -> Terms:
        """Of each example, (B,): ``loss`` of the value recon + beta · kl + weight · fooled; ``fooled``, −log D of what
        was decoded; ``discriminator``, its cross-entropy in nats, 2 log 2 = 1.39 where it cannot tell.
        """
        output = self.model(x)
        own = elbo(output, x, likelihood=self.model.likelihood, beta=beta)
        z = torch.cat([output.z.detach(), self.model.prior.sample(len(x)).to(output.z)])
        decoded = self.model.likelihood.mean(self.model.decode(z))
        fooled = generator_loss(with_weights_held(self.discriminator, decoded)).view(2, -1).mean(0)
        real, fake = (self.discriminator(images).flatten() for images in (x, decoded.detach()))
        told_apart = F.softplus(-real) + F.softplus(fake).view(2, -1).mean(0)
        loss = own.loss + self.weight * fooled + (told_apart - told_apart.detach())
        return Terms(loss=loss, recon=own.recon, kl=own.kl, fooled=fooled, discriminator=told_apart)


def _check_model(model: nn.Module) -> None:
    if not isinstance(model, nn.Module) or not hasattr(model, "likelihood") or not callable(
        getattr(model, "decode", None)
    ):  # fmt: skip
        raise TypeError(f"a model with decode and likelihood is needed, got {type(model).__name__}")
    if not getattr(model, "gaussian", True):
        raise ValueError("the rate is taken in closed form: posterior='diagonal' and prior='standard' are needed")
    for kind in type(model).__mro__:  # whoever inherits a forward pass and puts another loss in the place of its own
        if "forward" in vars(kind):
            break
        if "loss" in vars(kind):
            raise ValueError(f"{kind.__name__}.loss is not the ELBO of its forward pass, and would be left out")
