"""Networks that are published on a model hub, and fetched from it."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support.checkpoints import CONFIG, NAMES, SPECIFICATION, TRAINING, change_config, checkpoint, same_outputs
from support.hub_server import Hub, point_at, serve

from ccln.model import (
    CCLN,
    Checkpoint,
    CheckpointError,
    EventDecoding,
    MatchingNetwork,
    load_checkpoint,
    load_pretrained,
    save_checkpoint,
)
from ccln.model.hub import model_card

pytestmark = pytest.mark.usefixtures("one_core")

PLACE = "/home/somebody/videos/AVE_Dataset"
ACCOUNT = {**TRAINING, "task": "supervised", "data": PLACE, "versions": {"ccln": "0.1.0"}}
DECODING = EventDecoding(event_threshold=0.4, minimum_duration_seconds=2, event_temperature=1.5, class_temperature=3)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """An empty hub, and an empty cache."""
    with serve(hub := Hub()) as port:
        point_at(f"http://127.0.0.1:{port}", monkeypatch)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
        yield hub


def saved(folder: Path, seed: int = 0) -> CCLN:
    """A network that was saved in the folder."""
    whole = replace(checkpoint(seed), training=ACCOUNT, decoding=DECODING)
    save_checkpoint(folder, whole)
    assert isinstance(whole.model, CCLN)
    return whole.model


def matching() -> MatchingNetwork:
    torch.manual_seed(0)
    network = MatchingNetwork(CONFIG).eval()
    network.checkpoint = Checkpoint(network, NAMES, SPECIFICATION, ACCOUNT)
    return network


def publish(hub: Hub, folder: Path, repository: str = "me/net", leave_out: tuple[str, ...] = ()) -> None:
    """Put a folder's files on the hub unchecked, as another client may."""
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.name not in leave_out}
    hub.commits.setdefault(repository, []).append(files)


def refused(name: str, *parts: str, revision: str | None = None) -> str:
    """One error whose message has all of this."""
    with pytest.raises(CheckpointError) as caught:
        CCLN.from_pretrained(name, revision=revision)
    message = str(caught.value)
    for part in (f"{name} on the Hugging Face hub", *parts):
        assert part in message
    assert "\n" not in message
    return message


# --- Folders ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Path, str])
def test_a_network_is_loaded_from_a_folder_and_saved_to_another(tmp_path: Path, kind: Callable[[Path], Path | str]):
    network = saved(tmp_path / "run")
    loaded = CCLN.from_pretrained(kind(tmp_path / "run"))
    assert same_outputs(loaded, network)
    assert not loaded.training
    loaded.save_pretrained(kind(tmp_path / "copy"))
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "copy" / name).read_bytes() == (tmp_path / "run" / name).read_bytes()


def test_a_network_holds_the_checkpoint_it_was_loaded_or_saved_with(tmp_path: Path):
    network = saved(tmp_path)
    for known in (network, load_checkpoint(tmp_path).model, load_pretrained(tmp_path).model):
        assert known.checkpoint == Checkpoint(known, NAMES, SPECIFICATION, ACCOUNT, DECODING)
    save_checkpoint(tmp_path, replace(network.checkpoint, decoding=EventDecoding()))
    assert network.checkpoint.decoding == EventDecoding()


def test_the_held_checkpoint_is_not_part_of_the_state_dict(tmp_path: Path):
    assert saved(tmp_path).state_dict().keys() == CCLN(CONFIG).state_dict().keys()


def test_a_network_without_a_checkpoint_is_neither_saved_nor_published(tmp_path: Path):
    network = CCLN(CONFIG)
    for act in (lambda: network.save_pretrained(tmp_path / "run"), lambda: network.push_to_hub("me/net")):
        with pytest.raises(CheckpointError, match=r"never loaded nor saved.*save_checkpoint\(folder, Checkpoint"):
            act()
    assert list(tmp_path.iterdir()) == []


def test_a_network_of_the_other_kind_is_refused(tmp_path: Path):
    saved(tmp_path / "ccln")
    matching().save_pretrained(tmp_path / "matching")
    assert isinstance(MatchingNetwork.from_pretrained(tmp_path / "matching"), MatchingNetwork)
    with pytest.raises(CheckpointError, match=r"matching holds a MatchingNetwork, no CCLN"):
        CCLN.from_pretrained(tmp_path / "matching")
    with pytest.raises(CheckpointError, match=r"ccln holds a CCLN, no MatchingNetwork"):
        MatchingNetwork.from_pretrained(tmp_path / "ccln")


@pytest.mark.parametrize(
    "name", ["nowhere", Path("owner/name"), "/no/where", "../up", "a/b/c", "owner/", "", "o/n\0", "long" * 999]
)
def test_a_name_of_no_folder_or_repository_is_refused_without_a_request(hub: Hub, name: Path | str):
    with pytest.raises(CheckpointError, match=r'there is no such folder.*ccln-train.*"owner/name"') as caught:
        CCLN.from_pretrained(name or "\t")
    assert str(name) in str(caught.value)
    assert hub.asked == []


def test_a_local_folder_precedes_the_hub_and_has_no_revisions(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    network = saved(Path("me/net"))
    assert same_outputs(CCLN.from_pretrained("me/net"), network)
    with pytest.raises(CheckpointError, match="me/net is a folder here and has no revision v2"):
        CCLN.from_pretrained("me/net", revision="v2")
    assert hub.asked == []


# --- To the hub and back ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ccln", "matching"])
def test_a_published_network_can_be_fetched(hub: Hub, tmp_path: Path, kind: str):
    network = saved(tmp_path / "run") if kind == "ccln" else matching()
    address = network.push_to_hub("me/net", token="hf_secret")
    assert address == f"https://huggingface.co/me/net/commit/{hub.names('me/net')[0]}"
    assert [sorted(files) for files in hub.commits["me/net"]] == [["README.md", "config.json", "model.safetensors"]]
    assert all(request.endswith("Bearer hf_secret") for request in hub.asked if request.startswith("POST"))
    fetched = type(network).from_pretrained("me/net")
    assert same_outputs(fetched, network)
    assert all(torch.equal(fetched.state_dict()[name], tensor) for name, tensor in network.state_dict().items())
    found, known = fetched.checkpoint, network.checkpoint
    assert (found.class_names, found.specification, found.decoding) == (NAMES, SPECIFICATION, known.decoding)
    assert found.training == {**ACCOUNT, "data": "AVE_Dataset"}
    assert network.checkpoint.training["data"] == PLACE  # known here, not published


def test_only_two_files_are_fetched(hub: Hub, tmp_path: Path):
    saved(tmp_path / "run")
    (tmp_path / "run" / "modeling.py").write_text("raise SystemExit")
    (tmp_path / "run" / "pytorch_model.bin").write_bytes(b"pickle")
    publish(hub, tmp_path / "run")
    CCLN.from_pretrained("me/net")
    assert {request.split("/")[-1] for request in hub.asked} == {"config.json", "model.safetensors"}


def test_a_fetched_network_can_be_published_again(hub: Hub, tmp_path: Path):
    network = saved(tmp_path)
    network.push_to_hub("me/first")
    CCLN.from_pretrained("me/first").push_to_hub("me/second")
    first, second = hub.commits["me/first"][0], hub.commits["me/second"][0]
    for name in ("config.json", "model.safetensors"):
        assert first[name] == second[name]
    assert same_outputs(CCLN.from_pretrained("me/second"), network)


@pytest.mark.parametrize("private", [None, False, True])
def test_a_new_repository_is_as_private_as_was_asked(hub: Hub, tmp_path: Path, private: bool | None):
    saved(tmp_path).push_to_hub("me/net", private=private)
    assert hub.private == {"me/net": private is True}


def test_revisions(hub: Hub, tmp_path: Path):
    first, second = saved(tmp_path, seed=0), saved(tmp_path, seed=1)
    first.push_to_hub("me/net")
    fetched = CCLN.from_pretrained("me/net")
    second.push_to_hub("me/net")
    assert same_outputs(fetched, first)
    assert same_outputs(CCLN.from_pretrained("me/net"), second)  # not what the cache holds
    commits = hub.names("me/net")
    assert same_outputs(CCLN.from_pretrained("me/net", revision=commits[0]), first)
    assert same_outputs(CCLN.from_pretrained("me/net", revision=commits[1]), second)


def test_files_of_two_commits_are_never_mixed(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A new commit is published between the fetching of the config and of the weights."""
    import huggingface_hub

    first, second = saved(tmp_path, seed=0), saved(tmp_path, seed=1)
    first.push_to_hub("me/net")
    really_fetch = huggingface_hub.hf_hub_download

    def fetch(repository: str, name: str, **options: Any) -> str:
        path = really_fetch(repository, name, **options)
        if name == "config.json" and len(hub.commits["me/net"]) == 1:
            second.push_to_hub("me/net")
        return path

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fetch)
    assert same_outputs(CCLN.from_pretrained("me/net"), first)
    assert same_outputs(CCLN.from_pretrained("me/net"), second)


# --- What cannot be fetched -------------------------------------------------------------------------------------------


def test_a_missing_repository_revision_or_file_is_named(hub: Hub, tmp_path: Path):
    remedy = "name a folder that holds its config.json and model.safetensors"
    refused("me/net", "RepositoryNotFoundError", "hf auth login", remedy)
    network = saved(tmp_path)
    network.push_to_hub("me/net")
    refused("me/net", "RevisionNotFoundError", remedy, revision="v9")
    for name in ("config.json", "model.safetensors"):
        publish(hub, tmp_path, f"me/no-{name}", leave_out=(name,))
        refused(f"me/no-{name}", "RemoteEntryNotFoundError", name, remedy)


def test_the_hub_takes_precedence_over_the_cache(hub: Hub, tmp_path: Path):
    saved(tmp_path).push_to_hub("me/net")
    CCLN.from_pretrained("me/net")
    del hub.commits["me/net"]
    refused("me/net", "RepositoryNotFoundError")


def offline_switch(_hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def connection_refused(_hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    point_at("http://127.0.0.1:1", monkeypatch)


def broken_hub(hub: Hub, _monkeypatch: pytest.MonkeyPatch) -> None:
    hub.error_status = 503


each_outage = pytest.mark.parametrize("cut_off", [offline_switch, connection_refused, broken_hub])


@each_outage
def test_an_unreachable_hub_soon_gives_one_clear_error(
    hub: Hub, cut_off: Callable[..., None], monkeypatch: pytest.MonkeyPatch
):
    cut_off(hub, monkeypatch)
    started = time.monotonic()
    refused("me/net", "name a folder that holds its config.json and model.safetensors")
    assert time.monotonic() - started < 5


@each_outage
def test_the_cache_is_used_when_the_hub_is_unreachable(
    hub: Hub, tmp_path: Path, cut_off: Callable[..., None], monkeypatch: pytest.MonkeyPatch
):
    network = saved(tmp_path / "run")
    network.push_to_hub("me/net")
    CCLN.from_pretrained("me/net")
    cut_off(hub, monkeypatch)
    assert same_outputs(CCLN.from_pretrained("me/net"), network)
    assert same_outputs(CCLN.from_pretrained("me/net", revision=hub.names("me/net")[0]), network)
    refused("me/net", revision="v9")
    os.unlink(next((tmp_path / "cache").rglob("model.safetensors")))
    refused("me/net")


@pytest.mark.parametrize("repository", ["me/net", "no such name", "a/b/c"])
def test_a_repository_that_the_hub_refuses_is_named(hub: Hub, tmp_path: Path, repository: str):
    hub.error_status = 403
    with pytest.raises(
        CheckpointError, match=rf"{repository} on the Hugging Face hub: .*hf auth login.*save_pretrained"
    ):
        saved(tmp_path).push_to_hub(repository)


# --- Forged files -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda config: config.update(format=1), "train again"),
        (lambda config: config.update(auto_map={"AutoModel": "modeling.Net"}), "auto_map"),
        (lambda config: config["decoding"].update(event_threshold=7), "event_threshold = 7"),
        (lambda config: config["model"].update(width=24), "model.safetensors"),
        (lambda config: config.update(weights_sha256="0" * 64), "sha256"),
    ],
)
def test_a_forged_config_is_refused(hub: Hub, tmp_path: Path, change: Callable[[dict[str, Any]], object], reason: str):
    saved(tmp_path / "run")
    change_config(tmp_path / "run", change)
    publish(hub, tmp_path / "run")
    refused("me/net", reason)


def test_other_weights_are_refused(hub: Hub, tmp_path: Path):
    saved(tmp_path / "run")
    (tmp_path / "run" / "model.safetensors").write_bytes(b"\x80\x04c__builtin__\nexec\n")
    publish(hub, tmp_path / "run")
    refused("me/net", "model.safetensors", "sha256")


@pytest.mark.parametrize(("name", "size_bytes"), [("config.json", 17 * 2**20), ("model.safetensors", 3 * 2**20)])
def test_oversized_files_are_not_fetched(hub: Hub, tmp_path: Path, name: str, size_bytes: int):
    saved(tmp_path / "run")
    os.truncate(tmp_path / "run" / name, size_bytes)
    publish(hub, tmp_path / "run")
    refused("me/net", name, f"{size_bytes} bytes")
    assert not any(request.startswith("GET") and request.endswith(name) for request in hub.asked)


# --- The model card ---------------------------------------------------------------------------------------------------


def test_the_card_shows_what_the_config_holds(hub: Hub, tmp_path: Path):
    saved(tmp_path / "run").push_to_hub("me/net")
    card = hub.commits["me/net"][0]["README.md"].decode()
    assert card.startswith("---\nlibrary_name: ccln\n")
    assert [line[2:] for line in card.splitlines() if line.startswith("- ") and line[2:] in NAMES] == list(NAMES)
    for row in ("| task | supervised |", "| data | AVE\\_Dataset |", "| seed | 3 |", "| version of ccln | 0.1.0 |"):
        assert row in card
    for row in ("| segment accuracy | 0.75 | none |", "| event threshold | 0.4 |", "| class temperature | 3 |"):
        assert row in card
    (specification,) = re.findall(r"```json\n(.*?)\n```", card, re.DOTALL)
    assert json.loads(specification) == SPECIFICATION
    assert "ccln-localize --checkpoint net video.mp4" in card
    assert 'CCLN.from_pretrained("me/net")' in card


def test_local_paths_are_not_published(hub: Hub, tmp_path: Path):
    for place in (PLACE, PLACE + "/", "C:\\Users\\somebody\\AVE_Dataset"):
        network = saved(tmp_path / "run")
        save_checkpoint(tmp_path / "run", replace(network.checkpoint, training={**ACCOUNT, "data": place}))
        network.push_to_hub("me/net")
        for data in hub.commits["me/net"][-1].values():
            assert b"somebody" not in data
            assert str(tmp_path).encode() not in data
    network = saved(tmp_path / "run")
    save_checkpoint(tmp_path / "run", replace(network.checkpoint, training={**ACCOUNT, "data": [PLACE]}))
    network.push_to_hub("me/net")
    assert not any(b"somebody" in data for data in hub.commits["me/net"][-1].values())


def test_the_card_of_a_matching_network_has_no_localize_command(tmp_path: Path):
    card = model_card(matching().checkpoint, "me/net")
    assert 'MatchingNetwork.from_pretrained("me/net")' in card
    assert "ccln-localize" not in card
    assert "event threshold" not in card


def test_names_are_escaped_in_the_card():
    names = ("<script>alert(1)</script>", "[a](http://b) | `c`\n# d", "![e](f)")
    account = {"task": "a|b\n\n---\n# c", "test": "none", "validation": {"x|y": "<b>"}, "versions": [1], "seed": {}}
    card = model_card(replace(checkpoint(names=names), training=account), "me/net")
    for markup in ("<script>", "[a](", "![e](", "\n# d", "\n# c", "<b>", "x|y"):
        assert markup not in card
    assert "- \\[a\\](http://b) \\| \\`c\\` \\# d\n" in card


def test_the_hub_client_is_imported_only_when_it_is_used():
    program = "import sys, ccln.model; print('huggingface_hub' in sys.modules, 'requests' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["False", "False"]
