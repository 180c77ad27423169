// The client of the local server of `cotrace view`: saving, and edits of the model. A page in a file has none.
//
//   const client = app.server;                        null without a server
//   await client.save(0, { groups, labels, page })     throws ServerError: status 412 if the file changed on disk
//   const { result } = await client.change(0, { edits: [{ kind: "ablate", nodes: ["L17#264@5"] }] }, { onprogress, signal })

const POLL_MS = 250;
const UNANSWERED = 0; // status
const STOPPED = "the server does not answer: start cotrace view again and open the address that it prints, or save the page as a file";

/** An answer of the server that is an error; status 0 if there was no answer. */
class ServerError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/**
 * Return the client of the server that the header of the page names, or null.
 *
 * `files` has for each file its `version`, and `obstacle`: why it cannot be saved, or null.
 */
export function createClient(server) {
  if (!server) return null;
  const files = server.files.map((file) => ({ ...file }));
  let [saved, saves, isStopped] = [Promise.resolve(), 0, false];
  const ask = async (path, options) => {
    try {
      const value = await answer(server.token, path, options);
      isStopped = false;
      return value;
    } catch (error) {
      isStopped = error.status === UNANSWERED;
      throw error;
    }
  };
  const save = async (number, state, overwrite) => {
    const headers = { "If-Match": overwrite ? "*" : `"${files[number].version}"` };
    const { version } = await ask(`files/${number}`, { method: "PUT", headers, body: state });
    return (files[number].version = version);
  };
  return {
    files,
    /** Number of saves that were begun or have ended. */
    get saves() {
      return saves;
    },
    /** True if the last question was not answered: whoever asked has said so. */
    get isStopped() {
      return isStopped;
    },
    /** True if the server can be asked to change the model; `modelObstacle` says whether the model is at hand. */
    canChange: server.change,
    /**
     * Save `{groups, labels, page}` into a file on disk and return its new version; `overwrite` ignores other changes of it. Saves
     * wait for each other: each names the version that the one before it made.
     */
    save(number, state, { overwrite = false } = {}) {
      saves++;
      const result = saved.then(() => save(number, state, overwrite)).finally(() => saves++);
      saved = result.catch(() => {});
      return result;
    },
    /** Return for each file the version that is on disk now, null for one that is gone. */
    versions: async () => (await ask("files")).map(({ version }) => version),
    /** Return why the model of a file cannot be run, or null. */
    modelObstacle: async (number) => (await ask(`files/${number}/model`)).obstacle,
    /**
     * Change the model of a file and return the finished job, whose `result` is that of cotrace/cli/model_changes.py.
     *
     * `request` is {edits: [{kind, nodes, value?}], freeze?, everywhere?, max_new_tokens?}; `onprogress` gets the job while it
     * runs; `signal`, an AbortSignal, cancels it: the job's state is then "cancelled".
     */
    async change(number, request, { onprogress = () => {}, signal } = {}) {
      let job = await ask(`files/${number}/changes`, { method: "POST", body: request });
      const cancel = () => ask(`changes/${job.id}`, { method: "DELETE" }).catch(() => {});
      if (signal?.aborted) cancel(); // before the server answered
      signal?.addEventListener("abort", cancel, { once: true });
      while (job.state === "waiting" || job.state === "running") {
        onprogress(job);
        await new Promise((resolve) => setTimeout(resolve, POLL_MS));
        job = await ask(`changes/${job.id}`);
      }
      signal?.removeEventListener("abort", cancel);
      if (job.state === "failed") throw new ServerError(job.error, 200);
      return job;
    },
  };
}

async function answer(token, path, { method = "GET", headers = {}, body } = {}) {
  const content = body === undefined ? {} : { "Content-Type": "application/json" };
  const options = { method, headers: { "X-Cotrace-Token": token, ...content, ...headers } };
  if (body !== undefined) options.body = JSON.stringify(body);
  const response = await fetch(path, options).catch(() => {
    throw new ServerError(STOPPED, UNANSWERED);
  });
  const value = await response.json().catch(() => ({}));
  if (!response.ok) throw new ServerError(value.error ?? `the server answered ${response.status}`, response.status);
  return value;
}
