# SPDX-License-Identifier: Apache-2.0
"""Fuzzes what reads files that anybody may have written, for a bounded time.

    python test/support/fuzz_files.py --seconds 600 [--target mcap] [--record RESULTS.json]

Inputs are made by atheris (libFuzzer) from the seeds in test/support/corpus and guided by what
Python code they reach; each target runs in a process of its own. A finding is an exception that is
not of the product's own class, an input that takes longer than ten seconds, or one that makes the
process grow by more than 1.5 GB. Inputs of findings are put into the corpus, which a test goes
through. Needs ``pip install '.[fuzz]'`` (Linux).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
CORPUS = HERE / "corpus"
SLOW_SECONDS, GROWN_BYTES, LARGEST_FOUND = 10.0, 1_500_000_000, 20_000
_INSTRUMENTED = ["proto_mtl_ros.files.reading", "proto_mtl_ros.files.tensors", "proto_mtl_ros.data",
                 "proto_mtl_ros.encodings", "proto_mtl_ros.runtime", "rosbags", "mcap"]  # fmt: skip


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def fuzz(target: str, seconds: float, state: Path) -> None:
    """Fuzz one target in this process; never returns. Progress lies in ``state`` as JSON."""
    try:
        import atheris
    except ImportError:
        sys.exit("the fuzzer is not installed: pip install '.[fuzz]'")
    sys.path.insert(0, str(HERE))
    warnings.simplefilter("ignore")
    with atheris.instrument_imports(include=_INSTRUMENTED):
        import fuzz_targets
    scratch = Path(tempfile.mkdtemp(prefix=f"fuzz_{target}_", dir=state.parent))
    found: dict[str, dict[str, Any]] = {}
    count, written, started = 0, 0.0, time.monotonic()

    def note(kind: str, place: str, content: bytes) -> None:
        if place in found:
            return
        found[place] = {"kind": kind, "place": place, "input": content[:LARGEST_FOUND].hex()}
        print(f"FOUND {target}: {kind} at {place}", file=sys.stderr, flush=True)

    def one(content: bytes) -> None:
        nonlocal count, written
        count += 1
        folder = scratch / "input"
        folder.mkdir()
        before, begin = _peak(), time.monotonic()
        try:
            fuzz_targets.refused_by(target, content, folder)
        except Exception as error:
            frames = traceback.extract_tb(error.__traceback__)
            own = [frame for frame in frames if "proto_mtl_ros" in frame.filename] or frames
            place = f"{Path(own[-1].filename).name}:{own[-1].lineno} {type(error).__name__}"
            note(f"{type(error).__name__}: {str(error)[:200]}", place, content)
        taken = time.monotonic() - begin
        if taken > SLOW_SECONDS:
            note(f"took {taken:.0f} s", f"slow {hashlib.sha1(content).hexdigest()[:8]}", content)
        if _peak() - before > GROWN_BYTES:
            name = hashlib.sha1(content).hexdigest()[:8]
            note(f"grew by {(_peak() - before) / 1e6:.0f} MB", f"growth {name}", content)
        shutil.rmtree(folder)
        now = time.monotonic()
        if now - written > 1:
            written = now
            content_now = {"inputs": count, "seconds": now - started, "found": list(found.values())}
            state.with_suffix(".new").write_text(json.dumps(content_now))
            os.replace(state.with_suffix(".new"), state)

    grown = scratch / "grown"
    grown.mkdir()
    arguments = [sys.argv[0], str(grown), str(CORPUS / target), f"-max_total_time={seconds:.0f}",
                 "-timeout=60", "-rss_limit_mb=6000", "-max_len=65536", "-print_final_stats=0",
                 f"-artifact_prefix={scratch}/", "-verbosity=0"]  # fmt: skip
    atheris.Setup(arguments, one)
    atheris.Fuzz()


def campaign(targets: list[str], seconds: float, record: Path | None) -> int:
    """Fuzz the targets one after the other; return how many findings there were."""
    findings = 0
    for target in targets:
        with tempfile.TemporaryDirectory(prefix="fuzz_") as name:
            state = Path(name) / "state.json"
            command = [sys.executable, __file__, "--one", target, "--state", str(state),
                       "--seconds", str(seconds / len(targets))]  # fmt: skip
            ended = subprocess.run(command, capture_output=True, text=True, errors="replace")
            result: dict[str, Any] = json.loads(state.read_text()) if state.is_file() else {
                "inputs": 0, "seconds": 0.0, "found": []}  # fmt: skip
            killed = [path for path in Path(name).glob("*/*-*") if path.is_file()]
        for entry in result["found"]:
            content = bytes.fromhex(entry["input"])
            place = CORPUS / target / f"found-{hashlib.sha1(content).hexdigest()[:10]}"
            place.write_bytes(content)
        lines = [f"{entry['kind']} at {entry['place']}" for entry in result["found"]]
        if ended.returncode or killed:
            lines.append(f"the process ended: {ended.stderr.strip().splitlines()[-1:]}")
            print(ended.stderr[-3000:], file=sys.stderr)
        findings += len(lines)
        print(f"{target}: {result['inputs']} inputs in {result['seconds']:.0f} s,"
              f" {len(lines)} findings", flush=True)  # fmt: skip
        for line in lines:
            print(f"  {line}", flush=True)
        if record is not None:
            _note(record, target, result)
    return findings


def _note(record: Path, target: str, result: dict[str, Any]) -> None:
    """Add the time and the inputs to the target's entry; what was found is written by hand, with
    how it was put right."""
    entries = json.loads(record.read_text()) if record.is_file() else []
    known = {entry["target"]: entry for entry in entries}
    entry = known.setdefault(
        target,
        {"target": target, "tool": "atheris", "seconds": 0, "inputs": 0, "findings": []},
    )
    entry["command"] = f"python test/support/fuzz_files.py --record {record}"
    entry["seconds"] = round(entry["seconds"] + result["seconds"])
    entry["inputs"] += result["inputs"]
    record.parent.mkdir(parents=True, exist_ok=True)
    ordered = sorted(known.values(), key=lambda one: str(one["target"]))
    record.write_text(json.dumps(ordered, indent=1, ensure_ascii=False) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=600, help="of all targets together")
    parser.add_argument("--target", action="append", help="only this one; repeatable")
    parser.add_argument("--record", type=Path, help="JSON file to add time and inputs to")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--state", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        fuzz(arguments.one, arguments.seconds, arguments.state)
    known = sorted(path.name for path in CORPUS.iterdir() if path.is_dir())
    chosen = arguments.target or known
    if not set(chosen) <= set(known):
        parser.error(f"there are the targets {', '.join(known)}")
    return 1 if campaign(chosen, arguments.seconds, arguments.record) else 0


if __name__ == "__main__":
    sys.exit(main())
