"""What holds of every method with a common code: who learns of what, and that it learns."""

import pytest
import shapes
import torch

from dida_cli import methods
from dida_cli.config import ModelConfig

every_form = pytest.mark.parametrize("config", shapes.FORMS.values(), ids=shapes.FORMS)


@every_form
def test_the_network_and_the_critic_learn_each_of_their_own_terms(config: ModelConfig) -> None:
    players = shapes.playing(config)
    terms = shapes.terms_of(players, shapes.batch_of(config, *shapes.pictures(4).chunk(2)))
    theirs = terms.pop("critic")
    torch.autograd.backward([term for term in terms.values() if term.requires_grad])
    idle = [n for n, p in players.network.named_parameters() if p.grad is None or not p.grad.any()]
    assert not idle
    assert all(p.grad is None for p in players.critic.parameters())
    players.network.zero_grad(set_to_none=True)
    theirs.backward()
    assert all(p.grad is not None and p.grad.any() for p in players.critic.parameters())
    assert all(p.grad is None for p in players.network.parameters())


@every_form
def test_a_few_steps_make_reconstructions_better(config: ModelConfig) -> None:
    players = shapes.playing(config)
    batch = {part: shapes.drawn()[part] for part in config.parts}

    def reconstruction(step: int) -> float:
        terms = shapes.advance(players, batch, step)
        return sum(value for name, value in terms.items() if name.startswith("reconstruction"))

    errors = [reconstruction(step) for step in range(30)]
    assert errors[-1] < 0.8 * errors[0]


@every_form
def test_terms_are_few_and_float32_in_half_precision_too(config: ModelConfig) -> None:
    players = shapes.playing(config)
    batch = shapes.batch_of(config, *shapes.pictures(4).chunk(2))
    whole = shapes.terms_of(players, batch)
    with torch.autocast("cpu", torch.bfloat16):
        terms = shapes.terms_of(players, batch)
    figures = [name for name, term in terms.items() if not term.requires_grad]
    assert figures == ["critic_right"] and len(terms) <= 11
    for name, term in terms.items():
        assert term.dtype == torch.float32 and term.ndim == 0
        if name != "critic_right":
            torch.testing.assert_close(term, whole[name], rtol=0.1, atol=0.01)


@every_form
def test_the_encoder_answers_to_the_critic_from_a_step_on(config: ModelConfig) -> None:
    players = shapes.playing(config)
    batch = shapes.batch_of(config, *shapes.pictures(4).chunk(2))
    start = methods.settings_of(config).critic_start
    before, after = (shapes.terms_of(players, batch, step) for step in (start - 1, start))
    assert before["confusion"] == 0 < after["confusion"]
    assert before["critic"] > 0 and after["critic"] > 0
