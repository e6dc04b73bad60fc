"""What the tests of the whole pipeline share: a tiny data set of real videos, extracted once a session."""

import fcntl
import gc
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# The tests run side by side, one a processor; networks with more threads than that would only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# What is imported stays to the end: to search it for garbage again and again takes a quarter of the time of importing.
gc.disable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the longest tests, those of the README, first: started last, they would leave the other processors idle."""
    items.sort(key=lambda item: item.path.name != "test_readme.py")


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


def _made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that the first of the processes that run the tests makes for all; no test may change it."""
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    folder, made = base / name, base / f"{name} is made"
    with open(base / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            shutil.rmtree(folder, ignore_errors=True)
            make(folder)
            made.touch()
    return folder


@pytest.fixture(scope="session")
def tiny_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen videos in AVE's layout."""
    from ccln.pipeline.demo import make_demo_dataset

    return _made_once(
        tmp_path_factory, "videos", lambda folder: make_demo_dataset(folder, seed=1, train=6, validation=5, test=5)
    )


@pytest.fixture(scope="session")
def tiny_cache(tiny_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Their light features."""
    from ccln import extract

    def make(cache: Path) -> None:
        assert extract([tiny_set], cache=cache).failed == ()

    return _made_once(tmp_path_factory, "features", make)


@pytest.fixture(scope="session")
def tiny_run(tiny_set: Path, tiny_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network trained on them for two epochs."""
    from ccln import train

    return _made_once(tmp_path_factory, "run", lambda folder: train(tiny_set, cache=tiny_cache, out=folder, epochs=2))


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Features and labels of fifteen clips, three of them background, in the published layout."""
    from support.publishing import publish

    return publish(tmp_path_factory.mktemp("published") / "ave")


@pytest.fixture(scope="session")
def imported(published: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that holds them."""
    from ccln import import_ave

    cache = tmp_path_factory.mktemp("imported") / "features"
    assert import_ave(published, cache=cache).done == 15
    return cache


@pytest.fixture(scope="module")
def one_core() -> Iterator[None]:
    """Tiny networks and batches gain nothing from threads, which would wait for each other."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def no_curves() -> Iterator[None]:
    """Drawing the curves takes longer than training on small synthetic clips."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ccln.pipeline.report.run.pages.save_curves", lambda *_: None)
        yield
