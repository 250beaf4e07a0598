"""The training loop: two players, a running mean of the weights, saving, going on where it was.

Nothing here depends on when it runs: batches are a function of the step, and the whole state is
in `state.safetensors`, so a stopped and resumed training is the training that never stopped.
"""

import copy
import json
import math
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim.swa_utils import PARAM_LIST, AveragedModel, get_ema_multi_avg_fn

from dida_cli import begin, beneath, checkpoint, didd, losses, mask, memory, place, refine
from dida_cli.checkpoint import Network
from dida_cli.config import ModelConfig, TrainConfig, Weights, checked, read_json
from dida_cli.distributed import ALONE, Group, ProcessLostError
from dida_cli.errors import DidaError
from dida_cli.lookalikes import Lookalikes
from dida_cli.nets import Critic
from dida_cli.runs import BEST, LOG, Line, append, log_until, watch_critic

STATE, PROGRESS = "state.safetensors", "progress.json"
LAST_RATE = 0.05  # what is left of the learning rate at the end
BETAS = (0.5, 0.999)
LAST_BUT_ONE = "delete its folder to go on from last-1"
NAMED = 4  # pictures of a bad batch that are named one by one
AUTOENCODER_LOSS: dict[str, Callable[..., losses.Losses]] = {
    "didd": didd.autoencoder_loss,
    "mask": mask.mask_loss,
    "layers": mask.layers_loss,
}
# What learns of a model that is refined, and by which loss.
REFINED: dict[str, tuple[str, Callable[..., losses.Losses]]] = {
    "glass": ("encoders.common", refine.refine_loss),
    "beneath": ("decoder", beneath.beneath_loss),
    "place": ("decoder", place.place_loss),
}

Batch = Callable[[int], tuple[Tensor, Tensor]]


class NotFiniteError(DidaError):
    """A loss or gradient that no step can be made of."""


class Best(NamedTuple):
    """The best score so far, and how many were made since."""

    step: int
    score: float
    since: int


class Training:
    """Both players, their optimizers, the running mean, and how many steps they have made."""

    def __init__(
        self,
        model: ModelConfig,
        settings: TrainConfig,
        device: str = "cpu",
        group: Group = ALONE,
    ) -> None:
        """Raises DidaError when the device or the group cannot do what the settings ask for."""
        memory.keep_freed()
        torch.manual_seed(settings.seed)
        self.settings, self.device, self.group = settings, torch.device(device), group
        _check_possible(settings, self.device, group)
        # Convolutions on CUDA are fastest in channels_last. On a CPU what that wins there is lost,
        # and more, in the norms: the gradient of a group norm takes 4 to 10 times as long.
        cuda = self.device.type == "cuda"
        self.layout = torch.channels_last if cuda else torch.contiguous_format
        self.model = checkpoint.build(model).to(self.device).to(memory_format=self.layout)
        looks = settings.weights.alike > 0 or settings.weights.domain > 0
        self.critic = Critic(model, looks=looks).to(self.device)
        self.adam = _adam(self.model, settings)
        self.critic_adam = _adam(self.critic, settings)
        average = running_mean(settings.ema)
        self.mean = AveragedModel(self.model, multi_avg_fn=average).eval()
        self.teacher: torch.nn.Module | None = None
        loss = AUTOENCODER_LOSS[model.method]
        if settings.refine != "none":
            self.model.requires_grad_(False)  # all stands still but
            refined, loss = REFINED[settings.refine]
            learns = self.model.get_submodule(refined)
            self.teacher = copy.deepcopy(learns)
            learns.requires_grad_(True)
        self.loss: Callable[..., losses.Losses] = torch.compile(loss) if settings.compile else loss
        self.scaler = torch.amp.GradScaler(
            self.device.type, enabled=settings.precision == "float16"
        )
        self.lookalikes: Lookalikes | beneath.Bases | place.Twins | None = None
        if settings.refine == "beneath":
            self.lookalikes = beneath.Bases(settings.lookalikes)
        elif settings.refine == "place":
            self.lookalikes = place.Twins(settings.lookalikes)
        elif settings.lookalikes:
            self.lookalikes = Lookalikes(settings.lookalikes, hidden=settings.hides)
        self.step = 0
        self.seconds = 0.0  # spent in steps, over all sessions
        self.sums: dict[str, float] = {}  # of the terms since the last log line
        self.summed = 0  # steps they are of
        self.best: Best | None = None
        self.held: list[str] = []  # parameters that stand still until the step `hold`

    def begin_from(self, model: Network) -> list[str]:
        """Take over the weights of a trained model; the names of those that stay fresh.

        See `begin.take_over`. With `hold`, those taken stand still for that many steps. Raises
        DidaError when the two have no tensor in common, or when one that is to be refined is not
        of the same network.
        """
        fresh = begin.take_over(self.model, model)
        self.averaged.load_state_dict(self.model.state_dict())
        if self.teacher:
            if fresh:
                raise DidaError(
                    f"training.refine goes on with the very network it begins from, which has no "
                    f"{fresh[0]}; leave out --method, --side and all that sets the model"
                )
            refined, _ = REFINED[self.settings.refine]
            self.teacher.load_state_dict(self.model.get_submodule(refined).state_dict())
        moving = {name.partition("[")[0] for name in fresh}
        if self.settings.hold and moving:
            names = [name for name, _ in self.model.named_parameters()]
            self.held = [name for name in names if checkpoint.plain_name(name) not in moving]
        return fresh

    @property
    def averaged(self) -> Network:
        """The model that is kept: the running mean of the weights."""
        assert isinstance(self.mean.module, Network)
        return self.mean.module

    def advance(self, a: Tensor, b: Tensor) -> dict[str, Tensor]:
        """One step of both players on pictures (B, 3, side, side) in [-1, 1]; the terms by name.

        Beside the losses' terms there is `critic_gradient`, its norm before it is clipped. Raises
        NotFiniteError when a loss or gradient is not finite, ProcessLostError when a process of
        the group is gone; the weights are then unchanged.
        """
        self._hold()
        self._remember(a, b)
        # noise, too, is a function of the step, and each process makes its own
        torch.manual_seed(self.settings.seed + self.step + (self.group.rank << 40))
        terms = self._differentiate(self.group.share(a), self.group.share(b))
        gradients = [p.grad for p in self._parameters() if p.grad is not None]
        self.group.mean_([*gradients, *terms.values()])
        self._descend(terms)
        self.mean.update_parameters(self.model)
        self.step += 1
        return terms

    def recall(self, batches: "Batch") -> None:
        """Show the lookalikes what an unbroken training has seen last, and twins the first."""
        if self.lookalikes:
            kept = math.ceil(self.settings.lookalikes * self.group.size / self.settings.batch)
            last = kept if isinstance(self.lookalikes, place.Twins) else self.step
            for step in range(max(0, last - kept), last):
                self._remember(*batches(step))

    def _remember(self, a: Tensor, b: Tensor) -> None:
        if not self.lookalikes:
            return
        domains = [self._moved(self.group.share(half)) for half in (a, b)]
        if isinstance(self.lookalikes, Lookalikes):
            self.lookalikes.add(*domains)
            return
        assert isinstance(self.model, mask.Layers) and self.teacher
        if isinstance(self.lookalikes, place.Twins):
            self.lookalikes.add(self.model, self.teacher, *domains)
            return
        self.lookalikes.add(beneath.bases_of(self.model, self.teacher, torch.cat(domains)))

    def _hold(self) -> None:
        """Let the weights that are held stand still, so that fresh ones come to fit them."""
        held = self.step < self.settings.hold
        for name in self.held:
            self.model.get_parameter(name).requires_grad_(not held)
        if not held:
            self.held = []

    def _differentiate(self, a: Tensor, b: Tensor) -> dict[str, Tensor]:
        """Both players' gradients on pictures (B, 3, side, side), a part after the other."""
        self.model.zero_grad(set_to_none=True)
        self.critic.zero_grad(set_to_none=True)
        parts = self.settings.accumulate
        sums: dict[str, Tensor] = {}
        for part in zip(a.chunk(parts), b.chunk(parts), strict=True):
            self.critic.requires_grad_(False)
            loss = self._loss(*part)
            self.scaler.scale(loss.total / parts).backward()  # type: ignore[no-untyped-call]
            self.critic.requires_grad_(True)
            with self._autocast():
                critic = losses.critic(self.critic, loss.common, loss.shown)
            self.scaler.scale(critic.total / parts).backward()  # type: ignore[no-untyped-call]
            for name, term in (loss.terms | critic.terms).items():
                sums[name] = sums.get(name, 0) + term.detach().float() / parts
        return sums

    def _descend(self, terms: dict[str, Tensor]) -> None:
        """Clip both players' gradients and step along them; neither steps if one is not finite."""
        norms = []
        for player, optimizer in ((self.model, self.adam), (self.critic, self.critic_adam)):
            for group in optimizer.param_groups:
                group["lr"] = self.rate()
            self.scaler.unscale_(optimizer)
            norms.append(torch.nn.utils.clip_grad_norm_(player.parameters(), self.settings.clip))
        self._check_finite(norms, terms)
        terms["critic_gradient"] = norms[1].detach()
        for optimizer in (self.adam, self.critic_adam):
            self.scaler.step(optimizer)
        self.scaler.update()

    def _check_finite(self, norms: Sequence[Tensor], terms: dict[str, Tensor]) -> None:
        wrong = [name for name, term in terms.items() if not term.isfinite()]
        # float16 finds its scale by gradients that overflow: such a step is left out
        overflows = self.scaler.is_enabled() and self.scaler.get_scale() > 1
        if wrong or not (overflows or all(norm.isfinite() for norm in norms)):
            what = wrong[0] if wrong else "gradient"
            raise NotFiniteError(f"step {self.step}: the {what} is not finite")

    def _parameters(self) -> list[torch.nn.Parameter]:
        return [*self.model.parameters(), *self.critic.parameters()]

    def _autocast(self) -> torch.autocast:
        precision = getattr(torch, self.settings.precision)
        return torch.autocast(self.device.type, precision, precision != torch.float32)

    def at_fault(self, a: Tensor, b: Tensor) -> tuple[list[int], list[int]]:
        """The places in both halves of a batch whose pictures give a loss that is not finite.

        Each picture alone, as both domains. All places when every picture alone is fine.
        """

        def is_bad(picture: Tensor) -> bool:
            return not self._loss(picture, picture).total.isfinite()

        with torch.no_grad():
            in_a, in_b = (
                [place for place, picture in enumerate(torch.split(half, 1)) if is_bad(picture)]
                for half in (a, b)
            )
        return (in_a, in_b) if in_a or in_b else (list(range(len(a))), list(range(len(b))))

    def _loss(self, a: Tensor, b: Tensor) -> losses.Losses:
        a, b = map(self._moved, (a, b))
        more: dict[str, Any] = {}
        if self.teacher:
            more["teacher"] = self.teacher
        if self.lookalikes:
            more["lookalikes"] = self.lookalikes
        with self._autocast():
            return self.loss(
                self.model, self.critic, a, b, self.weights(), self.settings.critic_target, **more
            )

    def _moved(self, pictures: Tensor) -> Tensor:
        if self.device.type == "cuda":
            pictures = pictures.pin_memory()  # so that the copy does not wait
        return pictures.to(self.device, memory_format=self.layout, non_blocking=True)

    def weights(self) -> Weights:
        """The losses' weights in the coming step: some start late, some rise."""
        full = self.settings.weights
        if self.step < self.settings.critic_start:
            full = replace(full, common=0.0)
        if self.model.config.method != "layers":
            return full
        rise, exchange = (
            _share(self.step, ramp) if self.settings.rise else 1.0
            for ramp in (mask.MASK_RAMP, mask.EXCHANGE_RAMP)
        )
        late = _share(self.step / self.settings.steps, mask.LATE_RAMP)
        return replace(
            full,
            repaint_a=rise * full.repaint_a,
            repaint_b=rise * full.repaint_b,
            **{name: exchange * getattr(full, name) for name in mask.EXCHANGED},
            **{name: rise * getattr(full, name) for name in mask.CYCLED},
            mask=rise * (full.mask + late * (full.mask_late - full.mask)),
        )

    def rate(self) -> float:
        """The learning rate of the coming step: a half cosine down to a twentieth."""
        way = min(1.0, self.step / self.settings.steps)
        fall = LAST_RATE + (1 - LAST_RATE) * (1 + math.cos(math.pi * way)) / 2
        return self.settings.learning_rate * fall

    @property
    def is_over(self) -> bool:
        """Whether the last step is made, or patience has ended."""
        patience = self.settings.patience
        if patience and self.best and self.best.since >= patience:
            return True
        return self.step >= self.settings.steps

    @property
    def is_scored(self) -> bool:
        """Whether there is to be a score at this step."""
        every, steps = self.settings.score_every, self.settings.steps
        return 0 < every <= steps and (self.step % every == 0 or self.step == steps)

    def compare(self, score: float) -> bool:
        """Hold this step's score against the best so far; whether it is better."""
        if self.best and not score > self.best.score:
            self.best = self.best._replace(since=self.best.since + 1)
            return False
        self.best = Best(self.step, score, 0)
        return True

    def save(self, run: Path, card: str) -> None:
        """Write the model and all that a resume needs as `run/last`; the one before as `last-1`."""
        progress = {
            "step": self.step,
            "seconds": round(self.seconds, 1),
            "sums": self.sums,
            "summed": self.summed,
            "best": self.best._asdict() if self.best else None,
            "held": self.held,
            "scale": self.scaler.state_dict(),  # nothing but with float16
        }
        files = checkpoint.model_files(self.averaged, card)
        files |= {
            STATE: checkpoint.state_of(self._parts()),
            PROGRESS: json.dumps(progress).encode(),
        }
        checkpoint.write_folder(run / "last", files, previous=run / "last-1")

    def restore(self, folder: Path) -> None:
        """Take up the state saved in a folder. Raises DidaError when it does not fit."""
        progress = _read_progress(folder / PROGRESS)
        checkpoint.restore(self._parts(), folder / STATE)
        self.step, self.seconds = progress["step"], progress["seconds"]
        self.sums = progress["sums"]
        # earlier versions did not count: log lines were due at fixed steps
        self.summed = progress.get("summed", self.step % self.settings.log_every)
        best = progress.get("best")
        self.best = Best(**best) if best else None
        self.held = checked(list[str], progress.get("held", []), f"{folder / PROGRESS}: held")
        if unknown := set(self.held) - {name for name, _ in self.model.named_parameters()}:
            raise DidaError(f"{folder / PROGRESS}: held names no parameter {min(unknown)}")
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(progress["scale"])

    def _parts(self) -> dict[str, torch.nn.Module | torch.optim.Optimizer]:
        parts: dict[str, torch.nn.Module | torch.optim.Optimizer] = {
            "model": self.model,
            "critic": self.critic,
            "mean": self.mean,
            "adam": self.adam,
            "critic_adam": self.critic_adam,
        }
        return parts | ({"teacher": self.teacher} if self.teacher else {})


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


def _check_possible(settings: TrainConfig, device: torch.device, group: Group) -> None:
    if settings.precision != "float32" and device.type != "cuda":
        raise DidaError(f"precision {settings.precision} needs CUDA; leave it at float32 here")
    if settings.batch % (group.size * settings.accumulate):
        parts = f" of {settings.accumulate} parts" if settings.accumulate > 1 else ""
        raise DidaError(
            f"a batch of {settings.batch} cannot be shared by {group.size} processes{parts}"
        )


def _share(place: float, ramp: tuple[float, float]) -> float:
    """How much of a ramp lies behind a place: 0 before it, 1 after it."""
    begin, end = ramp
    return min(1.0, max(0.0, (place - begin) / (end - begin)))


def _read_progress(path: Path) -> dict[str, Any]:
    """What `Training.save` wrote beside the state. Raises DidaError naming what is wrong."""
    progress = read_json(path)
    if not isinstance(progress, dict) or not {"step", "seconds", "sums"} <= set(progress):
        raise DidaError(f"{path}: must hold step, seconds and sums; {LAST_BUT_ONE}")
    sums, best = progress["sums"], progress.get("best") or dict.fromkeys(Best._fields, 0)
    if not isinstance(sums, dict):
        raise DidaError(f"{path}: sums must be an object; {LAST_BUT_ONE}")
    if not isinstance(best, dict) or set(best) != set(Best._fields):
        raise DidaError(f"{path}: best must hold {', '.join(Best._fields)}; {LAST_BUT_ONE}")
    counts: dict[str, Any] = {"step": progress["step"], "summed": progress.get("summed", 0)}
    counts |= {f"best.{name}": best[name] for name in best if name != "score"}
    numbers: dict[str, Any] = {"seconds": progress["seconds"], "best.score": best["score"]}
    numbers |= {f"sums.{name}": value for name, value in sums.items()}
    for kind, given in ((int, counts), (float, numbers)):
        for name, value in given.items():
            if not 0 <= checked(kind, value, f"{path}: {name}") < math.inf:
                raise DidaError(f"{path}: {name} must be 0 or more, not {value}; {LAST_BUT_ONE}")
    return progress


def _adam(player: torch.nn.Module, settings: TrainConfig) -> torch.optim.Optimizer:
    return torch.optim.Adam(player.parameters(), lr=settings.learning_rate, betas=BETAS, fused=True)


def fit(
    training: Training,
    batches: Batch,
    run: Path,
    *,
    card: Callable[[Training], str],
    files: Callable[[int], tuple[Sequence[str], Sequence[str]]] = lambda step: ((), ()),
    score: Callable[[Network], Mapping[str, float]] | None = None,
    on_step: Callable[[int, Line | None], None] = lambda step, line: None,
    on_save: Callable[[Training], None] = lambda training: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> bool:
    """Train to the last step, till patience ends, or until `should_stop`; then the state is saved.

    `files(step)` names the pictures of a batch, A's and B's. `score` gives figures of the running
    mean, among them `score` (0 or more, the more the better), whose best model is `run/best`; it
    must leave torch's random numbers alone. `on_step(step, line)` hears of every step, and of the
    figures on those that are logged. Returns whether the training is over. Raises DidaError, what
    was last saved being kept, when a loss is not finite or the disk is full.
    """
    settings, group = training.settings, training.group
    log = log_until(run, training.step, writes=group.writes)
    is_scored = group.agreed(score is not None)
    training.recall(batches)
    try:
        while not training.is_over and not group.any(should_stop(), training.device):
            _one_step(training, batches(training.step), files)
            step = training.step
            line: Line = {}
            if step % settings.log_every == 0 or step == settings.steps:
                line |= _means(training)
            if is_scored and training.is_scored:
                line |= group.agreed(score(training.averaged) if score else {})
                if training.compare(line["score"]) and group.writes:
                    model = checkpoint.model_files(training.averaged, card(training))
                    checkpoint.write_folder(run / BEST, model)
            if line:
                log.append({"step": step, "learning_rate": training.rate(), **line})
                watch_critic(log, settings)
                if group.writes:
                    append(run / LOG, log[-1])
            on_step(step, log[-1] if line else None)
            # a score is saved at once, lest `best` be of a state that nothing remembers
            if (step % settings.save_every == 0 or "score" in line) and not training.is_over:
                _save(training, run, card, on_save)
    except ProcessLostError as error:
        _save_once(training, run, card(training))
        raise ProcessLostError(
            f"{error}; step {training.step} is saved: dida train --resume {shlex.quote(str(run))}"
        ) from None
    _save(training, run, card, on_save)
    return training.is_over


def _save(
    training: Training,
    run: Path,
    card: Callable[[Training], str],
    on_save: Callable[[Training], None],
) -> None:
    if training.group.writes:
        training.save(run, card(training))
        on_save(training)


def _save_once(training: Training, run: Path, card: str) -> None:
    """Save by one of the processes that are left: the one that is lost may be the first."""
    claim = run / f".saving-{training.step}"
    try:
        claim.mkdir()
    except FileExistsError:
        return
    training.save(run, card)
    claim.rmdir()


def _one_step(
    training: Training,
    batch: tuple[Tensor, Tensor],
    files: Callable[[int], tuple[Sequence[str], Sequence[str]]],
) -> None:
    """Advance, and keep count of terms and time."""
    began = time.perf_counter()
    for name, term in _advance(training, batch, files).items():
        training.sums[name] = training.sums.get(name, 0.0) + term.item()
    training.summed += 1
    training.seconds += time.perf_counter() - began


def _advance(
    training: Training,
    batch: tuple[Tensor, Tensor],
    files: Callable[[int], tuple[Sequence[str], Sequence[str]]],
) -> dict[str, Tensor]:
    """One step; a loss that is not finite is told with the files it came from."""
    try:
        return training.advance(*batch)
    except NotFiniteError as error:
        pairs = zip(files(training.step), training.at_fault(*batch), strict=True)
        names = [names[place] for names, places in pairs if names for place in places]
        more = [f"{len(names) - NAMED} more"] if len(names) > NAMED else []
        told = f" ({', '.join(names[:NAMED] + more)})" if names else ""
        raise DidaError(
            f"{error}{told}; the last saved state is kept: go on from it by --resume with "
            "--override and a lower --learning-rate, or start anew"
        ) from None


def _means(training: Training) -> dict[str, float]:
    """The terms' means since the last time."""
    means = {name: total / training.summed for name, total in training.sums.items()}
    training.sums, training.summed = {}, 0
    return means


def card(training: Training, data: dict[str, Any], command: str) -> str:
    """The README of a saved model: what it is, and what it was made from, with what."""
    model, settings = training.averaged.config, training.settings
    domains = f": A {data['a']}, B {data['b']}" if "a" in data else ""
    best = training.best
    scores = "not measured yet"
    if best and best.step == training.step:
        scores = f"{best.score:.3f} on held-out pictures, the best so far"
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
| scores | {scores} |
"""
