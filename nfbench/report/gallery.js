// ---- maps: examples, and a browser of images by score

const shownImage = { number: null };

const galleryOf = (category) => {
  const [dataset, name] = data.categories[category] || [];
  return data.gallery.find((found) => found.dataset === dataset && found.category === name);
};

function ofSystem(found, system) {
  const { setting, method, backbone } = data.systems[system] || {};
  return found.systems.find((one) => one.setting === setting && one.method === method && one.backbone === backbone);
}

function prepareGallery() {
  byId("gallery-category").addEventListener("change", () => { shownImage.number = null; showGallery(); });
  for (const id of ["gallery-system", "gallery-kind"]) byId(id).addEventListener("change", showGallery);
}

function showGallery() {
  const found = galleryOf(Number(byId("gallery-category").value));
  const ranking = found && ofSystem(found, Number(byId("gallery-system").value));
  if (!found || !shownCategories().length || byId("gallery-category").value === "") {
    content("gallery").replaceChildren(make("p", {}, "The report has no pictures: their files are gone or have changed."));
    return;
  }
  const scored = found.images.map((image, number) => ({ image, number, result: ranking ? ranking.results[number] : [null, null, null] }));
  const byScore = [...scored].sort((a, b) => (a.result[1] ?? Infinity) - (b.result[1] ?? Infinity));
  content("gallery").replaceChildren(make("h3", {}, "Browse by score"), browser(found, byScore, ranking), make("h3", {}, "Examples"), ...examples(found, ranking));
}

const picture = (source, name) => (source ? make("img", { src: source, alt: name }) : make("span", { className: "empty" }, name === "ground truth" ? "no mask" : "no map kept"));
const kindOf = (image) => image.defect || (image.label ? "anomalous" : "good");

/** An image with its ground truth and the maps of all methods that are shown. */
function row(found, number) {
  const image = found.images[number];
  const cards = [card(picture(image.image, "test image"), kindOf(image), image.name), card(picture(image.truth, "ground truth"), "ground truth", "")];
  for (const system of shownSystems()) {
    const of = ofSystem(found, system);
    if (!of) continue;
    const [score, place, map] = of.results[number];
    cards.push(card(picture(map, "anomaly map"), nameCell(system), place === null ? "not tested" : `score ${compactScore(score)}, place ${place} of ${of.tested}`));
  }
  const shown = make("div", { className: "cards" }, ...cards);
  shown.style.setProperty("--cards", cards.length);
  return shown;
}

const compactScore = (score) => String(Number(score.toPrecision(3)));
const card = (shown, title, text) => make("figure", {}, shown, make("figcaption", {}, make("strong", {}, title), text));

/** Thumbnails from the highest to the lowest score; arrow keys, Home and End move the choice. */
function browser(found, byScore, ranking) {
  const kind = byId("gallery-kind").value;
  const shown = byScore.filter(({ image }) => kind === "all" || (kind === "good") === !image.label);
  if (!shown.some(({ number }) => number === shownImage.number)) {
    const first = shown.find(({ result }) => result[2] !== null) || shown[0];
    shownImage.number = first ? first.number : null;
  }
  const detail = make("div", { className: "detail" });
  const thumbs = shown.map(({ image, number, result }) => {
    const thumb = make("button", { type: "button", className: image.label ? "anomalous" : "good" }, make("img", { src: image.image, alt: "" }),
      make("span", {}, result[1] === null ? "–" : `#${result[1]}`));
    thumb.setAttribute("role", "option");
    thumb.setAttribute("aria-label", `${kindOf(image)}, ${image.name}${result[1] === null ? "" : `, place ${result[1]}, score ${compactScore(result[0])}`}`);
    thumb.addEventListener("click", () => choose(number));
    return thumb;
  });
  const list = make("div", { className: "thumbs" }, ...thumbs);
  list.setAttribute("role", "listbox");
  list.setAttribute("aria-label", "Test images by score");
  function choose(number) {
    shownImage.number = number;
    shown.forEach((one, index) => {
      thumbs[index].setAttribute("aria-selected", String(one.number === number));
      thumbs[index].tabIndex = one.number === number ? 0 : -1;
    });
    detail.replaceChildren(...(number === null ? [make("p", {}, "The report shows no image of this kind.")] : [row(found, number)]));
  }
  list.addEventListener("keydown", (event) => {
    const at = shown.findIndex(({ number }) => number === shownImage.number);
    const to = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, Home: 0, End: shown.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    const target = Math.min(Math.max(to, 0), shown.length - 1);
    choose(shown[target].number);
    thumbs[target].focus();
  });
  choose(shownImage.number);
  const tested = ranking ? `${found.images.length} of ${ranking.tested} test images, from the highest to the lowest score. ` : "This method did not test these images. ";
  return make("div", { className: "browser" }, make("p", {}, `${tested}Red frames mark anomalous images.`), list, detail);
}

/** A good image, one of each kind of defect, and the images that the chosen method ranks worst. */
function examples(found, ranking) {
  const [alarms, misses] = ranking ? [ranking.alarms, ranking.misses] : [[], []];
  const worst = ranking && ranking.separated
    ? ["Normal images with the highest scores (all anomalous images score higher)", "Anomalous images with the lowest scores (all normal images score lower)"]
    : ["Worst false alarms: the normal images with the highest scores", "Worst misses: the anomalous images with the lowest scores"];
  const groups = [["Good and each kind of defect", found.images.map((image, number) => number).filter((number) => found.images[number].example)],
    [worst[0], alarms], [worst[1], misses]];
  return groups.filter(([, numbers]) => numbers.length)
    .map(([title, numbers]) => make("div", { className: "group" }, make("h4", {}, title), ...numbers.map((number) => row(found, number))));
}
