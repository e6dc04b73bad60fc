"""Which of several audio tracks is taken: by number, by language, or the mean of all."""

import tempfile
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.making import Audio, Video, make_video, steady
from support.processes import run

from ccln import extract, localize
from ccln.cache import FeatureCache, clip_digest, feature_key, source_digest
from ccln.extractors import PRESETS, ExtractorError, preset_from_specification, preset_with
from ccln.model import load_checkpoint, save_checkpoint
from ccln.pipeline.decode.clip import decode_clip, decode_clips
from ccln.pipeline.decode.container import DecodeError, MissingStreamError, open_video
from ccln.pipeline.decode.frames import FrameRequest
from ccln.pipeline.decode.inspect import inspect_clip, report_table

REQUEST = FrameRequest(48, 64, 1)
TONES_HZ = (500, 1300, 2900)


def tone(hz: float, seconds: float = 3, rate_hz: int = 48_000) -> np.ndarray:
    return (0.4 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate_hz)) / rate_hz)).astype(np.float32)


def track(hz: float, language: str = "", title: str = "", seconds: float = 3, codec: str = "flac", **more) -> Audio:
    metadata = {name: text for name, text in (("language", language), ("title", title)) if text}
    rate_hz = more.pop("rate_hz", 48_000)
    return Audio(tone(hz, seconds, rate_hz), rate_hz, codec=codec, metadata=metadata, **more)


def three_tracks(path: Path, seconds: float = 3, codec: str = "aac") -> Path:
    """A tone each, one in English and two in German, which QuickTime knows by its other code."""
    codes = ("eng", "ger", "ger") if path.suffix == ".mov" else ("eng", "deu", "deu")
    tracks = [track(hz, code, seconds=seconds, codec=codec) for hz, code in zip(TONES_HZ, codes, strict=True)]
    return make_video(path, Video(steady(round(25 * seconds))), tracks)


def heard(waveform: np.ndarray) -> set[int]:
    """Which of the tones are in a waveform, by their power; each alone has a quarter of the time's."""
    spectrum = np.abs(np.fft.rfft(waveform)) ** 2
    power = {hz: spectrum[hz * 10 - 20 : hz * 10 + 20].sum() for hz in TONES_HZ}  # ten bins are a hertz
    return {hz for hz, of in power.items() if of > 0.05 * sum(power.values())}


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.ts", "clip.mov"])
@pytest.mark.parametrize(
    ("asked", "places"),
    [("1", [0]), ("2", [1]), ("3", [2]), ("eng", [0]), ("deu", [1]), ("ger", [1]), ("mix", [0, 1, 2])],
)
def test_a_track_is_taken_by_number_or_language_and_mix_holds_all(
    tmp_path: Path, name: str, asked: str, places: list[int]
) -> None:
    path = three_tracks(tmp_path / name)
    clip = decode_clip(path, REQUEST, audio_track=asked)
    assert heard(clip.waveform) == {TONES_HZ[place] for place in places}
    taken = [line.endswith("(taken)") for line in inspect_clip(path, audio_track=asked).tracks if "audio track" in line]
    assert taken == [place in places for place in range(3)]


@settings(max_examples=15, deadline=None)
@given(
    tracks=st.lists(
        st.tuples(
            st.sampled_from(TONES_HZ),
            st.sampled_from([16_000, 44_100, 48_000]),
            st.sampled_from(["flac", "aac", "pcm_s16le"]),
            st.fractions(0, 1, max_denominator=10),
            st.integers(1, 24),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_the_mix_is_the_mean_of_the_tracks_each_taken_alone(
    tracks: list[tuple[int, int, str, Fraction, int]],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        streams = [
            track(hz, codec=codec, rate_hz=rate_hz, start_seconds=start, seconds=halves / 2)
            for hz, rate_hz, codec, start, halves in tracks
        ]
        path = make_video(Path(folder) / "clip.mkv", Video(steady(300)), streams)
        alone = [list(decode_clips(path, REQUEST, audio_track=str(number))) for number in range(1, len(streams) + 1)]
        mixed = list(decode_clips(path, REQUEST, audio_track="mix"))
    for index, clip in enumerate(mixed):
        mean = np.mean([clips[index].waveform for clips in alone], axis=0)
        np.testing.assert_allclose(clip.waveform, mean, rtol=0, atol=1e-6)
        assert np.array_equal(clip.frames, alone[0][index].frames)
    assert any(clip.waveform.any() for clip in mixed)


def test_without_a_choice_the_track_is_that_of_a_player_and_alone_the_first(tmp_path: Path) -> None:
    path = three_tracks(tmp_path / "clip.mkv")
    assert heard(decode_clip(path, REQUEST).waveform) == {TONES_HZ[0]}
    single = make_video(tmp_path / "single.mkv", Video(steady(75)), track(500))
    default, first, mix = (decode_clip(single, REQUEST, audio_track=asked).waveform for asked in (None, "1", "mix"))
    assert np.array_equal(default, first)
    assert np.array_equal(default, mix)


@pytest.mark.parametrize(("asked", "named"), [("4", "track 4"), ("fra", "track in the language 'fra'")])
def test_a_track_that_is_not_there_is_an_error_that_lists_those_that_are(
    tmp_path: Path, asked: str, named: str
) -> None:
    path = make_video(
        tmp_path / "clip.mkv", Video(steady(75)), [track(500, "eng", "The\nfilm"), track(1300, "deu", layout="stereo")]
    )
    with pytest.raises(DecodeError) as refused:
        decode_clip(path, REQUEST, audio_track=asked, on_missing="zeros")
    assert str(refused.value) == (
        f'{path}: has no audio {named}. It has 1: flac 48000 Hz mono eng "The\\nfilm"; 2: flac 48000 Hz stereo deu. '
        "Choose one of them, or leave the file out."
    )
    report = inspect_clip(path, audio_track=asked)
    assert report.problems == (str(refused.value),)
    assert len(report_table([report]).splitlines()) == 2 + 1 + 3  # the problem and all three tracks


def test_a_file_without_audio_lacks_it_whatever_track_is_asked_for(tmp_path: Path) -> None:
    path = make_video(tmp_path / "clip.mp4", Video(steady(75)))
    for asked in ("2", "deu", "mix"):
        with pytest.raises(MissingStreamError, match="no audio stream"):
            decode_clip(path, REQUEST, audio_track=asked)
        assert decode_clip(path, REQUEST, audio_track=asked, on_missing="zeros").missing == ("audio",)


def test_tracks_without_decoder_are_left_out_of_language_and_mix(tmp_path: Path) -> None:
    path = make_video(
        tmp_path / "clip.mkv",
        Video(steady(75)),
        [track(500, "deu", codec="ac3"), track(1300, "deu"), track(2900, "eng")],
    )
    path.write_bytes(path.read_bytes().replace(b"A_AC3", b"A_AC?"))
    assert heard(decode_clip(path, REQUEST, audio_track="deu").waveform) == {1300}
    assert heard(decode_clip(path, REQUEST, audio_track="mix").waveform) == {1300, 2900}
    assert heard(decode_clip(path, REQUEST, audio_track="3").waveform) == {2900}  # numbers count all
    with pytest.raises(DecodeError, match="no decoder for its audio stream"):
        decode_clip(path, REQUEST, audio_track="1")


def test_check_lists_number_codec_channels_language_and_title(tmp_path: Path) -> None:
    streams = [track(500, "eng"), track(1300, "deu", "Kommentar", layout="stereo", rate_hz=44_100)]
    path = make_video(tmp_path / "clip.mkv", Video(steady(75)), streams)
    assert inspect_clip(path, audio_track="deu").tracks == (
        "video track 1: h264 64x48 (taken)",
        "audio track 1: flac 48000 Hz mono eng",
        'audio track 2: flac 44100 Hz stereo deu "Kommentar" (taken)',
    )


@pytest.mark.parametrize(
    ("given_as", "kept"), [(2, "2"), ("2", "2"), ("DEU", "deu"), ("pt-BR", "pt-br"), ("mix", "mix")]
)
def test_the_track_is_part_of_the_specification(given_as: str | int, kept: str) -> None:
    plain = PRESETS["light"]
    chosen = preset_with(plain, audio_track=given_as)
    assert chosen.to_json() == {**plain.to_json(), "audio_track": kept}
    assert preset_from_specification({**chosen.to_json(), "weights_sha256": {}}) == chosen
    assert "audio_track" not in plain.to_json()  # or older caches and checkpoints would be of another specification


@pytest.mark.parametrize("wrong", [0, -1, "0", "01", "", "e", "deutsch!", "1.5", "eng\n"])
def test_what_names_no_track_is_refused(wrong: str | int) -> None:
    with pytest.raises(ExtractorError, match=r"audio track .* has to be a number from 1 on, a language such as eng"):
        preset_with(PRESETS["light"], audio_track=wrong)
    with pytest.raises(ExtractorError):
        preset_from_specification({**PRESETS["light"].to_json(), "audio_track": str(wrong), "weights_sha256": {}})


def test_features_of_tracks_are_kept_apart_and_a_file_without_the_track_fails_alone(tmp_path: Path) -> None:
    folder, cache = tmp_path / "videos", tmp_path / "features"
    folder.mkdir()
    several = three_tracks(folder / "several.mp4")
    make_video(folder / "single.mp4", Video(steady(75)), track(500, "eng", codec="aac"))
    options = (folder, "--cache", cache, "--preset", "light-log-mel")
    second = run("ccln-extract", *options, "--audio-track", "2")
    assert second.returncode == 1
    assert "1 done, 0 cached, 1 failed" in second.stdout
    assert "single.mp4: has no audio track 2. It has 1: aac 48000 Hz mono eng." in second.stderr
    plain = run("ccln-extract", *options)
    assert "2 done, 0 cached, 0 failed" in plain.stdout
    assert "1 done, 1 cached, 0 failed" not in run("ccln-extract", *options, "--audio-track", "deu").stdout
    features = FeatureCache(cache)
    by_track = {
        specification.get("audio_track"): features.read(feature_key(source_digest(several), digest)).audio
        for digest, specification in features.specifications().items()
    }
    assert by_track.keys() == {None, "2", "deu"}
    assert (by_track["2"] == by_track["deu"]).all()
    assert not (by_track["2"] == by_track[None]).all()
    shown = run("ccln-cache", "info", "--cache", cache).stdout
    assert shown.count("audio track") == 2
    assert "audio track 2" in shown
    check = run("ccln-extract", folder, "--check", "--audio-track", "2")
    assert check.returncode == 1
    assert "audio track 2: aac 48000 Hz mono deu (taken)" in check.stdout
    wrong = run("ccln-extract", folder, "--check", "--audio-track", "0")
    assert wrong.returncode == 2
    assert "has to be a number from 1 on" in wrong.stderr


def test_windows_of_a_long_video_are_of_the_track(tmp_path: Path) -> None:
    three_tracks(tmp_path / "several.mkv", seconds=25, codec="flac")
    make_video(tmp_path / "alone.mkv", Video(steady(625)), track(TONES_HZ[1], seconds=25))
    listing = tmp_path / "set.csv"
    listing.write_text("path,start,end,label,split\nseveral.mkv,1,24,A,train\nalone.mkv,1,24,A,train\n")
    for asked in (None, "deu"):
        done = extract(listing, cache=tmp_path / "features", preset="light-log-mel", audio_track=asked)
        assert done.done == (6 if asked is None else 3)
    cache = FeatureCache(tmp_path / "features")
    (of_track,) = (digest for digest, made in cache.specifications().items() if made.get("audio_track"))
    (of_all,) = (digest for digest, made in cache.specifications().items() if not made.get("audio_track"))
    for start in (0, 10, 20):
        taken, alone = (
            cache.read(feature_key(clip_digest(source_digest(tmp_path / name), start), digest)).audio
            for name, digest in (("several.mkv", of_track), ("alone.mkv", of_all))
        )
        assert (taken == alone).all()


def packets_of(path: Path) -> list[list[bytes]]:
    """The packets of each audio track."""
    with open_video(path) as container:
        of: dict[int, list[bytes]] = {stream.index: [] for stream in container.streams.audio}
        for packet in container.demux(audio=list(range(len(of)))):
            of[packet.stream.index] += [bytes(packet)] * bool(packet.size)
        return list(of.values())


@pytest.mark.parametrize(("asked", "places"), [("2", [1]), ("eng", [0]), ("mix", [0, 1, 2])])
def test_localization_follows_the_checkpoint_and_the_video_has_the_taken_track(
    tiny_run: Path, tmp_path: Path, asked: str, places: list[int]
) -> None:
    checkpoint = load_checkpoint(tiny_run)
    specification = {**checkpoint.specification, "audio_track": asked}
    save_checkpoint(tmp_path / "run", replace(checkpoint, specification=specification))
    several = three_tracks(tmp_path / "several.mp4")
    other = None if asked == "mix" else track(500, "fra", codec="aac")
    lacking = make_video(tmp_path / "lacking.mp4", Video(steady(75)), other)
    found = localize([several, lacking], checkpoint=tmp_path / "run", out=tmp_path / "out", video=tmp_path / "drawn")
    assert [failure.path.name for failure in found.failed] == ["lacking.mp4"]
    (video,) = found.videos
    drawn = packets_of(tmp_path / "drawn" / "several.events.mp4")
    before = packets_of(several)
    assert drawn == [before[place] for place in places]
    waveform = decode_clip(several, REQUEST, audio_track=asked).waveform
    alone = make_video(
        tmp_path / "alone.mkv", Video(steady(75)), Audio(waveform[: 3 * 16_000], 16_000, codec="pcm_f32le")
    )
    (same,) = localize(alone, checkpoint=tiny_run).videos
    np.testing.assert_allclose(video.heard, same.heard, atol=0.02)
    np.testing.assert_allclose(video.event_probability, same.event_probability, atol=0.02)
