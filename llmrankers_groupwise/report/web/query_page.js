// A query: measures, and the ranked lists of all runs side by side.

const SHORT = 20;
const FIRST = -1; // in place of a run's number: what each run reranked
const view = { place: null, against: null, whole: false };

const address = (place) => `#query=${encodeURIComponent(report.query_ids[place])}`;

async function drawQuery(place) {
  const host = byId("query");
  const detail = await block(`query-${place}`);
  if (view.place !== place) return; // another one was opened meanwhile
  const text = report.queries[place];
  const groups = report.runs.map((_, number) => groupsOf(detail, number));
  host.replaceChildren(
    queryNavigation(place),
    el("h1", { id: "query-title", tabindex: "-1", dir: "auto" }, text ?? el("span", { class: "muted" }, "text not found")),
    el("p", { class: "muted" }, "query ", el("bdi", {}, report.query_ids[place]), `, ${plural(detail.relevant, "document is", "documents are")} judged relevant (1 or more)`),
    el("section", { "aria-labelledby": "h-values" }, el("h2", { id: "h-values" }, "Quality"), el("div", { class: "scroll", tabindex: "0", role: "region", "aria-labelledby": "h-values" }, valuesTable(place))),
    el("section", { "aria-labelledby": "h-lists" }, el("h2", { id: "h-lists" }, "Ranked lists"), listBar(detail), legend(detail), el("div", { id: "lists", class: "lists" })),
    el("section", { "aria-labelledby": "h-groups" }, el("h2", { id: "h-groups" }, "Groups and replies"), groups));
  drawLists(detail);
}

/** The queries in the order of the table, and where in it one is; of all if the table lacks it. */
function around(place) {
  const order = listing.order.includes(place) ? listing.order : report.query_ids.map((_, each) => each);
  const at = order.indexOf(place);
  return { at, count: order.length, previous: order[at - 1], next: order[at + 1] };
}

function queryNavigation(place) {
  const { at, count, previous, next } = around(place);
  const to = (other, text, key) => (other === undefined ? el("span", { class: "muted" }, text)
    : el("a", { href: address(other), title: `key ${key}` }, text));
  return el("nav", { class: "bar", "aria-label": "queries" },
    el("a", { href: "#", title: "key Esc" }, "← all queries"),
    to(previous, "↑ previous", "k"), to(next, "↓ next", "j"),
    el("span", { class: "muted" }, `${whole(at + 1)} of ${whole(count)}; keys k, j, Esc`));
}

function valuesTable(place) {
  const rows = report.runs.map((run, number) => [runName(number), ...report.measures.map((measure) => {
    const delta = difference(measure, number, place);
    return el("td", { class: "number" }, four(run.values[measure][place]), number === baseline ? small("baseline")
      : el("span", { class: `small ${outcome(delta)}` }, signed(delta)));
  })]);
  return table("Measures of this query", ["run", ...report.measures.map(numberHead)], rows);
}

function listBar(detail) {
  const present = report.runs.map((_, number) => number).filter((number) => detail.lists[number]);
  const explained = detail.made.some(Boolean);
  if (!present.includes(view.against) && !(explained && view.against === FIRST)) view.against = present.includes(baseline) ? baseline : present[0];
  const select = el("select", { id: "against", onchange: () => { view.against = Number(select.value); drawLists(detail); } },
    present.map((number) => el("option", { value: number }, report.runs[number].name)),
    explained ? el("option", { value: FIRST }, "each run’s first stage") : null);
  select.value = view.against;
  const longest = Math.max(0, ...detail.lists.map((list) => list?.docs.length ?? 0));
  const button = el("button", { type: "button", "aria-pressed": view.whole, onclick: () => {
    view.whole = !view.whole;
    button.setAttribute("aria-pressed", view.whole);
    drawLists(detail);
  } }, `show all ${whole(longest)}`);
  return el("div", { class: "bar" }, el("label", { for: "against" }, "Movement against ", select), longest > SHORT ? button : null);
}

/** Colours of judgements: 0 not relevant, 1 to 3 ever more; "none" not judged. */
function gradeLevel(grade, highest) {
  if (grade === null || grade === undefined) return "none";
  return grade <= 0 ? 0 : Math.max(1, Math.round((3 * grade) / highest));
}

function gradeMark(grade, highest) {
  const judged = grade !== null && grade !== undefined;
  return el("span", { class: `grade grade-${gradeLevel(grade, highest)}`, title: judged ? `judged ${grade}` : "not judged" },
    el("span", { class: "unseen" }, judged ? "judged " : "not judged"), judged ? String(grade).replace("-", "−") : el("span", { "aria-hidden": "true" }, "?"));
}

const highestGrade = (detail) => Math.max(1, ...detail.grades.filter((grade) => grade !== null));

function legend(detail) {
  const grades = [...new Set(detail.grades.filter((grade) => grade !== null))].sort((a, b) => b - a);
  const highest = highestGrade(detail);
  return el("p", { class: "legend" }, "Judgements: ", grades.map((grade) => [gradeMark(grade, highest), " "]).flat(),
    gradeMark(null, highest), " not judged. Movement: ▲ up, ▼ down by this number of ranks, = as before, new: not in the other list as far as shown.",
    " A document opens its passage; arrow keys go from one to the next.");
}

function drawLists(detail) {
  replace("lists", report.runs.map((_, number) => listOf(detail, number, ranksBefore(detail, number))));
}

/** The ranks that a run's documents come from; null where they are not known or its own. */
function ranksBefore(detail, number) {
  if (number === view.against) return null;
  const docs = view.against === FIRST ? detail.made[number]?.first_stage : detail.lists[view.against]?.docs ?? [];
  return docs ? new Map(docs.map((doc, rank) => [doc, rank])) : null;
}

function listOf(detail, number, before) {
  const list = detail.lists[number];
  const head = el("h3", {}, runName(number));
  if (!list) return el("section", { class: "list" }, head, el("p", { class: "muted" }, "This run does not have the query; it counts 0."));
  const shown = view.whole ? list.docs.length : Math.min(SHORT, list.docs.length);
  const tied = new Set(list.scores.filter((score, rank) => score === list.scores[rank - 1]));
  const items = list.docs.slice(0, shown).map((doc, rank) => el("li", {},
    documentEntry(detail, doc, rank, before, () => factsOf(detail.made[number], doc, list.scores[rank], tied.has(list.scores[rank])))));
  return el("section", { class: "list", "aria-label": `list of ${report.runs[number].name}` }, head,
    el("p", { class: "muted" }, `${whole(list.relevant)} relevant among ${whole(list.length)}; ${shown < list.length ? `the best ${whole(shown)}` : "all"} shown`),
    el("ol", {}, items));
}

function movement(before, doc, rank) {
  if (!before) return null;
  if (!before.has(doc)) return el("span", { class: "move" }, "new");
  const by = before.get(doc) - rank;
  if (by === 0) return el("span", { class: "move muted", title: "at the same rank" }, "=");
  return el("span", { class: `move ${by > 0 ? "better" : "worse"}` }, el("span", { "aria-hidden": "true" }, by > 0 ? "▲" : "▼"),
    el("span", { class: "unseen" }, by > 0 ? "up " : "down "), whole(Math.abs(by)));
}

/** Where a document's place in a list comes from. */
function factsOf(made, doc, score, tied) {
  const said = [`score ${score}${tied ? ", shared with another document" : ""}`];
  const at = made ? made.first_stage.indexOf(doc) : -1;
  if (at < 0) return said[0];
  if (made.merged) said.push(made.merged[at] === null ? "no call scored it: left to the first stage" : `merged score ${short(made.merged[at])}`);
  said.push(`first-stage rank ${at + 1}`);
  if ((made.variances?.[at] ?? null) !== null) said.push(`variance of its scores ${short(made.variances[at])}`);
  return said.join(" · ");
}

/** A document of a list; its passage and the facts of it are read when it is opened. */
function documentEntry(detail, doc, rank, before, facts) {
  const body = el("div", { class: "passage", dir: "auto" });
  const summary = el("summary", { "data-doc": doc },
    el("span", { class: "rank" }, whole(rank + 1)), gradeMark(detail.grades[doc], highestGrade(detail)),
    el("bdi", { class: "doc" }, detail.docs[doc]), movement(before, doc, rank),
    detail.beginnings[doc] ? el("span", { class: "beginning muted", dir: "auto" }, detail.beginnings[doc]) : null);
  summary.addEventListener("focus", () => markSame(doc));
  summary.addEventListener("mouseenter", () => markSame(doc));
  const entry = el("details", {}, summary, body);
  entry.addEventListener("toggle", async () => {
    if (!entry.open || body.firstChild) return;
    const place = detail.texts[doc];
    const text = place ? (await block(`texts-${place[0]}`))[place[1]] : null;
    body.replaceChildren(el("p", { class: "small muted", dir: "ltr" }, facts()),
      text === null ? el("p", { class: "muted" }, "text not found") : el("p", {}, text));
  });
  return entry;
}

/** Mark a document in all lists. */
function markSame(doc) {
  for (const each of document.querySelectorAll("#lists summary")) each.classList.toggle("same", each.dataset.doc === String(doc));
}

/** Arrow keys among the documents: up and down in a list, left and right to the list beside it. */
function moveInLists(event) {
  const here = event.target.closest("#lists summary");
  const lists = [...document.querySelectorAll("#lists .list")];
  if (!here || !event.key.startsWith("Arrow")) return;
  const rows = (list) => [...list.querySelectorAll("summary")];
  const list = here.closest(".list");
  const rank = rows(list).indexOf(here);
  const sideways = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  const to = sideways ? rows(lists[lists.indexOf(list) + sideways] ?? list)[rank]
    : rows(list)[rank + (event.key === "ArrowDown" ? 1 : -1)];
  event.preventDefault();
  to?.focus();
}
