// Edits: pure functions from a document to a new one. Every result keeps the rules of times that Python checks, so
// that what can be drawn can be run. An edit that changes nothing returns the same document.
import { pointTimes } from "./curves.js";
import { freeze } from "./document.js";

const SMALLEST_STEP = 0.001; // of time, between neighbouring points

const cents = (value) => Math.round(value * 100) / 100;
const moment = (value) => Math.round(value * 1e4) / 1e4;
const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

/** A place inside the frame, to a hundredth of a pixel. */
function place(doc, x, y) {
  return { x: cents(clamp(x, 0, doc.width)), y: cents(clamp(y, 0, doc.height)) };
}

function withPath(doc, index, changes) {
  return freeze({ ...doc, paths: doc.paths.map((path, at) => (at === index ? { ...path, ...changes } : path)) });
}

function withPoints(doc, index, points) {
  return withPath(doc, index, { points: settleTimes(points) });
}

/** Free the times that no longer increase or leave no time for points around them. */
function settleTimes(points) {
  const settled = points.map((point) => ({ ...point }));
  let last = -1;
  settled.forEach((point, index) => {
    if (point.t === null) return;
    if (point.t <= last || (index > 0 && last < 0 && point.t === 0)) point.t = null;
    else last = point.t;
  });
  const end = settled.findLastIndex((point) => point.t !== null);
  if (end >= 0 && end < settled.length - 1 && settled[end].t === 1) settled[end].t = null;
  return settled;
}

/** A new path without points, at the end. */
export function addPath(doc, name = null, interpolation = "spline") {
  const taken = new Set(doc.paths.map((path) => path.name));
  let number = doc.paths.length + 1;
  while (taken.has(`path ${number}`)) number++;
  const chosen = name ?? (taken.has("gripper") ? `path ${number}` : "gripper");
  return freeze({ ...doc, paths: [...doc.paths, { name: chosen, interpolation, points: [] }] });
}

export function deletePath(doc, index) {
  return freeze({ ...doc, paths: doc.paths.filter((_, at) => at !== index) });
}

export function renamePath(doc, index, name) {
  return name === doc.paths[index].name ? doc : withPath(doc, index, { name });
}

export function setInterpolation(doc, index, interpolation) {
  return interpolation === doc.paths[index].interpolation ? doc : withPath(doc, index, { interpolation });
}

/** The same way backwards: what was at t is then at 1 - t. */
export function reversePath(doc, index) {
  const points = doc.paths[index].points.map((point) => ({ ...point, t: point.t === null ? null : moment(1 - point.t) }));
  return withPoints(doc, index, points.reverse());
}

/** A point before the one that is now number `at`; `at` = number of points: behind the last. */
export function insertPoint(doc, index, at, x, y) {
  const { points } = doc.paths[index];
  return withPoints(doc, index, points.toSpliced(at, 0, { ...place(doc, x, y), t: null }));
}

export function movePoint(doc, index, at, x, y) {
  const { points } = doc.paths[index];
  const to = place(doc, x, y);
  if (points[at].x === to.x && points[at].y === to.y) return doc;
  return withPath(doc, index, { points: points.with(at, { ...to, t: points[at].t }) });
}

/** Points of a group by their paths: [path, [point, ...]]. */
function byPath(group) {
  const found = new Map();
  for (const { path, point } of group) found.set(path, [...(found.get(path) ?? []), point]);
  return [...found];
}

/** Corners of the box around a group of points, [px]. */
export function boxAround(doc, group) {
  const places = group.map(({ path, point }) => doc.paths[path].points[point]);
  const [across, down] = [places.map(({ x }) => x), places.map(({ y }) => y)];
  return { left: Math.min(...across), top: Math.min(...down), right: Math.max(...across), bottom: Math.max(...down) };
}

/** Give each point of a group a new place, a function of the old one. */
function replacePlaces(doc, group, placed) {
  const changed = byPath(group).reduce((now, [path, chosen]) => {
    const points = now.paths[path].points.map((point, at) => {
      return chosen.includes(at) ? { ...place(now, ...placed(point)), t: point.t } : point;
    });
    return withPath(now, path, { points });
  }, doc);
  const moved = group.some(({ path, point }) => {
    const [before, after] = [doc, changed].map(({ paths }) => paths[path].points[point]);
    return before.x !== after.x || before.y !== after.y;
  });
  return moved ? changed : doc;
}

/** Move a group of points together: where one of them would leave the frame, all of them stop. */
export function movePoints(doc, group, dx, dy) {
  if (!group.length) return doc;
  const box = boxAround(doc, group);
  const across = clamp(dx, -box.left, doc.width - box.right);
  const down = clamp(dy, -box.top, doc.height - box.bottom);
  return replacePlaces(doc, group, ({ x, y }) => [x + across, y + down]);
}

/** Mirror a group of points in the middle of the box around it: left and right (axis "x") or up and down ("y"). */
export function mirrorPoints(doc, group, axis) {
  if (!group.length) return doc;
  const { left, top, right, bottom } = boxAround(doc, group);
  return replacePlaces(doc, group, ({ x, y }) => (axis === "x" ? [left + right - x, y] : [x, top + bottom - y]));
}

/** Delete a group of points. */
export function deletePoints(doc, group) {
  return byPath(group).reduce((now, [path, chosen]) => {
    return withPoints(now, path, now.paths[path].points.filter((_, at) => !chosen.includes(at)));
  }, doc);
}

export function deletePoint(doc, index, at) {
  return withPoints(doc, index, doc.paths[index].points.toSpliced(at, 1));
}

/** Give a point its time, or leave it to the path length (null). It stays between its neighbours' given times. */
export function setTime(doc, index, at, time) {
  const { points } = doc.paths[index];
  if (time === null) return points[at].t === null ? doc : withPoints(doc, index, points.with(at, { ...points[at], t: null }));
  const before = points.findLastIndex((point, other) => other < at && point.t !== null);
  const after = points.findIndex((point, other) => other > at && point.t !== null);
  // Points without a time in between need some, too; an open end counts as one given at 0 or 1.
  const low = at === 0 ? 0 : (before < 0 ? 0 : points[before].t) + SMALLEST_STEP * (at - Math.max(before, 0));
  const last = points.length - 1;
  const high = at === last ? 1 : (after < 0 ? 1 : points[after].t) - SMALLEST_STEP * ((after < 0 ? last : after) - at);
  const t = moment(clamp(time, low, high));
  return low > high || t === points[at].t ? doc : withPoints(doc, index, points.with(at, { ...points[at], t }));
}

/** Hold still: the point twice, at two times. */
export function holdPoint(doc, index, at) {
  const { points } = doc.paths[index];
  const times = pointTimes(doc.paths[index]);
  let [start, end] = [times[at], times[at]];
  if (at < points.length - 1) end = (times[at] + times[at + 1]) / 2;
  else if (at > 0) start = (times[at - 1] + times[at]) / 2;
  else [start, end] = [0, 1];
  const held = [start, end].map((t) => ({ ...points[at], t: moment(t) }));
  return withPoints(doc, index, points.toSpliced(at, 1, ...held));
}

/** The same drawing on a frame of another size. */
export function resized(doc, width, height) {
  if (doc.width === width && doc.height === height) return doc;
  const [across, down] = [width / doc.width, height / doc.height];
  const paths = doc.paths.map((path) => ({
    ...path,
    points: path.points.map(({ x, y, t }) => ({ x: cents(x * across), y: cents(y * down), t })),
  }));
  return freeze({ width, height, paths });
}
