// Which page is shown, by the address; and the keys.

/** The query that the address asks for; null for none. */
const asked = () => (location.hash.startsWith("#query=") ? decoded(location.hash.slice(7)) : null);

async function route() {
  const place = places.get(asked());
  const before = view.place;
  view.place = place ?? null;
  byId("overview").hidden = view.place !== null;
  byId("query").hidden = view.place === null;
  if (view.place !== null) {
    await drawQuery(view.place).catch((error) => replace("query", queryNavigation(view.place),
      el("p", { class: "worse" }, `This query cannot be shown (${error.message}); a browser of 2023 or later is needed.`)));
    window.scrollTo(0, 0);
    byId("query-title")?.focus({ preventScroll: true });
  } else if (before !== null) {
    const link = document.querySelector(`#queries a[href="${CSS.escape(address(before))}"]`);
    link?.focus();
    link?.scrollIntoView({ block: "center" });
  } else if (asked() !== null) {
    byId("notices").append(el("li", {}, `There is no query ${asked()} in this report.`));
  }
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function keys(event) {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  moveInLists(event);
  if (view.place === null || event.target.closest("input, select, textarea")) return;
  if (event.key === "Escape") location.hash = "";
  const here = around(places.get(asked()) ?? view.place); // the page may not be drawn yet
  const to = { j: here.next, k: here.previous }[event.key];
  if (to !== undefined) location.hash = address(to);
}

function chosen() {
  drawTests(byId("measure").value);
  drawPlot();
  drawQueries();
}

replace("measure", report.measures.map((measure) => el("option", { value: measure }, measure)));
drawAbout();
drawSettings();
drawMeans();
drawOutcomes();
drawCosts();
drawMade();
chosen();
byId("measure").addEventListener("change", chosen);
byId("find").addEventListener("input", drawQueries);
byId("outcome").addEventListener("change", drawQueries);
addEventListener("hashchange", route);
addEventListener("keydown", keys);
route().then(() => {
  document.documentElement.dataset.ready = "yes";
  performance.mark("ready");
});
