// The data of the page: the comparison at once, queries and passages when they are looked at.

const report = JSON.parse(byId("comparison").textContent);
const baseline = report.runs.findIndex((run) => run.name === report.baseline);
const others = report.runs.map((_, number) => number).filter((number) => number !== baseline);
const lacking = report.runs.map((run) => new Set(run.missing));
const places = new Map(report.query_ids.map((id, place) => [id, place]));

const unpacked = new Map();

/** The value of a packed block, unpacked once. */
function block(name) {
  if (!unpacked.has(name)) {
    unpacked.set(name, inflate(byId(name).textContent));
    if (unpacked.size > 24) unpacked.delete(unpacked.keys().next().value);
  }
  return unpacked.get(name);
}

async function inflate(packed) {
  const bytes = Uint8Array.from(atob(packed), (each) => each.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return JSON.parse(await new Response(stream).text());
}

/** The difference of a run to the baseline in one query. */
const difference = (measure, number, place) =>
  report.runs[number].values[measure][place] - report.runs[baseline].values[measure][place];

/** What a difference is called, as the tests count it. */
function outcome(value) {
  if (Math.abs(value) <= report.same) return "equal";
  return value > 0 ? "better" : "worse";
}
