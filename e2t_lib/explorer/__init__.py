"""The map as a thing to click: a live widget for notebooks, and a page that opens from disk."""

from e2t_lib.explorer.page import write_page
from e2t_lib.explorer.widget import Explorer, explore

__all__ = ["Explorer", "explore", "write_page"]
