#include "conclave/testkit/key_directory.hpp"

#include <cstdlib>
#include <string>
#include <system_error>

#include "conclave/base/check.hpp"

namespace conclave::testkit {

KeyDirectory::KeyDirectory() {
  std::string name = (std::filesystem::temp_directory_path() / "conclave-keys-XXXXXX").string();
  CONCLAVE_CHECK(::mkdtemp(name.data()) != nullptr);
  path_ = name;
  CONCLAVE_CHECK(fabric::write_keys(path_).has_value());
}

KeyDirectory::~KeyDirectory() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

fabric::KeyRing KeyDirectory::ring(wire::NodeRole role) const {
  return fabric::KeyRing::load(path_, role).value();
}

}  // namespace conclave::testkit
