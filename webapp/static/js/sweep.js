// The pictures of a sweep: a heat map of two parameters, and a line a point across all of them with brushes.
"use strict";
(() => {
  const { grouped, percent, token, numbers, say, readout, onThemeChange } = window.seraphimCharts;

  const told = (value, unit) => {
    if (value === null || value === undefined) return "—";
    if (unit === "%") return percent(value, Math.abs(value) < 0.1 ? 2 : 1);
    if (unit === "count") return grouped(value, 0);
    return grouped(value, Math.abs(value) >= 1000 ? 0 : 2);
  };
  const short = (value) => Number(Number(value).toPrecision(4)).toString();

  function sized(canvas, width, height) {
    const ratio = window.devicePixelRatio || 1;
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    const pen = canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    return pen;
  }

  const rgb = (name) => token(name).match(/[\d.]+/g).slice(0, 3).map(Number);
  const mixed = (from, to, share) => `rgb(${from.map((c, i) => Math.round(c + (to[i] - c) * share)).join(",")})`;

  // from hardly there to the full accent: 0 is the worst that is shown, 1 the best
  function shades() {
    const paper = rgb("panel");
    const ink = rgb("accent");
    return (share) => mixed(paper, ink, 0.07 + 0.88 * share ** 1.4);
  }

  // how light a colour is to the eye (WCAG 2)
  function light(channels) {
    const [r, g, b] = channels.map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  }

  // of the two colours words have, the one that stands out more from a ground, which a canvas tells as #rrggbb
  function legible() {
    const inks = ["text", "on-accent"].map((name) => [token(name), light(rgb(name))]);
    return (ground) => {
      const here = light([1, 3, 5].map((at) => parseInt(ground.slice(at, at + 2), 16)));
      const contrasts = inks.map(([, there]) => (Math.max(here, there) + 0.05) / (Math.min(here, there) + 0.05));
      return inks[contrasts[0] >= contrasts[1] ? 0 : 1][0];
    };
  }

  // the outermost values must not flatten all others
  function scale(values, lower) {
    const known = values.filter((v) => v !== null && v !== undefined).sort((a, b) => a - b);
    if (!known.length) return { share: () => 0, low: null, high: null, isCut: false };
    const at = (part) => known[Math.round(part * (known.length - 1))];
    const low = known.length > 50 ? at(0.02) : known[0];
    const high = known[known.length - 1];
    const [worst, best] = lower ? [known.length > 50 ? at(0.98) : high, known[0]] : [low, high];
    const isCut = worst !== (lower ? high : known[0]);
    return { share: (v) => (best === worst ? 1 : Math.min(1, Math.max(0, (v - worst) / (best - worst)))), low: worst, high: best, isCut };
  }

  // ------------------------------------------------------------ the address and the table

  const query = () => new URL(location.href).searchParams;

  function remember(change) {
    const url = new URL(location.href);
    change(url.searchParams);
    url.searchParams.delete("before");
    url.searchParams.delete("v");
    history.replaceState(history.state, "", url);
    return url.searchParams;
  }

  let asked = 0;
  async function showRows() {
    const lines = document.querySelector("[data-sweep-lines]");
    const old = document.getElementById("points");
    if (!lines || !old) return;
    const mine = ++asked;
    const answer = await fetch(`${lines.dataset.rows}?${query()}`, { headers: { "HX-Request": "true" } });
    if (!answer.ok || mine !== asked) return;
    const made = document.createRange().createContextualFragment(await answer.text()).querySelector("#points");
    if (!made) return;
    document.getElementById("points").replaceWith(made);
    window.htmx?.process(made);
  }

  let waiting = 0;
  function soon() {
    clearTimeout(waiting);
    waiting = setTimeout(() => showRows().catch(() => {}), 180);
  }

  // ------------------------------------------------------------ heat map

  function heat(box) {
    let data = null;
    let cursor = null; // [column, row]
    const canvas = document.createElement("canvas");
    const key = document.createElement("div");
    key.className = "heat-scale";
    const form = document.getElementById("map-form");

    async function load() {
      const asked_ = new URL(box.dataset.url, location.href);
      for (const [name, value] of new FormData(form)) if (value) asked_.searchParams.set(name, value);
      data = await numbers(asked_.pathname + asked_.search);
      cursor = null;
      hideSides();
      if (!data.points.some((row) => row.some(Boolean))) return say(box, "Nothing yet: the first points are on their way.");
      if (!canvas.isConnected) box.replaceChildren(canvas, key);
      draw();
    }

    function hideSides() {
      for (const label of form?.querySelectorAll(".at") ?? []) label.classList.toggle("is-side", [data.x.name, data.y?.name].includes(label.dataset.at));
    }

    function frame() {
      const width = box.clientWidth;
      const rows = data.y ? data.y.labels.length : 1;
      const columns = data.x.labels.length;
      const narrow = width < 560;
      const left = data.y ? (narrow ? 44 : 64) : 4;
      const cell = (width - left - 4) / columns;
      const height = data.y ? Math.max(4, Math.min(narrow ? 26 : 30, Math.max(cell, 8), 440 / rows)) : 40;
      return { width, rows, columns, left, cell, height, top: 4, bottom: 38 };
    }

    function draw() {
      if (!data || !canvas.isConnected || !box.clientWidth) return;
      const f = frame();
      const pen = sized(canvas, f.width, f.top + f.rows * f.height + f.bottom);
      const values = data.cells.flat();
      const by = scale(values, data.lower);
      const shade = shades();
      const word = legible();
      const gap = Math.min(f.cell, f.height) > 8 ? 1 : 0;
      const best = values.length ? values.reduce((a, v) => (v === null ? a : a === null ? v : data.lower ? Math.min(a, v) : Math.max(a, v)), null) : null;
      const isAlone = values.filter((v) => v === best).length <= 3;
      pen.font = "11px system-ui, sans-serif";
      pen.textBaseline = "middle";
      for (let r = 0; r < f.rows; r++) {
        for (let c = 0; c < f.columns; c++) {
          const value = data.cells[r][c];
          const [x, y] = corner(f, c, r);
          if (!data.points[r][c]) continue;
          pen.fillStyle = value === null ? token("raised") : shade(by.share(value));
          pen.fillRect(x, y, f.cell - gap, f.height - gap);
          if (value === null && f.height > 12) {
            pen.strokeStyle = token("line-strong");
            pen.strokeRect(x + 0.5, y + 0.5, f.cell - gap - 1, f.height - gap - 1);
          } else if (value !== null && f.cell > 44 && f.height > 15) {
            pen.fillStyle = word(pen.fillStyle);
            pen.textAlign = "center";
            pen.fillText(told(value, data.unit), x + f.cell / 2, y + f.height / 2);
          }
          if (value !== null && value === best && isAlone) {
            pen.strokeStyle = token("text");
            pen.lineWidth = 2;
            pen.strokeRect(x + 1, y + 1, f.cell - gap - 2, f.height - gap - 2);
            pen.lineWidth = 1;
          }
        }
      }
      labels(pen, f);
      if (cursor) outline(pen, f);
      legend(by, shade);
      tell();
    }

    const corner = (f, column, row) => [f.left + column * f.cell, f.top + (f.rows - 1 - row) * f.height];

    function labels(pen, f) {
      pen.fillStyle = token("muted");
      pen.textAlign = "center";
      const first = (label) => label.split(" to ")[0];
      let last = -Infinity;
      data.x.labels.forEach((label, column) => {
        const text = first(label);
        const x = f.left + (column + 0.5) * f.cell;
        const half = pen.measureText(text).width / 2;
        if (x - half < last + 8 || x + half > f.width) return;
        pen.fillText(text, x, f.top + f.rows * f.height + 11);
        last = x + half;
      });
      pen.fillStyle = token("soft");
      pen.fillText(data.y ? `${data.x.title} →` : data.x.title, f.left + (f.columns * f.cell) / 2, f.top + f.rows * f.height + 29);
      if (!data.y) return;
      pen.fillStyle = token("muted");
      pen.textAlign = "right";
      const step = Math.max(1, Math.ceil(14 / f.height));
      data.y.labels.forEach((label, row) => {
        if (row % step) return;
        pen.fillText(first(label), f.left - 6, corner(f, 0, row)[1] + f.height / 2);
      });
      pen.textAlign = "left";
      pen.fillStyle = token("soft");
      pen.fillText(`↑ ${data.y.title}`, 0, f.top + f.rows * f.height + 29);
    }

    function outline(pen, f) {
      const [x, y] = corner(f, ...cursor);
      pen.strokeStyle = token("text");
      pen.strokeRect(x - 0.5, y - 0.5, f.cell, f.height);
    }

    function legend(by, shade) {
      const bar = document.createElement("i");
      bar.style.background = `linear-gradient(to right, ${Array.from({ length: 9 }, (_, i) => shade(i / 8)).join(",")})`;
      key.replaceChildren(`${by.isCut ? (data.lower ? "≥ " : "≤ ") : ""}${told(by.low, data.unit)}`, bar, told(by.high, data.unit));
    }

    function tell() {
      if (!cursor) return readout(box, [["", data.title], ["the best is outlined;", "press a cell to see its points"]]);
      const [c, r] = cursor;
      const pairs = [[data.x.title, data.x.labels[c]]];
      if (data.y) pairs.push([data.y.title, data.y.labels[r]]);
      const count = data.points[r][c];
      if (count) pairs.push([data.title.toLowerCase(), told(data.cells[r][c], data.unit)]);
      pairs.push(["", count === 1 ? "1 point" : `${grouped(count, 0)} points`]);
      readout(box, pairs);
    }

    function cellAt(event) {
      const f = frame();
      const where = canvas.getBoundingClientRect();
      const column = Math.floor((event.clientX - where.left - f.left) / f.cell);
      const row = f.rows - 1 - Math.floor((event.clientY - where.top - f.top) / f.height);
      return column >= 0 && column < f.columns && row >= 0 && row < f.rows ? [column, row] : null;
    }

    function open_([c, r]) {
      remember((params) => {
        [[data.x, c, 0], [data.y, r, 1]].forEach(([side, place, number]) => {
          if (!side) return;
          for (const end of ["min", "max", "is"]) params.delete(`${end}.p.${side.name}`);
          const edges = data.edges[number];
          const value = data.values[number][place];
          if (edges.length) {
            params.set(`min.p.${side.name}`, edges[place]);
            params.set(`max.p.${side.name}`, edges[place + 1]);
          } else if (value !== "" && Number.isFinite(Number(value))) {
            params.set(`min.p.${side.name}`, value);
            params.set(`max.p.${side.name}`, value);
          } else params.set(`is.p.${side.name}`, value);
        });
      });
      document.dispatchEvent(new CustomEvent("sweep:filters"));
      showRows().then(() => document.getElementById("points")?.scrollIntoView({ block: "start" })).catch(() => {});
    }

    canvas.addEventListener("pointermove", (event) => {
      if (!data) return;
      cursor = cellAt(event);
      draw();
    });
    canvas.addEventListener("pointerleave", () => {
      cursor = null;
      if (data) draw();
    });
    canvas.addEventListener("click", (event) => {
      const cell = data && cellAt(event);
      if (cell && data.points[cell[1]][cell[0]]) open_(cell);
    });
    box.addEventListener("keydown", (event) => {
      if (!data) return;
      const f = frame();
      const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
      if (moves[event.key]) {
        const [c, r] = cursor ?? [0, 0];
        const move = cursor ? moves[event.key] : [0, 0];
        cursor = [Math.min(f.columns - 1, Math.max(0, c + move[0])), Math.min(f.rows - 1, Math.max(0, r + move[1]))];
        draw();
      } else if (event.key === "Enter" && cursor) open_(cursor);
      else return;
      event.preventDefault();
    });
    form?.addEventListener("change", (event) => {
      const [x, y] = [form.elements.x, form.elements.y];
      // a parameter cannot be both sides: the other side takes what was here
      if (y && x.value === y.value) (event.target === x ? y : x).value = event.target === x ? data.x.name : data.y.name;
      remember((params) => {
        for (const element of form.elements) if (element.name) element.value ? params.set(element.name, element.value) : params.delete(element.name);
      });
      load().catch(failed);
    });
    form?.addEventListener("submit", (event) => event.preventDefault());

    const failed = () => say(box, "These numbers could not be loaded. Load the page again.");
    new ResizeObserver(draw).observe(box);
    onThemeChange(draw);
    load().catch(failed);
    return load;
  }

  // ------------------------------------------------------------ lines

  function lines(box) {
    let data = null;
    let brushes = {};
    let drag = null;
    let near = null;
    let paths = [];
    const canvas = document.createElement("canvas");
    const TOP = 34;
    const BOTTOM = 22;
    const HEIGHT = 320;

    async function load() {
      data = await numbers(box.dataset.url);
      if (!data.lines.length) return say(box, "Nothing yet: the first points are on their way.");
      if (!canvas.isConnected) box.replaceChildren(canvas);
      fromAddress();
      const note = document.getElementById("lines-shown");
      if (note) note.textContent = data.shown < data.all ? `the best and an even selection: ${grouped(data.shown, 0)} of ${grouped(data.all, 0)}` : "";
      prepare();
      draw();
    }

    function fromAddress() {
      brushes = {};
      const params = query();
      for (const axis of data.axes) {
        const [low, high] = ["min", "max"].map((end) => params.get(`${end}.${axis.key}`));
        if (low !== null || high !== null) brushes[axis.key] = [low === null ? -Infinity : Number(low), high === null ? Infinity : Number(high)];
      }
    }

    const width = () => Math.max(box.clientWidth, data.axes.length * 92);
    const axisX = (place) => {
      const margin = 46;
      return margin + (place * (width() - 2 * margin)) / Math.max(1, data.axes.length - 1);
    };
    const span = (axis) => axis.high - axis.low || 1;
    const valueY = (axis, value) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - (value - axis.low) / span(axis));
    const yValue = (axis, y) => axis.low + span(axis) * (1 - (y - TOP) / (HEIGHT - TOP - BOTTOM));

    function prepare() {
      const by = scale(data.lines.map((line) => line[data.color + 1]), data.lower);
      paths = data.lines.map((line) => ({ line, share: line[data.color + 1] === null ? 0 : by.share(line[data.color + 1]) }));
      paths.sort((a, b) => a.share - b.share);
    }

    // an equal value counts as inside, however its digits were cut
    function isIn(line) {
      return data.axes.every((axis, place) => {
        const brush = brushes[axis.key];
        const slack = span(axis) * 1e-9;
        const value = line[place + 1];
        return !brush || (value !== null && value >= brush[0] - slack && value <= brush[1] + slack);
      });
    }

    function trace(pen, line) {
      pen.beginPath();
      let begun = false;
      data.axes.forEach((axis, place) => {
        const value = line[place + 1];
        if (value === null) {
          begun = false;
          return;
        }
        const [x, y] = [axisX(place), valueY(axis, value)];
        if (begun) pen.lineTo(x, y);
        else pen.moveTo(x, y);
        begun = true;
      });
      pen.stroke();
    }

    function draw() {
      if (!data || !canvas.isConnected || !box.clientWidth) return;
      const pen = sized(canvas, width(), HEIGHT);
      const pale = rgb("line");
      const ink = rgb("accent");
      const brushed = Object.keys(brushes).length > 0;
      const few = data.lines.length < 120;
      const inside = [];
      pen.lineWidth = 1;
      pen.globalAlpha = few ? 0.6 : 0.3;
      pen.strokeStyle = token("line-strong");
      for (const path of paths) {
        if (brushed && !isIn(path.line)) trace(pen, path.line);
        else inside.push(path);
      }
      for (const path of inside) {
        pen.globalAlpha = Math.min(1, (few ? 0.5 : 0.12) + path.share ** 3);
        pen.strokeStyle = mixed(pale, ink, 0.25 + 0.75 * path.share);
        pen.lineWidth = path.share > 0.97 ? 1.8 : 1;
        trace(pen, path.line);
      }
      pen.globalAlpha = 1;
      if (near) {
        pen.strokeStyle = token("text");
        pen.lineWidth = 2;
        trace(pen, near.line);
      }
      pen.lineWidth = 1;
      data.axes.forEach((axis, place) => drawAxis(pen, axis, place));
      tell(inside.length);
    }

    function drawAxis(pen, axis, place) {
      const x = axisX(place);
      pen.strokeStyle = token("muted");
      pen.beginPath();
      pen.moveTo(x, TOP);
      pen.lineTo(x, HEIGHT - BOTTOM);
      pen.stroke();
      pen.textAlign = "center";
      pen.textBaseline = "middle";
      pen.font = "600 11px system-ui, sans-serif";
      pen.fillStyle = place >= data.color ? token("accent") : token("text");
      pen.fillText(clip(pen, axis.title, 100), x, 9);
      pen.font = "11px system-ui, sans-serif";
      pen.fillStyle = token("muted");
      const text = (value) => (axis.labels ? axis.labels[Math.round(value)] ?? "" : axis.unit ? told(value, axis.unit) : short(value));
      pen.fillText(text(axis.high), x, TOP - 10);
      pen.fillText(text(axis.low), x, HEIGHT - BOTTOM + 12);
      const brush = brushes[axis.key];
      if (!brush) return;
      const top = valueY(axis, Math.min(axis.high, brush[1]));
      const bottom = valueY(axis, Math.max(axis.low, brush[0]));
      pen.fillStyle = token("accent");
      pen.globalAlpha = 0.28;
      pen.fillRect(x - 8, Math.min(top, bottom) - 2, 16, Math.max(4, Math.abs(bottom - top) + 4));
      pen.globalAlpha = 1;
      pen.strokeStyle = token("accent");
      pen.strokeRect(x - 8, Math.min(top, bottom) - 2, 16, Math.max(4, Math.abs(bottom - top) + 4));
    }

    function clip(pen, text, room) {
      if (pen.measureText(text).width <= room) return text;
      let cut = text;
      while (cut.length > 1 && pen.measureText(`${cut}…`).width > room) cut = cut.slice(0, -1);
      return `${cut}…`;
    }

    function tell(inside) {
      if (near) {
        return readout(
          box,
          data.axes.map((axis, place) => {
            const value = near.line[place + 1];
            return [axis.title.toLowerCase(), axis.labels ? axis.labels[value] ?? "—" : axis.unit ? told(value, axis.unit) : value === null ? "—" : short(value)];
          }),
        );
      }
      readout(box, Object.keys(brushes).length ? [["", `${grouped(inside, 0)} of ${grouped(data.shown, 0)} lines`], ["", "inside the stretches"]] : [["", data.shown === 1 ? "1 line" : `${grouped(data.shown, 0)} lines`]]);
    }

    function axisAt(x) {
      let best = null;
      data.axes.forEach((axis, place) => {
        const away = Math.abs(axisX(place) - x);
        if (away < 22 && (!best || away < best.away)) best = { axis, place, away };
      });
      return best;
    }

    const at = (event) => {
      const where = canvas.getBoundingClientRect();
      return [event.clientX - where.left, event.clientY - where.top];
    };

    function brushed(axis, from, to) {
      let [low, high] = [yValue(axis, from), yValue(axis, to)].sort((a, b) => a - b);
      if (axis.labels || axis.whole) [low, high] = [Math.ceil(low - 0.3), Math.floor(high + 0.3)];
      return [Math.max(axis.low, low), Math.min(axis.high, high)];
    }

    function store() {
      remember((params) => {
        for (const axis of data.axes) {
          for (const end of ["min", "max", "is"]) params.delete(`${end}.${axis.key}`);
          const brush = brushes[axis.key];
          if (!brush) continue;
          if (axis.labels) params.set(`is.${axis.key}`, word(axis, brush));
          else {
            if (Number.isFinite(brush[0])) params.set(`min.${axis.key}`, Number(brush[0].toPrecision(8)));
            if (Number.isFinite(brush[1])) params.set(`max.${axis.key}`, Number(brush[1].toPrecision(8)));
          }
        }
      });
      soon();
    }

    const word = (axis, brush) => {
      const label = axis.labels[Math.round((brush[0] + brush[1]) / 2)];
      return { yes: "true", no: "false" }[label] ?? label;
    };

    canvas.addEventListener("pointerdown", (event) => {
      if (!data || event.button) return;
      const [x, y] = at(event);
      const hit = axisAt(x);
      if (!hit) return;
      drag = { axis: hit.axis, from: y, to: y };
      canvas.setPointerCapture(event.pointerId);
      event.preventDefault();
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!data) return;
      const [x, y] = at(event);
      if (drag) {
        drag.to = y;
        if (Math.abs(drag.to - drag.from) > 3) brushes[drag.axis.key] = brushed(drag.axis, drag.from, drag.to);
        near = null;
      } else near = nearest(x, y);
      draw();
    });
    canvas.addEventListener("pointerup", () => {
      const ended = drag;
      drag = null;
      if (!ended || !data) return;
      if (Math.abs(ended.to - ended.from) <= 3) return;
      store();
      draw();
    });
    canvas.addEventListener("dblclick", (event) => {
      const hit = data && axisAt(at(event)[0]);
      if (hit) delete brushes[hit.axis.key];
      else brushes = {};
      store();
      draw();
    });
    canvas.addEventListener("pointerleave", () => {
      if (drag || !data) return;
      near = null;
      draw();
    });

    // the line that passes closest under the pointer, between the two axes beside it
    function nearest(x, y) {
      const place = data.axes.findIndex((_, i) => i + 1 < data.axes.length && axisX(i) <= x && x <= axisX(i + 1));
      if (place < 0) return null;
      const [left, right] = [data.axes[place], data.axes[place + 1]];
      const share = (x - axisX(place)) / (axisX(place + 1) - axisX(place));
      let best = null;
      for (const path of paths) {
        const [a, b] = [path.line[place + 1], path.line[place + 2]];
        if (a === null || b === null || !isIn(path.line)) continue;
        const away = Math.abs(valueY(left, a) * (1 - share) + valueY(right, b) * share - y);
        if (away < 12 && (!best || away <= best.away)) best = { line: path.line, away };
      }
      return best;
    }

    document.addEventListener("sweep:filters", () => {
      if (!data) return;
      fromAddress();
      draw();
    });
    const failed = () => say(box, "These numbers could not be loaded. Load the page again.");
    new ResizeObserver(draw).observe(box);
    onThemeChange(draw);
    load().catch(failed);
    return load;
  }

  // ------------------------------------------------------------ while it runs

  const loads = [];
  for (const box of document.querySelectorAll("[data-sweep-heat]")) loads.push(heat(box));
  for (const box of document.querySelectorAll("[data-sweep-lines]")) loads.push(lines(box));

  let done = document.getElementById("sweep-progress")?.dataset.done;
  let over = document.getElementById("sweep-progress")?.dataset.over;
  let lastly = Date.now();
  setInterval(() => {
    const part = document.getElementById("sweep-progress");
    if (!part || document.hidden) return;
    const ended = part.dataset.over !== over;
    if ((part.dataset.done === done && !ended) || (!ended && Date.now() - lastly < 3000)) return;
    [done, over, lastly] = [part.dataset.done, part.dataset.over, Date.now()];
    for (const load of loads) load().catch(() => {});
    const isRead = query().has("before") || document.querySelector("#points details[open], #points:hover");
    if (!isRead || ended) showRows().catch(() => {});
  }, 500);

  // sorting, filtering and paging change the table alone
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[data-rows]");
    if (!link || event.button || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    const url = new URL(link.href);
    history.replaceState(history.state, "", url.pathname + url.search);
    document.dispatchEvent(new CustomEvent("sweep:filters"));
    showRows().catch(() => location.assign(url));
  });

  // a best point chosen above is shown in the table, wherever it stands
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a.best[data-point]");
    if (!link) return;
    const row = document.getElementById(`point-${link.dataset.point}`);
    if (!row) return;
    event.preventDefault();
    for (const shown of document.querySelectorAll(".points tr.is-shown")) shown.classList.remove("is-shown");
    row.classList.add("is-shown");
    row.scrollIntoView({ block: "center" });
  });
})();
