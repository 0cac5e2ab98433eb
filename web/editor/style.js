// How the editor looks. All colours are those of ComfyUI's colour palette, so that it suits light and dark ones.

const STYLE = `
.vp-editor { box-sizing: border-box; width: 100%; height: 100%; min-height: 330px; display: flex; flex-direction: column;
  gap: 3px; font: 11px/1.3 sans-serif; color: var(--input-text, #ddd); user-select: none; overflow: hidden;
  --vp-field: var(--comfy-input-bg, #222); --vp-line: var(--border-color, #4e4e4e);
  --vp-accent: #3b82f6; --vp-bad: var(--error-text, #e5484d); }
.vp-editor * { box-sizing: border-box; font: inherit; }
.vp-editor .vp-bar { display: flex; flex: none; gap: 1px; align-items: center; overflow-x: auto; scrollbar-width: none; }
.vp-editor .vp-fields { gap: 4px; }
.vp-editor button, .vp-editor input, .vp-editor select { height: 24px; color: inherit; border-radius: 4px;
  background: var(--vp-field); border: 1px solid var(--vp-line); padding: 0 4px; margin: 0; }
.vp-editor button { cursor: pointer; flex: 1 1 24px; min-width: 18px; max-width: 30px; padding: 0; display: inline-flex;
  align-items: center; justify-content: center; background: transparent; border-color: transparent; }
.vp-editor button svg { width: 16px; height: 16px; flex: none; fill: none; stroke: currentColor; stroke-width: 1.4;
  stroke-linecap: round; stroke-linejoin: round; pointer-events: none; }
.vp-editor button:hover:not(:disabled) { background: var(--vp-field); border-color: var(--vp-line); }
.vp-editor button:disabled { opacity: .35; cursor: default; }
.vp-editor button:is([aria-pressed=true], [aria-expanded=true]):not(:disabled) { background: var(--vp-accent); color: #fff; }
.vp-editor .vp-gap { flex: 0 1 5px; align-self: stretch; margin: 4px 2px; border-right: 1px solid var(--vp-line); }
.vp-editor :is(button, input, select, textarea):focus-visible { outline: 2px solid var(--vp-accent); outline-offset: -2px; }
.vp-editor label { display: inline-flex; align-items: center; gap: 3px; flex: none; white-space: nowrap; }
.vp-editor select { flex: 1 1 60px; min-width: 36px; text-overflow: ellipsis; }
.vp-editor input[type=number] { width: 44px; appearance: textfield; }
.vp-editor input[type=number]::-webkit-inner-spin-button { appearance: none; margin: 0; }
.vp-editor .vp-short input[type=number] { width: 32px; }
.vp-editor .vp-name { flex: 1 1 70px; min-width: 40px; }
.vp-editor .vp-swatch { width: 10px; height: 10px; border-radius: 50%; border: 1px solid var(--input-text, #000); flex: none; }
.vp-editor .vp-stage { position: relative; flex: 1 1 0; min-height: 120px; border-radius: 4px; overflow: hidden;
  background: var(--vp-field); }
.vp-editor .vp-stage canvas { position: absolute; inset: 0; width: 100%; height: 100%; touch-action: none; cursor: crosshair; }
.vp-editor .vp-stage.vp-focused::after { content: ""; position: absolute; inset: 0; border: 2px solid var(--vp-accent);
  border-radius: 4px; pointer-events: none; }
.vp-editor .vp-keys { position: absolute; left: 0; top: 0; width: 1px; height: 1px; padding: 0; border: 0; opacity: 0; }
.vp-editor .vp-strip { flex: none; width: 100%; height: 44px; touch-action: none; border-radius: 4px; cursor: ew-resize;
  background: var(--vp-field); }
.vp-editor .vp-text { position: absolute; inset: 0; width: 100%; height: 100%; resize: none; font: 11px/1.35 monospace;
  color: inherit; background: var(--vp-field); border: 1px solid var(--vp-line); padding: 6px; user-select: text; }
.vp-editor .vp-text[aria-invalid=true] { border: 2px solid var(--vp-bad); }
.vp-editor .vp-note { position: absolute; left: 6px; right: 6px; bottom: 5px; pointer-events: none; text-align: center;
  text-shadow: 0 0 3px #000, 0 0 3px #000, 0 0 3px #000; color: #fff; }
.vp-editor .vp-status { flex: none; height: 30px; overflow: auto; user-select: text; } /* fixed: the stage must not jump */
.vp-editor .vp-status.vp-bad { color: var(--vp-bad); }
.vp-editor [hidden] { display: none !important; }
`;

const sheet = new CSSStyleSheet();
sheet.replaceSync(STYLE);

/** Put the style into the page, once. */
export function addStyle() {
  if (!document.adoptedStyleSheets.includes(sheet)) document.adoptedStyleSheets.push(sheet);
}

/**
 * Colours of the palette in use, for what is drawn on a canvas.
 * @param {Element} element of the editor
 * @returns {{ink: string, field: string}} of texts and lines, and of what they lie on
 */
export function inkOf(element) {
  const { color, backgroundColor } = getComputedStyle(element);
  return { ink: color, field: backgroundColor };
}
