"""Pictures in and out: every mode, every way a file can be wrong, and nothing half written."""

import io
import os
import stat
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import EXAMPLES
from PIL import Image, ImageCms

from dida_cli import images
from dida_cli.config import ModelConfig
from dida_cli.errors import DidaError

Rgb = tuple[int, int, int]

WHITE, BLACK, RED, GREEN, BLUE = (
    (255, 255, 255),
    (0, 0, 0),
    (255, 0, 0),
    (0, 255, 0),
    (0, 0, 255),
)
CROP = images.Square(32, "crop")
SQUASH = images.Square(32, "squash")


def row_of(mode: str, *values: object) -> Image.Image:
    """A picture one pixel high, with these pixels."""
    picture = Image.new(mode, (len(values), 1))
    for x, value in enumerate(values):
        picture.putpixel((x, 0), value)  # type: ignore[arg-type]
    return picture


def palette_row(*colors: Rgb) -> Image.Image:
    picture = row_of("P", *range(len(colors)))
    picture.putpalette([level for color in colors for level in color])
    return picture


def grey(level: int) -> Rgb:
    return (level, level, level)


def top_row(picture: Image.Image) -> list[Rgb]:
    """The pixels of the first line of what `read` gave: always RGB."""
    assert picture.mode == "RGB"
    return [tuple(pixel) for pixel in np.asarray(picture)[0].tolist()]


def noise(width: int = 40, height: int = 30) -> Image.Image:
    levels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(levels)


def refusal(path: Path) -> str:
    """What `read` says of a file it refuses; the message must name the file."""
    with pytest.raises(DidaError) as caught:
        images.read(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# The mode matrix


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".bmp", ".webp", ".gif"])
def test_rgb_is_read_as_it_is(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    row_of("RGB", RED, GREEN, BLACK).save(path, **({"lossless": True} if suffix == ".webp" else {}))
    assert top_row(images.read(path)) == [RED, GREEN, BLACK]


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".bmp"])
def test_grey_is_read_as_rgb(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    row_of("L", 0, 100, 255).save(path)
    assert top_row(images.read(path)) == [BLACK, grey(100), WHITE]


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".bmp"])
def test_one_bit_is_black_and_white(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    row_of("1", 0, 1, 0).save(path)
    assert top_row(images.read(path)) == [BLACK, WHITE, BLACK]


def test_transparent_grey_lies_on_white(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    row_of("LA", (100, 255), (100, 0), (0, 128)).save(path)
    assert top_row(images.read(path)) == [grey(100), WHITE, grey(127)]


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".webp"])
def test_transparent_colour_lies_on_white(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    picture = row_of("RGBA", (255, 0, 0, 255), (255, 0, 0, 0), (255, 0, 0, 128))
    picture.save(path, **({"lossless": True, "exact": True} if suffix == ".webp" else {}))
    assert top_row(images.read(path)) == [RED, WHITE, (255, 127, 127)]


@pytest.mark.parametrize("suffix", [".png", ".gif", ".bmp", ".tiff"])
def test_palette_is_looked_up(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    palette_row(BLUE, RED, GREEN).save(path)
    assert top_row(images.read(path)) == [BLUE, RED, GREEN]


@pytest.mark.parametrize("suffix", [".png", ".gif"])
def test_palette_with_transparency_lies_on_white(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    palette_row(BLUE, RED, GREEN).save(path, transparency=1)
    assert top_row(images.read(path)) == [BLUE, WHITE, GREEN]


def test_palette_with_a_transparency_for_each_colour_lies_on_white(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    palette_row(BLUE, RED, BLACK).save(path, transparency=bytes([255, 0, 128]))
    assert top_row(images.read(path)) == [BLUE, WHITE, grey(127)]


def test_one_transparent_colour_of_rgb_becomes_white(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    row_of("RGB", RED, GREEN).save(path, transparency=GREEN)
    assert top_row(images.read(path)) == [RED, WHITE]


@pytest.mark.parametrize("suffix", [".tiff", ".jpg"])
def test_cmyk_without_profile_is_converted(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    picture = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    picture.save(path)
    with Image.open(path) as stored:
        assert stored.mode == "CMYK"
    assert np.abs(np.array(top_row(images.read(path))) - RED).max() <= 3


def grey_ink_profile() -> bytes:
    """A CMYK profile by which all inks but black leave the same grey (Lab 50, 0, 0)."""
    identity = bytes(range(256))
    unit = struct.pack(">9i", *(65536 * (i % 4 == 0) for i in range(9)))
    table = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + unit
    table += identity * 4 + bytes([128, 128, 128, 0, 128, 128]) * 2**3 + identity * 3
    start = 128 + 4 + 12
    header = struct.pack(">I4sI4s4s4s", start + len(table), b"lcms", 0x02100000, *[b"prtr"] * 3)
    header = header[:16] + b"CMYKLab " + bytes(12) + b"acsp"
    white = struct.pack(">3I", 0xF6D6, 0x10000, 0xD32D)  # D50, as every profile says
    header = header.ljust(68, b"\0") + white
    tags = struct.pack(">I4sII", 1, b"A2B0", start, len(table))
    return header.ljust(128, b"\0") + tags + table


def test_cmyk_goes_through_its_colour_profile(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(path, icc_profile=grey_ink_profile())
    found = np.array(top_row(images.read(path)))
    assert np.abs(found - 119).max() <= 3  # L = 50 in sRGB; without the profile this is red


@pytest.mark.parametrize("kind", ["of another colour space", "no profile at all"])
def test_cmyk_with_a_useless_profile_is_converted_without_it(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.jpg"
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    profile = b"junk" * 50 if kind == "no profile at all" else srgb
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(path, icc_profile=profile)
    assert np.abs(np.array(top_row(images.read(path))) - RED).max() <= 3


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    Image.fromarray(np.array([[0, 256, 32768, 65535]], dtype=np.uint16)).save(path)
    with Image.open(path) as stored:
        assert stored.mode == "I;16"
    assert top_row(images.read(path)) == [BLACK, grey(1), grey(128), WHITE]


def test_sixteen_bits_in_the_other_byte_order_are_scaled(tmp_path: Path) -> None:
    path = tmp_path / "a.tiff"
    Image.frombytes("I;16B", (3, 1), struct.pack(">3H", 0, 32768, 65535)).save(path)
    with Image.open(path) as stored:
        assert stored.mode == "I;16B"
    assert top_row(images.read(path)) == [BLACK, grey(128), WHITE]


@pytest.mark.parametrize("most", [65535, 10**6, 2**31 - 2])
def test_mode_i_is_scaled_like_sixteen_bits_or_to_its_largest(tmp_path: Path, most: int) -> None:
    path = tmp_path / "a.tiff"
    Image.fromarray(np.array([[-5, 0, most // 2 + 1, most]], dtype=np.int32)).save(path)
    with Image.open(path) as stored:
        assert stored.mode == "I"
    assert top_row(images.read(path)) == [BLACK, BLACK, grey(128), WHITE]


def test_thirty_two_bits_without_a_sign_are_read_as_such(tmp_path: Path) -> None:
    path = tmp_path / "a.tiff"
    values = np.array([[0, 2**31, 2**32 - 1]], dtype=np.uint32)
    Image.fromarray(values.view(np.int32)).save(path, tiffinfo={339: 1})
    contents = path.read_bytes()  # Pillow writes its own tag: 339, short, one value
    tag = struct.pack("<HHI", 339, 3, 1)
    assert contents.count(tag) == 1
    place = contents.index(tag) + len(tag)
    path.write_bytes(contents[:place] + struct.pack("<H", 1) + contents[place + 2 :])
    assert top_row(images.read(path)) == [BLACK, grey(128), WHITE]


def test_sixteen_bits_with_a_transparent_level_keep_their_range(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    wide = Image.fromarray(np.array([[0, 32768, 65535, 300]], dtype=np.uint16))
    wide.save(path, transparency=300)
    assert top_row(images.read(path)) == [BLACK, grey(128), WHITE, WHITE]
    assert images.read(path, alpha=True).getchannel("A").getextrema() == (0, 255)


@pytest.mark.parametrize("full", [1.0, 255.0, 65535.0])
def test_floats_are_scaled_by_the_range_they_use(tmp_path: Path, full: float) -> None:
    path = tmp_path / "a.tiff"
    Image.fromarray(np.array([[0, 0.25, 0.5, 1]], dtype=np.float32) * np.float32(full)).save(path)
    with Image.open(path) as stored:
        assert stored.mode == "F"
    assert top_row(images.read(path)) == [BLACK, grey(64), grey(128), WHITE]


@pytest.mark.parametrize(("hole", "shown"), [(np.nan, BLACK), (np.inf, WHITE), (-np.inf, BLACK)])
def test_a_float_that_is_no_number_does_not_change_the_others(
    tmp_path: Path, hole: float, shown: Rgb
) -> None:
    path = tmp_path / "a.tiff"
    Image.fromarray(np.array([[0, 0.5, 1, hole]], dtype=np.float32)).save(path)
    assert top_row(images.read(path)) == [BLACK, grey(128), WHITE, shown]


# Upright, first frame


def quarters() -> np.ndarray:
    """A picture wider than high whose four quarters differ: no turn or mirror leaves it alone."""
    picture = np.zeros((32, 48, 3), dtype=np.uint8)
    picture[:16, :24], picture[:16, 24:] = RED, GREEN
    picture[16:, :24], picture[16:, 24:] = BLUE, WHITE
    return picture


def stored_as(upright: np.ndarray, orientation: int) -> np.ndarray:
    """What a camera stores, from EXIF's own words: where the stored row 0 and column 0 belong."""
    flip_x, flip_y = upright[:, ::-1], upright[::-1]
    both = upright[::-1, ::-1]
    stored = {
        1: upright,  # top, left
        2: flip_x,  # top, right
        3: both,  # bottom, right
        4: flip_y,  # bottom, left
        5: upright.transpose(1, 0, 2),  # left, top
        6: flip_x.transpose(1, 0, 2),  # right, top
        7: both.transpose(1, 0, 2),  # right, bottom
        8: flip_y.transpose(1, 0, 2),  # left, bottom
    }[orientation]
    return np.ascontiguousarray(stored)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tiff"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_come_out_upright(tmp_path: Path, orientation: int, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    lossless = {".jpg": {"quality": 95, "subsampling": 0}, ".webp": {"lossless": True}}
    stored = Image.fromarray(stored_as(quarters(), orientation))
    stored.save(path, exif=exif, **lossless.get(suffix, {}))
    found = np.asarray(images.read(path)).astype(int)
    assert found.shape == (32, 48, 3)
    assert np.abs(found - quarters()).max() <= 8


@pytest.mark.parametrize("suffix", [".png", ".webp"])
@pytest.mark.parametrize("exif", [b"Exif\0\0junk", b"Exif\0\0II*\0"], ids=["junk", "cut"])
def test_a_broken_exif_block_does_not_cost_the_picture(
    tmp_path: Path, suffix: str, exif: bytes
) -> None:
    path = tmp_path / f"a{suffix}"
    Image.new("RGB", (8, 8), BLUE).save(path, exif=exif)
    assert np.abs(np.array(top_row(images.read(path))) - BLUE).max() <= 8


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF", "MPO"])
def test_an_animation_gives_its_first_frame_and_a_warning(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.{kind.lower()}"
    first, second = Image.new("RGB", (16, 16), RED), Image.new("RGB", (16, 16), BLUE)
    lossless = {"lossless": True} if kind == "WEBP" else {}
    first.save(path, kind, save_all=True, append_images=[second], **lossless)
    with pytest.warns(UserWarning, match="several frames") as caught:
        picture = images.read(path)
    assert str(path) in str(caught[0].message)
    assert np.abs(np.array(top_row(picture)) - RED).max() <= 3


# Names


@pytest.mark.parametrize(("kind", "name"), [("PNG", "a.jpg"), ("JPEG", "a.png"), ("BMP", "a")])
def test_a_name_that_lies_about_the_format_does_not_matter(
    tmp_path: Path, kind: str, name: str
) -> None:
    path = tmp_path / name
    Image.new("RGB", (16, 16), BLUE).save(path, kind)
    assert np.abs(np.array(top_row(images.read(path))) - BLUE).max() <= 3


@pytest.mark.parametrize("name", ["with a space.png", "Größe 写真 😎.png", "-o.png", "a'\".png"])
def test_any_name_can_be_written_and_read(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    images.write(row_of("RGB", RED, GREEN), path)
    assert names_in(tmp_path) == [name]
    assert top_row(images.read(path)) == [RED, GREEN]


def test_a_stream_is_read_and_named_in_refusals() -> None:
    stream = io.BytesIO(images.encode(row_of("RGB", RED, GREEN)))
    assert top_row(images.read(stream, "stdin")) == [RED, GREEN]
    with pytest.raises(DidaError, match="stdin"):
        images.read(io.BytesIO(b"no picture"), "stdin")


# Refusals


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "missing.png")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    assert "is a folder" in refusal(tmp_path)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.touch()
    assert "not a picture" in refusal(path)


def test_text_named_like_a_picture_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_text("Dear picture,\n" * 20)
    assert "not a picture" in refusal(path)


def test_a_format_nobody_promised_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    noise().save(path, "TGA")
    assert "not a picture" in refusal(path)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp", ".tiff", ".gif"])
def test_half_a_picture_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    noise(200, 200).save(path)
    contents = path.read_bytes()
    assert images.read(path).size == (200, 200)
    path.write_bytes(contents[: len(contents) // 2])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's own, of a cut TIFF
        refusal(path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read all")
def test_a_file_without_permission_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    noise().save(path)
    path.chmod(0)
    assert "may not be read" in refusal(path)


@pytest.mark.parametrize(
    "side",
    [
        8_100,  # just above 64 MP: our own limit
        10_000,  # Pillow warns
        14_000,  # Pillow raises
    ],
)
def test_a_picture_above_64_megapixels_is_refused(tmp_path: Path, side: int) -> None:
    path = tmp_path / "a.png"
    Image.new("1", (side, side)).save(path, compress_level=1)
    assert "64 megapixels" in refusal(path)


def test_size_is_refused_before_anything_is_decoded(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("1", (8_100, 8_100)).save(path, compress_level=1)
    path.write_bytes(path.read_bytes()[:200])  # there is nothing to decode
    assert "64 megapixels" in refusal(path)


def small_files() -> dict[str, bytes]:
    """A file of each format, some hundred bytes long."""
    exif = Image.Exif()
    exif[0x0112] = 6
    files = {}
    for kind in images.FORMATS:
        buffer = io.BytesIO()
        noise(5, 4).save(buffer, kind, **({"exif": exif} if kind not in ("BMP", "GIF") else {}))
        files[kind] = buffer.getvalue()
    buffer = io.BytesIO()
    frames = [noise(5, 4).quantize(colors) for colors in (8, 4)]
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    return files | {"animated GIF": buffer.getvalue()}


def wrongly_refused(contents: bytes) -> str | None:
    """How `read` fails other than by a DidaError naming the file."""
    try:
        images.read(io.BytesIO(contents), "this file")
    except DidaError as error:
        return None if "this file" in str(error) else f"unnamed: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


@pytest.mark.parametrize("kind", [*images.FORMATS, "animated GIF"])
def test_a_file_cut_anywhere_is_read_or_refused_by_name(kind: str) -> None:
    contents = small_files()[kind]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's own, of the damage
        found = {length: wrongly_refused(contents[:length]) for length in range(len(contents))}
    assert {length: fault for length, fault in found.items() if fault} == {}


@pytest.mark.parametrize("kind", [*images.FORMATS, "animated GIF"])
@pytest.mark.parametrize("value", [0x00, 0x02, 0xFF])
def test_a_file_wrong_in_any_byte_is_read_or_refused_by_name(kind: str, value: int) -> None:
    contents = small_files()[kind]
    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's own, of the damage
        for place in range(min(len(contents), 400)):
            wrong = contents[:place] + bytes([value]) + contents[place + 1 :]
            found[place] = wrongly_refused(wrong)
    assert {place: fault for place, fault in found.items() if fault} == {}


# What a model sees


@pytest.mark.parametrize("size", [(96, 64), (64, 96), (97, 64), (64, 99), (40, 32)])
def test_crop_takes_the_largest_centred_square_exactly(size: tuple[int, int]) -> None:
    width, height = size
    edge = min(size)
    left, top = (width - edge) // 2, (height - edge) // 2
    picture = np.full((height, width, 3), BLUE, dtype=np.uint8)
    picture[top : top + edge, left : left + edge] = RED
    fitted = np.asarray(images.fit(Image.fromarray(picture), CROP))
    assert fitted.shape == (32, 32, 3)
    assert (fitted == RED).all()
    # and no smaller one: the square's own edges are kept
    picture[top, left : left + edge] = picture[top + edge - 1, left : left + edge] = GREEN
    picture[top : top + edge, left] = picture[top : top + edge, left + edge - 1] = GREEN
    framed = np.asarray(images.fit(Image.fromarray(picture), CROP)).astype(int)
    for border in (framed[0], framed[-1], framed[:, 0], framed[:, -1]):
        assert (border[:, 1] > 64).all()


def test_squash_keeps_the_whole_picture() -> None:
    picture = np.full((64, 256, 3), BLUE, dtype=np.uint8)
    picture[:, :128], picture[:, :32] = RED, GREEN
    fitted = np.asarray(images.fit(Image.fromarray(picture), SQUASH)).astype(int)
    assert fitted.shape == (32, 32, 3)
    assert np.abs(fitted[:, :2] - GREEN).max() <= 2
    assert np.abs(fitted[:, 6:14] - RED).max() <= 2
    assert np.abs(fitted[:, 18:] - BLUE).max() <= 2


def test_a_picture_smaller_than_the_side_is_enlarged() -> None:
    for config in (CROP, SQUASH):
        assert images.fit(Image.new("RGB", (3, 1), RED), config).size == (32, 32)


def test_a_models_config_says_how_as_well() -> None:
    config = ModelConfig(method="any", side=32, fit="squash")
    for make in (images.fit, images.seen):
        assert make(noise(), config) == make(noise(), SQUASH) != make(noise(), CROP)
    assert np.array_equal(images.to_array([noise()], config), images.to_array([noise()], SQUASH))


def test_all_256_levels_survive_the_way_to_the_model_and_back() -> None:
    levels = np.arange(32 * 32 * 3, dtype=np.uint32).reshape(32, 32, 3) % 256
    picture = Image.fromarray(levels.astype(np.uint8))
    (back,) = images.to_pictures(images.to_tensor([picture], CROP))
    assert back.mode == "RGB"
    assert back.tobytes() == picture.tobytes()


def test_a_model_reads_floats_from_minus_one_to_one() -> None:
    pictures = [Image.new("RGB", (50, 40), color) for color in (BLACK, WHITE, RED)]
    values = images.to_tensor(pictures, CROP)
    assert values.shape == (3, 3, 32, 32)
    assert values.dtype == torch.float32
    assert (values[0] == -1).all()
    assert (values[1] == 1).all()
    assert values[2, :, 0, 0].tolist() == [1, -1, -1]


def test_values_outside_the_range_are_cut_not_wrapped() -> None:
    values = torch.tensor([-3.0, -1.01, 1.01, 3.0]).view(1, 1, 1, 4).expand(1, 3, 1, 4)
    (picture,) = images.to_pictures(values)
    assert top_row(picture) == [BLACK, BLACK, WHITE, WHITE]


# What a model changed, laid back


SIZES = [(70, 40), (31, 97), (500, 333), (32, 32), (9, 8)]


def varied(size: tuple[int, int], mode: str) -> Image.Image:
    """A picture of noise, its alpha too."""
    shape = (size[1], size[0], len(mode))
    return Image.fromarray(np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8), mode)


def rendered(mask: torch.Tensor, picture: Image.Image, config: images.Square) -> torch.Tensor:
    """What a model makes of a picture: noise where the mask is open, the picture where it is 0."""
    onto = images.to_tensor([picture], config)[0]
    paint = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(2)) * 2 - 1
    return torch.where(mask > 0, onto + mask * (paint - onto), onto)


def painted(
    picture: Image.Image, image: torch.Tensor, mask: torch.Tensor, config: images.Square
) -> Image.Image:
    onto = images.to_tensor([picture], config)[0]
    return images.painted(picture, onto, image, mask, images.area(picture, config))


def window(value: float = 1.0) -> torch.Tensor:
    mask = torch.zeros(1, 32, 32)
    mask[:, 10:20, 5:15] = value
    return mask


@pytest.mark.parametrize("config", [CROP, SQUASH])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_where_the_mask_is_0_a_picture_stays_bit_for_bit(
    mode: str, size: tuple[int, int], config: images.Square
) -> None:
    picture, nothing = varied(size, mode), torch.zeros(1, 32, 32)
    made = painted(picture, torch.ones(3, 32, 32), nothing, config)
    assert made.mode == mode
    assert made.tobytes() == picture.tobytes()
    assert not np.asarray(
        images.full_mask(picture, [nothing], [images.area(picture, config)])
    ).any()


def test_only_what_the_mask_covers_changes_and_by_as_much() -> None:
    picture, mask = varied((210, 130), "RGBA"), window(0.75)
    onto = images.to_tensor([picture], CROP)[0]
    made = painted(picture, onto + mask * (0.2 - onto), mask, CROP)
    shown = np.asarray(images.full_mask(picture, [mask], [images.area(picture, CROP)]))
    before, after = np.asarray(picture, int), np.asarray(made, int)
    assert shown.shape == (130, 210) and not shown[:, :40].any() and not shown[:, 170:].any()
    untouched = shown == 0
    assert 0.05 < 1 - untouched.mean() < 0.12
    changed = (before != after).any(-1)
    assert not changed[untouched].any() and changed[shown > 180].mean() > 0.9
    middle = 60, 40 + 40  # well inside
    grey = 0.25 * before[middle][:3] + 0.75 * 1.2 * 127.5
    assert np.abs(after[middle][:3] - grey).max() <= 1
    assert after[middle][3] == round(before[middle][3] + 0.75 * (255 - before[middle][3]))


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_an_open_mask_gives_the_enlarged_image_opaque(mode: str) -> None:
    image = torch.linspace(-1, 1, 32).expand(3, 32, 32)
    made = painted(varied((320, 320), mode), image, torch.ones(1, 32, 32), CROP)
    pixels = np.asarray(made, float)
    ramp = (images.enlarged(image, (320, 320), 0, 320) + 1) * 127.5
    assert np.abs(pixels[..., :3] - ramp.clip(0, 255)).max() <= 0.5 + 1e-3
    assert mode == "RGB" or (pixels[..., 3] == 255).all()


@pytest.mark.parametrize("config", [CROP, SQUASH])
def test_at_the_models_own_size_the_result_is_its_image(config: images.Square) -> None:
    picture = varied((32, 32), "RGB")
    soft = torch.rand(1, 32, 32) * (torch.rand(1, 32, 32) < 0.7)
    image = rendered(soft, picture, config)
    (own,) = images.to_pictures(image[None])
    assert painted(picture, image, soft, config).tobytes() == own.tobytes()
    assert own.tobytes() != picture.tobytes()


def test_a_square_of_the_models_own_size_within_a_picture_becomes_its_image() -> None:
    picture = varied((60, 32), "RGB")
    soft = torch.rand(1, 32, 32)
    image = rendered(soft, picture, CROP)
    (own,) = images.to_pictures(image[None])
    made = painted(picture, image, soft, CROP)
    box = images.seen(picture, CROP)
    assert made.crop(box).tobytes() == own.tobytes()
    made.paste(picture.crop(box), box)
    assert made.tobytes() == picture.tobytes()


def test_at_the_models_own_size_a_transparent_picture_keeps_what_is_not_painted() -> None:
    picture = varied((32, 32), "RGBA")
    mask = window()
    image = rendered(mask, picture, CROP)
    before, made = np.asarray(picture), np.asarray(painted(picture, image, mask, CROP))
    inside = mask[0].numpy() > 0
    (own,) = images.to_pictures(image[None])
    assert (made[~inside] == before[~inside]).all()
    assert (made[inside][:, :3] == np.asarray(own)[inside]).all() and (
        made[inside][:, 3] == 255
    ).all()


@pytest.mark.parametrize("size", [(150, 150), (32, 32), (47, 90)])
def test_strips_join_without_a_seam(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    picture, mask = varied(size, "RGB"), torch.rand(1, 32, 32)
    image = rendered(mask, picture, CROP)
    whole = painted(picture, image, mask, CROP)
    shown = images.full_mask(picture, [mask], [images.area(picture, CROP)])
    monkeypatch.setattr(images, "STRIP", 7)
    strips = painted(picture, image, mask, CROP)
    assert np.abs(np.asarray(whole, int) - np.asarray(strips, int)).max() <= 1
    again = np.asarray(images.full_mask(picture, [mask], [images.area(picture, CROP)]), int)
    assert np.abs(np.asarray(shown, int) - again).max() <= 1


def test_arrays_of_an_export_are_painted_as_tensors_are() -> None:
    picture, mask = varied((70, 40), "RGB"), window()
    image = rendered(mask, picture, CROP)
    onto = images.to_array([picture], CROP)[0]
    as_arrays = images.painted(
        picture, onto, image.numpy(), mask.numpy(), images.area(picture, CROP)
    )
    assert as_arrays == painted(picture, image, mask, CROP)


def test_masks_are_joined_and_cut_out() -> None:
    one, other = row_of("L", 0, 90, 255), row_of("L", 10, 20, 0)
    assert list(np.asarray(images.lighter(one, other))[0]) == [10, 90, 255]
    assert images.lighter(None, other) is other and images.lighter(one, None) is one
    cut = images.cut_out(row_of("RGB", RED, GREEN, BLUE), one)
    assert np.asarray(cut)[0].tolist() == [[*RED, 0], [*GREEN, 90], [*BLUE, 255]]


# Writing


@pytest.mark.parametrize("suffix", [*images.WRITABLE, ".PNG", ".Jpg"])
def test_a_written_picture_reopens_in_the_format_of_its_name(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    images.write(Image.new("RGB", (40, 30), RED), path)
    with Image.open(path) as stored:
        assert stored.format == images.WRITABLE[suffix.lower()]
        assert stored.size == (40, 30)
    assert np.abs(np.array(top_row(images.read(path))) - RED).max() <= 4


@pytest.mark.parametrize("suffix", [".png", ".bmp"])
def test_lossless_formats_keep_every_byte(tmp_path: Path, suffix: str) -> None:
    images.write(noise(), tmp_path / f"a{suffix}")
    assert images.read(tmp_path / f"a{suffix}").tobytes() == noise().tobytes()


@pytest.mark.parametrize("name", ["a.xyz", "a.gif", "a", "a.png.txt"])
def test_a_suffix_we_do_not_write_leaves_nothing(tmp_path: Path, name: str) -> None:
    with pytest.raises(DidaError, match=r"\.png, \.jpg"):
        images.write(noise(), tmp_path / "new" / name)
    assert names_in(tmp_path) == []


def test_a_suffix_we_do_not_write_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.xyz"
    path.write_bytes(b"old")
    with pytest.raises(DidaError):
        images.write(noise(), path)
    assert path.read_bytes() == b"old"


def test_writing_replaces_the_old_file_and_leaves_no_other(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    images.write(noise(), path)
    assert images.read(path).tobytes() == noise().tobytes()
    assert names_in(tmp_path) == ["a.png"]


def test_whoever_reads_the_old_file_meanwhile_sees_it_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    with path.open("rb") as reader:
        images.write(noise(), path)
        assert reader.read() == b"old"


def test_missing_folders_are_made(tmp_path: Path) -> None:
    images.write(noise(), tmp_path / "new" / "folders" / "a.png")
    assert names_in(tmp_path / "new" / "folders") == ["a.png"]


def test_a_path_below_a_file_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    for path in (tmp_path / "file" / "a.png", tmp_path / "file" / "below" / "a.png"):
        with pytest.raises(DidaError) as caught:
            images.write(noise(), path)
        assert str(path) in str(caught.value)
    assert (tmp_path / "file").read_bytes() == b"old"
    assert names_in(tmp_path) == ["file"]


def test_a_path_that_is_a_folder_is_refused_and_leaves_no_temporary_file(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.mkdir()
    with pytest.raises(DidaError) as caught:
        images.write(noise(), path)
    assert str(path) in str(caught.value)
    assert names_in(tmp_path) == ["a.png"]
    assert names_in(path) == []


@contextmanager
def full_disk_after(size: int) -> Iterator[None]:
    """No file may grow beyond this many bytes: what a full disk does to a write."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_write_that_fails_halfway_keeps_the_old_file_and_leaves_no_other(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.png"
    images.write(Image.new("RGB", (4, 4), RED), path)
    old = path.read_bytes()
    with pytest.raises(DidaError) as caught, full_disk_after(1000):
        images.write(noise(), path)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == old
    assert names_in(tmp_path) == ["a.png"]


@pytest.mark.parametrize(("suffix", "width"), [(".webp", 16_384), (".jpg", 65_536)])
def test_a_picture_too_large_for_its_format_is_refused_and_keeps_the_old_file(
    tmp_path: Path, suffix: str, width: int
) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"old")
    with pytest.raises(DidaError):
        images.write(Image.new("RGB", (width, 1)), path)
    assert path.read_bytes() == b"old"
    assert names_in(tmp_path) == [path.name]


def test_a_written_file_has_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    images.write(noise(), tmp_path / "a.png")
    plain, written = (stat.S_IMODE((tmp_path / n).stat().st_mode) for n in ("plain", "a.png"))
    assert written == plain


# Folders of pictures


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_pictures_are_found_in_all_folders_below_sorted(tmp_path: Path) -> None:
    touch(tmp_path, "b.png", "a.JPG", "deep/er/c.webp", "deep/d.jpeg", "e.tif", "f.bmp", "g.gif")
    found = [path.relative_to(tmp_path).as_posix() for path in images.pictures_in(tmp_path)]
    assert found == [
        "a.JPG",
        "b.png",
        "deep/d.jpeg",
        "deep/er/c.webp",
        "e.tif",
        "f.bmp",
        "g.gif",
    ]


def test_drawings_are_told_from_photos(tmp_path: Path) -> None:
    for name in ("glasses.png", "smile-2.png", "portrait.png"):
        drawing = Image.open(EXAMPLES / name).convert("RGB")
        assert images.is_drawing(drawing) and images.is_drawing(drawing.convert("RGBA"))
        kept = tmp_path / "kept.jpg"
        drawing.resize((512, 512), Image.Resampling.LANCZOS).save(kept, quality=75)
        assert images.is_drawing(images.read(kept))
    for photo in sorted(EXAMPLES.glob("*.jpg")):
        assert not images.is_drawing(images.read(photo))


def test_hidden_files_and_other_files_are_no_pictures(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", ".b.png", "._a.png", "notes.txt", "png", "c.png.tmp")
    assert images.pictures_in(tmp_path) == [tmp_path / "a.png"]


def test_hidden_folders_are_not_searched(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", ".thumbnails/a.png", "deep/.cache/b.png")
    assert images.pictures_in(tmp_path) == [tmp_path / "a.png"]


def test_pictures_are_found_below_a_folder_that_is_itself_hidden(tmp_path: Path) -> None:
    touch(tmp_path, ".set/a.png")
    assert images.pictures_in(tmp_path / ".set") == [tmp_path / ".set" / "a.png"]


def test_a_folder_named_like_a_picture_is_none(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b.png/c.png")
    assert images.pictures_in(tmp_path) == [tmp_path / "a.png", tmp_path / "b.png" / "c.png"]


def test_a_missing_folder_is_refused_by_name(tmp_path: Path) -> None:
    touch(tmp_path, "file")
    for path in (tmp_path / "missing", tmp_path / "file"):
        with pytest.raises(DidaError, match="no such folder") as caught:
            images.pictures_in(path)
        assert str(path) in str(caught.value)


def test_a_folder_without_pictures_is_refused_by_name(tmp_path: Path) -> None:
    touch(tmp_path, "notes.txt", ".a.png")
    with pytest.raises(DidaError, match=r"holds no pictures \(\.jpg") as caught:
        images.pictures_in(tmp_path)
    assert str(tmp_path) in str(caught.value)


def swapped_profile() -> bytes:
    """A colour profile that differs much from sRGB: its red is what sRGB calls green."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, green = profile.index(b"rXYZ"), profile.index(b"gXYZ")
    profile[red : red + 4], profile[green : green + 4] = b"gXYZ", b"rXYZ"
    return bytes(profile)


def test_a_network_sees_srgb_and_an_edit_keeps_the_profile(tmp_path: Path) -> None:
    path, profile = tmp_path / "own.png", swapped_profile()
    picture = Image.new("RGB", (40, 40), (250, 10, 10))
    picture.save(path, icc_profile=profile)
    seen, own = images.read(path), images.read(path, alpha=True)
    red, green, blue = seen.getpixel((5, 5))  # type: ignore[misc]
    assert green > 200 > 100 > red and blue < 100
    assert own.getpixel((5, 5)) == (250, 10, 10) and images.srgb(own).tobytes() == seen.tobytes()
    edited = images.srgb(own)
    edited.paste((0, 0, 255), (0, 0, 10, 10))
    made = images.as_before(edited, images.srgb(own), own)
    for suffix in (".png", ".jpg", ".webp"):
        images.write(made, tmp_path / f"out{suffix}")
        with Image.open(tmp_path / f"out{suffix}") as kept:
            assert kept.info["icc_profile"] == profile
    again = images.read(tmp_path / "out.png", alpha=True)
    assert again.getpixel((20, 20)) == (250, 10, 10)  # bit for bit what it was
    shown = np.asarray(images.srgb(again), int)
    assert np.abs(shown[:10, :10] - (0, 0, 255)).max() <= 3


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "CMYK"])
def test_a_broken_profile_or_one_of_another_kind_says_nothing(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.tiff"
    plain = noise().convert(mode)
    plain.save(path, icc_profile=b"no profile at all")
    bare = tmp_path / "b.tiff"
    plain.save(bare)
    for alpha in (False, True):
        one, other = images.read(path, alpha=alpha), images.read(bare, alpha=alpha)
        assert images.srgb(one).tobytes() == other.tobytes()
        seen = images.srgb(one)
        images.encode(images.as_before(seen, seen, one))
