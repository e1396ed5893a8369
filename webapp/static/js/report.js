// Pictures drawn on the server are read out where the pointer is. Their lines are the numbers: a path's points from 0 to
// 1000, and what 0 and 1000 stand for on the picture itself.
"use strict";
(() => {
  const kit = window.seraphimCharts;
  if (!kit) return;
  const { grouped, percent, timeText } = kit;
  const SIDE = 1000;
  const svg = (name) => document.createElementNS("http://www.w3.org/2000/svg", name);

  function points(path) {
    return [...path.getAttribute("d").matchAll(/([ML])(-?[\d.]+) (-?[\d.]+)/g)].map(([, , x, y]) => [Number(x), Number(y)]);
  }

  function nearest(known, x) {
    let low = 0;
    let high = known.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (known[middle][0] < x) low = middle + 1;
      else high = middle;
    }
    return low && x - known[low - 1][0] < known[low][0] - x ? low - 1 : low;
  }

  function readable(plot) {
    const line = plot.querySelector("path.line:not(.muted)");
    const readout = plot.closest("section")?.querySelector("[data-plot-readout]");
    if (!line || !readout) return;
    const known = points(line);
    if (!known.length) return;
    const [kind, decimals] = plot.dataset.plot.split(" ");
    const [first, last, low, high] = ["first", "last", "low", "high"].map((name) => Number(plot.dataset[name]));
    const inner = plot.querySelector("svg");
    const note = readout.textContent;
    const cursor = svg("path");
    const here = svg("path");
    cursor.setAttribute("class", "cursor");
    here.setAttribute("class", "here");
    let at = known.length - 1;

    function tell(index) {
      at = Math.max(0, Math.min(known.length - 1, index));
      const [x, y] = known[at];
      const value = low + (1 - y / SIDE) * (high - low);
      const shown = kind === "percent" ? percent(value, Number(decimals)) : grouped(value, Number(decimals));
      readout.textContent = `${timeText(first + (x / SIDE) * (last - first) - 1, "date")} · ${shown}`;
      cursor.setAttribute("d", `M${x} 0V${SIDE}`);
      here.setAttribute("d", `M${x} ${y}h0`);
      if (!cursor.isConnected) inner.append(cursor, here);
    }

    function rest() {
      readout.textContent = note;
      cursor.remove();
      here.remove();
    }

    plot.addEventListener("pointermove", (event) => {
      const box = inner.getBoundingClientRect();
      tell(nearest(known, ((event.clientX - box.left) / box.width) * SIDE));
    });
    plot.addEventListener("pointerleave", rest);
    plot.setAttribute("tabindex", "0");
    plot.addEventListener("blur", rest);
    plot.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step) return;
      tell(at + step * (event.shiftKey ? 10 : 1));
      event.preventDefault();
    });
  }

  for (const plot of document.querySelectorAll("[data-plot]")) readable(plot);
})();
