// The page: filters, list, labels and tags, keys. Everything is shown from `state`.
const byId = (id) => document.getElementById(id);
const element = (name, attributes = {}, ...children) => {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (key.startsWith("aria-")) made.setAttribute(key, String(value));
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
};
const number = (value) => value.toLocaleString("en-US");
const images = (count) => `${number(count)} ${count === 1 ? "image" : "images"}`;
const NEIGHBORS = 24, PAGE = 60, LONG = 14;

const count = about.count;
const state = {
  points: new Float32Array(2 * count), visible: new Uint8Array(count).fill(1), selected: new Uint8Array(count),
  groups: new Int32Array(count).fill(-1), selectedCount: 0, shownCount: count, filterVersion: 0,
  current: -1, hovered: -1, rings: [],
};
const facets = [], scores = new Map();
const labels = new Map(), tags = new Map();  // row -> text, row -> [text]
let map, tab = "image", near = null, found = null, colorBy = null, undone = [], listToken = 0;

const say = (text, bad = false) => {
  const line = byId("status");
  line.textContent = text;
  line.classList.toggle("bad", bad);
  line.style.animation = "none";  // so that it begins again
  line.getBoundingClientRect();
  line.style.animation = "";
};
const attempt = async (work) => { try { return await work(); } catch (error) { say(error.message, true); return null; } };

// --- Facets: those of the collection, and what the user writes ---
const textOf = (facet, row) => {
  if (facet.text) return facet.text(row);
  const code = facet.codes[row];
  if (facet.marks) return facet.values.filter((_, bit) => (code >>> bit) & 1).join(", ");
  return code < 0 ? "" : facet.values[code];
};
const written = {
  label: { name: "label", title: "Your labels", values: [], counts: [], marks: false, codes: new Int32Array(count).fill(-1), chosen: new Set(), text: (row) => labels.get(row) ?? "" },
  tag: { name: "tag", title: "Your tags", values: [], counts: [], marks: true, codes: new Int32Array(count), chosen: new Set(), text: (row) => (tags.get(row) ?? []).join(", ") },
};
const MAX_TAGS = 31, MAX_LABELS = 1000;  // that are filtered by; an image shows all of its own
const readWritten = () => {
  for (const [facet, of] of [[written.label, (row) => [labels.get(row)]], [written.tag, (row) => tags.get(row)]]) {
    const rows = [...(facet === written.label ? labels : tags).keys()];
    const sums = new Map();
    rows.forEach((row) => of(row).forEach((text) => sums.set(text, (sums.get(text) ?? 0) + 1)));
    const chosen = new Set([...facet.chosen].map((code) => facet.values[code]));
    facet.values = [...sums.keys()].sort((a, b) => sums.get(b) - sums.get(a)).slice(0, facet.marks ? MAX_TAGS : MAX_LABELS);
    facet.different = sums.size;
    facet.counts = facet.values.map((text) => sums.get(text));
    const code = new Map(facet.values.map((text, i) => [text, i]));
    facet.codes.fill(facet.marks ? 0 : -1);
    for (const row of rows) for (const text of of(row)) if (code.has(text)) {
      if (facet.marks) facet.codes[row] |= 1 << code.get(text); else facet.codes[row] = code.get(text);
    }
    facet.chosen = new Set([...chosen].filter((text) => code.has(text)).map((text) => code.get(text)));
  }
  byId("classes").replaceChildren(...[...new Set([...about.classes, ...written.label.values])].map((value) => element("option", { value })));
  byId("tags").replaceChildren(...written.tag.values.map((value) => element("option", { value })));
};
const allFacets = () => [...facets, written.label, written.tag].filter((facet) => facet.values.length);

const readGroups = () => {
  const facet = colorBy;
  if (!facet) state.groups.fill(-1);
  else if (facet.marks) for (let i = 0; i < count; i++) state.groups[i] = facet.codes[i] ? 31 - Math.clz32(facet.codes[i] & -facet.codes[i]) : -1;
  else state.groups.set(facet.codes);
};

const applyFilters = () => {
  const active = allFacets().filter((facet) => facet.chosen.size);
  const { visible } = state;
  let shown = 0;
  const tests = active.map((facet) => {
    if (facet.marks) { const bits = [...facet.chosen].reduce((sum, bit) => sum | (1 << bit), 0); return (i) => facet.codes[i] & bits; }
    const set = new Uint8Array(facet.values.length);
    facet.chosen.forEach((code) => { set[code] = 1; });
    return (i) => facet.codes[i] >= 0 && set[facet.codes[i]];
  });
  for (let i = 0; i < count; i++) {
    visible[i] = (!found || found[i]) && tests.every((test) => test(i)) ? 1 : 0;
    shown += visible[i];
  }
  state.shownCount = shown;
  state.filterVersion++;
  byId("shown").textContent = shown === count ? images(count) : `${number(shown)} of ${images(count)}`;
  map?.redraw();
  if (tab === "shown") showList();
  showTarget();
};

const svgMark = (group) => {
  const shapes = ["M3 8a5 5 0 1 0 10 0a5 5 0 1 0-10 0z", "M3.5 3.5h9v9h-9z", "M8 2.5l5.8 10.5h-11.6z"];
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg"), path = document.createElementNS(svg.namespaceURI, "path");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("class", "mark");
  svg.setAttribute("aria-hidden", "true");
  path.setAttribute("d", shapes[hasMark(group) ? Math.floor(group / COLORS) : 0]);
  path.setAttribute("class", hasMark(group) ? `c${group % COLORS}` : "unmarked");
  svg.append(path);
  return svg;
};

const showFacets = () => {
  const focus = document.activeElement?.dataset?.entry, typed = document.activeElement?.dataset?.narrow;
  const made = allFacets().map((facet) => {
    const isColor = facet === colorBy;
    const color = element("button", {
      type: "button", class: "color-by", "aria-pressed": isColor, title: `Color the map by ${facet.title.toLowerCase()}`,
      onclick: () => { colorBy = isColor ? null : facet; readGroups(); showFacets(); map.redraw(); },
    }, "Color");
    const narrow = facet.values.length > LONG ? element("input", {
      type: "search", class: "narrow", placeholder: "Which?", "aria-label": `Narrow the values of ${facet.title}`, value: facet.narrow ?? "",
      "data-narrow": facet.name, oninput: (event) => { facet.narrow = event.target.value; showFacets(); },
    }) : null;
    const wanted = (facet.narrow ?? "").toLowerCase();
    const order = facet.values.map((_, code) => code).filter((code) => !wanted || facet.values[code].toLowerCase().includes(wanted));
    const first = order.slice(0, facet.isLong ? 500 : LONG);
    const entries = first.map((code) => element("li", {}, element("button", {
      type: "button", "aria-pressed": facet.chosen.has(code), "data-entry": `${facet.name} ${code}`,
      onclick: () => { if (!facet.chosen.delete(code)) facet.chosen.add(code); applyFilters(); showFacets(); },
    }, isColor ? svgMark(code) : null, element("bdi", {}, facet.values[code]), element("span", { class: "muted" }, number(facet.counts[code])))));
    const more = order.length > first.length && !facet.isLong ? element("button", {
      type: "button", class: "more", onclick: () => { facet.isLong = true; showFacets(); },
    }, `${number(order.length - first.length)} more`) : null;
    const clear = facet.chosen.size ? element("button", {
      type: "button", class: "more", onclick: () => { facet.chosen.clear(); applyFilters(); showFacets(); },
    }, "All") : null;
    return element("section", { class: "facet", "aria-label": facet.title },
      element("div", { class: "facet-head" }, element("h2", {}, facet.title), clear, color), narrow, element("ul", {}, ...entries), more,
      facet.different > facet.values.length ? element("p", { class: "note" }, `${number(facet.values.length)} of ${number(facet.different)} shown, the most frequent`) : null,
      isColor && !hasMark(facet.values.length - 1) ? element("p", { class: "note" }, `The first ${MARKS} have a mark each; the others are gray on the map`) : null);
  });
  byId("facets").replaceChildren(...(made.length ? made : [element("p", { class: "note" }, "Nothing is known of these images besides their names.")]));
  if (focus) document.querySelector(`[data-entry="${CSS.escape(focus)}"]`)?.focus();
  if (typed) { const field = document.querySelector(`[data-narrow="${CSS.escape(typed)}"]`); field?.focus(); field?.setSelectionRange(field.value.length, field.value.length); }
};

// --- The current image and its neighbors ---
const showImage = async () => {
  const row = state.current, panel = byId("image");
  if (near?.query) {
    panel.replaceChildren(element("figure", { class: "large" }, near.query.picture, element("figcaption", {}, element("strong", {}, near.query.name), element("span", { class: "muted" }, near.query.note))));
    return;
  }
  if (row < 0) {
    panel.replaceChildren(element("p", { class: "lead" }, about.canEncode
      ? "Choose an image on the map, or drop an image file on the page: its nearest neighbors appear here."
      : "Choose an image on the map: its nearest neighbors appear here."));
    return;
  }
  await attempt(() => source.loadNames([row]));
  if (row !== state.current) return;
  const known = source.about(row), picture = source.picture(row, 384);
  if (picture instanceof Image) picture.alt = known.name ?? "";
  const facts = [
    ["File", known.path ?? known.name], ...allFacets().map((facet) => [facet.title.replace(/^Your (label|tag)s$/, "Your $1"), textOf(facet, row)]),
    ...[...scores].map(([name, values]) => [name, Number.isFinite(values[row]) ? values[row].toPrecision(3) : ""]),
    ["Size", known.width ? `${known.width} × ${known.height} px` : ""],
  ].filter(([, text]) => text);
  panel.replaceChildren(element("figure", { class: "large" }, picture, element("figcaption", {},
    element("strong", {}, element("bdi", {}, (known.name ?? "").split("/").pop())),
    element("dl", { class: "facts" }, ...facts.flatMap(([name, text]) => [element("dt", {}, name), element("dd", {}, element("bdi", {}, text))])))));
};

const choose = (row, { focus = false } = {}) => {
  if (row < 0) return;
  state.current = row;
  near = null;
  state.rings = [];
  hover(-1);
  map.reveal(row);
  if (focus) byId("map").focus();
  showImage();
  showTarget();
  openTab("image");
  findNeighbors([row]);
};

const findNeighbors = async (rows) => {
  const reply = await attempt(() => source.neighbors(rows, NEIGHBORS));
  if (!reply || (rows.length === 1 && state.current !== rows[0])) return;
  takeNeighbors(reply);
};
const takeNeighbors = (reply, query = null) => {
  near = { ...reply, query };
  state.rings = reply.rows;
  map.redraw();
  showImage();
  openTab("image");
};

const searchByFile = async (file) => {
  if (!file) return;
  if (!about.canEncode) { say("This page is a file without an encoder. `coview browse` on the run serves a page that searches by images.", true); return; }
  if (file.size > about.maxBytes) { say(`${file.name} is larger than ${about.maxBytes / 2 ** 20} MiB, the most that is searched by.`, true); return; }
  say(`Searching by ${file.name} ...`);
  const reply = await attempt(() => source.similar(file, NEIGHBORS));
  if (!reply) return;
  const picture = new Image();
  picture.alt = file.name;
  picture.src = URL.createObjectURL(file);
  picture.onerror = () => picture.remove();  // the browser knows fewer kinds of files than the decoder
  state.current = -1;
  takeNeighbors(reply, { name: file.name, note: "The images nearest to this file, which is not on the map", picture });
  say(`${images(reply.rows.length)} nearest to ${file.name}`);
  showTarget();
};

const moreLikeSelection = async () => {
  const rows = selectedRows();
  if (!rows.length) { say("Select images first: more like them are searched for.", true); return; }
  if (rows.length > 1000) say("The first 1,000 of the selected images are taken.");
  const reply = await attempt(() => source.neighbors(rows.slice(0, 1000), NEIGHBORS));
  if (!reply) return;
  state.current = -1;
  takeNeighbors(reply, { name: `More like ${images(rows.length)}`, note: "Nearest to the mean of the selection", picture: source.picture(rows[0], 128) });
  showTarget();
};

// --- The list: neighbors, the selection, or all shown ---
const selectedRows = () => { const rows = []; for (let i = 0; i < count; i++) if (state.selected[i]) rows.push(i); return rows; };
const shownRows = () => { const rows = []; for (let i = 0; i < count; i++) if (state.visible[i]) rows.push(i); return rows; };
const sorted = (rows) => {
  const values = scores.get(byId("sort")?.value);
  return values ? [...rows].sort((a, b) => (values[b] || 0) - (values[a] || 0) || a - b) : rows;
};

const tile = (row, caption) => {
  const picture = source.picture(row, 96), name = source.name(row);
  if (picture instanceof Image) picture.alt = "";
  const same = tab === "image" && near && !near.query && facets[0]?.name === "class" && state.current >= 0
    ? (facets[0].codes[row] < 0 || facets[0].codes[state.current] < 0 ? "" : facets[0].codes[row] === facets[0].codes[state.current] ? " same" : " different") : "";
  const button = element("button", {
    type: "button", class: `tile${same}`, "data-row": row, "aria-pressed": Boolean(state.selected[row]),
    title: name, "aria-label": `${name || `image ${row}`}${caption ? `, ${caption}` : ""}${same ? (same === " same" ? ", same class" : ", another class") : ""}`,
    onclick: (event) => {
      if (event.shiftKey || event.ctrlKey || event.metaKey) toggle(row); else choose(row);
    },
    onmouseenter: () => { state.hovered = row; map.redraw(); }, onmouseleave: () => { state.hovered = -1; map.redraw(); },
    onfocus: () => { state.hovered = row; map.redraw(); }, onblur: () => { state.hovered = -1; map.redraw(); },
  }, picture, element("span", { class: "caption" }, caption || element("bdi", {}, name.split("/").pop())));
  return button;
};

const showList = async () => {
  const token = ++listToken, list = byId("list"), tools = byId("list-tools");
  const rows = tab === "image" ? near?.rows ?? [] : sorted(tab === "selection" ? selectedRows() : shownRows());
  const captions = tab === "image" && near ? near.cosines.map((value) => value.toFixed(2).replace("-", "−")) : null;
  showTools(tools, rows);
  list.replaceChildren();
  list.setAttribute("aria-labelledby", `tab-${tab}`);
  if (!rows.length) {
    const text = { image: "", selection: "Nothing is selected. Draw a lasso, or press x on an image.", shown: "No image passes the filters." }[tab];
    list.append(element("p", { class: "note" }, text));
    return;
  }
  const grid = element("div", { class: "tiles" });
  list.append(grid);
  let at = 0;
  const more = async () => {
    const part = rows.slice(at, at + PAGE), first = at;
    at += part.length;
    await attempt(() => source.loadNames(part));
    if (token !== listToken) return;
    grid.append(...part.map((row, i) => tile(row, captions?.[first + i])));
    if (at < rows.length) {
      const rest = element("button", { type: "button", class: "more" }, `${number(rows.length - at)} more`);
      const go = () => { watch.disconnect(); rest.remove(); more(); };
      const watch = new IntersectionObserver((entries) => { if (entries.some((entry) => entry.isIntersecting)) go(); }, { rootMargin: "200px" });
      rest.addEventListener("click", go);
      list.append(rest);
      watch.observe(rest);
    }
  };
  await more();
};

const showTools = (tools, rows) => {
  if (tab === "image") {
    tools.replaceChildren(...(rows.length ? [element("button", { type: "button", class: "switch", onclick: () => select(rows, "add") }, "Select these")] : []));
    return;
  }
  const value = byId("sort")?.value ?? "";
  const sort = scores.size ? element("select", { id: "sort", "aria-label": "Order", onchange: () => showList() },
    element("option", { value: "" }, "In order"), ...[...scores.keys()].map((name) => element("option", { value: name, selected: name === value }, `By ${name}`))) : null;
  const own = tab === "selection"
    ? [element("button", { type: "button", class: "switch", onclick: moreLikeSelection, disabled: !rows.length }, "More like these"),
       element("button", { type: "button", class: "switch", onclick: () => select([], "set"), disabled: !rows.length }, "Clear")]
    : [element("button", { type: "button", class: "switch", onclick: () => select(rows, "add"), disabled: !rows.length }, "Select all shown")];
  tools.replaceChildren(...own, ...(sort ? [sort] : []));
};

const openTab = (name) => {
  tab = name;
  for (const button of document.querySelectorAll("[role=tab]")) {
    const on = button.dataset.tab === name;
    button.setAttribute("aria-selected", on);
    button.tabIndex = on ? 0 : -1;
  }
  showList();
};

// --- Selection ---
const select = (rows, how) => {
  if (how === "set") state.selected.fill(0);
  for (const row of rows) state.selected[row] = how === "remove" ? 0 : 1;
  afterSelection();
};
const toggle = (row) => { if (row >= 0) { state.selected[row] ^= 1; afterSelection(); } };
const afterSelection = () => {
  state.selectedCount = state.selected.reduce((sum, value) => sum + value, 0);
  byId("tab-selection").textContent = state.selectedCount ? `Selection (${number(state.selectedCount)})` : "Selection";
  for (const button of document.querySelectorAll(".tile")) button.setAttribute("aria-pressed", Boolean(state.selected[button.dataset.row]));
  say(state.selectedCount ? `${images(state.selectedCount)} selected` : "Nothing is selected");
  map.redraw();
  showTarget();
  if (tab === "selection") showList();
};
const enclose = (rows, event) => {
  select(rows, event.altKey ? "remove" : event.shiftKey ? "add" : "set");
  openTab("selection");
};

// --- Labels and tags ---
const targets = () => (state.selectedCount ? selectedRows() : state.current >= 0 ? [state.current] : []);
const showTarget = () => {
  const rows = state.selectedCount || (state.current >= 0 ? 1 : 0);
  byId("target").textContent = !rows ? "Label and tag: choose an image, or select some"
    : state.selectedCount ? `Label and tag ${state.selectedCount === 1 ? "the selected image" : `the ${images(rows)} selected`}` : "Label and tag this image";
  for (const id of ["label", "tag", "set-label", "add-tag", "remove-tag"]) byId(id).disabled = !rows;
  byId("undo").disabled = !undone.length;
};

// A change is [row, label or null, tags to add, tags to remove]: what another page has written stays.
const inverse = ([row, label, added, removed], [, oldLabel, old]) =>
  [row, label === null ? null : oldLabel, removed.filter((tag) => old.includes(tag)), added.filter((tag) => !old.includes(tag))];
const write = async (changes, what, { isUndo = false } = {}) => {
  if (!changes.length) return true;
  const reply = await attempt(() => source.annotate(changes));
  if (!reply) return false;
  for (const [row, label, list] of reply.rows) {
    if (label) labels.set(row, label); else labels.delete(row);
    if (list.length) tags.set(row, list); else tags.delete(row);
  }
  if (!isUndo) undone = [...undone.slice(-49), changes.map((change, i) => inverse(change, reply.before[i]))];
  readWritten();
  readGroups();
  applyFilters();
  showFacets();
  if (!near?.query) showImage();
  say(what + (reply.path ? `, written to ${reply.path}` : ""));
  if (reply.path) byId("saved").textContent = `Written to ${reply.path}`;
  return true;
};
const setLabel = (label) => {
  const rows = targets();
  const text = label.trim();
  write(rows.map((row) => [row, text, [], []]), text ? `${images(rows.length)} labeled ${text}` : `Label of ${images(rows.length)} removed`);
};
const setTag = (tag, on) => {
  const rows = targets(), text = tag.trim();
  if (!text) { say("Write the tag first.", true); byId("tag").focus(); return; }
  write(rows.map((row) => [row, null, on ? [text] : [], on ? [] : [text]]), `${images(rows.length)} ${on ? "tagged" : "no longer tagged"} ${text}`);
};
const undo = async () => {
  const last = undone.pop();  // at once, so that a second key takes back the change before
  if (last && !await write(last, `The last change of ${images(last.length)} is taken back`, { isUndo: true })) undone.push(last);
  showTarget();
};

const download = async () => {
  const rows = state.selectedCount ? selectedRows() : shownRows();
  const done = await attempt(async () => { await source.loadNames(rows); return true; });
  if (!done) return;
  const quote = (text) => (/[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const classFacet = facets.find((facet) => facet.name === "class");
  const lines = rows.map((row) => {
    const known = source.about(row);
    return [known.name ?? "", known.path ?? "", labels.get(row) ?? (classFacet ? textOf(classFacet, row) : ""), (tags.get(row) ?? []).join(";")].map(quote).join(",");
  });
  const link = element("a", { href: URL.createObjectURL(new Blob([`name,path,label,tags\n${lines.join("\n")}\n`], { type: "text/csv" })), download: `${about.title}.csv` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  say(`${images(rows.length)} in ${about.title}.csv`);
};

// --- The small window beside the pointer ---
const tip = byId("tip");
let tipTimer = 0;
const hover = (row, event) => {
  if (row === state.hovered) return;
  state.hovered = row;
  map?.redraw();
  clearTimeout(tipTimer);
  if (row < 0 || !event) { tip.hidden = true; return; }
  tipTimer = setTimeout(async () => {
    const picture = source.picture(row, 128), caption = element("span", {});
    if (picture instanceof Image) picture.alt = "";
    tip.replaceChildren(picture, caption);
    tip.hidden = false;
    const label = () => [colorBy ? textOf(colorBy, row) : "", source.name(row)].filter(Boolean).join("\n");
    caption.textContent = label();
    const [x, y] = map.placeOf(row);
    const width = 160, height = 190;
    tip.style.left = `${Math.max(8, x + 18 + width > innerWidth ? x - width - 18 : x + 18)}px`;
    tip.style.top = `${Math.min(Math.max(8, y - height / 2), innerHeight - height - 8)}px`;
    await attempt(() => source.loadNames([row]));
    caption.textContent = label();
  }, 60);
};

// --- Keys ---
const isTyping = (target) => target.matches("input:not([type=radio]):not([type=checkbox]), select, textarea");
const mapKey = (event) => {
  const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  if (!ways[event.key]) return false;
  const [dx, dy] = ways[event.key];
  if (event.shiftKey) map.pan(-60 * dx, -60 * dy);
  else {
    const next = map.step(dx, dy);
    if (next >= 0) {
      state.current = next;
      state.rings = [];
      near = null;
      map.reveal(next);
      showImage();
      showTarget();
      if (tab === "image") showList();
    }
  }
  return true;
};
const focused = () => { const row = document.activeElement?.dataset?.row; return row === undefined ? state.current : Number(row); };
const commands = {
  "+": () => map.zoom(1.5), "=": () => map.zoom(1.5), "-": () => map.zoom(1 / 1.5), 0: () => map.fit(),
  x: () => toggle(focused()), v: () => { select(map.rowsInView(), "add"); openTab("selection"); },
  l: () => byId("lasso").click(), t: () => byId("tag").focus(), u: undo, n: moreLikeSelection,
  "/": () => byId("find").focus(), "?": () => byId("help").click(),
};
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || byId("keys").open) return;
  const { target } = event;
  if (event.key === "Escape") {
    if (isTyping(target)) target.blur();
    else if (byId("lasso").getAttribute("aria-pressed") === "true") byId("lasso").click();
    else if (state.selectedCount) select([], "set");
    return;
  }
  if (isTyping(target)) return;
  const onMap = target === byId("map");
  if (onMap && mapKey(event)) return event.preventDefault();
  if (onMap && event.key === "Enter") { choose(state.current); return event.preventDefault(); }
  if (/^[1-9]$/.test(event.key)) {
    const name = about.classes[Number(event.key) - 1];
    if (name !== undefined && targets().length) setLabel(name);
    return;
  }
  if (commands[event.key]) { event.preventDefault(); commands[event.key](); }
});
document.querySelector("[role=tablist]").addEventListener("keydown", (event) => {
  const way = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!way) return;
  const all = [...document.querySelectorAll("[role=tab]")];
  const next = all[(all.findIndex((button) => button.dataset.tab === tab) + way + all.length) % all.length];
  openTab(next.dataset.tab);
  next.focus();
  event.preventDefault();
});

// --- Controls ---
const listen = () => {
  byId("lasso").addEventListener("click", (event) => {
    const on = event.currentTarget.getAttribute("aria-pressed") !== "true";
    event.currentTarget.setAttribute("aria-pressed", on);
    map.setLasso(on);
    if (on) say("Draw around images to select them. Shift adds, Alt takes away.");
  });
  byId("select-view").addEventListener("click", commands.v);
  byId("zoom-in").addEventListener("click", () => map.zoom(1.6));
  byId("zoom-out").addEventListener("click", () => map.zoom(1 / 1.6));
  byId("fit").addEventListener("click", () => map.fit());
  byId("help").addEventListener("click", () => byId("keys").showModal());
  byId("undo").addEventListener("click", undo);
  byId("download").addEventListener("click", download);
  byId("remove-tag").addEventListener("click", () => setTag(byId("tag").value, false));
  byId("write").addEventListener("submit", (event) => {
    event.preventDefault();
    const isTag = event.submitter ? event.submitter.id === "add-tag" : document.activeElement === byId("tag");
    if (isTag || document.activeElement === byId("tag")) setTag(byId("tag").value, true);
    else setLabel(byId("label").value);
  });
  byId("tag").addEventListener("keydown", (event) => {
    if (event.key === "Enter") { event.preventDefault(); setTag(byId("tag").value, true); }
  });
  for (const input of document.querySelectorAll("[name=marks]")) input.addEventListener("change", () => map.setMode(input.value));
  for (const button of document.querySelectorAll("[role=tab]")) button.addEventListener("click", () => openTab(button.dataset.tab));
  byId("by-file")?.addEventListener("click", () => byId("file").click());
  byId("file")?.addEventListener("change", (event) => { searchByFile(event.target.files[0]); event.target.value = ""; });

  let findTimer = 0;
  const find = async () => {
    const text = byId("find").value.trim();
    if (!text) { found = null; applyFilters(); return; }
    const rows = await attempt(() => source.find(text));
    if (!rows || text !== byId("find").value.trim()) return;
    found = new Uint8Array(count);
    rows.forEach((row) => { found[row] = 1; });
    applyFilters();
    say(`${images(rows.length)} named so`);
  };
  byId("find").addEventListener("input", () => { clearTimeout(findTimer); findTimer = setTimeout(find, 150); });
  document.querySelector("[role=search]").addEventListener("submit", (event) => { event.preventDefault(); find(); });

  // An image file dropped anywhere.
  let depth = 0;
  const hasFile = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  const cover = (on) => { byId("drop").hidden = !on; };
  byId("drop").textContent = about.canEncode ? "Search by this image" : "This page cannot search by image files";
  addEventListener("dragenter", (event) => { if (hasFile(event)) { depth++; cover(true); event.preventDefault(); } });
  addEventListener("dragover", (event) => { if (hasFile(event)) event.preventDefault(); });
  addEventListener("dragleave", (event) => { if (hasFile(event) && --depth <= 0) { depth = 0; cover(false); } });
  addEventListener("drop", (event) => {
    if (!hasFile(event)) return;
    event.preventDefault();
    depth = 0;
    cover(false);
    searchByFile(event.dataTransfer.files[0]);
  });
};

const begin = async () => {
  // The token of the address is a cookie now; it need not stay in the history.
  if (!about.static && location.search) history.replaceState(null, "", location.pathname);
  if (innerWidth < 820) byId("filters").open = false;
  const [arrays, saved] = await Promise.all([source.arrays(), source.annotations()]);
  state.points = new Float32Array(arrays, 0, 2 * count);
  let at = 8 * count;
  for (const facet of about.facets) { facets.push({ ...facet, codes: new Int32Array(arrays, at, count), chosen: new Set() }); at += 4 * count; }
  for (const name of about.scores) { scores.set(name, new Float32Array(arrays, at, count)); at += 4 * count; }
  for (const [row, label, list] of saved.rows) { if (label) labels.set(row, label); if (list.length) tags.set(row, list); }
  if (saved.path) byId("saved").textContent = `Written at once to ${saved.path}`;
  readWritten();
  colorBy = facets.find((facet) => !facet.marks && facet.values.length > 1) ?? null;
  readGroups();
  map = makeMap(state, { hover, enclose, choose: (row, event) => {
    if (row < 0) return;
    if (event.shiftKey || event.ctrlKey || event.metaKey) toggle(row); else choose(row);
  } });
  listen();
  showFacets();
  showImage();
  showTarget();
  openTab("image");
  document.documentElement.dataset.ready = "";
};
begin().catch((error) => say(error.message, true));
