"""CCLN on a page: guided attention, an ensemble of event networks, and a branch network.

An independent reading of the abstract of "Listen With Seeing: Cross-Modal Contrastive Learning for Audio-Visual Event
Localization" (Sun et al., IEEE Transactions on Multimedia 2025); its equations are not public, so that every formula
here is our reading unless another source is named. Axes in the order (batch, segment, height, width, channel). In the
comments B is the batch, T the segments (seconds), H, W, C the visual map, D the audio channels, R = H * W the regions,
d the model width, h the heads, n the classes, p the embedding.
"""

from dataclasses import replace
from typing import NamedTuple, Self, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ccln.model.config import ModelConfig
from ccln.model.hub import Pretrained
from ccln.model.layers import Branch, ClipDropout, Standardization, pooled_unit
from ccln.model.texts import CLOSED, ClassHead, Spaces, Texts, joint_space

# --- The parts, in the order of the data ------------------------------------------------------------------------------


class GuidedAttention(nn.Module):
    """The second's audio chooses visual channels, then regions (our reading; after Tian et al. 2018, Xu et al. 2020).

    With V a second's feature map, m its spatial mean and a its audio feature:
    channel gate c = 2 sigmoid(MLP[m; a]), so that an undecided gate changes nothing;
    spatial weights softmax over regions of <q(a), c * LN(V)> / sqrt(C) + <s, LN(V)>, where the learnt s knows what is
    worth a look whatever is heard: from few clips the audio alone does not learn where to look.

    In training whole visual channels are dropped from a clip: a few hundred clips are soon learnt by heart from single
    channels.
    """

    def __init__(self, visual_channels: int, audio_channels: int, width: int, channel_dropout: float = 0.0) -> None:
        super().__init__()
        self.channel_dropout = ClipDropout(channel_dropout)
        self.channel_gate = nn.Sequential(
            nn.Linear(visual_channels + audio_channels, width), nn.ReLU(), nn.Linear(width, visual_channels)
        )
        self.saliency = nn.Parameter(torch.zeros(visual_channels))
        self.query = nn.Sequential(nn.Linear(audio_channels, width), nn.ReLU(), nn.Linear(width, visual_channels))

    def forward(self, visual: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        """Attend.

        Args:
            visual: (batch, segment, height, width, channel).
            audio: (batch, segment, audio channel), standardized.

        Returns:
            The attended visual feature (batch, segment, channel) and the spatial weights (batch, segment, height,
            width); the weights of a segment add up to one.
        """
        height, width = visual.shape[2:4]
        # Without a learnt scale the norm needs no backward pass over the maps, by far the largest tensors here.
        regions = F.layer_norm(visual.flatten(2, 3), visual.shape[-1:])  # (B, T, R, C)
        mask = self.channel_dropout.mask(regions)  # (B, 1, C)
        mean = mask * regions.mean(2)  # (B, T, C)
        gate = mask * 2 * torch.sigmoid(self.channel_gate(torch.cat([mean, audio], -1)))  # (B, T, C)
        # The gate is the same for all regions of a second, so it is applied to the query and to the result, not to V.
        query = gate * self.query(audio) / regions.shape[-1] ** 0.5 + mask * self.saliency  # (B, T, C)
        scores = torch.einsum("btrc,btc->btr", regions, query)  # (B, T, R)
        weights = scores.softmax(-1)  # (B, T, R)
        attended = gate * torch.einsum("btr,btrc->btc", weights, regions)  # (B, T, C)
        return attended, weights.unflatten(-1, (height, width))


class TemporalEncoder(nn.Module):
    """One modality on its own, each second in the light of the others: projection, then a bidirectional LSTM."""

    def __init__(self, channels: int, width: int, dropout: float) -> None:
        super().__init__()
        self.projection = nn.Sequential(nn.Linear(channels, width), nn.ReLU(), ClipDropout(dropout))
        self.recurrent = nn.LSTM(width, width // 2, batch_first=True, bidirectional=True)
        self.norm = nn.LayerNorm(width)
        self.dropout = ClipDropout(dropout)

    def forward(self, features: Tensor) -> Tensor:
        """(batch, segment, channel) -> (batch, segment, width)."""
        projected = self.projection(features)
        return self.dropout(self.norm(projected + self.recurrent(projected)[0]))


class Fusion(nn.Module):
    """The first, noisy joint view: f = LN(W[a; v] + U a * U' v)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.sum = nn.Linear(2 * width, width)
        self.audio_factor = nn.Linear(width, width)
        self.visual_factor = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, audio: Tensor, visual: Tensor) -> Tensor:
        """Two (batch, segment, width) views -> one (batch, segment, width)."""
        product = self.audio_factor(audio) * self.visual_factor(visual)
        return self.norm(self.sum(torch.cat([audio, visual], -1)) + product)


_USUAL_DISAGREEMENT = 1.0
"""Added to the agreement, so that at first it neither opens nor shuts the gate on average."""


class Interaction(NamedTuple):
    """Output of SBI."""

    audio: Tensor
    """a' (batch, segment, width)."""
    visual: Tensor
    """v' (batch, segment, width)."""
    gate: Tensor
    """(batch, head, visual segment, audio segment)."""
    event_logits: Tensor
    """What the agreement of each second adds to its event logit (batch, segment); zero in the ablation."""


class SelfConstrainedBimodalInteraction(nn.Module):
    """SBI: each modality takes from the other only what the fused view lets pass.

    Correlation C = (v Wq)(a Wk)^T / sqrt(d). Gate G = sigmoid((f W1)(f W2)^T / sqrt(d) + b): the fused view constrains
    its own parts. Gamma = softmax(C) * G, row by row; the other direction does the same with the transposed C and G.
    v' = LN(v + Gamma a Wa), a' = LN(a + Gamma' v Wv). Of several heads, each has its own share of d.

    Rows of Gamma add up to one at most, not to one: a second in which nothing fits takes nothing, and how much it takes
    shows the layers after it whether something fitted. A row that is normalised again shows only what fits best.

    The gate is constrained by what the modalities are evidence of, too: the fused view alone does not compare them. The
    class-wise agreement of two seconds is A = log(cos(s, h) + 0.05), s the vector of P(seen c) over the classes c and h
    that of P(heard c), high only where the same is seen and heard. It compares which classes the evidence is for, not
    how strong it is: on clips of new sources, where it is often weak, sum_c P(seen c) P(heard c) separates own from
    foreign sounds less well (docs/experiments.md). A opens the gate of each head by u A with a learnt u, and A of each
    second with itself is the interaction's own share of the event logit, times a learnt scale.

    ``constrained=False`` is the ablation: G = 1, plain softmax attention, and no agreement.
    """

    smallest_agreement = 0.05
    """Added to the cosine before its logarithm: nothing that is heard can be surer not to be seen."""

    def __init__(self, width: int, heads: int, dropout: float, constrained: bool = True) -> None:
        super().__init__()
        self.heads = heads
        self.constrained = constrained
        self.visual_query = nn.Linear(width, width)
        self.audio_key = nn.Linear(width, width)
        if constrained:
            self.gate_row = nn.Linear(width, width)
            self.gate_column = nn.Linear(width, width)
            self.gate_bias = nn.Parameter(torch.zeros(heads, 1, 1))
            self.gate_agreement = nn.Parameter(torch.full((heads, 1, 1), 0.5))
            self.event_agreement = nn.Parameter(torch.tensor(1.0))
        self.audio_value = nn.Linear(width, width)
        self.visual_value = nn.Linear(width, width)
        self.audio_norm = nn.LayerNorm(width)
        self.visual_norm = nn.LayerNorm(width)
        self.dropout = ClipDropout(dropout)

    def forward(
        self, audio: Tensor, visual: Tensor, fused: Tensor, audio_logits: Tensor, visual_logits: Tensor
    ) -> Interaction:
        """Interact.

        Args:
            audio: (batch, segment, width).
            visual: (batch, segment, width).
            fused: (batch, segment, width), the joint view that makes the gate.
            audio_logits: (batch, segment, class), evidence for each class in the audio alone.
            visual_logits: (batch, segment, class), in the frames alone.
        """
        event_logits = audio.new_zeros(audio.shape[:2])
        correlation = self._pairs(self.visual_query(visual), self.audio_key(audio))  # (B, h, T, T)
        if self.constrained:
            agreement = self._agreement(audio_logits, visual_logits)  # (B, T, T)
            constraint = self._pairs(self.gate_row(fused), self.gate_column(fused))  # (B, h, T, T)
            # The gate reads the evidence and does not train it: WCCL, which comes after it, leaves the heads alone.
            opened = self.gate_agreement * agreement.detach()[:, None]  # (B, h, T, T)
            gate = torch.sigmoid(constraint + opened + self.gate_bias)
            event_logits = self.event_agreement * agreement.diagonal(dim1=1, dim2=2)  # (B, T)
        else:
            gate = torch.ones_like(correlation)
        to_visual = correlation.softmax(-1) * gate
        to_audio = (correlation.softmax(-2) * gate).transpose(-1, -2)
        taken_by_visual = self._merge(to_visual @ self._split(self.audio_value(audio)))  # (B, T, d)
        taken_by_audio = self._merge(to_audio @ self._split(self.visual_value(visual)))  # (B, T, d)
        return Interaction(
            self.audio_norm(audio + self.dropout(taken_by_audio)),
            self.visual_norm(visual + self.dropout(taken_by_visual)),
            gate,
            event_logits,
        )

    def _agreement(self, audio_logits: Tensor, visual_logits: Tensor) -> Tensor:
        seen, heard = (F.normalize(torch.sigmoid(x), dim=-1, eps=1e-6) for x in (visual_logits, audio_logits))
        return torch.log(seen @ heard.mT + self.smallest_agreement) + _USUAL_DISAGREEMENT  # (B, T, T)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, T, d) -> (B, h, T, d/h)

    def _merge(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2).flatten(2)  # (B, h, T, d/h) -> (B, T, d)

    def _pairs(self, rows: Tensor, columns: Tensor) -> Tensor:
        rows, columns = self._split(rows), self._split(columns)
        return rows @ columns.transpose(-1, -2) / rows.shape[-1] ** 0.5  # (B, h, T, T)


class Integration(nn.Module):
    """The joint view attends to both modalities and to its own past and future (attention, residual, feed-forward)."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, dropout, batch_first=True)
        self.attention_norm = nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), ClipDropout(dropout), nn.Linear(2 * width, width)
        )
        self.feed_forward_norm = nn.LayerNorm(width)
        self.dropout = ClipDropout(dropout)

    def forward(self, fused: Tensor, audio: Tensor, visual: Tensor) -> Tensor:
        """Three (batch, segment, width) views -> one (batch, segment, width)."""
        context = torch.cat([audio, visual, fused], 1)  # (B, 3T, d)
        attended, _ = self.attention(fused, context, context, need_weights=False)  # (B, T, d)
        view = self.attention_norm(fused + self.dropout(attended))
        return self.feed_forward_norm(view + self.dropout(self.feed_forward(view)))


class ForegroundEventEnhancement(nn.Module):
    """FEE: an adaptive weight of each second, w = sigmoid(MLP(g)), raises event seconds: g' = g (1 + alpha w).

    The distance that it keeps in training between event and background is `ccln.model.losses.scene_distance_loss`.
    """

    def __init__(self, width: int, gain: float) -> None:
        super().__init__()
        self.gain = gain
        self.weigh = nn.Sequential(nn.Linear(width, width // 2), nn.ReLU(), nn.Linear(width // 2, 1))

    def forward(self, integrated: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, segment, width) -> g' (batch, segment, width) and the logits of w (batch, segment)."""
        logits = self.weigh(integrated)  # (B, T, 1)
        return integrated * (1 + self.gain * torch.sigmoid(logits)), logits.squeeze(-1)


# --- One member: the paper's backbone network -------------------------------------------------------------------------


class MemberOutput(NamedTuple):
    """Output of one ensemble member."""

    event_logits: Tensor
    """Whether the second is event (batch, segment)."""
    class_logits: Tensor
    """Class of the clip's event (batch, class), from the joint view and the two modalities' own evidence, all pooled
    over time alike."""
    segment_class_logits: Tensor | None
    """The same of each second on its own, not pooled (batch, segment, class); None in training."""
    audio_logits: Tensor
    """Evidence for each class in the second's audio alone (batch, segment, class)."""
    visual_logits: Tensor
    """Evidence for each class in the second's attended frames (batch, segment, class)."""
    gate: Tensor
    """SBI's gate (batch, head, visual segment, audio segment)."""
    foreground_logits: Tensor | None
    """FEE's adaptive weight before its sigmoid (batch, segment); None where there is no FEE."""
    enhanced: Tensor
    """The joint view that the heads read (batch, segment, width)."""
    views: tuple[Tensor, Tensor] | None
    """The audio and the visual view after the interaction, pooled over time, for WCCL to compare: unit vectors (batch,
    embedding); None without WCCL, and outside training."""


class EventNetwork(nn.Module):
    """From attended features to events: encoding, fusion, interaction, integration, enhancement, heads."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width, dropout = config.width, config.dropout
        self.audio_encoder = TemporalEncoder(config.audio_channels, width, dropout)
        self.visual_norm = nn.LayerNorm(config.visual_channels)
        self.visual_encoder = TemporalEncoder(config.visual_channels, width, dropout)
        self.fusion = Fusion(width)
        self.interaction = SelfConstrainedBimodalInteraction(width, config.heads, dropout, "sbi" not in config.without)
        self.integration = Integration(width, config.heads, dropout)
        self.enhancement = (
            None if "fee" in config.without else ForegroundEventEnhancement(width, config.foreground_gain)
        )
        self.audio_projection = self.visual_projection = None
        if "wccl" not in config.without:
            self.audio_projection = nn.Linear(width, config.embedding_width)
            self.visual_projection = nn.Linear(width, config.embedding_width)
        self.event_head = nn.Linear(width, 1)
        audio_space, visual_space, joint = _space_channels(config)
        self.class_head = ClassHead(width, config.class_count, joint)
        self.audio_head = ClassHead(width, config.class_count, audio_space)
        self.visual_head = ClassHead(width, config.class_count, visual_space)
        self.dropout = ClipDropout(dropout)

    def forward(self, visual: Tensor, audio: Tensor, spaces: Spaces = CLOSED) -> MemberOutput:
        """Locate the events of a batch of clips.

        Args:
            visual: (batch, segment, visual channel), attended.
            audio: (batch, segment, audio channel), standardized.
            spaces: that the heads compare in, where classes are given by texts.
        """
        # 1. Each modality on its own, and its evidence for each class before any interaction.
        a = self.audio_encoder(audio)  # (B, T, d)
        v = self.visual_encoder(self.visual_norm(visual))  # (B, T, d)
        audio_logits = self.audio_head(a, spaces.audio)  # (B, T, n)
        visual_logits = self.visual_head(v, spaces.visual)  # (B, T, n)
        # 2. Fusion.
        fused = self.fusion(a, v)  # (B, T, d)
        # 3. Interaction: SBI.
        a, v, gate, agreement = self.interaction(a, v, fused, audio_logits, visual_logits)
        # 4. Integration.
        view = self.integration(fused, a, v)  # (B, T, d)
        # 5. Enhancement: FEE. Without it no second weighs more than another.
        foreground_logits = None
        if self.enhancement is not None:
            view, foreground_logits = self.enhancement(view)  # (B, T, d), (B, T)
        # 6. Heads: event by segment, class by clip.
        event_logits = self.event_head(self.dropout(view)).squeeze(-1) + agreement  # (B, T)
        weights = torch.ones_like(event_logits) if foreground_logits is None else torch.sigmoid(foreground_logits)
        share = weights / weights.sum(1, keepdim=True).clamp_min(1e-6)  # (B, T)
        pooled = torch.einsum("bt,btd->bd", share, view)  # (B, d)
        evidence = torch.einsum("bt,btn->bn", share, audio_logits + visual_logits)  # (B, n)
        class_logits = self.class_head(self.dropout(pooled[:, None]).squeeze(1), spaces.pooled(share).joint)  # (B, n)
        by_segment = None if self.training else self.class_head(view, spaces.joint) + audio_logits + visual_logits
        # 7. The views that WCCL compares.
        views = None
        if self.audio_projection is not None and self.visual_projection is not None and self.training:
            views = pooled_unit(self.audio_projection, a, weights), pooled_unit(self.visual_projection, v, weights)
        return MemberOutput(
            event_logits=event_logits,
            class_logits=class_logits + evidence,
            segment_class_logits=by_segment,
            audio_logits=audio_logits,
            visual_logits=visual_logits,
            gate=gate,
            foreground_logits=foreground_logits,
            enhanced=view,
            views=views,
        )


def _space_channels(config: ModelConfig) -> tuple[int | None, int | None, int | None]:
    """Channels of the audio, the visual and the joint space; None for classes that are learnt."""
    if config.text_channels is None:
        return None, None, None
    return config.audio_channels, config.text_channels, config.audio_channels + config.text_channels


# --- The branch network -----------------------------------------------------------------------------------------------


class ClassifyingBranch(Branch):
    """A branch network that classifies the clip as well: every class has a prototype among the views.

    A modality's logit of a class is s <z, k>, z its view, k the class's prototype (a unit vector) and s, both learnt.
    WCCL draws the views of a class to its prototype as it draws them to each other: our reading of "weak video-level
    labels to constrain the cross-modal semantic alignment" in the abstract. Where classes are given by texts, these are
    the prototypes, which the views are compared with as of any open head.
    """

    def __init__(self, config: ModelConfig, width: int) -> None:
        super().__init__(config, width)
        audio_space, visual_space, _ = _space_channels(config)
        self.audio_head = self.visual_head = None
        if audio_space is not None:
            self.audio_head = ClassHead(config.embedding_width, config.class_count, audio_space)
            self.visual_head = ClassHead(config.embedding_width, config.class_count, visual_space)
            return
        prototypes = torch.empty(config.class_count, config.embedding_width)
        if not prototypes.is_meta:  # where a checkpoint is about to be read, and where this would import a compiler
            prototypes.normal_().mul_(0.1)
        self.prototypes = nn.Parameter(prototypes)
        self.scale = nn.Parameter(torch.tensor(10.0))

    def class_logits(self, views: tuple[Tensor, Tensor], spaces: Spaces = CLOSED) -> tuple[Tensor, Tensor]:
        """The two (batch, embedding) views, audio and visual -> logits (batch, class) of each.

        Args:
            views: of clips.
            spaces: with the clips' vectors, where classes are given by texts.
        """
        if self.audio_head is not None and self.visual_head is not None:
            return self.audio_head(views[0], spaces.audio), self.visual_head(views[1], spaces.visual)
        prototypes = F.normalize(self.prototypes, dim=-1)  # (n, p)
        audio, visual = (self.scale * view @ prototypes.T for view in views)
        return audio, visual


# --- The whole --------------------------------------------------------------------------------------------------------


class EnsembleOutput(NamedTuple):
    """Means over the members, as `Output` describes them, and each member's own output."""

    event_logits: Tensor
    class_logits: Tensor
    segment_class_logits: Tensor | None
    audio_logits: Tensor
    visual_logits: Tensor
    members: tuple[MemberOutput, ...]


class Ensemble(nn.ModuleList):
    """Event networks that differ in nothing but their first weights, and whose outputs are averaged.

    Our addition: what a network learns from a few thousand clips is also a matter of chance, and runs that differ in
    nothing but their first weights differ by points.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(EventNetwork(config) for _ in range(config.members))

    def forward(self, visual: Tensor, audio: Tensor, spaces: Spaces = CLOSED) -> EnsembleOutput:
        """As of a member: (batch, segment, visual channel), (batch, segment, audio channel), and the heads' spaces."""
        members = tuple(cast(MemberOutput, member(visual, audio, spaces)) for member in self)
        by_segment = [one.segment_class_logits for one in members if one.segment_class_logits is not None]
        return EnsembleOutput(
            event_logits=torch.stack([one.event_logits for one in members]).mean(0),
            class_logits=torch.stack([one.class_logits.log_softmax(-1) for one in members]).mean(0),
            segment_class_logits=torch.stack([x.log_softmax(-1) for x in by_segment]).mean(0) if by_segment else None,
            audio_logits=torch.stack([one.audio_logits for one in members]).mean(0),
            visual_logits=torch.stack([one.visual_logits for one in members]).mean(0),
            members=members,
        )


class BranchOutput(NamedTuple):
    """Output of the branch network."""

    views: tuple[Tensor, Tensor]
    """Of audio and visual, pooled over time: unit vectors (batch, embedding)."""
    class_logits: tuple[Tensor, Tensor]
    """Of audio and visual (batch, class)."""


class Output(NamedTuple):
    """Output of a network that locates events; the words on members and branch are of CCLN."""

    event_logits: Tensor
    """Whether the second is event (batch, segment); the members' mean, outside training smoothed and shifted."""
    class_logits: Tensor
    """Class of the clip's event (batch, class): the members' mean log-probabilities and the branch's logits."""
    segment_class_logits: Tensor | None
    """Class of the second's event, should it be one (batch, segment, class): the members' mean log-probabilities; None
    in training. The branch takes no part: it compares whole clips."""
    audio_logits: Tensor
    """Evidence for each class in the second's audio alone (batch, segment, class); the members' mean."""
    visual_logits: Tensor
    """Evidence for each class in the second's attended frames (batch, segment, class); the members' mean."""
    attention: Tensor
    """Spatial weights of the guided attention (batch, segment, height, width)."""
    members: tuple[MemberOutput, ...]
    """Of each ensemble member; the losses are theirs, so that each learns on its own."""
    branch: BranchOutput | None
    """Of the branch network; None where there is none."""


_EVENT_SMOOTHING = 0.1


def smoothed(logits: Tensor, share: Tensor) -> Tensor:
    """Mix each second's logit with its neighbours', (batch, segment); the first and the last are their own neighbours.

    Args:
        logits: (batch, segment).
        share: of each neighbour, 0 to 1/3.
    """
    padded = torch.cat([logits[:, :1], logits, logits[:, -1:]], dim=1)  # (B, T + 2)
    return (1 - 2 * share) * logits + share * (padded[:, :-2] + padded[:, 2:])


class LocalizationNetwork(Pretrained):
    """A network that locates events, from the features of clips to an `Output`."""

    localizes = True
    event_shift: Tensor
    """Added to the event logits outside training, so that one half is the threshold; chosen on the validation clips.
    Where CCLN's training clips are made harder than others, by sounds of other classes laid over them, "more likely
    than not" lies elsewhere."""
    texts: Texts | None
    """Of the classes' names; None where classes are learnt."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.register_buffer("event_shift", torch.zeros(()))

    @torch.no_grad()
    def with_classes(self, visual: Tensor, audio: Tensor) -> Self:
        """The network for other classes; all but their texts it shares with this one.

        Args:
            visual: (class, channel), of each class the vector of its name in the visual space.
            audio: (class, channel), in the audio space.

        Raises:
            ValueError: the network's classes are learnt, or the vectors are of other spaces.
        """
        config, texts = self.config, self.texts
        if texts is None:
            raise ValueError("the classes of this network are learnt, not given by texts")
        if visual.shape != (len(audio), config.text_channels) or audio.shape[1:] != (config.audio_channels,):
            raise ValueError(
                f"texts {tuple(visual.shape)} and {tuple(audio.shape)}: this network compares with (class, "
                f"{config.text_channels}) and (class, {config.audio_channels})"
            )
        with torch.device("meta"):
            network = type(self)(replace(config, class_count=len(visual)))
        on = texts.visual
        named = {"texts.visual": visual.to(on), "texts.audio": audio.to(on)}
        network.load_state_dict(self.state_dict() | named, assign=True)
        return network.train(self.training)

    def _check_shapes(self, visual: Tensor, audio: Tensor) -> None:
        config, batch = self.config, visual.shape[:1]
        visual_shape = (config.segment_count, config.visual_height, config.visual_width, config.visual_channels)
        audio_shape = (config.segment_count, config.audio_channels)
        if visual.shape != (*batch, *visual_shape) or audio.shape != (*batch, *audio_shape):
            raise ValueError(
                f"visual {tuple(visual.shape)} and audio {tuple(audio.shape)}: this network reads "
                f"(batch, {', '.join(map(str, visual_shape))}) and (batch, {', '.join(map(str, audio_shape))})"
            )


class CCLN(LocalizationNetwork, kind="ccln"):
    """The whole network; ``config.without`` leaves parts out for ablation.

    The members share the attention, by far the largest computation. The branch network takes part in the clip's class
    (our addition): it learns from WCCL alone, and what it learns does not change where the network looks, so that its
    errors are its own.

    With ``config.text_channels`` classes are not learnt but given by the vectors of their names, see `ClassHead`.
    """

    event_smoothing: Tensor
    """Share of each neighbouring second in a second's event logit outside training (our addition): an event seldom
    pauses for a second. See docs/experiments.md."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.standardization = Standardization(config.audio_channels)
        self.attention = GuidedAttention(
            config.visual_channels, config.audio_channels, config.width, config.channel_dropout
        )
        self.members = Ensemble(config)
        self.branch = None if "wccl" in config.without else ClassifyingBranch(config, config.width)
        self.register_buffer("event_smoothing", torch.tensor(_EVENT_SMOOTHING))
        self.texts = None if config.text_channels is None else Texts(config, config.class_count)

    def forward(self, visual: Tensor, audio: Tensor) -> Output:
        """Locate the events of a batch of clips.

        Args:
            visual: (batch, segment, height, width, channel), floating point.
            audio: (batch, segment, channel), floating point.

        Raises:
            ValueError: shapes that the config does not allow.
        """
        self._check_shapes(visual, audio)
        # 1. Audio as deviation from the training clips' mean; the encoders' own vectors, where classes are texts.
        spaces = self._spaces(visual, audio)
        audio = self.standardization(audio)  # (B, T, D)
        # 2. Audio-guided attention.
        attended, attention = self.attention(visual, audio)  # (B, T, C), (B, T, H, W)
        # 3. The members, each on its own, and their mean.
        ensemble: EnsembleOutput = self.members(attended, audio, spaces)
        event_logits = ensemble.event_logits  # (B, T)
        if not self.training:
            event_logits = smoothed(event_logits, self.event_smoothing) + self.event_shift
        # 4. The branch network, pooled with the event probability; no gradient of it reaches the rest.
        branch, class_logits = None, ensemble.class_logits  # (B, n)
        if self.branch is not None:
            weights = torch.sigmoid(event_logits.detach())  # (B, T)
            views = self.branch(attended.detach(), audio, weights)  # (B, p) twice
            branch = BranchOutput(views, self.branch.class_logits(views, spaces.pooled(weights)))
            # 5. Class of the clip: members and branch together.
            class_logits = class_logits + sum(branch.class_logits)  # (B, n)
        return Output(
            event_logits=event_logits,
            class_logits=class_logits,
            segment_class_logits=ensemble.segment_class_logits,
            audio_logits=ensemble.audio_logits,
            visual_logits=ensemble.visual_logits,
            attention=attention,
            members=ensemble.members,
            branch=branch,
        )

    def start_heads(self, visual: Tensor, audio: Tensor, visual_scale: float, audio_scale: float) -> None:
        """Let the open heads of a new network begin as zero-shot classification.

        Args:
            visual: of the training clips (clip, segment, height, width, channel), of which the last channels alone are
                needed, at one position.
            audio: (clip, segment, channel).
            visual_scale: what the encoders multiply dot products with.
            audio_scale: likewise.
        """
        assert self.texts is not None
        audio_scale, visual_scale = (
            scale * float(space.usual_length())
            for scale, space in zip((audio_scale, visual_scale), self.texts(visual, audio), strict=True)
        )
        spaces = self._spaces(visual, audio)
        heads = [self.branch, *self.members]
        for scale, space, name in (
            (audio_scale, spaces.audio, "audio_head"),
            (visual_scale, spaces.visual, "visual_head"),
            (audio_scale + visual_scale, spaces.joint, "class_head"),
        ):
            for head in (getattr(part, name, None) for part in heads):
                if isinstance(head, ClassHead) and space is not None:
                    head.start(space, scale)

    def _spaces(self, visual: Tensor, audio: Tensor) -> Spaces:
        if self.texts is None:
            return CLOSED
        audio_space, visual_space = (space.unit() for space in self.texts(visual, audio))
        return Spaces(audio_space, visual_space, joint_space(audio_space, visual_space))
