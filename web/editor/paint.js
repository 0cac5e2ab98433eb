// Draws the stage: first frame, curves as Python's overlay draws them, and the handles of the points.
import { ARROWS, drawArrows } from "./arrows.js";
import { LINE_SHARE, placeAt, stations, timedCurve } from "./curves.js";
import { paintOver, paintUnder } from "./paint_help.js";
import { HANDLE, paintLabel, ring } from "./paint_parts.js";

/** Colours of the paths' handles: eight that colour-blind people can tell apart (Okabe and Ito). */
export const PALETTE = ["#e69f00", "#56b4e9", "#009e73", "#f0e442", "#cc79a7", "#d55e00", "#0072b2", "#ffffff"];
export const colorOf = (index) => PALETTE[index % PALETTE.length];

/** Colour of the gradient: red at share 0, blue at 1. */
export function gradientColor(share) {
  return `rgb(${Math.round(255 * (1 - share))} 0 ${Math.round(255 * share)})`;
}

/**
 * The red-to-blue line of a path.
 * @param {CanvasRenderingContext2D} context scaled so that a unit is a pixel of the frame
 */
export function strokeGradient(context, path, frame, colorBy, thickness = LINE_SHARE * Math.min(...frame)) {
  const line = stations(timedCurve(path), colorBy, Math.max(thickness / 2, 0.5));
  context.lineCap = "round";
  context.lineWidth = thickness;
  for (let piece = 1; piece < line.points.length; piece++) {
    context.strokeStyle = gradientColor((line.shares[piece - 1] + line.shares[piece]) / 2);
    context.beginPath();
    context.moveTo(...line.points[piece - 1]);
    // A line without length would not be drawn; a hold shows as the dot that it is.
    context.lineTo(line.points[piece][0] + 1e-3, line.points[piece][1]);
    context.stroke();
  }
}

/**
 * The whole stage.
 * @param {CanvasRenderingContext2D} context in canvas pixels
 * @param {object} editor what is shown: session, view, picture, colorBy, scrub, ink, and of the gesture hover, lines, box
 * @param {string[]} labels of the selected path's points
 * @param {boolean} focused whether keys go to the stage
 */
export function paintStage(context, editor, labels, focused) {
  const { session, view, picture } = editor;
  const { doc, selection } = session;
  context.clearRect(0, 0, ...view.canvas);
  context.save();
  context.translate(view.left, view.top);
  context.scale(view.scale, view.scale);
  if (picture) {
    context.imageSmoothingEnabled = view.scale < 3; // single pixels stay visible
    context.drawImage(picture, 0, 0, doc.width, doc.height);
  } else {
    paintNoPicture(context, doc, editor.ink);
  }
  paintOverlay(context, doc, editor.colorBy);
  context.restore();
  paintUnder(context, editor);
  if (editor.scrub !== null) paintScrub(context, doc, view, editor.scrub);
  const scene = { session, view, labels, focused };
  doc.paths.forEach((path, index) => index === selection.path || paintHandles(context, scene, path, index));
  if (selection.path >= 0) paintHandles(context, scene, doc.paths[selection.path], selection.path);
  paintOver(context, editor);
}

/** The paths as the planner will see them: a line in the colours of time or length, or arrows. */
export function paintOverlay(context, doc, look) {
  const [paths, frame] = [doc.paths.filter(({ points }) => points.length > 1), [doc.width, doc.height]];
  if (look in ARROWS) return drawArrows(context, paths, frame, look);
  for (const path of paths) strokeGradient(context, path, frame, look);
}

function paintNoPicture(context, doc, { ink }) {
  const cell = Math.max(doc.width, doc.height) / 16;
  context.fillStyle = ink;
  context.globalAlpha = 0.08;
  context.fillRect(0, 0, doc.width, doc.height);
  context.globalAlpha = 0.05;
  for (let row = 0; row * cell < doc.height; row++) {
    for (let col = row % 2; col * cell < doc.width; col += 2) {
      const [x, y] = [col * cell, row * cell];
      context.fillRect(x, y, Math.min(cell, doc.width - x), Math.min(cell, doc.height - y));
    }
  }
  context.globalAlpha = 1;
}

/** Rings where the paths are at the time that is looked at. */
function paintScrub(context, doc, view, scrub) {
  doc.paths.forEach((path, index) => {
    if (path.points.length < 2) return;
    const place = view.toCanvas(...placeAt(timedCurve(path), scrub));
    ring(context, place, HANDLE + 5, "#000", 4);
    ring(context, place, HANDLE + 5, colorOf(index), 2);
  });
}

function paintHandles(context, { session, view, labels, focused }, path, index) {
  const { doc, selection } = session;
  const active = index === selection.path;
  context.globalAlpha = active ? 1 : 0.75;
  path.points.forEach((point, at) => {
    const place = view.toCanvas(point.x, point.y);
    const chosen = active && at === selection.point;
    context.beginPath();
    context.arc(place.x, place.y, HANDLE, 0, 2 * Math.PI);
    // Filled: the time is given; hollow: it follows from the path length.
    context.fillStyle = point.t === null ? "rgb(0 0 0 / 45%)" : colorOf(index);
    context.fill();
    ring(context, place, HANDLE + 1, "#000", 1);
    ring(context, place, HANDLE, colorOf(index), 2);
    if (session.holds(index, at)) ring(context, place, HANDLE + 4, focused ? "#fff" : "#aaa", chosen ? 2 : 1);
    if (active) paintLabel(context, labels[at], place, chosen);
  });
  context.globalAlpha = 1;
  if (path.points.length) {
    const { x, y } = view.toCanvas(path.points[0].x, path.points[0].y);
    if (doc.paths.length > 1) paintLabel(context, path.name, { x, y: y + 24 }, active, colorOf(index));
  }
}
