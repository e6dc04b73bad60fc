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


def save_clap(folder: Path, seed: int = 0, fusion: bool = False) -> Path:
    """CLAP with 12 numbers in the joint space."""
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
    return _save(folder, ClapModel(config), front_end, save_tokenizer(folder))


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
