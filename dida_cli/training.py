"""A stage of a recipe at work: players, batch to step, the running mean, and its whole state.

Nothing here depends on when it runs: random numbers are functions of the step, and the whole state
is in `state.safetensors`, so a stopped and resumed training is the training that never stopped.
"""

import json
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import PARAM_LIST, AveragedModel, get_ema_multi_avg_fn

from dida_cli import checkpoint, hub, memory, methods, run
from dida_cli.config import ModelConfig, Precision
from dida_cli.distributed import ALONE, Group
from dida_cli.errors import DidaError
from dida_cli.players import Batch, Network
from dida_cli.recipe import Recipe, Stage
from dida_cli.run import Best

LAST_RATE = 0.05  # what is left of the learning rates at the end of a stage
WARM = 100  # steps in which they rise at its start


class NotFiniteError(DidaError):
    """A loss or gradient that no step can be made of."""


class Training:
    """One stage of a recipe at work: the players, the running mean, and the steps made."""

    def __init__(
        self, recipe: Recipe, stage: int = 0, device: str = "cpu", group: Group = ALONE
    ) -> None:
        """Raises DidaError when the device or the group cannot do what the recipe asks for."""
        memory.keep_freed()
        torch.manual_seed(recipe.seed)
        self.recipe, self.stage, self.group = recipe, stage, group
        self.settings: Stage = recipe.stages[stage]
        self.device = torch.device(device)
        self.precision = precision_on(self.device, recipe.training.precision)
        batch, parts = self.settings.batch, recipe.training.accumulate
        if batch % (group.size * parts):
            told = f" of {parts} parts" if parts > 1 else ""
            raise DidaError(
                f"a batch of {batch} cannot be shared by {group.size} processes{told}; "
                "give another --batch"
            )
        # Convolutions on CUDA are fastest in channels_last. On a CPU what that wins there is lost,
        # and more, in the norms.
        cuda = self.device.type == "cuda"
        self.layout = torch.channels_last if cuda else torch.contiguous_format
        self.method = methods.find(recipe.method)
        network = checkpoint.build(recipe.model(self.settings)).to(self.device)
        network.to(memory_format=self.layout)
        self.players = self.method.players(network)
        self.players.critic.to(self.device)
        if name := recipe.settings.get("teacher"):
            self.players.teacher = _teacher(name, network.config).to(self.device)
        self.mean = AveragedModel(network, multi_avg_fn=running_mean(recipe.training.mean)).eval()
        losses = self.method.losses
        self.losses = torch.compile(losses) if recipe.training.compile else losses
        fp16 = self.precision == torch.float16
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=fp16)
        self.step = 0  # made in this stage
        # spent in steps, by clocks and by processors, over all sessions and stages
        self.seconds = self.cpu_seconds = 0.0
        self.sums: dict[str, float] = {}  # of the terms since the last log line
        self.summed = 0  # steps they are of
        self.best: Best | None = None

    @property
    def network(self) -> Network:
        """The network that is kept: the running mean of the weights."""
        assert isinstance(self.mean.module, Network)
        return self.mean.module

    @property
    def made(self) -> int:
        """Steps made in all stages."""
        return sum(stage.steps for stage in self.recipe.stages[: self.stage]) + self.step

    def next_stage(self) -> "Training":
        """The stage after this one, begun from the weights that this one keeps, and its critic's.

        Raises DidaError when its networks are others.
        """
        after = Training(self.recipe, self.stage + 1, str(self.device), self.group)
        after.seconds, after.cpu_seconds = self.seconds, self.cpu_seconds
        try:
            for network in (after.players.network, after.network):
                network.load_state_dict(self.network.state_dict())
            after.players.critic.load_state_dict(self.players.critic.state_dict())
        except RuntimeError:
            raise DidaError(
                f"the networks of {self.recipe.method} are others at side {after.settings.side} "
                f"than at {self.settings.side}; use one stage"
            ) from None
        return after

    def advance(self, batch: Batch) -> dict[str, Tensor]:
        """One step of all players on real pictures; the terms by name, and the gradients' norms.

        Raises NotFiniteError when a term or gradient is not finite, ProcessLostError when a process
        of the group is gone; the weights are then unchanged.
        """
        # noise, too, is a function of the step, and each process makes its own
        torch.manual_seed(self.recipe.seed + self.made + (self.group.rank << 40))
        terms = self._differentiate(_each(batch, self.group.share))
        gradients = [p.grad for p in self.players.parameters if p.grad is not None]
        self.group.mean_([*gradients, *terms.values()])
        self._descend(terms)
        self.mean.update_parameters(self.players.network)
        self.step += 1
        return terms

    def _differentiate(self, batch: Batch) -> dict[str, Tensor]:
        """The gradients of all players, a part of the batch after the other."""
        for optimizer in self.players.adam.values():
            optimizer.zero_grad(set_to_none=True)
        parts = self.recipe.training.accumulate
        sums: dict[str, Tensor] = {}
        for place in range(parts):
            terms = self.terms(_each(batch, partial(_chunk, parts=parts, place=place)))
            total = torch.stack([term for term in terms.values() if term.requires_grad]).sum()
            self.scaler.scale(total / parts).backward()  # type: ignore[no-untyped-call]
            for name, term in terms.items():
                sums[name] = sums.get(name, 0) + term.detach().float() / parts
        return sums

    def terms(self, batch: Batch) -> dict[str, Tensor]:
        """What the method makes of real pictures: named terms, to be descended."""
        low = self.precision != torch.float32
        with torch.autocast(self.device.type, self.precision, enabled=low):
            return self.losses(self.players, _each(batch, self._moved), self.step)

    def _descend(self, terms: dict[str, Tensor]) -> None:
        """Clip the gradients and step along them; nobody steps if one is not finite."""
        fall, adam = self.fall(), self.players.adam
        norms = {}
        for name, optimizer in adam.items():
            for group in optimizer.param_groups:
                group["lr"] = fall * group["full_rate"]
            self.scaler.unscale_(optimizer)
            parameters = self.players.modules[name].parameters()
            norms[name] = nn.utils.clip_grad_norm_(parameters, self.players.clip)
        wrong = [name for name, term in terms.items() if not term.isfinite()]
        # float16 finds its scale by gradients that overflow: such a step is left out
        overflows = self.scaler.is_enabled() and self.scaler.get_scale() > 1
        if wrong or not (overflows or all(norm.isfinite() for norm in norms.values())):
            what = wrong[0] if wrong else "gradient"
            raise NotFiniteError(f"step {self.made}: the {what} is not finite")
        for optimizer in adam.values():
            self.scaler.step(optimizer)
        self.scaler.update()
        terms |= {f"{name}_gradient": norm.detach() for name, norm in norms.items()}

    def _moved(self, pictures: Tensor) -> Tensor:
        if self.device.type == "cuda":
            pictures = pictures.pin_memory()  # so that the copy does not wait
        return pictures.to(self.device, memory_format=self.layout, non_blocking=True)

    def fall(self) -> float:
        """The share of the learning rates in the coming step: a rise, and a half cosine down."""
        way = min(1.0, self.step / self.settings.steps)
        cosine = LAST_RATE + (1 - LAST_RATE) * (1 + math.cos(math.pi * way)) / 2
        return min(1.0, (self.step + 1) / WARM) * cosine

    @property
    def is_last(self) -> bool:
        return self.stage == len(self.recipe.stages) - 1

    @property
    def is_over(self) -> bool:
        """Whether the last step of the stage is made, or patience has ended."""
        patience = self.recipe.training.patience
        if patience and self.best and self.best.since >= patience:
            return True
        return self.step >= self.settings.steps

    @property
    def is_scored(self) -> bool:
        """Whether there is to be a score at this step: in the last stage alone."""
        every, steps = self.recipe.training.score_every, self.settings.steps
        due = 0 < every <= steps and (self.step % every == 0 or self.step == steps)
        return due and self.is_last

    def compare(self, score: float) -> bool:
        """Hold this step's score against the best so far; whether it is better."""
        if self.best and not score > self.best.score:
            self.best = self.best._replace(since=self.best.since + 1)
            return False
        self.best = Best(self.made, score, 0)
        return True

    def means(self) -> dict[str, float]:
        """The terms' means since the last time."""
        means = {name: total / self.summed for name, total in self.sums.items()}
        self.sums, self.summed = {}, 0
        return means

    def save(self, folder: Path, card: str) -> None:
        """Write the model and all that a resume needs as `last`; the one before as `last-1`."""
        progress = run.Progress(
            stage=self.stage,
            step=self.step,
            seconds=round(self.seconds, 1),
            cpu_seconds=round(self.cpu_seconds, 1),
            sums=self.sums,
            summed=self.summed,
            best=self.best._asdict() if self.best else {},
            scale=self.scaler.state_dict(),  # nothing but with float16
        )
        files = checkpoint.model_files(self.network, card)
        files |= {
            run.STATE: checkpoint.state_of(self._parts()),
            run.PROGRESS: json.dumps(progress.to_json()).encode(),
        }
        checkpoint.write_folder(folder / "last", files, previous=folder / "last-1")

    def restore(self, folder: Path) -> None:
        """Take up the state saved in a folder, of this stage. DidaError when it does not fit."""
        progress = run.read_progress(folder / run.PROGRESS)
        checkpoint.restore(self._parts(), folder / run.STATE)
        self.step = progress.step
        self.seconds, self.cpu_seconds = progress.seconds, progress.cpu_seconds
        self.sums, self.summed = dict(progress.sums), progress.summed
        self.best = Best(**progress.best) if progress.best else None
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(progress.scale)

    def _parts(self) -> dict[str, nn.Module | torch.optim.Optimizer]:
        adam = {f"{name}_adam": optimizer for name, optimizer in self.players.adam.items()}
        return {**self.players.modules, "mean": self.mean, **adam}


def resumed(recipe: Recipe, folder: Path, device: str = "cpu", group: Group = ALONE) -> Training:
    """The training whose state lies in a folder. Raises DidaError when it does not fit."""
    stage = run.read_progress(folder / run.PROGRESS).stage
    if stage >= len(recipe.stages):
        raise DidaError(f"{folder}: is of stage {stage + 1}, which the recipe does not have")
    training = Training(recipe, stage, device, group)
    training.restore(folder)
    return training


def _chunk(pictures: Tensor, *, parts: int, place: int) -> Tensor:
    return pictures.chunk(parts)[place]


def _each(batch: Batch, change: Callable[[Tensor], Tensor]) -> Batch:
    return {name: type(sides)(*map(change, sides)) for name, sides in batch.items()}


def running_mean(decay: float) -> Callable[[PARAM_LIST, PARAM_LIST, Tensor | int], None]:
    """How the kept weights follow those in training: the mean of the last steps.

    The decay rises as (1 + n) / (10 + n) after n steps until it is reached, so that a young model
    is not held back by its first steps.
    """

    def follow(mean: PARAM_LIST, now: PARAM_LIST, count: Tensor | int) -> None:
        n = int(count)
        risen = min(decay, (1 + n) / (10 + n))
        get_ema_multi_avg_fn(risen)(mean, now, count)  # type: ignore[no-untyped-call]

    return follow


def _teacher(name: str, config: ModelConfig) -> Network:
    """The model that begins a training. Raises DidaError when it knows other parts."""
    teacher = checkpoint.load(hub.resolve(name))
    if teacher.config.domains != config.domains:
        known, wanted = (
            " and ".join(c.domains.of(part) for part in c.parts) for c in (teacher.config, config)
        )
        raise DidaError(f"teacher {name} knows {known}, not {wanted}; train one for these parts")
    return teacher


def precision_on(device: torch.device, wanted: Precision) -> torch.dtype:
    """What activations are computed in. Raises DidaError where the device cannot."""
    if wanted == "float16" and device.type != "cuda":
        raise DidaError("precision float16 needs CUDA; leave it at auto here")
    if wanted == "auto":
        if device.type == "cuda":
            fast = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            told: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # torch >= 2.11
            # measured: Intel's multiply float32 twice as fast as bfloat16 where they have no AMX
            intel = "Intel" in str(told.get("cpu_name", ""))
            fast = told.get("amx_bf16" if intel else "avx512_bf16", False)
        wanted = "bfloat16" if fast else "float32"
    chosen: torch.dtype = getattr(torch, wanted)
    return chosen
