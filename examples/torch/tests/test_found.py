"""What was once wrong, beside `torch.amp.GradScaler` or float32, which are right."""

from __future__ import annotations

import copy
import gc
import threading

import pytest
import torch
from adaloss.torch import GradScaler, prepare, unprepare
from conftest import Task, TwoTowers, assert_near, gradients
from torch import nn

SCALE = 1024.0


@pytest.fixture
def model():
    return nn.Sequential(nn.Linear(16, 16), nn.LayerNorm(16), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 1))


@pytest.fixture
def x():
    return torch.randn(8, 16)


def loss_of(model, x, factor=1.0e-3):
    with torch.autocast("cpu", dtype=torch.float16):
        return model(x).float().pow(2).mean() * factor


def scalers():
    return torch.amp.GradScaler("cpu", init_scale=SCALE), GradScaler("cpu", init_scale=SCALE)


def assert_same(found, expected, most=0.02):
    assert (found.float() - expected.float()).norm() < most * expected.float().norm()


@pytest.mark.parametrize("how", ["grad of the input", "grad of a weight", "inputs", "grad of what is within"])
def test_some_gradients_only(model, x, how):
    """They have the scaler's own scale, and so have those that products compute on the way."""
    found = []
    for scaler in scalers():
        ready = prepare(copy.deepcopy(model)) if isinstance(scaler, GradScaler) else copy.deepcopy(model)
        batch, within = x.clone().requires_grad_(), []
        ready[0].register_forward_hook(lambda *given, within=within: within.append(given[2]))
        loss = scaler.scale(loss_of(ready, batch))
        match how:
            case "grad of the input":
                found.append(torch.autograd.grad(loss, [batch])[0])
            case "grad of a weight":
                found.append(torch.autograd.grad(loss, [ready[0].weight])[0])
            case "grad of what is within":
                found.append(torch.autograd.grad(loss, within)[0])
            case "inputs":
                loss.backward(inputs=[ready[0].weight])
                found.append(ready[0].weight.grad)
    assert_same(found[1], found[0])


def test_some_gradients_of_several_losses(model, x):
    """A pass whose first loss is at the scaler's own scale is so for the others."""
    trunk, a, b = (nn.Linear(16, 16) for _ in range(3))
    wanted = [*trunk.parameters(), *b.parameters()]
    found = []
    for scaler in scalers():
        if isinstance(scaler, GradScaler):
            prepare(nn.ModuleList([trunk, a, b]))
        trunk.zero_grad()
        with torch.autocast("cpu", dtype=torch.float16):
            h = trunk(x)
            second = scaler.scale(b(h).float().pow(2).mean())
            first = scaler.scale(a(h).float().pow(2).mean())
        torch.autograd.backward([second, first], inputs=wanted)
        found.append(trunk.weight.grad.clone())
    assert_same(found[1], found[0])
    with torch.autocast("cpu", dtype=torch.float16):
        h = trunk(x)
        first = scaler.scale(a(h).float().pow(2).mean())
        second = scaler.scale(b(h).float().pow(2).mean())
    with pytest.raises(RuntimeError, match="inputs="):
        torch.autograd.backward([second, first], inputs=wanted)


@pytest.mark.parametrize("steps", [1, 3, 5, 12])
def test_what_is_not_finite_for_some_steps(model, x, steps):
    """A derivative that is NaN while the loss is not: the scale is not the cause, and what falls climbs back at once."""
    prepare(model)
    scaler, optimizer = GradScaler("cpu"), torch.optim.SGD(model.parameters(), lr=0.0)
    reference = copy.deepcopy(model)
    loss_of(reference, x).backward()
    for step in range(5 + steps + 30):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.float16):
            h = model[2](model[1](model[0](x)))
            if 5 <= step < 5 + steps:
                h = h + torch.sqrt((h - h.detach()).abs())
            loss = model[4](model[3](h)).float().pow(2).mean() * 1.0e-3
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
    assert_near(gradients(model), gradients(reference))


def test_a_pass_within_a_pass(model, x):
    """A function that trains another model in its own backward."""
    inner = prepare(nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 1)))
    found = []
    for scaler in scalers():
        ready = prepare(copy.deepcopy(model)) if isinstance(scaler, GradScaler) else copy.deepcopy(model)

        class Trains(torch.autograd.Function):
            @staticmethod
            def forward(ctx, h):
                return h.clone()

            @staticmethod
            def backward(ctx, gradient, scaler=scaler):
                with torch.enable_grad():
                    scaler.scale(loss_of(inner, x)).backward()
                return gradient

        with torch.autocast("cpu", dtype=torch.float16):
            h = Trains.apply(ready[2](ready[1](ready[0](x))))
            loss = ready[4](ready[3](h)).float().pow(2).mean()
        scaler.scale(loss).backward()
        found.append(ready[0].weight.grad)
    assert_same(found[1], found[0])


def test_passes_in_threads(model, x):
    """Two threads are each within a pass of one scaler."""
    scaler, barrier = GradScaler("cpu", init_scale=SCALE), threading.Barrier(2, timeout=20)
    models = [prepare(copy.deepcopy(model)) for _ in range(2)]
    reference = copy.deepcopy(models[0])
    loss_of(reference, x).backward()

    def run(ready):
        loss = scaler.scale(loss_of(ready, x))
        ready[4].weight.register_hook(lambda gradient: (barrier.wait(), gradient)[1])
        loss.backward()

    threads = [threading.Thread(target=run, args=(ready,)) for ready in models]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for ready in models:
        assert_same(ready[0].weight.grad / SCALE, reference[0].weight.grad)


def test_after_an_error(model, x):
    """What an error leaves on a graph does nothing in a later pass, and holds nothing."""
    prepare(model)
    fails = [True]

    def hook(_):
        if fails[0]:
            raise MemoryError

    model[0].weight.register_hook(hook)
    scaler = GradScaler("cpu", init_scale=SCALE)
    loss = loss_of(model, x)
    scaled = scaler.scale(loss)
    with pytest.raises(MemoryError):
        scaled.backward(retain_graph=True)
    fails[0] = False
    model.zero_grad()
    (loss * SCALE).backward()
    reference = copy.deepcopy(model)
    reference.zero_grad()
    loss_of(reference, x).backward()
    assert_same(model[0].weight.grad / SCALE, reference[0].weight.grad)

    fails[0] = True
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        scaled = scaler.scale(loss_of(model, x))
    with pytest.raises(MemoryError):
        scaled.backward()
    addresses = {t.data_ptr() for t in saved if t.shape == (8, 16)}
    del scaled, loss
    saved.clear()
    scaler.scale(torch.ones((), requires_grad=True))
    gc.collect()
    alive = [t for t in gc.get_objects() if isinstance(t, torch.Tensor) and t.shape == (8, 16) and t is not x]
    assert not {t.data_ptr() for t in alive} & addresses


def test_two_scalers_in_a_pass(model, x):
    prepare(model)
    first, second = GradScaler("cpu"), GradScaler("cpu")
    with pytest.raises(RuntimeError, match="two scalers"):
        (first.scale(loss_of(model, x)) + second.scale(loss_of(model, x))).backward()


@pytest.mark.parametrize("is_prepared", [False, True])
def test_wider_types(model, x, is_prepared):
    """Layers in float64 stay so; float64 and complex numbers on the way are scaled as they are."""
    model = nn.Sequential(*model[:4], nn.Linear(16, 4).double())

    class Casts(nn.Module):
        def forward(self, h):
            return h.double()

    model.insert(4, Casts())
    found = []
    for scaler in scalers():
        ready = copy.deepcopy(model)
        if is_prepared:
            prepare(ready)
        with torch.autocast("cpu", dtype=torch.float16):
            y = ready(x)
            assert y.dtype == torch.float64
            loss = (torch.fft.fft(y.float()).abs() ** 2).mean() + (y**2).sum() * 1.0e-9
        scaler.scale(loss).backward()
        assert ready[5].weight.grad.dtype == torch.float64
        found.append({name: gradient / SCALE for name, gradient in gradients(ready).items()})
    assert_near(found[1], found[0], 0.02)


def test_other_ways_to_differentiate(model, x):
    prepare(model)
    parameters = dict(model.named_parameters())

    def loss(parameters, x, autocast=True):
        with torch.autocast("cpu", dtype=torch.float16, enabled=autocast):
            return torch.func.functional_call(model, parameters, (x,)).float().pow(2).mean()

    scaler = GradScaler("cpu", init_scale=SCALE)
    whole = torch.func.grad(lambda parameters: scaler.scale(loss(parameters, x)))(parameters)
    loss(parameters, x).backward()
    assert_same(whole["0.weight"] / SCALE, model[0].weight.grad)
    # PyTorch has no layer normalisation of mixed types under `vmap`.
    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, None))(parameters, x.unsqueeze(1), False)
    assert_same(each["0.weight"].mean(0), model[0].weight.grad)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, torch.ones_like(x))
        assert torch.autograd.forward_ad.unpack_dual(model(dual)).tangent is not None
    assert prepare(nn.Linear(4, 2, device="meta"))(torch.ones(3, 4, device="meta")).shape == (3, 2)


def test_weights_that_are_updated_before_the_backward_pass(model, x):
    """Two forward passes, and then two backward passes with an update between them; a second derivative is refused."""
    prepare(model)
    reference = copy.deepcopy(model)
    loss_of(reference, x).backward()
    first, second = loss_of(model, x), loss_of(model, x)
    first.backward()
    with torch.no_grad():
        model[2].weight.mul_(2.0)
    model.zero_grad()
    with pytest.raises(RuntimeError, match="was changed"):
        torch.autograd.grad(second, [model[0].weight], create_graph=True, retain_graph=True)
    second.backward()
    assert_same(model[0].weight.grad, reference[0].weight.grad)


def test_hooks_of_weights_stay(model, x):
    """Also where saved tensors have hooks, as checkpointing has."""
    calls = []
    model[0].weight.register_hook(calls.append)
    scaler = GradScaler("cpu")
    prepare(model)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: t):
        loss = scaler.scale(loss_of(model, x))
    loss.backward()
    scaler.scale(loss_of(model, x)).backward()
    assert len(calls) == 2


def test_unprepare(model, x):
    prepare(model)
    unprepare(model)
    assert type(model[0]) is nn.Linear and not hasattr(model[0], "adaloss_site")
    assert torch.jit.script(model)(x).shape == (8, 1)


def test_a_loss_that_is_changed_after_it_was_scaled(model, x):
    scaler = GradScaler("cpu", init_scale=SCALE)
    loss = loss_of(prepare(model), x)
    scaled = scaler.scale(loss)
    with torch.no_grad():
        loss.zero_()
    scaled.backward()
    assert model[0].weight.grad.abs().max() > 0.0


def test_the_own_scale_stops_growing(model, x):
    scaler = GradScaler("cpu", init_scale=2.0**20, growth_interval=1)
    optimizer = torch.optim.SGD(prepare(model).parameters(), lr=0.0)
    for _ in range(12):
        optimizer.zero_grad()
        scaler.scale(loss_of(model, x)).backward()
        scaler.step(optimizer)
        scaler.update()
    assert scaler.get_scale() == 2.0**24
    # One that is asked for is kept.
    scaler.scale(loss_of(model, x)).backward()
    scaler.step(optimizer)
    scaler.update(new_scale=2.0**30)
    scaler.scale(loss_of(model, x)).backward()
    scaler.step(optimizer)
    scaler.update()
    assert scaler.get_scale() == 2.0**30


def test_what_is_never_updated_is_bounded(monkeypatch):
    from adaloss.torch import _scaler

    monkeypatch.setattr(_scaler, "_MOST_LOOKS", 60)
    model, task, counts = prepare(TwoTowers()), Task(), []
    scaler, whole = GradScaler("cpu"), GradScaler("cpu")
    for _ in range(12):
        scaler.scale(sum(task.losses(model))).backward()
        counts.append(len(scaler._looks) + len(scaler._folded))
    assert max(counts) < 200
    for other in (scaler, whole):
        model.zero_grad()
        other.scale(sum(task.losses(model))).backward()
        other.step(torch.optim.SGD(model.parameters(), lr=0.0))
        other.update()
    # The same was seen, over and over.
    assert scaler.report().scales == whole.report().scales
