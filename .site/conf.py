"""Sphinx' settings for the website. `build.py` hands it pages made from the notebooks."""

from math_core import LatexToMathML

from course_utils.teaching.session import REPOSITORY

project = "Variational autoencoders"
extensions = ["myst_nb"]
exclude_patterns = []
nb_execution_mode = "off"  # what the notebooks store is shown
nb_code_prompt_show = "Show the code"
nb_code_prompt_hide = "Hide the code"
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
smartquotes = False

html_theme = "furo"
html_title = project
html_static_path = ["static"]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_copy_source = html_show_sourcelink = html_show_sphinx = html_show_copyright = False
html_use_index = False
html_math_renderer = "mathml"
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#00568c", "color-brand-content": "#00568c"},
    "dark_css_variables": {"color-brand-primary": "#7cc4f0", "color-brand-content": "#7cc4f0"},
    "footer_icons": [
        {"name": "The course on GitHub", "url": f"https://github.com/{REPOSITORY}", "html": "GitHub", "class": ""}
    ],
}
_mathml = LatexToMathML(annotation=False, fancy_error=False)  # LatexError, and no site, for what it does not know


def setup(app):
    """Formulas as MathML, which a browser draws without a script."""
    from docutils.nodes import SkipNode

    def visit(tag, display):
        def write(writer, node):
            markup = _mathml.convert_with_local_state(node.astext(), displaystyle=display)
            long = " long" if len(node.astext()) > 60 else ""
            writer.body.append(f'<{tag} class="math{long}">{markup}</{tag}>')
            raise SkipNode

        return write

    app.add_html_math_renderer("mathml", (visit("span", False), None), (visit("div", True), None))
