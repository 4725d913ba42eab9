"""Preparing a model: its modules get the classes of `_modules`, and each product its place."""

from __future__ import annotations

import hashlib

from torch import nn
from torch.nn.utils import parametrize

from . import _formats as formats
from ._attention import has_more_keys
from ._modules import Prepared, become, has_own_forward, prepared_class
from ._products import Site

# Modules that have products, of which not all can be prepared.
_HAVE_PRODUCTS = (
    nn.MultiheadAttention,
    nn.Bilinear,
    nn.RNNBase,
    nn.RNNCellBase,
    nn.Linear,
    nn.modules.conv._ConvNd,
)


def prepare(model: nn.Module, *, format: str = "binary16") -> nn.Module:
    """Gives every linear layer, convolution and projection of a model a loss scale of its own; returns the model.

    The modules stay what they are, with the parameters and hooks that they have: their class becomes a subclass of the one
    that they had, be it `Linear`, a convolution, a transposed one, `MultiheadAttention` without `add_bias_kv` and
    `add_zero_attn`, or a subclass of these that has the same `forward`.  It is to be called once, before the first step and
    before `DistributedDataParallel` and `torch.compile`, and after modules whose weights have no size yet, such as
    `LazyLinear`, have got one.  Modules with a `forward` of the user's, and those of other classes that have products, stay
    as they are: `unprepared` names them.

    In "binary16", the default, it matters where layers compute in binary16, under
    `torch.autocast(..., dtype=torch.float16)`, and takes a `GradScaler` of this package.

    In "e5m2", "e4m3" and "binary16-flushing" (binary16 without subnormal numbers) the gradient that arrives at a layer is
    narrowed to the format for the layer's own products, and layers return float32.  The scale is taken from the gradient at
    hand; it takes no scaler.  The formats are simulated: the values are those of the format, and the products are computed
    in float32.
    """
    if format not in formats.FORMATS:
        raise ValueError(f"there is no format {format!r}: {', '.join(formats.FORMATS)}")
    for order, (name, module) in enumerate(model.named_modules()):
        prepared = prepared_class(parametrize.type_before_parametrizations(module))
        if prepared is not None and not has_more_keys(module) and not has_own_forward(module):
            become(module, prepared)
        if isinstance(module, Prepared):
            module.adaloss_site = Site(name or type(module).__name__, order, format)
    sites = [module.adaloss_site for module in model.modules() if isinstance(module, Prepared)]
    outline = repr([(site.name, site.order, site.format) for site in sites]).encode()
    digest = int.from_bytes(hashlib.blake2b(outline, digest_size=8).digest(), "little")
    for site in sites:
        site.model = len(sites), digest
    for name, parameter in model.named_parameters():
        parameter.adaloss_name = name  # type: ignore[attr-defined]
    return model


def unprepare(model: nn.Module) -> nn.Module:
    """Makes a prepared model one of PyTorch's own modules again, to be exported or quantized, say; returns it."""
    for module in model.modules():
        if isinstance(module, Prepared):
            become(module, module.adaloss_plain)
            del module.adaloss_site
    for parameter in model.parameters():
        if hasattr(parameter, "adaloss_name"):
            del parameter.adaloss_name
    return model


def unprepared(model: nn.Module) -> list[str]:
    """Returns the names of modules that have products which `prepare` leaves as they are."""
    return [
        f"{name} ({type(module).__name__})"
        for name, module in model.named_modules()
        if isinstance(module, _HAVE_PRODUCTS) and not isinstance(module, Prepared)
    ]
