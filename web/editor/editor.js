// The trajectory editor: elements, session and view put together. Knows nothing of ComfyUI; see ../trajectory_editor.js.
import { pointTimes, timedCurve } from "./curves.js";
import { DocumentError, emptyDocument, parse, serialise } from "./document.js";
import { deletePath, movePoint, renamePath, resized, reversePath, setInterpolation, setTime } from "./edits.js";
import { ACTIONS, keepKey } from "./keys.js";
import { colorOf, paintStage } from "./paint.js";
import { buildPanel, setOptions } from "./panel.js";
import { Session } from "./session.js";
import { connectStage } from "./stage.js";
import { connectStrip, frameAt, frameLabel, paintStrip, timeOfFrame } from "./strip.js";
import { wordsOf } from "./texts.js";
import { View } from "./view.js";

const DEFAULT_FRAMES = 9;

export class TrajectoryEditor {
  /**
   * @param {object} host
   * @param {string | undefined} host.locale language of the texts, as ComfyUI calls it
   * @param {() => string} host.readText the stored trajectory
   * @param {(text: string) => void} host.writeText store it
   * @param {() => object} host.readOptions what the user chose to see: {frames, colorBy}
   * @param {(options: object) => void} host.writeOptions
   * @param {(file: Blob) => void} host.takePicture a picture was loaded, pasted or dropped
   * @param {(event: WheelEvent) => void} host.passWheel the wheel turns over the stage, which is not in use
   */
  constructor(host) {
    Object.assign(this, { host, picture: null, scrub: null, problem: null, remark: "" });
    this.words = wordsOf(host.locale);
    this.part = buildPanel(this.words);
    this.session = new Session(emptyDocument(640, 480));
    this.view = new View();
    this.spaceDown = false;
    connectStage(this);
    connectStrip(this);
    this.#connectBars();
    this.#connectRoot();
    new ResizeObserver(() => this.render()).observe(this.part.root);
  }

  get frames() {
    return this.host.readOptions().frames ?? DEFAULT_FRAMES;
  }

  get colorBy() {
    return this.host.readOptions().colorBy ?? "time";
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
    const { doc, selection } = session;
    const { view, picture, colorBy, scrub } = this;
    paintStage(contextOf(part.canvas), { doc, selection, view, picture, colorBy, scrub, labels, focused });
    paintStrip(contextOf(part.strip), [part.strip.clientWidth, part.strip.clientHeight], this);
    this.#showFields(labels);
  }

  #showFields(labels) {
    const { part, session } = this;
    const { path, point, selection } = session;
    setOptions(part.path, session.doc.paths.map((other, index) => `${index + 1}: ${other.name}`), selection.path);
    const pointText = (frame, index) => this.words("pointAtFrame", { point: index + 1, frame });
    setOptions(part.point, labels.map(pointText), selection.point);
    part.swatch.style.background = path ? colorOf(selection.path) : "transparent";
    show(part.name, path?.name ?? "");
    show(part.interpolation, path?.interpolation ?? "spline");
    show(part.x, point ? point.x : "");
    show(part.y, point ? point.y : "");
    show(part.frame, point ? Math.round(frameAt(pointTimes(path)[selection.point], this.frames) * 100) / 100 : "");
    show(part.frames, this.frames);
    show(part.colorBy, this.colorBy);
    for (const name of ["name", "interpolation", "deletePath", "reverse"]) part[name].disabled = !path;
    for (const name of ["x", "y", "frame", "hold", "deletePoint"]) part[name].disabled = !point;
    part.auto.disabled = !point || point.t === null;
    part.undo.disabled = !session.canUndo;
    part.redo.disabled = !session.canRedo;
    part.json.setAttribute("aria-pressed", !part.text.hidden);
    part.text.setAttribute("aria-invalid", Boolean(this.problem));
    part.note.textContent = part.text.hidden ? this.#note() : "";
    part.status.classList.toggle("vp-bad", Boolean(this.problem));
    part.status.textContent = this.problem ?? this.#sentences(labels).join("; ");
  }

  #note() {
    const { path } = this.session;
    if (!path || !path.points.length) return this.words("noteStart");
    if (path.points.length === 1) return this.words("noteNext");
    return this.picture ? "" : this.words("notePicture");
  }

  #sentences(labels) {
    const { path, point, selection } = this.session;
    const sentences = [this.#aboutPath(path)];
    if (point) {
      const values = { point: selection.point + 1, frame: labels[selection.point], x: point.x, y: point.y };
      sentences.push(this.words("statusPoint", values));
    }
    return this.remark ? [...sentences, this.remark] : sentences;
  }

  #aboutPath(path) {
    const { width, height } = this.session.doc;
    if (!path) return this.words("statusEmpty", { width, height });
    const values = { name: path.name, count: path.points.length, width, height };
    if (path.points.length < 2) return this.words("statusPath", values);
    return this.words("statusLong", { ...values, length: Math.round(timedCurve(path).arc.at(-1)) });
  }

  #connectBars() {
    const { part, session } = this;
    for (const [name, action] of Object.entries(ACTIONS)) part[name].addEventListener("click", () => action(this));
    const onPath = (change) => () => {
      if (session.path) session.edit(change(session.doc, session.selection.path));
      this.changed();
    };
    const onPoint = (change) => () => {
      if (session.point) session.edit(change(session.doc, session.selection.path, session.selection.point, session.point));
      this.changed();
    };
    part.deletePath.addEventListener("click", onPath(deletePath));
    part.reverse.addEventListener("click", onPath(reversePath));
    part.name.addEventListener("change", onPath((doc, index) => renamePath(doc, index, part.name.value)));
    part.interpolation.addEventListener("change", onPath((doc, index) => setInterpolation(doc, index, part.interpolation.value)));
    part.x.addEventListener("change", onPoint((doc, path, at, { x, y }) => movePoint(doc, path, at, numberIn(part.x, x), y)));
    part.y.addEventListener("change", onPoint((doc, path, at, { x, y }) => movePoint(doc, path, at, x, numberIn(part.y, y))));
    part.frame.addEventListener("change", onPoint((doc, path, at) => setTime(doc, path, at, this.#typedTime())));
    part.path.addEventListener("change", () => (session.select(Number(part.path.value)), this.render()));
    part.point.addEventListener("change", () => (session.select(session.selection.path, Number(part.point.value)), this.render()));
    part.frames.addEventListener("change", () => this.#choose({ frames: Math.max(2, Math.round(numberIn(part.frames, this.frames))) }));
    part.colorBy.addEventListener("change", () => this.#choose({ colorBy: part.colorBy.value }));
    part.json.addEventListener("click", () => {
      part.text.hidden = !part.text.hidden || Boolean(this.problem);
      if (this.problem) part.text.hidden = false;
      this.render();
    });
    part.text.addEventListener("input", () => this.#typed(part.text.value));
    part.load.addEventListener("click", () => part.file.click());
    part.file.addEventListener("change", () => this.#take(part.file.files));
  }

  #typedTime() {
    const frame = numberIn(this.part.frame, null);
    return frame === null ? null : Math.min(1, Math.max(0, timeOfFrame(frame, this.frames)));
  }

  #choose(options) {
    this.host.writeOptions({ ...this.host.readOptions(), ...options });
    this.render();
  }

  /** The text was edited by hand: it is stored as it is, good or bad. */
  #typed(text) {
    this.text = text;
    this.#read(text);
    this.host.writeText(text);
    this.render();
  }

  #take(files) {
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
      if (!this.#take(event.dataTransfer?.files)) return;
      event.preventDefault();
      event.stopPropagation();
    });
    keys.addEventListener("paste", (event) => {
      if (this.#take(event.clipboardData?.files)) event.preventDefault();
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

function numberIn(input, otherwise) {
  return input.value.trim() === "" || Number.isNaN(Number(input.value)) ? otherwise : Number(input.value);
}

/** Never while the user is editing. */
function show(input, value) {
  if (document.activeElement !== input && input.value !== `${value}`) input.value = value;
}
