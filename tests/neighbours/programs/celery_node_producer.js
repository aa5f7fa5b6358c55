// node celery_node_producer.js BROKER MODULES RUN: sends one message by celery-node, as its own page shows it.
const [broker, modules, run] = process.argv.slice(2);
const celery = require(`${modules}/celery-node`);

const client = celery.createClient(broker, broker);
const items = [{ badgeMetaId: "696f0fd40772ad476ecf74ac", customerId: 930000001 }];
client.createTask("badges.enqueue").applyAsync([], { items, run });
client.isReady().then(() => setTimeout(() => client.disconnect(), 500));
