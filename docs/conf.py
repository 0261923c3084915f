"""How the documentation site is built: ``make docs``. Nothing is fetched, and every warning is an error."""

import sys
from importlib.metadata import version as installed
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "extensions"))

project = "Pointland"
author = "The Pointland maintainers"
copyright = "The Pointland maintainers, Apache-2.0"
release = version = installed("pointland")

extensions = [
    "myst_nb",  # Markdown pages and notebooks
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "command_options",
    "mathml",
    "public_names",
]
exclude_patterns = ["extensions"]

# Markdown
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 4
myst_links_external_new_tab = False
nb_execution_mode = "off"  # tests run the notebooks

# docstrings
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_custom_sections = [
    ("Attributes", "params_style"),
    ("Cost", "returns_style"),
    ("Source", "returns_style"),
    ("Do not trust", "returns_style"),
]
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_class_signature = "mixed"
add_module_names = False
python_maximum_signature_line_length = 100
python_use_unqualified_type_names = True
default_role = "code"
nitpicky = True
nitpick_ignore_regex = [  # others' documentation, which is not fetched
    (r"py:class", r"(PIL|collections\.abc|faiss|jaxtyping|numpy|pathlib|pyarrow\.lib|rich|torch)\..*|Tensor|ndarray"),
    (r"py:class", r"\w+2DModel|UNet2DConditionModel|AutoencoderKL|CLIP\w+|DiffusionPipeline|LazyDistribution"),
    (r"py:obj", r"typing\.Literal.*"),
    (r"py:class", r"'[a-z0-9 ]*'"),  # the axes of a jaxtyping shape
    (r"py:func", r"os\.fsdecode"),
]

# pages
html_theme = "furo"
html_title = "Pointland"
html_math_renderer = "mathml"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
highlight_language = "none"  # indented blocks are commands; fenced ones name their language
pygments_style = "a11y-high-contrast-light"
pygments_dark_style = "a11y-high-contrast-dark"
