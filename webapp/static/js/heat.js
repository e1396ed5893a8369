// A map of rows by days: the colour of a cell is a share. The server sums days into as many columns as fit.
"use strict";
(() => {
  const { grouped, percent, token, numbers, withQuery, say, readout, onThemeChange } = window.seraphimCharts;
  const DAY = 86_400_000;
  const time = (text) => Date.parse(`${text}T00:00:00Z`);
  const iso = (at) => new Date(at).toISOString().slice(0, 10);
  const form = (options) => new Intl.DateTimeFormat("en-GB", { timeZone: "UTC", ...options });
  const forms = {
    day: form({ weekday: "short", day: "2-digit", month: "short", year: "numeric" }),
    month: form({ month: "short", year: "numeric" }),
    tick: form({ day: "numeric", month: "short" }),
    year: form({ year: "numeric" }),
  };

  function heat(box) {
    const counts = box.dataset.what === "bars";
    let data = null;
    let view = null; // [from, to) in ms; null shows all
    let cursor = null; // [row, column]
    let drag = null;
    let asked = 0;
    let timer = 0;
    let opening = 0;
    const axis = document.createElement("canvas");
    const body = document.createElement("canvas");
    const scroll = document.createElement("div");
    axis.className = "heat-axis";
    scroll.className = "heat-scroll";
    scroll.append(body);

    const rowHeight = () => (data.rows.length <= 12 ? 26 : data.rows.length <= 60 ? 18 : 13);
    const labelWidth = () => (box.clientWidth < 560 ? 96 : 168);
    const plotWidth = () => Math.max(60, scroll.clientWidth - labelWidth());
    const span = () => [time(data.starts[0]), time(data.starts[data.starts.length - 1])];

    async function load() {
      const mine = ++asked;
      let url = box.dataset.url;
      if (view) url = withQuery(withQuery(url, "from", iso(view[0])), "to", iso(view[1] - DAY));
      const fresh = await numbers(url);
      if (mine !== asked) return;
      data = fresh;
      if (!data.rows.length || data.rows.every((row) => !row.bars.length)) return say(box, box.dataset.empty || "Nothing is counted yet.");
      if (!axis.isConnected) {
        box.replaceChildren(axis, scroll);
      }
      if (cursor) cursor = [Math.min(cursor[0], data.rows.length - 1), Math.min(cursor[1], data.starts.length - 2)];
      draw();
    }

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

    // none is a hole in the picture; little is pale; all there is to have is the full accent
    function shades() {
      const ink = token("accent").match(/[\d.]+/g).slice(0, 3).map(Number);
      const paper = token("panel").match(/[\d.]+/g).slice(0, 3).map(Number);
      return (share) => {
        const part = share >= 0.999 ? 0.86 : 0.16 + 0.56 * share;
        return `rgb(${ink.map((c, i) => Math.round(c * part + paper[i] * (1 - part))).join(",")})`;
      };
    }

    const columnX = (index) => {
      const [from, to] = span();
      return labelWidth() + ((time(data.starts[index]) - from) / (to - from)) * plotWidth();
    };

    function draw() {
      if (!data || !axis.isConnected) return;
      const height = rowHeight();
      const width = scroll.clientWidth;
      const pen = sized(body, width, data.rows.length * height + 2);
      const shade = shades();
      const missing = token("loss");
      const columns = data.starts.length - 1;
      const edges = Array.from({ length: columns + 1 }, (_, i) => columnX(i));
      const gap = height > 14 ? 3 : 1;
      pen.font = `${height > 14 ? 12 : 10}px system-ui, sans-serif`;
      pen.textBaseline = "middle";
      data.rows.forEach((row, r) => {
        const top = r * height;
        pen.fillStyle = cursor?.[0] === r ? token("text") : token("soft");
        pen.fillText(clip(pen, row.name, labelWidth() - 12), 0, top + height / 2);
        if (!row.bars.length) {
          pen.fillStyle = token("faint");
          pen.fillText(row.state === "unknown" ? "not counted yet" : "", labelWidth(), top + height / 2);
          return;
        }
        for (let c = 0; c < columns; c++) {
          const should = row.expected[c];
          const have = row.bars[c];
          if (!should && !have) continue;
          const share = should ? Math.min(1, have / should) : 1;
          const left = edges[c];
          const wide = Math.max(1, edges[c + 1] - left - (edges[c + 1] - left > 5 ? 1 : 0));
          if (have) {
            pen.fillStyle = shade(share);
            pen.fillRect(left, top + gap / 2, wide, height - gap);
          } else if (counts) {
            pen.fillStyle = missing;
            pen.fillRect(left, top + height / 2 - 1, wide, 2);
          }
        }
      });
      if (cursor) mark(pen, edges, height, columns);
      if (drag && Math.abs(drag.to - drag.from) > 4) {
        pen.fillStyle = token("accent-ground");
        pen.globalAlpha = 0.55;
        pen.fillRect(Math.min(drag.from, drag.to), 0, Math.abs(drag.to - drag.from), data.rows.length * height);
        pen.globalAlpha = 1;
      }
      drawAxis(width);
      tell();
    }

    function mark(pen, edges, height, columns) {
      const [r, c] = cursor;
      const middle = (edges[c] + edges[Math.min(c + 1, columns)]) / 2;
      pen.strokeStyle = token("muted");
      pen.lineWidth = 1;
      pen.setLineDash([3, 3]);
      pen.beginPath();
      pen.moveTo(middle, 0);
      pen.lineTo(middle, data.rows.length * height);
      pen.moveTo(labelWidth(), r * height + height / 2);
      pen.lineTo(scroll.clientWidth, r * height + height / 2);
      pen.stroke();
      pen.setLineDash([]);
      pen.strokeStyle = token("text");
      pen.strokeRect(edges[c] - 0.5, r * height + 0.5, Math.max(3, edges[c + 1] - edges[c]), height - 1);
    }

    function clip(pen, text, width) {
      if (pen.measureText(text).width <= width) return text;
      let short = text;
      while (short.length > 1 && pen.measureText(`${short}…`).width > width) short = short.slice(0, -1);
      return `${short}…`;
    }

    function drawAxis(width) {
      const pen = sized(axis, width, 22);
      const [from, to] = span();
      const days = (to - from) / DAY;
      pen.fillStyle = token("muted");
      pen.strokeStyle = token("line");
      pen.font = "11px system-ui, sans-serif";
      pen.textBaseline = "middle";
      let last = -Infinity;
      const step = days > 1500 ? "year" : days > 100 ? "month" : "tick";
      for (let at = from; at < to; at += DAY) {
        const when = new Date(at);
        if (step === "year" && (when.getUTCMonth() || when.getUTCDate() !== 1)) continue;
        if (step === "month" && when.getUTCDate() !== 1) continue;
        const x = labelWidth() + ((at - from) / (to - from)) * plotWidth();
        const text = forms[step].format(when);
        if (x - last < 14 || x + pen.measureText(text).width > width) continue;
        pen.fillText(text, x, 11);
        last = x + pen.measureText(text).width;
      }
    }

    function tell() {
      if (!cursor) {
        const days = Math.round((span()[1] - span()[0]) / DAY);
        return readout(box, [["", `${data.rows.length} ${data.rows.length === 1 ? "row" : "rows"}, ${grouped(days, 0)} days`], ["a column is", `one ${data.unit}`]]);
      }
      const [r, c] = cursor;
      const row = data.rows[r];
      const start = time(data.starts[c]);
      const end = time(data.starts[c + 1]) - DAY;
      const when = data.unit === "day" ? forms.day.format(start) : data.unit === "month" ? forms.month.format(start) : `${forms.day.format(start)} – ${forms.day.format(end)}`;
      const have = row.bars[c] ?? 0;
      const should = row.expected[c] ?? 0;
      const pairs = [["", row.name], ["", when]];
      if (!row.bars.length) pairs.push(["", "not counted yet"]);
      else if (!counts) pairs.push(["a member on", `${have} of ${should} ${should === 1 ? "day" : "days"}`, have ? "gain" : ""]);
      else if (!should && !have) pairs.push(["", "no session"]);
      else {
        pairs.push(["bars", `${grouped(have, 0)} of ${grouped(should, 0)}`]);
        if (should) pairs.push(["", percent(Math.min(1, have / should), have < should ? 1 : 0), have < should ? "loss" : ""]);
      }
      if (row.state === "behind") pairs.push(["", "newer bars are not counted yet"]);
      if (row.note) pairs.push(["", row.note]);
      readout(box, pairs);
    }

    // ---------------------------------------------------------- moving about

    function zoom(from, to) {
      const first = time(data.first);
      const last = time(data.last) + DAY;
      from = Math.max(first, Math.floor(from / DAY) * DAY);
      to = Math.min(last, Math.ceil(to / DAY) * DAY);
      if (to - from < 5 * DAY) {
        const middle = (from + to) / 2;
        from = Math.max(first, Math.floor((middle - 3 * DAY) / DAY) * DAY);
        to = Math.min(last, from + 6 * DAY);
      }
      view = from <= first && to >= last ? null : [from, to];
      clearTimeout(timer);
      timer = setTimeout(() => load().catch(failed), 90);
    }

    function all() {
      view = null;
      load().catch(failed);
    }

    const at = (x) => {
      const [from, to] = span();
      return from + ((x - labelWidth()) / plotWidth()) * (to - from);
    };

    function cellAt(event) {
      const box_ = body.getBoundingClientRect();
      const row = Math.floor((event.clientY - box_.top) / rowHeight());
      const when = at(event.clientX - box_.left);
      if (row < 0 || row >= data.rows.length) return null;
      let column = 0;
      while (column < data.starts.length - 2 && time(data.starts[column + 1]) <= when) column++;
      return [row, column];
    }

    function open_(cell) {
      const row = data.rows[cell[0]];
      if (!row?.url) return;
      const where = new URL(row.url, location.href);
      if (counts && row.bars.length) where.searchParams.set("at", `${data.starts[cell[1]]}T00:00:00+00:00`);
      location.href = where.pathname + where.search + (counts ? "#candles-panel" : "");
    }

    body.addEventListener("pointermove", (event) => {
      if (!data) return;
      const x = event.clientX - body.getBoundingClientRect().left;
      if (drag) drag.to = Math.max(labelWidth(), Math.min(scroll.clientWidth, x));
      cursor = cellAt(event);
      draw();
    });
    body.addEventListener("pointerleave", () => {
      if (drag || document.activeElement === box) return;
      cursor = null;
      draw();
    });
    body.addEventListener("pointerdown", (event) => {
      const x = event.clientX - body.getBoundingClientRect().left;
      if (event.button || event.pointerType === "touch" || x < labelWidth()) return;
      drag = { from: x, to: x };
      body.setPointerCapture(event.pointerId);
    });
    body.addEventListener("pointerup", (event) => {
      const dragged = drag;
      drag = null;
      if (dragged && Math.abs(dragged.to - dragged.from) > 4) {
        const ends = [at(dragged.from), at(dragged.to)].sort((a, b) => a - b);
        return zoom(ends[0], ends[1]);
      }
      const cell = cellAt(event);
      clearTimeout(opening);
      if (cell && event.button === 0) opening = setTimeout(() => open_(cell), 240); // unless a second click comes
    });
    body.addEventListener("dblclick", () => {
      clearTimeout(opening);
      all();
    });
    body.addEventListener("wheel", (event) => {
      const scrolls = scroll.scrollHeight > scroll.clientHeight + 1;
      if (!data || (scrolls && !event.ctrlKey && !event.metaKey && !event.shiftKey)) return; // a long list scrolls
      event.preventDefault();
      const [from, to] = span();
      const middle = at(event.clientX - body.getBoundingClientRect().left);
      const factor = (event.deltaY || event.deltaX) < 0 ? 0.7 : 1.4;
      zoom(middle - (middle - from) * factor, middle + (to - middle) * factor);
    }, { passive: false });

    box.addEventListener("keydown", (event) => {
      if (!data || !axis.isConnected) return;
      const [from, to] = span();
      const columns = data.starts.length - 1;
      const [r, c] = cursor ?? [0, columns - 1];
      const step = event.shiftKey ? 10 : 1;
      const moves = { ArrowLeft: [0, -step], ArrowRight: [0, step], ArrowUp: [-step, 0], ArrowDown: [step, 0] };
      if (moves[event.key]) {
        const move = cursor ? moves[event.key] : [0, 0];
        cursor = [Math.min(data.rows.length - 1, Math.max(0, r + move[0])), Math.min(columns - 1, Math.max(0, c + move[1]))];
        draw();
      } else if (event.key === "+" || event.key === "=" || event.key === "-") {
        const middle = cursor ? time(data.starts[c]) : (from + to) / 2;
        const factor = event.key === "-" ? 1.6 : 0.6;
        zoom(middle - (middle - from) * factor, middle + (to - middle) * factor);
      } else if (event.key === "0") all();
      else if (event.key === "Enter" && cursor) open_(cursor);
      else if (event.key === "Escape") {
        cursor = null;
        draw();
      } else return;
      event.preventDefault();
    });

    const failed = () => say(box, "These numbers could not be loaded. Load the page again.");
    new ResizeObserver(draw).observe(box);
    onThemeChange(draw);
    load().catch(failed);
  }

  const made = new WeakSet();
  function make(root) {
    for (const box of root.querySelectorAll?.("[data-heat]") ?? []) {
      if (made.has(box)) continue;
      made.add(box);
      heat(box);
    }
  }
  document.addEventListener("htmx:after:settle", (event) => make(event.target));
  make(document);
})();
