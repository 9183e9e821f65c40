"""Certificates for tests, made on the spot: an authority, and servers that it vouches for, rightly or not."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Identity:
    """A certificate and its key, together in one PEM file."""

    path: Path
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def authority(folder: Path, name: str = "authority") -> Identity:
    """An authority that signs for itself; the file is what REQUESTS_CA_BUNDLE takes."""
    key = ec.generate_private_key(ec.SECP256R1())
    own = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{name} of a test")])
    builder = _validity(x509.CertificateBuilder().subject_name(own).issuer_name(own), from_day=-2, to_day=2)
    builder = builder.public_key(key.public_key()).add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
    builder = builder.add_extension(_usage(signs_certificates=True), True)
    return _saved(folder / f"{name}.pem", builder.sign(key, hashes.SHA256()), key)


def server(
    folder: Path, signer: Identity | None, *, name: str = "localhost", from_day: int = -1, to_day: int = 1
) -> Identity:
    """A server's certificate for a host name; without a signer it vouches for itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    own = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder().subject_name(own).public_key(key.public_key())
    builder = _validity(builder, from_day, to_day).issuer_name(signer.certificate.subject if signer else own)
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), False)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
    builder = builder.add_extension(_usage(signs_certificates=False), True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)
    signing = signer.key if signer else key
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key())
    builder = builder.add_extension(identifier, False)
    return _saved(folder / f"server-{name}-{from_day}-{to_day}.pem", builder.sign(signing, hashes.SHA256()), key)


def bundle(folder: Path, identities: Sequence[Identity]) -> Path:
    """A file of certificates to trust."""
    path = folder / "bundle.pem"
    encoded = [identity.certificate.public_bytes(serialization.Encoding.PEM) for identity in identities]
    path.write_bytes(b"".join(encoded))
    return path


def _validity(builder: x509.CertificateBuilder, from_day: int, to_day: int) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    builder = builder.not_valid_before(now + from_day * DAY).not_valid_after(now + to_day * DAY)
    return builder.serial_number(x509.random_serial_number())


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _saved(path: Path, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Identity:
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(secret + certificate.public_bytes(pem))
    return Identity(path, certificate, key)
