// node enqueue.mjs [host:port or /path/of/a/socket] < items.json        needs Node 18, and nothing installed
// Hands in a JSON array of badges. What the message means is said in README.md, beside this file. With a
// client library, all but the call of lpush() stays as it is: await client.lPush("celery", message)
import { randomUUID } from "node:crypto";
import { text } from "node:stream/consumers";
import net from "node:net";

function messageOf(items, { org = "default", run, urgent = false } = {}) {
  const id = randomUUID();
  const kwargs = run ? { items, org, run, urgent } : { items, org, urgent };
  return JSON.stringify({
    body: Buffer.from(JSON.stringify([[], kwargs, {}])).toString("base64"),
    "content-encoding": "utf-8",
    "content-type": "application/json",
    headers: { lang: "js", task: "badges.enqueue", id, origin: "enqueue.mjs" },
    properties: {
      body_encoding: "base64",
      correlation_id: id,
      delivery_info: { exchange: "", routing_key: "celery" },
      delivery_mode: 2,
      delivery_tag: id,
      priority: 0,
    },
  });
}

function lpush(where, message) {
  const [host, port] = where.split(":");
  const parts = ["LPUSH", "celery", message];
  const command = [`*${parts.length}`, ...parts.flatMap((p) => [`$${Buffer.byteLength(p)}`, p]), ""].join("\r\n");
  return new Promise((resolve, reject) => {
    const socket = net.connect(where.startsWith("/") ? { path: where } : { host, port: Number(port) });
    socket.on("error", reject);
    socket.on("connect", () => socket.write(command));
    socket.on("data", (answer) => {
      socket.end();
      answer[0] === ":".charCodeAt(0) ? resolve() : reject(new Error(answer.toString().trim()));
    });
  });
}

const items = JSON.parse(await text(process.stdin));
await lpush(process.argv[2] ?? "127.0.0.1:6379", messageOf(items, { run: process.env.RUN }));
console.log(`handed in ${items.length}`);
