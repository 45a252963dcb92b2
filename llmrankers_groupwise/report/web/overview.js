// The first page: quality, tests, costs, and what the report was made of.

const LEVEL = 0.05;

const NAMED = 4;

function drawAbout() {
  const count = report.query_ids.length;
  const names = report.runs.slice(0, NAMED).map((run) => run.name);
  if (report.runs.length > NAMED) names.push(`${report.runs.length - NAMED} more`);
  byId("title").textContent = `Comparison of ${names.slice(0, -1).join(", ")}${names.length > 1 ? " and " : ""}${names.at(-1)}`;
  byId("about").append(
    `${plural(report.runs.length, "run")}, ${plural(count, "judged query", "judged queries")}, baseline `,
    el("bdi", {}, report.baseline), `, ${report.date}`);
  document.title = `Comparison of ${report.runs.map((run) => run.name).join(", ")}`;
  replace("notices", report.runs.flatMap(oddities).concat(report.notes).map((note) => el("li", {}, note)));
}

/** Methods, models, and the settings that differ from run to run. */
function drawSettings() {
  const { differ, same } = report.settings;
  if (!differ.length) return;
  const rows = differ.map(([name, values]) => [name, ...values.map((value) => value ?? unknown())]);
  replace("differ", table("Settings that differ", ["setting", ...report.runs.map((_, number) => el("th", { scope: "col" }, runName(number)))], rows, { class: "texts" }));
  byId("same").textContent = same.map(([name, value]) => `${name} ${value}`).join("; ");
  byId("same-settings").hidden = !same.length;
  byId("settings").hidden = false;
}

/** What a reader of a run's figures should know. */
function oddities(run) {
  const first = (ids) => `(${ids.slice(0, 5).join(", ")}${ids.length > 5 ? ", …" : ""})`;
  const notes = [];
  if (run.missing.length) {
    notes.push(`${run.name}: ${plural(run.missing.length, "judged query is not in the run and counts 0", "judged queries are not in the run and count 0")} ${first(run.missing)}`);
  }
  if (run.unjudged_queries.length) {
    notes.push(`${run.name}: ${plural(run.unjudged_queries.length, "query is not judged and does not count", "queries are not judged and do not count")} ${first(run.unjudged_queries)}`);
  }
  if (run.unjudged_at_10) {
    notes.push(`${run.name}: on average ${run.unjudged_at_10.toFixed(2)} of the first 10 documents are not judged`);
  }
  if (run.ties) {
    notes.push(`${run.name}: ${plural(run.ties, "document shares its score", "documents share their score")} with another; measures order them by doc_id`);
  }
  return notes;
}

/** All measures of all runs; the best in bold, differences that hold up marked. */
function drawMeans() {
  const best = Object.fromEntries(report.measures.map((measure) =>
    [measure, Math.max(...report.runs.map((run) => run.means[measure]))]));
  const rows = report.runs.map((run, number) => [runName(number), ...report.measures.map((measure) => {
    const mean = run.means[measure];
    const tests = run.against[measure];
    const sure = tests && tests.randomisation_p_holm < LEVEL;
    return el("td", { class: "number" },
      el(four(mean) === four(best[measure]) && report.runs.length > 1 ? "strong" : "span", {}, four(mean)),
      tests ? el("span", { class: `small ${outcome(tests.difference)}` }, signed(tests.difference) + (sure ? " *" : "")) : small("baseline"));
  })]);
  replace("means", table("Means of all measures", ["run", ...report.measures.map(numberHead)], rows));
  byId("means-legend").textContent = others.length
    ? `Means over all judged queries, and the difference to the baseline. Bold: the best. *: the difference has p < ${LEVEL} in the paired randomisation test, corrected by Holm over all measures and runs.`
    : "Means over all judged queries.";
}

const numberHead = (text) => el("th", { scope: "col", class: "number" }, text);
const number = (content) => el("td", { class: "number" }, content);
const small = (text) => el("span", { class: "small muted" }, text);

function drawTests(measure) {
  for (const each of document.querySelectorAll(".measure-name")) each.textContent = `by ${measure}`;
  const head = ["run", ...["mean", "95 % interval"].map(numberHead)];
  if (others.length) {
    head.push(...["difference", "better / equal / worse", "t test p", "Holm", "randomisation p", "Holm"].map(numberHead));
  }
  const rows = report.runs.map((run, at) => {
    const interval = run.intervals[measure];
    const cells = [runName(at), number(four(run.means[measure])),
      number(interval ? `${four(interval[0])} – ${four(interval[1])}` : unknown())];
    const tests = run.against[measure];
    if (tests) {
      cells.push(
        el("td", { class: `number ${outcome(tests.difference)}` }, signed(tests.difference)),
        number(`${tests.wins} / ${tests.ties} / ${tests.losses}`),
        number(pValue(tests.t_p)), number(pValue(tests.t_p_holm)),
        number(pValue(tests.randomisation_p)), number(pValue(tests.randomisation_p_holm)));
    } else if (others.length) {
      cells.push(el("td", { colspan: 6, class: "muted" }, "baseline"));
    }
    return cells;
  });
  replace("tests", table(`Tests by ${measure}`, head, rows));
  const said = ["Intervals of the mean by Student’s t distribution."];
  const tested = report.runs.flatMap((run) => Object.values(run.against));
  if (tested.length) {
    const counted = tested.filter((each) => each.t_p !== null).length;
    said.push(`p-values are of paired, two-sided tests; Holm corrects over all ${counted} t tests, and over all ${tested.length} randomisation tests.`);
    if (counted < tested.length) said.push("There is no t test (–) of one query, or where the differences of all queries are equal.");
  }
  byId("tests-legend").textContent = said.join(" ");
}

const COST_NAMES = {
  calls: "calls", rounds: "rounds", prompt_tokens: "prompt tokens", completion_tokens: "completion tokens", seconds: "seconds",
};

function drawCosts() {
  const known = (run, name) => (run.costs ? run.costs[name] : null);
  const rows = report.runs.map((run, at) => [runName(at),
    ...Object.keys(COST_NAMES).map((name) => {
      const value = known(run, name);
      return number(name === "seconds" && value !== null ? value.toLocaleString("en-US", { minimumFractionDigits: 1, maximumFractionDigits: 1 }) : whole(value));
    }),
    number(known(run, "failed") === null ? unknown() : `${whole(run.costs.failed)} of ${run.costs.groups === null ? "?" : whole(run.costs.groups)}`)]);
  replace("costs", table("Costs", ["run", ...Object.values(COST_NAMES).map(numberHead), numberHead("failed groups")], rows));
  const plotted = new Set([...document.querySelectorAll("#plots figure")].map((each) => each.dataset.cost));
  const choice = byId("cost-choice");
  for (const name of Object.keys(COST_NAMES).filter((each) => plotted.has(each))) {
    const input = el("input", { type: "radio", name: "cost", value: name, onchange: drawPlot });
    input.checked = choice.querySelector("input") === null;
    choice.append(el("label", {}, input, COST_NAMES[name]));
  }
  choice.hidden = plotted.size === 0;
  byId("differences").hidden = others.length === 0;
}

/** Show the plot of the measure and the cost that are chosen. */
function drawPlot() {
  const measure = byId("measure").value;
  const cost = document.querySelector("#cost-choice input:checked")?.value;
  for (const figure of document.querySelectorAll("#differences figure")) {
    figure.hidden = figure.dataset.measure !== measure;
  }
  for (const figure of document.querySelectorAll("#plots figure")) {
    figure.hidden = figure.dataset.measure !== measure || figure.dataset.cost !== cost;
  }
  if (!cost) {
    byId("plot-legend").textContent = "No plot: of no run it is known what it cost.";
    return;
  }
  const without = report.runs.filter((run) => !run.costs || run.costs[cost] === null).map((run) => run.name);
  byId("plot-legend").textContent = "The line and names in bold: runs that no other beats, as none as cheap is better and none as good is cheaper."
    + (without.length ? ` Dashed, as what they cost is not known: ${without.join(", ")}.` : "");
}

function drawMade() {
  const rows = report.runs.map((run, at) => [runName(at), run.path,
    run.costs ? [run.costs.method, run.costs.model].filter(Boolean).join(", ") || unknown() : unknown(), run.journal || unknown()]);
  replace("made", table("Files", ["run", "file", "made by", "replies"], rows, { class: "texts" }));
  replace("sources", report.sources.map((each) => el("li", {}, each)));
}
