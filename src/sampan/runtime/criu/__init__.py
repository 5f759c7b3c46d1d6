"""Driving CRIU, which saves and revives processes: its messages, its worker process, what it must be told of mounts.

`codec` is Protocol Buffers as far as these messages go, `messages` their table of fields; `worker` starts `criu swrk`
and converses with it; `wishes` turns the command line's flags into its options; `mounts` says what of a container's
mounts is the host's. Loaded by the verbs `checkpoint` and `restore` alone. Source: criu.org/RPC.
"""
