// Caption PNG pictures with an ONNX bundle in Node: one look at a picture, then a word at a time.
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
const words = wordsOf(readJson("tokenizer.json"));

const results = [];
for (const image of pictures) {
  const ids = await search(await vision.run({ pixel_values: pixelsOf(image) }));
  const caption = textOf(ids.slice(manifest.decode.prompt_ids.length));
  results.push({ image, caption, token_ids: ids });
  if (!flags.json) console.log(`${image}\t${caption}`);
}
if (flags.json) console.log(JSON.stringify(results));

// The likeliest next token, again and again, until [SEP] or max_length. What cross-attention reads
// of the picture is the same at every step; the cache of a step is the past of the next.
async function search(seen) {
  const { prompt_ids, eos_token_id, min_length, max_length, repetition_penalty } = manifest.decode;
  const ports = Object.keys(manifest.graphs.decoder.inputs);
  const cross = Object.fromEntries(ports.filter((p) => p in seen).map((p) => [p, seen[p]]));
  let past = Object.fromEntries(ports.filter((p) => p.startsWith("past_")).map(emptyCache));
  const ids = [...prompt_ids];
  for (let next = prompt_ids; ids.length < max_length; next = ids.slice(-1)) {
    const feeds = { input_ids: int32(next, [1, next.length]), beam_idx: int32([0], [1]) };
    const made = await decoder.run({ ...feeds, ...past, ...cross });
    const logits = made.logits.data;
    for (const id of new Set(ids)) {
      logits[id] = logits[id] < 0 ? logits[id] * repetition_penalty : logits[id] / repetition_penalty;
    }
    if (ids.length < min_length) logits[eos_token_id] = -Infinity;
    ids.push(logits.reduce((best, value, id) => (value > logits[best] ? id : best), 0));
    if (ids.at(-1) === eos_token_id) break;
    past = Object.fromEntries(
      Object.keys(past).map((port) => [port, made[port.replace("past", "present")]]),
    );
  }
  return ids;
}

function int32(values, shape) {
  return new ort.Tensor("int32", Int32Array.from(values), shape);
}

// past_key_i and past_value_i (1, H, 0, K): pruned layers differ in their heads.
function emptyCache(port) {
  const layer = manifest.cache.layers[Number(port.split("_").at(-1))];
  const shape = [1, layer.self_heads, 0, layer.head_dim];
  return [port, new ort.Tensor("float32", new Float32Array(0), shape)];
}

// A PNG squashed to S x S by Pillow's bicubic filter (a = -0.5, widened when it shrinks), then
// normalised: (1, 3, S, S). Transparency is dropped, as everywhere in blip-edge.
function pixelsOf(path) {
  const { width, height, data } = PNG.sync.read(readFileSync(path));
  const { size, image_mean: mean, image_std: std } = manifest.preprocess;
  const rows = resized(data, width, height, size.width, 1, width);
  const square = resized(rows, height, size.width, size.height, size.width, 1);
  const plane = size.width * size.height;
  const pixels = new Float32Array(3 * plane);
  for (let at = 0; at < plane; at++) {
    for (let c = 0; c < 3; c++) {
      pixels[c * plane + at] = (square[4 * at + c] / 255 - mean[c]) / std[c];
    }
  }
  return new ort.Tensor("float32", pixels, [1, 3, size.height, size.width]);
}

// One axis of RGBA bytes, `from` pixels `step` apart, to `to`; `lines` lie across it. Like Pillow,
// which resizes rows first and rounds to bytes in between.
function resized(data, from, lines, to, step, stride) {
  if (from === to) return data;
  const out = new Uint8ClampedArray(4 * to * lines);
  const scale = Math.max(from / to, 1);
  const outStride = step === 1 ? to : 1;
  const outStep = step;
  for (let x = 0; x < to; x++) {
    const centre = (x + 0.5) * (from / to);
    const first = Math.max(0, Math.trunc(centre - 2 * scale + 0.5));
    const last = Math.min(from, Math.trunc(centre + 2 * scale + 0.5));
    const weights = [];
    for (let i = first; i < last; i++) weights.push(bicubic((i - centre + 0.5) / scale));
    const sum = weights.reduce((a, b) => a + b, 0);
    for (let line = 0; line < lines; line++) {
      for (let c = 0; c < 4; c++) {
        let value = 0;
        for (let i = first; i < last; i++) {
          value += weights[i - first] * data[4 * (line * stride + i * step) + c];
        }
        out[4 * (line * outStride + x * outStep) + c] = Math.round(value / sum);
      }
    }
  }
  return out;
}

function bicubic(x) {
  const d = Math.abs(x);
  if (d < 1) return (1.5 * d - 2.5) * d * d + 1;
  return d < 2 ? ((-0.5 * d + 2.5) * d - 4) * d + 2 : 0;
}

// Id to piece, special tokens left out.
function wordsOf({ model, added_tokens: added }) {
  const pieces = new Map(Object.entries(model.vocab).map(([piece, id]) => [id, piece]));
  for (const token of added) pieces.set(token.id, token.special ? null : token.content);
  return pieces;
}

// Pieces joined, then the spaces before punctuation closed, as `tokenizers`' WordPiece decoder does.
function textOf(ids) {
  const pieces = ids.map((id) => words.get(id)).filter((piece) => piece != null);
  const joined = pieces.map((p, n) => (p.startsWith("##") && n ? p.slice(2) : n ? ` ${p}` : p));
  return joined
    .join("")
    .replace(/ ([.?!,])/g, "$1")
    .replaceAll(" ' ", "'")
    .replace(/ (n't|'m|'s|'ve|'re)/g, "$1")
    .replaceAll(" do not", " don't")
    .trim();
}
