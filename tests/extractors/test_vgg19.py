from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from msgspec.structs import replace
from safetensors.torch import save_file
from support.extractor_inputs import AVE, CORNERS, LEGACY, LIGHT, build_visual, random_frames, random_state, with_size

from ccln.extractors import WeightsError, load_extractors, preset_with

BLOCKS = ((64, 64), (128, 128), (256,) * 4, (512,) * 4, (512,) * 4)
LAYERS = [f"block{b}_conv{c}" for b, widths in enumerate(BLOCKS, 1) for c in range(1, len(widths) + 1)]
WIDTHS = [width for widths in BLOCKS for width in widths]


@pytest.fixture(scope="module")
def torchvision_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, torch.Tensor]]]:
    shapes: dict[str, tuple[int, ...]] = {}
    index, channels = 0, 3
    for widths in BLOCKS:
        for width in widths:
            shapes |= {f"features.{index}.weight": (width, channels, 3, 3), f"features.{index}.bias": (width,)}
            index, channels = index + 2, width
        index += 1
    state = random_state(shapes, seed=1)
    file = tmp_path_factory.mktemp("torchvision") / "vgg19.pth"
    torch.save(state | {"classifier.6.bias": torch.zeros(1000)}, file)  # the published file holds the classifier too
    yield file, state
    file.unlink()


def test_vgg19_is_pool5_of_torchvisions_weights(torchvision_file: tuple[Path, dict[str, torch.Tensor]]) -> None:
    file, state = torchvision_file
    preset = with_size(preset_with(LIGHT, visual="vgg19"), 64, 96)
    frames = random_frames(preset, segments=2, seed=0)
    features = load_extractors(preset, visual_weights=file).visual(frames)

    maps = torch.tensor(frames).flatten(0, 1).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(value)[:, None, None] for value in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    maps = (maps - mean) / std
    parameters = iter(state.values())
    for widths in BLOCKS:
        for _ in widths:
            maps = F.conv2d(maps, next(parameters), next(parameters), padding=1).relu()
        maps = F.max_pool2d(maps, 2)
    expected = maps.reshape(2, 4, 512, 2, 3).mean(1).permute(0, 2, 3, 1).numpy()
    assert features.shape == (2, 2, 3, 512)
    np.testing.assert_allclose(features, expected, rtol=1e-3, atol=1e-4 * expected.max())


# --- Keras's weights ---------------------------------------------------------------------------------------------

Arrays = dict[str, tuple[np.ndarray, np.ndarray]]
NAMINGS = {
    "published": ("{0}/{0}_W_1:0", "{0}/{0}_b_1:0"),
    "flat": ("{0}/kernel:0", "{0}/bias:0"),
    "nested": ("{0}/{0}/kernel:0", "{0}/{0}/bias:0"),
}


@pytest.fixture(scope="module")
def keras_arrays() -> Arrays:
    """Of each layer a kernel (height, width, input, output) and a bias."""
    random = np.random.default_rng(2)
    inputs = [3, *WIDTHS[:-1]]
    return {
        layer: (
            random.standard_normal((3, 3, narrow, wide), np.float32) * np.float32((2 / (9 * narrow)) ** 0.5),
            random.standard_normal(wide, np.float32) * np.float32(0.1),
        )
        for layer, narrow, wide in zip(LAYERS, inputs, WIDTHS, strict=True)
    }


def write_keras(file: Path, arrays: Arrays, naming: str = "published") -> Path:
    with h5py.File(file, "w") as root:
        root.attrs["layer_names"] = [layer.encode() for layer in arrays]
        for layer, (kernel, bias) in arrays.items():
            for pattern, value in zip(NAMINGS[naming], (kernel, bias), strict=True):
                root[pattern.format(layer)] = value
        root.create_group("block5_pool")
        root["fc1/kernel:0"] = np.zeros((4, 4), np.float32)  # the file with the classifier has such
    return file


@pytest.fixture(scope="module")
def keras_file(tmp_path_factory: pytest.TempPathFactory, keras_arrays: Arrays) -> Iterator[Path]:
    file = write_keras(tmp_path_factory.mktemp("keras") / "weights.h5", keras_arrays)
    yield file
    file.unlink()


def reference_keras(frame: np.ndarray, file: Path) -> np.ndarray:
    """Keras's preprocessing and network on one RGB frame, in numpy, channels last as in TensorFlow."""
    maps = frame[:, :, ::-1].astype(np.float64) - [103.939, 116.779, 123.68]
    with h5py.File(file) as root:
        for block, widths in enumerate(BLOCKS, 1):
            for index in range(1, len(widths) + 1):
                layer = f"block{block}_conv{index}"
                kernel, bias = (np.asarray(root[pattern.format(layer)]) for pattern in NAMINGS["published"])
                height, width, _ = maps.shape
                padded = np.pad(maps, ((1, 1), (1, 1), (0, 0)))
                total = np.zeros((height, width, kernel.shape[3])) + bias
                for row in range(3):
                    for column in range(3):
                        total += padded[row : row + height, column : column + width] @ kernel[row, column]
                maps = np.maximum(total, 0)
            maps = np.max([maps[row::2, column::2] for row, column in CORNERS], axis=0)
    return maps


def test_ave_legacy_is_keras_block5_pool(keras_file: Path) -> None:
    preset = with_size(replace(LIGHT, frames_per_segment=2, visual=LEGACY.visual), 64, 32)
    frames = random_frames(preset, segments=1, seed=0)
    frames[..., 0] //= 2  # red is not blue
    features = load_extractors(preset, visual_weights=keras_file).visual(frames)
    expected = np.mean([reference_keras(frame, keras_file) for frame in frames[0]], axis=0)
    assert features.shape == (1, 2, 1, 512)
    assert (expected > 0).mean() > 0.2
    np.testing.assert_allclose(features[0], expected, rtol=1e-3, atol=1e-4 * expected.max())


@pytest.mark.parametrize("naming", ["flat", "nested"])
def test_newer_names_of_keras_are_read_too(naming: str, keras_file: Path, keras_arrays: Arrays, tmp_path: Path) -> None:
    newer = build_visual(LEGACY.visual, write_keras(tmp_path / "newer.h5", keras_arrays, naming)).state_dict()
    published = build_visual(LEGACY.visual, keras_file).state_dict()
    assert len(newer) == 2 * len(LAYERS)
    assert all(torch.equal(newer[name], published[name]) for name in published)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_of_one_vgg19_are_not_taken_for_the_others(
    suffix: str, keras_file: Path, torchvision_file: tuple[Path, dict[str, torch.Tensor]], tmp_path: Path
) -> None:
    file, state = torchvision_file
    if suffix == ".safetensors":
        file = tmp_path / "vgg19.safetensors"
        save_file(state, file)
    with pytest.raises(WeightsError, match=r"no HDF5 file: .*torchvision's weights belong to vgg19 \(preset ave\)"):
        build_visual(LEGACY.visual, file)
    renamed = tmp_path / f"keras{suffix}"
    renamed.symlink_to(keras_file)
    for keras in (keras_file, renamed):
        with pytest.raises(WeightsError, match=r"HDF5 file, as Keras writes: only vgg19-keras \(preset ave-legacy\)"):
            build_visual(AVE.visual, keras)


KERNEL = np.ones((3, 3, 3, 64), np.float32)


def soft_link(group: h5py.Group, folder: Path) -> None:
    group.file["elsewhere"] = KERNEL
    group["kernel:0"] = h5py.SoftLink("/elsewhere")


def external_link(group: h5py.Group, folder: Path) -> None:
    with h5py.File(folder / "other.h5", "w") as other:
        other["kernel"] = KERNEL
    group["kernel:0"] = h5py.ExternalLink("other.h5", "/kernel")


def external_storage(group: h5py.Group, folder: Path) -> None:
    (folder / "secret").write_bytes(KERNEL.tobytes())
    group.create_dataset("kernel:0", KERNEL.shape, "f4", external=str(folder / "secret"))


def virtual_dataset(group: h5py.Group, folder: Path) -> None:
    layout = h5py.VirtualLayout(KERNEL.shape, "f4")
    layout[...] = h5py.VirtualSource(str(folder / "other.h5"), "kernel", KERNEL.shape)
    group.create_virtual_dataset("kernel:0", layout)


def many_members(group: h5py.Group, folder: Path) -> None:
    group["kernel:0"] = KERNEL
    for index in range(1000):
        group.create_group(f"group {index}")


def cycle(group: h5py.Group, folder: Path) -> None:
    group["block1_conv1"] = group


HOSTILE: dict[str, Callable[[h5py.Group, Path], object]] = {
    "soft link": soft_link,
    "external link": external_link,
    "external storage": external_storage,
    "virtual dataset": virtual_dataset,
    "many members": many_members,
    "cycle": cycle,
    "integers": lambda group, _: group.create_dataset("kernel:0", data=KERNEL.astype(np.int32)),
    "references": lambda group, _: group.create_dataset("kernel:0", KERNEL.shape, h5py.ref_dtype),
    "torch layout": lambda group, _: group.create_dataset("kernel:0", data=KERNEL.transpose(3, 2, 0, 1)),
    "huge": lambda group, _: group.create_dataset("kernel:0", (10**6, 10**6, 3, 64), "f4", chunks=(1, 1, 3, 64)),
    "packed": lambda group, _: group.create_dataset("kernel:0", data=KERNEL, compression="gzip"),
    "two kernels": lambda group, _: [group.create_dataset(name, data=KERNEL) for name in ("kernel:0", "kernel:1")],
    "none": lambda group, _: None,
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_only_plain_arrays_of_the_right_shape_are_read(kind: str, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "hostile.h5", "w") as root:
        root["block1_conv1/bias:0"] = np.zeros(64, np.float32)
        group = root["block1_conv1"]
        assert isinstance(group, h5py.Group)
        HOSTILE[kind](group, tmp_path)
    with pytest.raises(WeightsError, match=r"hostile\.h5 does not hold .*layer block1_conv1"):
        build_visual(LEGACY.visual, tmp_path / "hostile.h5")


def test_the_layer_that_is_missing_is_named(tmp_path: Path) -> None:
    """Also what the file above would be without its fault: the first layer is read."""
    with h5py.File(tmp_path / "short.h5", "w") as root:
        root["block1_conv1/bias:0"] = np.zeros(64, np.float32)
        root["block1_conv1/kernel:0"] = KERNEL
    with pytest.raises(WeightsError, match=r"layer block1_conv2 should have one float array \(3, 3, 64, 64\)"):
        build_visual(LEGACY.visual, tmp_path / "short.h5")


def test_a_truncated_file_is_refused(keras_file: Path, tmp_path: Path) -> None:
    content = keras_file.read_bytes()
    for size in (100, len(content) // 2):
        (tmp_path / "cut.h5").write_bytes(content[:size])
        with pytest.raises(WeightsError, match=r"cut\.h5 cannot be read as weights"):
            build_visual(LEGACY.visual, tmp_path / "cut.h5")
