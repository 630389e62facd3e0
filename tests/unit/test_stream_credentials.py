"""The worker's consumer reaches the broker the way the other clients do, or says that it cannot."""

import pytest
from faust.auth import SASLCredentials, SSLCredentials
from faust.types.auth import AuthProtocol, SASLMechanism

from pipeline.stream.credentials import credentials_of


def test_without_options_nothing_is_encrypted() -> None:
    assert credentials_of({}) is None
    assert credentials_of({"security.protocol": "PLAINTEXT", "client.rack": "a"}) is None


def test_sasl_over_tls_is_followed() -> None:
    found = credentials_of(
        {
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": "worker",
            "sasl.password": "secret",
        }
    )
    assert isinstance(found, SASLCredentials)
    assert found.protocol == AuthProtocol.SASL_SSL
    assert found.mechanism == SASLMechanism.SCRAM_SHA_512
    assert (found.username, found.password) == ("worker", "secret")


def test_tls_alone_is_followed() -> None:
    assert isinstance(credentials_of({"security.protocol": "ssl"}), SSLCredentials)


def test_an_option_that_cannot_be_followed_is_named() -> None:
    with pytest.raises(ValueError, match=r"sasl\.kerberos\.principal"):
        credentials_of({"security.protocol": "SASL_SSL", "sasl.kerberos.principal": "worker"})
