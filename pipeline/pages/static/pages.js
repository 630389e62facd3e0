// Charts are drawn from the tables beside them, so both always say the same. Without this file the tables are there.
"use strict";

const drawn = new Map();

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function number(cell) {
  const text = cell.textContent.trim().replaceAll(",", "").replace("−", "-");
  return text === "–" || text === "" ? null : Number(text);
}

function read(table) {
  const heads = [...table.tHead.rows[0].cells].map((cell) => cell.textContent.trim());
  const rows = [...table.tBodies[0].rows].map((row) => [...row.cells]);
  return { heads, slots: rows.map((cells) => cells[0].textContent.trim()), rows };
}

function frame(slots) {
  const quiet = colour("--quiet"), line = colour("--line");
  return {
    animation: false,
    textStyle: { fontFamily: "inherit" },
    grid: { left: 4, right: 10, top: 30, bottom: 2, containLabel: true },
    tooltip: {
      trigger: "axis", renderMode: "richText", backgroundColor: colour("--panel"), borderColor: line,
      textStyle: { color: colour("--ink"), fontSize: 12 },
    },
    legend: { top: 0, left: 0, itemWidth: 12, itemHeight: 8, type: "scroll", textStyle: { color: quiet }, pageTextStyle: { color: quiet }, pageIconColor: quiet },
    xAxis: { type: "category", data: slots, axisLabel: { color: quiet, hideOverlap: true }, axisLine: { lineStyle: { color: line } }, axisTick: { show: false } },
    yAxis: { type: "value", axisLabel: { color: quiet }, splitLine: { lineStyle: { color: line } } },
  };
}

const kinds = {
  stacked(table) {
    const { heads, slots, rows } = read(table);
    const names = heads.slice(1, -1);
    const series = names.map((name, index) => ({
      name, type: "bar", stack: "credits", barMaxWidth: 40, color: colour(`--c${(index % 6) + 1}`),
      data: rows.map((cells) => number(cells[index + 1])),
    }));
    return { ...frame(slots), series };
  },
  burn(table) {
    const { slots, rows } = read(table);
    const column = (index) => rows.map((cells) => number(cells[index]));
    const accent = colour("--accent");
    return {
      ...frame(slots.map((slot) => slot.slice(5))),
      series: [
        { name: "Left", type: "line", step: false, symbol: "circle", symbolSize: 5, showSymbol: rows.length < 40, color: accent, areaStyle: { opacity: 0.12 }, data: column(2) },
        { name: "At this pace", type: "line", symbol: "none", color: colour("--c3"), lineStyle: { type: "dashed" }, data: column(3) },
      ],
    };
  },
};

function draw() {
  if (typeof echarts === "undefined") return;
  for (const [place, chart] of drawn) {
    if (!place.isConnected) { chart.dispose(); drawn.delete(place); }
  }
  for (const place of document.querySelectorAll("[data-chart]")) {
    const table = document.getElementById(place.dataset.table);
    if (!table || !table.tBodies.length) continue;
    if (!drawn.has(place)) {
      place.textContent = " ";  // Shown, so that it has a size.
      place.textContent = "";
      place.append(document.createElement("div"));
      place.firstChild.className = "chart-canvas";
      drawn.set(place, echarts.init(place.firstChild, null, { height: place.clientHeight, width: place.clientWidth }));
    }
    drawn.get(place).setOption(kinds[place.dataset.chart](table), true);
  }
}

function resize() {
  for (const [place, chart] of drawn) chart.resize({ width: place.clientWidth, height: place.clientHeight });
}

document.addEventListener("DOMContentLoaded", draw);
document.addEventListener("htmx:after:swap", draw);
window.addEventListener("resize", resize);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") for (const menu of document.querySelectorAll("details.menu[open]")) menu.open = false;
});
