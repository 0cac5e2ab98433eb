// Answers questions about the editor's pure modules: reads {"call": name, "items": [...]} and writes one answer each.
import { readFileSync } from "node:fs";
import { arrowEnds } from "../../web/editor/arrows.js";
import { placeAt, stations, timedCurve } from "../../web/editor/curves.js";
import { parse, serialise } from "../../web/editor/document.js";
import { upstreamPicture } from "../../web/editor/first_frame.js";
import { LANGUAGES, wordsOf } from "../../web/editor/texts.js";
import { distanceBetween } from "../../web/editor/measure.js";
import { Session } from "../../web/editor/session.js";
import { guideLines, snapped } from "../../web/editor/snap.js";
import { View, lineAt, nextOf, pointsAt, pointsIn } from "../../web/editor/view.js";
import * as edits from "../../web/editor/edits.js";
import * as strip from "../../web/editor/strip.js";

const firstPath = (text) => parse(text).paths[0];
const CALLS = {
  curve: (text) => timedCurve(firstPath(text)),
  place: ({ text, time }) => placeAt(timedCurve(firstPath(text)), time),
  arrows: (text) => (({ paths, width, height }) => arrowEnds(paths, [width, height]))(parse(text)),
  stations: ({ text, step }) => stations(timedCurve(firstPath(text)), "time", step),
  /** The document that the text stands for, or the error's message. */
  parse({ text, size }) {
    try {
      return { document: JSON.parse(serialise(parse(text, size))) };
    } catch (error) {
      return { error: error.message, kind: error.constructor.name };
    }
  },
  /** What is wrong with a text, as the editor says it in a language. */
  problem({ text, size, locale }) {
    try {
      return parse(text, size) && null;
    } catch (error) {
      return wordsOf(locale)(error.key, error.values);
    }
  },
  texts: (language) => LANGUAGES[language],
  languages: () => Object.keys(LANGUAGES),
  words: ({ locale, key, values }) => wordsOf(locale)(key, values),
  /** A chain of edits by name: [["insertPoint", 0, 1, x, y], ...]. */
  edit: ({ text, steps }) => JSON.parse(serialise(steps.reduce((doc, [name, ...rest]) => edits[name](doc, ...rest), parse(text)))),
  stack({ text, x, y, reach, clicks }) {
    let selection = { path: 0, point: -1 };
    return Array.from({ length: clicks }, () => (selection = nextOf(pointsAt(parse(text), 0, x, y, reach), selection)));
  },
  box: ({ text, from, to }) => pointsIn(parse(text), from, to),
  distance: ({ text, from, to, frames }) => distanceBetween(parse(text), from, to, frames),
  snapped: ({ text, moved, place, grid, reach, guides }) => snapped(place, { grid, reach, guides: guides ? guideLines(parse(text), moved) : null }),
  /** A session after calls by name: [["toggle", 0, 1], ...]; "edit" takes the name of an edit of its group. */
  session({ text, steps }) {
    const session = new Session(parse(text));
    for (const [name, ...rest] of steps) {
      if (name === "edit") session.editGroup(edits[rest[0]](session.doc, session.group, ...rest.slice(1)));
      else session[name](...rest);
    }
    const { selection, group, doc } = session;
    return { selection, group, document: JSON.parse(serialise(doc)) };
  },
  line: ({ text, x, y, reach }) => lineAt(firstPath(text), x, y, reach),
  view({ frame, canvas, steps }) {
    const view = new View();
    view.resize(frame, canvas);
    for (const [name, ...rest] of steps) view[name](...rest);
    const corner = view.toCanvas(0, 0);
    return { corner, back: view.toFrame(corner.x, corner.y), centre: view.toFrame(canvas[0] / 2, canvas[1] / 2), scale: view.scale };
  },
  strip: ({ time, width, frames }) => strip.timeAt(strip.xOfTime(time, width), width, frames, true),
  snap: ({ x, width, frames, free }) => strip.timeAt(x, width, frames, free),
  upstream: (graph) => upstreamPicture(linked(graph), "first_frame", (file) => JSON.stringify(file)),
};

/** A graph of plain objects, as LiteGraph's would answer; subgraphs may be nested. */
function linked({ nodes, links, wanted }, rootGraph = null, known = {}) {
  const graph = { links: Object.fromEntries(links.map((link) => [link.id, link])) };
  graph.rootGraph = rootGraph ?? graph;
  graph.nodes = nodes.map((node) => ({ inputs: [], outputs: [], widgets: [], mode: 0, ...node, graph }));
  graph.getNodeById = (id) => graph.nodes.find((node) => node.id === id) ?? null;
  known[wanted] ??= null;
  for (const node of graph.nodes) {
    if (node.id === wanted) known[wanted] = node;
    if (!node.subgraph) continue;
    const { inside } = node.subgraph;
    const inner = linked({ wanted, links: [], nodes: [], ...inside }, graph.rootGraph, known);
    node.subgraph = Object.assign(inner.graph, { outputs: node.subgraph.outputs ?? [] });
    for (const item of node.subgraph.nodes) item.graph = node.subgraph;
  }
  return rootGraph ? { graph } : known[wanted];
}

const { call, items } = JSON.parse(readFileSync(0, "utf-8"));
process.stdout.write(JSON.stringify(items.map(CALLS[call])));
