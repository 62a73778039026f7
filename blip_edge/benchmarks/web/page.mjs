// The bench in a browser: the protocol of `blip_edge/benchmarks/protocol.py`, told to whoever
// serves this page. A worker per bundle; bundles take turns in short bursts, forth and back.

const say = (text) => (document.getElementById("now").textContent = text);
const ALIVE_MS = 2000;
const client = Array.from({ length: 4 }, () => Math.random().toString(36).slice(2)).join("");

async function tell(...events) {
  const answer = await fetch("events", {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-Client": client },
    body: JSON.stringify(events),
  });
  if (answer.status === 409) throw new Error("another browser measures already");
  if (!answer.ok) throw new Error("the bench has ended");
}

class Bundle {
  constructor(job, number) {
    Object.assign(this, { job, number, count: 0, seconds: 0 });
  }

  async open() {
    this.worker?.terminate();
    this.worker = new Worker("worker.mjs", { type: "module" });
    const { backend } = this.job;
    return this.#ask({
      open: { bundle: `bundles/${this.number}`, backend, threads: threadsOf(this.job) },
    });
  }

  run(images) {
    return this.#ask({ images });
  }

  #ask(question) {
    return new Promise((resolve, reject) => {
      this.worker.onerror = (event) => reject(new Error(event.message || "the worker failed"));
      this.worker.onmessage = ({ data }) =>
        data.error ? reject(new Error(data.error)) : resolve(data);
      this.worker.postMessage(question);
    });
  }
}

// Threads need shared memory, which a page has only where it is isolated and comes by localhost or
// https.
function threadsOf({ threads, backend }) {
  if (!self.crossOriginIsolated || backend !== "wasm") return 1;
  return threads ?? Math.max(1, Math.min(4, Math.ceil((navigator.hardwareConcurrency || 1) / 2)));
}

async function factsOf({ backend }) {
  const adapter = backend === "webgpu" ? await navigator.gpu?.requestAdapter() : null;
  if (backend === "webgpu" && !adapter) throw new Error("this browser has no WebGPU adapter");
  const { vendor, architecture, description } = adapter?.info ?? {};
  const memory = navigator.deviceMemory; // rounded, and at most 8, so that nobody is recognised
  return {
    cpu: navigator.userAgentData?.platform || navigator.platform || "unknown",
    arch: "",
    isa: [],
    cores: navigator.hardwareConcurrency || null,
    memory_bytes: memory ? memory * 2 ** 30 : null,
    os: navigator.userAgentData?.platform || navigator.platform || "unknown",
    browser: navigator.userAgent,
    backend,
    gpu: [vendor, architecture, description].filter(Boolean).join(" ") || null,
    isolated: self.crossOriginIsolated,
    packages: {},
    peaks: null,
  };
}

async function measure(job) {
  const { recipe, pictures } = job;
  const device = await factsOf(job);
  await tell({ device, threads: threadsOf(job) });
  const bundles = job.bundles.map((_, number) => new Bundle(job, number));
  for (const bundle of bundles) {
    for (let turn = 0; turn < recipe.loads; turn++) {
      say(`opening ${job.bundles[bundle.number]}`);
      const { load_ms, runtime } = await bundle.open();
      device.packages["onnxruntime-web"] = runtime;
      const { samples } = await bundle.run(pictures.slice(0, 1));
      await tell({ bundle: bundle.number, load_ms, first_ms: samples[0].total_ms });
    }
    const { captions } = await bundle.run(pictures);
    await tell({ bundle: bundle.number, captions });
  }
  await tell({ device, threads: threadsOf(job) }); // by now it is known what runs
  if (recipe.cooldown) say("resting");
  await new Promise((resolve) => setTimeout(resolve, 1000 * recipe.cooldown));
  const pick = (start, count) =>
    Array.from({ length: count }, (_, i) => (start + i) % pictures.length);
  const burst = async (bundle, indices) =>
    (await bundle.run(indices.map((i) => pictures[i]))).samples;
  for (let start = 0; start < recipe.warmup; start += recipe.burst) {
    const indices = pick(start, Math.min(recipe.burst, recipe.warmup - start));
    for (const bundle of bundles) await burst(bundle, indices);
  }
  const began = performance.now();
  for (let round = 0; !bundles.every((bundle) => done(bundle, recipe)); round++) {
    const indices = pick(round * recipe.burst, recipe.burst);
    for (const bundle of round % 2 ? bundles.toReversed() : bundles) {
      const started = performance.now();
      const samples = await burst(bundle, indices);
      bundle.seconds += (performance.now() - started) / 1000;
      bundle.count += samples.length;
      const at_s = Math.round(performance.now() - began) / 1000;
      const told = samples.map((sample, i) => ({ ...sample, image: indices[i], at_s }));
      await tell({ bundle: bundle.number, samples: told });
      show(job, bundle, samples, recipe);
    }
  }
  await tell({ done: true });
}

function done({ count, seconds }, { runs, seconds: least, max_seconds }) {
  return count > 0 && ((count >= runs && seconds >= least) || seconds >= max_seconds);
}

function show(job, bundle, samples, { runs, seconds }) {
  const share = Math.min(bundle.count / runs, seconds ? bundle.seconds / seconds : 1, 1);
  const row = document.getElementById("bundles").children[bundle.number];
  row.querySelector("progress").value = share;
  row.querySelector("output").textContent = `${samples.at(-1).total_ms.toFixed(1)} ms`;
  say(`timing: ${bundle.count} captions`);
}

function list(job) {
  document.getElementById("bundles").replaceChildren(
    ...job.bundles.map((name) => {
      const row = document.createElement("li");
      const label = document.createElement("span");
      label.textContent = name;
      row.append(label, document.createElement("progress"), document.createElement("output"));
      return row;
    }),
  );
}

async function main() {
  const job = await (await fetch("job.json")).json();
  list(job);
  const alive = setInterval(() => tell().catch(() => clearInterval(alive)), ALIVE_MS);
  addEventListener("pagehide", () => navigator.sendBeacon("left", client));
  await navigator.wakeLock?.request("screen").catch(() => {}); // a dark screen stops the page
  try {
    await measure(job);
    document.body.dataset.state = "done";
    say("Done. You can close this page.");
  } catch (error) {
    document.body.dataset.state = "failed";
    say(`It failed: ${error.message}`);
    await tell({ error: { exit_code: 3, message: error.message } }).catch(() => {});
  } finally {
    clearInterval(alive);
  }
}

main();
