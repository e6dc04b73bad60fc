"""What a network costs: by part, beside a plainer one, in bfloat16 and compiled."""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile, record_function

from ccln.model import CCLN, ModelConfig, losses, matching, network
from ccln.model.network import ClassifyingBranch, EventNetwork
from ccln.pipeline.data.clips import Split
from ccln.pipeline.metrics.evaluation import Selectable
from ccln.pipeline.train.config import TrainingConfig
from ccln.pipeline.train.tasks import Task

Batch = dict[str, Tensor]
PARTS = {
    "attention": "guided attention",
    "standardization": "encoders",
    "visual_norm": "encoders",
    "audio_encoder": "encoders",
    "visual_encoder": "encoders",
    "interaction": "SBI",
    "enhancement": "FEE",
    "audio_projection": "branch and WCCL",
    "visual_projection": "branch and WCCL",
    "branch": "branch and WCCL",
    "dropout": "heads",
}
LOSSES, REST = "other losses", "between the parts"


def ready_batches(task: Task, training: TrainingConfig, count: int) -> list[Batch]:
    """The first batches of an epoch without its shuffling, augmented."""
    random, size = torch.Generator().manual_seed(0), training.batch_size
    starts = range(0, count * size, size)
    return [task.augmented(task.clips.__getitems__(list(range(start, start + size))), random) for start in starts]


def seconds_of_steps(model: nn.Module, task: Task, training: TrainingConfig, batches: Sequence[Batch]) -> float:
    """Seconds of a forward and a backward pass and an optimizer step on each batch."""
    optimizer = torch.optim.AdamW(model.parameters(), training.learning_rate, fused=True)
    model.train()
    start = time.perf_counter()
    for batch in batches:
        optimizer.zero_grad(set_to_none=True)
        task.losses(model, batch, 1.0)["total"].backward()
        nn.utils.clip_grad_norm_(model.parameters(), training.gradient_clip)
        optimizer.step()
    return time.perf_counter() - start


def seconds_by_precision(
    make: Callable[[], nn.Module], task: Task, training: TrainingConfig, batches: Sequence[Batch], rounds: int
) -> dict[str, float]:
    """Seconds of the steps on these batches in float32, under autocast to bfloat16, and compiled; the fastest round."""
    compiled = make()
    compiled.compile()
    models = {"float32": make(), "bfloat16": make(), "compiled": compiled}
    found: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(rounds + 1):
        for name, model in models.items():
            with torch.autocast("cpu", torch.bfloat16, enabled=name == "bfloat16"):
                found[name].append(seconds_of_steps(model, task, training, batches))
    return {name: min(seconds[1:]) for name, seconds in found.items()}  # the first round compiles


def shares(model: nn.Module, task: Task, batches: Sequence[Batch]) -> dict[str, float]:
    """Share of each part in the time of forward and backward passes; of each part the fastest batch counts."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else the profiler writes of every start and stop
    model.train()
    task.losses(model, batches[0], 1.0)["total"].backward()
    measured = [microseconds_by_part(model, task, batch) for batch in batches]
    fastest = Counter({part: min(batch[part] for batch in measured) for part in measured[0]})
    return {part: value / fastest.total() for part, value in fastest.most_common()}


def microseconds_by_part(model: nn.Module, task: Task, batch: Batch) -> Counter[str]:
    """Time that each part takes in a forward and a backward pass.

    A part's forward time is what the profiler saw inside it. An operation of the backward pass belongs to the part in
    which its forward operation ran, known by the number that autograd gives to both.
    """
    with labelled(model), profile(activities=[ProfilerActivity.CPU]) as profiler:
        with record_function(_MARK + LOSSES):
            total = task.losses(model, batch, 1.0)["total"]
        total.backward()
    events = sorted(profiler.events() or [], key=lambda event: event.time_range.start)
    microseconds: Counter[str] = Counter()
    part_of_number: dict[int, str] = {}
    for event in events:
        part = _part(event)
        if part is not None:
            microseconds[part] += event.self_cpu_time_total
            part_of_number[event.sequence_nr] = part  # the last with a number is the one that made the node
    for event in events:
        if event.name.startswith("autograd::engine::evaluate_function"):
            microseconds[part_of_number.get(event.sequence_nr, REST)] += event.cpu_time_total
    return microseconds


_MARK = "part of the network: "


def _part(event: Any) -> str | None:
    """The innermost part that an event of the forward pass lies in."""
    while event is not None:
        if event.name.startswith(_MARK):
            return event.name.removeprefix(_MARK)
        event = event.cpu_parent
    return None


@contextmanager
def labelled(model: nn.Module) -> Iterator[None]:
    """Let the profiler see in which part of the network it is."""
    with ExitStack() as stack:

        def label(owner: Any, name: str, part: str) -> None:
            stack.enter_context(patch.object(owner, name, _recorded(getattr(owner, name), part)))

        label(model, "forward", REST)
        for name, child in _children(model):
            label(child, "forward", "heads" if name.endswith("_head") else PARTS.get(name, name))
            if isinstance(child, ClassifyingBranch):
                label(child, "class_logits", PARTS[name])
        label(network, "pooled_unit", PARTS["branch"])
        for module in (losses, matching):
            label(module, "wccl_loss", PARTS["branch"])
        yield


def _children(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The network's parts by their names, those of all its members among them."""
    for name, child in model.named_children():
        if isinstance(child, nn.ModuleList):
            for one in child:
                yield from one.named_children()
        else:
            yield name, child


def _recorded(function: Callable, part: str) -> Callable:
    @wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        with record_function(_MARK + part):
            return function(*arguments, **named)

    return call


class PlainOutput(NamedTuple):
    event_logits: Tensor
    """(batch, segment)"""
    class_logits: Tensor
    """(batch, class)"""


class PlainNetwork(nn.Module):
    """CCLN's guided attention, LSTMs and heads alone."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        whole = EventNetwork(config)
        self.attention = CCLN(config).attention
        self.visual_norm = whole.visual_norm
        self.audio_encoder, self.visual_encoder = whole.audio_encoder, whole.visual_encoder
        self.event_head = nn.Linear(2 * config.width, 1)
        self.class_head = nn.Linear(2 * config.width, config.class_count)

    def forward(self, visual: Tensor, audio: Tensor) -> PlainOutput:
        """(B, T, H, W, C), (B, T, D) -> the output that evaluation takes."""
        attended = self.attention(visual, audio)[0]
        view = torch.cat([self.audio_encoder(audio), self.visual_encoder(self.visual_norm(attended))], -1)
        return PlainOutput(self.event_head(view).squeeze(-1), self.class_head(view.mean(1)))


class PlainTask:
    """A localization task for a plain network: cross-entropy of event and class."""

    def __init__(self, task: Task) -> None:
        self.name, self.clips, self._task = task.name, task.clips, task

    def augmented(self, batch: Batch, random: torch.Generator) -> Batch:
        return self._task.augmented(batch, random)

    def losses(self, model: nn.Module, batch: Batch, warmth: float) -> dict[str, Tensor]:
        output, labels = model(batch["visual"].float(), batch["audio"]), batch["label"]
        # Weakly supervised, the gate has no more to go by than whether there is an event at all.
        event = batch.get("event", (labels >= 0).float()[:, None].expand_as(output.event_logits))
        gate = F.binary_cross_entropy_with_logits(output.event_logits, event)
        return {"total": gate + F.cross_entropy(output.class_logits, labels, ignore_index=-1)}

    def scores(self, network: nn.Module, split: Split) -> Selectable:
        return self._task.scores(network, split)
