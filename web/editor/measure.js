// Distances between points, in pixels of the first frame and in frames of the plan.
import { timedCurve } from "./curves.js";

/**
 * How far two points of a document are from each other.
 * @param {object} doc
 * @param {{path: number, point: number}} from
 * @param {{path: number, point: number}} to
 * @param {number} frames of the plan
 * @returns {{straight: number, along: number | null, frames: number}} straight line and length of the path [px] (null
 *     between two paths), and frames of the plan from the one to the other
 */
export function distanceBetween(doc, from, to, frames) {
  const [a, b] = [from, to].map(({ path, point }) => doc.paths[path].points[point]);
  const [one, other] = [from, to].map((end) => momentOf(doc.paths[end.path], end.point));
  return {
    straight: Math.hypot(b.x - a.x, b.y - a.y),
    along: from.path === to.path ? Math.abs(other.arc - one.arc) : null,
    frames: Math.abs(other.time - one.time) * (frames - 1),
  };
}

/** The two points whose distance is told: the two that are selected, else the selected one and the one before it. */
export function measuredPair({ group, selection }) {
  if (group.length === 2) return [...group].sort((a, b) => a.path - b.path || a.point - b.point);
  if (group.length === 1 && selection.point > 0) return [{ ...selection, point: selection.point - 1 }, selection];
  return null;
}

/** When a point is reached, and after what length of the path [px]. */
function momentOf(path, at) {
  if (path.points.length < 2) return { time: path.points[at].t ?? 0, arc: 0 };
  const { arc, places, pointTimes } = timedCurve(path);
  return { time: pointTimes[at], arc: arc[places[at]] };
}

/** A number as the editor shows it: whole, or with one digit behind the point. */
export function rounded(value) {
  const tenths = Math.round(value * 10) / 10;
  return Number.isInteger(tenths) ? `${tenths}` : tenths.toFixed(1);
}
