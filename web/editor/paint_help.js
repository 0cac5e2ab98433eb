// Draws what helps while drawing: grid, guides, distances, the number of the point under the pointer, the box.
import { pointTimes } from "./curves.js";
import { distanceBetween, measuredPair, rounded } from "./measure.js";
import { HANDLE, paintLabel } from "./paint_parts.js";
import { frameLabel } from "./times.js";

const GUIDE = "#ff4fc3"; // found in few photographs and in none of the paths' colours
const CLOSEST_LINES = 5; // of the grid, else every second, fourth, ... is drawn [px]
const ROOM = 44; // a line shorter than this has no room for its distance [px]
const DASHES = [4, 3];

/** What lies below the handles. */
export function paintUnder(context, editor) {
  if (editor.snap.grid) paintGrid(context, editor);
  paintGuides(context, editor);
  if (editor.distances) paintDistances(context, editor);
}

/** What lies above them. */
export function paintOver(context, editor) {
  paintHover(context, editor);
  if (editor.box) paintBox(context, editor.box);
}

/** A line that is seen on dark and on light pictures. */
function line(context, from, to, color, dashes = []) {
  context.setLineDash(dashes);
  context.lineCap = "butt";
  for (const [style, width] of [["rgb(0 0 0 / 40%)", 3], [color, 1]]) {
    context.strokeStyle = style;
    context.lineWidth = width;
    context.beginPath();
    context.moveTo(from.x, from.y);
    context.lineTo(to.x, to.y);
    context.stroke();
  }
  context.setLineDash([]);
}

function paintGrid(context, { session: { doc }, view, gridSize }) {
  let step = gridSize;
  while (step * view.scale < CLOSEST_LINES) step *= 2;
  context.globalAlpha = 0.35;
  for (let x = step; x < doc.width; x += step) line(context, view.toCanvas(x, 0), view.toCanvas(x, doc.height), "#fff");
  for (let y = step; y < doc.height; y += step) line(context, view.toCanvas(0, y), view.toCanvas(doc.width, y), "#fff");
  context.globalAlpha = 1;
}

function paintGuides(context, { session: { doc }, view, lines }) {
  const { x, y } = lines;
  if (x !== undefined) line(context, view.toCanvas(x, 0), view.toCanvas(x, doc.height), GUIDE);
  if (y !== undefined) line(context, view.toCanvas(0, y), view.toCanvas(doc.width, y), GUIDE);
}

/** Between two selected points; else from the point under the pointer, or the selected one, to its neighbours. */
function paintDistances(context, { session, view, words, frames, hover }) {
  const { doc, group, selection } = session;
  if (group.length === 2) return paintDistance(context, { doc, view, words, frames }, ...measuredPair(session), true);
  const { path, point } = hover ?? selection;
  const count = doc.paths[path]?.points.length ?? 0;
  if (point < 0 || point >= count || group.length > 2) return;
  for (const from of [point - 1, point]) {
    if (from < 0 || from + 1 >= count) continue;
    paintDistance(context, { doc, view, words, frames }, { path, point: from }, { path, point: from + 1 }, false);
  }
}

function paintDistance(context, { doc, view, words, frames }, from, to, dashed) {
  const [a, b] = [from, to].map(({ path, point }) => doc.paths[path].points[point]).map(({ x, y }) => view.toCanvas(x, y));
  if (dashed) line(context, a, b, "#fff", DASHES);
  if (Math.hypot(b.x - a.x, b.y - a.y) < ROOM) return;
  const { straight, frames: apart } = distanceBetween(doc, from, to, frames);
  const text = words("distance", { pixels: rounded(straight), frames: rounded(apart) });
  paintLabel(context, text, inside(context, text, { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 }, view), false);
}

function paintHover(context, { session: { doc }, view, words, frames, hover }) {
  const path = doc.paths[hover?.path];
  const point = path?.points[hover.point];
  if (!point) return;
  const told = words("pointAtFrame", { point: hover.point + 1, frame: frameLabel(pointTimes(path)[hover.point], frames) });
  const text = doc.paths.length > 1 ? `${path.name}: ${told}` : told;
  const { x, y } = view.toCanvas(point.x, point.y);
  paintLabel(context, text, inside(context, text, { x, y: y + 24 }, view), true);
}

/** Where a label has to stand to be seen as a whole. */
function inside(context, text, { x, y }, view) {
  context.font = "bold 11px sans-serif";
  const most = view.canvas[0] - context.measureText(text).width - HANDLE - 8;
  return { x: Math.max(-HANDLE, Math.min(x, most)), y: Math.min(Math.max(y, 18), view.canvas[1]) };
}

function paintBox(context, { from, to }) {
  const corners = [from, { x: to.x, y: from.y }, to, { x: from.x, y: to.y }];
  corners.forEach((corner, index) => line(context, corner, corners[(index + 1) % 4], "#fff", DASHES));
}
