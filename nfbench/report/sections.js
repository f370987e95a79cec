// ---- sections

/** The test of the chosen methods; where it does not exist for all backbones, that on one backbone. */
function testFor(unit, backbone = "") {
  const shown = [...new Set(shownSystems().map((system) => data.systems[system].backbone))];
  const wanted = filter.backbone ? [filter.backbone] : ["", ...(shown.length === 1 ? shown : [backbone])];
  const found = data.tests.filter((test) => test.setting === filter.setting && test.selection === filter.selection && test.metric === filter.metric
    && test.dataset === filter.dataset && test.unit === unit);
  return wanted.map((name) => found.find((test) => test.backbone === name)).find(Boolean);
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
  }));
  const { ranked, pOf, test } = standing(filter.metric);
  const place = new Map(ranked.map((row, index) => [row.system, index + 1]));
  const columns = [
    { title: "method", text: true, value: (row) => nameOf(row.system), cell: (row) => nameCell(row.system) },
    { title: "place", value: (row) => place.get(row.system) ?? null },
    ...metrics.map((metric) => ({
      title: data.metrics[metricIndex(metric)].title, value: (row) => row.found[metric].mean, cell: (row) => shownSummary(row.found[metric]),
      className: (row) => (metric === filter.metric && place.get(row.system) === 1 ? "better" : ""),
    })),
    { title: "image AUROC, 95 % interval", hint: "Interval of the image AUROC of the last epoch over test images: bootstrap, mean over seeds",
      value: (row) => (intervalOf(row.system) || { low: null }).low,
      cell: (row) => { const i = intervalOf(row.system); return i ? `${format(i.low)} – ${format(i.high)}` : "–"; } },
    { title: "p against first", hint: "Wilcoxon signed-rank test over categories, corrected by Holm's method", value: (row) => pOf(row.system),
      cell: (row) => compact(pOf(row.system)), className: (row) => (pOf(row.system) !== null && pOf(row.system) < 0.05 ? "better" : "") },
    { title: "categories", value: (row) => row.found[filter.metric].categories },
    { title: "seeds", value: (row) => row.found[filter.metric].seeds },
  ];
  const notes = [filter.dataset ? data.notes[filter.dataset] && `Subset: ${data.notes[filter.dataset]}.` : "Mean over the categories of all datasets on which the metric is defined.",
    data.lacking && `Some categories lack the test images that some metrics need, so these metrics are undefined there: ${data.lacking}.`,
    test && test.n < 6 ? `With ${counted(test.n, "category")} no p-value can be below ${compact(2 / 2 ** test.n)}.` : "",
    rows.some((row) => Object.values(row.found).some((found) => found.holes)) ? "† Some runs are not done; see the ledger." : ""];
  content("leaderboard").replaceChildren(sortable(columns, rows, 2, !data.metrics[metricIndex(filter.metric)].lowest),
    make("p", {}, notes.filter(Boolean).join(" ")), ...searchesOf(rows));
}

function showCost() {
  const rows = shownSystems().map((system) => ({ system, runs: shownCategories().flatMap((category) => runsOf[system].get(category) || []) }));
  const cost = (row, index) => mean(row.runs.map((run) => run.cost[index]).filter((value) => value !== null));
  const column = (title, index, digits, factor = 1, hint = "") => ({ title, hint, value: (row) => cost(row, index),
    cell: (row) => format(row.runs.length && cost(row, index) !== null ? cost(row, index) / factor : null, digits) });
  const timed = data.runs.some((run) => run.cost[4] !== null);
  content("cost").replaceChildren(sortable([
    { title: "method", text: true, value: (row) => nameOf(row.system), cell: (row) => nameCell(row.system) },
    column("parameters, millions", 0, 2, 1e6),
    column("training, s", 1, 1),
    column("scoring, images/s", 2, 1),
    column("peak memory, GB", 3, 1, 1000),
    ...(timed ? [column("latency, ms", 4, 1, 1, "From the file of an image to its map; median")] : []),
  ], rows, 2, false));
}

/** How the settings of rows were searched, and in how many categories tables take each backbone of a search over several. */
function searchesOf(rows) {
  const searched = rows.map((row) => data.systems[row.system]).filter((system) => system.search);
  const chosen = searched.filter((system) => system.chosen)
    .map(({ title, backbone, chosen: [best, all] }) => `${title} on ${backbone} in ${best} of ${all} categories`);
  const several = chosen.length ? [make("p", {}, `The search covered several backbones. Tables show the best one in each category: ${chosen.join(", ")}.`)] : [];
  return [...searchNotes(searched.map((system) => system.search)), ...several];
}

function showTests() {
  const parts = [];
  for (const unit of ["category", "run", "image"]) {
    const test = testFor(unit);
    if (!test) continue;
    const part = make("div", {}, make("h3", {}, `${metricTitle()}, ${filter.selection}, over ${counted(test.n, unit)}`));
    parts.push(part);
    if (test.ranking) part.append(diagram(test));
    const columns = [
      { title: "first", text: true, value: (pair) => titleOf(pair[0]) },
      { title: "second", text: true, value: (pair) => titleOf(pair[1]) },
      { title: "difference, points", value: (pair) => pair[2], cell: (pair) => format(pair[2]) },
      { title: "wins", value: (pair) => pair[3] },
      { title: "losses", value: (pair) => pair[4] },
      { title: "p", value: (pair) => pair[5], cell: (pair) => compact(pair[5]) },
      { title: "p, Holm", value: (pair) => pair[6], cell: (pair) => compact(pair[6]), className: (pair) => (pair[6] < 0.05 ? "better" : "") },
    ];
    part.append(sortable(columns, test.pairs, 6, false));
  }
  const notes = parts.length ? searchNotes(shownSystems().map((system) => data.systems[system].search))
    : [make("p", {}, "There is no test for this choice. Choose a headline metric, or one with values by image, and a single backbone, on which at least two methods ran.")];
  content("tests").replaceChildren(make("div", { className: "pair" }, ...parts), ...notes);
}

function showPublished() {
  const unmade = data.unmade.map((reason) => make("p", { className: "warning" }, `Not built because runs are missing: ${reason}`));
  if (!data.published.length) {
    content("published").replaceChildren(...unmade);
    byId("published").hidden = !unmade.length;
    document.querySelector("nav a[href='#published']").hidden = !unmade.length;
    return;
  }
  const counts = {};
  for (const row of data.published) counts[row.status] = (counts[row.status] || 0) + 1;
  const columns = [
    { title: "row", text: true, value: (row) => `${row.dataset}, ${row.row}` },
    { title: "method", text: true, value: (row) => row.column },
    { title: "table", text: true, value: (row) => row.table },
    { title: "details", text: true, value: (row) => row.details },
    { title: "measured", value: (row) => row.mean, cell: (row) => format(row.mean) + (row.std === null ? "" : ` ± ${format(row.std)}`) + (row.holes ? "†" : "") + (row.search ? SEARCHED : "") },
    { title: "published", value: (row) => row.published, cell: (row) => (row.doubt
      ? make("span", { className: "doubt", title: row.doubt, tabIndex: 0 }, `${format(row.published)} ?`) : format(row.published)) },
    { title: "difference", value: (row) => row.difference, cell: (row) => (row.difference > 0 ? "+" : "") + format(row.difference) },
    { title: "status", text: true, value: (row) => row.status, className: (row) => row.status },
    { title: "paper", text: true, value: (row) => row.source },
  ];
  const line = Object.entries(counts).map(([status, number]) => `${number} ${status}`).join(", ");
  content("published").replaceChildren(...unmade, make("p", {}, `${counted(data.published.length, "value")}: ${line}.`), sortable(columns, data.published),
    ...searchNotes(data.published.map((row) => row.search)));
}

function showInflation() {
  const categories = shownCategories();
  const metrics = [...new Set([...data.headline, filter.metric])].filter((name) => metricIndex(name) >= 0 && data.metrics[metricIndex(name)].share);
  const rows = shownSystems().map((system) => {
    const runs = categories.flatMap((category) => runsOf[system].get(category) || []);
    const gains = metrics.map((metric) => runs.map((run) => [valueOf(run, metric, "oracle"), valueOf(run, metric, "last")])
      .filter(([oracle, last]) => oracle !== null && last !== null).map(([oracle, last]) => (data.metrics[metricIndex(metric)].lowest ? last - oracle : oracle - last)));
    return { system, means: gains.map(mean), largest: gains.map((gain) => (gain.length ? Math.max(...gain) : null)) };
  });
  const widest = Math.max(1e-9, ...rows.flatMap((row) => row.means.filter((value) => value !== null)));
  const columns = [{ title: "method", text: true, value: (row) => nameOf(row.system), cell: (row) => nameCell(row.system) }];
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
  const head = make("tr", {}, make("th", {}, "category"), ...systems.map((system) => make("th", { scope: "col" }, nameCell(system))));
  const body = rows.map(({ category, found }) => make("tr", {}, make("th", { scope: "row" }, data.categories[category].join(", ")),
    ...found.map((value, index) => heatCell(value, systems[index], category, low, high))));
  const several = systems.length ? [scrolling(make("table", { className: systems.length > 11 ? "heat narrow" : "heat" }, make("thead", {}, head), make("tbody", {}, ...body)))] : [];
  content("heatmap").replaceChildren(make("p", {}, `${metricTitle()}, ${filter.selection}.`), ...several);
}

function heatCell(found, system, category, low, high) {
  const cell = make("td");
  if (found.mean === null && !found.holes && !runsOf[system].has(category)) return cell;
  const button = make("button", { type: "button", title: `± ${format(found.std)} over ${counted(found.seeds, "seed")}` }, found.mean === null ? shownSummary(found) : format(found.mean, 1) + (found.holes ? "†" : ""));
  button.addEventListener("click", () => showRuns(system, category));
  cell.append(button);
  if (found.mean === null) {
    cell.className = "none";
    return cell;
  }
  const share = high > low ? (found.mean - low) / (high - low) : 1;
  cell.style.background = `hsl(${210 - 40 * (1 - share)} ${55 + 15 * share}% ${95 - 33 * share}%)`;
  return cell;
}

function fill(text, values) {
  return text.replace(/\{(cell|place|category|seed)\}/g, (_, name) => String(values[name]));
}

/** A link to a file of a run, as long as the page lies in the results folder. */
function runLink(cell, file) {
  const path = [...cell.split("/"), file].map(encodeURIComponent).join("/");
  return make("a", { href: `${data.links.runs}/${path}` }, `runs/${cell}/${file}`);
}

/** The place of a run below `runs`; a setting such as "one-class, blur2" has a condition, which follows the seed. */
function placeOf(setting, dataset, category, method, backbone, seed) {
  const [own, condition] = setting.split(", ");
  return `${own}/${dataset}/${category}/${method}/${backbone}/seed${seed}${condition ? `-${condition}` : ""}`;
}

function showRuns(system, category) {
  const [dataset, name] = data.categories[category];
  const { setting, method, backbone, title } = data.systems[system];
  const parts = [make("h3", {}, `${title} on ${backbone}: ${dataset}, ${name}, ${setting}`)];
  const interval = data.intervals.find((found) => found.system === system && found.category === category);
  if (interval) parts.push(make("p", {}, `Image AUROC ${format(interval.point)}, last epoch, 95 % interval over test images ${format(interval.low)} – ${format(interval.high)}.`));
  for (const run of runsOf[system].get(category) || []) {
    const cell = placeOf(setting, dataset, name, method, backbone, run.seed);
    const values = data.selections.map((selection) => `${selection} ${format(valueOf(run, filter.metric, selection), 3)}`).join(", ");
    const commands = run.commands.map((number) => fill(data.texts[number], { cell, place: `${dataset}/${name}`, category: name, seed: run.seed }));
    parts.push(make("h3", {}, `Seed ${run.seed}: ${metricTitle()} ${values}`), 
      make("p", {}, "Record ", runLink(cell, "run.json"), "; scores ", runLink(cell, "scores.csv"), "."),
      make("p", {}, `${data.remark ? `Bundle ${data.texts[run.bundle]}; commit` : "Commit"} ${data.texts[run.commit]}; ${data.texts[run.machine]}; weights ${data.texts[run.weights]}; images ${data.texts[run.images]}`),
      make("p", {}, `The fair threshold comes from ${data.texts[run.thresholds]}.`),
      make("pre", {}, commands.join("\n\n")));
  }
  for (const hole of data.ledger.filter((h) => h.dataset === dataset && h.category === name && h.method === method && h.backbone === backbone && h.setting === setting)) {
    parts.push(make("p", { className: "warning" }, `Seed ${hole.seed} is ${hole.status}: ${hole.reason}`));
  }
  content("runs").replaceChildren(...parts);
  byId("runs").showModal();
}

function showCurves() {
  const system = Number(byId("curves-system").value);
  const figures = shownCategories().filter((category) => runsOf[system] && runsOf[system].has(category)).map((category) => {
    const curves = runsOf[system].get(category).map((run) => data.curves[run.number]);
    return make("figure", {}, make("figcaption", {}, data.categories[category].join(", ")), chart(curves));
  });
  content("curves").replaceChildren(make("div", { className: "charts" }, ...figures));
}

function showLedger() {
  const counts = { done: data.runs.length };
  for (const entry of data.ledger) counts[entry.status] = (counts[entry.status] || 0) + 1;
  const line = Object.entries(counts).map(([status, number]) => `${number} ${status}`).join(", ");
  const parts = [make("p", {}, `${counted(data.expected.length, "run")} expected: ${line}.`)];
  const columns = [
    { title: "status", text: true, value: (entry) => entry.status, className: (entry) => (entry.status === "failed" ? "off" : "") },
    { title: "run", text: true, value: (e) => placeOf(e.setting, e.dataset, e.category, e.method, e.backbone, e.seed) },
    { title: "reason", text: true, value: (entry) => entry.reason, className: () => "long", cell: (entry) => (entry.tail
      ? make("details", {}, make("summary", {}, entry.reason), make("p", {}, entry.log), make("pre", {}, entry.tail)) : entry.reason) },
  ];
  if (data.ledger.length) parts.push(sortable(columns, data.ledger, 0, false));
  content("ledger").replaceChildren(...parts);
}

function showProvenance() {
  const files = data.links.files.map((path) => make("li", {}, make("a", { href: path.split("/").map(encodeURIComponent).join("/") }, path.replace(/^(\.\.\/)+/, ""))));
  const parts = [make("h3", {}, "Files"), make("p", {}, "These links work while the page is in the results folder."), make("ul", { className: "files" }, ...files)];
  const bundle = data.remark ? [["bundle", "Bundle"]] : [];
  for (const [key, title] of [...bundle, ["commit", "Code"], ["packages", "Packages"], ["machine", "Machine"], ["weights", "Weights, SHA-256"], ["images", "Images, SHA-256 of the manifest"]]) {
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
  const categories = shownCategories().filter((category) => galleryOf(category));
  keepChoice("curves-system", systems, systems.map((system) => `${data.systems[system].title}, ${data.systems[system].backbone}`));
  keepChoice("gallery-category", categories, categories.map((category) => data.categories[category].join(", ")));
  keepChoice("gallery-system", systems, systems.map(nameOf));
  for (const show of [showSummary, showLeaderboard, showCost, showTests, showInflation, showHeatmap, showGallery, showCurves]) show();
}

/** Shows folded parts on paper. */
function openWhenPrinted() {
  addEventListener("beforeprint", () => document.querySelectorAll("details:not([open])").forEach((part) => { part.open = true; part.dataset.folded = ""; }));
  addEventListener("afterprint", () => document.querySelectorAll("details[data-folded]").forEach((part) => { part.open = false; delete part.dataset.folded; }));
}

function start() {
  const holes = data.ledger.filter((entry) => entry.status !== "skipped");
  if (holes.length) {
    const named = holes.slice(0, 3).map((e) => `${e.dataset}/${e.category}/${e.method}/${e.backbone}/seed${e.seed} (${e.status}: ${e.reason})`).join("; ");
    byId("holes").textContent = `${holes.length} of ${data.expected.length} runs are not done and are marked †: ${named}${holes.length > 3 ? "; the ledger lists all" : ""}.`;
    byId("holes").hidden = false;
  }
  showPublished();
  showLedger();
  showProvenance();
  openWhenPrinted();
  if (!data.runs.length) {
    content("summary").replaceChildren(make("p", {}, "No run of this experiment is done."));
    return;
  }
  prepareFilters();
  prepareGallery();
  byId("curves-system").addEventListener("change", showCurves);
  refresh();
}

start();
