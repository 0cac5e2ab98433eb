// From pixels of the first frame to pixels of the canvas and back, and what lies under a pointer.
import { nearestOnCurve, timedCurve } from "./curves.js";

const MARGIN = 10; // around the frame when all of it is shown [px]
const CLOSEST = 40; // canvas pixels for one pixel of the frame
const FARTHEST = 0.25; // of the scale at which all of the frame is shown

export class View {
  constructor() {
    Object.assign(this, { scale: 1, left: 0, top: 0, whole: true });
    this.frame = [1, 1];
    this.canvas = [1, 1];
  }

  /** Sizes (width, height) of frame and canvas; the part that is shown stays, if there is one. */
  resize(frame, canvas) {
    const same = frame[0] === this.frame[0] && frame[1] === this.frame[1];
    const middle = this.toFrame(this.canvas[0] / 2, this.canvas[1] / 2);
    const grown = this.#wholeScale(frame, canvas) / this.#wholeScale(this.frame, this.canvas);
    [this.frame, this.canvas] = [frame, canvas];
    if (this.whole || !same) return this.showAll();
    this.scale *= grown;
    this.left = canvas[0] / 2 - middle.x * this.scale;
    this.top = canvas[1] / 2 - middle.y * this.scale;
  }

  showAll() {
    this.scale = this.#wholeScale(this.frame, this.canvas);
    this.left = (this.canvas[0] - this.frame[0] * this.scale) / 2;
    this.top = (this.canvas[1] - this.frame[1] * this.scale) / 2;
    this.whole = true;
  }

  /** Zoom so that what is under a place of the canvas stays there. */
  zoom(factor, x, y) {
    const fixed = this.toFrame(x, y);
    const smallest = FARTHEST * this.#wholeScale(this.frame, this.canvas);
    this.scale = Math.min(Math.max(this.scale * factor, smallest), Math.max(CLOSEST, smallest));
    this.left = x - fixed.x * this.scale;
    this.top = y - fixed.y * this.scale;
    this.whole = false;
  }

  pan(dx, dy) {
    this.left += dx;
    this.top += dy;
    this.whole = false;
  }

  toCanvas(x, y) {
    return { x: x * this.scale + this.left, y: y * this.scale + this.top };
  }

  toFrame(x, y) {
    return { x: (x - this.left) / this.scale, y: (y - this.top) / this.scale };
  }

  #wholeScale(frame, canvas) {
    const room = canvas.map((side) => Math.max(side - 2 * MARGIN, 16));
    return Math.min(room[0] / frame[0], room[1] / frame[1]);
  }
}

/**
 * Points near a place, those of the selected path first, then the nearest.
 * @param {number} reach how far a point may be [px of the frame]
 * @returns {{path: number, point: number}[]}
 */
export function pointsAt(doc, selectedPath, x, y, reach) {
  const found = doc.paths.flatMap((path, index) =>
    path.points.map((point, at) => ({ path: index, point: at, away: Math.hypot(point.x - x, point.y - y) })),
  );
  return found
    .filter(({ away }) => away <= reach)
    .sort((a, b) => (b.path === selectedPath) - (a.path === selectedPath) || a.away - b.away || a.path - b.path || a.point - b.point)
    .map(({ path, point }) => ({ path, point }));
}

/** Points in a box between two corners of the frame [px]. */
export function pointsIn(doc, from, to) {
  const inside = ({ x, y }) => x >= from.x && x <= to.x && y >= from.y && y <= to.y;
  return doc.paths.flatMap(({ points }, path) => points.flatMap((place, point) => (inside(place) ? [{ path, point }] : [])));
}

/** The selection that follows in a stack of overlapping points; the first when none of them is selected. */
export function nextOf(stack, selection) {
  const now = stack.findIndex(({ path, point }) => path === selection.path && point === selection.point);
  return stack[(now + 1) % stack.length];
}

/** Place on a path's line near a place: {segment, point}, or null. */
export function lineAt(path, x, y, reach) {
  if (!path || path.points.length < 2) return null;
  const nearest = nearestOnCurve(timedCurve(path), x, y);
  return nearest.distance <= reach ? nearest : null;
}

/** Place of a pointer in an element's own pixels, whatever zoom ComfyUI shows the element in. */
export function placeOf(event, element) {
  const box = element.getBoundingClientRect();
  return {
    x: ((event.clientX - box.left) * element.clientWidth) / box.width,
    y: ((event.clientY - box.top) * element.clientHeight) / box.height,
  };
}
