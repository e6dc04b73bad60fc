"""The network's parts against their formulas."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.networks import SMALL, clips, integrated_and_outputs, members_of, network, results_of
from torch import Tensor, nn

from ccln.model import Part
from ccln.model.network import (
    ClassifyingBranch,
    ForegroundEventEnhancement,
    Fusion,
    SelfConstrainedBimodalInteraction,
)

pytestmark = pytest.mark.usefixtures("one_core")


def test_without_sbi_each_modality_has_plain_attention_to_the_other():
    inputs = views(seed=3)
    for parameter_seed in range(3):
        module = interaction(parameter_seed, constrained=False)
        new_audio, new_visual, gate, _ = module(*inputs)
        assert torch.equal(gate, torch.ones_like(gate))
        expected_audio, expected_visual, _ = reference_interaction(module, inputs, constrained=False)
        np.testing.assert_allclose(new_audio.detach(), expected_audio, atol=1e-5)
        np.testing.assert_allclose(new_visual.detach(), expected_visual, atol=1e-5)


def unit_rows(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def pooled(view: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return np.stack([weights[clip] @ view[clip] / weights[clip].sum() for clip in range(len(view))])


def test_a_members_views_are_those_after_the_interaction_pooled_with_fees_weight():
    model = network(replace(SMALL, dropout=0.0, channel_dropout=0.0)).train()
    found = [results_of(member.interaction) for member in members_of(model)]
    output = model(*clips())
    for member, [(audio, visual, gate, _)], one in zip(members_of(model), found, output.members, strict=True):
        assert one.gate is gate
        assert one.views is not None
        assert one.foreground_logits is not None
        weights = sigmoid(one.foreground_logits.detach().double().numpy())
        layers = (member.audio_projection, member.visual_projection)
        for layer, view, result in zip(layers, (audio, visual), one.views, strict=True):
            assert layer is not None
            expected = unit_rows(linear(layer, pooled(view.detach().double().numpy(), weights)))
            np.testing.assert_allclose(result.detach(), expected, atol=1e-5)


@pytest.mark.parametrize("without", [(), ("fee",)])
def test_a_members_class_is_of_the_joint_view_and_the_evidence_of_event_seconds(without: tuple[Part, ...]):
    model = network(replace(SMALL, without=without)).eval()
    found = [results_of(member.interaction) for member in members_of(model)]
    output = model(*clips())
    for member, [interaction], one in zip(members_of(model), found, output.members, strict=True):
        view, audio, visual = (
            tensor.detach().double().numpy() for tensor in (one.enhanced, one.audio_logits, one.visual_logits)
        )
        # Without FEE no second counts more than another.
        foreground = torch.zeros(view.shape[:2]) if one.foreground_logits is None else one.foreground_logits
        weights = sigmoid(foreground.detach().double().numpy())
        expected = linear(member.class_head, pooled(view, weights)) + pooled(audio + visual, weights)
        np.testing.assert_allclose(one.class_logits.detach(), expected, atol=1e-5)
        event_logits = linear(member.event_head, view)[..., 0] + interaction.event_logits.detach().numpy()
        np.testing.assert_allclose(one.event_logits.detach(), event_logits, atol=1e-5)


def test_the_branchs_views_and_class_logits_are_the_formulas_of_its_docstring():
    torch.manual_seed(0)
    branch = ClassifyingBranch(replace(SMALL, embedding_width=12, branch_noise=0.5, dropout=0.5), 16).eval()
    for parameter in branch.parameters():
        nn.init.normal_(parameter, std=0.5)
    random = torch.Generator().manual_seed(0)
    audio, visual, weights = (torch.randn(3, 5, *shape, generator=random) for shape in ((6,), (8,), ()))
    weights = weights.sigmoid()
    views_of_branch = branch(visual, audio, weights)
    prototypes = unit_rows(branch.prototypes.detach().double().numpy())
    parts = (
        (branch.audio_norm, branch.audio_view[0], branch.audio_projection, audio),
        (branch.visual_norm, branch.visual_view[0], branch.visual_projection, visual),
    )
    for (norm, layer, projection, x), view, logits in zip(
        parts, views_of_branch, branch.class_logits(views_of_branch), strict=True
    ):
        assert isinstance(layer, nn.Linear)
        hidden = np.maximum(linear(layer, layer_norm(norm, x.double().numpy())), 0)
        expected = unit_rows(linear(projection, pooled(hidden, weights.double().numpy())))
        np.testing.assert_allclose(view.detach(), expected, atol=1e-5)
        np.testing.assert_allclose(logits.detach(), branch.scale.item() * expected @ prototypes.T, atol=1e-5)


def test_attention_weights_are_shares_of_the_regions():
    output = network()(*clips())
    assert (output.attention >= 0).all()
    torch.testing.assert_close(output.attention.sum((-2, -1)), torch.ones(4, 5))


def test_visual_attention_depends_on_the_audio():
    visual, audio = clips()
    model = network().eval()
    before, after = model(visual, audio).attention, model(visual, audio.roll(1, 0)).attention
    assert not torch.allclose(before, after, atol=1e-4)


def test_attention_moves_with_the_regions():
    visual, audio = clips()
    model = network().eval()
    output, mirrored = model(visual, audio), model(visual.flip(3), audio)
    torch.testing.assert_close(mirrored.attention, output.attention.flip(3))
    torch.testing.assert_close(
        mirrored.event_logits, output.event_logits
    )  # the content of a region counts, not its position


def views(count: int = 3, segments: int = 6, width: int = 16, seed: int = 0, scale: float = 1.0) -> list[Tensor]:
    """Audio, visual and fused view, and the audio's and the visual evidence for five classes."""
    random = torch.Generator().manual_seed(seed)
    return [scale * torch.randn(count, segments, channels, generator=random) for channels in (width,) * 3 + (5, 5)]


def interaction(seed: int = 0, constrained: bool = True) -> SelfConstrainedBimodalInteraction:
    torch.manual_seed(seed)
    module = SelfConstrainedBimodalInteraction(16, 2, 0.2, constrained=constrained).eval()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)  # biases and norms too, so that each of them has an effect
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


def softmax(x: np.ndarray) -> np.ndarray:
    powers = np.exp(x - x.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def reference_interaction(
    module: SelfConstrainedBimodalInteraction, inputs: list[Tensor], constrained: bool = True
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """a', v' and the share of the event logit of SBI's docstring, in float64, a head and a clip at a time."""
    a, v, f, heard, seen = (view.double().numpy() for view in inputs)
    width = a.shape[-1]
    share = width // module.heads
    taken_by_audio, taken_by_visual = np.zeros_like(a), np.zeros_like(v)
    directions = [sigmoid(x) / np.linalg.norm(sigmoid(x), axis=-1, keepdims=True) for x in (seen, heard)]
    agreement = np.log(np.einsum("btn,bsn->bts", *directions) + 0.05) + 1
    event_logits = np.zeros(a.shape[:2])
    for clip, head in np.ndindex(len(a), module.heads):
        part = slice(head * share, (head + 1) * share)

        def pairs(rows: nn.Linear, columns: nn.Linear, x: np.ndarray, y: np.ndarray, part: slice = part) -> np.ndarray:
            return linear(rows, x)[:, part] @ linear(columns, y)[:, part].T / np.sqrt(share)

        correlation = pairs(module.visual_query, module.audio_key, v[clip], a[clip])
        if constrained:
            bias = module.gate_bias[head].item()
            opened = module.gate_agreement[head].item() * agreement[clip]
            gate = sigmoid(pairs(module.gate_row, module.gate_column, f[clip], f[clip]) + opened + bias)
            event_logits[clip] = module.event_agreement.item() * np.diag(agreement[clip])
        else:
            gate = np.ones_like(correlation)
        to_visual, to_audio = softmax(correlation) * gate, softmax(correlation.T) * gate.T
        taken_by_visual[clip, :, part] = to_visual @ linear(module.audio_value, a[clip])[:, part]
        taken_by_audio[clip, :, part] = to_audio @ linear(module.visual_value, v[clip])[:, part]
    return (
        layer_norm(module.audio_norm, a + taken_by_audio),
        layer_norm(module.visual_norm, v + taken_by_visual),
        event_logits,
    )


@pytest.mark.parametrize("seed", range(4))
def test_interaction_is_the_formula_of_its_docstring(seed: int):
    module, inputs = interaction(seed), views(seed=seed)
    found = module(*inputs)
    for part, expected in zip(
        (found.audio, found.visual, found.event_logits), reference_interaction(module, inputs), strict=True
    ):
        np.testing.assert_allclose(part.detach(), expected, atol=1e-5)


def test_a_class_that_is_seen_and_heard_raises_the_event_and_two_that_differ_do_not():
    torch.manual_seed(0)
    module = SelfConstrainedBimodalInteraction(16, 2, 0.2).eval()
    audio, visual, fused, *_ = views(1, 2)
    heard = torch.tensor([[[9.0, -9.0], [9.0, -9.0]]])
    seen = torch.tensor([[[9.0, -9.0], [-9.0, 9.0]]])
    same, other = module(audio, visual, fused, heard, seen).event_logits[0].tolist()
    assert same > 1 > -1 > other


def test_without_its_constraint_the_interaction_does_not_compare_classes():
    found = interaction(constrained=False)(*views())
    assert (found.event_logits == 0).all()


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
def test_a_second_takes_at_most_the_whole_of_the_other_modality(seed: int, segments: int, scale: float):
    module, inputs = interaction(seed), views(2, segments, seed=seed, scale=scale)
    with torch.no_grad():
        gate = module(*inputs)[2]
        for weights, passes in zip(used_weights(module, inputs), (gate.transpose(-1, -2), gate), strict=True):
            assert (weights >= 0).all()
            assert (weights <= passes + 1e-6).all()  # no pair weighs more than its gate
            assert (weights.sum(-1) < 1 + 1e-5).all()


@pytest.mark.parametrize("bias", [-3.0, 0.0, 2.0])
def test_attention_weights_of_a_second_add_up_to_its_gate(bias: float):
    """A gate that is alike for all pairs scales plain attention: the rows are not normalised again."""
    module, plain, inputs = gated_alike(bias), interaction(constrained=False), views()
    plain.load_state_dict({k: v for k, v in module.state_dict().items() if k in plain.state_dict()})
    with torch.no_grad():
        for weights, whole in zip(used_weights(module, inputs), used_weights(plain, inputs), strict=True):
            torch.testing.assert_close(weights.sum(-1), torch.full((3, 2, 6), bias).sigmoid())
            torch.testing.assert_close(weights, whole * torch.tensor(bias).sigmoid())


def test_the_gate_lies_between_zero_and_one():
    for scale in (1.0, 100.0):
        gate = interaction()(*views(scale=scale))[2]
        assert gate.shape == (3, 2, 6, 6)
        assert ((gate >= 0) & (gate <= 1)).all()
    assert interaction()(*views())[2].std() > 0.01


def gated_alike(bias: float) -> SelfConstrainedBimodalInteraction:
    """An interaction whose gate is sigmoid(bias), whatever it is given."""
    module = interaction()
    with torch.no_grad():
        for layer in (module.gate_row, module.gate_column):
            layer.weight.zero_()
            layer.bias.zero_()
        module.gate_agreement.zero_()
        module.gate_bias.fill_(bias)
    return module


def test_with_a_closed_gate_each_modality_stays_as_it_is():
    module = gated_alike(-1e4)
    audio, visual, *rest = views()
    new_audio, new_visual, *_ = module(audio, visual, *rest)
    torch.testing.assert_close(new_audio, module.audio_norm(audio))
    torch.testing.assert_close(new_visual, module.visual_norm(visual))


def test_gradients_are_finite_with_a_closed_gate():
    module = gated_alike(-1e4)
    inputs = [view.requires_grad_() for view in views()]
    new_audio, new_visual, *_ = module(*inputs)
    (1e4 * (new_audio * inputs[2].detach() + new_visual * inputs[2].detach())).sum().backward()
    for parameter in (*inputs, *module.parameters()):
        assert parameter.grad is None or torch.isfinite(parameter.grad).all()


def test_fusion_is_the_formula_of_its_docstring():
    torch.manual_seed(0)
    module = Fusion(16)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    audio, visual, *_ = views()
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
    for integrated, one in zip(*integrated_and_outputs(model), strict=True):
        assert torch.equal(one.enhanced, integrated)
