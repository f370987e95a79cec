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
const PLURALS = { category: "categories" };
const counted = (number, noun) => `${number} ${number === 1 ? noun : PLURALS[noun] || `${noun}s`}`;
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

const SEARCHED = "‡";

/** One paragraph for each way in which settings were searched, as captions of tables say it; on the test set, a warning. */
function searchNotes(notes) {
  return [...new Set(notes.filter(Boolean))].map((note) =>
    make("p", { className: note.includes("TEST SET") ? "warning" : "" }, `${SEARCHED} ${note[0].toUpperCase()}${note.slice(1)}.`));
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

/** New choices; the chosen one stays where it is still there. */
function keepChoice(id, values, titles) {
  const chosen = byId(id).value;
  choices(id, values, titles);
  if (values.map(String).includes(chosen)) byId(id).value = chosen;
}

function prepareFilters() {
  const datasets = [...new Set(data.categories.map(([dataset]) => dataset))];
  const backbones = [...new Set(data.systems.map((system) => system.backbone))];
  choices("dataset", datasets.length > 1 ? ["", ...datasets] : datasets, datasets.length > 1 ? ["all", ...datasets] : datasets);
  choices("setting", [...new Set(data.systems.map((system) => system.setting))]);
  choices("selection", data.selections.filter((s, number) => data.runs.some((run) => number === 0 || run.values[data.selections.indexOf(s)].some((v) => v !== null))));
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

const markOf = (system) => (system && system.search ? ` ${SEARCHED}` : "");

function nameOf(index) {
  const system = data.systems[index];
  const title = system.title + markOf(system);
  const several = new Set(data.systems.filter((s) => s.method === system.method).map((s) => s.backbone)).size > 1;
  return several && !filter.backbone ? `${title} (${system.backbone})` : title;
}

function titleOf(method) {
  const found = data.systems.filter((system) => system.method === method);
  const system = found.find((one) => one.setting === filter.setting) || found[0];
  return system ? system.title + markOf(system) : method;
}

/** The name of a system, with its backbone in small where that is not clear from the filter. */
function nameCell(index) {
  const [name] = nameOf(index).split(` (${data.systems[index].backbone})`);
  return make("span", {}, name, ...(filter.backbone ? [] : [make("small", { className: "soft" }, data.systems[index].backbone)]));
}

const metricTitle = () => data.metrics[metricIndex(filter.metric)].title;
