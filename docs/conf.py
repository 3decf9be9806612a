"""The site of the notebooks and pages, built by `make docs`; nothing is executed, and no page fetches anything.

Sphinx reads the project's root and not docs/ alone: a link from one page, notebook or file to another is then the same
on the site as in the repository.
"""

from importlib.metadata import distribution

from e2t_lib import __version__

project = "e2t"
author = "The e2t contributors"
copyright = f"{author}, Apache-2.0"
release = __version__

extensions = ["myst_nb"]
root_doc = "docs/index"
include_patterns = ["docs/*.md", "notebooks/**.ipynb", "*.md", "data/base_model/README.md"]
exclude_patterns = [".*", "build", "runs", "data/models", "**/.ipynb_checkpoints"]

nb_execution_mode = "off"  # the outputs are those committed, which the tests compare
nb_ipywidgets_js = {}  # would be fetched; the map to click needs a kernel in any case
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

# One file that holds all of MathJax: it draws formulas as SVG and so needs no fonts, nor anything from elsewhere.
mathjax_path = "tex-svg.js"
mathjax3_config = {"options": {"enableMenu": False}}  # its menu could fetch speech rules
MATHJAX = distribution("sphinx-mathjax-offline").locate_file(f"sphinx-mathjax-offline/static/mathjax/{mathjax_path}")

html_theme = "sphinx_book_theme"
html_title = "e2t"
html_static_path = ["_static", str(MATHJAX)]
html_css_files = ["e2t.css"]
html_extra_path = ["_extra"]  # build/docs/index.html, which leads to the first page
html_show_search_summary = False  # a browser lets no page from disk read another
html_show_sourcelink = False
html_context = {"default_mode": "auto"}  # light or dark, as the reader's system is
html_theme_options = {
    "logo": {"text": "e2t"},
    "show_navbar_depth": 1,
    "show_toc_level": 2,
    "use_download_button": False,
    "navbar_persistent": [],  # else a second search field, above the page
    "navigation_with_keys": False,
}
