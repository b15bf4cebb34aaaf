"""What the C library keeps, and gives back."""

from __future__ import annotations

import subprocess
import sys

_PROGRAM = """
import ctypes
from cnm.daemon import memory

def resident():
    row = next(row for row in open("/proc/self/status") if row.startswith("VmRSS:"))
    return int(row.split()[1])

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
memory.one_arena()
taken = [libc.malloc(50_000) for _ in range(400)]
for block in taken:
    libc.memset(block, 1, 50_000)
pin = libc.malloc(50_000)  # at the end of the heap, so that free(3) alone returns nothing
full = resident()
for block in taken:
    libc.free(block)
kept = resident()
memory.give_back()
print(full - kept, kept - resident())
"""


def test_what_is_free_goes_back_to_the_kernel() -> None:
    program = [sys.executable, "-c", _PROGRAM]
    told = subprocess.run(program, check=True, capture_output=True, text=True).stdout
    by_free, by_us = map(int, told.split())
    assert by_free < 2_000
    assert by_us > 15_000
