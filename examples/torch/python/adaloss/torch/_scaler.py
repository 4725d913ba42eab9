"""`torch.amp.GradScaler` with a scale for each layer."""

from __future__ import annotations

import functools
import math
import threading
import weakref
from collections import abc
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.amp.grad_scaler import OptState

from .. import _core
from . import _formats as formats
from ._products import Site, is_transformed
from ._ranks import STEP, UPDATE, Own, Ranks
from ._regions import DELIVERED, MARGIN, WIDE, Look, PartialPass, Pass

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

_FORMAT = "binary16"
_GREATEST_OWN_SCALE = 2.0**24
# Looks that wait on their device for the end of the step; more are read before.
_MOST_LOOKS = 20_000

# What `Cells.look` takes: name, largest magnitude, exponent of the scale, whether it is one of those.
_Entry = tuple[str, float, int, bool]


class _Root(torch.autograd.Function):
    """Multiplies a loss by the scaler's own scale, and begins its backward pass."""

    @staticmethod
    def forward(ctx: Any, loss: Tensor, scaler: GradScaler) -> Tensor:
        ctx.scaler, ctx.dtype, ctx.thread = scaler, loss.dtype, threading.get_ident()
        ctx.largest = formats.largest(loss)
        # By the scale as it is now, as `scale` says; a backward pass brings gradients to the scale as it is then.
        return torch.amp.GradScaler.scale(scaler, loss)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.scaler._begin_backward(ctx, gradient).to(ctx.dtype), None


@dataclass
class Report:
    """What a scaler covers and does; `str` of it is a page of text."""

    #: The exponent of the scale that each gradient has next, by the name of the layer that it goes to.
    scales: dict[str, int] = field(default_factory=dict)
    #: Nodes of the last backward pass that multiply and are no layers of a prepared model, and functions of which nothing
    #: is known: how many there are of each kind.
    uncovered: dict[str, int] = field(default_factory=dict)
    #: Updates so far.
    steps: int = 0
    #: Updates in which the scale of a layer was too large, by its name.
    overflowed: dict[str, int] = field(default_factory=dict)
    #: Backward passes at the scaler's own scale, as with `torch.amp.GradScaler`: asked for by `create_graph=True`,
    #: `torch.autograd.grad` or `inputs=`.
    passes_at_own_scale: int = 0
    #: Whether the scaler scales anything: see its argument `enabled`.
    is_enabled: bool = True
    #: Processes that decide together: those of the scaler's `process_group`.
    processes: int = 1

    def __str__(self) -> str:
        lines = [f"{self.steps} updates; {len(self.scales)} gradients with a scale of their own"]
        width = max(map(len, self.scales), default=0)
        lines += [f"  {name:{width}}  2^{log2}" for name, log2 in self.scales.items()]
        if self.processes > 1:
            lines.append(f"{self.processes} processes decide together")
        if self.overflowed:
            lines.append("steps skipped because the scale was too large:")
            lines += [f"  {times} x {name}" for name, times in self.overflowed.items()]
        if self.uncovered:
            lines.append("not covered (gradients keep the scale that they arrive with, or the scaler's own):")
            lines += [f"  {times} x {kind}" for kind, times in sorted(self.uncovered.items())]
        if self.passes_at_own_scale:
            lines.append(
                f"{self.passes_at_own_scale} backward passes were made at the scaler's own scale, since they were asked for "
                "with create_graph=True, by torch.autograd.grad or with inputs="
            )
        if not self.is_enabled:
            lines.append("the scaler is disabled, and scales nothing")
        elif not self.scales:
            lines.append("no gradient was seen: is the loss passed to scale(), and was prepare(model) called?")
        return "\n".join(lines)


class GradScaler(torch.amp.GradScaler):
    """`torch.amp.GradScaler`, in which every layer of a prepared model has a loss scale of its own.

    All calls, arguments and promises are those of `torch.amp.GradScaler`.  Parameters get their gradients at the scale
    that `get_scale` returns, and `unscale_`, `step` and `update` do with them what they always did.  Between the loss and
    the parameters each gradient in binary16 has a scale of its own, a power of two, which is decided from what the layer
    showed in earlier steps, by the Rust library's policy `measured`; see `adaloss.torch.prepare`.

    A tensor within the model, as hooks on tensors and `retain_grad` see it, has the scale of its layer; `Module` hooks, and
    functions of the user's, see the scaler's own scale.

    `process_group` is the group of all processes that train the model, `torch.distributed.group.WORLD` as a rule: they then
    have the same scales, and skip a step together or not at all.  In each call of `step`, one message of 4096 bytes, or of
    176 and 6 for each scale if that is more, is reduced over the group; every process calls `step` and `update` in each
    step, after the reduction of its gradients has ended.  By default, None, nothing is sent, and each process has scales of
    its layers of its own, also where `torch.distributed` is in use.  See `process_group` for the errors.

    Example:
        >>> scaler = adaloss.torch.GradScaler()
        >>> adaloss.torch.prepare(model)
        >>> for input, target in data:
        ...     optimizer.zero_grad()
        ...     with torch.autocast("cuda", dtype=torch.float16):
        ...         loss = criterion(model(input), target)
        ...     scaler.scale(loss).backward()
        ...     scaler.step(optimizer)
        ...     scaler.update()
    """

    _ranks: Ranks | None = None

    def __init__(self, *args: Any, process_group: ProcessGroup | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._forget()
        self.process_group = process_group

    @property
    def process_group(self) -> ProcessGroup | None:
        """The processes that decide together; None where each does by itself.

        It may be set between two steps.  It is no part of a state, and a scaler that was pickled or copied has none.

        Where processes differ in their scales, options, steps or prepared models, or call `step` and `update` in other
        orders, `step` or `update` raises `RanksDiffer` in all of them, before a weight is changed.  Where a process does not
        come, the others get the error of the engine, at the deadline of the group: see `timeout` of
        `torch.distributed.new_group`.  TypeError: this process is none of the group.
        """
        return None if self._ranks is None else self._ranks.group

    @process_group.setter
    def process_group(self, group: ProcessGroup | None) -> None:
        self._ranks = None if group is None else Ranks(group)
        if self._ranks is not None:
            for site, name in self._names.items():
                self._ranks.saw(name, site.model)
        self._report.processes = 1 if self._ranks is None else self._ranks.size

    def _forget(self) -> None:
        self._cells = _core.Cells(_FORMAT)
        self._looks: list[Look] = []
        # What was read of looks before the step is over: see `_fold`.
        self._folded: list[_Entry] = []
        self._names: weakref.WeakKeyDictionary[Site, str] = weakref.WeakKeyDictionary()
        self._report = Report(is_enabled=self.is_enabled())

    def scale(self, outputs: Any) -> Any:
        """Multiplies a tensor, or each tensor of an iterable, by the scaler's own scale; see `torch.amp.GradScaler.scale`."""
        if not self.is_enabled():
            return outputs
        if isinstance(outputs, Tensor):
            if is_transformed():
                return super().scale(outputs)
            self._end_abandoned_passes()
            return _Root.apply(outputs, self)
        if isinstance(outputs, abc.Iterable):
            scaled: Iterable[Any] = map(self.scale, outputs)
            return type(outputs)(scaled) if isinstance(outputs, (list, tuple)) else scaled
        raise ValueError("outputs must be a Tensor or an iterable of Tensors")

    def step(self, optimizer: torch.optim.Optimizer, *args: Any, **kwargs: Any) -> float | None:
        """Updates parameters, unless gradients are infinite or NaN; see `torch.amp.GradScaler.step`.

        With a `process_group`, all processes do, or none does: it is called in each of them.
        """
        if self._ranks is not None and self.is_enabled() and "closure" not in kwargs:
            self._agree_on(optimizer)
        return super().step(optimizer, *args, **kwargs)

    def update(self, new_scale: float | Tensor | None = None) -> None:
        """Ends a step: decides the scales of the next one; see `torch.amp.GradScaler.update`.

        Where the scale of a layer made values infinite, that one falls, and the scaler's own stays.  The scaler's own grows
        to 2^24, or to what it was set to, if that is more: no gradient in binary16 limits it any more.

        Where `torch.distributed` has other processes and the scaler no `process_group`, the scaler's own falls as that of
        `torch.amp.GradScaler` does, so that it is the same in all of them.
        """
        if not self.is_enabled():
            return
        charged = self._end_step()
        if new_scale is not None:
            super().update(new_scale)
            return
        own_scale, _ = self._check_scale_growth_tracker("update")
        before = own_scale.clone()
        super().update()
        # Of other processes, without a group, nothing is known but what was reduced: infinities.  So all lower their scales,
        # or none does.
        if charged is not None and (self._ranks is not None or not _has_other_processes()):
            own_scale.copy_(before)
        else:
            own_scale.copy_(torch.minimum(own_scale, before.clamp(min=_GREATEST_OWN_SCALE)))

    def report(self) -> Report:
        """Returns what is covered and what is not, the scales, and what was skipped."""
        return self._report

    def _scale_at(self, node: Any) -> float:
        """Returns the scale of what arrives at a node of the backward pass under way."""
        walked = Pass.under_way()
        return float(self.get_scale()) if walked is None or not walked.scales_layers else walked.scale_at(node)

    # Backward passes.

    def _begin_backward(self, node: Any, gradient: Tensor) -> Tensor:
        own_scale, _ = self._check_scale_growth_tracker("backward")
        if torch.is_grad_enabled():
            return self._at_own_scale(gradient, own_scale)
        walked = Pass.under_way()
        is_first = walked is None
        if walked is None:
            walked = Pass(self, node.thread, own_scale, self._cells.scale_log2, self._name_of)
            torch.autograd.Variable._execution_engine.queue_callback(functools.partial(self._end_pass, walked))
        elif walked.owner is not self:
            raise RuntimeError("losses that were scaled by two scalers are in one backward pass: scale both by one of them")
        if walked.is_at_own_scale:
            return self._at_own_scale(gradient, own_scale)
        try:
            region = walked.walk(node)
        except PartialPass:
            if not is_first:
                raise RuntimeError(
                    "some of the losses of this backward pass reach parameters whose gradients were not asked for, and some "
                    "do not: ask for the gradients of each loss by itself, or call backward without inputs="
                ) from None
            walked.stay_at_own_scale()
            return self._at_own_scale(gradient, own_scale)
        walked.look_at_loss(node.largest)
        if region is None:
            return gradient * walked.own_scale(gradient.device)
        return walked.deliver(gradient if gradient.dtype in WIDE else gradient.float(), None, region, gradient.dtype)

    def _at_own_scale(self, gradient: Tensor, own_scale: Tensor) -> Tensor:
        self._report.passes_at_own_scale += 1
        return gradient * own_scale.to(gradient.device, non_blocking=True)

    def _end_pass(self, walked: Pass) -> None:
        """Takes over what a pass has seen."""
        if walked.is_over:
            return
        walked.end()
        self._looks += walked.looks
        walked.looks = []
        if not walked.is_at_own_scale:
            self._report.uncovered = dict(walked.uncovered)
        if len(self._looks) > _MOST_LOOKS:
            self._fold()

    def _end_abandoned_passes(self) -> None:
        """Lets go of the graphs of this thread's passes that an error ended."""
        if torch._C._current_graph_task_id() == -1:
            for walked in Pass.all_of(self):
                if walked.thread == threading.get_ident():
                    self._end_pass(walked)

    def _fold(self) -> None:
        """Reads what was seen, and keeps the largest of each name, and the first that is not finite."""
        largest: dict[str, _Entry] = {}
        for entry in self._folded + _read(self._looks):
            name, value, _, is_scaled = entry
            if not math.isfinite(value):
                largest.setdefault("not finite", entry)
            elif is_scaled and (name not in largest or value > largest[name][1]):
                largest[name] = entry
        self._folded, self._looks = list(largest.values()), []

    def _name_of(self, site: Site) -> str:
        """Returns the name of a product, which no product of another model has."""
        name = self._names.get(site)
        if name is None:
            taken, name, times = set(self._names.values()), site.name, 1
            while name in taken:
                times += 1
                name = f"{site.name}, model {times}"
            self._names[site] = name
            if self._ranks is not None:
                self._ranks.saw(name, site.model)
        return name

    def _end_step(self) -> str | None:
        """Decides the scales of the next step; returns the name of one that was too large."""
        for walked in Pass.all_of(self):
            self._end_pass(walked)
        if self._ranks is None:
            entries = self._take_looks()
            self._cells.look(entries)
            names = [name for name, _, _, is_scaled in entries if is_scaled]
        else:
            # What was seen since the optimizer's step belongs to the next one.
            if self._ranks.agreements == 0:
                self._agree_on_update()
            self._ranks.end_step()
            names = self._cells.names()
        charged = self._cells.finish()
        report = self._report
        report.steps += 1
        for name in names:
            log2 = self._cells.scale_log2(name) if DELIVERED not in name else None
            if log2 is not None:
                report.scales[name] = formats.within_bounds(log2 - MARGIN)
        if charged is not None:
            report.overflowed[charged] = report.overflowed.get(charged, 0) + 1
        return charged

    def _take_looks(self) -> list[_Entry]:
        entries = self._folded + _read(self._looks)
        self._folded, self._looks = [], []
        return entries

    # Other processes.

    def _agree_on(self, optimizer: torch.optim.Optimizer) -> None:
        """Decides with the other processes whether an optimizer is to take its step."""
        state = self._per_optimizer_states[id(optimizer)]
        if state["stage"] is OptState.STEPPED:
            return  # `step` is refused, in every process.
        self._have_own_scale()
        if state["stage"] is OptState.READY:
            self.unscale_(optimizer)
        self._agree(STEP, [state["found_inf_per_device"]])

    def _agree_on_update(self) -> None:
        """Decides with the other processes how a step ends in which no optimizer takes one."""
        self._have_own_scale()
        found = [state["found_inf_per_device"] for state in self._per_optimizer_states.values()]
        # Where there is none, one is made, of no optimizer.
        self._agree(UPDATE, found or [self._per_optimizer_states[0]["found_inf_per_device"]])

    def _have_own_scale(self) -> None:
        """Makes the scaler's own scale in a process that has scaled no loss yet."""
        if self._scale is None:
            self._lazy_init_scale_growth_tracker(torch.device(self._device))

    def _agree(self, call: int, found: list[dict[torch.device, Tensor]]) -> None:
        """Takes note of what was seen in any process, and makes what is infinite in one so in all."""
        assert self._ranks is not None
        own_scale, growth_tracker = self._check_scale_growth_tracker("step")
        infinite = [tensor for of in found for tensor in of.values()]
        scale, tracker, *are_infinite = torch.stack(
            [tensor.to(own_scale.device, torch.float32).reshape(()) for tensor in (own_scale, growth_tracker, *infinite)]
        ).tolist()
        own = Own(
            call=call,
            is_infinite=any(are_infinite),
            is_checked=bool(infinite),
            options=(self.get_growth_factor(), self.get_backoff_factor(), self.get_growth_interval()),
            scale=(scale, int(tracker)),
        )
        is_infinite, is_checked = self._ranks.agree(self._cells, self._take_looks(), own)
        if is_checked and not infinite:
            # No gradient here, and some elsewhere.
            found[0][own_scale.device] = torch.zeros_like(own_scale)
        if is_infinite:
            for of in found:
                for tensor in of.values():
                    tensor.fill_(1.0)

    # State.

    def state_dict(self) -> dict[str, Any]:
        """Returns the state: that of `torch.amp.GradScaler`, which can load it, and the scales of the layers."""
        state = super().state_dict()
        if self.is_enabled():
            cells = {name: list(cell) for name, cell in self._cells.save()}
            state["adaloss"] = {"format": _FORMAT, "cells": cells, "run": list(self._cells.save_run())}
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes a state, be it one of `torch.amp.GradScaler`: then the layers begin anew."""
        cells = _core.Cells(_FORMAT)
        if self.is_enabled() and (saved := state_dict.get("adaloss")) is not None:
            if saved.get("format") != _FORMAT:
                raise ValueError(f"the state is of scales for {saved.get('format')!r}, and this scaler's are for {_FORMAT!r}")
            run = saved.get("run")
            cells.load([(name, bytes(cell)) for name, cell in saved["cells"].items()], None if run is None else bytes(run))
        super().load_state_dict(state_dict)
        self._cells = cells
        if self._ranks is not None:
            self._ranks.begin()

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        state["_cells"] = self._cells.save(), self._cells.save_run()
        # What belongs to passes, and to the modules of this process.
        state["_looks"], state["_folded"], state["_names"] = [], [], None
        # What belongs to this process.
        state["_ranks"], state["_report"] = None, replace(self._report, processes=1)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._names = weakref.WeakKeyDictionary()
        self._cells = _core.Cells(_FORMAT)
        self._cells.load(*state["_cells"])


def _has_other_processes() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1


def _read(looks: list[Look]) -> list[_Entry]:
    """Reads what was seen, with one copy from each device, as `Cells.look` takes it."""
    entries: list[_Entry] = []
    values: dict[int, tuple[float, float]] = {}
    by_device: dict[torch.device, list[int]] = {}
    for index, look in enumerate(looks):
        by_device.setdefault(look.largest.device, []).append(index)
    for device, indices in by_device.items():
        largest = [looks[index].largest for index in indices]
        scales = [torch.as_tensor(looks[index].scale, dtype=torch.float32, device=device) for index in indices]
        read = torch.stack(largest + scales).tolist()
        values.update(zip(indices, zip(read, read[len(indices) :])))
    for index, look in enumerate(looks):
        value, carried = values[index]
        log2 = math.frexp(carried)[1] - 1
        names = look.names() if look.is_scaled else ("",)
        entries += [(name, value / carried, log2, look.is_scaled) for name in names]
    return entries
