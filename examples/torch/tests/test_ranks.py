"""Processes that decide together, by gloo on this machine."""

from __future__ import annotations

import contextlib
import copy
import pickle

import pytest
import ranks
import torch
from adaloss.torch import GradScaler, RanksDiffer, _ranks, prepare
from torch import distributed, nn
from torch.distributed import fsdp
from torch.distributed.device_mesh import init_device_mesh

ROWS = 8
# So low that targets of 2^10 do not drive the weights away.
RATE = 2.0**-16


class Leaping(nn.Module):
    """Layers between which an operation enlarges the gradient, by as much as it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(16, 16)
        self.second = nn.Linear(16, 16)
        self.last = nn.Linear(16, 4)
        self.factor = 1.0

    def forward(self, x):
        return self.last(self.enlarged(torch.relu(self.second(torch.relu(self.first(x))))))

    def enlarged(self, h):
        """Returns h, whose gradient is `factor` times as large."""
        return h if self.factor == 1.0 else h * self.factor + (h - h * self.factor).detach()


def batch(step: int, rank: int, exponent: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns rows with their targets, which are larger by 2^exponent."""
    random = torch.Generator().manual_seed(1000 * step + rank)
    return torch.randn(ROWS, 16, generator=random), torch.randn(ROWS, 4, generator=random) * 2.0**exponent


def loss_of(model, input, target):
    with torch.autocast("cpu", dtype=torch.float16):
        return nn.functional.mse_loss(model(input).float(), target)


def parallel_of(model, **options):
    return nn.parallel.DistributedDataParallel(model, **options)


def scaler_of(group=True, **options) -> GradScaler:
    return GradScaler("cpu", process_group=distributed.group.WORLD if group else None, **options)


def cells_of(scaler: GradScaler) -> dict[str, list[int]]:
    """Returns the cells by name, but for the count of steps since a certificate, of which none are taken."""
    cells = scaler.state_dict()["adaloss"]["cells"]
    return {name: cell[:16] + cell[20:] for name, cell in sorted(cells.items())}


@contextlib.contextmanager
def counted(scaler):
    """Counts the operations of the engine beside those of gradients: each is its name and how many bytes it takes."""
    calls: list[tuple[str, int]] = []
    with pytest.MonkeyPatch.context() as patch:
        for name in ("_greatest", "_gathered"):
            plain = getattr(scaler._ranks, name)

            def operation(message, name=name, plain=plain):
                calls.append((name, len(message)))
                return plain(message)

            patch.setattr(scaler._ranks, name, operation)
        yield calls


def weights_of(model) -> list[torch.Tensor]:
    return [p.detach().clone() for p in model.parameters()]


def are_equal(a, b) -> bool:
    return all(x.equal(y) for x, y in zip(a, b, strict=True))


# Infinite on one rank, in what reaches a layer.


def overflow_on_one(rank, with_group, is_static):
    model = prepare(Leaping())
    parallel, scaler = parallel_of(model, static_graph=is_static), scaler_of(with_group)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    seen = []
    for step in range(6):
        optimizer.zero_grad()
        model.factor = 1024.0 if step == 3 and rank == 1 else 1.0
        scaler.scale(loss_of(parallel, *batch(step, rank))).backward()
        before = weights_of(model)
        scaler.step(optimizer)
        scaler.update()
        seen.append((scaler.get_scale(), dict(scaler.report().overflowed), are_equal(before, weights_of(model))))
    return seen, weights_of(model), cells_of(scaler)


@pytest.mark.parametrize(("with_group", "is_static"), [(False, False), (True, False), (True, True)])
def test_an_overflow_on_one_rank_is_everybodys(tmp_path, with_group, is_static):
    found = ranks.run(2, overflow_on_one, tmp_path, with_group, is_static)
    (first, weights, cells), (second, other_weights, other_cells) = found
    assert [skipped for *_, skipped in first] == [False, False, False, True, False, False]
    assert are_equal(weights, other_weights)
    own_scales = [scale for scale, *_ in first]
    assert own_scales == [scale for scale, *_ in second]
    if with_group:
        # The layer's scale falls in both, and the scaler's own stays.
        assert first == second and cells == other_cells
        assert first[-1][1] == {"second": 1} and set(own_scales) == {65536.0}
    else:
        assert first[-1][1] == {} and second[-1][1] == {"second": 1} and own_scales[-1] == 32768.0


# The same as one process that saw all of it.


def leaping(exponents) -> int:
    """Returns the rank whose gradients are the largest, so that they overflow where they leap."""
    return max(range(len(exponents)), key=lambda rank: (exponents[rank], rank))


def together(rank, steps, exponents, leaps):
    model = prepare(Leaping())
    parallel, scaler = parallel_of(model), scaler_of()
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    counts, seen = [], []
    with counted(scaler) as calls:
        for step in range(steps):
            optimizer.zero_grad()
            model.factor = 1024.0 if step in leaps and rank == leaping(exponents) else 1.0
            scaler.scale(loss_of(parallel, *batch(step, rank, exponents[rank]))).backward()
            assert (step in leaps) == (not model.first.weight.grad.isfinite().all())
            before = weights_of(model)
            scaler.step(optimizer)
            scaler.update()
            counts.append(len(calls))
            seen.append((cells_of(scaler), scaler.get_scale(), are_equal(before, weights_of(model))))
    assert counts == [2 + step for step in range(steps)], "one message a step, and one more of the first names"
    assert set(calls) == {("_greatest", 4096)}
    assert f"{len(exponents)} processes decide together" in str(scaler.report())
    return seen, weights_of(model)


def alone(steps, exponents, leaps):
    """Does what `together` does in one process, by a backward pass for each batch."""
    torch.manual_seed(0)
    model = prepare(Leaping())
    scaler = GradScaler("cpu")
    # Losses are added up here and averaged there.
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE / len(exponents))
    seen = []
    for step in range(steps):
        optimizer.zero_grad()
        for rank, exponent in enumerate(exponents):
            model.factor = 1024.0 if step in leaps and rank == leaping(exponents) else 1.0
            scaler.scale(loss_of(model, *batch(step, rank, exponent))).backward()
        before = weights_of(model)
        scaler.step(optimizer)
        scaler.update()
        seen.append((cells_of(scaler), scaler.get_scale(), are_equal(before, weights_of(model))))
    return seen, weights_of(model)


def most_difference(found, expected) -> float:
    return max(float((a - b).norm() / b.norm()) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("exponents", [(0, 0), (0, 10), (10, 0, -10, 3)])
@pytest.mark.parametrize("leaps", [(), (3, 6)])
def test_it_is_one_process_that_saw_all_batches(tmp_path, exponents, leaps):
    steps = 10
    expected, expected_weights = alone(steps, exponents, leaps)
    found = ranks.run(len(exponents), together, tmp_path, steps, exponents, leaps)
    for seen, weights in found:
        assert seen == found[0][0] and are_equal(weights, found[0][1])
    seen, weights = found[0]
    assert [skipped for *_, skipped in seen] == [step in leaps for step in range(steps)]
    if len(exponents) == 2:
        # A sum of two is the same in any order, and so is all that follows from it.
        assert seen == expected and are_equal(weights, expected_weights)
    else:
        # Of more, engines add up in another order: float32 that differs in its last bits.
        assert [skipped for *_, skipped in seen] == [skipped for *_, skipped in expected]
        assert most_difference(weights, expected_weights) < 1.0e-4


# Values that are not numbers.


def not_a_number(rank, place):
    model = prepare(Leaping())
    parallel, scaler = parallel_of(model), scaler_of()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    skipped = []
    for step in range(4):
        optimizer.zero_grad()
        input, target = batch(step, rank)
        is_now = step == 2 and rank == 1
        if is_now and place == "input":
            input[0, 0] = float("nan")
        scaler.scale(loss_of(parallel, input, target)).backward()
        if is_now and place == "gradient":
            # Not reduced: as if it came of an engine that loses a NaN in its sums.
            model.first.weight.grad[0, 0] = float("nan")
        before = weights_of(model)
        scaler.step(optimizer)
        scaler.update()
        skipped.append(are_equal(before, weights_of(model)))
    return skipped, scaler.get_scale(), cells_of(scaler), weights_of(model)


@pytest.mark.parametrize("place", ["input", "gradient"])
@pytest.mark.parametrize("count", [2, 4])
def test_a_nan_on_one_rank_skips_the_step_of_all(tmp_path, place, count):
    found = ranks.run(count, not_a_number, tmp_path, place)
    skipped, scale, cells, weights = found[0]
    assert skipped == [False, False, True, False]
    # No layer's scale is at fault.
    assert scale == 32768.0
    for of in found:
        assert of[:3] == (skipped, scale, cells) and are_equal(of[3], weights)


# Modules that not every rank runs.


class Experts(nn.Module):
    """An expert for each rank, and what is in common."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.trunk = nn.Linear(16, 16)
        self.experts = nn.ModuleList([nn.Sequential(nn.Linear(16, 16), nn.ReLU()) for _ in range(count)])
        self.head = nn.Linear(16, 4)

    def forward(self, x, expert):
        h = torch.relu(self.trunk(x))
        return self.head(h if expert is None else self.experts[expert](h))


def conditional(rank, is_reduced):
    count = distributed.get_world_size()
    model = prepare(Experts(count))
    parallel = parallel_of(model, find_unused_parameters=True) if is_reduced else model
    scaler, optimizer = scaler_of(), torch.optim.SGD(model.parameters(), lr=0.01)
    scales, skipped = [], []
    for step in range(6):
        optimizer.zero_grad()
        input, target = batch(step, rank)
        # In the first two steps nobody has an expert, then each its own, but for the last rank.
        expert = None if step < 2 or rank == count - 1 else rank
        with torch.autocast("cpu", dtype=torch.float16):
            loss = nn.functional.mse_loss(parallel(input, expert).float(), target)
        if not is_reduced and step == 4 and rank == 0:
            loss = loss * float("inf")
        scaler.scale(loss).backward()
        before = weights_of(model)
        scaler.step(optimizer)
        scaler.update()
        scales.append(dict(scaler.report().scales))
        skipped.append(are_equal(before, weights_of(model)))
    return scales, skipped, cells_of(scaler), weights_of(model)


@pytest.mark.parametrize("count", [2, 4])
def test_a_module_that_a_rank_does_not_run(tmp_path, count):
    found = ranks.run(count, conditional, tmp_path, True)
    scales, skipped, cells, weights = found[0]
    experts = {f"experts.{rank}.0" for rank in range(count - 1)}
    assert [experts <= of.keys() for of in scales] == [False, False, True, True, True, True]
    assert f"experts.{count - 1}.0" not in scales[-1]
    assert not any(skipped)
    for of in found:
        assert of[:3] == (scales, skipped, cells) and are_equal(of[3], weights)


def test_parameters_that_are_not_reduced_are_skipped_together(tmp_path):
    """Experts' parameters are those of one rank: what is infinite in one of them, the others have to be told."""
    found = ranks.run(2, conditional, tmp_path, False)
    assert [skipped for _, skipped, *_ in found] == [[False, False, False, False, True, False]] * 2
    assert found[0][2] == found[1][2]


def without_gradients(rank, fused):
    model = prepare(Experts(2))
    scaler, optimizer = scaler_of(), torch.optim.AdamW(model.experts.parameters(), lr=0.01, fused=fused)
    trunk = torch.optim.SGD(model.trunk.parameters(), lr=0.01)
    before, skipped = weights_of(model), []
    for step in range(3):
        # The second rank has no batch in the first steps, so that it scales nothing and has nothing to unscale.
        if rank == 0 or step == 2:
            with torch.autocast("cpu", dtype=torch.float16):
                loss = nn.functional.mse_loss(model(batch(step, rank)[0], rank).float(), batch(step, rank)[1])
            scaler.scale(loss * (float("nan") if step == 1 and rank == 0 else 1.0)).backward()
        # Two optimizers, each of which takes its step or does not.
        scaler.step(optimizer)
        scaler.step(trunk)
        scaler.update()
        skipped.append(are_equal(before, weights_of(model)))
        before = weights_of(model)
        optimizer.zero_grad()
        trunk.zero_grad()
    return skipped, scaler.get_scale(), cells_of(scaler)


@pytest.mark.parametrize("fused", [False, True])
def test_a_rank_without_gradients(tmp_path, fused):
    first, second = ranks.run(2, without_gradients, tmp_path, fused)
    assert first[0] == [False, True, False] and second[0] == [True, True, False]
    assert first[1:] == second[1:]


# Parameters in parts.


def sharded(rank, how):
    model = prepare(Leaping())
    if how == "FSDP":
        parallel = fsdp.FullyShardedDataParallel(model, use_orig_params=True, device_id=torch.device("cpu"))
    else:
        mesh = init_device_mesh("cpu", (distributed.get_world_size(),))
        fsdp.fully_shard(model.second, mesh=mesh)
        parallel = fsdp.fully_shard(model, mesh=mesh)
    scaler, optimizer = scaler_of(), torch.optim.SGD(parallel.parameters(), lr=2.0**-6)
    skipped = []
    for step in range(6):
        optimizer.zero_grad()
        model.factor = 1024.0 if step == 3 and rank == 1 else 1.0
        scaler.scale(loss_of(parallel, *batch(step, rank))).backward()
        before = [whole(p).clone() for p in parallel.parameters()]
        scaler.step(optimizer)
        scaler.update()
        skipped.append(are_equal(before, map(whole, parallel.parameters())))
    return skipped, scaler.get_scale(), scaler.report(), cells_of(scaler)


def whole(parameter) -> torch.Tensor:
    return (parameter.full_tensor() if hasattr(parameter, "full_tensor") else parameter).detach()


@pytest.mark.parametrize("how", ["FSDP", "fully_shard"])
def test_parameters_in_parts(tmp_path, how):
    if not hasattr(fsdp, "fully_shard") and how == "fully_shard":
        pytest.skip("fully_shard is in PyTorch 2.6 and later")
    first, second = ranks.run(2, sharded, tmp_path, how)
    skipped, own_scale, report, _ = first
    assert first == second
    assert skipped == [False, False, False, True, False, False] and own_scale == 65536.0
    assert report.overflowed == {"second": 1} and report.uncovered == {} and report.processes == 2


# Micro-batches.


def accumulating(rank, is_view):
    model = prepare(Leaping())
    parallel = parallel_of(model, gradient_as_bucket_view=is_view)
    scaler, optimizer = scaler_of(), torch.optim.SGD(model.parameters(), lr=2.0**-6)
    seen = []
    with counted(scaler) as calls:
        for step in range(5):
            optimizer.zero_grad()
            with parallel.no_sync():
                # The micro-batch that is not reduced by itself is what overflows.
                model.factor = 1024.0 if step == 3 and rank == 1 else 1.0
                scaler.scale(loss_of(parallel, *batch(2 * step, rank))).backward()
                model.factor = 1.0
            scaler.scale(loss_of(parallel, *batch(2 * step + 1, rank))).backward()
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), 10.0)
            before = weights_of(model)
            scaler.step(optimizer)
            scaler.update()
            seen.append((cells_of(scaler), scaler.get_scale(), are_equal(before, weights_of(model))))
    return seen, weights_of(model), len(calls)


@pytest.mark.parametrize("is_view", [False, True])
def test_micro_batches_without_sync(tmp_path, is_view):
    torch.manual_seed(0)
    model, scaler = prepare(Leaping()), GradScaler("cpu")
    optimizer = torch.optim.SGD(model.parameters(), lr=2.0**-6)
    expected = []
    for step in range(5):
        optimizer.zero_grad()
        for micro in (2 * step, 2 * step + 1):
            for rank in range(2):
                model.factor = 1024.0 if micro == 6 and rank == 1 else 1.0
                scaler.scale(loss_of(model, *batch(micro, rank))).backward()
        scaler.unscale_(optimizer)
        for parameter in model.parameters():
            parameter.grad /= 2
        nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        before = weights_of(model)
        scaler.step(optimizer)
        scaler.update()
        expected.append((cells_of(scaler), scaler.get_scale(), are_equal(before, weights_of(model))))
    (first, weights, calls), (second, others, _) = ranks.run(2, accumulating, tmp_path, is_view)
    assert [skipped for *_, skipped in first] == [False, False, False, True, False]
    assert first == second and are_equal(weights, others)
    assert calls == 5 + 1
    # Each adds its two micro-batches first: float32 in another order.
    assert [of[1:] for of in first] == [of[1:] for of in expected]
    assert most_difference(weights, weights_of(model)) < 1.0e-4


# Ranks that are not alike.


@contextlib.contextmanager
def shortest_messages():
    """Makes messages as short as if there were more cells than 650: their lengths differ where the numbers of cells do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_ranks, "_FIRST", _ranks._HEADER)
        yield


def shortest(rank, work, *arguments):
    with shortest_messages():
        return work(rank, *arguments)


def lengths(rank):
    model = prepare(Leaping())
    scaler, optimizer = scaler_of(), torch.optim.SGD(model.parameters(), lr=0.01)
    with shortest_messages(), counted(scaler) as calls:
        for step in range(3):
            scaler.scale(loss_of(model, *batch(step, rank))).backward()
            scaler.step(optimizer)
            scaler.update()
            if step == 1:
                scaler.load_state_dict(scaler.state_dict())
    return [length for _, length in calls], len(scaler.state_dict()["adaloss"]["cells"])


def test_messages_of_many_cells(tmp_path):
    (found, cells), other = ranks.run(2, lengths, tmp_path)
    # No cells yet; the names are known; a step; the header alone behind a state; the step.
    assert found == [176, 176 + 6 * cells, 176 + 6 * cells, 176, 176 + 6 * cells]
    assert other == (found, cells)


def unlike(rank, how):
    model = prepare(Leaping() if how != "layers" or rank != 1 else nn.Sequential(Leaping(), nn.Linear(4, 4)))
    if how == "layers" and rank == 1:
        for name, layer in model[0].named_modules():
            if name:
                layer.adaloss_site.name = name
    options = {"growth_interval": 7} if how == "options" and rank == 1 else {}
    scaler = scaler_of(init_scale=1024.0 if how == "scale" and rank == 1 else 65536.0, **options)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for step in range(4):
        optimizer.zero_grad()
        scaler.scale(loss_of(model, *batch(step, rank))).backward()
        if step == 2:
            state = scaler.state_dict()
            if how == "cell" and rank == 1:
                # One bit of what a cell remembers.
                state["adaloss"]["cells"]["second"][0] ^= 1
            if how == "cells" and rank == 1:
                state["adaloss"]["cells"].pop("second")
            if how == "names" and rank == 1:
                state["adaloss"]["cells"] = dict(reversed(state["adaloss"]["cells"].items()))
            if how == "step" and rank == 1:
                state["adaloss"].pop("run")
            scaler.load_state_dict(state)
        if how == "call" and rank == 1 and step == 2:
            scaler.unscale_(optimizer)
        else:
            scaler.step(optimizer)
        scaler.update()
    return weights_of(model)


MISTAKES = {
    "layers": (0, "its model: 'first' is one of 4 prepared layers there, and of 3 elsewhere"),
    "options": (0, "growth_factor, backoff_factor or growth_interval"),
    "scale": (0, "the scaler's own scale"),
    "cell": (2, "the cell of 'second'"),
    "cells": (2, "the number of its cells"),
    "names": (2, "the names of its cells"),
    "step": (0, "the number of those steps"),
    "call": (2, "what it called"),
}


@pytest.mark.parametrize("is_long", [False, True])
@pytest.mark.parametrize(("count", "how"), [*((2, how) for how in MISTAKES), (4, "layers"), (4, "cell")])
def test_a_rank_that_is_not_like_the_others_is_named_on_all(tmp_path, how, count, is_long):
    step, text = MISTAKES[how]
    found = ranks.run(count, shortest, tmp_path, unlike, how) if is_long else ranks.run(count, unlike, tmp_path, how)
    assert [type(error) for error in found] == [RanksDiffer] * count
    assert {(error.rank, error.step) for error in found} == {(1, step)}
    assert all(text in str(error) and f"rank 1, after {step} finished steps" in str(error) for error in found)
    assert len({str(error) for error in found}) == 1


def one_is_missing(rank):
    # A group with a deadline of its own.
    group = distributed.new_group(timeout=ranks.SOON)
    model = prepare(Leaping())
    scaler = GradScaler("cpu", process_group=group)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    scaler.scale(loss_of(model, *batch(0, rank))).backward()
    before = weights_of(model)
    if rank == 1:
        distributed.barrier()
        return "left out"
    try:
        scaler.step(optimizer)
    except RuntimeError as error:
        assert not isinstance(error, RanksDiffer)
        assert are_equal(before, weights_of(model))
        return "ended"
    finally:
        distributed.barrier()


def test_a_rank_that_does_not_come_ends_the_others_wait(tmp_path):
    assert ranks.run(2, one_is_missing, tmp_path) == ["ended", "left out"]


# Checkpoints.


def steps_of(rank, of, count, begin, end, state):
    """Takes steps, each over the same rows, of which a process has its part, and returns what there is then."""
    model = prepare(Leaping())
    parallel, scaler = parallel_of(model), scaler_of()
    optimizer = torch.optim.SGD(model.parameters(), lr=2.0**-6)
    if state is not None:
        model.load_state_dict(state["model"])
        scaler.load_state_dict(state["scaler"])
    for step in range(begin, end):
        optimizer.zero_grad()
        for micro in range(rank, of, count):
            context = parallel.no_sync() if micro + count < of else torch.enable_grad()
            with context:
                scaler.scale(loss_of(parallel, *batch(step, micro)) * (count / of)).backward()
        scaler.step(optimizer)
        scaler.update()
    return {"model": copy.deepcopy(model.state_dict()), "scaler": scaler.state_dict()}


def alike(states) -> bool:
    first = states[0]
    return all(
        state["scaler"] == first["scaler"] and are_equal(state["model"].values(), first["model"].values()) for state in states
    )


def test_a_state_of_rank_0_goes_on_in_any_number_of_processes(tmp_path):
    whole = ranks.run(2, steps_of, tmp_path / "whole", 4, 2, 0, 8, None)
    half = ranks.run(2, steps_of, tmp_path / "half", 4, 2, 0, 5, None)
    assert alike(whole) and alike(half)
    torch.save(half[0], tmp_path / "state")
    state = torch.load(tmp_path / "state", weights_only=True)
    same = ranks.run(2, steps_of, tmp_path / "same", 4, 2, 5, 8, state)
    assert alike([*whole, *same])
    more = ranks.run(4, steps_of, tmp_path / "more", 4, 4, 5, 8, state)
    assert alike(more)
    # Gradients of each batch are twice as large in four processes, and float32 is added up in another order.
    assert more[0]["scaler"]["scale"] == whole[0]["scaler"]["scale"]
    assert most_difference(more[0]["model"].values(), whole[0]["model"].values()) < 1.0e-4


# Groups.


def group_of_a_part(rank):
    group = distributed.new_group([1, 2])
    try:
        scaler = GradScaler("cpu", process_group=group)
    except TypeError:
        return "no member"
    model = prepare(Leaping())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for step in range(2):
        scaler.scale(loss_of(model, *batch(step, rank))).backward()
        if step == 1 and rank == 2:
            scaler.update(2.0)
            scaler.scale(loss_of(model, *batch(step, rank))).backward()
        scaler.step(optimizer)
        scaler.update()
    return "no error"


def test_the_rank_that_is_named_is_that_among_all(tmp_path):
    first, second, third = ranks.run(3, group_of_a_part, tmp_path)
    assert first == "no member"
    assert isinstance(second, RanksDiffer) and second.rank == third.rank == 2


def test_a_group_is_none_of_a_state():
    scaler = GradScaler("cpu")
    assert scaler.process_group is None
    for other in (copy.deepcopy(scaler), pickle.loads(pickle.dumps(scaler))):
        assert other.process_group is None and other.report().processes == 1
    with pytest.raises(TypeError, match="ProcessGroup"):
        GradScaler("cpu", process_group="world")
    error = pickle.loads(pickle.dumps(RanksDiffer(1, 2, "its cells")))
    assert (error.rank, error.step, error.what) == (1, 2, "its cells")
