"""Files that anyone may have written, mutated: a reader reads them, or refuses them by the error that it documents.

`tests/fuzz.py` does the same for as long as one likes, guided by coverage; what it found is kept here.
"""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.readers import readers

NAMES = tuple(readers())
WITHIN_SECONDS = 10
TOKENS = (
    *(b"\0", b"\xff", b"\xfe\xff", b"\xef\xbb\xbf", b"\r", b"\n\n", b"\t", b",", b";", b'"', b"<", b">", b"&", b"]]>"),
    *(b"{", b"}", b"[", b"]", b":", b"null", b"true", b"{}", b"[]", b'""', b"-", b"-1", b"0", b"1e999", b"NaN"),
    *(b"Infinity", b"9" * 20, b"9" * 400, b"1e-400", b"1" + b"0" * 4300, b"[" * 3000, b'{"a":' * 3000, b"\\ud800"),
    *(b"../..", b"/etc/passwd", b"\x1b[31m", "\u202e".encode(), b"\xed\xa0\x80", b"0:00:00", b"99:99:99.999", b"-->"),
    *(b"<!DOCTYPE a [<!ENTITY b 'c'>]>", b"&b;", b"\xff" * 8, b"\x7f" + b"\xff" * 7, b"\x80" + b"\0" * 7),
)


@st.composite
def mutated(draw: st.DrawFn, seeds: tuple[bytes, ...]) -> bytes:
    """One of the valid files with some changes: parts replaced by a token, by another part, by bytes, or left out."""
    data = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(start + draw(st.sampled_from((0, 1, 2, 4, 8, 30, 1000))), len(data))
        copied = draw(st.integers(0, len(data)))
        put = draw(st.sampled_from(TOKENS) | st.binary(max_size=8) | st.just(data[copied : copied + end - start]))
        data = data[:start] + put + data[end:]
    return data


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_mutated_file_is_read_or_refused(name: str) -> None:
    reader = readers()[name]

    @settings(max_examples=200, deadline=1000 * WITHIN_SECONDS)
    @given(mutated(tuple(reader.seeds)))
    def reads_or_refuses(data: bytes) -> None:
        reader(data)

    reads_or_refuses()


@pytest.mark.parametrize("name", NAMES)
def test_valid_files_and_empty_ones(name: str) -> None:
    reader = readers()[name]
    for data in (*reader.seeds, b"", b"\0", b"\xff\xfe", b"[" * 100_000, b'{"a":' * 100_000, b"9" * 100_000):
        reader(data)
    accepted = 0
    for data in reader.seeds:
        try:
            reader.read(data)
            accepted += 1
        except reader.refusals:
            continue
    assert accepted  # the seeds lead further than a refusal
