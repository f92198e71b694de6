"""The exercises of notebook 08, the bug clinic: tests that must tell the sick from the healthy."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_utils.teaching import clinic
from course_utils.teaching.clinic import SmallCVAE, SmallVAE

from . import Exercise
from ._bench import Bench, Specimen


def small(kind: type[nn.Module] = SmallVAE, **scales: float) -> Callable[[], tuple]:
    """Makes (model, x), of a random code size; `scales` multiply the weights of a layer, by its attribute's name."""

    def make() -> tuple:
        model = kind(latent_dim=int(torch.randint(3, 8, ())), hidden=24)
        with torch.no_grad():
            for name, scale in scales.items():
                layer = getattr(model, name)
                (layer[-1] if isinstance(layer, nn.Sequential) else layer).weight.mul_(scale)
        return model, torch.rand(16, 1, 28, 28)

    return make


def changed(base: type[nn.Module] = SmallVAE, **methods: Callable) -> type[nn.Module]:
    """The same model with other methods."""
    return type(base.__name__, (base,), methods)


def sampler(draw: Callable[[Tensor, Tensor], Tensor]) -> type[nn.Module]:
    return changed(reparameterize=lambda self, mu, log_var: draw(mu, log_var))


def heads(bend: Callable[[Tensor, Tensor], tuple]) -> type[nn.Module]:
    return changed(encode=lambda self, x: bend(*SmallVAE.encode(self, x)))


def objective(total: Callable[..., Tensor]) -> type[nn.Module]:
    """total(recon, mu, log_var): recon (B,) -> one number."""

    def loss(self, output, x):
        logits, mu, log_var = output
        recon = F.binary_cross_entropy_with_logits(logits, x.flatten(1), reduction="none").sum(1)
        return total(recon, mu, log_var)

    return changed(loss=loss)


def rate(mu: Tensor, log_var: Tensor) -> Tensor:
    return 0.5 * (mu**2 + log_var.exp() - 1 - log_var).sum(1)


SOUND = [
    Specimen("a sound VAE", small()),
    Specimen(
        "a sound VAE with a bad loss",
        small(decoder=20, mu=20),
        "This model is correct and badly trained. A high loss is no bug, and a test must not mind.",
    ),
]
NO_KL = objective(lambda recon, mu, log_var: recon.mean())
PATIENT = {n: small(getattr(clinic, f"Patient{n}")) for n in (*range(1, 10), 16, 17)}
TURNED = Specimen(
    "Patient 8, whose KL has the wrong sign", PATIENT[8], "It is sick in another way, which is another test's business."
)

# 8.1 -----------------------------------------------------------------------------------------------------


def test_far_codes_cost(model, x):
    """Fail unless moving all means away from 0, upwards or downwards, makes the loss greater.

    model(x) -> (logits, mu, log_var)
    model.loss((logits, mu, log_var), x) -> one number, for any three tensors
    """
    logits, mu, log_var = model(x)
    home = model.loss((logits, torch.zeros_like(mu), log_var), x)
    for far in (-3.0, 3.0):
        away = model.loss((logits, torch.full_like(mu, far), log_var), x)
        assert away > home, f"all means at {far:g}: loss {away:.4g}, and {home:.4g} with all means at 0"


FAR_CODES = Bench(
    passes=[
        *SOUND,
        Specimen(
            "a sound VAE with β = ½",
            small(objective(lambda recon, mu, log_var: (recon + 0.5 * rate(mu, log_var)).mean())),
            "Here far codes cost half as much, which may be wanted.",
        ),
        Specimen(
            "Patient 6, with another weight of the KL",
            PATIENT[6],
            "Far codes do cost here, at another weight. Which two losses of the *same* model can be compared?",
        ),
    ],
    fails=[
        Specimen("Patient 1", PATIENT[1], "Its loss has no KL. Is it model.loss that you ask?"),
        Specimen(
            "the sum of mu in place of the KL",
            small(objective(lambda recon, mu, log_var: (recon + mu.sum(1)).mean())),
            "Upwards costs here, and downwards pays. Have you looked both ways?",
        ),
        Specimen(
            "minus the sum of mu in place of the KL",
            small(objective(lambda recon, mu, log_var: (recon - mu.sum(1)).mean())),
            "Downwards costs here, and upwards pays. Have you looked both ways?",
        ),
        Specimen(
            "Patient 8, whose KL has the wrong sign",
            PATIENT[8],
            "Here far codes are rewarded. Is it enough that the loss changes?",
        ),
        Specimen(
            "a KL that forgets the means",
            small(objective(lambda recon, mu, log_var: (recon + rate(0 * mu, log_var)).mean())),
            "Only the spread costs here. Asked for are the means: the same log_var, and mu moved.",
        ),
    ],
    alarm="Which of two losses should be the greater? And is there a number in your test that was copied from one run?",
)

# 8.2 -----------------------------------------------------------------------------------------------------


def test_spread(model, x):
    """Fail unless model.reparameterize(mu, log_var) has the standard deviation exp(log_var / 2).

    mu, log_var: (B, L), of your own making; take B large, and log_var far from 0
    """
    for value in (-4.0, -1.0, 2.0):
        log_var = x.new_full((20_000, 1), value)
        z = model.reparameterize(torch.zeros_like(log_var), log_var)
        expected = (0.5 * log_var[0, 0]).exp()
        assert 0.95 < z.std() / expected < 1.05, f"std {z.std():.3f}, log_var = {value:g} asks for {expected:.3f}"


TOO_WIDE = sampler(lambda mu, log_var: mu + 1.5 * (0.5 * log_var).exp() * torch.randn_like(mu))
SPREAD = Bench(
    passes=[
        *SOUND,
        Specimen("Patient 5, whose sample has no gradient", PATIENT[5], "Its samples are as wide as they should be."),
        TURNED,
    ],
    fails=[
        Specimen(
            "Patient 2",
            PATIENT[2],
            "Its σ is exp(log_var). At log_var = 0 nobody sees that, it grows with log_var as σ does, and near 0 a "
            "wide tolerance hides it. How *wide* should z be, and where do right and wrong differ?",
        ),
        Specimen(
            "a sampler that ignores log_var",
            small(sampler(lambda mu, log_var: mu + torch.randn_like(mu))),
            "Its spread is 1, whatever log_var says. Is your log_var far from 0, and your tolerance narrow?",
        ),
        Specimen("a sampler without noise", small(sampler(lambda mu, log_var: mu + 0 * log_var)), "Its spread is 0."),
        Specimen("noise that is 1.5 times too wide", small(TOO_WIDE), "A lower bound lets it pass. What keeps it in?"),
        Specimen(
            "Patient 17, with too little noise", PATIENT[17], "An upper bound lets it pass. How wide is wide enough?"
        ),
    ],
    alarm="Is the tolerance tighter than chance allows? The std of n samples is uncertain by one part in √(2n).",
)

# 8.3 -----------------------------------------------------------------------------------------------------


def test_encoder_hears_the_picture(model, x):
    """Fail unless the logits carry a gradient that is not zero, back to mu and back to log_var.

    model(x) -> (logits, mu, log_var), all part of one graph
    """
    logits, mu, log_var = model(x)
    for name, head in {"mu": mu, "log_var": log_var}.items():
        (gradient,) = torch.autograd.grad(logits.sum(), head, retain_graph=True, allow_unused=True)
        assert gradient is not None, f"no path leads from the logits to {name}"
        assert gradient.abs().max() > 0, f"the gradient at {name} is zero"


_CUT = (
    "The decoder has a gradient here, the KL gives the encoder one, and z does move when mu moves. Missing is the "
    "gradient from the picture back to mu and log_var. Which one have you asked for?"
)
TEACHES = Bench(
    passes=[*SOUND, TURNED, Specimen("a VAE without any KL", small(NO_KL), "Here the picture is all that teaches.")],
    fails=[
        Specimen("Patient 5", PATIENT[5], _CUT),
        Specimen(
            "mu detached in the sampler",
            small(sampler(lambda mu, log_var: mu.detach() + (0.5 * log_var).exp() * torch.randn_like(mu))),
            "Only log_var gets a gradient here. The layers below serve both heads: look at mu and log_var one by one.",
        ),
        Specimen(
            "σ detached in the sampler",
            small(sampler(lambda mu, log_var: mu + (0.5 * log_var).exp().detach() * torch.randn_like(mu))),
            "Only mu gets a gradient here. The layers below serve both heads: look at mu and log_var one by one.",
        ),
    ],
    alarm="Is what you differentiate by a part of the graph, and no copy? If you ask for mu.grad: mu is no leaf, and "
    "without mu.retain_grad() before backward() it keeps none. Is there a bound that is too high?",
)

# 8.4 -----------------------------------------------------------------------------------------------------


def test_loss_is_per_image(model, x):
    """Fail unless the loss of a batch stays the same when every image in it occurs twice.

    model(x) -> (logits, mu, log_var)
    model.loss((logits, mu, log_var), x) -> one number, for any three tensors
    """
    output = model(x)
    once = model.loss(output, x)
    twice = model.loss(tuple(torch.cat([t, t]) for t in output), torch.cat([x, x]))
    assert torch.isclose(once, twice, rtol=1e-4), f"{once:.2f} for {len(x)} images, {twice:.2f} for the same ones twice"


def _an_odd_number_of_images() -> tuple:
    return small()()[0], torch.rand(23, 1, 28, 28)


PER_IMAGE = Bench(
    passes=[
        SOUND[0],
        SOUND[1]._replace(
            words="It is sound, but its loss moves with noise and images. Two runs draw two noises, and other images "
            "cost otherwise. Run it once, and double its output and x."
        ),
        TURNED,
        Specimen(
            "a sound VAE and 23 images",
            _an_odd_number_of_images,
            "Its two losses are one number, but for the last digit: each sum of floats is rounded. Leave a tolerance.",
        ),
    ],
    fails=[
        Specimen("Patient 7", PATIENT[7], "It sums one term over the batch. Is it model.loss that you ask twice?"),
        Specimen(
            "a sum over the batch, divided by 128",
            small(objective(lambda recon, mu, log_var: (recon + rate(mu, log_var)).sum() / 128)),
            "Somebody's batch size is written into this loss.",
        ),
        Specimen(
            "a KL summed over the batch",
            small(objective(lambda recon, mu, log_var: recon.mean() + rate(mu, log_var).sum()), mu=5),
            "Only the KL is summed here, a small part of the loss. A tolerance that is a share of the whole hides it.",
        ),
    ],
    alarm="What differs between your two losses besides the size of the batch: the noise, the images, the last digit?",
)

# 8.5 -----------------------------------------------------------------------------------------------------


def test_decoder_hears_the_condition(model, x, cond):
    """Fail unless model.decode gives another picture when only the condition is changed.

    cond: (B, 10), one-hot
    model.encode(x, cond) -> (mu, log_var); model.decode(z, cond) -> logits
    """
    z, _ = model.encode(x, cond)
    asked, otherwise = model.decode(z, cond), model.decode(z, cond.roll(1, dims=1))
    change = (asked - otherwise).abs().max()
    assert change > 1e-5, f"another class, the same picture: largest change {change:.2g}"


def conditional(kind: type[nn.Module] = SmallCVAE, *, classes: int = 10, **scales: float) -> Callable[[], tuple]:
    """Makes (model, x, cond), the labels 0, 1, … in turn."""

    def make() -> tuple:
        model, x = small(kind, **scales)()
        return model, x, F.one_hot(torch.arange(len(x)) % classes, 10).float()

    return make


DEAF_DECODER = changed(SmallCVAE, decode=lambda self, z, cond: SmallCVAE.decode(self, z, 0 * cond))
DEAF_ENCODER = {"encode": lambda self, x, cond: SmallCVAE.encode(self, x, 0 * cond)}
_DEAF = "This decoder makes nothing of the condition. What else changed between your two pictures: the noise, or z?"
HEARS = Bench(
    passes=[
        Specimen("a sound CVAE", conditional()),
        Specimen("a sound CVAE with a bad loss", conditional(decoder=20), SOUND[1].words),
        Specimen(
            "a sound CVAE, and a batch of one class",
            conditional(classes=1),
            "All images are of one class here, so shuffled conditions are the same conditions. Is every one changed?",
        ),
        Specimen(
            "an encoder that does not see cond",
            conditional(changed(SmallCVAE, **DEAF_ENCODER)),
            "Here the decoder hears and the encoder does not. Which of the two is asked about?",
        ),
    ],
    fails=[
        Specimen("Patient 14", conditional(clinic.Patient14), _DEAF),
        Specimen("a decoder that multiplies cond by 0", conditional(DEAF_DECODER), _DEAF),
    ],
    alarm="Which two pictures are compared, and must they differ or agree?",
)

# 8.6 -----------------------------------------------------------------------------------------------------


def test_vae(model, x):
    """Fail on the clinic's broken VAEs (10 and 11 may pass) and on heads with an activation; pass on sound VAEs.

    model.encode(x) -> mu, log_var, (B, L) each; model.reparameterize(mu, log_var) -> z
    model.decode(z) -> logits (B, 784)
    model(x) -> (logits, mu, log_var); model.loss((logits, mu, log_var), x) -> one number
    """
    test_far_codes_cost(model, x)
    test_spread(model, x)
    test_encoder_hears_the_picture(model, x)
    test_loss_is_per_image(model, x)

    mu, log_var = model.encode(100 * torch.randn_like(x))  # unlike any image: how far do the heads reach?
    for name, head in {"mu": mu, "log_var": log_var}.items():
        assert head.min() < -1.5 and head.max() > 1.5, f"{name} from {head.min():.2g} to {head.max():.2g}"

    zeros = torch.zeros_like(mu)  # with mu = 0 and log_var = 0, z is the noise
    first, second = model.reparameterize(zeros, zeros), model.reparameterize(zeros, zeros)
    assert not torch.equal(first, second), "two calls draw the same noise"
    assert not torch.equal(first[0], first[1]), "two images share their noise"

    logits = model.decode(100 * torch.randn_like(mu))
    assert logits.min() < 0 and logits.max() > 1, f"outputs from {logits.min():.3g} to {logits.max():.3g}: no logits"
    loss = model.loss((x.new_zeros(len(x), 784), zeros, zeros), x)
    assert abs(loss / (784 * math.log(2)) - 1) < 0.01, (
        f"loss {loss:.4g} at logits of 0, expected {784 * math.log(2):.4g}"
    )


_OWN = "A test of your own in section 2, 3 or 4 finds it. Is it called?"
_NOISE = "With mu = 0 and log_var = 0, z is the noise alone. Which of its numbers must differ?"
_BENT = "No image shows it: ask for an output that this head can never give, by inputs far beyond any image."
WHOLE = Bench(
    passes=[
        *SOUND,
        Specimen(
            "a sound VAE that is sure of its codes",
            small(heads(lambda mu, log_var: (mu, (log_var - 4).clamp(-30, 20)))),
            "log_var is negative on all ordinary images here, as in many trained models. How far *can* it reach?",
        ),
    ],
    fails=[
        *(Specimen(f"Patient {n}", PATIENT[n], _OWN) for n in (1, 2, 5, 7, 8, 17)),
        *(Specimen(f"Patient {n}", PATIENT[n], _NOISE) for n in (3, 4)),
        Specimen("Patient 6", PATIENT[6], "Work out one loss by hand, for an output that you make up (section 4)."),
        Specimen("Patient 9", PATIENT[9], "How far do the decoder's outputs reach (section 5)?"),
        Specimen("Patient 16", PATIENT[16], _BENT),
        Specimen("a ReLU on mu", small(heads(lambda mu, log_var: (mu.relu(), log_var))), _BENT),
        Specimen("a tanh on mu", small(heads(lambda mu, log_var: (mu.tanh(), log_var))), _BENT),
    ],
    alarm="What does your test's assertion say there? Is a bound too tight, or a number copied from one run?",
)


EXERCISES = (
    Exercise(
        number="8.1",
        title="Is there a KL in this loss?",
        minutes=8,
        solution=test_far_codes_cost,
        hints=(
            "You need not train anything. `model.loss` takes any three tensors: give it the same logits twice, once "
            "with means at 0 and once with means far away. Which of the two losses must be greater?",
            "Call the model once and keep its logits and log_var. torch.zeros_like and torch.full_like make the means. "
            "Compare the two losses with `assert ... > ...`, and do it for +3 and for −3.",
            "logits, mu, log_var = model(x); home = model.loss((logits, torch.zeros_like(mu), log_var), x); then, for "
            "far in (−3.0, 3.0), assert model.loss((logits, torch.full_like(mu, far), log_var), x) > home.",
        ),
        passed="No trained model, no threshold and no luck: it asks the loss about outputs of your own choice.",
        judge=FAR_CODES,
    ),
    Exercise(
        number="8.2",
        title="As wide as it says",
        minutes=6,
        solution=test_spread,
        hints=(
            "Give the sampler a log_var that you know and look at what comes out. Is there a value of log_var at which "
            "the patient and a correct sampler do the same?",
            "x.new_full((20_000, 1), −1.0) has the dtype and the device of x. The samples' std should be e to the "
            "power −½. With 20,000 samples it is right within about one per cent; leave five.",
            "For value in (−4.0, −1.0, 2.0): z = model.reparameterize(torch.zeros_like(log_var), log_var), and assert "
            "that z.std() / math.exp(value / 2) lies between 0.95 and 1.05.",
        ),
        passed="The sampler is asked directly, so it does not matter how good the loss looks.",
        judge=SPREAD,
    ),
    Exercise(
        number="8.3",
        title="Does the encoder hear of the picture?",
        minutes=8,
        solution=test_encoder_hears_the_picture,
        hints=(
            "In the patient the encoder does get a gradient: from the KL. So which quantity must be differentiated, if "
            "only the way through the sample is to count?",
            "The logits know nothing of the KL. torch.autograd.grad, given their sum and mu, returns a tuple with one "
            "gradient; with allow_unused=True it is None where no path exists. retain_graph=True lets you ask twice.",
            "For mu and for log_var: (gradient,) = torch.autograd.grad(logits.sum(), ..., retain_graph=True, "
            "allow_unused=True), then assert that it is not None and that gradient.abs().max() > 0.",
        ),
        passed="Both ways are open: where the code lies, and how sure it is.",
        judge=TEACHES,
    ),
    Exercise(
        number="8.4",
        title="A loss per image",
        minutes=6,
        solution=test_loss_is_per_image,
        hints=(
            "Two batches of different size, and yet the same images and the same noise. How can one batch be made of "
            "another, without running the model again?",
            "Run the model once. torch.cat([t, t]) doubles each of the three tensors of its output, and x as well. "
            "model.loss takes the doubled tuple.",
            "once = model.loss(output, x), twice = model.loss(tuple(torch.cat([t, t]) for t in output), "
            "torch.cat([x, x])) and assert torch.isclose(once, twice, rtol=1e-4).",
        ),
        passed="The same images, the same noise, and only the size of the batch has changed.",
        judge=PER_IMAGE,
    ),
    Exercise(
        number="8.5",
        title="Is anybody listening?",
        minutes=6,
        solution=test_decoder_hears_the_condition,
        hints=(
            "Change the condition and nothing else. If you run the whole model twice, what else changes?",
            "Take one z, for example the means that encode returns, and decode it twice: with cond, and with a cond "
            "that is rolled along dim 1, in which every image has another class.",
            "z, _ = model.encode(x, cond); compare model.decode(z, cond) with model.decode(z, cond.roll(1, dims=1)) "
            "and assert that the largest absolute difference is greater than, say, 1e-5.",
        ),
        passed="One code, two classes, two pictures: only the decoder's hearing can be the reason.",
        judge=HEARS,
    ),
    Exercise(
        number="8.6",
        title="One test for a whole VAE",
        minutes=15,
        solution=test_vae,
        hints=(
            "Begin with the four tests that you have: call each with model and x. Then let the check tell you, one by "
            "one, which patients get through. What is the smallest question that this patient answers wrongly?",
            "Three questions are left: do the heads reach below −1.5 and above 1.5, where you make the input; is the "
            "noise another one in the next call and in the next row; do logits of 0 cost 784 log 2, and can the "
            "decoder give a logit below 0 and one above 1?",
            "Heads: mu, log_var = model.encode(100 * torch.randn_like(x)), and assert on min() and max() of each. "
            "Noise: call model.reparameterize twice with zeros, and assert `not torch.equal`, for the calls and for "
            "two rows. Decoder: the same as the heads. Loss: model.loss((x.new_zeros(len(x), 784), zeros, zeros), x).",
        ),
        passed="No sound model was refused, and no broken one got through.",
        checks=(WHOLE.as_check,),
    ),
)
