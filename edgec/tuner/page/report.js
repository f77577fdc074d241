"use strict";
const study = JSON.parse(document.getElementById("study").textContent);
const NS = "http://www.w3.org/2000/svg";
const LABELS = { latency_ms: "milliseconds per run", throughput_per_s: "samples per second", memory_bytes: "memory, MB", device_memory_bytes: "device memory, MB",
  drop: "quality lost, %", raised_nodes: "nodes in float (mixed)", estimated_cycles: "cycles (estimated)" };
const SCALE = { memory_bytes: 1e-6, device_memory_bytes: 1e-6, drop: 100 };
const OBJECTIVES = { latency: "latency_ms", throughput: "throughput_per_s", memory: "memory_bytes" };
const objectives = study.goals.objectives.map(name => OBJECTIVES[name]);
const TINY = { drop: 0.001 }, KEPT = 0.95;
const shown = (value, name) => value === undefined || value === null ? "" : TINY[name] && Math.abs(value) < TINY[name]
  ? (value === 0 ? "0" : `< ${TINY[name]}`) : Number(value.toPrecision(4)).toString();
const get = (trial, name) => trial.values[name] === undefined ? undefined : trial.values[name] * (SCALE[name] || 1);
const describe = configuration => Object.entries(configuration)
  .map(([name, value]) => `${name}=${typeof value === "string" ? value : JSON.stringify(value)}`).join(" ");
const width = holder => Math.max(holder.clientWidth, 280);
const differing = trial => {
  const standard = study.trials.length ? study.trials[0].configuration : {};
  if (trial.number === 0) return "the default";
  return describe(Object.fromEntries(Object.entries(trial.configuration).filter(([name, value]) => standard[name] !== value)));
};
const byNumber = new Map(study.trials.map(trial => [trial.number, trial]));

function make(tag, attributes, parent, text) {
  const element = document.createElementNS(parent instanceof SVGElement || tag === "svg" ? NS : "http://www.w3.org/1999/xhtml", tag);
  for (const [name, value] of Object.entries(attributes || {})) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  if (parent) parent.appendChild(element);
  return element;
}

function kind(trial) {
  if (study.winner && trial.number === study.winner.number && trial.number !== 0) return "winner";
  if (trial.number === 0) return "default";
  if (trial.state === "complete" && exceeded(trial).length) return "over";
  return trial.state;
}

function exceeded(trial) {
  const names = { latency: "latency_ms", memory: "memory_bytes", device_memory: "device_memory_bytes", drop: "drop" };
  return Object.entries(study.goals.limits).filter(([name, limit]) => trial.values[names[name]] > limit).map(([name]) => name);
}

function ticks(low, high, logarithmic, most = 7) {
  if (logarithmic) {
    const found = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++)
      for (const step of [1, 2, 5]) {
        const value = step * 10 ** power;
        if (value >= low * 0.999 && value <= high * 1.001) found.push(value);
      }
    if (found.length > most) { const powers = found.filter(value => Number.isInteger(Math.round(Math.log10(value) * 1e6) / 1e6)); if (powers.length > 1) return powers; }
    if (found.length > 1) return found;
  }
  const step = 10 ** Math.floor(Math.log10((high - low) / 4 || 1));
  const wide = [1, 2, 5, 10].map(factor => factor * step).find(step => (high - low) / step <= most) || 10 * step;
  const found = [];
  for (let value = Math.ceil(low / wide) * wide; value <= high; value += wide) found.push(Number(value.toPrecision(12)));
  return found;
}

function frame(holder, width, height, x, y, labels) {
  const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, role: "img" }, holder);
  const box = { left: width < 600 ? 58 : 70, right: width - 16, top: 12, bottom: height - 40 };
  const place = (axis, from, to) => {
    const convert = axis.log ? Math.log : value => value;
    const low = convert(axis.low), high = convert(axis.high);
    return value => from + (high === low ? 0.5 : (convert(value) - low) / (high - low)) * (to - from);
  };
  const px = place(x, box.left, box.right), py = place(y, box.bottom, box.top);
  for (const value of ticks(x.low, x.high, x.log, width < 600 ? 4 : 9)) {
    make("line", { class: "axis", x1: px(value), x2: px(value), y1: box.top, y2: box.bottom }, svg);
    make("text", { x: px(value), y: box.bottom + 16, "text-anchor": "middle" }, svg, shown(value));
  }
  for (const value of ticks(y.low, y.high, y.log)) {
    make("line", { class: "axis", x1: box.left, x2: box.right, y1: py(value), y2: py(value) }, svg);
    make("text", { x: box.left - 6, y: py(value) + 4, "text-anchor": "end" }, svg, shown(value));
  }
  make("text", { x: (box.left + box.right) / 2, y: height - 6, "text-anchor": "middle" }, svg, labels[0]);
  make("text", { transform: `translate(14 ${(box.top + box.bottom) / 2}) rotate(-90)`, "text-anchor": "middle" }, svg, labels[1]);
  return { svg, px, py };
}

function extent(values, log) {
  let low = Math.min(...values), high = Math.max(...values);
  if (log) { low /= 1.08; high *= 1.08; } else { const margin = (high - low) * 0.06 || Math.abs(high) * 0.06 || 1; low -= margin; high += margin; }
  return { low, high, log };
}

function logarithmic(values) {
  return Math.min(...values) > 0 && Math.max(...values) / Math.min(...values) > 8;
}

function choose(number) {
  chosen = number;
  const trial = byNumber.get(number);
  const holder = document.getElementById("details");
  holder.replaceChildren();
  make("strong", {}, holder, `Trial ${trial.number}: ${kind(trial) === "over" ? "over a limit" : trial.state}`);
  if (trial.reason) make("div", { class: "soft" }, holder, trial.reason);
  const table = make("table", {}, holder);
  for (const [name, value] of Object.entries(trial.configuration)) {
    const row = make("tr", {}, table);
    make("td", {}, row, name);
    make("td", {}, row, typeof value === "string" ? value : JSON.stringify(value));
  }
  for (const name of Object.keys(trial.values)) {
    const row = make("tr", {}, table), interval = trial.intervals[name], factor = SCALE[name] || 1;
    make("td", { class: "soft" }, row, LABELS[name] || name);
    make("td", {}, row, shown(get(trial, name), name) + (interval ? ` (${shown(interval[0] * factor)} to ${shown(interval[1] * factor)})` : ""));
  }
  for (const element of document.querySelectorAll("[data-trial]"))
    element.classList.toggle(element.tagName === "tr" || element.tagName === "TR" ? "chosen" : "selected", Number(element.dataset.trial) === number);
}

function point(svg, trial, x, y) {
  const element = make("circle", { class: `point ${kind(trial)}`, cx: x, cy: y, r: kind(trial) === "winner" || trial.number === 0 ? 7 : 5, "data-trial": trial.number, tabindex: 0 }, svg);
  make("title", {}, element, `trial ${trial.number}: ${differing(trial)}`);
  element.addEventListener("click", () => choose(trial.number));
  element.addEventListener("keydown", event => { if (event.key === "Enter") choose(trial.number); });
  return element;
}

function front() {
  const first = objectives[0];
  const candidates = [...objectives.slice(1), "memory_bytes", "throughput_per_s", "drop"].filter(name => name !== first);
  const varies = name => new Set(study.trials.map(trial => get(trial, name)).filter(value => value !== undefined)).size > 1;
  const second = candidates.find(varies);
  const holder = document.getElementById("front");
  const trials = study.trials.filter(trial => get(trial, first) !== undefined && (!second || get(trial, second) !== undefined));
  if (!second || !trials.length) { make("p", { class: "soft" }, holder, "Nothing to compare yet."); return; }
  const xs = trials.map(trial => get(trial, first)), ys = trials.map(trial => get(trial, second));
  const { svg, px, py } = frame(holder, width(holder), width(holder) < 600 ? 300 : 420, extent(xs, logarithmic(xs)), extent(ys, logarithmic(ys)), [LABELS[first], LABELS[second]]);
  const better = (name, a, b) => name === "throughput_per_s" ? a >= b : a <= b;
  const eligible = trials.filter(trial => trial.state === "complete" && !exceeded(trial).length);
  const best = eligible.filter(trial => !eligible.some(other => other !== trial
    && better(first, get(other, first), get(trial, first)) && better(second, get(other, second), get(trial, second))
    && (get(other, first) !== get(trial, first) || get(other, second) !== get(trial, second))));
  best.sort((a, b) => get(a, first) - get(b, first));
  if (best.length > 1) make("polyline", { class: "front", points: best.map(trial => `${px(get(trial, first))},${py(get(trial, second))}`).join(" ") }, svg);
  const order = ["pruned", "complete", "over", "default", "winner"];
  for (const trial of [...trials].sort((a, b) => order.indexOf(kind(a)) - order.indexOf(kind(b))))
    point(svg, trial, px(get(trial, first)), py(get(trial, second)));
}

function importance() {
  const holder = document.getElementById("importance");
  const entries = Object.entries(study.importance || {}).sort((a, b) => b[1] - a[1]);
  if (!entries.length) { make("p", { class: "soft" }, holder, "Too few trials to tell."); return; }
  const full = width(holder), left = full < 600 ? 118 : 170, room = full - left - 90;
  const svg = make("svg", { viewBox: `0 0 ${full} ${entries.length * 26 + 8}`, role: "img" }, holder);
  const top = Math.max(...entries.map(entry => entry[1]), 0.01);
  entries.forEach(([name, value], index) => {
    make("text", { x: left - 8, y: index * 26 + 20, "text-anchor": "end" }, svg, name);
    make("rect", { class: "bar", x: left, y: index * 26 + 6, width: Math.max(1, value / top * room), height: 18 }, svg);
    make("text", { x: left + 8 + value / top * room, y: index * 26 + 20 }, svg, `± ${(Math.expm1(value) * 100).toFixed(1)} %`);
  });
}

function distributions() {
  const holder = document.getElementById("distributions");
  const cost = trial => objectives[0] === "throughput_per_s" ? -trial.values.throughput_per_s : trial.values[objectives[0]];
  const ranked = study.trials.filter(trial => trial.samples_ms.length && trial.intervals.latency_ms).sort((a, b) => cost(a) - cost(b));
  const chosen = ranked.slice(0, 10);
  if (byNumber.get(0) && byNumber.get(0).samples_ms.length && !chosen.some(trial => trial.number === 0)) chosen.push(byNumber.get(0));
  if (!chosen.length) { make("p", { class: "soft" }, holder, "No run times: the values are estimates."); return; }
  const cut = trial => { const sorted = [...trial.samples_ms].sort((a, b) => a - b); return sorted.slice(0, Math.max(1, Math.ceil(sorted.length * KEPT))); };
  const all = chosen.flatMap(cut).concat(chosen.flatMap(trial => trial.intervals.latency_ms));
  const height = chosen.length * 30 + 52;
  const { svg, px } = frame(holder, width(holder), height, extent(all, logarithmic(all)), { low: 0, high: chosen.length, log: false }, [LABELS.latency_ms, ""]);
  svg.querySelectorAll("text[text-anchor=end]").forEach(element => element.remove());
  chosen.forEach((trial, index) => {
    const y = 12 + (index + 0.5) * 30 * (height - 52) / (chosen.length * 30);
    make("text", { x: width(holder) < 600 ? 52 : 64, y: y + 4, "text-anchor": "end" }, svg, trial.number === 0 ? "default" : `trial ${trial.number}`);
    for (const value of cut(trial)) make("rect", { class: "tick", x: px(value) - 0.8, y: y - 8, width: 1.6, height: 16 }, svg);
    const [low, high] = trial.intervals.latency_ms;
    make("line", { class: "interval", x1: px(low), x2: Math.max(px(high), px(low) + 2), y1: y, y2: y }, svg);
    point(svg, trial, px(trial.values.latency_ms), y);
  });
}

function history() {
  const holder = document.getElementById("history"), name = objectives[0];
  const trials = study.trials.filter(trial => get(trial, name) !== undefined);
  if (!trials.length) { make("p", { class: "soft" }, holder, "No trial is finished yet."); return; }
  const values = trials.map(trial => get(trial, name));
  const { svg, px, py } = frame(holder, width(holder), width(holder) < 600 ? 240 : 320, { low: -0.5, high: Math.max(...study.trials.map(trial => trial.number)) + 0.5, log: false }, extent(values, logarithmic(values)), ["trial", LABELS[name]]);
  let best, path = [];
  for (const trial of trials) {
    const value = get(trial, name), counts = trial.state === "complete" && !exceeded(trial).length;
    if (counts && (best === undefined || (name === "throughput_per_s" ? value > best : value < best))) best = value;
    if (best !== undefined) path.push(`${px(trial.number)},${py(best)}`);
  }
  make("polyline", { class: "best", points: path.join(" ") }, svg);
  for (const trial of trials) point(svg, trial, px(trial.number), py(get(trial, name)));
}

function rows() {
  const names = ["latency_ms", "throughput_per_s", "memory_bytes", "device_memory_bytes", "drop", "estimated_cycles"].filter(name => study.trials.some(trial => trial.values[name] !== undefined));
  const columns = [["trial", trial => trial.number], ["state", trial => kind(trial) === "over" ? "over limit" : trial.state],
    ...names.map(name => [LABELS[name], trial => get(trial, name), name]),
    ["differs from the default in", differing, "settings"], ["reason", trial => trial.reason || "", "why"]];
  const table = document.getElementById("trials"), head = make("tr", {}, make("thead", {}, table)), body = make("tbody", {}, table);
  let sorted = 0, upwards = true, state = "all";
  const fill = () => {
    const read = columns[sorted][1], list = study.trials.filter(trial => state === "all" || trial.state === state);
    list.sort((a, b) => { const x = read(a), y = read(b); return (x === undefined) - (y === undefined) || (x < y ? -1 : x > y ? 1 : 0) * (upwards ? 1 : -1); });
    body.replaceChildren();
    for (const trial of list) {
      const row = make("tr", { "data-trial": trial.number }, body);
      for (const [, read, name] of columns) { const value = read(trial), number = typeof value === "number"; make("td", { class: number ? "number" : name || "" }, row, number ? shown(value, name) : value ?? ""); }
      row.addEventListener("click", () => choose(trial.number));
    }
  };
  columns.forEach(([title], index) => make("th", { scope: "col" }, head, title).addEventListener("click", () => { upwards = sorted === index ? !upwards : true; sorted = index; fill(); }));
  const filters = document.getElementById("filters");
  for (const name of ["all", "complete", "pruned", "failed", "running"]) {
    const count = name === "all" ? study.trials.length : study.counts[name] || 0;
    if (!count && name !== "all") continue;
    const button = make("button", { type: "button", "aria-pressed": name === "all", "data-state": name }, filters, `${name} ${count}`);
    button.addEventListener("click", () => { state = name; for (const other of filters.children) other.setAttribute("aria-pressed", other === button); fill(); });
  }
  fill();
}

let chosen;
function draw() {
  for (const id of ["front", "importance", "distributions", "history"]) document.getElementById(id).replaceChildren();
  front(); importance(); distributions(); history();
  if (chosen !== undefined) choose(chosen);
}
draw(); rows();
choose(study.winner ? study.winner.number : study.trials.length ? study.trials[0].number : 0);
document.getElementById("copy")?.addEventListener("click", () => { navigator.clipboard?.writeText(document.getElementById("command").textContent); document.getElementById("copy").textContent = "copied"; });
let drawn = window.innerWidth;
window.addEventListener("resize", () => { if (window.innerWidth !== drawn) { drawn = window.innerWidth; draw(); } });
document.documentElement.dataset.ready = "yes";
