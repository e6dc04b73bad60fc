import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ccln.model import CCLN, PARTS, LossConfig, ModelConfig, Output, Part, supervised_loss
from ccln.model.attention import GuidedAttention
from ccln.model.enhancement import ForegroundEventEnhancement
from ccln.model.interaction import Fusion, SelfConstrainedBimodalInteraction

SMALL = ModelConfig(
    visual_height=2,
    visual_width=3,
    visual_channels=8,
    audio_channels=6,
    class_count=4,
    segment_count=5,
    width=16,
    heads=2,
    embedding_width=8,
)
ABLATIONS: list[tuple[Part, ...]] = [
    chosen for count in range(len(PARTS) + 1) for chosen in itertools.combinations(PARTS, count)
]

each_ablation = pytest.mark.parametrize("without", ABLATIONS, ids=lambda parts: "-".join(parts) or "whole")


@pytest.fixture(autouse=True)
def one_core():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def network(config: ModelConfig = SMALL, seed: int = 0) -> CCLN:
    torch.manual_seed(seed)
    return CCLN(config)


def clips(config: ModelConfig = SMALL, count: int = 4, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Random features of ``count`` clips: visual and audio."""
    random = torch.Generator().manual_seed(seed)
    shape = (config.visual_height, config.visual_width, config.visual_channels)
    visual = torch.randn(count, config.segment_count, *shape, generator=random)
    return visual, torch.randn(count, config.segment_count, config.audio_channels, generator=random)


def truth(config: ModelConfig = SMALL, count: int = 4) -> tuple[Tensor, Tensor]:
    """Event segments and labels: every second segment of all clips but the last, which has no event."""
    event = (torch.arange(config.segment_count) % 2).float().repeat(count, 1)
    event[-1] = 0
    labels = torch.arange(count) % config.class_count
    labels[-1] = -1
    return event, labels


def total_loss(output: Output, config: ModelConfig = SMALL) -> Tensor:
    event, labels = truth(config, len(output.event_logits))
    return supervised_loss(output, event, labels, LossConfig())["total"]


def tensors(output: Output) -> dict[str, Tensor]:
    found = {name: value for name, value in output._asdict().items() if isinstance(value, Tensor)}
    if output.embeddings is not None:
        for view, pair in output.embeddings._asdict().items():
            found |= {f"{view}_audio": pair[0], f"{view}_visual": pair[1]}
    return found


def results_of(module: nn.Module) -> list[Tensor]:
    """What a module returns from now on, call after call."""
    results: list[Tensor] = []

    def note(_module: nn.Module, _inputs: object, result: Tensor) -> None:
        results.append(result)

    module.register_forward_hook(note)
    return results


# --- Shapes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(
    ("height", "width", "channels", "audio_channels", "classes", "segments"),
    [(7, 7, 512, 128, 28, 10), (1, 1, 5, 1, 1, 1), (4, 6, 32, 64, 2, 3), (1, 9, 1, 7, 5, 12)],
)
def test_outputs_have_the_shapes_that_the_config_says(
    height: int, width: int, channels: int, audio_channels: int, classes: int, segments: int, batch: int
):
    config = ModelConfig(height, width, channels, audio_channels, classes, segments, width=32, embedding_width=12)
    output = network(config)(*clips(config, batch))
    assert output.event_logits.shape == (batch, segments)
    assert output.class_logits.shape == (batch, classes)
    assert output.heard_logits.shape == output.seen_logits.shape == (batch, segments, classes)
    assert output.attention.shape == (batch, segments, height, width)
    assert output.gate.shape == (batch, config.heads, segments, segments)
    assert output.foreground_logits.shape == (batch, segments)
    assert output.enhanced.shape == (batch, segments, config.width)
    assert output.embeddings is not None
    for vectors in (*output.embeddings.backbone, *output.embeddings.branch):
        assert vectors.shape == (batch, 12)
        torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(batch))
    assert all(torch.isfinite(tensor).all() for tensor in tensors(output).values())


def test_embeddings_are_for_training_only():
    assert network().train()(*clips()).embeddings is not None
    assert network().eval()(*clips()).embeddings is None


@pytest.mark.parametrize(
    ("visual_shape", "audio_shape"),
    [
        ((4, 5, 2, 3, 8), (4, 5, 7)),
        ((4, 5, 2, 3, 8), (4, 6, 6)),
        ((4, 5, 2, 3, 8), (3, 5, 6)),
        ((4, 5, 2, 3, 8), (4, 6)),
        ((4, 5, 3, 2, 8), (4, 5, 6)),
        ((4, 5, 2, 3, 9), (4, 5, 6)),
        ((4, 9, 2, 3, 8), (4, 9, 6)),
        ((5, 2, 3, 8), (5, 6)),
        ((), (4, 5, 6)),
    ],
)
def test_features_of_another_shape_are_refused(visual_shape: tuple[int, ...], audio_shape: tuple[int, ...]):
    with pytest.raises(ValueError, match=r"this network reads \(batch, 5, 2, 3, 8\) and \(batch, 5, 6\)"):
        network()(torch.zeros(visual_shape), torch.zeros(audio_shape))


@pytest.mark.parametrize(
    "change",
    [
        {"visual_height": 0},
        {"audio_channels": -1},
        {"class_count": 2.0},
        {"segment_count": True},
        {"width": 18},
        {"heads": 3},
        {"dropout": 1.0},
        {"dropout": -0.1},
        {"dropout": float("nan")},
        {"channel_dropout": 1.0},
        {"branch_noise": float("inf")},
        {"foreground_gain": float("nan")},
        {"foreground_gain": "0.3"},
        {"without": ("lstm",)},
    ],
)
def test_a_config_that_cannot_work_is_refused_by_name(change: dict[str, object]):
    with pytest.raises(ValueError, match=next(iter(change))):
        replace(SMALL, **change)


def test_the_order_of_the_parts_left_out_does_not_matter():
    assert replace(SMALL, without=("wccl", "sbi", "wccl")) == replace(SMALL, without=("sbi", "wccl"))


# --- Ablation ---------------------------------------------------------------------------------------------------------


@each_ablation
def test_every_ablation_trains_a_step(without: tuple[Part, ...]):
    model = network(replace(SMALL, without=without)).train()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)  # no weight decay, which would move idle parameters too
    event, labels = truth()
    losses = supervised_loss(model(*clips()), event, labels, LossConfig())
    assert losses.keys() == {"event", "class", "modality", "total"} | ({"fee", "wccl"} - set(without))
    before = [parameter.detach().clone() for parameter in model.parameters()]
    losses["total"].backward()
    optimizer.step()
    after = list(model.parameters())
    assert all(torch.isfinite(parameter).all() for parameter in after)
    assert all(not torch.equal(old, new) for old, new in zip(before, after, strict=True))


@each_ablation
def test_an_ablation_leaves_out_that_part_and_nothing_else(without: tuple[Part, ...]):
    prefixes = {"sbi": "interaction.gate_", "fee": "enhancement.", "wccl": "branch."}
    whole = {name for name, _ in CCLN(SMALL).named_parameters()}
    left = {name for name, _ in CCLN(replace(SMALL, without=without)).named_parameters()}
    assert left == {name for name in whole if not name.startswith(tuple(prefixes[part] for part in without))}
    assert all(any(name.startswith(prefix) for name in whole) for prefix in prefixes.values())


def test_without_fee_the_joint_view_reaches_the_heads_as_it_is():
    model = network(replace(SMALL, without=("fee",))).eval()
    integrated = results_of(model.integration)
    output = model(*clips())
    assert torch.equal(output.enhanced, integrated[0])
    assert output.foreground_logits is output.event_logits


def test_without_wccl_there_are_no_embeddings():
    assert network(replace(SMALL, without=("wccl",))).train()(*clips()).embeddings is None


def test_without_sbi_each_modality_attends_to_the_other_plainly():
    audio, visual, fused = views(seed=3)
    for parameter_seed in range(3):
        module = interaction(parameter_seed, constrained=False)
        heard, seen, gate = module(audio, visual, fused)
        assert torch.equal(gate, torch.ones_like(gate))
        expected_heard, expected_seen = reference_interaction(module, audio, visual, fused, constrained=False)
        np.testing.assert_allclose(heard.detach(), expected_heard, atol=1e-5)
        np.testing.assert_allclose(seen.detach(), expected_seen, atol=1e-5)


# --- The parts against their formulas ---------------------------------------------------------------------------------


def test_attention_weights_are_shares_of_the_regions():
    output = network()(*clips())
    assert (output.attention >= 0).all()
    torch.testing.assert_close(output.attention.sum((-2, -1)), torch.ones(4, 5))


def test_the_sound_decides_where_the_network_looks():
    visual, audio = clips()
    model = network().eval()
    before, after = model(visual, audio).attention, model(visual, audio.roll(1, 0)).attention
    assert not torch.allclose(before, after, atol=1e-4)


def test_attention_moves_with_the_regions():
    visual, audio = clips()
    model = network().eval()
    output, mirrored = model(visual, audio), model(visual.flip(3), audio)
    torch.testing.assert_close(mirrored.attention, output.attention.flip(3))
    torch.testing.assert_close(mirrored.event_logits, output.event_logits)  # what is seen counts, not where


def views(count: int = 3, segments: int = 6, width: int = 16, seed: int = 0, scale: float = 1.0) -> list[Tensor]:
    """Audio, visual and fused view."""
    random = torch.Generator().manual_seed(seed)
    return [scale * torch.randn(count, segments, width, generator=random) for _ in range(3)]


def interaction(seed: int = 0, constrained: bool = True) -> SelfConstrainedBimodalInteraction:
    torch.manual_seed(seed)
    module = SelfConstrainedBimodalInteraction(16, 2, 0.2, constrained=constrained).eval()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)  # biases and norms too, so that none of them is idle
    return module


def linear(layer: nn.Linear, x: np.ndarray) -> np.ndarray:
    assert layer.bias is not None
    return x @ layer.weight.detach().double().numpy().T + layer.bias.detach().double().numpy()


def layer_norm(layer: nn.LayerNorm, x: np.ndarray) -> np.ndarray:
    centred = x - x.mean(-1, keepdims=True)
    normal = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + layer.eps)
    return normal * layer.weight.detach().double().numpy() + layer.bias.detach().double().numpy()


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def strong_rows(passed: np.ndarray) -> np.ndarray:
    """Rows to sum one, entries under half the uniform weight cut, rows to sum one again; rows of zeros stay so."""
    rows = np.zeros_like(passed)
    for index in np.ndindex(passed.shape[:-1]):
        row = passed[index]
        if row.sum() > 0:
            row = row / row.sum()
            row = np.where(row > 0.5 / len(row), row, 0)
            rows[index] = row / row.sum()
    return rows


def softmax(x: np.ndarray) -> np.ndarray:
    powers = np.exp(x - x.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def reference_interaction(
    module: SelfConstrainedBimodalInteraction, audio: Tensor, visual: Tensor, fused: Tensor, constrained: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """a' and v' of SBI's docstring, in float64, a head and a clip at a time."""
    a, v, f = (view.double().numpy() for view in (audio, visual, fused))
    width = a.shape[-1]
    share = width // module.heads
    taken_by_audio, taken_by_visual = np.zeros_like(a), np.zeros_like(v)
    for clip, head in np.ndindex(len(a), module.heads):
        part = slice(head * share, (head + 1) * share)

        def pairs(rows: nn.Linear, columns: nn.Linear, x: np.ndarray, y: np.ndarray, part: slice = part) -> np.ndarray:
            return linear(rows, x)[:, part] @ linear(columns, y)[:, part].T / np.sqrt(share)

        correlation = pairs(module.visual_query, module.audio_key, v[clip], a[clip])
        if constrained:
            bias = module.gate_bias[head].item()
            gate = sigmoid(pairs(module.gate_row, module.gate_column, f[clip], f[clip]) + bias)
            passed = np.maximum(correlation, 0) * gate
            to_visual, to_audio = strong_rows(passed), strong_rows(passed.T)
        else:
            to_visual, to_audio = softmax(correlation), softmax(correlation.T)
        taken_by_visual[clip, :, part] = to_visual @ linear(module.audio_value, a[clip])[:, part]
        taken_by_audio[clip, :, part] = to_audio @ linear(module.visual_value, v[clip])[:, part]
    return layer_norm(module.audio_norm, a + taken_by_audio), layer_norm(module.visual_norm, v + taken_by_visual)


@pytest.mark.parametrize("seed", range(4))
def test_interaction_is_the_formula_of_its_docstring(seed: int):
    audio, visual, fused = views(seed=seed)
    module = interaction(seed)
    heard, seen, _ = module(audio, visual, fused)
    expected_heard, expected_seen = reference_interaction(module, audio, visual, fused)
    np.testing.assert_allclose(heard.detach(), expected_heard, atol=1e-5)
    np.testing.assert_allclose(seen.detach(), expected_seen, atol=1e-5)


def used_weights(module: SelfConstrainedBimodalInteraction, inputs: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Gamma' and Gamma, each (batch, head, segment, segment): with one-hot values, what is taken is the weights."""
    taken: list[Tensor] = []

    def one_hot(_module: nn.Module, _inputs: object, result: Tensor) -> Tensor:
        count, segments, width = result.shape
        return torch.eye(segments, width // module.heads).repeat(count, 1, module.heads)

    hooks = [layer.register_forward_hook(one_hot) for layer in (module.audio_value, module.visual_value)]
    hooks.append(module.dropout.register_forward_pre_hook(lambda _module, inputs: taken.append(inputs[0])))
    module(*inputs)
    for hook in hooks:
        hook.remove()
    segments = inputs[0].shape[1]
    to_audio, to_visual = (x.unflatten(-1, (module.heads, -1)).transpose(1, 2)[..., :segments] for x in taken)
    return to_audio, to_visual


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10**6), segments=st.integers(1, 8), scale=st.sampled_from([0.0, 1e-20, 1e-4, 1.0, 30.0, 1e4])
)
def test_interaction_uses_only_strong_weights_that_sum_to_one(seed: int, segments: int, scale: float):
    with torch.no_grad():
        for weights in used_weights(interaction(seed), views(2, segments, seed=seed, scale=scale)):
            assert ((weights == 0) | (weights > 0.4999 / segments)).all()
            sums = weights.sum(-1)
            assert ((sums == 0) | ((sums - 1).abs() < 1e-5)).all()


def test_interaction_cuts_weak_and_contradicted_pairs():
    with torch.no_grad():
        weights = used_weights(interaction(), views())[1]
    assert (weights == 0).any()
    assert (weights > 0).any()


def test_the_gate_lies_between_shut_and_open():
    for scale in (1.0, 100.0):
        gate = interaction()(*views(scale=scale))[2]
        assert gate.shape == (3, 2, 6, 6)
        assert ((gate >= 0) & (gate <= 1)).all()
    assert interaction()(*views())[2].std() > 0.01


def contradicted() -> SelfConstrainedBimodalInteraction:
    """An interaction in which every correlation is below zero."""
    module = interaction()
    with torch.no_grad():
        for layer, bias in ((module.visual_query, 1.0), (module.audio_key, -1.0)):
            layer.weight.zero_()
            layer.bias.fill_(bias)
    return module


def test_where_nothing_passes_each_modality_stays_itself():
    module = contradicted()
    audio, visual, fused = views()
    heard, seen, _ = module(audio, visual, fused)
    torch.testing.assert_close(heard, module.audio_norm(audio))
    torch.testing.assert_close(seen, module.visual_norm(visual))


def test_gradients_stay_finite_where_nothing_passes():
    module = contradicted()
    inputs = [view.requires_grad_() for view in views()]
    heard, seen, _ = module(*inputs)
    (1e4 * (heard * inputs[2].detach() + seen * inputs[2].detach())).sum().backward()
    for parameter in (*inputs, *module.parameters()):
        assert parameter.grad is None or torch.isfinite(parameter.grad).all()


def test_fusion_is_the_formula_of_its_docstring():
    torch.manual_seed(0)
    module = Fusion(16)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    audio, visual, _ = views()
    a, v = audio.double().numpy(), visual.double().numpy()
    product = linear(module.audio_factor, a) * linear(module.visual_factor, v)
    expected = layer_norm(module.norm, linear(module.sum, np.concatenate([a, v], -1)) + product)
    np.testing.assert_allclose(module(audio, visual).detach(), expected, atol=1e-5)


@pytest.mark.parametrize("gain", [0.0, 0.3, 2.0])
def test_enhancement_is_the_formula_of_its_docstring(gain: float):
    torch.manual_seed(0)
    integrated = views()[0]
    enhanced, logits = ForegroundEventEnhancement(16, gain)(integrated)
    weight = sigmoid(logits.detach().double().numpy())[..., None]
    assert logits.shape == (3, 6)
    assert logits.std() > 1e-3
    np.testing.assert_allclose(
        enhanced.detach(), integrated.double().numpy() * (1 + gain * weight), rtol=1e-5, atol=1e-6
    )


def test_the_network_uses_the_gain_of_its_config():
    model = network(replace(SMALL, foreground_gain=0.0)).eval()
    integrated = results_of(model.integration)
    assert torch.equal(model(*clips()).enhanced, integrated[0])


# --- What may depend on what ------------------------------------------------------------------------------------------


@each_ablation
def test_a_clip_is_read_alike_in_any_company(without: tuple[Part, ...]):
    model = network(replace(SMALL, without=without)).eval()
    visual, audio = clips(count=5)
    together = tensors(model(visual, audio))
    for index in range(5):
        for name, value in tensors(model(visual[index : index + 1], audio[index : index + 1])).items():
            torch.testing.assert_close(value[0], together[name][index], rtol=1e-4, atol=1e-5, msg=name)
    strangers_visual, strangers_audio = clips(count=5, seed=1)
    strangers_visual[2], strangers_audio[2] = visual[2], audio[2]
    for name, value in tensors(model(100 * strangers_visual, strangers_audio)).items():
        assert torch.isfinite(value).all(), name
    strangers_visual[:2] *= 100
    for name, value in tensors(model(strangers_visual, strangers_audio)).items():
        torch.testing.assert_close(value[2], together[name][2], rtol=1e-4, atol=1e-5, msg=name)


def test_what_is_heard_does_not_depend_on_the_picture():
    model = network().eval()
    visual, audio = clips()
    before, after = model(visual, audio), model(clips(seed=1)[0], audio)
    assert torch.equal(before.heard_logits, after.heard_logits)
    assert not torch.allclose(before.seen_logits, after.seen_logits, atol=1e-3)
    assert not torch.allclose(before.event_logits, after.event_logits, atol=1e-3)


def test_what_is_seen_depends_on_the_sound_through_attention_only():
    model = network().eval()
    visual, audio = clips()
    other_sound = clips(seed=1)[1]
    assert not torch.allclose(model(visual, audio).seen_logits, model(visual, other_sound).seen_logits, atol=1e-3)
    looked_at = model.attention(visual, audio)
    model.attention.register_forward_hook(lambda _module, _inputs, _result: looked_at)
    assert torch.equal(model(visual, audio).seen_logits, model(visual, other_sound).seen_logits)


# --- Training ---------------------------------------------------------------------------------------------------------


@each_ablation
def test_the_total_loss_reaches_every_parameter(without: tuple[Part, ...]):
    config = replace(SMALL, without=without)
    model = network(config).train()
    total_loss(model(*clips(count=8)), config).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("scale", [0.0, 1e-6, 1e4])
def test_silence_darkness_and_glare_stay_finite(scale: float):
    model = network().train()
    visual, audio = clips()
    output = model(scale * visual, scale * audio)
    assert all(torch.isfinite(tensor).all() for tensor in tensors(output).values())
    total_loss(output).backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters() if parameter.grad is not None)


def test_evaluation_is_deterministic_and_leaves_the_random_state_alone():
    model = network().eval()
    state = torch.get_rng_state()
    first, second = tensors(model(*clips())), tensors(model(*clips()))
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(first[name], second[name]) for name in first)


def trained(seed: int, steps: int = 3) -> dict[str, Tensor]:
    model = network(seed=seed).train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        total_loss(model(*clips())).backward()
        optimizer.step()
    return model.state_dict()


def test_training_repeats_itself_with_the_same_seed():
    first, second, other = trained(7), trained(7), trained(8)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_dropout_and_noise_act_in_training_only():
    model = network().train()
    first, second = tensors(model(*clips())), tensors(model(*clips()))
    assert not torch.equal(first["event_logits"], second["event_logits"])
    quiet = network(replace(SMALL, dropout=0.0, channel_dropout=0.0, branch_noise=0.1)).train()
    first, second = tensors(quiet(*clips())), tensors(quiet(*clips()))
    assert {name for name in first if not torch.equal(first[name], second[name])} == {"branch_audio", "branch_visual"}


def test_the_branch_is_undisturbed_outside_training():
    branch = network().eval().branch
    assert branch is not None
    visual, audio = clips()
    views_of_branch = [branch(audio, visual.mean((2, 3)), torch.ones(4, 5)) for _ in range(2)]
    assert torch.equal(views_of_branch[0][0], views_of_branch[1][0])
    assert torch.equal(views_of_branch[0][1], views_of_branch[1][1])


def seen_and_heard_problem(count: int, config: ModelConfig, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Clips whose class shows in one region and sounds, each at its own random seconds; event = seen AND heard.

    Returns visual, audio, whether seen (clip, segment), whether heard (clip, segment), labels.
    """
    random = np.random.default_rng(seed)
    marks = np.eye(config.visual_channels)[: config.class_count], np.eye(config.audio_channels)[: config.class_count]
    classes = random.integers(config.class_count, size=count)
    seen, heard = random.random((2, count, config.segment_count)) < 0.5
    shape = (count, config.segment_count, config.visual_height, config.visual_width, config.visual_channels)
    visual = random.normal(scale=0.3, size=shape)
    audio = random.normal(scale=0.3, size=(*shape[:2], config.audio_channels))
    for clip, segment in np.ndindex(count, config.segment_count):
        row, column = random.integers(config.visual_height), random.integers(config.visual_width)
        visual[clip, segment, row, column] += 3.0 * seen[clip, segment] * marks[0][classes[clip]]
        audio[clip, segment] += 3.0 * heard[clip, segment] * marks[1][classes[clip]]
    labels = np.where((seen & heard).any(1), classes, -1)
    return (
        torch.tensor(visual, dtype=torch.float32),
        torch.tensor(audio, dtype=torch.float32),
        torch.tensor(seen),
        torch.tensor(heard),
        torch.tensor(labels),
    )


def test_learns_what_neither_modality_knows_alone():
    config = replace(SMALL, class_count=2, width=32, dropout=0.1)
    visual, audio, seen, heard, labels = seen_and_heard_problem(64, config, seed=0)
    event = seen & heard
    for alone in (seen, heard):  # the best rule on one of the two: take the commoner answer for each of its values
        best = sum(max((event == answer)[alone == value].sum().item() for answer in (0, 1)) for value in (0, 1))
        assert best / event.numel() < 0.8
    model = network(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    for _ in range(80):
        optimizer.zero_grad()
        supervised_loss(model(visual, audio), event.float(), labels, LossConfig())["total"].backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    with torch.inference_mode():
        output = model.eval()(visual, audio)
    background = config.class_count
    predicted = torch.where(output.event_logits > 0, output.class_logits.argmax(1)[:, None], background)
    assert (predicted == torch.where(event, labels[:, None], background)).float().mean() > 0.95


def test_a_dropped_visual_channel_is_dropped_in_every_second_of_a_clip():
    attention = GuidedAttention(6, 3, 8, channel_dropout=0.5).train()
    visual, audio = torch.randn(16, 5, 2, 2, 6), torch.randn(16, 5, 3)
    attended, _ = attention(visual, audio)  # (clip, segment, channel)
    dropped = attended == 0
    assert torch.equal(dropped.any(1), dropped.all(1))
    assert 0.3 < dropped.all(1).float().mean() < 0.7
    assert not (attention.eval()(visual, audio)[0] == 0).any()


@each_ablation
def test_what_is_not_left_out_starts_from_the_same_weights(without: tuple[Part, ...]):
    """So that differences between ablations of one seed are those of the parts."""
    whole, ablated = (network(replace(SMALL, without=parts)).state_dict() for parts in ((), without))
    assert ablated.keys() <= whole.keys()
    assert all(torch.equal(whole[name], value) for name, value in ablated.items())
