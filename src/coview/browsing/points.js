// Points in the unit square: a grid that finds those in a rectangle and the one nearest to a place.
const makeGrid = (points) => {
  const count = points.length / 2;
  const side = Math.max(1, Math.min(1024, Math.floor(Math.sqrt(count / 3))));
  const cell = (value) => Math.min(side - 1, Math.max(0, Math.floor(value * side)));
  const starts = new Int32Array(side * side + 1), order = new Int32Array(count);
  const cellOf = (i) => cell(points[2 * i + 1]) * side + cell(points[2 * i]);
  for (let i = 0; i < count; i++) starts[cellOf(i) + 1]++;
  for (let c = 0; c < side * side; c++) starts[c + 1] += starts[c];
  const next = starts.slice();
  for (let i = 0; i < count; i++) order[next[cellOf(i)]++] = i;

  // visit(i) for every point of the cells that the rectangle touches.
  const each = (x0, y0, x1, y1, visit) => {
    const left = cell(x0), right = cell(x1);
    for (let row = cell(y0), last = cell(y1); row <= last; row++)
      for (let k = starts[row * side + left], end = starts[row * side + right + 1]; k < end; k++) visit(order[k]);
  };

  // The nearest point within a radius for which allowed(i) holds, or -1.
  const nearest = (x, y, radius, allowed) => {
    let best = -1, limit = radius * radius;
    each(x - radius, y - radius, x + radius, y + radius, (i) => {
      const dx = points[2 * i] - x, dy = points[2 * i + 1] - y, far = dx * dx + dy * dy;
      if (far < limit && allowed(i)) { limit = far; best = i; }
    });
    return best;
  };

  // The nearest point, however far, by rings of growing radius.
  const nearestAnywhere = (x, y, allowed) => {
    for (let radius = 2 / side; radius < 4; radius *= 2) {
      const found = nearest(x, y, radius, allowed);
      if (found >= 0) return found;
    }
    return -1;
  };
  return { each, nearest, nearestAnywhere };
};

// Whether (x, y) is inside a polygon [[x, y], ...]: the even-odd rule.
const isInside = (polygon, x, y) => {
  let inside = false;
  for (let i = 0, j = polygon.length - 1; i < polygon.length; j = i++) {
    const [xi, yi] = polygon[i], [xj, yj] = polygon[j];
    if (yi > y !== yj > y && x < ((xj - xi) * (y - yi)) / (yj - yi) + xi) inside = !inside;
  }
  return inside;
};
