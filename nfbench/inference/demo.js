"use strict";

const model = JSON.parse(document.getElementById("data").textContent);
const find = id => document.getElementById(id);
const values = {
  alpha: { name: "Accepted rate of false alarms", min: 0.001, max: 0.5, step: 0.001, value: 0.05 },
  sigmas: { name: "Standard deviations above the mean", min: 0, max: 8, step: 0.1, value: 3 },
};
const ofRule = { conformal: "alpha", quantile: "alpha", sigma: "sigmas" };
const help = {
  conformal: "Of new normal images, at most this share is called anomalous, on average.",
  quantile: "Of the normal images below, this share lies above the threshold.",
  sigma: "That many standard deviations above the mean of normal scores.",
  nfa: "An image is anomalous if it has a region that chance alone would make in less than one image.",
};
const captions = { image: "Image", overlay: "Overlay: regions above the threshold", heatmap: "Map: bright is anomalous", mask: "Mask of the regions" };
const sources = {
  "validation": "normal validation images, which the training did not see",
  "held out": "normal images that the training held out",
  "cross-fitted": "normal images, each scored by a model that was fitted without it",
  "training": "images that the model was trained on, so that they are too low and alarm too often",
};
let current = null; // name of the image that the server keeps
let fileName = "";
let asked = 0; // number of the last request: answers to earlier ones are dropped
let shown = null;
let waiting = 0;

function element(tag, text = "", attributes = {}) {
  const made = document.createElement(tag);
  made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

function fail(reason) {
  find("error").textContent = reason;
  find("error").hidden = false;
}

function busy(is) {
  for (const id of ["result", "empty"]) find(id).classList.toggle("busy", is);
}

async function answer(address, options) {
  let response;
  try {
    response = await fetch(address, options);
  } catch {
    throw new Error("The server does not answer; is 'nfbench demo' still running?");
  }
  let found;
  try {
    found = await response.json();
  } catch {
    throw new Error(`The server failed (${response.status}); its terminal says why.`);
  }
  if (!response.ok) throw new Error(found.error);
  return found;
}

/* Runs what asks the server; only the last request of several may show anything. */
async function latest(work) {
  const number = ++asked;
  busy(true);
  try {
    const found = await work(number);
    if (number === asked && found) {
      find("error").hidden = true;
      show(found);
    }
  } catch (error) {
    if (number === asked) fail(error.message);
  } finally {
    if (number === asked) busy(false);
  }
}

function decision() {
  const rule = find("rule").value;
  const query = new URLSearchParams({ image: current, rule });
  if (ofRule[rule]) query.set(ofRule[rule], find("value").value);
  return answer(`/decisions?${query}`);
}

function take(file) {
  latest(async number => {
    if (file.size > model.largest) throw new Error(`${file.name} is larger than ${Math.round(model.largest / 2 ** 20)} MB.`);
    const headers = { "Content-Type": "application/octet-stream" };
    const added = await answer("/images", { method: "POST", headers, body: file });
    if (number !== asked) return null;
    [current, fileName] = [added.image, file.name];
    return decision();
  });
}

function chooseRule() {
  const kind = ofRule[find("rule").value];
  find("of-value").hidden = !kind;
  find("help").textContent = help[find("rule").value];
  if (kind) {
    const range = { ...values[kind] };
    if (find("rule").value === "conformal") range.min = model.smallest_alpha;
    range.max = Math.max(range.max, range.min);
    for (const key of ["min", "max", "step"]) find("value")[key] = range[key];
    find("value").value = Math.max(range.value, range.min);
    find("value-name").textContent = range.name;
  }
  chooseValue();
}

function chooseValue() {
  const kind = ofRule[find("rule").value], value = Number(find("value").value);
  find("value-shown").textContent = kind === "alpha" ? `${(100 * value).toFixed(1)} %` : value.toFixed(1);
  if (kind) values[kind].value = value;
  clearTimeout(waiting);
  if (current) waiting = setTimeout(() => latest(decision), 120);
}

const precise = value => value === null ? "–" : Number(value.toPrecision(4)).toString();

function show(found) {
  shown = found;
  find("empty").hidden = true;
  find("result").hidden = false;
  find("verdict").classList.toggle("bad", found.anomalous);
  find("decision").textContent = found.anomalous ? "▲ Anomalous" : "✓ Normal";
  find("file-name").textContent = `${fileName} · ${found.size[0]} × ${found.size[1]} pixels · ${found.seconds.toFixed(2)} s`;
  const numbers = [["Score", precise(found.score)], ["p-value", precise(found.p_value)]];
  if (found.threshold !== null) numbers.splice(1, 0, ["Threshold", precise(found.threshold)]);
  if (found.regions !== null) numbers.push(["Regions", String(found.regions)], ["Area", `${(100 * found.area).toFixed(2)} %`]);
  if (found.threshold !== null && found.pixel_threshold !== null) numbers.push(["Map threshold", precise(found.pixel_threshold)]);
  find("numbers").replaceChildren(...numbers.map(([name, value]) => {
    const group = element("div");
    group.append(element("dt", name), element("dd", value));
    return group;
  }));
  find("pictures").replaceChildren(...Object.entries(found.pictures).map(([kind, url]) => {
    const figure = element("figure");
    figure.append(element("img", "", { src: url, alt: captions[kind] }), element("figcaption", captions[kind]));
    return figure;
  }));
  draw();
}

/* The score among those of normal images. */
function draw() {
  if (!shown) return;
  const svg = find("scores").querySelector("svg"), width = svg.clientWidth || 300, middle = 40;
  const marks = [...model.normal, shown.score, ...(shown.threshold === null ? [] : [shown.threshold])];
  const low = Math.min(...marks), span = Math.max(...marks) - low || 1;
  const x = value => 8 + (value - low) / span * (width - 16);
  const parts = [];
  const add = (tag, attributes, text = "") => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.textContent = text;
    parts.push(made);
  };
  const label = (value, y, kind, text) => {
    const at = x(value), anchor = at < 70 ? "start" : at > width - 70 ? "end" : "middle";
    add("text", { x: at, y, class: kind, "text-anchor": anchor }, text);
  };
  add("line", { x1: 0, x2: width, y1: middle, y2: middle, class: "axis" });
  for (const value of model.normal) add("circle", { cx: x(value), cy: middle, r: 4, class: "normal" });
  if (shown.threshold !== null) {
    add("line", { x1: x(shown.threshold), x2: x(shown.threshold), y1: 16, y2: middle + 14, class: "threshold" });
    label(shown.threshold, 11, "threshold", "threshold");
  }
  const kind = shown.anomalous ? "image bad" : "image", at = x(shown.score);
  add("path", { d: `M${at} ${middle - 9} l8 9 l-8 9 l-8 -9 z`, class: kind });
  label(shown.score, middle + 28, kind, "this image");
  svg.replaceChildren(...parts);
  svg.setAttribute("aria-label", `Score ${precise(shown.score)} among those of ${model.normal.length} normal images`);
  find("scores").querySelector("figcaption").textContent = `Grey: scores of ${model.normal.length} normal images. Further right is more anomalous.`;
}

for (const [rule, title] of Object.entries(model.rules)) find("rule").append(element("option", title, { value: rule }));
find("source").textContent = `Thresholds come from ${model.normal.length} ${sources[model.source]}.`;
find("rule").addEventListener("change", chooseRule);
find("value").addEventListener("input", chooseValue);
find("file").addEventListener("change", event => {
  if (event.target.files.length) take(event.target.files[0]);
  event.target.value = ""; // so that the same file can be chosen again
});
addEventListener("dragover", event => { event.preventDefault(); document.body.classList.add("over"); });
addEventListener("dragleave", event => { if (!event.relatedTarget) document.body.classList.remove("over"); });
addEventListener("drop", event => {
  event.preventDefault();
  document.body.classList.remove("over");
  if (event.dataTransfer.files.length) take(event.dataTransfer.files[0]);
});
new ResizeObserver(draw).observe(find("scores"));
chooseRule();
