"""All that serves the notebooks: their first cell, claims, exercises, figures, widgets, lectures.

``from course_utils.teaching import check, claim, plotting`` loads what is named, when it is named.
"""

from importlib import import_module
from typing import Any

_HOME_OF = {
    "start_session": "session",
    "claim": "claims",
    "show": "display",
    "table": "tables",
    **dict.fromkeys(("check", "hint", "solution", "yours"), "exercises"),
    **dict.fromkeys(("explore_codes", "still_code_plane", "explore_elbo_gap", "still_elbo_gap"), "widgets"),
    **dict.fromkeys(("explore_samples", "still_samples", "explore_loss_scale", "still_loss_scale"), "widgets"),
    **dict.fromkeys(("explore_latents", "still_latents", "explore_style", "still_style"), "widgets"),
    **dict.fromkeys(("explore_flow", "still_flow", "explore_flow_path", "still_flow_path"), "widgets"),
    **dict.fromkeys(("explore_levels", "still_levels", "explore_code_swap", "still_code_swap"), "widgets"),
    **dict.fromkeys(("explore_flow", "still_flow", "explore_perception", "still_perception"), "widgets"),
    **dict.fromkeys(("explore_sigma_knob", "still_sigma_knob", "explore_rotation", "still_rotation"), "widgets"),
    **dict.fromkeys(("PosteriorGap", "explore_posterior_gap", "still_posterior_gap"), "widgets"),
}
_MODULES = ("clinic", "comparison", "diagrams", "plotting", "widgets")

__all__ = [*_HOME_OF, *_MODULES]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
