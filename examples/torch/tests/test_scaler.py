"""A scale per layer: what is right, what is learnt, and what is refused."""

from __future__ import annotations

import copy
import math

import adaloss
import adaloss.torch
import pytest
import torch
from adaloss.torch import GradScaler, prepare
from conftest import Task, TwoTowers, assert_near, gradients
from torch import nn


def train(model, backward, steps=3, scaler=None, optimizer=None):
    """Makes steps that change no weight; returns the scaler, the last gradients, and how many steps were skipped."""
    scaler = scaler or GradScaler("cpu")
    optimizer = optimizer or torch.optim.SGD(model.parameters(), lr=0.0)
    skipped = 0
    for _ in range(steps):
        optimizer.zero_grad()
        backward(model, scaler)
        scaler.unscale_(optimizer)
        skipped += sum(found.item() for found in scaler._found_inf_per_device(optimizer).values())
        found = gradients(model)
        scaler.step(optimizer)
        scaler.update()
    return scaler, found, skipped


@pytest.fixture
def task():
    return Task()


@pytest.fixture
def model():
    return TwoTowers()


@pytest.fixture
def expected(model, task):
    """The gradients in float32."""
    reference = copy.deepcopy(model)
    sum(task.losses(reference, autocast=False)).backward()
    return gradients(reference)


def whole(task):
    return lambda model, scaler: scaler.scale(sum(task.losses(model))).backward()


def classes(task):
    """A backward pass of a model that has classes alone."""

    def backward(model, scaler):
        with torch.autocast("cpu", dtype=torch.float16):
            loss = nn.functional.cross_entropy(model(task.images).float(), task.labels)
        scaler.scale(loss).backward()

    return backward


def test_one_scale_cannot_serve_both_towers(model, task, expected):
    """Why there is a scale per layer: at every scale of the whole model, gradients are infinite or lost."""
    worst = {}
    for log2 in range(-36, 17, 2):
        one = copy.deepcopy(model)
        (sum(task.losses(one)) * 2.0**log2).backward()
        errors = [
            ((p.grad * 2.0**-log2 - expected[n]).norm() / expected[n].norm()).nan_to_num(math.inf, math.inf)
            for n, p in one.named_parameters()
            if n != "conv.bias"
        ]
        worst[log2] = max(errors).item()
    assert min(worst.values()) > 0.5, worst


def test_gradients_are_those_of_float32(model, task, expected):
    scaler, found, skipped = train(prepare(model), whole(task))
    assert skipped == 0
    assert_near(found, expected)
    scales = scaler.report().scales
    # The towers are some 40 binades apart.
    assert scales["classes"] - scales["quantity"] > 30
    assert {"flat", "blocks.0.up", "blocks.1.up", "shared", "shared (2)", "other_flat"} <= scales.keys()


def test_a_model_that_is_not_prepared_has_scales_at_its_casts(model, task, expected):
    scaler, found, skipped = train(model, whole(task))
    assert skipped == 0
    assert_near(found, expected)
    assert any("Convolution" in kind for kind in scaler.report().uncovered)


@pytest.mark.parametrize("how", ["sum", "list", "two passes", "second of two first", "accumulated"])
@pytest.mark.parametrize("meet", [False, True])
def test_several_losses(task, how, meet):
    class Meets(TwoTowers):
        """Both losses reach the same trunk, one of them past a layer."""

        def forward(self, x):
            h = self.flat(self.batch_norm(self.conv(x)).relu().flatten(1))
            h = self.shared(torch.relu(self.shared(self.blocks(h))))
            return self.classes(h), self.quantity(torch.relu(h) + self.blocks[0](h))[:, 0].float()

    model = Meets() if meet else TwoTowers()
    reference = copy.deepcopy(model)
    sum(task.losses(reference, autocast=False)).backward()

    def backward(model, scaler):
        a, b = task.losses(model)
        match how:
            case "sum":
                (scaler.scale(a) + scaler.scale(b)).backward()
            case "list":
                torch.autograd.backward(scaler.scale([a, b]))
            case "two passes":
                scaler.scale(a).backward(retain_graph=True)
                scaler.scale(b).backward()
            case "second of two first":
                scaler.scale(b).backward(retain_graph=True)
                scaler.scale(a).backward()
            case "accumulated":
                scaler.scale((a + b) / 2).backward()
                scaler.scale(sum(task.losses(model)) / 2).backward()

    _, found, skipped = train(prepare(model), backward)
    assert skipped == 0
    # The trunk's batch statistics are moved twice by the accumulated passes, which changes no gradient.
    assert_near(found, gradients(reference))


def test_scaling_a_loss_before_the_other_is_computed(model, task, expected):
    """The walk from the second loss begins first, and joins regions that the first finds decided."""

    def backward(model, scaler):
        with torch.autocast("cpu", dtype=torch.float16):
            logits, quantity = model(task.images)
            a = scaler.scale(nn.functional.cross_entropy(logits.float(), task.labels))
            b = scaler.scale(nn.functional.mse_loss(quantity * task.unit, task.quantity * task.unit))
        (a + b).backward()

    _, found, skipped = train(prepare(model), backward)
    assert skipped == 0
    assert_near(found, expected)


def test_late_joins_are_shifted():
    """A second loss adds what the first has given two scales to, when nothing can be changed any more."""
    one, other, after_one, after_other = (nn.Linear(8, 8) for _ in range(4))
    model, x = nn.ModuleList([one, other, after_one, after_other]), torch.randn(4, 8)

    def losses(model, autocast, scale):
        one, other, after_one, after_other = model
        with torch.autocast("cpu", dtype=torch.float16, enabled=autocast):
            h, k = one(x), other(x)
            # Created before what follows, so that its node comes last in the backward pass.
            late = scale((h + k).float().sum())
            early = after_one(h).float().sum() * 1.0e4 + after_other(k).float().sum() * 1.0e-4
        return late + scale(early)

    reference = copy.deepcopy(model)
    losses(reference, False, lambda loss: loss).backward()
    _, found, skipped = train(prepare(model), lambda model, scaler: losses(model, True, scaler.scale).backward())
    assert skipped <= 1, "the scale of the smaller one was decided without what came late, in the first step"
    assert_near(found, gradients(reference), 2e-3)


def test_checkpointing_without_reentrance(model, task, expected):
    for block in model.blocks:
        inner = block.forward
        block.forward = lambda x, inner=inner: torch.utils.checkpoint.checkpoint(inner, x, use_reentrant=False)
    _, found, _ = train(prepare(model), whole(task))
    assert_near(found, expected)


def test_reentrant_checkpointing_is_refused(model, task):
    inner = model.blocks.forward
    model.blocks.forward = lambda x: torch.utils.checkpoint.checkpoint(inner, x, use_reentrant=True)
    with pytest.raises(RuntimeError, match="use_reentrant=False"):
        train(prepare(model), whole(task))


def test_double_backward(model):
    """A gradient that is differentiated once more is computed at the scaler's own scale, as with GradScaler."""
    task = Task(unit=1.0)

    def penalised(model, scaler, autocast=True):
        weights = list(model.parameters())
        first = torch.autograd.grad(scaler.scale(sum(task.losses(model, autocast))), weights, create_graph=True)
        norm = sum((g / scaler.get_scale()).pow(2).sum() for g in first)
        scaler.scale(norm).backward()

    reference = copy.deepcopy(model)
    penalised(reference, torch.amp.GradScaler("cpu", enabled=False), autocast=False)
    scaler = GradScaler("cpu", init_scale=256.0)
    scaler, found, _ = train(prepare(model), penalised, 6, scaler)
    assert_near(found, gradients(reference))
    assert scaler.report().passes_at_own_scale == 6


def test_gradients_within_the_graph(model, task):
    """`torch.autograd.grad` returns what GradScaler would: at the scaler's own scale."""
    task, values = Task(unit=1.0), []
    for scaler in (torch.amp.GradScaler("cpu", init_scale=256.0), GradScaler("cpu", init_scale=256.0)):
        ready = copy.deepcopy(model) if type(scaler) is torch.amp.GradScaler else prepare(copy.deepcopy(model))
        within = []
        ready.blocks[0].register_forward_hook(lambda *args: within.append(args[2]))
        loss = sum(task.losses(ready))
        values.append(torch.autograd.grad(scaler.scale(loss), within)[0].float())
    assert (values[1] - values[0]).norm() < 0.02 * values[0].norm()


def test_inputs_that_require_a_gradient(model, task):
    task.images.requires_grad_()
    sum(task.losses(copy.deepcopy(model), autocast=False)).backward()
    expected, task.images.grad = task.images.grad, None
    scaler = GradScaler("cpu", init_scale=1024.0)
    scaler.scale(sum(task.losses(prepare(model)))).backward()
    assert (task.images.grad / 1024.0 - expected).norm() < 0.02 * expected.norm()


# What may happen in a run.


def test_a_first_step_that_would_overflow(task, model, expected):
    """The first gradients of all decide their own scales: none is skipped."""
    task.unit = 1.0e7
    _, found, skipped = train(prepare(model), whole(task), steps=1)
    assert skipped == 0 and all(gradient.isfinite().all() for gradient in found.values())


@pytest.mark.parametrize("log2", [33, -33])
def test_a_loss_that_leaps(model, task, log2):
    """By 2^33, for one step and back, and for ever: nothing is skipped and nothing is lost."""
    prepare(model)
    reference = copy.deepcopy(model)
    loss = sum(task.losses(reference, autocast=False))
    loss.backward()
    expected = gradients(reference)
    scaler, found, skipped = train(model, whole(task))
    assert skipped == 0
    assert_near(found, expected)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    for step in range(12):
        factor = 2.0 ** (log2 if step == 3 or step > 7 else 0)

        def backward(model, scaler):
            scaler.scale(sum(task.losses(model)) * factor).backward()

        _, found, skipped = train(model, backward, 1, scaler, optimizer)
        assert skipped == 0, f"step {step}"
        at_once = log2 > 0 or step not in (3, 8, 9, 10)
        if at_once:
            assert_near(found, {n: g * factor for n, g in expected.items()})


def test_a_value_that_is_not_finite_skips_the_step_and_moves_no_scale(model, task):
    scaler, _, _ = train(prepare(model), whole(task))
    before = dict(scaler.report().scales)
    own = scaler.get_scale()

    def backward(model, scaler):
        a, b = task.losses(model)
        scaler.scale(a + b * math.nan).backward()

    _, _, skipped = train(model, backward, 1, scaler)
    assert skipped == 1
    assert scaler.report().scales == before
    # As with GradScaler, which knows of no other cause than its scale.
    assert scaler.get_scale() == own / 2


def test_an_overflow_within_a_region_lowers_its_scale_and_not_the_scalers():
    """An operation that is no cut multiplies a gradient by more than any margin, suddenly."""
    first, second = nn.Linear(8, 8), nn.Linear(8, 8)
    model = prepare(nn.Sequential(first, second))
    x, factor = torch.randn(4, 8), torch.ones(())

    def backward(model, scaler):
        with torch.autocast("cpu", dtype=torch.float16):
            h = first(x)
            h = torch.where(h.isfinite(), h * factor.half(), h)  # Its derivative is multiplied in binary16.
            loss = second(h / factor.half()).float().sum()
        scaler.scale(loss).backward()

    scaler, _, skipped = train(model, backward)
    own, before = scaler.get_scale(), scaler.report().scales["0"]
    assert skipped == 0
    factor.fill_(2.0**-14)  # h / factor: the derivative is 2^14 times as large there.
    scaler, _, skipped = train(model, backward, 1, scaler)
    assert skipped == 1 and scaler.get_scale() == own
    assert scaler.report().overflowed == {"0": 1} and scaler.report().scales["0"] < before
    _, _, skipped = train(model, backward, 8, scaler)
    assert skipped <= 3, "it is found within four steps"


def test_a_layer_without_a_gradient(model, task):
    model.quantity.requires_grad_(False)
    model.classes.weight.requires_grad_(False)
    _, found, skipped = train(prepare(model), whole(task))
    assert skipped == 0 and "quantity.weight" not in found and "classes.bias" in found


def test_shared_weights(task):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    model[3].weight = model[1].weight
    reference = copy.deepcopy(model)
    nn.functional.cross_entropy(reference(task.images), task.labels).backward()

    _, found, _ = train(prepare(model), classes(task))
    assert_near(found, gradients(reference))


def test_weights_that_are_computed(task):
    """Weight normalisation: the gradient of a weight is passed on to what it is computed from."""
    model = nn.Sequential(nn.Flatten(), torch.nn.utils.weight_norm(nn.Linear(64, 32)), nn.ReLU(), nn.Linear(32, 10))
    reference = nn.Sequential(nn.Flatten(), torch.nn.utils.weight_norm(nn.Linear(64, 32)), nn.ReLU(), nn.Linear(32, 10))
    reference.load_state_dict(model.state_dict())
    nn.functional.cross_entropy(reference(task.images), task.labels).backward()

    _, found, _ = train(prepare(model), classes(task))
    assert_near(found, gradients(reference))


def test_copies_of_a_model(model, task, expected):
    """A deep copy computes with weights of its own, and has scales of its own on the same scaler."""
    prepare(model)
    other = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(0.5)
    scaler = GradScaler("cpu")
    train(model, whole(task), 2, scaler)
    train(other, whole(task), 2, scaler)
    _, found, _ = train(model, whole(task), 1, scaler)
    assert_near(found, expected)
    assert {"classes", "classes, model 2"} <= scaler.report().scales.keys()


def test_hooks_of_modules_see_the_scalers_own_scale(model, task):
    seen = []
    prepare(model)
    model.blocks[0].register_full_backward_hook(lambda module, gi, go: seen.append(go[0].float()))
    scaler = GradScaler("cpu", init_scale=2.0**14)
    scaler.scale(task.losses(model)[0]).backward()
    reference = copy.deepcopy(model)
    task.losses(reference, autocast=False)[0].backward()
    ours = seen[0] * 2.0**-14
    assert (ours - seen[1]).norm() < 0.05 * seen[1].norm()


def test_functions_of_the_users_see_the_scalers_own_scale():
    seen = []

    class Clips(torch.autograd.Function):
        """Not linear in the gradient, as no derivative is."""

        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            seen.append(gradient.float())
            return gradient.clamp(-2.0, 2.0)

    first, second = nn.Linear(8, 8), nn.Linear(8, 8)
    model, x = prepare(nn.Sequential(first, second)), torch.randn(4, 8)
    found = []
    for scaler in (torch.amp.GradScaler("cpu", init_scale=4.0), GradScaler("cpu", init_scale=4.0)):
        model.zero_grad()
        with torch.autocast("cpu", dtype=torch.float16):
            loss = second(Clips.apply(first(x))).float().sum()
        scaler.scale(loss).backward()
        found.append(first.weight.grad.clone())
    torch.testing.assert_close(seen[0], seen[1], rtol=2e-3, atol=1e-3)
    torch.testing.assert_close(found[0], found[1], rtol=2e-3, atol=1e-3)
    assert scaler.report().uncovered == {"ClipsBackward": 1}


def test_channels_last(model, task, expected):
    model = prepare(model).to(memory_format=torch.channels_last)
    task.images = task.images.to(memory_format=torch.channels_last)
    _, found, _ = train(model, whole(task))
    assert_near(found, expected)


def test_an_empty_batch(model, task):
    scaler, _, _ = train(prepare(model.eval()), whole(task))
    before = dict(scaler.report().scales)
    empty = Task(batch=0)

    def backward(model, scaler):
        with torch.autocast("cpu", dtype=torch.float16):
            logits, quantity = model(empty.images)
            loss = logits.float().sum() + quantity.sum()
        scaler.scale(loss).backward()

    _, found, skipped = train(model, backward, 1, scaler)
    assert skipped == 0 and all((gradient == 0).all() for gradient in found.values())
    assert scaler.report().scales == before


def test_unbatched_and_padded_convolutions():
    for conv, shape in (
        (nn.Conv1d(3, 4, 3, padding="same"), (3, 9)),
        (nn.Conv1d(3, 4, 4, padding="same"), (2, 3, 9)),
        (nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2, padding_mode="reflect"), (2, 4, 8, 8)),
        (nn.Conv2d(4, 6, 3, dilation=2, bias=False), (4, 8, 8)),
        (nn.Conv3d(2, 2, 2, padding="valid"), (1, 2, 4, 4, 4)),
    ):
        x = torch.randn(shape)
        reference = copy.deepcopy(conv)
        y = reference(x)
        y.pow(2).sum().backward()
        scaler = GradScaler("cpu", init_scale=16.0)
        with torch.autocast("cpu", dtype=torch.float16):
            found = prepare(conv)(x)
            scaler.scale(found.float().pow(2).sum()).backward()
        assert found.dtype == torch.float16 and found.shape == y.shape
        assert_near({n: g / 16.0 for n, g in gradients(conv).items()}, gradients(reference), 0.01)


def test_a_graph_that_changes_keeps_its_scales(task):
    """A block is left out in every other step, as stochastic depth does."""
    model = TwoTowers()
    block, step = model.blocks[1], [0]
    inner = block.forward
    block.forward = lambda x: x if step[0] % 2 else inner(x)
    prepare(model)
    scaler, names = GradScaler("cpu"), []
    for step[0] in range(6):
        _, _, skipped = train(model, whole(task), 1, scaler)
        assert skipped == 0
        names.append(set(scaler.report().scales))
    assert names[1] == names[5], "no new scale is made after both graphs were seen"


def test_backward_without_a_scaler(model, task, expected):
    """A prepared model without a scaler is an ordinary one; also after it had one, and in bfloat16."""
    prepare(model)
    task.unit = 1.0
    small = copy.deepcopy(model)
    sum(task.losses(small, autocast=False)).backward()
    for _ in range(2):
        model.zero_grad()
        (sum(task.losses(model)) * 1024.0).backward()
        assert_near({n: g / 1024.0 for n, g in gradients(model).items()}, gradients(small))
        scaler = GradScaler("cpu")
        model.zero_grad()
        loss = scaler.scale(sum(task.losses(model)))
        loss.backward()


def test_a_graph_that_is_kept(model, task, expected):
    """A second backward pass over a graph walks it again: no hook is left from the first."""
    prepare(model)
    scaler = GradScaler("cpu", init_scale=1.0)
    loss = scaler.scale(sum(task.losses(model)))
    for times in (1, 2):
        loss.backward(retain_graph=True)
        assert_near({n: g / times for n, g in gradients(model).items()}, expected)


def test_after_an_error_in_a_backward_pass(model, task, expected):
    prepare(model)
    fails = [True]

    def hook(_):
        if fails[0]:
            raise KeyError("in a hook")

    model.conv.weight.register_hook(hook)
    scaler = GradScaler("cpu", init_scale=1.0)
    loss = scaler.scale(sum(task.losses(model)))
    with pytest.raises(KeyError):
        loss.backward(retain_graph=True)
    fails[0] = False
    model.zero_grad()
    loss.backward()
    assert_near(gradients(model), expected)


# State.


def test_a_run_that_is_resumed_has_the_same_scales(model, task):
    prepare(model)
    scaler, _, _ = train(model, whole(task), 5)
    saved = scaler.state_dict()
    resumed = GradScaler("cpu")
    resumed.load_state_dict(saved)
    for _ in range(3):
        _, a, _ = train(model, whole(task), 1, scaler)
        _, b, _ = train(model, whole(task), 1, resumed)
        assert all((a[n] == b[n]).all() for n in a)
        assert scaler.state_dict() == resumed.state_dict()


def test_a_state_goes_through_a_file(model, task, tmp_path):
    scaler, _, _ = train(prepare(model), whole(task), 5)
    torch.save(scaler.state_dict(), tmp_path / "scaler.pt")
    loaded = torch.load(tmp_path / "scaler.pt", weights_only=True)
    assert loaded == scaler.state_dict()


def test_a_damaged_state_is_refused(model, task):
    scaler, _, _ = train(prepare(model), whole(task), 5)
    saved = scaler.state_dict()
    fresh = GradScaler("cpu", init_scale=2.0)
    name = next(iter(saved["adaloss"]["cells"]))
    damaged = copy.deepcopy(saved)
    damaged["adaloss"]["cells"][name] = [255] * 28
    with pytest.raises(ValueError, match=name):
        fresh.load_state_dict(damaged)
    damaged["adaloss"]["cells"][name] = [0] * 5
    with pytest.raises(ValueError, match=name):
        fresh.load_state_dict(damaged)
    other = copy.deepcopy(saved)
    other["adaloss"]["format"] = "e4m3"
    with pytest.raises(ValueError, match="e4m3"):
        fresh.load_state_dict(other)
    assert fresh.get_scale() == 2.0


def test_a_prepared_model_is_copied_saved_and_loaded(model, tmp_path):
    prepare(model)
    torch.save(model, tmp_path / "model.pt")
    loaded = torch.load(tmp_path / "model.pt", weights_only=False)
    assert type(loaded.flat) is type(model.flat) and isinstance(loaded.flat, nn.Linear)
    plain = TwoTowers()
    plain.load_state_dict(model.state_dict())
    assert adaloss.torch.unprepared(model) == []
    others = nn.ModuleDict({"recurrent": nn.LSTM(8, 2), "bilinear": nn.Bilinear(2, 2, 2), "linear": nn.Linear(2, 2)})
    assert adaloss.torch.unprepared(prepare(others)) == ["recurrent (LSTM)", "bilinear (Bilinear)"]


def test_a_report_says_what_to_do_where_nothing_is_scaled():
    assert "prepare(model)" in str(GradScaler("cpu").report())


def test_a_compiled_model(model, task, expected):
    """`torch.compile` breaks its graph at each prepared layer, and its functions have the scaler's own scale at both ends."""
    task.unit = 1.0
    reference = copy.deepcopy(model)
    sum(task.losses(reference, autocast=False)).backward()
    prepare(model)
    compiled = torch.compile(model, backend="aot_eager")
    scaler = GradScaler("cpu", init_scale=1024.0)
    scaler.scale(sum(task.losses(compiled))).backward()
    assert_near({n: g / 1024.0 for n, g in gradients(model).items()}, gradients(reference))
    assert any("CompiledFunction" in kind for kind in scaler.report().uncovered)


def test_the_report_of_a_scaler_that_is_disabled(model, task):
    scaler = GradScaler("cpu", enabled=False)
    scaler.scale(sum(task.losses(prepare(model)))).backward()
    scaler.update()
    assert "disabled" in str(scaler.report()) and "prepare" not in str(scaler.report())
