'''Exercises: `check` an answer and go on with it, ask for a `hint`, read a `solution`; `yours` lends a kept answer.

An exercise is an entry of `EXERCISES` in `notebook_XX.py`. Stub, cell and judge follow from its solution.

**A brick** is a function that is compared with the solution on small cases::

    import torch

    from . import Exercise


    def gaussian_kl(mu, log_var):
        """Return KL(N(mu, diag sigma^2) || N(0, I)) of each example, in nats.

        mu, log_var: (B, L), log_var is log sigma^2
        result:      (B,)
        """
        return 0.5 * (mu**2 + log_var.exp() - 1 - log_var).sum(dim=1)


    EXERCISES = (
        Exercise(
            number="4.2",
            title="The KL of each example",
            minutes=5,
            solution=gaussian_kl,
            hints=("A question.", "A formula in words.", "Nearly the code."),
            cases=lambda draw: [(draw(2, 3), draw(2, 3)), (draw(5, 4), draw(5, 4)), (draw(1, 2), draw(1, 2))],
            gradients=("mu", "log_var"),
            passed="Summed over dimensions, one number per example, never negative.",
        ),
    )

That is all. A wrong answer is told the simplest relation that holds on all cases between its numbers and the right
ones ("times ½", "averaged over L", "2·log_var in place of log_var", "one exp is left out"), with the smallest case.
So give three cases or more, of sizes that differ from each other, 1 among them, with generic numbers (`draw(2, 3)` is
normal and rounded, `draw.uniform`, `draw.integers`), the smallest first: at most twelve numbers in an argument are
shown. The letters in the docstring's shapes name the sizes.

- `mistakes={"the other direction": (wrong_function, "This is KL(p ‖ q). Under which of the two is the expectation
  taken?")}`, only where the words say more than the relation would.
- Several things returned: `parts=("d_mu", "d_log_var")`.
- What counts is not what is returned: `observe=lambda attempt, *case: {"mean": ..., "std": ...}`; with
  `tolerance=(0.05, 0.02)`, relative and absolute, for what is random (draw some thousands:
  `attempt(mu.expand(20000, -1), log_var.expand(20000, -1))`).
- No gradient asked for, and lists or NumPy arrays as good as tensors: `any_type=True`.
- More to ask once the numbers are right: `also=`, a function of (attempt, cases) that raises `NotYet(name, words)`.

**A build** is a class or a training loop, judged by what it does; its checks are functions of a `Build`::

    from . import Exercise
    from ._build import gradients_reach_all, has, per_example, samples, same_numbers, shapes, trains


    class MyVAE(nn.Module):
        """Your first VAE: 784 pixels, one hidden layer of 400, a code of latent_dim numbers."""

        def __init__(self, latent_dim):
            super().__init__()
            self.body = nn.Linear(784, 400)
            ...

        def encode(self, x):  # (B, 784) -> mu, log_var, (B, L) each
            ...

        def loss(self, x):  # (B, 784) in [0, 1] -> (B,), nats
            ...


    def at_least_two_layers(build):
        model = build.make(20)                         # an instance; build.run(f, *args, doing="in f") calls anything
        layers = sum(isinstance(m, nn.Linear) for m in model.modules())
        build.require(layers > 1, "one layer", f"The model has {layers} layer.")


    Exercise(
        number="2.3", title="Your first VAE", minutes=20, solution=MyVAE, hints=(...),
        checks=(
            has("encode", "loss", "sample"),
            shapes("encode", [(7, 784)], (7, 20), (7, 20)),
            at_least_two_layers,
            same_numbers("kl(mu, log_var)", lambda model, mu, log_var: model.kl(mu, log_var), gaussian_kl,
                         cases=lambda draw: [(draw(2, 3), draw(2, 3)), (draw(4, 5), draw(4, 5))],
                         axes="mu, log_var: (B, L)"),
            per_example(), gradients_reach_all(), trains(below=180, above=60, steps=300), samples(),
        ),
        passed="Gradients reach every weight; after {steps} steps the loss is {loss:.0f} nats.",
    )

The stub keeps the class line, its docstring and every method whose name has no leading underscore, with its docstring
or the comment beside its signature. `args=(…)` of the ready checks are those of the constructor, (20,) by default;
`loss=` is a function (model, x) -> (B,) where it is not `model.loss(x)`. Inside `with fixed_noise():` noise is the same
for every row. For a build that is a function (a training loop), write checks that call
`build.run(build.answer, model, images, 2, doing="in train(...)")`; what they find for the sentence goes into
`build.found`. Every weight of a VAE gets a gradient from the KL alone: ask `gradients_reach_all` with a loss= of the
reconstruction where the gradient must come through z.
'''

from ._attempt import Attempt, NotYet, Raised
from ._brick import gradient_reaches
from ._build import Build, fixed_noise
from ._exercise import Draw, Exercise
from ._framework import Result, check, exercises_of, find, grade, hint, solution, yours
from ._relations import ATOL, RTOL

__all__ = [
    "ATOL", "RTOL", "Attempt", "Build", "Draw", "Exercise", "NotYet", "Raised", "Result", "check", "exercises_of",
    "find", "fixed_noise", "grade", "gradient_reaches", "hint", "solution", "yours",
]  # fmt: skip
