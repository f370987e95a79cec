// Search of the documentation without a server: the page of results loads the index as a script.
(function () {
  const results = document.getElementById("mkdocs-search-results");
  const input = document.getElementById("mkdocs-search-query");
  if (!results || !input) return;

  function show(found, documents) {
    results.textContent = found.length ? "" : "No results found";
    for (const { ref } of found.slice(0, 50)) {
      const { title, text } = documents.get(ref);
      const article = document.createElement("article");
      const link = document.createElement("a");
      link.href = ref;
      link.textContent = title;
      article.appendChild(document.createElement("h3")).appendChild(link);
      const summary = text.length > 220 ? text.slice(0, 220) + " …" : text;
      article.appendChild(document.createElement("p")).textContent = summary;
      results.appendChild(article);
    }
  }

  const script = document.createElement("script");
  script.src = "search/index.js";
  script.onload = function () {
    const documents = new Map(searchIndex.docs.map((entry) => [entry.location, entry]));
    const index = lunr(function () {
      this.field("title", { boost: 10 });
      this.field("text");
      this.ref("location");
      for (const entry of documents.values()) this.add(entry);
    });
    function search() {
      const words = input.value.toLowerCase().split(/[^\p{L}\p{N}_.-]+/u).filter((word) => word.length > 1);
      if (!words.length) return void (results.textContent = "");
      show(index.query((query) => {
        for (const word of words) {
          query.term(lunr.tokenizer(word), { boost: 10 });
          query.term(word, { wildcard: lunr.Query.wildcard.TRAILING });
        }
      }), documents);
    }
    input.value = new URLSearchParams(window.location.search).get("q") || "";
    input.addEventListener("input", search);
    search();
  };
  document.head.appendChild(script);
})();
