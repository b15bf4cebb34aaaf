"""The VM lab without a VM: scripts, archives, options, what is refused before anything starts."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cnm.netlab import vm, vmguest, vmkernel
from cnm.netlab.errors import VMError
from cnm.netlab.vmguest import Job
from cnm.netlab.vminitramfs import append_program


def job(*command: str, **environment: str) -> Job:
    return Job(command, Path("/some where"), Path("/"), environment, 1.5)


def netlab_vm(*words: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    code = "import sys; from cnm.netlab.main import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", code, "vm", *words],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, **environment},
    )


def made_kernel(folder: Path, name: str) -> Path:
    root = folder / name
    for part in ("boot", "lib/modules/1.2"):
        (root / part).mkdir(parents=True)
    (root / "boot/vmlinuz-1.2").write_text("no kernel")
    said = {"release": "1.2", "package": name, "version": "1", "sha256": ""}
    (root / "manifest.json").write_text(json.dumps(said))
    return root


def test_the_command_gets_its_words_and_environment_as_they_were() -> None:
    words = ["a b", "", "$HOME", "it's", 'say "x"', "*", "\n", "ü"]
    program = (
        "import sys, os; print(ascii((sys.argv[1:], os.environ['VALUE'], os.environ['TMPDIR'])))"
    )
    script = vmguest.command_script(
        job(sys.executable, "-c", program, *words, VALUE="1 '2\n3", TMPDIR="/nowhere")
    )
    done = subprocess.run(["sh"], input=script, capture_output=True, text=True, env={}, check=True)
    assert done.stdout == ascii((words, "1 '2\n3", "/run/tmp")) + "\n"


@pytest.mark.parametrize("script", ["init", "main", "command"])
def test_the_scripts_can_be_read_by_a_shell(script: str, tmp_path: Path) -> None:
    kernel = vmkernel.kernel_in(made_kernel(tmp_path, "k"))
    text = {
        "init": vmguest.init_script(job("true"), kernel),
        "main": vmguest.main_script(job("true")),
        "command": vmguest.command_script(job("true")),
    }[script]
    assert subprocess.run(["sh", "-n"], input=text, text=True, check=False).returncode == 0


def test_a_file_more_in_an_initramfs(tmp_path: Path) -> None:
    archive = tmp_path / "initramfs"
    archive.write_bytes(b"other archive")
    append_program(archive, "some-init", "#!/bin/sh\necho hello\n")
    content = archive.read_bytes()
    assert content.startswith(b"other archive" + 3 * b"\0" + b"070701")
    subprocess.run(["busybox", "cpio", "-i"], input=content[16:], cwd=tmp_path, check=True)
    done = subprocess.run([tmp_path / "some-init"], capture_output=True, text=True, check=True)
    assert done.stdout == "hello\n"


@pytest.mark.parametrize(("text", "mib"), [("256M", 256), ("2G", 2048), ("3g", 3072)])
def test_memory(text: str, mib: int) -> None:
    assert vm.memory_mib(text) == mib


@pytest.mark.parametrize("text", ["", "2", "2T", "255M", "-1G", "1.5G", "M"])
def test_memory_that_is_none(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="512M"):
        vm.memory_mib(text)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--folder", "/nowhere", "--", "true"], "/nowhere is no folder"),
        (["--folder", "/", "--", "true"], "/ cannot be shared"),
        (["--cpus", "0", "--", "true"], "must be above 0"),
        (["--timeout", "0", "--", "true"], "must be above 0"),
        (["--kernel", "/nowhere", "--", "true"], "no kernel in /nowhere"),
    ],
)
def test_refused_before_anything_starts(words: list[str], said: str, tmp_path: Path) -> None:
    made_kernel(tmp_path / "cnm/kernels", "k")
    done = netlab_vm(*words, cwd=tmp_path, XDG_CACHE_HOME=str(tmp_path))
    assert (done.returncode, done.stdout) == (vm.OWN_FAILURE, "")
    assert done.stderr.startswith("netlab vm: ")
    assert said in done.stderr


def test_no_command_is_a_usage_error(tmp_path: Path) -> None:
    done = netlab_vm(cwd=tmp_path)
    assert done.returncode == 2
    assert "COMMAND" in done.stderr


def test_a_cached_kernel_is_used_with_nothing_to_fetch_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = made_kernel(tmp_path, "k")
    monkeypatch.setenv("PATH", "")
    told: list[str] = []
    kernel = vmkernel.ensure_kernel(tmp_path, told.append)
    assert (kernel.root, kernel.release, kernel.package, told) == (root, "1.2", "k", [])
    assert kernel.boot_image == root / "boot/vmlinuz-1.2"


def test_a_kernel_without_its_modules_is_refused(tmp_path: Path) -> None:
    root = made_kernel(tmp_path, "k")
    (root / "lib/modules/1.2").rmdir()
    with pytest.raises(VMError, match=r"no modules of 1\.2"):
        vmkernel.kernel_in(root)


def test_the_one_fetched_last_is_used(tmp_path: Path) -> None:
    for age, name in enumerate(["b", "c", "a"]):
        manifest = made_kernel(tmp_path, name) / "manifest.json"
        os.utime(manifest, (1_000_000 - age, 1_000_000 - age))
    found = vmkernel.cached_kernel(tmp_path)
    assert found is not None
    assert found.package == "b"


def test_half_a_fetch_is_no_kernel(tmp_path: Path) -> None:
    made_kernel(tmp_path / "half-abc", "root")
    assert vmkernel.cached_kernel(tmp_path) is None


def test_no_kernel_and_nothing_to_fetch_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(VMError, match="apt-get is not installed"):
        vmkernel.ensure_kernel(tmp_path, lambda _: None)
    assert not list(tmp_path.glob("half-*"))
