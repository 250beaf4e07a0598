"""The methods: a name and a module each. Training, saving, exporting, scoring and the commands
take a method from here and know nothing of it.

A method's module holds
    Settings    a frozen `config.Json`: what a recipe's [settings] may say, checked, with defaults
    Network     an nn.Module and a `codes.Model`, made of a ModelConfig
    ABILITIES   what the network can do (`codes.Ability`)
    TAKES       what it learns from: "parts", pictures with and without each part, or "domains",
                two domains of which each has its own part and lacks the other's
    players     (network) -> players.Players: the network and whatever plays against it
    losses      (players, batch, step) -> named terms, each weighted; their sum is minimised, and
                what has no gradient is a figure that is logged
"""

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, Protocol

from dida_cli.codes import Ability
from dida_cli.config import Json, ModelConfig
from dida_cli.errors import DidaError

if TYPE_CHECKING:
    from torch import Tensor

    from dida_cli.players import Batch, Players
    from dida_cli.players import Network as Base

MODULES = {
    "retouch": "dida_cli.methods.retouch",
    "layers": "dida_cli.methods.layers",
    "didd": "dida_cli.methods.didd",
    "mask": "dida_cli.methods.mask",
    "fader": "dida_cli.methods.fader",
    "munit": "dida_cli.methods.munit",
    "drit": "dida_cli.methods.drit",
}


class Method(Protocol):
    """What a method's module is."""

    Settings: type[Json]
    Network: "type[Base]"
    ABILITIES: frozenset[Ability]
    TAKES: Literal["parts", "domains"]

    def players(self, network: "Base") -> "Players": ...

    def losses(self, players: "Players", batch: "Batch", step: int) -> "dict[str, Tensor]": ...


def find(name: str) -> Method:
    """The method of this name. Raises DidaError when there is none."""
    if name not in MODULES:
        raise DidaError(f"no method {name!r}; there are {', '.join(MODULES)}")
    return import_module(MODULES[name])


def settings_of(config: ModelConfig, where: str = "settings") -> Any:
    """The method's settings of a config, checked. Raises DidaError naming the wrong one."""
    return find(config.method).Settings.from_json(config.settings, where, partial=True)


def complete(method: str, given: Mapping[str, Any], where: str = "settings") -> dict[str, Any]:
    """All settings of a method: those given, and its defaults. Raises as `settings_of` does."""
    return find(method).Settings.from_json(dict(given), where, partial=True).to_json()
