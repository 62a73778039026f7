// Caption a picture with an ONNX bundle on Android: one look at it, then a word at a time.
//
// NOT BUILT OR RUN HERE: there is no Android SDK where this was written. Its loop is that of
// ../node/caption.mjs, which is run and compared with Python token for token.
//
//     implementation("com.microsoft.onnxruntime:onnxruntime-android:1.23.2")
//
// Copy the bundle into the app's files, open it once, off the main thread:
//
//     Captioner(File(filesDir, "bundle")).use { println(it.caption(bitmap)) }
//
// Android resizes bilinearly, Python bicubically, so that a near tie may fall the other way; feed
// golden/*.npy to compare a device with Python exactly.

import ai.onnxruntime.OnnxTensor
import ai.onnxruntime.OrtEnvironment
import ai.onnxruntime.OrtSession
import android.graphics.Bitmap
import java.io.File
import java.nio.FloatBuffer
import java.nio.IntBuffer
import org.json.JSONArray
import org.json.JSONObject

class Captioner(private val bundle: File) : AutoCloseable {
    private val environment = OrtEnvironment.getEnvironment()
    private val manifest = readJson("manifest.json")
    private val decode = manifest.getJSONObject("decode")
    private val layers = manifest.getJSONObject("cache").getJSONArray("layers")
    private val vision = open("vision")
    private val decoder = open("decoder")
    private val pieces = pieces(readJson("tokenizer.json"))

    /** What the picture shows, by greedy search. */
    fun caption(picture: Bitmap): String =
        pixels(picture).use { pixels ->
            vision.run(mapOf("pixel_values" to pixels)).use { seen ->
                val prompt = decode.getJSONArray("prompt_ids").length()
                text(search(seen).drop(prompt))
            }
        }

    override fun close() {
        vision.close()
        decoder.close()
    }

    /** The likeliest next token, again and again, until [SEP] or max_length. */
    private fun search(seen: OrtSession.Result): List<Int> {
        val cross = seen.associate { (name, value) -> name to value as OnnxTensor }
            .filterKeys { it in decoder.inputNames }
        val empty = decoder.inputNames.filter { it.startsWith("past_") }.associateWith(::emptyCache)
        val ids = ints(decode.getJSONArray("prompt_ids")).toMutableList()
        val sep = decode.getInt("eos_token_id")
        val still = int32(intArrayOf(0), 1)
        var past: Map<String, OnnxTensor> = empty
        var before: OrtSession.Result? = null
        var next = ids.toIntArray()
        while (ids.size < decode.getInt("max_length")) {
            val made = int32(next, 1, next.size.toLong()).use { tokens ->
                decoder.run(mapOf("input_ids" to tokens, "beam_idx" to still) + past + cross)
            }
            before?.close() // the past that was read just now
            before = made
            val logits = (made["logits"].get() as OnnxTensor).floatBuffer
            val scores = FloatArray(logits.remaining())
            logits.get(scores)
            penalise(scores, ids)
            if (ids.size < decode.getInt("min_length")) scores[sep] = Float.NEGATIVE_INFINITY
            val best = scores.indices.maxBy { scores[it] }
            ids += best
            if (best == sep) break
            past = past.keys.associateWith { made[it.replace("past", "present")].get() as OnnxTensor }
            next = intArrayOf(best)
        }
        before?.close()
        still.close()
        empty.values.forEach(OnnxTensor::close)
        return ids
    }

    private fun penalise(scores: FloatArray, used: List<Int>) {
        val penalty = decode.getDouble("repetition_penalty").toFloat()
        for (id in used.toSet()) {
            scores[id] = if (scores[id] < 0) scores[id] * penalty else scores[id] / penalty
        }
    }

    /** past_key_i and past_value_i (1, H, 0, K): pruned layers differ in their heads. */
    private fun emptyCache(name: String): OnnxTensor {
        val layer = layers.getJSONObject(name.substringAfterLast('_').toInt())
        val shape = longArrayOf(1, layer.getLong("self_heads"), 0, layer.getLong("head_dim"))
        return OnnxTensor.createTensor(environment, FloatBuffer.allocate(0), shape)
    }

    /** (1, 3, S, S): squashed to S x S and normalised. */
    private fun pixels(picture: Bitmap): OnnxTensor {
        val how = manifest.getJSONObject("preprocess")
        val side = how.getJSONObject("size").getInt("width")
        val (mean, deviation) = listOf("image_mean", "image_std").map { floats(how.getJSONArray(it)) }
        val colours = IntArray(side * side)
        Bitmap.createScaledBitmap(picture, side, side, true)
            .getPixels(colours, 0, side, 0, 0, side, side)
        val values = FloatBuffer.allocate(3 * side * side)
        for (channel in 0..2) {
            for (colour in colours) {
                val byte = colour shr (16 - 8 * channel) and 0xff
                values.put((byte / 255f - mean[channel]) / deviation[channel])
            }
        }
        values.rewind()
        val shape = longArrayOf(1, 3, side.toLong(), side.toLong())
        return OnnxTensor.createTensor(environment, values, shape)
    }

    /** Word pieces joined, special tokens left out. */
    private fun text(ids: List<Int>): String =
        ids.mapNotNull(pieces::get)
            .joinToString(" ")
            .replace(" ##", "")
            .replace(Regex(" ([.?!,])"), "$1")

    private fun pieces(tokenizer: JSONObject): Map<Int, String> {
        val vocabulary = tokenizer.getJSONObject("model").getJSONObject("vocab")
        val added = tokenizer.getJSONArray("added_tokens")
        val special = List(added.length()) { added.getJSONObject(it).getInt("id") }.toSet()
        return vocabulary.keys().asSequence().associateBy(vocabulary::getInt) - special
    }

    private fun open(graph: String): OrtSession {
        val file = manifest.getJSONObject("graphs").getJSONObject(graph).getString("file")
        return environment.createSession(File(bundle, file).path, OrtSession.SessionOptions())
    }

    private fun int32(values: IntArray, vararg shape: Long): OnnxTensor =
        OnnxTensor.createTensor(environment, IntBuffer.wrap(values), shape)

    private fun readJson(name: String) = JSONObject(File(bundle, name).readText())

    private fun ints(array: JSONArray) = List(array.length(), array::getInt)

    private fun floats(array: JSONArray) = List(array.length()) { array.getDouble(it).toFloat() }
}
