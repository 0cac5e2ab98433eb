// Keys on the stage, and the actions that have a button as well.
import { addPath, deletePoints, holdPoint, insertPoint, mirrorPoints, movePoints, setTime } from "./edits.js";
import { pointTimes } from "./curves.js";

const ZOOM = 1.2;

/** Keep a key from the graph: Delete must not reach the node, Ctrl+Z not the graph. Run and save are ComfyUI's anywhere. */
export function keepKey(event) {
  const comfys = (event.ctrlKey || event.metaKey) && /^(Enter|s)$/i.test(event.key);
  if (!comfys) event.stopPropagation();
}

/** A key was pressed while the stage has the focus. */
export function onKey(editor, event) {
  const action = editor.session.dragging && event.key === "Escape" ? cancel : actionOf(event);
  keepKey(event);
  if (action && action(editor, event) !== false) event.preventDefault();
}

function actionOf(event) {
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (event.ctrlKey || event.metaKey) {
    if (key === "z") return event.shiftKey ? redo : undo;
    if (key === "a") return event.shiftKey ? selectEverything : selectPath;
    return key === "y" ? redo : null;
  }
  return KEYS[key] ?? null;
}

const cancel = (editor) => {
  editor.session.cancel();
  editor.render();
};
const undo = (editor) => {
  editor.session.undo();
  editor.changed();
};
const redo = (editor) => {
  editor.session.redo();
  editor.changed();
};

const nudge = (dx, dy) => (editor, event) => {
  const { session } = editor;
  if (!session.point) return false;
  if (event.altKey) return dx ? shiftTime(editor, dx * (event.shiftKey ? 1 : 0.25)) : false;
  const step = event.shiftKey ? 10 : 1;
  session.drag(movePoints(session.doc, session.group, dx * step, dy * step));
  editor.render();
};

function shiftTime(editor, frames) {
  const { session } = editor;
  const { path, point } = session.selection;
  const time = pointTimes(session.path)[point] + frames / (editor.frames - 1);
  session.drag(setTime(session.doc, path, point, Math.min(1, Math.max(0, time))));
  editor.render();
}

const pointsOf = ({ doc }, path) => doc.paths[path].points.map((_, point) => ({ path, point }));

const selectPath = (editor) => {
  const { session } = editor;
  if (session.path) session.selectGroup(pointsOf(session, session.selection.path));
  editor.render();
};

const selectEverything = (editor) => {
  const { session } = editor;
  session.selectGroup(session.doc.paths.flatMap((_, path) => pointsOf(session, path)));
  editor.render();
};

/** The next point of the path besides those that are selected. */
const extend = (editor, event) => {
  const { session } = editor;
  const { path, point } = session.selection;
  const next = point + (event.shiftKey ? -1 : 1);
  if (!session.path || next < 0 || next >= session.path.points.length) return;
  session.selectGroup([...session.group.filter((one) => one.path !== path || one.point !== next), { path, point: next }]);
  editor.render();
};

/** To the next point; at either end the key goes on to the next field of the page. */
const tab = (editor, event) => {
  const { path, point } = editor.session.selection;
  const next = point + (event.shiftKey ? -1 : 1);
  if (!editor.session.path || next < 0 || next >= editor.session.path.points.length) return false;
  editor.session.select(path, next);
  editor.render();
};

const otherPath = (step) => (editor) => {
  const count = editor.session.doc.paths.length;
  if (count) editor.session.select((editor.session.selection.path + step + count) % count);
  editor.render();
};

/** A point behind the selected one, half way to the next; without one, in the middle of the frame. */
const insert = (editor) => {
  const { session } = editor;
  const doc = session.path ? session.doc : addPath(session.doc);
  const index = Math.max(session.selection.path, 0);
  const { points } = doc.paths[index];
  const at = session.selection.point < 0 ? points.length - 1 : session.selection.point;
  const [here, next] = [points[at], points[at + 1]];
  let place = { x: doc.width / 2, y: doc.height / 2 };
  if (next) place = { x: (here.x + next.x) / 2, y: (here.y + next.y) / 2 };
  else if (here) place = { x: here.x + doc.width / 20, y: here.y + doc.height / 20 };
  session.edit(insertPoint(doc, index, at + 1, place.x, place.y), { path: index, point: at + 1 });
  editor.changed();
};

const onPoint = (change) => (editor) => {
  const { session } = editor;
  if (!session.point) return false;
  session.edit(change(session.doc, session.selection.path, session.selection.point));
  editor.changed();
};

/** Mirror what is selected, or the whole path where that is not more than a point. */
const mirror = (axis) => (editor, event) => {
  const { session } = editor;
  if (!session.path) return false;
  const group = session.group.length > 1 ? session.group : pointsOf(session, session.selection.path);
  session.editGroup(mirrorPoints(session.doc, group, axis ?? (event.shiftKey ? "y" : "x")));
  editor.changed();
};

const switchOption = (name) => (editor) => {
  const now = { ...editor.snap, distances: editor.distances };
  editor.choose({ [name]: !now[name] });
};

const zoom = (factor) => (editor) => {
  editor.view.zoom(factor, editor.view.canvas[0] / 2, editor.view.canvas[1] / 2);
  editor.render();
};

export const ACTIONS = {
  undo,
  redo,
  deletePoint: (editor) => {
    const { session } = editor;
    if (!session.point) return false;
    session.edit(deletePoints(session.doc, session.group));
    editor.changed();
  },
  hold: onPoint(holdPoint),
  auto: onPoint((doc, path, point) => setTime(doc, path, point, null)),
  addPath: (editor) => {
    const doc = addPath(editor.session.doc);
    editor.session.edit(doc, { path: doc.paths.length - 1, point: -1 });
    editor.changed();
  },
  several: (editor) => {
    editor.selecting = !editor.selecting;
    editor.render();
  },
  grid: switchOption("grid"),
  guides: switchOption("guides"),
  distances: switchOption("distances"),
  mirrorX: mirror("x"),
  mirrorY: mirror("y"),
  showAll: (editor) => {
    editor.view.showAll();
    editor.render();
  },
};

const KEYS = {
  ArrowLeft: nudge(-1, 0),
  ArrowRight: nudge(1, 0),
  ArrowUp: nudge(0, -1),
  ArrowDown: nudge(0, 1),
  Tab: tab,
  PageUp: otherPath(-1),
  PageDown: otherPath(1),
  Enter: insert,
  Insert: insert,
  Delete: ACTIONS.deletePoint,
  Backspace: ACTIONS.deletePoint,
  Escape: (editor) => {
    editor.session.select(editor.session.selection.path);
    editor.render();
  },
  h: ACTIONS.hold,
  a: ACTIONS.auto,
  n: ACTIONS.addPath,
  b: ACTIONS.several,
  g: ACTIONS.grid,
  u: ACTIONS.guides,
  d: ACTIONS.distances,
  e: extend,
  m: mirror(null),
  0: ACTIONS.showAll,
  "+": zoom(ZOOM),
  "-": zoom(1 / ZOOM),
};
