/* A page that edits pictures as `dida transfer` and `dida remove-attribute` do, all in the browser.

   1 pixels      Pillow's resize, reduce and affine transform, to the bit where its sums are whole
   2 areas       where in a picture a model looks, as images.Box and faces.Laid of dida
   3 faces       MTCNN: three networks, each asked of what the one before left over
   4 model       codes, edits of them, and painting at the picture's own size
   5 the page

   An image is { width, height, bands, data }, interleaved: bytes in a Uint8ClampedArray, which
   rounds and clips as NumPy's rint and clip do, or floats in a Float32Array. A point is [x, y], a
   box [left, top, right, bottom], a map [a, b, c, d, e, f]: x' = a x + b y + c, y' = d x + e y + f. */

/* 1. Pixels */

const sinc = (x) => (x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x));
const BOX = { support: 0.5, at: (x) => (x > -0.5 && x <= 0.5 ? 1 : 0) };
const BICUBIC = { support: 2, at: cubic };
const LANCZOS = { support: 3, at: (x) => (x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0) };
const ONE = 2 ** 22; // of Pillow's whole weights for bytes

function cubic(x) {
  const far = Math.abs(x);
  if (far < 1) return (1.5 * far - 2.5) * far * far + 1;
  return far < 2 ? ((-0.5 * far + 2.5) * far - 4) * far + 2 : 0;
}

const isBytes = (image) => image.data instanceof Uint8ClampedArray;

function blank(width, height, bands, bytes) {
  const data = new (bytes ? Uint8ClampedArray : Float32Array)(width * height * bands);
  return { width, height, bands, data };
}

/* Of which pixels, and how much of each, each of `size` pixels is made that lie from low to high
   among `length`: [{ first, shares }]. */
function weights(length, low, high, size, filter, whole) {
  const scale = (high - low) / size;
  const stretch = Math.max(scale, 1);
  const support = filter.support * stretch;
  return Array.from({ length: size }, (_, place) => {
    const centre = low + (place + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - support + 0.5));
    const last = Math.min(length, Math.trunc(centre + support + 0.5));
    const shares = Array.from({ length: last - first }, (_, i) =>
      filter.at((i + first - centre + 0.5) / stretch));
    const sum = shares.reduce((total, share) => total + share, 0);
    return { first, shares: shares.map((share) => fixed(share / sum, whole)) };
  });
}

function fixed(share, whole) {
  return whole ? Math.trunc(share * ONE + (share < 0 ? -0.5 : 0.5)) : share;
}

/* An image whose "width" or "height" is mixed anew by a table of `weights`. */
function mixed(image, axis, table) {
  const { bands, data } = image;
  const size = { width: image.width, height: image.height, [axis]: table.length };
  const made = blank(size.width, size.height, bands, isBytes(image));
  const lines = axis === "width" ? image.height : 1;
  const step = axis === "width" ? bands : image.width * bands;
  const [start, end] = isBytes(image) ? [ONE / 2, ONE] : [0, 1];
  for (let line = 0; line < lines; line++) {
    for (let place = 0; place < table.length; place++) {
      const { first, shares } = table[place];
      const from = (line * image[axis] + first) * step;
      const to = (line * table.length + place) * step;
      for (let i = 0; i < step; i++) {
        let sum = start;
        for (let k = 0; k < shares.length; k++) sum += data[from + k * step + i] * shares[k];
        made.data[to + i] = end === 1 ? sum : Math.floor(sum / end);
      }
    }
  }
  return made;
}

/* Pillow's resize of a box of an image. */
function resized(image, width, height, filter, box = [0, 0, image.width, image.height]) {
  const whole = isBytes(image);
  const across = weights(image.width, box[0], box[2], width, filter, whole);
  const down = weights(image.height, box[1], box[3], height, filter, whole);
  return mixed(mixed(image, "width", across), "height", down);
}

/* Pillow's reduce: the means of cells of `across` x `down` pixels, those at the edge of fewer. */
function reduced(image, across, down) {
  const { bands } = image;
  const [width, height] = [Math.ceil(image.width / across), Math.ceil(image.height / down)];
  const made = blank(width, height, bands, true);
  for (let y = 0; y < height; y++) {
    const bottom = Math.min(image.height, (y + 1) * down);
    for (let x = 0; x < width; x++) {
      const right = Math.min(image.width, (x + 1) * across);
      const count = (bottom - y * down) * (right - x * across);
      for (let band = 0; band < bands; band++) {
        let sum = count >> 1;
        for (let row = y * down; row < bottom; row++) {
          for (let column = x * across; column < right; column++) {
            sum += image.data[(row * image.width + column) * bands + band];
          }
        }
        made.data[(y * width + x) * bands + band] = (sum * Math.floor(2 ** 24 / count)) / 2 ** 24 | 0;
      }
    }
  }
  return made;
}

/* Pillow's resize by BOX with reducing_gap=2: by whole cells first, where it shrinks a lot. */
function shrunkFast(image, width, height) {
  const across = Math.trunc(image.width / width / 2) || 1;
  const down = Math.trunc(image.height / height / 2) || 1;
  const box = [0, 0, image.width / across, image.height / down];
  const small = across > 1 || down > 1 ? reduced(image, across, down) : image;
  return resized(small, width, height, BOX, box);
}

/* Pillow's affine transform, bicubic: what of the image lies where a map takes each pixel; 0 beyond
   the edge. */
function warped(image, width, height, [a, b, c, d, e, f]) {
  const made = blank(width, height, image.bands, isBytes(image));
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const u = a * (x + 0.5) + b * (y + 0.5) + c;
      const v = d * (x + 0.5) + e * (y + 0.5) + f;
      if (u < 0 || u >= image.width || v < 0 || v >= image.height) continue;
      sample(image, u - 0.5, v - 0.5, made.data, (y * width + x) * image.bands);
    }
  }
  return made;
}

const places = new Int32Array(4); // of the columns that a sample is of; filled anew for each
const lines = new Float64Array(4); // what it has in four rows

function sample({ width, height, bands, data }, u, v, into, to) {
  const [left, top] = [Math.floor(u), Math.floor(v)];
  const whole = into instanceof Uint8ClampedArray;
  for (let i = 0; i < 4; i++) places[i] = Math.min(Math.max(left + i - 1, 0), width - 1) * bands;
  for (let band = 0; band < bands; band++) {
    for (let i = 0; i < 4; i++) {
      const row = Math.min(Math.max(top + i - 1, 0), height - 1) * width * bands + band;
      lines[i] = curve(data[row + places[0]], data[row + places[1]], data[row + places[2]],
        data[row + places[3]], u - left);
    }
    const value = curve(lines[0], lines[1], lines[2], lines[3], v - top);
    into[to + band] = whole ? Math.floor(value) : value;
  }
}

/* The cubic through b (at 0) and c (at 1) by which Pillow transforms; not the one it resizes by. */
function curve(a, b, c, d, t) {
  return b + t * (c - a + t * (2 * (a - b) + c - d + t * (b - a + d - c)));
}

/* A box of an image, whose edge goes on where the box reaches beyond. */
function cropped(image, [left, top, right, bottom]) {
  const { width, height, bands, data } = image;
  const made = blank(right - left, bottom - top, bands, isBytes(image));
  let to = 0;
  for (let y = top; y < bottom; y++) {
    const row = Math.min(Math.max(y, 0), height - 1) * width;
    for (let x = left; x < right; x++) {
      const from = (row + Math.min(Math.max(x, 0), width - 1)) * bands;
      for (let band = 0; band < bands; band++) made.data[to++] = data[from + band];
    }
  }
  return made;
}

/* RGBA, with white where an image is transparent. */
function flat(image) {
  const made = { ...image, data: image.data.slice() };
  for (let i = 0; i < made.data.length; i += 4) {
    const share = made.data[i + 3] / 255;
    for (let band = i; band < i + 3; band++) {
      made.data[band] = made.data[band] * share + 255 * (1 - share);
    }
    made.data[i + 3] = 255;
  }
  return made;
}

/* 2. Areas: { box, cut: image => the square that the model sees, laid: rows of the box as floats of
   the square lie there } */

const moved = ([a, b, c, d, e, f], [x, y]) => [a * x + b * y + c, d * x + e * y + f];

function inverse([a, b, c, d, e, f]) {
  const size = a * e - b * d;
  const [p, q, r, s] = [e / size, -b / size, -d / size, a / size];
  return [p, q, -(p * c + q * f), r, s, -(r * c + s * f)];
}

/* The largest centred square of an image, or all of it. */
function boxArea({ width, height }, { fit, side }) {
  const edge = Math.min(width, height);
  const [left, top] = [Math.floor((width - edge) / 2), Math.floor((height - edge) / 2)];
  const box = fit === "squash" ? [0, 0, width, height] : [left, top, left + edge, top + edge];
  const [across, down] = [box[2] - box[0], box[3] - box[1]];
  return {
    box,
    isOwnSize: across === side && down === side,
    cut: (image) => resized(cropped(image, box), side, side, LANCZOS),
    laid(values, top, rows) {
      const columns = weights(side, 0, side, across, BICUBIC);
      const lines = weights(side, 0, side, down, BICUBIC).slice(top, top + rows);
      return mixed(mixed(values, "width", columns), "height", lines);
    },
  };
}

const TEMPLATE = [[40, 56], [102, 56], [71, 124]].map((point) => point.map((x) => x / 144));
const FADE = 0.03; // of the side of a face's square, at its border

/* The map from the unit square to the picture by which a face's eyes and the middle of its mouth
   come to lie where the template has them. */
function placement([left, right, , one, other]) {
  const mouth = [(one[0] + other[0]) / 2, (one[1] + other[1]) / 2];
  const found = through([left, right, mouth]);
  const [p, q, r, s, t, u] = inverse(through(TEMPLATE));
  const [a, b, c, d, e, f] = found;
  return [a * p + b * s, a * q + b * t, a * r + b * u + c,
    d * p + e * s, d * q + e * t, d * r + e * u + f];
}

/* The map that takes (0, 0), (1, 0), (0, 1) to three points. */
function through([start, one, other]) {
  return [one[0] - start[0], other[0] - start[0], start[0],
    one[1] - start[1], other[1] - start[1], start[1]];
}

const sideOf = ([a, b, , d, e]) => Math.sqrt(Math.max(0, a * e - b * d));

/* The square of a face that lies by a map from the unit square. */
function faceArea({ width, height }, where, { side }) {
  const corners = [[0, 0], [1, 0], [1, 1], [0, 1]].map((corner) => moved(where, corner));
  const bounds = [width, height].flatMap((most, axis) => {
    const along = corners.map((corner) => corner[axis]);
    const low = Math.min(Math.max(Math.floor(Math.min(...along)), 0), most);
    return [[low, Math.min(Math.max(Math.ceil(Math.max(...along)), low), most)]];
  });
  const box = [bounds[0][0], bounds[1][0], bounds[0][1], bounds[1][1]];
  return {
    box,
    isOwnSize: false,
    cut: (image) => faceCut(image, where, side),
    laid(values, top, rows) {
      const count = Math.min(side, Math.max(1, Math.round(sideOf(where))));
      const [a, b, c, d, e, f] = inverse(where).map((number) => number * count);
      const shift = moved([a, b, c, d, e, f], [box[0], box[1] + top]);
      const small = resized(faded(values), count, count, BOX);
      return warped(small, box[2] - box[0], rows, [a, b, shift[0], d, e, shift[1]]);
    },
  };
}

function faceCut(image, where, side) {
  let [a, b, c, d, e, f] = where;
  const scale = Math.min(1, side / sideOf(where)); // first, since going between skips pixels
  if (scale < 1) {
    const width = Math.max(1, Math.round(image.width * scale));
    const height = Math.max(1, Math.round(image.height * scale));
    const [across, down] = [width / image.width, height / image.height];
    image = shrunkFast(image, width, height);
    [a, b, c, d, e, f] = [a * across, b * across, c * across, d * down, e * down, f * down];
  }
  const ends = [[0, 0], [1, 0], [0, 1], [1, 1]].map((end) => moved([a, b, c, d, e, f], end));
  const [low, high] = [Math.min, Math.max].map((most) => [0, 1].map((axis) =>
    most(...ends.map((end) => end[axis]))));
  const [left, top] = low.map((value) => Math.floor(value) - 3);
  const [right, bottom] = high.map((value) => Math.ceil(value) + 3);
  const near = cropped(image, [left, top, right, bottom]);
  return warped(near, side, side, [a / side, b / side, c - left, d / side, e / side, f - top]);
}

/* Floats that fall to 0 at the border of their square. */
function faded(values) {
  const { width, bands } = values;
  const data = values.data.slice();
  const edge = Array.from({ length: width }, (_, i) =>
    Math.min(1, Math.min(i + 0.5, width - i - 0.5) / (FADE * width)));
  for (let i = 0; i < data.length; i++) {
    const place = Math.floor(i / bands);
    data[i] *= Math.fround(Math.min(edge[place % width], edge[Math.floor(place / width)]));
  }
  return { ...values, data };
}

/* 3. Faces: { box, score, points: left eye, right eye, nose, corners of the mouth } */

const LONGEST = 1024; // pixels of a picture's longer side that the detector sees at most
const SMALLEST = 0.05; // of a picture's shorter side, a face at least
const LEAST = 20; // pixels of what the detector sees, a face at least
const SHRUNK = 0.709; // from one size of the pyramid to the next
const STAGES = [
  { name: "second", side: 24, sure: 0.7, overlap: 0.7 },
  { name: "third", side: 48, sure: 0.9, overlap: 0.4 },
];

/* The largest face of an opaque image, or nothing. */
async function largestFace(image) {
  const scale = Math.min(1, LONGEST / Math.max(image.width, image.height));
  const width = Math.max(1, Math.round(image.width * scale));
  const height = Math.max(1, Math.round(image.height * scale));
  const seen = scale < 1 ? resized(image, width, height, BOX) : image;
  let faces = await proposed(seen);
  for (const stage of STAGES) {
    if (faces.length) faces = await judged(seen, faces.map(squared), stage);
  }
  const [across, down] = [image.width / width, image.height / height];
  const found = faces.map(({ box: [left, top, right, bottom], points }) => ({
    area: (right - left) * across * (bottom - top) * down,
    points: points.map(([x, y]) => [x * across, y * down]),
  }));
  return found.filter((face) => sideOf(placement(face.points)) >= 1)
    .sort((one, other) => other.area - one.area)[0];
}

/* What may be faces, of every size. */
async function proposed(image) {
  const edge = Math.min(image.width, image.height);
  let scale = 12 / Math.max(LEAST, SMALLEST * edge);
  const found = [];
  for (; edge * scale >= 12; scale *= SHRUNK) {
    const height = Math.trunc(image.height * scale) + 1;
    const width = Math.trunc(image.width * scale) + 1;
    const pixels = averaged(image, [0, 0, image.width, image.height], width, height);
    const { score, move } = await run("proposals", { image: [pixels, [1, 3, height, width]] });
    const [, rows, columns] = score.dims;
    const faces = [];
    for (let place = 0; place < rows * columns; place++) {
      if (score.data[place] < 0.6) continue;
      const x = single(((place % columns) * 2) / single(scale));
      const y = single((Math.floor(place / columns) * 2) / single(scale));
      const side = single(12 / scale);
      const moves = [0, 1, 2, 3].map((end) => move.data[end * rows * columns + place]);
      const box = [x, y, single(x + side), single(y + side)];
      faces.push({ box, score: score.data[place], moves });
    }
    found.push(...withoutDoubles(faces, 0.5));
  }
  return withoutDoubles(found.map((face) => ({ ...face, box: movedBox(face.box, face.moves) })), 0.7);
}

/* Those of some squares that a network says are faces, where it says they are. */
async function judged(image, faces, { name, side, sure, overlap }) {
  const size = 3 * side * side;
  const pixels = new Float32Array(faces.length * size);
  faces.forEach(({ box }, i) => {
    const [left, top, right, bottom] = box.map(roundEven);
    const inside = [left, top, Math.max(right, left + 1), Math.max(bottom, top + 1)];
    pixels.set(averaged(image, inside, side, side), i * size);
  });
  const made = await run(name, { image: [pixels, [faces.length, 3, side, side]] });
  const found = faces.map(({ box }, i) => ({
    box: movedBox(box, made.move.data.subarray(4 * i, 4 * i + 4)),
    score: made.score.data[i],
    points: [0, 1, 2, 3, 4].map((point) => [0, 1].map((axis) =>
      box[axis] + made.points.data[10 * i + 2 * point + axis] * (box[axis + 2] - box[axis]))),
  }));
  return withoutDoubles(found.filter(({ score }) => score > sure), overlap);
}

const roundEven = (x) => (Math.abs(x % 1) === 0.5 ? 2 * Math.round(x / 2) : Math.round(x));
const single = Math.fround; // boxes on a grid often overlap by just `most`: rounding decides
const sizes = ([left, top, right, bottom]) => [single(right - left), single(bottom - top)];

function movedBox(box, moves) {
  const size = sizes(box);
  return box.map((end, i) => single(end + single(moves[i] * size[i % 2])));
}

function squared(face) {
  const half = Math.max(...sizes(face.box)) / 2;
  const [x, y] = [0, 1].map((axis) => single(face.box[axis] + face.box[axis + 2]) / 2);
  return { ...face, box: [x - half, y - half, x + half, y + half].map(single) };
}

/* The best first, and none that a better one overlaps by more than `most` of both. */
function withoutDoubles(faces, most) {
  const kept = [];
  for (const face of [...faces].sort((one, other) => other.score - one.score)) {
    if (kept.every((better) => apart(better.box, face.box, most))) kept.push(face);
  }
  return kept;
}

function apart(one, other, most) {
  const across = single(Math.min(one[2], other[2]) - Math.max(one[0], other[0]));
  const down = single(Math.min(one[3], other[3]) - Math.max(one[1], other[1]));
  const shared = single(Math.max(0, across) * Math.max(0, down));
  const [a, b] = [one, other].map((box) => single(sizes(box)[0] * sizes(box)[1]));
  return shared <= single(single(most) * single(single(a + b) - shared));
}

/* Means over the cells of a box as the detector reads them, (3, height, width); black beyond the
   edge. */
function averaged(image, [left, top, right, bottom], width, height) {
  const made = new Float32Array(3 * width * height);
  const cells = (from, to, size) => Array.from({ length: size }, (_, i) =>
    [from + Math.floor((i * (to - from)) / size), from + Math.ceil(((i + 1) * (to - from)) / size)]);
  const columns = cells(left, right, width);
  cells(top, bottom, height).forEach(([upper, lower], y) => columns.forEach(([low, high], x) => {
    const sums = [0, 0, 0];
    for (let row = Math.max(0, upper); row < Math.min(lower, image.height); row++) {
      for (let column = Math.max(0, low); column < Math.min(high, image.width); column++) {
        const from = (row * image.width + column) * 4;
        for (let band = 0; band < 3; band++) sums[band] += image.data[from + band];
      }
    }
    const count = (lower - upper) * (high - low);
    sums.forEach((sum, band) => {
      made[(band * height + y) * width + x] = (sum / count - 127.5) / 128;
    });
  }));
  return made;
}

/* 4. The model */

const STRIP = 512; // rows that are painted at a time
const MOST = 40e6; // pixels of a picture
const TINT = [230, 0, 115]; // a mask's colour; how much is painted is its opacity
const model = { config: null, sessions: {} }; // of the page: one

/* What a graph makes of { name: [values, dims] }. */
async function run(name, given) {
  const { ort, sessions } = model;
  const feeds = Object.entries(given).map(([key, [values, dims]]) =>
    [key, new ort.Tensor("float32", values, dims)]);
  return sessions[name].run(Object.fromEntries(feeds));
}

/* A file of the folder, inflated unless the server has done so. */
async function inflated(path) {
  const answer = await fetch(path);
  if (!answer.ok) throw new Error(`${path}: the server answers ${answer.status}`);
  const bytes = new Uint8Array(await answer.arrayBuffer());
  if (bytes[0] !== 0x1f || bytes[1] !== 0x8b) return bytes;
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

async function loadModel() {
  const [config, ort, wasm] = await Promise.all([
    fetch("config.json").then((answer) => answer.json()),
    import("./ort/ort.wasm.min.mjs"),
    inflated("ort/ort-wasm-simd-threaded.wasm.gz"),
  ]);
  ort.env.wasm.wasmBinary = wasm.buffer;
  ort.env.wasm.numThreads = 1; // more need headers that static hosts do not send
  Object.assign(model, { config, ort });
  const names = ["encode", "compose"];
  if (config.fit === "face") names.push("proposals", "second", "third");
  const graphs = await Promise.all(names.map((name) => inflated(`${name}.onnx.gz`)));
  for (const [i, name] of names.entries()) {
    model.sessions[name] = await ort.InferenceSession.create(graphs[i]);
  }
}

const parts = () => ["a", "b"].filter((part) => model.config.domains[part]);
const wordsOf = (names) => names.map((part) => model.config.domains[part]).join(" and ");

/* A file as an image, upright, RGBA. */
async function decoded(blob, name) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob);
  } catch {
    throw new Error(`${name}: not a picture that this browser reads; give a PNG, JPEG or WebP`);
  }
  const { width, height } = bitmap;
  if (width * height > MOST) {
    throw new Error(`${name}: larger than ${MOST / 1e6} megapixels; scale it down first`);
  }
  const pen = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  pen.drawImage(bitmap, 0, 0);
  bitmap.close();
  return { width, height, bands: 4, data: pen.getImageData(0, 0, width, height).data };
}

/* A picture as the model sees it: { image, area, onto, own, warning, name }. */
async function seen(image, name) {
  const { config } = model;
  const opaque = flat(image);
  let area;
  let warning = "";
  if (config.fit === "face") {
    const face = await largestFace(opaque);
    if (!face) throw new Error(`${name}: no face is found in it; give one that looks at you`);
    area = faceArea(image, placement(face.points), config);
    warning = unlike(face.points);
  } else {
    area = boxArea(image, config);
    if (config.fit === "drawing" && !isDrawing(opaque)) {
      warning = "it looks like a photo, and this model knows drawings";
    }
  }
  const onto = planes(area.cut(opaque));
  const own = await run("encode", { image: [onto, [1, 3, config.side, config.side]] });
  return { image, area, onto, own, name, warning: warning && `${name}: ${warning}. ` };
}

/* What makes a face unlike those that models learned from. */
function unlike([left, right, nose]) {
  const [x, y] = [right[0] - left[0], right[1] - left[1]];
  const eyes = Math.hypot(x, y);
  if (eyes < 12) return `the face is small, ${Math.round(eyes)} pixels from eye to eye`;
  const [u, v] = [nose[0] - (left[0] + right[0]) / 2, nose[1] - (left[1] + right[1]) / 2];
  return Math.abs((u * x + v * y) / (x * x + y * y)) > 0.3 ? "the head is turned" : "";
}

/* Whether neighbours in the middle of an opaque image are as often equal as in drawings. */
function isDrawing(image) {
  const small = boxArea(image, { fit: "crop", side: 128 }).cut(image).data;
  let equal = 0;
  for (let place = 0; place < 128 * 128; place++) {
    if (place % 128 === 127) continue;
    equal += [0, 1, 2].every((band) => small[4 * place + band] === small[4 * place + 4 + band]);
  }
  return equal / (127 * 128) >= 0.2;
}

/* RGBA bytes as a network reads them: (3, side, side) in [-1, 1]. */
function planes({ width, height, data }) {
  const count = width * height;
  return Float32Array.from({ length: 3 * count }, (_, i) =>
    Math.fround(data[(i % count) * 4 + Math.floor(i / count)] / 127.5) - 1);
}

/* The codes of an edit: { give: parts of the guide, off: parts, keep: whether the others stay }. */
function changed(own, guide, { give, off, keep }) {
  const codes = {};
  for (const [name, code] of Object.entries(own)) {
    const stays = name === "common" || (give.length ? keep : true);
    if (give.includes(name)) codes[name] = guide[name].data;
    else if (off.includes(name) || !stays) codes[name] = new Float32Array(code.data.length);
    else codes[name] = code.data;
  }
  return codes;
}

/* What the model makes of a picture, of so much of an edit: { image, mask }, floats. */
async function composed({ own, onto }, guide, edit, strength) {
  const { side } = model.config;
  const given = { onto: [onto, [1, 3, side, side]] };
  for (const [name, end] of Object.entries(changed(own, guide?.own, edit))) {
    const { data, dims } = own[name];
    const between = (start, i) => start + strength * (end[i] - start);
    given[name] = [strength === 1 ? end : data.map(between), dims];
    given[`own_${name}`] = [data, dims];
  }
  const made = await run("compose", given);
  return { image: made.image.data, mask: made.mask.data };
}

/* A picture of any size with what a model changed, and the mask. */
function painted({ image, area, onto }, made) {
  const after = { ...image, data: image.data.slice() };
  const mask = blank(image.width, image.height, 4, true);
  const [left, top, right, bottom] = area.box;
  const values = paint(onto, made, area.isOwnSize);
  for (let begin = 0; begin < bottom - top; begin += STRIP) {
    const rows = Math.min(STRIP, bottom - top - begin);
    const laid = area.laid(values, begin, rows);
    for (let y = 0; y < rows; y++) {
      const to = ((top + begin + y) * image.width + left) * 4;
      for (let x = 0; x < right - left; x++) {
        paintPixel(laid.data, (y * laid.width + x) * 4, after.data, mask.data, to + 4 * x,
          area.isOwnSize);
      }
    }
  }
  return { after, mask };
}

/* What the mask let through, in [0, 2], and the mask: a square of four bands. */
function paint(onto, { image, mask }, isOwnSize) {
  const { side } = model.config;
  const values = blank(side, side, 4, false);
  for (let place = 0; place < side * side; place++) {
    const left = isOwnSize ? 0 : 1 - mask[place];
    for (let band = 0; band < 3; band++) {
      const at = band * side * side + place;
      values.data[4 * place + band] = image[at] + 1 - left * (onto[at] + 1);
    }
    values.data[4 * place + 3] = mask[place];
  }
  return values;
}

function paintPixel(laid, from, after, mask, to, isOwnSize) {
  const amount = laid[from + 3];
  if (amount <= 0) return;
  const covered = Math.min(amount, 1);
  const [share, whole] = isOwnSize ? [1, 1] : [covered, Math.max(amount, 1e-6)];
  for (let band = 0; band < 3; band++) {
    const colour = Math.min(Math.max((127.5 * laid[from + band]) / whole, 0), 255);
    after[to + band] = share * colour + (1 - share) * after[to + band];
    mask[to + band] = TINT[band];
  }
  mask[to + 3] = 255 * covered;
  after[to + 3] += covered * (255 - after[to + 3]);
}

/* 5. The page */

const $ = (id) => document.getElementById(id);
const page = { picture: null, guide: null, made: new Map(), turn: 0, playing: false };
const FRAME = 60; // milliseconds, at least, that a strength is shown while it plays
let pending = 0;
let queue = Promise.resolve();

function say(words, isError = false) {
  $("status").textContent = words;
  $("status").classList.toggle("error", isError);
}

/* Do a thing after all that is asked for already; what goes wrong is told in one line. */
function later(task) {
  pending += 1;
  $("main").setAttribute("aria-busy", "true");
  queue = queue.then(task).catch((error) => say(error.message, true)).finally(() => {
    pending -= 1;
    if (!pending) $("main").setAttribute("aria-busy", "false");
  });
  return queue;
}

const nextFrame = () => new Promise((done) => { setTimeout(done, 20); }); // for words to be seen

function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

function draw(canvas, { width, height, data }) {
  Object.assign(canvas, { width, height });
  canvas.getContext("2d").putImageData(new ImageData(data, width, height), 0, 0);
}

/* Take a file, or an example, as the picture or as the guide. */
function pick(role, blob, name) {
  return later(async () => {
    say(`Reading ${name} …`);
    await nextFrame();
    const found = await seen(await decoded(await blob, name), name);
    page[role] = found;
    page.made.clear();
    draw($(`${role}-thumb`), found.image);
    $(`${role}-thumb`).setAttribute("aria-label", `The ${role}: ${name}`);
    $(`${role}-name`).textContent = name;
    for (const button of document.querySelectorAll(`#${role}-examples button`)) {
      button.setAttribute("aria-pressed", button.dataset.file === name);
    }
    if (role === "picture") showPicture(found);
    refresh();
  });
}

function showPicture({ image }) {
  $("stack").style.setProperty("--ratio", image.width / image.height);
  for (const name of ["before", "after"]) draw($(name), image);
  draw($("mask"), blank(image.width, image.height, 4, true));
}

/* The edit that is chosen, as `changed` takes it. */
function chosen() {
  const [kind, ...names] = document.querySelector("[name=edit]:checked").value.split(" ");
  return { give: [], off: [], [kind]: names, keep: $("keep").checked };
}

function refresh() {
  const turn = ++page.turn;
  return later(() => turn === page.turn && edit());
}

async function edit() {
  const { picture, guide, made } = page;
  const wanted = chosen();
  if (!picture) return say("Choose a picture to edit.");
  if (wanted.give.length && !guide) return say("Choose a guide, or take something off.");
  if (!page.playing) {
    say("Editing …");
    await nextFrame();
  }
  const began = performance.now();
  const strength = Number($("strength").value);
  if (!made.has(strength)) made.set(strength, await composed(picture, guide, wanted, strength));
  const { after, mask } = painted(picture, made.get(strength));
  draw($("after"), after);
  draw($("mask"), mask);
  const did = told(wanted);
  $("after").setAttribute("aria-label", `${picture.name}, ${did}`);
  if (!page.playing) say(`${warnings(wanted)}${sentence(did)} in ${seconds(began)}.`);
  $("download").disabled = false;
}

const sentence = (words) => words[0].toUpperCase() + words.slice(1);
const seconds = (began) => `${((performance.now() - began) / 1000).toFixed(2)} s`;

function told({ give, off }) {
  return off.length ? `${wordsOf(off)} taken off` : `${wordsOf(give)} of the guide put on`;
}

function warnings({ give }) {
  const { picture, guide } = page;
  const missing = give.filter((part) => !guide.own[part].data.some((value) => value !== 0));
  const none = missing.length ? `The model sees no ${wordsOf(missing)} in the guide. ` : "";
  return picture.warning + (give.length && guide !== picture ? guide.warning : "") + none;
}

/* Move strength from 0 to 1 and back, until it is stopped. */
async function play() {
  page.playing = !page.playing;
  $("play").textContent = page.playing ? "Stop" : "Play";
  const way = Array.from({ length: 21 }, (_, step) => 1 - Math.abs(step - 10) / 10);
  for (const strength of way) {
    if (!page.playing) return;
    setStrength(strength);
    await refresh();
    await new Promise((done) => { setTimeout(done, FRAME); });
  }
  if (page.playing) play();
}

function setStrength(value) {
  $("strength").value = value;
  $("strength-told").textContent = Number(value).toFixed(2);
}

function download() {
  $("after").toBlob((blob) => {
    const url = URL.createObjectURL(blob);
    const name = `${page.picture.name.replace(/\.[^.]*$/, "")}-edited.png`;
    make("a", { href: url, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(url), 60000);
  }, "image/png");
}

/* The choices of edits: of each part and of all, to put on and to take off. */
function addEdits() {
  const all = parts().length > 1 ? [parts()] : [];
  const choices = [...parts().map((part) => [part]), ...all];
  for (const kind of ["give", "off"]) {
    $(kind).append(...choices.map((names) => {
      const radio = make("input", { type: "radio", name: "edit", value: [kind, ...names].join(" ") });
      const words = names.length > 1 ? "both" : wordsOf(names);
      return make("label", { class: "choice" }, radio, make("span", {}, words));
    }));
  }
  $("give").querySelectorAll("input")[parts().length - 1].checked = true;
  $("keep-line").hidden = parts().length < 2;
}

function addExamples(role, examples) {
  $(`${role}-examples`).append(...Object.entries(examples).map(([file, words]) => {
    const image = make("img", { src: `examples/${file}`, alt: words, width: 56, height: 56 });
    const button = make("button", { type: "button", "data-file": file, title: words }, image);
    button.addEventListener("click", () => pickExample(role, file));
    return button;
  }));
}

function pickExample(role, file) {
  return pick(role, fetch(`examples/${file}`).then((answer) => answer.blob()), file);
}

function takeDrops(element, role) {
  const mark = (isOver) => element.classList.toggle("over", isOver);
  element.addEventListener("dragover", (event) => { event.preventDefault(); mark(true); });
  element.addEventListener("dragleave", () => mark(false));
  element.addEventListener("drop", (event) => {
    event.preventDefault();
    event.stopPropagation();
    mark(false);
    const [file] = event.dataTransfer.files;
    if (file) pick(role, file, file.name);
  });
}

function listen() {
  for (const role of ["picture", "guide"]) {
    takeDrops($(role), role);
    $(`${role}-file`).addEventListener("change", ({ target }) => {
      const [file] = target.files;
      if (file) pick(role, file, file.name);
      target.value = ""; // so that the same file may be chosen again
    });
  }
  takeDrops(document.body, "picture");
  for (const element of [$("keep"), $("give"), $("off")]) {
    element.addEventListener("change", () => { page.made.clear(); refresh(); });
  }
  $("strength").addEventListener("input", ({ target }) => {
    if (page.playing) play();
    setStrength(target.value);
    refresh();
  });
  $("split").addEventListener("input", ({ target }) =>
    $("stack").style.setProperty("--split", `${target.value}%`));
  $("show-mask").addEventListener("change", ({ target }) => { $("mask").hidden = !target.checked; });
  $("play").addEventListener("click", play);
  $("download").addEventListener("click", download);
}

async function start() {
  say("Loading the model …");
  const [examples] = await Promise.all([
    fetch("examples.json").then((answer) => answer.json()),
    loadModel(),
  ]);
  addEdits();
  for (const role of ["picture", "guide"]) addExamples(role, examples);
  listen();
  $("controls").disabled = false;
  const [picture, guide] = Object.keys(examples);
  if (guide) pickExample("guide", guide);
  if (picture) pickExample("picture", picture);
  else say("Choose a picture, and a guide that has what it shall get.");
}

if (globalThis.document) later(start);
