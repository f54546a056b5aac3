// Who may talk to whom. Each role has a CURVE key pair; a directory holds them as files:
//   <role>.key          secret key of this role (only where a process of the role runs)
//   <role>.pub          its public key
//   <role>-<any>.pub    further keys of that role that are allowed (rotation, other sites)
// Keys are Z85 text, 40 characters. A server admits the keys of the roles that its arrows in
// ARCHITECTURE.md name; everybody else gets nothing and is counted.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "conclave/base/result.hpp"
#include "conclave/wire/common.hpp"

namespace conclave::fabric {

struct KeyPair {
  std::string public_key;
  std::string secret_key;
};

KeyPair generate_key_pair();

/// Writes a pair for every role, secret keys with mode 0600. Files that exist stay as they are, a
/// public key that is missing beside its secret key is computed, and a role of which only the
/// public key exists is left alone; returns the names of the files written. Several processes may
/// do this at once. kUnavailable: the directory cannot be made or written; kInvalidArgument: a
/// secret key that exists is no key.
base::Result<std::vector<std::string>> write_keys(const std::filesystem::path& directory);

/// Immutable; any thread.
class KeyRing {
 public:
  /// Reads the pair of `role` and all public keys. kNotFound: a file is missing; kInvalidArgument:
  /// a file is no key or names no role, two roles share a key, a pair does not match, or a secret
  /// key can be read by others or written by its group (its group may read it: Kubernetes mounts
  /// secrets so).
  static base::Result<KeyRing> load(const std::filesystem::path& directory, wire::NodeRole role);

  [[nodiscard]] wire::NodeRole role() const { return role_; }
  [[nodiscard]] const KeyPair& own() const { return own_; }
  /// The key that a server of `role` presents (`<role>.pub`); empty if there is no such file.
  [[nodiscard]] std::string_view server_key(wire::NodeRole role) const;
  /// Whose key this is.
  [[nodiscard]] std::optional<wire::NodeRole> role_of(std::string_view public_key) const;
  /// All keys, for links whose peers prove themselves otherwise.
  [[nodiscard]] const std::map<std::string, wire::NodeRole, std::less<>>& allowed() const {
    return allowed_;
  }

 private:
  wire::NodeRole role_ = wire::NodeRole::kOperator;
  KeyPair own_;
  std::map<wire::NodeRole, std::string> servers_;
  std::map<std::string, wire::NodeRole, std::less<>> allowed_;
};

/// The roles whose keys a server of `server` admits.
std::span<const wire::NodeRole> clients_of(wire::NodeRole server);

}  // namespace conclave::fabric
