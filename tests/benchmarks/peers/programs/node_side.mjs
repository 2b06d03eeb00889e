// The words of protocol.py for programs in JavaScript; a queue brings five functions:
// migrate, connect, enqueue, enqueueMany, work.

import { randomBytes } from "node:crypto";
import { createInterface } from "node:readline";
import { existsSync, openSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";

export const URL = process.env.PEER_URL;
export const OPTIONS = JSON.parse(process.env.PEER_OPTIONS);
export const TASK = JSON.parse(process.env.PEER_TASK);
export const QUEUES = Array.from({ length: TASK.queues }, (_, n) => `queue${n}`);
const FLUSHED_EVERY = 20; // milliseconds

// Seconds since 1970; Date.now() has only milliseconds.
const now = () => (performance.timeOrigin + performance.now()) / 1000;

let rows = [];
let file;

function flush() {
  if (!rows.length) return;
  file ??= openSync(join(process.env.PEER_STARTS, String(process.pid)), "a");
  writeSync(file, new Uint8Array(Float64Array.from(rows).buffer));
  rows = [];
}

// The first job of a process waits at the gate, if there is one.
let begun = false;

function waitAtGate() {
  begun = true;
  const gate = process.env.PEER_GATE;
  if (!gate) return;
  writeFileSync(join(gate, String(process.pid)), "");
  const sleeper = new Int32Array(new SharedArrayBuffer(4));
  while (!existsSync(join(gate, "open"))) Atomics.wait(sleeper, 0, 0, 1);
}

const failed = new Set();

// What a handler does; it throws if jobs are to fail and this one has not.
export async function run(payload) {
  if (!begun) waitAtGate();
  rows.push(payload.n, payload.sent, now());
  if (TASK.fails && !failed.has(payload.n)) {
    failed.add(payload.n);
    throw new Error("fails once");
  }
  if (TASK.pause) await pause(TASK.pause * 1000);
}

// Text that does not get much smaller when the server compresses it.
const body = randomBytes(TASK.bytes).toString("base64").slice(0, TASK.bytes);

// About 100 bytes and the body.
const payload = (n, sent) => ({
  n,
  sent,
  email: `user${n}@example.com`,
  template: "welcome_v2",
  body,
});

export const queueOf = (payload) => QUEUES[payload.n % QUEUES.length];

async function send(queue, { first, jobs, each, rate }) {
  const began = now();
  for (let done = 0; done < jobs; done += each) {
    const early = rate ? began + done / rate - now() : 0;
    if (early > 0) await pause(early * 1000);
    const sent = now();
    if (each === 1) {
      await queue.enqueue(payload(first + done, sent));
    } else {
      const size = Math.min(each, jobs - done);
      await queue.enqueueMany(
        Array.from({ length: size }, (_, n) => payload(first + done + n, sent)),
      );
    }
  }
  return { began, ended: now() };
}

const say = (words) => process.stdout.write(JSON.stringify(words) + "\n");

export async function main(queue) {
  const role = process.argv[2];
  if (role === "migrate") {
    await queue.migrate();
  } else if (role === "produce") {
    await queue.connect();
    say({});
    for await (const line of createInterface({ input: process.stdin })) {
      say(await send(queue, JSON.parse(line)));
    }
  } else {
    setInterval(flush, FLUSHED_EVERY);
    // The benchmark may have been killed.
    process.stdin.resume().on("end", () => process.kill(process.pid, "SIGTERM"));
    await queue.work();
    return;
  }
  process.exit(0);
}
