// graphile-worker through its library, as its manual has it.

import { Logger, makeWorkerUtils, run } from "graphile-worker";
import { OPTIONS, URL, main, note } from "./node_side.mjs";

// A line for each job would be measured otherwise.
const logger = new Logger(() => (level, message) => {
  if (level === "error") process.stderr.write(`${message}\n`);
});
const preset = { worker: { connectionString: URL, logger, ...OPTIONS } };
let utils;

await main({
  async migrate() {
    await this.connect();
    await utils.migrate();
  },
  async connect() {
    utils = await makeWorkerUtils({ preset });
  },
  enqueue: (payload) => utils.addJob("noop", payload),
  enqueueMany: (payloads) =>
    utils.addJobs(payloads.map((payload) => ({ identifier: "noop", payload }))),
  async work() {
    const taskList = { noop: async (payload) => note(payload) };
    const runner = await run({ preset, taskList, parsedCronItems: [] });
    await runner.promise;
  },
});
