"""Regions of the autograd graph: where gradients have one scale, and where one scale changes into another.

When a backward pass begins, its graph is walked once.  A *region* is what has to share a scale: autograd adds gradients
where they meet, and the derivatives of most operations are passed on at the scale that they arrive with.  Regions end at
*cuts*, where values are in float32 before they are rounded and can be multiplied by a power of two for nothing:

* a product of a prepared module (see `_products`),
* a cast between float32 and binary16,
* the loss itself,
* a custom function, before and behind which gradients have the scaler's own scale, as they have under
  `torch.amp.GradScaler`: nothing is known of what it does with them.

What reaches a parameter is brought to the scaler's own scale on the last edge.

    loss --(cut)--> region "fc" --(cut: fc)--> region "conv2" --(cut: conv2)--> region "conv1" --(cut: conv1)
                       |                          |
                       '-> relu, dropout, ...     '-> batch norm, relu, a fork and its sum, ...
"""

from __future__ import annotations

import functools
import re
import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from . import _formats as formats
from ._products import Product, Site

if TYPE_CHECKING:
    from torch.utils.hooks import RemovableHandle

# Binades between the scale that a region's past allows and the one that is used: what is passed on within a region may
# grow in a step by so much more than before until it overflows.
MARGIN = 5

# Nodes of PyTorch's own derivatives, which are linear in the gradient.
_BUILTIN = re.compile(r"(Backward\d+|CopySlices|CopyBackwards|CloneBackward|AliasBackward)$")
# Functions of PyTorch's in Python that pass each gradient on as it is: that of each output to the tensor in the same place
_IDENTITIES = {"_DDPSinkBackward", "RegisterPostBackwardFunctionBackward"}
# Products that are no cuts: what reaches them leaves at the same scale.
_PRODUCTS = re.compile(r"^(Mm|Addmm|Bmm|Baddbmm|Addbmm|Mv|Addmv|Dot|Linear|.*Convolution|ScaledDotProduct|Cudnn|Bilinear)")


# What is wide enough to be multiplied by any quotient of two scales.
WIDE = (torch.float32, torch.float64, torch.complex64, torch.complex128)

Gradients = tuple[Tensor | None, ...]


class PartialPass(Exception):
    """The backward pass under way does not go to all parameters of its loss.

    It was asked for some gradients only, by `torch.autograd.grad` or `inputs=`.  These may be of tensors within the graph,
    which would have the scale of their region.
    """


class Region:
    """A set of tensors with one scale; a node of a union-find forest."""

    __slots__ = ("is_own", "parent", "rank", "scale")

    def __init__(self, rank: tuple[int, int, str], own_scale: Tensor | None = None) -> None:
        self.parent: Region | None = None
        # The least of the names that the region could have: what consumes its gradient, what delivers it, or a parameter.
        self.rank = rank
        # Decided when the first gradient is delivered.
        self.scale = own_scale
        # Whether it has the scaler's own scale.
        self.is_own = own_scale is not None

    @property
    def root(self) -> Region:
        region = self
        while region.parent is not None:
            if region.parent.parent is not None:
                region.parent = region.parent.parent
            region = region.parent
        return region

    @property
    def name(self) -> str:
        return self.root.rank[2]


def _joined(a: Region, b: Region) -> bool:
    """Makes one region of two; False where both have a scale already, and it is not the same."""
    a, b = a.root, b.root
    if a is b or (a.is_own and b.is_own):
        return True
    if a.scale is not None and b.scale is not None:
        return False
    if a.scale is None:
        a, b = b, a
    a.rank = min(a.rank, b.rank)
    b.parent = a
    return True


class Look:
    """The largest magnitude of a gradient, on its device, and the scale that it has."""

    __slots__ = ("deliverer", "is_scaled", "largest", "region", "scale")

    def __init__(
        self, region: Region, deliverer: Region | None, largest: Tensor, scale: Tensor | float, is_scaled: bool
    ) -> None:
        self.region = region
        self.deliverer = deliverer
        self.largest = largest
        self.scale = scale
        self.is_scaled = is_scaled

    def names(self) -> Iterator[str]:
        """Returns the cells that it is a look of."""
        yield self.region.name
        if self.deliverer is not None:
            yield delivery_name(self.deliverer, self.region)


# Between the names of two regions: the cell of what the first delivers to the second.
DELIVERED = " -> "


def delivery_name(deliverer: Region, region: Region) -> str:
    return f"{deliverer.name}{DELIVERED}{region.name}"


# The backward passes under way, by the number that PyTorch's engine gives them.
_RUNNING: dict[int, Pass] = {}


class Pass:
    """One backward pass: its regions, its hooks, and what was seen."""

    def __init__(
        self,
        owner: object,
        thread: int,
        own_scale: Tensor,
        log2_of: Callable[[str], int | None],
        name_of: Callable[[Site], str],
    ) -> None:
        # The scaler, and the thread that asked for the pass.
        self.owner, self.thread = owner, thread
        self.task: int = torch._C._current_graph_task_id()
        self.is_at_own_scale = False
        self.is_over = False
        self.looks: list[Look] = []
        # Kinds of nodes that are products and no cuts, and functions that nothing is known of.
        self.uncovered: dict[str, int] = {}
        self._own_scale = own_scale
        self._log2_of = log2_of
        self._name_of = name_of
        self._regions: dict[Any, tuple[Region, Region]] = {}
        self._own = Region((9, 0, ""), own_scale)
        self._visits: dict[str, int] = {}
        self._handles: list[RemovableHandle] = []
        # The scales that fit a region are asked for once.
        self._log2: dict[str, int | None] = {}
        _RUNNING[self.task] = self

    @staticmethod
    def under_way() -> Pass | None:
        """Returns the pass that this thread is in."""
        return _RUNNING.get(torch._C._current_graph_task_id())

    @staticmethod
    def all_of(owner: object) -> list[Pass]:
        """Returns the passes of a scaler that have not ended, be it because an error ended them."""
        return [walked for walked in list(_RUNNING.values()) if walked.owner is owner]

    @property
    def scales_layers(self) -> bool:
        """Tells whether this is the pass under way, and gradients have the scales of their regions in it."""
        return not self.is_at_own_scale and Pass.under_way() is self

    def is_cut_short(self) -> bool:
        """Tells whether it was ended while it was under way."""
        return self.is_over and self.task == torch._C._current_graph_task_id()

    def own_scale(self, device: torch.device) -> Tensor:
        return _on(self._own_scale, device)

    def stay_at_own_scale(self) -> None:
        """Leaves all gradients at the scaler's own scale, before one was delivered."""
        self.is_at_own_scale = True
        self._let_go()

    def end(self) -> None:
        self.is_over = True
        _RUNNING.pop(self.task, None)
        self._let_go()

    def _let_go(self) -> None:
        """Takes the hooks off the graph, which may be walked again, and lets go of it."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._regions.clear()

    # The walk.

    def walk(self, root: Any) -> Region | None:
        """Walks from a loss; returns the region of its gradient, None where that goes to a parameter as it is.

        Raises `PartialPass` where the pass does not go to all parameters.
        """
        loss = Region((3, -1, "loss"))
        found: Region | None = None
        todo: list[Any] = []
        for edge in root.next_functions:
            node = _behind_identities(*edge)
            if node is not None and _is_leaf(node):
                _check_asked_for(node)
            elif node is not None:
                self._enter(node, todo)
                _joined(loss, self._regions[node][0])
                found = loss
        while todo:
            self._edges(todo.pop(), todo)
        return found

    def _region(self, name: str, kind: int) -> Region:
        return Region((kind, len(self._regions), name))

    def _enter(self, node: Any, todo: list[Any]) -> None:
        if node in self._regions:
            return
        todo.append(node)
        name = node.name()
        arrives = leaves = self._region(f"{name} {len(self._regions)}", 3)
        if _is_product(node):
            site = self._visit(self._name_of(node.site))
            order = node.site.order
            arrives.rank = (0, order, site)
            leaves = Region((1, order, f"{site}.input"))
            node.regions = (weakref.ref(self), arrives, leaves)
        elif isinstance(node, torch.autograd.function.BackwardCFunction):
            if name == "CheckpointFunctionBackward":
                raise RuntimeError(
                    "checkpointing with use_reentrant=True runs a backward pass within the backward pass, whose gradients "
                    "have scales that this one does not know: pass use_reentrant=False"
                )
            if name not in _IDENTITIES:
                leaves = self._boundary(node, arrives)
        elif name == "ToCopyBackward0":
            leaves = self._region(f"{name} {len(self._regions)}, behind", 3)
            self._cast(node, arrives, leaves)
        elif not _is_builtin(name):
            leaves = self._boundary(node, arrives)
        if _makes_product(name):
            self.uncovered[name] = self.uncovered.get(name, 0) + 1
        self._regions[node] = (arrives, leaves)

    def _visit(self, site: str) -> str:
        """Tells apart the products of a module that is used more than once."""
        times = self._visits[site] = self._visits.get(site, 0) + 1
        return site if times == 1 else f"{site} ({times})"

    def _edges(self, node: Any, todo: list[Any]) -> None:
        leaves = self._regions[node][1]
        is_product = _is_product(node)
        to_parameters: list[int] = []
        for index, edge in enumerate(node.next_functions):
            other = _behind_identities(*edge)
            # What a product returns for its weights has the scaler's own scale.
            region = self._own if is_product and index > 0 else leaves
            if other is None:
                continue
            if _is_leaf(other):
                _check_asked_for(other)
                if region is not self._own:
                    to_parameters.append(index)
                continue
            self._enter(other, todo)
            arrives = self._regions[other][0]
            if not _joined(region, arrives):
                self._shift(node, index, region, arrives)
        if to_parameters and not leaves.root.is_own:
            if leaves.root.rank[0] == 3:
                named = [_behind_identities(*node.next_functions[index]).variable for index in to_parameters]
                names = sorted(filter(None, (getattr(of, "adaloss_name", "") for of in named)))
                if names:
                    leaves.root.rank = (2, 0, names[0])
            self._deliver_to_parameters(node, tuple(to_parameters), leaves)

    # Hooks.

    def _deliver_to_parameters(self, node: Any, indices: tuple[int, ...], leaves: Region) -> None:
        def bring(of: Pass, grad_inputs: Gradients, _: Gradients) -> Gradients:
            brought = list(grad_inputs)
            for index in indices:
                gradient = brought[index]
                if gradient is not None and not leaves.root.is_own:
                    of.look(leaves, gradient)
                    (brought[index],) = of.to_own_scale((gradient,), leaves)
            return tuple(brought)

        self._handles.append(node.register_hook(self._hook(bring)))

    def _hook(self, does: Callable[..., Gradients | None]) -> Callable[..., Gradients | None]:
        """Makes a hook that does nothing but in this pass, and holds nothing: an error may leave it on the graph."""
        to_self = weakref.ref(self)

        def hook(*arguments: Gradients) -> Gradients | None:
            of = to_self()
            return does(of, *arguments) if of is not None and of.scales_layers else None

        return hook

    def _boundary(self, node: Any, arrives: Region) -> Region:
        """Brings what reaches a node to the scaler's own scale, and leaves it there."""
        self.uncovered[node.name()] = self.uncovered.get(node.name(), 0) + 1

        def bring(of: Pass, grad_outputs: Gradients) -> Gradients | None:
            if arrives.root.is_own:
                return None
            for gradient in grad_outputs:
                if gradient is not None:
                    of.look(arrives, gradient)
            return of.to_own_scale(grad_outputs, arrives)

        self._handles.append(node.register_prehook(self._hook(bring)))
        return Region((9, 0, ""), self._own_scale)

    def _cast(self, node: Any, arrives: Region, leaves: Region) -> None:
        """Changes the scale on the float32 side of a cast."""
        # What was looked at on the narrow side, and its largest magnitude: it is the same on the other.
        looked: list[tuple[Tensor, Tensor]] = []

        def before(of: Pass, grad_outputs: Gradients) -> Gradients | None:
            (gradient,) = grad_outputs
            if gradient is None:
                return None
            largest = of.look(arrives, gradient)
            if gradient.dtype not in WIDE:
                looked[:] = [(gradient, largest)]
                return None
            return (of.deliver(gradient, arrives, leaves, gradient.dtype, largest),)

        def after(of: Pass, grad_inputs: Gradients, grad_outputs: Gradients) -> Gradients | None:
            (gradient,), (came,) = grad_inputs, grad_outputs
            largest = next((largest for seen, largest in looked if seen is came), None)
            looked.clear()
            if gradient is None or came is None or came.dtype in WIDE:
                return None
            return (of.deliver(gradient, arrives, leaves, gradient.dtype, largest),)

        self._handles += [node.register_prehook(self._hook(before)), node.register_hook(self._hook(after))]

    def _shift(self, node: Any, index: int, region: Region, arrives: Region) -> None:
        """Changes the scale on an edge between two regions that had theirs before it was known."""

        def shift(of: Pass, grad_inputs: Gradients, _: Gradients) -> Gradients:
            shifted = list(grad_inputs)
            gradient = shifted[index]
            if gradient is not None:
                shifted[index] = of.deliver(gradient, region, arrives, gradient.dtype)
            return tuple(shifted)

        self._handles.append(node.register_hook(self._hook(shift)))

    # Scales.

    def scale_of(self, region: Region, device: torch.device) -> Tensor:
        """Returns the scale of a region; its own scale where nothing was delivered to it."""
        region = region.root
        if region.scale is None:
            region.scale = self._own_scale
            region.is_own = True
        return _on(region.scale, device)

    def scale_at(self, node: Any) -> float:
        """Returns the scale of what arrives at a node; waits for the device."""
        arrives, _ = self._regions[node]
        return self.scale_of(arrives, torch.device("cpu")).item()

    def look(self, region: Region, gradient: Tensor) -> Tensor:
        """Takes note of a gradient as it is about to be used; returns its largest magnitude."""
        region = region.root
        largest, scale = formats.largest(gradient), self.scale_of(region, gradient.device)
        self.looks.append(Look(region, None, largest, scale, not region.is_own))
        return largest

    def look_at_loss(self, largest: Tensor) -> None:
        """Takes note of a loss, by its largest element: where it is not finite, no scale is at fault."""
        self.looks.append(Look(self._own, None, largest, 1.0, False))

    def to_own_scale(self, gradients: Gradients, region: Region) -> Gradients:
        """Brings gradients of a region to the scaler's own scale."""
        factors: dict[torch.device, Tensor] = {}
        brought = []
        for gradient in gradients:
            if gradient is not None:
                device = gradient.device
                if device not in factors:
                    factors[device] = self.own_scale(device) / self.scale_of(region, device)
                gradient = formats.scaled(gradient, factors[device], gradient.dtype)
            brought.append(gradient)
        return tuple(brought)

    def deliver(
        self,
        gradient: Tensor,
        came_from: Region | None,
        region: Region,
        dtype: torch.dtype,
        largest: Tensor | None = None,
    ) -> Tensor:
        """Returns a gradient, in a wide type, at the scale of the region that it goes to, in the type that it has there.

        `came_from` is the region whose scale it has; None of a loss, which is not scaled.  `largest` is its largest
        magnitude, where that is known.
        """
        region = region.root
        device = gradient.device
        scale = None if came_from is None else self.scale_of(came_from, device)
        if largest is None:
            largest = formats.largest(gradient)
        if region.scale is None:
            self._decide(region, came_from, largest if scale is None else largest / scale)
        if not region.is_own:
            deliverer = None if came_from is None else came_from.root
            self.looks.append(Look(region, deliverer, largest, 1.0 if scale is None else scale, True))
        factor = self.scale_of(region, device)
        return formats.scaled(gradient, factor if scale is None else factor / scale, dtype)

    def _decide(self, region: Region, came_from: Region | None, magnitude: Tensor) -> None:
        """Decides the scale of a region when its first gradient is delivered, before anybody sees the scale.

        It is what the region's past allows; where this gradient is larger than its own past, the region's others are
        taken to be so too, and the scale is as much lower.  Without a past, this gradient decides.
        """
        past = self._past(region.name)
        if past is None:
            region.scale = formats.greatest_scale(magnitude, plus=-1 - MARGIN)
            return
        own_past = None if came_from is None else self._past(delivery_name(came_from, region))
        plus = 0 if own_past is None else past - own_past
        region.scale = formats.greatest_scale(magnitude, plus=plus - MARGIN, most=past - MARGIN)

    def _past(self, name: str) -> int | None:
        if name not in self._log2:
            self._log2[name] = self._log2_of(name)
        return self._log2[name]


def _on(scale: Tensor, device: torch.device) -> Tensor:
    return scale if scale.device == device else scale.to(device, non_blocking=True)


@functools.cache
def _makes_product(name: str) -> bool:
    return _PRODUCTS.match(name) is not None


@functools.cache
def _is_builtin(name: str) -> bool:
    return _BUILTIN.search(name) is not None


def _is_product(node: Any) -> bool:
    return getattr(node, "_forward_cls", None) is Product


def _behind_identities(node: Any, input: int) -> Any:
    """Returns the node that a gradient goes to, past functions that change nothing."""
    while node is not None and node.name() in _IDENTITIES:
        node, input = node.next_functions[input]
    return node


def _is_leaf(node: Any) -> bool:
    name: str = node.name()
    return name.endswith("AccumulateGrad")


def _check_asked_for(leaf: Any) -> None:
    try:
        is_asked_for = torch._C._will_engine_execute_node(leaf)  # type: ignore[attr-defined,unused-ignore]
    except RuntimeError:  # what it raises within `torch.autograd.grad`
        is_asked_for = False
    if not is_asked_for:
        raise PartialPass
