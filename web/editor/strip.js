// The time strip: frames of the plan from left to right, and when the selected path's points are reached.
import { pointTimes } from "./curves.js";
import { setTime } from "./edits.js";
import { ACTIONS } from "./keys.js";
import { colorOf, gradientColor } from "./paint.js";
import { frameAt, timeOfFrame } from "./times.js";
import { placeOf } from "./view.js";

const SIDE = 14; // room left and right of the first and last frame [px]
const LINE = 26; // height of the line of points [px]
const REACH = { mouse: 8, touch: 18 }; // how far from its middle a point can be taken [px]
const SNAP = 5; // a dragged point is drawn to a frame this near [px]

export const xOfTime = (time, width) => SIDE + time * (width - 2 * SIDE);

/** Time at a place of the strip; drawn to whole frames unless `free`. */
export function timeAt(x, width, frames, free) {
  const time = Math.min(1, Math.max(0, (x - SIDE) / (width - 2 * SIDE)));
  const whole = timeOfFrame(Math.round(frameAt(time, frames)), frames);
  return !free && Math.abs(xOfTime(whole, width) - xOfTime(time, width)) <= SNAP ? whole : time;
}

/** Indices of the points near a place of the strip, nearest first. */
export function markersAt(path, x, width, reach) {
  if (!path) return [];
  return pointTimes(path)
    .map((time, point) => ({ point, away: Math.abs(xOfTime(time, width) - x) }))
    .filter(({ away }) => away <= reach)
    .sort((a, b) => a.away - b.away)
    .map(({ point }) => point);
}

/** Draw the strip, in the colours of ComfyUI's palette. */
export function paintStrip(context, [width, height], { session, frames, scrub, ink }) {
  context.clearRect(0, 0, width, height);
  const bar = context.createLinearGradient(xOfTime(0, width), 0, xOfTime(1, width), 0);
  bar.addColorStop(0, gradientColor(0));
  bar.addColorStop(1, gradientColor(1));
  context.fillStyle = bar;
  context.fillRect(xOfTime(0, width), LINE - 2, width - 2 * SIDE, 4);
  paintFrames(context, width, frames, ink);
  if (scrub !== null) {
    context.fillStyle = ink.ink;
    context.fillRect(xOfTime(scrub, width) - 0.5, 8, 1, height - 8);
  }
  if (session.path) paintMarkers(context, width, session, ink);
}

function paintFrames(context, width, frames, { ink }) {
  const every = Math.ceil((frames * 16) / width); // numbers must not touch
  context.font = "10px sans-serif";
  context.textAlign = "center";
  context.fillStyle = ink;
  for (let frame = 1; frame <= frames; frame++) {
    const x = xOfTime(timeOfFrame(frame, frames), width);
    context.globalAlpha = 0.5;
    context.fillRect(x - 0.5, LINE - 8, 1, 16);
    context.globalAlpha = 0.85;
    if ((frame - 1) % every === 0) context.fillText(`${frame}`, x, 12);
  }
  context.globalAlpha = 1;
}

function paintMarkers(context, width, session, { ink, field }) {
  const { path, selection } = session;
  const color = colorOf(selection.path);
  const times = pointTimes(path);
  const order = times.map((_, point) => point).sort((a, b) => (a === selection.point) - (b === selection.point));
  for (const point of order) {
    const x = xOfTime(times[point], width);
    const chosen = session.holds(selection.path, point);
    context.beginPath();
    context.moveTo(x, LINE + 1);
    context.lineTo(x - 6, LINE + 13);
    context.lineTo(x + 6, LINE + 13);
    context.closePath();
    context.lineJoin = "round";
    // An edge in the colour of texts: a path's own colour may be as light or as dark as the strip.
    for (const [style, line] of [[ink, chosen ? 5 : 3], [color, 1.5]]) {
      context.strokeStyle = style;
      context.lineWidth = line;
      context.stroke();
    }
    context.fillStyle = path.points[point].t === null ? field : color;
    context.fill();
  }
}

/** Pointers on the strip: drag a point along time, look at a time, double-click to let a time go. */
export function connectStrip(editor) {
  const { strip, keys } = editor.part;
  const { session } = editor;
  let held = null;
  const timeOf = (event) => timeAt(placeOf(event, strip).x, strip.clientWidth, editor.frames, event.altKey);
  const release = (end) => {
    held = null;
    end();
  };
  const handlers = {
    pointerdown(event) {
      event.preventDefault();
      keys.focus({ preventScroll: true });
      strip.setPointerCapture(event.pointerId);
      const near = markersAt(session.path, placeOf(event, strip).x, strip.clientWidth, REACH[event.pointerType] ?? REACH.mouse);
      held = near.includes(session.selection.point) ? session.selection.point : (near[0] ?? null);
      if (held !== null) session.select(session.selection.path, held);
      editor.scrub = timeOf(event);
      editor.render();
    },
    pointermove(event) {
      editor.scrub = timeOf(event);
      if (held !== null) session.drag(setTime(session.doc, session.selection.path, held, editor.scrub));
      editor.render();
    },
    pointerup: () => release(() => editor.changed()),
    pointercancel: () => release(() => (session.cancel(), editor.render())),
    lostpointercapture: () => held === null || release(() => (session.cancel(), editor.render())),
    pointerleave() {
      editor.scrub = null;
      editor.render();
    },
    dblclick: () => ACTIONS.auto(editor),
  };
  for (const [kind, handler] of Object.entries(handlers)) strip.addEventListener(kind, handler);
}
