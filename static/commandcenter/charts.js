// Draws a scope's charts from the figures that the page carries (commandcenter/charts.py says which), with uPlot. Colours
// and dashes come from the style sheet, so that light and dark work and no line is told by its colour alone.
"use strict";

const DASHES = [[], [8, 4], [2, 3], [10, 3, 2, 3], [], [8, 4], [2, 3], [10, 3, 2, 3]];
const LIMIT_DASH = [1, 4];
const HEIGHT = 220;
const SHOWN = {
  cost: (value) => `$${value.toPrecision(3)}`,
  success: (value) => `${(value * 100).toFixed(1)}%`,
  p95: (value) => `${Number((value / 1000).toPrecision(3))} s`,
};

const drawn = new Set();

// Read anew whenever a line is drawn: the theme may have changed.
function colour(name) {
  return getComputedStyle(document.body).getPropertyValue(name).trim();
}

function seriesOf(data, metric) {
  const lines = data.lines.map((line, index) => ({
    label: line.profile,
    stroke: () => colour(`--line-${index}`),
    width: 2,
    dash: DASHES[index],
    points: { size: 5 },
    spanGaps: false,
  }));
  const limit = { label: "SLA", stroke: () => colour("--bad"), width: 1, dash: LIMIT_DASH, points: { show: false } };
  return [{}, ...lines, ...(data.limits[metric] === null ? [] : [limit])];
}

function valuesOf(data, metric) {
  const limit = data.limits[metric];
  return [data.hours, ...data.lines.map((line) => line[metric]), ...(limit === null ? [] : [data.hours.map(() => limit)])];
}

// The scale is the figures', with the limit in it only where that does not flatten them: a maximum may be far away.
function rangeOf(data, metric) {
  const known = data.lines.flatMap((line) => line[metric]).filter((value) => value !== null);
  const limit = data.limits[metric];
  if (!known.length) return [0, limit || 1];
  let low = Math.min(...known);
  let high = Math.max(...known);
  if (limit !== null && limit < high * 2 && limit > low / 2) {
    low = Math.min(low, limit);
    high = Math.max(high, limit);
  }
  const room = (high - low || high || 1) * 0.08;
  return [Math.max(low - room, 0), metric === "success" ? Math.min(high + room, 1) : high + room];
}

function read(plot, data, metric, readout) {
  const at = plot.cursor.idx;
  if (at === null || at === undefined) {
    readout.textContent = "";
    return;
  }
  const hour = new Date(data.hours[at] * 1000);
  const told = data.lines
    .filter((line, index) => line[metric][at] !== null && plot.series[index + 1].show)
    .map((line) => `${line.profile} ${SHOWN[metric](line[metric][at])} (n=${line.n[at]})`);
  const local = hour.toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
  const utc = hour.toISOString().slice(11, 16);
  readout.textContent = `${local} (${utc} UTC): ${told.join("; ") || "no completions"}`;
}

function draw(place, data) {
  const metric = place.dataset.metric;
  const readout = place.parentElement.querySelector(".readout");
  const quiet = { stroke: () => colour("--body-quiet-color"), grid: { stroke: () => colour("--line"), width: 1 } };
  const options = {
    width: place.clientWidth,
    height: HEIGHT,
    legend: { show: false },
    cursor: { sync: { key: "scope" }, drag: { x: false, y: false }, y: false },
    scales: { y: { range: rangeOf(data, metric) } },
    axes: [quiet, { ...quiet, size: 64, values: (_, ticks) => ticks.map((tick) => SHOWN[metric](tick)) }],
    series: seriesOf(data, metric),
    hooks: { setCursor: [(plot) => read(plot, data, metric, readout)] },
  };
  const plot = new uPlot(options, valuesOf(data, metric), place);
  new ResizeObserver(() => plot.setSize({ width: place.clientWidth, height: HEIGHT })).observe(place);
  drawn.add(plot);
  return plot;
}

function drawAll() {
  for (const plot of drawn) {
    if (!plot.root.isConnected) {
      plot.destroy();
      drawn.delete(plot);
    }
  }
  for (const group of document.querySelectorAll("[data-charts]:not([data-drawn])")) {
    group.dataset.drawn = "1";
    const data = JSON.parse(document.getElementById(group.dataset.charts).textContent);
    const plots = [...group.querySelectorAll(".chart")].map((place) => draw(place, data));
    for (const box of document.querySelectorAll("[data-line]")) {
      const show = () => plots.forEach((plot) => plot.setSeries(Number(box.dataset.line) + 1, { show: box.checked }));
      box.addEventListener("change", show);
      if (!box.checked) show();
    }
  }
}

function redraw() {
  for (const plot of drawn) plot.redraw(false);
}

document.addEventListener("DOMContentLoaded", drawAll);
document.addEventListener("htmx:afterSettle", drawAll);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
new MutationObserver(redraw).observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
