"""Data sets on the Hugging Face hub."""

from pathlib import Path

from ....errors import TrainingError
from ..base import choose_camera
from .info import read_info


def fetch(repository: str, camera: str) -> Path:
    """Local folder of a hub data set: tables, and the videos of the chosen camera.

    Raises:
        TrainingError: huggingface_hub is missing, or the hub cannot be reached, or has no such data set.
    """
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError as error:
        raise TrainingError(
            f"{repository} is not a folder; to fetch it as a hub id, install huggingface_hub"
        ) from error
    try:
        settings = {"repo_type": "dataset", "allow_patterns": ["meta/*", "meta/**"]}
        folder = Path(snapshot_download(repository, **settings))
        chosen = choose_camera(read_info(folder).cameras, camera, folder)
        wanted = [
            "meta/*",
            "meta/**",
            "data/**",
            f"videos/**/{chosen}/**",
            f"videos/{chosen}/**",
            f"images/{chosen}/**",
        ]
        return Path(snapshot_download(repository, repo_type="dataset", allow_patterns=wanted))
    except LocalEntryNotFoundError as error:
        raise TrainingError(
            f"{repository} is not a folder, and the Hugging Face hub cannot be reached to fetch a data set of that name"
        ) from error
    except (HfHubHTTPError, OSError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise TrainingError(
            f"{repository} is not a folder, and cannot be fetched from the Hugging Face hub: {reason}"
        ) from error
