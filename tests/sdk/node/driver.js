// Makes calls with @volcengine/openapi, the client of MaaS v1 and v2, as its users do.
//
// Reads one JSON object per line, {operation, scheme, host, access_key_id, secret_access_key, session_token,
// endpoint_id, arguments}, and writes what the SDK surfaced as one JSON line: {result}, or {error: {class, code,
// code_n, message}, chunks: [those that came before it]}. What the SDK prints goes to standard error.
"use strict";

const { createInterface } = require("node:readline");
const { MaasService, MaasServiceV2 } = require("@volcengine/openapi").maas;

const METHODS = {
  chat: "Chat",
  tokenization: "Tokenization",
  classification: "Classification",
  embeddings: "Embeddings",
};

console.log = console.error;

async function read(stream) {
  const chunks = [];
  try {
    for await (const chunk of stream) {
      chunks.push(chunk);
    }
  } catch (error) {
    return { error: surfaced(error), chunks };
  }
  return { result: chunks };
}

function surfaced(error) {
  return {
    class: error.name,
    code: error.code ?? "",
    code_n: error.code_n ?? 0,
    message: error.message,
  };
}

async function answer(ask) {
  const [generation, operation] = ask.operation.split(" ");
  const made = new (generation === "v1" ? MaasService : MaasServiceV2)({
    protocol: `${ask.scheme}:`,
    host: ask.host,
    region: "cn-beijing",
    accessKeyId: ask.access_key_id,
    secretKey: ask.secret_access_key,
    sessionToken: ask.session_token || undefined,
  });
  const call = generation === "v1" ? [ask.arguments] : [ask.endpoint_id, ask.arguments];
  if (operation === "stream") return read(made.StreamChat(...call));
  try {
    return { result: await made[METHODS[operation]](...call) };
  } catch (error) {
    return { error: surfaced(error), chunks: [] };
  }
}

async function main() {
  for await (const line of createInterface({ input: process.stdin })) {
    process.stdout.write(`${JSON.stringify(await answer(JSON.parse(line)))}\n`);
  }
}

// The SDK keeps the connection of a stream that broke, which would keep the process.
main().then(() => process.exit(0));
