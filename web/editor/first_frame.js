// Finds the picture behind the first-frame input without running the graph.

const SUBGRAPH_INPUT = -10; // LiteGraph's id of the node that stands for a subgraph's inputs
const BYPASSED = 4;
const DEEPEST = 50;

/**
 * Address of the picture that a node's input will get, or null where only a run can tell.
 * @param {object} node LiteGraph node
 * @param {string} inputName
 * @param {(file: {filename: string, subfolder: string, type: string}) => string} addressOf
 */
export function upstreamPicture(node, inputName, addressOf) {
  const input = node.inputs?.find(({ name }) => name === inputName);
  return input?.link == null || !node.graph ? null : follow(node.graph, input.link, addressOf, 0);
}

function follow(graph, linkId, addressOf, depth) {
  const link = graph.getLink?.(linkId) ?? graph.links?.get?.(linkId) ?? graph.links?.[linkId];
  if (!link || depth > DEEPEST) return null;
  const next = (otherGraph, otherLink) => (otherLink == null ? null : follow(otherGraph, otherLink, addressOf, depth + 1));
  if (Number(link.origin_id) === SUBGRAPH_INPUT) {
    const outside = subgraphNode(graph.rootGraph ?? graph, graph);
    return outside ? next(outside.graph, outside.inputs[link.origin_slot]?.link) : null;
  }
  const origin = graph.getNodeById(link.origin_id);
  if (!origin) return null;
  if (origin.subgraph) return next(origin.subgraph, origin.subgraph.outputs[link.origin_slot]?.linkIds?.[0]);
  if (origin.type === "Reroute" || origin.mode === BYPASSED) {
    const type = origin.outputs[link.origin_slot]?.type;
    const passed = origin.inputs?.find((input) => origin.type === "Reroute" || input.type === type);
    return next(graph, passed?.link);
  }
  return loadedPicture(origin, addressOf);
}

/** The node that shows a subgraph, anywhere below a graph. */
function subgraphNode(graph, subgraph) {
  for (const node of graph.nodes ?? []) {
    if (!node.subgraph) continue;
    if (node.subgraph === subgraph) return node;
    const found = subgraphNode(node.subgraph, subgraph);
    if (found) return found;
  }
  return null;
}

function loadedPicture(node, addressOf) {
  if (!/^LoadImage/.test(node.type)) return null;
  const value = node.widgets?.find(({ name }) => name === "image")?.value;
  return typeof value === "string" && value ? addressOf(inputFile(value)) : null;
}

/** ComfyUI's name of a file, "folder/name.png [output]", taken apart. */
export function inputFile(name) {
  const [, path, type] = /^(.*?)(?: \[(input|output|temp)\])?$/.exec(name);
  const slash = path.lastIndexOf("/");
  return { filename: path.slice(slash + 1), subfolder: path.slice(0, Math.max(slash, 0)), type: type ?? "input" };
}

/** Load a picture; rejects when there is none at the address. */
export function loadPicture(address) {
  return new Promise((resolve, reject) => {
    const picture = new Image();
    picture.onload = () => resolve(picture);
    picture.onerror = () => reject(new Error(`no picture at ${address}`));
    picture.src = address;
  });
}
