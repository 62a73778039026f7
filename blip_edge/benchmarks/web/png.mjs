// A PNG's RGBA bytes, without a canvas: one converts colours, each browser in its own way.
//
// Only what the bench serves: 8 bits, RGB, not interlaced (W3C, "Portable Network Graphics").

export async function decodePng(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let width, height;
  const packed = [];
  for (let at = 8; at < bytes.length; ) {
    const length = view.getUint32(at);
    const type = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    const body = at + 8;
    if (type === "IHDR") {
      [width, height] = [view.getUint32(body), view.getUint32(body + 4)];
      if (String(bytes.subarray(body + 8, body + 13)) !== "8,2,0,0,0") {
        throw new Error("not a PNG of 8 bits, RGB, not interlaced");
      }
    }
    if (type === "IDAT") packed.push(bytes.subarray(body, body + length));
    at = body + length + 4;
  }
  const inflated = new Blob(packed).stream().pipeThrough(new DecompressionStream("deflate"));
  const lines = new Uint8Array(await new Response(inflated).arrayBuffer());
  return { width, height, data: unfiltered(lines, width, height) };
}

// Each line is a byte that names its filter, and bytes that are differences from their neighbours.
function unfiltered(lines, width, height) {
  const stride = 3 * width;
  const out = new Uint8ClampedArray(4 * width * height).fill(255);
  let above = new Uint8Array(stride);
  for (let y = 0; y < height; y++) {
    const filter = lines[y * (stride + 1)];
    const line = lines.subarray(y * (stride + 1) + 1, (y + 1) * (stride + 1));
    for (let x = 0; x < stride; x++) {
      const left = x < 3 ? 0 : line[x - 3];
      const corner = x < 3 ? 0 : above[x - 3];
      line[x] += [0, left, above[x], (left + above[x]) >> 1, paeth(left, above[x], corner)][filter];
      out[4 * (y * width + Math.trunc(x / 3)) + (x % 3)] = line[x];
    }
    above = line;
  }
  return out;
}

function paeth(left, above, corner) {
  const [a, b, c] = [above - corner, left - corner, left + above - 2 * corner].map(Math.abs);
  if (a <= b && a <= c) return left;
  return b <= c ? above : corner;
}
