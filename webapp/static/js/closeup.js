// A close look: candles around one bar or one order, with the bar marked, levels, fills and features that are prices.
"use strict";
(() => {
  const lib = window.LightweightCharts;
  const kit = window.seraphimCharts;
  if (!window.seraphimCandles) return;
  const { grouped, timeText, token, numbers, say, onThemeChange } = kit;
  const { style, body, bar, spacing, isDaily, tick, rowAt, arrows, tell: tellBar, keys } = window.seraphimCandles;
  const LINES = ["accent", "warning", "muted", "gain", "loss"];

  function make(box) {
    let shown = [];
    let data = null;
    let levels = [];
    let lines = [];
    box.replaceChildren();
    const chart = lib.createChart(box, {
      ...style(), autoSize: true,
      localization: { timeFormatter: (time) => timeText(time, isDaily(shown) ? "date" : "full"), priceFormatter: (p) => grouped(p, data?.decimals ?? 2) },
      crosshair: { ...style().crosshair, mode: 0 },
      timeScale: {
        ...style().timeScale, rightOffset: 3, tickMarkFormatter: tick,
      },
    });
    const price = chart.addSeries(lib.CandlestickSeries, { borderVisible: false, priceLineVisible: false, lastValueVisible: false });
    const marks = lib.createSeriesMarkers(price, []);
    price.priceScale().applyOptions({ scaleMargins: { top: 0.12, bottom: 0.12 } });

    function candle(row) {
      const isBar = data.bar !== null && row[0] === shown[rowAt(shown, data.bar)]?.[0];
      return isBar ? { ...bar(row), color: token("accent"), wickColor: token("accent") } : bar(row);
    }

    function mark() {
      const drawn = arrows(shown, data.markers, data.markers.length > 24);
      const at = data.bar === null ? -1 : rowAt(shown, data.bar);
      if (at >= 0) drawn.push({ time: shown[at][0], position: "aboveBar", shape: "circle", color: token("accent"), text: data.label || "this bar", size: 0.6 });
      marks.setMarkers(drawn.sort((a, b) => a.time - b.time));
    }

    function draw() {
      price.applyOptions({
        ...body(),
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
      chart.applyOptions({ timeScale: { timeVisible: !isDaily(shown), secondsVisible: spacing(shown) < 60 } });
    }

    function tell(row) {
      if (!row) return;
      const more = data.features.map((feature) => [feature.name.replaceAll("_", " "), feature.points.find(([at]) => at === row[0])?.[1]]);
      tellBar(box, shown, row, data.decimals, more.filter(([, value]) => value != null).map(([name, value]) => [name, grouped(value, data.decimals)]));
    }

    const chosen = () => shown[data.bar === null ? shown.length - 1 : Math.max(0, rowAt(shown, data.bar))];

    async function first() {
      data = await numbers(box.dataset.url);
      shown = data.candles;
      if (!shown.length) return say(box, "No bars are stored around it.");
      say(box, "");
      draw();
      tell(chosen());
      chart.timeScale().fitContent();
    }

    chart.subscribeCrosshairMove((move) => data && tell(move.time ? shown[rowAt(shown, move.time)] : chosen()));
    keys(box, chart, true);
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
