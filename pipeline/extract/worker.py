"""What takes one file after another to the cache."""

import time
from collections import Counter
from collections.abc import Collection, Generator, Mapping
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath, PurePosixPath
from typing import Literal

from ccln.cache import CacheError, Claims, FeatureCache, Features, clip_digest, feature_key, specification_digest
from ccln.extractors import Extractors
from ccln.extractors.contract import DECODING_RULES
from ccln.pipeline.data.clips import clip_name
from ccln.pipeline.data.remote import RemoteVideo
from ccln.pipeline.decode.clip import DecodedClip, decode_first
from ccln.pipeline.decode.container import DecodeError, MissingStreamError
from ccln.pipeline.decode.damage import OnDamage
from ccln.pipeline.decode.processes import DecoderDiedError, Decoders
from ccln.pipeline.extract.failures import Failure
from ccln.pipeline.extract.features import clip_features, frame_request
from ccln.pipeline.extract.fetch import Fetcher
from ccln.pipeline.extract.source import Digests, Source
from ccln.pipeline.segments import CLIP_SECONDS
from ccln.storage import StorageError

OnMissing = Literal["error", "zeros", "skip"]

File = tuple[Path | RemoteVideo, Collection[int]]
"""A video, and the seconds at which its clips start."""


@dataclass
class Outcome:
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
    def given_up(cls, file: File, reason: str) -> "Outcome":
        """Of a file with which workers died, not only their decoders."""
        path, _ = file
        return cls(path, failure=Failure(path, f"{path}: its worker died, twice ({reason})."), killed=True)


class Worker:
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

    def __call__(self, file: File, *, wait: bool = False) -> Outcome:
        """Take a file to the cache; if another process or thread is at work on its content, wait or defer it."""
        path, starts = file
        if isinstance(path, RemoteVideo):
            return self._fetched(path, starts)
        try:
            source = Source(path, self.digests)
        except CacheError as error:  # the file cannot be read; a cache that cannot be written ends the run
            return Outcome(path, failure=Failure(path, str(error)))
        return self._worked_on(source, path, starts, wait=wait)

    def finish(self, deferred: tuple[Source, Collection[int]]) -> Outcome:
        """Take a file that was deferred to the cache, when the other has ended; mostly its features are there then."""
        source, starts = deferred
        return self._worked_on(source, source.path, starts, wait=True)

    def _fetched(self, video: RemoteVideo, starts: Collection[int]) -> Outcome:
        """Take a video of a URL to the cache."""
        with ExitStack() as stack:
            try:
                path = stack.enter_context(self.fetcher.local(video))
            except StorageError as error:
                return Outcome(video, failure=Failure(video, str(error)))
            source = Source(path, self.digests)
            outcome = self._worked_on(source, PurePosixPath(video.name), starts, wait=True)
        if (failure := outcome.failure) is not None:  # decoders know the copy alone, which nobody else has seen
            failure = Failure(video, failure.reason.replace(str(path), str(video)))
        return replace(outcome, path=video, failure=failure)

    def _worked_on(self, source: Source, name: PurePath, starts: Collection[int], *, wait: bool) -> Outcome:
        outcome = Outcome(source.path, source.sha256)
        digests = {start: clip_digest(source.sha256, start) for start in starts}
        try:
            if self._wanted(digests, outcome):
                with self._turns, self._claims.claimed(self._key(source.sha256), wait=wait) as is_mine:
                    if not is_mine:
                        return Outcome(source.path, deferred=(source, starts))
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

    def _wanted(self, digests: Mapping[int, str], outcome: Outcome) -> dict[int, Features | None]:
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
        outcome: Outcome,
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
