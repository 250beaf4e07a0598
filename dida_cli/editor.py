"""A loaded model at work on pictures: read, fit, encode, edit, compose, paste back.

    editor = dida_cli.load("avatars-smile-glasses")
    editor.transfer("face.png", guide_b="glasses.png").save("edited.png")

Pictures come in as paths, as images of Pillow's, or as arrays (height, width, 3 or 4) of uint8;
they go out as images of Pillow's, of which `numpy.asarray` makes arrays. A part is named as the
model names it, or a, b or both. What cannot be done is raised as a DidaError of one line.
"""

import os
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dida_cli import codes, images
from dida_cli.codes import Ability, Code, Codes, Model
from dida_cli.config import DEFAULT_MODEL, PARTS, PHOTO_MODEL, Device, Domains, Part, Runtime, Size
from dida_cli.errors import DidaError
from dida_cli.images import Area, Picture, Source

if TYPE_CHECKING:
    from torch import Tensor

    from dida_cli.faces import Choice
    from dida_cli.hub import Progress

Given = Source | Codes  # a guide: a picture, or what `Editor.guide` made of it
Ends = tuple[Given | None, Given | None]  # from and to; None is a picture without the part

STRONGEST = 2.0  # 1 is the whole edit
WITHOUT: dict[Ability, str] = {  # what a model cannot do, and a bundled one that can
    "masks": f"has no masks: it draws the whole picture anew; -m {DEFAULT_MODEL} has them",
    "common code": "changes the picture it is given and can draw none between two contents; "
    "-m avatars-smile-glasses-didd can",
}


class Edit:
    """What became of a picture, and a note that says what was done."""

    def __init__(self, image: Picture, note: str, mask: Callable[[], Picture] | None) -> None:
        self.image, self.note = image, note
        self._mask = mask

    @cached_property
    def mask(self) -> Picture | None:
        """Where the picture was changed: grey, of its size, 255 is all. None: drawn anew, whole."""
        return self._mask() if self._mask else None

    def save(self, path: str | os.PathLike[str], *, metadata: bool = True) -> None:
        """Write the image, of the kind that the path ends in, at once or not at all.

        metadata: tell in the file that dida edited it, and how.
        """
        images.write(self.image, Path(path), self.note if metadata else "")


@dataclass(frozen=True)
class Editor:
    """A loaded model and what it does to pictures. `load` makes one.

    Attributes:
        name: what it was loaded by.
        device: where it computes.
        batch: what the model reads of squares that were cut from pictures.
        fingerprint: gives the sha256 of what the model was read from.
        faces: which faces of a picture a model of faces edits; None: the largest.
    """

    name: str
    device: str
    model: Model = field(repr=False)
    batch: "Callable[[Sequence[Picture]], Tensor]" = field(repr=False)
    fingerprint: Callable[[], str] = field(repr=False)
    faces: "Choice | None" = None

    @property
    def domains(self) -> Domains:
        """What the model calls its parts."""
        return self.model.config.domains

    def name_of(self, part: Part) -> str:
        """What the model calls a part. Raises DidaError when it has none of it."""
        if part not in self.domains.parts:
            raise DidaError(f"{self.name} knows no part of its own in domain B; use part a")
        return self.domains.of(part)

    def require(self, ability: Ability) -> None:
        """Raises DidaError, naming a model that can, where this one cannot."""
        if ability not in self.model.abilities:
            raise DidaError(f"{self.name} {WITHOUT[ability]}")

    def encode(self, picture: Source) -> Codes:
        """The codes of a picture, a batch of one; of a picture of people, of the largest face."""
        return self.model.encode(self._squares(*self._areas(picture, is_guide=True)))

    def _areas(
        self, source: Source, *, alpha: bool = False, is_guide: bool = False
    ) -> tuple[Picture, list[Area]]:
        """A picture, and where in it the model looks: at all of it, or at faces."""
        picture, config = images.read(source, alpha=alpha), self.model.config
        if config.fit != "face":
            return picture, [images.area(picture, config)]
        from dida_cli import faces

        choice = self.faces or faces.Choice()
        if is_guide:
            choice = replace(choice, which="largest", points=())
        return picture, faces.areas(picture, choice, images.name_of(picture))

    def _squares(self, picture: Picture, areas: Sequence[Area]) -> "Tensor":
        """What the model sees: (N, 3, side, side) in [-1, 1].

        Warns of photos, or with `strict` raises DidaError, where the model knows drawings.
        """
        config = self.model.config
        if config.fit == "drawing" and not images.is_drawing(picture):
            words = f"{images.name_of(picture)}: looks like a photo, and {self.name} knows drawings"
            if self.faces and self.faces.strict:
                raise DidaError(f"{words}; -m {PHOTO_MODEL} knows photos")
            warnings.warn(f"{words}; try -m {PHOTO_MODEL}", stacklevel=2)
        return self.batch([area.cut(picture, config.side) for area in areas])

    def guide(self, picture: Given, part: Part) -> Codes:
        """The codes of a picture whose part is wanted; made once, they serve for many contents.

        Warns when the model finds no such part in it. Codes are given back as they are.
        """
        name = self.name_of(part)
        if isinstance(picture, Codes):
            return picture
        found = self.encode(picture)
        if not found.of(part).any():
            warnings.warn(f"{self.name} sees no {name} in its guide, and gives none", stacklevel=2)
        return found

    def transfer(
        self,
        content: Source,
        *,
        guide_a: Given | None = None,
        guide_b: Given | None = None,
        keep: str | Collection[str] = (),
        strength: float = 1.0,
        size: Size = "own",
    ) -> Edit:
        """Give the content what the guides have: of guide_a the part a, of guide_b the part b.

        Args:
            keep: the content's own parts that stay where no guide is given.
            strength: 0 changes nothing, 1 is the edit, up to 2 exaggerates.
            size: own: a model with masks edits the picture at its own size; model: the square that
                the model sees. A model without masks always gives that.
        """
        if guide_a is None and guide_b is None:
            raise DidaError("give guide_a or guide_b, or both")
        of_a = None if guide_a is None else self.guide(guide_a, "a")
        of_b = None if guide_b is None else self.guide(guide_b, "b")
        kept = self._parts(keep)

        def change(own: Codes) -> Codes:
            return codes.transfer(own, guide_a=of_a, guide_b=of_b, keep=kept)

        given = [part for part, of in zip(PARTS, (of_a, of_b), strict=True) if of]
        return self._edit(content, change, self.note("transferred", *given), strength, size)

    def remove(
        self, picture: Source, *parts: str, strength: float = 1.0, size: Size = "own"
    ) -> Edit:
        """Take parts off a picture; all that the model knows if none is named."""
        removed = self._parts(parts or "both")
        note = self.note("removed", *removed)
        return self._edit(picture, lambda own: own.without(*removed), note, strength, size)

    def note(self, done: str, *parts: Part) -> str:
        """What was done to parts, for a picture's metadata: `glasses removed by portraits`."""
        names = " and ".join(map(self.name_of, parts)) or "contents"
        return f"{names} {done} by {Path(self.name).name}"

    def segment(self, picture: Source, *parts: str) -> Picture:
        """Where a picture has the parts: grey, of its size, 255 is all.

        All that the model knows if none is named. Raises DidaError when it has no masks.
        """
        self.require("masks")
        wanted, (read, areas) = self._parts(parts or "both"), self._areas(picture)
        masks = codes.segment(self.model, self._squares(read, areas), *wanted)
        return images.full_mask(read, [*masks], areas)

    def interpolate(
        self,
        content: Source | tuple[Source, Source],
        *,
        guide_a: Given | Ends | None = None,
        guide_b: Given | Ends | None = None,
        keep: str | Collection[str] = (),
        steps: int = 6,
        size: Size = "own",
    ) -> list[Any]:
        """Pictures on the way from one guide, or content, to another, of a size as in `transfer`.

        What is given as (from, to) moves; a guide that is None there is a picture without the part.
        One that moves makes a list of `steps` pictures; two make a list of `steps` such lists, of
        which the first (of content, guide_a, guide_b) moves down and the second across. With one
        content, each step is painted onto it.
        """
        ends: dict[Code, Any]
        ends = {"common": _ends(content), "a": _ends(guide_a), "b": _ends(guide_b)}
        found, kept = moving(ends), self._parts(keep)
        if steps < 2:
            raise DidaError(f"steps must be 2 or more, not {steps}")
        onto = own = None
        if "common" in found:
            self.require("common code")
            contents = [self.encode(end) for end in ends["common"]]
        else:
            picture, areas = self._sized(*self._areas(ends["common"][0], alpha=True), size)
            seen = images.srgb(picture)
            onto = self._squares(seen, areas[:1])
            contents = [own := self.model.encode(onto)]
        nothing = contents[0].without(*PARTS)
        guides = {
            f"guide_{part}": [nothing if g is None else self.guide(g, part) for g in ends[part]]
            for part in PARTS
            if ends[part]
        }
        start, end = (
            codes.transfer(contents[i], keep=kept, **{name: of[i] for name, of in guides.items()})
            for i in (0, -1)
        )

        def drawn(wanted: Codes) -> Picture:
            made = self.model.compose(wanted, onto, own)
            if onto is None or made.mask is None:
                return images.to_pictures(made.image)[0]
            paint = onto[0], made.image[0], made.mask[0], areas[0]
            return images.as_before(images.painted(seen, *paint), seen, picture)

        if len(found) == 1:
            return [drawn(one) for one in codes.interpolate(start, end, steps)]
        table = codes.grid(start, end, down=found[0], across=found[1], steps=steps)
        return [[drawn(one) for one in row] for row in table]

    def _parts(self, names: str | Collection[str]) -> tuple[Part, ...]:
        """The parts of these names. Raises DidaError naming one that the model does not know."""
        names = [names] if isinstance(names, str) else names
        found = (part for name in names for part in parts_of(self.domains, name))
        return tuple(dict.fromkeys(found))

    def _edit(
        self,
        source: Source,
        change: Callable[[Codes], Codes],
        note: str,
        strength: float,
        size: Size,
    ) -> Edit:
        """An edit of one picture, at its own size where it can be."""
        if not 0 <= strength <= STRONGEST:
            raise DidaError(f"strength must be 0 to {STRONGEST:g}, not {strength}")
        picture, areas = self._sized(*self._areas(source, alpha=True), size)
        seen = images.srgb(picture)
        onto = self._squares(seen, areas)
        own = self.model.encode(onto)
        made = self.model.compose(codes.between(own, change(own), strength), onto, own)
        if (mask := made.mask) is None:
            return Edit(images.to_pictures(made.image)[0], note, None)
        result = seen
        for area, before, image, where in zip(areas, onto, made.image, mask, strict=True):
            result = images.painted(result, before, image, where, area)
        return Edit(
            images.as_before(result, seen, picture),
            note,
            lambda: images.full_mask(picture, [*mask], areas),
        )

    def _sized(
        self, picture: Picture, areas: list[Area], size: Size
    ) -> tuple[Picture, Sequence[Area]]:
        """A picture, and where the model looks, or the square that it sees there first."""
        if size == "own":
            return picture, areas
        side = self.model.config.side
        return areas[0].cut(images.srgb(picture), side), [images.Box((0, 0, side, side))]


def load(
    name: str | os.PathLike[str],
    device: Device = "auto",
    runtime: Runtime = "auto",
    *,
    on_progress: "Progress" = lambda done, total, words: None,
) -> Editor:
    """A model, ready to edit: a bundled name, a folder, a run, an export, or org/repo[@revision].

    Args:
        device: where to compute; auto takes CUDA where there is one.
        runtime: onnx runs what `dida export` wrote, without torch; auto does so where `name` is
            such a folder.
        on_progress: is told of a download: bytes done, bytes in all, of what.

    Raises DidaError when there is no such model, it is damaged, or is not for that runtime.
    """
    from dida_cli.export import onnx

    name = os.fspath(name)
    if onnx.is_export(Path(name)):
        if runtime == "torch":
            raise DidaError(f"{name}: is an export, which torch cannot run; drop --runtime torch")
        graphs = onnx.load(Path(name), device)

        def array(squares: Sequence[Picture]) -> Any:
            return images.to_array(squares, graphs.config)

        return Editor(name, graphs.device, graphs, array, lambda: graphs.fingerprint)
    if runtime == "onnx":
        raise DidaError(f"{name}: is not exported; dida export {name} makes a folder for -m")
    from dida_cli import checkpoint, hub

    folder = hub.resolve(name, on_progress=on_progress)
    where = pick_device(device)
    network = checkpoint.load(folder, where)

    def tensor(squares: Sequence[Picture]) -> "Tensor":
        return images.to_tensor(squares, network.config).to(where)

    return Editor(name, where, network, tensor, lambda: hub.fingerprint(folder))


def pick_device(wanted: Device) -> str:
    """Where torch computes: cpu or cuda. Raises DidaError when CUDA is asked for and not there."""
    import torch

    there = torch.cuda.is_available()
    if wanted == "cuda" and not there:
        raise DidaError("no CUDA device is usable here; use --device cpu or --device auto")
    return "cuda" if there and wanted != "cpu" else "cpu"


def parts_of(domains: Domains, name: str) -> tuple[Part, ...]:
    """The parts of a name: a, b, what a model calls them, or both. Raises DidaError with them."""
    meanings: dict[str, tuple[Part, ...]] = {domains.of(part): (part,) for part in domains.parts}
    meanings |= {part: (part,) for part in domains.parts} | {"both": domains.parts}
    if name not in meanings:
        raise DidaError(f"no part is called {name!r}; there are {called(domains)}")
    return meanings[name]


def called(domains: Domains) -> str:
    """What a model calls its parts, in words."""
    names = [f"{part} ({domains.of(part)})" for part in domains.parts]
    return ", ".join([*names, "both"] if len(names) > 1 else names)


def moving(ends: Mapping[Code, Sequence[object]]) -> list[Code]:
    """Of what there is the content, guides a and guides b, what is given twice: from and to.

    One code, or two for a grid. Raises DidaError when there are none, or too many.
    """
    for name, given in ends.items():
        if len(given) > 2:
            what = "the content" if name == "common" else f"guide {name}"
            raise DidaError(f"{what} is given {len(given)} times; from and to are two")
    found = [name for name, given in ends.items() if len(given) == 2]
    if not found:
        raise DidaError("nothing moves: give one of content, guide a, guide b twice, from and to")
    if len(found) == 3:
        raise DidaError("a grid moves two: give one of content, guide a, guide b once")
    return found


def _ends(given: Any) -> tuple[Any, ...]:
    """From and to, where they are given; else the one there is, or nothing."""
    if isinstance(given, tuple | list) and not isinstance(given, Codes):
        return tuple(given)
    return () if given is None else (given,)
