// Pointers on the stage: what a press or a drag means for the session.
import { addPath, deletePoint, insertPoint, movePoints } from "./edits.js";
import { onKey } from "./keys.js";
import { guideLines, snapped } from "./snap.js";
import { lineAt, nextOf, placeOf, pointsAt, pointsIn } from "./view.js";

const REACH = { mouse: 9, pen: 12, touch: 20 }; // how far from its middle a point can be taken [px]
const SNAP = 6; // how near a guide draws a point to itself [px]
const STILL = 3; // a press that moves less is a click [px]

/**
 * Connect the stage.
 * @param {object} editor session, view, part (elements), frames, snap, gridSize, selecting, host (passWheel), what is
 *     shown of a gesture (hover, lines, box), and the methods changed, render
 */
export function connectStage(editor) {
  const gestures = new Gestures(editor);
  const { canvas, keys } = editor.part;
  canvas.addEventListener("pointerdown", (event) => gestures.down(event));
  canvas.addEventListener("pointermove", (event) => gestures.move(event));
  canvas.addEventListener("pointerup", (event) => gestures.up(event));
  canvas.addEventListener("pointercancel", (event) => gestures.abort(event));
  canvas.addEventListener("lostpointercapture", (event) => gestures.abort(event));
  canvas.addEventListener("pointerleave", () => gestures.hover(null));
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("wheel", (event) => onWheel(editor, event), { passive: false });
  keys.addEventListener("keydown", (event) => onKey(editor, event));
  keys.addEventListener("keyup", () => editor.session.dragging && !gestures.busy && editor.changed());
  for (const kind of ["focus", "blur"]) keys.addEventListener(kind, () => editor.render());
}

class Gestures {
  #pointers = new Map(); // pointers that are down, with their last places on the canvas
  #mode = null; // "point" | "pan" | "pinch" | "box"
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
    if (event.shiftKey || this.editor.selecting) return this.#pick(at, place, stack);
    const again = stack.some(({ path, point }) => path === session.selection.path && point === session.selection.point);
    const held = again ? session.selection : stack.find(({ path, point }) => session.holds(path, point));
    if (stack.length) {
      if (held) session.lead(held.path, held.point);
      else session.select(stack[0].path, stack[0].point);
      this.#take(at, place, { stack, again });
    } else if (place.x >= 0 && place.y >= 0 && place.x <= session.doc.width && place.y <= session.doc.height) {
      this.#add(place, event);
      this.#take(at, this.#snapped(place, event, session.group), { stack: [], again: false });
    } else {
      session.select(session.selection.path);
    }
  }

  /** Select a point besides the others, or begin a box. */
  #pick(at, place, stack) {
    const { editor } = this;
    const { session } = editor;
    if (!stack.length) {
      this.#mode = "box";
      this.#start = { at, group: session.group };
      editor.box = { from: at, to: at };
      return;
    }
    const { path, point } = stack.find((one) => session.holds(one.path, one.point)) ?? stack[0];
    const picked = session.holds(path, point) ? "before" : "now";
    if (picked === "now") session.toggle(path, point);
    session.lead(path, point);
    this.#take(at, place, { stack, again: false, picked });
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
    const { x, y } = this.#snapped(place, event, []);
    session.drag(insertPoint(session.doc, index, at, x, y));
    session.select(index, at);
  }

  /** A place drawn to guides and grid, if they are on; never while Alt is held. */
  #snapped(place, event, moved) {
    const { editor } = this;
    const { grid, guides } = editor.snap;
    if (event.altKey) return { ...place, lines: {} };
    return snapped(place, {
      guides: guides ? guideLines(editor.session.doc, moved) : null,
      reach: SNAP / editor.view.scale,
      grid: grid ? editor.gridSize : null,
    });
  }

  /** Hold the selected point, at the distance from its middle at which it was taken. */
  #take(at, place, details) {
    const { point, doc } = this.editor.session;
    this.#mode = "point";
    this.#start = { at, doc, point, offset: { x: point.x - place.x, y: point.y - place.y }, moved: false, ...details };
  }

  move(event) {
    const { editor } = this;
    const at = placeOf(event, editor.part.canvas);
    const before = this.#pointers.get(event.pointerId);
    if (!before) return this.hover(this.#stack(at, event)[0] ?? null);
    const others = [...this.#pointers].filter(([id]) => id !== event.pointerId).map(([, place]) => place);
    this.#pointers.set(event.pointerId, at);
    if (this.#mode === "pan") editor.view.pan(at.x - before.x, at.y - before.y);
    else if (this.#mode === "pinch" && others.length === 1) this.#pinch(before, at, others[0]);
    else if (this.#mode === "point") this.#drag(at, event);
    else if (this.#mode === "box") this.#stretch(at);
    editor.render();
  }

  /** The point under a pointer that is not down, or none. */
  hover(found) {
    const { editor } = this;
    if (found?.path === editor.hover?.path && found?.point === editor.hover?.point) return;
    editor.hover = found;
    editor.render();
  }

  #pinch(before, at, other) {
    const { view } = this.editor;
    const apart = (place) => Math.max(Math.hypot(place.x - other.x, place.y - other.y), 1);
    view.pan((at.x - before.x) / 2, (at.y - before.y) / 2);
    view.zoom(apart(at) / apart(before), (at.x + other.x) / 2, (at.y + other.y) / 2);
  }

  /** All selected points go with the held one. */
  #drag(at, event) {
    const { editor } = this;
    const { session, view } = editor;
    const start = this.#start;
    start.moved ||= Math.hypot(at.x - start.at.x, at.y - start.at.y) > STILL;
    if (!start.moved) return;
    const place = view.toFrame(at.x, at.y);
    const to = this.#snapped({ x: place.x + start.offset.x, y: place.y + start.offset.y }, event, session.group);
    session.drag(movePoints(start.doc, session.group, to.x - start.point.x, to.y - start.point.y));
    editor.lines = to.lines;
  }

  /** Select what lies in the box, besides what was selected. */
  #stretch(to) {
    const { session, view } = this.editor;
    const { at: from, group } = this.#start;
    this.editor.box = { from, to };
    const [a, b] = [view.toFrame(Math.min(from.x, to.x), Math.min(from.y, to.y)), view.toFrame(Math.max(from.x, to.x), Math.max(from.y, to.y))];
    const inside = pointsIn(session.doc, a, b).filter(({ path, point }) => !group.some((one) => one.path === path && one.point === point));
    session.selectGroup([...group, ...inside]);
  }

  up(event) {
    if (!this.#pointers.delete(event.pointerId)) return;
    const { editor } = this;
    const [mode, start] = [this.#mode, this.#start];
    if (this.#pointers.size) return; // the other finger of a pinch
    this.#end();
    if (mode === "point" && !start.moved) this.#click(start);
    editor.changed();
  }

  #click({ again, stack, picked }) {
    const { session } = this.editor;
    const { path, point } = again && stack.length > 1 ? nextOf(stack, session.selection) : session.selection;
    if (!picked) session.select(path, point); // of several, this one alone
    else if (picked === "before") session.toggle(path, point);
  }

  #end() {
    [this.#mode, this.#start] = [null, null];
    Object.assign(this.editor, { lines: {}, box: null });
  }

  abort(event) {
    if (!this.#pointers.delete(event.pointerId)) return;
    this.#end();
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
