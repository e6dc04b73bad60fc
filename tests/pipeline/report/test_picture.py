import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageColor
from support.located import NASTY, located_video
from support.pages import contrast

from ccln.pipeline.decode.audio import SAMPLE_RATE_HZ
from ccln.pipeline.decode.clip import DecodedClip
from ccln.pipeline.localize.result import Event, LocatedVideo
from ccln.pipeline.report.clock import round_step, time_within
from ccln.pipeline.report.names import short_names, shortened
from ccln.pipeline.report.picture import TimelinePicture
from ccln.pipeline.report.picture.lanes import lanes_of
from ccln.pipeline.report.picture.panels import LEFT, RIGHT, WIDTH, summary, timeline_figure, two_lines
from ccln.pipeline.report.picture.picture import PooledSpectrogram
from ccln.pipeline.report.style import CLASS_COLORS, TRACK_COLORS
from ccln.pipeline.report.writers import OutputError

ACROSS = WIDTH - LEFT - RIGHT
IN_FRAMES = slice(90, 122)  # rows of pixels that lie within the frames whatever their shape
BARK, CAT = Event("Bark", 2.0, 5.0, 0.9), Event("Cat", 5.0, 9.0, 0.75)


def located(
    duration: float, *events: Event, looks_at: tuple[int, int] | None = None, name: str = "clip.mp4"
) -> LocatedVideo:
    count = int(np.ceil(duration))
    attention = np.full((count, 7, 7), 1 / 49, np.float32)
    if looks_at is not None:
        attention[:] = 0
        attention[:, *looks_at] = 1
    track = np.linspace(0, 1, count, dtype=np.float32)
    labels = tuple(event.label for event in events)[:1] * count or ("Bark",) * count
    tracks = {"seen": track, "heard": track, "event_probability": track}
    return located_video(name, duration, events, labels=labels, attention=attention, **tracks)


def piece(
    start: float = 0.0, seconds: float = 10.0, grey: np.ndarray | None = None, aspect: float = 4 / 3
) -> DecodedClip:
    """Ten seconds of silence and of frames of one grey each; `grey` is (segment, frame)."""
    grey = np.full((10, 4), 128) if grey is None else grey
    frames = np.broadcast_to(grey[..., None, None, None], (10, 4, 14, 14, 3)).astype(np.uint8)
    waveform = np.zeros(160_000, np.float32)
    return DecodedClip(frames, np.zeros((10, 4)), aspect, waveform, seconds, start_seconds=start)


def drawn(picture: TimelinePicture, timeline: LocatedVideo, path: Path) -> np.ndarray:
    """Float RGB (row, column, 3) of the picture."""
    picture.draw(timeline, path)
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB")).astype(float)


def drawn_once(timeline: LocatedVideo, path: Path, *pieces: DecodedClip) -> np.ndarray:
    picture = TimelinePicture()
    for clip in pieces or (piece(),):
        picture.add(clip)
    return drawn(picture, timeline, path)


def test_bars_lie_where_the_events_are(tmp_path: Path) -> None:
    image = drawn_once(located(10.0, BARK), tmp_path / "a.png")
    assert image.shape[1] == WIDTH
    below = image[-90:]
    columns = np.flatnonzero(((below.max(2) - below.min(2)) > 60).sum(0) > 10)
    assert columns.min() == pytest.approx(LEFT + 0.2 * ACROSS, abs=2)
    assert columns.max() == pytest.approx(LEFT + 0.5 * ACROSS, abs=2)


def test_an_event_of_a_second_is_visible_in_three_hours(tmp_path: Path) -> None:
    duration = 3 * 3600.0
    image = drawn_once(located(duration, Event("Bark", 5400.0, 5401.0, 0.9)), tmp_path / "a.png")
    below = image[-90:]
    columns = np.flatnonzero(((below.max(2) - below.min(2)) > 60).sum(0) > 10)
    assert 2 <= len(columns) <= 4
    assert columns.mean() == pytest.approx(LEFT + ACROSS / 2, abs=3)


def test_the_glow_is_brightest_where_the_network_attends(tmp_path: Path) -> None:
    corners = {}
    for name, region in (("top", (0, 0)), ("bottom", (6, 6))):
        image = drawn_once(located(10.0, looks_at=region), tmp_path / f"{name}.png")
        cell = image[82 : 82 + 75, LEFT : LEFT + ACROSS // 10].mean(2)
        corners[name] = (cell[2:9, 4:11].mean(), cell[-12:-4, -12:-5].mean())
    assert corners["top"][0] > corners["top"][1] + 20
    assert corners["bottom"][1] > corners["bottom"][0] + 20
    assert corners["top"][0] > corners["bottom"][0] + 20


def test_frames_keep_their_times_however_long_the_file(tmp_path: Path) -> None:
    count = 36
    duration = 10.0 * count

    def picture_of(grey_at: np.ndarray, name: str) -> np.ndarray:
        """The frames' mean brightness across the axis of time."""
        pieces = [piece(10.0 * n, grey=grey_at[n]) for n in range(count)]
        return drawn_once(located(duration), tmp_path / name, *pieces)[IN_FRAMES, LEFT : LEFT + ACROSS].mean((0, 2))

    times = np.arange(count * 40).reshape(count, 10, 4) / 4
    black = picture_of(np.zeros_like(times), "black.png")
    white = picture_of(np.full_like(times, 255), "white.png")
    ramp = picture_of(255 * times / duration, "ramp.png")
    within = white - black > 100  # not between two frames
    assert within.mean() > 0.8
    shown_seconds = duration * (ramp - black)[within] / (white - black)[within]
    drawn_seconds = (np.arange(ACROSS)[within] + 0.5) / ACROSS * duration
    shown_seconds = shown_seconds.round(1)
    assert len(set(shown_seconds)) == 12
    for seconds in set(shown_seconds):
        # At the middle of its place; one frame in so many seconds is kept.
        assert drawn_seconds[shown_seconds == seconds].mean() == pytest.approx(seconds, abs=duration / 32 / 2 + 1)


def test_memory_does_not_grow_with_the_file() -> None:
    picture, sizes = TimelinePicture(), []
    for number in range(60):
        picture.add(piece(10.0 * number))
        sizes.append(len(pickle.dumps(picture)))
    assert max(sizes[30:]) <= 1.1 * max(sizes[:30])
    assert max(sizes) < 2**22


def test_the_spectrogram_of_the_parts_is_that_of_the_whole() -> None:
    seconds = np.arange(34 * SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    samples = (0.4 * np.sin(2 * np.pi * 523 * seconds) * (seconds > 7.5)).astype(np.float32)
    whole, parts = PooledSpectrogram(), PooledSpectrogram()
    whole.add(samples)
    for part in np.split(samples, [160_000, 320_000]):
        parts.add(part)
        parts.columns()  # reading it changes nothing
    (power, column_seconds), (again, _) = whole.columns(), parts.columns()
    assert 750 <= len(power) <= 1500
    np.testing.assert_allclose(again, power, rtol=1e-4, atol=1e-9)
    loud = power.sum(1) > power.sum(1).max() / 2
    assert loud.argmax() * column_seconds == pytest.approx(7.5, abs=2 * column_seconds)
    assert len(power) * column_seconds == pytest.approx(34, abs=2 * column_seconds)
    steady = power[int(9 / column_seconds) : -2].sum(1)
    assert steady.max() / steady.min() < 1.1  # no click where two parts meet


def test_the_spectrogram_of_a_short_waveform_has_all_columns() -> None:
    spectrogram = PooledSpectrogram()
    spectrogram.add(np.zeros(200, np.float32))
    power, column_seconds = spectrogram.columns()
    assert len(power) * column_seconds == pytest.approx(200 / SAMPLE_RATE_HZ, abs=0.01)


@pytest.mark.parametrize("hertz", [200, 1000, 4000])
def test_a_tone_is_brightest_at_its_place_on_the_scale(hertz: int) -> None:
    spectrogram = PooledSpectrogram()
    spectrogram.add(np.sin(2 * np.pi * hertz * np.arange(SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ).astype(np.float32))
    power = spectrogram.columns()[0].sum(0)
    place = len(power) * np.log1p(hertz / 700) / np.log1p(SAMPLE_RATE_HZ / 2 / 700)  # where the figure writes it
    assert power.argmax() + 0.5 == pytest.approx(place, abs=1)
    assert power.max() > power.sum() / 3


def test_noise_is_as_bright_in_every_band() -> None:
    spectrogram = PooledSpectrogram()
    spectrogram.add(np.random.default_rng(0).normal(size=60 * SAMPLE_RATE_HZ).astype(np.float32))
    power = spectrogram.columns()[0].mean(0)
    np.testing.assert_allclose(power, power.mean(), rtol=0.1)


def test_silence_is_dark(tmp_path: Path) -> None:
    image = drawn_once(located(10.0), tmp_path / "a.png")
    assert (image.max(2) < 40)[:, LEFT : LEFT + ACROSS].sum() > 100 * ACROSS


@pytest.mark.parametrize(("duration", "aspect"), [(0.3, 9 / 16), (6.3, 21 / 9), (10_800.0, 9 / 16)])
def test_any_length_and_shape_can_be_drawn(duration: float, aspect: float, tmp_path: Path) -> None:
    event = Event("Bark", duration / 2, duration, 0.5)
    clip = piece(seconds=min(10.0, duration), aspect=aspect)
    assert drawn_once(located(duration, event), tmp_path / "a.png", clip).shape[1] == WIDTH


@pytest.mark.parametrize("aspect", [9 / 16, 16 / 9])
def test_frames_have_the_displayed_aspect_ratio(aspect: float, tmp_path: Path) -> None:
    begins = piece(aspect=4 / 3)  # frames come later, and only then is their shape known
    image = drawn_once(located(20.0), tmp_path / "a.png", begins, piece(10.0, aspect=aspect))
    strip = image[82:190, LEFT : LEFT + ACROSS].mean(2) < 250
    height = int(strip.any(1).argmin())
    edges = np.flatnonzero(np.diff(strip[height // 2].astype(int), prepend=0))
    widths = edges[1::2] - edges[: 2 * (len(edges) // 2) : 2]
    assert len(widths) > 5
    np.testing.assert_allclose(widths, height * aspect, atol=1.5)


def test_names_are_drawn_unchanged(tmp_path: Path) -> None:
    nasty = [*NASTY, "$x^2$", "\udcff.mp4", "a\nb", "Long " * 60]
    events = [Event(name, float(place % 9), place % 9 + 1.0, 0.5) for place, name in enumerate(nasty)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn_once(located(10.0, *events, name="$a$ \udcff {x}\n" + "very long " * 20), tmp_path / "a.png")


def test_a_picture_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "folder" / "a.png"
    drawn_once(located(10.0, BARK), path)
    content = path.read_bytes()
    drawn_once(located(10.0, BARK), path)
    with pytest.raises(OutputError, match=r"a\.png"):
        drawn_once(located(10.0, CAT), path)
    assert path.read_bytes() == content
    with monkeypatch.context() as patch:
        patch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("no room")))
        with pytest.raises(OutputError, match="no room"):
            drawn_once(located(10.0, BARK), path.with_name("b.png"))
    assert list(path.parent.iterdir()) == [path]


def test_a_picture_without_clips_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"clip\.mp4"):
        TimelinePicture().draw(located(10.0), tmp_path / "a.png")


def test_classes_that_do_not_overlap_share_a_lane_where_their_names_fit() -> None:
    (lane,) = lanes_of([CAT, BARK], 10, 100, 24)
    assert [bar.text for bar in lane.bars] == ["Bark  0.90", "Cat  0.75"]
    assert len({bar.color for bar in lane.bars}) == 2
    apart = lanes_of([CAT, BARK], 10, 5, 24)
    assert [(lane.name, bar.text) for lane in apart for bar in lane.bars] == [("Bark", ""), ("Cat", "")]
    assert [lane.bars for lane in lanes_of([], 10, 100, 24)] == [[]]


def test_the_number_of_a_short_bar_is_beside_it_where_there_is_room() -> None:
    spans = [(0.0, 0.2), (1.0, 1.2), (1.3, 1.5), (9.8, 10.0)]
    events = [Event("Bark", start, end, 0.5) for start, end in spans]
    (lane,) = lanes_of([*events, Event("Cat", 0.0, 10.0, 0.5)], 10, 150, 24)[:1]
    assert [(bar.side, bar.text) for bar in lane.bars] == [
        ("right", "0.50"),
        ("left", "0.50"),
        ("right", "0.50"),
        ("left", "0.50"),
    ]


def test_colors_repeat_only_when_there_are_more_classes() -> None:
    events = [Event(f"Class {number}", number, number + 1, 0.5) for number in range(len(CLASS_COLORS))]
    bars = [bar for lane in lanes_of(events, 9, 10, 24) for bar in lane.bars]
    assert len({bar.color for bar in bars}) == len(CLASS_COLORS) == len(set(CLASS_COLORS))


@pytest.mark.parametrize("color", [*CLASS_COLORS, *TRACK_COLORS.values()])
def test_white_letters_can_be_read_on_every_color(color: str) -> None:
    assert contrast(ImageColor.getrgb(color), (255, 255, 255)) >= 5


def test_the_minimum_duration_is_shown() -> None:
    figure = timeline_figure(located(10.0, BARK), {0.5: np.zeros((9, 9, 3), np.uint8)}, (np.ones((9, 64)), 1.0), 1.0)
    assert any("for at least 2 s" in text.get_text() for text in figure.texts)


@pytest.mark.parametrize("grey", [40, 128, 255])
def test_frames_without_attention_keep_their_brightness(grey: int, tmp_path: Path) -> None:
    image = drawn_once(located(10.0, looks_at=(0, 0)), tmp_path / "a.png", piece(grey=np.full((10, 4), grey)))
    assert image[140:150, LEFT + 50 : LEFT + 90].mean() == pytest.approx(grey, abs=2)


def test_overlapping_events_are_in_lanes_of_their_class() -> None:
    events = [BARK, Event("Cat", 4.0, 6.0, 0.5), Event("Bark", 3.0, 4.5, 0.5), Event("Bark", 5.0, 6.0, 0.5)]
    lanes = lanes_of(events, 10, 100, 24)
    assert [lane.name for lane in lanes] == ["Bark", "", "Cat"]
    assert [bar.event.start_seconds for bar in lanes[0].bars] == [2.0, 5.0]


@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(1, 9), st.sampled_from("abcdefgh")), max_size=30),
    st.integers(2, 9),
)
def test_every_event_has_one_bar_and_no_two_in_a_lane_overlap(spans: list[tuple[int, int, str]], most: int) -> None:
    events = [Event(label, start, start + length, 0.5) for start, length, label in spans]
    lanes = lanes_of(events, 60, 10, most)
    assert len([lane for lane in lanes if lane.name]) <= most
    bars = [bar.event for lane in lanes for bar in lane.bars]
    assert sorted(bars, key=repr) == sorted(events, key=repr)
    for lane in lanes:
        ends = [bar.event.end_seconds for bar in lane.bars]
        assert all(end <= bar.event.start_seconds for end, bar in zip(ends, lane.bars[1:], strict=False))


def test_a_line_sums_up_the_events() -> None:
    def fits(text: str) -> bool:
        return len(text) <= 40

    assert summary([], 10, fits) == "no event both seen and heard"
    assert summary([BARK, CAT], 10, fits) == "Bark 2.0–5.0 s, Cat 5.0–9.0 s"
    late = Event("Male speech, man speaking", 3725.0, 3731.4, 0.5)
    assert summary([late], 7200, fits) == "Male speech 1:02:05–1:02:11"
    assert summary([BARK] * 9 + [CAT] * 5, 60, fits) == "14 events: 9 Bark, 5 Cat"
    many = [Event(f"Class {number}", 0, 1, 0.5) for number in range(9)]
    assert summary([BARK, BARK, *many], 60, fits) == "11 events: 2 Bark, and 9 other classes"
    assert fits(summary([Event("Long" * 30, 0, 1, 0.5)], 60, fits))


def test_the_format_of_times_depends_on_the_length_of_the_file() -> None:
    assert [time_within(65.04, duration) for duration in (100, 300, 3600)] == ["65.0", "1:05", "0:01:05"]
    assert time_within(59.7, 300) == "1:00"


@given(st.floats(0.01, 1e6), st.integers(1, 30))
def test_a_round_step_divides_into_no_more_than_wanted(duration: float, most: int) -> None:
    step = round_step(duration, most)
    assert duration / step <= most * (1 + 1e-9)
    assert step == 0.25 or duration / step > most / 3


def test_short_names_stay_distinct() -> None:
    names = short_names({"Truck, diesel", "Truck, electric", "Male speech, man speaking"})
    assert names == {
        "Truck, diesel": "Truck, diesel",
        "Truck, electric": "Truck, electric",
        "Male speech, man speaking": "Male speech",
    }


@given(st.text(max_size=80), st.integers(3, 30))
def test_shortened_text_fits_and_keeps_its_ends(text: str, most: int) -> None:
    short = shortened(text, lambda line: len(line) <= most)
    assert len(short) == min(len(text), most)
    assert short[0:1] == text[0:1]
    assert all(
        len(line) <= most for line in two_lines("".join(text.splitlines()), lambda x: len(x) <= most).split("\n")
    )
