// The candles of a run: any stretch of its bars, its fills as marks, and one trade after another shown on request.
"use strict";
(() => {
  const box = document.querySelector("[data-run-candles]");
  if (!box || !window.seraphimCandles) return;
  const lib = window.LightweightCharts;
  const { timeText, token, numbers, withQuery, say, onThemeChange } = window.seraphimCharts;
  const { style, body, bar, column, spacing, isDaily, tick, rowAt, arrows, tell, keys, volumeBelow } = window.seraphimCandles;
  const url = box.dataset.url;
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;

  const WORD = 60; // pixels a quantity takes

  let shown = [];
  let markers = [];
  let decimals = 2;
  let asking = false;
  let isFirstReached = false;
  let isLastReached = true;
  box.replaceChildren();

  const chart = lib.createChart(box, {
    ...style(), autoSize: true,
    localization: { timeFormatter: (time) => timeText(time, isDaily(shown) ? "date" : "full") },
    timeScale: {
      ...style().timeScale, rightOffset: 6,
      tickMarkFormatter: tick,
    },
  });
  const price = chart.addSeries(lib.CandlestickSeries, { ...body(), priceLineVisible: false });
  const volume = volumeBelow(chart, 0.86);
  price.priceScale().applyOptions({ scaleMargins: { top: 0.08, bottom: 0.18 } });
  const trade = chart.addSeries(lib.LineSeries, {
    lineWidth: 2, lineStyle: 2, priceLineVisible: false, lastValueVisible: false, crosshairMarkerVisible: false,
    autoscaleInfoProvider: () => null,
  });
  const marks = lib.createSeriesMarkers(price, []);

  function mark() {
    const range = chart.timeScale().getVisibleLogicalRange();
    marks.setMarkers(arrows(shown, markers, !range || isCrowded(range)));
  }

  // Whether quantities would stand on each other: on one side of the candles, two marks are nearer than a word is wide.
  function isCrowded(range) {
    const pixels = box.clientWidth / Math.max(1, range.to - range.from);
    const last = {};
    for (const m of markers) {
      const row = rowAt(shown, m.time);
      if (row < range.from - 1 || row > range.to + 1) continue;
      if (m.side in last && (row - last[m.side]) * pixels < WORD) return true;
      last[m.side] = row;
    }
    return false;
  }

  function put() {
    price.applyOptions({ priceFormat: { type: "price", precision: decimals, minMove: 10 ** -decimals } });
    price.setData(shown.map(bar));
    volume.setData(shown.map(column));
    chart.applyOptions({ timeScale: { timeVisible: !isDaily(shown), secondsVisible: false } });
    mark();
  }

  // `how` is before, after or around; what comes is joined to what is there, or replaces it.
  async function fetchCandles(how, seconds) {
    const fresh = await numbers(how ? withQuery(url, how, seconds) : url);
    decimals = fresh.decimals;
    return fresh;
  }

  function joinMarkers(more) {
    const known = new Set(markers.map((m) => `${m.time} ${m.side} ${m.leg} ${m.price}`));
    markers = [...markers, ...more.filter((m) => !known.has(`${m.time} ${m.side} ${m.leg} ${m.price}`))].sort((a, b) => a.time - b.time);
  }

  async function once(step) {
    if (asking) return;
    asking = true;
    try {
      await step();
    } finally {
      asking = false;
    }
  }

  const older = () => once(async () => {
    if (isFirstReached || !shown.length) return;
    const fresh = await fetchCandles("before", shown[0][0]);
    const rows = fresh.candles.filter((row) => row[0] < shown[0][0]);
    isFirstReached = rows.length === 0;
    shown = [...rows, ...shown];
    joinMarkers(fresh.markers);
    if (rows.length) put();
  });

  const newer = () => once(async () => {
    if (isLastReached || !shown.length) return;
    const last = shown[shown.length - 1][0];
    const fresh = await fetchCandles("after", last);
    const rows = fresh.candles.filter((row) => row[0] > last);
    isLastReached = rows.length === 0;
    shown = [...shown, ...rows];
    joinMarkers(fresh.markers);
    if (rows.length) put();
  });

  function look(from, to) {
    const span = Math.max(30, to - from);
    chart.timeScale().setVisibleLogicalRange({ from: from - span * 0.4, to: to + span * 0.4 });
  }

  // Have candles from one moment to another, then bring them into view.
  async function goTo(from, to) {
    const reaches = shown.length && from >= shown[0][0] && to <= shown[shown.length - 1][0] + spacing(shown);
    if (!reaches) {
      const fresh = await fetchCandles("around", from);
      shown = fresh.candles;
      markers = fresh.markers;
      isFirstReached = isLastReached = false;
      put();
      if (to > shown[shown.length - 1][0]) await newer();
    }
    look(Math.max(0, rowAt(shown, from)), Math.max(0, rowAt(shown, to)));
    mark();
  }

  async function showTrade(row) {
    const { from, to, entry, exit, gain, name } = row.dataset;
    const start = Number(from);
    const end = Number(to ?? shown[shown.length - 1]?.[0] ?? from);
    await goTo(start, end);
    const first = rowAt(shown, start);
    const last = rowAt(shown, end);
    const isLine = to && last > first && first >= 0;
    trade.setData(isLine ? [{ time: shown[first][0], value: Number(entry) }, { time: shown[last][0], value: Number(exit) }] : []);
    trade.applyOptions({ color: token(gain === "yes" ? "gain" : "loss") });
    for (const other of document.querySelectorAll("tr.is-shown")) other.classList.remove("is-shown");
    row.classList.add("is-shown");
    const label = document.getElementById("trade-shown");
    if (label) label.textContent = `${name} · `;
  }

  document.addEventListener("click", (event) => {
    const row = event.target.closest("[data-trades] tbody tr");
    if (!row || event.metaKey || event.ctrlKey || event.button !== 0) return;
    const link = row.querySelector("a");
    const key = new URL(link.href).searchParams.get("candles");
    if (key && !url.endsWith(`/${encodeURIComponent(key)}.json`)) {
      if (event.target.closest("a") !== link) link.click();
      return; // another instrument: the link opens its chart
    }
    event.preventDefault();
    showTrade(row).catch(() => {});
    const top = document.getElementById("chart").getBoundingClientRect().top;
    if (top < 60 || top > innerHeight - 300) document.getElementById("chart").scrollIntoView({ behavior: still ? "auto" : "smooth", block: "start" });
  });

  chart.subscribeCrosshairMove((move) => tell(box, shown, move.time ? shown[rowAt(shown, move.time)] : shown[shown.length - 1], decimals));
  let pending = 0;
  chart.timeScale().subscribeVisibleLogicalRangeChange((range) => {
    if (!range) return;
    if (range.from < 20) older().catch(() => {});
    if (range.to > shown.length - 20) newer().catch(() => {});
    clearTimeout(pending);
    pending = setTimeout(mark, 120);
  });

  keys(box, chart);

  onThemeChange(() => {
    chart.applyOptions(style());
    price.applyOptions(body());
    volume.setData(shown.map(column));
    mark();
  });

  async function first() {
    const at = Number(box.dataset.at);
    const fresh = await fetchCandles(at ? "around" : "", at);
    shown = fresh.candles;
    markers = fresh.markers;
    isLastReached = !at;
    if (!shown.length) return say(box, "The bars of this run are not stored any more.");
    say(box, "");
    put();
    tell(box, shown, shown[shown.length - 1], decimals);
    if (!at) {
      const wide = Math.max(60, box.clientWidth / 7);
      chart.timeScale().setVisibleLogicalRange({ from: shown.length - wide, to: shown.length + 6 });
      return;
    }
    const row = [...document.querySelectorAll("[data-trades] tbody tr")].find((r) => Number(r.dataset.from) === at);
    if (row) await showTrade(row);
    else look(rowAt(shown, at) - 30, rowAt(shown, at) + 30);
  }
  first().catch(() => say(box, "These candles could not be loaded. Load the page again."));
})();
