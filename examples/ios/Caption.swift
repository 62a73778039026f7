// Caption a picture with a Core ML bundle on iOS 17 or macOS 14: one look at it, then a word at a time.
//
// NOT BUILT OR RUN HERE: there is no Swift where this was written. Its loop is that of
// ../node/caption.mjs, which is run and compared with Python token for token, over a decoder of fixed
// sizes: the prompt goes in token by token, and rows that greedy search does not use are fed along.
//
// Export with the defaults (--set ios=17 and image_input=false; `--preset iphone-ane` needs the latter
// said), add the bundle's folder to the app as a folder reference, and off the main thread:
//
//     let captioner = try await Captioner(bundle: url)
//     print(try captioner.caption(picture))
//
// Core Graphics resizes by its own filter, Python bicubically, so that a near tie may fall the other
// way; feed golden/*.npy to compare a device with Python exactly.

import CoreGraphics
import CoreML
import Foundation

struct Manifest: Decodable {
    struct Graph: Decodable { let file: String }
    struct Size: Decodable { let width: Int, height: Int }
    struct Preprocess: Decodable { let size: Size, image_mean: [Float], image_std: [Float] }
    struct Layer: Decodable { let self_heads: Int, head_dim: Int }
    struct Sizes: Decodable { let rows: Int, length: Int }
    struct Cache: Decodable { let layers: [Layer], `static`: Sizes }
    struct Decode: Decodable {
        let prompt_ids: [Int], eos_token_id: Int, min_length: Int, max_length: Int
        let repetition_penalty: Float
    }

    let graphs: [String: Graph], preprocess: Preprocess, cache: Cache, decode: Decode
}

struct Vocabulary: Decodable {
    struct Model: Decodable { let vocab: [String: Int] }
    struct Token: Decodable { let id: Int }

    let model: Model, added_tokens: [Token]
}

final class Captioner {
    private let manifest: Manifest
    private let vision: MLModel
    private let decoder: MLModel
    private let pieces: [Int: String]

    init(bundle: URL) async throws {
        func read<T: Decodable>(_ name: String, as type: T.Type) throws -> T {
            try JSONDecoder().decode(type, from: Data(contentsOf: bundle.appending(path: name)))
        }
        let manifest = try read("manifest.json", as: Manifest.self)
        func open(_ graph: String) async throws -> MLModel {
            let package = bundle.appending(path: manifest.graphs[graph]!.file)
            return try MLModel(contentsOf: try await MLModel.compileModel(at: package))
        }
        self.manifest = manifest
        vision = try await open("vision")
        decoder = try await open("decoder")
        let words = try read("tokenizer.json", as: Vocabulary.self)
        let special = Set(words.added_tokens.map(\.id))
        pieces = Dictionary(
            uniqueKeysWithValues: words.model.vocab.filter { !special.contains($0.value) }
                .map { ($0.value, $0.key) })
    }

    /// What the picture shows, by greedy search.
    func caption(_ picture: CGImage) throws -> String {
        let seen = try vision.prediction(from: features(["pixel_values": pixels(picture)]))
        return text(try search(seen).dropFirst(manifest.decode.prompt_ids.count))
    }

    /// The likeliest next token, again and again, until [SEP] or max_length.
    private func search(_ seen: MLFeatureProvider) throws -> [Int] {
        let decode = manifest.decode, sizes = manifest.cache.static
        var cross: [String: MLMultiArray] = [:]
        for name in seen.featureNames where name.hasPrefix("cross_") {
            cross[name] = seen.featureValue(for: name)!.multiArrayValue!
        }
        let own = try int32(Array(0..<sizes.rows), [sizes.rows])
        var past = try emptyCache(), ids = decode.prompt_ids, position = 0
        let longest = min(decode.max_length, sizes.length)
        while ids.count < longest {
            var scores: [Float] = []
            while position < ids.count {
                var feeds = cross.merging(past) { first, _ in first }
                let column = Array(repeating: ids[position], count: sizes.rows)
                feeds["input_ids"] = try int32(column, [sizes.rows, 1])
                feeds["position"] = try int32([position], [1])
                feeds["beam_idx"] = own
                let made = try decoder.prediction(from: features(feeds))
                for name in past.keys {
                    let present = name.replacingOccurrences(of: "past", with: "present")
                    past[name] = made.featureValue(for: present)!.multiArrayValue!
                }
                let logits = made.featureValue(for: "logits")!.multiArrayValue!
                let row = MLShapedArray<Float>(converting: logits)[0]
                scores = row.scalars
                position += 1
            }
            for id in Set(ids) {
                scores[id] *= scores[id] < 0 ? decode.repetition_penalty : 1 / decode.repetition_penalty
            }
            if ids.count < decode.min_length { scores[decode.eos_token_id] = -.infinity }
            ids.append(scores.indices.max { scores[$0] < scores[$1] }!)
            if ids.last == decode.eos_token_id { break }
        }
        return ids
    }

    /// past_key_i and past_value_i (R, H, C, K): pruned layers differ in their heads.
    private func emptyCache() throws -> [String: MLMultiArray] {
        let sizes = manifest.cache.static
        var past: [String: MLMultiArray] = [:]
        for (number, layer) in manifest.cache.layers.enumerated() {
            for kind in ["key", "value"] {
                let shape = [sizes.rows, layer.self_heads, sizes.length, layer.head_dim]
                past["past_\(kind)_\(number)"] = MLMultiArray(
                    MLShapedArray<Float>(repeating: 0, shape: shape))
            }
        }
        return past
    }

    /// (1, 3, S, S): squashed to S x S and normalised.
    private func pixels(_ picture: CGImage) -> MLMultiArray {
        let how = manifest.preprocess, width = how.size.width, height = how.size.height
        var bytes = [UInt8](repeating: 0, count: 4 * width * height)
        bytes.withUnsafeMutableBytes { memory in
            let context = CGContext(
                data: memory.baseAddress, width: width, height: height, bitsPerComponent: 8,
                bytesPerRow: 4 * width, space: CGColorSpace(name: CGColorSpace.sRGB)!,
                bitmapInfo: CGImageAlphaInfo.noneSkipLast.rawValue)!
            context.interpolationQuality = .high
            context.draw(picture, in: CGRect(x: 0, y: 0, width: width, height: height))
        }
        let values = (0..<3).flatMap { channel in
            (0..<width * height).map { at in
                (Float(bytes[4 * at + channel]) / 255 - how.image_mean[channel])
                    / how.image_std[channel]
            }
        }
        return MLMultiArray(MLShapedArray(scalars: values, shape: [1, 3, height, width]))
    }

    /// Word pieces joined, special tokens left out.
    private func text(_ ids: ArraySlice<Int>) -> String {
        ids.compactMap { pieces[$0] }
            .joined(separator: " ")
            .replacingOccurrences(of: " ##", with: "")
            .replacingOccurrences(of: " ([.?!,])", with: "$1", options: .regularExpression)
    }

    private func features(_ feeds: [String: MLMultiArray]) throws -> MLFeatureProvider {
        try MLDictionaryFeatureProvider(dictionary: feeds)
    }

    private func int32(_ values: [Int], _ shape: [Int]) throws -> MLMultiArray {
        MLMultiArray(MLShapedArray(scalars: values.map(Int32.init), shape: shape))
    }
}
