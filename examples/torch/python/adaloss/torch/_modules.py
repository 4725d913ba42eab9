"""The modules of a prepared model: PyTorch's own, whose products have gradients of their own.

`prepared_class` says which class takes the place of a module's.  A subclass of PyTorch's that has the same forward pass gets
a class that is made for it, which is a subclass of both.
"""

from __future__ import annotations

import copyreg
import types
import weakref
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.utils import parametrize

from ._products import Site, _Convolution, _Linear, computed_in, multiply


class Prepared:
    """What prepared modules have in common."""

    adaloss_site: Site
    #: The class that the module had before.
    adaloss_plain: ClassVar[type[nn.Module]]

    def __init_subclass__(cls) -> None:
        """Keeps from a user's class, which may keep a list of its subclasses, what is made of it here."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Saves a module whose class was made here, and has no name, by the class that it was made for."""
        reduced: Any = super().__reduce_ex__(max(protocol, 2))
        if type(self) is not _MADE.get(self.adaloss_plain) or reduced[0] is not copyreg.__newobj__:  # type: ignore[attr-defined]
            return reduced
        _, (_, *arguments), *state = reduced
        return _loaded, (self.adaloss_plain, *arguments), *state


class Linear(Prepared, nn.Linear):
    """`torch.nn.Linear`, whose gradients have a scale of their own."""

    adaloss_plain = nn.Linear

    @torch.compiler.disable  # type: ignore[untyped-decorator,unused-ignore]
    def forward(self, input: Tensor) -> Tensor:
        # Each is looked at once, since it may be computed at each look.
        weight, bias = self.weight, self.bias
        dtype = computed_in(self.adaloss_site, (input,), (weight, bias))
        if dtype is None:
            return F.linear(input, weight, bias)
        return multiply(input, weight, bias, _Linear(), self.adaloss_site, dtype)


def zeros_around(module: nn.modules.conv._ConvNd) -> tuple[int, ...] | None:
    """Returns how many zeros a convolution takes on either side of its input; None where it is padded otherwise."""
    if module.padding_mode == "zeros" and not isinstance(module.padding, str):
        return tuple(module.padding)
    # From the last dimension to the first, on the left and on the right.
    each = tuple(module._reversed_padding_repeated_twice)[::-1]
    is_zeros = module.padding_mode == "zeros" or not any(each)
    return each[1::2] if is_zeros and each[::2] == each[1::2] else None


class _Conv(Prepared, nn.modules.conv._ConvNd):
    @torch.compiler.disable  # type: ignore[untyped-decorator,unused-ignore]
    def forward(self, input: Tensor) -> Tensor:
        weight, bias = self.weight, self.bias
        dtype = computed_in(self.adaloss_site, (input,), (weight, bias))
        if dtype is None:
            return self._conv_forward(input, weight, bias)
        x, padding = input, zeros_around(self)
        if padding is None:
            mode = "constant" if self.padding_mode == "zeros" else self.padding_mode
            x = F.pad(x, self._reversed_padding_repeated_twice, mode=mode)
            padding = (0,) * len(self.stride)
        kind = _Convolution.of(self, padding)
        is_single = x.dim() == len(self.stride) + 1
        y = multiply(x.unsqueeze(0) if is_single else x, weight, bias, kind, self.adaloss_site, dtype)
        return y.squeeze(0) if is_single else y


class Conv1d(_Conv, nn.Conv1d):
    """`torch.nn.Conv1d`, whose gradients have a scale of their own."""

    adaloss_plain = nn.Conv1d


class Conv2d(_Conv, nn.Conv2d):
    """`torch.nn.Conv2d`, whose gradients have a scale of their own."""

    adaloss_plain = nn.Conv2d


class Conv3d(_Conv, nn.Conv3d):
    """`torch.nn.Conv3d`, whose gradients have a scale of their own."""

    adaloss_plain = nn.Conv3d


class _ConvTranspose(Prepared, nn.modules.conv._ConvTransposeNd):
    @torch.compiler.disable  # type: ignore[untyped-decorator,unused-ignore]
    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        weight, bias = self.weight, self.bias
        dims = len(self.stride)
        arguments: Any = input, output_size, self.stride, self.padding, self.kernel_size, dims, self.dilation
        output_padding: Any = self._output_padding(*arguments)
        dtype = computed_in(self.adaloss_site, (input,), (weight, bias))
        if dtype is None:
            transposed: Any = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[dims - 1]
            return transposed(input, weight, bias, self.stride, self.padding, output_padding, self.groups, self.dilation)
        padding: Any = self.padding
        kind = _Convolution.of(self, tuple(padding), tuple(output_padding))
        is_single = input.dim() == dims + 1
        y = multiply(input.unsqueeze(0) if is_single else input, weight, bias, kind, self.adaloss_site, dtype)
        return y.squeeze(0) if is_single else y


class ConvTranspose1d(_ConvTranspose, nn.ConvTranspose1d):
    """`torch.nn.ConvTranspose1d`, whose gradients have a scale of their own."""

    adaloss_plain = nn.ConvTranspose1d


class ConvTranspose2d(_ConvTranspose, nn.ConvTranspose2d):
    """`torch.nn.ConvTranspose2d`, whose gradients have a scale of their own."""

    adaloss_plain = nn.ConvTranspose2d


class ConvTranspose3d(_ConvTranspose, nn.ConvTranspose3d):
    """`torch.nn.ConvTranspose3d`, whose gradients have a scale of their own."""

    adaloss_plain = nn.ConvTranspose3d


#: The prepared class of each of PyTorch's.
PREPARED: dict[type[nn.Module], type[Prepared]] = {
    of.adaloss_plain: of for of in (Linear, Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d)
}
# What is made for a subclass lives as long as a module has it.
_MADE: weakref.WeakValueDictionary[type[nn.Module], type[Prepared]] = weakref.WeakValueDictionary()


def prepared_class(plain: type[nn.Module]) -> type[Prepared] | None:
    """Returns the class that is to take the place of a module's; None where the module has a forward pass of its own.

    It is None as well of a module whose weights have no size yet: it takes another class when they get one.
    """
    if plain in PREPARED:
        return PREPARED[plain]
    base = next((base for base in PREPARED if issubclass(plain, base)), None)
    if base is None or issubclass(plain, LazyModuleMixin):
        return None
    if any(getattr(plain, does, None) is not getattr(base, does, None) for does in ("forward", "_conv_forward")):
        return None
    made = _MADE.get(plain)
    if made is None:
        named = {"__module__": plain.__module__, "__qualname__": plain.__qualname__, "__doc__": plain.__doc__}
        bases = (PREPARED[base], plain)
        made = types.new_class(plain.__name__, bases, {}, lambda body: body.update(named, adaloss_plain=plain))
        _MADE[plain] = made
    return made


def become(module: nn.Module, base: type) -> None:
    """Gives a module a class; one that is parametrized keeps what makes it so."""
    if parametrize.is_parametrized(module):
        # Its class is made by PyTorch for it alone, with a property for each weight that is computed.
        cls: Any = type(module)
        body = {name: value for name, value in vars(cls).items() if name not in ("__dict__", "__weakref__")}
        module.__class__ = type(cls)(cls.__name__, (base,), body)
    else:
        module.__class__ = base


def has_own_forward(module: nn.Module) -> bool:
    """Tells whether a module, and not its class, was given another forward pass."""
    return "forward" in vars(module) or "_conv_forward" in vars(module)


def is_known(module: nn.Module) -> bool:
    """Tells whether a module is prepared, or could be: its forward pass is PyTorch's own."""
    if has_own_forward(module):
        return False
    return isinstance(module, Prepared) or prepared_class(parametrize.type_before_parametrizations(module)) is not None


def kind_of(module: nn.Module) -> _Linear | _Convolution | None:
    """Returns the product that a module makes, be it prepared or not.

    It is None of other modules, of a forward pass that is not PyTorch's own, and of unusual padding.
    """
    if not is_known(module):
        return None
    if isinstance(module, nn.Linear):
        return _Linear()
    if not isinstance(module, nn.modules.conv._ConvNd):
        return None
    padding = zeros_around(module)
    return None if padding is None else _Convolution.of(module, padding)


def _loaded(plain: type[nn.Module], *arguments: Any) -> Any:
    """Returns a module without its state, as it is saved; a plain one where its class has got a forward pass of its own."""
    cls: Any = prepared_class(plain) or plain
    return cls.__new__(cls, *arguments)
