import json
from base64 import b64decode, b64encode
from dataclasses import astuple, replace
from hashlib import sha256
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.located import located_video, texts
from support.pages import EVENTS, page_video

from ccln.pipeline.localize.result import Event
from ccln.pipeline.report.page import PageVideo, waveform_peaks, write_page
from ccln.pipeline.report.writers import OutputError
from ccln.pipeline.visible import is_control, visible


class Elements(HTMLParser):
    """The text of every element that has an id, of the title and the scripts, and all tags."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.texts: dict[str, str] = {}
        self.scripts: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._open: str | None = None
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open = dict(attrs).get("id") or (tag if tag in ("title", "h1", "style") else None)
        if tag == "script" and not self._open:
            self._open = f"script {len(self.scripts)}"
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._open = None

    def handle_data(self, data: str) -> None:
        if self._open is None:
            return
        if self._open.startswith("script "):
            self.scripts[-1] += data
        self.texts[self._open] = self.texts.get(self._open, "") + data

    def json(self, identity: str) -> Any:
        return json.loads(self.texts[identity])


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Bytes that stand for a video."""
    path = tmp_path / "clip.mp4"
    path.write_bytes(bytes(range(256)) * 5000)
    return path


def test_the_page_contains_all_that_it_shows(tmp_path: Path, video: Path) -> None:
    page = Elements(write_page([page_video(video)], tmp_path / "out" / "page.html", title="One video"))
    index, clip = page.json("index"), page.json("video-0")
    assert index["videos"] == [
        {
            "name": "clip.mp4",
            "duration": 6.0,
            "events": [
                {"label": label, "start": start, "end": end, "confidence": confidence, "lane": 0}
                for label, start, end, confidence, *_ in map(astuple, EVENTS)
            ],
        }
    ]
    assert clip["seen"] == [0, 0.2, 0.4, 0.6, 0.8, 1]
    assert clip["heard"] == clip["seen"][::-1]
    assert clip["event"] == [0, 0.1, 0.2, 0.3, 0.4, 0.5]
    assert clip["segmentSeconds"] == 1
    assert clip["labels"] == {
        "names": ["Silence", "Dog", "Church bell"],
        "runs": [[0, 1], [1, 2], [2, 1], [0, 1], [1, 1]],
    }
    peaks = np.frombuffer(b64decode(clip["peaks"]), np.uint8)
    assert len(peaks) == 6 * 50
    np.testing.assert_array_equal(np.unique(peaks[:150]), [26])  # 0.1 of 255
    np.testing.assert_array_equal(np.unique(peaks[150:]), [128])
    assert (clip["attention"]["height"], clip["attention"]["width"]) == (2, 3)
    np.testing.assert_array_equal(
        np.frombuffer(b64decode(clip["attention"]["values"]), np.uint8), 255 * np.eye(6).ravel()
    )
    assert b64decode(page.texts["media-0"]) == video.read_bytes()
    assert clip["link"] is None
    assert clip["contentType"] == "video/mp4"


def test_overlapping_events_of_a_class_are_in_lanes_of_their_own(tmp_path: Path, video: Path) -> None:
    spans = [("Dog", 0.0, 3.0), ("Cat", 0.5, 2.0), ("Dog", 1.0, 2.0), ("Dog", 2.0, 4.0), ("Dog", 3.0, 4.0)]
    events = tuple(Event(label, start, end, 0.5) for label, start, end in spans)
    page = Elements(write_page([page_video(video, events)], tmp_path / "page.html", title=""))
    assert [event["lane"] for event in page.json("index")["videos"][0]["events"]] == [0, 0, 1, 1, 0]


def test_attention_without_a_preference_does_not_glow(tmp_path: Path, video: Path) -> None:
    clip = page_video(video)
    attention = np.full((6, 2, 3), 1 / 6, np.float32)
    even = PageVideo(replace(clip.located, attention=attention), clip.peaks)
    page = Elements(write_page([even], tmp_path / "page.html", title=""))
    assert max(b64decode(page.json("video-0")["attention"]["values"])) < 255 / 3


def test_larger_videos_are_linked_instead_of_embedded(tmp_path: Path, video: Path) -> None:
    odd = tmp_path / "a: b" / 'c?d#e%20"<ü.mp4'
    odd.parent.mkdir()
    odd.write_bytes(b"x" * 10)
    size = video.stat().st_size + 10
    clips = [page_video(video), page_video(odd)]
    within = Elements(write_page(clips, tmp_path / "within.html", title="", embed_limit_bytes=size))
    beside = Elements(write_page(clips, tmp_path / "page" / "beside.html", title="", embed_limit_bytes=size - 1))
    assert {"media-0", "media-1"} <= within.texts.keys()
    assert not {"media-0", "media-1"} & beside.texts.keys()
    assert beside.json("video-0")["link"] == "../clip.mp4"
    assert beside.json("video-1")["link"] == "../a%3A%20b/c%3Fd%23e%2520%22%3C%C3%BC.mp4"
    assert [clip["name"] for clip in beside.json("index")["videos"]] == ["clip.mp4", 'a: b/c?d#e%20"<ü.mp4']


@settings(max_examples=25, deadline=None)
@given(label=texts, title=texts | st.sampled_from(["</title><script>alert(1)</script>", "$style"]))
def test_all_texts_are_escaped(label: str, title: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("page")
    (folder / "<img src=x>.mp4").write_bytes(b"")
    label += "</script><script>alert(1)</script><!--"
    clip = page_video(folder / "<img src=x>.mp4", (Event(label, 0.0, 1.0, 0.5),), labels=(label,) * 6)
    out = write_page([clip], folder / "page.html", title=title, failed=[(folder / "</script>.mp4", "<b>broken</b>")])
    page = Elements(out)
    assert page.json("index")["videos"][0]["events"][0]["label"] == visible(label)
    assert page.json("video-0")["labels"] == {"names": [visible(label)], "runs": [[0, 6]]}
    assert page.json("index")["videos"][0]["name"] == "<img src=x>.mp4"
    assert page.json("index")["failed"] == [{"name": "</script>.mp4", "reason": "<b>broken</b>"}]
    assert page.texts.get("title", "") == visible(title, keep="\n\t")
    assert not any(is_control(letter) for letter in out.read_text("utf-8") if letter not in "\n\t")
    plain = Elements(write_page([page_video(folder / "<img src=x>.mp4")], folder / "plain.html", title="plain"))
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in plain.tags]


def test_names_that_are_not_unicode_are_accepted(tmp_path: Path) -> None:
    path = tmp_path / "caf\udce9.mp4"
    path.write_bytes(b"x")
    out = write_page([page_video(path)], tmp_path / "page.html", title=path.name, embed_limit_bytes=0)
    assert Elements(out).json("video-0")["link"] == "caf%E9.mp4"


def test_the_policy_allows_only_the_pages_own_scripts(tmp_path: Path, video: Path) -> None:
    page = Elements(write_page([page_video(video)], tmp_path / "page.html", title="x"))
    policy = next(a["content"] for tag, a in page.tags if tag == "meta" and "http-equiv" in a)
    assert policy is not None
    directives = {name: sources for name, *sources in (part.split() for part in policy.split("; "))}
    assert directives["default-src"] == ["'none'"]
    assert directives["script-src"] == [
        f"'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'" for script in page.scripts
    ]
    assert directives["media-src"] == ["'self'", "file:", "blob:"]
    assert directives["img-src"] == ["data:"]
    assert "connect-src" not in directives
    assert not [a for tag, a in page.tags if tag == "script" and "src" in a]


def test_an_existing_page_is_never_overwritten(tmp_path: Path, video: Path) -> None:
    out = tmp_path / "page.html"
    write_page([page_video(video)], out, title="one")
    before = out.read_bytes()
    assert write_page([page_video(video)], out, title="one") == out
    with pytest.raises(OutputError, match=r"page\.html.*is there already"):
        write_page([page_video(video)], out, title="two")
    assert out.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4", "page.html"]


def test_a_missing_video_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"gone\.mp4: cannot be read"):
        write_page([page_video(tmp_path / "gone.mp4")], tmp_path / "page.html", title="")
    assert list(tmp_path.iterdir()) == []


def test_peaks_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="peaks"):
        PageVideo(located_video(), np.full(300, -1, np.float32))


def test_an_hour_takes_little_room(tmp_path: Path, video: Path) -> None:
    random = np.random.default_rng(0)
    labels = tuple(f"class {n}" for n in random.integers(0, 28, 3600))  # none longer than the last: the worst case
    events = tuple(Event(labels[12 * n], 12.0 * n, 12.0 * n + 5, 0.5) for n in range(300))
    hour = page_video(video, events, 3600.0, 3600, (7, 7), labels)
    page = write_page([hour], tmp_path / "hour.html", title="", embed_limit_bytes=0)
    runs = Elements(page).json("video-0")["labels"]
    assert [runs["names"][number] for number, count in runs["runs"] for _ in range(count)] == list(labels)
    assert page.stat().st_size < 800_000


@given(seconds=st.integers(1, 4), rate_hz=st.sampled_from([50, 8000, 16000, 22050, 44100]), place=st.floats(0, 1))
def test_a_click_is_the_peak_of_its_fiftieth_of_a_second(seconds: int, rate_hz: int, place: float) -> None:
    samples = np.zeros(seconds * rate_hz, np.float32)
    at = min(int(place * len(samples)), len(samples) - 1)
    samples[at] = -0.5
    peaks = waveform_peaks(samples, rate_hz)
    assert peaks.shape == (seconds * 50,)
    assert np.flatnonzero(peaks).tolist() == [at * 50 // rate_hz]
    assert peaks.max() == 0.5
    in_pieces = [waveform_peaks(second, rate_hz) for second in samples.reshape(seconds, rate_hz)]
    np.testing.assert_array_equal(np.concatenate(in_pieces), peaks)


def test_loud_and_broken_samples_have_peaks_from_zero_to_one() -> None:
    samples = np.array([np.nan, -7, 0.25, np.inf], np.float32)
    np.testing.assert_array_equal(waveform_peaks(samples, 50), np.array([0, 1, 0.25, 1], np.float32))
    assert waveform_peaks(np.zeros(0, np.float32), 50).shape == (0,)


def test_vendored_wavesurfer_is_the_published_one() -> None:
    vendored = files("ccln.pipeline.report.page") / "vendored"
    script = (vendored / "wavesurfer.min.js").read_bytes()
    assert sha256(script).hexdigest() in (vendored / "README.md").read_text(encoding="utf-8")
    assert b"</script" not in script.lower()
    assert b"<!--" not in script
