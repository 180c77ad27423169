// Changes of the model: the one that runs, and those that are done.

import { describe, requestOf } from "./draft.js";

const MOST_KEPT = 50;

/** Return the changes of a page; `onchange` is called when one starts, ends or is shown, `onprogress` while one runs. */
export function createRunner(app, { onchange, onprogress }) {
  let controller = null;
  const runner = {
    history: [], // [{title, file, draft, result}], the latest first
    shown: null, // the change of the history whose result is shown
    job: null, // the change that runs, as the server describes it
    error: "",
    show(change) {
      runner.shown = change;
      onchange();
    },
    cancel: () => controller?.abort(),
    /** Run a draft on the model of a file; one change runs at a time. */
    async run(number, draft) {
      if (runner.job) return;
      controller = new AbortController();
      start(runner);
      onchange();
      const follow = (job) => {
        runner.job = job;
        onprogress();
      };
      try {
        const request = requestOf(app.files[number].graph, draft);
        const job = await app.server.change(number, request, { onprogress: follow, signal: controller.signal });
        if (job.state === "done") keep(runner, { title: describe(draft), file: number, draft, result: job.result });
      } catch (error) {
        runner.error = error.message;
      }
      runner.job = null;
      app.announce(runner.error || (controller.signal.aborted ? "Cancelled" : `Done: ${describe(draft)}`));
      onchange();
    },
  };
  return runner;
}

function start(runner) {
  runner.job = { state: "waiting", phase: "", done: 0, total: null };
  runner.error = "";
}

function keep(runner, change) {
  runner.history = [change, ...runner.history].slice(0, MOST_KEPT);
  runner.shown = change;
}
