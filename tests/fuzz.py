"""Fuzz a reader of files that anyone may have written, guided by the coverage of its code.

    uv run --with atheris python tests/fuzz.py READER... [--seconds 600] [--seed 1] [--findings DIR]
    uv run --with atheris python tests/fuzz.py all

Readers are those of `support/readers.py`. Each runs in a process of its own for --seconds, from its valid files on. A
reader may raise the errors that it documents and nothing else, within 10 seconds and 4 GiB. What it fails on goes into
--findings; then the exit code is 1. atheris has wheels for CPython 3.11 to 3.13 on Linux; elsewhere
`pytest -m slow tests/test_readers.py` mutates the same files without looking at coverage.
"""

import argparse
import importlib
import subprocess
import sys
import tempfile
from pathlib import Path

WITHIN_SECONDS, WITHIN_MIB = 10, 4096


def fuzz(name: str, seconds: int, seed: int, findings: Path) -> None:
    """Fuzz one reader until the time is over; this ends the process."""
    atheris = importlib.import_module("atheris")
    with atheris.instrument_imports(
        include=["ccln.cache", "ccln.model.checkpoint", "ccln.pipeline.data", "csv", "json"]
    ):
        from support.readers import readers

        reader = readers()[name]
    with tempfile.TemporaryDirectory() as corpus:
        for number, data in enumerate(reader.seeds):
            reader(data)  # what is made once takes longer
            Path(corpus, str(number)).write_bytes(data)
        most = 2 * max(map(len, reader.seeds))
        options = {
            "max_total_time": seconds,
            "seed": seed,
            "timeout": WITHIN_SECONDS,
            "rss_limit_mb": WITHIN_MIB,
            "max_len": most,
            "artifact_prefix": f"{findings}/{name}-",
            "print_final_stats": 1,
        }
        atheris.Setup([sys.argv[0], *(f"-{option}={value}" for option, value in options.items()), corpus], reader)
        atheris.Fuzz()


def main() -> int:
    """Fuzz the readers that are named, one after another."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("readers", nargs="+", metavar="READER")
    parser.add_argument("--seconds", type=int, default=600, help="for each")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--findings", type=Path, default=Path("findings"))
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    chosen.findings.mkdir(parents=True, exist_ok=True)
    if chosen.here:
        fuzz(chosen.readers[0], chosen.seconds, chosen.seed, chosen.findings)
        return 0
    from support.readers import readers

    if unknown := set(chosen.readers) - {"all", *readers()}:
        parser.error(f"no reader {', '.join(unknown)}: choose from all, {', '.join(readers())}")
    failed = False
    for name in readers() if "all" in chosen.readers else chosen.readers:
        words = ["--seconds", chosen.seconds, "--seed", chosen.seed, "--findings", chosen.findings]
        done = subprocess.run([sys.executable, __file__, name, "--here", *map(str, words)], stderr=subprocess.PIPE)
        said = done.stderr.decode(errors="backslashreplace").splitlines()
        stats = [line.split()[-1] for line in said if "number_of_executed_units" in line]
        covered = [line.split("cov: ")[1].split()[0] for line in said if "cov: " in line]
        state = "clean" if done.returncode == 0 else f"exit code {done.returncode}"
        sys.stdout.write(f"{name}: {state}, {(stats or ['?'])[0]} inputs, coverage {(covered or ['?'])[-1]}" + "\n")
        sys.stdout.flush()
        if done.returncode:
            sys.stdout.write("\n".join([*said[-40:], ""]))
            failed = True
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
