// Pointers on the stage: what a press or a drag means for the session.
import { addPath, deletePoint, insertPoint, movePoint } from "./edits.js";
import { onKey } from "./keys.js";
import { lineAt, nextOf, placeOf, pointsAt } from "./view.js";

const REACH = { mouse: 9, pen: 12, touch: 20 }; // how far from its middle a point can be taken [px]
const STILL = 3; // a press that moves less is a click [px]

/**
 * Connect the stage.
 * @param {object} editor session, view, part (elements), frames, host (passWheel), and the methods changed, render
 */
export function connectStage(editor) {
  const gestures = new Gestures(editor);
  const { canvas, keys } = editor.part;
  canvas.addEventListener("pointerdown", (event) => gestures.down(event));
  canvas.addEventListener("pointermove", (event) => gestures.move(event));
  canvas.addEventListener("pointerup", (event) => gestures.up(event));
  canvas.addEventListener("pointercancel", (event) => gestures.abort(event));
  canvas.addEventListener("lostpointercapture", (event) => gestures.abort(event));
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("wheel", (event) => onWheel(editor, event), { passive: false });
  keys.addEventListener("keydown", (event) => onKey(editor, event));
  keys.addEventListener("keyup", () => editor.session.dragging && !gestures.busy && editor.changed());
  for (const kind of ["focus", "blur"]) keys.addEventListener(kind, () => editor.render());
}

class Gestures {
  #pointers = new Map(); // pointers that are down, with their last places on the canvas
  #mode = null; // "point" | "pan" | "pinch"
  #start = null;

  constructor(editor) {
    this.editor = editor;
  }

  get busy() {
    return this.#mode !== null;
  }

  down(event) {
    const { editor } = this;
    const { canvas, keys } = editor.part;
    event.preventDefault();
    keys.focus({ preventScroll: true });
    canvas.setPointerCapture(event.pointerId);
    const at = placeOf(event, canvas);
    this.#pointers.set(event.pointerId, at);
    if (this.#pointers.size === 2) {
      editor.session.cancel();
      this.#mode = "pinch";
    } else if (this.#pointers.size === 1) {
      if (event.button === 1 || editor.spaceDown) this.#mode = "pan";
      else if (event.button === 2 || event.altKey) this.#remove(at, event);
      else if (event.button === 0) this.#press(at, event);
    }
    editor.render();
  }

  #reach(event) {
    return (REACH[event.pointerType] ?? REACH.mouse) / this.editor.view.scale;
  }

  #stack({ x, y }, event) {
    const place = this.editor.view.toFrame(x, y);
    return pointsAt(this.editor.session.doc, this.editor.session.selection.path, place.x, place.y, this.#reach(event));
  }

  #remove(at, event) {
    const { session } = this.editor;
    const stack = this.#stack(at, event);
    const target = stack.find(({ path, point }) => path === session.selection.path && point === session.selection.point) ?? stack[0];
    if (!target) return;
    session.edit(deletePoint(session.doc, target.path, target.point), target);
    this.editor.changed();
  }

  #press(at, event) {
    const { session, view } = this.editor;
    const place = view.toFrame(at.x, at.y);
    const stack = this.#stack(at, event);
    const again = stack.some(({ path, point }) => path === session.selection.path && point === session.selection.point);
    if (stack.length) {
      if (!again) session.select(stack[0].path, stack[0].point);
      this.#take(at, place, { stack, again });
    } else if (place.x >= 0 && place.y >= 0 && place.x <= session.doc.width && place.y <= session.doc.height) {
      this.#add(place, event);
      this.#take(at, place, { stack: [], again: false });
    } else {
      session.select(session.selection.path);
    }
  }

  #add(place, event) {
    const { session } = this.editor;
    session.begin();
    if (!session.path) {
      session.drag(addPath(session.doc));
      session.select(session.doc.paths.length - 1);
    }
    const index = session.selection.path;
    const line = lineAt(session.path, place.x, place.y, this.#reach(event) * 0.8);
    const at = line ? line.segment + 1 : session.path.points.length;
    session.drag(insertPoint(session.doc, index, at, place.x, place.y));
    session.select(index, at);
  }

  /** Hold the selected point, at the distance from its middle at which it was taken. */
  #take(at, place, details) {
    const { point } = this.editor.session;
    this.#mode = "point";
    this.#start = { at, offset: { x: point.x - place.x, y: point.y - place.y }, moved: false, ...details };
  }

  move(event) {
    const before = this.#pointers.get(event.pointerId);
    if (!before) return;
    const { editor } = this;
    const at = placeOf(event, editor.part.canvas);
    const others = [...this.#pointers].filter(([id]) => id !== event.pointerId).map(([, place]) => place);
    this.#pointers.set(event.pointerId, at);
    if (this.#mode === "pan") editor.view.pan(at.x - before.x, at.y - before.y);
    else if (this.#mode === "pinch" && others.length === 1) this.#pinch(before, at, others[0]);
    else if (this.#mode === "point") this.#drag(at);
    editor.render();
  }

  #pinch(before, at, other) {
    const { view } = this.editor;
    const apart = (place) => Math.max(Math.hypot(place.x - other.x, place.y - other.y), 1);
    view.pan((at.x - before.x) / 2, (at.y - before.y) / 2);
    view.zoom(apart(at) / apart(before), (at.x + other.x) / 2, (at.y + other.y) / 2);
  }

  #drag(at) {
    const { session, view } = this.editor;
    const start = this.#start;
    start.moved ||= Math.hypot(at.x - start.at.x, at.y - start.at.y) > STILL;
    if (!start.moved) return;
    const place = view.toFrame(at.x, at.y);
    const { path, point } = session.selection;
    session.drag(movePoint(session.doc, path, point, place.x + start.offset.x, place.y + start.offset.y));
  }

  up(event) {
    if (!this.#pointers.delete(event.pointerId)) return;
    const { editor } = this;
    const [mode, start] = [this.#mode, this.#start];
    if (this.#pointers.size) return; // the other finger of a pinch
    [this.#mode, this.#start] = [null, null];
    if (mode === "point" && !start.moved && start.again && start.stack.length > 1) {
      const next = nextOf(start.stack, editor.session.selection);
      editor.session.select(next.path, next.point);
    }
    editor.changed();
  }

  abort(event) {
    if (!this.#pointers.delete(event.pointerId)) return;
    [this.#mode, this.#start] = [null, null];
    this.editor.session.cancel();
    this.editor.render();
  }
}

function onWheel(editor, event) {
  if (document.activeElement !== editor.part.keys) return editor.host.passWheel(event);
  event.preventDefault();
  event.stopPropagation();
  const { x, y } = placeOf(event, editor.part.canvas);
  editor.view.zoom(Math.exp(-event.deltaY / 500), x, y);
  editor.render();
}
