// The bars' buttons and fields: what they show, and what a change of theirs does.
import { pointTimes, timedCurve } from "./curves.js";
import { deletePath, movePoints, renamePath, reversePath, setInterpolation, setTime } from "./edits.js";
import { ACTIONS } from "./keys.js";
import { distanceBetween, measuredPair, rounded } from "./measure.js";
import { colorOf } from "./paint.js";
import { setOptions } from "./panel.js";
import { usualGrid } from "./snap.js";
import { frameAt, timeOfFrame } from "./times.js";

/** Show the session in the fields; `labels` are the frames of the selected path's points. */
export function showFields(editor, labels) {
  const { part, session, words } = editor;
  const { path, point, selection } = session;
  setOptions(part.path, session.doc.paths.map((other, index) => `${index + 1}: ${other.name}`), selection.path);
  setOptions(part.point, labels.map((_, index) => words("pointNumber", { point: index + 1 })), selection.point);
  part.swatch.style.background = path ? colorOf(selection.path) : "transparent";
  show(part.name, path?.name ?? "");
  show(part.x, point ? point.x : "");
  show(part.y, point ? point.y : "");
  show(part.frame, point ? Math.round(frameAt(pointTimes(path)[selection.point], editor.frames) * 100) / 100 : "");
  show(part.frames, editor.frames);
  show(part.colorBy, editor.colorBy);
  show(part.gridSize, editor.gridSize);
  showButtons(editor);
  part.text.setAttribute("aria-invalid", Boolean(editor.problem));
  part.note.textContent = part.text.hidden ? note(editor) : "";
  part.status.classList.toggle("vp-bad", Boolean(editor.problem));
  part.status.textContent = editor.problem ?? sentences(editor, labels).join("; ");
}

function showButtons({ part, session, snap, distances, selecting, settleTools }) {
  const { path, point } = session;
  for (const name of ["name", "interpolation", "deletePath", "reverse", "mirrorX", "mirrorY"]) part[name].disabled = !path;
  for (const name of ["x", "y", "frame", "hold", "deletePoint"]) part[name].disabled = !point;
  part.auto.disabled = !point || point.t === null;
  part.undo.disabled = !session.canUndo;
  part.redo.disabled = !session.canRedo;
  const pressed = { interpolation: path?.interpolation === "polyline", several: selecting, ...snap, distances };
  for (const [name, on] of Object.entries({ ...pressed, json: !part.text.hidden })) part[name].setAttribute("aria-pressed", Boolean(on));
  part.more.setAttribute("aria-expanded", !part.options.hidden);
  settleTools();
}

function note({ session: { path }, picture, words }) {
  if (!path || !path.points.length) return words("noteStart");
  if (path.points.length === 1) return words("noteNext");
  return picture ? "" : words("notePicture");
}

function sentences({ session, frames, remark, words }, labels) {
  const { doc, point, selection, group } = session;
  const said = [aboutPath(session, words)];
  if (point) said.push(words("statusPoint", { point: selection.point + 1, frame: labels[selection.point], x: point.x, y: point.y }));
  if (group.length > 1) said.push(words("statusGroup", { count: group.length }));
  const pair = measuredPair(session);
  if (pair) {
    const [from, to] = pair;
    const { straight, along, frames: apart } = distanceBetween(doc, from, to, frames);
    const values = { from: from.point + 1, to: to.point + 1, straight: rounded(straight), frames: rounded(apart) };
    said.push(along === null ? words("statusApart", values) : words("statusDistance", { ...values, along: rounded(along) }));
  }
  return remark ? [...said, remark] : said;
}

function aboutPath({ doc, path }, words) {
  const { width, height } = doc;
  if (!path) return words("statusEmpty", { width, height });
  const values = { name: path.name, count: path.points.length, width, height };
  if (path.points.length < 2) return words("statusPath", values);
  return words("statusLong", { ...values, length: Math.round(timedCurve(path).arc.at(-1)) });
}

/** Connect buttons and fields with the editor. */
export function connectFields(editor) {
  const { part, session } = editor;
  for (const [name, action] of Object.entries(ACTIONS)) part[name].addEventListener("click", () => action(editor));
  const onPath = (change) => () => {
    if (session.path) session.edit(change(session.doc, session.selection.path, session.path));
    editor.changed();
  };
  const onPoint = (change) => () => {
    if (session.point) session.editGroup(change(session.doc, session.selection, session.point));
    editor.changed();
  };
  const other = { spline: "polyline", polyline: "spline" };
  part.deletePath.addEventListener("click", onPath(deletePath));
  part.reverse.addEventListener("click", onPath(reversePath));
  part.interpolation.addEventListener("click", onPath((doc, index, path) => setInterpolation(doc, index, other[path.interpolation])));
  part.name.addEventListener("change", onPath((doc, index) => renamePath(doc, index, part.name.value)));
  part.x.addEventListener("change", onPoint((doc, _, { x }) => movePoints(doc, session.group, numberIn(part.x, x) - x, 0)));
  part.y.addEventListener("change", onPoint((doc, _, { y }) => movePoints(doc, session.group, 0, numberIn(part.y, y) - y)));
  part.frame.addEventListener("change", onPoint((doc, { path, point }) => setTime(doc, path, point, typedTime(editor))));
  part.path.addEventListener("change", () => (session.select(Number(part.path.value)), editor.render()));
  part.point.addEventListener("change", () => (session.select(session.selection.path, Number(part.point.value)), editor.render()));
  part.frames.addEventListener("change", () => editor.choose({ frames: Math.max(2, Math.round(numberIn(part.frames, editor.frames))) }));
  part.colorBy.addEventListener("change", () => editor.choose({ colorBy: part.colorBy.value }));
  part.gridSize.addEventListener("change", () => {
    const side = numberIn(part.gridSize, 0);
    editor.choose({ gridSize: side > 0 ? side : usualGrid(session.doc), grid: true });
  });
  part.more.addEventListener("click", () => {
    part.options.hidden = !part.options.hidden;
    editor.render();
  });
  part.json.addEventListener("click", () => {
    part.text.hidden = !part.text.hidden && !editor.problem;
    editor.render();
  });
  part.text.addEventListener("input", () => editor.typed(part.text.value));
  part.load.addEventListener("click", () => part.file.click());
  part.file.addEventListener("change", () => editor.take(part.file.files));
}

function typedTime({ part, frames }) {
  const frame = numberIn(part.frame, null);
  return frame === null ? null : Math.min(1, Math.max(0, timeOfFrame(frame, frames)));
}

function numberIn(input, otherwise) {
  return input.value.trim() === "" || Number.isNaN(Number(input.value)) ? otherwise : Number(input.value);
}

/** Never while the user is editing. */
function show(input, value) {
  if (document.activeElement !== input && input.value !== `${value}`) input.value = value;
}
