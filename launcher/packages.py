"""What is installed in a virtual environment, read from its files without running its Python."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path

_PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s;#\\]+)\s*(?:;(?P<marker>[^#\\]*))?")


@dataclass(frozen=True)
class Pin:
    """One pinned package of a lock file; with a marker it applies only to some systems or Pythons."""

    name: str
    version: str
    marker: str = ""

    def __str__(self) -> str:
        """The pin in pip's syntax."""
        return f"{self.name}=={self.version}"


def normalise(name: str) -> str:
    """A package's name in the normalised spelling for comparisons (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read_pins(lock_file: Path) -> list[Pin]:
    """Read the pins of a lock file: `name==version`, with its hashes on the lines that follow.

    Raises:
        ValueError: A line is neither a comment, a hash nor a pin.
    """
    pins = []
    for number, line in enumerate(lock_file.read_text(encoding="utf-8").splitlines(), 1):
        text = line.strip()
        if not text or text.startswith(("#", "--hash=")):
            continue
        match = _PIN.match(text)
        if match is None:
            raise ValueError(f"{lock_file.name} line {number} must be name==version, got {text!r}")
        pins.append(Pin(match["name"], match["version"], (match["marker"] or "").strip()))
    return pins


def requirement_of(lock_file: Path, pin: Pin) -> str:
    """The lines of one pin in a lock file, with its hashes."""
    lines = lock_file.read_text(encoding="utf-8").splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith(f"{pin.name}=={pin.version}"))
    last = first
    while lines[last].rstrip().endswith("\\"):
        last += 1
    return "\n".join(lines[first : last + 1]) + "\n"


def site_packages(venv: Path) -> Path | None:
    """Folder of the installed packages of a virtual environment, or None if it has none."""
    found = sorted(venv.glob("lib/python3.*/site-packages")) or sorted(venv.glob("Lib/site-packages"))
    return found[0] if found else None


def installed(folder: Path) -> dict[str, Path]:
    """Normalised name -> `*.dist-info` folder of every package installed in `folder`."""
    return {normalise(info.name.rsplit("-", 2)[0]): info for info in folder.glob("*.dist-info")}


def damaged(info: Path) -> str | None:
    """Name of the first missing file of an installed package, or None if it is complete.

    Only top-level modules and the `__init__.py` of packages one level down are checked: a folder that was deleted or
    left incomplete by a full disk shows there, and a hundred packages are checked in 0.15 s.
    """
    record = info / "RECORD"
    if not record.is_file():
        return f"{info.name}/RECORD"
    with record.open(encoding="utf-8", newline="") as stream:
        for row in csv.reader(stream):
            name = row[0] if row else ""
            top_level = name.endswith((".py", ".so", ".pyd")) and name.count("/") <= 1 and not name.startswith("..")
            if top_level and not (info.parent / name).exists():
                return name
    return None


def find_faults(folder: Path, pins: list[Pin]) -> dict[Pin, str]:
    """Pins that are absent, of another version or damaged, each with the reason.

    A pin with a marker may be absent: only the installer knows whether it applies here.
    """
    have = installed(folder)
    faults = {}
    for pin in pins:
        if pin.marker and normalise(pin.name) not in have:
            continue
        info = have.get(normalise(pin.name))
        if info is None:
            faults[pin] = "not installed"
            continue
        version = info.name.removesuffix(".dist-info").rpartition("-")[2]
        # "2.14.1+cpu" is as good as "2.14.1": another build of the same version.
        if version.partition("+")[0] != pin.version:
            faults[pin] = f"version {version} is installed"
        elif missing := damaged(info):
            faults[pin] = f"its file {missing} is missing"
    return faults
