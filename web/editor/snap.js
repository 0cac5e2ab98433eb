// Where a dragged point comes to lie: on guides through other points and the frame's middle, or on a grid.

const GRID_CELLS = 16; // of a grid whose size nobody has chosen, along the frame's shorter side

/** Side of the grid's cells [px] where the user has chosen none. */
export function usualGrid(doc) {
  return Math.max(1, Math.round(Math.min(doc.width, doc.height) / GRID_CELLS));
}

/**
 * The lines that guides lie on: through the points that are not moved, and through the frame's middle.
 * @param {{path: number, point: number}[]} moved points that are being moved
 * @returns {{x: number[], y: number[]}} [px]
 */
export function guideLines(doc, moved) {
  const isMoved = (path, point) => moved.some((one) => one.path === path && one.point === point);
  const others = doc.paths.flatMap(({ points }, path) => points.filter((_, point) => !isMoved(path, point)));
  return {
    x: [...new Set([doc.width / 2, ...others.map(({ x }) => x)])],
    y: [...new Set([doc.height / 2, ...others.map(({ y }) => y)])],
  };
}

/**
 * Draw a place to the guides, and where none is near to the grid.
 * @param {{x: number, y: number}} place [px]
 * @param {object} how
 * @param {{x: number[], y: number[]} | null} how.guides
 * @param {number} how.reach how near a guide must be [px]
 * @param {number | null} how.grid side of the grid's cells [px]
 * @returns {{x: number, y: number, lines: {x?: number, y?: number}}} the place, and the guides that it lies on
 */
export function snapped(place, { guides, reach, grid }) {
  const result = { ...place, lines: {} };
  for (const axis of ["x", "y"]) {
    const line = guides && nearest(guides[axis], place[axis]);
    if (line !== null && Math.abs(line - place[axis]) <= reach) result[axis] = result.lines[axis] = line;
    else if (grid) result[axis] = Math.round(place[axis] / grid) * grid;
  }
  return result;
}

function nearest(values, wanted) {
  return values.reduce((best, value) => {
    return best === null || Math.abs(value - wanted) < Math.abs(best - wanted) ? value : best;
  }, null);
}
