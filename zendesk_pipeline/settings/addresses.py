"""Addresses that credentials are sent to."""

from ipaddress import ip_address
from urllib.parse import urlsplit


def checked_address(url: str, meant: str) -> str:
    """Scheme, host and port of an address; raises ValueError where no credential must be sent.

    `meant` says what is wanted: `the account's address, such as https://acme.zendesk.com`.
    """
    parts = urlsplit(url.strip())
    if parts.username or parts.password:
        raise ValueError("credentials do not belong into the address")
    if not parts.hostname or parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError(f"only {meant} is wanted")
    if parts.scheme != "https" and not (parts.scheme == "http" and is_this_machine(parts.hostname)):
        raise ValueError("it has to begin with https:// (http:// is for this machine alone)")
    wire_host(url.strip())
    return f"{parts.scheme}://{parts.netloc}"


def wire_host(url: str) -> str:
    """The host of an address as it is asked, in small letters and ASCII (IDNA); raises ValueError for no such name."""
    host = urlsplit(url).hostname or ""
    if host.isascii():
        return host
    from requests import Request  # noqa: PLC0415  # slow to import, and hardly ever needed
    from requests.exceptions import InvalidURL  # noqa: PLC0415  # the same

    try:
        return urlsplit(str(Request("GET", url).prepare().url)).hostname or ""
    except InvalidURL:
        raise ValueError(f"{host} is not a name that a host can have") from None


def is_this_machine(host: str) -> bool:
    """Whether a host is this machine by its name or number: what is sent there crosses no network."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
