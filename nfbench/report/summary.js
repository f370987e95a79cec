// ---- summary

/** Systems by their mean of a metric, the best first, and the p-value of each against the best. */
function standing(metric) {
  const sign = data.metrics[metricIndex(metric)].lowest ? 1 : -1;
  const ranked = shownSystems().map((system) => ({ system, found: summary(system, metric, filter.selection, shownCategories()) }))
    .filter((row) => row.found.mean !== null).sort((a, b) => sign * (a.found.mean - b.found.mean));
  const first = (ranked[0] || {}).system;
  const test = metric === filter.metric ? testFor("category", first === undefined ? "" : data.systems[first].backbone) : null;
  const pOf = (system) => {
    if (!test || system === first || (test.backbone && data.systems[system].backbone !== test.backbone)) return null;
    const [best, other] = [data.systems[first], data.systems[system]].map((one) => one && one.method);
    const pair = test.pairs.find(([a, b]) => a !== b && [a, b].includes(best) && [a, b].includes(other));
    return pair ? pair[6] : null;
  };
  return { ranked, pOf, test };
}

const listed = (names) => (names.length < 2 ? names.join("") : `${names.slice(0, -1).join(", ")} and ${names[names.length - 1]}`);
const shortened = (names, most = 4) => (names.length > most + 1 ? listed([...names.slice(0, most), `${names.length - most} more`]) : listed(names));

function showSummary() {
  const sentences = [compared(), leading(), uneven(), significant(), optimistic(), published()].filter(Boolean);
  content("summary").replaceChildren(
    make("div", { className: "tiles" }, ...data.headline.filter((name) => standing(name).ranked.length).map(tile), ...quickest()),
    make("ul", {}, ...sentences.map((sentence) => make("li", {}, sentence))));
}

/** A tile with the best value, its method, and bars of the first five methods, `{system, width, text}`. */
function barTile(heading, value, label, rows) {
  const bars = rows.slice(0, 5).map(({ system, width, text }) => {
    const bar = make("span", { className: "bar" });
    bar.style.width = `${width}%`;
    return make("li", {}, make("span", { className: "name" }, nameCell(system)), make("span", { className: "track" }, bar), make("span", {}, text));
  });
  return make("div", { className: "tile" }, make("h3", {}, heading), make("p", { className: "big" }, value),
    make("p", {}, nameCell(rows[0].system)), make("ol", { ariaLabel: label }, ...bars));
}

/** Bars start at zero, so that their lengths can be compared. */
function barWidth(value, whole) {
  return Math.max(1, (100 * value) / whole);
}

/** The best methods by one metric. */
function tile(metric) {
  const { ranked } = standing(metric);
  const { title, share } = data.metrics[metricIndex(metric)];
  const whole = share ? 100 : Math.max(...ranked.map((row) => row.found.mean));
  const rows = ranked.map(({ system, found }) => ({ system, width: barWidth(found.mean, whole), text: format(found.mean) }));
  return barTile(`Best ${title}${share ? ", %" : ""}`, shownSummary(ranked[0].found), `Methods by ${title}`, rows);
}

function quickest() {
  const speeds = shownSystems().map((system) => {
    const runs = shownCategories().flatMap((category) => runsOf[system].get(category) || []);
    return { system, speed: mean(runs.map((run) => run.cost[2])) };
  }).filter((row) => row.speed !== null).sort((a, b) => b.speed - a.speed);
  if (speeds.length < 2) return [];
  const rows = speeds.map(({ system, speed }) => ({ system, width: barWidth(speed, speeds[0].speed), text: format(speed, 1) }));
  return [barTile("Fastest scoring, images per second", rows[0].text, "Methods by speed", rows)];
}

function compared() {
  const systems = shownSystems();
  const titles = [...new Set(systems.map((system) => data.systems[system].title))];
  const backbones = [...new Set(systems.map((system) => data.systems[system].backbone))];
  const categories = shownCategories();
  const datasets = [...new Set(categories.map((category) => data.categories[category][0]))];
  const runs = systems.flatMap((system) => categories.flatMap((category) => runsOf[system].get(category) || []));
  return `This page compares ${counted(titles.length, "method")} (${shortened(titles, 6)}) on ${counted(backbones.length, "backbone")} (${shortened(backbones)}), `
    + `${counted(categories.length, "category")} of ${shortened(datasets)}, ${counted(new Set(runs.map((run) => run.seed)).size, "seed")}; ${counted(runs.length, "run")} done.`;
}

function leading() {
  const { ranked } = standing(filter.metric);
  if (!ranked.length) return `${metricTitle()} is undefined for this choice.`;
  const [first, second] = ranked;
  const value = `${nameOf(first.system)} has the ${data.metrics[metricIndex(filter.metric)].lowest ? "lowest" : "highest"} mean ${metricTitle()}, ${shownSummary(first.found)} (selection ${filter.selection})`;
  return second ? `${value}, ahead of ${nameOf(second.system)} by ${format(Math.abs(first.found.mean - second.found.mean))}.` : `${value}.`;
}

/** Means over different categories are no ranking. */
function uneven() {
  const counts = standing(filter.metric).ranked.map((row) => row.found.categories);
  const [least, most] = [Math.min(...counts), Math.max(...counts)];
  return least < most ? `These means are not comparable yet: they cover between ${least} and ${counted(most, "category")}.` : "";
}

function significant() {
  const { ranked, pOf, test } = standing(filter.metric);
  if (ranked.length < 2) return "";
  if (!test) return "The lead was not tested: tests need a headline metric and a backbone on which at least two methods ran.";
  const smallest = 2 / 2 ** test.n;
  if (smallest >= 0.05) return `The lead cannot be tested on ${counted(test.n, "category")}: no p-value can be below ${compact(smallest)}. At least 6 categories are needed for 0.05.`;
  const others = ranked.slice(1).map((row) => row.system).filter((system) => pOf(system) !== null);
  const name = nameOf(ranked[0].system);
  const beaten = others.filter((system) => pOf(system) < 0.05);
  const rest = others.filter((system) => pOf(system) >= 0.05);
  if (!others.length) return `No test compares ${name} with another method here.`;
  const where = test.backbone && !filter.backbone ? ` on ${test.backbone}` : "";
  const over = `over ${counted(test.n, "category")}${where} (Wilcoxon signed-rank test, Holm's correction, p < 0.05)`;
  if (!beaten.length) return `The lead of ${name} is not significant: it differs from no other method ${over}.`;
  return `${name} differs significantly from ${shortened(beaten.map(nameOf))} ${over}${rest.length ? `, but not from ${shortened(rest.map(nameOf))}` : ""}.`;
}

function optimistic() {
  if (filter.selection === "oracle") return "These values are optimistic: the checkpoint was selected on the test set (oracle).";
  const searched = shownSystems().filter((system) => data.systems[system].search.includes("TEST SET"));
  return searched.length ? `The settings of ${shortened(searched.map(nameOf))} were searched ON THE TEST SET, so their values are optimistic.` : "";
}

function published() {
  const counts = (status) => data.published.filter((row) => row.status === status).length;
  return data.published.length ? `Of ${counted(data.published.length, "published value")}, ${counts("reproduced")} are reproduced, ${counts("close")} are close and ${counts("off")} are off.` : "";
}
