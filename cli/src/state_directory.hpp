// Where `conclave up` keeps what outlives it (keys, the registry's database), and what tells other
// commands how to reach it.
#pragma once

#include <filesystem>
#include <string>
#include <utility>

#include "conclave/base/result.hpp"

namespace conclave::cli {

/// `chosen`, or else $XDG_STATE_HOME/conclave, or ~/.local/state/conclave, or ./.conclave where
/// there is no home.
std::filesystem::path state_directory(const std::string& chosen);

/// How to reach a running `conclave up`.
struct UpAddresses {
  std::string url;        // of the gateway
  std::string scheduler;  // tcp://..
  std::string keys;       // directory
};

/// Written whole or not at all. kUnavailable: the directory cannot be written.
base::Status write_addresses(const std::filesystem::path& state, const UpAddresses& addresses);
/// kNotFound: nothing was started with this directory.
base::Result<UpAddresses> read_addresses(const std::filesystem::path& state);

/// Held while `up` runs: two of them must not share a directory.
class StateLock {
 public:
  /// Makes the directory. kFailedPrecondition: another one holds it; kUnavailable: no right to it.
  static base::Result<StateLock> take(const std::filesystem::path& state);
  ~StateLock();
  StateLock(StateLock&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}
  StateLock& operator=(StateLock&& other) noexcept {
    std::swap(descriptor_, other.descriptor_);
    return *this;
  }

 private:
  explicit StateLock(int descriptor) : descriptor_(descriptor) {}
  int descriptor_ = -1;
};

}  // namespace conclave::cli
