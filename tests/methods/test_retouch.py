"""Retouch: what T may touch, how codes are told, and whose gradient each term is."""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import covering
from torch import Tensor, nn

from dida_cli import checkpoint, codes, disturbed, nets, teacher
from dida_cli.config import Domains, ModelConfig
from dida_cli.errors import DidaError
from dida_cli.methods import retouch
from dida_cli.players import Batch, Pairs, Players, Sides, of_part

CONFIG = ModelConfig(
    method="retouch",
    domains=Domains(a="smile", b="glasses"),
    side=32,
    settings={"code": 2, "width": 6, "encoder_width": 4, "critic_width": 4},
)
ONE_ROW = (0.0, -30.0, -30.0, -30.0)  # logits of covers: the first of every four rows


@pytest.fixture
def network() -> retouch.Network:
    """A network whose every edit changes every fourth row, and nothing else."""
    torch.manual_seed(0)
    made = covering(checkpoint.build(CONFIG), *ONE_ROW)
    assert isinstance(made, retouch.Network)
    return made.eval().requires_grad_(False)


def pictures(count: int = 3, seed: int = 1) -> Tensor:
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def batch(count: int = 2) -> Batch:
    sides = [pictures(count, seed) for seed in range(4)]
    return {"a": Sides(*sides[:2]), "b": Sides(*sides[2:])}


def test_a_network_that_keeps_all_changes_nothing_and_finds_no_part() -> None:
    fresh, x = covering(checkpoint.build(CONFIG).eval(), -30.0), pictures()
    own = fresh.encode(x)
    assert own.common.shape == (3, 0, 4, 4) and own.a.shape == own.b.shape == (3, 3, 4, 4)
    assert not own.a.any() and not own.b.any()
    made = fresh.compose(own.without("a", "b"), x, own)
    assert torch.equal(made.image, x) and made.mask is not None and not made.mask.any()


@torch.no_grad()
def test_a_pixel_is_kept_or_becomes_what_lies_around_or_paint() -> None:
    made, x, told = nets.Retoucher(6, width=6), pictures(), torch.zeros(3, 6, 4, 4)
    made.last.bias[:48] = 0.25
    paint = torch.full_like(x, 0.25).tanh()
    for around, painted, shown in (
        (-200.0, -200.0, x),
        (-200.0, 200.0, paint),
        (-200.0, 0.0, (x + paint) / 2),
        (0.0, -200.0, (x + nets.surroundings(x, torch.full_like(x[:, :1], 0.5))) / 2),
    ):
        made.last.bias[48:64], made.last.bias[64:] = around, painted
        image, open_at = made(x, told)
        torch.testing.assert_close(image, shown)
        share = torch.tensor([0, around, painted]).softmax(0)[1:].sum().item()
        torch.testing.assert_close(open_at, torch.full_like(x[:, :1], share))
    made.last.bias[48:] = -200
    assert torch.equal(made(x, told)[0], x)


LAID = replace(CONFIG, settings=CONFIG.settings | {"code": 0})


def hiding(encoder: nets.LayerEncoder, hidden: float, toned: float) -> None:
    """Let it find these logits everywhere."""
    encoder.last.bias.data = torch.tensor([hidden, toned]).repeat_interleave(nets.UNSHUFFLED**2)


@torch.no_grad()
def test_a_layer_is_what_taking_off_changed_and_hides_what_it_says() -> None:
    encoder, guide, bare, x = nets.LayerEncoder(width=4), *(pictures(seed=n) for n in (2, 3, 1))
    everywhere = torch.ones(3, 1, 32, 32)
    layers = []
    for hidden in (-200.0, 0.0, 200.0):
        hiding(encoder, hidden, -200.0)
        code = encoder(guide, bare, everywhere)
        assert code.shape == (3, 6, 32, 32) and (code[:, -1] == 1).all()
        layers.append(code[:, :-1])
        torch.testing.assert_close(nets.laid_over(bare, layers[-1]), guide)  # whatever it hides
    added, half, opaque = (nets.laid_over(x, layer) for layer in layers)
    assert added.abs().max() == 1  # no colour is brighter
    for made, below, of in ((added, x, bare), (half, x / 2, bare / 2), (opaque, 0 * x, 0 * bare)):
        lighter = (below + guide - of).clamp(-1, 1)
        darker = (below + 1) * (guide + 1) / (of + 1) - 1  # by a factor, never below black
        wanted = torch.where(guide < of, darker, lighter)
        torch.testing.assert_close(made, wanted, atol=1e-3, rtol=0)
    assert not encoder(guide, guide, 0 * everywhere)[:, :-1].any()


@torch.no_grad()
def test_what_a_layer_hides_may_take_the_colour_of_what_lies_around() -> None:
    """A mouth, on darker skin than its own."""
    encoder, there = nets.LayerEncoder(width=4), torch.zeros(1, 1, 32, 32)
    there[..., 12:20, 12:20] = 1
    skin, dark = torch.full((1, 3, 32, 32), 0.5), torch.full((1, 3, 32, 32), -0.1)
    guide, x = skin + 0.3 * there, dark - 0.8 * there  # teeth; and closed lips, which are hidden
    hiding(encoder, -200.0, 200.0)
    layer = encoder(guide, skin, there)[:, :-1]
    torch.testing.assert_close(nets.laid_over(skin, layer), guide)
    torch.testing.assert_close(nets.laid_over(x, layer), dark + 0.3 * there, atol=0.02, rtol=0)
    hiding(encoder, 200.0, -200.0)
    opaque = encoder(guide, skin, there)[:, :-1]
    torch.testing.assert_close(nets.laid_over(x, opaque), torch.where(there > 0, guide, x))


@torch.no_grad()
def test_smooth_paint_begins_as_what_lies_around() -> None:
    made, x, told = nets.Retoucher(6, width=6, smooth=True), pictures(), torch.zeros(3, 6, 4, 4)
    made.last.bias[48:64], made.last.bias[64:] = -200, 0  # half is kept, half is paint
    around = nets.surroundings(x, torch.full_like(x[:, :1], 0.5))
    torch.testing.assert_close(made(x, told)[0], (x + around) / 2)
    made.last.bias[:48] = 200
    torch.testing.assert_close(made(x, told)[0], (x + 1) / 2)  # and may have any colour


def test_one_part_may_have_a_code_and_the_other_be_a_layer() -> None:
    torch.manual_seed(0)
    config = replace(CONFIG, settings=CONFIG.settings | {"code": [2, 0]})
    network, x = covering(checkpoint.build(config), *ONE_ROW), pictures(2)
    own = network.encode(x)
    assert own.a.shape == (2, 3, 4, 4) and own.b.shape == (2, 6, 32, 32)
    assert own.a.any() and own.b.any()
    for part in config.parts:
        other = own._replace(**{part: own.of(part).flip(0)})
        made = network.compose(other, x, own)
        assert made.mask is not None and not torch.equal(made.image, x)
        assert torch.equal(torch.where(made.mask > 0, x, made.image), x)
    terms = retouch.losses(retouch.players(network), batch(), 1)
    assert all(term.isfinite() for term in terms.values())


@torch.no_grad()
def test_a_layer_is_of_what_taking_off_changes() -> None:
    torch.manual_seed(0)
    network, x = checkpoint.build(LAID), pictures()
    assert isinstance(network, retouch.Network)
    hiding(network.encoders[0], 200.0, -200.0)
    off = x.clone()
    off[:, :, 10, 10] = -off[:, :, 10, 10].sign()
    layer = network.encoded(x, 0, off)[:, :5]
    there = torch.zeros(32, 32, dtype=torch.bool)
    there[8:13, 8:13] = True  # where the mask is, and next to it
    torch.testing.assert_close(layer[:, :3, 10, 10], x[:, :, 10, 10])
    assert layer[:, 3, there].all() and not layer[:, :, ~there].any()


@torch.no_grad()
def test_a_layer_is_put_on_as_much_as_its_code_says() -> None:
    torch.manual_seed(0)
    network, x, guide = checkpoint.build(LAID), pictures(), pictures(seed=2)
    assert isinstance(network, retouch.Network)
    hiding(network.encoders[1], 200.0, -200.0)
    code = network.encoded(guide, 1, -guide.sign())
    whole = network.put_on(x, 1, code)
    torch.testing.assert_close(whole, guide, atol=2e-3, rtol=0)
    torch.testing.assert_close(network.put_on(x, 1, 0.5 * code), (x + whole) / 2)
    assert torch.equal(network.put_on(x, 1, 0 * code), x)


def moved(term: Tensor, modules: Mapping[str, nn.Module]) -> set[str]:
    """Those of the modules that a term has a gradient for."""
    for module in modules.values():
        module.zero_grad()
    term.backward(retain_graph=True)
    grads = {name: [p.grad for p in module.parameters()] for name, module in modules.items()}
    return {name for name, of in grads.items() if any(g is not None and g.any() for g in of)}


def test_where_a_part_comes_drawn_its_layers_learn_from_pairs_alone() -> None:
    torch.manual_seed(0)
    players = retouch.players(covering(checkpoint.build(LAID), 0.0))
    assert isinstance(players.network, retouch.Network)
    both = {"T": players.network.retoucher, "E": players.network.encoders}
    sides, _ = of_part(batch(), "a")
    pairs = Pairs(*(pictures(2, seed) for seed in (5, 6, 7)))
    for paired in (False, True):
        terms = retouch._of_part(players, "a", sides, pairs if paired else None, 1)
        assert set(terms) == {"back", "realism", "change", "critic"}
        assert moved(terms["back"], both) == {"T"}
        for name in ("realism", "change"):
            assert moved(terms[name], both) == ({"T"} if paired else {"T", "E"})
    drawn = retouch._of_pairs(players, "a", pairs)
    assert moved(drawn["drawn"], both) == {"T", "E"} and moved(drawn["open"], both) == {"T"}


def test_where_no_pair_differs_nothing_is_asked_for() -> None:
    torch.manual_seed(0)
    players = retouch.players(covering(checkpoint.build(LAID), 0.0))
    sides, _ = of_part(batch(), "a")
    alike = Pairs(*(pictures(2, seed=5) for _ in range(3)))
    terms = retouch._of_part(players, "a", sides, alike, 1)
    assert not moved(terms["realism"], {"T": players.network})
    has = alike.has.clone()
    has[1, :, 10, 10] = -has[1, :, 10, 10].sign()
    where = retouch._where(alike._replace(has=has))
    assert where.shape == (1, 1, 32, 32) and where[0, 0, 6:15, 6:15].min() > 0.4
    where[..., 4:17, 4:17] = 0
    assert not where.any()
    terms = retouch._of_part(players, "a", sides, alike._replace(has=has), 1)
    assert moved(terms["realism"], {"T": players.network}) == {"T"}


def test_each_part_has_its_own_weight_of_realism_and_its_least() -> None:
    torch.manual_seed(0)
    both, sides = retouch.players(checkpoint.build(LAID)), batch()["a"]
    assert isinstance(both.network, retouch.Network) and isinstance(sides, Sides)
    both.critic.eval()  # so that its norms stay
    found = {}
    for weights in ([0.2], [0.2, 0.6]):
        both.network.settings = replace(both.network.settings, realism=weights, least=weights)
        for part in ("a", "b"):
            torch.manual_seed(1)
            found[part, len(weights)] = retouch._of_part(both, part, sides, None, 1)["realism"]
    torch.testing.assert_close(found["a", 2], found["a", 1])
    torch.testing.assert_close(found["b", 2], 3 * found["b", 1])
    assert [both.network.settings.of("least", place) for place in (0, 1)] == [0.2, 0.6]


@torch.no_grad()
def test_what_takes_off_where_layers_are_put_on_makes_no_grid_of_dots() -> None:
    level = torch.full((1, 2, 16, 16), 0.3)
    torch.testing.assert_close(nets.without_grid(level), level)
    edge = level.clone()
    edge[..., 8:] = -0.3
    assert nets.without_grid(edge).shape == edge.shape
    torch.testing.assert_close(nets.without_grid(edge).flip(-1), -nets.without_grid(edge))
    x, told = pictures(), torch.zeros(3, 2, 4, 4)
    for smooth, spread in ((True, False), (False, True)):
        made = nets.Retoucher(2, width=6, smooth=smooth)
        made.last.bias[:48], made.last.bias[64:] = torch.linspace(-2, 2, 48), 200.0  # paints alone
        inside = made(x, told)[0][0, 0, 4:-4, 4:-4]
        assert bool(inside.std() > 0.01) == spread


def test_what_lies_around_is_what_is_seen_there() -> None:
    x = torch.zeros(1, 3, 64, 64)
    x[:, 0], x[:, 1, :, 32:] = 0.8, -0.4  # two colours side by side
    seen = torch.ones(1, 1, 64, 64)
    seen[..., 20:28, 10:18] = 0
    hidden = x.clone()
    hidden[..., 20:28, 10:18] = -1
    found = nets.surroundings(hidden, seen)
    torch.testing.assert_close(found[..., 20:28, 10:18], x[..., 20:28, 10:18], atol=0.02, rtol=0)
    assert torch.equal(found, nets.surroundings(x, seen))  # what is hidden is not looked at
    near_right = found[0, 1, 30:40, 50:]
    torch.testing.assert_close(near_right, torch.full_like(near_right, -0.4), atol=0.02, rtol=0)


def test_a_picture_stays_bit_for_bit_where_the_mask_is_shut(network: retouch.Network) -> None:
    x, guide = pictures(), pictures(seed=2)
    own = network.encode(x)
    made = network.compose(codes.transfer(own, guide_a=network.encode(guide)), x, own)
    assert made.mask is not None
    shut = (made.mask == 0).expand_as(x)
    assert shut.any() and not shut.all()
    assert torch.equal(made.image[shut], x[shut])


def test_codes_that_are_as_they_were_leave_the_picture_alone(network: retouch.Network) -> None:
    x = pictures()
    own = network.encode(x)
    assert own.a.any()
    assert torch.equal(network.compose(own, x, own).image, x)
    # encoded in another batch a code has other last digits, which are no change
    alone = codes.stack([network.encode(one) for one in x.split(1)])
    assert torch.equal(network.compose(alone, x, own).image, x)


def test_a_picture_that_hardly_changes_has_no_such_part(network: retouch.Network) -> None:
    x = pictures()
    mask = disturbed.visible(x, network.taken_off(x, 0))[1].mean((1, 2, 3))
    for least, there in ((0.9, True), (1.1, False)):
        network.settings = replace(network.settings, least=[least * mask.min().item()])
        assert bool(network.encode(x).a[mask.argmin()].any()) == there


def test_a_code_says_how_much_of_the_part_is_put_on(network: retouch.Network) -> None:
    x = pictures()
    nothing = network.encode(x).without("a", "b")
    guide = network.encode(pictures(seed=2))
    whole = codes.transfer(nothing, guide_a=guide)
    changes = []
    for strength in (0.0, 0.5, 1.0):
        wanted = codes.between(nothing, whole, strength)
        changes.append(network.put_on(x, 0, wanted.a) - x)
    assert not changes[0].any()
    torch.testing.assert_close(changes[1], changes[2] / 2)


def test_between_two_guides_the_part_is_whole(network: retouch.Network) -> None:
    one, other = (network.encode(pictures(seed=seed)) for seed in (2, 3))
    middle = codes.between(one, other, 0.5)
    assert (middle.a[:, -1] == 1).all()


def test_steps_that_touch_no_picture_may_be_made_or_left_out(network: retouch.Network) -> None:
    x = pictures()
    own = network.encode(x)
    wanted = codes.transfer(own, guide_b=network.encode(pictures(seed=2)), keep=["a"])
    short = network.compose(wanted, x, own)
    network.every = True
    assert torch.equal(network.compose(wanted, x, own).image, short.image)


def test_a_change_that_nobody_sees_is_none() -> None:
    x = torch.zeros(1, 3, 8, 8)
    faint, plain = x.clone(), x.clone()
    faint[0, 0, 4, 4], plain[0, 0, 4, 4] = 0.9 * disturbed.FAINT, 2.1 * disturbed.FAINT
    assert torch.equal(disturbed.visible(x, faint)[0], x)
    image, mask = disturbed.visible(x, plain)
    assert torch.equal(image, plain) and mask.sum() == 9  # the pixel and its neighbours


def taught(teacher: Path) -> Players:
    """Players that learn of a teacher, and change something."""
    torch.manual_seed(0)
    made = retouch.players(covering(checkpoint.build(CONFIG), *ONE_ROW))
    made.teacher = checkpoint.load(teacher)
    return made


def test_each_term_moves_its_own_player(masked_folder: Path) -> None:
    players = taught(masked_folder)
    terms = retouch.losses(players, batch(), 1)
    assert set(terms) == {"back", "taught", "realism", "change", "critic"}
    for name, term in terms.items():
        mover = "critic" if name == "critic" else "network"
        assert moved(term, players.modules) == {mover}, name


def test_without_a_teacher_nothing_is_taught() -> None:
    players = retouch.players(checkpoint.build(CONFIG))
    assert players.teacher is None
    assert set(retouch.losses(players, batch(), 1)) == {"back", "realism", "change", "critic"}


def test_pairs_of_a_part_that_is_drawn_teach_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    players = retouch.players(checkpoint.build(CONFIG))
    pairs = Pairs(*(pictures(2, seed) for seed in (5, 6, 7)))
    terms = retouch.losses(players, {**batch(), "b pairs": pairs}, 1)
    assert set(terms) == {"back", "realism", "change", "critic", "drawn", "open"}
    made = retouch.players(covering(checkpoint.build(CONFIG), -30.0))  # which changes nothing
    monkeypatch.setattr(retouch, "UNWORN", 0.0)
    same = retouch._of_pairs(made, "b", pairs._replace(lacks=pairs.has))["drawn"]
    assert same.item() == pytest.approx(0, abs=2 * disturbed.NOISE)
    apart = Pairs(torch.ones(2, 3, 32, 32), torch.zeros(2, 3, 32, 32), pairs.guide)
    one = retouch._of_pairs(made, "b", apart)["drawn"]
    assert one.item() == pytest.approx(1, abs=2 * disturbed.NOISE)  # off by 1 in either direction
    monkeypatch.setattr(retouch, "UNWORN", 1.0)
    half = retouch._of_pairs(made, "b", apart)["drawn"]  # nothing is there to be taken off
    assert half.item() == pytest.approx(0.5, abs=2 * disturbed.NOISE)


@pytest.mark.parametrize("unworn", [0.0, 1.0])  # how many pairs have nothing to take off
def test_where_pairs_differ_no_pixel_is_to_be_kept(
    monkeypatch: pytest.MonkeyPatch, unworn: float
) -> None:
    """Or a training that begins by keeping all would never change anything."""
    monkeypatch.setattr(retouch, "UNWORN", unworn)
    grey, there = torch.zeros(2, 3, 32, 32), torch.zeros(2, 3, 32, 32)
    there[..., 8:24, 8:24] = 0.5
    asked = []
    for bias in (-30.0, -3.0, 3.0):
        made = retouch.players(covering(checkpoint.build(CONFIG), bias))
        assert isinstance(made.network, retouch.Network)
        same, apart = (
            retouch._of_pairs(made, "b", Pairs(grey + change, grey, pictures(2)))["open"]
            for change in (0 * there, there)
        )
        share = 1 - 1 / (1 + math.exp(-30) + math.exp(bias))
        assert same.item() == 0
        assert apart.item() == pytest.approx(-retouch.OPEN * math.log(share), rel=0.03)
        (gradient,) = torch.autograd.grad(apart, made.network.retoucher.last.bias)
        asked.append(-gradient[48:].sum().item())
    assert asked[0] == pytest.approx(retouch.OPEN, rel=0.01)  # however shut, it is to open
    assert asked[0] > asked[1] > asked[2] > 0
    made.teacher = made.network  # which begins the training
    assert set(retouch._of_pairs(made, "b", Pairs(there, grey, pictures(2)))) == {"drawn"}


def test_a_teacher_is_followed_to_the_end_only_where_it_changes_nothing() -> None:
    change, told = torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 16, 16)
    change[..., 0, 0] = 1  # far from where the teacher changes the picture
    told[..., 8, 8] = 0.5
    away = 1 / 4 / 256  # the mean of 2 x 2 pixels, of 16 x 16
    first, last = (teacher.taught(change, told, rest, focus=3.0) for rest in (1.0, 0.0))
    assert first == pytest.approx(away + 4 * 0.5 / 256)
    assert last == pytest.approx(away)


def test_a_teacher_takes_off_and_puts_on(masked_folder: Path) -> None:
    network, sides = checkpoint.load(masked_folder), batch()["a"]
    off, on = teacher.told(network, "a", sides).chunk(2)
    has, lacks = (network.encode(side) for side in sides)
    bare = network.compose(has.without("a"), sides.has, has).image
    torch.testing.assert_close(sides.has + off, bare)
    dressed = network.compose(lacks._replace(a=has.a), sides.lacks, lacks).image
    torch.testing.assert_close(sides.lacks + on, dressed)
    assert on.any() and off.shape == on.shape == (2, 3, 32, 32)


def test_a_model_is_loaded_where_its_teacher_is_not(tmp_path: Path) -> None:
    config = replace(CONFIG, settings={**CONFIG.settings, "teacher": "gone"})
    folder = tmp_path / "model"
    checkpoint.write_folder(folder, checkpoint.model_files(checkpoint.build(config), "#"))
    assert checkpoint.load(folder).config.settings["teacher"] == "gone"


def test_changed_pixels_count_more() -> None:
    target, change = torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 16, 16)
    change[..., 8, 8] = 1
    plain, focused = (retouch._error(change, target, change, focus) for focus in (0.0, 8.0))
    near = 25 / 256
    assert plain == pytest.approx(1 / 256)
    assert focused == pytest.approx(9 / 256 / (1 + 8 * near))


def test_every_second_pixel_costs_as_much_as_all_of_them() -> None:
    whole = torch.zeros(1, 3, 32, 32)
    whole[..., 8:24, 8:24] = 1
    dots = whole.clone()
    dots[..., ::2, :] = dots[..., ::2] = 0
    inside = (..., slice(10, 22), slice(10, 22))
    assert torch.equal(disturbed.largest(dots, 5)[inside], disturbed.largest(whole, 5)[inside])


def test_inputs_are_real_pictures_or_changed_ones() -> None:
    torch.manual_seed(0)
    real = pictures(64)
    assert torch.equal(disturbed.inputs(real, torch.zeros_like(real)), real)
    given = disturbed.inputs(real, torch.full_like(real, 0.5))
    same = (given == real).flatten(1).all(1)
    assert 3 <= same.sum() <= 28  # a fifth of 64
    of_v = (given - real)[32:][~same[32:]].flatten(1)
    near = torch.full_like(of_v, 0.5)
    torch.testing.assert_close(of_v, near, atol=0.5 * disturbed.STRENGTH + 1e-6, rtol=0)
    assert of_v.std(0).max() > 0.05


def test_an_input_and_its_target_are_seen_through_the_same_blur() -> None:
    torch.manual_seed(0)
    real = pictures(32)
    seen, target = disturbed.seen(real + 0.25, real)
    noise = 6 * disturbed.NOISE
    torch.testing.assert_close(seen - target, torch.full_like(real, 0.25), atol=noise, rtol=0)
    spread = target.std((1, 2, 3))
    sharp = torch.isclose(spread, real.std((1, 2, 3)))
    assert 8 <= sharp.sum() <= 24 and (spread[~sharp] < 0.6 * real.std()).all()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"code": -1}, "code must be 0, for a layer, to"),
        ({"width": 10**6}, "width must be 1 to"),
        ({"rate": 1.5}, "rate must lie between"),
        ({"change": -1.0}, "change must be 0 or more"),
        ({"realism": float("nan")}, "realism must be 0 or more"),
        ({"lessons": -1}, "lessons must be 0 or more"),
        ({"least": -0.1}, "least must be 0 or more"),
        ({"smoothness": 1}, "unknown setting 'smoothness'"),
    ],
)
def test_wrong_settings_are_told_in_a_line(settings: dict[str, float], words: str) -> None:
    with pytest.raises(DidaError, match=words):
        checkpoint.blank(ModelConfig(method="retouch", settings=settings))


def test_a_side_that_does_not_halve_is_refused() -> None:
    with pytest.raises(DidaError, match="no multiple of 16"):
        checkpoint.blank(ModelConfig(method="retouch", side=100))
