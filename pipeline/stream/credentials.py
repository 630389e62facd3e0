"""The same TLS and SASL options for aiokafka, which reads the input, as for librdkafka, which does all else."""

import ssl
from collections.abc import Mapping
from typing import Final

from faust.auth import Credentials, SASLCredentials, SSLCredentials

_MECHANISM: Final = ("sasl.mechanism", "sasl.mechanisms")
_UNDERSTOOD: Final = {
    "security.protocol",
    *_MECHANISM,
    "sasl.username",
    "sasl.password",
    "ssl.ca.location",
    "ssl.certificate.location",
    "ssl.key.location",
    "ssl.key.password",
}


def credentials_of(client_options: Mapping[str, str]) -> Credentials | None:
    """What Faust needs to reach the broker as librdkafka does. Raises ValueError for an option it cannot follow."""
    unknown = [
        name
        for name in client_options
        if name.startswith(("sasl.", "ssl.", "security.")) and name not in _UNDERSTOOD
    ]
    if unknown:
        raise ValueError(
            f"expected in CREDITSTREAM_KAFKA__CLIENT_OPTIONS only {sorted(_UNDERSTOOD)} of the security options, "
            f"got {unknown}: the worker's consumer has no such option"
        )
    protocol = client_options.get("security.protocol", "plaintext").upper()
    context = _context(client_options) if protocol.endswith("SSL") else None
    if protocol.startswith("SASL"):
        return SASLCredentials(
            username=client_options.get("sasl.username"),
            password=client_options.get("sasl.password"),
            mechanism=next((client_options[each] for each in _MECHANISM if each in client_options), "PLAIN"),
            ssl_context=context,
        )
    return SSLCredentials(context) if context is not None else None


def _context(client_options: Mapping[str, str]) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=client_options.get("ssl.ca.location"))
    certificate = client_options.get("ssl.certificate.location")
    if certificate is not None:
        context.load_cert_chain(
            certificate, client_options.get("ssl.key.location"), client_options.get("ssl.key.password")
        )
    return context
