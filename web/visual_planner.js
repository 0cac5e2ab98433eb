// Shows what a node says about its run (checks, prompts, notes) below its widgets.
import { app } from "../../scripts/app.js";

const OUR_IDS = /^VisualPlanner/; // node ids are permanent and all start so
const EDITOR_IDS = /^VisualPlannerTrajectory$/; // shows its run in the editor
const WIDGET = "visual_planner_text";
const MIN_HEIGHT = 48; // [px], three lines

function makeWidget(node) {
  const box = document.createElement("div");
  Object.assign(box.style, {
    boxSizing: "border-box",
    padding: "4px 6px",
    overflow: "auto",
    // A text that is longer than its place is scrolled: in Nodes 2.0 it would make the node grow over its neighbours.
    contain: "size",
    minHeight: `${MIN_HEIGHT}px`,
    whiteSpace: "pre-wrap",
    userSelect: "text",
    font: "11px/1.35 monospace",
    color: "var(--input-text, #ddd)",
    background: "var(--comfy-input-bg, #222)",
    borderRadius: "4px",
  });
  const widget = node.addDOMWidget(WIDGET, "VISUAL_PLANNER_TEXT", box, {
    serialize: false,
    hideOnZoom: false,
    getMinHeight: () => MIN_HEIGHT,
  });
  widget.serialize = false; // never part of a saved workflow
  return widget;
}

function showText(node, lines) {
  let widget = node.widgets?.find((other) => other.name === WIDGET);
  if (!lines?.length) {
    if (widget) widget.element.textContent = "";
    return;
  }
  if (!widget) {
    widget = makeWidget(node);
    const [width, height] = node.computeSize();
    node.setSize([Math.max(node.size[0], width), Math.max(node.size[1], height)]);
  }
  widget.element.textContent = lines.join("\n");
  app.graph?.setDirtyCanvas?.(true, false);
}

app.registerExtension({
  name: "visualplanner.Text",
  beforeRegisterNodeDef(nodeType, nodeData) {
    if (!OUR_IDS.test(nodeData.name) || EDITOR_IDS.test(nodeData.name)) return;
    const onExecuted = nodeType.prototype.onExecuted;
    nodeType.prototype.onExecuted = function (output) {
      onExecuted?.apply(this, arguments);
      showText(this, output?.text);
    };
  },
});
