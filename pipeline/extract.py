"""From video files to cached features: list what is missing, do that, lose nothing."""

import itertools
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path, PurePath, PurePosixPath
from threading import Semaphore
from typing import Literal

import numpy as np
import torch

from ccln.cache import (
    CacheError,
    Claims,
    FeatureCache,
    Features,
    clip_digest,
    feature_key,
    open_cache,
    specification_digest,
)
from ccln.extractors import ExtractorError, Extractors
from ccln.extractors.contract import DECODING_RULES
from ccln.pipeline.cluster import worked_on_cluster
from ccln.pipeline.data.clips import clip_name
from ccln.pipeline.data.remote import RemoteVideo, Video
from ccln.pipeline.decode.clip import DecodedClip, decode_first
from ccln.pipeline.decode.container import DecodeError, MissingStreamError, unforeseen
from ccln.pipeline.decode.damage import OnDamage
from ccln.pipeline.decode.frames import FrameRequest
from ccln.pipeline.decode.processes import DecoderDiedError, Decoders
from ccln.pipeline.defaults import TIMEOUT_SECONDS
from ccln.pipeline.fetch import Fetcher, fetching
from ccln.pipeline.segments import CLIP_SECONDS
from ccln.pipeline.source import Digests, Source
from ccln.pipeline.workers import worked_on
from ccln.storage import StorageError

_MOST_JOURNAL_CHARACTERS = 1 << 24
_BATCH = 5000
"""Files that are looked up together."""
_FETCHED_AHEAD = 2
"""Of videos of URLs, how many a worker of a cluster fetches, for each that it works on."""

OnMissing = Literal["error", "zeros", "skip"]


@dataclass(frozen=True)
class Failure:
    """A file that gave no features."""

    path: Path | RemoteVideo
    reason: str

    @classmethod
    def of(cls, path: Path, error: Exception) -> "Failure":
        """What an error means for the file alone; what nobody foresaw is one of its kind, too.

        Raises:
            Exception: The error itself, if it is one that any other file would meet as well: a cache that cannot be
                written, a full disk.
        """
        if isinstance(error, DecodeError):
            return cls(path, str(error))
        if isinstance(error, ExtractorError):
            return cls(path, f"{path}: {error}")
        if isinstance(error, OSError) or type(error).__module__.startswith("ccln."):
            raise error
        if isinstance(error, MemoryError):
            return cls(path, f"{path}: there was not enough memory. Have fewer files in work at the same time.")
        return cls(path, unforeseen(path, error))


@dataclass(frozen=True)
class Damaged:
    """A file with damage that was concealed."""

    path: Path | RemoteVideo
    lost_seconds: Mapping[str, float]
    """Of "video" and "audio", in the clips that were made."""


@dataclass(frozen=True)
class ExtractionSummary:
    """What one run did."""

    done: int
    """Clips whose features were made."""
    cached: int
    """Clips whose features were there already."""
    checked: int
    """Clips whose features were there from an earlier release, so that their videos were decoded once more."""
    redone: int
    """How many of these were made again, since the rules of decoding have changed for such files; they count as done,
    the others as cached."""
    skipped: tuple[Failure, ...]
    """Clips without video or without audio, where these are to be left out."""
    failed: tuple[Failure, ...]
    damaged: tuple[Damaged, ...]
    """Files of which clips were made although something of them is lost."""
    specification: str
    """Digest of the extractor specification."""
    precision: str
    """The arithmetic of the visual network."""
    seconds: float
    """Of the whole run, from the first file's reading to the last entry's writing."""
    decode_seconds: float
    """Of waiting for decoding and scaling, added up over the workers."""
    network_seconds: float
    """Of the networks, added up over the workers."""


def extract_features(
    files: Mapping[Video, Collection[int]] | Sequence[Video | Path],
    extractors: Extractors,
    cache: FeatureCache,
    *,
    on_missing: OnMissing = "error",
    on_damage: OnDamage = "error",
    workers: int | None = None,
    timeout_seconds: float = TIMEOUT_SECONDS,
    progress: Callable[[int, int], None] | None = None,
) -> ExtractionSummary:
    """Extract the features of video files into a cache; what is there already is not done again.

    Args:
        files: Video files, on this machine or of URLs, and of each the seconds, multiples of ten, at which the clips to
            extract start; without these its first ten seconds alone.
        extractors: The networks to run.
        cache: Where the features go.
        on_missing: What to do with a file that has no video stream, or no audio stream: it fails; or black frames and
            silence stand for what is missing, which the entry records; or it is skipped.
        on_damage: What to do with a file of which a decoder refuses parts: it fails; or the frame before and silence
            stand for them, which the entry records, up to two seconds of a stream in a clip.
        workers: Clips in work at the same time; as many as there are processors if None.
        timeout_seconds: What ten seconds of a video may take to decode.
        progress: Called with files done and files in all, before the first and after each.

    Raises:
        CacheError: The cache cannot be written.
        ValueError: `workers` is less than 1.
    """
    with Claims(cache.root) as claims, Decoders(timeout_seconds) as decoders:
        worker = _Worker(extractors, decoders, cache, claims, on_missing, on_damage, nullcontext())

        def outcomes(items: Sequence[_File]) -> Iterator[_Outcome]:
            with fetching(video for video, _ in items if isinstance(video, RemoteVideo)) as worker.fetcher:
                yield from _all_outcomes(items, worker, workers)

        return _extracted(files, cache, extractors, worker.digests, outcomes, progress)


def extract_on_cluster(
    files: Mapping[Video, Collection[int]] | Sequence[Video | Path],
    load: Callable[[], Extractors],
    cache: FeatureCache,
    *,
    address: str = "local",
    on_missing: OnMissing = "error",
    on_damage: OnDamage = "error",
    timeout_seconds: float = TIMEOUT_SECONDS,
    progress: Callable[[int, int], None] | None = None,
) -> ExtractionSummary:
    """`extract_features` on the machines of a Ray cluster, which all see files and cache under the same paths and URLs.

    Args:
        files: As there.
        load: Called here and once in each worker: gives the networks to run, of the same specification everywhere.
        cache: As there.
        address: Of the cluster; "local" for one on this machine, for this run.
        on_missing: As there.
        on_damage: As there.
        timeout_seconds: As there.
        progress: As there.

    Raises:
        CacheError: The cache cannot be written.
        ClusterError: There is no cluster.
    """
    extractors = load()
    specification = specification_digest(extractors.specification)

    def outcomes(items: Sequence[_File]) -> Iterator[_Outcome]:
        contents: dict[Path | RemoteVideo, str] = {}
        """By file, the digest of the content of which a worker says that the features are there."""

        def keys_of(file: _File) -> Iterator[str]:
            path, starts = file
            if content := contents.get(path):
                yield from (feature_key(clip_digest(content, start), specification) for start in starts)

        def lost() -> list[_File]:
            unsent = cache.unsent(itertools.chain.from_iterable(map(keys_of, items)))
            return [file for file in items if unsent and not unsent.isdisjoint(keys_of(file))]

        make = partial(_cluster_work, load, str(cache), on_missing, on_damage, timeout_seconds)
        ahead = _FETCHED_AHEAD if any(isinstance(path, RemoteVideo) for path, _ in items) else 0
        for outcome in worked_on_cluster(items, make, _Outcome.given_up, address, ahead=ahead, lost=lost):
            contents[outcome.path] = "" if outcome.failure else outcome.content_sha256
            yield outcome

    return _extracted(files, cache, extractors, Digests(cache), outcomes, progress)


@contextmanager
def _cluster_work(
    load: Callable[[], Extractors],
    place: str,
    on_missing: OnMissing,
    on_damage: OnDamage,
    timeout_seconds: float,
    processors: int,
) -> "Iterator[Callable[[_File], _Outcome]]":
    """What a worker of a cluster does with files, for a cache at a place."""
    cache, turns = open_cache(place), Semaphore(processors)
    with Claims(cache.root) as claims, Decoders(timeout_seconds) as decoders, fetching() as fetcher:
        worker = _Worker(load(), decoders, cache, claims, on_missing, on_damage, turns)
        worker.fetcher = fetcher

        def work(file: _File) -> _Outcome:
            torch.set_num_threads(1)  # as in the threads of the local engine: the sums, too, are then the same
            return worker(file, wait=True)

        yield work
        cache.flush()
        worker.digests.save()


_File = tuple[Path | RemoteVideo, Collection[int]]


def _extracted(
    files: Mapping[Video, Collection[int]] | Sequence[Video | Path],
    cache: FeatureCache,
    extractors: Extractors,
    digests: Digests,
    work: "Callable[[Sequence[_File]], Iterator[_Outcome]]",
    progress: Callable[[int, int], None] | None,
) -> ExtractionSummary:
    listed = files if isinstance(files, Mapping) else dict.fromkeys(files, (0,))
    specification = specification_digest(extractors.specification)
    killers = _Killers(cache.root)
    outcome_of: dict[Path | RemoteVideo, _Outcome] = {}
    started = time.perf_counter()
    if progress is not None:
        progress(0, len(listed))
    todo: list[_File] = []
    done = cached = 0
    remaining = iter(listed.items())
    while some := list(islice(remaining, _BATCH)):
        missing = _missing(some, cache, digests, specification)
        todo += missing
        done += len(some) - len(missing)
        cached += sum(len(starts) for _, starts in some) - sum(len(starts) for _, starts in missing)
        if progress is not None and len(missing) < len(some):
            progress(done, len(listed))
    order = [file for file, _ in todo]
    todo.sort(key=lambda file: file[0] in killers)  # stable: all others stay in their order
    try:
        for outcome in work(todo):
            outcome_of[outcome.path] = outcome  # the last counts, where a file was worked on again
            if isinstance(outcome.path, RemoteVideo) and outcome.content_sha256:
                digests.keep(outcome.path.state, outcome.content_sha256)
            if outcome.failure is not None and outcome.killed:
                killers.add(outcome.failure.path)
            if progress is not None:
                progress(done + len(outcome_of), len(listed))
    finally:
        digests.save()
    cache.flush()
    outcomes = [outcome_of[file] for file in order if file in outcome_of]
    return ExtractionSummary(
        done=sum(outcome.done for outcome in outcomes),
        cached=cached + sum(outcome.cached for outcome in outcomes),
        checked=sum(outcome.checked for outcome in outcomes),
        redone=sum(outcome.redone for outcome in outcomes),
        skipped=tuple(outcome.failure for outcome in outcomes if outcome.failure and outcome.skipped),
        failed=tuple(outcome.failure for outcome in outcomes if outcome.failure and not outcome.skipped),
        damaged=tuple(Damaged(outcome.path, outcome.lost_seconds) for outcome in outcomes if outcome.lost_seconds),
        specification=specification,
        precision=extractors.preset.visual.precision,
        seconds=time.perf_counter() - started,
        decode_seconds=sum(outcome.decode_seconds for outcome in outcomes),
        network_seconds=sum(outcome.network_seconds for outcome in outcomes),
    )


def _missing(
    files: Sequence[tuple[Video | Path, Collection[int]]], cache: FeatureCache, digests: Digests, specification: str
) -> list[_File]:
    """The files that may lack features, or have earlier ones, or whose contents are not known: all but a few mostly."""
    contents = digests.of([video for video, _ in files])
    keys = [
        [feature_key(clip_digest(digest, start), specification) for start in starts] if digest else ()
        for digest, (_, starts) in zip(contents, files, strict=True)
    ]
    there = cache.intact([key for of_file in keys for key in of_file], DECODING_RULES)
    return [
        (video if isinstance(video, RemoteVideo) else Path(video), starts)
        for (video, starts), of_file in zip(files, keys, strict=True)
        if not of_file or not there.issuperset(of_file)
    ]


def frame_request(extractors: Extractors) -> FrameRequest:
    """The frames, and the rate of the audio, that the extractors read."""
    visual = extractors.preset.visual
    return FrameRequest(
        height=visual.frame_height,
        width=visual.frame_width,
        frames_per_segment=extractors.preset.frames_per_segment,
        frame_at=extractors.preset.frame_at,
        interpolation=visual.interpolation,
        sample_rate_hz=extractors.preset.audio.sample_rate_hz,
    )


def clip_features(extractors: Extractors, clip: DecodedClip) -> Features:
    """Run both extractors over one clip; nothing outside the clip has any influence.

    Raises:
        ExtractorError: a feature is infinite or not a number, or too large for half precision.
    """
    visual, audio = extractors(clip.frames, clip.waveform)
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is found
        visual = visual.astype(np.float16)
    if not np.isfinite(visual).all():
        raise ExtractorError(
            f"a feature of {extractors.preset.visual.name} is too large for half precision in the ten seconds from "
            f"{clip.start_seconds:.0f} s. Check the weights."
        )
    known = clip.duration_seconds, clip.missing, clip.lost_seconds, DECODING_RULES
    return Features(torch.from_numpy(visual), torch.from_numpy(audio), *known)


@dataclass
class _Outcome:
    """What became of a file."""

    path: Path | RemoteVideo
    content_sha256: str = ""
    """Of the file, if it was read."""
    done: int = 0
    """Clips whose features were made."""
    cached: int = 0
    """Clips whose features were there."""
    checked: int = 0
    """Clips whose features were there from an earlier release."""
    redone: int = 0
    """Those of them whose features were made again."""
    failure: Failure | None = None
    """Why there are no more."""
    skipped: bool = False
    """Whether that was to be left out."""
    deferred: tuple[Source, Collection[int]] | None = None
    """A file of this machine and its clips, if another is at work on it, and nothing has become of it yet."""
    killed: bool = False
    """Whether it was that the file killed its decoder."""
    lost_seconds: Counter[str] = field(default_factory=Counter)
    """Of each stream, in the clips that were made."""
    decode_seconds: float = 0.0
    network_seconds: float = 0.0

    @classmethod
    def given_up(cls, file: _File, reason: str) -> "_Outcome":
        """Of a file with which workers died, not only their decoders."""
        path, _ = file
        return cls(path, failure=Failure(path, f"{path}: its worker died, twice ({reason})."), killed=True)


class _Killers:
    """The journal, beside a cache's entries, of the files that killed their decoder: they are tried last.

    Lines are only added, of a JSON string each: processes that share a cache do not lose each other's.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "killers.jsonl"
        self._names: set[str] = set()
        with suppress(FileNotFoundError), open(self._path, errors="replace", opener=_plainly) as file:
            for line in file.read(_MOST_JOURNAL_CHARACTERS).splitlines():
                with suppress(ValueError):  # a line that was cut off
                    self._names.add(str(json.loads(line)))

    def __contains__(self, path: Path | RemoteVideo) -> bool:
        return _full_name(path) in self._names

    def add(self, path: Path | RemoteVideo) -> None:
        name = _full_name(path)
        if name not in self._names:
            self._names.add(name)
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with open(self._path, "a", encoding="ascii", opener=_plainly) as file:
                file.write(f"{json.dumps(name)}\n")


def _full_name(path: Path | RemoteVideo) -> str:
    return os.path.abspath(path) if isinstance(path, Path) else str(path)


def _all_outcomes(files: Sequence[_File], worker: "_Worker", workers: int | None) -> Iterator[_Outcome]:
    """What becomes of all files, those last that another process or thread was at work on."""
    deferred: list[tuple[Source, Collection[int]]] = []
    for outcome in worked_on(files, worker, workers):
        if outcome.deferred is None:
            yield outcome
        else:
            deferred.append(outcome.deferred)
    yield from worked_on(deferred, worker.finish, workers)


def _plainly(name: str, flags: int) -> int:
    """Open a file of a folder that may be anybody's: no link is followed, no pipe is waited for."""
    return os.open(name, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0), 0o666)


class _Worker:
    """Takes one file after another to the cache; any number of threads may call it."""

    def __init__(
        self,
        extractors: Extractors,
        decoders: Decoders,
        store: FeatureCache,
        claims: Claims,
        on_missing: OnMissing,
        on_damage: OnDamage,
        turns: AbstractContextManager[object],
    ) -> None:
        """Have what the work takes.

        Args:
            extractors: The networks to run.
            decoders: What decodes.
            store: Where the features go.
            claims: Of this process, on that.
            on_missing: As of `extract_features`.
            on_damage: As of `extract_features`.
            turns: What to hold while working on a file that is there; not while one is fetched.
        """
        self.specification_digest = specification_digest(extractors.specification)
        self._extractors, self._decoders, self._store, self._claims = extractors, decoders, store, claims
        self._on_missing: OnMissing = on_missing
        self._on_damage: OnDamage = on_damage
        self._turns = turns
        self.digests = Digests(store)
        self.fetcher: Fetcher
        """What fetches the videos of URLs; set before the first."""

    def __call__(self, file: _File, *, wait: bool = False) -> _Outcome:
        """Take a file to the cache; if another process or thread is at work on its content, wait or defer it."""
        path, starts = file
        if isinstance(path, RemoteVideo):
            return self._fetched(path, starts)
        try:
            source = Source(path, self.digests)
        except CacheError as error:  # the file cannot be read; a cache that cannot be written ends the run
            return _Outcome(path, failure=Failure(path, str(error)))
        return self._worked_on(source, path, starts, wait=wait)

    def finish(self, deferred: tuple[Source, Collection[int]]) -> _Outcome:
        """Take a file that was deferred to the cache, when the other has ended; mostly its features are there then."""
        source, starts = deferred
        return self._worked_on(source, source.path, starts, wait=True)

    def _fetched(self, video: RemoteVideo, starts: Collection[int]) -> _Outcome:
        """Take a video of a URL to the cache."""
        with ExitStack() as stack:
            try:
                path = stack.enter_context(self.fetcher.local(video))
            except StorageError as error:
                return _Outcome(video, failure=Failure(video, str(error)))
            source = Source(path, self.digests)
            outcome = self._worked_on(source, PurePosixPath(video.name), starts, wait=True)
        if (failure := outcome.failure) is not None:  # decoders know the copy alone, which nobody else has seen
            failure = Failure(video, failure.reason.replace(str(path), str(video)))
        return replace(outcome, path=video, failure=failure)

    def _worked_on(self, source: Source, name: PurePath, starts: Collection[int], *, wait: bool) -> _Outcome:
        outcome = _Outcome(source.path, source.sha256)
        digests = {start: clip_digest(source.sha256, start) for start in starts}
        try:
            if self._wanted(digests, outcome):
                with self._turns, self._claims.claimed(self._key(source.sha256), wait=wait) as is_mine:
                    if not is_mine:
                        return _Outcome(source.path, deferred=(source, starts))
                    if earlier := self._wanted(digests, outcome):  # asked again: it may have been made since
                        try:
                            self._extract(source, name, {start: digests[start] for start in earlier}, earlier, outcome)
                        except DecodeError:
                            source.require_unchanged()  # else that is the cause
                            raise
        except MissingStreamError as error:
            outcome.failure, outcome.skipped = Failure(source.path, str(error)), self._on_missing == "skip"
        except Exception as error:
            outcome.failure, outcome.killed = Failure.of(source.path, error), isinstance(error, DecoderDiedError)
        return outcome

    def _wanted(self, digests: Mapping[int, str], outcome: _Outcome) -> dict[int, Features | None]:
        """By where they start, the clips to extract: those without features, and those with earlier ones."""
        found = {start: self._store.whole(self._key(digest)) for start, digest in digests.items()}
        wanted = {
            start: features
            for start, features in found.items()
            if features is None or features.decoding_rules != DECODING_RULES
        }
        outcome.cached = len(found) - len(wanted)
        outcome.checked = sum(features is not None for features in wanted.values())
        return wanted

    def _key(self, digest: str) -> str:
        return feature_key(digest, self.specification_digest)

    def _extract(
        self,
        source: Source,
        name: PurePath,
        wanted: Mapping[int, str],
        earlier: Mapping[int, Features | None],
        outcome: _Outcome,
    ) -> None:
        """Extract the clips of a file that start at some seconds.

        Args:
            source: The file.
            name: What it is called in the cache.
            wanted: By where a clip starts, the digest of its content.
            earlier: Of these, features by earlier rules of decoding, if any, which stay if that changes nothing.
            outcome: What became of the file.
        """
        path, started = source.path, time.perf_counter()
        end_seconds = 0.0
        # Where all are in the cache, so is what stands for a missing stream.
        on_missing = (
            "zeros"
            if self._on_missing == "zeros" or all(features is not None for features in earlier.values())
            else "error"
        )
        with closing(self._decoded(path, max(wanted), on_missing)) as clips:
            for clip in clips:
                end_seconds = clip.start_seconds + clip.duration_seconds
                if (digest := wanted.get(round(clip.start_seconds))) is None:
                    continue
                source.require_unchanged()
                decoded = time.perf_counter()
                before = earlier.get(round(clip.start_seconds))
                if before is not None and not clip.differs:
                    before = self._store.read(self._key(digest))  # whose values may be remote yet
                    features = replace(before, decoding_rules=DECODING_RULES)
                    outcome.cached += 1
                else:
                    features = clip_features(self._extractors, clip)
                    outcome.done += 1
                    outcome.redone += before is not None
                    outcome.lost_seconds.update(clip.lost_seconds)
                outcome.decode_seconds += decoded - started
                self._store.write(
                    features,
                    source_sha256=digest,
                    source_path=name.with_name(f"{clip_name(name.stem, round(clip.start_seconds))}{name.suffix}"),
                    specification=self._extractors.specification,
                )
                started = time.perf_counter()
                outcome.network_seconds += started - decoded
        if absent := [start for start in wanted if start >= end_seconds]:
            raise DecodeError(
                f"{path}: ends at {end_seconds:.2f} s, and {len(absent)} clips after that are wanted. Correct times "
                "in the data set"
            )

    def _decoded(self, path: Path, last_start: int, on_missing: Literal["error", "zeros"]) -> Generator[DecodedClip]:
        """The clips of a file up to one that starts there."""
        preset = self._extractors.preset
        return self._decoders.each(
            decode_first,
            path,
            frame_request(self._extractors),
            last_start // CLIP_SECONDS + 1,
            on_missing=on_missing,
            decoder=preset.decoder,
            audio_track=preset.audio_track,
            on_damage=self._on_damage,
        )
