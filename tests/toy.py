"""A method in a file of its own: all that the program asks of one. `test_toy` puts it to work."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dida_cli.codes import Ability, Codes, Rendering
from dida_cli.config import Json, ModelConfig
from dida_cli.methods import settings_of
from dida_cli.players import Batch, Players
from dida_cli.players import Network as Base

ABILITIES: frozenset[Ability] = frozenset({"two parts", "common code"})
TAKES = "parts"


@dataclass(frozen=True, kw_only=True)
class Settings(Json):
    common: int = 2  # channels of the common code
    rate: float = 0.01


class Network(Base):
    """An autoencoder: a common code, and a channel for each part."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.settings: Settings = settings_of(config)
        parts = len(config.parts)
        self.abilities = ABILITIES if parts == 2 else ABILITIES - {"two parts"}
        channels = self.settings.common + parts
        self.encoder = nn.Conv2d(3, channels, 4, stride=4)
        self.decoder = nn.ConvTranspose2d(channels, 3, 4, stride=4)

    def encode(self, image: Tensor) -> Codes:
        code = self.encoder(image)
        common = self.settings.common
        return Codes(code[:, :common], code[:, common : common + 1], code[:, common + 1 :])

    def compose(
        self, codes: Codes, onto: Tensor | None = None, own: Codes | None = None
    ) -> Rendering:
        return Rendering(torch.tanh(self.decoder(torch.cat(codes, dim=1)).float()), None)


def players(network: Base) -> Players:
    rate = settings_of(network.config).rate
    return Players(network, rate=rate, betas=(0.9, 0.99), clip=5.0)


def losses(players: Players, batch: Batch, step: int) -> dict[str, Tensor]:
    network = players.network
    terms = {"rebuild": torch.zeros(()), "lack": torch.zeros(())}
    for part, sides in batch.items():
        pictures = torch.cat(sides)
        terms["rebuild"] = terms["rebuild"] + F.l1_loss(
            network.compose(network.encode(pictures)).image, pictures
        )
        lacks = network.encode(sides.lacks).of(part).float()
        terms["lack"] = terms["lack"] + lacks.square().mean()
    return terms | {"pictures": torch.tensor(float(2 * len(pictures)))}
