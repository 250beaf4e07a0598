"""Finding faces, and how they are laid: on machine-made faces, which are nobody's."""

import io

import numpy as np
import pytest
from conftest import machine_made
from PIL import Image

from dida_cli import faces, images
from dida_cli.errors import DidaError

MADE = ("sfhq_0000.jpg", "sfhq_0004.jpg", "sfhq_0007.jpg")


@pytest.fixture(scope="module")
def people() -> list[images.Picture]:
    return [images.read(io.BytesIO(machine_made(name))) for name in MADE]


def on_canvas(face: images.Picture, size: tuple[int, int], at: tuple[int, int]) -> images.Picture:
    canvas = Image.new("RGB", size, (90, 120, 150))
    canvas.paste(face, at)
    return canvas


def five(where: faces.Placement) -> np.ndarray:
    """Points that lie as the template says, in a square that lies so."""
    eye, other, mouth = where.at(faces.TEMPLATE)
    across = (other - eye) / 4
    return np.stack([eye, other, (eye + other + mouth) / 3, mouth - across, mouth + across])


def test_each_face_is_found_once_with_its_points(people: list[images.Picture]) -> None:
    for person in people:
        (face,) = faces.find(person)
        left, right, nose, *mouth = face.points
        assert left[0] < nose[0] < right[0] and mouth[0][0] < mouth[1][0]
        assert max(left[1], right[1]) < nose[1] < min(corner[1] for corner in mouth)
        assert 50 < face.eyes < 75 and abs(face.yaw) < 0.15 and face.score > 0.9


def test_points_move_with_the_face_and_grow_with_it(people: list[images.Picture]) -> None:
    (near,) = faces.find(people[0])
    (moved,) = faces.find(on_canvas(people[0], (500, 400), (170, 90)))
    np.testing.assert_allclose(moved.points, near.points + np.array([170, 90]), atol=2.5)
    large = people[0].resize((576, 576), Image.Resampling.LANCZOS)
    (grown,) = faces.find(on_canvas(large, (1700, 1500), (300, 200)))  # seen smaller than it is
    np.testing.assert_allclose(grown.points, 3 * near.points + np.array([300, 200]), atol=8)


def test_several_faces_are_found_the_largest_first(people: list[images.Picture]) -> None:
    canvas = on_canvas(people[0], (460, 230), (10, 20))
    canvas.paste(people[1].resize((120, 120), Image.Resampling.LANCZOS), (300, 60))
    one, other = faces.find(canvas)
    assert one.eyes > other.eyes and one.points[0][0] < 200 < 300 < other.points[0][0]


def test_where_there_is_no_face_none_is_found() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    for picture in (Image.fromarray(noise), Image.new("RGB", (5, 3)), Image.new("RGB", (800, 9))):
        assert faces.find(picture) == []
    with pytest.raises(DidaError, match=r"sea\.jpg: no face is found in it"):
        faces.fit(Image.fromarray(noise), images.Square(64, "face"), "sea.jpg")


@pytest.mark.parametrize("turn", [-25, 0, 40])
def test_a_square_lies_as_the_points_do(turn: float) -> None:
    cos, sin = 80 * np.cos(np.deg2rad(turn)), 80 * np.sin(np.deg2rad(turn))
    where = faces.Placement(np.array([[cos, -sin, 30], [sin, cos, 55]]))
    found = faces.placement(five(where))
    np.testing.assert_allclose(found.matrix, where.matrix, atol=1e-9)
    assert found.side == pytest.approx(80)
    points = five(where)
    assert faces.Face(np.zeros(4), 1, points).yaw == pytest.approx(0, abs=1e-9)
    points[2] += 0.4 * (points[1] - points[0])
    assert faces.Face(np.zeros(4), 1, points).yaw == pytest.approx(0.4)


def test_eyes_and_mouth_of_every_face_come_to_lie_in_the_same_places() -> None:
    long = np.array([[30.0, 41], [62, 35], [53, 60], [41, 94], [63, 92]])
    where = faces.placement(long)
    np.testing.assert_allclose(where.at(faces.TEMPLATE), [[30, 41], [62, 35], [52, 93]])
    assert where.side == pytest.approx(np.sqrt(np.linalg.det(where.matrix[:, :2])))
    assert faces.placement(long[[1, 0, 2, 4, 3]]).side == 0  # mirrored


def test_a_cut_shows_what_lies_in_the_square() -> None:
    y, x = np.mgrid[:200, :300]
    picture = Image.fromarray(np.stack([x * 0.8, y * 1.2, x * 0], -1).astype(np.uint8))
    straight = faces.Placement(np.array([[64.0, 0, 40], [0, 64.0, 30]]))
    exact = np.asarray(picture.crop((40, 30, 104, 94)))
    assert np.array_equal(np.asarray(faces.cut(picture, straight, 64)), exact)
    wide = np.asarray(faces.cut(picture, straight, 80, 0.125))
    assert np.array_equal(wide[8:-8, 8:-8], exact)
    half = np.asarray(faces.cut(picture, straight, 32)).astype(int)
    np.testing.assert_allclose(half, np.asarray(picture.crop((40, 30, 104, 94)).reduce(2)), atol=2)
    upside = faces.Placement(np.array([[-64.0, 0, 104], [0, -64.0, 94]]))
    assert np.array_equal(np.asarray(faces.cut(picture, upside, 64)), exact[::-1, ::-1])


def test_beyond_the_picture_its_edge_goes_on() -> None:
    picture = Image.new("RGB", (40, 40), (200, 10, 60))
    where = faces.Placement(np.array([[100.0, 5, -30], [-5, 100.0, -30]]))
    for side in (32, 150):
        assert np.asarray(faces.cut(picture, where, side)).std((0, 1)).max() == 0


@pytest.mark.parametrize("side", [50.0, 64.0, 200.0])  # of the square, in pixels
@pytest.mark.parametrize("turn", [0, 30])
def test_what_is_cut_and_laid_back_is_what_was_there(side: float, turn: float) -> None:
    y, x = np.mgrid[:300, :400]
    waves = np.stack([np.sin(x / 40), np.cos(y / 50), np.sin((x + y) / 60)], -1)
    picture = Image.fromarray((127.5 + 100 * waves).astype(np.uint8))
    cos, sin = side * np.cos(np.deg2rad(turn)), side * np.sin(np.deg2rad(turn))
    area = faces.Laid(faces.Placement(np.array([[cos, -sin, 150], [sin, cos, 40]])), picture.size)
    seen = images.to_unit(images.pixels(area.cut(picture, 64)))
    made = images.painted(picture, seen, seen, np.ones((1, 64, 64), np.float32), area)
    before, after = np.asarray(picture, int), np.asarray(made, int)
    assert np.abs(before - after).max() <= 6
    mask = images.full_mask(picture, [np.ones((1, 64, 64), np.float32)], [area])
    shown = np.asarray(mask)
    assert shown.max() == 255 and 0.85 < (shown > 0).sum() / side**2 < 1.05
    assert (before == after)[shown == 0].all()


def test_only_what_the_mask_covers_is_painted_where_it_lies() -> None:
    picture = Image.new("RGB", (300, 200), (10, 20, 30))
    area = faces.Laid(faces.Placement(np.array([[0, -128.0, 280], [128.0, 0, 30]])), picture.size)
    onto = images.to_unit(images.pixels(area.cut(picture, 64)))
    mask = np.zeros((1, 64, 64), np.float32)
    mask[:, 10:14, 40:50] = 1  # a quarter turn: rows go to the left, columns down
    image = onto + mask * (np.float32(1) - onto)
    after = np.asarray(images.painted(picture, onto, image, mask, area))
    rows, columns = np.nonzero((after > 200).all(-1))
    assert (rows.min(), rows.max()) == (30 + 2 * 40, 30 + 2 * 50 - 1)
    assert (columns.min(), columns.max()) == (280 - 2 * 14, 280 - 2 * 10 - 1)


def test_a_square_that_reaches_beyond_the_picture_is_painted_within_it() -> None:
    picture = Image.new("RGBA", (60, 50), (10, 20, 30, 0))
    area = faces.Laid(faces.Placement(np.array([[90.0, 9, -20], [-9, 90.0, -15]])), picture.size)
    onto = images.to_unit(images.pixels(area.cut(picture, 32)))
    assert onto.min() == 1  # transparent is white
    made = images.painted(picture, onto, -onto, np.ones((1, 32, 32), np.float32), area)
    assert (
        made.size == (60, 50)
        and np.asarray(made)[20:40, 20:40].tolist() == [[[0, 0, 0, 255]] * 20] * 20
    )
    away = faces.Laid(faces.Placement(np.array([[9.0, 0, 90], [0, 9.0, 90]])), picture.size)
    none = images.painted(picture, onto, -onto, np.ones((1, 32, 32), np.float32), away)
    assert none.tobytes() == picture.tobytes()


def test_faces_are_chosen_and_warned_of(people: list[images.Picture]) -> None:
    canvas = on_canvas(people[0], (460, 230), (10, 20))
    canvas.paste(people[1].resize((120, 120), Image.Resampling.LANCZOS), (300, 60))
    lefts = {
        which: [area.box[0] for area in faces.areas(canvas, faces.Choice(which), "two.png")]
        for which in ("largest", "all", 1, 2)
    }
    assert lefts["largest"] == lefts[1] == lefts["all"][:1] and lefts[2] == lefts["all"][1:]
    assert lefts[1][0] < 200 < lefts[2][0]
    with pytest.raises(DidaError, match=r"two\.png: has 2 faces; --face takes 1 to 2"):
        faces.areas(canvas, faces.Choice(3), "two.png")
    with pytest.raises(DidaError, match=r"sea\.png: no face is found in it.*--landmarks"):
        faces.areas(Image.new("RGB", (90, 90)), faces.Choice(), "sea.png")


def test_small_faces_are_warned_of_or_refused(people: list[images.Picture]) -> None:
    small = people[0].resize((34, 34), Image.Resampling.LANCZOS)
    small = on_canvas(small, (80, 80), (22, 20))
    with pytest.warns(UserWarning, match=r"small\.png: the face is small, 1\d pixels"):
        faces.areas(small, faces.Choice(), "small.png")
    with pytest.raises(DidaError, match=r"the face is small.*without --strict"):
        faces.areas(small, faces.Choice(strict=True), "small.png")


def test_turned_heads_are_told(people: list[images.Picture]) -> None:
    (face,) = faces.find(people[0])
    points = face.points.copy()
    points[2] += 0.4 * (points[1] - points[0])
    assert faces._unlike(face) == ""
    assert faces._unlike(face._replace(points=points)) == "the head is turned"


def test_nothing_is_looked_for_where_a_face_is_told() -> None:
    sea = Image.new("RGB", (90, 80))
    where = faces.Placement(np.array([[40.0, 0, 20], [0, 40.0, 10]]))
    points = tuple((float(x), float(y)) for x, y in five(where))
    (area,) = faces.areas(sea, faces.Choice(points=points), "sea")
    np.testing.assert_allclose(area.box, (20, 10, 60, 50), atol=1)
    mirrored = tuple((x, -y) for x, y in points[1::-1]) + points[2:]
    for wrong in (((5.0, 5.0),) * 5, tuple((0.01 * x, 0.01 * y) for x, y in mirrored)):
        with pytest.raises(DidaError, match="sea: the landmarks do not lie as those of a face"):
            faces.areas(sea, faces.Choice(points=wrong), "sea")
    (whole,) = faces.areas(sea, faces.Choice(aligned=True), "sea")
    assert whole.box == (5, 0, 85, 80)


def test_a_face_is_laid_alike_however_it_lay(people: list[images.Picture]) -> None:
    square = images.Square(64, "face")
    plain = np.asarray(faces.fit(people[0], square, "face"), float)
    turned = people[0].rotate(-10, Image.Resampling.BICUBIC, expand=True, fillcolor=(90, 90, 90))
    again = np.asarray(faces.fit(on_canvas(turned, (400, 380), (60, 50)), square, "face"), float)
    away = np.abs(plain - np.roll(plain, 5, axis=0)).mean()
    assert np.abs(plain - again).mean() < 0.6 * away
