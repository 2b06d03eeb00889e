// graphile-worker through its library, as its manual has it.
//
// Its named queues run their jobs one at a time, so a queue is a task's name here.

import { Logger, makeWorkerUtils, run as start } from "graphile-worker";
import { OPTIONS, QUEUES, TASK, URL, main, queueOf, run } from "./node_side.mjs";

// A line for each job would be measured otherwise.
const logger = new Logger(() => (level, message) => {
  if (level === "error" && !TASK.fails) process.stderr.write(`${message}\n`);
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
  enqueue: (payload) => utils.addJob(queueOf(payload), payload),
  enqueueMany: (payloads) =>
    utils.addJobs(
      payloads.map((payload) => ({ identifier: queueOf(payload), payload })),
    ),
  async work() {
    const taskList = Object.fromEntries(QUEUES.map((name) => [name, run]));
    const runner = await start({ preset, taskList, parsedCronItems: [] });
    await runner.promise;
  },
});
