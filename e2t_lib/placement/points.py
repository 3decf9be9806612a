"""Points to ask about: documents' own, between documents, and gaps, the emptiest places inside the map."""

import csv
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.spatial import Delaunay, QhullError
from sklearn.neighbors import NearestNeighbors

from e2t_lib.errors import E2TError

NEAR = 5  # neighbours that a point between documents may have on its other side
AROUND = 30  # documents that must surround a gap
OPEN_ANGLE = 2 / 3 * np.pi  # the widest view, in radians, that they may leave open
DENSITY = 0.01  # share of the documents that are as far from their neighbours as a gap may be


@dataclass(frozen=True)
class Gap:
    """An empty place inside the map.

    Attributes:
        x, y: its centre, in the layout's own units.
        radius: distance to the nearest documents, of which there are three.
    """

    x: float
    y: float
    radius: float


def own_points(coordinates: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Places of documents, chosen at random: (count, 2), or of all, if there are fewer."""
    chosen = np.random.default_rng(seed).choice(len(coordinates), min(count, len(coordinates)), replace=False)
    return coordinates[chosen].astype(float)


def points_between(coordinates: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Half way from documents, chosen at random, to one of their five nearest neighbours each: (count, 2)."""
    random = np.random.default_rng(seed)
    chosen = random.choice(len(coordinates), min(count, len(coordinates)), replace=False)
    index = NearestNeighbors(n_neighbors=min(NEAR, len(coordinates) - 1)).fit(coordinates)
    near = index.kneighbors(return_distance=False)[chosen]
    other = random.permuted(near, axis=1)[:, 0]
    return (coordinates[chosen].astype(float) + coordinates[other]) / 2


def find_gaps(coordinates: np.ndarray, count: int) -> list[Gap]:
    """The emptiest places inside the map, the emptiest first; fewer than `count` where there are no more.

    The largest circles without a document have three documents on their rim, so their centres are the corners of the
    Voronoi cells (Toussaint, 1983, "Computing largest empty circles with location constraints"). Inside the map is
    what documents surround, and what is no farther from its tenth document than the loneliest hundredth of the
    documents are from theirs. No two gaps overlap by more than the smaller one's radius.

    Args:
        coordinates: (n, 2).
        count: how many at most.

    Raises:
        E2TError: all documents lie on one line, or are too few.
    """
    coordinates = np.asarray(coordinates, dtype=float)
    centres = _voronoi_corners(coordinates)
    index = NearestNeighbors(n_neighbors=min(AROUND, len(coordinates) - 1)).fit(coordinates)
    distances, near = index.kneighbors(centres)
    tenth = min(10, distances.shape[1]) - 1
    lonely = np.quantile(index.kneighbors()[0][:, tenth], 1 - DENSITY)
    inside = (distances[:, tenth] <= lonely) & (_open_angle(coordinates[near] - centres[:, None]) <= OPEN_ANGLE)
    centres, radii = centres[inside], distances[inside, 0]
    gaps: list[Gap] = []
    for row in np.argsort(-radii, kind="stable"):
        if len(gaps) == count:
            break
        x, y = centres[row]
        if all(np.hypot(gap.x - x, gap.y - y) >= gap.radius for gap in gaps):
            gaps.append(Gap(float(x), float(y), float(radii[row])))
    return gaps


def read_points(path: str | Path) -> np.ndarray:
    """Points from a file, one a line: JSON objects with x and y, or CSV, "x,y", with or without a header.

    Returns:
        (m, 2) float64.

    Raises:
        E2TError: the file cannot be read, holds no point, or a line is none; names the line.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise E2TError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise E2TError(f"{path}: cannot be read ({error})") from None
    numbered = [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    if numbered and [name.strip() for name in next(csv.reader([numbered[0][1]]), [])] == ["x", "y"]:
        numbered = numbered[1:]
    if not numbered:
        raise E2TError(f"{path}: holds no point; give one a line, as x,y or as JSON with x and y")
    return np.array([_point(line, f"{path}, line {number}") for number, line in numbered])


def _point(line: str, where: str) -> tuple[float, float]:
    try:
        if line.lstrip().startswith("{"):
            record = json.loads(line)
            point = float(record["x"]), float(record["y"])
        else:
            x, y = next(csv.reader([line]))
            point = float(x), float(y)
    except (ValueError, KeyError, TypeError, OverflowError, StopIteration, csv.Error):
        raise E2TError(f"{where}: {line.strip()[:60]!r} is no point; give x,y or JSON with x and y") from None
    if not np.isfinite(point).all():
        raise E2TError(f"{where}: {line.strip()[:60]!r} is not finite")
    return point


def _voronoi_corners(coordinates: np.ndarray) -> np.ndarray:
    """Centres of the circles through the corners of each Delaunay triangle, (t, 2)."""
    try:
        triangles = coordinates[Delaunay(coordinates).simplices]
    except (QhullError, ValueError):
        raise E2TError(f"{len(coordinates)} coordinates on one line: they have no inside to look for gaps in") from None
    origin, b, c = triangles[:, 0], triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]
    twice = 2 * (b[:, 0] * c[:, 1] - b[:, 1] * c[:, 0])
    flat = np.abs(twice) < 1e-12 * np.ptp(coordinates) ** 2
    b2, c2 = (b**2).sum(axis=1), (c**2).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        x = (c[:, 1] * b2 - b[:, 1] * c2) / twice
        y = (b[:, 0] * c2 - c[:, 0] * b2) / twice
    return (origin + np.stack([x, y], axis=1))[~flat]


def _open_angle(offsets: np.ndarray) -> np.ndarray:
    """The widest angle without a document as seen from each place, (m,), of offsets (m, k, 2) to the documents."""
    angles = np.sort(np.arctan2(offsets[..., 1], offsets[..., 0]), axis=1)
    around = np.concatenate([angles, angles[:, :1] + 2 * np.pi], axis=1)
    return np.diff(around, axis=1).max(axis=1)
