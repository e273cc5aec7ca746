"""Fetch umqtt.simple and umqtt.robust as PyPI has them, for the tests of the MicroPython client.

    python -m tests.devices.micropython.get_umqtt [DIRECTORY]

pip cannot: these releases are archives for MicroPython's own installer, without a setup.py. `unearth`
asks the same registry and only downloads. What comes must be, byte for byte, what was tested.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

RELEASES = {
    "micropython-umqtt.simple==1.3.4": (
        "umqtt/simple.py",
        "b6a2520239e3992c63a7de9370ee9b3d9d27819a90359c521f1c0f7ccab8d12f",
    ),
    "micropython-umqtt.robust==1.0": (
        "umqtt/robust.py",
        "22a1b8c8e1128281efb13b3020927d07e33c5b747869da2cd77d37983a9ea002",
    ),
}
"""What is needed of each release, and the SHA-256 of its archive."""

DIRECTORY = Path(sys.prefix) / "lib" / "micropython"


def fetch(directory: Path = DIRECTORY) -> None:
    """Put `umqtt` into `directory`, if it is not there yet.

    Raises:
        OSError: An archive is another than the one that was tested.
        subprocess.CalledProcessError: The registry could not be asked.
    """
    for release, (member, digest) in RELEASES.items():
        target = directory / member
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(_member(_archive(release, digest), member))


def _archive(release: str, digest: str) -> bytes:
    with tempfile.TemporaryDirectory() as place:
        command = [sys.executable, "-m", "unearth", "--no-binary", "--download", place, release]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        data = next(Path(place).glob("*.tar.gz")).read_bytes()
        if hashlib.sha256(data).hexdigest() != digest:
            raise OSError(f"{release} is not the archive that was tested")
        return data


def _member(archive: bytes, member: str) -> bytes:
    with tempfile.TemporaryFile() as file:
        file.write(archive)
        file.seek(0)
        with tarfile.open(fileobj=file) as tar:
            name = next(name for name in tar.getnames() if name.endswith(f"/{member}"))
            extracted = tar.extractfile(name)
            assert extracted is not None
            return extracted.read()


if __name__ == "__main__":
    fetch(*(Path(argument) for argument in sys.argv[1:2]))
