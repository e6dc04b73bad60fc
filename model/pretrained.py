"""What every network does beside answering: it is loaded, saved and published together with all that its use needs."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

if TYPE_CHECKING:
    from ccln.model.checkpoint import Checkpoint, Network


class Pretrained:
    """For a network to inherit from, before `torch.nn.Module`.

    Checkpoints are imported when they are asked for: they know the networks, and not the other way round.
    """

    _known: Mapping[str, Any] | None = None

    @property
    def checkpoint(self) -> "Checkpoint":
        """The network with all that is known of it: what it was last loaded from or saved as.

        Training it further changes its weights and nothing else of this; a new account of the training is made known by
        `save_checkpoint`.

        Raises:
            CheckpointError: the network was never loaded nor saved.
        """
        from ccln.model.checkpoint import Checkpoint, CheckpointError

        if self._known is None:
            raise CheckpointError(
                "this network was never loaded nor saved, so nobody knows its classes and extractors: load one "
                "(from_pretrained), or save this one first: save_checkpoint(folder, Checkpoint(network, ...))"
            )
        return Checkpoint(cast("Network", self), **self._known)

    @checkpoint.setter
    def checkpoint(self, checkpoint: "Checkpoint") -> None:
        """Make a checkpoint of this network known; loading and saving do."""
        # Less the network: one that holds itself keeps its memory until the garbage collector finds it.
        names = [field.name for field in fields(checkpoint) if field.name != "model"]
        self._known = {name: getattr(checkpoint, name) for name in names}

    @classmethod
    def from_pretrained(cls, name_or_folder: Path | str, *, revision: str | None = None) -> Self:
        """Load a network, in evaluation mode, on the CPU; its `checkpoint` is all that came with it.

        Args:
            name_or_folder: a folder as `save_checkpoint` or ccln-train writes it, or else, if a str, "owner/name" on
                the Hugging Face hub, as `ccln.model.load_pretrained` fetches it.
            revision: branch, tag or commit on the hub; the newest commit of its main branch if None.

        Raises:
            CheckpointError: it cannot be had, is damaged, or holds a network of another kind.
        """
        from ccln.model.checkpoint import CheckpointError
        from ccln.model.hub import load_pretrained

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
        from ccln.model.checkpoint import save_checkpoint

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
        from ccln.model.hub import push_checkpoint

        return push_checkpoint(self.checkpoint, repo_id, private=private, token=token, commit_message=commit_message)
