"""The site of the documentation: `make docs` builds it into build/docs, and asks the network for nothing.

Sphinx reads a copy of the pages (docs/_ext/stage.py), so that the pages here stay what a code host shows.
"""

import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))

import vicinal  # noqa: E402 - after the path

project = "vicinal"
author = "The vicinal developers"
project_copyright = author
release = version = vicinal.__version__
language = "en"

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_gallery.gen_gallery",
    "sphinx_copybutton",
    "docstrings",
    "website",
]

# -- pages: what GitHub reads, and directives in the pages that only this site has ---------------------------------------

source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
myst_heading_anchors = 6  # page.md#a-heading, as GitHub has it
myst_enable_extensions = ["colon_fence", "strikethrough", "tasklist"]
myst_url_schemes = {"http": None, "https": None, "mailto": None, "site": "{{path}}#{{fragment}}"}
suppress_warnings = ["myst.strikethrough"]  # which says no more than that only HTML shows it

# -- docstrings ----------------------------------------------------------------------------------------------------------

napoleon_numpy_docstring = False
napoleon_custom_sections = [("Convention", "params_style")]
napoleon_use_rtype = False
default_role = "name"  # of docstrings and of the gallery; Markdown has no default role
autodoc_mock_imports = ["lightning", "skorch", "transformers"]  # not installed where the site is built
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 60  # a longer one has a line per argument, and room for the link to the source
nitpicky = True  # a name of ours that leads nowhere is an error; those of others need the network to be looked up
nitpick_ignore_regex = [(r"py:.*", r"(?!vicinal\b).*")]

# -- the gallery: scripts that are run when they change; GALLERY=off runs none ---------------------------------------------

sphinx_gallery_conf = {
    "examples_dirs": str(HERE / "gallery"),
    "gallery_dirs": "gallery",
    "filename_pattern": r"plot_",
    "plot_gallery": os.environ.get("GALLERY") != "off",
    "abort_on_example_error": True,
    "backreferences_dir": "gallery/backreferences",
    "doc_module": ("vicinal",),
    "within_subsection_order": "website.Order",
    "reset_modules": ("website.look", "seaborn"),
    "download_all_examples": False,
    "notebook_extensions": set(),
    "write_computation_times": False,
    "min_reported_time": 1e9,  # a machine's, not the script's
    "show_signature": False,
    "thumbnail_size": (480, 320),
    "copyfile_regex": "",
}

# -- the look -------------------------------------------------------------------------------------------------------------

html_theme = "furo"
pygments_dark_style = "github-dark"
html_title = f"vicinal {release}"
html_static_path = ["_static"]
templates_path = ["_templates"]
html_favicon = "_static/icon.svg"
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_copy_source = False  # each page has its Markdown beside it (llms.py)
html_show_sphinx = False
html_domain_indices = False
html_theme_options = {
    "top_of_page_buttons": [],
    "light_css_variables": {
        "color-brand-primary": "#0b5cad",
        "color-brand-content": "#0b5cad",
        "color-brand-visited": "#5b3f9e",
        "color-sidebar-link-text--top-level": "var(--color-foreground-primary)",
        "font-stack": "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', 'Noto Sans', 'Liberation Sans', "
        "Arial, sans-serif",
        "font-stack--monospace": "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', "
        "'Liberation Mono', monospace",
    },
    "dark_css_variables": {
        "color-brand-primary": "#6cb6ff",
        "color-brand-content": "#6cb6ff",
        "color-brand-visited": "#b9a3ff",
        "color-code-background": "#1b1d21",
        "color-sidebar-link-text--top-level": "var(--color-foreground-primary)",
    },
}
html_sidebars = {
    "**": [
        "sidebar/brand.html",
        "sidebar/search.html",
        "sidebar/scroll-start.html",
        "sidebar/navigation.html",
        "sidebar/scroll-end.html",
    ]
}
copybutton_prompt_text = r"\$ |>>> |\.\.\. "
copybutton_prompt_is_regexp = True
copybutton_only_copy_prompt_lines = True
copybutton_exclude = ".linenos, .gp, .go"
