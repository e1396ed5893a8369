// Pictures with a crosshair: what all of them are made with, and equity with drawdown (uPlot). Candles are candles.js's.
// A box says what it wants in data-chart, data-url and data-every; its numbers come as JSON.
"use strict";
(() => {
  const zone = document.body.dataset.zone || "UTC";

  // ------------------------------------------------------------ words and colours

  const NARROW = "\u202f";

  function grouped(value, decimals) {
    if (value === null || value === undefined || !Number.isFinite(value)) return "—";
    const text = Math.abs(value).toFixed(decimals);
    const [whole, part] = text.split(".");
    const spaced = whole.replace(/\B(?=(\d{3})+$)/g, NARROW);
    const sign = value < 0 && Number(text) !== 0 ? "−" : "";
    return sign + spaced + (part ? `.${part}` : "");
  }

  const percent = (fraction, decimals = 2) => `${grouped(fraction * 100, decimals)}\u00a0%`;

  const clock = (options) => new Intl.DateTimeFormat("en-GB", { timeZone: zone, hour12: false, ...options });
  const forms = {
    full: clock({ day: "2-digit", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit" }),
    date: clock({ day: "2-digit", month: "short", year: "numeric" }),
    day: clock({ day: "numeric", month: "short" }),
    month: clock({ month: "short", year: "numeric" }),
    year: clock({ year: "numeric" }),
    minute: clock({ hour: "2-digit", minute: "2-digit" }),
    second: clock({ hour: "2-digit", minute: "2-digit", second: "2-digit" }),
  };
  const timeText = (seconds, form) => forms[form].format(new Date(seconds * 1000));

  const probe = document.createElement("span");
  probe.hidden = true;
  document.body.append(probe);

  // light-dark() and color-mix() only become a colour on an element
  function colour(expression) {
    probe.style.color = "";
    probe.style.color = expression;
    const parts = getComputedStyle(probe).color;
    if (!parts.startsWith("color(")) return parts;
    const [r, g, b, a = 1] = parts.match(/[\d.]+/g).slice(parts.startsWith("color(srgb") ? 0 : 1).map(Number);
    return `rgba(${Math.round(r * 255)}, ${Math.round(g * 255)}, ${Math.round(b * 255)}, ${a})`;
  }

  const token = (name) => colour(`var(--${name})`);
  const faded = (name, share) => colour(`color-mix(in srgb, var(--${name}) ${share}%, transparent)`);

  // ------------------------------------------------------------ numbers from the console

  async function numbers(url) {
    const response = await fetch(url, { headers: { Accept: "application/json" }, signal: AbortSignal.timeout(15000) });
    if (!response.ok) throw new Error(`${response.status}`);
    return response.json();
  }

  function withQuery(url, key, value) {
    const whole = new URL(url, location.href);
    whole.searchParams.set(key, value);
    return whole.pathname + whole.search;
  }

  function say(box, text) {
    let message = box.querySelector(".chart-message");
    if (!text) return message?.remove();
    if (!message) {
      message = document.createElement("p");
      message.className = "chart-message";
      box.append(message);
    }
    message.textContent = text;
  }

  function readout(box, pairs) {
    const line = document.getElementById(box.dataset.readout);
    if (!line) return;
    line.replaceChildren(
      ...pairs.map(([label, value, kind]) => {
        const item = document.createElement("span");
        if (label) item.append(`${label} `);
        const number = document.createElement("b");
        number.textContent = value;
        if (kind) number.className = kind;
        item.append(number);
        return item;
      }),
    );
  }

  function repeat(box, seconds, step) {
    if (!seconds) return;
    const timer = setInterval(() => {
      if (!box.isConnected) clearInterval(timer);
      else if (!document.hidden) step().catch(() => {});
    }, seconds * 1000);
  }

  // ------------------------------------------------------------ equity

  function equity(box) {
    const asset = box.dataset.asset || "";
    const benchmark = box.dataset.benchmark || "";
    const key = `equity-${box.id}`;
    let plots = [];
    let data = null;
    let zoomed = false;

    function axis(extra) {
      return {
        stroke: token("muted"),
        grid: { stroke: faded("line", 70), width: 1 },
        ticks: { show: false },
        font: "11px system-ui, sans-serif",
        ...extra,
      };
    }

    function ticks(self, splits) {
      const span = self.scales.x.max - self.scales.x.min;
      const form = span <= 600 ? "second" : span <= 2 * 86400 ? "minute" : span <= 300 * 86400 ? "day" : span <= 3000 * 86400 ? "month" : "year";
      return splits.map((s) => timeText(s, form));
    }

    function tell(index) {
      if (!data || !data.times.length) return;
      const i = index ?? data.times.length - 1;
      const pairs = [
        ["", timeText(data.times[i], data.times.length > 1 && data.times[1] - data.times[0] >= 80000 ? "date" : "full")],
        ["Equity", `${grouped(data.equity[i], 2)}${asset ? ` ${asset}` : ""}`],
      ];
      if (data.benchmark) pairs.push([benchmark || "Benchmark", grouped(data.benchmark[i], 2)]);
      const depth = data.drawdown[i];
      pairs.push(["Drawdown", percent(depth), depth < 0 ? "loss" : ""]);
      const first = data.equity.find((value) => value !== null);
      if (first) {
        // An account knows what it returned; money paid in is no gain.
        const gain = data.returned ? data.returned[i] : data.equity[i] / first - 1;
        pairs.push(["In this range", `${gain > 0 ? "+" : ""}${percent(gain)}`, gain > 0 ? "gain" : gain < 0 ? "loss" : ""]);
      }
      readout(box, pairs);
    }

    function zoom(low, high) {
      const first = data.times[0];
      const last = data.times[data.times.length - 1];
      const min = Math.max(first, low);
      const max = Math.min(last, high);
      if (max - min < 2) return;
      zoomed = min > first || max < last;
      for (const plot of plots) plot.setScale("x", { min, max });
    }

    const wheel = {
      hooks: {
        ready: [(plot) => {
          plot.over.addEventListener("wheel", (event) => {
            event.preventDefault();
            const { min, max } = plot.scales.x;
            const at = plot.posToVal(plot.cursor.left, "x");
            const factor = event.deltaY < 0 ? 0.8 : 1.25;
            zoom(at - (at - min) * factor, at + (max - at) * factor);
          }, { passive: false });
          plot.over.addEventListener("dblclick", showAll);
        }],
        setSelect: [(plot) => {
          const { left, width } = plot.select;
          if (width > 4) zoom(plot.posToVal(left, "x"), plot.posToVal(left + width, "x"));
          plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
        }],
      },
    };

    function showAll() {
      zoomed = false;
      zoom(data.times[0], data.times[data.times.length - 1]);
      zoomed = false;
    }

    // a line that has not moved yet stands in the middle, not between nothing and twice itself
    function around(self, min, max) {
      if (min !== max || min === null) return uPlot.rangeNum(min ?? 0, max ?? 1, 0.1, true);
      const room = Math.max(1, Math.abs(min) * 0.001);
      return [min - room, max + room];
    }

    function build() {
      for (const plot of plots) plot.destroy();
      plots = [];
      box.replaceChildren();
      const width = box.clientWidth;
      const height = box.clientHeight;
      const below = Math.round(height * 0.32);
      const lines = [...data.equity, ...(data.benchmark ?? [])].filter((value) => value !== null);
      const high = Math.max(...lines);
      const decimals = high - Math.min(...lines) < 10 ? 2 : 0;
      const fell = data.drawdown.some((value) => value < 0);
      const cursor = {
        sync: { key, setSeries: false },
        drag: { x: true, y: false, setScale: false },
        points: { size: 7, fill: token("accent"), stroke: token("panel"), width: 2 },
        x: true,
        y: false,
      };
      const series = [
        {},
        { stroke: token("accent"), width: 1.6, fill: faded("accent", 10), points: { show: false } },
      ];
      if (data.benchmark) series.push({ stroke: token("muted"), width: 1.2, dash: [4, 4], points: { show: false } });
      const wide = Math.max(60, 16 + 6.4 * grouped(high, decimals).length);
      const upper = {
        width, height: height - below, legend: { show: false }, cursor, plugins: [wheel], padding: [8, 18, 8, 0],
        scales: { x: { time: true }, y: { range: around } },
        axes: [axis({ show: false }), axis({ size: wide, values: (self, splits) => splits.map((s) => grouped(s, decimals)) })],
        series,
        hooks: { setCursor: [(plot) => tell(plot.cursor.idx)] },
      };
      const lower = {
        width, height: below, legend: { show: false }, cursor, plugins: [wheel], padding: [12, 18, 0, 0],
        scales: { x: { time: true }, y: { range: (self, min) => [Math.max(-1, Math.min(min * 1.1, -0.0005)), 0] } },
        axes: [
          axis({ grid: { show: false }, size: 24, space: 84, values: ticks }),
          axis({ size: wide, splits: (self, i, min) => (fell ? [0, min] : [0]), values: (self, splits) => splits.map((s) => percent(s, s > -0.1 && s < 0 ? 2 : 1)) }),
        ],
        series: [{}, { stroke: token("loss"), width: 1, fill: faded("loss", 22), points: { show: false } }],
        hooks: { setCursor: [(plot) => tell(plot.cursor.idx)] },
      };
      plots = [new uPlot(upper, upperData(), box), new uPlot(lower, [data.times, data.drawdown], box)];
      tell(null);
    }

    const upperData = () => (data.benchmark ? [data.times, data.equity, data.benchmark] : [data.times, data.equity]);

    async function load() {
      const fresh = await numbers(box.dataset.url);
      const isFirst = !data || data.times.length < 2;
      data = fresh;
      if (data.times.length < 2) {
        for (const plot of plots) plot.destroy();
        plots = [];
        say(box, "The line begins with the second marked equity, a moment after trading starts.");
        return;
      }
      if (isFirst || !plots.length) return build();
      plots[0].setData(upperData(), !zoomed);
      plots[1].setData([data.times, data.drawdown], !zoomed);
      if (plots[0].cursor.idx === null || plots[0].cursor.idx === undefined) tell(null);
    }

    box.addEventListener("keydown", (event) => {
      if (!plots.length) return;
      const plot = plots[0];
      const { min, max } = plot.scales.x;
      const last = data.times.length - 1;
      const index = plot.cursor.idx ?? last;
      const step = event.shiftKey ? 10 : 1;
      if (event.key === "ArrowLeft" || event.key === "ArrowRight") {
        const to = Math.min(last, Math.max(0, index + (event.key === "ArrowLeft" ? -step : step)));
        plot.setCursor({ left: plot.valToPos(data.times[to], "x"), top: 10 });
        tell(to);
      } else if (event.key === "+" || event.key === "=") zoom(min + (max - min) * 0.1, max - (max - min) * 0.1);
      else if (event.key === "-") zoom(min - (max - min) * 0.15, max + (max - min) * 0.15);
      else if (event.key === "0") showAll();
      else return;
      event.preventDefault();
    });

    new ResizeObserver(() => {
      if (plots.length && box.clientWidth && plots[0].width !== box.clientWidth) build();
    }).observe(box);
    onThemeChange(() => plots.length && build());

    load().catch(() => say(box, "These numbers could not be loaded. The page tries again."));
    repeat(box, Number(box.dataset.every) || 0, load);
  }

  // ------------------------------------------------------------ all of them

  function onThemeChange(step) {
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", step);
    new MutationObserver(step).observe(document.documentElement, { attributeFilter: ["data-theme"] });
  }

  const kinds = { equity };
  const made = new WeakSet();

  function make(root) {
    for (const box of root.querySelectorAll?.("[data-chart]") ?? []) {
      const build = kinds[box.dataset.chart];
      if (!build || made.has(box)) continue;
      made.add(box);
      build(box);
    }
  }

  // Scripts of other pictures bring their kind along.
  function register(kind, build) {
    kinds[kind] = build;
    make(document);
  }

  document.addEventListener("htmx:after:settle", (event) => make(event.target));
  make(document);

  // what pictures of their own pages are made with
  window.seraphimCharts = { grouped, percent, timeText, token, faded, numbers, withQuery, say, readout, repeat, onThemeChange, register };
})();
