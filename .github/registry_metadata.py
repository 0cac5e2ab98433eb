"""Write into pyproject.toml what only the repository that publishes knows: its address and that of the icon.

python3 .github/registry_metadata.py https://github.com/OWNER/NAME BRANCH
"""

import sys
import tomllib
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"
ICON = "docs/images/icon.png"


def filled(text: str, address: str, branch: str) -> str:
    """`pyproject.toml` with [project.urls] and the icon's address; what stands there already is kept.

    Args:
        text: the file.
        address: of the repository on GitHub.
        branch: that the files are shown of.

    Raises:
        ValueError: the address is not one of GitHub's, or the file has no place for an icon.
    """
    host = "https://github.com/"
    owner_and_name = address.removeprefix(host).removesuffix("/").removesuffix(".git")
    if not address.startswith(host) or owner_and_name.count("/") != 1:
        raise ValueError(f"the repository must be {host}OWNER/NAME, got {address!r}")
    now = tomllib.loads(text)
    if not now["tool"]["comfy"].get("Icon"):
        empty = 'Icon = ""'
        if text.count(empty) != 1:
            raise ValueError(f"pyproject.toml must have one line {empty} in [tool.comfy]")
        text = text.replace(empty, f'Icon = "https://raw.githubusercontent.com/{owner_and_name}/{branch}/{ICON}"')
    if "urls" not in now["project"]:
        home = host + owner_and_name
        urls = {"Repository": home, "Documentation": f"{home}#readme", "Bug Tracker": f"{home}/issues"}
        text += "\n[project.urls]\n" + "".join(f'"{name}" = "{url}"\n' for name, url in urls.items())
    return text


if __name__ == "__main__":
    PROJECT.write_text(filled(PROJECT.read_text(encoding="utf-8"), *sys.argv[1:3]), encoding="utf-8")
