"""Reading and writing pictures: the one place that knows modes, EXIF, sizes and the [-1, 1] rule.

Inside the program a picture is an RGB `Image`; inside a network it is float32 in [-1, 1].
"""

import io
import os
import stat
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, Protocol, TypeVar
from uuid import uuid4

import numpy as np
from PIL import (
    ExifTags,
    Image,
    ImageChops,
    ImageCms,
    ImageOps,
    PngImagePlugin,
    UnidentifiedImageError,
    features,
)

from dida_cli import __version__
from dida_cli.config import Fit, ModelConfig
from dida_cli.errors import DidaError, PassedOverWarning, reading

if TYPE_CHECKING:
    from torch import Tensor

    Array = Tensor | np.ndarray

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM")  # sniffed: a file's name may lie
AVIF = "AVIF"  # too, where Pillow was built with it
SUFFIXES = tuple(
    ".jpg .jpeg .jpe .jfif .png .webp .bmp .tif .tiff .gif .ppm .pgm .pbm .pnm .avif".split()
)
UNREAD = tuple(".heic .heif .jxl .jp2 .psd .svg .dng .cr2 .cr3 .nef .arw".split())  # pictures, too
WRITABLE = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".bmp": "BMP"}
MOVING = {".gif": "GIF", ".webp": "WEBP", ".png": "PNG", ".apng": "PNG"}
FRAME = 120  # milliseconds of a picture in an animation
MAX_PIXELS = 64_000_000  # checked before anything is decoded
NAME = "dida_name"  # of a picture that was read, in its `info`
TEMPORARY = ".dida."  # how names of files begin that are not whole yet
SOFTWARE = f"dida {__version__}"  # in the metadata of what was edited
SAMPLE_FORMAT = 339  # the tag that says of what kind a TIFF's numbers are; 1 is without a sign
UNSIGNED = "dida_unsigned"  # 32 bits, which Pillow reads as if they had a sign; in `info`
PROFILE = "icc_profile"  # of a picture's colours, in its `info`
LOOKED_AT, FLAT = 128, 0.2  # so many pixels each way, of which a drawing has so many like the next
STRIP = 512  # rows that are painted at a time, so that a large photo costs little memory

Values = TypeVar("Values", "Tensor", np.ndarray)
Picture = Image.Image  # RGB wherever it leaves this module, or RGBA where alpha was asked for
# Whatever a picture may be given as: a file, an image, or (height, width, 3 or 4) of uint8.
Source = str | os.PathLike[str] | BinaryIO | Picture | np.ndarray


class Square(NamedTuple):
    """How pictures become what a network sees, where there is no model's config to say it."""

    side: int  # in pixels
    fit: Fit = "crop"
    margin: float = 0.0  # of a face's side, that is seen around it


Framing = ModelConfig | Square

# For the whole process, once: `warnings.catch_warnings` around a read is not safe among threads.
warnings.simplefilter("error", Image.DecompressionBombWarning)


def read(source: Source, name: str | None = None, *, alpha: bool = False) -> Picture:
    """The picture as people see it: upright, RGB, 8 bits, sRGB, transparency on white, first frame.

    With `alpha` a transparent picture stays RGBA, and one with a colour profile of its own keeps
    it (`srgb`, `as_before`). Raises DidaError naming the file when it is
    missing, empty, truncated, too large or no picture; warns when an animation is cut to its first
    frame. What it is called in messages stays with it: `name_of`.
    """
    name = name or name_of(source)
    told = reading.set(name)
    try:
        with _opened(source, name) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            if _has_frames(picture):
                warnings.warn(f"{name}: has several frames; only the first is used", stacklevel=2)
            if tags := getattr(picture, "tag_v2", None):  # of a TIFF
                picture.info[UNSIGNED] = tags.get(SAMPLE_FORMAT, (1,)) == (1,)
            picture.load()
        with suppress(Exception):  # a broken EXIF block says nothing
            picture = ImageOps.exif_transpose(picture)
        made = _to_rgb(picture)
        made = made if alpha else flat(srgb(made))
        made.info[NAME] = name
        return made
    except FileNotFoundError:
        raise DidaError(f"{name}: no such file") from None
    except IsADirectoryError:
        raise DidaError(f"{name}: is a folder; give a picture file") from None
    except PermissionError:
        raise DidaError(f"{name}: may not be read; check its permissions") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        largest = MAX_PIXELS // 1_000_000
        raise DidaError(f"{name}: larger than {largest} megapixels; scale it down first") from None
    except UnidentifiedImageError:
        raise DidaError(f"{name}: not a picture; give {', '.join(FORMATS)}") from None
    except DidaError:
        raise
    except Exception as error:  # broken files have Pillow raise whatever there is
        raise DidaError(f"{name}: damaged picture ({error}); give another copy of it") from None
    finally:
        reading.reset(told)


def _has_frames(picture: Image.Image) -> bool:
    """Whether there is a second frame; it is not looked for beyond, nor if it is damaged."""
    try:
        return bool(getattr(picture, "is_animated", False))
    except Exception:
        return False


def header(source: Path | BinaryIO) -> tuple[int, int, str] | None:
    """Width, height and mode as a file says; None for what is no picture. Nothing is decoded."""
    try:
        with _opened(source, "the picture") as picture:
            return *picture.size, picture.mode
    except Exception:  # whatever a broken file has Pillow raise
        return None


def name_of(source: Source) -> str:
    """What a picture is called in messages."""
    if isinstance(source, str | os.PathLike):
        return os.fspath(source)
    known = source.info.get(NAME) if isinstance(source, Picture) else None
    return str(known or "the picture")


def _opened(source: Source, name: str) -> AbstractContextManager[Image.Image]:
    if isinstance(source, Picture):
        return nullcontext(source)  # the user's own, to be left open
    if isinstance(source, str | os.PathLike):
        kind = os.stat(source).st_mode
        if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
            raise DidaError(f"{name}: is a pipe or a device; for a picture from a pipe give -")
    if not isinstance(source, np.ndarray):
        Image.preinit()  # else the first file has Pillow import all its plugins, for any suffix
        try:
            return Image.open(source, formats=FORMATS)
        except UnidentifiedImageError:  # by now they are
            if AVIF not in Image.OPEN or not features.check(AVIF.lower()):
                raise
            return Image.open(source, formats=[AVIF])
    if source.dtype != np.uint8 or source.ndim != 3 or source.shape[2] not in (3, 4):
        raise DidaError(
            f"{name}: is an array {source.shape} of {source.dtype}; "
            "give (height, width, 3 or 4) of uint8"
        )
    return nullcontext(Image.fromarray(np.ascontiguousarray(source)))


def _to_rgb(picture: Image.Image) -> Image.Image:
    """RGB, or RGBA where something is transparent; a colour profile stays if it is of RGB."""
    if picture.mode.startswith("I") or picture.mode == "F":
        return _from_wide(picture)
    transparent, is_rgb = picture.has_transparency_data, picture.mode in ("RGB", "RGBA", "P", "PA")
    if not (is_rgb or transparent) and (profile := picture.info.get(PROFILE)):
        picture = _converted(picture, profile, None, "RGB")
    made = picture.convert("RGBA" if transparent else "RGB")
    if not is_rgb:
        made.info.pop(PROFILE, None)
    return made


def srgb(picture: Picture) -> Picture:
    """The same in sRGB, which models see, where it has another colour profile."""
    if not (profile := picture.info.get(PROFILE)):
        return picture
    made = _converted(picture, profile, None, picture.mode)
    made.info = {name: value for name, value in picture.info.items() if name != PROFILE}
    return made


def as_before(edited: Picture, before: Picture, picture: Picture) -> Picture:
    """An edit of `before`, which is `srgb(picture)`, by the picture's own profile; what was left
    alone is bit for bit the picture's."""
    if not (profile := picture.info.get(PROFILE)):
        return edited
    result = np.array(picture)
    for top in range(0, len(result), STRIP):
        box = (0, top, picture.width, min(top + STRIP, picture.height))
        one, other = edited.crop(box), before.crop(box)
        moved = (np.asarray(one) != np.asarray(other)).any(-1)
        own = np.asarray(_converted(one, None, profile, one.mode))
        result[top : top + STRIP][moved] = own[moved]
    made = Image.fromarray(result)
    made.info[PROFILE] = profile
    return made


def _converted(picture: Picture, own: bytes | None, to: bytes | None, mode: str) -> Picture:
    """From one colour profile to another; None is sRGB. As it is, where one of them is broken."""
    made: Picture | None = None
    with suppress(ImageCms.PyCMSError, OSError):  # viewers go without it as well
        source, target = (
            io.BytesIO(one) if one else ImageCms.createProfile("sRGB") for one in (own, to)
        )
        made = ImageCms.profileToProfile(picture, source, target, outputMode=mode)
    return made or picture.copy()


def flat(picture: Image.Image) -> Image.Image:
    """RGB, with white where the picture is transparent."""
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    layer = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")


def _from_wide(picture: Image.Image) -> Image.Image:
    """16-bit, 32-bit and float greys scaled to 8 bits (Pillow's convert would clip them).

    Values say nothing of their range: it is the smallest usual one that holds them all, or else
    goes to the largest of them.
    """
    values = np.asarray(picture)
    strips = [slice(top, top + STRIP) for top in range(0, len(values), STRIP)]

    unsigned = picture.mode == "I" and picture.info.get(UNSIGNED)

    def wide(strip: slice) -> np.ndarray:
        found = values[strip].astype(np.float64)
        return np.where(found < 0, found + 2.0**32, found) if unsigned else found

    finite = (strip[np.isfinite(strip)] for strip in map(wide, strips))
    largest = max((float(strip.max(initial=0)) for strip in finite), default=0.0)
    usual = (1.0, 255.0, 65535.0) if picture.mode == "F" else (65535.0,)
    full = next((one for one in usual if largest <= one), largest)
    made = np.empty(values.shape, np.uint8)
    for strip in strips:
        made[strip] = (np.nan_to_num(wide(strip)).clip(0, full) / full * 255).round()
    grey = Image.fromarray(made).convert("RGB")
    if isinstance(key := picture.info.get("transparency"), int):
        grey.putalpha(Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8)))
    return grey


def pictures_in(folder: Path) -> list[Path]:
    """Picture files below a folder by name, hidden ones left out; DidaError if there are none.

    Warns of pictures in formats that are not read.
    """
    if not folder.is_dir():
        raise DidaError(f"{folder}: no such folder")
    shown = [
        path
        for path in folder.rglob("*")
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and not path.is_dir()
    ]
    over = [suffix for path in shown if (suffix := path.suffix.lower()) in UNREAD]
    told = f"{len(over)} files passed over: {', '.join(sorted(set(over)))} (not read here)"
    found = sorted(path for path in shown if path.suffix.lower() in SUFFIXES)
    if not found:
        why = told if over else ", ".join(SUFFIXES)
        raise DidaError(f"{folder}: holds no pictures ({why})")
    if over:
        warnings.warn(f"{folder}: {told}", PassedOverWarning, stacklevel=2)
    return found


class Area(Protocol):
    """Where in a picture lies what a model sees of it.

    Attributes:
        box: left, top, right, bottom in pixels; nothing beyond is painted on.
    """

    @property
    def box(self) -> tuple[int, int, int, int]: ...

    def cut(self, picture: Picture, side: int) -> Picture:
        """What a model sees: RGB, side x side."""

    def laid(self, values: np.ndarray, top: int, rows: int) -> np.ndarray:
        """Rows of the box, as a model's float32 (C, side, side) lies there: (rows, width, C)."""


@dataclass(frozen=True)
class Box:
    """A picture's largest centred square, or all of it."""

    box: tuple[int, int, int, int]

    def cut(self, picture: Picture, side: int) -> Picture:
        return flat(picture.crop(self.box)).resize((side, side), Image.Resampling.LANCZOS)

    def laid(self, values: np.ndarray, top: int, rows: int) -> np.ndarray:
        left, upper, right, lower = self.box
        return enlarged(values, (lower - upper, right - left), top, rows)


def area(picture: Picture, config: Framing) -> Box:
    """Where a model that looks for no faces looks."""
    return Box(seen(picture, config))


def fit(picture: Picture, config: Framing) -> Picture:
    """The square that such a model sees: side x side, RGB, by the model's own rule."""
    return area(picture, config).cut(srgb(picture), config.side)


def is_drawing(picture: Picture) -> bool:
    """Whether a picture's middle has the flat colours of drawings, not those of photos.

    Measured: 1 in 30 of 900 photos of people has; all drawings have, as PNG and as JPEG of 512
    pixels, and 19 in 20 as JPEG of 128.
    """
    size, box = (LOOKED_AT, LOOKED_AT), seen(picture, Square(LOOKED_AT))
    small = picture.resize(size, Image.Resampling.LANCZOS, box, reducing_gap=2)
    values = np.asarray(flat(small))
    return bool((values[:, 1:] == values[:, :-1]).all(2).mean() >= FLAT)


def seen(picture: Picture, config: Framing) -> tuple[int, int, int, int]:
    """The part of a picture that a model sees: left, top, right, bottom in pixels."""
    if config.fit == "squash":
        return (0, 0, *picture.size)
    edge = min(picture.size)
    left, top = (picture.width - edge) // 2, (picture.height - edge) // 2
    return (left, top, left + edge, top + edge)


def painted(picture: Picture, onto: "Array", image: "Array", mask: "Array", where: Area) -> Picture:
    """A picture of any size, RGB or RGBA, with what a model changed of the square it saw.

    onto and image (3, side, side) in [-1, 1], mask (1, side, side) in [0, 1]: what the model saw,
    and its `Rendering` of that. What the mask let through, and the mask, are enlarged; together
    they say in which colour to paint, and how much. Where the enlarged mask is 0 the result is the
    picture bit for bit; painted pixels become opaque. What has the model's own size becomes the
    image exactly.
    """
    onto, image, mask = (as_array(values) for values in (onto, image, mask))
    result = np.array(picture)  # (h, w, 3 or 4)
    left, top, right, bottom = where.box
    own_size = isinstance(where, Box) and mask.shape[1:] == (bottom - top, right - left)
    paint = image + 1 if own_size else image + 1 - (1 - mask) * (onto + 1)  # in [0, 2]
    for rows, laid, amount in _strips(result, where, paint, mask):
        share, whole = (1, 1) if own_size else (amount.clip(0, 1), amount.clip(1e-6))
        colour = (127.5 * laid / whole).clip(0, 255)
        made = np.rint(share * colour + (1 - share) * rows[..., :3])
        rows[..., :3] = np.where(amount > 0, made, rows[..., :3])
        rows[..., 3:] = np.rint(rows[..., 3:] + amount.clip(0, 1) * (255.0 - rows[..., 3:]))
    return Image.fromarray(result, picture.mode)


def full_mask(picture: Picture, masks: "Sequence[Array]", where: Sequence[Area]) -> Picture:
    """A model's masks (1, side, side) in [0, 1] at the picture's own size: grey, 255 is all."""
    result = np.zeros((picture.height, picture.width, 1), dtype=np.uint8)
    for mask, area in zip(masks, where, strict=True):
        for rows, amount in _strips(result, area, as_array(mask)):
            np.maximum(rows, np.rint(255 * amount.clip(0, 1)).astype(np.uint8), out=rows)
    return Image.fromarray(result[..., 0], "L")


def _strips(
    values: np.ndarray, where: Area, *small: np.ndarray
) -> Iterator[tuple[np.ndarray, ...]]:
    """Rows in an area of an array (h, w, ...), as views, with those of each float (C, h, w) as it
    lies there."""
    left, top, right, bottom = where.box
    inside = values[top:bottom, left:right]
    for begin in range(0, len(inside), STRIP):
        rows = inside[begin : begin + STRIP]
        yield rows, *(where.laid(one, begin, len(rows)) for one in small)


def enlarged(values: "Array", shape: tuple[int, ...], top: int, rows: int) -> np.ndarray:
    """Rows top .. top + rows of float (C, h, w) resized to `shape` (height, width, ...).

    Bicubic, and the same whatever rows are asked for: (rows, width, C) float32.
    """
    scale = values.shape[1] / shape[0]
    box = (0, top * scale, values.shape[2], (top + rows) * scale)
    resized = (
        Image.fromarray(channel).resize((shape[1], rows), Image.Resampling.BICUBIC, box)
        for channel in as_array(values)
    )
    return np.stack([np.asarray(channel) for channel in resized], axis=-1)


def lighter(one: Picture | None, other: Picture | None) -> Picture | None:
    """The union of two grey masks of one size; None is no mask."""
    if one is None or other is None or one.size != other.size:
        return other or one
    return ImageChops.lighter(one, other)


def cut_out(picture: Picture, mask: Picture) -> Picture:
    """What a grey mask of the picture's size covers, the rest transparent: RGBA."""
    result = picture.convert("RGB")
    result.putalpha(mask)
    return result


def pixels(picture: Picture) -> np.ndarray:
    """RGB picture to uint8 (3, h, w)."""
    return np.ascontiguousarray(np.asarray(picture, dtype=np.uint8).transpose(2, 0, 1))


def as_array(values: "Array") -> np.ndarray:
    """A network's tensor, on whatever device, or an export's array, as a float32 array."""
    return values if isinstance(values, np.ndarray) else values.detach().float().cpu().numpy()


def to_unit(values: Values) -> Values:
    """uint8 0..255 to float32 -1..1, any shape."""
    wide = values.astype(np.float32) if isinstance(values, np.ndarray) else values.float()
    return wide / 127.5 - 1


def to_tensor(pictures: Sequence[Picture], config: Framing) -> "Tensor":
    """Pictures of any size to what a network reads: (N, 3, side, side) in [-1, 1]."""
    import torch

    return torch.from_numpy(to_array(pictures, config))


def to_array(pictures: Sequence[Picture], config: Framing) -> np.ndarray:
    """The same as a float32 array, which is what an export reads."""
    return to_unit(np.stack([pixels(fit(picture, config)) for picture in pictures]))


def to_pictures(values: "Array") -> list[Picture]:
    """(N, 3, h, w) in [-1, 1] to N RGB pictures."""
    levels = to_levels(as_array(values))
    return [Image.fromarray(one) for one in levels.transpose(0, 2, 3, 1)]


def to_levels(values: Values) -> Values:
    """float -1..1 to uint8 0..255, any shape: what `to_unit` undoes."""
    levels = ((values + 1) * 127.5).round().clip(0, 255)
    return levels.astype(np.uint8) if isinstance(levels, np.ndarray) else levels.byte()


def encode(picture: Picture, suffix: str = ".png", note: str = "") -> bytes:
    """The file contents of a picture. Raises DidaError for a suffix we do not write.

    `note`: what was done to it, which its metadata tell, and by which software, where they can.
    """
    if (kind := WRITABLE.get(suffix.lower())) is None:
        raise DidaError(
            f"cannot write {suffix or 'a file with no suffix'}; use {', '.join(WRITABLE)}"
        )
    buffer = io.BytesIO()
    try:
        told = _metadata(kind, note) | {PROFILE: picture.info.get(PROFILE)}
        picture.save(buffer, kind, quality=95, **told)  # which JPEG and WebP heed
    except (OSError, ValueError) as error:
        raise DidaError(f"{kind} cannot hold this picture ({error}); use .png") from None
    return buffer.getvalue()


def encode_moving(pictures: Sequence[Picture], suffix: str, note: str = "") -> bytes:
    """The file contents of an animation there and back again, for ever. Pictures of one size."""
    kind, buffer = MOVING[suffix.lower()], io.BytesIO()
    first, *others = [*pictures, *pictures[-2:0:-1]]
    told = {"comment": note} if kind == "GIF" else _metadata(kind, note)
    more = {"append_images": others, "duration": FRAME, "loop": 0, "quality": 90}
    first.save(buffer, kind, save_all=True, **more, **told)
    return buffer.getvalue()


def _metadata(kind: str, note: str) -> dict[str, Any]:
    """What Pillow is to write beside the pixels; BMP holds nothing else."""
    if not note:
        return {}
    if kind == "PNG":
        told = PngImagePlugin.PngInfo()
        told.add_text("Software", SOFTWARE)
        told.add_itxt("Description", note)
        return {"pnginfo": told}
    exif = Image.Exif()
    exif[ExifTags.Base.Software], exif[ExifTags.Base.ImageDescription] = SOFTWARE, note
    return {"exif": exif}


def write(picture: Picture, path: Path, note: str = "") -> None:
    """Save under a temporary name, then rename: a file under `path` is always whole."""
    write_bytes(encode(picture, path.suffix, note), path)


def write_bytes(contents: bytes, path: Path) -> None:
    """Replace `path` by these contents at once or not at all. Raises DidaError naming it."""
    temporary = path.parent / f"{TEMPORARY}{uuid4().hex}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(contents)
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise DidaError(
            f"{path}: cannot be written ({error.strerror}); choose another -o"
        ) from None
