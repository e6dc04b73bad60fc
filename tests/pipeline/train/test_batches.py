import pytest
import torch
from torch.utils.data import DataLoader

from ccln.pipeline.train.tasks import ClipBatches


def clips() -> tuple[list[torch.Tensor], list[torch.Tensor], torch.Tensor]:
    visual = [torch.full((10, 2, 2, 4), float(index), dtype=torch.float16) for index in range(7)]
    audio = [torch.full((10, 3), float(index)) for index in range(7)]
    return visual, audio, torch.arange(7)


@pytest.mark.parametrize("free_bytes", [0, 1 << 40], ids=["read from the files", "in memory"])
def test_a_batch_holds_the_requested_clips(monkeypatch: pytest.MonkeyPatch, free_bytes: int) -> None:
    class Memory:
        available = free_bytes

    monkeypatch.setattr("psutil.virtual_memory", Memory)
    visual, audio, labels = clips()
    batches = ClipBatches(visual, audio, label=labels)
    visual[0].zero_()
    visual[1].fill_(9)  # what the files hold now is seen only where they are read for each batch
    assert (batches.__getitems__([1])["visual"] == 9).all() == (free_bytes == 0)
    batch = batches.__getitems__([4, 2, 4])
    assert batch["visual"].shape == (3, 10, 2, 2, 4)
    assert batch["visual"].dtype == torch.float16
    assert batch["audio"].shape == (3, 10, 3)
    for name in ("visual", "audio"):
        assert batch[name].flatten(1)[:, 0].tolist() == [4, 2, 4]
    assert batch["label"].tolist() == [4, 2, 4]


def test_a_loader_takes_whole_batches_and_leaves_no_clip_out() -> None:
    visual, audio, labels = clips()
    batches = ClipBatches(visual, audio, label=labels)
    sizes, seen = [], []
    for batch in DataLoader(batches, 3, shuffle=True, collate_fn=lambda batch: batch):
        sizes.append(len(batch["audio"]))
        seen += batch["label"].tolist()
        assert batch["audio"][:, 0, 0].tolist() == batch["label"].tolist()
    assert sizes == [3, 3, 1]
    assert sorted(seen) == list(range(7))
