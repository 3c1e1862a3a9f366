"""Addresses, networks and web locations."""

from __future__ import annotations

import ipaddress
import urllib.parse
from random import Random
from typing import Literal

from xlam_jax.apigen.functions import pools
from xlam_jax.apigen.functions.declare import api
from xlam_jax.apigen.functions.samples import cidr, ints, ipv4, ipv6, pick


def _member(r: Random) -> dict[str, str]:
    network = ipaddress.ip_network(cidr(16, 26)(r))
    address = network[r.randrange(network.num_addresses)] if r.random() < 0.5 else ipv4(r)
    return {"address": str(address), "network": str(network)}


@api(
    "Is {address} a private IP address?",
    "My router shows {address}. Is that a private address or public?",
    "private ip? {address}",
    "Check whether {address} belongs to a private range.",
    name="is_private_ip",
    give={"address": ipv4},
    edge={"address": ["256.10.3.4", "10.0.0", "192.168.1.300"]},
)
def is_private_ip(address: str) -> bool:
    """Check whether an IP address is private.

    Args:
      address: IP address.
    """
    return ipaddress.ip_address(address).is_private


@api(
    "Is {address} IPv4 or IPv6?",
    "Which IP version is {address}?",
    "ip version of {address}",
    name="net.ipVersion",
    give={"address": lambda r: (ipv4 if r.random() < 0.5 else ipv6)(r)},
)
def ip_version(address: str) -> int:
    """Get the IP version of an address.

    Args:
      address: IP address.
    """
    return ipaddress.ip_address(address).version


@api(
    "How many usable hosts fit into {network}?",
    "We got the block {network}. How many usable host addresses is that?",
    "usable hosts in {network}",
    name="count_hosts",
    give={"network": cidr()},
    edge={"network": ["10.0.0.7/24", "192.168.0.0/40"]},
)
def count_hosts(network: str) -> int:
    """Count the usable host addresses of a network.

    Args:
      network: Network in CIDR notation.
    """
    return max(ipaddress.ip_network(network).num_addresses - 2, 0)


@api(
    "Does {address} belong to the network {network}?",
    "Is {address} inside {network}?",
    "Firewall rule covers {network}. Would {address} match it?",
    name="ip_in_network",
    joint=_member,
)
def ip_in_network(address: str, network: str) -> bool:
    """Check whether an address lies in a network.

    Args:
      address: IP address.
      network: Network in CIDR notation.
    """
    return ipaddress.ip_address(address) in ipaddress.ip_network(network)


@api(
    "What's the broadcast address of {network}?",
    "broadcast for {network}",
    "I'm configuring {network} and need its broadcast address.",
    name="getBroadcastAddress",
    give={"network": cidr()},
)
def broadcast_address(network: str) -> str:
    """Get the broadcast address of a network.

    Args:
      network: Network in CIDR notation.
    """
    return str(ipaddress.ip_network(network).broadcast_address)


@api(
    "Split {network} into subnets with prefix length {new_prefix}.",
    "Divide the block {network} into /{new_prefix} subnets.",
    "subnets of {network} at /{new_prefix}",
    name="network.split",
    joint=lambda r: (lambda n: {"network": n, "new_prefix": int(n.split("/")[1]) + r.randint(1, 3)})(
        cidr(16, 26)(r)
    ),
    edge={"new_prefix": [8, 36]},
)
def split_network(network: str, new_prefix: int) -> list[str]:
    """Split a network into smaller subnets.

    Args:
      network: Network in CIDR notation.
      new_prefix: Prefix length of the subnets.
    """
    return [str(n) for n in ipaddress.ip_network(network).subnets(new_prefix=new_prefix)]


@api(
    "What netmask corresponds to a /{prefix} prefix?",
    "Convert prefix length {prefix} to a subnet mask.",
    "subnet mask for /{prefix}",
    name="prefix_to_netmask",
    give={"prefix": ints(8, 30)},
    edge={"prefix": [33, 40]},
)
def prefix_to_netmask(prefix: int) -> str:
    """Convert a prefix length to an IPv4 netmask.

    Args:
      prefix: Prefix length, 0 to 32.
    """
    return str(ipaddress.ip_network(f"0.0.0.0/{prefix}").netmask)


@api(
    "Convert the address {address} to an integer.",
    "What number is {address} stored as?",
    "{address} as a decimal integer",
    name="ipToInteger",
    give={"address": ipv4},
)
def ip_to_integer(address: str) -> int:
    """Convert an IP address to an integer.

    Args:
      address: IP address.
    """
    return int(ipaddress.ip_address(address))


@api(
    "Write the IPv6 address {address} in full.",
    "Expand {address}.",
    "uncompressed form of {address}",
    name="ipv6.expand",
    give={"address": ipv6},
    edge={"address": ["2001:db8::1::2", "fe80:::1"]},
)
def expand_ipv6(address: str) -> str:
    """Expand an IPv6 address to its full form.

    Args:
      address: IPv6 address.
    """
    return ipaddress.IPv6Address(address).exploded


@api(
    "What's the reverse DNS name for {address}?",
    "I need the PTR record name of {address}.",
    "reverse pointer {address}",
    name="reverse_dns_name",
    give={"address": ipv4},
)
def reverse_dns_name(address: str) -> str:
    """Get the reverse DNS name of an address.

    Args:
      address: IP address.
    """
    return ipaddress.ip_address(address).reverse_pointer


@api(
    "Do the networks {first} and {second} overlap?",
    "Check for an overlap between {first} and {second}.",
    "We want to peer {first} with {second}. Do their ranges collide?",
    name="networks_overlap",
    give={"first": cidr(8, 20), "second": cidr(8, 24)},
)
def networks_overlap(first: str, second: str) -> bool:
    """Check whether two networks overlap.

    Args:
      first: Network in CIDR notation.
      second: Network in CIDR notation.
    """
    return ipaddress.ip_network(first).overlaps(ipaddress.ip_network(second))


@api(
    "Get the {part} of {url}.",
    "What's the {part} in {url} ?",
    "{part} from {url}",
    name="url.getPart",
    alike="url",
    give={"url": pools.url},
)
def url_part(url: str, part: Literal["scheme", "host", "path", "query"]) -> str:
    """Get one component of a URL.

    Args:
      url: URL to parse.
      part: Component to return.
    """
    return getattr(urllib.parse.urlsplit(url), "hostname" if part == "host" else part)


@api(
    "Resolve the link {link} against {base}.",
    "A page at {base} links to {link}. What's the full URL?",
    "join {base} and {link} into one absolute URL",
    name="resolve_link",
    give={
        "base": lambda r: pools.url(r).split("?")[0],
        "link": lambda r: r.choice(("../{}", "/{}", "{}/index.html")).format(r.choice(pools.WORDS)),
    },
)
def resolve_link(base: str, link: str) -> str:
    """Resolve a relative link against a base URL.

    Args:
      base: URL of the page.
      link: Relative link.
    """
    return urllib.parse.urljoin(base, link)


@api(
    "Which service port does {protocol} use by default?",
    "default port for {protocol}",
    "I have to open the firewall for {protocol}. On which port does it listen?",
    name="defaultPort",
    give={"protocol": pick("HTTPS", "SSH", "SMTP", "DNS", "FTP", "IMAP")},
    edge={"protocol": ["GOPHER"]},
)
def default_port(protocol: Literal["HTTP", "HTTPS", "SSH", "SMTP", "DNS", "FTP", "IMAP"]) -> int:
    """Get the default port of a protocol.

    Args:
      protocol: Protocol name.
    """
    return {"HTTP": 80, "HTTPS": 443, "SSH": 22, "SMTP": 25, "DNS": 53, "FTP": 21, "IMAP": 143}[protocol]
