"""Which subnet a network gets and which address an endpoint gets: pure choices by Docker's default IPAM rules."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from ipaddress import AddressValueError, IPv4Address, IPv4Network, NetmaskValueError

from sampan.errors import Conflict, Error, Forbidden, InvalidArgument


def parse_subnet(text: str) -> IPv4Network:
    """A subnet as a client writes it; host bits are cut off. InvalidArgument."""
    try:
        if "/" not in text:
            raise ValueError(text)
        return IPv4Network(text, strict=False)
    except (AddressValueError, NetmaskValueError, ValueError):
        raise InvalidArgument(f"invalid network config:\ninvalid subnet {text}: invalid CIDR address") from None


def parse_address(text: str, what: str) -> IPv4Address:
    """InvalidArgument naming `what` the address was for."""
    try:
        return IPv4Address(text)
    except AddressValueError:
        raise InvalidArgument(f"invalid {what} address: {text}") from None


def choose_pool(pools: Sequence[tuple[str, int]], taken: Iterable[IPv4Network]) -> IPv4Network:
    """The first subnet of the pools that overlaps nothing taken. Error when there is none, in Docker's words."""
    occupied = list(taken)
    for base, prefix_len in pools:
        for subnet in IPv4Network(base).subnets(new_prefix=prefix_len):
            if not any(subnet.overlaps(other) for other in occupied):
                return subnet
    raise Error("all predefined address pools have been fully subnetted")


def check_pool(subnet: IPv4Network, taken: Iterable[IPv4Network]) -> None:
    """Forbidden when another network has a part of the subnet (Docker answers 403)."""
    if any(subnet.overlaps(other) for other in taken):
        raise Forbidden("invalid pool request: Pool overlaps with other one on this address space")


def choose_gateway(subnet: IPv4Network, within: IPv4Network | None) -> IPv4Address:
    """The first host address of the subnet, or of the range that addresses come from."""
    return (within or subnet).network_address + (1 if within is None or within == subnet else 0)


def choose_address(
    subnet: IPv4Network,
    within: IPv4Network | None,
    taken: Collection[str],
    requested: str,
    network: str,
) -> IPv4Address:
    """`requested`, or the lowest free address of `within` (the whole subnet when None).

    `taken` holds addresses as text, the gateway among them; `network` names the network in errors: "NAME (ID)".
    Conflict `Address already in use`; InvalidArgument for one outside the subnet; Error when the subnet is full."""
    if requested:
        address = parse_address(requested, "IPv4")
        if address not in subnet:
            raise InvalidArgument(f"no configured subnet contains IP address {requested}")
        if str(address) in taken or address in (subnet.network_address, subnet.broadcast_address):
            raise Conflict("Address already in use")
        return address
    pool = within or subnet
    edges = (subnet.network_address, subnet.broadcast_address)
    for number in range(int(pool.network_address), int(pool.broadcast_address) + 1):
        address = IPv4Address(number)
        if str(address) not in taken and (address not in edges or subnet.prefixlen >= 31):
            return address
    raise Error(f"no available IPv4 addresses on this network's address pools: {network}")


def mac_of(address: str) -> str:
    """Docker's rule: 02:42 and the four bytes of the address, so that a reused address keeps its neighbours' caches."""
    return "02:42:" + ":".join(f"{byte:02x}" for byte in IPv4Address(address).packed)
