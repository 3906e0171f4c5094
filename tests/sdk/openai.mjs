// One use of OpenAI's official SDK for JavaScript: `node openai.mjs NAME`, with BASE_URL and KEY in the environment.
// Prints as JSON what its user would see; `test_npm_sdks.py` scripts the vendor and judges.
import OpenAI from "openai";

const client = (options = {}) =>
  new OpenAI({ baseURL: `${process.env.BASE_URL}/v1`, apiKey: process.env.KEY, maxRetries: 0, timeout: 20_000, ...options });
const messages = [{ role: "user", content: "ping" }];
const weather = {
  name: "weather",
  description: "The weather of a town.",
  parameters: { type: "object", properties: { town: { type: "string" } }, required: ["town"] },
};

const told = (error) => ({
  error: error.constructor.name,
  status: error.status ?? null,
  code: error.code ?? null,
  param: error.param ?? null,
  hasRequestId: Boolean(error.requestID),
});

const uses = {
  async chat() {
    const done = await client().chat.completions.create({ model: "chat", messages, seed: 7 });
    const { content } = done.choices[0].message;
    return { content, model: done.model, total: done.usage.total_tokens, hasRequestId: Boolean(done._request_id) };
  },

  async stream() {
    const stream = await client().chat.completions.create({
      model: "chat", messages, stream: true, stream_options: { include_usage: true },
    });
    let text = "", total = null, finish = null;
    for await (const chunk of stream) {
      text += chunk.choices[0]?.delta?.content ?? "";
      finish = chunk.choices[0]?.finish_reason ?? finish;
      total = chunk.usage?.total_tokens ?? total;
    }
    return { text, total, finish };
  },

  async helper() {
    const stream = client().chat.completions.stream({ model: "chat", messages });
    let nDeltas = 0;
    stream.on("content.delta", () => (nDeltas += 1));
    const final = await stream.finalChatCompletion();
    return { text: final.choices[0].message.content, finish: final.choices[0].finish_reason, nDeltas };
  },

  async tools() {
    const towns = [];
    const look = ({ town }) => (towns.push(town), "sunny");
    const tools = [{ type: "function", function: { ...weather, function: look, parse: JSON.parse } }];
    const text = await client().chat.completions.runTools({ model: "chat", messages, tools }).finalContent();
    return { text, towns };
  },

  async streamedTools() {
    const towns = [];
    const look = ({ town }) => (towns.push(town), "sunny");
    const tools = [{ type: "function", function: { ...weather, function: look, parse: JSON.parse } }];
    const text = await client().chat.completions.runTools({ model: "chat", messages, tools, stream: true }).finalContent();
    return { text, towns };
  },

  async structured() {
    const schema = { type: "object", properties: { n: { type: "integer" } }, required: ["n"], additionalProperties: false };
    const response_format = { type: "json_schema", json_schema: { name: "n", schema, strict: true } };
    const done = await client().chat.completions.parse({ model: "chat", messages, response_format });
    return JSON.parse(done.choices[0].message.content);
  },

  async embeddings() {
    const made = await client().embeddings.create({ model: "vectors", input: ["a", "bbb"] });
    return made.data.map((row) => Array.from(row.embedding));
  },

  async models() {
    const names = [];
    for await (const model of client().models.list()) names.push(model.id);
    return { names, one: (await client().models.retrieve("chat")).id };
  },

  async error() {
    return client().chat.completions.create({ model: "chat", messages }).then(() => null, told);
  },

  async wrongKey() {
    return client({ apiKey: "sk-wattos-nobody" }).models.list().then(() => null, told);
  },

  async unknownModel() {
    return client().chat.completions.create({ model: "nobody", messages }).then(() => null, told);
  },

  async broken() {
    let text = "";
    try {
      const stream = await client().chat.completions.create({ model: "chat", messages, stream: true });
      for await (const chunk of stream) text += chunk.choices[0].delta.content ?? "";
    } catch (error) {
      return { text, ...told(error) };
    }
    return { text };
  },

  async retried() {
    const began = Date.now();
    const done = await client({ maxRetries: 2 }).chat.completions.create({ model: "chat", messages });
    return { content: done.choices[0].message.content, ms: Date.now() - began };
  },

  async useless() {
    return client({ maxRetries: 2 }).chat.completions.create({ model: "chat", messages }).then(() => null, told);
  },

  async abort() {
    const stream = await client().chat.completions.create({ model: "chat", messages, stream: true });
    for await (const chunk of stream) if (chunk.choices[0].delta.content) break;
    return { aborted: stream.controller.signal.aborted };
  },
};

console.log(JSON.stringify(await uses[process.argv[2]]()));
