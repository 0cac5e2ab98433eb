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
const MAX_SIDE = 2 ** 20; // [px]; these bounds are Python's
const MAX_PLACE = 1e12; // [px]
const MAX_PATHS = 4096;
const MAX_POINTS = 100_000;
const NOT_SEEN = -100; // x and y of a point that a tracker has not seen at its time
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
  let record = load(text);
  if (isObject(record) && !("version" in record) && Array.isArray(record.tracks)) record = atiTracks(record);
  if (Array.isArray(record)) return fromLists(record, size);
  if (!isObject(record)) throw new DocumentError("notTrajectory", { got: brief(record) });
  knownKeys(record, V1_KEYS, { key: "wholeTrajectory" });
  if (record.version !== 1) throw new DocumentError("badVersion", { got: brief(record.version) });
  const { paths } = record;
  if (!Array.isArray(paths)) throw new DocumentError("pathsNoList", { got: brief(paths) });
  const width = side("width" in record ? record.width : size?.width, "width");
  const height = side("height" in record ? record.height : size?.height, "height");
  return bounded({ width, height, paths: paths.map((path, index) => readPath(path, index + 1)) });
}

/** A document that is not larger than a trajectory may be. */
function bounded(doc) {
  const points = doc.paths.reduce((sum, path) => sum + path.points.length, 0);
  if (doc.paths.length > MAX_PATHS || points > MAX_POINTS) {
    throw new DocumentError("tooMany", { paths: MAX_PATHS, points: MAX_POINTS });
  }
  return freeze(doc);
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
  const name = "name" in record ? record.name : nameOf(number);
  if (typeof name !== "string") throw new DocumentError("nameNoText", { where: numbered, got: brief(name) });
  const where = whereOf(name);
  const interpolation = "interpolation" in record ? record.interpolation : "spline";
  if (!INTERPOLATIONS.includes(interpolation)) {
    throw new DocumentError("badInterpolation", { where, got: brief(interpolation) });
  }
  if (!Array.isArray(record.points)) throw new DocumentError("pointsNoList", { where, got: brief(record.points) });
  const points = record.points.map((point, index) => {
    const place = whereOf(name, index + 1);
    if (!isObject(point)) throw new DocumentError("badPoint", { where: place, got: brief(point) });
    knownKeys(point, POINT_KEYS, place);
    return readPoint(point, place);
  });
  checkTimes(points, name);
  return { name, interpolation, points };
}

function readPoint(record, where) {
  const short = Array.isArray(record) && (record.length === 2 || record.length === 3);
  const values = short ? { x: record[0], y: record[1], t: record[2] } : record;
  if (!isObject(values)) throw new DocumentError("badPoint", { where, got: brief(record) });
  const point = { x: values.x, y: values.y, t: values.t ?? null };
  for (const key of ["x", "y", ...(point.t === null ? [] : ["t"])]) {
    if (!Number.isFinite(point[key]) || Math.abs(point[key]) > MAX_PLACE) throw new DocumentError("noNumber", { where, key, got: brief(point[key]) });
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

/** Forms of other packs, as visual_planner/trajectory/parse.py reads them. */
function fromLists(items, size) {
  if (!size) throw new DocumentError("noSize");
  if (!items.length) throw new DocumentError("emptyList");
  if (items.every((item) => isObject(item) && "points" in item)) return bounded({ ...size, paths: items.map(editorPath) });
  if (items.every((item) => typeof item === "string")) items = items.map(load);
  else if (isPoint(items[0])) return bounded({ ...size, paths: [track(items, 0, false)] });
  return bounded({ ...size, paths: items.map((item, index) => track(item, index, items.length > 1)) });
}

/** ATI's trajectory editor: two lists of tracks. */
function atiTracks({ tracks, circle_trajectories: circles = [] }) {
  if (!Array.isArray(circles)) throw new DocumentError("pathsNoList", { got: brief(circles) });
  return [...tracks, ...circles];
}

/** A path of the state of KJNodes' spline editor. */
function editorPath(record, index) {
  const name = record.name || nameOf(index + 1);
  const numbered = { key: "pathNumber", values: { number: index + 1 } };
  if (typeof name !== "string") throw new DocumentError("nameNoText", { where: numbered, got: brief(name) });
  const points = readPoints(record.points, name);
  checkTimes(points, name);
  return { name, interpolation: "spline", points: record.isSinglePoint && points.length === 1 ? hold(points[0]) : points };
}

/** A track: one place per even step of time, joined by straight lines. What was not seen is left out. */
function track(items, index, amongOthers) {
  const name = nameOf(index + 1);
  let points = readPoints(items, name);
  if (points.length > 1 && points.every((point) => point.t === null)) {
    points = points.map((point, place) => ({ ...point, t: place / (points.length - 1) }));
  }
  const seen = points.filter(({ x, y }) => x !== NOT_SEEN || y !== NOT_SEEN);
  if (points.length && !seen.length) throw new DocumentError("notSeen", { where: whereOf(name) });
  checkTimes(seen, name);
  return { name, interpolation: "polyline", points: seen.length === 1 && amongOthers ? hold(seen[0]) : seen };
}

function readPoints(list, name) {
  if (!Array.isArray(list)) throw new DocumentError("noPoints", { where: whereOf(name), got: brief(list) });
  return list.map((point, index) => readPoint(point, whereOf(name, index + 1)));
}

function isPoint(item) {
  return isObject(item) || (Array.isArray(item) && item.length > 0 && !Array.isArray(item[0]) && !isObject(item[0]));
}

const hold = ({ x, y }) => [0, 1].map((t) => ({ x, y, t }));
const nameOf = (number) => (number === 1 ? "gripper" : `path ${number}`);

function side(value, name) {
  if (Number.isInteger(value) && value > 0 && value <= MAX_SIDE) return value;
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
