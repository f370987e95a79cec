// ---- charts

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
  figure.append(draw("line", { x1: left, x2: end, y1: 16, y2: 16, class: "critical" }));
  figure.append(draw("text", { x: Math.min(end + 6, 470), y: 12 }, `CD ${critical.toFixed(2)}, Friedman p ${compact(p)}`));
  groups.forEach((group, index) => {
    const y = top + 9 + 9 * index;
    figure.append(draw("line", { x1: x(ranks[group[0]]) - 4, x2: x(ranks[group[group.length - 1]]) + 4, y1: y, y2: y, class: "group" }));
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

const LIKELIHOOD = 0.918938533; // the loss leaves out the constant log(2 pi) / 2
const CHART = { width: 420, height: 270, left: 48, right: 50, top: 10, bottom: 42, line: 15 };

/** Round steps between two values, about as many as asked. */
function ticksOf(low, high, count = 4) {
  const rough = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((found) => found >= rough);
  const ticks = [];
  for (let tick = Math.ceil(low / step - 1e-9) * step; tick <= high + 1e-9 * step; tick += step) ticks.push(tick);
  return ticks.map((tick) => [tick, Math.abs(tick) < 1e-12 ? "0" : tick.toFixed(Math.max(0, -Math.floor(Math.log10(step) + 1e-9)))]);
}

function scaleOf(values, from, to) {
  const [least, most] = values.length ? [Math.min(...values), Math.max(...values)] : [0, 1];
  const [low, high] = most > least ? [least, most] : [least - 0.5, most + 0.5];
  return { low, high, at: (value) => from + ((value - low) / (high - low)) * (to - from) };
}

/** Loss and likelihood on the left axis, headline metrics on the right one, a line per seed; a legend above the lines, inside the axes. */
function chart(curves) {
  const { width, height, left, right, top, bottom, line } = CHART;
  const held = (curve) => curve.held_out.map((value) => -value - LIKELIHOOD);
  const losses = curves.flatMap((curve) => [...curve.loss, ...held(curve)]);
  const percents = curves.flatMap((curve) => curve.metrics.flat()).filter((value) => value !== null);
  const epochs = curves.flatMap((curve) => [...curve.epochs, ...curve.kept]);
  const x = scaleOf(epochs, left, width - right);
  const names = ["training loss", "held-out loss", ...data.headline.map((name) => data.metrics[metricIndex(name)].title)];
  const below = top + line * Math.ceil(names.length / 2) + 14;
  const y = scaleOf(losses, height - bottom, below);
  const z = scaleOf(percents, height - bottom, below);
  const lines = curves.flatMap((curve) => [
    { name: names[0], className: "loss", xs: curve.epochs, ys: curve.loss, at: y.at },
    { name: names[1], className: "held", xs: curve.epochs.slice(0, curve.held_out.length), ys: held(curve), at: y.at },
    ...curve.metrics.map((values, index) => ({ name: names[index + 2], className: `metric${index % 4}`, xs: curve.kept, ys: values, at: z.at })),
  ]).map((drawn) => ({ ...drawn, points: drawn.xs.map((value, index) => [value, drawn.ys[index]])
    .filter(([, value]) => value !== null && value !== undefined).map(([a, b]) => [x.at(a), drawn.at(b)]) })).filter((drawn) => drawn.points.length);
  const figure = draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "Training curves" });
  drawAxes(figure, x, losses.length ? y : null, percents.length ? z : null);
  for (const { className, points } of lines) {
    figure.append(draw("polyline", { class: `curve ${className}`, points: points.map(([a, b]) => `${a.toFixed(1)},${b.toFixed(1)}`).join(" ") }));
    if (points.length < 9) figure.append(...points.map(([a, b]) => draw("circle", { class: `curve ${className}`, cx: a.toFixed(1), cy: b.toFixed(1), r: 2 })));
  }
  figure.append(legendOf(lines));
  return figure;
}

function drawAxes(figure, x, y, z) {
  const { width, height, left, right, top, bottom } = CHART;
  const label = (text, px, py, anchor, turn = 0) => figure.append(draw("text", { x: px, y: py, "text-anchor": anchor, ...(turn ? { transform: `rotate(${turn} ${px} ${py})` } : {}) }, text));
  figure.append(draw("path", { d: `M${left},${top} V${height - bottom} H${width - right}${z ? ` V${top}` : ""}`, class: "axis" }));
  for (const [tick, text] of ticksOf(x.low, x.high, 5).filter(([value]) => Number.isInteger(value))) {
    figure.append(draw("line", { x1: x.at(tick), x2: x.at(tick), y1: height - bottom, y2: height - bottom + 4, class: "axis" }));
    label(text, x.at(tick), height - bottom + 17, "middle");
  }
  label("epoch", (left + width - right) / 2, height - 6, "middle");
  for (const [tick, text] of y ? ticksOf(y.low, y.high) : []) {
    figure.append(draw("line", { x1: left, x2: width - right, y1: y.at(tick), y2: y.at(tick), class: "rule" }));
    label(text, left - 5, y.at(tick) + 4, "end");
  }
  if (y) label("nats per dimension", 11, (top + height - bottom) / 2, "middle", -90);
  for (const [tick, text] of z ? ticksOf(z.low, z.high) : []) label(text, width - right + 5, z.at(tick) + 4, "start");
  if (z) label("percent", width - 7, (top + height - bottom) / 2, "middle", -90);
}

/** Names of lines in two columns, in the room that the axes leave above the lines. */
function legendOf(lines) {
  const { width, left, right, top, line } = CHART;
  const entries = [...new Map(lines.map(({ name, className }) => [name, className]))];
  const legend = draw("g", { class: "legend" });
  entries.forEach(([name, className], index) => {
    const x = left + 8 + (index % 2) * ((width - left - right) / 2);
    const y = top + 12 + line * Math.floor(index / 2);
    legend.append(draw("line", { class: `curve ${className}`, x1: x, x2: x + 22, y1: y - 4, y2: y - 4 }), draw("text", { x: x + 28, y }, name));
  });
  return legend;
}
