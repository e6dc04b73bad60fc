"""Tiny models with random weights in folders as transformers saves them, made without any network."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

RATE_48_HZ = 48_000
WORDS = ("a", "photo", "of", "the", "sound", "dog", "barking", "violin", "chainsaw", "engine", "other", "nothing")

CLIP, CLAP, SIGLIP = "hf:tiny/clip", "hf:tiny/clap", "hf:tiny/siglip"
DINO, DINO3, AST, PE_AV = "hf:tiny/dino", "hf:tiny/dino3", "hf:tiny/ast", "hf:tiny/pe-av"


def save_clip(folder: Path, seed: int = 0, image_size: int = 32) -> Path:
    """CLIP with patches of 8 x 8 pixels and 12 numbers in the joint space."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    torch.manual_seed(seed)
    config = CLIPConfig(
        text_config=_text(max_position_embeddings=16, projection_dim=12, bos_token_id=2, eos_token_id=3),
        vision_config=_width(image_size=image_size, patch_size=8, projection_dim=12),
        projection_dim=12,
    )
    size = {"height": image_size, "width": image_size}
    processor = CLIPImageProcessor(size={"shortest_edge": image_size}, crop_size=size)
    return _save(folder, CLIPModel(config), processor, save_tokenizer(folder))


def save_clap(folder: Path, seed: int = 0, fusion: bool = False, damaged: bool = False) -> Path:
    """CLAP with 12 numbers in the joint space; where it is damaged, none of them is one."""
    from transformers import ClapConfig, ClapFeatureExtractor, ClapModel

    torch.manual_seed(seed)
    config = ClapConfig(
        text_config=_text(max_position_embeddings=24, projection_dim=12, type_vocab_size=1),
        audio_config=dict(
            window_size=2,
            num_mel_bins=16,
            spec_size=64,
            patch_size=4,
            patch_stride=[4, 4],
            patch_embeds_hidden_size=8,
            hidden_size=16,
            depths=[1, 1],
            num_attention_heads=[2, 2],
            projection_dim=12,
            enable_fusion=fusion,
            aff_block_r=2,
        ),
        projection_dim=12,
    )
    front_end = ClapFeatureExtractor(
        feature_size=16,
        frequency_min=50,
        truncation="fusion" if fusion else "rand_trunc",
        hop_length=2400,
        max_length_s=2,
    )
    model = ClapModel(config)
    if damaged:
        torch.nn.init.constant_(model.audio_projection.linear2.weight, float("nan"))
    return _save(folder, model, front_end, save_tokenizer(folder))


def save_tokenizer(folder: Path, words: Sequence[str] = WORDS, max_length: int = 16) -> Any:
    """One number a word, a start and an end."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: number for number, word in enumerate(("<pad>", "<unk>", "<s>", "</s>", *words))}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer.post_processor = TemplateProcessing(  # pyright: ignore[reportAttributeAccessIssue]
        single="<s> $A </s>", special_tokens=[("<s>", 2), ("</s>", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=max_length,
    )


def _width(**more: Any) -> dict[str, Any]:
    return {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, **more}


def _text(**more: Any) -> dict[str, Any]:
    return _width(vocab_size=32, pad_token_id=0, **more)


def _save(folder: Path, *parts: Any) -> Path:
    for part in parts:
        part.save_pretrained(folder)
    return folder


def save_siglip(folder: Path, seed: int = 0) -> Path:
    """SigLIP with patches of 8 x 8 pixels; its vectors have the 16 numbers of its towers."""
    from transformers import SiglipConfig, SiglipImageProcessor, SiglipModel

    torch.manual_seed(seed)
    config = SiglipConfig(
        text_config=_text(max_position_embeddings=64, projection_size=16),
        vision_config=_width(image_size=32, patch_size=8),
    )
    size = {"height": 32, "width": 32}
    return _save(folder, SiglipModel(config), SiglipImageProcessor(size=size), save_tokenizer(folder, max_length=64))


def save_dino(folder: Path, registers: int = 0) -> Path:
    """DINOv2, with registers where there are any, at another size than it was trained on."""
    from transformers import (
        BitImageProcessor,
        Dinov2Config,
        Dinov2Model,
        Dinov2WithRegistersConfig,
        Dinov2WithRegistersModel,
    )

    torch.manual_seed(0)
    size: dict[str, Any] = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, mlp_ratio=2, patch_size=8)
    model = (
        Dinov2WithRegistersModel(Dinov2WithRegistersConfig(image_size=64, num_register_tokens=registers, **size))
        if registers
        else Dinov2Model(Dinov2Config(image_size=64, **size))
    )
    processor = BitImageProcessor(size={"shortest_edge": 48}, crop_size={"height": 32, "width": 32}, resample=3)
    return _save(folder, model, processor)


def save_dino3(folder: Path) -> Path:
    """DINOv3 with two registers."""
    from transformers import DINOv3ViTConfig, DINOv3ViTImageProcessor, DINOv3ViTModel

    torch.manual_seed(0)
    config = DINOv3ViTConfig(**_width(image_size=32, patch_size=8, num_register_tokens=2))
    return _save(folder, DINOv3ViTModel(config), DINOv3ViTImageProcessor(size={"height": 32, "width": 32}))


def save_ast(folder: Path) -> Path:
    """AST as it is published, with classes."""
    from transformers import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification

    torch.manual_seed(0)
    config = ASTConfig(**_width(max_length=128, num_mel_bins=32, num_labels=3))
    return _save(folder, ASTForAudioClassification(config), ASTFeatureExtractor(num_mel_bins=32, max_length=128))


def save_pe_av(folder: Path) -> Path:
    """PE-AV with 16 numbers in the joint space; a second has 25 steps of audio."""
    from transformers import (
        PeAudioFeatureExtractor,
        PeAudioVideoConfig,
        PeAudioVideoModel,
        PeAudioVideoProcessor,
        PeVideoVideoProcessor,
    )

    torch.manual_seed(0)
    width = _width(num_key_value_heads=2, head_dim=8)
    vision = dict(
        architecture="vit_pe_core_tiny_patch16_384",
        do_pooling=True,
        num_classes=12,
        global_pool="map",
        model_args=dict(embed_dim=16, depth=1, num_heads=2, img_size=64, ref_feat_shape=[4, 4]),
    )
    audio = dict(encoder_hidden_size=4, downsampling_ratios=[2, 8, 10, 12], codebook_dim=6, decoder_hidden_size=8)
    config = PeAudioVideoConfig(
        text_config=dict(model_type="modernbert", **_text(max_position_embeddings=64)),
        audio_video_config={
            **width,
            "audio_config": dict(model_type="pe_audio_encoder", dac_config=dict(model_type="dac", **audio), **width),
            "video_config": dict(model_type="pe_video_encoder", vision_config=vision, **width),
        },
    )
    processor = PeAudioVideoProcessor(
        PeAudioFeatureExtractor(),
        PeVideoVideoProcessor(
            size={"height": 64, "width": 64},
            image_mean=[0.5] * 3,
            image_std=[0.5] * 3,
            do_resize=True,
            do_rescale=True,
            do_normalize=True,
        ),
        save_tokenizer(folder, max_length=64),
    )
    return _save(folder, PeAudioVideoModel(config), processor)
