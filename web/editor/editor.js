// The trajectory editor: elements, session and view put together. Knows nothing of ComfyUI; see ../trajectory_editor.js.
import { pointTimes } from "./curves.js";
import { DocumentError, emptyDocument, parse, serialise } from "./document.js";
import { resized } from "./edits.js";
import { connectFields, showFields } from "./fields.js";
import { keepKey } from "./keys.js";
import { paintStage } from "./paint.js";
import { buildPanel } from "./panel.js";
import { Session } from "./session.js";
import { usualGrid } from "./snap.js";
import { connectStage } from "./stage.js";
import { connectStrip, paintStrip } from "./strip.js";
import { inkOf } from "./style.js";
import { wordsOf } from "./texts.js";
import { frameLabel } from "./times.js";
import { connectToolbar } from "./toolbar.js";
import { View } from "./view.js";

const DEFAULT_FRAMES = 9;

export class TrajectoryEditor {
  /**
   * @param {object} host
   * @param {string | undefined} host.locale language of the texts, as ComfyUI calls it
   * @param {() => string} host.readText the stored trajectory
   * @param {(text: string) => void} host.writeText store it
   * @param {() => object} host.readOptions what the user chose: {frames, colorBy, grid, gridSize, guides,
   *     distances}
   * @param {(options: object) => void} host.writeOptions
   * @param {(file: Blob) => void} host.takePicture a picture was loaded, pasted or dropped
   * @param {(event: WheelEvent) => void} host.passWheel the wheel turns over the stage, which is not in use
   */
  constructor(host) {
    Object.assign(this, { host, picture: null, scrub: null, problem: null, remark: "" });
    // On the stage: the point under the pointer, the guides that a dragged point lies on, and the box that is drawn.
    Object.assign(this, { hover: null, lines: {}, box: null, selecting: false });
    this.words = wordsOf(host.locale);
    this.part = buildPanel(this.words);
    this.session = new Session(emptyDocument(640, 480));
    this.view = new View();
    this.spaceDown = false;
    connectStage(this);
    connectStrip(this);
    connectFields(this);
    this.settleTools = connectToolbar(this.part.tools);
    this.#connectRoot();
    new ResizeObserver(() => this.render()).observe(this.part.root);
  }

  get frames() {
    return this.host.readOptions().frames ?? DEFAULT_FRAMES;
  }

  get colorBy() {
    return this.host.readOptions().colorBy ?? "time";
  }

  /** What dragged points are drawn to. */
  get snap() {
    const { grid = false, guides = false } = this.host.readOptions();
    return { grid, guides };
  }

  /** Side of the grid's cells [px]. */
  get gridSize() {
    return this.host.readOptions().gridSize ?? usualGrid(this.session.doc);
  }

  get distances() {
    return this.host.readOptions().distances ?? true;
  }

  /** Take over the stored text if it is not what is drawn here. */
  load() {
    const text = this.host.readText();
    if (text === this.text) return;
    this.text = text;
    this.#read(text);
    this.part.text.value = text;
    if (this.problem) this.part.text.hidden = false;
    this.render();
  }

  #read(text) {
    [this.problem, this.remark] = [null, ""];
    try {
      this.#begin(parse(text, this.#pictureSize()));
      this.#fitToPicture();
    } catch (error) {
      if (!(error instanceof DocumentError)) throw error;
      this.problem = this.words(error.key, error.values);
    }
  }

  /** Show a picture behind the drawing; null: none. */
  setPicture(picture) {
    this.picture = picture;
    if (this.problem) this.#read(this.text); // a list of points may have waited for the frame's size
    else this.#fitToPicture();
    this.render();
  }

  #pictureSize() {
    return this.picture && { width: this.picture.naturalWidth, height: this.picture.naturalHeight };
  }

  /** Python scales a trajectory to the first frame; the preview does so, too. Stored only with the next edit. */
  #fitToPicture() {
    const size = this.#pictureSize();
    if (!size) return;
    const { selection } = this.session;
    const doc = resized(this.session.doc, size.width, size.height);
    if (doc === this.session.doc) return;
    if (this.session.canUndo) return void (this.session.edit(doc), this.changed());
    this.#begin(doc);
    this.session.select(selection.path, selection.point);
  }

  /** A document that came from outside: nothing is written before something has been changed here. */
  #begin(doc) {
    this.session.replace(doc);
    this.stored = doc;
  }

  /** Say one of the editor's texts below the drawing until the next trajectory is taken over. */
  say(key, values) {
    this.remark = this.words(key, values);
    this.render();
  }

  /** After a step: store it. */
  changed() {
    this.session.commit();
    if (!this.problem && this.stored !== this.session.doc) {
      this.text = serialise(this.session.doc);
      this.stored = this.session.doc;
      this.part.text.value = this.text;
      this.host.writeText(this.text);
    }
    this.render();
  }

  render() {
    this.drawing ??= requestAnimationFrame(() => {
      this.drawing = null;
      this.#draw();
    });
  }

  #draw() {
    const { part, session } = this;
    if (!part.root.isConnected || !part.canvas.clientWidth) return;
    const focused = document.activeElement === part.keys;
    part.stage.classList.toggle("vp-focused", focused);
    this.view.resize([session.doc.width, session.doc.height], [part.canvas.clientWidth, part.canvas.clientHeight]);
    const labels = session.path ? pointTimes(session.path).map((time) => frameLabel(time, this.frames)) : [];
    this.ink = inkOf(part.strip);
    paintStage(contextOf(part.canvas), this, labels, focused);
    paintStrip(contextOf(part.strip), [part.strip.clientWidth, part.strip.clientHeight], this);
    showFields(this, labels);
  }

  /** Draw again if ComfyUI's colour palette has changed. */
  takeColors() {
    const { part, ink } = this;
    if (!ink || !part.root.isConnected) return;
    const now = inkOf(part.strip);
    if (now.ink !== ink.ink || now.field !== ink.field) this.render();
  }

  /** Remember what the user chose to see. */
  choose(options) {
    this.host.writeOptions({ ...this.host.readOptions(), ...options });
    this.render();
  }

  /** The text was edited by hand: it is stored as it is, good or bad. */
  typed(text) {
    this.text = text;
    this.#read(text);
    this.host.writeText(text);
    this.render();
  }

  /** Take the first picture among files; whether there is one. */
  take(files) {
    const picture = [...(files ?? [])].find((file) => file.type.startsWith("image/"));
    if (picture) this.host.takePicture(picture);
    return Boolean(picture);
  }

  #connectRoot() {
    const { root, keys } = this.part;
    // What happens here is none of the graph's business: it would drag the node or delete it.
    for (const kind of ["pointerdown", "pointermove", "pointerup", "dblclick", "contextmenu"]) {
      root.addEventListener(kind, (event) => event.stopPropagation());
    }
    root.addEventListener("keydown", keepKey);
    keys.addEventListener("keydown", (event) => (this.spaceDown ||= event.key === " "));
    for (const kind of ["keyup", "blur"]) keys.addEventListener(kind, () => (this.spaceDown = false));
    root.addEventListener("dragover", (event) => event.preventDefault());
    root.addEventListener("drop", (event) => {
      if (!this.take(event.dataTransfer?.files)) return;
      event.preventDefault();
      event.stopPropagation();
    });
    keys.addEventListener("paste", (event) => {
      if (this.take(event.clipboardData?.files)) event.preventDefault();
      event.stopPropagation();
    });
  }
}

/** Drawing context in the element's own pixels, sharp at any zoom of the graph. */
function contextOf(canvas) {
  const { clientWidth: width, clientHeight: height } = canvas;
  const shown = canvas.getBoundingClientRect().width / width || 1;
  const ratio = Math.min(3, Math.max(1, shown * (globalThis.devicePixelRatio ?? 1)));
  const size = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== size[0] || canvas.height !== size[1]) [canvas.width, canvas.height] = size;
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  return context;
}
