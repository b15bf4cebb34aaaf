#!/usr/bin/env bash
# Installs what is missing and nothing else: Debian packages, .venv, the project (editable).
# Run it as often as you like; with nothing to do it takes a fraction of a second.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/sbin:/sbin
readonly venv=$PWD/.venv constraints=scripts/constraints.txt

say() { printf 'setup: %s\n' "$*"; }
die() { printf 'setup: %s\n' "$*" >&2; exit 1; }

# "program package": a program that is there from elsewhere (docker-ce, a source build) is good too.
# Those with a path lie beside it, where Debian puts what people do not type.
programs="nft nftables
ip iproute2
ping iputils-ping
brctl bridge-utils
tcpdump tcpdump
strace strace
conntrack conntrack
ps procps
busybox busybox-static
curl curl
dig bind9-dnsutils
dnsperf dnsperf
dnsmasq dnsmasq-base
musl-gcc musl-tools
dockerd docker.io
containerd containerd
etcd etcd-server
iperf3 iperf3
qemu-system-x86_64 qemu-system-x86
depmod kmod
file file
openssl openssl
podman podman
runc runc
/usr/lib/podman/netavark netavark
/usr/lib/podman/aardvark-dns aardvark-dns
/usr/lib/cni/bridge containernetworking-plugins
firewalld firewalld
ufw ufw
dbus-daemon dbus-daemon"

find_python() { # the machine's own python3 first: python3-venv belongs to that one
  local name
  for name in python3 python3.14 python3.13 python3.12 python3.11; do
    if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      command -v "$name"
      return
    fi
  done
  die "no Python 3.11 or newer found; on Debian 12 or newer: apt-get install python3"
}

missing_packages() {
  local program package
  while read -r program package; do
    command -v "$program" >/dev/null || echo "$package"
  done <<<"$programs"
  # not piped into grep -q: ldconfig would be cut off, and pipefail make that "not there"
  local libraries
  libraries=$(ldconfig -p)
  [[ $libraries == *'libnftables.so.1 '* ]] || echo libnftables1
  [[ $libraries == *'libseccomp.so.2 '* ]] || echo libseccomp2
  # Debian keeps ensurepip in a package of its own; an environment that works needs it no more.
  if ! venv_is_good && ! "$python" -c 'import ensurepip' 2>/dev/null; then echo python3-venv; fi
}

install_packages() {
  local as_root=() guard=/usr/sbin/policy-rc.d
  [ "$(id -u)" = 0 ] || as_root=(sudo)
  [ "$(id -u)" = 0 ] || command -v sudo >/dev/null ||
    die "these packages are missing: $*; run make as root, or install sudo"
  command -v apt-get >/dev/null ||
    die "these packages are missing and there is no apt-get: $*"
  say "installing: $*"
  # docker.io is here as a peer to be measured against, etcd for labs, firewalld and ufw for tests
  # in hosts of their own; their services must not start on this machine, neither now (policy-rc.d,
  # which deb-systemd-invoke asks too) nor at boot.
  if [ ! -e "$guard" ]; then
    trap '"${as_root[@]}" rm -f '"$guard" EXIT
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$guard" >/dev/null
    "${as_root[@]}" chmod 755 "$guard"
  fi
  "${as_root[@]}" apt-get -q -o DPkg::Lock::Timeout=120 update
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get -q -y -o DPkg::Lock::Timeout=120 install --no-install-recommends "$@"
  [ -d /run/systemd/system ] || return 0
  case " $* " in *" docker.io "*) "${as_root[@]}" systemctl disable --quiet docker.service docker.socket ;; esac
  case " $* " in *" etcd-server "*) "${as_root[@]}" systemctl disable --quiet etcd.service ;; esac
  case " $* " in *" firewalld "*) "${as_root[@]}" systemctl disable --quiet firewalld.service ;; esac
  case " $* " in *" ufw "*) "${as_root[@]}" systemctl disable --quiet ufw.service ;; esac
}

# An environment copied or moved along with its clone still names the old place in its scripts.
venv_is_good() {
  [ -x "$venv/bin/python" ] && [ -x "$venv/bin/pip" ] &&
    "$venv/bin/python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null &&
    head -n 1 "$venv/bin/pip" | grep -qF "$venv/bin/"
}

fingerprint() { # what the installed environment depends on
  echo "$PWD"
  "$venv/bin/python" --version
  sha256sum pyproject.toml "$constraints"
}

python=$(find_python)
mapfile -t missing < <(missing_packages)
[ ${#missing[@]} = 0 ] || install_packages "${missing[@]}"

if ! venv_is_good; then
  [ ! -e "$venv" ] || say ".venv is stale (moved, or its Python is gone): making it again"
  rm -rf "$venv"
  "$python" -m venv "$venv" || die "$python -m venv failed; on Debian: apt-get install python3-venv"
fi

stamp=$venv/.setup-stamp
if [ ! -x "$venv/bin/cnm" ] || ! fingerprint | cmp -s - "$stamp"; then
  rm -f "$stamp"
  say "installing the project and its pinned dependencies into .venv"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    --constraint "$constraints" --editable '.[dev]'
  fingerprint >"$stamp"
fi

# What has changed since the last time: a daemon that has to compile itself starts in twice the
# time. (What another user's run left behind cannot be replaced; Python then does without.)
"$venv/bin/python" -m compileall -q "$PWD/cnm" "$PWD"/cnm/{dns,drivers,ipam,netlab,runtime} || true
