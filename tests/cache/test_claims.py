"""Claims: a key has one owner at a time, and none that is dead or silent."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.cache_clips import sha

from ccln.cache import CacheError, Claims
from ccln.files import owner

HOLD = """
import sys
from pathlib import Path
from ccln.cache import Claims
with Claims(Path(sys.argv[1])) as claims, claims.claimed(sys.argv[2], wait=False) as is_mine:
    print(is_mine, flush=True)
    sys.stdin.read()
"""
KEY = sha("clip")


@pytest.fixture
def claims(tmp_path: Path) -> Iterator[Claims]:
    with Claims(tmp_path) as claims:
        yield claims


def takes(claims: Claims, key: str = KEY) -> bool:
    with claims.claimed(key, wait=False) as is_mine:
        return is_mine


def test_a_key_has_one_owner_at_a_time(claims: Claims, tmp_path: Path) -> None:
    with Claims(tmp_path) as others, claims.claimed(KEY, wait=False) as is_mine:
        assert is_mine
        assert not takes(claims)
        assert not takes(others)
        assert takes(others, sha("another"))
    assert takes(claims)
    assert list((tmp_path / "claims").iterdir()) == []


def test_of_many_that_wait_one_works_at_a_time(claims: Claims) -> None:
    def work() -> None:
        with claims.claimed(KEY, wait=True):
            at_work.append(1)
            most.append(len(at_work))
            time.sleep(0.01)
            at_work.pop()

    at_work: list[int] = []
    most: list[int] = []
    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 8


def test_a_killed_owner_loses_its_claim_at_once(claims: Claims, tmp_path: Path) -> None:
    words = [sys.executable, "-c", HOLD, str(tmp_path), KEY]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        assert not takes(claims)
        process.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert takes(claims)


def test_claims_of_the_dead_are_swept_at_the_start(tmp_path: Path) -> None:
    folder = tmp_path / "claims"
    folder.mkdir()
    machine, pid, _ = owner().split("-")
    (folder / sha("dead")).write_text(f"{machine}-{pid}-1 00")
    (folder / sha("elsewhere")).write_text("0123-1-1 00")
    with Claims(tmp_path):
        assert [path.name for path in folder.iterdir()] == [sha("elsewhere")]


@pytest.mark.parametrize("content", ["0123-1-1 00", "", "no claim", "\udcff"])
def test_a_silent_owner_elsewhere_loses_its_claim_in_time(
    claims: Claims, tmp_path: Path, content: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "claims" / KEY
    path.parent.mkdir(exist_ok=True)
    path.write_text(content, errors="surrogateescape")
    monkeypatch.setattr("ccln.cache.claims._EXPIRY_SECONDS", 0.6)
    assert not takes(claims)
    for _ in range(4):
        time.sleep(0.3)
        os.utime(path)  # it is at work
        assert not takes(claims)
    time.sleep(0.7)
    assert takes(claims)


def test_what_is_held_is_refreshed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ccln.cache.claims._REFRESH_SECONDS", 0.05)
    with Claims(tmp_path) as claims, claims.claimed(KEY, wait=False):
        os.utime(tmp_path / "claims" / KEY, (0, 0))
        time.sleep(0.5)
        assert (tmp_path / "claims" / KEY).stat().st_mtime > 0


def test_a_claim_that_was_taken_over_is_not_given_up(claims: Claims, tmp_path: Path) -> None:
    path = tmp_path / "claims" / KEY
    with claims.claimed(KEY, wait=False):
        path.write_text("0123-1-1 00")
    assert path.exists()


def test_who_waits_is_let_go_at_the_end(tmp_path: Path) -> None:
    claims = Claims(tmp_path)
    with claims, claims.claimed(KEY, wait=False):
        threading.Timer(0.3, claims.__exit__).start()
        with pytest.raises(CacheError, match="was stopped"), claims.claimed(KEY, wait=True):
            pass


def test_claims_behind_a_link_are_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "claims").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CacheError, match="symbolic link"), Claims(tmp_path):
        pass
