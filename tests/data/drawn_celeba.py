"""CelebA as its authors ship it, but with a few drawn faces: for the tests."""

import functools
import io
import zipfile
from pathlib import Path

from PIL import Image, ImageDraw

NAMES = (
    "5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs Big_Lips Big_Nose "
    "Black_Hair Blond_Hair Blurry Brown_Hair Bushy_Eyebrows Chubby Double_Chin Eyeglasses Goatee "
    "Gray_Hair Heavy_Makeup High_Cheekbones Male Mouth_Slightly_Open Mustache Narrow_Eyes No_Beard "
    "Oval_Face Pale_Skin Pointy_Nose Receding_Hairline Rosy_Cheeks Sideburns Smiling Straight_Hair "
    "Wavy_Hair Wearing_Earrings Wearing_Hat Wearing_Lipstick Wearing_Necklace Wearing_Necktie Young"
).split()
SIZE = (178, 218)
COUNT = 24


def smiles(index: int) -> bool:
    return index % 4 in (0, 2)


def has_glasses(index: int) -> bool:
    return index % 4 in (1, 2)


def part(index: int) -> int:
    """0 training, 1 validation, 2 test: the last quarter is held out."""
    return 0 if index < COUNT - 8 else 1 if index < COUNT - 4 else 2


def name(index: int) -> str:
    return f"{index + 1:06d}.jpg"


def face(index: int) -> Image.Image:
    """A face whose colours are its own, with the smile and the glasses the list says."""
    picture = Image.new("RGB", SIZE, (40 + 8 * index, 120, 250 - 8 * index))
    draw = ImageDraw.Draw(picture)
    draw.ellipse((30, 40, 148, 190), fill=(230, 190 - 3 * index, 150))
    draw.arc((60, 120, 118, 160), *((20, 160) if smiles(index) else (200, 340)), (90, 20, 20), 5)
    for left in (52, 98):
        draw.ellipse((left + 8, 90, left + 20, 102), fill=(20, 20, 20))
        if has_glasses(index):
            draw.ellipse((left, 80, left + 30, 112), outline=(0, 0, 0), width=4)
    return picture


@functools.cache
def jpeg(index: int) -> bytes:
    buffer = io.BytesIO()
    face(index).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def attribute_list(end: str = "\n") -> str:
    """The authors' file: columns set apart by one blank or two, a blank after the names."""
    rows = [
        name(index) + "".join(f" {1 if has(index, column) else -1:2d}" for column in NAMES)
        for index in range(COUNT)
    ]
    return end.join([str(COUNT), " ".join(NAMES) + " ", *rows, ""])


def has(index: int, column: str) -> bool:
    return {"Smiling": smiles(index), "Eyeglasses": has_glasses(index)}.get(
        column, (index + len(column)) % 3 == 0
    )


def write(root: Path, *, official: bool = True, archive: bool = False, end: str = "\n") -> Path:
    """The pictures and both lists: in Img, Anno and Eval, or all in `root`."""
    img, anno, eval_ = (root / (place if official else "") for place in ("Img", "Anno", "Eval"))
    for folder in (img, anno, eval_):
        folder.mkdir(parents=True, exist_ok=True)
    (anno / "list_attr_celeba.txt").write_bytes(attribute_list(end).encode())
    lines = [f"{name(index)} {part(index)}" for index in range(COUNT)]
    (eval_ / "list_eval_partition.txt").write_bytes(end.join([*lines, ""]).encode())
    pictures = {f"img_align_celeba/{name(index)}": jpeg(index) for index in range(COUNT)}
    if archive:
        write_zip(img / "img_align_celeba.zip", {"img_align_celeba/": b""} | pictures)
    else:
        (img / "img_align_celeba").mkdir()
        for file, content in pictures.items():
            (img / file).write_bytes(content)
    return root


def write_zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for file, content in members.items():
            made.writestr(file, content)
    return path
