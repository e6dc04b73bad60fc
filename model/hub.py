"""Networks on the Hugging Face hub, which is asked only when one of these functions is called.

Of a repository two files are fetched, by name, and read as any checkpoint is: they come from outside.
`huggingface_hub.PyTorchModelHubMixin` would be imported with every network, as a base class is; it fetches and parses a
config of any size before its subclass can check it, and deletes the config of a folder before it writes a new one.
"""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path, PureWindowsPath
from typing import Any, Self

from ccln.model.checkpoint import (
    CONFIG_NAME,
    MAX_CONFIG_BYTES,
    WEIGHTS_NAME,
    Checkpoint,
    CheckpointError,
    Network,
    checkpoint_files,
    load_checkpoint,
    save_checkpoint,
    weights_limit_bytes,
)

CARD_NAME = "README.md"

_REPOSITORY = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)
_TIMEOUT_SECONDS = 10.0
_LONGEST = 200  # letters of one value on a card
_FETCH_REMEDY = (
    "No folder here has that name. Check it and the revision, log in (hf auth login) if the repository is private, "
    f"or name a folder that holds its {CONFIG_NAME} and {WEIGHTS_NAME}"
)
_PUSH_REMEDY = "Log in (hf auth login) with a token that may write there, or keep it in a folder: save_pretrained"


class Pretrained(Network):
    """A network that is loaded, saved and published together with all that its use needs."""

    @classmethod
    def from_pretrained(cls, name_or_folder: Path | str, *, revision: str | None = None) -> Self:
        """Load a network, in evaluation mode, on the CPU; its `checkpoint` is all that came with it.

        Args:
            name_or_folder: a folder as `save_checkpoint` or ccln-train writes it, or else, if a str, "owner/name" on
                the Hugging Face hub, as `load_pretrained` fetches it.
            revision: branch, tag or commit on the hub; the newest commit of its main branch if None.

        Raises:
            CheckpointError: it cannot be had, is damaged, or holds a network of another kind.
        """
        network = load_pretrained(name_or_folder, revision=revision).model
        if not isinstance(network, cls):
            kind = type(network).__name__
            raise CheckpointError(f"{name_or_folder} holds a {kind}, no {cls.__name__}: load it by that class")
        return network

    def save_pretrained(self, folder: Path | str) -> None:
        """Write a folder that `from_pretrained` and the commands read.

        Raises:
            CheckpointError: the network was never loaded nor saved.
            OSError: the folder cannot be written.
        """
        save_checkpoint(folder, self.checkpoint)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        token: str | None = None,
        commit_message: str = "Upload a trained network",
    ) -> str:
        """Publish the network on the Hugging Face hub, as one commit: weights, config and a README.md made from it.

        A README.md that is there is replaced. Of the training data, only the name is published, not where they lie.

        Args:
            repo_id: "owner/name"; made if it is not there.
            private: whether a new repository is; one that is there stays as it is. If None, the owner's default.
            token: with the right to write there; if None, the one that is logged in.
            commit_message: first line of the commit's message.

        Returns:
            Address of the commit.

        Raises:
            CheckpointError: the network was never loaded nor saved, or the hub does not take it.
        """
        import huggingface_hub as hub

        checkpoint = self.checkpoint
        checkpoint = replace(checkpoint, training=_without_paths(checkpoint.training))
        with _named_in_errors(repo_id, _PUSH_REMEDY):
            client = hub.HfApi(token=token)
            repository = client.create_repo(repo_id, private=private, exist_ok=True).repo_id  # with its owner
            files = checkpoint_files(checkpoint) | {CARD_NAME: model_card(checkpoint, repository).encode()}
            added = [hub.CommitOperationAdd(name, data) for name, data in files.items()]
            return client.create_commit(repository, added, commit_message=commit_message).commit_url


def load_pretrained(name_or_folder: Path | str, *, revision: str | None = None) -> Checkpoint:
    """Read a checkpoint from a folder or else from the Hugging Face hub.

    What the hub's cache holds is used where there is no way to the hub; where there is one, the hub decides.

    Args:
        name_or_folder: a folder that `save_checkpoint` has written, or else, if a str, "owner/name".
        revision: branch, tag or commit on the hub; the newest commit of its main branch if None.

    Raises:
        CheckpointError: it cannot be had, or is damaged; a revision is asked for of a folder.
    """
    name = str(name_or_folder)
    if os.path.isdir(name):
        if revision is not None:
            raise CheckpointError(f"{name} is a folder here and has no revision {revision}: leave it out")
        return load_checkpoint(name)
    if isinstance(name_or_folder, Path) or not _REPOSITORY.fullmatch(name):
        raise CheckpointError(
            f"{name}: there is no such folder. Train a model (ccln-train), or name the folder of a run or "
            '"owner/name" on the Hugging Face hub'
        )
    with _named_in_errors(name, _FETCH_REMEDY):
        return load_checkpoint(_fetch(name, revision))


def model_card(checkpoint: Checkpoint, repository: str) -> str:
    """The page that introduces a published network, as model hubs show it.

    Args:
        checkpoint: all that its account of the training holds may be shown to anyone.
        repository: where it is published, "owner/name".

    Returns:
        Markdown, with the metadata that the Hugging Face hub reads before it.
    """
    import jinja2
    from markupsafe import Markup

    # Every value that the template prints is made plain text, unless it is marked safe there.
    environment = jinja2.Environment(
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=lambda value: value if isinstance(value, Markup) else _plain(value),
    )
    training = checkpoint.training
    # What a training writes as a mapping may be anything in a checkpoint from outside.
    mappings = {
        name: found if isinstance(found := training.get(name), dict) else {}
        for name in ("test", "validation", "versions")
    }
    template = environment.from_string(Path(__file__).with_name("card.md.j2").read_text("utf-8"))
    return template.render(
        checkpoint=checkpoint,
        decoding=asdict(checkpoint.decoding),
        localizes=checkpoint.model.localizes,
        name=repository.rsplit("/", 1)[-1],
        repository=repository,
        specification=json.dumps(checkpoint.specification, indent=2, ensure_ascii=False),
        training=training,
        **mappings,
    )


def _plain(value: Any) -> str:
    """A value as text of one line in which nothing is markup."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if value is None:
        return "none"
    return re.sub(r"([\\`*_\[\]<>#|~!&])", r"\\\1", " ".join(str(value)[:_LONGEST].split()))


def _fetch(repository: str, revision: str | None) -> Path:
    """The folder of the hub's cache that holds both files, of one commit."""
    import huggingface_hub as hub
    from huggingface_hub.errors import RemoteEntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        folder = _fetch_file(repository, CONFIG_NAME, revision, MAX_CONFIG_BYTES).parent
        # By the commit, which the folder is named after: somebody may push another one meanwhile.
        _fetch_file(repository, WEIGHTS_NAME, folder.name, weights_limit_bytes(folder))
        return folder
    except (CheckpointError, RemoteEntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError):
        raise
    except Exception:  # no way to the hub: its client's errors are those of libraries that change underneath it
        config = hub.try_to_load_from_cache(repository, CONFIG_NAME, revision=revision)
        if isinstance(config, str) and Path(config).with_name(WEIGHTS_NAME).is_file():
            return Path(config).parent
        raise


def _fetch_file(repository: str, name: str, revision: str | None, limit_bytes: int) -> Path:
    import huggingface_hub as hub

    # Asked before, with a timeout: the download itself would retry for minutes, and fetch whatever size there is.
    address = hub.hf_hub_url(repository, name, revision=revision)
    size_bytes = hub.get_hf_file_metadata(address, timeout=_TIMEOUT_SECONDS).size
    if size_bytes is None or size_bytes > limit_bytes:
        raise CheckpointError(
            f"its {name} is not fetched: it has {size_bytes} bytes, and {limit_bytes} are possible here. "
            "Name the repository of another model"
        )
    return Path(hub.hf_hub_download(repository, name, revision=revision))


def _without_paths(training: dict[str, Any]) -> dict[str, Any]:
    """The account of a training less the place of its data, which is private; their name stays."""
    data = training.get("data")
    named = {"data": PureWindowsPath(data).name} if isinstance(data, str) else {}  # it splits at / and at \
    return {name: value for name, value in training.items() if name != "data"} | named


@contextmanager
def _named_in_errors(repository: str, remedy: str) -> Iterator[None]:
    """Whatever goes wrong with a repository becomes one CheckpointError that names it."""
    where = f"{repository} on the Hugging Face hub"
    try:
        yield
    except CheckpointError as error:
        raise CheckpointError(f"{where}: {error}") from error
    except Exception as error:  # as in `_fetch`
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise CheckpointError(f"{where}: {reason}. {remedy}") from error
