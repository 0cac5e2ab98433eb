// The drawn trajectory as a plain, frozen value, and its text: trajectory JSON v1 of visual_planner/trajectory.py.
//
// document = {width, height, paths: [{name, interpolation, points: [{x, y, t}]}]}; pixels of the first frame; t from 0
// to 1, null where it is left to Python. While drawing, a path may have fewer than the two points that a plan needs.
import { firstBadCharacter, lineAndColumn } from "./json_place.js";

export const INTERPOLATIONS = ["spline", "polyline"];
const V1_KEYS = ["version", "width", "height", "paths"];
const PATH_KEYS = ["name", "points", "interpolation"];
const POINT_KEYS = ["x", "y", "t"];

/** What is wrong with a trajectory's text; the message says where. */
export class DocumentError extends Error {}

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
  if (!isObject(record)) throw new DocumentError(`a trajectory must be an object or a list, got ${brief(record)}`);
  knownKeys(record, V1_KEYS, "the trajectory");
  if (record.version !== 1) throw new DocumentError(`"version" must be 1, got ${brief(record.version)}`);
  const { paths } = record;
  if (!Array.isArray(paths)) throw new DocumentError(`"paths" must be a list, got ${brief(paths)}`);
  const width = side(record.width ?? size?.width, "width");
  const height = side(record.height ?? size?.height, "height");
  return freeze({ width, height, paths: paths.map((path, index) => readPath(path, index + 1)) });
}

function load(text) {
  if (!text.trim()) throw new DocumentError("there is no text");
  try {
    return JSON.parse(text);
  } catch {
    const place = firstBadCharacter(text);
    const found = place < text.length ? JSON.stringify(text[place]) : "the end of the text";
    throw new DocumentError(`not JSON: ${lineAndColumn(text, place)}: unexpected ${found}`);
  }
}

function readPath(record, number) {
  if (!isObject(record)) throw new DocumentError(`path ${number} must be an object, got ${brief(record)}`);
  knownKeys(record, PATH_KEYS, `path ${number}`);
  const name = record.name ?? (number === 1 ? "gripper" : `path ${number}`);
  if (typeof name !== "string") throw new DocumentError(`path ${number}: "name" must be text, got ${brief(name)}`);
  const interpolation = record.interpolation ?? "spline";
  if (!INTERPOLATIONS.includes(interpolation)) {
    throw new DocumentError(`path "${name}": "interpolation" must be spline or polyline, got ${brief(interpolation)}`);
  }
  if (!Array.isArray(record.points)) {
    throw new DocumentError(`path "${name}": "points" must be a list, got ${brief(record.points)}`);
  }
  const points = record.points.map((point, index) => {
    const where = `path "${name}", point ${index + 1}`;
    if (isObject(point)) knownKeys(point, POINT_KEYS, where);
    return readPoint(point, where);
  });
  checkTimes(points, name);
  return { name, interpolation, points };
}

function readPoint(record, where) {
  const values = Array.isArray(record) ? { x: record[0], y: record[1], t: record[2] } : record;
  if (!isObject(values)) throw new DocumentError(`${where} must be {"x": .., "y": ..}, got ${brief(record)}`);
  const point = { x: values.x, y: values.y, t: values.t ?? null };
  for (const key of ["x", "y", ...(point.t === null ? [] : ["t"])]) {
    if (!Number.isFinite(point[key])) throw new DocumentError(`${where}: "${key}" must be a number, got ${brief(point[key])}`);
  }
  if (point.t !== null && (point.t < 0 || point.t > 1)) {
    throw new DocumentError(`${where}: "t" must be between 0 and 1, got ${point.t}`);
  }
  return point;
}

function checkTimes(points, name) {
  const bad = firstImpossibleTime(points);
  if (bad >= 0) {
    throw new DocumentError(`path "${name}": times must increase and leave room for every point, see t=${points[bad].t} at point ${bad + 1}`);
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
  if (!size) throw new DocumentError("a list of points does not say the size of its frame: connect or load the first frame");
  if (!items.length) throw new DocumentError("the list is empty");
  const isPoint = (item) => isObject(item) || (Array.isArray(item) && typeof item[0] === "number");
  const lists = isPoint(items[0]) ? [items] : items;
  const paths = lists.map((list, number) => {
    const name = number ? `path ${number + 1}` : "gripper";
    if (!Array.isArray(list)) throw new DocumentError(`${name} must be a list of points, got ${brief(list)}`);
    let points = list.map((point, index) => readPoint(point, `${name}, point ${index + 1}`));
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
  throw new DocumentError(`"${name}" must be a positive whole number of pixels, got ${brief(value)}`);
}

function knownKeys(record, known, where) {
  const unknown = Object.keys(record).filter((key) => !known.includes(key));
  if (unknown.length) throw new DocumentError(`${where} has unknown keys: ${unknown.join(", ")}; known are ${known.join(", ")}`);
}

function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function brief(value) {
  const text = JSON.stringify(value) ?? "nothing";
  return text.length <= 40 ? text : `${text.slice(0, 37)}...`;
}
