// Candles (Lightweight Charts): what every picture of them shares, and the one with trades and order lines that goes on by itself.
"use strict";
(() => {
  const lib = window.LightweightCharts;
  const kit = window.seraphimCharts;
  if (!lib || !kit) return;
  const { grouped, percent, timeText, token, faded, numbers, withQuery, say, readout, repeat, onThemeChange, register } = kit;

  // ------------------------------------------------------------ shared by all

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

  const bar = ([time, open, high, low, close]) => ({ time, open, high, low, close });
  const column = ([time, open, , , close, amount]) => ({ time, value: amount, color: faded(close >= open ? "gain" : "loss", 35) });
  const spacing = (rows) => (rows.length > 1 ? rows[1][0] - rows[0][0] : 60);
  const isDaily = (rows) => rows.length > 1 && spacing(rows) >= 80000;
  const tick = (time, kind) => timeText(time, ["year", "month", "day", "minute", "second"][kind] ?? "day");

  // The row a moment belongs to: the last candle that opened at or before it, -1 before all of them.
  function rowAt(rows, seconds) {
    let low = 0;
    let high = rows.length - 1;
    if (high < 0 || seconds < rows[0][0]) return -1;
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if (rows[middle][0] <= seconds) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  // Fills as arrows on the candles they happened in. Where there are many, they are small and say nothing.
  function arrows(rows, fills, crowded) {
    return fills.map((fill) => ({ ...fill, row: rowAt(rows, fill.time) })).filter((fill) => fill.row >= 0).map((fill) => ({
      time: rows[fill.row][0],
      position: fill.side === "buy" ? "belowBar" : "aboveBar",
      shape: fill.side === "buy" ? "arrowUp" : "arrowDown",
      color: token(fill.side === "buy" ? "gain" : "loss"),
      text: crowded ? "" : fill.quantity,
      size: crowded ? 0.8 : 1,
    })).sort((a, b) => a.time - b.time);
  }

  function tell(box, rows, row, decimals, more = []) {
    if (!row) return;
    const [time, open, high, low, close, amount] = row;
    const gain = close / open - 1;
    readout(box, [
      ["", timeText(time, isDaily(rows) ? "date" : "full")],
      ["O", grouped(open, decimals)], ["H", grouped(high, decimals)], ["L", grouped(low, decimals)], ["C", grouped(close, decimals)],
      ["", `${gain > 0 ? "▲ +" : gain < 0 ? "▼ " : ""}${percent(gain)}`, gain > 0 ? "gain" : gain < 0 ? "loss" : ""],
      ["Vol", grouped(amount, amount < 100 ? 2 : 0)],
      ...more,
    ]);
  }

  // Arrow keys move, plus and minus zoom (about the middle, or about the newest candle), 0 shows all.
  function keys(box, chart, aboutMiddle = false) {
    box.addEventListener("keydown", (event) => {
      const scale = chart.timeScale();
      const range = scale.getVisibleLogicalRange();
      if (!range) return;
      const span = range.to - range.from;
      const right = aboutMiddle ? 1 : 0;
      const moves = {
        ArrowLeft: [-span * 0.1, -span * 0.1], ArrowRight: [span * 0.1, span * 0.1],
        "+": [span * 0.1, -span * 0.1 * right], "=": [span * 0.1, -span * 0.1 * right], "-": [-span * 0.15, span * 0.15 * right],
      };
      if (event.key === "0") scale.fitContent();
      else if (moves[event.key]) {
        const [from, to] = moves[event.key];
        scale.setVisibleLogicalRange({ from: range.from + from, to: range.to + to });
      } else return;
      event.preventDefault();
    });
  }

  function volumeBelow(chart, top) {
    const volume = chart.addSeries(lib.HistogramSeries, {
      priceScaleId: "volume", priceFormat: { type: "volume" }, lastValueVisible: false, priceLineVisible: false,
    });
    chart.priceScale("volume").applyOptions({ scaleMargins: { top, bottom: 0 } });
    return volume;
  }

  window.seraphimCandles = { style, body, bar, column, spacing, isDaily, tick, rowAt, arrows, tell, keys, volumeBelow };

  // ------------------------------------------------------------ trades and order lines

  function candles(box) {
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    let shown = [];
    let decimals = 2;
    let isOlderAsked = false;
    let noOlder = false;
    let isPointed = false;
    let lines = [];
    box.replaceChildren();

    const chart = lib.createChart(box, {
      ...style(),
      autoSize: true,
      handleScale: { axisPressedMouseMove: true },
      kineticScroll: { mouse: false, touch: !still },
      timeScale: { ...style().timeScale, timeVisible: true, secondsVisible: false, rightOffset: 4, tickMarkFormatter: tick },
      localization: { timeFormatter: (t) => timeText(t, "full"), priceFormatter: (p) => grouped(p, decimals) },
    });
    chart.applyOptions({ crosshair: { ...style().crosshair, mode: 0 } });
    const price = chart.addSeries(lib.CandlestickSeries, { ...body(), priceLineStyle: 2 });
    const volume = volumeBelow(chart, 0.84);
    price.priceScale().applyOptions({ scaleMargins: { top: 0.08, bottom: 0.2 } });
    const marks = lib.createSeriesMarkers(price, []);
    const mark = (fills) => marks.setMarkers(arrows(shown, fills, fills.length > 60));

    const colours = { position: "accent", stop: "loss", target: "gain", ticket: "soft" };
    let stored = [];
    let typed = []; // what a form beside the picture is about to ask for

    function draw(levels) {
      stored = levels;
      for (const line of lines) price.removePriceLine(line);
      lines = [...stored, ...typed].map((level) => price.createPriceLine({
        price: level.price,
        title: level.text,
        color: token(colours[level.kind] ?? "warning"),
        lineStyle: level.kind === "position" ? 3 : 2,
        lineWidth: 1,
        axisLabelVisible: true,
      }));
    }

    let markers = [];

    function put(fresh) {
      decimals = fresh.decimals;
      markers = fresh.markers;
      price.setData(shown.map(bar));
      volume.setData(shown.map(column));
      price.applyOptions({ priceFormat: { type: "price", precision: decimals, minMove: 10 ** -decimals } });
      mark(markers);
      draw(fresh.lines);
      tell(box, shown, shown[shown.length - 1], decimals);
    }

    async function first() {
      const fresh = await numbers(box.dataset.url);
      shown = fresh.candles;
      if (!shown.length) return say(box, "No bars are stored for this instrument yet.");
      say(box, "");
      chart.applyOptions({ timeScale: { timeVisible: !isDaily(shown), secondsVisible: spacing(shown) < 60 } });
      put(fresh);
      chart.timeScale().setVisibleLogicalRange({ from: shown.length - Math.max(40, box.clientWidth / 8), to: shown.length + 3 });
    }

    async function newer() {
      if (!shown.length) return first();
      const fresh = await numbers(box.dataset.url);
      const last = shown[shown.length - 1][0];
      for (const row of fresh.candles) {
        if (row[0] < last) continue;
        if (row[0] === last) shown[shown.length - 1] = row;
        if (row[0] > shown[shown.length - 1][0]) shown.push(row);
        price.update(bar(row));
        volume.update(column(row));
      }
      if (JSON.stringify(fresh.markers) !== JSON.stringify(markers)) mark((markers = fresh.markers));
      draw(fresh.lines);
      if (!isPointed) tell(box, shown, shown[shown.length - 1], decimals);
    }

    async function older() {
      if (isOlderAsked || noOlder || !shown.length) return;
      isOlderAsked = true;
      try {
        const fresh = await numbers(withQuery(box.dataset.url, "before", shown[0][0]));
        const rows = fresh.candles.filter((row) => row[0] < shown[0][0]);
        noOlder = rows.length === 0;
        if (noOlder) return;
        shown = [...rows, ...shown];
        price.setData(shown.map(bar));
        volume.setData(shown.map(column));
        markers = fresh.markers;
        mark(markers);
      } finally {
        isOlderAsked = false;
      }
    }

    // A form beside it draws the prices typed into it, and hears where the picture is clicked.
    box.addEventListener("levels", (event) => {
      typed = event.detail;
      draw(stored);
    });
    chart.subscribeClick((click) => {
      const at = click.point ? price.coordinateToPrice(click.point.y) : null;
      if (at !== null) box.dispatchEvent(new CustomEvent("pointed", { bubbles: true, detail: { price: at, decimals } }));
    });

    chart.subscribeCrosshairMove((move) => {
      isPointed = Boolean(move.time);
      tell(box, shown, isPointed ? shown[rowAt(shown, move.time)] : shown[shown.length - 1], decimals);
    });
    if (box.dataset.why) {
      chart.subscribeClick((click) => {
        const apart = shown.length > 1 ? Math.min(...shown.slice(-20).map((row, i, rows) => (i ? row[0] - rows[i - 1][0] : Infinity))) : 60;
        if (click.time) location.assign(withQuery(box.dataset.why, "at", new Date((click.time + apart) * 1000).toISOString().replace("Z", "+00:00")));
      });
    }
    chart.timeScale().subscribeVisibleLogicalRangeChange((range) => {
      if (range && range.from < 20) older().catch(() => {});
    });
    keys(box, chart);

    onThemeChange(() => {
      chart.applyOptions(style());
      price.applyOptions(body());
      volume.setData(shown.map(column));
      mark(markers);
    });

    first().catch(() => say(box, "These candles could not be loaded. The page tries again."));
    repeat(box, Number(box.dataset.every) || 0, newer);
  }

  register("candles", candles);
})();
