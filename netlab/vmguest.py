"""What runs inside: three shell scripts, made as text.

The machine's own file system comes in by 9p, read-only, and an overlay on it makes all of it
writable for the life of the VM. 9p without a cache costs a message to QEMU for each look-up
and page (importing pyroute2 takes 46 s), with one a tenth of that; so everything runs on
cached views. The folder of results alone is not cached: the host reads it meanwhile.

The first script is process 1 of virtme-ng's initramfs, in the place of virtme-ng's own
second stage, which needs 15 s more under emulation for what a VM without a login does not need.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cnm.netlab.vmkernel import Kernel

# How virtme-ng calls the shares: the root, then each --rwdir in its order.
_ROOT, _RESULTS, _FOLDER = "/dev/root", "virtme.initmount0", "virtme.initmount1"

INIT = "netlab-init"  # the first script's name in the initramfs

INSIDE = "/run/results"  # where the folder of results is; its files' names:
BOOTED, STATUS, STDOUT, STDERR, LATE = "booted", "status", "stdout", "stderr", "late"
CONSOLE, SETUP_LOG, MAIN_SCRIPT, COMMAND_SCRIPT = "console", "setup.log", "main.sh", "command.sh"

# Of the host's environment, what is wrong inside.
_LEFT_OUT = frozenset({"XDG_RUNTIME_DIR", "OLDPWD", "SHLVL", "_"})
# Layers of containers cannot be kept on an overlay: temporary files are in memory.
_ADDED = {"CNM_VM": "1", "TMPDIR": "/run/tmp"}
_KILL_AFTER_S = 5  # from SIGTERM to SIGKILL
_DRAIN_S = 2  # for what still holds the command's output when it has ended


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be done inside. ``folder`` is shared for writing; ``cwd`` lies anywhere."""

    command: tuple[str, ...]
    folder: Path
    cwd: Path
    environment: Mapping[str, str]
    timeout_s: float
    files: Mapping[str, str] = field(default_factory=dict)  # more for the folder of results


def init_script(job: Job, kernel: Kernel) -> str:
    """The first: builds the root and goes there."""
    return "#!/bin/sh\n" + _assignments(
        folder=str(job.folder), modules=str(kernel.modules), release=kernel.release
    ) + _INIT  # fmt: skip


def main_script(job: Job) -> str:
    """The second: starts the third, passes its output on and tells its status."""
    return _assignments(cwd=str(job.cwd), seconds=f"{job.timeout_s:g}") + _MAIN


def command_script(job: Job) -> str:
    """The third: the caller's environment, and the command in its place."""
    exports = [
        f"export {name}={shlex.quote(value)}"
        for name, value in sorted({**job.environment, **_ADDED}.items())
        if name.isidentifier() and name not in _LEFT_OUT
    ]
    return "\n".join([*exports, f"exec {shlex.join(job.command)}", ""])


def _assignments(**values: str) -> str:
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items())


def _share(tag: str, place: str, access: str, cache: str) -> str:
    options = f"{access},trans=virtio,version=9p2000.L,msize=512000,access=any,cache={cache}"
    return f"mount -t 9p -o {options} {tag} {place}"


# By busybox, which virtme-ng puts into the initramfs; load_all.sh is virtme-ng's too.
_INIT = f"""
export PATH=/bin
/bin/busybox --install -s /bin
. /modules/load_all.sh
mkdir /lower /upper /results
{_share(_RESULTS, "/results", "rw", "none")} || exit
exec >>/results/{SETUP_LOG} 2>&1
set -e
{_share(_ROOT, "/lower", "ro", "loose")}
mount -t tmpfs -o mode=0755 netlab /upper
mkdir /upper/files /upper/work
mount -t overlay -o lowerdir=/lower,upperdir=/upper/files,workdir=/upper/work netlab /newroot
cd /newroot
mkdir -p proc sys dev run var/lib/cnm "lib/modules/$release"
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t devtmpfs dev dev
mkdir dev/pts dev/shm
ln -s /proc/self/fd dev/fd
for number in 0:stdin 1:stdout 2:stderr; do ln -s fd/${{number%:*}} dev/${{number#*:}}; done
mount -t devpts -o mode=0620,gid=5,ptmxmode=0666 devpts dev/pts
for name in dev/shm run var/lib/cnm; do mount -t tmpfs netlab $name; done
chmod 0755 run var/lib/cnm
mkdir -m 1777 run/tmp
mkdir .{INSIDE}
mount --bind "/lower$modules" "lib/modules/$release"
mkdir -p ".$folder"
{_share(_FOLDER, '".$folder"', "rw", "loose")}
mount --move /results .{INSIDE}
echo 0 >proc/sys/kernel/randomize_va_space  # QEMU finds translated code again: half the time
hostname netlab-vm
ip link set lo up
exec switch_root /newroot /bin/sh {INSIDE}/{MAIN_SCRIPT}
"""

# Process 1 from here on: it must not end, and it reaps orphans while it waits.
_MAIN = f"""
results={INSIDE}
exec >>$results/{SETUP_LOG} 2>&1
PATH=/usr/sbin:/usr/bin:/sbin:/bin
cd "$cwd"
mkfifo /run/stdout /run/stderr
cat </run/stdout >>$results/{STDOUT} &
readers=$!
cat </run/stderr >>$results/{STDERR} &
readers="$readers $!"
: >$results/{BOOTED}
setsid sh $results/{COMMAND_SCRIPT} >/run/stdout 2>/run/stderr </dev/null &
command=$!
(
  sleep "$seconds"
  : >$results/{LATE}
  kill -TERM -$command
  sleep {_KILL_AFTER_S}
  kill -KILL -$command
) &
wait $command
status=$?
# Whoever still holds the output gets a moment.
(sleep {_DRAIN_S}; kill $readers) &
wait $readers
sync
echo $status >$results/{STATUS}.new
mv $results/{STATUS}.new $results/{STATUS}
while :; do sleep 60; done  # the host sees the status and ends the VM
"""
