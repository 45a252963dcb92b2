// What was asked about a query and what came back, by the run's journal.

/** A run's groups; null where it has no journal. */
function groupsOf(detail, number) {
  const questions = detail.questions[number];
  const name = runName(number);
  if (questions === null) {
    const why = report.runs[number].journal;
    return el("p", { class: "muted small long" }, name, why ? `: no replies, ${why}` : ": no replies are known");
  }
  if (!questions.length) return el("p", { class: "muted small" }, name, ": its journal has no replies about this query");
  const ranks = new Map((detail.lists[number]?.docs ?? []).map((doc, rank) => [doc, rank + 1]));
  const body = el("div", { class: questions.some((each) => each.calibrated) ? "groups wide" : "groups" });
  const entry = el("details", { class: "run-groups" },
    el("summary", {}, el("h3", {}, name), el("span", { class: "muted" }, ` ${plural(questions.length, "question")}: ${statuses(questions)}`)), body);
  entry.addEventListener("toggle", () => {
    if (entry.open && !body.firstChild) body.replaceChildren(...questions.map((_, at) => group(detail, questions, at, ranks)));
  });
  return entry;
}

function statuses(questions) {
  const counted = new Map();
  for (const each of questions) {
    const status = each.status ?? (each.error === null ? "answered" : "failed");
    counted.set(status, (counted.get(status) ?? 0) + 1);
  }
  return [...counted].map(([status, count]) => `${count} ${status}`).join(", ");
}

/** Which call of the run a question was. */
function callOf(questions, at) {
  const { round, repeat } = questions[at];
  const rounds = questions.some((each) => each.round === "final" || each.round === "boundary");
  if (round === undefined) return `${rounds ? "first round, " : ""}repeat ${repeat + 1}`;
  if (round === "unused") return `repeat ${repeat + 1}, not part of this ranking`;
  return `${round} round, call ${questions.slice(0, at + 1).filter((each) => each.round === round).length}`;
}

function group(detail, questions, at, ranks) {
  const question = questions[at];
  const said = [callOf(questions, at), question.status, `${plural(question.prompt_tokens, "prompt token")}, ${whole(question.completion_tokens)} written`,
    question.finish_reason === "stop" ? null : `ended by ${question.finish_reason}`].filter(Boolean);
  return el("article", { class: "group" },
    el("h4", {}, `Question ${at + 1}`),
    el("p", { class: "small muted" }, said.join(" · ")),
    question.error === null ? null : el("p", { class: "worse" }, `No answer: ${question.error}`),
    scoresTable(detail, question, ranks),
    question.refused.length ? el("p", { class: "small" }, `Not taken: ${question.refused.join("; ")}`) : null,
    replyText(question));
}

function scoresTable(detail, question, ranks) {
  const highest = highestGrade(detail);
  const rows = question.docs.map((doc, at) => {
    const value = question.values?.[at] ?? null;
    return [`[${at + 1}]`, el("td", {}, el("bdi", { class: "doc" }, detail.docs[doc])), el("td", {}, gradeMark(detail.grades[doc], highest)),
      el("td", { class: "number" }, ranks.has(doc) ? whole(ranks.get(doc)) : unknown()),
      ...(question.calibrated ? [number(shortOr(value)), el("td", { class: "number calibrated" }, shortOr(question.calibrated[at]))]
        : [question.values ? el("td", { class: "number score" }, value === null ? none() : valueOf(question.value_name, value)) : null])].filter(Boolean);
  });
  const head = ["label", "document", "judged", numberHead("final rank")];
  if (question.values) head.push(numberHead(question.value_name));
  if (question.calibrated) head.push(numberHead("calibrated"));
  return el("div", { class: "scroll" }, table("Documents of the question in the order of the prompt", head, rows));
}

const none = () => el("span", { class: "worse" }, "none");
const shortOr = (value) => (value === null ? none() : short(value));

/** A value that a reply has for a document; a score of 0 to 10 and a probability with a bar. */
function valueOf(valueName, value) {
  if (valueName === "chosen") return el("span", {}, value ? "chosen" : "");
  const text = short(value);
  if (valueName === "rank") return el("span", {}, text);
  const bar = el("span", { class: "score-bar", "aria-hidden": "true" }, el("span", {}));
  bar.firstChild.style.width = `${(valueName === "score" ? 10 : 100) * value}%`;
  return el("span", {}, text, bar);
}

function replyText(question) {
  if (question.error !== null) return null;
  const form = question.form ? el("p", { class: "small muted" }, "A form was filled, of whose blanks the probabilities are known.") : null;
  if (!question.text) return form ?? el("p", { class: "muted" }, "The reply is empty.");
  return el("div", {}, form, el("details", { class: "reply" }, el("summary", {}, `Reply, ${plural(question.text.length, "character")}`),
    el("pre", { dir: "auto", tabindex: "0" }, question.text)));
}
