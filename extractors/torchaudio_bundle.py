"""Speech representation models of torchaudio.pipelines, as `torchaudio:NAME`: wav2vec 2.0, HuBERT, WavLM and kin.

Each one-second segment passes through the network on its own; the frames that the last transformer layer makes of it
are averaged. That is the last of what the model's `extract_features` returns: in models that normalise before each
layer (the LARGE ones and above), the final layer norm is not applied.
"""

from pathlib import Path

import torch
from torch import Tensor, nn
from torchaudio import models, pipelines
from torchaudio.pipelines import Wav2Vec2Bundle

from ccln.extractors.contract import TORCHAUDIO_PREFIX, AudioChoice, ExtractorError, unknown_name
from ccln.extractors.weights import AUDIO_FLAG, fetch_url, load_into, read_weights

OUTPUT = "last-layer-mean"
SAMPLE_RATE_HZ = 16_000

_BASE_URL = "https://download.pytorch.org/torchaudio/models/"
_FACTORIES = {"Wav2Vec2": models.wav2vec2_model, "WavLM": models.wavlm_model}
# Published files have the two parts of a normalised weight under the names that torch once gave them.
_NEW_NAMES = {
    "conv.weight_g": "conv.parametrizations.weight.original0",
    "conv.weight_v": "conv.parametrizations.weight.original1",
}


def torchaudio_choice(name: str) -> AudioChoice:
    """Return the choice for "torchaudio:NAME".

    Raises:
        ExtractorError: Torchaudio has no speech representation model of that name, or it wants another sample rate.
    """
    _bundle(name)
    return AudioChoice(name=name, sample_rate_hz=SAMPLE_RATE_HZ, mel=None, output=OUTPUT)


def build(choice: AudioChoice, weights: Path | None) -> nn.Module:
    """Return the bundle's network with weights from the local file, or else from the cache or the net.

    Raises:
        WeightsError: The weights cannot be had or do not fit.
        ExtractorError: There is no such model, or the choice asks for what it does not have.
    """
    bundle = _bundle(choice.name)
    if (choice.output, choice.sample_rate_hz, choice.mel) != (OUTPUT, SAMPLE_RATE_HZ, None):
        raise ExtractorError(
            f"{choice.name} takes a waveform at {SAMPLE_RATE_HZ} Hz without a mel front end, and its output is {OUTPUT}"
        )
    url = bundle._path if bundle._path.startswith("https:") else _BASE_URL + bundle._path
    file = weights or fetch_url(url, choice.name, AUDIO_FLAG)
    with torch.device("meta"):  # no time spent on random numbers that the weights replace
        network = _FACTORIES[bundle._model_type](**{**bundle._params, "aux_num_out": None})
    network.to_empty(device="cpu")
    state = {_renamed(key): value for key, value in read_weights(file).items()}
    load_into(network, state, choice.name, file, ignored_prefixes=("aux.",))  # the letters of a fine-tuned model
    return SpeechRepresentation(network, normalize=bundle._normalize_waveform)


class SpeechRepresentation(nn.Module):
    """Mean over a segment of the last transformer layer; the state dict is the network's alone."""

    def __init__(self, network: models.Wav2Vec2Model, normalize: bool) -> None:
        super().__init__()
        self.network = network
        self.normalize = normalize

    def forward(self, waveform: Tensor) -> Tensor:
        """Return features (segment, channel) of waveform (segment, sample)."""
        if self.normalize:
            # To mean 0 and deviation 1, each segment by itself: torchaudio's own wrapper takes one mean over the batch.
            waveform = nn.functional.layer_norm(waveform, waveform.shape[1:])
        layers, _ = self.network.extract_features(waveform)
        return layers[-1].mean(1)


def _bundle(name: str) -> Wav2Vec2Bundle:
    known = name.removeprefix(TORCHAUDIO_PREFIX)
    bundles = {key: value for key, value in vars(pipelines).items() if isinstance(value, Wav2Vec2Bundle)}
    if known not in bundles:
        raise unknown_name("speech representation model of torchaudio.pipelines", known, bundles)
    if bundles[known].sample_rate != SAMPLE_RATE_HZ:
        raise ExtractorError(
            f"{name} wants audio at {bundles[known].sample_rate} Hz, but clips are read at {SAMPLE_RATE_HZ} Hz: "
            "choose another model"
        )
    return bundles[known]


def _renamed(key: str) -> str:
    for old, new in _NEW_NAMES.items():
        key = key.removesuffix(old) + new if key.endswith(old) else key
    return key
