// Uploads by Node's own fetch: a line of JSON on stdin says what to send, a line on stdout what has come of it.

import { setDefaultResultOrder } from 'node:dns';
import { createInterface } from 'node:readline';

// Node 18 tries only the first address of a name, which for localhost is ::1 where /etc/hosts has it.
setDefaultResultOrder('ipv4first');

const piece = new Uint8Array(1_000_000);

function* fillerOf(size) {
  for (let left = size; left > 0; left -= piece.length) {
    yield left < piece.length ? piece.subarray(0, left) : piece;
  }
}

// By size; making one takes longer than having it refused.
const models = new Map();

function modelOf(size) {
  if (!models.has(size)) models.set(size, new Blob([...fillerOf(size)], { type: 'application/octet-stream' }));
  return models.get(size);
}

function streamOf(prefix, size) {
  const pieces = (function* () {
    yield new TextEncoder().encode(prefix);
    yield* fillerOf(size);
  })();
  return new ReadableStream({
    pull(controller) {
      const { value, done } = pieces.next();
      if (done) controller.close();
      else controller.enqueue(value);
    },
  });
}

function bodyOf(wish) {
  const headers = { ...wish.headers };
  if (wish.content_type) headers['content-type'] = wish.content_type;
  if (wish.is_chunked) return { headers, body: streamOf(wish.prefix, wish.model_bytes), duplex: 'half' };
  if (wish.prefix !== null) return { headers, body: new Blob([wish.prefix, modelOf(wish.model_bytes)]) };
  const form = new FormData();
  form.append('model_id', '32769');
  form.append('version', '0001');
  form.append('platform', '720');
  form.append('model', modelOf(wish.model_bytes), 'model.onnx');
  return { headers, body: form };
}

const told = (error) => `${error} ${error.cause ?? ''}`;

async function sent(wish) {
  const cookies = wish.cookie ? { cookie: wish.cookie } : {};
  const outcome = { status: 0, body: '', error: '', next_status: 0 };
  const { headers, ...rest } = bodyOf(wish);
  try {
    const response = await fetch(wish.base + wish.init, { method: 'POST', headers: { ...headers, ...cookies }, ...rest });
    outcome.status = response.status;
    outcome.body = await response.text();
  } catch (error) {
    outcome.error = told(error);
  }
  try {
    const after = await fetch(wish.base + wish.follow_up, { headers: cookies });
    await after.text();
    outcome.next_status = after.status;
  } catch (error) {
    outcome.error += ` then ${told(error)}`;
  }
  return outcome;
}

for await (const line of createInterface({ input: process.stdin })) {
  const wish = JSON.parse(line);
  const outcomes = [];
  for (let turn = 0; turn < wish.times; turn += 1) outcomes.push(await sent(wish));
  process.stdout.write(`${JSON.stringify(outcomes)}\n`);
}
