"""The interactive explorers, their drawing classes, and the still pictures that stand before them.

One module for each explorer. A picture is drawn by a small class whose `render` returns PNG bytes, so that it
can be tested without a browser; the panel around it only connects sliders with it.
"""

from course_utils.teaching.widgets.clinic import SigmaKnob, explore_sigma_knob, still_sigma_knob
from course_utils.teaching.widgets.code_plane import explore_codes, still_code_plane
from course_utils.teaching.widgets.code_swap import explore_code_swap, still_code_swap
from course_utils.teaching.widgets.digit_style import explore_style, still_style
from course_utils.teaching.widgets.elbo_gap import explore_elbo_gap, still_elbo_gap
from course_utils.teaching.widgets.flow_layers import explore_flow, still_flow
from course_utils.teaching.widgets.flow_path import explore_flow_path, still_flow_path
from course_utils.teaching.widgets.kl_explorer import explore_kl, still_kl
from course_utils.teaching.widgets.latent_explorer import explore_latents, still_latents
from course_utils.teaching.widgets.levels import explore_levels, still_levels
from course_utils.teaching.widgets.linear_collapse import explore_linear_collapse, still_linear_collapse
from course_utils.teaching.widgets.loss_scale import explore_loss_scale, still_loss_scale
from course_utils.teaching.widgets.perception import explore_perception, still_perception
from course_utils.teaching.widgets.posterior_gap import PosteriorGap, explore_posterior_gap, still_posterior_gap
from course_utils.teaching.widgets.reparameterized import explore_samples, still_samples
from course_utils.teaching.widgets.rotation import explore_rotation, still_rotation

__all__ = [
    "PosteriorGap", "SigmaKnob", "explore_code_swap", "explore_codes", "explore_elbo_gap", "explore_flow",
    "explore_flow_path", "explore_kl", "explore_latents", "explore_levels", "explore_linear_collapse",
    "explore_loss_scale", "explore_perception", "explore_posterior_gap", "explore_rotation", "explore_samples",
    "explore_sigma_knob", "explore_style", "still_code_plane", "still_code_swap", "still_elbo_gap", "still_flow",
    "still_flow_path", "still_kl", "still_latents", "still_levels", "still_linear_collapse", "still_loss_scale",
    "still_perception", "still_posterior_gap", "still_rotation", "still_samples", "still_sigma_knob", "still_style",
]  # fmt: skip
