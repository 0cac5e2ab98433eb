// The toolbar's icons: strokes on a field of 16 x 16, in the colour of the button's text.

const ICONS = {
  undo: "M3 6.5h6.5a3.5 3.5 0 0 1 0 7H6 M6 3.5l-3 3 3 3",
  redo: "M13 6.5H6.5a3.5 3.5 0 0 0 0 7H10 M10 3.5l3 3-3 3",
  addPath: "M2.5 12.5C4 5 8 12 10.5 6.5 M12.5 1.5v5 M10 4h5",
  deletePath: "M3 4.5h10 M6.5 4.5V2.5h3v2 M4.5 4.5l.5 9h6l.5-9 M7 7v4 M9 7v4",
  reverse: "M3 5.5h9 M9.5 3L12 5.5 9.5 8 M13 10.5H4 M6.5 8L4 10.5 6.5 13",
  curve: "M2 12.5C4 2.5 9.5 13.5 14 3.5",
  straight: "M2 12.5L6.5 5l3 5.5 4.5-7",
  hold: "M5.5 3.5v9 M10.5 3.5v9",
  auto: "M8 2.5a5.5 5.5 0 1 0 0 11 5.5 5.5 0 1 0 0-11 M8 5v3.2l2.2 1.4",
  deletePoint: "M4.5 8a3.5 3.5 0 1 0 7 0 3.5 3.5 0 1 0-7 0 M2.5 13.5l11-11",
  several: "M2.5 5V2.5H5 M11 2.5h2.5V5 M13.5 11v2.5H11 M5 13.5H2.5V11 M7.5 2.5h1 M7.5 13.5h1 M2.5 7.5v1 M13.5 7.5v1",
  grid: "M2.5 2.5h11v11h-11z M6.2 2.5v11 M9.8 2.5v11 M2.5 6.2h11 M2.5 9.8h11",
  guides: "M5.5 1.5v13 M1.5 10.5h13 M10.5 3.5a1.5 1.5 0 1 0 0 3 1.5 1.5 0 1 0 0-3",
  distances: "M1.5 10.5l9-9 4 4-9 9z M4.5 7.5l1.5 1.5 M7 5l2 2 M9.5 2.5L11 4",
  showAll: "M2.5 6V2.5H6 M10 2.5h3.5V6 M13.5 10v3.5H10 M6 13.5H2.5V10 M6 6h4v4H6z",
  load: "M2.5 3h11v10h-11z M2.5 11l3.5-3.5 2.5 2.5 2-2 3 3 M10.5 5.5v.1",
  json: "M6 2.5c-2 0-2 1-2 2.5s0 3-1.5 3C4 8 4 9.5 4 11s0 2.5 2 2.5 M10 2.500c2 0 2 1 2 2.500s0 3 1.5 3c-1.5 0-1.5 1.5-1.5 3s0 2.5-2 2.5",
  more: "M2.5 4.500h6 M11.5 4.500h2 M8.5 2.800v3.400h3V2.800z M2.5 11.500h2 M7.5 11.500h6 M4.5 9.800v3.400h3V9.800z",
  mirrorX: "M8 1.500v13 M6 4v8L1.5 12z M10 4v8l4.5 0z",
  mirrorY: "M1.5 8h13 M4 6h8L12 1.500z M4 10h8l0 4.500z",
};

const SVG = "http://www.w3.org/2000/svg";

/** An icon by name; hidden from screen readers, which read the button's label. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  const attributes = { viewBox: "0 0 16 16", "aria-hidden": "true", focusable: "false" };
  for (const [key, value] of Object.entries(attributes)) svg.setAttribute(key, value);
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}
