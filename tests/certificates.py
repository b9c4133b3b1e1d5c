"""Throw-away certificates for TLS tests, made by openssl."""

from __future__ import annotations

import shutil
import ssl
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class ServerCertificate:
    context: ssl.SSLContext
    pem: str


def pem_pair(folder: Path, name: str) -> tuple[Path, Path]:
    """(certificate, key) files of a self-signed certificate for this DNS name."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    key, certificate = folder / f"{name}.key", folder / f"{name}.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
    ]
    command += ["-keyout", str(key), "-out", str(certificate), "-days", "1", "-subj", f"/CN={name}"]
    subprocess.run([*command, "-addext", f"subjectAltName=DNS:{name}"], check=True, capture_output=True)
    return certificate, key


def server_with(name: str) -> ServerCertificate:
    """A server context with a self-signed certificate for this DNS name."""
    with tempfile.TemporaryDirectory() as folder:
        certificate, key = pem_pair(Path(folder), name)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        return ServerCertificate(context, certificate.read_text())


def client_trusting(certificate: ServerCertificate) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=certificate.pem)


@dataclass(frozen=True)
class Files:
    certificate: Path
    key: Path


def certificate_files(name: str, folder: Path) -> Files:
    """A self-signed RSA certificate in files: dcmtk's default profile wants no elliptic one."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    key, certificate = folder / f"{name}.key", folder / f"{name}.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        f"/CN={name}",
    ]
    subprocess.run([*command, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    return Files(certificate, key)


class Authority:
    """A site's CA in a folder; `issue` makes certificates that end in so many days."""

    def __init__(self, folder: Path) -> None:
        if shutil.which("openssl") is None:
            pytest.skip("openssl is not installed")
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.ca = folder / "ca.pem"
        self._key = folder / "ca.key"
        command = ["req", "-x509", *_NEW_KEY, "-keyout", str(self._key), "-out", str(self.ca), "-days", "30"]
        _openssl(*command, "-subj", "/CN=Site CA", "-addext", "basicConstraints=critical,CA:TRUE")

    def issue(self, name: str, *alternative: str, days: int = 365) -> tuple[Path, Path]:
        """(certificate, key). alternative: "DNS:ct1.hospital", "IP:127.0.0.1" ..."""
        certificate, key, request = (self.folder / f"{name}.{ending}" for ending in ("pem", "key", "csr"))
        _openssl("req", *_NEW_KEY, "-keyout", str(key), "-out", str(request), "-subj", f"/CN={name}")
        extensions = self.folder / f"{name}.ext"
        extensions.write_text(f"subjectAltName={','.join(alternative) or f'DNS:{name}'}\n")
        signed = ["-CA", str(self.ca), "-CAkey", str(self._key), "-CAcreateserial", "-days", str(days)]
        _openssl(
            "x509",
            "-req",
            "-in",
            str(request),
            "-out",
            str(certificate),
            *signed,
            "-extfile",
            str(extensions),
        )
        return certificate, key


_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def _openssl(*arguments: str) -> None:
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
