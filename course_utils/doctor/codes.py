"""Everything that the doctor can find: a stable code, a title, what to change, and where the course explains it."""

from typing import NamedTuple


class Code(NamedTuple):
    """What is the same for every finding with one code."""

    title: str
    section: str
    advice: str


CODES: dict[str, Code] = {
    "raises": Code("the model or its loss raises an error", "08 · How the clinic works",
        "Repair the line that the traceback names, then examine again."),
    "not-finite": Code("NaN or infinity on ordinary data", "03 · Why the network gives log σ²",
        "Find the first term that is not finite: an exp of a large number, a log of 0, a division by a σ of 0."),
    "one-head": Code("one head for both parameters", "08 · The first patient",
        "Give μ and log σ² a layer each (or one layer of 2L outputs, cut in two)."),
    "latents-averaged": Code("the latent dimensions are averaged into one", "08 · The first patient",
        "Take out the mean (or sum) over the latent axis: μ and log σ² are (B, L), and so is z."),
    "encoder-cut-off": Code("the reconstruction gives the encoder no gradient", "03 · Take the line out",
        "Sample with z = μ + σ·ε (or rsample()); no detach, no_grad, .data or sample() between encoder and decoder."),
    "head-activation": Code("an activation on the encoder's heads", "08 · The output and the data",
        "Let nothing follow the two heads: no ReLU, softplus, tanh or sigmoid on μ or log σ² (a softplus is for σ)."),
    "no-sampling": Code("nothing is sampled", "03 · Second way: move the samples",
        "Draw fresh noise in every forward pass, z = μ + exp(½ log σ²)·ε, and decode that z."),
    "noise-frozen": Code("the noise is the same at every call", "03 · What goes wrong",
        "Draw the noise inside the forward pass, without setting a seed there."),
    "noise-shared": Code("one noise for several numbers", "08 · The sampling",
        "Draw noise of the shape of μ: torch.randn_like(mu)."),
    "noise-not-normal": Code("the noise is not standard normal", "03 · Second way: move the samples",
        "Use torch.randn_like(mu); torch.rand_like is uniform on [0, 1]."),
    "sigma-exp-log-var": Code("σ = exp(log_var)", "03 · What goes wrong",
        "The standard deviation is exp(0.5 * log_var): log_var is log σ², so its exponential is σ²."),
    "sigma-mismatch": Code("the sampler and the KL mean different σ", "08 · The sampling",
        "Decide what the encoder's second output is (log σ², σ, …) and use it as that in the sampler and in the KL."),
    "no-kl": Code("there is no KL in the loss", "04 · A VAE without KL",
        "Add 0.5 * (mu**2 + log_var.exp() - 1 - log_var).sum(1), the KL of each example."),
    "kl-sign": Code("the KL enters with the wrong sign", "04 · What goes wrong",
        "A loss is minimised: recon + kl; kl = 0.5 * (mu**2 + log_var.exp() - 1 - log_var).sum(1) is never negative."),
    "kl-form": Code("the KL is not the closed form", "04 · One dimension, by hand",
        "Compare with 0.5 * (mu**2 + log_var.exp() - 1 - log_var).sum(1), term by term."),
    "kl-scale": Code("the KL is weighed far from 1", "05 · The scale trap",
        "Sum the KL over latent dimensions and the reconstruction over pixels, then average both over the batch."),
    "recon-averaged": Code("the reconstruction is averaged over pixels, the KL is not", "05 · The scale trap",
        "Sum the reconstruction term over the pixels of an example, then average over the batch."),
    "recon-sign": Code("the loss rewards bad reconstructions", "05 · A loss is a negative log-likelihood",
        "The reconstruction term is −log p(x|z), smallest where the output fits the data."),
    "recon-target": Code("the loss compares with the wrong example", "08 · The page to keep",
        "Compare row i of the output with row i of x, at equal shapes: no shuffled targets, no broadcast over rows."),
    "rows-mixed": Code("the rows of a batch are mixed", "08 · The page to keep",
        "Row i of what comes out is made of row i of x: no mean, roll or index over axis 0 (but in a graph)."),
    "loss-sign": Code("the loss is the ELBO itself", "02 · Push the logarithm inside",
        "The ELBO is maximised; return its negative as the loss."),
    "no-gradient": Code("the loss has no gradient", "08 · How the clinic works",
        "Return the tensor that was computed from the model's output: no .item(), float(), .detach() or numpy in it."),
    "loss-depends-on-batch": Code("the loss depends on the batch size", "08 · The objective's scale",
        "Take each term per example, (B,), then one mean over the batch for all of them."),
    "output-range": Code("the output's range fits neither likelihood nor data", "08 · The output and the data",
        "The likelihood decides: logits for BCE with logits, a sigmoid for BCE on probabilities, none for a Gaussian."),
    "double-sigmoid": Code("a sigmoid twice", "08 · The output and the data",
        "Keep one: logits with binary_cross_entropy_with_logits, or a sigmoid with binary_cross_entropy."),
    "data-range": Code("the data leave [0, 1]", "05 · What goes wrong",
        "Scale pixels with x / 255 and do not standardise them for this likelihood."),
    "saturation": Code("the loss breaks at saturated probabilities", "05 · From logits, not from probabilities",
        "Compute the cross-entropy from logits: F.binary_cross_entropy_with_logits."),
    "overflow": Code("nothing bounds log σ²", "03 · Why the network gives log σ²",
        "Begin with small weights in the log σ² head and clamp it where it is made: models.layers.LOG_VAR_RANGE."),
    "samples-at-evaluation": Code("the output varies in eval()", "06 · What goes wrong",
        "For reconstructions to look at or compare, decode μ; for an ELBO, sampling is right."),
    "train-eval-difference": Code("train() and eval() differ", "08 · Training and evaluation",
        "Call model.eval() before every evaluation, and give F.dropout training=self.training."),
    "condition-ignored-encoder": Code("the encoder does not see the condition", "07 · What goes wrong",
        "Join the condition to the encoder's input (unless q(z|x) without it is what you want)."),
    "condition-ignored-decoder": Code("the decoder does not see the condition", "08 · The condition",
        "Join the condition to z: self.decoder(torch.cat([z, cond], dim=-1))."),
    "decoder-ignores-z": Code("the decoder does not see z", "09 · A state, and its causes",
        "Follow z from the sampler to the decoder's first layer: it is lost or multiplied by 0 on the way."),
    "collapse": Code("the posterior has collapsed: q(z|x) is the prior", "09 · A state, and its causes",
        "This is a state, not its cause. Check the weight of the KL first; then train longer, or let that weight "
        "grow from 0 in the first epochs."),
    "unused-dimensions": Code("latent dimensions without effect", "04 · What each dimension carries",
        "If the decoder cannot see them, look for slicing of z or a wrong size; if training switched them off, "
        "fewer would do."),
}  # fmt: skip
