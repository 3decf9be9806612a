"""Placement: points to ask about, what a text for one is to be, and whether it lands there and is new.

Joins the two models, which do not know each other.
"""

from e2t_lib.placement.aims import Aiming
from e2t_lib.placement.metrics import LayoutJudge, PlacementMeter
from e2t_lib.placement.novelty import Novelty, novelty_of
from e2t_lib.placement.points import Gap, find_gaps, own_points, points_between, read_points

__all__ = [
    "Aiming",
    "Gap",
    "LayoutJudge",
    "Novelty",
    "PlacementMeter",
    "find_gaps",
    "novelty_of",
    "own_points",
    "points_between",
    "read_points",
]
