// The table of queries: one measure of all runs query by query, sorted and filtered.

const listing = { key: "place", ascending: true, order: [] };
const collator = new Intl.Collator("en", { numeric: true });

/** What a column sorts by: key -> function of a query's place. */
function sortKeys(measure) {
  const keys = {
    place: (place) => place,
    id: (place) => report.query_ids[place],
    text: (place) => report.queries[place] ?? "",
  };
  report.runs.forEach((run, number) => {
    keys[`value-${number}`] = (place) => run.values[measure][place];
    keys[`difference-${number}`] = (place) => difference(measure, number, place);
  });
  return keys;
}

function drawOutcomes() {
  const choices = [["", "all queries"]];
  for (const number of others) {
    for (const kind of ["better", "worse", "equal"]) {
      choices.push([`${kind}-${number}`, `${report.runs[number].name} ${kind}`]);
    }
  }
  replace("outcome", choices.map(([value, text]) => el("option", { value }, text)));
}

/** Whether a query is to be shown. */
function wanted(measure) {
  const words = byId("find").value.toLowerCase().split(/\s+/).filter(Boolean);
  const [kind, number] = byId("outcome").value.split("-");
  return (place) => {
    const text = `${report.query_ids[place]} ${report.queries[place] ?? ""}`.toLowerCase();
    if (!words.every((word) => text.includes(word))) return false;
    return !kind || outcome(difference(measure, Number(number), place)) === kind;
  };
}

function drawQueries() {
  const measure = byId("measure").value;
  const key = sortKeys(measure)[listing.key];
  const order = report.query_ids.map((_, place) => place).filter(wanted(measure));
  const sign = listing.ascending ? 1 : -1;
  const compared = (a, b) => (typeof a === "string" ? collator.compare(a, b) : a - b);
  order.sort((a, b) => sign * compared(key(a), key(b)) || a - b);
  listing.order = order;
  const largest = others.flatMap((number) => report.query_ids.map((_, place) => Math.abs(difference(measure, number, place))))
    .reduce((most, each) => Math.max(most, each), 1e-9);
  const made = table(`Queries by ${measure}`, queryHeads(), order.map((place) => queryRow(measure, place, largest)), { class: "queries" });
  const focused = document.activeElement?.dataset?.key;
  replace("queries", made);
  if (focused) made.querySelector(`[data-key="${focused}"]`)?.focus();
  byId("queries-legend").textContent = lacking.some((ids) => ids.size) ? "†: the run does not have the query, which counts 0." : "";
  byId("shown").textContent = order.length === report.query_ids.length
    ? plural(order.length, "query", "queries") : `${whole(order.length)} of ${plural(report.query_ids.length, "query", "queries")}`;
}

function queryHeads() {
  const heads = [sortHead("id", "id"), sortHead("text", "query")];
  heads.push(sortHead(`value-${baseline}`, runName(baseline), "number"));
  for (const number of others) {
    heads.push(sortHead(`value-${number}`, runName(number), "number"), sortHead(`difference-${number}`, "diff.", "number",
      `difference of ${report.runs[number].name} to ${report.baseline}`));
  }
  return heads;
}

function sortHead(key, label, kind = "", said = null) {
  const active = listing.key === key;
  const arrow = el("span", { class: "arrow", "aria-hidden": "true" }, active ? (listing.ascending ? "▲" : "▼") : "");
  const button = el("button", { type: "button", "data-key": key, "aria-label": said, onclick: () => sortBy(key) }, label, arrow);
  return el("th", { scope: "col", class: kind, "aria-sort": active ? (listing.ascending ? "ascending" : "descending") : "none" }, button);
}

/** Sort by a column: texts upwards at first, numbers downwards; the other way the second time. */
function sortBy(key) {
  const texts = key === "id" || key === "text";
  listing.ascending = listing.key === key ? !listing.ascending : texts;
  listing.key = key;
  drawQueries();
}

function queryRow(measure, place, largest) {
  const value = (number) => el("td", { class: "number" }, lacking[number].has(report.query_ids[place])
    ? el("span", { class: "muted", title: "not in the run, counts 0" }, "0.0000 †") : four(report.runs[number].values[measure][place]));
  const row = el("tr", {},
    el("th", { scope: "row" }, el("a", { href: address(place) }, el("bdi", {}, report.query_ids[place]))),
    el("td", { class: "text", dir: "auto" }, report.queries[place] ?? el("span", { class: "muted" }, "text not found")),
    value(baseline),
    others.flatMap((number) => [value(number), differenceCell(difference(measure, number, place), largest)]));
  row.addEventListener("click", (event) => {
    if (!event.target.closest("a") && !String(getSelection())) location.hash = address(place);
  });
  return row;
}

/** A difference as a number, and a bar from the middle. */
function differenceCell(value, largest) {
  const bar = el("span", { class: "bar-of-one", "aria-hidden": "true" }, el("span", {}));
  const share = (50 * Math.abs(value)) / largest;
  bar.firstChild.style.width = `${share}%`;
  bar.firstChild.style.left = `${value < 0 ? 50 - share : 50}%`;
  return el("td", { class: `number difference ${outcome(value)}` }, signed(value), bar);
}
