#!/usr/bin/env python3
"""Times what PyTorch has for the same purposes, on the same GPU, and adds it to the results beside ours.

    gpu/peers.py results.json

Inputs are as large as ours, and lists of tensors rotate through copies that exceed any L2 cache together. Each figure is
the median of 21 runs after three others, by the device's events. "ratios" are PyTorch's time over ours.
"""
import json
import statistics
import sys

import torch

WARM, TIMES, COPIES = 3, 21, 4
LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 0.1, 0.9, 1.0e-4


def ms(run):
    """Median time of run(nth), in milliseconds."""
    times = []
    for nth in range(WARM + TIMES):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        run(nth)
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end))
    return statistics.median(times[WARM:])


def resnet_50(width):
    """Lengths of the weights of a ResNet-50, as in on-device/src/bench.rs."""
    counts, channels = [3 * 49 * width, width, width], width
    for stage, blocks in enumerate([3, 4, 6, 3]):
        wide = width << stage
        for block in range(blocks):
            counts += [channels * wide, wide, wide, 9 * wide * wide, wide, wide, 4 * wide * wide, 4 * wide, 4 * wide]
            if block == 0:
                counts += [channels * 4 * wide, 4 * wide, 4 * wide]
            channels = 4 * wide
    return counts + [1000 * channels, 1000]


def streams(elements):
    """What walks over one large tensor."""
    x = torch.randn(elements, device="cuda") * 1.0e-4
    y, half = torch.empty_like(x), torch.empty(elements, device="cuda", dtype=torch.half)
    times = {
        "copy": ms(lambda _: y.copy_(x)),
        "cast to binary16": ms(lambda _: half.copy_(x)),
        "scale and cast to binary16": ms(lambda _: torch.mul(x, 4096.0, out=half)),
    }
    if hasattr(torch, "float8_e4m3fn"):
        times["cast to E4M3"] = ms(lambda _: x.to(torch.float8_e4m3fn))
    bits = x.view(torch.int32)
    times["histogram of exponents, bincount"] = ms(lambda _: torch.bincount((bits >> 23) & 255, minlength=256))
    del y
    times["histogram of exponents, histc"] = ms(lambda _: torch.histc(((bits >> 23) & 255).float(), 256, 0, 255))
    # One pass over memory; `x.abs().amax()` is two.
    times["aminmax of binary32"] = ms(lambda _: torch.aminmax(x))
    times["std_mean of binary32"] = ms(lambda _: torch.std_mean(x))
    times["aminmax of binary16"] = ms(lambda _: torch.aminmax(half))
    times["std_mean of binary16"] = ms(lambda _: torch.std_mean(half.float()))
    inverse = 1.0 / 4096.0
    times["unscale binary16 and check"] = ms(lambda _: half.float().mul_(inverse).isfinite().all())
    return times


def lists(counts):
    """What walks over all gradients of a model."""
    def tensors(dtype, requires_grad=False):
        values = [(torch.randn(count, device="cuda") * 1.0e-4).to(dtype) for count in counts]
        return [tensor.requires_grad_(requires_grad) for tensor in values]

    halves = [tensors(torch.half) for _ in range(COPIES)]
    gradients = [tensors(torch.float) for _ in range(COPIES)]
    found, inverse = torch.zeros(1, device="cuda"), torch.tensor([1.0 / 4096.0], device="cuda")

    def check(nth):
        torch._amp_foreach_non_finite_check_and_unscale_(gradients[nth % COPIES], found, inverse)

    def widen(nth):
        torch._foreach_copy_(gradients[nth % COPIES], halves[nth % COPIES])
        check(nth)

    times = {"check and unscale in place, f32": ms(check), "widen binary16, check and unscale": ms(widen)}
    weights = tensors(torch.float, requires_grad=True)
    for kind in ["foreach", "fused"]:
        optimizer = torch.optim.SGD(
            weights, LEARNING_RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY, **{kind: True})

        def step(nth):
            widen(nth)
            for weight, gradient in zip(weights, gradients[nth % COPIES]):
                weight.grad = gradient
            optimizer.step()

        times[f"widen binary16, check, unscale and SGD, {kind}"] = ms(step)
    return times


def products(rows):
    """cuBLAS on the shapes of our products, with rotating operands."""
    def operand(count):
        return torch.rand(max(count, 1 << 26), device="cuda").mul_(2.0).sub_(1.0).half()

    lengths = [(row["rows"] * row["inner"], row["inner"] * row["columns"]) for row in rows]
    a, b = (operand(max(of)) for of in zip(*lengths))
    times = []
    for row, (left, right) in zip(rows, lengths):
        m, k, n = row["rows"], row["inner"], row["columns"]
        transpose_a, transpose_b = (letter == "t" for letter in row["stored"])

        def part(of, count, nth):
            first = nth * -(-count // 128) * 128 % (len(of) - count + 1) // 128 * 128
            return of[first:first + count]

        def multiply(nth):
            x, y = part(a, left, nth), part(b, right, nth)
            x = x.view(k, m).t() if transpose_a else x.view(m, k)
            y = y.view(n, k).t() if transpose_b else y.view(k, n)
            torch.matmul(x, y)

        times.append(ms(multiply))
    return times


def ratios(results, torch_ms):
    """PyTorch's time over ours, for what serves the same purpose."""
    ours = {row["kernel"]: row["ms"] for row in results["bandwidth"]}
    many = results["many"]
    formats = ("binary16", "binary32")
    moments = {name: torch_ms[f"aminmax of {name}"] + torch_ms[f"std_mean of {name}"] for name in formats}
    pairs = {
        "copy": (torch_ms["copy"], ours["copy"]),
        "scale and cast to binary16 / apply": (torch_ms["scale and cast to binary16"], ours["apply binary16"]),
        "bincount / measure": (torch_ms["histogram of exponents, bincount"], ours["measure binary16"]),
        "aminmax of binary32 / measure": (torch_ms["aminmax of binary32"], ours["measure binary16"]),
        "aminmax of binary16 / measure": (torch_ms["aminmax of binary16"], ours["measure binary16 elements"]),
        **{
            f"aminmax and std_mean of {name} / statistics": (moments[name], ours[f"statistics {name}"])
            for name in formats
        },
        "unscale and check / unscale": (torch_ms["unscale binary16 and check"], ours["unscale binary16"]),
        "list: widen, check and unscale / unscale": (torch_ms["widen binary16, check and unscale"], many["unscale_ms"]),
        "list: and SGD, fused / check and sgd": (
            torch_ms["widen binary16, check, unscale and SGD, fused"], many["check_ms"] + many["sgd_ms"]),
    }
    return {name: peer / own for name, (peer, own) in pairs.items()}


def main():
    path = sys.argv[1]
    with open(path) as file:
        results = json.load(file)
    elements = results["elements"]
    torch_ms = streams(elements) | lists(resnet_50(1 if elements < 1 << 25 else 64))
    results["torch"] = {"version": torch.__version__, "ms": torch_ms}
    results["ratios"] = ratios(results, torch_ms)
    for row, peer in zip(results["products"], products(results["products"])):
        row["cublas_ms"] = peer
        row["of_cublas"] = peer / row["ms"]
    with open(path, "w") as file:
        json.dump(results, file, indent=2)


main()
