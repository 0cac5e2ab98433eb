"""A ComfyUI server as a child process: started with the plugin linked in, watched, and always ended."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
from collections.abc import Sequence
from pathlib import Path

from runtime.locks import BusyError, output_lock
from runtime.writing import replacing

from .bootstrap import clean_environment
from .client import ComfyClient
from .comfyui import ComfyUI
from .errors import LauncherError
from .paths import CACHE, PLUGIN_NAME, ROOT

START_TIMEOUT = 300.0  # [s]; 7 to 16 s are usual, a cold disk or a busy machine takes far longer
STOP_TIMEOUT = 10.0  # [s] between asking the server to end and killing it
# What ComfyUI logs when it continues without a pack.
PLUGIN_FAILURES = ("Cannot import ", "Error while calling comfy_entrypoint", "module for custom nodes due to the lack")
MODEL_FOLDERS = ("checkpoints", "diffusion_models", "unet", "text_encoders", "clip", "vae", "loras", "vae_approx")


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port that nobody listens on.

    Raises:
        LauncherError: There is none.
    """
    try:
        with socket.socket() as probe:
            probe.bind((host, 0))
            return probe.getsockname()[1]
    except OSError as error:
        raise LauncherError(f"no free TCP port on {host} for the ComfyUI server: {error.strerror}") from error


def first_free_port(start: int, tries: int = 50, host: str = "127.0.0.1") -> int:
    """The first free port from `start` on.

    Raises:
        LauncherError: None of them is free.
    """
    end = min(start + tries, 65536)
    for port in range(start, end):
        with socket.socket() as probe:
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return port
    raise LauncherError(f"no free TCP port on {host} from {start} to {end - 1}: name another with --port")


def has_gpu() -> bool:
    """Whether ComfyUI would find a GPU; does not import torch, which takes seconds."""
    return sys.platform == "darwin" or Path("/dev/kfd").exists() or shutil.which("nvidia-smi") is not None


def prepare_base(base: Path, plugin: Path = ROOT, name: str = PLUGIN_NAME) -> None:
    """Make the folders of a ComfyUI base directory and put the plugin into its custom_nodes.

    Args:
        base: Base directory (`--base-directory`).
        plugin: The plugin's folder.
        name: Name under which the plugin appears there.
    """
    for folder in ("custom_nodes", "models", "input", "output", "temp", "user"):
        (base / folder).mkdir(parents=True, exist_ok=True)
    link = base / "custom_nodes" / name
    if link.is_symlink():
        link.unlink()
    elif link.exists():
        shutil.rmtree(link)
    try:
        link.symlink_to(plugin, target_is_directory=True)
    except OSError:  # Windows without developer mode
        ignored = shutil.ignore_patterns(".git", ".venv", ".cache", "output", "__pycache__", "tests")
        shutil.copytree(plugin, link, ignore=ignored)


def write_model_paths(base: Path, models: Path) -> Path:
    """Write a model path file that lets a server with our base directory see the user's models as well."""
    file = base / "model_paths.yaml"
    folders = [folder for folder in MODEL_FOLDERS if (models / folder).is_dir()]
    lines = ["user_models:", f"  base_path: {json.dumps(str(models))}", *(f"  {name}: {name}" for name in folders)]
    with replacing(file, LauncherError) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


class ComfyServer:
    """Context manager around one server.

    Attributes:
        url: Address of the running server.
        seconds_to_start: How long the start took [s].
    """

    def __init__(
        self,
        comfyui: ComfyUI,
        base: Path | None = None,
        port: int | None = None,
        cpu: bool | None = None,
        plugin: Path = ROOT,
        extra_arguments: Sequence[str] = (),
        start_timeout: float = START_TIMEOUT,
    ) -> None:
        """Describe the server; nothing is started before the `with` block.

        Args:
            comfyui: The ComfyUI to run.
            base: Base directory to keep; a temporary one, deleted at the end, by default.
            port: Port; a free one by default.
            cpu: Run on the CPU; by default if no GPU is found.
            plugin: Folder of the plugin to load.
            extra_arguments: More arguments for ComfyUI's main.py.
            start_timeout: Longest wait for the first answer [s].
        """
        self.comfyui = comfyui
        self.port = port
        self.cpu = not has_gpu() if cpu is None else cpu
        self.plugin = plugin
        self.extra_arguments = list(extra_arguments)
        self.start_timeout = start_timeout
        self.process: subprocess.Popen | None = None
        self.seconds_to_start = 0.0
        self._mark = f"sqlite:///:memory:?launcher={secrets.token_hex(8)}"
        self._given_base = base
        self._held = contextlib.ExitStack()
        self._temporary: tempfile.TemporaryDirectory | None = None

    @property
    def base(self) -> Path:
        """Base directory of the server."""
        return self._given_base if self._given_base is not None else Path(self._temporary.name)

    @property
    def url(self) -> str:
        """Address of the server."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log_file(self) -> Path:
        """Everything that the server printed."""
        return self.base / f"server-{self.port}.log"

    def log_tail(self, lines: int = 20) -> str:
        """The last lines of the log."""
        try:
            return "\n".join(self.log_file.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
        except OSError:
            return ""

    def __enter__(self) -> ComfyServer:
        """Start the server and wait until it answers.

        Raises:
            LauncherError: It ended, did not answer in time, or did not load the plugin; the text has the log's tail.
        """
        if self._given_base is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="visual-planner-", ignore_cleanup_errors=True)
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """End the server and everything it started; keep its log if something went wrong."""
        if kind is not None and issubclass(kind, Exception):
            self.keep_log()
        self.stop()

    def _start(self) -> None:
        prepare_base(self.base, self.plugin)
        if self.port is None:
            self.port = free_port()
        started = time.monotonic()
        self._hold_log()
        with self.log_file.open("wb") as log:
            self.process = subprocess.Popen(
                self._command(),
                cwd=self.base,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**clean_environment(), "PYTHONUNBUFFERED": "1", "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1"},
                **_own_group(),
            )
        self._wait_until_ready(started + self.start_timeout)
        self._check_plugin()
        self.seconds_to_start = time.monotonic() - started

    def _hold_log(self) -> None:
        """Lock the log: two servers started on one port at the same moment must not write to the same log."""
        try:
            self._held.enter_context(output_lock(self.log_file, f"server on port {self.port}"))
        except BusyError as error:
            raise LauncherError(f"port {self.port} must be free, but {error}") from error

    def _command(self) -> list[str]:
        command = [
            *(str(self.comfyui.python), str(self.comfyui.folder / "main.py")),
            *("--listen", "127.0.0.1", "--port", str(self.port), "--base-directory", str(self.base)),
            # If an option is given twice, ComfyUI takes the last; the first is a mark that `/system_stats` returns.
            *("--database-url", self._mark, "--database-url", "sqlite:///:memory:"),
            *("--disable-api-nodes", "--disable-auto-launch"),
        ]
        if self.cpu:
            command.append("--cpu")
        if not self.comfyui.bundled:
            models = write_model_paths(self.base, self.comfyui.folder / "models")
            command += ["--extra-model-paths-config", str(models)]
        command += self.extra_arguments
        if sys.platform == "linux":  # not even a killed launcher may leave a server behind
            command = [
                sys.executable,
                "-I",
                "-S",
                str(Path(__file__).with_name("guard.py")),
                str(os.getpid()),
                *command,
            ]
        return command

    def _is_ours(self, stats: object) -> bool:
        """Whether an answer of `/system_stats` comes from the process that was started here."""
        system = stats.get("system") if isinstance(stats, dict) else None
        arguments = system.get("argv") if isinstance(system, dict) else None
        return isinstance(arguments, list) and self._mark in arguments

    def _wait_until_ready(self, deadline: float) -> None:
        seen = False
        while True:
            try:
                stranger = not self._is_ours(ComfyClient(self.url, timeout=5).system_stats())
            except (urllib.error.HTTPError, http.client.HTTPException, ValueError):  # it answers, but is not ComfyUI
                stranger = True
            except OSError:  # not listening yet
                stranger = False
            else:
                if not stranger and self.process.poll() is None:
                    return
            seen = seen or stranger
            # Whoever answers has taken the port, which was free a moment ago; our server ends when it finds out.
            taken = f", since another program took port {self.port} meanwhile" if seen else ""
            if self.process.poll() is not None:
                raise LauncherError(self._failure(f"ended with code {self.process.returncode} while starting{taken}"))
            if time.monotonic() > deadline:
                raise LauncherError(self._failure(f"did not answer within {self.start_timeout:.0f} s{taken}"))
            time.sleep(0.1)

    def _check_plugin(self) -> None:
        """Fail if ComfyUI could not import the plugin, without which it would continue."""
        plugin = f"custom_nodes{os.sep}{PLUGIN_NAME}"
        for line in self.log_tail(5000).splitlines():
            if plugin in line and any(text in line for text in PLUGIN_FAILURES):
                raise LauncherError(self._failure(f"could not load the plugin: {line}"))

    def _failure(self, what: str) -> str:
        """What went wrong, with the end of the log, which is kept."""
        kept = self.keep_log()
        missing = _missing_module(self.log_tail(200))
        if missing and not self.comfyui.bundled:
            what += (
                f": its Python ({self.comfyui.python}) lacks the package {missing}; "
                "set COMFYUI_PYTHON to the Python that ComfyUI was installed with"
            )
        tail = "\n".join(f"  | {line}" for line in self.log_tail().splitlines())
        return f"the ComfyUI server {what} (log: {kept})\n{tail}"

    def keep_log(self) -> Path:
        """Copy the log out of a temporary base directory, so that it can be read afterwards."""
        if self._temporary is None:
            return self.log_file
        kept = CACHE / "logs" / "server.log"
        with contextlib.suppress(OSError):  # a full disk must not hide the original error
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.log_file, kept)
        return kept

    def stop(self) -> None:
        """End the server's whole process group and delete a temporary base directory. May be called twice."""
        process, self.process = self.process, None
        if process is not None:
            _end(process)
        self._held.close()
        if self._temporary is not None:
            self._temporary.cleanup()


def _missing_module(log: str) -> str | None:
    marker = "ModuleNotFoundError: No module named "
    lines = [line for line in log.splitlines() if line.startswith(marker)]
    return lines[-1].removeprefix(marker).strip().strip("'\"") if lines else None


def _own_group() -> dict:
    """Arguments for Popen: a separate group, so that Ctrl-C only reaches us and everything can be ended at once."""
    if os.name == "nt":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}


def _end(process: subprocess.Popen) -> None:
    if os.name == "nt":
        subprocess.run(["taskkill", "/F", "/T", "/PID", str(process.pid)], capture_output=True)
        process.wait()
        return
    _signal_group(process, signal.SIGTERM)
    try:
        process.wait(STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        pass
    finally:
        # Also after an orderly end: processes that the server started may still run.
        _signal_group(process, signal.SIGKILL)
        process.wait()


def _signal_group(process: subprocess.Popen, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)
