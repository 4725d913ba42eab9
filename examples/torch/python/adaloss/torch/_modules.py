"""The modules of a prepared model: PyTorch's own, whose products have gradients of their own."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ._products import Site, _Convolution, _Linear, _multiply


class _Prepared:
    """What prepared modules have in common."""

    adaloss_site: Site


class Linear(nn.Linear, _Prepared):
    """`torch.nn.Linear`, whose gradients have a scale of their own."""

    @torch.compiler.disable  # type: ignore[untyped-decorator,unused-ignore]
    def forward(self, input: Tensor) -> Tensor:
        y = _multiply(input, self.weight, self.bias, _Linear(), self.adaloss_site)
        return super().forward(input) if y is None else y


class _Conv(nn.modules.conv._ConvNd, _Prepared):
    @torch.compiler.disable  # type: ignore[untyped-decorator,unused-ignore]
    def forward(self, input: Tensor) -> Tensor:
        x, padding = input, self.padding
        if self.padding_mode != "zeros" or isinstance(padding, str):
            mode = "constant" if self.padding_mode == "zeros" else self.padding_mode
            if any(self._reversed_padding_repeated_twice):
                x = F.pad(x, self._reversed_padding_repeated_twice, mode=mode)
            padding = (0,) * len(self.stride)
        kind = _Convolution.of(self, tuple(padding))
        is_single = x.dim() == len(self.stride) + 1
        y = _multiply(x.unsqueeze(0) if is_single else x, self.weight, self.bias, kind, self.adaloss_site)
        if y is None:
            return super().forward(input)
        return y.squeeze(0) if is_single else y


class Conv1d(_Conv, nn.Conv1d):
    """`torch.nn.Conv1d`, whose gradients have a scale of their own."""


class Conv2d(_Conv, nn.Conv2d):
    """`torch.nn.Conv2d`, whose gradients have a scale of their own."""


class Conv3d(_Conv, nn.Conv3d):
    """`torch.nn.Conv3d`, whose gradients have a scale of their own."""


def kind_of(module: nn.Module) -> _Linear | _Convolution | None:
    """Returns the product that a module makes, be it prepared or not; None of other modules, and of unusual padding."""
    if isinstance(module, nn.Linear):
        return _Linear()
    if not isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        return None
    if module.padding_mode != "zeros" or isinstance(module.padding, str):
        return None
    return _Convolution.of(module, tuple(module.padding))
