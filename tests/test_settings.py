"""Config files and presets: what they may say, and that the presets say what was published."""

import itertools
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from dida_cli import settings
from dida_cli.config import WEIGHTS, Domains, ModelConfig, TrainConfig, Weights
from dida_cli.data import celeba, sources
from dida_cli.errors import DidaError

NAMES = {"model.domains.a": "a", "model.domains.b": "b"}
DIDD = ["smile-glasses", "beard-glasses", "beard-smile", "male-female", "blond-black"]
STAGES = ("plain", "masks", "edits")  # of a training of ours, each begun from the one before
# alpha1 = alpha2, beta1, beta2, gama, delta, discweight of the release
MASK = {
    "glasses": (0.7, 0, 0.001, 7, 5, 0.005),
    "smile": (1, 0, 0.0001, 7, 5, 0.005),
    "hair-colour": (0.1, 0, 0.04, 1, 1, 1),
    "bald": (0.5, 0, 0.5, 5, 5, 1),
}


def file(folder: Path, text: str) -> str:
    path = folder / "mine.toml"
    path.write_text(text)
    return str(path)


# Reading


def test_a_file_gives_its_settings_by_dotted_name(tmp_path: Path) -> None:
    text = """
        [data]
        root = "pictures"
        with = ["Male"]
        [model]
        side = 64
        domains = { a = "hat", b = "beard" }
        [training.weights]
        common = 1
    """
    assert settings.read(file(tmp_path, text)) == {
        "data.root": "pictures",
        "data.with": ["Male"],
        "model.side": 64,
        "model.domains.a": "hat",
        "model.domains.b": "beard",
        "training.weights.common": 1,
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[training]\nstep = 5", "no setting 'training.step' (did you mean training.steps?)"),
        ("[training]\nstep = 5", "; there are steps, batch, learning_rate, "),
        ("steps = 5", "'steps' (did you mean training.steps?)"),
        ("training = 5", "'training' (did you mean training."),
        ("[training.steps]\nx = 5", "'training.steps.x' (did you mean training.steps?)"),
        ("[weights]\ncycle_common = 5", "did you mean training.weights.cycle_common?"),
        ("[qqq]\nzzz = 5", "no setting 'qqq.zzz'; there are description, init, data.root, "),
        ('"a\\nb" = 5', r"no setting 'a\nb'"),
        ("[model]\nside = 64.0", "model.side must be of type int, not 64.0"),
        ("[model]\nside = true", "model.side must be of type int, not True"),
        ('[model]\nfit = "round"', "model.fit must be one of crop, squash, not 'round'"),
        ("[model.domains]\na = 3", "model.domains.a must be of type str, not 3"),
        ("[training]\nflip = 1", "training.flip must be of type bool, not 1"),
        ('[data]\nwith = "Male"', """data.with must be a list of texts, as ["Male"], not 'Male'"""),
        ("[data]\nwith = [1]", "data.with must be a list of texts"),
        ("[model", "not readable as TOML"),
        ("a = 1\na = 2", "not readable as TOML"),
    ],
)
def test_what_a_file_may_not_say_is_told_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    path = file(tmp_path, text)
    with pytest.raises(DidaError) as refused:
        settings.read(path)
    assert str(refused.value).startswith(f"{path}: ") and said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DidaError, match=r"no\.toml: no such file; .*--list-presets"):
        settings.read(str(tmp_path / "no.toml"))
    (tmp_path / "latin.toml").write_bytes(b'description = "\xe9"')
    (tmp_path / "folder.toml").mkdir()
    for name in ("latin.toml", "folder.toml"):
        with pytest.raises(DidaError, match=f"{name}: not readable as TOML"):
            settings.read(str(tmp_path / name))


def test_only_names_that_end_in_toml_are_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("glasses", "glasses.toml", "mine.conf"):
        Path(name).write_text("[training]\nsteps = 77\n")
    assert settings.read("glasses")["training.steps"] == 150_000
    assert settings.read("glasses.toml")["training.steps"] == 77
    with pytest.raises(DidaError, match=r"no preset 'mine.conf'; .* ends in \.toml"):
        settings.read("mine.conf")
    with pytest.raises(DidaError, match=r"'glases' \(did you mean glasses\?\); there are bald, "):
        settings.read("glases")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("training.weights.mask=0.05", {"training.weights.mask": 0.05}),
        ("model.side=64", {"model.side": 64}),
        ("training.flip = false", {"training.flip": False}),
        ('data.a="not Male"', {"data.a": "not Male"}),
        ("data.a=not Male", {"data.a": "not Male"}),
        ('data.with=["Male", "Young"]', {"data.with": ["Male", "Young"]}),
        ("model.domains={a='x', b='y'}", {"model.domains.a": "x", "model.domains.b": "y"}),
        ("init=runs/a=b", {"init": "runs/a=b"}),
    ],
)
def test_an_assignment_takes_a_value_as_in_toml_and_bare_text(
    text: str, expected: settings.Settings
) -> None:
    assert settings.assigned(text) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("training.steps", "--set training.steps: give NAME=VALUE"),
        ("training.steps=many", "--set: training.steps must be of type int, not 'many'"),
        ("training.steps=", "--set: training.steps must be of type int, not ''"),
        ("model.sid=64", "--set: no setting 'model.sid' (did you mean model.side?)"),
    ],
)
def test_a_wrong_assignment_is_refused(text: str, said: str) -> None:
    with pytest.raises(DidaError) as refused:
        settings.assigned(text)
    assert said in str(refused.value)


# What they become


def test_nothing_said_gives_the_usual_values() -> None:
    model = settings.model_of(NAMES)
    assert model == ModelConfig(domains=Domains(a="a", b="b"))
    assert settings.training_of(NAMES, model) == TrainConfig()


def test_what_is_not_said_follows_method_and_architecture() -> None:
    values = NAMES | {"model.method": "mask", "model.architecture": "paper", "model.common": 9}
    model = settings.model_of(values | {"training.weights.common": 0.25})
    assert (model.grid, model.width, model.common, model.separate_b) == (2, 512, 9, 0)
    training = settings.training_of(values | {"training.weights.common": 0.25}, model)
    assert training.learning_rate == 2e-4
    usual = WEIGHTS["mask"].to_json()
    assert training.weights.to_json() == usual | {"common": 0.25} != usual
    given = settings.training_of(values | {"training.learning_rate": 0.1}, model)
    assert given.learning_rate == 0.1


def test_values_out_of_range_are_refused() -> None:
    model = settings.model_of(NAMES)
    wrong = {"seed": -1, "steps": 0, "weights.zero": -1.0, "clip": 0.0}
    wrong |= {"score_every": -1, "patience": -1, "lookalikes": -1}
    for key, value in wrong.items():
        with pytest.raises(DidaError, match=key.rpartition(".")[2]):
            settings.training_of({f"training.{key}": value}, model)
    with pytest.raises(DidaError, match="patience counts scores"):
        settings.training_of({"training.patience": 1, "training.score_every": 0}, model)
    with pytest.raises(DidaError, match="side 100"):
        settings.model_of(NAMES | {"model.side": 100})


def test_a_weight_of_a_loss_that_the_method_lacks_is_refused() -> None:
    model = settings.model_of(NAMES)
    said = "mask: method didd has no such loss; it has reconstruction_a, reconstruction_b, zero, c"
    with pytest.raises(DidaError, match=f"training.weights.{said}"):
        settings.training_of({"training.weights.mask": 0.1}, model)
    settings.training_of({"training.weights.mask": 0}, model)  # as every written config says
    layers = settings.model_of(NAMES | {"model.method": "layers"})
    assert settings.training_of({"training.weights.mask": 0.1}, layers).weights.mask == 0.1
    published = settings.model_of(NAMES | {"model.method": "mask", "model.separate_b": 0})
    with pytest.raises(DidaError, match="exchange: method mask has no such loss"):
        settings.training_of({"training.weights.exchange": 1.0}, published)


def test_lookalikes_are_for_a_method_that_exchanges() -> None:
    model = settings.model_of(NAMES)
    with pytest.raises(DidaError, match="method didd exchanges nothing; set it to 0"):
        settings.training_of({"training.lookalikes": 256}, model)
    layers = settings.model_of(NAMES | {"model.method": "layers"})
    assert settings.training_of({"training.lookalikes": 256}, layers).lookalikes == 256
    with pytest.raises(DidaError, match="hides needs lookalikes"):
        settings.training_of({"training.hides": True}, layers)


def test_differences_are_told_old_and_new() -> None:
    old = {"training.steps": 5, "data.a": "Male", "training.flip": True, "data.with": ["Young"]}
    new = {"training.steps": 9, "data.root": "x", "training.flip": True, "data.with": ["Old"]}
    assert settings.differences(old, new) == [
        'data.root: nothing -> "x"',
        'data.a: "Male" -> nothing',
        'data.with: ["Young"] -> ["Old"]',
        "training.steps: 5 -> 9",
    ]


def test_what_is_written_is_read_as_the_same_training(tmp_path: Path) -> None:
    name = 'a "quoted" \\ \N{GRINNING FACE} name'
    model = ModelConfig.of(
        "layers", "compact", side=64, domains=Domains(a=name, b="b"), segment_from=0.3
    )
    training = TrainConfig(
        steps=7,
        learning_rate=1e-5,
        weights=Weights(common=1 / 3, mask_late=2),
        critic_target="paper",
        flip=False,
        clip=float("inf"),
    )
    data = {"root": "/x\x7f\ty", "a": "not Male", "b": "Male", "having": ["Young"], "lacking": []}
    values = settings.read(file(tmp_path, settings.to_toml(model, training, data, "org/repo")))
    assert settings.model_of(values) == model
    assert settings.training_of(values, model) == training
    assert {key: value for key, value in values.items() if not key.startswith(("mo", "tr"))} == {
        "init": "org/repo",
        "data.root": "/x\x7f\ty",
        "data.a": "not Male",
        "data.b": "Male",
        "data.with": ["Young"],
        "data.without": [],
    }
    assert set(settings.KINDS) - set(values) == {"description"}
    plain = settings.read(file(tmp_path, settings.to_toml(model, training, {"root": "x"}, None)))
    assert [key for key in plain if not key.startswith(("mo", "tr"))] == ["data.root"]


# Presets


def test_there_are_the_promised_presets_each_with_a_line() -> None:
    told = settings.presets()
    assert list(told) == sorted([*DIDD, *MASK, *STAGES, "refine", "beneath", "place"])
    assert all(words and "\n" not in words and len(words) <= 80 for words in told.values())


def test_the_stages_fit_each_other_whatever_the_domains() -> None:
    plain, masks, edits = (settings.read(name) for name in STAGES)
    for values in (plain, masks, edits):
        assert not [key for key in values if key.startswith(("data.", "model.domains."))]
    first, second = (settings.model_of(values) for values in (plain, masks))
    assert (first.method, second.method) == ("didd", "layers")
    assert replace(second, method="didd") == first  # so that all is taken but the mask
    weights = settings.training_of(masks, second).weights
    usual = settings.training_of({}, second).weights
    assert weights.paint and weights.claim and weights.information and weights.alike
    assert settings.model_of(edits) == second
    late = settings.training_of(edits, second).weights
    assert late.cycle and late.cycle_common and late.cycle_separate and late.domain
    assert not late.repaint_a and not weights.domain
    assert (weights.zero, weights.common) == (usual.zero, usual.common)
    one_sided = settings.model_of(masks | {"model.separate_b": 0})
    assert one_sided.parts == ("a",)


@pytest.mark.parametrize("name", MASK)
def test_mask_presets_are_the_published_settings(name: str) -> None:
    values = settings.read(name)
    model = settings.model_of(values)
    training = settings.training_of(values, model)
    assert (model.method, model.architecture, model.side, model.fit) == (
        "mask",
        "paper",
        128,
        "squash",
    )
    assert (training.steps, training.batch, training.learning_rate) == (150_000, 32, 2e-4)
    assert training.critic_target == "paper"
    alpha, beta_1, beta_2, gama, delta, discriminator = MASK[name]
    assert training.weights == Weights(
        reconstruction_a=gama,
        reconstruction_b=delta,
        common=discriminator,
        repaint_a=alpha,
        repaint_b=alpha,
        cycle_common=beta_1,
        cycle_separate=beta_2,
    )


@pytest.mark.parametrize("name", DIDD)
def test_domain_presets_leave_method_and_training_to_the_user(name: str) -> None:
    values = settings.read(name)
    assert not [key for key in values if not key.startswith(("data.", "model.domains.", "desc"))]
    model = settings.model_of(values)
    assert f"{model.domains.a}-{model.domains.b}" == name


def beard(has: set[str]) -> bool:
    return "Mustache" in has or "Goatee" in has or "No_Beard" not in has


def shaved_man(has: set[str]) -> bool:
    return "Male" in has and "5_o_Clock_Shadow" not in has


def old_man(has: set[str]) -> bool:
    return "Male" in has and "Wearing_Hat" not in has


HAIR = {"Receding_Hairline", "Gray_Hair"}
Rule = Callable[[set[str]], bool]
# The preparation scripts of the two releases: who is in A, who in B. What both would take is in
# neither here.
DOMAINS: dict[str, tuple[Rule, Rule]] = {
    "smile-glasses": (
        lambda has: "Smiling" in has and "Eyeglasses" not in has,
        lambda has: "Smiling" not in has and "Eyeglasses" in has,
    ),
    "beard-glasses": (
        lambda has: shaved_man(has) and beard(has) and "Eyeglasses" not in has,
        lambda has: shaved_man(has) and not beard(has) and "Eyeglasses" in has,
    ),
    "beard-smile": (
        lambda has: shaved_man(has) and beard(has) and "Smiling" not in has,
        lambda has: shaved_man(has) and not beard(has) and "Smiling" in has,
    ),
    "male-female": (lambda has: "Male" in has, lambda has: "Male" not in has),
    "blond-black": (
        lambda has: {"Blond_Hair", "Black_Hair", "Wearing_Hat"} & has == {"Blond_Hair"},
        lambda has: {"Blond_Hair", "Black_Hair", "Wearing_Hat"} & has == {"Black_Hair"},
    ),
    "glasses": (lambda has: "Eyeglasses" in has, lambda has: "Eyeglasses" not in has),
    "smile": (lambda has: "Smiling" in has, lambda has: "Smiling" not in has),
    "hair-colour": (
        lambda has: {"Blond_Hair", "Black_Hair", "Male"} & has == {"Black_Hair"},
        lambda has: {"Blond_Hair", "Black_Hair", "Male"} & has == {"Blond_Hair"},
    ),
    "bald": (
        lambda has: old_man(has) and not {"Bald", "Young"} & has,
        lambda has: old_man(has) and "Bald" in has and not HAIR & has,
    ),
}


@pytest.mark.parametrize("name", DOMAINS)
def test_presets_choose_the_published_domains(name: str, tmp_path: Path) -> None:
    values = settings.read(name)
    words = {key: values.get(f"data.{key}", []) for key in ("a", "b", "with", "without")}
    said = f"{words['a']} {words['b']} {' '.join([*words['with'], *words['without']])}"
    names = sorted(set(re.findall(r"\w+", said)) - {"not", "and", "or"})
    everyone = [
        set(itertools.compress(names, bits))
        for bits in itertools.product((0, 1), repeat=len(names))
    ]
    (tmp_path / "images").mkdir()
    rows = [
        f"{i}.jpg {' '.join('1' if name in has else '-1' for name in names)}\n"
        for i, has in enumerate(everyone)
    ]
    (tmp_path / celeba.ATTRIBUTE_LIST).write_text(
        f"{len(rows)}\n{' '.join(names)}\n{''.join(rows)}"
    )
    (tmp_path / celeba.PARTITION_LIST).write_text("".join(f"{i}.jpg 0\n" for i in range(len(rows))))
    found = sources.for_training(
        sources.record(tmp_path, words["a"], words["b"], words["with"], words["without"])
    )
    for chosen, rule in zip((found.train.a, found.train.b), DOMAINS[name], strict=True):
        assert {path.name for path in chosen} == {
            f"{i}.jpg" for i, has in enumerate(everyone) if rule(has)
        }
