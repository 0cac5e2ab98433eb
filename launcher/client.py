"""Client of a ComfyUI server: HTTP for requests and files, a WebSocket for events during a run."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import websocket

from .errors import LauncherError
from .paths import PLUGIN_NAME

JsonObject = dict[str, Any]

# The server is on this machine: a proxy named in the environment must not be used.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class PromptError(LauncherError):
    """The server refused a prompt or a node failed."""


class PromptCancelled(LauncherError):
    """The run was interrupted."""


@dataclass(frozen=True)
class OutputFile:
    """A file that a node has written, as the server names it."""

    filename: str
    subfolder: str
    type: str


@dataclass
class Run:
    """Result of one prompt.

    Attributes:
        prompt_id: The server's id.
        outputs: Node id -> what the node shows (`images`, `text`, ...).
        node_seconds: Node id -> how long it ran [s]; nodes whose result was cached are absent.
        seconds: Whole run, from queueing to the last node [s].
    """

    prompt_id: str
    outputs: dict[str, JsonObject] = field(default_factory=dict)
    node_seconds: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0

    def files(self, node_id: str) -> list[OutputFile]:
        """Files of one output node, in order."""
        found = []
        for entries in self.outputs.get(node_id, {}).values():
            if not isinstance(entries, (list, tuple)):
                continue
            for entry in entries:
                if isinstance(entry, dict) and "filename" in entry:
                    found.append(OutputFile(entry["filename"], entry.get("subfolder", ""), entry.get("type", "output")))
        return found


class ComfyClient:
    """One client of one server."""

    def __init__(self, url: str, timeout: float = 60.0) -> None:
        """Remember the address; nothing is sent yet.

        Args:
            url: Address of the server, e.g. `http://127.0.0.1:8188`.
            timeout: Longest wait for an answer to one request [s].
        """
        self.url = url.rstrip("/")
        self.timeout = timeout
        self.client_id = uuid.uuid4().hex

    def get(self, path: str) -> Any:
        """GET; returns the answer's JSON."""
        return json.loads(self._request(path))

    def post(self, path: str, body: Any) -> Any:
        """POST JSON; returns the answer's JSON (None if it is empty)."""
        answer = self._request(path, json.dumps(body).encode(), "application/json")
        return json.loads(answer) if answer.strip() else None

    def object_info(self) -> JsonObject:
        """Every node type that the server has, with its inputs."""
        return self.get("/object_info")

    def system_stats(self) -> JsonObject:
        """Versions and devices of the server."""
        return self.get("/system_stats")

    def upload_image(self, data: bytes, filename: str) -> str:
        """Put a picture into the server's input folder; returns the name that LoadImage takes."""
        boundary = uuid.uuid4().hex
        parts = [
            f'--{boundary}\r\nContent-Disposition: form-data; name="overwrite"\r\n\r\ntrue\r\n'.encode(),
            f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{filename}"\r\n'
            f"Content-Type: application/octet-stream\r\n\r\n".encode(),
            data,
            f"\r\n--{boundary}--\r\n".encode(),
        ]
        answer = json.loads(
            self._request("/upload/image", b"".join(parts), f"multipart/form-data; boundary={boundary}")
        )
        return f"{answer['subfolder']}/{answer['name']}" if answer.get("subfolder") else answer["name"]

    def download(self, file: OutputFile) -> bytes:
        """The bytes of an output file."""
        query = urllib.parse.urlencode({"filename": file.filename, "subfolder": file.subfolder, "type": file.type})
        return self._request(f"/view?{query}")

    def interrupt(self) -> None:
        """Cancel the running prompt."""
        self.post("/interrupt", {})

    def queue(self, prompt: JsonObject, workflow: JsonObject | None = None) -> str:
        """Queue an API prompt and return its id.

        Args:
            prompt: Node id -> class_type and inputs.
            workflow: The workflow file that it was made from; ComfyUI writes it into saved pictures and videos.

        Raises:
            PromptError: The server refused it; the line names the node and the input.
        """
        body: JsonObject = {"prompt": prompt, "client_id": self.client_id}
        if workflow is not None:
            body["extra_data"] = {"extra_pnginfo": {"workflow": workflow}}
        try:
            return self.post("/prompt", body)["prompt_id"]
        except urllib.error.HTTPError as error:
            raise PromptError(explain_refusal(error.read(), prompt)) from error

    def run(
        self,
        prompt: JsonObject,
        workflow: JsonObject | None = None,
        on_event: Callable[[str, JsonObject], None] | None = None,
        timeout: float = 3600.0,
    ) -> Run:
        """Queue a prompt, follow it to its end and return its outputs.

        Args:
            prompt: Node id -> class_type and inputs.
            workflow: See `queue`.
            on_event: Called with the type and the data of each message about this prompt.
            timeout: Longest time without any message [s].

        Raises:
            PromptError: Refused, a node failed, or the server went away.
            PromptCancelled: Interrupted.
        """
        address = f"ws{self.url.removeprefix('http')}/ws?clientId={self.client_id}"
        try:
            connection = websocket.create_connection(address, timeout=timeout)
        except (OSError, websocket.WebSocketException) as error:
            raise PromptError(f"the ComfyUI server at {self.url} does not answer: {error}") from error
        try:
            run = Run(self.queue(prompt, workflow))
            follower = _Follower(run, prompt)
            while not follower.finished:
                message = connection.recv()
                if not isinstance(message, str):  # binary messages are preview pictures
                    continue
                event = json.loads(message) if message else {"type": "closed"}
                if event["type"] == "closed":
                    raise PromptError("the ComfyUI server closed the connection")
                data = event.get("data") or {}
                if data.get("prompt_id", run.prompt_id) == run.prompt_id:
                    follower.handle(event["type"], data)
                    if on_event is not None:
                        on_event(event["type"], data)
        except (OSError, websocket.WebSocketException) as error:
            raise PromptError(f"the connection to the ComfyUI server broke: {error or type(error).__name__}") from error
        finally:
            connection.close()
        run.outputs = self._outputs(run)
        return run

    def _outputs(self, run: Run, wait: float = 5.0) -> dict[str, JsonObject]:
        """Outputs from the history, cached nodes included; it is written shortly after the success message."""
        deadline = time.monotonic() + wait
        while time.monotonic() < deadline:
            if entry := self.get(f"/history/{run.prompt_id}").get(run.prompt_id):
                return entry["outputs"]
            time.sleep(0.02)
        return run.outputs

    def _request(self, path: str, body: bytes | None = None, content_type: str | None = None) -> bytes:
        headers = {"Content-Type": content_type} if content_type else {}
        request = urllib.request.Request(self.url + path, data=body, headers=headers)
        with _OPENER.open(request, timeout=self.timeout) as answer:
            return answer.read()


class _Follower:
    """Tracks a run: which node is running and since when, and whether the run is over."""

    def __init__(self, run: Run, prompt: JsonObject) -> None:
        self.run = run
        self.prompt = prompt
        self.finished = False
        self._started = time.monotonic()
        self._node: str | None = None
        self._node_started = self._started

    def handle(self, kind: str, data: JsonObject) -> None:
        if kind == "executing":
            self._switch(data.get("node"))
        elif kind == "executed":
            self.run.outputs[data["node"]] = data.get("output") or {}
        elif kind == "execution_success":
            self._switch(None)
            self.finished = True
            self.run.seconds = time.monotonic() - self._started
        elif kind == "execution_error":
            raise PromptError(explain_failure(data, self.prompt))
        elif kind == "execution_interrupted":
            raise PromptCancelled("the run was cancelled")

    def _switch(self, node: str | None) -> None:
        now = time.monotonic()
        if self._node is not None:
            self.run.node_seconds[self._node] = self.run.node_seconds.get(self._node, 0.0) + now - self._node_started
        self._node, self._node_started = node, now


def node_title(prompt: JsonObject, node_id: str) -> str:
    """Name of a node in messages: its title, or else its type."""
    node = prompt.get(str(node_id), {})
    return node.get("_meta", {}).get("title") or node.get("class_type") or f"node {node_id}"


def explain_failure(data: JsonObject, prompt: JsonObject) -> str:
    """One line for an `execution_error` message."""
    message = str(data.get("exception_message", "")).strip().splitlines() or ["no message"]
    kind = str(data.get("exception_type", "")).rpartition(".")[2]
    # The plugin's own errors are written for the user; others need their type to be understood.
    own = f"{PLUGIN_NAME}." in str(data.get("exception_type", ""))
    prefix = "" if own else f"{kind}: "
    return f"{node_title(prompt, data.get('node_id', ''))}: {prefix}{message[0]}"


def explain_refusal(body: bytes, prompt: JsonObject) -> str:
    """One line for the answer with which the server refuses a prompt."""
    try:
        answer = json.loads(body)
    except ValueError:
        return f"the ComfyUI server refused the workflow: {body[:200].decode(errors='replace')}"
    for node_id, problem in (answer.get("node_errors") or {}).items():
        for error in problem.get("errors", []):
            details = error.get("details") or error.get("message")
            return f"{node_title(prompt, node_id)}: {error.get('message')}: {details}"
    error = answer.get("error") or {}
    text = error if isinstance(error, str) else f"{error.get('message')} {error.get('details') or ''}".strip()
    return f"the ComfyUI server refused the workflow: {text}"
