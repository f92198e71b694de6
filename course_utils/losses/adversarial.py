"""What a discriminator and its opponent learn from, each from the gradient of its own loss alone."""

from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from course_utils._checks import check_choice

OBJECTIVES = ("non_saturating", "minimax")


def with_weights_held(module: nn.Module, *inputs: Tensor) -> Tensor:
    """``module(*inputs)`` with gradients that reach the inputs and none of its weights."""
    held = {name: weight.detach() for name, weight in module.named_parameters()}
    return functional_call(module, held, inputs)


def discriminator_nll(real: Tensor, fake: Tensor) -> Tensor:
    """−log D(x) − log(1 − D(x̃)), D = σ(logit), from the logits of real and of made images, (B,) each → (B,), in nats.

    Its mean at the best D is log 4 − 2·JSD(p_data, p_generator): log 4 where both are the same distribution.
    Source: Goodfellow et al. 2014, eq. (1), with the sign reversed.
    """
    return F.softplus(-real) + F.softplus(fake)


def generator_loss(fake: Tensor, objective: str = "non_saturating") -> Tensor:
    """What the generator minimises, from the discriminator's logits of its images (B,) → (B,), in nats.

    "non_saturating" is −log D(x̃); "minimax" is log(1 − D(x̃)), its part of the two players' common value. They push in
    the same direction; but where D is sure of a fake the gradient of the second in the logit, −D, vanishes, and that
    of the first, D − 1, does not. Raises ``ValueError`` for another name. Source: Goodfellow et al. 2014, section 3.
    """
    minimax = check_choice("objective", objective, OBJECTIVES) == "minimax"
    return -F.softplus(fake) if minimax else F.softplus(-fake)
