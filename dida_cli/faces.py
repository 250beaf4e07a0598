"""Finding faces in photos, and laying each as the pictures lie that models of faces learned from.

The detector is MTCNN (Zhang, Zhang, Li, Qiao, 2016): three small networks, each asked of what the
one before left over. Points are in pixels, x to the right and y down, (0, 0) the corner of the
picture; left is the left of the picture. A face's five points are left eye, right eye, nose, left
and right corner of the mouth.
"""

import functools
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from dida_cli import checkpoint, images
from dida_cli.config import DRAWN_MODEL
from dida_cli.errors import DidaError
from dida_cli.images import Picture

WEIGHTS = Path(__file__).parent / "mtcnn" / "weights.safetensors"  # its licences beside it
LONGEST = 1024  # pixels of a picture's longer side that the detector sees at most
SMALLEST = 0.05  # of a picture's shorter side, a face at least
LEAST = 20  # pixels of what the detector sees, a face at least
SHRUNK = 0.709  # from one size of the pyramid to the next
# Where eyes and the middle of the mouth lie in the square of a face, of its side.
TEMPLATE = np.array([[40, 56], [102, 56], [71, 124]]) / 144
TURNED = 0.3  # of the distance of the eyes: how far the nose is off their middle
SMALL = 12  # pixels from eye to eye
FADE = 0.03  # of the side of a face's square, at its border


class Face(NamedTuple):
    """A face that was found: its box (left, top, right, bottom), score, and points (5, 2)."""

    box: np.ndarray
    score: float
    points: np.ndarray

    @property
    def eyes(self) -> float:
        """Pixels from eye to eye."""
        return float(np.hypot(*(self.points[1] - self.points[0])))

    @property
    def yaw(self) -> float:
        """How far the head is turned to the right: the nose's way from the middle of the eyes,
        along the line through them, of their distance."""
        left, right, nose = self.points[:3]
        way = right - left
        return float((nose - (left + right) / 2) @ way / (way @ way))


@dataclass(frozen=True)
class Placement:
    """Where the square of a face lies: the affine map that takes the unit square into the picture.

    matrix (2, 3): x, y of the picture = matrix @ (u, v, 1), u and v from 0 to 1 in the square.
    """

    matrix: np.ndarray

    @property
    def side(self) -> float:
        """The side of a square of the same area, in pixels of the picture; 0 if it is mirrored."""
        return float(np.sqrt(max(0.0, np.linalg.det(self.matrix[:, :2]))))

    @property
    def corners(self) -> np.ndarray:
        """The corners of the square in the picture: (4, 2)."""
        return self.at(np.array([[0, 0], [1, 0], [1, 1], [0, 1]]))

    def at(self, points: np.ndarray) -> np.ndarray:
        """Where points of the square (n, 2) are in the picture: (n, 2)."""
        there: np.ndarray = np.column_stack([points, np.ones(len(points))]) @ self.matrix.T
        return there


def placement(points: np.ndarray) -> Placement:
    """How a face with these five points lies: eyes and the middle of the mouth come to lie where
    the template has them, so that parts of one face fit another."""
    found = np.stack([points[0], points[1], (points[3] + points[4]) / 2])
    return Placement(np.linalg.solve(np.column_stack([TEMPLATE, np.ones(3)]), found).T)


def cut(picture: Picture, where: Placement, side: int, margin: float = 0.0) -> Picture:
    """The square of a face, and `margin` times its side more on each, as side x side pixels.

    Beyond the picture its edge goes on.
    """
    grown = 1 + 2 * margin
    turn, corner = where.matrix[:, :2] * grown, where.matrix @ [-margin, -margin, 1]
    shrunk = min(1.0, side / (where.side * grown))  # first, since going between skips pixels
    if shrunk < 1:
        size = _shrunk(picture, shrunk)
        scale = np.array(size) / picture.size
        picture = picture.resize(size, Image.Resampling.BOX, reducing_gap=2)
        turn, corner = scale[:, None] * turn, scale * corner
    picture, corner = _continued(picture, turn, corner)
    (a, b), (d, e) = turn / side
    c, f = corner
    way = (a, b, c, d, e, f)
    return picture.transform((side, side), Image.Transform.AFFINE, way, Image.Resampling.BICUBIC)


def _shrunk(picture: Picture, scale: float) -> tuple[int, int]:
    """Its size by a scale, at least a pixel."""
    return max(1, round(picture.width * scale)), max(1, round(picture.height * scale))


def _continued(
    picture: Picture, turn: np.ndarray, corner: np.ndarray
) -> tuple[Picture, np.ndarray]:
    """What of a picture a square reaches, its edges going on where it reaches beyond."""
    ends = corner + np.array([[0, 0], [1, 0], [0, 1], [1, 1]]) @ turn.T
    low = np.floor(ends.min(0)).astype(int) - 3
    high = np.ceil(ends.max(0)).astype(int) + 3
    pixels = np.asarray(picture)
    rows = np.arange(low[1], high[1]).clip(0, picture.height - 1)
    columns = np.arange(low[0], high[0]).clip(0, picture.width - 1)
    return Image.fromarray(pixels[rows[:, None], columns]), corner - low


@dataclass(frozen=True)
class Laid:
    """The square of a face in a picture of a size (width, height): an `images.Area`.

    What is painted fades at the border of the square, where no hard line may stay.
    """

    where: Placement
    size: tuple[int, int]

    @property
    def box(self) -> tuple[int, int, int, int]:
        low = np.floor(self.where.corners.min(0)).astype(int).clip(0, self.size)
        high = np.ceil(self.where.corners.max(0)).astype(int).clip(low, self.size)
        return (int(low[0]), int(low[1]), int(high[0]), int(high[1]))

    def cut(self, picture: Picture, side: int) -> Picture:
        return cut(images.flat(picture), self.where, side)

    def laid(self, values: np.ndarray, top: int, rows: int) -> np.ndarray:
        left, upper, right, _ = self.box
        count = min(values.shape[1], max(1, round(self.where.side)))  # pixels of the square
        inverse = count * np.linalg.inv(self.where.matrix[:, :2])
        shift = inverse @ (np.array([left, upper + top]) - self.where.matrix[:, 2])
        way = (*inverse[0], shift[0], *inverse[1], shift[1])
        laid = (
            Image.fromarray(channel)
            .resize((count, count), Image.Resampling.BOX)
            .transform((right - left, rows), Image.Transform.AFFINE, way, Image.Resampling.BICUBIC)
            for channel in values * _fade(values.shape[1])
        )
        return np.stack([np.asarray(channel) for channel in laid], axis=-1)


def _fade(side: int) -> np.ndarray:
    """1 within, falling to 0 at the border: float32 (side, side)."""
    way = np.arange(side) + 0.5
    edge = (np.minimum(way, side - way) / (FADE * side)).clip(0, 1)
    fade: np.ndarray = np.minimum(edge[:, None], edge).astype(np.float32)
    return fade


@dataclass(frozen=True)
class Choice:
    """Which faces of a picture are edited.

    Attributes:
        which: the largest, all, or the one of this number: 1 is the largest, 2 the next.
        points: where one face lies, (5, 2) in pixels as in `Face`; nothing is looked for then.
        aligned: pictures are the square of a face already.
        strict: what is only warned of, as a turned head or a small face, is refused.
    """

    which: Literal["largest", "all"] | int = "largest"
    points: tuple[tuple[float, float], ...] = ()
    aligned: bool = False
    strict: bool = False

    @property
    def is_only_strict(self) -> bool:
        """Whether nothing is said of faces."""
        return self == Choice(strict=True)


def areas(picture: Picture, choice: Choice, name: str) -> list[images.Area]:
    """Where the faces that are to be edited lie in an upright picture.

    Warns of heads that are turned and of small faces. Raises DidaError, naming the picture, when
    there is no face.
    """
    if choice.aligned:
        return [images.area(picture, images.Square(1))]
    if choice.points:
        told = Laid(placement(np.array(choice.points)), picture.size)
        if told.where.side < 1:  # mirrored, or in a line
            raise DidaError(f"{name}: the landmarks do not lie as those of a face; see --help")
        return [told]
    found = find(images.flat(picture))
    if not found:
        raise DidaError(
            f"{name}: no face is found in it; give one that looks at you, or say where it is by "
            f"--landmarks or --aligned; drawings are known to -m {DRAWN_MODEL}"
        )
    if isinstance(choice.which, int):
        if choice.which > len(found):
            raise DidaError(f"{name}: has {len(found)} faces; --face takes 1 to {len(found)}")
        found = found[choice.which - 1 :][:1]
    elif choice.which == "largest":
        found = found[:1]
    for face in found:
        if words := _unlike(face):
            if choice.strict:
                raise DidaError(f"{name}: {words}; without --strict it is edited all the same")
            warnings.warn(f"{name}: {words}; the edit may fail", stacklevel=3)
    return [Laid(placement(face.points), picture.size) for face in found]


def _unlike(face: Face) -> str:
    """What makes a face unlike those that models learned from; empty if nothing does."""
    if face.eyes < SMALL:
        return f"the face is small, {face.eyes:.0f} pixels from eye to eye"
    return "the head is turned" if abs(face.yaw) > TURNED else ""


def fit(picture: Picture, square: images.Square, name: str) -> Picture:
    """The square of the largest face in an RGB picture, and a margin, as a training sees it.

    Raises DidaError naming the picture when there is no face in it.
    """
    if not (found := find(picture)):
        raise DidaError(f"{name}: no face is found in it; give a picture of a face")
    return cut(picture, placement(found[0].points), square.side, square.margin)


@torch.inference_mode()
def find(picture: Picture) -> list[Face]:
    """The faces in an upright RGB picture, the largest first."""
    proposals, second, third = detector()
    scale = min(1.0, LONGEST / max(picture.size))
    size = _shrunk(picture, scale)
    seen = picture.resize(size, Image.Resampling.BOX) if scale < 1 else picture
    pixels = torch.from_numpy(images.pixels(seen))[None].float()
    boxes = _proposed(proposals, pixels)
    scores, points = boxes.new_zeros(len(boxes)), boxes.new_zeros(len(boxes), 5, 2)
    for network, overlap in ((second, 0.7), (third, 0.4)):
        if not len(boxes):
            return []
        boxes = _squared(boxes)
        scores, moves, along = network(_crops(pixels, boxes, network.side))
        points = boxes[:, None, :2] + along * _sizes(boxes)[:, None]
        boxes = _moved(boxes, moves)
        sure = (scores > network.sure).nonzero()[:, 0]
        kept = sure[_without_doubles(boxes[sure], scores[sure], overlap)]
        boxes, scores, points = boxes[kept], scores[kept], points[kept]
    ratio = np.array(picture.size) / size
    found = [
        Face(box.numpy() * np.tile(ratio, 2), float(score), five.numpy() * ratio)
        for box, score, five in zip(boxes, scores, points, strict=True)
    ]
    faces = [face for face in found if placement(face.points).side >= 1]
    return sorted(faces, key=lambda face: -np.prod(face.box[2:] - face.box[:2]))


class _Proposals(nn.Module):
    """Whether each 12 x 12 pixels of a picture, 2 apart, may be a face, and how to move it."""

    side, sure = 12, 0.6

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.prelu1 = nn.Conv2d(3, 10, 3), nn.PReLU(10)
        self.conv2, self.prelu2 = nn.Conv2d(10, 16, 3), nn.PReLU(16)
        self.conv3, self.prelu3 = nn.Conv2d(16, 32, 3), nn.PReLU(32)
        self.conv4_1, self.conv4_2 = nn.Conv2d(32, 2, 1), nn.Conv2d(32, 4, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = F.max_pool2d(self.prelu1(self.conv1(x)), 2, 2, ceil_mode=True)
        x = self.prelu3(self.conv3(self.prelu2(self.conv2(x))))
        return self.conv4_1(x).softmax(1)[:, 1], self.conv4_2(x)


class _Second(nn.Module):
    """Whether crops are faces, how to move their boxes, and no points yet."""

    side, sure = 24, 0.7

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.prelu1 = nn.Conv2d(3, 28, 3), nn.PReLU(28)
        self.conv2, self.prelu2 = nn.Conv2d(28, 48, 3), nn.PReLU(48)
        self.conv3, self.prelu3 = nn.Conv2d(48, 64, 2), nn.PReLU(64)
        self.dense4, self.prelu4 = nn.Linear(576, 128), nn.PReLU(128)
        self.dense5_1, self.dense5_2 = nn.Linear(128, 2), nn.Linear(128, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = F.max_pool2d(self.prelu1(self.conv1(x)), 3, 2, ceil_mode=True)
        x = F.max_pool2d(self.prelu2(self.conv2(x)), 3, 2, ceil_mode=True)
        x = self.prelu4(self.dense4(self.prelu3(self.conv3(x)).flatten(1)))
        return self.dense5_1(x).softmax(1)[:, 1], self.dense5_2(x), x.new_zeros(x.shape[0], 5, 2)


class _Third(nn.Module):
    """Whether crops are faces, how to move their boxes, and the five points, of the box's size."""

    side, sure = 48, 0.9

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.prelu1 = nn.Conv2d(3, 32, 3), nn.PReLU(32)
        self.conv2, self.prelu2 = nn.Conv2d(32, 64, 3), nn.PReLU(64)
        self.conv3, self.prelu3 = nn.Conv2d(64, 64, 3), nn.PReLU(64)
        self.conv4, self.prelu4 = nn.Conv2d(64, 128, 2), nn.PReLU(128)
        self.dense5, self.prelu5 = nn.Linear(1152, 256), nn.PReLU(256)
        self.dense6_1, self.dense6_2 = nn.Linear(256, 2), nn.Linear(256, 4)
        self.dense6_3 = nn.Linear(256, 10)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = F.max_pool2d(self.prelu1(self.conv1(x)), 3, 2, ceil_mode=True)
        x = F.max_pool2d(self.prelu2(self.conv2(x)), 3, 2, ceil_mode=True)
        x = F.max_pool2d(self.prelu3(self.conv3(x)), 2, 2, ceil_mode=True)
        x = self.prelu5(self.dense5(self.prelu4(self.conv4(x)).flatten(1)))
        points = self.dense6_3(x).view(-1, 2, 5).transpose(1, 2)
        return self.dense6_1(x).softmax(1)[:, 1], self.dense6_2(x), points


@functools.cache
def detector() -> tuple[_Proposals, _Second, _Third]:
    """The three networks, in eval mode; read once."""
    made = nn.ModuleDict({"pnet": _Proposals(), "rnet": _Second(), "onet": _Third()})
    like = {name: value.half() for name, value in made.state_dict().items()}
    made.load_state_dict(checkpoint.read_tensors(WEIGHTS, like))
    proposals, second, third = made.eval().requires_grad_(False).values()
    assert isinstance(proposals, _Proposals)
    assert isinstance(second, _Second) and isinstance(third, _Third)
    return proposals, second, third


def _proposed(network: _Proposals, pixels: Tensor) -> Tensor:
    """What may be faces, of every size: boxes (n, 4)."""
    height, width = pixels.shape[2:]
    scale = network.side / max(LEAST, SMALLEST * min(height, width))
    found = [(pixels.new_zeros(0, 4), pixels.new_zeros(0))]
    while min(height, width) * scale >= network.side:
        size = (int(height * scale) + 1, int(width * scale) + 1)
        said, moves = network(_normed(F.interpolate(pixels, size, mode="area")))
        rows, columns = (said[0] >= network.sure).nonzero(as_tuple=True)
        corner = torch.stack([columns, rows], 1).float() * 2 / scale
        boxes = torch.cat([corner, corner + network.side / scale], 1)
        scores = said[0, rows, columns]
        kept = _without_doubles(boxes, scores, 0.5)
        found.append((_moved(boxes, moves[0][:, rows, columns].T)[kept], scores[kept]))
        scale *= SHRUNK
    boxes, scores = (torch.cat(one) for one in zip(*found, strict=True))
    return boxes[_without_doubles(boxes, scores, 0.7)]


def _normed(pixels: Tensor) -> Tensor:
    return (pixels - 127.5) / 128


def _sizes(boxes: Tensor) -> Tensor:
    """Width and height of boxes: (n, 2)."""
    return boxes[:, 2:] - boxes[:, :2]


def _moved(boxes: Tensor, moves: Tensor) -> Tensor:
    """Boxes whose corners are moved by so much of their sizes."""
    return boxes + moves * _sizes(boxes).repeat(1, 2)


def _squared(boxes: Tensor) -> Tensor:
    """Squares around the same middles, as wide as the longer sides."""
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = _sizes(boxes).amax(1, keepdim=True) / 2
    return torch.cat([middle - half, middle + half], 1)


def _crops(pixels: Tensor, boxes: Tensor, side: int) -> Tensor:
    """What lies in boxes, shrunk or enlarged: (n, 3, side, side), normed; black beyond the edge."""
    height, width = pixels.shape[2:]
    made = []
    for left, top, right, bottom in boxes.round().int().tolist():
        right, bottom = max(right, left + 1), max(bottom, top + 1)
        inside = pixels[..., max(0, top) : max(0, bottom), max(0, left) : max(0, right)]
        beyond = (max(0, -left), max(0, right - width), max(0, -top), max(0, bottom - height))
        made.append(F.interpolate(F.pad(inside, beyond), (side, side), mode="area"))
    return _normed(torch.cat(made))


def _without_doubles(boxes: Tensor, scores: Tensor, most: float) -> Tensor:
    """Places of boxes, the best first, that no better one overlaps by more than `most` of both."""
    order = scores.argsort(descending=True, stable=True)
    corners, areas = boxes[order], _sizes(boxes[order]).prod(1)
    alive = torch.ones(len(order), dtype=torch.bool)
    for place in range(len(order)):
        if not alive[place]:
            continue
        rest = corners[place + 1 :]
        low, high = (
            torch.maximum(rest[:, :2], corners[place, :2]),
            torch.minimum(rest[:, 2:], corners[place, 2:]),
        )
        shared = (high - low).clamp(min=0).prod(1)
        alive[place + 1 :] &= shared <= most * (areas[place + 1 :] + areas[place] - shared)
    return order[alive]
