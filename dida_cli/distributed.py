"""One training in several processes, each with its share of every batch (torchrun).

All processes hold the same weights and make the same steps: they take the mean of their gradients
before either player moves, so N processes with batch B / N each learn what one learns with B.
Every process needs the pictures and the run's folder before it; the first one writes.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from dida_cli.errors import DidaError

PATIENCE = timedelta(hours=2)  # with a process that reads or draws pictures first

Value = TypeVar("Value")


class ProcessLostError(DidaError):
    """Another process of the training has ended, or cannot be reached."""


@dataclass(frozen=True)
class Group:
    """The processes of a training, and this one's place among them.

    Whatever they do together raises ProcessLostError when one of them is gone.
    """

    rank: int = 0
    size: int = 1

    @property
    def writes(self) -> bool:
        """Whether this process is the one that writes and speaks."""
        return self.rank == 0

    def share(self, batch: Tensor) -> Tensor:
        """This process's pictures of a batch (B, ...), B a multiple of `size`."""
        return batch.chunk(self.size)[self.rank]

    def mean_(self, tensors: Sequence[Tensor]) -> None:
        """Set tensors of one type to their mean over all processes."""
        if self.size == 1:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        with _listening():
            dist.all_reduce(flat)
        parts = (flat / self.size).split_with_sizes([tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view_as(tensor))

    def any(self, flag: bool, device: torch.device) -> bool:
        """Whether it is so in any of the processes."""
        flags = torch.tensor(float(flag), device=device)
        self.mean_([flags])
        return bool(flags.item())

    def agreed(self, value: Value) -> Value:
        """What the first process says."""
        said = [value]
        if self.size > 1:
            with _listening():
                dist.broadcast_object_list(said, src=0)
        return said[0]

    @contextmanager
    def first(self) -> Iterator[None]:
        """The first process goes in alone, the others when it has come out."""
        if not self.writes:
            self.agreed(None)
        yield
        if self.writes:
            self.agreed(None)


ALONE = Group()


@contextmanager
def joined(device: torch.device) -> Iterator[Group]:
    """The group that torchrun has started this process in; `ALONE` where it has not.

    With CUDA each process of a machine takes the GPU of its number there.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        yield ALONE
        return
    # Its functions have the group of all processes as a default argument, bound when it is first
    # imported. Imported before there is one (an optimizer does so later), it keeps none alive:
    # threads that outlive destroy_process_group abort a process that is ending.
    import torch.distributed.nn

    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield Group(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()


@contextmanager
def _listening() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # all that the backends raise for a peer that is gone
        raise ProcessLostError("another process of this training has ended") from error
