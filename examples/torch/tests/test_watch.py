"""The look at what is lost: counted as PyTorch counts it, for any training."""

from __future__ import annotations

import copy

import adaloss
import adaloss.torch
import pytest
import torch
from adaloss.torch import GradScaler, prepare, watch
from conftest import Task, TwoTowers
from torch import nn


def steps(model, scaler, task, count=8, autocast=True):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    for _ in range(count):
        optimizer.zero_grad()
        scaler.scale(sum(task.losses(model, autocast))).backward()
        scaler.step(optimizer)
        scaler.update()


def converted(values, format):
    """What PyTorch makes of values in a format, and which of them overflow."""
    if format == "e4m3":
        # PyTorch's conversion saturates or not, by version; OCP's rounds beyond 464 to what is no number.
        return values.to(torch.float8_e4m3fn).float(), values.abs() > 464.0
    types = {"binary16": torch.float16, "bfloat16": torch.bfloat16, "e5m2": torch.float8_e5m2}
    narrowed = values.to(types[format]).float()
    return narrowed, narrowed.isinf()


@pytest.mark.parametrize("format", ["binary16", "bfloat16", "e5m2", "e4m3"])
def test_counts_are_those_of_pytorch(format):
    values = torch.randn(4096) * torch.exp2(torch.empty(4096).uniform_(-60.0, 40.0))
    values[:3] = torch.tensor([0.0, float("inf"), float("nan")])
    histogram = adaloss.Histogram(format)
    histogram.observe(values.data_ptr(), values.numel(), 0)
    finite = values[values.isfinite()]
    assert (histogram.elements, histogram.nonfinite) == (4096, 2)
    assert histogram.nonzero == int((finite != 0.0).sum())
    for log2 in range(-60, 61):
        scaled = finite * 2.0**log2
        narrowed, overflows = converted(scaled, format)
        underflow = int(((narrowed == 0.0) & (finite != 0.0) & ~overflows).sum())
        assert histogram.underflow(log2) == underflow, f"2^{log2}"
        assert histogram.overflow(log2) == int(overflows.sum()), f"2^{log2}"


def test_a_layer_is_seen_as_it_is():
    """What a layer's gradient loses in binary16 is what PyTorch's own product of it loses."""
    model = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 32))
    arriving, leaving = [], []

    def keep(_, inputs, output):
        output.register_hook(arriving.append)
        inputs[0].register_hook(leaving.append)

    model[2].register_forward_hook(keep)
    seen = watch(model, 2.0**-18)
    with torch.autocast("cpu", dtype=torch.float16):
        loss = (model(torch.randn(16, 32)).float() * torch.exp2(torch.empty(32).uniform_(-16.0, 0.0))).sum()
    (loss * 2.0**-18).backward()
    (layer,) = seen.layers  # The first layer returns no gradient.
    assert layer.name == "2" and layer.samples == 1 and layer.scale_log2 == -18
    exact = arriving[0].float() @ model[2].weight.half().float()
    narrowed = exact.half()
    assert layer.in_use.nonzero == int((exact != 0.0).sum())
    assert layer.in_use.underflow == int(((exact != 0.0) & (narrowed == 0.0)).sum()) > 0
    assert layer.in_use.subnormal == int(((narrowed != 0.0) & (narrowed.abs() < 2.0**-14)).sum())
    # PyTorch's product in binary16 loses the same elements, but for those that it sums in another order.
    assert abs(int((leaving[0] == 0.0).sum()) - int((narrowed == 0.0).sum())) <= 2
    unscaled = exact * 2.0**18
    for log2 in (-20, -10, 0, 10, 20):
        lost = int((((unscaled * 2.0**log2).half() == 0.0) & (exact != 0.0)).sum())
        assert layer.histograms["binary16"].underflow(log2) == lost


@pytest.mark.parametrize("ours", [False, True])
def test_what_it_says(ours):
    def seen_of(unit):
        model, task = TwoTowers(), Task(unit=unit)
        scaler = GradScaler("cpu") if ours else torch.amp.GradScaler("cpu")
        if ours:
            prepare(model)
        with watch(model, scaler, most_time=1.0) as seen:
            steps(model, scaler, task, 40)
        return seen

    assert "nothing is wrong" in seen_of(1.0).advice()
    two = seen_of(1.0e5)
    window = two.common_window()
    assert window.is_empty, window
    groups = two.scales_needed()
    assert len(groups) == 2 and {"quantity", "other_flat"} in [set(group) for group in groups]
    if ours:
        assert "nothing is wrong" in two.advice()
        scales = {layer.name: layer.scale_log2 for layer in two.layers}
        assert scales["classes"] - scales["quantity"] > 30
    else:
        assert "no one scale serves all: it takes 2" in two.advice()
        assert next(layer for layer in two.layers if layer.name == "classes").in_use.lost > 0.05


def test_a_larger_scale_is_asked_for():
    model, task = TwoTowers(), Task(unit=1.0)
    with watch(model, 2.0**-16) as seen:
        (sum(task.losses(model)) * 2.0**-16).backward()
    window = seen.common_window()
    assert f"a scale from 2^{window.least} to 2^{window.greatest} serves them all" in seen.advice()
    # What was lost behind a layer was not seen at the layer: the least is some binades too low.
    served = {window.least - 6: False, window.least + 4: True, window.greatest: True, window.greatest + 6: False}
    for log2, is_served in served.items():
        with watch(model, 2.0**log2) as seen:
            (sum(task.losses(model)) * 2.0**log2).backward()
        assert ("nothing is wrong" in seen.advice()) == is_served, (log2, seen.advice())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_other_trainings(dtype):
    model, task = TwoTowers(), Task(unit=1.0e5)
    with watch(model) as seen:
        with torch.autocast("cpu", dtype=dtype, enabled=dtype == torch.bfloat16):
            logits, quantity = model(task.images)
            loss = nn.functional.cross_entropy(logits.float(), task.labels)
            loss = loss + nn.functional.mse_loss(quantity * task.unit, task.quantity * task.unit)
        loss.backward()
    expected = "bfloat16" if dtype == torch.bfloat16 else ""
    assert {layer.in_use.format for layer in seen.layers} == {expected}
    assert seen.common_window().is_empty and not seen.common_window("bfloat16").is_empty
    said = seen.advice()
    assert ("nothing is wrong" if expected else "nothing is lost") in said


def test_a_scale_that_is_no_power_of_two():
    """What is counted is the unscaled gradient, whatever the scale was."""
    model, task = TwoTowers(), Task(unit=1.0)
    windows = []
    for scale in (1024.0, 1000.0):
        with watch(model, lambda scale=scale: scale) as seen:
            (sum(task.losses(model)) * scale).backward()
        windows.append([layer.window().greatest for layer in seen.layers])
    assert max(abs(a - b) for a, b in zip(*windows)) <= 1


def test_it_takes_the_time_that_it_may():
    model, task, scaler = TwoTowers(), Task(unit=1.0), torch.amp.GradScaler("cpu")
    with watch(model, scaler, most_time=0.02) as seen:
        steps(model, scaler, task, 150)
    looks = [layer.samples for layer in seen.layers]
    # Every layer once at first; then as often as there is time, and each as often as the others, but for the one that is used
    # twice.
    assert sum(looks) < 150 * len(looks) / 4 and max(looks) - min(looks) <= 2
    before = sum(looks)
    steps(model, scaler, task, 2)
    assert sum(layer.samples for layer in seen.layers) == before, "it was closed"


def test_there_is_nothing_to_watch():
    with pytest.raises(ValueError, match="nothing to watch"):
        watch(nn.ReLU())
    seen = watch(TwoTowers())
    assert seen.advice() == "no gradient was seen yet" and "no gradient" in seen.table()


def test_convolutions_and_what_is_not_batched():
    model = nn.Sequential(nn.Conv1d(2, 4, 3), nn.ReLU(), nn.Conv1d(4, 4, 3, stride=2, groups=2), nn.Linear(3, 2))
    with watch(model) as seen:
        model(torch.randn(2, 9)).pow(2).sum().backward()
        model(torch.randn(5, 2, 9)).pow(2).sum().backward()
    assert [layer.name for layer in seen.layers] == ["2", "3"]


def test_a_watched_model_is_trained_as_ever():
    """Weights that are computed anew at each look, and change something on the way, are left alone."""
    found = []
    for is_watched in (False, True):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(8, 8), nn.utils.parametrizations.spectral_norm(nn.Linear(8, 8)), nn.Linear(8, 2))
        seen = watch(model) if is_watched else None
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(5):
            optimizer.zero_grad()
            model(torch.randn(4, 8)).pow(2).sum().backward()
            optimizer.step()
        found.append(model.state_dict())
    assert all((found[0][name] == found[1][name]).all() for name in found[0])
    assert "1" in seen.unwatched and "not watched" in seen.table()


def test_layers_that_are_not_used_any_more():
    """Turns are taken by the layers that come by."""
    model = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))
    seen = watch(model, most_time=1.0)
    x = torch.randn(2, 4, requires_grad=True)
    for step in range(40):
        h = model[0](x)
        (model[1](h) + model[2](h) if step < 10 else model[2](input=h)).sum().backward()
    samples = {layer.name: layer.samples for layer in seen.layers}
    assert samples["2"] > samples["1"] + 5, samples


def test_copies_and_files(tmp_path):
    model = TwoTowers()
    seen = watch(model)
    other = copy.deepcopy(model)
    sum(Task().losses(other)).backward()
    assert seen.layers == []
    torch.save(model, tmp_path / "model.pt")
    loaded = torch.load(tmp_path / "model.pt", weights_only=False)
    sum(Task().losses(loaded)).backward()
    assert seen.layers == []
    loss = sum(Task().losses(model))
    seen.close()
    loss.backward()
    assert seen.layers == [], "it was closed before the backward pass"


def test_other_ways_to_differentiate_are_not_watched():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 1))
    seen = watch(model)
    parameters, x = dict(model.named_parameters()), torch.randn(3, 4)
    torch.func.grad(lambda p: torch.func.functional_call(model, p, (x,)).sum())(parameters)
    assert seen.layers == []


def test_a_page_and_scalars(tmp_path):
    pytest.importorskip("matplotlib", reason="the page is drawn by it")
    model, task, scaler = TwoTowers(), Task(), torch.amp.GradScaler("cpu")
    seen = watch(model, scaler, most_time=1.0)
    seen.write_page(tmp_path / "empty.html")
    steps(model, scaler, task, 60)
    seen.write_page(tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert text.count("<svg") == 2 and "blocks.0.up" in text and "no one scale serves all" in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty.html", "page.html"]
    with pytest.raises(FileNotFoundError):
        seen.write_page(tmp_path / "nowhere" / "page.html")

    written = {}

    class Writer:
        def add_scalar(self, tag, value, step):
            written[tag] = (value, step)

    seen.write_scalars(Writer(), 7)
    assert written["adaloss/scale_log2/classes"][1] == 7 and 0.0 <= written["adaloss/underflow/classes"][0] <= 1.0


def test_a_format_that_does_not_exist():
    with pytest.raises(ValueError, match="binary16, binary16-flushing, bfloat16, e5m2, e4m3"):
        adaloss.Histogram("float16")
    histogram = adaloss.Histogram("e4m3")
    with pytest.raises(ValueError, match="127"):
        histogram.underflow(127)
    with pytest.raises(ValueError):
        histogram.merge(adaloss.Histogram("e5m2"))
