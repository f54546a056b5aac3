// The gateway as OpenAI's own client sees it. Usage: node client_test.mjs MODULES_DIR BASE_URL
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import path from "node:path";
import test from "node:test";

const [modules, baseURL] = process.argv.slice(2);
const { default: OpenAI } = createRequire(path.join(modules, "package.json"))("openai");
const client = new OpenAI({ baseURL: `${baseURL}/v1`, apiKey: "none", maxRetries: 0 });

const question = [{ role: "user", content: "What is 47 + 385?" }];
const model = (await client.models.list()).data[0].id;

test("models are listed and found", async () => {
  const one = await client.models.retrieve(model);
  assert.equal(one.id, model);
  assert.equal(one.object, "model");
  await assert.rejects(client.models.retrieve("no-such-model"), OpenAI.NotFoundError);
});

test("a chat is answered", async () => {
  const answer = await client.chat.completions.create({ model, messages: question, temperature: 0 });
  assert.equal(answer.object, "chat.completion");
  assert.equal(answer.choices[0].message.role, "assistant");
  assert.match(answer.choices[0].message.content, /432/);
  assert.equal(answer.choices[0].finish_reason, "stop");
  assert.equal(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens);
  assert.ok(answer.usage.completion_tokens > 0);
});

test("a chat streams, with usage at the end", async () => {
  const stream = await client.chat.completions.create({
    model, messages: question, temperature: 0, stream: true, stream_options: { include_usage: true },
  });
  let text = "";
  let usage = null;
  let finish = null;
  for await (const chunk of stream) {
    assert.equal(chunk.object, "chat.completion.chunk");
    if (chunk.choices.length === 0) usage = chunk.usage;
    else {
      text += chunk.choices[0].delta.content ?? "";
      finish = chunk.choices[0].finish_reason ?? finish;
    }
  }
  assert.match(text, /432/);
  assert.equal(finish, "stop");
  assert.ok(usage.completion_tokens > 0);
});

test("the streamed text is the whole text", async () => {
  const body = { model, messages: question, temperature: 1.3, seed: 5, max_tokens: 20 };
  const whole = await client.chat.completions.create(body);
  let text = "";
  for await (const chunk of await client.chat.completions.create({ ...body, stream: true })) {
    text += chunk.choices[0]?.delta?.content ?? "";
  }
  assert.equal(text, whole.choices[0].message.content);
});

test("completions, with several choices and prompts", async () => {
  const answer = await client.completions.create({
    model, prompt: ["What is 1 + 1?", "What is 2 + 2?"], n: 2, temperature: 1, seed: 7, max_tokens: 5,
  });
  assert.equal(answer.object, "text_completion");
  assert.deepEqual(answer.choices.map((choice) => choice.index), [0, 1, 2, 3]);
});

test("echo gives the prompt back", async () => {
  const answer = await client.completions.create({
    model, prompt: "What is", echo: true, max_tokens: 3, temperature: 0, logprobs: 1,
  });
  assert.ok(answer.choices[0].text.startsWith("What is"));
  assert.equal(answer.choices[0].logprobs.token_logprobs[0], null);
});

test("a stop string ends the text before it", async () => {
  const whole = await client.chat.completions.create({ model, messages: question, temperature: 0 });
  const content = whole.choices[0].message.content;
  const stop = content.slice(1, 3);
  const cut = await client.chat.completions.create({ model, messages: question, temperature: 0, stop });
  assert.equal(cut.choices[0].message.content, content.slice(0, content.indexOf(stop)));
  assert.equal(cut.choices[0].finish_reason, "stop");
});

test("log-probabilities in the shape of chats", async () => {
  const answer = await client.chat.completions.create({
    model, messages: question, temperature: 0, logprobs: true, top_logprobs: 3,
  });
  const entries = answer.choices[0].logprobs.content;
  assert.ok(entries.length > 0);
  for (const entry of entries) {
    assert.ok(entry.logprob <= 0);
    assert.equal(entry.top_logprobs.length, 3);
    assert.equal(entry.top_logprobs[0].logprob, entry.logprob);
    assert.equal(Buffer.from(entry.bytes).toString(), entry.token);
  }
});

test("max_completion_tokens and the same seed", async () => {
  const body = { model, messages: question, temperature: 1.5, seed: 42, max_completion_tokens: 4 };
  const [first, second] = await Promise.all([
    client.chat.completions.create(body), client.chat.completions.create(body)]);
  assert.equal(first.usage.completion_tokens, second.usage.completion_tokens);
  assert.equal(first.choices[0].message.content, second.choices[0].message.content);
});

test("errors have the right class and name the field", async () => {
  await assert.rejects(
    client.chat.completions.create({ model: "no-such-model", messages: question }),
    OpenAI.NotFoundError);
  await assert.rejects(
    client.chat.completions.create({ model, messages: question, temperature: -1 }),
    (error) => error instanceof OpenAI.BadRequestError && error.param === "temperature");
  await assert.rejects(
    client.completions.create({ model, prompt: "a ".repeat(4000), max_tokens: 1 }),
    (error) => error instanceof OpenAI.BadRequestError && error.code === "context_length_exceeded");
});

test("an aborted stream ends, and the server goes on", async () => {
  const stream = await client.completions.create({
    model, prompt: "What", stream: true, max_tokens: 200, ignore_eos: true, temperature: 1, seed: 1,
  });
  for await (const _ of stream) break;  // leaving the loop aborts the request
  const answer = await client.completions.create({ model, prompt: "What", max_tokens: 1 });
  assert.equal(answer.choices.length, 1);
});

test("the request id comes back", async () => {
  const { response } = await client.chat.completions
    .create({ model, messages: question, max_tokens: 1 }, { headers: { "X-Request-Id": "mine-1" } })
    .withResponse();
  assert.equal(response.headers.get("x-request-id"), "mine-1");
});
