"""The importance-weighted bound L_K on log p(x), and surrogate losses whose gradients for the encoder are better.

K is the number of samples z_1 … z_K from q(z|x), and log w_k = log p(x, z_k) − log q(z_k|x). All losses here have the
value −L_K; they differ in the gradient that reaches the encoder through z.
"""

import math

from torch import Tensor

from course_utils._checks import check_float


def importance_bound(log_w: Tensor) -> Tensor:
    """L_K = log 1/K Σ_k w_k of each example: log-weights (K, B) → (B,), nats; with K = 1 the one-sample ELBO.

    Raises ``ValueError`` for another shape. Source: Burda, Grosse & Salakhutdinov 2016, section 3.
    """
    if check_float("log_w", log_w).dim() != 2 or len(log_w) == 0:
        raise ValueError(f"log_w must be (K, B), K samples for each of B examples, got {tuple(log_w.shape)}")
    return log_w.logsumexp(0) - math.log(len(log_w))


def sticking_the_landing(log_w: Tensor) -> Tensor:
    """−L_K, for log-weights in which the parameters of q(z|x) are *detached*, except in z itself: (K, B) → (B,).

    The encoder's gradient is then Σ_k w̃_k ∂log w_k/∂z_k · ∂z_k/∂φ, with w̃ the normalised weights. Where q is the
    posterior every ∂log w_k/∂z_k is 0, so it has no noise there. At K = 1 its mean is the ELBO's gradient; with more
    samples it is biased, towards K times too large near the posterior. Source: Roeder, Wu & Duvenaud 2017.
    """
    return -importance_bound(log_w)


def doubly_reparameterized(log_w: Tensor, z: Tensor) -> Tensor:
    """−L_K with the doubly reparameterized gradient, (B,): for log-weights (K, B) of the codes ``z`` (K, B, L), made as
    for :func:`sticking_the_landing`, with q's parameters detached.

    The encoder's gradient is Σ_k w̃_k² ∂log w_k/∂z_k · ∂z_k/∂φ: on average that of −L_K itself, with less noise. The
    decoder's is the usual one. ``z`` must be the very tensor that ``log_w`` was computed from. Raises ``ValueError``
    where the shapes do not fit. Source: Tucker, Lawson, Gu & Maddison 2019, section 3.
    """
    loss = -importance_bound(log_w)
    if z.dim() != 3 or z.shape[:2] != log_w.shape:
        raise ValueError(f"z must be (K, B, L) with K and B those of log_w {tuple(log_w.shape)}, got {tuple(z.shape)}")
    weights = log_w.detach().softmax(0)[:, :, None].to(z)
    if z.requires_grad:  # what flows back into z holds one w̃ already; here it gets the second
        z.register_hook(lambda gradient: weights * gradient)
    return loss
