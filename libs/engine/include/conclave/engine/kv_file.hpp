// KV blocks that had to leave memory, in a file of bounded size: slower than memory, and still much
// faster than computing them again.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "conclave/base/result.hpp"
#include "conclave/engine/prefix_key.hpp"
#include "conclave/model/kv_pool.hpp"

namespace conclave::engine {

/// One thread; calls wait for the system, which mostly copies to and from its own memory. The file
/// has no name and only this process can open it: what prompts said goes with the process. What
/// cannot be written is not kept, and what comes back otherwise than it went (each block has a
/// checksum, in memory) was never there.
class KvFile {
 public:
  /// Blocks of `pool` in a file in `directory`, at most `bytes`. kInvalidArgument: not one block
  /// fits; kUnavailable: the system gives no such file.
  static base::Result<std::unique_ptr<KvFile>> create(const std::filesystem::path& directory,
                                                      std::uint64_t bytes,
                                                      const model::KvPool& pool);
  ~KvFile();
  KvFile(const KvFile&) = delete;
  KvFile& operator=(const KvFile&) = delete;

  /// Copies a block of the pool into the file, in the place of the one that came first if there is
  /// no other.
  void put(model::KvBlockId block, const PrefixKey& key, BlockTokens tokens);
  [[nodiscard]] bool has(const PrefixKey& key, BlockTokens tokens) const;
  /// Copies what put() got into a block of the pool; false if it is not there, and then the block
  /// may hold anything.
  [[nodiscard]] bool get(model::KvBlockId block, const PrefixKey& key, BlockTokens tokens);

  /// Blocks that it has.
  [[nodiscard]] std::size_t blocks() const { return places_.size(); }

 private:
  using Checksum = std::array<unsigned char, 16>;
  struct Slot {
    PrefixKey key;
    std::array<std::int32_t, model::kKvBlockTokens> tokens{};
    Checksum checksum{};
  };
  struct KeyHash {
    std::size_t operator()(const PrefixKey& key) const { return key.low; }
  };

  KvFile(int file, std::size_t slots, const model::KvPool& pool);
  [[nodiscard]] std::uint64_t offset(std::size_t slot) const;
  static Checksum checksum(const PrefixKey& key, std::span<const std::byte> bytes);

  int file_;
  const model::KvPool& pool_;
  std::vector<Slot> slots_;
  std::unordered_map<PrefixKey, std::size_t, KeyHash> places_;  // slots of what is there
  std::size_t next_ = 0;                                        // slot to be written next
};

}  // namespace conclave::engine
