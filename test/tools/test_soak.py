# SPDX-License-Identifier: Apache-2.0
"""A soak finds what it looks for: leaks and images that nobody accounts for; and the command."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

import rclpy
from ros_harness import DOMAIN, Client, NodeProcess
from std_srvs.srv import Trigger
from tiny_bundle import write_tiny_bundle

from proto_mtl_ros.cli.main import run_tool
from proto_mtl_ros.data.bags.stamp_log import StampLog
from proto_mtl_ros.errors import ConfigError
from recordings import write_recording
from tools.processes import process_use
from tools.soak.__main__ import soak
from tools.soak.analysis import Accounts, FaultOutcome, accounts, fault_outcomes, trend
from tools.soak.operator import Operator
from tools.soak.plot import soak_plot
from tools.soak.schedule import KINDS, Fault, schedule
from tools.soak.soak import Soak, soak_figures, verdict

MINUTES = 30
ROUND = 150.0
TOPICS = ("/camera/depth/image", "/camera/points")


def memory_of(leak_mib_per_hour: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Half an hour of samples: noise, a jump for a few seconds now and then, and a leak."""
    generator = np.random.default_rng(seed)
    times = np.arange(0, 60 * MINUTES, 5.0)
    values = 400 + generator.normal(0, 1.5, times.size) + leak_mib_per_hour * times / 3600
    for start in generator.integers(0, times.size, 12):  # a reload holds two models
        values[start : start + 2] += 120
    return times, values


@pytest.mark.parametrize("seed", range(5))
def test_a_leak_is_found_and_steady_memory_is_not_called_one(seed: int) -> None:
    leaking = trend(*memory_of(30, seed), ROUND)
    assert leaking is not None and not leaking.within_noise
    assert leaking.low < 30 < leaking.high and leaking.per_hour == pytest.approx(30, abs=5)
    steady = trend(*memory_of(0, seed), ROUND)
    assert steady is not None and steady.within_noise
    assert abs(steady.per_hour) < 5 and 1 < steady.scatter < 2


def test_memory_that_jumps_once_and_stays_is_a_step_not_a_slope() -> None:
    times, values = memory_of(0, 0)
    found = trend(times, values + 1.0 * (times > 900), ROUND)
    assert found is not None and found.within_noise


def test_a_single_descriptor_lost_in_each_round_is_found() -> None:
    times = np.arange(0, 60 * MINUTES, 5.0)
    found = trend(times, 23 + times // ROUND, ROUND)
    assert found is not None and not found.within_noise
    assert found.per_hour == pytest.approx(24, rel=0.1)


def test_too_few_samples_or_rounds_give_no_slope() -> None:
    times, values = memory_of(30, 0)
    assert trend(times, values, 60 * MINUTES / 4) is None
    assert trend([0, 1, 2], [1, 2, 3], 0.1) is None


def logs() -> tuple[StampLog, dict[int, str], StampLog, dict[str, str]]:
    """Twenty images, one every 100 ms from second 100 on; what became of them is stated below."""
    sent, heard, fates = StampLog(), StampLog(), {}
    for number in range(20):
        moment = 100 * 10**9 + number * 10**8
        sent.add("burst" if number == 3 else "calm", number, moment)
        if number in (3, 8):  # lost in transport, and sent to a node that is not active
            continue
        fates[number] = {5: "overwritten", 6: "bad_step"}.get(number, "processed")
        if fates[number] == "processed":
            for topic in TOPICS:
                heard.add(topic, number, moment + 5 * 10**7)
    counters = {
        "received": "18", "processed": "16", "dropped": "2", "skipped": "0", "rate_in_hz": "9.9",
        "drops.overwritten": "1", "bad.bad_step": "1", "info.resolution_changed": "7",
    }  # fmt: skip
    return sent, fates, heard, counters


def test_every_image_is_accounted_for() -> None:
    found = balance_of()
    assert (found.sent, found.received, found.processed) == (20, 18, 16)
    assert found.lost_in_transport == {"burst": 1} and found.while_inactive == 1
    assert found.causes == {"overwritten": 1, "bad_step": 1}
    assert found.unexplained_drops == 0, found.unexplained


def test_points_are_not_expected_without_a_calibration() -> None:
    sent, fates, heard, counters = logs()
    for log in (sent.stamps, sent.times):
        log["uncalibrated"] = log["calm"][-3:]
        del log["calm"][-3:]
    for log in (heard.stamps, heard.times):
        del log[TOPICS[1]][-4:]  # the image before was processed with the next one's camera_info
    found = balance_of(sent, fates, heard, counters)
    assert found.without_calibration == 4 and found.unexplained_drops == 0
    for log in (heard.stamps, heard.times):
        del log[TOPICS[0]][-1]
        del log[TOPICS[1]][0]
    found = balance_of(sent, fates, heard, counters)
    assert [topic for topic, _ in found.missing] == list(TOPICS)


def test_what_is_not_accounted_for_is_named() -> None:
    sent, fates, heard, counters = logs()
    counters["processed"] = "15"  # one that the node has lost sight of
    for log in (heard.stamps, heard.times):
        log[TOPICS[1]].pop()  # a result that did not arrive
    heard.add(TOPICS[0], 19, 1)  # one that came twice
    found = balance_of(sent, fates, heard, counters)
    assert sorted(found.unexplained.values()) == [0, 1, 1, 1]
    assert found.missing == [(TOPICS[1], pytest.approx(101.9))]
    lines = verdict(soak_figures([], found, [], [], 0.0))
    assert len(lines) == 1 and "unaccounted" in lines[0]


def test_a_fault_counts_as_survived_when_results_come_again() -> None:
    heard = StampLog()
    for topic in TOPICS:
        for moment in (*range(100, 110), *range(125, 200)):
            heard.add(topic, moment, moment * 10**9)
    faults = [Fault("pause", 4, 3), Fault("pause", 9, 4), Fault("reload", 50, 1),
              Fault("burst", 97, 4)]  # fmt: skip
    said = [(100.0, 0, "OK"), (105.5, 1, "no image for 2 s"), (108.5, 0, "OK")]
    refused = {faults[2]: "reload_model answered False: no"}
    rows = fault_outcomes(faults, 100.0, 199.5, heard, TOPICS, said, refused, patience=10.0)
    pause, reload = rows  # the burst was still going on
    assert (pause.tried, pause.survived) == (2, 1)  # after the second nothing came for 12 s
    assert pause.longest_recovery_seconds == 10.0
    assert pause.seen == ["no image for N s"]
    assert (reload.tried, reload.survived) == (1, 0) and "answered" in reload.failed[0]


def test_a_schedule_is_that_of_its_seed_and_has_calm_between() -> None:
    faults = schedule(1800, 3)
    assert faults == schedule(1800, 3) != schedule(1800, 4)
    assert {fault.name for fault in faults} == set(KINDS) and len(faults) == 12 * len(KINDS)
    gaps = [late.start - early.end for early, late in zip(faults, faults[1:])]
    assert min(gaps) > 3.0 and faults[-1].end < 1797
    assert all(fault.seconds == KINDS[fault.name].seconds for fault in faults)
    with pytest.raises(ConfigError, match="no fault 'rain': use pause, burst"):
        schedule(10, 0, ["rain"])


def balance_of(*log: Any) -> Accounts:
    sent, fates, heard, counters = log or logs()
    return accounts(sent, fates, heard, TOPICS, counters, [(100.75, 100.85)])


def leaking_figures(outcomes: list[FaultOutcome]) -> dict[str, Any]:
    """Figures of half an hour in which memory leaks: too long to measure here."""
    times, values = memory_of(30, 0)
    samples = [
        {"t": t, "fds": 20.0, "threads": 20.0, "rate_in_hz": 12.0,
         **dict.fromkeys(("rss_mib", "anon_mib", "pss_mib", "uss_mib"), v)}
        for t, v in zip(times.tolist(), values.tolist())
    ]  # fmt: skip
    return soak_figures(samples, balance_of(), outcomes, [Fault("pause", 60, 5)], ROUND)


def test_a_leak_and_a_fault_that_stays_are_said() -> None:
    row = FaultOutcome("pause", "a", tried=2, survived=1)
    figures = leaking_figures([row])
    assert figures["memory_within_noise"] is False and figures["unexplained_drops"] == 0
    low, high = figures["memory_slope_interval"]
    assert low <= figures["memory_slope_mib_per_hour"] <= high
    assert [line.split()[0] for line in verdict(figures)] == ["rss_mib", "anon_mib", "a:"]
    assert soak_plot(figures).startswith(b"\x89PNG")


def test_the_command_says_what_is_not_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = leaking_figures([])
    monkeypatch.setattr(Soak, "run", lambda self: figures)
    options = ["--recording", write_recording(tmp_path / "bag", frames=2), "--out", tmp_path]
    options += ["--model", write_tiny_bundle(tmp_path), "--docs", tmp_path / "docs"]
    with pytest.raises(SystemExit) as end:
        sys.argv = ["soak", *map(str, options)]
        run_tool("tools.soak", soak)
    said = capsys.readouterr()
    assert end.value.code == 1
    assert f"memory: {figures['memory_slope_mib_per_hour']:+.2f} MiB an hour" in said.out
    assert [line.split()[2] for line in said.err.splitlines()] == ["rss_mib", "anon_mib"]
    assert (tmp_path / "docs/soak.png").is_file()


def soak_command(tmp_path: Path, model: Path, minutes: float) -> list[str]:
    recording = write_recording(tmp_path / "bag", frames=8)
    options = {
        "minutes": minutes, "recording": recording, "model": model, "backend": "onnxruntime",
        "rate": 8, "every": 0.5, "results": "segmentation,points", "seed": 1,
        "faults": "burst,malformed,uncalibrated,lifecycle,reload,stopped_subscriber",
        "out": tmp_path / "out", "docs": tmp_path / "docs",
    }  # fmt: skip
    command = [sys.executable, "-m", "tools.soak"]
    return command + [f"--{name}={value}" for name, value in options.items()]


@pytest.mark.slow
@pytest.mark.ros
def test_a_short_soak_accounts_for_every_image(tmp_path: Path) -> None:
    model = write_tiny_bundle(tmp_path / "models")
    command = soak_command(tmp_path, model, minutes=0.4)
    done = subprocess.run(command, capture_output=True, text=True, timeout=170)
    found = json.loads((tmp_path / "out" / "soak.json").read_text())
    balance = found["accounts"]
    assert found["unexplained_drops"] == 0, balance
    assert balance["sent"] > 100 and balance["processed"] > 50
    malformed = {"bad_step", "unknown_encoding", "short_data"}
    assert malformed <= set(balance["causes"])
    assert balance["while_inactive"] > 0
    outcomes = {row["fault"]: row for row in found["faults"]}
    assert len(outcomes) == 6
    assert all(row["survived"] == row["tried"] > 0 for row in outcomes.values()), outcomes
    seen = " ".join(outcomes["malformed"]["seen"])
    assert any(cause in seen for cause in malformed), seen
    lines = (tmp_path / "out" / "soak.jsonl").read_text().splitlines()
    assert len(lines) == len(found["series"]["t"]) > 20
    assert (tmp_path / "docs/soak.png").read_bytes().startswith(b"\x89PNG")
    # in so short a time memory may be said to grow, and nothing else to be wrong
    complaints = [line for line in done.stderr.splitlines() if line.startswith("not well")]
    assert all("_mib grows" in line or "threads grows" in line for line in complaints), done.stderr
    assert done.returncode == bool(complaints), done.stderr


@pytest.mark.slow
@pytest.mark.ros
def test_ctrl_c_ends_a_soak_with_what_there_is(tmp_path: Path) -> None:
    model = write_tiny_bundle(tmp_path / "models")
    command = soak_command(tmp_path, model, minutes=30)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            for _ in range(6):
                assert process.stdout.readline()
            process.send_signal(signal.SIGINT)
            end = time.monotonic() + 60
            while process.poll() is None and time.monotonic() < end:
                process.stdout.readline()
            assert process.wait(1) in (0, 1)
        finally:
            process.kill()
    found = json.loads((tmp_path / "out" / "soak.json").read_text())
    assert found["interrupted"] and found["unexplained_drops"] == 0 < found["accounts"]["sent"]
    assert found["memory_slope_mib_per_hour"] is None and found["minutes"] < 5


@pytest.mark.ros
def test_an_operator_gives_everything_back_and_says_what_was_refused(tmp_path: Path) -> None:
    model = str(write_tiny_bundle(tmp_path))
    parameters = {"backend": "onnxruntime", "cameras": "[front]", "model": model}
    node, client = NodeProcess(tmp_path / "node.log", parameters), Client()
    subscriber = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    rclpy.init(domain_id=DOMAIN)
    operator = Operator("proto_mtl", model, subscriber.pid, lambda: None)
    try:
        assert client.change_state("configure") and client.change_state("activate")
        operator._client.wait(30.0)

        def carry_out(*names: str) -> dict[str, str]:
            operator.refused.clear()
            faults = [Fault(name, 0.0, 0.1) for name in names]
            operator.start(faults, time.monotonic())
            assert operator._thread is not None
            operator._thread.join(60)
            assert not operator._thread.is_alive()
            return {fault.name: text for fault, text in operator.refused.items()}

        assert carry_out("parameters", "broken_reload", "stopped_subscriber", "reload") == {}
        assert client.parameter("confidence_threshold") == 0
        assert client.parameter("model") == model
        client.set_parameters(model="no_such_model")
        refused = carry_out("reload")
        assert refused["reload"].startswith("reload_model answered False") and len(refused) == 1
        assert client.change_state("deactivate")
        assert carry_out("lifecycle") == {"lifecycle": "the transition deactivate was refused"}
        assert client.state() == "active"
        assert node.end() == 0
    finally:
        operator.close()
        rclpy.try_shutdown()
        client.close()
        subscriber.kill()
        subscriber.communicate()
        node.process.kill()


@pytest.mark.slow
@pytest.mark.ros
def test_reloading_a_model_does_not_take_memory_each_time(
    tmp_path: Path, record_fault: Callable[..., None]
) -> None:
    pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    first, reloads = 3, 9
    parameters = {"backend": "onnxruntime", "threads": "1", "cameras": "[front]"}
    node, client = NodeProcess(tmp_path / "node.log", parameters), Client()
    try:
        assert client.change_state("configure")
        heap = []
        for _ in range(reloads):
            assert client.call(Trigger, "reload_model", Trigger.Request()).success
            client.values("engine")  # the old one is closed by then
            heap.append(process_use(node.process.pid)["anon_mib"])
        print("HEAP", [round(x) for x in heap])
        # what each reload left before was 3 to 6 MiB
        assert heap[-1] - heap[first] < 1.5 * (reloads - first), heap
        assert node.end() == 0
    finally:
        client.close()
        node.process.kill()
    record_fault(
        "engine", "a model is loaded again and again", tried=reloads,
        seen="the service's answer; the memory of the old model is given back",
    )  # fmt: skip
