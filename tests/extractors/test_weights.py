import hashlib
import http.server
import pickle
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from support.extractor_inputs import AVE, LEGACY, LIGHT, build_audio, build_visual, save_timm, tiny_preset

from ccln.extractors import WeightsError, load_extractors, preset_with, weights


@pytest.fixture(scope="module")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("weights") / "test_resnet.safetensors"
    save_timm("test_resnet", file)
    return file


@pytest.fixture
def no_net(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[int], None]:
    """Empty caches, and every connection goes to a port of this machine."""
    import huggingface_hub

    def through(port: int) -> None:
        for scheme in ("http", "https"):
            monkeypatch.setenv(f"{scheme}_proxy", f"http://127.0.0.1:{port}")
        huggingface_hub.close_session()

    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return through


@pytest.fixture
def silent_port() -> Iterator[int]:
    """The port of a server that accepts connections and sends nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize(
    ("build", "file", "address", "cache", "flag"),
    [
        (
            lambda: build_visual(AVE.visual, None),
            "vgg19-dcbb9e9d.pth",
            "download.pytorch.org",
            "torch",
            "--visual-weights",
        ),
        (
            lambda: build_visual(LEGACY.visual, None),
            "vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5",
            "github.com/fchollet",
            "torch",
            "--visual-weights",
        ),
        (lambda: build_audio(AVE.audio, None), "vggish-10086976.pth", "github.com", "torch", "--audio-weights"),
        (
            lambda: build_audio(preset_with(LIGHT, audio="torchaudio:WAVLM_BASE").audio, None),
            "wavlm_base.pth",
            "download.pytorch.org/torchaudio",
            "torch",
            "--audio-weights",
        ),
        (
            lambda: build_visual(preset_with(LIGHT, visual="timm:test_resnet").visual, None),
            "model.safetensors",
            "test_resnet.r160_in1k",
            "hub",
            "--visual-weights",
        ),
    ],
    ids=["vgg19", "vgg19-keras", "vggish", "torchaudio", "timm"],
)
@pytest.mark.parametrize("network", ["unreachable", "silent"])
def test_weights_that_cannot_be_fetched_give_an_error_with_a_remedy(
    build: Callable[[], object],
    file: str,
    address: str,
    cache: str,
    flag: str,
    network: str,
    no_net: Callable[[int], None],
    silent_port: int,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(weights, "_TIMEOUT_SECONDS", 0.2)
    no_net(silent_port if network == "silent" else 1)
    started = time.monotonic()
    with pytest.raises(WeightsError) as caught:
        build()
    assert time.monotonic() - started < 5
    for part in (file, address, str(tmp_path / cache), f"{flag} FILE"):
        assert part in str(caught.value)
    assert socket.getdefaulttimeout() is None
    assert capfd.readouterr().out == ""


def test_timm_models_without_published_weights_need_a_file() -> None:
    choice = preset_with(LIGHT, visual="timm:test_vit_relpos").visual
    with pytest.raises(WeightsError, match=r"no published weights.*--visual-weights FILE"):
        build_visual(choice, None)


def test_cached_weights_load_without_a_network_connection(
    no_net: Callable[[int], None], tiny_weights: Path, tmp_path: Path
) -> None:
    no_net(1)
    commit = "0" * 40
    repository = tmp_path / "hub" / "models--timm--test_resnet.r160_in1k"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    (repository / "snapshots" / commit).mkdir(parents=True)
    (repository / "snapshots" / commit / "model.safetensors").symlink_to(tiny_weights)
    given = load_extractors(tiny_preset(), visual_weights=tiny_weights)
    assert load_extractors(tiny_preset()).specification == given.specification


HTML = b"<html>not found</html>"


@pytest.mark.parametrize(
    ("build", "name", "algorithm", "wanted"),
    [
        (lambda file: build_audio(AVE.audio, file), "vggish-10086976.pth", "sha256", "10086976"),
        (lambda file: build_visual(AVE.visual, file), "vgg19-dcbb9e9d.pth", "sha256", "dcbb9e9d"),
        (
            lambda file: build_visual(LEGACY.visual, file),
            "vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5",
            "md5",
            "253f8cb515780f3b799900260a226db6",
        ),
    ],
    ids=["vggish", "vgg19", "vgg19-keras"],
)
@pytest.mark.parametrize("given", [True, False], ids=["given", "cached"])
def test_a_file_with_a_published_name_must_have_its_digest(
    build: Callable[[Path | None], object],
    name: str,
    algorithm: str,
    wanted: str,
    given: bool,
    no_net: Callable[[int], None],
    tmp_path: Path,
) -> None:
    no_net(1)
    file = tmp_path / name if given else tmp_path / "torch" / "checkpoints" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(HTML)
    with pytest.raises(WeightsError) as caught:
        build(file if given else None)
    for part in (str(file), wanted, hashlib.new(algorithm, HTML).hexdigest()):
        assert part in str(caught.value)


def test_a_file_with_a_digest_in_its_name_must_have_that_digest(tiny_weights: Path, tmp_path: Path) -> None:
    digest = hashlib.sha256(tiny_weights.read_bytes()).hexdigest()
    for length in (8, 12, 64):
        file = tmp_path / f"resnet-a1-{digest[:length]}.safetensors"
        file.write_bytes(tiny_weights.read_bytes())
        assert weights.read_weights(file).keys() == weights.read_weights(tiny_weights).keys()
        wrong = tmp_path / f"resnet-a1-{digest[: length - 1]}{'0' if digest[length - 1] != '0' else '1'}.safetensors"
        file.rename(wrong)
        with pytest.raises(WeightsError, match=digest):
            weights.read_weights(wrong)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The address of a folder on this machine, and the folder."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(tmp_path / "served"))

        def log_message(self, format: str, *args: Any) -> None:
            pass

    (tmp_path / "served").mkdir()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as running:
        threading.Thread(target=running.serve_forever).start()
        yield f"http://127.0.0.1:{running.server_port}", tmp_path / "served"
        running.shutdown()


def test_fetched_weights_are_kept_only_if_their_digest_is_right(
    no_net: Callable[[int], None],
    server: tuple[str, Path],
    tiny_weights: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    no_net(1)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    address, served = server
    content = tiny_weights.read_bytes()
    sha256, md5 = (hashlib.new(name, content).hexdigest() for name in ("sha256", "md5"))
    right, wrong = f"net-{sha256[:8]}.safetensors", f"net-{hashlib.sha256(HTML).hexdigest()[:8]}.safetensors"
    for name in (right, wrong, "net.h5"):
        (served / name).write_bytes(content)
    cache = tmp_path / "torch" / "checkpoints"

    with pytest.raises(WeightsError, match=sha256):
        weights.fetch_url(f"{address}/{wrong}", "net", "--flag")
    with pytest.raises(WeightsError, match=md5):
        weights.fetch_url(f"{address}/net.h5", "net", "--flag", md5="0" * 32)
    assert list(cache.iterdir()) == []
    assert weights.fetch_url(f"{address}/{right}", "net", "--flag").read_bytes() == content
    assert weights.fetch_url(f"{address}/net.h5", "net", "--flag", md5=md5).read_bytes() == content
    assert {file.name for file in cache.iterdir()} == {right, "net.h5"}
    (served / right).unlink()
    assert weights.fetch_url(f"{address}/{right}", "net", "--flag") == cache / right


@pytest.mark.parametrize(
    "build",
    [
        lambda file: build_visual(AVE.visual, file),
        lambda file: build_audio(AVE.audio, file),
        lambda file: build_visual(LIGHT.visual, file),
        lambda file: build_visual(preset_with(LIGHT, visual="timm:test_vit").visual, file),
        lambda file: build_audio(preset_with(LIGHT, audio="torchaudio:HUBERT_BASE").audio, file),
    ],
    ids=["vgg19", "vggish", "efficientnet-lite0", "timm", "torchaudio"],
)
def test_weights_of_another_network_are_refused(build: Callable[[Path], object], tiny_weights: Path) -> None:
    with pytest.raises(WeightsError, match=r"test_resnet\.safetensors does not hold .* is missing; .* and \d+ more"):
        build(tiny_weights)


def test_the_first_mismatches_are_named(tiny_weights: Path, tmp_path: Path) -> None:
    state = weights.read_weights(tiny_weights)
    state["conv1.0.weight"] = state["conv1.0.weight"][:, :2].contiguous()
    state["surprise"] = torch.zeros(1)
    shape = tuple(state["conv1.0.weight"].shape)
    save_file(state, tmp_path / "wrong.safetensors")
    with pytest.raises(WeightsError) as caught:
        build_visual(tiny_preset().visual, tmp_path / "wrong.safetensors")
    assert f"conv1.0.weight is {shape}, not ({shape[0]}, 3, {shape[2]}, {shape[3]})" in str(caught.value)
    assert "surprise is unknown" in str(caught.value)


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("exploded"),)


def test_files_without_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.pth").touch()
    (tmp_path / "text.pth").write_text("not weights")
    (tmp_path / "text.safetensors").write_text("not weights")
    (tmp_path / "bomb.pth").write_bytes(pickle.dumps({"conv1.weight": Bomb()}, protocol=2))
    torch.save({"conv1.weight": Bomb()}, tmp_path / "zipped-bomb.pth")
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    torch.save({"state_dict": {"conv1.weight": torch.zeros(1)}}, tmp_path / "nested.pth")
    for file in [*tmp_path.iterdir(), tmp_path / "missing.pth", tmp_path]:
        with pytest.raises(WeightsError, match=file.name):
            weights.read_weights(file)
    assert not (tmp_path / "exploded").exists()


def test_log_mel_takes_no_weights(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="--audio-weights"):
        build_audio(LIGHT.audio, tmp_path / "some.pth")


def test_hash_of_weights_is_of_names_shapes_types_and_bytes_in_any_order() -> None:
    def digest(**state: torch.Tensor) -> str | None:
        network = torch.nn.Module()
        for name, value in state.items():
            network.register_buffer(name, value)
        return weights.weights_sha256(network)

    ones = torch.ones(2, 3)
    different = [
        digest(a=ones),
        digest(b=ones),
        digest(a=ones.T.contiguous()),
        digest(a=ones.view(torch.int32)),
        digest(a=ones, b=ones),
        digest(a=ones * 2),
    ]
    assert len(set(different)) == len(different)
    assert digest(a=ones, b=ones * 2) == digest(b=ones * 2, a=ones)
    strided = torch.arange(6.0).view(3, 2).T
    assert digest(a=strided) == digest(a=strided.contiguous())
    assert digest() is None
