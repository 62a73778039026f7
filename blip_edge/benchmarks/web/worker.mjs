// One bundle, open in a thread of its own: it answers with times, one picture after the other.
//
//     {open: {bundle, backend, threads}} -> {load_ms, runtime}
//     {images: ["pictures/0.png", …]}                       -> {samples, captions}

import { Captioner } from "./captioner.mjs";
import { decodePng } from "./png.mjs";

const RUNTIMES = { wasm: "ort.wasm.min.mjs", webgpu: "ort.webgpu.min.mjs" };
const here = (path) => new URL(path, self.location.href).href;
const bytesOf = async (path) => {
  const answer = await fetch(here(path));
  if (!answer.ok) throw new Error(`${path}: ${answer.status} ${answer.statusText}`);
  return new Uint8Array(await answer.arrayBuffer());
};

const ms = (value) => Number(value.toFixed(4));

let captioner;
const watch = { steps: 0, step_ms: 0 };

async function open({ bundle, backend, threads }) {
  const text = async (name) => new TextDecoder().decode(await bytesOf(`${bundle}/${name}`));
  const read = async (name) => JSON.parse(await text(name));
  const manifest = await read("manifest.json");
  const [tokenizer, ...graphs] = await Promise.all([
    read(manifest.tokenizer),
    ...["vision", "decoder"].map((name) => bytesOf(`${bundle}/${manifest.graphs[name].file}`)),
  ]);
  // The files are here; what is timed is what the device does with them.
  const started = performance.now();
  const ort = await import(here(`runtime/${RUNTIMES[backend]}`));
  ort.env.logLevel = "error";
  ort.env.wasm.wasmPaths = here("runtime/");
  ort.env.wasm.numThreads = threads;
  const options = { executionProviders: [backend], graphOptimizationLevel: "all" };
  const sessions = [];
  for (const graph of graphs) sessions.push(await ort.InferenceSession.create(graph, options));
  const [vision, decoder] = sessions;
  captioner = new Captioner({ ort, manifest, tokenizer, vision, decoder: timed(decoder) });
  return { load_ms: ms(performance.now() - started), runtime: ort.env.versions.web };
}

// A session that notes how long its runs take.
function timed(session) {
  return {
    async run(feeds) {
      const started = performance.now();
      const made = await session.run(feeds);
      watch.step_ms += performance.now() - started;
      watch.steps += 1;
      return made;
    },
  };
}

async function captionOf(image) {
  const file = await bytesOf(image); // a phone's picture is on the phone: fetching is not timed
  Object.assign(watch, { steps: 0, step_ms: 0 });
  const started = performance.now();
  const pixels = captioner.pixels(await decodePng(file));
  const seeing = performance.now();
  const seen = await captioner.look(pixels);
  const deciding = performance.now();
  const ids = await captioner.search(seen);
  const caption = captioner.text(ids);
  const ended = performance.now();
  const sample = {
    total_ms: ms(ended - started),
    preprocess_ms: ms(seeing - started),
    vision_ms: ms(deciding - seeing),
    decode_ms: ms(ended - deciding),
    step_ms: ms(watch.step_ms),
    steps: watch.steps,
    tokens: ids.length - captioner.manifest.decode.prompt_ids.length,
  };
  return { sample, caption };
}

self.onmessage = async ({ data }) => {
  try {
    if (data.open) return self.postMessage(await open(data.open));
    const found = [];
    for (const image of data.images) found.push(await captionOf(image));
    self.postMessage({
      samples: found.map(({ sample }) => sample),
      captions: found.map(({ caption }) => caption),
    });
  } catch (error) {
    self.postMessage({ error: String(error?.message ?? error) });
  }
};
