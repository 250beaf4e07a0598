"""Beginning a training with what another model has learned."""

import re

import torch
from torch import Tensor, nn

from dida_cli import checkpoint
from dida_cli.checkpoint import Network
from dida_cli.config import ModelConfig
from dida_cli.errors import DidaError
from dida_cli.nets import settle_spectral

QUIET = 0.1  # how much less a channel says that a code gets, than one it has


def take_over(own: Network, other: Network) -> list[str]:
    """Copy the weights of a trained model into another; the names of those that stay fresh.

    A tensor is taken when its name and shape agree. Further output channels of the decoder's last
    layer stay fresh beside those taken: so a model with masks begins with what a plain one has
    learned. Compact models take more: separate codes get fewer or more channels (`recoded`), and
    the stages of another side are counted from the code outwards (`grown`). Raises DidaError
    when the two have no tensor in common.
    """
    known, state = checkpoint.baked(other).state_dict(), checkpoint.plain_state(own)
    if other.config.architecture == own.config.architecture == "compact":
        if "decoder.0.weight" in known:
            known = recoded(known, other.config, own.config)
        known = grown(known, other.config, own.config)
    same = {n for n, t in state.items() if n in known and t.shape == known[n].shape}
    wider = {n for n in _last_layer(own) if n in known} - same
    if any(not _is_wider(state[name], known[name]) for name in wider):
        wider = set()  # weight and bias go together
    if not same:
        raise DidaError("the model to begin from has no tensor in common with the new one")
    for name in same:
        state[name].copy_(known[name])
    for name in wider:
        state[name][: len(known[name])].copy_(known[name])
    settle_spectral(own)
    return sorted([*(state.keys() - same - wider), *(f"{n}[{len(known[n])}:]" for n in wider)])


def recoded(state: dict[str, Tensor], before: ModelConfig, after: ModelConfig) -> dict[str, Tensor]:
    """The weights of a compact model with one decoder, its separate codes of other widths.

    A code as wide as before is left as it is; that of a part which the new model has not is
    dropped.
    """
    state = dict(state)
    codes = torch.split(
        state["decoder.0.weight"], [before.common, before.separate_a, before.separate_b]
    )  # (channels, width, 4, 4)
    read = [codes[0]]
    for part, code in zip("ab", codes[1:], strict=True):
        wanted = getattr(after, f"separate_{part}")
        made = f"encoders.separate_{part}.{3 * before.encoder_stages}"
        if 0 < len(code) != wanted > 0:
            change = _narrowed if wanted < len(code) else _widened
            weight, bias = state[f"{made}.weight"], state[f"{made}.bias"]
            state[f"{made}.weight"], state[f"{made}.bias"], code = change(
                weight, bias, code, wanted
            )
        read.append(code if wanted else code[:0])
    state["decoder.0.weight"] = torch.cat(read)
    return state


def _narrowed(
    weight: Tensor, bias: Tensor, read: Tensor, wanted: int
) -> tuple[Tensor, Tensor, Tensor]:
    """What makes a code, and what reads it, with fewer channels.

    Between the two convolutions lies nothing: their weights' product is one matrix, and its
    largest singular values are kept, so that what a code says loudest stays (Eckart and Young,
    1936).
    """
    reader, maker = read.flatten(1).T.double(), weight.flatten(1).double()  # (width * 16, code)
    left, values, right = torch.linalg.svd(reader @ maker, full_matrices=False)
    root = values[:wanted].sqrt()
    made = (root[:, None] * right[:wanted]).view(wanted, *weight.shape[1:])
    moved = left[:, :wanted].T @ reader @ bias.double() / root
    narrow = (root[:, None] * left[:, :wanted].T).view(wanted, *read.shape[1:])
    return made.float(), moved.float(), narrow.float()


def _widened(
    weight: Tensor, bias: Tensor, read: Tensor, wanted: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The same with more channels: they say a little at random, and are not yet read."""
    more = wanted - len(weight)
    quiet = weight.std() * QUIET * torch.randn_like(weight[:1].expand(more, -1, -1, -1))
    return (
        torch.cat([weight, quiet]),
        torch.cat([bias, bias.new_zeros(more)]),
        torch.cat([read, read.new_zeros(more, *read.shape[1:])]),
    )


def grown(state: dict[str, Tensor], before: ModelConfig, after: ModelConfig) -> dict[str, Tensor]:
    """The weights of a compact model by their names in one with more stages, or with fewer.

    The stages next to the code keep what they know, and those next to the picture are new: so a
    model of twice the side begins with one of half of it (as Karras et al., 2018, grow theirs).
    Encoders that go on seeing the picture at the old side (`encoder_side`) are taken whole.
    """
    more = after.encoder_stages - before.encoder_stages
    if not more and after.stages == before.stages:
        return state
    grown = {}
    for name, tensor in state.items():
        net, place, leaf = _placed(name)
        is_encoder = net.startswith("encoders.")
        if is_encoder and (place := place + 3 * more) < 0:
            continue
        makes_picture = not is_encoder and place >= 3 * before.stages  # a decoder's last layer
        if not makes_picture or after.stages == before.stages:
            grown[f"{net}.{place}.{leaf}"] = tensor
    return grown


def _placed(name: str) -> tuple[str, int, str]:
    """`encoders.common.3.weight` to its net, the place there, and the rest."""
    found = re.fullmatch(r"(.+?)\.(\d+)\.(.+)", name)
    assert found, name
    return found[1], int(found[2]), found[3]


def _last_layer(model: Network) -> list[str]:
    """The parameters of the decoder's last layer where their first dimension is its output."""
    layers = getattr(model, "decoder", None)
    if not isinstance(layers, nn.Sequential) or not isinstance(layers[-1], nn.Conv2d):
        return []
    return [f"decoder.{len(layers) - 1}.{name}" for name, _ in layers[-1].named_parameters()]


def _is_wider(own: Tensor, other: Tensor) -> bool:
    return own.shape[1:] == other.shape[1:] and len(own) > len(other)
