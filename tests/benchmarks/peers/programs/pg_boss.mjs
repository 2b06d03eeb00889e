// pg-boss, as its manual has it.

import { PgBoss } from "pg-boss";
import { OPTIONS, URL, main, note } from "./node_side.mjs";

const { listen = false, ...working } = OPTIONS;
const boss = new PgBoss({ connectionString: URL, useListenNotify: listen });
boss.on("error", (error) => process.stderr.write(`${error}\n`));

await main({
  async migrate() {
    await boss.start();
    await boss.createQueue("noop", { notify: listen });
  },
  connect: () => boss.start(),
  enqueue: (payload) => boss.send("noop", payload),
  enqueueMany: (payloads) => boss.insert("noop", payloads.map((data) => ({ data }))),
  async work() {
    await boss.start();
    await boss.work("noop", working, async (jobs) => {
      for (const job of jobs) note(job.data);
    });
    process.on("SIGTERM", async () => {
      await boss.stop({ graceful: true, timeout: 5000 });
      process.exit(0);
    });
  },
});
