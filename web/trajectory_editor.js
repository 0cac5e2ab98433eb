// Puts the trajectory editor into the node Trajectory. All that is stored is the text of its widget; what the user
// chose to see (number of frames, colours, a picture of his own) is in the node's properties.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { TrajectoryEditor } from "./editor/editor.js";
import { inputFile, loadPicture, upstreamPicture } from "./editor/first_frame.js";

const NODE = "VisualPlannerTrajectory";
const TEXT = "trajectory_json";
const PICTURE = "first_frame";
const WIDGET = "trajectory_editor";
const OPTIONS = "visual_planner_editor";
const MIN_HEIGHT = 340; // [px]
const NEW_SIZE = [480, 640]; // of a node that is added, not loaded [px]
const WATCH_MS = 400;
const FOLDER = "visual_planner"; // of pictures that were dropped, in ComfyUI's input folder

const addressOf = (file) => api.apiURL(`/view?${new URLSearchParams(file)}`);

class EditorOnNode {
  constructor(node) {
    this.node = node;
    this.ranWith = null; // address of the first frame of the last run
    this.ranText = null; // the text that the last run was given
    this.shown = null;
    this.editor = new TrajectoryEditor(this);
    hide(this.textWidget);
    const widget = node.addDOMWidget(WIDGET, "VISUAL_PLANNER_EDITOR", this.editor.part.root, {
      serialize: false,
      hideOnZoom: false,
      getMinHeight: () => MIN_HEIGHT,
      getValue: () => "",
      setValue: () => {},
    });
    widget.serialize = false; // never part of a saved workflow
    this.watch = setInterval(() => this.refresh(), WATCH_MS);
    this.refresh();
  }

  /** When it changes, ComfyUI reloads the workflow, and with it this editor. */
  get locale() {
    return app.extensionManager?.setting?.get("Comfy.Locale");
  }

  get textWidget() {
    return this.node.widgets.find(({ name }) => name === TEXT);
  }

  /** Whether the text comes from another node: then only a run can tell what it is. */
  get textIsLinked() {
    return this.node.inputs?.find(({ name }) => name === TEXT)?.link != null;
  }

  readText() {
    return this.textIsLinked && this.ranText !== null ? this.ranText : `${this.textWidget.value ?? ""}`;
  }

  writeText(text) {
    if (this.textIsLinked) return this.keepLinkedText();
    this.textWidget.value = text;
    this.remember();
  }

  /** What is drawn over a linked text would be lost at the next run: show that text again, and say why. */
  keepLinkedText() {
    this.editor.load();
    this.editor.say("linkedText");
  }

  readOptions() {
    return this.node.properties[OPTIONS] ?? {};
  }

  writeOptions(options) {
    this.node.properties[OPTIONS] = options;
    this.remember();
  }

  /** One step of the graph's own undo, which otherwise looks for changes after clicks and keys that it sees itself. */
  remember() {
    this.node.graph?.change?.();
    this.node.setDirtyCanvas?.(true, true);
    const tracker = app.extensionManager?.workflow?.activeWorkflow?.changeTracker;
    const look = tracker?.captureCanvasState ?? tracker?.checkState; // the newer frontends' name, and the older ones'
    look?.call(tracker);
  }

  passWheel(event) {
    app.canvas?.processMouseWheel?.(event);
  }

  /** Whoever set the text or exchanged the picture (undo, loading, another widget): show it. */
  refresh() {
    if (!this.node.graph || !this.textWidget) return;
    this.takePlace();
    this.editor.load();
    this.editor.takeColors();
    const address = this.pictureAddress();
    if (address !== this.shown) this.show(address);
  }

  /** Nodes 2.0 goes on showing the editor of a node that is gone, where another graph's node with its number follows it. */
  takePlace() {
    const { root } = this.editor.part;
    if (root.isConnected || app.canvas?.graph !== this.node.graph) return;
    const stale = document.querySelector(`[data-node-id="${this.node.id}"] .vp-editor`);
    if (!stale) return;
    root.className = stale.className; // Nodes 2.0 lays it out by a class of its own
    stale.replaceWith(root);
  }

  pictureAddress() {
    const upstream = upstreamPicture(this.node, PICTURE, addressOf);
    const linked = this.node.inputs?.find(({ name }) => name === PICTURE)?.link != null;
    const own = this.readOptions().picture;
    return upstream ?? (linked ? this.ranWith : null) ?? (own ? addressOf(inputFile(own)) : null);
  }

  async show(address) {
    this.shown = address;
    const picture = address && (await loadPicture(address).catch(() => null));
    if (this.shown === address) this.editor.setPicture(picture);
  }

  /** A picture that was dropped goes to ComfyUI's input folder, so that it is there after a reload. */
  async takePicture(file) {
    const body = new FormData();
    body.append("image", file, file.name || "first_frame.png");
    body.append("subfolder", FOLDER);
    const answer = await api.fetchApi("/upload/image", { method: "POST", body });
    if (answer.status !== 200) return this.editor.say("pictureNotStored", { answer: `${answer.status} ${answer.statusText}` });
    const { name, subfolder } = await answer.json();
    this.writeOptions({ ...this.readOptions(), picture: subfolder ? `${subfolder}/${name}` : name });
    this.refresh();
  }

  executed(output) {
    const [frame] = output?.first_frame ?? [];
    this.ranWith = frame ? addressOf(frame) : null;
    this.ranText = output?.trajectory_json?.[0] ?? null;
    this.refresh();
  }

  remove() {
    clearInterval(this.watch);
  }
}

/** The stored text has a view of its own in the editor. */
function hide(widget) {
  widget.hidden = true;
  widget.options.hidden = true; // Nodes 2.0
  widget.computeSize = () => [0, -4]; // undoes the space between widgets
  widget.computeLayoutSize = undefined;
  if (widget.element) widget.element.hidden = true;
}

/** ComfyUI moves and zooms the graph by two fingers, wherever they are: fingers on an editor are the editor's alone. */
function keepFingers() {
  for (const kind of ["touchstart", "touchmove", "touchend", "touchcancel"]) {
    const keep = (event) => event.target.closest?.(".vp-editor") && event.stopPropagation();
    window.addEventListener(kind, keep, { capture: true, passive: true }); // before ComfyUI's, which captures, too
  }
}

app.registerExtension({
  name: "visualplanner.TrajectoryEditor",
  setup: keepFingers,
  beforeRegisterNodeDef(nodeType, nodeData) {
    if (nodeData.name !== NODE) return;
    const { onNodeCreated, onExecuted, onRemoved } = nodeType.prototype;
    nodeType.prototype.onNodeCreated = function (...args) {
      const result = onNodeCreated?.apply(this, args);
      this.visualPlanner = new EditorOnNode(this);
      this.setSize(NEW_SIZE.map((side, axis) => Math.max(side, this.size[axis])));
      return result;
    };
    nodeType.prototype.onExecuted = function (output) {
      onExecuted?.apply(this, arguments);
      this.visualPlanner?.executed(output);
    };
    nodeType.prototype.onRemoved = function (...args) {
      this.visualPlanner?.remove();
      return onRemoved?.apply(this, args);
    };
  },
});
