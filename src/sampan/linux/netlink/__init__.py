"""Routes and nftables as message tables over raw AF_NETLINK sockets.

`connection` sends batches and reads the kernel's answers, `message` is the byte format, `route` and `nftables` are the
two families' objects, `nftables_expressions` what a rule is made of.
"""
