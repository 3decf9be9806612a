"""The dataset folder: load it, check it, build one from any documents. Importing this loads numpy only."""

from e2t_lib.dataset.build import build_dataset
from e2t_lib.dataset.checks import CheckReport, check_folder
from e2t_lib.dataset.loading import Dataset, load_dataset
from e2t_lib.dataset.records import Problem

__all__ = ["CheckReport", "Dataset", "Problem", "build_dataset", "check_folder", "load_dataset"]
