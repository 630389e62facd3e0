"""Which addresses webhooks may have: none that leads inside the network. Pure; the notifier applies it to what a name
resolves to, and connects to that very address.

Numbers that only some resolvers read as an address (2130706433, 0x7f.1, 017700000001) are read here as they do.
"""

import re
import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final
from urllib.parse import urlsplit

IpAddress = IPv4Address | IPv6Address
URL_LENGTH_MAX: Final = 2048

_NAT64: Final = IPv6Network("64:ff9b::/96")
_REFUSED: Final = tuple(
    ip_network(each)
    for each in (
        "192.0.0.0/24",  # Special uses, among them a cloud's metadata; Pythons differ about it.
        "192.88.99.0/24",  # Relays of 6to4.
        "::/96",  # IPv4-compatible: an IPv4 address at its end.
        "64:ff9b:1::/48",  # NAT64 of the own network.
        "2001::/32",  # Teredo: an IPv4 address inside.
        "2002::/16",  # 6to4: the same.
        "fec0::/10",  # Site-local, of old.
    )
)
_UNSAFE: Final = re.compile(r"[^\x21-\x7e]|\\")
_NUMBERS: Final = re.compile(r"(0[xX][0-9a-fA-F]*|[0-9]+)(\.(0[xX][0-9a-fA-F]*|[0-9]+)){0,3}\.?")


@dataclass(frozen=True, slots=True)
class Inside:
    """What a deployment allows although it is inside, or without TLS."""

    hosts: frozenset[str] = frozenset()
    networks: tuple[IPv4Network | IPv6Network, ...] = ()

    @classmethod
    def of(cls, allowed: tuple[str, ...]) -> "Inside":
        """From hosts and networks as the setting has them."""
        hosts, networks = set[str](), list[IPv4Network | IPv6Network]()
        for each in allowed:
            try:
                networks.append(ip_network(each))
            except ValueError:
                hosts.add(each.lower().rstrip("."))
        return cls(frozenset(hosts), tuple(networks))

    def has_host(self, host: str) -> bool:
        return host.lower().rstrip(".") in self.hosts

    def has_address(self, address: IpAddress) -> bool:
        return any(address in network for network in self.networks)


NOTHING_INSIDE: Final = Inside()


def url_fault(url: str, allowed: Inside = NOTHING_INSIDE) -> str | None:
    """Why a webhook cannot have this URL; None when it can. A name is judged again each time it is resolved."""
    fault = _form_fault(url)
    if fault is not None:
        return fault
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    literal = literal_address(host)
    is_allowed = allowed.has_host(host) or (literal is not None and allowed.has_address(literal))
    if parts.scheme != "https" and not (is_allowed and parts.scheme == "http"):
        return "expected an https URL"
    if is_allowed:
        return None
    if host == "localhost" or host.endswith(".localhost"):
        return "expected a host outside this network, got localhost"
    return None if literal is None else address_fault(literal, allowed)


def _form_fault(url: str) -> str | None:
    if len(url) > URL_LENGTH_MAX or _UNSAFE.search(url):
        return f"expected a URL of at most {URL_LENGTH_MAX} visible ASCII characters without backslash"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        return f"expected a URL: {error}"
    if not host:
        return "expected a URL with a host"
    if parts.username is not None:
        return "expected a URL without user name and password: every message is signed"
    return "expected a URL without fragment" if parts.fragment else None


def address_fault(address: IpAddress, allowed: Inside = NOTHING_INSIDE) -> str | None:
    """Why nothing is sent to this address; None when it is outside, or allowed."""
    if allowed.has_address(address):
        return None
    if isinstance(address, IPv6Address):
        within = address.ipv4_mapped
        if within is None and address in _NAT64:
            within = IPv4Address(int(address) & 0xFFFF_FFFF)
        if within is not None:
            return address_fault(within, allowed)
    is_refused = any(address in each for each in _REFUSED)
    if not address.is_global or address.is_multicast or address.is_reserved or is_refused:
        return f"expected an address outside this network, got {address}"
    return None


def literal_address(host: str) -> IpAddress | None:
    """The address that a host is, in whatever digits; None: it is a name."""
    try:
        return ip_address(host.partition("%")[0])
    except ValueError:
        pass
    if not _NUMBERS.fullmatch(host):
        return None
    try:
        return IPv4Address(socket.inet_aton(host.rstrip(".")))
    except OSError:
        return None
