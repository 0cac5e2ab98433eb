// The editor's elements: bars, canvases, fields. No behaviour.
import { icon } from "./icons.js";
import { addStyle } from "./style.js";

/** Make an element: properties, `aria` and `data` prefixed ones as attributes, children. */
function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element && !name.startsWith("aria")) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

const button = (picture, title) => make("button", { type: "button", title, "aria-label": title }, icon(picture));
const gap = () => make("span", { className: "vp-gap" });
const number = (label, title, properties) => {
  const input = make("input", { type: "number", title, "aria-label": title, ...properties });
  return { input, label: make("label", {}, label, input) };
};
const choice = (title, options) =>
  make("select", { title, "aria-label": title }, ...options.map(([value, text]) => make("option", { value, textContent: text })));

/** How the drawing may look, and the text of each: the overlay's styles, the gradient with its two colourings. */
const looks = (words) => [
  ["time", words("colorByTime")],
  ["arc", words("colorByArc")],
  ["arrows_bridge", words("arrowsBridge")],
  ["arrows_rt1", words("arrowsRt1")],
];

/**
 * All elements by name; `root` holds them.
 * @param {(key: string) => string} words the editor's texts
 */
export function buildPanel(words) {
  addStyle();
  const part = {
    undo: button("undo", words("undoHint")),
    redo: button("redo", words("redoHint")),
    addPath: button("addPath", words("addPathHint")),
    deletePath: button("deletePath", words("deletePathHint")),
    reverse: button("reverse", words("reverseHint")),
    interpolation: button("straight", words("straightHint")),
    hold: button("hold", words("holdHint")),
    auto: button("auto", words("autoHint")),
    deletePoint: button("deletePoint", words("deletePointHint")),
    several: button("several", words("severalHint")),
    grid: button("grid", words("gridHint")),
    guides: button("guides", words("guidesHint")),
    distances: button("distances", words("distancesHint")),
    showAll: button("showAll", words("showAllHint")),
    load: button("load", words("loadHint")),
    json: button("json", words("jsonHint")),
    more: button("more", words("moreHint")),
    mirrorX: button("mirrorX", words("mirrorXHint")),
    mirrorY: button("mirrorY", words("mirrorYHint")),
    path: choice(words("path"), []),
    swatch: make("span", { className: "vp-swatch" }),
    name: make("input", { className: "vp-name", type: "text", title: words("pathName"), "aria-label": words("pathName") }),
    point: choice(words("point"), []),
    colorBy: choice(words("colorBy"), looks(words)),
    file: make("input", { type: "file", accept: "image/*", hidden: true }),
    canvas: make("canvas"),
    keys: make("input", { className: "vp-keys", type: "text", readOnly: true, inputMode: "none", "aria-label": words("stage") }),
    text: make("textarea", { className: "vp-text", spellcheck: false, hidden: true, "aria-label": words("text") }),
    note: make("div", { className: "vp-note" }),
    strip: make("canvas", { className: "vp-strip", title: words("strip") }),
    status: make("div", { className: "vp-status", role: "status", "aria-live": "polite" }),
  };
  const fields = {
    x: number("x", words("x"), { step: "any" }),
    y: number("y", words("y"), { step: "any" }),
    frame: number(words("frame"), words("frameHint"), { step: "any" }),
    frames: number(words("frames"), words("framesHint"), { min: 2, max: 999, step: 1 }),
    gridSize: number(words("gridSize"), words("gridSizeHint"), { min: 1, step: "any" }),
  };
  for (const [name, { input }] of Object.entries(fields)) part[name] = input;
  part.tools = make("div", { className: "vp-bar", role: "toolbar", "aria-label": words("tools") });
  return arrange(part, fields);
}

function arrange(part, fields) {
  const { undo, redo, addPath, deletePath, reverse, interpolation, hold, auto, deletePoint, several } = part;
  const { grid, guides, distances, showAll, load, json, more } = part;
  part.tools.append(undo, redo, gap(), addPath, deletePath, reverse, interpolation, gap(), hold, auto, deletePoint);
  part.tools.append(gap(), several, grid, guides, distances, gap(), showAll, load, json, more);
  for (const field of [fields.frame, fields.frames]) field.label.classList.add("vp-short");
  const { swatch, path, point, name, colorBy, mirrorX, mirrorY } = part;
  const { x, y, frame, frames, gridSize } = fields;
  part.fields = make("div", { className: "vp-bar vp-fields" }, swatch, path, point, x.label, y.label, frame.label, frames.label);
  part.options = make("div", { className: "vp-bar vp-fields", hidden: true }, name, colorBy, gridSize.label, mirrorX, mirrorY);
  // The attribute: Nodes 2.0 would take the wheel and the middle button for the graph before they get here.
  part.stage = make("div", { className: "vp-stage", "data-capture-wheel": "true" }, part.canvas, part.keys, part.note, part.text);
  part.root = make(
    "div",
    { className: "vp-editor widget-expands" }, // the second class makes Nodes 2.0 give it the free height
    ...[part.tools, part.options, part.stage, part.strip, part.fields, part.status, part.file],
  );
  return part;
}

/** Refill a choice if its options have changed. */
export function setOptions(select, texts, chosen) {
  if ([...select.options].map((option) => option.textContent).join("\n") !== texts.join("\n")) {
    select.replaceChildren(...texts.map((text, index) => make("option", { value: index, textContent: text })));
  }
  select.value = chosen;
}
