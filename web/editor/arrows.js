// The arrows of published planners' weights, for the preview alone: the same as visual_planner/trajectory/overlay.py draws.
import { timedCurve } from "./curves.js";

/** A lone path is two arrows if it leaves its straight line by more than this fraction of the frame's shorter side. */
const BEND_SHARE = 0.08;
const SAMPLES = 129;
/** Colours of the first arrow and of the later ones, and sizes [px] on a frame of `drawnOn` (height, width). */
export const ARROWS = {
  arrows_bridge: { colors: ["#87ceeb", "#ff0000"], drawnOn: [480, 640], width: 3, head: 13, half: 6, tail: 0.6 },
  arrows_rt1: { colors: ["#4aa1f1", "#fe0000"], drawnOn: [256, 320], width: 2, head: 8, degrees: 30 },
};

/**
 * Straight arrows [start, end] that stand for the paths: one for each of several; a lone one is split where it bends.
 * @param {object[]} paths with two points or more each
 * @param {number[]} frame its width and height [px]
 */
export function arrowEnds(paths, frame) {
  const curves = paths.map(timedCurve);
  if (curves.length !== 1) return curves.map(({ points }) => [points[0], points.at(-1)]);
  const places = evenPlaces(curves[0]);
  const [start, end] = [places[0], places.at(-1)];
  const chord = [end[0] - start[0], end[1] - start[1]];
  const length = Math.hypot(...chord);
  const away = places.map(([x, y]) => {
    const [dx, dy] = [x - start[0], y - start[1]];
    return length > 1 ? Math.abs(dy * chord[0] - dx * chord[1]) / length : Math.hypot(dx, dy);
  });
  const corner = away.indexOf(Math.max(...away));
  if (away[corner] <= BEND_SHARE * Math.min(...frame)) return [[start, end]];
  return [[start, places[corner]], [places[corner], end]];
}

/** Places at even steps along a curve, both ends among them. */
function evenPlaces({ points, arc }) {
  let piece = 1;
  return Array.from({ length: SAMPLES }, (_, index) => {
    const wanted = (arc.at(-1) * index) / (SAMPLES - 1);
    while (piece < points.length - 1 && arc[piece] < wanted) piece++;
    const long = arc[piece] - arc[piece - 1];
    const share = long > 0 ? Math.min(1, (wanted - arc[piece - 1]) / long) : 1;
    const [a, b] = [points[piece - 1], points[piece]];
    return [a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share];
  });
}

/**
 * The arrows of a drawing.
 * @param {CanvasRenderingContext2D} context scaled so that a unit is a pixel of the frame
 * @param {object[]} paths with two points or more each
 * @param {number[]} frame its width and height [px]
 * @param {string} name one of `ARROWS`
 */
export function drawArrows(context, paths, frame, name) {
  const style = ARROWS[name];
  const scale = Math.min(frame[1] / style.drawnOn[0], frame[0] / style.drawnOn[1]);
  context.lineCap = "round";
  context.lineJoin = "round";
  arrowEnds(paths, frame).forEach(([start, end], number) => {
    context.strokeStyle = context.fillStyle = style.colors[Math.min(number, 1)];
    context.lineWidth = style.width * scale;
    drawArrow(context, start, end, style, style.head * scale, (style.half ?? 0) * scale);
  });
}

function drawArrow(context, start, end, style, head, half) {
  const length = Math.hypot(end[0] - start[0], end[1] - start[1]);
  const along = length > 1e-6 ? [(end[0] - start[0]) / length, (end[1] - start[1]) / length] : [1, 0];
  /** The place so far behind the tip, and so far to the side [px]. */
  const behind = (back, side) => [end[0] - along[0] * back - along[1] * side, end[1] - along[1] * back + along[0] * side];
  context.beginPath();
  context.moveTo(...start);
  context.lineTo(end[0] + 1e-3, end[1]); // a line without length would not be drawn
  if (!half) {
    const angle = (style.degrees * Math.PI) / 180;
    for (const side of [-1, 1]) {
      context.moveTo(...behind(head * Math.cos(angle), side * head * Math.sin(angle)));
      context.lineTo(...end);
    }
  }
  context.stroke();
  if (!half) return;
  context.beginPath();
  for (const place of [end, behind(head, half), behind(head * (1 + style.tail), 0), behind(head, -half)]) {
    context.lineTo(...place);
  }
  context.fill();
}
