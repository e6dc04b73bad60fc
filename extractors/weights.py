"""Where networks get their weights: a local file, the libraries' own caches, or the net; and what weights are known by.

Nothing here runs code from a file: pickles are read with `weights_only=True`.
"""

import contextlib
import hashlib
import json
import pickle
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ccln.extractors.contract import WeightsError

VISUAL_FLAG = "--visual-weights"
AUDIO_FLAG = "--audio-weights"

_TIMEOUT_SECONDS = 10.0
_MISMATCHES_SHOWN = 3


def read_weights(file: Path) -> dict[str, Tensor]:
    """Return the state dict in a .safetensors file, or else one that `torch.save` wrote.

    Raises:
        WeightsError: there is no such file, or it holds no state dict of plain tensors.
    """
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        state = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise WeightsError(f"there is no weights file {file}: check the path") from error
    except (OSError, EOFError, RuntimeError, LookupError, ValueError, pickle.UnpicklingError, SafetensorError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(f"{file} cannot be read as weights ({reason}): fetch it again") from error
    if not isinstance(state, Mapping) or not all(isinstance(part, Tensor) for part in state.values()):
        raise WeightsError(
            f"{file} holds no plain state dict (names and tensors): save the network's state_dict() alone"
        )
    return dict(state)


def fetch_url(url: str, name: str, flag: str, check_hash: bool = True) -> dict[str, Tensor]:
    """Return the state dict at `url`, from torch hub's cache if it is there.

    Args:
        url: the address of the file.
        name: the network, for the error.
        flag: the command flag that takes a local file instead, for the error.
        check_hash: whether the file's name ends with the start of its sha256, to be checked after a download.

    Raises:
        WeightsError: the file is neither in the cache nor to be fetched.
    """
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    with _fetching(name, url.rsplit("/", 1)[1], url, folder, flag):
        return torch.hub.load_state_dict_from_url(url, map_location="cpu", check_hash=check_hash, weights_only=True)


def fetch_hub(repository: str, filenames: Sequence[str], name: str, flag: str) -> dict[str, Tensor]:
    """Return the state dict of a Hugging Face repository, from the hub's cache if it is there.

    Args:
        repository: "owner/name".
        filenames: what the file may be called; the first that exists is taken.
        name: the network, for the error.
        flag: the command flag that takes a local file instead, for the error.

    Raises:
        WeightsError: no such file is in the cache or to be fetched.
    """
    import huggingface_hub as hub
    from huggingface_hub import constants

    for filename in filenames:
        cached = hub.try_to_load_from_cache(repository, filename)
        if isinstance(cached, str):
            return read_weights(Path(cached))
    folder = Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}"
    with _fetching(name, filenames[0], hub.hf_hub_url(repository, filenames[0]), folder, flag):
        return read_weights(Path(hub.hf_hub_download(repository, _first_on_hub(repository, filenames))))


def load_into(
    network: nn.Module,
    state: Mapping[str, Tensor],
    name: str,
    source: object,
    ignored_prefixes: tuple[str, ...] = (),
) -> None:
    """Load `state`, which has to have the network's names and shapes but for names with an ignored prefix.

    Raises:
        WeightsError: it has others; the message shows the first.
    """
    state = {key: value for key, value in state.items() if not key.startswith(ignored_prefixes)}
    if _mismatches(network, state):
        raise misfit(name, network, state, source)
    network.load_state_dict(state)


def misfit(name: str, network: nn.Module, state: Mapping[str, Tensor], source: object) -> WeightsError:
    """Return the error for a state dict that is not the network's, with the first differences."""
    found = _mismatches(network, state)
    more = f" and {len(found) - _MISMATCHES_SHOWN} more" if len(found) > _MISMATCHES_SHOWN else ""
    differences = "; ".join(found[:_MISMATCHES_SHOWN]) or "its tensors cannot be converted"
    return WeightsError(f"{source} does not hold the weights of {name}: {differences}{more}; give the file made for it")


def weights_sha256(network: nn.Module) -> str | None:
    """Return the sha256 over names, dtypes, shapes and bytes of the network's state, or None if it has none."""
    state = network.state_dict()
    digest = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().cpu().contiguous()
        digest.update(json.dumps([name, str(value.dtype), list(value.shape)]).encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest() if state else None


def _mismatches(network: nn.Module, state: Mapping[str, Tensor]) -> list[str]:
    wanted = network.state_dict()
    found = [f"{name} is missing" for name in wanted if name not in state]
    found += [
        f"{name} is {tuple(state[name].shape)}, not {tuple(value.shape)}"
        for name, value in wanted.items()
        if name in state and state[name].shape != value.shape
    ]
    return found + [f"{name} is unknown" for name in state if name not in wanted]


def _first_on_hub(repository: str, filenames: Sequence[str]) -> str:
    import huggingface_hub as hub
    from huggingface_hub.errors import EntryNotFoundError

    # Asked for once, with a timeout: the download itself would retry for minutes where there is no way to the hub.
    for filename in filenames:
        with contextlib.suppress(EntryNotFoundError):
            hub.get_hf_file_metadata(hub.hf_hub_url(repository, filename), timeout=_TIMEOUT_SECONDS)
            return filename
    raise FileNotFoundError(f"{repository} holds no {' or '.join(filenames)}")


@contextlib.contextmanager
def _fetching(name: str, file: str, url: str, folder: Path, flag: str) -> Iterator[None]:
    """Turn whatever goes wrong in a fetch into a WeightsError that says how to do without the net."""
    timeout_before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_TIMEOUT_SECONDS)  # torch.hub sets none: it would wait for a silent server for ever
    try:
        with contextlib.redirect_stdout(sys.stderr):  # torch.hub prints; stdout belongs to the caller
            yield
    except WeightsError:
        raise
    except Exception as error:  # each hub client has errors of its own, of libraries that change underneath them
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise WeightsError(
            f"the weights of {name} cannot be had ({reason}). Wanted: {file}, from {url}; no usable copy in {folder}. "
            f"Fetch the file where there is a way to it and give it with {flag} FILE"
        ) from error
    finally:
        socket.setdefaulttimeout(timeout_before)
