"""The training loop: two players, a running mean of the weights, saving, going on where it was.

Nothing here depends on when it runs: batches are a function of the step, and the whole state is
in `state.safetensors`, so a stopped and resumed training is the training that never stopped.
"""

import json
import math
import shlex
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from dida_cli import checkpoint, didd, losses, mask
from dida_cli.checkpoint import Network
from dida_cli.config import ModelConfig, TrainConfig, Weights
from dida_cli.errors import DidaError
from dida_cli.images import write_bytes
from dida_cli.nets import Critic

STATE, SETTINGS, LOG = "state.safetensors", "train.json", "log.jsonl"
LAST_RATE = 0.05  # what is left of the learning rate at the end
BETAS = (0.5, 0.999)

AUTOENCODER_LOSS: dict[str, Callable[..., losses.Losses]] = {
    "didd": didd.autoencoder_loss,
    "mask": mask.mask_loss,
    "layers": mask.layers_loss,
}

Batch = Callable[[int], tuple[Tensor, Tensor]]


class Training:
    """Both players, their optimizers, the running mean, and how many steps they have made."""

    def __init__(self, model: ModelConfig, settings: TrainConfig, device: str = "cpu") -> None:
        torch.manual_seed(settings.seed)
        self.settings, self.device = settings, torch.device(device)
        # channels_last is what convolutions are fastest in, on CPU and CUDA alike
        self.model = checkpoint.build(model).to(self.device).to(memory_format=torch.channels_last)
        self.critic = Critic(model).to(self.device)
        self.adam = _adam(self.model, settings)
        self.critic_adam = _adam(self.critic, settings)
        average = get_ema_multi_avg_fn(settings.ema)  # type: ignore[no-untyped-call]
        self.mean = AveragedModel(self.model, multi_avg_fn=average).eval()
        self.step = 0
        self.seconds = 0.0  # spent in steps, over all sessions
        self.sums: dict[str, float] = {}  # of the terms since the last log line

    def begin_from(self, model: Network) -> list[str]:
        """Take over the weights of a trained model; the names of those that stay fresh.

        A tensor is taken when its name and shape agree, up to further output channels, which
        stay fresh: so a model with masks begins with what a plain one has learned. Raises
        DidaError when the two have no tensor in common.
        """
        known, fresh, taken = model.state_dict(), [], 0
        for module in (self.model, self.averaged):
            for name, own in module.state_dict().items():
                other = known.get(name)
                fits = other is not None and own.shape[1:] == other.shape[1:]
                if other is None or not fits or own.shape[:1] < other.shape[:1]:
                    fresh.append(name)
                    continue
                own[: len(other)].copy_(other) if own.ndim else own.copy_(other)
                taken += 1
                if own.shape != other.shape:
                    fresh.append(f"{name}[{len(other)}:]")
        if not taken:
            raise DidaError("the model to begin from has no tensor in common with the new one")
        return sorted(set(fresh))

    @property
    def averaged(self) -> Network:
        """The model that is kept: the running mean of the weights."""
        assert isinstance(self.mean.module, Network)
        return self.mean.module

    def advance(self, a: Tensor, b: Tensor) -> dict[str, Tensor]:
        """One step of both players on pictures (B, 3, side, side) in [-1, 1]; the terms by name.

        Raises DidaError when a loss or gradient is not finite; the weights are then unchanged.
        """
        a, b = (
            x.to(self.device, memory_format=torch.channels_last, non_blocking=True) for x in (a, b)
        )
        rate = self.rate()
        for optimizer in (self.adam, self.critic_adam):
            for group in optimizer.param_groups:
                group["lr"] = rate
        self.critic.requires_grad_(False)
        loss = AUTOENCODER_LOSS[self.model.config.method](
            self.model, self.critic, a, b, self.weights(), self.settings.critic_target
        )
        self._descend(loss.total, loss.terms, self.model, self.adam)
        self.critic.requires_grad_(True)
        critic = losses.critic(self.critic, loss.common)
        self._descend(critic.total, critic.terms, self.critic, self.critic_adam)
        self.mean.update_parameters(self.model)
        self.step += 1
        return {name: term.detach() for name, term in (loss.terms | critic.terms).items()}

    def weights(self) -> Weights:
        """The losses' weights in the coming step: some start late, some rise."""
        full = self.settings.weights
        if self.step < self.settings.critic_start:
            full = replace(full, common=0.0)
        if self.model.config.method != "layers":
            return full
        rise = _share(self.step, mask.MASK_RAMP)
        late = _share(self.step / self.settings.steps, mask.LATE_RAMP)
        return replace(
            full,
            repaint_a=rise * full.repaint_a,
            repaint_b=rise * full.repaint_b,
            mask=rise * (full.mask + late * (full.mask_late - full.mask)),
        )

    def rate(self) -> float:
        """The learning rate of the coming step: a half cosine down to a twentieth."""
        way = min(1.0, self.step / self.settings.steps)
        fall = LAST_RATE + (1 - LAST_RATE) * (1 + math.cos(math.pi * way)) / 2
        return self.settings.learning_rate * fall

    def _descend(
        self,
        loss: Tensor,
        terms: dict[str, Tensor],
        player: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
    ) -> None:
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        parameters = list(player.parameters())
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.settings.clip)
        if not math.isfinite(norm.item()):
            wrong = next((n for n, t in terms.items() if not t.isfinite()), "gradient")
            raise DidaError(
                f"step {self.step}: the {wrong} is not finite; the last saved state is kept, "
                "start anew with a lower --learning-rate"
            )
        optimizer.step()

    def save(self, run: Path, card: str) -> None:
        """Write the model and all that a resume needs as `run/last`; the one before as `last-1`."""
        progress = {"step": self.step, "seconds": round(self.seconds, 1), "sums": self.sums}
        files = checkpoint.model_files(self.averaged, card)
        files |= {
            STATE: checkpoint.state_of(self._parts()),
            "progress.json": json.dumps(progress).encode(),
        }
        checkpoint.write_folder(run / "last", files, previous=run / "last-1")

    def restore(self, folder: Path) -> None:
        """Take up the state saved in a folder. Raises DidaError when it does not fit."""
        checkpoint.restore(self._parts(), folder / STATE)
        progress = checkpoint.read_json(folder / "progress.json")
        self.step, self.seconds = progress["step"], progress["seconds"]
        self.sums = progress["sums"]

    def _parts(self) -> dict[str, torch.nn.Module | torch.optim.Optimizer]:
        return {
            "model": self.model,
            "critic": self.critic,
            "mean": self.mean,
            "adam": self.adam,
            "critic_adam": self.critic_adam,
        }


def _share(place: float, ramp: tuple[float, float]) -> float:
    """How much of a ramp lies behind a place: 0 before it, 1 after it."""
    begin, end = ramp
    return min(1.0, max(0.0, (place - begin) / (end - begin)))


def _adam(player: torch.nn.Module, settings: TrainConfig) -> torch.optim.Optimizer:
    return torch.optim.Adam(player.parameters(), lr=settings.learning_rate, betas=BETAS, fused=True)


def fit(
    training: Training,
    batches: Batch,
    run: Path,
    *,
    card: Callable[[Training], str],
    on_step: Callable[[int, dict[str, float] | None], None] = lambda step, terms: None,
    on_save: Callable[[Training], None] = lambda training: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> bool:
    """Train to the last step, or until `should_stop`; the state is saved either way.

    `on_step(step, means)` hears of every step; means are the terms' means since the last log line,
    given on the steps that write one. Returns whether the last step was reached.
    """
    settings = training.settings
    log = run / LOG
    _forget_after(log, training.step)
    while training.step < settings.steps and not should_stop():
        began = time.perf_counter()
        for name, term in training.advance(*batches(training.step)).items():
            training.sums[name] = training.sums.get(name, 0.0) + term.item()
        training.seconds += time.perf_counter() - began
        step, means = training.step, None
        if step % settings.log_every == 0 or step == settings.steps:
            count = step % settings.log_every or settings.log_every
            means = {name: total / count for name, total in training.sums.items()}
            training.sums = {}
            _append(log, {"step": step, "learning_rate": training.rate(), **means})
        on_step(step, means)
        if step % settings.save_every == 0 and step < settings.steps:
            training.save(run, card(training))
            on_save(training)
    training.save(run, card(training))
    on_save(training)
    return training.step >= settings.steps


def refuse_taken(run: Path) -> None:
    """Raises DidaError when a new run cannot have this folder."""
    if run.exists() and (not run.is_dir() or any(run.iterdir())):
        raise DidaError(
            f"{run}: is not empty; go on with --resume {shlex.quote(str(run))} or choose --out"
        )


def start(run: Path, model: ModelConfig, settings: TrainConfig, data: dict[str, Any]) -> None:
    """Make a run folder that records what is trained, and on what. DidaError if it is taken."""
    refuse_taken(run)
    record = {"model": model.to_json(), "training": settings.to_json(), "data": data}
    write_bytes((json.dumps(record, indent=2) + "\n").encode(), run / SETTINGS)


def settings_of(run: Path) -> tuple[ModelConfig, TrainConfig, dict[str, Any]]:
    """What `start` recorded. Raises DidaError when the folder is no run."""
    path = run / SETTINGS
    if not path.exists():
        raise DidaError(f"{run}: holds no {SETTINGS}; give the folder of a run")
    record = checkpoint.read_json(path)
    if not isinstance(record, dict) or set(record) != {"model", "training", "data"}:
        raise DidaError(f"{path}: not the settings of a training; give the folder of a run")
    return (
        ModelConfig.from_json(record["model"], f"{path}: model"),
        TrainConfig.from_json(record["training"], f"{path}: training"),
        record["data"],
    )


def read_log(run: Path) -> list[dict[str, float]]:
    """The lines of a run's log, oldest first."""
    path = run / LOG
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def card(training: Training, data: dict[str, Any], command: str) -> str:
    """The README of a saved model: what it is, and what it was made from, with what."""
    model, settings = training.averaged.config, training.settings
    domains = f": A {data['a']}, B {data['b']}" if "a" in data else ""
    for key, word in (("having", "with"), ("lacking", "without")):
        domains += "".join(f", {word} {condition}" for condition in data.get(key, []))
    return f"""---
library_name: dida
tags: [image-to-image, guided-content-transfer]
---
# {model.domains.a} <-> {model.domains.b}

Moves the {model.domains.a} or the {model.domains.b} of one picture onto another.

| | |
|---|---|
| method | {model.method}, architecture {model.architecture}, {model.side} px |
| data | {Path(data["root"]).name}{domains} |
| command | `{command}` |
| seed | {settings.seed} |
| steps | {training.step} of {settings.steps}, {settings.batch} + {settings.batch} pictures each |
| time | {training.seconds / 60:.0f} min in steps on {training.device.type} |
| scores | not measured yet |
"""


def _append(log: Path, line: dict[str, float]) -> None:
    with log.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def _forget_after(log: Path, step: int) -> None:
    """Drop what was logged after the state that is gone on from: it will be logged again."""
    if log.exists():
        kept = [line for line in log.read_text().splitlines() if json.loads(line)["step"] <= step]
        write_bytes("".join(f"{line}\n" for line in kept).encode(), log)
