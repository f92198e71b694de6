"""Makes a lecture of a notebook: jupyter nbconvert --to slides --config course_utils/slides/config.py NOTEBOOK

The result is one file that needs no network. Cells with the tags below are left out.
"""

from pathlib import Path

c = get_config()  # noqa: F821  (nbconvert defines it)

c.SlidesExporter.extra_template_basedirs = [str(Path(__file__).resolve().parent)]
c.SlidesExporter.template_name = "course"
c.SlidesExporter.embed_images = True
c.SlidesExporter.TagRemovePreprocessor.enabled = True
c.SlidesExporter.TagRemovePreprocessor.remove_cell_tags = ["setup", "exercise", "widget", "self-test", "references"]
