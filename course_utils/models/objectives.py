"""Objectives with a second opinion on the pictures that a VAE decodes: a network's features, or a discriminator.

Neither is a bound on log p(x): ``evaluate(objective.model, x)`` still gives the VAE's own terms. An objective is saved
with all its parts, where these can be; what was trained is its ``model``.
"""

import copy

import torch
from torch import Tensor, nn

from course_utils._checks import check_number
from course_utils.losses.adversarial import discriminator_nll, generator_loss, with_weights_held
from course_utils.losses.elbo import elbo
from course_utils.losses.perceptual import Features, feature_distance
from course_utils.losses.terms import Terms
from course_utils.models.registry import Part, describe, part, register


class _Objective(nn.Module):
    """A VAE and its own ELBO, as far as both objectives share it."""

    opponent: str  # the name of the other part

    def __init__(self, model: Part, *, weight: float) -> None:
        super().__init__()
        self.model, self.weight = _check_model(part(model)), check_number("weight", weight, least=0)

    @property
    def config(self) -> dict[str, object]:
        """The constructor's arguments as plain values. Raises ``TypeError`` for a part that cannot be saved."""
        return {name: describe(getattr(self, name)) for name in ("model", self.opponent)} | dict(weight=self.weight)

    def inputs(self, x: Tensor, y: Tensor, condition: object = None) -> tuple[Tensor, ...]:
        """What ``loss`` takes: the model's own inputs."""
        return self.model.inputs(x, y, condition)

    def sample(self, n: int, **how: object) -> Tensor:
        """``n`` new images: the model's."""
        return self.model.sample(n, **how)


@register
class FeatureLoss(_Objective):
    """A VAE's own loss plus ``weight`` · :func:`feature_distance` of its mean image; for ``fit``.

    For a model with ``likelihood`` whose forward pass is a VAE's, with a Gaussian posterior, the prior N(0, I), and the
    ELBO of that pass as its loss. ``features``, a function or a network, which is copied, is not trained. The network
    that will judge the images must be another one::

        fit(FeatureLoss(vae, second.layers[:-1], weight=0.1), data, epochs=5)
    """

    opponent = "features"

    def __init__(self, model: Part, features: Features | Part, *, weight: float) -> None:
        super().__init__(model, weight=weight)
        features = part(features)
        if not callable(features):
            raise TypeError(f"features must be a network or a function of images, got {type(features).__name__}")
        frozen = isinstance(features, nn.Module)
        self.features = copy.deepcopy(features).requires_grad_(False).eval() if frozen else features

    def train(self, mode: bool = True) -> "FeatureLoss":
        """As ever, but for the features, which stay in ``eval()``."""
        super().train(mode)
        if isinstance(self.features, nn.Module):
            self.features.eval()
        return self

    def loss(self, x: Tensor, *, beta: float = 1.0) -> Terms:
        """``loss``, recon, kl and ``features``, before its weight, of each example, (B,) each."""
        output = self.model(x)
        own = elbo(output, x, likelihood=self.model.likelihood, beta=beta)
        distance = feature_distance(self.features, self.model.likelihood.mean(output.x_params), x)
        return Terms(loss=own.loss + self.weight * distance, recon=own.recon, kl=own.kl, features=distance)


@register
class AdversarialLoss(_Objective):
    """A VAE's own loss plus ``weight`` · −log D(decoded), and the discriminator D's; for ``fit``.

    ``discriminator`` gives logits (B,) or (B, 1) for images as the model takes them: real above 0. It is trained along,
    to tell data from mean images decoded from q(z|x) and from the prior, by half each; the decoder is trained to pass
    for data with both. One optimiser serves all: the discriminator's weights see its own cross-entropy alone, and
    the encoder no word of the discriminator, as z is detached. For a model as in :class:`FeatureLoss`, with ``decode``
    and ``prior``. Sources: Larsen et al. 2016, whose distortion is measured in D's features; the decoder's
    term, Goodfellow et al. 2014, section 3.
    """

    opponent = "discriminator"

    def __init__(self, model: Part, discriminator: Part, *, weight: float) -> None:
        super().__init__(model, weight=weight)
        self.discriminator = part(discriminator)
        if not isinstance(self.discriminator, nn.Module):
            raise TypeError(f"discriminator must be a torch.nn.Module, got {type(discriminator).__name__}")

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
        told_apart = discriminator_nll(real, fake.view(2, -1)).mean(0)
        loss = own.loss + self.weight * fooled + (told_apart - told_apart.detach())
        return Terms(loss=loss, recon=own.recon, kl=own.kl, fooled=fooled, discriminator=told_apart)


def _check_model(model: nn.Module) -> nn.Module:
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
    return model
