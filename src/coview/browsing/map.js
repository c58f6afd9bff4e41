// The map: dots on one canvas, written pixel by pixel; pictures, rings and the lasso on another.
// state: points, visible, selected (Uint8Array), groups (Int32Array, -1 none), current, hovered, rings.
const COLORS = 10;
const MARKS = 3 * COLORS;  // in three shapes; further values are gray, as images without any
const hasMark = (group) => group >= 0 && group < MARKS;

const makeMap = (state, act) => {
  const base = document.getElementById("dots"), over = document.getElementById("map");
  const paint = base.getContext("2d", { alpha: false }), draw = over.getContext("2d");
  const grid = makeGrid(state.points);
  const count = state.points.length / 2;
  const thumbs = makeThumbs(() => redraw());
  const view = { x: 0.5, y: 0.5, scale: 1, fit: 1 };
  let width = 0, height = 0, pixels = null, words = null, palette = null, planned = false;
  let mode = "near", lasso = null, isLasso = false, pictured = new Map(), sheetView = "";
  let cell = 1, cells = new Map(), covered = new Map();

  // Colors of the style sheet, as [r, g, b].
  const color = (name) => {
    paint.fillStyle = getComputedStyle(document.documentElement).getPropertyValue(name).trim();
    const hex = paint.fillStyle;
    return [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
  };
  const readPalette = () => {
    const groups = Array.from({ length: COLORS }, (_, i) => color(`--c${i}`));
    palette = { groups, ground: color("--card"), none: color("--muted"), ink: color("--ink"), rule: color("--rule"), first: color("--first") };
  };
  const css = ([r, g, b], alpha = 1) => `rgb(${r} ${g} ${b} / ${alpha})`;

  // Screen (CSS pixels) and map.
  const toX = (i) => (state.points[2 * i] - view.x) * view.scale + width / 2;
  const toY = (i) => (state.points[2 * i + 1] - view.y) * view.scale + height / 2;
  const fromScreen = (x, y) => [(x - width / 2) / view.scale + view.x, (y - height / 2) / view.scale + view.y];
  const bounds = () => [...fromScreen(0, 0), ...fromScreen(width, height)];

  const resize = () => {
    const box = over.getBoundingClientRect(), dpr = ratio();
    const wasFit = view.scale === view.fit;
    width = box.width; height = box.height;
    for (const canvas of [base, over]) { canvas.width = Math.max(1, Math.round(width * dpr)); canvas.height = Math.max(1, Math.round(height * dpr)); }
    pixels = paint.createImageData(base.width, base.height);
    words = new Uint32Array(pixels.data.buffer);
    view.fit = Math.max(20, Math.min(width, height) * 0.94);
    if (wasFit) view.scale = view.fit;
    render();  // now: a canvas that was resized is black
  };

  // The coverage of a mark, 0 .. 255, of radius r device pixels: a disc, a square, a triangle.
  const masks = new Map();
  const maskOf = (shape, r) => {
    const key = `${shape} ${r.toFixed(1)}`;
    if (masks.has(key)) return masks.get(key);
    const half = Math.ceil(r * 1.3) + 1, side = 2 * half + 1, cover = new Uint8Array(side * side);
    const inside = [
      (x, y) => x * x + y * y <= r * r,
      (x, y) => Math.max(Math.abs(x), Math.abs(y)) <= r * 0.88,
      (x, y) => y <= r * 0.8 && y >= Math.abs(x) * 1.75 - r * 1.2,
    ][shape];
    for (let row = 0; row < side; row++)
      for (let column = 0; column < side; column++) {
        let hits = 0;
        for (let a = 0; a < 4; a++) for (let b = 0; b < 4; b++)
          hits += inside(column - half + (a - 1.5) / 4, row - half + (b - 1.5) / 4);
        cover[row * side + column] = Math.round((hits / 16) * 225);
      }
    const mask = { half, side, cover };
    masks.set(key, mask);
    return mask;
  };

  const stamp = (mask, x, y, [r, g, b]) => {
    const w = base.width, h = base.height, { half, side, cover } = mask;
    const left = Math.round(x) - half, top = Math.round(y) - half;
    if (left < 0 || top < 0 || left + side > w || top + side > h) return;
    for (let row = 0, k = 0; row < side; row++) {
      let at = (top + row) * w + left;
      for (let column = 0; column < side; column++, at++, k++) {
        const a = cover[k];
        if (!a) continue;
        const old = words[at], n = 255 - a;
        words[at] = 0xff000000
          | ((((old >>> 16) & 255) * n + b * a) / 255) << 16
          | ((((old >>> 8) & 255) * n + g * a) / 255) << 8
          | ((old & 255) * n + r * a) / 255;
      }
    }
  };

  const radius = () => {
    const first = Math.min(5, Math.max(1.1, 0.3 * Math.sqrt((width * height) / count)));
    return Math.min(6.5, first * Math.max(1, (view.scale / view.fit) ** 0.45)) * ratio();
  };

  // Half of what is stored would be outside: the corners of the view, with a margin.
  const inView = (visit) => {
    const [x0, y0, x1, y1] = bounds(), { points } = state;
    grid.each(x0, y0, x1, y1, (i) => {
      const x = points[2 * i], y = points[2 * i + 1];
      if (x >= x0 && x <= x1 && y >= y0 && y <= y1) visit(i);
    });
  };

  const drawDots = () => {
    const { ground, none, rule, groups } = palette, dpr = ratio(), r = radius();
    words.fill(0xff000000 | (ground[2] << 16) | (ground[1] << 8) | ground[0]);
    const faint = maskOf(0, Math.max(0.8, r * 0.6)), shapes = [0, 1, 2].map((shape) => maskOf(shape, r));
    const { visible } = state, shown = [];
    inView((i) => { if (visible[i]) shown.push(i); else stamp(faint, toX(i) * dpr, toY(i) * dpr, rule); });
    choosePictures(shown);
    for (const i of shown) {
      if (isCovered(i)) continue;
      const group = state.groups[i];
      const shape = hasMark(group) ? Math.floor(group / COLORS) : 0;
      stamp(shapes[shape], toX(i) * dpr, toY(i) * dpr, hasMark(group) ? groups[group % COLORS] : none);
    }
    paint.putImageData(pixels, 0, 0);
    return shown;
  };

  // One picture for each cell of a grid that is fixed to the map: the current image, else the first.
  const choosePictures = (shown) => {
    cells = new Map();
    const area = (width * height) / Math.max(1, shown.length);  // of the view, for each image
    const fine = area > 128 ** 2 ? 128 : 72, near = area > 72 ** 2 / 6;
    if (mode === "dots" || (mode === "near" && !near)) return;
    cell = 2 ** Math.floor(Math.log2(fine / view.scale));
    const key = `${cell} ${state.filterVersion}`;
    if (key !== sheetView) { thumbs.forget(); sheetView = key; }
    for (const i of shown) {
      const at = cellOf(i), other = cells.get(at);
      if (other === undefined || i === state.current || (i < other && other !== state.current)) cells.set(at, i);
    }
    covered = new Map([...cells].map(([at, i]) => [at, thumbs.get(i)]).filter(([, place]) => place));
  };
  // A point at 1 lies in the last cell, not in one outside of the map.
  const cellAt = (place) => Math.min(Math.floor(place / cell), Math.ceil(1 / cell) - 1);
  const cellOf = (i) => cellAt(state.points[2 * i + 1]) * 1048576 + cellAt(state.points[2 * i]);
  const isCovered = (i) => cells.size > 0 && covered.has(cellOf(i));

  const drawPictures = () => {
    pictured = new Map();
    if (!cells.size) return;
    const size = cell * view.scale;
    const side = size - 2, pad = (size - side) / 2;
    for (const [at, place] of covered) {
      const i = cells.get(at);
      const row = Math.floor(at / 1048576), column = at - row * 1048576;
      const x = (column * cell - view.x) * view.scale + width / 2 + pad;
      const y = (row * cell - view.y) * view.scale + height / 2 + pad;
      const [image, sx, sy, length] = place;
      draw.drawImage(image, sx, sy, length, length, x, y, side, side);
      pictured.set(i, [x, y, side]);
      const group = state.groups[i];
      if (hasMark(group)) { draw.fillStyle = css(palette.groups[group % COLORS]); draw.fillRect(x, y + side - 3, side, 3); }
    }
  };

  const ring = (i, size, style, line) => {
    draw.lineWidth = line;
    draw.strokeStyle = style;
    const box = pictured.get(i);
    draw.beginPath();
    if (box) draw.rect(box[0] - 1, box[1] - 1, box[2] + 2, box[2] + 2);
    else draw.arc(toX(i), toY(i), size, 0, 2 * Math.PI);
    draw.stroke();
  };

  const drawOver = (shown) => {
    const dpr = ratio(), r = radius() / dpr;
    draw.setTransform(dpr, 0, 0, dpr, 0, 0);
    draw.clearRect(0, 0, width, height);
    drawPictures();
    if (state.selectedCount) {
      const dots = new Path2D();
      for (const i of shown) if (state.selected[i]) {
        const box = pictured.get(i);
        if (box) dots.rect(box[0], box[1], box[2], box[2]);
        else dots.rect(toX(i) - r - 1, toY(i) - r - 1, 2 * r + 2, 2 * r + 2);
      }
      draw.lineWidth = 1.5;
      draw.strokeStyle = css(palette.ink);
      draw.stroke(dots);
    }
    for (const i of state.rings) ring(i, r + 4, css(palette.first), 2);
    for (const i of [state.hovered, state.current]) if (i >= 0) ring(i, r + 6, css(palette.ink), i === state.current ? 3 : 1.5);
    if (lasso && lasso.length > 1) {
      draw.beginPath();
      lasso.forEach(([x, y], k) => (k ? draw.lineTo(x, y) : draw.moveTo(x, y)));
      draw.closePath();
      draw.fillStyle = css(palette.first, 0.12);
      draw.strokeStyle = css(palette.first);
      draw.lineWidth = 1.5;
      draw.fill();
      draw.stroke();
    }
  };

  const render = () => {
    planned = false;
    if (!width) return;
    performance.mark("draw");
    drawOver(drawDots());
    performance.measure("coview-draw", "draw");
    if (performance.getEntriesByName("coview-draw").length > 2000) performance.clearMeasures("coview-draw");
    performance.clearMarks("draw");
    if (!performance.getEntriesByName("coview-first-picture").length) performance.mark("coview-first-picture");
  };
  const redraw = () => { if (!planned) { planned = true; requestAnimationFrame(render); } };

  const zoom = (factor, x = width / 2, y = height / 2) => {
    const [mapX, mapY] = fromScreen(x, y);
    view.scale = Math.min(view.fit * Math.max(50, Math.sqrt(count) * 4), Math.max(view.fit * 0.5, view.scale * factor));
    view.x = mapX - (x - width / 2) / view.scale;
    view.y = mapY - (y - height / 2) / view.scale;
    redraw();
  };
  const pan = (dx, dy) => {
    view.x = Math.min(1.5, Math.max(-0.5, view.x - dx / view.scale));
    view.y = Math.min(1.5, Math.max(-0.5, view.y - dy / view.scale));
    redraw();
  };
  const fit = () => { view.x = view.y = 0.5; view.scale = view.fit; redraw(); };
  // Move so that an image is in the view.
  const reveal = (i) => {
    const x = toX(i), y = toY(i), margin = 24;
    if (x < margin || y < margin || x > width - margin || y > height - margin) { view.x = state.points[2 * i]; view.y = state.points[2 * i + 1]; }
    redraw();
  };

  const pick = (x, y, reach) => {
    for (const [i, [left, top, side]] of pictured)
      if (x >= left && x <= left + side && y >= top && y <= top + side) return i;
    return grid.nearest(...fromScreen(x, y), reach / view.scale, (i) => state.visible[i]);
  };

  // The next image in a direction, within 45 degrees of it.
  const step = (dx, dy) => {
    if (state.current < 0 || !state.visible[state.current]) return grid.nearestAnywhere(view.x, view.y, (i) => state.visible[i]);
    const x = state.points[2 * state.current], y = state.points[2 * state.current + 1];
    const next = grid.nearestAnywhere(x, y, (i) => {
      const along = (state.points[2 * i] - x) * dx + (state.points[2 * i + 1] - y) * dy;
      const across = Math.abs((state.points[2 * i] - x) * dy) + Math.abs((state.points[2 * i + 1] - y) * dx);
      return along > 0 && along >= across && state.visible[i];
    });
    return next < 0 ? state.current : next;
  };

  // Pointers: one pans or draws the lasso, two zoom.
  const pointers = new Map();
  let start = null;
  const at = (event) => { const box = over.getBoundingClientRect(); return [event.clientX - box.x, event.clientY - box.y]; };
  over.addEventListener("pointerdown", (event) => {
    if (event.button > 0) return;
    over.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, at(event));
    start = pointers.size === 1 ? { x: at(event)[0], y: at(event)[1], moved: false } : null;
    lasso = isLasso && pointers.size === 1 ? [at(event)] : null;
    act.hover(-1);
  });
  over.addEventListener("pointermove", (event) => {
    const [x, y] = at(event);
    if (!pointers.has(event.pointerId)) {
      if (event.pointerType !== "touch") act.hover(pick(x, y, 14), event);
      return;
    }
    const [oldX, oldY] = pointers.get(event.pointerId);
    if (start && !start.moved && Math.hypot(x - start.x, y - start.y) < 5) return;
    if (start) start.moved = true;
    if (lasso) { lasso.push([x, y]); redraw(); }
    else if (pointers.size === 1) pan(x - oldX, y - oldY);
    else {
      const other = [...pointers].find(([id]) => id !== event.pointerId)[1];
      const before = Math.hypot(oldX - other[0], oldY - other[1]), after = Math.hypot(x - other[0], y - other[1]);
      if (before > 4) zoom(after / before, (x + other[0]) / 2, (y + other[1]) / 2);
    }
    pointers.set(event.pointerId, [x, y]);
  });
  const lift = (event) => {
    if (!pointers.delete(event.pointerId)) return;
    const [x, y] = at(event), path = lasso;
    const clicked = event.type === "pointerup" && start && !start.moved;
    lasso = start = null;
    if (clicked) { thumbs.retry(); act.choose(pick(x, y, event.pointerType === "touch" ? 24 : 14), event); }
    else if (path && path.length > 2 && event.type === "pointerup") {
      const polygon = path.map(([px, py]) => fromScreen(px, py)), rows = [];
      inView((i) => { if (state.visible[i] && isInside(polygon, state.points[2 * i], state.points[2 * i + 1])) rows.push(i); });
      act.enclose(rows, event);
    }
    redraw();
  };
  over.addEventListener("pointerup", lift);
  over.addEventListener("pointercancel", lift);
  over.addEventListener("pointerleave", () => { if (!pointers.size) act.hover(-1); });
  over.addEventListener("wheel", (event) => {
    event.preventDefault();
    const unit = event.deltaMode === 1 ? 30 : event.deltaMode === 2 ? 300 : 1;
    zoom(Math.exp(-event.deltaY * unit * 0.0016), ...at(event));
  }, { passive: false });

  readPalette();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { readPalette(); redraw(); });
  new ResizeObserver(resize).observe(over);
  resize();

  return {
    redraw, zoom, pan, fit, reveal, step, grid,
    rowsInView: () => { const rows = []; inView((i) => { if (state.visible[i]) rows.push(i); }); return rows; },
    placeOf: (i) => { const box = over.getBoundingClientRect(); return [box.x + toX(i), box.y + toY(i)]; },
    setMode: (value) => { mode = value; redraw(); },
    setLasso: (on) => { isLasso = on; over.classList.toggle("drawing", on); if (!on) { lasso = null; redraw(); } },
  };
};
