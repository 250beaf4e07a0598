"""Settings as frozen data: checked once, kept as JSON beside the weights. Standard library only."""

import json
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, get_args, get_origin

from dida_cli.errors import DidaError

Architecture = Literal["compact", "paper"]
CriticTarget = Literal["half", "paper"]
Fit = Literal["crop", "squash"]
Method = Literal["didd", "mask", "layers"]
Glass = Literal["none", "a", "b", "both"]
Refine = Literal["none", "glass", "beneath", "place"]
LOOKALIKES: dict[Refine, int] = {"beneath": 256, "place": 8000}  # that it needs
Part = Literal["a", "b"]
Precision = Literal["float32", "bfloat16", "float16"]
Tracking = Literal["tensorboard", "trackio", "wandb"]

PARTS: tuple[Part, ...] = ("a", "b")
OTHER: dict[Part, Part] = {"a": "b", "b": "a"}

CONFIG = "config.json"  # in every model folder
DEFAULT_MODEL = "avatars-smile-glasses"  # what edits use unless told otherwise
SIDES = (32, 256)  # smallest and largest picture side in pixels
CHANNELS = 4096  # no code or net may be wider: a config from elsewhere must not eat the memory
MAX_CONFIG_BYTES = 100_000
MAX_WORDS = 300  # characters of a message that a file from elsewhere may fill
NAME_LENGTH = 64  # characters of a domain's name, which is printed in messages and on sheets

# What `ModelConfig.of` fills in for each method and architecture.
COMPACT = {"grid": 4, "width": 192, "common": 64, "separate_a": 8}
PAPER = {"grid": 2, "width": 512, "separate_a": 25}
ARCHITECTURES: dict[tuple[str, str], dict[str, int]] = {
    ("didd", "compact"): COMPACT | {"separate_b": 8},
    ("didd", "paper"): PAPER | {"common": 462, "separate_b": 25},
    ("mask", "compact"): COMPACT | {"separate_b": 0},
    ("mask", "paper"): PAPER | {"common": 487, "separate_b": 0},
    ("layers", "compact"): COMPACT | {"separate_b": 8},
}
LEARNING_RATES = {"compact": 1e-3, "paper": 2e-4}


class _Json:
    """To and from a JSON object, strictly: every key known, every value of its type."""

    LATER: ClassVar[frozenset[str]] = frozenset()  # settings that files from before may lack

    def to_json(self) -> dict[str, Any]:
        return json.loads(json.dumps(asdict(self)))  # type: ignore[call-overload, no-any-return]

    @classmethod
    def from_json(cls, values: object, where: str) -> Self:
        """The settings in `values`, read from `where`. Raises DidaError naming the wrong key."""
        known = {f.name: f for f in fields(cls)}  # type: ignore[arg-type]
        if not isinstance(values, dict):
            raise DidaError(f"{where}: expected an object with {', '.join(known)}")
        if unknown := sorted(set(values) - set(known)):
            raise DidaError(f"{where}: unknown setting {unknown[0]!r}; known: {', '.join(known)}")
        if missing := sorted(set(known) - set(values) - cls.LATER):
            raise DidaError(f"{where}: setting {missing[0]!r} is missing")
        found = {
            name: checked(known[name].type, v, f"{where}: {name}") for name, v in values.items()
        }
        try:
            return cls(**found)
        except DidaError as error:
            raise DidaError(f"{where}: {error}") from None


def checked(kind: Any, value: Any, where: str) -> Any:
    """The value, if it is of this kind. Raises DidaError that says what `where` must be."""
    if isinstance(kind, type) and issubclass(kind, _Json):
        return kind.from_json(value, where)
    if get_origin(kind) is list:
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise DidaError(f'{where} must be a list of texts, as ["Male"], not {value!r}')
        return value
    if choices := get_args(kind):
        if not isinstance(value, str) or value not in choices:
            raise DidaError(f"{where} must be one of {', '.join(choices)}, not {value!r}")
        return value
    accepted = (int, float) if kind is float else kind
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        raise DidaError(f"{where} must be of type {kind.__name__}, not {value!r}")
    return value


@dataclass(frozen=True, kw_only=True)
class Domains(_Json):
    """What each domain alone has, in the user's words, e.g. a = smile, b = glasses."""

    a: str = "smile"
    b: str = "glasses"

    def __post_init__(self) -> None:
        for name in (self.a, self.b):
            if not name.strip() or not name.isprintable() or len(name) > NAME_LENGTH:
                raise DidaError(
                    f"a domain name must be 1 to {NAME_LENGTH} printable characters, not {name!r}"
                )
        if self.a == self.b:
            raise DidaError(f"both domains are called {self.a!r}; give them different names")


@dataclass(frozen=True, kw_only=True)
class ModelConfig(_Json):
    """Everything needed to rebuild a network and to feed it pictures as in its training.

    Attributes:
        side: the square picture the network sees, in pixels, grid times a power of two.
        encoder_side: the side that the encoders see the picture at, shrunk where it is less than
            `side`; 0: as it is. A model with masks takes from the picture itself what it does not
            repaint, so its codes need not hold the last detail.
        fit: how a picture becomes square: its largest centred square, or squashed whole.
        grid: side of the codes' grid in cells.
        width: channels of the deepest stage of the common encoder and of the decoder.
        common, separate_a, separate_b: channels of the three codes; separate_b = 0 is guided
            content transfer with one separate encoder (Press et al., ICLR 2019; always so in
            the published `mask`).
        segment_from: of a mask's value on, a pixel belongs to the part; chosen on validation
            pictures where the truth is known. Only models with masks look at it.
        glass: the parts, of a model with masks, that are seen through: what shows through such a
            part is brought back where it is taken off (`painting.taken_off`).
    """

    LATER = frozenset({"encoder_side", "glass"})

    method: Method = "didd"
    architecture: Architecture = "compact"
    domains: Domains = field(default_factory=Domains)
    side: int = 128
    encoder_side: int = 0
    fit: Fit = "crop"
    grid: int = 4
    width: int = 192
    common: int = 64
    separate_a: int = 8
    separate_b: int = 8
    segment_from: float = 0.5
    glass: Glass = "none"

    @classmethod
    def of(cls, method: Method, architecture: Architecture, **given: Any) -> Self:
        """A config of this kind; whatever is None or not given takes its usual value."""
        usual = ARCHITECTURES.get((method, architecture), {})
        chosen = {name: value for name, value in given.items() if value is not None}
        return cls(method=method, architecture=architecture, **(usual | chosen))

    def __post_init__(self) -> None:
        smallest, largest = SIDES
        if not smallest <= self.side <= largest:
            raise DidaError(f"side must be {smallest} to {largest} pixels, not {self.side}")
        if self.grid < 2:
            raise DidaError(f"grid must be 2 cells or more, not {self.grid}")
        if self.side % self.grid or not _power_of_two(self.side // self.grid) or self.stages < 2:
            fitting = _sides(self.grid, smallest, largest)
            tip = f"try side {' or '.join(map(str, fitting))}" if fitting else "try grid 4"
            raise DidaError(
                f"side {self.side} does not halve two or more times to a grid of {self.grid}; {tip}"
            )
        if self.encoder_side and self.architecture != "compact":
            raise DidaError("encoder_side is for architecture compact; leave it at 0 here")
        if self.encoder_side and (
            self.encoder_side > self.side
            or self.encoder_stages < 2
            or self.grid << self.encoder_stages != self.encoder_side
        ):
            fitting = _sides(self.grid, 1, self.side)
            raise DidaError(
                f"encoder_side {self.encoder_side} does not halve two or more times to a grid of "
                f"{self.grid}, or is larger than side {self.side}; "
                f"try {' or '.join(map(str, fitting))}, or 0, which is side itself"
            )
        if (self.method, self.architecture) not in ARCHITECTURES:
            raise DidaError(f"method {self.method} has no {self.architecture} form; use compact")
        if self.method == "mask" and self.separate_b:
            raise DidaError(
                "method mask is one-sided, as published: separate_b must be 0; "
                "method layers has masks for both domains"
            )
        if not 0 < self.segment_from < 1:
            raise DidaError(f"segment_from must lie between 0 and 1, not {self.segment_from}")
        if self.glass != "none" and (
            self.method == "didd" or not set(self.glass_parts) <= set(self.parts)
        ):
            raise DidaError(f"glass {self.glass}: the model has no mask of such a part; try none")
        for name in ("width", "common", "separate_a", "separate_b"):
            least = 0 if name == "separate_b" else 1
            if not least <= getattr(self, name) <= CHANNELS:
                raise DidaError(f"{name} must be {least} to {CHANNELS}, not {getattr(self, name)}")

    def differs_in(self, other: Self, *, free: Collection[str]) -> str | None:
        """The first setting that is not `other`'s, but for those that are `free`; or None."""
        mine, others = self.to_json(), other.to_json()
        return next(
            (name for name in mine if name not in free and mine[name] != others[name]), None
        )

    @property
    def stages(self) -> int:
        """How often the encoders halve the side."""
        return (self.side // self.grid).bit_length() - 1

    @property
    def encoder_stages(self) -> int:
        """How often the encoders halve what they see."""
        return ((self.encoder_side or self.side) // self.grid).bit_length() - 1

    @property
    def shrink(self) -> int:
        """How many times smaller than the picture is what the encoders see."""
        return self.side // (self.encoder_side or self.side)

    @property
    def channels(self) -> int:
        """Channels of the three codes together: what the decoder reads."""
        return self.common + self.separate_a + self.separate_b

    @property
    def glass_parts(self) -> tuple[Part, ...]:
        """The parts that are seen through."""
        return tuple(part for part in PARTS if self.glass in (part, "both"))

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts the model knows: a, and b where domain B has one of its own."""
        return PARTS if self.separate_b else ("a",)


def _sides(grid: int, smallest: int, largest: int) -> list[int]:
    """The sides from smallest to largest that halve two or more times to a grid."""
    return [side for k in range(2, 8) if smallest <= (side := grid << k) <= largest]


def _power_of_two(number: int) -> bool:
    return number > 0 and number & (number - 1) == 0


@dataclass(frozen=True, kw_only=True)
class Weights(_Json):
    """How much each loss counts; a method knows its own terms alone (see `TERMS`).

    Attributes:
        reconstruction_a, reconstruction_b: every method; `mask` calls them gama and delta.
        zero: nothing of A in a separate code of B, and the reverse (`didd`, `layers`).
        common: the encoder's game with the critic, every method.
        repaint_a, repaint_b: a picture painted onto itself (`mask`: alpha1, alpha2; `layers`).
        cycle_common, cycle_separate: codes of an edit are those it was made of (`mask`: beta1,
            beta2; `layers`: relative to the code's size).
        cycle: what an edit covers can be painted again (`layers`).
        domain: an edit shows the domain it was moved to, to a critic of pictures (`layers`).
        mask: small masks; of glass no more solid than they must be (`layers`).
        mask_late: what `mask` rises to in the second half of a training (`layers`).
        base: a picture with no part is still the picture (`layers`).
        exchange: a layer is the guide's own, whatever it is painted onto (`layers`).
        paint: a layer is right where the base is wrong, whatever its mask (`layers`).
        claim: a mask covers what its layer knows better than the base (`layers`).
        cover: what lies over a part is the picture's own, whatever the part (`layers`).
        blind: a separate code tells nothing of what lies over its part (`layers`).
        smooth: no speckles in what is shown where a part was taken off, but for glass (`layers`).
        information: nats that a separate code says through noise, which it is then sent through
            (`layers`).
        open: each picture of a domain shows its part somewhere: no mask of it is shut (`layers`).
        alike: pictures without their part look alike in both domains: a game with a critic of
            pictures (`layers`).
    """

    reconstruction_a: float = 1.0
    reconstruction_b: float = 1.0
    zero: float = 0.0
    common: float = 0.0
    repaint_a: float = 0.0
    repaint_b: float = 0.0
    cycle_common: float = 0.0
    cycle_separate: float = 0.0
    cycle: float = 0.0
    domain: float = 0.0
    mask: float = 0.0
    mask_late: float = 0.0
    base: float = 0.0
    paint: float = 0.0
    claim: float = 0.0
    exchange: float = 0.0
    cover: float = 0.0
    blind: float = 0.0
    smooth: float = 0.0
    information: float = 0.0
    open: float = 0.0
    alike: float = 0.0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not 0 <= value < float("inf"):
                raise DidaError(f"the weight of {name} must be 0 or more, not {value}")


# What each method trains with unless told otherwise; `mask` is the release's for glasses.
WEIGHTS: dict[str, Weights] = {
    "didd": Weights(zero=1.0, common=0.2),
    "mask": Weights(
        reconstruction_a=7.0,
        reconstruction_b=5.0,
        common=0.005,
        repaint_a=0.7,
        repaint_b=0.7,
        cycle_separate=0.001,
    ),
    # a base needs a stronger critic than a whole picture
    "layers": Weights(
        zero=1.0, common=0.5, repaint_a=0.1, repaint_b=0.1, mask=0.02, mask_late=0.02
    ),
}

# The weights that are of each method's own losses; any other must be 0 there.
TERMS: dict[Method, tuple[str, ...]] = {
    "didd": ("reconstruction_a", "reconstruction_b", "zero", "common"),
    "mask": (
        "reconstruction_a",
        "reconstruction_b",
        "common",
        "repaint_a",
        "repaint_b",
        "cycle_common",
        "cycle_separate",
    ),
    "layers": (
        "reconstruction_a",
        "reconstruction_b",
        "zero",
        "common",
        "repaint_a",
        "repaint_b",
        "cycle_common",
        "cycle_separate",
        "cycle",
        "domain",
        "mask",
        "mask_late",
        "base",
        "paint",
        "claim",
        "exchange",
        "cover",
        "blind",
        "smooth",
        "information",
        "open",
        "alike",
    ),
}


@dataclass(frozen=True, kw_only=True)
class TrainConfig(_Json):
    """Settings of one training. The learning rate falls along a half cosine to a twentieth.

    Attributes:
        batch: pictures of each domain in a step.
        critic_target: what the encoder wants the critic to say of every picture: `half`, that
            it cannot tell (0.5), or `paper`, that it comes from B (1).
        critic_start: steps before the encoder first answers to the critic.
        ema: decay of the running mean of the weights, which is the model that is kept; it rises to
            this value with the steps (`train.running_mean`).
        rise: whether the weights of masks rise from 0 (`mask.py`), as they must where no masks are
            yet; a training begun from a model with masks needs none of it.
        hold: steps for which weights taken from another model stand still, so that the fresh ones
            around them come to fit.
        lookalikes: pictures of each domain that are remembered, so that `exchange` finds one that
            looks alike around the part (`layers`, `lookalikes.py`); 0: any of the batch. With
            refine `beneath`, whose bases tell what is usual; with `place`, among whom twins are.
        hides: whether a part lies where the other domain has something else, as a smile where
            another mouth is, which it must hide; needs lookalikes.
        refine: how a model of masks is gone on with (`layers`), while all else stands still:
            `glass`, its common encoder learns to see through glass (`refine.py`); `beneath`, its
            decoder learns what other parts lie beneath (`beneath.py`, with lookalikes); `place`,
            its decoder learns where the one part lies (`place.py`, with lookalikes).
        score_every: steps between scores on held-out pictures, by which `best` is chosen;
            a training of at least as many is scored at its end too; 0: never.
        patience: scores in a row without a better one after which a training ends; 0: it never
            ends early.
        accumulate: parts that a batch goes through the networks in, for less memory.
        precision: of the networks' activations; other than float32 on CUDA alone.
        compile: fuse the networks by torch.compile, which takes a minute or two at the start.
    """

    steps: int = 12_000
    batch: int = 8
    learning_rate: float = 1e-3
    weights: Weights = WEIGHTS["didd"]
    critic_target: CriticTarget = "half"
    critic_start: int = 200
    clip: float = 5.0
    ema: float = 0.999
    rise: bool = True
    hold: int = 0
    lookalikes: int = 0
    hides: bool = False
    refine: Refine = "none"
    flip: bool = True
    seed: int = 0
    log_every: int = 20
    save_every: int = 500
    score_every: int = 1000
    patience: int = 0
    accumulate: int = 1
    precision: Precision = "float32"
    compile: bool = False

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "log_every", "save_every", "accumulate"):
            if getattr(self, name) < 1:
                raise DidaError(f"{name} must be 1 or more, not {getattr(self, name)}")
        if not 0 < self.learning_rate < 1:
            raise DidaError(f"learning_rate must lie between 0 and 1, not {self.learning_rate}")
        if not 0 <= self.ema < 1:
            raise DidaError(f"ema must be 0 or more and below 1, not {self.ema}")
        if not self.clip > 0:
            raise DidaError(f"clip must be above 0, not {self.clip}")
        for name in ("critic_start", "hold", "lookalikes", "score_every", "patience"):
            if getattr(self, name) < 0:
                raise DidaError(f"{name} must be 0 or more, not {getattr(self, name)}")
        if self.hides and not self.lookalikes:
            raise DidaError("hides needs lookalikes; set it too, to 256")
        if self.refine != "none" and (self.hold or self.hides):
            raise DidaError("refine goes on without these two; set hold to 0 and hides to false")
        if self.refine == "glass" and self.lookalikes:
            raise DidaError("refine glass goes on without lookalikes; set it to 0")
        if (number := LOOKALIKES.get(self.refine)) and not self.lookalikes:
            raise DidaError(f"refine {self.refine} needs lookalikes; set it too, to {number}")
        if self.patience and not self.score_every:
            raise DidaError("patience counts scores, and score_every 0 makes none; set it too")
        if not 0 <= self.seed < 2**63:
            raise DidaError(f"seed must be 0 or more and below 2^63, not {self.seed}")
        if self.batch % self.accumulate:
            raise DidaError(f"accumulate {self.accumulate} does not divide batch {self.batch}")


def read_config(path: Path) -> ModelConfig:
    """The config of a model folder. Raises DidaError when it is missing, foreign or wrong."""
    values = read_json(path)
    try:
        return ModelConfig.from_json(values, str(path))
    except (DidaError, RecursionError) as error:  # either may quote the file at length
        raise DidaError(f"{path}: {short(str(error).removeprefix(f'{path}: '))}") from None


def read_json(path: Path) -> Any:
    """What a small JSON file of ours holds. Raises DidaError when there is none to read."""
    with in_one_line(path, "readable as JSON"), path.open("rb") as file:
        text = file.read(MAX_CONFIG_BYTES + 1)
        if len(text) > MAX_CONFIG_BYTES:
            raise DidaError(f"{path}: too large to be a config of dida")
        return parse(text)


@contextmanager
def in_one_line(path: Path, wanted: str, *more: type[Exception]) -> Iterator[None]:
    """Turns what can go wrong with a file from elsewhere into a DidaError that names it.

    `more`: what the library raises that reads it.
    """
    damage: tuple[type[Exception], ...] = (OSError, ValueError, RecursionError, *more)
    try:
        if path.exists() and not path.is_file():
            raise DidaError(f"{path}: is a folder, a pipe or a device, not {wanted}")
        yield
    except FileNotFoundError:
        raise DidaError(f"{path}: no such file; give a model folder that has one") from None
    except damage as error:
        raise DidaError(f"{path}: not {wanted} ({short(error)}); get it again") from None


def parse(text: bytes) -> Any:
    """JSON whose objects have every key once. Raises ValueError."""
    return json.loads(text.decode(), object_pairs_hook=_object)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(values := dict(pairs)) < len(pairs):
        raise ValueError("an object has the same key twice")
    return values


def short(words: object) -> str:
    """Words that a file from elsewhere had a hand in, fit for one line of a terminal."""
    text = str(words)
    shown = "".join(c if c.isprintable() else "?" for c in text[:MAX_WORDS])
    return shown if len(text) <= MAX_WORDS else f"{shown}..."
