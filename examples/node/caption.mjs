// Caption PNG pictures with an ONNX bundle in Node. The search is in captioner.mjs, which a browser
// runs too: take both files, they need no other of this repository.
//
//     npm install && node caption.mjs BUNDLE picture.png …
//
// Greedy search, as `blip-edge caption BUNDLE picture.png --beams 1`, and like it a line a picture:
// path, tab, caption; with --json a list of {"image", "caption", "token_ids"}.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import ort from "onnxruntime-node";
import { PNG } from "pngjs";
import { Captioner } from "../../blip_edge/benchmarks/web/captioner.mjs";

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: { json: { type: "boolean", default: false } },
});
const [bundle, ...pictures] = positionals;
if (!pictures.length) {
  console.error("usage: node caption.mjs BUNDLE picture.png …");
  process.exit(2);
}

const readJson = (name) => JSON.parse(readFileSync(join(bundle, name), "utf8"));
const manifest = readJson("manifest.json");
if (manifest.target !== "onnx" || !manifest.tasks.includes("caption")) {
  console.error(`error: ${bundle} is no ONNX bundle that captions; export one with --target onnx`);
  process.exit(3);
}
const open = (graph) => ort.InferenceSession.create(join(bundle, manifest.graphs[graph].file));
const [vision, decoder] = await Promise.all([open("vision"), open("decoder")]);
const tokenizer = readJson(manifest.tokenizer);
const captioner = new Captioner({ ort, manifest, tokenizer, vision, decoder });

const results = [];
for (const image of pictures) {
  const { ids, caption } = await captioner.caption(PNG.sync.read(readFileSync(image)));
  results.push({ image, caption, token_ids: ids });
  if (!flags.json) console.log(`${image}\t${caption}`);
}
if (flags.json) console.log(JSON.stringify(results));
