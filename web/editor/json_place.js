// Where a text stops being JSON. Browsers word this differently and some do not say the place at all.

/** Deepest nesting of lists and objects that the editor reads; as MAX_DEPTH in visual_planner/json_text.py. */
export const MAX_DEPTH = 64;

/**
 * Whether lists and objects are nested deeper than MAX_DEPTH, in a text that may be no JSON.
 * @param {string} text
 */
export function nestsTooDeep(text) {
  let depth = 0;
  let quoted = false;
  for (let at = 0; at < text.length; at++) {
    const sign = text[at];
    if (quoted) {
      if (sign === "\\") at++;
      else if (sign === '"') quoted = false;
    } else if (sign === '"') quoted = true;
    else if ((sign === "[" || sign === "{") && ++depth > MAX_DEPTH) return true;
    else if (sign === "]" || sign === "}") depth--;
  }
  return false;
}

/**
 * Index of the first character that cannot be JSON, or -1 for good JSON.
 * @param {string} text
 */
export function firstBadCharacter(text) {
  let at = 0;
  const fail = () => {
    throw at;
  };
  const space = () => {
    while (" \t\n\r".includes(text[at] ?? "x")) at++;
  };
  const match = (pattern) => {
    pattern.lastIndex = at;
    const found = pattern.exec(text);
    if (!found) fail();
    at += found[0].length;
  };
  const string = () => {
    if (text[at] !== '"') fail();
    at++;
    while (text[at] !== '"') {
      if (at >= text.length || text[at] < " ") fail();
      match(/\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})|[^\\]/y);
    }
    at++;
  };
  const list = (close, item) => {
    at++;
    space();
    if (text[at] === close) return void at++;
    for (;;) {
      item();
      space();
      if (text[at] === close) return void at++;
      if (text[at] !== ",") fail();
      at++;
      space();
    }
  };
  const value = () => {
    space();
    const sign = text[at];
    if (sign === "{") {
      list("}", () => {
        string();
        space();
        if (text[at] !== ":") fail();
        at++;
        value();
      });
    } else if (sign === "[") list("]", value);
    else if (sign === '"') string();
    else match(/true|false|null|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y);
  };
  try {
    value();
    space();
    return at < text.length ? at : -1;
  } catch (place) {
    if (typeof place === "number") return place;
    throw place;
  }
}

/** Line and column, from 1, of an index in a text. */
export function lineAndColumn(text, index) {
  const before = text.slice(0, index).split("\n");
  return { line: before.length, column: before.at(-1).length + 1 };
}
