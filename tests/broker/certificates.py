"""Certificates in files, for tests that start programs with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import trustme

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Files:
    """A certificate, its key, and the authority to trust."""

    certificate: Path
    key: Path
    ca: Path


def issued(directory: Path, *names: str) -> Files:
    """A certificate for these names by an authority of its own; the directory is made."""
    directory.mkdir()
    authority = trustme.CA()
    made = authority.issue_cert(*names)
    files = Files(*(directory / f"{name}.pem" for name in ("server", "key", "ca")))
    for number, blob in enumerate(made.cert_chain_pems):
        blob.write_to_path(str(files.certificate), append=number > 0)
    made.private_key_pem.write_to_path(str(files.key))
    authority.cert_pem.write_to_path(str(files.ca))
    return files
