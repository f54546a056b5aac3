// A directory with the CURVE keys of all roles, for links that need them.
#pragma once

#include <filesystem>

#include "conclave/fabric/keys.hpp"

namespace conclave::testkit {

/// Gone with the object.
class KeyDirectory {
 public:
  KeyDirectory();
  ~KeyDirectory();
  KeyDirectory(const KeyDirectory&) = delete;
  KeyDirectory& operator=(const KeyDirectory&) = delete;

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  [[nodiscard]] fabric::KeyRing ring(wire::NodeRole role) const;

 private:
  std::filesystem::path path_;
};

}  // namespace conclave::testkit
