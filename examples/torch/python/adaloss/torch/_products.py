"""Products of a prepared model: where the scale of a gradient changes for nothing.

A product of binary16 values is summed in float32.  Its results are multiplied by a power of two before they are rounded,
so that they land where binary16 has most room, whatever the scale of the gradient was that they were computed from.
"""

from __future__ import annotations

import contextlib
import functools
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import _formats as formats

_HALF = torch.float16
# Those that autocast casts.
_TYPES = (torch.float16, torch.bfloat16, torch.float32)


class Site:
    """Where a product stands in a model: the name of its module, its place among them, and the format of its gradients."""

    #: How many prepared modules its model has, and a digest of them.
    model: tuple[int, int] = (0, 0)

    def __init__(self, name: str, order: int, format: str) -> None:
        self.name = name
        self.order = order
        self.format = format
        self._parts: dict[str, Site] = {}

    def part(self, name: str) -> Site:
        """Returns the place of one of several products of a module."""
        if name not in self._parts:
            part = self._parts[name] = Site(f"{self.name}.{name}", self.order, self.format)
            part.model = self.model
        return self._parts[name]


@dataclass(frozen=True)
class _Linear:
    """y = x w^T"""

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.linear(x, weight, bias)

    def kept(self, x: Tensor, weight: Tensor, needs: tuple[bool, ...]) -> tuple[Tensor | None, Tensor | None]:
        """Returns what a backward pass takes: nothing for a gradient that is not needed."""
        return x if needs[1] else None, weight if needs[0] else None

    def backward(
        self, gradient: Tensor, x: Tensor | None, weight: Tensor | None, needs: tuple[bool, bool]
    ) -> tuple[Tensor | None, Tensor | None]:
        rows = gradient.reshape(-1, gradient.shape[-1])
        if not _takes_halves(rows):
            # Once for both products.
            rows = rows.float()
        to_input = to_weight = None
        if needs[0]:
            assert weight is not None
            to_input = _product(rows, weight).view(*gradient.shape[:-1], weight.shape[-1])
        if needs[1]:
            assert x is not None
            to_weight = _product(rows.t(), x.reshape(-1, x.shape[-1]))
        return to_input, to_weight

    def sum_over(self, gradient: Tensor) -> list[int]:
        return list(range(gradient.dim() - 1))


@dataclass(frozen=True)
class _Convolution:
    """A convolution in any number of dimensions, transposed or not."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    transposed: bool
    output_padding: tuple[int, ...]

    @classmethod
    def of(
        cls, module: nn.modules.conv._ConvNd, padding: tuple[int, ...], output_padding: tuple[int, ...] | None = None
    ) -> _Convolution:
        if output_padding is None:
            output_padding = tuple(module.output_padding)
        dilation, groups = tuple(module.dilation), module.groups
        return cls(tuple(module.stride), padding, dilation, groups, module.transposed, output_padding)

    def with_output(self, output: Tensor, x: Tensor, weight: Tensor) -> _Convolution:
        """Returns the same with an output of this size, which a transposed one may have been asked for when it was called."""
        if not self.transposed:
            return self
        dims = len(self.stride)
        sizes = zip(output.shape[-dims:], x.shape[-dims:], weight.shape[-dims:], self.stride, self.padding, self.dilation)
        return replace(self, output_padding=tuple(y - (n - 1) * s + 2 * p - d * (k - 1) - 1 for y, n, k, s, p, d in sizes))

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return torch.convolution(
            x, weight, bias, self.stride, self.padding, self.dilation, self.transposed, self.output_padding, self.groups
        )

    def kept(self, x: Tensor, weight: Tensor, needs: tuple[bool, ...]) -> tuple[Tensor | None, Tensor | None]:
        return x, weight  # Both, as PyTorch does: the derivative takes the sizes of either.

    def backward(
        self, gradient: Tensor, x: Tensor | None, weight: Tensor | None, needs: tuple[bool, bool]
    ) -> tuple[Tensor | None, Tensor | None]:
        assert x is not None and weight is not None
        # On a GPU in TF32, which has the precision of binary16 and the range of float32: these products are exact there.
        to_input, to_weight, _ = torch.ops.aten.convolution_backward(
            gradient.float(),
            x.float(),
            weight.float(),
            None,
            self.stride,
            self.padding,
            self.dilation,
            self.transposed,
            self.output_padding,
            self.groups,
            [*needs, False],
        )
        return to_input, to_weight

    def sum_over(self, gradient: Tensor) -> list[int]:
        return [dim for dim in range(gradient.dim()) if dim != gradient.dim() - len(self.stride) - 1]


def _without_autocast(gradient: Tensor) -> contextlib.AbstractContextManager[object]:
    """Keeps autocast from products that are computed in float32, where somebody has it on for a backward pass."""
    device = gradient.device.type
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else contextlib.nullcontext()


def _product(a: Tensor, b: Tensor) -> Tensor:
    """Returns the product of two matrices in binary16, in float32."""
    if _takes_halves(a):
        return torch.mm(a, b, out_dtype=torch.float32)  # type: ignore[call-overload,call-arg,unused-ignore]
    return torch.mm(a.float(), b.float())


def _takes_halves(a: Tensor) -> bool:
    """Tells whether `torch.mm` takes binary16 and returns float32."""
    return a.is_cuda and _has_out_dtype()


@functools.cache
def _has_out_dtype() -> bool:
    release = torch.__version__.split("+")[0].split(".")
    return tuple(int(part) for part in release[:2]) >= (2, 8)


class Product(torch.autograd.Function):
    """A product in binary16 whose gradients are computed in float32 and rounded at a scale of their own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, kind: _Linear | _Convolution, site: Site) -> Tensor:
        narrow = weight.to(_HALF)
        # As autocast does, a copy of the weight in binary16 is kept, which stays what it is when the weight is updated.  The
        # weight itself is for second derivatives alone.
        ctx.save_for_backward(*kind.kept(x, narrow, ctx.needs_input_grad))
        ctx.weight, ctx.bias, ctx.versions = weight, bias, [t._version for t in (weight, bias) if t is not None]
        ctx.kind, ctx.site, ctx.regions = kind, site, None
        return _no_view(kind.forward(x, narrow, None if bias is None else bias.to(_HALF)))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            return _differentiable_backward(ctx, gradient)
        (x, narrow), weight, bias_type = ctx.saved_tensors, ctx.weight, None if ctx.bias is None else ctx.bias.dtype
        needs_input, needs_weight, needs_bias, *_ = ctx.needs_input_grad
        to_pass, arrives, leaves = ctx.regions or (lambda: None, None, None)
        of = to_pass()
        if of is not None and of.is_cut_short():
            raise RuntimeError("a step of the scaler was ended while its backward pass was under way, in another thread")
        if of is not None and not of.scales_layers:
            of = None  # A pass at the scaler's own scale, or one that it had no part in, over a graph that was kept.
        with _without_autocast(gradient):
            to_input, to_weight = ctx.kind.backward(gradient, x, narrow, (needs_input, needs_weight))
            to_bias = _summed(gradient, ctx.kind) if needs_bias else None
            if of is None:
                return _as(to_input, _HALF), _as(to_weight, weight.dtype), _as(to_bias, bias_type), None, None
            of.look(arrives, gradient)
            if to_input is not None:
                to_input = of.deliver(to_input, arrives, leaves, _HALF)
            to_weight, to_bias = of.to_own_scale((to_weight, to_bias), arrives)
        return to_input, _as(to_weight, weight.dtype), _as(to_bias, bias_type), None, None


class NarrowingProduct(torch.autograd.Function):
    """A product whose gradient is narrowed when it arrives, at a scale of its own that is undone at once.

    Between layers gradients are in float32 and not scaled.  The scale is the greatest at which the gradient at hand does
    not overflow: nothing is remembered, and nothing can overflow.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        kind: _Linear | _Convolution,
        site: Site,
        dtype: torch.dtype,
    ) -> Tensor:
        x_in_dtype, weight_in_dtype = x.to(dtype), weight.to(dtype)
        ctx.save_for_backward(*kind.kept(x_in_dtype, weight_in_dtype, ctx.needs_input_grad))
        ctx.kind, ctx.format = kind, site.format
        ctx.types = x.dtype, weight.dtype, bias is not None and bias.dtype
        return _no_view(kind.forward(x_in_dtype, weight_in_dtype, None if bias is None else bias.to(dtype)).float())

    @staticmethod
    @torch.autograd.function.once_differentiable  # type: ignore[untyped-decorator,unused-ignore]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        needs_input, needs_weight, needs_bias, *_ = ctx.needs_input_grad
        input_type, weight_type, bias_type = ctx.types
        with _without_autocast(gradient):
            scale = formats.greatest_scale(formats.largest(gradient), ctx.format)
            inverse = scale.reciprocal()
            narrow = formats.narrowed(gradient * scale, ctx.format)
            x, weight = (None if t is None else t.float() for t in (x, weight))
            to_input, to_weight = ctx.kind.backward(narrow, x, weight, (needs_input, needs_weight))
            to_bias = _summed(gradient, ctx.kind).to(bias_type) if needs_bias else None
        to_input = None if to_input is None else (to_input * inverse).to(input_type)
        to_weight = None if to_weight is None else (to_weight * inverse).to(weight_type)
        return to_input, to_weight, to_bias, None, None, None


def _no_view(y: Tensor) -> Tensor:
    """Returns an output as no view, so that it can be modified in place behind a custom function.

    A linear layer of some versions of PyTorch returns a view of the rows that it has computed.
    """
    return torch.ops.aten._unsafe_view(y, y.shape) if y._is_view() else y


def _summed(gradient: Tensor, kind: _Linear | _Convolution) -> Tensor:
    """Returns the gradient of a bias, in float32."""
    over = kind.sum_over(gradient)
    return gradient.sum(over, dtype=torch.float32) if over else gradient.float()


def _as(gradient: Tensor | None, dtype: torch.dtype | None) -> Tensor | None:
    return None if gradient is None or dtype is None else gradient.to(dtype)


def _differentiable_backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    """Computes the gradients as PyTorch does, so that they can be differentiated once more."""
    if [t._version for t in (ctx.weight, ctx.bias) if t is not None] != ctx.versions:
        raise RuntimeError(
            "a weight was changed between the forward and the backward pass, and with it its second derivatives"
        )
    x, _ = ctx.saved_tensors
    if x is None:
        # It was not kept, since no derivative takes its values.
        shape = *gradient.shape[:-1], ctx.weight.shape[-1]
        x = torch.zeros(shape, dtype=_HALF, device=gradient.device, requires_grad=ctx.needs_input_grad[0])
    # Of views, since the input of a layer that is used twice depends on its weight: that is not this product's derivative.
    x, weight, bias = (None if t is None else t.view_as(t) for t in (x, ctx.weight, ctx.bias))
    wanted = [
        (index, tensor)
        for index, tensor in enumerate((x, weight, bias))
        if tensor is not None and ctx.needs_input_grad[index]
    ]
    with _without_autocast(gradient):
        y = ctx.kind.forward(x, weight.to(_HALF), None if bias is None else bias.to(_HALF))  # type: ignore[union-attr]
    gradients: list[Tensor | None] = [None] * 5
    found = torch.autograd.grad(y, [tensor for _, tensor in wanted], gradient, create_graph=True)
    for (index, _), value in zip(wanted, found):
        gradients[index] = value
    return tuple(gradients)


def computed_in(site: Site, inputs: tuple[Tensor, ...], parameters: tuple[Tensor | None, ...]) -> torch.dtype | None:
    """Returns the type that products of inputs with parameters are computed in, with gradients of their own.

    It is None where they are left to PyTorch: their gradients would not be narrow, or nothing is differentiated.  Neither
    changes anything, so that PyTorch's own forward can be taken after it.
    """
    if not torch.is_grad_enabled() or is_transformed():
        return None
    if any(t is not None and t.dtype not in _TYPES for t in (*inputs, *parameters)):
        return None
    device = inputs[0].device.type
    is_autocast = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    dtype = torch.get_autocast_dtype(device) if is_autocast else inputs[0].dtype
    if site.format != "binary16":
        return dtype
    is_half = dtype == _HALF and (is_autocast or all(t is None or t.dtype == _HALF for t in (*inputs, *parameters)))
    return dtype if is_half else None


def multiply(
    x: Tensor, weight: Tensor, bias: Tensor | None, kind: _Linear | _Convolution, site: Site, dtype: torch.dtype
) -> Tensor:
    """Makes a product with gradients of its own, in the type that `computed_in` returned."""
    if site.format != "binary16":
        return NarrowingProduct.apply(x, weight, bias, kind, site, dtype)
    return Product.apply(x.to(_HALF), weight, bias, kind, site)


def is_transformed() -> bool:
    """Tells whether derivatives are computed otherwise than by a backward pass: by `torch.func`, or forward."""
    return torch._C._functorch.peek_interpreter_stack() is not None or torch.autograd.forward_ad._current_level >= 0
