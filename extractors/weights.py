"""Where networks get their weights: a local file, the libraries' own caches, or the net; and what weights are known by.

Nothing here runs code from a file: pickles are read with `weights_only=True`. A file whose name carries the start of
its sha256 as torch hub's do (`vggish-10086976.pth`) has to have it, wherever it came from.
"""

import contextlib
import hashlib
import json
import pickle
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ccln.extractors.contract import WeightsError
from ccln.files import whole

VISUAL_FLAG = "--visual-weights"
AUDIO_FLAG = "--audio-weights"

_TIMEOUT_SECONDS = 10.0
_MISMATCHES_SHOWN = 3
_SHA256_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.\w+$")
_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"


def read_weights(file: Path, entry: str | None = None) -> dict[str, Tensor]:
    """Return the state dict in a .safetensors file, or else one that `torch.save` wrote.

    Args:
        file: What to read.
        entry: Where a training's own file keeps the network, beside how far it came.

    Raises:
        WeightsError: There is no such file, or it has not the digest in its name, or it holds no plain state dict.
    """
    check_digest(file)
    if is_hdf5(file):
        raise WeightsError(
            f"{file} is an HDF5 file, as Keras writes: only vgg19-keras (preset ave-legacy) takes those; "
            "give a .pth or .safetensors file"
        )
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        state = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, LookupError, ValueError, pickle.UnpicklingError, SafetensorError) as error:
        raise unreadable(file, error) from error
    if entry and isinstance(state, Mapping):
        state = state.get(entry, state)
    if not isinstance(state, Mapping) or not all(isinstance(part, Tensor) for part in state.values()):
        raise WeightsError(
            f"{file} holds no plain state dict (names and tensors): save the network's state_dict() alone"
        )
    return dict(state)


def check_digest(file: Path, name: str | None = None, md5: str | None = None) -> None:
    """Check a file's sha256 against the start of it in the file's name, if that carries one, or else its md5.

    Args:
        file: What to check.
        name: The name to go by, if it is not the file's own.
        md5: The published md5 of a file whose name carries no digest.

    Raises:
        WeightsError: There is no such file, or its digest is another.
    """
    match = _SHA256_IN_NAME.search(name or file.name)
    algorithm, wanted = ("sha256", match[1]) if match else ("md5", md5)
    try:
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, algorithm).hexdigest() if wanted else ""
    except FileNotFoundError as error:
        raise WeightsError(f"there is no weights file {file}: check the path") from error
    except OSError as error:
        raise unreadable(file, error) from error
    if wanted and not digest.startswith(wanted):
        raise WeightsError(
            f"{file} is not the file it is named after: its {algorithm} is {digest}, "
            f"but that of {name or file.name} is {wanted}{'...' if match else ''}; delete it and fetch it again, "
            "or rename it if it is another file"
        )


def is_hdf5(file: Path) -> bool:
    """Return whether the file begins as HDF5 files do."""
    with file.open("rb") as stream:
        return stream.read(len(_HDF5_SIGNATURE)) == _HDF5_SIGNATURE


def unreadable(file: Path, error: Exception) -> WeightsError:
    """Return the error for a file that its library cannot read."""
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return WeightsError(f"{file} cannot be read as weights ({reason}): delete it and fetch it again")


def fetch_url(url: str, name: str, flag: str, md5: str | None = None) -> Path:
    """Return the file at `url` in torch hub's cache, fetched if it is not there.

    Args:
        url: The address of the file.
        name: The network, for the error.
        flag: The command flag that takes a local file instead, for the error.
        md5: The published md5 of a file whose name carries no digest.

    Raises:
        WeightsError: The file is neither in the cache nor to be fetched, or it has another digest.
    """
    filename = url.rsplit("/", 1)[1]
    file = Path(torch.hub.get_dir()) / "checkpoints" / filename
    if file.exists():
        check_digest(file, md5=md5)
        return file
    with _fetching(name, filename, url, file.parent, flag), whole(file) as part:
        torch.hub.download_url_to_file(url, str(part))
        check_digest(part, filename, md5)  # under the file's own name only once it is known to be that file
    return file


def fetch_hub(repository: str, filenames: Sequence[str], name: str, flag: str) -> Path:
    """Return a file of a Hugging Face repository in the hub's cache, fetched if it is not there.

    Args:
        repository: "owner/name".
        filenames: What the file may be called; the first that exists is taken.
        name: The network, for the error.
        flag: The command flag that takes a local file instead, for the error.

    Raises:
        WeightsError: No such file is in the cache or to be fetched.
    """
    import huggingface_hub as hub
    from huggingface_hub import constants
    from huggingface_hub.errors import EntryNotFoundError

    for filename in filenames:
        cached = hub.try_to_load_from_cache(repository, filename)
        if isinstance(cached, str):
            return Path(cached)
    folder = Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}"
    with _fetching(name, filenames[0], hub.hf_hub_url(repository, filenames[0]), folder, flag):
        # Asked first, with a timeout: the download itself would retry for minutes where there is no way to the hub.
        for filename in filenames:
            with contextlib.suppress(EntryNotFoundError):
                hub.get_hf_file_metadata(hub.hf_hub_url(repository, filename), timeout=_TIMEOUT_SECONDS)
                return Path(hub.hf_hub_download(repository, filename))
        raise FileNotFoundError(f"{repository} holds no {' or '.join(filenames)}")


def fetch_snapshot(repository: str, revision: str | None, patterns: list[str], name: str, flag: str) -> Path:
    """Return the folder of a model in the hub's cache, fetched if it is not there; its name is the commit.

    Args:
        repository: "owner/name".
        revision: The commit; if None, the newest that is cached, or else the newest.
        patterns: Which of its files.
        name: The network, for the error.
        flag: The command flag that takes a local folder instead, for the error.

    Raises:
        WeightsError: The model is neither in the cache nor to be fetched, or has no weights as safetensors.
    """
    import huggingface_hub as hub
    from huggingface_hub import constants
    from huggingface_hub.errors import LocalEntryNotFoundError

    with contextlib.suppress(LocalEntryNotFoundError):
        cached = hub.snapshot_download(repository, revision=revision, allow_patterns=patterns, local_files_only=True)
        if _has_weights(Path(cached)):
            return Path(cached)
    home = Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}"
    with _fetching(name, "its folder", f"{constants.ENDPOINT}/{repository}", home, flag, "folder"):
        # Asked first, with a timeout: the download itself would retry for minutes where there is no way to the hub.
        commit = hub.HfApi().model_info(repository, revision=revision, timeout=_TIMEOUT_SECONDS).sha
        folder = Path(hub.snapshot_download(repository, revision=commit, allow_patterns=patterns))
        if not _has_weights(folder):
            raise FileNotFoundError(f"{repository} holds no weights as safetensors")
        return folder


def _has_weights(folder: Path) -> bool:
    """Whether all of a model's safetensors are there, in one file or several."""
    index = folder / "model.safetensors.index.json"
    if not index.exists():
        return (folder / "model.safetensors").exists()
    return all((folder / part).exists() for part in set(json.loads(index.read_bytes())["weight_map"].values()))


def load_into(
    network: nn.Module,
    state: Mapping[str, Tensor],
    name: str,
    source: object,
    ignored_prefixes: tuple[str, ...] = (),
) -> None:
    """Load `state`, which has to have the network's names and shapes but for names with an ignored prefix.

    Raises:
        WeightsError: It has others; the message shows the first.
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


@contextlib.contextmanager
def _fetching(name: str, file: str, url: str, folder: Path, flag: str, kind: str = "file") -> Iterator[None]:
    """Turn whatever goes wrong in a fetch into a WeightsError that says how to do without the net."""
    timeout_before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_TIMEOUT_SECONDS)  # torch.hub sets none: it would wait for a silent server for ever
    try:
        yield
    except WeightsError:
        raise
    except Exception as error:  # each hub client has errors of its own, of libraries that change underneath them
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise WeightsError(
            f"the weights of {name} cannot be had ({reason}). Wanted: {file}, from {url}; no copy in {folder}. "
            f"Fetch the {kind} where there is a way to it and give it with {flag} {kind.upper()}"
        ) from error
    finally:
        socket.setdefaulttimeout(timeout_before)
