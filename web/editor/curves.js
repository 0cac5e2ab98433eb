// The drawn curve, for the preview alone: the same geometry as visual_planner/trajectory/curves.py, which tests hold equal.
// Points are [x, y].

const SAMPLES_PER_SEGMENT = 24;
const SAME_PLACE_PX = 1e-6;
/** Line width as a fraction of the frame's shorter side, as visual_planner/trajectory/overlay.py draws it. */
export const LINE_SHARE = 1.5 / 64;

const distance = (a, b) => Math.hypot(b[0] - a[0], b[1] - a[1]);

/**
 * A path as straight pieces with the time of each corner.
 * @param {{interpolation: string, points: {x: number, y: number, t: number | null}[]}} path with two points or more
 * @returns {{points: number[][], times: number[], arc: number[], places: number[], pointTimes: number[]}}
 *     `points[places[i]]` is control point i, and `pointTimes[i]` its time
 */
export function timedCurve(path) {
  const control = path.points.map(({ x, y }) => [x, y]);
  const { points, places } = denseCurve(control, path.interpolation === "spline");
  const arc = arcLengths(points);
  const pointTimes = fillTimes(path.points.map(({ t }) => t), places.map((place) => arc[place]));
  return { points, arc, places, pointTimes, times: spreadTimes(pointTimes, places, arc) };
}

/** Times of a path's control points, also while it has fewer than two. */
export function pointTimes(path) {
  return path.points.length > 1 ? timedCurve(path).pointTimes : path.points.map(({ t }) => t ?? 0);
}

/** Where a path is at a time: it waits at its start and rests at its end. */
export function placeAt(curve, time) {
  const { times, points } = curve;
  let after = times.findIndex((moment) => moment >= time);
  if (after < 0) after = times.length - 1;
  if (after === 0) return points[0];
  const share = Math.min(1, (time - times[after - 1]) / (times[after] - times[after - 1]));
  return mix(points[after - 1], points[after], share);
}

/**
 * The curve at close, even steps, for drawing.
 * @returns {{points: number[][], shares: number[]}} places and what the colour stands for there: 0 red, 1 blue
 */
export function stations(curve, colorBy, step) {
  const { points, times, arc } = curve;
  const total = arc.at(-1);
  const shares = colorBy === "arc" && total > 0 ? arc.map((length) => length / total) : times;
  const result = { points: [points[0]], shares: [shares[0]] };
  for (let piece = 1; piece < points.length; piece++) {
    const parts = Math.max(1, Math.ceil((arc[piece] - arc[piece - 1]) / step));
    for (let part = 1; part <= parts; part++) {
      result.points.push(mix(points[piece - 1], points[piece], part / parts));
      result.shares.push(shares[piece - 1] + ((shares[piece] - shares[piece - 1]) * part) / parts);
    }
  }
  return result;
}

/** Nearest place on a curve: {distance, segment, point}; segment i lies between control points i and i + 1. */
export function nearestOnCurve(curve, x, y) {
  let best = { distance: Infinity, segment: -1, point: null };
  let segment = 0;
  for (let piece = 1; piece < curve.points.length; piece++) {
    while (curve.places[segment + 1] < piece) segment++;
    const [a, b] = [curve.points[piece - 1], curve.points[piece]];
    const square = (b[0] - a[0]) ** 2 + (b[1] - a[1]) ** 2;
    const along = square > 0 ? ((x - a[0]) * (b[0] - a[0]) + (y - a[1]) * (b[1] - a[1])) / square : 0;
    const point = mix(a, b, Math.min(1, Math.max(0, along)));
    const away = distance(point, [x, y]);
    if (away < best.distance) best = { distance: away, segment, point };
  }
  return best;
}

function mix(a, b, share) {
  return [a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share];
}

function denseCurve(points, smooth) {
  const moves = points.slice(1).map((point, index) => distance(points[index], point) > SAME_PLACE_PX);
  if (!smooth || moves.filter(Boolean).length < 2) return { points, places: points.map((_, index) => index) };
  // The spline runs through distinct places; a hold between two equal points keeps one straight step.
  const pieces = catmullRom(points.filter((_, index) => index === 0 || moves[index - 1]));
  const result = { points: [points[0]], places: [0] };
  let piece = 0;
  moves.forEach((moving, index) => {
    result.points.push(...(moving ? pieces[piece++] : [points[index + 1]]));
    result.places.push(result.points.length - 1);
  });
  return result;
}

/** Centripetal Catmull-Rom spline: for each segment its points but the first. */
function catmullRom(points) {
  const mirrored = (a, b) => [2 * a[0] - b[0], 2 * a[1] - b[1]];
  const padded = [mirrored(points[0], points[1]), ...points, mirrored(points.at(-1), points.at(-2))];
  const knots = padded.slice(1).map((point, index) => Math.sqrt(distance(padded[index], point)));
  const tangents = points.map((_, index) => {
    const [before, at, after] = padded.slice(index, index + 3);
    const [k0, k1] = [knots[index], knots[index + 1]];
    return [0, 1].map((axis) => (at[axis] - before[axis]) / k0 - (after[axis] - before[axis]) / (k0 + k1) + (after[axis] - at[axis]) / k1);
  });
  return points.slice(1).map((end, index) => {
    const [start, width] = [points[index], knots[index + 1]];
    const segment = Array.from({ length: SAMPLES_PER_SEGMENT }, (_, sample) => {
      const u = (sample + 1) / SAMPLES_PER_SEGMENT;
      const [squared, cubed] = [u * u, u * u * u];
      return [0, 1].map(
        (axis) =>
          (2 * cubed - 3 * squared + 1) * start[axis] +
          (cubed - 2 * squared + u) * tangents[index][axis] * width +
          (3 * squared - 2 * cubed) * end[axis] +
          (cubed - squared) * tangents[index + 1][axis] * width,
      );
    });
    segment[SAMPLES_PER_SEGMENT - 1] = end;
    return segment;
  });
}

function arcLengths(points) {
  const arc = [0];
  for (let index = 1; index < points.length; index++) arc.push(arc[index - 1] + distance(points[index - 1], points[index]));
  return arc;
}

/** Times of all control points; those not given lie between the given ones in proportion to length. */
function fillTimes(given, arc) {
  const times = [...given];
  times[0] ??= 0;
  times[times.length - 1] ??= 1;
  let left = 0;
  for (let right = 1; right < times.length; right++) {
    if (times[right] === null) continue;
    const spans = arc.slice(left + 1, right + 1).map((length, index) => length - arc[left + index]);
    const length = spans.reduce((sum, span) => sum + span, 0);
    const weights = length > SAME_PLACE_PX ? spans.map((span) => Math.max(span, length * 1e-6)) : spans.map(() => 1);
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    let passed = 0;
    for (let index = left + 1; index < right; index++) {
      passed += weights[index - left - 1];
      times[index] = times[left] + (passed / total) * (times[right] - times[left]);
    }
    left = right;
  }
  return times;
}

/** Time of every corner of the curve: even speed between neighbouring control points. */
function spreadTimes(times, places, arc) {
  const result = [times[0]];
  for (let segment = 0; segment + 1 < places.length; segment++) {
    const [from, to] = [places[segment], places[segment + 1]];
    const span = arc[to] - arc[from];
    for (let index = from + 1; index <= to; index++) {
      const share = index === to || span === 0 ? 1 : (arc[index] - arc[from]) / span;
      result.push(times[segment] + share * (times[segment + 1] - times[segment]));
    }
  }
  return result;
}
