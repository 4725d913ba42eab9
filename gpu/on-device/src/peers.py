"""Times what PyTorch has for the same purposes, on the same GPU, row by row.

    peers.py RESULTS ROWS SKIP

Reads from RESULTS, as adaloss-on-device writes them, how large our tensors, lists and products were; appends a line of JSON to ROWS
when it begins a row and one when it has it, as that program's own parts do; leaves out the first SKIP rows. Inputs are as large
as ours, and lists of tensors rotate through copies that exceed any L2 cache together. A time is the median of 11 times between
the device's events: of a graph of several launches where PyTorch can capture the operation, else of several launches.
"""
import json
import statistics
import sys
import time

import torch

TIMES, BATCH_MS, MOST, COPIES = 11, 4.0, 64, 4


class Rows:
    """The rows, one after the other."""

    def __init__(self, path, skip):
        self.file, self.skip = open(path, "a", buffering=1), skip

    def write(self, value):
        self.file.write(json.dumps(value) + "\n")

    def row(self, name, work):
        if self.skip > 0:
            self.skip -= 1
            return
        self.write({"begin": name})
        began = time.monotonic()
        try:
            found = work()
        except RuntimeError as error:
            self.write({"row": name, "error": str(error).splitlines()[0]})
            sys.exit(1)
        self.write({"row": name, "seconds": time.monotonic() - began} | found)


def between_events(work):
    """Milliseconds that the device takes for what is asked of it."""
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    work()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end)


def timed(run, captured=True):
    """Times of run(nth): captured in a graph, or asked for several times."""
    for nth in range(3):
        run(nth)
    torch.cuda.synchronize()
    count = max(1, min(MOST, int(BATCH_MS / max(between_events(lambda: run(0)), 1.0e-6))))

    def several():
        for nth in range(count):
            run(nth)

    work = several
    if captured:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            several()
        work = graph.replay
        work()
    times = sorted(between_events(work) / count for _ in range(TIMES))
    return {
        "ms": statistics.median(times), "ms_least": times[0], "ms_greatest": times[-1],
        "launches": count, "captured": captured,
    }


def streams(rows, elements):
    """What walks over one large tensor."""
    x = torch.randn(elements, device="cuda") * 1.0e-4
    y, half = torch.empty_like(x), torch.empty(elements, device="cuda", dtype=torch.half)
    rows.row("copy", lambda: timed(lambda _: y.copy_(x)))
    rows.row("cast to binary16", lambda: timed(lambda _: half.copy_(x)))
    rows.row("scale and cast to binary16", lambda: timed(lambda _: torch.mul(x, 4096.0, out=half)))
    if hasattr(torch, "float8_e4m3fn"):
        eighth = torch.empty(elements, device="cuda", dtype=torch.float8_e4m3fn)
        rows.row("cast to E4M3", lambda: timed(lambda _: eighth.copy_(x)))
    bits = x.view(torch.int32)
    # It reads its result's length on the host, which no graph can contain.
    bincount = lambda _: torch.bincount((bits >> 23) & 255, minlength=256)
    rows.row("histogram of exponents, bincount", lambda: timed(bincount, captured=False))
    # One pass over memory; `x.abs().amax()` is two.
    rows.row("aminmax of binary32", lambda: timed(lambda _: torch.aminmax(x)))
    rows.row("std_mean of binary32", lambda: timed(lambda _: torch.std_mean(x)))
    half.copy_(x)
    rows.row("aminmax of binary16", lambda: timed(lambda _: torch.aminmax(half)))
    rows.row("std_mean of binary16", lambda: timed(lambda _: torch.std_mean(half.float())))
    inverse = 1.0 / 4096.0
    check = lambda _: half.float().mul_(inverse).isfinite().all()
    rows.row("unscale binary16 and check", lambda: timed(check))


def lists(rows, counts, sgd):
    """What walks over all gradients of a model, asked for as an optimizer asks for it."""
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

    rows.row("list: check and unscale in place, f32", lambda: timed(check, captured=False))
    rows.row("list: widen, check and unscale", lambda: timed(widen, captured=False))
    weights = tensors(torch.float, requires_grad=True)

    def stepping(kind):
        optimizer = torch.optim.SGD(
            weights, sgd["learning_rate"], momentum=sgd["momentum"], weight_decay=sgd["weight_decay"], **{kind: True})

        def step(nth):
            widen(nth)
            for weight, gradient in zip(weights, gradients[nth % COPIES]):
                weight.grad = gradient
            optimizer.step()

        return timed(step, captured=False)

    for kind in ["foreach", "fused"]:
        rows.row(f"list: widen, check, unscale and SGD, {kind}", lambda: stepping(kind))


def products(rows, shapes):
    """cuBLAS on the shapes of our products, with rotating operands."""
    def operand(count):
        return torch.rand(max(count, 1 << 26), device="cuda").mul_(2.0).sub_(1.0).half()

    if not shapes:
        return
    lengths = [(of["rows"] * of["inner"], of["inner"] * of["columns"]) for _, of in shapes]
    a, b = (operand(max(of)) for of in zip(*lengths))

    def part(of, count, nth):
        first = nth * -(-count // 128) * 128 % (len(of) - count + 1) // 128 * 128
        return of[first:first + count]

    for (name, shape), (left, right) in zip(shapes, lengths):
        m, k, n = shape["rows"], shape["inner"], shape["columns"]
        transpose_a, transpose_b = (letter == "t" for letter in shape["stored"])

        def multiply(nth):
            x, y = part(a, left, nth), part(b, right, nth)
            x = x.view(k, m).t() if transpose_a else x.view(m, k)
            y = y.view(n, k).t() if transpose_b else y.view(k, n)
            torch.matmul(x, y)

        rows.row(name, lambda: timed(multiply))


def main():
    results, rows, skip = sys.argv[1:]
    with open(results) as file:
        results = json.load(file)
    rows = Rows(rows, int(skip))
    rows.row("PyTorch", lambda: {"version": torch.__version__, "gpu": torch.cuda.get_device_name()})
    streams(rows, results["elements"])
    found = {part["part"]: part["rows"] for part in results["parts"]}
    lengths = [row["lengths"] for row in found.get("lists", []) if "lengths" in row]
    updates = [row for row in found.get("lists", []) if "momentum" in row]
    if lengths and updates:
        lists(rows, lengths[0], updates[0])
    products(rows, [(row["row"], row["shape"]) for row in found.get("products", []) if "shape" in row])


main()
