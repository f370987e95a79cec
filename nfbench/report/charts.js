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

const METRIC_COLORS = ["#2ca02c", "#9467bd", "#e69f00", "#56b4e9"];

/** Loss and likelihood on the left axis, the first metrics on the right one, a line per seed. */
function chart(curves) {
  const [width, height, left, right, bottom] = [280, 150, 34, 38, 20];
  const epochs = curves.flatMap((curve) => [...curve.epochs, ...curve.kept]);
  const losses = curves.flatMap((curve) => [...curve.loss, ...curve.held_out.map((value) => -value - 0.9189)]);
  const percents = curves.flatMap((curve) => curve.metrics.flat()).filter((value) => value !== null);
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
    curve.metrics.forEach((values, index) => line(curve.kept, values, z.at, { stroke: METRIC_COLORS[index % METRIC_COLORS.length] }));
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
