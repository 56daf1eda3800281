"""Memory that grows is told from memory that jumps about."""

import random
from collections.abc import Callable, Mapping

import pytest

from load.sampling import Process, Sample, Samples, look
from load.scenarios import leaks, memory
from load.trend import LEAST, trend


def line(count: int, value: Callable[[int], float]) -> list[tuple[float, float]]:
    return [(5.0 * n, value(n)) for n in range(count)]


def test_a_slow_leak_is_seen_through_noise_ten_times_its_step() -> None:
    chance = random.Random(1)
    found = trend(line(200, lambda n: 100 + 0.05 * n + chance.uniform(-0.5, 0.5)))
    assert found is not None
    assert found.growth == pytest.approx(0.0995, abs=0.01)
    assert not found.is_level


def test_a_few_spikes_and_one_step_back_are_no_growth() -> None:
    found = trend(line(100, lambda n: 180 if n % 17 == 16 else 100))
    assert found is not None
    assert (found.first, found.last, found.growth) == (100, 100, 0)
    assert found.is_level


def test_memory_that_is_given_back_is_level() -> None:
    found = trend(line(40, lambda n: 100 - n / 10))
    assert found is not None
    assert found.growth < 0
    assert found.is_level


def test_too_few_looks_tell_nothing() -> None:
    assert trend(line(LEAST - 1, lambda n: 100 + n)) is None


def sampled(*roles: str, mb: Mapping[int, Callable[[int], float]], count: int = 30) -> Samples:
    return Samples(
        [
            Sample(
                5.0 * n,
                {pid: Process(roles[pid], value(n), n * 1.0) for pid, value in mb.items()},
                busy_seconds=n * 4.0,
            )
            for n in range(count)
        ]
    )


def test_only_our_processes_are_judged_and_servers_are_told_together() -> None:
    samples = sampled(
        "web",
        "PostgreSQL",
        "PostgreSQL",
        "load",
        mb={0: lambda _: 100, 1: lambda n: 10 + n, 2: lambda n: 20 + n, 3: lambda n: 50 + n},
    )
    web, servers = memory(samples, 0)
    assert (web.name, web.is_ours, web.trend.growth) == ("web 1", True, 0)
    assert (servers.name, servers.is_ours) == ("PostgreSQL", False)
    assert servers.trend.growth == pytest.approx(58 / 30)
    assert leaks([web, servers]) == []


def test_what_settles_before_the_warm_up_is_over_is_no_leak_and_what_grows_after_it_is() -> None:
    samples = sampled("web", "worker", mb={0: lambda n: min(100 + 10 * n, 150), 1: lambda n: 100 + n})
    assert leaks(memory(samples, 0)) != []
    [sentence] = leaks(memory(samples, 30))
    assert sentence.startswith("worker 1 grew by ")


def test_a_run_too_short_for_a_trend_does_not_pass_as_level() -> None:
    assert leaks(memory(sampled("web", mb={0: lambda _: 100.0}, count=3), 0)) != []


def test_processor_time_is_told_by_role_beside_that_of_the_machine() -> None:
    used, busy = sampled("web", "web", mb={0: lambda _: 1.0, 1: lambda _: 1.0}).cores()
    assert used == {"web": pytest.approx(2 / 5)}
    assert busy == pytest.approx(4 / 5)


def test_a_look_finds_processes_below_by_their_commands_and_leaves_out_others() -> None:
    import os
    import subprocess
    import sys

    wait = "import sys; print(flush=True); sys.stdin.read()"
    commands = [[sys.executable, "-c", wait, name] for name in ("redis-server", "something-else")]
    running = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for command in commands
    ]
    try:
        for process in running:
            assert process.stdout is not None
            process.stdout.readline()
        processes = look(os.getpid()).processes
        assert processes[running[0].pid].role == "Redis"
        assert processes[running[0].pid].rss_mb > 1
        assert running[1].pid not in processes
    finally:
        for process in running:
            process.communicate()
