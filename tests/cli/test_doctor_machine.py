"""What doctor says of a machine is what other tools and the kernel's own files say."""

import resource
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from codemix_megatron.cli import doctor, doctor_machine
from codemix_megatron.cli.doctor_site import rate_line
from codemix_megatron.cli.main import main
from codemix_megatron.launch.slurm.site import Site


def test_limits_are_those_of_the_shell():
    hard = subprocess.run(["bash", "-c", "ulimit -Hn"], capture_output=True, text=True).stdout.strip()
    assert f"at most {hard} (ranks raise it" in doctor_machine.limits()
    assert doctor_machine.number(resource.RLIM_INFINITY) == "unlimited"


@pytest.mark.skipif(not shutil.which("findmnt"), reason="needs findmnt")
def test_kind_of_file_system_is_that_of_findmnt(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kind = subprocess.run(["findmnt", "-no", "FSTYPE", "-T", str(tmp_path)], capture_output=True, text=True).stdout.strip()
    assert doctor_machine.disk().startswith(f"{kind} at ") and "MiB written and synced at" in doctor_machine.disk()
    assert not list(tmp_path.iterdir())


def test_name_and_interfaces_are_told():
    said = doctor_machine.names()
    assert said.startswith(f"{socket.gethostname()} -> ") and "InfiniBand: " in said


def test_infiniband_ports_are_told_with_state_and_rate(tmp_path):
    port = tmp_path / "mlx5_0" / "ports" / "1"
    port.mkdir(parents=True)
    (port / "state").write_text("4: ACTIVE\n")
    (port / "rate").write_text("400 Gb/sec (4X NDR)\n")
    assert doctor_machine.infiniband(tmp_path) == "mlx5_0 port 1 active, 400 Gb/sec (4X NDR)"
    assert doctor_machine.infiniband(tmp_path / "none") == "none"


def test_version_of_the_driver_is_read(tmp_path):
    path = tmp_path / "version"  # as in NVIDIA's README of the driver
    path.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024\nGCC version:  gcc 12.2.0\n")
    assert doctor_machine.driver_version(path) == "550.54.15" and doctor_machine.driver_version(Path("/none")) == "unknown"


def test_slow_network_is_told_with_what_to_set():
    assert rate_line("between", 50e9, "cuda", Site()).startswith("ok     nodes exchange 50.00 GB/s")
    assert "set network_interface to the fast one" in rate_line("between", 1e9, "cuda", Site())
    assert "network_interface is eth0; is there a faster one?" in rate_line("between", 1e9, "cuda", Site(network_interface="eth0"))


def test_device_that_fails_is_one_line_and_the_rest_is_still_looked_at(monkeypatch, capsys):
    def broken():
        raise RuntimeError("CUDA error: uncorrectable ECC error encountered")

    monkeypatch.setattr(doctor, "PROBES", {"training": broken, "clock": doctor_machine.clock})
    assert main(["doctor"]) == 1
    first, second = capsys.readouterr().out.splitlines()
    assert first == "training               FAILS  CUDA error: uncorrectable ECC error encountered" and second.startswith("clock ")
