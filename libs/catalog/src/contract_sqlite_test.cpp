// The contract over SQLite.
#include <unistd.h>

#include <filesystem>

#include "contract.hpp"

namespace conclave::catalog::test {
namespace {

std::string fresh_file() {
  static int count = 0;
  const std::string path = testing::TempDir() + "catalog_contract." + std::to_string(::getpid()) +
                           "." + std::to_string(++count) + ".sqlite";
  for (const char* end : {"", "-wal", "-shm"}) std::filesystem::remove(path + end);
  return path;
}

// At the end of the program.
class Sweep final : public testing::Environment {
 public:
  void TearDown() override {
    const std::string mine = "catalog_contract." + std::to_string(::getpid()) + ".";
    std::error_code ignored;
    for (const auto& entry : std::filesystem::directory_iterator(testing::TempDir(), ignored)) {
      if (entry.path().filename().string().starts_with(mine)) {
        std::filesystem::remove(entry.path(), ignored);
      }
    }
  }
};

[[maybe_unused]] testing::Environment* const kSweep = testing::AddGlobalTestEnvironment(new Sweep);

}  // namespace

std::vector<StoreKind> stores() {
  return {{"SqliteMemory", [] { return std::string(":memory:"); }, false},
          {"SqliteFile", fresh_file, true}};
}

}  // namespace conclave::catalog::test
