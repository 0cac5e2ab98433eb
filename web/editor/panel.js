// The editor's elements: bars, canvases, fields. No behaviour.

const STYLE = `
.vp-editor { box-sizing: border-box; width: 100%; height: 100%; min-height: 330px; display: flex; flex-direction: column;
  gap: 3px; font: 11px/1.3 sans-serif; color: var(--input-text, #ddd); user-select: none; overflow: hidden; }
.vp-editor * { box-sizing: border-box; font: inherit; }
.vp-editor .vp-bar { display: flex; flex-wrap: wrap; gap: 3px; align-items: center; flex: none; }
.vp-editor button, .vp-editor input, .vp-editor select { height: 22px; color: inherit; border-radius: 4px;
  background: var(--comfy-input-bg, #222); border: 1px solid var(--border-color, #4e4e4e); padding: 0 5px; margin: 0; }
.vp-editor button { cursor: pointer; }
.vp-editor button:disabled { opacity: .4; cursor: default; }
.vp-editor button[aria-pressed=true] { background: var(--p-button-text-primary-color, #2f6fed); color: #fff; }
.vp-editor :is(button, input, select, textarea):focus-visible { outline: 2px solid #4a90e2; outline-offset: -1px; }
.vp-editor label { display: inline-flex; align-items: center; gap: 3px; }
.vp-editor input[type=number] { width: 58px; }
.vp-editor .vp-name { width: 76px; }
.vp-editor .vp-swatch { width: 10px; height: 10px; border-radius: 50%; border: 1px solid #000; flex: none; }
.vp-editor .vp-stage { position: relative; flex: 1 1 0; min-height: 120px; border-radius: 4px; overflow: hidden; }
.vp-editor .vp-stage canvas { position: absolute; inset: 0; width: 100%; height: 100%; touch-action: none; cursor: crosshair; }
.vp-editor .vp-stage.vp-focused { box-shadow: 0 0 0 2px #4a90e2 inset; }
.vp-editor .vp-stage.vp-focused::after { content: ""; position: absolute; inset: 0; border: 2px solid #4a90e2;
  border-radius: 4px; pointer-events: none; }
.vp-editor .vp-keys { position: absolute; left: 0; top: 0; width: 1px; height: 1px; padding: 0; border: 0; opacity: 0; }
.vp-editor .vp-strip { flex: none; width: 100%; height: 44px; touch-action: none; border-radius: 4px; cursor: ew-resize; }
.vp-editor .vp-text { position: absolute; inset: 0; width: 100%; height: 100%; resize: none; font: 11px/1.35 monospace;
  color: inherit; background: var(--comfy-input-bg, #222); border: 1px solid var(--border-color, #4e4e4e);
  padding: 6px; user-select: text; }
.vp-editor .vp-text[aria-invalid=true] { border: 2px solid #e5484d; }
.vp-editor .vp-note { position: absolute; left: 6px; right: 6px; bottom: 5px; pointer-events: none; text-align: center;
  text-shadow: 0 0 3px #000, 0 0 3px #000; color: #eee; }
.vp-editor .vp-status { flex: none; min-height: 15px; max-height: 60px; overflow: auto; user-select: text; }
.vp-editor .vp-status.vp-bad { color: #ff8b8b; }
.vp-editor [hidden] { display: none !important; }
`;

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

const button = (text, title) => make("button", { type: "button", textContent: text, title, "aria-label": title });
const number = (label, title, properties) => {
  const input = make("input", { type: "number", title, "aria-label": title, ...properties });
  return { input, label: make("label", {}, label, input) };
};
const choice = (title, options) =>
  make("select", { title, "aria-label": title }, ...options.map(([value, text]) => make("option", { value, textContent: text })));

/**
 * All elements by name; `root` holds them.
 * @param {(key: string) => string} words the editor's texts
 */
export function buildPanel(words) {
  addStyle();
  const part = {
    path: choice(words("path"), []),
    swatch: make("span", { className: "vp-swatch" }),
    name: make("input", { className: "vp-name", type: "text", title: words("pathName"), "aria-label": words("pathName") }),
    addPath: button(words("addPath"), words("addPathHint")),
    deletePath: button(words("deletePath"), words("deletePathHint")),
    interpolation: choice(words("interpolation"), [["spline", words("spline")], ["polyline", words("polyline")]]),
    reverse: button("⇄", words("reverseHint")),
    undo: button("↶", words("undoHint")),
    redo: button("↷", words("redoHint")),
    hold: button(words("hold"), words("holdHint")),
    auto: button(words("auto"), words("autoHint")),
    deletePoint: button(words("deletePoint"), words("deletePointHint")),
    showAll: button(words("showAll"), words("showAllHint")),
    load: button(words("load"), words("loadHint")),
    json: button("JSON", words("jsonHint")),
    point: choice(words("point"), []),
    colorBy: choice(words("colorBy"), [["time", words("colorByTime")], ["arc", words("colorByArc")]]),
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
  };
  for (const [name, { input }] of Object.entries(fields)) part[name] = input;
  // The attribute: Nodes 2.0 would take the wheel and the middle button for the graph before they get here.
  part.stage = make("div", { className: "vp-stage", "data-capture-wheel": "true" }, part.canvas, part.keys, part.note, part.text);
  part.root = make(
    "div",
    { className: "vp-editor widget-expands" }, // the second class makes Nodes 2.0 give it the free height
    make("div", { className: "vp-bar" }, part.swatch, part.path, part.name, part.interpolation, part.addPath, part.deletePath, part.reverse),
    make("div", { className: "vp-bar" }, part.undo, part.redo, part.hold, part.auto, part.deletePoint, part.showAll, part.load, part.json),
    part.stage,
    part.strip,
    make("div", { className: "vp-bar" }, part.point, fields.x.label, fields.y.label, fields.frame.label, fields.frames.label, part.colorBy),
    part.status,
    part.file,
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

function addStyle() {
  const id = "visual-planner-editor-style";
  if (!document.getElementById(id)) document.head.append(make("style", { id, textContent: STYLE }));
}
