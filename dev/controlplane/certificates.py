"""Keys and certificates of one development control plane. They live as long as its state directory."""

import datetime as dt
import ipaddress
import os
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

#: Long enough for any checkout, and before what some TLS stacks refuse.
VALID_FOR = dt.timedelta(days=800)
#: Certificates begin in the past: a container's clock may lag behind.
BACKDATED = dt.timedelta(hours=1)

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def write_private(path: Path, content: bytes | str) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    written = path.with_name(f"{path.name}.tmp")
    written.unlink(missing_ok=True)
    with os.fdopen(os.open(written, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
    written.replace(path)


def write_certificates(folder: Path, address: str, now: dt.datetime) -> None:
    """Write ca.crt, server.crt and server.key for an API server at `address`, and sa.key for its tokens.

    Shape: the authority's own key is not kept: nobody can sign a second server.
    """
    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority = _certificate("incident-operator development", authority_key, None, authority_key, now)
    server_key = ec.generate_private_key(ec.SECP256R1())
    server = _certificate("kube-apiserver", server_key, authority, authority_key, now, address)
    write_private(folder / "server.key", _pem(server_key))
    write_private(folder / "server.crt", server.public_bytes(serialization.Encoding.PEM))
    write_private(folder / "sa.key", _pem(rsa.generate_private_key(public_exponent=65537, key_size=2048)))
    write_private(folder / "ca.crt", authority.public_bytes(serialization.Encoding.PEM))


def _pem(key: PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Certificate | None,
    signer: ec.EllipticCurvePrivateKey,
    now: dt.datetime,
    address: str | None = None,
) -> x509.Certificate:
    """Return a certificate: an authority's without an issuer, else a server's for `address`."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    identifiers = x509.SubjectKeyIdentifier.from_public_key(signer.public_key())
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + VALID_FOR)
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifiers), critical=False)
        .add_extension(_key_usage(authority=issuer is None), critical=True)
    )
    if address is not None:
        names: list[x509.GeneralName] = [x509.IPAddress(ipaddress.ip_address(address))]
        names += [x509.DNSName(n) for n in ("localhost", "kubernetes", "kubernetes.default.svc")]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False).add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False
        )
    return builder.sign(signer, hashes.SHA256())


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
