// BullMQ, one job per item, added in bulk: https://docs.bullmq.io. "node bullmq.mjs work" works, else it produces.
import { createRequire } from "node:module";

const { BENCH_NODE_MODULES, BENCH_SOCKET, BENCH_VENDOR, BENCH_ITEMS, BENCH_FIRST, BENCH_CONCURRENCY } = process.env;
const require = createRequire(`${BENCH_NODE_MODULES}/`);
const { Queue, Worker } = require("bullmq");
const connection = { path: BENCH_SOCKET, maxRetriesPerRequest: null };

if (process.argv[2] === "work") {
  const issue = async (job) => {
    const body = JSON.stringify([job.data]);
    const answer = await fetch(BENCH_VENDOR, { method: "PUT", headers: { "Content-Type": "application/json" }, body });
    if (!answer.ok) throw new Error(`${answer.status}`);
    return (await answer.json())[0];
  };
  const worker = new Worker("bench", issue, { connection, concurrency: Number(BENCH_CONCURRENCY) });
  await worker.waitUntilReady();
  console.log("ready");
} else {
  const first = Number(BENCH_FIRST);
  const items = Array.from({ length: Number(BENCH_ITEMS) }, (_, n) => ({
    name: "issue",
    data: {
      badgeMetaId: `696f0fd40772ad476ecf740${(first + n) % 5}`,
      customerId: 500000000 + first + n,
      earnEventDate: 1674292011,
      earnExpiresOn: 1737450411,
    },
  }));
  const queue = new Queue("bench", { connection });
  await queue.waitUntilReady();
  const beganAt = Date.now() / 1000;
  const began = performance.now();
  const cpu = process.cpuUsage();
  for (let n = 0; n < items.length; n += 1000) await queue.addBulk(items.slice(n, n + 1000));
  const used = process.cpuUsage(cpu);
  const said = { began_at: beganAt, elapsed_s: (performance.now() - began) / 1000, cpu_s: (used.user + used.system) / 1e6 };
  console.log(JSON.stringify(said));
  await queue.close();
}
