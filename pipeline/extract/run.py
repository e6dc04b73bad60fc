"""From video files to cached features: list what is missing, do that, lose nothing."""

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from threading import Semaphore

import torch

from ccln.cache import Claims, FeatureCache, clip_digest, feature_key, open_cache, specification_digest
from ccln.extractors import Extractors
from ccln.extractors.contract import DECODING_RULES
from ccln.pipeline.data.remote import RemoteVideo, Video
from ccln.pipeline.decode.damage import OnDamage
from ccln.pipeline.decode.processes import Decoders
from ccln.pipeline.defaults import TIMEOUT_SECONDS
from ccln.pipeline.extract.cluster import worked_on_cluster
from ccln.pipeline.extract.failures import Failure, Killers
from ccln.pipeline.extract.fetch import fetching
from ccln.pipeline.extract.source import Digests, Source
from ccln.pipeline.extract.worker import File, OnMissing, Outcome, Worker
from ccln.pipeline.workers import worked_on

_BATCH = 10_000
"""Files that are looked up together."""
_FETCHED_AHEAD = 2
"""Of videos of URLs, how many a worker of a cluster fetches, for each that it works on."""


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
        worker = Worker(extractors, decoders, cache, claims, on_missing, on_damage, nullcontext())

        def outcomes(items: Sequence[File]) -> Iterator[Outcome]:
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

    def outcomes(items: Sequence[File]) -> Iterator[Outcome]:
        contents: dict[Path | RemoteVideo, str] = {}
        """By file, the digest of the content of which a worker says that the features are there."""

        def keys_of(file: File) -> Iterator[str]:
            path, starts = file
            if content := contents.get(path):
                yield from (feature_key(clip_digest(content, start), specification) for start in starts)

        def lost() -> list[File]:
            unsent = cache.unsent(chain.from_iterable(map(keys_of, items)))
            return [file for file in items if unsent and not unsent.isdisjoint(keys_of(file))]

        make = partial(_cluster_work, load, str(cache), on_missing, on_damage, timeout_seconds)
        ahead = _FETCHED_AHEAD if any(isinstance(path, RemoteVideo) for path, _ in items) else 0
        for outcome in worked_on_cluster(items, make, Outcome.given_up, address, ahead=ahead, lost=lost):
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
) -> Iterator[Callable[[File], Outcome]]:
    """What a worker of a cluster does with files, for a cache at a place."""
    cache, turns = open_cache(place), Semaphore(processors)
    with Claims(cache.root) as claims, Decoders(timeout_seconds) as decoders, fetching() as fetcher:
        worker = Worker(load(), decoders, cache, claims, on_missing, on_damage, turns)
        worker.fetcher = fetcher

        def work(file: File) -> Outcome:
            torch.set_num_threads(1)  # as in the threads of the local engine: the sums, too, are then the same
            return worker(file, wait=True)

        yield work
        cache.flush()
        worker.digests.save()


def _extracted(
    files: Mapping[Video, Collection[int]] | Sequence[Video | Path],
    cache: FeatureCache,
    extractors: Extractors,
    digests: Digests,
    work: Callable[[Sequence[File]], Iterator[Outcome]],
    progress: Callable[[int, int], None] | None,
) -> ExtractionSummary:
    listed = files if isinstance(files, Mapping) else dict.fromkeys(files, (0,))
    specification = specification_digest(extractors.specification)
    killers = Killers(cache.root)
    outcome_of: dict[Path | RemoteVideo, Outcome] = {}
    started = time.perf_counter()
    if progress is not None:
        progress(0, len(listed))
    todo: list[File] = []
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
) -> list[File]:
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


def _all_outcomes(files: Sequence[File], worker: Worker, workers: int | None) -> Iterator[Outcome]:
    """What becomes of all files, those last that another process or thread was at work on."""
    deferred: list[tuple[Source, Collection[int]]] = []
    for outcome in worked_on(files, worker, workers):
        if outcome.deferred is None:
            yield outcome
        else:
            deferred.append(outcome.deferred)
    yield from worked_on(deferred, worker.finish, workers)
