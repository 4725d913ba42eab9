"""What `torch.amp.GradScaler` promises holds for the scaler of this package as well.

The names are those of PyTorch's own tests (`test/test_torch.py` and `test/test_cuda.py`).
"""

from __future__ import annotations

import copy
import pickle

import adaloss.torch
import pytest
import torch
from torch import nn

SKIPPED = 2


def scaling_case(optimizer_class=torch.optim.SGD, **options):
    """Two equal models with their optimizers, one for a scaler, and four batches."""
    control = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    scaling = copy.deepcopy(control)
    options = {"lr": 1.0, **options}
    data = [(torch.randn(8, 8), torch.randn(8, 8)) for _ in range(4)]
    return (
        control,
        scaling,
        optimizer_class(control.parameters(), **options),
        optimizer_class(scaling.parameters(), **options),
        data,
    )


def compare(scaler_class, run, *, enabled, atol=1e-7, **case):
    """Runs the same steps without and with a scaler; returns the scaler."""
    control, scaling, control_optimizer, scaling_optimizer, data = scaling_case(**case)
    adaloss.torch.prepare(scaling)
    scaler = scaler_class("cpu", init_scale=128.0, growth_factor=2.0, enabled=enabled, growth_interval=1)
    loss = nn.MSELoss()
    run(data, control, control_optimizer, scaler, loss, False)
    scaler = run(data, scaling, scaling_optimizer, scaler, loss, True) or scaler
    for a, b in zip(control.parameters(), scaling.parameters()):
        torch.testing.assert_close(a.grad, b.grad, atol=atol, rtol=1e-4 if atol < 1e-3 else 1e-2)
        torch.testing.assert_close(a, b, atol=atol, rtol=1e-4 if atol < 1e-3 else 1e-2)
    if enabled:
        # Three steps grew the scale, and the one that was skipped lowered it.
        expected = 128.0 * scaler.get_growth_factor() ** 3 * scaler.get_backoff_factor() ** 1
        assert scaler.get_scale() == expected
    else:
        assert scaler.get_scale() == 1.0
    return scaler


def step_without_scaling(i, loss, model, optimizer, scaler, most=None):
    """What the control does: leaves out the step that the scaler is to skip, and clips where the scaled model is clipped."""
    loss.backward()
    if most is not None:
        torch.nn.utils.clip_grad_norm_(model.parameters(), most)
    if not scaler.is_enabled() or i != SKIPPED:
        optimizer.step()


def spoil(model):
    model[1].weight.grad.data.fill_(float("inf"))


@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize("pickled", [True, False])
def test_grad_scaling_autocast(scaler_class, enabled, pickled):
    def run(data, model, optimizer, scaler, loss_of, tries_scaling):
        for i, (x, y) in enumerate(data):
            optimizer.zero_grad()
            with torch.autocast("cpu", dtype=torch.float16, enabled=tries_scaling):
                loss = loss_of(model(x), y)
            if tries_scaling:
                scaler.scale(loss).backward()
                if i == SKIPPED and scaler.is_enabled():
                    spoil(model)
                scaler.step(optimizer)
                scaler.update()
                if pickled:
                    scaler = pickle.loads(pickle.dumps(scaler))
            else:
                step_without_scaling(i, loss, model, optimizer, scaler)
        return scaler

    compare(scaler_class, run, enabled=enabled, atol=0.02, lr=0.1)


@pytest.mark.parametrize("optimizer_class", [torch.optim.Adam, torch.optim.AdamW])
def test_grad_scaling_autocast_fused(scaler_class, optimizer_class):
    _, model, _, optimizer, data = scaling_case(optimizer_class, lr=0.1, fused=True)
    adaloss.torch.prepare(model)
    scaler = scaler_class("cpu", init_scale=128.0)
    before = copy.deepcopy(model.state_dict())
    for x, y in data:
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.float16):
            loss = nn.functional.mse_loss(model(x), y)
        scaler.scale(loss).backward()
        # A fused optimizer divides by the scale itself.
        scaler.step(optimizer)
        scaler.update()
    assert all(p.isfinite().all() for p in model.parameters())
    assert any((before[n] != p).any() for n, p in model.state_dict().items())


@pytest.mark.parametrize("enabled", [True, False])
def test_grad_scaling_clipping(scaler_class, enabled):
    def run(data, model, optimizer, scaler, loss_of, tries_scaling):
        most = 0.2
        for i, (x, y) in enumerate(data):
            optimizer.zero_grad()
            loss = loss_of(model(x), y)
            if tries_scaling:
                scaler.scale(loss).backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), most * scaler.get_scale())
                if i == SKIPPED and scaler.is_enabled():
                    spoil(model)
                scaler.step(optimizer)
                scaler.update()
            else:
                step_without_scaling(i, loss, model, optimizer, scaler, most)

    compare(scaler_class, run, enabled=enabled, atol=1e-5)


@pytest.mark.parametrize("enabled", [True, False])
def test_grad_scaling_clipping_separate_unscale(scaler_class, enabled):
    def run(data, model, optimizer, scaler, loss_of, tries_scaling):
        most = 0.2
        for i, (x, y) in enumerate(data):
            optimizer.zero_grad()
            loss = loss_of(model(x), y)
            if tries_scaling:
                scaler.scale(loss).backward()
                if i == SKIPPED and scaler.is_enabled():
                    spoil(model)
                scaler.unscale_(optimizer)
                torch.nn.utils.clip_grad_norm_(model.parameters(), most, error_if_nonfinite=False)
                scaler.step(optimizer)
                scaler.update()
            else:
                step_without_scaling(i, loss, model, optimizer, scaler, most)

    compare(scaler_class, run, enabled=enabled, atol=1e-5)


@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize("autocast", [True, False])
def test_grad_scaling_penalty(scaler_class, enabled, autocast):
    def run(data, model, optimizer, scaler, loss_of, tries_scaling):
        for i, (x, y) in enumerate(data):
            optimizer.zero_grad()
            with torch.autocast("cpu", dtype=torch.float16, enabled=autocast and tries_scaling):
                loss = loss_of(model(x), y)
            if tries_scaling:
                grads = torch.autograd.grad(scaler.scale(loss), model.parameters(), create_graph=True)
                inverse = 1.0 / scaler.get_scale()
                grads = [p * inverse for p in grads]
            else:
                grads = torch.autograd.grad(loss, model.parameters(), create_graph=True)
            norm = sum(grad.pow(2).sum() for grad in grads).sqrt()
            loss = loss + norm
            if tries_scaling:
                scaler.scale(loss).backward()
                if i == SKIPPED and scaler.is_enabled():
                    spoil(model)
                scaler.step(optimizer)
                scaler.update()
            else:
                step_without_scaling(i, loss, model, optimizer, scaler)

    compare(scaler_class, run, enabled=enabled, atol=0.02 if autocast else 1e-5, lr=0.1)


@pytest.mark.parametrize("enabled", [True, False])
def test_grad_scaling_accumulation(scaler_class, enabled):
    def run(data, model, optimizer, scaler, loss_of, tries_scaling):
        batches = 2
        for i, (x, y) in enumerate(data):
            loss = loss_of(model(x), y) / batches
            (scaler.scale(loss) if tries_scaling else loss).backward()
            if (i + 1) % batches == 0:
                if tries_scaling:
                    scaler.step(optimizer)
                    scaler.update()
                else:
                    optimizer.step()
                optimizer.zero_grad(set_to_none=False)

    control, scaling, control_optimizer, scaling_optimizer, data = scaling_case()
    adaloss.torch.prepare(scaling)
    scaler = scaler_class("cpu", init_scale=128.0, enabled=enabled)
    run(data, control, control_optimizer, scaler, nn.MSELoss(), False)
    run(data, scaling, scaling_optimizer, scaler, nn.MSELoss(), True)
    for a, b in zip(control.parameters(), scaling.parameters()):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("enabled", [True, False])
def test_grad_scaling_multiple(scaler_class, enabled):
    """Two models and two optimizers, whose losses meet in each other, on one scaler."""
    control0, scaling0, control_optimizer0, scaling_optimizer0, data = scaling_case()
    control1, scaling1, control_optimizer1, scaling_optimizer1, _ = scaling_case()
    adaloss.torch.prepare(scaling0)
    adaloss.torch.prepare(scaling1)
    scaler = scaler_class("cpu", init_scale=128.0, growth_factor=2.0, enabled=enabled, growth_interval=1)
    loss_of = nn.MSELoss()

    def run(model0, model1, optimizer0, optimizer1, tries_scaling):
        for i, (x, y) in enumerate(data):
            optimizer0.zero_grad()
            optimizer1.zero_grad()
            output0, output1 = model0(x), model1(x)
            loss0 = loss_of(0.3 * output0 + 0.7 * output1, y)
            loss1 = loss_of(0.6 * output0 - 0.4 * output1, y)
            if tries_scaling:
                scaler.scale(loss0).backward(retain_graph=True)
                scaler.scale(loss1).backward()
                if i == SKIPPED and scaler.is_enabled():
                    spoil(model1)
                # As PyTorch's test does: one optimizer before, the other within the step.
                scaler.unscale_(optimizer0)
                scaler.step(optimizer0)
                scaler.step(optimizer1)
                scaler.update()
            else:
                loss0.backward(retain_graph=True)
                loss1.backward()
                optimizer0.step()
                if not scaler.is_enabled() or i != SKIPPED:
                    optimizer1.step()

    run(control0, control1, control_optimizer0, control_optimizer1, False)
    run(scaling0, scaling1, scaling_optimizer0, scaling_optimizer1, True)
    if enabled:
        assert scaler.get_scale() == 128.0 * scaler.get_growth_factor() ** 3 * scaler.get_backoff_factor()
    for a, b in zip((*control0.parameters(), *control1.parameters()), (*scaling0.parameters(), *scaling1.parameters())):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def test_grad_scaler_pass_itself(scaler_class):
    """An optimizer that takes the scaler itself, as some do."""

    class Takes(torch.optim.Optimizer):
        def __init__(self, parameters, scaler):
            super().__init__(parameters, {})
            self.scaler = scaler
            self._step_supports_amp_scaling = True

    class Optimizer1(Takes):
        def step(self, closure=None, *, grad_scaler=None):
            assert isinstance(grad_scaler, torch.amp.GradScaler)
            grad_scaler._check_inf_per_device(self)

    model = nn.Linear(1, 1)
    scaler = scaler_class("cpu", init_scale=2.0)
    optimizer = Optimizer1(model.parameters(), scaler)
    scaler.scale(model(torch.ones(1)).sum()).backward()
    with pytest.warns(FutureWarning):
        scaler.step(optimizer)
    scaler.update()


def test_grad_scaling_scale(scaler_class):
    scaler = scaler_class("cpu", init_scale=2.0)
    four = torch.full((1,), 4.0, requires_grad=True)
    # A tensor, and lists and tuples of them, one within the other.
    assert scaler.scale(four) == 8.0
    outputs = [four, (four, [four])]
    scaled = scaler.scale(outputs)
    assert type(scaled) is list and type(scaled[1]) is tuple and type(scaled[1][1]) is list
    assert scaled[0] == scaled[1][0] == scaled[1][1][0] == 8.0
    assert list(scaler.scale(x for x in (four, four))) == [8.0, 8.0]
    with pytest.raises(ValueError, match="Tensor or an iterable"):
        scaler.scale(3)
    half = torch.ones(3, dtype=torch.float16, requires_grad=True)
    reference = torch.amp.GradScaler("cpu", init_scale=2.0).scale(half)
    assert scaler.scale(half).dtype == reference.dtype
    scaler.scale(half).sum().backward()
    assert half.grad.dtype == torch.float16 and (half.grad == 2.0).all()


def test_grad_scaling_unscale(scaler_class):
    model, scaler = nn.Linear(4, 1), scaler_class("cpu", init_scale=4.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    scaler.scale(model(torch.ones(1, 4)).sum()).backward()
    assert (model.weight.grad == 4.0).all()
    scaler.unscale_(optimizer)
    assert (model.weight.grad == 1.0).all()
    with pytest.raises(RuntimeError, match="already been called"):
        scaler.unscale_(optimizer)
    scaler.step(optimizer)
    with pytest.raises(RuntimeError, match="after step"):
        scaler.unscale_(optimizer)
    with pytest.raises(RuntimeError, match="already been called"):
        scaler.step(optimizer)
    scaler.update()
    with pytest.raises(AssertionError, match="No inf checks"):
        scaler.update()
    with pytest.raises(RuntimeError, match="Closure"):
        scaler.step(optimizer, closure=lambda: 0)


def test_grad_scaling_unscale_sparse(scaler_class):
    embedding = nn.Embedding(10, 4, sparse=True)
    scaler = scaler_class("cpu", init_scale=4.0)
    optimizer = torch.optim.SGD(embedding.parameters(), lr=1.0)
    scaler.scale(embedding(torch.tensor([1, 2, 2])).sum()).backward()
    assert embedding.weight.grad.is_sparse
    scaler.unscale_(optimizer)
    dense = embedding.weight.grad.to_dense()
    assert (dense[1] == 1.0).all() and (dense[2] == 2.0).all() and (dense[3] == 0.0).all()


def test_fp16_parameters_are_refused(scaler_class):
    model = nn.Linear(4, 1).half()
    scaler = scaler_class("cpu", init_scale=4.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    scaler.scale(model(torch.ones(1, 4).half()).sum().float()).backward()
    with pytest.raises(ValueError, match="Attempting to unscale FP16 gradients"):
        scaler.unscale_(optimizer)


@pytest.mark.parametrize("lazy_init_scale", [True, False])
def test_grad_scaling_state_dict(scaler_class, lazy_init_scale):
    first = scaler_class("cpu", init_scale=3.0, growth_factor=4.0, backoff_factor=0.5, growth_interval=2)
    second = scaler_class("cpu", init_scale=6.0, growth_factor=7.0, backoff_factor=0.8, growth_interval=1)
    second._init_growth_tracker = 7
    if lazy_init_scale:
        second.scale(torch.full((1,), 4.0))
    second.load_state_dict(first.state_dict())
    assert second.get_scale() == 3.0
    assert second.get_growth_factor() == 4.0
    assert second.get_backoff_factor() == 0.5
    assert second.get_growth_interval() == 2
    assert second._init_growth_tracker == 0


def test_states_are_exchanged():
    """A run that began with `torch.amp.GradScaler` goes on with this one, and the other way round."""
    ours, theirs = adaloss.torch.GradScaler("cpu", init_scale=8.0), torch.amp.GradScaler("cpu", init_scale=4.0)
    ours.load_state_dict(theirs.state_dict())
    assert ours.get_scale() == 4.0
    ours = adaloss.torch.GradScaler("cpu", init_scale=8.0)
    theirs.load_state_dict(ours.state_dict())
    assert theirs.get_scale() == 8.0


def test_a_new_scale(scaler_class):
    model, scaler = nn.Linear(4, 1), scaler_class("cpu", init_scale=4.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    scaler.scale(model(torch.ones(1, 4)).sum()).backward()
    scaler.step(optimizer)
    scaler.update(new_scale=64.0)
    assert scaler.get_scale() == 64.0


def test_disabled(scaler_class):
    model, scaler = nn.Linear(4, 1), scaler_class("cpu", enabled=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    loss = model(torch.ones(1, 4)).sum()
    assert scaler.scale(loss) is loss
    loss.backward()
    scaler.unscale_(optimizer)
    scaler.step(optimizer)
    scaler.update()
    assert scaler.get_scale() == 1.0 and scaler.state_dict() == {}
