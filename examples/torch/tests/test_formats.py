"""Gradients in 8 bits, and in binary16 without subnormal numbers: narrowed at each layer, at a scale of its own."""

from __future__ import annotations

import copy

import adaloss
import pytest
import torch
from adaloss.torch import GradScaler, _formats, prepare, watch
from conftest import Task, TwoTowers, assert_near, gradients
from torch import nn

# The norm of what is lost of a gradient by rounding, layer after layer; the formats have 3, 2 and 10 bits of fraction.
PRECISION = {"e4m3": 0.25, "e5m2": 0.4, "binary16-flushing": 0.05}


@pytest.mark.parametrize("format", _formats.FORMATS)
def test_a_ceiling_is_that_of_the_library(format):
    magnitudes = torch.exp2(torch.empty(2000).uniform_(-40.0, 40.0))
    edges = torch.tensor([65519.0, 65520.0, 61439.0, 61440.0, 464.0, 464.03, 463.9, 1.0, 2.0**-20])
    for magnitude in torch.cat([magnitudes, edges]):
        histogram = adaloss.Histogram(format)
        value = magnitude.reshape(1).clone()
        histogram.observe(value.data_ptr(), 1, 0)
        greatest = histogram.greatest_scale()
        assert _formats.ceiling(magnitude, format) == greatest, magnitude
        narrowed = _formats.narrowed(value * 2.0**greatest, format)
        assert narrowed.isfinite().all() and narrowed != 0.0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64])
def test_the_largest_is_that_of_the_norm(dtype):
    """The norm is what is taken on other devices than the CPU."""
    values = torch.randn(7, 40).to(dtype)
    cases = [values, values.t(), values[:, ::3], values[:0], values[0, 0], values.clone().requires_grad_()]
    for special in (float("inf"), -float("inf"), float("nan")):
        spoilt = values.clone()
        spoilt[3, 5] = special
        cases.append(spoilt)
    for case in cases:
        found = _formats.largest(case)
        parts = torch.view_as_real(case.detach()) if dtype.is_complex else case.detach()
        expected = torch.linalg.vector_norm(parts.double(), float("inf")) if parts.numel() else torch.zeros(())
        assert found.dtype == torch.float32 and not found.requires_grad
        torch.testing.assert_close(found, expected.float(), equal_nan=True)


def test_a_scale_is_within_its_bounds():
    magnitudes = torch.tensor([3.0, 0.0, float("inf"), float("nan"), 2.0**-126])
    assert _formats.greatest_scale(magnitudes).tolist() == [2.0**14, 2.0**60, 2.0**-60, 2.0**-60, 2.0**60]
    assert _formats.greatest_scale(magnitudes, "binary16", -6).tolist()[0] == 2.0**8
    assert _formats.greatest_scale(magnitudes[:2], "binary16", 200, 10).tolist() == [2.0**10, 2.0**10]
    assert (_formats.greatest_scale(magnitudes, "binary16", 0, -90) == 2.0**-60).all()


def test_flushing():
    values = torch.tensor([2.0**-14, -(2.0**-14), 2.0**-14 * (1 - 2.0**-10), 2.0**-24, 0.0, 3.0])
    assert _formats.narrowed(values, "binary16-flushing").tolist() == [2.0**-14, -(2.0**-14), 0.0, 0.0, 0.0, 3.0]


@pytest.mark.parametrize("format", PRECISION)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("with_scaler", [False, True])
def test_gradients_are_near_those_of_float32(format, dtype, with_scaler):
    """In units in which no one scale serves both towers."""
    model, task = TwoTowers(), Task()
    reference = copy.deepcopy(model)
    sum(task.losses(reference, autocast=False)).backward()
    prepare(model, format=format)
    with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
        logits, quantity = model(task.images)
        loss = nn.functional.cross_entropy(logits.float(), task.labels)
        loss = loss + nn.functional.mse_loss(quantity * task.unit, task.quantity * task.unit)
    scaler = GradScaler("cpu", enabled=with_scaler, init_scale=1024.0)
    scaler.scale(loss).backward()
    found = {name: gradient / scaler.get_scale() for name, gradient in gradients(model).items()}
    assert_near(found, gradients(reference), PRECISION[format] + (0.1 if dtype == torch.bfloat16 else 0.0))


def test_a_product_is_that_of_narrow_values():
    """The gradient of a layer is the product of values that the format has, at the greatest scale that they fit."""
    layer = prepare(nn.Linear(4, 3), format="e4m3")
    x = torch.randn(5, 4, requires_grad=True)
    gradient = torch.randn(5, 3) * 1.0e-9
    layer(x).backward(gradient)
    scale = 2.0 ** _formats.ceiling(gradient.abs().max(), "e4m3").item()
    narrow = (gradient * scale).to(torch.float8_e4m3fn).float() / scale
    assert (narrow != 0.0).all()
    torch.testing.assert_close(x.grad, narrow @ layer.weight.detach(), rtol=1e-6, atol=0.0)
    torch.testing.assert_close(layer.weight.grad, narrow.t() @ x.detach(), rtol=1e-5, atol=1e-15)
    torch.testing.assert_close(layer.bias.grad, gradient.sum(0))


def test_zeros_and_what_is_not_finite():
    layer = prepare(nn.Linear(4, 3), format="e5m2")
    x = torch.randn(5, 4, requires_grad=True)
    layer(x).backward(torch.zeros(5, 3))
    assert (x.grad == 0.0).all() and (layer.weight.grad == 0.0).all()
    for value in (float("inf"), float("nan")):
        layer.zero_grad()
        layer(x).backward(torch.full((5, 3), value))
        assert not layer.weight.grad.isfinite().any(), "it reaches the scaler's check"


def test_a_second_derivative_is_refused():
    layer = prepare(nn.Linear(4, 3), format="e4m3")
    x = torch.randn(5, 4, requires_grad=True)
    (gradient,) = torch.autograd.grad(layer(x).tanh().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_formats_that_do_not_exist():
    with pytest.raises(ValueError, match="binary16, binary16-flushing, e5m2, e4m3"):
        prepare(nn.Linear(2, 2), format="float8")


def test_a_model_is_prepared_for_another_format():
    model = prepare(prepare(TwoTowers()), format="e4m3")
    assert model.flat.adaloss_site.format == "e4m3"
    task = Task(unit=1.0)
    with watch(model) as seen:
        sum(task.losses(model)).backward()
    assert {layer.in_use.format for layer in seen.layers} == {""}
