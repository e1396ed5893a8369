// The candles of a run: any stretch of its bars, its fills as marks, and one trade after another shown on request.
"use strict";
(() => {
  const box = document.querySelector("[data-run-candles]");
  if (!box || !window.LightweightCharts || !window.seraphimCharts) return;
  const lib = window.LightweightCharts;
  const { grouped, percent, timeText, token, faded, numbers, withQuery, say, readout, onThemeChange } = window.seraphimCharts;
  const url = box.dataset.url;
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;

  let shown = [];
  let markers = [];
  let decimals = 2;
  let asking = false;
  let isFirstReached = false;
  let isLastReached = true;
  box.replaceChildren();

  const style = () => ({
    layout: {
      background: { color: token("panel") }, textColor: token("muted"), fontSize: 11,
      fontFamily: "system-ui, sans-serif", attributionLogo: false,
    },
    grid: { vertLines: { color: faded("line", 55) }, horzLines: { color: faded("line", 70) } },
    rightPriceScale: { borderColor: token("line") },
    timeScale: { borderColor: token("line") },
    crosshair: {
      vertLine: { color: token("muted"), labelBackgroundColor: token("line-strong") },
      horzLine: { color: token("muted"), labelBackgroundColor: token("line-strong") },
    },
  });
  const body = () => ({
    upColor: token("gain"), downColor: token("loss"), wickUpColor: token("gain"), wickDownColor: token("loss"), borderVisible: false,
  });

  const chart = lib.createChart(box, {
    ...style(), autoSize: true,
    localization: { timeFormatter: (time) => timeText(time, isDaily() ? "date" : "full") },
    timeScale: {
      ...style().timeScale, rightOffset: 3,
      tickMarkFormatter: (time, kind) => timeText(time, kind === 0 ? "year" : kind === 1 ? "month" : kind === 2 ? "day" : "minute"),
    },
  });
  const price = chart.addSeries(lib.CandlestickSeries, { ...body(), priceLineVisible: false });
  const volume = chart.addSeries(lib.HistogramSeries, { priceScaleId: "", priceFormat: { type: "volume" }, priceLineVisible: false, lastValueVisible: false });
  volume.priceScale().applyOptions({ scaleMargins: { top: 0.86, bottom: 0 } });
  price.priceScale().applyOptions({ scaleMargins: { top: 0.08, bottom: 0.18 } });
  const trade = chart.addSeries(lib.LineSeries, {
    lineWidth: 2, lineStyle: 2, priceLineVisible: false, lastValueVisible: false, crosshairMarkerVisible: false,
    autoscaleInfoProvider: () => null,
  });
  const marks = lib.createSeriesMarkers(price, []);

  const isDaily = () => shown.length > 1 && shown[1][0] - shown[0][0] >= 80000;
  const bar = ([time, open, high, low, close]) => ({ time, open, high, low, close });
  const column = ([time, open, , , close, amount]) => ({ time, value: amount, color: faded(close >= open ? "gain" : "loss", 30) });

  // the candle a moment belongs to: the last one that opened at or before it
  function rowAt(seconds) {
    let low = 0;
    let high = shown.length - 1;
    if (high < 0 || seconds < shown[0][0]) return -1;
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if (shown[middle][0] <= seconds) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  function mark() {
    const range = chart.timeScale().getVisibleLogicalRange();
    const seen = range ? markers.filter((m) => {
      const row = rowAt(m.time);
      return row >= range.from - 1 && row <= range.to + 1;
    }) : markers;
    const crowded = seen.length > 40;
    marks.setMarkers(markers.map((m) => ({ ...m, row: rowAt(m.time) })).filter((m) => m.row >= 0).map((m) => ({
      time: shown[m.row][0],
      position: m.side === "buy" ? "belowBar" : "aboveBar",
      shape: m.side === "buy" ? "arrowUp" : "arrowDown",
      color: token(m.side === "buy" ? "gain" : "loss"),
      text: crowded ? "" : m.quantity,
      size: crowded ? 0.8 : 1,
    })).sort((a, b) => a.time - b.time));
  }

  function tell(row) {
    if (!row) return;
    const [time, open, high, low, close, amount] = row;
    const gain = close / open - 1;
    readout(box, [
      ["", timeText(time, isDaily() ? "date" : "full")],
      ["O", grouped(open, decimals)], ["H", grouped(high, decimals)], ["L", grouped(low, decimals)], ["C", grouped(close, decimals)],
      ["", `${gain > 0 ? "▲ +" : gain < 0 ? "▼ " : ""}${percent(gain)}`, gain > 0 ? "gain" : gain < 0 ? "loss" : ""],
      ["Vol", grouped(amount, amount < 100 ? 2 : 0)],
    ]);
  }

  function put() {
    price.applyOptions({ priceFormat: { type: "price", precision: decimals, minMove: 10 ** -decimals } });
    price.setData(shown.map(bar));
    volume.setData(shown.map(column));
    chart.applyOptions({ timeScale: { timeVisible: !isDaily(), secondsVisible: false } });
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
    const reaches = shown.length && from >= shown[0][0] && to <= shown[shown.length - 1][0] + (shown[1]?.[0] - shown[0][0] || 0);
    if (!reaches) {
      const fresh = await fetchCandles("around", from);
      shown = fresh.candles;
      markers = fresh.markers;
      isFirstReached = isLastReached = false;
      put();
      if (to > shown[shown.length - 1][0]) await newer();
    }
    look(Math.max(0, rowAt(from)), Math.max(0, rowAt(to)));
    mark();
  }

  async function showTrade(row) {
    const { from, to, entry, exit, gain, name } = row.dataset;
    const start = Number(from);
    const end = Number(to ?? shown[shown.length - 1]?.[0] ?? from);
    await goTo(start, end);
    const first = rowAt(start);
    const last = rowAt(end);
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

  chart.subscribeCrosshairMove((move) => tell(move.time ? shown[rowAt(move.time)] : shown[shown.length - 1]));
  let pending = 0;
  chart.timeScale().subscribeVisibleLogicalRangeChange((range) => {
    if (!range) return;
    if (range.from < 20) older().catch(() => {});
    if (range.to > shown.length - 20) newer().catch(() => {});
    clearTimeout(pending);
    pending = setTimeout(mark, 120);
  });

  box.addEventListener("keydown", (event) => {
    const scale = chart.timeScale();
    const range = scale.getVisibleLogicalRange();
    if (!range) return;
    const span = range.to - range.from;
    const moves = {
      ArrowLeft: [-span * 0.1, -span * 0.1], ArrowRight: [span * 0.1, span * 0.1],
      "+": [span * 0.1, 0], "=": [span * 0.1, 0], "-": [-span * 0.15, 0],
    };
    if (event.key === "0") scale.fitContent();
    else if (moves[event.key]) {
      const [from, to] = moves[event.key];
      scale.setVisibleLogicalRange({ from: range.from + from, to: range.to + to });
    } else return;
    event.preventDefault();
  });

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
    tell(shown[shown.length - 1]);
    if (!at) {
      const wide = Math.max(60, box.clientWidth / 7);
      chart.timeScale().setVisibleLogicalRange({ from: shown.length - wide, to: shown.length + 3 });
      return;
    }
    const row = [...document.querySelectorAll("[data-trades] tbody tr")].find((r) => Number(r.dataset.from) === at);
    if (row) await showTrade(row);
    else look(rowAt(at) - 30, rowAt(at) + 30);
  }
  first().catch(() => say(box, "These candles could not be loaded. Load the page again."));
})();
