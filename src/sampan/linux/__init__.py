"""Bindings to the Linux kernel: the only home of ctypes. Kernel names, no policy, no asyncio, no wording.

A wrapper is one call: it packs its structs, calls, checks, and raises `OSError` with errno, the call's name and
the path. `call` is the way in and `abi` has the numbers; every other module is one subject of the kernel.
The package root imports nothing, so that each program pays for what it uses (all of it: about 3 ms).
"""
