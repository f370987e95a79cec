"use strict";
// All text goes into the page as text (append, textContent), never as markup.

const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const content = (id) => byId(id).querySelector(".content");

// ---- elements

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function draw(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

const scrolling = (...children) => make("div", { className: "scroll", tabIndex: 0 }, ...children);
const format = (value, digits = 2) => (value === null || value === undefined || Number.isNaN(value) ? "–" : value.toFixed(digits));
const compact = (p) => (p === null || p === undefined ? "–" : p < 0.001 ? p.toExponential(1) : p.toFixed(3));

/** A table that sorts by a click on a heading; columns have title, value (to sort by), cell (to show) and text (left-aligned). */
function sortable(columns, rows, start = null, descending = true) {
  const table = make("table");
  const body = make("tbody");
  let sorted = { column: start, descending };
  const heads = columns.map((column, index) => {
    const button = make("button", { type: "button", textContent: column.title });
    const head = make("th", { className: column.text ? "text" : "", scope: "col", title: column.hint || "" }, button);
    button.addEventListener("click", () => {
      sorted = { column: index, descending: sorted.column === index ? !sorted.descending : !column.text };
      fill();
    });
    return head;
  });
  function fill() {
    const shown = [...rows];
    if (sorted.column !== null) {
      const { value } = columns[sorted.column];
      const missing = (x) => x === null || x === undefined || Number.isNaN(x);
      shown.sort((a, b) => {
        const [x, y] = [value(a), value(b)];
        if (missing(x) || missing(y)) return missing(x) - missing(y);
        const order = typeof x === "number" ? x - y : String(x).localeCompare(String(y), undefined, { numeric: true });
        return sorted.descending ? -order : order;
      });
    }
    heads.forEach((head, index) => {
      if (index === sorted.column) head.setAttribute("aria-sort", sorted.descending ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
    body.replaceChildren(...shown.map((row, place) => make("tr", {}, ...columns.map((column) => cellOf(column, row, place)))));
  }
  function cellOf(column, row, place) {
    const shown = column.cell ? column.cell(row, place) : column.value(row);
    return make("td", { className: `${column.text ? "text" : ""} ${column.className ? column.className(row) : ""}` }, shown ?? "–");
  }
  table.append(make("thead", {}, make("tr", {}, ...heads)), body);
  fill();
  return scrolling(table);
}

// ---- numbers

const mean = (values) => (values.length ? values.reduce((a, b) => a + b, 0) / values.length : null);

function deviation(values) {
  if (values.length < 2) return null;
  const middle = mean(values);
  return Math.sqrt(values.reduce((sum, value) => sum + (value - middle) ** 2, 0) / (values.length - 1));
}

const runsOf = data.systems.map(() => new Map());
data.runs.forEach((run, number) => {
  run.number = number;
  const ofCategory = runsOf[run.system];
  if (!ofCategory.has(run.category)) ofCategory.set(run.category, []);
  ofCategory.get(run.category).push(run);
});
const lacking = data.systems.map(() => new Map());
for (const [system, category] of data.expected) lacking[system].set(category, (lacking[system].get(category) || 0) + 1);
for (const run of data.runs) lacking[run.system].set(run.category, lacking[run.system].get(run.category) - 1);

const metricIndex = (name) => data.metrics.findIndex((metric) => metric.name === name);
const valueOf = (run, metric, selection) => run.values[data.selections.indexOf(selection)][metricIndex(metric)];

/** Mean over categories by seed, then over seeds; with the number of categories and of runs that are lacking. */
function summary(system, metric, selection, categories) {
  const bySeed = new Map();
  let found = 0;
  let holes = 0;
  for (const category of categories) {
    const values = (runsOf[system].get(category) || []).map((run) => [run.seed, valueOf(run, metric, selection)]);
    const there = values.filter(([, value]) => value !== null);
    if (there.length) found += 1;
    holes += lacking[system].get(category) || 0;
    for (const [seed, value] of there) bySeed.set(seed, [...(bySeed.get(seed) || []), value]);
  }
  const means = [...bySeed.values()].map(mean);
  return { mean: mean(means), std: deviation(means), seeds: means.length, categories: found, holes };
}

function shownSummary(found) {
  if (found.mean === null) return found.holes ? "–†" : "–";
  return format(found.mean) + (found.std === null ? "" : ` ± ${format(found.std)}`) + (found.holes ? "†" : "");
}

// ---- filters

const filter = {};

function choices(id, values, titles = values) {
  byId(id).replaceChildren(...values.map((value, index) => make("option", { value, textContent: titles[index] })));
}

function prepareFilters() {
  const datasets = [...new Set(data.categories.map(([dataset]) => dataset))];
  const backbones = [...new Set(data.systems.map((system) => system.backbone))];
  choices("dataset", datasets.length > 1 ? ["", ...datasets] : datasets, datasets.length > 1 ? ["all", ...datasets] : datasets);
  choices("setting", [...new Set(data.systems.map((system) => system.setting))]);
  choices("selection", data.selections.filter((s) => data.runs.some((run) => run.values[data.selections.indexOf(s)].some((v) => v !== null))));
  choices("backbone", backbones.length > 1 ? ["", ...backbones] : backbones, backbones.length > 1 ? ["all", ...backbones] : backbones);
  choices("metric", data.metrics.map((metric) => metric.name), data.metrics.map((metric) => metric.title));
  byId("filters").addEventListener("change", refresh);
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
}

const shownCategories = () =>
  data.categories.map((category, index) => index).filter((index) => !filter.dataset || data.categories[index][0] === filter.dataset);

function shownSystems() {
  const categories = shownCategories();
  return data.systems
    .map((system, index) => index)
    .filter((index) => data.systems[index].setting === filter.setting && (!filter.backbone || data.systems[index].backbone === filter.backbone))
    .filter((index) => categories.some((category) => lacking[index].has(category)));
}

function nameOf(index) {
  const system = data.systems[index];
  const several = new Set(data.systems.filter((s) => s.method === system.method).map((s) => s.backbone)).size > 1;
  return several && !filter.backbone ? `${system.title} (${system.backbone})` : system.title;
}

const titleOf = (method) => (data.systems.find((system) => system.method === method) || { title: method }).title;
const metricTitle = () => data.metrics[metricIndex(filter.metric)].title;

// ---- sections

function testFor(unit) {
  return data.tests.find((test) => test.setting === filter.setting && test.selection === filter.selection && test.metric === filter.metric
    && test.dataset === filter.dataset && test.unit === unit && (test.backbone === filter.backbone || (!filter.backbone && test.backbone === "")
    || (!filter.backbone && new Set(shownSystems().map((s) => data.systems[s].backbone)).size === 1 && test.backbone === data.systems[shownSystems()[0]].backbone)));
}

function intervalOf(system) {
  const found = data.intervals.find((interval) => interval.system === system && interval.dataset === filter.dataset);
  return found || null;
}

function showLeaderboard() {
  const categories = shownCategories();
  const metrics = [...new Set([filter.metric, ...data.headline])].filter((name) => metricIndex(name) >= 0);
  const rows = shownSystems().map((system) => ({
    system,
    found: Object.fromEntries(metrics.map((metric) => [metric, summary(system, metric, filter.selection, categories)])),
    runs: categories.flatMap((category) => runsOf[system].get(category) || []),
  }));
  const lowest = data.metrics[metricIndex(filter.metric)].counts;
  const ranked = rows.filter((row) => row.found[filter.metric].mean !== null)
    .sort((a, b) => (lowest ? 1 : -1) * (a.found[filter.metric].mean - b.found[filter.metric].mean));
  const place = new Map(ranked.map((row, index) => [row.system, index + 1]));
  const test = testFor("category");
  const best = ranked.length ? data.systems[ranked[0].system].method : null;
  const pOf = (row) => {
    const pair = test && test.pairs.find(([a, b]) => [a, b].includes(best) && [a, b].includes(data.systems[row.system].method) && a !== b);
    return row.system === (ranked[0] || {}).system || !pair ? null : pair[6];
  };
  const cost = (row, index) => mean(row.runs.map((run) => run.cost[index]));
  const columns = [
    { title: "method", text: true, value: (row) => nameOf(row.system), cell: (row) => nameOf(row.system) },
    { title: "place", value: (row) => place.get(row.system) ?? null },
    ...metrics.map((metric) => ({
      title: data.metrics[metricIndex(metric)].title, value: (row) => row.found[metric].mean, cell: (row) => shownSummary(row.found[metric]),
      className: (row) => (metric === filter.metric && place.get(row.system) === 1 ? "better" : ""),
    })),
    { title: "95 % over images", hint: "Interval of the image AUROC of the last epoch, mean over seeds, by the bootstrap over test images",
      value: (row) => (intervalOf(row.system) || { low: null }).low,
      cell: (row) => { const i = intervalOf(row.system); return i ? `${format(i.low)} – ${format(i.high)}` : "–"; } },
    { title: "p against first", hint: "Wilcoxon over categories, Holm-corrected", value: pOf, cell: (row) => compact(pOf(row)),
      className: (row) => (pOf(row) !== null && pOf(row) < 0.05 ? "better" : "") },
    { title: "backbone", text: true, value: (row) => data.systems[row.system].backbone },
    { title: "categories", value: (row) => row.found[filter.metric].categories },
    { title: "seeds", value: (row) => row.found[filter.metric].seeds },
    { title: "parameters, M", value: (row) => cost(row, 0), cell: (row) => format(row.runs.length ? cost(row, 0) / 1e6 : null) },
    { title: "training, s", value: (row) => cost(row, 1), cell: (row) => format(cost(row, 1), 1) },
    { title: "scoring, images/s", value: (row) => cost(row, 2), cell: (row) => format(cost(row, 2), 1) },
    { title: "memory, GB", value: (row) => cost(row, 3), cell: (row) => format(row.runs.length ? cost(row, 3) / 1000 : null, 1) },
  ];
  const notes = [filter.dataset ? data.notes[filter.dataset] && `Subset: ${data.notes[filter.dataset]}.` : "Mean over the categories of all datasets on which the metric is defined.",
    test && test.n < 6 ? `With ${test.n} categories no p-value can be below ${compact(2 / 2 ** test.n)}.` : "",
    rows.some((row) => Object.values(row.found).some((found) => found.holes)) ? "† lacks runs that are not done, see the ledger." : ""];
  content("leaderboard").replaceChildren(sortable(columns, rows, 2, !lowest), make("p", {}, notes.filter(Boolean).join(" ")));
}

function showTests() {
  const parts = [];
  for (const unit of ["category", "run"]) {
    const test = testFor(unit);
    if (!test) continue;
    parts.push(make("h3", {}, `${metricTitle()}, ${filter.selection}, over ${test.n} ${unit === "run" ? "runs" : test.n === 1 ? "category" : "categories"}`));
    if (test.ranking) parts.push(scrolling(diagram(test)));
    const columns = [
      { title: "first", text: true, value: (pair) => titleOf(pair[0]) },
      { title: "second", text: true, value: (pair) => titleOf(pair[1]) },
      { title: "difference, points", value: (pair) => pair[2], cell: (pair) => format(pair[2]) },
      { title: "wins", value: (pair) => pair[3] },
      { title: "losses", value: (pair) => pair[4] },
      { title: "p", value: (pair) => pair[5], cell: (pair) => compact(pair[5]) },
      { title: "p, Holm", value: (pair) => pair[6], cell: (pair) => compact(pair[6]), className: (pair) => (pair[6] < 0.05 ? "better" : "") },
    ];
    parts.push(sortable(columns, test.pairs, 6, false));
  }
  if (!parts.length) parts.push(make("p", {}, "No two methods have blocks in common here: choose a headline metric, and one backbone."));
  content("tests").replaceChildren(...parts);
}

/** Critical-difference diagram: mean ranks on an axis, methods on both sides, bars over groups that do not differ. */
function diagram(test) {
  const { ranks, critical, groups, p } = test.ranking;
  const names = Object.keys(ranks);
  const [left, right, top] = [190, 510, 46];
  const x = (rank) => left + ((rank - 1) / (names.length - 1)) * (right - left);
  const half = Math.ceil(names.length / 2);
  const height = top + 24 + 9 * groups.length + 20 * half;
  const figure = draw("svg", { viewBox: `0 0 700 ${height}`, width: 700, role: "img", "aria-label": "Critical-difference diagram" });
  figure.append(draw("line", { x1: left, x2: right, y1: top, y2: top, class: "axis" }));
  for (let rank = 1; rank <= names.length; rank += 1) {
    figure.append(draw("line", { x1: x(rank), x2: x(rank), y1: top - 5, y2: top, class: "axis" }));
    figure.append(draw("text", { x: x(rank), y: top - 9, "text-anchor": "middle" }, String(rank)));
  }
  const end = Math.min(x(1 + critical), 690);
  figure.append(draw("line", { x1: left, x2: end, y1: 16, y2: 16, stroke: "#a8201a", "stroke-width": 2 }));
  figure.append(draw("text", { x: Math.min(end + 6, 470), y: 12 }, `CD ${critical.toFixed(2)}, Friedman p ${compact(p)}`));
  groups.forEach((group, index) => {
    const y = top + 9 + 9 * index;
    figure.append(draw("line", { x1: x(ranks[group[0]]) - 4, x2: x(ranks[group[group.length - 1]]) + 4, y1: y, y2: y, stroke: "#1f5fa8", "stroke-width": 4 }));
  });
  names.forEach((name, index) => {
    const toLeft = index < half;
    const y = top + 24 + 9 * groups.length + 20 * (toLeft ? index : names.length - 1 - index);
    const edge = toLeft ? left - 12 : right + 12;
    figure.append(draw("path", { d: `M${x(ranks[name])},${top} V${y} H${edge}`, class: "axis" }));
    figure.append(draw("text", { x: toLeft ? edge - 4 : edge + 4, y: y + 4, "text-anchor": toLeft ? "end" : "start" }, `${titleOf(name)} ${ranks[name].toFixed(2)}`));
  });
  return figure;
}

function showPublished() {
  const unmade = data.unmade.map((reason) => make("p", { className: "warning" }, `Not made for want of runs: ${reason}`));
  if (!data.published.length) {
    content("published").replaceChildren(...unmade, make("p", {}, "No table of this experiment stands beside published values."));
    return;
  }
  const counts = {};
  for (const row of data.published) counts[row.status] = (counts[row.status] || 0) + 1;
  const columns = [
    { title: "row", text: true, value: (row) => `${row.dataset}, ${row.row}` },
    { title: "method", text: true, value: (row) => row.column },
    { title: "table", text: true, value: (row) => row.table },
    { title: "details", text: true, value: (row) => row.details },
    { title: "measured", value: (row) => row.mean, cell: (row) => format(row.mean) + (row.std === null ? "" : ` ± ${format(row.std)}`) + (row.holes ? "†" : "") },
    { title: "published", value: (row) => row.published, cell: (row) => (row.doubt
      ? make("span", { className: "doubt", title: row.doubt, tabIndex: 0 }, `${format(row.published)} ?`) : format(row.published)) },
    { title: "difference", value: (row) => row.difference, cell: (row) => (row.difference > 0 ? "+" : "") + format(row.difference) },
    { title: "status", text: true, value: (row) => row.status, className: (row) => row.status },
    { title: "paper", text: true, value: (row) => row.source },
  ];
  const line = Object.entries(counts).map(([status, number]) => `${number} ${status}`).join(", ");
  content("published").replaceChildren(...unmade, make("p", {}, `${data.published.length} cells: ${line}.`), sortable(columns, data.published));
}

function showInflation() {
  const categories = shownCategories();
  const metrics = [...new Set([...data.headline, filter.metric])].filter((name) => metricIndex(name) >= 0 && !data.metrics[metricIndex(name)].counts);
  const rows = shownSystems().map((system) => {
    const runs = categories.flatMap((category) => runsOf[system].get(category) || []);
    const gains = metrics.map((metric) => runs.map((run) => [valueOf(run, metric, "oracle"), valueOf(run, metric, "last")])
      .filter(([oracle, last]) => oracle !== null && last !== null).map(([oracle, last]) => oracle - last));
    return { system, means: gains.map(mean), largest: gains.map((gain) => (gain.length ? Math.max(...gain) : null)) };
  });
  const widest = Math.max(1e-9, ...rows.flatMap((row) => row.means.filter((value) => value !== null)));
  const columns = [{ title: "method", text: true, value: (row) => nameOf(row.system) }];
  metrics.forEach((metric, index) => {
    const { title } = data.metrics[metricIndex(metric)];
    columns.push({ title: `${title}, mean gain`, value: (row) => row.means[index], cell: (row) => {
      const bar = make("span", { className: "bar" });
      bar.style.width = `${(6 * (row.means[index] || 0)) / widest}rem`;
      return make("span", {}, `${format(row.means[index])} `, bar);
    } });
    columns.push({ title: "largest", value: (row) => row.largest[index], cell: (row) => format(row.largest[index]) });
  });
  content("inflation").replaceChildren(sortable(columns, rows, 1));
}

function showHeatmap() {
  const systems = shownSystems();
  const rows = shownCategories().map((category) => ({ category, found: systems.map((system) => summary(system, filter.metric, filter.selection, [category])) }));
  const values = rows.flatMap((row) => row.found.map((found) => found.mean)).filter((value) => value !== null);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const head = make("tr", {}, make("th", {}, "category"), ...systems.map((system) => make("th", { scope: "col" }, nameOf(system))));
  const body = rows.map(({ category, found }) => make("tr", {}, make("th", { scope: "row" }, data.categories[category].join(", ")),
    ...found.map((value, index) => heatCell(value, systems[index], category, low, high))));
  const several = systems.length ? [scrolling(make("table", { className: "heat" }, make("thead", {}, head), make("tbody", {}, ...body)))] : [];
  content("heatmap").replaceChildren(make("p", {}, `${metricTitle()}, ${filter.selection}.`), ...several);
}

function heatCell(found, system, category, low, high) {
  const cell = make("td");
  if (found.mean === null && !found.holes) return cell;
  const button = make("button", { type: "button", title: `± ${format(found.std)} over ${found.seeds} seeds` }, found.mean === null ? "–†" : format(found.mean, 1) + (found.holes ? "†" : ""));
  button.addEventListener("click", () => showRuns(system, category));
  cell.append(button);
  if (found.mean === null) {
    cell.className = "none";
    return cell;
  }
  const share = high > low ? (found.mean - low) / (high - low) : 1;
  cell.style.background = `hsl(${210 - 40 * (1 - share)} ${55 + 10 * share}% ${94 - 56 * share}%)`;
  cell.style.color = share > 0.65 ? "#fff" : "#1c2330";
  return cell;
}

function showRuns(system, category) {
  const [dataset, name] = data.categories[category];
  const { setting, method, backbone, title } = data.systems[system];
  const parts = [make("h3", {}, `${title} on ${backbone}: ${dataset}, ${name}, ${setting}`)];
  const interval = data.intervals.find((found) => found.system === system && found.category === category);
  if (interval) parts.push(make("p", {}, `Image AUROC ${format(interval.point)}, last epoch, 95 % interval over images ${format(interval.low)} – ${format(interval.high)}.`));
  for (const run of runsOf[system].get(category) || []) {
    const cell = `${setting}/${dataset}/${name}/${method}/${backbone}/seed${run.seed}`;
    const values = data.selections.map((selection) => `${selection} ${format(valueOf(run, filter.metric, selection), 3)}`).join(", ");
    const commands = run.commands.map((number) => data.texts[number].replaceAll("{cell}", cell).replaceAll("{seed}", String(run.seed)));
    parts.push(make("h3", {}, `Seed ${run.seed}: ${metricTitle()} ${values}`), make("p", {}, `Record runs/${cell}/run.json`),
      make("p", {}, `Commit ${data.texts[run.commit]}; ${data.texts[run.machine]}; weights ${data.texts[run.weights]}; images ${data.texts[run.images]}`),
      make("pre", {}, commands.join("\n\n")));
  }
  for (const hole of data.ledger.filter((h) => h.dataset === dataset && h.category === name && h.method === method && h.backbone === backbone && h.setting === setting)) {
    parts.push(make("p", { className: "warning" }, `Seed ${hole.seed} is ${hole.status}: ${hole.reason}`));
  }
  content("runs").replaceChildren(...parts);
  byId("runs").showModal();
}

function showGallery() {
  const [dataset, category] = data.categories[Number(byId("gallery-category").value)] || [];
  const pictures = data.gallery.filter((picture) => picture.dataset === dataset && picture.category === category);
  const systems = shownSystems().map((index) => data.systems[index]);
  const drawn = systems.filter((system) => pictures.some((picture) => mapOf(picture, system)));
  const picture = (source, name) => (source ? make("img", { src: source, alt: name, width: 128, height: 128 }) : make("span", { className: "soft" }, "none"));
  const head = ["", "image", "ground truth", ...drawn.map((system) => `${system.title}${filter.backbone ? "" : `, ${system.backbone}`}`)];
  const rows = pictures.map((shown) => make("tr", {}, make("th", {}, shown.defect), make("td", {}, picture(shown.image, "test image")),
    make("td", {}, picture(shown.truth, "ground truth")), ...drawn.map((system) => make("td", {}, picture(mapOf(shown, system), "anomaly map")))));
  const table = make("table", { className: "maps" }, make("thead", {}, make("tr", {}, ...head.map((text) => make("th", {}, text)))), make("tbody", {}, ...rows));
  content("gallery").replaceChildren(pictures.length ? scrolling(table) : make("p", {}, "No examples were kept of this category, or its images are no longer there."));
}

function mapOf(picture, system) {
  const found = picture.maps.find(([setting, method, backbone]) => setting === system.setting && method === system.method && backbone === system.backbone);
  return found ? found[3] : null;
}

function showCurves() {
  const system = Number(byId("curves-system").value);
  const figures = shownCategories().filter((category) => runsOf[system] && runsOf[system].has(category)).map((category) => {
    const curves = runsOf[system].get(category).map((run) => data.curves[run.number]);
    return make("figure", {}, make("figcaption", {}, data.categories[category].join(", ")), chart(curves));
  });
  content("curves").replaceChildren(make("div", { className: "charts" }, ...figures));
}

function chart(curves) {
  const [width, height, left, right, bottom] = [272, 150, 34, 30, 20];
  const epochs = curves.flatMap((curve) => [...curve.epochs, ...curve.kept]);
  const losses = curves.flatMap((curve) => [...curve.loss, ...curve.held_out.map((value) => -value - 0.9189)]);
  const percents = curves.flatMap((curve) => [...curve.image_auroc, ...curve.pixel_auroc]).filter((value) => value !== null);
  const scale = (values, from, to) => {
    const [low, high] = [Math.min(...values), Math.max(...values)];
    return { low, high, at: (value) => (high > low ? from + ((value - low) / (high - low)) * (to - from) : (from + to) / 2) };
  };
  const x = scale(epochs.length ? epochs : [0, 1], left, width - right);
  const y = scale(losses.length ? losses : [0, 1], height - bottom, 8);
  const z = scale([...percents, 100], height - bottom, 8);
  const figure = draw("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": "Training curves" });
  const line = (xs, ys, at, attributes) => {
    const points = xs.map((value, index) => [value, ys[index]]).filter(([, value]) => value !== null && value !== undefined);
    figure.append(draw("polyline", { points: points.map(([a, b]) => `${x.at(a).toFixed(1)},${at(b).toFixed(1)}`).join(" "), fill: "none", ...attributes }));
  };
  figure.append(draw("path", { d: `M${left},8 V${height - bottom} H${width - right} V8`, class: "axis" }));
  for (const curve of curves) {
    line(curve.epochs, curve.loss, y.at, { stroke: "#888" });
    if (curve.held_out.length) line(curve.epochs, curve.held_out.map((value) => -value - 0.9189), y.at, { stroke: "#1f77b4", "stroke-dasharray": "4 2" });
    line(curve.kept, curve.image_auroc, z.at, { stroke: "#2ca02c" });
    line(curve.kept, curve.pixel_auroc, z.at, { stroke: "#9467bd" });
  }
  const label = (text, px, py, anchor) => figure.append(draw("text", { x: px, y: py, "text-anchor": anchor }, text));
  if (losses.length) { label(y.high.toFixed(2), left - 3, 14, "end"); label(y.low.toFixed(2), left - 3, height - bottom, "end"); }
  const digits = z.high - z.low < 4 ? 1 : 0;
  label(z.high.toFixed(digits), width - right + 3, 14, "start");
  label(z.low.toFixed(digits), width - right + 3, height - bottom, "start");
  label(String(x.low), left, height - 5, "middle");
  label(String(x.high), width - right, height - 5, "middle");
  return figure;
}

function showLedger() {
  const counts = { done: data.runs.length };
  for (const entry of data.ledger) counts[entry.status] = (counts[entry.status] || 0) + 1;
  const line = Object.entries(counts).map(([status, number]) => `${number} ${status}`).join(", ");
  const parts = [make("p", {}, `${data.expected.length} runs expected: ${line}.`)];
  const columns = [
    { title: "status", text: true, value: (entry) => entry.status, className: (entry) => (entry.status === "failed" ? "off" : "") },
    { title: "run", text: true, value: (e) => `${e.setting}/${e.dataset}/${e.category}/${e.method}/${e.backbone}/seed${e.seed}` },
    { title: "reason", text: true, value: (entry) => entry.reason, className: () => "long", cell: (entry) => (entry.tail
      ? make("details", {}, make("summary", {}, entry.reason), make("p", {}, entry.log), make("pre", {}, entry.tail)) : entry.reason) },
  ];
  if (data.ledger.length) parts.push(sortable(columns, data.ledger, 0, false));
  content("ledger").replaceChildren(...parts);
}

function showProvenance() {
  const parts = [];
  for (const [key, title] of [["commit", "Code"], ["packages", "Packages"], ["machine", "Machine"], ["weights", "Weights, SHA-256"], ["images", "Images, SHA-256 of the manifest"]]) {
    const counts = new Map();
    for (const run of data.runs) counts.set(run[key], (counts.get(run[key]) || 0) + 1);
    const columns = [{ title, text: true, value: ([number]) => data.texts[number], className: () => "long" }, { title: "runs", value: ([, count]) => count }];
    parts.push(sortable(columns, [...counts], 1));
  }
  content("provenance").replaceChildren(...parts);
}

function refresh() {
  for (const id of ["dataset", "setting", "selection", "backbone", "metric"]) filter[id] = byId(id).value;
  const systems = shownSystems();
  const chosen = { system: byId("curves-system").value, category: byId("gallery-category").value };
  choices("curves-system", systems, systems.map((system) => `${data.systems[system].title}, ${data.systems[system].backbone}`));
  choices("gallery-category", shownCategories(), shownCategories().map((category) => data.categories[category].join(", ")));
  if (systems.includes(Number(chosen.system)) && chosen.system !== "") byId("curves-system").value = chosen.system;
  if (shownCategories().includes(Number(chosen.category)) && chosen.category !== "") byId("gallery-category").value = chosen.category;
  showLeaderboard();
  showTests();
  showInflation();
  showHeatmap();
  showGallery();
  showCurves();
}

function start() {
  const holes = data.ledger.filter((entry) => entry.status !== "skipped");
  if (holes.length) {
    const named = holes.slice(0, 3).map((e) => `${e.dataset}/${e.category}/${e.method}/${e.backbone}/seed${e.seed} (${e.status}: ${e.reason})`).join("; ");
    byId("holes").textContent = `${holes.length} of ${data.expected.length} runs are not done, marked †: ${named}${holes.length > 3 ? "; the rest is in the ledger" : ""}.`;
    byId("holes").hidden = false;
  }
  showPublished();
  showLedger();
  showProvenance();
  if (!data.runs.length) return;
  prepareFilters();
  byId("gallery-category").addEventListener("change", showGallery);
  byId("curves-system").addEventListener("change", showCurves);
  refresh();
}

start();
