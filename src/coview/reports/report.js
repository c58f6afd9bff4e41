"use strict";
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const tip = document.getElementById("tip");

  const shape = (name, attributes) => {
    const element = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    return element;
  };

  // Viewbox units of the point where a pointer is.
  const inside = (svg, event) =>
    new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());

  const showTip = (svg, x, y, ...content) => {
    tip.replaceChildren(...content);
    tip.hidden = false;
    const place = new DOMPoint(x, y).matrixTransform(svg.getScreenCTM());
    const box = tip.getBoundingClientRect();
    const beside = place.x + 16 + box.width > innerWidth ? place.x - 16 - box.width : place.x + 16;
    tip.style.left = `${Math.max(8, beside)}px`;
    tip.style.top = `${Math.min(Math.max(8, place.y - box.height / 2), innerHeight - box.height - 8)}px`;
  };

  // follow(svg, pick, walk, show): pick(point) and walk(key, current) give an index or -1.
  const follow = (svg, pick, walk, show) => {
    const cursor = svg.querySelector(".cursor");
    let current = -1;
    const go = (index) => { current = index; if (index >= 0) show(index, cursor); else leave(); };
    const leave = () => { current = -1; cursor.replaceChildren(); tip.hidden = true; };
    svg.addEventListener("pointermove", (event) => go(pick(inside(svg, event))));
    svg.addEventListener("pointerdown", (event) => go(pick(inside(svg, event))));
    svg.addEventListener("pointerleave", leave);
    svg.addEventListener("blur", leave);
    svg.addEventListener("focus", () => { if (svg.matches(":focus-visible")) go(walk("Home", current)); });
    svg.addEventListener("keydown", (event) => {
      if (event.key === "Escape") return leave();
      if (!/^(Arrow(Left|Right|Up|Down)|Home|End)$/.test(event.key)) return;
      event.preventDefault();
      go(walk(event.key, current));
    });
  };

  const chart = (svg) => {
    const rows = JSON.parse(svg.dataset.points);
    if (!rows.length) return;
    const height = svg.viewBox.baseVal.height;
    const pick = (point) => {
      let best = 0;
      rows.forEach((row, i) => { if (Math.abs(row[0] - point.x) < Math.abs(rows[best][0] - point.x)) best = i; });
      return best;
    };
    const walk = (key, current) => {
      if (key === "Home" || current < 0) return 0;
      if (key === "End") return rows.length - 1;
      const step = key === "ArrowRight" || key === "ArrowUp" ? 1 : -1;
      return Math.min(Math.max(current + step, 0), rows.length - 1);
    };
    follow(svg, pick, walk, (index, cursor) => {
      const [x, text, ...heights] = rows[index];
      cursor.replaceChildren(
        shape("line", { x1: x, x2: x, y1: 12, y2: height - 38 }),
        ...heights.map((y) => shape("circle", { cx: x, cy: y, r: 4 })));
      showTip(svg, x, heights[0] ?? height / 2, text);
    });
  };
  document.querySelectorAll(".plot").forEach(chart);

  const map = document.getElementById("map");
  if (map) {
    const data = JSON.parse(document.getElementById("map-data").textContent);
    const sheet = new Image();
    sheet.src = data.sheet;
    let single = -1;
    let pictured = null;
    const seen = (i) => single < 0 || data.groups[i] === single;
    const source = (i) =>
      [(i % data.columns) * data.size, Math.floor(i / data.columns) * data.size, data.size, data.size];

    const nearest = (x, y, limit, allowed) => {
      let best = -1;
      data.points.forEach(([px, py], i) => {
        const far = Math.hypot(px - x, py - y);
        if (far < limit && seen(i) && (!pictured || pictured.has(i)) && allowed(px, py)) { limit = far; best = i; }
      });
      return best;
    };
    const pick = (point) => nearest(point.x, point.y, 40, () => true);
    const walk = (key, current) => {
      if (current < 0 || key === "Home") return nearest(300, data.height / 2, Infinity, () => true);
      const [x, y] = data.points[current];
      const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
      const [dx, dy] = ways[key] ?? [0, 0];
      const ahead = (px, py) => {
        const along = (px - x) * dx + (py - y) * dy;
        return along > 0 && along >= Math.abs((px - x) * dy) + Math.abs((py - y) * dx);
      };
      const next = nearest(x, y, Infinity, ahead);
      return next < 0 ? current : next;
    };
    follow(map, pick, walk, (index, cursor) => {
      const [x, y] = data.points[index];
      cursor.replaceChildren(shape("circle", { cx: x, cy: y, r: 8 }));
      const picture = document.createElement("canvas");
      picture.width = picture.height = 128;
      const context = picture.getContext("2d");
      const paint = () => context.drawImage(sheet, ...source(index), 0, 0, 128, 128);
      if (sheet.complete) paint(); else sheet.addEventListener("load", paint, { once: true });
      const title = data.titles.length > 1 ? `${data.titles[data.groups[index]]}\n` : "";
      showTip(map, x, y, picture, title + data.names[index]);
    });

    // Pictures instead of marks, in the order of the gallery, where they do not overlap.
    const canvas = document.getElementById("map-pictures");
    const paintAll = () => {
      const side = canvas.clientWidth, high = canvas.clientHeight;
      const ratio = devicePixelRatio || 1, size = Math.max(28, side / 14);
      canvas.width = side * ratio;
      canvas.height = high * ratio;
      const context = canvas.getContext("2d"), placed = [];
      pictured = new Set();
      context.scale(ratio, ratio);
      data.points.forEach(([px, py], i) => {
        const x = (px / 600) * (side - size), y = (py / data.height) * (high - size);
        const free = placed.every(([u, v]) => Math.max(Math.abs(u - x), Math.abs(v - y)) > size);
        if (!seen(i) || !free) return;
        placed.push([x, y]);
        pictured.add(i);
        context.drawImage(sheet, ...source(i), x, y, size, size);
      });
    };
    const button = document.getElementById("map-switch");
    const redraw = () => { if (!canvas.hidden) paintAll(); };
    const setPictures = (on) => {
      canvas.hidden = !on;
      pictured = null;
      button.setAttribute("aria-pressed", on);
      map.querySelectorAll(".points").forEach((path) => { path.style.visibility = on ? "hidden" : ""; });
      redraw();
    };
    button.addEventListener("click", () => setPictures(canvas.hidden));
    addEventListener("resize", redraw);

    document.querySelectorAll(".classes button").forEach((entry) => entry.addEventListener("click", () => {
      const group = Number(entry.dataset.group);
      single = single === group ? -1 : group;
      document.querySelectorAll(".classes button").forEach((other) =>
        other.setAttribute("aria-pressed", Number(other.dataset.group) === single));
      map.querySelectorAll(".points").forEach((path) =>
        path.classList.toggle("dimmed", single >= 0 && Number(path.dataset.group) !== single));
      redraw();
    }));
  }

  // Copy a command; where the browser has no clipboard for a file it is selected instead.
  document.querySelectorAll(".copy").forEach((button) => button.addEventListener("click", async () => {
    const code = button.parentElement.querySelector("code");
    let copied = true;
    try {
      await navigator.clipboard.writeText(code.textContent);
    } catch {
      getSelection().selectAllChildren(code);
      copied = document.execCommand("copy");
    }
    button.textContent = copied ? "Copied" : "Selected";
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  }));

  // The page of a run that is going: load it again, with the same parts open and at the same place.
  const seconds = Number(document.body.dataset.reload);
  if (seconds) {
    const details = [...document.querySelectorAll("details")];
    const key = `coview ${location.pathname}`;
    const remember = () => JSON.stringify({ open: details.map((d) => d.open), y: scrollY });
    try {
      const kept = JSON.parse(sessionStorage.getItem(key));
      if (kept) {
        details.forEach((d, i) => { d.open = Boolean(kept.open[i]); });
        scrollTo({ top: kept.y, behavior: "instant" });
      }
    } catch { /* a browser that keeps nothing for files */ }
    // A run that was killed writes no page that says so.
    const state = document.querySelector("[data-written]"), patience = 10;
    const minutes = state ? Math.floor((Date.now() - Date.parse(state.dataset.written)) / 60000) : 0;
    if (minutes >= patience)
      state.append(` · not written again for ${minutes} minutes: the run may have stopped, which coview report RUN tells`);
    setInterval(() => {
      if (document.hidden || !tip.hidden || String(getSelection())) return;
      try { sessionStorage.setItem(key, remember()); } catch { /* as above */ }
      location.reload();
    }, seconds * 1000);
  }

  addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((d) => { d.open = true; }));
})();
