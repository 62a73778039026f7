// Captions with an ONNX bundle: one look at a picture, then a word at a time.
//
// Greedy search, as `blip-edge caption BUNDLE picture.png --beams 1`, token for token. It runs on
// onnxruntime-node and onnxruntime-web alike, and needs nothing else.
//
//     const captioner = new Captioner({ ort, manifest, tokenizer, vision, decoder });
//     const { caption, ids } = await captioner.caption({ width, height, data });
//
// `manifest` and `tokenizer` are the bundle's JSON files, `vision` and `decoder` its open sessions,
// `data` a picture's RGBA bytes.

export class Captioner {
  constructor({ ort, manifest, tokenizer, vision, decoder }) {
    Object.assign(this, { ort, manifest, vision, decoder, words: wordsOf(tokenizer) });
  }

  async caption(picture) {
    const ids = await this.search(await this.look(this.pixels(picture)));
    return { ids, caption: this.text(ids) };
  }

  // (1, 3, S, S) normalised pixels of a picture.
  pixels(picture) {
    const { height, width } = this.manifest.preprocess.size;
    const values = pixelsOf(picture, this.manifest.preprocess);
    return new this.ort.Tensor("float32", values, [1, 3, height, width]);
  }

  // What cross-attention reads of the picture, the same at every step.
  look(pixels) {
    return this.vision.run({ pixel_values: pixels });
  }

  // The likeliest next token, again and again, until [SEP] or max_length. The cache of a step is
  // the past of the next.
  async search(seen) {
    const { prompt_ids, eos_token_id, min_length, max_length, repetition_penalty } =
      this.manifest.decode;
    const ports = Object.keys(this.manifest.graphs.decoder.inputs);
    const cross = Object.fromEntries(ports.filter((p) => p in seen).map((p) => [p, seen[p]]));
    const caches = ports.filter((port) => port.startsWith("past_"));
    let past = Object.fromEntries(caches.map((port) => [port, this.#emptyCache(port)]));
    const ids = [...prompt_ids];
    for (let next = prompt_ids; ids.length < max_length; next = ids.slice(-1)) {
      const feeds = {
        input_ids: this.#int32(next, [1, next.length]),
        beam_idx: this.#int32([0], [1]),
      };
      const made = await this.decoder.run({ ...feeds, ...past, ...cross });
      const logits = made.logits.data;
      for (const id of new Set(ids)) {
        logits[id] =
          logits[id] < 0 ? logits[id] * repetition_penalty : logits[id] / repetition_penalty;
      }
      if (ids.length < min_length) logits[eos_token_id] = -Infinity;
      ids.push(logits.reduce((best, value, id) => (value > logits[best] ? id : best), 0));
      if (ids.at(-1) === eos_token_id) break;
      past = Object.fromEntries(
        caches.map((port) => [port, made[port.replace("past", "present")]]),
      );
    }
    return ids;
  }

  // The words of a search, without the prompt's.
  text(ids) {
    return textOf(ids.slice(this.manifest.decode.prompt_ids.length), this.words);
  }

  #int32(values, shape) {
    return new this.ort.Tensor("int32", Int32Array.from(values), shape);
  }

  // past_key_i and past_value_i (1, H, 0, K): pruned layers differ in their heads.
  #emptyCache(port) {
    const layer = this.manifest.cache.layers[Number(port.split("_").at(-1))];
    const shape = [1, layer.self_heads, 0, layer.head_dim];
    return new this.ort.Tensor("float32", new Float32Array(0), shape);
  }
}

// RGBA bytes squashed to S x S by Pillow's bicubic filter (a = -0.5, widened when it shrinks), then
// normalised: 3 x S x S. Transparency is dropped, as everywhere in blip-edge.
function pixelsOf({ width, height, data }, { size, image_mean: mean, image_std: std }) {
  const rows = resized(data, width, height, size.width, 1, width);
  const square = resized(rows, height, size.width, size.height, size.width, 1);
  const plane = size.width * size.height;
  const pixels = new Float32Array(3 * plane);
  for (let at = 0; at < plane; at++) {
    for (let c = 0; c < 3; c++) {
      pixels[c * plane + at] = (square[4 * at + c] / 255 - mean[c]) / std[c];
    }
  }
  return pixels;
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

// As `tokenizers`' WordPiece decoder: each piece loses its own space before punctuation, and what only
// two pieces together would spell stays as it is.
function textOf(ids, words) {
  const pieces = ids.map((id) => words.get(id)).filter((piece) => piece != null);
  const spaced = pieces.map((p, n) => (p.startsWith("##") && n ? p.slice(2) : n ? ` ${p}` : p));
  return spaced.map((piece) => piece.replace(/^ (?=[.?!,]|n't|'m|'s|'ve|'re)/, "")).join("").trim();
}
