"""The interactive explorers, their drawing classes, and the still pictures that stand before them.

One module for each explorer. A picture is drawn by a small class whose `render` returns PNG bytes, so that it
can be tested without a browser; the panel around it only connects sliders with it.
"""

from course_utils.widgets.clinic import SigmaKnob, explore_sigma_knob, still_sigma_knob
from course_utils.widgets.code_plane import CodePlane, explore_codes, still_code_plane
from course_utils.widgets.digit_style import DigitStyle, explore_style, still_style
from course_utils.widgets.latent_explorer import LatentExplorer, explore_latents, still_latents

__all__ = [
    "CodePlane",
    "DigitStyle",
    "LatentExplorer",
    "SigmaKnob",
    "explore_codes",
    "explore_latents",
    "explore_sigma_knob",
    "explore_style",
    "still_code_plane",
    "still_latents",
    "still_sigma_knob",
    "still_style",
]
