#include "conclave/devices/memory_limit.hpp"

#include <charconv>
#include <fstream>
#include <optional>
#include <string>
#include <string_view>

namespace conclave::devices {
namespace {

namespace fs = std::filesystem;

// cgroup v1 writes "no limit" as the largest multiple of a page below 2^63.
constexpr std::uint64_t kNoLimitV1 = std::uint64_t{1} << 62;

std::optional<std::uint64_t> read_limit(const fs::path& path) {
  std::ifstream file(path);
  std::string word;
  if (!(file >> word)) return {};
  std::uint64_t bytes = 0;  // v2 writes "max" for none, which is no number
  const auto done = std::from_chars(word.data(), word.data() + word.size(), bytes);
  if (done.ec != std::errc() || done.ptr != word.data() + word.size()) return {};
  if (bytes >= kNoLimitV1) return {};
  return bytes;
}

void lower(std::optional<std::uint64_t>& least, std::optional<std::uint64_t> bytes) {
  if (bytes && (!least || *bytes < *least)) least = bytes;
}

// The group and its ancestors. In a container the path that /proc names may lie outside of what is
// mounted; then only the mount's own root exists, and it is the container's group.
void walk(std::optional<std::uint64_t>& least, const fs::path& mount, std::string_view group,
          const char* name) {
  lower(least, read_limit(mount / name));
  fs::path path = mount;
  for (const fs::path& part : fs::path(group).relative_path()) {
    if (part == "..") return;  // a group outside of our namespace
    path /= part;
    lower(least, read_limit(path / name));
  }
}

bool has_controller(std::string_view list, std::string_view controller) {
  while (true) {
    const std::size_t comma = list.find(',');
    if (list.substr(0, comma) == controller) return true;
    if (comma == std::string_view::npos) return false;
    list.remove_prefix(comma + 1);
  }
}

}  // namespace

std::optional<std::uint64_t> cgroup_memory_limit(const fs::path& root) {
  std::optional<std::uint64_t> least;
  std::ifstream file(root / "proc/self/cgroup");
  // Lines are `number:controllers:group`; v2 has the number 0 and no controllers.
  for (std::string line; std::getline(file, line);) {
    const std::size_t first = line.find(':');
    const std::size_t second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string_view controllers =
        std::string_view(line).substr(first + 1, second - first - 1);
    const std::string_view group = std::string_view(line).substr(second + 1);
    if (controllers.empty()) {
      walk(least, root / "sys/fs/cgroup", group, "memory.max");
    } else if (has_controller(controllers, "memory")) {
      walk(least, root / "sys/fs/cgroup/memory", group, "memory.limit_in_bytes");
    }
  }
  return least;
}

}  // namespace conclave::devices
