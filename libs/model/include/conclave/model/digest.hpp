// SHA-256 of what a model is made of: what the registry records when a version is registered, and
// what a worker computes again over the bytes that it was given.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "conclave/base/result.hpp"
#include "conclave/gguf/file.hpp"
#include "conclave/model/config.hpp"
#include "conclave/model/experts.hpp"

namespace conclave::model {

using Sha256 = std::array<std::uint8_t, 32>;

/// 64 lower-case hex digits.
std::string to_hex(const Sha256& sum);

/// A sum in the making, in whatever pieces the bytes come. One thread at a time.
class Sha256Hasher {
 public:
  Sha256Hasher();
  ~Sha256Hasher();
  Sha256Hasher(Sha256Hasher&&) noexcept;
  Sha256Hasher& operator=(Sha256Hasher&&) noexcept;

  void update(std::span<const std::byte> bytes);
  /// The sum of all updates; the hasher starts anew.
  [[nodiscard]] Sha256 finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// The sum of an expert: its byte ranges (expert_ranges) one after the other, nothing in between.
/// It does not depend on where in the file they are. Reads those bytes only. Errors as
/// `expert_ranges`.
base::Result<Sha256> expert_digest(const gguf::File& file, const ModelConfig& config, ExpertId id);

/// The tensors of the backbone, by rising part and offset: all those in which no expert has bytes.
/// The sum of the backbone is that of their data one after the other, without the padding between
/// them, so it covers neither metadata nor tokenizer (the sum of the file does). kCorruptData: a
/// tensor that belongs to experts in part only.
base::Result<std::vector<const gguf::TensorInfo*>> backbone_tensors(const gguf::File& file,
                                                                    const ModelConfig& config);

/// That sum. Reads all of those bytes; errors as `backbone_tensors`.
base::Result<Sha256> backbone_digest(const gguf::File& file, const ModelConfig& config);

}  // namespace conclave::model
