// Small things that are drawn over any picture: rings and labels.

export const HANDLE = 5; // radius of a point's handle [px]

/** A circle around a place. */
export function ring(context, { x, y }, radius, color, width) {
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  context.strokeStyle = color;
  context.lineWidth = width;
  context.stroke();
}

/** Text with a dark edge, readable on any picture. */
export function paintLabel(context, text, { x, y }, strong, color = "#fff") {
  context.font = `${strong ? "bold " : ""}11px sans-serif`;
  context.textAlign = "left";
  context.lineWidth = 3;
  context.strokeStyle = "rgb(0 0 0 / 80%)";
  context.strokeText(text, x + HANDLE + 4, y - HANDLE);
  context.fillStyle = color;
  context.fillText(text, x + HANDLE + 4, y - HANDLE);
}
