// The drawn trajectory as a plain, frozen value, and its text: trajectory JSON v1 of visual_planner/trajectory/trajectory.py.
//
// document = {width, height, paths: [{name, interpolation, points: [{x, y, t}]}]}; pixels of the first frame; t from 0
// to 1, null where it is left to Python. While drawing, a path may have fewer than the two points that a plan needs.
import { MAX_DEPTH, firstBadCharacter, lineAndColumn, nestsTooDeep } from "./json_place.js";
import { wordsOf } from "./texts.js";

export const INTERPOLATIONS = ["spline", "polyline"];
const V1_KEYS = ["version", "width", "height", "paths"];
const PATH_KEYS = ["name", "points", "interpolation"];
const POINT_KEYS = ["x", "y", "t"];
const inEnglish = wordsOf("en");

/** What is wrong with a trajectory's text, and where: `key` and `values` of one of the editor's texts. */
export class DocumentError extends Error {
  constructor(key, values = {}) {
    super(inEnglish(key, values));
    Object.assign(this, { key, values });
  }
}

/** A document without any path. */
export function emptyDocument(width, height) {
  return freeze({ width, height, paths: [] });
}

/** Make a document unchangeable, so that a state of the history is never altered afterwards. */
export function freeze(doc) {
  for (const path of doc.paths) {
    path.points.forEach(Object.freeze);
    Object.freeze(path.points);
    Object.freeze(path);
  }
  Object.freeze(doc.paths);
  return Object.freeze(doc);
}

/** Trajectory JSON v1 of a document; `parse` gives an equal document back. */
export function serialise(doc) {
  const paths = doc.paths.map(({ name, points, interpolation }) => ({
    name,
    points: points.map(({ x, y, t }) => (t === null ? { x, y } : { x, y, t })),
    interpolation,
  }));
  return JSON.stringify({ version: 1, width: doc.width, height: doc.height, paths });
}

/**
 * Read a document from its text.
 * @param {string} text trajectory JSON v1, or a list of points, or a list of such lists, as other packs write them
 * @param {{width: number, height: number} | null} size of the first frame, for lists, which do not say it
 * @throws {DocumentError}
 */
export function parse(text, size = null) {
  const record = load(text);
  if (Array.isArray(record)) return fromLists(record, size);
  if (!isObject(record)) throw new DocumentError("notTrajectory", { got: brief(record) });
  knownKeys(record, V1_KEYS, { key: "wholeTrajectory" });
  if (record.version !== 1) throw new DocumentError("badVersion", { got: brief(record.version) });
  const { paths } = record;
  if (!Array.isArray(paths)) throw new DocumentError("pathsNoList", { got: brief(paths) });
  const width = side(record.width ?? size?.width, "width");
  const height = side(record.height ?? size?.height, "height");
  return freeze({ width, height, paths: paths.map((path, index) => readPath(path, index + 1)) });
}

function load(text) {
  if (!text.trim()) throw new DocumentError("noText");
  if (nestsTooDeep(text)) throw new DocumentError("tooDeep", { most: MAX_DEPTH });
  try {
    return JSON.parse(text);
  } catch {
    const place = firstBadCharacter(text);
    const found = place < text.length ? JSON.stringify(text[place]) : { key: "endOfText" };
    throw new DocumentError("notJson", { ...lineAndColumn(text, place), found });
  }
}

function readPath(record, number) {
  const numbered = { key: "pathNumber", values: { number } };
  if (!isObject(record)) throw new DocumentError("pathNoObject", { where: numbered, got: brief(record) });
  knownKeys(record, PATH_KEYS, numbered);
  const name = record.name ?? (number === 1 ? "gripper" : `path ${number}`);
  if (typeof name !== "string") throw new DocumentError("nameNoText", { where: numbered, got: brief(name) });
  const where = whereOf(name);
  const interpolation = record.interpolation ?? "spline";
  if (!INTERPOLATIONS.includes(interpolation)) {
    throw new DocumentError("badInterpolation", { where, got: brief(interpolation) });
  }
  if (!Array.isArray(record.points)) throw new DocumentError("pointsNoList", { where, got: brief(record.points) });
  const points = record.points.map((point, index) => {
    const place = whereOf(name, index + 1);
    if (isObject(point)) knownKeys(point, POINT_KEYS, place);
    return readPoint(point, place);
  });
  checkTimes(points, name);
  return { name, interpolation, points };
}

function readPoint(record, where) {
  const values = Array.isArray(record) ? { x: record[0], y: record[1], t: record[2] } : record;
  if (!isObject(values)) throw new DocumentError("badPoint", { where, got: brief(record) });
  const point = { x: values.x, y: values.y, t: values.t ?? null };
  for (const key of ["x", "y", ...(point.t === null ? [] : ["t"])]) {
    if (!Number.isFinite(point[key])) throw new DocumentError("noNumber", { where, key, got: brief(point[key]) });
  }
  if (point.t !== null && (point.t < 0 || point.t > 1)) throw new DocumentError("badTime", { where, got: point.t });
  return point;
}

function checkTimes(points, name) {
  const bad = firstImpossibleTime(points);
  if (bad >= 0) {
    const where = whereOf(name);
    throw new DocumentError("impossibleTime", { where, time: points[bad].t, number: bad + 1 });
  }
}

/** Index of the first given time that does not increase or leaves no time for points before or after it; -1: none. */
export function firstImpossibleTime(points) {
  const given = points.flatMap((point, index) => (point.t === null ? [] : [index]));
  for (const [place, index] of given.entries()) {
    const { t } = points[index];
    if (place > 0 ? t <= points[given[place - 1]].t : index > 0 && t === 0) return index;
    if (place === given.length - 1 && index < points.length - 1 && t === 1) return index;
  }
  return -1;
}

/** Tracks of other packs: one place per even step of time, joined by straight lines. */
function fromLists(items, size) {
  if (!size) throw new DocumentError("noSize");
  if (!items.length) throw new DocumentError("emptyList");
  const isPoint = (item) => isObject(item) || (Array.isArray(item) && typeof item[0] === "number");
  const lists = isPoint(items[0]) ? [items] : items;
  const paths = lists.map((list, number) => {
    const name = number ? `path ${number + 1}` : "gripper";
    const where = whereOf(name);
    if (!Array.isArray(list)) throw new DocumentError("noPoints", { where, got: brief(list) });
    let points = list.map((point, index) => readPoint(point, whereOf(name, index + 1)));
    if (points.length > 1 && points.every((point) => point.t === null)) {
      points = points.map((point, index) => ({ ...point, t: index / (points.length - 1) }));
    }
    checkTimes(points, name);
    return { name, interpolation: "polyline", points };
  });
  return freeze({ ...size, paths });
}

function side(value, name) {
  if (Number.isInteger(value) && value > 0) return value;
  throw new DocumentError("badSide", { key: name, got: brief(value) });
}

function knownKeys(record, known, where) {
  const unknown = Object.keys(record).filter((key) => !known.includes(key));
  if (unknown.length) throw new DocumentError("unknownKeys", { where, unknown: listed(unknown), known: known.join(", ") });
}

/** A path, or a point of it, as a text of the editor. */
function whereOf(name, number = null) {
  return number === null ? { key: "pathNamed", values: { name } } : { key: "pointOfPath", values: { name, number } };
}

function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** A value that was found, short. */
function brief(value) {
  const text = JSON.stringify(value);
  return text === undefined ? { key: "nothing" } : cut(text);
}

/** Names that were found, the first ones. */
function listed(names) {
  const more = names.length > 8 ? ", ..." : "";
  return `${names.slice(0, 8).map(cut).join(", ")}${more}`;
}

function cut(text) {
  return text.length <= 40 ? text : `${text.slice(0, 37)}...`;
}
