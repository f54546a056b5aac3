// Where `conclave up` keeps what outlives it (keys, the registry's database), and what tells other
// commands how to reach it.
#pragma once

#include <filesystem>
#include <string>
#include <utility>

#include "conclave/base/result.hpp"
#include "descriptor.hpp"

namespace conclave::cli {

/// `chosen`, or else $XDG_STATE_HOME/conclave, or ~/.local/state/conclave, or ./.conclave where
/// there is no home.
std::filesystem::path state_directory(const std::string& chosen);

/// How to reach a running `conclave up`.
struct UpAddresses {
  std::string url;        // of the gateway
  std::string scheduler;  // tcp://.., several separated by commas
  std::string keys;       // directory

  friend bool operator==(const UpAddresses&, const UpAddresses&) = default;
};

/// Written whole or not at all. kUnavailable: the directory cannot be written.
base::Status write_addresses(const std::filesystem::path& state, const UpAddresses& addresses);
/// kNotFound: nothing runs with this directory; kCorruptData: the file is not of our making.
base::Result<UpAddresses> read_addresses(const std::filesystem::path& state);
/// Harmless where there are none.
void remove_addresses(const std::filesystem::path& state);

/// Held while `up` runs: two of them must not share a directory. The system ends it with the
/// process, however that ends.
class StateLock {
 public:
  /// Makes the directory, for this user alone. kFailedPrecondition: another one holds it;
  /// kUnavailable: no right to it, or its file system has no locks.
  static base::Result<StateLock> take(const std::filesystem::path& state);

 private:
  explicit StateLock(Descriptor file) : file_(std::move(file)) {}
  Descriptor file_;
};

}  // namespace conclave::cli
