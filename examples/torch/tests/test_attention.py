"""`MultiheadAttention` of a prepared model computes what PyTorch's own does, with scales for its projections."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from adaloss.torch import GradScaler, _formats, prepare, unprepare, unprepared, watch
from adaloss.torch._attention import MultiheadAttention
from conftest import gradients
from torch import nn
from torch.nn.utils import parametrizations

WIDTH, HEADS, QUERIES, KEYS, BATCH = 16, 4, 5, 7, 3
SCALE = 256.0
INFINITY = float("inf")


def padding(batch=BATCH):
    """Keys that are left out, of which each element of a batch has another number."""
    return torch.arange(KEYS) >= KEYS - torch.arange(batch).unsqueeze(1)


def causal(queries=QUERIES, keys=KEYS):
    return torch.ones(queries, keys, dtype=torch.bool).triu(1)


def as_numbers(mask):
    return torch.zeros(mask.shape).masked_fill(mask, -INFINITY)


# What the module is made with, what it is called with, and whether queries, keys and values are one tensor, two or three.
OPTIONS = {
    "itself": ({}, {}, 1),
    "two inputs": ({}, {}, 2),
    "three inputs": ({}, {}, 3),
    "batch first": ({"batch_first": True}, {}, 1),
    "batch first, two inputs": ({"batch_first": True}, {}, 2),
    "no bias": ({"bias": False}, {}, 2),
    "no bias, three inputs": ({"bias": False}, {}, 3),
    "other widths": ({"kdim": 6, "vdim": 10}, {}, 3),
    "other widths, no bias": ({"kdim": 6, "vdim": 10, "bias": False, "batch_first": True}, {}, 3),
    "padding": ({}, {"key_padding_mask": padding()}, 2),
    "padding by numbers": ({"batch_first": True}, {"key_padding_mask": as_numbers(padding())}, 2),
    "a mask": ({}, {"attn_mask": causal()}, 2),
    "a mask of numbers": ({}, {"attn_mask": torch.randn(QUERIES, KEYS)}, 2),
    "a mask for each head": ({}, {"attn_mask": causal().repeat(BATCH * HEADS, 1, 1)}, 2),
    "numbers for each head": ({}, {"attn_mask": torch.randn(BATCH * HEADS, QUERIES, KEYS)}, 3),
    "a mask and padding": ({}, {"attn_mask": causal(), "key_padding_mask": padding()}, 2),
    "numbers and padding": (
        {"batch_first": True},
        {"attn_mask": torch.randn(BATCH * HEADS, QUERIES, KEYS), "key_padding_mask": as_numbers(padding())},
        3,
    ),
    "causal": ({}, {"attn_mask": causal(), "is_causal": True}, 2),
    "causal, and padding": ({}, {"attn_mask": causal(), "is_causal": True, "key_padding_mask": padding()}, 2),
    "dropout": ({"dropout": 0.5}, {}, 1),
    "dropout and a mask": ({"dropout": 0.5}, {"attn_mask": causal()}, 2),
}


def inputs_of(layer, count, batch=BATCH):
    """Returns queries, keys and values, of which some are one tensor."""
    shape = (lambda length: (batch, length)) if layer.batch_first else (lambda length: (length, batch))
    if batch is None:
        shape = lambda length: (length,)  # noqa: E731
    query = torch.randn(*shape(KEYS if count == 1 else QUERIES), WIDTH, requires_grad=True)
    if count == 1:
        return query, query, query
    key = torch.randn(*shape(KEYS), layer.kdim, requires_grad=True)
    return query, key, key if count == 2 else torch.randn(*shape(KEYS), layer.vdim, requires_grad=True)


def compared(layer, ready, inputs, given, autocast=torch.float16):
    """Returns outputs and gradients of both, the second's scaled by nothing."""
    sides = []
    for of in (layer, ready):
        of.zero_grad()
        torch.manual_seed(1)
        given_inputs = {id(x): x.detach().clone().requires_grad_() for x in inputs}
        scaler = GradScaler("cpu", init_scale=SCALE) if of is ready else torch.amp.GradScaler("cpu", init_scale=SCALE)
        with torch.autocast("cpu", dtype=autocast, enabled=autocast != torch.float32):
            y, weights = of(*(given_inputs[id(x)] for x in inputs), **given)
        loss = y.float().pow(2).sum() + (0.0 if weights is None else weights.float().pow(2).sum())
        scaler.scale(loss).backward()
        found = {f"input {n}": x.grad / SCALE for n, x in enumerate(given_inputs.values())}
        found.update({name: gradient / SCALE for name, gradient in gradients(of).items()})
        sides.append((y, weights, found, scaler))
    return sides


def assert_near(found, expected, most):
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        if name == "in_proj_bias":
            # Softmax makes nothing of what is added to all keys: that part has no gradient but for rounding.
            gradient, reference = (torch.cat([g[:WIDTH], g[2 * WIDTH :]]) for g in (gradient, expected[name]))
        else:
            reference = expected[name]
        difference = (gradient - reference).norm() / reference.norm()
        assert difference < most, f"{name} differs by {difference:.3g} of its norm"


@pytest.mark.parametrize("need_weights", [False, True, "each head"])
@pytest.mark.parametrize("option", OPTIONS)
def test_each_option(option, need_weights):
    made_with, given, count = OPTIONS[option]
    layer = nn.MultiheadAttention(WIDTH, HEADS, **made_with)
    ready = prepare(copy.deepcopy(layer))
    with torch.no_grad():
        for of in (layer, ready):
            if of.in_proj_bias is not None:
                of.in_proj_bias.copy_(torch.linspace(-1.0, 1.0, 3 * WIDTH))
    given = {**given, "need_weights": bool(need_weights), "average_attn_weights": need_weights != "each head"}
    (expected, weights, reference, _), (y, found_weights, found, scaler) = compared(
        layer, ready, inputs_of(layer, count), given
    )
    assert y.dtype == torch.float16 and y.shape == expected.shape
    torch.testing.assert_close(y, expected, rtol=0.01, atol=0.005)
    assert (weights is None) == (found_weights is None) == (not need_weights)
    if need_weights:
        assert weights.dtype == found_weights.dtype
        torch.testing.assert_close(found_weights, weights, rtol=0.01, atol=0.005)
    assert_near(found, reference, 0.01)
    scaler.step(torch.optim.SGD(ready.parameters(), lr=0.0))
    scaler.update()
    parts = {1: {"in_proj"}, 2: {"q_proj", "kv_proj"}, 3: {"q_proj", "k_proj", "v_proj"}}[count]
    scales = scaler.report().scales.keys()
    assert {f"MultiheadAttention.{part}.input" for part in parts} | {"out_proj"} <= scales


@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize("shape", [(QUERIES, KEYS), (BATCH * HEADS, QUERIES, KEYS)])
def test_a_mask_that_is_learnt(shape, need_weights):
    layer = nn.MultiheadAttention(WIDTH, HEADS)
    bias, found = torch.randn(shape), []
    for of in (layer, prepare(copy.deepcopy(layer))):
        mask = bias.clone().requires_grad_()
        scaler = GradScaler("cpu", init_scale=SCALE)
        torch.manual_seed(2)
        query, key, _ = inputs_of(layer, 2)
        with torch.autocast("cpu", dtype=torch.float16):
            y, _ = of(query, key, key, attn_mask=mask, need_weights=need_weights)
        scaler.scale(y.float().pow(2).sum()).backward()
        found.append({"mask": mask.grad / SCALE, "key": key.grad / SCALE})
    assert_near(found[1], found[0], 0.01)


@pytest.mark.parametrize("autocast", [True, False])
def test_a_weight_that_is_computed_is_computed_as_often(autocast):
    layer = nn.MultiheadAttention(WIDTH, HEADS)
    parametrizations.spectral_norm(layer.out_proj)
    ready = prepare(copy.deepcopy(layer))
    x = torch.randn(KEYS, BATCH, WIDTH)
    for of in (layer, ready):
        with torch.autocast("cpu", dtype=torch.float16, enabled=autocast):
            of(x, x, x)
    for name, value in layer.state_dict().items():
        assert (ready.state_dict()[name] == value).all(), name


@pytest.mark.parametrize("format", _formats.FORMATS[1:])
@pytest.mark.parametrize("autocast", [torch.float32, torch.float16])
@pytest.mark.parametrize("option", ["itself", "two inputs", "other widths", "a mask and padding", "causal"])
def test_other_formats(option, autocast, format):
    made_with, given, count = OPTIONS[option]
    layer = nn.MultiheadAttention(WIDTH, HEADS, **made_with)
    ready = prepare(copy.deepcopy(layer), format=format)
    for need_weights in (False, True):
        (expected, _, reference, _), (y, _, found, _) = compared(
            layer, ready, inputs_of(layer, count), {**given, "need_weights": need_weights}, autocast
        )
        assert y.dtype == torch.float32
        most = 1.0e-6 if autocast == torch.float32 else 0.005
        torch.testing.assert_close(y, expected.float(), rtol=most, atol=most)
        assert_near(found, reference, {"e4m3": 0.15, "e5m2": 0.25}.get(format, 0.01))
        assert any((found[name] != reference[name]).any() for name in found), "it is narrowed"


@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize("given", [{}, {"key_padding_mask": padding()[1]}, {"attn_mask": causal().repeat(HEADS, 1, 1)}])
def test_what_is_not_batched(given, need_weights):
    for batch_first in (False, True):
        layer = nn.MultiheadAttention(WIDTH, HEADS, batch_first=batch_first)
        ready = prepare(copy.deepcopy(layer))
        (expected, weights, reference, _), (y, found_weights, found, _) = compared(
            layer, ready, inputs_of(layer, 2, batch=None), {**given, "need_weights": need_weights}
        )
        assert y.shape == expected.shape
        torch.testing.assert_close(y, expected, rtol=0.01, atol=0.005)
        if need_weights:
            torch.testing.assert_close(found_weights, weights, rtol=0.01, atol=0.005)
        assert_near(found, reference, 0.01)


def is_prepared_pass(y):
    """Tells whether an output is that of a product with gradients of its own."""
    node, seen = y.grad_fn, set()
    while node is not None and node not in seen:
        seen.add(node)
        if node.name() in ("ProductBackward", "NarrowingProductBackward"):
            return True
        node = node.next_functions[0][0] if node.next_functions else None
    return False


def test_what_is_left_to_pytorch():
    x = torch.randn(KEYS, BATCH, WIDTH)
    layer = prepare(nn.MultiheadAttention(WIDTH, HEADS))
    with torch.autocast("cpu", dtype=torch.float16):
        assert is_prepared_pass(layer(x, x, x)[0])
        assert not is_prepared_pass(prepare(nn.MultiheadAttention(WIDTH, HEADS).requires_grad_(False))(x, x, x)[0])
        with torch.no_grad():
            assert layer(x, x, x)[0].grad_fn is None
        # What does not fit is refused by PyTorch's own words.
        with pytest.raises(AssertionError, match="embedding dimension"):
            layer(x[..., :8], x[..., :8], x[..., :8])
        with pytest.raises((RuntimeError, AssertionError), match="attn_mask"):
            layer(x, x, x, is_causal=True)
        with pytest.raises((RuntimeError, AssertionError), match="2D attn_mask"):
            layer(x, x, x, attn_mask=causal(2, 2))
    assert not is_prepared_pass(layer(x, x, x)[0]), "nothing is in binary16"
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not is_prepared_pass(layer(x, x, x)[0])
    parameters = dict(layer.named_parameters())

    def loss(parameters):
        with torch.autocast("cpu", dtype=torch.float16):
            return torch.func.functional_call(layer, parameters, (x, x, x))[0].float().pow(2).sum()

    assert torch.func.grad(loss)(parameters)["in_proj_weight"].isfinite().all()


@pytest.mark.parametrize("option", [{"add_bias_kv": True}, {"add_zero_attn": True}])
def test_attention_with_more_keys_stays(option):
    model = nn.ModuleDict({"attention": nn.MultiheadAttention(WIDTH, HEADS, **option)})
    prepare(model)
    assert type(model["attention"]) is nn.MultiheadAttention and unprepared(model) == ["attention (MultiheadAttention)"]
    x = torch.randn(KEYS, BATCH, WIDTH)
    with torch.autocast("cpu", dtype=torch.float16):
        expected = nn.MultiheadAttention.forward(model["attention"], x, x, x)[0]
        torch.testing.assert_close(model["attention"](x, x, x)[0], expected)
        # One that gets them later.
        later = prepare(nn.MultiheadAttention(WIDTH, HEADS))
        later.add_zero_attn = True
        torch.testing.assert_close(later(x, x, x)[0], nn.MultiheadAttention.forward(later, x, x, x)[0])


@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize("format", ["binary16", "e4m3"])
def test_a_model_in_binary16_without_autocast(format, need_weights):
    layer = nn.MultiheadAttention(WIDTH, HEADS).half()
    ready = prepare(copy.deepcopy(layer), format=format)
    inputs = [x.detach().half() for x in inputs_of(layer, 3)]
    for given in ({}, {"attn_mask": as_numbers(causal()).half(), "key_padding_mask": as_numbers(padding()).half()}):
        given["need_weights"] = need_weights
        (expected, _, reference, _), (y, _, found, _) = compared(layer, ready, inputs, given, torch.float32)
        assert is_prepared_pass(y)
        torch.testing.assert_close(y.float(), expected.float(), rtol=0.01, atol=0.005)
        found, reference = ({name: gradient.float() for name, gradient in of.items()} for of in (found, reference))
        assert_near(found, reference, 0.02 if format == "binary16" else 0.2)


def test_an_empty_batch():
    ready = prepare(nn.MultiheadAttention(WIDTH, HEADS))
    x = torch.randn(KEYS, 0, WIDTH)
    for need_weights in (False, True):
        with torch.autocast("cpu", dtype=torch.float16):
            y, _ = ready(x, x, x, attn_mask=causal(KEYS), need_weights=need_weights)
        y.float().sum().backward()
        assert y.shape == x.shape and (ready.in_proj_weight.grad == 0.0).all()


class Translates(nn.Module):
    """A transformer of both kinds of layer."""

    def __init__(self):
        super().__init__()
        options = {"dim_feedforward": 32, "dropout": 0.0, "batch_first": True}
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(WIDTH, HEADS, **options), 2)
        self.decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(WIDTH, HEADS, norm_first=True, **options), 2)

    def forward(self, x, y, is_padded):
        memory = self.encoder(x, src_key_padding_mask=is_padded)
        mask = nn.Transformer.generate_square_subsequent_mask(y.shape[1])
        return self.decoder(y, memory, tgt_mask=mask, tgt_is_causal=True, memory_key_padding_mask=is_padded)


def test_layers_of_a_transformer():
    """The scales that its projections have of their own let it be trained where a loss is far too small for one scale."""
    model = Translates()
    ready = prepare(copy.deepcopy(model))
    assert unprepared(ready) == []
    x, y, is_padded = torch.randn(BATCH, KEYS, WIDTH), torch.randn(BATCH, QUERIES, WIDTH), padding()
    model(x, y, is_padded).pow(2).mean().backward()
    scaler, optimizer = GradScaler("cpu", init_scale=1.0), torch.optim.SGD(ready.parameters(), lr=0.0)
    for _ in range(3):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.float16):
            loss = ready(x, y, is_padded).float().pow(2).mean() * 1.0e-7
        scaler.scale(loss).backward()
        found = {name: gradient * 1.0e7 for name, gradient in gradients(ready).items()}
        scaler.step(optimizer)
        scaler.update()
    for name, expected in gradients(model).items():
        if name.endswith("in_proj_bias"):
            continue
        assert (found[name] - expected).norm() < 0.05 * expected.norm(), name
    report = scaler.report()
    names = {f"encoder.layers.0.self_attn.{part}" for part in ("in_proj", "out_proj")}
    names |= {f"decoder.layers.1.multihead_attn.{part}" for part in ("kv_proj", "kv_proj.input", "q_proj.input")}
    assert names <= report.scales.keys() and report.overflowed == {}
    assert not any(kind.startswith(("Addmm", "Mm", "Linear")) for kind in report.uncovered), report.uncovered


def test_evaluation_takes_the_fast_path():
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(WIDTH, HEADS, dropout=0.0, batch_first=True), 2).eval()
    ready = prepare(copy.deepcopy(model))
    x = torch.randn(BATCH, KEYS, WIDTH)
    with torch.no_grad(), torch.profiler.profile() as profile:
        y = ready(x, src_key_padding_mask=padding())
    assert any("transformer_encoder_layer_fwd" in event.key for event in profile.key_averages())
    with torch.no_grad():
        torch.testing.assert_close(y, model(x, src_key_padding_mask=padding()))
        alone = ready.layers[0].self_attn
        with torch.profiler.profile() as profile:
            alone(x, x, x)
    assert any("native_multi_head_attention" in event.key for event in profile.key_averages())


class Renamed(nn.MultiheadAttention):
    """A user's own, with another constructor."""

    def __init__(self):
        super().__init__(WIDTH, HEADS)


@pytest.mark.parametrize("make", [lambda: nn.MultiheadAttention(WIDTH, HEADS), Renamed])
def test_it_is_copied_saved_and_made_plain_again(make):
    layer = make()
    ready = prepare(copy.deepcopy(layer))
    assert isinstance(ready, MultiheadAttention) and isinstance(ready, type(layer)) and unprepared(ready) == []
    inputs = inputs_of(layer, 1)
    _, (y, _, found, _) = compared(layer, ready, inputs, {})
    file = io.BytesIO()
    torch.save(ready, file)
    file.seek(0)
    for other in (copy.deepcopy(ready), torch.load(file, weights_only=False)):
        assert type(other) is type(ready)
        _, (same, _, same_found, _) = compared(layer, other, inputs, {})
        assert (same == y).all()
        assert_near(same_found, found, 1.0e-6)
    layer.load_state_dict(ready.state_dict())
    unprepare(ready)
    assert type(ready) is type(layer) and type(ready.out_proj) is type(layer.out_proj)
    assert not hasattr(ready, "adaloss_site") and not hasattr(ready.out_proj, "adaloss_site")


def test_a_projection_that_is_called_for_itself_has_a_name_of_its_own():
    model = prepare(
        nn.ModuleDict({"first": nn.MultiheadAttention(WIDTH, HEADS), "second": nn.MultiheadAttention(WIDTH, HEADS)})
    )
    x = torch.randn(KEYS, BATCH, WIDTH, requires_grad=True)
    scaler = GradScaler("cpu")
    with torch.autocast("cpu", dtype=torch.float16):
        y = model["second"](model["first"](x, x, x)[0], x, x)[0]
        loss = model["first"].out_proj(y).float().pow(2).sum()
    scaler.scale(loss).backward()
    scaler.step(torch.optim.SGD(model.parameters(), lr=0.0))
    scaler.update()
    names = scaler.report().scales.keys()
    assert {"first.out_proj", "first.out_proj (2)", "second.out_proj", "first.in_proj", "second.kv_proj"} <= names


def test_attention_is_not_watched():
    model = nn.ModuleDict({"attention": nn.MultiheadAttention(WIDTH, HEADS), "linear": nn.Linear(WIDTH, 2)})
    for of in (model, prepare(model)):
        seen = watch(of)
        assert list(seen.unwatched) == ["attention"] and "attention  not watched" in seen.table()
        seen.close()
