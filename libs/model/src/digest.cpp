#include "conclave/model/digest.hpp"

#include <openssl/evp.h>

#include <algorithm>
#include <tuple>
#include <utility>

#include "conclave/base/check.hpp"

namespace conclave::model {

using base::ErrorCode;
using base::fail;
using base::Result;

std::string to_hex(const Sha256& sum) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  text.reserve(2 * sum.size());
  for (const std::uint8_t byte : sum) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

// OpenSSL's calls fail only without memory or without the algorithm; neither leaves anything to do.
struct Sha256Hasher::State {
  State() : context(EVP_MD_CTX_new()) { CONCLAVE_CHECK(context != nullptr); }
  ~State() { EVP_MD_CTX_free(context); }
  State(const State&) = delete;
  State& operator=(const State&) = delete;

  void restart() { CONCLAVE_CHECK(EVP_DigestInit_ex(context, EVP_sha256(), nullptr) == 1); }

  EVP_MD_CTX* context;
};

Sha256Hasher::Sha256Hasher() : state_(std::make_unique<State>()) { state_->restart(); }
Sha256Hasher::~Sha256Hasher() = default;
Sha256Hasher::Sha256Hasher(Sha256Hasher&&) noexcept = default;
Sha256Hasher& Sha256Hasher::operator=(Sha256Hasher&&) noexcept = default;

void Sha256Hasher::update(std::span<const std::byte> bytes) {
  CONCLAVE_CHECK(EVP_DigestUpdate(state_->context, bytes.data(), bytes.size()) == 1);
}

Sha256 Sha256Hasher::finish() {
  Sha256 sum{};
  unsigned size = 0;
  CONCLAVE_CHECK(EVP_DigestFinal_ex(state_->context, sum.data(), &size) == 1);
  CONCLAVE_CHECK(size == sum.size());
  state_->restart();
  return sum;
}

Result<Sha256> expert_digest(const gguf::File& file, const ModelConfig& config, ExpertId id) {
  CONCLAVE_TRY(const std::vector<gguf::ByteRange> ranges, expert_ranges(file, config, id));
  Sha256Hasher hasher;
  for (const gguf::ByteRange& range : ranges) hasher.update(file.bytes(range));
  return hasher.finish();
}

namespace {

auto place(const gguf::ByteRange& range) { return std::tuple(range.part, range.offset); }

// Where experts have bytes, by rising place. Experts share no byte.
Result<std::vector<gguf::ByteRange>> all_expert_ranges(const gguf::File& file,
                                                       const ModelConfig& config) {
  std::vector<gguf::ByteRange> all;
  for (std::uint32_t layer = config.dense_layers; layer < config.layers; ++layer) {
    for (std::uint32_t index = 0; index < config.gate.experts; ++index) {
      CONCLAVE_TRY(const auto ranges, expert_ranges(file, config, {layer, index}));
      all.insert(all.end(), ranges.begin(), ranges.end());
    }
  }
  std::sort(all.begin(), all.end(),
            [](const auto& a, const auto& b) { return place(a) < place(b); });
  return all;
}

}  // namespace

Result<std::vector<const gguf::TensorInfo*>> backbone_tensors(const gguf::File& file,
                                                              const ModelConfig& config) {
  CONCLAVE_TRY(const std::vector<gguf::ByteRange> ranges, all_expert_ranges(file, config));
  std::vector<const gguf::TensorInfo*> tensors;
  for (const gguf::TensorInfo& tensor : file.tensors()) tensors.push_back(&tensor);
  std::sort(tensors.begin(), tensors.end(),
            [](const auto* a, const auto* b) { return place(a->range) < place(b->range); });

  std::vector<const gguf::TensorInfo*> backbone;
  auto range = ranges.begin();
  for (const gguf::TensorInfo* tensor : tensors) {
    const std::uint64_t end = tensor->range.offset + tensor->range.size;
    std::uint64_t covered = 0;
    for (; range != ranges.end() && range->part == tensor->range.part && range->offset < end;
         ++range) {
      covered += range->size;
    }
    if (covered == 0) {
      backbone.push_back(tensor);
    } else if (covered != tensor->range.size) {
      return fail(ErrorCode::kCorruptData, "only " + std::to_string(covered) + " of the " +
                                               std::to_string(tensor->range.size) + " bytes of " +
                                               tensor->name + " belong to experts");
    }
  }
  return backbone;
}

Result<Sha256> backbone_digest(const gguf::File& file, const ModelConfig& config) {
  CONCLAVE_TRY(const auto tensors, backbone_tensors(file, config));
  Sha256Hasher hasher;
  for (const gguf::TensorInfo* tensor : tensors) hasher.update(file.bytes(tensor->range));
  return hasher.finish();
}

}  // namespace conclave::model
