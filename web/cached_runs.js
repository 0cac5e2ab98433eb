// Shows a run again in a page that did not see it: ComfyUI sends nothing of a node that it takes from its cache, unless
// that is an output.
import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";

const OUR_IDS = /^VisualPlanner/;
const RUNS = 64; // newest runs that are looked through
const [TRIES, WAIT_MS] = [20, 100];
const told = new WeakSet(); // nodes of this page that have been told of a run
const cached = new Map(); // run → ids of its nodes that came from the cache

/** The node of an id as the server has it: "7", or "3:7" inside the subgraph of node 3. */
function nodeOf(id) {
  return String(id)
    .split(":")
    .reduce((at, part) => (at?.subgraph ?? at)?.getNodeById?.(Number(part)), app.graph);
}

/** Numbers nodes of prompts: two have the same one where they and all before them are equal, as in ComfyUI's cache. */
class Signatures {
  numbers = new Map(); // text → number

  of(prompt, id, known = new Map()) {
    if (!known.has(id)) {
      const { class_type: type, inputs } = prompt[id];
      const given = Object.entries(inputs).sort(([one], [other]) => (one < other ? -1 : 1));
      const links = given.map(([name, value]) =>
        Array.isArray(value) && value[0] in prompt ? [name, this.of(prompt, value[0], known), value[1]] : [name, value],
      );
      const text = JSON.stringify([type, links]);
      if (!this.numbers.has(text)) this.numbers.set(text, this.numbers.size);
      known.set(id, this.numbers.get(text));
    }
    return known.get(id);
  }
}

/** The newest runs by their ids, as soon as a run is among them: its end is told before it is written down. */
async function newestRuns(promptId) {
  for (let tries = 0; tries < TRIES; tries++) {
    const answer = await api.fetchApi(`/history?max_items=${RUNS}`);
    const runs = answer.ok ? await answer.json() : {};
    if (runs[promptId]) return runs;
    await new Promise((resolve) => setTimeout(resolve, WAIT_MS));
  }
  return {};
}

async function showAgain(promptId) {
  const ids = (cached.get(promptId) ?? []).filter((id) => {
    const node = nodeOf(id);
    return node && OUR_IDS.test(node.type) && !told.has(node);
  });
  cached.delete(promptId);
  if (!ids.length) return;
  const runs = await newestRuns(promptId);
  const now = runs[promptId]?.prompt[2];
  const signatures = new Signatures();
  for (const id of now ? ids : []) {
    const wanted = signatures.of(now, id);
    const before = Object.values(runs)
      .reverse()
      .find(({ prompt, outputs }) => outputs[id] && prompt[2][id] && signatures.of(prompt[2], id) === wanted);
    if (before) nodeOf(id)?.onExecuted?.(before.outputs[id]);
  }
}

app.registerExtension({
  name: "visualplanner.CachedRuns",
  setup() {
    api.addEventListener("execution_cached", ({ detail }) => cached.set(detail.prompt_id, detail.nodes));
    api.addEventListener("execution_success", ({ detail }) => showAgain(detail.prompt_id));
    for (const kind of ["execution_error", "execution_interrupted"]) {
      api.addEventListener(kind, ({ detail }) => cached.delete(detail.prompt_id));
    }
  },
  beforeRegisterNodeDef(nodeType, nodeData) {
    if (!OUR_IDS.test(nodeData.name)) return;
    const { onExecuted } = nodeType.prototype;
    nodeType.prototype.onExecuted = function () {
      told.add(this);
      onExecuted?.apply(this, arguments);
    };
  },
});
