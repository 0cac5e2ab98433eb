// Random edit sequences on the editor's pure state. Writes {sequences, edits, texts} of the documents at their ends.
import assert from "node:assert/strict";
import * as edits from "../../web/editor/edits.js";
import { emptyDocument, firstImpossibleTime, parse, serialise } from "../../web/editor/document.js";
import { Session } from "../../web/editor/session.js";

/** Numbers in [0, 1) from a seed (mulberry32). */
function generator(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let mixed = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

const pick = (random, count) => Math.floor(random() * count);

/** Some points of all paths. */
function randomGroup(doc, random) {
  const all = doc.paths.flatMap(({ points }, path) => points.map((_, point) => ({ path, point })));
  return all.filter(() => random() < 0.4);
}

/** One random edit of a document; the same document where it does not apply. */
function randomEdit(doc, random) {
  const path = pick(random, doc.paths.length);
  if (!doc.paths.length || random() < 0.04) return edits.addPath(doc);
  const { points } = doc.paths[path];
  const [x, y] = [random() * 1.2 - 0.1, random() * 1.2 - 0.1].map((share, axis) => share * [doc.width, doc.height][axis]);
  const kind = random();
  if (!points.length || kind < 0.35) return edits.insertPoint(doc, path, pick(random, points.length + 1), x, y);
  const at = pick(random, points.length);
  if (kind < 0.42) return edits.movePoint(doc, path, at, x, y);
  if (kind < 0.47) return edits.movePoints(doc, randomGroup(doc, random), x - points[at].x, y - points[at].y);
  if (kind < 0.49) return edits.mirrorPoints(doc, randomGroup(doc, random), "xy"[pick(random, 2)]);
  if (kind < 0.5) return edits.deletePoints(doc, randomGroup(doc, random).slice(0, 3));
  if (kind < 0.58) return edits.deletePoint(doc, path, at);
  if (kind < 0.76) return edits.setTime(doc, path, at, random() < 0.2 ? null : [0, 1, random(), random()][pick(random, 4)]);
  if (kind < 0.84) return edits.holdPoint(doc, path, at);
  if (kind < 0.88) return edits.reversePath(doc, path);
  if (kind < 0.92) return edits.setInterpolation(doc, path, ["spline", "polyline"][pick(random, 2)]);
  if (kind < 0.95) return edits.renamePath(doc, path, `näme "${pick(random, 100)}"\n`);
  if (kind < 0.98) return edits.deletePath(doc, path);
  return edits.resized(doc, 1 + pick(random, 2000), 1 + pick(random, 2000));
}

function step(session, random) {
  const before = session.doc;
  if (random() < 0.2) {
    session.begin();
    for (let moves = pick(random, 4); moves >= 0; moves--) session.drag(randomEdit(session.doc, random));
    if (random() < 0.3) {
      session.cancel();
      assert.equal(session.doc, before, "a cancelled drag leaves the document as it was");
    } else session.commit();
  } else if (random() < 0.2) {
    session.selectGroup(randomGroup(session.doc, random));
    const { group } = session;
    session.editGroup(edits.movePoints(session.doc, session.group, random() * 9, random() * 9));
    assert.deepEqual(session.group, group, "what is moved together stays selected");
  } else {
    session.edit(randomEdit(session.doc, random), { path: pick(random, 3) - 1, point: pick(random, 8) - 1 });
  }
  return session.doc !== before;
}

function check(session) {
  const { doc } = session;
  const text = serialise(doc);
  assert.deepEqual(parse(text), doc);
  assert.equal(serialise(parse(text)), text);
  for (const path of doc.paths) {
    assert.equal(firstImpossibleTime(path.points), -1);
    for (const { x, y } of path.points) assert.ok(x >= 0 && x <= doc.width && y >= 0 && y <= doc.height);
  }
  for (const one of session.group) assert.ok(session.doc.paths[one.path].points[one.point], "only points that are there are selected");
  assert.equal(session.holds(session.selection.path, session.selection.point), session.selection.point >= 0);
  const { path, point } = session.selection;
  assert.ok(path < doc.paths.length && point < (doc.paths[path]?.points.length ?? 0));
}

function runSequence(seed) {
  const random = generator(seed);
  const session = new Session(emptyDocument(640, 480));
  const states = [session.doc];
  const length = 20 + pick(random, 60);
  while (states.length < length) {
    if (step(session, random)) states.push(session.doc);
    check(session);
    if (random() < 0.15) wander(session, states, random);
  }
  for (let at = states.length - 1; at > 0; at--) {
    assert.equal(session.doc, states[at], "undo returns each earlier state");
    session.undo();
  }
  assert.equal(session.doc, states[0]);
  assert.equal(session.canUndo, false);
  for (const state of states.slice(1)) {
    session.redo();
    assert.equal(session.doc, state, "redo returns each later state");
  }
  assert.equal(session.canRedo, false);
  return { text: serialise(session.doc), edits: states.length - 1 };
}

/** Some steps back, and all of them forth again, or a new way from there. */
function wander(session, states, random) {
  if (states.length === 1) return;
  const back = 1 + pick(random, Math.min(5, states.length - 1));
  for (let count = 0; count < back; count++) session.undo();
  const at = states.length - 1 - back;
  assert.equal(session.doc, states[at]);
  if (random() < 0.5) {
    for (let count = 0; count < back; count++) session.redo();
    assert.equal(session.doc, states.at(-1));
    return;
  }
  states.length = at + 1;
}

const count = Number(process.argv[2]);
const results = Array.from({ length: count }, (_, index) => runSequence(index + 1));
const total = results.reduce((sum, result) => sum + result.edits, 0);
process.stdout.write(JSON.stringify({ sequences: count, edits: total, texts: results.map(({ text }) => text) }));
