"""Temperature and clock, read from made-up folders in the place of / ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fcos_edge.heat import highest_temperature, measure_heat
from tests.test_conditions import write_files

ZONE, CPU = "sys/class/thermal/thermal_zone", "sys/devices/system/cpu/cpu"
COOLING = "sys/class/thermal/cooling_device"
PI = "sys/devices/platform/soc/soc:firmware/get_throttled"


@pytest.mark.parametrize(("files", "expected"), [
    # A virtual machine.
    ({}, {}),
    ({"proc/cpuinfo": "cpu MHz\t: 2596.134\ncpu MHz\t: 2600.7\n"}, {"clock_mhz": 2601}),
    # What the driver says goes before what the kernel estimated.
    ({f"{CPU}0/cpufreq/scaling_cur_freq": "600000\n", f"{CPU}1/cpufreq/scaling_cur_freq": "1800000\n",
      "proc/cpuinfo": "cpu MHz\t: 2596.134\n"}, {"clock_mhz": 1800}),
    # Two zones of one kind; one that is off, one that says nothing.
    ({f"{ZONE}0/temp": "45300\n", f"{ZONE}0/type": "cpu-thermal\n",
      f"{ZONE}1/temp": "47000\n", f"{ZONE}1/type": "cpu-thermal\n",
      f"{ZONE}2/temp": "-274000\n", f"{ZONE}2/type": "off\n", f"{ZONE}3/type": "silent\n"},
     {"temperature_c": {"cpu-thermal": 45.3, "cpu-thermal thermal_zone1": 47.0}}),
    # Bits from 16 on say what once happened.
    ({PI: "50005\n"}, {"slowed_by": ["under-voltage", "throttled"]}),
    ({PI: "50000\n"}, {}),
    ({PI: "nonsense\n"}, {}),
    ({f"{COOLING}0/type": "cpufreq-cpu0\n", f"{COOLING}0/cur_state": "2\n",
      f"{COOLING}1/type": "pwm-fan\n", f"{COOLING}1/cur_state": "3\n"},
     {"slowed_by": ["cpufreq-cpu0 at step 2"]}),
    ({f"{CPU}0/thermal_throttle/core_throttle_count": "0\n",
      f"{CPU}0/thermal_throttle/package_throttle_count": "0\n"}, {"throttle_count": 0}),
])  # fmt: skip
def test_measure_heat__is_what_the_system_tells(
    files: dict[str, str], expected: dict[str, Any], tmp_path: Path
) -> None:
    assert measure_heat(write_files(tmp_path, files)) == expected


def test_highest_temperature__of_all_sensors() -> None:
    assert highest_temperature({"temperature_c": {"a": 45.0, "b": 61.5}}) == 61.5
    assert highest_temperature({}) is None
