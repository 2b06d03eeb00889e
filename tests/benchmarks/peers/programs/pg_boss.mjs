// pg-boss, as its manual has it.

import { PgBoss } from "pg-boss";
import { OPTIONS, QUEUES, TASK, URL, main, queueOf, run } from "./node_side.mjs";

const { listen = false, ...working } = OPTIONS;
const boss = new PgBoss({ connectionString: URL, useListenNotify: listen });
boss.on("error", (error) => process.stderr.write(`${error}\n`));

// Jobs that fail are told from the others only where the handler says so for each.
async function runBatch(jobs) {
  const results = [];
  for (const { id, data } of jobs) {
    const status = await run(data).then(() => "completed", () => "failed");
    results.push({ id, status });
  }
  return results;
}

async function runAll(jobs) {
  for (const job of jobs) await run(job.data);
}

await main({
  async migrate() {
    await boss.start();
    for (const name of QUEUES)
      await boss.createQueue(name, { notify: listen, retryLimit: 1, retryDelay: 0 });
  },
  connect: () => boss.start(),
  enqueue: (payload) => boss.send(queueOf(payload), payload),
  async enqueueMany(payloads) {
    for (const name of QUEUES) {
      const own = payloads.filter((payload) => queueOf(payload) === name);
      if (own.length) await boss.insert(name, own.map((data) => ({ data })));
    }
  },
  async work() {
    await boss.start();
    const options = { ...working, perJobResults: TASK.fails };
    for (const name of QUEUES)
      await boss.work(name, options, TASK.fails ? runBatch : runAll);
    process.on("SIGTERM", async () => {
      await boss.stop({ graceful: true, timeout: 5000 });
      process.exit(0);
    });
  },
});
