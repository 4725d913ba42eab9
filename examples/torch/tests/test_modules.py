"""Modules that are prepared, beside PyTorch's own: subclasses, those whose weights are computed, and how they are kept."""

from __future__ import annotations

import abc
import copy
import gc
import io
import weakref

import adaloss.torch
import pytest
import torch
from adaloss.torch import GradScaler, _formats, prepare, unprepare, unprepared, watch
from adaloss.torch._modules import Prepared
from conftest import assert_near, gradients
from torch import nn
from torch.nn.utils import parametrizations, parametrize

SCALE = 1024.0


class Named(nn.Linear):
    """A user's layer, which is made otherwise and computes as ever."""

    kinds: list[type] = []  # noqa: RUF012

    def __init_subclass__(cls):
        Named.kinds.append(cls)

    def __init__(self, name: str) -> None:
        super().__init__(6, 4)
        self.name = name

    def extra_repr(self) -> str:
        return self.name


class Abstract(nn.Conv1d, abc.ABC):
    """With a metaclass."""


class Doubled(nn.Linear):
    """A forward pass of its own."""

    def forward(self, input):
        return 2.0 * super().forward(input)


class Standardised(nn.Conv1d):
    """A convolution of its own."""

    def _conv_forward(self, input, weight, bias):
        return super()._conv_forward(input, weight - weight.mean(), bias)


class Twice(nn.Module):
    """Multiplies by 2, as a parametrization."""

    def forward(self, weight):
        return 2.0 * weight


def parametrized():
    layer = nn.Linear(6, 4)
    parametrize.register_parametrization(layer, "weight", Twice())
    return layer


SUBCLASSES = [
    lambda: Named("of mine"),
    lambda: Abstract(6, 4, 3),
    lambda: nn.modules.linear.NonDynamicallyQuantizableLinear(6, 4),
    parametrized,
    lambda: parametrizations.weight_norm(Abstract(6, 4, 3)),
]


def example(layer):
    return torch.randn(5, 6, 7) if isinstance(layer, nn.Conv1d) else torch.randn(5, 6)


def step(layer, x, autocast=True):
    """Returns the gradients after one pass, unscaled, and what has a scale."""
    layer.zero_grad()
    scaler = GradScaler("cpu", init_scale=SCALE)
    x = x.clone().requires_grad_()
    with torch.autocast("cpu", dtype=torch.float16, enabled=autocast):
        y = layer(x).float()
    scaler.scale(y.pow(2).sum()).backward()
    found = {name: gradient / SCALE for name, gradient in gradients(layer).items()}
    scaler.step(torch.optim.SGD(layer.parameters(), lr=0.0))
    scaler.update()
    return {**found, "input": x.grad / SCALE}, set(scaler.report().scales)


@pytest.mark.parametrize("make", SUBCLASSES)
@pytest.mark.parametrize("format", _formats.FORMATS)
def test_subclasses_with_the_same_forward_pass(make, format):
    layer = make()
    x = example(layer)
    expected, _ = step(copy.deepcopy(layer), x)
    plain = type(layer)
    prepare(layer, format=format)
    name = plain.__name__
    assert unprepared(layer) == [] and isinstance(layer, Prepared) and type(layer).__name__ == name
    assert isinstance(layer, plain) or parametrize.is_parametrized(layer)
    found, scales = step(layer, x)
    assert_near(found, expected, {"e4m3": 0.1, "e5m2": 0.2}.get(format, 0.01))
    assert (scales >= {name, f"{name}.input"}) == (format == "binary16")
    unprepare(layer)
    assert not isinstance(layer, Prepared) and not hasattr(layer, "adaloss_site")
    assert type(layer) is plain or parametrize.is_parametrized(layer)
    assert_near(step(layer, x)[0], expected, 1.0e-6)


def test_a_subclass_with_a_forward_pass_of_its_own_stays():
    model = nn.ModuleDict({"doubled": Doubled(6, 4), "conv": Standardised(6, 4, 3), "lazy": nn.LazyLinear(4)})
    model["instance"] = nn.Linear(6, 4)
    prepare(model)
    assert type(model["doubled"]) is Doubled and type(model["conv"]) is Standardised
    assert unprepared(model) == ["doubled (Doubled)", "conv (Standardised)", "lazy (LazyLinear)"]
    assert model["lazy"](torch.randn(5, 6)).shape == (5, 4)
    assert unprepared(prepare(model)) == ["doubled (Doubled)", "conv (Standardised)"], "its weights have a size now"


def test_a_layer_that_was_given_a_forward_pass_stays():
    """A module, and not its class: as libraries do that wrap the forward pass of modules they are given."""
    for layer in (nn.Linear(6, 4), Named("of mine"), nn.MultiheadAttention(6, 2), nn.Conv1d(6, 4, 3)):
        model = nn.ModuleDict({"given": layer, "other": nn.Linear(6, 4)})
        plain, of = type(layer), layer.forward
        layer.forward = lambda *given, of=of: of(*given)
        prepare(model)
        assert type(layer) is plain and unprepared(model) == [f"given ({plain.__name__})"]
        seen = watch(model)
        assert isinstance(layer, nn.MultiheadAttention) or "given" in seen.unwatched
        seen.close()
        del layer.forward
        assert unprepared(prepare(model)) == []


def test_what_is_made_of_a_class_is_one_and_goes_with_the_last_module():
    class Local(nn.Linear):
        pass

    first, second = prepare(Local(2, 2)), prepare(Local(2, 2))
    assert type(first) is type(second) and type(first) is not Local
    assert all(cls.__module__ == __name__ for cls in Named.kinds), "no list of subclasses has what was made"
    made = weakref.ref(type(first))
    del first, second
    gc.collect()
    assert made() is None


@pytest.mark.parametrize("make", SUBCLASSES[:3])
def test_subclasses_are_copied_saved_and_loaded(make):
    layer = prepare(make())
    x = example(layer)
    expected, _ = step(layer, x)
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    copies = [copy.deepcopy(layer), copy.copy(layer), torch.load(file, weights_only=False)]
    for other in copies:
        assert type(other) is type(layer) and other.adaloss_site.name == layer.adaloss_site.name
        assert_near(step(other, x)[0], expected, 1.0e-6)
    plain = make()
    plain.load_state_dict(layer.state_dict())
    assert all((plain.state_dict()[name] == value).all() for name, value in layer.state_dict().items())


def test_a_file_of_a_class_that_has_got_a_forward_pass_of_its_own(monkeypatch):
    file = io.BytesIO()
    torch.save(prepare(Named("of mine")), file)
    file.seek(0)
    monkeypatch.setattr(Named, "forward", lambda self, input: input, raising=False)
    assert type(torch.load(file, weights_only=False)) is Named


@pytest.mark.parametrize("is_parametrized_first", [True, False])
def test_parametrizations_come_and_go(is_parametrized_first):
    layer = parametrized() if is_parametrized_first else prepare(nn.Linear(6, 4))
    if is_parametrized_first:
        prepare(layer)
    else:
        parametrize.register_parametrization(layer, "weight", Twice())
    x = torch.randn(5, 6)
    torch.testing.assert_close(layer(x), nn.functional.linear(x, 2.0 * layer.parametrizations.weight.original, layer.bias))
    other = copy.deepcopy(layer)
    assert_near(step(other, x)[0], step(layer, x)[0], 1.0e-6)
    unprepare(other)
    assert parametrize.is_parametrized(other, "weight") and parametrize.type_before_parametrizations(other) is nn.Linear
    torch.testing.assert_close(other(x), layer(x))
    for of, kind in ((layer, adaloss.torch._modules.Linear), (other, nn.Linear)):
        parametrize.remove_parametrizations(of, "weight")
        assert type(of) is kind


@pytest.mark.parametrize("autocast", [True, False])
def test_a_computed_weight_is_computed_once(autocast):
    """Spectral normalisation takes a step towards the norm each time that its weight is looked at."""
    layer = parametrizations.spectral_norm(nn.Linear(6, 4))
    reference = copy.deepcopy(layer)
    prepare(layer)
    x = torch.randn(5, 6)
    step(layer, x, autocast)
    step(reference, x, autocast)
    for name, value in reference.state_dict().items():
        assert (layer.state_dict()[name] == value).all(), name


TRANSPOSED = [
    (nn.ConvTranspose1d(4, 6, 3), (2, 4, 9), None),
    (nn.ConvTranspose1d(4, 6, 3, stride=3, output_padding=2, bias=False), (4, 9), None),
    (nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1), (2, 4, 5, 5), [10, 9]),
    (nn.ConvTranspose2d(4, 6, (3, 2), stride=(2, 3), dilation=2, groups=2), (2, 4, 5, 5), None),
    (nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1), (4, 5, 5), [6, 10, 10]),
    (nn.ConvTranspose3d(4, 6, 3, stride=2, padding=1, output_padding=1), (2, 4, 3, 3, 3), None),
]


@pytest.mark.parametrize("case", range(len(TRANSPOSED)))
@pytest.mark.parametrize("format", _formats.FORMATS)
def test_transposed_convolutions(case, format):
    plain, shape, output_size = TRANSPOSED[case]
    x = torch.randn(shape)
    reference, layer = copy.deepcopy(plain), prepare(copy.deepcopy(plain), format=format)
    sides, watched = [], []
    for of, scale in ((reference, 1.0), (layer, SCALE)):
        batch, scaler = x.clone().requires_grad_(), GradScaler("cpu", init_scale=scale)
        with watch(of, scaler) as seen, torch.autocast("cpu", dtype=torch.float16, enabled=of is layer):
            y = of(batch, output_size=output_size)
            scaler.scale(y.float().pow(2).sum()).backward()
        found = {"input": batch.grad / scale, **{name: gradient / scale for name, gradient in gradients(of).items()}}
        sides.append((y.detach(), found))
        watched.append([layer.samples for layer in seen.layers])
    (exact, expected), (y, found) = sides
    assert y.dtype == (torch.float16 if format == "binary16" else torch.float32)
    torch.testing.assert_close(y.float(), exact, rtol=0.01, atol=0.01)
    assert_near(found, expected, {"e4m3": 0.1, "e5m2": 0.2}.get(format, 0.01))
    assert watched == [[1], [1]]
    with torch.no_grad():
        torch.testing.assert_close(layer(x, output_size), exact)
    assert type(unprepare(layer)) is type(plain)


def attending(**options):
    """Attention that is prepared, within a module that calls it."""

    class Attends(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.MultiheadAttention(6, 2, **options)

        def forward(self, x):
            return self.inner(x, x, x, need_weights=False)[0]

    return Attends()


MADE_AND_SHAPES = [
    *((lambda bias=bias: nn.Linear(6, 4, bias=bias), shape) for bias in (True, False) for shape in ((6,), (5, 6), (2, 5, 6))),
    (lambda: nn.Conv1d(6, 4, 3), (2, 6, 7)),
    (lambda: nn.Conv1d(6, 4, 3, padding="same"), (6, 7)),
    (lambda: nn.ConvTranspose1d(6, 4, 3), (6, 7)),
    (lambda: attending(batch_first=True), (2, 5, 6)),
    (attending, (5, 6)),
]


@pytest.mark.parametrize("case", range(len(MADE_AND_SHAPES)))
@pytest.mark.parametrize("format", _formats.FORMATS)
@pytest.mark.parametrize("autocast", [True, False])
def test_outputs_can_be_modified_in_place(case, format, autocast):
    make, shape = MADE_AND_SHAPES[case]
    layer = make()
    ready = nn.Sequential(prepare(copy.deepcopy(layer), format=format), nn.ReLU(inplace=True))
    model = nn.Sequential(layer, nn.ReLU(inplace=True))
    x = torch.randn(shape)
    expected, _ = step(model, x, autocast)
    found, _ = step(ready, x, autocast)
    assert_near(found, expected, {"e4m3": 0.2, "e5m2": 0.4}.get(format, 0.02))


def bytes_kept(model, x):
    """Returns how much is kept for the backward pass, beside parameters."""
    known, kept = {p.untyped_storage().data_ptr() for p in model.parameters()}, []

    def pack(t):
        storage = t.untyped_storage()
        if storage.data_ptr() not in known:
            known.add(storage.data_ptr())
            kept.append(storage)
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t), torch.autocast("cpu", dtype=torch.float16):
        y = model(x)
    assert y.requires_grad
    return sum(storage.nbytes() for storage in kept)


@pytest.mark.parametrize("format", ["binary16", "e4m3"])
@pytest.mark.parametrize("frozen", [(), ("weight",), ("bias",), ("weight", "bias")])
@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize("case", range(len(MADE_AND_SHAPES)))
def test_no_more_is_kept_than_by_pytorch(case, is_first, frozen, format):
    """As of a layer that is frozen, whose input is not needed; and what is needed is found."""
    make, shape = MADE_AND_SHAPES[case]
    layer, x = make(), torch.randn(shape, requires_grad=not is_first)
    for name, parameter in layer.named_parameters():
        parameter.requires_grad_(not name.endswith(frozen) or not frozen)
    if is_first and not any(p.requires_grad for p in layer.parameters()):
        return
    ready = prepare(copy.deepcopy(layer), format=format)
    if format == "binary16" or isinstance(layer, (nn.Linear, nn.Conv1d)):
        assert bytes_kept(ready, x) <= bytes_kept(layer, x)
    expected, found = gradients_of(layer, x), gradients_of(ready, x)
    assert_near(found, expected, 0.02 if format == "binary16" else 0.2)


def gradients_of(layer, x):
    """Returns the gradients of one pass, among them that of the input where it has one."""
    layer.zero_grad()
    x = x.detach().requires_grad_(x.requires_grad)
    with torch.autocast("cpu", dtype=torch.float16):
        (layer(x).float().pow(2).mean() * SCALE).backward()
    return {**gradients(layer), **({"input": x.grad} if x.requires_grad else {})}


@pytest.mark.parametrize("frozen", [(), ("weight",), ("bias",), ("weight", "bias")])
def test_second_derivatives_of_layers_that_are_frozen(frozen):
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4), nn.Tanh(), nn.Linear(4, 1))
    for name, parameter in model[2].named_parameters():
        parameter.requires_grad_(name not in frozen)
    x, found = torch.randn(5, 6), []
    for scaler_class in (torch.amp.GradScaler, GradScaler):
        of = model if scaler_class is torch.amp.GradScaler else prepare(copy.deepcopy(model))
        of.zero_grad()
        batch, scaler = x.clone().requires_grad_(), scaler_class("cpu", init_scale=16.0)
        with torch.autocast("cpu", dtype=torch.float16):
            y = of(batch).float().sum()
        (slope,) = torch.autograd.grad(scaler.scale(y), batch, create_graph=True)
        scaler.scale((slope / 16.0).pow(2).sum() + y).backward()
        found.append({**gradients(of), "input": batch.grad})
    assert_near(found[1], found[0], 0.02)


def test_what_leaves_a_transposed_convolution_has_a_scale_of_its_own():
    """A gradient that leaves it is far larger than the one that arrives, which the scale of one would not fit."""
    model = nn.Sequential(nn.Linear(4, 4), nn.ConvTranspose1d(4, 4, 3), nn.Linear(6, 1))
    with torch.no_grad():
        model[1].weight.mul_(2.0**14)
    prepare(model)
    scaler = GradScaler("cpu")
    with torch.autocast("cpu", dtype=torch.float16):
        loss = model(torch.randn(2, 4, 4) * 2.0**-10).float().sum()
    scaler.scale(loss).backward()
    scaler.step(torch.optim.SGD(model.parameters(), lr=0.0))
    scaler.update()
    report = scaler.report()
    assert report.scales["1"] - report.scales["0"] >= 12 and not report.uncovered and not report.overflowed


@pytest.mark.parametrize("mode", ["zeros", "reflect"])
def test_nothing_is_padded_before_it_is_decided(monkeypatch, mode):
    """Once where PyTorch's own forward pass is taken, as it does, and not before."""
    layer = prepare(nn.Conv1d(4, 6, 4, padding="same", padding_mode=mode))
    padded, pad = [], nn.functional.pad
    monkeypatch.setattr(nn.functional, "pad", lambda *given, **named: padded.append(given) or pad(*given, **named))
    layer(torch.randn(2, 4, 9))
    assert len(padded) == (mode != "zeros")


@pytest.mark.parametrize(
    ("options", "is_watched"),
    [
        ({"padding": "same"}, True),
        ({"padding": "same", "dilation": (2, 1)}, True),
        ({"padding": "valid", "stride": 2}, True),
        ({"padding": "valid", "padding_mode": "reflect"}, True),
        ({"padding": "same", "kernel_size": (3, 4)}, False),
        ({"padding": 1, "padding_mode": "circular"}, False),
    ],
)
def test_padding(options, is_watched):
    """What is as many zeros on either side is no tensor of its own, and is watched."""
    layer = nn.Conv2d(4, 6, **{"kernel_size": (3, 5), **options})
    ready, x = prepare(copy.deepcopy(layer)), torch.randn(2, 4, 9, 9, requires_grad=True)
    assert_near(gradients_of(ready, x), gradients_of(layer, x), 0.01)
    model = nn.Sequential(ready, nn.Flatten(), nn.LazyLinear(1))
    model(x)
    with watch(model) as seen:
        model(x).sum().backward()
    assert ("0" in [of.name for of in seen.layers]) == is_watched and ("0" in seen.unwatched) != is_watched


def test_subclasses_are_watched():
    model = nn.ModuleDict({"named": Named("of mine"), "doubled": Doubled(6, 4)})
    x = torch.randn(5, 6, requires_grad=True)
    for of in (model, prepare(model)):
        with watch(of) as seen:
            (model["named"](x) + model["doubled"](x)).sum().backward()
        assert [layer.name for layer in seen.layers] == ["named"] and list(seen.unwatched) == ["doubled"]
