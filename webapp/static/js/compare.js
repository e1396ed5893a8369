// Runs in one picture: growth of each above, drawdown below, with one crosshair. Their moments need not be the same.
"use strict";
(() => {
  const { percent, timeText, token, faded, numbers, say, onThemeChange } = window.seraphimCharts;
  const box = document.querySelector("[data-compare]");
  if (!box || !window.uPlot) return;

  const DAY = 86_400;
  let runs = [];
  let growth = null; // [times, values of each run ...], as uPlot joins them
  let drawdown = null;
  let plots = [];

  const colour = (index) => token(`run-${index + 1}`);
  const signed = (fraction) => `${fraction > 0 ? "+" : ""}${percent(fraction)}`;

  // The value a run has at a row of the joined table: its own last one, none before it began.
  function at(column, row) {
    for (let i = row; i >= 0; i -= 1) {
      if (column[i] !== null && column[i] !== undefined) return column[i];
    }
    return null;
  }

  function part(className, text) {
    const item = document.createElement(className.startsWith("run-key") ? "i" : "b");
    item.className = className;
    item.textContent = text;
    return item;
  }

  // The moment, and what each run had gained by then; how far it had fallen stands behind it.
  function tell(index) {
    const times = growth[0];
    const row = index ?? times.length - 1;
    const isDaily = times.length > 1 && (times[times.length - 1] - times[0]) / times.length >= DAY / 2;
    const line = document.getElementById(box.dataset.readout);
    const when = document.createElement("span");
    when.append(part("", timeText(times[row], isDaily ? "date" : "full")));
    const items = runs.map((run, n) => {
      const value = at(growth[n + 1], row);
      const item = document.createElement("span");
      if (value === null) return item;
      const depth = at(drawdown[n + 1], row);
      item.append(part(`run-key run-${n + 1}`, ""), `#${run.id} `, part(value > 0 ? "gain" : value < 0 ? "loss" : "", signed(value)));
      if (depth < 0) item.append(` ${percent(depth)}`);
      return item;
    });
    line?.replaceChildren(when, ...items);
  }

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
    const form = span <= 600 ? "second" : span <= 2 * DAY ? "minute" : span <= 300 * DAY ? "day" : span <= 3000 * DAY ? "month" : "year";
    return splits.map((seconds) => timeText(seconds, form));
  }

  function zoom(low, high) {
    const times = growth[0];
    const min = Math.max(times[0], low);
    const max = Math.min(times[times.length - 1], high);
    if (max - min >= 2) for (const plot of plots) plot.setScale("x", { min, max });
  }

  const showAll = () => zoom(growth[0][0], growth[0][growth[0].length - 1]);

  const handling = {
    hooks: {
      ready: [(plot) => {
        plot.over.addEventListener("wheel", (event) => {
          event.preventDefault();
          const { min, max } = plot.scales.x;
          const here = plot.posToVal(plot.cursor.left, "x");
          const factor = event.deltaY < 0 ? 0.8 : 1.25;
          zoom(here - (here - min) * factor, here + (max - here) * factor);
        }, { passive: false });
        plot.over.addEventListener("dblclick", showAll);
      }],
      setSelect: [(plot) => {
        const { left, width } = plot.select;
        if (width > 4) zoom(plot.posToVal(left, "x"), plot.posToVal(left + width, "x"));
        plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
      }],
      setCursor: [(plot) => tell(plot.cursor.idx)],
    },
  };

  function options(height, isLower) {
    return {
      width: box.clientWidth,
      height,
      padding: [8, 18, isLower ? 0 : 8, 0],
      legend: { show: false },
      cursor: {
        sync: { key: "compare", setSeries: false },
        drag: { x: true, y: false, setScale: false },
        points: { size: 6 },
        x: true,
        y: false,
      },
      plugins: [handling],
      scales: { x: { time: true } },
      axes: [
        axis({ values: ticks, size: isLower ? 30 : 0, show: isLower }),
        axis({ size: 62, values: (self, splits) => splits.map((value) => percent(value, isLower || Math.abs(splits[0] - splits[splits.length - 1]) >= 0.1 ? 0 : 1)) }),
      ],
      series: [
        {},
        ...runs.map((run, n) => ({
          stroke: colour(n),
          width: isLower ? 1.2 : 1.8,
          spanGaps: true,
          points: { show: false },
          fill: isLower && runs.length === 1 ? faded("loss", 20) : undefined,
        })),
      ],
    };
  }

  function build() {
    for (const plot of plots) plot.destroy();
    box.replaceChildren();
    const height = box.clientHeight;
    const below = Math.round(height * 0.36);
    plots = [
      new uPlot(options(height - below - 8, false), growth, box),
      new uPlot(options(below, true), drawdown, box),
    ];
    tell(null);
  }

  async function load() {
    runs = (await numbers(box.dataset.url)).runs.filter((run) => run.times.length > 1);
    if (!runs.length) return say(box, "These runs left no curve.");
    growth = uPlot.join(runs.map((run) => [run.times, run.growth]));
    drawdown = uPlot.join(runs.map((run) => [run.times, run.drawdown]));
    build();
  }

  box.addEventListener("keydown", (event) => {
    if (!plots.length) return;
    const plot = plots[0];
    const { min, max } = plot.scales.x;
    const times = growth[0];
    const last = times.length - 1;
    const step = event.shiftKey ? 10 : 1;
    if (event.key === "ArrowLeft" || event.key === "ArrowRight") {
      const to = Math.min(last, Math.max(0, (plot.cursor.idx ?? last) + (event.key === "ArrowLeft" ? -step : step)));
      plot.setCursor({ left: plot.valToPos(times[to], "x"), top: 10 });
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

  load().catch(() => say(box, "These curves could not be loaded. Load the page again."));
})();
