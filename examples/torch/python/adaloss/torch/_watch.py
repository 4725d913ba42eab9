"""A look at what a scale loses: how many elements of each gradient underflow and overflow, at every scale."""

from __future__ import annotations

import math
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from .. import _core
from ._modules import is_known, kind_of
from ._products import _Convolution, is_transformed
from ._scaler import GradScaler

#: Formats that gradients are counted for.
FORMATS = ("binary16", "binary16-flushing", "bfloat16", "e5m2", "e4m3")

#: The share of a gradient's elements that are not 0 which may underflow before a layer counts as badly served.
TOLERANCE = 0.001

# The share of looks at which something was not finite that is more than a scaler needs to find its scale.
_OFTEN = 0.05

_FORMAT_OF = {torch.float16: "binary16", torch.bfloat16: "bfloat16"}


@dataclass
class Counts:
    """What became of the elements of a layer's gradient at the scale in use, in the format in use."""

    format: str = ""
    nonzero: int = 0
    underflow: int = 0
    subnormal: int = 0
    overflow: int = 0
    nonfinite: int = 0

    @property
    def lost(self) -> float:
        """The share of the elements that are not 0 that became 0."""
        return self.underflow / self.nonzero if self.nonzero else 0.0


@dataclass
class Window:
    """The exponents of the scales that serve a gradient.

    At the greatest nothing overflows yet, at the least next to nothing is lost yet.
    """

    least: int
    greatest: int

    @property
    def is_empty(self) -> bool:
        return self.least > self.greatest


@dataclass
class Layer:
    """What was seen of the gradient that a layer returns for its input, over all samples."""

    name: str
    #: Looks; and those at which an element was not finite.
    samples: int = 0
    spoilt: int = 0
    in_use: Counts = field(default_factory=Counts)
    #: The exponent of the scale that the gradient had last, rounded down; None where it is not scaled.
    scale_log2: int | None = None
    histograms: dict[str, _core.Histogram] = field(default_factory=dict)
    #: The same of the largest elements alone that arrived at the layer, which have to fit as well.
    arrived: dict[str, _core.Histogram] = field(default_factory=dict)

    def window(self, format: str = "binary16") -> Window | None:
        """Returns the scales that serve all that was seen; None where there was nothing but zeros."""
        histogram = self.histograms[format]
        if histogram.nonzero == 0:
            return None
        least = histogram.least_scale(int(TOLERANCE * histogram.nonzero))
        greatest = [of.greatest_scale() for of in (histogram, self.arrived[format])]
        return Window(127 if least is None else least, min(-127 if log2 is None else log2 for log2 in greatest))

    def lost_at(self, log2: int, format: str = "binary16") -> float:
        """Returns the share of the elements that are not 0 which underflow or overflow at a scale."""
        histogram = self.histograms[format]
        lost = histogram.underflow(log2) + histogram.overflow(log2)
        return lost / histogram.nonzero if histogram.nonzero else 0.0


class _Hook:
    """The hook of a watched layer; a copy of the layer, or one that was saved, has a hook that does nothing."""

    def __init__(self, watch: Watch | None, name: str, module: nn.Module | None) -> None:
        self._watch, self._name = watch, name
        self._module = None if module is None else weakref.ref(module)

    def __reduce__(self) -> tuple[Any, ...]:
        return _Hook, (None, self._name, None)

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
        x: Any = inputs[0] if inputs else named.get("input")
        # A layer whose input needs no gradient returns none, and loses nothing.
        if self._watch is None or self._module is None or self._module() is not module or is_transformed():
            return
        if all(isinstance(t, Tensor) and t.requires_grad and t.is_floating_point() for t in (x, output)):
            self._watch._come(self._name, module, x.detach(), output)


class Watch:
    """Counts what is lost of gradients in a few steps of a training run; see `watch`."""

    def __init__(
        self,
        model: nn.Module,
        scale: torch.amp.GradScaler | float | Callable[[], float] | None,
        most_time: float,
    ) -> None:
        self._scale = scale
        self._most_time = most_time
        self._layers: dict[str, Layer] = {}
        self._modules: list[str] = []
        #: Layers that cannot be looked at, and why.
        self.unwatched: dict[str, str] = {}
        self._handles = []
        attentions = [module for module in model.modules() if isinstance(module, nn.MultiheadAttention) and is_known(module)]
        uncalled = {module.out_proj for module in attentions}
        for name, module in model.named_modules():
            name = name or type(module).__name__
            if module in attentions:
                self.unwatched[name] = "its projections are no modules that are called"
            elif module in uncalled:
                continue
            elif kind_of(module) is None:
                if isinstance(module, (nn.Linear, nn.modules.conv._ConvNd)):
                    self.unwatched[name] = "of another kind, or padded otherwise than by a number of zeros"
            elif parametrize.is_parametrized(module, "weight"):
                self.unwatched[name] = "its weight is computed anew each time that one looks at it"
            else:
                self._modules.append(name)
                hook = _Hook(self, name, module)
                self._handles.append(module.register_forward_hook(hook, with_kwargs=True))
        if not self._modules:
            raise ValueError("the model has no linear layer and no convolution: there is nothing to watch")
        # How many layers came by, and the number at which each did last.
        self._calls = 0
        self._came: dict[str, int] = {}
        # The layer whose next gradient is looked at, so that a pass has one look; the time that looks took, and since when.
        self._awaited: str | None = None
        self._spent = 0.0
        self._since = time.perf_counter()

    # Looks.

    def _come(self, name: str, module: nn.Module, x: Tensor, output: Tensor) -> None:
        """Lets the gradient of a layer be looked at when it arrives, if it is the layer's turn."""
        if not self._handles or not self._is_due(name):
            return
        self._awaited = name

        def look(gradient: Tensor) -> None:
            if not self._handles:
                return
            began = time.perf_counter()
            with torch.no_grad(), torch.autocast(gradient.device.type, enabled=False):
                self._look(name, module, x, gradient)
            self._spent += time.perf_counter() - began
            self._awaited = None

        output.register_hook(look)

    def _is_due(self, name: str) -> bool:
        """Tells whether a layer is next, and there is time for a look; the first at each layer is taken at once."""
        self._calls += 1
        self._came[name] = self._calls
        layer = self._layers.get(name)
        if layer is None:
            return True
        # One that is awaited and comes again has had no backward pass.
        if self._awaited not in (None, name):
            return False
        # Turns are taken by the layers that are in use: those that came by in the last passes.
        since = self._calls - 4 * len(self._modules)
        fewest = min(other.samples for of, other in self._layers.items() if self._came[of] >= since)
        return layer.samples <= fewest and self._spent < self._most_time * (time.perf_counter() - self._since)

    def _look(self, name: str, module: nn.Module, x: Tensor, gradient: Tensor) -> None:
        scale = self._scale_of(gradient)
        format = _FORMAT_OF.get(gradient.dtype)
        weight: Tensor = module.weight.detach().to(gradient.dtype)  # type: ignore[operator,union-attr,assignment,unused-ignore]
        kind = kind_of(module)
        assert kind is not None
        if isinstance(module, nn.modules.conv._ConvNd) and gradient.dim() == weight.dim() - 1:
            gradient, x = gradient.unsqueeze(0), x.unsqueeze(0)
        if isinstance(kind, _Convolution):
            kind = kind.with_output(gradient, x, weight)
        values, _ = kind.backward(gradient.float(), x, weight.float(), (True, False))
        assert values is not None
        values = values.reshape(-1).float().cpu().contiguous()
        layer = self._layers.setdefault(name, Layer(name))
        layer.samples += 1
        layer.scale_log2 = None if scale == 1.0 else math.frexp(scale)[1] - 1
        if format is not None:
            counts = layer.in_use
            counts.format = format
            here = {of: _observed(of, values) for of in {format, "binary16-flushing"}}
            counts.nonzero += here[format].nonzero
            counts.nonfinite += here[format].nonfinite
            counts.underflow += here[format].underflow(0)
            counts.overflow += here[format].overflow(0)
            if format == "binary16":
                counts.subnormal += here["binary16-flushing"].underflow(0) - here[format].underflow(0)
        finite = gradient.isfinite()
        layer.spoilt += not (bool(finite.all()) and bool(values.isfinite().all()))
        largest = torch.where(finite, gradient, 0.0).float().abs().amax().reshape(1).cpu()
        # Unscaled: multiplied by a power of two, which is exact, and by what is left of a scale that is none.
        mantissa, exponent = math.frexp(scale)
        if mantissa != 0.5:
            values, largest = values / (2.0 * mantissa), largest / (2.0 * mantissa)
        for of in FORMATS:
            for histograms, seen in ((layer.histograms, values), (layer.arrived, largest)):
                histogram = _observed(of, seen, exponent - 1)
                histograms.setdefault(of, _core.Histogram(of)).merge(histogram)

    def _scale_of(self, gradient: Tensor) -> float:
        """Returns the scale that a gradient has, which is arriving at the node of its layer."""
        scale = self._scale
        if isinstance(scale, GradScaler):
            return scale._scale_at(torch._C._current_autograd_node())
        if isinstance(scale, torch.amp.GradScaler):
            return float(scale.get_scale())
        if callable(scale):
            return float(scale())
        return 1.0 if scale is None else float(scale)

    def close(self) -> None:
        """Stops watching; what was seen stays."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # What was seen.

    @property
    def layers(self) -> list[Layer]:
        """What was seen of each layer, in the order of the model."""
        return [self._layers[name] for name in self._modules if name in self._layers]

    @property
    def time_share(self) -> float:
        """The share of the time so far that looks took."""
        return self._spent / (time.perf_counter() - self._since)

    def common_window(self, format: str = "binary16") -> Window | None:
        """Returns the scales that serve every layer; it is empty where one scale cannot."""
        windows = [window for layer in self.layers if (window := layer.window(format)) is not None]
        if not windows:
            return None
        return Window(max(w.least for w in windows), min(w.greatest for w in windows))

    def scales_needed(self, format: str = "binary16") -> list[list[str]]:
        """Returns the layers in as few groups as can share a scale; one that no scale serves is left out."""
        windows = [
            (w.greatest, w.least, layer.name) for layer in self.layers if (w := layer.window(format)) and not w.is_empty
        ]
        groups: list[list[str]] = []
        at: int | None = None
        for greatest, least, name in sorted(windows):
            if at is None or least > at:
                groups.append([])
                at = greatest
            groups[-1].append(name)
        return groups

    def advice(self) -> str:
        """Says in a sentence or two what is wrong with the scale in use, if anything is, and what it would take."""
        layers = self.layers
        if not layers:
            return "no gradient was seen yet"
        format = next((layer.in_use.format for layer in layers if layer.in_use.format), "binary16")
        hurt = [layer for layer in layers if layer.in_use.lost > TOLERANCE or layer.in_use.overflow]
        looks, spoilt = sum(layer.samples for layer in layers), sum(layer.spoilt for layer in layers)
        if not any(layer.in_use.format for layer in layers):
            beginning = "gradients are not in a format of 16 bits, and nothing is lost"
        elif hurt:
            beginning = f"{len(hurt)} of {len(layers)} layers lose gradients in {format} at the scale in use"
        elif spoilt > _OFTEN * looks:
            beginning = f"at {spoilt} of {looks} looks gradients were not finite in {format}: the scale was too large"
        else:
            return (
                f"nothing is wrong: no layer loses more than {TOLERANCE:.1%} of its gradient in {format} at the scale in use"
            )
        window = self.common_window(format)
        unserved = [w for layer in layers if (w := layer.window(format)) and w.is_empty]
        if window is None:
            return beginning
        if not window.is_empty:
            return f"{beginning}; a scale from 2^{window.least} to 2^{window.greatest} serves them all"
        groups = self.scales_needed(format)
        sentence = f"{beginning}; no one scale serves all: it takes {len(groups)} of them"
        if len(groups) == 2:
            sentence += ", such as one for each loss if each reaches one of the groups, or one for each layer"
        elif len(groups) > 2:
            sentence += ", one for each layer"
        if unserved:
            sentence += (
                f"; {len(unserved)} layers spread wider than {format}, and would need a scale for each block, or more bits"
            )
        return sentence

    def table(self) -> str:
        """Returns a table: for each layer, what is lost at the scale in use, and which scales would serve it."""
        layers = self.layers
        width = max([len(layer.name) for layer in layers] + [5])
        heads = f"{'layer':{width}}  scale  underflow  subnormal  overflow"
        lines = [f"{heads}  serves {'binary16':>9}  {'e5m2':>9}  {'e4m3':>9}  looks"]
        for layer in layers:
            counts = layer.in_use
            scale = "none" if layer.scale_log2 is None else f"2^{layer.scale_log2}"
            seen = counts.nonzero
            shares = [f"{n / seen:.2%}" if seen else "-" for n in (counts.underflow, counts.subnormal, counts.overflow)]
            windows = [_text(layer.window(format)) for format in ("binary16", "e5m2", "e4m3")]
            lines.append(
                f"{layer.name:{width}}  {scale:>5}  {shares[0]:>9}  {shares[1]:>9}  {shares[2]:>8}"
                f"  {windows[0]:>16}  {windows[1]:>9}  {windows[2]:>9}  {layer.samples:>5}"
            )
        lines += [f"{name:{width}}  not watched: {why}" for name, why in self.unwatched.items()]
        lines.append(self.advice())
        return "\n".join(lines)

    def write_scalars(self, writer: Any, step: int) -> None:
        """Writes the shares that are lost, and the scales, to TensorBoard's `SummaryWriter`."""
        for layer in self.layers:
            counts = layer.in_use
            if counts.nonzero:
                writer.add_scalar(f"adaloss/underflow/{layer.name}", counts.lost, step)
                writer.add_scalar(f"adaloss/overflow/{layer.name}", counts.overflow / counts.nonzero, step)
            if layer.scale_log2 is not None:
                writer.add_scalar(f"adaloss/scale_log2/{layer.name}", layer.scale_log2, step)

    def write_page(self, path: str | Path) -> None:
        """Writes a page with a picture of every layer's gradient and the scales that serve it; needs matplotlib."""
        from ._page import page

        text = page(self)
        path = Path(path)
        beside = path.with_name(path.name + ".part")
        try:
            beside.write_text(text, encoding="utf-8")
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)


def watch(
    model: nn.Module,
    scale: torch.amp.GradScaler | float | Callable[[], float] | None = None,
    *,
    most_time: float = 0.01,
) -> Watch:
    """Looks at what is lost of the gradients of a model's linear layers and convolutions while it is trained.

    It works beside any training: with `torch.amp.GradScaler`, with this package's, in bfloat16, or in float32.  `scale` is
    what scales the loss: the scaler, a number, or what returns one; nothing where the loss is not scaled.

    At a look, the gradient that a layer returns for its input is computed once more, in float32, from the gradient that
    arrives at it; each element is then counted, exactly, for every format and every scale.  One layer after the other is
    looked at: each once as soon as it can be, and then as often as `most_time`, a share of the run's time, allows.  What
    layers behind it lost before cannot be seen at a layer: the losses that are shown are those of its own rounding.

    Example:
        >>> with adaloss.torch.watch(model, scaler) as seen:
        ...     train()
        >>> print(seen.table())
        >>> seen.write_page("gradients.html")
    """
    return Watch(model, scale, most_time)


def _observed(format: str, values: Tensor, scale_log2: int = 0) -> _core.Histogram:
    histogram = _core.Histogram(format)
    histogram.observe(values.data_ptr(), values.numel(), scale_log2)
    return histogram


def _text(window: Window | None) -> str:
    if window is None:
        return "-"
    return "none" if window.is_empty else f"{window.least}..{window.greatest}"
