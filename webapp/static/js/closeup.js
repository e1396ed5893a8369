// A close look: candles around one bar or one order, with the bar marked, levels, fills and features that are prices.
"use strict";
(() => {
  const lib = window.LightweightCharts;
  const kit = window.seraphimCharts;
  if (!lib || !kit) return;
  const { grouped, percent, timeText, token, faded, numbers, say, readout, onThemeChange } = kit;
  const LINES = ["accent", "warning", "muted", "gain", "loss"];

  const style = () => ({
    layout: {
      background: { color: token("panel") }, textColor: token("muted"), fontSize: 11,
      fontFamily: "system-ui, sans-serif", attributionLogo: false,
    },
    grid: { vertLines: { color: faded("line", 55) }, horzLines: { color: faded("line", 70) } },
    rightPriceScale: { borderColor: token("line") },
    crosshair: {
      mode: 0,
      vertLine: { color: token("muted"), labelBackgroundColor: token("line-strong") },
      horzLine: { color: token("muted"), labelBackgroundColor: token("line-strong") },
    },
  });

  function make(box) {
    let shown = [];
    let data = null;
    let levels = [];
    let lines = [];
    box.replaceChildren();
    const isDaily = () => shown.length > 1 && shown[1][0] - shown[0][0] >= 80000;
    const chart = lib.createChart(box, {
      ...style(), autoSize: true,
      localization: { timeFormatter: (time) => timeText(time, isDaily() ? "date" : "full"), priceFormatter: (p) => grouped(p, data?.decimals ?? 2) },
      timeScale: {
        borderColor: token("line"), rightOffset: 3,
        tickMarkFormatter: (time, kind) => timeText(time, kind === 0 ? "year" : kind === 1 ? "month" : kind === 2 ? "day" : "minute"),
      },
    });
    const price = chart.addSeries(lib.CandlestickSeries, { borderVisible: false, priceLineVisible: false, lastValueVisible: false });
    const marks = lib.createSeriesMarkers(price, []);
    price.priceScale().applyOptions({ scaleMargins: { top: 0.12, bottom: 0.12 } });

    // the candle a moment belongs to: the last one that opened at or before it
    function rowAt(seconds) {
      let found = -1;
      for (let i = 0; i < shown.length && shown[i][0] <= seconds; i += 1) found = i;
      return found;
    }

    function candle([time, open, high, low, close]) {
      const isBar = data.bar !== null && time === shown[rowAt(data.bar)]?.[0];
      return isBar ? { time, open, high, low, close, color: token("accent"), wickColor: token("accent") } : { time, open, high, low, close };
    }

    function mark() {
      const placed = data.markers.map((m) => ({ ...m, row: rowAt(m.time) })).filter((m) => m.row >= 0);
      const drawn = placed.map((m) => ({
        time: shown[m.row][0],
        position: m.side === "buy" ? "belowBar" : "aboveBar",
        shape: m.side === "buy" ? "arrowUp" : "arrowDown",
        color: token(m.side === "buy" ? "gain" : "loss"),
        text: placed.length > 24 ? "" : m.quantity,
      }));
      const at = data.bar === null ? -1 : rowAt(data.bar);
      if (at >= 0) drawn.push({ time: shown[at][0], position: "aboveBar", shape: "circle", color: token("accent"), text: data.label || "this bar", size: 0.6 });
      marks.setMarkers(drawn.sort((a, b) => a.time - b.time));
    }

    function draw() {
      price.applyOptions({
        upColor: token("gain"), downColor: token("loss"), wickUpColor: token("gain"), wickDownColor: token("loss"),
        priceFormat: { type: "price", precision: data.decimals, minMove: 10 ** -data.decimals },
      });
      price.setData(shown.map(candle));
      for (const line of levels) price.removePriceLine(line);
      levels = data.levels.map((level) => price.createPriceLine({
        price: level.price, title: level.text, color: token(level.tone), lineStyle: 2, lineWidth: 1, axisLabelVisible: true,
      }));
      for (const line of lines) chart.removeSeries(line);
      lines = data.features.map((feature, place) => {
        const line = chart.addSeries(lib.LineSeries, {
          color: token(LINES[place % LINES.length]), lineWidth: 2, priceLineVisible: false, lastValueVisible: true,
          title: feature.name.replaceAll("_", " "), crosshairMarkerVisible: false,
        });
        line.setData(feature.points.map(([time, value]) => (value === null ? { time } : { time, value })));
        return line;
      });
      mark();
      chart.applyOptions({ timeScale: { timeVisible: !isDaily(), secondsVisible: shown.length > 1 && shown[1][0] - shown[0][0] < 60 } });
    }

    function tell(row) {
      if (!row) return;
      const [time, open, high, low, close, amount] = row;
      const gain = close / open - 1;
      const pairs = [
        ["", timeText(time, isDaily() ? "date" : "full")],
        ["O", grouped(open, data.decimals)], ["H", grouped(high, data.decimals)], ["L", grouped(low, data.decimals)], ["C", grouped(close, data.decimals)],
        ["", `${gain > 0 ? "▲ +" : gain < 0 ? "▼ " : ""}${percent(gain)}`, gain > 0 ? "gain" : gain < 0 ? "loss" : ""],
        ["Vol", grouped(amount, amount < 100 ? 2 : 0)],
      ];
      for (const feature of data.features) {
        const point = feature.points.find(([at]) => at === time);
        if (point && point[1] !== null) pairs.push([feature.name.replaceAll("_", " "), grouped(point[1], data.decimals)]);
      }
      readout(box, pairs);
    }

    const chosen = () => shown[data.bar === null ? shown.length - 1 : Math.max(0, rowAt(data.bar))];

    async function first() {
      data = await numbers(box.dataset.url);
      shown = data.candles;
      if (!shown.length) return say(box, "No bars are stored around it.");
      say(box, "");
      draw();
      tell(chosen());
      chart.timeScale().fitContent();
    }

    chart.subscribeCrosshairMove((move) => data && tell(move.time ? shown[rowAt(move.time)] : chosen()));
    box.addEventListener("keydown", (event) => {
      const scale = chart.timeScale();
      const range = scale.getVisibleLogicalRange();
      if (!range) return;
      const span = range.to - range.from;
      const moves = {
        ArrowLeft: [-span * 0.1, -span * 0.1], ArrowRight: [span * 0.1, span * 0.1],
        "+": [span * 0.1, -span * 0.1], "=": [span * 0.1, -span * 0.1], "-": [-span * 0.15, span * 0.15],
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
      if (shown.length) draw();
    });
    first().catch(() => say(box, "These candles could not be loaded. Load the page again."));
  }

  const made = new WeakSet();
  function find(root) {
    for (const box of root.querySelectorAll?.("[data-closeup]") ?? []) {
      if (made.has(box)) continue;
      made.add(box);
      make(box);
    }
  }
  document.addEventListener("htmx:after:settle", (event) => find(event.target));
  find(document);
})();
