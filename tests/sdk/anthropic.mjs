// One use of Anthropic's official SDK for JavaScript: `node anthropic.mjs NAME`, with BASE_URL and KEY in the
// environment. Prints as JSON what its user would see; `test_npm_sdks.py` scripts the vendor and judges.
import Anthropic from "@anthropic-ai/sdk";

const client = (options = {}) =>
  new Anthropic({ baseURL: process.env.BASE_URL, apiKey: process.env.KEY, maxRetries: 0, timeout: 20_000, ...options });
const messages = [{ role: "user", content: "ping" }];
const asked = { model: "chat", max_tokens: 100, messages };
const tools = [
  {
    name: "weather",
    description: "The weather of a town.",
    input_schema: { type: "object", properties: { town: { type: "string" } }, required: ["town"] },
  },
];

const told = (error) => ({
  error: error.constructor.name,
  status: error.status ?? null,
  type: error.error?.error?.type ?? null,
  hasRequestId: Boolean(error.requestID),
});

const uses = {
  async create() {
    const made = await client().messages.create({ ...asked, system: "Be brief." });
    const { content, role, model, stop_reason, usage } = made;
    return { content, role, model, stop_reason, input: usage.input_tokens, output: usage.output_tokens };
  },

  async stream() {
    const stream = await client().messages.create({ ...asked, stream: true });
    const kinds = [];
    let text = "";
    for await (const event of stream) {
      kinds.push(event.type);
      if (event.type === "content_block_delta") text += event.delta.text ?? "";
    }
    return { kinds: [...new Set(kinds)], text };
  },

  async helper() {
    const stream = client().messages.stream(asked);
    const texts = [];
    stream.on("text", (text) => texts.push(text));
    const final = await stream.finalMessage();
    return {
      text: texts.join(""), final: final.content, stop_reason: final.stop_reason,
      input: final.usage.input_tokens, output: final.usage.output_tokens,
    };
  },

  async tools() {
    const made = await client().messages.create({ ...asked, tools });
    return { content: made.content, stop_reason: made.stop_reason };
  },

  async streamedTools() {
    const made = await client().messages.stream({ ...asked, tools }).finalMessage();
    return { content: made.content, stop_reason: made.stop_reason };
  },

  async count() {
    return client().messages.countTokens({ model: "chat", messages });
  },

  async error() {
    return client().messages.create(asked).then(() => null, told);
  },

  async wrongKey() {
    return client({ apiKey: "sk-wattos-nobody" }).messages.create(asked).then(() => null, told);
  },

  async broken() {
    let text = "";
    try {
      for await (const event of await client().messages.create({ ...asked, stream: true }))
        if (event.type === "content_block_delta") text += event.delta.text ?? "";
    } catch (error) {
      return { text, ...told(error) };
    }
    return { text };
  },

  async retried() {
    const began = Date.now();
    const made = await client({ maxRetries: 2 }).messages.create(asked);
    return { content: made.content[0].text, ms: Date.now() - began };
  },
};

console.log(JSON.stringify(await uses[process.argv[2]]()));
