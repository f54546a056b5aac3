#include "conclave/devices/memory_limit.hpp"

#include <algorithm>
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

// How a version of cgroups names things.
struct Names {
  const char* limit;
  const char* usage;
  const char* file_pages[2];  // keys of memory.stat, over all groups below
};
constexpr Names kV1{
    "memory.limit_in_bytes", "memory.usage_in_bytes", {"total_active_file", "total_inactive_file"}};
constexpr Names kV2{"memory.max", "memory.current", {"active_file", "inactive_file"}};

// A group's limit.
std::optional<std::uint64_t> limit_of(const fs::path& group, const Names& names) {
  return read_limit(group / names.limit);
}

// The value of a line "key value", as in memory.stat and (with a colon, in kB) meminfo.
std::optional<std::uint64_t> read_key(const fs::path& path, std::string_view key) {
  std::ifstream file(path);
  std::string word;
  for (std::uint64_t value = 0; file >> word >> value; file.ignore(256, '\n')) {
    if (word == key) return value;
  }
  return {};
}

// What a group's limit leaves.
std::optional<std::uint64_t> left_of(const fs::path& group, const Names& names) {
  const auto limit = limit_of(group, names);
  const auto usage = read_limit(group / names.usage);
  if (!limit || !usage) return limit;
  std::uint64_t droppable = 0;
  for (const char* key : names.file_pages) {
    droppable += read_key(group / "memory.stat", key).value_or(0);
  }
  const std::uint64_t taken = *usage - std::min(droppable, *usage);
  return *limit - std::min(taken, *limit);
}

using Read = std::optional<std::uint64_t> (*)(const fs::path& group, const Names& names);

// The group and its ancestors. In a container the path that /proc names may lie outside of what is
// mounted; then only the mount's own root exists, and it is the container's group.
void walk(std::optional<std::uint64_t>& least, const fs::path& mount, std::string_view group,
          const Names& names, Read read) {
  lower(least, read(mount, names));
  fs::path path = mount;
  for (const fs::path& part : fs::path(group).relative_path()) {
    if (part == "..") return;  // a group outside of our namespace
    path /= part;
    lower(least, read(path, names));
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

// The least that `read` says of the groups of this process.
std::optional<std::uint64_t> least_of_groups(const fs::path& root, Read read) {
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
      walk(least, root / "sys/fs/cgroup", group, kV2, read);
    } else if (has_controller(controllers, "memory")) {
      walk(least, root / "sys/fs/cgroup/memory", group, kV1, read);
    }
  }
  return least;
}

}  // namespace

std::optional<std::uint64_t> cgroup_memory_limit(const fs::path& root) {
  return least_of_groups(root, limit_of);
}

std::optional<std::uint64_t> available_memory(const fs::path& root) {
  std::optional<std::uint64_t> least = least_of_groups(root, left_of);
  const auto system = read_key(root / "proc/meminfo", "MemAvailable:");
  if (system) lower(least, *system * 1024);
  return least;
}

}  // namespace conclave::devices
