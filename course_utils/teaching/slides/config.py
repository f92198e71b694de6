"""Makes lectures of notebooks: jupyter nbconvert --to slides --config course_utils/teaching/slides/config.py NOTEBOOK …

Cells with the tags below are left out. What does not fit on one slide goes on in the next: lecture/lecture.js.
"""

import re
from pathlib import Path

BADGE = re.compile(r"\[!\[[^]]*\]\([^)]*\)\]\([^)]*\)")


def shorten(notebook, resources):
    """Leave out the badges, which are no use on a slide."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = BADGE.sub("", cell.source)
    return notebook, resources


c = get_config()  # noqa: F821  (nbconvert defines it)

c.SlidesExporter.extra_template_basedirs = [str(Path(__file__).resolve().parent)]
c.SlidesExporter.template_name = "lecture"
c.SlidesExporter.preprocessors = [shorten]
c.SlidesExporter.exclude_input_prompt = c.SlidesExporter.exclude_output_prompt = True
c.SlidesExporter.reveal_theme = "white"
c.SlidesExporter.reveal_url_prefix = "https://unpkg.com/reveal.js@5.2.0"
c.SlidesExporter.mathjax_url = "https://cdnjs.cloudflare.com/ajax/libs/mathjax/2.7.7/MathJax.js"
c.TagRemovePreprocessor.enabled = True
c.TagRemovePreprocessor.remove_cell_tags = ["setup", "exercise", "widget", "self-test", "references"]
c.TagRemovePreprocessor.remove_input_tags = ["draw", "assert"]  # folded in a notebook: only the output is shown
