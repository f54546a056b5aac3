// Arbitrary text through two tiny vocabularies and every rule that cuts words. The first byte of
// the input chooses the rule, the second the options.
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "conclave/base/check.hpp"
#include "conclave/base/utf8.hpp"
#include "conclave/tokenizer/stream_decoder.hpp"
#include "conclave/tokenizer/tokenizer.hpp"
#include "pre_rules.hpp"
#include "testing_vocabulary.hpp"

namespace {

using namespace conclave;             // NOLINT: a program of its own
using namespace conclave::tokenizer;  // NOLINT

Tokenizer load(const gguf::Metadata& metadata) {
  auto tokenizer = Tokenizer::from_metadata(metadata);
  CONCLAVE_CHECK(tokenizer.has_value());
  return std::move(*tokenizer);
}

std::vector<Tokenizer> load_all() {
  std::vector<Tokenizer> all;
  for (const PreRule& rule : pre_rules()) {
    auto builder = testing_vocabulary::byte_bpe();
    builder.pre = rule.name;
    all.push_back(load(builder.metadata()));
  }
  all.push_back(load(testing_vocabulary::sentence_piece().metadata()));
  return all;
}

void check(const Tokenizer& tokenizer, std::string_view text, const EncodeOptions& options) {
  const auto ids = tokenizer.encode(text, options);
  CONCLAVE_CHECK(ids.has_value());
  const DecodeOptions all{.skip_special = false};
  const std::string decoded = tokenizer.decode(*ids, all);
  // Nothing is lost: not by byte-level BPE in valid text, and not by SentencePiece in a text that
  // has no marks of its own and no special token, after which it adds a space.
  const bool spm = tokenizer.adds_space_prefix();
  if (spm ? !options.parse_special && text.find("\xE2\x96\x81") == std::string_view::npos
          : base::utf8::valid(text)) {
    CONCLAVE_CHECK(decoded == text);
  }
  StreamDecoder stream(tokenizer, all);
  std::string streamed;
  for (const TokenId id : *ids) {
    CONCLAVE_CHECK(id >= 0 && static_cast<std::size_t>(id) < tokenizer.vocab_size());
    const std::string part = stream.push(id);
    CONCLAVE_CHECK(base::utf8::valid(part));
    streamed += part;
  }
  streamed += stream.flush();
  CONCLAVE_CHECK(streamed == base::utf8::sanitize(decoded));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const std::vector<Tokenizer> tokenizers = load_all();
  if (size < 2) return 0;
  const Tokenizer& tokenizer = tokenizers[data[0] % tokenizers.size()];
  const std::string_view text(reinterpret_cast<const char*>(data) + 2, size - 2);
  check(tokenizer, text, {.parse_special = (data[1] & 1) != 0, .add_special = false});
  return 0;
}
