// Where points, pictures, names and neighbors come from: a server, or the page itself.
const about = JSON.parse(document.getElementById("about").textContent);
const ratio = () => Math.min(2, devicePixelRatio || 1);

const decodeBytes = (text) => {
  const raw = atob(text), bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  return bytes.buffer;
};

const makeServerSource = () => {
  const ask = async (address, init) => {
    let reply;
    try { reply = await fetch(address, init); } catch { throw new Error("The server does not answer; is `coview browse` still running?"); }
    if (!reply.ok) throw new Error(await reply.text());
    return reply;
  };
  const json = async (address, init) => (await ask(address, init)).json();
  const post = (address, body) => json(address, { method: "POST", body });
  const names = new Map();
  const version = `&v=${about.version}`;  // rows are those of this start of the server
  return {
    arrays: async () => (await ask(`arrays?${version}`)).arrayBuffer(),
    loadNames: async (rows) => {
      const missing = rows.filter((row) => !names.has(row));
      for (let i = 0; i < missing.length; i += 500)
        for (const image of await json(`images?rows=${missing.slice(i, i + 500)}${version}`)) names.set(image.row, image);
    },
    name: (row) => names.get(row)?.name ?? "",
    about: (row) => names.get(row) ?? {},
    find: async (text) => new Int32Array(await (await ask(`find?text=${encodeURIComponent(text)}${version}`)).arrayBuffer()),
    neighbors: (rows, k) => json(`neighbors?rows=${rows}&k=${k}${version}`),
    similar: (file, k) => post(`similar?name=${encodeURIComponent(file.name)}&k=${k}${version}`, file),
    annotations: () => json(`annotations?${version}`),
    annotate: (changes) => post(`annotate?${version}`, JSON.stringify(changes)),
    sheet: async (rows, size) =>
      createImageBitmap(await (await ask(`sheet?rows=${rows}&size=${size}${version}`)).blob()),
    picture: (row, size) => {
      const image = new Image();
      image.loading = "lazy";
      image.src = `thumb?row=${row}&size=${Math.round(size * ratio())}${version}`;
      return image;
    },
  };
};

const makeStaticSource = (held) => {
  const neighbors = new Int32Array(decodeBytes(held.neighbors)), cosines = new Float32Array(decodeBytes(held.cosines));
  const sheets = new Map(), annotated = new Map();  // row -> [row, label, tags]
  const sheetOf = (row) => {
    const number = Math.floor(row / held.perSheet);
    if (!sheets.has(number)) {
      const image = new Image();
      image.src = held.sheets[number];
      sheets.set(number, image.decode().then(() => image));
    }
    return sheets.get(number);
  };
  const place = (row) => {
    const inside = row % held.perSheet;
    return [(inside % about.columns) * held.side, Math.floor(inside / about.columns) * held.side];
  };
  return {
    arrays: async () => decodeBytes(held.arrays),
    loadNames: async () => {},
    name: (row) => held.names[row],
    about: (row) => ({ row, name: held.names[row], path: held.paths[row] || null }),
    find: async (text) => {
      const wanted = text.toLowerCase();
      return Int32Array.from(held.names.flatMap((name, row) => (name.toLowerCase().includes(wanted) ? [row] : [])));
    },
    // The table holds neighbors of single images: of several, those that most of them share.
    neighbors: async (rows, k) => {
      const own = new Set(rows), sums = new Map();
      for (const row of rows)
        for (let i = row * held.k; i < (row + 1) * held.k; i++)
          if (!own.has(neighbors[i])) sums.set(neighbors[i], (sums.get(neighbors[i]) ?? 0) + cosines[i]);
      const best = [...sums].sort((a, b) => b[1] - a[1]).slice(0, k);
      return { rows: best.map(([row]) => row), cosines: best.map(([, sum]) => sum / rows.length) };
    },
    annotations: async () => ({ path: "", rows: [] }),
    annotate: async (changes) => {
      const before = changes.map(([row]) => annotated.get(row) ?? [row, "", []]);
      const rows = changes.map(([row, label, added, removed], i) =>
        [row, label ?? before[i][1], [...new Set([...before[i][2], ...added])].filter((tag) => !removed.includes(tag))]);
      rows.forEach((line) => annotated.set(line[0], line));
      return { path: "", rows, before };
    },
    place, sheetOf,
    picture: (row, size) => {
      const canvas = document.createElement("canvas");
      canvas.width = canvas.height = held.side;
      canvas.style.width = `${size}px`;
      canvas.setAttribute("role", "img");
      sheetOf(row).then((image) =>
        canvas.getContext("2d").drawImage(image, ...place(row), held.side, held.side, 0, 0, held.side, held.side));
      return canvas;
    },
  };
};

const source = about.static ? makeStaticSource(about.static) : makeServerSource();

// Pictures for the map, many to a sheet: get(row) gives [image, x, y, side], or null until it is there.
const makeThumbs = (onLoad) => {
  const side = about.static ? about.static.side : ratio() > 1 ? 128 : 96;
  const places = new Map(), sheets = [], failed = new Set();
  let waiting = new Set(), loading = 0, timer = 0;
  const MAX_SHEETS = 24, PER_SHEET = 128, PATIENCE = 60_000;

  const keep = (rows, image) => {
    sheets.push({ rows, image });
    rows.forEach((row, i) => places.set(row, [image, (i % about.columns) * side, Math.floor(i / about.columns) * side, side]));
    while (sheets.length > MAX_SHEETS) {
      const old = sheets.shift();
      for (const row of old.rows) if (places.get(row)?.[0] === old.image) places.delete(row);
      old.image.close();
    }
  };
  // What has failed stays null and is not asked for at each drawing, but after a while or a click.
  const retry = () => {
    if (!failed.size) return;
    for (const row of failed) if (places.get(row) === null) places.delete(row);
    failed.clear();
    onLoad();
  };
  const load = async () => {
    timer = 0;
    const rows = [...waiting].slice(0, PER_SHEET);
    if (!rows.length || loading >= 2) return;
    rows.forEach((row) => { waiting.delete(row); places.set(row, null); });
    loading++;
    try { keep(rows, await source.sheet(rows, side)); } catch { rows.forEach((row) => failed.add(row)); setTimeout(retry, PATIENCE); }
    loading--;
    onLoad();
    if (waiting.size) load();
  };
  const loadStatic = (row) => {
    places.set(row, null);
    source.sheetOf(row).then((image) => { places.set(row, [image, ...source.place(row), side]); onLoad(); });
  };
  return {
    get: (row) => {
      const place = places.get(row);
      if (place !== undefined) return place;
      if (about.static) { loadStatic(row); return null; }
      waiting.add(row);
      if (!timer) timer = setTimeout(load, 40);
      return null;
    },
    // What has gone out of view before it was asked for is not needed.
    forget: () => { waiting = new Set(); },
    retry,
  };
};
