"""`torch.amp.GradScaler` with a scale for each layer."""

from __future__ import annotations

import math
import weakref
from collections import abc
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .. import _core
from ._products import Site
from ._regions import Look, PartialPass, Pass

_FORMAT = "binary16"


class _Root(torch.autograd.Function):
    """Multiplies a loss by the scaler's own scale, and begins its backward pass."""

    @staticmethod
    def forward(ctx: Any, loss: Tensor, scaler: GradScaler) -> Tensor:
        ctx.scaler, ctx.dtype = scaler, loss.dtype
        # By the scale as it is now, as `scale` says; a backward pass brings gradients to the scale as it is then.
        ctx.save_for_backward(loss)
        return torch.amp.GradScaler.scale(scaler, loss)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (loss,) = ctx.saved_tensors
        return ctx.scaler._begin_backward(ctx, loss, gradient).to(ctx.dtype), None


@dataclass
class Report:
    """What a scaler covers and does; `str` of it is a page of text."""

    #: The exponent of the scale of each gradient, by the name of the layer that it goes to.
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

    def __str__(self) -> str:
        lines = [f"{self.steps} updates; {len(self.scales)} gradients with a scale of their own"]
        width = max(map(len, self.scales), default=0)
        lines += [f"  {name:{width}}  2^{log2}" for name, log2 in self.scales.items()]
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
        if not self.scales:
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

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._forget()

    def _forget(self) -> None:
        self._cells = _core.Cells(_FORMAT)
        self._passes: dict[int, Pass] = {}
        self._looks: list[Look] = []
        self._names: weakref.WeakKeyDictionary[Site, str] = weakref.WeakKeyDictionary()
        self._report = Report()

    def scale(self, outputs: Any) -> Any:
        """Multiplies a tensor, or each tensor of an iterable, by the scaler's own scale; see `torch.amp.GradScaler.scale`."""
        if not self.is_enabled():
            return outputs
        if isinstance(outputs, Tensor):
            return _Root.apply(outputs, self)
        if isinstance(outputs, abc.Iterable):
            scaled: Iterable[Any] = map(self.scale, outputs)
            return type(outputs)(scaled) if isinstance(outputs, (list, tuple)) else scaled
        raise ValueError("outputs must be a Tensor or an iterable of Tensors")

    def update(self, new_scale: float | Tensor | None = None) -> None:
        """Ends a step: decides the scales of the next one; see `torch.amp.GradScaler.update`.

        Where the scale of a layer made values infinite, that one falls, and the scaler's own stays.
        """
        if not self.is_enabled():
            return
        charged = self._end_step()
        if charged is not None and new_scale is None:
            own_scale, _ = self._check_scale_growth_tracker("update")
            new_scale = own_scale.clone()
        super().update(new_scale)

    def report(self) -> Report:
        """Returns what is covered and what is not, the scales, and what was skipped."""
        return self._report

    def _scale_at(self, node: Any) -> float:
        """Returns the scale of what arrives at a node of the backward pass under way."""
        walked = self._passes.get(torch._C._current_graph_task_id())
        return float(self.get_scale()) if walked is None else walked.scale_at(node)

    # Backward passes.

    def _begin_backward(self, node: Any, loss: Tensor, gradient: Tensor) -> Tensor:
        task = torch._C._current_graph_task_id()
        own_scale, _ = self._check_scale_growth_tracker("backward")
        if torch.is_grad_enabled():
            return self._at_own_scale(gradient, own_scale)
        walked = self._passes.get(task)
        if walked is None:
            self._end_passes()
            walked = Pass(own_scale, self._cells.scale_log2, self._name_of)
        try:
            region = walked.walk(node)
        except PartialPass:
            walked.close()
            if task in self._passes:
                raise RuntimeError(
                    "torch.autograd.grad was asked for gradients of several losses that reach different parameters: ask "
                    "for those of each loss by itself, or call backward"
                ) from None
            return self._at_own_scale(gradient, own_scale)
        if task not in self._passes:
            self._passes[task] = walked
            torch.autograd.Variable._execution_engine.queue_callback(self._end_passes)
        walked.look_at_loss(loss)
        if region is None:
            return gradient * walked.own_scale(gradient.device)
        return walked.deliver(gradient.float(), None, region, gradient.dtype)

    def _at_own_scale(self, gradient: Tensor, own_scale: Tensor) -> Tensor:
        self._report.passes_at_own_scale += 1
        return gradient * own_scale.to(gradient.device, non_blocking=True)

    def _end_passes(self) -> None:
        """Lets go of the graphs of passes that are over, or that an error ended."""
        for walked in self._passes.values():
            walked.close()
            self._looks += walked.looks
            self._report.uncovered = dict(walked.uncovered)
        self._passes.clear()

    def _name_of(self, site: Site) -> str:
        """Returns the name of a product, which no product of another model has."""
        name = self._names.get(site)
        if name is None:
            taken, name, times = set(self._names.values()), site.name, 1
            while name in taken:
                times += 1
                name = f"{site.name}, model {times}"
            self._names[site] = name
        return name

    def _end_step(self) -> str | None:
        """Decides the scales of the next step; returns the name of one that was too large."""
        self._end_passes()
        looks, self._looks = self._looks, []
        charged = self._cells.step([entry for look in _read(looks) for entry in look]) if looks else None
        report = self._report
        report.steps += 1
        for look in looks:
            if look.is_scaled and (log2 := self._cells.scale_log2(look.region.name)) is not None:
                report.scales[look.region.name] = log2
        if charged is not None:
            report.overflowed[charged] = report.overflowed.get(charged, 0) + 1
        return charged

    # State.

    def state_dict(self) -> dict[str, Any]:
        """Returns the state: that of `torch.amp.GradScaler`, which can load it, and the scales of the layers."""
        state = super().state_dict()
        if self.is_enabled():
            state["adaloss"] = {"format": _FORMAT, "cells": {n: list(b) for n, b in self._cells.save()}}
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes a state, be it one of `torch.amp.GradScaler`: then the layers begin anew."""
        cells = _core.Cells(_FORMAT)
        if self.is_enabled() and (saved := state_dict.get("adaloss")) is not None:
            if saved.get("format") != _FORMAT:
                raise ValueError(f"the state is of scales for {saved.get('format')!r}, and this scaler's are for {_FORMAT!r}")
            cells.load([(name, bytes(cell)) for name, cell in saved["cells"].items()])
        super().load_state_dict(state_dict)
        self._cells = cells

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        state["_cells"] = self._cells.save()
        # What belongs to passes, and to the modules of this process.
        state["_looks"], state["_passes"], state["_names"] = [], {}, None
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._names = weakref.WeakKeyDictionary()
        self._cells = _core.Cells(_FORMAT)
        self._cells.load(state["_cells"])


def _read(looks: list[Look]) -> Iterable[Iterable[tuple[str, float, int, bool]]]:
    """Reads what was seen, with one copy from each device, as `Cells.step` takes it."""
    values: dict[int, tuple[float, float]] = {}
    by_device: dict[torch.device, list[int]] = {}
    for index, look in enumerate(looks):
        by_device.setdefault(look.largest.device, []).append(index)
    for device, indices in by_device.items():
        largest = torch.stack([looks[index].largest for index in indices])
        scales = torch.stack([torch.as_tensor(looks[index].scale, dtype=torch.float32, device=device) for index in indices])
        read = torch.stack([largest, scales]).tolist()
        values.update(zip(indices, zip(*read)))
    for index, look in enumerate(looks):
        value, carried = values[index]
        log2 = math.frexp(carried)[1] - 1
        names = look.names() if look.is_scaled else ("",)
        yield ((name, value / carried, log2, look.is_scaled) for name in names)
